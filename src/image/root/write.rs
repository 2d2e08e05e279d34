//! Changing a tree. A file is written aside and renamed: whoever reads sees the old one or
//! the new one, whole, and what was killed in the middle is done again by the next run.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, syncfs, unlinkat};

use super::walk::{Last, Missing, Place, give_to, give_to_root};
use super::{Kind, Root, if_there, not_regular};
use crate::host::kernel_calls::{copy_attributes, selinux_context, set_selinux_context};
use crate::host::silent;

/// The end of the name under which a file is written.
pub(crate) const TEMPORARY: &str = ".vmstage-new";

/// Writing one out may take its time, and so may removing very many.
const LONGEST: Duration = Duration::from_secs(600);

/// A file's name has 255 bytes at most.
const LONGEST_NAME: usize = 255 - 1 - TEMPORARY.len();

/// Whether there was anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Done,
    /// It was so already.
    None,
}

/// Mode and owner of a file that is written.
#[derive(Clone, Copy)]
pub(crate) enum Attributes {
    /// This mode; root's, where root writes it.
    Ours { mode: u32 },
    /// These, of somebody else.
    Theirs { mode: u32, owner: (u32, u32) },
    /// Those of the file that it replaces.
    AsBefore,
}

impl Root {
    /// Replaces a file, or makes it with the directories on the way. A link is followed, and
    /// stays.
    ///
    /// # Errors
    ///
    /// In a sentence: those of writing it; that something else than a regular file is there.
    pub(crate) fn write(&self, path: &Path, content: &[u8], as_: Attributes) -> Result<Change> {
        self.change(path, &mut || self.try_write(path, content, as_))
            .with_context(|| self.cannot("write", path))
    }

    /// Changes something at a path: in a child, where that may hang.
    pub(super) fn change(
        &self,
        path: &Path,
        work: &mut dyn FnMut() -> io::Result<Change>,
    ) -> io::Result<Change> {
        let Some(place) = silent::mount_that_may_hang(&self.real(path)) else {
            return work();
        };
        // That takes long only where nobody answers.
        self.entry_itself(path)?;
        let done = self.in_child(&place, LONGEST, &mut || Ok(work()? == Change::Done))?;
        Ok(match done {
            true => Change::Done,
            false => Change::None,
        })
    }

    fn try_write(&self, path: &Path, content: &[u8], as_: Attributes) -> io::Result<Change> {
        let place = self.place(path, Last::Follow, Missing::IsMade)?;
        let before = if_there(place.entry())?;
        let present = match before {
            Some(_) => self.read(&place.path, content.len() as u64),
            None => Ok(None),
        };
        let (mode, owner) = match (as_, before) {
            (_, Some(entry)) if entry.kind != Kind::File => return Err(not_regular()),
            (Attributes::AsBefore, Some(entry)) => (entry.mode, Some((entry.uid, entry.gid))),
            (Attributes::AsBefore, None) => return Err(Errno::ENOENT.into()),
            (Attributes::Ours { mode }, _) => (mode, None),
            (Attributes::Theirs { mode, owner }, _) => (mode, Some(owner)),
        };
        let label = self.selinux_label(&place.path);
        let has_mode = before.is_some_and(|entry| entry.mode == mode);
        if has_mode && present.is_ok_and(|present| present.as_deref() == Some(content)) {
            return Ok(Change::None);
        }
        place.put(|temporary| {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
            let private = Mode::from_bits_truncate(0o600);
            let file = openat(
                &place.directory,
                temporary,
                flags | OFlag::O_CLOEXEC,
                private,
            )?;
            match owner {
                // A file of another owner cannot be made by anybody but root.
                Some((uid, gid)) => give_to(&file, uid, gid)?,
                None => give_to_root(&file)?,
            }
            let mut file = File::from(file);
            file.write_all(content)?;
            // After the owner: chown(2) takes set-user-ID away, and capabilities.
            file.set_permissions(Permissions::from_mode(mode))?;
            if let (Attributes::AsBefore, Some(before)) = (as_, self.open_file(&place.path)?) {
                copy_attributes(before.as_fd(), file.as_fd())?;
            }
            if let Some(label) = &label {
                set_selinux_context(file.as_fd(), label)?;
            }
            file.sync_all()
        })?;
        Ok(Change::Done)
    }

    /// What SELinux calls a file that is there: another in its place is to be called so, too.
    fn selinux_label(&self, path: &Path) -> Option<String> {
        let file = self.open_file(path).ok().flatten()?;
        selinux_context(file.as_fd()).ok().flatten()
    }

    /// Makes a symbolic link, with the directories on the way. A link of that name is replaced;
    /// anything else is left alone.
    ///
    /// # Errors
    ///
    /// In a sentence.
    pub(crate) fn link(&self, path: &Path, text: &Path) -> Result<Change> {
        self.change(path, &mut || self.try_link(path, text))
            .with_context(|| self.cannot("make the link", path))
    }

    fn try_link(&self, path: &Path, text: &Path) -> io::Result<Change> {
        let place = self.place(path, Last::Keep, Missing::IsMade)?;
        match self.link_text(path)? {
            Some(present) if present == text => return Ok(Change::None),
            None if if_there(place.entry())?.is_some() => return Err(Errno::EEXIST.into()),
            _ => {}
        }
        place.put(|temporary| Ok(symlinkat(text, &place.directory, temporary)?))?;
        Ok(Change::Done)
    }

    /// Gives a regular file a second name; false where the file system knows none, or it is taken.
    pub(crate) fn name_twice(&self, path: &Path, second: &Path) -> bool {
        let named = self.change(second, &mut || {
            let [from, to] =
                [path, second].map(|path| self.place(path, Last::Keep, Missing::IsAnError));
            let (from, to) = (from?, to?);
            if from.entry()?.kind != Kind::File {
                return Ok(Change::None);
            }
            linkat(
                &from.directory,
                &*from.name,
                &to.directory,
                &*to.name,
                AtFlags::empty(),
            )?;
            Ok(Change::Done)
        });
        named.is_ok_and(|change| change == Change::Done)
    }

    /// Gives a file another name, in the place of what has it. All that is the file's stays: its
    /// times, its attributes, its names elsewhere.
    ///
    /// # Errors
    ///
    /// In a sentence.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<Change> {
        let mut renamed = || -> io::Result<Change> {
            let Some(old) = if_there(self.place(from, Last::Keep, Missing::IsAnError))? else {
                return Ok(Change::None);
            };
            let new = self.place(to, Last::Keep, Missing::IsAnError)?;
            match renameat(&old.directory, &*old.name, &new.directory, &*new.name) {
                // Two names of one file both stay (rename(2)).
                Ok(()) => {
                    old.unlink(&old.name, UnlinkatFlags::NoRemoveDir)?;
                    Ok(Change::Done)
                }
                Err(Errno::ENOENT) => Ok(Change::None),
                Err(e) => Err(e.into()),
            }
        };
        self.change(from, &mut renamed)
            .with_context(|| self.cannot("rename", from))
    }

    /// Sets the mode of a regular file, and its owner.
    ///
    /// # Errors
    ///
    /// In a sentence.
    pub(crate) fn set_mode(&self, path: &Path, mode: u32, owner: (u32, u32)) -> Result<()> {
        let mut set = || -> io::Result<Change> {
            if let Some(file) = self.open_file(path)? {
                give_to(&file, owner.0, owner.1)?;
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            Ok(Change::Done)
        };
        let set = self.change(path, &mut set);
        set.map(drop)
            .with_context(|| self.cannot("set the mode of", path))
    }

    /// Removes a file or a link, not what it leads to, and what a killed run left of it.
    ///
    /// # Errors
    ///
    /// In a sentence.
    pub(crate) fn remove(&self, path: &Path) -> Result<Change> {
        self.unlink(path, UnlinkatFlags::NoRemoveDir)
            .with_context(|| self.cannot("remove", path))
    }

    /// Removes a directory, if it is empty.
    ///
    /// # Errors
    ///
    /// In a sentence; not that there is something in it, or that a link is there instead.
    pub(crate) fn remove_empty(&self, path: &Path) -> Result<Change> {
        match self.unlink(path, UnlinkatFlags::RemoveDir) {
            Err(e) if is_in_use(&e) => Ok(Change::None),
            other => other.with_context(|| self.cannot("remove", path)),
        }
    }

    fn unlink(&self, path: &Path, what: UnlinkatFlags) -> io::Result<Change> {
        self.change(path, &mut || {
            let Some(place) = if_there(self.place(path, Last::Keep, Missing::IsAnError))? else {
                return Ok(Change::None);
            };
            place.unlink(&place.temporary(), UnlinkatFlags::NoRemoveDir)?;
            place.unlink(&place.name, what)
        })
    }

    /// Waits until all that was changed is on the disk.
    ///
    /// # Errors
    ///
    /// In a sentence.
    pub(crate) fn sync(&self) -> Result<()> {
        let all = Path::new("/");
        let synced = self.change(all, &mut || match syncfs(&self.directory) {
            // Before Linux 2.6.39. Each file has been synced by itself.
            Ok(()) | Err(Errno::ENOSYS) => Ok(Change::Done),
            Err(e) => Err(e.into()),
        });
        synced.map(drop).with_context(|| self.cannot("sync", all))
    }

    /// `cannot write /etc/fstab in /mnt/image`
    pub(crate) fn cannot(&self, what: &str, path: &Path) -> String {
        match self.is_own() {
            true => format!("cannot {what} {}", path.display()),
            false => format!(
                "cannot {what} {} in {}",
                path.display(),
                self.path().display()
            ),
        }
    }
}

impl Place {
    /// Has something made under another name, and puts it into this place.
    fn put(&self, make: impl FnOnce(&OsStr) -> io::Result<()>) -> io::Result<()> {
        let temporary = self.temporary();
        let remove = || self.unlink(&temporary, UnlinkatFlags::NoRemoveDir);
        // Of a run that was killed: there is no other at the same time (`Root::lock`).
        remove()?;
        let put = make(&temporary).and_then(|()| {
            Ok(renameat(
                &self.directory,
                &*temporary,
                &self.directory,
                &*self.name,
            )?)
        });
        if put.is_err() {
            // The error being reported says more than a failure to tidy up would.
            let _ = remove();
        }
        put
    }

    fn unlink(&self, name: &OsStr, what: UnlinkatFlags) -> io::Result<Change> {
        match unlinkat(&self.directory, name, what) {
            Ok(()) => Ok(Change::Done),
            Err(Errno::ENOENT) => Ok(Change::None),
            Err(e) => Err(e.into()),
        }
    }

    /// Of a name that leaves no room, its beginning stands for it.
    fn temporary(&self) -> OsString {
        let name = self.name.as_bytes();
        let mut hidden = OsString::from(".");
        hidden.push(OsStr::from_bytes(&name[..name.len().min(LONGEST_NAME)]));
        hidden.push(TEMPORARY);
        hidden
    }
}

pub(super) fn is_in_use(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR | Errno::EBUSY)
    )
}
