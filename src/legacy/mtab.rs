//! `/etc/mtab`, where it is a file of its own: without its line there, `df` and
//! `umount` of an old system do not know of the mount.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use log::{debug, warn};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::host::checked_path::{self, Missing};
use crate::host::mount_table::{self, Mount};
use crate::host::regular_file::{self, MIB};
use crate::host::{Host, wait};
use crate::logging::Notices;

const MTAB: &str = "/etc/mtab";
/// mount(8)'s lock file (lock_mtab in util-linux up to 2.18, glibc's MOUNTED_LOCK).
const LOCK: &str = "/etc/mtab~";
const PATIENCE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(50);

/// mount(8) locks what it has linked within microseconds, and is done in milliseconds. A
/// lock file that nobody has locked for so long was left by a process that is gone.
const STALE: Duration = Duration::from_millis(500);

/// Adds the line that mount(8) would have written. That it cannot is a warning: the
/// mount itself stands.
pub(crate) fn record(host: &Host, mount: &Mount, notices: &Notices) {
    record_within(PATIENCE, host, mount, notices);
}

fn record_within(patience: Duration, host: &Host, mount: &Mount, notices: &Notices) {
    let is_a_file = fs::symlink_metadata(host.path(MTAB)).is_ok_and(|metadata| metadata.is_file());
    if !is_a_file {
        debug!("{MTAB} is no file of its own; it needs no line");
        return;
    }
    if let Err(e) = add_line(host, mount, patience) {
        notices.warn(format!(
            "{e:#}; df and umount may not know of {}",
            mount.mount_point.display()
        ));
    }
}

fn add_line(host: &Host, mount: &Mount, patience: Duration) -> Result<()> {
    let mtab = host.path(MTAB);
    checked_path::open_own(&host.path("/etc"), Missing::IsAnError)
        .with_context(|| format!("cannot write to {MTAB}"))?;
    let _lock = Lock::take(host, patience)?;
    let present =
        regular_file::read(&mtab, 16 * MIB).with_context(|| format!("cannot read {MTAB}"))?;
    let lines = mount_table::parse(&present);
    let device = mount.source.as_path();
    // It may have been mounted under another of its names.
    let is_it =
        |source: &Path| source == device || host.block_number(source) == host.block_number(device);
    if mount_table::on(&lines, &mount.mount_point).is_some_and(|line| is_it(&line.source)) {
        return Ok(());
    }
    let mut line = Vec::new();
    if present.last().is_some_and(|byte| *byte != b'\n') {
        line.push(b'\n');
    }
    line.extend(mount_table::escape(device));
    line.push(b' ');
    line.extend(mount_table::escape(&mount.mount_point));
    line.extend(format!(" {} {} 0 0\n", mount.filesystem, mount.options).bytes());
    OpenOptions::new()
        .append(true)
        .open(&mtab)
        .and_then(|mut mtab| mtab.write_all(&line))
        .with_context(|| format!("cannot write to {MTAB}"))
}

/// The lock that mount(8) takes: whoever manages to link a file of its own to
/// `/etc/mtab~` has it, and holds a lock on that file for others to wait on.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(host: &Host, patience: Duration) -> Result<Lock> {
        remove_leftovers(host);
        let path = host.path(LOCK);
        let own = host.path(format!("{LOCK}{}", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&own)
            .with_context(|| format!("cannot lock {MTAB}"))?;
        let linked = link_patiently(&own, &path, patience);
        let _ = fs::remove_file(&own);
        linked?;
        // For those who wait for the lock instead of polling for the link.
        lock_whole(&file);
        Ok(Lock { path, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.path) {
            warn!("cannot remove {LOCK}: {e}; mount and umount wait for it");
        }
    }
}

fn link_patiently(own: &Path, lock: &Path, patience: Duration) -> Result<()> {
    // The lock file that nobody had locked, and since when.
    let mut unlocked: Option<(u64, Instant)> = None;
    let linked = wait::until(patience, RETRY, || match fs::hard_link(own, lock) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            unlocked = match (unlocked_inode(lock), unlocked) {
                (Some(inode), Some((same, since))) if inode == same => Some((same, since)),
                (found, _) => found.map(|inode| (inode, Instant::now())),
            };
            if unlocked.is_some_and(|(_, since)| since.elapsed() >= STALE) {
                debug!("{LOCK} was left behind; removing it");
                let _ = fs::remove_file(lock);
                unlocked = None;
            }
            None
        }
        linked => Some(linked),
    });
    match linked {
        Some(linked) => linked.with_context(|| format!("cannot lock {MTAB}")),
        None => bail!("cannot lock {MTAB}: somebody else has {LOCK}"),
    }
}

/// The number of a lock file that no process has locked.
fn unlocked_inode(lock: &Path) -> Option<u64> {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(lock)
        .ok()?;
    let inode = file.metadata().ok()?.ino();
    // Closing the file lets it go again.
    lock_whole(&file).then_some(inode)
}

/// Says whether the lock could be had. Does not wait.
fn lock_whole(file: &File) -> bool {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as _,
        l_whence: libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_SETLK(&whole)).is_ok()
}

/// Files of processes that were killed before they could remove them.
fn remove_leftovers(host: &Host) {
    let etc = fs::read_dir(host.path("/etc"))
        .into_iter()
        .flatten()
        .flatten();
    for entry in etc {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("mtab~"));
        let Some(Ok(pid)) = pid.map(str::parse::<i32>) else {
            continue;
        };
        if kill(Pid::from_raw(pid), None).is_err() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    fn machine() -> (Tree, Mount) {
        let tree = Tree::new(&[("etc/mtab", "/dev/vda1 / ext3 rw 0 0\n")]);
        let mount = Mount {
            source: "/dev/vdb".into(),
            mount_point: "/staging".into(),
            filesystem: "ext2".into(),
            options: "rw".into(),
        };
        (tree, mount)
    }

    fn lines(tree: &Tree) -> usize {
        tree.text("etc/mtab")
            .lines()
            .filter(|line| line.starts_with("/dev/vdb /staging"))
            .count()
    }

    #[test]
    fn what_killed_processes_left_is_removed_and_costs_no_line() {
        let (tree, mount) = machine();
        let (root, host) = (tree.root(), tree.host());
        fs::write(root.join("etc/mtab~"), "").unwrap();
        fs::write(root.join("etc/mtab~2147483647"), "").unwrap();
        let notices = Notices::default();
        let start = Instant::now();
        record(&host, &mount, &notices);
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(lines(&tree), 1);
        assert_eq!(fs::read_dir(root.join("etc")).unwrap().count(), 1);
        record(&host, &mount, &notices);
        assert_eq!(lines(&tree), 1);
        assert_eq!(notices.all(), Vec::<String>::new());
    }

    #[test]
    fn a_lock_that_somebody_holds_is_left_alone_and_told_of() {
        let (tree, mount) = machine();
        let host = tree.host();
        let lock = tree.root().join("etc/mtab~");
        fs::write(&lock, "").unwrap();
        // Locks of one process do not exclude each other.
        let mut holder = std::process::Command::new("python3")
            .args(["-c", "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"])
            .arg(&lock)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 4];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).unwrap();
        let notices = Notices::default();
        record_within(STALE + 2 * RETRY, &host, &mount, &notices);
        assert_eq!(lines(&tree), 0);
        assert!(
            notices.all()[0].starts_with("cannot lock /etc/mtab"),
            "{:?}",
            notices.all()
        );
        assert!(lock.exists());
        drop(holder.stdin.take());
        holder.wait().unwrap();
    }
}
