//! Keeps sealing to the file systems of the system itself, and out of what links lead to.

use std::fs;
use std::path::{Path, PathBuf};

use super::item::Item;
use crate::host::{Host, mount_table};
use crate::image::root::{Kind, Root};
use crate::image::step::Step;

/// Where a system may have file systems of its own.
const OF_THE_SYSTEM: [&str; 12] = [
    "/",
    "/etc",
    "/usr",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/spool",
    "/var/tmp",
    "/run",
    "/boot",
    "/boot/efi",
];

/// Takes out the steps that would lead elsewhere, and says so.
pub(super) fn keep_to_the_system(root: &Root, mount_point: &Path, item: &mut Item) {
    let device = |path: &Path| root.entry(path).ok().flatten().map(|entry| entry.inode.0);
    let scratch = device(mount_point).filter(|scratch| Some(*scratch) != device("/".as_ref()));
    let own: Vec<u64> = OF_THE_SYSTEM
        .iter()
        .filter_map(|path| device(path.as_ref()))
        .filter(|device| Some(*device) != scratch)
        .collect();
    let mounts = mounts_in(root);
    let kept = &mut item.kept;
    item.steps.retain(|step| {
        let path = step.path();
        let why = if leads_through_link(root, step) {
            "a link leads there"
        } else if path.starts_with(mount_point) && scratch.is_some()
            || device(path.parent().unwrap_or(path)).is_some_and(|d| !own.contains(&d))
        {
            "it is on another disk"
        } else if mounts.iter().any(|mount| mount.starts_with(path)) {
            "something is mounted there"
        } else if mounts.iter().any(|mount| path.starts_with(mount)) {
            "what it is in is mounted there"
        } else {
            return true;
        };
        kept.push(format!("{} stays: {why}", path.display()));
        false
    });
}

/// Where something is mounted in a tree, but for what a system may have so: a directory of the
/// same disk may be mounted at two places, which no number of a device tells.
fn mounts_in(root: &Root) -> Vec<PathBuf> {
    let base = fs::canonicalize(root.path()).unwrap_or_else(|_| root.path().into());
    let mounts = mount_table::read(&Host::this_machine()).unwrap_or_default();
    let inside = mounts.iter().filter_map(|mount| {
        let inner = mount.mount_point.strip_prefix(&base).ok()?;
        Some(Path::new("/").join(inner))
    });
    let is_of_the_system = |path: &PathBuf| OF_THE_SYSTEM.iter().any(|own| path == Path::new(own));
    inside.filter(|path| !is_of_the_system(path)).collect()
}

fn leads_through_link(root: &Root, step: &Step) -> bool {
    let path = step.path();
    let above = path.parent().unwrap_or(path);
    // Today's systems have these.
    let expected = ["/var/run", "/var/lock"].iter().find_map(|link| {
        let rest = above.strip_prefix(link).ok()?;
        Some(root.real_path(link.as_ref()).ok()?.join(rest))
    });
    let expected = expected.unwrap_or_else(|| above.into());
    let is_direct = match root.real_path(above) {
        Ok(real) => real == expected,
        // There is nothing to be removed.
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    };
    let is_link = || {
        let entry = root.entry_itself(path).ok().flatten();
        entry.is_some_and(|entry| entry.kind == Kind::Link)
    };
    // A link that is removed is removed itself.
    !is_direct || matches!(step, Step::Rewrite { .. }) && is_link()
}
