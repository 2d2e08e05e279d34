//! That the disks which err, are slow or hang (common/faulty_disk.rs) do so, and that
//! nothing is left of them.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::{Fault, Image, Machine};

claims![
    a_disk_without_a_fault_holds_its_image,
    what_hangs_in_a_mount_cannot_be_killed_until_it_is_let_go,
    a_read_that_hangs_fails_when_the_disk_does,
    a_write_can_hang_while_reads_do_not,
    reads_fail_where_they_are_to_fail,
    writes_fail_and_reads_do_not,
    a_disk_that_is_dropped_while_it_hangs_and_is_mounted_is_detached;
    alone:
    a_read_of_a_hung_disk_returns_when_it_is_let_go_and_not_before,
    each_read_takes_the_delay_and_several_at_once_take_it_once,
    sixteen_disks_are_quickly_made_and_slow_at_the_same_time,
];

const MS: Duration = Duration::from_millis(1);

/// Reads these blocks of 4 KiB past all caches.
fn read(machine: &Machine, device: &str, first: u64, count: u64) -> Child {
    let mut dd = machine.command("/bin/dd", None);
    dd.args(["of=/dev/null", "bs=4096", "iflag=direct"]);
    dd.arg(format!("if=/dev/{device}"));
    dd.args([format!("skip={first}"), format!("count={count}")]);
    dd.stderr(Stdio::null()).spawn().unwrap()
}

fn succeeds(mut child: Child) -> bool {
    child.wait().unwrap().success()
}

fn a_disk_without_a_fault_holds_its_image() {
    let machine = Machine::new();
    let _disk = machine.faulty_disk("vdb", &Image::ext4("label"));
    assert_eq!(machine.sh("blkid -p -s LABEL -o value /dev/vdb"), "label\n");
    machine.prepare("/dev/vdb", "echo content > file");
    machine.prepare("/dev/vdb", "grep -q content file");
}

fn a_read_of_a_hung_disk_returns_when_it_is_let_go_and_not_before() {
    let machine = Machine::new();
    let disk = machine.faulty_disk("vdb", &Image::ext4(""));
    machine.sh("cat /dev/vdb > /dev/null");
    disk.fault(Fault::Hang);
    let mut cat = machine.command("/bin/cat", None);
    let through_the_cache = cat.arg("/dev/vdb").stdout(Stdio::null()).spawn().unwrap();
    let mut readers = [through_the_cache, read(&machine, "vdb", 0, 1)];
    sleep(300 * MS);
    for reader in &mut readers {
        assert!(reader.try_wait().unwrap().is_none());
    }
    disk.fault(Fault::None);
    let start = Instant::now();
    assert!(readers.into_iter().all(succeeds));
    assert!(start.elapsed() < 2000 * MS, "{:?}", start.elapsed());
}

fn what_hangs_in_a_mount_cannot_be_killed_until_it_is_let_go() {
    let machine = Machine::new();
    let disk = machine.faulty_disk("vdb", &Image::ext4(""));
    disk.fault(Fault::Hang);
    let mut mount = machine.command("/bin/mount", None);
    mount.args(["-t", "ext4", "/dev/vdb", "/mnt"]);
    let mut mount = mount.spawn().unwrap();
    sleep(200 * MS);
    mount.kill().unwrap();
    sleep(100 * MS);
    assert!(mount.try_wait().unwrap().is_none());
    disk.fault(Fault::None);
    assert!(!succeeds(mount));
}

fn a_read_that_hangs_fails_when_the_disk_does() {
    let machine = Machine::new();
    let disk = machine.faulty_disk("vdb", &Image::blank(1));
    disk.fault(Fault::Hang);
    let mut reader = read(&machine, "vdb", 0, 1);
    sleep(100 * MS);
    assert!(reader.try_wait().unwrap().is_none());
    disk.fault(Fault::ReadErrors(0..4096));
    assert!(!succeeds(reader));
}

fn a_write_can_hang_while_reads_do_not() {
    let machine = Machine::new();
    let disk = machine.faulty_disk("vdb", &Image::blank(1));
    disk.fault(Fault::HangWrites);
    let mut dd = machine.command("/bin/dd", None);
    dd.args(["if=/dev/zero", "of=/dev/vdb", "bs=4096", "count=1"]);
    let mut writer = dd
        .arg("oflag=direct")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    sleep(100 * MS);
    assert!(succeeds(read(&machine, "vdb", 0, 1)));
    assert!(writer.try_wait().unwrap().is_none());
    disk.fault(Fault::None);
    assert!(succeeds(writer));
}

fn each_read_takes_the_delay_and_several_at_once_take_it_once() {
    let machine = Machine::new();
    let disk = machine.faulty_disk("vdb", &Image::blank(1));
    disk.fault(Fault::Delay(50 * MS));
    let start = Instant::now();
    assert!(succeeds(read(&machine, "vdb", 0, 4)));
    let in_turn = start.elapsed();
    assert!(in_turn >= 200 * MS && in_turn < 400 * MS, "{in_turn:?}");
    assert_eq!(disk.reads(), 4);

    disk.fault(Fault::Delay(200 * MS));
    let start = Instant::now();
    let readers = [0, 10, 20, 30].map(|block| read(&machine, "vdb", block, 1));
    assert!(readers.into_iter().all(succeeds));
    let at_once = start.elapsed();
    assert!(at_once >= 200 * MS && at_once < 600 * MS, "{at_once:?}");
}

fn sixteen_disks_are_quickly_made_and_slow_at_the_same_time() {
    let machine = Machine::new();
    let start = Instant::now();
    let names: Vec<String> = (1..=16).map(|number| format!("vd{number}")).collect();
    let image = Image::ext2("");
    let disks: Vec<_> = names
        .iter()
        .map(|name| machine.faulty_disk(name, &image))
        .collect();
    let made = start.elapsed();
    assert!(made < Duration::from_secs(2), "{made:?}");
    disks
        .iter()
        .for_each(|disk| disk.fault(Fault::Delay(500 * MS)));
    let start = Instant::now();
    let readers: Vec<_> = names
        .iter()
        .map(|name| read(&machine, name, 0, 1))
        .collect();
    assert!(readers.into_iter().all(succeeds));
    let took = start.elapsed();
    assert!(took >= 500 * MS && took < 2000 * MS, "{took:?}");
}

fn reads_fail_where_they_are_to_fail() {
    let machine = Machine::new();
    let disk = machine.faulty_disk("vdb", &Image::blank(1));
    disk.fault(Fault::ReadErrors(8192..8193));
    for (block, works) in [(1, true), (2, false), (3, true)] {
        assert_eq!(succeeds(read(&machine, "vdb", block, 1)), works, "{block}");
    }
    let said = machine.try_sh("cat /dev/vdb > /dev/null").stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("Input/output error"), "{said}");
}

fn writes_fail_and_reads_do_not() {
    let machine = Machine::new();
    let disk = machine.faulty_disk("vdb", &Image::blank(1));
    disk.fault(Fault::WriteErrors);
    assert!(succeeds(read(&machine, "vdb", 0, 1)));
    let write = "dd if=/dev/zero of=/dev/vdb count=1 bs=4096 oflag=direct 2>&1";
    assert!(!machine.try_sh(write).status.success());
}

fn a_disk_that_is_dropped_while_it_hangs_and_is_mounted_is_detached() {
    let machine = Machine::new();
    let disk = machine.faulty_disk("vdb", &Image::ext4(""));
    let sys = format!("/sys/block/loop{}", disk.number().1);
    // Another number when the same device is attached anew.
    let attached = || {
        let is_attached = Path::new(&sys).join("loop").exists();
        is_attached.then(|| fs::read_to_string(format!("{sys}/diskseq")).unwrap())
    };
    let before = attached();
    machine.sh("mount /dev/vdb /mnt; echo content > /mnt/file");
    disk.fault(Fault::Hang);
    let mut sync = machine.command("/bin/sync", None);
    let mut sync = sync.args(["-f", "/mnt"]).spawn().unwrap();
    sleep(100 * MS);
    assert!(sync.try_wait().unwrap().is_none());
    drop((disk, machine));
    assert!(succeeds(sync));
    let start = Instant::now();
    while attached() == before && start.elapsed() < Duration::from_secs(5) {
        sleep(MS);
    }
    assert!(attached() != before, "{sys} is still attached");
}
