//! What is on a block device, as libblkid judges it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::array::Member;
use super::blank::{self, Found};
pub(crate) use super::content::Content;
use super::libblkid::{self, Entry};
use super::superblock::{self, Facts};
use crate::host::block_device::Number;
use crate::host::error_text::in_words;
use crate::host::kernel_calls::is_read_only;

/// What reading a device showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) content: Content,
    /// Of the file system.
    pub(crate) uuid: Option<String>,
    /// The label in the boot sector of a vfat, which need not be its label.
    pub(crate) boot_label: Option<String>,
    pub(crate) partition: Entry,
    pub(crate) facts: Facts,
    /// The kernel refuses writes to it.
    pub(crate) read_only: bool,
    pub(crate) zero: Zero,
}

/// Whether a disk without a signature was seen to be zero wherever it was looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Zero {
    Seen,
    /// It is not, or nobody looked.
    NotSeen,
    /// The disk is too slow.
    NotInTime,
    /// The disk answered first, and then no more.
    NoAnswer,
}

impl Reading {
    pub(super) fn unreadable(error: String) -> Reading {
        Reading::of(Content::Unreadable { error })
    }

    pub(super) fn no_answer(after: Duration) -> Reading {
        Reading::of(Content::NoAnswer { after })
    }

    fn of(content: Content) -> Reading {
        Reading {
            content,
            uuid: None,
            boot_label: None,
            partition: Entry::default(),
            facts: Facts::default(),
            read_only: false,
            zero: Zero::NotSeen,
        }
    }
}

/// Reads the signatures on a block device, changing nothing on it. A disk that hangs hangs
/// whoever calls: see [`Reader`](super::reader::Reader).
pub(crate) fn read(node: &Path) -> Reading {
    let judged = open(node).and_then(read_open);
    judged.unwrap_or_else(|error| Reading::unreadable(in_words(&error)))
}

/// Likewise, of a device that is open.
///
/// # Errors
///
/// Those of reading it.
pub(crate) fn read_open(mut device: File) -> io::Result<Reading> {
    read_ahead(&mut device)?;
    let mut found = libblkid::probe(&device)?;
    if found.content == Content::Nothing {
        // libblkid passes over what it could not read.
        read_both_ends(&device)?;
    }
    let mut facts = match &found.content {
        Content::Filesystem { kind, .. } | Content::Other { kind, .. } => {
            superblock::facts(&device, kind)
        }
        _ => Facts::default(),
    };
    let is_of_the_array = |member: &Member| member.is_of(found.uuid.as_deref());
    facts.member = facts.member.filter(is_of_the_array);
    if facts.member.is_some() && found.kinds.len() > 1 {
        // What was laid over a former member may have left that block.
        facts.member = None;
        found.content = Content::Ambivalent { kinds: found.kinds };
    }
    Ok(Reading {
        content: found.content,
        uuid: found.uuid,
        boot_label: found.boot_label,
        partition: found.partition,
        facts,
        read_only: is_read_only(&device)?,
        zero: Zero::NotSeen,
    })
}

/// The file system of this kind on a device that is open, if there is one, and its UUID.
/// Whether there is anything else beside it, as [`read_open`] says, this does not see.
///
/// # Errors
///
/// Those of reading it.
pub(crate) fn filesystem_of_kind(
    device: &File,
    kind: &str,
) -> io::Result<(Content, Option<String>)> {
    let found = libblkid::probe_for(device, kind)?;
    Ok((found.content, found.uuid))
}

/// Opens the node of a device, of this number. While it is open no other device has it.
///
/// # Errors
///
/// Those of open(2), and that it is another device.
pub(crate) fn open_node(node: &Path, number: Number) -> io::Result<File> {
    of_number(open(node)?, number)
}

pub(super) fn of_number(device: File, number: Number) -> io::Result<File> {
    match Number::from_raw(device.metadata()?.rdev()) == number {
        true => Ok(device),
        false => Err(io::Error::other("it is another device now")),
    }
}

/// Whether a disk is provably blank, as far as can be seen: see [`blank`]. `goes_on` is called
/// after each piece that was read.
///
/// # Errors
///
/// That it cannot be read.
pub(crate) fn zero(node: &Path, goes_on: impl FnMut()) -> io::Result<Zero> {
    let found = blank::scan(&open(node)?, blank::SAMPLES, goes_on)?;
    Ok(match found {
        Found::Zeros { .. } => Zero::Seen,
        Found::Something { .. } => Zero::NotSeen,
    })
}

/// Has a device for oneself until the file is closed. Fails with EBUSY while it is mounted
/// in whatever mount namespace, a part of something, or being checked or formatted.
///
/// # Errors
///
/// Those of open(2); that another device has the name by now.
pub(crate) fn claim(node: &Path, number: Number) -> io::Result<File> {
    of_number(open_with(node, libc::O_EXCL)?, number)
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
        // File systems, partition tables, a log of XFS; and the root of a small ext2, which
        // mount(2) reads, and which is still there where somebody else has the device open.
        (0, 264 * KIB),
        (512 * KIB, 4 * KIB), // second headers of LUKS2
        (1024 * KIB, 4 * KIB),
        (2048 * KIB, 4 * KIB),
        (4096 * KIB, 4 * KIB),
    ];
    // ZFS has two labels of 256 KiB at either end, each with its uberblocks in the second
    // half; on less than 64 MiB nobody looks for it.
    let labels_end = size - size % (256 * KIB);
    let of_zfs = [
        (384 * KIB, 128 * KIB), // of the first label it is asked for above
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
    let length = (64 << 10).min(size);
    read_at(&mut device, 0, length)?;
    read_at(&mut device, size - length, length)?;
    Ok(())
}
