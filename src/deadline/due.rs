//! What is to be done now about the deadline. Pure: times and history are handed in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_trust::Time;
use super::decide::Deadline;
use super::limit::LimitKind;
use super::origin::LimitSource;
use crate::config;
use crate::order::sort_by_key;

/// A deadline whose drain begins so long after its grace did was learnt late, and drain is
/// given its time; so it is where grace is shorter than this.
const LATE: Duration = Duration::from_secs(60);

/// A request that takes its time may make drain so late.
const SLACK: Duration = Duration::from_secs(5);

/// So long a drain may take to be killed when its time is over.
const KILLED: Duration = Duration::from_secs(1);

/// What has been done already.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The warning times, in seconds before the deadline, that have passed and were
    /// warned of.
    pub(crate) warned: Vec<u64>,
    pub(crate) drained: bool,
    /// The uptime until which the power stays on for a drain that was begun late.
    #[serde(default)]
    pub(crate) drain_until: Option<Duration>,
    #[serde(default)]
    pub(crate) drain_ended: bool,
    /// The deadline of which it was said that it is reached.
    pub(crate) reported: Option<u64>,
    pub(crate) called_back: bool,
    /// The operator's order that held last.
    #[serde(default)]
    pub(crate) order: Option<String>,
    /// The drain that was run was run for an order.
    #[serde(default)]
    pub(crate) ordered_drain: Option<OrderedDrain>,
}

/// A drain that was run for an operator's order. Where that is cancelled, or was a rehearsal,
/// the next deadline has one of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OrderedDrain {
    order: Option<String>,
    is_rehearsal: bool,
    /// The uptime at which it has ended, or was killed.
    until: Duration,
}

impl Done {
    /// Whether drain has begun for the order that held last.
    pub(crate) fn has_drained_for_order(&self) -> bool {
        self.drained && self.ordered_drain.is_some()
    }

    /// Notes a drain that somebody else has begun, at some time until now.
    pub(crate) fn note_drain(&mut self, config: &config::Deadline, uptime: Duration) {
        self.drained = true;
        self.drain_ended = false;
        self.drain_until = Some(uptime.saturating_add(most_of_a_drain(config)));
    }

    fn follow_orders(&mut self, order: Option<&String>, uptime: Duration) {
        if self.order.as_ref() != order {
            self.warned.clear();
            self.order = order.cloned();
        }
        let Some(drain) = &self.ordered_drain else {
            return;
        };
        let is_another = drain.is_rehearsal && drain.order.as_ref() != order;
        let has_ended = self.drain_ended || uptime >= drain.until;
        if (order.is_none() || is_another) && has_ended {
            self.forget_drain();
        }
    }

    /// Whether drain has ended, or was killed.
    fn has_drained(&self, uptime: Duration) -> bool {
        let ordered = self.ordered_drain.as_ref().map(|drain| drain.until);
        let mut until = self.drain_until.into_iter().chain(ordered);
        self.drained && (self.drain_ended || until.any(|until| uptime >= until))
    }

    /// Whether drain was run for a rehearsal, and does not run any more.
    fn has_rehearsed(&self, uptime: Duration) -> bool {
        let rehearsed = self.ordered_drain.as_ref().filter(|d| d.is_rehearsal);
        rehearsed.is_some_and(|drain| self.drain_ended || uptime >= drain.until)
    }

    fn forget_drain(&mut self) {
        self.drained = false;
        self.drain_until = None;
        self.ordered_drain = None;
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Warn logged-in users.
    Warn,
    Drain(Deadline),
    /// Say that the deadline is reached.
    Report,
    PowerOff,
}

impl Step {
    pub(crate) fn is_drain(&self) -> bool {
        matches!(self, Step::Drain(_))
    }
}

/// A moment, by the clock that counts and by the one that only runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) time: Time,
    pub(crate) uptime: Duration,
}

impl Moment {
    fn left(&self, deadline: &Deadline) -> Duration {
        Duration::from_secs(deadline.at.saturating_sub(self.time.unix))
    }
}

/// The deadlines of a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Deadlines {
    /// The earliest, as it was said last.
    pub(crate) published: Option<Deadline>,
    /// The earliest that people set, as it is believed.
    pub(crate) planned: Option<Deadline>,
    /// The earliest that needs no belief: of a cloud's notices and an operator's orders.
    pub(crate) certain: Option<Deadline>,
    /// An operator's order that does not end the machine.
    pub(crate) drill: Option<Deadline>,
    /// The order that holds.
    pub(crate) order: Option<String>,
}

impl Deadlines {
    /// What can end the machine.
    ///
    /// What people set is not, before the clock is trusted for the configured `min_uptime`:
    /// it may be years off, and the mistake may be theirs.
    fn ends(&self, config: &config::Deadline, time: Time) -> impl Iterator<Item = &Deadline> {
        let is_trusted = time.trusted_for >= config.min_uptime;
        let planned = self.planned.as_ref().filter(|_| is_trusted);
        planned.into_iter().chain(&self.certain)
    }

    /// Whether there is anything whose grace has begun, however much the clock is trusted.
    fn is_in_grace(&self, now: Moment) -> bool {
        let all = [&self.planned, &self.certain, &self.drill];
        let mut all = all.into_iter().flatten();
        all.any(|deadline| now.left(deadline) <= deadline.grace)
    }

    /// What drain is run for, a rehearsal last. Each may begin its grace before the other.
    fn acted_upon(&self, config: &config::Deadline, time: Time) -> Vec<&Deadline> {
        let end = self.ends(config, time).min_by_key(|deadline| deadline.at);
        let all = end.into_iter().chain(&self.drill);
        let mut all: Vec<&Deadline> = all.collect();
        sort_by_key(&mut all, |deadline| {
            (deadline.kind == LimitKind::Rehearsal, deadline.at)
        });
        all
    }
}

/// The steps that are due. Records them in `done`.
pub(crate) fn due(
    deadlines: &Deadlines,
    config: &config::Deadline,
    done: &mut Done,
    now: Moment,
) -> Vec<Step> {
    let mut steps = Vec::new();
    done.follow_orders(deadlines.order.as_ref(), now.uptime);
    match &deadlines.published {
        Some(published) => warn_if_due(published, config, done, now, &mut steps),
        None => done.warned.clear(),
    }
    // A deadline that moved away, or the next one, has a drain of its own: jobs came since.
    if done.has_drained(now.uptime) && !deadlines.is_in_grace(now) {
        done.forget_drain();
    }
    for acted_upon in deadlines.acted_upon(config, now.time) {
        drain_if_due(acted_upon, deadlines, config, done, now, &mut steps);
    }
    let mut ends = deadlines.ends(config, now.time);
    let is_over = ends.any(|end| now.left(end).is_zero() && may_power_off(end, config, done, now));
    if is_over && config.action == config::Action::Poweroff {
        steps.push(Step::PowerOff);
    }
    steps
}

/// A drain that was begun late is waited for; not where a cloud's notice says when it takes the
/// machine away. One whose time was over when it was heard says nothing of that.
fn may_power_off(end: &Deadline, config: &config::Deadline, done: &Done, now: Moment) -> bool {
    let Some(until) = done.drain_until.filter(|until| now.uptime < *until) else {
        return true;
    };
    let begun = until.saturating_sub(most_of_a_drain(config));
    let over_for = Duration::from_secs(now.time.unix.saturating_sub(end.at));
    let comes_after = now.uptime.saturating_sub(over_for) > begun;
    done.drain_ended || end.kind == LimitKind::Notice && comes_after
}

/// From its start until it has ended, or was killed.
fn most_of_a_drain(config: &config::Deadline) -> Duration {
    config.drain_timeout.saturating_add(KILLED)
}

fn drain_if_due(
    acted_upon: &Deadline,
    deadlines: &Deadlines,
    config: &config::Deadline,
    done: &mut Done,
    now: Moment,
    steps: &mut Vec<Step>,
) {
    let left = now.left(acted_upon);
    if left > acted_upon.grace || config.drain.is_empty() {
        return;
    }
    // A rehearsal stands in for no real end.
    if done.has_rehearsed(now.uptime) && acted_upon.kind != LimitKind::Rehearsal {
        done.forget_drain();
    }
    if done.drained {
        return;
    }
    done.drained = true;
    done.drain_ended = false;
    // Where less than that is left, it is late by less.
    let slack = if left < LATE { SLACK } else { LATE };
    let wanted = acted_upon.grace.max(LATE);
    let is_late = left.saturating_add(slack.min(wanted / 2)) < wanted;
    let until = now.uptime.saturating_add(most_of_a_drain(config));
    done.drain_until = is_late.then_some(until);
    let is_ordered = acted_upon.origin.source == LimitSource::Operator;
    done.ordered_drain = is_ordered.then(|| OrderedDrain {
        order: deadlines.order.clone(),
        is_rehearsal: acted_upon.kind == LimitKind::Rehearsal,
        until,
    });
    steps.push(Step::Drain(acted_upon.clone()));
}

fn warn_if_due(
    published: &Deadline,
    config: &config::Deadline,
    done: &mut Done,
    now: Moment,
    steps: &mut Vec<Step>,
) {
    let left = now.left(published);
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
    if left.is_zero() && done.reported != Some(published.at) {
        done.reported = Some(published.at);
        steps.push(Step::Report);
    }
}

/// How long until something may be due that is not now; None where nothing is ahead.
pub(crate) fn next(
    deadlines: &Deadlines,
    config: &config::Deadline,
    done: &Done,
    now: Moment,
) -> Option<Duration> {
    let mut ahead = Vec::new();
    let until = |at: u64| Duration::from_secs(at.saturating_sub(now.time.unix));
    if let Some(published) = &deadlines.published {
        let warn = config.warn.iter().map(Duration::as_secs);
        ahead.extend(warn.map(|before| until(published.at.saturating_sub(before))));
        ahead.push(until(published.at));
        // The end that it hides is to be told: its time may have come just after a look at it.
        let is_over = published.kind == LimitKind::DrainOnly && published.at <= now.time.unix;
        if is_over && deadlines.planned.is_some() {
            ahead.push(Duration::from_secs(1));
        }
    }
    let acted_upon = [&deadlines.planned, &deadlines.certain, &deadlines.drill];
    for deadline in acted_upon.into_iter().flatten() {
        ahead.push(until(deadline.at.saturating_sub(deadline.grace.as_secs())));
        ahead.push(until(deadline.at));
    }
    if deadlines.planned.is_some() {
        ahead.push(config.min_uptime.saturating_sub(now.time.trusted_for));
    }
    let drains = done.ordered_drain.as_ref().map(|drain| drain.until);
    for until in done.drain_until.into_iter().chain(drains) {
        ahead.push(until.saturating_sub(now.uptime));
    }
    ahead.into_iter().filter(|wait| !wait.is_zero()).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::origin::Origin;

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

    fn deadline(kind: LimitKind) -> Deadline {
        Deadline {
            at: AT,
            origin: Origin::new(LimitSource::Openstack, "test"),
            grace: GRACE,
            confirmed_at: None,
            kind,
        }
    }

    fn planned() -> Deadlines {
        Deadlines {
            published: Some(deadline(LimitKind::Planned)),
            planned: Some(deadline(LimitKind::Planned)),
            ..Deadlines::default()
        }
    }

    fn noticed() -> Deadlines {
        Deadlines {
            published: Some(deadline(LimitKind::Notice)),
            certain: Some(deadline(LimitKind::Notice)),
            ..Deadlines::default()
        }
    }

    /// So many seconds before (or, negative, after) the deadline, by a clock that is trusted
    /// for so long.
    fn moment(before: i64, trusted_for: Duration) -> Moment {
        let time = Time {
            unix: AT.saturating_add_signed(-before),
            trusted_for,
        };
        let uptime = Duration::from_secs((100_000 - before) as u64);
        Moment { time, uptime }
    }

    /// The names of the steps that are due for a trusted clock.
    fn steps(config: &config::Deadline, done: &mut Done, before: i64) -> Vec<&'static str> {
        names(&planned(), config, done, moment(before, HOUR))
    }

    fn names(
        deadlines: &Deadlines,
        config: &config::Deadline,
        done: &mut Done,
        now: Moment,
    ) -> Vec<&'static str> {
        let steps = due(deadlines, config, done, now);
        let name = |step: &Step| match step {
            Step::Warn => "warn",
            Step::Drain(_) => "drain",
            Step::Report => "report",
            Step::PowerOff => "power off",
        };
        steps.iter().map(name).collect()
    }

    #[test]
    fn each_warning_time_is_warned_of_once() {
        let mut done = Done::default();
        let config = config::Deadline::default();
        let warned: Vec<i64> = (-10..=4000)
            .rev()
            .filter(|before| steps(&config, &mut done, *before).contains(&"warn"))
            .collect();
        assert_eq!(warned, [3600, 900, 300, 60]);
    }

    #[test]
    fn several_warning_times_that_passed_unwatched_are_one_warning() {
        let mut done = Done::default();
        let config = config::Deadline::default();
        assert_eq!(steps(&config, &mut done, 200), ["warn"]);
        assert_eq!(steps(&config, &mut done, 199), [""; 0]);
        assert_eq!(steps(&config, &mut done, 60), ["warn"]);
    }

    #[test]
    fn a_deadline_that_moved_away_is_warned_of_again() {
        let mut done = Done::default();
        let config = config::Deadline::default();
        assert_eq!(steps(&config, &mut done, 300), ["warn"]);
        assert_eq!(steps(&config, &mut done, 7200), [""; 0]);
        assert_eq!(steps(&config, &mut done, 300), ["warn"]);
    }

    #[test]
    fn drain_runs_once_when_grace_begins_and_the_vm_is_ended_at_the_deadline() {
        let mut done = Done::default();
        let config = poweroff();
        assert!(!steps(&config, &mut done, 601).contains(&"drain"));
        assert!(steps(&config, &mut done, 600).contains(&"drain"));
        assert!(!steps(&config, &mut done, 599).contains(&"drain"));
        assert!(!steps(&config, &mut done, 1).contains(&"power off"));
        assert_eq!(steps(&config, &mut done, 0), ["report", "power off"]);
    }

    #[test]
    fn drain_runs_again_for_a_deadline_that_moved_away_and_not_beside_itself() {
        let config = poweroff();
        for (has_ended, moved_to, runs_again) in [
            (true, 7200, true),
            (false, 7200, false),
            // It is still at hand.
            (true, 590, false),
        ] {
            let mut done = Done::default();
            assert!(steps(&config, &mut done, 600).contains(&"drain"));
            done.drain_ended = has_ended;
            steps(&config, &mut done, moved_to);
            let runs = steps(&config, &mut done, 580).contains(&"drain");
            assert_eq!(runs, runs_again, "{has_ended}, {moved_to}");
        }
    }

    #[test]
    fn a_notice_whose_time_is_over_when_it_is_heard_leaves_drain_its_time() {
        let config = poweroff();
        let limit = (config.drain_timeout + KILLED).as_secs() as i64;
        let ended = |first: i64, drain_takes: i64| {
            let mut done = Done::default();
            (-10_000..=first).rev().find(|before| {
                done.drain_ended |= first - before >= drain_takes && done.drained;
                let steps = names(&noticed(), &config, &mut done, moment(*before, HOUR));
                steps.contains(&"power off")
            })
        };
        assert_eq!(ended(0, 40), Some(-40));
        assert_eq!(ended(0, 9000), Some(-limit));
        assert_eq!(ended(-500, 9000), Some(-500 - limit));
        // One that leaves seconds says when it is over.
        assert_eq!((ended(1, 40), ended(30, 9000)), (Some(0), Some(0)));
    }

    #[test]
    fn a_notice_that_comes_while_a_late_drain_runs_says_when_that_is_over() {
        let config = poweroff();
        let mut done = Done::default();
        let mut both = planned();
        assert!(names(&both, &config, &mut done, moment(-10, HOUR)).contains(&"drain"));
        let notice = Deadline {
            at: AT + 100,
            ..deadline(LimitKind::Notice)
        };
        both.certain = Some(notice);
        for (before, is_over) in [(-40, false), (-99, false), (-100, true)] {
            let steps = names(&both, &config, &mut done, moment(before, HOUR));
            assert_eq!(steps.contains(&"power off"), is_over, "{before}");
        }
    }

    #[test]
    fn however_short_grace_is_drain_has_a_minute() {
        let config = poweroff();
        for (grace, left) in [(0, -100), (0, 0), (8, 5), (8, 8)] {
            let mut deadlines = planned();
            deadlines.planned.as_mut().unwrap().grace = Duration::from_secs(grace);
            let mut done = Done::default();
            let mut steps = |before| names(&deadlines, &config, &mut done, moment(before, HOUR));
            assert!(steps(left).contains(&"drain"), "{grace}, {left}");
            assert!(!steps(left - 60).contains(&"power off"), "{grace}, {left}");
            done.drain_ended = true;
            let mut steps = |before| names(&deadlines, &config, &mut done, moment(before, HOUR));
            assert!(steps(left - 61).contains(&"power off"), "{grace}, {left}");
        }
    }

    #[test]
    fn with_the_action_report_the_deadline_is_said_once_and_nothing_is_ended() {
        let mut done = Done::default();
        let config = config::Deadline::default();
        assert_eq!(steps(&config, &mut done, -5), ["report"]);
        assert_eq!(steps(&config, &mut done, -6), [""; 0]);
    }

    #[test]
    fn what_people_set_waits_until_the_clock_is_trusted_and_a_notice_does_not() {
        let config = poweroff();
        let min = config.min_uptime;
        for (deadlines, trusted, expected) in [
            (planned(), min - Duration::from_secs(1), &["report"][..]),
            (planned(), min, &["report", "drain"]),
            (noticed(), Duration::ZERO, &["report", "drain"]),
        ] {
            let mut done = Done::default();
            let steps = names(&deadlines, &config, &mut done, moment(0, trusted));
            assert_eq!(steps, expected, "{deadlines:?}");
        }
        // One that is not acted upon yet does not hide a notice.
        let both = Deadlines {
            certain: noticed().certain,
            ..planned()
        };
        let mut done = Done::default();
        let steps = names(&both, &config, &mut done, moment(60, Duration::ZERO));
        assert_eq!(steps, ["warn", "drain"]);
    }

    #[test]
    fn a_deadline_that_is_learnt_late_gives_drain_its_time_and_one_in_time_ends_on_time() {
        let config = poweroff();
        let limit = (config.drain_timeout + KILLED).as_secs() as i64;
        let ended = |first: i64, drain_takes: i64| {
            let mut done = Done::default();
            (-10_000..=first).rev().find(|before| {
                done.drain_ended |= first - before >= drain_takes && done.drained;
                steps(&config, &mut done, *before).contains(&"power off")
            })
        };
        assert_eq!(ended(700, 9000), Some(0));
        // In the middle of grace, or past.
        assert_eq!(ended(300, 9000), Some((300 - limit).min(0)));
        assert_eq!(ended(-100, 9000), Some(-100 - limit));
        assert_eq!(ended(-100, 90), Some(-190));
        // A short grace: there is less than a minute left.
        let short = |left: i64| {
            let mut deadlines = planned();
            deadlines.planned.as_mut().unwrap().grace = Duration::from_secs(60);
            let mut done = Done::default();
            (-10_000..=left).rev().find(|before| {
                let now = moment(*before, HOUR);
                names(&deadlines, &config, &mut done, now).contains(&"power off")
            })
        };
        assert_eq!((short(60), short(55)), (Some(0), Some(0)));
        assert_eq!(short(50), Some(50 - limit));
        // A notice ends it anyway.
        let mut done = Done::default();
        names(&noticed(), &config, &mut done, moment(30, HOUR));
        let steps = names(&noticed(), &config, &mut done, moment(0, HOUR));
        assert!(steps.contains(&"power off"));
    }

    /// A moment of a machine on which this order holds, beside a planned deadline at [`AT`].
    fn ordered(kind: LimitKind, id: Option<&str>, at: u64) -> Deadlines {
        let order = id.map(|_| Deadline {
            at,
            origin: Origin::new(LimitSource::Operator, "test"),
            ..deadline(kind)
        });
        let (certain, drill) = match kind.ends_the_machine() {
            true => (order.clone(), None),
            false => (None, order.clone()),
        };
        Deadlines {
            published: order.or(planned().published),
            certain,
            drill,
            order: id.map(Into::into),
            ..planned()
        }
    }

    #[test]
    fn an_order_that_ends_nothing_drains_and_does_not_hide_the_real_end() {
        let config = poweroff();
        for kind in [LimitKind::DrainOnly, LimitKind::Rehearsal] {
            let mut done = Done::default();
            let order = ordered(kind, Some("1"), AT - 7200);
            let young = Duration::ZERO;
            let at = |done: &mut Done, before| names(&order, &config, done, moment(before, young));
            assert_eq!(at(&mut done, 7800), ["warn", "drain"]);
            assert_eq!(at(&mut done, 7200), ["report"]);
            let end = names(&order, &config, &mut done, moment(0, HOUR));
            // A rehearsal stands in for no real end.
            let expected = match kind {
                LimitKind::Rehearsal => "drain",
                _ => "power off",
            };
            assert_eq!(end, [expected]);
            done.drain_ended = true;
            let end = names(&order, &config, &mut done, moment(0, HOUR));
            assert_eq!(end, ["power off"]);
        }
    }

    #[test]
    fn an_order_ends_the_machine_whatever_min_uptime_is() {
        let mut done = Done::default();
        let order = ordered(LimitKind::Planned, Some("1"), AT - 7200);
        let steps = |done: &mut Done, before| {
            names(&order, &poweroff(), done, moment(before, Duration::ZERO))
        };
        assert_eq!(steps(&mut done, 7800), ["warn", "drain"]);
        assert_eq!(steps(&mut done, 7200), ["report", "power off"]);
    }

    #[test]
    fn after_a_rehearsal_and_after_a_cancelled_order_drain_runs_for_the_next_deadline() {
        let config = poweroff();
        let drains = |kind, then: Option<&str>, has_ended: bool| {
            let mut done = Done::default();
            let first = ordered(kind, Some("1"), AT - 7200);
            assert!(names(&first, &config, &mut done, moment(7300, HOUR)).contains(&"drain"));
            done.drain_ended = has_ended;
            let next = ordered(LimitKind::Planned, then, AT - 7000);
            let steps = names(&next, &config, &mut done, moment(7100, HOUR));
            steps.contains(&"drain")
        };
        // Another order is a deadline that moved; a rehearsal was none.
        assert!(!drains(LimitKind::Planned, Some("2"), true));
        assert!(drains(LimitKind::Rehearsal, Some("2"), true));
        // Not beside one that runs.
        assert!(!drains(LimitKind::Rehearsal, Some("2"), false));
        // Cancelled: the planned deadline's grace begins later.
        let mut done = Done::default();
        let first = ordered(LimitKind::Planned, Some("1"), AT - 7200);
        assert!(names(&first, &config, &mut done, moment(7300, HOUR)).contains(&"drain"));
        done.drain_ended = true;
        assert_eq!(steps(&config, &mut done, 7200), [""; 0]);
        assert!(steps(&config, &mut done, 600).contains(&"drain"));
    }

    #[test]
    fn a_real_end_during_a_rehearsal_drains_once_more_and_not_beside_its_drain() {
        let config = poweroff();
        let drains = |real_is_earlier: bool, has_ended: bool| {
            let mut done = Done::default();
            let mut both = ordered(LimitKind::Rehearsal, Some("1"), AT);
            both.planned = None;
            let first = names(&both, &config, &mut done, moment(500, HOUR));
            assert!(first.contains(&"drain"));
            done.drain_ended = has_ended;
            let mut notice = deadline(LimitKind::Notice);
            notice.at = if real_is_earlier { AT - 60 } else { AT + 60 };
            both.certain = Some(notice);
            let steps = [400, 399].map(|before| {
                let steps = names(&both, &config, &mut done, moment(before, HOUR));
                steps.iter().filter(|step| **step == "drain").count()
            });
            done.drain_ended = true;
            let last = names(&both, &config, &mut done, moment(398, HOUR));
            (steps, last.contains(&"drain"))
        };
        for real_is_earlier in [true, false] {
            assert_eq!(drains(real_is_earlier, true), ([1, 0], false));
            assert_eq!(drains(real_is_earlier, false), ([0, 0], true));
        }
    }

    #[test]
    fn a_drain_alone_that_is_over_hides_the_end_for_a_second_at_most() {
        let mut order = ordered(LimitKind::DrainOnly, Some("1"), AT - 7200);
        let wait = |order: &Deadlines, before| {
            next(order, &poweroff(), &Done::default(), moment(before, HOUR))
        };
        assert_eq!(wait(&order, 7201), Some(Duration::from_secs(1)));
        assert_eq!(wait(&order, 7200), Some(Duration::from_secs(1)));
        // Nobody is woken each second where there is none.
        order.planned = None;
        assert_eq!(wait(&order, 7200), None);
    }

    #[test]
    fn users_are_warned_of_each_order_anew() {
        let config = poweroff();
        let mut done = Done::default();
        for (id, warned) in [("1", true), ("1", false), ("2", true)] {
            let order = ordered(LimitKind::DrainOnly, Some(id), AT - 7200);
            let steps = names(&order, &config, &mut done, moment(7300, HOUR));
            assert_eq!(steps.contains(&"warn"), warned, "{id}");
        }
    }

    #[test]
    fn the_next_thing_that_is_due_is_waited_for() {
        let config = poweroff();
        let next = |before: i64, trusted: u64| {
            let now = moment(before, Duration::from_secs(trusted));
            next(&planned(), &config, &Done::default(), now).map(|wait| wait.as_secs())
        };
        assert_eq!(next(10_000, 600), Some(6400));
        assert_eq!(next(900, 600), Some(300));
        assert_eq!(next(600, 600), Some(300));
        assert_eq!(next(60, 600), Some(60));
        assert_eq!(next(0, 600), None);
        assert_eq!(next(0, 590), Some(10));
    }
}
