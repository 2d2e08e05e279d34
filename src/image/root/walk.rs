//! Resolving a path inside a tree.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Where a path leads: a name in a directory that is open.
pub(super) struct Place {
    pub directory: OwnedFd,
    pub name: OsString,
    /// Without links, as the system has it.
    pub path: PathBuf,
}

/// What is done with a link that is the last component of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Follow,
    Keep,
}

/// What is done about directories on the way that are not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    IsAnError,
    IsMade,
}

/// A path that leads out of the tree, as an error.
#[derive(Debug)]
struct LeadsOut(PathBuf);

impl std::error::Error for LeadsOut {}

impl fmt::Display for LeadsOut {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} leads out of it", self.0.display())
    }
}

/// Whether an error is that of a path that leads out of the tree.
pub(crate) fn leads_out(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<LeadsOut>())
}

/// Where a path leads in the tree of this root directory. No place on the way is looked at before
/// `see_that_it_answers` has.
///
/// # Errors
///
/// A link that leads out or in a circle; those of fstatat(2), openat(2) and mkdirat(2); that a
/// file system on the way does not answer.
pub(super) fn place(
    root: BorrowedFd,
    path: &Path,
    last: Last,
    missing: Missing,
    see_that_it_answers: &dyn Fn(&Path) -> io::Result<()>,
) -> io::Result<Place> {
    let mut walk = Walk {
        root,
        below: Vec::new(),
    };
    // What is still to be walked, the next at the end.
    let mut ahead = Vec::new();
    push(&mut ahead, path);
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            if walk.below.pop().is_none() {
                return Err(io::Error::other(LeadsOut(path.into())));
            }
            continue;
        }
        see_that_it_answers(&walk.path().join(&name))?;
        let is_last = ahead.is_empty();
        // On the way, nearly all are directories.
        if !is_last && let Ok(directory) = open_directory(walk.here(), &name) {
            walk.below.push((name, directory));
            continue;
        }
        let kind = match look(walk.here(), &name) {
            Ok(stat) => SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT,
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            Err(_) if is_last => return walk.place(name),
            Err(e) if missing == Missing::IsAnError => return Err(e),
            Err(_) => {
                make_directory(walk.here(), &name)?;
                SFlag::S_IFDIR
            }
        };
        if kind == SFlag::S_IFLNK && !(is_last && last == Last::Keep) {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            let target = PathBuf::from(readlinkat(walk.here(), &*name)?);
            if target.is_absolute() {
                walk.below.clear();
            }
            push(&mut ahead, &target);
        } else if is_last {
            return walk.place(name);
        } else {
            let directory = open_directory(walk.here(), &name)?;
            walk.below.push((name, directory));
        }
    }
    // The path ends with a directory that is open already.
    walk.place(".".into())
}

/// The directories from the root on.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    below: Vec<(OsString, OwnedFd)>,
}

impl Walk<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        match self.below.last() {
            Some((_, directory)) => directory.as_fd(),
            None => self.root,
        }
    }

    fn path(&self) -> PathBuf {
        let names = self.below.iter().map(|(name, _)| name.as_os_str());
        [OsStr::new("/")].into_iter().chain(names).collect()
    }

    fn place(mut self, name: OsString) -> io::Result<Place> {
        let mut path = self.path();
        if name != "." {
            path.push(&name);
        }
        let directory = match self.below.pop() {
            Some((_, directory)) => directory,
            None => self.root.try_clone_to_owned()?,
        };
        Ok(Place {
            directory,
            name,
            path,
        })
    }
}

/// Puts the components of a path ahead of what is still to be walked.
fn push(ahead: &mut Vec<OsString>, path: &Path) {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    ahead.extend(names);
}

/// What a name in a directory is; a link is not followed.
pub(super) fn look(directory: impl AsFd, name: &OsStr) -> io::Result<FileStat> {
    Ok(fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

pub(super) fn open_directory(at: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// A directory for everybody to read, root's where root makes it.
fn make_directory(at: BorrowedFd, name: &OsStr) -> io::Result<()> {
    mkdirat(at, name, Mode::from_bits_truncate(0o755))?;
    let made = open_directory(at, name)?;
    give_to_root(&made)
}

/// What an unprivileged user makes is that user's.
pub(super) fn give_to_root(file: impl AsFd) -> io::Result<()> {
    match geteuid().is_root() {
        true => give_to(file, 0, 0),
        false => Ok(()),
    }
}

pub(super) fn give_to(file: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    Ok(fchown(
        file,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
    )?)
}
