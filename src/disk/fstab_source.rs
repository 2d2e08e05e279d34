//! Which devices a line in `/etc/fstab` means: by its first field, and by the values of its
//! options (fstab(5), mount(8)).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::udev_link;
use crate::host::block_device::Number;
use crate::host::fstab::Line;
use crate::text;

/// File systems without a device of their own: what stands in the first field of such a line
/// is a server's name or none at all, even where it looks like a device.
const WITHOUT_DEVICE: [&str; 19] = [
    "9p",
    "afs",
    "ceph",
    "cifs",
    "devpts",
    "devtmpfs",
    "glusterfs",
    "lustre",
    "nfs",
    "nfs4",
    "overlay",
    "proc",
    "ramfs",
    "smb3",
    "smbfs",
    "sshfs",
    "sysfs",
    "tmpfs",
    "virtiofs",
];

/// The device that a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Where its node is, or udev's link to it.
    pub path: PathBuf,
    pub meaning: Meaning,
}

/// What an option names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Source(Source),
    Number(Number),
}

/// What the name says, also where there is no such node or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    Label(String),
    Uuid(String),
    PartUuid(String),
    PartLabel(String),
    /// The name of a link in `/dev/disk/by-id`.
    Id(String),
    /// The name of a link in `/dev/disk/by-path`.
    Path(String),
    /// Another link below `/dev/disk`, whose name says nothing.
    OtherLink,
    /// Below `/dev`: `sdb1`, `cciss/c0d0p1`, `mapper/data`.
    Node(String),
    /// Outside of `/dev`: a link to a device, an image, or a directory.
    Elsewhere,
}

/// What can stand before `=` in the first field.
struct Tag {
    name: &'static str,
    /// Of udev's links for it, below `/dev/disk`.
    directory: &'static str,
    meaning: fn(String) -> Meaning,
}

const TAGS: [Tag; 5] = [
    Tag {
        name: "LABEL",
        directory: "by-label",
        meaning: Meaning::Label,
    },
    Tag {
        name: "UUID",
        directory: "by-uuid",
        meaning: Meaning::Uuid,
    },
    Tag {
        name: "PARTUUID",
        directory: "by-partuuid",
        meaning: Meaning::PartUuid,
    },
    Tag {
        name: "PARTLABEL",
        directory: "by-partlabel",
        meaning: Meaning::PartLabel,
    },
    Tag {
        name: "ID",
        directory: "by-id",
        meaning: Meaning::Id,
    },
];

impl Source {
    /// None where no device is meant.
    pub(super) fn of(line: &Line) -> Option<Source> {
        let field = line.source.as_bytes();
        if WITHOUT_DEVICE.contains(&line.filesystem.as_str()) {
            return None;
        }
        // `ntfs-3g#/dev/vdb`, as mount.fuse(8) takes it.
        let after_type = field.iter().position(|byte| *byte == b'#').map(|at| at + 1);
        let field = match after_type {
            Some(begin) if line.filesystem == "fuse" => &field[begin..],
            _ => field,
        };
        let field = unquoted(field);
        match split_tag(field) {
            Some((_, b"")) => None,
            Some((tag, value)) => Some(Source::of_tag(tag, value)),
            None => Source::of_path(Path::new(OsStr::from_bytes(field))),
        }
    }

    /// The devices that options name: the log and the real-time device of an XFS, the journal
    /// of an ext4, the other members of a btrfs, and whatever else is called so. A journal may
    /// be named by the number of its device.
    pub(super) fn of_options(line: &Line) -> impl Iterator<Item = Named> {
        line.options.iter().filter_map(|option| {
            let (name, value) = option.split_once('=')?;
            if name == "journal_dev" {
                let hexadecimal = value.strip_prefix("0x");
                let number = hexadecimal.map_or_else(
                    || value.parse().ok(),
                    |digits| u64::from_str_radix(digits, 16).ok(),
                );
                return Some(Named::Number(Number::from_kernel(number?)));
            }
            let value = unquoted(value.as_bytes());
            let source = match split_tag(value) {
                Some((_, b"")) => None,
                Some((tag, value)) => Some(Source::of_tag(tag, value)),
                None => Source::of_path(Path::new(OsStr::from_bytes(value))),
            };
            let source = source.filter(|source| source.meaning != Meaning::Elsewhere);
            source.map(Named::Source)
        })
    }

    fn of_tag(tag: &Tag, value: &[u8]) -> Source {
        Source {
            path: Path::new("/dev/disk")
                .join(tag.directory)
                .join(udev_link::encode(value)),
            meaning: (tag.meaning)(for_people(value)),
        }
    }

    fn of_path(path: &Path) -> Option<Source> {
        let path = without_detours(path)?;
        let Ok(below) = path.strip_prefix("/dev") else {
            let meaning = Meaning::Elsewhere;
            return path.parent().is_some().then_some(Source { path, meaning });
        };
        let meaning = match below.strip_prefix("disk") {
            Ok(link) => meaning_of_link(link),
            Err(_) => Meaning::Node(for_people(below.as_os_str().as_bytes())),
        };
        let is_a_name = below.components().next().is_some();
        is_a_name.then_some(Source { path, meaning })
    }

    /// Where the node of the disk would be, and the partition's number, in a name as the kernel
    /// makes them of a disk's name: `/dev/vdb` and 1 of `/dev/vdb1`.
    pub(super) fn disk_and_partition(&self) -> Option<(PathBuf, u32)> {
        let Meaning::Node(name) = &self.meaning else {
            return None;
        };
        let disk = name.trim_end_matches(|last: char| last.is_ascii_digit());
        let partition = name[disk.len()..].parse().ok()?;
        let before_p = disk.strip_suffix('p');
        let is_numbered = |disk: &&str| disk.ends_with(|last: char| last.is_ascii_digit());
        let disk = before_p.filter(is_numbered).unwrap_or(disk);
        let is_name = !disk.is_empty() && !disk.ends_with('/');
        is_name.then(|| (Path::new("/dev").join(disk), partition))
    }

    /// Whether it is one of the names that the kernel hands out in the order in which it finds
    /// the disks: `/dev/sdb`, `/dev/vdb1`, `/dev/nvme1n1`. At another boot it may be another
    /// disk's.
    pub(super) fn is_bare_name(&self) -> bool {
        let Meaning::Node(name) = &self.meaning else {
            return false;
        };
        let is_lettered = |after: &str| {
            let letters = after.trim_end_matches(|digit: char| digit.is_ascii_digit());
            matches!(letters.len(), 1..=2) && letters.bytes().all(|b| b.is_ascii_lowercase())
        };
        let is_numbered = |after: &str| after.starts_with(|digit: char| digit.is_ascii_digit());
        ["sd", "hd", "vd", "xvd"]
            .iter()
            .any(|driver| name.strip_prefix(driver).is_some_and(is_lettered))
            || name.strip_prefix("nvme").is_some_and(is_numbered)
    }
}

fn meaning_of_link(link: &Path) -> Meaning {
    let by_tag = TAGS.iter().find_map(|tag| {
        let name = link.strip_prefix(tag.directory).ok()?.as_os_str();
        Some((tag.meaning)(for_people(&udev_link::decode(
            name.as_bytes(),
        ))))
    });
    by_tag.unwrap_or_else(|| match link.strip_prefix("by-path") {
        Ok(name) => Meaning::Path(for_people(name.as_os_str().as_bytes())),
        Err(_) => Meaning::OtherLink,
    })
}

/// `LABEL=data`: the tag and the value. The tag may be written in small letters: mount(8) does
/// not take that, but a person meant it.
fn split_tag(field: &[u8]) -> Option<(&'static Tag, &[u8])> {
    let equals = field.iter().position(|byte| *byte == b'=')?;
    let is_it = |tag: &&Tag| field[..equals].eq_ignore_ascii_case(tag.name.as_bytes());
    Some((TAGS.iter().find(is_it)?, unquoted(&field[equals + 1..])))
}

/// Without the quotes around it.
fn unquoted(text: &[u8]) -> &[u8] {
    match text {
        [b'"', within @ .., b'"'] | [b'\'', within @ .., b'\''] => within,
        _ => text,
    }
}

/// As a label is shown that was read from a disk, so that both can be compared.
fn for_people(bytes: &[u8]) -> String {
    text::printable(&String::from_utf8_lossy(bytes))
}

/// An absolute path without `//`, `.` and `..`; None of a relative one.
fn without_detours(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::from("/");
    if !path.is_absolute() {
        return None;
    }
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            _ => {}
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fstab::Fstab;

    fn source(field: &str, filesystem: &str) -> Option<Source> {
        let text = format!("{field} /d {filesystem} rw");
        Source::of(&Fstab::parse(text.as_bytes()).lines[0])
    }

    #[test]
    fn a_source_is_a_path_and_what_its_name_says() {
        use Meaning::*;
        let text = String::from;
        let cases = [
            ("/dev/sdb", "/dev/sdb", Node(text("sdb"))),
            ("//dev/./sdb/", "/dev/sdb", Node(text("sdb"))),
            ("/dev/disk/../sdb", "/dev/sdb", Node(text("sdb"))),
            ("\"/dev/sdb\"", "/dev/sdb", Node(text("sdb"))),
            ("/dev/vg/lv", "/dev/vg/lv", Node(text("vg/lv"))),
            ("/dev/root", "/dev/root", Node(text("root"))),
            ("LABEL=data", "/dev/disk/by-label/data", Label(text("data"))),
            ("Label=data", "/dev/disk/by-label/data", Label(text("data"))),
            (
                "LABEL=\"my disk\"",
                "/dev/disk/by-label/my\\x20disk",
                Label(text("my disk")),
            ),
            (
                "LABEL='my\\040disk'",
                "/dev/disk/by-label/my\\x20disk",
                Label(text("my disk")),
            ),
            (
                "LABEL=/boot",
                "/dev/disk/by-label/\\x2fboot",
                Label(text("/boot")),
            ),
            ("LABEL=..", "/dev/disk/by-label/..", Label(text(".."))),
            (
                "/dev/disk/by-label/my\\x20disk",
                "/dev/disk/by-label/my\\x20disk",
                Label(text("my disk")),
            ),
            ("UUID=\"1-2\"", "/dev/disk/by-uuid/1-2", Uuid(text("1-2"))),
            (
                "/dev/disk/by-uuid/1-2",
                "/dev/disk/by-uuid/1-2",
                Uuid(text("1-2")),
            ),
            (
                "PARTUUID=1-2",
                "/dev/disk/by-partuuid/1-2",
                PartUuid(text("1-2")),
            ),
            (
                "/dev/disk/by-partuuid/1-2",
                "/dev/disk/by-partuuid/1-2",
                PartUuid(text("1-2")),
            ),
            (
                "PARTLABEL=a",
                "/dev/disk/by-partlabel/a",
                PartLabel(text("a")),
            ),
            (
                "/dev/disk/by-partlabel/a\\x20b",
                "/dev/disk/by-partlabel/a\\x20b",
                PartLabel(text("a b")),
            ),
            (
                "ID=virtio-a",
                "/dev/disk/by-id/virtio-a",
                Id(text("virtio-a")),
            ),
            (
                "/dev/disk/by-id/virtio-a",
                "/dev/disk/by-id/virtio-a",
                Id(text("virtio-a")),
            ),
            (
                "/dev/disk/by-path/pci-0000:00:05.0",
                "/dev/disk/by-path/pci-0000:00:05.0",
                Path(text("pci-0000:00:05.0")),
            ),
            (
                "/dev/disk/azure/resource-part1",
                "/dev/disk/azure/resource-part1",
                OtherLink,
            ),
            ("/disks/data", "/disks/data", Elsewhere),
            ("/device/sdb", "/device/sdb", Elsewhere),
        ];
        for (field, path, meaning) in cases {
            let expected = Source {
                path: path.into(),
                meaning,
            };
            assert_eq!(source(field, "ext4"), Some(expected), "{field}");
        }
    }

    #[test]
    fn what_is_no_device_is_none() {
        let cases = [
            ("tmpfs", "tmpfs"),
            ("none", "proc"),
            ("server:/export", "nfs"),
            ("server:/export", "nfs4"),
            ("//server/share", "cifs"),
            ("//dev/sdb", "cifs"),
            ("/dev/sdb", "tmpfs"),
            ("sdb", "ext4"),
            ("dev/sdb", "ext4"),
            ("/dev", "none"),
            ("/dev/..", "none"),
            ("LABEL=", "ext4"),
            ("UUID=\"\"", "ext4"),
            ("=x", "ext4"),
            ("LABELS=x", "ext4"),
            ("sshfs#me@host:", "fuse"),
        ];
        for (field, filesystem) in cases {
            assert_eq!(source(field, filesystem), None, "{field} {filesystem}");
        }
        let fuse = source("ntfs-3g#/dev/sdb", "fuse").unwrap();
        assert_eq!(fuse.meaning, Meaning::Node("sdb".into()));
    }

    #[test]
    fn what_options_name_is_meant_too() {
        let named = |options: &str| {
            let text = format!("/dev/vda2 /d xfs {options}");
            let line = &Fstab::parse(text.as_bytes()).lines[0];
            let named = Source::of_options(line).map(|named| match named {
                Named::Source(source) => source.path.display().to_string(),
                Named::Number(number) => number.to_string(),
            });
            named.collect::<Vec<_>>().join(" ")
        };
        let cases = [
            (
                "rtdev=/dev/vdb,nofail,logdev=/dev/vdc1",
                "/dev/vdb /dev/vdc1",
            ),
            ("device=\"/dev/vdb\"", "/dev/vdb"),
            ("jdev=UUID=1-2", "/dev/disk/by-uuid/1-2"),
            ("x-systemd.requires=/dev/disk/by-id/x", "/dev/disk/by-id/x"),
            ("journal_dev=0xfc10", "252:16"),
            ("journal_dev=64528", "252:16"),
            (
                "journal_dev=x,subvol=/home,uid=0,comment=cloudconfig,rw",
                "",
            ),
            ("x-systemd.requires-mounts-for=/srv", ""),
        ];
        for (options, expected) in cases {
            assert_eq!(named(options), expected, "{options}");
        }
    }

    #[test]
    fn a_name_of_a_partition_is_that_of_a_disk_and_a_number() {
        let cases = [
            ("/dev/vdb1", Some(("/dev/vdb", 1))),
            ("/dev/nvme0n1p12", Some(("/dev/nvme0n1", 12))),
            ("/dev/cciss/c0d1p1", Some(("/dev/cciss/c0d1", 1))),
            ("/dev/vdb", None),
            ("/dev/mapper/x", None),
            ("/dev/7", None),
            ("LABEL=vdb1", None),
        ];
        for (field, expected) in cases {
            let found = source(field, "ext4").unwrap().disk_and_partition();
            let expected = expected.map(|(disk, number)| (PathBuf::from(disk), number));
            assert_eq!(found, expected, "{field}");
        }
    }

    #[test]
    fn bare_names_are_those_that_may_be_another_disks_at_another_boot() {
        let bare = [
            "sdb",
            "sdb1",
            "vdaa12",
            "xvdb",
            "hdc",
            "nvme0n1",
            "nvme1n1p2",
        ];
        for name in bare {
            assert!(
                source(&format!("/dev/{name}"), "ext4")
                    .unwrap()
                    .is_bare_name()
            );
        }
        let others = [
            "/dev/mapper/sdb",
            "/dev/md0",
            "/dev/sdata",
            "/dev/sd",
            "/dev/sd/b",
            "/dev/disk/by-id/sdb",
            "/dev/disk/sdb",
            "LABEL=sdb",
        ];
        for field in others {
            assert!(!source(field, "ext4").unwrap().is_bare_name(), "{field}");
        }
    }
}
