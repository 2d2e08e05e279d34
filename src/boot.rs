//! The boot sequence. This is the only place that knows the order.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;

use log::{debug, error, info, warn};
use nix::unistd::geteuid;

use crate::config::{Config, ConfigError, Staging};
use crate::disk;
use crate::disk::choose::{Choice, FoundBy, Judgement};
use crate::report;
use crate::report::syslog;
use crate::staging::directories::{self, Created, Ready};
use crate::staging::mount::{MountError, Staged, find_staged, mount};
use crate::status::{self, Status};

/// Why the machine is not ready.
#[derive(Debug)]
pub enum Failure {
    Config(ConfigError),
    NoDevice(String),
    Mount(String),
    Directories(String),
    Other(anyhow::Error),
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Other(_) => 1,
            Failure::NoDevice(_) => 3,
            Failure::Mount(_) => 4,
            Failure::Directories(_) => 5,
            Failure::Config(_) => 6,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Config(error) => write!(f, "the configuration is wrong: {error}"),
            Failure::NoDevice(text) | Failure::Mount(text) | Failure::Directories(text) => {
                write!(f, "{text}")
            }
            Failure::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

/// Makes the machine ready and tells everybody. Returns the exit code.
pub fn run(config_file: Option<&Path>) -> u8 {
    if !geteuid().is_root() {
        error!("boot must be run as root");
        return 1;
    }
    let mut status = Status::begin();
    let config = Config::load(config_file);
    if config.as_ref().map_or(true, |config| config.report.syslog) {
        syslog::connect();
    }
    let outcome = match &config {
        Ok(config) => make_ready(config, &mut status),
        Err(error) => Err(Failure::Config(error.clone())),
    };
    let config = config.unwrap_or_default();

    status.conclude(outcome.as_ref().err());
    report::outcome(&mut status, outcome.as_ref().ok(), &config);
    report::final_line(&status, &config);
    status.exit_code
}

fn make_ready(config: &Config, status: &mut Status) -> Result<Ready, Failure> {
    let _turn = wait_for_turn();
    let staged = match find_staged(config.staging.mount_point.as_path())? {
        Some(staged) => staged,
        None => {
            let choice = find_device(&config.staging, status)?;
            mount_first_accepted(&choice, &config.staging)?
        }
    };
    status.staging = Some((&staged).into());

    let (created, ready) = directories::create(&staged, &config.directories);
    status.record_directories(&config.directories, &created);
    ready.ok_or_else(|| not_as_asked(&staged, &created))
}

/// Two at once, one started by init and one by hand, would mount twice. Where there
/// is no place for the lock there is no turn to wait for either.
fn wait_for_turn() -> Option<File> {
    let directory = status::runtime_directory();
    fs::create_dir_all(&directory).ok()?;
    let lock = File::create(directory.join("boot.lock")).ok()?;
    lock.lock().ok()?;
    Some(lock)
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
fn mount_first_accepted(choice: &Choice, config: &Staging) -> Result<Staged, Failure> {
    let mut failed = Vec::new();
    for accepted in choice.accepted() {
        match mount(accepted, config) {
            Ok(staged) => return Ok(staged),
            Err(MountError::Device(error)) if accepted.found_by() == FoundBy::Name => {
                warn!("{error:#}; the search goes on");
                failed.push(format!("{error:#}"));
            }
            Err(error) => return Err(Failure::Mount(error.to_string())),
        }
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
