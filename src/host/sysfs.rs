//! What `/sys/block` says of a block device, by the kernel's name for it.
//!
//! Everything here works on Linux 2.6.18: there is `/sys/block` but no `/sys/class/block`
//! and no `/sys/dev`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::block_device::Number;
use super::{Host, kernel_file};
use crate::order::sort_by;

/// A device's name as sysfs writes it: `cciss!c0d0`.
pub(crate) fn name_of(name: &str) -> String {
    name.replace('/', "!")
}

/// The disk that a device is a partition of; the device itself where it is a disk.
pub(crate) fn disk_of(host: &Host, name: &str) -> String {
    let name = name_of(name);
    if host.path("/sys/block").join(&name).exists() {
        return name;
    }
    // A partition is a directory in its disk's: /sys/block/vdb/vdb1.
    let disks = fs::read_dir(host.path("/sys/block"))
        .into_iter()
        .flatten()
        .flatten();
    disks
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find(|disk| {
            name.starts_with(disk.as_str())
                && host.path("/sys/block").join(disk).join(&name).exists()
        })
        .unwrap_or(name)
}

fn directory_of(host: &Host, name: &str) -> PathBuf {
    directory_in(host, &disk_of(host, name), name)
}

/// The directory of a device that is this disk or a partition of it.
fn directory_in(host: &Host, disk: &str, name: &str) -> PathBuf {
    let directory = host.path("/sys/block").join(disk);
    match disk == name_of(name) {
        true => directory,
        false => directory.join(name_of(name)),
    }
}

/// The disks that a device lies on: its own, and through device-mapper and md those
/// of the devices that it is made of.
pub(crate) fn disks_under(host: &Host, name: &str) -> BTreeSet<String> {
    let mut disks = BTreeSet::new();
    let mut left = vec![name.to_string()];
    while let Some(name) = left.pop() {
        let disk = disk_of(host, &name);
        let directory = directory_in(host, &disk, &name);
        if disks.insert(disk) {
            left.extend(entries(&directory.join("slaves")));
        }
    }
    disks
}

/// The device-mapper and md devices that are made of a device or of its disk.
pub(crate) fn holders(host: &Host, name: &str) -> Vec<String> {
    let disk = disk_of(host, name);
    let own = directory_in(host, &disk, name);
    let disk = host.path("/sys/block").join(disk);
    let mut holders = entries(&own.join("holders"));
    if disk != own {
        holders.extend(entries(&disk.join("holders")));
    }
    holders
}

/// The nodes of the devices that an md array is made of; none of another device.
pub(crate) fn members(host: &Host, name: &str) -> Vec<PathBuf> {
    let slaves = match name.starts_with("md") {
        true => entries(&directory_of(host, name).join("slaves")),
        false => Vec::new(),
    };
    slaves.iter().map(|slave| node_of(slave)).collect()
}

/// What the kernel calls a device's node.
pub(crate) fn node_of(name: &str) -> PathBuf {
    Path::new("/dev").join(name.replace('!', "/"))
}

/// The partitions of a disk that the kernel knows: directories in the disk's own.
pub(crate) fn partitions(host: &Host, name: &str) -> Vec<String> {
    let mut names = entries(&directory_of(host, name));
    names.retain(|entry| entry.starts_with(&name_of(name)));
    names
}

/// The serial number that the hypervisor gave the disk: virtio's own attribute
/// (Linux 2.6.36), or page 0x80 of a SCSI disk's vital product data (Linux 3.15).
pub(crate) fn serial(host: &Host, name: &str) -> Option<String> {
    let disk = host.path("/sys/block").join(disk_of(host, name));
    attribute(&disk.join("serial")).or_else(|| {
        let page = fs::read(disk.join("device/vpd_pg80")).ok()?;
        // Four bytes of header come before the number (SPC-3, 7.6.9).
        let serial = String::from_utf8_lossy(page.get(4..)?).trim().to_string();
        (!serial.is_empty()).then_some(serial)
    })
}

/// Where the kernel has a device's disk, below `/sys/devices`; None where `/sys/block` has no
/// links (before Linux 2.6.25).
pub(crate) fn place(host: &Host, name: &str) -> Option<PathBuf> {
    fs::read_link(host.path("/sys/block").join(disk_of(host, name))).ok()
}

/// The text of an attribute; None where there is none, or an empty one.
pub(crate) fn attribute(path: &Path) -> Option<String> {
    let text = kernel_file::read_text(path).ok()?.trim().to_string();
    (!text.is_empty()).then_some(text)
}

/// The names in a directory, sorted; none where it cannot be read.
pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    sort_by(&mut names, String::cmp);
    names
}

/// The kernel's name for a device, which its node need not have: `/dev/cciss/c0d0`, or
/// whatever the guest's static `/dev` says.
pub(crate) fn kernel_name(host: &Host, number: Number) -> Option<String> {
    let listed = kernel_file::read_text(host.path("/proc/partitions")).unwrap_or_default();
    listed.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [major, minor, _, name] = fields[..] else {
            return None;
        };
        (format!("{major}:{minor}") == number.to_string()).then(|| name.to_string())
    })
}

/// Where the kernel counts the requests of the disk that a device is, or is a part of, and those
/// of the disks under it.
pub(crate) fn stats_of(host: &Host, number: Number) -> Vec<PathBuf> {
    let name = kernel_name(host, number).unwrap_or_default();
    let disks = disks_under(host, &name);
    let stat = |disk| host.path("/sys/block").join(disk).join("stat");
    disks.iter().map(stat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_its_own_disk_where_sysfs_does_not_know_it() {
        let host = Host::this_machine();
        assert_eq!(disk_of(&host, "no-such-disk7"), "no-such-disk7");
    }
}
