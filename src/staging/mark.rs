//! Writing the mark `.vmstage` onto the scratch disk, relative to its root directory and
//! following no link.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, syncfs, unlinkat};
use serde::{Deserialize, Serialize};

use super::staged::Staged;
use crate::disk::mark::{LIMIT, Mark, NAME};
use crate::host::bounded::{self, Child, Limit, Task};
use crate::host::{Host, machine, namespace};

/// Where the new one is written. A run that died may have left one.
const TEMPORARY: &str = ".vmstage.new";

/// For writing the file system out: after READY, so that nobody waits for it.
const SYNC: Duration = Duration::from_secs(30);

/// Who stages the disk, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct By {
    machine: Option<String>,
    instance: Option<String>,
    /// Unix seconds.
    now: u64,
}

impl By {
    /// This machine, now.
    pub(crate) fn this(host: &Host, instance: Option<String>) -> By {
        By {
            machine: machine::uuid(host),
            instance,
            now: host.now().wall,
        }
    }
}

/// Writes the mark, unless it says the same already. Anything else of that name that is not a
/// regular file of root's stays as it is.
pub(super) fn write(root: BorrowedFd, by: &By) -> io::Result<()> {
    let there = read(root)?;
    let mark = Mark::staged_by(
        by.machine.clone(),
        by.instance.clone(),
        by.now,
        there.as_ref(),
    );
    if there.is_some_and(|there| there.is_as_good_as(&mark)) {
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
    renameat(root, TEMPORARY, root, NAME)?;
    // A reset from now on must find it. Not sync(2) where there is no syncfs: another disk may
    // hang.
    match syncfs(root) {
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
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

/// Writes the file system out, in the child that has it mounted.
struct WriteOut;

impl Task for WriteOut {
    type Order = ();
    type Outcome = Option<String>;

    fn perform((): ()) -> Option<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(namespace::MOUNT_POINT, flags, Mode::empty());
        let done = root.and_then(|root| write_out(root.as_fd()));
        done.err().map(|errno| errno.to_string())
    }
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

/// Has the mark on the disk for good: the VM may be reset at any time, and its disk must be
/// known again.
pub(crate) fn make_durable(staged: &Staged, mounted: Option<Child>) -> Result<()> {
    let limit = Limit::after(SYNC);
    let done = match mounted {
        Some(mut child) => {
            let done = child.ask::<WriteOut>(&(), limit);
            if done.is_err() {
                child.give_up();
            }
            done
        }
        None => {
            let root = staged.directory();
            bounded::run(limit, &[root], || {
                write_out(root).err().map(|errno| errno.to_string())
            })
        }
    };
    match done.context("the disk does not answer")? {
        None => Ok(()),
        Some(error) => Err(anyhow::anyhow!("{error}")),
    }
}

/// Adds the instance to the mark, as soon as a source has said which it is.
pub(crate) fn add_instance(host: &Host, staged: &Staged, instance: &str) -> Result<()> {
    let by = By::this(host, Some(instance.into()));
    let root = staged.directory();
    let written = bounded::run(Limit::after(SYNC), &[root], || {
        write(root, &by).map_err(|e| e.to_string())
    });
    written
        .context("the disk does not answer")?
        .map_err(anyhow::Error::msg)
}
