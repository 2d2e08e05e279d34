//! sysvinit/vmstage.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use super::guest::{EVERY_SYSTEM, Guest, Stat, System, repository, shipped};
use crate::common::{tool, write_program};

claims![
    start_boots_and_then_starts_watch,
    boot_and_watch_are_detached_from_whoever_started_them,
    a_failed_boot_fails_the_start_and_watch_follows_the_deadline_all_the_same,
    a_wrong_configuration_fails_the_start_and_leaves_no_watch_and_no_directory,
    a_second_start_boots_again_but_starts_no_second_watch,
    a_watch_that_ends_at_once_fails_the_start,
    a_stale_or_broken_pid_file_is_replaced,
    a_foreign_process_in_the_pid_file_is_left_alone,
    stop_ends_watch_and_nothing_else,
    stopping_what_does_not_run_succeeds,
    a_watch_that_does_not_end_fails_stop_and_restart,
    restart_boots_again_and_replaces_watch,
    try_restart_restarts_only_what_runs,
    reload_sends_watch_a_hangup,
    status_has_the_exit_codes_of_lsb,
    wrong_usage_is_exit_code_2_and_does_nothing,
    without_root_only_status_works,
    a_missing_program_is_exit_code_5_and_stop_still_works,
    on_a_systemd_machine_the_units_are_asked,
    systemd_itself_can_run_the_script,
    the_program_itself_starts_reloads_and_stops,
    a_failed_boot_of_the_program_itself_is_understood,
    insserv_orders_it_before_condor,
    chkconfig_orders_it_between_sshd_and_condor,
    the_scripts_pass_shellcheck,
];

fn in_every_system(claim: impl Fn(&mut Guest)) {
    for system in EVERY_SYSTEM {
        eprintln!("on {system:?}");
        claim(&mut Guest::with_init_script(system));
    }
}

fn start_boots_and_then_starts_watch() {
    in_every_system(|guest| {
        let start = guest.service(&["start"]);
        assert_eq!(start.code, Some(0), "{}", start.stdout);
        assert_eq!(guest.calls(), ["boot", "watch"]);
        let [pid] = guest.watches()[..] else {
            panic!("{:?}", guest.watches());
        };
        assert_eq!(guest.read(&guest.pid_file()), format!("{pid}\n"));
        assert_eq!(
            start.stdout,
            format!("vmstage: watch is running (pid {pid})\n")
        );
        assert_eq!(start.stderr, "boot's own line\n");
    });
}

fn boot_and_watch_are_detached_from_whoever_started_them() {
    in_every_system(|guest| {
        // A pipe as descriptor 3, as debconf has it while a package is configured. That
        // the pipeline ends says that watch holds neither; of boot, the fake would say so.
        let start = guest.shell(&["-c", "cd /tmp && /etc/init.d/vmstage start 3>&1 | cat"]);
        assert_eq!(start.code, Some(0));
        assert_eq!(guest.calls(), ["boot", "watch"]);
        let [pid] = guest.watches()[..] else {
            panic!("{:?}", guest.watches());
        };
        let descriptors: Vec<_> = fs::read_dir(guest.path(&format!("/proc/{pid}/fd")))
            .unwrap()
            .map(|entry| entry.unwrap())
            // More than those a shell cannot name, nor therefore close.
            .filter(|entry| entry.file_name().len() == 1)
            .map(|entry| (entry.file_name(), fs::read_link(entry.path()).unwrap()))
            .collect();
        assert_eq!(descriptors.len(), 3, "{descriptors:?}");
        assert!(
            descriptors.iter().all(|(_, to)| to.ends_with("dev/null")),
            "{descriptors:?}"
        );
        let detached = Stat {
            parent: 1,
            session: pid,
            terminal: 0,
        };
        assert_eq!(guest.stat(pid), detached);
    });
}

fn a_failed_boot_fails_the_start_and_watch_follows_the_deadline_all_the_same() {
    in_every_system(|guest| {
        for boot in [1, 2, 3, 4, 5, 137] {
            guest.answers("boot", &boot.to_string());
            let outcome = guest.service(&["start"]);
            assert_eq!(outcome.code, Some(1), "boot exits with {boot}");
            let [pid] = guest.watches()[..] else {
                panic!("{:?}", guest.watches());
            };
            let expected = format!(
                "vmstage: boot failed (exit code {boot})\n\
                 vmstage: watch is running (pid {pid})\n"
            );
            assert_eq!(outcome.stdout, expected);
            guest.service(&["stop"]);
        }
        assert_eq!(guest.calls(), ["boot", "watch"].repeat(6));
    });
}

fn a_wrong_configuration_fails_the_start_and_leaves_no_watch_and_no_directory() {
    in_every_system(|guest| {
        let before = guest.tree();
        guest.answers("boot", "6");
        let outcome = guest.service(&["start"]);
        assert_eq!(outcome.code, Some(6));
        assert_eq!(
            outcome.stdout,
            "vmstage: boot failed: the configuration is wrong (exit code 6)\n"
        );
        assert_eq!(guest.calls(), ["boot"]);
        assert!(guest.watches().is_empty());
        guest.assert_tree(&before);
    });
}

fn a_second_start_boots_again_but_starts_no_second_watch() {
    in_every_system(|guest| {
        guest.service(&["start"]);
        let first = guest.watches();
        let second = guest.service(&["start"]);
        assert_eq!(second.code, Some(0));
        assert_eq!(
            second.stdout,
            format!("vmstage: watch is running already (pid {})\n", first[0])
        );
        assert_eq!(guest.calls(), ["boot", "watch", "boot"]);
        assert_eq!(guest.watches(), first);
    });
}

fn a_watch_that_ends_at_once_fails_the_start() {
    in_every_system(|guest| {
        guest.answers("watch", "ends");
        let start = guest.service(&["start"]);
        assert_eq!(start.code, Some(1));
        assert_eq!(
            start.stdout,
            "vmstage: watch ended at once (exit code 6); syslog has the reason\n"
        );
        assert!(!guest.exists(&guest.pid_file()));
    });
}

fn a_stale_or_broken_pid_file_is_replaced() {
    in_every_system(|guest| {
        for content in [
            "0\n",
            "-1\n",
            "1 2\n",
            "watch\n",
            "../1\n",
            "12",
            "",
            "4000000\n",
        ] {
            guest.write(&guest.pid_file(), content);
            assert_eq!(guest.service(&["status"]).code, Some(1), "{content:?}");
            assert_eq!(guest.service(&["reload"]).code, Some(7), "{content:?}");
        }
        let start = guest.service(&["start"]);
        assert_eq!(start.code, Some(0), "{}", start.stdout);
        let [pid] = guest.watches()[..] else {
            panic!("{:?}", guest.watches());
        };
        assert_eq!(guest.read(&guest.pid_file()), format!("{pid}\n"));
    });
}

fn a_foreign_process_in_the_pid_file_is_left_alone() {
    in_every_system(|guest| {
        // Another program, and another command of the same one.
        let foreign = [
            guest.in_background("sleep 1000"),
            guest.in_background("exec -a /usr/sbin/vmstage /fake/bash -c 'sleep 1000; :'"),
        ];
        for pid in foreign {
            guest.wait_until("it is running", |guest| {
                guest.command_line(pid).contains("1000")
            });
            guest.write(&guest.pid_file(), &format!("{pid}\n"));
            assert_eq!(guest.service(&["status"]).code, Some(1));
            assert_eq!(guest.service(&["reload"]).code, Some(7));
            assert_eq!(guest.service(&["stop"]).code, Some(0));
            guest.write(&guest.pid_file(), &format!("{pid}\n"));
            assert_eq!(guest.service(&["start"]).code, Some(0));
            assert_eq!(guest.watches().len(), 1);
            assert_eq!(guest.service(&["stop"]).code, Some(0));
            assert!(guest.command_line(pid).contains("1000"), "{pid} was ended");
        }
    });
}

fn stop_ends_watch_and_nothing_else() {
    in_every_system(|guest| {
        guest.service(&["start"]);
        guest.wait_until_watch_hears();
        let bystander = guest.in_background("sleep 1000");
        let mounted = guest.run(&["mount", "-t", "tmpfs", "scratch", "/mnt"]);
        assert_eq!(mounted.code, Some(0), "{}", mounted.stderr);

        let stop = guest.service(&["stop"]);
        assert_eq!(stop.code, Some(0));
        assert_eq!(
            stop.stdout,
            "vmstage: watch is stopped; the scratch disk stays mounted\n"
        );
        assert_eq!(guest.read("/fake/signals"), "TERM\n");
        assert!(guest.watches().is_empty());
        assert!(!guest.exists(&guest.pid_file()));
        assert!(guest.command_line(bystander).contains("1000"));
        assert!(guest.read("/proc/1/mounts").contains("scratch /mnt "));
        assert_eq!(guest.calls(), ["boot", "watch"]);
    });
}

fn stopping_what_does_not_run_succeeds() {
    in_every_system(|guest| {
        let stop = guest.service(&["stop"]);
        assert_eq!(stop.code, Some(0));
        assert_eq!(stop.stdout, "vmstage: watch is not running\n");
    });
}

fn a_watch_that_does_not_end_fails_stop_and_restart() {
    let guests = EVERY_SYSTEM.map(Guest::with_init_script);
    for guest in &guests {
        guest.answers("watch", "deaf");
        guest.service(&["start"]);
    }
    // At the same time, since each waits ten seconds.
    let restarts = thread::scope(|scope| {
        let restarts = guests
            .each_ref()
            .map(|guest| scope.spawn(|| guest.service(&["restart"])));
        restarts.map(|restart| restart.join().unwrap())
    });
    for (guest, restart) in guests.iter().zip(restarts) {
        assert_eq!(restart.code, Some(1));
        let [pid] = guest.watches()[..] else {
            panic!("{:?}", guest.watches());
        };
        assert_eq!(
            restart.stdout,
            format!("vmstage: watch (pid {pid}) has not ended within 10 s\n")
        );
        assert_eq!(guest.calls(), ["boot", "watch"]);
        assert_eq!(guest.read(&guest.pid_file()), format!("{pid}\n"));
    }
}

fn restart_boots_again_and_replaces_watch() {
    in_every_system(|guest| {
        guest.service(&["start"]);
        let first = guest.watches();
        let restart = guest.service(&["restart"]);
        assert_eq!(restart.code, Some(0), "{}", restart.stdout);
        assert_eq!(guest.calls(), ["boot", "watch", "boot", "watch"]);
        let second = guest.watches();
        assert_eq!(second.len(), 1);
        assert_ne!(second, first);
    });
}

fn try_restart_restarts_only_what_runs() {
    in_every_system(|guest| {
        for action in ["try-restart", "condrestart"] {
            assert_eq!(guest.service(&[action]).code, Some(0));
            assert!(guest.calls().is_empty());
        }
        guest.service(&["start"]);
        for action in ["try-restart", "condrestart"] {
            let before = guest.watches();
            assert_eq!(guest.service(&[action]).code, Some(0));
            let after = guest.watches();
            assert_eq!(after.len(), 1);
            assert_ne!(after, before);
        }
        assert_eq!(guest.calls(), ["boot", "watch"].repeat(3));
    });
}

fn reload_sends_watch_a_hangup() {
    in_every_system(|guest| {
        for action in ["reload", "force-reload"] {
            assert_eq!(guest.service(&[action]).code, Some(7), "{action}");
        }
        guest.service(&["start"]);
        guest.wait_until_watch_hears();
        let watches = guest.watches();
        for (action, signals) in [("reload", "HUP\n"), ("force-reload", "HUP\nHUP\n")] {
            assert_eq!(guest.service(&[action]).code, Some(0), "{action}");
            guest.wait_until(action, |guest| guest.read("/fake/signals") == signals);
        }
        assert_eq!(guest.watches(), watches);
    });
}

fn status_has_the_exit_codes_of_lsb() {
    in_every_system(|guest| {
        let expect = |when: &str, cases: &[(i32, i32)]| {
            for (of_program, of_script) in cases {
                guest.answers("status", &of_program.to_string());
                let status = guest.service(&["status"]);
                assert_eq!(status.code, Some(*of_script), "{when}, {of_program}");
                assert!(status.stdout.starts_with("status's own line\n"));
            }
        };
        expect("never started", &[(0, 3), (1, 3), (3, 3), (6, 3), (126, 4)]);
        guest.service(&["start"]);
        expect("running", &[(0, 0), (1, 3), (3, 3), (5, 3), (2, 4)]);
        let watch = guest.watches()[0];
        guest.run(&["kill", "-KILL", &watch.to_string()]);
        guest.wait_until("it is gone", |guest| guest.watches().is_empty());
        expect("killed", &[(0, 1), (3, 1), (139, 4)]);
        guest.service(&["stop"]);
        expect("stopped", &[(0, 3), (4, 3)]);
    });
}

fn wrong_usage_is_exit_code_2_and_does_nothing() {
    in_every_system(|guest| {
        for arguments in [&[][..], &["begin"], &["start", "now"], &["1,start"], &[""]] {
            let outcome = guest.service(arguments);
            assert_eq!(outcome.code, Some(2), "{arguments:?}");
            assert_eq!(outcome.stdout, "");
            assert_eq!(
                outcome.stderr,
                "Usage: /etc/init.d/vmstage \
                 {start|stop|restart|try-restart|reload|force-reload|status}\n"
            );
        }
        assert!(guest.calls().is_empty());
    });
}

fn without_root_only_status_works() {
    in_every_system(|guest| {
        guest.service(&["start"]);
        let as_nobody = |action| {
            let script = ["/etc/init.d/vmstage", action];
            guest.run_as(65534, &[guest.system.shell(), &script].concat())
        };
        for action in [
            "start",
            "stop",
            "restart",
            "try-restart",
            "reload",
            "force-reload",
        ] {
            let outcome = as_nobody(action);
            assert_eq!(outcome.code, Some(4), "{action}");
            assert_eq!(
                outcome.stderr,
                format!("vmstage: only root can {action} it\n")
            );
        }
        assert_eq!(guest.calls(), ["boot", "watch"]);
        // The fake notes its calls in a file.
        guest.run(&["chmod", "666", "/fake/calls"]);
        assert_eq!(as_nobody("status").code, Some(0));
    });
}

fn a_missing_program_is_exit_code_5_and_stop_still_works() {
    in_every_system(|guest| {
        guest.service(&["start"]);
        fs::remove_file(guest.path("/usr/sbin/vmstage")).unwrap();
        for action in ["start", "restart", "try-restart", "reload", "force-reload"] {
            assert_eq!(guest.service(&[action]).code, Some(5), "{action}");
        }
        assert_eq!(guest.watches().len(), 1);
        assert_eq!(guest.service(&["status"]).code, Some(4));
        assert_eq!(guest.service(&["stop"]).code, Some(0));
        assert!(guest.watches().is_empty());
    });
}

const FAKE_SYSTEMCTL: &str = "#!/fake/bash\necho \"$*\" >>/fake/systemctl\nexit 3\n";

fn on_a_systemd_machine_the_units_are_asked() {
    let guest = Guest::with_init_script(System::Debian);
    guest.write_program("/usr/sbin/systemctl", FAKE_SYSTEMCTL);
    fs::create_dir_all(guest.path("/run/systemd/system")).unwrap();
    assert_eq!(guest.service(&["start"]).code, Some(3));
    assert_eq!(guest.service(&["status"]).code, Some(3));
    assert_eq!(
        guest.read("/fake/systemctl"),
        "start vmstage.service vmstage-watch.service\n\
         status vmstage.service vmstage-watch.service\n"
    );
    assert!(guest.calls().is_empty());
}

fn systemd_itself_can_run_the_script() {
    let mut guest = Guest::with_init_script(System::Debian);
    guest.write_program("/usr/sbin/systemctl", FAKE_SYSTEMCTL);
    fs::create_dir_all(guest.path("/run/systemd/system")).unwrap();
    assert_eq!(guest.as_init("dash /etc/init.d/vmstage start"), 0);
    assert_eq!(guest.read("/fake/systemctl"), "");
    assert_eq!(guest.calls(), ["boot", "watch"]);
}

/// Debian's insserv, with Debian's idea of `$local_fs` and the like, and scripts that
/// stand for Debian's and HTCondor's own as far as order goes.
fn insserv_orders_it_before_condor() {
    let insserv = tool("insserv");
    let etc = Path::new(env!("CARGO_TARGET_TMPDIR")).join("insserv");
    let _ = fs::remove_dir_all(&etc);
    for directory in [
        "init.d", "rc0.d", "rc1.d", "rc2.d", "rc3.d", "rc4.d", "rc5.d", "rc6.d", "rcS.d",
    ] {
        fs::create_dir_all(etc.join(directory)).unwrap();
    }
    let facilities = "$local_fs +mountall\n$network +networking\n\
                      $remote_fs $local_fs +mountnfs\n$syslog +rsyslog\n";
    fs::write(etc.join("insserv.conf"), facilities).unwrap();
    let mut scripts = vec![("vmstage", shipped("sysvinit/vmstage"))];
    for (name, required, levels) in [
        ("mountall", "", "S"),
        ("networking", "$local_fs", "S"),
        ("mountnfs", "$local_fs $network", "S"),
        ("rsyslog", "$remote_fs", "2 3 4 5"),
        ("condor", "$local_fs $network", "2 3 4 5"),
    ] {
        let script = format!(
            "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: {name}\n# Required-Start: {required}\n\
             # Required-Stop:\n# Default-Start: {levels}\n# Default-Stop:\n### END INIT INFO\n"
        );
        scripts.push((name, script));
    }
    for (name, script) in &scripts {
        let path = etc.join("init.d").join(name);
        write_program(&path, script);
    }
    let ordered = Command::new(insserv)
        .arg("--default")
        .args([Path::new("--path"), &etc.join("init.d")])
        .args([Path::new("--config"), &etc.join("insserv.conf")])
        .args([Path::new("--insserv-dir"), &etc])
        .args([Path::new("--override"), &etc.join("none")])
        .args([Path::new("--upstart-job"), &etc.join("none")])
        .args(scripts.iter().map(|(name, _)| name))
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&ordered.stderr);
    assert!(ordered.status.success(), "{complaints}");
    assert_eq!(complaints, "");

    let links = |level: &str| -> Vec<String> {
        let links = fs::read_dir(etc.join(level)).unwrap();
        links
            .map(|link| link.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    for level in ["rc2.d", "rc3.d", "rc4.d", "rc5.d"] {
        let links = links(level);
        let number = |name: &str| -> u32 {
            let link = links.iter().find(|link| link.ends_with(name)).unwrap();
            link[1..3].parse().unwrap()
        };
        assert!(number("rsyslog") < number("vmstage"), "{links:?}");
        assert!(number("vmstage") < number("condor"), "{links:?}");
    }
    // At a shutdown that watch asked for, watch is not stopped before everything is.
    for level in ["rc0.d", "rc6.d"] {
        assert!(
            !links(level).iter().any(|link| link.ends_with("vmstage")),
            "{level}"
        );
    }
}

fn chkconfig_orders_it_between_sshd_and_condor() {
    let script = shipped("sysvinit/vmstage");
    let header = script
        .lines()
        .find_map(|line| line.strip_prefix("# chkconfig: "))
        .unwrap();
    let [levels, start, stop]: [&str; 3] =
        header.split(' ').collect::<Vec<_>>().try_into().unwrap();
    // sshd's is 55 in Scientific Linux 5, HTCondor's own script has 98.
    let start: u32 = start.parse().unwrap();
    assert!(55 < start && start < 98, "{start}");
    assert_eq!((levels, stop), ("2345", "02"));
    assert!(script.contains("\n# description: "), "chkconfig refuses it");
}

fn the_scripts_pass_shellcheck() {
    let scripts = ["vmstage", "rc.local.sl", "rc.local.ubuntu"]
        .map(|script| repository("sysvinit").join(script));
    let checked = Command::new(tool("shellcheck"))
        .args(["--shell=sh"])
        .args(scripts)
        .output()
        .unwrap();
    let faults = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{faults}");
}

/// Everything above is with a fake; this is with the program itself.
fn the_program_itself_starts_reloads_and_stops() {
    for system in EVERY_SYSTEM {
        eprintln!("on {system:?}");
        let guest = Guest::with_init_script(system);
        guest.put_program_itself();
        guest.write("/etc/passwd", "condor:x:64:65::/:/bin/sh\n");
        guest.write("/etc/group", "condor:x:65:\n");
        guest.write("/etc/vmstage.toml", "[metadata]\nsources = []\n");
        let mounted = guest.shell(&["-c", "mkdir /staging && mount -t tmpfs scratch /staging"]);
        assert_eq!(mounted.code, Some(0), "{}", mounted.stderr);

        let start = guest.service(&["start"]);
        assert_eq!(start.code, Some(0), "{}{}", start.stdout, start.stderr);
        assert!(guest.exists("/staging/condor") && guest.exists("/staging/tmp"));
        let watches = guest.watches();
        assert_eq!(watches.len(), 1, "{watches:?}");
        let status = guest.service(&["status"]);
        assert_eq!(status.code, Some(0), "{}{}", status.stdout, status.stderr);

        assert_eq!(guest.service(&["reload"]).code, Some(0));
        let restart = guest.service(&["restart"]);
        assert_eq!(
            restart.code,
            Some(0),
            "{}{}",
            restart.stdout,
            restart.stderr
        );
        assert_eq!(guest.watches().len(), 1);
        assert_ne!(guest.watches(), watches);

        assert_eq!(guest.service(&["stop"]).code, Some(0));
        assert!(guest.watches().is_empty());
        assert!(guest.read("/proc/1/mounts").contains("scratch /staging "));
        assert_eq!(guest.service(&["status"]).code, Some(3));
    }
}

fn a_failed_boot_of_the_program_itself_is_understood() {
    let without_a_disk = "[staging]\ndevices = [\"LABEL=no such disk\"]\nwait = \"0s\"\n";
    for system in EVERY_SYSTEM {
        eprintln!("on {system:?}");
        let guest = Guest::with_init_script(system);
        guest.put_program_itself();
        guest.write("/etc/vmstage.toml", without_a_disk);
        let start = guest.service(&["start"]);
        assert_eq!(start.code, Some(1), "{}{}", start.stdout, start.stderr);
        let failed = "vmstage: boot failed (exit code 3)\nvmstage: watch is running (pid ";
        assert!(start.stdout.starts_with(failed), "{}", start.stdout);
        assert!(start.stderr.contains("FAILED(3)"), "{}", start.stderr);
        assert_eq!(guest.watches().len(), 1);
        assert_eq!(guest.service(&["status"]).code, Some(3));
        assert_eq!(guest.service(&["stop"]).code, Some(0));
        assert!(!guest.exists("/staging"));

        guest.write("/etc/vmstage.toml", "[staging]\ndisk = \"vdb\"\n");
        assert_eq!(guest.service(&["start"]).code, Some(6));
        assert!(guest.watches().is_empty());
    }
}
