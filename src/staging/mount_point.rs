//! The directory that the scratch disk is mounted on.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::config::MountPoint;
use crate::host::Host;
use crate::host::block_device::kind_in_words;
use crate::host::{mount_table, silent};
use crate::logging::Notices;

/// Whether something is in the way where the mount point is to be.
///
/// # Errors
///
/// What is in the way, and what to do.
pub(crate) fn check(host: &Host, mount_point: &Path) -> Result<()> {
    let real = mount_table::real_path(host, mount_point);
    if MountPoint::is_of_the_system(&real) {
        bail!(
            "the mount point is really {}; set staging.mount_point to a directory of its own",
            real.display()
        );
    }
    let path = host.path(&real);
    match silent::see_that_the_way_answers(&path).and_then(|()| fs::symlink_metadata(path)) {
        Ok(metadata) if !metadata.is_dir() => bail!(
            "the mount point is {}, not a directory; remove it or set staging.mount_point",
            kind_in_words(metadata.file_type())
        ),
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).context("the mount point cannot be looked at")
        }
        _ => Ok(()),
    }
}

/// Whether there can be one, before anything is done to a disk that would need it.
pub(super) fn see_that_it_can_be_made(
    host: &Host,
    mount_point: &Path,
    notices: &Notices,
) -> Result<()> {
    check(host, mount_point)?;
    let real = mount_table::real_path(host, mount_point);
    make(&host.path(real), notices).map(|made| made.remove(notices))
}

/// Sees to it that the mount point is a directory.
///
/// # Errors
///
/// That it can be none, and why.
pub(super) fn prepare(host: &Host, mount_point: &Path, notices: &Notices) -> Result<Made> {
    check(host, mount_point)?;
    let path = host.path(mount_point);
    let made = make(&path, notices)?;
    let hidden = fs::read_dir(&path)?.count();
    if hidden > 0 {
        notices.warn(format!(
            "{} is not empty: mounting over it hides what is in it ({hidden} in all)",
            mount_point.display()
        ));
    }
    Ok(made)
}

/// The directories that had to be made for the mount point, outermost first.
pub(crate) struct Made(Vec<PathBuf>);

impl Made {
    pub(super) fn remove(self, notices: &Notices) {
        for directory in self.0.iter().rev() {
            if let Err(e) = fs::remove_dir(directory) {
                notices.warn(format!("cannot remove {} again: {e}", directory.display()));
            }
        }
    }
}

fn make(mount_point: &Path, notices: &Notices) -> Result<Made> {
    let missing: Vec<&Path> = mount_point
        .ancestors()
        .take_while(|directory| !directory.is_dir())
        .collect();
    let mut made = Made(Vec::new());
    for directory in missing.into_iter().rev() {
        match make_one(directory) {
            Ok(true) => made.0.push(directory.to_path_buf()),
            Ok(false) => {}
            Err(e) => {
                made.remove(notices);
                return Err(e).with_context(|| format!("cannot make {}", directory.display()));
            }
        }
    }
    Ok(made)
}

/// Says whether it had to be made: another boot may have been quicker.
fn make_one(directory: &Path) -> io::Result<bool> {
    match fs::create_dir(directory) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let there = fs::symlink_metadata(directory)?.file_type();
            match there.is_dir() {
                true => Ok(false),
                false => Err(io::Error::other(format!(
                    "{} is in its place",
                    kind_in_words(there)
                ))),
            }
        }
        made => made.map(|()| true),
    }
}
