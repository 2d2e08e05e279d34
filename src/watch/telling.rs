//! Telling everybody what holds, and saying what changed.

use anyhow::Result;
use log::{info, warn};

use super::Watch;
use crate::clock::{self, Now};
use crate::deadline::due::Deadlines;
use crate::deadline::limit::LimitKind;
use crate::metadata::Asked;
use crate::report;
use crate::status::{self, Status};

impl Watch<'_> {
    /// Brings the status up to date, and tells everybody else what changed, if it did.
    pub(super) fn publish(&mut self, now: Now) {
        self.publish_beside(now, || ());
    }

    /// The same, while another process does something as soon as the status is up to date.
    fn publish_beside(&mut self, now: Now, mut other: impl FnMut()) {
        // `boot` may find the deadline, and tell it, while this tells that there is none.
        for _ in 0..2 {
            let Some((status, written)) = self.bring_status_up_to_date(now) else {
                return;
            };
            other();
            self.tell(&status, written);
            if !self.is_deadline_of_boots(&Status::read(self.host)) {
                return;
            }
        }
    }

    /// Hands back what the status says now, and the deadline that another process had written
    /// there.
    fn bring_status_up_to_date(&mut self, now: Now) -> Option<(Status, Option<status::Deadline>)> {
        // `boot` may be about to write what became of another one.
        let mut turn = status::lock(self.host);
        let mut read = Status::read(self.host);
        if self.is_deadline_of_boots(&read) {
            drop(turn);
            self.learn(now);
            self.decide(now);
            turn = status::lock(self.host);
            read = Status::read(self.host);
        }
        let read = match read {
            // It could not be written the last time: /run was full, say.
            Ok(read) => read.or(self.last_status.take()),
            // Else nobody would be told of anything in this boot.
            Err(e) => {
                self.notices
                    .warn_once(format!("the status is written anew: {e:#}"));
                Some(self.last_status.take().unwrap_or_else(|| Status {
                    error: Some(format!("what boot had written was lost: {e:#}")),
                    ..Status::begin_after(self.host, None)
                }))
            }
        };
        let Some(mut status) = read else {
            self.notices
                .warn_once("there is no status of this boot to add to");
            return None;
        };
        let written = status.deadline.take();
        status.ignored_limits = self.decision.ignored.clone();
        status.deadline = self.decision.published(self.config.deadline.action);
        status.is_draining = self.is_draining();
        // `boot` may have found it out after this has started.
        self.instance = self.instance.take().or(status.instance.take());
        status.instance = self.instance.clone();
        if let Some(wrong) = status.compare_resources(self.host) {
            self.notices.warn_once(wrong);
        }
        if !self.asked.is_empty() {
            status.sources = self.asked.iter().map(Asked::published).collect();
        }
        report::note(self.notices, "the status file", status.put(self.host));
        drop(turn);
        self.last_status = Some(status.clone());
        Some((status, written))
    }

    /// Tells everybody else, to whom `written` may have been told before.
    fn tell(&mut self, status: &Status, written: Option<status::Deadline>) {
        let by_others = written.map(unconfirmed) != status.deadline.clone().map(unconfirmed);
        let told = (
            status.deadline.clone().map(unconfirmed),
            status.instance.clone(),
            status.is_draining,
        );
        if by_others || self.told.as_ref() != Some(&told) {
            report::deadline(self.host, self.notices, status, self.config);
            self.told = Some(told);
        } else {
            report::still_holds(self.host, self.notices, status, self.config);
        }
    }

    /// Whether `boot` has found the deadline since this has read what is known: to this, there
    /// would be none.
    fn is_deadline_of_boots(&self, read: &Result<Option<Status>>) -> bool {
        let told = self.told.as_ref().and_then(|told| told.0.as_ref());
        let Ok(Some(status)) = read else {
            return false;
        };
        let found = status.deadline.as_ref().map(|found| found.at);
        found.is_some() && found != told.map(|told| told.at)
    }

    pub(super) fn say_how_it_moved(&self, deadlines: &Deadlines, now: Now) {
        let drained = self.progress.done().drained;
        let before = &self.decision.deadlines;
        // Also one behind an earlier deadline stands.
        let is_rehearsal = |deadlines: &Deadlines| {
            let drill = deadlines.drill.as_ref();
            drill.is_some_and(|drill| drill.kind == LimitKind::Rehearsal)
        };
        if is_rehearsal(before) && !is_rehearsal(deadlines) {
            info!("the rehearsal is over; nothing was ended");
        }
        let (old, new) = (before.published.as_ref(), deadlines.published.as_ref());
        match (old, new) {
            (Some(old), Some(new)) if old.at == new.at => {}
            (old, Some(new)) => {
                let what = match new.kind {
                    LimitKind::Rehearsal => "a rehearsal: the machine would have to be gone",
                    LimitKind::DrainOnly => "work on the machine must have ended",
                    LimitKind::Planned | LimitKind::Notice => "the machine must be gone",
                };
                info!(
                    "{what} by {} ({}): {}",
                    clock::utc(new.at),
                    clock::relative(new.at, self.follower.time(now).unix),
                    new.origin
                );
                if drained && old.is_some_and(|old| old.at < new.at) {
                    warn!("the deadline moved later, but drain has begun: that is not undone");
                }
            }
            (Some(_), None) => {
                info!("there is no deadline any more");
                if drained {
                    warn!("drain has begun: that is not undone");
                }
            }
            (None, None) => {}
        }
    }

    pub(super) fn say_that_it_is_reached(&self) {
        if let Some(deadline) = &self.decision.deadlines.published {
            let (at, origin) = (clock::utc(deadline.at), &deadline.origin);
            warn!("the deadline is reached: {at} ({origin})");
        }
    }
}

/// When it was last confirmed is for the status alone.
fn unconfirmed(deadline: status::Deadline) -> status::Deadline {
    status::Deadline {
        confirmed_at: None,
        ..deadline
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::host::Host;
    use crate::host::tree::Tree;
    use crate::logging::Notices;
    use crate::report::example;

    const BOOT_ID: (&str, &str) = ("proc/sys/kernel/random/boot_id", "first\n");

    fn now() -> Now {
        Now {
            wall: example::DEADLINE - 7200,
            uptime: Duration::from_secs(3600),
            vouched: false,
        }
    }

    fn of_boot(host: &Host, status: Status) -> Status {
        Status {
            boot_id: Status::begin(host).boot_id,
            ..status
        }
    }

    #[test]
    fn what_boot_finds_out_while_this_starts_stays_told() {
        let tree = Tree::new(&[BOOT_ID, ("run/vmstage/", "")]);
        let (host, notices) = (tree.host(), Notices::default());
        let config = Config::parse("[metadata]\nsources = []").unwrap();
        of_boot(&host, example::ready()).write(&host).unwrap();
        let mut watch = Watch::start(&host, &notices, &config, now());
        let found = of_boot(&host, example::with_deadline());
        found.write(&host).unwrap();
        watch.publish(now());
        let told = Status::read(&host).unwrap().unwrap().deadline;
        assert_eq!(told.map(|deadline| deadline.at), Some(example::DEADLINE));
    }

    /// By a boot that has waited for the status until this had written it, and tells everybody
    /// before this does.
    #[test]
    fn what_boot_finds_out_while_this_tells_of_no_deadline_stays_told() {
        const FEATURE: &str = "etc/machinefeatures/shutdowntime";
        let tree = Tree::new(&[BOOT_ID, ("run/vmstage/", ""), ("etc/", "")]);
        let (host, notices) = (tree.host(), Notices::default());
        let config = Config::parse("[metadata]\nsources = []").unwrap();
        let of_first = of_boot(&host, example::ready());
        of_first.write(&host).unwrap();
        let mut watch = Watch::start(&host, &notices, &config, now());
        watch.told = None;
        let boots = || {
            let mut found = of_boot(&host, example::with_deadline());
            found.started_at.clone_from(&of_first.started_at);
            found.staging.clone_from(&of_first.staging);
            assert!(found.write_after(&host, &of_first).unwrap());
            report::deadline(&host, &notices, &found, &config);
        };
        let told = || {
            let status = Status::read(&host).unwrap().unwrap();
            let feature = tree.text(FEATURE);
            (status.deadline.map(|deadline| deadline.at), feature)
        };
        let both = (Some(example::DEADLINE), example::DEADLINE.to_string());
        let mut boots = Some(boots);
        watch.publish_beside(now(), || {
            if let Some(boots) = boots.take() {
                boots();
                assert_eq!(told(), both);
            }
        });
        assert_eq!(told(), both);
    }
}
