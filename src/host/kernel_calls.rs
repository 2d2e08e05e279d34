//! System calls for which there is no safe wrapper.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;

nix::ioctl_read_bad!(
    /// `_IO(0x12, 94)` of linux/fs.h: whether the kernel refuses writes.
    blkroget,
    0x125e,
    libc::c_int
);

pub(crate) fn is_read_only(device: &File) -> io::Result<bool> {
    let mut read_only = 0;
    // SAFETY: BLKROGET writes one int, which outlives the call, and nothing else.
    unsafe { blkroget(device.as_raw_fd(), &mut read_only) }?;
    Ok(read_only != 0)
}
