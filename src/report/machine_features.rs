//! Machine and Job Features (HSF-TN-2016-02): one key a file, for batch jobs and pilots.
//!
//! The VM as a whole is the job here, so `job_id` is the instance's and `allocated_cpu`
//! is all of its processors. Login shells are told where the directories are by a
//! snippet in `/etc/profile.d`; HTCondor's jobs by its drop-in, and of the machine only,
//! because a job in a slot is not the whole VM.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use log::info;

use super::files::{self, Place};
use crate::config::{Config, FeaturesLocation};
use crate::host::regular_file::{self, MIB};
use crate::host::{Host, locks, machine};
use crate::metadata::machine_features::published::{JOB, MACHINE, MARK, are_own, own_values};
use crate::status::Status;

pub(super) const PROFILE: &str =
    "# Written by vmstage(8): where to read when this VM goes away (HSF-TN-2016-02).
: \"${MACHINEFEATURES:=/etc/machinefeatures}\" \"${JOBFEATURES:=/etc/jobfeatures}\"
export MACHINEFEATURES JOBFEATURES
";

pub(super) const KEY: &str = "report.machine_features";

/// Where login shells are told.
pub(crate) const SNIPPET: &str = "/etc/profile.d/vmstage.sh";

/// A key and its value; None where the key is to be absent.
type Key = (&'static str, Option<String>);

/// A key and the content of its file.
type Value = (String, String);

/// Says whether anything changed.
pub(super) fn publish(host: &Host, status: &Status, config: &Config) -> Result<bool> {
    let processors = processors(host);
    let deadline = status.deadline.as_ref().map(|d| d.at.to_string());
    let grace = status.deadline.as_ref().map_or_else(
        || config.deadline.grace.as_secs(),
        |deadline| deadline.grace_seconds,
    );
    let grace = Some(grace.to_string());
    let machine = [
        ("total_cpu", processors.clone()),
        ("grace_secs", grace.clone()),
        ("shutdowntime", deadline.clone()),
    ];
    let job = [
        ("allocated_cpu", processors),
        ("job_id", job_id(status)),
        ("grace_secs_job", grace),
        ("shutdowntime_job", deadline),
    ];
    let _turn = wait_for_turn(host);
    let done = [
        directory(host, MACHINE, &config.metadata.machinefeatures, &machine),
        directory(host, JOB, &config.metadata.jobfeatures, &job),
        profile(host),
    ];
    done.into_iter()
        .try_fold(false, |changed, one| Ok(one? | changed))
}

/// Where it publishes.
pub(super) fn places(_: &Host, _: &Config) -> Vec<PathBuf> {
    [MACHINE, JOB, "/etc/profile.d"].map(PathBuf::from).into()
}

/// Removes what was published and is still as it was written: all of it where it is turned
/// off, and else what is in a directory that this program is to read.
pub(super) fn withdraw(host: &Host, config: &Config) -> Result<()> {
    let is_off = !config.report.machine_features;
    let sources = [
        (MACHINE, &config.metadata.machinefeatures),
        (JOB, &config.metadata.jobfeatures),
    ];
    let mut done = Ok(());
    for (path, source) in sources {
        let directory = host.path(path);
        if (is_off || is_read(path, source)) && are_own(&directory) {
            let _turn = wait_for_turn(host);
            done = done.and(withdraw_directory(&directory));
        }
    }
    if is_off {
        let is_it = |text: &str| text == PROFILE;
        done = done.and(files::withdraw(host, KEY, None, &[SNIPPET], is_it).map(drop));
    }
    done
}

fn withdraw_directory(directory: &Path) -> Result<()> {
    let is_name = |key: &str| !key.contains('/');
    for (key, value) in own_values(directory).iter().filter(|(key, _)| is_name(key)) {
        files::remove_value(&directory.join(key), value.as_bytes())?;
    }
    files::remove(&directory.join(MARK))?;
    info!("removed what was published in {}", directory.display());
    files::remove_directory_if_empty(directory)
}

/// Whether this program is to read from the directory that it would publish in.
fn is_read(path: &str, source: &Option<FeaturesLocation>) -> bool {
    *source == Some(FeaturesLocation::Directory(path.into()))
}

/// `boot` and `watch` may publish at the same time, and each would take what the other
/// has just written for a stranger's. Where there is no place for the lock there is no
/// status either that another could publish.
fn wait_for_turn(host: &Host) -> Option<File> {
    locks::lock(&host.runtime_directory().join("features.lock"))
}

/// Publishes into one directory, unless that is where this program is to read.
fn directory(
    host: &Host,
    path: &str,
    source: &Option<FeaturesLocation>,
    keys: &[Key],
) -> Result<bool> {
    if is_read(path, source) {
        return Ok(false);
    }
    let directory = host.path(path);
    let own = own_values(&directory);
    let found: Vec<Found> = keys
        .iter()
        .map(|(key, _)| find(&directory, key, &own))
        .collect();
    let with_found = || keys.iter().zip(&found);
    let foreign: Vec<&str> = with_found()
        .filter(|(_, found)| matches!(found, Found::Foreign))
        .map(|((key, _), _)| *key)
        .collect();
    // A provider of the VM may have put its own there before.
    if foreign.is_empty() || are_own(&directory) {
        let ours: Vec<(&Key, &Found)> = with_found()
            .filter(|(_, found)| !matches!(found, Found::Foreign))
            .collect();
        let changed = write_values(&directory, &ours, own)?;
        if foreign.is_empty() {
            return Ok(changed);
        }
    }
    bail!(
        "{} has {} from somebody else, which is left alone",
        directory.display(),
        foreign.join(" and ")
    );
}

/// What there is in the place of a key.
enum Found {
    Nothing,
    Own(String),
    Foreign,
}

fn find(directory: &Path, key: &str, own: &BTreeSet<Value>) -> Found {
    match regular_file::read_text(&directory.join(key), MIB) {
        Ok(content) if own.contains(&(key.to_string(), content.clone())) => Found::Own(content),
        // The machine was reset before it was on the disk.
        Ok(content) if content.is_empty() && own.iter().any(|value| value.0 == key) => {
            Found::Own(content)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Found::Nothing,
        _ => Found::Foreign,
    }
}

/// After a crash or a reset in between, each file is still known for this program's own: the old
/// values are listed until the new ones are in their place.
fn write_values(directory: &Path, keys: &[(&Key, &Found)], own: BTreeSet<Value>) -> Result<bool> {
    let wanted: BTreeSet<Value> = keys
        .iter()
        .filter_map(|((key, value), _)| Some((key.to_string(), value.clone()?)))
        .collect();
    let is_in_place = |(key, found): &(&Key, &Found)| match found {
        Found::Own(content) => key.1.as_ref() == Some(content),
        _ => key.1.is_none(),
    };
    if own == wanted && keys.iter().all(is_in_place) && are_own(directory) {
        return Ok(false);
    }
    files::make_directory(directory)?;
    let mark = directory.join(MARK);
    let either = own.union(&wanted).cloned().collect();
    let mut changed = files::write_for_good(&mark, marked(&either), 0o644)?;
    for ((key, value), _) in keys {
        let file = directory.join(key);
        changed |= match value {
            Some(value) => files::write(&file, value, 0o644)?,
            None => files::remove(&file)?,
        };
    }
    Ok(files::write_for_good(&mark, marked(&wanted), 0o644)? || changed)
}

/// A line for each value that this program wrote.
fn marked(values: &BTreeSet<Value>) -> String {
    let head = "# What vmstage(8) published in this directory. Other files are not its own.\n";
    let lines = values.iter().map(|(key, value)| format!("{key} {value}\n"));
    head.to_string() + &lines.collect::<String>()
}

fn profile(host: &Host) -> Result<bool> {
    if !host.path("/etc/profile.d").is_dir() {
        return Ok(false);
    }
    files::publish(host, Place::of(KEY, SNIPPET), PROFILE.as_bytes(), 0o644)
}

/// The specification counts the "processor" lines of `/proc/cpuinfo`, one for each that is
/// online.
fn processors(host: &Host) -> Option<String> {
    machine::processors_online(host).map(|count| count.to_string())
}

/// The specification wants "printable non-whitespace ASCII characters".
fn job_id(status: &Status) -> Option<String> {
    let id = status.instance.as_ref()?.id.clone()?;
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic())).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::tree::Tree;
    use crate::report::example;

    const STAT: &str = "cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\n";

    fn tree() -> Tree {
        Tree::new(&[("proc/stat", STAT), ("etc/profile.d/", "")])
    }

    #[test]
    fn each_key_is_a_file_and_the_deadline_is_in_unix_seconds() {
        let tree = tree();
        let config = Config::default();
        assert!(publish(&tree.host(), &example::with_deadline(), &config).unwrap());
        for (file, value) in [
            ("etc/machinefeatures/total_cpu", "2"),
            ("etc/machinefeatures/grace_secs", "600"),
            ("etc/machinefeatures/shutdowntime", "1795430460"),
            ("etc/jobfeatures/allocated_cpu", "2"),
            (
                "etc/jobfeatures/job_id",
                "83679162-1378-4288-a2d4-70e13ec132aa",
            ),
            ("etc/jobfeatures/grace_secs_job", "600"),
            ("etc/jobfeatures/shutdowntime_job", "1795430460"),
        ] {
            assert_eq!(tree.text(file), value, "{file}");
        }
        assert!(!publish(&tree.host(), &example::with_deadline(), &config).unwrap());
    }

    #[test]
    fn without_a_deadline_there_is_no_shutdowntime_and_one_that_was_is_removed() {
        let tree = tree();
        let config = Config::default();
        publish(&tree.host(), &example::ready(), &config).unwrap();
        let before = tree.names("etc");
        assert!(!before.iter().any(|name| name.contains("shutdowntime")));

        publish(&tree.host(), &example::with_deadline(), &config).unwrap();
        assert!(publish(&tree.host(), &example::ready(), &config).unwrap());
        assert_eq!(tree.names("etc"), before);
    }

    #[test]
    fn what_somebody_else_published_is_left_alone() {
        let theirs = [
            ("proc/stat", STAT),
            ("etc/machinefeatures/shutdowntime", "1795000000"),
        ];
        let tree = Tree::new(&theirs);
        let error = publish(&tree.host(), &example::ready(), &Config::default());
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("has shutdowntime from somebody else"),
            "{error}"
        );
        assert_eq!(tree.text("etc/machinefeatures/shutdowntime"), "1795000000");
        assert_eq!(tree.names("etc/machinefeatures"), ["shutdowntime"]);
        // The other directory is not held up by that.
        assert_eq!(tree.text("etc/jobfeatures/allocated_cpu"), "2");
    }

    #[test]
    fn what_somebody_else_published_later_is_left_alone_and_the_rest_goes_on() {
        let tree = tree();
        let config = Config::default();
        publish(&tree.host(), &example::ready(), &config).unwrap();
        let theirs = tree.root().join("etc/machinefeatures/shutdowntime");
        fs::write(&theirs, "1795000000\n").unwrap();
        fs::write(tree.root().join("etc/jobfeatures/job_id"), "theirs").unwrap();
        for status in [example::with_deadline(), example::ready()] {
            let error = publish(&tree.host(), &status, &config).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains("has shutdowntime from somebody else"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&theirs).unwrap(), "1795000000\n");
            assert_eq!(tree.text("etc/jobfeatures/job_id"), "theirs");
            let job_end = tree.root().join("etc/jobfeatures/shutdowntime_job");
            assert_eq!(job_end.exists(), status.deadline.is_some());
        }
        // Once theirs is gone, the key is this program's again.
        fs::remove_file(&theirs).unwrap();
        fs::remove_file(tree.root().join("etc/jobfeatures/job_id")).unwrap();
        publish(&tree.host(), &example::with_deadline(), &config).unwrap();
        assert_eq!(tree.text("etc/machinefeatures/shutdowntime"), "1795430460");
        assert!(publish(&tree.host(), &example::ready(), &config).unwrap());
        assert!(!theirs.exists());
    }

    #[test]
    fn after_a_crash_between_mark_and_file_both_values_are_its_own() {
        let tree = tree();
        let config = Config::default();
        publish(&tree.host(), &example::with_deadline(), &config).unwrap();
        let directory = tree.root().join("etc/machinefeatures");
        let mut values = own_values(&directory);
        values.insert(("shutdowntime".into(), "1800000000".into()));
        fs::write(directory.join(MARK), marked(&values)).unwrap();
        for at_the_crash in ["1795430460", "1800000000"] {
            fs::write(directory.join("shutdowntime"), at_the_crash).unwrap();
            fs::write(directory.join(MARK), marked(&values)).unwrap();
            assert!(publish(&tree.host(), &example::ready(), &config).unwrap());
            assert!(!directory.join("shutdowntime").exists());
        }
    }

    #[test]
    fn what_a_reset_has_emptied_is_written_again_or_removed() {
        let tree = tree();
        let config = Config::default();
        publish(&tree.host(), &example::with_deadline(), &config).unwrap();
        let total = tree.root().join("etc/machinefeatures/total_cpu");
        let end = tree.root().join("etc/machinefeatures/shutdowntime");
        let foreign = tree.root().join("etc/machinefeatures/hs06");
        for file in [&total, &end, &foreign] {
            fs::write(file, "").unwrap();
        }
        assert!(publish(&tree.host(), &example::ready(), &config).unwrap());
        assert_eq!(tree.text("etc/machinefeatures/total_cpu"), "2");
        assert!(!end.exists());

        fs::write(&total, "").unwrap();
        let off = Config::parse("[report]\nmachine_features = false").unwrap();
        withdraw(&tree.host(), &off).unwrap();
        assert_eq!(tree.names("etc/machinefeatures"), ["hs06"]);
    }

    #[test]
    fn a_rating_that_the_image_brings_stays_beside_the_keys() {
        let tree = Tree::new(&[("proc/stat", STAT), ("etc/machinefeatures/hs06", "171")]);
        publish(&tree.host(), &example::ready(), &Config::default()).unwrap();
        assert_eq!(tree.text("etc/machinefeatures/hs06"), "171");
        assert_eq!(tree.text("etc/machinefeatures/total_cpu"), "2");
    }

    #[test]
    fn the_directory_that_is_read_from_is_not_written_to() {
        let tree = tree();
        let config = "[metadata]\nmachinefeatures = \"/etc/machinefeatures\"";
        let config = Config::parse(config).unwrap();
        publish(&tree.host(), &example::ready(), &config).unwrap();
        assert!(!tree.root().join("etc/machinefeatures").exists());
        assert!(are_own(&tree.root().join("etc/jobfeatures")));
    }

    #[test]
    fn a_job_id_that_the_specification_forbids_is_not_published() {
        let mut status = example::ready();
        for (id, published) in [
            ("i-0042", true),
            ("two words", false),
            ("", false),
            ("é", false),
        ] {
            status.instance.as_mut().unwrap().id = Some(id.into());
            assert_eq!(job_id(&status).is_some(), published, "{id:?}");
        }
        status.instance = None;
        assert_eq!(job_id(&status), None);
    }

    #[test]
    fn a_directory_in_the_place_of_a_key_is_an_error() {
        let tree = Tree::new(&[
            ("proc/stat", STAT),
            ("etc/machinefeatures/.vmstage", ""),
            ("etc/machinefeatures/shutdowntime/", ""),
        ]);
        for status in [example::ready(), example::with_deadline()] {
            publish(&tree.host(), &status, &Config::default()).unwrap_err();
        }
        assert!(
            tree.root()
                .join("etc/machinefeatures/shutdowntime")
                .is_dir()
        );
    }
}
