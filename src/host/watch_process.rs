//! The `watch` that runs: it holds a lock, and its process stands in the file.
//!
//! The lock alone does not say that it runs: a child of its that hangs may hold it on. The
//! number of a process alone does not either: another may have it by now. Together with the
//! time at which the process was started it does.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::libc::SIGUSR1;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::checked_path::{self, Missing};
use super::this_boot::ThisBoot;
use super::{Host, kernel_file, locks};

/// The signal by which `watch` is told that there is an order of `vmstage end`.
pub(crate) const ORDERS: i32 = SIGUSR1;

/// A process, so that it is not taken for a later one of the same number.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WatchProcess {
    pid: i32,
    /// As `/proc/PID/stat` has it.
    started: u64,
}

/// The file that `watch` holds locked.
pub(crate) fn path(host: &Host) -> PathBuf {
    host.runtime_directory().join("watch.lock")
}

fn content(host: &Host) -> ThisBoot<WatchProcess> {
    ThisBoot::at(host, path(host))
}

/// Writes this process into the file that it has locked.
///
/// # Errors
///
/// That it cannot be written, or that nobody knows which process this is.
pub(crate) fn write_into(mut lock: &File, host: &Host) -> Result<()> {
    let pid = Pid::this().as_raw();
    let started = started(host, pid).context("/proc does not show this process")?;
    let text = content(host).text(&WatchProcess { pid, started })?;
    let cannot = || format!("cannot write {}", path(host).display());
    lock.set_len(0).with_context(cannot)?;
    lock.seek(SeekFrom::Start(0)).with_context(cannot)?;
    lock.write_all(&text).with_context(cannot)
}

/// The `watch` that runs and takes orders.
///
/// # Errors
///
/// That none does, in words.
pub(crate) fn find(host: &Host) -> Result<WatchProcess> {
    let none = "vmstage watch is not running, which would have to carry it out: start it first (systemctl start vmstage-watch)";
    // What lies there is a watch's own, and a watch could lock it.
    match checked_path::open_own(&host.runtime_directory(), Missing::IsAnError) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            bail!("vmstage watch cannot be found, also where it runs, for it has no lock: {e}")
        }
        _ => {}
    }
    let Ok(lock) = locks::existing(&path(host)) else {
        bail!(none);
    };
    if lock.try_lock().is_ok() {
        bail!(none);
    }
    let Ok(Some(process)) = content(host).read() else {
        bail!(
            "whoever holds {} is not a vmstage watch that takes orders; one of an older version \
             has to be restarted",
            path(host).display()
        );
    };
    match process.is_running(host) {
        true => Ok(process),
        false => bail!(none),
    }
}

impl WatchProcess {
    fn is_running(&self, host: &Host) -> bool {
        started(host, self.pid) == Some(self.started)
    }

    /// Tells it that there is an order.
    ///
    /// # Errors
    ///
    /// That it is gone.
    pub(crate) fn wake(&self) -> Result<()> {
        let signal = Signal::try_from(ORDERS)?;
        kill(Pid::from_raw(self.pid), signal).context("vmstage watch cannot be woken")
    }
}

/// When a process was started, in the kernel's ticks since it was booted; None where there is
/// none, or it has ended and nobody has heard of it yet.
fn started(host: &Host, pid: i32) -> Option<u64> {
    let text = kernel_file::read_text(host.path(format!("/proc/{pid}/stat"))).ok()?;
    // The name is in parentheses, and may have some itself.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next().filter(|state| !["Z", "X"].contains(state));
    state.and(fields.nth(18))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::host::tree::Tree;

    const STAT: &str = "77 (a) b) S 1 77 77 0 -1 4194560 5 0 0 0 1 2 0 0 20 0 1 0 4242 99 1";

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let tree = Tree::new(&[
            ("proc/77/stat", STAT),
            ("proc/78/stat", &STAT.replace(") S", ") Z")),
        ]);
        let process = |pid, started| WatchProcess { pid, started };
        for (pid, start, runs) in [
            (77, 4242, true),
            (77, 4241, false),
            (78, 4242, false),
            (79, 1, false),
        ] {
            assert_eq!(
                process(pid, start).is_running(&tree.host()),
                runs,
                "{pid} {start}"
            );
        }
    }

    #[test]
    fn a_watch_is_found_while_it_holds_its_lock_and_runs_and_not_else() {
        let stat = format!("proc/{}/stat", Pid::this());
        let boot_id = ("proc/sys/kernel/random/boot_id", "first\n");
        let tree = Tree::new(&[(&stat, STAT), boot_id, ("run/vmstage/", "")]);
        let host = tree.host();
        assert!(find(&host).is_err());
        assert!(!path(&host).exists(), "it was made by looking");
        let lock = locks::lock_file(&path(&host)).unwrap();
        assert!(find(&host).is_err());
        lock.try_lock().unwrap();
        // Version 0.1.0 writes nothing into it.
        let error = find(&host).unwrap_err().to_string();
        assert!(error.contains("older version"), "{error}");
        write_into(&lock, &host).unwrap();
        assert_eq!(find(&host).unwrap().pid, Pid::this().as_raw());
        let directory = host.runtime_directory();
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        let error = find(&host).unwrap_err().to_string();
        assert!(
            error.contains("/run/vmstage is left alone: somebody else may write there"),
            "{error}"
        );
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        // A child holds the lock on, and another process has the number.
        fs::write(tree.root().join(&stat), STAT.replace("4242", "4243")).unwrap();
        assert!(find(&host).is_err());
    }
}
