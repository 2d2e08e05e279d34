//! File systems that never answer, wherever they are mounted: nothing waits for them.

use std::time::Duration;

use crate::common::{Fault, Image, Machine, Outcome};

claims![
    a_mount_point_that_does_not_answer_is_said_to_be_one,
    a_mount_that_calls_itself_a_disk_and_does_not_answer_stops_nothing,
    a_place_in_fstab_that_does_not_answer_is_another_place,
    records_that_do_not_answer_stop_no_boot,
    no_program_is_looked_for_where_nobody_answers,
    a_program_on_a_disk_that_hangs_is_given_up,
    what_is_said_of_a_place_that_may_hang_a_person_reads,
];

const LIMIT: Duration = Duration::from_secs(2);
const SHORT: &str = "[staging]\ndevice_timeout = \"2s\"\n";

#[track_caller]
fn ends_soon(outcome: &Outcome) {
    assert!(outcome.took < LIMIT + 2 * LIMIT, "{outcome}");
}

fn a_mount_point_that_does_not_answer_is_said_to_be_one() {
    let mut machine = Machine::new();
    machine.configure(SHORT);
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let silent = machine.silent_mount("server:/export", "/staging");
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 4, "{probe}");
    ends_soon(&probe);
    let boot = machine.boot();
    boot.failed_staged(4);
    boot.says("server:/export is mounted on /staging and does not answer");
    ends_soon(&boot);
    machine.sh("umount -l /staging");
    drop(silent);
    machine.boot().ready_on("/dev/vdb");
}

fn a_mount_that_calls_itself_a_disk_and_does_not_answer_stops_nothing() {
    let mut machine = Machine::new();
    machine.configure(SHORT);
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let _silent = machine.silent_mount("/dev/gone", "/home/user");
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 0, "{probe}");
    ends_soon(&probe);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    ends_soon(&boot);
}

fn a_place_in_fstab_that_does_not_answer_is_another_place() {
    let mut machine = Machine::new();
    machine.configure(&(SHORT.to_string() + "devices = [\"/dev/vdb\"]\n"));
    machine.disk("vdb", &Image::ext4(""));
    machine.sh("echo /dev/vdb /home/user/data ext4 noauto 0 0 > /etc/fstab");
    let _silent = machine.silent_mount("server:/export", "/home/user");
    let boot = machine.boot();
    boot.failed(3).rejects("/dev/vdb", "has another place");
    ends_soon(&boot);
}

/// How long a child may take at a place.
const AT_A_PLACE: Duration = Duration::from_secs(6);

fn records_that_do_not_answer_stop_no_boot() {
    let mut machine = Machine::new();
    machine.configure(SHORT);
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    machine.may_change("/var/lib");
    let _silent = machine.silent_mount("server:/export", "/var/lib/vmstage");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert!(boot.took < 3 * AT_A_PLACE, "{boot}");
    boot.says("/var/lib/vmstage does not answer");
    let probe = machine.run(&["probe"]);
    assert!(probe.took < 3 * AT_A_PLACE, "{probe}");
}

fn no_program_is_looked_for_where_nobody_answers() {
    let mut machine = Machine::new();
    machine.configure(&(SHORT.to_string() + "combine = \"stripe\"\n"));
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let _silent = machine.silent_mount("server:/export", "/opt/tools");
    let path = "/opt/tools:/usr/sbin:/usr/bin:/sbin:/bin";
    let boot = machine.run_with(&["boot"], &[("PATH", path)]);
    boot.ready_on("/dev/vdb");
    assert!(boot.took < 2 * AT_A_PLACE, "{boot}");
}

/// It can be found, and what it does cannot be read. The disk is let go after half a minute.
fn a_program_on_a_disk_that_hangs_is_given_up() {
    let mut machine = Machine::new();
    machine.configure("[[directory]]\npath = \"a\"\nowner = \"nobody-knows\"\n");
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let tools = machine.faulty_disk("vdc", &Image::ext4("tools"));
    machine.sh(
        "mkdir -p /opt/tools; mount /dev/vdc /opt/tools; printf '#!/bin/sh\\n' > /opt/tools/getent
         chmod 755 /opt/tools/getent; sync /opt/tools/getent; echo 1 > /proc/sys/vm/drop_caches
         ls -l /opt/tools/getent",
    );
    tools.fault(Fault::Hang);
    let path = "/opt/tools:/usr/sbin:/usr/bin:/sbin:/bin";
    let boot = machine.run_with(&["boot"], &[("PATH", path)]);
    boot.says("getent passwd nobody-knows was not done in time");
    assert!(boot.took < 4 * AT_A_PLACE, "{boot}");
}

/// A child has no standard error.
fn what_is_said_of_a_place_that_may_hang_a_person_reads() {
    let mut machine = Machine::new();
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    for place in ["/srv", "/var/lib"] {
        machine.may_change(place);
    }
    machine.sh("mkdir -p /srv/metrics; mount -t tmpfs metrics /srv/metrics");
    let directory = "textfile_directory = \"/srv/metrics\"\n";
    machine.configure(&format!("[report]\n{directory}"));
    machine.boot().ready_on("/dev/vdb");
    assert!(machine.path("/srv/metrics/vmstage.prom").exists());
    machine.configure(&format!("[report]\ntextfile = false\n{directory}"));
    let boot = machine.boot();
    assert!(!machine.path("/srv/metrics/vmstage.prom").exists());
    boot.says("removed /srv/metrics/vmstage.prom");
}
