//! Looking at the candidates, so that [`choose`](super::choose) can judge them.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use log::debug;

use super::array::Record;
use super::candidate::Candidate;
use super::choose::{array_of, choose, heeds_fstab};
use super::claimed::{Claims, is_same_directory};
use super::identity::attributes::{Attributes, read_dmi};
use super::identity::{Identity, identity};
use super::inventory::{BlockDevice, Inventory};
use super::libblkid::Entry;
use super::making::{HalfMade, Making};
use super::mkfs;
use super::observation::{Combining, Fstab, Named, Observation, Observed, Tools};
use super::reader::{Reader, Wanted, Zeros};
use super::signature::{Content, Reading};
use super::without_node;
use crate::config::{Combine, Format, Spec, Staging};
use crate::host::block_device::{Number, kind_in_words};
use crate::host::cloud::Dmi;
use crate::host::mount_table::Mount;
use crate::host::{Host, machine, program, sysfs};

/// Looks at every device that a spec could mean: all that there are where a label or a local
/// disk is to be found, else only the named ones, and what is mounted.
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
        Format::Local | Format::Blank => Zeros::LookFor,
    };
    let mut place = Place {
        host,
        inventory: &inventory,
        claims: OnceCell::new(),
        dmi: OnceCell::new(),
        config,
        names: &names,
        making: Making::read(host),
        combining: match config.combine {
            Combine::Stripe => Some(combining(host, config)),
            Combine::First => None,
        },
    };
    let without_node = place.without_node();
    if let Some(combining) = &mut place.combining {
        combining.without_node = without_node;
    }
    let is_enough = |device: &Wanted, reading: &Reading| {
        let found = devices.iter().find(|(one, _)| one.number == device.number);
        // Before the kernel's files are looked at: there may be many devices.
        is_asked_for_first(&config.devices, &names, device.number, &reading.content)
            && found.is_some_and(|found| {
                let observed = Observed {
                    devices: vec![place.observation(found, reading.clone())],
                    names: names.clone(),
                    ..Observed::default()
                };
                let choice = choose(&config.devices[..1], Format::Never, &observed);
                choice.first_accepted().is_some()
            })
    };
    let readings = reader.read(&wanted, zeros, config.device_timeout, is_enough);
    let each = devices.iter().zip(readings);
    let mut observations: Vec<Observation> = each
        .map(|(device, reading)| place.observation(device, reading))
        .collect();
    place.see_arrays(&devices, &mut observations);
    let mut observed = Observed {
        devices: observations,
        combining: place.combining,
        names: names.clone(),
        machine: machine::uuid(host),
        system_unknown: inventory.system_unknown().cloned(),
        mounted_unread: None,
        azure_agent: azure_agent(host),
        needs_no_owners: false,
    };
    let mounted = mounted(&inventory, config, &observed.names, &observed.devices);
    find_twins(&mut observed.devices, &mounted);
    let unread = mounted.iter().find(|mounted| !mounted.is_read);
    observed.mounted_unread = unread.map(|mounted| mounted.name.display().to_string());
    Ok(observed)
}

fn combining(host: &Host, config: &Staging) -> Combining {
    let is_there = |name: &str| program::find(host, name).is_some();
    Combining {
        without_node: Vec::new(),
        record: Record::read(host),
        tools: match is_there("mdadm") {
            true if is_there(&mkfs::name(config.filesystem)) => Tools::Found,
            true => Tools::NoMkfs,
            false => Tools::NoMdadm,
        },
    }
}

/// A device from which something is mounted, and what was read of it.
struct Mounted {
    number: Number,
    /// Its node, or the kernel's name where there is none.
    name: PathBuf,
    /// Of its file system.
    uuid: Option<String>,
    is_read: bool,
}

/// What is mounted, also from devices without a node: these are only read where a name leads to
/// a device, which may be a copy of one.
fn mounted(
    inventory: &Inventory,
    config: &Staging,
    names: &BTreeMap<PathBuf, Named>,
    devices: &[Observation],
) -> Vec<Mounted> {
    let is_read = |content: &Content| {
        !matches!(
            content,
            Content::Unreadable { .. } | Content::NoAnswer { .. }
        )
    };
    let with_node = devices
        .iter()
        .filter(|device| !device.mounted_on.is_empty());
    let with_node = with_node.map(|device| Mounted {
        number: device.number,
        name: device.node.clone(),
        uuid: device.uuid.clone(),
        is_read: is_read(&device.content),
    });
    let is_any_named = names
        .values()
        .any(|named| matches!(named, Named::BlockDevice(_)));
    let without_node = inventory.devices.iter().filter(|device| {
        is_any_named && device.node.is_none() && !inventory.mount_points(device).is_empty()
    });
    let without_node = without_node.map(|device| {
        let reading = without_node::read(device.number, config.device_timeout);
        Mounted {
            number: device.number,
            name: PathBuf::from(&device.name),
            is_read: is_read(&reading.content),
            uuid: reading.uuid,
        }
    });
    with_node.chain(without_node).collect()
}

/// A copy of a disk has its UUID: of the two, the mounted one is the system's own.
fn find_twins(devices: &mut [Observation], mounted: &[Mounted]) {
    for device in devices
        .iter_mut()
        .filter(|device| device.mounted_on.is_empty())
    {
        let is_twin = |mounted: &&Mounted| {
            let uuids = device.uuid.as_ref().zip(mounted.uuid.as_ref());
            mounted.number != device.number
                && uuids.is_some_and(|(own, other)| own.eq_ignore_ascii_case(other))
        };
        let twin = mounted.iter().find(is_twin);
        device.twin_of = twin.map(|twin| twin.name.clone());
    }
}

/// cloud-init and waagent make a file system on Azure's temporary disk in the same seconds.
fn azure_agent(host: &Host) -> Option<String> {
    const AGENTS: [(&str, &str); 4] = [
        ("cloud-init", "/usr/bin/cloud-init"),
        ("waagent", "/usr/sbin/waagent"),
        ("waagent", "/usr/bin/waagent"),
        ("azure-init", "/usr/bin/azure-init"),
    ];
    let is_there = |(_, path): &&(&str, &str)| host.metadata(path.as_ref()).is_ok();
    let agent = AGENTS.iter().find(is_there);
    agent.map(|(name, _)| name.to_string())
}

/// What each name in the specs leads to.
fn names(host: &Host, config: &Staging) -> BTreeMap<PathBuf, Named> {
    let names = config.devices.iter().filter_map(|spec| match spec {
        Spec::Name(path) => Some((path.clone(), look_up(host, path))),
        Spec::Label(_) | Spec::Local => None,
    });
    names.collect()
}

/// The devices that are to be read, each with its node.
fn candidates(
    inventory: &Inventory,
    config: &Staging,
    names: &BTreeMap<PathBuf, Named>,
) -> Vec<(BlockDevice, PathBuf)> {
    let is_of_any = |spec: &Spec| matches!(spec, Spec::Label(_) | Spec::Local);
    let by_label = config.devices.iter().any(is_of_any);
    let is_named = |number: Number| {
        names
            .values()
            .any(|named| *named == Named::BlockDevice(number))
    };
    let mut devices: Vec<(BlockDevice, PathBuf)> = Vec::new();
    for device in &inventory.devices {
        match &device.node {
            Some(node)
                if by_label
                    || is_named(device.number)
                    || !inventory.mount_points(device).is_empty() =>
            {
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
        Some(Spec::Local) | None => false,
    }
}

/// Where the devices are observed.
struct Place<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    /// Of `/etc/fstab`; why not, where it cannot be read.
    claims: OnceCell<Result<Claims, String>>,
    dmi: OnceCell<Dmi>,
    config: &'a Staging,
    names: &'a BTreeMap<PathBuf, Named>,
    making: Option<Making>,
    combining: Option<Combining>,
}

impl Place<'_> {
    fn observation(&self, device: &(BlockDevice, PathBuf), reading: Reading) -> Observation {
        let (host, (device, node)) = (self.host, device);
        let partitions = match reading.content {
            Content::Nothing => sysfs::partitions(host, &device.name),
            _ => Vec::new(),
        };
        let uuid = reading.uuid;
        let partition = match reading.partition {
            // libblkid finds it by the node of the disk, which need not be there.
            Entry { uuid: None, .. } => Entry::of_udev(host, device.number),
            of_libblkid => of_libblkid,
        };
        let mut holders = sysfs::holders(host, &device.name);
        let shared = self.inventory.shared_with(device);
        holders.extend(shared.map(|place| format!("the btrfs on {}", place.display())));
        let mut observation = Observation {
            number: device.number,
            node: node.to_path_buf(),
            size_bytes: device.size_bytes,
            is_partition: sysfs::disk_of(host, &device.name) != sysfs::name_of(&device.name),
            read_only: reading.read_only,
            boot_label: reading.boot_label,
            facts: reading.facts,
            system: self.inventory.system(device),
            is_swapped_on: self.inventory.is_swapped_on(device),
            holders,
            identity: self.identity(&device.name),
            fstab: Fstab::NotLookedAt,
            twin_of: None,
            mounted_on: self.inventory.mount_points(device),
            partitions,
            zero: reading.zero,
            half_made: self.half_made(device, &reading.content, uuid.as_deref(), None),
            made_of: sysfs::members(host, &device.name),
            array: None,
            uuid,
            content: reading.content,
            look: None,
        };
        if heeds_fstab(&self.config.devices, self.names, &observation) {
            observation.fstab = self.fstab(device, &observation, &partition);
        }
        debug!("{}: {}", node.display(), observation.content);
        observation
    }

    fn identity(&self, name: &str) -> Identity {
        let dmi = || self.dmi.get_or_init(|| read_dmi(self.host)).clone();
        identity(&Attributes::read(self.host, name, dmi))
    }

    /// Local disks of which nobody can read what is on them; looked for where that matters.
    fn without_node(&self) -> Vec<PathBuf> {
        let mut nodes = Vec::new();
        for device in &self.inventory.devices {
            if self.combining.is_some()
                && device.node.is_none()
                && matches!(self.identity(&device.name), Identity::LocalScratch(_))
            {
                nodes.push(sysfs::node_of(&device.name));
            }
        }
        nodes
    }

    /// An array of local disks that is called as this program calls its own is as local as they
    /// are.
    fn see_arrays(&self, devices: &[(BlockDevice, PathBuf)], observations: &mut [Observation]) {
        if self.combining.is_none() {
            return;
        }
        for (index, (device, _)) in devices.iter().enumerate() {
            let Some((scratch, member)) = array_of(&observations[index], observations) else {
                continue;
            };
            let uuid = member.uuid.clone();
            let array = &mut observations[index];
            array.identity = Identity::LocalScratch(scratch);
            let own = array.uuid.as_deref();
            array.half_made = self.half_made(device, &array.content, own, Some(&uuid));
            array.array = Some(uuid);
            if heeds_fstab(&self.config.devices, self.names, array) {
                array.fstab = self.fstab(device, array, &Entry::default());
            }
        }
    }

    /// Given the content of a device, the UUID of its file system, and its own as an array.
    fn half_made(
        &self,
        device: &BlockDevice,
        content: &Content,
        uuid: Option<&str>,
        array: Option<&str>,
    ) -> HalfMade {
        let record = self.combining.as_ref().and_then(|one| one.record.as_ref());
        if self.making.is_none() && record.is_none() {
            return HalfMade::No;
        }
        let this = Making::of(self.host, &device.name, device.size_bytes, "", array);
        let making = self.making.as_ref();
        let of_mkfs = making.map_or(HalfMade::No, |making| making.is_of(&this, content, uuid));
        match (of_mkfs, record, content) {
            (HalfMade::No, Some(record), Content::Nothing) => record.half_made(&this, array),
            (of_mkfs, _, _) => of_mkfs,
        }
    }

    /// What `/etc/fstab` says of a device.
    fn fstab(&self, device: &BlockDevice, observation: &Observation, partition: &Entry) -> Fstab {
        let read = || Claims::read(self.host).map_err(|error| format!("{error:#}"));
        let claims = match self.claims.get_or_init(read) {
            Ok(claims) => claims,
            Err(error) => return Fstab::Unknown(error.clone()),
        };
        let content = &observation.content;
        let mut candidate = Candidate::look_up(self.host, self.inventory, device, content);
        candidate.uuid.clone_from(&observation.uuid);
        candidate.partuuid.clone_from(&partition.uuid);
        candidate.partlabel.clone_from(&partition.label);
        let mount_point = self.config.mount_point.as_path();
        let place = claims.place_elsewhere(&candidate, |path| {
            is_same_directory(self.host, path, mount_point)
        });
        place.map_or(Fstab::Nothing, Fstab::Place)
    }
}

fn look_up(host: &Host, path: &Path) -> Named {
    match host.metadata(path) {
        Ok(metadata) if metadata.file_type().is_block_device() => {
            Named::BlockDevice(Number::from_raw(metadata.rdev()))
        }
        Ok(metadata) => Named::NotABlockDevice(kind_in_words(metadata.file_type())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Named::Missing,
        Err(e) => Named::Unreachable(e.to_string()),
    }
}
