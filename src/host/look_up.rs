//! Where a path of the machine leads to, unless somebody does not answer on the way.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::block_device::Number;
use super::{Host, silent};

impl Host {
    /// The number of the block device that a path leads to; None where it leads to
    /// something else or nowhere.
    pub(crate) fn block_number(&self, path: &Path) -> Option<Number> {
        // The source of a mount may be no path at all: `proc`, `cgroup`.
        if !path.is_absolute() {
            return None;
        }
        #[cfg(test)]
        if let Some(number) = self.pretended.nodes.get(path) {
            return Some(*number);
        }
        let metadata = self.metadata(path).ok()?;
        metadata
            .file_type()
            .is_block_device()
            .then(|| Number::from_raw(metadata.rdev()))
    }

    /// Says of a test's tree that a path is on this device.
    #[cfg(test)]
    pub(crate) fn pretend_file_system(&mut self, path: &str, number: Number) {
        self.pretended.file_systems.insert(path.into(), number);
    }

    /// The number of the device that a path's file system is on.
    pub(crate) fn device_under(&self, path: &Path) -> Option<Number> {
        #[cfg(test)]
        if let Some(number) = self.pretended.file_systems.get(path) {
            return Some(*number);
        }
        let metadata = fs::metadata(self.path(path)).ok()?;
        Some(Number::from_raw(metadata.dev()))
    }

    /// What a path leads to.
    ///
    /// # Errors
    ///
    /// Those of stat(2), and that a place on the way does not answer.
    pub(crate) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let path = self.path(path);
        silent::see_that_the_way_answers(&path)?;
        fs::metadata(path)
    }

    /// Whether systemd is the init of the machine (sd_booted(3)).
    pub(crate) fn has_systemd(&self) -> bool {
        let there = self.metadata("/run/systemd/system".as_ref());
        there.is_ok_and(|there| there.is_dir())
    }

    /// The path without symbolic links, as the machine has it.
    ///
    /// # Errors
    ///
    /// Those of realpath(3), and that a place on the way does not answer.
    pub(crate) fn real_path(&self, absolute: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = self.path(absolute);
        silent::see_that_the_way_answers(&path)?;
        let real = fs::canonicalize(path)?;
        let within = real.strip_prefix(&self.root).unwrap_or(&real);
        Ok(Path::new("/").join(within))
    }
}
