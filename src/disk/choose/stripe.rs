//! What is to be made one of several disks.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::disk::array::Member;
use crate::disk::identity::Scratch;
use crate::host::block_device::Number;
use crate::text;

/// Disks that become one array, or are to be put together again. Only [`choose`] makes one.
///
/// [`choose`]: super::choose
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stripe {
    pub(super) task: Task,
    pub(super) parts: Vec<Part>,
    /// The kernel's names of arrays that have some of the disks and do not run.
    pub(super) held_by: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Task {
    /// It is whole, and has this UUID. Nothing is written.
    Assemble(String),
    Create {
        /// The UUIDs of what some of the disks are left of: one, or two where a run died.
        instead_of: Vec<String>,
    },
}

/// A disk of several.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub(super) node: PathBuf,
    pub(super) number: Number,
    pub(super) size_bytes: u64,
    pub(super) was: Was,
}

/// What a disk is before it becomes a part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Was {
    Blank,
    /// What a run that died while it made an array has left.
    HalfMade,
    /// A member, whose superblock says this.
    Member(Member),
}

impl Stripe {
    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(crate) fn held_by(&self) -> &[String] {
        &self.held_by
    }

    /// Nothing has to be taken from anybody, and nothing is written.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(self.task, Task::Assemble(_)) && self.held_by.is_empty()
    }
}

impl Part {
    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    pub(crate) fn number(&self) -> Number {
        self.number
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn was(&self) -> &Was {
        &self.was
    }
}

#[cfg(test)]
impl Stripe {
    /// Of blank disks with these names and numbers, each of 64 MiB.
    pub(crate) fn of_blank(disks: &[(&str, Number)]) -> Stripe {
        let part = |(name, number): &(&str, Number)| Part {
            node: Path::new("/dev").join(name),
            number: *number,
            size_bytes: 64 << 20,
            was: Was::Blank,
        };
        let instead_of = Vec::new();
        Stripe {
            task: Task::Create { instead_of },
            parts: disks.iter().map(part).collect(),
            held_by: Vec::new(),
        }
    }
}

/// `/dev/nvme0n1 and /dev/nvme1n1`
impl fmt::Display for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let nodes: Vec<PathBuf> = self.parts.iter().map(|part| part.node.clone()).collect();
        f.write_str(&text::all_of(&nodes))
    }
}

/// What a verdict says of one of the disks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Joined {
    pub(super) how: How,
    pub(super) others: Vec<PathBuf>,
    pub(super) local: Option<Scratch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Assembled,
    Blank,
    /// It is left of an array that is not whole.
    Left,
}

impl Joined {
    /// Why it may be used.
    pub(crate) fn evidence(&self) -> Option<String> {
        self.local.map(|scratch| format!("local: {scratch}"))
    }
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self.how {
            How::Assembled => "is a member of an array, and is put together with",
            How::Blank => "is blank and becomes one disk with",
            How::Left => {
                "is left of an array that this program made and that is not whole; it becomes one disk with"
            }
        })?;
        let evidence = self.evidence().unwrap_or_default();
        write!(f, " {} ({evidence})", text::all_of(&self.others))
    }
}
