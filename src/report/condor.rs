//! HTCondor: a drop-in that puts jobs on the scratch disk and keeps new ones away when
//! the VM is about to go.
//!
//! A syntax error in it would end every daemon of HTCondor, so it holds only what its
//! parser cannot take for anything else, and nothing that only newer versions know: no
//! `if`, no `$(NAME:default)`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::files::{self, Place};
use super::old_texts;
use crate::host::regular_file::{self, MIB};
use crate::host::{Host, wait};
use crate::metadata::machine_features::published::MACHINE;
use crate::status::{Outcome, Status};

const DIRECTORY: &str = "/etc/condor/config.d";
const NAME: &str = "99-vmstage.config";

pub(super) const KEY: &str = "report.condor";
const DROP_IN: &str = "/etc/condor/config.d/99-vmstage.config";

/// How long a starting master may take until it can be told to read its configuration
/// again.
const MASTER_STARTS: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Writes the drop-in where its directory exists, and has a running HTCondor read it.
/// Says whether it changed.
pub fn publish(host: &Host, status: &Status) -> Result<bool> {
    write(host, status)?.tell()
}

/// A drop-in that is in its place, and of which a running HTCondor knows nothing yet.
pub(crate) struct Written {
    proc: PathBuf,
    changed: bool,
    /// EXECUTE is another one.
    moved: bool,
    unspeakable: Option<PathBuf>,
}

impl Written {
    /// Has a running HTCondor read it, and waits for one that is just starting. Says
    /// whether there was anything new.
    pub(crate) fn tell(self) -> Result<bool> {
        if self.changed {
            take_effect(&self.proc, self.moved)?;
        }
        match self.unspeakable {
            Some(path) => bail!(
                "HTCondor's configuration cannot name {}, so that no job is started",
                path.display()
            ),
            None => Ok(self.changed),
        }
    }
}

/// Writes the drop-in only, which takes no time.
pub(crate) fn write(host: &Host, status: &Status) -> Result<Written> {
    let mut written = Written {
        proc: host.path("/proc"),
        changed: false,
        moved: false,
        unspeakable: None,
    };
    let directory = host.path(DIRECTORY);
    if !directory.is_dir() {
        return Ok(written);
    }
    let file = directory.join(NAME);
    let before = regular_file::read_text(&file, MIB).unwrap_or_default();
    let execute = execute(status);
    let environment_is_taken = mentioned_elsewhere(host, "STARTER_JOB_ENVIRONMENT")?;
    let text = text(status, &execute, environment_is_taken);
    let place = Place::of(KEY, DROP_IN);
    written.changed = files::publish(host, place, text.as_bytes(), 0o644)?;
    written.moved = execute_line(&text).is_some() && execute_line(&before) != execute_line(&text);
    if let Execute::Unspeakable(path) = execute {
        written.unspeakable = Some(path);
    }
    Ok(written)
}

/// Removes the drop-in, if it is still as it was written. A running HTCondor knows nothing of
/// that yet.
pub(crate) fn withdraw(host: &Host) -> Result<Written> {
    let before = regular_file::read_text(&host.path(DROP_IN), MIB).unwrap_or_default();
    let removed = files::withdraw(host, KEY, None, &[DROP_IN], old_texts::is_drop_in)?;
    Ok(Written {
        proc: host.path("/proc"),
        changed: removed,
        moved: removed && execute_line(&before).is_some(),
        unspeakable: None,
    })
}

/// Where HTCondor's jobs run.
enum Execute {
    /// Wherever HTCondor's own configuration says.
    Unset,
    At(String),
    /// On the scratch disk, at a path that its configuration has no way to name.
    Unspeakable(PathBuf),
}

/// The directory that is called `condor`, where it was made as asked.
fn execute(status: &Status) -> Execute {
    let Some(staging) = &status.staging else {
        return Execute::Unset;
    };
    let path = staging.mount_point.join("condor");
    let made = |directory: &&crate::status::Directory| directory.error.is_none();
    if !status
        .directories
        .iter()
        .filter(made)
        .any(|d| d.path == path)
    {
        return Execute::Unset;
    }
    // A value is all that follows the equals sign, blanks and quotes included; what
    // begins with a dollar sign is expanded, and there is no way to write a newline.
    match path.to_str() {
        Some(text) if !text.contains(|c: char| c == '$' || c.is_control()) => {
            Execute::At(text.into())
        }
        _ => Execute::Unspeakable(path),
    }
}

fn text(status: &Status, execute: &Execute, environment_is_taken: bool) -> String {
    let usable = status.outcome == Outcome::Ready && !matches!(execute, Execute::Unspeakable(_));
    let mut lines = vec![
        "# Written by vmstage(8), which overwrites it.".to_string(),
        format!("StagingReady = {}", if usable { "True" } else { "False" }),
        "STARTD_ATTRS = $(STARTD_ATTRS) StagingReady".into(),
    ];
    if let Execute::At(path) = execute {
        lines.push(format!("EXECUTE = {path}"));
    }
    if !environment_is_taken {
        lines.push(format!(
            "STARTER_JOB_ENVIRONMENT = \"MACHINEFEATURES={}\"",
            MACHINE
        ));
    }
    if !usable {
        lines.push("# Jobs would fill the root disk.".into());
        lines.push("START = False".into());
    }
    if let Some(deadline) = &status.deadline {
        if deadline.rehearsal {
            lines.push("# A rehearsal: nothing is ended.".into());
        }
        lines.push(format!("MJF_MACHINE_SHUTDOWNTIME = {}", deadline.at));
        lines.push(format!(
            "MJF_MACHINE_GRACE_SECS = {}",
            deadline.grace_seconds
        ));
        lines.push(
            "STARTD_ATTRS = $(STARTD_ATTRS) MJF_MACHINE_SHUTDOWNTIME MJF_MACHINE_GRACE_SECS".into(),
        );
        // The values, not the attributes: those are gone where a site sets STARTD_ATTRS
        // in a file that is read later, and what is undefined starts nothing.
        lines.push(
            "START = ($(START)) && \
             (time() < $(MJF_MACHINE_SHUTDOWNTIME) - $(MJF_MACHINE_GRACE_SECS))"
                .into(),
        );
    }
    lines.join("\n") + "\n"
}

fn execute_line(text: &str) -> Option<&str> {
    text.lines().find(|line| line.starts_with("EXECUTE = "))
}

/// Whether a site has set a name that can only be set, not added to.
fn mentioned_elsewhere(host: &Host, name: &str) -> Result<bool> {
    let mut files = vec![
        host.path("/etc/condor/condor_config"),
        host.path("/etc/condor/condor_config.local"),
    ];
    for directory in [DIRECTORY, "/usr/share/condor/config.d"] {
        let listing = match fs::read_dir(host.path(directory)) {
            Ok(listing) => listing,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e).with_context(|| format!("cannot read {directory}")),
        };
        files.extend(
            listing
                .flatten()
                .filter(|entry| is_read_by_htcondor(&entry.file_name()))
                .filter(|entry| entry.file_name() != NAME)
                .map(|entry| entry.path()),
        );
    }
    let sets = |text: Vec<u8>| {
        String::from_utf8_lossy(&text).lines().any(|line| {
            let set = line.split('=').next().unwrap_or_default().trim();
            set.eq_ignore_ascii_case(name)
        })
    };
    Ok(files
        .iter()
        .filter_map(|file| regular_file::read(file, MIB).ok())
        .any(sets))
}

/// Whether HTCondor reads a file of this name in a `config.d`: the default of
/// LOCAL_CONFIG_DIR_EXCLUDE_REGEXP. The first pattern is also that of what a killed process
/// of this program left behind.
fn is_read_by_htcondor(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let passed_over = name.starts_with(['.', '#']) || name.ends_with('~');
    !passed_over && !name.ends_with(".rpmsave") && !name.ends_with(".rpmnew")
}

/// Has every running HTCondor read its configuration again, as `condor_reconfig` does.
/// EXECUTE is read only by a startd that starts, so one that is to move is ended: its
/// master starts another at once.
fn take_effect(proc: &Path, moved: bool) -> Result<()> {
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
    if moved {
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
            (field("Name:")? == name && of_root && !ended).then_some(Process {
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
    use crate::report::example;

    const FILE: &str = "etc/condor/config.d/99-vmstage.config";

    fn tree() -> Tree {
        Tree::new(&[(
            "etc/condor/config.d/00-site.config",
            "START = Owner == \"me\"\n",
        )])
    }

    #[test]
    fn a_ready_machine_with_a_deadline() {
        let tree = tree();
        assert!(publish(&tree.host(), &example::with_deadline()).unwrap());
        let expected = "\
# Written by vmstage(8), which overwrites it.
StagingReady = True
STARTD_ATTRS = $(STARTD_ATTRS) StagingReady
EXECUTE = /staging/condor
STARTER_JOB_ENVIRONMENT = \"MACHINEFEATURES=/etc/machinefeatures\"
MJF_MACHINE_SHUTDOWNTIME = 1795430460
MJF_MACHINE_GRACE_SECS = 600
STARTD_ATTRS = $(STARTD_ATTRS) MJF_MACHINE_SHUTDOWNTIME MJF_MACHINE_GRACE_SECS
START = ($(START)) && (time() < $(MJF_MACHINE_SHUTDOWNTIME) - $(MJF_MACHINE_GRACE_SECS))
";
        assert_eq!(tree.text(FILE), expected);
        assert!(!publish(&tree.host(), &example::with_deadline()).unwrap());
        assert_eq!(tree.names("etc/condor/config.d").len(), 2);
    }

    #[test]
    fn without_a_deadline_start_is_the_sites_own() {
        let tree = tree();
        publish(&tree.host(), &example::with_deadline()).unwrap();
        assert!(publish(&tree.host(), &example::ready()).unwrap());
        let text = tree.text(FILE);
        assert!(
            !text.contains("MJF_") && !text.contains("START ="),
            "{text}"
        );
    }

    #[test]
    fn a_machine_that_is_not_ready_starts_nothing_and_names_no_directory() {
        let tree = tree();
        publish(&tree.host(), &example::failed()).unwrap();
        let text = tree.text(FILE);
        assert!(text.contains("\nStagingReady = False\n"), "{text}");
        assert!(text.contains("\nSTART = False\n"), "{text}");
        assert!(!text.contains("EXECUTE"), "{text}");
    }

    #[test]
    fn without_a_directory_called_condor_execute_is_the_sites_own() {
        let tree = tree();
        let mut status = example::ready();
        status.directories.remove(0);
        publish(&tree.host(), &status).unwrap();
        let text = tree.text(FILE);
        assert!(
            !text.contains("EXECUTE") && !text.contains("START ="),
            "{text}"
        );
    }

    #[test]
    fn a_directory_that_could_not_be_made_as_asked_is_not_named() {
        let tree = tree();
        let mut status = example::failed();
        status.staging = example::ready().staging;
        status.directories = example::ready().directories;
        status.directories[0].error = Some("there is no user condor".into());
        publish(&tree.host(), &status).unwrap();
        let text = tree.text(FILE);
        assert!(
            !text.contains("EXECUTE") && text.contains("START = False"),
            "{text}"
        );
    }

    fn mounted_on(mount_point: &str) -> Status {
        let mut status = example::ready();
        status.staging.as_mut().unwrap().mount_point = mount_point.into();
        status.directories[0].path = Path::new(mount_point).join("condor");
        status
    }

    #[test]
    fn a_mount_point_that_would_be_read_as_something_else_is_refused_and_starts_nothing() {
        for mount_point in [
            "/$(START)",
            "/$ENV(HOME)",
            "/a$b",
            "/a\nSTART = True",
            "/a\tb",
        ] {
            let tree = tree();
            publish(&tree.host(), &mounted_on(mount_point)).unwrap_err();
            let text = tree.text(FILE);
            assert!(text.contains("\nSTART = False\n"), "{text}");
            assert!(
                !text.contains("EXECUTE") && !text.contains("START = True"),
                "{text}"
            );
        }
    }

    #[test]
    fn blanks_and_quotes_in_a_mount_point_are_written_as_they_are() {
        let tree = tree();
        publish(&tree.host(), &mounted_on("/my \"own\"/disk's #1\\")).unwrap();
        let expected = "\nEXECUTE = /my \"own\"/disk's #1\\/condor\n";
        assert!(tree.text(FILE).contains(expected), "{}", tree.text(FILE));
    }

    #[test]
    fn a_job_environment_that_the_site_sets_is_left_to_it() {
        for (site, left) in [
            ("starter_job_environment=\"A=1\"\n", true),
            ("# STARTER_JOB_ENVIRONMENT is not set here\n", false),
        ] {
            let tree = Tree::new(&[("etc/condor/config.d/50-site", site)]);
            publish(&tree.host(), &example::ready()).unwrap();
            let ours = tree.text(FILE).contains("STARTER_JOB_ENVIRONMENT");
            assert_eq!(ours, !left, "{site}");
        }
    }

    #[test]
    fn a_file_that_htcondor_passes_over_sets_nothing() {
        let set = "STARTER_JOB_ENVIRONMENT = \"A=1\"\n";
        for name in [
            // What a killed process left behind: of this program, and of an editor.
            ".99-vmstage.config.new",
            ".99-vmstage.config.4711.new",
            "50-site~",
            "#50-site#",
            "50-site.rpmsave",
            "50-site.rpmnew",
        ] {
            let tree = Tree::new(&[(&format!("etc/condor/config.d/{name}"), set)]);
            publish(&tree.host(), &example::ready()).unwrap();
            let text = tree.text(FILE);
            assert!(text.contains("STARTER_JOB_ENVIRONMENT"), "{name}: {text}");
        }
    }

    #[test]
    fn without_htcondor_nothing_is_made() {
        let tree = Tree::new(&[("etc/condor/condor_config", "")]);
        assert!(!publish(&tree.host(), &example::ready()).unwrap());
        assert_eq!(tree.names("etc/condor"), ["condor_config"]);
    }

    #[test]
    fn a_link_in_the_place_of_the_drop_in_is_an_error_and_stays() {
        let tree = Tree::new(&[("etc/condor/config.d/real", "theirs")]);
        std::os::unix::fs::symlink("real", tree.root().join(FILE)).unwrap();
        publish(&tree.host(), &example::ready()).unwrap_err();
        assert_eq!(tree.text("etc/condor/config.d/real"), "theirs");
    }

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
