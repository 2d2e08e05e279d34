//! A boot of which one write fails, on a disk that is full, broken or read-only: the machine is
//! staged all the same, and what is missing is said.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::errno::Errno;

use crate::common::tracer::{Calls, count, fail};
use crate::common::{Image, Machine, Tree};

claims![what_could_not_be_written_is_said];

fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.configure("");
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    machine.sh("rm /etc/mtab; echo /dev/vda1 / ext3 rw 0 0 > /etc/mtab
         mkdir -p /etc/condor/config.d /etc/profile.d /etc/update-motd.d
         mkdir -p /var/lib/prometheus/node-exporter; echo Welcome > /etc/motd");
    machine
}

fn boot(machine: &Machine) -> Command {
    let mut boot = machine.command("/usr/sbin/vmstage", None);
    boot.arg("boot").stdin(Stdio::null()).stdout(Stdio::null());
    boot.stderr(File::create(machine.path("/tmp/said")).unwrap());
    boot
}

/// What lies where a boot writes, by path.
fn lying(machine: &Machine) -> BTreeMap<String, String> {
    let places = ["/etc", "/run", "/var", "/staging"].into_iter();
    let places = places.filter(|place| machine.path(place).exists());
    let trees = places.map(|place| (place, Tree::of(&machine.path(place))));
    let mut all = BTreeMap::new();
    for (place, tree) in trees {
        let entries = tree.without_content();
        all.extend(entries.map(|(path, entry)| (format!("{place}/{path}"), entry)));
    }
    let read = |path: &str| fs::read_to_string(machine.path(path)).unwrap_or_default();
    for path in ["/etc/mtab", "/etc/condor/config.d/99-vmstage.config"] {
        let without_devices: String = read(path).chars().filter(|c| !c.is_ascii_digit()).collect();
        all.insert(format!("{path}: content"), without_devices);
    }
    all
}

/// Without them a boot goes on, and the next one removes what a failed removal leaves.
fn is_of_no_consequence(path: &str) -> bool {
    let is_lock = path.starts_with("/run/vmstage/") && path.ends_with(".lock");
    let number = path.strip_prefix("/etc/mtab~").unwrap_or_default();
    is_lock || path.starts_with("/run/vmstage/read-only-") || number.parse::<u32>().is_ok()
}

/// What is wrong with a boot that ended with this code, and left this.
fn problems(
    code: Option<i32>,
    machine: &Machine,
    expected: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut mounts = machine.mounts().into_iter();
    let is_staged = mounts.any(|mount| mount.point == "/staging");
    let said = fs::read_to_string(machine.path("/tmp/said")).unwrap();
    let mut problems = Vec::new();
    match code {
        Some(0) if is_staged => {}
        // The mount point cannot be made, or a directory on the disk.
        Some(4) if !is_staged && said.contains("FAILED(4)") => {}
        Some(5) if is_staged && said.contains("FAILED(5)") => {}
        _ => problems.push(format!("code {code:?}, staged: {is_staged}")),
    }
    let left = lying(machine);
    let missing = expected
        .iter()
        .filter(|(path, entry)| left.get(*path) != Some(entry));
    let more = left.keys().filter(|path| !expected.contains_key(*path));
    let differs = missing.map(|(path, _)| path).chain(more);
    let differs: Vec<&String> = differs.filter(|path| !is_of_no_consequence(path)).collect();
    if !differs.is_empty() && !said.contains("warning: ") && !said.contains("FAILED") {
        problems.push(format!("nothing is said of {differs:?}"));
    }
    if !problems.is_empty() {
        problems.push(said);
    }
    problems
}

/// One error after the other, at one write after the other.
fn what_could_not_be_written_is_said() {
    const ERRORS: [Errno; 3] = [Errno::ENOSPC, Errno::EIO, Errno::EROFS];
    let whole = machine();
    let traced = count(Calls::Writes, boot(&whole));
    assert_eq!(traced.code, Some(0));
    let (calls, expected) = (traced.system_calls, lying(&whole));
    drop(whole);
    let next = AtomicUsize::new(1);
    let found = Mutex::new(Vec::new());
    let work = || {
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth > calls {
                break;
            }
            let (machine, error) = (machine(), ERRORS[nth % ERRORS.len()]);
            let traced = fail(nth, error, Calls::Writes, boot(&machine));
            let problems = problems(traced.code, &machine, &expected);
            if !problems.is_empty() {
                let call = traced.failed.unwrap_or_default();
                let problems = problems.join("\n");
                found
                    .lock()
                    .unwrap()
                    .push(format!("{nth}: {error} of {call}: {problems}"));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(work);
        }
    });
    let found = found.into_inner().unwrap();
    assert!(calls > 50 && found.is_empty(), "{}", found.join("\n"));
}
