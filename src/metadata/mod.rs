//! Asking who this VM is and when it must be gone.
//!
//! The sources are asked in turns, one try each, in the configured order. One that
//! failed is due again after a while, and until then the others have theirs: a dead
//! source costs the next one a single request and not the time for all.

pub mod config_drive;
pub mod ec2;
mod instance;
mod known;
pub mod machine_features;
pub mod openstack;

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::backoff;
use crate::clock::Now;
use crate::config::{Config, Source};
use crate::deadline::decide::{Decision, decide};
use crate::deadline::first_boot;
use crate::deadline::limit::{self, Limit, When};
use crate::disk::reader::Reader;
use crate::host::this_boot::ThisBoot;
use crate::host::{Host, atomic_file, resolve};
use crate::http::{Cause, Client, Failure};
use crate::{clock, text, url};
pub use instance::{Instance, SourceAsked};
use known::Known;
use machine_features::{Environment, Locations, Session};

/// The name under which Machine/Job Features are reported.
pub const MACHINE_FEATURES: &str = "machine-features";

/// What a source said.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The device, where that is known only now.
    pub place: Option<String>,
    pub instance: Instance,
    /// The key and value pairs that whoever launched the instance gave it.
    pub meta: BTreeMap<String, String>,
    pub limits: Vec<Limit>,
    /// A grace that this source asks for.
    pub grace: Option<Duration>,
    pub warnings: Vec<String>,
    /// A part of the source asks to be left alone for so long.
    pub retry_after: Option<Duration>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum NoAnswer {
    Http(Failure),
    /// Something on this machine; asking again would not help.
    Local(String),
}

/// What became of asking one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// As the configuration calls it, or [`MACHINE_FEATURES`].
    pub source: String,
    /// The URL, device or directory.
    pub place: String,
    /// From the first try to the answer or to giving up.
    pub took: Duration,
    /// None were made where another source found nobody at the same address.
    pub tries: u32,
    /// The error says what was asked, the last cause, how often and how long.
    pub result: Result<Answer, String>,
    /// The service asks to be left alone for so long.
    pub retry_after: Option<Duration>,
}

/// Whether a source that did not answer is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Yes, and early in a boot even a 404 may be one for the moment only.
    Early,
    Yes,
    Never,
}

/// For so long after the kernel's start the service may not know an instance yet.
const EARLY: Duration = Duration::from_secs(5 * 60);

impl Again {
    /// Early, or not, by how long this system is up.
    pub fn by_uptime(uptime: Duration) -> Again {
        match uptime < EARLY {
            true => Again::Early,
            false => Again::Yes,
        }
    }
}

/// The sources, and what each of them said last.
pub struct Metadata<'a> {
    host: &'a Host,
    config: &'a Config,
    client: Client,
    ec2: ec2::Session<'a>,
    environment: Environment,
    features: Session,
    known: Known,
    answered: Answered,
    /// Of the disks among which the config drive is looked for.
    reader: Reader,
    /// How often it was asked again.
    rounds: u32,
}

/// Marker: OpenStack has answered in this boot, so the frozen config drive no longer counts,
/// also for a process that is started later and finds the service silent.
struct Answered {
    file: ThisBoot<Marker>,
    in_this_boot: bool,
}

#[derive(Serialize, Deserialize)]
struct Marker {}

impl Answered {
    fn read(host: &Host) -> Answered {
        let file = ThisBoot::at(host, host.runtime_directory().join("openstack-answered"));
        let in_this_boot = matches!(file.read(), Ok(Some(Marker {})));
        Answered { file, in_this_boot }
    }

    fn note(&mut self) {
        if self.in_this_boot {
            return;
        }
        self.in_this_boot = true;
        // Where it cannot be kept, a deadline that is held says the same of most.
        if let Ok(text) = self.file.text(&Marker {}) {
            let _ = atomic_file::replace(self.file.path(), &text, 0o644);
        }
    }
}

/// How much of the features is asked for in a round.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Features {
    Whole,
    /// One of those at a URL, and whatever is in directories.
    OneKey,
    /// Nothing, unless they are at another place than last time, or in directories.
    IfElsewhere,
}

/// Whether a round is for features and not for the service.
pub fn is_turn_of_features(round: u32, at_a_url: bool, there_is_a_service: bool) -> bool {
    at_a_url && (round % 2 == 1 || !there_is_a_service)
}

impl<'a> Metadata<'a> {
    pub fn new(host: &'a Host, config: &'a Config) -> Metadata<'a> {
        Metadata::with_environment(host, config, Environment::read())
    }

    pub fn with_environment(
        host: &'a Host,
        config: &'a Config,
        environment: Environment,
    ) -> Metadata<'a> {
        Metadata {
            host,
            config,
            client: Client::new(config.metadata.request_timeout, resolve::addresses),
            ec2: ec2::Session::new(config.metadata.url.as_str()),
            environment,
            features: Session::default(),
            known: Known::default(),
            answered: Answered::read(host),
            reader: Reader::default(),
            rounds: 0,
        }
    }

    /// Knows already which disks hang: they are not read once more.
    pub(crate) fn with_reader(self, reader: Reader) -> Metadata<'a> {
        Metadata { reader, ..self }
    }

    /// Asks these sources, and Machine/Job Features where somebody named a place, each
    /// until it has answered or failed for good, all of them for at most `budget`.
    pub fn ask(&mut self, sources: &[Source], budget: Duration, again: Again) -> Vec<Asked> {
        self.ask_in_turns(sources, Features::Whole, budget, again)
    }

    /// Asks what can have changed, as is due once a minute: the service and wherever the
    /// features are have thousands of instances to bear, so all of them together get one
    /// request. Features at a URL have every other round, and a request there is for one
    /// key; a wall limit takes two, now and then. The first round, of a process that knows
    /// nothing, asks for all of them, and the config drive, which does not change, as well.
    /// Each source is tried once.
    pub fn ask_again(&mut self, budget: Duration) -> Vec<Asked> {
        let mut sources = self.to_ask_again();
        let round = self.rounds;
        self.rounds += 1;
        let features = if round == 0 {
            let drive = Source::ConfigDrive;
            let configured = self.config.metadata.sources.contains(&drive);
            sources.splice(0..0, configured.then_some(drive));
            Features::Whole
        } else if is_turn_of_features(round, self.features.are_at_a_url(), !sources.is_empty()) {
            sources.clear();
            Features::OneKey
        } else {
            Features::IfElsewhere
        };
        self.ask_in_turns(&sources, features, budget, Again::Never)
    }

    fn ask_in_turns(
        &mut self,
        sources: &[Source],
        features: Features,
        budget: Duration,
        again: Again,
    ) -> Vec<Asked> {
        let start = Instant::now();
        let end = start + budget;
        self.ec2.begin_round();
        let mut turns: Vec<Turn> = sources
            .iter()
            .map(|source| Turn::new(Who::Source(*source), start))
            .collect();
        loop {
            self.add_features(&mut turns, features);
            let Some(next) = next_turn(&turns) else { break };
            thread::sleep(turns[next].due.saturating_duration_since(Instant::now()));
            let outcome = self.try_once(&turns[next].who, features, end);
            if let Who::Source(source) = turns[next].who {
                self.known.note(source, &outcome, clock::wall());
                if source == Source::Openstack && outcome.is_ok() {
                    self.answered.note();
                }
            }
            note(&mut turns, next, outcome, end, again);
        }
        let base = self.config.metadata.url.as_str();
        turns.into_iter().map(|turn| turn.report(base)).collect()
    }

    /// Which of the service's two sources is asked again: EC2 where there is no OpenStack.
    fn to_ask_again(&self) -> Vec<Source> {
        // It may only have been late.
        let once_more = self.rounds % 10 == 9;
        let preferred = match self.known.openstack_is_absent && !once_more {
            true => [Source::Ec2, Source::Openstack],
            false => [Source::Openstack, Source::Ec2],
        };
        let configured = &self.config.metadata.sources;
        let mut sources = preferred.to_vec();
        sources.retain(|source| configured.contains(source));
        sources.truncate(1);
        sources
    }

    /// Whether anybody names a place for Machine/Job Features.
    pub fn names_features(&self) -> bool {
        !self.known.no_features
    }

    /// Whether spot notices can be expected: EC2 itself answered, and not Nova.
    pub fn has_spot_notices(&self) -> bool {
        self.ec2.gives_tokens()
    }

    /// Asks for nothing but the notice that this spot instance is ended.
    pub fn ask_for_spot_notice(&mut self, budget: Duration) -> Result<(), NoAnswer> {
        self.ec2.begin_round();
        let notice = self
            .ec2
            .spot_notice(&self.client, Instant::now() + budget)?;
        self.known.note_spot_notice(notice, clock::wall());
        Ok(())
    }

    /// Whether the source that a limit of this origin is from has answered: then what it
    /// said before no longer counts. The config drive is frozen, and takes nothing back.
    pub fn has_heard_of(&self, origin: &str) -> bool {
        self.known.has_heard_of(origin) || self.features.has_heard_of(origin)
    }

    /// All known limits: the image's own, and those of the sources, also of one that
    /// answered once and fell silent.
    pub fn limits(&self) -> Vec<Limit> {
        let own = limit::own_limit(&self.config.deadline);
        let of_sources = self.known.limits().into_iter();
        own.into_iter()
            .chain(of_sources)
            .chain(self.features.limits())
            .filter(|limit| !self.is_outdated(limit))
            .collect()
    }

    /// Who this instance is; None where nobody said.
    pub fn instance(&self) -> Option<Instance> {
        self.known.instance(&self.config.metadata.sources)
    }

    /// Which of the limits is the deadline, and what was odd about finding out. `held`
    /// is one from before, `id` the instance's, if anybody said it before.
    pub fn decide(
        &self,
        held: Option<Limit>,
        id: Option<&str>,
        now: Now,
    ) -> (Decision, Vec<String>) {
        let held = held.filter(|limit| !self.is_outdated(limit));
        let limits: Vec<Limit> = self.limits().into_iter().chain(held).collect();
        let ids: Vec<&str> = self.known.ids().chain(id).collect();
        let lease = first_boot::take(self.host, &ids, now);
        let lifetimes = |limit: &Limit| matches!(limit.when, When::AfterFirstBoot(_));
        let decision = decide(&limits, lease.first_boot, self.grace());
        let mut warnings = Vec::new();
        if limits.iter().any(lifetimes) {
            warnings = lease.warnings;
        }
        let ignored = decision.ignored.iter();
        warnings
            .extend(ignored.map(|limit| format!("{} is ignored: {}", limit.origin, limit.reason)));
        (decision, warnings)
    }

    /// The config drive is frozen at launch. What the service said in this boot, to this
    /// process or another, is newer: also that there is no limit any more.
    fn is_outdated(&self, limit: &Limit) -> bool {
        limit.origin.ends_with(config_drive::ORIGIN)
            && (self.known.has_openstack() || self.answered.in_this_boot)
    }

    /// The configured grace, or a longer one that a source asks for.
    pub fn grace(&self) -> Duration {
        let configured = self.config.deadline.grace;
        self.features
            .grace()
            .map_or(configured, |g| g.max(configured))
    }

    /// Machine/Job Features have their turn as soon as every source had its say about
    /// where they are.
    fn add_features(&mut self, turns: &mut Vec<Turn>, wanted: Features) {
        if turns.iter().any(|turn| turn.outcome.is_none()) {
            return;
        }
        let (locations, passed_over) = machine_features::locate(
            self.host,
            &self.environment,
            self.known.meta(),
            &self.config.metadata,
        );
        self.known.no_features = locations.is_empty() && passed_over.is_empty();
        if self.known.no_features {
            self.features = Session::default();
            return;
        }
        let is_known = self.features.are_at(&locations) && self.features.are_at_a_url();
        if wanted == Features::IfElsewhere && is_known {
            return;
        }
        let who = Who::Features(locations, passed_over);
        if turns.iter().all(|turn| turn.who != who) {
            turns.retain(|turn| matches!(turn.who, Who::Source(_)));
            turns.push(Turn::new(who, Instant::now()));
        }
    }

    fn try_once(&mut self, who: &Who, wanted: Features, end: Instant) -> Result<Answer, NoAnswer> {
        let base = self.config.metadata.url.as_str();
        let reader = machine_features::Reader {
            host: self.host,
            client: &self.client,
            until: end,
        };
        match who {
            Who::Source(Source::ConfigDrive) => {
                let left = end.saturating_duration_since(Instant::now());
                let limit = self.config.staging.device_timeout.min(left);
                config_drive::ask(self.host, &mut self.reader, limit)
            }
            Who::Source(Source::Openstack) => openstack::ask(&self.client, base, end),
            Who::Source(Source::Ec2) => self.ec2.ask(&self.client, end),
            Who::Features(locations, passed_over)
                if wanted == Features::OneKey && self.features.are_at(locations) =>
            {
                self.features.ask_again(passed_over, &reader)
            }
            Who::Features(locations, passed_over) => {
                self.features.ask(locations, passed_over, &reader)
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Who {
    Source(Source),
    /// Where they are, and which places were passed over, with the reasons.
    Features(Locations, Vec<String>),
}

impl Who {
    /// The sources that one service at one address gives the answers of.
    fn is_on_the_service(&self) -> bool {
        matches!(self, Who::Source(Source::Openstack | Source::Ec2))
    }
}

/// One source while it is being asked.
#[derive(Debug)]
struct Turn {
    who: Who,
    started: Instant,
    took: Duration,
    tries: u32,
    due: Instant,
    /// Of the last try.
    outcome: Option<Result<Answer, NoAnswer>>,
    /// There will be no further try.
    settled: bool,
}

impl Turn {
    fn new(who: Who, now: Instant) -> Turn {
        Turn {
            who,
            started: now,
            took: Duration::ZERO,
            tries: 0,
            due: now,
            outcome: None,
            settled: false,
        }
    }

    fn cause(&self) -> Option<&Cause> {
        match &self.outcome {
            Some(Err(NoAnswer::Http(failure))) => Some(&failure.cause),
            _ => None,
        }
    }

    fn has_answered(&self) -> bool {
        matches!(self.outcome, Some(Ok(_)))
    }

    fn report(self, base: &str) -> Asked {
        let (source, mut place) = match &self.who {
            Who::Source(source) => (source.to_string(), place(*source, base)),
            Who::Features(locations, _) => (MACHINE_FEATURES.into(), locations.place()),
        };
        if let Some(Ok(Answer {
            place: Some(found), ..
        })) = &self.outcome
        {
            place.clone_from(found);
        }
        let failure = self
            .outcome
            .as_ref()
            .and_then(|outcome| outcome.as_ref().err());
        let retry_after = match &self.outcome {
            Some(Ok(answer)) => answer.retry_after,
            _ => failure.and_then(NoAnswer::retry_after),
        };
        let (tries, took) = (self.tries, self.took);
        let result = match self.outcome {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(NoAnswer::Http(failure))) => Err(match tries {
                0 => format!("not asked: {failure}"),
                1 => format!("{failure} (1 try in {took:.1?})"),
                _ => format!("{failure} ({tries} tries in {took:.1?})"),
            }),
            Some(Err(NoAnswer::Local(why))) => Err(why),
            None => Err("not asked: no time was left".into()),
        };
        Asked {
            source,
            place: text::printable(&place),
            took,
            tries,
            // A URL or a directory in it may be what `meta` names.
            result: result.map_err(|why| text::printable(&why)),
            retry_after,
        }
    }
}

fn place(source: Source, base: &str) -> String {
    let base = url::shown(base);
    match source {
        Source::ConfigDrive => config_drive::PLACE.into(),
        Source::Openstack => format!("{base}/{}", openstack::PATH),
        Source::Ec2 => format!("{base}/latest/meta-data/"),
    }
}

/// The one that is due first, in the configured order among equals.
fn next_turn(turns: &[Turn]) -> Option<usize> {
    let open = turns.iter().enumerate().filter(|(_, turn)| !turn.settled);
    open.min_by_key(|(_, turn)| turn.due)
        .map(|(index, _)| index)
}

/// Notes what came of a try: whether and when there is another, and what it says about
/// other sources.
fn note(
    turns: &mut [Turn],
    index: usize,
    outcome: Result<Answer, NoAnswer>,
    end: Instant,
    again: Again,
) {
    let now = Instant::now();
    let turn = &mut turns[index];
    turn.tries += 1;
    turn.took = now.saturating_duration_since(turn.started);
    turn.outcome = Some(outcome);
    let wait = turn
        .cause()
        .filter(|_| again != Again::Never)
        .and_then(|cause| {
            let left = end.saturating_duration_since(now);
            backoff::wait_before_next_try(
                cause,
                turn.tries,
                backoff::jitter(),
                again == Again::Early,
                left,
            )
        });
    match wait {
        Some(wait) => turn.due = now + wait,
        None => turn.settled = true,
    }
    if turn.who.is_on_the_service() {
        share_fate(turns, index);
    }
}

/// OpenStack's and EC2's answers come from one address. Where nobody is there for one
/// of them nobody is for the other. Where one answers and the other is a 404, that one
/// is not a question of time.
fn share_fate(turns: &mut [Turn], index: usize) {
    let nobody_is_there = matches!(turns[index].cause(), Some(Cause::Unreachable(_)));
    let (due, settled) = (turns[index].due, turns[index].settled);
    let outcome = turns[index].outcome.clone();
    let answered = turns
        .iter()
        .any(|turn| turn.who.is_on_the_service() && turn.has_answered());
    for (other, turn) in turns.iter_mut().enumerate() {
        if turn.settled || !turn.who.is_on_the_service() {
            continue;
        }
        if nobody_is_there && other != index {
            turn.outcome = outcome.clone();
            turn.due = due;
            turn.settled = settled;
        } else if answered && matches!(turn.cause(), Some(Cause::Status(404, _))) {
            turn.settled = true;
        }
    }
}

impl Asked {
    pub fn took_ms(&self) -> u64 {
        u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)
    }

    /// As the status document shows it.
    pub fn published(&self) -> SourceAsked {
        SourceAsked {
            source: self.source.clone(),
            took_ms: self.took_ms(),
            error: self.result.as_ref().err().cloned(),
        }
    }
}

impl NoAnswer {
    /// For how long the service asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            NoAnswer::Http(Failure {
                cause: Cause::Status(_, wait),
                ..
            }) => *wait,
            _ => None,
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NoAnswer::Http(failure) => failure.fmt(f),
            NoAnswer::Local(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn the_frozen_limit_of_the_drive_does_not_come_back_when_the_service_falls_silent() {
        let config = Config::default();
        let tree = Tree::new(&[
            ("run/vmstage/", ""),
            ("proc/sys/kernel/random/boot_id", "this\n"),
        ]);
        let host = tree.host();
        let fresh = || {
            let mut metadata = Metadata::new(&host, &config);
            let drive = br#"{"uuid": "a", "meta": {"vmstage_deadline": "1800000000"}}"#;
            let drive = openstack::parse(drive, "config drive").unwrap();
            metadata.known.note(Source::ConfigDrive, &Ok(drive), 1);
            metadata
        };
        let mut first = fresh();
        assert_eq!(first.limits().len(), 1);
        first.answered.note();
        // As after a restart.
        let second = fresh();
        assert_eq!(second.limits(), []);
        // Of another boot it says nothing.
        let file = tree.root().join("run/vmstage/openstack-answered");
        std::fs::write(file, r#"{"boot_id": "another"}"#).unwrap();
        assert_eq!(fresh().limits().len(), 1);
    }

    #[test]
    fn only_in_the_first_minutes_is_a_404_one_for_the_moment() {
        let at = |minutes: u64| Again::by_uptime(Duration::from_secs(minutes * 60));
        assert_eq!(
            [at(0), at(4), at(5)],
            [Again::Early, Again::Early, Again::Yes]
        );
    }
}
