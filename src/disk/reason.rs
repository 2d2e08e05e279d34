//! Why a device is not the scratch disk, in words.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Why a device is not the scratch disk.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    NotABlockDevice(&'static str),
    Unreachable(String),
    Unreadable(String),
    /// Reading it was given up after this time.
    NoAnswer(Duration),
    /// The running system lives on it.
    SystemDisk,
    SwappedOn,
    /// Nothing is on it, and whether it was seen to be zero.
    Blank(Zero),
    Ambivalent(Vec<String>),
    NotAFilesystem(String),
    PartitionTable(String),
    ConfigDrive,
    ReadOnlyFilesystem(String),
    ReadOnly,
    Held(Vec<String>),
    Mounted(Vec<PathBuf>),
    /// A disk that outlives the machine, in words.
    Persistent(String),
    /// `/etc/fstab` gives it another place.
    PlaceInFstab(String),
    FstabUnknown(String),
    /// It has the UUID of a file system that is mounted from this device.
    TwinOf(PathBuf),
    OnSeveralDevices(u64),
    /// Names that are in it, and the command by which it becomes the scratch disk.
    HoldsFiles(String, String),
    ReplayPending,
    CannotBeLookedInto(String),
    /// It has not been looked into yet.
    NotLookedInto,
    /// Another device is taken, so that it was not looked into.
    NotNeeded(PathBuf),
    /// A file system of this kind keeps no owners, and why it stays.
    KeepsNoOwners(String, Kept),
    /// This program of the guest's makes its file system.
    LeftTo(String),
    SeedDisk,
    SameLabelAs(PathBuf),
    NotMountable(String),
    /// By the kernel's names for them.
    HasPartitions(Vec<String>),
}

/// Why a file system that keeps no owners is not made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    FormatIsNever,
    FoundByName,
    /// These names are in it.
    Holds(String),
}

/// Whether a disk was seen to be zero wherever it was looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zero {
    Seen,
    /// It is not, or nobody looked.
    NotSeen,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Reason::NotABlockDevice(kind) => write!(f, "is {kind}, not a block device"),
            Reason::Unreachable(error) => write!(f, "cannot be looked at: {error}"),
            Reason::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Reason::NoAnswer(after) => write!(
                f,
                "does not answer (reading it was given up after {after:.1?})"
            ),
            Reason::SystemDisk => write!(f, "is a disk that the system runs from"),
            Reason::SwappedOn => write!(f, "is in use as swap space"),
            Reason::Blank(Zero::Seen) => write!(f, "is blank"),
            Reason::Blank(Zero::NotSeen) => write!(
                f,
                "has no signature: it is blank, or its superblock is damaged"
            ),
            Reason::Ambivalent(kinds) if kinds.is_empty() => {
                write!(f, "has ambivalent signatures")
            }
            Reason::Ambivalent(kinds) => write!(
                f,
                "has ambivalent signatures ({}); if it is yours, remove the wrong one with wipefs",
                kinds.join(", ")
            ),
            Reason::NotAFilesystem(kind) => write!(f, "holds {}", in_words(kind)),
            Reason::PartitionTable(kind) => write!(
                f,
                "has a partition table ({kind}); if one of its partitions is meant, name that"
            ),
            Reason::ConfigDrive => write!(f, "is the config drive"),
            Reason::ReadOnlyFilesystem(kind) => {
                write!(f, "holds {kind}, which cannot be written to")
            }
            Reason::ReadOnly => write!(f, "is read-only"),
            Reason::Held(holders) => write!(f, "is in use by {}", holders.join(", ")),
            Reason::Mounted(points) => {
                let points: BTreeSet<_> = points.iter().map(|p| p.display().to_string()).collect();
                let points: Vec<_> = points.into_iter().collect();
                write!(
                    f,
                    "is mounted on {} and has no label that was asked for",
                    points.join(", ")
                )
            }
            Reason::Persistent(words) => write!(f, "{words}"),
            Reason::PlaceInFstab(place) => write!(
                f,
                "has another place: {place}; if it is the scratch disk, remove that line"
            ),
            Reason::FstabUnknown(error) => {
                write!(f, "may have another place: {error}")
            }
            Reason::TwinOf(other) => write!(
                f,
                "has the same UUID as {}, which is mounted: one is a copy of the other",
                other.display()
            ),
            Reason::OnSeveralDevices(count) => {
                write!(f, "is a part of a file system on {count} devices")
            }
            Reason::HoldsFiles(names, cure) => write!(
                f,
                "holds files ({names}); if it is the scratch disk, give it the label: {cure}"
            ),
            Reason::ReplayPending => write!(
                f,
                "was not unmounted cleanly: what is in it cannot be known before its journal is replayed; mount and unmount it once, or give it the label"
            ),
            Reason::CannotBeLookedInto(error) => {
                write!(
                    f,
                    "cannot be looked into ({error}), so that it may be somebody's"
                )
            }
            Reason::NotLookedInto => write!(f, "has not been looked into"),
            Reason::NotNeeded(taken) => {
                write!(
                    f,
                    "is not needed and was not looked into: {} is taken",
                    taken.display()
                )
            }
            Reason::KeepsNoOwners(kind, kept) => {
                write!(f, "holds {kind}, which keeps no owners, ")?;
                match kept {
                    Kept::FormatIsNever => write!(f, "and staging.format is \"never\"")?,
                    Kept::FoundByName => write!(f, "and only a name led to it")?,
                    Kept::Holds(names) => write!(f, "and is not empty ({names})")?,
                }
                write!(
                    f,
                    "; set os_type=linux on the image or default_ephemeral_format=ext4 in nova.conf, or make ext4 on it"
                )
            }
            Reason::LeftTo(agent) => write!(f, "is left to {agent}, which makes its file system"),
            Reason::SeedDisk => write!(f, "is cloud-init's seed disk"),
            Reason::NotMountable(error) => write!(f, "{error}"),
            Reason::HasPartitions(names) => write!(
                f,
                "has no signature, but the kernel knows partitions of it ({}); if one of them is meant, name that",
                names.join(", ")
            ),
            Reason::SameLabelAs(first) => {
                write!(
                    f,
                    "has the same label as {}, which is taken",
                    first.display()
                )
            }
        }
    }
}

/// libblkid's name of something that is not a file system, for people.
fn in_words(kind: &str) -> String {
    match kind {
        "swap" | "swsuspend" => "swap space".into(),
        "LVM2_member" | "LVM1_member" => "an LVM physical volume".into(),
        "linux_raid_member" => "a Linux RAID member".into(),
        "jbd" => "the journal of an ext3 or ext4 file system".into(),
        "zfs_member" => "a part of a ZFS pool".into(),
        "crypto_LUKS" => "a LUKS encrypted volume".into(),
        other => format!("{other}, which is not a file system"),
    }
}
