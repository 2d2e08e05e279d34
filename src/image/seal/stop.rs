//! What runs and would write again what is removed.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use log::warn;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::bounded::Limit;
use crate::host::{Host, program, wait};
use crate::image::running;

/// HTCondor vacates its jobs before it ends.
const CONDOR_STOPS: Duration = Duration::from_secs(180);
const AFTER_A_SIGNAL: Duration = Duration::from_secs(30);
const STAYS: &str = "HTCondor does not end: nothing was removed; stop it, and seal again";
const LOOK_AGAIN: Duration = Duration::from_millis(200);

const DAEMONS: [&str; 5] = [
    "condor_master",
    "condor_startd",
    "condor_starter",
    "condor_schedd",
    "condor_shadow",
];

/// The jobs that HTCondor runs here: one `condor_starter` each.
pub(crate) fn jobs(host: &Host) -> usize {
    processes(host, &["condor_starter"]).len()
}

/// Ends HTCondor and its jobs, and says whether it ran.
///
/// # Errors
///
/// That it does not end.
pub(crate) fn stop_condor(host: &Host) -> Result<bool> {
    if processes(host, &DAEMONS).is_empty() {
        return Ok(false);
    }
    if !masters(host).is_empty() {
        stop_masters(host)?;
    }
    // A master that was killed leaves them behind, with their jobs.
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        for daemon in processes(host, &DAEMONS) {
            let _ = kill(daemon, signal);
        }
        let is_over = || processes(host, &DAEMONS).is_empty().then_some(());
        if wait::until(AFTER_A_SIGNAL, LOOK_AGAIN, is_over).is_some() {
            return Ok(true);
        }
    }
    bail!(STAYS)
}

/// By the init system that started it.
fn stop_masters(host: &Host) -> Result<()> {
    let by_unit = host.has_systemd();
    let script = ["/etc/init.d/condor", "/etc/rc.d/init.d/condor"]
        .into_iter()
        .find(|path| {
            let there = host.metadata(path.as_ref());
            there.is_ok_and(|there| there.is_file())
        })
        .map(|path| host.path(path));
    let command = match (by_unit, script) {
        (true, _) => program::find(host, "systemctl").map(|systemctl| {
            let mut command = Command::new(systemctl);
            command.args(["stop", "condor.service"]);
            command
        }),
        (false, Some(script)) => {
            let mut command = Command::new(script);
            command.arg("stop");
            Some(command)
        }
        (false, None) => None,
    };
    if let Some(command) = command
        && let Err(e) = program::run(command, Limit::after(CONDOR_STOPS))
    {
        warn!("stopping HTCondor {e:#}; it is sent a signal");
    }
    // One that somebody started by hand; first as condor_off does, then without its jobs.
    for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
        for master in masters(host) {
            let _ = kill(master, signal);
        }
        let is_over = || masters(host).is_empty().then_some(());
        if wait::until(AFTER_A_SIGNAL, LOOK_AGAIN, is_over).is_some() {
            return Ok(());
        }
    }
    bail!(STAYS)
}

/// systemd writes a new seed when the machine goes down, unless that has happened before.
pub(crate) fn stop_random_seed(host: &Host) {
    if !host.has_systemd() {
        return;
    }
    let Some(systemctl) = program::find(host, "systemctl") else {
        return;
    };
    let mut command = Command::new(systemctl);
    command.args(["stop", "systemd-random-seed.service"]);
    if let Err(e) = program::run(command, Limit::after(AFTER_A_SIGNAL)) {
        warn!(
            "stopping systemd-random-seed.service {e:#}: it may write a seed when the machine goes down"
        );
    }
}

fn masters(host: &Host) -> Vec<Pid> {
    processes(host, &["condor_master"])
}

/// Those of this system, by their names.
fn processes(host: &Host, names: &[&str]) -> Vec<Pid> {
    let listing = fs::read_dir(host.path("/proc"))
        .into_iter()
        .flatten()
        .flatten();
    let pids = listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_meant = |pid: &Pid| {
        let status = fs::read_to_string(host.path(format!("/proc/{pid}/status")));
        let status = status.unwrap_or_default();
        let field = |field| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.map(str::trim)
        };
        let is_over = field("State:").is_none_or(|state| state.starts_with(['Z', 'X']));
        field("Name:").is_some_and(|name| names.contains(&name)) && !is_over
    };
    pids.map(Pid::from_raw)
        .filter(is_meant)
        .filter(|pid| running::has_our_root(host, *pid))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn a_starter_that_runs_is_a_job_and_one_that_ended_is_none() {
        let tree = Tree::new(&[
            (
                "proc/10/status",
                "Name:\tcondor_starter\nState:\tS (sleeping)\n",
            ),
            (
                "proc/11/status",
                "Name:\tcondor_starter\nState:\tZ (zombie)\n",
            ),
            (
                "proc/12/status",
                "Name:\tcondor_master\nState:\tS (sleeping)\n",
            ),
        ]);
        for pid in [10, 11, 12] {
            let link = tree.root().join(format!("proc/{pid}/root"));
            symlink(tree.root(), link).unwrap();
        }
        assert_eq!(jobs(&tree.host()), 1);
        assert_eq!(masters(&tree.host()), [Pid::from_raw(12)]);
    }
}
