//! The command line, the configuration, and who is told: what a person, a script and
//! the service manager see of it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::{Image, Machine, Outcome, bind_socket, private_mounts};
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use serde_json::Value;
use vmstage::command::boot;
use vmstage::host::Host;

claims![
    a_user_cannot_hold_a_boot_up,
    wrong_usage_is_exit_code_2,
    help_and_version_are_exit_code_0,
    each_command_has_help_with_its_exit_codes,
    boot_needs_root,
    probe_without_root_warns,
    probe_changes_nothing,
    probe_shows_every_spec_and_device_with_its_reason,
    probe_as_json_is_what_boot_decides,
    probe_without_a_usable_disk_is_exit_code_3,
    probe_on_a_staged_machine_says_so,
    verbose_shows_what_is_observed,
    without_a_configuration_the_defaults_hold,
    another_configuration_can_be_named,
    a_wrong_configuration_is_named_by_file_line_and_key_and_nothing_is_touched,
    a_configuration_that_cannot_be_read_is_an_error,
    a_wrong_configuration_does_not_leave_an_older_status_ready,
    probe_refuses_a_wrong_configuration,
    the_status_file_is_whole_and_readable_for_everybody,
    the_status_says_when_it_began_and_ended,
    status_without_a_boot_is_exit_code_1,
    status_of_an_earlier_boot_of_the_machine_is_none,
    status_of_a_ready_machine_is_readable,
    status_as_json_is_the_file,
    status_of_a_failed_boot_has_its_exit_code,
    status_after_the_disk_was_unmounted_is_not_ready,
    a_failure_that_cannot_be_written_to_run_is_told_all_the_same,
    whoever_waits_is_not_told_of_the_failure_of_an_earlier_boot,
    a_configuration_that_only_root_may_read_is_not_called_wrong,
    a_configuration_that_is_a_link_to_nowhere_is_an_error,
    standard_error_that_nobody_reads_holds_nothing_up,
    a_long_line_that_nobody_reads_holds_nothing_up,
    a_lock_of_the_status_that_nobody_lets_go_holds_nothing_up_for_long,
    a_boot_that_has_to_give_way_says_so_on_the_console,
    whoever_waits_is_not_told_of_a_mount_that_is_gone,
    after_a_wrong_configuration_the_status_has_no_verdicts_of_an_earlier_boot,
    a_service_manager_that_does_not_read_is_not_waited_for_for_long,
    what_cannot_be_printed_is_an_error,
    status_needs_no_root,
    status_of_a_broken_file_is_an_error,
    status_wait_returns_when_the_boot_has_failed,
    status_wait_gives_up_after_its_seconds,
    a_read_only_run_is_a_warning,
    a_full_run_is_a_warning_and_leaves_no_half_status,
    without_run_the_status_is_in_var_run,
    the_console_gets_one_line_of_a_fixed_form,
    a_failure_is_one_line_on_the_console,
    a_console_that_blocks_is_not_waited_for_for_long,
    a_terminal_that_is_stopped_is_not_waited_for_for_long,
    without_a_console_nothing_is_lost_but_the_line,
    syslog_gets_every_event_of_the_daemon_facility,
    syslog_gets_a_failure_as_an_error,
    syslog_gets_nothing_where_that_is_configured,
    a_syslog_that_does_not_read_is_not_waited_for,
    a_syslog_socket_that_nobody_listens_on_does_no_harm,
    the_service_manager_is_told_when_the_machine_is_ready,
    the_service_manager_is_not_told_of_readiness_after_a_failure,
    the_service_manager_is_told_of_readiness_where_it_is_to_be_told_nothing_else,
    a_service_manager_that_is_gone_does_no_harm,
    closed_standard_streams_do_not_end_up_on_a_disk,
    a_reader_that_goes_away_is_no_panic,
    a_config_file_with_every_default_changes_nothing;
    alone:
    probe_does_not_wait_for_a_late_disk,
    status_wait_returns_as_soon_as_the_machine_is_ready,
];

const EPHEMERAL0: &str = "ephemeral0";

fn with_labelled_disk() -> Machine {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext2(EPHEMERAL0));
    machine
}

fn wrong_usage_is_exit_code_2() {
    let machine = with_labelled_disk();
    let wrong: [&[&str]; 9] = [
        &[],
        &["stage"],
        &["boot", "--now"],
        &["boot", "extra"],
        &["boot", "--config"],
        &["probe", "--format", "xml"],
        &["status", "--wait=soon"],
        &["status", "--wait=-1"],
        &["status", "--wait", "soon"],
    ];
    for arguments in wrong {
        let run = machine.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}\n{run}");
        assert!(
            run.stderr.contains("--help") || run.stderr.contains("Usage"),
            "{arguments:?}\n{run}"
        );
        assert!(run.status.is_none() && run.staged().is_empty(), "{run}");
    }
}

fn help_and_version_are_exit_code_0() {
    let machine = Machine::new();
    let help = machine.run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{help}");
    for command in ["boot", "probe", "status"] {
        assert!(help.stdout.contains(command), "{help}");
    }
    let version = machine.run(&["--version"]);
    let expected = format!("vmstage {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.stdout), (0, expected));
}

fn each_command_has_help_with_its_exit_codes() {
    let machine = Machine::new();
    for command in ["boot", "probe", "status"] {
        let help = machine.run(&[command, "--help"]);
        assert_eq!(help.code, 0, "{help}");
        for words in ["Exit codes", "--config", "/etc/vmstage.toml"] {
            assert!(help.stdout.contains(words), "{command}: {words}\n{help}");
        }
    }
}

fn boot_needs_root() {
    let machine = with_labelled_disk();
    let boot = machine.run_as_nobody(&["boot"]);
    assert_eq!(boot.code, 1, "{boot}");
    boot.says("root");
    assert!(boot.staged().is_empty() && boot.status.is_none(), "{boot}");
}

fn probe_without_root_warns() {
    let machine = with_labelled_disk();
    let probe = machine.run_as_nobody(&["probe"]);
    probe.says("warning: not run as root");
    assert_eq!(probe.code, 3, "{probe}");
}

fn probe_changes_nothing() {
    let machine = Machine::new();
    let image = Image::ext4(EPHEMERAL0);
    let disk = machine.disk("vdb", &image);
    let written = || fs::metadata(&disk.file).unwrap().modified().unwrap();
    let (before, mounts) = (written(), machine.mounts());
    for arguments in [&["probe"][..], &["-v", "probe", "--format", "json"]] {
        let probe = machine.run(arguments);
        assert_eq!(probe.code, 0, "{probe}");
        assert_eq!(probe.console, "", "{probe}");
        assert!(probe.status.is_none(), "{probe}");
    }
    machine.sh("sync");
    assert_eq!(machine.mounts(), mounts);
    assert_eq!(disk.checksum(), image.checksum());
    assert_eq!(written(), before);
    assert_eq!(
        machine.sh("ls -A /run /dev/disk/by-label"),
        "/dev/disk/by-label:\n\n/run:\n"
    );
}

fn probe_shows_every_spec_and_device_with_its_reason() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::swap(""));
    machine.disk("sdb", &Image::ext4(""));
    machine.disk("vdz", &Image::ext4("other"));
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 0, "{probe}");
    let lines_with = |words: &[&str]| {
        let lines = probe.stdout.lines();
        lines
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .count()
    };
    for words in [
        &["LABEL=ephemeral0", "absent"][..],
        &["LABEL=blankpartition0", "absent"],
        &["/dev/vdb", "rejected", "swap"],
        &["/dev/xvdb", "absent"],
        &["/dev/sdb", "16.0 MiB", "ext4"],
        &["/dev/vdz", "ext4", "other"],
        &["/dev/sdb", "accepted", "empty"],
        &["boot would mount /dev/sdb (ext4, empty) on /staging"],
    ] {
        assert_eq!(lines_with(words), 1, "{words:?}\n{probe}");
    }
}

fn probe_as_json_is_what_boot_decides() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::swap(""));
    machine.disk("sdb", &Image::ext4(""));
    let probe = machine.run(&["probe", "--format", "json"]);
    let report: Value = serde_json::from_str(&probe.stdout).expect("JSON");
    assert_eq!(report["chosen"], "/dev/sdb", "{probe}");
    assert_eq!(report["mount_point"], "/staging", "{probe}");
    let boot = machine.boot();
    boot.ready_on("/dev/sdb");
    assert_eq!(report["verdicts"], boot.the_status()["verdicts"]);
}

fn probe_without_a_usable_disk_is_exit_code_3() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::blank(16));
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 3, "{probe}");
    assert!(probe.stdout.contains("blank"), "{probe}");
}

fn probe_does_not_wait_for_a_late_disk() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"20s\"");
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 3, "{probe}");
    assert!(probe.took < Duration::from_secs(2), "{probe}");
}

fn probe_on_a_staged_machine_says_so() {
    let machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 0, "{probe}");
    let said = "/dev/vdb is already mounted on /staging";
    assert!(probe.stdout.contains(said), "{probe}");
    // That it is mounted there speaks against nothing.
    assert!(!probe.stdout.contains("rejected"), "{probe}");
}

fn verbose_shows_what_is_observed() {
    let machine = Machine::new();
    machine.disk("vdz", &Image::ext4("other"));
    let quiet = machine.run(&["probe"]);
    quiet.does_not_say("/dev/vdz");
    for arguments in [["-v", "probe"], ["probe", "--verbose"]] {
        machine.run(&arguments).says("/dev/vdz").says("ext4");
    }
}

fn without_a_configuration_the_defaults_hold() {
    let mut machine = with_labelled_disk();
    fs::remove_file(machine.path("/etc/vmstage.toml")).unwrap();
    // The metadata sources are asked then, and the default consumers told.
    for place in ["/var/lib/vmstage", "/etc"] {
        machine.may_change(place);
    }
    machine.boot().ready_on("/dev/vdb");
}

fn another_configuration_can_be_named() {
    let machine = with_labelled_disk();
    fs::write(
        machine.path("/etc/other.toml"),
        "metadata.sources = []\n[[directory]]\npath = \"only\"",
    )
    .unwrap();
    machine
        .run(&["boot", "--config", "/etc/other.toml"])
        .ready_on("/dev/vdb");
    assert_eq!(machine.sh("ls /staging"), "lost+found\nonly\n");
}

fn a_wrong_configuration_is_named_by_file_line_and_key_and_nothing_is_touched() {
    let wrong = [
        ("[staging\n", "line 1", ""),
        ("\n\n[stagin]\n", "line 3", "stagin"),
        ("[staging]\nmount = \"/s\"", "line 2", "mount"),
        ("[staging]\nwait = 5", "line 2", "wait"),
        ("[staging]\nwait = \"soon\"", "line 2", "wait"),
        (
            "[staging]\nmount_point = \"staging\"",
            "line 2",
            "mount_point",
        ),
        ("[staging]\nmount_point = \"/\"", "line 2", "mount_point"),
        ("[staging]\ndevices = [\"vdb\"]", "line 2", "devices"),
        ("[staging]\noptions = [\"ro\"]", "line 2", "options"),
        ("[staging]\nformat = \"always\"", "line 2", "format"),
        ("[staging]\nfilesystem = \"ntfs\"", "line 2", "filesystem"),
        ("[[directory]]\npath = \"../etc\"", "line 2", "path"),
        (
            "[[directory]]\npath = \"x\"\nmode = \"rwx\"",
            "line 3",
            "mode",
        ),
        ("[[directory]]\nowner = \"root\"", "line 1", "path"),
        ("[metadata]\nsources = [\"gce\"]", "line 2", "sources"),
        ("[deadline]\naction = \"halt\"", "line 2", "action"),
    ];
    let machine = Machine::new();
    let image = Image::ext2(EPHEMERAL0);
    let disk = machine.disk("vdb", &image);
    for (text, line, key) in wrong {
        fs::write(machine.path("/etc/vmstage.toml"), text).unwrap();
        let boot = machine.boot();
        boot.failed(6)
            .says("/etc/vmstage.toml")
            .says(line)
            .says(key);
        assert_eq!(disk.checksum(), image.checksum());
        assert!(!machine.path("/staging").exists());
    }
}

fn a_configuration_that_cannot_be_read_is_an_error() {
    let machine = with_labelled_disk();
    machine.sh("mkdir /etc/directory.toml; printf '\\377\\376' > /etc/binary.toml");
    for file in [
        "/etc/missing.toml",
        "/etc/directory.toml",
        "/etc/binary.toml",
    ] {
        machine
            .run(&["boot", "--config", file])
            .failed(6)
            .says(file);
    }
}

fn a_wrong_configuration_does_not_leave_an_older_status_ready() {
    let machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    fs::write(machine.path("/etc/vmstage.toml"), "[stagin]").unwrap();
    machine.boot().failed_staged(6);
    assert_eq!(machine.run(&["status"]).code, 6);
}

fn probe_refuses_a_wrong_configuration() {
    let machine = with_labelled_disk();
    fs::write(machine.path("/etc/vmstage.toml"), "[stagin]").unwrap();
    let probe = machine.run(&["probe"]);
    assert_eq!(probe.code, 6, "{probe}");
    probe
        .says("/etc/vmstage.toml")
        .says("line 1")
        .says("stagin");
}

fn the_status_file_is_whole_and_readable_for_everybody() {
    let machine = with_labelled_disk();
    let mut boot = machine.command("/bin/sh", None);
    boot.args(["-c", "umask 077; exec vmstage boot"]);
    let boot = machine.start_command(boot).wait();
    boot.ready_on("/dev/vdb");
    assert_eq!(boot.the_status()["schema"], 1);
    assert_eq!(boot.the_status()["version"], env!("CARGO_PKG_VERSION"));
    let mode = |path| {
        fs::metadata(machine.path(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode("/run/vmstage/status.json"), 0o644);
    assert_eq!(mode("/run/vmstage"), 0o755);
    let temporary = machine.sh("ls -A /run/vmstage | grep -c '^\\.' || true");
    assert_eq!(temporary, "0\n");
}

fn the_status_says_when_it_began_and_ended() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"2s\"");
    let now = machine.sh("date -u +%Y-%m-%dT%H:%M").trim().to_string();
    let boot = machine.boot();
    let [began, ended] = ["started_at", "finished_at"]
        .map(|field| boot.the_status()[field].as_str().unwrap().to_string());
    assert!(began >= now && ended > began, "{now} {began} {ended}");
    assert!(began.ends_with('Z') && began.len() == 20, "{began}");
}

fn status_without_a_boot_is_exit_code_1() {
    let machine = Machine::new();
    let status = machine.run(&["status"]);
    assert_eq!(status.code, 1, "{status}");
    status.says("no status").says("/run/vmstage/status.json");
}

fn status_of_an_earlier_boot_of_the_machine_is_none() {
    let machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    machine.sh(
        "cd /run/vmstage; sed -i 's/\"boot_id\": \"[^\"]*\"/\"boot_id\": \"another\"/' status.json; grep -q another status.json",
    );
    let status = machine.run(&["status"]);
    assert_eq!(status.code, 1, "{status}");
    status.says("no status");
    let waited = machine.run(&["status", "--wait", "1"]);
    assert_eq!(waited.code, 1, "{waited}");
    // The next boot replaces it.
    machine.boot().ready_on("/dev/vdb");
    assert_eq!(machine.run(&["status"]).code, 0);
}

fn status_of_a_ready_machine_is_readable() {
    let machine = with_labelled_disk();
    let boot = machine.boot();
    let status = machine.run(&["status"]);
    assert_eq!(status.code, 0, "{status}");
    let first = status.stdout.lines().next().unwrap();
    let line = boot.console.trim_end().strip_prefix("vmstage: ").unwrap();
    assert_eq!(first, line);
    for words in [
        "/staging/condor",
        "condor:condor",
        "1777",
        "LABEL=ephemeral0",
        "accepted",
    ] {
        assert!(status.stdout.contains(words), "{words}\n{status}");
    }
}

fn status_as_json_is_the_file() {
    let machine = with_labelled_disk();
    let boot = machine.boot();
    let status = machine.run(&["status", "--format", "json"]);
    let printed: Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(printed, *boot.the_status());
}

fn status_of_a_failed_boot_has_its_exit_code() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::swap(""));
    machine.boot().failed(3);
    let status = machine.run(&["status"]);
    assert_eq!(status.code, 3, "{status}");
    for words in ["FAILED(3)", "/dev/vdb", "swap", "rejected"] {
        assert!(status.stdout.contains(words), "{words}\n{status}");
    }
}

fn status_after_the_disk_was_unmounted_is_not_ready() {
    let machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    for (meanwhile, words) in [
        ("umount /staging", "nothing is mounted on /staging any more"),
        (
            "mount -t tmpfs other /staging",
            "other is mounted on /staging",
        ),
    ] {
        machine.sh(meanwhile);
        let status = machine.run(&["status"]);
        assert_eq!(status.code, 1, "{status}");
        assert!(status.stdout.contains("FAILED(1)"), "{status}");
        assert!(status.stdout.contains(words), "{status}");
        assert!(status.stdout.contains("vmstage boot"), "{status}");
        assert!(status.stdout.contains("gone with the disk"), "{status}");
        for outdated in ["vdb on /staging", "in place"] {
            assert!(!status.stdout.contains(outdated), "{status}");
        }
        let json = machine.run(&["status", "--format", "json"]);
        assert_eq!(json.code, 1, "{json}");
        assert!(json.stdout.contains("\"outcome\": \"failed\""), "{json}");
    }
}

fn a_failure_that_cannot_be_written_to_run_is_told_all_the_same() {
    let mut machine = with_labelled_disk();
    machine.may_change("/var/lib/vmstage");
    machine.sh("mkdir /run/vmstage; mount -t tmpfs -o size=64k,nr_inodes=8 small /run/vmstage");
    machine.boot().ready_on("/dev/vdb");
    machine.sh("rm -r /staging/condor; ln -s / /staging/condor");
    machine.try_sh("dd if=/dev/zero of=/run/vmstage/full");
    let boot = machine.boot();
    assert_eq!(boot.code, 5, "{boot}");
    let status = machine.run(&["status"]);
    assert_eq!(status.code, 5, "{status}");
    assert!(status.stdout.starts_with("FAILED(5)"), "{status}");
}

/// Somebody waits for a boot while it waits for its disk.
#[track_caller]
fn assert_told_of_this_boot(machine: &mut Machine, let_the_disk_come: impl Fn(&Machine)) {
    // While the one is watched, the other changes what it may change.
    machine.may_change("/staging");
    machine.may_change("/var/lib/vmstage");
    let boot = machine.start(&["boot"]);
    sleep(Duration::from_millis(500));
    let waiting = machine.start(&["status", "--wait=20"]);
    sleep(Duration::from_millis(500));
    let_the_disk_come(machine);
    boot.wait().ready_on("/dev/vdb");
    let told = waiting.wait();
    assert_eq!(told.code, 0, "{told}");
}

fn whoever_waits_is_not_told_of_the_failure_of_an_earlier_boot() {
    let mut machine = Machine::new();
    machine.boot().failed(3);
    machine.configure("[staging]\nwait = \"20s\"");
    assert_told_of_this_boot(&mut machine, |machine| {
        machine.disk("vdb", &Image::ext4(EPHEMERAL0));
    });
}

fn a_configuration_that_only_root_may_read_is_not_called_wrong() {
    let machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    machine.sh("chmod 600 /etc/vmstage.toml");
    let status = machine.run_as_nobody(&["status"]);
    assert_eq!(status.code, 0, "{status}");
    status.does_not_say("configuration");
}

fn a_configuration_that_is_a_link_to_nowhere_is_an_error() {
    let machine = with_labelled_disk();
    machine.sh("rm /etc/vmstage.toml; ln -s /srv/vmstage.toml /etc/vmstage.toml");
    machine.boot().failed(6).says("/etc/vmstage.toml");
}

fn standard_error_that_nobody_reads_holds_nothing_up() {
    let machine = with_labelled_disk();
    // Full from the start, and open for as long as the boot takes.
    let took = machine.sh("mkfifo /tmp/stuck
        exec 3<>/tmp/stuck
        timeout 1 dd if=/dev/zero bs=4096 of=/tmp/stuck 2>/dev/null || true
        timeout 20 vmstage boot 2>/tmp/stuck; echo $?");
    assert_eq!(took.trim(), "0");
    assert_eq!(machine.sh("vmstage status | head -c 5"), "ready");
}

fn a_service_manager_that_does_not_read_is_not_waited_for_for_long() {
    let machine = with_labelled_disk();
    let _manager = bind_socket(&machine.path("/run"), "notify");
    let socket = UnixDatagram::unbound().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.send_to(b"X=1", machine.path("/run/notify")).is_ok() {}
    let boot = machine.run_with(&["boot"], &[("NOTIFY_SOCKET", "/run/notify")]);
    boot.says("cannot write to $NOTIFY_SOCKET");
    assert_not_held_for_long(&boot);
}

fn what_cannot_be_printed_is_an_error() {
    let machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    for command in ["probe", "status --format json", "status"] {
        let printed = machine.try_sh(&format!("vmstage {command} >/dev/full"));
        assert_eq!(printed.status.code(), Some(1), "{command}: {printed:?}");
    }
}

fn status_needs_no_root() {
    let machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    let status = machine.run_as_nobody(&["status"]);
    assert_eq!(status.code, 0, "{status}");
    assert!(status.stdout.starts_with("ready: /dev/vdb"), "{status}");
}

fn status_of_a_broken_file_is_an_error() {
    let machine = with_labelled_disk();
    machine.boot();
    machine.sh("echo '{' > /run/vmstage/status.json; cp /run/vmstage/status.json /tmp/s");
    let mut status = machine.command("/usr/sbin/vmstage", None);
    status.arg("status");
    let status = status.output().unwrap();
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    let said = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(said.contains("/run/vmstage/status.json"), "{said}");
    machine.boot().ready_on("/dev/vdb");
}

fn status_wait_returns_as_soon_as_the_machine_is_ready() {
    for wait in ["--wait", "--wait=30"] {
        let mut machine = with_labelled_disk();
        // It is the boot, meanwhile, that does.
        for place in [
            "/staging",
            "/var/lib/vmstage",
            "/etc/machinefeatures",
            "/etc/jobfeatures",
        ] {
            machine.may_change(place);
        }
        let waiting = machine.start(&["status", wait]);
        sleep(Duration::from_millis(700));
        machine.boot().ready_on("/dev/vdb");
        let since = Instant::now();
        let status = waiting.wait();
        assert_eq!(status.code, 0, "{status}");
        assert!(status.stdout.contains("ready: /dev/vdb"), "{status}");
        assert!(since.elapsed() < Duration::from_millis(500), "{status}");
    }
}

fn status_wait_returns_when_the_boot_has_failed() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nwait = \"1s\"");
    machine.may_change("/etc/machinefeatures");
    machine.may_change("/etc/jobfeatures");
    machine.may_change("/var/lib/vmstage");
    let waiting = machine.start(&["status", "--wait=30"]);
    machine.boot().failed(3);
    let status = waiting.wait();
    assert_eq!(status.code, 3, "{status}");
    assert!(status.took < Duration::from_secs(3), "{status}");
}

fn status_wait_gives_up_after_its_seconds() {
    let machine = Machine::new();
    let status = machine.run(&["status", "--wait=1"]);
    assert_eq!(status.code, 1, "{status}");
    let took = status.took.as_secs_f32();
    assert!((1.0..2.0).contains(&took), "{status}");
    assert_eq!(machine.run(&["status", "--wait=0"]).code, 1);
}

fn a_read_only_run_is_a_warning() {
    let machine = with_labelled_disk();
    machine.sh("mount -o remount,ro /run");
    let boot = machine.boot();
    assert_eq!(boot.code, 0, "{boot}");
    boot.says("warning").says("/run/vmstage").says("read-only");
    assert_eq!(boot.staged().len(), 1, "{boot}");
    assert!(
        boot.console.starts_with("vmstage: ready: /dev/vdb"),
        "{boot}"
    );
}

fn a_full_run_is_a_warning_and_leaves_no_half_status() {
    let machine = with_labelled_disk();
    machine.sh("mount -o remount,size=16k /run; mkdir -p /run/vmstage
        head -c 1M /dev/zero > /run/fill 2>/dev/null || true");
    let boot = machine.boot();
    assert_eq!(boot.code, 0, "{boot}");
    boot.says("warning").says("no space left");
    assert!(boot.status.is_none(), "{boot}");
    assert_eq!(machine.sh("ls -A /run/vmstage | grep -v lock || true"), "");
}

fn without_run_the_status_is_in_var_run() {
    let machine = with_labelled_disk();
    machine.without_run();
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert!(machine.path("/var/run/vmstage/status.json").exists());
    assert!(!machine.path("/run").exists());
    assert_eq!(machine.run(&["status"]).code, 0);
}

fn the_console_gets_one_line_of_a_fixed_form() {
    let machine = with_labelled_disk();
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    let rest = boot
        .console
        .strip_prefix("vmstage: ready: /dev/vdb (ext2, LABEL=ephemeral0) on /staging, ")
        .unwrap_or_else(|| panic!("{boot}"));
    let free = rest
        .strip_suffix(" free, condor tmp\n")
        .unwrap_or_else(|| panic!("{boot}"));
    let bytes = boot.the_status()["staging"]["free_bytes"].as_f64().unwrap();
    assert_eq!(free, format!("{:.1} MiB", bytes / f64::from(1 << 20)));
}

fn a_failure_is_one_line_on_the_console() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::that_cannot_be_mounted(EPHEMERAL0));
    let boot = machine.boot();
    boot.failed(4);
    assert_eq!(boot.console.lines().count(), 1, "{boot}");
    assert!(
        boot.console
            .starts_with("vmstage: FAILED(4): cannot mount /dev/vdb (ext4) on /staging: ")
    );
}

#[track_caller]
fn assert_prompt(boot: &Outcome) {
    assert_eq!(boot.code, 0, "{boot}");
    assert!(boot.took < Duration::from_secs(3), "{boot}");
}

/// A console gets five seconds.
#[track_caller]
fn assert_not_held_for_long(boot: &Outcome) {
    assert_eq!(boot.code, 0, "{boot}");
    assert!(boot.took < Duration::from_secs(8), "{boot}");
}

fn a_console_that_blocks_is_not_waited_for_for_long() {
    let machine = with_labelled_disk();
    machine.sh("rm /dev/console; mkfifo /dev/console");
    assert_prompt(&machine.boot());

    // One that somebody has open, and that is full.
    machine.sh("umount /staging");
    let mut pipe = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(machine.path("/dev/console"))
        .unwrap();
    while pipe.write(&[b'x'; 4096]).is_ok() {}
    let boot = machine.boot();
    assert_not_held_for_long(&boot);
    boot.says("the console could not be told");

    // One that is only slow gets its line whole.
    machine.sh("umount /staging");
    let boot = machine.start(&["boot"]);
    sleep(Duration::from_secs(1));
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while !said.ends_with(b"condor tmp\n") {
        match pipe.read(&mut buffer) {
            Ok(length) => said.extend(&buffer[..length]),
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
    assert_eq!(boot.wait().code, 0);
}

fn a_terminal_that_is_stopped_is_not_waited_for_for_long() {
    let machine = with_labelled_disk();
    let terminal = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname_r(&terminal).unwrap();
    let slave = File::options()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits())
        .open(&name)
        .unwrap();
    nix::sys::termios::tcflow(slave.as_fd(), nix::sys::termios::FlowArg::TCOOFF).unwrap();
    while (&slave)
        .write(&[b'x'; 4096])
        .is_ok_and(|written| written > 0)
    {}

    let console = machine.path("/dev/console");
    let bind = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(
        Some(name.as_str()),
        &console,
        None::<&str>,
        bind,
        None::<&str>,
    )
    .unwrap();
    assert_not_held_for_long(&machine.boot());
}

fn without_a_console_nothing_is_lost_but_the_line() {
    let machine = with_labelled_disk();
    fs::remove_file(machine.path("/dev/console")).unwrap();
    let boot = machine.boot();
    assert_eq!(boot.code, 0, "{boot}");
    assert_eq!(boot.the_status()["outcome"], "ready");
    boot.says("ready: /dev/vdb");
}

fn received(socket: &UnixDatagram) -> Vec<String> {
    let mut lines = Vec::new();
    let mut buffer = [0; 65536];
    while let Ok(length) = socket.recv(&mut buffer) {
        lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    lines
}

fn syslog_gets_every_event_of_the_daemon_facility() {
    let machine = with_labelled_disk();
    machine.sh("mkdir /staging; touch /staging/hidden");
    let syslog = machine.syslog();
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    let lines = received(&syslog);
    assert_eq!(
        lines.len(),
        boot.stderr.lines().count(),
        "{lines:#?}\n{boot}"
    );
    for line in &lines {
        let (priority, text) = line[1..].split_once('>').unwrap();
        let daemon = 3;
        assert_eq!(priority.parse::<u32>().unwrap() / 8, daemon, "{line}");
        assert!(text.starts_with("vmstage["), "{line}");
    }
    let warning = lines
        .iter()
        .find(|line| line.contains("hides what is in it (1 in all)"));
    assert!(warning.unwrap().starts_with("<28>"), "{lines:#?}");
    assert!(
        lines.last().unwrap().contains("ready: /dev/vdb (ext2"),
        "{lines:#?}"
    );
}

fn syslog_gets_a_failure_as_an_error() {
    let machine = Machine::new();
    let syslog = machine.syslog();
    machine.boot().failed(3);
    let lines = received(&syslog);
    let last = lines.last().unwrap();
    assert!(last.starts_with("<27>vmstage["), "{lines:#?}");
    assert!(last.contains("FAILED(3): no usable disk"), "{lines:#?}");
}

fn a_syslog_that_does_not_read_is_not_waited_for() {
    let machine = with_labelled_disk();
    let _deaf = machine.syslog();
    let dev = File::open(machine.path("/dev")).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    filler
        .connect(format!("/proc/self/fd/{}/log", dev.as_raw_fd()))
        .unwrap();
    while filler.send(b"<30>filler").is_ok() {}
    let boot = machine.boot();
    assert_prompt(&boot);
    boot.ready_on("/dev/vdb").says("ready: /dev/vdb");
}

fn a_syslog_socket_that_nobody_listens_on_does_no_harm() {
    let machine = with_labelled_disk();
    drop(machine.syslog());
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
}

fn notify_socket(machine: &Machine) -> UnixDatagram {
    bind_socket(&machine.path("/run"), "notify")
}

fn the_service_manager_is_told_when_the_machine_is_ready() {
    let machine = with_labelled_disk();
    let manager = notify_socket(&machine);
    let boot = machine.run_with(&["boot"], &[("NOTIFY_SOCKET", "/run/notify")]);
    boot.ready_on("/dev/vdb");
    let told = received(&manager).concat();
    assert!(told.lines().any(|line| line == "READY=1"), "{told}");
    assert!(told.contains("STATUS=ready: /dev/vdb (ext2"), "{told}");
}

fn the_service_manager_is_not_told_of_readiness_after_a_failure() {
    for image in [Image::swap(""), Image::ext4("")] {
        let machine = Machine::new();
        machine.disk("vdb", &image);
        machine.sh("sed -i /^condor/d /etc/passwd");
        let manager = notify_socket(&machine);
        let boot = machine.run_with(&["boot"], &[("NOTIFY_SOCKET", "/run/notify")]);
        assert!([3, 5].contains(&boot.code), "{boot}");
        let told = received(&manager).concat();
        assert!(!told.contains("READY"), "{told}");
    }
}

fn the_service_manager_is_told_of_readiness_where_it_is_to_be_told_nothing_else() {
    let mut machine = with_labelled_disk();
    machine.configure("[report]\nsystemd = false");
    let manager = notify_socket(&machine);
    let boot = machine.run_with(&["boot"], &[("NOTIFY_SOCKET", "/run/notify")]);
    boot.ready_on("/dev/vdb");
    assert_eq!(received(&manager), ["READY=1\n"]);
}

fn a_service_manager_that_is_gone_does_no_harm() {
    let machine = with_labelled_disk();
    let boot = machine.run_with(&["boot"], &[("NOTIFY_SOCKET", "/run/gone")]);
    boot.ready_on("/dev/vdb").says("NOTIFY_SOCKET");
}

fn closed_standard_streams_do_not_end_up_on_a_disk() {
    let machine = Machine::new();
    let images = [
        Image::swap(""),
        Image::blank(16),
        Image::iso9660("config-2"),
    ];
    let disks: Vec<_> = ["vdb", "sdb", "xvdb"]
        .iter()
        .zip(&images)
        .map(|(name, image)| machine.disk(name, image))
        .collect();
    for command in ["boot", "probe", "status"] {
        let mut run = machine.command("/bin/sh", None);
        let script = format!("exec vmstage -v {command} <&- >&- 2>&-");
        run.args(["-c", &script]);
        let code = run.status().unwrap().code();
        assert_eq!(code, Some(3), "{command}");
    }
    machine.sh("sync");
    for (disk, image) in disks.iter().zip(&images) {
        assert_eq!(disk.checksum(), image.checksum());
    }
}

fn a_reader_that_goes_away_is_no_panic() {
    let machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    for arguments in [&["probe"][..], &["status"], &["status", "--format", "json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = machine.command("/usr/sbin/vmstage", None);
        command.args(arguments).stdout(writer);
        let run = command.stderr(Stdio::piped()).output().unwrap();
        assert_eq!(run.status.code(), Some(0), "{arguments:?} {run:?}");
        assert_eq!(String::from_utf8_lossy(&run.stderr), "", "{arguments:?}");
    }
}

fn a_config_file_with_every_default_changes_nothing() {
    let shipped = include_str!("../../packaging/vmstage.toml");
    let mut machine = with_labelled_disk();
    let no_metadata = "[metadata]\nsources = []\n";
    machine.configure(&format!("{shipped}\n{no_metadata}"));
    machine.boot().ready_on("/dev/vdb").warns_of_nothing();
}

fn a_user_cannot_hold_a_boot_up() {
    let machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    let mut held = machine.command("/bin/sh", Some(65534));
    held.args([
        "-c",
        "cd /run/vmstage; for file in *; do flock $file sleep 30 & done; wait",
    ]);
    let mut held = held.stderr(Stdio::null()).process_group(0).spawn().unwrap();
    sleep(Duration::from_millis(300));
    let mut boot = machine.start(&["boot"]);
    let since = Instant::now();
    let ended = loop {
        match boot.process().try_wait().unwrap() {
            None if since.elapsed() < Duration::from_secs(5) => sleep(Duration::from_millis(10)),
            ended => break ended,
        }
    };
    let group = nix::unistd::Pid::from_raw(held.id() as i32);
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    held.wait().unwrap();
    assert!(
        ended.is_some(),
        "boot waits for a lock that nobody's process has"
    );
}

/// More than a pipe takes without waiting, where there is room for less.
fn a_long_line_that_nobody_reads_holds_nothing_up() {
    let mut machine = Machine::new();
    let devices: Vec<String> = (0..400)
        .map(|n| format!("\"/dev/nothing{n:04}\""))
        .collect();
    machine.configure(&format!("[staging]\ndevices = [{}]", devices.join(", ")));
    let code = machine.sh("mkfifo /tmp/stuck
        exec 3<>/tmp/stuck
        dd if=/dev/zero bs=4096 count=15 of=/tmp/stuck 2>/dev/null
        timeout 20 vmstage boot 2>/tmp/stuck || echo $?");
    assert_eq!(code, "3\n");
    let console = fs::read_to_string(machine.path("/dev/console")).unwrap();
    assert!(
        console.ends_with("/dev/nothing0399 is absent\n"),
        "{console}"
    );
}

fn a_lock_of_the_status_that_nobody_lets_go_holds_nothing_up_for_long() {
    let machine = with_labelled_disk();
    machine.sh("mkdir /run/vmstage");
    let lock = File::create(machine.path("/run/vmstage/status.lock")).unwrap();
    lock.lock().unwrap();
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    assert_not_held_for_long(&boot);
}

fn a_boot_that_has_to_give_way_says_so_on_the_console() {
    let machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    let before = fs::read_to_string(machine.path("/run/vmstage/status.json")).unwrap();
    let lock = File::open(machine.path("/run/vmstage/boot.lock")).unwrap();
    lock.lock().unwrap();
    // Where nobody but root may write on the way: no lock is trusted elsewhere.
    private_mounts();
    let (root, none) = (Path::new("/mnt"), None::<&str>);
    let all = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&machine.path("/")), root, none, all, none).unwrap();
    let host = Host::at(root);
    let code = boot::run(&host, None, Duration::from_millis(200));
    assert_eq!(code, 1);
    let console = fs::read_to_string(machine.path("/dev/console")).unwrap();
    let said = "vmstage: FAILED(1): another vmstage boot is at it for 200ms already";
    assert!(console.contains(said), "{console}");
    let after = fs::read_to_string(machine.path("/run/vmstage/status.json")).unwrap();
    assert_eq!(after, before);
}

fn whoever_waits_is_not_told_of_a_mount_that_is_gone() {
    let mut machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    machine.sh("umount /staging; mv /dev/vdb /dev/away");
    machine.configure("[staging]\nwait = \"20s\"\ndevices = [\"/dev/vdb\"]");
    assert_told_of_this_boot(&mut machine, |machine| {
        machine.sh("mv /dev/away /dev/vdb");
    });
}

fn after_a_wrong_configuration_the_status_has_no_verdicts_of_an_earlier_boot() {
    let mut machine = with_labelled_disk();
    machine.boot().ready_on("/dev/vdb");
    machine.configure("[stagin]");
    let boot = machine.boot();
    assert_eq!(boot.code, 6, "{boot}");
    assert_eq!(
        boot.the_status()["verdicts"],
        Value::Array(Vec::new()),
        "{boot}"
    );
}

fn syslog_gets_nothing_where_that_is_configured() {
    let mut machine = with_labelled_disk();
    machine.configure("[report]\nsyslog = false");
    let syslog = machine.syslog();
    machine.boot().ready_on("/dev/vdb");
    assert_eq!(received(&syslog), Vec::<String>::new());
}
