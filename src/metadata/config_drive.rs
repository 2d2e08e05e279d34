//! The config drive: a small disk with the same `meta_data.json`, made at launch.
//!
//! One that somebody has mounted (cloud-init does) is read where it is. Else it is
//! mounted read-only in a directory that only root can enter, as it holds passwords
//! too, and unmounted again as soon as its root directory is open, so that nothing
//! which happens while it is read can leave it mounted.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use log::warn;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use sys_mount::{Mount, MountFlags, UnmountFlags};

use super::{Answer, NoAnswer, openstack};
use crate::disk::inventory::{BlockDevice, Inventory};
use crate::disk::signature::{self, Content};
use crate::host::{Host, mount_table};

/// How the origin of a limit that it gave ends.
pub const ORIGIN: &str = " in the config drive metadata";

/// vfat has labels in capitals.
const LABEL: &str = "config-2";

/// How it is called before a device is known.
pub const PLACE: &str = "LABEL=config-2";

const SIZE_LIMIT: u64 = 1024 * 1024;

pub fn ask(host: &Host) -> Result<Answer, NoAnswer> {
    read(host).map_err(|e| NoAnswer::Local(format!("{e:#}")))
}

fn read(host: &Host) -> Result<Answer> {
    let inventory = Inventory::with_cdroms(&mount_table::read()?)?;
    let (node, filesystem, mounted_on) = find(&inventory)?;
    let root = match mounted_on.first() {
        Some(place) => open_directory(place)
            .with_context(|| format!("cannot open {} on {}", node.display(), place.display())),
        None => open_unmounted(host, &node, &filesystem),
    }?;
    let text = read_document(&root)
        .with_context(|| format!("cannot read {} on {}", openstack::PATH, node.display()))?;
    let answer = openstack::parse(&text, "config drive").map_err(anyhow::Error::msg);
    let answer = answer.with_context(|| format!("{} on {}", openstack::PATH, node.display()))?;
    Ok(Answer {
        place: Some(node.display().to_string()),
        ..answer
    })
}

/// Its node, its file system, and where it is mounted.
fn find(inventory: &Inventory) -> Result<(PathBuf, String, Vec<PathBuf>)> {
    let mut found = Vec::new();
    let mut unreadable = 0;
    for device in inventory
        .devices
        .iter()
        .filter(|d| !inventory.is_on_root_disk(d))
    {
        let Some(node) = &device.node else { continue };
        match signature::read(node).content {
            Content::Filesystem {
                kind,
                label: Some(label),
            } if label.eq_ignore_ascii_case(LABEL) => found.push((device, node, kind)),
            Content::Unreadable { .. } => unreadable += 1,
            _ => {}
        }
    }
    let names = |found: &[(&BlockDevice, &PathBuf, String)]| {
        let names: Vec<String> = found.iter().map(|f| f.1.display().to_string()).collect();
        names.join(" and ")
    };
    found.sort_by_key(|(_, node, _)| *node);
    if found.len() > 1 {
        warn!(
            "{} are labelled {LABEL}; the first by name is taken",
            names(&found)
        );
    }
    match found.into_iter().next() {
        Some((device, node, kind)) => Ok((node.clone(), kind, inventory.mount_points(device))),
        None if unreadable > 0 => {
            bail!("no disk is labelled {LABEL}, and {unreadable} could not be read")
        }
        None => bail!("no disk is labelled {LABEL}"),
    }
}

/// A directory to mount on, below one that only root can enter. Dropping it unmounts
/// what is mounted there and removes both.
struct Place {
    private: PathBuf,
    mount_point: PathBuf,
    mounted: bool,
}

impl Place {
    fn make(host: &Host) -> Result<Place> {
        let runtime = host.runtime_directory();
        let private = runtime.join(format!(".config-drive-{}", std::process::id()));
        let place = Place {
            mount_point: private.join("drive"),
            private,
            mounted: false,
        };
        fs::create_dir_all(&runtime)
            .and_then(|()| DirBuilder::new().mode(0o700).create(&place.private))
            .and_then(|()| DirBuilder::new().mode(0o700).create(&place.mount_point))
            .with_context(|| format!("cannot make {}", place.mount_point.display()))?;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Lazily: whoever has it open still can read, and the table forgets it at once.
        if self.mounted
            && let Err(e) = sys_mount::unmount(&self.mount_point, UnmountFlags::DETACH)
        {
            warn!("cannot unmount {}: {e}", self.mount_point.display());
            return;
        }
        for directory in [&self.mount_point, &self.private] {
            if let Err(e) = fs::remove_dir(directory)
                && e.kind() != ErrorKind::NotFound
            {
                warn!("cannot remove {}: {e}", directory.display());
            }
        }
    }
}

/// The root directory of a device's file system, which is in no mount table any more.
fn open_unmounted(host: &Host, node: &Path, filesystem: &str) -> Result<OwnedFd> {
    let mut place = Place::make(host)?;
    Mount::builder()
        .fstype(filesystem)
        .flags(MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC)
        .mount(node, &place.mount_point)
        .map_err(|e| match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENODEV) => {
                anyhow::anyhow!("this kernel has no driver for {filesystem} ({e})")
            }
            _ => e.into(),
        })
        .with_context(|| format!("cannot mount the config drive {}", node.display()))?;
    place.mounted = true;
    open_directory(&place.mount_point)
        .with_context(|| format!("cannot open the config drive {}", node.display()))
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
