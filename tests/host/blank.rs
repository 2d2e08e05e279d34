//! Which disks are provably blank. Real file systems are made on sparse files and lose their head,
//! as by `dd if=/dev/zero`; what is left of them must be seen.
//!
//! Where nothing else is said, no samples are taken: what is found is found at a place where it had to be.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MsFlags, mount};
use nix::unistd::geteuid;
use vmstage::disk::blank::{self, Found};

use crate::common::{Fault, Image, MIB, Machine, need_root, private_mounts, scratch_file, tool};

claims![
    an_ext2_without_its_head_is_seen,
    an_ext3_without_its_head_is_seen,
    an_ext4_without_its_head_is_seen,
    an_ext4_of_another_layout_without_its_head_is_seen,
    an_xfs_without_its_head_is_seen,
    an_xfs_of_another_layout_without_its_head_is_seen,
    a_btrfs_without_its_head_is_seen,
    an_f2fs_without_its_head_is_seen,
    an_ntfs_without_its_head_is_seen,
    a_vfat_without_its_head_is_seen,
    a_swap_area_is_seen_until_its_header_is_gone,
    raid_lvm_zfs_and_gpt_without_their_head_are_seen_by_what_is_at_the_end,
    each_copy_of_a_superblock_is_at_a_place,
    md_1_1_and_1_2_are_seen_until_their_superblock_is_gone,
    each_of_the_disks_that_looked_blank_is_seen,
    a_file_system_in_a_partition_at_any_mebibyte_is_seen_in_every_run,
    a_blank_disk_of_any_size_is_blank,
    a_blank_tebibyte_takes_less_than_five_seconds,
    a_disk_without_its_head_is_not_formatted,
    a_blank_disk_that_is_slow_is_judged_in_time_and_formatted,
    a_blank_disk_that_hangs_at_a_place_is_not_formatted;
    alone:
    a_blank_disk_beside_the_labelled_one_costs_no_time,
];

const GIB: u64 = 1 << 30;
/// In GiB.
const SIZES: [u64; 4] = [1, 3, 7, 20];
/// In MiB.
const HEADS: [u64; 4] = [1, 4, 16, 64];
const NO_SAMPLES: usize = 0;

/// Has the temporary files of the claim at hand in memory, where the fsync(2) of each mkfs costs
/// nothing. Whoever may not mount waits for the disk.
fn work_in_memory() {
    if geteuid().is_root() {
        private_mounts();
        let nothing = MsFlags::empty();
        let mounted = mount(
            Some("tmpfs"),
            &std::env::temp_dir(),
            Some("tmpfs"),
            nothing,
            None::<&str>,
        );
        mounted.expect("mount a tmpfs");
    }
}

#[derive(Clone, Copy, Debug)]
enum Where {
    WholeDisk,
    /// From 1 MiB on. The table is a DOS one, which leaves nothing at the end.
    Partition,
}

/// A sparse file in place of a disk.
struct Disk {
    path: PathBuf,
    file: File,
}

impl Disk {
    fn new(image: &Image) -> Disk {
        let path = scratch_file();
        image.write(&path);
        let file = File::options().read(true).write(true).open(&path);
        let file = file.unwrap();
        Disk { path, file }
    }

    fn blank(size: u64) -> Disk {
        let disk = Disk::new(&Image::blank(0));
        disk.file.set_len(size).unwrap();
        disk
    }

    fn wipe(&self, mebibytes: u64) {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.file, flags, 0, (mebibytes * MIB) as i64).unwrap();
    }

    fn take_signatures(&self) {
        let wipefs = Command::new(tool("wipefs"))
            .arg("--all")
            .arg(&self.path)
            .output();
        assert!(wipefs.unwrap().status.success());
    }

    fn scan(&self) -> Found {
        blank::scan(&self.file, NO_SAMPLES, || ()).unwrap()
    }

    /// What is found, which has to be something if anything is left.
    #[track_caller]
    fn see(&self, what: &str) -> Found {
        let found = self.scan();
        if matches!(found, Found::Zeros { .. }) {
            let left = Image::read(&self.path).first_block_that_is_not_zero();
            assert_eq!(left, None, "{what} looks blank, with something left there");
        }
        found
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The rule of 0.1.0: the first 4 MiB and the last one, 256 samples in between, and three copies
/// of ext's superblock.
fn looked_blank(disk: &Disk) -> bool {
    let size = disk.file.metadata().unwrap().len();
    let samples = (0..256).map(|n| (size / 256 * n, 4096));
    let copies = [8, 32, 128].map(|mebibytes| (mebibytes * MIB, 4096));
    let places = [(0, 4 * MIB), (size - MIB, MIB)].into_iter();
    places.chain(samples).chain(copies).all(|(offset, length)| {
        let mut bytes = vec![1; length as usize];
        let there = disk.file.read_at(&mut bytes, offset).unwrap();
        bytes[..there] == vec![0; there]
    })
}

/// A disk of this size with what the program makes on it.
fn made(words: &[&str], place: Where, gibibytes: u64) -> Image {
    match place {
        Where::WholeDisk => Image::made(gibibytes * 1024, words),
        Where::Partition => {
            let partition = Image::made(gibibytes * 1024 - 2, words);
            Image::partitioned("dos", &[partition])
        }
    }
}

/// Whether anything may be gone altogether with the head of it.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    Always,
    Sometimes,
}

/// Makes it on disks of these sizes (GiB), whole and in a partition, takes their signatures and
/// then more and more of their heads, and looks: as long as anything is left, it must be seen.
fn is_seen(words: &[&str], sizes: &[u64], left: Left) {
    work_in_memory();
    let (mut seen, mut gone, mut looked_blank_before) = (0, 0, 0);
    let mut lines = String::new();
    for &size in sizes {
        for place in [Where::WholeDisk, Where::Partition] {
            let what = format!("{}, {place:?}, {size} GiB", words.join(" "));
            let disk = Disk::new(&made(words, place, size));
            let mut look = |lost: &str| {
                let found = disk.see(&format!("{what} without {lost}"));
                match found {
                    Found::Zeros { .. } => gone += 1,
                    Found::Something { .. } => {
                        seen += 1;
                        looked_blank_before += usize::from(looked_blank(&disk));
                    }
                }
                found
            };
            disk.take_signatures();
            look("its signatures");
            let found = HEADS.map(|mebibytes| {
                disk.wipe(mebibytes);
                look(&format!("its first {mebibytes} MiB"))
            });
            lines += &format!("{what} without its first {} MiB: {}\n", HEADS[1], found[1]);
        }
    }
    let all = sizes.len() * 2 * (1 + HEADS.len());
    print!("{lines}");
    println!(
        "{}: {seen} of {all} seen, of which {looked_blank_before} looked blank to 0.1.0; of {gone} nothing was left",
        words.join(" ")
    );
    assert_eq!(seen + gone, all);
    assert!(seen > 0 && (gone == 0 || left == Left::Sometimes));
}

fn an_ext2_without_its_head_is_seen() {
    is_seen(&["mkfs.ext2", "-q"], &SIZES, Left::Always);
}

fn an_ext3_without_its_head_is_seen() {
    is_seen(&["mkfs.ext3", "-q"], &SIZES, Left::Always);
}

fn an_ext4_without_its_head_is_seen() {
    is_seen(&["mkfs.ext4", "-q"], &SIZES, Left::Always);
}

fn an_ext4_of_another_layout_without_its_head_is_seen() {
    let layouts: [&[&str]; 5] = [
        &["-b", "1024"],
        &["-b", "2048"],
        &["-O", "sparse_super2"],
        &["-O", "bigalloc"],
        &["-O", "bigalloc", "-C", "32768"],
    ];
    for layout in layouts {
        let words: Vec<&str> = ["mkfs.ext4", "-q"].iter().chain(layout).copied().collect();
        is_seen(&words, &[3], Left::Always);
    }
}

fn an_xfs_without_its_head_is_seen() {
    is_seen(&["mkfs.xfs", "-q"], &SIZES, Left::Always);
}

fn an_xfs_of_another_layout_without_its_head_is_seen() {
    for layout in ["agcount=7", "agcount=16", "su=65536,sw=4", "su=524288,sw=2"] {
        is_seen(&["mkfs.xfs", "-q", "-d", layout], &[3], Left::Always);
    }
    is_seen(&["mkfs.xfs", "-q", "-d", "agcount=51"], &[20], Left::Always);
}

fn a_btrfs_without_its_head_is_seen() {
    is_seen(&["mkfs.btrfs", "-q"], &SIZES, Left::Always);
}

fn an_ntfs_without_its_head_is_seen() {
    is_seen(&["mkntfs", "-q", "-F", "-Q"], &SIZES, Left::Always);
}

fn an_f2fs_without_its_head_is_seen() {
    is_seen(&["mkfs.f2fs", "-q", "-f"], &SIZES, Left::Sometimes);
}

fn a_vfat_without_its_head_is_seen() {
    is_seen(&["mkfs.vfat", "-F", "32"], &SIZES, Left::Sometimes);
}

fn a_swap_area_is_seen_until_its_header_is_gone() {
    is_seen(&["mkswap"], &SIZES, Left::Sometimes);
}

fn raid_lvm_zfs_and_gpt_without_their_head_are_seen_by_what_is_at_the_end() {
    work_in_memory();
    for gibibytes in SIZES {
        let blank = Image::blank(gibibytes * 1024 - 2);
        // A header of a second metadata area (lvm2, lib/format_text/layout.h).
        let lvm = [
            b"\xe2\xb6\x93\xac LVM2 x[5A%r0N*>",
            &1_u32.to_le_bytes()[..],
        ]
        .concat();
        let members = [
            ("md 0.90", blank.clone().with_raid_superblock_at_its_end()),
            (
                "md 1.0",
                blank.clone().with_raid_superblock_1_0_at_its_end(),
            ),
            ("LVM", blank.clone().with(blank.size() - MIB, &lvm)),
            ("ZFS", blank.clone().with_zfs_labels()),
        ];
        let mut images = vec![("GPT", Image::partitioned("gpt", &[blank]))];
        for (what, member) in members {
            images.push((
                what,
                Image::partitioned("dos", std::slice::from_ref(&member)),
            ));
            images.push((what, member));
        }
        for (what, image) in images {
            let disk = Disk::new(&image);
            disk.wipe(64);
            let found = disk.see(what);
            assert!(
                found.to_string().contains("the last 10 MiB"),
                "{what}: {found}"
            );
        }
    }
}

/// Not only the first one that is found: all that the program has made.
fn each_copy_of_a_superblock_is_at_a_place() {
    work_in_memory();
    // The magic of a superblock, how far it is from where the superblock begins, the program, and
    // how many there are at least.
    type Case = (&'static [u8], u64, &'static [&'static str], usize);
    let cases: [Case; 9] = [
        (b"\x53\xef", 56, &["mkfs.ext4", "-q"], 10),
        (
            b"\x53\xef",
            1024 + 56,
            &["mkfs.ext4", "-q", "-b", "1024"],
            17,
        ),
        (b"\x53\xef", 56, &["mkfs.ext4", "-q", "-b", "2048"], 13),
        (
            b"\x53\xef",
            56,
            &["mkfs.ext4", "-q", "-O", "sparse_super2"],
            2,
        ),
        (b"\x53\xef", 56, &["mkfs.ext4", "-q", "-O", "bigalloc"], 5),
        (b"XFSB", 0, &["mkfs.xfs", "-q"], 4),
        (b"XFSB", 0, &["mkfs.xfs", "-q", "-d", "agcount=8"], 8),
        (b"XFSB", 0, &["mkfs.xfs", "-q", "-d", "agcount=32"], 32),
        (b"_BHRfS_M", 64, &["mkfs.btrfs", "-q"], 2),
    ];
    for (magic, offset, words, count) in cases {
        for place in [Where::WholeDisk, Where::Partition] {
            let image = made(words, place, 20);
            let copies = image.blocks_with(offset, magic);
            assert!(copies.len() >= count, "{words:?}: {copies:?}");
            let places = blank::places(image.size());
            let is_read = |copy: &u64| places.iter().any(|place| place.contains(&(copy + offset)));
            let missed: Vec<_> = copies.iter().filter(|copy| !is_read(copy)).collect();
            assert!(missed.is_empty(), "{words:?}, {place:?}: {missed:?}");
        }
    }
}

fn md_1_1_and_1_2_are_seen_until_their_superblock_is_gone() {
    work_in_memory();
    let member = Image::blank(3 * 1024 - 2).with_raid_superblock();
    for image in [member.clone(), Image::partitioned("dos", &[member])] {
        let disk = Disk::new(&image);
        assert!(matches!(disk.scan(), Found::Something { .. }));
        disk.wipe(4);
        assert!(matches!(disk.see("md 1.2"), Found::Zeros { .. }));
    }
}

/// Of these disks, whose first 4 MiB are gone, version 0.1.0 called some blank, and would have made
/// a file system on them.
fn each_of_the_disks_that_looked_blank_is_seen() {
    work_in_memory();
    let mut count = 0;
    let mut looked_blank_to_0_1_0 = Vec::new();
    for program in ["mkfs.ext2", "mkfs.ext4", "mkfs.btrfs"] {
        for place in [Where::WholeDisk, Where::Partition] {
            for gibibytes in [1, 3, 7] {
                let image = made(&[program, "-q"], place, gibibytes).without_head(4);
                let disk = Disk::new(&image);
                let found = disk.scan();
                let what = format!("{program}, {place:?}, {gibibytes} GiB");
                assert!(matches!(found, Found::Something { .. }), "{what}: {found}");
                count += 1;
                if looked_blank(&disk) {
                    looked_blank_to_0_1_0.push(format!("{what}: {found}"));
                }
            }
        }
    }
    println!(
        "looked blank to 0.1.0:\n{}",
        looked_blank_to_0_1_0.join("\n")
    );
    assert_eq!(count, 18);
    assert_eq!(looked_blank_to_0_1_0.len(), 11);
}

/// In the first GiB, whatever came before it on the disk.
fn a_file_system_in_a_partition_at_any_mebibyte_is_seen_in_every_run() {
    work_in_memory();
    let programs: [&[&str]; 4] = [
        &["mkfs.ext4", "-q", "-E", "nodiscard"],
        &["mkfs.ext2", "-q", "-b", "1024"],
        &["mkfs.xfs", "-q", "-f"],
        &["mkfs.btrfs", "-q", "-f"],
    ];
    for program in programs {
        let image = Image::made(20 * 1024, program);
        for start in [300, 513, 777, 1023] {
            let disk = Disk::blank(100 * GIB);
            image.write_at(&disk.path, start * MIB);
            disk.wipe(64);
            let found = disk.scan();
            let what = format!("{program:?} at {start} MiB");
            assert!(matches!(found, Found::Something { .. }), "{what}: {found}");
        }
    }
}

fn a_blank_disk_of_any_size_is_blank() {
    let sizes = [
        512,
        4096,
        MIB - 512,
        MIB,
        8 * MIB + 512,
        64 * MIB,
        GIB - 512,
        4 * GIB + 512,
        20 * GIB,
        1024 * GIB,
    ];
    for size in sizes {
        let found = blank::scan(&Disk::blank(size).file, 64, || ()).unwrap();
        let Found::Zeros { samples } = found else {
            panic!("{size}: {found}");
        };
        assert!(samples > 0, "{size}");
    }
}

fn a_blank_tebibyte_takes_less_than_five_seconds() {
    need_root();
    let machine = Machine::new();
    for (name, gibibytes) in [("vdb", 20), ("vdc", 1024)] {
        let image = Image::blank(gibibytes * 1024);
        let [device, another] = ["", "2"].map(|second| {
            let name = format!("{name}{second}");
            machine.disk(&name, &image);
            File::open(machine.path(format!("/dev/{name}"))).unwrap()
        });
        let start = Instant::now();
        let found = blank::scan(&device, blank::SAMPLES, || ()).unwrap();
        let took = start.elapsed();
        assert!(matches!(found, Found::Zeros { .. }), "{found}");
        // On a busy host: no longer than reading as much, one place after the other.
        let start = Instant::now();
        read_as_much(&another, image.size());
        let plainly = start.elapsed();
        println!("{gibibytes} GiB in {took:?}, plainly {plainly:?}: {found}");
        assert!(
            took < plainly.max(Duration::from_secs(5)),
            "{took:?}, {plainly:?}"
        );
    }
}

/// Reads the places of superblocks, and as many blocks as there are samples.
fn read_as_much(device: &File, size: u64) {
    let samples = blank::SAMPLES as u64;
    let samples = (0..samples).map(|n| size / samples * n..size / samples * n + 4096);
    for place in blank::places(size).into_iter().chain(samples) {
        for at in place.clone().step_by(4096) {
            device.read_exact_at(&mut [0; 4096], at).unwrap();
        }
    }
}

const FORMAT: &str = "[staging]\nformat = \"blank\"\ndevice_timeout = \"5s\"\n";

fn a_disk_without_its_head_is_not_formatted() {
    let disks = [
        (Where::WholeDisk, "mkfs.btrfs"),
        (Where::Partition, "mkfs.ext2"),
        (Where::Partition, "mkfs.ext4"),
    ];
    for (place, program) in disks {
        let mut machine = Machine::new();
        machine.configure(FORMAT);
        let image = made(&[program, "-q"], place, 3).without_head(4);
        let disk = machine.disk("vdb", &image);
        machine.boot().failed(3).rejects("/dev/vdb", "blank");
        assert_eq!(disk.checksum(), image.checksum());
    }
}

/// One read after the other would take twice the time that there is.
fn a_blank_disk_that_is_slow_is_judged_in_time_and_formatted() {
    let mut machine = Machine::new();
    machine.configure(FORMAT);
    let disk = machine.faulty_disk("vdb", &Image::blank(3 * 1024));
    disk.fault(Fault::Delay(Duration::from_millis(10)));
    machine.boot().ready_on("/dev/vdb");
}

fn a_blank_disk_that_hangs_at_a_place_is_not_formatted() {
    let copy = 64 * MIB..64 * MIB + 4096;
    let hangs = Fault::HangReads(copy.clone());
    for (fault, why) in [
        (hangs, "does not answer"),
        (Fault::ReadErrors(copy), "blank"),
    ] {
        let mut machine = Machine::new();
        machine.configure("[staging]\nformat = \"blank\"\ndevice_timeout = \"1s\"\n");
        let disk = machine.faulty_disk("vdb", &Image::blank(3 * 1024));
        disk.fault(fault);
        let boot = machine.boot();
        boot.failed(3).rejects("/dev/vdb", "blank");
        boot.rejects("/dev/vdb", why);
    }
}

/// Whether it is blank is not waited for; and it is read again, for the config drive.
fn a_blank_disk_beside_the_labelled_one_costs_no_time() {
    let mut machine = Machine::new();
    machine.configure(&format!(
        "{FORMAT}[metadata]\nsources = [\"config-drive\"]\n"
    ));
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let fastest_of_three = || {
        let boots = (0..3).map(|_| {
            let boot = machine.boot();
            machine.sh("umount /staging");
            boot.ready_on("/dev/vdb").does_not_say("does not answer");
            boot.took
        });
        boots.min().unwrap()
    };
    let alone = fastest_of_three();
    let _blank = machine.disk("vdc", &Image::blank(20 * 1024));
    let both = fastest_of_three();
    assert!(
        both < alone + Duration::from_millis(500),
        "{alone:?}, {both:?}"
    );
}
