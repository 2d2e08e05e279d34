//! What lies below the mount point on the root file system, hidden while something is mounted
//! there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::root::{Kind, Root};
use crate::host::bounded::{self, Limit};
use crate::host::silent::{self, Expected};
use crate::host::{Host, mount_table, namespace};

/// Reading a root file system, which may be a large and slow one.
const LIMIT: Duration = Duration::from_secs(60);

/// More than this is counted no further.
const MOST_FILES: usize = 100_000;

/// Something below the mount point.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lying {
    pub path: PathBuf,
    pub bytes: u64,
    /// A directory with nothing in it.
    pub is_empty_directory: bool,
}

/// What is there.
///
/// # Errors
///
/// That it cannot be looked at, in a sentence.
pub(crate) fn look(root: &Root, mount_point: &Path) -> Result<Vec<Lying>> {
    in_root_file_system(root, mount_point, |root| look_in(root, mount_point))
}

fn look_in(root: &Root, mount_point: &Path) -> Result<Vec<Lying>> {
    // Where a link leads is no place for vmstage, and may be anybody's.
    let entry = root.entry_itself(mount_point);
    let entry = entry.with_context(|| root.cannot("look at", mount_point))?;
    if entry.is_none_or(|entry| entry.kind != Kind::Directory) {
        return Ok(Vec::new());
    }
    let names = root.names(mount_point);
    let names = names.with_context(|| root.cannot("read", mount_point))?;
    let lying = names.into_iter().map(|name| {
        let path = mount_point.join(name);
        let (bytes, files) = size(root, &path);
        Lying {
            is_empty_directory: files == 1 && root.is(Kind::Directory, &path),
            bytes,
            path,
        }
    });
    Ok(lying.collect())
}

/// How many bytes, in how many files and directories, itself among them. No link is followed.
pub(crate) fn size(root: &Root, path: &Path) -> (u64, usize) {
    let (mut bytes, mut count) = (0, 0);
    let mut ahead = vec![path.to_path_buf()];
    while let Some(path) = ahead.pop().filter(|_| count < MOST_FILES) {
        count += 1;
        match root.entry_itself(&path) {
            Ok(Some(entry)) if entry.kind == Kind::Directory => {
                let names = root.names(&path).unwrap_or_default();
                ahead.extend(names.iter().map(|name| path.join(name)));
            }
            Ok(Some(entry)) if entry.kind == Kind::File => bytes += entry.size,
            _ => {}
        }
    }
    (bytes, count)
}

/// Does something below the mount point as if nothing were mounted there.
///
/// # Errors
///
/// Its own, and that what is mounted cannot be looked behind.
pub(crate) fn in_root_file_system<T: Serialize + DeserializeOwned>(
    root: &Root,
    mount_point: &Path,
    work: impl FnOnce(&Root) -> Result<T>,
) -> Result<T> {
    let shown = mount_point.display();
    if !is_mounted(root, mount_point) {
        return work(root);
    }
    if !root.is_own() {
        return Err(anyhow!(
            "something is mounted on {shown}, and hides what lies below it"
        ));
    }
    let outcome = bounded::run(Limit::after(LIMIT), &[], || -> Result<T, String> {
        namespace::enter().map_err(|e| e.to_string())?;
        // What does not answer is not mounted there.
        silent::expect(&Host::this_machine(), Expected::BesideTheRoot);
        let root = Root::open("/".as_ref()).map_err(|e| format!("{e:#}"))?;
        work(&root).map_err(|e| format!("{e:#}"))
    });
    outcome
        .map_err(|gave_up| anyhow!("{gave_up}"))
        .and_then(|result| result.map_err(|e| anyhow!("{e}")))
        .with_context(|| format!("cannot look at what lies below {shown}"))
}

fn is_mounted(root: &Root, mount_point: &Path) -> bool {
    let device = |path: &Path| root.entry(path).ok().flatten().map(|entry| entry.inode.0);
    let above = mount_point.parent().unwrap_or(mount_point);
    if device(mount_point).is_some_and(|own| Some(own) != device(above)) {
        return true;
    }
    let host = Host::this_machine();
    root.is_own() && {
        let mounts = mount_table::read(&host).unwrap_or_default();
        mount_table::on(&mounts, &mount_table::real_path(&host, mount_point)).is_some()
    }
}
