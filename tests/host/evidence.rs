//! A disk is used for a reason, and never because nobody objected: what speaks against a disk
//! that only a name led to, and what is said of it.

use std::fs::{self};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Disk, Image, Machine, Outcome, skip, tool, write_program};

claims![
    a_disk_that_fstab_gives_another_place_is_left_alone,
    a_blank_disk_that_fstab_names_is_not_formatted,
    a_disk_that_an_option_or_a_link_in_fstab_names_has_its_place_there,
    a_partition_whose_uuid_fstab_has_is_left_alone,
    a_disk_that_fstab_gives_our_own_place_is_staged,
    a_cloud_s_volume_is_left_alone,
    a_cloud_s_blank_volume_is_not_formatted,
    a_copy_of_the_system_is_left_alone,
    a_copy_of_the_root_file_system_is_left_alone,
    a_copy_of_a_mounted_file_system_is_left_alone,
    a_copy_of_what_is_mounted_without_a_node_is_left_alone,
    a_root_whose_lower_layer_cannot_be_seen_speaks_against_every_name,
    of_the_root_s_disk_only_a_free_partition_is_taken_by_its_label,
    a_seed_disk_is_left_alone,
    a_config_drive_that_only_a_boot_sector_shows_is_left_alone,
    a_member_of_a_btrfs_that_is_mounted_is_left_alone,
    a_disk_with_files_is_left_alone,
    an_empty_disk_is_staged_and_then_known_again,
    what_the_configured_directories_hold_does_not_count,
    a_label_that_nobody_asked_for_is_warned_of,
    a_label_of_scratch_disks_is_not_warned_of,
    what_a_bare_name_in_fstab_staged_is_suspected,
    a_disk_that_was_not_unmounted_cleanly_is_left_alone,
    a_disk_whose_machine_is_reset_right_after_its_first_boot_is_known_again,
    a_labelled_disk_that_was_not_unmounted_cleanly_is_staged_with_a_warning,
    a_disk_that_was_made_larger_is_staged_with_a_warning,
    a_copy_of_a_mounted_xfs_is_an_error_that_names_it,
    a_file_system_that_its_superblock_says_cannot_be_mounted_is_rejected,
    a_disk_that_is_replaced_before_it_is_mounted_is_left_alone,
    probe_changes_no_byte_of_a_disk,
    through_a_loop_device_a_look_leaves_nothing_behind,
    a_disk_that_a_look_left_read_only_is_writable_again,
    a_disk_on_which_mkfs_was_killed_is_made_anew,
    another_disk_than_that_on_which_mkfs_was_killed_is_left_alone,
    an_empty_vfat_with_the_label_is_made_anew,
    a_vfat_with_the_label_that_holds_a_file_is_left_alone,
    a_vfat_with_the_label_stays_where_nothing_may_be_formatted,
    what_is_not_a_mark_makes_no_disk_ours,
    what_is_not_a_mark_keeps_no_labelled_disk_from_being_staged,
];

const BLANK: &str = "[staging]\nformat = \"blank\"\n";

/// What is refused is refused quickly, whatever it holds.
pub const SOON: Duration = Duration::from_secs(15);

/// `probe` and `boot` both reject the device for a reason with all of these words, and change
/// no byte of the disk.
#[track_caller]
pub fn is_left_alone(machine: &Machine, disk: &Disk, device: &str, words: &[&str]) -> Outcome {
    let before = disk.checksum();
    let probe = probe(machine);
    assert_eq!(probe["chosen"], Value::Null, "{probe:#}");
    assert_eq!(probe["formatted"], Value::Null, "{probe:#}");
    let boot = machine.boot();
    boot.failed(3);
    for word in words {
        boot.rejects(device, word);
    }
    assert_eq!(
        probe["verdicts"],
        boot.the_status()["verdicts"],
        "probe and boot differ: {probe:#}\n{boot}"
    );
    assert!(boot.took < SOON, "{boot}");
    assert_eq!(disk.checksum(), before, "the disk was changed\n{boot}");
    boot
}

pub fn probe(machine: &Machine) -> Value {
    let probe = machine.run(&["probe", "--format", "json"]);
    serde_json::from_str(&probe.stdout).unwrap_or_else(|e| panic!("{e}: {probe}"))
}

/// That of the device that is staged.
pub fn evidence(boot: &Outcome) -> &str {
    let verdicts = boot.the_status()["verdicts"].as_array().unwrap();
    let accepted = verdicts.iter().find(|one| one["verdict"] == "accepted");
    accepted
        .and_then(|one| one["evidence"].as_str())
        .unwrap_or_default()
}

#[track_caller]
fn says_on_the_console(boot: &Outcome, words: &str) {
    assert!(boot.console.contains(words), "not {words:?}\n{boot}");
}

/// What does not outlast a boot is gone: what is mounted, and all of `/run`.
pub fn reboot(machine: &Machine) {
    machine.sh("umount /staging; rm -rf /run/vmstage");
}

fn fstab(machine: &Machine, line: &str) {
    let root = "UUID=1b2c /  ext4  defaults  0 1";
    fs::write(
        machine.path("/etc/fstab"),
        format!("# ours\n{root}\n{line}"),
    )
    .unwrap();
}

fn a_disk_that_fstab_gives_another_place_is_left_alone() {
    let uuid = "6d1f8a52-0d2c-4c43-9f3e-5b1c7f6a0e11";
    // The last line may have no end.
    let lines = [
        "LABEL=data /data ext4 defaults,nofail 0 2\n",
        "LABEL=\"data\" /data ext4 defaults,nofail 0 2",
        "UUID=6d1f8a52-0d2c-4c43-9f3e-5b1c7f6a0e11 /data ext4 nofail 0 2",
        "UUID=6D1F8A52-0D2C-4C43-9F3E-5B1C7F6A0E11\t/data\text4\tnofail\n",
        "/dev/sdb /data auto noauto 0 0\n",
        "/dev/disk/by-uuid/6d1f8a52-0d2c-4c43-9f3e-5b1c7f6a0e11 /data ext4 nofail",
        "/dev/disk/by-label/data /data ext4 nofail\n",
        "/dev/disk/by-id/scsi-1 /data ext4 nofail\n",
    ];
    for line in lines {
        let machine = Machine::new();
        let image = Image::ext("ext4", "data", &["-U", uuid]);
        let disk = machine.disk("sdb", &image);
        machine.sh("mkdir /dev/disk/by-id; ln -s ../../sdb /dev/disk/by-id/scsi-1");
        fstab(&machine, line);
        is_left_alone(&machine, &disk, "/dev/sdb", &["fstab", "line 3", "/data"]);
    }
}

fn a_blank_disk_that_fstab_names_is_not_formatted() {
    let lines = [
        "/dev/vdb /data ext4 nofail 0 2\n",
        "/dev/disk/by-id/virtio-1 /data xfs nofail",
        "/dev/vdb /data ext4 nofail,comment=cloudconfig 0 2\n",
    ];
    for line in lines {
        let mut machine = Machine::new();
        machine.configure(BLANK);
        let disk = machine.disk("vdb", &Image::blank(64));
        machine.sh("mkdir /dev/disk/by-id; ln -s ../../vdb /dev/disk/by-id/virtio-1");
        fstab(&machine, line);
        is_left_alone(&machine, &disk, "/dev/vdb", &["fstab", "line 3", "/data"]);
    }
}

fn a_disk_that_an_option_or_a_link_in_fstab_names_has_its_place_there() {
    let lines = [
        "/dev/vda2 /data xfs rtdev=/dev/vdb,nofail 0 0",
        "/dev/vda2 /data xfs nofail,logdev=/dev/vdb 0 0",
        "/dev/vda2 /data btrfs device=/dev/vda3,device=/dev/vdb,nofail 0 0",
        "/dev/vda2 /data ext4 journal_path=/dev/vdb,nofail 0 0",
        "/dev/vda2 /staging reiserfs jdev=/dev/vdb,nofail 0 0",
        "/disks/data /data ext4 nofail 0 0",
    ];
    for line in lines {
        let mut machine = Machine::new();
        machine.configure(BLANK);
        machine.sh("mkdir /disks; ln -s /dev/vdb /disks/data");
        fstab(&machine, line);
        for image in [Image::blank(16), Image::ext4("")] {
            machine.sh("rm -f /dev/vdb");
            let disk = machine.disk("vdb", &image);
            is_left_alone(&machine, &disk, "/dev/vdb", &["has another place", line]);
        }
    }
}

/// Also where udev's link leads to another one with the same, or is not there.
fn a_partition_whose_uuid_fstab_has_is_left_alone() {
    let image = Image::partitioned("gpt", &[Image::ext4("")]);
    let mut machine = Machine::new();
    machine.configure("[staging]\ndevices = [\"/dev/vdb1\"]");
    let disk = machine.partitioned_disk("vdb", &image);
    let told = |what: &str| {
        let asked = format!("blkid -p -s {what} -o value /dev/vdb1");
        machine.sh(&asked).trim().to_string()
    };
    let uuid = told("PART_ENTRY_UUID");
    let number = machine.sh("stat -c %Hr:%Lr /dev/vdb1");
    machine.sh("mkdir -p /run/udev/data /dev/disk/by-partuuid; mknod /dev/twin b 7 250");
    fs::write(
        machine.path(format!("/run/udev/data/b{}", number.trim())),
        "",
    )
    .unwrap();
    fstab(&machine, &format!("PARTUUID={uuid} /data ext4 nofail 0 2"));
    is_left_alone(&machine, &disk, "/dev/vdb1", &["has another place"]);
    machine.sh(&format!("ln -s /dev/twin /dev/disk/by-partuuid/{uuid}"));
    is_left_alone(&machine, &disk, "/dev/vdb1", &["has another place"]);
}

fn a_disk_that_fstab_gives_our_own_place_is_staged() {
    let lines = [
        "/dev/vdb /staging ext4 noauto 0 0\n",
        "# /dev/vdb /data ext4 nofail\n",
        "/dev/vdb /mnt auto defaults,nofail,comment=cloudconfig 0 2\n",
        "LABEL=other /data ext4 nofail\n",
    ];
    for line in lines {
        let machine = Machine::new();
        machine.disk("vdb", &Image::ext4(""));
        fstab(&machine, line);
        machine.boot().ready_on("/dev/vdb");
    }
}

/// A disk as a cloud's machine has it.
pub struct CloudDisk {
    /// As the kernel calls it.
    pub kernel_name: &'static str,
    /// Makes its attributes, in its directory in `/sys/block`.
    pub attributes: &'static str,
    pub said: &'static str,
}

const VOLUMES: [CloudDisk; 8] = [
    CloudDisk {
        kernel_name: "vdb",
        attributes: "echo 0e4d1c2b-8f6a-4b3c-9 >serial",
        said: "is a persistent volume (its serial number",
    },
    CloudDisk {
        kernel_name: "vdb",
        attributes: "mkdir device; echo 0e4d1c2b-8f6a-4b3c-9 >serial",
        said: "is a persistent volume (its serial number",
    },
    CloudDisk {
        kernel_name: "nvme1n1",
        attributes: "mkdir device; cd device; echo 'Amazon Elastic Block Store' >model
                     echo vol0123456789abcdef0 >serial; echo pcie >transport",
        said: "(an EBS volume, vol-0123456789abcdef0)",
    },
    CloudDisk {
        kernel_name: "nvme1n1",
        attributes: "mkdir device; echo vol0123456789abcdef0 >device/serial",
        said: "(an EBS volume, vol-0123456789abcdef0)",
    },
    CloudDisk {
        kernel_name: "sdb",
        attributes: "mkdir device; echo Google >device/vendor; echo PersistentDisk >device/model",
        said: "(a Google persistent disk)",
    },
    CloudDisk {
        kernel_name: "nvme0n2",
        attributes: "mkdir device; echo nvme_card-pd >device/model; echo 2 >nsid",
        said: "(a Google persistent disk)",
    },
    CloudDisk {
        kernel_name: "sdb",
        attributes: "controller=/root/vmbus; mkdir -p $controller/host1/1:0:0:3
                     echo '{f8b3781b-1e82-4818-a1c3-63d806ec15bb}' >$controller/device_id
                     ln -s $controller/host1/1:0:0:3 device",
        said: "(an Azure data disk, LUN 3)",
    },
    CloudDisk {
        kernel_name: "nvme0n3",
        attributes: "mkdir device; echo 'MSFT NVMe Accelerator v1.0' >device/model; echo 3 >nsid",
        said: "(an Azure data disk, LUN 1)",
    },
];

impl CloudDisk {
    /// A machine that has this disk alone, with udev's link `/dev/sdb` to it.
    pub fn machine(&self, image: &Image) -> (Machine, Disk) {
        let machine = Machine::new();
        let disk = machine.disk(self.kernel_name, image);
        if self.kernel_name != "sdb" {
            symlink(self.kernel_name, machine.path("/dev/sdb")).unwrap();
        }
        let ((major, minor), name) = (disk.number, self.kernel_name);
        let kibibytes = image.size() / 1024;
        let list =
            format!("major minor  #blocks  name\n\n{major:4} {minor:8} {kibibytes:10} {name}\n");
        fs::write(machine.path("/root/partitions"), list).unwrap();
        machine.sh(&format!(
            "mount --bind /root/partitions /proc/partitions
             mount -t tmpfs sysfs /sys/block; mkdir /sys/block/{name}; cd /sys/block/{name}
             {}",
            self.attributes
        ));
        (machine, disk)
    }
}

fn a_cloud_s_volume_is_left_alone() {
    for volume in &VOLUMES {
        let (machine, disk) = volume.machine(&Image::ext4(""));
        is_left_alone(&machine, &disk, "/dev/sdb", &[volume.said]);
    }
}

fn a_cloud_s_blank_volume_is_not_formatted() {
    for volume in &VOLUMES {
        let (mut machine, disk) = volume.machine(&Image::blank(64));
        machine.configure(BLANK);
        is_left_alone(&machine, &disk, "/dev/sdb", &[volume.said]);
    }
}

/// As in rescue mode, where the system to be rescued is of the same image.
fn a_copy_of_the_system_is_left_alone() {
    for point in ["/boot", "/sysroot", "/var/lib"] {
        let machine = Machine::new();
        let image = Image::ext4("");
        machine.disk("vda", &image);
        let disk = machine.disk("vdb", &image);
        machine.sh(&format!("mkdir -p {point}; mount /dev/vda {point}"));
        is_left_alone(&machine, &disk, "/dev/vdb", &["same UUID as /dev/vda"]);
    }
}

fn a_copy_of_the_root_file_system_is_left_alone() {
    let image = Image::ext4("");
    let (machine, root) = Machine::with_root_on(&image, None);
    machine.name("vda", root.number);
    let disk = machine.disk("vdb", &image);
    is_left_alone(&machine, &disk, "/dev/vdb", &["same UUID as /dev/vda"]);
}

/// As bare metal has it.
fn of_the_root_s_disk_only_a_free_partition_is_taken_by_its_label() {
    let labelled = |uuid| Image::ext("ext4", "ephemeral0", &["-U", uuid]);
    let partitions = [
        labelled("6d1f8a52-0d2c-4c43-9f3e-5b1c7f6a0e11"),
        labelled("6d1f8a52-0d2c-4c43-9f3e-5b1c7f6a0e12"),
    ];
    let image = Image::partitioned("gpt", &partitions);
    let (machine, root) = Machine::with_root_on(&image, Some(1));
    machine.name("vdb", root.number);
    machine.name("vdb1", root.partitions[0]);
    machine.name("vdb2", root.partitions[1]);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb2")
        .rejects("/dev/vdb1", "a disk that the system runs from");
    boot.rejects("/dev/vdb", "a disk that the system runs from");
}

fn a_copy_of_a_mounted_file_system_is_left_alone() {
    let machine = Machine::new();
    let image = Image::ext4("");
    machine.disk("vdc", &image);
    let disk = machine.disk("vdb", &image);
    machine.sh("mount /dev/vdc /mnt");
    is_left_alone(&machine, &disk, "/dev/vdb", &["same UUID as /dev/vdc"]);
}

fn a_copy_of_what_is_mounted_without_a_node_is_left_alone() {
    let machine = Machine::new();
    let image = Image::ext4("");
    machine.disk("vdc", &image);
    let disk = machine.disk("vdb", &image);
    machine.sh("mount /dev/vdc /mnt; rm /dev/vdc");
    is_left_alone(
        &machine,
        &disk,
        "/dev/vdb",
        &["same UUID as", "which is mounted"],
    );
}

/// As where the disk of a live system is an overlay over what was mounted before the root was
/// changed.
fn a_root_whose_lower_layer_cannot_be_seen_speaks_against_every_name() {
    const UNKNOWN: &str = "may be a disk that the system runs from";
    for image in [Image::blank(16), Image::ext4("")] {
        let mut machine = Machine::new();
        machine.configure(BLANK);
        let disk = machine.disk("vdb", &image);
        machine.sh(
            "cp /proc/partitions /root; umount -l /proc; mkdir /proc/self; cp /root/partitions /proc",
        );
        let mounts = "overlay / overlay rw,lowerdir=/nowhere,upperdir=/up,workdir=/up.d 0 0\n";
        fs::write(machine.path("/proc/self/mounts"), mounts).unwrap();
        is_left_alone(&machine, &disk, "/dev/vdb", &[UNKNOWN, "/nowhere"]);
    }
}

fn a_seed_disk_is_left_alone() {
    for label in ["cidata", "CIDATA"] {
        for name in ["vdb", "xvdb"] {
            let machine = Machine::new();
            let disk = machine.disk(name, &Image::vfat(label));
            let device = format!("/dev/{name}");
            is_left_alone(&machine, &disk, &device, &["is cloud-init's seed disk"]);
        }
    }
}

fn a_config_drive_that_only_a_boot_sector_shows_is_left_alone() {
    let (of_fat16, of_fat32) = (43, 71);
    let large = Image::made(64, &["mkfs.vfat", "-F", "32"]);
    let drives = [
        Image::vfat("").with(of_fat16, b"config-2   "),
        large.with(of_fat32, b"config-2   "),
    ];
    for drive in drives {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &drive);
        is_left_alone(&machine, &disk, "/dev/vdb", &["is the config drive"]);
    }
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::vfat("").with(of_fat16, b"cidata     "));
    is_left_alone(&machine, &disk, "/dev/vdb", &["is cloud-init's seed disk"]);
}

fn a_member_of_a_btrfs_that_is_mounted_is_left_alone() {
    tool("mkfs.btrfs");
    let machine = Machine::new();
    machine.disk("vdc", &Image::blank(128));
    let disk = machine.disk("vdb", &Image::blank(128));
    machine.sh("mkfs.btrfs -q -f -m raid1 -d single /dev/vdc /dev/vdb");
    let mounted = machine.try_sh("mount -o device=/dev/vdb /dev/vdc /mnt; sync");
    if !mounted.status.success() {
        skip("the kernel mounts no btrfs of two disks");
    }
    is_left_alone(&machine, &disk, "/dev/vdb", &["btrfs"]);
}

fn a_disk_with_files_is_left_alone() {
    let cases = [
        (Image::ext4(""), "e2label /dev/vdb ephemeral0"),
        (Image::ext2(""), "e2label /dev/vdb ephemeral0"),
        (Image::xfs(""), "xfs_admin -L ephemeral0 /dev/vdb"),
        (
            Image::btrfs(""),
            "btrfs filesystem label /dev/vdb ephemeral0",
        ),
    ];
    for (image, cure) in cases {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &image);
        machine.prepare("/dev/vdb", "mkdir condor etc home; touch root thesis.tex");
        let words = ["holds files (etc, home, root … 4 in all)", cure];
        is_left_alone(&machine, &disk, "/dev/vdb", &words);
    }
    // Not a directory: not what this program makes.
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::ext4(""));
    machine.prepare("/dev/vdb", "printf '\\033[2J' >condor");
    is_left_alone(&machine, &disk, "/dev/vdb", &["holds files (condor)"]);
}

fn an_empty_disk_is_staged_and_then_known_again() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(""));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    boot.says("/dev/vdb is accepted (ext4, empty)");
    says_on_the_console(&boot, "ready: /dev/vdb (ext4, empty) on /staging, ");
    assert_eq!(evidence(&boot), "empty", "{boot}");
    assert_eq!(boot.the_status()["staging"]["evidence"], "empty", "{boot}");
    let mark = fs::symlink_metadata(machine.path("/staging/.vmstage")).unwrap();
    assert!(mark.is_file() && mark.len() <= 4096);
    assert_eq!((mark.mode() & 0o7777, mark.uid()), (0o644, 0));

    machine.sh("echo x >/staging/condor/job; mkdir /staging/somebody-s");
    reboot(&machine);
    let probe = probe(&machine);
    assert_eq!(probe["chosen"], "/dev/vdb", "{probe:#}");
    assert_eq!(probe["known_by"], "ext4, ours", "{probe:#}");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    boot.says("/dev/vdb is accepted (ext4, ours)");
    says_on_the_console(&boot, "ready: /dev/vdb (ext4, ours) on /staging, ");
    assert_eq!(evidence(&boot), "ours", "{boot}");
    assert_eq!(probe["verdicts"], boot.the_status()["verdicts"], "{boot}");
}

fn what_the_configured_directories_hold_does_not_count() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(""));
    machine.prepare("/dev/vdb", "mkdir condor; echo x >condor/job");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    boot.says("/dev/vdb is accepted (ext4, empty)");
    machine.sh("test -e /staging/condor/job");
}

fn a_label_that_nobody_asked_for_is_warned_of() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4("thesis"));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb")
        .warns(&["/dev/vdb", "label thesis"]);
    says_on_the_console(
        &boot,
        "ready: /dev/vdb (ext4, LABEL=thesis, empty) on /staging, ",
    );
}

/// What is there in any case is called so by Nova, or by an earlier boot.
fn a_label_of_scratch_disks_is_not_warned_of() {
    let mut machine = Machine::new();
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    machine.configure("[staging]\ndevices = [\"/dev/vdb\"]");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns_of_nothing();
}

/// What is on a disk whose machine was reset while it was mounted.
pub fn not_unmounted(image: &Image, script: &str) -> Image {
    let machine = Machine::new();
    let disk = machine.disk("vdb", image);
    machine.sh(&format!("mount /dev/vdb /mnt; cd /mnt; {script}; sync"));
    let image = Image::read(&disk.file);
    machine.sh("umount /mnt");
    image
}

/// It stays staged: whoever mounted it may have meant it.
fn what_a_bare_name_in_fstab_staged_is_suspected() {
    let beside =
        "staged by somebody else: /dev/sdb (LABEL=thesis), while /dev/vdb has the label ephemeral0";
    let alone = "staged by somebody else: /dev/sdb (LABEL=thesis), whose label thesis nobody asked for, \
        and which holds files (chapter1)";
    // fstab's source, the label of /dev/vdb, whether there is a file, and what is said.
    let cases = [
        ("/dev/sdb", "ephemeral0", false, Some(beside)),
        ("/dev/sdb", "other", true, Some(alone)),
        ("/dev/sdb", "other", false, None),
        ("LABEL=thesis", "ephemeral0", true, None),
    ];
    for (source, label, has_file, expected) in cases {
        let machine = Machine::new();
        machine.disk("vdb", &Image::ext4(label));
        machine.disk("sdb", &Image::ext2("thesis"));
        fstab(&machine, &format!("{source} /staging ext2 defaults 0 0"));
        machine.sh("mkdir /staging; mount /dev/sdb /staging");
        if has_file {
            machine.sh("echo once >/staging/chapter1");
        }
        let probe = probe(&machine);
        let boot = machine.boot();
        boot.ready_on("/dev/sdb");
        let suspicion = &boot.the_status()["staging"]["suspicion"];
        match expected {
            Some(words) => {
                boot.warns(&[words]);
                assert!(boot.console.contains(words), "{boot}");
                assert_eq!(suspicion, words, "{boot}");
                let warnings = probe["warnings"].as_array().unwrap();
                assert!(warnings.iter().any(|one| one == words), "{probe:#}");
            }
            None => {
                boot.does_not_say("somebody else");
                assert_eq!(*suspicion, Value::Null, "{boot}");
            }
        }
    }
}

fn a_disk_that_was_not_unmounted_cleanly_is_left_alone() {
    let image = not_unmounted(&Image::ext4(""), "mkdir condor");
    let machine = Machine::new();
    let disk = machine.disk("vdb", &image);
    is_left_alone(&machine, &disk, "/dev/vdb", &["was not unmounted cleanly"]);
}

/// What the boot wrote and no sync has is lost.
fn a_disk_whose_machine_is_reset_right_after_its_first_boot_is_known_again() {
    let images = [
        Image::ext2(""),
        Image::ext3(""),
        Image::ext4(""),
        Image::xfs(""),
        Image::btrfs(""),
    ];
    for image in images {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &image);
        let first = machine.boot();
        first.ready_on("/dev/vdb").warns_of_nothing();
        assert_eq!(evidence(&first), "empty", "{first}");
        let left = Image::read(&disk.file);
        machine.sh("umount /staging");
        let machine = Machine::new();
        machine.disk("vdb", &left);
        let boot = machine.boot();
        boot.ready_on("/dev/vdb");
        assert_eq!(evidence(&boot), "ours", "{boot}");
    }
}

/// `probe` and `boot` both warn of this.
#[track_caller]
fn are_warned_of(probe: &Value, boot: &Outcome, words: &str) {
    let warnings = probe["warnings"].as_array().unwrap();
    let is_it = |one: &Value| one.as_str().unwrap().contains(words);
    assert_eq!(
        warnings.iter().filter(|one| is_it(one)).count(),
        1,
        "{probe:#}"
    );
    boot.warns(&[words]);
}

fn a_labelled_disk_that_was_not_unmounted_cleanly_is_staged_with_a_warning() {
    let unclean = "the file system on /dev/vdb was not unmounted cleanly";
    for image in [Image::ext4("ephemeral0"), Image::ext2("ephemeral0")] {
        let machine = Machine::new();
        machine.disk("vdb", &not_unmounted(&image, "mkdir condor"));
        let before = probe(&machine);
        let boot = machine.boot();
        boot.ready_on("/dev/vdb");
        are_warned_of(&before, &boot, unclean);
        // Of what is mounted it tells nothing.
        let staged = probe(&machine);
        assert_eq!(staged["warnings"], Value::Array(Vec::new()), "{staged:#}");
    }
}

fn a_disk_that_was_made_larger_is_staged_with_a_warning() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::blank(64));
    machine.sh("mke2fs -q -t ext4 -L ephemeral0 /dev/vdb 16M");
    let probe = probe(&machine);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    are_warned_of(&probe, &boot, "takes 16.0 MiB of 64.0 MiB");
}

fn a_copy_of_a_mounted_xfs_is_an_error_that_names_it() {
    let machine = Machine::new();
    let image = Image::xfs("ephemeral0");
    machine.disk("vdb", &image);
    machine.disk("vdc", &image);
    machine.sh("mount /dev/vdc /mnt");
    let probe = probe(&machine);
    let boot = machine.boot();
    boot.failed(4)
        .says("it has the same UUID as /dev/vdc, which is mounted");
    are_warned_of(&probe, &boot, "/dev/vdb has the same UUID as /dev/vdc");
}

/// `probe` and `boot` say it with the same words, and what to do.
fn a_file_system_that_its_superblock_says_cannot_be_mounted_is_rejected() {
    type Case = (fn(&str) -> Image, &'static str, &'static [&'static str]);
    let cases: [Case; 6] = [
        (
            Image::ext4,
            "tune2fs -O read-only /dev/vdb",
            &[
                "has the feature read-only",
                "tune2fs -O ^read-only /dev/vdb",
            ],
        ),
        (
            Image::btrfs,
            "btrfstune -S 1 /dev/vdb",
            &["is a btrfs seed", "btrfstune -S 0 /dev/vdb"],
        ),
        (
            |label| Image::ext("ext4", label, &["-O", "mmp"]),
            // mmp_seq, as while it is mounted.
            "block=$(dumpe2fs -h /dev/vdb 2>/dev/null | sed -n 's/^MMP block number: *//p'); \
             printf '\\1\\0\\0\\0' | dd of=/dev/vdb bs=1 seek=$((block * 1024 + 4)) conv=notrunc,fsync 2>/dev/null",
            &[
                "mounted by another machine",
                "tune2fs -f -E clear_mmp /dev/vdb",
            ],
        ),
        (
            Image::ext4,
            "",
            &["is larger than its disk (16.0 MiB of 13.0 MiB"],
        ),
        (
            Image::xfs,
            "",
            &["is larger than its disk (300.0 MiB of 297.0 MiB"],
        ),
        (
            Image::btrfs,
            "",
            &["is larger than its disk (128.0 MiB of 125.0 MiB"],
        ),
    ];
    for (image, script, words) in cases {
        for label in ["ephemeral0", ""] {
            let machine = Machine::new();
            let mut image = image(label);
            if script.is_empty() {
                image = image.cut(3);
            }
            let disk = machine.disk("vdb", &image);
            machine.sh(script);
            is_left_alone(&machine, &disk, "/dev/vdb", words);
        }
    }
}

/// By another under the same name, while something else has it in use.
fn a_disk_that_is_replaced_before_it_is_mounted_is_left_alone() {
    for label in ["ephemeral0", ""] {
        let mut machine = Machine::new();
        machine.configure("[staging]\nwait = \"3s\"");
        let first = machine.disk("vdb", &Image::ext4(label));
        let other = machine.disk("other", &Image::ext2("thesis"));
        machine.prepare("/dev/other", "touch chapter1");
        let before = [first.checksum(), other.checksum()];
        let mut options = fs::File::options();
        let options = options.read(true).custom_flags(nix::libc::O_EXCL);
        let holds = options.open(machine.path("/dev/vdb")).unwrap();
        let boot = machine.start(&["boot"]);
        sleep(Duration::from_millis(500));
        machine.sh("mv /dev/other /dev/vdb");
        drop(holds);
        let boot = boot.wait();
        boot.failed(3).rejects("/dev/vdb", "holds files (chapter1)");
        assert_eq!([first.checksum(), other.checksum()], before, "{boot}");
    }
}

fn probe_changes_no_byte_of_a_disk() {
    let images = [
        Image::ext4(""),
        Image::ext3(""),
        Image::ext2(""),
        Image::xfs(""),
        Image::btrfs(""),
    ];
    let pending = images
        .each_ref()
        .map(|image| not_unmounted(image, "mkdir condor; echo x >file"));
    for image in images.iter().chain(&pending) {
        let machine = Machine::new();
        let disk = machine.disk("vdb", image);
        probe(&machine);
        assert_eq!(disk.checksum(), image.checksum());
    }
}

/// The machines of the other claims have no loop devices.
fn through_a_loop_device_a_look_leaves_nothing_behind() {
    let files = not_unmounted(&Image::ext4(""), "mkdir condor; touch thesis.tex");
    for image in [Image::ext4(""), Image::xfs(""), files] {
        let mut machine = Machine::new();
        machine.configure("[staging]\ndevices = [\"/dev/vdb\"]");
        let disk = machine.disk("vdb", &image);
        machine.sh("mknod /dev/loop-control c 10 237");
        for minor in (0..512).filter(|minor| *minor != disk.number.1) {
            machine.name(&format!("loop{minor}"), (disk.number.0, minor));
        }
        let seen = probe(&machine);
        assert_eq!(machine.sh("find /run -type f"), "");
        assert_eq!(disk.checksum(), image.checksum());
        // Without a loop device a record would have to be kept there.
        machine.sh("rm -rf /run/vmstage; : >/run/vmstage");
        assert_eq!(probe(&machine), seen);
        machine.sh("rm /run/vmstage");
        let boot = machine.boot();
        match boot.code {
            0 => boot.ready_on("/dev/vdb").says(
                "(ext4, empty)"
                    .replace("ext4", &boot.staged()[0].filesystem)
                    .as_str(),
            ),
            _ => boot
                .failed(3)
                .rejects("/dev/vdb", "holds files (thesis.tex)"),
        };
    }
}

/// A run without loop devices that was killed while it looked.
fn a_disk_that_a_look_left_read_only_is_writable_again() {
    for label in ["", "ephemeral0"] {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &Image::ext4(label));
        let (major, minor) = disk.number;
        machine.sh(&format!(
            "mkdir /run/vmstage; printf /dev/vdb >/run/vmstage/read-only-{major}-{minor}
            blockdev --setro /dev/vdb"
        ));
        let boot = machine.boot();
        boot.ready_on("/dev/vdb");
        assert_eq!(
            machine.sh("ls /run/vmstage | grep read-only || :"),
            "",
            "{boot}"
        );
    }
    // One that somebody else made read-only stays so.
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(""));
    machine.sh("blockdev --setro /dev/vdb");
    machine.boot().failed(3).rejects("/dev/vdb", "is read-only");
    machine.sh("blockdev --setrw /dev/vdb");
}

/// Puts this script in the place of the guest's mkfs, which stays as `mkfs.real`. It makes
/// `/run/written`, and the boot is killed, as a reset would.
pub(crate) fn boot_that_dies_in_mkfs(machine: &Machine, script: &str) {
    let mkfs = machine.path("/usr/sbin/mkfs.ext4");
    machine.sh("mv /usr/sbin/mkfs.ext4 /usr/sbin/mkfs.real");
    write_program(&mkfs, script);
    let mut boot = machine.start(&["boot"]);
    let written = machine.path("/run/written");
    let start = Instant::now();
    while !written.exists() && start.elapsed() < SOON {
        sleep(Duration::from_millis(10));
    }
    assert!(written.exists(), "mkfs was not started");
    boot.process().kill().unwrap();
    drop(boot);
    machine.sh("mv /usr/sbin/mkfs.real /usr/sbin/mkfs.ext4; rm -rf /run/vmstage");
}

/// Writes something behind where a signature would be.
const HALF: &str = "#!/bin/sh
exec 3>&0
echo half | dd of=/proc/self/fd/3 bs=1M seek=8 conv=notrunc 2>/dev/null
sync
touch /run/written
exec sleep 1
";

fn a_disk_on_which_mkfs_was_killed_is_made_anew() {
    let mut machine = Machine::new();
    machine.configure(BLANK);
    machine.may_change("/var/lib/vmstage");
    machine.disk("vdb", &Image::blank(16));
    boot_that_dies_in_mkfs(&machine, HALF);
    sleep(Duration::from_secs(2));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").says("is made anew");
    let record = machine.path("/var/lib/vmstage/making.json");
    assert!(!record.exists(), "the record is still there\n{boot}");
}

fn another_disk_than_that_on_which_mkfs_was_killed_is_left_alone() {
    let mut machine = Machine::new();
    machine.configure(BLANK);
    machine.may_change("/var/lib/vmstage");
    machine.disk("vdb", &Image::blank(16));
    boot_that_dies_in_mkfs(&machine, HALF);
    sleep(Duration::from_secs(2));
    // Another disk of the same size comes under the same name.
    machine.sh("rm /dev/vdb");
    let other = Image::blank(16).with(8 << 20, b"half");
    let disk = machine.disk("vdb", &other);
    is_left_alone(&machine, &disk, "/dev/vdb", &["has no signature"]);
}

/// Of the label that Nova's mkfs.vfat writes where the image has no `os_type`.
fn nova_s_vfat(configuration: &str) -> (Machine, Disk) {
    let mut machine = Machine::new();
    machine.configure(configuration);
    let disk = machine.disk("vdb", &Image::vfat("EPHEMERAL0"));
    (machine, disk)
}

/// Whether the kernel has vfat. Where it has not, nobody can see what is on the disk, and it is
/// left alone.
fn has_vfat(machine: &Machine, disk: &Disk) -> bool {
    let has_vfat = machine.kernel_mounts("/dev/vdb");
    if !has_vfat {
        is_left_alone(machine, disk, "/dev/vdb", &["no driver for vfat"]);
    }
    has_vfat
}

fn an_empty_vfat_with_the_label_is_made_anew() {
    tool("mkfs.ext4");
    let (machine, disk) = nova_s_vfat("");
    if !has_vfat(&machine, &disk) {
        return;
    }
    let probe = probe(&machine);
    assert_eq!(probe["formatted"], "/dev/vdb", "{probe:#}");
    assert_eq!(probe["verdicts"][0]["verdict"], "remade", "{probe:#}");
    assert_eq!(probe["verdicts"][0]["evidence"], "LABEL=ephemeral0");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert_eq!(boot.staged()[0].filesystem, "ext4", "{boot}");
    reboot(&machine);
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
}

const CURES: [&str; 3] = [
    "holds vfat, which keeps no owners",
    "os_type=linux",
    "default_ephemeral_format=ext4",
];

fn a_vfat_with_the_label_that_holds_a_file_is_left_alone() {
    let (machine, disk) = nova_s_vfat("");
    if !has_vfat(&machine, &disk) {
        return;
    }
    machine.prepare("/dev/vdb", "echo x >thesis.tex");
    let boot = is_left_alone(&machine, &disk, "/dev/vdb", &CURES);
    boot.rejects("/dev/vdb", "is not empty (thesis.tex)");
}

fn a_vfat_with_the_label_stays_where_nothing_may_be_formatted() {
    let (machine, disk) = nova_s_vfat("[staging]\nformat = \"never\"\n");
    let boot = is_left_alone(&machine, &disk, "/dev/vdb", &CURES);
    boot.rejects("/dev/vdb", "staging.format is \"never\"");
}

/// What may be in the place of a mark, made in the root directory of the disk.
const NO_MARKS: [&str; 8] = [
    "ln -s /etc/passwd .vmstage",
    "ln -s /dev/zero .vmstage",
    "mkfifo .vmstage",
    "mkdir .vmstage",
    "truncate -s 1G .vmstage",
    "mknod .vmstage c 1 5",
    "head -c 3000 /dev/urandom >.vmstage",
    ": >.vmstage",
];

/// As this program writes it on a file system of this UUID.
pub const MARK: &str = r#"{"version":"0.2.0","filesystem":"6d1f8a52-0d2c-4c43-9f3e-5b1c7f6a0e11","first_staged":1,"last_staged":2}"#;

pub fn marked() -> Image {
    Image::ext("ext4", "", &["-U", "6d1f8a52-0d2c-4c43-9f3e-5b1c7f6a0e11"])
}

fn what_is_not_a_mark_makes_no_disk_ours() {
    let of_somebody = format!("echo '{MARK}' >.vmstage; chown 64 .vmstage");
    let too_long = format!("(echo '{MARK}'; head -c 4096 /dev/zero | tr '\\0' ' ') >.vmstage");
    let linked = format!("mkdir condor; echo '{MARK}' >condor/m; ln -s condor/m .vmstage");
    let further = [of_somebody, too_long, linked];
    for script in NO_MARKS
        .into_iter()
        .chain(further.iter().map(String::as_str))
    {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &marked());
        machine.prepare("/dev/vdb", script);
        is_left_alone(&machine, &disk, "/dev/vdb", &["holds files (.vmstage)"]);
    }
    let machine = Machine::new();
    machine.disk("vdb", &marked());
    machine.prepare("/dev/vdb", &format!("echo '{MARK}' >.vmstage; touch file"));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert_eq!(evidence(&boot), "ours", "{boot}");
}

fn what_is_not_a_mark_keeps_no_labelled_disk_from_being_staged() {
    for script in NO_MARKS {
        let machine = Machine::new();
        machine.disk("vdb", &Image::ext4("ephemeral0"));
        machine.prepare("/dev/vdb", script);
        let boot = machine.boot();
        boot.ready_on("/dev/vdb");
        assert!(boot.took < SOON, "{script}\n{boot}");
    }
}
