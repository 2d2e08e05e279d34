//! The guest's own programs, run with a time limit.

use std::env;
use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, setpgid};

use super::bounded::{Child, GaveUp, Limit, wait_for_any};
use super::{Host, silent};

/// What a program wrote is kept up to here.
const OUTPUT_LIMIT: usize = 64 * 1024;

/// Looks in `$PATH`, and where system programs are: `rc.local` may have a shorter one.
pub fn find(host: &Host, name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/sbin", "/usr/sbin", "/bin", "/usr/bin"].map(PathBuf::from))
        .map(|directory| host.path(directory.join(name)))
        .find(|program| {
            let directory = program.parent().unwrap_or(program);
            let is_program = |there: Metadata| there.is_file() && there.mode() & 0o111 != 0;
            let is_there = silent::guarded(directory, &mut || {
                let there = fs::symlink_metadata(program)?;
                Ok(there.is_symlink() || is_program(there))
            });
            // Where it is a link, another place has to answer.
            let leads_to_one = &mut || fs::metadata(program).map(is_program);
            is_there.unwrap_or(false) && silent::guarded(program, leads_to_one).unwrap_or(false)
        })
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end.
///
/// # Errors
///
/// That it cannot be run, or that it was not done within the limit. It is killed then, with what
/// it has started, and left behind where it does not die of that.
pub(crate) fn run(command: Command, limit: Limit) -> Result<Done> {
    run_after(&mut |_| Ok(()), command, limit)
}

/// That a program was not done within its limit.
#[derive(Debug)]
pub(crate) struct Late;

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("was not done in time and was killed")
    }
}

impl std::error::Error for Late {}

/// What is done in the process of a program before it is run.
type First<'a> = &'a mut dyn FnMut(&mut Command) -> io::Result<()>;

fn run_after(first: First, mut command: Command, mut limit: Limit) -> Result<Done> {
    let (stdout, for_stdout) = pipe()?;
    let (stderr, for_stderr) = pipe()?;
    let first = &mut |command: &mut Command| {
        // What it starts is killed with it: it may be what writes to a disk.
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        command.stdout(for_stdout.try_clone()?);
        command.stderr(for_stderr.try_clone()?);
        first(command)
    };
    let keep = [for_stdout.as_fd(), for_stderr.as_fd()];
    let mut child = start(first, &mut command, &keep)?;
    // It has the ends that are written to.
    drop((for_stdout, for_stderr));
    let mut outputs = [Output::of(stdout), Output::of(stderr)];
    loop {
        let ended = child.status();
        outputs.iter_mut().for_each(Output::take);
        if let Some(status) = ended {
            let [stdout, stderr] = outputs.map(Output::text);
            return Ok(Done {
                status,
                stdout,
                stderr,
            });
        }
        if let Some(error) = child.messages::<String>().pop() {
            bail!("cannot be run: {error}");
        }
        if limit.is_over() {
            let _ = killpg(child.pid(), Signal::SIGKILL);
            child.give_up();
            return Err(Late.into());
        }
        let open: Vec<_> = outputs.iter().filter(|output| output.is_open).collect();
        let mut open: Vec<_> = open.iter().map(|output| output.pipe.as_fd()).collect();
        // Its end shows by the end of its output. One that closed that earlier is asked, and one
        // whose output somebody else may have as well.
        let pause = match open.is_empty() {
            true => LOOK_FOR_END,
            false => LOOK_BESIDE,
        };
        if !child.has_closed() {
            open.push(child.as_fd());
        }
        wait_for_any(&open, limit.next_look().min(pause));
    }
}

/// Starts a program as a child, which says why where it cannot become one. A program that lies
/// on a disk that hangs holds up nobody else. It lives on where this process ends.
///
/// # Errors
///
/// That there can be no child.
pub(crate) fn start(
    first: First,
    command: &mut Command,
    keep: &[BorrowedFd],
) -> Result<Child, GaveUp> {
    Child::start(keep, |parent| {
        let _ = set_pdeathsig(None);
        let error = first(command).map_or_else(|e| e, |()| command.exec());
        parent.tell(&error.to_string());
    })
}

/// Likewise, of one that has nothing to say where it does what it is to do.
///
/// # Errors
///
/// As [`run`]; and that it failed, with what it wrote.
pub(crate) fn run_well(command: Command, limit: Limit) -> Result<()> {
    run_well_after(&mut |_| Ok(()), command, limit)
}

/// Likewise, after what is to be done in its process first.
///
/// # Errors
///
/// Likewise.
pub(crate) fn run_well_after(first: First, command: Command, limit: Limit) -> Result<()> {
    let done = run_after(first, command, limit)?;
    if done.status.success() {
        return Ok(());
    }
    match &*in_a_line(&done.stderr) {
        "" => bail!("failed ({})", done.status),
        said => bail!("failed ({}): {said}", done.status),
    }
}

/// How what a program wrote begins, and how it ends: it may be much.
fn in_a_line(output: &str) -> String {
    const MOST: usize = 300;
    let line = output.split_whitespace().collect::<Vec<_>>().join(" ");
    let count = line.chars().count();
    match count > 2 * MOST {
        true => {
            let begin: String = line.chars().take(MOST).collect();
            let end: String = line.chars().skip(count - MOST).collect();
            format!("{begin} … {end}")
        }
        false => line,
    }
}

/// How often a program is asked whether it has ended: without output, and with.
const LOOK_FOR_END: Duration = Duration::from_millis(2);
const LOOK_BESIDE: Duration = Duration::from_millis(100);

fn pipe() -> Result<(PipeReader, io::PipeWriter)> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    fcntl(reader.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("cannot set up a pipe")?;
    Ok((reader, writer))
}

struct Output {
    pipe: PipeReader,
    bytes: Vec<u8>,
    is_open: bool,
}

impl Output {
    fn of(pipe: PipeReader) -> Output {
        Output {
            pipe,
            bytes: Vec::new(),
            is_open: true,
        }
    }

    /// Takes what is there. One that writes without end must not keep the caller here.
    fn take(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.is_open = false;
                    return;
                }
                Ok(count) => {
                    let room = OUTPUT_LIMIT.saturating_sub(self.bytes.len());
                    self.bytes.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::host::tree::Tree;
    use crate::host::wait;

    fn sh(script: &str, limit: Duration) -> Result<Done> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, Limit::after(limit))
    }

    #[test]
    fn what_a_program_writes_is_kept_with_its_end() {
        let done = sh("echo out; echo err >&2; exit 3", Duration::from_secs(5)).unwrap();
        assert_eq!(
            (done.stdout.as_str(), done.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert_eq!(done.status.code(), Some(3));
    }

    #[test]
    fn a_program_that_closes_its_output_early_is_waited_for() {
        let done = sh("exec >&- 2>&-; sleep 0.1; exit 4", Duration::from_secs(5)).unwrap();
        assert_eq!(done.status.code(), Some(4));
    }

    #[test]
    fn a_program_that_is_not_done_in_time_is_killed() {
        let start = Instant::now();
        let error = sh("exec sleep 30", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "was not done in time and was killed");
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn what_a_program_has_started_is_killed_with_it() {
        let tree = Tree::new(&[]);
        let pid = tree.root().join("pid");
        let script = format!("sleep 100 & echo $! > {}; wait", pid.display());
        sh(&script, Duration::from_millis(500)).unwrap_err();
        let pid = fs::read_to_string(pid).unwrap();
        let status = || fs::read_to_string(format!("/proc/{}/status", pid.trim()));
        // Whoever adopted it need not have reaped it.
        let is_gone = || status().map_or(true, |text| text.contains("State:\tZ"));
        let gone = wait::until(Duration::from_secs(5), Duration::from_millis(1), || {
            is_gone().then_some(())
        });
        assert!(gone.is_some(), "{}", status().unwrap_or_default());
    }

    #[test]
    fn of_a_failure_is_told_how_it_begins_and_how_it_ends() {
        let limit = || Limit::after(Duration::from_secs(20));
        let failure = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run_well(command, limit()).unwrap_err().to_string()
        };
        assert_eq!(failure("exit 1"), "failed (exit status: 1)");
        let script = "echo first; yes garbage | head -n 5000; echo last";
        let said = failure(&format!("exec >&2; {script}; exit 1"));
        assert!(said.starts_with("failed (exit status: 1): first garbage"));
        assert!(said.ends_with("garbage last"), "{said}");
        assert!(said.chars().count() < 700, "{said}");
    }

    #[test]
    fn output_without_end_fills_no_memory() {
        let done = sh("head -c 10000000 /dev/zero", Duration::from_secs(20)).unwrap();
        assert_eq!(done.stdout.len(), OUTPUT_LIMIT);
    }
}
