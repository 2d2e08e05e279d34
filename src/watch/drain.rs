//! The drain command, its output to the log, within a time limit.
//!
//! `watch` may be restarted, crash or hang while it runs. So it has a process of its own to
//! look after it, a child that outlives `watch`: the output has a reader and the time limit
//! holds, whatever becomes of `watch`. The child needs no file to begin: the disk that this
//! program lies on may hang by then.

use std::io::{self, ErrorKind, Read};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use log::{info, warn};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, setpgid};

use crate::config::Config;
use crate::deadline::decide::Deadline;
use crate::deadline::limit::LimitKind;
use crate::host::bounded::{self, Child, GaveUp, Limit};
use crate::host::{Host, kernel_calls, locks, program, wait};
use crate::logging;
use crate::text;

/// A line without an end is cut here, so that no output fills the memory.
const LONGEST_LINE: usize = 4096;

/// How often its output is read at a time, and how often there is such a time.
const READS: u32 = 16;
const TICK: Duration = Duration::from_millis(100);

/// Where its lock is not had by then, it begins without.
const TO_LOCK: Duration = Duration::from_secs(2);

/// A drain command that is running, as `watch` knows it: who looks after it.
pub(crate) struct Drain(Child);

impl Drain {
    /// Starts the configured command and who looks after it. The environment says when
    /// the deadline is, how long that is from now, in Unix seconds, why, and whether it is a
    /// rehearsal.
    ///
    /// # Errors
    ///
    /// That there can be no child.
    pub(crate) fn start(
        host: &Host,
        config: &Config,
        deadline: &Deadline,
        now: u64,
    ) -> Result<Drain> {
        let stderr = io::stderr().as_fd().try_clone_to_owned();
        let stderr = stderr.context("cannot copy standard error")?;
        let keeper = Child::start(&[stderr.as_fd()], |parent| {
            live_on();
            let syslog = config.report.syslog.then(|| host.path(logging::SOCKET));
            bounded::stand_alone(stderr.as_fd(), syslog);
            run(host, config, deadline, now);
            parent.tell(&());
        })?;
        Ok(Drain(keeper))
    }

    /// Whether there is nothing left to wait for. What became of the command it has
    /// said itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        match self.0.wait(Limit::after(Duration::ZERO)) {
            Err(GaveUp::Late(_)) => false,
            Ok(()) => true,
            Err(GaveUp::Broken(e)) => {
                warn!("drain: nobody looks after it any more: {e}");
                true
            }
        }
    }
}

/// Makes a child one that the end of its parent, and a signal to that, does not end.
fn live_on() {
    let _ = set_pdeathsig(None);
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    // What `ps` shows.
    let _ = set_name(c"vmstage-drain");
    kernel_calls::take_signals_of_watch_as_usual();
}

/// Held by who looks after a drain command, until that has ended.
fn lock(host: &Host) -> PathBuf {
    host.runtime_directory().join("drain.lock")
}

/// Whether a drain that another process has started is known to have ended, however.
pub(crate) fn has_ended(host: &Host) -> bool {
    locks::existing(&lock(host)).is_ok_and(|lock| lock.try_lock().is_ok())
}

/// Whether one runs.
pub(crate) fn is_running(host: &Host) -> bool {
    locks::existing(&lock(host)).is_ok_and(|lock| lock.try_lock().is_err())
}

/// Has a child hold the lock: its place may hang, and nobody is to wait for that for long.
fn hold_lock(host: &Host) -> Result<Child, GaveUp> {
    let path = lock(host);
    let mut child = Child::start(&[], |parent| {
        let lock = locks::lock_file(&path).ok();
        mem::forget(lock.filter(|lock| lock.try_lock().is_ok()));
        parent.tell(&());
    })?;
    // Another `watch` must not find it free while the command begins.
    let _: Result<(), GaveUp> = child.wait(Limit::after(TO_LOCK));
    Ok(child)
}

/// Runs the configured command to its end.
fn run(host: &Host, config: &Config, deadline: &Deadline, now: u64) {
    let lock = hold_lock(host);
    let done = command(config, deadline, now)
        .and_then(|command| Running::start(command, config.deadline.drain_timeout))
        .and_then(Running::wait_for_its_end);
    if let Err(e) = done {
        warn!("drain: {e:#}");
    }
    if let Ok(lock) = lock {
        lock.end();
    }
}

fn command(config: &Config, deadline: &Deadline, now: u64) -> Result<Command> {
    let words = config.deadline.drain.split_first();
    let (program, arguments) = words.context("the command is empty")?;
    let left = deadline.at.saturating_sub(now);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("VMSTAGE_DEADLINE", deadline.at.to_string())
        .env("VMSTAGE_SECONDS_LEFT", left.to_string())
        .env("VMSTAGE_REASON", text::one_line(&deadline.origin.reason()));
    match deadline.kind {
        LimitKind::Rehearsal => command.env("VMSTAGE_REHEARSAL", "1"),
        // Whoever started this may have had one.
        _ => command.env_remove("VMSTAGE_REHEARSAL"),
    };
    Ok(command)
}

/// The command itself.
struct Running {
    command: Command,
    child: Child,
    has_started: bool,
    output: io::PipeReader,
    partial: Vec<u8>,
    started: Instant,
    limit: Duration,
}

impl Running {
    /// Starts the command, in a process group of its own.
    fn start(mut command: Command, limit: Duration) -> Result<Running> {
        let (output, input) = io::pipe().context("cannot make a pipe")?;
        fcntl(output.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .context("cannot set up a pipe")?;
        command.process_group(0);
        let first = &mut |command: &mut Command| {
            command
                .stdout(input.try_clone()?)
                .stderr(input.try_clone()?);
            Ok(())
        };
        let child = program::start(first, &mut command, &[input.as_fd()])?;
        Ok(Running {
            command,
            child,
            has_started: false,
            output,
            partial: Vec::new(),
            started: Instant::now(),
            limit,
        })
    }

    /// Logs what it writes until it ends, by itself or because its time is over.
    fn wait_for_its_end(mut self) -> Result<ExitStatus> {
        let ended = wait::until(self.limit, TICK, || self.has_ended().transpose());
        let ended = ended.or_else(|| {
            self.kill();
            // One in a system call that does not end outlives that.
            wait::until(Duration::MAX, TICK, || self.has_ended().transpose())
        });
        let status = ended.context("it does not end")??;
        self.log_output();
        self.log_partial_line();
        match status.success() {
            true => info!("drain: done after {:.0?}", self.started.elapsed()),
            false => warn!("drain: failed, {status}"),
        }
        Ok(status)
    }

    fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        let program = self.command.get_program().to_string_lossy();
        if let Some(error) = self.child.messages::<String>().pop() {
            bail!("cannot run {program}: {error}");
        }
        // A child that has become the command has nothing more to say.
        if self.child.has_closed() && !self.has_started {
            self.has_started = true;
            let arguments = self.command.get_args().map(|word| word.to_string_lossy());
            let words: Vec<_> = [program].into_iter().chain(arguments).collect();
            info!("drain: {} has started", words.join(" "));
        }
        self.log_output();
        Ok(self.child.status())
    }

    fn kill(&self) {
        warn!("drain: killed, it was not done within {:?}", self.limit);
        // It may have ended just now.
        let _ = killpg(self.child.pid(), Signal::SIGKILL);
    }

    fn log_output(&mut self) {
        let mut buffer = [0; 4096];
        // A command that writes faster than the log takes it waits for the next time.
        for _ in 0..READS {
            match self.output.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.log_lines(&buffer[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Nothing more for now.
                Err(_) => return,
            }
        }
    }

    fn log_lines(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' || self.partial.len() >= LONGEST_LINE {
                self.log_partial_line();
            }
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
        }
    }

    fn log_partial_line(&mut self) {
        if !self.partial.is_empty() {
            info!("drain: {}", String::from_utf8_lossy(&self.partial));
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn run(script: &str, limit: Duration) -> Duration {
        let start = Instant::now();
        let running = Running::start(sh(script), limit).unwrap();
        running.wait_for_its_end().unwrap();
        start.elapsed()
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let start = Instant::now();
        let command = sh("sleep 60 & sleep 60");
        let running = Running::start(command, Duration::from_millis(200)).unwrap();
        let mut output = running.output.try_clone().unwrap();
        running.wait_for_its_end().unwrap();
        // Each of them holds the output open.
        let are_gone = || matches!(output.read(&mut [0; 64]), Ok(0)).then_some(());
        let gone = wait::until(Duration::from_secs(5), TICK, are_gone);
        assert!(gone.is_some(), "its child lives on");
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn output_without_end_does_not_keep_it_from_being_killed() {
        let took = run("while :; do echo y; done", Duration::from_millis(300));
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn a_command_that_is_not_there_is_an_error_that_names_it() {
        let running = Running::start(Command::new("/no/such"), Duration::from_secs(10));
        let error = running.and_then(Running::wait_for_its_end).unwrap_err();
        assert!(error.to_string().contains("/no/such"), "{error:#}");
    }
}
