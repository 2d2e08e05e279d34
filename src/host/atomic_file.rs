//! Writing a file so that a reader sees the old one or the new one, whole.
//!
//! The new one is written beside the old one, as `.NAME.new` (readers of `*.d` directories
//! skip what begins with a dot), and renamed. While it is written it is locked. So one that
//! a killed process left behind can be told from one that another process is writing: the
//! locks of a process end with it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{regular_file, wait};

/// How long another process may take to write the same file.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer files are not overwritten in place.
const LONGEST_OVERWRITTEN: usize = 64 << 10;

const RETRY: Duration = Duration::from_millis(2);

/// Replaces `path` by a file of this content and mode, and waits until it is on the disk.
///
/// # Errors
///
/// Those of writing it. What was there before is still there then.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    put(path, content, mode, Durability::Synced)
}

/// For what every boot writes anew: leaves a file alone that already has this content,
/// and does not wait for the disk. Says whether it wrote. What is there and is not a
/// regular file is somebody else's, and an error.
pub(crate) fn replace_if_changed(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "what is there is not a regular file, and is left alone",
            ));
        }
        _ => {}
    }
    match regular_file::read(path, content.len() as u64) {
        Ok(present) if present == content => {
            sweep(path);
            Ok(false)
        }
        _ => put(path, content, mode, Durability::Unsynced).map(|()| true),
    }
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
        .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
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
/// is nothing to write. What cannot be removed is in nobody's way.
pub(crate) fn sweep(path: &Path) {
    let _ = temporary_beside(path).and_then(|temporary| remove_leftover(&temporary));
}

/// Removes a file that may not be there. Says whether it was.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<bool> {
    sweep(path);
    unlink_if_there(path)
}

fn unlink_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[derive(Debug, Clone, Copy)]
enum Durability {
    /// It is on the disk before it takes the place of the old one.
    Synced,
    Unsynced,
}

fn put(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    remove_numbered_leftovers(path);
    let created = wait::until(PATIENCE, RETRY, || create(&temporary, mode).transpose());
    // Locked until it has taken its place or is gone again.
    let mut file = created.unwrap_or_else(|| Err(being_written()))?;
    let written =
        write(&mut file, content, mode, durability).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error being reported says more than a failure to tidy up would.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn being_written() -> io::Error {
    io::Error::new(
        ErrorKind::WouldBlock,
        format!("another process has been writing it for {PATIENCE:?}"),
    )
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

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    Ok(path.with_file_name(hidden))
}

/// The temporary file, new and locked. None while another process is at it, and where a
/// leftover was in the way: then it is to be tried again.
fn create(temporary: &Path, mode: u32) -> io::Result<Option<File>> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(temporary);
    match created {
        Ok(file) => {
            // Before it was locked, another process may have taken it for a leftover.
            let is_ours = is_free(&file) && is_at(&file, temporary)?;
            Ok(is_ours.then_some(file))
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            remove_leftover(temporary)?;
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Removes a temporary file that nobody is writing, and whatever else has its name.
fn remove_leftover(temporary: &Path) -> io::Result<()> {
    let opened = File::options()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
        .open(temporary);
    // Locked, it stays what has this name until it is removed: the lock ends with `opened`.
    match &opened {
        Ok(file) if file.metadata()?.is_file() => {
            if !is_free(file) || !is_at(file, temporary)? {
                return Ok(());
            }
        }
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) if is_link_or_socket(e) => {}
        Err(_) => return opened.map(drop),
    }
    let removed = unlink_if_there(temporary).map(drop);
    drop(opened);
    removed
}

fn is_link_or_socket(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ELOOP | Errno::ENXIO))
}

/// Whether nobody has it locked; from now on this process has. A file system without locks
/// is no reason to write nothing.
fn is_free(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Whether an open file is the one that a path leads to.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Version 0.1.0 had the number of its process in the name, and left such files behind when
/// it was killed.
fn remove_numbered_leftovers(path: &Path) {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let process_of = |file: &[u8]| {
        let number = file.strip_prefix(b".")?.strip_prefix(name.as_bytes())?;
        let number = number.strip_prefix(b".")?.strip_suffix(b".new")?;
        let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
        i32::try_from(number).ok().map(Pid::from_raw)
    };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let process = process_of(entry.file_name().as_bytes());
        let is_left = |process| process == Pid::this() || kill(process, None) == Err(Errno::ESRCH);
        if process.is_some_and(is_left) {
            // It is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
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
        symlink(&victim, temporary_beside(&directory.join("f")).unwrap()).unwrap();
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
        let being_written = create(&temporary, 0o644).unwrap().unwrap();
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
