//! The boot sequence. This is the only place that knows the order.

use std::path::Path;
use std::time::Duration;

use log::{debug, error, info, warn};
use nix::unistd::geteuid;

use super::configuration;
use crate::config::{Config, Sources};
use crate::deadline::follower::Follower;
use crate::deadline::limit::Limit;
use crate::deadline::records;
use crate::disk::reader::Reader;
use crate::disk::{array, making};
use crate::failure::Failure;
use crate::host::bounded;
use crate::host::silent::{self, Expected};
use crate::host::{Host, locks};
use crate::legacy::mtab;
use crate::logging::Notices;
use crate::metadata::{Again, Asked, Metadata};
use crate::report;
use crate::staging::acquire::acquire;
use crate::staging::directories::{self, Created, Ready};
use crate::staging::mark;
use crate::staging::staged::Staged;
use crate::status::Status;

/// How long an earlier boot may take, beside the time for which it waits for a disk to
/// come and then to be free: a disk that hangs must not hang the next boot.
pub const TURN: Duration = Duration::from_secs(60);

/// Makes the machine ready, tells everybody, and then finds out when it must be gone
/// and tells that. Returns the exit code, which only the first half decides. `turn` is how
/// long an earlier boot may take, as [`TURN`].
pub fn run(host: &Host, config_file: Option<&Path>, turn: Duration) -> u8 {
    if !geteuid().is_root() {
        error!("boot must be run as root");
        return 1;
    }
    silent::expect(host, Expected::BesideTheRoot);
    let notices = Notices::default();
    let mut reader = Reader::with_a_child();
    let (config, wrong) = match configuration::load(host, config_file) {
        Ok(config) => (config, None),
        Err(error) => (Config::without_consumers(&error), Some(error)),
    };
    report::follow_syslog(host, &config);
    // Held until the status is written: an earlier boot's has to be there whole.
    let turn = match locks::wait_for_boot(host, turn + 2 * config.staging.wait) {
        Ok(turn) => turn,
        Err(failure) => {
            drop(reader);
            return without_a_turn(host, &notices, &failure, &config);
        }
    };
    let mut status = Status::begin(host);
    let outcome = match wrong {
        None => make_ready(host, &config, &mut reader, &mut status, &notices),
        Some(error) => {
            status.verdicts.clear();
            Err(Failure::Config(error))
        }
    };

    status.conclude(host, outcome.as_ref().err());
    let ready = outcome.as_ref().ok().map(|machine| &machine.ready);
    report::outcome(host, &notices, &mut status, ready, &config);
    let _under_way = locks::share_boot(host);
    match outcome {
        Ok(machine) => {
            let marked = mark::make_durable(&machine.staged);
            report::note(&notices, "the scratch disk", marked);
            // Another boot does not wait for the network.
            drop(turn);
            ask_and_tell(host, &notices, &config, reader, &mut status);
            let instance = status.instance.as_ref();
            if let Some(id) = instance.and_then(|instance| instance.id.as_ref()) {
                let marked = mark::add_instance(host, &machine.staged, id);
                report::note(&notices, "the scratch disk", marked);
            }
            report::final_line(host, &notices, &status, &config);
        }
        Err(failure) => {
            report::final_line(host, &notices, &status, &config);
            drop(turn);
            let asks = config.metadata.sources != Sources::Listed(Vec::new());
            if let (Failure::NoDevice(_), true) = (failure, asks) {
                ask_and_tell(host, &notices, &config, reader, &mut status);
                if let Some(missing) = status.scratch_that_is_missing() {
                    report::further_line(host, &notices, &missing, &config);
                }
            } else {
                drop(reader);
            }
        }
    }
    making::forget_without_identity(host);
    // Somebody may unmount the disk at once.
    bounded::wait_for_those_that_end();
    status.exit_code
}

/// Steps 2 to 5: the scratch disk, and the directories on it.
fn make_ready(
    host: &Host,
    config: &Config,
    reader: &mut Reader,
    status: &mut Status,
    notices: &Notices,
) -> Result<ReadyMachine, Failure> {
    let mut acquired = acquire(host, config, reader, notices);
    if !acquired.verdicts.is_empty() {
        status.verdicts = acquired.verdicts.iter().map(Into::into).collect();
    }
    let staged = acquired.staged?;
    info!("{staged}");
    // From now on somebody uses the disk.
    for done in [making::forget(host), array::is_staged_now(host)] {
        if let Err(error) = done {
            notices.warn_once(format!("{error:#}"));
        }
    }
    mtab::record(host, &staged.mount(), notices);
    status.staging = Some((&staged).into());

    let limit = staged.limit(host, &config.staging);
    let mounted = &mut acquired.child;
    let asked = &config.directories;
    let contexts = acquired.contexts.as_ref();
    let (created, ready) =
        directories::create(host, &staged, asked, contexts, mounted, limit, notices);
    status.record_directories(asked, &created);
    match ready {
        Some(ready) => Ok(ReadyMachine { ready, staged }),
        None => Err(not_as_asked(&staged, &created)),
    }
}

/// What is in place when the machine is ready.
struct ReadyMachine {
    ready: Ready,
    staged: Staged,
}

/// The status is that of the boot which has the turn.
fn without_a_turn(host: &Host, notices: &Notices, failure: &Failure, config: &Config) -> u8 {
    let mut status = Status::begin_after(host, None);
    status.conclude(host, Some(failure));
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

/// What the network is needed for, and whom that is news for.
fn ask_and_tell(
    host: &Host,
    notices: &Notices,
    config: &Config,
    reader: Reader,
    status: &mut Status,
) {
    let told = status.clone();
    find_deadline(host, notices, config, reader, status);
    if *status == told {
        return;
    }
    match status.write_after(host, &told) {
        Ok(false) => return,
        written => report::note(notices, "the status file", written.map(drop)),
    }
    report::deadline(host, notices, status, config);
}

/// Asks who this machine is, what it was to have, and when it must be gone. That nobody answers
/// is no failure.
fn find_deadline(
    host: &Host,
    notices: &Notices,
    config: &Config,
    reader: Reader,
    status: &mut Status,
) {
    let now = host.now();
    let mut follower = records::follow(host, &config.deadline, now);
    // An earlier run of this boot, by another version, may have found one.
    if let Some(earlier) = &status.deadline {
        follower.hold(Limit::held(earlier), !earlier.unconfirmed, now);
    }
    let mut metadata = Metadata::new(host, config).with_reader(reader);
    metadata.judge_by(follower.identity());
    let asked = metadata.ask(
        &metadata.sources(),
        config.metadata.timeout,
        Again::by_uptime(now.uptime),
    );
    let answered = asked.iter().any(|asked| asked.result.is_ok());
    let mut is_ours = true;
    for asked in &asked {
        match &asked.result {
            Ok(answer) => {
                info!("{} answered in {} ms", asked.source, asked.took.as_millis());
                for warning in &answer.warnings {
                    notices.warn(format!("{}: {warning}", asked.source));
                }
                let (date, statement) = (asked.date_at_start(), answer.statement());
                let heard = follower.hear(asked.gives, &statement, date, now);
                is_ours &= !heard.is_refused;
                for said in heard.said {
                    notices.warn(format!("{}: {said}", asked.source));
                }
            }
            // One cloud has one source: that others do not answer is nothing to warn of.
            Err(error) if answered => debug!("{}: {error}", asked.source),
            Err(error) => notices.warn(format!("{}: {error}", asked.source)),
        }
    }
    let instance = metadata.instance().filter(|_| is_ours);
    status.instance = instance.or(status.instance.take());
    if let Some(wrong) = status.compare_resources(host) {
        notices.warn(wrong);
    }
    if let (None, Some(missing)) = (&status.staging, status.scratch_that_is_missing()) {
        notices.warn(missing);
    }
    status.sources = asked.iter().map(Asked::published).collect();
    // Where nobody was asked the names are those by which they were read a moment ago.
    if !asked.is_empty() {
        follower.read(records::read(host, &follower.names()), now);
    }
    publish_deadline(host, notices, config, follower, status);
}

fn publish_deadline(
    host: &Host,
    notices: &Notices,
    config: &Config,
    mut follower: Follower,
    status: &mut Status,
) {
    let file = records::knowledge(host);
    // `watch` may have started since, and have heard a notice.
    if let Ok(Some(known)) = file.read() {
        follower.learn(&known);
    }
    let decision = follower.decide(host.now());
    decision
        .warnings
        .iter()
        .for_each(|warning| notices.warn(warning));
    for failed in records::write(&decision.writes) {
        notices.warn(failed);
    }
    if let Err(e) = records::keep(&file, follower.knowledge()) {
        warn!("cannot write {}: {e:#}", file.path().display());
    }
    status.deadline = decision.published(config.deadline.action);
    status.ignored_limits = decision.ignored;
    status.warnings = notices.all();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;
    use crate::report::example;

    #[test]
    fn what_watch_has_heard_meanwhile_is_published_and_not_forgotten() {
        let boot_id = ("proc/sys/kernel/random/boot_id", "first\n");
        let tree = Tree::new(&[
            boot_id,
            ("proc/uptime", "60.00 9.00\n"),
            ("run/vmstage/", ""),
        ]);
        let (host, notices) = (tree.host(), Notices::default());
        let config = Config::parse("").unwrap();
        let now = host.now();
        let begun = records::follow(&host, &config.deadline, now);

        let mut of_watch = records::follow(&host, &config.deadline, now);
        let heard = example::with_deadline().deadline.unwrap();
        of_watch.hold(Limit::held(&heard), true, now);
        let knowledge = records::knowledge(&host);
        records::keep(&knowledge, of_watch.knowledge()).unwrap();

        let mut status = example::ready();
        publish_deadline(&host, &notices, &config, begun, &mut status);
        assert_eq!(status.deadline.map(|found| found.at), Some(heard.at));
        let again = records::follow(&host, &config.deadline, now).decide(now);
        let published = again.published(config.deadline.action);
        assert_eq!(published.map(|found| found.at), Some(heard.at));
    }
}
