//! Which disk is staged: the binary before real block devices, named as in a guest.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::Duration;

use crate::common::{Attach, Image, Machine};

claims![
    a_disk_labelled_ephemeral0_is_staged,
    a_disk_labelled_blankpartition0_is_staged,
    a_label_is_found_on_a_disk_of_any_name,
    of_both_labels_the_first_spec_wins,
    a_longer_or_shorter_label_is_another_label,
    a_label_with_spaces_and_accents_is_found,
    a_disk_without_a_label_is_found_by_each_name,
    of_several_names_the_first_spec_wins,
    a_label_wins_over_a_name,
    a_spec_may_be_a_link_below_dev,
    without_any_disk_every_spec_is_absent,
    a_swap_disk_is_rejected_and_the_search_goes_on,
    a_swap_disk_that_has_the_label_is_rejected,
    a_config_drive_is_rejected_and_the_search_goes_on,
    an_iso9660_disk_of_any_label_is_rejected,
    a_blank_disk_is_rejected_and_the_search_goes_on,
    lvm_raid_luks_and_zfs_are_rejected,
    a_partitioned_disk_is_rejected_by_its_name,
    a_label_is_found_on_a_partition,
    a_partition_is_found_by_its_name,
    ambivalent_signatures_are_rejected,
    a_former_raid_member_is_rejected,
    a_file_system_beside_a_partition_table_is_rejected,
    a_disk_that_cannot_be_read_is_rejected_and_the_search_goes_on,
    a_disk_that_cannot_be_read_does_not_hide_a_label,
    a_disk_with_a_damaged_superblock_does_not_end_the_search_by_names,
    a_node_that_no_driver_owns_is_rejected_and_the_search_goes_on,
    what_is_not_a_block_device_is_rejected_and_the_search_goes_on,
    a_link_to_nowhere_is_absent,
    a_read_only_disk_is_rejected_and_the_search_goes_on,
    of_two_disks_with_one_label_the_first_is_staged_with_a_warning,
    a_stale_label_link_does_not_mislead,
    a_label_link_to_nothing_does_no_harm,
    a_label_link_is_followed_to_the_disk_s_own_name,
    a_disk_two_seconds_late_is_waited_for,
    a_node_two_seconds_late_is_waited_for,
    a_file_system_that_is_made_late_is_waited_for,
    a_link_that_comes_late_is_not_waited_for_any_longer,
    a_rejected_disk_does_not_end_the_wait_for_a_late_one,
    a_disk_that_never_comes_is_waited_for_as_long_as_configured,
    a_disk_that_never_comes_is_waited_for_five_seconds_by_default,
    the_root_disk_is_rejected_by_its_name,
    the_root_disk_is_rejected_by_its_label,
    a_partition_of_the_root_disk_is_taken_by_its_label_and_the_root_itself_never,
    a_partition_of_the_root_disk_that_a_spec_names_is_taken_if_it_is_empty,
    the_root_disk_is_rejected_below_a_logical_volume,
    a_disk_that_something_is_made_of_is_rejected,
    a_partition_of_a_disk_that_something_is_made_of_is_rejected,
    a_volume_is_rejected_by_its_virtio_serial,
    a_volume_is_rejected_by_its_scsi_serial,
    a_disk_without_a_medium_is_rejected,
    a_blank_disk_that_breaks_off_is_not_called_blank,
    a_labelled_disk_mounted_elsewhere_is_mounted_here_too,
    a_named_disk_mounted_elsewhere_is_rejected,
    a_labelled_disk_that_cannot_be_mounted_ends_the_search,
    a_named_disk_that_cannot_be_mounted_does_not_end_the_search,
    a_named_disk_that_cannot_be_mounted_does_not_end_the_wait_for_a_late_one,
    a_named_disk_that_cannot_be_mounted_is_rejected_by_whatever_name,
    a_disk_that_breaks_off_is_told_of_though_no_spec_names_it,
    an_ambivalent_disk_is_told_of_though_no_spec_names_it,
    a_swap_disk_that_only_the_label_leads_to_is_rejected;
    alone:
    a_disk_that_is_there_is_not_waited_for,
];

const EPHEMERAL0: &str = "ephemeral0";

fn a_disk_labelled_ephemeral0_is_staged() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    boot.verdict("LABEL=ephemeral0", "accepted", "");
    assert_eq!(boot.the_status()["staging"]["label"], EPHEMERAL0);
    assert_eq!(boot.the_status()["staging"]["filesystem"], "ext2");
}

fn a_disk_labelled_blankpartition0_is_staged() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4("blankpartition0"));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    boot.verdict("LABEL=ephemeral0", "absent", "");
    boot.verdict("LABEL=blankpartition0", "accepted", "");
}

fn a_label_is_found_on_a_disk_of_any_name() {
    for name in ["sdq", "nvme0n1", "xvde", "vdb"] {
        let machine = Machine::new();
        machine.disk(name, &Image::ext4(EPHEMERAL0));
        machine.boot().ready_on(&format!("/dev/{name}"));
    }
}

fn of_both_labels_the_first_spec_wins() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext2("blankpartition0"));
    machine.disk("vdc", &Image::ext2(EPHEMERAL0));
    machine.boot().ready_on("/dev/vdc");
}

fn a_longer_or_shorter_label_is_another_label() {
    let machine = Machine::new();
    machine.disk("vdx", &Image::ext2("ephemeral01"));
    machine.disk("vdy", &Image::ext2("ephemeral"));
    machine.disk("vdz", &Image::ext2("Ephemeral0"));
    let boot = machine.boot();
    boot.failed(3);
    boot.verdict("LABEL=ephemeral0", "absent", "");
}

fn a_label_with_spaces_and_accents_is_found() {
    let mut machine = Machine::new();
    machine.configure("[staging]\ndevices = [\"LABEL=my scratché\"]");
    machine.disk("vdb", &Image::ext4("my scratché"));
    machine.boot().ready_on("/dev/vdb");
}

fn a_disk_without_a_label_is_found_by_each_name() {
    for device in ["/dev/vdb", "/dev/sdb", "/dev/xvdb"] {
        let machine = Machine::new();
        machine.disk(&device[5..], &Image::ext4(""));
        let boot = machine.boot();
        boot.ready_on(device).verdict(device, "accepted", "");
        assert!(boot.the_status()["staging"]["label"].is_null(), "{boot}");
    }
}

fn of_several_names_the_first_spec_wins() {
    let machine = Machine::new();
    machine.disk("xvdb", &Image::ext2(""));
    machine.disk("sdb", &Image::ext2(""));
    machine.boot().ready_on("/dev/sdb");
}

fn a_label_wins_over_a_name() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext2(""));
    machine.disk("vdc", &Image::ext2(EPHEMERAL0));
    machine.boot().ready_on("/dev/vdc");
}

fn a_spec_may_be_a_link_below_dev() {
    let mut machine = Machine::new();
    machine.configure("[staging]\ndevices = [\"/dev/disk/by-id/virtio-scratch\"]");
    machine.disk("vdc", &Image::ext2(""));
    fs::create_dir(machine.path("/dev/disk/by-id")).unwrap();
    symlink("../../vdc", machine.path("/dev/disk/by-id/virtio-scratch")).unwrap();
    let boot = machine.boot();
    assert_eq!(boot.code, 0, "{boot}");
    assert_eq!(boot.staged().len(), 1, "{boot}");
}

fn without_any_disk_every_spec_is_absent() {
    let boot = Machine::new().boot();
    boot.failed(3);
    for spec in [
        "LABEL=ephemeral0",
        "LABEL=blankpartition0",
        "/dev/vdb",
        "/dev/sdb",
        "/dev/xvdb",
    ] {
        boot.verdict(spec, "absent", "").says(spec);
    }
}

fn a_swap_disk_is_rejected_and_the_search_goes_on() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::swap(""));
    machine.disk("sdb", &Image::ext4(""));
    let boot = machine.boot();
    boot.ready_on("/dev/sdb").rejects("/dev/vdb", "swap");
}

fn a_swap_disk_that_has_the_label_is_rejected() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::swap(EPHEMERAL0));
    machine.disk("vdc", &Image::ext4(EPHEMERAL0));
    let boot = machine.boot();
    boot.ready_on("/dev/vdc").rejects("/dev/vdb", "swap");
}

fn a_config_drive_is_rejected_and_the_search_goes_on() {
    for config_drive in [
        Image::vfat("config-2"),
        Image::vfat("CONFIG-2"),
        Image::iso9660("config-2"),
        Image::ext2("config-2"),
    ] {
        let machine = Machine::new();
        let drive = machine.disk("vdb", &config_drive);
        let before = drive.checksum();
        machine.disk("sdb", &Image::ext4(""));
        let boot = machine.boot();
        boot.ready_on("/dev/sdb");
        boot.rejects("/dev/vdb", "config drive");
        assert_eq!(drive.checksum(), before);
    }
}

fn an_iso9660_disk_of_any_label_is_rejected() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::iso9660("CDROM"));
    machine.disk("vdc", &Image::iso9660(EPHEMERAL0));
    let boot = machine.boot();
    boot.failed(3);
    boot.rejects("/dev/vdb", "iso9660");
    boot.rejects("/dev/vdc", "iso9660");
}

fn a_blank_disk_is_rejected_and_the_search_goes_on() {
    let machine = Machine::new();
    let blank = machine.disk("vdb", &Image::blank(16));
    let before = blank.checksum();
    machine.disk("sdb", &Image::ext4(""));
    let boot = machine.boot();
    boot.ready_on("/dev/sdb").rejects("/dev/vdb", "blank");
    assert_eq!(blank.checksum(), before);
}

fn lvm_raid_luks_and_zfs_are_rejected() {
    let disks = [
        (Image::lvm(), "LVM"),
        (Image::raid(), "RAID"),
        (Image::luks(), "LUKS"),
        // These two show only in large areas that libblkid reads in pieces.
        (Image::blank(80).with_zfs_labels(), "ZFS pool"),
        (Image::xfs_journal(), "xfs_external_log"),
    ];
    for (image, word) in disks {
        let machine = Machine::new();
        machine.disk("vdb", &image);
        machine.disk("sdb", &Image::ext4(""));
        let boot = machine.boot();
        boot.ready_on("/dev/sdb").rejects("/dev/vdb", word);
    }
}

fn a_partitioned_disk_is_rejected_by_its_name() {
    for table in ["dos", "gpt"] {
        let machine = Machine::new();
        let image = Image::partitioned(table, &[Image::ext4(""), Image::ext4("data")]);
        machine.partitioned_disk("vdb", &image);
        let boot = machine.boot();
        boot.failed(3).rejects("/dev/vdb", "partition table");
    }
}

fn a_label_is_found_on_a_partition() {
    for table in ["dos", "gpt"] {
        let machine = Machine::new();
        let image = Image::partitioned(table, &[Image::swap(""), Image::ext4(EPHEMERAL0)]);
        machine.partitioned_disk("vdb", &image);
        machine.boot().ready_on("/dev/vdb2");
    }
}

fn a_partition_is_found_by_its_name() {
    let mut machine = Machine::new();
    machine.configure("[staging]\ndevices = [\"/dev/vdb1\"]");
    let image = Image::partitioned("gpt", &[Image::ext4("")]);
    machine.partitioned_disk("vdb", &image);
    machine.boot().ready_on("/dev/vdb1");
}

fn ambivalent_signatures_are_rejected() {
    let block_4k = &["-b", "4096"];
    let disks = [
        Image::ext("ext4", EPHEMERAL0, block_4k).with_hibernation_signature(),
        Image::btrfs(EPHEMERAL0).with_swap_header(),
        Image::xfs(EPHEMERAL0).with_swap_header(),
    ];
    for image in disks {
        let machine = Machine::new();
        machine.disk("vdb", &image);
        machine.disk("sdb", &Image::ext4(""));
        let boot = machine.boot();
        boot.ready_on("/dev/sdb").rejects("/dev/vdb", "ambivalent");
    }
}

fn a_former_raid_member_is_rejected() {
    let machine = Machine::new();
    let image = Image::ext4(EPHEMERAL0).with_raid_superblock_at_its_end();
    machine.disk("vdb", &image);
    machine.disk("sdb", &Image::ext4(""));
    let boot = machine.boot();
    boot.ready_on("/dev/sdb").rejects("/dev/vdb", "RAID");
}

fn a_file_system_beside_a_partition_table_is_rejected() {
    for label in [EPHEMERAL0, ""] {
        let machine = Machine::new();
        machine.disk("vdb", &Image::ext4(label).with_dos_table());
        machine.disk("sdb", &Image::ext4(""));
        let boot = machine.boot();
        boot.ready_on("/dev/sdb")
            .rejects("/dev/vdb", "partition table");
    }
}

fn a_disk_that_cannot_be_read_is_rejected_and_the_search_goes_on() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0)).truncate(0);
    machine.disk("sdb", &Image::ext4(""));
    let boot = machine.boot();
    boot.ready_on("/dev/sdb").rejects("/dev/vdb", "os error 5");
}

fn a_disk_that_cannot_be_read_does_not_hide_a_label() {
    let machine = Machine::new();
    machine.disk("vda", &Image::ext4("")).truncate(0);
    machine.disk("vdz", &Image::ext4(EPHEMERAL0));
    machine.boot().ready_on("/dev/vdz");
}

fn a_disk_with_a_damaged_superblock_does_not_end_the_search_by_names() {
    let inodes_count = 1024;
    let damaged = Image::ext("ext4", "", &["-O", "metadata_csum"]).with(inodes_count, b"damaged");
    let machine = Machine::new();
    let disk = machine.disk("vdb", &damaged);
    machine.disk("sdb", &Image::ext4(""));
    let boot = machine.boot();
    boot.ready_on("/dev/sdb").says("/dev/vdb");
    assert_eq!(disk.checksum(), damaged.checksum());
}

fn a_node_that_no_driver_owns_is_rejected_and_the_search_goes_on() {
    let machine = Machine::new();
    // For experiments, says the kernel's list of device numbers.
    machine.name("vdb", (60, 0));
    machine.disk("sdb", &Image::ext4(""));
    let boot = machine.boot();
    boot.ready_on("/dev/sdb").rejects("/dev/vdb", "");
}

fn what_is_not_a_block_device_is_rejected_and_the_search_goes_on() {
    let objects = [
        "cp /dev/null /dev/vdb",
        "mkdir /dev/vdb",
        "mkfifo /dev/vdb",
        "mknod /dev/vdb c 1 3",
        "touch /tmp/f; ln -s /tmp/f /dev/vdb",
    ];
    for object in objects {
        let machine = Machine::new();
        machine.sh(object);
        machine.disk("sdb", &Image::ext4(""));
        let boot = machine.boot();
        boot.ready_on("/dev/sdb")
            .rejects("/dev/vdb", "not a block device");
    }
}

fn a_link_to_nowhere_is_absent() {
    let machine = Machine::new();
    symlink("/nowhere", machine.path("/dev/vdb")).unwrap();
    machine.disk("sdb", &Image::ext4(""));
    let boot = machine.boot();
    boot.ready_on("/dev/sdb").verdict("/dev/vdb", "absent", "");
}

fn a_read_only_disk_is_rejected_and_the_search_goes_on() {
    for label in [EPHEMERAL0, ""] {
        let machine = Machine::new();
        machine.read_only_disk("vdb", &Image::ext4(label));
        machine.disk("sdb", &Image::ext4(""));
        let boot = machine.boot();
        boot.ready_on("/dev/sdb").rejects("/dev/vdb", "read-only");
    }
}

fn of_two_disks_with_one_label_the_first_is_staged_with_a_warning() {
    let machine = Machine::new();
    machine.disk("vdc", &Image::ext2(EPHEMERAL0));
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb")
        .warns(&["/dev/vdb", "/dev/vdc", EPHEMERAL0]);
}

fn a_stale_label_link_does_not_mislead() {
    let machine = Machine::new();
    machine.disk("sdb", &Image::ext4(""));
    machine.disk("vdc", &Image::ext4(EPHEMERAL0));
    symlink("../../sdb", machine.path("/dev/disk/by-label/ephemeral0")).unwrap();
    machine.boot().ready_on("/dev/vdc");
}

fn a_label_link_to_nothing_does_no_harm() {
    let machine = Machine::new();
    machine.disk("vdc", &Image::ext4(EPHEMERAL0));
    symlink("../../gone", machine.path("/dev/disk/by-label/ephemeral0")).unwrap();
    machine.boot().ready_on("/dev/vdc");
}

fn a_label_link_is_followed_to_the_disk_s_own_name() {
    let mut machine = Machine::new();
    machine.configure("[staging]\ndevices = [\"LABEL=my disk\"]");
    machine.disk("vdc", &Image::ext4("my disk"));
    symlink("../../vdc", machine.path("/dev/disk/by-label/my\\x20disk")).unwrap();
    machine.boot().ready_on("/dev/vdc");
}

fn a_disk_two_seconds_late_is_waited_for() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"20s\"");
    let boot = machine.start(&["boot"]);
    sleep(Duration::from_secs(2));
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    let boot = boot.wait();
    boot.ready_on("/dev/vdb");
    assert!(boot.took < Duration::from_secs(4), "{boot}");
}

fn a_node_two_seconds_late_is_waited_for() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"20s\"");
    let disk = machine.attach(&Image::ext4(EPHEMERAL0), Attach::default());
    let boot = machine.start(&["boot"]);
    sleep(Duration::from_secs(2));
    machine.name("vdb", disk.number);
    let boot = boot.wait();
    boot.ready_on("/dev/vdb");
    assert!(boot.took < Duration::from_secs(4), "{boot}");
}

/// By cloud-init, say. No list of the kernel's tells.
fn a_file_system_that_is_made_late_is_waited_for() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"20s\"");
    machine.disk("vdb", &Image::blank(16));
    let boot = machine.start(&["boot"]);
    sleep(Duration::from_millis(1500));
    machine.sh("mkfs.ext4 -q -F -L ephemeral0 /dev/vdb");
    let boot = boot.wait();
    boot.ready_on("/dev/vdb");
    assert!(boot.took < Duration::from_secs(5), "{boot}");
}

fn a_link_that_comes_late_is_not_waited_for_any_longer() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"20s\"\ndevices = [\"/dev/disk/by-id/scratch\"]");
    machine.disk("vdb", &Image::ext4(""));
    machine.sh("mkdir /dev/disk/by-id");
    let boot = machine.start(&["boot"]);
    sleep(Duration::from_millis(500));
    machine.sh("ln -s ../../vdb /dev/disk/by-id/scratch");
    let boot = boot.wait();
    boot.ready_on("/dev/vdb");
    assert!(boot.took < Duration::from_secs(5), "{boot}");
}

fn a_rejected_disk_does_not_end_the_wait_for_a_late_one() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"20s\"");
    machine.disk("vdb", &Image::swap(""));
    let boot = machine.start(&["boot"]);
    sleep(Duration::from_secs(1));
    machine.disk("sdb", &Image::ext4(""));
    let boot = boot.wait();
    boot.ready_on("/dev/sdb").rejects("/dev/vdb", "swap");
}

fn a_disk_that_never_comes_is_waited_for_as_long_as_configured() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"2s\"");
    let boot = machine.boot();
    boot.failed(3);
    let took = boot.took.as_secs_f32();
    assert!((1.9..3.5).contains(&took), "{boot}");
}

fn a_disk_that_never_comes_is_waited_for_five_seconds_by_default() {
    let machine = Machine::new();
    let no_metadata = "[metadata]\nsources = []\n";
    fs::write(machine.path("/etc/vmstage.toml"), no_metadata).unwrap();
    let boot = machine.boot();
    boot.failed(3);
    let took = boot.took.as_secs_f32();
    assert!((4.9..6.5).contains(&took), "{boot}");
}

fn a_disk_that_is_there_is_not_waited_for() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"20s\"");
    machine.disk("xvdb", &Image::ext4(""));
    let boot = machine.boot();
    boot.ready_on("/dev/xvdb");
    assert!(boot.took < Duration::from_secs(2), "{boot}");
}

fn the_root_disk_is_rejected_by_its_name() {
    let (machine, root) = Machine::with_root_on(&Image::ext4(""), None);
    machine.name("vdb", root.number);
    // Not a copy of the root.
    machine.disk("sdb", &Image::ext2(""));
    let boot = machine.boot();
    boot.ready_on("/dev/sdb")
        .rejects("/dev/vdb", "is a disk that the system runs from");
}

fn the_root_disk_is_rejected_by_its_label() {
    let (machine, root) = Machine::with_root_on(&Image::ext4(EPHEMERAL0), None);
    machine.name("vda", root.number);
    let boot = machine.boot();
    boot.failed(3)
        .rejects("/dev/vda", "is a disk that the system runs from");
}

/// Of bare metal: the scratch space is a partition of the only disk.
fn a_partition_of_the_root_disk_is_taken_by_its_label_and_the_root_itself_never() {
    let root_too = Image::partitioned("gpt", &[Image::ext4(EPHEMERAL0), Image::ext4(EPHEMERAL0)]);
    let scratch = Image::partitioned("gpt", &[Image::ext4(""), Image::ext4(EPHEMERAL0)]);
    for image in [scratch, root_too] {
        let (machine, root) = Machine::with_root_on(&image, Some(1));
        machine.name("vdb", root.number);
        machine.name("vdb1", root.partitions[0]);
        machine.name("vdb2", root.partitions[1]);
        let boot = machine.boot();
        boot.ready_on("/dev/vdb2")
            .rejects("/dev/vdb", "is a disk that the system runs from");
    }
}

fn a_partition_of_the_root_disk_that_a_spec_names_is_taken_if_it_is_empty() {
    let image = Image::partitioned("gpt", &[Image::ext4(""), Image::ext2("")]);
    for (spec, code) in [("/dev/vdb2", 0), ("/dev/vdb1", 3)] {
        let (mut machine, root) = Machine::with_root_on(&image, Some(1));
        machine.configure(&format!("[staging]\ndevices = [\"{spec}\"]"));
        machine.name("vdb1", root.partitions[0]);
        machine.name("vdb2", root.partitions[1]);
        let boot = machine.boot();
        match code {
            0 => boot.ready_on("/dev/vdb2"),
            code => boot.failed(code).rejects(spec, "the system runs from"),
        };
    }
}

fn a_labelled_disk_mounted_elsewhere_is_mounted_here_too() {
    for elsewhere in ["/mnt", "/mnt/my disk"] {
        let machine = Machine::new();
        machine.disk("vdb", &Image::ext4(EPHEMERAL0));
        machine.sh(&format!(
            "mkdir -p '{elsewhere}'; mount /dev/vdb '{elsewhere}'"
        ));
        let boot = machine.boot();
        boot.ready_on("/dev/vdb").warns(&[elsewhere, "/dev/vdb"]);
        let also = &boot.the_status()["staging"]["also_mounted_on"];
        assert_eq!(*also, serde_json::json!([elsewhere]), "{boot}");
        machine.sh(&format!("test -d '{elsewhere}/condor'"));
    }
}

fn a_named_disk_mounted_elsewhere_is_rejected() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(""));
    machine.disk("sdb", &Image::ext2(""));
    machine.sh("mount /dev/vdb /mnt");
    let boot = machine.boot();
    boot.ready_on("/dev/sdb").rejects("/dev/vdb", "/mnt");
}

fn a_labelled_disk_that_cannot_be_mounted_ends_the_search() {
    let machine = Machine::new();
    machine.disk("vdc", &Image::that_cannot_be_mounted(EPHEMERAL0));
    let other = machine.disk("vdb", &Image::ext4(""));
    let before = other.checksum();
    let boot = machine.boot();
    boot.failed(4)
        .says("/dev/vdc")
        .says("ext4")
        .says("/staging");
    assert_eq!(other.checksum(), before);
}

fn a_named_disk_that_cannot_be_mounted_does_not_end_the_search() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::that_cannot_be_mounted(""));
    machine.disk("sdb", &Image::ext4(""));
    let boot = machine.boot();
    boot.ready_on("/dev/sdb");
    boot.rejects("/dev/vdb", "cannot be looked into");
}

fn a_disk_that_breaks_off_is_told_of_though_no_spec_names_it() {
    let machine = Machine::new();
    let disk = machine.disk("vdc", &Image::ext4(EPHEMERAL0));
    disk.truncate(64 * 1024);
    let boot = machine.boot();
    boot.failed(3).says("/dev/vdc");
}

fn an_ambivalent_disk_is_told_of_though_no_spec_names_it() {
    let machine = Machine::new();
    let image = Image::ext("ext4", EPHEMERAL0, &["-b", "4096"]).with_hibernation_signature();
    machine.disk("vdc", &image);
    machine.boot().failed(3).says("/dev/vdc").says("ambivalent");
}

fn a_swap_disk_that_only_the_label_leads_to_is_rejected() {
    let machine = Machine::new();
    machine.disk("vdz", &Image::swap(EPHEMERAL0));
    machine.boot().failed(3).rejects("/dev/vdz", "swap");
}

fn a_named_disk_that_cannot_be_mounted_does_not_end_the_wait_for_a_late_one() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"20s\"");
    machine.disk("vdb", &Image::that_cannot_be_mounted(""));
    let boot = machine.start(&["boot"]);
    sleep(Duration::from_millis(500));
    machine.disk("sdb", &Image::ext4(EPHEMERAL0));
    let boot = boot.wait();
    boot.ready_on("/dev/sdb")
        .rejects("/dev/vdb", "was not looked into: /dev/sdb is taken");
    assert!(boot.took < Duration::from_secs(5), "{boot}");
}

fn a_named_disk_that_cannot_be_mounted_is_rejected_by_whatever_name() {
    let mut machine = Machine::new();
    machine.configure("[staging]\ndevices = [\"/dev/disk/by-id/scratch\"]");
    machine.disk("vdb", &Image::that_cannot_be_mounted(""));
    machine.sh("mkdir /dev/disk/by-id; ln -s ../../vdb /dev/disk/by-id/scratch");
    let boot = machine.boot();
    boot.failed(3)
        .rejects("/dev/disk/by-id/scratch", "cannot be looked into");
}

fn the_root_disk_is_rejected_below_a_logical_volume() {
    let (machine, root) = Machine::with_root_on(&Image::ext4(""), None);
    let physical = machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.pretend(&root, &format!("mkdir -p slaves/{}", physical.kernel_name));
    let boot = machine.boot();
    boot.failed(3)
        .rejects("/dev/vdb", "is a disk that the system runs from");
}

fn a_disk_that_something_is_made_of_is_rejected() {
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.pretend(&disk, "mkdir -p holders/dm-3");
    machine
        .boot()
        .failed(3)
        .rejects("/dev/vdb", "is in use by dm-3");
}

fn a_partition_of_a_disk_that_something_is_made_of_is_rejected() {
    let mut machine = Machine::new();
    machine.configure("[staging]\ndevices = [\"/dev/vdb1\"]");
    let image = Image::partitioned("gpt", &[Image::ext4("")]);
    let disk = machine.partitioned_disk("vdb", &image);
    let partition = format!("{}p1", disk.kernel_name);
    machine.pretend(&disk, &format!("mkdir -p holders/md0 {partition}/holders"));
    machine
        .boot()
        .failed(3)
        .rejects("/dev/vdb1", "is in use by md0");
}

fn a_volume_is_rejected_by_its_virtio_serial() {
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::ext4(""));
    machine.pretend(&disk, "echo 0e4d1c2b-8f6a-4b3c-9 >serial");
    machine
        .boot()
        .failed(3)
        .rejects("/dev/vdb", "is a persistent volume");
}

fn a_volume_is_rejected_by_its_scsi_serial() {
    let machine = Machine::new();
    let disk = machine.disk("sdb", &Image::ext4(""));
    let page = "'\\000\\200\\000\\0440e4d1c2b-8f6a-4b3c-9d2e-7f6a5b4c3d2e'";
    machine.pretend(
        &disk,
        &format!("mkdir device; printf {page} >device/vpd_pg80"),
    );
    machine
        .boot()
        .failed(3)
        .rejects("/dev/sdb", "is a persistent volume");
}

fn a_disk_without_a_medium_is_rejected() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::blank(0));
    machine
        .boot()
        .failed(3)
        .rejects("/dev/vdb", "its size is 0");
}

fn a_blank_disk_that_breaks_off_is_not_called_blank() {
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::blank(64));
    disk.truncate(32 << 20);
    machine
        .boot()
        .failed(3)
        .rejects("/dev/vdb", "cannot be read");
}
