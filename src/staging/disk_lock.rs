//! One process of this program looks into a disk, or mounts it, at a time.
//!
//! The lock is a file in the run directory, one for each disk, which is there while somebody
//! has the lock. It is the record of a look as well, which may have the kernel refuse writes
//! to the disk: then the disk's node is in it. Where such a look died the file stays, and the
//! next one who takes the lock has the kernel take writes again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::debug;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open as open_directory};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::disk::signature::open_node;
use crate::host::block_device::Number;
use crate::host::bounded::{self, Limit};
use crate::host::regular_file::{self, MIB};
use crate::host::{Host, kernel_calls, locks, silent, wait};

/// How the names of these files begin.
const RECORD: &str = "read-only-";

const RETRY: Duration = Duration::from_millis(10);

/// A look takes milliseconds.
const ONE_LOOK: Duration = Duration::from_secs(1);

/// A disk that no other process of this program looks into, or mounts.
pub(super) struct DiskLock {
    file: Flock<File>,
    path: PathBuf,
    /// Where it is: a look moves into a mount namespace without the run directory.
    directory: OwnedFd,
    /// The kernel refuses writes to the disk, which its file says.
    is_raised: bool,
}

impl DiskLock {
    /// Waits for the lock. None where another process has it all this time.
    ///
    /// # Errors
    ///
    /// That there is no place for the file, or that what a look left cannot be taken back.
    pub(super) fn take(
        host: &Host,
        node: &Path,
        number: Number,
        patience: Duration,
    ) -> io::Result<Option<DiskLock>> {
        let taken = wait::until(patience, RETRY, || {
            DiskLock::try_take(host, node, number).transpose()
        });
        taken.transpose()
    }

    /// None while another process has it.
    ///
    /// # Errors
    ///
    /// As [`DiskLock::take`].
    pub(super) fn try_take(
        host: &Host,
        node: &Path,
        number: Number,
    ) -> io::Result<Option<DiskLock>> {
        let path = path_of(host, number);
        let Some(mut lock) = DiskLock::of(path)? else {
            return Ok(None);
        };
        if lock.is_raised {
            lock.take_back(&host.path(node), number)?;
        }
        Ok(Some(lock))
    }

    /// Takes the lock as it was left.
    fn of(path: PathBuf) -> io::Result<Option<DiskLock>> {
        loop {
            let file = locks::lock_file(&path)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(errno.into()),
            };
            // Who had it may have removed the file since it was opened here.
            let there = fs::symlink_metadata(&path).ok().map(|there| there.ino());
            let opened = file.metadata()?;
            if there == Some(opened.ino()) {
                let directory = path.parent().unwrap_or(Path::new("/"));
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                return Ok(Some(DiskLock {
                    file,
                    directory: open_directory(directory, flags, Mode::empty())?,
                    path,
                    is_raised: opened.len() > 0,
                }));
            }
        }
    }

    /// Has the kernel refuse writes to the disk, after saying so in the file.
    ///
    /// # Errors
    ///
    /// Those of writing the file, and of ioctl(2).
    pub(super) fn raise(&mut self, node: &Path, device: &File) -> io::Result<()> {
        self.is_raised = true;
        (&*self.file).write_all(node.as_os_str().as_bytes())?;
        kernel_calls::set_read_only(device, true)
    }

    /// Has the kernel take writes to a disk again of which the look has died, perhaps since the
    /// disk hangs.
    fn take_back(&mut self, node: &Path, number: Number) -> io::Result<()> {
        let lowered = bounded::run(Limit::after(ONE_LOOK), &[], || {
            let device = open_node(node, number);
            let lowered = device.and_then(|device| kernel_calls::set_read_only(&device, false));
            lowered.map_err(|e| e.to_string())
        });
        lowered
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        self.is_lowered()
    }

    /// Has the kernel take writes to the disk again.
    ///
    /// # Errors
    ///
    /// Those of ioctl(2). The file then stays.
    pub(super) fn lower(&mut self, device: &File) -> io::Result<()> {
        kernel_calls::set_read_only(device, false)?;
        self.is_lowered()
    }

    fn is_lowered(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.is_raised = false;
        Ok(())
    }
}

impl Drop for DiskLock {
    /// While it is locked, so that it is nobody else's.
    fn drop(&mut self) {
        if !self.is_raised {
            let name = self.path.file_name().unwrap_or_default();
            let _ = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Whether the kernel refuses writes to a disk for another reason than a look. The disk may
/// hang: a child sees to that.
pub(super) fn is_read_only(host: &Host, node: &Path, number: Number, limit: Limit) -> bool {
    let seen = bounded::run(limit, &[], || {
        let device = open_node(&host.path(node), number).ok()?;
        let lock = DiskLock::take(host, node, number, ONE_LOOK);
        let is_looked_into = matches!(&lock, Ok(None)) && is_raised(host, number);
        let is_refused = kernel_calls::is_read_only(&device).ok()?;
        Some(is_refused && !is_looked_into)
    });
    seen.ok().flatten().unwrap_or(true)
}

fn is_raised(host: &Host, number: Number) -> bool {
    fs::symlink_metadata(path_of(host, number)).is_ok_and(|there| there.len() > 0)
}

/// Clears what runs that died have left, before the disks are judged: a read-only one is
/// rejected. One that somebody is looking into now is left alone.
pub(super) fn clear_leftovers(host: &Host) {
    let directory = host.runtime_directory();
    let answers = silent::see_that_the_way_answers(&directory);
    let Ok(entries) = answers.and_then(|()| fs::read_dir(directory)) else {
        return;
    };
    let is_record = |name: &OsString| name.as_bytes().starts_with(RECORD.as_bytes());
    let records = entries
        .filter_map(Result::ok)
        .filter(|entry| is_record(&entry.file_name()));
    for record in records {
        if let Err(error) = clear(host, record.path()) {
            debug!("{}: {error}", record.path().display());
        }
    }
}

fn clear(host: &Host, record: PathBuf) -> io::Result<()> {
    let Some(mut lock) = DiskLock::of(record)? else {
        return Ok(());
    };
    let text = regular_file::read(&lock.path, MIB).map_err(io::Error::other)?;
    let node = PathBuf::from(OsString::from_vec(text));
    match host.block_number(&node) {
        Some(number) if path_of(host, number) == lock.path => {
            lock.take_back(&host.path(&node), number)
        }
        // The disk is gone, or another has its name now.
        _ => {
            lock.is_raised = false;
            Ok(())
        }
    }
}

fn path_of(host: &Host, number: Number) -> PathBuf {
    let name = format!("{RECORD}{}-{}", number.major, number.minor);
    host.runtime_directory().join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    const VDB: Number = Number {
        major: 252,
        minor: 16,
    };

    #[test]
    fn one_has_the_lock_of_a_disk_and_its_file_goes_with_it() {
        let tree = Tree::new(&[]);
        let host = tree.host();
        let node = Path::new("/dev/vdb");
        let take = || DiskLock::try_take(&host, node, VDB).unwrap();
        let first = take().unwrap();
        assert!(take().is_none());
        let other = Number { minor: 32, ..VDB };
        assert!(DiskLock::try_take(&host, node, other).unwrap().is_some());
        drop(first);
        assert!(!path_of(&host, VDB).exists());
        assert!(take().is_some());
    }

    #[test]
    fn what_a_look_left_is_not_forgotten_where_it_cannot_be_taken_back() {
        let tree = Tree::new(&[]);
        let host = tree.host();
        let record = path_of(&host, VDB);
        fs::create_dir_all(record.parent().unwrap()).unwrap();
        fs::write(&record, "/dev/vdb").unwrap();
        assert!(DiskLock::try_take(&host, Path::new("/dev/vdb"), VDB).is_err());
        assert_eq!(fs::read(&record).unwrap(), b"/dev/vdb");
        // Where the disk is gone there is nothing to take back.
        clear_leftovers(&host);
        assert!(!record.exists());
    }
}
