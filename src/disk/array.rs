//! Several local disks as one: what md's superblock on each of them says, and the record of the
//! array that this program made.

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

    /// Whether this is the array's UUID, as libblkid writes it. A superblock of another version,
    /// which libblkid saw first, is of another array.
    pub(super) fn is_of(&self, uuid: Option<&str>) -> bool {
        uuid.is_some_and(|uuid| uuid.replace('-', "").eq_ignore_ascii_case(&self.uuid))
    }

    /// Whether the array is one as this program makes them, by its name: with `--homehost=any`
    /// mdadm writes that in front.
    pub(crate) fn is_named(&self) -> bool {
        let name = self.name.strip_prefix("any:").unwrap_or(&self.name);
        name == NAME && self.level == 0
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
        let text = serde_json::to_vec(self)?;
        atomic_file::replace_with_directories(&host.path(FILE), &text, 0o600)?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::tree::Tree;

    const UUID: &str = "1383d732e7e142f3be6f1df92e56d200";

    fn put(block: &mut [u8; 512], offset: usize, bytes: &[u8]) {
        block[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// As mdadm 4.2 writes it on the second of two disks.
    fn block() -> [u8; 512] {
        let mut block = [0; 512];
        put(&mut block, 0, &0xa92b_4efc_u32.to_le_bytes());
        put(&mut block, 4, &1u32.to_le_bytes());
        put(
            &mut block,
            16,
            b"\x13\x83\xd7\x32\xe7\xe1\x42\xf3\xbe\x6f\x1d\xf9\x2e\x56\xd2\x00",
        );
        put(&mut block, 32, b"any:ephemeral0");
        put(&mut block, 92, &2u32.to_le_bytes());
        put(&mut block, 128, &4096u64.to_le_bytes());
        put(&mut block, 160, &1u32.to_le_bytes());
        put(&mut block, 256, &[0, 0, 1, 0, 0xff, 0xff]);
        block
    }

    #[test]
    fn a_superblock_says_which_disk_of_which_array_it_is_on() {
        let member = Member::of(&block()).unwrap();
        let expected = Member {
            uuid: UUID.into(),
            name: "any:ephemeral0".into(),
            level: 0,
            disks: 2,
            role: 1,
            data_offset: 2 << 20,
        };
        assert_eq!(member, expected);
        let changes: [(usize, &[u8]); 3] = [(0, &[0]), (4, &[2]), (160, &[128])];
        for (offset, bytes) in changes {
            let mut block = block();
            put(&mut block, offset, bytes);
            assert_eq!(Member::of(&block), None, "{offset}");
        }
    }

    #[test]
    fn an_array_is_known_by_its_name_and_its_level() {
        let cases = [
            ("ephemeral0", 0, true),
            ("any:ephemeral0", 0, true),
            ("node7:ephemeral0", 0, false),
            ("any:data", 0, false),
            ("ephemeral0", 1, false),
        ];
        for (name, level, expected) in cases {
            let mut member = Member::of(&block()).unwrap();
            (member.name, member.level) = (name.into(), level);
            assert_eq!(member.is_named(), expected, "{name} {level}");
        }
    }

    #[test]
    fn what_the_record_says_is_half_made_until_something_is_staged() {
        let tree = Tree::new(&[
            ("sys/block/nvme0n1/device/serial", "AWS1 \n"),
            ("sys/block/nvme1n1/device/serial", "AWS2 \n"),
        ]);
        let host = tree.host();
        let disks = [("nvme0n1".to_string(), 100)];
        let record = Record::of(&host, UUID, &["before".into()], &disks);
        record.write(&host).unwrap();
        assert_eq!(Record::read(&host).as_ref(), Some(&record));
        let this = |name: &str, size| Making::of(&host, name, size, "", None);
        let said = |record: &Record| {
            [
                record.half_made(&this("nvme0n1", 100), None),
                record.half_made(&this("nvme0n1", 101), None),
                record.half_made(&this("nvme1n1", 100), None),
                record.half_made(&this("md127", 200), Some(UUID)),
                record.half_made(&this("md127", 200), Some("before")),
            ]
        };
        let no = HalfMade::No;
        let expected = [HalfMade::Member, no, no, HalfMade::NoSignature, no];
        assert_eq!(said(&record), expected);
        is_staged_now(&host).unwrap();
        let record = Record::read(&host).unwrap();
        assert_eq!(said(&record), [no; 5]);
        // What is left of the array is still this program's.
        assert!(record.is_of(UUID) && !record.is_of("other"));
    }

    #[test]
    fn another_machines_record_says_nothing() {
        const PRODUCT: &str = "sys/class/dmi/id/product_uuid";
        let tree = Tree::new(&[(PRODUCT, "0e4d1c2b-8f6a-4b3c-9d1e-000000000001\n")]);
        Record::of(&tree.host(), UUID, &[], &[])
            .write(&tree.host())
            .unwrap();
        assert!(Record::read(&tree.host()).is_some());
        fs::write(
            tree.root().join(PRODUCT),
            "0e4d1c2b-8f6a-4b3c-9d1e-000000000002\n",
        )
        .unwrap();
        assert_eq!(Record::read(&tree.host()), None);
    }
}
