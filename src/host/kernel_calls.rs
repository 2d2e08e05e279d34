//! System calls for which there is no safe wrapper.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

use super::block_device::Number;

/// Takes signals as a process that init starts does: who starts this one may have blocked some,
/// or ignored them. Nobody hears how a program ended while SIGCHLD is ignored. A file as large as
/// the limit of its size allows is an error, which is told, and no end of this process.
pub fn take_signals_as_usual() {
    // Fails for no signals but those that cannot be had.
    let _ = SigSet::empty().thread_set_mask();
    for (number, usual) in [
        (Signal::SIGCHLD, SigHandler::SigDfl),
        (Signal::SIGXFSZ, SigHandler::SigIgn),
    ] {
        // SAFETY: neither is a function of this program's.
        let _ = unsafe { signal(number, usual) };
    }
}

/// Has the signals that `watch` waits for end this process, as they end a program that has just
/// been started: for a child of `watch` that lives on by itself.
pub(crate) fn take_signals_of_watch_as_usual() {
    for number in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ] {
        // SAFETY: it is no function of this program's.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
    }
}

/// Closes descriptors, of which some may not be open: since Linux 5.9.
///
/// # Errors
///
/// Those of close_range(2), `ENOSYS` among them.
pub(super) fn close_range(first: libc::c_uint, last: libc::c_uint) -> nix::Result<()> {
    // SAFETY: as with close(2), it is for the caller to know that nobody uses them any more.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

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

nix::ioctl_write_ptr_bad!(
    /// `_IO(0x12, 93)` of linux/fs.h: has the kernel refuse writes, or not.
    blkroset,
    0x125d,
    libc::c_int
);

/// Has the kernel refuse writes to a block device, whoever writes, or no more.
///
/// # Errors
///
/// Those of ioctl(2).
pub(crate) fn set_read_only(device: &File, read_only: bool) -> io::Result<()> {
    // SAFETY: BLKROSET reads one int, which outlives the call.
    unsafe { blkroset(device.as_raw_fd(), &libc::c_int::from(read_only)) }?;
    Ok(())
}

/// Whether the kernel says that the wall clock is synchronised. `maxerror` of adjtimex(2) is
/// set by whoever keeps the clock, grows by itself, and is 16 s where nobody does and after
/// a step.
pub(crate) fn clock_is_synchronised() -> bool {
    const UNSYNCHRONISED: libc::c_long = 16_000_000;
    // SAFETY: all zeros is a valid timex, which asks for nothing to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: adjtimex writes one timex, which outlives the call, and nothing else.
    let state = unsafe { libc::adjtimex(&mut timex) };
    state >= 0 && timex.status & libc::STA_UNSYNC == 0 && timex.maxerror < UNSYNCHRONISED
}

nix::ioctl_none_bad!(
    /// LOOP_CTL_GET_FREE of linux/loop.h (Linux 3.1).
    loop_ctl_get_free,
    0x4C82
);
nix::ioctl_write_int_bad!(
    /// LOOP_SET_FD of linux/loop.h.
    loop_set_fd,
    0x4C00
);
nix::ioctl_none_bad!(
    /// LOOP_CLR_FD of linux/loop.h.
    loop_clr_fd,
    0x4C01
);

/// The number of a loop device that is free.
///
/// # Errors
///
/// Those of ioctl(2).
pub(crate) fn free_loop_device(control: &File) -> io::Result<i32> {
    // SAFETY: LOOP_CTL_GET_FREE takes nothing.
    Ok(unsafe { loop_ctl_get_free(control.as_raw_fd()) }?)
}

/// Puts a file behind a loop device. It is read-only where one of the two is.
///
/// # Errors
///
/// Those of ioctl(2): EBUSY where it has one already.
pub(crate) fn attach_loop_device(device: &File, behind: &File) -> io::Result<()> {
    // SAFETY: LOOP_SET_FD takes a descriptor, which is open.
    unsafe { loop_set_fd(device.as_raw_fd(), behind.as_raw_fd()) }?;
    Ok(())
}

/// Takes the file behind a loop device away, at the latest when nobody has it open any more.
///
/// # Errors
///
/// Those of ioctl(2).
pub(crate) fn detach_loop_device(device: &File) -> io::Result<()> {
    // SAFETY: LOOP_CLR_FD takes nothing.
    unsafe { loop_clr_fd(device.as_raw_fd()) }?;
    Ok(())
}

/// mdu_array_info_t and mdu_disk_info_t of linux/raid/md_u.h, which have no fields but these.
type ArrayInfo = [libc::c_int; 18];
type DiskInfo = [libc::c_int; 5];

nix::ioctl_write_ptr_bad!(
    /// SET_ARRAY_INFO: `_IOW(9, 0x23, …)`.
    md_set_array_info,
    0x4048_0923,
    ArrayInfo
);
nix::ioctl_write_ptr_bad!(
    /// ADD_NEW_DISK: `_IOW(9, 0x21, …)`.
    md_add_new_disk,
    0x4014_0921,
    DiskInfo
);
nix::ioctl_write_int_bad!(
    /// RUN_ARRAY: `_IOW(9, 0x30, …)`, for which a null pointer does.
    md_run_array,
    0x400c_0930
);
nix::ioctl_none_bad!(
    /// STOP_ARRAY: `_IO(9, 0x32)`.
    md_stop_array,
    0x932
);

/// Has the kernel put these disks together, all members of one array with superblocks of version
/// 1.2, given a device of md's that is free. After an error it is free again.
///
/// # Errors
///
/// Those of ioctl(2).
pub(crate) fn run_array(device: &File, members: &[Number]) -> io::Result<()> {
    let mut array: ArrayInfo = [0; 18];
    // The version of the superblocks, in which the kernel finds the rest.
    (array[0], array[1]) = (1, 2);
    // Where this fails the array is somebody else's (EBUSY), who keeps it.
    // SAFETY: SET_ARRAY_INFO reads one of these, which outlives the call.
    unsafe { md_set_array_info(device.as_raw_fd(), &array) }?;
    let run = || -> nix::Result<()> {
        for member in members {
            // MD_DISK_ACTIVE and MD_DISK_SYNC.
            let (major, minor) = (member.major as libc::c_int, member.minor as libc::c_int);
            let disk: DiskInfo = [0, major, minor, 0, 1 << 1 | 1 << 2];
            // SAFETY: ADD_NEW_DISK reads one of these, which outlives the call.
            unsafe { md_add_new_disk(device.as_raw_fd(), &disk) }?;
        }
        // SAFETY: RUN_ARRAY takes a null pointer.
        unsafe { md_run_array(device.as_raw_fd(), 0) }.map(drop)
    };
    let is_run = run();
    if is_run.is_err() {
        let _ = stop_array(device);
    }
    Ok(is_run?)
}

/// Has the kernel give up an array, which nobody uses.
///
/// # Errors
///
/// Those of ioctl(2).
pub(crate) fn stop_array(device: &File) -> io::Result<()> {
    // SAFETY: STOP_ARRAY takes nothing.
    unsafe { md_stop_array(device.as_raw_fd()) }?;
    Ok(())
}

/// The attribute in which SELinux keeps a file's context.
const SELINUX: &CStr = c"security.selinux";

/// The SELinux context that is kept with a file. Of one that has none getxattr(2) makes one up,
/// so that the list of its attributes is asked first.
///
/// # Errors
///
/// Those of listxattr(2) and getxattr(2).
pub(crate) fn selinux_context(of: BorrowedFd) -> io::Result<Option<String>> {
    // XATTR_LIST_MAX of linux/limits.h.
    let mut buffer = vec![0u8; 1 << 16];
    let (descriptor, start, room) = (of.as_raw_fd(), buffer.as_mut_ptr(), buffer.len());
    // SAFETY: flistxattr writes at most `room` bytes, which the buffer has.
    let length = unsafe { libc::flistxattr(descriptor, start.cast(), room) };
    let names = filled(&buffer, length)?;
    if !names
        .split_inclusive(|byte| *byte == 0)
        .any(|name| name == SELINUX.to_bytes_with_nul())
    {
        return Ok(None);
    }
    // SAFETY: fgetxattr reads a text with an end, and writes at most `room` bytes.
    let length = unsafe { libc::fgetxattr(descriptor, SELINUX.as_ptr(), start.cast(), room) };
    let text = String::from_utf8_lossy(filled(&buffer, length)?);
    Ok(Some(text.trim_end_matches('\0').into()))
}

/// What a call has written, by what it returned.
fn filled(buffer: &[u8], length: isize) -> io::Result<&[u8]> {
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok(&buffer[..length])
}

/// Gives a file an SELinux context.
///
/// # Errors
///
/// Those of setxattr(2): EINVAL where the policy has no such context.
pub(crate) fn set_selinux_context(of: BorrowedFd, context: &str) -> io::Result<()> {
    let value = CString::new(context)?;
    set_attribute(of, SELINUX, value.as_bytes_with_nul())
}

fn set_attribute(of: BorrowedFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    let (descriptor, name) = (of.as_raw_fd(), name.as_ptr());
    // SAFETY: fsetxattr reads a text with an end, and as many bytes as the value has.
    match unsafe { libc::fsetxattr(descriptor, name, value.as_ptr().cast(), value.len(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives a file the extended attributes of another, as far as its file system takes them:
/// access control lists, capabilities, those of users.
///
/// # Errors
///
/// Those of flistxattr(2), but that the other's file system has none.
pub(crate) fn copy_attributes(from: BorrowedFd, to: BorrowedFd) -> io::Result<()> {
    // XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h.
    let (mut names, mut value) = (vec![0u8; 1 << 16], vec![0u8; 1 << 16]);
    let descriptor = from.as_raw_fd();
    // SAFETY: flistxattr writes at most as many bytes as it is told, which the buffer has.
    let length = unsafe { libc::flistxattr(descriptor, names.as_mut_ptr().cast(), names.len()) };
    let names = match filled(&names, length) {
        Err(e) if is_without_attributes(&e) => return Ok(()),
        names => names?,
    };
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let (start, room) = (value.as_mut_ptr().cast(), value.len());
        // SAFETY: fgetxattr reads a text with an end, and writes at most `room` bytes.
        let length = unsafe { libc::fgetxattr(descriptor, name.as_ptr(), start, room) };
        // The kernel keeps some for itself, and a file system may not take all.
        let set = filled(&value, length).and_then(|value| set_attribute(to, name, value));
        if let Err(e) = set {
            log::debug!("cannot copy the attribute {}: {e}", name.to_string_lossy());
        }
    }
    Ok(())
}

/// Linux calls it ENOTSUP where a file system has no extended attributes, or not this one.
fn is_without_attributes(error: &io::Error) -> bool {
    let codes = [libc::EOPNOTSUPP, libc::ENODATA, libc::ENOSYS];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// The attribute in which the kernel keeps a POSIX access control list.
const ACCESS_LIST: &CStr = c"system.posix_acl_access";

/// Whether an access control list says more than the mode of a file: acl(5).
pub(crate) fn has_access_list(of: BorrowedFd) -> bool {
    let (descriptor, name) = (of.as_raw_fd(), ACCESS_LIST.as_ptr());
    // SAFETY: fgetxattr reads a text with an end, and writes nothing where there is no room.
    let length = unsafe { libc::fgetxattr(descriptor, name, ptr::null_mut(), 0) };
    let none = [libc::ENODATA, libc::EOPNOTSUPP];
    let error = || io::Error::last_os_error().raw_os_error();
    length >= 0 || !error().is_some_and(|error| none.contains(&error))
}

/// Gives a directory a list by which user 1000 may write.
#[cfg(test)]
pub(crate) fn let_user_1000_write(of: BorrowedFd) -> io::Result<()> {
    // linux/posix_acl_xattr.h: version 2, and each entry's tag, permissions and id.
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (0x01u16, 7u16, u32::MAX),
        (0x02, 7, 1000),
        (0x04, 5, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 5, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    set_attribute(of, ACCESS_LIST, &list)
}
