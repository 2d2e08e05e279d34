//! What is to be done by what is known: `watch` does it, or its child where `watch` hangs.

use std::time::Duration;

use log::{info, warn};

use super::drain::Drain;
use crate::clock::Now;
use crate::config::Config;
use crate::deadline::decide::Deadline;
use crate::deadline::due::{Done, Step};
use crate::deadline::follower::{Decision, Follower};
use crate::host::Host;
use crate::logging::Notices;
use crate::report::{self, terminals};

#[derive(Clone, Copy)]
pub(crate) struct Duties<'a> {
    pub(crate) host: &'a Host,
    pub(crate) config: &'a Config,
    pub(crate) follower: &'a Follower<'a>,
    pub(crate) decision: &'a Decision,
    /// What `watch` has done.
    pub(crate) done: &'a Done,
    pub(crate) ordered_off: Option<Duration>,
}

impl Duties<'_> {
    pub(crate) fn due(&self, done: &mut Done, now: Now) -> Vec<Step> {
        self.follower.due(self.decision, done, now)
    }

    /// How long until something is due beside what is now.
    pub(crate) fn next(&self, done: &Done, now: Now) -> Option<Duration> {
        let next = self.follower.next(self.decision, done, now);
        next.map(|uptime| uptime.saturating_sub(now.uptime))
    }

    pub(crate) fn are_there_any(&self, now: Now) -> bool {
        let mut done = self.done.clone();
        self.next(&done, now).is_some() || !self.due(&mut done, now).is_empty()
    }

    pub(crate) fn warn_users(&self, notices: &Notices, now: Now) {
        let Some(deadline) = self.decision.published(self.config.deadline.action) else {
            return;
        };
        let text = terminals::warning(&deadline, self.follower.time(now).unix);
        info!("warning users: {text}");
        report::warning(self.host, notices, &text, self.config);
    }

    pub(crate) fn start_drain(&self, deadline: &Deadline, now: Now) -> Option<Drain> {
        let time = self.follower.time(now).unix;
        let drain = Drain::start(self.host, self.config, deadline, time);
        drain.inspect_err(|e| warn!("drain: {e:#}")).ok()
    }
}
