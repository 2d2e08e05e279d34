//! Which device is the scratch disk: a pure function of the specs and of what was
//! observed.
//!
//! A disk is used only for a reason: a label that the image asks for, the cloud's own mark
//! that it is local scratch, or, where only a name led to it, that it is nobody else's.

mod against;
mod several;
mod stripe;
mod telling;
mod verdict;

use std::path::{Path, PathBuf};

use super::identity::Scratch;
use super::inventory::System;
use super::looked::{Contents, Look};
use super::making::{HalfMade, LABEL};
use super::observation::{Named, Observation, Observed};
use super::reason::{Kept, Reason};
use super::signature::{Content, Zero};
use crate::config::{Format, Spec};
use crate::order::sort_by_key;
use against::{against_making, refuse, refuse_blank, refuse_for_a_name};
use several::Several;
pub(crate) use several::array_of;
pub(crate) use stripe::{Part, Stripe, Task, Was};
use telling::{
    WITHOUT_OWNERS, asked_for_label, is_persistent, is_unclean, label_cure, local, natural_order,
};
pub(crate) use telling::{has_label, heeds_fstab};
use verdict::Fate;
pub(crate) use verdict::{
    Accepted, Choice, Evidence, InPlaceOf, Judgement, ToBeMade, Verdict, known_by,
};

/// Judges every device that a spec leads to.
pub(crate) fn choose(specs: &[Spec], format: Format, observed: &Observed) -> Choice {
    let mut judge = Judge {
        specs,
        format,
        observed,
        several: several::several(specs, format, observed),
        choice: Choice::default(),
        winner: None,
    };
    for spec in specs {
        let found = match spec {
            Spec::Label(label) => judge.label(label),
            Spec::Name(path) => vec![judge.name(path)],
            Spec::Local => judge.local(),
        };
        let verdicts = found.into_iter().map(|(device, judgement)| Verdict {
            spec: spec.clone(),
            device,
            judgement,
        });
        judge.choice.verdicts.extend(verdicts);
    }
    let mut choice = judge.choice;
    choice.stripe = judge.several.stripe;
    choice.warnings.extend(judge.several.warning.clone());
    choice.of_several = judge.several.warning;
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

struct Judge<'a> {
    specs: &'a [Spec],
    format: Format,
    observed: &'a Observed,
    several: Several,
    choice: Choice,
    /// The first device that is to be used: what comes after it need not be looked into.
    winner: Option<PathBuf>,
}

impl Judge<'_> {
    fn label(&mut self, label: &str) -> Vec<Judged> {
        let mut labelled: Vec<&Observation> = self
            .observed
            .devices
            .iter()
            .filter(|device| has_label(&device.content, label))
            .collect();
        // Nobody knows whether one of these has it.
        let silent = silent(self.observed).map(|(device, reason)| {
            let node = device.node.clone();
            (Some(node), Judgement::Rejected(reason))
        });
        let silent: Vec<Judged> = silent.collect();
        if labelled.is_empty() && silent.is_empty() {
            return vec![(None, Judgement::Absent)];
        }
        sort_by_key(&mut labelled, |device| {
            (is_persistent(device), natural_order(&device.node))
        });

        let mut taken: Option<&Observation> = None;
        let mut judged = Vec::new();
        for device in labelled {
            let evidence = Evidence::Label(label.into());
            let judgement = match (refuse(device), taken) {
                (Some(reason), _) => Judgement::Rejected(reason),
                (None, Some(first)) => {
                    self.warn(format!(
                        "{} and {} both have the label {label}; {} is taken",
                        first.node.display(),
                        device.node.display(),
                        first.node.display(),
                    ));
                    Judgement::Rejected(Reason::SameLabelAs(first.node.clone()))
                }
                (None, None) => {
                    taken = Some(device);
                    match self.half_made(device, &evidence) {
                        Some(judgement) => judgement,
                        None => self.use_file_system(device, evidence),
                    }
                }
            };
            judged.push((Some(device.node.clone()), judgement));
        }
        judged.extend(silent);
        judged
    }

    fn name(&mut self, path: &Path) -> Judged {
        let device = Some(path.to_path_buf());
        let number = match self.observed.names.get(path) {
            None | Some(Named::Missing) => return (None, Judgement::Absent),
            Some(Named::NotABlockDevice(kind)) => {
                return (device, Judgement::Rejected(Reason::NotABlockDevice(kind)));
            }
            Some(Named::Unreachable(error)) => {
                let reason = Reason::Unreachable(error.clone());
                return (device, Judgement::Rejected(reason));
            }
            Some(Named::BlockDevice(number)) => *number,
        };
        let is_it = |device: &&Observation| device.number == number;
        let Some(found) = self.observed.devices.iter().find(is_it) else {
            return (None, Judgement::Absent);
        };
        let judgement = match (asked_for_label(self.specs, found), local(found)) {
            // Evidence belongs to the device, whatever led to it.
            (Some(label), _) => self.led_by_evidence(found, Evidence::Label(label.into())),
            (None, Some(scratch)) => {
                self.led_by_evidence(found, Evidence::Local(scratch.to_string()))
            }
            (None, None) => self.led_by_a_name(found),
        };
        (device, judgement)
    }

    fn local(&mut self) -> Vec<Judged> {
        let disks = self.observed.devices.iter();
        let mut disks: Vec<(&Observation, Scratch)> = disks
            .filter_map(|device| Some((device, local(device)?)))
            .collect();
        if disks.is_empty() {
            return vec![(None, Judgement::Absent)];
        }
        // One with a file system, which may be ours, goes before a blank one.
        sort_by_key(&mut disks, |(device, _)| {
            let is_blank = device.content == Content::Nothing;
            (is_blank, natural_order(&device.node))
        });
        let judged = disks.into_iter().map(|(device, scratch)| {
            let evidence = Evidence::Local(scratch.to_string());
            let judgement = self.led_by_evidence(device, evidence);
            (Some(device.node.clone()), judgement)
        });
        judged.collect()
    }

    /// A device with evidence of its own: nothing that speaks against a name does.
    fn led_by_evidence(&mut self, device: &Observation, evidence: Evidence) -> Judgement {
        if let Some(judgement) = self.several.judgement(device) {
            return judgement;
        }
        if let Some(judgement) = self.half_made(device, &evidence) {
            return judgement;
        }
        match refuse(device) {
            Some(Reason::Blank(_)) => self.blank(device, evidence),
            Some(reason) => Judgement::Rejected(reason),
            None => self.use_file_system(device, evidence),
        }
    }

    /// A name says less than a label does: that a device has it may be chance.
    fn led_by_a_name(&mut self, device: &Observation) -> Judgement {
        let against = refuse_for_a_name(device, self.observed);
        if against.is_none()
            && let Some(judgement) = self.half_made(device, &Evidence::HalfMade)
        {
            return judgement;
        }
        match (refuse(device), against) {
            (Some(Reason::Blank(_)), None) => self.blank(device, Evidence::Blank),
            // Whose disk it is says more than that nothing is on it.
            (None | Some(Reason::Blank(_)), Some(reason)) => Judgement::Rejected(reason),
            (Some(reason), _) => Judgement::Rejected(reason),
            (None, None) if device.look == Some(Look::Staged) => {
                self.use_file_system(device, Evidence::Staged)
            }
            (None, None) => match self.look_of(device) {
                Ok(seen) => self.judge_contents(device, seen),
                Err(reason) => Judgement::Rejected(reason),
            },
        }
    }

    fn judge_contents(&mut self, device: &Observation, seen: &Contents) -> Judgement {
        let machine = self.observed.machine.as_deref();
        if let Some(mark) = &seen.mark {
            let node = device.node.display();
            if mark.counts(device.uuid.as_deref(), machine) {
                if !mark.is_by(machine) {
                    self.warn(format!(
                        "{node} was staged by another machine before ({})",
                        mark.machine.as_deref().unwrap_or("unknown"),
                    ));
                }
                return self.use_file_system(device, Evidence::Ours);
            }
            match mark.filesystem {
                Some(_) => self.warn(format!(
                    "{node} has a mark that was copied from another disk"
                )),
                None => self.warn(format!(
                    "{node} has a mark that does not say of which disk it is, nor that this machine made it"
                )),
            }
        }
        if !seen.others.is_empty() {
            let cure = label_cure(device, self.specs);
            return Judgement::Rejected(Reason::HoldsFiles(seen.others.to_string(), cure));
        }
        if seen.is_replay_pending {
            return Judgement::Rejected(Reason::ReplayPending);
        }
        // That one is a scratch disk's, and what boot makes has it.
        if let Some(label) = device.content.label().filter(|label| *label != LABEL) {
            self.warn(format!(
                "{} has the label {label}, which nobody asked for; it is empty",
                device.node.display()
            ));
        }
        self.use_file_system(device, Evidence::Empty)
    }

    /// What is in the file system, or why it is not looked into.
    fn look_of<'a>(&mut self, device: &'a Observation) -> Result<&'a Contents, Reason> {
        match &device.look {
            Some(Look::Seen(contents)) => Ok(contents),
            Some(Look::Failed(error) | Look::Busy(error)) => {
                Err(Reason::CannotBeLookedInto(error.clone()))
            }
            Some(Look::Staged) => Err(Reason::NotLookedInto),
            None => match &self.winner {
                Some(winner) => Err(Reason::NotNeeded(winner.clone())),
                None => {
                    self.choice.to_look_into.get_or_insert(device.number);
                    Err(Reason::NotLookedInto)
                }
            },
        }
    }

    /// A file system that keeps owners is mounted; one that does not is made anew, if there
    /// is nothing in it, and mounted only where nobody asks for owners.
    fn use_file_system(&mut self, device: &Observation, evidence: Evidence) -> Judgement {
        let Content::Filesystem { kind, label } = &device.content else {
            unreachable!("refuse() lets nothing but file systems through");
        };
        let is_staged = device.look == Some(Look::Staged);
        if WITHOUT_OWNERS.contains(&kind.as_str()) && !is_staged {
            match self.may_be_replaced(device, &evidence) {
                Ok(()) => return self.make(device, InPlaceOf::Empty(kind.clone()), evidence),
                Err(NotReplaced::Undecided(reason)) => return Judgement::Rejected(reason),
                Err(NotReplaced::Kept(_)) if self.observed.needs_no_owners => {}
                Err(NotReplaced::Kept(why)) => {
                    return Judgement::Rejected(Reason::KeepsNoOwners(kind.clone(), why));
                }
            }
        }
        self.winner.get_or_insert(device.node.clone());
        self.warn_of_state(device);
        Judgement::Accepted(Accepted {
            node: device.node.clone(),
            number: device.number,
            size_bytes: device.size_bytes,
            filesystem: kind.clone(),
            label: label.clone(),
            uuid: device.uuid.clone(),
            evidence,
            made_of: device.made_of.clone(),
            mounted_on: device.mounted_on.clone(),
            twin_of: device.twin_of.clone(),
            is_unclean: is_unclean(device),
        })
    }

    /// Several specs may lead to one device.
    fn warn(&mut self, warning: String) {
        if !self.choice.warnings.contains(&warning) {
            self.choice.warnings.push(warning);
        }
    }

    fn warn_of_state(&mut self, device: &Observation) {
        let node = device.node.display();
        if is_unclean(device) {
            self.warn(format!(
                "the file system on {node} was not unmounted cleanly, or errors were found in it: fsck checks it"
            ));
        }
        let rest = device
            .facts
            .size_bytes
            .map(|size| device.size_bytes.saturating_sub(size));
        // Partition tables and rounding take a little.
        if let (Some(size), Some(rest)) = (device.facts.size_bytes, rest)
            && rest > device.size_bytes / 20
        {
            self.warn(format!(
                "the file system on {node} takes {} of {}; the disk was made larger since",
                crate::text::bytes(size),
                crate::text::bytes(device.size_bytes)
            ));
        }
        if let Some(twin) = &device.twin_of {
            self.warn(format!(
                "{node} has the same UUID as {}, which is mounted: one is a copy of the other",
                twin.display()
            ));
        }
    }

    /// A file system is made in place of an empty one only where a label or the cloud's mark
    /// led to it.
    fn may_be_replaced(
        &mut self,
        device: &Observation,
        evidence: &Evidence,
    ) -> Result<(), NotReplaced> {
        if self.format == Format::Never {
            return Err(NotReplaced::Kept(Kept::FormatIsNever));
        }
        if evidence.is_of_a_name() {
            let cure = label_cure(device, self.specs);
            return Err(NotReplaced::Kept(Kept::FoundByName(cure)));
        }
        if let Some(reason) = against_making(device, self.observed) {
            return Err(NotReplaced::Undecided(reason));
        }
        if !device.mounted_on.is_empty() {
            return Err(NotReplaced::Undecided(Reason::MountedElsewhere(
                device.mounted_on.clone(),
            )));
        }
        let seen = self.look_of(device).map_err(|reason| match reason {
            Reason::CannotBeLookedInto(error) => NotReplaced::Kept(Kept::NotSeen(error)),
            undecided => NotReplaced::Undecided(undecided),
        })?;
        match seen.used.is_empty() {
            true => Ok(()),
            false => Err(NotReplaced::Kept(Kept::Holds(seen.used.to_string()))),
        }
    }

    /// What this program was making a file system on when it was ended. A file system that can
    /// be looked into was finished, and is judged as any other; one that cannot is made anew
    /// where its superblock shows that it was never mounted.
    fn half_made(&mut self, device: &Observation, evidence: &Evidence) -> Option<Judgement> {
        let is_usable = self.format != Format::Never
            && device.system == System::Elsewhere
            && device.holders.is_empty()
            && device.mounted_on.is_empty()
            && device.partitions.is_empty()
            && !device.read_only
            && against_making(device, self.observed).is_none();
        match device.half_made {
            HalfMade::NoSignature if is_usable => {}
            HalfMade::Filesystem if is_usable && device.facts.was_never_mounted => {
                match self.look_of(device) {
                    Ok(_) => return None,
                    Err(Reason::CannotBeLookedInto(_)) => {}
                    Err(undecided) => return Some(Judgement::Rejected(undecided)),
                }
            }
            _ => return None,
        }
        Some(self.make(device, InPlaceOf::HalfMade, evidence.clone()))
    }

    fn blank(&mut self, device: &Observation, evidence: Evidence) -> Judgement {
        let is_allowed = match (&evidence, self.format) {
            (_, Format::Never) | (Evidence::Blank, Format::Local) => false,
            (_, Format::Local | Format::Blank) => true,
        };
        let against = against_making(device, self.observed).or(refuse_blank(device));
        match (device.zero, against) {
            (zero @ (Zero::NotSeen | Zero::NotInTime | Zero::NoAnswer), _) => {
                Judgement::Rejected(Reason::Blank(zero))
            }
            (Zero::Seen, Some(reason)) => Judgement::Rejected(reason),
            (Zero::Seen, None) if is_allowed => self.make(device, InPlaceOf::Nothing, evidence),
            (Zero::Seen, None) => Judgement::Rejected(Reason::Blank(Zero::Seen)),
        }
    }

    fn make(
        &mut self,
        device: &Observation,
        in_place_of: InPlaceOf,
        evidence: Evidence,
    ) -> Judgement {
        // That a name led to it would not be enough any more: it may be a copy then.
        let gets_asked_for_label = || {
            let is_it = |spec: &Spec| matches!(spec, Spec::Label(label) if label == LABEL);
            self.specs.iter().any(is_it)
        };
        if let Some(unread) = &self.observed.mounted_unread
            && evidence.is_of_a_name()
            && !gets_asked_for_label()
        {
            return Judgement::Rejected(Reason::WouldBeTwinOf(unread.clone()));
        }
        let to_be_made = ToBeMade {
            node: device.node.clone(),
            number: device.number,
            size_bytes: device.size_bytes,
            content: device.content.clone(),
            uuid: device.uuid.clone(),
            in_place_of,
            evidence,
            array: device.array.clone(),
            fate: Fate::GetsOne,
        };
        if to_be_made.is_decisive() {
            self.winner.get_or_insert(device.node.clone());
        }
        Judgement::ToBeMade(to_be_made)
    }
}

/// Why an empty file system stays.
enum NotReplaced {
    /// The disk is not judged any further.
    Undecided(Reason),
    Kept(Kept),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::claimed::{Author, Place};
    use crate::disk::identity::{Identity, Persistent};
    use crate::disk::looked::Names;
    use crate::disk::mark::Mark;
    use crate::disk::observation::Fstab;
    use crate::disk::superblock::Facts;
    use crate::host::block_device::Number;

    const VOLUME: &str = "0e4d1c2b-8f6a-4b3c-9";

    /// Of the file system of each.
    fn uuid() -> Option<String> {
        Some("6d1f8a52-0d2c-4c43-9f3e-5b1c7f6a0e11".into())
    }

    pub(super) fn device(node: &str, content: Content) -> Observation {
        // Distinct numbers for distinct names.
        let minor = node.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte));
        Observation {
            number: Number { major: 252, minor },
            node: PathBuf::from(node),
            size_bytes: 20 << 30,
            is_partition: false,
            content,
            read_only: false,
            uuid: uuid(),
            boot_label: None,
            facts: Facts::default(),
            system: System::Elsewhere,
            is_swapped_on: false,
            holders: vec![],
            made_of: vec![],
            array: None,
            identity: Identity::Unknown,
            fstab: Fstab::Nothing,
            twin_of: None,
            mounted_on: vec![],
            partitions: vec![],
            zero: Zero::NotSeen,
            half_made: HalfMade::No,
            look: Some(Look::Seen(Contents::default())),
        }
    }

    fn volume() -> Identity {
        Identity::Persistent(Persistent::OpenStackVolume {
            serial: VOLUME.into(),
        })
    }

    fn names(names: &[&str]) -> Names {
        Names {
            first: names.iter().map(ToString::to_string).collect(),
            count: names.len(),
            is_cut: false,
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
        Observed {
            devices,
            names,
            ..Observed::default()
        }
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

    const DEFAULTS_AND_LOCAL: [&str; 6] = [
        "LABEL=ephemeral0",
        "LABEL=blankpartition0",
        "/dev/vdb",
        "/dev/sdb",
        "/dev/xvdb",
        "LOCAL",
    ];

    /// The nodes that the default specs accept among these devices, in order.
    fn chosen(devices: Vec<Observation>) -> Vec<String> {
        choose(&specs(&DEFAULTS), Format::Local, &observed(devices))
            .accepted()
            .map(|accepted| accepted.node().display().to_string())
            .collect()
    }

    /// What is said of `/dev/vdb` when it is named.
    fn said_of_vdb(vdb: Observation) -> String {
        let choice = choose(&specs(&["/dev/vdb"]), Format::Local, &observed(vec![vdb]));
        match &choice.verdicts[0].judgement {
            Judgement::Rejected(reason) => reason.to_string(),
            Judgement::Accepted(_) => "accepted".into(),
            other => other.to_string(),
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
                "is cloud-init's seed disk",
            ),
            (
                named(filesystem("squashfs", None)),
                "holds squashfs, which cannot be written to",
            ),
            (
                with(|vdb| vdb.system = System::Disk),
                "is a disk that the system runs from",
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
                with(|vdb| vdb.identity = volume()),
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
                names: [(path.clone(), named)].into(),
                ..Observed::default()
            };
            assert_eq!(
                choose(&specs(&["/dev/vdb"]), Format::Local, &seen).verdicts[0].judgement,
                expected
            );
        }
    }

    #[test]
    fn what_only_speaks_against_a_name_does_not_speak_against_a_label() {
        let mut mounted = device("/dev/vdb", ext4(Some("ephemeral0")));
        mounted.mounted_on = vec!["/mnt".into()];
        mounted.identity = volume();
        let choice = choose(&specs(&DEFAULTS), Format::Local, &observed(vec![mounted]));
        let accepted = choice.accepted().next().unwrap();
        assert_eq!(accepted.evidence(), &Evidence::Label("ephemeral0".into()));
        assert_eq!(accepted.mounted_on(), [PathBuf::from("/mnt")]);
        assert_eq!(
            choice.accepted().count(),
            2,
            "evidence belongs to the device"
        );
    }

    #[test]
    fn a_label_does_not_save_what_must_never_be_mounted() {
        let spoil: [fn(&mut Observation); 3] = [
            |device| device.system = System::Disk,
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
            identity: volume(),
            ..plain(node)
        };
        let root = |node| Observation {
            system: System::Disk,
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
            let choice = choose(
                &specs(&["LABEL=ephemeral0"]),
                Format::Local,
                &observed(devices.clone()),
            );
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
            system: System::Disk,
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
            let choice = choose(&specs(asked), Format::Local, &observed(devices));
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
            Format::Local,
            &observed(vec![hung("/dev/vdc"), device("/dev/vdb", ext4(None))]),
        );
        let said: Vec<String> = choice.verdicts.iter().map(Verdict::to_string).collect();
        let words = "does not answer (reading it was given up after 10.0s); \
            detach it, or ask the cloud about its storage";
        assert_eq!(
            said,
            [
                format!("LABEL=ephemeral0: /dev/vdc {words}"),
                format!("/dev/vdc {words}"),
                "/dev/vdb is accepted (ext4, empty)".to_string(),
            ]
        );
        assert_eq!(choice.warnings, [format!("/dev/vdc {words}")]);
        // Whoever needs it or not.
        let unrelated = choose(
            &specs(&["/dev/vdb"]),
            Format::Local,
            &observed(vec![hung("/dev/vdc")]),
        );
        assert_eq!(unrelated.warnings.len(), 1);
    }

    /// What is warned of where this is `/dev/vdb`, and which is taken.
    fn warned_of_vdb(vdb: Observation) -> Vec<String> {
        let specs = specs(&["LABEL=ephemeral0", "/dev/vdb"]);
        let choice = choose(&specs, Format::Local, &observed(vec![vdb]));
        assert!(choice.first_accepted().is_some(), "{choice}");
        choice.warnings
    }

    #[test]
    fn the_state_of_a_file_system_is_told_once() {
        let labelled = |change: fn(&mut Observation)| {
            let mut vdb = device("/dev/vdb", ext4(Some("ephemeral0")));
            vdb.size_bytes = 1 << 30;
            vdb.facts.size_bytes = Some(1 << 30);
            change(&mut vdb);
            vdb
        };
        let unclean = "the file system on /dev/vdb was not unmounted cleanly, or errors were found \
            in it: fsck checks it";
        let cases = [
            (labelled(|_| ()), vec![]),
            (labelled(|vdb| vdb.facts.is_unclean = true), vec![unclean]),
            (
                labelled(|vdb| vdb.look = contents(|seen| seen.is_replay_pending = true)),
                vec![unclean],
            ),
            (
                labelled(|vdb| {
                    vdb.facts.is_unclean = true;
                    vdb.mounted_on = vec!["/mnt".into()];
                }),
                vec![],
            ),
            (
                labelled(|vdb| vdb.facts.size_bytes = Some(1 << 29)),
                vec![
                    "the file system on /dev/vdb takes 512.0 MiB of 1.0 GiB; the disk was made larger since",
                ],
            ),
            (
                labelled(|vdb| vdb.twin_of = Some("/dev/vdc".into())),
                vec![
                    "/dev/vdb has the same UUID as /dev/vdc, which is mounted: one is a copy of the other",
                ],
            ),
        ];
        for (vdb, expected) in cases {
            assert_eq!(warned_of_vdb(vdb.clone()), expected, "{vdb:?}");
        }
    }

    /// It is judged as if it had none.
    #[test]
    fn a_mark_that_was_copied_from_another_disk_makes_none_ours() {
        let copied = "/dev/vdb has a mark that was copied from another disk";
        let undated = "/dev/vdb has a mark that does not say of which disk it is, nor that this machine made it";
        let cases = [
            (
                Some("another".into()),
                &[][..],
                Some(Evidence::Empty),
                copied,
            ),
            (Some("another".into()), &["home"], None, copied),
            (None, &[], Some(Evidence::Empty), undated),
            (None, &["home"], None, undated),
        ];
        for (filesystem, others, expected, warning) in cases {
            let vdb = Observation {
                look: Some(Look::Seen(Contents {
                    mark: Some(Mark::staged_by(None, None, filesystem, 1, None)),
                    others: names(others),
                    ..Contents::default()
                })),
                ..device("/dev/vdb", ext4(None))
            };
            let choice = choose(&specs(&["/dev/vdb"]), Format::Local, &observed(vec![vdb]));
            let evidence = choice.first_accepted().map(Accepted::evidence);
            assert_eq!(evidence, expected.as_ref(), "{choice}");
            assert_eq!(choice.warnings, [warning]);
        }
    }

    /// Whatever it holds.
    #[test]
    fn what_is_staged_already_is_accepted_without_a_look() {
        for (spec, content, expected) in [
            ("/dev/vdb", ext4(None), Evidence::Staged),
            ("/dev/vdb", filesystem("vfat", None), Evidence::Staged),
            (
                "LABEL=thesis",
                filesystem("vfat", Some("thesis")),
                Evidence::Label("thesis".into()),
            ),
        ] {
            let vdb = Observation {
                look: Some(Look::Staged),
                ..device("/dev/vdb", content)
            };
            let choice = choose(&specs(&[spec]), Format::Local, &observed(vec![vdb]));
            let evidence = choice.first_accepted().map(Accepted::evidence);
            assert_eq!(evidence, Some(&expected), "{choice}");
        }
    }

    #[test]
    fn a_mark_of_another_machine_is_warned_of() {
        let staged_by = |machine: Option<&str>| Observation {
            look: Some(Look::Seen(Contents {
                mark: Some(Mark::staged_by(
                    machine.map(Into::into),
                    None,
                    uuid(),
                    1,
                    None,
                )),
                ..Contents::default()
            })),
            ..device("/dev/vdb", ext4(None))
        };
        for (machine, expected) in [("this", 0), ("another", 1)] {
            let mut observed = observed(vec![staged_by(Some(machine))]);
            observed.machine = Some("this".into());
            let choice = choose(&specs(&["/dev/vdb"]), Format::Local, &observed);
            assert!(choice.first_accepted().is_some(), "{choice}");
            let warnings = choice.warnings;
            assert_eq!(warnings.len(), expected, "{warnings:?}");
            let is_it =
                |one: &String| one == "/dev/vdb was staged by another machine before (another)";
            assert!(warnings.iter().all(is_it), "{warnings:?}");
        }
    }

    #[test]
    fn azures_temporary_disk_is_left_to_what_makes_its_file_system() {
        let temporary = |content| Observation {
            identity: Identity::LocalScratch(Scratch::AzureTemporaryDisk),
            zero: match content {
                Content::Nothing => Zero::Seen,
                _ => Zero::NotSeen,
            },
            ..device("/dev/sdb1", content)
        };
        let ntfs = || temporary(filesystem("ntfs", Some("Temporary Storage")));
        let cases = [
            (
                ntfs(),
                None,
                "LOCAL: /dev/sdb1 holds an empty ntfs, and gets a file system in its place (local: Azure temporary disk)",
            ),
            (
                ntfs(),
                Some("waagent"),
                "LOCAL: /dev/sdb1 is left to waagent, which makes its file system",
            ),
            (
                temporary(Content::Nothing),
                Some("cloud-init"),
                "LOCAL: /dev/sdb1 is left to cloud-init, which makes its file system",
            ),
            (
                temporary(ext4(None)),
                Some("cloud-init"),
                "LOCAL: /dev/sdb1 is accepted (local: Azure temporary disk)",
            ),
        ];
        for (disk, agent, expected) in cases {
            let mut observed = observed(vec![disk]);
            observed.azure_agent = agent.map(Into::into);
            let choice = choose(&[Spec::Local], Format::Local, &observed);
            assert_eq!(choice.verdicts[0].to_string(), expected);
        }
    }

    #[test]
    fn what_is_made_says_what_led_to_it() {
        let local = Observation {
            identity: Identity::LocalScratch(Scratch::GoogleLocalSsd),
            zero: Zero::Seen,
            ..device("/dev/vdb", Content::Nothing)
        };
        let cases = [
            (
                local,
                "LOCAL: /dev/vdb is blank and gets a file system (local: Google local SSD)",
            ),
            (
                device("/dev/vdb", filesystem("vfat", Some("EPHEMERAL0"))),
                "LABEL=ephemeral0: /dev/vdb holds an empty vfat, and gets a file system in its place (LABEL=ephemeral0)",
            ),
            (
                Observation {
                    zero: Zero::Seen,
                    ..device("/dev/vdb", Content::Nothing)
                },
                "/dev/vdb is blank and gets a file system",
            ),
        ];
        for (vdb, expected) in cases {
            let choice = choose(
                &specs(&DEFAULTS_AND_LOCAL),
                Format::Blank,
                &observed(vec![vdb]),
            );
            let said: Vec<String> = choice.verdicts.iter().map(Verdict::to_string).collect();
            assert!(said.iter().any(|one| one == expected), "{said:#?}");
        }
    }

    #[test]
    fn what_is_mounted_is_not_said_to_lack_the_label_that_it_has() {
        let mounted = |kind: &str, system| Observation {
            mounted_on: vec!["/mnt".into()],
            system,
            ..device("/dev/vdb", filesystem(kind, Some("ephemeral0")))
        };
        for vdb in [
            mounted("vfat", System::Elsewhere),
            mounted("ext4", System::PartitionOfItsDisk),
        ] {
            let choice = choose(
                &specs(&["LABEL=ephemeral0"]),
                Format::Local,
                &observed(vec![vdb]),
            );
            assert_eq!(
                choice.verdicts[0].to_string(),
                "LABEL=ephemeral0: /dev/vdb is mounted on /mnt; if it is the scratch disk, unmount it there"
            );
        }
    }

    #[test]
    fn what_is_staged_is_told_with_the_reason_for_which_it_may_be_used() {
        let cases = [
            (None, None, "ext4"),
            (Some("ephemeral0"), None, "ext4, LABEL=ephemeral0"),
            (
                Some("ephemeral0"),
                Some("LABEL=ephemeral0"),
                "ext4, LABEL=ephemeral0",
            ),
            (None, Some("empty"), "ext4, empty"),
            (Some("thesis"), Some("ours"), "ext4, LABEL=thesis, ours"),
            (
                None,
                Some("local: Google local SSD"),
                "ext4, local: Google local SSD",
            ),
        ];
        for (label, evidence, expected) in cases {
            assert_eq!(known_by("ext4", label, evidence, &[]), expected);
        }
    }

    #[test]
    fn only_a_disk_seen_to_be_zero_may_be_formatted() {
        let zero = |content| Observation {
            zero: Zero::Seen,
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
            (spoilt(|vdb| vdb.system = System::Disk), false),
            (spoilt(|vdb| vdb.read_only = true), false),
            (spoilt(|vdb| vdb.holders = vec!["dm-0".into()]), false),
            (spoilt(|vdb| vdb.mounted_on = vec!["/mnt".into()]), false),
            (spoilt(|vdb| vdb.identity = volume()), false),
        ];
        for (vdb, formattable) in cases {
            let choice = choose(
                &specs(&["/dev/vdb"]),
                Format::Blank,
                &observed(vec![vdb.clone()]),
            );
            assert_eq!(choice.to_be_made().is_some(), formattable, "{vdb:?}");
        }
    }

    fn place(text: &str, by_cloud_init: bool) -> Fstab {
        Fstab::Place(Place {
            line: 3,
            text: text.into(),
            author: match by_cloud_init {
                true => Author::CloudInit,
                false => Author::Other,
            },
        })
    }

    fn contents(change: fn(&mut Contents)) -> Option<Look> {
        let mut contents = Contents::default();
        change(&mut contents);
        Some(Look::Seen(contents))
    }

    #[test]
    fn beside_the_system_nothing_is_made_and_nothing_is_local() {
        let beside = |identity| Observation {
            system: System::PartitionOfItsDisk,
            zero: Zero::Seen,
            identity,
            ..device("/dev/vdb", Content::Nothing)
        };
        let local = Identity::LocalScratch(Scratch::Ec2InstanceStorage);
        for identity in [local, Identity::Unknown] {
            let specs = [Spec::Local, Spec::Name("/dev/vdb".into())];
            let observed = observed(vec![beside(identity)]);
            let choice = choose(&specs, Format::Blank, &observed);
            assert!(choice.to_be_made().is_none(), "{:?}", choice.verdicts);
            assert!(choice.first_accepted().is_none(), "{:?}", choice.verdicts);
        }
    }

    #[test]
    fn what_cannot_be_known_of_the_system_speaks_against_a_name_alone() {
        let unknown = |devices| Observed {
            system_unknown: Some("/ lies over /gone, which cannot be seen".into()),
            ..observed(devices)
        };
        let unread = |devices| Observed {
            mounted_unread: Some("vda1".into()),
            ..observed(devices)
        };
        let blank = Observation {
            zero: Zero::Seen,
            ..device("/dev/vdb", Content::Nothing)
        };
        let said = |observed: &Observed| {
            let choice = choose(
                &specs(&["LABEL=ephemeral0", "/dev/vdb"]),
                Format::Blank,
                observed,
            );
            choice.verdicts.last().unwrap().judgement.to_string()
        };
        let named = || vec![device("/dev/vdb", ext4(None))];
        let labelled = || vec![device("/dev/vdb", ext4(Some("ephemeral0")))];
        let cases = [
            (
                unknown(named()),
                "may be a disk that the system runs from: / lies over /gone",
            ),
            (
                unknown(vec![blank.clone()]),
                "may be a disk that the system runs from",
            ),
            (unknown(labelled()), "is accepted (LABEL=ephemeral0)"),
            (unread(named()), "may be a copy of vda1, which is mounted"),
            (
                unread(vec![blank.clone()]),
                "is blank and gets a file system",
            ),
            (unread(labelled()), "is accepted (LABEL=ephemeral0)"),
        ];
        for (observed, expected) in cases {
            let said = said(&observed);
            assert!(said.starts_with(expected), "{said:?}, not {expected:?}");
        }
        // Without the label that it gets, the next look would refuse it.
        let observed = unread(vec![blank]);
        let choice = choose(&specs(&["/dev/vdb"]), Format::Blank, &observed);
        let said = choice.to_string();
        assert!(choice.to_be_made().is_none(), "{said}");
        assert!(said.contains("copy of vda1, which is mounted"), "{said}");
    }

    #[test]
    fn what_cannot_get_a_file_system_is_not_said_to_get_one_and_keeps_its_place() {
        let empty = |node| Observation {
            look: contents(|_| {}),
            ..device(node, filesystem("vfat", Some("ephemeral0")))
        };
        let devices = vec![empty("/dev/vdc"), device("/dev/vdb", ext4(None))];
        let specs = specs(&["LABEL=ephemeral0", "/dev/vdb"]);
        let mut choice = choose(&specs, Format::Local, &observed(devices));
        let number = choice.to_be_made().map(ToBeMade::number);
        assert!(number.is_some(), "{choice}");
        choice.cannot_make(number, "there is no mkfs.xfs".into());
        assert!(choice.to_be_made().is_none(), "{choice}");
        assert!(choice.first_accepted().is_none(), "{choice}");
        let said = choice.to_string();
        assert!(said.contains("cannot get one"), "{said}");
        assert!(said.contains("there is no mkfs.xfs"), "{said}");
        assert!(!said.contains("gets a file system"), "{said}");
    }

    #[test]
    fn what_speaks_against_a_name_does_and_says_what_to_do() {
        let with = |change: fn(&mut Observation)| {
            let mut vdb = device("/dev/vdb", ext4(Some("data")));
            change(&mut vdb);
            vdb
        };
        let mark =
            |machine: Option<&str>| Mark::staged_by(machine.map(Into::into), None, uuid(), 1, None);
        let ours = Observation {
            look: Some(Look::Seen(Contents {
                mark: Some(mark(Some("another"))),
                is_replay_pending: true,
                others: names(&["home"]),
                used: names(&["home"]),
            })),
            ..device("/dev/vdb", ext4(None))
        };
        let cases = [
            (with(|_| ()), "accepted"),
            (ours, "accepted"),
            (
                with(|vdb| {
                    vdb.look = contents(|seen| {
                        seen.others = Names {
                            first: vec!["etc".into(), "home".into(), "root".into()],
                            count: 17,
                            is_cut: false,
                        }
                    })
                }),
                "holds files (etc, home, root … 17 in all); if it is the scratch disk, give it the label: e2label /dev/vdb ephemeral0",
            ),
            (
                with(|vdb| vdb.look = contents(|seen| seen.is_replay_pending = true)),
                "was not unmounted cleanly",
            ),
            (
                with(|vdb| vdb.look = Some(Look::Failed("EIO".into()))),
                "cannot be looked into (EIO)",
            ),
            (with(|vdb| vdb.look = None), "has not been looked into"),
            (
                with(|vdb| vdb.identity = volume()),
                "is a persistent volume",
            ),
            (
                with(|vdb| vdb.fstab = place("LABEL=data /data", false)),
                "has another place: line 3 of /etc/fstab (LABEL=data /data)",
            ),
            (
                with(|vdb| vdb.fstab = place("cloud-init's", true)),
                "accepted",
            ),
            (
                with(|vdb| vdb.fstab = Fstab::Unknown("EIO".into())),
                "may have another place",
            ),
            (
                with(|vdb| vdb.twin_of = Some("/dev/vda1".into())),
                "has the same UUID as /dev/vda1, which is mounted",
            ),
            (
                with(|vdb| vdb.facts.devices = Some(2)),
                "is a part of a file system on 2 devices",
            ),
            (
                with(|vdb| vdb.system = System::PartitionOfItsDisk),
                "accepted",
            ),
            (
                with(|vdb| {
                    vdb.system = System::PartitionOfItsDisk;
                    vdb.is_swapped_on = true;
                }),
                "is in use as swap space",
            ),
            (
                Observation {
                    boot_label: Some("CONFIG-2".into()),
                    ..device("/dev/vdb", filesystem("vfat", None))
                },
                "is the config drive",
            ),
            (
                device("/dev/vdb", filesystem("vfat", Some("CIDATA"))),
                "is cloud-init's seed disk",
            ),
            (
                device("/dev/vdb", filesystem("vfat", None)),
                "holds vfat, which keeps no owners, and only a name led to it",
            ),
        ];
        for (vdb, expected) in cases {
            let specs = specs(&["LABEL=ephemeral0", "/dev/vdb"]);
            let choice = choose(&specs, Format::Local, &observed(vec![vdb.clone()]));
            let said = match &choice.verdicts[1].judgement {
                Judgement::Accepted(_) => "accepted".to_string(),
                other => other.to_string(),
            };
            assert!(
                said.starts_with(expected),
                "{vdb:?}: {said:?}, not {expected:?}"
            );
        }
    }

    #[test]
    fn the_cure_is_a_command_that_can_be_run() {
        let cure = |labels: &[&str], kind, label| {
            let device = device("/dev/vdb", filesystem(kind, label));
            let labels: Vec<String> = labels
                .iter()
                .map(|label| format!("LABEL={label}"))
                .collect();
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            label_cure(&device, &specs(&labels))
        };
        let long = "scratch-space-of-condor";
        let cases = [
            (
                cure(&["scratch"], "ext4", None),
                "give it the label: e2label /dev/vdb scratch",
            ),
            (
                cure(&["ephemeral zero"], "ext4", None),
                "give it the label: e2label /dev/vdb 'ephemeral zero'",
            ),
            (
                cure(&["a;reboot"], "xfs", None),
                "give it the label: xfs_admin -L 'a;reboot' /dev/vdb",
            ),
            (
                cure(&["it's"], "btrfs", None),
                "give it the label: btrfs filesystem label /dev/vdb 'it'\\''s'",
            ),
            (
                cure(&["blankpartition0", "scratch"], "xfs", None),
                "give it the label: xfs_admin -L scratch /dev/vdb",
            ),
            (
                cure(&[long], "btrfs", None),
                "give it the label: btrfs filesystem label /dev/vdb scratch-space-of-condor",
            ),
            (
                cure(&[long], "ext4", Some("my data")),
                "name its label in staging.devices: 'LABEL=my data'",
            ),
            (
                cure(&[long], "vfat", None),
                "give it a label, and name that in staging.devices",
            ),
        ];
        for (cure, expected) in cases {
            assert_eq!(cure, expected);
        }
    }

    #[test]
    fn a_name_is_looked_into_only_where_it_decides() {
        let unseen = |node, label| Observation {
            look: None,
            ..device(node, ext4(label))
        };
        let vdb = unseen("/dev/vdb", None);
        let specs = specs(&DEFAULTS);
        let by_name = choose(&specs, Format::Local, &observed(vec![vdb.clone()]));
        assert_eq!(by_name.to_look_into, Some(vdb.number));
        let labelled = unseen("/dev/vdc", Some("ephemeral0"));
        let by_label = choose(&specs, Format::Local, &observed(vec![vdb, labelled]));
        assert_eq!(by_label.to_look_into, None);
        let said: Vec<String> = by_label.verdicts.iter().map(Verdict::to_string).collect();
        assert!(
            said.iter()
                .any(|line| line.contains("/dev/vdb is not needed")),
            "{said:?}"
        );
    }

    #[test]
    fn an_empty_vfat_that_a_label_led_to_is_made_anew_and_nothing_else_is_taken() {
        let vfat = |label: &str, change: fn(&mut Observation)| {
            let mut vdb = device("/dev/vdb", filesystem("vfat", Some(label)));
            change(&mut vdb);
            vdb
        };
        let holds = |vdb: &mut Observation| {
            vdb.look = Some(Look::Seen(Contents {
                used: names(&["thesis.tex"]),
                ..Contents::default()
            }))
        };
        type Case = (Observation, Format, bool, &'static str);
        let cases: [Case; 6] = [
            (
                vfat("EPHEMERAL0", |_| ()),
                Format::Local,
                true,
                "holds an empty vfat",
            ),
            (
                vfat("ephemeral0", |_| ()),
                Format::Blank,
                true,
                "holds an empty vfat",
            ),
            (
                vfat("ephemeral0", |_| ()),
                Format::Never,
                false,
                "holds vfat, which keeps no owners, and staging.format is \"never\"; set os_type=linux",
            ),
            (
                vfat("EPHEMERAL0", holds),
                Format::Local,
                false,
                "holds vfat, which keeps no owners, and is not empty (thesis.tex); set os_type=linux",
            ),
            (
                vfat("EPHEMERAL0", |vdb| {
                    vdb.fstab = place("cloud-init's line", true)
                }),
                Format::Local,
                false,
                "has another place: line 3 of /etc/fstab (cloud-init's line)",
            ),
            (
                vfat("EPHEMERAL0", |vdb| vdb.identity = volume()),
                Format::Local,
                false,
                "is a persistent volume",
            ),
        ];
        for (vdb, format, is_made, expected) in cases {
            let other = device("/dev/sdb", ext4(None));
            let devices = observed(vec![vdb.clone(), other]);
            let choice = choose(&specs(&DEFAULTS), format, &devices);
            assert_eq!(
                choice.to_be_made_at_once().is_some(),
                is_made,
                "{vdb:?} {format:?}"
            );
            let said = choice.verdicts[0].judgement.to_string();
            assert!(said.starts_with(expected), "{said:?}, not {expected:?}");
            assert_eq!(choice.first_accepted().is_some(), !is_made, "{choice}");
        }
    }

    #[test]
    fn a_vfat_that_stays_is_taken_where_nobody_asks_for_owners() {
        let holds = |vdb: &mut Observation| {
            vdb.look = Some(Look::Seen(Contents {
                used: names(&["thesis.tex"]),
                ..Contents::default()
            }))
        };
        let persistent = |vdb: &mut Observation| vdb.identity = volume();
        type Change = fn(&mut Observation);
        let cases: [(Change, Format, bool, bool, bool); 5] = [
            (|_| (), Format::Never, false, false, false),
            (|_| (), Format::Never, true, true, false),
            // One that may be made anew still is.
            (|_| (), Format::Local, true, false, true),
            (holds, Format::Local, true, true, false),
            (persistent, Format::Local, true, false, false),
        ];
        for (change, format, needs_no_owners, is_taken, is_made) in cases {
            let mut vdb = device("/dev/vdb", filesystem("vfat", Some("EPHEMERAL0")));
            change(&mut vdb);
            let observed = Observed {
                needs_no_owners,
                ..observed(vec![vdb])
            };
            let choice = choose(&specs(&DEFAULTS), format, &observed);
            let found = (
                choice.first_accepted().is_some(),
                choice.to_be_made_at_once().is_some(),
            );
            assert_eq!(found, (is_taken, is_made), "{choice}");
        }
    }

    #[test]
    fn what_is_to_be_made_anew_is_known_by_label_and_uuid_and_that_it_is_empty() {
        let vfat = |label, uuid: &str, used: &[&str]| Observation {
            uuid: Some(uuid.into()),
            look: Some(Look::Seen(Contents {
                used: names(used),
                ..Contents::default()
            })),
            ..device("/dev/vdb", filesystem("vfat", Some(label)))
        };
        let choice = |vdb| choose(&specs(&DEFAULTS), Format::Local, &observed(vec![vdb]));
        let judged = choice(vfat("EPHEMERAL0", "1234-ABCD", &[]));
        let judged = judged.to_be_made().unwrap();
        let cases = [
            (vfat("EPHEMERAL0", "1234-ABCD", &[]), true, true),
            (vfat("EPHEMERAL0", "1234-ABCE", &[]), false, false),
            (vfat("ephemeral0", "1234-ABCD", &[]), false, false),
            // What a superblock does not tell, looking again does.
            (vfat("EPHEMERAL0", "1234-ABCD", &["thesis"]), true, false),
        ];
        for (now, is_of, is_to_make) in cases {
            let found = judged.is_of(&now.content, now.uuid.as_deref());
            assert_eq!(found, is_of, "{now:?}");
            assert_eq!(
                choice(now.clone()).is_to_make(judged),
                is_to_make,
                "{now:?}"
            );
        }
    }

    #[test]
    fn a_local_disk_is_used_for_its_mark_and_made_anew_where_it_is_blank() {
        let local = |node: &str, content| Observation {
            identity: Identity::LocalScratch(Scratch::Ec2InstanceStorage),
            look: None,
            zero: Zero::Seen,
            ..device(node, content)
        };
        let used = local("/dev/nvme2n1", ext4(None));
        let blank = local("/dev/nvme1n1", Content::Nothing);
        let choice = choose(
            &specs(&DEFAULTS_AND_LOCAL),
            Format::Local,
            &observed(vec![blank.clone(), used]),
        );
        let accepted = choice.first_accepted().unwrap();
        assert_eq!(accepted.node(), Path::new("/dev/nvme2n1"));
        assert_eq!(accepted.reasons(), "local: EC2 instance storage");
        for (format, is_made) in [
            (Format::Never, false),
            (Format::Local, true),
            (Format::Blank, true),
        ] {
            let devices = observed(vec![blank.clone()]);
            let choice = choose(&specs(&DEFAULTS_AND_LOCAL), format, &devices);
            assert_eq!(choice.to_be_made().is_some(), is_made, "{format:?}");
        }
        // A name that leads to it does not take its evidence away.
        let named = local("/dev/vdb", Content::Nothing);
        let choice = choose(&specs(&["/dev/vdb"]), Format::Local, &observed(vec![named]));
        assert!(choice.to_be_made().is_some());
        let other = Observation {
            zero: Zero::Seen,
            ..device("/dev/vdb", Content::Nothing)
        };
        let choice = choose(&specs(&["/dev/vdb"]), Format::Local, &observed(vec![other]));
        assert!(choice.to_be_made().is_none());
    }

    #[test]
    fn what_this_program_was_making_is_made_anew_where_it_cannot_have_been_used() {
        let half_made = |half_made, content, change: fn(&mut Observation)| {
            let mut vdb = Observation {
                half_made,
                look: Some(Look::Failed("EUCLEAN".into())),
                ..device("/dev/vdb", content)
            };
            change(&mut vdb);
            vdb
        };
        let unsigned = |change| half_made(HalfMade::NoSignature, Content::Nothing, change);
        let signed = |change| {
            let label = Some("ephemeral0");
            half_made(HalfMade::Filesystem, ext4(label), change)
        };
        let unmounted = |vdb: &mut Observation| vdb.facts.was_never_mounted = true;
        let cases = [
            (unsigned(|_| ()), true),
            (unsigned(|vdb| vdb.identity = volume()), false),
            (unsigned(|vdb| vdb.mounted_on = vec!["/mnt".into()]), false),
            (unsigned(|vdb| vdb.fstab = place("a line", false)), false),
            (unsigned(|vdb| vdb.partitions = vec!["vdb1".into()]), false),
            (unsigned(|vdb| vdb.half_made = HalfMade::No), false),
            (signed(unmounted), true),
            (signed(|_| ()), false),
            // It is whole.
            (
                signed(|vdb| {
                    vdb.facts.was_never_mounted = true;
                    vdb.look = Some(Look::Seen(Contents::default()));
                }),
                false,
            ),
        ];
        for (vdb, is_made) in cases {
            for specs in [
                specs(&["/dev/vdb"]),
                specs(&["LABEL=ephemeral0", "/dev/vdb"]),
            ] {
                let devices = observed(vec![vdb.clone()]);
                let choice = choose(&specs, Format::Blank, &devices);
                assert_eq!(choice.to_be_made().is_some(), is_made, "{vdb:?}");
            }
        }
        let unseen = Observation {
            look: None,
            ..signed(unmounted)
        };
        let number = unseen.number;
        let choice = choose(&specs(&DEFAULTS), Format::Blank, &observed(vec![unseen]));
        assert_eq!(choice.to_look_into, Some(number));
    }

    proptest! {
        /// For whatever there is: who is taken by name is empty or ours, and nobody else's.
        #[test]
        fn what_a_name_led_to_is_nobody_elses(
            flags in proptest::collection::vec(any::<bool>(), 14),
            pick in 0..6usize,
        ) {
            let content = [
                ext4(None), ext4(Some("data")), filesystem("xfs", None), other("swap"),
                Content::Nothing, filesystem("vfat", None),
            ][pick].clone();
            let mut vdb = device("/dev/vdb", content);
            let seen = Contents {
                mark: flags[0].then(|| Mark::staged_by(None, None, uuid(), 1, None)),
                is_replay_pending: flags[1],
                others: names(if flags[2] { &["home"] } else { &[] }),
                used: names(if flags[2] { &["home"] } else { &[] }),
            };
            vdb.look = match flags[3] {
                true => Some(Look::Failed("EIO".into())),
                false => Some(Look::Seen(seen.clone())),
            };
            if flags[4] { vdb.identity = volume(); }
            if flags[5] { vdb.fstab = place("a line", flags[6]); }
            if flags[7] { vdb.twin_of = Some("/dev/vda".into()); }
            if flags[8] { vdb.system = System::Disk; }
            if flags[9] { vdb.mounted_on = vec!["/mnt".into()]; }
            if flags[10] { vdb.holders = vec!["dm-0".into()]; }
            if flags[11] { vdb.read_only = true; }
            if flags[12] { vdb.facts.devices = Some(2); }
            if flags[13] { vdb.zero = Zero::Seen; }
            let devices = observed(vec![vdb.clone()]);
            for format in [Format::Never, Format::Local, Format::Blank] {
                let choice = choose(&specs(&["LABEL=ephemeral0", "/dev/vdb"]), format, &devices);
                if choice.first_accepted().is_some() {
                    prop_assert!(!flags[3] && (seen.mark.is_some() || !flags[1] && !flags[2]));
                    prop_assert!(!flags[5] || flags[6]);
                    for against in [4, 7, 8, 9, 10, 11, 12] {
                        prop_assert!(!flags[against], "{}", against);
                    }
                }
                if choice.to_be_made().is_some() {
                    prop_assert!(format == Format::Blank && vdb.zero == Zero::Seen);
                    prop_assert!(vdb.content == Content::Nothing);
                    for against in [4, 5, 8, 9, 10, 11] {
                        prop_assert!(!flags[against], "{}", against);
                    }
                }
            }
        }
    }
}
