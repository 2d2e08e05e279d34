//! Files at places that may not answer: another file system is mounted on the way to them.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::{Host, mount_table, silent, way};

/// Where something is mounted that this program does without.
pub(super) struct Mounts<'a> {
    pub(super) host: &'a Host,
    /// None where it does without whatever is on a disk.
    places: Option<Vec<PathBuf>>,
}

impl<'a> Mounts<'a> {
    /// Those of this moment.
    pub(super) fn of(host: &'a Host) -> Mounts<'a> {
        if silent::is_expected_on_any_disk() {
            return Mounts { host, places: None };
        }
        let mounts = mount_table::at_present(host).unwrap_or_default();
        let places = mounts
            .iter()
            .filter(|mount| silent::is_beside_the_root(mount));
        Mounts {
            host,
            places: Some(places.map(|mount| host.path(&mount.mount_point)).collect()),
        }
    }

    /// Does what reads and writes at these places: in a child with a time limit where one of
    /// them may hang.
    ///
    /// # Errors
    ///
    /// Those of `work`, and that a place does not answer.
    pub(super) fn guard<P: AsRef<Path>>(
        &self,
        places: &[P],
        work: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<bool> {
        match self.on_the_way(places) {
            Some(place) => in_child(place, work),
            None => work(),
        }
    }

    /// The first of these places that may hang.
    pub(super) fn on_the_way<'p, P: AsRef<Path>>(&self, places: &'p [P]) -> Option<&'p Path> {
        let mut places = places.iter().map(AsRef::as_ref);
        match &self.places {
            None => places.next(),
            Some(these) => {
                // As they are written, which is as the kernel has them.
                let is_one =
                    &mut |here: &Path| these.iter().any(|one| one.as_os_str() == here.as_os_str());
                places.find(|place| way::leads_to_any(&self.host.path(place), is_one))
            }
        }
    }
}

/// Does what may hang at a place, in a child.
///
/// # Errors
///
/// Those of `work`, and that the place does not answer.
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
    fn what_the_system_itself_is_on_is_not_apart_nor_what_is_in_memory() {
        let table = "/dev/vda / ext4 rw 0 0\n/dev/vdb /usr ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
                     tmpfs /run/motd.d tmpfs rw 0 0\ns:/x /etc/condor/config.d nfs4 rw 0 0\n";
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
        let host = tree.host();
        let mounts = Mounts::of(&host);
        assert_eq!(mounts.on_the_way(&places), None);
        let place = Path::new("/etc/condor/config.d");
        assert_eq!(mounts.on_the_way(&[place]), Some(place));
    }
}
