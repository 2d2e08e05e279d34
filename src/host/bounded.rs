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
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, fork};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::detach::detach_from_parent;
use super::left_behind::{LONGEST_END, PAUSE, has_ended, note_ending};
pub(crate) use super::left_behind::{LeftBehind, reap_all, wait_for_those_that_end};
use super::progress::Progress;
use super::wait;
use crate::logging;

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
    let mut child = Child::start(keep, |parent| parent.tell(&work()))?;
    let result = child.wait(limit);
    if result.is_err() {
        child.give_up();
    }
    result
}

/// A piece of work for a child that is there already.
pub(crate) trait Task {
    type Order: Serialize + DeserializeOwned;
    type Outcome: Serialize + DeserializeOwned;

    fn perform(order: Self::Order) -> Self::Outcome;
}

/// Where a child tells its parent something, and hears what to do.
pub(crate) struct Parent {
    pipe: File,
    orders: BufReader<File>,
}

impl Parent {
    /// One message. A parent that is gone hears nothing.
    pub(crate) fn tell(&mut self, message: &impl Serialize) {
        let _ = send(&mut self.pipe, b"", message);
    }

    /// What its parent [gives](Child::give) it to do; None where that needs it no more.
    pub(crate) fn order<T: DeserializeOwned>(&mut self) -> Option<T> {
        serde_json::from_slice(self.line()?.as_bytes()).ok()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.orders.read_line(&mut line).ok()?;
        (length > 0).then_some(line)
    }
}

/// A child that is at work, or waits for more of it. It ends when it is dropped, or with its
/// parent.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pipe: File,
    /// Closed when the child may end.
    orders: Option<File>,
    unread: Vec<u8>,
    has_closed: bool,
    is_reaped: bool,
}

impl Child {
    /// Starts a child that does `work` and then waits for orders. What it holds (a mount,
    /// say) stays for as long as the child does.
    ///
    /// # Errors
    ///
    /// That there can be no child.
    pub(crate) fn start(
        keep: &[BorrowedFd],
        work: impl FnOnce(&mut Parent),
    ) -> Result<Child, GaveUp> {
        let mut work = Some(work);
        let mut once = |parent: &mut Parent| {
            if let Some(work) = work.take() {
                work(parent);
            }
        };
        Child::fork(keep, &mut once).map_err(GaveUp::Broken)
    }

    fn fork(keep: &[BorrowedFd], work: &mut dyn FnMut(&mut Parent)) -> io::Result<Child> {
        reap_all();
        let (from_child, to_parent) = io::pipe()?;
        let (from_parent, to_child) = io::pipe()?;
        let from_child = OwnedFd::from(from_child);
        fcntl(&from_child, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // SAFETY: this program has no threads, so that no lock is held by another one, and
        // the child may allocate. It never returns to its caller's code: see `be_the_child`.
        match unsafe { fork() }? {
            ForkResult::Child => be_the_child(to_parent.into(), from_parent.into(), keep, work),
            ForkResult::Parent { child } => Ok(Child {
                pid: child,
                pipe: from_child.into(),
                orders: Some(OwnedFd::from(to_child).into()),
                unread: Vec::new(),
                has_closed: false,
                is_reaped: false,
            }),
        }
    }

    /// Has it do one more piece of work, and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// That the limit was over first, or that it ended without a result.
    pub(crate) fn ask<T: Task>(
        &mut self,
        order: &T::Order,
        limit: Limit,
    ) -> Result<T::Outcome, GaveUp> {
        let entry: Entry = perform::<T>;
        if let Some(orders) = &mut self.orders {
            let entry = format!("{} ", entry as usize);
            send(orders, entry.as_bytes(), order).map_err(GaveUp::Broken)?;
        }
        self.wait(limit)
    }

    /// Gives it what its work asks for with [`Parent::order`].
    ///
    /// # Errors
    ///
    /// That it has ended.
    pub(crate) fn give(&mut self, order: &impl Serialize) -> io::Result<()> {
        match &mut self.orders {
            Some(orders) => send(orders, b"", order),
            None => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits for its next message.
    ///
    /// # Errors
    ///
    /// That the limit was over first, or that it ended without one.
    pub(crate) fn wait<M: DeserializeOwned>(&mut self, limit: Limit) -> Result<M, GaveUp> {
        let mut message = None;
        let mut take = |line: &[u8]| {
            if message.is_none() {
                message = serde_json::from_slice(line).ok();
            }
            message.is_some()
        };
        self.wait_for_line(limit, &mut take)?;
        message.ok_or_else(|| GaveUp::Broken(ErrorKind::InvalidData.into()))
    }

    /// Waits until there is a line that is taken.
    fn wait_for_line(
        &mut self,
        mut limit: Limit,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), GaveUp> {
        loop {
            let lines = self.lines();
            if lines.split(|byte| *byte == b'\n').any(&mut *take) {
                return Ok(());
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
    pub(crate) fn messages<M: DeserializeOwned>(&mut self) -> Vec<M> {
        self.lines()
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    /// Likewise, the whole lines of it, but for those of its log.
    fn lines(&mut self) -> Vec<u8> {
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
        let whole = self.unread.drain(..end.map_or(0, |end| end + 1));
        logging::say_lines_of_child(whole.collect())
    }

    /// Nothing more will come from it.
    pub(crate) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Lets it end, and waits for that: what it held is free then.
    pub(crate) fn end(mut self) {
        self.orders = None;
        let ended = wait::until(LONGEST_END, PAUSE, || has_ended(self.pid).then_some(()));
        self.is_reaped = ended.is_some();
        if !self.is_reaped {
            self.give_up();
        }
    }

    /// Kills it. One that does not die of that is left behind.
    pub(crate) fn give_up(mut self) -> LeftBehind {
        if !self.is_reaped {
            self.is_reaped = true;
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        LeftBehind::of(self.pid)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// How a program that it has become ended; None while it runs.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        let status = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => return None,
            Ok(WaitStatus::Exited(_, code)) => code << 8,
            Ok(WaitStatus::Signaled(_, signal, _)) => signal as i32,
            _ => NO_STATUS,
        };
        self.is_reaped = true;
        Some(ExitStatus::from_raw(status))
    }

    fn how_it_ended(&mut self) -> io::Error {
        let status = wait::until(LONGEST_END, PAUSE, || {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => None,
                ended => Some(ended),
            }
        });
        self.is_reaped = status.is_some();
        io::Error::other(match status {
            Some(Ok(WaitStatus::Signaled(_, signal, _))) => {
                format!("the child process for it was ended by {signal}")
            }
            _ => "the child process for it ended without a result".to_string(),
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_reaped {
            note_ending(self.pid);
        }
    }
}

impl AsFd for Child {
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

/// As of a program that said 255.
const NO_STATUS: i32 = 255 << 8;

static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Whether this process is such a child, and given up where it hangs.
pub(crate) fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

/// How long it may take to find syslog.
const TO_SYSLOG: Duration = Duration::from_secs(1);

/// Has a child stand alone, which nobody gives up: its parent may end before it, or hang. It says
/// its lines itself, to this standard error, and to syslog where that answers.
pub(crate) fn stand_alone(stderr: BorrowedFd, syslog: Option<PathBuf>) {
    IS_CHILD.store(false, Ordering::Relaxed);
    let _ = dup2_stderr(stderr);
    let answers = |socket: &PathBuf| {
        let connect = || logging::connect(socket.clone());
        run(Limit::after(TO_SYSLOG), &[], connect).is_ok()
    };
    logging::speak_for_oneself(syslog.filter(answers));
}

fn be_the_child(
    to_parent: OwnedFd,
    from_parent: OwnedFd,
    keep: &[BorrowedFd],
    work: &mut dyn FnMut(&mut Parent),
) -> ! {
    let done = catch_unwind(AssertUnwindSafe(|| {
        let kept: Vec<RawFd> = keep
            .iter()
            .map(AsRawFd::as_raw_fd)
            .chain([to_parent.as_raw_fd(), from_parent.as_raw_fd()])
            .collect();
        IS_CHILD.store(true, Ordering::Relaxed);
        logging::let_go();
        detach_from_parent(&kept);
        let mut parent = Parent {
            pipe: to_parent.into(),
            orders: BufReader::new(from_parent.into()),
        };
        if let Ok(pipe) = parent.pipe.try_clone() {
            logging::leave_to(pipe);
        }
        work(&mut parent);
        follow_orders(&mut parent);
    }));
    // SAFETY: ends this process at once; what else it has of its parent's is not touched.
    unsafe { libc::_exit(i32::from(done.is_err())) }
}

/// What does a piece of work, given the text of its order.
type Entry = fn(&str, &mut Parent);

fn perform<T: Task>(order: &str, parent: &mut Parent) {
    // As everywhere: read as a text, each type would be there twice.
    if let Ok(order) = serde_json::from_slice(order.as_bytes()) {
        parent.tell(&T::perform(order));
    }
}

/// An order is a line: the address of its [`Entry`], and its text.
fn follow_orders(parent: &mut Parent) {
    while let Some(line) = parent.line() {
        let Some((entry, order)) = line.split_once(' ') else {
            return;
        };
        let Ok(entry) = entry.parse::<usize>() else {
            return;
        };
        // SAFETY: the parent wrote it, of which this process is a copy: the same function
        // is at the same address.
        let entry = unsafe { mem::transmute::<usize, Entry>(entry) };
        entry(order, parent);
    }
}

fn send(pipe: &mut File, begin: &[u8], message: &impl Serialize) -> io::Result<()> {
    let mut line = begin.to_vec();
    serde_json::to_writer(&mut line, message)?;
    line.push(b'\n');
    pipe.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::super::detach::open_descriptors;
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
        let mut child = Child::start(&[], |_| std::thread::sleep(30 * SECOND)).unwrap();
        let limit = Limit::after(Duration::from_millis(50));
        let error = child.wait::<()>(limit).unwrap_err();
        assert!(matches!(error, GaveUp::Late(_)), "{error}");
        let child = child.give_up();
        wait::until(SECOND, Duration::from_millis(1), || {
            (!child.is_there()).then_some(())
        })
        .expect("it can be killed");
        assert!(start.elapsed() < 5 * SECOND);
    }

    #[test]
    fn a_child_that_was_given_up_is_no_zombie_once_another_is_started() {
        let child = Child::start(&[], |_| std::thread::sleep(30 * SECOND)).unwrap();
        let pid = child.pid;
        child.give_up();
        let has_died = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        };
        wait::until(5 * SECOND, Duration::from_millis(1), has_died).expect("it can be killed");
        // Another test's child may be started at the same moment, and have it in hand.
        let is_gone = || {
            run(Limit::after(5 * SECOND), &[], || ()).unwrap();
            (kill(pid, None) == Err(Errno::ESRCH)).then_some(())
        };
        wait::until(5 * SECOND, Duration::from_millis(10), is_gone).expect("it is no zombie");
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

    struct Add;

    impl Task for Add {
        type Order = (u32, String);
        type Outcome = (u32, String);

        fn perform((number, text): Self::Order) -> Self::Outcome {
            thread_local!(static SUM: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
            SUM.set(SUM.get() + number);
            (SUM.get(), text + "\n")
        }
    }

    #[test]
    fn a_child_does_one_piece_of_work_after_another_and_keeps_what_it_has() {
        let mut child = Child::start(&[], |parent| parent.tell(&7)).unwrap();
        assert_eq!(child.wait::<u32>(Limit::after(SECOND)).unwrap(), 7);
        for (number, sum) in [(2, 2), (3, 5)] {
            let outcome = child.ask::<Add>(&(number, "a b\n".into()), Limit::after(SECOND));
            assert_eq!(outcome.unwrap(), (sum, "a b\n\n".into()));
        }
        let pid = child.pid;
        drop(child);
        wait_for_those_that_end();
        assert_eq!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
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
