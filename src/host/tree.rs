//! A machine for tests: a directory tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::Host;
use super::block_device::Number;

/// What the names of the trees' root directories begin with.
const NAME: &str = "vmstage-tree-";

/// Where trees are made: in memory, where what is written reaches no disk, unless the user chose
/// a place or no script can be run there, as in many a container.
pub(crate) fn directory() -> PathBuf {
    const IN_MEMORY: &str = "/dev/shm";
    let is_chosen = std::env::var_os("TMPDIR").is_some();
    let runs_scripts =
        || statvfs(IN_MEMORY).is_ok_and(|it| !it.flags().contains(FsFlags::ST_NOEXEC));
    let is_writable = || access(IN_MEMORY, AccessFlags::W_OK).is_ok();
    match !is_chosen && runs_scripts() && is_writable() {
        true => IN_MEMORY.into(),
        false => std::env::temp_dir(),
    }
}

/// The root directory of the tree that a path lies in.
pub(super) fn root_of(path: &Path) -> Option<&Path> {
    let is_root = |path: &&Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(NAME))
    };
    path.ancestors().find(is_root)
}

/// A directory tree of a test's own, gone with it.
pub(crate) struct Tree(PathBuf);

impl Tree {
    /// `files` are paths with their content; a path that ends in `/` is a directory.
    pub(crate) fn new(files: &[(&str, &str)]) -> Tree {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME}{}-{number}", std::process::id());
        let root = directory().join(name);
        fs::create_dir(&root).unwrap();
        for (path, content) in files {
            let path = root.join(path);
            if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
                fs::create_dir_all(&path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
        }
        Tree(root)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn host(&self) -> Host {
        Host::at(&self.0)
    }

    /// A host with these block devices, each by its place below `/sys/block` (`vda`,
    /// `vda/vda1`), with a node in `/dev` and numbers that count up; `/` is on the device of
    /// that name, if any is given.
    pub(crate) fn with_devices(&self, places: &[&str], root: Option<&str>) -> Host {
        let mut host = self.host();
        let mut listed = String::from("major minor  #blocks  name\n\n");
        for (minor, place) in places.iter().enumerate() {
            let name = place.rsplit('/').next().unwrap_or_default();
            let number = Number {
                major: 252,
                minor: minor as u64,
            };
            fs::create_dir_all(self.0.join("sys/block").join(place)).unwrap();
            listed += &format!(" 252 {minor} 1048576 {}\n", name.replace('!', "/"));
            let node = Path::new("/dev").join(name.replace('!', "/"));
            host.pretended.nodes.insert(node, number);
            if root == Some(name) {
                host.pretended.file_systems.insert("/".into(), number);
            }
        }
        fs::create_dir_all(self.0.join("proc")).unwrap();
        fs::write(self.0.join("proc/partitions"), listed).unwrap();
        host
    }

    /// Makes a shell script. Another process writes it: one that this one starts meanwhile would
    /// have it open for writing, and then it cannot be run.
    pub(crate) fn script(&self, path: &str, script: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut command = std::process::Command::new("/bin/sh");
        let make = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#;
        command.arg("-c").arg(make).arg(path).arg(script);
        assert!(command.status().unwrap().success());
    }

    pub(crate) fn text(&self, path: &str) -> String {
        let path = self.0.join(path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The names of all files below `path`, sorted, those this program hides left out.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let directory = self.0.join(path.trim_start_matches('/'));
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                let below = self.names(&format!("{path}/{name}"));
                names.extend(below.into_iter().map(|file| format!("{name}/{file}")));
            } else if name != ".vmstage" {
                names.push(name);
            }
        }
        names.sort();
        names
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
