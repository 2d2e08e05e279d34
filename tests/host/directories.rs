//! The directories on the scratch disk, which may be a used one.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::{CONDOR, Image, Machine, bind_socket, skip, tool};

claims![
    condor_and_tmp_are_made_with_owner_and_mode,
    a_umask_changes_no_mode,
    owner_and_mode_are_set_on_what_was_there_and_its_content_is_kept,
    the_configured_directories_replace_the_default_ones,
    no_directories_are_made_where_none_are_asked_for,
    a_nested_directory_is_made_with_its_parents,
    numbers_need_no_account,
    special_mode_bits_are_set,
    a_link_in_the_way_is_an_error_and_not_followed,
    a_dangling_link_in_the_way_makes_nothing_elsewhere,
    a_link_within_the_disk_is_not_followed_either,
    a_link_on_the_way_to_a_nested_directory_is_not_followed,
    anything_else_in_the_way_is_an_error_and_left_alone,
    a_missing_owner_is_named_and_the_others_are_made,
    a_missing_group_is_named,
    a_missing_account_database_is_an_error_that_names_the_owner,
    an_account_in_usr_lib_is_known,
    an_account_that_only_getent_knows_is_known,
    a_getent_that_hangs_costs_five_seconds_and_is_named,
    without_selinux_no_label_is_looked_at,
    a_full_disk_is_an_error_that_says_so,
    a_disk_that_condor_cannot_enter_is_an_error,
    a_disk_that_condor_owns_or_whose_group_may_enter_is_none,
    a_directory_on_the_way_that_its_owner_cannot_enter_is_an_error,
    a_part_of_the_root_disk_mounted_in_the_place_of_a_directory_is_an_error,
    each_failed_directory_is_in_the_status,
    a_second_boot_repairs_what_was_changed_in_between,
];

const EPHEMERAL0: &str = "ephemeral0";

/// A machine with a labelled disk that has been used: the script was run on it.
fn with_used_disk(script: &str) -> Machine {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    machine.prepare("/dev/vdb", script);
    machine
}

#[track_caller]
fn assert_directory(machine: &Machine, path: &str, mode: u32, (uid, gid): (u32, u32)) {
    let metadata = fs::symlink_metadata(machine.path(path)).expect(path);
    assert!(metadata.is_dir(), "{path} is no directory");
    let found = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    assert_eq!(found, (mode, uid, gid), "{path}: {:04o}", found.0);
}

fn condor_and_tmp_are_made_with_owner_and_mode() {
    let machine = with_used_disk("");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert_directory(&machine, "/staging/condor", 0o755, CONDOR);
    assert_directory(&machine, "/staging/tmp", 0o1777, (0, 0));
    assert_eq!(
        boot.the_status()["directories"],
        serde_json::json!([
            {"path": "/staging/condor", "owner": "condor", "group": "condor", "mode": "0755", "error": null},
            {"path": "/staging/tmp", "owner": "root", "group": "root", "mode": "1777", "error": null},
        ])
    );
    assert!(boot.console.ends_with(" free, condor tmp\n"), "{boot}");
}

fn a_umask_changes_no_mode() {
    let machine = with_used_disk("");
    let mut boot = machine.command("/bin/sh", None);
    boot.args(["-c", "umask 077; exec vmstage boot"]);
    machine.start_command(boot).wait().ready_on("/dev/vdb");
    assert_directory(&machine, "/staging/condor", 0o755, CONDOR);
    assert_directory(&machine, "/staging/tmp", 0o1777, (0, 0));
}

fn owner_and_mode_are_set_on_what_was_there_and_its_content_is_kept() {
    let machine = with_used_disk(
        "mkdir -m 2700 condor; mkdir -m 755 tmp; echo old > condor/job; chown -R 1234:1234 condor tmp",
    );
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
    assert_directory(&machine, "/staging/condor", 0o755, CONDOR);
    assert_directory(&machine, "/staging/tmp", 0o1777, (0, 0));
    assert_eq!(
        machine.sh("cat /staging/condor/job; stat -c %u /staging/condor/job"),
        "old\n1234\n"
    );
}

fn the_configured_directories_replace_the_default_ones() {
    let mut machine = with_used_disk("");
    machine.configure("[[directory]]\npath = \"scratch\"\nowner = \"nobody\"\nmode = \"0700\"");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert!(boot.console.ends_with(" free, scratch\n"), "{boot}");
    assert_directory(&machine, "/staging/scratch", 0o700, (65534, 0));
    assert_eq!(machine.sh("ls /staging"), "lost+found\nscratch\n");
}

fn no_directories_are_made_where_none_are_asked_for() {
    let mut machine = with_used_disk("");
    machine.configure("directory = []");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert!(boot.console.ends_with(" free\n"), "{boot}");
    assert_eq!(machine.sh("ls /staging"), "lost+found\n");
}

fn a_nested_directory_is_made_with_its_parents() {
    let mut machine = with_used_disk("mkdir -m 751 jobs; chown 5:6 jobs");
    machine.configure(
        "[[directory]]\npath = \"a/b/c\"\nowner = \"condor\"\ngroup = \"condor\"\nmode = \"0711\"
        [[directory]]\npath = \"jobs/x\"",
    );
    machine.boot().ready_on("/dev/vdb");
    assert_directory(&machine, "/staging/a", 0o755, (0, 0));
    assert_directory(&machine, "/staging/a/b", 0o755, (0, 0));
    assert_directory(&machine, "/staging/a/b/c", 0o711, CONDOR);
    // A parent that was there and is not asked for is nobody's business.
    assert_directory(&machine, "/staging/jobs", 0o751, (5, 6));
    assert_directory(&machine, "/staging/jobs/x", 0o755, (0, 0));
}

fn numbers_need_no_account() {
    let mut machine = with_used_disk("");
    machine.configure("[[directory]]\npath = \"x\"\nowner = \"4711\"\ngroup = \"4712\"");
    machine.boot().ready_on("/dev/vdb");
    assert_directory(&machine, "/staging/x", 0o755, (4711, 4712));
}

fn special_mode_bits_are_set() {
    let mut machine = with_used_disk("");
    machine.configure("[[directory]]\npath = \"x\"\ngroup = \"condor\"\nmode = \"3775\"");
    machine.boot().ready_on("/dev/vdb");
    assert_directory(&machine, "/staging/x", 0o3775, (0, CONDOR.1));
}

fn a_link_in_the_way_is_an_error_and_not_followed() {
    let machine = with_used_disk("ln -s /etc condor; ln -s /home tmp");
    let boot = machine.boot();
    boot.failed_staged(5);
    for path in ["/staging/condor", "/staging/tmp"] {
        boot.says(path).says("symbolic link");
        assert!(
            fs::symlink_metadata(machine.path(path))
                .unwrap()
                .is_symlink()
        );
    }
    // What the links lead to is part of the root file system, which is compared.
}

fn a_dangling_link_in_the_way_makes_nothing_elsewhere() {
    let machine = with_used_disk("ln -s /home/planted condor; ln -s ../../root/planted tmp");
    let boot = machine.boot();
    boot.failed_staged(5)
        .says("/staging/condor")
        .says("/staging/tmp");
}

fn a_link_within_the_disk_is_not_followed_either() {
    let machine = with_used_disk("mkdir -m 700 victim; ln -s victim tmp; ln -s . condor");
    let boot = machine.boot();
    boot.failed_staged(5)
        .says("/staging/condor")
        .says("/staging/tmp");
    assert_directory(&machine, "/staging/victim", 0o700, (0, 0));
}

fn a_link_on_the_way_to_a_nested_directory_is_not_followed() {
    let mut machine = with_used_disk("ln -s /home a");
    machine.configure("[[directory]]\npath = \"a/b\"");
    machine.boot().failed_staged(5).says("/staging/a/b");
}

fn anything_else_in_the_way_is_an_error_and_left_alone() {
    let obstacles = [
        "echo mine > condor",
        "mkfifo condor",
        "mknod condor c 1 3",
        "mknod condor b 7 99",
    ];
    let what = "stat -c '%F %s %a %u:%g %Y' /staging/condor";
    for obstacle in obstacles {
        let machine = with_used_disk(obstacle);
        machine.sh("mkdir /staging; mount -o ro /dev/vdb /staging");
        let before = machine.sh(what);
        machine.sh("umount /staging; rmdir /staging");
        let boot = machine.boot();
        boot.failed_staged(5)
            .says("/staging/condor")
            .says("left alone");
        assert_eq!(machine.sh(what), before);
        assert_directory(&machine, "/staging/tmp", 0o1777, (0, 0));
    }

    let machine = with_used_disk("");
    machine.sh("mkdir /staging; mount /dev/vdb /staging");
    let _socket = bind_socket(&machine.path("/staging"), "condor");
    let before = machine.sh(what);
    machine.boot().failed_staged(5).says("/staging/condor");
    assert_eq!(machine.sh(what), before);
}

fn a_disk_that_condor_cannot_enter_is_an_error() {
    let machine = with_used_disk("chmod 700 .; chown 1234 .");
    let boot = machine.boot();
    boot.failed_staged(5)
        .says("cannot enter /staging")
        .says("0700");
    assert!(!machine.path("/staging/condor").exists());
    machine.sh("chmod 711 /staging");
    machine.boot().ready_on("/dev/vdb");
}

fn a_part_of_the_root_disk_mounted_in_the_place_of_a_directory_is_an_error() {
    let machine = with_used_disk("mkdir condor");
    machine.sh("mkdir /home/spool /staging
        mount /dev/vdb /staging; mount --bind /home/spool /staging/condor");
    let boot = machine.boot();
    boot.failed_staged(5).says("a part of the root file system");
    let spool = fs::metadata(machine.path("/home/spool")).unwrap();
    assert_eq!((spool.uid(), spool.gid()), (0, 0));
}

fn a_missing_owner_is_named_and_the_others_are_made() {
    let machine = with_used_disk("");
    machine.sh("sed -i /^condor/d /etc/passwd");
    let boot = machine.boot();
    boot.failed_staged(5).says("condor").says("user");
    assert_directory(&machine, "/staging/tmp", 0o1777, (0, 0));
    assert_eq!(boot.staged().len(), 1, "{boot}");
    // One that belongs to root would look as if it were in place.
    assert!(!machine.path("/staging/condor").exists());
}

fn a_missing_group_is_named() {
    let mut machine = with_used_disk("");
    machine.configure("[[directory]]\npath = \"x\"\ngroup = \"batch\"");
    machine.boot().failed_staged(5).says("batch").says("group");
}

fn a_missing_account_database_is_an_error_that_names_the_owner() {
    let machine = with_used_disk("");
    machine.sh("rm /etc/passwd /etc/group /etc/nsswitch.conf");
    let boot = machine.boot();
    boot.failed_staged(5).says("condor");
    assert_directory(&machine, "/staging/tmp", 0o1777, (0, 0));
}

/// Takes the line of condor out of the lists in `/etc`, and returns what it was.
fn without_condor(machine: &Machine) -> [String; 2] {
    ["passwd", "group"].map(|list| {
        let line = machine.sh(&format!("grep ^condor: /etc/{list}"));
        machine.sh(&format!("sed -i /^condor/d /etc/{list}"));
        line
    })
}

/// The guest's own.
fn getent(machine: &Machine, script: &str) {
    machine.sh(&format!(
        "rm -f /usr/bin/getent; printf '#!/bin/sh\\n%s\\n' '{script}' >/usr/bin/getent; chmod 755 /usr/bin/getent"
    ));
}

fn an_account_in_usr_lib_is_known() {
    let machine = with_used_disk("");
    let [user, group] = without_condor(&machine);
    getent(&machine, "touch /run/asked; exit 2");
    fs::write(machine.path("usr/lib/passwd"), user).unwrap();
    fs::write(machine.path("usr/lib/group"), group).unwrap();
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
    assert_directory(&machine, "/staging/condor", 0o755, CONDOR);
    assert!(!machine.path("run/asked").exists());
}

fn an_account_that_only_getent_knows_is_known() {
    let machine = with_used_disk("");
    without_condor(&machine);
    let (uid, gid) = CONDOR;
    let answer = format!(
        "case $1 in passwd) echo $2:*:{uid}:{gid}::/:/bin/sh ;; *) echo $2:*:{gid}: ;; esac"
    );
    getent(&machine, &answer);
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
    assert_directory(&machine, "/staging/condor", 0o755, CONDOR);
}

fn a_getent_that_hangs_costs_five_seconds_and_is_named() {
    let mut machine = with_used_disk("");
    without_condor(&machine);
    getent(&machine, "exec sleep 600");
    machine.configure(
        "[[directory]]\npath = \"a\"\nowner = \"condor\"
        [[directory]]\npath = \"b\"\ngroup = \"condor\"
        [[directory]]\npath = \"tmp\"\nmode = \"1777\"",
    );
    let boot = machine.boot();
    boot.failed_staged(5)
        .says("getent passwd condor was not done in time")
        .says("getent group condor was not asked");
    assert!(boot.took.as_secs() < 8, "{boot}");
    assert_directory(&machine, "/staging/tmp", 0o1777, (0, 0));
    assert!(!machine.path("/staging/a").exists());
}

fn without_selinux_no_label_is_looked_at() {
    let machine = with_used_disk("");
    if machine.sh("cat /proc/mounts").contains("selinuxfs") {
        skip("SELinux is on here");
    }
    machine.sh("printf '#!/bin/sh\\n: >/run/asked\\n' >/usr/sbin/matchpathcon; chmod 755 /usr/sbin/matchpathcon");
    let strace = tool("strace");
    let mut traced = machine.command(strace.to_str().unwrap(), None);
    traced.args(["-f", "-o", "/run/calls", "vmstage", "boot"]);
    machine.start_command(traced).wait().ready_on("/dev/vdb");
    let calls = fs::read_to_string(machine.path("run/calls")).unwrap();
    assert!(calls.contains("mkdirat("), "{calls}");
    for call in ["xattr", "attr/current", "matchpathcon"] {
        let found: Vec<_> = calls.lines().filter(|line| line.contains(call)).collect();
        assert!(found.is_empty(), "{found:?}");
    }
    assert!(!machine.path("run/asked").exists());
}

fn a_full_disk_is_an_error_that_says_so() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext("ext4", EPHEMERAL0, &["-N", "16"]));
    machine.prepare(
        "/dev/vdb",
        "n=0; while touch f$n 2>/dev/null; do n=$((n + 1)); done",
    );
    let boot = machine.boot();
    boot.failed_staged(5).says("no space left on device");
}

fn each_failed_directory_is_in_the_status() {
    let machine = with_used_disk("echo mine > condor");
    let boot = machine.boot();
    boot.failed_staged(5);
    let directories = &boot.the_status()["directories"];
    let error = directories[0]["error"].as_str().unwrap();
    assert!(error.contains("/staging/condor"), "{boot}");
    assert!(directories[1]["error"].is_null(), "{boot}");
}

fn a_second_boot_repairs_what_was_changed_in_between() {
    let machine = with_used_disk("");
    machine.boot().ready_on("/dev/vdb");
    machine.sh("chown nobody /staging/condor; chmod 700 /staging/tmp");
    machine.boot().ready_on("/dev/vdb");
    assert_directory(&machine, "/staging/condor", 0o755, CONDOR);
    assert_directory(&machine, "/staging/tmp", 0o1777, (0, 0));
}

fn a_directory_on_the_way_that_its_owner_cannot_enter_is_an_error() {
    let mut machine = with_used_disk("mkdir -m 700 a; chown 1000 a");
    machine.configure("[[directory]]\npath = \"a/b\"\nowner = \"condor\"");
    let boot = machine.boot();
    boot.failed_staged(5)
        .says("its owner cannot enter /staging/a, which is the user 1000's with mode 0700");
}

fn a_disk_that_condor_owns_or_whose_group_may_enter_is_none() {
    let (uid, gid) = CONDOR;
    for script in [
        format!("chown {uid} .; chmod 700 ."),
        format!("chgrp {gid} .; chmod 710 ."),
    ] {
        with_used_disk(&script).boot().ready_on("/dev/vdb");
    }
}
