//! What there can be on a block device.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What libblkid found on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    /// No signature that libblkid knows.
    Nothing,
    Filesystem {
        /// libblkid's name for it, which is the kernel's too: `ext4`, `vfat`.
        kind: String,
        label: Option<String>,
    },
    /// Swap, LVM, RAID, LUKS and the like, by libblkid's name.
    Other {
        kind: String,
        label: Option<String>,
    },
    /// `dos`, `gpt`, …
    PartitionTable {
        kind: String,
    },
    /// Several signatures; which of them holds is not for a program to guess.
    Ambivalent {
        kinds: Vec<String>,
    },
    Unreadable {
        error: String,
    },
    /// Reading it was given up after this time.
    NoAnswer {
        after: Duration,
    },
}

impl Content {
    pub(crate) fn label(&self) -> Option<&str> {
        match self {
            Content::Filesystem { label, .. } | Content::Other { label, .. } => label.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Content::Nothing => write!(f, "no signature"),
            Content::Filesystem { kind, label: None } => write!(f, "{kind}"),
            Content::Filesystem {
                kind,
                label: Some(label),
            } => write!(f, "{kind} LABEL={label}"),
            Content::Other { kind, .. } => write!(f, "{kind}"),
            Content::PartitionTable { kind } => write!(f, "{kind} partition table"),
            Content::Ambivalent { kinds } => write!(f, "{}", kinds.join(" and ")),
            Content::Unreadable { error } => write!(f, "unreadable: {error}"),
            Content::NoAnswer { .. } => write!(f, "no answer"),
        }
    }
}
