//! Which block devices there are, and what the kernel says of them.
//!
//! Everything here works on Linux 2.6.18: there is `/sys/block` but no
//! `/sys/class/block` and no `/sys/dev`, and no udev is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::host::block_device::Number;
use crate::host::mount_table::{self, Mount, device_of};
use crate::host::{Host, kernel_file, sysfs};
use crate::order::sort_by_key;
use anyhow::{Context, Result, bail};

/// Where the kernel lists its block devices. Rewritten by the kernel whenever one
/// comes or goes.
pub(crate) const PARTITIONS: &str = "/proc/partitions";

/// RAM disks and floppies (devices.txt). Reading a floppy that is not there takes
/// seconds, and neither is ever a scratch disk or a config drive.
const NEVER_READ_MAJORS: [u64; 2] = [1, 2];

/// A block device that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockDevice {
    pub(crate) number: Number,
    /// The kernel's name for it: `vdb`, `vdb1`, `cciss/c0d0p1`.
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    /// What it is called under `/dev`; None while there is no node for it.
    pub(crate) node: Option<PathBuf>,
}

/// Whether the running system lives on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Elsewhere,
    /// It is a partition of a disk from which something of the system is mounted.
    PartitionOfItsDisk,
    /// It is such a disk, or lies on one.
    Disk,
}

/// The block devices, and which of them the system runs from.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) devices: Vec<BlockDevice>,
    system: BTreeMap<Number, System>,
    mounted_on: BTreeMap<Number, Vec<PathBuf>>,
    swapped_on: BTreeSet<Number>,
    /// Of btrfs on several devices that is mounted by one of them: where.
    shared: BTreeMap<Number, PathBuf>,
    system_unknown: Option<String>,
}

impl Inventory {
    /// What the kernel lists.
    ///
    /// # Errors
    ///
    /// That the kernel's list cannot be read.
    pub(crate) fn read(host: &Host, mounts: &[Mount]) -> Result<Inventory> {
        Inventory::of(host, listed(host)?, mounts)
    }

    /// Also what may hold a config drive, but never the scratch disk.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub(crate) fn with_cdroms(host: &Host, mounts: &[Mount]) -> Result<Inventory> {
        let mut devices = listed(host)?;
        devices.extend(unlisted(host, &devices));
        Inventory::of(host, devices, mounts)
    }

    fn of(host: &Host, mut devices: Vec<BlockDevice>, mounts: &[Mount]) -> Result<Inventory> {
        // Without it nobody knows which disk a partition is of, nor whose disks are in use.
        let mut disks = fs::read_dir(host.path("/sys/block"))
            .context("cannot read /sys/block; is /sys mounted?")?;
        if disks.next().is_none() && !devices.is_empty() {
            bail!("/sys/block is empty; is /sys mounted?");
        }
        find_nodes(host, &mut devices);

        let mounted_on = mount_points_by_device(host, mounts);
        let mut of_the_system = system_devices(host, mounts);
        let mut shared = BTreeMap::new();
        for members in btrfs_on_several_devices(host, &devices) {
            let mounted = members
                .iter()
                .find_map(|member| mounted_on.get(member)?.first());
            if members.iter().any(|member| of_the_system.contains(member)) {
                of_the_system.extend(&members);
            } else if let Some(place) = mounted {
                let others = members
                    .iter()
                    .filter(|member| !mounted_on.contains_key(member));
                shared.extend(others.map(|member| (*member, place.clone())));
            }
        }
        let system_disks: BTreeSet<String> = devices
            .iter()
            .filter(|device| of_the_system.contains(&device.number))
            .flat_map(|device| sysfs::disks_under(host, &device.name))
            .collect();
        let place_of = |device: &BlockDevice| {
            if system_disks.is_empty() {
                return System::Elsewhere;
            }
            let disk = sysfs::disk_of(host, &device.name);
            let is_on_one = |disk: &String| system_disks.contains(disk);
            match is_on_one(&disk) {
                // A partition, and the system is on it and not only beside it.
                _ if of_the_system.contains(&device.number) => System::Disk,
                true if disk != sysfs::name_of(&device.name) => System::PartitionOfItsDisk,
                true => System::Disk,
                false if sysfs::disks_under(host, &device.name).iter().any(is_on_one) => {
                    System::Disk
                }
                false => System::Elsewhere,
            }
        };
        let system = devices
            .iter()
            .map(|device| (device.number, place_of(device)));
        let system = system.collect();
        Ok(Inventory {
            devices,
            system,
            mounted_on,
            swapped_on: swapped_on(host),
            shared,
            system_unknown: system_unknown(host, mounts),
        })
    }

    /// Whether the running system lives on a device.
    pub(crate) fn system(&self, device: &BlockDevice) -> System {
        let system = self.system.get(&device.number);
        system.copied().unwrap_or(System::Elsewhere)
    }

    /// Why it cannot be known from which devices the system runs; None where it is known.
    pub(crate) fn system_unknown(&self) -> Option<&String> {
        self.system_unknown.as_ref()
    }

    pub(crate) fn is_swapped_on(&self, device: &BlockDevice) -> bool {
        self.swapped_on.contains(&device.number)
    }

    /// Where a btrfs is mounted that this device is a part of, without being mounted itself.
    pub(crate) fn shared_with(&self, device: &BlockDevice) -> Option<&PathBuf> {
        self.shared.get(&device.number)
    }

    pub(crate) fn mount_points(&self, device: &BlockDevice) -> Vec<PathBuf> {
        self.mounted_on
            .get(&device.number)
            .cloned()
            .unwrap_or_default()
    }
}

fn listed(host: &Host) -> Result<Vec<BlockDevice>> {
    let list = kernel_file::read_text(host.path(PARTITIONS));
    let list = list.with_context(|| format!("cannot read {PARTITIONS}"))?;
    Ok(parse_partitions(&list))
}

/// The bytes of a block device, given its node; None where it is none, or not known.
pub(crate) fn size_of(host: &Host, node: &Path) -> Option<u64> {
    let number = host.block_number(node)?;
    let devices = listed(host).ok()?.into_iter();
    let mut found = devices.filter(|device| device.number == number);
    found.next().map(|device| device.size_bytes)
}

/// Reads the lines `major minor #blocks name`; a block is 1 KiB whatever the device.
fn parse_partitions(text: &str) -> Vec<BlockDevice> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let number = Number {
                major: fields.next()?.parse().ok()?,
                minor: fields.next()?.parse().ok()?,
            };
            let blocks: u64 = fields.next()?.parse().ok()?;
            Some(BlockDevice {
                number,
                name: fields.next()?.to_string(),
                size_bytes: blocks * 1024,
                node: None,
            })
        })
        .collect()
}

/// The devices that only `/sys/block` has: up to about Linux 5.16 the kernel's list
/// leaves CD-ROMs out (show_partition in block/genhd.c), and a config drive may be one.
fn unlisted(host: &Host, listed: &[BlockDevice]) -> Vec<BlockDevice> {
    let is_listed = |name: &str| {
        listed
            .iter()
            .any(|device| sysfs::name_of(&device.name) == name)
    };
    sysfs::entries(&host.path("/sys/block"))
        .into_iter()
        .filter(|name| !is_listed(name))
        .filter_map(|name| {
            let directory = host.path("/sys/block").join(&name);
            // In units of 512 bytes, whatever the device's own sector size is.
            let sectors: u64 = sysfs::attribute(&directory.join("size"))?.parse().ok()?;
            if sectors == 0 {
                return None;
            }
            let number = parse_number(&sysfs::attribute(&directory.join("dev"))?)?;
            (!NEVER_READ_MAJORS.contains(&number.major)).then_some(BlockDevice {
                number,
                name,
                size_bytes: sectors * 512,
                node: None,
            })
        })
        .collect()
}

fn parse_number(text: &str) -> Option<Number> {
    let (major, minor) = text.split_once(':')?;
    Some(Number {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

/// Finds each device's node: `/dev/<name>` where its number agrees, else any node
/// with that number. The whole of `/dev` is read only where a name did not do.
fn find_nodes(host: &Host, devices: &mut [BlockDevice]) {
    for device in devices.iter_mut() {
        let node = sysfs::node_of(&device.name);
        device.node = (host.block_number(&node) == Some(device.number)).then_some(node);
    }
    if devices.iter().any(|device| device.node.is_none()) {
        let mut nodes = BTreeMap::new();
        collect_nodes(host, Path::new("/dev"), &mut nodes);
        for device in devices.iter_mut().filter(|device| device.node.is_none()) {
            device.node = nodes.get(&device.number).cloned();
        }
    }
}

fn collect_nodes(host: &Host, directory: &Path, nodes: &mut BTreeMap<Number, PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(host.path(directory))
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    // The first by name stands for a device with several nodes.
    sort_by_key(&mut entries, |entry| entry.file_name());
    for entry in entries {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let path = directory.join(entry.file_name());
        if kind.is_dir() {
            collect_nodes(host, &path, nodes);
        } else if kind.is_block_device()
            && let Ok(metadata) = entry.metadata()
        {
            nodes
                .entry(Number::from_raw(metadata.rdev()))
                .or_insert(path);
        }
    }
}

fn mount_points_by_device(host: &Host, mounts: &[Mount]) -> BTreeMap<Number, Vec<PathBuf>> {
    let mut by_device: BTreeMap<Number, Vec<PathBuf>> = BTreeMap::new();
    for mount in mounts {
        if let Some(number) = device_of(host, mount) {
            by_device
                .entry(number)
                .or_default()
                .push(mount.mount_point.clone());
        }
    }
    // The mount table may call the root's device anything.
    if let Some(number) = host.device_under(Path::new("/")) {
        let root = || vec![PathBuf::from("/")];
        by_device.entry(number).or_insert_with(root);
    }
    by_device
}

/// What a system does not run without, where it is a mount of its own (file-hierarchy(7)).
const OF_THE_SYSTEM: [&str; 19] = [
    "/",
    "/boot",
    "/boot/efi",
    "/efi",
    "/etc",
    "/nix",
    "/nix/store",
    "/opt",
    "/root",
    "/sysroot",
    "/usr",
    "/usr/local",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/log/audit",
    "/var/spool",
    "/var/tmp",
];

/// What the running system is on: by the device numbers of its mount points, by the mount
/// table (btrfs has device numbers of its own), and, where one is an overlay or a composefs,
/// by what that lies over.
pub(crate) fn system_devices(host: &Host, mounts: &[Mount]) -> BTreeSet<Number> {
    let of_the_system = || mounts.iter().filter(is_of_the_system);
    let by_number = of_the_system()
        .map(|mount| mount.mount_point.as_path())
        .chain([Path::new("/")])
        .filter_map(|point| host.device_under(point));
    let layers = of_the_system()
        .flat_map(layers)
        .filter_map(|layer| host.device_under(layer.directory));
    let in_table = of_the_system().filter_map(|mount| device_of(host, mount));
    by_number.chain(in_table).chain(layers).collect()
}

fn is_of_the_system(mount: &&Mount) -> bool {
    // As the kernel has them: their bytes are compared.
    let mount_point = mount.mount_point.as_os_str();
    OF_THE_SYSTEM.iter().any(|own| mount_point == *own)
}

/// A layer of the root that cannot be seen may be on any disk: its path is that of another root
/// directory, as of the initramfs. What composefs has beside its data is an image of names alone.
/// Of `/usr` that says nothing: systemd-sysext lays an overlay over it whose layers nobody sees.
fn system_unknown(host: &Host, mounts: &[Mount]) -> Option<String> {
    let is_seen = |layer: &Layer| host.device_under(layer.directory).is_some();
    let root = mount_table::on(mounts, Path::new("/"))?;
    let layers: Vec<Layer> = layers(root).collect();
    let unseen = layers.iter().find(|layer| !is_seen(layer))?;
    let has_data = |layer: &Layer| layer.name == "datadir" && is_seen(layer);
    let directory = unseen.directory.display();
    (!layers.iter().any(has_data)).then(|| format!("/ lies over {directory}, which cannot be seen"))
}

/// A directory that an overlay lies over.
struct Layer<'a> {
    /// The option's: `lowerdir`, `upperdir`, `datadir`.
    name: &'a str,
    directory: &'a Path,
}

/// The directories that an overlay's options name. Those with a plus came with Linux 6.8, and
/// composefs uses them (Documentation/filesystems/overlayfs.rst).
fn layers(mount: &Mount) -> impl Iterator<Item = Layer<'_>> {
    let options = mount.options.split(',').filter_map(|option| {
        let (name, directories) = option.split_once('=')?;
        let name = name.trim_end_matches('+');
        matches!(name, "lowerdir" | "upperdir" | "datadir").then_some((name, directories))
    });
    options.flat_map(|(name, directories)| {
        let directories = directories
            .split(':')
            .filter(|directory| !directory.is_empty());
        directories.map(move |directory| Layer {
            name,
            directory: Path::new(directory),
        })
    })
}

/// The devices of each btrfs that the kernel knows to be on several (Linux 3.18 on).
fn btrfs_on_several_devices(host: &Host, devices: &[BlockDevice]) -> Vec<BTreeSet<Number>> {
    let directory = host.path("/sys/fs/btrfs");
    let number_of = |name: &String| {
        let of_name = |device: &&BlockDevice| sysfs::name_of(&device.name) == *name;
        devices.iter().find(of_name).map(|device| device.number)
    };
    let uuids = sysfs::entries(&directory).into_iter();
    let groups = uuids.filter(|entry| entry != "features").map(|uuid| {
        let members = sysfs::entries(&directory.join(uuid).join("devices"));
        members.iter().filter_map(number_of).collect()
    });
    groups
        .filter(|members: &BTreeSet<Number>| members.len() > 1)
        .collect()
}

/// The devices in `/proc/swaps`.
fn swapped_on(host: &Host) -> BTreeSet<Number> {
    let list = kernel_file::read_text(host.path("/proc/swaps")).unwrap_or_default();
    list.lines()
        .filter_map(|line| host.block_number(Path::new(line.split_whitespace().next()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    /// The devices of a machine that its root file system is on.
    fn of_the_system(
        places: &[&str],
        others: &[(&str, &str)],
        root: Option<&str>,
        mounts: &str,
    ) -> Vec<String> {
        let tree = Tree::new(others);
        let host = tree.with_devices(places, root);
        let inventory = Inventory::read(&host, &mount_table::parse(mounts.as_bytes())).unwrap();
        let on_it = |device: &&BlockDevice| inventory.system(device) != System::Elsewhere;
        let found = inventory.devices.iter().filter(on_it);
        found.map(|device| device.name.clone()).collect()
    }

    #[test]
    fn a_system_disk_is_found_through_whatever_the_system_lies_on() {
        type Case<'a> = (
            &'a str,
            &'a [&'a str],
            &'a [(&'a str, &'a str)],
            Option<&'a str>,
            &'a str,
            &'a [&'a str],
        );
        let cases: [Case; 10] = [
            (
                "a btrfs of two disks, one of which the mount table names",
                &["vda", "vdb", "vdc"],
                &[
                    ("sys/fs/btrfs/1b2c/devices/vda/", ""),
                    ("sys/fs/btrfs/1b2c/devices/vdb/", ""),
                ],
                None,
                "/dev/vda / btrfs rw 0 0",
                &["vda", "vdb"],
            ),
            (
                "a whole disk",
                &["vda", "vdb"],
                &[],
                Some("vda"),
                "/dev/vda / ext4 rw 0 0",
                &["vda"],
            ),
            (
                "a partition: its disk and all of its partitions",
                &["vda", "vda/vda1", "vda/vda2", "vdb", "vdb/vdb1"],
                &[],
                Some("vda1"),
                "/dev/vda1 / ext4 rw 0 0",
                &["vda", "vda1", "vda2"],
            ),
            (
                "/dev/root, as kernels up to 2.6.38 call it",
                &["vda", "vda/vda1", "vdb"],
                &[],
                Some("vda1"),
                "/dev/root / ext3 rw 0 0",
                &["vda", "vda1"],
            ),
            (
                "the mount table alone: btrfs has device numbers of its own",
                &["vda", "vdb"],
                &[],
                None,
                "/dev/vda / btrfs rw 0 0",
                &["vda"],
            ),
            (
                "LVM: the disks that the volume is made of",
                &["vda", "vda/vda1", "vdb", "vdc", "dm-0"],
                &[
                    ("sys/block/dm-0/slaves/vda1/", ""),
                    ("sys/block/dm-0/slaves/vdb/", ""),
                ],
                Some("dm-0"),
                "/dev/mapper/vg-root / ext4 rw 0 0",
                &["vda", "vda1", "vdb", "dm-0"],
            ),
            (
                "LUKS on RAID",
                &["vda", "vdb", "vdc", "md0", "dm-0"],
                &[
                    ("sys/block/dm-0/slaves/md0/", ""),
                    ("sys/block/md0/slaves/vda/", ""),
                    ("sys/block/md0/slaves/vdb/", ""),
                ],
                Some("dm-0"),
                "",
                &["vda", "vdb", "md0", "dm-0"],
            ),
            (
                "a disk with a directory in its name",
                &["cciss!c0d0", "cciss!c0d0/cciss!c0d0p1", "vdb"],
                &[],
                Some("cciss!c0d0p1"),
                "",
                &["cciss/c0d0", "cciss/c0d0p1"],
            ),
            (
                "no block device at all",
                &["vda", "vdb"],
                &[],
                None,
                "10.0.0.1:/ / nfs rw 0 0",
                &[],
            ),
            (
                "another disk's name begins alike",
                &["vda", "vda1", "vda1/vda1p1"],
                &[],
                Some("vda"),
                "",
                &["vda"],
            ),
        ];
        for (what, places, others, root, mounts, expected) in cases {
            assert_eq!(
                of_the_system(places, others, root, mounts),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn what_an_overlay_lies_over_is_the_root() {
        let tree = Tree::new(&[]);
        let mut host = tree.with_devices(&["vda", "vdb", "vdc"], None);
        for (directory, minor) in [("/lower", 0), ("/upper", 1)] {
            let number = Number { major: 252, minor };
            host.pretend_file_system(directory, number);
        }
        for mounts in [
            "overlay / overlay rw,lowerdir=/lower:/nowhere,upperdir=/upper 0 0",
            // As composefs has it.
            "composefs / overlay ro,lowerdir+=/nowhere,lowerdir+=/lower,datadir+=/upper 0 0",
        ] {
            let inventory = Inventory::read(&host, &mount_table::parse(mounts.as_bytes())).unwrap();
            let on_it = |device: &&BlockDevice| inventory.system(device) != System::Elsewhere;
            assert_eq!(
                inventory.devices.iter().filter(on_it).count(),
                2,
                "{mounts}"
            );
        }
    }

    #[test]
    fn a_layer_that_cannot_be_seen_may_be_on_any_disk() {
        let tree = Tree::new(&[]);
        let mut host = tree.with_devices(&["vda", "vdb"], None);
        for (directory, minor) in [("/lower", 0), ("/upper", 1)] {
            let number = Number { major: 252, minor };
            host.pretend_file_system(directory, number);
        }
        let cases = [
            (
                "overlay / overlay rw,lowerdir=/lower,upperdir=/upper 0 0",
                None,
            ),
            (
                "overlay / overlay rw,lowerdir=/gone:/lower,upperdir=/upper 0 0",
                Some("/ lies over /gone, which cannot be seen"),
            ),
            (
                "overlay / overlay rw,lowerdir=/lower,upperdir=/gone 0 0",
                Some("/ lies over /gone, which cannot be seen"),
            ),
            (
                "composefs / overlay ro,lowerdir+=/gone,datadir+=/lower 0 0",
                None,
            ),
            (
                "composefs / overlay ro,lowerdir+=/lower,datadir+=/gone 0 0",
                Some("/ lies over /gone, which cannot be seen"),
            ),
            ("overlay /usr overlay rw,lowerdir=/gone 0 0", None),
        ];
        for (mounts, expected) in cases {
            let inventory = Inventory::read(&host, &mount_table::parse(mounts.as_bytes())).unwrap();
            let unknown = inventory.system_unknown().map(String::as_str);
            assert_eq!(unknown, expected, "{mounts}");
        }
    }

    #[test]
    fn without_sys_nothing_is_said_of_any_disk() {
        let tree = Tree::new(&[("proc/partitions", " 252 0 1048576 vda\n")]);
        assert!(Inventory::read(&tree.host(), &[]).is_err());
        let tree = Tree::new(&[
            ("proc/partitions", " 252 0 1048576 vda\n"),
            ("sys/block/", ""),
        ]);
        assert!(Inventory::read(&tree.host(), &[]).is_err());
    }

    #[test]
    fn the_holders_of_a_disk_hold_its_partitions_too() {
        let tree = Tree::new(&[
            ("sys/block/vdb/holders/md0/", ""),
            ("sys/block/vdb/vdb1/holders/dm-0/", ""),
        ]);
        let host = tree.with_devices(&["vdb", "vdb/vdb1", "vdb/vdb2", "vdc"], None);
        let cases: [(&str, &[&str]); 4] = [
            ("vdb", &["md0"]),
            ("vdb1", &["dm-0", "md0"]),
            ("vdb2", &["md0"]),
            ("vdc", &[]),
        ];
        for (name, expected) in cases {
            assert_eq!(sysfs::holders(&host, name), expected, "{name}");
        }
        assert_eq!(sysfs::partitions(&host, "vdb"), ["vdb1", "vdb2"]);
    }

    #[test]
    fn the_kernels_list_is_read_with_its_header_and_odd_names() {
        let text = "major minor  #blocks  name\n\n 253 0 20971520 vda\n 253 16 1 vdb\n 104 1 7 cciss/c0d0p1\n garbage\n";
        let devices = parse_partitions(text);
        let seen: Vec<_> = devices
            .iter()
            .map(|d| (d.name.as_str(), d.number.minor, d.size_bytes))
            .collect();
        assert_eq!(
            seen,
            [
                ("vda", 0, 20971520 * 1024),
                ("vdb", 16, 1024),
                ("cciss/c0d0p1", 1, 7168)
            ]
        );
    }
}
