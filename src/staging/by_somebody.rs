//! A disk that `/etc/fstab` put on the mount point by a bare name: it stays staged, but at
//! this boot the name may have been another disk's.

use std::path::Path;

use super::root_directory::{self, Listing};
use super::staged::Staged;
use crate::config::{Config, Spec};
use crate::disk::choose::has_label;
use crate::disk::claimed::{Claims, is_same_directory};
use crate::disk::identity::Identity;
use crate::disk::observation::{Observation, Observed};
use crate::host::Host;
use crate::host::block_device::Number;

/// Whether a bare name in `/etc/fstab` put on the mount point what is there. None where it
/// did not, or where that cannot be known; else the device.
pub(crate) fn put_there_by_its_name(
    host: &Host,
    mount_point: &Path,
    staged: &Staged,
) -> Option<Number> {
    let number = host.block_number(Path::new(staged.device()))?;
    let claims = Claims::read(host).ok()?;
    let is_mount_point = |path: &Path| is_same_directory(host, path, mount_point);
    claims.bare_name_on(number, is_mount_point).map(|_| number)
}

/// What shows that such a disk is not the scratch disk:
/// `staged by somebody else: /dev/sdb (LABEL=thesis), while /dev/vdb has the label ephemeral0`.
pub(crate) fn suspicion(
    config: &Config,
    staged: &Staged,
    number: Number,
    observed: &Observed,
) -> Option<String> {
    let specs = &config.staging.devices;
    let staged_one = observed.devices.iter().find(|one| one.number == number);
    let is_asked_for = staged_one.is_some_and(|one| {
        let mut labels = specs.iter().filter_map(label_of);
        labels.any(|label| has_label(&one.content, label))
    });
    if is_asked_for {
        return None;
    }
    let others: Vec<&Observation> = observed
        .devices
        .iter()
        .filter(|one| one.number != number)
        .collect();
    let labelled = specs.iter().filter_map(label_of).find_map(|label| {
        let other = others.iter().find(|one| has_label(&one.content, label))?;
        Some(format!(
            "while {} has the label {label}",
            other.node.display()
        ))
    });
    let why = labelled.or_else(|| {
        let one = staged_one?;
        if let Identity::Persistent(persistent) = &one.identity {
            return Some(format!("which {persistent}"));
        }
        let label = one.content.label()?;
        let ours = root_directory::names_of(&config.directories);
        let files = Listing::of(&staged.directory(), &ours)
            .ok()?
            .contents()
            .others;
        let holds_files = !files.is_empty();
        holds_files.then(|| {
            format!("whose label {label} nobody asked for, and which holds files ({files})")
        })
    })?;
    let label = staged.label().map(|label| format!(" (LABEL={label})"));
    Some(format!(
        "staged by somebody else: {}{}, {why}",
        staged.device(),
        label.unwrap_or_default()
    ))
}

fn label_of(spec: &Spec) -> Option<&str> {
    match spec {
        Spec::Label(label) => Some(label),
        Spec::Name(_) | Spec::Local => None,
    }
}
