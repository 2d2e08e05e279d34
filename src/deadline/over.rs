//! When a notice's time is over, by clocks of which some may be wrong. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_trust::AGREE;
use super::limit::{Limit, LimitKind, When};
use crate::clock;

/// When something was said.
#[derive(Debug, Clone, Copy)]
pub struct SaidAt {
    /// Unix seconds.
    pub unix: u64,
    /// Somebody vouches for that.
    pub is_believed: bool,
    /// The wall clock, in Unix seconds.
    pub wall: u64,
    /// The time since the machine's start.
    pub uptime: Duration,
    /// The `Date` of the answer, in Unix seconds.
    pub date: Option<u64>,
}

impl SaidAt {
    /// The uptime at which it is `end`, where this clock said what time it was.
    pub(super) fn left(&self, end: u64, clock: u64) -> Duration {
        let left = Duration::from_secs(end.saturating_sub(clock));
        self.uptime.saturating_add(left)
    }
}

/// When a notice's time is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Over {
    /// The uptime.
    pub(crate) at: Duration,
    /// Clocks differ, of which none is believed, and this is the later.
    pub(crate) is_disputed: bool,
}

/// When the time of a notice is over that was said just now, and heard first at this uptime.
///
/// One that says no time needs no clock. Of another the `Date` of the same answer says best what time a notice leaves, where another clock bears
/// it out. Else the believed time says it; without one it is the later, and no more than such a
/// notice leaves. None where the time that counts says it.
pub(super) fn of(limit: &Limit, at: SaidAt, noticed: Duration) -> Option<Over> {
    let end = match (limit.kind, &limit.when) {
        (LimitKind::Notice, When::At(end)) => *end,
        (LimitKind::Notice, When::AfterNotice(lasts)) => {
            return Some(Over {
                at: at.uptime.saturating_add(*lasts),
                is_disputed: false,
            });
        }
        _ => return None,
    };
    let left = |clock: u64| at.left(end, clock);
    let longest = limit
        .longest_notice()
        .map(|most| noticed.saturating_add(most));
    let plausible = clock::EARLIEST..=clock::LATEST;
    let Some(date) = at.date.filter(|date| plausible.contains(date)) else {
        let slack = Duration::from_secs(AGREE as u64);
        let is_more = |longest: &Duration| left(at.unix) > longest.saturating_add(slack);
        // A clock that nobody believes, and by which it came too late, is ahead.
        let since = at.uptime.saturating_sub(noticed).as_secs();
        let is_ahead = !at.is_believed && end <= at.unix.saturating_sub(since);
        let longest = longest.filter(|longest| is_ahead || is_more(longest))?;
        return Some(Over {
            at: longest,
            is_disputed: !at.is_believed,
        });
    };
    let is_near = |clock: u64| date.abs_diff(clock) <= AGREE as u64;
    let is_borne_out = is_near(at.wall) || at.is_believed && is_near(at.unix);
    Some(match (is_borne_out, at.is_believed) {
        (true, _) => Over {
            at: left(date),
            is_disputed: false,
        },
        (false, true) => Over {
            at: left(at.unix),
            is_disputed: false,
        },
        (false, false) => {
            let later = left(date).max(left(at.unix));
            Over {
                at: longest.map_or(later, |longest| later.min(longest)),
                is_disputed: true,
            }
        }
    })
}
