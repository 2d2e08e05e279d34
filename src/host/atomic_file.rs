//! Writing a file so that a reader sees the old one or the new one, whole.
//!
//! The new one is written beside the old one, as `.NAME.new` (readers of `*.d` directories
//! skip what begins with a dot), and renamed. While it is written it is locked. So one that
//! a killed process left behind can be told from one that another process is writing: the
//! locks of a process end with it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::libc;
use nix::sys::signal::kill;
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use super::{checked_path, silent, wait};
use crate::clock;

/// How long another process may take to write the same file.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer files are not overwritten in place.
const LONGEST_OVERWRITTEN: usize = 64 << 10;

const RETRY: Duration = Duration::from_millis(2);

/// Replaces `path` by a file of this content and mode, and waits until it is on the disk.
///
/// # Errors
///
/// Those of writing it, also where the way to it is not safe ([`checked_path`]). What was
/// there before is still there then.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    beside(path, &mut |place| {
        place.put(content, mode, Durability::Synced).map(|()| true)
    })
    .map(drop)
}

/// Replaces a file as [`replace`] does, with the directories on the way to it.
///
/// # Errors
///
/// Those of making them, and of [`replace`].
pub(crate) fn replace_with_directories(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new(""));
    silent::guarded(directory, &mut || {
        fs::create_dir_all(directory)?;
        replace(path, content, mode).map(|()| true)
    })
    .map(drop)
}

/// For what every boot writes anew: leaves a file alone that already has this content,
/// and does not wait for the disk. Says whether it wrote. What is there and is not a
/// regular file is somebody else's, and an error.
///
/// # Errors
///
/// That it cannot be written, or is no regular file.
pub(crate) fn replace_if_changed(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    put_if_changed(path, content, mode, None, Durability::Unsynced)
}

/// Likewise, and waits until it is on the disk.
///
/// # Errors
///
/// Likewise.
pub(crate) fn replace_if_changed_for_good(
    path: &Path,
    content: &[u8],
    mode: u32,
) -> io::Result<bool> {
    put_if_changed(path, content, mode, None, Durability::Synced)
}

/// Likewise, for a reader who goes by the file's time: one of this age is written anew.
///
/// # Errors
///
/// Likewise.
pub(crate) fn replace_if_changed_or_older(
    path: &Path,
    content: &[u8],
    mode: u32,
    age: Option<Duration>,
) -> io::Result<bool> {
    put_if_changed(path, content, mode, age, Durability::Unsynced)
}

fn put_if_changed(
    path: &Path,
    content: &[u8],
    mode: u32,
    age: Option<Duration>,
    durability: Durability,
) -> io::Result<bool> {
    beside(path, &mut |place| {
        let there = place.there()?;
        if there.as_ref().is_some_and(|there| !is_regular(there)) {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "what is there is not a regular file, and is left alone",
            ));
        }
        let present = place.read(content.len() as u64).ok().flatten();
        let is_old = there.zip(age).is_some_and(|(there, age)| {
            // A file of the future is from before the clock was set.
            clock::wall().abs_diff(there.st_mtime.unsigned_abs()) >= age.as_secs()
        });
        if present.as_deref() == Some(content) && !is_old {
            place.sweep();
            return Ok(false);
        }
        place.put(content, mode, durability).map(|()| true)
    })
}

/// Overwrites a file in place, where there is no room for another one. Blanks fill it up to its
/// length, so that it is written in one go.
///
/// # Errors
///
/// That it is not there, or too short.
pub(crate) fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let there = file.metadata()?;
    let length = usize::try_from(there.len()).unwrap_or(usize::MAX);
    if !there.is_file() || !(content.len()..=LONGEST_OVERWRITTEN).contains(&length) {
        return Err(ErrorKind::StorageFull.into());
    }
    let mut padded = content.to_vec();
    padded.resize(length, b' ');
    file.write_all(&padded)
}

/// Removes what a killed process left behind when it was writing this file. For where there
/// is nothing to write, in a directory of the system's. What cannot be removed is in nobody's
/// way.
pub(crate) fn sweep(path: &Path) {
    let temporary = path
        .file_name()
        .map(|name| path.with_file_name(temporary(name)));
    // Nearly always there is nothing, and the way is gone for nothing.
    if temporary.is_some_and(|temporary| is_missing(&temporary)) {
        return;
    }
    let _ = beside(path, &mut |place| {
        place.sweep();
        Ok(true)
    });
}

/// Whether there is certainly none, in a directory of the system's. Where that is not known in
/// time it may be there.
pub(crate) fn is_missing(path: &Path) -> bool {
    let is_missing = |e: io::Error| e.kind() == ErrorKind::NotFound;
    let directory = path.parent().unwrap_or(Path::new(""));
    let look = &mut || Ok(fs::symlink_metadata(path).is_err_and(is_missing));
    silent::guarded(directory, look).unwrap_or(false)
}

/// Removes a file that is most often not there from a directory of the system's, with what
/// [`sweep`] removes. Says whether it was there.
///
/// # Errors
///
/// Those of unlink(2), but that there is none.
pub(crate) fn remove_if_ever_there(path: &Path) -> io::Result<bool> {
    match is_missing(path) {
        true => {
            sweep(path);
            Ok(false)
        }
        false => remove_if_there(path),
    }
}

/// Removes a file that may not be there. Says whether it was.
///
/// # Errors
///
/// Those of unlink(2), but that there is none.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<bool> {
    let removed = beside(path, &mut |place| {
        place.sweep();
        place.remove(place.name)
    });
    match removed {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed,
    }
}

/// Removes a regular file whose content is one that is meant. Says whether it did.
///
/// # Errors
///
/// That it is not there (`NotFound`), or cannot be read or removed.
pub(crate) fn remove_if(path: &Path, is_meant: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
    beside(path, &mut |place| {
        place.sweep();
        match place.read(LARGEST)? {
            Some(content) if is_meant(&content) => place.remove(place.name),
            _ => Ok(false),
        }
    })
}

/// A larger file was not written by this program.
const LARGEST: u64 = 1 << 20;

#[derive(Debug, Clone, Copy)]
enum Durability {
    /// It is on the disk before it takes the place of the old one, and has taken that there too
    /// when this is over.
    Synced,
    Unsynced,
}

/// A file to be written, in a directory that is open.
struct Place<'a> {
    directory: BorrowedFd<'a>,
    name: &'a CStr,
    temporary: &'a CStr,
}

/// The name under which a file of this name is written.
fn temporary(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    temporary
}

fn beside(path: &Path, work: &mut dyn FnMut(&Place) -> io::Result<bool>) -> io::Result<bool> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let temporary = CString::new(temporary(name).as_bytes())?;
    let name = CString::new(name.as_bytes())?;
    let directory = path.parent().unwrap_or(Path::new(""));
    checked_path::within(directory, &mut |directory| {
        work(&Place {
            directory,
            name: &name,
            temporary: &temporary,
        })
    })
}

const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

const CREATE: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_CLOEXEC);

impl Place<'_> {
    fn open(&self, name: &CStr, flags: OFlag, mode: u32) -> nix::Result<File> {
        let mode = Mode::from_bits_truncate(mode);
        openat(self.directory, name, flags, mode).map(File::from)
    }

    /// What has this name, if anything has.
    fn stat(&self, name: &CStr) -> io::Result<Option<FileStat>> {
        match fstatat(self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) => Ok(Some(there)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn there(&self) -> io::Result<Option<FileStat>> {
        self.stat(self.name)
    }

    /// What is in it; None where it is no regular file, or a larger one.
    fn read(&self, at_most: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(self.name, READ, 0) {
            Ok(file) => file,
            Err(Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut content = Vec::new();
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        file.take(at_most + 1).read_to_end(&mut content)?;
        Ok((content.len() as u64 <= at_most).then_some(content))
    }

    /// Says whether it was there.
    fn remove(&self, name: &CStr) -> io::Result<bool> {
        match unlinkat(self.directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn put(&self, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
        self.remove_numbered_leftovers();
        let created = wait::until(PATIENCE, RETRY, || self.create(mode).transpose());
        // Locked until it has taken its place or is gone again.
        let mut file = created.unwrap_or_else(|| Err(being_written()))?;
        let written = write(&mut file, content, mode, durability).and_then(|()| {
            let directory = self.directory;
            renameat(directory, self.temporary, directory, self.name)?;
            match durability {
                Durability::Synced => sync_directory(directory),
                Durability::Unsynced => Ok(()),
            }
        });
        if written.is_err() {
            // The error being reported says more than a failure to tidy up would.
            let _ = self.remove(self.temporary);
        }
        written
    }

    /// The temporary file, new and locked. None while another process is at it, and where a
    /// leftover was in the way: then it is to be tried again.
    fn create(&self, mode: u32) -> io::Result<Option<File>> {
        match self.open(self.temporary, CREATE, mode) {
            Ok(file) => {
                // Before it was locked, another process may have taken it for a leftover.
                let is_ours = is_free(&file) && self.is_temporary(&file)?;
                Ok(is_ours.then_some(file))
            }
            Err(Errno::EEXIST) => {
                self.remove_leftover()?;
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn sweep(&self) {
        let _ = self.remove_leftover();
    }

    /// Removes a temporary file that nobody is writing, and whatever else has its name.
    fn remove_leftover(&self) -> io::Result<()> {
        let opened = self.open(self.temporary, READ, 0);
        // Locked, it stays what has this name until it is removed: the lock ends with
        // `opened`.
        match &opened {
            Ok(file) if file.metadata()?.is_file() => {
                if !is_free(file) || !self.is_temporary(file)? {
                    return Ok(());
                }
            }
            Ok(_) => {}
            Err(Errno::ENOENT) => return Ok(()),
            // A link or a socket.
            Err(Errno::ELOOP | Errno::ENXIO) => {}
            Err(e) => return Err((*e).into()),
        }
        let removed = self.remove(self.temporary).map(drop);
        drop(opened);
        removed
    }

    /// Whether an open file is the one that has the temporary name.
    fn is_temporary(&self, file: &File) -> io::Result<bool> {
        let open = file.metadata()?;
        let there = self.stat(self.temporary)?;
        Ok(there.is_some_and(|there| (there.st_dev, there.st_ino) == (open.dev(), open.ino())))
    }

    /// Version 0.1.0 had the number of its process in the name, and left such files behind
    /// when it was killed.
    fn remove_numbered_leftovers(&self) {
        let process_of = |file: &[u8]| {
            let number = file
                .strip_prefix(b".")?
                .strip_prefix(self.name.to_bytes())?;
            let number = number.strip_prefix(b".")?.strip_suffix(b".new")?;
            let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
            i32::try_from(number).ok().map(Pid::from_raw)
        };
        let Ok(mut listing) = Dir::openat(self.directory, c".", READ, Mode::empty()) else {
            return;
        };
        for entry in listing.iter().flatten() {
            let name = entry.file_name();
            let is_left =
                |process| process == Pid::this() || kill(process, None) == Err(Errno::ESRCH);
            if process_of(name.to_bytes()).is_some_and(is_left) {
                // It is in nobody's way.
                let _ = self.remove(name);
            }
        }
    }
}

fn is_regular(there: &FileStat) -> bool {
    there.st_mode & libc::S_IFMT == libc::S_IFREG
}

fn being_written() -> io::Error {
    io::Error::new(
        ErrorKind::WouldBlock,
        format!("another process has been writing it for {PATIENCE:?}"),
    )
}

/// After a rename the disk may still have the old file for seconds. Not every file system does
/// this for a directory.
fn sync_directory(directory: BorrowedFd) -> io::Result<()> {
    let directory = File::from(directory.try_clone_to_owned()?);
    match directory.sync_all() {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        synced => synced,
    }
}

fn write(file: &mut File, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    // The mode given to open is cut by the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    match durability {
        Durability::Synced => file.sync_all(),
        Durability::Unsynced => Ok(()),
    }
}

/// Whether nobody has it locked; from now on this process has. A file system without locks
/// is no reason to write nothing.
fn is_free(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::thread;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn a_replaced_file_has_the_content_and_mode_and_nothing_lies_beside_it() {
        let tree = Tree::new(&[]);
        let directory = tree.root();
        let file = directory.join("status.json");
        replace(&file, b"one", 0o600).unwrap();
        replace(&file, b"two", 0o644).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o7777,
            0o644
        );
        assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
    }

    #[test]
    fn a_link_laid_at_the_temporary_name_is_not_written_through() {
        let tree = Tree::new(&[]);
        let directory = tree.root();
        let victim = directory.join("victim");
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, directory.join(".f.new")).unwrap();
        replace(&directory.join("f"), b"new", 0o644).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
    }

    #[test]
    fn a_link_or_a_directory_in_the_way_is_an_error_and_stays() {
        let tree = Tree::new(&[]);
        let directory = tree.root();
        let (victim, link, folder) = (
            directory.join("victim"),
            directory.join("link"),
            directory.join("folder"),
        );
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, &link).unwrap();
        fs::create_dir(&folder).unwrap();
        for path in [&link, &folder] {
            replace_if_changed(path, b"new", 0o644).unwrap_err();
        }
        assert_eq!(fs::read_link(&link).unwrap(), victim);
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        assert_eq!(fs::read_dir(directory).unwrap().count(), 3);
    }

    #[test]
    fn an_unchanged_file_is_left_alone() {
        let tree = Tree::new(&[]);
        let directory = tree.root();
        let file = directory.join("f");
        assert!(replace_if_changed(&file, b"same", 0o644).unwrap());
        assert!(!replace_if_changed(&file, b"same", 0o644).unwrap());
        assert!(replace_if_changed(&file, b"other", 0o644).unwrap());
    }

    #[test]
    fn what_a_killed_process_left_behind_is_gone_after_the_next_write() {
        let tree = Tree::new(&[(".f.new", "half a fi"), (".f.4194304.new", "of 0.1.0")]);
        replace(&tree.root().join("f"), b"whole", 0o644).unwrap();
        assert_eq!(tree.names(""), ["f"]);
        assert_eq!(tree.text("f"), "whole");
    }

    #[test]
    fn and_also_where_the_file_does_not_change() {
        let tree = Tree::new(&[("f", "same"), (".f.new", "half a fi")]);
        assert!(!replace_if_changed(&tree.root().join("f"), b"same", 0o644).unwrap());
        assert_eq!(tree.names(""), ["f"]);
    }

    #[test]
    fn and_also_where_the_file_is_to_go() {
        let tree = Tree::new(&[(".f.new", "half a fi"), ("g", ""), (".g.new", "half a fi")]);
        assert!(!remove_if_there(&tree.root().join("f")).unwrap());
        assert!(remove_if_there(&tree.root().join("g")).unwrap());
        assert_eq!(tree.names(""), [""; 0]);
    }

    #[test]
    fn what_another_process_is_writing_is_waited_for_and_never_removed() {
        let tree = Tree::new(&[("f", "old")]);
        let (file, temporary) = (tree.root().join("f"), tree.root().join(".f.new"));
        let being_written = File::create_new(&temporary).unwrap();
        being_written.lock().unwrap();
        assert!(!replace_if_changed(&file, b"old", 0o644).unwrap());
        assert!(temporary.exists());
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            fs::rename(&temporary, temporary.with_file_name("f")).unwrap();
            drop(being_written);
        });
        replace(&file, b"new", 0o644).unwrap();
        other.join().unwrap();
        assert_eq!(tree.text("f"), "new");
        assert_eq!(tree.names(""), ["f"]);
    }

    #[test]
    fn two_that_write_one_file_at_once_both_succeed_and_leave_nothing_behind() {
        let tree = Tree::new(&[]);
        let file = tree.root().join("f");
        thread::scope(|scope| {
            for content in [b"one", b"two"] {
                let file = &file;
                scope.spawn(move || {
                    for _ in 0..200 {
                        replace_if_changed(file, content, 0o644).unwrap();
                        fs::remove_file(file).ok();
                    }
                });
            }
        });
        replace(&file, b"end", 0o644).unwrap();
        assert_eq!(tree.names(""), ["f"]);
    }

    #[test]
    fn a_pipe_at_the_temporary_name_holds_nobody() {
        let tree = Tree::new(&[("f", "same")]);
        let (file, temporary) = (tree.root().join("f"), tree.root().join(".f.new"));
        for content in [b"same", b"else"] {
            mkfifo(&temporary, Mode::S_IRWXU).unwrap();
            replace_if_changed(&file, content, 0o644).unwrap();
            assert_eq!(tree.names(""), ["f"]);
        }
    }
}
