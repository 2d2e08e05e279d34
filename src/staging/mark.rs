//! Writing the mark `.vmstage` onto the scratch disk, relative to its root directory and
//! following no link.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, syncfs, unlinkat};
use serde::{Deserialize, Serialize};

use super::staged::Staged;
use crate::disk::mark::{LIMIT, Mark, NAME, TEMPORARY};
use crate::host::bounded::{self, Limit};
use crate::host::error_text::in_words;
use crate::host::{Host, machine};

/// For writing the file system out: after READY, so that nobody waits for it.
const SYNC: Duration = Duration::from_secs(30);

/// Who stages the disk, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct By {
    machine: Option<String>,
    instance: Option<String>,
    /// The UUID of the file system.
    filesystem: Option<String>,
    /// Unix seconds.
    now: u64,
}

impl By {
    /// This machine, now.
    pub(crate) fn this(host: &Host, instance: Option<&str>, filesystem: Option<&str>) -> By {
        By {
            machine: machine::uuid(host),
            instance: instance.map(Into::into),
            filesystem: filesystem.map(Into::into),
            now: host.now().wall,
        }
    }
}

/// Writes the mark, unless it says the same already. Anything else of that name that is not a
/// regular file of root's stays as it is. A new one is not on the disk for good before that is
/// seen to ([`make_durable`]); one that takes the place of another leaves no moment without.
pub(super) fn write(root: BorrowedFd, by: &By) -> io::Result<()> {
    let there = read(root)?;
    let mark = Mark::staged_by(
        by.machine.clone(),
        by.instance.clone(),
        by.filesystem.clone(),
        by.now,
        there.as_ref(),
    );
    if there
        .as_ref()
        .is_some_and(|there| there.is_as_good_as(&mark))
    {
        return Ok(());
    }
    match unlinkat(root, TEMPORARY, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    let mode = Mode::from_bits_truncate(0o644);
    let mut file = File::from(openat(root, TEMPORARY, flags | OFlag::O_CLOEXEC, mode)?);
    fchmod(&file, mode)?;
    let mut text = serde_json::to_vec(&mark)?;
    text.push(b'\n');
    file.write_all(&text)?;
    if there.is_some() {
        file.sync_all()?;
    }
    renameat(root, TEMPORARY, root, NAME)?;
    Ok(())
}

/// The mark that is there; None where there is none.
fn read(root: BorrowedFd) -> io::Result<Option<Mark>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    // Reading it again changes nothing on the disk. Who does not own the file may not ask so.
    let quietly = openat(root, NAME, flags | OFlag::O_NOATIME, Mode::empty());
    let opened = match quietly {
        Err(Errno::EPERM) => openat(root, NAME, flags, Mode::empty()),
        opened => opened,
    };
    let file = match opened {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let there = file.metadata()?;
    if !there.is_file() || there.uid() != 0 {
        let what = "what is there is not a regular file of root's, and is left alone";
        return Err(io::Error::new(ErrorKind::AlreadyExists, what));
    }
    let mut text = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut text)?;
    Ok(Mark::parse(&text))
}

fn write_out(root: BorrowedFd) -> nix::Result<()> {
    match syncfs(root) {
        // It came with Linux 2.6.39.
        Err(Errno::ENOSYS) => {
            nix::unistd::sync();
            Ok(())
        }
        done => done,
    }
}

/// Has the mark on the disk for good where somebody else had mounted it: the VM may be reset
/// at any time, and its disk must be known again. Where this run mounted it by a name it is
/// ([`rehearse`](super::rehearse)), and elsewhere it is known without.
///
/// # Errors
///
/// That the disk does not answer, or those of syncfs(2).
pub(crate) fn make_durable(staged: &Staged) -> Result<()> {
    if !staged.already_mounted() {
        return Ok(());
    }
    let root = staged.directory();
    let done = bounded::run(Limit::after(SYNC), &[root], || {
        write_out(root).err().map(|errno| errno.to_string())
    });
    match done.context("the disk does not answer")? {
        None => Ok(()),
        Some(error) => Err(anyhow::anyhow!("{error}")),
    }
}

/// Adds the instance to the mark, as soon as a source has said which it is.
///
/// # Errors
///
/// That it cannot be written.
pub(crate) fn add_instance(host: &Host, staged: &Staged, instance: &str) -> Result<()> {
    let by = By::this(host, Some(instance), staged.uuid());
    let root = staged.directory();
    let written = bounded::run(Limit::after(SYNC), &[root], || {
        write(root, &by).map_err(|e| in_words(&e))
    });
    written
        .context("the disk does not answer")?
        .map_err(anyhow::Error::msg)
}
