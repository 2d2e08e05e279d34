//! `/etc/mtab`, where it is a file of its own: without its line there, `df` and
//! `umount` of an old system do not know of the mount.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use log::{debug, warn};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::host::block_device::block_number;
use crate::host::mount_table;
use crate::staging::mount::Staged;

const MTAB: &str = "/etc/mtab";
/// mount(8)'s lock file (lock_mtab in util-linux up to 2.18, glibc's MOUNTED_LOCK).
const LOCK: &str = "/etc/mtab~";
const PATIENCE: Duration = Duration::from_secs(3);

/// Adds the line that mount(8) would have written. That it cannot is a warning: the
/// mount itself stands.
pub fn record(staged: &Staged) {
    let is_a_file = fs::symlink_metadata(MTAB).is_ok_and(|metadata| metadata.is_file());
    if !is_a_file {
        debug!("{MTAB} is no file of its own; it needs no line");
        return;
    }
    if let Err(e) = add_line(staged) {
        warn!(
            "{e:#}; df and umount may not know of {}",
            staged.mount_point().display()
        );
    }
}

fn add_line(staged: &Staged) -> Result<()> {
    let _lock = Lock::take()?;
    let present = fs::read(MTAB).with_context(|| format!("cannot read {MTAB}"))?;
    let device = Path::new(staged.device());
    let lines = mount_table::parse(&present);
    // It may have been mounted under another of its names.
    let is_it = |source: &Path| source == device || block_number(source) == block_number(device);
    if mount_table::on(&lines, staged.mount_point()).is_some_and(|line| is_it(&line.source)) {
        return Ok(());
    }
    let mut line = Vec::new();
    if present.last().is_some_and(|byte| *byte != b'\n') {
        line.push(b'\n');
    }
    line.extend(mount_table::escape(device));
    line.push(b' ');
    line.extend(mount_table::escape(staged.mount_point()));
    line.extend(format!(" {} {} 0 0\n", staged.filesystem(), staged.options()).bytes());
    OpenOptions::new()
        .append(true)
        .open(MTAB)
        .and_then(|mut mtab| mtab.write_all(&line))
        .with_context(|| format!("cannot write to {MTAB}"))
}

/// The lock that mount(8) takes: whoever manages to link a file of its own to
/// `/etc/mtab~` has it, and holds a lock on that file for others to wait on.
struct Lock(File);

impl Lock {
    fn take() -> Result<Lock> {
        let own = PathBuf::from(format!("{LOCK}{}", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&own)
            .with_context(|| format!("cannot lock {MTAB}"))?;
        let linked = link_patiently(&own);
        let _ = fs::remove_file(&own);
        linked?;
        let lock = Lock(file);
        // For those who wait for the lock instead of polling for the link.
        let _ = fcntl(&lock.0, FcntlArg::F_SETLK(&whole_file_lock()));
        Ok(lock)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(LOCK);
    }
}

fn link_patiently(own: &Path) -> Result<()> {
    let start = Instant::now();
    loop {
        match fs::hard_link(own, LOCK) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::AlreadyExists && start.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(50));
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                bail!("cannot lock {MTAB}: {LOCK} is there, left behind by somebody else?")
            }
            Err(e) => return Err(e).with_context(|| format!("cannot lock {MTAB}")),
        }
    }
}

fn whole_file_lock() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as _,
        l_whence: libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
