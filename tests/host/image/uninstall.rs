//! vmstage uninstall.

use std::fs;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::old::{EVERY_INIT, FSTAB, Image, Init, RC_LOCAL, SCRIPT, difference};
use crate::common::scratch_file;
use crate::common::tracer::{Calls, count, kill_before};

claims![
    a_tree_is_afterwards_as_it_was_before,
    what_vmstage_told_others_goes_htcondor_first,
    what_was_changed_since_stays_and_is_named,
    lines_that_fstab_got_since_stay_and_the_old_one_comes_back,
    a_configuration_that_was_there_before_stays,
    a_package_is_left_to_its_manager,
    packages_have_the_files_kept,
    a_dry_run_of_it_changes_nothing,
    what_is_killed_while_it_uninstalls_is_completed_by_the_next_run,
    a_tree_without_vmstage_stays_as_it_is,
    a_file_that_cannot_be_read_keeps_no_other_from_being_undone,
];

fn a_tree_is_afterwards_as_it_was_before() {
    for init in EVERY_INIT {
        let image = Image::old(init);
        let before = image.listing();
        image.install(&["--replace-old"]);
        assert!(difference(&before, &image.listing()).len() > 8);
        let run = image.run("uninstall", &[]);
        assert_eq!(run.code, 0, "{run}");
        assert_eq!(
            difference(&before, &image.listing()),
            [""; 0],
            "{init:?}\n{run}"
        );
    }
}

/// As it is after a boot.
fn publish(image: &Image) {
    for (path, content) in [
        ("/etc/condor/config.d/99-vmstage.config", "START = False\n"),
        ("/etc/machinefeatures/.vmstage", "# Ours.\nshutdowntime 1\n"),
        ("/etc/machinefeatures/shutdowntime", "1"),
        ("/etc/profile.d/vmstage.sh", ""),
        ("/etc/update-motd.d/98-vmstage", ""),
        ("/var/lib/prometheus/node-exporter/vmstage.prom", ""),
        ("/var/lib/vmstage/first-boot/x.json", "{}"),
        ("/var/lib/vmstage/.status.json.new", "{"),
        ("/run/vmstage/status.json", "{}"),
    ] {
        image.write(path, content);
    }
    let motd = image.read("/etc/motd") + "vmstage: this VM goes away\n";
    image.write("/etc/motd", motd);
}

fn what_vmstage_told_others_goes_htcondor_first() {
    let image = Image::old(Init::Systemd);
    for directory in [
        "/etc/condor/config.d",
        "/etc/profile.d",
        "/etc/update-motd.d",
        "/var/lib/prometheus/node-exporter",
    ] {
        image.directory(directory);
    }
    image.write("/etc/motd", "Welcome\n");
    image.write("/etc/machinefeatures/hs06", "10");
    let before = image.listing();
    image.install(&[]);
    publish(&image);
    let run = image.run("uninstall", &[]);
    assert_eq!(run.code, 0, "{run}");
    let first = run.stdout.lines().next();
    assert_eq!(first, Some("remove /etc/condor/config.d/99-vmstage.config"));
    assert_eq!(difference(&before, &image.listing()), [""; 0], "{run}");
}

fn what_was_changed_since_stays_and_is_named() {
    let image = Image::old(Init::Chkconfig);
    image.install(&["--replace-old"]);
    image.write("/etc/vmstage.toml", "[staging]\nwait = \"20s\"\n");
    let fstab = image.read("/etc/fstab").replace("defaults", "noatime");
    image.write("/etc/fstab", &fstab);
    let run = image.run("uninstall", &[]);
    assert_eq!(run.code, 0, "{run}");
    for kept in ["/etc/vmstage.toml stays", "/etc/fstab.before-vmstage stays"] {
        assert!(run.stdout.contains(kept), "{run}");
    }
    assert_eq!(image.read("/etc/fstab"), fstab);
    assert_eq!(image.read("/etc/fstab.before-vmstage"), FSTAB);
    // The others come back.
    assert_eq!(image.read("/etc/rc.d/rc.local"), RC_LOCAL);
    assert_eq!(image.read("/etc/init.d/mount_staging"), SCRIPT);
}

fn lines_that_fstab_got_since_stay_and_the_old_one_comes_back() {
    for (added, expected) in [
        (
            "/dev/vdc /data ext4\n",
            Some(FSTAB.to_string() + "/dev/vdc /data ext4\n"),
        ),
        // Two would be mounted on it.
        ("LABEL=mine /staging ext4 nofail\n", None),
    ] {
        let image = Image::old(Init::Systemd);
        let before = image.listing();
        image.install(&["--replace-old"]);
        let fstab = image.read("/etc/fstab") + added;
        image.write("/etc/fstab", &fstab);
        let run = image.run("uninstall", &[]);
        assert_eq!(run.code, 0, "{run}");
        let stays = run.stdout.contains("/etc/fstab.before-vmstage stays");
        assert_eq!(stays, expected.is_none(), "{run}");
        assert_eq!(image.exists("/etc/fstab.before-vmstage"), stays, "{run}");
        assert_eq!(image.read("/etc/fstab"), expected.unwrap_or(fstab));
        let others: Vec<String> = difference(&before, &image.listing());
        assert!(
            others.iter().all(|line| line.contains("fstab")),
            "{others:?}"
        );
        let again = image.run("uninstall", &[]);
        assert_eq!(again.code, 0, "{again}");
    }
}

fn a_configuration_that_was_there_before_stays() {
    let shipped = include_str!("../../../packaging/vmstage.toml");
    let image = Image::old(Init::Systemd);
    image.write("/etc/vmstage.toml", shipped);
    let before = image.listing();
    image.install(&["--replace-old"]);
    image.install(&[]);
    // Also where it is done twice.
    for _ in 0..2 {
        let run = image.run("uninstall", &[]);
        let said = "/etc/vmstage.toml stays: it was there before";
        assert!(run.code == 0 && run.stdout.contains(said), "{run}");
        assert_eq!(difference(&before, &image.listing()), [""; 0], "{run}");
    }
}

fn a_package_is_left_to_its_manager() {
    let image = Image::old(Init::Systemd);
    image.install(&[]);
    image.write(
        "/var/lib/dpkg/status",
        "Package: vmstage\nStatus: install ok installed\n",
    );
    let before = image.listing();
    let run = image.run("uninstall", &[]);
    assert!(run.code == 1 && run.stderr.contains("dpkg"), "{run}");
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
    assert_eq!(image.run("uninstall", &["--force"]).code, 0);
    assert!(!image.exists("/usr/sbin/vmstage"));
}

fn packages_have_the_files_kept() {
    let image = Image::old(Init::Systemd);
    image.write("/etc/motd", "");
    image.install(&[]);
    let before = image.listing();
    publish(&image);
    image.write(
        "/var/lib/dpkg/status",
        "Package: vmstage\nStatus: install ok installed\n",
    );
    let run = image.run("uninstall", &["--keep-files"]);
    assert_eq!(run.code, 0, "{run}");
    let left = difference(&before, &image.listing());
    assert!(
        left.iter()
            .any(|path| path.starts_with("/var/lib/vmstage/")),
        "{left:?}"
    );
    let told = |path: &&String| path.starts_with("/etc/") && path.contains("vmstage");
    assert_eq!(left.iter().filter(told).count(), 0, "{left:?}");
}

fn a_dry_run_of_it_changes_nothing() {
    let image = Image::old(Init::Insserv);
    image.install(&["--replace-old"]);
    let before = image.listing();
    let rehearsed = image.run("uninstall", &["--dry-run"]);
    assert_eq!(rehearsed.code, 0, "{rehearsed}");
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
    let run = image.run("uninstall", &[]);
    let lines: Vec<_> = run.stdout.lines().collect();
    let (last, others) = lines.split_last().unwrap();
    assert!(last.starts_with("vmstage is taken out of "), "{run}");
    for line in others {
        assert!(rehearsed.stdout.contains(line), "nothing said of: {line}");
    }
}

fn what_is_killed_while_it_uninstalls_is_completed_by_the_next_run() {
    let binary = scratch_file();
    let old = || {
        let image = Image::old(Init::Insserv);
        let before = image.listing();
        fs::write(&binary, super::old::OTHER_VMSTAGE).unwrap();
        image.install(&["--replace-old", "--binary", binary.to_str().unwrap()]);
        (image, before)
    };
    let calls = {
        let (image, _) = old();
        count(Calls::Changes, image.silent("uninstall", &[])).system_calls
    };
    for nth in 1..=calls {
        let (image, before) = old();
        let killed = kill_before(nth, Calls::Changes, image.silent("uninstall", &[]));
        let again = image.run("uninstall", &[]);
        assert_eq!(again.code, 0, "{again}");
        let left = difference(&before, &image.listing());
        assert_eq!(left, [""; 0], "killed before {:?}", killed.killed_before);
    }
    fs::remove_file(binary).unwrap();
}

fn a_tree_without_vmstage_stays_as_it_is() {
    for init in EVERY_INIT {
        let image = Image::old(init);
        let before = image.listing();
        let run = image.run("uninstall", &[]);
        let said = format!("vmstage is not in {}\n", image.root().display());
        assert_eq!((run.code, &run.stdout), (0, &said), "{run}");
        assert_eq!(difference(&before, &image.listing()), [""; 0]);
    }
}

fn a_file_that_cannot_be_read_keeps_no_other_from_being_undone() {
    for (file, init) in [
        ("/etc/fstab", Init::Systemd),
        ("/etc/rc.local", Init::Systemd),
        ("/etc/motd", Init::Systemd),
        ("/etc/machinefeatures/.vmstage", Init::Systemd),
        ("/etc/init.d/.depend.start", Init::Insserv),
        ("/etc/init.d/.depend.stop", Init::Insserv),
    ] {
        for options in [&[][..], &["--replace-old"]] {
            let image = Image::old(init);
            image.write("/etc/motd", "");
            image.directory("/etc/condor/config.d");
            image.install(options);
            publish(&image);
            let whole = fs::read(image.path(file)).unwrap();
            fs::remove_file(image.path(file)).unwrap();
            mkfifo(&image.path(file), Mode::S_IRWXU).unwrap();
            if file == "/etc/motd" {
                // One that cannot be read is none of vmstage's.
                fs::remove_file(image.path(file)).unwrap();
                image.write(file, vec![b'x'; (1 << 20) + 1]);
            }
            let run = image.run("uninstall", &[]);
            assert_eq!(run.code, 1, "{file}: {run}");
            let first = run.stdout.lines().next();
            assert_eq!(first, Some("remove /etc/condor/config.d/99-vmstage.config"));
            assert!(run.stdout.contains(&format!("cannot read {file}")), "{run}");
            for gone in [
                "/usr/sbin/vmstage",
                "/var/lib/vmstage",
                "/etc/profile.d/vmstage.sh",
                "/etc/systemd/system/multi-user.target.wants/vmstage.service",
                "/etc/rc2.d/S01vmstage",
            ] {
                assert!(!image.exists(gone), "{file}: {gone}\n{run}");
            }
            // The rest is done once it can be read.
            fs::remove_file(image.path(file)).unwrap();
            fs::write(image.path(file), whole).unwrap();
            let run = image.run("uninstall", &[]);
            assert_eq!(run.code, 0, "{file}: {run}");
            assert_eq!(image.read("/etc/fstab"), FSTAB);
            assert!(!image.exists("/usr/share/doc/vmstage"), "{file}: {run}");
        }
    }
}
