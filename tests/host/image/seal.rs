//! vmstage seal.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use super::old::{Image, Init, Run, difference};
use super::overlay::Overlay;
use crate::common::tracer::{Calls, count, kill_before};
use crate::common::{
    copy_program, need_root, private_mounts, program, scratch_file, write_program,
};

claims![
    a_dry_run_lists_all_and_changes_nothing,
    a_second_time_there_is_nothing_to_do,
    it_is_said_what_each_item_did,
    as_json_it_is_the_same,
    what_must_stay_stays_byte_for_byte,
    where_nobody_can_be_asked_it_has_to_be_agreed_before,
    a_person_at_a_terminal_is_shown_the_list_and_asked,
    what_is_mounted_in_the_image_stays,
    what_is_mounted_in_the_image_from_the_same_disk_stays,
    what_cannot_be_removed_keeps_nothing_else_in_the_image,
    what_cannot_be_looked_at_keeps_nothing_else_in_the_image,
    as_json_it_is_a_document_whatever_becomes_of_it,
    what_lies_on_the_scratch_disk_stays,
    an_image_that_is_read_only_is_said_and_unchanged,
    a_full_image_is_said_and_keeps_what_it_had,
    what_is_no_root_directory_is_refused,
    files_that_could_hold_it_do_not,
    another_at_work_is_waited_for_by_the_person,
    what_is_killed_in_the_middle_is_completed_by_the_next_run,
    only_a_machine_that_runs_can_be_switched_off,
    a_wrong_configuration_stops_it,
    nothing_outside_of_the_image_is_written,
    a_machine_on_which_jobs_run_is_not_sealed,
    what_runs_is_stopped_before_anything_goes,
    what_lies_below_the_mounted_scratch_disk_is_seen,
    what_was_installed_into_a_machine_that_runs_is_noted,
    the_part_for_cloud_init_takes_vmstages_own_and_nothing_else,
];

/// What a machine that ran leaves; and what no image may lose.
const ONE_MACHINES: &[(&str, &str)] = &[
    ("/etc/machine-id", "0123456789abcdef\n"),
    ("/var/lib/dbus/machine-id", "0123456789abcdef\n"),
    ("/var/lib/systemd/random-seed", "x"),
    ("/etc/ssh/ssh_host_rsa_key", "x"),
    ("/etc/ssh/ssh_host_rsa_key.pub", "x"),
    ("/var/lib/vmstage/first-boot-i-00000001.json", "{}"),
    ("/run/vmstage/status.json", "{}"),
    ("/etc/condor/config.d/99-vmstage.config", "START = False\n"),
    ("/etc/profile.d/vmstage.sh", "x"),
    ("/etc/machinefeatures/.vmstage", "shutdowntime 1\n"),
    ("/etc/machinefeatures/shutdowntime", "1"),
    ("/etc/udev/rules.d/70-persistent-net.rules", "x"),
    ("/var/lib/dhcp/dhclient.leases", "x"),
    ("/var/lib/cloud/instances/i-1/user-data", "x"),
    (
        "/var/lib/condor/spool/job_queue.log",
        "101 0.0 Job Machine\n",
    ),
    ("/var/lib/condor/execute/dir_7/x", "x"),
];

const CONDOR_CONFIG: &str = "LOCAL_DIR = /var\nLOCAL_CONFIG_DIR = /etc/condor/config.d\n\
                             SPOOL = $(LOCAL_DIR)/lib/condor/spool\nLOG = $(LOCAL_DIR)/log/condor\n\
                             EXECUTE = $(LOCAL_DIR)/lib/condor/execute\n";

const EVERYBODYS: &[(&str, &str)] = &[
    ("/etc/passwd", "root:x:0:0::/:\ncondor:x:64:64::/:\n"),
    ("/etc/group", "root:x:0:\ncondor:x:64:\n"),
    ("/etc/shadow", "root:*:1::::::\n"),
    ("/etc/sudoers", "root ALL\n"),
    ("/etc/sudoers.d/site", "me ALL\n"),
    ("/root/.ssh/authorized_keys", "ssh-rsa x\n"),
    ("/home/me/.ssh/authorized_keys", "ssh-rsa x\n"),
    ("/home/me/.bash_history", "ls\n"),
    ("/etc/condor/tokens.d/pool", "secret"),
    ("/etc/condor/passwords.d/POOL", "secret"),
    ("/etc/condor/condor_config", CONDOR_CONFIG),
    ("/etc/condor/config.d/00-site", "START = True\n"),
    ("/etc/machinefeatures/hs06", "10"),
    ("/etc/vmstage.toml", "# mine\n"),
    (
        "/var/lib/dpkg/status",
        "Package: condor\nStatus: install ok installed\n",
    ),
    ("/var/lib/cloud/seed/nocloud/meta-data", "x"),
    ("/etc/cloud/cloud.cfg", "cloud_init_modules:\n - ssh\n"),
    ("/usr/bin/cloud-init", ""),
    ("/usr/lib/systemd/system/cloud-init.service", "[Service]\n"),
    (
        "/etc/systemd/system/cloud-init.target.wants/cloud-init.service",
        "",
    ),
    ("/var/log/messages", "x"),
    ("/tmp/mine", "x"),
];

fn machine() -> Image {
    let image = Image::old(Init::Systemd);
    for (path, content) in ONE_MACHINES.iter().chain(EVERYBODYS) {
        image.write(path, content);
    }
    let fstab = "/dev/sdb /data ext4\n/dev/vdb /mnt auto nofail,comment=cloudconfig 0 2\n";
    image.write("/etc/fstab", fstab);
    image
}

#[track_caller]
fn seal(image: &Image, arguments: &[&str]) -> Run {
    let run = image.run("seal", &[&["--yes"], arguments].concat());
    assert_eq!(run.code, 0, "{run}");
    run
}

fn a_dry_run_lists_all_and_changes_nothing() {
    let image = machine();
    let before = image.listing();
    let rehearsed = image.run("seal", &["--dry-run", "--logs"]);
    assert_eq!(rehearsed.code, 0, "{rehearsed}");
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
    assert!(
        rehearsed.stdout.contains("nothing was changed"),
        "{rehearsed}"
    );
    let done = seal(&image, &["--logs"]).stdout;
    let foreseen = rehearsed.stdout.replace(": would ", ": ");
    for line in done.lines().filter(|line| !line.starts_with("sealed")) {
        assert!(
            foreseen.contains(line),
            "nothing said of: {line}\n{foreseen}"
        );
    }
}

fn a_second_time_there_is_nothing_to_do() {
    let image = machine();
    seal(&image, &["--logs", "--condor"]);
    let before = image.listing();
    let again = seal(&image, &["--logs", "--condor"]);
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
    assert!(!again.stdout.contains(": remove "), "{again}");
    assert!(!again.stdout.contains(": change "), "{again}");
}

fn it_is_said_what_each_item_did() {
    let said = seal(&machine(), &[]).stdout;
    for line in [
        "reports: remove /etc/condor/config.d/99-vmstage.config\n",
        "state: remove /var/lib/vmstage/first-boot-i-00000001.json",
        "fstab: change /etc/fstab\n",
        "machine-id: change /etc/machine-id\n",
        "dbus-machine-id: remove /var/lib/dbus/machine-id\n",
        "random-seeds: remove /var/lib/systemd/random-seed\n",
        "host-keys: remove /etc/ssh/ssh_host_rsa_key\n",
        "cloud-init: remove /var/lib/cloud/instances",
        "net-rules: remove /etc/udev/rules.d/70-persistent-net.rules\n",
        "leases: remove /var/lib/dhcp/dhclient.leases\n",
        "condor: remove /var/lib/condor/execute/dir_7",
        "secrets: /root/.ssh/authorized_keys stays",
        "secrets: /etc/condor/tokens.d/pool stays",
        "sealed: ",
    ] {
        assert!(said.contains(line), "no {line}\n{said}");
    }
}

fn as_json_it_is_the_same() {
    let text = machine().run("seal", &["--dry-run"]).stdout;
    let json = machine().run("seal", &["--dry-run", "--format", "json"]);
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["dry_run"], true);
    for item in document["items"].as_array().unwrap() {
        let id = item["item"].as_str().unwrap();
        for done in item["done"].as_array().unwrap() {
            let line = format!("{id}: would {}\n", done.as_str().unwrap());
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}

fn what_must_stay_stays_byte_for_byte() {
    let image = machine();
    let before = image.listing();
    seal(&image, &["--condor"]);
    let after = image.listing();
    for (path, _) in EVERYBODYS {
        assert_eq!(after.get(*path), before.get(*path), "{path}");
    }
    for (path, _) in ONE_MACHINES {
        let is_empty = *path == "/etc/machine-id" && image.read(path).is_empty();
        assert!(is_empty || !image.exists(path), "{path} is there");
    }
    assert_eq!(image.read("/etc/fstab"), "/dev/sdb /data ext4\n");
    // The mount point of the image's own and its directories are there, for the next boot.
    for path in [
        "/var/lib/condor/spool",
        "/var/lib/condor/execute",
        "/etc/condor/config.d",
    ] {
        assert!(image.path(path).is_dir(), "{path}");
    }
}

fn where_nobody_can_be_asked_it_has_to_be_agreed_before() {
    let image = machine();
    let before = image.listing();
    let mut command = image.command("seal", &[]);
    let run: Run = command.stdin(Stdio::null()).output().unwrap().into();
    assert!(run.code == 2 && run.stderr.contains("--yes"), "{run}");
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
}

fn a_person_at_a_terminal_is_shown_the_list_and_asked() {
    for (answer, code) in [("n\n", 1), ("\n", 1), ("y\n", 0)] {
        let image = machine();
        let before = image.listing();
        let mut terminal = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname_r(&terminal).unwrap();
        let open = || {
            let mut options = File::options();
            options
                .read(true)
                .write(true)
                .custom_flags(OFlag::O_NOCTTY.bits());
            options.open(&name).unwrap()
        };
        let mut command = image.command("seal", &[]);
        command.stdin(open()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        terminal.write_all(answer.as_bytes()).unwrap();
        let mut said = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{said}");
        let question = said.find("[y/N]").unwrap();
        let shown = said
            .find("machine-id: would change /etc/machine-id")
            .unwrap();
        assert!(shown < question, "{said}");
        let is_changed = !difference(&before, &image.listing()).is_empty();
        assert_eq!(is_changed, code == 0, "{answer:?}: {said}");
    }
}

fn tmpfs(on: &Path, options: &str) {
    fs::create_dir_all(on).unwrap();
    mount(
        Some("tmpfs"),
        on,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
    .unwrap();
}

fn what_is_mounted_in_the_image_stays() {
    private_mounts();
    let image = machine();
    for path in [
        "/var/lib/cloud/data",
        "/var/lib/condor/execute",
        "/tmp/volume",
    ] {
        tmpfs(&image.path(path), "");
        image.write(&format!("{path}/results"), "mine");
    }
    let run = seal(&image, &["--logs"]);
    for path in [
        "/var/lib/cloud/data",
        "/var/lib/condor/execute",
        "/tmp/volume",
    ] {
        assert_eq!(image.read(&format!("{path}/results")), "mine", "{run}");
    }
    assert!(run.stdout.contains("it is on another disk"), "{run}");
}

/// A directory of the same disk, of which no number tells that it is somewhere else.
fn what_is_mounted_in_the_image_from_the_same_disk_stays() {
    private_mounts();
    let image = machine();
    image.write("/srv/results/x", "mine");
    for path in ["/var/lib/condor/execute", "/var/lib/cloud/data/deep"] {
        image.directory(path);
        let (from, to) = (image.path("/srv/results"), image.path(path));
        mount(
            Some(&from),
            &to,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .unwrap();
    }
    let run = seal(&image, &["--logs"]);
    assert_eq!(image.read("/srv/results/x"), "mine", "{run}");
    assert!(
        run.stdout.contains("what it is in is mounted there"),
        "{run}"
    );
    assert!(run.stdout.contains("something is mounted there"), "{run}");
}

fn what_cannot_be_removed_keeps_nothing_else_in_the_image() {
    let image = machine();
    // Root is kept out by the attribute alone.
    let held = image.path("/var/lib/systemd/random-seed");
    let attribute = |change: &str| {
        let changed = Command::new("chattr").arg(change).arg(&held).status();
        changed.is_ok_and(|status| status.success())
    };
    if !attribute("+i") {
        crate::common::skip("no chattr +i on this file system");
    }
    let run = image.run("seal", &["--yes", "--poweroff"]);
    assert_eq!(run.code, 2, "{run}");
    let run = image.run("seal", &["--yes", "--format", "json"]);
    assert!(attribute("-i"));
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(run.code, 1, "{run}");
    let error = document["error"].as_str().unwrap();
    assert!(
        error.contains("random-seed") && error.contains("run again"),
        "{run}"
    );
    assert!(run.stderr.contains(error), "{run}");
    assert_eq!(document["next"], Value::Array(Vec::new()), "{run}");
    let items = document["items"].as_array().unwrap();
    let seeds = items.iter().find(|item| item["item"] == "random-seeds");
    let seeds = seeds.unwrap();
    assert_eq!(seeds["failed"].as_array().unwrap().len(), 1, "{run}");
    assert_eq!(seeds["done"].as_array().unwrap().len(), 0, "{run}");
    // All that comes after it.
    assert_eq!(image.read("/etc/machine-id"), "");
    for path in ["/etc/ssh/ssh_host_rsa_key", "/var/lib/condor/execute/dir_7"] {
        assert!(!image.exists(path), "{path}: {run}");
    }
    seal(&image, &[]);
    assert!(!image.exists("/var/lib/systemd/random-seed"));
}

/// What cannot be read is said, and in the image; all else is not.
fn what_cannot_be_looked_at_keeps_nothing_else_in_the_image() {
    let too_large = vec![b'x'; (1 << 20) + 1];
    type Spoil<'a> = &'a dyn Fn(&Image, &str);
    let fifo: Spoil = &|image, path| mkfifo(&image.path(path), Mode::S_IRWXU).unwrap();
    let large: Spoil = &|image, path| image.write(path, &too_large);
    let circle: Spoil = &|image, path| image.link(path, path);
    let cases = [
        ("/etc/fstab", fifo, "fstab"),
        ("/etc/fstab", large, "fstab"),
        ("/etc/machine-id", large, "machine-id"),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", large, "hwaddr"),
        ("/etc/ssh", circle, "host-keys"),
        ("/var/lib/cloud", circle, "cloud-init"),
        ("/var/lib/systemd", circle, "random-seeds"),
        ("/var/lib/vmstage", circle, "state"),
        ("/etc/condor/config.d", circle, "reports"),
        ("/etc/motd", large, "reports"),
    ];
    for (path, spoil, item) in cases {
        let image = machine();
        let there = image.path(path);
        let _ = fs::remove_file(&there);
        let _ = fs::remove_dir_all(&there);
        spoil(&image, path);
        for arguments in [&["--dry-run"][..], &["--yes"]] {
            let run = image.run("seal", arguments);
            assert_eq!(run.code, 1, "{path}: {run}");
            let line = format!("{item}: failed: ");
            assert!(run.stdout.contains(&line), "{path}: {run}");
        }
        for (other, gone) in [
            ("/etc/machine-id", "machine-id"),
            ("/var/lib/systemd/random-seed", "random-seeds"),
            ("/etc/condor/config.d/99-vmstage.config", "reports"),
            ("/etc/ssh/ssh_host_rsa_key", "host-keys"),
        ] {
            let is_gone = !image.exists(other) || image.read(other).is_empty();
            assert!(
                is_gone || gone == item || other.starts_with(path),
                "{path}: {other}"
            );
        }
    }
}

fn as_json_it_is_a_document_whatever_becomes_of_it() {
    let image = machine();
    image.write("/etc/vmstage.toml", "[stagin]\n");
    let wrong = image.run("seal", &["--yes", "--format", "json"]);
    image.write("/etc/vmstage.toml", "");
    let nobody = image.run("seal", &["--format", "json"]);
    let no_power = image.run("seal", &["--yes", "--poweroff", "--format", "json"]);
    let held = File::open(image.root()).unwrap();
    held.lock().unwrap();
    let locked = image.run("seal", &["--yes", "--format", "json"]);
    held.unlock().unwrap();
    let elsewhere = |command: &str| -> Run {
        let arguments = [command, "--format", "json", "--root", "/nonexistent"];
        let output = Command::new(program()).args(arguments).output();
        output.unwrap().into()
    };
    for (run, code, words) in [
        (wrong, 6, "stagin"),
        (nobody, 2, "nobody to ask"),
        (no_power, 2, "--poweroff"),
        (locked, 1, "another vmstage is at work"),
        (elsewhere("seal"), 1, "No such file"),
    ] {
        let document: Value = serde_json::from_str(&run.stdout).expect("a document");
        let error = document["error"].as_str().expect("an error");
        assert!(run.code == code && error.contains(words), "{run}");
        assert!(run.stderr.contains(error), "{run}");
        for list in ["items", "stopped", "next"] {
            assert_eq!(document[list], Value::Array(Vec::new()), "{run}");
        }
        assert_eq!(document["dry_run"], false);
    }
    let run = elsewhere("check");
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(
        run.code == 1 && run.stderr.contains("No such file"),
        "{run}"
    );
    assert_eq!(document["findings"], Value::Array(Vec::new()));
    assert!(document["error"].as_str().unwrap().contains("No such file"));
    let fine = image.run("seal", &["--dry-run", "--format", "json"]);
    let document: Value = serde_json::from_str(&fine.stdout).unwrap();
    assert_eq!((fine.code, &document["error"]), (0, &Value::Null), "{fine}");
}

fn what_lies_on_the_scratch_disk_stays() {
    private_mounts();
    let image = machine();
    image.directory("/staging/condor");
    tmpfs(&image.path("/staging"), "");
    image.directory("/staging/condor");
    image.write(
        "/etc/condor/condor_config",
        "EXECUTE = /staging/condor\nSPOOL = /staging/condor/spool\n",
    );
    image.write("/staging/condor/dir_1/x", "a job's");
    image.write("/staging/condor/spool/job_queue.log", "");
    let run = seal(&image, &["--condor", "--logs"]);
    assert_eq!(image.read("/staging/condor/dir_1/x"), "a job's", "{run}");
    assert!(image.exists("/staging/condor/spool/job_queue.log"));
    assert!(run.stdout.contains("hides what lies below it"), "{run}");
}

fn an_image_that_is_read_only_is_said_and_unchanged() {
    private_mounts();
    let image = machine();
    let before = image.listing();
    image.make_read_only();
    let run = image.run("seal", &["--yes"]);
    assert!(
        run.code == 1 && run.stderr.contains("Read-only file system"),
        "{run}"
    );
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
}

fn a_full_image_is_said_and_keeps_what_it_had() {
    private_mounts();
    let directory = scratch_file();
    tmpfs(&directory, "nr_inodes=60");
    let image = Image::at(directory.join("image"), Init::Systemd);
    image.write("/etc/fstab", "/dev/vdb /mnt auto comment=cloudconfig\n");
    let mut number = 0;
    while File::create(directory.join(number.to_string())).is_ok() {
        number += 1;
    }
    let run = image.run("seal", &["--yes"]);
    assert!(
        run.code == 1 && run.stderr.contains("No space left"),
        "{run}"
    );
    assert!(run.stderr.contains("run again"), "{run}");
    assert_eq!(
        image.read("/etc/fstab"),
        "/dev/vdb /mnt auto comment=cloudconfig\n"
    );
    fs::remove_file(directory.join("0")).unwrap();
    seal(&image, &[]);
    assert_eq!(image.read("/etc/fstab"), "");
}

fn what_is_no_root_directory_is_refused() {
    let link = scratch_file();
    symlink("/", &link).unwrap();
    for (root, words) in [
        (link.to_str().unwrap(), "say --root /"),
        ("/proc/self/root", "say --root /"),
        ("/nonexistent", "No such file"),
        ("/dev/null", "Not a directory"),
    ] {
        // If it were taken for one, nothing would be removed.
        let output = Command::new(program())
            .args(["seal", "--dry-run", "--root", root])
            .output();
        let run: Run = output.unwrap().into();
        assert!(run.code == 1 && run.stderr.contains(words), "{run}");
    }
    fs::remove_file(link).unwrap();
}

fn files_that_could_hold_it_do_not() {
    for path in [
        "/etc/fstab",
        "/etc/machine-id",
        "/var/lib/dbus/machine-id",
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/motd",
        "/etc/machinefeatures/.vmstage",
        "/etc/machinefeatures/shutdowntime",
        "/etc/sysconfig/network-scripts/ifcfg-eth0",
        "/var/lib/vmstage/first-boot-i-00000001.json",
        "/var/lib/condor/spool/job_queue.log",
        "/etc/condor/condor_config",
        "/etc/cloud/cloud.cfg",
        "/var/log/messages",
        "/var/lib/dhcp/dhclient.leases",
    ] {
        let image = machine();
        let file = image.path(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::remove_file(&file).ok();
        mkfifo(&file, Mode::S_IRWXU).unwrap();
        let start = Instant::now();
        let run = image.run("seal", &["--yes", "--logs"]);
        assert!(start.elapsed() < Duration::from_secs(10), "{path}: {run}");
        // It works around it, or says which file it is.
        assert!(
            run.code == 0 || run.code == 1 && run.stderr.contains(path),
            "{path}: {run}"
        );
    }
}

fn another_at_work_is_waited_for_by_the_person() {
    let image = machine();
    let held = File::open(image.root()).unwrap();
    held.lock().unwrap();
    let run = image.run("seal", &["--yes"]);
    assert!(
        run.code == 1 && run.stderr.contains("another vmstage is at work"),
        "{run}"
    );
    // Not by closing it: a child that another test forks meanwhile has it as well.
    held.unlock().unwrap();
    seal(&image, &[]);
}

/// Before any of its system calls that change something.
fn what_is_killed_in_the_middle_is_completed_by_the_next_run() {
    let whole = machine();
    let calls = count(Calls::Changes, whole.silent("seal", &["--yes"])).system_calls;
    let expected = whole.listing();
    for nth in 1..=calls {
        let image = machine();
        let killed = kill_before(nth, Calls::Changes, image.silent("seal", &["--yes"]));
        assert_eq!(killed.code, None);
        seal(&image, &[]);
        let left = difference(&expected, &image.listing());
        assert_eq!(left, [""; 0], "killed before {:?}", killed.killed_before);
    }
}

fn only_a_machine_that_runs_can_be_switched_off() {
    let image = machine();
    let before = image.listing();
    let run = image.run("seal", &["--yes", "--poweroff"]);
    assert!(run.code == 2 && run.stderr.contains("--poweroff"), "{run}");
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
}

fn a_wrong_configuration_stops_it() {
    let image = machine();
    image.write("/etc/vmstage.toml", "[stagin]\n");
    let before = image.listing();
    let run = image.run("seal", &["--yes"]);
    assert_eq!(run.code, 6, "{run}");
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
}

fn nothing_outside_of_the_image_is_written() {
    let overlay = Overlay::new();
    copy_program(&program(), &overlay.merged.join("vmstage"));
    let before = overlay.written();
    let old = machine();
    overlay.take(&old);
    for (command, code) in [
        (&["check"][..], 11),
        (&["seal", "--dry-run"], 0),
        (&["seal", "--yes", "--logs", "--condor"], 0),
        (&["check", "--format", "json"], 11),
    ] {
        let arguments = [command, &["--root", "/image"]].concat();
        let said = overlay.run(Path::new("/vmstage"), &arguments);
        let ended = format!("ExitStatus(unix_wait_status({}))", code << 8);
        assert!(said.contains(&ended), "{arguments:?}: {said}");
    }
    assert_eq!(overlay.written(), before);
}

/// A system that runs, as far as this program can tell: process 1 of a namespace has its root.
struct System {
    image: Image,
}

impl System {
    fn new() -> System {
        private_mounts();
        need_root();
        let busybox = crate::common::tool("busybox");
        let image = machine();
        copy_program(&busybox, &image.path("/bin/busybox"));
        image.write("/bin/placeholder", "");
        copy_program(&program(), &image.path("/usr/sbin/vmstage"));
        let libraries = libraries();
        for path in ["/proc", "/sys", "/staging", &libraries, "/lib64"] {
            image.directory(path);
        }
        image.write("/dev/null", "");
        for name in ["condor_starter", "condor_master"] {
            image.script(
                &format!("/usr/sbin/{name}"),
                "#!/bin/busybox sh\nwhile :; do /bin/busybox sleep 1; done\n",
            );
        }
        // The root file system is a mount of its own, as a machine's is.
        mount(
            Some(image.root()),
            image.root(),
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .unwrap();
        System { image }
    }

    /// Runs a script in it, as process 1, without a network.
    fn run(&self, script: &str) -> Run {
        let script = format!(
            "busybox() {{ /bin/busybox \"$@\"; }}; busybox mount -t proc proc /proc; {script}"
        );
        // With the libraries of this machine, for the build of these tests.
        let libraries = libraries();
        let enter = "for directory in $2 /lib64; do \
                     [ ! -d $directory ] || mount --bind $directory $1$directory || exit 99; done; \
                     exec chroot $1 /bin/busybox sh -c \"$3\"";
        let output = Command::new("unshare")
            .args([
                "--mount", "--net", "--pid", "--fork", "sh", "-c", enter, "sh",
            ])
            .arg(self.image.root())
            .args([&libraries, &script])
            .stdin(Stdio::null())
            .output();
        output.unwrap().into()
    }
}

fn libraries() -> String {
    format!("/lib/{}-linux-gnu", std::env::consts::ARCH)
}

fn a_machine_on_which_jobs_run_is_not_sealed() {
    let system = System::new();
    let before = system.image.listing();
    let run =
        system.run("/usr/sbin/condor_starter & busybox sleep 0.3; vmstage seal --yes --root /");
    assert!(
        run.code == 1
            && run
                .stderr
                .contains("HTCondor runs jobs here (condor_starter: 1)"),
        "{run}"
    );
    assert_eq!(difference(&before, &system.image.listing()), [""; 0]);
    // There is no condor_master that would end it.
    let run = system.run(
        "/usr/sbin/condor_starter & busybox sleep 0.3; vmstage seal --yes --force --root /; \
         code=$?; busybox pgrep -f condor_starte[r] && exit 91; exit $code",
    );
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stdout.contains("stopped: HTCondor"), "{run}");
    assert_eq!(system.image.read("/etc/machine-id"), "");
}

fn what_runs_is_stopped_before_anything_goes() {
    let system = System::new();
    // What `watch` would write again, and what HTCondor writes at its end.
    system.image.script(
        "/etc/init.d/condor",
        "#!/bin/busybox sh\n/bin/busybox pkill -f condor_maste[r]\n\
         echo x >/var/lib/condor/spool/written-at-the-end\ntest -e /etc/machine-id && \
         test -s /etc/machine-id && echo before >/var/condor-stopped\n",
    );
    let run = system.run(
        "/usr/sbin/condor_master & vmstage watch & busybox sleep 2; vmstage seal --yes; code=$?; \
         busybox pgrep -f 'vmstage watc[h]' && exit 90; \
         busybox pgrep -f condor_maste[r] && exit 91; exit $code",
    );
    assert_eq!(run.code, 0, "{run}");
    let said = &run.stdout;
    let stopped = said.find("stopped: HTCondor").expect(said);
    let watch = said.find("stopped: vmstage watch").expect(said);
    assert!(
        stopped < watch && watch < said.find("reports: ").unwrap(),
        "{said}"
    );
    assert!(said.contains("if it is to go on"), "{said}");
    assert_eq!(system.image.read("/var/condor-stopped"), "before\n");
    assert!(
        !system
            .image
            .exists("/var/lib/condor/spool/written-at-the-end")
    );
    assert!(!system.image.exists("/run/vmstage"));
}

fn what_lies_below_the_mounted_scratch_disk_is_seen() {
    let system = System::new();
    for path in ["/staging/condor", "/staging/tmp"] {
        system.image.directory(path);
    }
    system.image.write("/staging/tmp/results", "12345");
    let mounted =
        "busybox mount -t tmpfs tmpfs /staging; busybox mkdir /staging/condor /staging/tmp; ";
    let run = system.run(&format!("{mounted} vmstage check"));
    assert!(
        run.stdout.contains("warning below-mount /staging: 5 B"),
        "{run}"
    );
    let run = system.run(&format!(
        "{mounted} vmstage seal --yes && busybox ls /staging"
    ));
    assert_eq!(run.code, 0, "{run}");
    assert!(
        run.stdout.contains("below-mount: /staging/tmp stays: 5 B"),
        "{run}"
    );
    // The disk's own are there.
    assert!(run.stdout.ends_with("condor\ntmp\n"), "{run}");
    assert!(!system.image.exists("/staging/condor"), "{run}");
    assert_eq!(system.image.read("/staging/tmp/results"), "12345");
}

fn what_was_installed_into_a_machine_that_runs_is_noted() {
    let system = System::new();
    let note = "note not-started /usr/sbin/vmstage: ";
    let before = system.run("vmstage check");
    assert!(!before.stdout.contains(note), "{before}");
    let run = system
        .run("busybox rm -r /run/vmstage; vmstage install --root / >/dev/null; vmstage check");
    let has_not_run = format!("{note}vmstage is enabled, and has not run in this boot");
    assert!(run.stdout.contains(&has_not_run), "{run}");
    // An image that does not run has no such note.
    let image = system.image.run("check", &[]);
    assert!(!image.stdout.contains(note), "{image}");
}

fn the_part_for_cloud_init_takes_vmstages_own_and_nothing_else() {
    let system = System::new();
    let part = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/cloud-init/50-vmstage");
    let script = system.image.path("/etc/cloud/clean.d/50-vmstage");
    fs::create_dir_all(script.parent().unwrap()).unwrap();
    let content = fs::read_to_string(part).unwrap();
    write_program(
        &script,
        content.replacen("#!/bin/sh", "#!/bin/busybox sh", 1),
    );
    let before = system.image.listing();
    let run = system.run("vmstage watch & busybox sleep 2; /etc/cloud/clean.d/50-vmstage");
    assert_eq!(run.code, 0, "{run}");
    let gone = difference(&before, &system.image.listing());
    let is_ours = |path: &String| {
        [
            "vmstage",
            "machinefeatures",
            "/var/lib$",
            "shutdowntime",
            "/run/motd.d",
        ]
        .iter()
        .any(|w| path.contains(w))
    };
    assert!(gone.iter().all(is_ours), "{gone:?}");
    assert!(gone.contains(&"gone /var/lib/vmstage/first-boot-i-00000001.json".to_string()));
    assert!(gone.contains(&"gone /etc/condor/config.d/99-vmstage.config".to_string()));
    // The machine may go on, and watch does not.
    assert!(
        run.stdout.contains("systemctl restart vmstage-watch"),
        "{run}"
    );
    let run = system.run("/etc/cloud/clean.d/50-vmstage");
    assert!(!run.stdout.contains("restart"), "{run}");

    // As cloud-init runs it, while `seal` has begun that.
    let system = System::new();
    system.image.script(
        "/usr/bin/cloud-init",
        "#!/bin/busybox sh\nfor part in /etc/cloud/clean.d/*; do $part || exit 1; done\necho x >/var/cleaned\n",
    );
    let script = system.image.path("/etc/cloud/clean.d/50-vmstage");
    fs::create_dir_all(script.parent().unwrap()).unwrap();
    write_program(
        &script,
        content.replacen("#!/bin/sh", "#!/bin/busybox sh", 1),
    );
    let run = system.run("vmstage seal --yes");
    assert_eq!(run.code, 0, "{run}");
    assert!(
        run.stdout.contains("cloud-init: run cloud-init clean"),
        "{run}"
    );
    assert!(system.image.exists("/var/cleaned"));
}
