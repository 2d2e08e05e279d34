//! Why a device is not the scratch disk, in words.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::signature::Zero;

/// Why a device is not the scratch disk.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    NotABlockDevice(&'static str),
    Unreachable(String),
    Unreadable(String),
    /// Reading it was given up after this time.
    NoAnswer(Duration),
    /// The running system lives on it.
    SystemDisk,
    SwappedOn,
    /// Nothing is on it, and whether it was seen to be zero.
    Blank(Zero),
    Ambivalent(Vec<String>),
    NotAFilesystem(String),
    PartitionTable(String),
    ConfigDrive,
    ReadOnlyFilesystem(String),
    ReadOnly,
    Held(Vec<String>),
    /// It is one of the disks that this array is made of.
    PartOf(PathBuf),
    /// Where no label that was asked for led to it.
    Mounted(Vec<PathBuf>),
    /// Whatever led to it.
    MountedElsewhere(Vec<PathBuf>),
    /// A disk that outlives the machine, in words.
    Persistent(String),
    /// Likewise, where a file system would have to be made first.
    NeverFormatted(String),
    /// `/etc/fstab` gives it another place.
    PlaceInFstab(String),
    FstabUnknown(String),
    /// It has the UUID of a file system that is mounted from this device.
    TwinOf(PathBuf),
    OnSeveralDevices(u64),
    /// Names that are in it, and by what it becomes the scratch disk.
    HoldsFiles(String, String),
    ReplayPending,
    CannotBeLookedInto(String),
    /// It has not been looked into yet.
    NotLookedInto,
    /// Another device is taken, so that it was not looked into.
    NotNeeded(PathBuf),
    /// A file system of this kind keeps no owners, and why it stays.
    KeepsNoOwners(String, Kept),
    /// This program of the guest's makes its file system.
    LeftTo(String),
    SeedDisk,
    /// Its superblock says why it cannot be mounted, and by what it can be.
    Obstacle(String, String),
    /// Of the file system and of the disk, in bytes.
    LargerThanDisk(u64, u64),
    /// What the system runs from cannot be known, in words.
    SystemUnknown(String),
    /// What is mounted from this device cannot be read: it may have the same UUID.
    MayBeTwinOf(String),
    /// Likewise, once it has a file system.
    WouldBeTwinOf(String),
    SameLabelAs(PathBuf),
    NotMountable(String),
    /// By the kernel's names for them.
    HasPartitions(Vec<String>),
}

/// Also where none is configured yet.
const LABEL_IT: &str = "give it a label that staging.devices names";

/// Why a file system that keeps no owners is not made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    FormatIsNever,
    /// By what it becomes the scratch disk.
    FoundByName(String),
    /// These names are in it.
    Holds(String),
    /// What is in it cannot be known.
    NotSeen(String),
}

impl Reason {
    /// Whether such a device is the machine's scratch disk under no circumstances.
    pub(crate) fn is_of_something_else(&self) -> bool {
        match self {
            Reason::SystemDisk
            | Reason::SwappedOn
            | Reason::ConfigDrive
            | Reason::SeedDisk
            | Reason::NotABlockDevice(_)
            | Reason::ReadOnlyFilesystem(_)
            | Reason::Persistent(_)
            | Reason::NeverFormatted(_) => true,
            Reason::NotAFilesystem(kind) => matches!(kind.as_str(), "swap" | "swsuspend"),
            _ => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Reason::NotABlockDevice(kind) => write!(
                f,
                "is {kind}, not a block device; name a disk in staging.devices"
            ),
            Reason::Unreachable(error) => {
                write!(f, "cannot be looked at: {error}; see where that name leads")
            }
            Reason::Unreadable(error) => write!(f, "cannot be read: {error}; see dmesg"),
            Reason::NoAnswer(after) => write!(
                f,
                "does not answer (reading it was given up after {after:.1?}); detach it, or ask the cloud about its storage"
            ),
            Reason::SystemDisk => write!(f, "is a disk that the system runs from"),
            Reason::SwappedOn => write!(f, "is in use as swap space"),
            Reason::Blank(Zero::Seen) => write!(
                f,
                "is blank; have the cloud make a file system on it, or set staging.format = \"blank\""
            ),
            Reason::Blank(Zero::NotSeen) => write!(
                f,
                "has no signature: it is blank, or its superblock is damaged; if nothing on it is needed, make a file system on it by hand"
            ),
            Reason::Blank(Zero::NotInTime) => write!(
                f,
                "has no signature, and is too slow to be shown blank; if nothing on it is needed, make a file system on it by hand"
            ),
            Reason::Blank(Zero::NoAnswer) => write!(
                f,
                "has no signature, and does not answer when more of it is read to see that it is blank; detach it, or ask the cloud about its storage"
            ),
            Reason::Ambivalent(kinds) if kinds.is_empty() => {
                write!(
                    f,
                    "has ambivalent signatures; if it is yours, remove the wrong one with wipefs"
                )
            }
            Reason::Ambivalent(kinds) => write!(
                f,
                "has ambivalent signatures ({}); if it is yours, remove the wrong one with wipefs",
                kinds.join(", ")
            ),
            Reason::NotAFilesystem(kind) => write!(f, "holds {}", in_words(kind)),
            Reason::PartitionTable(kind) => write!(
                f,
                "has a partition table ({kind}); if one of its partitions is meant, name that"
            ),
            Reason::ConfigDrive => write!(f, "is the config drive"),
            Reason::ReadOnlyFilesystem(kind) => {
                write!(f, "holds {kind}, which cannot be written to")
            }
            Reason::ReadOnly => write!(
                f,
                "is read-only; if it is the scratch disk, have it attached writable"
            ),
            Reason::Held(holders) => write!(
                f,
                "is in use by {}; if it is the scratch disk, stop what uses it",
                holders.join(", ")
            ),
            Reason::PartOf(array) => write!(f, "is a part of {}", array.display()),
            Reason::Mounted(points) => write!(
                f,
                "is mounted on {} and has no label that was asked for; if it is the scratch disk, name its label in staging.devices, or unmount it there",
                in_order(points)
            ),
            Reason::MountedElsewhere(points) => write!(
                f,
                "is mounted on {}; if it is the scratch disk, unmount it there",
                in_order(points)
            ),
            Reason::Persistent(words) => write!(
                f,
                "{words}; if it is meant, name its label in staging.devices"
            ),
            Reason::NeverFormatted(words) => write!(
                f,
                "{words}, and none is formatted; if it is meant, make a file system on it by hand"
            ),
            Reason::PlaceInFstab(place) => write!(
                f,
                "has another place: {place}; if it is the scratch disk, remove that line"
            ),
            Reason::FstabUnknown(error) => {
                write!(
                    f,
                    "may have another place: {error}; make /etc/fstab readable"
                )
            }
            Reason::TwinOf(other) => write!(
                f,
                "has the same UUID as {}, which is mounted: one is a copy of the other; if it is the scratch disk, give it another UUID (tune2fs -U random, xfs_admin -U generate, btrfstune -u)",
                other.display()
            ),
            Reason::OnSeveralDevices(count) => {
                write!(
                    f,
                    "is a part of a file system on {count} devices; if that is the scratch space, name its label in staging.devices"
                )
            }
            Reason::HoldsFiles(names, cure) => write!(
                f,
                "holds files ({names}); if it is the scratch disk, {cure}"
            ),
            Reason::ReplayPending => write!(
                f,
                "was not unmounted cleanly: what is in it cannot be known before its journal is replayed; mount and unmount it once, or {LABEL_IT}"
            ),
            Reason::CannotBeLookedInto(error) => {
                write!(
                    f,
                    "cannot be looked into ({error}), so that it may be somebody's; if it is the scratch disk, {LABEL_IT}"
                )
            }
            Reason::NotLookedInto => write!(f, "has not been looked into"),
            Reason::NotNeeded(taken) => {
                write!(
                    f,
                    "is not needed and was not looked into: {} is taken",
                    taken.display()
                )
            }
            Reason::KeepsNoOwners(kind, kept) => {
                write!(f, "holds {kind}, which keeps no owners, ")?;
                match kept {
                    Kept::FormatIsNever => write!(f, "and staging.format is \"never\"")?,
                    Kept::FoundByName(_) => write!(f, "and only a name led to it")?,
                    Kept::Holds(names) => write!(f, "and is not empty ({names})")?,
                    Kept::NotSeen(error) => write!(f, "and cannot be looked into ({error})")?,
                }
                // Nova makes vfat, and nothing else of these.
                match kind.as_str() {
                    "vfat" => write!(
                        f,
                        "; set os_type=linux on the image or default_ephemeral_format=ext4 in nova.conf, or make ext4 on it"
                    )?,
                    _ => write!(f, "; make ext4 on it")?,
                }
                match kept {
                    Kept::FormatIsNever => write!(f, ", or set staging.format = \"local\""),
                    Kept::FoundByName(cure) => write!(f, ", or {cure}"),
                    Kept::Holds(_) => write!(f, ", or save and remove what is in it"),
                    Kept::NotSeen(_) => Ok(()),
                }
            }
            Reason::LeftTo(agent) => write!(f, "is left to {agent}, which makes its file system"),
            Reason::Obstacle(words, cure) => {
                write!(f, "{words}; if it is the scratch disk, {cure}")
            }
            Reason::LargerThanDisk(size, disk) => write!(
                f,
                "is larger than its disk ({} of {}): the end of the file system is missing; have the cloud give it the disk that it was made on, or make a file system on it by hand",
                crate::text::bytes(*size),
                crate::text::bytes(*disk)
            ),
            Reason::SystemUnknown(words) => write!(
                f,
                "may be a disk that the system runs from: {words}; if it is the scratch disk, {LABEL_IT}"
            ),
            Reason::MayBeTwinOf(other) => write!(
                f,
                "may be a copy of {other}, which is mounted and cannot be read; if it is the scratch disk, {LABEL_IT}"
            ),
            Reason::WouldBeTwinOf(other) => write!(
                f,
                "gets no file system, which might be taken for a copy of {other}, which is mounted and cannot be read; if it is the scratch disk, name LABEL=ephemeral0 in staging.devices as well"
            ),
            Reason::SeedDisk => write!(f, "is cloud-init's seed disk"),
            Reason::NotMountable(error) => write!(f, "{error}"),
            Reason::HasPartitions(names) => write!(
                f,
                "has no signature, but the kernel knows partitions of it ({}); if one of them is meant, name that",
                names.join(", ")
            ),
            Reason::SameLabelAs(first) => {
                write!(
                    f,
                    "has the same label as {}, which is taken; give one of them another",
                    first.display()
                )
            }
        }
    }
}

fn in_order(points: &[PathBuf]) -> String {
    let points: BTreeSet<_> = points.iter().map(|p| p.display().to_string()).collect();
    points.into_iter().collect::<Vec<_>>().join(", ")
}

/// libblkid's name of something that is not a file system, for people.
fn in_words(kind: &str) -> String {
    match kind {
        "swap" | "swsuspend" => "swap space".into(),
        "LVM2_member" | "LVM1_member" => "an LVM physical volume".into(),
        "linux_raid_member" => "a Linux RAID member".into(),
        "jbd" => "the journal of an ext3 or ext4 file system".into(),
        "zfs_member" => "a part of a ZFS pool".into(),
        "crypto_LUKS" => "a LUKS encrypted volume".into(),
        other => format!("{other}, which is not a file system"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of it is to be done, after the semicolon; none where there is nothing to do.
    #[test]
    fn each_reason_says_what_to_do_where_there_is_something_to_do() {
        let text = || "text".to_string();
        let kept = |kept| Reason::KeepsNoOwners("vfat".into(), kept);
        let cases = [
            (Reason::NotABlockDevice("a file"), "staging.devices"),
            (Reason::Unreachable(text()), "where that name leads"),
            (Reason::Unreadable(text()), "see dmesg"),
            (Reason::NoAnswer(Duration::from_secs(1)), "detach it"),
            (Reason::SystemDisk, ""),
            (Reason::SwappedOn, ""),
            (Reason::Blank(Zero::Seen), "staging.format = \"blank\""),
            (Reason::Blank(Zero::NotSeen), "make a file system on it"),
            (Reason::Blank(Zero::NotInTime), "make a file system on it"),
            (Reason::Blank(Zero::NoAnswer), "detach it"),
            (Reason::Ambivalent(Vec::new()), "wipefs"),
            (Reason::Ambivalent(vec![text()]), "wipefs"),
            (Reason::NotAFilesystem("swap".into()), ""),
            (Reason::PartitionTable("gpt".into()), "name that"),
            (Reason::ConfigDrive, ""),
            (Reason::SeedDisk, ""),
            (Reason::ReadOnlyFilesystem("udf".into()), ""),
            (Reason::ReadOnly, "attached writable"),
            (Reason::Held(vec!["dm-0".into()]), "stop what uses it"),
            (Reason::PartOf("/dev/md127".into()), ""),
            (Reason::Mounted(vec!["/mnt".into()]), "name its label"),
            (Reason::MountedElsewhere(vec!["/mnt".into()]), "unmount it"),
            (Reason::Persistent(text()), "name its label"),
            (Reason::NeverFormatted(text()), "by hand"),
            (Reason::PlaceInFstab(text()), "remove that line"),
            (Reason::FstabUnknown(text()), "make /etc/fstab readable"),
            (Reason::TwinOf("/dev/vda".into()), "another UUID"),
            (Reason::OnSeveralDevices(2), "name its label"),
            (Reason::HoldsFiles(text(), "label it".into()), "label it"),
            (Reason::ReplayPending, "mount and unmount it once"),
            (Reason::CannotBeLookedInto(text()), "give it a label"),
            (Reason::NotLookedInto, ""),
            (Reason::NotNeeded("/dev/vdb".into()), ""),
            (kept(Kept::FormatIsNever), "staging.format = \"local\""),
            (kept(Kept::FoundByName("label it".into())), "or label it"),
            (kept(Kept::Holds(text())), "save and remove"),
            (kept(Kept::NotSeen(text())), "os_type=linux"),
            (Reason::Obstacle(text(), "tune it".into()), "tune it"),
            (Reason::LargerThanDisk(2, 1), "make a file system on it"),
            (Reason::SystemUnknown(text()), "give it a label"),
            (Reason::MayBeTwinOf(text()), "give it a label"),
            (Reason::WouldBeTwinOf(text()), "LABEL=ephemeral0"),
            (Reason::LeftTo("cloud-init".into()), ""),
            (Reason::SameLabelAs("/dev/vdb".into()), "another"),
            (Reason::HasPartitions(vec!["vdb1".into()]), "name that"),
        ];
        for (reason, cure) in cases {
            let said = reason.to_string();
            let (_, told) = said.split_once("; ").unwrap_or((&said, ""));
            assert_eq!(told.is_empty(), cure.is_empty(), "{said}");
            assert!(told.contains(cure), "{said}: not {cure:?}");
        }
    }

    #[test]
    fn nova_is_not_blamed_for_an_ntfs() {
        let said = Reason::KeepsNoOwners("ntfs".into(), Kept::FormatIsNever).to_string();
        assert!(!said.contains("nova"), "{said}");
    }

    #[test]
    fn what_is_something_else_is_no_scratch_disk_that_cannot_be_used() {
        let text = || String::from("x");
        for (reason, expected) in [
            (Reason::SystemDisk, true),
            (Reason::SwappedOn, true),
            (Reason::NotAFilesystem("swap".into()), true),
            (Reason::ConfigDrive, true),
            (Reason::SeedDisk, true),
            (Reason::ReadOnlyFilesystem("iso9660".into()), true),
            (Reason::Persistent(text()), true),
            (Reason::NeverFormatted(text()), true),
            (Reason::NotABlockDevice("a directory"), true),
            (Reason::NotAFilesystem("LVM2_member".into()), false),
            (Reason::Blank(Zero::Seen), false),
            (Reason::HoldsFiles(text(), text()), false),
            (Reason::Unreadable(text()), false),
            (Reason::ReadOnly, false),
            (Reason::SystemUnknown(text()), false),
        ] {
            assert_eq!(reason.is_of_something_else(), expected, "{reason:?}");
        }
    }
}
