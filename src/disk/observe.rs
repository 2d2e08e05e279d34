//! Looking at the candidates, so that [`choose`](super::choose) can judge them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use log::debug;

use super::choose::choose;
use super::inventory::{BlockDevice, Inventory};
use super::observation::{Named, Observation, Observed};
use super::reader::{Reader, Wanted, Zeros};
use super::signature::{Content, Reading};
use crate::config::{Format, Spec, Staging};
use crate::host::block_device::{Number, kind_in_words};
use crate::host::mount_table::Mount;
use crate::host::{Host, sysfs};

/// Looks at every device that a spec could mean: all that there are where a label is
/// to be found, else only the named ones.
///
/// # Errors
///
/// That the kernel's lists of devices cannot be read.
pub(crate) fn observe(
    host: &Host,
    config: &Staging,
    mounts: &[Mount],
    reader: &mut Reader,
) -> Result<Observed> {
    let inventory = Inventory::read(host, mounts)?;
    let names = names(host, config);
    let devices = candidates(&inventory, config, &names);
    let wanted: Vec<Wanted> = devices
        .iter()
        .map(|(device, node)| Wanted {
            number: device.number,
            node: host.path(node),
        })
        .collect();
    let zeros = match config.format {
        Format::Never => Zeros::Ignore,
        Format::Blank => Zeros::LookFor,
    };
    let look_at = |(device, node): &(BlockDevice, PathBuf), reading| {
        observation(host, &inventory, device, node, reading)
    };
    let is_enough = |device: &Wanted, reading: &Reading| {
        let found = devices.iter().find(|(one, _)| one.number == device.number);
        // Before the kernel's files are looked at: there may be many devices.
        is_asked_for_first(&config.devices, &names, device.number, &reading.content)
            && found.is_some_and(|found| {
                let observed = Observed {
                    devices: vec![look_at(found, reading.clone())],
                    names: names.clone(),
                };
                is_accepted(&config.devices[..1], &observed)
            })
    };
    let readings = reader.read(&wanted, zeros, config.device_timeout, is_enough);
    let devices = devices.iter().zip(readings);
    let devices = devices.map(|(device, reading)| look_at(device, reading));
    Ok(Observed {
        devices: devices.collect(),
        names,
    })
}

/// What each name in the specs leads to.
fn names(host: &Host, config: &Staging) -> BTreeMap<PathBuf, Named> {
    let names = config.devices.iter().filter_map(|spec| match spec {
        Spec::Name(path) => Some((path.clone(), look_up(host, path))),
        Spec::Label(_) => None,
    });
    names.collect()
}

/// The devices that are to be read, each with its node.
fn candidates(
    inventory: &Inventory,
    config: &Staging,
    names: &BTreeMap<PathBuf, Named>,
) -> Vec<(BlockDevice, PathBuf)> {
    let is_label = |spec: &Spec| matches!(spec, Spec::Label(_));
    let by_label = config.devices.iter().any(is_label);
    let is_named = |number: Number| {
        names
            .values()
            .any(|named| *named == Named::BlockDevice(number))
    };
    let mut devices: Vec<(BlockDevice, PathBuf)> = Vec::new();
    for device in &inventory.devices {
        match &device.node {
            Some(node) if by_label || is_named(device.number) => {
                devices.push((device.clone(), node.clone()));
            }
            Some(_) => {}
            None => debug!("{} ({}) has no node in /dev", device.name, device.number),
        }
    }
    // A node whose device the kernel does not list is read too: that it cannot be is
    // what a person wants to know.
    for (path, named) in names {
        if let Named::BlockDevice(number) = named
            && !devices.iter().any(|(device, _)| device.number == *number)
        {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let unlisted = BlockDevice {
                number: *number,
                name: name.into_owned(),
                size_bytes: 0,
                node: Some(path.clone()),
            };
            devices.push((unlisted, path.clone()));
        }
    }
    devices
}

/// Whether the first spec could mean this device.
fn is_asked_for_first(
    specs: &[Spec],
    names: &BTreeMap<PathBuf, Named>,
    number: Number,
    content: &Content,
) -> bool {
    match specs.first() {
        Some(Spec::Label(label)) => content.label() == Some(label),
        Some(Spec::Name(path)) => names.get(path) == Some(&Named::BlockDevice(number)),
        None => false,
    }
}

fn is_accepted(specs: &[Spec], observed: &Observed) -> bool {
    choose(specs, observed).first_accepted().is_some()
}

fn observation(
    host: &Host,
    inventory: &Inventory,
    device: &BlockDevice,
    node: &Path,
    reading: Reading,
) -> Observation {
    let partitions = match reading.content {
        Content::Nothing => sysfs::partitions(host, &device.name),
        _ => Vec::new(),
    };
    let observation = Observation {
        number: device.number,
        node: node.to_path_buf(),
        size_bytes: device.size_bytes,
        content: reading.content,
        read_only: reading.read_only,
        on_root_disk: inventory.is_on_root_disk(device),
        holders: sysfs::holders(host, &device.name),
        serial: sysfs::serial(host, &device.name),
        mounted_on: inventory.mount_points(device),
        partitions,
        is_zero: reading.is_zero,
    };
    debug!("{}: {observation:?}", node.display());
    observation
}

fn look_up(host: &Host, path: &Path) -> Named {
    match fs::metadata(host.path(path)) {
        Ok(metadata) if metadata.file_type().is_block_device() => {
            Named::BlockDevice(Number::from_raw(metadata.rdev()))
        }
        Ok(metadata) => Named::NotABlockDevice(kind_in_words(metadata.file_type())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Named::Missing,
        Err(e) => Named::Unreachable(e.to_string()),
    }
}
