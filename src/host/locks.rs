//! Locks between processes of this program.

use std::ffi::CString;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use log::warn;
use nix::fcntl::{OFlag, openat};
use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
use nix::sys::stat::Mode;

use super::checked_path::{self, Missing};
use super::{Host, silent, wait};
use crate::failure::Failure;

const TURN_RETRY: Duration = Duration::from_millis(100);

/// Waits for the end of an earlier boot: two at once, one started by init and one by hand,
/// would mount twice. The turn lasts until the file is closed. Where there is no place for
/// the lock there is no turn to wait for either.
///
/// # Errors
///
/// That the other boot takes longer than `patience`.
pub(crate) fn wait_for_boot(host: &Host, patience: Duration) -> Result<Option<File>, Failure> {
    let path = host.runtime_directory().join("boot.lock");
    let lock = match lock_file(&path) {
        Ok(lock) => lock,
        Err(e) => {
            warn!(
                "there is no lock against a second vmstage boot ({}: {e})",
                path.display()
            );
            return Ok(None);
        }
    };
    match wait::until(patience, TURN_RETRY, || try_lock(&lock)) {
        Some(_) => Ok(Some(lock)),
        None => Err(Failure::Other(anyhow!(
            "another vmstage boot is at it for {patience:?} already and holds {}",
            path.display()
        ))),
    }
}

/// Shared by the boots that are not over: one without the turn still asks when the machine must
/// be gone, and tells that. To be taken while it has the turn.
pub(crate) fn share_boot(host: &Host) -> Option<File> {
    let lock = lock_file(&of_all_boots(host)).ok()?;
    lock.try_lock_shared().is_ok().then_some(lock)
}

fn of_all_boots(host: &Host) -> PathBuf {
    host.runtime_directory().join("boots.lock")
}

/// Waits until no boot is under way. None begins until this is dropped.
///
/// # Errors
///
/// That one is, still.
pub(crate) fn wait_for_all_boots(host: &Host, patience: Duration) -> Result<NoBoot, Failure> {
    let turn = wait_for_boot(host, patience)?;
    let path = of_all_boots(host);
    if turn.is_some()
        && let Ok(lock) = lock_file(&path)
        && wait::until(patience, TURN_RETRY, || try_lock(&lock)).is_none()
    {
        return Err(Failure::Other(anyhow!(
            "vmstage boot still asks when this machine must be gone, after {patience:?}, and holds {}",
            path.display()
        )));
    }
    Ok(NoBoot { _turn: turn })
}

/// For as long as no boot is to begin.
pub(crate) struct NoBoot {
    _turn: Option<File>,
}

/// A file to hold a lock on, made with its directory. Only for root: whoever can open it
/// can hold the lock.
///
/// # Errors
///
/// That it can be neither made nor opened.
pub(crate) fn lock_file(path: &Path) -> io::Result<File> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = checked_path::open_own(directory, Missing::IsMade)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    let harmless = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let name = CString::new(name.as_bytes())?;
    let opened = openat(&directory, name.as_c_str(), flags | harmless, mode);
    let file = File::from(opened?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("what is there is not a regular file")),
    }
}

/// A lock that another process may hold, where its file is there.
///
/// # Errors
///
/// That it is not, or that it cannot be opened.
pub(crate) fn existing(path: &Path) -> io::Result<File> {
    silent::see_that_the_way_answers(path)?;
    let flags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    File::options().read(true).custom_flags(flags).open(path)
}

/// How long a lock is waited for. It is held for milliseconds; a process that was stopped
/// meanwhile must not stop everybody.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Waits for a lock, which is held until the file is closed. None where there is no place
/// for it, or where somebody has not let it go for five seconds: files are replaced whole
/// all the same.
pub(crate) fn lock(path: &Path) -> Option<File> {
    wait_for(lock_file(path).ok()?)
}

fn wait_for(lock: File) -> Option<File> {
    let locked = wait::until(LOCK_PATIENCE, LOCK_RETRY, || try_lock(&lock))?;
    locked.is_ok().then_some(lock)
}

/// None while somebody else has it.
fn try_lock(lock: &File) -> Option<io::Result<()>> {
    match lock.try_lock() {
        Ok(()) => Some(Ok(())),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(e)) => Some(Err(e)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::unistd::mkfifo;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn no_boot_is_under_way_where_none_has_its_turn_or_asks() {
        let tree = Tree::new(&[("run/", "")]);
        let host = tree.host();
        // What another test starts has a copy of each lock until it runs its own program.
        let copies_are_gone = Duration::from_secs(1);
        let none = || wait_for_all_boots(&host, copies_are_gone).map_err(|e| e.to_string());
        let turn = || wait_for_boot(&host, LOCK_PATIENCE).unwrap();
        let first = turn();
        assert!(none().is_err_and(|e| e.contains("another vmstage boot is at it")));
        let shared = [share_boot(&host), share_boot(&host)];
        drop(first);
        // Another may take its turn meanwhile.
        drop(turn());
        assert!(none().is_err_and(|e| e.contains("vmstage boot still asks")));
        drop(shared);
        let no_boot = none().unwrap();
        assert!(wait_for_boot(&host, Duration::ZERO).is_err());
        drop(no_boot);
        turn();
    }

    #[test]
    fn a_pipe_or_a_link_in_the_place_of_a_lock_is_none_and_holds_nobody() {
        let tree = Tree::new(&[("run/", "")]);
        let directory = tree.host().runtime_directory();
        fs::create_dir(&directory).unwrap();
        let (pipe, link) = (directory.join("boot.lock"), directory.join("status.lock"));
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        symlink("victim", &link).unwrap();
        assert!(lock(&pipe).is_none());
        assert!(lock(&link).is_none());
        assert!(!directory.join("victim").exists());
        let turn = wait_for_boot(&tree.host(), Duration::ZERO);
        assert!(turn.unwrap().is_none());
    }
}
