//! When the metadata service is asked again, and what else is looked at how often. Pure: time and
//! chance are handed in.

use std::time::Duration;

use crate::deadline::origin::LimitSource;

/// How often a service is asked whether the deadline has moved.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);

/// How often EC2 is asked whether it wants the instance back: it gives two minutes'
/// notice, and recommends to ask every five seconds.
pub(crate) const SPOT_PERIOD: Duration = Duration::from_secs(5);

/// How often a drain that runs is looked at.
pub(crate) const DRAIN_TICK: Duration = Duration::from_secs(1);

/// So many second answers are asked for between the regular turns, and then one more every
/// ten minutes: a service that says something else each time is not asked for ever.
const SECOND_ANSWERS: u32 = 6;
const ONE_MORE: Duration = Duration::from_secs(600);

/// What an answer gets in any case.
const LEAST_BUDGET: Duration = Duration::from_secs(1);

/// Until the first time of asking after `boot` did: anywhere within this time, so that
/// instances which booted together do not go on asking together.
fn first_ask(within: Duration, chance: f64) -> Duration {
    within.mul_f64(chance.clamp(0.0, 1.0))
}

/// A source, and the uptime at which a second answer of it is wanted.
type Wanted = Option<(Duration, LimitSource)>;

/// When the sources are asked next, as uptimes.
#[derive(Debug)]
pub(crate) struct Asking {
    /// Their regular turn. A second answer in between does not move it, or all instances that
    /// booted together would go on together.
    turn: Duration,
    second: Option<Duration>,
    /// How many second answers may be asked for, as of an uptime.
    left: (u32, Duration),
    last: Duration,
    /// The service wants to be left alone until then.
    left_alone: Duration,
}

impl Asking {
    /// The first turn is within this time. Before it, no notice can be asked for.
    pub(crate) fn begin(first: Duration, uptime: Duration, chance: f64) -> Asking {
        Asking {
            turn: uptime + first_ask(first, chance),
            second: None,
            left: (SECOND_ANSWERS, uptime),
            last: Duration::ZERO,
            left_alone: Duration::ZERO,
        }
    }

    pub(crate) fn next(&self) -> Duration {
        let next = self.second.map_or(self.turn, |at| at.min(self.turn));
        next.max(self.left_alone)
    }

    /// The source to be asked now for a second answer; None where all have their turn.
    pub(crate) fn second(&self, wanted: Wanted, uptime: Duration) -> Option<LimitSource> {
        let wanted = wanted.filter(|(at, _)| *at > self.last && uptime < self.turn);
        wanted.map(|(_, source)| source)
    }

    /// They were asked, and want to be left alone for so long.
    pub(crate) fn asked(&mut self, uptime: Duration, wait: Duration, chance: f64) {
        self.last = uptime;
        self.second = None;
        self.left_alone = self.left_alone.max(uptime.saturating_add(wait));
        match self.turn <= uptime {
            true => self.turn = uptime + next_ask(chance),
            false => self.left.0 = self.left.0.saturating_sub(1),
        }
        let (left, since) = &mut self.left;
        while *since + ONE_MORE <= uptime {
            *since += ONE_MORE;
            *left = (*left + 1).min(SECOND_ANSWERS);
        }
    }

    /// Where one answer must not decide, another is asked for. A source that is silent then
    /// is not asked so soon once more.
    pub(crate) fn want(&mut self, wanted: Wanted, chance: f64) {
        let wanted = wanted.filter(|(at, _)| *at > self.last && self.left.0 > 0);
        self.second = wanted.map(|(at, _)| at + second_answer(chance));
    }

    pub(crate) fn waits_for_second(&self) -> bool {
        self.second.is_some()
    }

    pub(crate) fn leave_alone(&mut self, until: Duration) {
        self.left_alone = self.left_alone.max(until);
    }
}

/// Until a callback looks again whether `boot` has ended.
pub(crate) const BOOT_ENDS: Duration = Duration::from_secs(1);

/// How much longer than needed a second answer is waited for: anywhere within ten seconds, so
/// that instances which booted together do not ask together.
fn second_answer(chance: f64) -> Duration {
    Duration::from_secs(10).mul_f64(chance.clamp(0.0, 1.0))
}

/// Until the next time of asking: a period, give or take a tenth of it.
fn next_ask(chance: f64) -> Duration {
    PERIOD.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0))
}

/// How long all sources together may take, where something is due at that uptime: silent ones
/// hold up neither drain nor the end by more than a second.
pub(crate) fn budget(timeout: Duration, due: Option<Duration>, uptime: Duration) -> Duration {
    let until_due = due.map(|due| due.saturating_sub(uptime).max(LEAST_BUDGET));
    until_due.map_or(timeout, |until| until.min(timeout))
}

/// Until the next time of asking for a spot notice: five seconds, and after so many
/// failures in a row 10 s, 20 s, … 80 s, each cut by up to a half. Not sooner than the
/// service asks.
pub(crate) fn next_spot(failed: u32, chance: f64, retry_after: Option<Duration>) -> Duration {
    let backoff = match failed {
        0 => SPOT_PERIOD,
        failed => {
            let ceiling = SPOT_PERIOD * (1 << failed.min(4));
            ceiling.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
        }
    };
    backoff.max(retry_after.unwrap_or_default())
}

/// Until a callback that failed so often is tried again: 10 s, 20 s, … 10 min, each cut
/// by up to a half.
pub(crate) fn next_callback(failed: u32, chance: f64) -> Duration {
    let ceiling = Duration::from_secs(10 << failed.min(6)).min(Duration::from_secs(600));
    ceiling.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{self, Now};
    use crate::config;
    use crate::deadline::clock_trust::APART;
    use crate::deadline::due::{Done, Step};
    use crate::deadline::follower::Follower;
    use crate::deadline::ledger::Statement;
    use crate::deadline::limit::{Limit, When};
    use crate::deadline::origin::Origin;
    use crate::metadata::is_turn_of_features;

    #[test]
    fn silent_sources_hold_up_nothing_that_is_due() {
        let seconds = Duration::from_secs;
        for (due, expected) in [
            (None, 20),
            (Some(1_000), 20),
            (Some(107), 7),
            (Some(101), 1),
            (Some(100), 1),
            (Some(50), 1),
        ] {
            let budget = budget(seconds(20), due.map(seconds), seconds(100));
            assert_eq!(budget, seconds(expected), "{due:?}");
        }
        assert_eq!(budget(seconds(5), Some(seconds(7)), seconds(0)), seconds(5));
    }

    const INSTANCES: usize = 10_000;
    const MINUTES: usize = 60;

    /// A stream of chances, different for each seed (splitmix64).
    fn chances(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    /// Requests to the service and to Machine/Job Features at a URL, in each second.
    struct Load {
        service: Vec<usize>,
        features: Vec<usize>,
    }

    fn load(features: bool) -> Load {
        let nothing = vec![0; MINUTES * 60];
        let mut load = Load {
            service: nothing.clone(),
            features: nothing,
        };
        for instance in 0..INSTANCES {
            let mut chance = chances(instance as u64);
            let mut at = first_ask(PERIOD, chance());
            let which = chance();
            for round in 0.. {
                let second = at.as_secs() as usize;
                if second >= load.service.len() {
                    break;
                }
                load.service[second] += 1;
                // All nine keys.
                if features && is_turn_of_features(round, which) {
                    load.features[second] += 9;
                }
                at += next_ask(chance());
            }
        }
        load
    }

    fn peak(per_second: &[usize]) -> usize {
        per_second.iter().copied().max().unwrap_or_default()
    }

    #[test]
    fn spot_notices_are_asked_for_less_often_the_more_often_that_fails() {
        let seconds = |failed, chance| next_spot(failed, chance, None).as_secs_f64();
        assert_eq!((seconds(0, 0.0), seconds(0, 1.0)), (5.0, 5.0));
        for (failed, longest) in [(1, 10.0), (2, 20.0), (3, 40.0), (4, 80.0), (99, 80.0)] {
            assert_eq!(seconds(failed, 0.0), longest);
            assert_eq!(seconds(failed, 1.0), longest / 2.0);
        }
        let wait = Duration::from_secs(300);
        assert_eq!(next_spot(1, 0.5, Some(wait)), wait);
        assert_eq!(next_spot(4, 0.0, Some(SPOT_PERIOD)).as_secs(), 80);
    }

    /// Unix seconds at an uptime of zero.
    const BOOTED: f64 = 1_800_000_000.3;

    fn now(uptime: f64) -> Now {
        Now {
            wall: (BOOTED + uptime) as u64,
            uptime: Duration::from_secs_f64(uptime),
            vouched: false,
        }
    }

    /// How long after a notice of EC2's or Azure's drain begins, in seconds.
    fn from_notice_to_drain(chance: &mut impl FnMut() -> f64) -> f64 {
        let config = config::Deadline {
            drain: vec!["/bin/drain".into()],
            ..config::Deadline::default()
        };
        let mut done = Done::default();
        let noticed = 60.0 + 60.0 * chance();
        let end = (BOOTED + noticed + 30.0 + 90.0 * chance()) as u64;
        let mut uptime = 20.0 + 5.0 * chance();
        let mut follower = Follower::new(&config, "boot".into(), None, None, now(uptime));
        loop {
            let is_noticed = uptime >= noticed;
            let limits = is_noticed.then(|| {
                let spot = Origin::new(LimitSource::Ec2, "spot/instance-action");
                Limit::notice(spot, When::At(end))
            });
            let statement = Statement {
                limits: limits.into_iter().collect(),
                ..Statement::default()
            };
            let took = 2.0 * chance();
            let date = (BOOTED + uptime + took) as u64;
            let date = clock::earlier(date, Duration::from_secs_f64(took));
            // As in a tick: everything goes by the clock of its begin.
            let tick = now(uptime);
            follower.look(tick);
            follower.hear(LimitSource::Ec2, &statement, Some(date), tick);
            let decision = follower.decide(tick);
            let steps = follower.due(&decision, &mut done, tick);
            let drain = steps.iter().find_map(|step| match step {
                Step::Drain(deadline) => Some(deadline),
                _ => None,
            });
            if let Some(deadline) = drain {
                assert_eq!(deadline.at, end, "drain is told another time than was said");
                return uptime + took - noticed;
            }
            assert!(uptime < noticed + 10.0, "noticed at {noticed}");
            uptime += next_spot(0, chance(), None).as_secs_f64().max(took);
        }
    }

    #[test]
    fn a_hundred_notices_reach_drain_within_seven_seconds() {
        let mut chance = chances(11);
        let mut took: Vec<f64> = (0..100)
            .map(|_| from_notice_to_drain(&mut chance))
            .collect();
        took.sort_by(f64::total_cmp);
        println!(
            "100 notices in virtual time: to drain {:.2} s (median), {:.2} s (worst)",
            took[50], took[99]
        );
        assert!(took[99] <= 7.0, "{took:?}");
    }

    #[test]
    fn a_service_that_says_something_else_each_time_is_not_asked_for_ever() {
        let mut chance = chances(1);
        let mut asking = Asking::begin(PERIOD, Duration::ZERO, chance());
        let (mut asked, mut first_hour) = (0, 0);
        for second in 0..24 * 3600 {
            let now = Duration::from_secs(second);
            if now < asking.next() {
                continue;
            }
            asked += 1;
            first_hour += u32::from(second < 3600);
            let wanted = Some((now + APART, LimitSource::Openstack));
            let is_turn = now >= asking.turn;
            assert_eq!(asking.second(wanted, now).is_none(), is_turn);
            asking.asked(now, Duration::ZERO, chance());
            asking.want(wanted, chance());
        }
        assert!(first_hour > 60 + SECOND_ANSWERS / 2, "{first_hour}");
        let per_minute = f64::from(asked) / (24.0 * 60.0);
        assert!(per_minute <= 1.2, "{per_minute} a minute");
    }

    #[test]
    fn ten_thousand_instances_booted_together_do_not_ask_in_lock_step() {
        for features in [false, true] {
            let load = load(features);
            let (first, later) = load.features.split_at(120);
            let total: usize = load.service.iter().sum();
            let per_minute = total as f64 / (INSTANCES * MINUTES) as f64;
            println!(
                "{INSTANCES} instances over {MINUTES} min, features at a URL: {features}: at most \
                 {} requests in a second to the service (in lock-step: {INSTANCES}), {} to the \
                 features at first and {} later, {per_minute:.2} a minute each to the service",
                peak(&load.service),
                peak(first),
                peak(later)
            );
            // A perfectly even load would be 167 a second, nine times that at first, and 150
            // later, of which each instance asks for nine at once.
            assert!(peak(&load.service) < 250, "{}", peak(&load.service));
            assert!(peak(first) < 9 * 250, "{}", peak(first));
            assert!(peak(later) < 400, "{}", peak(later));
            assert!((0.9..=1.2).contains(&per_minute), "{per_minute} a minute");
        }
    }
}
