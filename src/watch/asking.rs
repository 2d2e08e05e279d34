//! Asking the sources that are asked in turns, when their time has come.

use std::time::{Duration, Instant};

use super::{Watch, schedule};
use crate::backoff::jitter;
use crate::clock::{self, Now};
use crate::config::Source;
use crate::deadline::ledger::Statement;
use crate::deadline::origin::LimitSource;
use crate::metadata::{self, Answer, Asked, MACHINE_FEATURES, NoAnswer, Wait};

/// For how long one of these wants to be left alone. The site's own features are another
/// server's, which the service and its notices do not wait for.
fn longest_wait<'a>(asked: impl Iterator<Item = &'a Asked>) -> Duration {
    let waits = asked.filter_map(|asked| asked.retry_after);
    waits.max().unwrap_or_default()
}

fn is_of_features(asked: &&Asked) -> bool {
    asked.source == MACHINE_FEATURES
}

/// As the configuration calls it, of those that are asked out of turn.
pub(super) fn name(source: LimitSource) -> String {
    // Vendor data is OpenStack's.
    let source = metadata::source_of(source).unwrap_or(Source::Openstack);
    source.to_string()
}

impl Watch<'_> {
    pub(super) fn ask_if_due(&mut self, now: Now) -> bool {
        if now.uptime < self.asking.next() {
            return false;
        }
        self.has_asked = true;
        let due = self
            .follower
            .next(&self.decision, self.progress.done(), now);
        let budget = schedule::budget(self.config.metadata.timeout, due, now.uptime);
        let wanted = self.wants_second_answer(now);
        let asked = match self.asking.second(wanted, now.uptime) {
            Some(LimitSource::VendorData) => {
                self.waiting.pause(Wait::ForVendorData, now.uptime);
                Vec::new()
            }
            Some(of) => self.metadata.ask_for_second_answer(of, budget),
            None => self.metadata.ask_again(budget),
        };
        let is_ours = self.hear(&asked, now);
        self.plan_to_ask_again(&asked, now);
        // Of sources that had no turn in this round the last one counts.
        self.asked
            .retain(|old| asked.iter().all(|new| new.source != old.source));
        self.asked.extend(asked);
        if !self.metadata.names_features() {
            self.asked.retain(|asked| asked.source != MACHINE_FEATURES);
        }
        // An answer that does not say who this is does not make it somebody else.
        self.instance = match self.metadata.instance().filter(|_| is_ours) {
            Some(said) if said.id.is_some() || self.instance.is_none() => Some(said),
            _ => self.instance.take(),
        };
        true
    }

    /// Says whether all answers were of this instance.
    pub(super) fn hear(&mut self, asked: &[Asked], now: Now) -> bool {
        let (mut is_ours, mut answered) = (true, Vec::new());
        for asked in asked {
            if asked.is_garbage {
                self.follower.hear_garbage(asked.gives, now);
            }
            let Ok(answer) = &asked.result else { continue };
            let (date, statement) = (asked.date_at_start(), answer.statement());
            let heard = self.follower.hear(asked.gives, &statement, date, now);
            is_ours &= !heard.is_refused;
            if !heard.is_refused {
                answered.push(asked.gives);
                self.say_warnings(&asked.source, answer);
            }
            for said in heard.said {
                self.notices.warn_once(format!("{}: {said}", asked.source));
            }
        }
        if self.metadata.are_features_gone(&answered) {
            let none = Statement::default();
            let source = LimitSource::MachineFeatures;
            self.follower.hear(source, &none, None, now);
        }
        is_ours
    }

    /// Also of what a cloud has scheduled that the machine survives: a restart, say.
    pub(super) fn say_warnings(&self, source: &str, answer: &Answer) {
        for warning in &answer.warnings {
            self.notices.warn_once(format!("{source}: {warning}"));
        }
    }

    pub(super) fn plan_to_ask_again(&mut self, asked: &[Asked], now: Now) {
        let wait = longest_wait(asked.iter().filter(|asked| !is_of_features(asked)));
        self.asking.asked(now.uptime, wait, jitter());
        let features = longest_wait(asked.iter().filter(is_of_features));
        if !features.is_zero() {
            self.features_left_alone = now.uptime.saturating_add(features);
        }
        // The service was asked for a notice as well, or wants to be left alone.
        if asked.iter().any(|asked| !is_of_features(&asked)) {
            let wait = wait.max(schedule::SPOT_PERIOD);
            self.next_spot = self.next_spot.max(now.uptime.saturating_add(wait));
        }
        self.asking.want(self.wants_second_answer(now), jitter());
    }

    /// What was heard out of turn may need a second answer as well.
    pub(super) fn want_second_answer(&mut self, now: Now) {
        if !self.asking.waits_for_second() {
            self.asking.want(self.wants_second_answer(now), jitter());
        }
    }

    fn wants_second_answer(&self, now: Now) -> Option<(Duration, LimitSource)> {
        let is_left_alone = now.uptime < self.features_left_alone;
        let wanted = self.follower.wants_second_answer();
        wanted.filter(|(_, of)| *of != LimitSource::MachineFeatures || !is_left_alone)
    }

    pub(super) fn ask_for_spot_notice_if_due(&mut self, now: Now) -> bool {
        if !self.metadata.has_spot_notices() || now.uptime < self.next_spot {
            return false;
        }
        let budget = self.config.metadata.request_timeout;
        let start = Instant::now();
        let noticed = self.metadata.ask_for_spot_notice(budget);
        let took = start.elapsed();
        let retry_after = noticed.as_ref().err().and_then(NoAnswer::retry_after);
        self.failed_spots = match noticed {
            Ok(_) => 0,
            Err(_) => self.failed_spots.saturating_add(1),
        };
        let wait = schedule::next_spot(self.failed_spots, jitter(), retry_after);
        self.next_spot = now.uptime.saturating_add(wait);
        match noticed {
            Ok((source, answer)) => {
                let statement = answer.statement();
                // `now` is from before the answer.
                let date = answer.date.map(|date| clock::earlier(date, took));
                self.follower.hear(source, &statement, date, now);
                self.want_second_answer(now);
                self.say_warnings(&name(source), &answer);
                let left_alone = now.uptime + answer.retry_after.unwrap_or_default();
                self.asking.leave_alone(left_alone);
                true
            }
            Err(e) => {
                // It is the same service.
                let left_alone = now.uptime.saturating_add(retry_after.unwrap_or_default());
                self.asking.leave_alone(left_alone);
                self.notices
                    .warn_once(format!("no spot notice can be had: {e}"));
                false
            }
        }
    }
}
