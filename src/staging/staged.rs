//! What is mounted on the mount point, verified.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::fstatvfs;

use super::limits::{MOST, limit_of};
use crate::config::Staging;
use crate::disk::choose::Accepted;
use crate::disk::inventory;
use crate::disk::reader::{Reader, Wanted};
use crate::disk::signature::Content;
use crate::host::Host;
use crate::host::block_device::Number;
use crate::host::bounded::{self, Limit};
use crate::host::mount_table::{self, Mount, device_of};
use crate::host::sysfs;
use crate::logging::Notices;

/// A file system that is mounted on the mount point, which has been verified. It
/// holds the open directory, so that nothing done through it can end up on the file
/// system underneath.
#[derive(Debug)]
pub(crate) struct Staged {
    directory: OwnedFd,
    mount_point: PathBuf,
    device: String,
    filesystem: String,
    label: Option<String>,
    uuid: Option<String>,
    options: String,
    size_bytes: u64,
    free_bytes: u64,
    already_mounted: bool,
    also_mounted_on: Vec<PathBuf>,
    /// Why it may be used, where this run chose it.
    evidence: Option<String>,
    /// The disks that it is made of, where it is an array.
    made_of: Vec<PathBuf>,
    /// What shows that it is not the scratch disk, in words.
    suspicion: Option<String>,
}

impl Staged {
    /// The root directory of the mounted file system.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub(crate) fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Its source in the mount table; a device's node, if it is a device.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    pub(crate) fn filesystem(&self) -> &str {
        &self.filesystem
    }

    pub(crate) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Of the file system.
    pub(crate) fn uuid(&self) -> Option<&str> {
        self.uuid.as_deref()
    }

    /// As the mount table shows them.
    pub(crate) fn options(&self) -> &str {
        &self.options
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What an unprivileged user may still fill.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// Somebody else, or an earlier run, had mounted it.
    pub(crate) fn already_mounted(&self) -> bool {
        self.already_mounted
    }

    /// The limit for work on it. Where it is no block device there is nothing to see moving,
    /// and the whole time counts.
    pub(crate) fn limit(&self, host: &Host, config: &Staging) -> Limit {
        match host.block_number(Path::new(&self.device)) {
            Some(device) => limit_of(host, device, config),
            None => Limit::after(MOST),
        }
    }

    pub(crate) fn also_mounted_on(&self) -> &[PathBuf] {
        &self.also_mounted_on
    }

    /// Why it may be used: `LABEL=…`, `local: …`, `empty` or `ours`. None where it was mounted
    /// already.
    pub(crate) fn evidence(&self) -> Option<&str> {
        self.evidence.as_deref()
    }

    /// The disks that it is made of, where it is an array.
    pub(crate) fn made_of(&self) -> &[PathBuf] {
        &self.made_of
    }

    /// What shows that what was mounted already is not the scratch disk.
    pub(crate) fn suspicion(&self) -> Option<&str> {
        self.suspicion.as_deref()
    }

    pub(super) fn suspect(&mut self, suspicion: Option<String>) {
        self.suspicion = suspicion;
    }

    /// Its line in the mount table.
    pub(crate) fn mount(&self) -> Mount {
        Mount {
            source: PathBuf::from(&self.device),
            mount_point: self.mount_point.clone(),
            filesystem: self.filesystem.clone(),
            options: self.options.clone(),
        }
    }

    fn of(directory: OwnedFd, mount: &Mount) -> Result<Staged> {
        let space = fstatvfs(&directory).context("cannot ask how large it is")?;
        Ok(Staged {
            directory,
            mount_point: mount.mount_point.clone(),
            device: mount.source.display().to_string(),
            filesystem: mount.filesystem.clone(),
            label: None,
            uuid: None,
            options: mount.options.clone(),
            size_bytes: space.blocks() as u64 * space.fragment_size() as u64,
            free_bytes: space.blocks_available() as u64 * space.fragment_size() as u64,
            already_mounted: false,
            also_mounted_on: Vec::new(),
            evidence: None,
            made_of: Vec::new(),
            suspicion: None,
        })
    }
}

/// One line: `/dev/vdb (ext4) is mounted on /staging`.
impl fmt::Display for Staged {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let already = if self.already_mounted { "already " } else { "" };
        write!(
            f,
            "{} ({}) is {already}mounted on {}",
            self.device,
            self.filesystem,
            self.mount_point.display()
        )
    }
}

/// What is mounted on the mount point already, whoever mounted it, given the mount table.
///
/// # Errors
///
/// That it is read-only, or hidden under another mount.
pub(crate) fn find_staged(
    host: &Host,
    config: &Staging,
    mounts: &[Mount],
    reader: &mut Reader,
    notices: &Notices,
) -> Result<Option<Staged>> {
    let mount_point = mount_table::real_path(host, config.mount_point.as_path());
    if mount_table::on(mounts, &mount_point).is_none() {
        return Ok(None);
    }
    // Its options count, which may be older.
    let mounts = &*mount_table::read(host)?;
    let Some(mount) = mount_table::on(mounts, &mount_point) else {
        return Ok(None);
    };
    let mounts_now;
    let (mount, mounts) = match mount.filesystem.as_str() {
        AUTOMOUNT => {
            mount_on_demand(host, &mount_point)?;
            mounts_now = mount_table::read(host)?;
            let there = mount_table::on(&mounts_now, &mount_point)
                .filter(|mount| mount.filesystem != AUTOMOUNT);
            let there = there.with_context(|| {
                format!("nothing is mounted on {} any more", mount_point.display())
            })?;
            (there, &*mounts_now)
        }
        _ => (mount, mounts),
    };
    if !mount_table::is_of_a_disk(host, mount) {
        see_that_it_answers(host, mount, config.device_timeout)?;
    }
    let directory = match open_directory(&host.path(&mount_point)) {
        // A mount on a directory above it, which lacks the mount point.
        Err(_) if !host.path(&mount_point).exists() => return Err(hidden(mount)),
        opened => opened?,
    };
    if is_hidden(host, &directory, mount, mounts)? {
        return Err(hidden(mount));
    }
    if is_read_only(mount) {
        bail!(
            "{} is mounted read-only on {}: see dmesg, run fsck on it, or mount it writable",
            mount.source.display(),
            mount_point.display()
        );
    }
    let elsewhere: Vec<Mount> = mounts
        .iter()
        .filter(|other| other.mount_point != mount_point)
        .cloned()
        .collect();
    // btrfs gives each subvolume a device number of its own.
    let numbers = [Some(device_number(&directory)?), device_of(host, mount)];
    let of_the_system = inventory::system_devices(host, &elsewhere);
    if numbers
        .iter()
        .flatten()
        .any(|number| of_the_system.contains(number))
    {
        notices.warn(format!(
            "{} is a part of a file system that the system runs from, mounted there once more: jobs will fill the root disk",
            mount_point.display()
        ));
    }
    let device = device_of(host, mount);
    let also_mounted_on = mounts
        .iter()
        .filter(|other| other.mount_point != mount_point)
        .filter(|other| device.is_some() && device_of(host, other) == device)
        .map(|other| other.mount_point.clone())
        .collect();
    let mut staged = Staged::of(directory, mount)?;
    if let Some(number) = device {
        let name = sysfs::kernel_name(host, number).unwrap_or_default();
        staged.made_of = sysfs::members(host, &name);
        let node = host.path(&mount.source);
        let reading = reader.read_one(&Wanted { number, node }, config.device_timeout);
        staged.uuid = reading.uuid;
        staged.label = match reading.content {
            Content::Filesystem { label, .. } => label,
            _ => None,
        };
    }
    staged.already_mounted = true;
    staged.also_mounted_on = also_mounted_on;
    Ok(Some(staged))
}

/// What the kernel shows where something is mounted on demand (autofs, which systemd's
/// automount units use as well).
const AUTOMOUNT: &str = "autofs";

/// Whether what belongs on the mount point is mounted when somebody opens it, and has not
/// been yet.
pub(crate) fn is_on_demand(host: &Host, config: &Staging, mounts: &[Mount]) -> bool {
    let mount_point = mount_table::real_path(host, config.mount_point.as_path());
    mount_table::on(mounts, &mount_point).is_some_and(|mount| mount.filesystem == AUTOMOUNT)
}

/// Opens the mount point, which mounts what belongs there.
fn mount_on_demand(host: &Host, mount_point: &Path) -> Result<()> {
    let path = host.path(mount_point);
    let opened = bounded::run(Limit::after(MOST), &[], || {
        open_directory(&path)
            .map(drop)
            .map_err(|e| format!("{e:#}"))
    });
    opened
        .map_err(anyhow::Error::from)
        .and_then(|opened| opened.map_err(anyhow::Error::msg))
        .context("what is to be mounted there on demand cannot be")
}

/// Opens what a server or a process has to answer for, in a child. How that fails shows again.
fn see_that_it_answers(host: &Host, mount: &Mount, limit: Duration) -> Result<()> {
    let path = host.path(&mount.mount_point);
    let answered = bounded::run(Limit::after(limit), &[], || {
        let _ = open_directory(&path).map(|directory| fstatvfs(&directory));
    });
    answered.with_context(|| {
        let place = mount.mount_point.display();
        format!(
            "{} is mounted on {place} and does not answer; unmount it (umount -l {place})",
            mount.source.display()
        )
    })
}

fn hidden(mount: &Mount) -> anyhow::Error {
    anyhow!(
        "{} is mounted on {}, but something else lies over it",
        mount.source.display(),
        mount.mount_point.display()
    )
}

/// Makes sure that the mount point now is the accepted device's file system, writable.
///
/// # Errors
///
/// That it is not there, is hidden by something else, or is read-only.
pub(super) fn verify(host: &Host, accepted: &Accepted, mount_point: &Path) -> Result<Staged> {
    let mounts = mount_table::read(host)?;
    let Some(mount) = mount_table::on(&mounts, mount_point) else {
        bail!("mounted, but the mount table does not show it");
    };
    if host.block_number(&mount.source) != Some(accepted.number()) {
        bail!(
            "mounted, but the mount table shows {} there",
            mount.source.display()
        );
    }
    let directory = open_directory(&host.path(mount_point))?;
    if is_hidden(host, &directory, mount, &mounts)? {
        bail!("mounted, but something else lies on top of it");
    }
    if is_read_only(mount) {
        bail!("it could only be mounted read-only: see dmesg, run fsck on it");
    }
    let mut staged = Staged::of(directory, mount)?;
    staged.label = accepted.label().map(Into::into);
    staged.uuid = accepted.uuid().map(Into::into);
    staged.also_mounted_on = accepted.mounted_on().to_vec();
    staged.evidence = Some(accepted.evidence().to_string());
    staged.made_of = accepted.made_of().to_vec();
    Ok(staged)
}

/// Whether what was opened by the mount point's path is not the root of this mount, since
/// another lies over it or over a directory above it.
fn is_hidden(host: &Host, directory: &OwnedFd, mount: &Mount, mounts: &[Mount]) -> Result<bool> {
    let device = host.block_number(&mount.source);
    // btrfs gives each subvolume a device number of its own.
    if device.is_some() && mount.filesystem != "btrfs" {
        if device != Some(device_number(directory)?) {
            return Ok(true);
        }
        let is_same = |other: &&Mount| host.block_number(&other.source) == device;
        if mounts.iter().filter(is_same).count() == 1 {
            return Ok(false);
        }
    }
    Ok(mount_table::is_mount_on(host, directory, &mount.mount_point) == Some(false))
}

fn is_read_only(mount: &Mount) -> bool {
    mount.options.split(',').any(|option| option == "ro")
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("cannot open {}", path.display()))
}

fn device_number(directory: &OwnedFd) -> Result<Number> {
    Ok(Number::from_raw(fstat(directory)?.st_dev))
}
