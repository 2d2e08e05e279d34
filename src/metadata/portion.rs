//! How much of a source that takes several requests is asked at a time. While `watch` asks it
//! hears of nothing else: of no notice, and of no order.

use std::time::{Duration, Instant};

/// So many of the slowest requests are a portion.
const REQUESTS: u32 = 3;

/// Whether a source is asked all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Yes: nothing waits meanwhile.
    Whole,
    /// The next round goes on where this one stopped.
    InPortions,
}

/// How long the requests of one source may take together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portion {
    /// All have ended by then.
    pub(crate) until: Instant,
    /// Where not all have to be made now: the end of the portion, and what each may take.
    room: Option<(Instant, Duration)>,
}

impl Portion {
    pub(super) fn new(pace: Pace, until: Instant, longest: Duration) -> Portion {
        let end = Instant::now() + REQUESTS * longest;
        match pace {
            Pace::Whole => Portion { until, room: None },
            Pace::InPortions => Portion {
                until: until.min(end),
                room: Some((end, longest)),
            },
        }
    }

    /// Whether so many further requests end in time, however slow they are.
    pub(super) fn has_room_for(&self, requests: u32) -> bool {
        let fits = |(end, longest)| Instant::now() + requests * longest <= end;
        self.room.is_none_or(fits)
    }
}
