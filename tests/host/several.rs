//! Several local disks that are to be one, where that cannot be or must not be. No kernel's md is
//! needed for that: what it makes of an array, guests show (tests/guest/several.py).

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};

use crate::common::tracer::{Calls, count};
use crate::common::{Disk, Image, Machine, tool};
use crate::evidence::{is_left_alone, probe, reboot};

claims![
    what_mdadm_wrote_before_it_failed_is_taken_back,
    an_array_that_runs_is_made_whatever_mdadm_says,
    what_was_laid_over_a_former_member_is_left_alone,
    a_member_is_not_gone_while_a_local_disk_has_no_node,
    boot_opens_no_disk_of_an_array_itself,
    no_array_is_made_where_no_file_system_can_be_made_on_it,
    probe_says_whether_something_is_made_or_is_there_already,
    the_disks_of_an_array_are_named_also_where_somebody_else_mounted_it,
];

const FIRST: &str = "/dev/nvme1n1";
const SECOND: &str = "/dev/nvme2n1";

/// That this program made the array, and staged it.
const RECORD: &str = r#"{"uuid":"0e4d1c2b8f6a4b3c9d1e000000000001","before":[],"is_staged":true,"machine":null,"members":[]}"#;

/// mdadm's superblock on one of two disks, as struct mdp_superblock_1 (linux/raid/md_p.h).
fn superblock(role: u8) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |offset: usize, bytes: &[u8]| {
        block[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &[1]);
    put(
        16,
        b"\x0e\x4d\x1c\x2b\x8f\x6a\x4b\x3c\x9d\x1e\0\0\0\0\0\x01",
    );
    put(32, b"any:ephemeral0");
    put(92, &[2]);
    put(128, &2048u64.to_le_bytes());
    put(144, &[8]);
    put(160, &[role]);
    put(256, &[0, 0, 1, 0]);
    block
}

fn member(role: u8) -> Image {
    Image::blank(64).with(4096, &superblock(role))
}

/// A machine of EC2's with these local disks, whose mdadm is this script.
fn machine(images: &[Image], mdadm: &str) -> (Machine, Vec<Disk>) {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"200ms\"\ncombine = \"stripe\"");
    machine.may_change("/var/lib/vmstage");
    machine.may_change("/root");
    let mut list = "major minor  #blocks  name\n\n".to_string();
    let mut script = "mount --bind /root/partitions /proc/partitions
        if [ -d /sys/class/dmi ]; then mount -t tmpfs dmi /sys/class/dmi; fi
        mount -t tmpfs sysfs /sys/block\n"
        .to_string();
    let disks = images.iter().zip(1..).map(|(image, number)| {
        let name = format!("nvme{number}n1");
        let disk = machine.disk(&name, image);
        let (major, minor) = disk.number;
        let kibibytes = image.size() / 1024;
        list += &format!("{major} {minor} {kibibytes} {name}\n");
        script += &format!(
            "mkdir -p /sys/block/{name}/device; cd /sys/block/{name}/device
             echo 'Amazon EC2 NVMe Instance Storage' >model; echo AWS{number} >serial\n"
        );
        disk
    });
    let disks = disks.collect();
    fs::write(machine.path("/root/partitions"), list).unwrap();
    fs::write(machine.path("/root/superblock"), superblock(0)).unwrap();
    machine.sh(&script);
    let program = machine.path("/usr/sbin/mdadm");
    // The host's may be there.
    let _ = fs::remove_file(&program);
    let mdadm = format!(
        "#!/bin/sh
        for word; do case $word in
            --uuid=*) uuid=$(echo \"${{word#--uuid=}}\" | sed 's/../\\\\x&/g') ;;
            /dev/nvme*) disks=\"$disks $word\" ;;
        esac; done
        {mdadm}"
    );
    fs::write(&program, mdadm).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    (machine, disks)
}

fn recorded(images: &[Image], mdadm: &str) -> (Machine, Vec<Disk>) {
    let (machine, disks) = machine(images, mdadm);
    machine.sh("mkdir -p /var/lib/vmstage");
    fs::write(machine.path("/var/lib/vmstage/array.json"), RECORD).unwrap();
    (machine, disks)
}

/// Gives the disks superblocks, as mdadm does before it asks the kernel to run the array.
const WRITE: &str = "for disk in $disks; do
        dd if=/root/superblock of=$disk bs=4096 seek=1 conv=notrunc
        /usr/bin/printf \"$uuid\" | dd of=$disk bs=1 seek=4112 conv=notrunc
    done 2>/dev/null";

/// Has the kernel seem to run the array.
const RUNS: &str = "for disk in $disks; do mkdir -p /sys/block/${disk#/dev/}/holders/md126; done
    mkdir /sys/block/md126; echo 4096 >/sys/block/md126/size";

fn what_mdadm_wrote_before_it_failed_is_taken_back() {
    tool("mkfs.ext4");
    let blank = || [Image::blank(64), Image::blank(64)];
    let mdadm = format!("{WRITE}\necho 'RUN_ARRAY failed: Invalid argument' >&2; exit 1");
    let (machine, disks) = machine(&blank(), &mdadm);
    let before = disks[1].checksum();
    let boot = machine.boot();
    boot.ready_on(FIRST);
    boot.says("RUN_ARRAY failed: Invalid argument; the search goes on without an array");
    assert_eq!(disks[1].checksum(), before, "{boot}");
    reboot(&machine);
    machine.boot().ready_on(FIRST);
}

fn an_array_that_runs_is_made_whatever_mdadm_says() {
    let mdadm = format!("{RUNS}\nexit 1");
    let (machine, _disks) = machine(&[Image::blank(64), Image::blank(64)], &mdadm);
    let boot = machine.boot();
    boot.says("; the array runs");
    assert!(!boot.stderr.contains("without an array"), "{boot}");
}

fn what_was_laid_over_a_former_member_is_left_alone() {
    let laid_over = [
        member(0).with_dos_table(),
        member(0).with_swap_header(),
        member(0).with_zfs_labels(),
        member(0).with_raid_superblock_at_its_end(),
    ];
    for (number, image) in laid_over.into_iter().enumerate() {
        let mdadm = "touch /root/mdadm-was-run; exit 1";
        let (machine, disks) = recorded(&[image, Image::blank(64)], mdadm);
        let before = disks[0].checksum();
        let probe = probe(&machine);
        let said = probe["verdicts"].to_string();
        assert!(!said.contains("becomes one disk"), "{number}: {said}");
        let boot = machine.boot();
        assert_eq!(disks[0].checksum(), before, "{number}: {boot}");
        let is_run = machine.path("/root/mdadm-was-run").exists();
        assert!(!is_run, "{number}: {boot}");
    }
}

fn a_member_is_not_gone_while_a_local_disk_has_no_node() {
    let images = || [member(0), member(1), Image::blank(64)];
    let mdadm = "touch /root/mdadm-was-run; exit 1";
    let (machine, disks) = recorded(&images(), mdadm);
    machine.sh(&format!("rm {SECOND}"));
    let words = "/dev/nvme2n1 may be the one that is missing, and could not be read";
    is_left_alone(&machine, &disks[0], FIRST, &[words]);
    assert!(!machine.path("/root/mdadm-was-run").exists());
}

/// open(2) of a disk may hang, also right after it did not.
fn boot_opens_no_disk_of_an_array_itself() {
    let mdadm = format!("{WRITE}\n{RUNS}");
    let boot = |machine: &Machine| {
        let mut boot = machine.command("/usr/sbin/vmstage", None);
        let boot = count(Calls::Every, {
            boot.arg("boot");
            boot
        });
        assert!(
            machine.path("/sys/block/md126").exists(),
            "no array was made"
        );
        let [by_itself, by_children] = boot.opened;
        for disk in [FIRST, SECOND] {
            assert!(by_children.contains(disk), "{by_children:?}");
            assert!(!by_itself.contains(disk), "{by_itself:?}");
        }
    };
    boot(&machine(&[Image::blank(64), Image::blank(64)], &mdadm).0);

    // What is in the array begins at 1 MiB.
    let left = member(0).with(1 << 20, b"of the array before");
    let (machine, disks) = recorded(&[left, Image::blank(64)], &mdadm);
    boot(&machine);
    let mut begin = [1; 32];
    let disk = fs::File::open(&disks[0].file).unwrap();
    disk.read_exact_at(&mut begin, 1 << 20).unwrap();
    assert_eq!(begin, [0; 32]);
}

fn no_array_is_made_where_no_file_system_can_be_made_on_it() {
    let cases = [
        [Image::blank(64), Image::blank(64)],
        [member(0), Image::blank(64)],
    ];
    for images in cases {
        let mdadm = format!("touch /root/mdadm-was-run\n{WRITE}\n{RUNS}");
        let (machine, disks) = recorded(&images, &mdadm);
        machine.sh("rm -f /usr/sbin/mkfs.ext4 /usr/bin/mkfs.ext4 /sbin/mkfs.ext4");
        let before: Vec<_> = disks.iter().map(Disk::checksum).collect();
        let boot = is_left_alone(&machine, &disks[0], FIRST, &[]);
        assert!(!machine.path("/root/mdadm-was-run").exists(), "{boot}");
        boot.says("there is no mkfs.ext4");
        let after: Vec<_> = disks.iter().map(Disk::checksum).collect();
        assert_eq!(before, after, "{boot}");
    }
}

fn probe_says_whether_something_is_made_or_is_there_already() {
    for (images, words) in [
        ([Image::blank(64), Image::blank(64)], "make"),
        ([member(0), member(1)], "put the array of"),
    ] {
        let (machine, _disks) = machine(&images, "exit 1");
        let probe = machine.run(&["probe"]);
        let said = format!("boot would {words} {FIRST} and {SECOND} ");
        assert!(probe.stdout.contains(&said), "{probe}");
    }
}

fn the_disks_of_an_array_are_named_also_where_somebody_else_mounted_it() {
    let (machine, _disks) = machine(&[Image::blank(64), Image::blank(64)], "exit 1");
    let array = machine.disk("md126", &Image::ext4("ephemeral0"));
    let (major, minor) = array.number;
    machine.sh(&format!(
        "echo '{major} {minor} 16384 md126' >>/proc/partitions
         for disk in nvme1n1 nvme2n1; do
             mkdir -p /sys/block/md126/slaves/$disk /sys/block/$disk/holders/md126
         done"
    ));
    for already_mounted in [false, true] {
        let boot = machine.boot();
        let staging = &boot.ready_on("/dev/md126").the_status()["staging"];
        assert_eq!(staging["already_mounted"], already_mounted);
        assert_eq!(staging["made_of"][0], FIRST, "{staging}");
        assert_eq!(staging["made_of"][1], SECOND, "{staging}");
    }
}
