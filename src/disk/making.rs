//! The record of a running mkfs: a boot that dies while it runs leaves a disk that is neither
//! blank nor has a file system, and that nobody else put in that state.
//!
//! It counts until a disk is staged. What another disk may be in the meantime, without telling
//! so, is not made anew.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::content::Content;
use crate::host::regular_file::{self, MIB};
use crate::host::{Host, atomic_file, machine, silent, sysfs};

/// What a file system that this program makes is called.
pub(crate) const LABEL: &str = "ephemeral0";

/// Survives a reboot.
const FILE: &str = "/var/lib/vmstage/making.json";

/// Which disk a file system is being made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Making {
    /// The UUID that mkfs was told to give it.
    uuid: String,
    size_bytes: u64,
    serial: Option<String>,
    /// Where the kernel has the disk, below `/sys/devices`.
    sysfs: Option<PathBuf>,
    machine: Option<String>,
    /// The kernel's identifier of the boot that began it.
    boot: Option<String>,
}

/// What the record says of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HalfMade {
    /// It is of another one, or this cannot be known.
    No,
    /// It is of this disk, which shows no signature.
    NoSignature,
    /// It is of the file system on this disk: it has the UUID that mkfs was told.
    Filesystem,
    /// The disk was to become a member of an array.
    Member,
}

impl Making {
    /// An array has the UUID of its own in place of a serial number, and is at no place.
    pub(super) fn of(
        host: &Host,
        name: &str,
        size_bytes: u64,
        uuid: &str,
        array: Option<&str>,
    ) -> Making {
        let (serial, sysfs) = match array {
            Some(array) => (Some(array.into()), None),
            None => (serial(host, name), sysfs::place(host, name)),
        };
        Making {
            uuid: uuid.into(),
            size_bytes,
            serial,
            sysfs,
            machine: machine::uuid(host),
            boot: host.boot_id().ok(),
        }
    }

    /// None where there is none, or none that can be understood.
    pub(crate) fn read(host: &Host) -> Option<Making> {
        let text = regular_file::read(&host.path(FILE), MIB).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes it, for good: what comes next may be the power's end.
    pub(super) fn write(&self, host: &Host) -> anyhow::Result<()> {
        let text = serde_json::to_vec(self)?;
        atomic_file::replace_with_directories(&host.path(FILE), &text, 0o600)?;
        Ok(())
    }

    /// What it says of this device. Machine, size, serial number and place have to be the same.
    /// A disk without a serial number can be replaced while the machine is off, so that without
    /// one it takes the same boot, or the UUID that mkfs was told.
    pub(super) fn is_of(&self, this: &Making, content: &Content, uuid: Option<&str>) -> HalfMade {
        let has_its_uuid = uuid.is_some_and(|uuid| uuid.eq_ignore_ascii_case(&self.uuid));
        match content {
            _ if !self.is_of_the_place_of(this) => HalfMade::No,
            Content::Nothing if self.is_known(this) => HalfMade::NoSignature,
            Content::Filesystem { .. } if has_its_uuid => HalfMade::Filesystem,
            _ => HalfMade::No,
        }
    }

    /// Whether it is of this disk, whatever is on that.
    pub(super) fn is_of_disk(&self, this: &Making) -> bool {
        self.is_of_the_place_of(this) && self.is_known(this)
    }

    fn is_known(&self, this: &Making) -> bool {
        let is_same_boot = self.boot.is_some() && self.boot == this.boot;
        self.serial.is_some() || is_same_boot && self.sysfs.is_some()
    }

    fn is_of_the_place_of(&self, other: &Making) -> bool {
        let of_no_boot = |making: &Making| Making {
            boot: None,
            uuid: String::new(),
            ..making.clone()
        };
        of_no_boot(self) == of_no_boot(other)
    }
}

/// NVMe has it at the controller.
fn serial(host: &Host, name: &str) -> Option<String> {
    let of_controller = || {
        let disk = host.path("/sys/block").join(sysfs::disk_of(host, name));
        sysfs::attribute(&disk.join("device/serial"))
    };
    sysfs::serial(host, name).or_else(of_controller)
}

/// For a boot that ends without a disk. Without a serial number another disk could be taken for
/// this one later.
pub(crate) fn forget_without_identity(host: &Host) {
    if Making::read(host).is_some_and(|making| making.serial.is_none()) {
        let _ = forget(host);
    }
}

/// Removes the record, for good: whoever uses the file system from now on must not lose it.
///
/// # Errors
///
/// That it may be there still, or again after a reset.
pub(crate) fn forget(host: &Host) -> anyhow::Result<()> {
    let file = host.path(FILE);
    let directory = file.parent().unwrap_or(&file);
    let forgotten = silent::guarded(directory, &mut || {
        // Where nothing can be written, nothing was; unlink(2) would say so first.
        if !file.exists() {
            atomic_file::sweep(&file);
            return Ok(false);
        }
        if !atomic_file::remove_if_there(&file)? {
            return Ok(false);
        }
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        // It may have been made for the record.
        let _ = fs::remove_dir(directory);
        synced.map(|()| true)
    });
    let forgotten = forgotten.with_context(|| format!("cannot remove {FILE} for good"));
    forgotten.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    fn filesystem() -> Content {
        Content::Filesystem {
            kind: "ext4".into(),
            label: None,
        }
    }

    #[test]
    fn a_record_is_of_the_same_disk_and_of_no_other() {
        const BOOT: &str = "proc/sys/kernel/random/boot_id";
        let tree = Tree::new(&[
            ("sys/block/vdb/serial", "S1\n"),
            ("sys/block/vdc/", ""),
            (BOOT, "first\n"),
        ]);
        let host = tree.host();
        Making::of(&host, "vdb", 100, "U-1", None)
            .write(&host)
            .unwrap();
        let making = Making::read(&host).unwrap();
        forget_without_identity(&host);
        assert_eq!(Making::read(&host).as_ref(), Some(&making));
        let (nothing, other) = (
            Content::Nothing,
            Content::Other {
                kind: "swap".into(),
                label: None,
            },
        );
        type Case<'a> = (&'a str, u64, &'a Content, Option<&'a str>, HalfMade);
        let ext4 = filesystem();
        let cases: [Case; 8] = [
            ("vdb", 100, &nothing, None, HalfMade::NoSignature),
            ("vdb", 101, &nothing, None, HalfMade::No),
            ("vdc", 100, &nothing, None, HalfMade::No),
            ("vdb", 100, &other, None, HalfMade::No),
            ("vdb", 100, &ext4, Some("u-1"), HalfMade::Filesystem),
            ("vdb", 100, &ext4, Some("u-2"), HalfMade::No),
            ("vdb", 100, &ext4, None, HalfMade::No),
            ("vdc", 100, &ext4, Some("u-1"), HalfMade::No),
        ];
        for (name, size, content, uuid, expected) in cases {
            let this = Making::of(&host, name, size, "", None);
            let found = making.is_of(&this, content, uuid);
            assert_eq!(found, expected, "{name} {size} {uuid:?} {content}");
        }
        forget(&host).unwrap();
        assert_eq!(Making::read(&host), None);
    }

    #[test]
    fn without_a_serial_number_it_takes_the_same_boot_or_the_uuid() {
        let making = |boot: Option<&str>, sysfs: Option<&str>| Making {
            uuid: "U-1".into(),
            size_bytes: 100,
            serial: None,
            sysfs: sysfs.map(Into::into),
            machine: None,
            boot: boot.map(Into::into),
        };
        let tree = Tree::new(&[
            ("proc/sys/kernel/random/boot_id", "first\n"),
            ("sys/block/", ""),
        ]);
        let host = tree.host();
        let link = tree.root().join("sys/block/vdb");
        std::os::unix::fs::symlink("../devices/vdb", link).unwrap();
        let place = Some("../devices/vdb");
        let vdb = Making::of(&host, "vdb", 100, "", None);
        let cases = [
            (making(Some("first"), place), HalfMade::NoSignature),
            (making(Some("second"), place), HalfMade::No),
            (making(None, place), HalfMade::No),
            (making(Some("first"), Some("../devices/vdc")), HalfMade::No),
            (making(Some("first"), None), HalfMade::No),
        ];
        for (making, expected) in cases {
            let found = making.is_of(&vdb, &Content::Nothing, None);
            assert_eq!(found, expected, "{making:?}");
        }
        let found = making(None, place).is_of(&vdb, &filesystem(), Some("U-1"));
        assert_eq!(found, HalfMade::Filesystem);
    }
}
