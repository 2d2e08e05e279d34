//! What a device tells of itself: whose it is, and how somebody can say so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Spec;
use crate::disk::identity::{Identity, Scratch};
use crate::disk::inventory::System;
use crate::disk::looked::Look;
use crate::disk::making::HalfMade;
use crate::disk::observation::{Named, Observation};
use crate::disk::signature::Content;

/// File systems that keep no owners and modes: what jobs need cannot be made on them.
pub(super) const WITHOUT_OWNERS: [&str; 3] = ["vfat", "ntfs", "exfat"];

/// mkfs.vfat may write a label in capitals.
pub(crate) fn has_label(content: &Content, wanted: &str) -> bool {
    match content {
        Content::Filesystem {
            kind,
            label: Some(label),
        } if kind == "vfat" => label.eq_ignore_ascii_case(wanted),
        content => content.label() == Some(wanted),
    }
}

/// The first label of the specs that a device has.
pub(super) fn asked_for_label<'a>(specs: &'a [Spec], device: &Observation) -> Option<&'a str> {
    specs.iter().find_map(|spec| match spec {
        Spec::Label(label) if has_label(&device.content, label) => Some(label.as_str()),
        _ => None,
    })
}

pub(super) fn local(device: &Observation) -> Option<Scratch> {
    match device.identity {
        // What the system runs from is no scratch disk, nor is what lies beside it.
        Identity::LocalScratch(scratch) if device.system == System::Elsewhere => Some(scratch),
        _ => None,
    }
}

/// Whether what `/etc/fstab` says of a device can speak against it: where only a name leads
/// to it, or a file system may be made on it.
pub(crate) fn heeds_fstab(
    specs: &[Spec],
    names: &BTreeMap<PathBuf, Named>,
    device: &Observation,
) -> bool {
    let is_it = |named: &Named| *named == Named::BlockDevice(device.number);
    let has_evidence = asked_for_label(specs, device).is_some() || local(device).is_some();
    let stays = matches!(&device.content, Content::Filesystem { kind, .. }
        if !WITHOUT_OWNERS.contains(&kind.as_str()))
        && device.half_made == HalfMade::No;
    match has_evidence {
        true => !stays,
        false => names.values().any(is_it),
    }
}

/// Of XFS only a look shows it. One that is mounted is never marked as unmounted.
pub(super) fn is_unclean(device: &Observation) -> bool {
    let is_seen_pending =
        matches!(&device.look, Some(Look::Seen(contents)) if contents.is_replay_pending);
    device.mounted_on.is_empty() && (device.facts.is_unclean || is_seen_pending)
}

pub(super) fn is_persistent(device: &Observation) -> bool {
    matches!(device.identity, Identity::Persistent(_))
}

/// How somebody says that this is the scratch disk: by the first label of the specs that its
/// file system can have, else by naming the one that it has.
pub(super) fn label_cure(device: &Observation, specs: &[Spec]) -> String {
    let node = quoted(&device.node.to_string_lossy());
    let kind = match &device.content {
        Content::Filesystem { kind, .. } => kind.as_str(),
        _ => "",
    };
    let fitting = specs.iter().find_map(|spec| match spec {
        Spec::Label(label) if fits(kind, label) => Some(quoted(label)),
        _ => None,
    });
    let Some(label) = fitting else {
        return match device.content.label() {
            Some(own) => format!(
                "name its label in staging.devices: {}",
                quoted(&format!("LABEL={own}"))
            ),
            None => "give it a label, and name that in staging.devices".into(),
        };
    };
    let command = match kind {
        "ext2" | "ext3" | "ext4" => format!("e2label {node} {label}"),
        "xfs" => format!("xfs_admin -L {label} {node}"),
        "btrfs" => format!("btrfs filesystem label {node} {label}"),
        "vfat" => format!("fatlabel {node} {label}"),
        "ntfs" => format!("ntfslabel {node} {label}"),
        "exfat" => format!("exfatlabel {node} {label}"),
        _ => return format!("give it the label {label}"),
    };
    format!("give it the label: {command}")
}

/// Whether a file system of this kind can have a label, by its length in bytes: s_volume_name of
/// ext2 to ext4, sb_fname of XFS, BTRFS_LABEL_SIZE less its end, and a name of FAT's. NTFS and
/// exFAT count units of UTF-16.
fn fits(kind: &str, label: &str) -> bool {
    let units = label.encode_utf16().count();
    match kind {
        "ext2" | "ext3" | "ext4" => label.len() <= 16,
        "xfs" => label.len() <= 12,
        "btrfs" => label.len() <= 255,
        "vfat" => label.len() <= 11,
        "ntfs" => units <= 128,
        "exfat" => units <= 11,
        _ => true,
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "/._-+:@%=,".contains(character);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// `/dev/sdb` before `/dev/sdaa`, as the kernel names them.
pub(super) fn natural_order(node: &Path) -> (usize, PathBuf) {
    (node.as_os_str().len(), node.to_path_buf())
}
