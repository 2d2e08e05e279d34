//! The final line, in its fixed form, on the console.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

use nix::libc;
use nix::sys::stat::fstat;

use crate::clock;
use crate::disk::choose::known_by;
use crate::host::{Host, silent, wait};
use crate::logging;
use crate::status::{Outcome, Resources, Status};
use crate::text;

const CONSOLE: &str = "/dev/console";
/// How often a console that takes nothing is tried.
const RETRY: Duration = Duration::from_millis(50);

/// The line that says what became of the boot, without the program's name:
/// `ready: /dev/vdb (ext2, LABEL=ephemeral0) on /staging, 19.6 GiB free, condor tmp`,
/// `ready: /dev/vdb (ext4, empty) on …` where something else than its label is the reason to
/// use the disk, or `FAILED(3): …`. Its form is stable.
pub(crate) fn line(status: &Status, now: u64) -> String {
    let (Outcome::Ready, Some(staging)) = (status.outcome, &status.staging) else {
        let error = status.error.as_deref().unwrap_or("unknown error");
        let line = format!("FAILED({}): {error}", status.exit_code);
        return text::one_line(&line);
    };
    let known_by = known_by(
        &staging.filesystem,
        staging.label.as_deref(),
        staging.evidence.as_deref(),
        &staging.made_of,
    );
    let directories: Vec<_> = status
        .directories
        .iter()
        .filter_map(|directory| directory.path.strip_prefix(&staging.mount_point).ok())
        .map(|path| format!(" {}", path.display()))
        .collect();
    let mut line = format!(
        "ready: {} ({known_by}) on {}, {} free,{}",
        staging.device,
        staging.mount_point.display(),
        text::bytes(staging.free_bytes),
        directories.concat(),
    );
    if directories.is_empty() {
        line.pop();
    }
    if let Some(suspicion) = &staging.suspicion {
        line += &format!("; {suspicion}");
    }
    if let Some(shortage) = status.resources.as_ref().and_then(Resources::shortage) {
        line += &format!("; {shortage}");
    }
    if let Some(deadline) = &status.deadline {
        let what = match (deadline.rehearsal, deadline.is_drain_only()) {
            (true, _) => "a rehearsal: must be gone",
            (false, true) => "work must have ended",
            (false, false) => "must be gone",
        };
        line += &format!(
            "; {what} by {} ({})",
            deadline.at_utc,
            clock::relative(deadline.at, now)
        );
    }
    // A label or an error may hold anything; the line is one line.
    text::one_line(&line)
}

/// How long a line may take: a serial console is slow (4 KiB at 9600 baud are 4 s), and
/// at boot others write to it as well. One that was stopped keeps nobody longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes a line to the console. Where standard error is the console, the log has
/// written the line there already.
///
/// # Errors
///
/// Those of open(2) and write(2), and that the console took no more for five seconds.
pub(crate) fn write(host: &Host, line: &str) -> io::Result<()> {
    let path = host.path(CONSOLE);
    silent::see_that_the_way_answers(&path)?;
    let mut console = File::options()
        .append(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let stderr = fstat(io::stderr().as_fd())?;
    let is_the_same = console.metadata()?.rdev() == stderr.st_rdev && stderr.st_rdev != 0;
    if is_the_same && !logging::stderr_is_stuck() {
        return Ok(());
    }
    let line = format!("vmstage: {line}\n");
    let mut rest = line.as_bytes();
    let written = wait::until(PATIENCE, RETRY, || {
        write_some(&mut console, &mut rest).transpose()
    });
    written.unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))
}

/// Writes as much of the rest as the console takes now; None while that is not all.
fn write_some(console: &mut File, rest: &mut &[u8]) -> io::Result<Option<()>> {
    while !rest.is_empty() {
        match console.write(rest) {
            Ok(written) => *rest = &rest[written..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    Ok(Some(()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::host::tree::Tree;
    use crate::report::example;

    #[test]
    fn the_line_is_added_to_what_the_console_shows() {
        let tree = Tree::new(&[("dev/console", "login: ")]);
        write(&tree.host(), "ready: /dev/vdb").unwrap();
        assert_eq!(
            tree.text("dev/console"),
            "login: vmstage: ready: /dev/vdb\n"
        );
    }

    #[test]
    fn a_machine_without_a_console_or_with_one_that_nobody_reads_is_an_error_at_once() {
        let tree = Tree::new(&[("dev/", "")]);
        let start = Instant::now();
        assert_eq!(
            write(&tree.host(), "x").unwrap_err().kind(),
            ErrorKind::NotFound
        );
        mkfifo(&tree.root().join("dev/console"), Mode::S_IRWXU).unwrap();
        write(&tree.host(), "x").unwrap_err();
        assert!(start.elapsed() < PATIENCE);
    }

    #[test]
    fn the_line_says_what_became_of_the_boot_and_is_one_line() {
        let now = example::DEADLINE - 3600;
        let ready =
            "ready: /dev/vdb (ext2, LABEL=ephemeral0) on /staging, 19.6 GiB free, condor tmp";
        assert_eq!(line(&example::ready(), now), ready);
        assert_eq!(
            line(&example::short_of_scratch(), now),
            format!("{ready}; short of scratch: 5 GiB of 10 GiB")
        );
        let until = format!(
            "{ready}; must be gone by {} (in 1 h 0 min)",
            clock::utc(example::DEADLINE)
        );
        assert_eq!(line(&example::with_deadline(), now), until);
        let drained = until.replace("must be gone", "work must have ended");
        assert_eq!(line(&example::to_be_drained(), now), drained);
        assert_eq!(
            line(&example::failed(), now),
            "FAILED(3): no usable device: /dev/vdb: swap and no other"
        );
        let mut turned = example::ready();
        turned.staging.as_mut().unwrap().label = Some("\u{202e}0laremehpe\u{1b}[2J".into());
        assert!(!line(&turned, now).contains(text::is_control));
    }
}
