use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::host::tree::Tree;
use crate::image::files::{FILES, PACKED};

/// The begin of a program for x86_64.
const ELF: &str = "\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0";
const ARM: &str = "\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x28\0";

/// A tree, and changes to it.
struct Image(Tree);

impl Image {
    /// In which nothing is wrong, with what this init needs.
    fn healthy(init: &str) -> Image {
        let accounts = "root:x:0:0::/root:/bin/sh\ncondor:x:64:64::/:/bin/false\n";
        let image = Image(Tree::new(&[
            ("bin/sh", ELF),
            ("etc/fstab", "LABEL=root / ext4 defaults 0 1\n"),
            ("etc/passwd", accounts),
            ("etc/group", accounts),
            (
                "etc/condor/condor_config",
                "LOCAL_CONFIG_DIR = /etc/condor/config.d\n",
            ),
            (
                "etc/condor/config.d/00-site.config",
                "START = Owner == \"me\"\n",
            ),
            ("sbin/mkfs.ext4", ELF),
            ("usr/", ""),
            ("run/", ""),
        ]));
        image.make_executable("sbin/mkfs.ext4");
        image.write("usr/sbin/vmstage", [ELF.as_bytes(), PACKED].concat());
        image.make_executable("usr/sbin/vmstage");
        match init {
            "systemd" => {
                image.write("usr/lib/systemd/systemd", ELF);
                image.link("sbin/init", "/usr/lib/systemd/systemd");
                for unit in ["vmstage.service", "vmstage-watch.service", "condor.service"] {
                    let wants = "etc/systemd/system/multi-user.target.wants";
                    let own = FILES
                        .iter()
                        .find(|file| file.path(Init::Systemd).ends_with(unit));
                    let content = own.map_or("[Service]\n", |file| {
                        std::str::from_utf8(file.content()).unwrap()
                    });
                    image.write(&format!("usr/lib/systemd/system/{unit}"), content);
                    image.write("etc/machine-id", "");
                    fs::create_dir_all(image.0.root().join(wants)).unwrap();
                    image.link(
                        &format!("{wants}/{unit}"),
                        &format!("/usr/lib/systemd/system/{unit}"),
                    );
                }
                let drop_in = "usr/lib/systemd/system/condor.service.d/vmstage.conf";
                image.write(
                    drop_in,
                    include_str!("../../../systemd/condor.service.d/vmstage.conf"),
                );
            }
            _ => {
                let (scripts, rc) = match init {
                    "chkconfig" => ("etc/rc.d/init.d", "etc/rc.d"),
                    _ => ("etc/init.d", "etc"),
                };
                let script = include_str!("../../../sysvinit/vmstage");
                image.write("sbin/init", ELF);
                image.write(&format!("{scripts}/vmstage"), script);
                image.write(&format!("{scripts}/condor"), "");
                for (number, service) in [(19, "vmstage"), (20, "condor")] {
                    image.make_executable(&format!("{scripts}/{service}"));
                    for level in 2..=5 {
                        let directory = format!("{rc}/rc{level}.d");
                        fs::create_dir_all(image.0.root().join(&directory)).unwrap();
                        let link = format!("{directory}/S{number}{service}");
                        image.link(&link, &format!("../init.d/{service}"));
                    }
                }
            }
        }
        image
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn make_executable(&self, path: &str) {
        let path = self.0.root().join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn link(&self, path: &str, text: &str) {
        let path = self.0.root().join(path);
        fs::remove_file(&path).ok();
        symlink(text, path).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.0.root().join(path);
        fs::remove_file(&path)
            .or_else(|_| fs::remove_dir_all(&path))
            .unwrap();
    }

    /// `error old-fstab /etc/fstab:2`, the worst first.
    fn found(&self) -> Vec<String> {
        let root = Root::open(self.0.root()).unwrap();
        let findings = findings(&root, None, Init::of(&root, None));
        let text = lines(&findings);
        assert_eq!(text.lines().count(), findings.len());
        text.lines()
            .map(|line| {
                assert!(line.contains("; do: "), "{line}");
                line.split(": ").next().unwrap().to_string()
            })
            .collect()
    }
}

/// What is changed in a healthy image: a path and its content; None removes it, and a content
/// that begins with `->` makes a link.
type Change<'a> = (&'a str, Option<&'a str>);

#[track_caller]
fn assert_found(init: &str, changes: &[Change], expected: &[&str]) {
    let image = Image::healthy(init);
    for (path, content) in changes {
        match content.map(|content| content.strip_prefix("-> ").ok_or(content)) {
            None => image.remove(path),
            Some(Ok(text)) => image.link(path, text),
            Some(Err(content)) => image.write(path, content),
        }
    }
    assert_eq!(image.found(), expected, "{init}: {changes:?}");
}

#[test]
fn in_a_healthy_image_nothing_is_found() {
    for init in ["systemd", "chkconfig", "numbers"] {
        assert_found(init, &[], &[]);
    }
}

#[test]
fn a_bare_name_for_the_mount_point_is_found_in_each_place() {
    let unit = "[Mount]\nWhat=/dev/sdb\nWhere=/staging\n";
    let by_label = unit.replace("/dev/sdb", "/dev/disk/by-label/ephemeral0");
    let script = "#!/bin/sh\ncase $1 in\nstart)\n mount /dev/vdb /staging ;;\nesac\n";
    let enabled = ("etc/rc.d/rc3.d/S50scratch", Some("-> ../init.d/scratch"));
    let path = "etc/systemd/system/staging.mount";
    let found = ["error old-fstab /etc/systemd/system/staging.mount:2"];
    assert_found("systemd", &[(path, Some(unit))], &found);
    assert_found("systemd", &[(path, Some(&by_label))], &[]);
    let found = ["warning old-script /etc/rc.d/init.d/scratch:4"];
    let service = ("etc/rc.d/init.d/scratch", Some(script));
    // Where the link is made, its directory is there.
    assert_found("chkconfig", &[service, enabled], &found);
    assert_found("chkconfig", &[service], &[]);
    for line in [
        "mount /dev/sdb /staging",
        "mount -t ext2 /dev/vdb /staging",
        "[ -b /dev/vdb ] && mount /dev/vdb /staging",
        "mkfs.ext4 -F /dev/sdb",
        "mount /dev/sdb /staging || exit 0\nmkdir -p /staging/condor",
        "set -e\nmount /dev/sdb /staging\nmkdir -p /staging/condor",
    ] {
        let image = Image::healthy("chkconfig");
        image.write("etc/rc.d/rc.local", line);
        image.make_executable("etc/rc.d/rc.local");
        let at = 1 + usize::from(line.starts_with("set"));
        let expected = format!("error old-rc-local /etc/rc.d/rc.local:{at}");
        assert_eq!(image.found(), [expected], "{line}");
    }
}

#[test]
fn lines_of_fstab() {
    for (line, expected) in [
        (
            "/dev/sdb /staging ext2 defaults 0 0",
            &["error old-fstab /etc/fstab:1"][..],
        ),
        (
            "/dev/vdb /staging auto nofail 0 0",
            &["error old-fstab /etc/fstab:1"],
        ),
        (
            "LABEL=ephemeral0 /staging auto defaults 0 0",
            &["error old-fstab /etc/fstab:1"],
        ),
        (
            "LABEL=ephemeral0 /staging auto nofail 0 0",
            &["note old-fstab /etc/fstab:1"],
        ),
        (
            "LABEL=ephemeral0 /staging auto nofail 0 2",
            &[
                "error fstab-fsck /etc/fstab:1",
                "note old-fstab /etc/fstab:1",
            ],
        ),
        (
            "/dev/vdb /mnt auto defaults,nofail,comment=cloudconfig 0 2",
            &["warning fstab-cloudconfig /etc/fstab:1"],
        ),
        (
            "LABEL=ephemeral0 /mnt auto nofail 0 0",
            &["warning fstab-twice /etc/fstab:1"],
        ),
        ("LABEL=data /mnt auto nofail 0 0", &[]),
        (
            "/dev/mapper/vg-x /staging ext4 defaults 0 0",
            &["note old-fstab /etc/fstab:1"],
        ),
        (
            "/dev/sdb /staging/tmp ext4 defaults 0 0",
            &["error old-fstab /etc/fstab:1"],
        ),
        ("LABEL=x /staging/tmp ext4 nofail 0 0", &[]),
        ("/dev/vdb /mnt auto nofail 0 0", &[]),
    ] {
        assert_found("systemd", &[("etc/fstab", Some(line))], expected);
    }
}

#[test]
fn what_did_the_work_before() {
    let rc_local = "#!/bin/sh\n/etc/init.d/mount_staging\nmkdir -p /staging/condor\n\
                    mount /staging && mkdir /staging/x\ninstall -d /staging/y\n";
    for init in ["systemd", "numbers"] {
        let image = Image::healthy(init);
        image.write("etc/rc.local", rc_local);
        image.write("etc/init.d/mount_staging", "");
        // Nothing runs what is not executable.
        let notes = [
            "warning old-script /etc/init.d/mount_staging",
            "note old-script /etc/rc.local:2",
            "note old-rc-local /etc/rc.local:3",
            "note old-rc-local /etc/rc.local:5",
        ];
        assert_eq!(image.found(), notes);
        image.make_executable("etc/rc.local");
        let expected = [
            "error old-rc-local /etc/rc.local:3",
            "error old-rc-local /etc/rc.local:5",
            "warning old-script /etc/init.d/mount_staging",
            "warning old-script /etc/rc.local:2",
        ];
        assert_eq!(image.found(), expected);
    }
}

#[test]
fn vmstage_is_started_once_and_before_htcondor() {
    const WANTS: &str = "etc/systemd/system/multi-user.target.wants";
    let boot = format!("{WANTS}/vmstage.service");
    let watch = format!("{WANTS}/vmstage-watch.service");
    let condor = format!("{WANTS}/condor.service");
    let drop_in = "usr/lib/systemd/system/condor.service.d/vmstage.conf";
    let cases: &[(&[Change], &[&str])] = &[
        (
            &[(&boot, None), (&watch, None), (&condor, None)],
            &["error enabled-none /etc/systemd/system"],
        ),
        (
            &[(&boot, None), (&watch, None)],
            &["error enabled-half /etc/systemd/system"],
        ),
        (
            &[(&watch, None)],
            &["error enabled-half /etc/systemd/system"],
        ),
        (
            &[(&boot, None)],
            &["error enabled-half /etc/systemd/system"],
        ),
        (
            &[("etc/systemd/system/vmstage.service", Some("-> /dev/null"))],
            &["error enabled-half /etc/systemd/system"],
        ),
        (
            &[(
                "etc/systemd/system/vmstage-watch.service",
                Some("-> ../../../dev/null"),
            )],
            &["error enabled-half /etc/systemd/system"],
        ),
        (
            &[("etc/systemd/system/vmstage-watch.service", Some(""))],
            &["error enabled-half /etc/systemd/system"],
        ),
        (
            &[("etc/systemd/system/vmstage.service", Some("[Service]\n"))],
            &[],
        ),
        (
            &[(&watch, Some("-> /dev/null"))],
            &["error enabled-half /etc/systemd/system"],
        ),
        (
            &[(drop_in, None)],
            &["error order-condor /usr/lib/systemd/system/condor.service.d"],
        ),
        (&[(drop_in, None), (&condor, None)], &[]),
        (
            &[("usr/sbin/vmstage", None)],
            &[
                "error enabled-none /usr/sbin/vmstage",
                "error condor-alone /usr/lib/systemd/system/condor.service.d/vmstage.conf",
            ],
        ),
    ];
    for (changes, expected) in cases {
        assert_found("systemd", changes, expected);
    }
}

/// systemd-sysv-generator(8) makes condor.service of it, and our drop-in counts.
#[test]
fn a_condor_that_is_a_script_waits_under_systemd() {
    let wants = "etc/systemd/system/multi-user.target.wants";
    for level in 3..=4 {
        let image = Image::healthy("systemd");
        image.remove("usr/lib/systemd/system/condor.service");
        image.remove(&format!("{wants}/condor.service"));
        image.write("etc/init.d/condor", "#!/bin/sh\n");
        image.make_executable("etc/init.d/condor");
        image.write(&format!("etc/rc{level}.d/README"), "");
        image.link(&format!("etc/rc{level}.d/S20condor"), "../init.d/condor");
        assert_eq!(image.found(), [""; 0]);
        let drop_in = "usr/lib/systemd/system/condor.service.d/vmstage.conf";
        let text = fs::read_to_string(image.0.root().join(drop_in)).unwrap();
        image.remove(drop_in);
        let order = "error order-condor /usr/lib/systemd/system/condor.service.d";
        assert_eq!(image.found(), [order]);
        image.write(drop_in, text);
        for unit in ["vmstage.service", "vmstage-watch.service"] {
            image.remove(&format!("{wants}/{unit}"));
        }
        assert_eq!(image.found(), ["error enabled-half /etc/systemd/system"]);
    }
}

#[test]
fn a_tree_without_an_init_is_said_to_have_none() {
    assert_found(
        "numbers",
        &[("sbin/init", None)],
        &["note no-init /sbin/init"],
    );
}

#[test]
fn a_copy_of_the_script_in_a_run_level_is_found() {
    for (path, expected) in [
        (
            "etc/rc.d/rc3.d/S20mount_staging",
            &["warning old-script /etc/rc.d/rc3.d/S20mount_staging"][..],
        ),
        ("etc/rc.d/rc3.d/K20mount_staging", &[]),
        ("etc/rc.d/rc3.d/old-S20mount_staging.before-vmstage", &[]),
    ] {
        assert_found("chkconfig", &[(path, Some("#!/bin/sh\n"))], expected);
    }
}

#[test]
fn lines_of_inittab() {
    for (line, expected) in [
        (
            "st:3:once:mount /dev/sdb /staging",
            &["error old-rc-local /etc/inittab:2"][..],
        ),
        (
            "st:3:once:mkdir -p /staging/x",
            &["error old-rc-local /etc/inittab:2"],
        ),
        ("#st:3:once:mount /dev/sdb /staging", &[]),
        ("st:3:once:mount /dev/mapper/vg-x /staging", &[]),
    ] {
        let inittab = format!("id:3:initdefault:\n{line}\n");
        assert_found("chkconfig", &[("etc/inittab", Some(&inittab))], expected);
    }
}

#[test]
fn what_does_the_work_elsewhere() {
    let mkdir = "# x\n@reboot root mkdir -p /staging/tmp\n";
    for (init, path, content, place) in [
        ("systemd", "etc/tmpfiles.d/x.conf", "d /staging/condor\n", 1),
        (
            "systemd",
            "usr/lib/tmpfiles.d/x.conf",
            "#\nD /staging/tmp 1777\n",
            2,
        ),
        ("systemd", "usr/lib/tmpfiles.d/x.conf", "d /staging\n", 0),
        (
            "numbers",
            "usr/lib/tmpfiles.d/x.conf",
            "d /staging/tmp\n",
            0,
        ),
        ("systemd", "etc/cron.d/x", mkdir, 2),
        ("numbers", "etc/crontab", mkdir, 2),
        (
            "numbers",
            "etc/crontab",
            "@reboot root mount /dev/sdb /staging\n",
            1,
        ),
        (
            "numbers",
            "etc/crontab",
            "@reboot root mountpoint -q /staging && mkdir /staging/x",
            0,
        ),
        (
            "chkconfig",
            "var/spool/cron/root",
            "@reboot mkdir /staging/x",
            1,
        ),
        (
            "numbers",
            "var/spool/cron/crontabs/root",
            "@reboot mkdir /staging/x",
            1,
        ),
        (
            "numbers",
            "var/spool/cron/crontabs/root",
            "@daily mkdir /staging/x",
            0,
        ),
        ("numbers", "etc/init.d/rcS", "mkdir /staging/x", 0),
    ] {
        let found = format!("error old-rc-local /{path}:{place}");
        let expected = if place == 0 {
            &[][..]
        } else {
            &[found.as_str()]
        };
        assert_found(init, &[(path, Some(content))], expected);
    }
    // What a boot starts, and what does not wait for the disk.
    let link = "-> /etc/systemd/system/x.service";
    let wants = "etc/systemd/system/multi-user.target.wants/x.service";
    let target = (wants, Some(link));
    let unit = "etc/systemd/system/x.service";
    for (text, is_started, expected) in [
        ("ExecStart=-/bin/mkdir -p /staging/tmp", true, "2"),
        ("ExecStartPre=/bin/sh -c 'mkdir -p /staging/x'", true, "2"),
        ("ExecStart=/bin/mount /dev/vdb /staging", true, "2"),
        ("ExecStart=/bin/mkdir -p /staging/tmp", false, ""),
        ("#ExecStart=/bin/mkdir -p /staging/tmp", true, ""),
        ("ExecStop=/bin/mkdir -p /staging/tmp", true, ""),
        ("ExecStart=/bin/mkdir -p /var/tmp", true, ""),
        (
            "ExecStart=/bin/mkdir -p /staging/x\n[Unit]\nAfter=vmstage.service",
            true,
            "",
        ),
        (
            "ExecStart=/bin/mkdir -p /staging/x\n[Unit]\nRequiresMountsFor=/staging",
            true,
            "",
        ),
        (
            "ExecStart=/bin/mkdir -p /staging/x\nExecStart=\nExecStart=/bin/true",
            true,
            "",
        ),
        (
            "ExecStart=/bin/mkdir /staging/x\n[Unit]\nConditionPathIsMountPoint=/staging",
            true,
            "",
        ),
    ] {
        let text = format!("[Service]\n{text}\n");
        let changes = [(unit, Some(text.as_str())), target];
        let changes = &changes[..1 + usize::from(is_started)];
        let found = format!("error old-rc-local /{unit}:{expected}");
        let expected = match expected {
            "" => &[][..],
            _ => &[found.as_str()],
        };
        assert_found("systemd", changes, expected);
    }
    // The first directory's counts.
    let changes = [
        ("etc/tmpfiles.d/x.conf", Some("")),
        ("usr/lib/tmpfiles.d/x.conf", Some("d /staging/tmp\n")),
    ];
    assert_found("systemd", &changes, &[]);
    let image = Image::healthy("numbers");
    image.write("bin/busybox", ELF);
    image.link("sbin/init", "/bin/busybox");
    image.write(
        "etc/init.d/rcS",
        "vmstage boot\nvmstage watch &\nmkdir /staging/x\n",
    );
    image.make_executable("etc/init.d/rcS");
    assert_eq!(image.found(), ["error old-rc-local /etc/init.d/rcS:3"]);
}

#[test]
fn only_targets_that_a_boot_reaches_start_units() {
    let half = ["error enabled-half /etc/systemd/system"];
    for (target, default, expected) in [
        ("rescue.target", None, &half[..]),
        ("shutdown.target", None, &half),
        ("basic.target", None, &[]),
        ("sysinit.target", None, &[]),
        ("default.target", None, &[]),
        ("graphical.target", None, &[]),
        (
            "graphical.target",
            Some("-> /lib/systemd/system/multi-user.target"),
            &half,
        ),
        ("work.target", Some("-> work.target"), &[]),
    ] {
        let gone = "etc/systemd/system/multi-user.target.wants/vmstage-watch.service";
        let wants = format!("etc/systemd/system/{target}.wants/vmstage-watch.service");
        let mut changes: Vec<Change> = vec![(gone, None), (&wants, Some("x"))];
        if let Some(default) = default {
            changes.push(("etc/systemd/system/default.target", Some(default)));
        }
        assert_found("systemd", &changes, expected);
    }
}

#[test]
fn what_cannot_be_run_starts_nothing() {
    let set_mode = |image: &Image, path: &str| {
        let path = image.0.root().join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    };
    for (init, path, place) in [
        ("systemd", "usr/sbin/vmstage", "/usr/sbin/vmstage"),
        ("numbers", "usr/sbin/vmstage", "/usr/sbin/vmstage"),
        ("numbers", "etc/init.d/vmstage", "/etc/init.d"),
        ("chkconfig", "etc/rc.d/init.d/vmstage", "/etc/rc.d/init.d"),
    ] {
        let image = Image::healthy(init);
        set_mode(&image, path);
        assert_eq!(image.found(), [format!("error enabled-none {place}")]);
    }
    for text in [
        "-> ../init.d/nothing",
        "-> ../init.d/condor",
        "-> /dev/null",
    ] {
        let link = ("etc/rc.d/rc3.d/S19vmstage", Some(text));
        let expected = ["error enabled-none /etc/rc.d/init.d"];
        assert_found("chkconfig", &[link], &expected);
    }
}

#[test]
fn links_of_run_levels() {
    let links = |name| (2..=5).map(move |level| format!("etc/rc{level}.d/{name}"));
    let gone: Vec<String> = links("S19vmstage").collect();
    let gone: Vec<Change> = gone.iter().map(|path| (path.as_str(), None)).collect();
    assert_found("numbers", &gone, &["error enabled-none /etc/init.d"]);

    // A package has systemd's drop-in everywhere, and here nothing heeds it.
    let drop_in = include_str!("../../../systemd/condor.service.d/vmstage.conf");
    let path = "usr/lib/systemd/system/condor.service.d/vmstage.conf";
    let with_drop_in = [&gone[..], &[(path, Some(drop_in))]].concat();
    assert_found(
        "numbers",
        &with_drop_in,
        &["error enabled-none /etc/init.d"],
    );

    // Of two with one number the one goes first whose name does.
    let later: Vec<String> = links("S20vmstage").collect();
    let script = Some("-> ../init.d/vmstage");
    let later = later.iter().map(|path| (path.as_str(), script));
    let changes: Vec<Change> = gone.iter().copied().chain(later).collect();
    assert_found("numbers", &changes, &["error order-condor /etc/rc2.d"]);

    // The one that the system boots into is not the only one.
    let script = Some("-> ../init.d/condor");
    for level in [4, 5] {
        let early = format!("etc/rc{level}.d/S15condor");
        let expected = format!("error order-condor /etc/rc{level}.d");
        assert_found("numbers", &[(&early, script)], &[&expected]);
    }

    let stale = (
        "etc/init.d/.depend.start",
        Some("TARGETS = rsyslog condor\n"),
    );
    assert_found(
        "insserv",
        &[stale],
        &[
            "error enabled-none /etc/init.d",
            "error depend-stale /etc/init.d/.depend.start",
        ],
    );
    let unordered = (
        "etc/init.d/.depend.start",
        Some("TARGETS = vmstage condor\n"),
    );
    assert_found(
        "insserv",
        &[unordered],
        &["error order-condor /etc/init.d/.depend.start"],
    );
    let fine = "TARGETS = vmstage a condor\na: vmstage\ncondor: a\n";
    assert_found("insserv", &[("etc/init.d/.depend.start", Some(fine))], &[]);
}

#[test]
fn a_snippet_beside_the_script_starts_it_twice_and_alone_it_needs_a_condor_that_waits() {
    let rc_local = "#!/bin/sh\n/usr/sbin/vmstage boot || exit 0\nsetsid vmstage watch &\n";
    let with = |changes: &[Change], expected: &[&str]| {
        let image = Image::healthy("numbers");
        image.write("etc/rc.local", rc_local);
        image.make_executable("etc/rc.local");
        for (path, _) in changes {
            image.remove(path);
        }
        assert_eq!(image.found(), expected);
    };
    with(&[], &["error enabled-twice /etc/rc.local:2"]);
    with(
        &[("etc/init.d/vmstage", None)],
        &["error order-condor /etc/rc.local:2"],
    );
    with(
        &[("etc/init.d/vmstage", None), ("etc/init.d/condor", None)],
        &[],
    );
    // Options come before the command.
    for (command, expected) in [
        ("vmstage -v boot\n", "error enabled-twice /etc/rc.local:1"),
        (
            "vmstage --verbose boot\n",
            "error enabled-twice /etc/rc.local:1",
        ),
    ] {
        for init in ["systemd", "numbers"] {
            let image = Image::healthy(init);
            image.write("etc/rc.local", command);
            image.make_executable("etc/rc.local");
            assert_eq!(image.found(), [expected], "{command}");
        }
    }
    // Nothing runs one that is not executable.
    let content = ("etc/rc.local", Some(rc_local));
    let gone = ("etc/init.d/vmstage", None);
    assert_found(
        "numbers",
        &[content, gone],
        &["error enabled-none /etc/init.d"],
    );
}

#[test]
fn a_system_that_nobody_has_heard_of_needs_a_line_of_its_own() {
    let image = Image::healthy("numbers");
    image.write("bin/busybox", ELF);
    image.link("sbin/init", "/bin/busybox");
    assert_eq!(image.found(), ["error enabled-none /sbin/init"]);
    image.write("etc/inittab", "::sysinit:/usr/sbin/vmstage boot\n");
    assert_eq!(image.found(), ["error enabled-half /etc/inittab:1"]);
    image.write("etc/init.d/rcS", "setsid /usr/sbin/vmstage -v watch &\n");
    assert_eq!(image.found(), [""; 0]);
}

#[test]
fn presets_count_where_there_is_no_machine_id() {
    const PRESET: &str = "usr/lib/systemd/system-preset/80-vmstage.preset";
    let enable = (PRESET, Some("enable vmstage.service\n"));
    let disable = (
        "etc/systemd/system-preset/50-all.preset",
        Some("disable *\n"),
    );
    let warning = "warning preset /etc/machine-id";
    let none = ("etc/machine-id", None);
    assert_found("systemd", &[none], &[warning]);
    assert_found("systemd", &[none, enable], &[]);
    assert_found("systemd", &[none, enable, disable], &[warning]);
    // This one is not as `seal` makes it, either.
    let new = ("etc/machine-id", Some("uninitialized\n"));
    let not_empty = "warning machine-id /etc/machine-id";
    assert_found("systemd", &[new], &[warning, not_empty]);
    assert_found("systemd", &[new, enable], &[not_empty]);
}

#[test]
fn the_first_line_of_the_presets_that_fits_counts_for_each_unit() {
    for (text, is_enabled) in [
        ("enable vmstage.service\ndisable *\n", false),
        ("enable vmstage*\ndisable *\n", true),
        ("enable *.socket\ndisable *\n", false),
        ("disable *.timer\nenable vmstage*\n", true),
        ("disable *\nenable vmstage*\n", false),
        ("enable vm?tage.service\n", true),
        ("enable vm?tage-*.service\n", true),
        ("enable vm[a-s]tage*.servic[!x]\n", true),
        ("enable vm[!s]tage*\n", false),
        ("enable vmstage\n", false),
        ("# enable vmstage*\n; enable vmstage*\n", false),
        (
            "  enable vmstage.service x y\nignore vmstage-watch.service\n",
            true,
        ),
        ("disable vmstage-watch.service\nenable vmstage*\n", false),
        ("enable *stage*\n", true),
    ] {
        assert_eq!(enabled::presets_enable(text), is_enabled, "{text}");
    }
    let new = ("etc/machine-id", None);
    let preset = |directory| format!("{directory}/systemd/system-preset/80-x.preset");
    let (own, shipped) = (preset("etc"), preset("usr/lib"));
    let (enables, disables) = (Some("enable vmstage*\n"), Some("disable *\n"));
    let found = &["warning preset /etc/machine-id"];
    assert_found("systemd", &[new, (&shipped, enables)], &[]);
    assert_found("systemd", &[new, (&shipped, disables)], found);
    // Of one name the one in /etc counts.
    for (of_own, expected) in [(Some(""), &found[..]), (disables, found), (enables, &[])] {
        for of_shipped in [enables, disables] {
            let both = [new, (&shipped, of_shipped), (&own, of_own)];
            assert_found("systemd", &both, expected);
        }
    }
}

#[test]
fn condor_waits_where_its_unit_says_so_in_force() {
    let ours = "usr/lib/systemd/system/condor.service.d/vmstage.conf";
    let local = "etc/systemd/system/condor.service.d/vmstage.conf";
    let other = "etc/systemd/system/condor.service.d/x.conf";
    let order = &["error order-condor /usr/lib/systemd/system/condor.service.d"][..];
    let cases: &[(&[Change], &[&str])] = &[
        (&[(local, Some(""))], order),
        (&[(local, Some("[Unit]\n# vmstage.service\n"))], order),
        (&[(local, Some("[Unit]\nAfter=vmstage.service\n"))], order),
        (&[(ours, None), (other, Some("# vmstage.service\n"))], order),
        (&[(ours, None), (other, Some("[Unit]\nRequires=\n"))], order),
        (
            &[
                (ours, None),
                (other, Some("Requires=not-vmstage.service\n")),
            ],
            order,
        ),
        (
            &[
                (ours, None),
                (
                    other,
                    Some("[Unit]\nBindsTo=a.service \\\n vmstage.service\n"),
                ),
            ],
            &[],
        ),
        // A dependency cannot be taken back.
        (&[(other, Some("[Unit]\nRequires=\nAfter=\n"))], &[]),
    ];
    for (changes, expected) in cases {
        assert_found("systemd", changes, expected);
    }
    let image = Image::healthy("systemd");
    image.write(other, "");
    image.link(local, "/dev/null");
    assert_eq!(image.found(), order);
}

#[test]
fn the_configuration_of_htcondor() {
    let late = "etc/condor/config.d/99-z.config";
    for (path, content, expected) in [
        (
            late,
            "START = True\n",
            &["warning condor-start /etc/condor/config.d/99-z.config:1"][..],
        ),
        (late, "\nstart = $(START) && x\n", &[]),
        (
            late,
            "START = True || $(START)\n",
            &["warning condor-start /etc/condor/config.d/99-z.config:1"],
        ),
        (
            late,
            "EXECUTE = /x\n",
            &["warning condor-execute /etc/condor/config.d/99-z.config:1"],
        ),
        (
            "etc/condor/config.d/10-a",
            "SLOT_TYPE_1_START = True\nEXECUTE = /y\n",
            &["warning condor-start /etc/condor/config.d/10-a:1"],
        ),
        ("etc/condor/config.d/99-z.config~", "START = True\n", &[]),
    ] {
        assert_found("systemd", &[(path, Some(content))], expected);
    }
    // A local file is read after the directory.
    let global = (
        "etc/condor/condor_config",
        Some("D=/etc/condor\nLOCAL_CONFIG_DIR = $(D)/config.d\nLOCAL_CONFIG_FILE = $(D)/local\n"),
    );
    let local = (
        "etc/condor/local",
        Some("STARTD.EXECUTE = /x\nif version > 9\n start = \\\n  True\nendif\n"),
    );
    assert_found(
        "systemd",
        &[global, local],
        &[
            "warning condor-execute /etc/condor/local:1",
            "warning condor-start /etc/condor/local:3",
        ],
    );
    let templates = "use ROLE : Execute\nuse POLICY : Always_Run_Jobs\ninclude : /bin/make|\n";
    assert_found(
        "systemd",
        &[(late, Some(templates))],
        &[
            "warning condor-start /etc/condor/config.d/99-z.config:2",
            "note condor-unclear /etc/condor/config.d/99-z.config:3",
        ],
    );
    // HTCondor reads no other directory than those that are named.
    for directories in ["", "LOCAL_CONFIG_DIR = /etc/condor/local.d\n"] {
        let global = ("etc/condor/condor_config", Some(directories));
        let unguarded = "error condor-unguarded /etc/condor/condor_config";
        assert_found("systemd", &[global], &[unguarded]);
        assert_found("numbers", &[global], &[unguarded]);
    }
    assert_found(
        "numbers",
        &[("etc/condor/config.d", None)],
        &["error condor-unguarded /etc/condor/config.d"],
    );
}

#[test]
fn the_mount_point_and_its_directories() {
    let configuration = |text| ("etc/vmstage.toml", Some(text));
    assert_found(
        "systemd",
        &[("staging/a/b", Some("12345"))],
        &["warning below-mount /staging"],
    );
    assert_found(
        "systemd",
        &[("staging", Some("-> /var"))],
        &["error mount-point /staging"],
    );
    assert_found(
        "systemd",
        &[("staging", Some("file"))],
        &["error mount-point /staging"],
    );
    assert_found(
        "systemd",
        &[configuration("staging.mount_point = \"/scratch\"")],
        &["warning staging-mount-name /usr/lib/systemd/system/condor.service.d/vmstage.conf"],
    );
    let after = "[Unit]\nAfter=scratch.mount\n";
    let own = ("etc/systemd/system/condor.service.d/x.conf", Some(after));
    assert_found(
        "systemd",
        &[configuration("staging.mount_point = \"/scratch\""), own],
        &[],
    );
    let owner = "[[directory]]\npath = \"a\"\nowner = \"nobody-here\"\n";
    assert_found(
        "systemd",
        &[configuration(owner)],
        &["error no-owner /etc/vmstage.toml"],
    );
    let ldap = ("etc/nsswitch.conf", Some("passwd: files sss\n"));
    assert_found(
        "systemd",
        &[configuration(owner), ldap],
        &["note no-owner /etc/vmstage.toml"],
    );
    let sysusers = ("usr/lib/sysusers.d/x.conf", Some("u nobody-here - -\n"));
    assert_found("systemd", &[configuration(owner), sysusers], &[]);
}

#[test]
fn the_configuration() {
    let configuration = |text| ("etc/vmstage.toml", Some(text));
    for (text, expected) in [
        ("[stagin]", &["error config /etc/vmstage.toml"][..]),
        ("-> /nowhere", &["error config /etc/vmstage.toml"]),
        (
            "callback.token = \"x\"",
            &["warning config-token /etc/vmstage.toml"],
        ),
        (
            "staging.format = \"blank\"\nstaging.filesystem = \"xfs\"",
            &["warning no-mkfs /etc/vmstage.toml"],
        ),
        (
            "staging.format = \"never\"\nstaging.filesystem = \"xfs\"",
            &[],
        ),
        (
            "staging.devices = [\"/dev/md127\"]",
            &["warning no-mdadm /etc/vmstage.toml"],
        ),
        (
            "staging.combine = \"stripe\"",
            &["warning no-mdadm /etc/vmstage.toml"],
        ),
        (
            "staging.combine = \"stripe\"\nstaging.format = \"never\"",
            &[],
        ),
    ] {
        assert_found("systemd", &[configuration(text)], expected);
    }
    // What depends on the mount point is not known.
    let path = "usr/lib/systemd/system/condor.service.d/vmstage.conf";
    let drop_in = FILES.iter().find(|file| file.names_mount_point()).unwrap();
    let content = drop_in.content_for("/scratch".as_ref());
    let drop_in = (path, Some(std::str::from_utf8(&content).unwrap()));
    let right = configuration("staging.mount_point = \"/scratch\"");
    assert_found("systemd", &[drop_in, right], &[]);
    let wrong = configuration("staging.mount_point = \"/scratch\"\nx = 1");
    let expected = ["error config /etc/vmstage.toml"];
    assert_found("systemd", &[drop_in, wrong], &expected);
}

#[test]
fn a_program_that_may_not_be_run_is_none() {
    let image = Image::healthy("systemd");
    image.write(
        "etc/vmstage.toml",
        "staging.format = \"blank\"\nstaging.filesystem = \"xfs\"",
    );
    image.write("sbin/mkfs.xfs", ELF);
    assert_eq!(image.found(), ["warning no-mkfs /etc/vmstage.toml"]);
    image.make_executable("sbin/mkfs.xfs");
    assert_eq!(image.found(), [""; 0]);
}

#[test]
fn the_program_and_its_files() {
    let unit = "usr/lib/systemd/system/vmstage.service";
    let place = "warning other-version /usr/lib/systemd/system/vmstage.service";
    assert_found(
        "systemd",
        &[(unit, Some("[Service]\nExecStart=/x\n"))],
        &[place],
    );
    // A program of before carries no units: those of this one are not its.
    let mut expected =
        vec!["warning other-version /usr/lib/systemd/system/condor.service.d/vmstage.conf"];
    expected.insert(
        0,
        "warning other-version /usr/lib/systemd/system/vmstage-watch.service",
    );
    expected.insert(0, place);
    assert_found("systemd", &[("usr/sbin/vmstage", Some(ELF))], &expected);
    for program in [&format!("{ARM}{}", "x".repeat(50)), "#!/bin/sh\n"] {
        let image = Image::healthy("systemd");
        image.write("usr/sbin/vmstage", program);
        assert_eq!(image.found()[0], "error foreign-arch /usr/sbin/vmstage");
    }
    let enforcing = (
        "etc/selinux/config",
        Some("# SELINUX=\nSELINUX=enforcing\n"),
    );
    let expected = ["warning selinux /usr/lib/systemd/system/vmstage.service"];
    assert_found("systemd", &[enforcing], &expected);
    assert_found("systemd", &[enforcing, (".autorelabel", Some(""))], &[]);
    for (text, enforces) in [
        ("SELINUX=Enforcing\n", true),
        ("SELINUX= enforcing # for now\n", true),
        ("SELINUX=\tENFORCING \n", true),
        ("SELINUX=permissive\nSELINUX=enforcing\n", false),
        ("SELINUX=x\nSELINUX=enforcing\n", true),
        ("SELINUX = enforcing\n", false),
        (" SELINUX=enforcing\n", false),
        ("SELINUXTYPE=enforcing\n", false),
    ] {
        let expected = match enforces {
            true => &expected[..],
            false => &[],
        };
        assert_found("systemd", &[("etc/selinux/config", Some(text))], expected);
    }
}

#[test]
fn drivers_of_each_kernel() {
    let all = "kernel/fs/ext4/ext4.ko:\nkernel/fs/fat/vfat.ko.xz:\nkernel/drivers/block/xen-blkfront.ko:\n";
    let built_in = "kernel/drivers/block/virtio_blk.ko\nkernel/drivers/nvme/host/nvme.ko\n";
    let modules = |list| ("lib/modules/6.1/modules.dep", Some(list));
    let built = ("lib/modules/6.1/modules.builtin", Some(built_in));
    assert_found("systemd", &[modules(all), built], &[]);
    let expected = ["warning no-driver /lib/modules/6.1"];
    assert_found(
        "systemd",
        &[modules("kernel/fs/ext4/ext4.ko:\n"), built],
        &expected,
    );
    // Nobody knows what is built in.
    assert_found("systemd", &[modules("")], &expected);
    let every = format!("{all}{built_in}");
    assert_found("systemd", &[modules(&every)], &[]);
    let options = "CONFIG_EXT4_FS=y\nCONFIG_VFAT_FS=y\nCONFIG_VIRTIO_BLK=y\n\
                   CONFIG_XEN_BLKDEV_FRONTEND=y\nCONFIG_BLK_DEV_NVME=y\n";
    assert_found(
        "systemd",
        &[modules(""), ("boot/config-6.1", Some(options))],
        &[],
    );
    let stripe = "staging.combine = \"stripe\"\nstaging.format = \"never\"";
    let stripe = ("etc/vmstage.toml", Some(stripe));
    let raid0 = format!("{every}kernel/drivers/md/raid0.ko:\n");
    for (modules_dep, expected) in [(&every, &expected[..]), (&raid0, &[])] {
        assert_found("systemd", &[modules(modules_dep), stripe], expected);
    }
}

#[test]
fn what_seal_would_remove_is_warned_of() {
    let record = "var/lib/vmstage/first-boot-0e4d1c2b-8f6a-4b3c-9d1e-000000000001.json";
    for (path, content, expected) in [
        (
            "etc/machine-id",
            "0123",
            "warning machine-id /etc/machine-id",
        ),
        (
            "var/lib/dbus/machine-id",
            "0123",
            "warning dbus-machine-id /var/lib/dbus/machine-id",
        ),
        (
            "var/lib/vmstage/first-boot-i-1.json",
            "{}",
            "warning stale-state /var/lib/vmstage/first-boot-i-1.json",
        ),
        (
            "etc/machinefeatures/.vmstage",
            "a b\n",
            "warning stale-report /etc/machinefeatures/.vmstage",
        ),
        (
            "etc/udev/rules.d/70-persistent-net.rules",
            "x",
            "warning net-rules /etc/udev/rules.d/70-persistent-net.rules",
        ),
        (
            "etc/sysconfig/network-scripts/ifcfg-eth0",
            "DEVICE=eth0\nHWADDR=x\n",
            "warning hwaddr /etc/sysconfig/network-scripts/ifcfg-eth0",
        ),
        (
            "etc/sysconfig/network-scripts/ifcfg-eth1",
            "DEVICE=eth1; export UUID=5\n",
            "warning hwaddr /etc/sysconfig/network-scripts/ifcfg-eth1",
        ),
        ("etc/ssh/ssh_host_rsa_key", "", "warning host-keys /etc/ssh"),
        ("usr/sbin/sshd", "", "error host-keys /etc/ssh"),
    ] {
        assert_found("systemd", &[(path, Some(content))], &[expected]);
    }
    // It counts for the machine that has this UUID, and for no other.
    assert_found("systemd", &[(record, Some("{}"))], &[]);
    let keygen = "[Unit]\n[Service]\nExecStart=/usr/bin/ssh-keygen -A\n";
    let keygen = ("usr/lib/systemd/system/host-keys.service", Some(keygen));
    let sshd = ("usr/sbin/sshd", Some(""));
    let key = ("etc/ssh/ssh_host_rsa_key", Some(""));
    // Nothing enables it.
    assert_found("systemd", &[sshd, keygen], &["error host-keys /etc/ssh"]);
    assert_found("systemd", &[key, keygen], &["warning host-keys /etc/ssh"]);
    let wants = "etc/systemd/system/multi-user.target.wants/host-keys.service";
    let wants = (wants, Some(""));
    assert_found("systemd", &[sshd, keygen, wants], &[]);
    let expected = ["warning host-keys /etc/ssh/ssh_host_rsa_key"];
    assert_found("systemd", &[key, keygen, wants], &expected);
    let cloud = [
        ("usr/bin/cloud-init", Some("")),
        ("etc/cloud/cloud.cfg", Some("")),
        ("var/lib/cloud/instances/i-1/x", Some("")),
    ];
    assert_found(
        "systemd",
        &cloud,
        &["warning cloud-state /var/lib/cloud/instances"],
    );
}

#[test]
fn a_link_that_leads_out_is_an_error_and_a_circle_a_warning() {
    let out = ("etc/init.d", Some("-> ../../../x"));
    assert_found("systemd", &[out], &["error links-out /etc/init.d"]);
    let circle = ("etc/inittab", Some("-> inittab"));
    assert_found("systemd", &[circle], &["warning unreadable /etc/inittab"]);
}

#[test]
fn the_worst_finding_gives_the_exit_code() {
    let finding = |severity| Finding {
        id: "x",
        severity,
        place: String::new(),
        what: String::new(),
        cure: String::new(),
    };
    use finding::Severity::{Error, Note, Warning};
    for (severities, expected) in [
        (&[][..], 0),
        (&[Note], 0),
        (&[Note, Warning], 10),
        (&[Warning, Error, Note], 11),
    ] {
        let findings: Vec<Finding> = severities.iter().map(|s| finding(*s)).collect();
        assert_eq!(exit_code(&findings), expected);
    }
}
