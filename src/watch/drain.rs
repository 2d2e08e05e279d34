//! The drain command: run beside the loop, its output to the log, within a time limit.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use log::{info, warn};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A line without an end is cut here, so that no output fills the memory.
const LONGEST_LINE: usize = 4096;

/// How often its output is read at a time.
const READS: u32 = 16;

/// A drain command that is running.
pub struct Drain {
    child: Child,
    output: std::io::PipeReader,
    partial: Vec<u8>,
    started: Instant,
    limit: Duration,
    killed: bool,
}

impl Drain {
    /// Starts the command, as words, in a process group of its own. The environment
    /// says when the deadline is.
    pub fn start(words: &[String], limit: Duration, deadline: u64) -> Result<Drain> {
        let (program, arguments) = words.split_first().context("the command is empty")?;
        let (output, input) = std::io::pipe().context("cannot make a pipe")?;
        fcntl(output.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .context("cannot set up a pipe")?;
        let child = Command::new(program)
            .args(arguments)
            .env("VMSTAGE_DEADLINE", deadline.to_string())
            .stdin(Stdio::null())
            .stdout(input.try_clone().context("cannot copy a pipe")?)
            .stderr(input)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        info!("drain: {} has started", words.join(" "));
        Ok(Drain {
            child,
            output,
            partial: Vec::new(),
            started: Instant::now(),
            limit,
            killed: false,
        })
    }

    /// Logs what it wrote since last time. Says whether it has ended, by itself or
    /// because its time was over.
    pub fn has_ended(&mut self) -> bool {
        self.log_output();
        match self.child.try_wait() {
            Ok(Some(status)) => {
                self.log_output();
                self.log_partial_line();
                match status.success() {
                    true => info!("drain: done after {:.0?}", self.started.elapsed()),
                    false => warn!("drain: failed, {status}"),
                }
                true
            }
            Ok(None) if self.started.elapsed() >= self.limit => {
                self.kill();
                if !self.killed {
                    warn!("drain: killed, it was not done within {:?}", self.limit);
                    self.killed = true;
                }
                // It may be in a system call that does not end.
                matches!(self.child.try_wait(), Ok(Some(_)))
            }
            Ok(None) => false,
            Err(e) => {
                warn!("drain: cannot wait for it: {e}");
                true
            }
        }
    }

    fn kill(&mut self) {
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
    use std::thread::sleep;

    use super::*;

    fn run(script: &str, limit: Duration) -> Duration {
        let words = ["/bin/sh", "-c", script].map(String::from);
        let start = Instant::now();
        let mut drain = Drain::start(&words, limit, 1_800_000_000).unwrap();
        while !drain.has_ended() {
            sleep(Duration::from_millis(10));
        }
        start.elapsed()
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let marker = std::env::temp_dir().join(format!("vmstage-drain-{}", std::process::id()));
        let script = format!("(sleep 2; touch {}) & sleep 60", marker.display());
        let took = run(&script, Duration::from_millis(200));
        assert!(took < Duration::from_secs(2), "{took:?}");
        sleep(Duration::from_millis(2200));
        assert!(!marker.exists(), "its child lived on");
    }

    #[test]
    fn output_without_end_does_not_keep_it_from_being_killed() {
        let took = run("while :; do echo y; done", Duration::from_millis(300));
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn a_command_that_is_not_there_is_an_error_that_names_it() {
        let error = Drain::start(&["/no/such".into()], Duration::ZERO, 0)
            .err()
            .unwrap();
        assert!(error.to_string().contains("/no/such"), "{error:#}");
    }
}
