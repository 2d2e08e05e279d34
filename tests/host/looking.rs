//! A look into a disk that only a name led to: it disturbs nobody, is disturbed by nobody, and
//! sees what there is.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use serde_json::Value;

use crate::common::{Disk, Image, Machine, tool};
use crate::evidence::{MARK, SOON, evidence, is_left_alone, marked, not_unmounted, probe, reboot};

claims![
    looks_at_once_change_no_byte,
    a_look_waits_for_its_turn,
    a_boot_is_not_disturbed_by_looks,
    a_disk_that_is_looked_into_is_not_read_only,
    what_is_staged_is_not_looked_into,
    what_a_boot_left_that_died_is_cleared_where_the_disk_is_staged,
    a_disk_that_something_else_has_is_looked_into_once_it_is_free,
    a_disk_that_changes_after_the_look_is_left_alone,
    a_btrfs_with_files_beside_its_default_subvolume_is_left_alone,
    an_empty_btrfs_whose_default_is_another_subvolume_is_judged_by_what_is_staged,
    a_disk_whose_root_directory_is_damaged_is_left_alone,
    what_fsck_found_is_somebody_s,
    a_mark_that_was_copied_makes_no_disk_ours,
    no_terminal_acts_on_a_mark,
];

fn verdict_on_vdb(probe: &Value) -> Value {
    let verdicts = probe["verdicts"].as_array().unwrap();
    let on_vdb = verdicts.iter().find(|one| one["spec"] == "/dev/vdb");
    on_vdb.unwrap().clone()
}

/// Without loop devices: the kernel refuses writes to the disk itself.
fn looks_at_once_change_no_byte() {
    let script = "mkdir condor; echo x >file";
    for image in [Image::xfs(""), Image::btrfs(""), Image::ext4("")] {
        let image = not_unmounted(&image, script);
        let machine = Machine::new();
        let disk = machine.disk("vdb", &image);
        let alone = verdict_on_vdb(&probe(&machine));
        machine.sh("for i in 1 2 3 4 5 6; do
                (for j in 1 2 3 4 5 6 7 8 9 10 11 12; do
                    vmstage probe --format json >/tmp/$i-$j 2>&1 || :
                done) &
            done; wait");
        assert_eq!(disk.checksum(), image.checksum(), "{alone:#}");
        let said =
            machine.sh("grep -h '\"reason\": \".*not unmounted\\|holds files' /tmp/*-* | sort -u");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(
            machine.sh("blockdev --getro /dev/vdb; find /run -type f"),
            "0\n"
        );
    }
}

/// Has the lock of a disk, as another process of this program does.
fn lock(machine: &Machine, disk: &Disk) -> Flock<File> {
    let (major, minor) = disk.number;
    machine.sh("mkdir -p /run/vmstage");
    let path = machine.path(format!("/run/vmstage/read-only-{major}-{minor}"));
    let file = File::create(path).unwrap();
    Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap()
}

fn a_look_waits_for_its_turn() {
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::ext4(""));
    let other = lock(&machine, &disk);
    machine.sh(&format!(
        "echo /dev/vdb >/run/vmstage/read-only-{}-{}; blockdev --setro /dev/vdb",
        disk.number.0, disk.number.1
    ));
    let running = machine.start(&["probe", "--format", "json"]);
    sleep(Duration::from_millis(700));
    // It has not touched what is another's.
    assert_eq!(machine.sh("blockdev --getro /dev/vdb"), "1\n");
    drop(other);
    let probe = running.wait();
    assert_eq!(probe.code, 0, "{probe}");
    assert!(probe.stdout.contains("\"chosen\": \"/dev/vdb\""), "{probe}");
    // One that does not end is not waited for without end.
    let _other = lock(&machine, &disk);
    let probe = machine.run(&["probe"]);
    assert!(probe.stdout.contains("another vmstage"), "{probe}");
    assert!(probe.took < Duration::from_secs(8), "{probe}");
}

fn a_boot_is_not_disturbed_by_looks() {
    for image in [Image::ext4(""), Image::ext4("ephemeral0")] {
        for _ in 0..8 {
            let machine = Machine::new();
            machine.disk("vdb", &image);
            let looks = "for j in 1 2 3 4 5 6 7 8; do vmstage probe >/dev/null 2>&1 || :; done";
            let looks = format!("({looks}) & ({looks}) & wait");
            let mut command = machine.command("/bin/sh", None);
            let mut looks = command.args(["-c", &looks]).spawn().unwrap();
            let boot = machine.boot();
            looks.wait().unwrap();
            boot.ready_on("/dev/vdb").warns_of_nothing();
        }
    }
}

/// Whatever led to it.
fn a_disk_that_is_looked_into_is_not_read_only() {
    for label in ["", "ephemeral0"] {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &Image::ext4(label));
        let other = lock(&machine, &disk);
        machine.sh(&format!(
            "echo /dev/vdb >/run/vmstage/read-only-{}-{}; blockdev --setro /dev/vdb",
            disk.number.0, disk.number.1
        ));
        let boot = machine.start(&["boot"]);
        sleep(Duration::from_millis(1300));
        machine.sh("blockdev --setrw /dev/vdb; rm /run/vmstage/read-only-*");
        drop(other);
        boot.wait().ready_on("/dev/vdb").does_not_say("read-only");
    }
}

fn what_is_staged_is_not_looked_into() {
    tool("mkfs.btrfs");
    for image in [Image::ext4(""), Image::xfs(""), Image::btrfs("")] {
        let machine = Machine::new();
        machine.disk("vdb", &image);
        machine.boot().ready_on("/dev/vdb");
        machine.sh("echo x >/staging/file");
        let seen = probe(&machine);
        let verdict = verdict_on_vdb(&seen);
        assert_eq!(verdict["verdict"], "accepted", "{seen:#}");
        assert_eq!(verdict["evidence"], "staged already", "{seen:#}");
        assert_eq!(seen["already_mounted"], "/dev/vdb", "{seen:#}");
        let status = machine.run(&["status"]);
        assert_eq!(status.code, 0, "{status}");
        assert_eq!(machine.boot().staged()[0].device, "/dev/vdb");
    }
}

/// A boot that was killed once the disk was mounted.
fn what_a_boot_left_that_died_is_cleared_where_the_disk_is_staged() {
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::ext4(""));
    machine.boot().ready_on("/dev/vdb");
    drop(lock(&machine, &disk));
    assert_ne!(machine.sh("ls /run/vmstage/read-only-*"), "");
    let boot = machine.boot();
    assert_eq!(boot.code, 0, "{boot}");
    assert_eq!(
        machine.sh("ls /run/vmstage | grep read-only || :"),
        "",
        "{boot}"
    );
}

fn holding(machine: &Machine, name: &str) -> File {
    let mut options = File::options();
    let options = options.read(true).custom_flags(libc::O_EXCL);
    options.open(machine.path(format!("/dev/{name}"))).unwrap()
}

fn with_loop_devices(machine: &Machine, disks: &[&Disk]) {
    machine.sh("mknod /dev/loop-control c 10 237");
    let is_taken = |minor: &u64| disks.iter().any(|disk| disk.number.1 == *minor);
    for minor in (0..512).filter(|minor| !is_taken(minor)) {
        machine.name(&format!("loop{minor}"), (7, minor));
    }
}

/// Another disk, which a later name leads to, does not take its place.
fn a_disk_that_something_else_has_is_looked_into_once_it_is_free() {
    for has_loop in [false, true] {
        let mut machine = Machine::new();
        machine.configure("[staging]\nwait = \"10s\"\ndevices = [\"/dev/vdb\", \"/dev/sdb\"]");
        let first = machine.disk("vdb", &Image::ext4(""));
        let second = machine.disk("sdb", &Image::ext2(""));
        if has_loop {
            with_loop_devices(&machine, &[&first, &second]);
        }
        let holds = holding(&machine, "vdb");
        let boot = machine.start(&["boot"]);
        sleep(Duration::from_millis(1500));
        drop(holds);
        boot.wait().ready_on("/dev/vdb");
    }
}

/// By another process, or by a clone of the same template that takes its place. It may come
/// too late.
fn a_disk_that_changes_after_the_look_is_left_alone() {
    for _ in 0..30 {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &marked());
        let full = machine.disk("other", &marked());
        machine.prepare("/dev/other", "echo once >thesis.tex");
        let [before, after] = [&disk, &full].map(|disk| fs::read(&disk.file).unwrap());
        let blocks = before.chunks(1024).zip(after.chunks(1024)).enumerate();
        let changed: Vec<_> = blocks.filter(|(_, (old, new))| old != new).collect();
        let (major, minor) = disk.number;
        let record = machine.path(format!("/run/vmstage/read-only-{major}-{minor}"));
        let node = File::options().write(true).open(machine.path("/dev/vdb"));
        let node = node.unwrap();
        let boot = machine.start(&["boot"]);
        let start = Instant::now();
        for is_there in [true, false] {
            while record.exists() != is_there && start.elapsed() < SOON {}
        }
        for (block, (_, new)) in changed {
            node.write_all_at(new, block as u64 * 1024).unwrap();
        }
        let boot = boot.wait();
        if boot
            .stderr
            .contains("it changed: it now holds files (thesis.tex)")
        {
            boot.failed(3)
                .rejects("/dev/vdb", "holds files (thesis.tex)");
            return;
        }
    }
    panic!("it was never seen");
}

fn a_btrfs_with_files_beside_its_default_subvolume_is_left_alone() {
    tool("btrfs");
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::btrfs(""));
    machine.prepare(
        "/dev/vdb",
        "btrfs subvolume create data; echo thesis >data/thesis.tex
        btrfs subvolume create condor; btrfs subvolume set-default ./condor",
    );
    is_left_alone(&machine, &disk, "/dev/vdb", &["holds files (data)"]);
    // The options of mount(2) may select one that is not the default.
    let mut machine = Machine::new();
    machine.configure("[staging]\noptions = [\"subvol=condor\"]");
    let disk = machine.disk("vdb", &Image::btrfs(""));
    machine.prepare(
        "/dev/vdb",
        "btrfs subvolume create condor; echo thesis >condor/thesis.tex",
    );
    is_left_alone(&machine, &disk, "/dev/vdb", &["holds files (thesis.tex)"]);
}

fn an_empty_btrfs_whose_default_is_another_subvolume_is_judged_by_what_is_staged() {
    tool("btrfs");
    let machine = Machine::new();
    machine.disk("vdb", &Image::btrfs(""));
    machine.prepare(
        "/dev/vdb",
        "btrfs subvolume create condor; btrfs subvolume set-default ./condor",
    );
    machine.boot().ready_on("/dev/vdb");
    machine.sh("touch /staging/somebody-s");
    reboot(&machine);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert_eq!(evidence(&boot), "ours", "{boot}");
}

/// Where the kernel's readdir passes over it without an error.
fn a_disk_whose_root_directory_is_damaged_is_left_alone() {
    tool("debugfs");
    let garbage = "printf '\\377\\377\\377\\377\\003\\000'";
    let zeros = "head -c 1024 /dev/zero";
    for kind in ["ext2", "ext4"] {
        for damage in [garbage, zeros] {
            let machine = Machine::new();
            let image = Image::ext(kind, "", &["-O", "^metadata_csum", "-b", "1024"]);
            let disk = machine.disk("vdb", &image);
            machine.prepare("/dev/vdb", "mkdir home; echo thesis >home/thesis.tex");
            machine.sh(&format!(
                "block=$(debugfs -R 'bmap <2> 0' /dev/vdb 2>/dev/null | tail -1)
                {damage} | dd of=/dev/vdb bs=1024 seek=$block conv=notrunc 2>/dev/null
                sync; blockdev --flushbufs /dev/vdb"
            ));
            let words = ["its root directory is damaged; run fsck on it"];
            is_left_alone(&machine, &disk, "/dev/vdb", &words);
        }
    }
}

fn what_fsck_found_is_somebody_s() {
    let scripts = [
        "mkdir -p lost+found; echo thesis >lost+found/#12",
        "rm -rf lost+found; echo thesis >lost+found",
    ];
    for script in scripts {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &Image::ext4(""));
        machine.prepare("/dev/vdb", script);
        is_left_alone(&machine, &disk, "/dev/vdb", &["holds files (lost+found)"]);
    }
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(""));
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
}

/// As `cp -a` does.
fn a_mark_that_was_copied_makes_no_disk_ours() {
    let copied = "/dev/vdb has a mark that was copied from another disk";
    let machine = Machine::new();
    let disk = machine.disk("vdb", &Image::ext4("thesis"));
    let script = format!("echo '{MARK}' >.vmstage; mkdir home; touch home/thesis.tex");
    machine.prepare("/dev/vdb", &script);
    let boot = is_left_alone(&machine, &disk, "/dev/vdb", &["holds files (home)"]);
    boot.warns(&[copied]);
    // Nor is it anybody's file.
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(""));
    machine.prepare("/dev/vdb", &format!("echo '{MARK}' >.vmstage"));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns(&[copied]);
    assert_eq!(evidence(&boot), "empty", "{boot}");
    reboot(&machine);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    assert_eq!(evidence(&boot), "ours", "{boot}");
}

const HOSTILE: &str = r#"{"version":"0.2.0","machine":"a\u001b[2Jb\nvmstage: ready","filesystem":"6d1f8a52-0d2c-4c43-9f3e-5b1c7f6a0e11","first_staged":1,"last_staged":2}"#;

fn no_terminal_acts_on_a_mark() {
    let machine = Machine::new();
    machine.disk("vdb", &marked());
    machine.prepare(
        "/dev/vdb",
        &format!("cat >.vmstage <<'EOF'\n{HOSTILE}\nEOF\n"),
    );
    // The machine's own UUID, from which that of the mark differs.
    machine.sh("mount -t tmpfs x /sys/class; mkdir -p /sys/class/dmi/id
        echo 4c4c4544-0000-4000-8000-000000000001 >/sys/class/dmi/id/product_uuid");
    let probe = machine.run(&["probe"]);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    let status = machine.run(&["status"]);
    for text in [&probe.stdout, &boot.stderr, &boot.console, &status.stdout] {
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
    for text in [&probe.stdout, &boot.stderr, &status.stdout] {
        let words = "was staged by another machine before (a\u{fffd}[2Jb\u{fffd}vmstage: ready)";
        assert!(text.contains(words), "{text}");
    }
    assert!(!probe.stdout.contains("\nvmstage: ready"), "{probe}");
}
