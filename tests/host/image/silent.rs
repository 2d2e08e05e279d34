//! File systems that never answer, in a system or in an image: nothing waits for them, all else
//! is done, and each is named.

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};

use super::old::{Image, Init, Run, difference};
use crate::common::{
    Fault, Image as Disk, Machine, SilentMount, need_root, private_mounts, program,
};

claims![
    a_machine_is_sealed_but_for_what_does_not_answer,
    an_image_is_sealed_but_for_what_does_not_answer,
    into_a_machine_it_is_installed_and_out_of_it_taken,
    into_an_image_it_is_installed_and_out_of_it_taken,
    what_staged_the_disk_before_may_be_where_nobody_answers,
    a_scratch_disk_that_does_not_answer_is_none_of_the_image,
    an_image_that_does_not_answer_is_none,
    a_disk_that_hangs_holds_no_command,
    an_image_on_a_disk_that_might_hang_is_as_any_other,
];

/// How long a file system may take.
const AT_A_PLACE: Duration = Duration::from_secs(6);

/// A program that is still there then waits for ever.
const FOR_EVER: Duration = Duration::from_secs(60);

/// A file system that does not answer, in an image. It can be removed when this is over.
struct Dead<'a> {
    image: &'a Image,
    path: &'a str,
    silent: Option<SilentMount>,
}

impl<'a> Dead<'a> {
    fn on(image: &'a Image, path: &'a str) -> Dead<'a> {
        need_root();
        private_mounts();
        let silent = Some(SilentMount::on("server:/export", &image.path(path)));
        Dead {
            image,
            path,
            silent,
        }
    }
}

impl Drop for Dead<'_> {
    fn drop(&mut self) {
        umount2(&self.image.path(self.path), MntFlags::MNT_DETACH).unwrap();
        drop(self.silent.take());
    }
}

/// Runs the program, which ends before long.
#[track_caller]
fn ends_soon(mut command: Command) -> Run {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() && started.elapsed() < FOR_EVER {
        thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let output: Output = child.wait_with_output().unwrap();
    let took = started.elapsed();
    let run: Run = output.into();
    assert!(took < 3 * AT_A_PLACE, "{took:?} {run}");
    run
}

/// What a link leads to is named as what it is, a mount point.
const PLACES: [(&str, &str); 5] = [
    ("/var/lib/dhcp", "/var/lib/dhcp"),
    ("/etc/condor/config.d", "/etc/condor/config.d"),
    ("/home", "/home"),
    ("-> /var/lib/cloud", "/srv/server"),
    ("-> /etc/ssh", "/srv/server"),
];

fn a_machine_is_sealed_but_for_what_does_not_answer() {
    for (place, named) in PLACES {
        let mut machine = Machine::new();
        for changed in ["/etc", "/var", "/root", "/home"] {
            machine.may_change(changed);
        }
        machine.sh("mkdir -p /var/lib/systemd /srv
             echo 0123456789abcdef > /etc/machine-id; echo x > /var/lib/systemd/random-seed
             touch /usr/bin/cloud-init; mkdir -p /etc/cloud; touch /etc/cloud/cloud.cfg");
        let _silent = match place.strip_prefix("-> ") {
            Some(link) => {
                machine.sh(&format!("rm -rf {link}; ln -s /srv/server/x {link}"));
                machine.silent_mount("server:/export", "/srv/server")
            }
            None => machine.silent_mount("server:/export", place),
        };
        let seals = [&["seal", "--dry-run"][..], &["seal", "--yes"]];
        // That says the same wherever it is.
        for arguments in &seals[usize::from(place != "/home")..] {
            let seal = machine.run(&[arguments, &["--logs"][..]].concat());
            assert_eq!(seal.code, 1, "{place}: {seal}");
            assert!(seal.took < 3 * AT_A_PLACE, "{place}: {seal}");
            let words = format!("file-systems: failed: {named} does not answer");
            assert!(seal.stdout.contains(&words), "{place}: {seal}");
        }
        let left = machine.sh("cat /etc/machine-id; ls /var/lib/systemd");
        assert_eq!(left.trim(), "", "{place}");
    }
}

fn an_image_is_sealed_but_for_what_does_not_answer() {
    for place in ["/var/lib/dhcp", "/etc/condor/config.d", "/home/me"] {
        let image = Image::old(Init::Systemd);
        image.write("/etc/machine-id", "0123456789abcdef\n");
        image.write("/var/lib/systemd/random-seed", "x");
        let dead = Dead::on(&image, place);
        let seal = ends_soon(image.command("seal", &["--yes", "--logs"]));
        assert_eq!(seal.code, 1, "{place}: {seal}");
        let words = format!("{} does not answer", image.path(place).display());
        assert!(seal.stdout.contains(&words), "{place}: {seal}");
        drop(dead);
        assert_eq!(image.read("/etc/machine-id"), "");
        assert!(!image.exists("/var/lib/systemd/random-seed"));
        let again = image.run("seal", &["--yes", "--logs"]);
        assert_eq!(again.code, 0, "{place}: {again}");
    }
}

fn into_a_machine_it_is_installed_and_out_of_it_taken() {
    for place in ["/etc/cron.d", "/var/spool/cron", "-> /var/lib/vmstage"] {
        let mut machine = Machine::new();
        for changed in ["/etc", "/var", "/srv"] {
            machine.may_change(changed);
        }
        machine.sh("mkdir -p /etc/systemd/system /srv; rm -f /etc/vmstage.toml");
        let named = place.strip_prefix("-> ").map_or(place, |_| "/srv/server");
        let _silent = machine.silent_mount("server:/export", named);
        if let Some(link) = place.strip_prefix("-> ") {
            machine.sh(&format!("ln -s /srv/server/x {link}"));
        }
        let install = machine.run(&["install", "--root", "/", "--init", "systemd"]);
        assert_eq!(install.code, 0, "{place}: {install}");
        assert!(install.took < 3 * AT_A_PLACE, "{place}: {install}");
        let words = format!("unreadable {named}: it does not answer");
        assert!(install.stdout.contains(&words), "{place}: {install}");
        let unit = "/usr/lib/systemd/system/vmstage.service";
        assert!(machine.path(unit).exists(), "{install}");
        let check = machine.run(&["check"]);
        assert!(check.stdout.contains(&words), "{place}: {check}");
        let uninstall = machine.run(&["uninstall", "--root", "/"]);
        assert!(uninstall.took < 3 * AT_A_PLACE, "{place}: {uninstall}");
        assert!(!machine.path(unit).exists(), "{uninstall}");
        // None of that is vmstage's.
        assert_eq!(uninstall.code, 0, "{place}: {uninstall}");
    }
}

fn into_an_image_it_is_installed_and_out_of_it_taken() {
    let image = Image::old(Init::Systemd);
    let before = image.listing();
    let dead = Dead::on(&image, "/var/lib/vmstage");
    let install = ends_soon(image.command("install", &[]));
    assert_eq!(install.code, 0, "{install}");
    assert!(install.stdout.contains("does not answer"), "{install}");
    assert!(image.exists("/usr/lib/systemd/system/vmstage.service"));
    let uninstall = ends_soon(image.command("uninstall", &[]));
    assert_eq!(uninstall.code, 1, "{uninstall}");
    let words = format!(
        "{} does not answer",
        image.path("/var/lib/vmstage").display()
    );
    assert!(uninstall.stdout.contains(&words), "{uninstall}");
    assert!(!image.exists("/usr/lib/systemd/system/vmstage.service"));
    drop(dead);
    assert_eq!(image.run("uninstall", &[]).code, 0);
    assert_eq!(difference(&before, &image.listing()), [""; 0]);
    // Where the files belong.
    let dead = Dead::on(&image, "/usr/lib/systemd/system");
    let install = ends_soon(image.command("install", &[]));
    assert_eq!(install.code, 1, "{install}");
    let words = format!(
        "{} does not answer",
        image.path("/usr/lib/systemd/system").display()
    );
    assert!(install.stderr.contains(&words), "{install}");
    drop(dead);
}

fn what_staged_the_disk_before_may_be_where_nobody_answers() {
    let image = Image::old(Init::Systemd);
    let _dead = Dead::on(&image, "/etc/cron.d");
    let install = ends_soon(image.command("install", &["--replace-old"]));
    assert_eq!(install.code, 1, "{install}");
    let words = format!("{} does not answer", image.path("/etc/cron.d").display());
    assert!(install.stderr.contains(&words), "{install}");
    assert!(!image.read("/etc/fstab").contains("/staging"), "{install}");
}

fn a_scratch_disk_that_does_not_answer_is_none_of_the_image() {
    let mut machine = Machine::new();
    for changed in ["/etc", "/var"] {
        machine.may_change(changed);
    }
    machine.sh("echo 0123456789abcdef > /etc/machine-id");
    let _silent = machine.silent_mount("server:/export", "/staging");
    let seal = machine.run(&["seal", "--yes"]);
    assert_eq!(seal.code, 0, "{seal}");
    assert!(seal.took < 3 * AT_A_PLACE, "{seal}");
    assert_eq!(machine.sh("cat /etc/machine-id"), "");
}

fn an_image_that_does_not_answer_is_none() {
    let image = Image::old(Init::Systemd);
    let dead = Dead::on(&image, "/srv/image");
    for (name, code) in [("check", 1), ("seal", 1), ("install", 1), ("uninstall", 1)] {
        let mut command = Command::new(program());
        command
            .arg(name)
            .arg("--root")
            .arg(image.path("/srv/image"));
        command.args((name == "seal").then_some("--yes"));
        let run = ends_soon(command);
        assert_eq!(run.code, code, "{name}: {run}");
        assert!(run.stderr.contains("does not answer"), "{name}: {run}");
    }
    drop(dead);
}

/// What the kernel remembers of it answers. The disk is let go after half a minute.
fn a_disk_that_hangs_holds_no_command() {
    for (command, code) in [
        (&["check"][..], 10),
        (&["seal", "--yes", "--logs"], 1),
        // Nobody knows whether a package has it.
        (&["install", "--root", "/", "--init", "systemd"], 1),
        (&["uninstall", "--root", "/"], 1),
    ] {
        let mut machine = Machine::new();
        for changed in ["/etc", "/var/lib"] {
            machine.may_change(changed);
        }
        let disk = machine.faulty_disk("vdc", &Disk::ext4("state"));
        machine.sh(
            "mkdir -p /etc/systemd/system; echo 0123456789abcdef > /etc/machine-id
             mount /dev/vdc /var/lib; mkdir -p /var/lib/dhcp /var/lib/vmstage /var/lib/dpkg
             echo x > /var/lib/dhcp/dhclient.leases; echo {} > /var/lib/vmstage/known.json
             umount /var/lib; mount /dev/vdc /var/lib",
        );
        disk.fault(Fault::Hang);
        machine.sh("echo 3 > /proc/sys/vm/drop_caches");
        let run = machine.run(command);
        assert!(run.took < 3 * AT_A_PLACE, "{run}");
        assert!([code, 11].contains(&run.code), "{run}");
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("/var/lib does not answer"), "{run}");
        if command[0] == "seal" {
            assert_eq!(machine.sh("cat /etc/machine-id"), "", "{run}");
        }
    }
}

/// All that is done to it is done by children.
fn an_image_on_a_disk_that_might_hang_is_as_any_other() {
    let machine = Machine::new();
    machine.disk("vdb", &Disk::ext4("image"));
    machine.sh("mount /dev/vdb /mnt");
    let on_disk = Image::old_at(machine.path("/mnt/image"), Init::Insserv);
    let other = Image::old(Init::Insserv);
    for image in [&on_disk, &other] {
        image.write("/etc/machine-id", "0123456789abcdef\n");
        image.write("/var/lib/systemd/random-seed", "x");
        image.write("/var/lib/vmstage/a/b", "x");
        image.write("/var/log/messages", "x");
    }
    let all = |name: &str, arguments: &[&str]| {
        let [run, expected] = [&on_disk, &other].map(|image| image.run(name, arguments));
        let as_other = |text: &str| {
            let [own, others] = [&on_disk, &other].map(|image| image.root().to_str().unwrap());
            text.replace(own, others)
        };
        assert_eq!(run.code, expected.code, "{run}{expected}");
        assert_eq!(as_other(&run.stdout), expected.stdout);
        assert_eq!(as_other(&run.stderr), expected.stderr);
        assert_eq!(on_disk.listing(), other.listing(), "{run}");
    };
    all("install", &["--replace-old"]);
    all("check", &[]);
    all("seal", &["--yes", "--logs"]);
    all("seal", &["--yes", "--logs"]);
    all("uninstall", &[]);
    on_disk.link("/etc/motd", "../../../outside");
    other.link("/etc/motd", "../../../outside");
    all("uninstall", &[]);
}
