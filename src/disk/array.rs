//! Several local disks as one: what md's superblock on each of them says, and the record of the
//! array that this program made.

use std::fs;

use serde::{Deserialize, Serialize};

use super::making::{HalfMade, Making};
use crate::host::regular_file::{self, MIB};
use crate::host::{Host, atomic_file, machine};
use crate::text;

/// What an array of this program's is called.
pub(crate) const NAME: &str = "ephemeral0";

/// Survives a reboot.
const FILE: &str = "/var/lib/vmstage/array.json";

/// What a superblock of version 1.2 says of the array that the disk is a member of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// The array's: 32 hexadecimal digits.
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) level: u32,
    /// How many disks the array has, and which of them this one is.
    pub(crate) disks: u32,
    pub(crate) role: u32,
    /// The byte at which what is in the array begins.
    pub(crate) data_offset: u64,
}

impl Member {
    /// Where on a disk it is.
    pub(super) const AT: u64 = 4096;

    /// struct mdp_superblock_1 of linux/raid/md_p.h. The roles end the block, so that a disk
    /// whose number is 128 or more shows none.
    pub(super) fn of(block: &[u8; 512]) -> Option<Member> {
        const MAGIC: u32 = 0xa92b_4efc;
        const ROLES: usize = 256;
        let le32 = |offset| u32::from_le_bytes(at(block, offset));
        if le32(0) != MAGIC || le32(4) != 1 {
            return None;
        }
        let role = usize::try_from(le32(160)).ok()?.checked_mul(2)?;
        let role = block.get(ROLES + role..)?.first_chunk()?;
        let name = block[32..64].split(|byte| *byte == 0).next()?;
        Some(Member {
            uuid: block[16..32].iter().map(|b| format!("{b:02x}")).collect(),
            name: text::printable(&String::from_utf8_lossy(name)),
            level: le32(72),
            disks: le32(92),
            role: u16::from_le_bytes(*role).into(),
            data_offset: u64::from_le_bytes(at(block, 128)).checked_mul(512)?,
        })
    }

    /// Whether the array is one as this program makes them, by its name.
    pub(crate) fn is_named(&self) -> bool {
        self.name == NAME && self.level == 0
    }
}

fn at<const N: usize>(block: &[u8; 512], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&block[offset..offset + N]);
    bytes
}

/// The array that this program made, or was making when it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// That mdadm was told to give it.
    pub(crate) uuid: String,
    /// Those of the arrays of which its disks are left.
    before: Vec<String>,
    /// It had a file system on it that was staged.
    pub(crate) is_staged: bool,
    machine: Option<String>,
    members: Vec<Making>,
}

impl Record {
    /// Of an array that is to be made of disks with these names and sizes.
    pub(super) fn of(
        host: &Host,
        uuid: &str,
        before: &[String],
        disks: &[(String, u64)],
    ) -> Record {
        let member = |(name, size): &(String, u64)| Making::of(host, name, *size, uuid, None);
        Record {
            uuid: uuid.into(),
            before: before.into(),
            is_staged: false,
            machine: machine::uuid(host),
            members: disks.iter().map(member).collect(),
        }
    }

    /// None where there is none that can be understood, or it is another machine's: an image
    /// may have been saved with it.
    pub(crate) fn read(host: &Host) -> Option<Record> {
        let text = regular_file::read(&host.path(FILE), MIB).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        (record.machine == machine::uuid(host)).then_some(record)
    }

    /// Writes it, for good: what comes next may be the power's end.
    pub(super) fn write(&self, host: &Host) -> anyhow::Result<()> {
        let file = host.path(FILE);
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        atomic_file::replace(&file, &serde_json::to_vec(self)?, 0o600)?;
        Ok(())
    }

    /// Whether an array is the one that was made, or the one of which its disks are left.
    pub(crate) fn is_of(&self, uuid: &str) -> bool {
        self.uuid == uuid || self.before.iter().any(|before| before == uuid)
    }

    /// What it says of a disk or an array without a signature: nobody else put it into that
    /// state.
    pub(super) fn half_made(&self, this: &Making, array: Option<&str>) -> HalfMade {
        let is_it = |member: &Making| member.is_of_disk(this);
        match array {
            _ if self.is_staged => HalfMade::No,
            Some(array) if array == self.uuid => HalfMade::NoSignature,
            None if self.members.iter().any(is_it) => HalfMade::Member,
            _ => HalfMade::No,
        }
    }
}

/// Whoever uses the file system on the array from now on must not lose it.
///
/// # Errors
///
/// That the record may still say otherwise.
pub(crate) fn is_staged_now(host: &Host) -> anyhow::Result<()> {
    match Record::read(host) {
        Some(record) if !record.is_staged => Record {
            is_staged: true,
            before: Vec::new(),
            members: Vec::new(),
            ..record
        }
        .write(host),
        _ => Ok(()),
    }
}
