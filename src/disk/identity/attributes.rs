//! What the kernel says of a disk that may tell whose it is. This reads and has no opinion;
//! what it means is decided by [`identity`](super).
//!
//! Neither udev nor an ioctl is needed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::host::cloud::Dmi;
use crate::host::{Host, regular_file, sysfs};
use crate::text;

/// All that a disk's identity depends on. Texts are without the blanks and zero bytes that
/// pad them; one that is missing, empty, too long, or not a line of text is None.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) driver: Driver,
    /// SCSI's vendor: up to 8 characters.
    pub(crate) vendor: Option<String>,
    /// SCSI's model, up to 16 characters, or NVMe's, up to 40.
    pub(crate) model: Option<String>,
    /// Of virtio, SCSI or NVMe.
    pub(crate) serial: Option<String>,
    /// NVMe's namespace identifier; they are counted from 1.
    pub(crate) namespace: Option<u32>,
    /// How the NVMe controllers are reached: `pcie`, `tcp`, `rdma`, … Not told before Linux 4.8.
    pub(crate) transports: Vec<String>,
    /// The last number of a SCSI address (host:channel:target:LUN).
    pub(crate) lun: Option<u64>,
    /// Hyper-V's GUID of the virtual controller that the disk is on, in braces.
    pub(crate) vmbus_id: Option<String>,
    pub(crate) dmi: Dmi,
}

/// Which kernel driver made the disk, as far as identity has to tell them apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Driver {
    Nvme,
    /// SCSI disks, and what the kernel shows as such: SATA, USB.
    Scsi,
    #[default]
    Other,
}

impl Attributes {
    /// What sysfs has of a disk, or of the disk that a partition is a part of, by the kernel's
    /// name for it: `sdb`, `nvme0n1p1`, `cciss/c0d0`. `dmi` is what the firmware says.
    pub(crate) fn read(host: &Host, name: &str, dmi: impl FnOnce() -> Dmi) -> Attributes {
        let name = sysfs::disk_of(host, name);
        if is_virtual(&name) {
            return Attributes {
                serial: serial(host, &name),
                ..Attributes::default()
            };
        }
        let driver = Driver::of(&name);
        let disk = Path::new("/sys/block").join(&name);
        let device = real(host, &disk.join("device"));
        let Some(disk) = real(host, &disk) else {
            return Attributes {
                driver,
                ..Attributes::default()
            };
        };
        // What has no `device` is no disk that a cloud gives.
        let Some(device) = device else {
            let has_none = fs::symlink_metadata(host.path(disk.join("device"))).is_err();
            return Attributes {
                driver,
                serial: has_none.then(|| serial(host, &name)).flatten(),
                ..Attributes::default()
            };
        };
        let within_disk = |file: &str| attribute(&host.path(&disk).join(file));
        let within_device = |file: &str| attribute(&host.path(&device).join(file));
        Attributes {
            driver,
            vendor: within_device("vendor"),
            model: within_device("model"),
            serial: serial(host, &name).or_else(|| within_device("serial")),
            namespace: within_disk("nsid").and_then(|id| id.parse().ok()),
            transports: match driver {
                Driver::Nvme => transports(host, &device),
                Driver::Scsi | Driver::Other => Vec::new(),
            },
            lun: lun(&device),
            vmbus_id: vmbus_id(host, &device),
            dmi: dmi(),
        }
    }
}

impl Driver {
    /// By the disk's name, which only its driver gives.
    fn of(disk: &str) -> Driver {
        if disk.starts_with("nvme") {
            Driver::Nvme
        } else if disk.starts_with("sd") {
            Driver::Scsi
        } else {
            Driver::Other
        }
    }
}

/// Whether the guest has made it of something else: no hardware is behind it. There may be
/// many, so that no links are followed for them.
fn is_virtual(name: &str) -> bool {
    const MADE_BY: [&str; 5] = ["loop", "dm-", "md", "ram", "zram"];
    MADE_BY.iter().any(|start| name.starts_with(start))
}

/// What the firmware says of this machine.
pub(crate) fn read_dmi(host: &Host) -> Dmi {
    let directory = real(host, Path::new("/sys/class/dmi/id"));
    let field = |file: &str| attribute(&host.path(directory.as_ref()?).join(file));
    Dmi {
        sys_vendor: field("sys_vendor"),
        product_name: field("product_name"),
        chassis_asset_tag: field("chassis_asset_tag"),
    }
}

/// The serial number of a virtio or a SCSI disk. NVMe has its own in `device/serial`.
fn serial(host: &Host, disk: &str) -> Option<String> {
    let directory = host.path("/sys/block").join(disk);
    let files = ["serial", "device/vpd_pg80"].map(|file| directory.join(file));
    if files.iter().any(|file| is_no_attribute(file)) {
        return None;
    }
    line(&sysfs::serial(host, disk)?)
}

/// `pcie` for a disk of this machine's. Where several controllers lead to one disk (native
/// multipath, Linux 4.15), `device` is the subsystem, and they are linked from there.
fn transports(host: &Host, device: &Path) -> Vec<String> {
    let transport = |controller: &Path| attribute(&host.path(controller).join("transport"));
    if let Some(transport) = transport(device) {
        return vec![transport];
    }
    let controllers = sysfs::entries(&host.path(device)).into_iter();
    let controllers = controllers.filter(|entry| entry.starts_with("nvme"));
    controllers
        .filter_map(|entry| transport(&real(host, &device.join(entry))?))
        .collect()
}

/// Of a directory such as `0:0:0:1`.
fn lun(device: &Path) -> Option<u64> {
    let address = device.file_name()?.to_str()?;
    let numbers: Result<Vec<u64>, _> = address.split(':').map(str::parse).collect();
    match numbers.ok()?[..] {
        [_, _, _, lun] => Some(lun),
        _ => None,
    }
}

/// The controller is one of the directories above the device. Its own name says the same on
/// newer kernels; on older ones it is `vmbus_0_1`.
fn vmbus_id(host: &Host, device: &Path) -> Option<String> {
    let mut ancestors = device.ancestors();
    ancestors.find_map(|directory| attribute(&host.path(directory).join("device_id")))
}

/// The path without symbolic links, as the machine has it; None where it leads out of a test's
/// tree, to the real machine.
fn real(host: &Host, path: &Path) -> Option<PathBuf> {
    let root = fs::canonicalize(host.path("/")).ok()?;
    let real = fs::canonicalize(host.path(path)).ok()?;
    Some(Path::new("/").join(real.strip_prefix(root).ok()?))
}

/// Longer ones are not what identity asks for: the longest is a serial number in SCSI's page
/// 0x80, of at most 252 bytes.
const LONGEST: u64 = 255;

/// The size that sysfs says its attributes have.
const PAGE: u64 = 4096;

fn attribute(path: &Path) -> Option<String> {
    if is_no_attribute(path) {
        return None;
    }
    line(&regular_file::read_text(path, LONGEST).ok()?)
}

/// An attribute is never a link, which could lead anywhere, and never larger than a page, so
/// that nothing larger need be read.
fn is_no_attribute(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink() || file.len() > PAGE)
}

/// A text without its padding; None for an empty one and for what is no line of text.
fn line(text: &str) -> Option<String> {
    let is_padding = |c: char| c.is_whitespace() || c == '\0';
    let text = text.trim_matches(is_padding);
    // U+FFFD stands for bytes that were no text.
    let is_text = !text.contains(|c: char| text::is_control(c) || c == '\u{fffd}');
    let fits = (1..=LONGEST).contains(&(text.len() as u64));
    (is_text && fits).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::tree::Tree;

    /// A tree with these links, each to what is written in it.
    fn tree(files: &[(&str, &str)], links: &[(&str, &str)]) -> Tree {
        let tree = Tree::new(files);
        for (link, target) in links {
            let link = tree.root().join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(target, link).unwrap();
        }
        tree
    }

    fn read(tree: &Tree, name: &str) -> Attributes {
        Attributes::read(&tree.host(), name, || read_dmi(&tree.host()))
    }

    #[test]
    fn an_nvme_disk_is_read_through_the_links_that_sysfs_has_and_so_is_its_partition() {
        let controller = "sys/devices/pci0000:00/0000:00:1f.0/nvme/nvme1";
        let at = |file: &str| format!("{controller}/{file}");
        let tree = tree(
            &[
                (
                    &at("model"),
                    &format!("{:40}\n", "Amazon Elastic Block Store"),
                ),
                (&at("serial"), &format!("{:20}\n", "vol1234")),
                (&at("transport"), "pcie\n"),
                (&at("nvme1n1/nsid"), "1\n"),
                (&at("nvme1n1/nvme1n1p1/partition"), "1\n"),
                ("sys/devices/virtual/dmi/id/sys_vendor", "Amazon EC2\n"),
            ],
            &[
                ("sys/block/nvme1n1", &format!("../../{}", at("nvme1n1"))),
                (&at("nvme1n1/device"), "../../nvme1"),
                ("sys/class/dmi/id", "../../devices/virtual/dmi/id"),
            ],
        );
        let expected = Attributes {
            driver: Driver::Nvme,
            model: Some("Amazon Elastic Block Store".into()),
            serial: Some("vol1234".into()),
            namespace: Some(1),
            transports: vec!["pcie".into()],
            dmi: Dmi {
                sys_vendor: Some("Amazon EC2".into()),
                ..Dmi::default()
            },
            ..Attributes::default()
        };
        assert_eq!(read(&tree, "nvme1n1"), expected);
        assert_eq!(read(&tree, "nvme1n1p1"), expected);
    }

    #[test]
    fn of_an_nvme_disk_with_several_controllers_each_transport_is_read() {
        let tree = tree(
            &[
                ("sys/devices/nvme-subsystem/nvme-subsys0/model", "a model\n"),
                (
                    "sys/devices/nvme-subsystem/nvme-subsys0/nvme0n1/nsid",
                    "2\n",
                ),
                ("sys/devices/pci/nvme/nvme0/transport", "pcie\n"),
                ("sys/devices/fabrics/nvme1/transport", "tcp\n"),
            ],
            &[
                (
                    "sys/block/nvme0n1",
                    "../devices/nvme-subsystem/nvme-subsys0/nvme0n1",
                ),
                (
                    "sys/devices/nvme-subsystem/nvme-subsys0/nvme0n1/device",
                    "../../nvme-subsys0",
                ),
                (
                    "sys/devices/nvme-subsystem/nvme-subsys0/nvme0",
                    "../../pci/nvme/nvme0",
                ),
                (
                    "sys/devices/nvme-subsystem/nvme-subsys0/nvme1",
                    "../../fabrics/nvme1",
                ),
            ],
        );
        let attributes = read(&tree, "nvme0n1");
        assert_eq!(attributes.model.as_deref(), Some("a model"));
        assert_eq!(attributes.namespace, Some(2));
        assert_eq!(attributes.transports, ["pcie", "tcp"]);
    }

    #[test]
    fn a_scsi_disk_has_the_lun_of_its_address_and_the_id_of_the_controller_above() {
        let id = "{f8b3781a-1e82-4818-a1c3-63d806ec15bb}";
        // The controller's directory on newer kernels and on older ones.
        for controller in ["f8b3781a-1e82-4818-a1c3-63d806ec15bb", "vmbus_0_1"] {
            let controller = format!("sys/devices/LNXSYSTM:00/VMBUS:01/{controller}");
            let device = format!("{controller}/host0/target0:0:0/0:0:0:11");
            let tree = tree(
                &[
                    (&format!("{controller}/device_id"), &format!("{id}\n")),
                    (&format!("{device}/vendor"), "Msft    \n"),
                    (&format!("{device}/model"), "Virtual Disk    \n"),
                    (&format!("{device}/vpd_pg80"), "\0\u{1}\0\u{4} 1x2\0\0"),
                    (&format!("{device}/block/sdb/sdb1/"), ""),
                ],
                &[
                    ("sys/block/sdb", &format!("../../{device}/block/sdb")),
                    (&format!("{device}/block/sdb/device"), "../../../0:0:0:11"),
                ],
            );
            let expected = Attributes {
                driver: Driver::Scsi,
                vendor: Some("Msft".into()),
                model: Some("Virtual Disk".into()),
                serial: Some("1x2".into()),
                lun: Some(11),
                vmbus_id: Some(id.into()),
                ..Attributes::default()
            };
            assert_eq!(read(&tree, "sdb"), expected);
            assert_eq!(read(&tree, "sdb1"), expected);
        }
    }

    #[test]
    fn a_kernel_without_links_and_a_name_with_a_slash_are_read() {
        let tree = Tree::new(&[
            ("sys/block/cciss!c0d0/cciss!c0d0p1/", ""),
            ("sys/block/cciss!c0d0/device/model", "a model\n"),
            ("sys/block/vdb/serial", "0e4d1c2b-8f6a-4b3c-9"),
            ("sys/block/vdb/device/", ""),
        ]);
        for name in ["cciss/c0d0", "cciss!c0d0", "cciss/c0d0p1", "cciss!c0d0p1"] {
            assert_eq!(read(&tree, name).model.as_deref(), Some("a model"));
        }
        let serial = read(&tree, "vdb").serial;
        assert_eq!(serial.as_deref(), Some("0e4d1c2b-8f6a-4b3c-9"));
    }

    #[test]
    fn what_is_no_line_of_text_is_none() {
        let too_long = "x".repeat(256);
        let of_any_size = "x".repeat(1 << 20);
        for text in [
            "",
            "\n",
            "  \n",
            "\0\0\0",
            "a\u{1b}[2Jb",
            "a\nb",
            &too_long,
            &of_any_size,
        ] {
            let tree = tree(
                &[
                    ("sys/devices/1:2:x:4/model", text),
                    ("sys/devices/1:2:x:4/vendor", text),
                    (
                        "sys/devices/1:2:x:4/vpd_pg80",
                        &format!("\0\u{1}\0\0{text}"),
                    ),
                    ("sys/devices/1:2:x:4/device_id", text),
                    ("sys/block/sdb/nsid", text),
                    ("sys/class/dmi/id/sys_vendor", text),
                ],
                &[("sys/block/sdb/device", "../../devices/1:2:x:4")],
            );
            let expected = Attributes {
                driver: Driver::Scsi,
                ..Attributes::default()
            };
            assert_eq!(read(&tree, "sdb"), expected, "{text:.20?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_and_directories_are_none() {
        let tree = Tree::new(&[
            ("sys/block/sdb/device/model/", ""),
            ("sys/block/sdb/device/vpd_pg80/", ""),
            ("sys/block/sdb/serial/", ""),
            ("sys/block/sdb/nsid", "-1"),
            ("sys/block/sdc/device/", ""),
            ("sys/class/dmi/id", "a file"),
        ]);
        for file in ["model", "vpd_pg80", "device_id"] {
            let file = tree.root().join("sys/block/sdc/device").join(file);
            fs::write(file, b"\0\x01\0\x04\xff\xfe\x80x").unwrap();
        }
        let nothing = Attributes {
            driver: Driver::Scsi,
            ..Attributes::default()
        };
        assert_eq!(read(&tree, "sdb"), nothing);
        assert_eq!(read(&tree, "sdc"), nothing);
    }

    #[test]
    fn a_page_that_is_cut_short_is_no_serial_number() {
        for page in ["", "\0", "\0\u{1}\0", "\0\u{1}\0\0"] {
            let tree = Tree::new(&[("sys/block/sdb/device/vpd_pg80", page)]);
            assert_eq!(read(&tree, "sdb").serial, None);
        }
    }

    #[test]
    fn what_is_not_there_is_none() {
        let tree = tree(
            &[("sys/block/loop0/size", "8"), ("sys/block/sdd/size", "8")],
            &[
                ("sys/block/sdb", "../devices/gone"),
                ("sys/block/sdd/device", "device"),
            ],
        );
        for name in ["loop0", "sdb", "sdc", "sdd", "", ".", "..", "../..", "/"] {
            let attributes = read(&tree, name);
            let expected = Attributes {
                driver: attributes.driver,
                ..Attributes::default()
            };
            assert_eq!(attributes, expected, "{name:?}");
        }
        // Nor is /sys itself.
        assert_eq!(read(&Tree::new(&[]), "sdb").model, None);
    }

    /// The other tree stands for the real machine.
    #[test]
    fn a_link_that_leads_out_of_the_tree_is_not_followed() {
        let outside = Tree::new(&[
            ("disk/device/model", "outside"),
            ("disk/serial", "outside"),
            ("device/vpd_pg80", "----outside"),
            ("device/model", "outside"),
            ("dmi/sys_vendor", "outside"),
        ]);
        let there = |path: &str| outside.root().join(path).to_str().unwrap().to_string();
        let up = |path: &str| format!("../../../../../../../../../../{}", there(path));
        for lead_out in [&there as &dyn Fn(&str) -> String, &up] {
            let tree = tree(
                &[("sys/block/sdc/size", "8"), ("sys/block/sdd/device/", "")],
                &[
                    ("sys/block/sdb", &lead_out("disk")),
                    ("sys/block/sdc/device", &lead_out("device")),
                    ("sys/block/sdd/serial", &lead_out("disk/serial")),
                    ("sys/block/sdd/device/model", &lead_out("device/model")),
                    (
                        "sys/block/sdd/device/vpd_pg80",
                        &lead_out("device/vpd_pg80"),
                    ),
                    ("sys/class/dmi/id", &lead_out("dmi")),
                ],
            );
            for name in ["sdb", "sdc", "sdd"] {
                let expected = Attributes {
                    driver: Driver::Scsi,
                    ..Attributes::default()
                };
                assert_eq!(read(&tree, name), expected, "{name}");
            }
        }
    }
}
