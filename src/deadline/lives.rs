//! Lives in virtual time: whole lives of a VM, from its boot to its end, with clocks that step,
//! sources that are silent or lie, reboots, restarts and pauses. `make test` lives ten thousand.
//!
//! What is promised: none is ended before the earliest limit that it was told truthfully, by
//! more than a second; and none is alive later than the latest, plus what drain, confirmation
//! and `min_uptime` are allowed, and as much as the clocks differed.
//!
//! What is not promised, and does not happen here: that both clocks are ahead at once with no
//! word of the kernel, as nothing is left then that is right; and that a source falls silent
//! for ten minutes right after it lied, as silence counts as a second answer.
//!
//! Of lives that a lifetime ends it is not promised either that a machine that is rebooted
//! before its clock was set right is not ended early for one that was behind, and that one that
//! was ahead does not count from the second boot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::due::{Done, Step};
use super::first_boot::{Found, KeptBy, Place, Record};
use super::follower::{Follower, Knowledge};
use super::identity::Names;
use super::ledger::{About, Statement};
use super::limit::{Limit, When};
use super::origin::{LimitSource, Origin};
use crate::clock::Now;
use crate::config;
use crate::watch::schedule::{Asking, PERIOD};

/// How many lives there are, where VMSTAGE_LIVES does not say it: done in a second, and a rule
/// that is broken ends one of them wrongly.
const LIVES: u64 = 250;
const BOOTED: u64 = 1_800_000_000;
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const YEAR: i64 = 365 * 24 * 3600;

const DRAIN_TIMEOUT: u64 = 300;
const MIN_UPTIME: u64 = 600;

/// A second answer after ten to twenty seconds, or ten minutes of silence after a minute's
/// round.
const CONFIRMATION: u64 = 600 + 66 + 20;

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start)
    }

    fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What the wall clock does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wall {
    Right,
    /// Off by so much until NTP sets it at this uptime; then the kernel vouches for it.
    SetLate(i64, u64),
    /// Right until this uptime, and off by so much from then on.
    SteppedAt(u64, i64),
    /// Ahead by so much and right again, every five minutes.
    Flutters(i64),
}

/// What the `Date` of the service says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Date {
    Right,
    Missing,
    Of1970,
    Of2100,
    Jumps,
    /// Each answer is of one of two machines, which are behind by so much.
    TwoBackends(u64, u64),
}

#[derive(Debug)]
struct World {
    wall: Wall,
    date: Date,
    /// The kernel vouches for a clock that is right.
    has_ntp: bool,
    machine: Option<&'static str>,
    /// One answer in so many lies; 0 is none.
    lies: u64,
    /// Uptimes between which the service is silent.
    silent: (u64, u64),
    /// The machine stands still at this uptime, for so long; NTP sets its clock later.
    pause: Option<(u64, u64)>,
    reboot: Option<u64>,
    restart: Option<u64>,
    /// What the source says from this uptime of the first boot on, as a true Unix second.
    says: Vec<(u64, u64)>,
    notice: Option<u64>,
    drain_takes: u64,
}

const MINE: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const ANOTHERS: &str = "bbbbbbbb-0000-4000-8000-000000000002";

impl World {
    fn of(chance: &mut Chance) -> World {
        let end = chance.between(12 * MINUTE, 40 * MINUTE);
        let wall = match chance.below(8) {
            0 => Wall::SetLate(years(chance), chance.between(120, 1800)),
            1 => Wall::SetLate(-57 * YEAR, u64::MAX),
            2 => Wall::SteppedAt(chance.between(200, end), years(chance)),
            3 => Wall::SteppedAt(chance.between(200, end), -(chance.below(7200) as i64)),
            4 => Wall::Flutters(flutter(chance)),
            _ => Wall::Right,
        };
        let date = match (wall, chance.below(10)) {
            (Wall::Right, 0) => Date::Missing,
            (Wall::Right, 1) => Date::Of1970,
            (Wall::Right, 2) => Date::Of2100,
            (Wall::Right, 3) => Date::Jumps,
            (Wall::Right | Wall::Flutters(_), 4) => {
                Date::TwoBackends(chance.below(300), chance.below(3 * HOUR))
            }
            (Wall::Flutters(_), 0..4) => Date::Missing,
            _ => Date::Right,
        };
        let mut says = vec![(0, BOOTED + end)];
        if chance.one_in(3) {
            let moved = chance.between(10 * MINUTE, HOUR);
            says.push((chance.between(60, end), BOOTED + moved));
        }
        let silent = match chance.one_in(3) {
            true => chance.between(200, 2 * HOUR),
            false => u64::MAX,
        };
        World {
            wall,
            date,
            has_ntp: chance.one_in(2),
            machine: chance.one_in(2).then_some(MINE),
            lies: [0, 3, 10, 50][chance.below(4) as usize],
            silent: (silent, silent.saturating_add(chance.between(60, HOUR))),
            pause: chance
                .one_in(6)
                .then(|| (chance.between(200, end), chance.between(30, HOUR))),
            reboot: chance.one_in(5).then(|| chance.between(200, end)),
            restart: chance.one_in(4).then(|| chance.between(60, end)),
            notice: chance.one_in(8).then(|| BOOTED + chance.between(300, end)),
            drain_takes: chance.below(2 * DRAIN_TIMEOUT),
            says,
        }
    }

    /// True seconds from an uptime of this boot.
    fn paused_by(&self, up: u64) -> u64 {
        self.pause
            .map_or(0, |(at, long)| if up >= at { long } else { 0 })
    }

    fn is_silent(&self, up: u64) -> bool {
        (self.silent.0..self.silent.1).contains(&up)
    }
}

fn flutter(chance: &mut Chance) -> i64 {
    [60, 65, 90, 300][chance.below(4) as usize]
}

fn years(chance: &mut Chance) -> i64 {
    let off = chance.between(1, 10) as i64 * YEAR / 4;
    if chance.one_in(2) { off } else { -off }
}

/// A machine that lives.
struct Life {
    world: World,
    chance: Chance,
    records: BTreeMap<PathBuf, Record>,
    boots: u64,
    /// The true Unix second at an uptime of zero.
    booted: u64,
    up: u64,
    /// What was told truthfully, in Unix seconds.
    told: Vec<u64>,
    first_told: u64,
    has_lied: bool,
    drain_ends: Option<u64>,
    /// By how much the clocks differed at most, where the kernel vouched for none.
    differed: u64,
    last_step: u64,
    wakes: u64,
    /// The uptimes at which the source was asked.
    asked: Vec<u64>,
}

impl Life {
    fn truth(&self) -> u64 {
        self.booted + self.up + self.world.paused_by(self.up)
    }

    /// The wall clock's error, and whether the kernel vouches for it.
    fn error(&self) -> (i64, bool) {
        let up = self.up;
        let (error, is_set) = match self.world.wall {
            // After a reboot the clock of the board is right.
            Wall::SetLate(off, at) if self.boots == 1 || at == u64::MAX => match up < at {
                true => (off, false),
                false => (0, true),
            },
            Wall::SteppedAt(at, off) if self.boots == 1 && up >= at => (off, false),
            Wall::Flutters(ahead) => (if up % 600 < 300 { ahead } else { 0 }, false),
            _ => (0, true),
        };
        // Both its clocks stood still, until NTP notices.
        let missed = match self.world.pause {
            Some((at, long)) if (at..at + 400).contains(&up) => long as i64,
            _ => 0,
        };
        (error - missed, is_set && self.world.has_ntp)
    }

    fn now(&self) -> Now {
        let (error, vouched) = self.error();
        Now {
            wall: self.truth().saturating_add_signed(error),
            uptime: Duration::from_secs(self.up),
            vouched,
        }
    }

    fn date(&mut self) -> Option<u64> {
        let truth = self.truth();
        match self.world.date {
            Date::Right => Some(truth - self.chance.below(2)),
            Date::Missing => None,
            Date::Of1970 => Some(1000),
            Date::Of2100 => Some(4_102_444_800),
            Date::TwoBackends(one, other) => match self.chance.one_in(2) {
                true => Some(truth - one),
                false => Some(truth - other),
            },
            Date::Jumps => Some(truth + self.chance.below(10_000_000)),
        }
    }

    /// What the source says now.
    fn answer(&mut self) -> Option<Statement> {
        if self.world.is_silent(self.up) {
            return None;
        }
        let lie = self.world.lies > 0 && !self.has_lied && self.chance.one_in(self.world.lies);
        // Not twice in succession, nor before a silence.
        self.has_lied = lie && !self.world.is_silent(self.up + 120);
        let since_first = self.truth() - BOOTED;
        let mut said = self.world.says.iter().rev();
        let (_, at) = *said.find(|(from, _)| *from <= since_first)?;
        let is_anothers = self.chance.one_in(2);
        let past = BOOTED - 1000;
        let (instance, at) = match self.has_lied {
            true if is_anothers => (ANOTHERS, past),
            true => (MINE, past),
            false => (MINE, at),
        };
        if !self.has_lied {
            self.tell(at);
        }
        Some(Statement {
            instance: Some(instance.into()),
            limits: vec![limit(at)],
            about: About::Everything,
            ..Statement::default()
        })
    }

    fn tell(&mut self, at: u64) {
        if self.told.is_empty() {
            self.first_told = self.truth();
        }
        if !self.told.contains(&at) {
            self.told.push(at);
        }
    }

    fn places(&self, names: &Names) -> Vec<Place> {
        let uuids = [&names.machine, &names.uuid].into_iter().flatten();
        let named = uuids.map(|id| (KeptBy::Uuid, id.clone()));
        let nobody = (KeptBy::Nobody, "nobody".to_string());
        named
            .chain([nobody])
            .map(|(kept_by, id)| {
                let file = PathBuf::from(&id);
                let found = self.records.get(&file).cloned();
                Place {
                    kept_by,
                    id,
                    file,
                    found: found.map_or(Found::Nothing, Found::Record),
                }
            })
            .collect()
    }

    fn follower<'a>(
        &self,
        config: &'a config::Deadline,
        before: Option<Knowledge>,
    ) -> Follower<'a> {
        let machine = self.world.machine.map(Into::into);
        let boot = self.boots.to_string();
        let mut follower = Follower::new(config, boot, machine, before, self.now());
        follower.read(self.places(&follower.names()), self.now());
        follower
    }

    /// The true second at which it was ended; None where it never is.
    fn live(&mut self, config: &config::Deadline, last: u64) -> Option<u64> {
        loop {
            match self.live_one_boot(config, last) {
                Lived::Ended => return Some(self.truth()),
                Lived::TooLong => return None,
                Lived::Rebooted => {
                    self.booted = self.truth() + 30;
                    self.world.pause = None;
                    self.world.reboot = None;
                    self.world.restart = None;
                    self.up = 20;
                    self.boots += 1;
                    self.drain_ends = None;
                    self.last_step = self.truth();
                }
            }
        }
    }

    fn live_one_boot(&mut self, config: &config::Deadline, last: u64) -> Lived {
        let mut follower = self.follower(config, None);
        let mut done = Done::default();
        // `boot` asks once.
        self.ask(&mut follower);
        self.decide(&mut follower);
        let mut asking = Asking::begin(PERIOD, self.now().uptime, self.chance.fraction());
        asking.want(follower.wants_second_answer(), self.chance.fraction());
        while self.truth() < last {
            if self.world.reboot.is_some_and(|at| self.up >= at) {
                return Lived::Rebooted;
            }
            if self.world.restart.is_some_and(|at| self.up >= at) {
                self.world.restart = None;
                let text = serde_json::to_string(follower.knowledge()).unwrap();
                follower = self.follower(config, serde_json::from_str(&text).ok());
            }
            if self.tick(&mut follower, &mut asking, &mut done) {
                return Lived::Ended;
            }
        }
        Lived::TooLong
    }

    /// One wake-up, and the sleep after it. Says whether the power goes off.
    fn tick(&mut self, follower: &mut Follower, asking: &mut Asking, done: &mut Done) -> bool {
        self.wakes += 1;
        let now = self.now();
        follower.look(now);
        self.note_differences();
        if now.uptime >= asking.next() {
            self.ask(follower);
            asking.asked(now.uptime, Duration::ZERO, self.chance.fraction());
            asking.want(follower.wants_second_answer(), self.chance.fraction());
        }
        let noticed = self.world.notice.filter(|at| self.truth() + 120 >= *at);
        if let Some(at) = noticed {
            self.world.notice = None;
            self.tell(at);
            let spot = Origin::new(LimitSource::Ec2, "spot/instance-action");
            let notice = Statement {
                limits: vec![Limit::notice(spot, When::At(at))],
                ..Statement::default()
            };
            follower.hear(LimitSource::Ec2, &notice, Some(self.truth()), now);
        }
        if self.drain_ends.is_some_and(|at| self.up >= at) {
            done.drain_ended = true;
        }
        let decision = self.decide(follower);
        for step in follower.due(&decision, done, now) {
            match step {
                Step::Drain(_) => {
                    let takes = self.world.drain_takes.min(DRAIN_TIMEOUT);
                    self.drain_ends = Some(self.up + takes);
                }
                Step::PowerOff => return true,
                Step::Warn | Step::Report => {}
            }
        }
        let next = follower.next(&decision, done, now);
        let next = next.map_or(asking.next(), |next| next.min(asking.next()));
        self.sleep_until(next.as_secs_f64().ceil() as u64);
        false
    }

    /// Or until the wall clock is set, a notice can be had, drain ends, or somebody acts.
    fn sleep_until(&mut self, next: u64) {
        let world = &self.world;
        let mut wakes = vec![next];
        match world.wall {
            Wall::SetLate(_, at) | Wall::SteppedAt(at, _) => wakes.push(at),
            Wall::Flutters(_) => wakes.push((self.up / 300 + 1) * 300),
            Wall::Right => {}
        }
        if let Some((at, _)) = world.pause {
            wakes.extend([at, at + 400]);
        }
        wakes.extend(world.reboot);
        wakes.extend(world.restart);
        wakes.extend(self.drain_ends);
        if let Some(at) = world.notice {
            wakes.push(self.up + (at - 120).saturating_sub(self.truth()));
        }
        let up = self.up;
        self.up = wakes
            .into_iter()
            .filter(|at| *at > up)
            .min()
            .unwrap_or(up)
            .max(up + 1);
    }

    fn ask(&mut self, follower: &mut Follower) {
        self.asked.push(self.up);
        let date = self.date();
        if let Some(statement) = self.answer() {
            follower.hear(LimitSource::Openstack, &statement, date, self.now());
        }
        follower.read(self.places(&follower.names()), self.now());
    }

    fn decide(&mut self, follower: &mut Follower) -> super::follower::Decision {
        let decision = follower.decide(self.now());
        if !follower.is_instance_in_doubt() {
            self.records.extend(decision.writes.iter().cloned());
        }
        decision
    }

    fn note_differences(&mut self) {
        let (error, vouched) = self.error();
        let date_is_off = self.world.date != Date::Right;
        let differs = error.unsigned_abs() > 0 || date_is_off;
        if differs && !vouched {
            // A wall clock that is right, with a witness that is not, is not behind.
            self.differed = self.differed.max((-error.min(0)) as u64);
        }
        let lag = match self.world.date {
            Date::TwoBackends(one, other) => one.max(other),
            _ => 0,
        };
        self.differed = self.differed.max(lag);
        // One that flutters must not put it off.
        if error.unsigned_abs() > 0 && !matches!(self.world.wall, Wall::Flutters(_)) {
            self.last_step = self.truth();
        }
        // The kernel goes on vouching for a clock that stood still with the machine.
        if let Some((at, long)) = self.world.pause
            && self.up >= at
        {
            self.differed = self.differed.max(long + lag);
        }
    }
}

enum Lived {
    Ended,
    Rebooted,
    TooLong,
}

fn limit(at: u64) -> Limit {
    let origin = Origin::new(LimitSource::Openstack, "vmstage_deadline");
    Limit::new(origin, When::At(at))
}

fn configuration() -> config::Deadline {
    config::Deadline {
        grace: Duration::from_secs(600),
        drain: vec!["/bin/drain".into()],
        drain_timeout: Duration::from_secs(DRAIN_TIMEOUT),
        action: config::Action::Poweroff,
        min_uptime: Duration::from_secs(MIN_UPTIME),
        ..config::Deadline::default()
    }
}

/// What the lives were like, so that they are seen to be lives.
#[derive(Debug, Default)]
struct Sums {
    ended: u64,
    wakes: u64,
    reboots: u64,
    rebooted_or_lied_to: u64,
    /// Within a minute of the earliest limit.
    on_time: u64,
}

impl Sums {
    fn add(&mut self, life: &Life, ended: Option<u64>) {
        self.ended += u64::from(ended.is_some());
        self.wakes += life.wakes;
        self.reboots += life.boots - 1;
        self.rebooted_or_lied_to += u64::from(life.boots > 1 || life.world.lies > 0);
        let earliest = life.told.iter().min();
        let is_on_time = |at: u64| earliest.is_some_and(|limit| at.abs_diff(*limit) <= 60);
        self.on_time += u64::from(ended.is_some_and(is_on_time));
    }
}

/// What is wrong with one life.
fn complaint(seed: u64, config: &config::Deadline, sums: &mut Sums) -> Option<String> {
    let mut chance = Chance(seed);
    let world = World::of(&mut chance);
    let told = format!("{world:?}");
    let mut life = Life {
        chance,
        ..Life::of(world, seed)
    };
    let last = BOOTED + 2 * HOUR;
    let ended = life.live(config, last);
    sums.add(&life, ended);
    let earliest = life.told.iter().min().copied().unwrap_or(u64::MAX);
    let latest = life.told.iter().max().copied().unwrap_or(u64::MAX);
    let clocks = life.last_step.max(life.booted) + MIN_UPTIME;
    let allowed = latest
        .max(clocks)
        .max(life.first_told)
        .saturating_add(DRAIN_TIMEOUT + CONFIRMATION + life.differed);
    let relative = |at: u64| at as i64 - BOOTED as i64;
    match ended {
        Some(at) if at + 1 < earliest => Some(format!(
            "seed {seed}: ended at {}, told {:?}: {told}",
            relative(at),
            life.told.iter().map(|at| relative(*at)).collect::<Vec<_>>()
        )),
        Some(at) if at > allowed => Some(format!(
            "seed {seed}: ended at {}, latest {} allowed {}: {told}",
            relative(at),
            relative(latest),
            relative(allowed)
        )),
        None if allowed < last => Some(format!(
            "seed {seed}: never ended, latest {} allowed {}: {told}",
            relative(latest),
            relative(allowed)
        )),
        _ => None,
    }
}

fn lives() -> u64 {
    std::env::var("VMSTAGE_LIVES").map_or(LIVES, |number| {
        number.parse().expect("VMSTAGE_LIVES is a number of lives")
    })
}

/// Lives as many lives as there are, each with a seed of its own.
fn live_all(first: u64, complaint: impl Fn(u64, &mut Sums) -> Option<String>) {
    let lives = lives();
    let mut sums = Sums::default();
    let complaints: Vec<String> = (first..first + lives)
        .filter_map(|seed| complaint(seed, &mut sums))
        .collect();
    println!(
        "{lives} lives from seed {first}: {} are wrong; {sums:?}",
        complaints.len()
    );
    let shown = complaints.iter().take(10).cloned().collect::<Vec<_>>();
    assert!(
        complaints.is_empty(),
        "{}\n{}",
        complaints.len(),
        shown.join("\n")
    );
}

#[test]
fn lives_end_neither_early_nor_late() {
    let config = configuration();
    live_all(20_261_126, |seed, sums| complaint(seed, &config, sums));
}

#[test]
fn lives_last_as_long_as_they_are_given() {
    live_all(20_271_126, complaint_of_lifetime);
}

impl World {
    /// One in which a lifetime is all that ends the machine. Somebody knows what time it is:
    /// the witness, or the kernel once NTP has set the clock.
    fn of_lifetime(chance: &mut Chance) -> World {
        let off = chance.between(1, 400 * 24 * HOUR) as i64;
        let set_at = chance.between(60, 50 * MINUTE);
        let (wall, right_from) = match chance.below(3) {
            0 => (Wall::Right, 0),
            1 => (Wall::SetLate(off, set_at), 0),
            // After a reboot before its clock is set, nobody knows that it was behind.
            _ => (Wall::SetLate(-off, set_at), set_at),
        };
        let (date, has_ntp) = match chance.below(3) {
            0 => (Date::Missing, true),
            1 => (Date::Right, true),
            _ => (Date::Right, false),
        };
        let earliest = right_from + 200;
        // What stood still earlier is taken for a clock that is set; and also later where
        // nothing was believed before, and no witness knows better.
        let paused_from = match (wall, date) {
            (Wall::SetLate(_, set_at), Date::Missing) => set_at.max(16 * MINUTE) + 200,
            _ => 16 * MINUTE,
        };
        let pause = (
            chance.between(paused_from, paused_from + HOUR),
            chance.between(30, HOUR),
        );
        let reboot = chance.between(earliest, earliest + HOUR);
        let restart = chance.between(60, HOUR);
        World {
            wall,
            date,
            has_ntp,
            pause: chance.one_in(4).then_some(pause),
            reboot: chance.one_in(3).then_some(reboot),
            restart: chance.one_in(4).then_some(restart),
            ..quiet(500 * 24 * HOUR)
        }
    }
}

/// What is wrong with one life that a lifetime ends.
fn complaint_of_lifetime(seed: u64, sums: &mut Sums) -> Option<String> {
    let mut chance = Chance(seed);
    let lifetime = chance.between(20 * MINUTE, 80 * MINUTE);
    let config = config::Deadline {
        max_lifetime: Duration::from_secs(lifetime),
        ..configuration()
    };
    let world = World::of_lifetime(&mut chance);
    let told = format!("{world:?}");
    let (set_at, is_ahead) = match world.wall {
        Wall::SetLate(off, set_at) => (set_at, off > 0),
        _ => (0, false),
    };
    let pause = world.pause.unwrap_or_default();
    let mut life = Life {
        chance,
        ..Life::of(world, seed)
    };
    let end = BOOTED + lifetime;
    life.tell(end);
    let ended = life.live(&config, BOOTED + 8 * HOUR);
    sums.add(&life, ended);
    // A boot whose clock was ahead to its end says nothing of when it was.
    let is_renewed =
        is_ahead && life.boots > 1 && life.booted < BOOTED + set_at + pause.1 + 2 * MINUTE;
    let latest = match is_renewed {
        true => life.booted + lifetime,
        false => end,
    };
    // NTP sets the clock of a machine that stood still 400 s later.
    let set = BOOTED + set_at.max(pause.0 + 400) + pause.1;
    let trusted = set.max(life.booted) + MIN_UPTIME + 2 * MINUTE;
    let allowed = latest.max(trusted) + DRAIN_TIMEOUT + MINUTE;
    let is_right = ended.is_some_and(|at| (end..=allowed + 1).contains(&(at + 1)));
    let relative = |at: u64| at as i64 - BOOTED as i64;
    (!is_right).then(|| {
        format!(
            "seed {seed}: ended at {:?}, {lifetime} s allowed {}: {told}",
            ended.map(relative),
            relative(allowed)
        )
    })
}

/// A world in which nothing is wrong.
fn quiet(end: u64) -> World {
    World {
        wall: Wall::Right,
        date: Date::Right,
        has_ntp: true,
        machine: Some(MINE),
        lies: 0,
        silent: (u64::MAX, u64::MAX),
        pause: None,
        reboot: None,
        restart: None,
        says: vec![(0, BOOTED + end)],
        notice: None,
        drain_takes: 0,
    }
}

impl Life {
    fn of(world: World, seed: u64) -> Life {
        Life {
            world,
            chance: Chance(seed),
            records: BTreeMap::new(),
            boots: 1,
            booted: BOOTED,
            up: 20,
            told: Vec::new(),
            first_told: BOOTED,
            has_lied: false,
            drain_ends: None,
            differed: 0,
            last_step: BOOTED,
            wakes: 0,
            asked: Vec::new(),
        }
    }
}

/// What 0.1.0 did is in the comments; in seconds from the boot.
#[test]
fn each_row_of_what_went_wrong_is_right() {
    let config = configuration();
    let ended = |world: World| {
        let end = world.says.last().unwrap().1 - BOOTED;
        let mut life = Life::of(world, 7);
        let at = life.live(&config, BOOTED + 5 * HOUR).map(|at| at - BOOTED);
        (at.unwrap_or(u64::MAX), end)
    };
    let on_time = |(at, end): (u64, u64), slack: u64| {
        assert!((end..=end + slack).contains(&at), "{at} for {end}");
    };
    // Never drained, never ended: alive 16,000 s past its deadline.
    let flutters = World {
        wall: Wall::Flutters(60),
        has_ntp: false,
        ..quiet(7230)
    };
    on_time(ended(flutters), 2);
    for ahead in [65, 90, 300] {
        let without_witness = World {
            wall: Wall::Flutters(ahead),
            date: Date::Missing,
            has_ntp: false,
            ..quiet(7230)
        };
        on_time(ended(without_witness), 2);
    }
    let two_backends = World {
        date: Date::TwoBackends(120, 300),
        has_ntp: false,
        ..quiet(7230)
    };
    on_time(ended(two_backends), 300);
    // Never ended.
    for off in [-10 * YEAR, -57 * YEAR] {
        let goes_back = World {
            wall: Wall::SteppedAt(1000, off),
            ..quiet(7230)
        };
        on_time(ended(goes_back), 2);
        let never_set = World {
            wall: Wall::SetLate(off, u64::MAX),
            ..quiet(7230)
        };
        on_time(ended(never_set), 2);
    }
    // Ended at 4,200 s.
    let ahead = World {
        wall: Wall::SteppedAt(3600, 10 * YEAR),
        ..quiet(7230)
    };
    on_time(ended(ahead), 2);
    // Ended at 635 s.
    let late = World {
        wall: Wall::SetLate(YEAR, 900),
        ..quiet(7230)
    };
    on_time(ended(late), 2);
    // A reboot while the service is down: no deadline at all, until it answered.
    let down = World {
        silent: (3000, u64::MAX),
        reboot: Some(4000),
        ..quiet(7230)
    };
    on_time(ended(down), 2);
}

#[test]
fn a_notice_holds_by_the_clock_of_who_announced_it() {
    let config = configuration();
    for off in [-YEAR / 2, -57 * YEAR, 0] {
        let noticed = World {
            wall: Wall::SetLate(off, u64::MAX),
            date: Date::Missing,
            notice: Some(BOOTED + 3000),
            ..quiet(7230)
        };
        let mut life = Life::of(noticed, 7);
        let at = life.live(&config, BOOTED + 5 * HOUR).unwrap() - BOOTED;
        assert!(
            (3000..=3002).contains(&at),
            "{at}, by a clock that is off by {off} s"
        );
    }
}

/// Drained and powered off in the same second.
#[test]
fn one_wrong_answer_ends_nothing_whoever_the_machine_is() {
    let config = configuration();
    for (machine, lies) in [(Some(MINE), 2), (None, 2)] {
        for seed in 0..lives() / 5 {
            let world = World {
                machine,
                lies,
                ..quiet(7230)
            };
            let mut life = Life::of(world, seed);
            let at = life.live(&config, BOOTED + 5 * HOUR).unwrap() - BOOTED;
            assert!(
                (7230..=7330).contains(&at),
                "{machine:?}, seed {seed}: {at}"
            );
        }
    }
}

#[test]
fn a_day_of_watching_wakes_at_most_3000_times() {
    let config = configuration();
    let mut life = Life::of(quiet(30 * 24 * HOUR), 1);
    life.live(&config, BOOTED + 24 * HOUR);
    let asked = life.asked.len();
    println!(
        "a day: {} wake-ups, {asked} requests (0.1.0: 86,400 wake-ups)",
        life.wakes
    );
    assert!(life.wakes <= 3000, "{}", life.wakes);
    assert!(asked as f64 <= 1.2 * 24.0 * 60.0, "{asked}");
}

#[test]
fn vms_that_boot_in_the_same_second_do_not_ask_in_lock_step() {
    let config = configuration();
    let mut in_second = vec![0; 300];
    let mut all = 0;
    let vms = lives().max(1000);
    for seed in 0..vms {
        let mut life = Life::of(quiet(30 * 24 * HOUR), seed);
        life.live(&config, BOOTED + 300);
        // The first is that of `boot`, in the same second.
        for at in &life.asked[1..] {
            in_second[*at as usize] += 1;
            all += 1;
        }
    }
    let (early, later) = in_second.split_at(90);
    let peak = |seconds: &[u64]| seconds.iter().max().copied().unwrap_or(0);
    let a_minute = all as f64 / vms as f64 / 5.0;
    println!(
        "{vms} VMs: at most {} requests a second for the second answer, {} later; {a_minute:.2} \
         a minute each",
        peak(early),
        peak(later)
    );
    // As where each has drawn a second of its own, of so many.
    let bound = |seconds: f64| {
        let mean = vms as f64 / seconds;
        mean + 6.0 * mean.sqrt()
    };
    assert!((peak(later) as f64) < bound(60.0), "{}", peak(later));
    assert!((peak(early) as f64) < bound(9.5), "{}", peak(early));
    assert!(a_minute <= 1.2, "{a_minute}");
}
