//! A device that may be mounted or formatted, and all by which somebody may have named it.

use std::path::{Path, PathBuf};

use super::content::Content;
use super::inventory::{BlockDevice, Inventory};
use super::libblkid::Entry;
use super::udev_link;
use crate::host::block_device::Number;
use crate::host::regular_file::{self, MIB};
use crate::host::{Host, sysfs};
use crate::text;

/// A block device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) number: Number,
    /// The kernel's name for it: `vdb1`, `cciss/c0d0p1`.
    pub(crate) name: String,
    /// The disk that it is a partition of.
    pub(crate) disk: Option<Disk>,
    pub(crate) partitions: Vec<Number>,
    pub(crate) content: Content,
    /// Of the file system; None where it has none.
    pub(crate) uuid: Option<String>,
    /// Of the partition; None where it is not known.
    pub(crate) partuuid: Option<String>,
    /// Likewise.
    pub(crate) partlabel: Option<String>,
    /// Of the disk.
    pub(crate) identifiers: Identifiers,
    /// Where the disk is below `/sys/devices`; None where it is not known.
    pub(crate) place: Option<PathBuf>,
    pub(crate) links: Links,
}

/// A disk with partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// The kernel's name for it.
    pub(crate) name: String,
    pub(crate) number: Option<Number>,
}

/// Serial numbers and WWIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identifiers {
    /// It has no others.
    All(Vec<String>),
    /// Those that the kernel shows: there may be others.
    AtLeast(Vec<String>),
}

/// Udev's links to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// All are there.
    Made,
    /// Udev is not done with the device, or there is no udev.
    Unknown,
}

impl Candidate {
    /// What is known of a device without reading it. `content` is what reading it showed;
    /// the UUIDs and the partition's label are for the caller to fill in.
    pub(crate) fn look_up(
        host: &Host,
        inventory: &Inventory,
        device: &BlockDevice,
        content: &Content,
    ) -> Candidate {
        let number_of = |name: &String| {
            let mut all = inventory.devices.iter();
            let found = all.find(|one| sysfs::name_of(&one.name) == *name);
            found.map(|one| one.number)
        };
        let disk = sysfs::disk_of(host, &device.name);
        let partitions = sysfs::partitions(host, &device.name);
        Candidate {
            number: device.number,
            name: device.name.clone(),
            partitions: partitions.iter().filter_map(number_of).collect(),
            content: content.clone(),
            uuid: None,
            partuuid: None,
            partlabel: None,
            identifiers: Identifiers::look_up(host, &disk),
            place: place(host, &disk),
            links: Links::look_up(host, device.number),
            disk: (disk != sysfs::name_of(&device.name)).then(|| Disk {
                number: number_of(&disk),
                name: disk,
            }),
        }
    }
}

impl Identifiers {
    fn look_up(host: &Host, disk: &str) -> Identifiers {
        let directory = host.path("/sys/block").join(disk);
        let shown = ["device/serial", "wwid", "device/wwid"]
            .iter()
            .filter_map(|attribute| sysfs::attribute(&directory.join(attribute)));
        let shown = sysfs::serial(host, disk).into_iter().chain(shown).collect();
        // The WWID of a SCSI disk is shown since Linux 4.5, and some have no serial number.
        match disk.starts_with("sd") && !directory.join("device/wwid").exists() {
            true => Identifiers::AtLeast(shown),
            false => Identifiers::All(shown),
        }
    }
}

impl Entry {
    /// As udev's record of a device has it.
    pub(super) fn of_udev(host: &Host, number: Number) -> Entry {
        let record = regular_file::read(&record_of(host, number), MIB).unwrap_or_default();
        let record = String::from_utf8_lossy(&record).into_owned();
        let value = |name: &str| {
            let mut lines = record.lines();
            let value = lines.find_map(|line| {
                line.strip_prefix("E:")?
                    .strip_prefix(name)?
                    .strip_prefix('=')
            })?;
            let value = udev_link::decode(value.as_bytes());
            Some(text::printable(&String::from_utf8_lossy(&value)))
        };
        Entry {
            uuid: value("ID_PART_ENTRY_UUID"),
            label: value("ID_PART_ENTRY_NAME"),
        }
    }
}

/// Udev writes a record of a device once it has made the links to it. Before version 168
/// (2011) it had them elsewhere.
fn record_of(host: &Host, number: Number) -> PathBuf {
    host.path(format!("/run/udev/data/b{number}"))
}

impl Links {
    fn look_up(host: &Host, number: Number) -> Links {
        match record_of(host, number).exists() {
            true => Links::Made,
            false => Links::Unknown,
        }
    }
}

/// Where a disk is below `/sys/devices`: that of the hardware, or of the disk itself where
/// there is none.
fn place(host: &Host, disk: &str) -> Option<PathBuf> {
    let directory = Path::new("/sys/block").join(disk);
    let real = |path: PathBuf| host.real_path(path).ok();
    real(directory.join("device")).or_else(|| real(directory))
}

/// The number of a partition, from the kernel's names for it and its disk: `sdb` and `sdb1`,
/// `nvme0n1` and `nvme0n1p1` (disk_name in block/partitions/core.c).
pub(super) fn partition_number(disk: &str, name: &str) -> Option<u32> {
    let (disk, name) = (sysfs::name_of(disk), sysfs::name_of(name));
    let after = name.strip_prefix(&disk)?;
    let digits = match disk.ends_with(|last: char| last.is_ascii_digit()) {
        true => after.strip_prefix('p')?,
        false => after,
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::tree::Tree;

    /// What is looked up of one of these devices.
    fn looked_up(tree: &Tree, places: &[&str], name: &str) -> Candidate {
        let host = tree.with_devices(places, None);
        let inventory = Inventory::read(&host, &[]).unwrap();
        let device = inventory.devices.iter().find(|device| device.name == name);
        Candidate::look_up(&host, &inventory, device.unwrap(), &Content::Nothing)
    }

    fn number(minor: u64) -> Number {
        Number { major: 252, minor }
    }

    #[test]
    fn a_disk_and_a_partition_know_each_other() {
        let places = [
            "vda",
            "vdb",
            "vdb/vdb1",
            "vdb/vdb2",
            "cciss!c0d0",
            "cciss!c0d0/cciss!c0d0p1",
        ];
        let tree = Tree::new(&[]);
        let disk = looked_up(&tree, &places, "vdb");
        assert_eq!(disk.disk, None);
        assert_eq!(disk.partitions, [number(2), number(3)]);
        let partition = looked_up(&tree, &places, "vdb2");
        let expected = Disk {
            name: "vdb".into(),
            number: Some(number(1)),
        };
        assert_eq!(partition.disk, Some(expected));
        assert_eq!(partition.partitions, []);
        let partition = looked_up(&tree, &places, "cciss/c0d0p1");
        assert_eq!(partition.disk.unwrap().number, Some(number(4)));
    }

    #[test]
    fn udevs_record_of_a_device_says_that_its_links_are_made() {
        let tree = Tree::new(&[("run/udev/data/b252:1", "S:disk/by-id/virtio-x\n")]);
        let places = ["vda", "vdb"];
        assert_eq!(looked_up(&tree, &places, "vda").links, Links::Unknown);
        assert_eq!(looked_up(&tree, &places, "vdb").links, Links::Made);
    }

    #[test]
    fn udevs_record_tells_what_a_partition_table_says() {
        let record =
            "S:disk/by-id/x\nE:ID_PART_ENTRY_UUID=c0ffee00-01\nE:ID_PART_ENTRY_NAME=my\\x20disk\n";
        let tree = Tree::new(&[("run/udev/data/b252:1", record)]);
        let expected = Entry {
            uuid: Some("c0ffee00-01".into()),
            label: Some("my disk".into()),
        };
        assert_eq!(Entry::of_udev(&tree.host(), number(1)), expected);
        assert_eq!(Entry::of_udev(&tree.host(), number(2)), Entry::default());
    }

    #[test]
    fn a_partition_has_the_identifiers_of_its_disk() {
        let tree = Tree::new(&[
            ("sys/block/vdb/serial", "scratch\n"),
            (
                "sys/block/nvme0n1/device/serial",
                "vol0123456789abcdef0  \n",
            ),
            ("sys/block/nvme0n1/wwid", "nvme.1d0f-766f\n"),
            ("sys/block/sda/device/vpd_pg80", "\0\x7f\0\x04QM01"),
            ("sys/block/sdb/device/wwid", "naa.6002248\n"),
            ("sys/block/sdc/device/", ""),
        ]);
        let places = ["vda", "vdb", "vdb/vdb1", "nvme0n1", "sda", "sdb", "sdc"];
        let identifiers = |name: &str| match looked_up(&tree, &places, name).identifiers {
            Identifiers::All(all) => format!("all: {}", all.join(", ")),
            Identifiers::AtLeast(some) => format!("at least: {}", some.join(", ")),
        };
        assert_eq!(identifiers("vda"), "all: ");
        assert_eq!(identifiers("vdb"), "all: scratch");
        assert_eq!(identifiers("vdb1"), "all: scratch");
        assert_eq!(
            identifiers("nvme0n1"),
            "all: vol0123456789abcdef0, nvme.1d0f-766f"
        );
        assert_eq!(identifiers("sdb"), "all: naa.6002248");
        assert_eq!(identifiers("sdc"), "at least: ");
        assert_eq!(identifiers("sda"), "at least: QM01");
    }

    #[test]
    fn a_disks_place_is_where_its_hardware_is() {
        let hardware = "sys/devices/pci0000:00/0000:00:05.0/virtio2";
        let tree = Tree::new(&[(&format!("{hardware}/"), ""), ("sys/block/vdb/vdb1/", "")]);
        let link = tree.root().join("sys/block/vdb/device");
        symlink(tree.root().join(hardware), link).unwrap();
        // On newer kernels the disk itself is a link too. This one has no hardware.
        let mapped = tree.root().join("sys/devices/virtual/block/dm-0");
        fs::create_dir_all(&mapped).unwrap();
        symlink(mapped, tree.root().join("sys/block/dm-0")).unwrap();

        let places = ["vdb", "vdb/vdb1", "dm-0"];
        let place = |name: &str| looked_up(&tree, &places, name).place.unwrap();
        assert_eq!(place("vdb"), Path::new("/").join(hardware));
        assert_eq!(place("vdb1"), Path::new("/").join(hardware));
        assert_eq!(place("dm-0"), Path::new("/sys/devices/virtual/block/dm-0"));
    }

    #[test]
    fn the_number_of_a_partition_is_in_its_name() {
        let cases = [
            ("sdb", "sdb1", Some(1)),
            ("sdb", "sdb12", Some(12)),
            ("nvme0n1", "nvme0n1p3", Some(3)),
            ("cciss!c0d0", "cciss/c0d0p1", Some(1)),
            ("sdb", "sdb", None),
            ("sdb", "sdbc", None),
            ("sdb", "sdbc1", None),
            ("sdb", "sdbp1", None),
            ("sdb", "sdb+1", None),
            ("sdb", "sdc1", None),
            ("nvme0n1", "nvme0n11", None),
            ("nvme0n1", "nvme0n1p", None),
            ("sdb", "sdb99999999999", None),
        ];
        for (disk, name, expected) in cases {
            assert_eq!(partition_number(disk, name), expected, "{disk} {name}");
        }
    }
}
