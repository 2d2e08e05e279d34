//! A boot that is killed before any system call that changes something, and the next: that
//! makes the machine ready, and nothing of the first lies about.
//!
//! With `VMSTAGE_CRASH_STRIDE=10` it is killed before every tenth of them only, and in any case
//! for at most [`LIMIT`], spread over all of the boot.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::common::tracer::{Calls, count, kill_before};
use crate::common::{Disk, Image, Machine, Mount, Outcome, Tree, tool};
use crate::server::Server;

claims![
    // Half of all the time: it starts first.
    a_boot_that_formats_a_blank_disk_can_be_killed,
    what_is_killed_before_a_system_call_does_not_make_it,
    what_is_killed_before_a_change_has_made_those_before_it,
    a_boot_that_mounts_a_labelled_disk_can_be_killed,
    a_boot_that_only_a_name_leads_to_its_disk_can_be_killed,
    a_boot_that_writes_mtab_and_tells_htcondor_can_be_killed,
    a_boot_that_is_told_a_lifetime_can_be_killed,
    a_boot_that_reads_a_config_drive_can_be_killed_and_started_again,
];

fn what_is_killed_before_a_system_call_does_not_make_it() {
    let machine = Machine::new();
    // A child makes it.
    let command = || {
        let mut shell = machine.command("/bin/sh", None);
        shell.args(["-c", "mkdir /tmp/directory; true"]);
        shell
    };
    let made = machine.path("/tmp/directory");
    let calls = count(Calls::Every, command()).system_calls;
    assert!(made.exists());
    let made_before = |nth| {
        let _ = fs::remove_dir(&made);
        let traced = kill_before(nth, Calls::Every, command());
        assert_eq!((traced.system_calls, traced.code), (nth, None));
        (made.exists(), traced.killed_before.unwrap())
    };
    let killed: Vec<(bool, String)> = (1..=calls).map(made_before).collect();
    let first = killed.iter().position(|(is_made, _)| *is_made).unwrap();
    assert_eq!(
        killed[first - 1].1,
        format!("call {} /tmp/directory", libc::SYS_mkdir)
    );
    assert!(killed[first..].iter().all(|(is_made, _)| *is_made));
}

/// One after the other, and none is left out.
fn what_is_killed_before_a_change_has_made_those_before_it() {
    let machine = Machine::new();
    let command = || {
        let mut shell = machine.command("/bin/sh", None);
        let script = "cd /tmp && mkdir d && cd d && echo 1 >a && echo 2 >>a && chmod 600 a && \
                      mv a b && ln -s b c && cp b e && rm b && cat e >/dev/null";
        shell.args(["-c", script]);
        shell
    };
    let directory = machine.path("/tmp/d");
    let state = || {
        let Ok(names) = fs::read_dir(&directory) else {
            return Vec::new();
        };
        let entry = |name: std::io::Result<fs::DirEntry>| {
            let path = name.unwrap().path();
            let mode = fs::symlink_metadata(&path).unwrap().mode();
            let content = fs::read_to_string(&path).unwrap_or_default();
            format!("{} {mode:o} {content}", path.display())
        };
        let mut entries: Vec<String> = names.map(entry).collect();
        entries.push("d".into());
        entries.sort();
        entries
    };
    let mut states = Vec::new();
    for nth in 1..=count(Calls::Changes, command()).system_calls {
        let _ = fs::remove_dir_all(&directory);
        kill_before(nth, Calls::Changes, command());
        states.push(state());
    }
    let _ = fs::remove_dir_all(&directory);
    assert_eq!(count(Calls::Changes, command()).code, Some(0));
    states.push(state());
    // Nothing; d; a; 1; 2; 600; b; c; e; its content; without b.
    states.dedup();
    assert_eq!(states.len(), 11, "{states:#?}");
}

fn a_boot_that_mounts_a_labelled_disk_can_be_killed() {
    survives_every_crash(&Case::of("plain"));
}

/// It looks into the disk, and marks it before it is staged. A reset would take back that the
/// kernel refuses writes meanwhile: the program is started again instead.
fn a_boot_that_only_a_name_leads_to_its_disk_can_be_killed() {
    survives_every_crash(&Case {
        disks: vec![("vdb", Image::ext4(""))],
        next: Next::Run,
        ..Case::of("name")
    });
}

/// Without a serial number another disk could have come with the next boot.
fn a_boot_that_formats_a_blank_disk_can_be_killed() {
    tool("mkfs.ext4");
    survives_every_crash(&Case {
        serial: Some("scratch"),
        configuration: "[staging]\nformat = \"blank\"\n".into(),
        disks: vec![("vdb", Image::blank(16))],
        ..Case::of("blank")
    });
}

fn a_boot_that_writes_mtab_and_tells_htcondor_can_be_killed() {
    let furnish = |machine: &Machine| {
        let mtab = machine.path("/etc/mtab");
        fs::remove_file(&mtab).unwrap();
        fs::write(mtab, "/dev/vda1 / ext3 rw 0 0\n").unwrap();
        for directory in [
            "/etc/condor/config.d",
            "/etc/profile.d",
            "/var/lib/prometheus/node-exporter",
        ] {
            fs::create_dir_all(machine.path(directory)).unwrap();
        }
    };
    survives_every_crash(&Case {
        furnish,
        ..Case::of("mtab")
    });
}

const DOCUMENT: &str = r#"{"uuid": "me", "meta": {"vmstage_lifetime": "36h"}}"#;

fn a_boot_that_is_told_a_lifetime_can_be_killed() {
    let service = Server::saying(200, "", DOCUMENT.as_bytes());
    let url = service.url();
    survives_every_crash(&Case {
        // A busy host may be slow.
        configuration: format!(
            "[metadata]\nsources = [\"openstack\"]\nurl = {url:?}\nrequest_timeout = \"15s\"\n"
        ),
        ..Case::of("metadata")
    });
}

fn a_boot_that_reads_a_config_drive_can_be_killed_and_started_again() {
    let machine = Machine::new();
    let drive = machine.disk("vdc", &Image::ext2("config-2"));
    let write =
        format!("mkdir -p openstack/latest; echo '{DOCUMENT}' > openstack/latest/meta_data.json");
    machine.prepare("/dev/vdc", &write);
    let drive = Image::read(&drive.file);
    drop(machine);
    let mut case = Case {
        configuration: "[metadata]\nsources = [\"config-drive\"]\n".into(),
        next: Next::Run,
        ..Case::of("drive")
    };
    case.disks.push(("vdc", drive));
    survives_every_crash(&case);
}

/// A machine before its first boot, and what comes after a crash of that.
struct Case {
    name: &'static str,
    configuration: String,
    disks: Vec<(&'static str, Image)>,
    /// Of the disks.
    serial: Option<&'static str>,
    furnish: fn(&Machine),
    next: Next,
}

enum Next {
    /// The machine boots again.
    Boot,
    /// The program is started again.
    Run,
}

impl Case {
    fn of(name: &'static str) -> Case {
        Case {
            name,
            configuration: String::new(),
            disks: vec![("vdb", Image::ext2("ephemeral0"))],
            serial: None,
            furnish: |_| {},
            next: Next::Boot,
        }
    }

    fn guest(&self) -> Guest {
        let mut machine = Machine::new();
        machine.configure(&self.configuration);
        let disks = self.disks.iter();
        let disks: Vec<Disk> = disks
            .map(|(name, image)| machine.disk(name, image))
            .collect();
        for disk in disks.iter().filter(|_| self.serial.is_some()) {
            let serial = self.serial.unwrap_or_default();
            machine.pretend(disk, &format!("echo {serial} >serial"));
        }
        (self.furnish)(&machine);
        Guest::with(machine, &disks)
    }

    fn next(&self, guest: &Guest) -> Outcome {
        if let Next::Boot = self.next {
            guest.reboot();
        }
        guest.machine.boot()
    }
}

/// What became of a boot that was killed, and of the next.
struct Crash {
    killed_before: String,
    problems: Vec<String>,
}

fn survives_every_crash(case: &Case) {
    let start = Instant::now();
    let guest = case.guest();
    let calls = count(Calls::Changes, guest.boot_command()).system_calls;
    let expected = Left::by(case.next(&guest).ready_on("/dev/vdb"), &guest);
    drop(guest);

    let points = in_turns((1..=calls).step_by(stride()).collect());
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let crashes = Mutex::new(Vec::new());
    let work = || {
        while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
            if began.elapsed() > LIMIT {
                break;
            }
            let crash = Crash::at(*point, case, &expected);
            crashes.lock().unwrap().push(crash);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(work);
        }
    });
    let crashes = crashes.into_inner().unwrap();
    println!(
        "{}: killed before {} of {calls} changes in {:.0?}",
        case.name,
        crashes.len(),
        start.elapsed()
    );
    let problems = summary(&crashes);
    assert!(problems.is_empty(), "{}: {problems}", case.name);
}

/// For each case, on a machine that is slow or busy.
const LIMIT: Duration = Duration::from_secs(100);

/// Spread evenly from the first one on: however early the time is up, all of the boot has been
/// looked at.
fn in_turns(points: Vec<usize>) -> Vec<usize> {
    let mut points: Vec<(usize, usize)> = points.into_iter().enumerate().collect();
    points.sort_by_key(|(index, _)| index.reverse_bits());
    points.into_iter().map(|(_, point)| point).collect()
}

/// Every change, or every nth.
fn stride() -> usize {
    let stride = std::env::var("VMSTAGE_CRASH_STRIDE").ok();
    stride.map_or(1, |stride| stride.parse().expect("VMSTAGE_CRASH_STRIDE"))
}

impl Crash {
    /// Kills a boot right before this system call, and looks at what the next one leaves.
    fn at(point: usize, case: &Case, expected: &Left) -> Crash {
        let guest = case.guest();
        let killed = kill_before(point, Calls::Changes, guest.boot_command()).killed_before;
        let killed = killed.unwrap_or("nothing: it had ended".into());
        let look = || problems(&case.next(&guest), &guest, expected);
        let looked = catch_unwind(AssertUnwindSafe(look));
        let problems = looked.unwrap_or_else(|panic| vec![text_of(&*panic)]);
        Crash {
            killed_before: format!("{point}: {killed}"),
            problems,
        }
    }
}

fn problems(boot: &Outcome, guest: &Guest, expected: &Left) -> Vec<String> {
    if boot.code == 0 {
        let mut problems = Left::by(boot, guest).problems(expected);
        // A child that another thread has just forked has our files open until its execve(2).
        let umount = "for try in $(seq 500); do umount /staging && break; sleep 0.01; done";
        let check = format!("{umount}; e2fsck -fn /dev/vdb 2>&1");
        let checked = guest.machine.try_sh(&check);
        if !checked.status.success() {
            let said = String::from_utf8_lossy(&checked.stdout);
            problems.push(format!("e2fsck finds fault: {said}"));
        }
        if !problems.is_empty() {
            problems.extend(warnings(boot));
        }
        return problems;
    }
    let error = &boot.the_status()["error"];
    let mut problems = vec![format!("the next boot fails with {}: {error}", boot.code)];
    if guest.machine.path("/staging").exists() {
        problems.push("a boot that fails leaves a mount point".into());
    }
    problems
}

/// They may explain a problem.
fn warnings(boot: &Outcome) -> Vec<String> {
    let warnings = boot.the_status()["warnings"].as_array().unwrap();
    let warnings = warnings
        .iter()
        .map(|warning| without_numbers(&warning.to_string()));
    warnings.collect()
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>();
    let first_line = text.and_then(|text| text.lines().next());
    format!("a panic: {}", first_line.unwrap_or("?"))
}

/// How often each problem was there, and after which crash first.
fn summary(crashes: &[Crash]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for crash in crashes {
        for problem in &crash.problems {
            kinds.entry(problem).or_default().push(&crash.killed_before);
        }
    }
    let lines = kinds.iter().map(|(problem, crashes)| {
        let (count, first) = (crashes.len(), crashes[0]);
        format!("\n{count:5} times {problem}; as when killed before {first}")
    });
    lines.collect()
}

/// A machine that can boot again.
struct Guest {
    machine: Machine,
    /// What is mounted before vmstage runs.
    mounts: Vec<Mount>,
}

impl Guest {
    fn with(mut machine: Machine, disks: &[Disk]) -> Guest {
        for changed in ["/etc", "/staging", "/var"] {
            machine.may_change(changed);
        }
        hide_processes(&machine);
        hide_other_disks(&machine, disks);
        fs::write(machine.path(BOOT_ID), "first").unwrap();
        bind(
            &machine.path(BOOT_ID),
            &machine.path(PROC).join("sys/kernel/random/boot_id"),
        );
        let mounts = machine.mounts();
        Guest { machine, mounts }
    }

    fn boot_command(&self) -> Command {
        let mut command = self.machine.command("/usr/sbin/vmstage", None);
        command.arg("boot");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Takes down what does not outlast a boot: mounts, and all of `/run`.
    fn reboot(&self) {
        let mounts = self.machine.mounts();
        for mount in mounts
            .iter()
            .rev()
            .filter(|mount| !self.mounts.contains(mount))
        {
            umount2(&self.machine.path(&mount.point), MntFlags::MNT_DETACH).unwrap();
        }
        assert_eq!(self.machine.mounts(), self.mounts);
        for entry in fs::read_dir(self.machine.path("/run")).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        fs::write(self.machine.path(BOOT_ID), "second").unwrap();
    }
}

const BOOT_ID: &str = "/root/boot-id";
const PROC: &str = "/root/proc";

/// Whoever looks at all processes makes a number of system calls that depends on this host.
fn hide_processes(machine: &Machine) {
    let (shown, whole) = (machine.path("/proc"), machine.path(PROC));
    fs::create_dir(&whole).unwrap();
    bind(&shown, &whole);
    umount2(&shown, MntFlags::MNT_DETACH).unwrap();
    for entry in fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with(|first: char| first.is_ascii_digit()) {
            symlink(format!("..{PROC}/{name}"), shown.join(name)).unwrap();
        }
    }
}

/// Likewise for the disks that the kernel has.
fn hide_other_disks(machine: &Machine, disks: &[Disk]) {
    let names: Vec<&str> = disks.iter().map(|disk| &*disk.kernel_name).collect();
    let shown = machine.path("/sys/block");
    let (tmpfs, nothing) = (Some("tmpfs"), None::<&str>);
    mount(tmpfs, &shown, tmpfs, MsFlags::empty(), nothing).unwrap();
    for name in &names {
        let device = format!("../devices/virtual/block/{name}");
        symlink(device, shown.join(name)).unwrap();
    }

    let list = machine.path("/proc/partitions");
    let all = fs::read_to_string(&list).unwrap();
    let is_shown = |line: &&str| match line.split_whitespace().nth(3) {
        Some(name) => name == "name" || names.contains(&name),
        None => true,
    };
    let lines: Vec<&str> = all.lines().filter(is_shown).collect();
    fs::remove_file(&list).unwrap();
    fs::write(list, lines.join("\n") + "\n").unwrap();
}

fn bind(from: &Path, to: &Path) {
    let nothing = None::<&str>;
    mount(Some(from), to, nothing, MsFlags::MS_BIND, nothing).unwrap();
}

/// What there is after a boot.
struct Left {
    /// Kind, mode and owner of everything on the root file system, in `/run` and on the
    /// scratch disk, by path.
    entries: BTreeMap<String, String>,
    mounts: Vec<Mount>,
    /// Of files that are the same after each boot.
    contents: BTreeMap<&'static str, String>,
}

impl Left {
    fn by(boot: &Outcome, guest: &Guest) -> Left {
        let machine = &guest.machine;
        let mut entries = BTreeMap::new();
        let trees = [
            ("", machine.root_tree()),
            ("run/", Tree::of(&machine.path("/run"))),
            ("staging/", Tree::of(&machine.path("/staging"))),
        ];
        for (place, tree) in trees {
            for (path, what) in tree.without_content() {
                entries.insert(format!("/{place}{path}"), what);
            }
            // Only a boot that writes something down anew has this lock.
            entries.remove("/run/vmstage/published.lock");
        }
        let contents = ["/etc/mtab", "/etc/condor/config.d/99-vmstage.config"];
        let contents = contents.into_iter().filter_map(|path| {
            let file = machine.path(path);
            let is_file = fs::symlink_metadata(&file).is_ok_and(|file| file.is_file());
            is_file.then(|| (path, fs::read_to_string(file).unwrap()))
        });
        // Those that were there before have the names of this machine's loop devices.
        let made = boot.mounts.iter();
        let made = made.filter(|mount| !guest.mounts.contains(mount));
        Left {
            entries,
            mounts: made.cloned().collect(),
            contents: contents.collect(),
        }
    }

    /// How it differs from what there has to be.
    fn problems(&self, expected: &Left) -> Vec<String> {
        let mut problems = Vec::new();
        for (path, what) in &self.entries {
            match expected.entries.get(path) {
                None => problems.push(format!("{path} is left behind ({what})")),
                Some(other) if what != other => {
                    problems.push(format!("{path} is {what}, and not {other}"))
                }
                _ => {}
            }
        }
        for path in expected.entries.keys() {
            if !self.entries.contains_key(path) {
                problems.push(format!("there is no {path}"));
            }
        }
        if self.mounts != expected.mounts {
            problems.push("other mounts".into());
        }
        for (path, content) in &self.contents {
            if Some(content) != expected.contents.get(path) {
                problems.push(format!("{path} has another content"));
            }
        }
        problems
            .into_iter()
            .map(|problem| without_numbers(&problem))
            .collect()
    }
}

/// Process ids differ from crash to crash.
fn without_numbers(text: &str) -> String {
    let mut result = String::new();
    for character in text.chars() {
        match character.is_ascii_digit() {
            true if result.ends_with('#') => {}
            true => result.push('#'),
            false => result.push(character),
        }
    }
    result
}
