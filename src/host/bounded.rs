//! Work that may hang, in a child process with a time limit.
//!
//! A system call on a disk, a mount or a service that does not answer never returns, and a
//! process in it (state D) survives even SIGKILL. So whatever may hang runs in a child. Its
//! result comes through a pipe; where it does not come in time, the child is killed and, if
//! it does not die of that, left behind. There are no threads: on kernels before 2.6.25
//! std's waiting primitives spin.

#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, close, dup2_stderr, dup2_stdin, dup2_stdout, fork};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::progress::Progress;
use super::wait;

/// When a child is given up.
#[derive(Debug)]
pub(crate) struct Limit {
    start: Instant,
    most: Duration,
    progress: Option<Progress>,
}

/// How often it is seen whether a device has moved.
const LOOK: Duration = Duration::from_millis(100);

impl Limit {
    /// After this time, from now.
    pub(crate) fn after(most: Duration) -> Limit {
        Limit {
            start: Instant::now(),
            most,
            progress: None,
        }
    }

    /// When a device has not moved for as long as `progress` allows, or after `most` in all.
    pub(crate) fn without(progress: Progress, most: Duration) -> Limit {
        Limit {
            progress: Some(progress),
            ..Limit::after(most)
        }
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.start.elapsed() >= self.most || self.progress.as_mut().is_some_and(Progress::is_stuck)
    }

    /// How long to wait until it is worth to ask whether it is over.
    pub(crate) fn next_look(&self) -> Duration {
        let left = self.most.saturating_sub(self.start.elapsed());
        match self.progress {
            Some(_) => left.min(LOOK),
            None => left,
        }
    }
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum GaveUp {
    /// It was not done within this time.
    Late(Duration),
    /// The child ended without saying anything, or could not be started.
    Broken(io::Error),
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            GaveUp::Late(after) => write!(f, "given up after {after:.1?}"),
            GaveUp::Broken(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for GaveUp {}

/// Runs `work` in a child and takes its result. Of this process's descriptors the child has
/// those in `keep` and no others.
///
/// # Errors
///
/// That the limit was over first, or that the child ended without a result.
pub(crate) fn run<T: Serialize + DeserializeOwned>(
    limit: Limit,
    keep: &[BorrowedFd],
    work: impl FnOnce() -> T,
) -> Result<T, GaveUp> {
    let mut child: Child<T> = Child::start(keep, |parent| parent.tell(&work()))?;
    let result = child.wait(limit);
    match result {
        Ok(_) => child.let_go(),
        Err(_) => drop(child.give_up()),
    }
    result
}

/// Where a child tells its parent something.
pub(crate) struct Parent {
    pipe: File,
}

impl Parent {
    /// One message. A parent that is gone hears nothing.
    pub(crate) fn tell(&mut self, message: &impl Serialize) {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            let _ = self.pipe.write_all(&line);
        }
    }
}

/// A child that is at work. It ends when [`Child::end`] lets it, or with its parent.
#[derive(Debug)]
pub(crate) struct Child<M> {
    pid: Pid,
    pipe: File,
    /// Closed when the child may end.
    hold: Option<OwnedFd>,
    unread: Vec<u8>,
    has_closed: bool,
    messages: PhantomData<M>,
}

/// Children that were let go or given up, until they have ended. One in a system call that
/// does not end survives SIGKILL.
static LEFT_BEHIND: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

impl<M: DeserializeOwned> Child<M> {
    /// Starts a child that does `work` and then waits until it is let go, so that what it
    /// holds (a mount, say) stays for as long.
    pub(crate) fn start(
        keep: &[BorrowedFd],
        work: impl FnOnce(&mut Parent),
    ) -> Result<Child<M>, GaveUp> {
        reap_the_left_behind();
        let (from_child, to_parent) = io::pipe().map_err(GaveUp::Broken)?;
        let (until, hold) = io::pipe().map_err(GaveUp::Broken)?;
        let (from_child, to_parent) = (OwnedFd::from(from_child), OwnedFd::from(to_parent));
        let (until, hold) = (OwnedFd::from(until), OwnedFd::from(hold));
        fcntl(&from_child, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|e| GaveUp::Broken(e.into()))?;
        // SAFETY: this program has no threads, so that no lock is held by another one, and
        // the child may allocate. It never returns to its caller's code: see `be_the_child`.
        match unsafe { fork() }.map_err(|e| GaveUp::Broken(e.into()))? {
            ForkResult::Child => be_the_child(to_parent, until, keep, work),
            ForkResult::Parent { child } => Ok(Child {
                pid: child,
                pipe: from_child.into(),
                hold: Some(hold),
                unread: Vec::new(),
                has_closed: false,
                messages: PhantomData,
            }),
        }
    }

    /// Waits for its next message.
    ///
    /// # Errors
    ///
    /// That the limit was over first, or that it ended without one.
    pub(crate) fn wait(&mut self, mut limit: Limit) -> Result<M, GaveUp> {
        loop {
            if let Some(message) = self.messages().into_iter().next() {
                return Ok(message);
            }
            if self.has_closed {
                return Err(GaveUp::Broken(self.how_it_ended()));
            }
            if wait_for_any(&[self.as_fd()], limit.next_look()) == Waited::InVain && limit.is_over()
            {
                return Err(GaveUp::Late(limit.start.elapsed()));
            }
        }
    }

    /// What it has said since the last time. Does not wait.
    pub(crate) fn messages(&mut self) -> Vec<M> {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.has_closed = true;
                    break;
                }
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let end = self.unread.iter().rposition(|byte| *byte == b'\n');
        let lines: Vec<u8> = self.unread.drain(..end.map_or(0, |end| end + 1)).collect();
        lines
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    /// Nothing more will come from it.
    pub(crate) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Lets it end, and waits for nothing.
    pub(crate) fn let_go(self) {
        remember(self.pid);
    }

    /// Lets it end, and waits for that: what it held is free then.
    pub(crate) fn end(mut self) {
        self.hold = None;
        let ended = wait::until(Duration::from_secs(1), Duration::from_micros(50), || {
            has_ended(self.pid).then_some(())
        });
        if ended.is_none() {
            self.give_up();
        }
    }

    /// Kills it. One that does not die of that is left behind.
    pub(crate) fn give_up(self) -> LeftBehind {
        let _ = kill(self.pid, Signal::SIGKILL);
        remember(self.pid);
        LeftBehind(self.pid)
    }

    fn how_it_ended(&self) -> io::Error {
        let status = wait::until(
            Duration::from_secs(1),
            Duration::from_millis(1),
            || match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => None,
                ended => Some(ended),
            },
        );
        io::Error::other(match status {
            Some(Ok(WaitStatus::Signaled(_, signal, _))) => {
                format!("the child process for it was ended by {signal}")
            }
            _ => "the child process for it ended without a result".to_string(),
        })
    }
}

/// A child that was given up.
#[derive(Debug)]
pub(crate) struct LeftBehind(Pid);

impl LeftBehind {
    /// Whether it is still there, in a system call that does not end.
    pub(crate) fn is_there(&self) -> bool {
        reap_the_left_behind();
        LEFT_BEHIND.lock().is_ok_and(|left| left.contains(&self.0))
    }
}

impl<M> AsFd for Child<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// How a time of waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// One has something to say.
    Heard,
    InVain,
}

/// Waits until one of these has something to say, for at most this time.
pub(crate) fn wait_for_any(descriptors: &[BorrowedFd], most: Duration) -> Waited {
    let mut waiting: Vec<PollFd> = descriptors
        .iter()
        .map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN))
        .collect();
    // Rounded up: waiting for nothing would spin until the time is over.
    let most = u64::try_from(most.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    let most = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
    match poll(&mut waiting, most) {
        Ok(0) => Waited::InVain,
        // A signal ends it early, and whoever called asks again.
        _ => Waited::Heard,
    }
}

fn remember(pid: Pid) {
    if let Ok(mut left) = LEFT_BEHIND.lock() {
        left.push(pid);
    }
}

fn reap_the_left_behind() {
    if let Ok(mut left) = LEFT_BEHIND.lock() {
        left.retain(|pid| !has_ended(*pid));
    }
}

fn has_ended(pid: Pid) -> bool {
    !matches!(
        waitpid(pid, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)
    )
}

fn be_the_child(
    to_parent: OwnedFd,
    until: OwnedFd,
    keep: &[BorrowedFd],
    work: impl FnOnce(&mut Parent),
) -> ! {
    let done = catch_unwind(AssertUnwindSafe(|| {
        let kept: Vec<RawFd> = keep
            .iter()
            .map(AsRawFd::as_raw_fd)
            .chain([to_parent.as_raw_fd(), until.as_raw_fd()])
            .collect();
        detach_from_parent(&kept);
        let mut parent = Parent {
            pipe: to_parent.into(),
        };
        work(&mut parent);
        drop(parent);
        let _ = File::from(until).read(&mut [0]);
    }));
    // SAFETY: ends this process at once; what else it has of its parent's is not touched.
    unsafe { libc::_exit(i32::from(done.is_err())) }
}

/// A child that hangs must hold nothing of its parent's: no lock, no pipe that somebody reads
/// to its end, no working directory.
fn detach_from_parent(kept: &[RawFd]) {
    let _ = set_pdeathsig(Signal::SIGKILL);
    let _ = chdir(Path::new("/"));
    if let Ok(null) = open(Path::new("/dev/null"), OFlag::O_RDWR, Mode::empty()) {
        let _ = dup2_stdin(&null);
        let _ = dup2_stdout(&null);
        let _ = dup2_stderr(&null);
    }
    for descriptor in open_descriptors() {
        if descriptor > libc::STDERR_FILENO && !kept.contains(&descriptor) {
            let _ = close(descriptor);
        }
    }
}

fn open_descriptors() -> Vec<RawFd> {
    let listed = std::fs::read_dir("/proc/self/fd").map(|list| {
        list.flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    });
    listed.unwrap_or_else(|_| (0..1024).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_result_of_a_child_is_taken() {
        let found = run(Limit::after(SECOND), &[], || {
            vec!["a\n".to_string(); 30_000]
        })
        .unwrap();
        assert_eq!(found.len(), 30_000);
        assert!(found.iter().all(|text| text == "a\n"));
    }

    #[test]
    fn a_child_that_is_late_is_given_up_and_gone() {
        let start = Instant::now();
        let mut child: Child<()> = Child::start(&[], |_| std::thread::sleep(30 * SECOND)).unwrap();
        let limit = Limit::after(Duration::from_millis(50));
        let error = child.wait(limit).unwrap_err();
        assert!(matches!(error, GaveUp::Late(_)), "{error}");
        let child = child.give_up();
        wait::until(SECOND, Duration::from_millis(1), || {
            (!child.is_there()).then_some(())
        })
        .expect("it can be killed");
        assert!(start.elapsed() < 5 * SECOND);
    }

    #[test]
    fn a_child_that_dies_is_no_result() {
        let error = run(Limit::after(SECOND), &[], || {
            kill(Pid::this(), Signal::SIGKILL).unwrap();
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the child process for it was ended by SIGKILL"
        );
    }

    #[test]
    fn a_child_has_no_descriptor_but_those_that_it_is_given() {
        let (ours, _writer) = io::pipe().unwrap();
        let ours = OwnedFd::from(ours);
        let name = format!("/proc/self/fd/{}", ours.as_raw_fd());
        let is_there = |keep: &[BorrowedFd]| {
            run(Limit::after(SECOND), keep, || {
                std::fs::read_link(&name).is_ok()
            })
            .unwrap()
        };
        assert!(is_there(&[ours.as_fd()]));
        // The pipes of the child itself may have taken its number.
        let count = |keep: &[BorrowedFd]| {
            run(Limit::after(SECOND), keep, || open_descriptors().len()).unwrap()
        };
        assert_eq!(count(&[ours.as_fd()]), count(&[]) + 1);
    }
}
