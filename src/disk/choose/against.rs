//! What speaks against a device.

use crate::disk::identity::{Identity, Scratch};
use crate::disk::inventory::System;
use crate::disk::observation::{Fstab, Observation, Observed};
use crate::disk::reason::Reason;
use crate::disk::signature::{Content, Zero};
use crate::disk::superblock::Obstacle;

/// What speaks against a device however it was found. The weightiest comes first: it
/// is the one that is told.
pub(super) fn refuse(device: &Observation) -> Option<Reason> {
    match device.system {
        System::Disk => return Some(Reason::SystemDisk),
        System::PartitionOfItsDisk if device.is_swapped_on => return Some(Reason::SwappedOn),
        System::PartitionOfItsDisk if !device.mounted_on.is_empty() => {
            return Some(Reason::MountedElsewhere(device.mounted_on.clone()));
        }
        System::PartitionOfItsDisk | System::Elsewhere => {}
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
    let labels = [device.content.label(), device.boot_label.as_deref()];
    let has = |name: &str| {
        labels
            .iter()
            .flatten()
            .any(|label| label.eq_ignore_ascii_case(name))
    };
    if has("config-2") {
        return Some(Reason::ConfigDrive);
    }
    if has("cidata") {
        return Some(Reason::SeedDisk);
    }
    if READ_ONLY_FILESYSTEMS.contains(&filesystem.as_str()) {
        return Some(Reason::ReadOnlyFilesystem(filesystem.clone()));
    }
    if device.read_only {
        return Some(Reason::ReadOnly);
    }
    cannot_be_mounted(device)
}

/// What its superblock says. What is mounted somewhere can be.
fn cannot_be_mounted(device: &Observation) -> Option<Reason> {
    if !device.mounted_on.is_empty() {
        return None;
    }
    let node = device.node.display();
    match &device.facts.obstacle {
        Some(Obstacle::ReadOnlyFeature) => {
            return Some(Reason::Obstacle(
                "has the feature read-only".into(),
                format!("take that away: tune2fs -O ^read-only {node}"),
            ));
        }
        Some(Obstacle::Seed) => {
            return Some(Reason::Obstacle(
                "is a btrfs seed, which cannot be written to".into(),
                format!("make it none: btrfstune -S 0 {node}"),
            ));
        }
        Some(Obstacle::MountedBy(by)) => {
            let by = match by.as_str() {
                "" => String::new(),
                by => format!(" ({by})"),
            };
            return Some(Reason::Obstacle(
                format!("is mounted by another machine{by}, or was when that ended (mmp)"),
                format!("and no other has it, say so: tune2fs -f -E clear_mmp {node}"),
            ));
        }
        None => {}
    }
    // Of one on several devices it is the size of all. The kernel tells the disk's in KiB.
    let is_on_one = device.facts.devices.is_none_or(|devices| devices <= 1);
    match device.facts.size_bytes {
        Some(size) if is_on_one && device.size_bytes > 0 && size >= device.size_bytes + 1024 => {
            Some(Reason::LargerThanDisk(size, device.size_bytes))
        }
        _ => None,
    }
}

/// What speaks against a device that only a name led to.
pub(super) fn refuse_for_a_name(device: &Observation, observed: &Observed) -> Option<Reason> {
    if let Identity::Persistent(persistent) = &device.identity {
        return Some(Reason::Persistent(persistent.to_string()));
    }
    match &device.fstab {
        Fstab::Place(place) if !place.is_of_cloud_init() => {
            return Some(Reason::PlaceInFstab(place.to_string()));
        }
        Fstab::Unknown(error) => return Some(Reason::FstabUnknown(error.clone())),
        Fstab::NotLookedAt => return Some(not_looked_at()),
        Fstab::Place(_) | Fstab::Nothing => {}
    }
    if let Some(words) = &observed.system_unknown {
        return Some(Reason::SystemUnknown(words.clone()));
    }
    if let Some(twin) = &device.twin_of {
        return Some(Reason::TwinOf(twin.clone()));
    }
    // What has no UUID is a copy of nothing.
    if let Some(unread) = &observed.mounted_unread
        && device.mounted_on.is_empty()
        && matches!(device.content, Content::Filesystem { .. })
    {
        return Some(Reason::MayBeTwinOf(unread.clone()));
    }
    if !device.mounted_on.is_empty() {
        return Some(Reason::Mounted(device.mounted_on.clone()));
    }
    match device.facts.devices {
        Some(devices) if devices > 1 => Some(Reason::OnSeveralDevices(devices)),
        _ => None,
    }
}

/// What speaks against making a file system, whatever led to the disk.
pub(super) fn against_making(device: &Observation, observed: &Observed) -> Option<Reason> {
    if device.system != System::Elsewhere {
        return Some(Reason::SystemDisk);
    }
    if let Identity::Persistent(persistent) = &device.identity {
        return Some(Reason::NeverFormatted(persistent.to_string()));
    }
    match &device.fstab {
        Fstab::Place(place) => return Some(Reason::PlaceInFstab(place.to_string())),
        Fstab::Unknown(error) => return Some(Reason::FstabUnknown(error.clone())),
        Fstab::NotLookedAt => return Some(not_looked_at()),
        Fstab::Nothing => {}
    }
    let is_azure = device.identity == Identity::LocalScratch(Scratch::AzureTemporaryDisk);
    match (&observed.azure_agent, is_azure) {
        (Some(agent), true) => Some(Reason::LeftTo(agent.clone())),
        _ => None,
    }
}

/// It has to be, wherever this is asked: what is not known speaks against a device.
fn not_looked_at() -> Reason {
    Reason::FstabUnknown("it was not looked at".into())
}

pub(super) fn refuse_blank(device: &Observation) -> Option<Reason> {
    (!device.mounted_on.is_empty()).then(|| Reason::MountedElsewhere(device.mounted_on.clone()))
}

/// File systems that Linux cannot write to, or only once.
const READ_ONLY_FILESYSTEMS: [&str; 6] = ["iso9660", "udf", "squashfs", "cramfs", "erofs", "romfs"];
