//! From an accepted device to a staged one: mount, and verify that it is mounted.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use log::{debug, info, warn};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::fstatvfs;
use sys_mount::{Mount as MountedBySys, MountFlags, UnmountFlags};

use super::mounts::{self, Mount};
use super::mtab;
use crate::config::Staging;
use crate::disk::choose::{Accepted, FoundBy};
use crate::disk::inventory::{Number, block_number};
use crate::disk::observe::kind_in_words;
use crate::disk::signature::{self, Content};

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

/// What is mounted on the mount point already, whoever mounted it.
pub fn find_staged(mount_point: &Path) -> Result<Option<Staged>> {
    let mount_point = mounts::real_path(mount_point);
    let mounts = mounts::read()?;
    let Some(mount) = mounts::on(&mounts, &mount_point) else {
        return Ok(None);
    };
    let directory = open_directory(&mount_point)?;
    let device = block_number(&mount.source);
    if is_hidden(&directory, mount, &mounts)? {
        bail!(
            "{} is mounted on {}, but something else lies over it",
            mount.source.display(),
            mount_point.display()
        );
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
    let also_mounted_on = mounts
        .iter()
        .filter(|other| other.mount_point != mount_point)
        .filter(|other| device.is_some() && block_number(&other.source) == device)
        .map(|other| other.mount_point.clone())
        .collect();
    let label = device.and_then(|_| match signature::read(&mount.source).content {
        Content::Filesystem { label, .. } => label,
        _ => None,
    });
    let staged = staged(directory, mount, label, true, also_mounted_on)?;
    if device.is_some() {
        mtab::record(&staged);
    }
    Ok(Some(staged))
}

/// Mounts an accepted device on the mount point. After an error nothing is mounted,
/// and directories that were made for the mount point are gone again.
pub fn mount(accepted: &Accepted, config: &Staging) -> Result<Staged, MountError> {
    let mount_point = mounts::real_path(config.mount_point.as_path());
    let what = format!(
        "cannot mount {} ({}) on {}",
        accepted.node().display(),
        accepted.filesystem(),
        mount_point.display()
    );
    let made = prepare(&mount_point)
        .with_context(|| what.clone())
        .map_err(MountError::MountPoint)?;
    let staged = match mount_with_any_driver(accepted, &mount_point, config) {
        Ok(mounted) => verify(accepted, &mount_point)
            .inspect_err(|_| match mounted {
                By::Us => unmount_again(&mount_point),
                By::SomebodyElse => {}
            })
            .context(what)
            .map_err(MountError::Device),
        Err(Refused::Device(error)) => Err(MountError::Device(error.context(what))),
        Err(Refused::Changed(content)) => Err(MountError::Changed(anyhow!(
            "{what}: while it was in use by something else it became {content}"
        ))),
    };
    match &staged {
        Ok(staged) => {
            mtab::record(staged);
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

/// The directories that had to be made for the mount point, outermost first.
struct Made(Vec<PathBuf>);

impl Made {
    fn remove(self) {
        for directory in self.0.iter().rev() {
            if let Err(e) = fs::remove_dir(directory) {
                warn!("cannot remove {} again: {e}", directory.display());
            }
        }
    }
}

/// Whether something is in the way where the mount point is to be.
pub fn check_mount_point(mount_point: &Path) -> Result<()> {
    match fs::symlink_metadata(mounts::real_path(mount_point)) {
        Ok(metadata) if !metadata.is_dir() => bail!(
            "the mount point is {}, not a directory; remove it or set staging.mount_point",
            kind_in_words(metadata.file_type())
        ),
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).context("the mount point cannot be looked at")
        }
        _ => Ok(()),
    }
}

/// Sees to it that the mount point is a directory.
fn prepare(mount_point: &Path) -> Result<Made> {
    check_mount_point(mount_point)?;
    match fs::symlink_metadata(mount_point) {
        Ok(_) => {
            let hidden = fs::read_dir(mount_point)?.count();
            if hidden > 0 {
                warn!(
                    "{} is not empty: mounting over it hides {hidden} entries of the file system below",
                    mount_point.display()
                );
            }
            Ok(Made(Vec::new()))
        }
        Err(_) => make_all(mount_point),
    }
}

fn make_all(mount_point: &Path) -> Result<Made> {
    let missing: Vec<&Path> = mount_point
        .ancestors()
        .take_while(|directory| !directory.exists())
        .collect();
    let mut made = Made(Vec::new());
    for directory in missing.into_iter().rev() {
        if let Err(e) = fs::create_dir(directory) {
            made.remove();
            return Err(e).with_context(|| format!("cannot make {}", directory.display()));
        }
        made.0.push(directory.to_path_buf());
    }
    Ok(made)
}

/// Who mounted the device on the mount point.
enum By {
    Us,
    SomebodyElse,
}

/// Why there is no mount.
enum Refused {
    Device(anyhow::Error),
    Changed(Content),
}

fn mount_with_any_driver(
    accepted: &Accepted,
    mount_point: &Path,
    config: &Staging,
) -> Result<By, Refused> {
    let (flags, data) = flags_and_data(&config.options);
    for filesystem in drivers(accepted.filesystem()) {
        let mount = || {
            let mounted = see_that_it_is_free(accepted).and_then(|()| {
                MountedBySys::builder()
                    .fstype(filesystem)
                    .flags(flags)
                    .data(&data)
                    .mount(accepted.node(), mount_point)
            });
            match mounted {
                // Somebody was quicker: a line in fstab for the same mount point.
                Err(e) if is_busy(&e) && is_mounted(accepted, mount_point) => Ok(By::SomebodyElse),
                mounted => mounted.map(|_| By::Us),
            }
        };
        match when_free(accepted, mount, config.wait) {
            Err(Tried::Changed(content)) => return Err(Refused::Changed(content)),
            Ok(by) => {
                debug!(
                    "mounted {} with the {filesystem} driver",
                    accepted.node().display()
                );
                return Ok(by);
            }
            Err(Tried::Failed(e)) if e.raw_os_error() == Some(Errno::ENODEV as i32) => continue,
            Err(Tried::Failed(e)) => {
                let said = in_words(&e);
                return Err(Refused::Device(match hint(&e) {
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
    Changed(Content),
}

/// Tries again while the device is busy. systemd checks the disk of a line in fstab, and
/// cloud-init makes a file system on it, while this runs, and both open it exclusively.
/// What either made of it has to be judged anew.
fn when_free(
    accepted: &Accepted,
    mount: impl Fn() -> io::Result<By>,
    patience: Duration,
) -> Result<By, Tried> {
    let start = Instant::now();
    loop {
        match mount() {
            Err(e) if is_busy(&e) && start.elapsed() < patience => sleep(RETRY),
            tried => return tried.map_err(Tried::Failed),
        }
        let content = signature::read(accepted.node()).content;
        if content != accepted.content() {
            return Err(Tried::Changed(content));
        }
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
    mounts::read().is_ok_and(|mounts| {
        mounts
            .iter()
            .any(|mount| block_number(&mount.source) == Some(accepted.number()))
    })
}

fn is_mounted(accepted: &Accepted, mount_point: &Path) -> bool {
    mounts::read().is_ok_and(|mounts| {
        mounts::on(&mounts, mount_point)
            .is_some_and(|mount| block_number(&mount.source) == Some(accepted.number()))
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

fn hint(error: &std::io::Error) -> Option<&'static str> {
    match Errno::from_raw(error.raw_os_error()?) {
        Errno::EUCLEAN => Some("run fsck on it"),
        Errno::EINVAL => Some(
            "its superblock or one of staging.options is not what the kernel expects: see dmesg",
        ),
        Errno::EBUSY => Some("something else has it in use, or it is mounted with other options"),
        Errno::EIO => Some("the disk cannot be read: see dmesg"),
        Errno::EROFS | Errno::EACCES => Some("it is read-only"),
        _ => None,
    }
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
    let mounts = mounts::read()?;
    let Some(mount) = mounts::on(&mounts, mount_point) else {
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
    Ok(mounts::is_mount_on(directory, &mount.mount_point) == Some(false))
}

fn is_read_only(mount: &Mount) -> bool {
    mount.options.split(',').any(|option| option == "ro")
}

/// Takes back what this run mounted.
fn unmount_again(mount_point: &Path) {
    if let Err(e) = sys_mount::unmount(mount_point, UnmountFlags::empty()) {
        warn!("cannot unmount {} again: {e}", mount_point.display());
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
    let staged = Staged {
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
    };
    let how = if already_mounted {
        "already mounted"
    } else {
        "mounted"
    };
    info!(
        "{} ({}) is {how} on {}",
        staged.device,
        staged.filesystem,
        staged.mount_point.display()
    );
    Ok(staged)
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
