//! The drain command, its output to the log, within a time limit.
//!
//! `watch` may be restarted or crash while it runs. So it has a process of its own to
//! look after it, this program again under another name, which outlives `watch`: the
//! output has a reader and the time limit holds, whatever becomes of `watch`.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use log::{info, warn};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::config::Config;
use crate::deadline::decide::Deadline;
use crate::deadline::limit::LimitKind;
use crate::host::{Host, locks, wait};
use crate::logging;
use crate::text;

/// The name under which this program looks after a drain command. Not a command of the
/// command line, as nobody is to type it.
pub const NAME: &str = "vmstage-drain";

/// A line without an end is cut here, so that no output fills the memory.
const LONGEST_LINE: usize = 4096;

/// How often its output is read at a time, and how often there is such a time.
const READS: u32 = 16;
const TICK: Duration = Duration::from_millis(100);

/// A drain command that is running, as `watch` knows it.
pub(crate) struct Drain(Child);

impl Drain {
    /// Starts the configured command and who looks after it. The environment says when
    /// the deadline is, how long that is from now, in Unix seconds, why, and whether it is a
    /// rehearsal.
    ///
    /// # Errors
    ///
    /// That it cannot be started.
    pub(crate) fn start(config: &Config, deadline: &Deadline, now: u64) -> Result<Drain> {
        let limit = config.deadline.drain_timeout.as_millis();
        let rehearsal = deadline.kind == LimitKind::Rehearsal;
        // Not by its name: the file may have been replaced since.
        let mut keeper = Command::new("/proc/self/exe");
        keeper
            .arg0(NAME)
            .args([limit.to_string(), config.report.syslog.to_string()])
            .args(&config.deadline.drain)
            .env("VMSTAGE_DEADLINE", deadline.at.to_string())
            .env(
                "VMSTAGE_SECONDS_LEFT",
                deadline.at.saturating_sub(now).to_string(),
            )
            // Whoever started this may have had one.
            .env_remove("VMSTAGE_REHEARSAL")
            .env("VMSTAGE_REASON", text::one_line(&deadline.origin.reason()))
            .envs(rehearsal.then_some(("VMSTAGE_REHEARSAL", "1")))
            .stdin(Stdio::null())
            .process_group(0);
        let keeper = keeper.spawn().context("cannot run this program again")?;
        Ok(Drain(keeper))
    }

    /// Whether there is nothing left to wait for. What became of the command it has
    /// said itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        match self.0.try_wait() {
            Ok(None) => false,
            Ok(Some(status)) => {
                if status.code().is_none() {
                    warn!("drain: who looked after it was killed, {status}");
                }
                true
            }
            Err(e) => {
                warn!("drain: cannot wait for it: {e}");
                true
            }
        }
    }
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

/// What this program does under that name: runs the command to its end. The arguments
/// are its time limit in milliseconds, whether there is to be a log in syslog, and the
/// command's words.
pub fn run(host: &Host, mut arguments: impl Iterator<Item = String>) -> u8 {
    let limit = arguments.next().and_then(|limit| limit.parse().ok());
    if arguments.next().as_deref() == Some("true") {
        logging::connect(host.path(logging::SOCKET));
    }
    let words: Vec<String> = arguments.collect();
    let lock = locks::lock_file(&lock(host)).ok();
    let _running = lock.filter(|lock| lock.try_lock().is_ok());
    let done = limit
        .context("there is no time limit")
        .and_then(|limit| Running::start(&words, Duration::from_millis(limit)))
        .and_then(Running::wait_for_its_end);
    match done {
        Ok(status) => u8::from(!status.success()),
        Err(e) => {
            warn!("drain: {e:#}");
            1
        }
    }
}

/// The command itself.
struct Running {
    child: Child,
    output: std::io::PipeReader,
    partial: Vec<u8>,
    started: Instant,
    limit: Duration,
}

impl Running {
    /// Starts the command, as words, in a process group of its own.
    fn start(words: &[String], limit: Duration) -> Result<Running> {
        let (program, arguments) = words.split_first().context("the command is empty")?;
        let (output, input) = std::io::pipe().context("cannot make a pipe")?;
        fcntl(output.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .context("cannot set up a pipe")?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(input.try_clone().context("cannot copy a pipe")?)
            .stderr(input)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        info!("drain: {} has started", words.join(" "));
        Ok(Running {
            child,
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
        self.log_output();
        self.child.try_wait().context("cannot wait for it")
    }

    fn kill(&self) {
        warn!("drain: killed, it was not done within {:?}", self.limit);
        let group = Pid::from_raw(self.child.id() as i32);
        // It may have ended just now.
        let _ = killpg(group, Signal::SIGKILL);
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

    fn run(script: &str, limit: Duration) -> Duration {
        let words = ["/bin/sh", "-c", script].map(String::from);
        let start = Instant::now();
        let running = Running::start(&words, limit).unwrap();
        running.wait_for_its_end().unwrap();
        start.elapsed()
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let words = ["/bin/sh", "-c", "sleep 60 & sleep 60"].map(String::from);
        let start = Instant::now();
        let running = Running::start(&words, Duration::from_millis(200)).unwrap();
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
        let error = Running::start(&["/no/such".into()], Duration::ZERO)
            .err()
            .unwrap();
        assert!(error.to_string().contains("/no/such"), "{error:#}");
    }
}
