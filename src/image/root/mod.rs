//! The directory tree of a system, which need not be the one that runs.
//!
//! Every path is resolved inside of it, component by component and by descriptor, as the
//! system itself would resolve it: a link may be absolute (`/etc/init.d` → `/etc/rc.d/init.d`)
//! and stays inside. One that climbs out by `..` is refused, though the kernel would stop it
//! at the root: it was not made for this tree. Nothing that is no regular file is ever opened,
//! so that a named pipe or a device cannot hold anybody.

mod remove_tree;
mod walk;
mod write;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag};

pub(crate) use walk::leads_out;
use walk::{Last, Missing, Place};

use crate::host::regular_file::MIB;
use crate::host::silent;
use crate::order::sort_by;
pub(crate) use write::{Attributes, Change, TEMPORARY};

/// A system's root directory, opened. Paths are given as the system has them: `/etc/fstab`.
pub(crate) struct Root {
    directory: OwnedFd,
    /// As it was given, for people.
    path: PathBuf,
    /// As the mount table has it.
    real: PathBuf,
}

/// What is said of a place that did not answer, and what to do about it.
pub(crate) const SILENT: &str = "does not answer, and what this system has there was not looked at";
pub(crate) const SILENT_CURE: &str = "unmount it (umount -l), or have it answer";

/// What a name in the tree stands for.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub kind: Kind,
    /// The permissions: `0o755`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// In bytes; of a link, its text's.
    pub size: u64,
    /// The device number of its file system, and its number there.
    pub inode: (u64, u64),
    /// Hard links lead to it.
    pub has_other_names: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    /// A device, a named pipe, a socket.
    Other,
}

impl Root {
    /// Opens the root directory of a system. The machine's own root has to be meant: only `/`
    /// as it is written leads there, not a link or a bind mount.
    ///
    /// # Errors
    ///
    /// That it cannot be opened, or does not look like one.
    pub(crate) fn open(path: &Path) -> Result<Root> {
        let shown = path.display();
        let answers = absolute(path).and_then(|path| silent::see_that_the_way_answers(&path));
        answers
            .with_context(|| format!("cannot open {shown} as the root directory of an image"))?;
        // A named pipe is none, and holds nobody.
        let directory = File::options()
            .read(true)
            .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NONBLOCK).bits())
            .open(path)
            .with_context(|| format!("cannot open {shown} as the root directory of an image"))?;
        let there = directory.metadata()?;
        let own = fs::metadata("/").context("cannot look at /")?;
        let is_own = (there.dev(), there.ino()) == (own.dev(), own.ino());
        let root = Root {
            directory: directory.into(),
            path: path.into(),
            real: fs::canonicalize(path).unwrap_or_else(|_| path.into()),
        };
        if is_own && !root.is_own() {
            bail!(
                "{shown} leads to the root directory of this machine; if that is meant, say --root /"
            );
        }
        for needed in ["/etc", "/usr"] {
            match root.entry(needed.as_ref()) {
                Ok(Some(entry)) if entry.kind == Kind::Directory => {}
                Err(e) if leads_out(&e) => {
                    bail!(
                        "{shown} cannot be used as the root directory of an image: {e}, by a link"
                    )
                }
                Err(e) if e.kind() == ErrorKind::TimedOut => {
                    bail!("{shown} cannot be used as the root directory of an image: {e}")
                }
                _ => bail!("{shown} is not the root directory of a system: it has no {needed}"),
            }
        }
        Ok(root)
    }

    /// Where it is, as it was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was given as `/`: the system that this program sees.
    pub(crate) fn is_own(&self) -> bool {
        self.path.as_os_str() == "/"
    }

    /// Where a path of the tree is, as the mount table has it, no link followed.
    pub(crate) fn real(&self, path: &Path) -> PathBuf {
        self.real.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where in it somebody did not answer, as the mount table has it.
    pub(crate) fn silent_places(&self) -> Vec<PathBuf> {
        let mut places = silent::places();
        places.retain(|place| place.starts_with(&self.real));
        places
    }

    /// Keeps every other `install`, `uninstall` and `seal` out of this tree while this lives.
    /// The lock is the root directory's own, so that nothing is left behind.
    ///
    /// # Errors
    ///
    /// That another has it.
    pub(crate) fn lock(&self) -> Result<()> {
        // The lock stays with what was opened, not with this copy of the descriptor.
        match File::from(self.directory.try_clone()?).try_lock() {
            Err(TryLockError::WouldBlock) => bail!(
                "another vmstage is at work in {}: wait for its end",
                self.path.display()
            ),
            // A file system without locks is no reason to do nothing.
            _ => Ok(()),
        }
    }

    /// What is at a path, links followed; None where there is nothing.
    ///
    /// # Errors
    ///
    /// A link that leads out ([`leads_out`]) or in a circle, and those of fstatat(2).
    pub(crate) fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        if_there(self.look(path, Last::Follow))
    }

    /// Likewise, of a link itself where the path's last component is one.
    ///
    /// # Errors
    ///
    /// Those of [`Root::entry`].
    pub(crate) fn entry_itself(&self, path: &Path) -> io::Result<Option<Entry>> {
        if_there(self.look(path, Last::Keep))
    }

    /// Whether links lead from a path to something of this kind.
    pub(crate) fn is(&self, kind: Kind, path: impl AsRef<Path>) -> bool {
        let entry = self.entry(path.as_ref()).ok().flatten();
        entry.is_some_and(|entry| entry.kind == kind)
    }

    /// Whether links lead from a path to a file that root can run.
    pub(crate) fn is_executable(&self, path: impl AsRef<Path>) -> bool {
        let entry = self.entry(path.as_ref()).ok().flatten();
        entry.is_some_and(|entry| entry.kind == Kind::File && entry.mode & 0o111 != 0)
    }

    /// The text of a file; empty where there is none that can be read, of a MiB at most.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> String {
        let content = self.read(path.as_ref(), MIB).ok().flatten();
        String::from_utf8_lossy(&content.unwrap_or_default()).into_owned()
    }

    /// The path without links; that of where a link leads also where nothing is there.
    ///
    /// # Errors
    ///
    /// Those of [`Root::entry`], and that a directory on the way is missing.
    pub(crate) fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        let find = || self.place(path, Last::Follow, Missing::IsAnError);
        self.first(path, &mut || drop(find()))?;
        find().map(|place| place.path)
    }

    /// The text of a link; None where there is no link.
    ///
    /// # Errors
    ///
    /// Those of [`Root::entry`] and of readlinkat(2).
    pub(crate) fn link_text(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let Some(Kind::Link) = self.entry_itself(path)?.map(|entry| entry.kind) else {
            return Ok(None);
        };
        // The kernel has read all of the way for that already.
        let place = self.place(path, Last::Keep, Missing::IsAnError)?;
        Ok(Some(readlinkat(&place.directory, &*place.name)?.into()))
    }

    /// The whole of a regular file of at most so many bytes; None where there is none.
    ///
    /// # Errors
    ///
    /// That it is something else than a regular file, or larger; those of [`Root::entry`] and
    /// of read(2).
    pub(crate) fn read(&self, path: &Path, at_most: u64) -> io::Result<Option<Vec<u8>>> {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let Some(file) = self.open_now(path)? else {
                return Ok(None);
            };
            let mut content = Vec::new();
            file.take(at_most.saturating_add(1))
                .read_to_end(&mut content)?;
            Ok(Some(content))
        };
        self.first(path, &mut || drop(read()))?;
        let Some(content) = read()? else {
            return Ok(None);
        };
        match content.len() as u64 > at_most {
            true => Err(io::Error::new(
                ErrorKind::FileTooLarge,
                format!("it is larger than {at_most} bytes"),
            )),
            false => Ok(Some(content)),
        }
    }

    /// A regular file, opened for reading; None where there is none.
    ///
    /// # Errors
    ///
    /// Those of [`Root::read`].
    pub(crate) fn open_file(&self, path: &Path) -> io::Result<Option<File>> {
        let begin = &mut [0; 4096];
        self.first(path, &mut || {
            if let Ok(Some(mut file)) = self.open_now(path) {
                let _ = file.read(begin);
            }
        })?;
        self.open_now(path)
    }

    fn open_now(&self, path: &Path) -> io::Result<Option<File>> {
        let Some(place) = if_there(self.place(path, Last::Follow, Missing::IsAnError))? else {
            return Ok(None);
        };
        match if_there(place.entry())? {
            None => return Ok(None),
            Some(entry) if entry.kind != Kind::File => return Err(not_regular()),
            Some(_) => {}
        }
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = File::from(openat(
            &place.directory,
            &*place.name,
            flags,
            Mode::empty(),
        )?);
        // It may have been replaced in between.
        match file.metadata()?.is_file() {
            true => Ok(Some(file)),
            false => Err(not_regular()),
        }
    }

    /// The names in a directory, sorted; none where it is not there.
    ///
    /// # Errors
    ///
    /// That it is no directory, and those of [`Root::entry`] and of getdents(2).
    pub(crate) fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let list = || -> io::Result<Vec<OsString>> {
            let place = self.place(path, Last::Follow, Missing::IsAnError)?;
            names_in(walk::open_directory(&place.directory, &place.name)?)
        };
        self.first(path, &mut || drop(list()))?;
        let mut names = if_there(list())?.unwrap_or_default();
        sort_by(&mut names, OsString::cmp);
        Ok(names)
    }

    fn place(&self, path: &Path, last: Last, missing: Missing) -> io::Result<Place> {
        let answers = |path: &Path| self.see_that_it_answers(path);
        walk::place(self.directory.as_fd(), path, last, missing, &answers)
    }

    /// Whether the file system answers that a path is on, of which no link is followed.
    fn see_that_it_answers(&self, path: &Path) -> io::Result<()> {
        silent::see_that_its_mount_answers(&self.real(path))
    }

    fn look(&self, path: &Path, last: Last) -> io::Result<Entry> {
        let look = || self.place(path, last, Missing::IsAnError)?.entry();
        self.first(path, &mut || drop(look()))?;
        look()
    }

    /// Does what looks at a path in a child first, where that may hang.
    ///
    /// # Errors
    ///
    /// That the file system does not answer that it is on.
    pub(crate) fn first(&self, path: &Path, look: &mut dyn FnMut()) -> io::Result<()> {
        let mount_point = silent::mount_that_may_hang(&self.real(path));
        let mut work = || {
            look();
            Ok(true)
        };
        let done = mount_point.map(|place| self.in_child(&place, silent::LIMIT, &mut work));
        done.transpose().map(drop)
    }

    fn in_child(
        &self,
        place: &Path,
        limit: Duration,
        work: &mut dyn FnMut() -> io::Result<bool>,
    ) -> io::Result<bool> {
        silent::in_child(place, limit, &[self.directory.as_fd()], work)
    }
}

impl Place {
    fn entry(&self) -> io::Result<Entry> {
        Ok(Entry::of(walk::look(&self.directory, &self.name)?))
    }
}

impl Entry {
    fn of(stat: FileStat) -> Entry {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        Entry {
            kind: match kind {
                SFlag::S_IFREG => Kind::File,
                SFlag::S_IFDIR => Kind::Directory,
                SFlag::S_IFLNK => Kind::Link,
                _ => Kind::Other,
            },
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            inode: (stat.st_dev, stat.st_ino),
            has_other_names: stat.st_nlink > 1,
        }
    }
}

/// In no order.
fn names_in(directory: OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(directory)?.iter() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_os_string();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// None for what is not there, and for what would be below something that is no directory.
fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) if e.raw_os_error() == Some(Errno::ENOTDIR as i32) => Ok(None),
        Err(e) => Err(e),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        "what is there is not a regular file",
    )
}

#[cfg(test)]
mod tests;
