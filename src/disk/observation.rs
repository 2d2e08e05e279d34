//! What was seen of the candidates: plain data, from which [`choose`](super::choose) judges.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::signature::Content;
use crate::host::block_device::Number;

/// Everything that the choice depends on.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub devices: Vec<Observation>,
    /// What each name in the specs leads to.
    pub names: BTreeMap<PathBuf, Named>,
}

/// One block device, as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub number: Number,
    pub node: PathBuf,
    pub size_bytes: u64,
    pub content: Content,
    pub read_only: bool,
    pub on_root_disk: bool,
    /// Device-mapper and md devices that are made of it.
    pub holders: Vec<String>,
    pub serial: Option<String>,
    pub mounted_on: Vec<PathBuf>,
    /// The kernel's names of its partitions; only looked for where nothing is on it.
    pub partitions: Vec<String>,
    /// Zero wherever it was looked; only looked where formatting is allowed.
    pub is_zero: bool,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    Missing,
    /// Something else, in words: `a directory`.
    NotABlockDevice(&'static str),
    BlockDevice(Number),
    Unreachable(String),
}
