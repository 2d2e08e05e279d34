//! vmstage check.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use serde_json::Value;

use super::old::{EVERY_INIT, Image, Init, Run, difference};
use crate::common::{copy_program, need_root, private_mounts, program, scratch_file};

claims![
    every_fault_of_an_old_image_is_named_with_its_place,
    what_install_mends_is_named_no_more,
    what_seal_removes_is_named_no_more,
    as_json_it_is_the_same,
    nothing_is_changed,
    the_exit_code_is_that_of_the_worst,
    what_is_no_root_directory_is_an_error,
    this_machine_is_looked_at_where_no_root_is_given,
    a_link_to_this_machines_root_is_refused,
    an_image_that_is_read_only_is_looked_at,
    an_fstab_of_a_megabyte_is_read_and_a_larger_one_said,
    files_that_could_hold_it_do_not,
    names_that_are_no_text_do_no_harm,
    what_would_act_on_a_terminal_is_not_printed,
    it_works_without_root,
];

/// The id and the place of each finding.
fn found(run: &Run) -> Vec<(String, String)> {
    let findings = run.stdout.lines().map(|line| {
        assert!(line.contains("; do: "), "{line}");
        let mut words = line.splitn(3, ' ').skip(1);
        let id = words.next().unwrap().to_string();
        let place = words.next().unwrap().split(": ").next().unwrap();
        (id, place.to_string())
    });
    findings.collect()
}

fn check(image: &Image) -> Run {
    let run = image.run("check", &[]);
    assert!([0, 10, 11].contains(&run.code), "{run}");
    let is_said = run.stderr.contains("not all is well");
    assert_eq!(run.code != 0, is_said, "{run}");
    run
}

fn has(run: &Run, id: &str) -> bool {
    found(run).iter().any(|(found, _)| found == id)
}

/// What an old image has, and what it lacks.
fn every_fault_of_an_old_image_is_named_with_its_place() {
    for init in EVERY_INIT {
        let image = Image::old(init);
        let run = check(&image);
        assert_eq!(run.code, 11, "{run}");
        let rc_local = match init {
            Init::Chkconfig => "/etc/rc.d/rc.local",
            _ => "/etc/rc.local",
        };
        let found = found(&run);
        for (id, place) in [
            ("old-fstab", "/etc/fstab:2".to_string()),
            ("old-script", format!("{rc_local}:4")),
            ("old-rc-local", format!("{rc_local}:5")),
            ("old-rc-local", format!("{rc_local}:8")),
            ("enabled-none", "/usr/sbin/vmstage".into()),
            ("no-owner", "/etc/vmstage.toml".into()),
        ] {
            let is_there = found.contains(&(id.into(), place.clone()));
            assert!(is_there, "{init:?}: no {id} {place}\n{run}");
        }
        assert!(has(&run, "old-script"), "{run}");
    }
}

fn what_install_mends_is_named_no_more() {
    for init in EVERY_INIT {
        let image = Image::old(init);
        image.install(&["--replace-old"]);
        let run = check(&image);
        let left: Vec<String> = found(&run).into_iter().map(|(id, _)| id).collect();
        let mended = left.iter().filter(|id| {
            id.starts_with("old-") || id.starts_with("enabled-") || id.starts_with("order-")
        });
        let left: Vec<&String> = mended.collect();
        // Nobody knows what starts services there.
        let expected = if init == Init::Busybox { 1 } else { 0 };
        assert_eq!(left.len(), expected, "{init:?}: {run}");
        assert!(!has(&run, "other-version"), "{run}");
    }
}

fn what_seal_removes_is_named_no_more() {
    let image = Image::old(Init::Systemd);
    image.install(&["--replace-old"]);
    for (path, content) in [
        ("/etc/machine-id", "0123\n"),
        ("/var/lib/dbus/machine-id", "0123\n"),
        ("/etc/ssh/ssh_host_ed25519_key", "x"),
        (
            "/usr/lib/systemd/system/sshd-keygen@.service",
            "ExecStart=/usr/libexec/openssh/sshd-keygen %i\n",
        ),
        (
            "/etc/systemd/system/multi-user.target.wants/sshd-keygen@rsa.service",
            "",
        ),
        ("/var/lib/vmstage/first-boot-i-00000001.json", "{}"),
        ("/etc/condor/config.d/99-vmstage.config", "START = False\n"),
        ("/etc/udev/rules.d/70-persistent-net.rules", "x"),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", "HWADDR=x\n"),
        ("/usr/bin/cloud-init", ""),
        ("/etc/cloud/cloud.cfg", ""),
        ("/var/lib/cloud/instances/i-1/x", ""),
        ("/etc/fstab", "/dev/vdb /mnt auto comment=cloudconfig\n"),
    ] {
        image.write(path, content);
    }
    let ids = [
        "machine-id",
        "dbus-machine-id",
        "host-keys",
        "stale-state",
        "stale-report",
        "net-rules",
        "hwaddr",
        "cloud-state",
        "fstab-cloudconfig",
    ];
    let before = check(&image);
    for id in ids {
        assert!(has(&before, id), "no {id}: {before}");
    }
    let sealed = image.run("seal", &["--yes"]);
    assert_eq!(sealed.code, 0, "{sealed}");
    let after = check(&image);
    for id in ids {
        assert!(!has(&after, id), "{id}: {after}");
    }
}

fn as_json_it_is_the_same() {
    let image = Image::old(Init::Insserv);
    let text = check(&image);
    let json = image.run("check", &["--format", "json"]);
    assert_eq!(json.code, text.code);
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    let findings = document["findings"].as_array().unwrap();
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| {
            let field = |name: &str| finding[name].as_str().unwrap().to_string();
            format!(
                "{} {} {}: {}; do: {}\n",
                field("severity"),
                field("id"),
                field("place"),
                field("what"),
                field("do")
            )
        })
        .collect();
    assert_eq!(lines.concat(), text.stdout);
    // The worst first.
    let is_error = |line: &String| line.starts_with("error");
    let errors = lines.iter().take_while(|line| is_error(line)).count();
    assert!(errors > 0 && !lines[errors..].iter().any(is_error));
}

fn nothing_is_changed() {
    for init in EVERY_INIT {
        let image = Image::old(init);
        let before = image.listing();
        check(&image);
        assert_eq!(difference(&before, &image.listing()), [""; 0], "{init:?}");
    }
}

fn the_exit_code_is_that_of_the_worst() {
    let image = Image::at(scratch_file(), Init::Systemd);
    image.write("/bin/sh", super::old::ELF);
    image.install(&[]);
    image.write(
        "/etc/vmstage.toml",
        "directory = []\nstaging.format = \"never\"\n",
    );
    image.write("/etc/machine-id", "0123\n");
    assert_eq!(check(&image).code, 10, "{}", check(&image));
    image.write("/etc/machine-id", "");
    let run = check(&image);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{run}");
    image.write("/etc/fstab", "LABEL=ephemeral0 /staging auto nofail 0 0\n");
    let run = check(&image);
    assert!(
        run.code == 0 && run.stdout.starts_with("note old-fstab"),
        "{run}"
    );
    image.write(
        "/etc/fstab",
        "LABEL=ephemeral0 /staging auto defaults 0 0\n",
    );
    assert_eq!(check(&image).code, 11);
    let usage = image.run("check", &["--format", "xml"]);
    assert_eq!(usage.code, 2, "{usage}");
}

fn on(root: &Path) -> Run {
    let output = Command::new(program())
        .args(["check", "--root"])
        .arg(root)
        .output();
    output.unwrap().into()
}

fn what_is_no_root_directory_is_an_error() {
    let directory = scratch_file();
    fs::create_dir(&directory).unwrap();
    let file = directory.join("file");
    File::create(&file).unwrap();
    for (root, words) in [
        (directory.clone(), "not the root directory of a system"),
        (directory.join("none"), "No such file"),
        (file, "Not a directory"),
    ] {
        let run = on(&root);
        assert!(run.code == 1 && run.stderr.contains(words), "{run}");
    }
    fs::remove_dir_all(directory).unwrap();
}

/// It reads only.
fn this_machine_is_looked_at_where_no_root_is_given() {
    let run: Run = Command::new(program())
        .arg("check")
        .output()
        .unwrap()
        .into();
    assert!([0, 10, 11].contains(&run.code), "{run}");
    assert_eq!(found(&on(Path::new("/"))), found(&run));
}

fn a_link_to_this_machines_root_is_refused() {
    let link = scratch_file();
    symlink("/", &link).unwrap();
    let run = on(&link);
    assert!(
        run.code == 1 && run.stderr.contains("say --root /"),
        "{run}"
    );
    fs::remove_file(link).unwrap();
}

fn an_image_that_is_read_only_is_looked_at() {
    private_mounts();
    let image = Image::old(Init::Systemd);
    let before = check(&image).stdout;
    image.make_read_only();
    assert!(fs::write(image.path("/x"), "").is_err());
    assert_eq!(check(&image).stdout, before);
}

fn an_fstab_of_a_megabyte_is_read_and_a_larger_one_said() {
    let image = Image::old(Init::Systemd);
    let line = "/dev/sdb /staging ext2\n";
    let comment = "#".repeat((1 << 20) - line.len() - 1) + "\n";
    image.write("/etc/fstab", comment.clone() + line);
    assert!(found(&check(&image)).contains(&("old-fstab".into(), "/etc/fstab:2".into())));
    image.write("/etc/fstab", comment + line + "#");
    let run = check(&image);
    assert!(
        found(&run).contains(&("unreadable".into(), "/etc/fstab".into())),
        "{run}"
    );
}

fn files_that_could_hold_it_do_not() {
    need_root();
    let device = |path: &Path| mknod(path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).unwrap();
    let pipe = |path: &Path| mkfifo(path, Mode::S_IRWXU).unwrap();
    let endless = |path: &Path| File::create(path).unwrap().set_len(1 << 40).unwrap();
    let circle = |path: &Path| symlink(path.file_name().unwrap(), path).unwrap();
    type Lay<'a> = &'a dyn Fn(&Path);
    let kinds: [Lay; 4] = [&device, &pipe, &endless, &circle];
    for lay in kinds {
        let image = Image::old(Init::Systemd);
        image.install(&[]);
        for path in [
            "/etc/fstab",
            "/etc/rc.local",
            "/etc/inittab",
            "/etc/passwd",
            "/etc/group",
            "/etc/machine-id",
            "/etc/nsswitch.conf",
            "/etc/selinux/config",
            "/etc/condor/condor_config",
            "/etc/condor/config.d/99-z.config",
            "/etc/cloud/cloud.cfg",
            "/etc/init.d/mount_staging",
            "/usr/lib/systemd/system/condor.service.d/vmstage.conf",
            "/usr/sbin/vmstage",
            "/lib/modules/6.1/modules.dep",
            "/lib/modules/6.1/modules.builtin",
            "/staging",
            "/etc/machinefeatures/.vmstage",
            "/etc/sysconfig/network-scripts/ifcfg-eth0",
        ] {
            let path = image.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::remove_file(&path).ok();
            lay(&path);
        }
        let start = Instant::now();
        let run = check(&image);
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            start.elapsed()
        );
        assert!(has(&run, "unreadable"), "{run}");
        // A wrong configuration is no other fault than one that cannot be read.
        let path = image.path("/etc/vmstage.toml");
        fs::remove_file(&path).unwrap();
        lay(&path);
        assert!(has(&check(&image), "config"));
    }
}

fn names_that_are_no_text_do_no_harm() {
    let image = Image::old(Init::Insserv);
    let name = OsStr::from_bytes(b"S01\xff\xfe");
    for directory in [
        "/etc/rc2.d",
        "/staging",
        "/etc/condor/config.d",
        "/etc/ssh",
        "/home",
    ] {
        image.directory(directory);
        fs::write(image.path(directory).join(name), "START = True\n").unwrap();
    }
    let run = check(&image);
    assert!(has(&run, "below-mount"), "{run}");
}

fn what_would_act_on_a_terminal_is_not_printed() {
    let image = Image::old(Init::Systemd);
    image.write("/etc/fstab", "/dev/\x1b[2Jsdb /staging ext2\n");
    image.write("/staging/\x1b[31m", "");
    let run = check(&image);
    assert!(has(&run, "old-fstab") && has(&run, "below-mount"), "{run}");
    assert!(!run.stdout.contains('\x1b'), "{run}");
}

fn it_works_without_root() {
    use std::os::unix::process::CommandExt;
    need_root();
    let image = Image::old(Init::Systemd);
    // Where anybody can run it.
    let copy = scratch_file();
    copy_program(&program(), &copy);
    let expected = check(&image).stdout;
    let output = Command::new(&copy)
        .args(["check", "--root"])
        .arg(image.root())
        .uid(65_534)
        .output();
    let run: Run = output.unwrap().into();
    assert_eq!(run.stdout, expected, "{run}");
    fs::remove_file(copy).unwrap();
}
