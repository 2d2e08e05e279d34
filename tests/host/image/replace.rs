//! What was there before vmstage: taken out by `install --replace-old`, found by `check`, and
//! put back by `uninstall`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::old::{EVERY_INIT, FSTAB, Image, Init, RC_LOCAL, Run, SCRIPT, difference};
use crate::common::need_root;

claims![
    a_caller_that_is_more_than_a_line_keeps_the_script_and_both_are_said,
    a_caller_elsewhere_keeps_the_script_as_well,
    times_attributes_and_hard_links_come_back,
    links_lines_modes_and_owners_come_back,
    the_first_copy_stays_and_where_a_later_one_is_kept_is_said,
    only_what_runs_starts_vmstage_for_install_and_for_check,
    an_rc_local_that_nothing_runs_is_no_error,
    directories_made_in_any_way_are_found_and_only_whole_lines_go,
    what_does_something_else_as_well_stays_and_is_named,
    each_cure_that_names_a_command_is_one,
    nothing_goes_where_vmstage_cannot_be_enabled,
    what_was_taken_out_comes_back_whatever_the_configuration_says_by_then,
    what_insserv_writes_in_between_keeps_the_order,
    a_script_that_is_a_file_of_a_run_level_goes_and_comes_back,
    a_fstab_that_is_a_link_is_changed_where_it_leads,
    one_that_leads_out_is_refused,
];

/// The findings with this id: their severities, places and cures.
fn findings(image: &Image, id: &str) -> Vec<(String, String, String)> {
    let run = image.run("check", &[]);
    let lines = run.stdout.lines().filter_map(|line| {
        let (severity, rest) = line.split_once(' ')?;
        let (found, rest) = rest.split_once(' ')?;
        let (place, rest) = rest.split_once(": ")?;
        let (_, cure) = rest.split_once("; do: ")?;
        (found == id).then(|| (severity.into(), place.into(), cure.into()))
    });
    lines.collect()
}

fn places(image: &Image, id: &str, severity: &str) -> Vec<String> {
    let found = findings(image, id).into_iter();
    let found = found.filter(|(is, _, _)| is == severity);
    found.map(|(_, place, _)| place).collect()
}

fn a_caller_that_is_more_than_a_line_keeps_the_script_and_both_are_said() {
    for caller in [
        "mount_staging || exit 0",
        "/etc/init.d/mount_staging start || logger failed",
        "if mount_staging; then\n    touch /x\nfi",
        "mount_staging >/var/log/staging 2>&1",
        "[ -x /etc/init.d/mount_staging ] && /etc/init.d/mount_staging start",
        "mount_staging\nif [ $? -ne 0 ]; then exit 1; fi",
    ] {
        let image = Image::old(Init::Chkconfig);
        let rc_local = format!("#!/bin/sh\n{caller}\nmkdir -p /staging/condor\necho booted\n");
        image.write(image.rc_local(), &rc_local);
        image.link(
            "/etc/rc.d/rc3.d/S90mount_staging",
            "../init.d/mount_staging",
        );
        let run = image.install(&["--replace-old"]);
        let expected = rc_local.replace("mkdir -p /staging/condor\n", "");
        assert_eq!(image.read(image.rc_local()), expected, "{run}");
        assert_eq!(image.read("/etc/init.d/mount_staging"), SCRIPT, "{run}");
        assert!(image.exists("/etc/rc.d/rc3.d/S90mount_staging"));
        let line = format!(
            "/etc/rc.d/rc.local:2 stays, and with it {}",
            "/etc/rc.d/init.d/mount_staging"
        );
        assert!(run.stdout.contains(&line), "{run}");
        assert!(run.stdout.contains("by hand: "), "{run}");
        // What is to be done by hand is enough.
        let by_hand = caller.replace(">/var/log/staging 2>&1", "");
        let by_hand = by_hand.replace("[ -x /etc/init.d/mount_staging ] && ", "");
        let by_hand = by_hand.replace(
            "/etc/init.d/mount_staging start",
            "vmstage status --wait 60",
        );
        let by_hand = by_hand.replace("mount_staging", "vmstage status --wait 60");
        image.write(image.rc_local(), format!("#!/bin/sh\n{by_hand}\n"));
        let run = image.install(&["--replace-old"]);
        assert!(!image.exists("/etc/init.d/mount_staging"), "{run}");
        assert!(!image.exists("/etc/rc.d/rc3.d/S90mount_staging"), "{run}");
    }
}

fn a_caller_elsewhere_keeps_the_script_as_well() {
    for (path, line, number) in [
        (
            "/etc/inittab",
            "# x\nst:2345:once:/etc/init.d/mount_staging\n",
            2,
        ),
        (
            "/etc/cron.d/staging",
            "@reboot root /etc/init.d/mount_staging\n",
            1,
        ),
        (
            "/etc/init.d/condor",
            "#!/bin/sh\n# Required-Start: mount_staging\n",
            2,
        ),
        (
            "/etc/systemd/system/mount_staging.service",
            "ExecStart=/etc/init.d/mount_staging\n",
            1,
        ),
    ] {
        let image = Image::old(Init::Insserv);
        image.write(path, line);
        let run = image.install(&["--replace-old"]);
        let said = format!("{path}:{number} stays, and with it /etc/init.d/mount_staging");
        assert!(run.stdout.contains(&said), "{run}");
        assert!(image.exists("/etc/init.d/mount_staging"), "{run}");
        // None of its callers goes either.
        assert!(
            image
                .read("/etc/rc.local")
                .contains("\n/etc/init.d/mount_staging\n")
        );
        assert!(places(&image, "old-script", "warning").contains(&format!("{path}:{number}")));
    }
}

/// As SysV has them: links, and insserv's lines.
fn with_links(init: Init) -> Image {
    let image = Image::old(init);
    let rc = match init {
        Init::Chkconfig => "/etc/rc.d/rc",
        Init::Suse => "/etc/init.d/rc",
        _ => "/etc/rc",
    };
    let text = match init {
        Init::Suse => "../mount_staging",
        _ => "../init.d/mount_staging",
    };
    for link in [
        "2.d/S20mount_staging",
        "3.d/S20mount_staging",
        "6.d/K80mount_staging",
        "S.d/S05mount_staging",
    ] {
        let path = format!("{rc}{link}");
        image.directory(Path::new(&path).parent().unwrap().to_str().unwrap());
        image.link(&path, text);
    }
    if init == Init::Insserv {
        let start = "TARGETS = rsyslog mount_staging condor rc.local\nINTERACTIVE = mount_staging\n\
                     mount_staging: rsyslog\ncondor: rsyslog mount_staging\n\
                     rc.local: rsyslog condor mount_staging\n";
        image.write("/etc/init.d/.depend.start", start);
        image.write(
            "/etc/init.d/.depend.boot",
            "TARGETS = mount_staging\nINTERACTIVE =\n",
        );
        image.write(
            "/etc/init.d/.depend.stop",
            "TARGETS = mount_staging sendsigs\nsendsigs: mount_staging\n",
        );
    }
    image
}

/// What is put back is the file that was taken out, not one like it.
fn times_attributes_and_hard_links_come_back() {
    need_root();
    for init in [Init::Systemd, Init::Chkconfig, Init::Insserv] {
        let image = Image::old(init);
        let script = match init {
            Init::Chkconfig => "/etc/rc.d/init.d/mount_staging",
            _ => "/etc/init.d/mount_staging",
        };
        let hour = Duration::from_secs(3600);
        let then = SystemTime::UNIX_EPOCH + 100_000 * hour;
        for path in ["/etc/fstab", image.rc_local(), script] {
            let file = File::options().write(true).open(image.path(path)).unwrap();
            file.set_modified(then).unwrap();
        }
        fs::hard_link(image.path("/etc/fstab"), image.path("/root-fstab")).unwrap();
        let state = |path: &str| {
            let metadata = fs::metadata(image.path(path)).unwrap();
            (
                metadata.modified().unwrap(),
                metadata.nlink(),
                metadata.ino(),
            )
        };
        let all = ["/etc/fstab", image.rc_local(), script, "/root-fstab"];
        let before = all.map(state);
        image.install(&["--replace-old"]);
        image.install(&["--replace-old"]);
        assert_eq!(image.read("/root-fstab"), FSTAB);
        assert_ne!(image.read("/etc/fstab"), FSTAB);
        assert_eq!(image.run("uninstall", &[]).code, 0);
        assert_eq!(all.map(state), before, "{init:?}");
    }
    // The script goes, and its other name is to be run on.
    let image = Image::old(Init::Insserv);
    let other = "/usr/sbin/mount_staging";
    fs::hard_link(image.path("/etc/init.d/mount_staging"), image.path(other)).unwrap();
    let before = image.listing();
    image.install(&["--replace-old"]);
    assert!(!image.exists("/etc/init.d/mount_staging"));
    assert_eq!(image.listing()[other], before[other]);
    assert_eq!(image.run("uninstall", &[]).code, 0);
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
    // What somebody has done since to the file in its place stays.
    image.install(&["--replace-old"]);
    image.set_mode("/etc/fstab", 0o600);
    assert_eq!(image.run("uninstall", &[]).code, 0);
    assert!(image.listing()["/etc/fstab"].starts_with("100600"));
    assert!(!image.exists("/etc/fstab.before-vmstage"));
}

fn links_lines_modes_and_owners_come_back() {
    need_root();
    for init in EVERY_INIT {
        let image = with_links(init);
        image.set_mode("/etc/init.d/mount_staging", 0o710);
        image.set_mode(image.rc_local(), 0o700);
        let script = match init {
            Init::Chkconfig => "/etc/rc.d/init.d/mount_staging",
            _ => "/etc/init.d/mount_staging",
        };
        for path in [script, image.rc_local(), "/etc/fstab"] {
            chown(image.path(path), Some(12), Some(34)).unwrap();
        }
        image.set_mode("/etc/init.d/mount_staging", 0o4711);
        if init == Init::Systemd {
            image.link("/etc/systemd/system/vmstage.service", "/dev/null");
        }
        let before = image.listing();
        image.install(&["--replace-old"]);
        let names = image.listing();
        let left = names.keys().filter(|path| path.contains("mount_staging"));
        // The copy.
        assert_eq!(left.count(), 1, "{names:?}");
        if init == Init::Insserv {
            assert!(
                !image
                    .read("/etc/init.d/.depend.start")
                    .contains("mount_staging")
            );
        }
        // Also where it is done twice, and where there was something in between.
        image.install(&["--replace-old"]);
        let run = image.run("uninstall", &[]);
        assert_eq!(run.code, 0, "{run}");
        assert_eq!(
            difference(&before, &image.listing()),
            [""; 0],
            "{init:?}\n{run}"
        );
        assert!(!run.stdout.contains(" stays"), "{run}");
    }
}

fn the_first_copy_stays_and_where_a_later_one_is_kept_is_said() {
    let image = Image::old(Init::Insserv);
    let depend =
        "TARGETS = rsyslog mount_staging condor rc.local\nINTERACTIVE =\ncondor: rsyslog\n";
    image.write("/etc/init.d/.depend.start", depend);
    let first = image.install(&["--replace-old"]);
    for said in [
        "take out /etc/fstab:2: /dev/sdb /staging ext2 defaults 0 0",
        "take out /etc/rc.local:4: /etc/init.d/mount_staging",
        "keep /etc/rc.local as /etc/rc.local.before-vmstage",
        "take out /etc/init.d/mount_staging; kept as /etc/init.d/mount_staging.before-vmstage",
    ] {
        assert!(first.stdout.contains(said), "no {said}: {first}");
    }
    // Somebody brings them back, and others.
    let again = [
        ("/etc/fstab", FSTAB.to_string() + "/dev/vdb /staging ext4\n"),
        (
            "/etc/rc.local",
            RC_LOCAL.replace("exit 0", "mkdir /staging/tmp"),
        ),
        ("/etc/init.d/mount_staging", SCRIPT.to_string() + "# new\n"),
    ];
    for (path, content) in &again {
        image.script(path, content);
    }
    let second = image.install(&["--replace-old"]);
    for (path, content) in &again {
        assert_eq!(
            image.read(&format!("{path}.before-vmstage.2")),
            *content,
            "{second}"
        );
        let said = format!("{path}.before-vmstage.2\n");
        assert!(second.stdout.contains(&said), "{second}");
    }
    for (path, original) in [
        ("/etc/fstab", FSTAB),
        ("/etc/rc.local", RC_LOCAL),
        ("/etc/init.d/mount_staging", SCRIPT),
        ("/etc/init.d/.depend.start", depend),
    ] {
        assert_eq!(image.read(&format!("{path}.before-vmstage")), original);
    }
    // What is taken out again as it was needs no other copy.
    image.script("/etc/init.d/mount_staging", SCRIPT);
    image.install(&["--replace-old"]);
    assert!(!image.exists("/etc/init.d/mount_staging.before-vmstage.3"));
    // And what stays is named.
    let run = image.run("uninstall", &[]);
    assert_eq!(run.code, 0, "{run}");
    for (path, _) in &again {
        let copy = format!("{path}.before-vmstage.2");
        assert!(run.stdout.contains(&format!("{copy} stays")), "{run}");
        assert!(image.exists(&copy));
    }
    assert_eq!(image.read("/etc/init.d/mount_staging"), SCRIPT);
}

fn only_what_runs_starts_vmstage_for_install_and_for_check() {
    let boot = "/usr/sbin/vmstage boot || exit 0\nsetsid vmstage watch &\n";
    let snippet =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("sysvinit/rc.local.sl"));
    let snippet = snippet.unwrap();
    for (rc_local, mode, starts) in [
        (boot.to_string(), 0o755, true),
        (snippet.clone(), 0o755, true),
        (format!("f() {{ {boot} }}\nf\n"), 0o755, true),
        (
            format!("if [ -x /usr/sbin/vmstage ]; then\n{boot}fi\n"),
            0o755,
            true,
        ),
        (boot.to_string(), 0o644, false),
        (format!("exit 0\n{snippet}"), 0o755, false),
        (format!("cat >/etc/x <<'END'\n{boot}END\n"), 0o755, false),
        (
            boot.replace("/usr", "# /usr").replace("setsid", "#"),
            0o755,
            false,
        ),
        (format!("unused() {{\n{boot}}}\n"), 0o755, false),
        ("vmstage watch &\n".into(), 0o755, false),
        (format!("echo \"\n{boot}\"\n"), 0o755, false),
    ] {
        for init in [Init::Systemd, Init::Chkconfig, Init::Insserv] {
            let image = Image::old(init);
            image.write(image.rc_local(), format!("#!/bin/sh\n{rc_local}"));
            image.set_mode(image.rc_local(), mode);
            let run = image.install(&[]);
            let is_left = run.stdout.contains("starts vmstage already");
            assert_eq!(is_left, starts, "{rc_local}: {run}");
            for id in ["enabled-none", "enabled-half", "enabled-twice"] {
                assert!(findings(&image, id).is_empty(), "{rc_local}: {run}");
            }
        }
    }
}

fn an_rc_local_that_nothing_runs_is_no_error() {
    for init in EVERY_INIT {
        let image = Image::old(init);
        assert_eq!(places(&image, "old-rc-local", "error").len(), 4, "{init:?}");
        image.set_mode(image.rc_local(), 0o644);
        assert_eq!(places(&image, "old-rc-local", "error").len(), 0, "{init:?}");
        assert_eq!(places(&image, "old-rc-local", "note").len(), 4, "{init:?}");
        let caller = format!("{}:4", image.rc_local());
        assert_eq!(places(&image, "old-script", "note"), [caller]);
    }
}

fn directories_made_in_any_way_are_found_and_only_whole_lines_go() {
    let image = Image::old(Init::Ubuntu);
    fs::remove_file(image.path("/etc/init.d/mount_staging")).unwrap();
    let rc_local = "#!/bin/bash
for d in condor tmp; do mkdir -p /staging/$d; done
for d in condor tmp; do
    mkdir -p \"/staging/$d\"
    chmod 1777 /staging/${d}
done
[ -d /staging/condor ] || mkdir /staging/condor
test -d '/staging/tmp' || mkdir '/staging/tmp'
mkdir -p \"/staging/tmp\"
mkdir -p '/staging/tmp' /staging/condor
BASE=/staging
mkdir -p ${BASE}/tmp
install -d /staging/tmp
cd /staging && mkdir condor tmp
cd /
if [ ! -d /staging/x ]; then
    mkdir /staging/x
fi
grep -q /staging /proc/mounts && mkdir /staging/x
mkdir -p /staging/tmp &&
    echo done
exit 0
mkdir -p /staging/tmp
";
    image.script("/etc/rc.local", rc_local);
    let expected = |lines: &[usize]| -> Vec<String> {
        lines
            .iter()
            .map(|line| format!("/etc/rc.local:{line}"))
            .collect()
    };
    let found = places(&image, "old-rc-local", "error");
    assert_eq!(found, expected(&[2, 4, 5, 7, 8, 9, 10, 12, 13, 14, 17, 20]));
    let run = image.install(&["--replace-old"]);
    let lines: Vec<&str> = rc_local.lines().collect();
    let left: Vec<&str> = lines
        .iter()
        .enumerate()
        .filter(|(before, _)| ![2, 3, 4, 5, 6, 9, 10].contains(&(before + 1)))
        .map(|(_, line)| *line)
        .collect();
    assert_eq!(image.read("/etc/rc.local"), left.join("\n") + "\n", "{run}");
    for line in [7, 8, 12, 13, 14, 17, 20] {
        assert!(
            run.stdout.contains(&format!("/etc/rc.local:{line} stays")),
            "{run}"
        );
    }
    assert_eq!(image.run("uninstall", &[]).code, 0);
    assert_eq!(image.read("/etc/rc.local"), rc_local);
}

fn what_does_something_else_as_well_stays_and_is_named() {
    for line in [
        "mkdir -p /staging/condor /opt/results",
        "mkdir -p /opt/a /staging/tmp",
        "chown -R condor:condor /staging/condor /var/lib/condor",
        "chmod 1777 /staging/tmp /tmp",
        "for d in /staging/condor /opt/z; do mkdir -p $d; done",
        "mkdir -pv /staging/tmp b",
        "chown -hR a:b /staging/tmp *",
        "/usr/local/sbin/mount_staging --mine",
        "/opt/mount_staging",
        "mount_staging stop",
        "mount /dev/sdb /staging",
        "mkfs.ext4 -F /dev/sdb",
        "cp -a /etc/skel /staging/tmp",
        "case $1 in *) mkdir /staging/x;; esac",
    ] {
        let image = Image::old(Init::Chkconfig);
        let rc_local = format!("#!/bin/sh\n{line}\nmkdir -p /staging/tmp\n");
        image.script(image.rc_local(), &rc_local);
        let run = image.install(&["--replace-old"]);
        let expected = format!("#!/bin/sh\n{line}\n");
        assert_eq!(image.read(image.rc_local()), expected, "{run}");
        let said = "/etc/rc.d/rc.local:2 stays";
        assert!(run.stdout.contains(said), "{line}: {run}");
    }
}

/// Each command that a cure names, run; then there is no such finding at that place.
fn each_cure_that_names_a_command_is_one() {
    type Change<'a> = &'a dyn Fn(&Image);
    let package = |image: &Image| {
        image.install(&[]);
        fs::remove_file(image.path("/usr/share/doc/vmstage/directories")).unwrap();
        image.write(
            "/var/lib/dpkg/status",
            "Package: vmstage\nStatus: install ok installed\n",
        );
    };
    let disabled = |image: &Image| {
        for (path, what) in image.listing() {
            let is_link = what.starts_with("120777") && path.ends_with("vmstage");
            if is_link || path.contains(".wants/vmstage") {
                fs::remove_file(image.path(&path)).unwrap();
            }
        }
    };
    let installed = |image: &Image| drop(image.install(&[]));
    let late = |image: &Image| {
        disabled(image);
        for level in "2345".chars() {
            image.link(
                &format!("/etc/rc.d/rc{level}.d/S85vmstage"),
                "../init.d/vmstage",
            );
        }
    };
    let halves = |image: &Image| {
        let unit = "/etc/systemd/system/multi-user.target.wants/vmstage-watch.service";
        fs::remove_file(image.path(unit)).unwrap();
    };
    let unordered = |image: &Image| {
        let depend = "TARGETS = rsyslog condor rc.local\nINTERACTIVE =\ncondor: rsyslog\n";
        image.write("/etc/init.d/.depend.start", depend);
    };
    let condor = |image: &Image| {
        image.script("/etc/init.d/condor", "#!/bin/sh\n");
        if image.init == Init::Systemd {
            image.write("/usr/lib/systemd/system/condor.service", "[Service]\n");
            let wants = "/etc/systemd/system/multi-user.target.wants/condor.service";
            image.link(wants, "/usr/lib/systemd/system/condor.service");
        }
    };
    let label = |image: &Image| {
        image.write(
            "/etc/fstab",
            "LABEL=ephemeral0 /staging auto defaults 0 0\n",
        );
    };
    let meant = |image: &Image| {
        image.write("/etc/fstab", "LABEL=ephemeral0 /staging auto nofail 0 0\n");
    };
    let complex = |image: &Image| {
        image.script(
            image.rc_local(),
            "#!/bin/sh\nmount_staging || exit 0\nmkdir /staging/x\n",
        );
    };
    let stale = |image: &Image| {
        image.write(
            "/usr/lib/systemd/system/vmstage.service",
            "[Service]\nExecStart=/x\n",
        );
    };
    let new_id = |image: &Image| image.write("/etc/machine-id", "uninitialized\n");
    let cases: &[(&str, &[Change])] = &[
        ("old", &[]),
        ("old with condor", &[&condor]),
        ("label", &[&label]),
        ("a line that is meant", &[&meant]),
        ("complex", &[&complex]),
        ("installed", &[&installed]),
        ("installed, disabled", &[&installed, &disabled]),
        ("package", &[&package]),
        ("package, disabled", &[&package, &condor, &disabled]),
        ("package, complex", &[&package, &complex]),
    ];
    let mut ran = 0;
    let mut try_case = |name: &str, init: Init, changes: &[Change]| {
        let make = || {
            let image = Image::old(init);
            changes.iter().for_each(|change| change(&image));
            image
        };
        let all = make().run("check", &[]).stdout;
        let command = |line: &str| -> Option<String> {
            let (_, cure) = line.split_once("; do: ").unwrap();
            let (_, command) = cure.split_once("vmstage install --root /")?;
            let (_, command) = command.split_once(' ').unwrap_or_default();
            // What is to be done by hand before it, or on another machine, is none of its own.
            let is_other = ["by hand", "--binary", "says how"]
                .iter()
                .any(|w| cure.contains(w));
            let words = command
                .split([' ', '`', ';'])
                .filter(|word| !word.is_empty());
            let words: Vec<&str> = words.take_while(|word| word.starts_with("--")).collect();
            (!is_other).then(|| words.join(" "))
        };
        let commands: BTreeSet<String> = all.lines().filter_map(command).collect();
        for options in commands {
            let image = make();
            let arguments: Vec<&str> = options.split_whitespace().collect();
            let run = image.run("install", &arguments);
            // There nobody knows how to enable it.
            let is_by_hand = options.contains("--init=none");
            let code = i32::from(init == Init::Busybox && !is_by_hand);
            assert_eq!(run.code, code, "{name}, {init:?}: {run}");
            let after = image.run("check", &[]).stdout;
            for line in all
                .lines()
                .filter(|line| command(line).as_ref() == Some(&options))
            {
                let (what, _) = line.split_once("; do: ").unwrap();
                let (head, _) = what.split_once(": ").unwrap();
                let left = after
                    .lines()
                    .any(|line| line.starts_with(&format!("{head}: ")));
                assert!(!left, "{name}, {init:?}: {line}\n{run}\nthen\n{after}");
                ran += 1;
            }
        }
    };
    for (name, changes) in cases {
        for init in EVERY_INIT {
            try_case(name, init, changes);
        }
    }
    try_case("late", Init::Chkconfig, &[&installed, &condor, &late]);
    try_case("late package", Init::Chkconfig, &[&package, &condor, &late]);
    try_case("half", Init::Systemd, &[&installed, &halves]);
    try_case("half package", Init::Systemd, &[&package, &halves]);
    try_case(
        "unordered",
        Init::Insserv,
        &[&installed, &condor, &unordered],
    );
    try_case(
        "unordered package",
        Init::Insserv,
        &[&package, &condor, &unordered],
    );
    try_case("stale", Init::Systemd, &[&installed, &stale]);
    try_case("stale package", Init::Systemd, &[&package, &stale]);
    try_case("new id", Init::Systemd, &[&installed, &new_id]);
    assert!(ran > 60, "{ran}");
}

fn nothing_goes_where_vmstage_cannot_be_enabled() {
    let crowded = with_links(Init::Chkconfig);
    for level in "2345".chars() {
        let link = crowded.path(&format!("/etc/rc.d/rc{level}.d/S50condor"));
        fs::rename(&link, link.with_file_name("S13condor")).unwrap();
    }
    let masked = Image::old(Init::Systemd);
    masked.write("/etc/systemd/system/vmstage.service", "");
    let unknown = Image::old(Init::Busybox);
    for image in [crowded, masked, unknown] {
        let before = image.listing();
        for options in [&["--replace-old", "--dry-run"][..], &["--replace-old"]] {
            let run = image.run("install", options);
            assert_eq!(run.code, 1, "{run}");
            assert!(run.stdout.contains("stays as it is"), "{run}");
        }
        let after = image.listing();
        for (path, what) in &before {
            let is_directory = what.starts_with("40");
            assert!(is_directory || after.get(path) == Some(what), "{path}");
        }
        assert_eq!(image.read("/etc/fstab"), FSTAB);
        assert_eq!(image.read(image.rc_local()), RC_LOCAL);
    }
    // What was said to be put in is enough: the same command takes out the rest.
    let image = Image::old(Init::Busybox);
    let run = image.run("install", &["--replace-old"]);
    assert!(run.stdout.contains("run the same again"), "{run}");
    image.script(
        "/etc/init.d/rcS",
        "#!/bin/sh\nvmstage boot\nsetsid vmstage watch &\n",
    );
    let run = image.run("install", &["--replace-old"]);
    assert_eq!(run.code, 0, "{run}");
    assert!(!image.read("/etc/fstab").contains("/staging"), "{run}");
    // Who enables it by hand says so.
    let image = Image::old(Init::Busybox);
    let run = image.run("install", &["--replace-old", "--init=none"]);
    assert_eq!(run.code, 0, "{run}");
    assert!(!image.read("/etc/fstab").contains("/staging"), "{run}");
}

fn what_was_taken_out_comes_back_whatever_the_configuration_says_by_then() {
    for configuration in [
        "[staging]\nmount_point = \"/scratch\"\n",
        "this does not parse\n",
    ] {
        for init in EVERY_INIT {
            let image = Image::old(init);
            let before = image.listing();
            image.install(&["--replace-old"]);
            image.write("/etc/vmstage.toml", configuration);
            let run = image.run("uninstall", &[]);
            assert_eq!(run.code, 0, "{run}");
            fs::remove_file(image.path("/etc/vmstage.toml")).unwrap();
            let left = difference(&before, &image.listing());
            assert_eq!(left, [""; 0], "{init:?}: {run}");
        }
    }
    // Before the lines were written down, they were those of the mount point.
    let image = Image::old(Init::Systemd);
    image.install(&["--replace-old"]);
    let list = "/usr/share/doc/vmstage/directories";
    let records = image.read(list);
    let kept = records.lines().filter(|line| !line.starts_with("lines\t"));
    let old: String = kept.map(|line| format!("{line}\n")).collect();
    assert!(old.len() < records.len(), "{records}");
    image.write(list, &old);
    let run = image.run("uninstall", &[]);
    assert_eq!(image.read("/etc/fstab"), FSTAB, "{run}");
    assert_eq!(image.read("/etc/rc.local"), RC_LOCAL, "{run}");
}

/// Any package's update-rc.d has insserv write its files anew.
fn what_insserv_writes_in_between_keeps_the_order() {
    const START: &str = "/etc/init.d/.depend.start";
    for replaces in [true, false] {
        let image = with_links(Init::Insserv);
        image.install(if replaces { &["--replace-old"] } else { &[] });
        let anew = "TARGETS = rsyslog cron vmstage condor rc.local\nINTERACTIVE =\n\
                    rc.local: rsyslog cron condor vmstage\ncondor: cron vmstage\nvmstage: rsyslog\n";
        image.write(START, anew);
        let run = image.run("uninstall", &[]);
        assert_eq!(run.code, 0, "{run}");
        let text = image.read(START);
        assert!(!text.contains("vmstage"), "{text}");
        // Nothing that waited waits for less.
        assert!(text.contains("\ncondor: cron rsyslog"), "{text}");
        assert!(text.contains("\nrc.local: rsyslog cron condor"), "{text}");
        if !replaces {
            continue;
        }
        let targets = text.lines().next().unwrap();
        assert_eq!(
            targets, "TARGETS = rsyslog cron mount_staging condor rc.local",
            "{text}"
        );
        assert!(text.contains("\nmount_staging: rsyslog\n"), "{text}");
        assert!(
            text.contains("\ncondor: cron rsyslog mount_staging\n"),
            "{text}"
        );
        assert!(run.stdout.contains("insserv, run in the image"), "{run}");
        assert!(image.exists("/etc/rc2.d/S20mount_staging"));
        assert!(!image.exists("/etc/init.d/.depend.start.before-vmstage"));
    }
}

fn a_script_that_is_a_file_of_a_run_level_goes_and_comes_back() {
    for (init, path) in [
        (Init::Chkconfig, "/etc/rc.d/rc3.d/S20mount_staging"),
        (Init::Ubuntu, "/etc/rc2.d/S20mount_staging"),
    ] {
        let image = Image::old(init);
        image.script(path, "#!/bin/sh\nmount /dev/sdb /staging\n");
        let before = image.listing();
        assert!(places(&image, "old-script", "warning").contains(&path.to_string()));
        let run = image.install(&["--replace-old"]);
        assert!(!image.exists(path), "{run}");
        let (directory, name) = path.rsplit_once('/').unwrap();
        assert!(
            image.exists(&format!("{directory}/old-{name}.before-vmstage")),
            "{run}"
        );
        assert!(!run.stdout.contains(&format!("old-script {path}")), "{run}");
        let run = image.run("uninstall", &[]);
        assert_eq!(difference(&before, &image.listing()), [""; 0], "{run}");
    }
}

fn a_fstab_that_is_a_link_is_changed_where_it_leads() {
    for text in ["fstab.real", "../etc/fstab.real", "/etc/fstab.real"] {
        let image = Image::old(Init::Systemd);
        image.write("/etc/fstab.real", FSTAB);
        fs::remove_file(image.path("/etc/fstab")).unwrap();
        image.link("/etc/fstab", text);
        let before = image.listing();
        let run = image.install(&["--replace-old"]);
        assert_eq!(
            fs::read_link(image.path("/etc/fstab")).unwrap(),
            Path::new(text)
        );
        let expected = "LABEL=root / ext4 defaults 0 0\n# end\n";
        assert_eq!(image.read("/etc/fstab.real"), expected, "{text}: {run}");
        assert_eq!(image.read("/etc/fstab.real.before-vmstage"), FSTAB);
        let run: Run = image.run("uninstall", &[]);
        assert_eq!(
            difference(&before, &image.listing()),
            [""; 0],
            "{text}: {run}"
        );
    }
}

fn one_that_leads_out_is_refused() {
    let image = Image::old(Init::Systemd);
    fs::remove_file(image.path("/etc/fstab")).unwrap();
    image.link("/etc/fstab", "../../../../../../../../etc/fstab");
    let before = image.listing();
    let run = image.run("install", &["--replace-old"]);
    assert!(
        run.code == 1 && run.stderr.contains("/etc/fstab leads out of it"),
        "{run}"
    );
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
}
