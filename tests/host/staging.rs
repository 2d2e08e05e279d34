//! How the chosen disk comes onto the mount point, and what a failure leaves behind.
//! That the root file system stays clean, every run of the program shows by itself
//! (see tests/host/common/machine.rs).

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp};

use crate::common::{Image, Machine, Running, bind_socket, tool};

claims![
    each_file_system_that_the_kernel_has_is_staged,
    that_a_disk_is_accepted_is_said_once,
    a_file_system_that_the_kernel_lacks_is_a_plain_error,
    the_mounted_file_system_is_the_disk_s_own,
    the_mount_options_are_the_configured_ones,
    options_of_the_file_system_reach_it,
    an_option_that_the_file_system_does_not_know_is_a_failed_mount,
    a_second_boot_changes_nothing,
    two_boots_at_once_mount_once,
    a_disk_that_fsck_holds_is_waited_for,
    a_disk_that_stays_busy_is_an_error,
    a_disk_that_becomes_another_while_it_is_busy_is_judged_anew,
    a_disk_that_is_mounted_in_another_namespace_is_left_alone,
    without_sys_nothing_is_mounted,
    a_mount_behind_another_mount_is_not_taken_for_staged,
    a_mount_point_whose_parents_are_made_behind_a_link_is_staged,
    a_mount_that_something_else_lies_over_is_not_taken_for_staged,
    a_wrong_configuration_tells_htcondor_and_the_status_alone,
    probe_says_that_boot_would_format_a_blank_disk,
    a_disk_that_somebody_else_mounts_there_meanwhile_is_staged,
    what_somebody_mounts_there_while_a_disk_is_waited_for_is_staged,
    a_disk_that_waits_to_be_formatted_is_left_alone_once_another_is_mounted_there,
    what_is_mounted_there_on_demand_is_staged,
    probe_has_nothing_mounted_on_demand,
    a_kernel_without_noload_looks_into_no_disk,
    what_comes_over_a_mount_of_this_run_is_not_unmounted,
    a_mount_that_the_table_does_not_show_is_not_believed,
    a_mount_that_cannot_be_verified_is_taken_back,
    where_the_kernel_has_no_driver_for_ext2_that_for_ext4_is_taken,
    parents_of_a_mount_point_that_cannot_be_made_are_gone_again,
    an_mtab_that_is_a_link_is_left_alone,
    a_mount_point_hidden_by_a_mount_that_lacks_it_is_an_error_that_says_so,
    a_parent_of_the_mount_point_that_leads_nowhere_is_named,
    a_mount_point_that_is_really_a_directory_of_the_system_is_an_error,
    probe_fails_as_boot_does_for_the_mount_point,
    boots_that_cannot_lock_are_ready_both,
    a_labelled_disk_mounted_elsewhere_by_a_node_that_is_gone_is_staged,
    a_labelled_disk_mounted_elsewhere_read_only_is_an_error_that_names_the_place,
    a_disk_with_partitions_that_the_kernel_knows_is_not_formatted,
    a_disk_is_not_formatted_where_the_mount_point_cannot_be_made,
    a_file_system_with_a_wrong_checksum_is_an_error_that_says_what_to_do,
    a_part_of_a_btrfs_on_several_devices_is_an_error_that_says_what_to_do,
    a_file_system_that_was_mounted_there_by_hand_is_staged,
    what_an_earlier_version_staged_is_marked_and_known_by_its_name_from_then_on,
    a_tmpfs_that_was_mounted_there_is_staged,
    a_part_of_the_root_disk_mounted_there_is_staged_with_a_warning,
    a_part_of_what_lies_below_an_overlay_of_the_system_is_staged_with_a_warning,
    a_file_system_mounted_there_read_only_is_not_ready,
    a_mount_point_with_a_similar_name_is_another,
    a_mount_below_the_mount_point_is_not_on_it,
    a_device_named_like_the_mount_point_is_not_mistaken_for_it,
    a_mount_point_with_a_space_is_staged_once,
    a_mount_point_behind_a_link_is_staged_once,
    a_mount_point_is_made_with_its_parents_for_everybody_to_enter,
    a_mount_point_that_is_a_link_is_an_error,
    a_mount_point_that_is_a_file_is_an_error,
    a_mount_point_with_something_in_it_is_mounted_over_with_a_warning,
    after_a_failed_mount_the_mount_point_and_its_parents_are_gone_again,
    after_a_failed_mount_an_older_mount_point_is_still_there,
    without_a_disk_no_mount_point_is_made,
    a_boot_that_is_killed_while_it_waits_leaves_nothing,
    a_label_with_control_characters_breaks_no_line,
    a_read_only_root_without_the_mount_point_is_a_plain_error,
    a_read_only_root_with_the_mount_point_is_no_obstacle,
    mtab_gets_its_line_once,
    mtab_gets_the_line_that_an_earlier_boot_could_not_write,
    mtab_gets_the_line_that_df_and_umount_understand,
    mtab_gets_a_mount_point_with_a_space_escaped,
    an_mtab_without_a_last_newline_is_not_spoilt,
    a_stale_lock_of_mtab_is_removed_and_costs_no_line,
    a_stale_temporary_lock_of_mtab_does_no_harm,
    a_lock_of_mtab_that_is_let_go_is_waited_for,
    an_mtab_that_cannot_be_written_is_a_warning,
    a_blank_disk_is_not_formatted_by_default,
    a_blank_disk_is_formatted_when_asked_and_found_by_its_label_from_then_on,
    a_blank_disk_gets_the_file_system_that_is_asked_for,
    a_disk_that_is_almost_blank_is_not_formatted,
    a_disk_with_a_damaged_superblock_is_not_formatted,
    a_disk_that_holds_something_is_not_formatted,
    a_blank_disk_that_no_spec_names_is_not_formatted,
    a_blank_disk_is_not_formatted_where_another_can_be_used,
    a_disk_whose_end_cannot_be_read_is_not_formatted,
    a_blank_disk_that_is_read_only_is_rejected,
    a_tiny_blank_disk_is_an_error_and_no_panic,
    a_disk_that_somebody_has_open_is_not_formatted,
    mkfs_is_given_the_disk_and_not_the_link_that_led_to_it,
    a_disk_is_not_formatted_for_a_mount_point_that_is_a_file,
    without_mkfs_formatting_is_a_plain_error,
    a_failing_mkfs_is_quoted,
    an_environment_without_anything_in_it_suffices,
];

const EPHEMERAL0: &str = "ephemeral0";

fn each_file_system_that_the_kernel_has_is_staged() {
    let disks = [
        ("ext2", Image::ext2(EPHEMERAL0)),
        ("ext3", Image::ext3(EPHEMERAL0)),
        ("ext4", Image::ext4(EPHEMERAL0)),
        ("xfs", Image::xfs(EPHEMERAL0)),
        ("btrfs", Image::btrfs(EPHEMERAL0)),
    ];
    for (filesystem, image) in disks {
        let machine = Machine::new();
        machine.disk("vdb", &image);
        if !machine.kernel_mounts("/dev/vdb") {
            machine.boot().failed(4).says(filesystem).says("driver");
            continue;
        }
        let boot = machine.boot();
        boot.ready_on("/dev/vdb").warns_of_nothing();
        let staging = &boot.the_status()["staging"];
        assert_eq!(staging["filesystem"], filesystem, "{boot}");
        assert_eq!(staging["label"], EPHEMERAL0, "{boot}");
        let second = machine.boot();
        second.ready_on("/dev/vdb").warns_of_nothing();
    }
}

/// On kernels that have it, vfat keeps neither owner nor mode.
fn a_file_system_that_the_kernel_lacks_is_a_plain_error() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::vfat(EPHEMERAL0));
    let has_vfat = machine.kernel_mounts("/dev/vdb");
    let boot = machine.boot();
    if has_vfat {
        boot.ready_on("/dev/vdb");
    } else {
        boot.failed(3).says("no driver for vfat").says("/dev/vdb");
    }

    let machine = Machine::new();
    machine.disk("vdb", &Image::vfat(""));
    machine.disk("sdb", &Image::ext4(""));
    let boot = machine.boot();
    if !has_vfat {
        boot.ready_on("/dev/sdb")
            .rejects("/dev/vdb", "no driver for vfat");
    }
}

fn the_mounted_file_system_is_the_disk_s_own() {
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    machine.prepare("/dev/vdb", "echo mine > proof");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    let staged = fs::metadata(machine.path("/staging")).unwrap();
    let (major, minor) = disk.number;
    assert_eq!(staged.dev(), nix::sys::stat::makedev(major, minor));
    let proof = fs::read_to_string(machine.path("/staging/proof")).unwrap();
    assert_eq!(proof, "mine\n");

    let df = machine.sh("df -B1 --output=size,avail /staging | tail -1");
    let df: Vec<u64> = df.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let staging = &boot.the_status()["staging"];
    assert_eq!(staging["size_bytes"], df[0], "{boot}");
    // The directories took their blocks after that was asked.
    let free = staging["free_bytes"].as_u64().unwrap();
    assert!((df[1]..df[1] + 20_000).contains(&free), "{df:?} {boot}");
}

fn the_mount_options_are_the_configured_ones() {
    let mut machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    let boot = machine.boot();
    let options = &boot.ready_on("/dev/vdb").staged()[0].options;
    for option in ["rw", "nosuid", "nodev"] {
        assert!(options.split(',').any(|one| one == option), "{options}");
    }
    assert_eq!(boot.the_status()["staging"]["options"], options.as_str());

    machine.sh("umount /staging");
    machine.configure("[staging]\noptions = [\"noexec\", \"noatime\"]");
    let boot = machine.boot();
    let options = &boot.ready_on("/dev/vdb").staged()[0].options;
    assert!(options.starts_with("rw,noexec,noatime"), "{options}");
}

fn options_of_the_file_system_reach_it() {
    let mut machine = Machine::new();
    machine.configure("[staging]\noptions = [\"nosuid\", \"commit=77\", \"data=writeback\"]");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    let boot = machine.boot();
    let options = &boot.ready_on("/dev/vdb").staged()[0].options;
    assert!(options.contains("commit=77"), "{options}");
    assert!(options.contains("data=writeback"), "{options}");
}

fn an_option_that_the_file_system_does_not_know_is_a_failed_mount() {
    let mut machine = Machine::new();
    machine.configure("[staging]\noptions = [\"nonsense=1\"]");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.boot().failed(4).says("/dev/vdb").says("options");
}

fn a_second_boot_changes_nothing() {
    for image in [Image::ext2(EPHEMERAL0), Image::ext4("")] {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &image);
        machine.boot().ready_on("/dev/vdb");
        machine.sh("echo work > /staging/condor/job; echo mine > /staging/tmp/file");
        machine.sh("sync -f /staging");
        let before = (disk.checksum(), changed_at(&machine));

        let second = machine.boot();
        second.ready_on("/dev/vdb").warns_of_nothing();
        assert_eq!(second.the_status()["staging"]["already_mounted"], true);
        machine.sh("sync -f /staging");
        assert_eq!((disk.checksum(), changed_at(&machine)), before);
    }
}

/// When owner, mode or content of the directories were last set.
fn changed_at(machine: &Machine) -> Vec<(i64, i64)> {
    let changed = ["/staging", "/staging/condor", "/staging/tmp"].map(|directory| {
        let metadata = fs::metadata(machine.path(directory)).unwrap();
        (metadata.ctime(), metadata.ctime_nsec())
    });
    changed.to_vec()
}

fn two_boots_at_once_mount_once() {
    for _ in 0..5 {
        let machine = Machine::new();
        machine.disk("vdb", &Image::ext2(EPHEMERAL0));
        let boots = [machine.start(&["boot"]), machine.start(&["boot"])];
        for boot in boots {
            // Each made the mount point, as far as the other can see.
            let outcome = boot.wait();
            assert_eq!(outcome.code, 0, "{outcome}");
        }
        machine.boot().ready_on("/dev/vdb");
    }
}

/// As fsck and mkfs open it.
fn open_exclusively(machine: &Machine, device: &str) -> File {
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_EXCL.bits());
    options.open(machine.path(device)).unwrap()
}

fn a_disk_that_fsck_holds_is_waited_for() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"10s\"");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    let fsck = open_exclusively(&machine, "/dev/vdb");
    let boot = machine.start(&["boot"]);
    sleep(Duration::from_millis(500));
    drop(fsck);
    let boot = boot.wait();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    assert!(boot.took >= Duration::from_millis(500), "{boot}");
}

fn a_disk_that_stays_busy_is_an_error() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"300ms\"");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    let _holder = open_exclusively(&machine, "/dev/vdb");
    let boot = machine.boot();
    boot.failed(4).says("/dev/vdb").says("busy");
    assert!(boot.took >= Duration::from_millis(300), "{boot}");
}

fn a_disk_that_becomes_another_while_it_is_busy_is_judged_anew() {
    let named = "\"LABEL=ephemeral0\", \"/dev/vdb\"";
    let labelled = "\"LABEL=ephemeral0\"";
    // What it was, what it becomes, and what is decided then.
    let changes = [
        (EPHEMERAL0, Image::ext4("userdata"), labelled, 3),
        ("", Image::iso9660("config-2"), named, 3),
        (EPHEMERAL0, Image::ext2(EPHEMERAL0), labelled, 0),
    ];
    for (label, after, devices, code) in changes {
        let mut machine = Machine::new();
        machine.configure(&format!("[staging]\nwait = \"3s\"\ndevices = [{devices}]"));
        machine.disk("vdb", &Image::ext4(label));
        after.write(&machine.path("/tmp/after"));
        let mkfs = open_exclusively(&machine, "/dev/vdb");
        let boot = machine.start(&["boot"]);
        sleep(Duration::from_millis(500));
        machine.sh(
            "dd if=/dev/zero of=/dev/vdb bs=1M count=8 conv=fsync 2>/dev/null
            dd if=/tmp/after of=/dev/vdb bs=1M conv=fsync 2>/dev/null",
        );
        drop(mkfs);
        let boot = boot.wait();
        // Into one that only a name led to, a look is taken first, which it refuses.
        if label == EPHEMERAL0 {
            boot.warns(&["while it was in use by something else it became"]);
        }
        match code {
            0 => boot.ready_on("/dev/vdb"),
            code => boot.failed(code),
        };
    }
}

fn a_disk_that_is_mounted_in_another_namespace_is_left_alone() {
    for label in [EPHEMERAL0, ""] {
        let mut machine = Machine::new();
        machine.configure("[staging]\nwait = \"200ms\"");
        machine.disk("vdb", &Image::ext4(label));
        machine.sh("mkdir /elsewhere");
        machine.may_change("/elsewhere");
        let mut other = machine.command("/usr/bin/unshare", None);
        other.args([
            "-m",
            "sh",
            "-c",
            "mount /dev/vdb /elsewhere && exec sleep 60",
        ]);
        let mut other = other.spawn().unwrap();
        sleep(Duration::from_millis(500));
        let boot = machine.boot();
        other.kill().unwrap();
        other.wait().unwrap();
        boot.failed(if label == EPHEMERAL0 { 4 } else { 3 })
            .says("/dev/vdb")
            .says("something else has it in use");
    }
}

fn without_sys_nothing_is_mounted() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("umount -l /sys");
    machine.boot().failed(1).says("is /sys mounted?");
}

fn a_mount_behind_another_mount_is_not_taken_for_staged() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nmount_point = \"/mnt/a/staging\"");
    machine.sh("mkdir -p /mnt/a/staging /home/b/staging
        mount -t tmpfs scratch /mnt/a/staging
        mount --bind /home/b /mnt/a");
    let boot = machine.boot();
    assert_eq!(boot.code, 4, "{boot}");
    boot.says("something else lies over it");
    assert_eq!(machine.sh("ls /home/b/staging"), "");
}

fn a_disk_that_somebody_else_mounts_there_meanwhile_is_staged() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"10s\"");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("mkdir /staging");
    let holder = open_exclusively(&machine, "/dev/vdb");
    let mut boot = machine.start(&["boot"]);
    let process = Pid::from_raw(boot.process().id() as i32);
    // By now it has looked, found nothing mounted, and tries to mount.
    sleep(Duration::from_millis(500));
    kill(process, Signal::SIGSTOP).unwrap();
    drop(holder);
    machine.sh("mount /dev/vdb /staging");
    kill(process, Signal::SIGCONT).unwrap();
    boot.wait().ready_on("/dev/vdb");
}

fn a_file_system_that_was_mounted_there_by_hand_is_staged() {
    let machine = Machine::new();
    machine.disk("vdz", &Image::ext4("elsewhere"));
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("mkdir /staging; mount -o noexec /dev/vdz /staging");
    let boot = machine.boot();
    boot.ready_on("/dev/vdz");
    let staging = &boot.the_status()["staging"];
    assert_eq!(staging["already_mounted"], true, "{boot}");
    assert_eq!(staging["label"], "elsewhere", "{boot}");
    machine.sh("test -d /staging/condor -a -d /staging/tmp");
}

/// Version 0.1.0 wrote no mark. The packages run `boot` at an upgrade.
fn what_an_earlier_version_staged_is_marked_and_known_by_its_name_from_then_on() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(""));
    machine.sh("mkdir /staging; mount /dev/vdb /staging; echo work > /staging/file");
    machine.boot().ready_on("/dev/vdb");
    machine.sh("test $(stat -c %a:%u /staging/.vmstage) = 644:0 && umount /staging");
    let next = machine.boot();
    next.ready_on("/dev/vdb");
    next.says("/dev/vdb is accepted (ext4, ours)");
}

fn a_tmpfs_that_was_mounted_there_is_staged() {
    let machine = Machine::new();
    machine.sh("mkdir /staging; mount -t tmpfs scratch /staging");
    let boot = machine.boot();
    boot.ready_on("scratch");
    machine.sh("test -d /staging/condor -a -d /staging/tmp");
}

fn a_part_of_the_root_disk_mounted_there_is_staged_with_a_warning() {
    let mut machine = Machine::new();
    machine.sh("mkdir /staging /home/big; mount --bind /home/big /staging");
    machine.may_change("/home/big");
    let boot = machine.boot();
    assert_eq!(boot.code, 0, "{boot}");
    boot.warns(&["/staging", "root"]);
}

/// As where the root is a composefs, whose files are on the disk that `/sysroot` shows.
fn a_part_of_what_lies_below_an_overlay_of_the_system_is_staged_with_a_warning() {
    let machine = Machine::new();
    machine.disk("vda", &Image::ext4("root"));
    machine.sh("mkdir /home/disk /staging /srv; mount /dev/vda /home/disk
        mkdir -p /home/disk/deployed /home/disk/big /home/disk/above /home/disk/work
        over=lowerdir=/home/disk/deployed,upperdir=/home/disk/above,workdir=/home/disk/work
        mount -t overlay composefs -o $over /var/tmp
        mount --bind /home/disk/big /staging");
    let boot = machine.boot();
    assert_eq!(boot.code, 0, "{boot}");
    boot.warns(&["/staging", "jobs will fill the root disk"]);
}

fn a_file_system_mounted_there_read_only_is_not_ready() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("mkdir /staging; mount -o ro /dev/vdb /staging");
    let boot = machine.boot();
    assert_eq!(boot.code, 4, "{boot}");
    boot.says("read-only");
}

fn a_mount_point_whose_parents_are_made_behind_a_link_is_staged() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nmount_point = \"/home/link/y/staging\"");
    machine.may_change("/home");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("mkdir /home/real; ln -s real /home/link");
    let boot = machine.boot();
    assert_eq!(boot.code, 0, "{boot}");
    let mounts = machine.mounts();
    let points: Vec<_> = mounts.iter().map(|mount| mount.point.as_str()).collect();
    assert!(points.contains(&"/home/real/y/staging"), "{points:?}");
}

fn a_mount_that_something_else_lies_over_is_not_taken_for_staged() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nmount_point = \"/mnt/staging\"");
    machine.may_change("/mnt");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.disk("vdc", &Image::ext4("other"));
    machine.sh("mkdir /mnt/staging; mount /dev/vdb /mnt/staging
         mount /dev/vdc /mnt; mkdir /mnt/staging");
    let boot = machine.boot();
    assert_eq!(boot.code, 4, "{boot}");
    boot.says("something else lies over it");
    assert_eq!(machine.sh("ls /mnt/staging"), "");
}

fn a_wrong_configuration_tells_htcondor_and_the_status_alone() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nmountpoint = \"/x\"");
    machine.sh("mkdir -p /etc/condor/config.d");
    machine.may_change("/etc/condor/config.d");
    machine.may_change("/var/lib/vmstage");
    let boot = machine.boot();
    assert_eq!(boot.code, 6, "{boot}");
    let drop_in = machine.sh("cat /etc/condor/config.d/*");
    assert!(drop_in.contains("START = False"), "{drop_in}");
    assert!(!machine.path("/etc/machinefeatures").exists());
}

fn probe_says_that_boot_would_format_a_blank_disk() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nformat = \"blank\"");
    machine.disk("vdb", &Image::blank(16));
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 0, "{probe}");
    assert!(
        probe
            .stdout
            .contains("would make a file system on /dev/vdb"),
        "{probe}"
    );
}

fn a_mount_point_with_a_similar_name_is_another() {
    for other in ["/mnt/staging", "/staging2", "/stagin", "/srv/staging/x"] {
        let machine = Machine::new();
        machine.disk("vdc", &Image::ext4("data"));
        machine.disk("vdb", &Image::ext4(EPHEMERAL0));
        machine.sh(&format!("mkdir -p {other}; mount /dev/vdc {other}"));
        let boot = machine.boot();
        boot.ready_on("/dev/vdb");
        assert_eq!(boot.the_status()["staging"]["already_mounted"], false);
    }
}

fn a_mount_below_the_mount_point_is_not_on_it() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("mkdir -p /staging/condor; mount -t tmpfs tmpfs /staging/condor");
    machine
        .boot()
        .ready_on("/dev/vdb")
        .warns(&["/staging", "1 "]);
}

fn a_device_named_like_the_mount_point_is_not_mistaken_for_it() {
    let machine = Machine::new();
    machine.disk("staging", &Image::ext4("data"));
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("mkdir /staging; mount /dev/staging /mnt; mount -t tmpfs /staging /srv/ || true");
    machine.boot().ready_on("/dev/vdb");
}

fn a_mount_point_with_a_space_is_staged_once() {
    for mount_point in ["/srv/my staging", "/my \\tmp\tdisk"] {
        let mut machine = Machine::new();
        machine.configure(&format!("[staging]\nmount_point = '{mount_point}'"));
        machine.disk("vdb", &Image::ext4(EPHEMERAL0));
        let boot = machine.boot();
        boot.ready_on("/dev/vdb");
        let path = &boot.the_status()["directories"][0]["path"];
        assert_eq!(*path, format!("{mount_point}/condor"), "{boot}");
        let second = machine.boot();
        second.ready_on("/dev/vdb");
        assert_eq!(second.the_status()["staging"]["already_mounted"], true);
    }
}

fn a_mount_point_behind_a_link_is_staged_once() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nmount_point = \"/data/staging\"");
    symlink("home", machine.path("/data")).unwrap();
    machine.may_change("/home/staging");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    for _ in 0..2 {
        let boot = machine.boot();
        assert_eq!(boot.code, 0, "{boot}");
        let there = machine.mounts();
        let there = there.iter().filter(|mount| mount.point == "/home/staging");
        assert_eq!(there.count(), 1, "{boot}");
    }
}

fn a_mount_point_is_made_with_its_parents_for_everybody_to_enter() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nmount_point = \"/srv/a/b\"");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    let mut boot = machine.command("/bin/sh", None);
    boot.args(["-c", "umask 077; exec vmstage boot"]);
    machine.start_command(boot).wait().ready_on("/dev/vdb");
    machine.sh("umount /srv/a/b");
    for directory in ["/srv", "/srv/a", "/srv/a/b"] {
        let metadata = fs::metadata(machine.path(directory)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o755, "{directory}");
    }
}

fn a_mount_point_that_is_a_link_is_an_error() {
    for target in ["home", "/nowhere"] {
        let machine = Machine::new();
        machine.disk("vdb", &Image::ext4(EPHEMERAL0));
        symlink(target, machine.path("/staging")).unwrap();
        let boot = machine.boot();
        boot.failed(4).says("/staging").says("symbolic link");
    }
}

fn a_mount_point_that_is_a_file_is_an_error() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(""));
    fs::write(machine.path("/staging"), "notes").unwrap();
    machine.boot().failed(4).says("/staging").says("a file");
}

fn a_mount_point_with_something_in_it_is_mounted_over_with_a_warning() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("mkdir -p /staging/condor/execute; cd /staging; touch one .two; ln -s /etc link");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns(&["/staging", "4 "]);
}

fn after_a_failed_mount_the_mount_point_and_its_parents_are_gone_again() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nmount_point = \"/srv/scratch/disk\"");
    machine.disk("vdb", &Image::that_cannot_be_mounted(EPHEMERAL0));
    machine.boot().failed(4).says("/srv/scratch/disk");
    assert!(!machine.path("/srv").exists());

    fs::create_dir(machine.path("/srv")).unwrap();
    machine.boot().failed(4);
    assert!(machine.path("/srv").exists());
    assert!(!machine.path("/srv/scratch").exists());
}

fn after_a_failed_mount_an_older_mount_point_is_still_there() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::that_cannot_be_mounted(EPHEMERAL0));
    machine.sh("mkdir -m 700 /staging");
    machine.boot().failed(4);
    machine.sh("touch /staging/notes");
    machine.boot().failed(4);
    assert!(machine.path("/staging/notes").exists());
}

fn without_a_disk_no_mount_point_is_made() {
    let machine = Machine::new();
    machine.boot().failed(3);
    assert!(!machine.path("/staging").exists());
}

fn a_boot_that_is_killed_while_it_waits_leaves_nothing() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"20s\"");
    let before = machine.root_tree();
    let mut boot = machine.start(&["boot"]);
    sleep(Duration::from_millis(500));
    boot.process().kill().unwrap();
    drop(boot);
    assert_eq!(machine.root_tree(), before);
    // Nor does it keep the next one from its turn.
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.boot().ready_on("/dev/vdb");
}

fn a_label_with_control_characters_breaks_no_line() {
    let volume_name = 1024 + 120;
    let image = Image::ext2("x").with(volume_name, b"a\nREADY=1\n\x1b[2J\0");
    let machine = Machine::new();
    machine.disk("vdb", &image);
    let manager = bind_socket(&machine.path("/run"), "notify");
    let boot = machine.run_with(&["boot"], &[("NOTIFY_SOCKET", "/run/notify")]);
    boot.ready_on("/dev/vdb");
    let mut told = [0; 4096];
    let length = manager.recv(&mut told).unwrap();
    let told = String::from_utf8_lossy(&told[..length]).into_owned();
    assert_eq!(told.matches("READY=1\n").count(), 1, "{told:?}");
    let status = machine.run(&["status"]);
    let probe = machine.run(&["probe"]);
    for said in [&boot.console, &boot.stderr, &status.stdout, &probe.stdout] {
        assert!(!said.contains("\nREADY=1"), "{said:?}");
        assert!(!said.contains('\x1b'), "{said:?}");
    }
    assert_eq!(boot.console.lines().count(), 1, "{boot}");
}

fn a_read_only_root_without_the_mount_point_is_a_plain_error() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.make_root_read_only();
    let boot = machine.boot();
    boot.failed(4).says("/staging").says("read-only");
}

fn a_read_only_root_with_the_mount_point_is_no_obstacle() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    fs::create_dir(machine.path("/staging")).unwrap();
    machine.make_root_read_only();
    let boot = machine.boot();
    // What batch jobs are told has no place there.
    boot.ready_on("/dev/vdb").warns(&["/etc/machinefeatures"]);
}

const OLD_MTAB: &str = "/dev/vda1 / ext3 rw 0 0\nproc /proc proc rw 0 0\n";

fn with_mtab_file(content: &str) -> Machine {
    let machine = Machine::new();
    fs::remove_file(machine.path("/etc/mtab")).unwrap();
    fs::write(machine.path("/etc/mtab"), content).unwrap();
    machine
}

fn mtab(machine: &Machine) -> String {
    fs::read_to_string(machine.path("/etc/mtab")).unwrap()
}

fn mtab_gets_the_line_that_an_earlier_boot_could_not_write() {
    let machine = with_mtab_file("");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("mkdir /staging; mount -n /dev/vdb /staging");
    for _ in 0..2 {
        machine.boot().ready_on("/dev/vdb");
        let lines = machine.sh("grep -c '^/dev/vdb /staging ' /etc/mtab");
        assert_eq!(lines, "1\n");
    }
}

fn mtab_gets_its_line_once() {
    let machine = with_mtab_file(OLD_MTAB);
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
    let expected = format!("{OLD_MTAB}/dev/vdb /staging ext2 rw,nosuid,nodev");
    assert!(mtab(&machine).starts_with(&expected), "{}", mtab(&machine));
    let lines = mtab(&machine).lines().count();
    assert_eq!(lines, 3);
    let left = machine.sh("ls /etc");
    assert!(!left.contains('~'), "a lock is left behind: {left}");

    machine.boot().ready_on("/dev/vdb");
    assert_eq!(mtab(&machine).lines().count(), lines);

    // As after a crash: the line is there, the mount is not.
    machine.sh("umount --no-mtab /staging");
    machine.boot().ready_on("/dev/vdb");
    assert_eq!(mtab(&machine).lines().count(), lines);
}

fn mtab_gets_the_line_that_df_and_umount_understand() {
    let machine = with_mtab_file("");
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    machine.boot().ready_on("/dev/vdb");
    let table = mtab(&machine);
    let fields: Vec<&str> = table.trim_end().split(' ').collect();
    assert_eq!(fields.len(), 6, "{table}");
    assert_eq!(fields[..3], ["/dev/vdb", "/staging", "ext2"]);
    assert_eq!(fields[4..], ["0", "0"]);
}

fn mtab_gets_a_mount_point_with_a_space_escaped() {
    let mut machine = with_mtab_file(OLD_MTAB);
    machine.configure("[staging]\nmount_point = \"/srv/my staging\"");
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    machine.boot().ready_on("/dev/vdb");
    let expected = format!("{OLD_MTAB}/dev/vdb /srv/my\\040staging ext2 rw,nosuid,nodev");
    assert!(mtab(&machine).starts_with(&expected), "{}", mtab(&machine));
}

fn an_mtab_without_a_last_newline_is_not_spoilt() {
    let machine = with_mtab_file(OLD_MTAB.trim_end());
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    machine.boot().ready_on("/dev/vdb");
    let expected = format!("{OLD_MTAB}/dev/vdb /staging ext2 ");
    assert!(mtab(&machine).starts_with(&expected), "{}", mtab(&machine));
}

fn a_stale_lock_of_mtab_is_removed_and_costs_no_line() {
    let mut machine = with_mtab_file(OLD_MTAB);
    machine.may_change("/etc/mtab~");
    fs::write(machine.path("/etc/mtab~"), "").unwrap();
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    assert!(boot.took < Duration::from_secs(3), "{boot}");
    assert!(!machine.path("/etc/mtab~").exists());
    let mtab = fs::read_to_string(machine.path("/etc/mtab")).unwrap();
    assert_eq!(mtab.matches("/dev/vdb /staging ext2 ").count(), 1, "{mtab}");
}

fn a_stale_temporary_lock_of_mtab_does_no_harm() {
    let mut machine = with_mtab_file(OLD_MTAB);
    machine.may_change("/etc");
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    machine.sh("echo victim > /etc/victim; chmod 644 /etc/victim");
    // One of them is what the program will call its own.
    machine.sh("for n in $(seq 1 40000); do echo /etc/mtab~$n; done | xargs -n 5000 ln -s /etc/victim 2>/dev/null || true");
    let boot = machine.boot();
    assert_eq!(boot.code, 0, "{boot}");
    assert_eq!(
        machine.sh("cat /etc/victim; stat -c %a /etc/victim"),
        "victim\n644\n"
    );
}

fn a_lock_of_mtab_that_is_let_go_is_waited_for() {
    let mut machine = with_mtab_file(OLD_MTAB);
    machine.may_change("/etc/mtab~");
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    // As mount(8) does: it has locked the file that it has linked.
    let hold = "import fcntl, os, time; f = open('/etc/mtab~', 'w'); \
                fcntl.lockf(f, fcntl.LOCK_EX); open('/run/held', 'w'); time.sleep(1.5); \
                os.unlink('/etc/mtab~')";
    let mut holder = machine.command("python3", None);
    let mut holder = holder.args(["-c", hold]).spawn().unwrap();
    while !machine.path("/run/held").exists() {
        sleep(Duration::from_millis(10));
    }
    let boot = machine.boot();
    holder.wait().unwrap();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    assert!(boot.took > Duration::from_secs(1), "{boot}");
    assert_eq!(mtab(&machine).lines().count(), 3);
}

fn an_mtab_that_cannot_be_written_is_a_warning() {
    let machine = with_mtab_file(OLD_MTAB);
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    fs::create_dir(machine.path("/staging")).unwrap();
    machine.make_root_read_only();
    machine.boot().ready_on("/dev/vdb").warns(&["/etc/mtab"]);
}

const FORMAT: &str = "[staging]\nformat = \"blank\"\n";

fn a_blank_disk_is_not_formatted_by_default() {
    let machine = Machine::new();
    let blank = machine.disk("vdb", &Image::blank(64));
    let boot = machine.boot();
    boot.failed(3).rejects("/dev/vdb", "blank");
    assert_eq!(blank.checksum(), Image::blank(64).checksum());
}

fn a_blank_disk_is_formatted_when_asked_and_found_by_its_label_from_then_on() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    machine.disk("vdb", &Image::blank(64));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert_eq!(boot.the_status()["staging"]["label"], EPHEMERAL0);
    assert_eq!(boot.the_status()["staging"]["filesystem"], "ext4");

    machine.sh("echo keep > /staging/tmp/file; umount /staging");
    machine.configure("[staging]\ndevices = [\"LABEL=ephemeral0\"]\nformat = \"blank\"");
    machine.boot().ready_on("/dev/vdb");
    assert_eq!(machine.sh("cat /staging/tmp/file"), "keep\n");
}

fn a_blank_disk_gets_the_file_system_that_is_asked_for() {
    for filesystem in ["ext2", "ext3", "ext4", "xfs", "btrfs"] {
        tool(&format!("mkfs.{filesystem}"));
        let mut machine = Machine::new();
        machine.configure(&format!("{FORMAT}filesystem = \"{filesystem}\""));
        machine.disk("vdb", &Image::blank(400));
        let boot = machine.boot();
        boot.ready_on("/dev/vdb");
        assert_eq!(boot.the_status()["staging"]["filesystem"], filesystem);
        assert_eq!(boot.the_status()["staging"]["label"], EPHEMERAL0);
    }
}

fn a_disk_that_is_almost_blank_is_not_formatted() {
    let mib = 1 << 20;
    let size = 64 * mib;
    // The first and last byte, inside the first and last MiB, where a partition and where
    // copies of a superblock would be, and a file's worth anywhere in between.
    let traces: [(u64, &[u8]); 10] = [
        (0, b"x"),
        (mib - 1, b"x"),
        (mib + 1080, b"x"),
        (4 * mib - 1, b"x"),
        (8 * mib + 1080, b"x"),
        (32 * mib + 56, b"x"),
        (size - 1, b"x"),
        (size - mib + 5000, b"x"),
        (size / 2, b"x"),
        (size / 3, &[0x55; 300 * 1024]),
    ];
    for (offset, bytes) in traces {
        let mut machine = Machine::new();
        machine.configure(FORMAT);
        let image = Image::blank(64).with(offset, bytes);
        let disk = machine.disk("vdb", &image);
        machine.boot().failed(3).rejects("/dev/vdb", "");
        assert_eq!(disk.checksum(), image.checksum(), "at {offset}");
    }
}

fn a_disk_with_a_damaged_superblock_is_not_formatted() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    let magic = 1024 + 56;
    let image = Image::ext4(EPHEMERAL0).with(magic, &[0, 0]);
    let disk = machine.disk("vdb", &image);
    machine.boot().failed(3).rejects("/dev/vdb", "damaged");
    assert_eq!(disk.checksum(), image.checksum());
}

fn a_disk_that_holds_something_is_not_formatted() {
    let disks = [
        Image::swap(""),
        Image::lvm(),
        Image::luks(),
        Image::raid(),
        Image::iso9660("CDROM"),
        Image::vfat("config-2"),
        Image::blank(16).with_dos_table(),
        Image::partitioned("gpt", &[Image::blank(16)]),
        Image::ext("ext4", "", &["-b", "4096"]).with_hibernation_signature(),
        Image::that_cannot_be_mounted(EPHEMERAL0),
    ];
    for image in disks {
        let mut machine = Machine::new();
        machine.configure(FORMAT);
        let disk = machine.disk("vdb", &image);
        let boot = machine.boot();
        assert!(boot.code == 3 || boot.code == 4, "{boot}");
        assert_eq!(disk.checksum(), image.checksum(), "{boot}");
    }
}

fn a_blank_disk_that_no_spec_names_is_not_formatted() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    let blank = machine.disk("vdz", &Image::blank(64));
    machine.boot().failed(3);
    assert_eq!(blank.checksum(), Image::blank(64).checksum());
}

fn a_blank_disk_is_not_formatted_where_another_can_be_used() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    let blank = machine.disk("vdb", &Image::blank(64));
    machine.disk("sdb", &Image::ext4(""));
    machine.boot().ready_on("/dev/sdb");
    assert_eq!(blank.checksum(), Image::blank(64).checksum());
}

fn a_disk_whose_end_cannot_be_read_is_not_formatted() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    let disk = machine.disk("vdb", &Image::blank(64));
    disk.truncate(32 << 20);
    machine
        .boot()
        .failed(3)
        .rejects("/dev/vdb", "cannot be read");
    assert_eq!(disk.checksum(), Image::blank(32).checksum());
}

fn a_blank_disk_that_is_read_only_is_rejected() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    machine.read_only_disk("vdb", &Image::blank(64));
    machine.boot().failed(3).rejects("/dev/vdb", "read-only");
}

fn a_tiny_blank_disk_is_an_error_and_no_panic() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    let tiny = Image::blank(0).with(4095, &[0]);
    machine.disk("vdb", &tiny);
    let boot = machine.boot();
    assert!((1..=4).contains(&boot.code), "{boot}");
    boot.failed(boot.code).does_not_say("panicked");
}

fn a_disk_that_somebody_has_open_is_not_formatted() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    let disk = machine.disk("vdb", &Image::blank(16));
    let before = disk.checksum();
    let _holder = open_exclusively(&machine, "/dev/vdb");
    let boot = machine.boot();
    boot.failed(3).says("cannot have /dev/vdb alone");
    assert_eq!(disk.checksum(), before);
}

fn mkfs_is_given_the_disk_and_not_the_link_that_led_to_it() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nformat = \"blank\"\ndevices = [\"/dev/disk/by-id/scratch\"]");
    machine.disk("vdb", &Image::blank(16));
    machine.sh("mkdir /dev/disk/by-id; ln -s ../../vdb /dev/disk/by-id/scratch");
    machine.sh("rm -f /usr/sbin/mkfs.ext4
        printf '#!/bin/sh\\necho \"$@\" >&2\\nexit 7\\n' > /usr/sbin/mkfs.ext4
        chmod 755 /usr/sbin/mkfs.ext4");
    // The machine's own name for it sorts first.
    let said = machine.boot().stderr;
    assert!(said.contains("making ext4 on /dev/vdb"), "{said}");
    assert!(said.contains("-L ephemeral0 "), "{said}");
    assert!(said.contains(" /proc/self/fd/0"), "{said}");
}

fn a_disk_is_not_formatted_for_a_mount_point_that_is_a_file() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    let disk = machine.disk("vdb", &Image::blank(16));
    let before = disk.checksum();
    machine.sh("touch /staging");
    let boot = machine.boot();
    boot.failed(4).says("the mount point is a file");
    assert_eq!(disk.checksum(), before);
}

fn without_mkfs_formatting_is_a_plain_error() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    machine.sh("rm -f /usr/sbin/mkfs.ext4 /usr/bin/mkfs.ext4 /sbin/mkfs.ext4");
    let blank = machine.disk("vdb", &Image::blank(64));
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 3, "{probe}");
    assert!(probe.stdout.contains("there is no mkfs.ext4"), "{probe}");
    let boot = machine.boot();
    boot.failed(3).says("mkfs.ext4").says("/dev/vdb");
    for said in [probe.stdout, boot.stderr] {
        assert!(said.contains("cannot get one"), "{said}");
        assert!(!said.contains("gets a file system"), "{said}");
    }
    assert_eq!(blank.checksum(), Image::blank(64).checksum());
}

fn a_failing_mkfs_is_quoted() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    machine.sh("rm -f /usr/sbin/mkfs.ext4
        printf '#!/bin/sh\\necho out of luck >&2\\nexit 7\\n' > /usr/sbin/mkfs.ext4
        chmod 755 /usr/sbin/mkfs.ext4");
    machine.disk("vdb", &Image::blank(64));
    machine
        .boot()
        .failed(3)
        .says("out of luck")
        .says("/dev/vdb");
}

fn an_environment_without_anything_in_it_suffices() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    machine.disk("vdb", &Image::blank(64));
    let mut boot = machine.command("/usr/sbin/vmstage", None);
    boot.arg("boot").env_clear();
    machine.start_command(boot).wait().ready_on("/dev/vdb");
}

fn what_somebody_mounts_there_while_a_disk_is_waited_for_is_staged() {
    for mount in ["mount /dev/vdz /staging", "mount -t tmpfs scratch /staging"] {
        let mut machine = Machine::new();
        machine.configure("[staging]\nwait = \"20s\"");
        machine.disk("vdz", &Image::ext4("other"));
        machine.sh("mkdir /staging");
        let boot = machine.start(&["boot"]);
        sleep(Duration::from_millis(500));
        machine.sh(mount);
        let boot = boot.wait();
        boot.ready_on(if mount.contains("vdz") {
            "/dev/vdz"
        } else {
            "scratch"
        });
        assert!(boot.took < Duration::from_secs(5), "{boot}");
        let staging = &boot.the_status()["staging"];
        assert_eq!(staging["already_mounted"], true, "{boot}");
    }
}

fn a_disk_that_waits_to_be_formatted_is_left_alone_once_another_is_mounted_there() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"3s\"\nformat = \"blank\"");
    let blank = machine.disk("vdb", &Image::blank(64));
    machine.disk("vdz", &Image::ext4("other"));
    let before = blank.checksum();
    machine.sh("mkdir /staging");
    let boot = machine.start(&["boot"]);
    sleep(Duration::from_millis(500));
    machine.sh("mount /dev/vdz /staging");
    boot.wait().ready_on("/dev/vdz");
    assert_eq!(blank.checksum(), before);
}

nix::ioctl_write_int_bad!(
    /// `AUTOFS_IOC_READY` of linux/auto_fs.h: what was asked for is mounted.
    autofs_ready,
    0x9360
);

/// As systemd does where fstab has `x-systemd.automount`: what is asked of it, and the mount
/// point.
fn automount(machine: &Machine) -> (PipeReader, PipeWriter, File) {
    machine.sh("mkdir /staging");
    let (asked, ask) = std::io::pipe().unwrap();
    let options = format!(
        "fd={},pgrp={},minproto=5,maxproto=5,direct",
        ask.as_raw_fd(),
        getpgrp()
    );
    let point = machine.path("/staging");
    let flags = MsFlags::empty();
    mount(
        Some("systemd-1"),
        &point,
        Some("autofs"),
        flags,
        Some(options.as_str()),
    )
    .unwrap();
    let mount_point = File::open(&point).unwrap();
    (asked, ask, mount_point)
}

fn probe_has_nothing_mounted_on_demand() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    let (asked, _ask, _automount) = automount(&machine);
    let mut command = machine.command("/usr/sbin/vmstage", None);
    command.arg("probe").process_group(0);
    let mut probe = machine.start_command(command);
    let start = Instant::now();
    while probe.process().try_wait().unwrap().is_none() {
        let mut event = [PollFd::new(asked.as_fd(), PollFlags::POLLIN)];
        let events = poll(&mut event, 10u8).unwrap();
        assert_eq!(events, 0, "it had it mounted");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    let probe = probe.wait();
    assert_eq!(probe.code, 0, "{probe}");
    let said = "boot would use what is mounted on /staging on demand";
    assert!(probe.stdout.contains(said), "{probe}");
}

fn what_is_mounted_there_on_demand_is_staged() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    let (mut asked, _ask, automount) = automount(&machine);
    let mut command = machine.command("/usr/sbin/vmstage", None);
    // Processes of the automounter's own group mount nothing by looking.
    command.arg("boot").process_group(0);
    let boot = machine.start_command(command);
    let mut packet = [0; 512];
    let length = asked.read(&mut packet).unwrap();
    assert!(length >= 12, "{length} bytes");
    let token = u32::from_ne_bytes(packet[8..12].try_into().unwrap());
    machine.sh("mount /dev/vdb /staging");
    // SAFETY: this ioctl takes a number.
    unsafe { autofs_ready(automount.as_raw_fd(), token as i32) }.unwrap();

    let boot = boot.wait();
    assert_eq!(boot.code, 0, "{boot}");
    boot.says("ready: /dev/vdb (ext4, LABEL=ephemeral0) on /staging");
    let status = machine.run(&["status"]);
    assert_eq!(status.code, 0, "{status}");
}

/// A boot in which strace has system calls do what they are told.
fn start_with<'a>(machine: &'a Machine, faults: &[&str]) -> Running<'a> {
    let strace = tool("strace");
    let mut command = machine.command(strace.to_str().unwrap(), None);
    command.args(["-qq", "-o", "/dev/null"]).args(faults);
    command.args(["/usr/sbin/vmstage", "boot"]);
    machine.start_command(command)
}

/// The first two mounts of a child make it a namespace of its own.
fn a_kernel_without_noload_looks_into_no_disk() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"0s\"");
    let disk = machine.disk("vdb", &Image::ext4(""));
    let before = disk.checksum();
    let unknown = "inject=mount:error=EINVAL:when=3+";
    let boot = start_with(&machine, &["-f", "-e", "trace=mount", "-e", unknown]).wait();
    let words =
        "cannot be looked into (Invalid argument (os error 22)), so that it may be somebody's";
    boot.failed(3).rejects("/dev/vdb", words);
    assert_eq!(disk.checksum(), before, "{boot}");
}

/// The program is stopped between its mount(2) and what it does next.
fn what_comes_over_a_mount_of_this_run_is_not_unmounted() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("mkdir /staging");
    let stopped = "inject=mount:signal=STOP:when=1";
    let mut boot = start_with(&machine, &["-e", "trace=mount", "-e", stopped]);
    while !machine
        .mounts()
        .iter()
        .any(|mount| mount.point == "/staging")
    {
        sleep(Duration::from_millis(10));
    }
    machine.sh("mount -t tmpfs theirs /staging; touch /staging/precious");
    let strace = boot.process().id();
    machine.sh(&format!(
        "kill -CONT $(cat /proc/{strace}/task/{strace}/children)"
    ));
    let boot = boot.wait();
    boot.failed_staged(4).says("theirs was mounted over it");
    assert_eq!(machine.sh("ls /staging"), "precious\n");
}

fn a_mount_point_hidden_by_a_mount_that_lacks_it_is_an_error_that_says_so() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nmount_point = \"/mnt/staging\"");
    machine.may_change("/mnt");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.disk("vdc", &Image::ext4("other"));
    machine.sh("mkdir /mnt/staging; mount /dev/vdb /mnt/staging; mount /dev/vdc /mnt");
    let boot = machine.boot();
    assert_eq!(boot.code, 4, "{boot}");
    boot.says("something else lies over it");
}

fn a_parent_of_the_mount_point_that_leads_nowhere_is_named() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nmount_point = \"/data/staging\"");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("ln -s /nowhere /data");
    let boot = machine.boot();
    boot.failed(4)
        .says("cannot make /data: a symbolic link is in its place");
}

fn a_mount_point_that_is_really_a_directory_of_the_system_is_an_error() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nmount_point = \"/root/link/etc\"");
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("ln -s / /root/link");
    machine
        .boot()
        .failed(4)
        .says("the mount point is really /etc");
}

fn probe_fails_as_boot_does_for_the_mount_point() {
    let cases = [
        ("ln -s /tmp /staging", "the mount point is a symbolic link"),
        ("touch /staging", "the mount point is a file"),
        (
            "mkdir /staging; mount -o ro /dev/vdz /staging",
            "is mounted read-only on /staging",
        ),
    ];
    for (script, said) in cases {
        let machine = Machine::new();
        machine.disk("vdb", &Image::ext4(EPHEMERAL0));
        machine.disk("vdz", &Image::ext4("other"));
        machine.sh(script);
        let probe = machine.run(&["probe"]);
        assert_eq!(probe.code, 4, "{probe}");
        let expected = "boot would mount nothing on /staging: ";
        assert!(probe.stdout.contains(expected), "{probe}");
        probe.says(said);
        assert!(probe.stdout.contains(said), "{probe}");
        let boot = machine.boot();
        assert_eq!(boot.code, 4, "{boot}");
        boot.says(said);
    }
}

fn boots_that_cannot_lock_are_ready_both() {
    for _ in 0..5 {
        let mut machine = Machine::new();
        machine.disk("vdb", &Image::ext4(EPHEMERAL0));
        machine.sh("mount -o remount,ro /run");
        // The status goes there then, and of three the last one's stays.
        machine.may_change("/var/lib/vmstage");
        let boots = [(); 3].map(|()| machine.start(&["boot"]));
        for boot in boots {
            let outcome = boot.wait();
            assert_eq!(outcome.code, 0, "{outcome}");
            assert_eq!(outcome.staged().len(), 1, "{outcome}");
        }
    }
}

/// By its label and by its name.
fn that_a_disk_is_accepted_is_said_once() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let boot = machine.boot();
    let said = "LABEL=ephemeral0: /dev/vdb is accepted (LABEL=ephemeral0)\n";
    assert!(boot.stderr.contains(said), "{boot}");
    assert_eq!(boot.stderr.matches("is accepted").count(), 1, "{boot}");
    let verdicts = &boot.the_status()["verdicts"];
    assert_eq!(verdicts[2]["verdict"], "accepted", "{verdicts}");
}

fn a_labelled_disk_mounted_elsewhere_by_a_node_that_is_gone_is_staged() {
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.name("gone", disk.number);
    machine.sh("mount /dev/gone /mnt; rm /dev/gone");
    machine
        .boot()
        .ready_on("/dev/vdb")
        .warns(&["also mounted on /mnt"]);
}

fn a_labelled_disk_mounted_elsewhere_read_only_is_an_error_that_names_the_place() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.sh("mount -o ro /dev/vdb /mnt");
    let boot = machine.boot();
    boot.failed(4)
        .says("it is mounted on /mnt, with other options");
}

/// Its table was wiped, and the kernel has not been told.
fn a_disk_with_partitions_that_the_kernel_knows_is_not_formatted() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    let partitioned = Image::partitioned("dos", &[Image::blank(8)]);
    let disk = machine.partitioned_disk("vdb", &partitioned);
    machine.sh("dd if=/dev/zero of=/dev/vdb bs=512 count=1 conv=notrunc 2>/dev/null; sync");
    let before = disk.checksum();
    let boot = machine.boot();
    boot.failed(3)
        .rejects("/dev/vdb", "the kernel knows partitions of it (");
    assert_eq!(disk.checksum(), before);
}

fn a_disk_is_not_formatted_where_the_mount_point_cannot_be_made() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    let disk = machine.disk("vdb", &Image::blank(64));
    let before = disk.checksum();
    machine.make_root_read_only();
    let boot = machine.boot();
    boot.failed(4).says("cannot make /staging");
    assert_eq!(disk.checksum(), before);
}

fn a_file_system_with_a_wrong_checksum_is_an_error_that_says_what_to_do() {
    let machine = Machine::new();
    // The last byte of the superblock's own checksum.
    let image = Image::ext("ext4", EPHEMERAL0, &["-O", "metadata_csum"]);
    machine.disk("vdb", &image.with_turned(1024 + 1023));
    let boot = machine.boot();
    assert_eq!(boot.code, 4, "{boot}");
    boot.failed(4).says("run fsck on it");
}

fn a_part_of_a_btrfs_on_several_devices_is_an_error_that_says_what_to_do() {
    let machine = Machine::new();
    for name in ["vdb", "vdc"] {
        machine.disk(name, &Image::blank(200));
    }
    machine.sh("mkfs.btrfs -q -L ephemeral0 -m raid1 -d raid0 /dev/vdb /dev/vdc");
    let boot = machine.boot();
    boot.failed(4).says("one of several devices");
}

/// mount(2) says that it was done, and was not.
fn a_mount_that_the_table_does_not_show_is_not_believed() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    let boot = start_with(
        &machine,
        &["-e", "trace=mount", "-e", "inject=mount:retval=0"],
    )
    .wait();
    boot.failed(4).says("the mount table does not show it");
}

fn a_mount_that_cannot_be_verified_is_taken_back() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    // It is read when boot begins, right before mounting, and then.
    let third = "inject=open,openat:error=EIO:when=3";
    let boot = start_with(
        &machine,
        &[
            "-e",
            "trace=open,openat",
            "-P",
            "/proc/self/mounts",
            "-e",
            third,
        ],
    );
    let boot = boot.wait();
    boot.failed(4).says("cannot read /proc/self/mounts");
}

fn where_the_kernel_has_no_driver_for_ext2_that_for_ext4_is_taken() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    // Two make the mount namespace of the child that tries it first.
    let third = "inject=mount:error=ENODEV:when=3";
    let boot = start_with(&machine, &["-f", "-e", "trace=mount", "-e", third]).wait();
    boot.ready_on("/dev/vdb");
    assert_eq!(boot.staged()[0].filesystem, "ext4", "{boot}");
}

fn parents_of_a_mount_point_that_cannot_be_made_are_gone_again() {
    let mut machine = Machine::new();
    let too_long = "x".repeat(256);
    machine.configure(&format!("[staging]\nmount_point = \"/a/b/{too_long}\""));
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.boot().failed(4).says("cannot make /a/b/x");
}

fn an_mtab_that_is_a_link_is_left_alone() {
    let machine = with_mtab_file(OLD_MTAB);
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    machine.sh("mv /etc/mtab /etc/elsewhere; ln -s elsewhere /etc/mtab");
    machine.boot().ready_on("/dev/vdb");
    assert_eq!(machine.sh("cat /etc/elsewhere"), OLD_MTAB);
}
