//! Asking who this VM is and when it must be gone.
//!
//! The sources are asked in turns, one try each, in the configured order. One that
//! failed is due again after a while, and until then the others have theirs: a dead
//! source costs the next one a single request and not the time for all.

mod answer;
pub mod azure;
mod cloud;
pub(crate) mod config_drive;
pub mod ec2;
pub mod google;
mod held;
mod instance;
mod json;
mod known;
mod link_local;
pub mod machine_features;
pub mod openstack;
mod portion;
mod turns;

use std::thread;
use std::time::{Duration, Instant};

use crate::backoff;
use crate::config::{self, Config, Source, Sources};
use crate::deadline::identity::Identity;
use crate::deadline::origin::LimitSource;
use crate::disk::reader::Reader;
use crate::host::{Host, resolve};
use crate::http::Client;
pub use answer::{Answer, NoAnswer, Pending};
pub use held::Held;
pub(crate) use instance::{Instance, SourceAsked};
use known::Known;
use machine_features::{Directories, Environment, Places, Session};
use portion::{Pace, Portion};
pub use turns::{Again, Asked, MACHINE_FEATURES};
use turns::{Turn, Who, next_turn, note};

/// The sources, and what each of them said last.
pub struct Metadata<'a> {
    host: &'a Host,
    config: &'a Config,
    client: Client,
    /// Those that are asked, in this order.
    sources: Vec<Source>,
    /// Where the metadata service may be; the first one answered last.
    services: Vec<String>,
    ec2: ec2::Session,
    google: google::Session,
    azure: azure::Session,
    environment: Environment,
    features: Session,
    directories: Directories<'a>,
    known: Known,
    /// Of the disks among which the config drive is looked for.
    reader: Reader,
    /// How often it was asked again.
    rounds: u32,
    /// From 0 to 1; another one on each machine.
    chance: f64,
}

/// How much of the features is asked for in a round.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Features {
    All,
    /// Nothing at a URL, unless that is another place than last time.
    IfElsewhere,
}

/// All features at a URL are asked for in one of so many rounds.
const FEATURES_PERIOD: u32 = 10;

/// Whether a round is one in which features at a URL are asked for. The first one is; after
/// that `chance`, from 0 to 1, decides which one of ten.
pub(crate) fn is_turn_of_features(round: u32, chance: f64) -> bool {
    let offset = (chance.clamp(0.0, 1.0) * f64::from(FEATURES_PERIOD)) as u32;
    round == 0 || round % FEATURES_PERIOD == offset % FEATURES_PERIOD
}

/// What a request may take minutes for, which a child therefore makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Google's service holds it until something changes.
    ForChangeAtGoogle,
    /// The first one switches Azure's scheduled events on.
    ForEventsOfAzure,
    /// OpenStack's service asks the site's own in turn.
    ForVendorData,
}

/// None where it is no source of the configuration's.
pub(crate) fn source_of(limits: LimitSource) -> Option<Source> {
    match limits {
        LimitSource::ConfigDrive => Some(Source::ConfigDrive),
        LimitSource::Openstack => Some(Source::Openstack),
        LimitSource::Ec2 => Some(Source::Ec2),
        LimitSource::Google => Some(Source::Google),
        LimitSource::Azure => Some(Source::Azure),
        _ => None,
    }
}

impl<'a> Metadata<'a> {
    pub(crate) fn new(host: &'a Host, config: &'a Config) -> Metadata<'a> {
        Metadata::with_environment(host, config, Environment::read())
    }

    /// For tests, which say where features are.
    pub fn with_environment(
        host: &'a Host,
        config: &'a Config,
        environment: Environment,
    ) -> Metadata<'a> {
        Metadata {
            host,
            config,
            client: Client::new(config.metadata.request_timeout, resolve::addresses),
            sources: cloud::sources(host, &config.metadata.sources),
            services: vec![config.metadata.url.as_str().to_string()],
            ec2: ec2::Session::new(config.metadata.url.as_str()),
            google: google::Session::default(),
            azure: azure::Session::default(),
            environment,
            features: Session::default(),
            directories: Directories::new(host),
            known: Known::default(),
            reader: Reader::default(),
            rounds: 0,
            chance: backoff::jitter(),
        }
    }

    /// The sources that are asked, in this order.
    pub fn sources(&self) -> Vec<Source> {
        self.sources.clone()
    }

    /// Knows already which disks hang: they are not read once more.
    pub(crate) fn with_reader(self, reader: Reader) -> Metadata<'a> {
        Metadata { reader, ..self }
    }

    /// From now on what is another instance's decides nothing about whom to ask, and where.
    pub(crate) fn judge_by(&mut self, identity: &Identity) {
        self.known.identity.clone_from(identity);
    }

    /// Asks these sources, and Machine/Job Features where somebody named a place, each
    /// until it has answered or failed for good, all of them for at most `budget`.
    pub fn ask(&mut self, sources: &[Source], budget: Duration, again: Again) -> Vec<Asked> {
        self.ask_in_turns(sources, Features::All, Pace::Whole, budget, again)
    }

    /// Asks what can have changed, as is due once a minute: the service, and in one round of
    /// ten for all keys of features that are at a URL. Both have thousands of instances to
    /// bear. The first round, of a process that knows nothing, asks for all of them, and the
    /// config drive, which does not change, as well. Each source is tried once.
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
        self.rounds = self.rounds.wrapping_add(1);
        let mut features = match is_turn_of_features(round, self.chance) {
            true => Features::All,
            false => Features::IfElsewhere,
        };
        if round == 0 && self.sources.contains(&Source::ConfigDrive) {
            sources.insert(0, Source::ConfigDrive);
        } else if let (1.., Some(of)) = (round, second) {
            (sources, features) = match of {
                // Where they are `meta` says, which may have been wrong.
                LimitSource::MachineFeatures => (sources, Features::All),
                of => (source_of(of).into_iter().collect(), Features::IfElsewhere),
            };
        }
        self.ask_in_turns(&sources, features, Pace::InPortions, budget, Again::Never)
    }

    fn ask_in_turns(
        &mut self,
        sources: &[Source],
        features: Features,
        pace: Pace,
        budget: Duration,
        again: Again,
    ) -> Vec<Asked> {
        let start = Instant::now();
        let end = start + budget;
        self.look_for_services();
        self.directories.begin_round();
        let mut turns: Vec<Turn> = sources
            .iter()
            .map(|source| Turn::new(Who::Source(*source), start))
            .collect();
        loop {
            self.add_features(&mut turns, features);
            let Some(next) = next_turn(&turns) else { break };
            thread::sleep(turns[next].due.saturating_duration_since(Instant::now()));
            let longest = self.config.metadata.request_timeout;
            let portion = Portion::new(pace, end, longest);
            let outcome = self.try_once(&turns[next].who, features, portion);
            if let Who::Source(source) = turns[next].who {
                self.known.note(source, &outcome);
            }
            note(&mut turns, next, outcome, end, again);
        }
        let base = self.services[0].as_str();
        turns.into_iter().map(|turn| turn.report(base)).collect()
    }

    /// In a network of IPv6 alone OpenStack's service is on the link. An address that was
    /// configured is the only one.
    fn look_for_services(&mut self) {
        let metadata = &self.config.metadata;
        let is_default = metadata.url == config::Metadata::default().url;
        if metadata.sources != Sources::Auto
            || !is_default
            || !self.sources.contains(&Source::Openstack)
        {
            return;
        }
        let on_the_link = link_local::services(self.host);
        if on_the_link.is_empty() {
            self.services = vec![metadata.url.as_str().to_string()];
        } else if self.services.iter().all(|base| !on_the_link.contains(base)) {
            self.services = on_the_link;
        }
    }

    /// Which of the service's sources is asked again: of OpenStack and EC2 one, EC2 where there
    /// is no OpenStack, and whatever else there is.
    fn to_ask_again(&self) -> Vec<Source> {
        // It may only have been late.
        let once_more = self.rounds % 10 == 9;
        let preferred = match self.known.openstack_is_absent && !once_more {
            true => [Source::Ec2, Source::Openstack],
            false => [Source::Openstack, Source::Ec2],
        };
        let is_asked = |source: &Source| self.sources.contains(source);
        let one = preferred.into_iter().find(is_asked);
        let others = [Source::Google, Source::Azure].into_iter().filter(is_asked);
        one.into_iter().chain(others).collect()
    }

    /// Whether anybody names a place for Machine/Job Features.
    pub fn names_features(&self) -> bool {
        !self.known.no_features
    }

    /// Whether these answers say that nobody does any more.
    pub(crate) fn are_features_gone(&self, answered: &[LimitSource]) -> bool {
        self.known.are_features_gone(&self.sources, answered)
    }

    /// Whether notices may be seconds ahead here, and can be asked for once a first answer has
    /// come. Where OpenStack is asked as well, nothing says that this is EC2 itself.
    pub(crate) fn is_of_a_cloud_with_notices(&self) -> bool {
        let is_asked = |source| self.sources.contains(&source);
        is_asked(Source::Azure) || is_asked(Source::Ec2) && !is_asked(Source::Openstack)
    }

    /// Whether notices can be expected that have to be asked for: EC2 itself answered, and not
    /// Nova, or Azure has events.
    pub fn has_spot_notices(&self) -> bool {
        self.ec2.gives_tokens() || self.azure.has_events()
    }

    /// Asks for nothing but the notices that the cloud is about to end this instance, each kind
    /// for at most `budget`.
    ///
    /// # Errors
    ///
    /// That they cannot be had.
    pub fn ask_for_spot_notice(
        &mut self,
        budget: Duration,
    ) -> Result<(LimitSource, Answer), NoAnswer> {
        if !self.azure.has_events() {
            let answer = self.ec2.ask_for_notices(&self.client, budget)?;
            return Ok((LimitSource::Ec2, answer));
        }
        let (vm, until) = (self.azure.vm().unwrap_or_default(), Instant::now() + budget);
        let events = azure::ask_for_events(&self.client, &self.services[0], vm, until);
        self.take(Wait::ForEventsOfAzure, events)
    }

    /// What is worth a request that may take minutes.
    pub fn waits(&self) -> Vec<Wait> {
        let wants_events = self.config.metadata.azure_events && !self.azure.has_events();
        let waits = [
            (
                Wait::ForChangeAtGoogle,
                self.sources.contains(&Source::Google),
            ),
            (
                Wait::ForEventsOfAzure,
                wants_events && self.azure.vm().is_some(),
            ),
            (Wait::ForVendorData, self.known.has_openstack()),
        ];
        let worth_it = waits.into_iter().filter(|(_, is_worth_it)| *is_worth_it);
        worth_it.map(|(wait, _)| wait).collect()
    }

    /// Starts such a request. What comes of it is for [`Metadata::take`].
    ///
    /// # Errors
    ///
    /// That it cannot even be started.
    pub fn wait_for(&self, what: Wait) -> Result<Held, NoAnswer> {
        let base = self.services[0].clone();
        match what {
            Wait::ForChangeAtGoogle => {
                let tag = self.google.tag.clone();
                Held::start(google::PATIENCE, move |client, until| {
                    google::ask(client, &base, tag.as_deref(), until)
                })
            }
            Wait::ForEventsOfAzure => {
                let vm = self.azure.vm().unwrap_or_default().to_string();
                Held::start(azure::PATIENCE, move |client, until| {
                    azure::ask_for_events(client, &base, &vm, until)
                })
            }
            Wait::ForVendorData => Held::start(openstack::VENDOR_PATIENCE, move |client, until| {
                openstack::ask_vendor_data(client, &base, until)
            }),
        }
    }

    /// Takes what came of a request, and says what it means and who says so.
    ///
    /// # Errors
    ///
    /// The failure that it came to.
    pub fn take(
        &mut self,
        what: Wait,
        outcome: Result<Answer, NoAnswer>,
    ) -> Result<(LimitSource, Answer), NoAnswer> {
        let answer = outcome?;
        Ok(match what {
            Wait::ForChangeAtGoogle => {
                let answer = Ok(self.google.take(answer));
                self.known.note(Source::Google, &answer);
                (LimitSource::Google, answer?)
            }
            Wait::ForEventsOfAzure => {
                let answer = self.azure.take_events(answer);
                self.known.note_pending(LimitSource::Azure, &answer.pending);
                (LimitSource::Azure, answer)
            }
            Wait::ForVendorData => {
                self.known.has_site_spoken = true;
                self.known.note_vendor_data(answer.clone());
                (LimitSource::VendorData, answer)
            }
        })
    }

    /// How long to wait before the next such request, after one that `lasted` so long and
    /// asked to be left alone for `retry_after`. `chance`, from 0 to 1, keeps VMs apart.
    pub fn pause(
        &mut self,
        what: Wait,
        lasted: Duration,
        retry_after: Option<Duration>,
        chance: f64,
    ) -> Duration {
        const MINUTE: Duration = Duration::from_secs(60);
        let pause = match what {
            Wait::ForChangeAtGoogle => self.google.pause(lasted, chance),
            Wait::ForEventsOfAzure => MINUTE.mul_f64(0.9 + 0.2 * chance),
            // One that is not asked for ten minutes would be taken for silent.
            Wait::ForVendorData => 8 * MINUTE.mul_f64(0.9 + 0.2 * chance),
        };
        pause.max(retry_after.unwrap_or_default())
    }

    /// Tells the cloud that it need not wait any longer with this.
    ///
    /// # Errors
    ///
    /// That it could not be told.
    pub fn acknowledge(&self, pending: &Pending, budget: Duration) -> Result<(), NoAnswer> {
        let until = Instant::now() + budget;
        azure::acknowledge(&self.client, &self.services[0], &pending.id, until)
    }

    /// What the cloud waits with until it is told to go on.
    pub fn pending(&self) -> Vec<Pending> {
        self.known.pending()
    }

    /// Who this instance is; None where nobody said.
    pub fn instance(&self) -> Option<Instance> {
        self.known.instance(&self.sources)
    }

    /// Machine/Job Features have their turn as soon as every source had its say about
    /// where they are.
    fn add_features(&mut self, turns: &mut Vec<Turn>, wanted: Features) {
        if turns.iter().any(|turn| turn.outcome.is_none()) {
            return;
        }
        let (locations, passed_over) = machine_features::locate(
            &mut self.directories,
            &self.environment,
            &self.known.meta(),
            &self.config.metadata,
        );
        self.known.no_features = locations.is_empty() && passed_over.is_empty();
        if self.known.no_features {
            self.features = Session::default();
            return;
        }
        self.known.note_who_names_features();
        let is_known = self.features.are_at(&locations) && self.features.are_at_urls_alone();
        if wanted == Features::IfElsewhere && is_known && !self.features.goes_on() {
            return;
        }
        let who = Who::Features(locations, passed_over);
        if turns.iter().all(|turn| turn.who != who) {
            turns.retain(|turn| matches!(turn.who, Who::Source(_)));
            turns.push(Turn::new(who, Instant::now()));
        }
    }

    fn try_once(
        &mut self,
        who: &Who,
        wanted: Features,
        portion: Portion,
    ) -> Result<Answer, NoAnswer> {
        match who {
            Who::Source(source) => self.ask_source(*source, portion),
            Who::Features(locations, passed_over) => {
                let mut reader = machine_features::Reader {
                    directories: &mut self.directories,
                    client: &self.client,
                    portion,
                };
                let places = match wanted == Features::All || !self.features.are_at(locations) {
                    true => Places::All,
                    false => Places::Directories,
                };
                self.features
                    .ask(locations, passed_over, places, &mut reader)
            }
        }
    }

    fn ask_source(&mut self, source: Source, portion: Portion) -> Result<Answer, NoAnswer> {
        let (client, end) = (&self.client, portion.until);
        match source {
            Source::ConfigDrive => {
                let left = end.saturating_duration_since(Instant::now());
                let limit = self.config.staging.device_timeout.min(left);
                config_drive::ask(self.host, &mut self.reader, limit)
            }
            Source::Openstack => {
                let asked = openstack::ask_each(client, &self.services, end);
                let (answer, at) = asked?;
                self.services.swap(0, at);
                self.ec2.move_to(&self.services[0]);
                Ok(answer)
            }
            Source::Ec2 => self.ec2.ask(client, portion),
            Source::Google => {
                let answer = google::ask(client, &self.services[0], None, end)?;
                Ok(self.google.take(answer))
            }
            Source::Azure => {
                let events = self.config.metadata.azure_events;
                let identity = &self.known.identity;
                self.azure
                    .ask(client, &self.services[0], events, identity, end)
            }
        }
    }
}
