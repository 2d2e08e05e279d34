//! Requests that a cloud may hold for minutes, while the loop goes on: a child asks.

use std::time::Instant;

use super::asking::name;
use super::{Watch, schedule};
use crate::backoff::jitter;
use crate::clock::Now;
use crate::deadline::origin::LimitSource;
use crate::metadata::{NoAnswer, Pending, Wait};

impl Watch<'_> {
    /// Hears what has come of requests that were held, and starts those that are wanted. Says
    /// whether anything was heard.
    pub(super) fn hear_from_held_requests(&mut self, now: Now) -> bool {
        let mut has_heard = false;
        for (wait, lasted, outcome) in self.waiting.ended() {
            let taken = self.metadata.take(wait, outcome);
            let retry_after = taken.as_ref().err().and_then(NoAnswer::retry_after);
            match taken {
                Ok((source, answer)) => {
                    let statement = answer.statement();
                    let heard = self.follower.hear(source, &statement, answer.date, now);
                    for said in heard.said {
                        self.notices.warn_once(said);
                    }
                    self.say_warnings(&name(source), &answer);
                    self.want_second_answer(now);
                    has_heard = true;
                }
                Err(e) => self.hear_failure(wait, &e, now),
            }
            let pause = self.metadata.pause(wait, lasted, retry_after, jitter());
            self.waiting.pause(wait, now.uptime + pause);
        }
        self.start_requests(now);
        has_heard
    }

    fn hear_failure(&mut self, wait: Wait, failure: &NoAnswer, now: Now) {
        let what = match wait {
            Wait::ForVendorData => {
                if failure.is_garbage() {
                    self.follower.hear_garbage(LimitSource::VendorData, now);
                }
                "what the site says to its guests cannot be had; what it said before holds"
            }
            Wait::ForChangeAtGoogle | Wait::ForEventsOfAzure => "no notice can be had",
        };
        self.notices.warn_once(format!("{what}: {failure}"));
    }

    fn start_requests(&mut self, now: Now) {
        for wait in self.metadata.waits() {
            if !self.waiting.may_start(wait, now.uptime) {
                continue;
            }
            match self.metadata.wait_for(wait) {
                Ok(held) => self.waiting.hold(wait, held),
                Err(e) => {
                    self.notices.warn_once(format!("no notice can be had: {e}"));
                    self.waiting.pause(wait, now.uptime + schedule::PERIOD);
                }
            }
        }
    }

    /// The cloud need not wait with what somebody asked it to do: not for a restart, for which
    /// nothing is drained, and not with an end once drain has ended.
    pub(super) fn acknowledge_events(&mut self, now: Now) {
        let done = self.progress.done();
        let is_drained = self.config.deadline.drain.is_empty() || done.drained && done.drain_ended;
        let may_go_on = |pending: &Pending| is_drained || !pending.is_end;
        let start = Instant::now();
        let budget = self.config.metadata.request_timeout;
        for pending in self.metadata.pending().into_iter().filter(may_go_on) {
            if !self.acknowledged.is_due(&pending.id, now.uptime) {
                continue;
            }
            // Nothing else is heard meanwhile; the next tick goes on.
            if start.elapsed() > budget {
                return;
            }
            let told = self.metadata.acknowledge(&pending, budget);
            if let Err(failure) = &told {
                self.say_refused(&pending, failure);
            }
            let id = pending.id;
            self.acknowledged.note(id, told.is_ok(), now.uptime);
        }
    }

    fn say_refused(&self, pending: &Pending, failure: &NoAnswer) {
        let id = &pending.id;
        self.notices.warn_once(format!(
            "the cloud cannot be told to go on with {id}: {failure}"
        ));
    }
}
