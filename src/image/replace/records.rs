//! What is written down of what was taken out, a line each.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::regular_file::MIB;
use crate::image::enabling::SERVICE;
use crate::image::files::CONFIGURATION;
use crate::image::root::Root;
use crate::image::step::Step;

const LINK: &[u8] = b"link\t";
const FILE: &[u8] = b"file\t";
const LINES: &[u8] = b"lines\t";

/// What is written down of a step, for `uninstall`: of one that takes something out, a link with its
/// text, a file with its mode and owner, lines by their numbers; and that the configuration is new. Links of vmstage's own are made anew.
///
/// # Errors
///
/// That it cannot be looked at.
pub(crate) fn record(root: &Root, step: &Step) -> Result<Option<Vec<u8>>> {
    let path = step.path();
    let bytes = path.as_os_str().as_bytes();
    Ok(match step {
        Step::Remove(_) if bytes.ends_with(SERVICE.as_bytes()) => None,
        Step::Remove(_) => root
            .link_text(path)?
            .map(|text| [LINK, bytes, b"\t", text.as_os_str().as_bytes(), b"\n"].concat()),
        Step::SetAside { .. } => root.entry(path)?.map(|entry| {
            let numbers = format!("{:o}\t{}\t{}\t", entry.mode, entry.uid, entry.gid);
            [FILE, numbers.as_bytes(), bytes, b"\n"].concat()
        }),
        Step::Rewrite { content, .. } => {
            let old = root.read(path, MIB);
            let old = old
                .with_context(|| root.cannot("read", path))?
                .unwrap_or_default();
            taken_lines(&old, content).map(|numbers| {
                let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                [LINES, numbers.join(" ").as_bytes(), b"\t", bytes, b"\n"].concat()
            })
        }
        // It is written where there was none, and nowhere else.
        Step::Write { path, .. } if path == Path::new(CONFIGURATION) => {
            Some(CONFIGURATION_IS_NEW.to_vec())
        }
        _ => None,
    })
}

/// In the list of [`record`]: `install` put the configuration there.
pub(crate) const CONFIGURATION_IS_NEW: &[u8] = b"new\t/etc/vmstage.toml\n";

pub(super) fn link_in(line: &[u8]) -> Option<(PathBuf, PathBuf)> {
    let line = line.strip_prefix(LINK)?;
    let at = line.iter().position(|byte| *byte == b'\t')?;
    let path = |bytes| PathBuf::from(OsStr::from_bytes(bytes));
    Some((path(&line[..at]), path(&line[at + 1..])))
}

/// A file with its mode and owner, as they were.
pub(super) fn file_in(line: &[u8]) -> Option<(PathBuf, u32, (u32, u32))> {
    let line = std::str::from_utf8(line.strip_prefix(FILE)?).ok()?;
    let mut fields = line.splitn(4, '\t');
    let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
    let owner = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((fields.next()?.into(), mode & 0o7777, owner))
}

/// The numbers of the lines that are not in what is left of a file; None where it is changed in
/// another way.
fn taken_lines(old: &[u8], left: &[u8]) -> Option<Vec<usize>> {
    let mut left = left.split_inclusive(|byte| *byte == b'\n').peekable();
    let mut taken = Vec::new();
    for (before, line) in old.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if left.next_if_eq(&line).is_none() {
            taken.push(before + 1);
        }
    }
    left.next().is_none().then_some(taken)
}

/// What was written down of the lines of a file, once for each time that some were taken out.
pub(super) fn taken_out_of(records: &[u8], path: &Path) -> Vec<Vec<usize>> {
    let lines = records.split(|byte| *byte == b'\n');
    let numbers = lines.filter_map(|line| {
        let line = line.strip_prefix(LINES)?;
        let at = line.iter().position(|byte| *byte == b'\t')?;
        let is_it = Path::new(OsStr::from_bytes(&line[at + 1..])) == path;
        let numbers = std::str::from_utf8(&line[..at]).ok().filter(|_| is_it)?;
        numbers.split(' ').map(|n| n.parse().ok()).collect()
    });
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::old;

    #[test]
    fn lines_that_are_taken_out_are_written_down_and_read_again() {
        for (old, left, expected) in [
            ("a\nb\nc\n", "a\nc\n", Some(vec![2])),
            ("a\na\nb", "a\nb", Some(vec![2])),
            ("a\nb", "", Some(vec![1, 2])),
            ("a\n", "a\n", Some(vec![])),
            ("a\nb\n", "a\nB\n", None),
            ("a\n", "a\nb\n", None),
        ] {
            let taken = taken_lines(old.as_bytes(), left.as_bytes());
            assert_eq!(taken, expected, "{old:?} {left:?}");
            if let Some(taken) = taken {
                assert_eq!(old::without_lines(old.as_bytes(), &taken), left.as_bytes());
            }
        }
        let records = b"/etc/x\nlines\t2 11\t/etc/fstab\nlines\t3\t/etc/rc.local\nlines\t\t/y\n";
        assert_eq!(taken_out_of(records, Path::new("/etc/fstab")), [[2, 11]]);
        assert!(taken_out_of(records, Path::new("/etc/x")).is_empty());
    }
}
