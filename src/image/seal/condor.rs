//! HTCondor's spool, execute and log directories, and the files by which its daemons are found.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::item::{Item, remove};
use crate::host::Host;
use crate::host::regular_file::MIB;
use crate::image::condor_config::{self, Configuration};
use crate::image::root::{Kind, Root};
use crate::image::step::Step;

/// More than any spool's list of jobs that is worth reading; one that is larger has some.
const LARGEST_QUEUE: u64 = 64 * MIB;

/// Where HTCondor has its directories, and what of them is of one machine.
pub(super) fn item(
    root: &Root,
    host: Option<&Host>,
    mount_point: &Path,
    jobs_may_go: bool,
) -> Item {
    let mut item = Item::new("condor");
    let configuration = condor_config::read(root, host);
    if configuration.files.is_empty() {
        if root.is(Kind::Directory, "/etc/condor") {
            let line = "what HTCondor has stays: there is no condor_config that says where it is";
            item.kept.push(line.into());
        }
        return item;
    }
    let mut places = Places::of(&configuration, &mut item.kept);
    places.directories.retain(|directory| {
        let path = &directory.path;
        // The scratch disk is new at each boot, or somebody else's.
        let is_there = root.is(Kind::Directory, path) && !path.starts_with(mount_point);
        let is_own = is_there && is_condors(root, path);
        if is_there && !is_own {
            item.kept.push(format!(
                "{} stays: it may hold more than HTCondor's {}",
                path.display(),
                directory.name
            ));
        }
        is_own
    });
    places.lasting.push(mount_point.into());
    let queue = configuration.value("JOB_QUEUE_LOG").ok().map(PathBuf::from);
    let mut with_jobs = Vec::new();
    places.directories.retain(|directory| {
        let path = &directory.path;
        let jobs = match directory.name.ends_with("SPOOL") && !jobs_may_go {
            true => jobs(
                root,
                &queue.clone().unwrap_or_else(|| path.join("job_queue.log")),
            ),
            false => Jobs::None,
        };
        let count = match jobs {
            Jobs::None => return true,
            Jobs::Some(count) => count.to_string(),
            Jobs::Unknown => "nobody knows how many".into(),
        };
        let shown = path.display();
        let line = format!("{shown} stays: jobs are in it ({count}); --condor removes them");
        item.kept.push(line);
        with_jobs.push(path.clone());
        false
    });
    places.lasting.extend(with_jobs);
    for directory in &places.directories {
        places.empty(root, &directory.path, &mut item);
    }
    for file in &places.files {
        let content = root.read(file, MIB).ok().flatten();
        // `<192.0.2.1:9618?addrs=…>`: whatever else has such a name is not theirs.
        if content.is_some_and(|content| content.starts_with(b"<")) {
            item.steps.push(Step::Remove(file.clone()));
        }
    }
    item
}

/// One that the configuration names.
struct Directory {
    /// By which setting.
    name: String,
    path: PathBuf,
}

/// Where HTCondor has something.
struct Places {
    directories: Vec<Directory>,
    /// Of addresses and claims, which the configuration names.
    files: Vec<PathBuf>,
    /// What stays, wherever it is: the configuration, programs, tokens and passwords.
    lasting: Vec<PathBuf>,
}

impl Places {
    /// By all that is in force for some daemon. What is not known is said.
    fn of(configuration: &Configuration, kept: &mut Vec<String>) -> Places {
        let mut places = Places {
            directories: Vec::new(),
            files: Vec::new(),
            lasting: configuration.files.clone(),
        };
        let mut names: Vec<&str> = Vec::new();
        for setting in &configuration.settings {
            if !names.contains(&setting.name.as_str()) {
                names.push(&setting.name);
            }
        }
        for name in names {
            let Some(purpose) = Purpose::of(name) else {
                continue;
            };
            match (configuration.value(name).map(PathBuf::from), purpose) {
                (Ok(path), Purpose::Directory) if path.is_absolute() => {
                    let name = name.into();
                    if !places.directories.iter().any(|other| other.path == path) {
                        places.directories.push(Directory { name, path });
                    }
                }
                (Ok(path), Purpose::File) if path.is_absolute() => places.files.push(path),
                (Ok(path), Purpose::Lasting) if path.is_absolute() => places.lasting.push(path),
                (Ok(_), _) | (Err(_), Purpose::Lasting) => {}
                (Err(why), _) => kept.push(format!("{name} of HTCondor stays: {why}")),
            }
        }
        // A file that could not be read may set each of them to something else.
        if let Some((place, why)) = configuration.unclear.first() {
            kept.push(format!("what {place} sets of HTCondor stays: {why}"));
        }
        places
    }

    /// Takes out what is in a directory, but for what lasts. The directories themselves stay:
    /// HTCondor makes none again.
    fn empty(&self, root: &Root, directory: &Path, item: &mut Item) {
        let entry = root.entry_itself(directory).ok().flatten();
        if entry.is_none_or(|entry| entry.kind != Kind::Directory) {
            let shown = directory.display();
            item.kept
                .push(format!("what is in {shown} stays: it is a link"));
            return;
        }
        let others = self.directories.iter().map(|directory| &directory.path);
        let lasting = || self.lasting.iter().chain(others.clone());
        for name in root.names(directory).unwrap_or_default() {
            let path = directory.join(&name);
            // Of the account whose home this is.
            if name == ".ssh" || name == ".condor" {
                item.kept.push(format!("{} stays", path.display()));
                continue;
            }
            match lasting().find(|lasting| lasting.starts_with(&path)) {
                Some(lasting) if *lasting == path => {}
                Some(lasting) => {
                    let (shown, lasting) = (path.display(), lasting.display());
                    item.kept.push(format!("{shown} stays: {lasting} is in it"));
                }
                None => item.steps.push(remove(root, path)),
            }
        }
    }
}

enum Purpose {
    Directory,
    File,
    Lasting,
}

impl Purpose {
    /// By a setting's name: `SPOOL`, `SCHEDD.OTHER.SPOOL`, `SLOT1_EXECUTE`.
    fn of(name: &str) -> Option<Purpose> {
        let name = name.rsplit('.').next().unwrap_or(name);
        let is_of_slot = name.starts_with("SLOT") && name.ends_with("_EXECUTE");
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if is_of_slot || ["SPOOL", "EXECUTE", "LOG", "LOCK", "RUN"].contains(&name) {
            Some(Purpose::Directory)
        } else if ends(&["_ADDRESS_FILE", "_CLAIM_ID_FILE"]) {
            Some(Purpose::File)
        } else if name.starts_with("SEC_")
            || name.starts_with("AUTH_SSL_")
            || ends(&["KEYFILE", "_DIR", "_DIRECTORY", "SBIN", "LIBEXEC"])
        {
            Some(Purpose::Lasting)
        } else {
            None
        }
    }
}

/// Whether all in a directory is HTCondor's: its name or its owner says so. Somebody's home, or
/// a directory of the system, is not, though the configuration names it.
fn is_condors(root: &Root, path: &Path) -> bool {
    let mut names = path
        .iter()
        .map(|name| name.to_string_lossy().to_lowercase());
    let is_named = names.any(|name| name.contains("condor"));
    let accounts = root.text("/etc/passwd");
    let account = accounts.lines().find(|line| line.starts_with("condor:"));
    let uid = account.and_then(|line| line.split(':').nth(2)?.parse().ok());
    let entry = root.entry(path).ok().flatten();
    let is_owned = uid.is_some() && entry.map(|entry| entry.uid) == uid;
    let is_plain = path.iter().all(|part| part != "..") && !path.starts_with("/etc");
    is_plain && path.components().count() > 3 && (is_named || is_owned)
}

#[derive(Debug, PartialEq, Eq)]
enum Jobs {
    None,
    Some(usize),
    Unknown,
}

/// What is in the queue of a schedd.
fn jobs(root: &Root, queue: &Path) -> Jobs {
    match root.read(queue, LARGEST_QUEUE) {
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
}
