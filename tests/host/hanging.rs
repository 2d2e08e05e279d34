//! Disks that do not answer, are slow, or err: none of them stops a boot.
//!
//! A disk that hangs is let go after 30 s (common/faulty_disk.rs), so that a program
//! without a limit of its own fails these claims by being late.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Fault, FaultyDisk, Image, Machine, Outcome};

claims![
    // Up to a minute: it starts first, beside all the others.
    watch_goes_on_when_a_disk_hangs_in_its_first_round,
    a_hung_disk_beside_one_of_a_later_spec_costs_the_limit_at_most,
    four_hung_disks_cost_one_limit,
    with_nothing_but_a_hung_disk_boot_says_so_in_time,
    a_config_drive_is_read_beside_a_hung_disk,
    a_config_drive_that_hangs_is_given_up,
    a_boot_that_finds_its_disk_mounted_does_not_wait_for_a_hung_one,
    a_disk_that_hangs_while_it_is_mounted_is_an_error_and_not_mounted_later,
    a_mount_that_is_slow_and_moves_is_waited_for,
    what_is_left_behind_of_a_hung_read_keeps_no_other_disk_busy,
    what_is_left_behind_of_a_hung_mount_keeps_no_other_disk_busy,
    a_slow_blank_disk_gets_a_file_system_all_the_same,
    probe_names_a_hung_disk_and_ends,
    a_disk_that_cannot_be_read_is_rejected,
    a_disk_that_cannot_be_read_at_a_place_is_rejected_or_staged,
    a_disk_that_cannot_be_written_is_an_error_that_names_it;
    alone:
    sixteen_slow_disks_cost_little_more_than_one,
    a_hung_disk_beside_one_of_the_first_spec_costs_a_second_at_most,
];

const EPHEMERAL0: &str = "ephemeral0";
const SECOND: Duration = Duration::from_secs(1);
/// `staging.device_timeout` in most of these. What waits once for it takes less than twice as long,
/// on a busy host too.
const LIMIT: Duration = Duration::from_secs(4);
/// It looks for a label and then for a name.
const BY_LABEL_AND_NAME: &str =
    "[staging]\ndevice_timeout = \"4s\"\ndevices = [\"LABEL=ephemeral0\", \"/dev/vdb\"]\n";

/// A machine with a disk `/dev/vdb` of this label, which works.
fn machine_with_vdb(label: &str, configuration: &str) -> Machine {
    let mut machine = Machine::new();
    machine.configure(configuration);
    machine.disk("vdb", &Image::ext4(label));
    machine
}

/// A disk that does not answer.
fn hung(machine: &Machine, name: &str) -> FaultyDisk {
    let disk = machine.faulty_disk(name, &Image::ext4("data"));
    disk.fault(Fault::Hang);
    disk
}

/// A drive with this metadata, as `/dev/<name>`. Not every kernel has ISO 9660 or vfat.
fn config_drive(machine: &Machine, name: &str, document: &str) {
    machine.disk(name, &Image::ext2("config-2"));
    let write =
        format!("mkdir -p openstack/latest; echo '{document}' > openstack/latest/meta_data.json");
    machine.prepare(&format!("/dev/{name}"), &write);
}

#[track_caller]
fn took_at_most(longest: Duration, outcome: &Outcome) {
    assert!(outcome.took <= longest, "more than {longest:?}\n{outcome}");
}

#[track_caller]
fn waited_once_at_most(outcome: &Outcome) {
    took_at_most(2 * LIMIT, outcome);
}

/// The disk is named in a warning and has a verdict.
#[track_caller]
fn did_not_answer(device: &str, boot: &Outcome) {
    boot.warns(&[device, "does not answer"]);
    boot.rejects(device, "does not answer");
}

/// Whether nobody has mounted it, in any mount namespace.
fn is_free(machine: &Machine, device: &str) -> bool {
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_EXCL.bits());
    options.open(machine.path(device)).is_ok()
}

fn a_hung_disk_beside_one_of_the_first_spec_costs_a_second_at_most() {
    let machine = machine_with_vdb(EPHEMERAL0, "");
    let other = machine.faulty_disk("vdc", &Image::ext4("data"));
    let boot = |fault| {
        other.fault(fault);
        let boot = machine.boot();
        boot.ready_on("/dev/vdb");
        machine.sh("umount /staging");
        boot
    };
    // A busy host may hold up any of them.
    let costs_little = (0..5).any(|_| {
        let undisturbed = boot(Fault::None);
        let disturbed = boot(Fault::Hang);
        did_not_answer("/dev/vdc", &disturbed);
        disturbed.took <= undisturbed.took + SECOND
    });
    assert!(costs_little);
}

fn a_hung_disk_beside_one_of_a_later_spec_costs_the_limit_at_most() {
    let machine = machine_with_vdb("", BY_LABEL_AND_NAME);
    let _other = hung(&machine, "vdc");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    waited_once_at_most(&boot);
    did_not_answer("/dev/vdc", &boot);
}

fn four_hung_disks_cost_one_limit() {
    let machine = machine_with_vdb("", BY_LABEL_AND_NAME);
    let names = ["vdc", "vdd", "vde", "vdf"];
    let _others = names.map(|name| hung(&machine, name));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    waited_once_at_most(&boot);
    for name in names {
        did_not_answer(&format!("/dev/{name}"), &boot);
    }
}

fn with_nothing_but_a_hung_disk_boot_says_so_in_time() {
    let mut machine = Machine::new();
    machine.configure(BY_LABEL_AND_NAME);
    let _disk = hung(&machine, "vdb");
    let boot = machine.boot();
    boot.failed(3).says("/dev/vdb does not answer");
    waited_once_at_most(&boot);
    did_not_answer("/dev/vdb", &boot);
}

fn sixteen_slow_disks_cost_little_more_than_one() {
    let time = |count: u32| {
        let machine = machine_with_vdb("", "");
        let names = (1..=count).map(|number| format!("vdc{number}"));
        let others: Vec<_> = names
            .map(|name| machine.faulty_disk(&name, &Image::ext4("data")))
            .collect();
        // The best of several, and most of each is waiting: a busy host has less to say in it.
        let boots = (0..4).map(|_| {
            for disk in &others {
                disk.fault(Fault::Delay(Duration::from_millis(300)));
            }
            let boot = machine.boot();
            boot.ready_on("/dev/vdb").warns_of_nothing();
            machine.sh("umount /staging");
            boot.took
        });
        boots.min().unwrap()
    };
    let (one, sixteen) = (time(1), time(16));
    assert!(sixteen <= one.mul_f64(1.5), "{one:?}, {sixteen:?}");
}

const DRIVE: &str = "[metadata]\nsources = [\"config-drive\"]\n";

fn a_config_drive_is_read_beside_a_hung_disk() {
    let staging = "[staging]\ndevice_timeout = \"4s\"\ndevices = [\"/dev/vdb\"]\n";
    let machine = machine_with_vdb("", &format!("{staging}{DRIVE}"));
    config_drive(&machine, "vdd", r#"{"uuid": "me"}"#);
    let _other = hung(&machine, "vdc");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    waited_once_at_most(&boot);
    assert_eq!(boot.the_status()["instance"]["id"], "me", "{boot}");
}

fn a_config_drive_that_hangs_is_given_up() {
    let staging = "[staging]\ndevice_timeout = \"4s\"\ndevices = [\"/dev/vdb\"]\n";
    let machine = machine_with_vdb("", &format!("{staging}{DRIVE}"));
    let drive = machine.faulty_disk("vdd", &Image::ext4("config-2"));
    // It is read, and mounting it does not end.
    drive.fault(Fault::HangReads(JOURNAL));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns(&["/dev/vdd"]);
    waited_once_at_most(&boot);
    assert_eq!(
        machine.sh("ls -A /run/vmstage | grep config-drive || :"),
        ""
    );
}

fn a_boot_that_finds_its_disk_mounted_does_not_wait_for_a_hung_one() {
    let configuration = format!("[staging]\ndevice_timeout = \"4s\"\n{DRIVE}");
    let machine = machine_with_vdb(EPHEMERAL0, &configuration);
    machine.sh("mkdir /staging; mount /dev/vdb /staging");
    config_drive(&machine, "vdd", r#"{"uuid": "me"}"#);
    let _other = hung(&machine, "vdc");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    waited_once_at_most(&boot);
    assert_eq!(boot.the_status()["staging"]["already_mounted"], true);
    assert_eq!(boot.the_status()["instance"]["id"], "me", "{boot}");
}

/// Where the journal of a small ext4 begins. Only mounting reads that.
const JOURNAL: std::ops::Range<u64> = 8 << 20..10 << 20;

fn a_disk_that_hangs_while_it_is_mounted_is_an_error_and_not_mounted_later() {
    for fault in [Fault::HangReads(JOURNAL), Fault::HangWrites] {
        let mut machine = Machine::new();
        machine.configure("[staging]\ndevice_timeout = \"4s\"\n");
        let disk = machine.faulty_disk("vdb", &Image::ext4(EPHEMERAL0));
        disk.fault(fault);
        let boot = machine.boot();
        boot.failed(4).says("/dev/vdb");
        assert!(boot.took >= LIMIT, "{boot}");
        waited_once_at_most(&boot);
        assert_eq!(boot.console.matches("/dev/vdb").count(), 1, "{boot}");
        assert_eq!(boot.console.lines().count(), 1, "{boot}");

        let before = machine.mounts();
        disk.fault(Fault::None);
        sleep(2 * SECOND);
        assert_eq!(machine.mounts(), before, "mounted late\n{boot}");
        assert!(!machine.path("/staging").exists(), "{boot}");
        assert!(is_free(&machine, "/dev/vdb"), "still in use\n{boot}");
        machine.boot().ready_on("/dev/vdb");
    }
}

fn a_mount_that_is_slow_and_moves_is_waited_for() {
    let mut machine = Machine::new();
    machine.configure("[staging]\ndevice_timeout = \"4s\"\n");
    // Its log alone takes twenty reads, one after the other.
    let disk = machine.faulty_disk("vdb", &Image::xfs(EPHEMERAL0));
    disk.fault(Fault::Delay(Duration::from_millis(150)));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    assert!(boot.took > LIMIT, "too quick to show anything\n{boot}");
}

fn what_is_left_behind_of_a_hung_read_keeps_no_other_disk_busy() {
    let machine = machine_with_vdb("", BY_LABEL_AND_NAME);
    machine.disk("vdd", &Image::ext4("data"));
    machine.sh("mkdir /data; mount /dev/vdd /data");
    let _other = hung(&machine, "vdc");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    machine.sh("umount /data; umount /staging");
    assert!(is_free(&machine, "/dev/vdd"), "{boot}");
    assert!(is_free(&machine, "/dev/vdb"), "{boot}");
}

fn what_is_left_behind_of_a_hung_mount_keeps_no_other_disk_busy() {
    let mut machine = Machine::new();
    machine.configure("[staging]\ndevice_timeout = \"4s\"\n");
    machine.disk("vdd", &Image::ext4("data"));
    machine.sh("mkdir /data; mount /dev/vdd /data");
    let disk = machine.faulty_disk("vdb", &Image::ext4(EPHEMERAL0));
    disk.fault(Fault::HangWrites);
    let boot = machine.boot();
    boot.failed(4).says("/dev/vdb");
    machine.sh("umount /data");
    assert!(is_free(&machine, "/dev/vdd"), "{boot}");
}

/// To see that it is blank takes longer than any single request may.
fn a_slow_blank_disk_gets_a_file_system_all_the_same() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nformat = \"blank\"\ndevice_timeout = \"4s\"\n");
    let disk = machine.faulty_disk("vdb", &Image::blank(64));
    disk.fault(Fault::Delay(SECOND / 30));
    let probe = machine.run(&["probe"]);
    assert!(probe.took > LIMIT, "it is not slow: {probe}");
    let made = "boot would make a file system on /dev/vdb";
    assert!(probe.stdout.contains(made), "{probe}");
    machine.boot().ready_on("/dev/vdb");
}

fn probe_names_a_hung_disk_and_ends() {
    let machine = machine_with_vdb("", BY_LABEL_AND_NAME);
    let _other = hung(&machine, "vdc");
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 0, "{probe}");
    waited_once_at_most(&probe);
    let names_it = |line: &str| line.contains("/dev/vdc") && line.contains("does not answer");
    assert!(probe.stdout.lines().any(names_it), "{probe}");
    let chosen = "boot would mount /dev/vdb (";
    assert!(probe.stdout.contains(chosen), "{probe}");
}

/// It begins at any moment of the first minute.
fn watch_goes_on_when_a_disk_hangs_in_its_first_round() {
    let configuration = format!("[staging]\ndevice_timeout = \"4s\"\n{DRIVE}");
    let mut machine = machine_with_vdb(EPHEMERAL0, &configuration);
    for published in [
        "/etc/machinefeatures",
        "/etc/jobfeatures",
        "/run",
        "/var/lib/vmstage",
    ] {
        machine.may_change(published);
    }
    config_drive(&machine, "vdd", r#"{"uuid": "me"}"#);
    let other = machine.faulty_disk("vdc", &Image::ext4("data"));
    machine.boot().ready_on("/dev/vdb");
    let status = || std::fs::read(machine.path("/run/vmstage/status.json")).unwrap();

    let mut watch = machine.start(&["watch"]);
    sleep(SECOND / 2);
    let (before, reads) = (status(), other.reads());
    let start = Instant::now();
    while status() == before {
        assert!(start.elapsed() < 70 * SECOND + LIMIT, "it hangs");
        // Anew, so that it lasts.
        other.fault(Fault::Hang);
        sleep(SECOND / 10);
    }
    assert!(other.reads() > reads, "it has read no disk");
    let process = Pid::from_raw(watch.process().id() as i32);
    kill(process, Signal::SIGTERM).unwrap();
    let start = Instant::now();
    let watch = watch.wait();
    assert!(start.elapsed() < 10 * SECOND, "{watch}");
}

fn a_disk_that_cannot_be_read_is_rejected() {
    let mut machine = Machine::new();
    machine.configure(BY_LABEL_AND_NAME);
    let disk = machine.faulty_disk("vdb", &Image::ext4(EPHEMERAL0));
    disk.fault(Fault::ReadErrors(0..u64::MAX));
    machine
        .boot()
        .failed(3)
        .rejects("/dev/vdb", "cannot be read");
}

fn a_disk_that_cannot_be_read_at_a_place_is_rejected_or_staged() {
    let machine = Machine::new();
    let image = Image::ext4(EPHEMERAL0);
    let disk = machine.faulty_disk("vdb", &image);
    let places = (0..256).map(|place| place * image.size() / 256);
    for place in places {
        disk.fault(Fault::ReadErrors(place..place + 4096));
        let boot = machine.boot();
        match boot.code {
            0 => {
                boot.ready_on("/dev/vdb");
                machine.sh("umount /staging");
            }
            3 => {
                boot.failed(3).rejects("/dev/vdb", "");
            }
            4 => {
                boot.failed(4).says("/dev/vdb");
            }
            5 => {
                boot.failed_staged(5).says("/staging/");
                machine.sh("umount /staging");
            }
            code => panic!("{code} with an error at {place}\n{boot}"),
        }
    }
}

fn a_disk_that_cannot_be_written_is_an_error_that_names_it() {
    let machine = Machine::new();
    let disk = machine.faulty_disk("vdb", &Image::ext4(EPHEMERAL0));
    disk.fault(Fault::WriteErrors);
    machine.boot().failed(4).says("/dev/vdb");
}
