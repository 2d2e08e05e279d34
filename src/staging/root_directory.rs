//! What is in the root directory of a scratch disk, and whose it is.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstatat};

use crate::config::Directory;
use crate::disk::looked::{Contents, Names};
use crate::disk::mark::{self, LIMIT, Mark, TEMPORARY};
use crate::host::namespace;
use crate::text;

/// So many names are read: a directory may have a million.
const MOST_NAMES: usize = 10_000;

/// So many are told.
const TOLD: usize = 3;

/// What fsck finds goes in there: mke2fs makes it, with nothing in it.
const LOST_AND_FOUND: &str = "lost+found";

const FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// The names in the root directory that this program makes.
pub(super) fn names_of(directories: &[Directory]) -> BTreeSet<String> {
    let first_name = |directory: &Directory| {
        let first = directory.path.as_path().iter().next()?;
        Some(text::printable(&first.to_string_lossy()))
    };
    directories.iter().filter_map(first_name).collect()
}

/// The names in one root directory or in several of one file system.
#[derive(Debug, Default)]
pub(super) struct Listing {
    mark: Option<Mark>,
    others: BTreeSet<String>,
    used: BTreeSet<String>,
    is_cut: bool,
}

impl Listing {
    /// Reads what is mounted in this process's namespace.
    ///
    /// # Errors
    ///
    /// Those of reading it, and that the directory is damaged.
    pub(super) fn read(ours: &BTreeSet<String>) -> io::Result<Listing> {
        Listing::of(&open(namespace::MOUNT_POINT, FLAGS, Mode::empty())?, ours)
    }

    /// Of a directory that is open.
    ///
    /// # Errors
    ///
    /// As [`Listing::read`].
    pub(super) fn of(root: &impl AsFd, ours: &BTreeSet<String>) -> io::Result<Listing> {
        let mut listing = Listing {
            mark: read_mark(root)?,
            ..Listing::default()
        };
        let mut count = 0;
        let mut links = 0;
        for entry in Dir::openat(root, ".", FLAGS, Mode::empty())?.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if is_dot(name) {
                links += 1;
                continue;
            }
            if is_leftover(root, name) {
                continue;
            }
            count += 1;
            if count > MOST_NAMES {
                listing.is_cut = true;
                break;
            }
            let shown = text::printable(&name.to_string_lossy());
            let is_mark = listing.mark.is_some() && name.to_bytes() == mark::NAME.as_bytes();
            let is_ours = ours.contains(&shown) && is_directory(root, name) || is_mark;
            if !is_ours && !is_empty_lost_and_found(root, name) {
                listing.others.insert(shown.clone());
            }
            if !is_unused(root, name) {
                listing.used.insert(shown);
            }
        }
        // Where its first block cannot be made sense of, ext2 to 4 pass over it.
        if links < 2 && !listing.is_cut {
            return Err(io::Error::other(
                "its root directory is damaged; run fsck on it",
            ));
        }
        Ok(listing)
    }

    /// What is seen of the same file system in another place.
    pub(super) fn add(&mut self, beside: Listing) {
        self.others.extend(beside.others);
        self.used.extend(beside.used);
        self.is_cut |= beside.is_cut;
    }

    pub(super) fn contents(self) -> Contents {
        Contents {
            mark: self.mark,
            is_replay_pending: false,
            others: names(self.others, self.is_cut),
            used: names(self.used, self.is_cut),
        }
    }
}

fn names(all: BTreeSet<String>, is_cut: bool) -> Names {
    Names {
        count: all.len(),
        first: all.into_iter().take(TOLD).collect(),
        is_cut,
    }
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn is_empty_lost_and_found(root: &impl AsFd, name: &CStr) -> bool {
    name.to_bytes() == LOST_AND_FOUND.as_bytes() && has_nothing_but(root, name, &[])
}

/// What any file system may have that nobody has used: mke2fs, Windows and Azure make these.
fn is_unused(root: &impl AsFd, name: &CStr) -> bool {
    match name.to_bytes() {
        b"DATALOSS_WARNING_README.txt" => is_of(root, name, libc::S_IFREG),
        b"System Volume Information" => {
            has_nothing_but(root, name, &["IndexerVolumeGuid", "WPSettings.dat"])
        }
        b"$RECYCLE.BIN" => has_nothing_but(root, name, &["desktop.ini"]),
        _ => is_empty_lost_and_found(root, name),
    }
}

/// Whether it is a directory in which there are no other names than these, of files.
fn has_nothing_but(root: &impl AsFd, name: &CStr, files: &[&str]) -> bool {
    let Ok(within) = openat(root, name, FLAGS, Mode::empty()) else {
        return false;
    };
    let Ok(mut directory) = Dir::openat(&within, ".", FLAGS, Mode::empty()) else {
        return false;
    };
    let is_one = |name: &CStr| {
        let is_named = files.iter().any(|file| file.as_bytes() == name.to_bytes());
        is_dot(name) || is_named && is_of(&within, name, libc::S_IFREG)
    };
    let mut links = 0;
    let nothing_else = directory.iter().all(|entry| {
        let Ok(entry) = entry else { return false };
        links += usize::from(is_dot(entry.file_name()));
        is_one(entry.file_name())
    });
    // One that is damaged is not known to be empty.
    nothing_else && links == 2
}

fn is_directory(root: &impl AsFd, name: &CStr) -> bool {
    is_of(root, name, libc::S_IFDIR)
}

fn is_of(root: &impl AsFd, name: &CStr, kind: libc::mode_t) -> bool {
    stat_at(root, name).is_some_and(|there| there.st_mode & libc::S_IFMT == kind)
}

/// Whether it is a mark that a run which died had not finished.
fn is_leftover(root: &impl AsFd, name: &CStr) -> bool {
    let is_one = |there: FileStat| {
        let is_file = there.st_mode & libc::S_IFMT == libc::S_IFREG;
        is_file && there.st_uid == 0 && u64::try_from(there.st_size).is_ok_and(|size| size <= LIMIT)
    };
    name.to_bytes() == TEMPORARY.as_bytes() && stat_at(root, name).is_some_and(is_one)
}

fn stat_at(root: &impl AsFd, name: &CStr) -> Option<FileStat> {
    fstatat(root, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
}

/// A regular file of root's that parses is a mark; anything else of that name is a file of
/// somebody's.
fn read_mark(root: &impl AsFd) -> io::Result<Option<Mark>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(root, mark::NAME, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(_) => return Ok(None),
    };
    let there = file.metadata()?;
    if !there.is_file() || there.uid() != 0 || there.len() > LIMIT {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(LIMIT).read_to_end(&mut content)?;
    Ok(Mark::parse(&content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    /// The names of somebody's and those that show that the file system was used.
    fn listed(files: &[(&str, &str)]) -> [String; 2] {
        let tree = Tree::new(files);
        let root = open(tree.root(), FLAGS, Mode::empty()).unwrap();
        let ours = BTreeSet::from(["condor".to_string()]);
        let contents = Listing::of(&root, &ours).unwrap().contents();
        [contents.others.to_string(), contents.used.to_string()]
    }

    /// Paths with their content, and what is told of them.
    type Case = (
        &'static [(&'static str, &'static str)],
        &'static str,
        &'static str,
    );

    #[test]
    fn what_nobody_has_used_has_only_what_mkfs_and_windows_make() {
        let cases: &[Case] = &[
            (&[], "", ""),
            (&[("lost+found/", "")], "", ""),
            // What fsck found is somebody's.
            (&[("lost+found/#12", "thesis")], "lost+found", "lost+found"),
            (&[("lost+found", "thesis")], "lost+found", "lost+found"),
            (&[("condor/job", "x")], "", "condor"),
            (&[("condor", "x")], "condor", "condor"),
            (
                &[
                    ("System Volume Information/WPSettings.dat", ""),
                    ("System Volume Information/IndexerVolumeGuid", ""),
                ],
                "System Volume Information",
                "",
            ),
            (
                &[("System Volume Information/thesis.tex", "")],
                "System Volume Information",
                "System Volume Information",
            ),
            (
                &[("System Volume Information/WPSettings.dat/thesis", "")],
                "System Volume Information",
                "System Volume Information",
            ),
            (&[("$RECYCLE.BIN/desktop.ini", "")], "$RECYCLE.BIN", ""),
            (
                &[("$RECYCLE.BIN/S-1/thesis.tex", "")],
                "$RECYCLE.BIN",
                "$RECYCLE.BIN",
            ),
            (
                &[("DATALOSS_WARNING_README.txt", "x")],
                "DATALOSS_WARNING_README.txt",
                "",
            ),
            (
                &[("DATALOSS_WARNING_README.txt/thesis", "x")],
                "DATALOSS_WARNING_README.txt",
                "DATALOSS_WARNING_README.txt",
            ),
        ];
        for (files, others, used) in cases {
            assert_eq!(listed(files), [*others, *used], "{files:?}");
        }
    }

    #[test]
    fn several_places_of_one_file_system_are_told_together() {
        let mut listing = Listing::default();
        listing.others.insert("home".into());
        let beside = Listing {
            others: ["data".to_string(), "home".to_string()].into(),
            is_cut: true,
            mark: Some(Mark::staged_by(None, None, None, 1, None)),
            ..Listing::default()
        };
        listing.add(beside);
        let contents = listing.contents();
        assert_eq!(
            contents.others.to_string(),
            "data, home … more than 2 in all"
        );
        // What lies beside what is staged marks nothing.
        assert_eq!(contents.mark, None);
    }
}
