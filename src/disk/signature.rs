//! What is on a block device, as libblkid judges it.
//!
//! The calls into libblkid, and one ioctl for which there is no file in `/sys` before
//! Linux 2.6.2x, are the unsafe code of the disk side.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr;

use blkid_sys as blkid;
use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc;

use super::inventory::Number;

/// What libblkid found on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
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
}

impl Content {
    pub fn label(&self) -> Option<&str> {
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
        }
    }
}

/// What reading a device showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub content: Content,
    /// The kernel refuses writes to it.
    pub read_only: bool,
}

/// Reads the signatures on a block device, changing nothing on it.
pub fn read(node: &Path) -> Reading {
    let judged = open(node).and_then(|mut device| {
        read_ahead(&mut device)?;
        let content = match probe(&device)? {
            // libblkid passes over what it could not read.
            Content::Nothing => read_both_ends(&device).map(|()| Content::Nothing)?,
            found => found,
        };
        Ok(Reading {
            content,
            read_only: is_read_only(&device)?,
        })
    });
    judged.unwrap_or_else(|error| Reading {
        content: Content::Unreadable {
            error: error.to_string(),
        },
        read_only: false,
    })
}

const MIB: u64 = 1 << 20;
const SAMPLE: u64 = 4096;
const SAMPLES: u64 = 256;

/// Where a first partition begins, mostly at 1 MiB, is beyond the first MiB.
const HEAD: u64 = 4 * MIB;
/// Where ext2, ext3 and ext4 keep the first copy of their superblock: behind 8,192,
/// 16,384 and 32,768 blocks of 1, 2 and 4 KiB.
const SUPERBLOCK_COPIES: [u64; 3] = [8 * MIB, 32 * MIB, 128 * MIB];

/// Whether a disk is zero wherever it is looked: the first 4 MiB and the last one, 256
/// samples of 4 KiB in between, and where copies of a superblock would be.
pub fn is_zero(node: &Path) -> io::Result<bool> {
    let mut device = open(node)?;
    let size = device.seek(SeekFrom::End(0))?;
    let begin = (0..HEAD / MIB).map(|n| (n * MIB, MIB));
    let end = (size.saturating_sub(MIB), MIB);
    let samples = (0..SAMPLES).map(|n| size / SAMPLES * n);
    let samples = samples
        .chain(SUPERBLOCK_COPIES)
        .map(|offset| (offset, SAMPLE));
    let places = begin.chain([end]).chain(samples);
    for (offset, length) in places.filter(|(offset, _)| *offset < size) {
        let length = length.min(size - offset);
        if read_at(&mut device, offset, length)?
            .iter()
            .any(|byte| *byte != 0)
        {
            return Ok(false);
        }
    }
    Ok(size > 0)
}

/// Has a device for oneself until the file is closed. Fails with EBUSY while it is mounted
/// in whatever mount namespace, a part of something, or being checked or formatted.
pub fn claim(node: &Path, number: Number) -> io::Result<File> {
    let device = open_with(node, libc::O_EXCL)?;
    match Number::from_raw(device.metadata()?.rdev()) == number {
        true => Ok(device),
        false => Err(io::Error::other("it is another device now")),
    }
}

fn open(node: &Path) -> io::Result<File> {
    open_with(node, 0)
}

fn open_with(node: &Path, flags: libc::c_int) -> io::Result<File> {
    File::options()
        .read(true)
        // An empty CD drive is not to be waited for.
        .custom_flags(flags | libc::O_NONBLOCK)
        .open(node)
}

/// Asks the kernel for what libblkid will read. It goes to some fifty places at both ends
/// of the device, one after the other, and each would be a request that is waited for, with
/// a network behind some virtual disks. What it looks at first is asked for first.
fn read_ahead(device: &mut File) -> io::Result<()> {
    const KIB: i64 = 1 << 10;
    let size = device.seek(SeekFrom::End(0))? as i64;
    let everywhere = [
        (size - 132 * KIB, 132 * KIB), // RAID of many makes
        (size - 496 * KIB, 44 * KIB),  // Promise RAID
        (size - 200 * KIB, 4 * KIB),
        (size - 1544 * KIB, 4 * KIB),
        (0, 256 * KIB),       // file systems, partition tables, a log of XFS
        (512 * KIB, 4 * KIB), // second headers of LUKS2
        (1024 * KIB, 4 * KIB),
        (2048 * KIB, 4 * KIB),
        (4096 * KIB, 4 * KIB),
    ];
    // ZFS has two labels of 256 KiB at either end, each with its uberblocks in the second
    // half; on less than 64 MiB nobody looks for it.
    let labels_end = size - size % (256 * KIB);
    let of_zfs = [
        // One request, and what mount(2) reads of ext2 is in between.
        (256 * KIB, 256 * KIB),
        (labels_end - 384 * KIB, 128 * KIB),
        (labels_end - 128 * KIB, 128 * KIB),
    ];
    let of_zfs = of_zfs.iter().filter(|_| size >= 64 * 1024 * KIB);
    for (offset, length) in everywhere.iter().chain(of_zfs) {
        if *offset < 0 {
            continue;
        }
        // No more than advice: what cannot be read says so when it is needed.
        let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
        let _ = posix_fadvise(&*device, *offset, *length, advice);
    }
    Ok(())
}

fn read_at(device: &mut File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    device.seek(SeekFrom::Start(offset))?;
    device.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_both_ends(device: &File) -> io::Result<()> {
    let mut device = device.try_clone()?;
    let size = device.seek(SeekFrom::End(0))?;
    if size == 0 {
        return Err(io::Error::other(
            "its size is 0, as of a drive without a medium",
        ));
    }
    let length = (SAMPLE * 16).min(size);
    read_at(&mut device, 0, length)?;
    read_at(&mut device, size - length, length)?;
    Ok(())
}

/// A libblkid probe, freed when dropped.
struct Probe(blkid::blkid_probe);

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: the pointer came from blkid_new_probe, is not null, and is freed once.
        unsafe { blkid::blkid_free_probe(self.0) }
    }
}

fn probe(device: &File) -> io::Result<Content> {
    // SAFETY: takes nothing; a null result is refused in the next line.
    let raw = unsafe { blkid::blkid_new_probe() };
    if raw.is_null() {
        return Err(io::Error::from(io::ErrorKind::OutOfMemory));
    }
    let probe = Probe(raw);
    let wanted = blkid::BLKID_SUBLKS_TYPE | blkid::BLKID_SUBLKS_LABEL | blkid::BLKID_SUBLKS_USAGE;
    // SAFETY: the probe is valid, and the descriptor stays open for as long as the
    // probe lives: `device` outlives `probe`. Offset and size 0 mean all of it.
    unsafe {
        if blkid::blkid_probe_set_device(probe.0, device.as_raw_fd(), 0, 0) != 0 {
            return Err(last_error());
        }
        blkid::blkid_probe_enable_superblocks(probe.0, 1);
        blkid::blkid_probe_set_superblocks_flags(probe.0, wanted as i32);
        blkid::blkid_probe_enable_partitions(probe.0, 1);
    }
    Errno::clear();
    // SAFETY: the probe is valid and has a device.
    match unsafe { blkid::blkid_do_safeprobe(probe.0) } {
        0 => Ok(content_found(&probe)),
        1 => Ok(Content::Nothing),
        // Ambivalent; every other negative value is an error.
        -2 => Ok(Content::Ambivalent {
            kinds: all_kinds(&probe),
        }),
        _ => Err(last_error()),
    }
}

fn content_found(probe: &Probe) -> Content {
    match (probe.value(c"TYPE"), probe.value(c"PTTYPE")) {
        (Some(kind), Some(table)) => Content::Ambivalent {
            kinds: vec![kind, format!("{table} partition table")],
        },
        (Some(kind), None) => {
            let label = probe.value(c"LABEL").filter(|label| !label.is_empty());
            match probe.value(c"USAGE").as_deref() {
                // libblkid calls a part of a ZFS pool a file system too.
                Some("filesystem") if !kind.ends_with("_member") => {
                    Content::Filesystem { kind, label }
                }
                _ => Content::Other { kind, label },
            }
        }
        (None, Some(kind)) => Content::PartitionTable { kind },
        (None, None) => Content::Nothing,
    }
}

/// The kinds of all signatures, one after the other, for the message.
fn all_kinds(probe: &Probe) -> Vec<String> {
    let mut kinds = Vec::new();
    // SAFETY: the probe is valid; resetting starts the search anew on its device.
    unsafe { blkid::blkid_reset_probe(probe.0) };
    // SAFETY: the probe is valid; each call goes on to the next signature.
    while unsafe { blkid::blkid_do_probe(probe.0) } == 0 {
        let kind = probe
            .value(c"TYPE")
            .or_else(|| Some(format!("{} partition table", probe.value(c"PTTYPE")?)));
        kinds.extend(kind.filter(|kind| !kinds.contains(kind)));
    }
    kinds
}

impl Probe {
    fn value(&self, name: &CStr) -> Option<String> {
        let mut text: *const c_char = ptr::null();
        // SAFETY: the probe is valid, the name ends in NUL, no length is asked for.
        let found = unsafe {
            blkid::blkid_probe_lookup_value(self.0, name.as_ptr(), &mut text, ptr::null_mut())
        };
        if found != 0 || text.is_null() {
            return None;
        }
        // SAFETY: libblkid's text values end in NUL and live until the next probing.
        let text: CString = unsafe { CStr::from_ptr(text) }.to_owned();
        // What is on a disk may end up on a terminal.
        Some(
            text.to_string_lossy()
                .replace(|c: char| c.is_control(), "\u{fffd}"),
        )
    }
}

nix::ioctl_read_bad!(
    /// `_IO(0x12, 94)` of linux/fs.h: whether the kernel refuses writes.
    blkroget,
    0x125e,
    libc::c_int
);

fn is_read_only(device: &File) -> io::Result<bool> {
    let mut read_only = 0;
    // SAFETY: BLKROGET writes one int, which outlives the call, and nothing else.
    unsafe { blkroget(device.as_raw_fd(), &mut read_only) }?;
    Ok(read_only != 0)
}

fn last_error() -> io::Error {
    match Errno::last() {
        Errno::UnknownErrno => io::Error::other("libblkid could not read it"),
        errno => errno.into(),
    }
}
