//! What a superblock says beside label and UUID. libblkid does not tell these.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

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
}

/// Reads the superblock of a file system of this kind (libblkid's name). What cannot be read
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
        "ext2" | "ext3" | "ext4" => bytes(1024).map_or(Facts::default(), |block| of_ext(&block)),
        "xfs" => bytes(0).map_or(Facts::default(), |block| of_xfs(&block)),
        "btrfs" => bytes(64 * 1024).map_or(Facts::default(), |block| of_btrfs(&block)),
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
        devices: None,
    }
}

/// struct xfs_dsb (fs/xfs/libxfs/xfs_format.h); whether its log is clean only mounting shows.
fn of_xfs(block: &[u8; 512]) -> Facts {
    let length = u64::from(u32::from_be_bytes(at(block, 4)));
    Facts {
        size_bytes: u64::from_be_bytes(at(block, 8)).checked_mul(length),
        ..Facts::default()
    }
}

/// struct btrfs_super_block (fs/btrfs, "On-disk Format" of its documentation).
fn of_btrfs(block: &[u8; 512]) -> Facts {
    let is_replay_pending = u64::from_le_bytes(at(block, 0x60)) != 0;
    Facts {
        is_replay_pending,
        is_unclean: is_replay_pending,
        size_bytes: Some(u64::from_le_bytes(at(block, 0x70))),
        devices: Some(u64::from_le_bytes(at(block, 0x88))),
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
    fn btrfs_says_how_many_devices_it_is_on_and_whether_a_log_is_left() {
        let mut block = [0; 512];
        put(&mut block, 0x70, &(5u64 << 30).to_le_bytes());
        put(&mut block, 0x88, &2u64.to_le_bytes());
        let facts = of_btrfs(&block);
        assert_eq!((facts.size_bytes, facts.devices), (Some(5 << 30), Some(2)));
        assert!(!facts.is_replay_pending);
        put(&mut block, 0x60, &1u64.to_le_bytes());
        assert!(of_btrfs(&block).is_replay_pending);
    }

    #[test]
    fn xfs_says_how_large_it_is() {
        let mut block = [0; 512];
        put(&mut block, 4, &4096u32.to_be_bytes());
        put(&mut block, 8, &10u64.to_be_bytes());
        assert_eq!(of_xfs(&block).size_bytes, Some(40_960));
    }
}
