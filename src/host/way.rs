//! Where a path leads, link by link.
//!
//! It is followed by its text and by readlink(2) on what was passed before, so that nothing is
//! touched beyond the place at which it is left.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// As the kernel has it for a path (path_resolution(7)).
pub(super) const MOST_LINKS: usize = 40;

/// Whether the way to a path leads to a place that `is_meant`, of which none is looked at: they
/// may not answer. Places are given as the kernel has them, the outermost first.
pub(crate) fn leads_to_any(path: &Path, is_meant: &mut dyn FnMut(&Path) -> bool) -> bool {
    let (mut here, rest) = start_of(path);
    let mut ahead: Vec<OsString> = backwards(rest).map(OsString::from).collect();
    let mut links = 0;
    while let Some(component) = ahead.pop() {
        match component == ".." {
            true => drop(here.pop()),
            false => here.push(&component),
        }
        if is_meant(&here) {
            return true;
        }
        let target = match fs::read_link(&here) {
            Ok(target) => target,
            Err(e) if e.kind() == ErrorKind::InvalidInput => continue,
            // Nothing is there.
            Err(_) => return false,
        };
        links += 1;
        if links > MOST_LINKS {
            return false;
        }
        match target.is_absolute() {
            true => here = start_of(path).0,
            false => drop(here.pop()),
        }
        ahead.extend(backwards(&target).map(OsString::from));
    }
    false
}

/// The components of a path, the first one last.
pub(super) fn backwards(path: &Path) -> impl Iterator<Item = &OsStr> {
    let is_a_step = |one: &Component| matches!(one, Component::Normal(_) | Component::ParentDir);
    let steps = path.components().rev().filter(is_a_step);
    steps.map(Component::as_os_str)
}

/// Where a walk begins, and what is left to walk.
pub(super) fn start_of(path: &Path) -> (PathBuf, &Path) {
    // A test's tree is a machine of its own, in a directory where everybody may write.
    #[cfg(test)]
    if let Some(root) = super::tree::root_of(path) {
        return (root.to_path_buf(), path.strip_prefix(root).unwrap());
    }
    match path.is_absolute() {
        true => ("/".into(), path),
        false => (".".into(), path),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn the_way_is_seen_through_links_and_what_it_leads_to_is_not_opened() {
        let tree = Tree::new(&[("etc/condor/", ""), ("srv/a/b/", ""), ("srv/c", "")]);
        for (target, link) in [
            ("/nfs/condor", "etc/condor/config.d"),
            ("../../nfs", "srv/a/up"),
            ("b/../b", "srv/a/near"),
            ("one", "srv/two"),
            ("two", "srv/one"),
        ] {
            symlink(target, tree.root().join(link)).unwrap();
        }
        // Whoever opened these would wait for ever, or fail.
        mkfifo(&tree.root().join("nfs"), Mode::S_IRWXU).unwrap();
        let these = ["nfs", "etc/machinefeatures"].map(|one| tree.root().join(one));
        for (path, expected) in [
            ("etc/machinefeatures", true),
            ("etc/machinefeatures/x/y", true),
            ("etc/machinefeatures2", false),
            ("etc/jobfeatures", false),
            ("etc/condor/config.d", true),
            ("etc/condor", false),
            ("srv/a/up/x", true),
            ("srv/a/near/../up", true),
            ("srv/a/near", false),
            ("srv/../nfs", true),
            ("srv/one/x", false),
            ("srv/c/x", false),
        ] {
            let is_one = &mut |here: &Path| these.iter().any(|one| one == here);
            let found = leads_to_any(&tree.root().join(path), is_one);
            assert_eq!(found, expected, "{path}");
        }
    }
}
