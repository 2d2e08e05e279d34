//! The status document: everything that is known about this boot, in one file.
//!
//! It is what people and scripts read, and what every consumer under
//! `report` is told from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Action;
use crate::deadline::limit::IgnoredLimit;
use crate::metadata::{Instance, SourceAsked};

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
