//! The config drive, on real block devices.
//!
//! What a kernel has no driver for, as the build hosts' for ISO 9660 and vfat, is put on
//! ext2 here; Nova's own images are read where the kernel can, and said to be unreadable
//! where it cannot.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::common::{Image, Machine, Outcome, tool};
use serde_json::Value;

claims!(
    a_config_drive_is_read_and_not_left_mounted,
    a_label_in_capitals_will_do,
    one_that_is_mounted_is_read_where_it_is,
    without_one_it_is_said_that_there_is_none,
    two_are_both_named_and_the_first_is_taken,
    on_bare_metal_it_is_a_partition_of_the_root_s_disk,
    one_without_the_document_is_an_error_and_not_left_mounted,
    a_document_that_is_not_one_is_an_error_and_not_left_mounted,
    no_link_and_no_pipe_is_followed_off_the_drive,
    one_that_cannot_be_mounted_is_an_error_and_leaves_nothing,
    the_images_that_nova_made_are_read_or_said_to_have_no_driver,
    whoever_may_not_read_disks_is_told_so,
    boot_takes_identity_and_lifetime_from_it_when_the_service_is_silent,
);

const ID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

/// With the secrets that a real one has.
const DOCUMENT: &str = r#"{"uuid": "aaaaaaaa-0000-4000-8000-000000000001", "name": "vm-1",
    "admin_pass": "sEcReT", "random_seed": "sEcReT", "availability_zone": "nova",
    "meta": {"owner": "survey-ops", "vmstage_lifetime": "36h", "db_password": "sEcReT"}}"#;

const DRIVE_ONLY: &str = "[metadata]\nsources = [\"config-drive\"]\n";

/// A machine that asks its config drive and nobody else.
fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.configure(DRIVE_ONLY);
    machine
}

/// A drive with this document, as `/dev/<name>`.
fn drive(machine: &Machine, name: &str, label: &str, document: &str) {
    machine.disk(name, &Image::ext2(label));
    fs::write(machine.path("root/document"), document).unwrap();
    let device = format!("/dev/{name}");
    machine.prepare(
        &device,
        "mkdir -p openstack/latest; cp /root/document openstack/latest/meta_data.json",
    );
}

/// What the config drive said; it has left no trace.
#[track_caller]
fn asked(machine: &Machine) -> (Outcome, Value) {
    let before = machine.mounts();
    let outcome = machine.run(&["metadata", "--format", "json"]);
    assert_eq!(machine.mounts(), before, "{outcome}");
    let left = machine.sh("find /run/vmstage -mindepth 1 2>/dev/null || :");
    assert_eq!(left, "", "{outcome}");
    let said = outcome.stdout.clone() + &outcome.stderr;
    assert!(!said.contains("sEcReT"), "{outcome}");
    let answers: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let source = answers["sources"][0].clone();
    assert_eq!(source["source"], "config-drive");
    (outcome, source)
}

#[track_caller]
fn fails_saying(machine: &Machine, words: &str) {
    let (outcome, source) = asked(machine);
    let error = source["error"].as_str().unwrap_or_default();
    assert!(error.contains(words), "not {words:?}: {outcome}");
    assert_eq!(outcome.code, 1, "{outcome}");
}

fn a_config_drive_is_read_and_not_left_mounted() {
    let machine = machine();
    drive(&machine, "vdc", "config-2", DOCUMENT);
    let (outcome, source) = asked(&machine);
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(source["place"], "/dev/vdc");
    let answer = &source["answer"];
    assert_eq!(answer["instance"]["id"], ID);
    assert_eq!(answer["instance"]["availability_zone"], "nova");
    assert_eq!(answer["meta"]["owner"], "survey-ops");
    assert_eq!(answer["meta"]["db_password"], "(hidden)");
    assert_eq!(answer["limits"][0]["seconds_from_first_boot"], 36 * 3600);
    // The device is free again at once.
    machine.sh("mount /dev/vdc /mnt; umount /mnt");
}

fn a_label_in_capitals_will_do() {
    let machine = machine();
    drive(&machine, "vdc", "CONFIG-2", DOCUMENT);
    assert_eq!(asked(&machine).1["answer"]["instance"]["id"], ID);
}

/// As Ironic makes it: the scratch space is another partition of that disk.
fn on_bare_metal_it_is_a_partition_of_the_root_s_disk() {
    let partitions = [
        Image::ext4(""),
        Image::ext2("ephemeral0"),
        Image::ext2("config-2"),
    ];
    for table in ["gpt", "dos"] {
        let image = Image::partitioned(table, &partitions);
        let (mut machine, root) = Machine::with_root_on(&image, Some(1));
        machine.configure(DRIVE_ONLY);
        for published in [
            "/etc/machinefeatures",
            "/etc/jobfeatures",
            "/var/lib/vmstage",
        ] {
            machine.may_change(published);
        }
        machine.name("vda", root.number);
        for (index, number) in root.partitions.iter().enumerate() {
            machine.name(&format!("vda{}", index + 1), *number);
        }
        fs::write(machine.path("root/document"), DOCUMENT).unwrap();
        machine.prepare(
            "/dev/vda3",
            "mkdir -p openstack/latest; cp /root/document openstack/latest/meta_data.json",
        );
        let (outcome, source) = asked(&machine);
        assert_eq!(source["place"], "/dev/vda3", "{outcome}");
        assert_eq!(source["answer"]["instance"]["id"], ID, "{outcome}");
        let boot = machine.boot();
        boot.ready_on("/dev/vda2");
        assert_eq!(boot.the_status()["instance"]["id"], ID, "{boot}");
    }
}

fn one_that_is_mounted_is_read_where_it_is() {
    let machine = machine();
    drive(&machine, "vdc", "config-2", DOCUMENT);
    machine.sh("mount -o ro /dev/vdc /mnt");
    assert_eq!(asked(&machine).1["answer"]["instance"]["id"], ID);
    // It was not mounted a second time: what lies over it there is what was read.
    machine.sh(
        "umount /mnt; mount /dev/vdc /mnt; echo '{\"uuid\": \"elsewhere\"}' >/root/document
         mount --bind /root/document /mnt/openstack/latest/meta_data.json",
    );
    assert_eq!(asked(&machine).1["answer"]["instance"]["id"], "elsewhere");
    machine.sh("umount /mnt/openstack/latest/meta_data.json; umount /mnt");
}

fn without_one_it_is_said_that_there_is_none() {
    let machine = machine();
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    fails_saying(&machine, "no disk is labelled config-2");
}

fn two_are_both_named_and_the_first_is_taken() {
    let machine = machine();
    drive(&machine, "vdc", "config-2", DOCUMENT);
    drive(&machine, "vdd", "config-2", r#"{"uuid": "second"}"#);
    let (_, source) = asked(&machine);
    assert_eq!(source["answer"]["instance"]["id"], ID);
    assert_eq!(
        source["answer"]["warnings"][0],
        "/dev/vdc and /dev/vdd are labelled config-2; the first by name is taken"
    );
}

fn one_without_the_document_is_an_error_and_not_left_mounted() {
    let machine = machine();
    machine.disk("vdc", &Image::ext2("config-2"));
    fails_saying(
        &machine,
        "cannot read openstack/latest/meta_data.json on /dev/vdc: ENOENT",
    );
}

fn a_document_that_is_not_one_is_an_error_and_not_left_mounted() {
    let large = " ".repeat(2 << 20);
    for (document, words) in [
        ("<html>", "not a JSON object"),
        ("{\"admin_pass\": \"sEcReT\"", "EOF"),
        (large.as_str(), "larger than 1048576 bytes"),
    ] {
        let machine = machine();
        drive(&machine, "vdc", "config-2", document);
        fails_saying(&machine, words);
    }
}

fn no_link_and_no_pipe_is_followed_off_the_drive() {
    for (make, words) in [
        ("ln -s /root/document meta_data.json", "ELOOP"),
        ("mkfifo meta_data.json", "not a JSON object"),
        ("mkdir meta_data.json", "directory"),
    ] {
        let machine = machine();
        fs::write(machine.path("root/document"), DOCUMENT).unwrap();
        machine.disk("vdc", &Image::ext2("config-2"));
        machine.prepare(
            "/dev/vdc",
            &format!("mkdir -p openstack/latest; cd openstack/latest; {make}"),
        );
        fails_saying(&machine, words);
    }
}

fn one_that_cannot_be_mounted_is_an_error_and_leaves_nothing() {
    let machine = machine();
    machine.disk("vdc", &Image::that_cannot_be_mounted("config-2"));
    fails_saying(&machine, "cannot mount the config drive /dev/vdc: ");
}

fn the_images_that_nova_made_are_read_or_said_to_have_no_driver() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config-drive");
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap();
    for (name, filesystem, id) in [
        ("1.iso9660", "iso9660", ID),
        ("1.vfat", "vfat", ID),
        (
            "2.iso9660",
            "iso9660",
            "aaaaaaaa-0000-4000-8000-000000000002",
        ),
    ] {
        let machine = machine();
        machine.disk("sr0", &gunzipped(&fixtures.join(format!("{name}.gz"))));
        if filesystems.contains(filesystem) || machine.kernel_mounts("/dev/sr0") {
            let (outcome, source) = asked(&machine);
            assert_eq!(source["answer"]["instance"]["id"], id, "{outcome}");
        } else {
            let words = format!(
                "cannot mount the config drive /dev/sr0: this kernel has no driver for {filesystem}"
            );
            fails_saying(&machine, &words);
        }
    }
}

fn gunzipped(file: &Path) -> Image {
    let name = format!("vmstage-drive-{}", std::process::id());
    let whole = std::env::temp_dir().join(name);
    let gunzip = Command::new(tool("gzip"))
        .arg("-dc")
        .arg(file)
        .stdout(File::create(&whole).unwrap())
        .status();
    assert!(gunzip.unwrap().success());
    let image = Image::read(&whole);
    fs::remove_file(whole).unwrap();
    image
}

fn whoever_may_not_read_disks_is_told_so() {
    let machine = machine();
    drive(&machine, "vdc", "config-2", DOCUMENT);
    let outcome = machine.run_as_nobody(&["metadata"]);
    assert_eq!(outcome.code, 1, "{outcome}");
    let words = "no: no disk is labelled config-2, and 1 could not be read";
    assert!(outcome.stdout.contains(words), "{outcome}");
}

fn boot_takes_identity_and_lifetime_from_it_when_the_service_is_silent() {
    let mut machine = machine();
    machine.configure(
        "[metadata]\nsources = [\"config-drive\", \"openstack\"]\n\
         url = \"http://127.0.0.1:9\"\ntimeout = \"1s\"\n",
    );
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    drive(&machine, "vdc", "config-2", DOCUMENT);
    for published in ["/etc/machinefeatures", "/etc/jobfeatures"] {
        machine.may_change(published);
    }
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    let status = boot.the_status();
    assert_eq!(status["instance"]["id"], ID, "{boot}");
    let origin = "vmstage_lifetime in the config drive metadata";
    assert_eq!(status["deadline"]["origin"], origin, "{boot}");
    let record = machine.path(format!("var/lib/vmstage/first-boot-{ID}.json"));
    assert!(record.exists(), "{boot}");
    assert!(!format!("{boot}").contains("sEcReT"), "{boot}");
}
