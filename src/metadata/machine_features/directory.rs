//! Features in directories. One may be on a file system that does not answer (a dead NFS or
//! FUSE server), so that each is read once in a round of questions, and in a child with a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{JOB_KEYS, MACHINE_KEYS, published};
use crate::host::bounded::{Child, Limit, Parent};
use crate::host::mount_table::{self, Mount};
use crate::host::silent::Silent;
use crate::host::{Host, regular_file};
use crate::metadata::NoAnswer;

/// Longer values are not read.
const VALUE_LIMIT: u64 = 4096;

/// A directory that is not read by then does not answer. All else waits for so long.
const LIMIT: Duration = Duration::from_secs(2);

/// What a directory holds.
#[derive(Serialize, Deserialize)]
pub(super) struct Content {
    /// This program publishes in it.
    is_own: bool,
    /// By the keys of both kinds. The empty one is the directory itself.
    values: BTreeMap<String, Result<Option<Vec<u8>>, String>>,
}

/// The directories of one machine, as far as they were read.
pub(crate) struct Directories<'a> {
    host: &'a Host,
    /// In this round.
    contents: BTreeMap<PathBuf, Result<Content, String>>,
    silent: BTreeMap<PathBuf, Silent>,
    limit: Duration,
    look: fn(&Path, &Path) -> Content,
}

impl<'a> Directories<'a> {
    pub(crate) fn new(host: &'a Host) -> Directories<'a> {
        Directories {
            host,
            contents: BTreeMap::new(),
            silent: BTreeMap::new(),
            limit: LIMIT,
            look,
        }
    }

    /// From now on what was read is old.
    pub(crate) fn begin_round(&mut self) {
        self.contents.clear();
    }

    /// Whether this program publishes in it. One that does not answer says nothing.
    pub(super) fn is_own(&mut self, directory: &Path) -> bool {
        self.content(directory)
            .as_ref()
            .is_ok_and(|content| content.is_own)
    }

    /// Whether somebody else has put any of these keys into a directory of `/etc`. Where that
    /// cannot be told reading it says why.
    pub(super) fn has_others(&mut self, directory: &Path, keys: &[&str]) -> bool {
        // Listing the directory above cannot hang, and most machines have no such directory.
        if entry_of(&self.host.path(directory)).is_none() {
            return false;
        }
        match self.content(directory) {
            Ok(content) => keys
                .iter()
                .any(|key| matches!(content.values.get(*key), Some(Ok(Some(_)) | Err(_)))),
            Err(_) => true,
        }
    }

    /// None where there is no such key, or where its value is this program's own.
    pub(super) fn read(
        &mut self,
        directory: &Path,
        key: &str,
    ) -> Result<Option<Vec<u8>>, NoAnswer> {
        let content = self.content(directory).as_ref();
        let value = content.map(|content| content.values.get(key).cloned().unwrap_or(Ok(None)));
        value
            .map_err(Clone::clone)
            .flatten()
            .map_err(NoAnswer::Local)
    }

    fn content(&mut self, directory: &Path) -> &Result<Content, String> {
        if !self.contents.contains_key(directory) {
            let content = self.look_at(directory);
            self.contents.insert(directory.into(), content);
        }
        &self.contents[directory]
    }

    fn look_at(&mut self, directory: &Path) -> Result<Content, String> {
        let shown = directory.display();
        let before = self.silent.get(directory);
        if before.is_some_and(Silent::is_left_alone) {
            return Err(format!("{shown} does not answer; asked again later"));
        }
        let (path, look) = (self.host.path(directory), self.look);
        if is_part_of_etc(self.host, directory) {
            return Ok(look(&path, directory));
        }
        let work = |parent: &mut Parent| parent.tell(&look(&path, directory));
        let failed = |e| format!("cannot read {shown}: {e}");
        let mut child = Child::start(&[], work).map_err(failed)?;
        match child.wait(Limit::after(self.limit)) {
            Ok(content) => {
                self.silent.remove(directory);
                Ok(content)
            }
            Err(gave_up) => {
                let silent = Silent::after(before, child.give_up());
                self.silent.insert(directory.into(), silent);
                Err(format!("{shown} does not answer: {gave_up}"))
            }
        }
    }
}

/// As the directory above lists it.
fn entry_of(path: &Path) -> Option<DirEntry> {
    let mut entries = fs::read_dir(path.parent()?).ok()?.flatten();
    entries.find(|entry| Some(&*entry.file_name()) == path.file_name())
}

/// Whether all that can be read in it lies on the file system of `/etc`, which has answered
/// before, as it does where this program publishes.
fn is_part_of_etc(host: &Host, directory: &Path) -> bool {
    let is_free = |mounts: &[Mount]| {
        let mut on = mounts.iter().map(|mount| &mount.mount_point);
        !on.any(|on| on.starts_with(directory))
    };
    let is_file = |entry: io::Result<DirEntry>| {
        entry
            .and_then(|entry| entry.file_type())
            .is_ok_and(|kind| kind.is_file())
    };
    let path = host.path(directory);
    directory.parent() == Some(Path::new("/etc"))
        && mount_table::at_present(host).is_ok_and(|mounts| is_free(&mounts))
        && fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir())
        && fs::read_dir(&path).is_ok_and(|mut entries| entries.all(is_file))
}

/// What a child does. `shown` is the path as people know it.
fn look(directory: &Path, shown: &Path) -> Content {
    let is_own = published::are_own(directory);
    let (own, listed) = match is_own {
        true => (published::own_values(directory), names_in(directory)),
        // Not every file system that somebody else's are on lists what it has.
        false => (BTreeSet::new(), None),
    };
    let is_absent = |key: &str| {
        let names = listed.as_ref();
        names.is_some_and(|names| !names.contains(OsStr::new(key)))
    };
    let value = |key: &str| match is_absent(key) {
        true => Ok(None),
        false => read_in(directory, shown, key, &own),
    };
    let keys = MACHINE_KEYS.iter().chain(&JOB_KEYS);
    let mut values: BTreeMap<_, _> = keys.map(|key| (key.to_string(), value(key))).collect();
    let itself = directory.is_dir().then(Vec::new);
    values.insert(String::new(), Ok(itself));
    Content { is_own, values }
}

fn names_in(directory: &Path) -> Option<BTreeSet<OsString>> {
    let entries = fs::read_dir(directory).ok()?;
    let names = entries.map(|entry| Ok(entry?.file_name()));
    names.collect::<io::Result<_>>().ok()
}

/// None where there is no such key, or where its value is among this program's own: read back,
/// it would confirm itself.
fn read_in(
    directory: &Path,
    shown: &Path,
    key: &str,
    own: &BTreeSet<(String, String)>,
) -> Result<Option<Vec<u8>>, String> {
    let failed = |path: &Path, e: io::Error| format!("cannot read {}: {e}", path.display());
    let is_own = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes);
        text.is_ok_and(|value| own.contains(&(key.to_string(), value.to_string())))
    };
    match regular_file::read(&directory.join(key), VALUE_LIMIT) {
        Ok(bytes) => Ok(Some(bytes).filter(|bytes| !is_own(bytes))),
        Err(e) if e.kind() == ErrorKind::NotFound => match directory.metadata() {
            Ok(_) => Ok(None),
            Err(e) => Err(failed(shown, e)),
        },
        Err(e) => Err(failed(&shown.join(key), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::silent::FIRST_PAUSE;
    use crate::host::tree::Tree;

    /// As on a file system that went away, or where a value became a directory: what was read
    /// before holds.
    #[test]
    fn a_place_that_cannot_be_read_is_still_the_place() {
        let tree = Tree::new(&[("etc/machinefeatures/shutdowntime/x", "")]);
        let host = tree.host();
        let place = Path::new(published::MACHINE);
        let mut directories = Directories::new(&host);
        assert!(directories.has_others(place, &MACHINE_KEYS));
        assert!(directories.read(place, "shutdowntime").is_err());
        assert!(!directories.has_others(Path::new(published::JOB), &JOB_KEYS));
    }

    #[test]
    fn a_directory_that_does_not_answer_is_given_up_and_then_left_alone() {
        let table = "server:/features /etc/machinefeatures nfs ro 0 0\n";
        let tree = Tree::new(&[
            ("etc/machinefeatures/grace_secs", "900"),
            ("proc/self/mounts", table),
        ]);
        let host = tree.host();
        let place = Path::new(published::MACHINE);
        let mut directories = Directories::new(&host);
        assert!(directories.has_others(place, &["grace_secs"]));

        directories.look = |_, _| {
            loop {
                std::thread::sleep(LIMIT);
            }
        };
        directories.limit = Duration::from_millis(100);
        let age = |directories: &mut Directories, by: Duration| {
            directories.silent.get_mut(place).unwrap().age(by);
        };
        // Asked twice in each of three rounds; tried in the first and, after its time, in the
        // third.
        for (later, reason) in [
            (Duration::ZERO, "given up after"),
            (Duration::ZERO, "asked again later"),
            (FIRST_PAUSE, "given up after"),
        ] {
            directories.begin_round();
            if !later.is_zero() {
                age(&mut directories, later);
            }
            for key in ["grace_secs", ""] {
                let Err(NoAnswer::Local(why)) = directories.read(place, key) else {
                    panic!("it answers");
                };
                assert!(why.starts_with("/etc/machinefeatures does not answer"));
                assert!(why.contains(reason), "{why}");
            }
            // It is still the place, so that what it said before holds.
            assert!(directories.has_others(place, &["grace_secs"]));
        }

        directories.look = look;
        directories.begin_round();
        age(&mut directories, 2 * FIRST_PAUSE);
        let value = directories.read(place, "grace_secs").unwrap();
        assert_eq!(value.as_deref(), Some(&b"900"[..]));
        assert!(directories.silent.is_empty());
    }

    #[test]
    fn only_what_lies_in_etc_itself_is_read_without_a_child() {
        let mounted = |on: &str| format!("/dev/vda / ext4 rw 0 0\nserver:/x {on} nfs ro 0 0\n");
        let (elsewhere, on_it) = (mounted("/data"), mounted(published::MACHINE));
        let below = mounted("/etc/machinefeatures/more");
        let key = "etc/machinefeatures/total_cpu";
        let own = published::MACHINE;
        let further = "etc/x/features/total_cpu";
        for (directory, path, content, table, expected) in [
            (own, key, "4", &elsewhere, true),
            (own, key, "4", &on_it, false),
            (own, key, "4", &below, false),
            (own, key, "-> /data/4", &elsewhere, false),
            (own, "etc/machinefeatures", "-> /data", &elsewhere, false),
            (own, "etc/other", "", &elsewhere, false),
            ("/data", "data/total_cpu", "4", &elsewhere, false),
            ("/etc/x/features", further, "4", &elsewhere, false),
        ] {
            let tree = Tree::new(&[("proc/self/mounts", table)]);
            let file = tree.root().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, file).unwrap(),
                None => fs::write(file, content).unwrap(),
            }
            let found = is_part_of_etc(&tree.host(), directory.as_ref());
            assert_eq!(found, expected, "{directory} {path} {content} {table}");
        }
        // Without a mount table nobody knows.
        let tree = Tree::new(&[(key, "4")]);
        assert!(!is_part_of_etc(&tree.host(), published::MACHINE.as_ref()));
    }
}
