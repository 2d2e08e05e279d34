//! Kills a program right before one of its system calls, as a power cut or an impatient
//! init may do at any moment.
//!
//! The program and all processes that it starts run under ptrace(2), and their system
//! calls are counted together.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a traced program ended.
#[derive(Debug)]
pub struct Traced {
    /// Of the program and all its children.
    pub system_calls: usize,
    /// The call before which all of them were killed; None where there were not that many.
    pub killed_before: Option<String>,
    /// The program's exit code; None where a signal ended it.
    pub code: Option<i32>,
}

/// Runs the program to its end.
pub fn count(command: Command) -> Traced {
    trace(command, None)
}

/// Kills the program and all its children right before their `nth` system call; the first
/// after the program's execve(2) is 1. That call is not carried out.
pub fn kill_before(nth: usize, command: Command) -> Traced {
    trace(command, Some(nth))
}

#[expect(clippy::zombie_processes, reason = "waitpid(2) below has it")]
fn trace(mut command: Command, kill_before: Option<usize>) -> Traced {
    // SAFETY: a system call only.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    // It stops itself when it has begun the program.
    let program = command.spawn().expect("start the program");
    let program = Pid::from_raw(program.id() as i32);
    let _watchdog = kill_after(PATIENCE, program);

    let mut traced = Traced {
        system_calls: 0,
        killed_before: None,
        code: None,
    };
    let mut processes = BTreeSet::new();
    // Those that this thread has started, and no others; until there are none.
    let wait = || match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
        Err(Errno::ECHILD) => None,
        status => Some(status.expect("waitpid")),
    };
    while let Some(status) = wait() {
        let process = status.pid().unwrap();
        let mut signal = None;
        match status {
            WaitStatus::Exited(_, code) => {
                processes.remove(&process);
                if process == program {
                    traced.code = Some(code);
                }
                continue;
            }
            WaitStatus::Signaled(..) => {
                processes.remove(&process);
                continue;
            }
            WaitStatus::Stopped(_, why) => match processes.insert(process) {
                true if process == program => ptrace::setoptions(program, follow()).unwrap(),
                // Each begins with a SIGSTOP.
                true => {}
                false => signal = Some(why),
            },
            WaitStatus::PtraceSyscall(_) if is_entry(process) => {
                traced.system_calls += 1;
                if kill_before == Some(traced.system_calls) {
                    traced.killed_before = Some(describe(process));
                }
            }
            _ => {}
        }
        if traced.killed_before.is_some() {
            // Also one that has only now begun. What is dead already is not there.
            for process in processes.iter().chain([&process]) {
                let _ = kill(*process, Signal::SIGKILL);
            }
        }
        let _ = ptrace::syscall(process, signal);
    }
    traced
}

fn follow() -> Options {
    Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_EXITKILL
}

/// Whether a process has stopped before a system call, and not after it.
fn is_entry(process: Pid) -> bool {
    ptrace::syscall_info(process).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
}

/// The call that a process is about to make, by number, and its first path.
fn describe(process: Pid) -> String {
    let Ok(info) = ptrace::syscall_info(process) else {
        return "?".into();
    };
    // SAFETY: it is one of an entry: see is_entry.
    let entry = unsafe { info.u.entry };
    let path = entry.args[..2].iter().find_map(|at| path_at(process, *at));
    format!("call {} {}", entry.nr, path.unwrap_or_default())
}

fn path_at(process: Pid, address: u64) -> Option<String> {
    let memory = File::open(format!("/proc/{process}/mem")).ok()?;
    let mut bytes = [0; 256];
    let length = memory.read_at(&mut bytes, address).ok()?;
    let path = bytes[..length].split(|byte| *byte == 0).next()?;
    let path = std::str::from_utf8(path).ok()?;
    path.starts_with('/').then(|| path.to_string())
}

/// Kills a process after this time, unless what is returned is dropped before.
fn kill_after(time: Duration, process: Pid) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        if receiver.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill(process, Signal::SIGKILL);
        }
    });
    sender
}
