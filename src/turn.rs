//! One boot at a time.

use std::fs::{File, TryLockError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::boot::Failure;
use crate::{atomic_file, status};

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
pub fn wait(for_disks: Duration) -> Result<Option<File>, Failure> {
    let path = status::runtime_directory().join("boot.lock");
    let Ok(lock) = atomic_file::lock_file(&path) else {
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
