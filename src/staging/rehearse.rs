//! A first mount of a device, in a child and where nobody sees it.
//!
//! mount(2) of a disk that hangs never returns, and completes late when the disk comes back:
//! in a mount namespace of the child's own that harms nobody. Where it succeeds, mounting
//! the same disk once more takes no reading of the disk, for the kernel has it in use.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;
use serde::{Deserialize, Serialize};

use super::label::{self, Carried, Contexts, Found};
use super::mark::{self, By};
use super::options::{drivers, flags_and_data};
use super::root_directory::{self, Listing};
use crate::config::Config;
use crate::disk::choose::{Accepted, Evidence};
use crate::disk::mark::Mark;
use crate::disk::signature::{self, Content};
use crate::host::block_device::Number;
use crate::host::bounded::{self, Limit, Task};
use crate::host::error_text::in_words;
use crate::host::mount_table::{self, device_of};
use crate::host::{Host, machine, namespace};

const FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Rehearsed {
    /// The kernel has the device in use for as long as the child is there.
    Mounted {
        driver: String,
    },
    Failed(Failed),
    /// What was mounted is not what was accepted, in words.
    Changed(String),
    /// This kernel has no driver for it.
    NoDriver,
}

/// An error of the system's.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failed {
    errno: Option<i32>,
    text: String,
}

impl Failed {
    pub(super) fn errno(&self) -> Option<Errno> {
        self.errno.map(Errno::from_raw)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.errno() == Some(Errno::EBUSY)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed {
            errno: error.raw_os_error(),
            text: in_words(&error),
        }
    }
}

/// What the child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    root: Host,
    node: PathBuf,
    number: Number,
    /// It may be mounted already, as the mount table says.
    may_be_mounted: bool,
    filesystem: String,
    label: Option<String>,
    uuid: Option<String>,
    options: Vec<String>,
    /// Where only what is in it says that it may be used: how that is judged.
    rules: Option<Rules>,
    /// Where nothing but the mark will tell at the next boot that the disk is ours.
    mark: Option<By>,
    /// SELinux's, for the root directory, or for all where it carries none.
    context: Option<String>,
}

/// What a look judges by.
#[derive(Debug, Serialize, Deserialize)]
struct Rules {
    machine: Option<String>,
    /// The names in the root directory that this program makes.
    directories: BTreeSet<String>,
}

impl Order {
    pub(super) fn of(
        host: &Host,
        accepted: &Accepted,
        config: &Config,
        contexts: Option<&Contexts>,
    ) -> Order {
        let is_empty = matches!(accepted.evidence(), Evidence::Empty);
        let rules = || Rules {
            machine: machine::uuid(host),
            directories: root_directory::names_of(&config.directories),
        };
        Order {
            root: host.clone(),
            node: accepted.node().into(),
            number: accepted.number(),
            may_be_mounted: !accepted.evidence().is_of_a_name(),
            filesystem: accepted.filesystem().into(),
            label: accepted.label().map(Into::into),
            uuid: accepted.uuid().map(Into::into),
            options: config.staging.options.clone(),
            rules: accepted.evidence().is_of_a_name().then(rules),
            mark: is_empty.then(|| By::this(host, None, accepted.uuid())),
            context: contexts.and_then(|contexts| contexts.root.clone()),
        }
    }
}

/// Mounts the device in the child. The kernel has it in use until the child ends.
pub(super) struct Rehearse;

impl Task for Rehearse {
    type Order = Order;
    type Outcome = Rehearsed;

    fn perform(order: Order) -> Rehearsed {
        mount_alone(&order).unwrap_or_else(|e| Rehearsed::Failed(e.into()))
    }
}

fn mount_alone(order: &Order) -> io::Result<Rehearsed> {
    let host = &order.root;
    see_that_it_is_free(host, &order.node, order.number, order.may_be_mounted)?;
    let node = host.path(&order.node);
    let directory = node.parent().unwrap_or(Path::new("/"));
    let name = node.file_name().unwrap_or_default();
    let directory = open(directory, FLAGS, Mode::empty())?;
    let proc = order
        .context
        .as_ref()
        .map(|_| open("/proc", FLAGS, Mode::empty()));
    let proc = proc.transpose()?;
    namespace::enter()?;
    // Nothing is mounted on /dev there: the node is found from its directory.
    fchdir(directory)?;
    let (flags, mut data) = flags_and_data(&order.options);
    let flags = MsFlags::from_bits_truncate(flags.bits());
    for driver in drivers(&order.filesystem) {
        let mount_it = |data: &str| {
            let (name, driver) = (Some(name), Some(driver));
            mount(name, namespace::MOUNT_POINT, driver, flags, Some(data))
        };
        match mount_it(&data) {
            Ok(()) => {
                if let (Some(proc), Some(context)) = (&proc, &order.context)
                    && carried(proc)? == Carried::No
                {
                    umount(namespace::MOUNT_POINT)?;
                    let labelled = label::options_with(&data, context);
                    match mount_it(&labelled) {
                        Ok(()) => data = labelled,
                        // Not with this one, then.
                        Err(_) => mount_it(&data)?,
                    }
                }
                if let Some(found) = see_that_it_is_the_same(order, &node)? {
                    return Ok(Rehearsed::Changed(found));
                }
                if let Some(by) = &order.mark
                    && mark_here(by, order.context.as_deref()).is_ok()
                {
                    // Only that has all of it on the disk for good, on every file system and
                    // kernel: a sync leaves it in the log of xfs, into which the next look,
                    // which writes nothing, does not see.
                    umount(namespace::MOUNT_POINT)?;
                    mount_it(&data)?;
                }
                return Ok(Rehearsed::Mounted {
                    driver: driver.into(),
                });
            }
            Err(Errno::ENODEV) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Rehearsed::NoDriver)
}

/// SELinux's label comes first: what is made in an unlabelled directory is unlabelled.
fn mark_here(by: &By, context: Option<&str>) -> io::Result<()> {
    let root = open(namespace::MOUNT_POINT, FLAGS, Mode::empty())?;
    if context.is_some() {
        let _ = label::ensure(root.as_fd(), context, None, Found::There);
    }
    mark::write(root.as_fd(), by)
}

/// What labels the file system that is mounted here has, given the machine's `/proc`, over which
/// it lies.
fn carried(proc: &OwnedFd) -> io::Result<Carried> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mut table = Vec::with_capacity(2048);
    File::from(openat(proc, "self/mounts", flags, Mode::empty())?).read_to_end(&mut table)?;
    let mounts = mount_table::parse(&table);
    let on = |path| mount_table::on(&mounts, Path::new(path));
    let is_shown = on("/").is_some_and(|root| label::has(root, "seclabel"));
    let carried = on(namespace::MOUNT_POINT).map(|mount| label::carried(mount, is_shown));
    Ok(carried.unwrap_or(Carried::Each))
}

/// Between the look and the use a device can be replaced by another, and what is in it can
/// change. Says what is there instead of what was accepted.
fn see_that_it_is_the_same(order: &Order, node: &Path) -> io::Result<Option<String>> {
    let name = node.file_name().unwrap_or_default();
    let device = signature::open_node(Path::new(name), order.number)?;
    let expected = Content::Filesystem {
        kind: order.filesystem.clone(),
        label: order.label.clone(),
    };
    let found = signature::filesystem_of_kind(&device, &order.filesystem)?;
    if found != (expected, order.uuid.clone()) {
        let found = signature::read_open(device)?;
        let uuid = found.uuid.map(|uuid| format!(" UUID={uuid}"));
        return Ok(Some(format!(
            "the disk was replaced: it now holds {}{}",
            found.content,
            uuid.unwrap_or_default()
        )));
    }
    match &order.rules {
        Some(rules) => files_of_somebody_s(rules, order.uuid.as_deref()),
        None => Ok(None),
    }
}

/// Another process may have written to it, or a clone with the same UUID have taken its place.
fn files_of_somebody_s(rules: &Rules, uuid: Option<&str>) -> io::Result<Option<String>> {
    let seen = Listing::read(&rules.directories)?.contents();
    let is_ours = |mark: &Mark| mark.counts(uuid, rules.machine.as_deref());
    let is_free = seen.mark.as_ref().is_some_and(is_ours) || seen.others.is_empty();
    Ok((!is_free).then(|| format!("it changed: it now holds files ({})", seen.others)))
}

/// Whether the device can be had, in a child of its own.
pub(super) fn is_busy(host: &Host, accepted: &Accepted, limit: Limit) -> bool {
    let (node, number) = (accepted.node(), accepted.number());
    let may_be_mounted = !accepted.evidence().is_of_a_name();
    let claimed = bounded::run(limit, &[], || {
        see_that_it_is_free(host, node, number, may_be_mounted).map_err(Failed::from)
    });
    matches!(claimed, Ok(Err(failed)) if failed.is_busy())
}

/// Nobody has it but, where a label says that it is the one, a mount that is in the
/// mount table. One in another mount namespace, or below an overlay, is not.
fn see_that_it_is_free(
    host: &Host,
    node: &Path,
    number: Number,
    may_be_mounted: bool,
) -> io::Result<()> {
    match signature::claim(&host.path(node), number) {
        Err(e)
            if e.raw_os_error() == Some(Errno::EBUSY as i32)
                && may_be_mounted
                && is_in_table(host, number) =>
        {
            Ok(())
        }
        claimed => claimed.map(drop),
    }
}

fn is_in_table(host: &Host, number: Number) -> bool {
    mount_table::read(host).is_ok_and(|mounts| {
        mounts
            .iter()
            .any(|mount| device_of(host, mount) == Some(number))
    })
}
