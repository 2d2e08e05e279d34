//! The files of consumers: writing them, and removing them when the consumer is turned off.
//!
//! What is written is recorded first, by path, length and checksum: a file that is still as
//! this program wrote it goes when nobody wants it any more, and one that somebody has changed
//! since stays. Version 0.1.0 recorded nothing; what it wrote is known by its text.

use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use log::{info, warn};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, fchmod, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::host::regular_file::{self, MIB};
use crate::host::{Host, atomic_file, checked_path, locks, silent};

/// It has to survive reboots, as what it tells of does.
const RECORD: &str = "/var/lib/vmstage/published";
const RECORD_DIRECTORY: &str = "/var/lib/vmstage";

/// So many versions of a file are known again: after a crash in between it may be the one
/// before the last.
const MOST_VERSIONS: usize = 4;

/// Says whether the file had to be written.
///
/// # Errors
///
/// That it cannot be written, with its path.
pub(super) fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<bool> {
    atomic_file::replace_if_changed(path, content.as_ref(), mode)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Likewise, and waits until it is on the disk.
///
/// # Errors
///
/// Likewise.
pub(super) fn write_for_good(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<bool> {
    atomic_file::replace_if_changed_for_good(path, content.as_ref(), mode)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Says whether there was anything to remove.
///
/// # Errors
///
/// That it cannot be removed, with its path.
pub(super) fn remove(path: &Path) -> Result<bool> {
    atomic_file::remove_if_there(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Removes a file that may not be there, if this is what is in it, or nothing: the machine may
/// have been reset before it was on the disk.
pub(super) fn remove_value(path: &Path, value: &[u8]) -> Result<()> {
    match atomic_file::remove_if(path, &mut |content| content == value || content.is_empty()) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed
            .map(drop)
            .with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// Removes a directory that may not be there or not be empty.
pub(super) fn remove_directory_if_empty(path: &Path) -> Result<()> {
    let removed = in_parent(path, &mut |parent, name| match unlinkat(
        parent,
        name,
        UnlinkatFlags::RemoveDir,
    ) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => Ok(false),
        Err(e) => Err(e.into()),
    });
    removed
        .map(drop)
        .with_context(|| format!("cannot remove {}", path.display()))
}

fn in_parent(
    path: &Path,
    work: &mut dyn FnMut(BorrowedFd, &CStr) -> io::Result<bool>,
) -> io::Result<bool> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let name = CString::new(name.as_bytes())?;
    let parent = path.parent().unwrap_or(Path::new(""));
    checked_path::within(parent, &mut |parent| work(parent, &name))
}

/// A directory that everybody may read, whatever the umask; its parent must be there. What
/// else has its name shows when something is written into it.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    let mode = Mode::from_bits_truncate(0o755);
    let made = in_parent(path, &mut |parent, name| {
        match mkdirat(parent, name, mode) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        fchmod(checked_path::open_below(parent, name)?, mode)?;
        Ok(true)
    });
    made.map(drop)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Whether a consumer has its directory.
pub(super) fn is_there(host: &Host, directory: &Path) -> Result<bool> {
    let directory = host.path(directory);
    match checked_path::within(&directory, &mut |_| Ok(true)) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        there => there.with_context(|| format!("cannot write into {}", directory.display())),
    }
}

/// Who wrote a file, and where the machine has it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The consumer's key in the configuration.
    pub(super) key: &'a str,
    pub(super) path: &'a Path,
}

impl<'a> Place<'a> {
    pub(super) fn of(key: &'a str, path: &'a (impl AsRef<Path> + ?Sized)) -> Place<'a> {
        let path = path.as_ref();
        Place { key, path }
    }
}

/// Writes a file that is to go when its consumer is turned off. Says whether it had to be
/// written.
///
/// # Errors
///
/// That it cannot be written, with its path.
pub(super) fn publish(host: &Host, place: Place, content: &[u8], mode: u32) -> Result<bool> {
    record(host, place, content);
    write(&host.path(place.path), content, mode)
}

/// Likewise, for a reader who takes a file that was not written for so long as outdated.
///
/// # Errors
///
/// Likewise.
pub(super) fn publish_again(
    host: &Host,
    place: Place,
    content: &[u8],
    mode: u32,
    age: Duration,
) -> Result<bool> {
    record(host, place, content);
    let path = host.path(place.path);
    atomic_file::replace_if_changed_or_older(&path, content, mode, Some(age))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Records what is about to be written. A consumer is told all the same where this fails.
pub(super) fn record(host: &Host, place: Place, content: &[u8]) {
    let line = Line::of(place, content);
    let is_known = |lines: &[Line]| lines.iter().rfind(|known| known.is_at(place)) == Some(&line);
    // Where the record does not answer others say so.
    if is_known(&read(host)) || silent::is_left_alone(&host.path(RECORD_DIRECTORY)) {
        return;
    }
    let _turn = wait_for_turn(host);
    let mut lines = read(host);
    lines.retain(|known| *known != line);
    lines.push(line);
    let versions = lines.iter().filter(|line| line.is_at(place)).count();
    let mut too_many = versions.saturating_sub(MOST_VERSIONS);
    lines.retain(|line| {
        let is_too_old = too_many > 0 && line.is_at(place);
        too_many -= usize::from(is_too_old);
        !is_too_old
    });
    keep(host, &lines);
}

/// Where a consumer's files are, or were.
pub(super) fn recorded(host: &Host, key: &str) -> Vec<PathBuf> {
    let lines = read(host).into_iter().filter(|line| line.key == key);
    lines.map(|line| line.path).collect()
}

/// Removes what was written for a consumer, but for what is at `kept`. `old_places` are those
/// of version 0.1.0, where `is_old` knows its texts. Says whether anything was removed.
///
/// # Errors
///
/// That one of them cannot be removed.
pub(super) fn withdraw(
    host: &Host,
    key: &str,
    kept: Option<&Path>,
    old_places: &[&str],
    is_old: fn(&str) -> bool,
) -> Result<bool> {
    let lines = read(host);
    let recorded = lines.iter().filter(|line| line.key == key);
    let recorded = recorded.map(|line| line.path.as_path());
    let mut removed = Ok(false);
    let mut seen: Vec<&Path> = kept.into_iter().collect();
    for path in recorded.chain(old_places.iter().map(Path::new)) {
        if !seen.contains(&path) {
            seen.push(path);
            let place = Place { key, path };
            if kept.is_some_and(|kept| is_same_file(host, kept, path)) {
                forget(host, place);
                continue;
            }
            let one = withdraw_one(host, place, &lines, is_old);
            removed = removed.and_then(|any| Ok(one? | any));
        }
    }
    removed
}

/// A link or a mount may lead from an old place to the new one.
fn is_same_file(host: &Host, one: &Path, other: &Path) -> bool {
    let look = |path: &Path, work: &mut dyn FnMut(FileStat) -> io::Result<bool>| {
        in_parent(&host.path(path), &mut |parent, name| {
            work(fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
        })
    };
    let is_same = look(one, &mut |one| {
        look(other, &mut |other| {
            Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
        })
    });
    is_same.unwrap_or(false)
}

/// Says whether the file was removed.
fn withdraw_one(
    host: &Host,
    place: Place,
    lines: &[Line],
    is_old: fn(&str) -> bool,
) -> Result<bool> {
    let file = host.path(place.path);
    let is_recorded = lines.iter().any(|line| line.is_at(place));
    let removed = atomic_file::remove_if(&file, &mut |content| match is_recorded {
        true => lines.contains(&Line::of(place, content)),
        false => std::str::from_utf8(content).is_ok_and(is_old),
    });
    let removed = match removed {
        Err(e) if e.kind() == ErrorKind::NotFound => false,
        removed => {
            let removed = removed.with_context(|| format!("cannot remove {}", file.display()))?;
            match removed {
                true => info!("removed {}: nobody wants it any more", file.display()),
                false if is_recorded => warn!(
                    "{} was changed since it was written, and stays; nobody wants it any more",
                    file.display()
                ),
                false => {}
            }
            removed
        }
    };
    if is_recorded {
        forget(host, place);
    }
    Ok(removed)
}

/// Whether something is as it was last recorded; None where nothing was.
pub(super) fn is_as_recorded(host: &Host, place: Place, content: &[u8]) -> Option<bool> {
    let lines = read(host);
    let is_recorded = lines.iter().any(|line| line.is_at(place));
    is_recorded.then(|| lines.contains(&Line::of(place, content)))
}

/// Takes a file off the record.
pub(super) fn forget(host: &Host, place: Place) {
    let _turn = wait_for_turn(host);
    let mut lines = read(host);
    lines.retain(|line| !line.is_at(place));
    keep(host, &lines);
}

/// `boot` and `watch` may change the record at the same time.
fn wait_for_turn(host: &Host) -> Option<fs::File> {
    // Whether that is possible shows when the record is written.
    let directory = host.path(RECORD_DIRECTORY);
    let make = &mut || fs::create_dir_all(&directory).map(|()| true);
    let _ = silent::guarded(&directory, make);
    // Not the directory: whoever can read it could hold everybody up.
    locks::lock(&host.runtime_directory().join("published.lock"))
}

/// A line of the record: one version of a file.
#[derive(Clone, PartialEq)]
struct Line {
    key: String,
    checksum: u64,
    length: u64,
    path: PathBuf,
}

impl Line {
    fn of(place: Place, content: &[u8]) -> Line {
        Line {
            key: place.key.into(),
            checksum: checksum(content),
            length: content.len() as u64,
            path: place.path.into(),
        }
    }

    fn parse(line: &str) -> Option<Line> {
        let mut fields = line.splitn(4, ' ');
        Some(Line {
            key: fields.next()?.into(),
            checksum: u64::from_str_radix(fields.next()?, 16).ok()?,
            length: fields.next()?.parse().ok()?,
            path: fields.next()?.into(),
        })
    }

    fn is_at(&self, place: Place) -> bool {
        self.key == place.key && self.path == place.path
    }
}

/// FNV-1a: only a change by chance is to be seen, and it is the same in every version.
fn checksum(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn read(host: &Host) -> Vec<Line> {
    let text = regular_file::read_text(&host.path(RECORD), MIB).unwrap_or_default();
    text.lines().filter_map(Line::parse).collect()
}

fn keep(host: &Host, lines: &[Line]) {
    let file = host.path(RECORD);
    let mut text = String::new();
    for line in lines {
        let (key, path) = (&line.key, line.path.display());
        // Writing to a String does not fail.
        let _ = writeln!(text, "{key} {:016x} {} {path}", line.checksum, line.length);
    }
    let kept = atomic_file::replace_if_changed(&file, text.as_bytes(), 0o644);
    if let Err(e) = kept {
        warn!(
            "cannot write {}: {e}; what was written for consumers stays when they are turned off",
            file.display()
        );
    }
}
