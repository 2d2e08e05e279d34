//! HTCondor's spool, execute and log directories, and the files by which its daemons are found.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::item::{Item, remove};
use crate::host::regular_file::MIB;
use crate::image::root::{Kind, Root};
use crate::report::condor::{DIRECTORY, NAME, is_read_by_htcondor};

const GLOBAL: &str = "/etc/condor/condor_config";

/// More than any spool's list of jobs that is worth reading; one that is larger has some.
const LARGEST_QUEUE: u64 = 64 * MIB;

/// Where HTCondor has its directories, and what of them is of one machine.
pub(super) fn item(root: &Root, mount_point: &Path, jobs_may_go: bool) -> Result<Item> {
    let mut item = Item {
        id: "condor",
        ..Item::default()
    };
    if !root.is(Kind::Directory, "/etc/condor") {
        return Ok(item);
    }
    let settings = settings(root);
    let directory = |name: &str, default: &str, item: &mut Item| {
        let value = value(&settings, name).unwrap_or_else(|| default.into());
        let path = PathBuf::from(value);
        if path.starts_with(mount_point) {
            return None;
        }
        // Somebody's home directory, or one that belongs to the system.
        let is_deep = path.is_absolute() && path.components().count() > 3;
        if !is_deep && root.is(Kind::Directory, &path) {
            let shown = path.display();
            item.kept.push(format!(
                "{shown} stays: it may hold more than HTCondor's {name}"
            ));
        }
        is_deep.then_some(path)
    };
    let spool = directory("SPOOL", "/var/lib/condor/spool", &mut item);
    if let Some(spool) = spool {
        let jobs = jobs(root, &spool);
        if jobs == Jobs::None || jobs_may_go {
            empty(root, &spool, &mut item);
        } else {
            let count = match jobs {
                Jobs::Some(count) => count.to_string(),
                _ => "nobody knows how many".into(),
            };
            let shown = spool.display();
            let line = format!("{shown} stays: jobs are in it ({count}); --condor removes them");
            item.kept.push(line);
        }
    }
    let others = [
        ("EXECUTE", "/var/lib/condor/execute"),
        ("LOG", "/var/log/condor"),
        ("LOCK", "/var/lock/condor"),
        ("RUN", "/var/run/condor"),
    ];
    for (name, default) in others {
        if let Some(path) = directory(name, default, &mut item) {
            empty(root, &path, &mut item);
        }
    }
    Ok(item)
}

/// Takes out what is in a directory, which stays.
fn empty(root: &Root, directory: &Path, item: &mut Item) {
    let entry = root.entry_itself(directory).ok().flatten();
    if entry.is_none_or(|entry| entry.kind != Kind::Directory) {
        return;
    }
    let names = root.names(directory).unwrap_or_default();
    let paths = names.into_iter().map(|name| directory.join(name));
    item.steps.extend(paths.map(|path| remove(root, path)));
}

/// Names in capitals with their values, in the order in which they are read.
fn settings(root: &Root) -> Vec<(String, String)> {
    let directory = Path::new(DIRECTORY);
    let names = root.names(directory).unwrap_or_default();
    let ours_too = |name: &&std::ffi::OsString| is_read_by_htcondor(name) && *name != NAME;
    let files = names
        .iter()
        .filter(ours_too)
        .map(|name| directory.join(name));
    let mut settings = Vec::new();
    for path in [PathBuf::from(GLOBAL)].into_iter().chain(files) {
        for line in root.text(&path).lines() {
            if let Some((name, value)) = line.split_once('=') {
                settings.push((name.trim().to_ascii_uppercase(), value.trim().into()));
            }
        }
    }
    settings
}

/// The last value of a name, with `$(LOCAL_DIR)` and its like put in; None where it is not set,
/// or names something that is not set.
fn value(settings: &[(String, String)], name: &str) -> Option<String> {
    let set = |name: &str| {
        let found = settings.iter().rev().find(|(set, _)| set == name);
        found.map(|(_, value)| value.clone())
    };
    let mut value = set(name)?;
    for _ in 0..10 {
        let Some((before, rest)) = value.split_once("$(") else {
            return Some(value);
        };
        let (inner, after) = rest.split_once(')')?;
        let inner = set(&inner.to_ascii_uppercase())?;
        value = format!("{before}{inner}{after}");
    }
    None
}

#[derive(Debug, PartialEq, Eq)]
enum Jobs {
    None,
    Some(usize),
    Unknown,
}

/// What is in the queue of a schedd.
fn jobs(root: &Root, spool: &Path) -> Jobs {
    match root.read(&spool.join("job_queue.log"), LARGEST_QUEUE) {
        Ok(None) => Jobs::None,
        Ok(Some(log)) => match in_queue(&String::from_utf8_lossy(&log)) {
            0 => Jobs::None,
            count => Jobs::Some(count),
        },
        Err(_) => Jobs::Unknown,
    }
}

/// The jobs in such a log: 101 makes the record `cluster.proc`, 102 takes it away. `0.0` is the
/// queue's own, and a proc of -1 the cluster's.
fn in_queue(log: &str) -> usize {
    // As a set.
    let mut jobs = serde_json::Map::new();
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let (operation, Some(key)) = (words.next(), words.next()) else {
            continue;
        };
        let is_job = key != "0.0" && !key.ends_with(".-1");
        match operation {
            Some("101") if is_job => drop(jobs.insert(key.into(), Value::Null)),
            Some("102") => drop(jobs.remove(key)),
            _ => {}
        }
    }
    jobs.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_counted_as_the_log_has_them() {
        let log = "107 1 CreationTimestamp 1795430460\n101 0.0 Job Machine\n103 0.0 NextClusterNum 3\n\
                   105\n101 01.-1 Job Machine\n101 1.0 Job Machine\n101 1.1 Job Machine\n106\n102 1.0\n";
        assert_eq!(in_queue(log), 1);
        assert_eq!(in_queue(&(log.to_string() + "102 1.1\n")), 0);
        assert_eq!(in_queue(""), 0);
    }

    #[test]
    fn a_directory_is_named_by_what_was_set_last() {
        let set = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_string()))
                .collect()
        };
        let settings = set(&[
            ("LOCAL_DIR", "/var"),
            ("SPOOL", "/old"),
            ("SPOOL", "$(LOCAL_DIR)/lib/condor/spool"),
            ("LOOP", "$(LOOP)"),
            ("LOG", "$(NOWHERE)/log"),
        ]);
        assert_eq!(
            value(&settings, "SPOOL").as_deref(),
            Some("/var/lib/condor/spool")
        );
        for none in ["LOOP", "LOG", "EXECUTE"] {
            assert_eq!(value(&settings, none), None);
        }
    }
}
