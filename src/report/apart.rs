//! Files at places that may not answer: another file system is mounted on the way to them.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::{Host, checked_path, mount_table, silent};

/// What hangs there holds the whole system, with this program or without it.
const OF_THE_SYSTEM: [&str; 5] = ["/", "/etc", "/run", "/usr", "/var/run"];

/// Does what reads and writes at these places: in a child with a time limit where one of them
/// may hang.
///
/// # Errors
///
/// Those of `work`, and that a place does not answer.
pub(super) fn guarded(
    host: &Host,
    places: &[&Path],
    work: &mut dyn FnMut() -> Result<bool>,
) -> Result<bool> {
    match find(host, places) {
        Some(place) => in_child(place, work),
        None => work(),
    }
}

/// The first of these directories that may hang.
pub(super) fn find<'a>(host: &Host, directories: &[&'a Path]) -> Option<&'a Path> {
    if silent::is_expected_on_any_disk() {
        return directories.first().copied();
    }
    let mounts = mount_table::read(host).unwrap_or_default();
    let mounts = mounts.into_iter().map(|mount| mount.mount_point);
    let mounts: Vec<PathBuf> = mounts
        .filter(|mount| OF_THE_SYSTEM.iter().all(|own| mount != Path::new(own)))
        .map(|mount| host.path(mount))
        .collect();
    let mut directories = directories.iter().copied();
    directories.find(|directory| checked_path::leads_to_any(&host.path(directory), &mounts))
}

/// Likewise, in a child in any case.
///
/// # Errors
///
/// Likewise.
pub(super) fn in_child(place: &Path, work: &mut dyn FnMut() -> Result<bool>) -> Result<bool> {
    let done = silent::in_child(place, silent::LIMIT, &[], &mut || {
        work().map_err(|e| io::Error::other(format!("{e:#}")))
    });
    Ok(done?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn what_the_system_itself_is_on_is_not_apart() {
        let table = "/dev/vda / ext4 rw 0 0\n/dev/vdb /usr ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
                     s:/x /etc/condor/config.d nfs4 rw 0 0\n";
        let tree = Tree::new(&[
            ("proc/self/mounts", table),
            ("var/lib/prometheus/", ""),
            ("run/motd.d/", ""),
            ("etc/condor/config.d/", ""),
        ]);
        let places = [
            "/var/lib/prometheus",
            "/run/motd.d",
            "/etc/condor",
            "/nowhere",
        ];
        assert_eq!(find(&tree.host(), &places.map(Path::new)), None);
        let place = Path::new("/etc/condor/config.d");
        assert_eq!(find(&tree.host(), &[place]), Some(place));
    }
}
