//! From staged to ready: the directories, relative to the staged file system.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use log::info;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, mkdirat, stat};
use nix::unistd::{Gid, Uid, fchown};
use serde::{Deserialize, Serialize};

use super::label::{self, Carried, Contexts, Found};
use super::mark::By;
use super::staged::Staged;
use crate::config::Directory;
use crate::disk::mark;
use crate::host::accounts::{Accounts, Database};
use crate::host::bounded::{self, Child, GaveUp, Limit, Task};
use crate::host::error_text::in_words;
use crate::host::{Host, namespace};
use crate::logging::Notices;

/// The scratch disk is staged and every directory is in place. Only [`create`] makes one.
#[derive(Debug)]
pub(crate) struct Ready(());

/// What became of one directory.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) path: PathBuf,
    pub(crate) error: Option<anyhow::Error>,
}

/// Makes each directory on the staged file system, with owner and mode, whether or not
/// it was there before. One that fails does not keep the others from being made; with
/// all in place the machine is [`Ready`]. The disk may hang: it is done in a child, in
/// `mounted` where that has the file system mounted as well.
pub(crate) fn create(
    host: &Host,
    staged: &Staged,
    directories: &[Directory],
    contexts: Option<&Contexts>,
    mounted: &mut Option<Child>,
    limit: Limit,
    notices: &Notices,
) -> (Vec<Created>, Option<Ready>) {
    // Before anything is made: a directory of the wrong owner would be worse than none.
    let mut accounts = Accounts::of(host);
    let owners = directories.iter();
    let owners: Vec<_> = owners.map(|one| owner_of(&mut accounts, one)).collect();
    let contexts = contexts.filter(|contexts| carries(contexts, staged, notices));
    let orders = directories.iter().zip(&owners).enumerate();
    let orders = orders.map(|(index, (directory, owner))| {
        let (owner, group) = *owner.as_ref().ok()?;
        Some(Order {
            path: directory.path.as_path().into(),
            owner,
            group,
            mode: directory.mode.bits(),
            context: contexts
                .and_then(|contexts| contexts.directories.get(index).cloned().flatten()),
        })
    });
    let order = MakeAll {
        by: By::this(host, None, staged.uuid()),
        mount_point: staged.mount_point().into(),
        context: contexts.and_then(|contexts| contexts.root.clone()),
        directories: orders.collect(),
    };
    let made = make_all(staged, &order, mounted, limit);
    let errors = match made {
        Ok(made) => {
            for warning in made.warnings {
                notices.warn(warning);
            }
            made.directories
        }
        Err(gave_up) => {
            let error = format!("the disk does not answer: {gave_up}");
            vec![Some(error); order.directories.len()]
        }
    };
    let all = directories.iter().zip(owners).zip(errors);
    let created: Vec<Created> = all
        .map(|((directory, owner), error)| {
            let path = staged.mount_point().join(directory.path.as_path());
            let error = owner.err().or(error.map(anyhow::Error::msg));
            let error = error
                .map(|error| error.context(format!("cannot make {} as asked", path.display())));
            if error.is_none() {
                info!("{} is in place", path.display());
            }
            Created { path, error }
        })
        .collect();
    let ready = created
        .iter()
        .all(|one| one.error.is_none())
        .then_some(Ready(()));
    (created, ready)
}

/// A directory to be made; nothing where its owner is not known.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    path: PathBuf,
    owner: u32,
    group: u32,
    mode: u32,
    /// SELinux's; none: its parent's.
    context: Option<String>,
}

/// The mark and the directories.
#[derive(Debug, Serialize, Deserialize)]
struct MakeAll {
    by: By,
    /// For the words of an error.
    mount_point: PathBuf,
    /// SELinux's, of the root directory; none where nothing is labelled.
    context: Option<String>,
    directories: Vec<Option<Order>>,
}

/// What went wrong.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    warnings: Vec<String>,
    directories: Vec<Option<String>>,
}

/// Makes all on the file system that the child has mounted.
struct Make;

impl Task for Make {
    type Order = MakeAll;
    type Outcome = Made;

    fn perform(order: MakeAll) -> Made {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match open(namespace::MOUNT_POINT, flags, Mode::empty()) {
            Ok(root) => make(root.as_fd(), &order),
            Err(e) => Made {
                warnings: Vec::new(),
                directories: vec![Some(e.to_string()); order.directories.len()],
            },
        }
    }
}

fn make_all(
    staged: &Staged,
    order: &MakeAll,
    mounted: &mut Option<Child>,
    limit: Limit,
) -> Result<Made, GaveUp> {
    let Some(mut child) = mounted.take() else {
        let root = staged.directory();
        return bounded::run(limit, &[root], || make(root, order));
    };
    let made = child.ask::<Make>(order, limit);
    match made {
        Ok(_) => *mounted = Some(child),
        Err(_) => drop(child.give_up()),
    }
    made
}

fn make(root: BorrowedFd, order: &MakeAll) -> Made {
    let mut making = Making {
        root,
        order,
        warnings: Vec::new(),
        has_failed_to_label: false,
    };
    making.label(
        root,
        order.context.as_deref(),
        None,
        Found::There,
        &order.mount_point,
    );
    if let Err(error) = super::mark::write(root, &order.by) {
        making.warnings.push(format!(
            "cannot write {} on {}: {}; without a label the next boot may not know it again",
            mark::NAME,
            order.mount_point.display(),
            in_words(&error)
        ));
    }
    let directories = order.directories.iter().map(|order| {
        let made = making.create_one(order.as_ref()?);
        made.err().map(|error| format!("{error:#}"))
    });
    Made {
        directories: directories.collect(),
        warnings: making.warnings,
    }
}

/// The numbers of a directory's owner and group.
fn owner_of<'a>(accounts: &mut Accounts<'a>, directory: &'a Directory) -> Result<(u32, u32)> {
    Ok((
        accounts.number(Database::Users, directory.owner.as_ref())?,
        accounts.number(Database::Groups, directory.group.as_ref())?,
    ))
}

struct Making<'a> {
    root: BorrowedFd<'a>,
    order: &'a MakeAll,
    warnings: Vec<String>,
    /// One is told of all whose context cannot be set.
    has_failed_to_label: bool,
}

impl Making<'_> {
    /// Sees to the SELinux context, where there is such a thing.
    fn label(
        &mut self,
        directory: BorrowedFd,
        wanted: Option<&str>,
        parent: Option<BorrowedFd>,
        found: Found,
        path: &Path,
    ) {
        if self.order.context.is_none() {
            return;
        }
        if let Err(error) = label::ensure(directory, wanted, parent, found)
            && !self.has_failed_to_label
        {
            self.has_failed_to_label = true;
            self.warnings.push(format!(
                "cannot set the SELinux context of {}: {error}",
                path.display()
            ));
        }
    }

    fn create_one(&mut self, order: &Order) -> Result<()> {
        let (owner, group) = (Uid::from_raw(order.owner), Gid::from_raw(order.group));
        let mut open: Option<OwnedFd> = None;
        let mut parent_path = self.order.mount_point.clone();
        let mut names = order.path.iter().peekable();
        while let Some(name) = names.next() {
            let parent = open.as_ref().map_or(self.root, AsFd::as_fd);
            see_that_one_can_enter(parent, &parent_path, owner, group)?;
            let (within, found) = open_or_make(&parent, name)?;
            parent_path.push(name);
            let wanted = order.context.as_deref().filter(|_| names.peek().is_none());
            self.label(within.as_fd(), wanted, Some(parent), found, &parent_path);
            // Nobody gets in before it has its label, and this is what tells that it has none yet.
            if found == Found::Made {
                fchmod(&within, Mode::from_bits_truncate(0o755))?;
            }
            open = Some(within);
        }
        let open = open.context("its path is empty")?;
        set_owner_and_mode(&open, owner, group, Mode::from_bits_truncate(order.mode))
    }
}

/// Whether there are labels to be set. A file system without any cannot be given one later.
fn carries(contexts: &Contexts, staged: &Staged, notices: &Notices) -> bool {
    let carried = contexts.carried_by(&staged.mount());
    if carried == Carried::No {
        notices.warn(format!(
            "{} carries no SELinux contexts and is mounted without the option context=: programs that SELinux confines cannot use it",
            staged.device()
        ));
    }
    carried == Carried::Each
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
fn open_or_make(parent: &impl AsFd, name: &OsStr) -> Result<(OwnedFd, Found)> {
    // Nobody gets in before owner and mode are set.
    let is_made = match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(e) => return Err(e.into()),
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open = openat(parent, name, flags, Mode::empty())
        .map_err(|error| in_the_way(parent, name, error))?;
    let there = fstat(&open)?;
    let device = there.st_dev;
    if device != fstat(parent)?.st_dev && device == stat("/")?.st_dev {
        bail!(
            "a part of the root file system is mounted on {}; it is left alone, unmount it",
            Path::new(name).display()
        );
    }
    let is_as_made = there.st_uid == 0 && there.st_mode & 0o7777 == Mode::S_IRWXU.bits();
    let found = match is_made {
        true => Found::Made,
        false if is_as_made => Found::Unfinished,
        false => Found::There,
    };
    Ok((open, found))
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
