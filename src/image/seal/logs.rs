//! What happened on the machine: logs, histories, temporary files, and who logged in.

use std::path::{Path, PathBuf};

use super::item::{Item, remove};
use crate::image::root::{Kind, Root};
use crate::image::step::Step;

const LOGS: &str = "/var/log";
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// Of shells and programs, in a home directory.
const HISTORIES: [&str; 8] = [
    ".bash_history",
    ".ash_history",
    ".zsh_history",
    ".sh_history",
    ".history",
    ".python_history",
    ".lesshst",
    ".viminfo",
];

/// A log of before, or one that holds no text: `messages.1`, `syslog.2.gz`, `messages-20261126`.
fn is_rotated(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let packed = [".gz", ".xz", ".bz2", ".zst", ".old"];
    let bare = packed.iter().find_map(|end| name.strip_suffix(end));
    let last = name.rsplit(['.', '-']).next().unwrap_or_default();
    bare.is_some() || last.len() < name.len() && is_number(last)
}

pub(super) fn item(root: &Root) -> Item {
    let mut steps = Vec::new();
    logs(root, Path::new(LOGS), &mut steps);
    for directory in TEMPORARY.map(Path::new) {
        let names = root.names(directory).unwrap_or_default();
        steps.extend(
            names
                .into_iter()
                .map(|name| remove(root, directory.join(name))),
        );
    }
    let homes = root.names("/home".as_ref()).unwrap_or_default();
    let homes = homes.iter().map(|name| Path::new("/home").join(name));
    for home in homes.chain([PathBuf::from("/root")]) {
        let files = HISTORIES.map(|name| home.join(name)).into_iter();
        steps.extend(
            files
                .filter(|file| is(root, Kind::File, file))
                .map(Step::Remove),
        );
    }
    Item {
        steps,
        ..Item::new("logs")
    }
}

/// A log that somebody writes is made empty, `wtmp` among them, and keeps its owner and mode.
/// Older ones and the journal go.
fn logs(root: &Root, directory: &Path, steps: &mut Vec<Step>) {
    for name in root.names(directory).unwrap_or_default() {
        let path = directory.join(&name);
        if is(root, Kind::Directory, &path) {
            match path == Path::new("/var/log/journal") {
                true => {
                    let names = root.names(&path).unwrap_or_default();
                    steps.extend(names.into_iter().map(|name| remove(root, path.join(name))));
                }
                false => logs(root, &path, steps),
            }
        } else if is(root, Kind::File, &path) {
            let is_empty = root
                .entry(&path)
                .is_ok_and(|entry| entry.is_some_and(|e| e.size == 0));
            if is_rotated(&name.to_string_lossy()) {
                steps.push(Step::Remove(path));
            } else if !is_empty {
                steps.push(Step::Rewrite {
                    path,
                    content: Vec::new(),
                });
            }
        }
    }
}

fn is(root: &Root, kind: Kind, path: &Path) -> bool {
    let entry = root.entry_itself(path).ok().flatten();
    entry.is_some_and(|entry| entry.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_before_are_told_by_their_names() {
        for (name, expected) in [
            ("messages", false),
            ("messages.1", true),
            ("messages-20261126", true),
            ("syslog.2.gz", true),
            ("dpkg.log", false),
            ("Xorg.0.log", false),
            ("wtmp", false),
        ] {
            assert_eq!(is_rotated(name), expected, "{name}");
        }
    }
}
