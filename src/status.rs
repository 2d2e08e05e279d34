//! The status document: everything that is known about this boot, in one file.
//!
//! It is what people and scripts read, and what every consumer under
//! `report` is told from.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::boot::Failure;
use crate::config::{self, Action};
use crate::disk::choose::{self, Judgement};
use crate::staging::directories::Created;
use crate::staging::mount::Staged;
use crate::staging::mounts;
use crate::{atomic_file, clock, kernel_file};

pub mod show;

/// Raised when a field changes its meaning or goes away; new fields do not raise it.
pub const SCHEMA: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub schema: u32,
    pub version: String,
    /// The kernel's identifier of this boot. A document of another boot says nothing
    /// about this one: `/var/run` may survive a reboot.
    pub boot_id: String,
    pub outcome: Outcome,
    pub exit_code: u8,
    pub error: Option<String>,
    /// RFC 3339, UTC, as all times that end in `_at` or `_utc`.
    pub started_at: String,
    /// When the outcome was known.
    pub finished_at: String,
    pub staging: Option<Staging>,
    pub directories: Vec<Directory>,
    pub verdicts: Vec<Verdict>,
    pub warnings: Vec<String>,
    /// Who this VM is, as far as a metadata source said.
    #[serde(default)]
    pub instance: Option<Instance>,
    #[serde(default)]
    pub deadline: Option<Deadline>,
    /// Limits that were given and could not be used, with the reason.
    #[serde(default)]
    pub ignored_limits: Vec<IgnoredLimit>,
    /// What became of asking each metadata source.
    #[serde(default)]
    pub sources: Vec<SourceAsked>,
}

#[derive(Deserialize)]
struct OfBoot {
    boot_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ready,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Staging {
    pub mount_point: PathBuf,
    pub device: String,
    pub filesystem: String,
    pub label: Option<String>,
    /// As the mount table shows them.
    pub options: String,
    pub size_bytes: u64,
    /// What an unprivileged user may still fill.
    pub free_bytes: u64,
    /// Somebody else, or an earlier boot command, had mounted it.
    pub already_mounted: bool,
    pub also_mounted_on: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Directory {
    pub path: PathBuf,
    pub owner: String,
    pub group: String,
    pub mode: String,
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub spec: String,
    pub device: Option<String>,
    /// `accepted`, `absent` or `rejected`.
    pub verdict: String,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Instance {
    pub id: Option<String>,
    pub name: Option<String>,
    pub project: Option<String>,
    pub availability_zone: Option<String>,
    pub flavor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deadline {
    /// Unix seconds.
    pub at: u64,
    pub at_utc: String,
    /// Which limit it is, as `vmstage_lifetime in the openstack metadata`.
    pub origin: String,
    pub grace_seconds: u64,
    pub action: Action,
    /// When a source last confirmed it; None where no source is needed to know it.
    pub confirmed_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IgnoredLimit {
    pub origin: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceAsked {
    pub source: String,
    /// Milliseconds from the first try to the answer or to giving up.
    pub took_ms: u64,
    /// None where it answered.
    pub error: Option<String>,
}

/// `/run/vmstage`, or `/var/run/vmstage` where there is no `/run` (before 2011).
pub fn runtime_directory() -> PathBuf {
    let run = Path::new("/run");
    let base = if run.is_dir() {
        run
    } else {
        Path::new("/var/run")
    };
    base.join("vmstage")
}

pub fn path() -> PathBuf {
    runtime_directory().join("status.json")
}

/// The kernel's identifier of this boot (random(4)); there since Linux 2.4.
pub fn boot_id() -> Result<String> {
    let file = "/proc/sys/kernel/random/boot_id";
    let id = kernel_file::read_text(file).with_context(|| format!("cannot read {file}"))?;
    Ok(id.trim().to_string())
}

/// Held from reading the document to writing it, for `boot` and `watch` both write it.
/// Where there is no place for the lock there is none for the document either.
pub fn lock() -> Option<File> {
    atomic_file::lock(&runtime_directory().join("status.lock"))
}

impl Status {
    /// A document of this boot in which nothing has been achieved yet. What an earlier
    /// run in this boot found out holds until it is found out anew: on which disk it
    /// decided and why, who this VM is and when it must be gone. Else a second boot
    /// would tell HTCondor for a while that there is no deadline.
    pub fn begin() -> Status {
        let earlier = Status::read().ok().flatten();
        let holds = |earlier: &Status| {
            earlier.outcome == Outcome::Ready && earlier.see_that_it_is_mounted().is_ok()
        };
        if !earlier.as_ref().is_some_and(holds) {
            // Who waits for this boot is not to be told of the failure of that one.
            let _ = std::fs::remove_file(path());
        }
        Status::begin_after(earlier)
    }

    /// The beginning of a document, given that of an earlier run in this boot.
    pub fn begin_after(earlier: Option<Status>) -> Status {
        let now = clock::utc(clock::now());
        let (verdicts, instance, deadline) = earlier
            .map(|earlier| (earlier.verdicts, earlier.instance, earlier.deadline))
            .unwrap_or_default();
        Status {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            boot_id: boot_id().unwrap_or_default(),
            outcome: Outcome::Failed,
            exit_code: 1,
            error: None,
            started_at: now.clone(),
            finished_at: now,
            staging: None,
            directories: Vec::new(),
            verdicts,
            warnings: Vec::new(),
            instance,
            deadline,
            ignored_limits: Vec::new(),
            sources: Vec::new(),
        }
    }

    pub fn record_directories(&mut self, asked: &[config::Directory], created: &[Created]) {
        let name = |account: &Option<config::Account>| {
            account.as_ref().map_or("root".into(), ToString::to_string)
        };
        self.directories = asked
            .iter()
            .zip(created)
            .map(|(asked, created)| Directory {
                path: created.path.clone(),
                owner: name(&asked.owner),
                group: name(&asked.group),
                mode: asked.mode.to_string(),
                error: created.error.as_ref().map(|error| format!("{error:#}")),
            })
            .collect();
    }

    /// Records how it ended: ready, or why not.
    pub fn conclude(&mut self, failure: Option<&Failure>) {
        self.finished_at = clock::utc(clock::now());
        self.outcome = failure.map_or(Outcome::Ready, |_| Outcome::Failed);
        self.exit_code = failure.map_or(0, Failure::exit_code);
        self.error = failure.map(ToString::to_string);
    }

    /// What was mounted at boot may be gone since.
    ///
    /// # Errors
    ///
    /// That it is, in words; or that the mount table cannot be read.
    pub fn see_that_it_is_mounted(&self) -> Result<(), Failure> {
        let (Outcome::Ready, Some(staging)) = (self.outcome, &self.staging) else {
            return Ok(());
        };
        let mount_point = staging.mount_point.display();
        match mounts::on(&mounts::read()?, &staging.mount_point) {
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
    pub fn write(&self) -> Result<()> {
        let _turn = lock();
        self.put()
    }

    /// Writes the document to its place, atomically, readable for everybody. For whoever
    /// has the [`lock`].
    pub fn put(&self) -> Result<()> {
        let path = path();
        let directory = runtime_directory();
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
    pub fn read() -> Result<Option<Status>> {
        let path = path();
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
            .is_some_and(|id| boot_id().is_ok_and(|this| id != this))
        {
            return Ok(None);
        }
        serde_json::from_slice(&text)
            .map(Some)
            .with_context(not_one)
    }
}

impl From<&Staged> for Staging {
    fn from(staged: &Staged) -> Staging {
        Staging {
            mount_point: staged.mount_point().into(),
            device: staged.device().into(),
            filesystem: staged.filesystem().into(),
            label: staged.label().map(Into::into),
            options: staged.options().into(),
            size_bytes: staged.size_bytes(),
            free_bytes: staged.free_bytes(),
            already_mounted: staged.already_mounted(),
            also_mounted_on: staged.also_mounted_on().into(),
        }
    }
}

impl From<&choose::Verdict> for Verdict {
    fn from(verdict: &choose::Verdict) -> Verdict {
        let (word, reason) = match &verdict.judgement {
            Judgement::Accepted(_) => ("accepted", None),
            Judgement::Absent => ("absent", None),
            Judgement::Rejected(reason) => ("rejected", Some(reason.to_string())),
        };
        Verdict {
            spec: verdict.spec.to_string(),
            device: verdict
                .device
                .as_ref()
                .map(|device| device.display().to_string()),
            verdict: word.into(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_second_boot_begins_with_the_deadline_and_with_nothing_achieved() {
        let earlier = example::with_deadline();
        let status = Status::begin_after(Some(earlier.clone()));
        assert_eq!(status.deadline, earlier.deadline);
        assert_eq!(status.instance, earlier.instance);
        assert_eq!(status.outcome, Outcome::Failed);
        assert_eq!(status.staging, None);
    }
}
