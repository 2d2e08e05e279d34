//! The config drive: a small disk with the same `meta_data.json`, made at launch.
//!
//! It is looked for, mounted and read in children: any disk may hang. One that somebody has
//! mounted (cloud-init does) is read where it is. Else it is mounted read-only in a mount
//! namespace of the child's own, as it holds passwords too, and is gone with the child.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;

use super::{Answer, NoAnswer, openstack};
use crate::deadline::origin::LimitSource;
use crate::disk::inventory::{BlockDevice, Inventory, System};
use crate::disk::reader::{Reader, Wanted, Zeros};
use crate::disk::signature::{Content, Reading};
use crate::host::bounded::{self, Limit};
use crate::host::{Host, mount_table, namespace};
use crate::order::sort_by_key;

/// vfat has labels in capitals.
const LABEL: &str = "config-2";

/// How it is called before a device is known.
pub(crate) const PLACE: &str = "LABEL=config-2";

const SIZE_LIMIT: u64 = 1024 * 1024;

/// Looks for the drive and reads it, for at most `limit` each.
///
/// # Errors
///
/// That there is none, or that it does not say who this VM is.
pub(crate) fn ask(host: &Host, reader: &mut Reader, limit: Duration) -> Result<Answer, NoAnswer> {
    read(host, reader, limit).map_err(|e| NoAnswer::Local(format!("{e:#}")))
}

fn read(host: &Host, reader: &mut Reader, limit: Duration) -> Result<Answer> {
    let start = Instant::now();
    let inventory = Inventory::with_cdroms(host, &mount_table::read(host)?)?;
    let drive = find(host, &inventory, reader, limit)?;
    let left = limit.saturating_sub(start.elapsed());
    let read = bounded::run(Limit::after(left), &[], || {
        read_drive(host, &drive).map_err(|e| format!("{e:#}"))
    });
    let read = read.with_context(|| format!("{} does not answer", drive.node.display()))?;
    let mut answer = read.map_err(anyhow::Error::msg)?;
    answer.warnings.extend(drive.warning);
    answer.place = Some(drive.node.display().to_string());
    Ok(answer)
}

struct Drive {
    node: PathBuf,
    filesystem: String,
    mounted_on: Vec<PathBuf>,
    /// That it is not the only one.
    warning: Option<String>,
}

fn is_labelled(reading: &Reading) -> bool {
    match &reading.content {
        Content::Filesystem { label, .. } => label
            .as_ref()
            .is_some_and(|label| label.eq_ignore_ascii_case(LABEL)),
        _ => false,
    }
}

fn find(host: &Host, inventory: &Inventory, reader: &mut Reader, limit: Duration) -> Result<Drive> {
    let candidates: Vec<(&BlockDevice, &PathBuf)> = inventory
        .devices
        .iter()
        .filter(|device| inventory.system(device) != System::Disk)
        .filter_map(|device| Some((device, device.node.as_ref()?)))
        .collect();
    let wanted: Vec<Wanted> = candidates
        .iter()
        .map(|(device, node)| Wanted {
            number: device.number,
            node: host.path(node),
        })
        .collect();
    let readings = reader.read(&wanted, Zeros::Ignore, limit, |_, reading| {
        is_labelled(reading)
    });
    let is_unreadable = |reading: &&Reading| {
        matches!(
            reading.content,
            Content::Unreadable { .. } | Content::NoAnswer { .. }
        )
    };
    let unreadable = readings.iter().filter(is_unreadable).count();
    let mut found: Vec<(&BlockDevice, &PathBuf, Content)> = candidates
        .into_iter()
        .zip(readings)
        .filter(|(_, reading)| is_labelled(reading))
        .map(|((device, node), reading)| (device, node, reading.content))
        .collect();
    sort_by_key(&mut found, |(_, node, _)| *node);
    let names: Vec<String> = found.iter().map(|f| f.1.display().to_string()).collect();
    let warning = (found.len() > 1).then(|| {
        format!(
            "{} are labelled {LABEL}; the first by name is taken",
            names.join(" and ")
        )
    });
    match found.into_iter().next() {
        Some((device, node, Content::Filesystem { kind, .. })) => Ok(Drive {
            node: node.clone(),
            filesystem: kind,
            mounted_on: inventory.mount_points(device),
            warning,
        }),
        _ if unreadable > 0 => {
            bail!("no disk is labelled {LABEL}, and {unreadable} could not be read")
        }
        _ => bail!("no disk is labelled {LABEL}"),
    }
}

/// What a child does.
fn read_drive(host: &Host, drive: &Drive) -> Result<Answer> {
    let node = drive.node.display();
    let root = match drive.mounted_on.first() {
        Some(place) => open_directory(&host.path(place))
            .with_context(|| format!("cannot open {node} on {}", place.display())),
        None => open_unmounted(host, drive),
    }?;
    let text = read_document(&root)
        .with_context(|| format!("cannot read {} on {node}", openstack::PATH))?;
    openstack::parse(text, LimitSource::ConfigDrive)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("{} on {node}", openstack::PATH))
}

/// The root directory of a device's file system, which is mounted for this process alone.
fn open_unmounted(host: &Host, drive: &Drive) -> Result<OwnedFd> {
    let node = host.path(&drive.node);
    let directory = open_directory(node.parent().unwrap_or(Path::new("/")))?;
    namespace::enter().context("cannot have a mount namespace")?;
    // Nothing is mounted on /dev there: the node is found from its directory.
    fchdir(directory)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let filesystem = drive.filesystem.as_str();
    mount(
        node.file_name(),
        namespace::MOUNT_POINT,
        Some(filesystem),
        flags,
        None::<&str>,
    )
    .map_err(|errno| match errno {
        Errno::ENODEV => anyhow!("this kernel has no driver for {filesystem} ({errno})"),
        _ => errno.into(),
    })
    .with_context(|| format!("cannot mount the config drive {}", drive.node.display()))?;
    open_directory(Path::new(namespace::MOUNT_POINT))
        .with_context(|| format!("cannot open the config drive {}", drive.node.display()))
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

fn read_document(root: impl AsFd) -> Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(root, openstack::PATH, flags, Mode::empty())?);
    let mut text = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut text)?;
    if text.len() as u64 > SIZE_LIMIT {
        bail!("it is larger than {SIZE_LIMIT} bytes");
    }
    Ok(text)
}
