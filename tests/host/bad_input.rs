//! What a disk, `/etc/fstab`, `/dev` and `/sys` may hold that nobody expects: none of it
//! mounts, hangs or ends in a panic.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::{Fault, Image, Machine};
use crate::evidence::{SOON, is_left_alone, probe};
use crate::server::Server;

claims![
    a_directory_with_thousands_of_names_is_left_alone_in_time,
    names_that_are_no_text_reach_nobody_s_terminal,
    metadata_turns_no_line_round_on_anybody_s_terminal,
    a_partition_that_fstab_names_by_its_partition_s_uuid_is_left_alone,
    an_fstab_that_is_long_or_no_text_hides_no_line,
    an_fstab_that_cannot_be_read_speaks_against_a_name,
    links_that_lead_in_a_circle_mean_no_disk,
    sysfs_may_lack_or_hold_anything,
    a_disk_that_goes_away_during_the_look_is_not_mounted,
];

fn a_directory_with_thousands_of_names_is_left_alone_in_time() {
    let machine = Machine::new();
    let image = Image::sized_ext(64, "ext4", "", &["-N", "20000"]);
    let disk = machine.disk("vdb", &image);
    machine.prepare("/dev/vdb", "seq -f file%g 12000 | xargs touch");
    let words = ["holds files (", "… more than "];
    is_left_alone(&machine, &disk, "/dev/vdb", &words);
}

fn names_that_are_no_text_reach_nobody_s_terminal() {
    let names = [
        r#"touch "$(printf 'a\377\200b')""#,
        r#"mkdir "$(printf '\033[2J\033]0;x\007')""#,
        r#"touch "$(printf 'two\nlines')""#,
        // They turn the direction of writing, are not seen, and end a line.
        r#"mkdir "$(printf 'condor\342\200\256')""#,
        r#"touch "$(printf 'a\342\200\213b\342\200\250c')""#,
    ];
    for script in names {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &Image::ext4(""));
        machine.prepare("/dev/vdb", script);
        let boot = is_left_alone(&machine, &disk, "/dev/vdb", &["holds files ("]);
        assert_eq!(boot.console.lines().count(), 1, "{boot}");
        let table = machine.run(&["probe"]);
        for text in [&boot.console, &boot.stderr, &table.stdout] {
            let is_control = |c: char| c != '\n' && is_acted_on(c);
            assert!(!text.contains(is_control), "{script}: {text:?}");
        }
    }
}

fn metadata_turns_no_line_round_on_anybody_s_terminal() {
    let document = r#"{"uuid": "aaaa-\u202ebbbb", "name": "wor\u202eker\u200b\u2028", "project_id": "\ufeffp",
        "meta": {"vmstage_deadline": "so\u202eon", "vmstage_lifetime": "1h\u200b", "ow\u202ener": "an\u2066na"}}"#;
    let service = Server::saying(200, "", document.as_bytes());
    let mut machine = Machine::new();
    for place in ["/etc", "/var/lib/vmstage"] {
        machine.may_change(place);
    }
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    machine.configure(&format!(
        "[metadata]\nsources = [\"openstack\"]\nurl = {:?}\nrequest_timeout = \"15s\"\n",
        service.url()
    ));
    machine.sh("mkdir /etc/update-motd.d; echo > /etc/motd");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").says("ignored");
    let mut shown = vec![boot.console, boot.stderr];
    for arguments in [
        &["metadata"][..],
        &["metadata", "--format", "json"],
        &["status"],
        &["status", "--format", "json"],
    ] {
        let said = machine.run(arguments);
        assert!(said.stdout.lines().count() > 3, "{said}");
        shown.extend([said.stdout, said.stderr]);
    }
    shown.push(machine.sh("cat /etc/motd; cat /run/motd.d/* /etc/update-motd.d/* 2>&1 || true"));
    for text in shown {
        assert!(!text.contains(|c| c != '\n' && is_acted_on(c)), "{text:?}");
    }
}

fn is_acted_on(c: char) -> bool {
    c.is_control() || "\u{202e}\u{2066}\u{200b}\u{2028}\u{feff}".contains(c)
}

fn fstab(machine: &Machine, text: impl AsRef<[u8]>) {
    fs::write(machine.path("/etc/fstab"), text).unwrap();
}

fn a_partition_that_fstab_names_by_its_partition_s_uuid_is_left_alone() {
    let image = Image::partitioned("gpt", &[Image::ext4("")]);
    for form in [
        "PARTUUID=$uuid",
        "PARTUUID=\"$uuid\"",
        "/dev/disk/by-partuuid/$uuid",
    ] {
        let mut machine = Machine::new();
        machine.configure("[staging]\ndevices = [\"/dev/vdb1\"]");
        let disk = machine.partitioned_disk("vdb", &image);
        let uuid = machine.sh("sfdisk --part-uuid /dev/vdb 1").to_lowercase();
        let source = form.replace("$uuid", uuid.trim());
        fstab(&machine, format!("{source} /data ext4 nofail 0 2"));
        is_left_alone(&machine, &disk, "/dev/vdb1", &["line 1", "/data"]);
    }
}

fn an_fstab_that_is_long_or_no_text_hides_no_line() {
    let line = "/dev/vdb /data ext4 nofail 0 2";
    let long = "# a comment that says nothing\n".repeat(1 << 15) + line;
    let one_line = "# ".to_string() + &"x".repeat(1 << 19) + "\n" + line;
    let no_text = b"\xff\xfe\x00 \x1b[2J \"\n".iter().copied();
    let no_text: Vec<u8> = no_text.chain(line.bytes()).collect();
    for text in [long.into_bytes(), one_line.into_bytes(), no_text] {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &Image::ext4(""));
        fstab(&machine, text);
        is_left_alone(&machine, &disk, "/dev/vdb", &["has another place", "/data"]);
    }
}

fn an_fstab_that_cannot_be_read_speaks_against_a_name() {
    for script in [
        "mkfifo /etc/fstab",
        "mkdir /etc/fstab",
        "ln -s fstab /etc/fstab",
        "truncate -s 20M /etc/fstab",
    ] {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &Image::ext4(""));
        machine.sh(&format!("rm -f /etc/fstab; {script}"));
        let words = ["may have another place", "make /etc/fstab readable"];
        is_left_alone(&machine, &disk, "/dev/vdb", &words);
    }
}

fn links_that_lead_in_a_circle_mean_no_disk() {
    let machine = Machine::new();
    machine.disk("sdb", &Image::ext4(""));
    machine.sh("ln -s one /dev/two; ln -s two /dev/one; ln -s vdb /dev/vdb");
    fstab(&machine, "/dev/one /data ext4 nofail 0 2\n");
    let boot = machine.boot();
    boot.ready_on("/dev/sdb");
    boot.rejects("/dev/vdb", "cannot be looked at");
    assert!(boot.took < SOON, "{boot}");
}

/// What is not known of an empty disk speaks neither for nor against it: the outcome is the
/// same for `probe` and `boot`, and comes soon.
fn sysfs_may_lack_or_hold_anything() {
    let attributes = "serial size ro dev removable stat wwid";
    let scripts = [
        ":".to_string(),
        format!("touch {attributes}; mkdir device; touch device/model device/serial"),
        format!("mkdir {attributes} holders slaves device"),
        format!("for one in {attributes}; do ln -s $one $one; done; ln -s device device"),
        format!("for one in {attributes}; do printf '\\377\\033[2J\\n-1' >$one; done"),
        format!("for one in {attributes}; do head -c 1M /dev/urandom >$one; done"),
    ];
    for script in scripts {
        let machine = Machine::new();
        let disk = machine.disk("vdb", &Image::ext4(""));
        machine.pretend(&disk, &script);
        let probe = probe(&machine);
        let boot = machine.boot();
        assert!([0, 3].contains(&boot.code), "{script}\n{boot}");
        assert_eq!(probe["verdicts"], boot.the_status()["verdicts"], "{script}");
        assert!(boot.took < SOON, "{script}\n{boot}");
    }
}

fn a_disk_that_goes_away_during_the_look_is_not_mounted() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"0s\"\ndevice_timeout = \"2s\"");
    let disk = machine.faulty_disk("vdb", &Image::ext4(""));
    disk.fault(Fault::Delay(Duration::from_millis(50)));
    let (major, minor) = disk.number();
    let boot = machine.start(&["boot"]);
    // There is no loop device here, so that a record is kept while it looks.
    let record = machine.path(format!("/run/vmstage/read-only-{major}-{minor}"));
    let start = Instant::now();
    while !record.exists() && start.elapsed() < SOON {
        sleep(Duration::from_millis(1));
    }
    assert!(record.exists(), "it does not look");
    machine.sh("rm /dev/vdb");
    disk.fault(Fault::ReadErrors(0..u64::MAX));
    let boot = boot.wait();
    boot.failed(3).rejects("/dev/vdb", "cannot be looked into");
    assert!(boot.took < SOON, "{boot}");
}
