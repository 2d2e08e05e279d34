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
    RootDisk,
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
    Volume(String),
    SameLabelAs(PathBuf),
    NotMountable(String),
    /// By the kernel's names for them.
    HasPartitions(Vec<String>),
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
            Reason::RootDisk => write!(f, "is the root disk or a part of it"),
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
            Reason::Volume(serial) => {
                write!(
                    f,
                    "is a persistent volume (its serial number {serial} is a volume's UUID)"
                )
            }
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
