//! What becomes of a disk after a run died while mkfs ran on it: made anew where nobody can have
//! used it since, and else judged as any disk is.

use std::fs;
use std::time::Duration;

use crate::common::{Disk, Image, Machine, tool};
use crate::evidence::{boot_that_dies_in_mkfs, evidence, is_left_alone, reboot};

claims![
    a_file_system_that_mkfs_had_finished_is_used_as_it_is,
    a_disk_that_was_staged_since_is_not_made_anew,
    a_disk_without_a_signature_is_made_anew_by_its_serial_number,
    without_a_serial_number_another_disk_may_have_come_with_another_boot,
    a_disk_whose_partitions_the_kernel_knows_is_not_made_anew,
    an_ext4_that_does_not_mount_is_made_anew_where_it_never_was_mounted,
];

const BLANK: &str = "[staging]\nformat = \"blank\"\n";
const BY_NAME: &str = "[staging]\nformat = \"blank\"\ndevices = [\"/dev/vdb\"]\n";
const RECORD: &str = "/var/lib/vmstage/making.json";
const UUID: &str = "f18d0f0b-8eff-4d2c-8d57-60a3702e1626";

fn machine(configuration: &str) -> Machine {
    tool("mkfs.ext4");
    let mut machine = Machine::new();
    machine.configure(configuration);
    machine.may_change("/var/lib/vmstage");
    machine
}

/// Says that the disk has this serial number, and nothing else about it.
fn with_serial(machine: &Machine, disk: &Disk, serial: &str) {
    let script = format!(
        "echo {serial} >serial; echo {}:{} >dev",
        disk.number.0, disk.number.1
    );
    machine.pretend(disk, &script);
}

/// The record of a run that died in another boot while it made a file system on this disk.
fn record(machine: &Machine, disk: &Disk, serial: Option<&str>) {
    let size = machine.sh("blockdev --getsize64 /dev/vdb");
    let place = fs::read_link(format!("/sys/block/{}", disk.kernel_name)).unwrap();
    let record = serde_json::json!({
        "uuid": UUID,
        "size_bytes": size.trim().parse::<u64>().unwrap(),
        "serial": serial,
        "sysfs": place,
        "machine": null,
        "boot": "another boot",
    });
    let file = machine.path(RECORD);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, record.to_string()).unwrap();
}

/// A boot that is killed right after its mkfs was done.
fn boot_that_dies_after_mkfs(machine: &Machine) {
    let script = "#!/bin/sh\n/usr/sbin/mkfs.real \"$@\"\nsync\ntouch /run/written\nexec sleep 1\n";
    boot_that_dies_in_mkfs(machine, script);
    std::thread::sleep(Duration::from_secs(2));
    assert!(machine.path(RECORD).exists(), "no record was left");
}

fn a_file_system_that_mkfs_had_finished_is_used_as_it_is() {
    for configuration in [BLANK, BY_NAME] {
        let machine = machine(configuration);
        let disk = machine.disk("vdb", &Image::blank(16));
        with_serial(&machine, &disk, "S1234");
        boot_that_dies_after_mkfs(&machine);
        // By somebody who does not go through this program, and whose journal is left.
        machine.prepare("/dev/vdb", "mkdir condor; echo thesis >condor/thesis.tex");
        let boot = machine.boot();
        boot.ready_on("/dev/vdb").does_not_say("made anew");
        machine.sh("test -e /staging/condor/thesis.tex");
        assert!(!machine.path(RECORD).exists(), "the record is still there");
    }
}

fn a_disk_that_was_staged_since_is_not_made_anew() {
    let machine = machine(BY_NAME);
    let disk = machine.disk("vdb", &Image::blank(16));
    with_serial(&machine, &disk, "S1234");
    boot_that_dies_after_mkfs(&machine);
    // As a line in fstab does.
    machine.sh("mkdir -p /staging; mount /dev/vdb /staging");
    machine.boot();
    assert!(!machine.path(RECORD).exists(), "the record is still there");
    machine.sh("echo thesis >/staging/condor/thesis.tex; mkdir /staging/important");
    reboot(&machine);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert_eq!(evidence(&boot), "ours", "{boot}");
    machine.sh("test -e /staging/condor/thesis.tex");
}

fn a_disk_without_a_signature_is_made_anew_by_its_serial_number() {
    let half = Image::blank(64).with(9_000_000, b"half");
    for (serial, is_made) in [("S1234", true), ("S5678", false)] {
        let machine = machine(BLANK);
        let disk = machine.disk("vdb", &half);
        record(&machine, &disk, Some("S1234"));
        with_serial(&machine, &disk, serial);
        match is_made {
            true => {
                machine.boot().ready_on("/dev/vdb").says("is made anew");
                assert!(!machine.path(RECORD).exists(), "the record is still there");
            }
            false => {
                is_left_alone(&machine, &disk, "/dev/vdb", &["has no signature"]);
            }
        }
    }
}

fn without_a_serial_number_another_disk_may_have_come_with_another_boot() {
    let machine = machine(BLANK);
    let other = Image::blank(64).with(9_000_000, b"mydata");
    let disk = machine.disk("vdb", &other);
    record(&machine, &disk, None);
    is_left_alone(&machine, &disk, "/dev/vdb", &["has no signature"]);
}

fn a_disk_whose_partitions_the_kernel_knows_is_not_made_anew() {
    let machine = machine(BLANK);
    let image = Image::partitioned("dos", &[Image::blank(8)]);
    let disk = machine.partitioned_disk("vdb", &image);
    machine.sh("dd if=/dev/zero of=/dev/vdb bs=512 count=1 conv=notrunc,fsync 2>/dev/null");
    record(&machine, &disk, None);
    let text = fs::read_to_string(machine.path(RECORD)).unwrap();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(
        machine.path(RECORD),
        text.replace("another boot", boot_id.trim()),
    )
    .unwrap();
    is_left_alone(
        &machine,
        &disk,
        "/dev/vdb",
        &["the kernel knows partitions"],
    );
}

/// Where mkfs was told the UUID, and its superblock is there and what it tells of is not.
fn an_ext4_that_does_not_mount_is_made_anew_where_it_never_was_mounted() {
    for (is_mounted_once, is_made) in [(false, true), (true, false)] {
        let machine = machine(BLANK);
        let image = Image::ext("ext4", "ephemeral0", &["-U", UUID]);
        let disk = machine.disk("vdb", &image);
        if is_mounted_once {
            machine.prepare("/dev/vdb", "echo thesis >thesis.tex");
        }
        // The group descriptors, and nothing of the superblock.
        machine
            .sh("dd if=/dev/zero of=/dev/vdb bs=1k seek=2 count=2 conv=notrunc,fsync 2>/dev/null");
        record(&machine, &disk, None);
        let boot = machine.boot();
        match is_made {
            true => {
                boot.ready_on("/dev/vdb").says("is made anew");
            }
            false => {
                boot.failed(4).does_not_say("made anew");
            }
        }
    }
}
