//! Directories that somebody else can change: what is written there as root goes nowhere else,
//! and holds nobody.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Fault, Image, Machine, tool};

claims![
    // It takes longest.
    a_thousand_boots_follow_no_link_and_hang_at_none_while_the_directory_is_swapped,
    debian_s_directory_of_a_user_that_may_change_the_way_is_written_into,
    in_a_directory_of_a_user_s_the_file_is_the_user_s,
    nothing_is_written_that_the_user_could_not_write,
    a_link_or_a_pipe_that_a_user_laid_is_left_alone_with_a_warning,
    a_directory_of_a_third_is_left_alone,
    where_everybody_may_write_no_link_is_followed,
    links_of_the_system_s_own_are_followed,
    htcondor_s_directory_may_be_htcondor_s,
    what_lies_in_htcondor_s_directory_holds_no_boot,
    a_user_who_locks_the_file_holds_nobody_for_long,
    a_file_system_that_does_not_answer_costs_each_consumer_on_it_seconds_and_no_other_anything,
];

/// As Debian's `prometheus`.
const USER: u32 = 113;
const THIRD: u32 = 114;

const METRICS: &str = "/var/lib/prometheus/node-exporter/vmstage.prom";

/// How long a boot takes that nothing holds up, on a busy host.
const SOON: Duration = Duration::from_secs(4);

/// A machine with a disk, HTCondor, and a directory for metrics that was made by this script.
fn machine(script: &str) -> Machine {
    let mut machine = Machine::new();
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    for place in ["/etc/condor", "/var/lib", "/srv", "/etc/profile.d"] {
        machine.may_change(place);
    }
    machine.sh("mkdir -p /etc/condor/config.d /var/lib/prometheus /srv/victim");
    machine.sh(script);
    machine
}

fn owner(machine: &Machine, path: &str) -> (u32, u32, u32) {
    let file = fs::symlink_metadata(machine.path(path)).unwrap();
    (file.uid(), file.gid(), file.mode() & 0o7777)
}

/// That a boot is ready and warns of node_exporter, and has written metrics nowhere.
#[track_caller]
fn leaves_it_alone(machine: &Machine, words: &[&str]) {
    let boot = machine.boot();
    boot.ready_on("/dev/vdb")
        .warns(&[&["node_exporter could not be told"], words].concat());
    assert!(boot.took < SOON, "{boot}");
    assert_eq!(machine.sh("find / -xdev -name '*vmstage.prom*'"), "");
    assert_eq!(machine.sh("ls -A /srv/victim"), "");
    assert_eq!(
        machine.sh("ls -A /etc/condor/config.d"),
        "99-vmstage.config\n"
    );
}

fn debian_s_directory_of_a_user_that_may_change_the_way_is_written_into() {
    let machine =
        machine("mkdir /var/lib/prometheus/node-exporter; chown 113:113 /var/lib/prometheus");
    for _ in 0..2 {
        machine.boot().ready_on("/dev/vdb").warns_of_nothing();
        assert_eq!(owner(&machine, METRICS), (0, 0, 0o644));
        assert_eq!(
            machine.sh("ls -A /var/lib/prometheus/node-exporter"),
            "vmstage.prom\n"
        );
    }
}

fn in_a_directory_of_a_user_s_the_file_is_the_user_s() {
    let machine =
        machine("mkdir /var/lib/prometheus/node-exporter; chown -R 113:113 /var/lib/prometheus");
    // As a version before this one wrote it.
    fs::write(machine.path(METRICS), "old").unwrap();
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
    assert_eq!(owner(&machine, METRICS), (USER, 65534, 0o644));
    assert!(
        fs::read_to_string(machine.path(METRICS))
            .unwrap()
            .contains("vmstage_ready 1")
    );
}

fn nothing_is_written_that_the_user_could_not_write() {
    let machine = machine(
        "mkdir /var/lib/prometheus/node-exporter; chown -R 113:113 /var/lib/prometheus
         chmod 555 /var/lib/prometheus/node-exporter",
    );
    leaves_it_alone(&machine, &["Permission denied"]);
}

fn a_link_or_a_pipe_that_a_user_laid_is_left_alone_with_a_warning() {
    for (script, words) in [
        (
            "ln -s /etc/condor/config.d node-exporter",
            "is left alone: it is a link",
        ),
        (
            "ln -s ../../../srv/victim node-exporter",
            "is left alone: it is a link",
        ),
        ("mkfifo node-exporter", "node-exporter: Not a directory"),
        ("touch node-exporter", "node-exporter: Not a directory"),
        (
            "ln -s /dev/zero node-exporter",
            "is left alone: it is a link",
        ),
    ] {
        let machine = machine(&format!(
            "cd /var/lib/prometheus; {script}; chown -h 113 . node-exporter"
        ));
        leaves_it_alone(&machine, &[words]);
    }
    // Nor is the directory itself, or one above it.
    let machine = machine("ln -s /srv/victim /srv/link; chown -h 113 /srv /srv/link");
    let mut machine = machine;
    machine.configure("[report]\ntextfile_directory = \"/srv/link/x\"");
    machine.sh("mkdir /srv/victim/x");
    machine
        .boot()
        .ready_on("/dev/vdb")
        .warns(&["/srv/link is left alone: it is a link"]);
    assert_eq!(machine.sh("ls -A /srv/victim/x"), "");
}

fn a_directory_of_a_third_is_left_alone() {
    let machine = machine("mkdir /var/lib/prometheus/node-exporter; chown 113 /var/lib/prometheus");
    lchown(
        machine.path("/var/lib/prometheus/node-exporter"),
        Some(THIRD),
        None,
    )
    .unwrap();
    leaves_it_alone(
        &machine,
        &["it belongs to the user number 114", "of number 113"],
    );
}

fn where_everybody_may_write_no_link_is_followed() {
    for mode in ["777", "1777", "2775"] {
        let machine = machine(&format!(
            "chgrp 50 /var/lib/prometheus; chmod {mode} /var/lib/prometheus
             ln -s /srv/victim /var/lib/prometheus/node-exporter"
        ));
        leaves_it_alone(&machine, &["is left alone: it is a link"]);
        machine.sh("cd /var/lib/prometheus; rm node-exporter; mkdir node-exporter");
        machine.boot().ready_on("/dev/vdb").warns_of_nothing();
        assert!(machine.path(METRICS).exists());
    }
}

fn links_of_the_system_s_own_are_followed() {
    let machine = machine("rmdir /var/lib/prometheus; mkdir -p /srv/metrics/node-exporter");
    symlink("../../srv/metrics", machine.path("/var/lib/prometheus")).unwrap();
    machine.sh("mv /etc/condor/config.d /srv; ln -s /srv/config.d /etc/condor/config.d");
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
    assert!(
        machine
            .path("/srv/metrics/node-exporter/vmstage.prom")
            .exists()
    );
    assert!(machine.path("/srv/config.d/99-vmstage.config").exists());
}

fn htcondor_s_directory_may_be_htcondor_s() {
    let machine = machine("chown -R condor:condor /etc/condor");
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
    let drop_in = "/etc/condor/config.d/99-vmstage.config";
    assert_eq!(owner(&machine, drop_in), (64, 65534, 0o644));
    // It is no way to anywhere else.
    machine.sh("cd /etc/condor; mv config.d other; ln -s /srv/victim config.d");
    machine.boot().ready_on("/dev/vdb").warns(&[
        "HTCondor: it could not be told",
        "config.d is left alone: it is a link",
    ]);
    assert_eq!(machine.sh("ls -A /srv/victim"), "");
}

/// A site keeps a file of HTCondor's on a server that is down, or HTCondor's own user lays a link
/// or a pipe where the drop-in is.
fn what_lies_in_htcondor_s_directory_holds_no_boot() {
    for (script, warning) in [
        (
            "ln -s /srv/server/local /etc/condor/condor_config.local",
            "/etc/condor does not answer",
        ),
        (
            "chown condor /etc/condor/config.d
             ln -s /srv/server/x /etc/condor/config.d/99-vmstage.config",
            "/etc/condor/config.d/99-vmstage.config does not answer",
        ),
        (
            "chown condor /etc/condor/config.d; mkfifo /etc/condor/config.d/99-vmstage.config",
            "99-vmstage.config",
        ),
    ] {
        let machine = machine(script);
        let _server = machine.silent_mount("server:/x", "/srv/server");
        let boot = machine.boot();
        boot.ready_on("/dev/vdb").warns(&["HTCondor: ", warning]);
        assert!(boot.took < Duration::from_secs(18), "{boot}");
    }
}

fn a_user_who_locks_the_file_holds_nobody_for_long() {
    let machine =
        machine("mkdir /var/lib/prometheus/node-exporter; chown -R 113 /var/lib/prometheus");
    let script = "import fcntl, sys, time
file = open('/var/lib/prometheus/node-exporter/.vmstage.prom.new', 'w')
fcntl.flock(file, fcntl.LOCK_EX)
print('locked', flush=True)
time.sleep(60)";
    let mut holder = machine.command(tool("python3").to_str().unwrap(), Some(USER));
    let mut holder = holder
        .args(["-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 6];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).unwrap();
    let boot = machine.boot();
    boot.ready_on("/dev/vdb")
        .warns(&["node_exporter could not be told"]);
    assert!(boot.took < Duration::from_secs(12), "{boot}");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// As a server of the site's that is down: its directories are at HTCondor's place, at that of
/// the machine's features, and at that of the message of the day.
fn a_file_system_that_does_not_answer_costs_each_consumer_on_it_seconds_and_no_other_anything() {
    let machine =
        machine("mkdir -p /etc/machinefeatures /run/motd.d /var/lib/prometheus/node-exporter");
    let server = machine.faulty_disk("vdc", &Image::ext4("site"));
    let told = [
        ("HTCondor: it", "/etc/condor/config.d"),
        ("the machine and job features", "/etc/machinefeatures"),
        ("the message of the day", "/run/motd.d"),
    ];
    let places = told.map(|(_, place)| place);
    for place in places {
        machine.sh(&format!("mount -t ext4 /dev/vdc {place}"));
    }
    server.fault(Fault::Hang);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    for (consumer, place) in told {
        let said = format!("{consumer} could not be told: {place} does not answer");
        boot.warns(&[&said]);
    }
    assert!(boot.took < Duration::from_secs(26), "{boot}");
    assert!(machine.path(METRICS).exists());
    // And once it answers again, all are told.
    server.fault(Fault::None);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert!(!boot.stderr.contains("could not be told"), "{boot}");
    for place in places {
        assert_ne!(machine.sh(&format!("ls -A {place}")), "lost+found\n");
    }
}

/// Puts a link, a pipe, a link to a pipe and a directory of its own into the place of the
/// directory, one after the other, as fast as it can.
const SWAPPER: &str = "import os
os.chdir('/var/lib/prometheus')
os.symlink('/srv/victim', 'link')
os.symlink('/etc/condor/config.d', 'condor')
os.mkfifo('pipe')
os.symlink('pipe', 'to-pipe')
os.mkdir('own')
print('swaps', flush=True)
while True:
    for name in ['link', 'pipe', 'condor', 'own', 'to-pipe']:
        for names in [('node-exporter', 'real'), (name, 'node-exporter')]:
            os.rename(*names)
        for names in [('node-exporter', name), ('real', 'node-exporter')]:
            os.rename(*names)
";

fn a_thousand_boots_follow_no_link_and_hang_at_none_while_the_directory_is_swapped() {
    const BOOTS: usize = 1000;
    let machine = machine("mkdir /var/lib/prometheus/node-exporter; chown 113 /var/lib/prometheus");
    let boot = || -> Command {
        let mut command = machine.command("/usr/sbin/vmstage", None);
        command.arg("boot").stdin(Stdio::null());
        command
    };
    // From now on the disk is mounted.
    machine.boot().ready_on("/dev/vdb");
    let mut swapper = machine.command(tool("python3").to_str().unwrap(), Some(USER));
    let mut swapper = swapper
        .args(["-c", SWAPPER])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    std::io::Read::read_exact(swapper.stdout.as_mut().unwrap(), &mut said).unwrap();
    let files = [METRICS, "/var/lib/prometheus/real/vmstage.prom"].map(|file| machine.path(file));
    let (mut written, mut left_alone, mut longest) = (0, 0, Duration::ZERO);
    for _ in 0..BOOTS {
        // Each boot has something new to write, and so has to open what is there.
        for file in &files {
            let _ = fs::remove_file(file);
        }
        let start = Instant::now();
        let done = boot().output().unwrap();
        longest = longest.max(start.elapsed());
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{said}");
        left_alone += usize::from(said.contains("node_exporter could not be told"));
        written += usize::from(files.iter().any(|file| file.exists()));
    }
    assert!(swapper.try_wait().unwrap().is_none(), "nobody swapped");
    swapper.kill().unwrap();
    swapper.wait().unwrap();
    println!("{written} boots wrote, {left_alone} left it alone, the longest took {longest:?}");
    // Another test's HTCondor that is starting is waited for, five seconds.
    assert!(longest < 2 * SOON, "a boot took {longest:?}");
    assert_eq!(machine.sh("ls -A /srv/victim"), "");
    assert_eq!(
        machine.sh("ls -A /etc/condor/config.d"),
        "99-vmstage.config\n"
    );
    // Both were met, or it was no race.
    let both = written > 10 && left_alone > 10;
    assert!(both, "{written} wrote, {left_alone} left it alone");
}
