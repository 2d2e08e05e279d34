//! What of EC2's service may end an instance, and when each is asked for.

use std::time::Instant;

use super::said::{self, Said};
use crate::deadline::limit::LIFETIME;
use crate::metadata::NoAnswer;

/// Something below `latest/meta-data/` that may end an instance.
pub(super) struct Part {
    pub(super) path: &'static str,
    /// Of the limit that it is, or of what stands in the place of one.
    pub(super) key: &'static str,
    /// Reads an answer.
    pub(super) read: fn(&[u8]) -> Said,
}

/// A spot instance is taken back.
pub(super) const SPOT: Part = Part {
    path: said::SPOT,
    key: said::SPOT,
    read: said::spot,
};

/// An auto-scaling group ends it.
pub(super) const LIFECYCLE: Part = Part {
    path: said::LIFECYCLE,
    key: said::LIFECYCLE,
    read: said::lifecycle,
};

/// What is known long ahead.
pub(super) const PLANS: [Part; 3] = [
    Part {
        path: said::EVENTS,
        key: said::EVENTS,
        read: said::events,
    },
    Part {
        path: "tags/instance/vmstage_deadline",
        key: "vmstage_deadline",
        read: |text| said::tag("vmstage_deadline", text),
    },
    Part {
        path: "tags/instance/vmstage_lifetime",
        key: LIFETIME,
        read: |text| said::tag(LIFETIME, text),
    },
];

/// What leaves minutes, and is asked for every few seconds.
pub(super) const NOTICES: [Part; 2] = [SPOT, LIFECYCLE];

/// When a notice is asked for again, whatever became of the other one.
#[derive(Default, Clone, Copy)]
pub(super) struct Turn {
    pub(super) failed: u32,
    /// It is left out of so many rounds.
    pub(super) left_out: u32,
    /// The service asks not to be asked for it until then.
    pub(super) left_alone: Option<Instant>,
}

impl Turn {
    /// Whether it is in this round.
    pub(super) fn comes(&mut self, now: Instant) -> bool {
        if self.left_out > 0 {
            self.left_out -= 1;
            return false;
        }
        self.left_alone.is_none_or(|until| now >= until)
    }

    /// It is left out of 1, 3, 7, 15 rounds after so many failures.
    pub(super) fn fail(&mut self, failure: &NoAnswer, now: Instant) {
        self.failed = self.failed.saturating_add(1);
        self.left_out = (1 << self.failed.min(4)) - 1;
        self.left_alone = failure.retry_after().map(|wait| now + wait);
    }
}
