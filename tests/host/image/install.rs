//! vmstage install.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use super::old::{EVERY_INIT, FSTAB, Image, Init, RC_LOCAL, Run, difference};
use crate::common::tracer::{Calls, count, kill_before};
use crate::common::{copy_program, need_root, private_mounts, program, scratch_file, skip, tool};

claims![
    the_files_of_an_image_are_those_that_its_init_needs,
    each_init_is_enabled_by_its_own_links,
    a_run_level_that_is_a_link_has_links_that_lead_to_the_script,
    a_second_run_changes_nothing,
    a_dry_run_lists_all_and_changes_nothing,
    what_staged_the_disk_before_is_taken_out_and_kept_beside,
    and_stays_without_being_asked_for,
    what_is_changed_is_called_by_selinux_what_it_was,
    what_is_changed_keeps_its_attributes_and_its_list_of_access,
    other_lines_of_the_old_files_stay_byte_for_byte,
    an_existing_configuration_stays,
    a_wrong_configuration_stops_replacing_and_nothing_else,
    commands_of_rc_local_that_start_vmstage_are_enough,
    where_htcondor_would_have_to_be_renumbered_it_says_what_to_run,
    a_package_is_not_overwritten_unless_forced,
    what_lies_where_nothing_looks_is_named,
    with_a_package_only_what_is_there_is_enabled,
    a_package_without_its_documentation_is_enabled,
    a_number_below_the_usual_one_survives_chkconfig,
    a_dry_run_says_what_a_run_would_come_to,
    every_run_ends_with_the_findings,
    the_init_that_is_said_counts_for_the_findings_as_well,
    what_it_puts_there_is_what_make_installs_and_packages_have,
    an_image_for_another_processor_needs_its_own_binary,
    a_link_that_leads_out_is_refused_and_nothing_is_written_there,
    an_absolute_link_leads_to_the_image_and_not_to_this_machine,
    what_is_no_root_directory_is_refused,
    this_machine_itself_has_to_be_meant,
    this_machine_itself_is_only_for_root,
    a_file_system_that_is_read_only_or_full_is_said_and_keeps_what_it_had,
    files_that_could_hold_it_do_not,
    names_that_are_no_text_are_left_alone,
    another_installation_at_the_same_time_is_refused,
    what_is_killed_in_the_middle_is_completed_by_the_next_run,
    what_is_killed_in_the_middle_can_be_undone_whole,
    a_system_that_nobody_has_heard_of_is_told_what_to_put_where,
    systemd_that_is_not_there_is_said_and_gets_its_units,
];

/// What every image gets.
const COMMON: &[&str] = &[
    "/etc/vmstage.toml",
    "/usr/sbin/vmstage",
    "/usr/share/bash-completion/completions/vmstage",
    "/usr/share/doc/vmstage/50-vmstage",
    "/usr/share/doc/vmstage/rc.local.sl",
    "/usr/share/doc/vmstage/rc.local.ubuntu",
    "/usr/share/doc/vmstage/vmstage.toml",
    "/usr/share/fish/vendor_completions.d/vmstage.fish",
    "/usr/share/man/man5/vmstage.toml.5",
    "/usr/share/man/man8/vmstage.8",
    "/usr/share/zsh/site-functions/_vmstage",
];
const UNITS: &[&str] = &[
    "/usr/lib/systemd/system-preset/80-vmstage.preset",
    "/usr/lib/systemd/system/condor.service.d/vmstage.conf",
    "/usr/lib/systemd/system/vmstage-watch.service",
    "/usr/lib/systemd/system/vmstage.service",
];

fn the_files_of_an_image_are_those_that_its_init_needs() {
    for init in EVERY_INIT {
        let image = Image::old(init);
        image.install(&[]);
        let others: &[&str] = match init {
            Init::Systemd => UNITS,
            Init::Busybox => &[],
            _ => &["/etc/init.d/vmstage"],
        };
        for path in COMMON.iter().chain(others) {
            assert!(image.exists(path), "{init:?}: no {path}");
        }
        let has_units = image.exists("/usr/lib/systemd/system/vmstage.service");
        assert_eq!(has_units, init == Init::Systemd);
        let has_script = image.exists("/etc/init.d/vmstage");
        assert_eq!(has_script, ![Init::Systemd, Init::Busybox].contains(&init));
        let installed = fs::read(image.path("/usr/sbin/vmstage")).unwrap();
        assert!(installed == fs::read(program()).unwrap(), "another program");
    }
}

fn each_init_is_enabled_by_its_own_links() {
    for (init, links) in [
        (
            Init::Systemd,
            &[
                "/etc/systemd/system/multi-user.target.wants/vmstage-watch.service",
                "/etc/systemd/system/multi-user.target.wants/vmstage.service",
            ][..],
        ),
        (
            Init::Chkconfig,
            // condor has 50.
            &[
                "/etc/rc.d/rc0.d/K02vmstage",
                "/etc/rc.d/rc1.d/K02vmstage",
                "/etc/rc.d/rc2.d/S49vmstage",
                "/etc/rc.d/rc3.d/S49vmstage",
                "/etc/rc.d/rc4.d/S49vmstage",
                "/etc/rc.d/rc5.d/S49vmstage",
                "/etc/rc.d/rc6.d/K02vmstage",
            ],
        ),
        (
            Init::Insserv,
            &[
                "/etc/rc1.d/K01vmstage",
                "/etc/rc2.d/S01vmstage",
                "/etc/rc3.d/S01vmstage",
                "/etc/rc4.d/S01vmstage",
                "/etc/rc5.d/S01vmstage",
            ],
        ),
        (
            Init::Suse,
            &[
                "/etc/init.d/rc2.d/S05vmstage",
                "/etc/init.d/rc3.d/S05vmstage",
                "/etc/init.d/rc4.d/S05vmstage",
                "/etc/init.d/rc5.d/S05vmstage",
            ],
        ),
        (
            Init::Ubuntu,
            &[
                "/etc/rc1.d/K81vmstage",
                "/etc/rc2.d/S19vmstage",
                "/etc/rc3.d/S19vmstage",
                "/etc/rc4.d/S19vmstage",
                "/etc/rc5.d/S19vmstage",
            ],
        ),
        (Init::Busybox, &[]),
    ] {
        let image = Image::old(init);
        let before = image.listing();
        image.install(&[]);
        let after = image.listing();
        let made: Vec<String> = difference(&before, &after)
            .into_iter()
            .filter(|path| after[path].starts_with("120777"))
            .collect();
        assert_eq!(made, links, "{init:?}");
        for link in links {
            let to = fs::read_link(image.path(link)).unwrap();
            let expected = match init {
                Init::Systemd => format!(
                    "/usr/lib/systemd/system/{}",
                    link.rsplit('/').next().unwrap()
                ),
                Init::Suse => "../vmstage".into(),
                _ => "../init.d/vmstage".into(),
            };
            assert_eq!(to.to_str(), Some(expected.as_str()));
        }
        let run = image.run("check", &[]);
        assert!(!run.stdout.contains("error order-condor"), "{run}");
        if init == Init::Suse {
            assert_eq!(
                image.read("/etc/init.d/.depend.start"),
                "TARGETS = syslog vmstage condor cron\nINTERACTIVE =\n\
                 condor: syslog vmstage\ncron: syslog\nvmstage: syslog\n"
            );
        }
        if init == Init::Insserv {
            assert_eq!(
                image.read("/etc/init.d/.depend.start"),
                "TARGETS = rsyslog vmstage condor rc.local\nINTERACTIVE =\n\
                 condor: rsyslog vmstage\nrc.local: rsyslog condor\nvmstage: rsyslog\n"
            );
            let stop = image.read("/etc/init.d/.depend.stop");
            assert_eq!(stop, "TARGETS = rsyslog sendsigs vmstage\n");
        }
    }
}

/// A relative link would lead elsewhere from there.
fn a_run_level_that_is_a_link_has_links_that_lead_to_the_script() {
    let image = Image::old(Init::Ubuntu);
    fs::remove_dir(image.path("/etc/rc2.d")).unwrap();
    image.directory("/lib/rc/two");
    image.link("/etc/rc2.d", "/lib/rc/two");
    let before = image.listing();
    image.install(&[]);
    let to = |link| fs::read_link(image.path(link)).unwrap();
    assert_eq!(
        to("/lib/rc/two/S19vmstage").to_str(),
        Some("/etc/init.d/vmstage")
    );
    assert_eq!(
        to("/etc/rc5.d/S19vmstage").to_str(),
        Some("../init.d/vmstage")
    );
    let run = image.run("check", &[]);
    assert!(!run.stdout.contains("enabled-"), "{run}");
    let run = image.run("uninstall", &[]);
    assert_eq!(difference(&before, &image.listing()), [""; 0], "{run}");
}

fn a_second_run_changes_nothing() {
    for init in EVERY_INIT {
        let image = Image::old(init);
        image.install(&["--replace-old"]);
        let before = image.listing();
        let again = image.install(&["--replace-old"]);
        assert_eq!(difference(&before, &image.listing()), [""; 0], "{init:?}");
        assert!(!again.stdout.contains("write "), "{again}");
    }
}

fn a_dry_run_lists_all_and_changes_nothing() {
    for init in EVERY_INIT {
        let image = Image::old(init);
        let before = image.listing();
        let rehearsed = image.install(&["--replace-old", "--dry-run"]).stdout;
        assert_eq!(difference(&before, &image.listing()), [""; 0], "{init:?}");
        assert!(rehearsed.contains("nothing was changed"), "{rehearsed}");
        let done = image.install(&["--replace-old"]).stdout;
        // It ends with what `check` says.
        let is_finding = |line: &&str| {
            let severities = ["error ", "warning ", "note "];
            severities.iter().any(|severity| line.starts_with(severity))
        };
        assert!(done.lines().any(|line| is_finding(&line)), "{done}");
        for line in done.lines().filter(|line| !is_finding(line)) {
            assert!(
                rehearsed.contains(line),
                "{init:?}: nothing said of: {line}"
            );
        }
    }
}

fn what_staged_the_disk_before_is_taken_out_and_kept_beside() {
    for init in EVERY_INIT {
        let image = Image::old(init);
        image.install(&["--replace-old"]);
        assert_eq!(
            image.read("/etc/fstab"),
            "LABEL=root / ext4 defaults 0 0\n# end\n"
        );
        assert_eq!(image.read("/etc/fstab.before-vmstage"), FSTAB);
        let rc_local = match init {
            Init::Chkconfig => "/etc/rc.d/rc.local",
            _ => "/etc/rc.local",
        };
        assert_eq!(
            image.read(rc_local),
            "#!/bin/sh\n# This script is run last.\ntouch /var/lock/subsys/local\nexit 0\n"
        );
        let listed = image.listing();
        assert!(
            listed[rc_local].starts_with("100755"),
            "its mode is another"
        );
        assert_eq!(image.read(&format!("{rc_local}.before-vmstage")), RC_LOCAL);
        assert!(!image.exists("/etc/init.d/mount_staging"));
        // Whatever runs all scripts of that directory passes it over.
        let kept = match init {
            Init::Chkconfig => "/etc/rc.d/init.d/mount_staging.before-vmstage",
            _ => "/etc/init.d/mount_staging.before-vmstage",
        };
        assert!(listed[kept].starts_with("100644"), "{}", listed[kept]);
    }
}

fn what_is_changed_is_called_by_selinux_what_it_was() {
    need_root();
    let image = Image::old(Init::Systemd);
    let python = |script: &str| {
        let mut command = Command::new(tool("python3"));
        let done = command.args(["-c", script]).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let file = image.path("/etc/fstab");
    let file = file.display();
    let attribute = format!("import os; a = '{file}', 'security.selinux'; ");
    let set = python(&format!(
        "{attribute}os.setxattr(*a, b'system_u:object_r:etc_t:s0\\0'); print('set')"
    ));
    if set != "set\n" {
        skip("this file system keeps no labels");
    }
    image.install(&["--replace-old"]);
    assert_ne!(image.read("/etc/fstab"), FSTAB);
    let label = python(&format!("{attribute}print(os.getxattr(*a))"));
    assert_eq!(label, "b'system_u:object_r:etc_t:s0\\x00'\n");
}

fn what_is_changed_keeps_its_attributes_and_its_list_of_access() {
    need_root();
    let image = Image::old(Init::Systemd);
    let python = |script: &str| {
        let script = format!(
            "import os, struct\nfiles = {:?}, {:?}\n\
             acl = struct.pack('<I' + 'HHI' * 5, 2, 1, 6, -1 & 0xffffffff, 2, 4, 1234, 4, 4, \
             -1 & 0xffffffff, 16, 4, -1 & 0xffffffff, 32, 4, -1 & 0xffffffff)\n\
             names = {{'user.note': b'mine', 'system.posix_acl_access': acl}}\n{script}",
            image.path("/etc/fstab"),
            image.path("/etc/rc.local")
        );
        let mut command = Command::new(tool("python3"));
        let done = command.args(["-c", &script]).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let set = "[os.setxattr(f, n, v) for f in files for n, v in names.items()]; print('set')";
    if python(set) != "set\n" {
        skip("this file system keeps no attributes");
    }
    let look = "print(all(os.getxattr(f, n) == v for f in files for n, v in names.items()))";
    image.install(&["--replace-old"]);
    assert_ne!(image.read("/etc/fstab"), FSTAB);
    assert_eq!(python(look), "True\n");
    assert_eq!(image.run("uninstall", &[]).code, 0);
    assert_eq!(image.read("/etc/fstab"), FSTAB);
    assert_eq!(python(look), "True\n");
}

fn and_stays_without_being_asked_for() {
    let image = Image::old(Init::Systemd);
    image.install(&[]);
    assert_eq!(image.read("/etc/fstab"), FSTAB);
    assert_eq!(image.read("/etc/rc.local"), RC_LOCAL);
    assert!(image.exists("/etc/init.d/mount_staging"));
}

fn other_lines_of_the_old_files_stay_byte_for_byte() {
    let image = Image::old(Init::Insserv);
    let fstab = b"# caf\xe9\r\n/dev/vdb /mnt auto defaults,nofail,comment=cloudconfig 0 2\n\
                  LABEL=ephemeral0 /staging auto nofail 0 0\n/dev/vdb\t/staging ext4\n/dev/sdb swap swap";
    image.write("/etc/fstab", fstab);
    let rc_local = "#!/bin/sh -e\nif true; then\n    mkdir -p /staging/condor\nfi\n\
                    mkdir -p /staging/results\nmkdir -p /staging/tmp || true\n mkdir /staging/tmp\nexit 0";
    image.write("/etc/rc.local", rc_local);
    image.install(&["--replace-old"]);
    let left = fs::read(image.path("/etc/fstab")).unwrap();
    let gone = b"/dev/vdb\t/staging ext4\n";
    assert_eq!(left.len(), fstab.len() - gone.len());
    assert!(
        left.starts_with(b"# caf\xe9\r\n") && left.ends_with(b"nofail 0 0\n/dev/sdb swap swap")
    );
    assert_eq!(
        image.read("/etc/rc.local"),
        rc_local.replace(" mkdir /staging/tmp\n", "")
    );
}

fn an_existing_configuration_stays() {
    let image = Image::old(Init::Systemd);
    let mine = "[staging]\nmount_point = \"/scratch\"\n";
    image.write("/etc/vmstage.toml", mine);
    image.write(
        "/etc/fstab",
        "/dev/sdb /staging ext2\n/dev/sdb /scratch ext2\n",
    );
    image.install(&["--replace-old"]);
    assert_eq!(image.read("/etc/vmstage.toml"), mine);
    assert!(
        image
            .read("/usr/share/doc/vmstage/vmstage.toml")
            .contains("#: [staging]")
    );
    let drop_in = image.read("/usr/lib/systemd/system/condor.service.d/vmstage.conf");
    assert!(drop_in.contains("After=scratch.mount\n"), "{drop_in}");
    // What is old is so for the image's own mount point.
    assert_eq!(image.read("/etc/fstab"), "/dev/sdb /staging ext2\n");
}

fn a_wrong_configuration_stops_replacing_and_nothing_else() {
    let image = Image::old(Init::Systemd);
    image.write("/etc/vmstage.toml", "[staging]\nmuont_point = 1\n");
    let before = image.listing();
    let run = image.run("install", &["--replace-old"]);
    assert_eq!(run.code, 6, "{run}");
    let whose = format!("in the image {}, /etc/vmstage.toml", image.root().display());
    for words in [&whose, "nothing was changed"] {
        assert!(run.stderr.contains(words), "{run}");
    }
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
    let run = image.install(&[]);
    assert!(run.stderr.contains("muont_point"), "{run}");
}

fn commands_of_rc_local_that_start_vmstage_are_enough() {
    for init in [Init::Systemd, Init::Chkconfig, Init::Insserv] {
        let image = Image::old(init);
        let shipped = "sysvinit/rc.local.sl";
        let snippet =
            fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(shipped));
        let rc_local = match init {
            Init::Chkconfig => "/etc/rc.d/rc.local",
            _ => "/etc/rc.local",
        };
        image.write(rc_local, format!("#!/bin/sh\n{}", snippet.unwrap()));
        let run = image.install(&[]);
        assert!(run.stdout.contains("starts vmstage already"), "{run}");
        let names = image.listing();
        let links = names
            .keys()
            .filter(|path| path.contains("vmstage") && names[*path].starts_with("120777"));
        assert_eq!(links.count(), 0, "{init:?}");
    }
}

fn where_htcondor_would_have_to_be_renumbered_it_says_what_to_run() {
    let image = Image::old(Init::Insserv);
    for level in "2345".chars() {
        fs::remove_file(image.path(&format!("/etc/rc{level}.d/S02condor"))).unwrap();
        image.link(&format!("/etc/rc{level}.d/S01condor"), "../init.d/condor");
    }
    let depend = image.read("/etc/init.d/.depend.start");
    let run = image.run("install", &[]);
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stderr.contains("update-rc.d vmstage defaults"), "{run}");
    assert_eq!(image.read("/etc/init.d/.depend.start"), depend);
    // What is to be run needs the script.
    assert!(image.exists("/etc/init.d/vmstage"));
    assert!(!image.exists("/etc/rc2.d/S01vmstage"));
}

fn a_package_is_not_overwritten_unless_forced() {
    let status = "Package: vmstage\nStatus: install ok installed\n";
    for (database, content, manager) in [
        ("/var/lib/dpkg/status", status, "dpkg"),
        ("/var/lib/rpm/Packages", "C\0vmstage\x000.1.0\0", "rpm"),
    ] {
        let image = Image::old(Init::Systemd);
        image.write(database, content);
        image.write("/usr/sbin/vmstage", "of the package");
        let before = image.listing();
        let run = image.run("install", &[]);
        assert_eq!(run.code, 1, "{run}");
        assert!(
            run.stderr.contains(manager) && run.stderr.contains("--force"),
            "{run}"
        );
        assert_eq!(difference(&before, &image.listing()), [""; 0]);
        image.install(&["--force"]);
    }
}

/// A package of which this is all that is there.
fn package(init: Init) -> Image {
    let image = Image::old(init);
    image.write(
        "/var/lib/dpkg/status",
        "Package: vmstage\nStatus: install ok installed\n",
    );
    image.install(&["--force"]);
    let after = image.listing();
    let is_link = |path: &&String| path.contains("vmstage") && after[*path].starts_with("120777");
    for path in after.keys().filter(is_link) {
        fs::remove_file(image.path(path)).unwrap();
    }
    for path in [
        "/usr/share/doc/vmstage/directories",
        "/etc/chkconfig.d/vmstage",
    ] {
        fs::remove_file(image.path(path)).ok();
    }
    image
}

fn what_lies_where_nothing_looks_is_named() {
    let image = Image::old(Init::Systemd);
    image.write("/usr/local/sbin/vmstage", super::old::OTHER_VMSTAGE);
    let run = image.run("install", &["--enable-only"]);
    assert_eq!(run.code, 1, "{run}");
    assert!(
        run.stderr.contains("there is /usr/local/sbin/vmstage in")
            && run.stderr.contains("PREFIX=/usr\n"),
        "{run}"
    );
}

fn with_a_package_only_what_is_there_is_enabled() {
    for init in EVERY_INIT {
        let image = package(init);
        let before = image.listing();
        let run = image.run("install", &["--enable-only"]);
        if init == Init::Busybox {
            assert_eq!(run.code, 1, "{run}");
            assert!(run.stderr.contains("rc.local.sl"), "{run}");
            continue;
        }
        assert_eq!(run.code, 0, "{run}");
        for id in ["enabled-", "order-condor", "depend-stale"] {
            assert!(!run.stdout.contains(id), "{init:?}: {run}");
        }
        let is_expected = |path: &String| {
            let places = [
                "/etc/rc",
                "/etc/systemd/",
                "/etc/init.d/.depend.",
                "/etc/init.d/rc",
                "/etc/chkconfig.d",
            ];
            places.iter().any(|place| path.starts_with(place))
        };
        let made = difference(&before, &image.listing());
        assert!(!made.is_empty() && made.iter().all(is_expected), "{made:?}");
        // Again there is nothing to do.
        let after = image.listing();
        assert_eq!(image.run("install", &["--enable-only"]).code, 0);
        assert_eq!(difference(&after, &image.listing()), [""; 0]);
    }
    let image = Image::old(Init::Systemd);
    let before = image.listing();
    let run = image.run("install", &["--enable-only"]);
    assert!(
        run.code == 1 && run.stderr.contains("could be enabled"),
        "{run}"
    );
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
    let run = image.run("install", &["--enable-only", "--force"]);
    assert_eq!(run.code, 2, "{run}");
}

/// `rpm --excludedocs`, `path-exclude=/usr/share/doc/*`; and who has no HTCondor needs no drop-in.
fn a_package_without_its_documentation_is_enabled() {
    for init in [Init::Systemd, Init::Chkconfig, Init::Insserv] {
        let image = package(init);
        for directory in ["doc", "man", "bash-completion", "zsh", "fish"] {
            fs::remove_dir_all(image.path(&format!("/usr/share/{directory}"))).ok();
        }
        let run = image.run("install", &["--enable-only"]);
        assert_eq!(run.code, 0, "{init:?}: {run}");
        assert!(run.stdout.contains("starts at the next boot"), "{run}");
        assert!(!run.stdout.contains("error enabled-"), "{run}");
    }
    let drop_in = "/usr/lib/systemd/system/condor.service.d/vmstage.conf";
    let image = package(Init::Systemd);
    fs::remove_file(image.path(drop_in)).unwrap();
    let run = image.run("install", &["--enable-only"]);
    assert_eq!(run.code, 0, "{run}");
    assert!(
        run.stdout.contains(&format!("there is no {drop_in}")),
        "{run}"
    );
    // What starts it is not to be done without.
    for path in [
        "/usr/sbin/vmstage",
        "/usr/lib/systemd/system/vmstage.service",
        "/usr/lib/systemd/system/vmstage-watch.service",
    ] {
        let image = package(Init::Systemd);
        fs::remove_file(image.path(path)).unwrap();
        let run = image.run("install", &["--enable-only"]);
        let said = format!("there is no {path}");
        assert!(run.code == 1 && run.stderr.contains(&said), "{run}");
    }
}

/// chkconfig(8) reads it instead of the header of the script.
fn a_number_below_the_usual_one_survives_chkconfig() {
    const OVERRIDE: &str = "/etc/chkconfig.d/vmstage";
    let image = Image::old(Init::Chkconfig);
    image.install(&[]);
    assert_eq!(image.read(OVERRIDE), "# chkconfig: 2345 49 02\n");
    assert_eq!(image.run("uninstall", &[]).code, 0);
    assert!(!image.exists("/etc/chkconfig.d"));
    for level in "2345".chars() {
        let link = image.path(&format!("/etc/rc.d/rc{level}.d/S50condor"));
        fs::rename(&link, link.with_file_name("S98condor")).unwrap();
    }
    image.install(&[]);
    assert!(!image.exists(OVERRIDE));
}

fn a_dry_run_says_what_a_run_would_come_to() {
    let image = package(Init::Systemd);
    let run = image.run("install", &["--dry-run"]);
    assert!(
        run.code == 1 && run.stderr.contains("nothing is installed"),
        "{run}"
    );
    let run = image.run("install", &["--dry-run", "--enable-only"]);
    assert!(run.stdout.contains("vmstage.service to "), "{run}");
    let run = image.run("install", &["--dry-run", "--force"]);
    assert!(run.stdout.contains("are in place already"), "{run}");
    assert!(!run.stdout.contains("write /usr/sbin"), "{run}");
    // Where HTCondor's number leaves no room.
    let image = Image::old(Init::Insserv);
    for level in "2345".chars() {
        let link = image.path(&format!("/etc/rc{level}.d/S02condor"));
        fs::rename(&link, link.with_file_name("S01condor")).unwrap();
    }
    let run = image.run("install", &["--dry-run"]);
    assert!(
        run.code == 1 && run.stderr.contains("would be in place, but"),
        "{run}"
    );
    let run = image.run("install", &[]);
    assert!(
        run.code == 1 && run.stderr.contains("are in place, but"),
        "{run}"
    );
    let run = image.run("install", &["--dry-run"]);
    assert!(
        run.code == 1 && run.stderr.contains("are in place, but"),
        "{run}"
    );
    assert!(run.stdout.contains("are in place already"), "{run}");
}

fn every_run_ends_with_the_findings() {
    let late = Image::old(Init::Insserv);
    for level in "2345".chars() {
        let link = late.path(&format!("/etc/rc{level}.d/S02condor"));
        fs::rename(&link, link.with_file_name("S01condor")).unwrap();
    }
    let commands = Image::old(Init::Systemd);
    commands.write("/etc/rc.local", "#!/bin/sh\nvmstage boot\n");
    for (image, code) in [
        (Image::old(Init::Systemd), 0),
        (Image::old(Init::Busybox), 1),
        (commands, 0),
        (late, 1),
        (package(Init::Systemd), 1),
    ] {
        let run = image.run("install", &[]);
        assert_eq!(run.code, code, "{run}");
        let findings = image.run("check", &[]).stdout;
        assert!(findings.contains("error old-fstab"), "{findings}");
        assert!(run.stdout.ends_with(&findings), "{run}\nand\n{findings}");
    }
}

fn the_init_that_is_said_counts_for_the_findings_as_well() {
    let image = Image::at(scratch_file(), Init::Systemd);
    image.write("/bin/sh", super::old::ELF);
    fs::remove_file(image.path("/sbin/init")).unwrap();
    let run = image.install(&["--init", "systemd"]);
    assert!(!run.stdout.contains("enabled-"), "{run}");
    let image = Image::old(Init::Busybox);
    let run = image.install(&["--init", "systemd"]);
    assert!(!run.stdout.contains("enabled-"), "{run}");
}

/// Packages and the tarball are made of what `make install` puts.
fn what_it_puts_there_is_what_make_installs_and_packages_have() {
    let makefile = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile");
    let makefile = fs::read_to_string(makefile).unwrap();
    let mut expected: Vec<String> = makefile
        .lines()
        .filter_map(|line| {
            let call = line.trim().strip_prefix("$(call put")?;
            let call = call.trim_end_matches([')', ';', '\\', ' ']);
            let mut fields = call.split(',').skip(1);
            let mode = fields.next()?;
            let place = fields.nth(1)?.replace("$(PREFIX)", "/usr");
            Some(format!("{mode} {place}"))
        })
        .collect();
    expected.sort();
    let mut put: Vec<String> = Vec::new();
    for init in [Init::Systemd, Init::Ubuntu] {
        let image = Image::at(scratch_file(), init);
        image.write("/bin/sh", super::old::ELF);
        let before = image.listing();
        image.install(&[]);
        let after = image.listing();
        let files = difference(&before, &after).into_iter();
        let files = files.filter(|path| after[path].starts_with("100"));
        let files = files.filter(|path| path != "/usr/share/doc/vmstage/directories");
        put.extend(files.map(|path| format!("{} {path}", &after[&path][3..6])));
    }
    put.sort();
    put.dedup();
    assert!(expected.len() > 14, "{expected:?}");
    assert_eq!(put, expected);
}

fn an_image_for_another_processor_needs_its_own_binary() {
    let image = Image::old(Init::Systemd);
    let mut elf = fs::read(image.path("/bin/sh")).unwrap();
    elf[18] = 0xb7;
    for path in ["/bin/sh", "/usr/lib/systemd/systemd"] {
        image.write(path, &elf);
    }
    let run = image.run("install", &[]);
    assert_eq!(run.code, 1, "{run}");
    assert!(
        run.stderr.contains("for aarch64") && run.stderr.contains("--binary"),
        "{run}"
    );
    let binary = scratch_file();
    fs::write(&binary, &elf).unwrap();
    let run = image.run("install", &["--binary", binary.to_str().unwrap()]);
    assert!(
        run.code == 1 && run.stderr.contains("is no vmstage"),
        "{run}"
    );
    assert!(!image.exists("/usr/sbin/vmstage"));
    let run = image.run("install", &["--binary", "/not/there"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run}");
    // As each vmstage has it in itself.
    elf.extend(b"/etc/vmstage.toml");
    fs::write(&binary, &elf).unwrap();
    image.install(&["--binary", binary.to_str().unwrap()]);
    assert!(fs::read(image.path("/usr/sbin/vmstage")).unwrap() == elf);
    fs::write(&binary, "#!/bin/sh\n").unwrap();
    let run = image.run("install", &["--binary", binary.to_str().unwrap()]);
    assert!(
        run.code == 1 && run.stderr.contains("is no program"),
        "{run}"
    );
    fs::remove_file(binary).unwrap();
}

fn a_link_that_leads_out_is_refused_and_nothing_is_written_there() {
    let outside = scratch_file();
    fs::create_dir(&outside).unwrap();
    let name = outside.file_name().unwrap().to_str().unwrap();
    let up = "../".repeat(20);
    for (path, text) in [
        ("/usr/sbin", format!("../../{name}")),
        ("/usr/share", format!("{up}{}", outside.display())),
        ("/etc/systemd", format!("../../{name}")),
    ] {
        let image = Image::old(Init::Systemd);
        fs::remove_dir_all(image.path(path)).ok();
        image.link(path, &text);
        let run = image.run("install", &[]);
        assert_eq!(run.code, 1, "{path}: {run}");
        assert!(run.stderr.contains("leads out of it"), "{path}: {run}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{path}");
    }
    fs::remove_dir(outside).unwrap();
}

/// Enterprise Linux has `/etc/init.d` as a link, and some have it as an absolute one.
fn an_absolute_link_leads_to_the_image_and_not_to_this_machine() {
    let outside = scratch_file();
    fs::create_dir(&outside).unwrap();
    let image = Image::old(Init::Busybox);
    fs::remove_dir(image.path("/usr/sbin")).unwrap();
    // The directory is there on this machine, too.
    image.link("/usr/sbin", outside.to_str().unwrap());
    image.install(&[]);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(image.exists(&format!("{}/vmstage", outside.display())));
    fs::remove_dir(outside).unwrap();
}

fn what_is_no_root_directory_is_refused() {
    let directory = scratch_file();
    fs::create_dir(&directory).unwrap();
    let pipe = directory.join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let image = Image::old(Init::Systemd);
    for (root, words) in [
        (directory.clone(), "not the root directory of a system"),
        (directory.join("none"), "No such file"),
        (image.path("/etc/fstab"), "Not a directory"),
        (pipe.clone(), "Not a directory"),
    ] {
        let output = Command::new(program())
            .arg("install")
            .arg("--root")
            .arg(&root)
            .output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
    }
    fs::remove_dir_all(directory).unwrap();
}

fn this_machine_itself_is_only_for_root() {
    use std::os::unix::process::CommandExt;
    need_root();
    let copy = scratch_file();
    copy_program(&program(), &copy);
    for command in ["install", "uninstall"] {
        let output = Command::new(&copy)
            .args([command, "--root", "/"])
            .uid(65_534)
            .output();
        let run: Run = output.unwrap().into();
        let words = format!("{command} --root / must be run as root");
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run}");
        assert!(run.stderr.contains(&words), "{run}");
    }
    fs::remove_file(copy).unwrap();
}

fn this_machine_itself_has_to_be_meant() {
    let link = scratch_file();
    symlink("/", &link).unwrap();
    for root in [link.to_str().unwrap(), "//", "/proc/self/root"] {
        let mut command = Command::new(program());
        // If it were taken for one, nothing would be written.
        let output = command
            .args(["install", "--dry-run", "--root", root])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{root}: {said}");
        assert!(said.contains("say --root /"), "{said}");
    }
    fs::remove_file(link).unwrap();
}

fn a_file_system_that_is_read_only_or_full_is_said_and_keeps_what_it_had() {
    private_mounts();
    let directory = scratch_file();
    fs::create_dir(&directory).unwrap();
    mount(
        Some("tmpfs"),
        &directory,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=1M"),
    )
    .unwrap();
    let image = Image::at(directory.join("image"), Init::Systemd);
    let before = image.listing();
    let full = image.run("install", &[]);
    assert_eq!(full.code, 1, "{full}");
    for words in [
        "cannot write /usr/sbin/vmstage",
        "No space left",
        "run again",
    ] {
        assert!(full.stderr.contains(words), "{full}");
    }
    let is_of_ours = |path: &String| path.starts_with("/usr/share");
    let left: Vec<String> = difference(&before, &image.listing());
    assert!(left.iter().all(is_of_ours), "{left:?}");

    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(
        None::<&str>,
        &directory,
        None::<&str>,
        read_only,
        None::<&str>,
    )
    .unwrap();
    let run = image.run("install", &[]);
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stderr.contains("Read-only file system"), "{run}");
    mount(
        None::<&str>,
        &directory,
        None::<&str>,
        MsFlags::MS_REMOUNT,
        Some("size=100M"),
    )
    .unwrap();
    image.install(&[]);
}

fn files_that_could_hold_it_do_not() {
    need_root();
    let zero = |image: &Image, path: &str| {
        let number = makedev(1, 5);
        fs::remove_file(image.path(path)).ok();
        mknod(&image.path(path), SFlag::S_IFCHR, Mode::S_IRWXU, number).unwrap();
        let there = fs::metadata(image.path(path)).unwrap().file_type();
        assert!(there.is_char_device());
    };
    let fifo = |image: &Image, path: &str| {
        fs::remove_file(image.path(path)).ok();
        mkfifo(&image.path(path), Mode::S_IRWXU).unwrap();
    };
    let large = |image: &Image, path: &str| {
        let file = File::create(image.path(path)).unwrap();
        file.set_len(1 << 30).unwrap();
    };
    let circle = |image: &Image, path: &str| {
        fs::remove_file(image.path(path)).ok();
        image.link(path, path.rsplit('/').next().unwrap());
    };
    type Lay<'a> = &'a dyn Fn(&Image, &str);
    let kinds: [(&str, Lay); 4] = [
        ("a device", &zero),
        ("a pipe", &fifo),
        ("a gigabyte", &large),
        ("a circle", &circle),
    ];
    for (name, lay) in kinds {
        for path in [
            "/etc/fstab",
            "/etc/rc.local",
            "/etc/vmstage.toml",
            "/var/lib/dpkg/status",
        ] {
            let image = Image::old(Init::Insserv);
            image.directory("/var/lib/dpkg");
            lay(&image, path);
            let mut command = Command::new("timeout");
            command
                .arg("20")
                .arg(program())
                .args(["install", "--replace-old", "--root"]);
            let output = command.arg(image.root()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let code = output.status.code();
            // dpkg's own may be large.
            let may_be = path == "/var/lib/dpkg/status" && name == "a gigabyte";
            assert!(
                code == Some(1) || code == Some(6) || may_be,
                "{name} as {path}: {code:?} {said}"
            );
            assert!(may_be || said.contains(path), "{name} as {path}: {said}");
        }
    }
}

fn names_that_are_no_text_are_left_alone() {
    let image = Image::old(Init::Insserv);
    let name = OsStr::from_bytes(b"S01\xff\xfe");
    let link = image.path("/etc/rc2.d").join(name);
    symlink("../init.d/x", &link).unwrap();
    let mut rc_local = File::options()
        .append(true)
        .open(image.path("/etc/rc.local"))
        .unwrap();
    rc_local.write_all(b"echo \xff\n").unwrap();
    image.install(&["--replace-old"]);
    assert!(link.is_symlink());
    assert!(
        fs::read(image.path("/etc/rc.local"))
            .unwrap()
            .ends_with(b"exit 0\necho \xff\n")
    );
}

fn another_installation_at_the_same_time_is_refused() {
    let image = Image::old(Init::Systemd);
    let held = File::open(image.root()).unwrap();
    held.lock().unwrap();
    for command in ["install", "uninstall"] {
        let run = image.run(command, &[]);
        assert_eq!(run.code, 1, "{run}");
        assert!(run.stderr.contains("another vmstage is at work"), "{run}");
    }
    // Not by closing it: a child that another test forks meanwhile has it as well.
    held.unlock().unwrap();
    image.install(&[]);
}

/// Of a tree, each path with what it is.
type Listing = BTreeMap<String, String>;

/// Has an installation killed before each of its system calls that change something. `next` is
/// what comes then; afterwards the tree has to be as it says of one before an installation and one
/// after it.
fn killed_at_each_change(
    next: impl Fn(&Image, Command) -> Run,
    expected: impl Fn(Listing, Listing) -> Listing,
) {
    let binary = scratch_file();
    for init in [Init::Systemd, Init::Insserv] {
        let made = |image: &Image| {
            fs::write(&binary, super::old::OTHER_VMSTAGE).unwrap();
            let arguments = ["--replace-old", "--binary", binary.to_str().unwrap()];
            image.silent("install", &arguments)
        };
        let whole = Image::old(init);
        let before = whole.listing();
        let calls = count(Calls::Changes, made(&whole)).system_calls;
        let after = whole.listing();
        assert!(difference(&before, &after).len() > 10);
        let expected = expected(before, after);
        for nth in 1..=calls {
            let image = Image::old(init);
            let killed = kill_before(nth, Calls::Changes, made(&image));
            assert_eq!(killed.code, None);
            let run = next(&image, made(&image));
            assert_eq!(run.code, 0, "{run}");
            let left = difference(&expected, &image.listing());
            assert_eq!(
                left, [""; 0],
                "{init:?}, killed before {:?}: {run}",
                killed.killed_before
            );
        }
    }
    fs::remove_file(binary).unwrap();
}

fn what_is_killed_in_the_middle_is_completed_by_the_next_run() {
    let again = |_: &Image, mut made: Command| made.output().unwrap().into();
    killed_at_each_change(again, |_, after| after);
}

fn what_is_killed_in_the_middle_can_be_undone_whole() {
    let undo = |image: &Image, _| image.run("uninstall", &[]);
    killed_at_each_change(undo, |before, _| before);
}

fn a_system_that_nobody_has_heard_of_is_told_what_to_put_where() {
    let image = Image::old(Init::Busybox);
    let run = image.install(&[]);
    for words in ["/usr/sbin/vmstage boot", "/etc/inittab", "--init"] {
        assert!(run.stdout.contains(words), "{run}");
    }
    assert!(run.stderr.contains("it is not enabled"), "{run}");
    image.install(&["--init", "none"]);
    // It is said what starts services there.
    let run = image.install(&["--init", "systemd"]);
    let said = "--init says systemd, /sbin/init says none that is known: `vmstage check` goes by /sbin/init";
    assert!(run.stdout.trim_end().ends_with(said), "{run}");
    assert!(image.exists("/etc/systemd/system/multi-user.target.wants/vmstage.service"));
}

/// A separate `/usr` that is not mounted, a tree that is not whole.
fn systemd_that_is_not_there_is_said_and_gets_its_units() {
    let image = Image::old(Init::Chkconfig);
    fs::remove_file(image.path("/sbin/init")).unwrap();
    image.link("/sbin/init", "../lib/systemd/systemd");
    let run = image.install(&[]);
    assert!(run.stdout.contains("init: systemd\n"), "{run}");
    assert!(run.stdout.contains("systemd, which is not there"), "{run}");
    assert!(image.exists("/etc/systemd/system/multi-user.target.wants/vmstage.service"));
    assert!(!image.exists("/etc/rc.d/rc3.d/S85vmstage"));
}
