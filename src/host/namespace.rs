//! A mount namespace for a child that tries something which may hang.
//!
//! A mount that completes late must die with its child, and the child must pin none of the
//! machine's other mounts: another namespace's copy keeps a file system in use after it was
//! unmounted here.

use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

use super::{Host, mount_table};

/// An empty directory in such a namespace: what the machine has mounted on it is not there.
pub(crate) const MOUNT_POINT: &str = "/proc";

const NONE: Option<&str> = None;

/// Moves this process into a mount namespace of its own in which nothing is mounted but the
/// root file system. For a child process alone.
///
/// # Errors
///
/// Those of unshare(2), and of mount(2) where the root directory is none of a mount.
pub(crate) fn enter() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    if leave_by_pivot().is_err() {
        // An initramfs cannot be pivoted away from.
        detach_each();
    }
    chdir("/")?;
    Ok(())
}

/// The root file system without what is mounted in it takes the place of the root, and all
/// the rest goes with the old one: a single detaching, and no path of another mount is
/// looked at, which might be on a server that does not answer.
fn leave_by_pivot() -> io::Result<()> {
    mount(Some("/"), MOUNT_POINT, NONE, MsFlags::MS_BIND, NONE)?;
    chdir(MOUNT_POINT)?;
    // The old root comes to lie over the new one (pivot_root(2), "pivot_root(".", ".")").
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(())
}

fn detach_each() {
    let _ = chdir("/");
    let _ = umount2(MOUNT_POINT, MntFlags::MNT_DETACH);
    // A mount goes with those below it, whose turn then fails.
    for mount in mount_table::read(&Host::this_machine())
        .unwrap_or_default()
        .iter()
    {
        if mount.mount_point != Path::new("/") {
            let _ = umount2(&mount.mount_point, MntFlags::MNT_DETACH);
        }
    }
}
