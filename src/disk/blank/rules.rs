//! Where file systems, RAIDs and volume managers keep a superblock or a copy of one.
//!
//! A rule is a function of a [`Volume`]: where something can begin and end. What a rule gives
//! may lie beyond the end of the disk, and may overlap with what another one gives.

use std::iter;
use std::ops::RangeInclusive;

use super::place::{KIB, MIB, Place};

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// What is read of a superblock: it is a page at most, and so is what a disk reads at once.
const SUPERBLOCK: u64 = 4 * KIB;

/// Something that a disk can have on it, and where it leaves what gives it away.
pub(super) struct Rule {
    /// Its name, or where on the disk that is if all have something there.
    pub(super) what: &'static str,
    pub(super) places: fn(&Volume) -> Vec<Place>,
}

pub(super) const RULES: [Rule; 14] = [
    Rule {
        what: "the first 8 MiB",
        places: begin,
    },
    Rule {
        what: "the last 10 MiB",
        places: end,
    },
    Rule {
        what: "ext2 to ext4",
        places: ext_groups,
    },
    Rule {
        what: "ext2 to ext4",
        places: ext_last_groups,
    },
    Rule {
        what: "XFS",
        places: xfs_groups,
    },
    Rule {
        what: "XFS",
        places: xfs_groups_on_stripes,
    },
    Rule {
        what: "XFS",
        places: xfs_largest_groups,
    },
    Rule {
        what: "btrfs",
        places: btrfs_copies,
    },
    Rule {
        what: "NTFS",
        places: ntfs_mft,
    },
    Rule {
        what: "f2fs",
        places: f2fs_areas,
    },
    Rule {
        what: "FAT32",
        places: fat_copies,
    },
    Rule {
        what: "OCFS2 or BlueStore",
        places: far_copies,
    },
    Rule {
        what: "RAID or LUKS",
        places: payloads,
    },
    Rule {
        what: "a partition",
        places: partitions,
    },
];

/// Where something can begin, and where it can end.
#[derive(Debug, Clone)]
pub(super) struct Volume {
    start: u64,
    end: RangeInclusive<u64>,
}

impl Volume {
    /// The whole disk, and its first partition: from 1 MiB to the end; or as fdisk and Windows
    /// XP made it until about 2010, from the second track to the last whole cylinder.
    pub(super) fn all_on(disk: u64) -> Vec<Volume> {
        const TRACK: u64 = 63 * 512;
        const CYLINDER: u64 = 255 * TRACK;
        // A backup of the GPT, the last incomplete MiB and one more are left free at most.
        let first_end = disk.saturating_sub(MIB + 64 * KIB);
        let last_cylinder = disk / CYLINDER * CYLINDER;
        let volumes = [
            (0, disk..=disk),
            (MIB, first_end..=disk),
            (TRACK, last_cylinder..=last_cylinder),
        ];
        let volumes = volumes.into_iter();
        let volumes = volumes.filter(|(start, end)| start < end.start());
        volumes.map(|(start, end)| Volume { start, end }).collect()
    }

    fn shortest(&self) -> u64 {
        self.end.start() - self.start
    }

    fn longest(&self) -> u64 {
        self.end.end() - self.start
    }

    /// The superblock that is this far from where it begins.
    fn superblock(&self, offset: u64) -> Place {
        self.start + offset..self.start + offset + SUPERBLOCK
    }

    /// Where the part of a number begins, when it is divided into so many equal parts, each of
    /// them rounded up or down to whole blocks of 4 KiB.
    fn part(&self, number: u64, parts: u64) -> Place {
        const BLOCK: u64 = 4 * KIB;
        let first = self.shortest() / BLOCK / parts * number * BLOCK;
        let last = self.longest().div_ceil(BLOCK * parts) * number * BLOCK;
        self.start + first..self.start + last + SUPERBLOCK
    }
}

/// The first 8 MiB. In there begin all of them, and some keep a copy there:
///
/// - boot sectors and partition tables, GPT with its entries; FAT's copies are in sector 6, and
///   exFAT's in sectors 12 to 23;
/// - ext2 to ext4 (1 KiB), XFS (0), btrfs (64 KiB), f2fs (1 and 5 KiB), reiserfs (8 and 64 KiB),
///   JFS (32 and 60 KiB), NILFS2 (1 KiB), UDF (512 KiB), VMFS (1 and 2 MiB);
/// - swap: the last ten bytes of the first page, which has 4 to 64 KiB (mm/swapfile.c);
/// - md 1.1 (0) and 1.2 (4 KiB) (include/uapi/linux/raid/md_p.h); LVM's label in one of the first
///   four sectors, and its metadata up to 1 MiB (lvm2, lib/format_text/layout.h); bcache (4 KiB);
///   bcachefs (4 KiB, 1 MiB); Ceph BlueStore (0, 4 KiB); Oracle ASM (0, 2 MiB − 8 KiB);
/// - LUKS (0), and the second header of LUKS2 (16 KiB to 4 MiB: its on-disk format, section 2.1);
///   BitLocker (0);
/// - two labels of ZFS with their uberblocks (OpenZFS, include/sys/vdev_impl.h).
fn begin(volume: &Volume) -> Vec<Place> {
    iter::once(volume.start..volume.start + 8 * MIB).collect()
}

/// The last 10 MiB:
///
/// - GPT's backup: the last sector, and 32 before it;
/// - md 0.90 (the last whole 64 KiB but one) and 1.0 (8 to 12 KiB before the end), and the RAIDs of
///   firmware, up to 1.5 MiB before the end (libblkid, superblocks/*_raid.c); DRBD (4 KiB);
/// - LVM's second metadata area (`pvcreate --pvmetadatacopies 2`);
/// - NTFS's backup of the boot sector (the last sector); NILFS2 (the last 4 KiB); HFS+ (1 KiB);
///   UDF (sectors of up to 4 KiB, the last one and 256 before it); bcachefs; Windows' LDM (1 MiB);
/// - two labels of ZFS with their uberblocks, 256 KiB each: where ZFS has made the partitions
///   there is one of 8 MiB behind them (OpenZFS, lib/libefi/rdwr_efi.c, EFI_MIN_RESV_SIZE).
fn end(volume: &Volume) -> Vec<Place> {
    let start = volume.end.start().saturating_sub(10 * MIB);
    iter::once(start..*volume.end.end()).collect()
}

/// A group has as many blocks as a block has bits, so that groups have 8 MiB, 32 MiB and 128 MiB
/// with blocks of 1, 2 and 4 KiB, and 32 GiB with those of 64 KiB. With bigalloc they have as many
/// clusters (of 16 blocks, or what mke2fs -C says): that too is a power of two of MiB. With blocks
/// of 1 KiB and no bigalloc the first group begins at block 1: the page that is read has both.
///
/// Documentation/filesystems/ext4/{blockgroup,bigalloc}.rst; e2fsprogs, lib/ext2fs/initialize.c.
const EXT_GROUPS: [u64; 13] = {
    let mut sizes = [8 * MIB; 13];
    let mut n = 1;
    while n < sizes.len() {
        sizes[n] = 2 * sizes[n - 1];
        n += 1;
    }
    sizes
};

/// With sparse_super, group 1 and the powers of 3, 5 and 7 have a copy of the superblock; without
/// it all have one (Documentation/filesystems/ext4/blockgroup.rst). reiserfs has a bitmap at each
/// 128 MiB.
fn ext_groups(volume: &Volume) -> Vec<Place> {
    let mut places = Vec::new();
    for size in EXT_GROUPS {
        let groups = volume.longest().div_ceil(size);
        let powers = |base: u64| {
            iter::successors(Some(base), move |power| power.checked_mul(base))
                .take_while(move |power| *power < groups)
        };
        let with_copy = iter::once(1).chain([3, 5, 7].into_iter().flat_map(powers));
        places.extend(with_copy.map(|group| volume.superblock(group * size)));
    }
    places
}

/// With sparse_super2 only group 1 and the last one have a copy; a last group that is too small
/// for its own tables is left off (e2fsprogs, lib/ext2fs/initialize.c).
fn ext_last_groups(volume: &Volume) -> Vec<Place> {
    let mut places = Vec::new();
    for size in EXT_GROUPS {
        for length in [volume.shortest(), volume.longest()] {
            let last = length / size;
            let last_two = last.saturating_sub(1)..=last;
            places.extend(last_two.map(|group| volume.superblock(group * size)));
        }
    }
    places
}

/// How many allocation groups mkfs.xfs makes (xfsprogs, libxfs/topology.c,
/// calc_default_ag_geometry): 4 on a disk; on stripes 8 up to 8 GiB, 16 up to 512 GiB, else 32, as
/// the version of RHEL 5 did on every disk.
const XFS_USUAL: [u64; 4] = [4, 8, 16, 32];

/// On SSDs mkfs.xfs 6.8 makes as many groups as there are processors (mkfs/xfs_mkfs.c,
/// calc_concurrency_ag_geometry); people choose other numbers.
const XFS_MOST: u64 = 64;

/// Each allocation group begins with a copy of the superblock and three more sectors
/// (Documentation/filesystems/xfs/xfs-online-fsck-design.rst; xfs_format.h). All groups of a usual
/// number, and of each other number the second one.
fn xfs_groups(volume: &Volume) -> Vec<Place> {
    let usual = XFS_USUAL.into_iter();
    let usual = usual.flat_map(|groups| (1..groups).map(move |group| (group, groups)));
    let others = (2..=XFS_MOST).map(|groups| (1, groups));
    usual
        .chain(others)
        .map(|(group, groups)| volume.part(group, groups))
        .collect()
}

/// On stripes the size of a group is rounded to them, and one less where that made all groups
/// begin on the same disk (mkfs/xfs_mkfs.c, align_ag_geometry): stripes of up to 512 KiB.
fn xfs_groups_on_stripes(volume: &Volume) -> Vec<Place> {
    let around = |groups: u64| {
        let second = volume.part(1, groups);
        second.start.saturating_sub(MIB)..second.end + MIB
    };
    [8, 16, 32].map(around).to_vec()
}

/// On disks from 4 TiB on a group has the largest size: 1 TiB less one block, which has at most
/// 64 KiB. And on those below 128 MiB the smallest: 16 MiB (libxfs/xfs_fs.h).
fn xfs_largest_groups(volume: &Volume) -> Vec<Place> {
    let largest = (1..=volume.longest() / TIB).map(|group| {
        let earliest = volume.start + group * (TIB - 64 * KIB);
        earliest..volume.start + group * TIB
    });
    let smallest = (1..=8).map(|group| volume.superblock(group * 16 * MIB));
    largest.chain(smallest).collect()
}

/// At 64 KiB, 64 MiB and 256 GiB (fs/btrfs/disk-io.h, btrfs_sb_offset; its on-disk format,
/// "Superblock"). Versions before 2009 had one at 1 PiB.
fn btrfs_copies(volume: &Volume) -> Vec<Place> {
    [64 * KIB, 64 * MIB, 256 * GIB]
        .map(|offset| volume.superblock(offset))
        .to_vec()
}

/// mkntfs lays the mirror of the MFT in the middle, and its first files at an eighth (ntfs-3g,
/// ntfsprogs/mkntfs.c). Windows lays the MFT at cluster 786,432, of 4 KiB each, and NT 4 the backup
/// of the boot sector in the middle.
fn ntfs_mft(volume: &Volume) -> Vec<Place> {
    let around = |parts| {
        let part = volume.part(1, parts);
        part.start.saturating_sub(64 * KIB)..part.end + 64 * KIB
    };
    vec![around(2), around(8), volume.superblock(3 * GIB)]
}

/// Two checkpoints of a segment each (2 MiB), the tables of segments and of nodes, the summaries,
/// and then the main area, which begins with the root directory (Documentation/filesystems/f2fs.rst,
/// "On-disk Layout"). Sizes as in f2fs-tools, mkfs/f2fs_format.c, f2fs_prepare_super_block. The
/// first segment is aligned on the disk, or within the partition where mkfs.f2fs does not know
/// where on the disk that is.
fn f2fs_areas(volume: &Volume) -> Vec<Place> {
    const SEGMENT: u64 = 2 * MIB;
    let aligned = (volume.start + 8 * KIB).next_multiple_of(SEGMENT);
    let mut places = Vec::new();
    for first in [volume.start + SEGMENT, aligned] {
        for end in [*volume.end.start(), *volume.end.end()] {
            let areas = f2fs_segments(end.saturating_sub(first) / SEGMENT);
            let areas = areas.map(|segment| first + segment * SEGMENT);
            places.extend(areas.map(|area| area..area + 8 * KIB));
            // A checkpoint is some blocks long, and the second one's begin can be empty.
            places.push(first..first + 2 * SEGMENT + 64 * KIB);
        }
    }
    places
}

/// In which segments the table of nodes and the main area begin.
fn f2fs_segments(segments: u64) -> [u64; 2] {
    /// Blocks of a segment; entries of a block in each table.
    const BLOCKS: u64 = 512;
    const OF_SEGMENTS: u64 = 55;
    const OF_NODES: u64 = 455;
    const CHECKPOINTS: u64 = 2;
    let table = |entries: u64, of_a_block: u64| entries.div_ceil(of_a_block).div_ceil(BLOCKS);

    let of_segments = table(segments, OF_SEGMENTS);
    let nodes = CHECKPOINTS + 2 * of_segments;
    // A bitmap of each table has to fit into a checkpoint's block.
    let most = if of_segments > 59 {
        60
    } else {
        60 - of_segments
    };
    let of_nodes = table(segments.saturating_sub(nodes) * BLOCKS, OF_NODES).min(most);
    let summaries = nodes + 2 * of_nodes;
    let main = summaries + (segments.saturating_sub(summaries) + 1).div_ceil(BLOCKS);
    [nodes, main]
}

/// The first FAT can reach beyond the begin, and then the second one and the directory behind it
/// are all that is left of an empty file system. Each FAT has 4 bytes a cluster, of 512 bytes to
/// 64 KiB; in front are 32 sectors, or some more, so that the clusters are aligned (dosfstools,
/// src/mkfs.fat.c; Microsoft's fatgen103).
fn fat_copies(volume: &Volume) -> Vec<Place> {
    const MOST_CLUSTERS: u64 = 1 << 28;
    let clusters = (9..=16).map(|log| volume.longest() >> log);
    let sizes = clusters.filter(|clusters| *clusters <= MOST_CLUSTERS);
    let sizes = sizes.map(|clusters| volume.start + 4 * clusters);
    sizes
        .flat_map(|fat| {
            let second = fat.saturating_sub(64 * KIB)..fat + 64 * KIB;
            let directory = 2 * fat - volume.start;
            [
                second,
                directory.saturating_sub(128 * KIB)..directory + 64 * KIB,
            ]
        })
        .collect()
}

/// OCFS2 from 1 GiB on at each fourfold (fs/ocfs2/ocfs2_fs.h, OCFS2_BACKUP_SB_START), Ceph
/// BlueStore at each tenfold (src/os/bluestore/BlueStore.cc, bdev_label_positions).
fn far_copies(volume: &Volume) -> Vec<Place> {
    let fourfold = (0..6).map(|n| GIB << (2 * n));
    let tenfold = (0..4).map(|n| GIB * 10_u64.pow(n));
    fourfold
        .chain(tenfold)
        .map(|offset| volume.superblock(offset))
        .collect()
}

/// The first superblock of what is in a member of an md array, whose content begins 1 to 129 MiB
/// behind it (mdadm, super1.c, validate_geometry1), in LUKS (2 MiB) and LUKS2 (16 MiB); and of a
/// partition behind one that Windows reserves (16 or 128 MiB). Up to that of btrfs, at 64 KiB.
fn payloads(volume: &Volume) -> Vec<Place> {
    let powers = (0..=7).map(|log| MIB << log);
    powers
        .flat_map(|size| [size, size + MIB])
        .map(|offset| volume.start + offset..volume.start + offset + 64 * KIB + SUPERBLOCK)
        .collect()
}

/// Partitions begin at whole MiB (fdisk, parted, Windows): the first superblock of what is in one
/// that begins in the first GiB of the disk, and ext4's first copy in one with blocks of 4 KiB,
/// 128 MiB behind. Up to that of btrfs, at 64 KiB; its first copy and those of smaller blocks of
/// ext2 to ext4 lie at whole MiB too.
fn partitions(volume: &Volume) -> Vec<Place> {
    let is_disk = volume.start == 0;
    let starts = (1..=1024 + 128).filter(|_| is_disk).map(|n| n * MIB);
    starts
        .map(|start| start..start + 64 * KIB + SUPERBLOCK)
        .collect()
}
