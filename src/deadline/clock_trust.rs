//! What time it is, as far as anybody vouches for it. Pure: readings are handed in.
//!
//! Three may know the time: the wall clock, if the kernel says that it is synchronised; the
//! `Date` of the metadata service, the witness; and the clock that only runs, since one of
//! the others was believed. A step of the wall clock alone changes nothing.
//!
//! Where two differ and nobody vouches for one, the earlier counts that was seen in the first
//! ten minutes, and the clock that only runs carries it on: nothing is then ended before its
//! time, and late by no more than they differ. A wall clock that was set forward, and that no
//! witness contradicts, counts once it has run on from there for [`SETTLING`]; when it is set
//! back again, what counted before does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{self, Now};

/// Clocks that differ by no more than this agree, in seconds.
pub(super) const AGREE: i64 = 60;

/// Readings in whole seconds that differ by no more than this are equal: the `Date` of an
/// answer is up to a second old, and the answer was on its way.
const EQUAL: i64 = 2;

/// For so long the kernel has to say that the wall clock is synchronised.
const KERNEL_WORD: Duration = Duration::from_secs(60);

/// For so long since it was seen first, a reading that nobody vouches for may set the time
/// that counts back, and for so long one that is later has to last. Else it only flutters.
pub(super) const SETTLING: Duration = Duration::from_secs(600);

/// Two looks, or answers, that are nearer than this are one.
pub(crate) const APART: Duration = Duration::from_secs(10);

/// How often the clocks are written down for the next process that follows.
const NOTE_PERIOD: Duration = Duration::from_secs(60);

/// What a moment's time is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Time {
    /// Unix seconds.
    pub(crate) unix: u64,
    /// For how long it is known to be right, or not to have been set.
    pub(crate) trusted_for: Duration,
}

/// What is known of the clocks. A time is kept as the Unix second at which the machine
/// would have been booted by it, so that the clock that only runs carries it on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClockTrust {
    last: Now,
    counts: Epoch,
    /// By the witness's last word.
    witness: Option<Witness>,
    /// The uptime at which two answers in succession had a witness's word first.
    #[serde(default)]
    heard_since: Option<Duration>,
    /// Since this uptime the kernel has said, without a step, that the clock is right.
    vouched_since: Option<Duration>,
    /// Another time than the one that counts. It needs a second look where two agree on it
    /// against a believed one, and has to last where nobody vouches for either.
    other: Option<Other>,
    /// What counted before the wall clock was set forward and nobody vouched for it.
    #[serde(default)]
    before: Option<Epoch>,
}

/// The time that counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Epoch {
    /// Unix seconds at an uptime of zero.
    at: i64,
    /// Two agreed on it, or the kernel vouched for it.
    believed: bool,
    /// The uptime since which it counts.
    since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Witness {
    epoch: i64,
    /// The uptime at which it answered.
    at: Duration,
    /// What the answer before this one said.
    #[serde(default)]
    before: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Other {
    epoch: i64,
    /// The uptime at which it was seen first.
    seen: Duration,
}

fn epoch(unix: u64, uptime: Duration) -> i64 {
    let unix = i64::try_from(unix).unwrap_or(i64::MAX);
    unix.saturating_sub_unsigned(uptime.as_secs())
}

fn agree(one: i64, other: i64) -> bool {
    one.abs_diff(other) <= AGREE as u64
}

/// The earlier of two epochs, or the first where they are equal.
fn earlier(first: i64, second: i64) -> i64 {
    match second < first.saturating_sub(EQUAL) {
        true => second,
        false => first,
    }
}

impl ClockTrust {
    /// Where nobody followed the clocks before in this boot.
    pub(crate) fn new(now: Now) -> ClockTrust {
        ClockTrust {
            last: now,
            counts: Epoch {
                at: epoch(now.wall, now.uptime),
                believed: false,
                since: now.uptime,
            },
            witness: None,
            heard_since: None,
            vouched_since: now.vouched.then_some(now.uptime),
            other: None,
            before: None,
        }
    }

    /// A look at the clocks. Says what became of the time that counts, where it moved by
    /// more than clocks may differ.
    pub(crate) fn look(&mut self, now: Now) -> Option<String> {
        let ran = now.uptime.saturating_sub(self.last.uptime).as_secs() as i64;
        let step = (now.wall as i64)
            .saturating_sub(self.last.wall as i64)
            .saturating_sub(ran);
        self.last = now;
        if !now.vouched || step.unsigned_abs() > EQUAL as u64 {
            self.vouched_since = None;
        }
        if now.vouched {
            self.vouched_since.get_or_insert(now.uptime);
        }
        self.settle()
    }

    /// The `Date` of an answer that came just now.
    pub(crate) fn witness(&mut self, date: u64, now: Now) -> Option<String> {
        let moved = self.look(now);
        if !(clock::EARLIEST..=clock::LATEST).contains(&date) {
            // It lies, or its clock is not set either.
            self.witness = None;
            return self.settle().or(moved);
        }
        let epoch = epoch(date, now.uptime);
        let before = self.witness.map(|last| last.epoch);
        if before.is_some() {
            self.heard_since.get_or_insert(now.uptime);
        }
        self.witness = Some(Witness {
            epoch,
            at: now.uptime,
            before,
        });
        self.settle().or(moved)
    }

    /// What time it is now. The last look was not long ago.
    pub(crate) fn time(&self, now: Now) -> Time {
        // To the second, where the wall clock is right.
        let is_right = epoch(now.wall, now.uptime).abs_diff(self.counts.at) <= EQUAL as u64;
        let unix = match is_right {
            true => now.wall,
            false => self.unix_at(now.uptime),
        };
        let since = match self.counts.believed {
            true => Duration::ZERO,
            false => self.counts.since,
        };
        Time {
            unix,
            trusted_for: now.uptime.saturating_sub(since),
        }
    }

    /// The time that counts at this uptime, in Unix seconds: the same at each look, until
    /// another time is believed.
    pub(crate) fn unix_at(&self, uptime: Duration) -> u64 {
        let unix = self.counts.at.saturating_add_unsigned(uptime.as_secs());
        u64::try_from(unix).unwrap_or(0)
    }

    /// Whether this, written down, still says enough of what is known `later`.
    pub(crate) fn stands_for(&self, later: &ClockTrust) -> bool {
        let age = later.last.uptime.saturating_sub(self.last.uptime);
        self.counts == later.counts && age < NOTE_PERIOD
    }

    /// The next uptime at which another time may count, though nobody says anything new: the
    /// kernel's word, or a wall clock that was set forward, will have lasted.
    pub(crate) fn counts_anew(&self, uptime: Duration) -> Option<Duration> {
        if self.counts.believed {
            return None;
        }
        let word = self.vouched_since.map(|at| at.saturating_add(KERNEL_WORD));
        let ahead = self.other.map(|other| other.seen.saturating_add(SETTLING));
        let ends = word.into_iter().chain(ahead);
        ends.filter(|at| *at > uptime).min()
    }

    /// The uptime at which the time that counts was seen first.
    pub(crate) fn seen_at(&self) -> Duration {
        self.counts.since
    }

    /// Whether two agreed on the time that counts, or the kernel vouched for it.
    pub(crate) fn is_believed(&self) -> bool {
        self.counts.believed
    }

    /// By how many seconds the wall clock is ahead of the time that counts, where that is
    /// more than clocks may differ.
    pub(crate) fn wall_is_off_by(&self) -> Option<i64> {
        let off = epoch(self.last.wall, self.last.uptime).saturating_sub(self.counts.at);
        (off.unsigned_abs() > AGREE as u64).then_some(off)
    }

    fn wall(&self) -> Option<i64> {
        let is_set = self.last.wall >= clock::EARLIEST;
        is_set.then(|| epoch(self.last.wall, self.last.uptime))
    }

    /// The time that the kernel's word, or wall clock and witness together, stand for, and
    /// the uptime at which it was said.
    fn agreed(&self) -> Option<(i64, Duration)> {
        let wall = self.wall()?;
        let with = self.witness.filter(|witness| agree(wall, witness.epoch));
        let vouched = self
            .vouched_since
            .is_some_and(|since| self.last.uptime.saturating_sub(since) >= KERNEL_WORD);
        match with {
            Some(witness) if vouched => Some((earlier(wall, witness.epoch), self.last.uptime)),
            Some(witness) => Some((earlier(wall, witness.epoch), witness.at)),
            None => vouched.then_some((wall, self.last.uptime)),
        }
    }

    /// The first time to count where nobody vouches for one; None while all clocks stand in
    /// 1970, as then do first boot and lifetime.
    fn first(&self) -> Option<i64> {
        let witness = self.witness.and_then(|witness| {
            let before = witness.before?;
            Some(earlier(witness.epoch, before))
        });
        match (self.wall(), witness) {
            (Some(wall), Some(witness)) => Some(earlier(wall, witness)),
            (wall, witness) => wall.or(witness),
        }
    }

    /// The earliest that a clock says which is still settling: of a witness, the later of two
    /// answers in succession.
    fn settling(&self) -> Option<i64> {
        let is_settling = |since: Duration| self.last.uptime.saturating_sub(since) < SETTLING;
        let wall = self.wall().filter(|_| is_settling(self.counts.since));
        let heard = self
            .witness
            .filter(|_| self.heard_since.is_some_and(is_settling));
        let witness = heard.and_then(|witness| Some(witness.epoch.max(witness.before?)));
        wall.into_iter().chain(witness).min()
    }

    /// Where nobody vouches for a time. Clocks that flutter may neither begin `min_uptime` anew
    /// for ever nor bring a deadline nearer.
    fn settle_unvouched(&mut self) -> Option<String> {
        if self.counts.believed {
            self.other = None;
            return None;
        }
        if self.unix_at(self.last.uptime) < clock::EARLIEST {
            let first = self.first()?;
            return self.count(first, self.last.uptime, false);
        }
        self.go_back().or_else(|| self.go_forward())
    }

    fn go_back(&mut self) -> Option<String> {
        let is_set_back = self.wall().is_some_and(|wall| self.is_before(wall));
        if is_set_back && let Some(before) = self.before {
            return self.count(before.at, before.since, false);
        }
        let back = self.settling()?;
        if back >= self.counts.at.saturating_sub(EQUAL) {
            return None;
        }
        self.count(back, self.counts.since, false)
    }

    fn is_before(&self, epoch: i64) -> bool {
        epoch < self.counts.at.saturating_sub(AGREE)
    }

    /// A wall clock that was set forward for good, and no witness contradicts it.
    fn go_forward(&mut self) -> Option<String> {
        let is_ahead = |wall: &i64| *wall > self.counts.at.saturating_add(AGREE);
        let Some(ahead) = self
            .wall()
            .filter(is_ahead)
            .filter(|_| self.witness.is_none())
        else {
            self.other = None;
            return None;
        };
        let seen = self.seen_first(ahead);
        if self.last.uptime.saturating_sub(seen) < SETTLING {
            return None;
        }
        let before = self.before.unwrap_or(self.counts);
        let moved = self.count(ahead, seen, false);
        self.before = Some(before);
        moved
    }

    /// The uptime since which this other time is said.
    fn seen_first(&mut self, epoch: i64) -> Duration {
        let seen = self.last.uptime;
        let is_it = |other: &Other| agree(other.epoch, epoch);
        let other = self.other.filter(is_it).unwrap_or(Other { epoch, seen });
        self.other.insert(other).seen
    }

    fn settle(&mut self) -> Option<String> {
        let Some((agreed, said)) = self.agreed() else {
            return self.settle_unvouched();
        };
        let now = self.last.uptime;
        if !self.counts.believed {
            return self.count(agreed, now, true);
        }
        if agree(agreed, self.counts.at) {
            self.other = None;
            self.counts.at = agreed;
            return None;
        }
        let seen = self.seen_first(agreed);
        match said.saturating_sub(seen) >= APART {
            true => self.count(agreed, now, true),
            false => None,
        }
    }

    fn count(&mut self, epoch: i64, since: Duration, believed: bool) -> Option<String> {
        let step = epoch.saturating_sub(self.counts.at);
        self.other = None;
        self.before = None;
        self.counts = Epoch {
            at: epoch,
            believed,
            since,
        };
        let moved = step.unsigned_abs() > AGREE as u64;
        moved.then(|| {
            let way = if step > 0 { "later" } else { "earlier" };
            let by = clock::span(Duration::from_secs(step.unsigned_abs()));
            format!("it is {by} {way} than was thought: the clock was set")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right time at an uptime of zero.
    const BOOTED: u64 = 1_800_000_000;
    const YEAR: i64 = 365 * 24 * 3600;
    const MIN: u64 = 60;

    /// A clock that is off by so many seconds.
    fn at(up: u64, off: i64) -> Now {
        Now {
            wall: (BOOTED + up).saturating_add_signed(off),
            uptime: Duration::from_secs(up),
            vouched: false,
        }
    }

    fn vouched(up: u64, off: i64) -> Now {
        Now {
            vouched: true,
            ..at(up, off)
        }
    }

    /// By how much the time that counts is off.
    fn off(trust: &ClockTrust, now: Now) -> i64 {
        trust.time(now).unix as i64 - (BOOTED + now.uptime.as_secs()) as i64
    }

    fn date(up: u64, off: i64) -> u64 {
        at(up, off).wall
    }

    #[test]
    fn wall_clock_and_witness_that_agree_are_believed_at_once() {
        let mut trust = ClockTrust::new(at(60, 0));
        assert_eq!(trust.time(at(60, 0)).trusted_for, Duration::ZERO);
        trust.witness(date(60, -1), at(60, 0));
        assert_eq!(trust.time(at(60, 0)).trusted_for.as_secs(), 60);
        assert_eq!(off(&trust, at(60, 0)), 0);
    }

    #[test]
    fn a_believed_time_outlives_every_step_of_the_wall_clock() {
        for step in [60, -60, 3600, YEAR, -YEAR, 10 * YEAR, -10 * YEAR] {
            let mut trust = ClockTrust::new(at(60, 0));
            trust.witness(date(60, 0), at(60, 0));
            for up in 61..20_000 {
                let stepped = if up > 300 { step } else { 0 };
                trust.look(at(up, stepped));
                if up % 60 == 0 {
                    trust.witness(date(up, 0), at(up, stepped));
                }
                let off = off(&trust, at(up, stepped));
                assert!((-60..=0).contains(&off), "{step}: off by {off} at {up}");
            }
        }
    }

    #[test]
    fn a_clock_that_stands_in_1970_leaves_the_word_to_the_witness() {
        let mut trust = ClockTrust::new(at(60, -57 * YEAR));
        for up in [60, 120, 180] {
            trust.witness(date(up, 0), at(up, -57 * YEAR));
        }
        assert_eq!(off(&trust, at(180, -57 * YEAR)), 0);
        // Nobody else says so: that takes min_uptime.
        assert_eq!(
            trust.time(at(720, -57 * YEAR)).trusted_for.as_secs(),
            10 * MIN
        );
    }

    #[test]
    fn of_a_wall_clock_and_a_witness_that_differ_the_earlier_counts_and_only_after_a_while() {
        for (wall, witness, counts) in [
            (YEAR, 0, 0),
            (0, YEAR, 0),
            (-YEAR / 4, 0, -YEAR / 4),
            (0, -YEAR / 4, -YEAR / 4),
        ] {
            let mut trust = ClockTrust::new(at(60, wall));
            for up in [60, 120, 180] {
                trust.witness(date(up, witness), at(up, wall));
            }
            assert_eq!(off(&trust, at(180, wall)), counts, "{wall}, {witness}");
            assert!(trust.time(at(180, wall)).trusted_for.as_secs() <= 120);
        }
    }

    #[test]
    fn a_witness_that_lies_is_not_believed_alone() {
        // 1970, 2100, and one that jumps.
        for lie in [
            |_| 0,
            |_| 4_102_444_800,
            |up: u64| BOOTED + up + up % 7 * 100_000,
        ] {
            let mut trust = ClockTrust::new(at(60, 0));
            for up in (60..6000).step_by(60) {
                trust.witness(lie(up), at(up, 0));
                assert_eq!(off(&trust, at(up, 0)), 0, "{up}");
            }
        }
    }

    #[test]
    fn the_kernel_vouches_after_a_minute_without_a_step_and_wins() {
        let mut trust = ClockTrust::new(vouched(60, 0));
        for up in 61..=119 {
            trust.look(vouched(up, 0));
            assert!(!trust.counts.believed, "{up}");
        }
        trust.look(vouched(120, 0));
        assert!(trust.counts.believed);
        for up in [130, 190, 250] {
            trust.witness(date(up, -YEAR / 4), vouched(up, 0));
            assert_eq!(off(&trust, vouched(up, 0)), 0);
        }
        // A step takes its word back.
        let mut trust = ClockTrust::new(vouched(60, 0));
        trust.look(vouched(100, 0));
        trust.look(vouched(130, 500));
        assert!(!trust.counts.believed);
    }

    #[test]
    fn ntp_that_sets_a_clock_right_late_is_believed_when_two_looks_agree() {
        // A year ahead until NTP sets it after 900 s; the witness was right all along.
        let mut trust = ClockTrust::new(at(60, YEAR));
        for up in (60..900).step_by(60) {
            trust.witness(date(up, 0), at(up, YEAR));
            let off = off(&trust, at(up, YEAR));
            assert!(off == 0 || up == 60, "off by {off} at {up}");
        }
        trust.witness(date(960, 0), at(960, 0));
        assert!(trust.counts.believed);
    }

    #[test]
    fn a_pause_of_the_machine_is_made_up_for_when_two_answers_agree() {
        let mut trust = ClockTrust::new(at(60, 0));
        trust.witness(date(60, 0), at(60, 0));
        // It stood still for a day: both its clocks are behind, and NTP sets one.
        let day = 24 * 3600;
        trust.witness(date(120, day), at(120, 0));
        assert_eq!(off(&trust, at(120, 0)), 0);
        trust.witness(date(180, day), at(180, day));
        assert_eq!(off(&trust, at(180, day)), 0);
        assert!(trust.witness(date(240, day), at(240, day)).is_some());
        assert_eq!(off(&trust, at(240, day)), day);
    }

    #[test]
    fn without_witness_and_word_neither_a_step_nor_a_flutter_begins_min_uptime_anew() {
        for amplitude in [60, 65, 90, 300, YEAR] {
            let mut trust = ClockTrust::new(at(0, amplitude));
            for up in 1..4000 {
                trust.look(at(up, if up % 600 < 300 { amplitude } else { 0 }));
            }
            let now = at(4000, amplitude);
            assert_eq!(trust.time(now).trusted_for.as_secs(), 4000, "{amplitude}");
            assert_eq!(off(&trust, now), 0, "{amplitude}");
        }
        // Steps, each of them in the same direction, after the first ten minutes, for ever.
        for step in [61, -61, 600, -600] {
            let mut trust = ClockTrust::new(at(0, 0));
            for up in 1..20_000 {
                let steps = (up.max(60) - 60) / 540;
                trust.look(at(up, steps as i64 * step));
            }
            let now = at(20_000, 36 * step);
            assert_eq!(trust.time(now).trusted_for.as_secs(), 20_000, "{step}");
            let back = if step < 0 { step } else { 0 };
            assert!(off(&trust, now) >= back, "{step}: {}", off(&trust, now));
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_forward_counts_when_it_has_lasted_and_until_it_is_set_back() {
        let wall = |up: u64| if (1200..3000).contains(&up) { YEAR } else { 0 };
        let mut trust = ClockTrust::new(at(60, 0));
        for up in 61..4000 {
            trust.look(at(up, wall(up)));
            let expected = if (1800..3000).contains(&up) { YEAR } else { 0 };
            assert_eq!(off(&trust, at(up, wall(up))), expected, "{up}");
        }
        assert_eq!(trust.time(at(4000, 0)).trusted_for.as_secs(), 3940);
        // Where a witness says the time, it never does.
        let mut trust = ClockTrust::new(at(60, 120));
        trust.witness(date(60, 0), at(60, 120));
        trust.witness(date(90, 0), at(90, 120));
        for up in 91..4000 {
            trust.look(at(up, 120 + wall(up)));
            assert_eq!(off(&trust, at(up, 0)), 0, "{up}");
        }
    }

    #[test]
    fn it_is_known_when_a_wall_clock_that_was_set_forward_will_count() {
        let mut trust = ClockTrust::new(at(60, 0));
        trust.look(at(1200, YEAR));
        let next = trust.counts_anew(Duration::from_secs(1200));
        assert_eq!(next, Some(Duration::from_secs(1800)));
        trust.look(at(1800, YEAR));
        assert_eq!(trust.time(at(1800, YEAR)).trusted_for.as_secs(), 600);
        assert_eq!(trust.counts_anew(Duration::from_secs(1800)), None);
    }

    #[test]
    fn a_witness_that_jumps_does_not_put_off_the_time_for_ever() {
        let behind: [fn(u64) -> i64; 3] = [
            |up| -3600 * (1 + up as i64 / 300 % 3),
            |up| [-120, -300][up as usize / 60 % 2],
            |up| [-120, -300][up as usize / 180 % 2],
        ];
        for (row, behind) in behind.into_iter().enumerate() {
            let mut trust = ClockTrust::new(at(20, 0));
            for up in (60..20_000).step_by(60) {
                trust.witness(date(up, behind(up)), at(up, 0));
                let off = off(&trust, at(up, 0));
                assert!((-3 * 3600..=0).contains(&off), "row {row}: {off} at {up}");
            }
            let now = at(20_020, 0);
            assert_eq!(trust.time(now).trusted_for.as_secs(), 20_000, "row {row}");
        }
        // A wall clock in 1970 or ahead, and two backends in turns.
        for wall in [-57 * YEAR, 600] {
            let mut trust = ClockTrust::new(at(20, wall));
            for up in (60..3000).step_by(60) {
                let lag = if up / 60 % 2 == 0 { 0 } else { -120 };
                trust.witness(date(up, lag), at(up, wall));
            }
            let now = at(3000, wall);
            assert!((-120..=0).contains(&off(&trust, now)), "{wall}");
            assert!(trust.time(now).trusted_for.as_secs() >= 2800, "{wall}");
        }
    }
}
