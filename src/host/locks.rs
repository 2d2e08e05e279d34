//! Locks between processes of this program.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::Host;
use crate::failure::Failure;

/// How long an earlier boot may take, beside the time for which it waits for a disk to
/// come and then to be free: a disk that hangs must not hang the next boot.
const TURN: Duration = Duration::from_secs(60);

/// Waits for the end of an earlier boot: two at once, one started by init and one by hand,
/// would mount twice. The turn lasts until the file is closed. Where there is no place for
/// the lock there is no turn to wait for either.
///
/// # Errors
///
/// That the other boot takes longer than it may, given `staging.wait`.
pub fn wait_for_boot(host: &Host, for_disks: Duration) -> Result<Option<File>, Failure> {
    let path = host.runtime_directory().join("boot.lock");
    let Ok(lock) = lock_file(&path) else {
        return Ok(None);
    };
    let patience = TURN + 2 * for_disks;
    let start = Instant::now();
    while let Err(TryLockError::WouldBlock) = lock.try_lock() {
        if start.elapsed() >= patience {
            return Err(Failure::Other(anyhow!(
                "another vmstage boot is at it for {patience:?} already and holds {}",
                path.display()
            )));
        }
        sleep(Duration::from_millis(100));
    }
    Ok(Some(lock))
}

/// A file to hold a lock on, made with its directory. Only for root: whoever can open it
/// can hold the lock.
pub fn lock_file(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// How long a lock is waited for. It is held for milliseconds; a process that was stopped
/// meanwhile must not stop everybody.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Waits for a lock, which is held until the file is closed. None where there is no place
/// for it, or where somebody has not let it go for five seconds: files are replaced whole
/// all the same.
pub fn lock(path: &Path) -> Option<File> {
    let lock = lock_file(path).ok()?;
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Some(lock),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => sleep(LOCK_RETRY),
            Err(_) => return None,
        }
    }
}
