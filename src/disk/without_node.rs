//! Reading a device for which there is no node in `/dev`, as of a root disk on a machine without
//! udev.

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::signature::{self, Reading};
use crate::host::block_device::Number;
use crate::host::bounded::{self, Limit};
use crate::host::namespace;

/// Reads it in a child, by a node that nobody else sees. What hangs is given up after this time.
pub(super) fn read(number: Number, limit: Duration) -> Reading {
    let reading = bounded::run(Limit::after(limit), &[], || {
        read_here(number).unwrap_or_else(|error| Reading::unreadable(error.to_string()))
    });
    reading.unwrap_or_else(|_| Reading::no_answer(limit))
}

fn read_here(number: Number) -> io::Result<Reading> {
    namespace::enter()?;
    // Not all directories allow devices.
    let tmpfs = Some("tmpfs");
    let (flags, nothing) = (MsFlags::empty(), None::<&str>);
    mount(tmpfs, namespace::MOUNT_POINT, tmpfs, flags, nothing)?;
    let node = Path::new(namespace::MOUNT_POINT).join("device");
    let device = makedev(number.major, number.minor);
    mknod(&node, SFlag::S_IFBLK, Mode::S_IRUSR, device)?;
    Ok(signature::read(&node))
}
