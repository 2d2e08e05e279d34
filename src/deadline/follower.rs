//! Joins what the sources said, the first boot, the clocks and the configuration to a
//! decision. Pure: `boot` asks it once, `watch` for ever, and the I/O is theirs.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_trust::{ClockTrust, Time};
use super::decide::{Deadline, decide};
use super::due::{self, Deadlines, Done, Moment, Step};
use super::first_boot::{self, Keep, KeptDeadline, Place, Present, Record};
use super::identity::{Identity, Names};
use super::ledger::{self, About, Ledger, Recorded, Statement};
use super::limit::{self, IgnoredLimit, Limit, LimitKind, When};
use super::order::{KeptOrder, Orders, Standing};
use super::origin::LimitSource;
use super::site_grace::SiteGrace;
use crate::clock::{self, Now};
use crate::config;

/// What is due within this is asked for again soon: the next regular answer may be late.
const SOON: u64 = 150;

/// What is known in one boot, by `boot` and by each `watch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Knowledge {
    pub(crate) ledger: Ledger,
    clock: ClockTrust,
    #[serde(default)]
    grace: SiteGrace,
}

impl Knowledge {
    /// Whether this, written down, still says enough of what is known `later`.
    pub(crate) fn stands_for(&self, later: &Knowledge) -> bool {
        self.ledger == later.ledger
            && self.grace == later.grace
            && self.clock.stands_for(&later.clock)
    }
}

pub(crate) struct Follower<'a> {
    config: &'a config::Deadline,
    boot_id: String,
    knowledge: Knowledge,
    /// The records of first boots, as they were read last.
    places: Vec<Place>,
    /// What an operator ordered.
    orders: Orders,
}

/// What came of an answer.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    /// To be said, for people.
    pub(crate) said: Vec<String>,
    /// It is another instance's, and was not used.
    pub(crate) is_refused: bool,
}

/// What holds at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Decision {
    pub(crate) deadlines: Deadlines,
    /// The grace that the site asks for, which counts where it is the longer one.
    pub(crate) site_grace: Option<Duration>,
    /// The published deadline waits for a second answer before it is acted upon.
    pub(crate) is_unconfirmed: bool,
    pub(crate) ignored: Vec<IgnoredLimit>,
    pub(crate) warnings: Vec<String>,
    /// The records that are to be written anew.
    pub(crate) writes: Vec<(PathBuf, Record)>,
}

impl<'a> Follower<'a> {
    /// `before` is what another process of this boot knew, `machine` the machine's own UUID.
    pub(crate) fn new(
        config: &'a config::Deadline,
        boot_id: String,
        machine: Option<String>,
        before: Option<Knowledge>,
        now: Now,
    ) -> Follower<'a> {
        let mut knowledge = before.unwrap_or_else(|| Knowledge {
            ledger: Ledger::default(),
            clock: ClockTrust::new(now),
            grace: SiteGrace::default(),
        });
        let ledger = &mut knowledge.ledger;
        ledger.identity = Identity::of(machine).or_as_before(std::mem::take(&mut ledger.identity));
        Follower {
            config,
            boot_id,
            knowledge,
            places: Vec::new(),
            orders: Orders::default(),
        }
    }

    pub(crate) fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    /// Takes over what another one in this process knew.
    pub(crate) fn carry_on(&mut self, knowledge: Knowledge) {
        self.knowledge = knowledge;
    }

    /// The machine's own UUID is the instance's for certain.
    pub(crate) fn trust_machine(&mut self) {
        self.knowledge.ledger.identity.trust_machine();
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.knowledge.ledger.identity
    }

    /// The names by which records of this instance are kept.
    pub(crate) fn names(&self) -> Names {
        self.knowledge.ledger.identity.names()
    }

    /// What the records of these names say. What an earlier boot of this instance knew holds
    /// until its source has spoken in this one.
    pub(crate) fn read(&mut self, places: Vec<Place>, now: Now) {
        self.places = places;
        let lease = self.lease(&Keep::AsBefore, now);
        if lease.is_drive_outdated {
            self.knowledge.ledger.outdate_drive();
        }
        if let Some(KeptDeadline { limit, is_believed }) = lease.kept {
            self.hold(limit, is_believed, now);
        }
    }

    /// Takes an operator's orders, in the place of all that were taken before.
    pub(crate) fn obey(&mut self, orders: Orders) {
        self.orders = orders;
    }

    /// The operator's order that holds.
    pub(crate) fn order(&self, now: Now) -> Option<Standing> {
        let clock = &self.knowledge.clock;
        self.orders.standing(&self.names(), clock, now)
    }

    /// What of the orders is to be kept for the next boot.
    pub(crate) fn order_to_keep(&self) -> Option<KeptOrder> {
        self.orders.to_keep(&self.names(), &self.knowledge.clock)
    }

    pub(crate) fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Holds a limit that was found before. An order holds as long as it stands, and the image's
    /// own as long as it is configured, and not because they were once published.
    pub(crate) fn hold(&mut self, limit: Limit, is_believed: bool, now: Now) {
        if limit.origin.source.is_of_this_machine() {
            return;
        }
        let ledger = &mut self.knowledge.ledger;
        ledger.hold(limit, is_believed, now.uptime);
    }

    /// What another process of this boot found out meanwhile.
    pub(crate) fn learn(&mut self, from: &Knowledge) {
        self.knowledge.ledger.learn(&from.ledger);
        self.knowledge.grace.learn(&from.grace);
    }

    /// Whether it takes a second answer to say which instance this is.
    pub(crate) fn is_instance_in_doubt(&self) -> bool {
        self.knowledge.ledger.identity.is_in_doubt()
    }

    /// The configured grace, or a longer one that a source asks for.
    fn published_grace(&self, now: Now) -> Duration {
        let published = self.knowledge.grace.published(now.uptime);
        self.config.grace.max(published.unwrap_or_default())
    }

    /// The same, as far as it is believed.
    fn grace(&self, now: Now) -> Duration {
        let believed = self.knowledge.grace.believed(now.uptime);
        self.config.grace.max(believed.unwrap_or_default())
    }

    /// A look at the clocks. Says what came of it where that is news.
    pub(crate) fn look(&mut self, now: Now) -> Option<String> {
        self.knowledge.clock.look(now)
    }

    /// Takes note of an answer, with the `Date` that came with it. Hands back what is to be
    /// said of it.
    pub(crate) fn hear(
        &mut self,
        source: LimitSource,
        statement: &Statement,
        date: Option<u64>,
        now: Now,
    ) -> Reception {
        let mut said = Vec::new();
        if let Some(date) = date {
            said.extend(self.knowledge.clock.witness(date, now));
        }
        let at = ledger::SaidAt {
            unix: self.time(now).unix,
            wall: now.wall,
            is_believed: self.knowledge.clock.is_believed(),
            uptime: now.uptime,
            date,
        };
        let first_boot = self.lease(&Keep::AsBefore, now).first_boot;
        let mut usable = statement.clone();
        usable.limits.retain(|limit| {
            let is_images = self.came_with_the_image(limit, statement, first_boot);
            let origin = &limit.origin;
            said.extend(is_images.then(|| {
                format!("{origin} is ignored: it was over before the first boot, and came with the image")
            }));
            !is_images
        });
        let recorded = self.knowledge.ledger.record(source, &usable, at);
        let is_refused = recorded != Recorded::Used;
        match recorded {
            Recorded::Used => self.knowledge.grace.hear(source, statement, now.uptime),
            Recorded::Refused(why) => said.push(why),
        }
        let first_boot = self.lease(&Keep::AsBefore, now).first_boot;
        let ahead = self.published_grace(now).as_secs().saturating_add(SOON);
        let soon = at.unix.saturating_add(ahead);
        self.knowledge.ledger.hurry(|when| match when {
            When::At(at) => *at <= soon,
            When::AfterFirstBoot(lifetime) => first_boot.saturating_add(lifetime.as_secs()) <= soon,
            _ => false,
        });
        Reception { said, is_refused }
    }

    /// What files of this machine say was saved in its image where it was over before the first
    /// boot of this instance, as far as anybody knows when that was.
    fn came_with_the_image(&self, limit: &Limit, said: &Statement, first_boot: u64) -> bool {
        const SLACK: u64 = 60;
        let is_over = matches!(limit.when, When::At(at) if at.saturating_add(SLACK) < first_boot);
        let is_known = self.knowledge.clock.is_believed() && !self.names().is_empty();
        is_over && is_known && said.of_files.contains(&limit.origin.key)
    }

    /// Garbage says nothing, and is no silence.
    pub(crate) fn hear_garbage(&mut self, source: LimitSource, now: Now) {
        let ledger = &mut self.knowledge.ledger;
        ledger.end_silence(source, &About::Everything, now.uptime);
    }

    /// What holds now.
    pub(crate) fn decide(&self, now: Now) -> Decision {
        let ledger = &self.knowledge.ledger;
        let own = || limit::own_limit(self.config).into_iter();
        let order = self.order(now);
        let ordered = order
            .as_ref()
            .map(|order| order.order.limit(&self.knowledge.clock));
        let heard = ledger
            .limits()
            .into_iter()
            .map(|limit| self.reckoned(limit));
        let mut said: Vec<Limit> = own().chain(heard).collect();
        let first_boot = self.lease(&Keep::AsBefore, now).first_boot;
        let grace = self.published_grace(now);
        let end = decide(&said, first_boot, grace).deadline;
        said.extend(ordered);
        let mut published = decide(&said, first_boot, grace);
        if let (Some(deadline), Some(order)) = (&mut published.deadline, &order) {
            self.give_grace(deadline, order);
            deadline.hide_no_end(end, self.time(now).unix);
        }
        let is_a_lifetime = |limit: &Limit| matches!(limit.when, When::AfterFirstBoot(_));
        let keep = self.to_keep(first_boot, now);
        let lease = self.lease(&keep, now);
        let mut warnings: Vec<String> = Vec::new();
        if said.iter().any(is_a_lifetime) {
            warnings.extend(lease.warnings);
        }
        let ignored = published.ignored.iter();
        warnings
            .extend(ignored.map(|limit| format!("{} is ignored: {}", limit.origin, limit.reason)));
        let origin = published.deadline.as_ref().map(|deadline| &deadline.origin);
        Decision {
            site_grace: self.knowledge.grace.published(now.uptime),
            is_unconfirmed: origin.is_some_and(|origin| ledger.is_doubted(origin, now.uptime)),
            deadlines: self.deadlines(published.deadline, order, first_boot, now),
            ignored: published.ignored,
            warnings,
            writes: lease.writes,
        }
    }

    /// What is due now. Records it in `done`.
    pub(crate) fn due(&self, decision: &Decision, done: &mut Done, now: Now) -> Vec<Step> {
        due::due(&decision.deadlines, self.config, done, self.moment(now))
    }

    /// The uptime at which something may be due next, unless somebody says something new.
    pub(crate) fn next(&self, decision: &Decision, done: &Done, now: Now) -> Option<Duration> {
        let ahead = due::next(&decision.deadlines, self.config, done, self.moment(now));
        let ledger = &self.knowledge.ledger;
        let silence = ledger.silence_counts(now.uptime);
        let word = self.knowledge.clock.counts_anew(now.uptime);
        let ahead = ahead.map(|wait| now.uptime.saturating_add(wait));
        ahead.into_iter().chain(silence).chain(word).min()
    }

    /// The uptime at which a second answer is wanted, and of whom.
    pub(crate) fn wants_second_answer(&self) -> Option<(Duration, LimitSource)> {
        self.knowledge.ledger.wants_second_answer()
    }

    pub(crate) fn time(&self, now: Now) -> Time {
        self.knowledge.clock.time(now)
    }

    /// By how many seconds the wall clock is ahead of the time that counts.
    pub(crate) fn wall_is_off_by(&self) -> Option<i64> {
        self.knowledge.clock.wall_is_off_by()
    }

    /// What is acted upon, beside what is published.
    fn deadlines(
        &self,
        published: Option<Deadline>,
        order: Option<Standing>,
        first_boot: u64,
        now: Now,
    ) -> Deadlines {
        let own = limit::own_limit(self.config).into_iter();
        let believed = own.chain(self.knowledge.ledger.believed(now.uptime));
        let (certain, planned): (Vec<Limit>, Vec<Limit>) =
            believed.partition(|limit| limit.kind == LimitKind::Notice);
        let mut deadlines = Deadlines {
            planned: decide(&planned, first_boot, self.grace(now)).deadline,
            certain: self.earliest_certain(&certain, first_boot, now),
            published,
            ..Deadlines::default()
        };
        if let Some(order) = order {
            self.add_order(&mut deadlines, &order, now);
        }
        deadlines
    }

    /// An order needs no belief; one of an earlier boot needs a clock that is trusted.
    fn add_order(&self, deadlines: &mut Deadlines, order: &Standing, now: Now) {
        deadlines.order = Some(order.id.clone());
        let Some(ordered) = self.ordered(order, now) else {
            return;
        };
        let place = match (ordered.kind.ends_the_machine(), order.is_of_earlier_boot) {
            (false, _) => &mut deadlines.drill,
            (true, true) => &mut deadlines.planned,
            (true, false) => &mut deadlines.certain,
        };
        let both = place.take().into_iter().chain([ordered]);
        *place = both.min_by_key(|deadline| deadline.at);
    }

    /// The deadline that an order sets.
    fn ordered(&self, order: &Standing, now: Now) -> Option<Deadline> {
        let limit = order.order.limit(&self.knowledge.clock);
        let mut deadline = decide(&[limit], 0, self.grace(now)).deadline?;
        let (time, min_uptime) = (self.time(now), self.config.min_uptime);
        let by_uptime = order.order.end_by_uptime(time, min_uptime, now);
        if let Some(end) = by_uptime.filter(|_| !order.is_of_earlier_boot) {
            let left = end.saturating_sub(now.uptime);
            let whole = left
                .as_secs()
                .saturating_add(u64::from(left.subsec_nanos() > 0));
            deadline.at = time.unix.saturating_add(whole);
        }
        self.give_grace(&mut deadline, order);
        Some(deadline)
    }

    fn give_grace(&self, deadline: &mut Deadline, order: &Standing) {
        if deadline.origin.source == LimitSource::Operator {
            let clock = &self.knowledge.clock;
            deadline.grace = order.order.grace(deadline.grace, clock);
        }
    }

    /// The earliest of limits that need no belief. The remaining time of a notice is its time
    /// minus the `Date` of the same answer, where another clock bears that out.
    fn earliest_certain(&self, limits: &[Limit], first_boot: u64, now: Now) -> Option<Deadline> {
        let deadlines = limits.iter().filter_map(|limit| {
            let alone = self.reckoned(limit.clone());
            let mut deadline = decide(&[alone], first_boot, self.grace(now)).deadline?;
            if let Some(over) = self.knowledge.ledger.over(&limit.origin) {
                let left = over.at.saturating_sub(now.uptime);
                let at = self
                    .time(now)
                    .unix
                    .saturating_add(clock::nearest_second(left));
                // A second is what whole seconds leave open: then it is the time that was said.
                if at.abs_diff(deadline.at) > 1 {
                    deadline.at = at;
                }
                if over.is_disputed {
                    // It may be the earlier one: drain begins at once.
                    let left = Duration::from_secs(deadline.at.saturating_sub(self.time(now).unix));
                    deadline.grace = deadline.grace.max(left);
                }
            }
            Some(deadline)
        });
        deadlines.min_by_key(|deadline| deadline.at)
    }

    /// A notice that says no time, with the one that it comes to by the clock that counts.
    fn reckoned(&self, limit: Limit) -> Limit {
        let over = self.knowledge.ledger.over(&limit.origin);
        match (&limit.when, over) {
            (When::AfterNotice(_), Some(over)) => Limit {
                when: When::Reckoned(self.knowledge.clock.unix_at(over.at)),
                ..limit
            },
            _ => limit,
        }
    }

    fn moment(&self, now: Now) -> Moment {
        Moment {
            time: self.time(now),
            uptime: now.uptime,
        }
    }

    fn lease(&self, keep: &Keep, now: Now) -> first_boot::Lease {
        let present = Present {
            boot_id: &self.boot_id,
            now: Now {
                wall: self.time(now).unix,
                ..now
            },
            is_believed: self.knowledge.clock.is_believed(),
            booted_at: self.knowledge.clock.booted_at(),
            is_drive_outdated: self.knowledge.ledger.is_drive_outdated(),
        };
        first_boot::lease(&self.places, &self.names(), keep, &present)
    }

    /// What is worth knowing in the next boot: the earliest limit of a source, as it is
    /// believed, or, where none is, as it was said. Not one that a cloud announces, which is
    /// over by then.
    fn to_keep(&self, first_boot: u64, now: Now) -> Keep {
        let ledger = &self.knowledge.ledger;
        let is_worth_it = |limit: &Limit| {
            // Nobody could take back one that cannot be read.
            let is_own = matches!(
                limit.origin.source,
                LimitSource::Configuration | LimitSource::Operator | LimitSource::Unknown
            );
            limit.kind == LimitKind::Planned && limit.is_usable() && !is_own
        };
        let earliest = |mut limits: Vec<Limit>| {
            limits.retain(is_worth_it);
            let origin = decide(&limits, first_boot, Duration::ZERO).deadline?.origin;
            limits.into_iter().find(|limit| limit.origin == origin)
        };
        let believed = earliest(ledger.believed(now.uptime));
        let is_believed = believed.is_some();
        match believed.or_else(|| earliest(ledger.limits())) {
            Some(limit) => Keep::Deadline(KeptDeadline {
                limit: Limit {
                    // When it was last confirmed changes each minute.
                    confirmed_at: None,
                    ..limit
                },
                is_believed,
            }),
            None if ledger.has_anybody_spoken() => Keep::Nothing,
            None => Keep::AsBefore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::first_boot::{Found, KeptBy};
    use crate::deadline::order::{End, Order, Purpose, Request};
    use crate::deadline::origin::Origin;

    const BOOTED: u64 = 1_800_000_000;
    const YEAR: u64 = 365 * 86_400;

    fn now(uptime: u64, ahead: u64) -> Now {
        Now {
            wall: BOOTED + uptime + ahead,
            uptime: Duration::from_secs(uptime),
            vouched: false,
        }
    }

    fn orders(end: End, purpose: Purpose) -> Orders {
        let order = Order {
            end,
            given: Duration::from_secs(100),
            given_at: BOOTED + 100,
            purpose,
            reason: None,
            is_to_be_kept: true,
        };
        Orders {
            request: Some(Request {
                id: "1".into(),
                order: Some(order),
            }),
            kept: None,
        }
    }

    const MACHINE: &str = "0e4d1c2b-8f6a-4b3c-9d1e-000000000001";

    fn follower(config: &config::Deadline) -> Follower<'_> {
        let machine = MACHINE.to_string();
        Follower::new(config, "1".into(), Some(machine), None, now(100, 0))
    }

    fn poweroff() -> config::Deadline {
        config::Deadline {
            action: config::Action::Poweroff,
            ..Default::default()
        }
    }

    /// The uptime at which the machine is ended, by a wall clock that is a year ahead from
    /// this uptime on.
    fn ended(orders: Orders, steps_at: u64) -> Option<u64> {
        let config = poweroff();
        let mut follower = follower(&config);
        follower.obey(orders);
        let mut done = Done::default();
        (100..4000).find(|uptime| {
            let ahead = if *uptime < steps_at { 0 } else { YEAR };
            let now = now(*uptime, ahead);
            follower.look(now);
            let decision = follower.decide(now);
            let steps = follower.due(&decision, &mut done, now);
            steps.contains(&Step::PowerOff)
        })
    }

    #[test]
    fn an_order_counts_by_the_clock_that_only_runs_and_needs_neither_belief_nor_min_uptime() {
        let soon = End::Uptime(Duration::from_millis(130_500));
        for steps_at in [4000, 120] {
            // Not before its time.
            assert_eq!(ended(orders(soon, Purpose::End), steps_at), Some(131));
            let at = End::At(BOOTED + 130);
            assert_eq!(ended(orders(at, Purpose::End), steps_at), Some(130));
        }
        for purpose in [Purpose::DrainOnly, Purpose::RehearseSpot] {
            assert_eq!(ended(orders(soon, purpose), 4000), None);
        }
    }

    #[test]
    fn an_order_that_only_drains_hides_no_end_once_it_is_over() {
        let config = poweroff();
        let mut follower = follower(&config);
        let end = Limit::new(
            Origin::new(LimitSource::Openstack, "vmstage_deadline"),
            When::At(BOOTED + 4000),
        );
        let statement = Statement {
            limits: vec![end],
            ..Statement::default()
        };
        follower.hear(LimitSource::Openstack, &statement, None, now(100, 0));
        follower.obey(orders(End::At(BOOTED + 130), Purpose::DrainOnly));
        let mut published = |uptime| {
            let now = now(uptime, 0);
            follower.look(now);
            let deadline = follower.decide(now).deadlines.published.unwrap();
            (deadline.kind, deadline.at - BOOTED, deadline.grace)
        };
        let (kind, at, grace) = published(129);
        assert_eq!((kind, at), (LimitKind::DrainOnly, 130));
        // No new work since then.
        let longer = grace + Duration::from_secs(4000 - 130);
        for uptime in [130, 131, 3999, 5000] {
            assert_eq!(published(uptime), (LimitKind::Planned, 4000, longer));
        }
    }

    #[test]
    fn no_number_is_too_large_to_be_reckoned_with() {
        let config = poweroff();
        for end in [End::Uptime(Duration::MAX), End::At(u64::MAX)] {
            for purpose in [Purpose::End, Purpose::DrainOnly, Purpose::RehearseSpot] {
                assert_eq!(ended(orders(end, purpose), 120), None);
                let mut orders = orders(end, purpose);
                let order = orders.request.as_mut().unwrap().order.as_mut().unwrap();
                (order.given, order.given_at) = (Duration::MAX, u64::MAX);
                ended(orders, 120);
            }
        }
        let mut follower = follower(&config);
        let origin = Origin::new(LimitSource::Openstack, "vmstage_lifetime");
        let when = When::from_lifetime("18446744073709551615");
        let statement = Statement {
            limits: vec![Limit::new(origin, when)],
            ..Statement::default()
        };
        for date in [BOOTED, u64::MAX] {
            follower.hear(LimitSource::Openstack, &statement, Some(date), now(100, 0));
            follower.decide(now(100, 0));
        }
    }

    /// One that was never set, of a machine without a battery and without NTP.
    #[test]
    fn a_machine_whose_clock_stands_in_1970_is_ended_as_ordered_and_hears_a_preemption() {
        let config = config::Deadline {
            drain: vec!["true".into()],
            ..poweroff()
        };
        let preempted = Limit::notice(
            Origin::new(LimitSource::Google, "preempted"),
            When::AfterNotice(Duration::from_secs(30)),
        );
        for (is_ordered, expected) in [(true, 131), (false, 130)] {
            let mut follower = follower(&config);
            let now = |uptime| Now {
                wall: uptime,
                ..now(uptime, 0)
            };
            follower.knowledge.clock = ClockTrust::new(now(100));
            if is_ordered {
                let soon = End::Uptime(Duration::from_millis(130_500));
                follower.obey(orders(soon, Purpose::End));
            } else {
                let statement = Statement {
                    limits: vec![preempted.clone()],
                    ..Statement::default()
                };
                follower.hear(LimitSource::Google, &statement, None, now(100));
            }
            let mut done = Done::default();
            let mut steps = |uptime| {
                follower.look(now(uptime));
                let decision = follower.decide(now(uptime));
                assert_eq!(decision.deadlines.published.as_ref().unwrap().at, expected);
                follower.due(&decision, &mut done, now(uptime))
            };
            assert!(matches!(steps(101)[..], [.., Step::Drain(_)]));
            let off = (102..500).find(|uptime| steps(*uptime).contains(&Step::PowerOff));
            // Drain was begun late, and is waited for; a notice says when the power goes.
            let expected = if is_ordered { 101 + 301 } else { expected };
            assert_eq!(off, Some(expected));
        }
    }

    /// A site's file in /etc/machinefeatures, and the same at a URL.
    #[test]
    fn what_was_over_before_the_first_boot_came_with_the_image_where_a_file_says_it() {
        let config = config::Deadline::default();
        let first_boot = BOOTED;
        // The uptime from which a service says what time it is.
        for (of_files, at, since, is_used) in [
            (true, first_boot - 3600, 100, false),
            // Nobody vouches for the clock, and nobody did before.
            (true, first_boot - 3600, 1000, true),
            (true, first_boot - 3600, 200, false),
            (true, first_boot + 50, 100, true),
            (true, first_boot - 50, 100, true),
            (false, first_boot - 3600, 100, true),
        ] {
            let mut follower = follower(&config);
            follower.read(places(None), now(100, 0));
            let mut statement = Statement {
                limits: vec![Limit::new(
                    Origin::new(LimitSource::MachineFeatures, "shutdowntime"),
                    When::At(at),
                )],
                ..Statement::default()
            };
            statement
                .of_files
                .extend(of_files.then(|| "shutdowntime".to_string()));
            let mut said = Vec::new();
            for up in [100, 160, 220, 280] {
                let none = Statement::default();
                let date = (up >= since).then_some(BOOTED + up);
                follower.hear(LimitSource::Openstack, &none, date, now(up, 0));
                let features = LimitSource::MachineFeatures;
                said.extend(follower.hear(features, &statement, None, now(up, 0)).said);
            }
            let planned = follower.decide(now(280, 0)).deadlines.planned;
            assert_eq!(planned.is_some(), is_used, "{at} {since}");
            assert_eq!(said.is_empty(), is_used, "{said:?}");
        }
    }

    #[test]
    fn an_own_limit_that_was_published_is_not_held_when_it_is_not_configured_any_more() {
        let config = config::Deadline::default();
        let mut follower = follower(&config);
        let own = at(LimitSource::Configuration, "max_lifetime", 1);
        follower.hold(own, true, now(100, 0));
        assert_eq!(follower.decide(now(100, 0)).deadlines.published, None);
    }

    fn at(source: LimitSource, key: &str, hours: u64) -> Limit {
        Limit::new(Origin::new(source, key), When::At(BOOTED + hours * 3600))
    }

    /// What the next boot acts upon, in which the service is silent, in hours after this one,
    /// in which these answers come beside those of a config drive with two hours.
    fn next_boot_acts_upon(
        answers: &[(u64, LimitSource, &[Limit])],
        orders: Orders,
    ) -> Option<u64> {
        let config = config::Deadline::default();
        let mut follower = follower(&config);
        let drive = at(LimitSource::ConfigDrive, "vmstage_deadline", 2);
        let hear = |follower: &mut Follower, source, limits: &[Limit], up| {
            let statement = Statement {
                limits: limits.to_vec(),
                ..Statement::default()
            };
            follower.hear(source, &statement, None, now(up, 0));
        };
        follower.read(places(None), now(100, 0));
        follower.obey(orders);
        for up in [100, 120] {
            hear(
                &mut follower,
                LimitSource::ConfigDrive,
                std::slice::from_ref(&drive),
                up,
            );
        }
        for (up, source, limits) in answers {
            hear(&mut follower, *source, limits, *up);
        }
        let (_, record) = follower.decide(now(5000, 0)).writes.pop().unwrap();
        let machine = Some(MACHINE.to_string());
        let mut next = Follower::new(&config, "2".into(), machine, None, now(100, 0));
        next.read(places(Some(record)), now(100, 0));
        for up in [100, 120] {
            hear(
                &mut next,
                LimitSource::ConfigDrive,
                std::slice::from_ref(&drive),
                up,
            );
        }
        let planned = next.decide(now(120, 0)).deadlines.planned;
        planned.map(|deadline| (deadline.at - BOOTED) / 3600)
    }

    fn places(record: Option<Record>) -> Vec<Place> {
        vec![Place {
            kept_by: KeptBy::Uuid,
            id: MACHINE.into(),
            file: PathBuf::from("record"),
            found: record.map_or(Found::Nothing, Found::Record),
        }]
    }

    #[test]
    fn the_next_boot_knows_the_earliest_that_was_believed_and_that_the_service_has_spoken() {
        const OPENSTACK: LimitSource = LimitSource::Openstack;
        let limit = |hours| [at(OPENSTACK, "vmstage_deadline", hours)];
        let (lie, right, later) = (limit(0), limit(9), limit(20));
        let both = [later.clone(), [at(OPENSTACK, "another", 5)]].concat();
        type Case<'a> = (&'a [(u64, LimitSource, &'a [Limit])], Option<u64>);
        let cases: [Case; 5] = [
            (&[], Some(2)),
            (
                &[(140, OPENSTACK, &right), (160, OPENSTACK, &right)],
                Some(9),
            ),
            // Said once, right before the reboot.
            (
                &[
                    (140, OPENSTACK, &right),
                    (160, OPENSTACK, &right),
                    (4990, OPENSTACK, &lie),
                ],
                Some(9),
            ),
            // It has no limit any more.
            (&[(140, OPENSTACK, &[]), (160, OPENSTACK, &[])], None),
            (&[(140, OPENSTACK, &both), (160, OPENSTACK, &both)], Some(5)),
        ];
        for (answers, expected) in cases {
            for purpose in [None, Some(Purpose::RehearseSpot)] {
                let soon = End::Uptime(Duration::from_secs(9000));
                let orders = purpose.map(|purpose| orders(soon, purpose));
                let found = next_boot_acts_upon(answers, orders.unwrap_or_default());
                assert_eq!(found, expected, "{answers:?} {purpose:?}");
            }
        }
    }

    #[test]
    fn a_kept_order_of_an_earlier_boot_waits_for_min_uptime() {
        let config = poweroff();
        let mut follower = follower(&config);
        follower.obey(orders(End::At(BOOTED + 130), Purpose::End));
        let kept = follower.order_to_keep();
        assert!(kept.is_some());
        let request = None;
        assert_eq!(ended(Orders { request, kept }, 4000), Some(700));
    }

    #[test]
    fn what_was_published_of_an_order_is_not_held_when_it_is_cancelled() {
        let config = poweroff();
        let mut follower = follower(&config);
        follower.obey(orders(End::At(BOOTED + 130), Purpose::End));
        let published = follower.decide(now(100, 0)).deadlines.published.unwrap();
        assert_eq!(published.at, BOOTED + 130);
        follower.obey(Orders::default());
        let limit = Limit::new(published.origin, When::At(published.at));
        follower.hold(limit, true, now(100, 0));
        assert_eq!(follower.decide(now(100, 0)).deadlines, Deadlines::default());
    }
}
