//! What is on a disk, as a value: made by the real mkfs, changed byte by byte.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};

use nix::unistd::{Whence, lseek};

use super::tool;

pub const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;

/// The content of a disk; blocks that are not kept are zero.
#[derive(Clone)]
pub struct Image {
    size: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Image {
    pub fn blank(mebibytes: u64) -> Image {
        Image {
            size: mebibytes * MIB,
            blocks: BTreeMap::new(),
        }
    }

    /// An empty label is none.
    pub fn ext2(label: &str) -> Image {
        Image::ext("ext2", label, &[])
    }

    pub fn ext3(label: &str) -> Image {
        Image::ext("ext3", label, &[])
    }

    pub fn ext4(label: &str) -> Image {
        Image::ext("ext4", label, &[])
    }

    /// Of 16 MiB, with further options of mke2fs.
    pub fn ext(kind: &str, label: &str, options: &[&str]) -> Image {
        Image::sized_ext(16, kind, label, options)
    }

    pub fn sized_ext(mebibytes: u64, kind: &str, label: &str, options: &[&str]) -> Image {
        let lazy = "lazy_itable_init=0,root_owner=0:0";
        let mut words = vec!["mke2fs", "-q", "-F", "-t", kind, "-E", lazy, "-L", label];
        words.extend(options);
        Image::made_once(mebibytes, &words)
    }

    /// One with a file system id of its own each time: the kernel does not mount two
    /// of one id.
    pub fn xfs(label: &str) -> Image {
        // A sector size of 4096 leaves room for what another left between the headers.
        Image::made(
            300,
            &["mkfs.xfs", "-q", "-f", "-s", "size=4096", "-L", label],
        )
    }

    pub fn btrfs(label: &str) -> Image {
        Image::made(128, &["mkfs.btrfs", "-q", "-f", "-L", label])
    }

    pub fn vfat(label: &str) -> Image {
        let name = if label.is_empty() { "NO NAME" } else { label };
        Image::made_once(16, &["mkfs.vfat", "-n", name])
    }

    pub fn swap(label: &str) -> Image {
        Image::made_once(16, &["mkswap", "-L", label])
    }

    pub fn iso9660(label: &str) -> Image {
        let directory = scratch_file();
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("meta_data.json"), "{}").unwrap();
        let file = scratch_file();
        let words = [
            "genisoimage",
            "-quiet",
            "-J",
            "-r",
            "-V",
            label,
            "-o",
            file.to_str().unwrap(),
        ];
        run(&words, &directory);
        fs::remove_dir_all(&directory).unwrap();
        let image = Image::read(&file);
        fs::remove_file(&file).unwrap();
        image
    }

    /// Version 1 of the header, as far as anybody looks before asking for a key.
    pub fn luks() -> Image {
        Image::blank(16).with(0, b"LUKS\xba\xbe\x00\x01")
    }

    /// A physical volume's label (lvm2's lib/format_text/layout.h).
    pub fn lvm() -> Image {
        let mut sector = [0; 512];
        sector[..8].copy_from_slice(b"LABELONE");
        sector[8..16].copy_from_slice(&1u64.to_le_bytes());
        sector[20..24].copy_from_slice(&32u32.to_le_bytes());
        sector[24..32].copy_from_slice(b"LVM2 001");
        sector[32..64].copy_from_slice(b"Ya8cXv2sM1bqvXn5cLq3W7c0vR6TzPq1");
        let checksum = crc32(0xf597_a6cf, &sector[20..]);
        sector[16..20].copy_from_slice(&checksum.to_le_bytes());
        Image::blank(16).with(512, &sector)
    }

    /// A member of an md array with version 1.2 metadata (linux/raid/md_p.h).
    pub fn raid() -> Image {
        Image::blank(16).with_raid_superblock()
    }

    /// Lays md's version 1.2 superblock over what is there.
    pub fn with_raid_superblock(self) -> Image {
        let mut superblock = [0; 256];
        superblock[..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
        superblock[4..8].copy_from_slice(&1u32.to_le_bytes());
        superblock[144..152].copy_from_slice(&8u64.to_le_bytes());
        self.with(4096, &superblock)
    }

    /// The same with version 0.90, which lies near the end: the file system of such a
    /// member begins where the member does.
    pub fn with_raid_superblock_at_its_end(self) -> Image {
        let mut superblock = [0; 4096];
        superblock[..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
        superblock[8..12].copy_from_slice(&90u32.to_le_bytes());
        superblock[20..24].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
        let offset = (self.size & !0xffff) - 0x1_0000;
        self.with(offset, &superblock)
    }

    /// The same with version 1.0, 8 to 12 KiB before the end.
    pub fn with_raid_superblock_1_0_at_its_end(self) -> Image {
        let sector = (self.size / 512 - 16) & !7;
        let mut superblock = [0; 256];
        superblock[..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
        superblock[4..8].copy_from_slice(&1u32.to_le_bytes());
        superblock[144..152].copy_from_slice(&sector.to_le_bytes());
        self.with(sector * 512, &superblock)
    }

    /// Lays one uberblock into each of the four labels of a member of a ZFS pool, as a
    /// new pool has them (OpenZFS, include/sys/vdev_impl.h). In the second half of each.
    pub fn with_zfs_labels(self) -> Image {
        const LABEL: u64 = 256 << 10;
        let end = self.size - self.size % LABEL;
        let uberblock: Vec<u8> = [0x00ba_b10c_u64, 5000, 4]
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        [0, LABEL, end - 2 * LABEL, end - LABEL]
            .into_iter()
            .fold(self, |image, label| {
                image.with(label + LABEL / 2 + (4 << 10), &uberblock)
            })
    }

    /// A journal of its own of an XFS file system (xfs_log_format.h), whose first record
    /// is far from its begin.
    pub fn xfs_journal() -> Image {
        let mut header = [0; 320];
        for (offset, field) in [(0, 0xfeed_babe_u32), (8, 2), (12, 512), (300, 1)] {
            header[offset..offset + 4].copy_from_slice(&field.to_be_bytes());
        }
        Image::blank(16).with(200 << 10, &header)
    }

    /// Lays the header of a swap area over what is there.
    pub fn with_swap_header(self) -> Image {
        let header = Image::swap("").first_block();
        self.with(1024, &header[1024..])
    }

    /// The mark that a suspended system leaves on its swap area.
    pub fn with_hibernation_signature(self) -> Image {
        self.with(4086, b"S1SUSPEND\0")
    }

    /// A partition table in the boot sector, with one partition.
    pub fn with_dos_table(self) -> Image {
        let mut entry = [0; 66];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&2048u32.to_le_bytes());
        entry[12..16].copy_from_slice(&8192u32.to_le_bytes());
        entry[64..].copy_from_slice(&[0x55, 0xaa]);
        self.with(446, &entry)
    }

    /// A disk with a partition table ("dos" or "gpt") and these partitions.
    pub fn partitioned(table: &str, partitions: &[Image]) -> Image {
        let aligned = |size: u64| size.next_multiple_of(MIB);
        let size = partitions.iter().map(|p| aligned(p.size)).sum::<u64>() + 2 * MIB;
        let mut script = format!("label: {table}\n");
        let mut start = MIB;
        let mut disk = Image::blank(0);
        for partition in partitions {
            let (from, sectors) = (start / 512, aligned(partition.size) / 512);
            script += &format!("start={from}, size={sectors}, type=L\n");
            for (at, bytes) in &partition.blocks {
                disk.blocks.insert(start + at, bytes.clone());
            }
            start += aligned(partition.size);
        }

        let file = scratch_file();
        File::create_new(&file).unwrap().set_len(size).unwrap();
        let script_file = scratch_file();
        fs::write(&script_file, script).unwrap();
        let sfdisk = Command::new(tool("sfdisk"))
            .arg("--quiet")
            .arg(&file)
            .stdin(File::open(&script_file).unwrap())
            .stdout(Stdio::null())
            .status();
        assert!(sfdisk.unwrap().success(), "sfdisk failed");
        fs::remove_file(&script_file).unwrap();
        let mut image = Image::read(&file);
        fs::remove_file(&file).unwrap();
        image.blocks.extend(disk.blocks);
        image
    }

    /// An ext2, 3 or 4 file system that says its groups have no blocks: its label can be read,
    /// and the kernel refuses to mount it.
    pub fn that_cannot_be_mounted(label: &str) -> Image {
        // Without checksums, or the changed superblock would not be one any more.
        let blocks_per_group = 1024 + 0x20;
        Image::ext("ext4", label, &["-O", "^metadata_csum"])
            .with(blocks_per_group, &0_u32.to_le_bytes())
    }

    pub fn with(mut self, offset: u64, bytes: &[u8]) -> Image {
        let mut at = offset;
        for byte in bytes {
            let within = (at % BLOCK) as usize;
            let block = self.blocks.entry(at - within as u64);
            block.or_insert_with(|| vec![0; BLOCK as usize])[within] = *byte;
            at += 1;
        }
        self.size = self.size.max(at);
        self
    }

    /// Without its last mebibytes.
    pub fn cut(mut self, mebibytes: u64) -> Image {
        self.size -= mebibytes * MIB;
        let size = self.size;
        self.blocks.retain(|at, _| *at < size);
        self
    }

    /// With every bit of this byte turned, so that it surely is another.
    pub fn with_turned(self, offset: u64) -> Image {
        let within = (offset % BLOCK) as usize;
        let block = self.blocks.get(&(offset - within as u64));
        let turned = !block.map_or(0, |block| block[within]);
        self.with(offset, &[turned])
    }

    /// With so many MiB at its begin overwritten by zeros.
    pub fn without_head(mut self, mebibytes: u64) -> Image {
        self.blocks = self.blocks.split_off(&(mebibytes * MIB));
        self
    }

    pub fn write(&self, path: &Path) {
        let file = File::create_new(path).unwrap();
        file.set_len(self.size).unwrap();
        for (offset, bytes) in &self.blocks {
            let length = bytes.len().min((self.size - offset) as usize);
            file.write_all_at(&bytes[..length], *offset).unwrap();
        }
    }

    /// Into a file that is there, from this byte on.
    pub fn write_at(&self, path: &Path, start: u64) {
        let file = File::options().write(true).open(path).unwrap();
        for (offset, bytes) in &self.blocks {
            file.write_all_at(bytes, start + offset).unwrap();
        }
    }

    fn first_block(&self) -> Vec<u8> {
        self.blocks[&0].clone()
    }

    /// The content of a file, which may have holes.
    pub fn read(path: &Path) -> Image {
        let file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        let mut blocks = BTreeMap::new();
        let mut at = 0;
        // ENXIO: nothing but a hole is left.
        while let Ok(data) = lseek(&file, at, Whence::SeekData) {
            let hole = lseek(&file, data, Whence::SeekHole).unwrap();
            for offset in (data as u64 / BLOCK * BLOCK..hole as u64).step_by(BLOCK as usize) {
                let mut block = vec![0; BLOCK as usize];
                let there = (size - offset).min(BLOCK) as usize;
                file.read_exact_at(&mut block[..there], offset).unwrap();
                // Not byte by byte: a journal has hundreds of megabytes.
                if block != [0; BLOCK as usize] {
                    blocks.insert(offset, block);
                }
            }
            at = hole;
        }
        Image { size, blocks }
    }

    /// Where the first byte is that is not zero, to a block.
    pub fn first_block_that_is_not_zero(&self) -> Option<u64> {
        self.blocks.keys().next().copied()
    }

    /// The blocks that have these bytes at this place.
    pub fn blocks_with(&self, place: u64, bytes: &[u8]) -> Vec<u64> {
        let has_them = |block: &[u8]| block[place as usize..].starts_with(bytes);
        let blocks = self.blocks.iter();
        let found = blocks.filter(|(_, block)| has_them(block));
        found.map(|(offset, _)| *offset).collect()
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// A number that is another when the content is.
    pub fn checksum(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.size, &self.blocks).hash(&mut hasher);
        hasher.finish()
    }

    /// What this program makes on a disk of this size, which it gets as the last argument.
    pub fn made(mebibytes: u64, words: &[&str]) -> Image {
        let file = scratch_file();
        Image::blank(mebibytes).write(&file);
        run(words, &file);
        let image = Image::read(&file);
        fs::remove_file(&file).unwrap();
        image
    }

    fn made_once(mebibytes: u64, words: &[&str]) -> Image {
        static MADE: LazyLock<Mutex<HashMap<String, Image>>> = LazyLock::new(Mutex::default);
        let key = format!("{mebibytes} {words:?}");
        // Not held while mkfs runs: a claim that is skipped in there must not poison it.
        let made = MADE.lock().unwrap().get(&key).cloned();
        made.unwrap_or_else(|| {
            let image = Image::made(mebibytes, words);
            MADE.lock().unwrap().insert(key, image.clone());
            image
        })
    }
}

/// A name that nobody has, where temporary files go.
pub fn scratch_file() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("vmstage-test-{}-{count}", std::process::id()))
}

fn run(words: &[&str], last: &Path) {
    let output = Command::new(tool(words[0]))
        .args(&words[1..])
        .arg(last)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?} failed: {output:?}");
}

/// CRC-32 (reflected, 0xedb88320), without a final complement.
fn crc32(initial: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(initial, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}
