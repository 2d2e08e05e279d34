//! What becomes of several local disks where they are to be one: a pure rule.
//!
//! | what there is | what is done |
//! | --- | --- |
//! | all members of an array of this program's name | it is put together, if nobody has done so |
//! | two or more blank disks | they become an array |
//! | some members of the array that this program made, and others that are blank | likewise: what was on it is lost |
//! | one blank disk, or no mdadm | it is used alone, as without any of this |
//! | an array of this name that is not whole, and no record that this program made it | nothing: the missing disk may come back |
//! | an array of another name, or with a disk that is not local | it stays what it is |

use std::path::{Path, PathBuf};

use super::against::{against_making, refuse, refuse_blank};
use super::stripe::{How, Joined, Part, Stripe, Task, Was};
use super::telling::{local, natural_order};
use super::verdict::Judgement;
use crate::config::{Format, Spec};
use crate::disk::array::{Member, NAME};
use crate::disk::identity::Scratch;
use crate::disk::making::HalfMade;
use crate::disk::observation::{Combining, Observation, Observed, Tools};
use crate::disk::reason::Reason;
use crate::disk::signature::{Content, Zero};
use crate::host::block_device::Number;
use crate::text;

/// Of the disks, each with what is said of it.
#[derive(Debug, Default)]
pub(super) struct Several {
    judgements: Vec<(Number, Judgement)>,
    pub(super) stripe: Option<Stripe>,
    pub(super) warning: Option<String>,
}

impl Several {
    /// What is said of a disk in place of what would be said of it alone.
    pub(super) fn judgement(&self, device: &Observation) -> Option<Judgement> {
        let mut judgements = self.judgements.iter();
        let found = judgements.find(|(number, _)| *number == device.number);
        found.map(|(_, judgement)| judgement.clone())
    }

    fn refuse(&mut self, device: &Observation, words: String, cure: String) {
        let reason = Reason::Obstacle(words, cure);
        self.reject(device, reason);
    }

    fn reject(&mut self, device: &Observation, reason: Reason) {
        let judgement = Judgement::Rejected(reason);
        self.judgements.push((device.number, judgement));
    }
}

/// Of which cloud an array is, and what its members say of it: if it is called as this program's
/// are, and all of them are local.
pub(crate) fn array_of<'a>(
    device: &Observation,
    devices: &'a [Observation],
) -> Option<(Scratch, &'a Member)> {
    let members = device.made_of.iter().map(|node| {
        let disk = devices.iter().find(|disk| disk.node == *node)?;
        Some((local(disk)?, disk.facts.member.as_ref()?))
    });
    let members: Vec<(Scratch, &Member)> = members.collect::<Option<_>>()?;
    let (scratch, first) = *members.first()?;
    let is_one = |(_, member): &(Scratch, &Member)| member.uuid == first.uuid;
    (first.is_named() && members.iter().all(is_one)).then_some((scratch, first))
}

pub(super) fn several(specs: &[Spec], format: Format, observed: &Observed) -> Several {
    let mut several = Several::default();
    let Some(combining) = &observed.combining else {
        return several;
    };
    let found = Found::of(observed, combining, &mut several);
    let is_asked_for = |spec: &Spec| match spec {
        Spec::Local => true,
        Spec::Label(label) => label == NAME,
        Spec::Name(_) => false,
    };
    let is_wanted = specs.iter().any(is_asked_for);
    if let Some(taken) = found
        .running
        .or(found.whole.first().map(|disk| &*disk.node))
        .filter(|_| is_wanted)
    {
        for disk in found.blank.iter().chain(&found.partitions) {
            several.reject(disk, Reason::NotNeeded(taken.into()));
        }
    }
    let whole = found
        .whole
        .first()
        .and_then(|disk| disk.facts.member.as_ref());
    match (found.running, whole) {
        (Some(_), _) => {}
        (None, Some(member)) if is_wanted => {
            several.join(Task::Assemble(member.uuid.clone()), &found.whole);
        }
        (None, None) if specs.contains(&Spec::Local) => several.create(format, combining, &found),
        (None, _) => {}
    }
    several
}

/// The disks that count, by what they are.
#[derive(Default)]
struct Found<'a> {
    /// The array, where it runs.
    running: Option<&'a Path>,
    /// All members of one that does not run.
    whole: Vec<&'a Observation>,
    /// Members of the one that this program made, which is not whole.
    left: Vec<&'a Observation>,
    /// What a run that died has left.
    half_made: Vec<&'a Observation>,
    blank: Vec<&'a Observation>,
    /// Likewise, or half made: two may be of one disk.
    partitions: Vec<&'a Observation>,
    /// A member of an array that is not whole and may not be touched.
    waits_for: Option<&'a Path>,
}

impl<'a> Found<'a> {
    fn of(observed: &'a Observed, combining: &Combining, several: &mut Several) -> Found<'a> {
        let mut found = Found::default();
        let mut arrays: Vec<Vec<&Observation>> = Vec::new();
        for disk in &observed.devices {
            if let (Some(member), Content::Other { .. }) = (&disk.facts.member, &disk.content) {
                let is_of = |array: &&mut Vec<&Observation>| uuid(array[0]) == Some(&member.uuid);
                match arrays.iter_mut().find(is_of) {
                    Some(array) => insert(array, disk),
                    None => arrays.push(vec![disk]),
                }
            }
            if local(disk).is_none() || !disk.made_of.is_empty() || is_kept(disk, observed) {
                continue;
            }
            match (disk.half_made, disk.zero) {
                _ if disk.is_partition => found.partitions.push(disk),
                (_, Zero::Seen) => insert(&mut found.blank, disk),
                (HalfMade::Member, _) => insert(&mut found.half_made, disk),
                _ => {}
            }
        }
        // Of two with the name this program's own goes first.
        let record = combining.record.as_ref();
        let (own, others): (Vec<_>, Vec<_>) = arrays.into_iter().partition(|members| {
            let uuid = uuid(members[0]);
            uuid.is_some_and(|uuid| record.is_some_and(|record| record.is_of(uuid)))
        });
        for members in own.into_iter().chain(others) {
            found.add(members, observed, combining, several);
        }
        found
    }

    /// Sorts in the members of one array.
    fn add(
        &mut self,
        members: Vec<&'a Observation>,
        observed: &'a Observed,
        combining: &Combining,
        several: &mut Several,
    ) {
        let locals = || members.iter().filter(|disk| local(disk).is_some());
        let Some(Some(member)) = locals().next().map(|disk| &disk.facts.member) else {
            return;
        };
        let is_of = |array: &&Observation| array.made_of.contains(&members[0].node);
        if let Some(array) = observed.devices.iter().find(is_of) {
            locals().for_each(|disk| several.reject(disk, Reason::PartOf(array.node.clone())));
            if member.is_named() {
                self.running = Some(&array.node);
            }
            return;
        }
        if !member.is_named() {
            for disk in locals() {
                several.refuse(
                    disk,
                    format!(
                        "is a member of an array that is not this program's ({})",
                        member.name
                    ),
                    take_out(disk),
                );
            }
            return;
        }
        let missing = missing(member, &members);
        let is_ours = combining.record.as_ref();
        let is_ours = is_ours.is_some_and(|record| record.is_of(&member.uuid));
        let unread = unread(observed, combining);
        let kept = members
            .iter()
            .find_map(|disk| Some((disk, against_a_member(disk)?)));
        let why = match (kept, missing) {
            (Some((disk, why)), _) => format!("{} {why}", disk.node.display()),
            (None, Missing::Nothing) if self.whole.is_empty() => {
                self.whole = members;
                return;
            }
            (None, Missing::Nothing) => "there is another one of that name".into(),
            (None, Missing::Ambiguous) => "two of its disks are the same one of them".into(),
            (None, Missing::Some(_)) if is_ours && !unread.is_empty() => format!(
                "{} may be the one that is missing, and could not be read",
                text::all_of(&unread)
            ),
            (None, Missing::Some(_)) if is_ours => {
                let may_be_made = |disk: &&Observation| against_making(disk, observed).is_none();
                if members.iter().all(may_be_made) {
                    members.iter().for_each(|disk| insert(&mut self.left, disk));
                    return;
                }
                "its disks may not be formatted".into()
            }
            (None, Missing::Some(count)) => format!(
                "{count} of its {} are missing, and nothing says that this program made it",
                disks(member.disks)
            ),
        };
        self.waits_for = Some(&members[0].node);
        for disk in locals() {
            let words = format!("is a member of the array {NAME}: {why}");
            several.refuse(disk, words, take_out(disk));
        }
    }
}

/// Of the array that a disk is a member of.
fn uuid(disk: &Observation) -> Option<&String> {
    disk.facts.member.as_ref().map(|member| &member.uuid)
}

/// In the order of their names.
fn insert<'a>(disks: &mut Vec<&'a Observation>, disk: &'a Observation) {
    let name = natural_order(&disk.node);
    let is_after = |other: &&Observation| natural_order(&other.node) > name;
    let place = disks.iter().position(is_after);
    disks.insert(place.unwrap_or(disks.len()), disk);
}

/// Local disks of which it is not known what is on them.
fn unread(observed: &Observed, combining: &Combining) -> Vec<PathBuf> {
    let mut unread = combining.without_node.clone();
    for disk in &observed.devices {
        let is_unread = matches!(
            disk.content,
            Content::NoAnswer { .. } | Content::Unreadable { .. } | Content::Ambivalent { .. }
        );
        if is_unread && local(disk).is_some() {
            unread.push(disk.node.clone());
        }
    }
    unread
}

/// Which members of an array are not there.
enum Missing {
    Nothing,
    Some(usize),
    /// Two say that they are the same one.
    Ambiguous,
}

fn missing(member: &Member, members: &[&Observation]) -> Missing {
    let is_there = |role: &u32| {
        let mut others = members.iter().filter_map(|disk| disk.facts.member.as_ref());
        others.any(|other| other.role == *role)
    };
    let there = (0..member.disks).filter(is_there).count();
    match (member.disks as usize).checked_sub(there) {
        _ if there < members.len() => Missing::Ambiguous,
        Some(0) => Missing::Nothing,
        Some(count) => Missing::Some(count),
        None => Missing::Ambiguous,
    }
}

/// What speaks against a blank disk, or one without a signature.
fn is_kept(disk: &Observation, observed: &Observed) -> bool {
    !matches!(refuse(disk), Some(Reason::Blank(_)))
        || against_making(disk, observed).is_some()
        || refuse_blank(disk).is_some()
}

/// What speaks against a member of an array that does not run: an md that has it, and does not run
/// either, does not.
fn against_a_member(disk: &Observation) -> Option<String> {
    if local(disk).is_none() {
        return Some("is none of the cloud's local disks".into());
    }
    let mut alone = disk.clone();
    alone.holders.retain(|holder| !holder.starts_with("md"));
    let against = match refuse(&alone) {
        Some(Reason::NotAFilesystem(_)) if disk.read_only => Some(Reason::ReadOnly),
        Some(Reason::NotAFilesystem(_)) => refuse_blank(disk),
        against => against,
    };
    against.map(|reason| reason.to_string())
}

fn take_out(disk: &Observation) -> String {
    let node = disk.node.display();
    format!("make a file system on it: mdadm --zero-superblock {node}, and mkfs")
}

fn all_of(disks: &[&Observation]) -> String {
    let nodes: Vec<PathBuf> = disks.iter().map(|disk| disk.node.clone()).collect();
    text::all_of(&nodes)
}

fn disks(count: u32) -> String {
    format!("{count} disk{}", if count == 1 { "" } else { "s" })
}

impl Several {
    /// Makes an array of what is blank or left, where there is enough.
    fn create(&mut self, format: Format, combining: &Combining, found: &Found) {
        let Found { left, blank, .. } = found;
        if let Some(other) = found.waits_for {
            for disk in blank.iter().chain(&found.half_made) {
                let words = format!(
                    "is blank, and may belong to the array that {} is a member of",
                    other.display()
                );
                self.refuse(disk, words, "make a file system on it".into());
            }
            return;
        }
        let mut all = left.clone();
        for disk in blank.iter().chain(&found.half_made) {
            insert(&mut all, disk);
        }
        let hindrance = match (format, combining.tools) {
            (Format::Never, _) => Some("staging.format is \"never\""),
            _ if all.len() < 2 => Some("there is no other disk to make it anew with"),
            (_, Tools::NoMdadm) => Some("there is no mdadm to make it anew with"),
            (_, Tools::NoMkfs) => Some("there is no mkfs to make it anew with"),
            _ => None,
        };
        let Some(hindrance) = hindrance else {
            let lefts = left.iter().filter_map(|disk| disk.facts.member.as_ref());
            if let Some(member) = lefts.clone().next() {
                self.warning = Some(format!(
                    "of the {} of the array {NAME}, {} is left and the others are gone: what was on it is lost, and it is made anew",
                    disks(member.disks),
                    all_of(left),
                ));
            }
            for partition in &found.partitions {
                self.reject(partition, Reason::NotNeeded(all[0].node.clone()));
            }
            let instead_of = lefts.map(|member| member.uuid.clone()).collect();
            return self.join(Task::Create { instead_of }, &all);
        };
        for disk in left.iter().chain(&found.half_made) {
            let words = format!(
                "is left of an array that this program made and that is not whole, and {hindrance}"
            );
            self.refuse(disk, words, take_out(disk));
        }
        if let (Format::Local | Format::Blank, Tools::NoMdadm, [first, _, ..]) =
            (format, combining.tools, &blank[..])
        {
            self.warning = Some(format!(
                "{} are blank and this system has no mdadm: {} is used alone; install mdadm, or set staging.combine = \"first\"",
                all_of(blank),
                first.node.display(),
            ));
        }
    }

    fn join(&mut self, task: Task, disks: &[&Observation]) {
        let part = |disk: &Observation| Part {
            node: disk.node.clone(),
            number: disk.number,
            size_bytes: disk.size_bytes,
            was: match &disk.facts.member {
                Some(member) => Was::Member(member.clone()),
                None if disk.zero == Zero::Seen => Was::Blank,
                None => Was::HalfMade,
            },
        };
        let mut held_by: Vec<String> = Vec::new();
        for disk in disks {
            for holder in &disk.holders {
                if !held_by.contains(holder) {
                    held_by.push(holder.clone());
                }
            }
            let others = disks.iter().filter(|other| other.node != disk.node);
            let joined = Joined {
                how: match (&task, part(disk).was) {
                    (Task::Assemble(_), _) => How::Assembled,
                    (Task::Create { .. }, Was::Blank) => How::Blank,
                    (Task::Create { .. }, Was::HalfMade | Was::Member(_)) => How::Left,
                },
                others: others.map(|other| other.node.clone()).collect(),
                local: local(disk),
            };
            self.judgements
                .push((disk.number, Judgement::Joined(joined)));
        }
        self.stripe = Some(Stripe {
            task,
            parts: disks.iter().map(|disk| part(disk)).collect(),
            held_by,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::choose;
    use super::super::tests::device;
    use super::*;
    use crate::disk::array::Record;
    use crate::disk::claimed::{Author, Place};
    use crate::disk::identity::Identity;
    use crate::disk::inventory::System;
    use crate::disk::looked::{Contents, Look};
    use crate::disk::observation::{Fstab, Named};
    use crate::host::tree::Tree;

    const OURS: &str = "0e4d1c2b8f6a4b3c9d1e000000000001";
    const BEFORE: &str = "0e4d1c2b8f6a4b3c9d1e000000000002";
    const OTHER: &str = "0e4d1c2b8f6a4b3c9d1e000000000003";

    fn local_disk(node: &str, content: Content) -> Observation {
        Observation {
            identity: Identity::LocalScratch(Scratch::Ec2InstanceStorage),
            look: None,
            ..device(node, content)
        }
    }

    fn blank(node: &str) -> Observation {
        Observation {
            uuid: None,
            zero: Zero::Seen,
            ..local_disk(node, Content::Nothing)
        }
    }

    fn half_made(node: &str) -> Observation {
        Observation {
            zero: Zero::NotSeen,
            half_made: HalfMade::Member,
            ..blank(node)
        }
    }

    fn named(node: &str, uuid: &str, name: &str, (role, disks): (u32, u32)) -> Observation {
        let kind = "linux_raid_member".to_string();
        let mut disk = local_disk(node, Content::Other { kind, label: None });
        disk.facts.member = Some(Member {
            uuid: uuid.into(),
            name: name.into(),
            level: 0,
            disks,
            role,
            data_offset: 1 << 20,
        });
        disk
    }

    fn member(node: &str, uuid: &str, role: (u32, u32)) -> Observation {
        named(node, uuid, NAME, role)
    }

    fn held(by: &str, disk: Observation) -> Observation {
        Observation {
            holders: vec![by.into()],
            ..disk
        }
    }

    fn array(node: &str, content: Content, made_of: &[&str]) -> Observation {
        Observation {
            made_of: made_of.iter().map(Into::into).collect(),
            ..device(node, content)
        }
    }

    fn ephemeral0() -> Content {
        Content::Filesystem {
            kind: "ext4".into(),
            label: Some(NAME.into()),
        }
    }

    fn observed(devices: Vec<Observation>, tools: Tools) -> Observed {
        let tree = Tree::new(&[]);
        let record = Record::of(&tree.host(), OURS, &[BEFORE.into()], &[]);
        Observed {
            devices,
            combining: Some(Combining {
                record: Some(record),
                tools,
                without_node: Vec::new(),
            }),
            ..Observed::default()
        }
    }

    fn specs() -> Vec<Spec> {
        vec![Spec::Label(NAME.into()), Spec::Local]
    }

    /// What is to be done, in short, and all that is said.
    fn judged(format: Format, observed: &Observed) -> (String, String) {
        let choice = choose(&specs(), format, observed);
        let later = choice
            .to_be_one()
            .filter(|_| choice.first_accepted().is_none());
        let stripe = choice.to_assemble_at_once().or(later);
        let done = match stripe.map(|stripe| (stripe, stripe.task())) {
            Some((stripe, Task::Create { instead_of })) if instead_of.is_empty() => {
                format!("create {stripe}")
            }
            Some((stripe, Task::Create { .. })) => format!("create {stripe} anew"),
            Some((stripe, Task::Assemble(_))) => format!("assemble {stripe}"),
            None => match (choice.first_accepted(), choice.to_be_made()) {
                (Some(accepted), _) => format!("use {}", accepted.node().display()),
                (None, Some(one)) => format!("make {}", one.node().display()),
                (None, None) => "nothing".into(),
            },
        };
        (done, choice.to_string())
    }

    #[test]
    fn what_becomes_of_several_local_disks() {
        let volume = |node| Observation {
            identity: Identity::Unknown,
            ..member(node, OURS, (1, 2))
        };
        let swapped = |disk| Observation {
            mounted_on: vec!["/data".into()],
            ..disk
        };
        let in_fstab = |disk| Observation {
            fstab: Fstab::Place(Place {
                line: 2,
                text: "/dev/b /data".into(),
                author: Author::Other,
            }),
            ..disk
        };
        let of_the_system = |disk| Observation {
            system: System::Disk,
            ..disk
        };
        let read_only = |disk| Observation {
            read_only: true,
            ..disk
        };
        let partition = |disk| Observation {
            is_partition: true,
            ..disk
        };
        let slow = |disk| Observation {
            zero: Zero::NotInTime,
            ..disk
        };
        let no_answer = || Content::NoAnswer {
            after: Duration::from_secs(5),
        };
        let unreadable = || Content::Unreadable {
            error: "Input/output error".into(),
        };
        let ambivalent = || Content::Ambivalent {
            kinds: vec!["ext4".into(), "xfs".into()],
        };
        let running = |content| array("/dev/md127", content, &["/dev/a", "/dev/b"]);
        let members = |uuid| {
            [
                held("md127", member("/dev/a", uuid, (0, 2))),
                held("md127", member("/dev/b", uuid, (1, 2))),
            ]
        };
        let with = |first: Observation, others: [Observation; 2]| {
            let mut all = vec![first];
            all.extend(others);
            all
        };
        // What there is, what is done, what is said.
        let cases: Vec<(Vec<Observation>, &str, &str)> = vec![
            (
                vec![blank("/dev/b"), blank("/dev/a")],
                "create /dev/a and /dev/b",
                "/dev/b is blank and becomes one disk with /dev/a (local: EC2 instance storage)",
            ),
            (
                vec![blank("/dev/a"), blank("/dev/b"), blank("/dev/c")],
                "create /dev/a, /dev/b and /dev/c",
                "with /dev/b and /dev/c",
            ),
            (vec![blank("/dev/a")], "make /dev/a", "is blank and gets"),
            (
                vec![
                    blank("/dev/a"),
                    partition(blank("/dev/b1")),
                    partition(blank("/dev/b2")),
                ],
                "make /dev/a",
                "",
            ),
            (
                vec![
                    blank("/dev/a"),
                    partition(blank("/dev/b1")),
                    blank("/dev/c"),
                ],
                "create /dev/a and /dev/c",
                "/dev/b1 is not needed",
            ),
            (
                vec![
                    blank("/dev/ab"),
                    blank("/dev/ac"),
                    partition(blank("/dev/a1")),
                ],
                "create /dev/ab and /dev/ac",
                "",
            ),
            (
                vec![blank("/dev/a"), slow(blank("/dev/b")), blank("/dev/c")],
                "create /dev/a and /dev/c",
                "/dev/b has no signature, and is too slow",
            ),
            (
                vec![blank("/dev/a"), in_fstab(blank("/dev/b"))],
                "make /dev/a",
                "/dev/b has another place",
            ),
            (
                vec![blank("/dev/a"), held("dm-0", blank("/dev/b"))],
                "make /dev/a",
                "/dev/b is in use by dm-0",
            ),
            (
                vec![
                    blank("/dev/a"),
                    of_the_system(blank("/dev/b")),
                    blank("/dev/c"),
                ],
                "create /dev/a and /dev/c",
                "",
            ),
            (
                vec![blank("/dev/a"), read_only(blank("/dev/b"))],
                "make /dev/a",
                "/dev/b is read-only",
            ),
            (
                vec![
                    blank("/dev/a"),
                    blank("/dev/b"),
                    local_disk("/dev/c", ephemeral0()),
                ],
                "use /dev/c",
                "",
            ),
            // Put together.
            (
                vec![
                    member("/dev/b", OURS, (0, 2)),
                    member("/dev/a", OURS, (1, 2)),
                ],
                "assemble /dev/a and /dev/b",
                "/dev/a is a member of an array, and is put together with /dev/b",
            ),
            (
                vec![
                    member("/dev/a", OTHER, (0, 2)),
                    member("/dev/b", OTHER, (1, 2)),
                ],
                "assemble /dev/a and /dev/b",
                "",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    held("md127", member("/dev/b", OURS, (1, 2))),
                ],
                "assemble /dev/a and /dev/b",
                "",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    member("/dev/b", OURS, (1, 2)),
                    blank("/dev/c"),
                ],
                "assemble /dev/a and /dev/b",
                "/dev/c is not needed and was not looked into: /dev/a is taken",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    member("/dev/b", OURS, (1, 2)),
                    local_disk(
                        "/dev/c",
                        Content::Filesystem {
                            kind: "ext4".into(),
                            label: None,
                        },
                    ),
                ],
                "assemble /dev/a and /dev/b",
                "",
            ),
            (
                vec![
                    member("/dev/a", OTHER, (0, 2)),
                    member("/dev/b", OTHER, (1, 2)),
                    member("/dev/c", OURS, (0, 2)),
                    member("/dev/d", OURS, (1, 2)),
                ],
                "assemble /dev/c and /dev/d",
                "/dev/a is a member of the array ephemeral0: there is another one of that name",
            ),
            (
                with(running(ephemeral0()), members(OURS)),
                "use /dev/md127",
                "/dev/a is a part of /dev/md127",
            ),
            // Left of an array.
            (
                vec![member("/dev/a", OURS, (0, 2)), blank("/dev/b")],
                "create /dev/a and /dev/b anew",
                "of the 2 disks of the array ephemeral0, /dev/a is left and the others are gone",
            ),
            (
                vec![
                    held("md127", member("/dev/a", BEFORE, (1, 2))),
                    member("/dev/b", OURS, (0, 2)),
                ],
                "create /dev/a and /dev/b anew",
                "/dev/a is left of an array that this program made",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 3)),
                    member("/dev/b", OURS, (2, 3)),
                ],
                "create /dev/a and /dev/b anew",
                "of the 3 disks",
            ),
            (
                vec![half_made("/dev/a"), blank("/dev/b")],
                "create /dev/a and /dev/b",
                "/dev/a is left of an array",
            ),
            (
                vec![
                    Observation {
                        zero: Zero::Seen,
                        ..half_made("/dev/a")
                    },
                    blank("/dev/b"),
                ],
                "create /dev/a and /dev/b",
                "/dev/a is blank and becomes one disk with",
            ),
            (
                vec![member("/dev/a", OURS, (0, 2))],
                "nothing",
                "and there is no other disk to make it anew with; if it is the scratch disk, make a file system on it: mdadm --zero-superblock /dev/a",
            ),
            (
                vec![member("/dev/a", OTHER, (0, 2)), blank("/dev/b")],
                "nothing",
                "1 of its 2 disks are missing, and nothing says that this program made it",
            ),
            (
                vec![member("/dev/a", OTHER, (0, 2)), blank("/dev/b")],
                "nothing",
                "/dev/b is blank, and may belong to the array that /dev/a is a member of",
            ),
            // The missing one may be there, and not answer.
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    local_disk("/dev/b", no_answer()),
                    blank("/dev/c"),
                ],
                "nothing",
                "/dev/a is a member of the array ephemeral0: /dev/b may be the one that is missing, and could not be read",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    local_disk("/dev/b", unreadable()),
                    blank("/dev/c"),
                ],
                "nothing",
                "/dev/c is blank, and may belong to the array that /dev/a is a member of",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 3)),
                    member("/dev/b", OURS, (1, 3)),
                    local_disk("/dev/c", ambivalent()),
                ],
                "nothing",
                "/dev/c may be the one that is missing",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    device("/dev/b", no_answer()),
                    blank("/dev/c"),
                ],
                "create /dev/a and /dev/c anew",
                "",
            ),
            (
                vec![member("/dev/a", OURS, (0, 2)), in_fstab(blank("/dev/b"))],
                "nothing",
                "/dev/b has another place",
            ),
            (
                vec![in_fstab(member("/dev/a", OURS, (0, 2))), blank("/dev/b")],
                "nothing",
                "its disks may not be formatted",
            ),
            // Of somebody else, or in use.
            (
                vec![
                    named("/dev/a", OTHER, "data", (0, 2)),
                    named("/dev/b", OTHER, "data", (1, 2)),
                ],
                "nothing",
                "/dev/a is a member of an array that is not this program's (data)",
            ),
            (
                vec![
                    named("/dev/a", OURS, "data", (0, 2)),
                    blank("/dev/b"),
                    blank("/dev/c"),
                ],
                "create /dev/b and /dev/c",
                "(data)",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    volume("/dev/b"),
                    blank("/dev/c"),
                ],
                "nothing",
                "/dev/b is none of the cloud's local disks",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    swapped(member("/dev/b", OURS, (1, 2))),
                ],
                "nothing",
                "/dev/b is mounted on /data",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    held("dm-0", member("/dev/b", OURS, (1, 2))),
                ],
                "nothing",
                "/dev/b is in use by dm-0",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    read_only(member("/dev/b", OURS, (1, 2))),
                ],
                "nothing",
                "/dev/b is read-only",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    member("/dev/b", OURS, (0, 2)),
                ],
                "nothing",
                "two of its disks are the same one of them",
            ),
        ];
        for (devices, done, said) in cases {
            let observed = observed(devices, Tools::Found);
            let found = judged(Format::Local, &observed);
            assert_eq!(found.0, done, "{}", found.1);
            assert!(found.1.contains(said), "{said:?} is not in: {}", found.1);
        }
    }

    #[test]
    fn without_mdadm_the_first_blank_disk_is_used_and_an_array_that_is_whole_is() {
        let cases = [
            (
                vec![blank("/dev/a"), blank("/dev/b")],
                "make /dev/a",
                "/dev/a and /dev/b are blank and this system has no mdadm: /dev/a is used alone",
            ),
            (
                vec![
                    member("/dev/a", OURS, (0, 2)),
                    member("/dev/b", OURS, (1, 2)),
                ],
                "assemble /dev/a and /dev/b",
                "",
            ),
            (
                vec![member("/dev/a", OURS, (0, 2)), half_made("/dev/b")],
                "nothing",
                "there is no mdadm to make it anew with",
            ),
        ];
        for (devices, done, said) in cases {
            let found = judged(Format::Local, &observed(devices, Tools::NoMdadm));
            assert_eq!(found.0, done, "{}", found.1);
            assert!(found.1.contains(said), "{said:?} is not in: {}", found.1);
        }
    }

    #[test]
    fn no_array_is_made_that_could_get_no_file_system() {
        let cases = [
            [blank("/dev/a"), blank("/dev/b")],
            [member("/dev/a", OURS, (0, 2)), blank("/dev/b")],
            [half_made("/dev/a"), half_made("/dev/b")],
        ];
        for devices in cases {
            let observed = observed(devices.into(), Tools::NoMkfs);
            let choice = choose(&specs(), Format::Local, &observed);
            assert_eq!(choice.stripe, None, "{choice}");
            assert_eq!(choice.of_several, None, "{choice}");
        }
    }

    #[test]
    fn a_local_disk_without_a_node_may_be_the_member_that_is_missing() {
        for (is_left, done) in [(true, "nothing"), (false, "create /dev/b and /dev/c")] {
            let mut devices = vec![blank("/dev/b"), blank("/dev/c")];
            devices.extend(is_left.then(|| member("/dev/a", OURS, (0, 2))));
            let mut observed = observed(devices, Tools::Found);
            let combining = observed.combining.as_mut().unwrap();
            combining.without_node = vec!["/dev/d".into()];
            let found = judged(Format::Local, &observed);
            assert_eq!(found.0, done, "{}", found.1);
            let said = "/dev/d may be the one that is missing, and could not be read";
            assert_eq!(found.1.contains(said), is_left, "{}", found.1);
        }
    }

    #[test]
    fn nothing_is_made_where_that_is_not_wanted() {
        let cases = [
            vec![blank("/dev/a"), blank("/dev/b")],
            vec![member("/dev/a", OURS, (0, 2)), blank("/dev/b")],
            vec![half_made("/dev/a"), half_made("/dev/b")],
        ];
        for devices in cases {
            let mut observed = observed(devices, Tools::Found);
            assert_eq!(judged(Format::Never, &observed).0, "nothing");
            let no_local = [Spec::Label(NAME.into()), Spec::Name("/dev/c".into())];
            let choice = choose(&no_local, Format::Local, &observed);
            assert_eq!(choice.stripe, None, "{choice}");
            observed.combining = None;
            let choice = choose(&specs(), Format::Local, &observed);
            assert_eq!(choice.stripe, None, "{choice}");
        }
    }

    #[test]
    fn a_blank_disk_is_needed_beside_an_array_that_no_spec_asks_for() {
        let devices = vec![
            member("/dev/a", OURS, (0, 2)),
            member("/dev/b", OURS, (1, 2)),
            blank("/dev/c"),
        ];
        let mut observed = observed(devices, Tools::Found);
        let number = observed.devices[2].number;
        let named = Named::BlockDevice(number);
        observed.names.insert("/dev/c".into(), named);
        let name = Spec::Name("/dev/c".into());
        for (specs, is_needed) in [(vec![name.clone()], true), (vec![name, Spec::Local], false)] {
            let said = choose(&specs, Format::Local, &observed).to_string();
            let is_not_needed = said.contains("/dev/c is not needed");
            assert_eq!(is_not_needed, !is_needed, "{said}");
        }
    }

    #[test]
    fn disks_that_become_one_go_before_a_label_that_a_later_spec_asks_for() {
        let kind = "vfat".to_string();
        let label = Some(NAME.to_string());
        let empty = Observation {
            look: Some(Look::Seen(Contents::default())),
            ..device("/dev/c", Content::Filesystem { kind, label })
        };
        let devices = vec![blank("/dev/a"), blank("/dev/b"), empty];
        let observed = observed(devices, Tools::Found);
        let label = || Spec::Label(NAME.into());
        for (specs, is_array) in [
            ([Spec::Local, label()], true),
            ([label(), Spec::Local], false),
        ] {
            let choice = choose(&specs, Format::Local, &observed);
            assert_eq!(choice.to_be_one().is_some(), is_array, "{choice}");
            assert_eq!(choice.to_be_made_at_once().is_some(), !is_array, "{choice}");
        }
    }

    #[test]
    fn an_array_is_local_where_its_name_and_all_its_members_say_so() {
        let disks = |first: Observation, second: Observation| vec![first, second];
        let both = || {
            disks(
                member("/dev/a", OURS, (0, 2)),
                member("/dev/b", OURS, (1, 2)),
            )
        };
        let mut not_local = both();
        not_local[1].identity = Identity::Unknown;
        let cases = [
            (both(), true),
            (not_local, false),
            (
                disks(
                    member("/dev/a", OURS, (0, 2)),
                    member("/dev/b", OTHER, (1, 2)),
                ),
                false,
            ),
            (
                disks(
                    named("/dev/a", OURS, "data", (0, 2)),
                    named("/dev/b", OURS, "data", (1, 2)),
                ),
                false,
            ),
            (
                disks(
                    member("/dev/a", OURS, (0, 2)),
                    member("/dev/c", OURS, (1, 2)),
                ),
                false,
            ),
        ];
        let md = array("/dev/md127", ephemeral0(), &["/dev/a", "/dev/b"]);
        for (devices, expected) in cases {
            let found = array_of(&md, &devices).is_some();
            assert_eq!(found, expected, "{devices:?}");
        }
    }
}
