//! `make bench`: what a boot costs outside a guest, beside what it replaces and beside
//! the least that is possible, and what looking for a label costs among many disks.
//! Contenders take turns; what is printed are medians and ratios.

// Loop devices and chroot(2) take system calls.
#![allow(unsafe_code)]

// The bench uses a part of it.
mod boot_order;
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../tests/host/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use common::{Attach, Image, LoopDevice, Machine};

const ROUNDS: usize = 25;
const DISKS: [usize; 3] = [10, 100, 1000];

/// What the design allows.
const SCRIPT_AT_LEAST: f64 = 3.0;
const FLOOR_AT_MOST: f64 = 4.0;
const NAME_AT_MOST: f64 = 1.5;
const PEAK_KIB_AT_MOST: u64 = 4096;

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not measured: mounting takes root");
        return ExitCode::FAILURE;
    }
    if std::env::args().any(|argument| argument == "--boot-order") {
        boot_order::write(&labelled().0);
        return ExitCode::SUCCESS;
    }
    println!("Measured: {}\n", common::program().display());
    let within = [boot(), by_name(), many_disks()];
    ExitCode::from(u8::from(within.contains(&false)))
}

/// One run: nanoseconds and peak memory.
#[derive(Clone, Copy)]
struct Cost {
    nanoseconds: u64,
    peak_kib: u64,
}

/// A labelled ext2 disk, `/dev/disk/by-label` as udev makes it, no metadata.
fn boot() -> bool {
    let (machine, _disk) = labelled();
    let contenders = [
        ("vmstage boot", vec!["/usr/sbin/vmstage", "boot"]),
        ("old script and rc.local", vec!["/etc/rc.local"]),
        (
            "mount(2) and directories",
            vec!["/mount_only", "condor", "tmp"],
        ),
    ];
    let mut costs = vec![Vec::new(); contenders.len()];
    // The first round only warms the caches up.
    for round in 0..=ROUNDS {
        for ((_, command), costs) in contenders.iter().zip(&mut costs) {
            let cost = measure(&machine, command);
            machine.sh("cd /staging; rmdir condor tmp 2>/dev/null || true; cd /; umount /staging; rm -rf /run/vmstage");
            if round > 0 {
                costs.push(cost);
            }
        }
    }

    println!("A labelled ext2 disk, metadata off, {ROUNDS} runs each, medians:\n");
    for ((name, _), costs) in contenders.iter().zip(&costs) {
        let (median, peak) = (milliseconds(costs), peak_kib(costs));
        let least = milliseconds_sorted(costs)[0];
        println!("  {name:<26} {median:7.2} ms (least {least:6.2})  {peak:6} KiB");
    }
    let [vmstage, script, floor] = [0, 1, 2].map(|n| milliseconds(&costs[n]));
    println!();
    let ratio = format!("{:.1} times", script / vmstage);
    let mut within = bound(
        "faster than the script",
        &ratio,
        script / vmstage >= SCRIPT_AT_LEAST,
    );
    let ratio = format!("{:.2} times", vmstage / floor);
    within &= bound(
        "of the least that is possible",
        &ratio,
        vmstage / floor <= FLOOR_AT_MOST,
    );
    let peak = peak_kib(&costs[0]);
    within &= bound(
        "peak memory",
        &format!("{peak} KiB"),
        peak <= PEAK_KIB_AT_MOST,
    );
    println!();
    within
}

fn labelled() -> (Machine, LoopDevice) {
    let machine = with_programs();
    let disk = disk_on_a_disk(&machine, &Image::sized_ext(256, "ext2", "ephemeral0", &[]));
    machine.name("vdb", disk.number);
    machine.sh("mkdir /staging; ln -s ../../vdb /dev/disk/by-label/ephemeral0");
    (machine, disk)
}

/// The same disk, without a label: the look into it costs one mount more.
fn by_name() -> bool {
    let machines = ["ephemeral0", ""].map(|label| {
        let machine = with_programs();
        let disk = disk_on_a_disk(&machine, &Image::sized_ext(256, "ext2", label, &[]));
        machine.name("vdb", disk.number);
        machine.sh("mkdir /staging");
        (machine, disk)
    });
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for ((machine, _), costs) in machines.iter().zip(&mut costs) {
            let cost = measure(machine, &["/usr/sbin/vmstage", "boot"]);
            machine.sh("umount /staging; rm -rf /run/vmstage");
            // The first round also finds it empty, and marks it.
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    let [label, name] = costs.each_ref().map(|costs| milliseconds(costs));
    println!("A disk that is found by its name, {ROUNDS} runs each, medians:\n");
    println!("  by label  {label:7.2} ms\n  by name   {name:7.2} ms\n");
    let ratio = format!("{:.2} times", name / label);
    let within = bound("of a boot by label", &ratio, name / label <= NAME_AT_MOST);
    println!();
    within
}

/// Disks without links of udev's: every superblock has to be read.
fn many_disks() -> bool {
    println!("Looking for a label among many disks, without udev's links:\n");
    println!("  disks   vmstage probe   per disk   blkid -L   per disk");
    let mut within = true;
    let before = LoopDevice::all();
    for disks in DISKS {
        let machine = with_programs();
        // The one that is looked for comes last.
        for number in 1..=disks {
            let label = if number == disks {
                "ephemeral0"
            } else {
                "data"
            };
            let disk = machine.attach(&small_ext2(label), Attach::default());
            machine.name(&disk.kernel_name, disk.number);
        }
        let contenders = [
            vec!["/usr/sbin/vmstage", "probe", "--format", "json"],
            vec!["/usr/sbin/blkid", "-c", "/dev/null", "-L", "ephemeral0"],
        ];
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..5 {
            for (command, costs) in contenders.iter().zip(&mut costs) {
                costs.push(measure(&machine, command));
                machine.sh("rm -rf /run/blkid");
            }
        }
        let [vmstage, blkid] = costs.each_ref().map(|costs| milliseconds(costs));
        let per_disk = |milliseconds: f64| milliseconds * 1000.0 / disks as f64;
        println!(
            "  {disks:5}   {vmstage:10.1} ms   {:5.0} us   {blkid:5.1} ms   {:5.0} us",
            per_disk(vmstage),
            per_disk(blkid)
        );
        within = vmstage < blkid;
        drop(machine);
        LoopDevice::remove_unused_but(&before);
    }
    println!();
    bound("less than blkid -L with all of them", "", within)
}

/// Behind the other disks of a test is memory, where a flush costs nothing: mount(2)
/// waits for one.
fn disk_on_a_disk(machine: &Machine, image: &Image) -> LoopDevice {
    let file = std::env::temp_dir().join(format!("vmstage-bench-{}", std::process::id()));
    image.write(&file);
    let disk = LoopDevice::attach(&file, Attach::default(), &machine.path("/dev"));
    fs::remove_file(&file).unwrap();
    disk.expect("attach a loop device")
}

fn bound(what: &str, value: &str, holds: bool) -> bool {
    let verdict = if holds {
        "within bounds"
    } else {
        "OUT OF BOUNDS"
    };
    println!("  {value:>12} {what}: {verdict}");
    holds
}

fn with_programs() -> Machine {
    let machine = Machine::new();
    for program in ["measure", "mount_only", "steps"] {
        compile(program, &machine.path(program));
    }
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/old");
    fs::create_dir(machine.path("etc/init.d")).unwrap();
    for name in ["rc.local", "init.d/mount_staging"] {
        let file = old.join(Path::new(name).file_name().unwrap());
        fs::copy(file, machine.path("etc").join(name)).unwrap();
    }
    machine
}

fn compile(program: &str, to: &Path) {
    let source = format!("{}/benches/{program}.c", env!("CARGO_MANIFEST_DIR"));
    let compiled = Command::new("musl-gcc")
        .args(["-static", "-O2", "-Wall", "-o"])
        .arg(to)
        .arg(source)
        .status();
    assert!(compiled.expect("musl-gcc").success());
}

fn measure(machine: &Machine, command: &[&str]) -> Cost {
    let mut measured = machine.command("/measure", None);
    let output = measured.args(command).output().unwrap();
    let result = fs::read_to_string(machine.path("/run/measured")).unwrap();
    let fields: Vec<u64> = result
        .split_whitespace()
        .map(|field| field.parse().unwrap())
        .collect();
    assert_eq!(fields[2], 0, "{command:?} failed: {output:?}");
    Cost {
        nanoseconds: fields[0],
        peak_kib: fields[1],
    }
}

fn milliseconds(costs: &[Cost]) -> f64 {
    milliseconds_sorted(costs)[costs.len() / 2]
}

fn milliseconds_sorted(costs: &[Cost]) -> Vec<f64> {
    let mut all: Vec<f64> = costs
        .iter()
        .map(|cost| cost.nanoseconds as f64 / 1e6)
        .collect();
    all.sort_by(f64::total_cmp);
    all
}

fn peak_kib(costs: &[Cost]) -> u64 {
    costs.iter().map(|cost| cost.peak_kib).max().unwrap()
}

/// A mebibyte: a thousand of them are held in memory.
fn small_ext2(label: &str) -> Image {
    Image::sized_ext(1, "ext2", label, &[])
}
