//! Warnings on the terminals of logged-in users, as `wall` writes them.
//!
//! Who is logged in stands in utmp, whose records glibc writes; musl has no way to read
//! them. A system without that file (newer ones leave it to logind, small ones never
//! had it) has only the owners of its terminals to go by: a terminal that is not
//! root's is somebody's login.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};

use crate::clock;
use crate::host::Host;
use crate::host::regular_file::{self, MIB};
use crate::status::Deadline;
use crate::text;

/// The size of a record of utmp(5). Its times have 32 bits where glibc has programs of 32 bits that
/// share the file (`__WORDSIZE_TIME64_COMPAT32` in its bits/utmp.h), and 64 bits on aarch64.
const RECORD: usize = if cfg!(target_arch = "aarch64") {
    400
} else {
    384
};
/// In a record of either size `ut_type` is at its start, and this is `ut_line`.
const LINE: std::ops::Range<usize> = 8..40;
const USER_PROCESS: i16 = 7;

/// What users are told at each of the `warn` times.
pub(crate) fn warning(deadline: &Deadline, now: u64) -> String {
    let (left, at) = (
        clock::relative(deadline.at, now),
        clock::for_people(deadline.at),
    );
    if deadline.rehearsal {
        return format!("a rehearsal: this VM would go away {left}, at {at}; nothing is ended");
    }
    let why = deadline.operators_reason();
    let why = why.map_or(String::new(), |why| format!(" ({why})"));
    let (what, also) = match deadline.is_drain_only() {
        true => (
            "work on this VM must have ended",
            "; nothing is switched off",
        ),
        false => ("this VM goes away", ""),
    };
    format!("{what} {left}, at {at}{why}; save your work{also}")
}

/// Writes a line to every logged-in terminal, whatever its `mesg` says, and waits for
/// none of them. Says how many took it.
///
/// # Errors
///
/// That it cannot be known who is logged in.
pub(crate) fn write(host: &Host, warning: &str) -> Result<usize> {
    // Programs leave terminals in raw mode, where a newline alone does not return.
    let line = format!("\r\n\x07vmstage: {}\r\n", text::one_line(warning));
    let told = logged_in(host)?
        .iter()
        .filter(|terminal| say(&device(host, terminal), line.as_bytes()).is_ok())
        .count();
    Ok(told)
}

fn device(host: &Host, terminal: &str) -> PathBuf {
    host.path("/dev").join(terminal)
}

/// The terminals, relative to `/dev`, each once.
fn logged_in(host: &Host) -> Result<BTreeSet<String>> {
    // The way over /var may hang.
    for utmp in ["/run/utmp", "/var/run/utmp"] {
        match regular_file::read(&host.path(utmp), MIB) {
            Ok(records) => return Ok(terminals(&records, RECORD)),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            // A place that does not answer: the owners are known all the same.
            Err(e) if e.kind() == ErrorKind::TimedOut => {}
            Err(e) => return Err(e).with_context(|| format!("cannot read {utmp}")),
        }
    }
    Ok(owned_terminals(&host.path("/dev")))
}

fn terminals(utmp: &[u8], size_of_record: usize) -> BTreeSet<String> {
    utmp.chunks_exact(size_of_record)
        .filter_map(terminal)
        .filter(|name| is_terminal_name(name))
        .collect()
}

fn terminal(record: &[u8]) -> Option<String> {
    if i16::from_ne_bytes([record[0], record[1]]) != USER_PROCESS {
        return None;
    }
    let line = record[LINE].split(|byte| *byte == 0).next()?;
    String::from_utf8(line.to_vec()).ok()
}

/// Programs with the group utmp write such records too, and a name like `../etc/passwd`
/// or `watchdog` must not be opened.
fn is_terminal_name(name: &str) -> bool {
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    let letters = |rest: &str| rest.bytes().all(|b| b.is_ascii_alphanumeric());
    match (name.strip_prefix("pts/"), name.strip_prefix("tty")) {
        (Some(number), _) => digits(number),
        (_, Some(rest)) => letters(rest),
        _ => name == "console",
    }
}

fn owned_terminals(dev: &Path) -> BTreeSet<String> {
    let mut terminals = BTreeSet::new();
    for prefix in ["", "pts/"] {
        let listing = fs::read_dir(dev.join(prefix))
            .into_iter()
            .flatten()
            .flatten();
        for entry in listing {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let owned = entry.metadata().is_ok_and(|it| it.uid() != 0);
            if owned && is_terminal_name(&name) {
                terminals.insert(name);
            }
        }
    }
    terminals
}

/// A terminal that was stopped with Control-S takes nothing: then it is left out.
fn say(path: &Path, line: &[u8]) -> std::io::Result<()> {
    // Before opening: opening is enough to set some other devices going.
    if !fs::symlink_metadata(path)?.file_type().is_char_device() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut terminal = File::options()
        .write(true)
        .custom_flags(O_NOCTTY | O_NONBLOCK | O_NOFOLLOW)
        .open(path)?;
    if !terminal.is_terminal() {
        return Err(ErrorKind::InvalidInput.into());
    }
    terminal.write_all(line)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::fs::{chown, symlink};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::pty::{OpenptyResult, openpty};
    use nix::sys::termios::{FlowArg, tcflow};

    use super::*;
    use crate::host::tree::Tree;
    use crate::report::example;

    /// As glibc here writes it.
    fn record(kind: i16, line: &str) -> Vec<u8> {
        let mut record = vec![0; RECORD];
        record[..2].copy_from_slice(&kind.to_ne_bytes());
        record[8..8 + line.len()].copy_from_slice(line.as_bytes());
        record[44..48].copy_from_slice(b"anna");
        record
    }

    /// A real terminal and its name relative to `/dev`.
    fn terminal() -> (OpenptyResult, String) {
        let pty = openpty(None, None).unwrap();
        let path = fs::read_link(format!("/proc/self/fd/{}", pty.slave.as_raw_fd())).unwrap();
        let name = path
            .strip_prefix("/dev")
            .unwrap()
            .to_str()
            .unwrap()
            .to_string();
        (pty, name)
    }

    /// A tree with a utmp of these records and the machine's own `/dev`.
    fn tree(records: &[Vec<u8>]) -> Tree {
        let tree = Tree::new(&[("var/run/", "")]);
        fs::write(tree.root().join("var/run/utmp"), records.concat()).unwrap();
        symlink("/dev", tree.root().join("dev")).unwrap();
        tree
    }

    fn heard(pty: &OpenptyResult) -> String {
        let mut buffer = [0; 1024];
        let count = File::from(pty.master.try_clone().unwrap())
            .read(&mut buffer)
            .unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_logged_in_terminal_gets_the_line_and_one_that_was_left_does_not() {
        let ((here, name), (gone, left)) = (terminal(), terminal());
        let tree = tree(&[record(8, &left), record(7, &name), record(7, &name)]);
        assert_eq!(write(&tree.host(), "save\x1b[2J\nyour work").unwrap(), 1);
        let expected = "\r\n\x07vmstage: save [2J your work\r\n";
        // The terminal's own output processing makes of "\r\n" what it likes.
        assert_eq!(heard(&here).replace("\r\r\n", "\r\n"), expected);

        let mut waiting = [PollFd::new(gone.master.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut waiting, PollTimeout::ZERO).unwrap(), 0);
    }

    /// Files that glibc's pututxline(3) has written there: the boot, three logins, and one that ended.
    const UTMP_X86_64: &[u8] = include_bytes!("../../tests/fixtures/utmp/x86_64");
    const UTMP_AARCH64: &[u8] = include_bytes!("../../tests/fixtures/utmp/aarch64");

    #[test]
    fn every_login_is_found_in_a_utmp_of_either_architecture() {
        let logins = ["pts/1", "pts/2", "tty1"].map(String::from).into();
        assert_eq!(terminals(UTMP_X86_64, 384), logins);
        assert_eq!(terminals(UTMP_AARCH64, 400), logins);
        // And the size that counts here is that of this architecture.
        let own = match std::env::consts::ARCH {
            "aarch64" => UTMP_AARCH64,
            _ => UTMP_X86_64,
        };
        let tree = Tree::new(&[("var/run/", "")]);
        fs::write(tree.root().join("var/run/utmp"), own).unwrap();
        assert_eq!(logged_in(&tree.host()).unwrap(), logins);
    }

    #[test]
    fn a_terminal_that_is_stopped_or_full_is_not_waited_for() {
        let ((stopped, one), (_full, other)) = (terminal(), terminal());
        tcflow(stopped.slave.as_fd(), FlowArg::TCOOFF).unwrap();
        let tree = tree(&[record(7, &one)]);
        assert_eq!(write(&tree.host(), "hello").unwrap(), 0);

        fs::write(tree.root().join("var/run/utmp"), record(7, &other)).unwrap();
        let long = "x".repeat(100_000);
        assert_eq!(write(&tree.host(), &long).unwrap(), 0);
    }

    #[test]
    fn what_is_no_terminal_is_not_opened() {
        let names = [
            "../etc/passwd",
            "null",
            "watchdog",
            "pts/../null",
            "pts/",
            "pts/1/2",
            "",
        ];
        let records: Vec<_> = names.iter().map(|name| record(7, name)).collect();
        assert_eq!(logged_in(&tree(&records).host()).unwrap(), BTreeSet::new());

        let tree = Tree::new(&[("var/run/", ""), ("dev/tty9", "mine")]);
        fs::write(tree.root().join("var/run/utmp"), record(7, "tty9")).unwrap();
        assert_eq!(write(&tree.host(), "hello").unwrap(), 0);
        assert_eq!(tree.text("dev/tty9"), "mine");
    }

    #[test]
    fn a_broken_utmp_is_read_as_far_as_it_goes() {
        let (pty, name) = terminal();
        let mut records = record(7, &name);
        records.extend([0xff; 100]);
        let tree = tree(&[records]);
        assert_eq!(write(&tree.host(), "hello").unwrap(), 1);
        assert!(heard(&pty).contains("hello"));
    }

    #[test]
    fn without_a_utmp_the_terminals_of_users_are_told_and_roots_are_not() {
        let tree = Tree::new(&[("dev/pts/3", ""), ("dev/pts/ptmx", ""), ("dev/tty1", "")]);
        for terminal in ["dev/pts/3", "dev/pts/ptmx"] {
            // Without root they are a user's already.
            chown(tree.root().join(terminal), Some(65534), None).ok();
        }
        assert!(logged_in(&tree.host()).unwrap().contains("pts/3"));
        assert!(!logged_in(&tree.host()).unwrap().contains("pts/ptmx"));
        // Which the system has given to root, and nobody logs in on.
        assert!(!owned_terminals(Path::new("/dev")).contains("tty"));
    }

    #[test]
    fn the_warning_says_how_long_is_left_and_until_when() {
        let deadline = example::with_deadline().deadline.unwrap();
        let expected = format!(
            "this VM goes away in 15 min 0 s, at {}; save your work",
            clock::for_people(deadline.at)
        );
        assert_eq!(warning(&deadline, example::DEADLINE - 900), expected);
    }

    #[test]
    fn where_the_vm_stays_nobody_is_told_that_it_goes() {
        let deadline = example::to_be_drained().deadline.unwrap();
        let expected = format!(
            "work on this VM must have ended in 15 min 0 s, at {} (new disks); save your work; \
             nothing is switched off",
            clock::for_people(deadline.at)
        );
        assert_eq!(warning(&deadline, example::DEADLINE - 900), expected);
    }
}
