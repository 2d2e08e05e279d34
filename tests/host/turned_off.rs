//! Consumers that are turned off: what was written for them goes, and nothing else does.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Image, Machine, Running};

claims![
    what_was_written_goes_at_the_next_boot,
    a_configuration_that_is_wrong_turns_nobody_off,
    at_sighup_what_was_turned_off_goes_and_the_log_follows,
];

const ALL_OFF: &str = "[report]\ncondor = false\nmachine_features = false\nmotd = false\n\
                       textfile = false\nsyslog = false\n";

const PATIENCE: Duration = Duration::from_secs(20);

/// A machine on which everybody is who is told by files, with a disk.
fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    for place in ["/etc", "/run", "/var/lib", "/staging"] {
        machine.may_change(place);
    }
    machine.sh(
        "mkdir -p /etc/condor/config.d /etc/profile.d /var/lib/prometheus/node-exporter
         echo START = True > /etc/condor/config.d/50-site
         chown 113:113 /var/lib/prometheus",
    );
    machine
}

/// All files that this program has written for others, by their names.
fn published(machine: &Machine) -> String {
    machine.sh(
        "find /etc /run/motd.d /var/lib/prometheus -name '*vmstage*' -o -name .vmstage \
         -o -path '*features/*' | grep -v vmstage.toml | sort || true",
    )
}

const DROP_IN: &str = "/etc/condor/config.d/99-vmstage.config";

fn what_was_written_goes_at_the_next_boot() {
    let mut machine = machine();
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
    let all = published(&machine);
    for file in [
        DROP_IN,
        "/etc/profile.d/vmstage.sh",
        "/etc/machinefeatures/total_cpu",
        "/var/lib/prometheus/node-exporter/vmstage.prom",
    ] {
        assert!(all.contains(file), "{all}");
    }
    machine.configure(ALL_OFF);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    boot.says("removed /etc/condor/config.d/99-vmstage.config");
    assert_eq!(published(&machine), "");
    assert_eq!(machine.sh("ls -A /etc/condor/config.d"), "50-site\n");
    machine.configure("");
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
    assert_eq!(published(&machine), all);
    // What a person has changed stays, and that is said.
    machine.sh(&format!("echo '# mine' >> {DROP_IN}"));
    machine.configure(ALL_OFF);
    machine
        .boot()
        .says("was changed since it was written, and stays");
    assert_eq!(published(&machine), format!("{DROP_IN}\n"));
}

fn a_configuration_that_is_wrong_turns_nobody_off() {
    let mut machine = machine();
    machine.boot().ready_on("/dev/vdb");
    let all = published(&machine);
    let is_ready = |machine: &Machine| machine.sh(&format!("grep StagingReady {DROP_IN}"));
    let ready = is_ready(&machine);
    assert!(ready.starts_with("StagingReady = True\n"), "{ready}");
    // Of an HTCondor that is turned off nobody knows what it does with the scratch disk.
    machine.configure("[report]\ncondor = false # ours\nmotd = 1\n");
    assert_eq!(machine.boot().code, 6);
    assert_eq!(published(&machine), all);
    assert_eq!(is_ready(&machine), ready);
    // Any other starts no job: nothing was staged.
    machine.configure("[report]\ncondor = flase\n");
    assert_eq!(machine.boot().code, 6);
    assert_eq!(published(&machine), all);
    let guarded = is_ready(&machine);
    assert!(guarded.starts_with("StagingReady = False\n"), "{guarded}");
    machine.sh(&format!(
        "rm {DROP_IN} /etc/vmstage.toml; mkfifo /etc/vmstage.toml"
    ));
    assert_eq!(machine.boot().code, 6);
    assert_eq!(published(&machine), all);
    assert_eq!(is_ready(&machine), guarded);
}

fn at_sighup_what_was_turned_off_goes_and_the_log_follows() {
    let mut machine = machine();
    machine.boot().ready_on("/dev/vdb");
    let all = published(&machine);
    let log = machine.syslog();
    let file = machine.path("/etc/vmstage.toml");
    let on = fs::read_to_string(&file).unwrap();
    machine.configure(ALL_OFF);
    let off = fs::read_to_string(&file).unwrap();
    fs::write(&file, &on).unwrap();

    let mut watch = machine.start(&["watch"]);
    assert!(comes_to_be(|| machine
        .path("/run/vmstage/watch.lock")
        .exists()));
    let says = |watch: &mut Running, config: &str| {
        fs::write(&file, config).unwrap();
        heard(&log);
        kill(Pid::from_raw(watch.process().id() as i32), Signal::SIGHUP).unwrap();
    };
    // A slip turns nobody off.
    says(&mut watch, "[report]\ncondor = flase\n");
    assert!(comes_to_be(|| heard(&log).contains("the old one is kept")));
    assert_eq!(published(&machine), all);

    says(&mut watch, &off);
    assert!(
        comes_to_be(|| published(&machine).is_empty()),
        "{}",
        published(&machine)
    );
    heard(&log);
    // No line goes there any more, not even of a configuration that is wrong.
    says(&mut watch, "[report]\ncondor = flase\n");
    sleep(Duration::from_secs(1));
    assert_eq!(heard(&log), "");

    says(&mut watch, &on);
    assert!(
        comes_to_be(|| published(&machine) == all),
        "{}",
        published(&machine)
    );
    says(&mut watch, &on);
    assert!(comes_to_be(|| heard(&log).contains("was read again")));
    kill(Pid::from_raw(watch.process().id() as i32), Signal::SIGTERM).unwrap();
    watch.wait();
}

fn comes_to_be(so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !so() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        sleep(Duration::from_millis(50));
    }
    true
}

/// What was logged since the last time.
fn heard(log: &UnixDatagram) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = log.recv(&mut buffer) {
        text += &String::from_utf8_lossy(&buffer[..count]);
        text.push('\n');
    }
    text
}
