//! The boot sequence. This is the only place that knows the order.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use log::{debug, error, info, warn};
use nix::unistd::geteuid;

use crate::config::{Config, ConfigError, Format, Staging};
use crate::deadline::Limit;
use crate::disk;
use crate::disk::choose::{Choice, FoundBy, Judgement};
use crate::metadata::{Again, Asked, Metadata};
use crate::report;
use crate::report::syslog;
use crate::staging::directories::{self, Created, Ready};
use crate::staging::mount::{MountError, Staged, check_mount_point, find_staged, mount};
use crate::status::{self, Status};
use crate::{atomic_file, clock, lease};

/// Why the machine is not ready.
#[derive(Debug)]
pub enum Failure {
    Config(ConfigError),
    NoDevice(String),
    Mount(String),
    /// A disk was not any more what it had been accepted for.
    Changed(String),
    Directories(String),
    Other(anyhow::Error),
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Other(_) => 1,
            Failure::NoDevice(_) => 3,
            Failure::Mount(_) | Failure::Changed(_) => 4,
            Failure::Directories(_) => 5,
            Failure::Config(_) => 6,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Config(error) => write!(f, "the configuration is wrong: {error}"),
            Failure::NoDevice(text)
            | Failure::Mount(text)
            | Failure::Changed(text)
            | Failure::Directories(text) => write!(f, "{text}"),
            Failure::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

/// Makes the machine ready, tells everybody, and then finds out when it must be gone
/// and tells that. Returns the exit code, which only the first half decides.
pub fn run(config_file: Option<&Path>) -> u8 {
    if !geteuid().is_root() {
        error!("boot must be run as root");
        return 1;
    }
    let config = Config::load(config_file);
    // Held until the status is written: an earlier boot's has to be there whole.
    let turn = match wait_for_turn() {
        Ok(turn) => turn,
        Err(failure) => {
            error!("{failure}");
            return failure.exit_code();
        }
    };
    let mut status = Status::begin();
    if config.as_ref().map_or(true, |config| config.report.syslog) {
        syslog::connect();
    }
    let outcome = match &config {
        Ok(config) => make_ready(config, &mut status),
        Err(error) => Err(Failure::Config(error.clone())),
    };
    let config = config.unwrap_or_else(|_| Config::without_consumers());

    status.conclude(outcome.as_ref().err());
    report::outcome(&mut status, outcome.as_ref().ok(), &config);
    if outcome.is_ok() {
        // Another boot does not wait for the network.
        drop(turn);
        let told = status.clone();
        find_deadline(&config, &mut status);
        if status != told && !report::is_outdated(&told) {
            report::deadline(&status, &config);
        }
    }
    report::final_line(&status, &config);
    status.exit_code
}

fn make_ready(config: &Config, status: &mut Status) -> Result<Ready, Failure> {
    let staged = match find_staged(config.staging.mount_point.as_path()) {
        Err(error) => return Err(Failure::Mount(format!("{error:#}"))),
        Ok(Some(staged)) => staged,
        Ok(None) => find_and_mount(&config.staging, status)?,
    };
    status.staging = Some((&staged).into());

    let (created, ready) = directories::create(&staged, &config.directories);
    status.record_directories(&config.directories, &created);
    ready.ok_or_else(|| not_as_asked(&staged, &created))
}

/// How long an earlier boot may take: a disk that hangs must not hang the next one.
const TURN: Duration = Duration::from_secs(60);

/// Two at once, one started by init and one by hand, would mount twice. Where there
/// is no place for the lock there is no turn to wait for either.
fn wait_for_turn() -> Result<Option<File>, Failure> {
    let path = status::runtime_directory().join("boot.lock");
    let Ok(lock) = atomic_file::lock_file(&path) else {
        return Ok(None);
    };
    let start = Instant::now();
    while let Err(TryLockError::WouldBlock) = lock.try_lock() {
        if start.elapsed() >= TURN {
            return Err(Failure::Other(anyhow!(
                "another vmstage boot is at it for {TURN:?} already and holds {}",
                path.display()
            )));
        }
        sleep(Duration::from_millis(100));
    }
    Ok(Some(lock))
}

/// How often the disks are looked at where one changes before it can be mounted.
const LOOKS: usize = 3;

fn find_and_mount(config: &Staging, status: &mut Status) -> Result<Staged, Failure> {
    if config.format != Format::Never {
        // Nothing is made on a disk that could not be mounted then.
        check_mount_point(config.mount_point.as_path())
            .map_err(|error| Failure::Mount(format!("{error:#}")))?;
    }
    let mut looks = 1;
    loop {
        let choice = find_device(config, status)?;
        match mount_first_accepted(&choice, config, status) {
            Err(Failure::Changed(text)) if looks < LOOKS => {
                warn!("{text}; looking at the disks again");
            }
            done => return done,
        }
        looks += 1;
    }
}

fn find_device(config: &Staging, status: &mut Status) -> Result<Choice, Failure> {
    let choice = disk::search(config)?;
    status.verdicts = choice.verdicts.iter().map(Into::into).collect();
    for verdict in &choice.verdicts {
        match verdict.judgement {
            Judgement::Absent => debug!("{verdict}"),
            _ => info!("{verdict}"),
        }
    }
    Ok(choice)
}

/// A device that a label found and that cannot be mounted ends the search: falling
/// back to a bare name after that could take somebody's volume.
fn mount_first_accepted(
    choice: &Choice,
    config: &Staging,
    status: &mut Status,
) -> Result<Staged, Failure> {
    let mut failed = Vec::new();
    for accepted in choice.accepted() {
        let error = match mount(accepted, config) {
            Ok(staged) => return Ok(staged),
            Err(MountError::MountPoint(error)) => {
                return Err(Failure::Mount(format!("{error:#}")));
            }
            Err(MountError::Changed(error)) => {
                return Err(Failure::Changed(format!("{error:#}")));
            }
            Err(MountError::Device(error)) => format!("{error:#}"),
        };
        status.reject(accepted.node(), &error);
        if accepted.found_by() == FoundBy::Label {
            return Err(Failure::Mount(error));
        }
        warn!("{error}; the search goes on");
        failed.push(error);
    }
    match failed.is_empty() {
        true => Err(Failure::NoDevice(format!("no usable disk: {choice}"))),
        false => Err(Failure::Mount(failed.join("; "))),
    }
}

fn not_as_asked(staged: &Staged, created: &[Created]) -> Failure {
    let errors: Vec<String> = created
        .iter()
        .filter_map(|one| Some(format!("{:#}", one.error.as_ref()?)))
        .collect();
    Failure::Directories(format!(
        "{} is on {}, but {}",
        staged.device(),
        staged.mount_point().display(),
        errors.join("; ")
    ))
}

/// Asks who this machine is and when it must be gone. That nobody answers is no failure.
fn find_deadline(config: &Config, status: &mut Status) {
    let mut metadata = Metadata::new(config);
    let asked = metadata.ask(
        &config.metadata.sources,
        config.metadata.timeout,
        Again::by_uptime(clock::uptime()),
    );
    let answered = asked.iter().any(|asked| asked.result.is_ok());
    for asked in &asked {
        match &asked.result {
            Ok(answer) => {
                info!("{} answered in {} ms", asked.source, asked.took.as_millis());
                for warning in &answer.warnings {
                    warn!("{}: {warning}", asked.source);
                }
            }
            // One cloud has one source: that others do not answer is nothing to warn of.
            Err(error) if answered => debug!("{}: {error}", asked.source),
            Err(error) => warn!("{}: {error}", asked.source),
        }
    }
    status.instance = metadata.instance().or(status.instance.take());
    status.sources = asked.iter().map(Asked::published).collect();

    let id = status
        .instance
        .as_ref()
        .and_then(|instance| instance.id.clone());
    let now = lease::Now {
        unix: clock::now(),
        uptime: clock::uptime(),
        boot_id: status.boot_id.clone(),
    };
    // An earlier run of this boot may have found one, and its source be silent now.
    let earlier = status.deadline.as_ref();
    let held = earlier.filter(|deadline| !metadata.has_heard_of(&deadline.origin));
    let (decision, warnings) = metadata.decide(held.map(Limit::held), id.as_deref(), &now);
    warnings.iter().for_each(|warning| warn!("{warning}"));
    let deadline = decision.deadline.as_ref();
    status.deadline = deadline.map(|deadline| deadline.published(config.deadline.action));
    status.ignored_limits = decision.ignored;
    status.warnings = syslog::warnings();
}
