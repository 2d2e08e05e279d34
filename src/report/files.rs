//! Writing the files of consumers.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::atomic_file;

/// Says whether the file had to be written.
pub(super) fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<bool> {
    atomic_file::replace_if_changed(path, content.as_ref(), mode)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Says whether there was anything to remove.
pub(super) fn remove(path: &Path) -> Result<bool> {
    atomic_file::remove_if_there(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// A directory that everybody may read, whatever the umask; its parent must be there.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    let made = match DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(e),
    };
    made.with_context(|| format!("cannot make {}", path.display()))
}
