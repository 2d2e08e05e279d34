//! The boot sequence. This is the only place that knows the order.

use std::mem;
use std::path::Path;

use log::{debug, error, info};
use nix::unistd::geteuid;

use super::configuration;
use crate::config::{Config, Staging};
use crate::deadline::limit::Limit;
use crate::disk::choose::{Choice, FoundBy};
use crate::failure::Failure;
use crate::host::{Host, locks, mount_table};
use crate::legacy::mtab;
use crate::logging::{self, Notices};
use crate::metadata::{Again, Asked, Metadata};
use crate::report;
use crate::staging::acquire::Search;
use crate::staging::directories::{self, Created, Ready};
use crate::staging::mount::{MountError, Staged, find_staged, mount};
use crate::staging::mount_point;
use crate::status::Status;

/// Makes the machine ready, tells everybody, and then finds out when it must be gone
/// and tells that. Returns the exit code, which only the first half decides.
pub fn run(host: &Host, config_file: Option<&Path>) -> u8 {
    if !geteuid().is_root() {
        error!("boot must be run as root");
        return 1;
    }
    let notices = Notices::default();
    let (config, wrong) = match configuration::load(host, config_file) {
        Ok(config) => (config, None),
        Err(error) => (Config::without_consumers(), Some(error)),
    };
    if config.report.syslog {
        logging::connect(host.path(logging::SOCKET));
    }
    // Held until the status is written: an earlier boot's has to be there whole.
    let turn = match locks::wait_for_boot(host, config.staging.wait) {
        Ok(turn) => turn,
        Err(failure) => return without_a_turn(host, &notices, &failure, &config),
    };
    let mut status = Status::begin(host);
    let outcome = match wrong {
        None => make_ready(&notices, &config, &mut status),
        Some(error) => {
            status.verdicts.clear();
            Err(Failure::Config(error))
        }
    };

    status.conclude(outcome.as_ref().err());
    report::outcome(host, &notices, &mut status, outcome.as_ref().ok(), &config);
    if outcome.is_ok() {
        // Another boot does not wait for the network.
        drop(turn);
        let told = status.clone();
        find_deadline(host, &notices, &config, &mut status);
        if status != told && !report::is_outdated(host, &told) {
            report::deadline(host, &notices, &status, &config);
        }
    }
    report::final_line(host, &notices, &status, &config);
    status.exit_code
}

fn make_ready(notices: &Notices, config: &Config, status: &mut Status) -> Result<Ready, Failure> {
    let staged = stage(notices, &config.staging, status)?;
    info!("{staged}");
    mtab::record(&staged);
    status.staging = Some((&staged).into());

    let (created, ready) = directories::create(&staged, &config.directories);
    status.record_directories(&config.directories, &created);
    ready.ok_or_else(|| not_as_asked(&staged, &created))
}

/// How often the disks are looked at anew where one changes before it can be mounted.
const MOST_CHANGES: usize = 3;

/// Looks for the scratch disk and mounts it, again whenever a disk or a mount comes or
/// goes, until it is staged or `staging.wait` is over. What somebody else mounts on the
/// mount point meanwhile is staged too.
fn stage(notices: &Notices, config: &Staging, status: &mut Status) -> Result<Staged, Failure> {
    let mount_point = config.mount_point.as_path();
    let mut search = Search::new(config);
    let mut changes = 0;
    let earlier = mem::take(&mut status.verdicts);
    loop {
        let mounts = mount_table::read()?;
        if let Some(staged) = find_staged(mount_point, &mounts).map_err(Failure::mount)? {
            if status.verdicts.is_empty() {
                status.verdicts = earlier;
            }
            return Ok(staged);
        }
        let mut choice = search.look(&mounts)?;
        let mounted = mount_first_accepted(notices, &mut choice, &mut search, config);
        status.verdicts = choice.verdicts.iter().map(Into::into).collect();
        match mounted {
            Ok(Some(staged)) => return Ok(staged),
            Err(Failure::Changed(text)) if changes < MOST_CHANGES => {
                notices.warn(format!("{text}; looking again"));
                changes += 1;
                continue;
            }
            Err(failure) => return Err(failure),
            Ok(None) => {}
        }
        if search.wait_for_a_change() {
            continue;
        }
        let Some(blank) = search.to_be_formatted(&choice) else {
            warn_of(notices, &choice);
            return Err(nothing_usable(&search, &choice));
        };
        mount_point::see_that_it_can_be_made(mount_point).map_err(Failure::mount)?;
        search.format(blank);
    }
}

/// A device that a label found and that cannot be mounted ends the search: falling
/// back to a bare name after that could take somebody's volume.
fn mount_first_accepted(
    notices: &Notices,
    choice: &mut Choice,
    search: &mut Search,
    config: &Staging,
) -> Result<Option<Staged>, Failure> {
    while let Some(accepted) = choice.first_accepted().cloned() {
        warn_of(notices, choice);
        let error = match mount(&accepted, config) {
            Ok(staged) => return Ok(Some(staged)),
            Err(MountError::MountPoint(error)) => return Err(Failure::mount(error)),
            Err(MountError::Changed(error)) => return Err(Failure::Changed(format!("{error:#}"))),
            Err(MountError::Device(error)) => format!("{error:#}"),
        };
        let found_by = accepted.found_by();
        search.refuse(accepted, error.clone(), choice);
        if found_by == FoundBy::Label {
            return Err(Failure::Mount(error));
        }
        notices.warn(format!("{error}; the search goes on"));
    }
    Ok(None)
}

fn warn_of(notices: &Notices, choice: &Choice) {
    for warning in &choice.warnings {
        notices.warn_once(warning);
    }
}

fn nothing_usable(search: &Search, choice: &Choice) -> Failure {
    match search.refusals() {
        Some(errors) => Failure::Mount(errors),
        None => Failure::NoDevice(format!("no usable disk: {choice}")),
    }
}

/// The status is that of the boot which has the turn.
fn without_a_turn(host: &Host, notices: &Notices, failure: &Failure, config: &Config) -> u8 {
    let mut status = Status::begin_after(host, None);
    status.conclude(Some(failure));
    report::final_line(host, notices, &status, config);
    status.exit_code
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
fn find_deadline(host: &Host, notices: &Notices, config: &Config, status: &mut Status) {
    let mut metadata = Metadata::new(host, config);
    let asked = metadata.ask(
        &config.metadata.sources,
        config.metadata.timeout,
        Again::by_uptime(host.now().uptime),
    );
    let answered = asked.iter().any(|asked| asked.result.is_ok());
    for asked in &asked {
        match &asked.result {
            Ok(answer) => {
                info!("{} answered in {} ms", asked.source, asked.took.as_millis());
                for warning in &answer.warnings {
                    notices.warn(format!("{}: {warning}", asked.source));
                }
            }
            // One cloud has one source: that others do not answer is nothing to warn of.
            Err(error) if answered => debug!("{}: {error}", asked.source),
            Err(error) => notices.warn(format!("{}: {error}", asked.source)),
        }
    }
    status.instance = metadata.instance().or(status.instance.take());
    status.sources = asked.iter().map(Asked::published).collect();

    let id = status
        .instance
        .as_ref()
        .and_then(|instance| instance.id.clone());
    // An earlier run of this boot may have found one, and its source be silent now.
    let earlier = status.deadline.as_ref();
    let held = earlier.filter(|deadline| !metadata.has_heard_of(&deadline.origin));
    let (decision, warnings) = metadata.decide(held.map(Limit::held), id.as_deref(), host.now());
    warnings.iter().for_each(|warning| notices.warn(warning));
    let deadline = decision.deadline.as_ref();
    status.deadline = deadline.map(|deadline| deadline.published(config.deadline.action));
    status.ignored_limits = decision.ignored;
    status.warnings = notices.all();
}
