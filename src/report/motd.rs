//! The message of the day: two lines for whoever logs in.
//!
//! | system | what is written |
//! | --- | --- |
//! | pam_motd that reads `/run/motd.d` (Linux-PAM 1.3.1: Debian 10, Ubuntu 20.04, RHEL 8, SLE 15 and later) | `/run/motd.d/vmstage` |
//! | a pam_motd that runs `/etc/update-motd.d` (Debian 8 and 9, Ubuntu 10.04 to 18.04) | `/etc/update-motd.d/98-vmstage`, a script that prints them |
//! | any other that has an `/etc/motd` (Scientific Linux and RHEL 5 to 7, busybox) | the lines at the end of that file, each beginning with `vmstage: `; all its other lines stay as they are |
//!
//! A system with none of these has no message of the day, and none is made.

use std::fs::{self, Metadata};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use log::warn;

use super::files::{self, Place};
use super::old_texts;
use crate::clock;
use crate::config::Config;
use crate::host::regular_file::{self, MIB};
use crate::host::{Host, atomic_file};
use crate::status::{Outcome, Status};
use crate::text as texts;

pub(super) const KEY: &str = "report.motd";

/// What our lines in a file of somebody else's begin with.
const PREFIX: &str = "vmstage: ";

/// Files of our own.
pub(crate) const FILE: &str = "/run/motd.d/vmstage";
pub(crate) const SCRIPT: &str = "/etc/update-motd.d/98-vmstage";
/// A file of somebody else's, in which our lines are.
pub(crate) const MOTD: &str = "/etc/motd";

/// Says whether the message changed.
pub(super) fn publish(host: &Host, status: &Status, _: &Config) -> Result<bool> {
    let text = text(status);
    match place(host) {
        Some(FILE) => {
            let directory = host.path("/run/motd.d");
            if !directory.is_dir() {
                files::make_directory(&directory)?;
            }
            files::publish(host, at(FILE), text.as_bytes(), 0o644)
        }
        Some(SCRIPT) => files::publish(host, at(SCRIPT), script(&text).as_bytes(), 0o755),
        Some(_) => append(host, &text),
        None => Ok(false),
    }
}

/// What may be mounted by itself of where it publishes.
pub(super) fn places(_: &Host, _: &Config) -> Vec<PathBuf> {
    [MOTD, "/etc/update-motd.d", "/run/motd.d"]
        .map(PathBuf::from)
        .into()
}

/// Where this machine's people are shown it.
fn place(host: &Host) -> Option<&'static str> {
    if pam_reads_motd_d(host) {
        Some(FILE)
    } else if host.path("/etc/update-motd.d").is_dir() {
        Some(SCRIPT)
    } else {
        host.path(MOTD).exists().then_some(MOTD)
    }
}

fn at(path: &str) -> Place<'_> {
    Place::of(KEY, path)
}

/// Removes the message where it is turned off, and from where it is shown no more: an upgrade
/// may have taught the machine another place.
pub(super) fn withdraw(host: &Host, config: &Config) -> Result<()> {
    let used = place(host).filter(|_| config.report.motd);
    if used != Some(MOTD) {
        withdraw_lines(host)?;
    }
    let kept = used.map(Path::new);
    // Most often there is none, and the way is gone for nothing.
    let is_there = |path: &&str| !atomic_file::is_missing(&host.path(path));
    let old_places: Vec<&str> = [FILE, SCRIPT].into_iter().filter(is_there).collect();
    files::withdraw(host, KEY, kept, &old_places, old_texts::is_motd).map(drop)
}

/// Where scratch space is, and when the VM goes away.
fn text(status: &Status) -> String {
    let scratch = match (status.outcome, &status.staging) {
        (Outcome::Ready, Some(staging)) => format!(
            "scratch space is on {} ({}), {} of it free at boot",
            staging.mount_point.display(),
            texts::bytes(staging.size_bytes),
            texts::bytes(staging.free_bytes),
        ),
        _ => format!(
            "there is no scratch space: {}",
            status.error.as_deref().unwrap_or("staging it failed")
        ),
    };
    let mut text = format!("{PREFIX}{}\n", texts::one_line(&scratch));
    if let Some(deadline) = &status.deadline {
        let what = match (deadline.rehearsal, deadline.is_drain_only()) {
            (true, _) => "a rehearsal, nothing is ended: this VM would go away at",
            (false, true) => "nothing is switched off, but work on this VM must have ended by",
            (false, false) => "this VM goes away at",
        };
        text += &[PREFIX, what, " ", &clock::for_people(deadline.at), "\n"].concat();
    }
    text
}

/// The text ends the script's only document, whose lines all begin with the prefix.
fn script(text: &str) -> String {
    format!("#!/bin/sh\n# Written by vmstage(8).\ncat <<'end'\n{text}end\n")
}

/// Our lines in `/etc/motd` are replaced; what else is there stays, byte for byte.
fn append(host: &Host, text: &str) -> Result<bool> {
    let motd = host.path(MOTD);
    let (there, present) = read(&motd)?;
    let (mut wanted, _) = parted(&present);
    if wanted.last().is_some_and(|byte| *byte != b'\n') {
        wanted.push(b'\n');
    }
    wanted.extend(text.as_bytes());
    files::record(host, at(MOTD), text.as_bytes());
    replace(&motd, &there, &present, &wanted)
}

/// Takes our lines out of `/etc/motd`, if they are still as they were written.
fn withdraw_lines(host: &Host) -> Result<()> {
    let motd = host.path(MOTD);
    // None was ever written to anything else.
    if !fs::symlink_metadata(&motd).is_ok_and(|there| there.is_file()) {
        return Ok(());
    }
    let (there, present) = read(&motd)?;
    let (theirs, ours) = parted(&present);
    let recorded = files::is_as_recorded(host, at(MOTD), &ours);
    let is_ours =
        recorded.unwrap_or_else(|| std::str::from_utf8(&ours).is_ok_and(old_texts::is_motd));
    if is_ours {
        replace(&motd, &there, &present, &theirs)?;
    } else if recorded.is_some() && !ours.is_empty() {
        warn!("the lines in {MOTD} were changed since they were written, and stay");
    }
    if recorded.is_some() {
        files::forget(host, at(MOTD));
    }
    Ok(())
}

fn read(motd: &Path) -> Result<(Metadata, Vec<u8>)> {
    let named = || format!("cannot change {}", motd.display());
    let there = fs::symlink_metadata(motd).with_context(named)?;
    if !there.is_file() {
        bail!(
            "{} is not a regular file, and is left alone",
            motd.display()
        );
    }
    let present = regular_file::read(motd, MIB).with_context(named)?;
    Ok((there, present))
}

/// The lines of others, and ours.
fn parted(present: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let lines = present.split_inclusive(|byte| *byte == b'\n');
    let (ours, theirs): (Vec<&[u8]>, Vec<&[u8]>) =
        lines.partition(|line| line.starts_with(PREFIX.as_bytes()));
    (theirs.concat(), ours.concat())
}

fn replace(motd: &Path, there: &Metadata, present: &[u8], wanted: &[u8]) -> Result<bool> {
    if wanted == present {
        atomic_file::sweep(motd);
        return Ok(false);
    }
    atomic_file::replace(motd, wanted, there.permissions().mode() & 0o7777)
        .with_context(|| format!("cannot change {}", motd.display()))?;
    Ok(true)
}

/// A file of somebody else's without our lines.
pub(crate) fn without_ours(content: &[u8]) -> Vec<u8> {
    parted(content).0
}

/// The module names the directories that it reads.
fn pam_reads_motd_d(host: &Host) -> bool {
    let names_it = |module: Vec<u8>| regular_file::has(&module, b"/run/motd.d");
    let multiarch = format!("/lib/{}-linux-gnu", std::env::consts::ARCH);
    [&multiarch, "/lib64", "/lib"]
        .iter()
        .filter_map(|library| {
            let module = host.path(library).join("security/pam_motd.so");
            regular_file::read(&module, MIB).ok()
        })
        .any(names_it)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::host::tree::Tree;
    use crate::report::example;

    const NEW_PAM: (&str, &str) = (
        if cfg!(target_arch = "aarch64") {
            "lib/aarch64-linux-gnu/security/pam_motd.so"
        } else {
            "lib/x86_64-linux-gnu/security/pam_motd.so"
        },
        "\u{7f}ELF\0/etc/motd.d:/run/motd.d:/usr/lib/motd.d\0",
    );
    const OLD_PAM: (&str, &str) = ("lib/security/pam_motd.so", "\u{7f}ELF\0/etc/motd\0");

    fn two_lines() -> String {
        format!(
            "vmstage: scratch space is on /staging (20.0 GiB), 19.6 GiB of it free at boot\n\
             vmstage: this VM goes away at {}\n",
            clock::for_people(example::DEADLINE)
        )
    }

    fn both(tree: &Tree, first: &Status, second: &Status) {
        assert!(publish(&tree.host(), first, &Config::default()).unwrap());
        assert!(!publish(&tree.host(), first, &Config::default()).unwrap());
        assert!(publish(&tree.host(), second, &Config::default()).unwrap());
    }

    #[test]
    fn a_machine_that_learns_another_place_keeps_no_message_in_the_old_one() {
        let tree = Tree::new(&[OLD_PAM, ("etc/motd", "Welcome\n"), ("run/", "")]);
        let config = Config::default();
        let is_told = || {
            assert!(publish(&tree.host(), &example::ready(), &config).unwrap());
            withdraw(&tree.host(), &config).unwrap();
        };
        is_told();
        assert!(tree.text("etc/motd").contains("vmstage: scratch"));
        std::fs::create_dir(tree.root().join("etc/update-motd.d")).unwrap();
        is_told();
        assert_eq!(tree.text("etc/motd"), "Welcome\n");
        let (pam, text) = NEW_PAM;
        std::fs::create_dir_all(tree.root().join(pam).parent().unwrap()).unwrap();
        std::fs::write(tree.root().join(pam), text).unwrap();
        is_told();
        assert_eq!(tree.names("etc/update-motd.d"), [""; 0]);
        assert_eq!(tree.names("run/motd.d"), ["vmstage"]);
    }

    #[test]
    fn a_pam_that_reads_run_motd_d_gets_a_file_there() {
        let files = [
            NEW_PAM,
            ("etc/update-motd.d/", ""),
            ("etc/motd", "hi\n"),
            ("run/", ""),
        ];
        let tree = Tree::new(&files);
        both(&tree, &example::ready(), &example::with_deadline());
        assert_eq!(tree.text("run/motd.d/vmstage"), two_lines());
        assert_eq!(tree.text("etc/motd"), "hi\n");
        assert!(tree.names("etc/update-motd.d").is_empty());
    }

    /// The whole way, on the system at hand: what login(1) shows.
    #[test]
    #[ignore = "needs root, util-linux and a pam_motd that reads /run/motd.d"]
    fn whoever_logs_in_sees_the_lines() {
        let tree = Tree::new(&[("run/", "")]);
        for directory in ["lib", "lib64"] {
            let system = Path::new("/").join(directory);
            std::os::unix::fs::symlink(system, tree.root().join(directory)).unwrap();
        }
        publish(&tree.host(), &example::with_deadline(), &Config::default()).unwrap();
        let login = "mount --rbind \"$1\" /run && script -qc 'login -f root' /dev/null";
        let mut session = Command::new("unshare")
            .args(["--mount", "sh", "-c", login, "sh"])
            .arg(tree.root().join("run"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        session.stdin.take().unwrap().write_all(b"exit\n").unwrap();
        let shown = String::from_utf8(session.wait_with_output().unwrap().stdout).unwrap();
        assert!(
            shown.replace('\r', "").contains(&two_lines()),
            "login showed {shown:?}"
        );
    }

    #[test]
    fn an_older_pam_gets_a_script_that_prints_the_lines() {
        let tree = Tree::new(&[OLD_PAM, ("etc/update-motd.d/", "")]);
        both(&tree, &example::ready(), &example::with_deadline());
        let script = tree.root().join("etc/update-motd.d/98-vmstage");
        assert_eq!(
            script.metadata().unwrap().permissions().mode() & 0o777,
            0o755
        );
        let printed = Command::new("sh").arg(script).output().unwrap();
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), two_lines());
    }

    #[test]
    fn in_etc_motd_only_our_own_lines_change() {
        let tree = Tree::new(&[OLD_PAM, ("etc/motd", "")]);
        let motd = tree.root().join("etc/motd");
        let theirs = b"Welcome to caf\xe9 7\n\n  no newline at the end";
        fs::write(&motd, theirs).unwrap();
        fs::set_permissions(&motd, fs::Permissions::from_mode(0o664)).unwrap();
        both(&tree, &example::with_deadline(), &example::failed());
        publish(&tree.host(), &example::with_deadline(), &Config::default()).unwrap();
        let expected = [&theirs[..], b"\n", two_lines().as_bytes()].concat();
        assert_eq!(fs::read(&motd).unwrap(), expected);
        assert_eq!(motd.metadata().unwrap().permissions().mode() & 0o777, 0o664);
    }

    #[test]
    fn what_a_killed_process_left_beside_etc_motd_goes() {
        let tree = Tree::new(&[OLD_PAM, ("etc/motd", "")]);
        publish(&tree.host(), &example::ready(), &Config::default()).unwrap();
        fs::write(tree.root().join("etc/.motd.new"), "half a li").unwrap();
        assert!(!publish(&tree.host(), &example::ready(), &Config::default()).unwrap());
        assert_eq!(tree.names("etc"), ["motd"]);
    }

    #[test]
    fn an_etc_motd_that_is_a_link_is_an_error_and_left_alone() {
        let tree = Tree::new(&[("etc/real", "theirs\n")]);
        std::os::unix::fs::symlink("real", tree.root().join("etc/motd")).unwrap();
        publish(&tree.host(), &example::ready(), &Config::default()).unwrap_err();
        assert_eq!(tree.text("etc/real"), "theirs\n");
    }

    #[test]
    fn where_there_is_no_message_of_the_day_none_is_made() {
        let tree = Tree::new(&[("etc/", "")]);
        assert!(!publish(&tree.host(), &example::ready(), &Config::default()).unwrap());
        assert!(tree.names("etc").is_empty());
    }

    #[test]
    fn a_failure_is_said_in_one_line() {
        let text = text(&example::failed());
        assert_eq!(
            text,
            "vmstage: there is no scratch space: no usable device: /dev/vdb: swap and no other\n"
        );
    }
}
