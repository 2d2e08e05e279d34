//! File systems that never answer, wherever they are mounted: nothing waits for them.

use std::time::Duration;

use crate::common::{Fault, Image, Machine, Outcome};

claims![
    a_mount_point_that_does_not_answer_is_said_to_be_one,
    a_mount_that_calls_itself_a_disk_and_does_not_answer_stops_nothing,
    a_place_in_fstab_that_does_not_answer_is_another_place,
    records_that_do_not_answer_stop_no_boot,
    a_link_to_where_nobody_answers_stops_no_boot,
    a_configuration_that_is_on_a_server_that_is_gone_is_wrong,
    a_mount_point_on_a_server_that_is_gone_is_said_to_be_one,
    what_cannot_be_looked_at_ends_no_check,
    no_program_is_looked_for_where_nobody_answers,
    a_program_on_a_disk_that_hangs_is_given_up,
    what_is_said_of_a_place_that_may_hang_a_person_reads,
    what_lies_in_the_place_of_a_device_or_a_file_stops_no_boot,
    a_pipe_in_the_place_of_what_the_kernel_says_stops_no_boot,
    many_links_to_where_nobody_answers_cost_one_limit,
    many_that_do_not_answer_have_one_limit_together,
    a_disk_beside_the_root_that_hangs_holds_no_command,
];

const LIMIT: Duration = Duration::from_secs(2);
const SHORT: &str = "[staging]\ndevice_timeout = \"2s\"\n";

#[track_caller]
fn ends_soon(outcome: &Outcome) {
    assert!(outcome.took < LIMIT + 2 * LIMIT, "{outcome}");
}

fn a_mount_point_that_does_not_answer_is_said_to_be_one() {
    let mut machine = Machine::new();
    machine.configure(SHORT);
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let silent = machine.silent_mount("server:/export", "/staging");
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 4, "{probe}");
    ends_soon(&probe);
    let boot = machine.boot();
    boot.failed_staged(4);
    boot.says("server:/export is mounted on /staging and does not answer");
    ends_soon(&boot);
    machine.sh("umount -l /staging");
    drop(silent);
    machine.boot().ready_on("/dev/vdb");
}

fn a_mount_that_calls_itself_a_disk_and_does_not_answer_stops_nothing() {
    let mut machine = Machine::new();
    machine.configure(SHORT);
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let _silent = machine.silent_mount("/dev/gone", "/home/user");
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 0, "{probe}");
    ends_soon(&probe);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    ends_soon(&boot);
}

fn a_place_in_fstab_that_does_not_answer_is_another_place() {
    let mut machine = Machine::new();
    machine.configure(&(SHORT.to_string() + "devices = [\"/dev/vdb\"]\n"));
    machine.disk("vdb", &Image::ext4(""));
    machine.sh("echo /dev/vdb /home/user/data ext4 noauto 0 0 > /etc/fstab");
    let _silent = machine.silent_mount("server:/export", "/home/user");
    let boot = machine.boot();
    boot.failed(3).rejects("/dev/vdb", "has another place");
    ends_soon(&boot);
}

/// How long a child may take at a place.
const AT_A_PLACE: Duration = Duration::from_secs(6);

fn records_that_do_not_answer_stop_no_boot() {
    let mut machine = Machine::new();
    machine.configure(SHORT);
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    machine.may_change("/var/lib");
    let _silent = machine.silent_mount("server:/export", "/var/lib/vmstage");
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert!(boot.took < 3 * AT_A_PLACE, "{boot}");
    boot.says("/var/lib/vmstage does not answer");
    let probe = machine.run(&["probe"]);
    assert!(probe.took < 3 * AT_A_PLACE, "{probe}");
}

/// Each is seen by its text to be on the root file system.
fn a_link_to_where_nobody_answers_stops_no_boot() {
    let owner = "[[directory]]\npath = \"a\"\nowner = \"nobody-knows\"\n";
    for (link, code) in [
        ("/var/lib/vmstage", 0),
        ("/run/vmstage", 0),
        ("/etc/mtab", 0),
        ("/dev/log", 0),
        ("/dev/xvdb", 0),
        ("/usr/bin/cloud-init", 0),
        // It is what an account is asked of.
        ("/usr/sbin/getent", 5),
    ] {
        let mut machine = Machine::new();
        let asked = if code == 0 { "" } else { owner };
        machine.configure(&(SHORT.to_string() + asked));
        machine.disk("vdb", &Image::ext4("ephemeral0"));
        machine.may_change("/var/lib");
        let _silent = machine.silent_mount("server:/export", "/srv/server");
        machine.sh(&format!("rm -f {link}; ln -s /srv/server/x {link}"));
        let boot = machine.boot();
        assert_eq!(boot.code, code, "{link}\n{boot}");
        assert_eq!(boot.staged().len(), 1, "{link}\n{boot}");
        assert!(boot.took < 3 * AT_A_PLACE, "{link}\n{boot}");
        for command in [&["probe"][..], &["status"], &["end", "--in", "2h"]] {
            let done = machine.run(command);
            assert!(done.took < 3 * AT_A_PLACE, "{link}\n{done}");
        }
    }
}

fn a_configuration_that_is_on_a_server_that_is_gone_is_wrong() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let _silent = machine.silent_mount("server:/export", "/srv/server");
    machine.sh("ln -s /srv/server/x /etc/site.toml; ln -sf site.toml /etc/vmstage.toml");
    let boot = machine.boot();
    boot.failed(6).says("/etc/vmstage.toml does not answer");
    assert!(boot.took < 2 * AT_A_PLACE, "{boot}");
    let status = machine.run(&["status"]);
    assert_eq!(status.code, 6, "{status}");
    assert!(status.took < 2 * AT_A_PLACE, "{status}");
}

fn a_mount_point_on_a_server_that_is_gone_is_said_to_be_one() {
    for mount_point in ["/srv/server/scratch", "/a/scratch"] {
        let mut machine = Machine::new();
        machine.configure(&format!("{SHORT}mount_point = \"{mount_point}\"\n"));
        machine.disk("vdb", &Image::ext4("ephemeral0"));
        let _silent = machine.silent_mount("server:/export", "/srv/server");
        machine.sh("ln -s /srv/server /a");
        let boot = machine.boot();
        boot.failed(4).says("/srv/server does not answer");
        assert!(boot.took < 2 * AT_A_PLACE, "{boot}");
        let probe = machine.run(&["probe"]);
        assert_eq!(probe.code, 4, "{probe}");
        assert!(probe.took < 2 * AT_A_PLACE, "{probe}");
    }
}

fn what_cannot_be_looked_at_ends_no_check() {
    let machine = Machine::new();
    let _silent = machine.silent_mount("server:/export", "/srv/server");
    machine.sh("mkdir -p /etc/systemd/system /etc/condor
         ln -s /srv/server/x /etc/systemd/system/site.service
         ln -s /srv/server/d /etc/condor/config.d
         ln -s /srv/server/v /var/lib/vmstage");
    let check = machine.run(&["check"]);
    assert!([10, 11].contains(&check.code), "{check}");
    assert!(check.took < 3 * AT_A_PLACE, "{check}");
    let says_so = check.stdout.contains("/srv/server does not answer");
    assert!(says_so, "{check}");
}

fn no_program_is_looked_for_where_nobody_answers() {
    let mut machine = Machine::new();
    machine.configure(&(SHORT.to_string() + "combine = \"stripe\"\n"));
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let _silent = machine.silent_mount("server:/export", "/opt/tools");
    let path = "/opt/tools:/usr/sbin:/usr/bin:/sbin:/bin";
    let boot = machine.run_with(&["boot"], &[("PATH", path)]);
    boot.ready_on("/dev/vdb");
    assert!(boot.took < 2 * AT_A_PLACE, "{boot}");
}

/// It can be found, and what it does cannot be read. The disk is let go after half a minute.
fn a_program_on_a_disk_that_hangs_is_given_up() {
    let mut machine = Machine::new();
    machine.configure("[[directory]]\npath = \"a\"\nowner = \"nobody-knows\"\n");
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let tools = machine.faulty_disk("vdc", &Image::ext4("tools"));
    machine.sh(
        "mkdir -p /opt/tools; mount /dev/vdc /opt/tools; printf '#!/bin/sh\\n' > /opt/tools/getent
         chmod 755 /opt/tools/getent; sync /opt/tools/getent; echo 1 > /proc/sys/vm/drop_caches
         ls -l /opt/tools/getent",
    );
    tools.fault(Fault::Hang);
    let path = "/opt/tools:/usr/sbin:/usr/bin:/sbin:/bin";
    let boot = machine.run_with(&["boot"], &[("PATH", path)]);
    boot.says("getent passwd nobody-knows was not done in time");
    assert!(boot.took < 4 * AT_A_PLACE, "{boot}");
}

/// A child has no standard error.
fn what_is_said_of_a_place_that_may_hang_a_person_reads() {
    let mut machine = Machine::new();
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    for place in ["/srv", "/var/lib"] {
        machine.may_change(place);
    }
    machine.sh("mkdir -p /srv/metrics; mount -t tmpfs metrics /srv/metrics");
    let directory = "textfile_directory = \"/srv/metrics\"\n";
    machine.configure(&format!("[report]\n{directory}"));
    machine.boot().ready_on("/dev/vdb");
    assert!(machine.path("/srv/metrics/vmstage.prom").exists());
    machine.configure(&format!("[report]\ntextfile = false\n{directory}"));
    let boot = machine.boot();
    assert!(!machine.path("/srv/metrics/vmstage.prom").exists());
    boot.says("removed /srv/metrics/vmstage.prom");
}

/// A pipe that nobody writes to, or a link to where nobody answers. Programs of the guest's are
/// run, and numbers drawn.
fn what_lies_in_the_place_of_a_device_or_a_file_stops_no_boot() {
    for path in [
        "/dev/urandom",
        "/dev/null",
        "/dev/console",
        "/dev/log",
        "/etc/mtab",
        "/etc/motd",
    ] {
        for lay in ["mkfifo -m 666", "ln -s /srv/server/x"] {
            let mut machine = Machine::new();
            let devices = "devices = [\"/dev/vdb\"]\nformat = \"blank\"\n";
            machine.configure(&(SHORT.to_string() + devices));
            machine.disk("vdb", &Image::blank(64));
            machine.sh(&format!("rm -f {path}; {lay} {path}; mkdir -p /srv"));
            let _silent = machine.silent_mount("server:/export", "/srv/server");
            let boot = machine.boot();
            assert_eq!(boot.code, 0, "{lay} {path}\n{boot}");
            assert!(boot.took < 2 * AT_A_PLACE, "{lay} {path}\n{boot}");
        }
    }
}

fn a_pipe_in_the_place_of_what_the_kernel_says_stops_no_boot() {
    for name in ["uptime", "meminfo", "cpuinfo", "swaps", "stat", "net/route"] {
        let mut machine = Machine::new();
        machine.configure(SHORT);
        machine.disk("vdb", &Image::ext4("ephemeral0"));
        machine.sh(&format!(
            "mkfifo /tmp/pipe; mount --bind /tmp/pipe /proc/{name}"
        ));
        let boot = machine.boot();
        assert_eq!(boot.code, 0, "{name}\n{boot}");
        assert!(boot.took < AT_A_PLACE, "{name}\n{boot}");
    }
}

fn many_links_to_where_nobody_answers_cost_one_limit() {
    let mut machine = Machine::new();
    machine.configure(SHORT);
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    machine.may_change("/var/lib");
    let _silent = machine.silent_mount("server:/export", "/srv/server");
    for link in [
        "/var/lib/vmstage",
        "/run/vmstage",
        "/etc/condor",
        "/etc/motd",
        "/etc/machinefeatures",
        "/dev/log",
        "/usr/bin/cloud-init",
    ] {
        machine.sh(&format!("rm -rf {link}; ln -s /srv/server/x {link}"));
    }
    let boot = machine.boot();
    assert_eq!(boot.staged().len(), 1, "{boot}");
    assert!(boot.took < 2 * AT_A_PLACE, "{boot}");
}

fn many_that_do_not_answer_have_one_limit_together() {
    let mut machine = Machine::new();
    machine.configure(SHORT);
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    machine.may_change("/var/lib");
    let links = [
        "/var/lib/vmstage",
        "/run/vmstage",
        "/etc/condor",
        "/etc/motd",
        "/etc/machinefeatures",
        "/etc/jobfeatures",
        "/dev/log",
        "/usr/bin/cloud-init",
    ];
    let _silent: Vec<_> = (0..links.len())
        .map(|number| {
            let link = links[number];
            machine.sh(&format!(
                "mkdir -p /srv; rm -rf {link}; ln -s /srv/{number}/x {link}"
            ));
            machine.silent_mount("server:/export", &format!("/srv/{number}"))
        })
        .collect();
    let boot = machine.boot();
    assert_eq!(boot.staged().len(), 1, "{boot}");
    assert!(boot.took < 5 * AT_A_PLACE, "{boot}");
}

/// What the kernel remembers of it answers. The disk is let go after half a minute.
fn a_disk_beside_the_root_that_hangs_holds_no_command() {
    for command in [&["boot"][..], &["status"], &["end", "--in", "2h"]] {
        let mut machine = Machine::new();
        machine.configure(SHORT);
        machine.disk("vdb", &Image::ext4("ephemeral0"));
        machine.may_change("/var/lib");
        let disk = machine.faulty_disk("vdc", &Image::ext4("state"));
        machine.sh(
            "mount /dev/vdc /var/lib; mkdir -p /var/lib/vmstage/published
             mkdir -p /var/lib/prometheus/node-exporter
             umount /var/lib; mount /dev/vdc /var/lib",
        );
        disk.fault(Fault::Hang);
        machine.sh("echo 3 > /proc/sys/vm/drop_caches");
        let run = machine.run(command);
        assert!(run.took < 3 * AT_A_PLACE, "{command:?}\n{run}");
    }
}
