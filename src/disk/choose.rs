//! Which device is the scratch disk: a pure function of the specs and of what was
//! observed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::observation::{Named, Observation, Observed};
use super::reason::{Reason, Zero};
use super::signature::Content;
use crate::config::Spec;
use crate::host::block_device::Number;

/// A device that may be mounted as the scratch disk. Only [`choose`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accepted {
    node: PathBuf,
    number: Number,
    size_bytes: u64,
    filesystem: String,
    label: Option<String>,
    found_by: FoundBy,
    mounted_on: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FoundBy {
    Label,
    Name,
}

impl Accepted {
    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    pub(crate) fn number(&self) -> Number {
        self.number
    }

    /// What was on it when it was accepted.
    pub(crate) fn content(&self) -> Content {
        Content::Filesystem {
            kind: self.filesystem.clone(),
            label: self.label.clone(),
        }
    }

    /// libblkid's name for the file system.
    pub(crate) fn filesystem(&self) -> &str {
        &self.filesystem
    }

    pub(crate) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    pub(crate) fn found_by(&self) -> FoundBy {
        self.found_by
    }

    /// Where else it is mounted already.
    pub(crate) fn mounted_on(&self) -> &[PathBuf] {
        &self.mounted_on
    }
}

/// A disk with nothing on it that would be used if there were a file system on it.
/// Only [`choose`] makes one, and only of a disk that was seen to be all zero.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Blank {
    node: PathBuf,
    number: Number,
}

impl Blank {
    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    pub(crate) fn number(&self) -> Number {
        self.number
    }
}

/// What became of one device under one spec, or of a spec that led to no device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) spec: Spec,
    /// The spec's own path where there is no device behind it.
    pub(crate) device: Option<PathBuf>,
    pub(crate) judgement: Judgement,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judgement {
    Accepted(Accepted),
    Absent,
    Rejected(Reason),
}

/// The verdicts in the order of the specs, and what a person should know of them.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) warnings: Vec<String>,
    /// The first disk that only lacks a file system.
    blank: Option<Blank>,
}

impl Choice {
    /// The accepted devices, in the order in which they are to be tried.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = &Accepted> {
        self.verdicts
            .iter()
            .filter_map(|verdict| match &verdict.judgement {
                Judgement::Accepted(accepted) => Some(accepted),
                _ => None,
            })
    }

    /// The one that is to be tried.
    pub(crate) fn first_accepted(&self) -> Option<&Accepted> {
        self.accepted().next()
    }

    /// Rejects what could not be mounted, under every spec that led to it.
    pub(crate) fn refuse(&mut self, refused: &Accepted, error: &str) {
        for verdict in &mut self.verdicts {
            let is_it = |accepted: &Accepted| {
                accepted.number == refused.number && accepted.content() == refused.content()
            };
            if matches!(&verdict.judgement, Judgement::Accepted(accepted) if is_it(accepted)) {
                verdict.judgement = Judgement::Rejected(Reason::NotMountable(error.into()));
            }
        }
    }

    /// The first disk that only lacks a file system.
    pub(crate) fn blank(&self) -> Option<&Blank> {
        self.blank.as_ref()
    }
}

/// Judges every device that a spec leads to.
pub(crate) fn choose(specs: &[Spec], observed: &Observed) -> Choice {
    let mut choice = Choice::default();
    for spec in specs {
        let found = match spec {
            Spec::Label(label) => judge_label(label, observed, &mut choice.warnings),
            Spec::Name(path) => vec![judge_name(path, observed, &mut choice.blank)],
        };
        choice
            .verdicts
            .extend(found.into_iter().map(|(device, judgement)| Verdict {
                spec: spec.clone(),
                device,
                judgement,
            }));
    }
    choice
        .warnings
        .extend(labels_unknown(specs, observed, &choice.verdicts));
    // A disk that hangs may hang whatever else touches it: that is told in any case.
    let silent = silent(observed);
    choice
        .warnings
        .extend(silent.map(|(device, reason)| format!("{} {reason}", device.node.display())));
    choice
}

/// While a label that is asked for was not found, a device that shows no label for a
/// reason of its own may be the one: nobody should have to guess that.
fn labels_unknown(specs: &[Spec], observed: &Observed, verdicts: &[Verdict]) -> Vec<String> {
    let is_label = |spec: &Spec| matches!(spec, Spec::Label(_));
    let found = verdicts.iter().any(|verdict| {
        is_label(&verdict.spec) && matches!(verdict.judgement, Judgement::Accepted(_))
    });
    if found || !specs.iter().any(is_label) {
        return Vec::new();
    }
    observed
        .devices
        .iter()
        .filter_map(|device| match refuse(device) {
            Some(reason @ (Reason::Unreadable(_) | Reason::Ambivalent(_))) => Some(format!(
                "{} {reason}; whether it has a label that is asked for is not known",
                device.node.display()
            )),
            _ => None,
        })
        .collect()
}

/// The devices that do not answer, with the reason that this is.
fn silent(observed: &Observed) -> impl Iterator<Item = (&Observation, Reason)> {
    observed
        .devices
        .iter()
        .filter_map(|device| match device.content {
            Content::NoAnswer { after } => Some((device, Reason::NoAnswer(after))),
            _ => None,
        })
}

type Judged = (Option<PathBuf>, Judgement);

fn judge_label(label: &str, observed: &Observed, warnings: &mut Vec<String>) -> Vec<Judged> {
    let mut labelled: Vec<&Observation> = observed
        .devices
        .iter()
        .filter(|device| device.content.label() == Some(label))
        .collect();
    // Nobody knows whether one of these has it.
    let silent = silent(observed).map(|(device, reason)| {
        let node = device.node.clone();
        (Some(node), Judgement::Rejected(reason))
    });
    let silent: Vec<Judged> = silent.collect();
    if labelled.is_empty() && silent.is_empty() {
        return vec![(None, Judgement::Absent)];
    }
    labelled.sort_by_key(|device| (is_volume(device), natural_order(&device.node)));

    let mut taken: Option<&Observation> = None;
    let mut judged = Vec::new();
    for device in labelled {
        let judgement = match (refuse(device), taken) {
            (Some(reason), _) => Judgement::Rejected(reason),
            (None, Some(first)) => {
                warnings.push(format!(
                    "{} and {} both have the label {label}; {} is taken",
                    first.node.display(),
                    device.node.display(),
                    first.node.display(),
                ));
                Judgement::Rejected(Reason::SameLabelAs(first.node.clone()))
            }
            (None, None) => {
                taken = Some(device);
                accept(device, FoundBy::Label)
            }
        };
        judged.push((Some(device.node.clone()), judgement));
    }
    judged.extend(silent);
    judged
}

fn judge_name(path: &Path, observed: &Observed, blank: &mut Option<Blank>) -> Judged {
    let device = Some(path.to_path_buf());
    let number = match observed.names.get(path) {
        None | Some(Named::Missing) => return (None, Judgement::Absent),
        Some(Named::NotABlockDevice(kind)) => {
            return (device, Judgement::Rejected(Reason::NotABlockDevice(kind)));
        }
        Some(Named::Unreachable(error)) => {
            return (
                device,
                Judgement::Rejected(Reason::Unreachable(error.clone())),
            );
        }
        Some(Named::BlockDevice(number)) => *number,
    };
    let Some(found) = observed
        .devices
        .iter()
        .find(|device| device.number == number)
    else {
        return (None, Judgement::Absent);
    };
    // A name says less than a label does: that a device has it may be chance.
    let judgement = match refuse(found).or_else(|| refuse_for_a_name(found)) {
        Some(Reason::Blank(_)) if refuse_for_a_name(found).is_none() => {
            if !found.is_zero {
                return (device, Judgement::Rejected(Reason::Blank(Zero::NotSeen)));
            }
            // Use the resolved node: the link may change.
            blank.get_or_insert_with(|| Blank {
                node: found.node.clone(),
                number: found.number,
            });
            Judgement::Rejected(Reason::Blank(Zero::Seen))
        }
        Some(reason) => Judgement::Rejected(reason),
        None => accept(found, FoundBy::Name),
    };
    (device, judgement)
}

/// What speaks against a device however it was found. The weightiest comes first: it
/// is the one that is told.
fn refuse(device: &Observation) -> Option<Reason> {
    if device.on_root_disk {
        return Some(Reason::RootDisk);
    }
    if !device.holders.is_empty() {
        return Some(Reason::Held(device.holders.clone()));
    }
    let filesystem = match &device.content {
        Content::Unreadable { error } => return Some(Reason::Unreadable(error.clone())),
        Content::NoAnswer { after } => return Some(Reason::NoAnswer(*after)),
        Content::Nothing if device.read_only => return Some(Reason::ReadOnly),
        Content::Nothing if !device.partitions.is_empty() => {
            return Some(Reason::HasPartitions(device.partitions.clone()));
        }
        Content::Nothing => return Some(Reason::Blank(Zero::NotSeen)),
        Content::Ambivalent { kinds } => return Some(Reason::Ambivalent(kinds.clone())),
        Content::Other { kind, .. } => return Some(Reason::NotAFilesystem(kind.clone())),
        Content::PartitionTable { kind } => return Some(Reason::PartitionTable(kind.clone())),
        Content::Filesystem { kind, .. } => kind,
    };
    let is_config_drive = |label: &str| label.eq_ignore_ascii_case("config-2");
    if device.content.label().is_some_and(is_config_drive) {
        return Some(Reason::ConfigDrive);
    }
    if READ_ONLY_FILESYSTEMS.contains(&filesystem.as_str()) {
        return Some(Reason::ReadOnlyFilesystem(filesystem.clone()));
    }
    device.read_only.then_some(Reason::ReadOnly)
}

/// What speaks against a device that only a name led to.
fn refuse_for_a_name(device: &Observation) -> Option<Reason> {
    if !device.mounted_on.is_empty() {
        return Some(Reason::Mounted(device.mounted_on.clone()));
    }
    let serial = device
        .serial
        .clone()
        .filter(|serial| is_volume_serial(serial));
    serial.map(Reason::Volume)
}

fn accept(device: &Observation, found_by: FoundBy) -> Judgement {
    let Content::Filesystem { kind, label } = &device.content else {
        unreachable!("refuse() lets nothing but file systems through");
    };
    Judgement::Accepted(Accepted {
        node: device.node.clone(),
        number: device.number,
        size_bytes: device.size_bytes,
        filesystem: kind.clone(),
        label: label.clone(),
        found_by,
        mounted_on: device.mounted_on.clone(),
    })
}

/// File systems that Linux cannot write to, or only once.
const READ_ONLY_FILESYSTEMS: [&str; 6] = ["iso9660", "udf", "squashfs", "cramfs", "erofs", "romfs"];

fn is_volume(device: &Observation) -> bool {
    device.serial.as_deref().is_some_and(is_volume_serial)
}

/// OpenStack gives a volume its UUID as serial number, of which virtio shows the first
/// 20 characters (VIRTIO_BLK_ID_BYTES) and SCSI all; ephemeral disks get none.
fn is_volume_serial(serial: &str) -> bool {
    const UUID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    (serial.len() == 20 || serial.len() == UUID.len())
        && serial
            .bytes()
            .zip(UUID.bytes())
            .all(|(byte, place)| match place {
                b'-' => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
}

/// `/dev/sdb` before `/dev/sdaa`, as the kernel names them.
fn natural_order(node: &Path) -> (usize, PathBuf) {
    (node.as_os_str().len(), node.to_path_buf())
}

/// One line: `LABEL=ephemeral0: /dev/vdb is accepted (ext4)`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.spec)?;
        if let (Spec::Label(_), Some(device)) = (&self.spec, &self.device) {
            write!(f, ": {}", device.display())?;
        }
        match &self.judgement {
            Judgement::Accepted(accepted) => write!(f, " is accepted ({})", accepted.filesystem),
            Judgement::Absent => write!(f, " is absent"),
            Judgement::Rejected(reason) => write!(f, " {reason}"),
        }
    }
}

/// All verdicts and warnings in one line.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let verdicts: Vec<_> = self.verdicts.iter().map(Verdict::to_string).collect();
        write!(f, "{}", verdicts.join(", "))?;
        self.warnings
            .iter()
            .try_for_each(|warning| write!(f, "; {warning}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: &str = "0e4d1c2b-8f6a-4b3c-9";

    fn device(node: &str, content: Content) -> Observation {
        // Distinct numbers for distinct names.
        let minor = node.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte));
        Observation {
            number: Number { major: 252, minor },
            node: PathBuf::from(node),
            size_bytes: 20 << 30,
            content,
            read_only: false,
            on_root_disk: false,
            holders: vec![],
            serial: None,
            mounted_on: vec![],
            partitions: vec![],
            is_zero: false,
        }
    }

    fn ext4(label: Option<&str>) -> Content {
        Content::Filesystem {
            kind: "ext4".into(),
            label: label.map(String::from),
        }
    }

    fn filesystem(kind: &str, label: Option<&str>) -> Content {
        Content::Filesystem {
            kind: kind.into(),
            label: label.map(String::from),
        }
    }

    fn other(kind: &str) -> Content {
        Content::Other {
            kind: kind.into(),
            label: None,
        }
    }

    /// The observation of these devices, each name leading to the device of that name.
    fn observed(devices: Vec<Observation>) -> Observed {
        let names = devices
            .iter()
            .map(|device| (device.node.clone(), Named::BlockDevice(device.number)))
            .collect();
        Observed { devices, names }
    }

    fn specs(texts: &[&str]) -> Vec<Spec> {
        texts
            .iter()
            .map(|text| Spec::try_from(text.to_string()).unwrap())
            .collect()
    }

    const DEFAULTS: [&str; 5] = [
        "LABEL=ephemeral0",
        "LABEL=blankpartition0",
        "/dev/vdb",
        "/dev/sdb",
        "/dev/xvdb",
    ];

    /// The nodes that the default specs accept among these devices, in order.
    fn chosen(devices: Vec<Observation>) -> Vec<String> {
        choose(&specs(&DEFAULTS), &observed(devices))
            .accepted()
            .map(|accepted| accepted.node().display().to_string())
            .collect()
    }

    /// What is said of `/dev/vdb` when it is named.
    fn said_of_vdb(vdb: Observation) -> String {
        let choice = choose(&specs(&["/dev/vdb"]), &observed(vec![vdb]));
        match &choice.verdicts[0].judgement {
            Judgement::Rejected(reason) => reason.to_string(),
            Judgement::Accepted(_) => "accepted".into(),
            Judgement::Absent => "absent".into(),
        }
    }

    #[test]
    fn the_first_spec_that_accepts_wins() {
        type Case = (Vec<Observation>, &'static str);
        let cases: [Case; 7] = [
            (
                vec![
                    device("/dev/vdc", ext4(Some("ephemeral0"))),
                    device("/dev/vdb", ext4(None)),
                ],
                "/dev/vdc",
            ),
            (
                vec![
                    device("/dev/vdc", ext4(Some("blankpartition0"))),
                    device("/dev/vdb", ext4(None)),
                ],
                "/dev/vdc",
            ),
            (
                vec![
                    device("/dev/vdc", ext4(Some("blankpartition0"))),
                    device("/dev/vdd", ext4(Some("ephemeral0"))),
                ],
                "/dev/vdd",
            ),
            (
                vec![
                    device("/dev/sdb", ext4(None)),
                    device("/dev/vdb", ext4(None)),
                ],
                "/dev/vdb",
            ),
            (
                vec![
                    device("/dev/sdb", ext4(None)),
                    device("/dev/xvdb", ext4(None)),
                ],
                "/dev/sdb",
            ),
            (
                vec![
                    device("/dev/xvdb", ext4(None)),
                    device("/dev/vda", ext4(None)),
                ],
                "/dev/xvdb",
            ),
            (
                vec![
                    device("/dev/vdb", other("swap")),
                    device("/dev/sdb", ext4(None)),
                ],
                "/dev/sdb",
            ),
        ];
        for (devices, expected) in cases {
            assert_eq!(
                chosen(devices.clone()).first().map(String::as_str),
                Some(expected),
                "{devices:?}"
            );
        }
    }

    #[test]
    fn every_rejection_gives_its_reason_in_words() {
        let named = |content| device("/dev/vdb", content);
        let with = |change: fn(&mut Observation)| {
            let mut vdb = named(ext4(None));
            change(&mut vdb);
            vdb
        };
        let cases = [
            (named(Content::Nothing), "has no signature"),
            (named(other("swap")), "holds swap space"),
            (named(other("LVM2_member")), "holds an LVM physical volume"),
            (
                named(other("linux_raid_member")),
                "holds a Linux RAID member",
            ),
            (named(other("crypto_LUKS")), "holds a LUKS encrypted volume"),
            (
                named(other("bcache")),
                "holds bcache, which is not a file system",
            ),
            (
                named(Content::PartitionTable { kind: "gpt".into() }),
                "has a partition table (gpt)",
            ),
            (
                named(Content::Ambivalent {
                    kinds: vec!["ext4".into(), "swap".into()],
                }),
                "has ambivalent signatures (ext4, swap)",
            ),
            (
                named(Content::Unreadable {
                    error: "Input/output error".into(),
                }),
                "cannot be read: Input/output error",
            ),
            (
                named(filesystem("vfat", Some("config-2"))),
                "is the config drive",
            ),
            (
                named(filesystem("iso9660", Some("CONFIG-2"))),
                "is the config drive",
            ),
            (
                named(filesystem("iso9660", Some("cidata"))),
                "holds iso9660, which cannot be written to",
            ),
            (
                named(filesystem("squashfs", None)),
                "holds squashfs, which cannot be written to",
            ),
            (
                with(|vdb| vdb.on_root_disk = true),
                "is the root disk or a part of it",
            ),
            (
                with(|vdb| vdb.holders = vec!["dm-0".into()]),
                "is in use by dm-0",
            ),
            (with(|vdb| vdb.read_only = true), "is read-only"),
            (
                with(|vdb| vdb.mounted_on = vec!["/mnt".into()]),
                "is mounted on /mnt",
            ),
            (
                with(|vdb| vdb.serial = Some(VOLUME.into())),
                "is a persistent volume",
            ),
        ];
        for (vdb, expected) in cases {
            let said = said_of_vdb(vdb.clone());
            assert!(
                said.starts_with(expected),
                "{vdb:?}: {said:?}, not {expected:?}"
            );
        }
    }

    #[test]
    fn a_name_that_leads_to_no_block_device_is_absent_or_says_what_it_is() {
        let path = PathBuf::from("/dev/vdb");
        let cases = [
            (Named::Missing, Judgement::Absent),
            (
                Named::NotABlockDevice("a file"),
                Judgement::Rejected(Reason::NotABlockDevice("a file")),
            ),
            (
                Named::Unreachable("Too many levels".into()),
                Judgement::Rejected(Reason::Unreachable("Too many levels".into())),
            ),
        ];
        for (named, expected) in cases {
            let seen = Observed {
                devices: vec![],
                names: [(path.clone(), named)].into(),
            };
            assert_eq!(
                choose(&specs(&["/dev/vdb"]), &seen).verdicts[0].judgement,
                expected
            );
        }
    }

    #[test]
    fn what_only_speaks_against_a_name_does_not_speak_against_a_label() {
        let mut mounted = device("/dev/vdb", ext4(Some("ephemeral0")));
        mounted.mounted_on = vec!["/mnt".into()];
        mounted.serial = Some(VOLUME.into());
        let choice = choose(&specs(&DEFAULTS), &observed(vec![mounted]));
        let accepted = choice.accepted().next().unwrap();
        assert_eq!(accepted.found_by(), FoundBy::Label);
        assert_eq!(accepted.mounted_on(), [PathBuf::from("/mnt")]);
        assert_eq!(choice.accepted().count(), 1, "by name it is rejected");
    }

    #[test]
    fn a_label_does_not_save_what_must_never_be_mounted() {
        let spoil: [fn(&mut Observation); 3] = [
            |device| device.on_root_disk = true,
            |device| device.holders = vec!["md0".into()],
            |device| device.read_only = true,
        ];
        for change in spoil {
            let mut labelled = device("/dev/vdb", ext4(Some("ephemeral0")));
            change(&mut labelled);
            assert_eq!(
                chosen(vec![labelled.clone()]),
                Vec::<String>::new(),
                "{labelled:?}"
            );
        }
    }

    #[test]
    fn of_two_devices_with_one_label_the_first_that_is_no_volume_is_taken_and_both_are_named() {
        let plain = |node| device(node, ext4(Some("ephemeral0")));
        let volume = |node| Observation {
            serial: Some(VOLUME.into()),
            ..plain(node)
        };
        let root = |node| Observation {
            on_root_disk: true,
            ..plain(node)
        };
        let cases = [
            (vec![plain("/dev/vdc"), plain("/dev/vdb")], "/dev/vdb", 1),
            (vec![plain("/dev/sdaa"), plain("/dev/sdb")], "/dev/sdb", 1),
            (vec![volume("/dev/vdb"), plain("/dev/vdc")], "/dev/vdc", 1),
            (vec![volume("/dev/vdc"), volume("/dev/vdb")], "/dev/vdb", 1),
            (vec![root("/dev/vda"), plain("/dev/vdb")], "/dev/vdb", 0),
            (
                vec![plain("/dev/vdd"), plain("/dev/vdc"), plain("/dev/vde")],
                "/dev/vdc",
                2,
            ),
        ];
        for (devices, expected, warnings) in cases {
            let choice = choose(&specs(&["LABEL=ephemeral0"]), &observed(devices.clone()));
            let accepted: Vec<_> = choice.accepted().map(|a| a.node().to_path_buf()).collect();
            assert_eq!(accepted, [PathBuf::from(expected)], "{devices:?}");
            assert_eq!(choice.warnings.len(), warnings, "{:?}", choice.warnings);
            assert_eq!(
                choice.verdicts.len(),
                devices.len(),
                "each device has its verdict"
            );
            for warning in &choice.warnings {
                assert!(warning.contains(expected), "{warning}");
            }
        }
    }

    #[test]
    fn a_device_that_shows_no_label_for_a_reason_is_told_of_while_a_label_is_not_found() {
        let broken = || {
            device(
                "/dev/vdc",
                Content::Unreadable {
                    error: "Input/output error".into(),
                },
            )
        };
        let labelled = || device("/dev/vdb", ext4(Some("ephemeral0")));
        let swap = || device("/dev/vdd", other("swap"));
        let root = || Observation {
            on_root_disk: true,
            ..broken()
        };
        let cases = [
            (&DEFAULTS[..], vec![broken()], 1),
            (
                &DEFAULTS[..],
                vec![device("/dev/vdc", Content::Ambivalent { kinds: vec![] })],
                1,
            ),
            (&DEFAULTS[..], vec![broken(), labelled()], 0),
            (&DEFAULTS[..], vec![swap(), root()], 0),
            (&["/dev/vdb"][..], vec![broken()], 0),
        ];
        for (asked, devices, warnings) in cases {
            let choice = choose(&specs(asked), &observed(devices));
            assert_eq!(choice.warnings.len(), warnings, "{:?}", choice.warnings);
            assert!(choice.warnings.iter().all(|w| w.starts_with("/dev/vdc ")));
        }
    }

    #[test]
    fn a_device_that_does_not_answer_is_rejected_under_every_spec_and_told_of() {
        let after = std::time::Duration::from_secs(10);
        let hung = |node| device(node, Content::NoAnswer { after });
        let choice = choose(
            &specs(&["LABEL=ephemeral0", "/dev/vdc", "/dev/vdb"]),
            &observed(vec![hung("/dev/vdc"), device("/dev/vdb", ext4(None))]),
        );
        let said: Vec<String> = choice.verdicts.iter().map(Verdict::to_string).collect();
        let words = "does not answer (reading it was given up after 10.0s)";
        assert_eq!(
            said,
            [
                format!("LABEL=ephemeral0: /dev/vdc {words}"),
                format!("/dev/vdc {words}"),
                "/dev/vdb is accepted (ext4)".to_string(),
            ]
        );
        assert_eq!(choice.warnings, [format!("/dev/vdc {words}")]);
        // Whoever needs it or not.
        let unrelated = choose(&specs(&["/dev/vdb"]), &observed(vec![hung("/dev/vdc")]));
        assert_eq!(unrelated.warnings.len(), 1);
    }

    #[test]
    fn only_a_disk_seen_to_be_zero_may_be_formatted() {
        let zero = |content| Observation {
            is_zero: true,
            ..device("/dev/vdb", content)
        };
        let spoilt = |change: fn(&mut Observation)| {
            let mut vdb = zero(Content::Nothing);
            change(&mut vdb);
            vdb
        };
        let cases = [
            (zero(Content::Nothing), true),
            (device("/dev/vdb", Content::Nothing), false),
            (zero(ext4(None)), false),
            (
                zero(Content::Unreadable {
                    error: "I/O".into(),
                }),
                false,
            ),
            (spoilt(|vdb| vdb.on_root_disk = true), false),
            (spoilt(|vdb| vdb.read_only = true), false),
            (spoilt(|vdb| vdb.holders = vec!["dm-0".into()]), false),
            (spoilt(|vdb| vdb.mounted_on = vec!["/mnt".into()]), false),
            (spoilt(|vdb| vdb.serial = Some(VOLUME.into())), false),
        ];
        for (vdb, formattable) in cases {
            let choice = choose(&specs(&["/dev/vdb"]), &observed(vec![vdb.clone()]));
            assert_eq!(choice.blank().is_some(), formattable, "{vdb:?}");
        }
    }

    #[test]
    fn a_serial_number_is_a_volumes_only_if_it_is_a_uuid_or_its_first_20_characters() {
        let cases = [
            (VOLUME, true),
            ("0e4d1c2b-8f6a-4b3c-9d2e-112233445566", true),
            ("eph0-serial", false),
            ("QM00001", false),
            ("0e4d1c2b-8f6a-4b3c-", false),
            ("0e4d1c2b88f6a-4b3c-9", false),
            ("ze4d1c2b-8f6a-4b3c-9", false),
            ("", false),
        ];
        for (serial, expected) in cases {
            assert_eq!(is_volume_serial(serial), expected, "{serial}");
        }
    }
}
