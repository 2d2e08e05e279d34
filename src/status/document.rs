//! The status document: everything that is known about this boot, in one file.
//!
//! It is what people and scripts read, and what every consumer under
//! `report` is told from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Resources;

use crate::config::Action;
use crate::deadline::limit::IgnoredLimit;
use crate::deadline::origin::{self, Origin};
use crate::metadata::{Instance, SourceAsked};

/// Raised when a field changes its meaning or goes away; new fields do not raise it.
pub(crate) const SCHEMA: u32 = 1;

/// What is known about this boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub(crate) schema: u32,
    pub(crate) version: String,
    /// The kernel's identifier of this boot. A document of another boot says nothing
    /// about this one: `/var/run` may survive a reboot.
    pub(crate) boot_id: String,
    pub(crate) outcome: Outcome,
    pub(crate) exit_code: u8,
    pub(crate) error: Option<String>,
    /// RFC 3339, UTC, as all times that end in `_at` or `_utc`.
    pub(crate) started_at: String,
    /// When the outcome was known.
    pub(crate) finished_at: String,
    /// How long the machine was up when it was first ready in this boot.
    #[serde(default)]
    pub(crate) ready_uptime_ms: Option<u64>,
    /// An earlier run in this boot was: of a version that wrote no such time, perhaps.
    #[serde(skip)]
    pub(crate) was_ready: bool,
    pub(crate) staging: Option<Staging>,
    pub(crate) directories: Vec<Directory>,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) warnings: Vec<String>,
    /// Who this VM is, as far as a metadata source said.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// None where nothing limits this VM.
    #[serde(default)]
    pub deadline: Option<Deadline>,
    /// The drain command runs.
    #[serde(default)]
    pub(crate) is_draining: bool,
    /// Limits that were given and could not be used, with the reason.
    #[serde(default)]
    pub(crate) ignored_limits: Vec<IgnoredLimit>,
    /// What was asked for, and what there is; None where nobody said.
    #[serde(default)]
    pub(crate) resources: Option<Resources>,
    /// What became of asking each metadata source.
    #[serde(default)]
    pub(crate) sources: Vec<SourceAsked>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ready,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Staging {
    pub(crate) mount_point: PathBuf,
    pub(crate) device: String,
    pub(crate) filesystem: String,
    pub(crate) label: Option<String>,
    /// As the mount table shows them.
    pub(crate) options: String,
    pub(crate) size_bytes: u64,
    /// What an unprivileged user may still fill.
    pub(crate) free_bytes: u64,
    /// Somebody else, or an earlier boot command, had mounted it.
    pub(crate) already_mounted: bool,
    pub(crate) also_mounted_on: Vec<PathBuf>,
    /// Why it may be used, where the boot chose it: `LABEL=…`, `local: …`, `empty` or `ours`.
    #[serde(default)]
    pub(crate) evidence: Option<String>,
    /// The disks that an array is made of; empty for any other device.
    #[serde(default)]
    pub(crate) made_of: Vec<PathBuf>,
    /// What shows that somebody else staged it, and not the scratch disk, in words.
    #[serde(default)]
    pub(crate) suspicion: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) owner: String,
    pub(crate) group: String,
    pub(crate) mode: String,
    pub(crate) error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) spec: String,
    pub(crate) device: Option<String>,
    /// `accepted`, `absent`, `rejected`; `blank` where a file system is made first, and
    /// `remade` where that is in place of an empty one, or of one that was never finished;
    /// `joined` where it becomes one disk with others, or is put together with them.
    pub(crate) verdict: String,
    pub(crate) reason: Option<String>,
    /// Why a device may be used: `LABEL=…`, `local: …`, `empty` or `ours`; `blank` and
    /// `half made` as well where a file system is made first.
    #[serde(default)]
    pub(crate) evidence: Option<String>,
    /// Of this boot: it may be the scratch disk, and cannot be used as such.
    #[serde(skip)]
    pub(crate) may_be_scratch: bool,
}

/// When the VM must be gone, and who says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deadline {
    /// Unix seconds.
    pub at: u64,
    pub(crate) at_utc: String,
    /// Which limit it is, as `vmstage_lifetime in the openstack metadata`.
    pub origin: String,
    /// The same as source and key; None where another version wrote it.
    #[serde(
        default,
        deserialize_with = "origin::readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub given_by: Option<Origin>,
    /// A cloud announced it, minutes or seconds ahead.
    #[serde(default)]
    pub(crate) notice: bool,
    /// An operator rehearses a notice: nothing is ended.
    #[serde(default)]
    pub rehearsal: bool,
    /// One answer has said so, and nothing is done about it before another has too.
    #[serde(default)]
    pub(crate) unconfirmed: bool,
    /// The time before it in which no new work starts.
    pub grace_seconds: u64,
    /// What the site asks for, which counts where it is longer than the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) site_grace_seconds: Option<u64>,
    /// What happens then: not what is configured where it is an order that ends nothing.
    pub(crate) action: Action,
    /// When a source last confirmed it; None where no source is needed to know it.
    pub confirmed_at: Option<String>,
}
