//! The guest's own programs.

use std::env;
use std::path::PathBuf;

/// Looks in `$PATH`, and where system programs are: `rc.local` may have a shorter one.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/sbin", "/usr/sbin", "/bin", "/usr/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}
