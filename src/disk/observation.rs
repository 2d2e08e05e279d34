//! What was seen of the candidates: plain data, from which [`choose`](super::choose) judges.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::array::Record;
use super::claimed::Place;
use super::identity::Identity;
use super::inventory::System;
use super::looked::Look;
use super::making::HalfMade;
use super::signature::{Content, Zero};
use super::superblock::Facts;
use crate::host::block_device::Number;

/// Everything that the choice depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) devices: Vec<Observation>,
    /// What each name in the specs leads to.
    pub(crate) names: BTreeMap<PathBuf, Named>,
    /// The machine's own UUID, where it is known.
    pub(crate) machine: Option<String>,
    /// Why it cannot be known what the system runs from; None where it is known.
    pub(crate) system_unknown: Option<String>,
    /// A device that is mounted and whose UUID could not be read.
    pub(crate) mounted_unread: Option<String>,
    /// The program of the guest's that makes a file system on Azure's temporary disk.
    pub(crate) azure_agent: Option<String>,
    /// No directory is asked for, so that a file system which keeps no owners will do.
    pub(crate) needs_no_owners: bool,
    /// None where several local disks are not to become one.
    pub(crate) combining: Option<Combining>,
}

/// By what several local disks become one.
#[derive(Debug, Clone)]
pub(crate) struct Combining {
    /// Of the array that this program made.
    pub(crate) record: Option<Record>,
    pub(crate) tools: Tools,
    /// Local disks that the kernel has and that are not among the devices: they have no node yet.
    pub(crate) without_node: Vec<PathBuf>,
}

/// Whether the guest has what an array with a file system on it is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tools {
    Found,
    NoMdadm,
    NoMkfs,
}

impl Observed {
    /// Something else has a device in use that had to be looked into.
    pub(crate) fn is_waiting_for_another(&self) -> bool {
        let is_busy = |device: &Observation| matches!(device.look, Some(Look::Busy(_)));
        self.devices.iter().any(is_busy)
    }
}

/// One block device, as it was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    pub(crate) number: Number,
    pub(crate) node: PathBuf,
    pub(crate) size_bytes: u64,
    pub(crate) is_partition: bool,
    pub(crate) content: Content,
    pub(crate) read_only: bool,
    /// Of the file system.
    pub(crate) uuid: Option<String>,
    /// The label in the boot sector of a vfat, which need not be its label.
    pub(crate) boot_label: Option<String>,
    pub(crate) facts: Facts,
    pub(crate) system: System,
    pub(crate) is_swapped_on: bool,
    /// Device-mapper and md devices that are made of it, and a btrfs that it is a part of.
    pub(crate) holders: Vec<String>,
    /// The disks that an md array is made of.
    pub(crate) made_of: Vec<PathBuf>,
    /// The UUID of an array that is known by its members.
    pub(crate) array: Option<String>,
    pub(crate) identity: Identity,
    pub(crate) fstab: Fstab,
    /// A device whose file system has the same UUID and is mounted.
    pub(crate) twin_of: Option<PathBuf>,
    pub(crate) mounted_on: Vec<PathBuf>,
    /// The kernel's names of its partitions; only looked for where nothing is on it.
    pub(crate) partitions: Vec<String>,
    /// Only looked for where formatting is allowed.
    pub(crate) zero: Zero,
    /// Whether this program was making a file system on it when it was ended.
    pub(crate) half_made: HalfMade,
    /// What is in its file system, where somebody looked.
    pub(crate) look: Option<Look>,
}

impl Observation {
    /// As if it had been unmounted.
    pub(crate) fn forget_that_it_is_unclean(&mut self) {
        self.facts.is_unclean = false;
        self.facts.is_replay_pending = false;
        if let Some(Look::Seen(contents)) = &mut self.look {
            contents.is_replay_pending = false;
        }
    }
}

/// What `/etc/fstab` says of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fstab {
    /// It can speak against no use of this device.
    NotLookedAt,
    Nothing,
    /// It has another place.
    Place(Place),
    /// The file cannot be read.
    Unknown(String),
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
