//! Looking at the candidates, so that [`choose`](super::choose) can judge them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use log::debug;

use super::inventory::{self, BlockDevice, Inventory};
use super::signature::{self, Content, Reading};
use crate::config::{Format, Spec, Staging};
use crate::host::block_device::{Number, kind_in_words};
use crate::host::mount_table::Mount;

/// Everything that the choice depends on.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub devices: Vec<Observation>,
    /// What each name in the specs leads to.
    pub names: BTreeMap<PathBuf, Named>,
}

/// One block device, as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub number: Number,
    pub node: PathBuf,
    pub size_bytes: u64,
    pub content: Content,
    pub read_only: bool,
    pub on_root_disk: bool,
    /// Device-mapper and md devices that are made of it.
    pub holders: Vec<String>,
    pub serial: Option<String>,
    pub mounted_on: Vec<PathBuf>,
    /// The kernel's names of its partitions; only looked for where nothing is on it.
    pub partitions: Vec<String>,
    /// Zero wherever it was looked; only looked where formatting is allowed.
    pub is_zero: bool,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    Missing,
    /// Something else, in words: `a directory`.
    NotABlockDevice(&'static str),
    BlockDevice(Number),
    Unreachable(String),
}

/// Looks at every device that a spec could mean: all that there are where a label is
/// to be found, else only the named ones.
pub fn observe(config: &Staging, mounts: &[Mount]) -> Result<Observed> {
    let inventory = Inventory::read(mounts)?;
    let names: BTreeMap<PathBuf, Named> = config
        .devices
        .iter()
        .filter_map(|spec| match spec {
            Spec::Name(path) => Some((path.clone(), look_up(path))),
            Spec::Label(_) => None,
        })
        .collect();

    let by_label = config
        .devices
        .iter()
        .any(|spec| matches!(spec, Spec::Label(_)));
    let is_named = |number: Number| {
        names
            .values()
            .any(|named| *named == Named::BlockDevice(number))
    };
    let mut devices: Vec<Observation> = inventory
        .devices
        .iter()
        .filter(|device| by_label || is_named(device.number))
        .filter_map(|device| {
            if device.node.is_none() {
                debug!("{} ({}) has no node in /dev", device.name, device.number);
            }
            look_at(&inventory, device, device.node.as_ref()?, config.format)
        })
        .collect();

    // A node whose device the kernel does not list is read too: that it cannot be is
    // what a person wants to know.
    for (path, named) in &names {
        if let Named::BlockDevice(number) = named
            && !devices.iter().any(|device| device.number == *number)
        {
            let unlisted = BlockDevice {
                number: *number,
                name: path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                size_bytes: 0,
                node: Some(path.clone()),
            };
            devices.extend(look_at(&inventory, &unlisted, path, config.format));
        }
    }
    Ok(Observed { devices, names })
}

fn look_at(
    inventory: &Inventory,
    device: &BlockDevice,
    node: &Path,
    format: Format,
) -> Option<Observation> {
    let Reading { content, read_only } = signature::read(node);
    let is_zero = format == Format::Blank
        && content == Content::Nothing
        && signature::is_zero(node).unwrap_or(false);
    let partitions = match content {
        Content::Nothing => inventory::partitions(device),
        _ => Vec::new(),
    };
    let observation = Observation {
        number: device.number,
        node: node.to_path_buf(),
        size_bytes: device.size_bytes,
        content,
        read_only,
        on_root_disk: inventory.is_on_root_disk(device),
        holders: inventory::holders(device),
        serial: inventory::serial(device),
        mounted_on: inventory.mount_points(device),
        partitions,
        is_zero,
    };
    debug!("{}: {observation:?}", node.display());
    Some(observation)
}

fn look_up(path: &Path) -> Named {
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_block_device() => {
            Named::BlockDevice(Number::from_raw(metadata.rdev()))
        }
        Ok(metadata) => Named::NotABlockDevice(kind_in_words(metadata.file_type())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Named::Missing,
        Err(e) => Named::Unreachable(e.to_string()),
    }
}
