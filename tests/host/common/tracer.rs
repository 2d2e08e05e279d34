//! Kills a program right before one of its system calls, as a power cut or an impatient
//! init may do at any moment.
//!
//! The program and all processes that it starts run under ptrace(2), and their system
//! calls are counted together; all of them, or those alone that change a file. Or one of them
//! fails, as on a disk that is full or broken.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, FileTypeExt};
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

use super::skip;

/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which system calls are counted.
#[derive(Clone, Copy)]
pub enum Calls {
    Every,
    /// Those that leave something else on a disk, or in what is mounted: between two of them it
    /// does not matter where the program is killed.
    Changes,
    /// Those that write to a file system that is mounted.
    Writes,
}

/// What becomes of the one call that is meant.
#[derive(Clone, Copy)]
enum Fate {
    Killed,
    Fails(Errno),
}

/// How a traced program ended.
#[derive(Debug)]
pub struct Traced {
    /// Of those that are counted, of the program and all its children.
    pub system_calls: usize,
    /// The call before which all of them were killed; None where there were not that many.
    pub killed_before: Option<String>,
    /// Likewise, the call that failed.
    pub failed: Option<String>,
    /// The program's exit code; None where a signal ended it.
    pub code: Option<i32>,
    /// The paths that the program opened itself, and those that its children did.
    pub opened: [BTreeSet<String>; 2],
}

/// Runs the program to its end.
pub fn count(calls: Calls, command: Command) -> Traced {
    trace(calls, command, None)
}

/// Kills the program and all its children right before their `nth` system call; the first
/// after the program's execve(2) is 1. That call is not carried out.
pub fn kill_before(nth: usize, calls: Calls, command: Command) -> Traced {
    trace(calls, command, Some((nth, Fate::Killed)))
}

/// Has the `nth` of their system calls fail with this error; it is not carried out.
pub fn fail(nth: usize, error: Errno, calls: Calls, command: Command) -> Traced {
    trace(calls, command, Some((nth, Fate::Fails(error))))
}

fn trace(calls: Calls, mut command: Command, meant: Option<(usize, Fate)>) -> Traced {
    // SAFETY: a system call only.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    // It stops itself when it has begun the program.
    let program = match command.spawn() {
        Ok(program) => Pid::from_raw(program.id() as i32),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => skip("no process may be traced here"),
        Err(e) => panic!("cannot start the program: {e}"),
    };
    let _watchdog = kill_after(PATIENCE, program);

    let mut traced = Traced {
        system_calls: 0,
        killed_before: None,
        failed: None,
        code: None,
        opened: Default::default(),
    };
    let mut processes = BTreeSet::new();
    let mut failing = None;
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
            WaitStatus::PtraceSyscall(_) if failing.is_some_and(|(one, _)| one == process) => {
                let (_, error) = failing.take().unwrap();
                let mut registers = ptrace::getregs(process).unwrap();
                registers.rax = -(error as i64) as u64;
                ptrace::setregs(process, registers).unwrap();
            }
            WaitStatus::PtraceSyscall(_) => {
                if let Some(call) = Call::entered_by(process) {
                    let by = usize::from(process != program);
                    traced.opened[by].extend(call.opens());
                    if call.is_counted(calls) {
                        traced.system_calls += 1;
                    }
                    if call.is_counted(calls)
                        && let Some((nth, fate)) = meant
                        && nth == traced.system_calls
                    {
                        match fate {
                            Fate::Killed => traced.killed_before = Some(call.describe()),
                            Fate::Fails(error) => {
                                traced.failed = Some(call.describe());
                                // There is no such call.
                                let mut registers = ptrace::getregs(process).unwrap();
                                registers.orig_rax = u64::MAX;
                                ptrace::setregs(process, registers).unwrap();
                                failing = Some((process, error));
                            }
                        }
                    }
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

/// A system call that a process is about to make.
struct Call {
    process: Pid,
    number: i64,
    arguments: [u64; 6],
}

impl Call {
    /// None where the process has stopped after one.
    fn entered_by(process: Pid) -> Option<Call> {
        let info = ptrace::syscall_info(process).ok()?;
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return None;
        }
        // SAFETY: it is one of an entry.
        let entry = unsafe { info.u.entry };
        Some(Call {
            process,
            number: entry.nr as i64,
            arguments: entry.args,
        })
    }

    fn is_counted(&self, calls: Calls) -> bool {
        match calls {
            Calls::Every => true,
            Calls::Changes => changes_a_file(self.process, self.number, &self.arguments),
            Calls::Writes => match self.number {
                libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_syncfs => true,
                libc::SYS_ioctl | libc::SYS_mount | libc::SYS_umount2 => false,
                number => changes_a_file(self.process, number, &self.arguments),
            },
        }
    }

    /// The path that it opens.
    fn opens(&self) -> Option<String> {
        match self.number {
            libc::SYS_open => path_at(self.process, self.arguments[0]),
            libc::SYS_openat => path_at(self.process, self.arguments[1]),
            _ => None,
        }
    }

    /// By number, and its first path.
    fn describe(&self) -> String {
        let mut places = self.arguments[..2].iter();
        let path = places.find_map(|at| path_at(self.process, *at));
        format!("call {} {}", self.number, path.unwrap_or_default())
    }
}

/// Whether a system call of x86-64 changes what is on a disk, if it succeeds.
fn changes_a_file(process: Pid, number: i64, arguments: &[u64; 6]) -> bool {
    let writes = |flags: u64| flags as i32 & (libc::O_CREAT | libc::O_TRUNC) != 0;
    let is_file = |file: u64| {
        let metadata = fs::metadata(format!("/proc/{process}/fd/{file}"));
        metadata.is_ok_and(|metadata| metadata.is_file() || metadata.file_type().is_block_device())
    };
    match number {
        libc::SYS_open => writes(arguments[1]),
        libc::SYS_openat => writes(arguments[2]),
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_pwritev => {
            is_file(arguments[0])
        }
        libc::SYS_sendfile => is_file(arguments[0]),
        libc::SYS_copy_file_range => is_file(arguments[2]),
        libc::SYS_creat
        | libc::SYS_truncate
        | libc::SYS_ftruncate
        | libc::SYS_fallocate
        | libc::SYS_rename
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_link
        | libc::SYS_linkat
        | libc::SYS_symlink
        | libc::SYS_symlinkat
        | libc::SYS_unlink
        | libc::SYS_unlinkat
        | libc::SYS_mkdir
        | libc::SYS_mkdirat
        | libc::SYS_rmdir
        | libc::SYS_mknod
        | libc::SYS_mknodat
        | libc::SYS_chmod
        | libc::SYS_fchmod
        | libc::SYS_fchmodat
        | libc::SYS_chown
        | libc::SYS_lchown
        | libc::SYS_fchown
        | libc::SYS_fchownat
        | libc::SYS_utimensat
        | libc::SYS_ioctl
        | libc::SYS_mount
        | libc::SYS_umount2
        | libc::SYS_setxattr
        | libc::SYS_lsetxattr
        | libc::SYS_fsetxattr
        | libc::SYS_removexattr
        | libc::SYS_lremovexattr
        | libc::SYS_fremovexattr => true,
        _ => false,
    }
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
