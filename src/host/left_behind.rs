//! Children that may end, until they have, and those that were given up. One in a system call
//! that does not end survives SIGKILL.

use std::sync::Mutex;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::wait;

static ENDING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static LEFT_BEHIND: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// How long a child that may end takes for that at most, and how often it is asked.
pub(super) const LONGEST_END: Duration = Duration::from_secs(1);
pub(super) const PAUSE: Duration = Duration::from_micros(50);

/// A child that was given up.
#[derive(Debug)]
pub(crate) struct LeftBehind(Pid);

impl LeftBehind {
    /// Of one that was killed.
    pub(super) fn of(pid: Pid) -> LeftBehind {
        note(&LEFT_BEHIND, pid);
        LeftBehind(pid)
    }

    /// Whether it is still there, in a system call that does not end.
    pub(crate) fn is_there(&self) -> bool {
        reap(&LEFT_BEHIND);
        LEFT_BEHIND.lock().is_ok_and(|left| left.contains(&self.0))
    }

    /// Waits until it is gone, for at most this time.
    pub(crate) fn is_gone_within(&self, most: Duration) -> bool {
        wait::until(most, PAUSE, || (!self.is_there()).then_some(())).is_some()
    }
}

/// Takes note of one that may end, so that it is no zombie for as long as this process is there.
pub(super) fn note_ending(pid: Pid) {
    note(&ENDING, pid);
}

/// Lets go of all that have ended.
pub(crate) fn reap_all() {
    reap(&ENDING);
    reap(&LEFT_BEHIND);
}

/// Waits until all children that may end have: what they held, a descriptor on the scratch
/// disk or a mount of it, is free then.
pub(crate) fn wait_for_those_that_end() {
    wait::until(LONGEST_END, PAUSE, || {
        reap(&ENDING);
        ENDING
            .lock()
            .is_ok_and(|ending| ending.is_empty())
            .then_some(())
    });
}

pub(super) fn has_ended(pid: Pid) -> bool {
    !matches!(
        waitpid(pid, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)
    )
}

fn note(list: &Mutex<Vec<Pid>>, pid: Pid) {
    if let Ok(mut list) = list.lock() {
        list.push(pid);
    }
}

fn reap(list: &Mutex<Vec<Pid>>) {
    if let Ok(mut list) = list.lock() {
        list.retain(|pid| !has_ended(*pid));
    }
}
