//! Whether a package manager has vmstage in its database.

use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result};

use super::files;
use super::root::{Kind, Root};
use crate::host::regular_file;

/// Who keeps track of vmstage's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackageManager {
    Dpkg,
    Rpm,
}

impl PackageManager {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            PackageManager::Dpkg => "dpkg",
            PackageManager::Rpm => "rpm",
        }
    }
}

const DPKG: &str = "/var/lib/dpkg/status";

/// Berkeley DB, ndb and SQLite, at the places of today and of before.
const RPM: [&str; 6] = [
    "/var/lib/rpm/Packages",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
];

/// In each of the databases, a package's header has its name behind the name of the locale.
const RPM_NAME: &[u8] = b"C\0vmstage\0";

/// Whose package vmstage is in this system, if anybody's. Of rpm's databases, which have three
/// forms, only the bytes are looked at: those of one that was removed may still be there, so
/// they count only where there is a program that `install` has not brought.
///
/// # Errors
///
/// That a database cannot be read.
pub(crate) fn owner(root: &Root) -> Result<Option<PackageManager>> {
    let cannot = || root.cannot("read", Path::new(DPKG));
    root.first(DPKG.as_ref(), &mut || drop(find_owner(root)))
        .with_context(cannot)?;
    find_owner(root)
}

fn find_owner(root: &Root) -> Result<Option<PackageManager>> {
    let dpkg = root.open_file(DPKG.as_ref());
    let cannot = |file: &str| root.cannot("read", Path::new(file));
    if let Some(status) = dpkg.with_context(|| cannot(DPKG))? {
        let mut paragraphs = Paragraphs::default();
        pieces(status, 0, |piece| paragraphs.feed(piece)).with_context(|| cannot(DPKG))?;
        if paragraphs.has_installed() {
            return Ok(Some(PackageManager::Dpkg));
        }
    }
    let has = |path: &str| root.is(Kind::File, path);
    if !has(files::PROGRAM) || has(files::DIRECTORIES) {
        return Ok(None);
    }
    for database in RPM {
        if let Some(file) = root
            .open_file(database.as_ref())
            .with_context(|| cannot(database))?
        {
            let mut found = false;
            let overlap = RPM_NAME.len() - 1;
            pieces(file, overlap, |piece| {
                found |= regular_file::has(piece, RPM_NAME);
            })
            .with_context(|| cannot(database))?;
            if found {
                return Ok(Some(PackageManager::Rpm));
            }
        }
    }
    Ok(None)
}

/// Reads a file in pieces, each of which begins with the last `overlap` bytes of the one before.
fn pieces(mut file: impl Read, overlap: usize, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut kept = 0;
    loop {
        let count = file.read(&mut buffer[kept..])?;
        if count == 0 {
            return Ok(());
        }
        let length = kept + count;
        take(&buffer[..length]);
        kept = overlap.min(length);
        buffer.copy_within(length - kept..length, 0);
    }
}

/// dpkg's status, of which a few megabytes are not worth keeping.
#[derive(Default)]
struct Paragraphs {
    line: Vec<u8>,
    is_ours: bool,
    found: bool,
}

impl Paragraphs {
    fn feed(&mut self, piece: &[u8]) {
        for byte in piece {
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() < 80 {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self) {
        if let Some(name) = self.line.strip_prefix(b"Package:") {
            self.is_ours = name.trim_ascii() == b"vmstage";
        }
        if let Some(status) = self.line.strip_prefix(b"Status:") {
            // What was removed and not purged is in there with its configuration alone.
            let state = status.trim_ascii().rsplit(|byte| *byte == b' ').next();
            let is_gone = matches!(state, Some(b"config-files" | b"not-installed"));
            self.found |= self.is_ours && !is_gone;
        }
        self.line.clear();
    }

    fn has_installed(&mut self) -> bool {
        self.end_line();
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    fn owner_with(files: &[(&str, &str)]) -> Option<PackageManager> {
        let tree = Tree::new(&[&[("etc/", ""), ("usr/", "")], files].concat());
        owner(&Root::open(tree.root()).unwrap()).unwrap()
    }

    #[test]
    fn dpkg_has_it_unless_it_was_removed() {
        let paragraph = |state: &str| {
            format!(
                "Package: vmstage-tools\nStatus: install ok installed\n\n\
                 Package: vmstage\nStatus: {state}\nPriority: optional\n"
            )
        };
        for (state, expected) in [
            ("install ok installed", Some(PackageManager::Dpkg)),
            ("install ok half-configured", Some(PackageManager::Dpkg)),
            ("deinstall ok config-files", None),
        ] {
            let status = paragraph(state);
            assert_eq!(owner_with(&[("var/lib/dpkg/status", &status)]), expected);
        }
        let other = "Package: other\nStatus: install ok installed";
        assert_eq!(owner_with(&[("var/lib/dpkg/status", other)]), None);
    }

    #[test]
    fn rpm_has_it_wherever_in_its_database_the_name_lies() {
        let program = ("usr/sbin/vmstage", "");
        for database in ["var/lib/rpm/Packages", "usr/lib/sysimage/rpm/rpmdb.sqlite"] {
            for before in [0, 65_530, 65_536, 200_000] {
                let content = "x".repeat(before) + "C\0vmstage\x000.2\0";
                let files = [(database, content.as_str()), program];
                assert_eq!(owner_with(&files), Some(PackageManager::Rpm), "{before}");
            }
        }
        let mentions = "requires vmstage\0 C\0vmstage-tools\0";
        assert_eq!(
            owner_with(&[("var/lib/rpm/Packages", mentions), program]),
            None
        );
        // Removed, and the bytes are still there; then install has brought the program.
        assert_eq!(
            owner_with(&[("var/lib/rpm/Packages", "C\0vmstage\0")]),
            None
        );
        let list = ("usr/share/doc/vmstage/directories", "");
        let files = [("var/lib/rpm/Packages", "C\0vmstage\0"), program, list];
        assert_eq!(owner_with(&files), None);
    }
}
