//! What did vmstage's work before: a line of fstab, a script, and lines of `rc.local`.

mod commands;
mod elsewhere;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::init::Init;
use super::rc::{Action, Link};
use super::root::{Kind, Root};
use super::{enabling, files};
use crate::host::fstab::{FSTAB, Fstab, Line};
use crate::host::regular_file::MIB;
use crate::text::excerpt;

use commands::is_bare_name;
pub(crate) use commands::{Command, SCRIPT, What, commands};
pub(crate) use elsewhere::elsewhere;

/// Where a system keeps commands of its own for the end of the boot. Only one of them is
/// there, or links lead to one.
pub(crate) const RC_LOCAL: [&str; 2] = ["/etc/rc.d/rc.local", "/etc/rc.local"];

/// An image's fstab and its bytes; no lines where there is none.
///
/// # Errors
///
/// That it cannot be read, or is no regular file of at most 1 MiB.
pub(crate) fn fstab(root: &Root) -> Result<(Fstab, Vec<u8>)> {
    let path = Path::new(FSTAB);
    let content = root.read(path, MIB);
    let content = content
        .with_context(|| root.cannot("read", path))?
        .unwrap_or_default();
    Ok((Fstab::parse(&content), content))
}

/// How a line of fstab finds what belongs on the mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// By a name that is another disk's on another machine (`/dev/sdb`).
    ByName,
    /// By what is on the disk (`LABEL=`), but a boot waits for it and fails without.
    ByTag,
    /// By what is on the disk, and nothing waits for it.
    ByTagWithoutHarm,
    /// cloud-init wrote it (`comment=cloudconfig`), on this machine or the one that was saved.
    ByCloudInit,
    /// By a name that somebody gave, which is the same on each machine (`/dev/mapper/vg-scratch`).
    ByGivenName,
    /// No disk: a directory (bind), a server, tmpfs.
    NoDisk,
}

/// The line of a unit of systemd that mounts a disk on the mount point by its bare name.
pub(crate) fn mount_unit(root: &Root, mount_point: &Path) -> Option<Caller> {
    let name = files::mount_unit(mount_point);
    let directories = [enabling::LOCAL_UNITS, enabling::UNIT_DIRECTORY];
    let mut paths = directories
        .iter()
        .map(|directory| Path::new(directory).join(&name));
    let path = paths.find(|path| root.is(Kind::File, path))?;
    let text = root.text(&path);
    let is_it = |line: &str| {
        let source = line.trim().strip_prefix("What=");
        source.is_some_and(|source| is_bare_name(source.trim().as_bytes()))
    };
    let before = text.lines().position(is_it)?;
    Some(Caller {
        number: before + 1,
        text: excerpt(text.lines().nth(before)?.trim()),
        path,
    })
}

/// The first command of each script that is started in a run level, and that mounts a disk on
/// the mount point by its bare name.
pub(crate) fn scripts_by_bare_name(
    root: &Root,
    init: Init,
    links: &[Link],
    mount_point: &Path,
) -> Vec<Caller> {
    let starts = links.iter().filter(|link| link.action == Action::Start);
    let services: BTreeSet<&str> = starts.map(|link| link.service.as_str()).collect();
    let others = services.into_iter().filter(|service| *service != SCRIPT);
    let found = others.filter_map(|service| {
        let path = Path::new(init.scripts()).join(service);
        let commands = commands(root.text(&path).as_bytes(), mount_point);
        let first = commands
            .into_iter()
            .find(|one| one.what == What::UsesBareName)?;
        Some(Caller {
            path,
            number: first.number,
            text: first.text,
        })
    });
    found.collect()
}

/// The lines that mount something on the mount point.
pub(crate) fn fstab_lines<'a>(
    fstab: &'a Fstab,
    mount_point: &'a Path,
) -> impl Iterator<Item = (&'a Line, Found)> {
    let lines = fstab
        .lines
        .iter()
        .filter(move |line| line.mount_point == mount_point);
    lines.map(|line| (line, found(line)))
}

/// The lines that mount a disk below the mount point by its bare name.
pub(crate) fn fstab_lines_below<'a>(
    fstab: &'a Fstab,
    mount_point: &'a Path,
) -> impl Iterator<Item = &'a Line> {
    fstab.lines.iter().filter(move |line| {
        line.mount_point != mount_point
            && line.mount_point.starts_with(mount_point)
            && found(line) == Found::ByName
    })
}

fn found(line: &Line) -> Found {
    let source = line.source.as_bytes();
    let quotes = |byte: &u8| [b'"', b'\''].contains(byte);
    let begin = source.iter().take_while(|byte| quotes(byte)).count();
    let source = &source[begin..];
    let has = |option: &str| line.options.iter().any(|given| given == option);
    let tags: [&[u8]; 6] = [
        b"LABEL=",
        b"ID=",
        b"UUID=",
        b"PARTUUID=",
        b"PARTLABEL=",
        b"/dev/disk/by-",
    ];
    if line.is_of_cloud_init() {
        Found::ByCloudInit
    } else if tags.iter().any(|tag| source.starts_with(tag)) {
        match has("nofail") || has("noauto") {
            true => Found::ByTagWithoutHarm,
            false => Found::ByTag,
        }
    } else if is_bare_name(source) {
        Found::ByName
    } else if source.starts_with(b"/dev/") {
        Found::ByGivenName
    } else {
        Found::NoDisk
    }
}

/// A file without these lines, counted from 1 and in order; every other byte stays.
pub(crate) fn without_lines(content: &[u8], numbers: &[usize]) -> Vec<u8> {
    let lines = content.split_inclusive(|byte| *byte == b'\n').enumerate();
    let kept = lines.filter(|(before, _)| numbers.binary_search(&(before + 1)).is_err());
    kept.map(|(_, line)| line).collect::<Vec<_>>().concat()
}

/// A file to which lines were added since these were taken out of `old`, with them again: each
/// behind the line that it followed there. None where another of `old`'s lines has been changed
/// or moved.
pub(crate) fn with_lines(present: &[u8], old: &[u8], numbers: &[usize]) -> Option<Vec<u8>> {
    let mut made: Vec<u8> = Vec::new();
    let mut add = |line: &[u8]| {
        if made.last().is_some_and(|last| *last != b'\n') {
            made.push(b'\n');
        }
        made.extend(line);
    };
    let whole = |line: &[u8]| line.strip_suffix(b"\n").unwrap_or(line).to_vec();
    let mut present = present.split_inclusive(|byte| *byte == b'\n');
    let lines = old.split_inclusive(|byte| *byte == b'\n');
    for (before, line) in lines.enumerate() {
        if numbers.binary_search(&(before + 1)).is_ok() {
            add(line);
            continue;
        }
        loop {
            let next = present.next()?;
            add(next);
            if whole(next) == whole(line) {
                break;
            }
        }
    }
    present.for_each(add);
    Some(made)
}

/// A file of [`RC_LOCAL`], which links may have led to.
pub(crate) struct RcLocal {
    pub path: PathBuf,
    pub content: Vec<u8>,
    /// Else nothing runs it: neither systemd's rc-local.service, nor Debian's script of that
    /// name, nor Red Hat's rc, to which it is a service (S99local).
    pub is_executable: bool,
    pub commands: Vec<Command>,
}

/// Each of them that is there, or why it cannot be read.
pub(crate) fn rc_local(root: &Root, mount_point: &Path) -> Vec<Result<RcLocal>> {
    let mut seen = Vec::new();
    let read = |path: &Path| -> Result<Option<RcLocal>> {
        let cannot = || root.cannot("read", path);
        let Some(content) = root.read(path, MIB).with_context(cannot)? else {
            return Ok(None);
        };
        let real = root.real_path(path).with_context(cannot)?;
        let entry = root.entry(path).with_context(cannot)?;
        if seen.contains(&real) {
            return Ok(None);
        }
        seen.push(real.clone());
        Ok(Some(RcLocal {
            path: real,
            is_executable: entry.is_some_and(|entry| entry.mode & 0o111 != 0),
            commands: commands(&content, mount_point),
            content,
        }))
    };
    let files = RC_LOCAL.map(Path::new).into_iter().map(read);
    files.filter_map(Result::transpose).collect()
}

pub(crate) const INITTAB: &str = "/etc/inittab";

/// The line, counted from 1, on which a script runs `vmstage boot`.
pub(crate) fn line_of_vmstage(script: &str, mount_point: &Path) -> Option<usize> {
    let commands = commands(script.as_bytes(), mount_point);
    let first = commands.iter().find(|c| c.what == What::Vmstage)?;
    Some(first.number)
}

/// In the name of a copy of what is taken out.
pub(crate) const KEPT: &str = ".before-vmstage";

/// Where else something may run [`SCRIPT`], or waits for it.
const CALLERS: [&str; 11] = [
    INITTAB,
    "/etc/rc.d/rc.sysinit",
    "/etc/crontab",
    "/etc/cron.d",
    "/var/spool/cron",
    "/var/spool/cron/crontabs",
    "/etc/init",
    "/etc/init.d",
    "/etc/rc.d/init.d",
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
];

/// A line of a file that runs [`SCRIPT`], or may, or mounts what it mounted.
pub(crate) struct Caller {
    pub path: PathBuf,
    pub number: usize,
    pub text: String,
}

/// What nobody but a person can take out, and what needs the script.
pub(crate) fn callers_that_stay(root: &Root, scripts: &[RcLocal]) -> Vec<Caller> {
    let mut callers = Vec::new();
    for script in scripts {
        let commands = script.commands.iter();
        let stay = commands.filter(|one| one.what == What::RunsScript && one.lines.is_none());
        callers.extend(stay.map(|one| Caller {
            path: script.path.clone(),
            number: one.number,
            text: one.text.clone(),
        }));
    }
    let is_own = |path: &Path| scripts.iter().any(|script| script.path == path);
    callers.extend(callers_elsewhere(root, &is_own));
    callers
}

/// Also in what is a service by a link, but not in what is `rc.local` by one.
fn callers_elsewhere(root: &Root, is_rc_local: &dyn Fn(&Path) -> bool) -> Vec<Caller> {
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut callers = Vec::new();
    for place in CALLERS.map(Path::new) {
        let mut names = root.names(place).unwrap_or_default();
        // The file itself, where it is no directory.
        names.push(OsString::new());
        for name in names {
            // Not the script, copies that are kept, and what insserv has written.
            let is_own = name.as_bytes().starts_with(SCRIPT.as_bytes()) && !is_unit(&name);
            let is_copy = name.to_string_lossy().contains(KEPT);
            if is_own || is_copy || name.as_bytes().starts_with(b".") {
                continue;
            }
            let path = if name.is_empty() {
                place.into()
            } else {
                place.join(name)
            };
            if let Ok(path) = root.real_path(&path)
                && root.is(Kind::File, &path)
                && !seen.contains(&path)
                && !is_rc_local(&path)
            {
                callers.extend(caller_in(root, &path));
                seen.push(path);
            }
        }
    }
    callers
}

fn caller_in(root: &Root, path: &Path) -> Option<Caller> {
    if path.file_name() == Some(SCRIPT.as_ref()) {
        return None;
    }
    let content = root.text(path);
    for (before, line) in content.lines().enumerate() {
        let line = line.trim();
        // A script that waits for it says so in a comment.
        let is_comment = line.starts_with('#') && !line.starts_with("# Required-St");
        if line.contains(SCRIPT) && !is_comment {
            return Some(Caller {
                path: path.into(),
                number: before + 1,
                text: excerpt(line),
            });
        }
    }
    None
}

fn is_unit(name: &OsString) -> bool {
    Path::new(name).extension() == Some("service".as_ref())
}

/// Where the script is, below the directory of scripts.
pub(crate) fn script(scripts: &str) -> PathBuf {
    Path::new(scripts).join(SCRIPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staging() -> &'static Path {
        Path::new("/staging")
    }

    #[test]
    fn lines_come_back_into_a_file_that_got_others_since() {
        let old = "root\nold\n# end\n";
        for (present, expected) in [
            ("root\n# end\n", Some(old)),
            ("root\n# end\nnew\n", Some("root\nold\n# end\nnew\n")),
            ("new\nroot\n# end\nx", Some("new\nroot\nold\n# end\nx")),
            ("root\nnew\n# end", Some("root\nold\nnew\n# end")),
            ("root \n# end\n", None),
            ("# end\nroot\n", None),
            ("root\n", None),
            ("", None),
        ] {
            let made = with_lines(present.as_bytes(), old.as_bytes(), &[2]);
            assert_eq!(made.as_deref(), expected.map(str::as_bytes), "{present:?}");
        }
        let first_and_last = with_lines(b"b\nnew", b"a\nb\nc", &[1, 3]);
        assert_eq!(first_and_last.unwrap(), b"a\nb\nc\nnew");
    }

    #[test]
    fn a_line_for_the_mount_point_is_told_by_what_it_goes_by() {
        let text = "\
/dev/sdb /staging ext2 defaults 0 0
LABEL=ephemeral0 /staging auto defaults 0 0
LABEL=ephemeral0 /staging auto defaults,nofail 0 0
/dev/vdb /staging auto defaults,nofail,comment=cloudconfig 0 2
/dev/vdb /mnt auto defaults 0 0
/dev/disk/by-label/x /staging auto nofail 0 0
/var/scratch /staging none bind 0 0
/dev/mapper/vg-x /staging ext4 defaults 0 0
/dev/sdb /staging/tmp ext4 defaults 0 0
";
        let fstab = Fstab::parse(text.as_bytes());
        let found: Vec<_> = fstab_lines(&fstab, staging())
            .map(|(line, found)| (line.number, found))
            .collect();
        assert_eq!(
            found,
            [
                (1, Found::ByName),
                (2, Found::ByTag),
                (3, Found::ByTagWithoutHarm),
                (4, Found::ByCloudInit),
                (6, Found::ByTagWithoutHarm),
                (7, Found::NoDisk),
                (8, Found::ByGivenName),
            ]
        );
        let below: Vec<_> = fstab_lines_below(&fstab, staging()).collect();
        assert_eq!(below.len(), 1);
        assert_eq!(below[0].number, 9);
        let kept = without_lines(text.as_bytes(), &[1, 2, 3, 4, 6, 7, 8, 9]);
        assert_eq!(kept, b"/dev/vdb /mnt auto defaults 0 0\n");
    }

    #[test]
    fn the_last_line_needs_no_end_and_bytes_stay() {
        assert_eq!(without_lines(b"a\xff\r\n\nb", &[2]), b"a\xff\r\nb");
        assert_eq!(without_lines(b"a\nb", &[2]), b"a\n");
    }
}
