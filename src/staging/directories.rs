//! From staged to ready: the directories, relative to the staged file system.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use log::{info, warn};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, mkdirat, stat};
use nix::unistd::{Gid, Group, Uid, User, fchown};

use super::mount::Staged;
use crate::config::{Account, Directory};

/// The scratch disk is staged and every directory is in place. Only [`create`] makes one.
#[derive(Debug)]
pub struct Ready(());

/// What became of one directory.
#[derive(Debug)]
pub struct Created {
    pub path: PathBuf,
    pub error: Option<anyhow::Error>,
}

/// Makes each directory on the staged file system, with owner and mode, whether or not
/// it was there before. One that fails does not keep the others from being made; with
/// all in place the machine is [`Ready`].
pub fn create(staged: &Staged, directories: &[Directory]) -> (Vec<Created>, Option<Ready>) {
    let created: Vec<Created> = directories
        .iter()
        .map(|directory| {
            let path = staged.mount_point().join(directory.path.as_path());
            let error = create_one(staged, directory)
                .with_context(|| format!("cannot make {} as asked", path.display()))
                .inspect(|()| info!("{} is in place", path.display()))
                .err();
            Created { path, error }
        })
        .collect();
    let ready = created
        .iter()
        .all(|one| one.error.is_none())
        .then_some(Ready(()));
    (created, ready)
}

fn create_one(staged: &Staged, directory: &Directory) -> Result<()> {
    // Before anything is made: a directory of the wrong owner would be worse than none.
    let owner = directory
        .owner
        .as_ref()
        .map_or(Ok(Uid::from_raw(0)), user)?;
    let group = directory
        .group
        .as_ref()
        .map_or(Ok(Gid::from_raw(0)), self::group)?;

    let mut open: Option<OwnedFd> = None;
    let mut parent_path = staged.mount_point().to_path_buf();
    for name in directory.path.as_path() {
        let parent = open.as_ref().map_or(staged.directory(), AsFd::as_fd);
        see_that_one_can_enter(parent, &parent_path, owner, group)?;
        let within = open_or_make(&parent, name)?;
        open = Some(within);
        parent_path.push(name);
    }
    let open = open.context("its path is empty")?;
    set_owner_and_mode(
        &open,
        owner,
        group,
        Mode::from_bits_truncate(directory.mode.bits()),
    )
}

/// A directory on a used disk, its root too, may be somebody's own. Owner and mode of
/// those on the way are not this program's to change.
fn see_that_one_can_enter(
    directory: BorrowedFd,
    path: &Path,
    owner: Uid,
    group: Gid,
) -> Result<()> {
    let there = fstat(directory)?;
    let execute = if owner.as_raw() == there.st_uid {
        0o100
    } else if group.as_raw() == there.st_gid {
        0o010
    } else {
        0o001
    };
    if !owner.is_root() && there.st_mode & execute == 0 {
        bail!(
            "its owner cannot enter {}, which is the user {}'s with mode {:04o}; chmod it",
            path.display(),
            there.st_uid,
            there.st_mode & 0o7777
        );
    }
    Ok(())
}

/// Opens a directory, making it if it is not there, and following no link.
fn open_or_make(parent: &impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    // Nobody gets in before owner and mode are set.
    let made = match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(e) => return Err(e.into()),
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open = openat(parent, name, flags, Mode::empty())
        .map_err(|error| in_the_way(parent, name, error))?;
    let device = fstat(&open)?.st_dev;
    if device != fstat(parent)?.st_dev && device == stat("/")?.st_dev {
        bail!(
            "a part of the root file system is mounted on {}; it is left alone, unmount it",
            Path::new(name).display()
        );
    }
    if made {
        fchmod(&open, Mode::from_bits_truncate(0o755))?;
    }
    Ok(open)
}

/// Why a directory could not be opened: what there is instead.
fn in_the_way(parent: &impl AsFd, name: &OsStr, error: Errno) -> anyhow::Error {
    let what = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFLNK => "a symbolic link",
            SFlag::S_IFREG => "a file",
            SFlag::S_IFDIR => return error.into(),
            _ => "not a directory",
        },
        Err(_) => return error.into(),
    };
    anyhow!(
        "{} is {what}; it is left alone, remove it",
        Path::new(name).display()
    )
}

/// Sets what differs, so that a second boot leaves no trace. The mode comes last:
/// chown(2) clears some of its bits.
fn set_owner_and_mode(open: &OwnedFd, owner: Uid, group: Gid, mode: Mode) -> Result<()> {
    let present = fstat(open)?;
    if (present.st_uid, present.st_gid) != (owner.as_raw(), group.as_raw()) {
        fchown(open, Some(owner), Some(group))
            .with_context(|| format!("cannot give it to {owner}:{group}"))?;
    }
    if fstat(open)?.st_mode & 0o7777 != mode.bits() {
        fchmod(open, mode).context("cannot set its mode")?;
    }
    if fstat(open)?.st_mode & 0o7777 != mode.bits() {
        bail!("this file system does not keep its mode");
    }
    Ok(())
}

fn user(account: &Account) -> Result<Uid> {
    match account {
        Account::Number(number) => Ok(Uid::from_raw(*number)),
        Account::Name(name) => match User::from_name(name) {
            Ok(Some(user)) => Ok(user.uid),
            Ok(None) => bail!(
                "there is no user {name} in /etc/passwd; create it, or set the directory's owner"
            ),
            Err(e) => Err(e).with_context(|| format!("cannot look up the user {name}")),
        },
    }
}

fn group(account: &Account) -> Result<Gid> {
    match account {
        Account::Number(number) => Ok(Gid::from_raw(*number)),
        Account::Name(name) => match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid),
            Ok(None) => bail!(
                "there is no group {name} in /etc/group; create it, or set the directory's group"
            ),
            Err(e) => Err(e).with_context(|| format!("cannot look up the group {name}")),
        },
    }
}

/// Says each failure, one line each.
pub fn warn_of_failures(created: &[Created]) {
    for error in created.iter().filter_map(|one| one.error.as_ref()) {
        warn!("{error:#}");
    }
}
