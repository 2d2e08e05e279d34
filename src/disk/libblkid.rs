//! The calls into libblkid.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use blkid_sys as blkid;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::content::Content;
use crate::text;

/// A libblkid probe, freed when dropped.
struct Probe(blkid::blkid_probe);

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: the pointer came from blkid_new_probe, is not null, and is freed once.
        unsafe { blkid::blkid_free_probe(self.0) }
    }
}

/// What libblkid tells of a device.
pub(super) struct Found {
    pub(super) content: Content,
    pub(super) uuid: Option<String>,
    /// The label in the boot sector of a vfat, which need not be its label.
    pub(super) boot_label: Option<String>,
    pub(super) partition: Entry,
    /// Of what is no file system: all that there are.
    pub(super) kinds: Vec<String>,
}

/// What the partition table says of a device that is a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) uuid: Option<String>,
    pub(crate) label: Option<String>,
}

impl Found {
    fn content(content: Content) -> Found {
        Found {
            content,
            uuid: None,
            boot_label: None,
            partition: Entry::default(),
            kinds: Vec::new(),
        }
    }
}

/// All that is on the device.
pub(super) fn probe(device: &File) -> io::Result<Found> {
    let probe = Probe::of(device)?;
    let wanted = blkid::BLKID_PARTS_ENTRY_DETAILS;
    // SAFETY: the probe is valid.
    unsafe {
        blkid::blkid_probe_enable_partitions(probe.0, 1);
        blkid::blkid_probe_set_partitions_flags(probe.0, wanted as i32);
    }
    let mut found = found(&probe)?;
    if let Content::Other { .. } = found.content {
        // At the first signature of a RAID it looked no further.
        found.kinds = all_kinds(&probe);
    }
    Ok(found)
}

/// Whether there is a file system of this kind on the device, and nothing else about it: a
/// few readings where all of it takes a hundred.
pub(super) fn probe_for(device: &File, kind: &str) -> io::Result<Found> {
    let probe = Probe::of(device)?;
    let kind = CString::new(kind)?;
    let mut kinds = [kind.as_ptr().cast_mut(), ptr::null_mut()];
    // SAFETY: the probe is valid, and the list of one text, which ends in NUL, in a null
    // pointer. libblkid reads it in this call alone.
    unsafe {
        blkid::blkid_probe_filter_superblocks_type(
            probe.0,
            blkid::BLKID_FLTR_ONLYIN as i32,
            kinds.as_mut_ptr(),
        );
    }
    found(&probe)
}

fn found(probe: &Probe) -> io::Result<Found> {
    Errno::clear();
    // SAFETY: the probe is valid and has a device.
    match unsafe { blkid::blkid_do_safeprobe(probe.0) } {
        0 => Ok(Found {
            content: content_found(probe),
            uuid: probe.value(c"UUID"),
            boot_label: probe.value(c"LABEL_FATBOOT"),
            partition: Entry {
                uuid: probe.value(c"PART_ENTRY_UUID"),
                label: probe.value(c"PART_ENTRY_NAME"),
            },
            kinds: Vec::new(),
        }),
        1 => Ok(Found::content(Content::Nothing)),
        // Ambivalent; every other negative value is an error.
        -2 => Ok(Found::content(Content::Ambivalent {
            kinds: all_kinds(probe),
        })),
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
    /// For superblocks, on all of the device, which outlives it.
    fn of(device: &File) -> io::Result<Probe> {
        // SAFETY: takes nothing; a null result is refused in the next line.
        let raw = unsafe { blkid::blkid_new_probe() };
        if raw.is_null() {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        let probe = Probe(raw);
        let wanted = blkid::BLKID_SUBLKS_TYPE
            | blkid::BLKID_SUBLKS_LABEL
            | blkid::BLKID_SUBLKS_UUID
            | blkid::BLKID_SUBLKS_USAGE;
        // SAFETY: the probe is valid, and both callers keep the descriptor open for as long
        // as the probe lives. Offset and size 0 mean all of it.
        unsafe {
            if blkid::blkid_probe_set_device(probe.0, device.as_raw_fd(), 0, 0) != 0 {
                return Err(last_error());
            }
            blkid::blkid_probe_enable_superblocks(probe.0, 1);
            blkid::blkid_probe_set_superblocks_flags(probe.0, wanted as i32);
        }
        Ok(probe)
    }

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
        let value: CString = unsafe { CStr::from_ptr(text) }.to_owned();
        // What is on a disk may end up on a terminal.
        Some(text::printable(&value.to_string_lossy()))
    }
}

fn last_error() -> io::Error {
    match Errno::last() {
        Errno::UnknownErrno => io::Error::other("libblkid could not read it"),
        errno => errno.into(),
    }
}
