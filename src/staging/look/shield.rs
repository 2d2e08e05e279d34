//! What keeps a disk from being written while it is looked into.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::host::{Host, kernel_calls};
use crate::staging::disk_lock::DiskLock;

pub(super) struct Shield {
    /// Where the node is, and what it is called there.
    pub(super) directory: OwnedFd,
    pub(super) name: OsString,
    kind: Kind,
}

enum Kind {
    /// Open twice, so that it is detached when nobody has it any more.
    Loop(File, File),
    /// The disk itself refuses writes. Not where it did so already.
    Disk(File, Option<DiskLock>),
}

impl Shield {
    /// The disk's own refusal needs a lock, in whose file it is recorded.
    ///
    /// # Errors
    ///
    /// Those of having the kernel refuse writes, and that there is no place for the lock.
    pub(super) fn raise(
        host: &Host,
        node: &Path,
        device: File,
        lock: io::Result<DiskLock>,
    ) -> io::Result<Shield> {
        if let Ok((name, device, again)) = attach_to_loop(host, &device) {
            return Ok(Shield {
                directory: open_directory(&host.path("/dev"))?,
                name,
                kind: Kind::Loop(device, again),
            });
        }
        let mut lock = lock?;
        let refused_already = kernel_calls::is_read_only(&device)?;
        if !refused_already {
            lock.raise(node, &device)?;
        }
        let path = host.path(node);
        Ok(Shield {
            directory: open_directory(path.parent().unwrap_or(Path::new("/")))?,
            name: path.file_name().unwrap_or_default().into(),
            kind: Kind::Disk(device, (!refused_already).then_some(lock)),
        })
    }

    pub(super) fn lower(self) -> io::Result<()> {
        match self.kind {
            Kind::Loop(device, again) => {
                drop(again);
                // Before Linux 3.7 it is detached only now.
                let _ = kernel_calls::detach_loop_device(&device);
                Ok(())
            }
            Kind::Disk(device, Some(mut lock)) => lock.lower(&device),
            Kind::Disk(_, None) => Ok(()),
        }
    }
}

/// A loop device over the disk, which is read-only as the disk is open for reading alone.
/// Another process may be quicker to take the free one.
fn attach_to_loop(host: &Host, disk: &File) -> io::Result<(OsString, File, File)> {
    let control = File::options()
        .read(true)
        .write(true)
        .open(host.path("/dev/loop-control"))?;
    let mut last = io::Error::from(ErrorKind::NotFound);
    for _ in 0..8 {
        let name = OsString::from(format!("loop{}", kernel_calls::free_loop_device(&control)?));
        let node = host.path("/dev").join(&name);
        let device = File::options().read(true).open(&node)?;
        let again = File::options().read(true).open(&node)?;
        match kernel_calls::attach_loop_device(&device, disk) {
            Ok(()) => {
                let _ = kernel_calls::detach_loop_device(&device);
                return Ok((name, device, again));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}
