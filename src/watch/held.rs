//! The requests that a cloud holds, and when there is another of each.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::metadata::{Answer, Held, NoAnswer, Wait};

/// The requests that are held, and when there is another of each.
#[derive(Default)]
pub(super) struct Waiting {
    held: Vec<(Wait, Held)>,
    /// The uptime before which none of this kind is started.
    paused: Vec<(Wait, Duration)>,
}

impl Waiting {
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.held.iter().filter_map(|(_, held)| held.fd()).collect()
    }

    /// The uptime at which there may be another request to start.
    pub(super) fn next(&self, wanted: &[Wait]) -> Option<Duration> {
        let is_wanted =
            |wait: &Wait| wanted.contains(wait) && self.held.iter().all(|(held, _)| held != wait);
        let paused = self.paused.iter().filter(|(wait, _)| is_wanted(wait));
        paused.map(|(_, until)| *until).min()
    }

    pub(super) fn may_start(&self, wait: Wait, uptime: Duration) -> bool {
        let is_held = self.held.iter().any(|(held, _)| *held == wait);
        let mut paused = self.paused.iter();
        let is_paused = paused.any(|(of, until)| *of == wait && uptime < *until);
        !is_held && !is_paused
    }

    /// Those that have ended, with how long they lasted.
    pub(super) fn ended(&mut self) -> Vec<(Wait, Duration, Result<Answer, NoAnswer>)> {
        let mut ended = Vec::new();
        self.held.retain_mut(|(wait, held)| match held.step() {
            Some(outcome) => {
                ended.push((*wait, held.lasted(), outcome));
                false
            }
            None => true,
        });
        ended
    }

    pub(super) fn hold(&mut self, wait: Wait, held: Held) {
        self.held.push((wait, held));
    }

    pub(super) fn pause(&mut self, wait: Wait, until: Duration) {
        self.paused.retain(|(of, _)| *of != wait);
        self.paused.push((wait, until));
    }
}
