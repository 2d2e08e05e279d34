//! What was seen of the candidates: plain data, from which [`choose`](super::choose) judges.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::signature::Content;
use crate::host::block_device::Number;

/// Everything that the choice depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) devices: Vec<Observation>,
    /// What each name in the specs leads to.
    pub(crate) names: BTreeMap<PathBuf, Named>,
}

/// One block device, as it was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    pub(crate) number: Number,
    pub(crate) node: PathBuf,
    pub(crate) size_bytes: u64,
    pub(crate) content: Content,
    pub(crate) read_only: bool,
    pub(crate) on_root_disk: bool,
    /// Device-mapper and md devices that are made of it.
    pub(crate) holders: Vec<String>,
    pub(crate) serial: Option<String>,
    pub(crate) mounted_on: Vec<PathBuf>,
    /// The kernel's names of its partitions; only looked for where nothing is on it.
    pub(crate) partitions: Vec<String>,
    /// Zero wherever it was looked; only looked where formatting is allowed.
    pub(crate) is_zero: bool,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Named {
    Missing,
    /// Something else, in words: `a directory`.
    NotABlockDevice(&'static str),
    BlockDevice(Number),
    Unreachable(String),
}
