//! Having a running HTCondor read its configuration.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::wait;

/// How long a starting master may take until it can be told to read its configuration
/// again.
const MASTER_STARTS: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a running HTCondor has to do.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// Read its configuration again.
    Settings,
    /// And start its startd anew, which reads EXECUTE only when it starts.
    Execute,
}

/// Tells every running HTCondor, as `condor_reconfig` does. A startd that is to move is
/// ended: its master starts another at once.
pub(super) fn tell(proc: &Path, news: &News) -> Result<()> {
    let mut masters = Vec::new();
    // Before it has a handler, the signal would end it.
    wait::until(MASTER_STARTS, LOOK_AGAIN, || {
        masters = processes(proc, "condor_master");
        let is_up = |master: &Process| master.catches_hangup;
        masters.iter().all(is_up).then_some(())
    });
    for master in masters.iter().filter(|master| master.catches_hangup) {
        signal(master, Signal::SIGHUP)?;
    }
    if *news == News::Execute {
        for startd in processes(proc, "condor_startd") {
            signal(&startd, Signal::SIGTERM)?;
        }
    }
    Ok(())
}

struct Process {
    pid: Pid,
    name: &'static str,
    catches_hangup: bool,
}

fn signal(process: &Process, signal: Signal) -> Result<()> {
    match kill(process.pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(e) => Err(e)
            .with_context(|| format!("cannot signal {} (process {})", process.name, process.pid)),
    }
}

/// Running processes of this name that root started, as `/proc/<pid>/status` has it: a
/// pilot job may bring an HTCondor of its own, which reads another configuration.
fn processes(proc: &Path, name: &'static str) -> Vec<Process> {
    let listing = fs::read_dir(proc).into_iter().flatten().flatten();
    listing
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let field = |field| {
                let line = status.lines().find_map(|line| line.strip_prefix(field));
                line.map(str::trim)
            };
            // SIGHUP is the lowest bit.
            let caught = u64::from_str_radix(field("SigCgt:")?, 16).ok()?;
            let ended = field("State:")?.starts_with('Z');
            // The first is the real one: the daemons go to and fro between the others.
            let of_root = field("Uid:")?.split_whitespace().next()? == "0";
            // In a container it has two identifiers, and a configuration of its own.
            let in_container =
                field("NSpid:").is_some_and(|ids| ids.split_whitespace().count() > 1);
            (field("Name:")? == name && of_root && !in_container && !ended).then_some(Process {
                pid: Pid::from_raw(pid),
                name,
                catches_hangup: caught & 1 == 1,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn a_process_of_root_is_found_by_its_name_and_known_to_catch_the_signal() {
        let status = |name: &str, state: &str, uid: u32, caught: &str| {
            format!("Name:\t{name}\nState:\t{state}\nUid:\t{uid}\t100\t0\t100\nSigCgt:\t{caught}\n")
        };
        let (caught, not) = ("0000000000014eed", "0000000000000002");
        let files = [
            (
                "proc/41/status",
                status("condor_master", "S (sleeping)", 0, caught),
            ),
            (
                "proc/42/status",
                status("condor_master", "R (running)", 0, not),
            ),
            (
                "proc/43/status",
                status("condor_startd", "S (sleeping)", 0, caught),
            ),
            (
                "proc/44/status",
                status("condor_master", "Z (zombie)", 0, not),
            ),
            (
                "proc/45/status",
                status("condor_master", "S (sleeping)", 1000, caught),
            ),
            (
                "proc/46/status",
                status("condor_master", "S (sleeping)", 0, caught) + "NSpid:\t46\t7\n",
            ),
            (
                "proc/self/status",
                status("condor_master", "S (sleeping)", 0, caught),
            ),
        ];
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .collect();
        let tree = Tree::new(&files);
        let mut found: Vec<_> = processes(&tree.root().join("proc"), "condor_master")
            .iter()
            .map(|process| (process.pid.as_raw(), process.catches_hangup))
            .collect();
        found.sort();
        assert_eq!(found, [(41, true), (42, false)]);
    }
}
