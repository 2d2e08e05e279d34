//! Where the status document is kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::{Outcome, Status};
use crate::failure::Failure;
use crate::host::this_boot::ThisBoot;
use crate::host::{Host, atomic_file, locks, mount_table, silent};

/// Where people and scripts find it.
pub(crate) fn path(host: &Host) -> PathBuf {
    host.runtime_directory().join("status.json")
}

/// Where it is while nothing can be written to the run directory: that one is in memory, and
/// anybody may fill it.
fn spare_path(host: &Host) -> PathBuf {
    host.path("/var/lib/vmstage/status.json")
}

/// Held from reading the document to writing it, for `boot` and `watch` both write it.
/// Where there is no place for the lock there is none for the document either.
pub(crate) fn lock(host: &Host) -> Option<File> {
    locks::lock(&host.runtime_directory().join("status.lock"))
}

/// One device may have several names, of which the mount table has one.
fn is_same_device(host: &Host, source: &Path, device: &Path) -> bool {
    let number = host.block_number(device);
    source == device || number.is_some() && host.block_number(source) == number
}

impl Status {
    /// A document of this boot in which nothing has been achieved yet. What an earlier
    /// run in this boot found out holds until it is found out anew: on which disk it
    /// decided and why, who this VM is and when it must be gone. Else a second boot
    /// would tell HTCondor for a while that there is no deadline.
    pub fn begin(host: &Host) -> Status {
        let earlier = Status::read(host).ok().flatten();
        let holds = |earlier: &Status| {
            earlier.outcome == Outcome::Ready && earlier.see_that_it_is_mounted(host).is_ok()
        };
        if !earlier.as_ref().is_some_and(holds) {
            // Who waits for this boot is not to be told of the failure of that one.
            for place in [path(host), spare_path(host)] {
                let _ = atomic_file::remove_if_ever_there(&place);
            }
        }
        Status::begin_after(host, earlier)
    }

    /// What was mounted at boot may be gone since.
    ///
    /// # Errors
    ///
    /// That it is, in words; or that the mount table cannot be read.
    pub(crate) fn see_that_it_is_mounted(&self, host: &Host) -> Result<(), Failure> {
        let (Outcome::Ready, Some(staging)) = (self.outcome, &self.staging) else {
            return Ok(());
        };
        let mount_point = staging.mount_point.display();
        match mount_table::on(&mount_table::read(host)?, &staging.mount_point) {
            Some(mount) if is_same_device(host, &mount.source, Path::new(&staging.device)) => {
                Ok(())
            }
            Some(mount) => Err(Failure::Other(anyhow!(
                "{} is mounted on {mount_point}, and not {} any more: unmount it, and run vmstage boot",
                mount.source.display(),
                staging.device
            ))),
            None => Err(Failure::Other(anyhow!(
                "nothing is mounted on {mount_point} any more: vmstage boot mounts it again"
            ))),
        }
    }

    /// Writes the document to its place when nobody else is changing what is there.
    ///
    /// # Errors
    ///
    /// As [`Status::put`].
    pub fn write(&self, host: &Host) -> Result<()> {
        let _turn = lock(host);
        self.put(host)
    }

    /// The same, for the boot that had written `told` before. Says whether it was to be
    /// written: another boot may have said since what became of it. `watch` may have written
    /// as well, of the deadline, which it knows no worse, and that it drains.
    ///
    /// # Errors
    ///
    /// As [`Status::put`].
    pub(crate) fn write_after(&mut self, host: &Host, told: &Status) -> Result<bool> {
        let boot = |status: &Status| (status.started_at.clone(), status.staging.clone());
        let _turn = lock(host);
        if let Ok(Some(written)) = Status::read(host) {
            if boot(&written) != boot(told) {
                return Ok(false);
            }
            self.is_draining = written.is_draining;
        }
        self.put(host).map(|()| true)
    }

    /// Writes the document to its place, atomically, readable for everybody. For whoever
    /// has the [`lock`].
    ///
    /// # Errors
    ///
    /// That it cannot be written there. [`Status::read`] still finds it, if it could be
    /// written elsewhere, and else the one before, if that is still true.
    pub(crate) fn put(&self, host: &Host) -> Result<()> {
        let mut text =
            serde_json::to_vec_pretty(self).context("cannot write the status as JSON")?;
        text.push(b'\n');
        let (place, spare) = (path(host), spare_path(host));
        let Err(error) = write(&place, &text) else {
            // It is outdated from now on.
            let _ = atomic_file::remove_if_ever_there(&spare);
            return Ok(());
        };
        if write(&spare, &text).is_ok() {
            let _ = atomic_file::remove_if_there(&place);
            return Err(anyhow!("{error:#}; it is in {} meanwhile", spare.display()));
        }
        if !self.is_told_by_what_is_there(host) {
            for place in [place, spare] {
                let _ = atomic_file::remove_if_there(&place);
            }
        }
        Err(error)
    }

    /// Whether an older document says the same of what became of the boot.
    fn is_told_by_what_is_there(&self, host: &Host) -> bool {
        let result = |status: &Status| {
            let staging = status.staging.as_ref();
            let place =
                staging.map(|staging| (staging.mount_point.clone(), staging.device.clone()));
            (status.outcome, status.exit_code, place)
        };
        let there = Status::read(host).ok().flatten();
        there.is_some_and(|there| result(&there) == result(self))
    }

    /// The document of this boot; None where there is none, or only an earlier boot's.
    ///
    /// # Errors
    ///
    /// That it cannot be read, or not understood.
    pub fn read(host: &Host) -> Result<Option<Status>> {
        let found = ThisBoot::at(host, path(host)).read();
        if let Ok(Some(_)) = found {
            return found;
        }
        // It is written there where the other place cannot be written.
        let spare = ThisBoot::at(host, spare_path(host)).read();
        match (spare, found) {
            (Ok(None), found) => found,
            (Err(_), Err(first)) => Err(first),
            (spare, _) => spare,
        }
    }
}

fn write(file: &Path, text: &[u8]) -> Result<()> {
    silent::see_that_the_way_answers(file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    if let Some(directory) = file.parent().filter(|directory| !directory.is_dir()) {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    atomic_file::replace(file, text, 0o644)
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;
    use crate::report::example;

    const FILE: &str = "run/vmstage/status.json";
    const SPARE: &str = "var/lib/vmstage/status.json";
    /// As long as this directory is there, nothing can be written beside it.
    const OBSTACLE: &str = "run/vmstage/.status.json.new";

    fn tree() -> Tree {
        let boot_id = example::ready().boot_id;
        Tree::new(&[
            ("run/vmstage/", ""),
            ("var/lib/", ""),
            ("proc/sys/kernel/random/boot_id", &boot_id),
        ])
    }

    fn block(tree: &Tree, directory: &str) {
        fs::create_dir_all(tree.root().join(directory)).unwrap();
    }

    #[test]
    fn what_cannot_be_written_to_run_is_found_all_the_same() {
        let tree = tree();
        let host = tree.host();
        block(&tree, OBSTACLE);
        let error = format!("{:#}", example::ready().write(&host).unwrap_err());
        assert!(error.contains("run/vmstage/status.json: "), "{error}");
        assert!(error.ends_with(&format!("{SPARE} meanwhile")), "{error}");
        assert_eq!(Status::read(&host).unwrap(), Some(example::ready()));
        // Later it can, and the other one is outdated.
        fs::remove_dir(tree.root().join(OBSTACLE)).unwrap();
        example::failed().write(&host).unwrap();
        assert_eq!(Status::read(&host).unwrap(), Some(example::failed()));
        assert!(!tree.root().join(SPARE).exists());
    }

    /// A directory, say, in its place.
    #[test]
    fn what_cannot_be_read_hides_no_document_elsewhere() {
        let tree = tree();
        let host = tree.host();
        block(&tree, &format!("{FILE}/x"));
        Status::read(&host).unwrap_err();
        example::ready().write(&host).unwrap_err();
        assert_eq!(Status::read(&host).unwrap(), Some(example::ready()));
    }

    #[test]
    fn the_newest_document_is_the_one_that_is_found() {
        let tree = tree();
        let host = tree.host();
        example::ready().write(&host).unwrap();
        block(&tree, OBSTACLE);
        example::failed().write(&host).unwrap_err();
        assert_eq!(Status::read(&host).unwrap(), Some(example::failed()));
    }

    #[test]
    fn where_nothing_can_be_written_an_older_document_stays_while_it_is_true() {
        let tree = tree();
        let host = tree.host();
        example::ready().write(&host).unwrap();
        block(&tree, OBSTACLE);
        fs::write(tree.root().join("var/lib/vmstage"), "").unwrap();
        // Only the deadline is new.
        example::with_deadline().write(&host).unwrap_err();
        assert_eq!(Status::read(&host).unwrap(), Some(example::ready()));
        // But this machine is not ready any more.
        example::failed().write(&host).unwrap_err();
        assert_eq!(Status::read(&host).unwrap(), None);
    }

    #[test]
    fn what_another_boot_has_said_since_stays_and_so_does_what_watch_has() {
        let tree = tree();
        let host = tree.host();
        let told = example::ready();
        // By `watch`.
        let draining = Status {
            is_draining: true,
            ..example::with_deadline()
        };
        draining.write(&host).unwrap();
        assert!(example::with_deadline().write_after(&host, &told).unwrap());
        assert_eq!(Status::read(&host).unwrap(), Some(draining));
        example::failed().write(&host).unwrap();
        assert!(!example::with_deadline().write_after(&host, &told).unwrap());
        assert_eq!(Status::read(&host).unwrap(), Some(example::failed()));
    }

    #[test]
    fn a_document_of_another_boot_is_none() {
        let tree = tree();
        let host = tree.host();
        for file in [FILE, SPARE] {
            let other = serde_json::json!({"boot_id": "another", "schema": 7});
            fs::create_dir_all(tree.root().join(file).parent().unwrap()).unwrap();
            fs::write(tree.root().join(file), other.to_string()).unwrap();
        }
        assert_eq!(Status::read(&host).unwrap(), None);
        Status::begin(&host);
        assert!(!tree.root().join(FILE).exists() && !tree.root().join(SPARE).exists());
    }
}
