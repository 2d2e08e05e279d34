//! File systems that never answer, wherever they are mounted: nothing waits for them.

use std::time::Duration;

use crate::common::{Image, Machine, Outcome};

claims![
    a_mount_point_that_does_not_answer_is_said_to_be_one,
    a_mount_that_calls_itself_a_disk_and_does_not_answer_stops_nothing,
    a_place_in_fstab_that_does_not_answer_is_another_place,
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
