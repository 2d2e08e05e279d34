//! A VM has what was asked for, or says what is short.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::{Image, Machine};
use crate::server::{BlackHole, Server};

claims!(
    a_vm_with_less_than_was_asked_for_says_so_everywhere_and_is_ready,
    a_vm_with_what_was_asked_for_is_short_of_nothing,
    a_request_that_is_none_is_a_warning,
    a_failed_boot_says_at_once_that_it_failed_and_then_what_was_asked_for,
    a_failed_boot_whose_disk_is_another_one_does_not_say_that_there_is_none,
    a_failed_boot_whose_disk_is_never_scratch_says_that_there_is_none,
    a_failed_boot_that_nobody_answers_has_told_everybody_before_it_asks,
);

const ID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

/// A machine that asks this service.
fn machine(url: &str) -> Machine {
    let mut machine = Machine::new();
    machine.configure(&format!(
        "[metadata]\nsources = [\"openstack\"]\nurl = \"{url}\"\ntimeout = \"4s\"\n\
         [report]\ntextfile_directory = \"/metrics\""
    ));
    machine.sh("mkdir -p /etc/condor/config.d /metrics");
    for published in ["/etc/condor/config.d", "/metrics", "/var/lib/vmstage"] {
        machine.may_change(published);
    }
    machine
}

/// The service of an instance for which this was asked.
fn service(request: &str) -> Server {
    let document = format!(r#"{{"uuid": "{ID}", "meta": {{"vmstage_request": "{request}"}}}}"#);
    Server::saying(200, "", document.as_bytes())
}

fn a_vm_with_less_than_was_asked_for_says_so_everywhere_and_is_ready() {
    let service = service("memory=1M,cores=1,scratch=10G");
    let machine = machine(&service.url());
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    let resources = &boot.the_status()["resources"];
    assert_eq!(
        resources["short_of"],
        serde_json::json!(["scratch"]),
        "{boot}"
    );
    assert_eq!(resources["asked"]["by"], "vmstage_request");
    assert_eq!(resources["asked"]["scratch_bytes"], 10_u64 << 30);
    let device = machine.sh("blockdev --getsize64 /dev/vdb");
    let device: u64 = device.trim().parse().unwrap();
    assert_eq!(resources["got"]["scratch_bytes"], device, "{boot}");
    assert!(boot.console.contains("; short of scratch: "), "{boot}");
    let read = |path: &str| fs::read_to_string(machine.path(path)).unwrap();
    let drop_in = read("/etc/condor/config.d/99-vmstage.config");
    assert!(
        drop_in.contains("VmstageShortOf = \"scratch\""),
        "{drop_in}"
    );
    let metrics = read("/metrics/vmstage.prom");
    assert!(metrics.contains("\nvmstage_scratch_short 1\n"), "{metrics}");
    assert!(metrics.contains("\nvmstage_memory_short 0\n"), "{metrics}");
    let shown = machine.sh("vmstage status");
    assert!(
        shown.contains("\nasked for memory 1 MiB, cores 1, scratch 10 GiB"),
        "{shown}"
    );
}

fn a_vm_with_what_was_asked_for_is_short_of_nothing() {
    let service = service("memory=1M,cores=1,scratch=1M");
    let machine = machine(&service.url());
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    assert_eq!(
        boot.the_status()["resources"]["short_of"],
        serde_json::json!([])
    );
    assert!(!boot.console.contains("short of"), "{boot}");
}

fn a_request_that_is_none_is_a_warning() {
    let service = service("a lot");
    let machine = machine(&service.url());
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    boot.warns(&["vmstage_request", "\"a lot\" is no request"]);
}

fn a_failed_boot_says_at_once_that_it_failed_and_then_what_was_asked_for() {
    let service = service("m1024c1s10");
    let boot = machine(&service.url()).boot();
    assert_eq!(boot.code, 3, "{boot}");
    let missing = "10 GiB of scratch were asked for (vmstage_request), and the flavor has none";
    boot.warns(&[missing]);
    let lines: Vec<&str> = boot.console.lines().collect();
    let [.., failed, last] = lines[..] else {
        panic!("{boot}")
    };
    assert!(failed.starts_with("vmstage: FAILED(3): "), "{boot}");
    assert_eq!(last, format!("vmstage: {missing}"), "{boot}");
}

fn a_failed_boot_whose_disk_is_another_one_does_not_say_that_there_is_none() {
    let service = service("m1024c1s10");
    let machine = machine(&service.url());
    let disk = machine.disk("vdb", &Image::ext2("thesis"));
    machine.prepare("/dev/vdb", "echo 42 > results");
    let before = disk.checksum();
    let boot = machine.boot();
    assert_eq!(boot.code, 3, "{boot}");
    boot.warns(&[
        "10 GiB of scratch were asked for",
        "no disk that is here can be used",
    ]);
    boot.does_not_say("the flavor has none");
    assert_eq!(disk.checksum(), before);
}

/// The config drive and the flavor's swap disk take the name that the scratch disk has elsewhere.
fn a_failed_boot_whose_disk_is_never_scratch_says_that_there_is_none() {
    for image in [
        Image::swap(""),
        Image::vfat("config-2"),
        Image::iso9660("config-2"),
        Image::iso9660("cidata"),
    ] {
        let service = service("m1024c1s10");
        let machine = machine(&service.url());
        machine.disk("vdb", &image);
        let boot = machine.boot();
        assert_eq!(boot.code, 3, "{boot}");
        let none = "10 GiB of scratch were asked for (vmstage_request), and the flavor has none";
        boot.warns(&[none]);
        boot.does_not_say("no disk that is here can be used");
    }
}

fn a_failed_boot_that_nobody_answers_has_told_everybody_before_it_asks() {
    let silent = BlackHole::new();
    let machine = machine(&silent.url());
    let start = Instant::now();
    let mut boot = machine.start(&["boot"]);
    let status = machine.path("/run/vmstage/status.json");
    while !status.exists() && start.elapsed() < Duration::from_secs(3) {
        sleep(Duration::from_millis(10));
    }
    let told = fs::read(&status).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["exit_code"], 3);
    assert!(
        boot.process().try_wait().unwrap().is_none(),
        "it has not asked"
    );
    let boot = boot.wait();
    boot.failed(3).warns(&["openstack"]);
}
