//! From an accepted device to a staged one: mount, and verify that it is mounted.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use log::{debug, warn};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::fstatvfs;
use sys_mount::{Mount as MountedBySys, MountFlags, UnmountFlags};

use super::mount_point;
use crate::config::Staging;
use crate::disk::choose::{Accepted, FoundBy};
use crate::disk::signature::{self, Content};
use crate::host::block_device::{Number, block_number};
use crate::host::mount_table::device_of;
use crate::host::mount_table::{self, Mount};

/// How often a device that is busy is tried.
const RETRY: Duration = Duration::from_millis(100);

/// A file system that is mounted on the mount point, which has been verified. It
/// holds the open directory, so that nothing done through it can end up on the file
/// system underneath.
#[derive(Debug)]
pub struct Staged {
    directory: OwnedFd,
    mount_point: PathBuf,
    device: String,
    filesystem: String,
    label: Option<String>,
    options: String,
    size_bytes: u64,
    free_bytes: u64,
    already_mounted: bool,
    also_mounted_on: Vec<PathBuf>,
}

/// Why there is nothing staged.
#[derive(Debug)]
pub enum MountError {
    /// The mount point is at fault: no other device would fare better.
    MountPoint(anyhow::Error),
    /// The device is.
    Device(anyhow::Error),
    /// It is not any more what was accepted.
    Changed(anyhow::Error),
}

impl Staged {
    /// The root directory of the mounted file system.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Its source in the mount table; a device's node, if it is a device.
    pub fn device(&self) -> &str {
        &self.device
    }

    pub fn filesystem(&self) -> &str {
        &self.filesystem
    }

    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// As the mount table shows them.
    pub fn options(&self) -> &str {
        &self.options
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What an unprivileged user may still fill.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// Somebody else, or an earlier run, had mounted it.
    pub fn already_mounted(&self) -> bool {
        self.already_mounted
    }

    pub fn also_mounted_on(&self) -> &[PathBuf] {
        &self.also_mounted_on
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
pub fn find_staged(mount_point: &Path, mounts: &[Mount]) -> Result<Option<Staged>> {
    let mount_point = mount_table::real_path(mount_point);
    let Some(mount) = mount_table::on(mounts, &mount_point) else {
        return Ok(None);
    };
    let opened = open_directory(&mount_point);
    if mount.filesystem == AUTOMOUNT {
        // Opening it mounted what belongs there, unless that failed.
        let directory = opened.context("what is to be mounted there on demand cannot be")?;
        return staged_now(directory, &mount_point, &mount_table::read()?).map(Some);
    }
    let directory = match opened {
        // A mount on a directory above it, which lacks the mount point.
        Err(_) if !mount_point.exists() => return Err(hidden(mount)),
        opened => opened?,
    };
    staged_now(directory, &mount_point, mounts).map(Some)
}

/// What the kernel shows where something is mounted on demand (autofs, which systemd's
/// automount units use as well).
const AUTOMOUNT: &str = "autofs";

fn hidden(mount: &Mount) -> anyhow::Error {
    anyhow!(
        "{} is mounted on {}, but something else lies over it",
        mount.source.display(),
        mount.mount_point.display()
    )
}

fn staged_now(directory: OwnedFd, mount_point: &Path, mounts: &[Mount]) -> Result<Staged> {
    let mount = mount_table::on(mounts, mount_point)
        .filter(|mount| mount.filesystem != AUTOMOUNT)
        .with_context(|| format!("nothing is mounted on {} any more", mount_point.display()))?;
    if is_hidden(&directory, mount, mounts)? {
        return Err(hidden(mount));
    }
    if is_read_only(mount) {
        bail!(
            "{} is mounted read-only on {}: see dmesg, run fsck on it, or mount it writable",
            mount.source.display(),
            mount_point.display()
        );
    }
    if device_number(&directory)? == Number::from_raw(fs::metadata("/")?.dev()) {
        warn!(
            "{} is a part of the root file system, mounted there once more: jobs will fill the root disk",
            mount_point.display()
        );
    }
    let device = device_of(mount);
    let also_mounted_on = mounts
        .iter()
        .filter(|other| other.mount_point != mount_point)
        .filter(|other| device.is_some() && device_of(other) == device)
        .map(|other| other.mount_point.clone())
        .collect();
    let label = device.and_then(|_| match signature::read(&mount.source).content {
        Content::Filesystem { label, .. } => label,
        _ => None,
    });
    staged(directory, mount, label, true, also_mounted_on)
}

/// Mounts an accepted device on the mount point. After an error nothing of this run's is
/// mounted, and directories that were made for the mount point are gone again.
pub fn mount(accepted: &Accepted, config: &Staging) -> Result<Staged, MountError> {
    let mount_point = mount_table::real_path(config.mount_point.as_path());
    let what = format!(
        "cannot mount {} ({}) on {}",
        accepted.node().display(),
        accepted.filesystem(),
        mount_point.display()
    );
    let made = mount_point::prepare(&mount_point)
        .with_context(|| what.clone())
        .map_err(MountError::MountPoint)?;
    let staged = match mount_with_any_driver(accepted, &mount_point, config) {
        Ok(()) => verify(accepted, &mount_point)
            .map_err(|error| take_back(accepted, &mount_point, error))
            .context(what)
            .map_err(MountError::Device),
        Err(Refused::Device(error)) => Err(MountError::Device(error.context(what))),
        Err(Refused::Changed(how)) => Err(MountError::Changed(anyhow!("{what}: {how}"))),
    };
    match &staged {
        Ok(_) => {
            for place in accepted.mounted_on() {
                warn!(
                    "{} is also mounted on {}; it is mounted on {} as well",
                    accepted.node().display(),
                    place.display(),
                    mount_point.display()
                );
            }
        }
        Err(_) => made.remove(),
    }
    staged
}

/// Why there is no mount.
enum Refused {
    Device(anyhow::Error),
    /// Whatever it was accepted on does not hold any more; in words.
    Changed(String),
}

fn mount_with_any_driver(
    accepted: &Accepted,
    mount_point: &Path,
    config: &Staging,
) -> Result<(), Refused> {
    let (flags, data) = flags_and_data(&config.options);
    for filesystem in drivers(accepted.filesystem()) {
        let mount = || {
            see_that_nothing_is_on(mount_point)?;
            see_that_it_is_free(accepted)?;
            MountedBySys::builder()
                .fstype(filesystem)
                .flags(flags)
                .data(&data)
                .mount(accepted.node(), mount_point)?;
            Ok(())
        };
        match when_free(accepted, mount, config.wait) {
            Err(Tried::Changed(how)) => return Err(Refused::Changed(how)),
            Ok(()) => {
                debug!(
                    "mounted {} with the {filesystem} driver",
                    accepted.node().display()
                );
                return Ok(());
            }
            Err(Tried::Failed(e)) if e.raw_os_error() == Some(Errno::ENODEV as i32) => continue,
            Err(Tried::Failed(e)) => {
                let said = in_words(&e);
                return Err(Refused::Device(match hint(&e, accepted) {
                    Some(hint) => anyhow!("{said}; {hint}"),
                    None => anyhow!("{said}"),
                }));
            }
        }
    }
    Err(Refused::Device(anyhow!(
        "this kernel has no driver for {} (see /proc/filesystems)",
        accepted.filesystem()
    )))
}

enum Tried {
    Failed(io::Error),
    Changed(String),
}

impl From<io::Error> for Tried {
    fn from(error: io::Error) -> Self {
        Tried::Failed(error)
    }
}

/// However short `staging.wait` is: two boots that look at a disk at once get into each
/// other's way for a moment.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Tries again when the device is not busy any more. systemd checks the disk of a line in
/// fstab, and cloud-init makes a file system on it, while this runs, and both open it
/// exclusively. What they made of it is judged anew, and not before they are done.
fn when_free(
    accepted: &Accepted,
    mount: impl Fn() -> Result<(), Tried>,
    wait: Duration,
) -> Result<(), Tried> {
    let start = Instant::now();
    let is_over = || start.elapsed() >= wait.max(LEAST_PATIENCE);
    loop {
        match mount() {
            Err(Tried::Failed(e)) if is_busy(&e) && !is_over() => sleep(RETRY),
            tried => return tried,
        }
        while !is_over() && see_that_it_is_free(accepted).is_err_and(|e| is_busy(&e)) {
            sleep(RETRY);
        }
        let content = signature::read(accepted.node()).content;
        if content != accepted.content() {
            return Err(Tried::Changed(format!(
                "while it was in use by something else it became {content}"
            )));
        }
    }
}

/// Looking at disks may take long, and somebody else may have mounted something meanwhile:
/// a line in fstab, an automounter, another boot.
fn see_that_nothing_is_on(mount_point: &Path) -> Result<(), Tried> {
    let mounts = mount_table::read().map_err(io::Error::other)?;
    match mount_table::on(&mounts, mount_point) {
        None => Ok(()),
        Some(mount) => Err(Tried::Changed(format!(
            "meanwhile {} was mounted there",
            mount.source.display()
        ))),
    }
}

/// Nobody has it but, where a label says that it is the one, a mount that is in the
/// mount table. One in another mount namespace, or below an overlay, is not.
fn see_that_it_is_free(accepted: &Accepted) -> io::Result<()> {
    match signature::claim(accepted.node(), accepted.number()) {
        Err(e) if is_busy(&e) && accepted.found_by() == FoundBy::Label && is_in_table(accepted) => {
            Ok(())
        }
        claimed => claimed.map(drop),
    }
}

fn is_in_table(accepted: &Accepted) -> bool {
    mount_table::read().is_ok_and(|mounts| {
        mounts
            .iter()
            .any(|mount| device_of(mount) == Some(accepted.number()))
    })
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EBUSY as i32)
}

/// ext2 and ext3 are mounted by the ext4 driver where the kernel has none of their own
/// (since Linux 2.6.29, and it need not have those names: CONFIG_EXT4_USE_FOR_EXT2).
fn drivers(filesystem: &str) -> Vec<&str> {
    match filesystem {
        "ext2" | "ext3" => vec![filesystem, "ext4"],
        other => vec![other],
    }
}

/// musl has no words for EUCLEAN, which is what the kernel says of a damaged file system.
fn in_words(error: &io::Error) -> String {
    const EUCLEAN: i32 = Errno::EUCLEAN as i32;
    match error.raw_os_error() {
        Some(EUCLEAN) => format!("{} (os error {EUCLEAN})", Errno::EUCLEAN.desc()),
        _ => error.to_string(),
    }
}

fn hint(error: &io::Error, accepted: &Accepted) -> Option<String> {
    let hint = match Errno::from_raw(error.raw_os_error()?) {
        Errno::EUCLEAN => "run fsck on it",
        // A checksum in its superblock (EFSBADCRC of ext4 and xfs).
        Errno::EBADMSG => "it is damaged: see dmesg, run fsck on it",
        Errno::EINVAL => {
            "its superblock or one of staging.options is not what the kernel expects: see dmesg"
        }
        Errno::EBUSY => match accepted.mounted_on() {
            [] => "something else has it in use, or it is mounted with other options",
            places => {
                let places: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
                return Some(format!(
                    "it is mounted on {}, with other options",
                    places.join(", ")
                ));
            }
        },
        Errno::EIO => "the disk cannot be read: see dmesg",
        Errno::EROFS | Errno::EACCES => "it is read-only",
        Errno::ENOENT if accepted.filesystem() == "btrfs" => {
            "it is one of several devices, and the kernel does not know the others: run btrfs device scan"
        }
        _ => return None,
    };
    Some(hint.into())
}

/// Splits options as mount(8) does: those that are flags of mount(2), those that only
/// mount(8) and fstab(5) know, and the rest, which is the file system's.
fn flags_and_data(options: &[String]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    // What an option that only mount(8) knows stands for (mount(8), "user").
    let for_a_user = MountFlags::NOSUID | MountFlags::NODEV;
    for option in options {
        match option.as_str() {
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "suid" => flags -= MountFlags::NOSUID,
            "dev" => flags -= MountFlags::NODEV,
            "exec" => flags -= MountFlags::NOEXEC,
            "user" | "users" => flags |= for_a_user | MountFlags::NOEXEC,
            "owner" | "group" => flags |= for_a_user,
            "silent" => flags |= MountFlags::SILENT,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "mand" => flags |= MountFlags::MANDLOCK,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "norelatime" | "nostrictatime" | "diratime" | "nomand" | "nolazytime" | "nouser"
            | "nousers" | "noowner" | "nogroup" | "defaults" | "rw" | "async" | "atime"
            | "loud" | "auto" | "noauto" | "nofail" | "_netdev" => {}
            other
                if ["x-", "X-", "comment="]
                    .iter()
                    .any(|own| other.starts_with(own)) => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

/// Makes sure that the mount point now is the accepted device's file system, writable.
fn verify(accepted: &Accepted, mount_point: &Path) -> Result<Staged> {
    let mounts = mount_table::read()?;
    let Some(mount) = mount_table::on(&mounts, mount_point) else {
        bail!("mounted, but the mount table does not show it");
    };
    if block_number(&mount.source) != Some(accepted.number()) {
        bail!(
            "mounted, but the mount table shows {} there",
            mount.source.display()
        );
    }
    let directory = open_directory(mount_point)?;
    if is_hidden(&directory, mount, &mounts)? {
        bail!("mounted, but something else lies on top of it");
    }
    if is_read_only(mount) {
        bail!("it could only be mounted read-only: see dmesg, run fsck on it");
    }
    let label = accepted.label().map(String::from);
    staged(
        directory,
        mount,
        label,
        false,
        accepted.mounted_on().to_vec(),
    )
}

/// Whether what was opened by the mount point's path is not the root of this mount, since
/// another lies over it or over a directory above it.
fn is_hidden(directory: &OwnedFd, mount: &Mount, mounts: &[Mount]) -> Result<bool> {
    let device = block_number(&mount.source);
    // btrfs gives each subvolume a device number of its own.
    if device.is_some() && mount.filesystem != "btrfs" {
        if device != Some(device_number(directory)?) {
            return Ok(true);
        }
        let is_same = |other: &&Mount| block_number(&other.source) == device;
        if mounts.iter().filter(is_same).count() == 1 {
            return Ok(false);
        }
    }
    Ok(mount_table::is_mount_on(directory, &mount.mount_point) == Some(false))
}

fn is_read_only(mount: &Mount) -> bool {
    mount.options.split(',').any(|option| option == "ro")
}

/// Unmounts what this run mounted, and nothing that somebody else has mounted over it
/// since.
fn take_back(accepted: &Accepted, mount_point: &Path, error: anyhow::Error) -> anyhow::Error {
    let mounts = mount_table::read().unwrap_or_default();
    let is_ours = |mount: &Mount| block_number(&mount.source) == Some(accepted.number());
    match mount_table::on(&mounts, mount_point) {
        Some(mount) if !is_ours(mount) => error.context(format!(
            "{} was mounted over it at the same moment, and both are left as they are",
            mount.source.display()
        )),
        _ => match sys_mount::unmount(mount_point, UnmountFlags::empty()) {
            Ok(()) => error,
            Err(e) => error.context(format!(
                "it could not be unmounted from {} again ({e})",
                mount_point.display()
            )),
        },
    }
}

fn staged(
    directory: OwnedFd,
    mount: &Mount,
    label: Option<String>,
    already_mounted: bool,
    also_mounted_on: Vec<PathBuf>,
) -> Result<Staged> {
    let space = fstatvfs(&directory).context("cannot ask how large it is")?;
    Ok(Staged {
        directory,
        mount_point: mount.mount_point.clone(),
        device: mount.source.display().to_string(),
        filesystem: mount.filesystem.clone(),
        label,
        options: mount.options.clone(),
        size_bytes: space.blocks() as u64 * space.fragment_size() as u64,
        free_bytes: space.blocks_available() as u64 * space.fragment_size() as u64,
        already_mounted,
        also_mounted_on,
    })
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("cannot open {}", path.display()))
}

fn device_number(directory: &OwnedFd) -> Result<Number> {
    Ok(Number::from_raw(fstat(directory)?.st_dev))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_as_mount_does() {
        let options = [
            "nosuid",
            "nodev",
            "noatime",
            "x-systemd.device-timeout=5",
            "defaults",
            "data=writeback",
            "nobarrier",
        ];
        let (flags, data) = flags_and_data(&options.map(String::from));
        assert_eq!(
            flags,
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME
        );
        assert_eq!(data, "data=writeback,nobarrier");
    }

    #[test]
    fn the_last_of_two_options_holds_and_those_for_users_imply_others() {
        let flags = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            let (flags, data) = flags_and_data(&options);
            assert_eq!(data, "");
            flags
        };
        let (nosuid, nodev) = (MountFlags::NOSUID, MountFlags::NODEV);
        assert_eq!(flags(&["nosuid", "nodev", "suid"]), nodev);
        assert_eq!(flags(&["user"]), nosuid | nodev | MountFlags::NOEXEC);
        assert_eq!(flags(&["user", "exec"]), nosuid | nodev);
        assert_eq!(flags(&["owner", "X-mount.mkdir"]), nosuid | nodev);
        assert_eq!(flags(&["silent"]), MountFlags::SILENT);
    }
}
