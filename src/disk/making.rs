//! The record of a running mkfs: a boot that dies while it runs leaves a disk that is neither
//! blank nor has a file system, and that nobody else put in that state.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::regular_file::{self, MIB};
use crate::host::{Host, atomic_file, machine, sysfs};

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
}

impl Making {
    pub(super) fn of(host: &Host, name: &str, size_bytes: u64, uuid: &str) -> Making {
        Making {
            uuid: uuid.into(),
            size_bytes,
            serial: sysfs::serial(host, name),
            sysfs: sysfs::place(host, name),
            machine: machine::uuid(host),
        }
    }

    /// None where there is none, or none that can be understood.
    pub(crate) fn read(host: &Host) -> Option<Making> {
        let text = regular_file::read(&host.path(FILE), MIB).ok()?;
        serde_json::from_slice(&text).ok()
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

    /// Whether it tells of this device: of one with the UUID that was to be given, or of the
    /// same disk, on which nothing shows yet.
    pub(super) fn is_of(
        &self,
        host: &Host,
        name: &str,
        size_bytes: u64,
        uuid: Option<&str>,
        is_blank: bool,
    ) -> bool {
        let is_named = uuid.is_some_and(|uuid| uuid.eq_ignore_ascii_case(&self.uuid));
        let this = Making::of(host, name, size_bytes, &self.uuid);
        this.machine == self.machine
            && this.size_bytes == self.size_bytes
            && (is_named || is_blank && this == *self)
    }
}

/// Without a serial number another disk could be taken for this one later: such a record
/// counts until the next boot that ends.
pub(crate) fn forget_without_identity(host: &Host) {
    if Making::read(host).is_some_and(|making| making.serial.is_none()) {
        forget(host);
    }
}

/// Removes the record, for good: whoever uses the file system from now on must not lose it.
pub(crate) fn forget(host: &Host) {
    let file = host.path(FILE);
    if atomic_file::remove_if_there(&file).unwrap_or(false)
        && let Some(directory) = file.parent()
    {
        let _ = fs::File::open(directory).and_then(|directory| directory.sync_all());
        // It may have been made for the record.
        let _ = fs::remove_dir(directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn a_record_is_of_the_same_disk_or_of_the_uuid_that_was_given() {
        let tree = Tree::new(&[
            ("sys/block/vdb/serial", "S1\n"),
            ("sys/block/vdc/size", "1\n"),
        ]);
        let host = tree.host();
        Making::of(&host, "vdb", 100, "U-1").write(&host).unwrap();
        let making = Making::read(&host).unwrap();
        forget_without_identity(&host);
        assert_eq!(Making::read(&host).as_ref(), Some(&making));
        let cases = [
            ("vdb", 100, None, true, true),
            ("vdb", 100, None, false, false),
            ("vdb", 101, None, true, false),
            ("vdc", 100, None, true, false),
            ("vdc", 100, Some("u-1"), false, true),
            ("vdb", 100, Some("u-2"), false, false),
        ];
        for (name, size, uuid, is_blank, expected) in cases {
            let is_it = making.is_of(&host, name, size, uuid, is_blank);
            assert_eq!(is_it, expected, "{name} {size} {uuid:?} {is_blank}");
        }
        forget(&host);
        assert_eq!(Making::read(&host), None);
    }
}
