//! A look into a file system that only a name found: what is in it, before it may be used.
//!
//! It is mounted read-only, through a read-only loop device, in a child and where nobody
//! sees it: not a byte of it changes, which read-only alone does not promise (a journal is
//! replayed, a superblock written). Where the kernel has no loop driver it is told to refuse
//! writes to the disk for these milliseconds; a record says so, by which the next run takes
//! that back if this one dies in between.

mod shield;
mod ways;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};
use nix::unistd::fchdir;
use serde::{Deserialize, Serialize};

use super::disk_lock::{self, DiskLock};
use super::limits::limit_of;
use super::root_directory::{self, Listing};
use crate::config::Config;
use crate::disk::choose::{Choice, choose};
use crate::disk::looked::{Contents, Look};
use crate::disk::mkfs;
use crate::disk::observation::{Observation, Observed};
use crate::disk::observe::observe;
use crate::disk::reader::Reader;
use crate::disk::signature::{self, Content};
use crate::host::block_device::Number;
use crate::host::bounded::{Limit, Task};
use crate::host::error_text::in_words;
use crate::host::mount_table::{self, Mount, device_of};
use crate::host::{Host, namespace};
use shield::Shield;
use ways::{Way, views, ways};

/// How long a child waits for another process's look. It takes milliseconds; whoever finds
/// the disk busy asks again.
const ANOTHER_LOOK: Duration = Duration::from_millis(200);

/// Observes the devices and judges them, looking into those that are to be looked into. What
/// is mounted on the mount point is staged already, and is not.
///
/// # Errors
///
/// That the kernel's lists of devices cannot be read.
pub(crate) fn observe_and_choose(
    host: &Host,
    config: &Config,
    mounts: &[Mount],
    reader: &mut Reader,
) -> anyhow::Result<(Observed, Choice)> {
    let staging = &config.staging;
    disk_lock::clear_leftovers(host);
    let mount_point = mount_table::real_path(host, staging.mount_point.as_path());
    // Mounted somewhere else would speak against it.
    let (staged, elsewhere): (Vec<Mount>, Vec<Mount>) = mounts
        .iter()
        .cloned()
        .partition(|mount| mount.mount_point == mount_point);
    let mut observed = observe(host, staging, &elsewhere, reader)?;
    observed.needs_no_owners = config.directories.is_empty();
    for device in &mut observed.devices {
        let is_it = |mount: &Mount| device_of(host, mount) == Some(device.number);
        if staged.iter().any(is_it) {
            device.look = Some(Look::Staged);
        }
        if device.read_only {
            let limit = Limit::after(staging.device_timeout);
            device.read_only = disk_lock::is_read_only(host, &device.node, device.number, limit);
        }
    }
    loop {
        let mut choice = choose(&staging.devices, staging.format, &observed);
        let number = choice.to_look_into;
        let device = observed
            .devices
            .iter_mut()
            .find(|device| Some(device.number) == number);
        match device {
            Some(device) => device.look = Some(look_into(host, config, device, reader)),
            None => {
                let next = choice
                    .to_be_made()
                    .filter(|_| choice.first_accepted().is_none());
                let missing = next.map(|one| mkfs::find(host, one, staging.filesystem));
                if let Some(Err(missing)) = missing {
                    choice.cannot_make(None, missing.to_string());
                }
                return Ok((observed, choice));
            }
        }
    }
}

fn look_into(host: &Host, config: &Config, device: &Observation, reader: &mut Reader) -> Look {
    let Content::Filesystem { kind, .. } = &device.content else {
        return Look::Failed("there is no file system on it".into());
    };
    let order = Order {
        host: host.clone(),
        node: device.node.clone(),
        number: device.number,
        filesystem: kind.clone(),
        options: config.staging.options.clone(),
        is_replay_pending: device.facts.is_replay_pending,
        directories: root_directory::names_of(&config.directories),
    };
    let limit = limit_of(host, device.number, &config.staging);
    let mut child = match reader.child() {
        Ok(child) => child,
        Err(gave_up) => return Look::Failed(gave_up.to_string()),
    };
    match child.ask::<LookInto>(&order, limit) {
        Ok(look) => {
            child.end();
            look
        }
        Err(gave_up) => {
            let after = config.staging.device_timeout;
            reader.leave_alone(device.number, child.give_up(), after);
            // One that is still there has the lock, and keeps the disk from being written.
            match DiskLock::try_take(host, &device.node, device.number) {
                Ok(_) => Look::Failed(gave_up.to_string()),
                Err(error) => Look::Failed(format!("it may be left read-only: {error}")),
            }
        }
    }
}

/// Looks into a device. The order says where it is and what is on it.
struct LookInto;

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    host: Host,
    node: PathBuf,
    number: Number,
    /// libblkid's name for the file system.
    filesystem: String,
    /// With which it is to be staged.
    options: Vec<String>,
    /// The superblock says that a journal or a log is to be replayed.
    is_replay_pending: bool,
    /// The names in the root directory that this program makes.
    directories: BTreeSet<String>,
}

impl Task for LookInto {
    type Order = Order;
    type Outcome = Look;

    fn perform(order: Order) -> Look {
        match look(&order) {
            Ok(contents) => Look::Seen(contents),
            Err(e) if e.kind() == ErrorKind::ResourceBusy => Look::Busy(in_words(&e)),
            Err(e) => Look::Failed(in_words(&e)),
        }
    }
}

fn look(order: &Order) -> io::Result<Contents> {
    let (host, node, number) = (&order.host, &order.node, order.number);
    let device = signature::open_node(&host.path(node), number)?;
    let lock = match DiskLock::take(host, node, number, ANOTHER_LOOK) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => return Err(busy("another vmstage is looking into it or mounts it")),
        Err(error) => Err(error),
    };
    // A mount of a loop device over it would not say so.
    signature::claim(&host.path(node), number).map_err(or_busy)?;
    let shield = Shield::raise(host, node, device, lock)?;
    let seen = namespace::enter()
        .and_then(|()| fchdir(&shield.directory).map_err(io::Error::from))
        .and_then(|()| see_all(order, &shield.name));
    shield.lower()?;
    seen
}

fn see_all(order: &Order, name: &OsStr) -> io::Result<Contents> {
    let mut is_replay_pending = order.is_replay_pending;
    let mut seen: Option<Listing> = None;
    for view in views(&order.filesystem, &order.options) {
        let (listing, way) = see(order, name, &view)?;
        is_replay_pending |= way.shows_pending;
        match &mut seen {
            Some(seen) => seen.add(listing),
            None => seen = Some(listing),
        }
    }
    let mut contents = seen.unwrap_or_default().contents();
    contents.is_replay_pending = is_replay_pending;
    Ok(contents)
}

/// Mounts it in the first way that does, and reads what that shows.
fn see(order: &Order, name: &OsStr, view: &str) -> io::Result<(Listing, Way)> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mut last = Errno::ENODEV;
    for way in ways(&order.filesystem) {
        let data: Vec<&str> = [way.data, view]
            .into_iter()
            .filter(|data| !data.is_empty())
            .collect();
        let data = data.join(",");
        let data = Some(data.as_str()).filter(|data| !data.is_empty());
        let driver = Some(way.driver);
        match mount(Some(name), namespace::MOUNT_POINT, driver, flags, data) {
            Ok(()) => {
                let listing = Listing::read(&order.directories);
                umount(namespace::MOUNT_POINT)?;
                return Ok((listing?, way));
            }
            // Without such a driver, or such an option, the next way may do.
            Err(errno) => last = errno,
        }
    }
    match last {
        Errno::ENODEV => Err(io::Error::other(format!(
            "this kernel has no driver for {}",
            order.filesystem
        ))),
        errno => Err(or_busy(errno.into())),
    }
}

fn or_busy(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::ResourceBusy => busy(&format!("something else has it in use: {error}")),
        _ => error,
    }
}

fn busy(text: &str) -> io::Error {
    io::Error::new(ErrorKind::ResourceBusy, text)
}
