//! Removing a directory with all that is in it, however deep it is and however long its names
//! are: from directory to directory, with two of them open at a time.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::walk::{Last, Missing, look, open_directory};
use super::write::{Change, is_in_use};
use super::{Entry, Kind, Root, if_there, names_in};

/// A directory on the way down.
struct Level {
    name: OsString,
    /// What is still to be removed in the one that it is in, and which that is.
    rest: Vec<OsString>,
    above: (u64, u64),
}

impl Root {
    /// Removes a file, a link, or a directory with all that is in it. Links are removed, and not
    /// followed; what is mounted in it stays. What cannot be removed keeps nothing else from it.
    ///
    /// # Errors
    ///
    /// In a sentence: of the first that cannot be removed; that it is the whole tree.
    pub(crate) fn remove_tree(&self, path: &Path) -> Result<Change> {
        let mut first = None;
        let removed = self.change(path, &mut || {
            let mut failed = |inner: &Path, error: io::Error| {
                first.get_or_insert_with(|| (path.join(inner), error));
            };
            let change = self.try_remove_tree(path, &mut failed)?;
            // For whom has no more than this of a child.
            match &first {
                Some((path, e)) => Err(io::Error::other(format!("{}: {e}", path.display()))),
                None => Ok(change),
            }
        });
        match first {
            Some((path, error)) => Err(error).with_context(|| self.cannot("remove", &path)),
            None => removed.with_context(|| self.cannot("remove", path)),
        }
    }

    fn try_remove_tree(
        &self,
        path: &Path,
        failed: &mut impl FnMut(&Path, io::Error),
    ) -> io::Result<Change> {
        let Some(place) = if_there(self.place(path, Last::Keep, Missing::IsAnError))? else {
            return Ok(Change::None);
        };
        if place.name == "." {
            return Err(io::Error::other("it is the whole system"));
        }
        let Some(stat) = if_there(look(&place.directory, &place.name))? else {
            return Ok(Change::None);
        };
        if Entry::of(stat).kind != Kind::Directory {
            unlinkat(&place.directory, &*place.name, UnlinkatFlags::NoRemoveDir)?;
            return Ok(Change::Done);
        }
        let device = stat.st_dev;
        let above = fstat(&place.directory)?;
        if device != above.st_dev {
            return Ok(Change::None);
        }
        let mut here = open_directory(&place.directory, &place.name)?;
        let mut names = names_in(open_directory(&here, OsStr::new("."))?)?;
        let mut levels = vec![Level {
            name: place.name.clone(),
            rest: Vec::new(),
            above: (above.st_dev, above.st_ino),
        }];
        loop {
            // Relative to what is removed.
            let inner = |levels: &[Level], name: &OsStr| -> PathBuf {
                let way = levels[1..].iter().map(|level| level.name.as_os_str());
                way.chain([name]).collect()
            };
            if let Some(name) = names.pop() {
                let inside = place.path.join(inner(&levels, &name));
                let answers = self.see_that_it_answers(&inside);
                match answers.and_then(|()| enter(&here, &name, device)) {
                    Ok(None) => {}
                    Ok(Some((down, below))) => {
                        let above = fstat(&here)?;
                        levels.push(Level {
                            name,
                            rest: std::mem::replace(&mut names, below),
                            above: (above.st_dev, above.st_ino),
                        });
                        here = down;
                    }
                    Err(e) => failed(&inner(&levels, &name), e),
                }
                continue;
            }
            let Some(level) = levels.pop() else {
                return Ok(Change::Done);
            };
            let up = open_directory(&here, OsStr::new(".."))?;
            let stat = fstat(&up)?;
            if (stat.st_dev, stat.st_ino) != level.above {
                return Err(io::Error::other("it was moved meanwhile"));
            }
            match unlinkat(&up, &*level.name, UnlinkatFlags::RemoveDir).map_err(io::Error::from) {
                Err(e) if !is_in_use(&e) && e.kind() != io::ErrorKind::NotFound => {
                    let path = match levels.is_empty() {
                        true => PathBuf::new(),
                        false => inner(&levels, &level.name),
                    };
                    failed(&path, e);
                }
                _ => {}
            }
            (here, names) = (up, level.rest);
            if levels.is_empty() {
                return Ok(Change::Done);
            }
        }
    }
}

/// Removes a name in a directory. A directory of the same file system is opened instead, with the
/// names in it.
fn enter(
    directory: &OwnedFd,
    name: &OsStr,
    device: u64,
) -> io::Result<Option<(OwnedFd, Vec<OsString>)>> {
    let Some(stat) = if_there(look(directory, name))? else {
        return Ok(None);
    };
    if Entry::of(stat).kind != Kind::Directory {
        return match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e.into()),
        };
    }
    if stat.st_dev != device {
        return Ok(None);
    }
    let down = open_directory(directory, name)?;
    let names = names_in(open_directory(&down, OsStr::new("."))?)?;
    Ok(Some((down, names)))
}
