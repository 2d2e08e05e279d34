//! Following the deadline: asking again, telling what changed, and in the end doing
//! what is configured.
//!
//! A loop without threads that sleeps until something is due. What is due, and what holds,
//! the follower says.

mod acknowledging;
mod asking;
mod call_back;
mod drain;
mod duties;
pub(crate) mod guard;
mod held;
mod orders;
pub(crate) mod poweroff;
mod progress;
pub(crate) mod schedule;
pub(crate) mod sleep;
mod telling;
mod waiting;

use std::mem;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::backoff::jitter;
use crate::clock::{self, Now};
use crate::config::Config;
use crate::deadline::decide::Deadline;
use crate::deadline::due::Step;
use crate::deadline::follower::{Decision, Follower, Knowledge};
use crate::deadline::limit::Limit;
use crate::deadline::order::{KeptOrder, Orders};
use crate::deadline::records;
use crate::host::Host;
use crate::host::this_boot::ThisBoot;
use crate::logging::Notices;
use crate::metadata::{Asked, Instance, Metadata};
use crate::status::{self, Status};

use acknowledging::Acknowledged;
use drain::Drain;
use duties::Duties;
use guard::Guard;
use held::Waiting;
use progress::Progress;
use schedule::Asking;

/// What is known, what was done, and when there is something to do again.
pub struct Watch<'a> {
    host: &'a Host,
    notices: &'a Notices,
    config: &'a Config,
    metadata: Metadata<'a>,
    follower: Follower<'a>,
    known: ThisBoot<Knowledge>,
    /// As it was last written or read.
    last_known: Option<Knowledge>,
    instance: Option<Instance>,
    decision: Decision,
    asked: Vec<Asked>,
    progress: Progress,
    drain: Option<Drain>,
    /// The uptime at which each of these is next.
    asking: Asking,
    waiting: Waiting,
    acknowledged: Acknowledged,
    next_spot: Duration,
    /// The site of the features wants no second answer asked for before this uptime.
    features_left_alone: Duration,
    failed_spots: u32,
    next_callback: Duration,
    failed_callbacks: u32,
    ordered_off: Option<Duration>,
    /// The operator's order that is kept for the next boot.
    kept_order: Option<KeptOrder>,
    has_asked: bool,
    clock_is_said_off: bool,
    told: Option<Told>,
    last_status: Option<Status>,
    guard: Guard,
}

/// What does not end with the configuration: also what could not be written down, where /run
/// is full.
pub(crate) struct Carried {
    drain: Option<Drain>,
    progress: Progress,
    knowledge: Knowledge,
    orders: Orders,
}

/// What consumers were told last; and whether the drain command ran then.
type Told = (Option<status::Deadline>, Option<Instance>, bool);

impl<'a> Watch<'a> {
    /// Takes up where `boot`, or a `watch` before this one, left off.
    pub fn start(host: &'a Host, notices: &'a Notices, config: &'a Config, now: Now) -> Watch<'a> {
        Watch::carry_on(host, notices, config, None, Guard::default(), now)
    }

    /// The same; what a `watch` with an older configuration was at goes on.
    pub(crate) fn carry_on(
        host: &'a Host,
        notices: &'a Notices,
        config: &'a Config,
        carried: Option<Carried>,
        guard: Guard,
        now: Now,
    ) -> Watch<'a> {
        let mut follower = records::follow(host, &config.deadline, now);
        let (drain, progress) = match carried {
            Some(carried) => {
                follower.carry_on(carried.knowledge);
                follower.obey(records::orders(host, &carried.orders));
                (carried.drain, carried.progress)
            }
            None => (None, Progress::read(host)),
        };
        let metadata = Metadata::new(host, config);
        let first = match metadata.is_of_a_cloud_with_notices() {
            true => schedule::SPOT_PERIOD,
            false => schedule::PERIOD,
        };
        let mut watch = Watch {
            host,
            notices,
            config,
            metadata,
            follower,
            known: records::knowledge(host),
            last_known: None,
            instance: None,
            decision: Decision::default(),
            asked: Vec::new(),
            progress,
            drain,
            asking: Asking::begin(first, now.uptime, jitter()),
            waiting: Waiting::default(),
            acknowledged: Acknowledged::default(),
            next_spot: now.uptime,
            features_left_alone: Duration::ZERO,
            failed_spots: 0,
            next_callback: now.uptime,
            failed_callbacks: 0,
            ordered_off: None,
            kept_order: None,
            has_asked: false,
            clock_is_said_off: false,
            told: None,
            last_status: None,
            guard,
        };
        watch.follow_the_clocks(now);
        watch.learn(now);
        watch.decide(now);
        watch.publish(now);
        watch.begin_with_orders();
        let wanted = watch.follower.wants_second_answer();
        watch.asking.want(wanted, jitter());
        watch
    }

    /// Ends this one; another, with a newer configuration, carries on.
    pub(crate) fn hand_over(self) -> (Carried, Guard) {
        let carried = Carried {
            drain: self.drain,
            progress: self.progress,
            knowledge: self.follower.knowledge().clone(),
            orders: self.follower.orders().clone(),
        };
        (carried, self.guard.stand_down())
    }

    /// One look at the clocks, and whatever is due by them.
    pub fn tick(&mut self, now: Now) {
        self.follow_the_clocks(now);
        self.keep_order_up_to_date();
        self.metadata.judge_by(self.follower.identity());
        let start = Instant::now();
        let asked = self.ask_if_due(now);
        // Services may have taken seconds, and what was heard meanwhile is younger.
        let now = now.after(start.elapsed());
        let noticed = self.ask_for_spot_notice_if_due(now) | self.hear_from_held_requests(now);
        if asked {
            self.learn(now);
        }
        let changed = self.decide(now);
        self.note_the_end_of_drain();
        let steps = self.due(now).into_iter();
        // Jobs get all the time that there is: telling everybody may take seconds.
        let (drain, others): (Vec<Step>, Vec<Step>) = steps.partition(Step::is_drain);
        self.act(drain, now);
        let told = self.told.as_ref();
        let is_other_drain = told.is_some_and(|told| told.2 != self.is_draining());
        if asked || noticed || changed || is_other_drain {
            self.publish(now);
        }
        self.act(others, now);
        self.mark_kept_drain_as_done(now);
        self.acknowledge_events(now);
        self.call_back_if_due(now);
        // The power may have been asked to go, and that this is done is news as well.
        self.tell_guard(&self.decision.clone(), now);
    }

    /// The uptime of the next tick that is needed, unless the wall clock is set.
    pub(crate) fn next_tick(&self, now: Now) -> Duration {
        let spot = self.metadata.has_spot_notices().then_some(self.next_spot);
        let callback = self.wants_to_call_back().then_some(self.next_callback);
        let drain = self
            .is_draining()
            .then_some(now.uptime + schedule::DRAIN_TICK);
        let off = self.ordered_off.map(|at| at + poweroff::PATIENCE);
        let due = self
            .follower
            .next(&self.decision, self.progress.done(), now);
        let held = self.waiting.next(&self.metadata.waits());
        let all = [spot, callback, drain, off, due, held];
        let next = all.into_iter().flatten().min();
        next.map_or(self.asking.next(), |next| next.min(self.asking.next()))
    }

    fn duties<'b>(&'b self, decision: &'b Decision) -> Duties<'b> {
        Duties {
            host: self.host,
            config: self.config,
            follower: &self.follower,
            decision,
            done: self.progress.done(),
            ordered_off: self.ordered_off,
        }
    }

    fn tell_guard(&mut self, decision: &Decision, now: Now) {
        let mut guard = mem::take(&mut self.guard);
        guard.tell(self.duties(decision), now);
        self.guard = guard;
    }

    /// Whether the drain command runs, also one that a `watch` before this one has started.
    fn is_draining(&self) -> bool {
        let done = self.progress.done();
        let is_awaited = done.drained && !done.drain_ended;
        self.drain.is_some() || is_awaited && drain::is_running(self.host)
    }

    /// What can be read from as soon as there is something to hear.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.waiting.descriptors()
    }

    /// Works out what holds from everything that is known now. Says whether that is new.
    fn decide(&mut self, now: Now) -> bool {
        let decision = self.follower.decide(now);
        // Before anything is done that may hang.
        self.tell_guard(&decision, now);
        for warning in &decision.warnings {
            self.notices.warn_once(warning);
        }
        // One answer of nobody known may be another instance's.
        if !decision.writes.is_empty() && !self.follower.is_instance_in_doubt() {
            for failed in records::write(&decision.writes) {
                self.notices.warn_once(failed);
            }
            self.read_records(now);
        }
        self.keep_what_is_known();
        self.say_how_it_moved(&decision.deadlines, now);
        let is_new = decision != self.decision;
        self.decision = decision;
        is_new
    }

    /// What `boot` may have found out and written after this has started.
    fn learn(&mut self, now: Now) {
        if let Ok(Some(known)) = self.known.read()
            && self.last_known.as_ref() != Some(&known)
        {
            self.follower.learn(&known);
        }
        let Ok(Some(status)) = Status::read(self.host) else {
            return;
        };
        if self.instance.is_none() {
            self.instance = status.instance;
        }
        let confirmed = |deadline: &status::Deadline| deadline.confirmed_at.is_some();
        if let Some(deadline) = status.deadline.filter(confirmed) {
            let is_believed = !deadline.unconfirmed;
            self.follower.hold(Limit::held(&deadline), is_believed, now);
        }
        self.read_records(now);
    }

    fn read_records(&mut self, now: Now) {
        if let Some(places) = records::read_again(self.host, &self.follower.names()) {
            self.follower.read(places, now);
        }
    }

    fn keep_what_is_known(&mut self) {
        let known = self.follower.knowledge();
        let last = self.last_known.as_ref();
        if last.is_some_and(|last| last.stands_for(known)) {
            return;
        }
        if let Err(e) = records::keep(&self.known, known) {
            self.notices.warn_once(format!(
                "cannot write {}: {e:#}; after a crash less is known",
                self.known.path().display()
            ));
        }
        self.last_known = Some(known.clone());
    }

    fn follow_the_clocks(&mut self, now: Now) {
        if let Some(moved) = self.follower.look(now) {
            info!("{moved}");
        }
        let off = self.follower.wall_is_off_by();
        if let Some(off) = off.filter(|_| !self.clock_is_said_off) {
            let by = clock::span(Duration::from_secs(off.unsigned_abs()));
            let way = if off > 0 { "ahead of" } else { "behind" };
            warn!("the wall clock is {by} {way} the time that is believed");
        }
        self.clock_is_said_off = off.is_some();
    }

    fn due(&mut self, now: Now) -> Vec<Step> {
        let mut done = self.progress.done().clone();
        if self.guard.has_drained() {
            info!("drain has run while this hung");
            done.note_drain(&self.config.deadline, now.uptime);
        }
        let steps = self.follower.due(&self.decision, &mut done, now);
        // Before it is done: after a crash in between it is better left out than done twice.
        self.progress.keep(self.notices, done);
        if !steps.contains(&Step::PowerOff) {
            self.ordered_off = None;
        }
        steps
    }

    fn act(&mut self, steps: Vec<Step>, now: Now) {
        for step in steps {
            match step {
                Step::Warn => self.duties(&self.decision).warn_users(self.notices, now),
                Step::Drain(deadline) => self.start_drain(&deadline, now),
                Step::Report => self.say_that_it_is_reached(),
                Step::PowerOff => self.power_off(now),
            }
        }
    }

    fn note_the_end_of_drain(&mut self) {
        let done = self.progress.done();
        let has_ended = match &mut self.drain {
            Some(drain) => drain.has_ended(),
            // A `watch` before this one has started it.
            None => done.drained && !done.drain_ended && drain::has_ended(self.host),
        };
        if has_ended {
            self.drain = None;
            let mut done = self.progress.done().clone();
            done.drain_ended = true;
            self.progress.keep(self.notices, done);
        }
    }

    fn start_drain(&mut self, deadline: &Deadline, now: Now) {
        if !self.guard.may_drain() {
            return info!("drain has run while this hung");
        }
        self.drain = self.duties(&self.decision).start_drain(deadline, now);
        // The next step may hang.
        self.tell_guard(&self.decision.clone(), now);
    }

    fn power_off(&mut self, now: Now) {
        match self.ordered_off {
            None => {
                self.ordered_off = Some(now.uptime);
                self.forget_order_that_is_carried_out(now);
                poweroff::ask_init(self.host);
            }
            Some(at) if now.uptime >= at + poweroff::PATIENCE => {
                self.ordered_off = Some(now.uptime);
                poweroff::ask_kernel();
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::due::Done;
    use crate::deadline::ledger::Statement;
    use crate::deadline::origin::LimitSource;
    use crate::host::tree::Tree;

    const NOW: Now = Now {
        wall: 1_800_000_000,
        uptime: Duration::from_secs(3600),
        vouched: false,
    };

    fn asks_nobody() -> Config {
        Config::parse("[metadata]\nsources = []").unwrap()
    }

    /// Else a reload would begin a second drain beside the first.
    #[test]
    fn what_cannot_be_written_is_carried_over_a_reload() {
        let (progress, known) = ("run/vmstage/watch.json/x", "run/vmstage/deadline.json/x");
        let boot_id = ("proc/sys/kernel/random/boot_id", "first\n");
        let tree = Tree::new(&[boot_id, (progress, ""), (known, "")]);
        let (host, notices) = (tree.host(), Notices::default());
        let config = asks_nobody();
        let mut watch = Watch::start(&host, &notices, &config, NOW);
        let done = Done {
            drained: true,
            ..Done::default()
        };
        watch.progress.keep(&notices, done.clone());
        let none = Statement::default();
        watch.follower.hear(LimitSource::Google, &none, None, NOW);
        let carried = Some(watch.hand_over().0);
        assert_eq!(Progress::read(&host).done(), &Done::default());
        let watch = Watch::carry_on(&host, &notices, &config, carried, Guard::default(), NOW);
        assert_eq!(watch.progress.done(), &done);
        let ledger = &watch.follower.knowledge().ledger;
        assert!(ledger.has_spoken(LimitSource::Google));
    }

    /// Else a machine that is to end by an order stays where the disk with that begins to hang.
    #[test]
    fn an_order_that_cannot_be_read_any_more_is_carried_over_a_reload() {
        for (place, content) in [
            (
                "run/vmstage/end.json",
                r#"{"boot_id": "first", "id": "a", "order": null}"#,
            ),
            (
                "var/lib/vmstage/end.json",
                r#"{"id": "b", "at": 1800003600, "purpose": "end", "reason": null,
                    "machine": null, "uuid": null}"#,
            ),
        ] {
            let boot_id = ("proc/sys/kernel/random/boot_id", "first\n");
            let tree = Tree::new(&[boot_id, ("run/", ""), (place, content)]);
            let (host, notices) = (tree.host(), Notices::default());
            let config = asks_nobody();
            let mut watch = Watch::start(&host, &notices, &config, NOW);
            let before = watch.follower.orders().clone();
            assert_ne!(before, Orders::default(), "{place}");
            let file = tree.root().join(place);
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir(&file).unwrap();
            let carried = Some(watch.hand_over().0);
            watch = Watch::carry_on(&host, &notices, &config, carried, Guard::default(), NOW);
            assert_eq!(watch.follower.orders(), &before);
            watch.take_orders(NOW);
            assert_eq!(watch.follower.orders(), &before);
            // What is not there any more is none.
            std::fs::remove_dir(&file).unwrap();
            watch.take_orders(NOW);
            assert_eq!(watch.follower.orders(), &Orders::default());
        }
    }
}
