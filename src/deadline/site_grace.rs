//! The grace that a site asks for. Pure.
//!
//! One answer must not begin a drain: a grace is published at once, and acted upon when a second
//! answer says so too. It is known as long as the deadline is: a `watch` that is started anew in
//! the middle of it has no other one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_trust::APART;
use super::ledger::{About, Statement};
use super::origin::LimitSource;

/// A site that has been silent for so long is taken to mean what it said: at a URL it is asked
/// for this once in ten minutes.
const SILENCE: Duration = Duration::from_secs(20 * 60);

/// The keys under which Machine and Job Features ask for one.
pub(crate) const KEYS: [&str; 2] = ["grace_secs", "grace_secs_job"];

/// What was said of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct SiteGrace {
    said: Option<Duration>,
    believed: Option<Duration>,
    /// The uptime at which this was said first.
    since: Duration,
}

impl SiteGrace {
    /// Takes note of an answer, where that is one about this.
    pub(crate) fn hear(&mut self, source: LimitSource, statement: &Statement, uptime: Duration) {
        let is_about_it = match &statement.about {
            About::Everything => true,
            About::Keys(keys) => keys.iter().any(|key| KEYS.contains(&key.as_str())),
        };
        if source != LimitSource::MachineFeatures || !is_about_it {
            return;
        }
        self.believed = self.believed(uptime);
        if self.said != statement.grace {
            (self.said, self.since) = (statement.grace, uptime);
        } else if uptime.saturating_sub(self.since) >= APART {
            self.believed = self.said;
        }
    }

    /// What another process of this boot knows, where this one has heard nothing.
    pub(crate) fn learn(&mut self, other: &SiteGrace) {
        if *self == SiteGrace::default() {
            self.clone_from(other);
        }
    }

    /// As it was said last, or longer where that is still acted upon.
    pub(crate) fn published(&self, uptime: Duration) -> Option<Duration> {
        self.said.max(self.believed(uptime))
    }

    /// As it is acted upon.
    pub(crate) fn believed(&self, uptime: Duration) -> Option<Duration> {
        match uptime.saturating_sub(self.since) >= SILENCE {
            true => self.said,
            false => self.believed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn says(grace: Option<Duration>, keys: &[&str]) -> Statement {
        let keys = keys.iter().map(|key| key.to_string());
        Statement {
            grace,
            about: About::Keys(keys.collect()),
            ..Statement::default()
        }
    }

    #[test]
    fn two_answers_that_are_apart_or_silence_after_one_are_believed() {
        let (one, two) = (Some(HOUR), Some(2 * HOUR));
        type Case<'a> = (&'a [(u64, Option<Duration>)], u64, Option<Duration>);
        let cases: [Case; 9] = [
            (&[], 1000, None),
            (&[(100, one)], 101, None),
            (&[(100, one), (109, one)], 109, None),
            (&[(100, one), (110, one)], 110, one),
            // A single answer changes nothing, whatever it says.
            (&[(100, one), (110, one), (170, two)], 171, one),
            (&[(100, one), (110, one), (170, None), (230, one)], 240, one),
            (
                &[(100, one), (110, one), (170, None), (230, None)],
                230,
                None,
            ),
            // Silence since means it.
            (&[(100, one)], 1299, None),
            (&[(100, one)], 1300, one),
        ];
        for (answers, at, expected) in cases {
            let mut grace = SiteGrace::default();
            for (at, answer) in answers {
                let statement = says(*answer, &["shutdowntime", "grace_secs"]);
                let at = Duration::from_secs(*at);
                grace.hear(LimitSource::MachineFeatures, &statement, at);
            }
            let found = grace.believed(Duration::from_secs(at));
            assert_eq!(found, expected, "{answers:?}");
            let said = answers.last().and_then(|(_, grace)| *grace);
            let published = grace.published(Duration::from_secs(at));
            assert_eq!(published, said.max(expected), "{answers:?}");
        }
    }

    #[test]
    fn what_is_not_about_it_confirms_nothing_and_takes_nothing_back() {
        let mut grace = SiteGrace::default();
        let at = Duration::from_secs;
        let says_it = says(Some(HOUR), &["grace_secs_job"]);
        grace.hear(LimitSource::MachineFeatures, &says_it, at(100));
        let repeats_it = says(Some(HOUR), &["shutdowntime"]);
        grace.hear(LimitSource::MachineFeatures, &repeats_it, at(160));
        assert_eq!(grace.believed(at(160)), None);
        grace.hear(LimitSource::Openstack, &Statement::default(), at(170));
        assert_eq!(grace.published(at(170)), Some(HOUR));
        // Nobody names a place any more.
        let none = Statement::default();
        grace.hear(LimitSource::MachineFeatures, &none, at(180));
        assert_eq!(grace.published(at(180)), None);
    }
}
