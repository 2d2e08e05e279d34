//! Asking who this VM is and when it must be gone.
//!
//! The sources are asked in turns, one try each, in the configured order. One that
//! failed is due again after a while, and until then the others have theirs: a dead
//! source costs the next one a single request and not the time for all.

mod answer;
pub(crate) mod config_drive;
pub mod ec2;
mod instance;
mod json;
mod known;
pub mod machine_features;
pub mod openstack;
mod turns;

use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, Source};
use crate::deadline::ledger::About;
use crate::deadline::origin::LimitSource;
use crate::disk::reader::Reader;
use crate::host::{Host, resolve};
use crate::http::Client;
pub use answer::{Answer, NoAnswer};
pub(crate) use instance::{Instance, SourceAsked};
use known::Known;
use machine_features::{Environment, Session};
pub use turns::{Again, Asked, MACHINE_FEATURES};
use turns::{Turn, Who, next_turn, note};

/// The sources, and what each of them said last.
pub struct Metadata<'a> {
    host: &'a Host,
    config: &'a Config,
    client: Client,
    ec2: ec2::Session<'a>,
    environment: Environment,
    features: Session,
    known: Known,
    /// Of the disks among which the config drive is looked for.
    reader: Reader,
    /// How often it was asked again.
    rounds: u32,
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
pub(crate) fn is_turn_of_features(round: u32, at_a_url: bool, there_is_a_service: bool) -> bool {
    at_a_url && (round % 2 == 1 || !there_is_a_service)
}

/// None where it is no source of the configuration's.
fn source_of(limits: LimitSource) -> Option<Source> {
    match limits {
        LimitSource::ConfigDrive => Some(Source::ConfigDrive),
        LimitSource::Openstack => Some(Source::Openstack),
        LimitSource::Ec2 => Some(Source::Ec2),
        _ => None,
    }
}

impl<'a> Metadata<'a> {
    pub(crate) fn new(host: &'a Host, config: &'a Config) -> Metadata<'a> {
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
        self.ask_once_more(budget, None)
    }

    /// The same, where a second answer of one source is wanted.
    pub(crate) fn ask_for_second_answer(
        &mut self,
        of: LimitSource,
        budget: Duration,
    ) -> Vec<Asked> {
        self.ask_once_more(budget, Some(of))
    }

    fn ask_once_more(&mut self, budget: Duration, second: Option<LimitSource>) -> Vec<Asked> {
        let mut sources = self.to_ask_again();
        let round = self.rounds;
        self.rounds += 1;
        let features = if round == 0 {
            let drive = Source::ConfigDrive;
            let configured = self.config.metadata.sources.contains(&drive);
            sources.splice(0..0, configured.then_some(drive));
            Features::Whole
        } else if let Some(of) = second {
            sources = source_of(of).into_iter().collect();
            match of {
                LimitSource::MachineFeatures => Features::Whole,
                _ => Features::IfElsewhere,
            }
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
                self.known.note(source, &outcome);
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
    pub fn ask_for_spot_notice(&mut self, budget: Duration) -> Result<Answer, NoAnswer> {
        self.ec2.begin_round();
        let notice = self
            .ec2
            .spot_notice(&self.client, Instant::now() + budget)?;
        Ok(Answer {
            limits: notice.into_iter().collect(),
            about: About::Keys(vec![ec2::SPOT.into()]),
            ..Answer::default()
        })
    }

    /// Who this instance is; None where nobody said.
    pub fn instance(&self) -> Option<Instance> {
        self.known.instance(&self.config.metadata.sources)
    }

    /// A grace that a source asks for.
    pub fn grace(&self) -> Option<Duration> {
        self.features.grace()
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
