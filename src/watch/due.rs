//! What is to be done now about the deadline. Pure: clocks and history are handed in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::config;

/// What has been done already.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The warning times, in seconds before the deadline, that have passed and were
    /// warned of.
    pub(crate) warned: Vec<u64>,
    pub(crate) drained: bool,
    /// The deadline of which it was said that it is reached.
    pub(crate) reported: Option<u64>,
    pub(crate) called_back: bool,
    /// The uptime, in seconds, at which the clock was last seen to be set.
    #[serde(default)]
    pub(crate) clock_set_at: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Warn logged-in users.
    Warn,
    Drain,
    /// Say that the deadline is reached.
    Report,
    PowerOff,
}

/// The steps that are due for a deadline at the Unix second `at`, with this grace.
/// Records them in `done`.
///
/// Nothing that cannot be undone happens before the clock is `trusted_for` the
/// configured `min_uptime`: it may have been years off, and may be yet.
pub(crate) fn due(
    at: u64,
    grace: Duration,
    config: &config::Deadline,
    done: &mut Done,
    now: Now,
    trusted_for: Duration,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let left = Duration::from_secs(at.saturating_sub(now.wall));

    // One warning, however many times for one have passed while nobody was looking.
    let passed: Vec<u64> = config
        .warn
        .iter()
        .filter(|time| left <= **time)
        .map(Duration::as_secs)
        .collect();
    if !left.is_zero() && passed.iter().any(|time| !done.warned.contains(time)) {
        steps.push(Step::Warn);
    }
    // A deadline that moved away is warned of again when it comes close again.
    done.warned = passed;

    let trusted = trusted_for >= config.min_uptime;
    if trusted && left <= grace && !config.drain.is_empty() && !done.drained {
        done.drained = true;
        steps.push(Step::Drain);
    }
    if left.is_zero() {
        if done.reported != Some(at) {
            done.reported = Some(at);
            steps.push(Step::Report);
        }
        if trusted && config.action == config::Action::Poweroff {
            steps.push(Step::PowerOff);
        }
    }
    steps
}

/// Follows the two clocks to notice that the wall clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trust {
    last: Now,
    /// The uptime at which the wall clock was last seen to be set, or, where it was not,
    /// at which it began to be followed.
    since: Duration,
}

/// Clocks drift, and slewing moves them by at most 500 ppm; this is no such thing.
const STEP: Duration = Duration::from_secs(30);

/// How often the clocks are written down for a `watch` after this one.
const NOTE_PERIOD: Duration = Duration::from_secs(60);

impl Trust {
    /// Where nobody followed the clocks before in this boot: what happened to them until
    /// now nobody knows.
    pub(crate) fn new(now: Now) -> Trust {
        Trust {
            last: now,
            since: now.uptime,
        }
    }

    /// Takes note of the time. Says whether the wall clock was set since last time, and
    /// if so, by how many seconds.
    pub(crate) fn notice(&mut self, now: Now) -> Option<i64> {
        let ran = now.uptime.saturating_sub(self.last.uptime).as_secs();
        let step = now.wall as i64 - self.last.wall as i64 - ran as i64;
        self.last = now;
        let stepped = step.unsigned_abs() > STEP.as_secs();
        if stepped {
            self.since = now.uptime;
        }
        stepped.then_some(step)
    }

    /// For how long the wall clock is known not to have been set.
    pub(crate) fn lasted(&self) -> Duration {
        self.last.uptime.saturating_sub(self.since)
    }

    /// Whether this, written down, still says enough of what is known `later`.
    pub(crate) fn stands_for(&self, later: &Trust) -> bool {
        let age = later.last.uptime.saturating_sub(self.last.uptime);
        self.since == later.since && age < NOTE_PERIOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 1_800_000_000;
    const GRACE: Duration = Duration::from_secs(600);
    const HOUR: Duration = Duration::from_secs(3600);

    fn poweroff() -> config::Deadline {
        config::Deadline {
            action: config::Action::Poweroff,
            drain: vec!["/bin/drain".into()],
            ..Default::default()
        }
    }

    /// The steps due so many seconds before (or, negative, after) the deadline.
    fn steps(config: &config::Deadline, done: &mut Done, before: i64) -> Vec<Step> {
        let now = Now {
            wall: AT.saturating_add_signed(-before),
            uptime: HOUR,
            vouched: false,
        };
        due(AT, GRACE, config, done, now, HOUR)
    }

    #[test]
    fn each_warning_time_is_warned_of_once() {
        let mut done = Done::default();
        let config = config::Deadline::default();
        let warned: Vec<i64> = (-10..=4000)
            .rev()
            .filter(|before| steps(&config, &mut done, *before).contains(&Step::Warn))
            .collect();
        assert_eq!(warned, [3600, 900, 300, 60]);
    }

    #[test]
    fn several_warning_times_that_passed_unwatched_are_one_warning() {
        let mut done = Done::default();
        let config = config::Deadline::default();
        assert_eq!(steps(&config, &mut done, 200), [Step::Warn]);
        assert_eq!(steps(&config, &mut done, 199), []);
        assert_eq!(steps(&config, &mut done, 60), [Step::Warn]);
    }

    #[test]
    fn a_deadline_that_moved_away_is_warned_of_again() {
        let mut done = Done::default();
        let config = config::Deadline::default();
        assert_eq!(steps(&config, &mut done, 300), [Step::Warn]);
        assert_eq!(steps(&config, &mut done, 7200), []);
        assert_eq!(steps(&config, &mut done, 300), [Step::Warn]);
    }

    #[test]
    fn drain_runs_once_when_grace_begins_and_the_vm_is_ended_at_the_deadline() {
        let mut done = Done::default();
        let config = poweroff();
        assert!(!steps(&config, &mut done, 601).contains(&Step::Drain));
        assert!(steps(&config, &mut done, 600).contains(&Step::Drain));
        assert!(!steps(&config, &mut done, 599).contains(&Step::Drain));
        assert!(!steps(&config, &mut done, 1).contains(&Step::PowerOff));
        assert_eq!(steps(&config, &mut done, 0), [Step::Report, Step::PowerOff]);
    }

    #[test]
    fn drain_does_not_run_again_for_a_deadline_that_moved_later() {
        let mut done = Done::default();
        let config = poweroff();
        assert!(steps(&config, &mut done, 600).contains(&Step::Drain));
        steps(&config, &mut done, 7200);
        assert!(!steps(&config, &mut done, 600).contains(&Step::Drain));
    }

    #[test]
    fn with_the_action_report_the_deadline_is_said_once_and_nothing_is_ended() {
        let mut done = Done::default();
        let config = config::Deadline::default();
        assert_eq!(steps(&config, &mut done, -5), [Step::Report]);
        assert_eq!(steps(&config, &mut done, -6), []);
    }

    #[test]
    fn a_clock_that_is_not_trusted_yet_neither_drains_nor_ends_a_vm() {
        let config = poweroff();
        let min = config.min_uptime;
        for (trusted_for, expected) in [
            (Duration::ZERO, false),
            (min - Duration::from_secs(1), false),
            (min, true),
        ] {
            let now = Now {
                wall: AT + 315_360_000,
                uptime: trusted_for,
                vouched: false,
            };
            let steps = due(AT, GRACE, &config, &mut Done::default(), now, trusted_for);
            assert_eq!(steps.contains(&Step::PowerOff), expected, "{trusted_for:?}");
            assert_eq!(steps.contains(&Step::Drain), expected, "{trusted_for:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_is_trusted_anew_from_then_on() {
        let moment = |wall, uptime| Now {
            wall,
            uptime: Duration::from_secs(uptime),
            vouched: false,
        };
        let mut trust = Trust::new(moment(1_000, 5));
        assert_eq!(trust.notice(moment(1_060, 65)), None);
        assert_eq!(trust.lasted(), Duration::from_secs(60));
        // Half a minute is a machine that was busy.
        assert_eq!(trust.notice(moment(1_150, 125)), None);
        // NTP sets a clock that was years off, forwards and backwards.
        assert_eq!(
            trust.notice(moment(1_800_000_000, 130)),
            Some(1_799_998_845)
        );
        assert_eq!(trust.lasted(), Duration::ZERO);
        assert_eq!(trust.notice(moment(1_800_000_060, 190)), None);
        assert_eq!(trust.lasted(), Duration::from_secs(60));
        assert!(
            trust
                .notice(moment(1_000, 200))
                .is_some_and(|step| step < 0)
        );
    }

    #[test]
    fn the_clocks_are_written_down_once_a_minute_and_when_one_is_set() {
        let moment = |wall, uptime| Now {
            wall,
            uptime: Duration::from_secs(uptime),
            vouched: false,
        };
        let mut trust = Trust::new(moment(1_000, 5));
        let written = trust;
        trust.notice(moment(1_059, 64));
        assert!(written.stands_for(&trust));
        trust.notice(moment(1_060, 65));
        assert!(!written.stands_for(&trust));
        let written = trust;
        trust.notice(moment(5_000, 66));
        assert!(!written.stands_for(&trust));
    }
}
