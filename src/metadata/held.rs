//! Requests whose answers may take minutes: one that a service holds until something changes,
//! or the first one for Azure's scheduled events. A child asks, so that the caller goes on.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::{Answer, NoAnswer};
use crate::host::bounded::Child;
use crate::host::resolve;
use crate::http::Client;

/// A request that is being held. It ends when it is dropped.
#[derive(Debug)]
pub struct Held {
    child: Option<Child>,
    started: Instant,
    limit: Duration,
}

/// A child that has not even said that it failed is given up so long after its limit.
const LATE: Duration = Duration::from_secs(5);

impl Held {
    /// Starts a child that asks, for at most this time.
    ///
    /// # Errors
    ///
    /// That there is no child to be had.
    pub fn start(
        limit: Duration,
        ask: impl FnOnce(&Client, Instant) -> Result<Answer, NoAnswer>,
    ) -> Result<Held, NoAnswer> {
        let child = Child::start(&[], |parent| {
            let client = Client::new(limit, resolve::addresses);
            parent.tell(&ask(&client, Instant::now() + limit));
        });
        Ok(Held {
            child: Some(child.map_err(|e| NoAnswer::Local(e.to_string()))?),
            started: Instant::now(),
            limit,
        })
    }

    /// Can be read from as soon as there is an answer.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(AsFd::as_fd)
    }

    /// How long it has taken so far.
    pub fn lasted(&self) -> Duration {
        self.started.elapsed()
    }

    /// The outcome, once there is one. Does not wait.
    pub fn step(&mut self) -> Option<Result<Answer, NoAnswer>> {
        let child = self.child.as_mut()?;
        let outcome = child.messages().into_iter().next();
        let is_late = self.started.elapsed() > self.limit + LATE;
        let outcome = match outcome {
            Some(outcome) => outcome,
            None if child.has_closed() => Err(NoAnswer::Local(
                "the child process that asked ended without an answer".into(),
            )),
            None if is_late => Err(NoAnswer::Local(format!(
                "given up after {:.1?}",
                self.started.elapsed()
            ))),
            None => return None,
        };
        // It has said what it had to say, or never will.
        self.give_up();
        Some(outcome)
    }

    fn give_up(&mut self) {
        if let Some(child) = self.child.take() {
            child.give_up();
        }
    }
}

/// A child that waits for a service does not end by itself when its orders do.
impl Drop for Held {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::bounded::wait_for_any;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_is_taken_when_it_comes_and_is_not_waited_for() {
        let mut held = Held::start(30 * SECOND, |_, _| {
            std::thread::sleep(SECOND / 5);
            Ok(Answer {
                date: Some(7),
                ..Answer::default()
            })
        })
        .unwrap();
        assert_eq!(held.step(), None);
        wait_for_any(&[held.fd().unwrap()], 10 * SECOND);
        assert_eq!(held.step().unwrap().unwrap().date, Some(7));
        assert_eq!(held.step(), None);
        assert!(held.fd().is_none());
    }

    #[test]
    fn a_child_that_dies_or_says_nothing_is_a_failure_and_not_for_ever() {
        let dies = Held::start(30 * SECOND, |_, _| std::process::abort());
        let mut dies = dies.unwrap();
        wait_for_any(&[dies.fd().unwrap()], 10 * SECOND);
        assert!(matches!(dies.step(), Some(Err(NoAnswer::Local(_)))));

        let mut silent = Held::start(30 * SECOND, |_, _| {
            loop {
                std::thread::sleep(SECOND);
            }
        })
        .unwrap();
        assert_eq!(silent.step(), None);
        silent.started = Instant::now().checked_sub(40 * SECOND).unwrap();
        let Some(Err(NoAnswer::Local(why))) = silent.step() else {
            panic!("it is waited for for ever");
        };
        assert!(why.starts_with("given up after 40"), "{why}");
    }
}
