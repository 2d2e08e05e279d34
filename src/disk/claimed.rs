//! Whether `/etc/fstab` gives a disk another place than the mount point. Then it must not be
//! mounted there only because of its name, nor be formatted. A line with `nofail` is acted on
//! later than anybody looks here, so the mount table alone does not tell.
//!
//! A line means a device
//!
//! - if the path is its node, or udev's link to it. Then the line also means the disk that
//!   the device is a partition of, or the partitions of the device;
//! - if a link outside of `/dev` leads to it (`/disks/data`);
//! - if one of the line's options names it, as the log of an XFS (`logdev=/dev/vdb`), also where
//!   the line is for the mount point: there the device is a part of something;
//! - if the device has the label or UUID in the line, even where udev's link leads to another
//!   device: of two with the same label, the link leads to the one that udev saw last.
//!
//! Where there is neither node nor link, the name still says something:
//!
//! | name | it means |
//! | --- | --- |
//! | `LABEL=`, `UUID=`, `by-label`, `by-uuid` | what has that label or UUID |
//! | `PARTUUID=`, `PARTLABEL=`, `by-partuuid`, `by-partlabel` | likewise; also a partition of which they are not known |
//! | `ID=`, `by-id` | the disk that has the serial number or WWID in the name; before udev is done: also a SCSI disk of which the kernel does not show them all |
//! | `by-path` | before udev is done: a disk whose place in sysfs has no other address than the name |
//! | another link below `/dev/disk` | before udev is done: every disk, as the name says nothing |
//! | `/dev/sdb1` | that partition of the disk that `/dev/sdb` leads to, and this disk, however it is divided now; where there is no such node either, what the kernel calls so |
//! | another name in `/dev` | nothing: most likely a device that this VM does not have (`/dev/sdc`, `/dev/cdrom`, `/dev/vg/lv`); a link of the site's own cannot be told from these |
//!
//! Once udev is done with a device, all links to it are there, and a link that is missing is
//! none of its. So a line with `nofail` for a volume that only another VM has costs this VM
//! nothing, be it by path or by number. Until then, and where there is no udev, what cannot be
//! known counts against the device.
//!
//! Device-mapper and md are known by their nodes alone: what a volume is made of has a
//! signature, and is refused for that.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::candidate::{Candidate, Identifiers, Links, partition_number};
use super::content::Content;
use super::fstab_source::{Meaning, Named, Source};
use super::udev_link;
use crate::host::block_device::Number;
use crate::host::bounded::{self, Limit};
use crate::host::fstab::{FSTAB, Fstab, Line};
use crate::host::{Host, mount_table, sysfs};

/// The lines of `/etc/fstab` that are for devices, and where each leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claims(Vec<Claim>);

/// A line, and one of the devices that it means.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    line: Line,
    target: Target,
    field: Field,
}

/// Where a line names a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Source,
    Options,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    /// None where there is only a number.
    source: Option<Source>,
    leads_to: Option<Number>,
    /// Where the name leads nowhere and is one of a partition, and that of its disk leads to a
    /// disk: which one, and which partition.
    partition_of: Option<(Number, u32)>,
}

/// The line that gives a device a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Counted from 1.
    pub(crate) line: usize,
    /// The line for people: at most 255 characters, each of them printable.
    pub(crate) text: String,
    pub(crate) author: Author,
}

impl Place {
    /// An image saves such a line for another VM.
    pub(crate) fn is_of_cloud_init(&self) -> bool {
        self.author == Author::CloudInit
    }
}

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Author {
    /// The line may have come with the image, from the VM that was saved. It counts against
    /// making a file system, but not against mounting one.
    CloudInit,
    Other,
}

/// `line 4 of /etc/fstab (/dev/vdb /data ext4 nofail 0 2)`
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "line {} of {FSTAB} ({})", self.line, self.text)
    }
}

impl Claims {
    /// What `/etc/fstab` says of devices.
    ///
    /// # Errors
    ///
    /// That it cannot be read. Then nobody knows which devices it gives a place.
    pub(crate) fn read(host: &Host) -> Result<Claims> {
        let fstab = Fstab::read(host)?;
        let elsewhere = look_up_outside_of_dev(host, &fstab);
        Ok(Claims::new(fstab, |path| match path.starts_with("/dev") {
            true => host.block_number(path),
            false => elsewhere.get(path).copied(),
        }))
    }

    /// `leads_to` says which device a path leads to.
    fn new(fstab: Fstab, leads_to: impl Fn(&Path) -> Option<Number>) -> Claims {
        let mut claims = Vec::new();
        for line in fstab.lines {
            let source = Source::of(&line).map(|source| Target::of(source, &leads_to));
            let options = Source::of_options(&line).map(|named| match named {
                Named::Source(source) => Target::of(source, &leads_to),
                Named::Number(number) => Target::of_number(number),
            });
            // `/dev/vdb /data btrfs device=/dev/vdb,device=/dev/vdc`
            let options = options.filter(|target| source.as_ref() != Some(target));
            let options: Vec<Target> = options.collect();
            let of_line = |field| {
                let line = line.clone();
                move |target| Claim {
                    line: line.clone(),
                    target,
                    field,
                }
            };
            claims.extend(source.map(of_line(Field::Source)));
            claims.extend(options.into_iter().map(of_line(Field::Options)));
        }
        Claims(claims)
    }

    /// The first line that gives a device another place than the mount point. A line of
    /// cloud-init's is only taken where there is no other.
    ///
    /// `is_mount_point` says whether a path is the mount point's. It is called for lines that
    /// mean the device and for no others, as looking up the path of a network file system could
    /// take for ever.
    pub(crate) fn place_elsewhere(
        &self,
        device: &Candidate,
        is_mount_point: impl Fn(&Path) -> bool,
    ) -> Option<Place> {
        let places = self
            .0
            .iter()
            .filter(|claim| claim.means(device))
            .filter(|claim| {
                claim.field == Field::Options || !is_mount_point(&claim.line.mount_point)
            })
            .map(Claim::place);
        // Of equals, the first is taken.
        places.min_by_key(|place| place.author == Author::CloudInit)
    }

    /// The line by which this device is on the mount point, where that line has a bare name
    /// such as `/dev/vdb`: at another boot the name may be another disk's.
    pub(crate) fn bare_name_on(
        &self,
        mounted: Number,
        is_mount_point: impl Fn(&Path) -> bool,
    ) -> Option<Place> {
        let is_it = |claim: &&Claim| {
            claim.field == Field::Source
                && claim.target.leads_to == Some(mounted)
                && claim
                    .target
                    .source
                    .as_ref()
                    .is_some_and(Source::is_bare_name)
                && is_mount_point(&claim.line.mount_point)
        };
        self.0.iter().find(is_it).map(Claim::place)
    }
}

impl Claim {
    fn place(&self) -> Place {
        let author = match self.line.is_of_cloud_init() {
            true => Author::CloudInit,
            false => Author::Other,
        };
        Place {
            line: self.line.number,
            text: self.line.text.clone(),
            author,
        }
    }

    fn means(&self, device: &Candidate) -> bool {
        let Target {
            source,
            leads_to,
            partition_of,
        } = &self.target;
        let meaning = source.as_ref().map(|source| &source.meaning);
        let may_mean = || match (leads_to, partition_of) {
            (Some(number), _) => overlaps(device, *number),
            (None, Some((disk, partition))) => {
                overlaps_partition_of(device, *disk, Some(*partition))
            }
            (None, None) => meaning.is_some_and(|meaning| may_be_named(device, meaning)),
        };
        meaning.is_some_and(|meaning| has_content(device, meaning)) || may_mean()
    }
}

impl Target {
    fn of(source: Source, leads_to: impl Fn(&Path) -> Option<Number>) -> Target {
        let number = leads_to(&source.path);
        let disk = || {
            let (disk, partition) = source.disk_and_partition()?;
            Some((leads_to(&disk)?, partition))
        };
        Target {
            leads_to: number,
            partition_of: number.map_or_else(disk, |_| None),
            source: Some(source),
        }
    }

    fn of_number(number: Number) -> Target {
        Target {
            source: None,
            leads_to: Some(number),
            partition_of: None,
        }
    }
}

/// How long all of them may take.
const LOOKING_UP: Duration = Duration::from_secs(2);

/// Where sources outside of `/dev` lead to a block device. In a child: one of them may be on a
/// server that does not answer, and then it is no link to a disk of this machine.
fn look_up_outside_of_dev(host: &Host, fstab: &Fstab) -> BTreeMap<PathBuf, Number> {
    let is_bind = |line: &Line| {
        let mut options = line.options.iter();
        options.any(|option| option == "bind" || option == "rbind")
    };
    let lines = fstab.lines.iter().filter(|line| !is_bind(line));
    let sources = lines.filter_map(Source::of);
    let elsewhere = sources.filter(|source| source.meaning == Meaning::Elsewhere);
    let paths: Vec<PathBuf> = elsewhere.map(|source| source.path).collect();
    if paths.is_empty() {
        return BTreeMap::new();
    }
    let look_up = || -> Vec<Option<Number>> {
        let numbers = paths.iter().map(|path| host.block_number(path));
        numbers.collect()
    };
    let numbers = bounded::run(Limit::after(LOOKING_UP), &[], look_up).unwrap_or_default();
    let found = paths.iter().zip(numbers);
    found
        .filter_map(|(path, number)| Some((path.clone(), number?)))
        .collect()
}

/// Whether a device has the label or the UUID in a name.
fn has_content(device: &Candidate, meaning: &Meaning) -> bool {
    let is_same = |own: &Option<String>, named: &str| {
        own.as_ref()
            .is_some_and(|own| own.eq_ignore_ascii_case(named))
    };
    match meaning {
        Meaning::Label(label) => match (&device.content, device.content.label()) {
            // Windows shows such a label in capitals, and some tools write it so.
            (Content::Filesystem { kind, .. }, Some(own)) if kind == "vfat" => {
                own.eq_ignore_ascii_case(label)
            }
            (_, own) => own == Some(label),
        },
        Meaning::Uuid(uuid) => is_same(&device.uuid, uuid),
        Meaning::PartUuid(uuid) => is_same(&device.partuuid, uuid),
        Meaning::PartLabel(label) => device.partlabel.as_ref() == Some(label),
        _ => false,
    }
}

/// Whether a number is that of the device, its disk or one of its partitions.
fn overlaps(device: &Candidate, number: Number) -> bool {
    let of_disk = device.disk.as_ref().and_then(|disk| disk.number);
    number == device.number || Some(number) == of_disk || device.partitions.contains(&number)
}

/// Whether a name that leads nowhere, or not yet, may be the device's.
fn may_be_named(device: &Candidate, meaning: &Meaning) -> bool {
    let is_partition = device.disk.is_some();
    let more_links = device.links == Links::Unknown;
    match meaning {
        Meaning::Label(_) | Meaning::Uuid(_) | Meaning::Elsewhere => false,
        // Both are told, or neither is: a DOS table has no labels.
        Meaning::PartUuid(_) | Meaning::PartLabel(_) => {
            is_partition && device.partuuid.is_none() && device.partlabel.is_none()
        }
        Meaning::Id(name) => {
            let (name, partition) = udev_link::split_partition(name);
            overlaps_partition(device, partition) && may_be_identified(device, name)
        }
        Meaning::Path(name) => {
            let (name, partition) = udev_link::split_partition(name);
            let may_lead_to = |place| udev_link::may_lead_to(name, place);
            more_links
                && overlaps_partition(device, partition)
                && device.place.as_deref().is_none_or(may_lead_to)
        }
        Meaning::OtherLink => more_links,
        Meaning::Node(name) => overlaps_node(device, name),
    }
}

fn may_be_identified(device: &Candidate, name: &str) -> bool {
    let (Identifiers::All(shown) | Identifiers::AtLeast(shown)) = &device.identifiers;
    let is_named_for = |identifier: &String| udev_link::is_named_for(name, identifier);
    let may_have_others = matches!(device.identifiers, Identifiers::AtLeast(_))
        && device.links == Links::Unknown
        && udev_link::may_be_of_scsi(name);
    shown.iter().any(is_named_for) || may_have_others
}

/// Whether the partition of this number of the device's disk is the device or a part of it, or,
/// with None, whether the whole disk is.
fn overlaps_partition(device: &Candidate, partition: Option<u32>) -> bool {
    let disk = device.disk.as_ref();
    let own = disk.and_then(|disk| partition_number(&disk.name, &device.name));
    own.is_none() || partition.is_none() || own == partition
}

/// Whether this partition of a disk is the device or a part of it.
fn overlaps_partition_of(device: &Candidate, disk: Number, partition: Option<u32>) -> bool {
    let of_disk = device.disk.as_ref().and_then(|disk| disk.number);
    (device.number == disk || of_disk == Some(disk)) && overlaps_partition(device, partition)
}

/// Whether a name in `/dev` is that of the device, its disk or one of its partitions.
fn overlaps_node(device: &Candidate, name: &str) -> bool {
    let is_of = |kernels: &str| sysfs::name_of(kernels) == sysfs::name_of(name);
    is_of(&device.name)
        || match &device.disk {
            Some(disk) => is_of(&disk.name),
            None => partition_number(&device.name, name).is_some(),
        }
}

/// Whether a path in `/etc/fstab` is the mount point's, also by way of symbolic links: mount(8)
/// follows them. What lies on the way may be on a server that does not answer, and the mount point
/// is not.
pub(crate) fn is_same_directory(host: &Host, path: &Path, mount_point: &Path) -> bool {
    // Without slashes at the end, and doubled ones.
    let path: &Path = &path.components().collect::<PathBuf>();
    let real = |path: &Path| {
        let real = host.real_path(path);
        real.unwrap_or_else(|_| mount_table::real_path(host, path))
    };
    let is_same = || real(path) == real(mount_point);
    if path == mount_point || !path.is_absolute() {
        return path == mount_point;
    }
    let mounts = mount_table::read(host).unwrap_or_default();
    match mounts.iter().any(mount_table::is_of_a_server) {
        true => bounded::run(Limit::after(LOOKING_UP), &[], is_same).unwrap_or(false),
        false => is_same(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;
    use crate::clock;
    use crate::disk::candidate::Disk;
    use crate::host::tree::Tree;

    const STAGING: &str = "/staging";
    const SERIAL: &str = "0e4d1c2b-8f6a-4b3c-9";
    const UUID: &str = "6f1b0d6e-7f5c-4b3e-9a57-2f1f0a9f3c11";
    const WWID: &str = "naa.60022480c0ffee00c0ffee00c0ffee00";
    const PLACE: &str = "/sys/devices/pci0000:00/0000:00:05.0/virtio2";

    fn number(major: u64, minor: u64) -> Number {
        Number { major, minor }
    }

    fn filesystem(kind: &str, label: &str) -> Content {
        Content::Filesystem {
            kind: kind.into(),
            label: Some(label.into()),
        }
    }

    /// A virtio disk with a file system on it, to which udev has made its links.
    fn vdb() -> Candidate {
        Candidate {
            number: number(252, 16),
            name: "vdb".into(),
            disk: None,
            partitions: vec![number(252, 17)],
            content: filesystem("ext4", "data"),
            uuid: Some(UUID.into()),
            partuuid: None,
            partlabel: None,
            identifiers: Identifiers::All(vec![SERIAL.into()]),
            place: Some(PLACE.into()),
            links: Links::Made,
        }
    }

    /// Its first partition.
    fn vdb1() -> Candidate {
        Candidate {
            number: number(252, 17),
            name: "vdb1".into(),
            disk: Some(Disk {
                name: "vdb".into(),
                number: Some(number(252, 16)),
            }),
            partitions: vec![],
            partuuid: Some("c0ffee00-01".into()),
            partlabel: Some("scratch space".into()),
            ..vdb()
        }
    }

    fn named(name: &str) -> Candidate {
        Candidate {
            name: name.into(),
            ..vdb()
        }
    }

    fn with_content(content: Content) -> Candidate {
        Candidate { content, ..vdb() }
    }

    fn identified(identifiers: &[&str]) -> Candidate {
        let identifiers = identifiers.iter().map(ToString::to_string);
        Candidate {
            identifiers: Identifiers::All(identifiers.collect()),
            ..vdb()
        }
    }

    /// As long as udev is not done with it.
    fn early(device: Candidate) -> Candidate {
        Candidate {
            links: Links::Unknown,
            ..device
        }
    }

    /// A partition, where nobody has read what the partition table says of it.
    fn unread(partition: Candidate) -> Candidate {
        Candidate {
            partuuid: None,
            partlabel: None,
            ..partition
        }
    }

    /// A SCSI disk of which an old kernel shows no serial number.
    fn early_scsi() -> Candidate {
        Candidate {
            name: "sdb".into(),
            identifiers: Identifiers::AtLeast(vec![]),
            ..early(vdb())
        }
    }

    /// Checks rows of three columns: `against` where the line speaks against the device, else
    /// `nothing`; where the path in the line's first field leads; the line.
    fn check(device: Candidate, rows: &str) {
        for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
            let (expected, rest) = row.split_once(' ').unwrap();
            let (to, line) = rest.trim_start().split_once(' ').unwrap();
            let leads_to = match to {
                "itself" => Some(device.number),
                "disk" => device.disk.as_ref().and_then(|disk| disk.number),
                "partition" => device.partitions.first().copied(),
                "another" => Some(number(252, 32)),
                "nowhere" => None,
                other => panic!("{other}"),
            };
            let fstab = Fstab::parse(line.trim_start().as_bytes());
            let sources: Vec<PathBuf> = fstab
                .lines
                .iter()
                .filter_map(Source::of)
                .map(|source| source.path)
                .collect();
            let claims = Claims::new(fstab, |path| {
                leads_to.filter(|_| sources.iter().any(|source| source == path))
            });
            let is_mount_point = |path: &Path| {
                let host = Host::at("/no-such-directory");
                is_same_directory(&host, path, Path::new(STAGING))
            };
            let place = claims.place_elsewhere(&device, is_mount_point);
            let found = place.map_or("nothing", |_| "against");
            assert_eq!(found, expected, "{row}\n{device:?}");
        }
    }

    #[test]
    fn a_node_means_its_device_and_a_name_without_a_node_what_has_it() {
        check(
            vdb(),
            r#"
            against  itself    /dev/vdb /data ext4 nofail 0 2
            against  nowhere   /dev/vdb /data ext4 nofail 0 2
            nothing  another   /dev/vdb /data ext4 nofail 0 2
            nothing  nowhere   /dev/vdc /data ext4 nofail 0 2
            against  itself    /dev/sdb /data ext4 nofail 0 2
            nothing  nowhere   /dev/sdb /data ext4 nofail 0 2
            against  nowhere   /dev//vdb/ /data ext4
            against  itself    /dev/vdb /data ext4 noauto
            against  itself    /dev/vdb
            against  itself    /dev/vdb /data
            against  itself    /dev/vdb none swap sw 0 0
            against  itself    /dev/vdb swap swap sw 0 0
            against  itself    /dev/vdb none ext4 noauto 0 0
            against  itself    /dev/vdb /data ext4 x-systemd.automount
            against  nowhere   ntfs-3g#/dev/vdb /data fuse
            nothing  itself    #/dev/vdb /data ext4
        "#,
        );
        check(
            early(vdb()),
            r#"
            nothing  nowhere   /dev/vdc /data ext4 nofail 0 2
        "#,
        );
        check(
            named("cciss/c0d1"),
            r#"
            against  nowhere   /dev/cciss/c0d1 /data ext4
            against  nowhere   /dev/cciss/c0d1p1 /d ext4
            nothing  nowhere   /dev/cciss/c0d10 /d ext4
        "#,
        );
        check(
            named("cciss!c0d1"),
            r#"
            against  nowhere   /dev/cciss/c0d1 /data ext4
        "#,
        );
    }

    #[test]
    fn a_line_for_a_disk_is_one_for_its_partitions_and_the_other_way_round() {
        check(
            vdb(),
            r#"
            against  partition /dev/vdb1 /data ext4
            against  nowhere   /dev/vdb1 /data ext4
            against  nowhere   /dev/vdb7 /data ext4
            nothing  nowhere   /dev/vdbc /data ext4
        "#,
        );
        check(
            vdb1(),
            r#"
            against  disk      /dev/vdb /data ext4
            against  nowhere   /dev/vdb /data ext4
            against  itself    /dev/vdb1 /data ext4
            against  nowhere   /dev/vdb1 /data ext4
            nothing  another   /dev/vdb2 /data ext4
            nothing  nowhere   /dev/vdb2 /data ext4
            nothing  nowhere   /dev/vdb11 /data ext4
        "#,
        );
        check(
            named("nvme0n1"),
            r#"
            against  nowhere   /dev/nvme0n1p1 /d ext4
            nothing  nowhere   /dev/nvme0n11 /d ext4
        "#,
        );
    }

    #[test]
    fn another_name_in_dev_means_only_what_it_leads_to() {
        check(
            vdb(),
            r#"
            against  itself    /dev/mapper/vg-lv /data xfs
            nothing  another   /dev/vg/lv /data xfs
            against  itself    /dev/vg/lv /data xfs
            nothing  another   /dev/root / ext3
            against  itself    /dev/mydata /data ext4
        "#,
        );
        check(
            early(vdb()),
            r#"
            nothing  nowhere   /dev/mapper/vg-lv /data xfs
            nothing  nowhere   /dev/root / ext3
            nothing  nowhere   /dev/mydata /data ext4
        "#,
        );
    }

    #[test]
    fn what_is_no_device_means_none() {
        check(
            early(vdb()),
            r#"
            nothing  nowhere   tmpfs /data tmpfs
        "#,
        );
        check(
            vdb(),
            r#"
            nothing  nowhere   server:/dev/vdb /data nfs
            nothing  itself    //dev/vdb /data cifs
            nothing  itself    /dev/vdb /data tmpfs
            nothing  nowhere   /srv/vdb /data ext4 loop
            against  itself    /srv/vdb /data ext4
            nothing  itself    vdb /data ext4
        "#,
        );
    }

    #[test]
    fn a_label_means_what_has_it_and_what_its_link_leads_to() {
        check(
            vdb(),
            r#"
            against  itself    LABEL=data /data ext4
            against  nowhere   LABEL=data /data ext4
            against  another   LABEL=data /data ext4
            against  itself    LABEL=other /data ext4
            against  partition LABEL=other /data ext4
            nothing  another   LABEL=other /data ext4
            against  nowhere   LABEL="data" /data ext4
            against  nowhere   LABEL='data' /data ext4
            against  nowhere   label=data /data ext4
            nothing  nowhere   LABEL=DATA /data ext4
            nothing  nowhere   LABEL=dat /data ext4
            nothing  nowhere   LABEL= /data ext4
            against  nowhere   LABEL=data none swap
            against  itself    /dev/disk/by-label/data /d ext4
            against  nowhere   /dev/disk/by-label/data /d ext4
            against  itself    /dev/disk/by-label/x /d ext4
        "#,
        );
        check(
            early(vdb()),
            r#"
            nothing  nowhere   LABEL=other /data ext4
            nothing  nowhere   /dev/disk/by-label/x /d ext4
        "#,
        );
        check(
            with_content(filesystem("ext4", "my disk")),
            r#"
            against  nowhere   LABEL="my disk" /data ext4
            against  nowhere   LABEL=my\040disk /data ext4
            against  nowhere   /dev/disk/by-label/my\x20disk /data ext4
        "#,
        );
        check(
            with_content(filesystem("ext3", "/data")),
            r#"
            against  nowhere   /dev/disk/by-label/\x2fdata /data ext4
        "#,
        );
        check(
            with_content(filesystem("vfat", "ephemeral0")),
            r#"
            against  nowhere   LABEL=EPHEMERAL0 /d vfat
        "#,
        );
        check(
            with_content(Content::Other {
                kind: "swap".into(),
                label: Some("swap".into()),
            }),
            r#"
            against  nowhere   LABEL=swap none swap
        "#,
        );
        check(
            with_content(Content::Nothing),
            r#"
            nothing  nowhere   LABEL=data /data ext4
        "#,
        );
    }

    #[test]
    fn a_uuid_means_what_has_it_in_whatever_case() {
        check(
            vdb(),
            r#"
            against  itself    UUID=6f1b0d6e-7f5c-4b3e-9a57-2f1f0a9f3c11 /d ext4
            against  nowhere   UUID=6f1b0d6e-7f5c-4b3e-9a57-2f1f0a9f3c11 /d ext4
            against  nowhere   UUID="6F1B0D6E-7F5C-4B3E-9A57-2F1F0A9F3C11" /d ext4
            against  nowhere   /dev/disk/by-uuid/6f1b0d6e-7f5c-4b3e-9a57-2f1f0a9f3c11 /d ext4
            against  itself    /dev/disk/by-uuid/abcd-1234 /d vfat
        "#,
        );
        check(
            early(vdb()),
            r#"
            nothing  nowhere   UUID=abcd-1234 /d vfat
        "#,
        );
        check(
            Candidate {
                uuid: Some("ABCD-1234".into()),
                ..vdb()
            },
            r#"
            against  nowhere   UUID=abcd-1234 /d vfat
        "#,
        );
    }

    #[test]
    fn what_is_not_known_of_a_partition_counts() {
        check(
            vdb1(),
            r#"
            against  itself    PARTUUID=c0ffee00-01 /d ext4
            against  nowhere   PARTUUID=C0FFEE00-01 /d ext4
            against  itself    /dev/disk/by-partuuid/c0ffee00-01 /d ext4
            against  nowhere   /dev/disk/by-partuuid/c0ffee00-01 /d ext4
            against  nowhere   PARTLABEL=scratch\040space /d ext4
            against  itself    PARTLABEL="scratch space" /d ext4
            against  nowhere   /dev/disk/by-partlabel/scratch\x20space /d ext4
            against  itself    /dev/disk/by-partlabel/other /d ext4
            nothing  nowhere   /dev/disk/by-partlabel/other /d ext4
        "#,
        );
        check(
            vdb(),
            r#"
            against  partition PARTUUID=c0ffee00-01 /d ext4
        "#,
        );
        check(
            early(vdb1()),
            r#"
            nothing  nowhere   PARTUUID=c0ffee00-02 /d ext4
            nothing  nowhere   PARTLABEL=other /d ext4
        "#,
        );
        check(
            early(unread(vdb1())),
            r#"
            against  nowhere   PARTUUID=c0ffee00-02 /d ext4
            against  nowhere   PARTLABEL=other /d ext4
        "#,
        );
        check(
            unread(vdb1()),
            r#"
            against  nowhere   PARTUUID=c0ffee00-02 /d ext4
            against  nowhere   PARTLABEL=other /d ext4
            nothing  another   PARTUUID=c0ffee00-02 /d ext4
        "#,
        );
        check(
            Candidate {
                partlabel: None,
                ..vdb1()
            },
            r#"
            nothing  nowhere   PARTLABEL=other /d ext4
        "#,
        );
        check(
            early(vdb()),
            r#"
            nothing  nowhere   PARTUUID=c0ffee00-02 /d ext4
        "#,
        );
    }

    #[test]
    fn a_link_by_id_means_the_disk_with_that_number() {
        check(
            vdb(),
            r#"
            against  itself    /dev/disk/by-id/virtio-x /d ext4
            against  nowhere   /dev/disk/by-id/virtio-0e4d1c2b-8f6a-4b3c-9 /d ext4
            nothing  another   /dev/disk/by-id/virtio-0e4d1c2b-8f6a-4b3c-9 /d ext4
            against  nowhere   ID=virtio-0e4d1c2b-8f6a-4b3c-9 /d ext4
            nothing  nowhere   ID=virtio-other /d ext4
            against  nowhere   ID=virtio-0e4d1c2b-8f6a-4b3c-9-part1 /d ext4
        "#,
        );
        check(
            early(vdb()),
            r#"
            nothing  nowhere   /dev/disk/by-id/virtio-other /d ext4
        "#,
        );
        check(
            early(identified(&[])),
            r#"
            nothing  nowhere   /dev/disk/by-id/virtio-other /d ext4
        "#,
        );
        check(
            vdb1(),
            r#"
            against  nowhere   ID=virtio-0e4d1c2b-8f6a-4b3c-9-part1 /d ext4
            nothing  nowhere   ID=virtio-0e4d1c2b-8f6a-4b3c-9-part2 /d ext4
            against  nowhere   ID=virtio-0e4d1c2b-8f6a-4b3c-9 /d ext4
        "#,
        );
        check(
            identified(&[WWID]),
            r#"
            against  nowhere   ID=scsi-360022480c0ffee00c0ffee00c0ffee00 /d ext4
            against  nowhere   ID=wwn-0x60022480c0ffee00c0ffee00c0ffee00 /d ext4
            nothing  nowhere   ID=wwn-0x60022480c0ffee00c0ffee00c0ffee01 /d ext4
        "#,
        );
        check(
            identified(&["vol0123456789abcdef0"]),
            r#"
            against  nowhere   ID=nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0 /d ext4
        "#,
        );
        check(
            identified(&["scratch"]),
            r#"
            against  nowhere   ID=google-scratch /d ext4
        "#,
        );
        check(
            early_scsi(),
            r#"
            against  nowhere   ID=scsi-0QEMU_QEMU_HARDDISK_x /d ext4
            against  nowhere   ID=scsi-0QEMU_QEMU_HARDDISK_x-part3 /d ext4
            nothing  nowhere   ID=virtio-x /d ext4
        "#,
        );
        check(
            Candidate {
                links: Links::Made,
                ..early_scsi()
            },
            r#"
            nothing  nowhere   ID=scsi-0QEMU_QEMU_HARDDISK_x /d ext4
        "#,
        );
    }

    #[test]
    fn a_link_by_path_that_is_missing_counts_only_where_it_could_still_come() {
        check(
            vdb(),
            r#"
            against  itself    /dev/disk/by-path/pci-0000:00:05.0 /d ext4 nofail
            nothing  nowhere   /dev/disk/by-path/pci-0000:00:05.0 /d ext4 nofail
        "#,
        );
        check(
            early(vdb()),
            r#"
            nothing  another   /dev/disk/by-path/pci-0000:00:05.0 /d ext4 nofail
            against  nowhere   /dev/disk/by-path/pci-0000:00:05.0 /d ext4 nofail
            against  nowhere   /dev/disk/by-path/pci-0000:00:05.0-part1 /d ext4
            nothing  nowhere   /dev/disk/by-path/pci-0000:00:06.0 /d ext4 nofail
        "#,
        );
        check(
            early(vdb1()),
            r#"
            against  nowhere   /dev/disk/by-path/pci-0000:00:05.0-part1 /d ext4
            nothing  nowhere   /dev/disk/by-path/pci-0000:00:05.0-part2 /d ext4
            against  nowhere   /dev/disk/by-path/pci-0000:00:05.0 /d ext4
        "#,
        );
        check(
            Candidate {
                place: None,
                ..early(vdb())
            },
            r#"
            against  nowhere   /dev/disk/by-path/pci-0000:00:06.0 /d ext4 nofail
        "#,
        );
    }

    #[test]
    fn a_link_whose_name_says_nothing_counts_until_udev_is_done() {
        check(
            vdb(),
            r#"
            against  partition /dev/disk/azure/resource-part1 /mnt ext4
            nothing  nowhere   /dev/disk/azure/resource-part1 /mnt ext4
        "#,
        );
        check(
            early(vdb()),
            r#"
            against  nowhere   /dev/disk/azure/resource-part1 /mnt ext4
        "#,
        );
    }

    #[test]
    fn a_line_for_the_mount_point_is_no_other_place() {
        check(
            vdb(),
            r#"
            nothing  itself    /dev/vdb /staging ext4 nofail 0 2
            nothing  itself    /dev/vdb /staging// ext4
            nothing  itself    /dev/vdb //staging/. ext4
            nothing  nowhere   LABEL=data /staging ext4
            against  itself    /dev/vdb /staging2 ext4
            against  itself    /dev/vdb /staging/jobs ext4
            against  itself    /dev/vdb staging ext4
        "#,
        );
    }

    fn claims(text: &str) -> Claims {
        let nodes = [("/dev/vda1", 1), ("/dev/vdb", 16), ("/dev/vdb1", 17)];
        Claims::new(Fstab::parse(text.as_bytes()), |path| {
            let node = nodes.iter().find(|(node, _)| path == Path::new(node));
            node.map(|(_, minor)| number(252, *minor))
        })
    }

    #[test]
    fn what_an_option_names_belongs_to_that_line() {
        let lines = [
            ("/dev/vda1 /data xfs rtdev=/dev/vdb,nofail", true),
            ("/dev/vda1 /data xfs nofail,logdev=/dev/vdb", true),
            (
                "/dev/vda1 /data btrfs device=/dev/vdc,device=/dev/vdb",
                true,
            ),
            ("/dev/vda1 /data ext4 journal_path=/dev/vdb1", true),
            ("/dev/vda1 /data ext4 journal_dev=0xfc10", true),
            ("/dev/vda1 /staging reiserfs jdev=/dev/vdb", true),
            ("tmpfs /data tmpfs device=/dev/vdb", true),
            (
                "/dev/vdb /staging btrfs device=/dev/vdb,device=/dev/vdc",
                false,
            ),
            (
                "/dev/vda1 /data ext4 journal_path=/dev/vda1,loop=/dev/loop0",
                false,
            ),
        ];
        for (line, is_against) in lines {
            let place = claims(line).place_elsewhere(&vdb(), is_staging);
            assert_eq!(place.is_some(), is_against, "{line}");
        }
    }

    #[test]
    fn a_name_of_a_partition_means_one_of_the_disk_that_the_disks_name_leads_to() {
        // What is called vdb is what the kernel calls sda.
        let sda = |partition: Option<u64>| Candidate {
            number: number(252, 16 + partition.unwrap_or(0)),
            name: partition.map_or("sda".into(), |partition| format!("sda{partition}")),
            disk: partition.map(|_| Disk {
                name: "sda".into(),
                number: Some(number(252, 16)),
            }),
            ..vdb()
        };
        let kernels_vdb = Candidate {
            number: number(252, 32),
            ..vdb()
        };
        let cases = [
            ("/dev/vdb2 /data ext4", sda(None), true),
            ("/dev/vdb2 /data ext4", sda(Some(2)), true),
            ("/dev/vdb2 /data ext4", sda(Some(3)), false),
            ("/dev/vdb2 /data ext4", kernels_vdb.clone(), false),
            ("/dev/vdc2 /data ext4", sda(None), false),
            ("/dev/vdc2 /data ext4", kernels_vdb, false),
        ];
        for (line, device, is_against) in cases {
            let place = claims(line).place_elsewhere(&device, is_staging);
            assert_eq!(place.is_some(), is_against, "{line} {device:?}");
        }
    }

    fn is_staging(path: &Path) -> bool {
        path == Path::new(STAGING)
    }

    #[test]
    fn the_line_is_told_that_gives_the_place() {
        const MINE: &str = "/dev/vdb /data ext4 nofail 0 2";
        const CLOUD: &str = "/dev/vdb /mnt auto nofail,comment=cloudconfig 0 2";
        const STAGED: &str = "/dev/vdb /staging ext4 nofail 0 2";
        const OTHER: &str = "/dev/vda1 / ext4 defaults 0 1";
        type Case<'a> = (&'a [&'a str], Option<(usize, Author)>);
        let cases: [Case; 9] = [
            (&[], None),
            (&[OTHER], None),
            (&[STAGED], None),
            (&[OTHER, MINE], Some((2, Author::Other))),
            (&[STAGED, MINE], Some((2, Author::Other))),
            (&["# mine", "", MINE, MINE], Some((3, Author::Other))),
            (&[OTHER, CLOUD], Some((2, Author::CloudInit))),
            (&[CLOUD, MINE], Some((2, Author::Other))),
            (&[CLOUD, CLOUD], Some((1, Author::CloudInit))),
        ];
        for (lines, expected) in cases {
            let place = claims(&lines.join("\n")).place_elsewhere(&vdb(), is_staging);
            let seen = place.map(|place| (place.line, place.author));
            assert_eq!(seen, expected, "{lines:?}");
        }
        let place = claims("\n\t/dev/vdb\t/data  ext4").place_elsewhere(&vdb(), is_staging);
        let shown = place.unwrap().to_string();
        assert_eq!(shown, "line 2 of /etc/fstab (/dev/vdb /data ext4)");
    }

    #[test]
    fn the_mount_point_is_asked_only_of_lines_that_mean_the_device() {
        let text = "server:/home /home nfs\n/dev/vda1 / ext4\nLABEL=x /x ext4\n/dev/vdb /data ext4";
        let is_mount_point = |path: &Path| {
            assert_eq!(path, Path::new("/data"));
            true
        };
        let place = claims(text).place_elsewhere(&vdb(), is_mount_point);
        assert_eq!(place, None);
    }

    #[test]
    fn a_bare_name_on_the_mount_point_is_told() {
        let cases = [
            ("/dev/vda1 / ext4\n/dev/vdb /staging ext4", Some(2)),
            ("/dev/vdb /data ext4", None),
            ("/dev/vdb1 /staging ext4", None),
            ("LABEL=data /staging ext4", None),
            ("# /dev/vdb /staging ext4", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let place = claims(text).bare_name_on(number(252, 16), is_staging);
            assert_eq!(place.map(|place| place.line), expected, "{text}");
        }
    }

    #[test]
    fn the_mount_point_is_known_also_by_way_of_links() {
        let tree = Tree::new(&[("mnt/staging/", ""), ("staging/", ""), ("data/", "")]);
        for (link, target) in [("scratch", "staging"), ("var", "mnt"), ("loop", "loop")] {
            symlink(target, tree.root().join(link)).unwrap();
        }
        let cases = [
            ("/staging", "/staging", true),
            ("/staging//", "/staging", true),
            ("//staging/.", "/staging", true),
            ("/data/../staging", "/staging", true),
            ("/scratch", "/staging", true),
            ("/data", "/staging", false),
            ("/mnt/staging", "/staging", false),
            ("/var/staging", "/mnt/staging", true),
            ("/mnt/staging", "/var/staging", true),
            // Neither is there yet.
            ("/var/new", "/mnt/new", true),
            ("/new", "/new", true),
            ("/new", "/newer", false),
            ("/loop", "/staging", false),
            ("none", "/staging", false),
            ("swap", "/staging", false),
            ("staging", "/staging", false),
            ("", "/staging", false),
        ];
        for (path, mount_point, expected) in cases {
            let is_it = is_same_directory(&tree.host(), Path::new(path), Path::new(mount_point));
            assert_eq!(is_it, expected, "{path} {mount_point}");
        }
    }

    #[test]
    fn claims_are_read_with_what_their_paths_lead_to() {
        let tree = Tree::new(&[("etc/fstab", "/dev/vda / ext4\n/dev/vdb /data ext4 nofail\n")]);
        let host = tree.with_devices(&["vda", "vdb"], Some("vda"));
        let device = Candidate {
            number: number(252, 1),
            ..vdb()
        };
        let place = Claims::read(&host)
            .unwrap()
            .place_elsewhere(&device, is_staging);
        assert_eq!(place.unwrap().line, 2);
        assert_eq!(
            Claims::read(&Tree::new(&[]).host()).unwrap(),
            Claims::default()
        );
        assert!(Claims::read(&Tree::new(&[("etc/fstab/", "")]).host()).is_err());
    }

    #[test]
    fn many_lines_are_nothing_to_wait_for() {
        let start = clock::computed();
        let text = "LABEL=a /b c\n".repeat(20_000) + "/dev/vdb /data ext4";
        let place = claims(&text).place_elsewhere(&vdb(), is_staging);
        assert_eq!(place.unwrap().line, 20_001);
        let took = clock::computed() - start;
        assert!(took.as_secs() < 2, "{took:?}");
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(
            source in "(/dev/(disk/by-(id|path|label|uuid|partuuid|partlabel)/)?|(LABEL|UUID|ID)=)?.{0,20}",
            rest in ".{0,20}",
            devices in prop::sample::select(vec![vdb(), early(vdb1()), early_scsi()]),
        ) {
            let place = claims(&format!("{source} {rest}")).place_elsewhere(&devices, is_staging);
            prop_assert!(place.is_none_or(|place| place.line >= 1));
        }

        /// Whatever else is in the file, a line for the disk counts.
        #[test]
        fn no_other_line_hides_one(before in "(.{0,40}\n){0,3}", after in "(\n.{0,40}){0,3}") {
            let text = format!("{before}/dev/vdb /data ext4 nofail 0 2{after}");
            let place = claims(&text).place_elsewhere(&vdb(), is_staging);
            prop_assert!(place.is_some_and(|place| place.author == Author::Other));
        }
    }
}
