//! Following the deadline: asking again, telling what changed, and in the end doing
//! what is configured.
//!
//! A loop without threads that paces itself by sleeping: on kernels before 2.6.25
//! std's timed waits spin.

pub mod drain;
mod due;
mod poweroff;
mod progress;
mod schedule;

use std::time::Duration;

use log::{info, warn};

use crate::backoff::{jitter, wait_before_next_try};
use crate::clock::{self, Now};
use crate::config::Config;
use crate::deadline::decide::Deadline;
use crate::deadline::limit::{self, IgnoredLimit, Limit};
use crate::host::Host;
use crate::logging::Notices;
use crate::metadata::{Asked, Instance, MACHINE_FEATURES, Metadata, NoAnswer};
use crate::report::{self, callback, terminals};
use crate::status::{self, Status};

use drain::Drain;
use due::{Step, Trust, due};
use progress::Progress;

/// For how long one of these wants to be left alone.
fn longest_wait(asked: &[Asked]) -> Duration {
    let waits = asked.iter().filter_map(|asked| asked.retry_after);
    waits.max().unwrap_or_default()
}

/// What is known, what was done, and when there is something to do again.
pub struct Watch<'a> {
    host: &'a Host,
    notices: &'a Notices,
    config: &'a Config,
    metadata: Metadata<'a>,
    /// The deadline of the status file, until the source that it is from has spoken.
    held: Option<Limit>,
    ignored: Vec<IgnoredLimit>,
    instance: Option<Instance>,
    deadline: Option<Deadline>,
    asked: Vec<Asked>,
    trust: Trust,
    progress: Progress,
    drain: Option<Drain>,
    /// The uptime at which each of these is next.
    next_ask: Duration,
    next_spot: Duration,
    failed_spots: u32,
    next_callback: Duration,
    failed_callbacks: u32,
    ordered_off: Option<Duration>,
    has_asked: bool,
    told: Option<Told>,
    last_status: Option<Status>,
}

/// What does not end with the configuration.
pub(crate) struct Carried {
    trust: Trust,
    drain: Option<Drain>,
}

/// What consumers were told last.
type Told = (Option<status::Deadline>, Option<Instance>);

impl<'a> Watch<'a> {
    /// Takes up where `boot`, or a `watch` before this one, left off.
    pub fn start(host: &'a Host, notices: &'a Notices, config: &'a Config, now: Now) -> Watch<'a> {
        let status = Status::read(host).ok().flatten();
        let progress = Progress::read(host);
        let mut watch = Watch {
            host,
            notices,
            config,
            metadata: Metadata::new(host, config),
            held: None,
            ignored: Vec::new(),
            instance: status.and_then(|status| status.instance),
            deadline: None,
            asked: Vec::new(),
            trust: progress.trust().unwrap_or_else(|| Trust::new(now)),
            progress,
            drain: None,
            next_ask: now.uptime + schedule::first_ask(jitter()),
            next_spot: now.uptime,
            failed_spots: 0,
            next_callback: now.uptime,
            failed_callbacks: 0,
            ordered_off: None,
            has_asked: false,
            told: None,
            last_status: None,
        };
        watch.follow_the_clocks(now);
        watch.decide(now);
        watch.publish();
        watch
    }

    /// What a `watch` with an older configuration was at goes on.
    pub(crate) fn carry_on(&mut self, carried: Option<Carried>) {
        if let Some(Carried { trust, drain }) = carried {
            self.trust = trust;
            self.drain = drain;
        }
    }

    /// Ends this one; another, with a newer configuration, carries on.
    pub(crate) fn hand_over(self) -> Carried {
        Carried {
            trust: self.trust,
            drain: self.drain,
        }
    }

    /// One look at the clocks, and whatever is due by them.
    pub fn tick(&mut self, now: Now) {
        let stepped = self.follow_the_clocks(now);
        let asked = self.ask_if_due(now);
        let noticed = self.ask_for_spot_notice_if_due(now);
        if asked || noticed || stepped {
            self.decide(now);
            self.publish();
        }
        self.act(now);
        self.call_back_if_due(now);
        if self.drain.as_mut().is_some_and(Drain::has_ended) {
            self.drain = None;
        }
    }

    fn ask_if_due(&mut self, now: Now) -> bool {
        if now.uptime < self.next_ask {
            return false;
        }
        self.has_asked = true;
        let asked = self.metadata.ask_again(self.config.metadata.timeout);
        self.plan_to_ask_again(&asked, now);
        // Of sources that had no turn in this round the last one counts.
        self.asked
            .retain(|old| asked.iter().all(|new| new.source != old.source));
        self.asked.extend(asked);
        if !self.metadata.names_features() {
            self.asked.retain(|asked| asked.source != MACHINE_FEATURES);
        }
        // An answer that does not say who this is does not make it somebody else.
        self.instance = match self.metadata.instance() {
            Some(said) if said.id.is_some() || self.instance.is_none() => Some(said),
            _ => self.instance.take(),
        };
        true
    }

    fn plan_to_ask_again(&mut self, asked: &[Asked], now: Now) {
        let wait = longest_wait(asked);
        self.next_ask = now.uptime + schedule::next_ask(jitter()).max(wait);
        // The service was asked for a notice as well, or wants to be left alone.
        if asked.iter().any(|asked| asked.source != MACHINE_FEATURES) {
            let wait = wait.max(schedule::SPOT_PERIOD);
            self.next_spot = self.next_spot.max(now.uptime + wait);
        }
    }

    fn ask_for_spot_notice_if_due(&mut self, now: Now) -> bool {
        if !self.metadata.has_spot_notices() || now.uptime < self.next_spot {
            return false;
        }
        let budget = self.config.metadata.request_timeout;
        let noticed = self.metadata.ask_for_spot_notice(budget);
        let retry_after = noticed.as_ref().err().and_then(NoAnswer::retry_after);
        self.failed_spots = match noticed {
            Ok(()) => 0,
            Err(_) => self.failed_spots.saturating_add(1),
        };
        let wait = schedule::next_spot(self.failed_spots, jitter(), retry_after);
        self.next_spot = now.uptime + wait;
        if let Err(e) = &noticed {
            // It is the same service.
            let left_alone = now.uptime + retry_after.unwrap_or_default();
            self.next_ask = self.next_ask.max(left_alone);
            self.notices
                .warn_once(format!("no spot notice can be had: {e}"));
        }
        noticed.is_ok()
    }

    /// Works out the deadline from everything that is known now.
    fn decide(&mut self, now: Now) {
        self.hold(now);
        let id = self
            .instance
            .as_ref()
            .and_then(|instance| instance.id.clone());
        let (decision, warnings) = self.metadata.decide(self.held.clone(), id.as_deref(), now);
        warnings
            .iter()
            .for_each(|warning| self.notices.warn_once(warning));
        self.ignored = decision.ignored;
        self.say_how_it_moved(decision.deadline.as_ref(), now);
        self.deadline = decision.deadline;
    }

    /// Holds on to what the status says, which `boot` may write after this has started,
    /// for as long as the source that said so is silent. What the image or a lifetime
    /// says is worked out anew, by a clock that may have been set since.
    fn hold(&mut self, now: Now) {
        let Ok(Some(status)) = Status::read(self.host) else {
            return;
        };
        if self.instance.is_none() {
            self.instance = status.instance;
        }
        let held = status.deadline.filter(|deadline| {
            let confirmed_at = deadline.confirmed_at.as_deref().and_then(clock::parse_utc);
            // By a clock that has been set since, a lifetime ends at another time.
            let origin = deadline.given_by();
            let is_lifetime = origin.key == limit::LIFETIME;
            let is_stale = is_lifetime && confirmed_at < self.clock_set_at(now);
            confirmed_at.is_some() && !is_stale && !self.metadata.has_heard_of(&origin)
        });
        self.held = held.as_ref().map(Limit::held);
    }

    /// In Unix seconds by the clock as it is now; None where it has not been set.
    fn clock_set_at(&self, now: Now) -> Option<u64> {
        let since_then = now
            .uptime
            .as_secs()
            .checked_sub(self.progress.done().clock_set_at)?;
        (self.progress.done().clock_set_at > 0).then(|| now.wall.saturating_sub(since_then))
    }

    /// Says whether the wall clock was set, also while no `watch` was running.
    fn follow_the_clocks(&mut self, now: Now) -> bool {
        let stepped = self.trust.notice(now);
        let mut done = self.progress.done().clone();
        if let Some(step) = stepped {
            info!("the clock was set by {step} s");
            done.clock_set_at = now.uptime.as_secs();
        }
        self.progress.keep(self.notices, done, self.trust);
        stepped.is_some()
    }

    fn say_how_it_moved(&self, new: Option<&Deadline>, now: Now) {
        let drained = self.progress.done().drained;
        match (&self.deadline, new) {
            (Some(old), Some(new)) if old.at == new.at => {}
            (old, Some(new)) => {
                info!(
                    "the machine must be gone by {} ({}): {}",
                    clock::utc(new.at),
                    clock::relative(new.at, now.wall),
                    new.origin
                );
                if drained && old.as_ref().is_some_and(|old| old.at < new.at) {
                    warn!("the deadline moved later, but drain has begun: that is not undone");
                }
            }
            (Some(_), None) => info!("there is no deadline any more"),
            (None, None) => {}
        }
    }

    /// Brings the status up to date, and tells everybody else what changed, if it did.
    fn publish(&mut self) {
        // `boot` may be about to write what became of another one.
        let turn = status::lock(self.host);
        let read = match Status::read(self.host) {
            // It could not be written the last time: /run was full, say.
            Ok(read) => read.or(self.last_status.take()),
            Err(e) => return self.notices.warn_once(format!("{e:#}")),
        };
        let Some(mut status) = read else {
            return self
                .notices
                .warn_once("there is no status of this boot to add to");
        };
        let deadline = self.deadline.as_ref();
        let written = status.deadline.take();
        status.ignored_limits = self.ignored.clone();
        status.deadline = deadline.map(|deadline| deadline.published(self.config.deadline.action));
        status.instance = self.instance.clone();
        if !self.asked.is_empty() {
            status.sources = self.asked.iter().map(Asked::published).collect();
        }
        report::note(self.notices, "the status file", status.put(self.host));
        drop(turn);
        self.last_status = Some(status.clone());

        // When it was last confirmed is for the status alone.
        let unconfirmed = |deadline: status::Deadline| status::Deadline {
            confirmed_at: None,
            ..deadline
        };
        let by_others = written.map(unconfirmed) != status.deadline.clone().map(unconfirmed);
        let told = (
            status.deadline.clone().map(unconfirmed),
            status.instance.clone(),
        );
        if by_others || self.told.as_ref() != Some(&told) {
            report::deadline(self.host, self.notices, &status, self.config);
            self.told = Some(told);
        }
    }

    fn act(&mut self, now: Now) {
        let Some(deadline) = &self.deadline else {
            self.ordered_off = None;
            return;
        };
        let (at, origin) = (deadline.at, deadline.origin.clone());
        let mut done = self.progress.done().clone();
        let steps = due(
            at,
            deadline.grace,
            &self.config.deadline,
            &mut done,
            now,
            self.trust.lasted(),
        );
        // Before it is done: after a crash in between it is better left out than done twice.
        self.progress.keep(self.notices, done, self.trust);
        if !steps.contains(&Step::PowerOff) {
            self.ordered_off = None;
        }
        for step in steps {
            match step {
                Step::Warn => self.warn_users(now),
                Step::Drain => self.start_drain(at),
                Step::Report => warn!("the deadline is reached: {} ({origin})", clock::utc(at)),
                Step::PowerOff => self.power_off(now),
            }
        }
    }

    fn warn_users(&self, now: Now) {
        let Some(deadline) = &self.deadline else {
            return;
        };
        let text = terminals::warning(&deadline.published(self.config.deadline.action), now.wall);
        info!("warning users: {text}");
        if self.config.report.terminals {
            report::note(
                self.notices,
                "logged-in users",
                terminals::write(self.host, &text).map(drop),
            );
        }
    }

    fn start_drain(&mut self, at: u64) {
        match Drain::start(self.config, at) {
            Ok(drain) => self.drain = Some(drain),
            Err(e) => warn!("drain: {e:#}"),
        }
    }

    fn power_off(&mut self, now: Now) {
        match self.ordered_off {
            None => {
                self.ordered_off = Some(now.uptime);
                poweroff::ask_init(self.host);
            }
            Some(at) if now.uptime >= at + poweroff::PATIENCE => {
                self.ordered_off = Some(now.uptime);
                poweroff::ask_kernel();
            }
            Some(_) => {}
        }
    }

    fn call_back_if_due(&mut self, now: Now) {
        let wanted = self.config.callback.url.is_some() && !self.progress.done().called_back;
        let knows_who = self.instance.is_some() || self.has_asked;
        if !wanted || !knows_who || now.uptime < self.next_callback {
            return;
        }
        // Nobody is told of a boot that has not ended.
        let Ok(Some(status)) = Status::read(self.host) else {
            return;
        };
        let failure = match callback::post(self.host, &status, self.config) {
            Ok(true) => {
                info!("the callback was told what became of the boot");
                return self.keep_called_back();
            }
            // Of a failed boot there is nothing to say; another one may follow.
            Ok(false) => {
                self.next_callback = now.uptime + schedule::PERIOD;
                return;
            }
            Err(failure) => failure,
        };
        self.failed_callbacks += 1;
        let chance = jitter();
        match wait_before_next_try(
            &failure.cause,
            self.failed_callbacks,
            chance,
            false,
            Duration::MAX,
        ) {
            Some(wait) => {
                let wait = wait.max(schedule::next_callback(self.failed_callbacks - 1, chance));
                warn!(
                    "the callback was not told: {failure}; trying again in {}",
                    clock::span(wait)
                );
                self.next_callback = now.uptime + wait;
            }
            None => {
                warn!("the callback was not told: {failure}; it is not tried again");
                self.keep_called_back();
            }
        }
    }

    fn keep_called_back(&mut self) {
        let mut done = self.progress.done().clone();
        done.called_back = true;
        self.progress.keep(self.notices, done, self.trust);
    }
}
