//! Where the status document is kept.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use super::{Outcome, Status};
use crate::failure::Failure;
use crate::host::{Host, atomic_file, locks, mount_table};

#[derive(Deserialize)]
struct OfBoot {
    boot_id: Option<String>,
}

pub fn path(host: &Host) -> PathBuf {
    host.runtime_directory().join("status.json")
}

/// Held from reading the document to writing it, for `boot` and `watch` both write it.
/// Where there is no place for the lock there is none for the document either.
pub fn lock(host: &Host) -> Option<File> {
    locks::lock(&host.runtime_directory().join("status.lock"))
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
            let _ = std::fs::remove_file(path(host));
        }
        Status::begin_after(host, earlier)
    }

    /// What was mounted at boot may be gone since.
    ///
    /// # Errors
    ///
    /// That it is, in words; or that the mount table cannot be read.
    pub fn see_that_it_is_mounted(&self, host: &Host) -> Result<(), Failure> {
        let (Outcome::Ready, Some(staging)) = (self.outcome, &self.staging) else {
            return Ok(());
        };
        let mount_point = staging.mount_point.display();
        match mount_table::on(&mount_table::read(host)?, &staging.mount_point) {
            Some(mount) if mount.source == Path::new(&staging.device) => Ok(()),
            Some(mount) => Err(Failure::Other(anyhow!(
                "{} is mounted on {mount_point}, and not {} any more",
                mount.source.display(),
                staging.device
            ))),
            None => Err(Failure::Other(anyhow!(
                "nothing is mounted on {mount_point} any more"
            ))),
        }
    }

    /// Writes the document to its place when nobody else is changing what is there.
    pub fn write(&self, host: &Host) -> Result<()> {
        let _turn = lock(host);
        self.put(host)
    }

    /// Writes the document to its place, atomically, readable for everybody. For whoever
    /// has the [`lock`].
    pub fn put(&self, host: &Host) -> Result<()> {
        let path = path(host);
        let directory = host.runtime_directory();
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let mut text =
            serde_json::to_vec_pretty(self).context("cannot write the status as JSON")?;
        text.push(b'\n');
        atomic_file::replace(&path, &text, 0o644)
            .inspect_err(|_| {
                // What is there is not true any more.
                let _ = std::fs::remove_file(&path);
            })
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The document of this boot; None where there is none, or only an earlier boot's.
    pub fn read(host: &Host) -> Result<Option<Status>> {
        let path = path(host);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let not_one = || format!("{} is not a status document", path.display());
        // Another boot's may be of another version, and have other fields.
        let of: OfBoot = serde_json::from_slice(&text).with_context(not_one)?;
        if of
            .boot_id
            .is_some_and(|id| host.boot_id().is_ok_and(|this| id != this))
        {
            return Ok(None);
        }
        serde_json::from_slice(&text)
            .map(Some)
            .with_context(not_one)
    }
}
