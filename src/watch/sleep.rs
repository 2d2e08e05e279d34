//! Sleeping until something is due, a signal comes, or the wall clock is set.
//!
//! poll(2), and none of std's timed waits: before Linux 2.6.25 those spin.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::host::bounded;

/// In the year 2200: later than any clock is set to, and a time that the kernel can count in
/// nanoseconds.
const NEVER: i64 = 7_258_118_400;

/// Where the kernel cannot say that the clock was set, it is looked at so often.
const SLICE: Duration = Duration::from_secs(1);

/// Nothing is due so soon again: what is due at a second may be due within it.
const SHORTEST: Duration = Duration::from_millis(200);

pub(crate) struct Sleeper {
    signals: UnixStream,
    /// None before Linux 3.0, and where the timer would run out.
    clock: Option<TimerFd>,
}

impl Sleeper {
    /// One that these signals wake, also where they came just before it slept.
    ///
    /// # Errors
    ///
    /// That signals cannot be caught.
    pub(crate) fn new(signals: &[i32]) -> Result<Sleeper> {
        let (reader, writer) = UnixStream::pair().context("cannot make a pair of sockets")?;
        reader
            .set_nonblocking(true)
            .context("cannot set up a socket")?;
        for signal in signals {
            let writer = writer.try_clone().context("cannot copy a socket")?;
            signal_hook::low_level::pipe::register(*signal, writer)
                .context("cannot catch signals")?;
        }
        Ok(Sleeper {
            signals: reader,
            clock: clock_watch(),
        })
    }

    /// Sleeps for so long, or less; until one of these can be read from.
    pub(crate) fn sleep(&mut self, wait: Duration, others: &[BorrowedFd]) {
        let wait = match &self.clock {
            Some(_) => wait,
            None => wait.min(SLICE),
        };
        let mut events = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let clock = self.clock.as_ref().map(AsFd::as_fd);
        let all = clock.into_iter().chain(others.iter().copied());
        events.extend(all.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN)));
        // What was just given to children has ended by then.
        if poll_for(&mut events, SHORTEST) == Ok(0) {
            bounded::reap_all();
            let _ = poll_for(&mut events, wait.saturating_sub(SHORTEST));
        }
        let event = events.get(1).filter(|_| self.clock.is_some());
        if event.is_some_and(|event| event.any() == Some(true)) {
            self.clock = self
                .clock
                .take()
                .filter(was_set)
                .and_then(|_| clock_watch());
        }
        let mut bytes = [0; 64];
        while matches!(self.signals.read(&mut bytes), Ok(1..)) {}
    }
}

/// A signal in between is a reason to wake, too.
fn poll_for(events: &mut [PollFd], wait: Duration) -> nix::Result<i32> {
    poll(
        events,
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX),
    )
}

/// A timer that never runs out, and can be read when the wall clock is set.
fn clock_watch() -> Option<TimerFd> {
    clock_watch_until(NEVER)
}

fn clock_watch_until(at: i64) -> Option<TimerFd> {
    let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags).ok()?;
    let never = Expiration::OneShot(TimeSpec::new(at, 0));
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(never, flags).ok()?;
    Some(timer)
}

/// Whether a timer that can be read can be for that the wall clock was set, and not because
/// it has run out.
fn was_set(timer: &TimerFd) -> bool {
    nix::unistd::read(timer, &mut [0; 8]) == Err(Errno::ECANCELED)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::sys::signal::{Signal, raise};

    use super::*;

    #[test]
    fn it_sleeps_for_as_long_as_it_is_told_and_a_signal_ends_it_at_once() {
        let mut sleeper = Sleeper::new(&[Signal::SIGUSR2 as i32]).unwrap();
        let start = Instant::now();
        sleeper.sleep(Duration::from_millis(300), &[]);
        assert!(start.elapsed() >= Duration::from_millis(290));
        // Also one that came before it slept.
        raise(Signal::SIGUSR2).unwrap();
        let start = Instant::now();
        sleeper.sleep(Duration::from_secs(60), &[]);
        assert!(start.elapsed() < Duration::from_secs(1));
        let start = Instant::now();
        sleeper.sleep(Duration::from_millis(300), &[]);
        assert!(start.elapsed() >= Duration::from_millis(290));
    }

    #[test]
    fn a_timer_that_runs_out_is_done_without() {
        let mut sleeper = Sleeper::new(&[Signal::SIGURG as i32]).unwrap();
        assert!(sleeper.clock.is_some());
        sleeper.clock = clock_watch_until(1);
        assert!(sleeper.clock.is_some());
        sleeper.sleep(Duration::from_secs(60), &[]);
        assert!(sleeper.clock.is_none());
        let start = Instant::now();
        sleeper.sleep(Duration::from_millis(300), &[]);
        assert!(start.elapsed() >= Duration::from_millis(290));
    }
}
