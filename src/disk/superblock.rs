//! What a superblock says beside label and UUID. libblkid does not tell these.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use super::array::Member;
use crate::text;

/// The state of a file system, as far as its superblock shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// A journal or a log is to be replayed when it is mounted.
    pub(crate) is_replay_pending: bool,
    /// It was not unmounted, or errors were found on it.
    pub(crate) is_unclean: bool,
    /// How large the file system is, in bytes.
    pub(crate) size_bytes: Option<u64>,
    /// How many devices it is on; more than one with btrfs alone.
    pub(crate) devices: Option<u64>,
    /// Nobody has mounted it for writing since it was made, or mkfs did not come to its end.
    pub(crate) was_never_mounted: bool,
    /// Why it cannot be mounted for writing.
    pub(crate) obstacle: Option<Obstacle>,
    /// Of a member of an md array, which has no file system.
    pub(crate) member: Option<Member>,
}

/// Why a file system cannot be mounted for writing, as its superblock says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Obstacle {
    /// ext4's feature `read-only`.
    ReadOnlyFeature,
    /// A btrfs that is the seed of others.
    Seed,
    /// ext4's multiple mount protection: this machine has it mounted, or had.
    MountedBy(String),
}

/// Reads the superblock of a file system of this kind (libblkid's name), or of a RAID's member. What cannot be read
/// is not known.
pub(super) fn facts(device: &File, kind: &str) -> Facts {
    let bytes = |offset| {
        let mut block = [0; 512];
        device
            .read_exact_at(&mut block, offset)
            .ok()
            .map(|()| block)
    };
    match kind {
        "ext2" | "ext3" | "ext4" => bytes(1024).map_or(Facts::default(), |block| Facts {
            obstacle: obstacle_of_ext(&block, bytes),
            ..of_ext(&block)
        }),
        "xfs" => bytes(0).map_or(Facts::default(), |block| of_xfs(&block)),
        "btrfs" => bytes(64 * 1024).map_or(Facts::default(), |block| of_btrfs(&block)),
        "linux_raid_member" => Facts {
            member: bytes(Member::AT).and_then(|block| Member::of(&block)),
            ..Facts::default()
        },
        _ => Facts::default(),
    }
}

/// struct ext4_super_block (Documentation/filesystems/ext4/super.rst).
fn of_ext(block: &[u8; 512]) -> Facts {
    const VALID: u16 = 1;
    const RECOVER: u32 = 4;
    const HAS_64_BITS: u32 = 0x80;
    let incompatible = le32(block, 0x60);
    let high = match incompatible & HAS_64_BITS {
        0 => 0,
        _ => u64::from(le32(block, 0x150)),
    };
    let blocks = high << 32 | u64::from(le32(block, 0x4));
    let is_replay_pending = incompatible & RECOVER != 0;
    Facts {
        is_replay_pending,
        is_unclean: is_replay_pending || le16(block, 0x3a) != VALID,
        size_bytes: 1024u64
            .checked_shl(le32(block, 0x18))
            .and_then(|length| length.checked_mul(blocks)),
        was_never_mounted: le32(block, 0x2c) == 0 && le16(block, 0x34) == 0,
        ..Facts::default()
    }
}

/// `bytes` reads from an offset on. The block of the multiple mount protection is struct
/// mmp_struct (Documentation/filesystems/ext4/mmp.rst).
fn obstacle_of_ext(
    block: &[u8; 512],
    bytes: impl Fn(u64) -> Option<[u8; 512]>,
) -> Option<Obstacle> {
    const READ_ONLY: u32 = 0x1000;
    const MMP: u32 = 0x100;
    const MMP_MAGIC: u32 = 0x004d_4d50;
    const MMP_CLEAN: u32 = 0xff4d_4d50;
    if le32(block, 0x64) & READ_ONLY != 0 {
        return Some(Obstacle::ReadOnlyFeature);
    }
    if le32(block, 0x60) & MMP == 0 {
        return None;
    }
    let length = 1024u64.checked_shl(le32(block, 0x18))?;
    let offset = u64::from_le_bytes(at(block, 0x168)).checked_mul(length)?;
    let mmp = bytes(offset).filter(|mmp| le32(mmp, 0) == MMP_MAGIC)?;
    let node: Vec<u8> = mmp[16..80]
        .iter()
        .copied()
        .take_while(|b| *b != 0)
        .collect();
    let node = text::printable(&String::from_utf8_lossy(&node));
    (le32(&mmp, 4) != MMP_CLEAN).then_some(Obstacle::MountedBy(node))
}

/// struct xfs_dsb (fs/xfs/libxfs/xfs_format.h); whether its log is clean only mounting shows.
fn of_xfs(block: &[u8; 512]) -> Facts {
    let length = u64::from(u32::from_be_bytes(at(block, 4)));
    // sb_inprogress: mkfs.xfs takes it back at its end.
    const IN_PROGRESS: usize = 126;
    Facts {
        was_never_mounted: block[IN_PROGRESS] != 0,
        size_bytes: u64::from_be_bytes(at(block, 8)).checked_mul(length),
        ..Facts::default()
    }
}

/// struct btrfs_super_block (fs/btrfs, "On-disk Format" of its documentation).
fn of_btrfs(block: &[u8; 512]) -> Facts {
    const SEEDING: u64 = 1 << 32;
    let is_seed = u64::from_le_bytes(at(block, 0x38)) & SEEDING != 0;
    let is_replay_pending = u64::from_le_bytes(at(block, 0x60)) != 0;
    Facts {
        is_replay_pending,
        is_unclean: is_replay_pending,
        size_bytes: Some(u64::from_le_bytes(at(block, 0x70))),
        devices: Some(u64::from_le_bytes(at(block, 0x88))),
        was_never_mounted: false,
        obstacle: is_seed.then_some(Obstacle::Seed),
        member: None,
    }
}

fn at<const N: usize>(block: &[u8; 512], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&block[offset..offset + N]);
    bytes
}

fn le16(block: &[u8; 512], offset: usize) -> u16 {
    u16::from_le_bytes(at(block, offset))
}

fn le32(block: &[u8; 512], offset: usize) -> u32 {
    u32::from_le_bytes(at(block, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(block: &mut [u8; 512], offset: usize, bytes: &[u8]) {
        block[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    #[test]
    fn ext_says_whether_it_was_unmounted_and_how_large_it_is() {
        let mut block = [0; 512];
        put(&mut block, 0x4, &1000u32.to_le_bytes());
        put(&mut block, 0x18, &2u32.to_le_bytes());
        put(&mut block, 0x3a, &1u16.to_le_bytes());
        let clean = of_ext(&block);
        assert_eq!(clean.size_bytes, Some(4_096_000));
        assert!(!clean.is_unclean && !clean.is_replay_pending);
        put(&mut block, 0x3a, &2u16.to_le_bytes());
        assert!(of_ext(&block).is_unclean);
        put(&mut block, 0x60, &(4u32 | 0x80).to_le_bytes());
        put(&mut block, 0x150, &1u32.to_le_bytes());
        let large = of_ext(&block);
        assert!(large.is_replay_pending);
        assert_eq!(large.size_bytes, Some((1 << 44) + 4_096_000));
        // A damaged one.
        put(&mut block, 0x18, &u32::MAX.to_le_bytes());
        assert_eq!(of_ext(&block).size_bytes, None);
    }

    #[test]
    fn ext_says_why_it_cannot_be_mounted() {
        let obstacle = |change: &dyn Fn(&mut [u8; 512]), sequence: u32| {
            let mut block = [0; 512];
            put(&mut block, 0x18, &2u32.to_le_bytes());
            put(&mut block, 0x168, &9u64.to_le_bytes());
            change(&mut block);
            obstacle_of_ext(&block, |offset| {
                assert_eq!(offset, 9 * 4096);
                let mut mmp = [0; 512];
                put(&mut mmp, 0, &0x004d_4d50_u32.to_le_bytes());
                put(&mut mmp, 4, &sequence.to_le_bytes());
                put(&mut mmp, 16, b"node7");
                Some(mmp)
            })
        };
        let mmp = |block: &mut [u8; 512]| put(block, 0x60, &0x100u32.to_le_bytes());
        let read_only = |block: &mut [u8; 512]| put(block, 0x64, &0x1000u32.to_le_bytes());
        assert_eq!(obstacle(&|_| (), 1), None);
        assert_eq!(obstacle(&read_only, 1), Some(Obstacle::ReadOnlyFeature));
        assert_eq!(obstacle(&mmp, 0xff4d_4d50), None);
        let by = Obstacle::MountedBy("node7".into());
        assert_eq!(obstacle(&mmp, 1), Some(by));
    }

    #[test]
    fn a_superblock_says_whether_it_was_ever_mounted() {
        let mut block = [0; 512];
        assert!(of_ext(&block).was_never_mounted);
        put(&mut block, 0x2c, &1u32.to_le_bytes());
        assert!(!of_ext(&block).was_never_mounted);
        let mut block = [0; 512];
        assert!(!of_xfs(&block).was_never_mounted);
        block[126] = 1;
        assert!(of_xfs(&block).was_never_mounted);
    }

    #[test]
    fn btrfs_says_how_many_devices_it_is_on_and_whether_a_log_is_left() {
        let mut block = [0; 512];
        put(&mut block, 0x70, &(5u64 << 30).to_le_bytes());
        put(&mut block, 0x88, &2u64.to_le_bytes());
        let facts = of_btrfs(&block);
        assert_eq!((facts.size_bytes, facts.devices), (Some(5 << 30), Some(2)));
        assert!(!facts.is_replay_pending);
        put(&mut block, 0x60, &1u64.to_le_bytes());
        assert!(of_btrfs(&block).is_replay_pending);
        assert_eq!(of_btrfs(&block).obstacle, None);
        put(&mut block, 0x38, &(1u64 << 32).to_le_bytes());
        assert_eq!(of_btrfs(&block).obstacle, Some(Obstacle::Seed));
    }

    #[test]
    fn xfs_says_how_large_it_is() {
        let mut block = [0; 512];
        put(&mut block, 4, &4096u32.to_be_bytes());
        put(&mut block, 8, &10u64.to_be_bytes());
        assert_eq!(of_xfs(&block).size_bytes, Some(40_960));
    }
}
