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
//!
//! After a step forward, whoever vouches for it, the time is trusted anew: a mistake has to be
//! seen. But no longer than the time before the step needs to come as far, so that steps put
//! off no end for ever.
//!
//! When the machine was booted is known by the first time that is believed. That a believed
//! time moves forward later is a machine that stood still, and it was booted no later for that.

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

/// For so long after booting each step of the clock is taken for a correction: it is not a
/// machine that stood still.
const BOOTING: Duration = Duration::from_secs(15 * 60);

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
    /// The later of what these two said.
    #[serde(default)]
    heard_first: Option<i64>,
    /// Since this uptime the kernel has said, without a step, that the clock is right.
    vouched_since: Option<Duration>,
    /// Another time than the one that counts. It needs a second look where two agree on it
    /// against a believed one, and has to last where nobody vouches for either.
    other: Option<Other>,
    /// What counted before the wall clock was set forward and nobody vouched for it.
    #[serde(default)]
    before: Option<Epoch>,
    /// When the machine was booted, in Unix seconds; None where nobody followed the clocks
    /// early enough to know.
    #[serde(default)]
    booted: Option<i64>,
}

/// The time that counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Epoch {
    /// Unix seconds at an uptime of zero.
    at: i64,
    /// Two agreed on it, or the kernel vouched for it.
    believed: bool,
    /// The uptime since which it counts, or what it stepped from.
    since: Duration,
    /// How it came to count, where the time before has not come as far yet.
    #[serde(default)]
    step: Option<StepForward>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct StepForward {
    /// The uptime at which it was seen first.
    seen: Duration,
    by: Duration,
}

impl StepForward {
    /// The uptime at which the time before has come as far.
    fn is_over(&self) -> Duration {
        self.seen.saturating_add(self.by)
    }
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
        let at = epoch(now.wall, now.uptime);
        ClockTrust {
            last: now,
            counts: Epoch {
                at,
                believed: false,
                since: now.uptime,
                step: None,
            },
            booted: (now.uptime < BOOTING).then_some(at),
            witness: None,
            heard_since: None,
            heard_first: None,
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
        if let Some(before) = before {
            self.heard_since.get_or_insert(now.uptime);
            self.heard_first.get_or_insert(epoch.max(before));
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
        let step = self.counts.step;
        let since = match step.filter(|step| now.uptime < step.is_over()) {
            Some(step) => step.seen,
            None if self.counts.believed => Duration::ZERO,
            None => self.counts.since,
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

    /// The next uptime at which another time may count, or be trusted, though nobody says
    /// anything new: what was said or seen will have lasted.
    pub(crate) fn counts_anew(&self, uptime: Duration) -> Option<Duration> {
        let trusted = self.counts.step.map(|step| step.is_over());
        let word = self.vouched_since.map(|at| at.saturating_add(KERNEL_WORD));
        let ahead = self.other.map(|other| other.seen.saturating_add(SETTLING));
        let alone = self.witness.filter(|witness| witness.before.is_none());
        let alone = alone.map(|witness| witness.at.saturating_add(SETTLING));
        let unsure = [word, ahead, alone].into_iter().flatten();
        let unsure = unsure.filter(|_| !self.counts.believed);
        unsure.chain(trusted).filter(|at| *at > uptime).min()
    }

    /// When the machine was booted, in Unix seconds. A machine that stood still was booted no
    /// later for that.
    pub(crate) fn booted_at(&self) -> Option<u64> {
        self.booted.map(|at| u64::try_from(at).unwrap_or(0))
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
    /// 1970, as then do first boot and lifetime. Of a witness that has fallen silent, one word
    /// will do.
    fn first(&self) -> Option<i64> {
        let witness = self.witness.and_then(|witness| match witness.before {
            Some(before) => Some(earlier(witness.epoch, before)),
            None => {
                let silent_for = self.last.uptime.saturating_sub(witness.at);
                (silent_for >= SETTLING).then_some(witness.epoch)
            }
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
        if !self.is_set() {
            let first = self.first()?;
            return self.count(first, self.last.uptime, false);
        }
        self.go_back().or_else(|| self.go_forward())
    }

    fn is_set(&self) -> bool {
        self.unix_at(self.last.uptime) >= clock::EARLIEST
    }

    fn go_back(&mut self) -> Option<String> {
        let set_back = self.wall().filter(|wall| self.is_before(*wall));
        if let (Some(wall), Some(before)) = (set_back, self.before) {
            // By less than it was set forward: no other time than that begins anew.
            if wall > before.at.saturating_add(AGREE) {
                self.counts.at = wall;
                return None;
            }
            let moved = self.count(before.at, self.last.uptime, false);
            self.counts = before;
            return moved;
        }
        let back = self.settling()?;
        if back >= self.counts.at.saturating_sub(EQUAL) {
            return None;
        }
        self.count(back, self.last.uptime, false)
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
            true => self.count(agreed, seen, true),
            false => None,
        }
    }

    /// Lets another time count, as an epoch that was seen first at this uptime.
    fn count(&mut self, at: i64, seen: Duration, believed: bool) -> Option<String> {
        let step = at.saturating_sub(self.counts.at);
        self.booted = self.booted_by(at, seen, believed);
        self.other = None;
        self.before = None;
        self.counts = Epoch {
            at,
            believed,
            since: match self.is_set() {
                true => self.counts.since,
                false => seen,
            },
            step: self.step_forward(step, seen),
        };
        let moved = step.unsigned_abs() > AGREE as u64;
        moved.then(|| {
            let way = if step > 0 { "later" } else { "earlier" };
            let by = clock::span(Duration::from_secs(step.unsigned_abs()));
            format!("it is {by} {way} than was thought: the clock was set")
        })
    }

    /// The step forward since which the time is trusted, once it moves by so many seconds.
    fn step_forward(&self, seconds: i64, seen: Duration) -> Option<StepForward> {
        if !self.is_set() {
            return None;
        }
        let by = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let new = StepForward { seen, by };
        if seconds > AGREE && new.is_over() > self.last.uptime {
            return Some(new);
        }
        let is_left = |old: &StepForward| seconds.saturating_add_unsigned(old.by.as_secs()) > AGREE;
        self.counts.step.filter(is_left)
    }

    /// When the machine was booted, once this epoch counts.
    fn booted_by(&self, at: i64, seen: Duration, believed: bool) -> Option<i64> {
        let booted = self.booted?;
        if seen < BOOTING || at < booted || !self.is_set() {
            return Some(at);
        }
        if !believed || self.counts.believed {
            return Some(booted);
        }
        // Where the witness has moved as far, the machine stood still before anything was
        // believed.
        let bears_out = |witness: Witness| agree(witness.epoch, at);
        let is_earlier = |first: &i64| *first < at.saturating_sub(AGREE);
        let first = self.heard_first.filter(is_earlier);
        let stood_still = first.filter(|_| self.witness.is_some_and(bears_out));
        Some(stood_still.unwrap_or(at))
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
        // Until the time before has come as far.
        let next = trust.counts_anew(Duration::from_secs(1800));
        assert_eq!(next, Some(Duration::from_secs(1200 + YEAR as u64)));
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

    /// The longest that the time that counts is trusted for, from this uptime on.
    fn trusted_at_most(trust: &mut ClockTrust, from: u64, wall: impl Fn(u64) -> Now) -> u64 {
        let looks = (trust.last.uptime.as_secs() + 1)..from + 4000;
        let trusted = looks.map(|up| {
            trust.look(wall(up));
            (up, trust.time(wall(up)).trusted_for.as_secs())
        });
        let later = trusted.filter(|(up, _)| *up >= from);
        later.map(|(_, trusted)| trusted).max().unwrap()
    }

    #[test]
    fn steps_forward_put_off_the_end_for_no_longer_than_they_are_long() {
        // Each hour, or more often than `min_uptime` is long.
        for (step, every) in [(70, 3000), (70, 3600), (700, 3000), (2700, 3000)] {
            let mut trust = ClockTrust::new(at(20, 0));
            let wall = |up: u64| at(up, (up / every) as i64 * step);
            let trusted = trusted_at_most(&mut trust, 30_000, wall);
            assert!(trusted >= 30_000, "{step} each {every}: {trusted}");
        }
        // One of years, with the kernel's word and without.
        for (clock, counts_at) in [(at as fn(u64, i64) -> Now, 1000), (vouched, 1060)] {
            let mut trust = ClockTrust::new(at(20, -YEAR));
            let wall = |up: u64| match up < 1000 {
                true => at(up, -YEAR),
                false => clock(up, 0),
            };
            let trusted = trusted_at_most(&mut trust, 2000, wall);
            assert_eq!(trusted, 5999 - counts_at);
        }
    }

    #[test]
    fn a_believed_time_that_flutters_is_trusted_where_it_is_the_earlier() {
        let mut trust = ClockTrust::new(at(20, 0));
        let wall = |up: u64| (up / 1200 % 2) as i64 * YEAR;
        let mut trusted = 0;
        for up in (60..20_000).step_by(60) {
            let off_by = wall(up);
            trust.witness(date(up, off_by), at(up, off_by));
            let time = trust.time(at(up, off_by));
            match off(&trust, at(up, off_by)) {
                0 => trusted = time.trusted_for.as_secs(),
                _ => assert!(time.trusted_for.as_secs() <= 1260, "{up}"),
            }
        }
        assert!(trusted > 18_000, "{trusted}");
    }

    #[test]
    fn a_clock_that_was_set_right_late_may_flutter_and_is_trusted_all_the_same() {
        let mut trust = ClockTrust::new(at(20, -YEAR));
        let wall = |up: u64| match up {
            0..1000 => at(up, -YEAR),
            _ => at(up, if up % 2400 < 1200 { 300 } else { 0 }),
        };
        assert!(trusted_at_most(&mut trust, 30_000, wall) > 28_000);
        assert!((0..=300).contains(&off(&trust, wall(33_999))));
    }

    #[test]
    fn of_a_witness_that_has_fallen_silent_one_word_will_do() {
        let mut trust = ClockTrust::new(at(20, -57 * YEAR));
        trust.witness(date(20, 0), at(20, -57 * YEAR));
        trust.look(at(619, -57 * YEAR));
        assert!(off(&trust, at(619, -57 * YEAR)) < 0);
        let next = trust.counts_anew(Duration::from_secs(619));
        assert_eq!(next, Some(Duration::from_secs(620)));
        trust.look(at(620, -57 * YEAR));
        let now = at(920, -57 * YEAR);
        assert_eq!(off(&trust, now), 0);
        // With `min_uptime`.
        assert_eq!(trust.time(now).trusted_for.as_secs(), 300);
    }

    /// What the clocks of a row say at an uptime: the witness, and the wall clock.
    type Clocks = fn(u64) -> (Option<i64>, Now);

    #[test]
    fn when_the_machine_was_booted_is_known_by_the_first_time_that_is_believed() {
        const DAY: i64 = 24 * 3600;
        let rows: [(&str, Clocks, i64); 11] = [
            ("right", |up| (Some(0), at(up, 0)), 0),
            (
                "NTP, early",
                |up| (None, vouched(up, if up < 300 { YEAR } else { 0 })),
                0,
            ),
            (
                "behind, set late, witness",
                |up| (Some(0), at(up, -YEAR * i64::from(up < 2000))),
                0,
            ),
            (
                "behind, set late, kernel's word",
                |up| match up {
                    0..2000 => (None, at(up, -YEAR)),
                    _ => (None, vouched(up, 0)),
                },
                0,
            ),
            (
                "ahead, set late, kernel's word",
                |up| match up {
                    0..2000 => (None, at(up, YEAR)),
                    _ => (None, vouched(up, 0)),
                },
                0,
            ),
            (
                "behind, set late, nobody",
                |up| (None, at(up, -YEAR * i64::from(up < 2000))),
                -YEAR,
            ),
            (
                "behind, set at 12 minutes, nobody",
                |up| (None, at(up, -YEAR * i64::from(up < 720))),
                0,
            ),
            // It stands still for a day after 2000 s, and all its clocks with it.
            (
                "believed, then paused",
                |up| match up {
                    0..2000 => (Some(0), at(up, 0)),
                    2000..2400 => (Some(DAY), at(up, 0)),
                    _ => (Some(DAY), at(up, DAY)),
                },
                0,
            ),
            (
                "believed by the kernel's word, then paused",
                |up| match up {
                    0..2000 => (None, vouched(up, 0)),
                    _ => (None, vouched(up, DAY)),
                },
                0,
            ),
            (
                "behind, then paused, then set",
                |up| match up {
                    0..2000 => (Some(0), at(up, -YEAR)),
                    2000..2400 => (Some(DAY), at(up, -YEAR)),
                    _ => (Some(DAY), at(up, DAY)),
                },
                0,
            ),
            (
                "believed and a year ahead, then right",
                |up| match up {
                    0..2000 => (Some(YEAR), at(up, YEAR)),
                    _ => (None, vouched(up, 0)),
                },
                0,
            ),
        ];
        for (name, clocks, booted) in rows {
            let mut trust = ClockTrust::new(clocks(20).1);
            for up in (20..5000).step_by(20) {
                let (witness, now) = clocks(up);
                match witness {
                    Some(off) => trust.witness(date(up, off), now),
                    None => trust.look(now),
                };
            }
            let off = trust.booted_at().unwrap() as i64 - BOOTED as i64;
            assert_eq!(off, booted, "{name}");
        }
        // Who begins to look late knows nothing.
        let mut trust = ClockTrust::new(vouched(2000, 0));
        trust.look(vouched(2100, 0));
        assert!(trust.is_believed());
        assert_eq!(trust.booted_at(), None);
    }
}
