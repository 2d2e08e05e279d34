//! Who does what is due where `watch` itself hangs: the disk that does not answer may be the one
//! with its records, with what it tells others, or with init's own commands.
//!
//! A child that knows what `watch` knew when that was last at work, and touches no file until
//! something is due of which nothing is heard. Then it warns, drains and ends the machine, each at
//! its time. It asks nobody and publishes nothing.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use log::warn;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::drain::Drain;
use super::duties::Duties;
use super::poweroff;
use super::progress::Progress;
use super::schedule::DRAIN_TICK;
use crate::clock::Now;
use crate::deadline::decide::Deadline;
use crate::deadline::due::{Done, Step};
use crate::deadline::follower::Decision;
use crate::host::bounded::{self, Child, Limit, Waited, wait_for_any};
use crate::host::silent::{self, Expected};
use crate::logging::{self, Notices};

/// For so long `watch` may be silent when it should have done something: one round of it may
/// ask several services, and wait for each.
const SILENCE: Duration = Duration::from_secs(30);

/// For init's commands: each may take ten seconds to say that it cannot.
const ASKING: Duration = Duration::from_secs(40);

/// Times that are worked out anew in each round may differ by so many seconds.
const ROUNDING: u64 = 1;

/// What a child knows. Where that changes another one takes its place.
#[derive(PartialEq)]
struct Known {
    decision: Decision,
    done: Done,
    ordered_off: Option<Duration>,
}

/// By default nobody does what is due where `watch` hangs.
#[derive(Default)]
pub(crate) struct Guard {
    right: Option<RightToDrain>,
    standing: Option<Standing>,
}

struct Standing {
    known: Known,
    /// The uptime of the clocks' beginning, in seconds: of the time that counts, and of its trust.
    clocks: [u64; 2],
    words: PipeWriter,
    child: Child,
}

impl Guard {
    /// One that stands as soon as there is a deadline.
    pub(crate) fn ready() -> Guard {
        let right = RightToDrain::new().inspect_err(say_that_there_is_none);
        Guard {
            right: right.ok(),
            standing: None,
        }
    }

    /// Says that `watch` is at work, and what is to be done where it is not heard of any more.
    pub(crate) fn tell(&mut self, duties: Duties, now: Now) {
        let Some(right) = &mut self.right else {
            return;
        };
        let known = Known {
            decision: duties.decision.clone(),
            done: duties.done.clone(),
            ordered_off: duties.ordered_off,
        };
        let standing = self.standing.as_mut();
        let mut standing = standing.filter(|standing| standing.knows(&known, &duties, now));
        if !standing.as_mut().is_some_and(|standing| standing.hears()) {
            let new = duties.are_there_any(now).then(|| {
                let started = Standing::start(known, duties, right, now);
                started.inspect_err(say_that_there_is_none).ok()
            });
            // It must not act any more by what it knows.
            if let Some(old) = self.standing.take() {
                old.end();
            }
            self.standing = new.flatten();
        }
        right.renew();
    }

    /// Whether the child has run the drain command, of which `watch` does not know yet.
    pub(crate) fn has_drained(&mut self) -> bool {
        let Some(right) = &mut self.right else {
            return false;
        };
        let is_free = right.take_for_watch();
        if is_free {
            right.renew();
        }
        !is_free
    }

    /// Whether `watch` is to run the drain command: where the child has not run it. From now on
    /// the child does not.
    pub(crate) fn may_drain(&mut self) -> bool {
        let right = self.right.as_mut();
        right.is_none_or(RightToDrain::take_for_watch)
    }

    /// The configuration is another one from now on.
    pub(crate) fn stand_down(mut self) -> Guard {
        if let Some(standing) = self.standing.take() {
            standing.end();
        }
        self
    }
}

fn say_that_there_is_none(error: &anyhow::Error) {
    warn!("nobody does what is due where this hangs: {error:#}");
}

/// The right to run the drain command once: a byte in a pipe, that `watch` and its child both
/// can take, and one of them does.
struct RightToDrain {
    taken_from: PipeReader,
    put_into: PipeWriter,
    /// `watch` knows that there is none.
    is_known_as_taken: bool,
}

impl RightToDrain {
    fn new() -> Result<RightToDrain> {
        let (taken_from, put_into) = pipe()?;
        Ok(RightToDrain {
            taken_from,
            put_into,
            is_known_as_taken: true,
        })
    }

    /// Puts it back, unless the child has it and `watch` does not know of that.
    fn renew(&mut self) {
        if self.is_known_as_taken {
            self.is_known_as_taken = self.put_into.write_all(&[1]).is_err();
        }
    }

    /// False where the child has it. `watch` knows of that from now on.
    fn take_for_watch(&mut self) -> bool {
        let is_free = self.is_known_as_taken || self.take();
        self.is_known_as_taken = true;
        is_free
    }

    fn take(&self) -> bool {
        matches!((&self.taken_from).read(&mut [0]), Ok(1))
    }
}

/// One that nobody waits at.
fn pipe() -> Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    for end in [reader.as_fd(), writer.as_fd()] {
        let at_once = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
        fcntl(end, at_once).context("cannot set up a pipe")?;
    }
    Ok((reader, writer))
}

impl Standing {
    fn start(known: Known, duties: Duties, right: &RightToDrain, now: Now) -> Result<Standing> {
        let (hears, words) = pipe()?;
        let stderr = io::stderr().as_fd().try_clone_to_owned();
        let stderr = stderr.context("cannot copy standard error")?;
        let syslog = logging::socket();
        let keep = [hears.as_fd(), stderr.as_fd(), right.taken_from.as_fd()];
        let child = Child::start(&keep, |_| {
            bounded::stand_alone(stderr.as_fd(), syslog);
            silent::expect(duties.host, Expected::OnAnyDisk);
            let mut stand_in = StandIn {
                done: duties.done.clone(),
                ordered_off: duties.ordered_off,
                duties,
                drain: None,
                due_since: None,
                watch_hangs: false,
            };
            stand_in.stand(&hears, right);
        })?;
        Ok(Standing {
            known,
            clocks: clocks(&duties, now),
            words,
            child,
        })
    }

    fn knows(&self, known: &Known, duties: &Duties, now: Now) -> bool {
        let clocks = self.clocks.iter().zip(clocks(duties, now));
        let mut clocks = clocks.map(|(then, now)| then.abs_diff(now));
        self.known == *known && clocks.all(|moved| moved <= ROUNDING)
    }

    /// Not where it was killed.
    fn hears(&mut self) -> bool {
        self.words.write_all(&[1]).is_ok()
    }

    fn end(self) {
        drop(self.words);
        self.child.end();
    }
}

fn clocks(duties: &Duties, now: Now) -> [u64; 2] {
    let time = duties.follower.time(now);
    let uptime = now.uptime.as_secs();
    let trusted_since = now.uptime.saturating_sub(time.trusted_for);
    [time.unix.saturating_sub(uptime), trusted_since.as_secs()]
}

/// What the child does, and has done.
struct StandIn<'a> {
    duties: Duties<'a>,
    done: Done,
    ordered_off: Option<Duration>,
    drain: Option<Drain>,
    /// The uptime at which something was seen to be due, of which nothing was heard since.
    due_since: Option<Duration>,
    watch_hangs: bool,
}

impl StandIn<'_> {
    /// Ends with `watch`.
    fn stand(&mut self, mut words: &PipeReader, right: &RightToDrain) {
        loop {
            let patience = self.patience(self.duties.host.now());
            if wait_for_any(&[words.as_fd()], patience) == Waited::InVain {
                self.act(self.duties.host.now(), right);
                continue;
            }
            match words.read(&mut [0; 64]) {
                Ok(0) => return,
                Ok(_) => (self.watch_hangs, self.due_since) = (false, None),
                // A signal.
                Err(_) => {}
            }
        }
    }

    /// How long to wait for `watch`.
    fn patience(&mut self, now: Now) -> Duration {
        let mut done = self.done.clone();
        let due = self.duties.due(&mut done, now);
        let due = due.iter().map(|step| match (step, self.ordered_off) {
            (Step::PowerOff, Some(at)) => (at + poweroff::PATIENCE).saturating_sub(now.uptime),
            _ => Duration::ZERO,
        });
        let next = self.duties.next(&done, now);
        let drain = self.drain.as_ref().map(|_| DRAIN_TICK);
        let next = due.chain(next).chain(drain).min().unwrap_or(Duration::MAX);
        if !next.is_zero() {
            self.due_since = None;
        }
        if self.watch_hangs || !next.is_zero() {
            return next;
        }
        let since = *self.due_since.get_or_insert(now.uptime);
        (since + SILENCE).saturating_sub(now.uptime)
    }

    fn act(&mut self, now: Now, right: &RightToDrain) {
        if self.drain.as_mut().is_some_and(Drain::has_ended) {
            self.drain = None;
            self.done.drain_ended = true;
        }
        let is_silent = |since| now.uptime >= since + SILENCE;
        if !self.watch_hangs && !self.due_since.is_some_and(is_silent) {
            return;
        }
        let steps = self.duties.due(&mut self.done, now);
        if !steps.is_empty() && !self.watch_hangs {
            self.watch_hangs = true;
            warn!("vmstage watch hangs: its child does what is due");
        }
        let steps = steps.into_iter();
        let (drain, others): (Vec<Step>, Vec<Step>) = steps.partition(Step::is_drain);
        for step in drain.into_iter().chain(others) {
            match step {
                Step::Drain(deadline) if right.take() => self.start_drain(&deadline, now),
                // `watch` has run it, and came to say that no more.
                Step::Drain(_) => {}
                Step::Warn => self.duties.warn_users(&Notices::default(), now),
                Step::Report => warn!("the deadline is reached"),
                Step::PowerOff => self.power_off(now),
            }
        }
    }

    fn start_drain(&mut self, deadline: &Deadline, now: Now) {
        self.drain = self.duties.start_drain(deadline, now);
        // For another `watch`, where it can be written down.
        let host = self.duties.host;
        let keep = || Progress::read(host).keep(&Notices::default(), self.done.clone());
        let _ = bounded::run(Limit::after(silent::LIMIT), &[], keep);
    }

    fn power_off(&mut self, now: Now) {
        let asked_kernel = match self.ordered_off {
            None => {
                let ask_init = || poweroff::ask_init(self.duties.host);
                bounded::run(Limit::after(ASKING), &[], ask_init).is_err()
            }
            Some(at) => now.uptime >= at + poweroff::PATIENCE,
        };
        if asked_kernel {
            poweroff::ask_kernel();
        }
        if asked_kernel || self.ordered_off.is_none() {
            self.ordered_off = Some(now.uptime);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_two_drains_and_watch_finds_out_where_it_was_the_child() {
        let mut right = RightToDrain::new().unwrap();
        right.renew();
        assert!(right.take());
        assert!(!right.take());
        // `watch` may renew it as often as it likes.
        right.renew();
        assert!(!right.take());
        assert!(!right.take_for_watch());

        right.renew();
        assert!(right.take_for_watch());
        assert!(!right.take());
        // For a real deadline after a rehearsal, say.
        assert!(right.take_for_watch());
        right.renew();
        assert!(right.take());
    }
}
