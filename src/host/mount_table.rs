//! The mount table.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Pid, getpid};

use super::block_device::Number;
use super::{Host, bounded, kernel_file};

/// `mountinfo` would say more, but came with Linux 2.6.26.
pub(super) const TABLE: &str = "/proc/self/mounts";

/// One line of the mount table (fstab(5), proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// A device, or whatever stands for one.
    pub source: PathBuf,
    /// Without the escapes of the table.
    pub mount_point: PathBuf,
    /// The kernel's name of its type.
    pub filesystem: String,
    /// Separated by commas.
    pub options: String,
}

/// The table that was read last.
struct Last {
    by: Pid,
    /// Says whether there is another one since.
    file: File,
    mounts: Arc<[Mount]>,
}

/// With so many one more does not matter.
const PLENTY: u64 = 256;

static LAST: Mutex<Option<Last>> = Mutex::new(None);

/// The kernel's mount table, as this process sees it.
///
/// # Errors
///
/// That it cannot be read.
pub(crate) fn read(host: &Host) -> Result<Arc<[Mount]>> {
    let file = kernel_file::open(host.path(TABLE)).with_context(unreadable)?;
    // What is mounted meanwhile is mounted since.
    let table = kernel_file::content(&file).with_context(unreadable)?;
    let mounts: Arc<[Mount]> = parse(&table).into();
    if let Some(mut last) = last(host) {
        let (by, mounts) = (getpid(), mounts.clone());
        *last = may_be_kept_open().then_some(Last { by, file, mounts });
    }
    Ok(mounts)
}

/// Likewise, but read anew only where something was mounted or unmounted since. Options may be
/// older: when one is mounted anew with others, or becomes read-only by an error, the kernel
/// need not say so.
///
/// # Errors
///
/// Those of [`read`].
pub(crate) fn at_present(host: &Host) -> Result<Arc<[Mount]>> {
    if let Some(mut last) = last(host) {
        // It says so once, and reading it anew may fail.
        if last.as_ref().is_some_and(|last| has_changed(&last.file)) {
            *last = None;
        }
        if let Some(last) = last.as_ref() {
            return Ok(last.mounts.clone());
        }
    }
    read(host)
}

/// Of this machine and this process. A child may see other mounts, and has none of its parent's
/// descriptors: the number may be another's by now.
fn last(host: &Host) -> Option<MutexGuard<'static, Option<Last>>> {
    if !host.is_this_machine() || bounded::is_child() {
        return None;
    }
    // Nobody else has it but a thread of a test, and who came of that would wait for ever.
    let mut last = LAST.try_lock().ok()?;
    if last.as_ref().is_some_and(|last| last.by != getpid()) {
        mem::forget(last.take());
    }
    Some(last)
}

/// Where a process may have few files open, it needs all of them for the disks that it reads.
fn may_be_kept_open() -> bool {
    getrlimit(Resource::RLIMIT_NOFILE).is_ok_and(|(most, _)| most >= PLENTY)
}

fn unreadable() -> String {
    format!("cannot read {TABLE}; is /proc mounted?")
}

/// Whether there is another mount table than when this open file was asked last
/// (`mounts_poll` of the kernel, since Linux 2.6.15).
fn has_changed(table: &File) -> bool {
    let mut changes = [PollFd::new(table.as_fd(), PollFlags::POLLPRI)];
    poll(&mut changes, PollTimeout::ZERO) != Ok(0)
}

/// Reads a mount table. A line that is not one of a mount is passed over.
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// What is mounted on a mount point: the last in the table lies on top.
pub(crate) fn on<'a>(mounts: &'a [Mount], mount_point: &Path) -> Option<&'a Mount> {
    // Of the kernel's paths there is one for each place: their bytes are compared.
    let mount_point: PathBuf = mount_point.components().collect();
    let is_on = |mount: &&Mount| mount.mount_point.as_os_str() == mount_point.as_os_str();
    mounts.iter().rev().find(is_on)
}

/// Whether an open directory is that of the mount on a mount point, and not of a mount
/// that hides it or a directory above it. None where the kernel does not say: the number
/// of a descriptor's mount is in `/proc/self/fdinfo` since Linux 3.15.
pub(crate) fn is_mount_on(host: &Host, directory: &impl AsFd, mount_point: &Path) -> Option<bool> {
    let descriptor = directory.as_fd().as_raw_fd();
    let info = kernel_file::read_text(host.path(format!("/proc/self/fdinfo/{descriptor}"))).ok()?;
    let number = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    let table = kernel_file::read(host.path("/proc/self/mountinfo")).ok()?;
    let mut lines = table.split(|byte| *byte == b'\n').map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        (fields.next(), fields.nth(3))
    });
    let (_, on) = lines.find(|(of, _)| *of == Some(number.trim().as_bytes()))?;
    Some(unescape(on?) == mount_point)
}

/// A mount point as the table has it: without symbolic links on the way, as far as the
/// way exists. The mount point itself must not be one.
pub(crate) fn real_path(host: &Host, mount_point: &Path) -> PathBuf {
    let above = mount_point.ancestors().skip(1);
    let resolved = above.filter_map(|directory| {
        let real = host.real_path(directory).ok()?;
        Some(real.join(mount_point.strip_prefix(directory).ok()?))
    });
    resolved
        .into_iter()
        .next()
        .unwrap_or_else(|| mount_point.to_path_buf())
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|field| !field.is_empty());
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    Some(Mount {
        source: unescape(fields.next()?),
        mount_point: unescape(fields.next()?),
        filesystem: text(fields.next()?),
        options: text(fields.next()?),
    })
}

/// Undoes the kernel's `\040` for a space and the like (mangle_path in fs/seq_file.c), which
/// people write into `/etc/fstab` too.
pub(super) fn unescape(field: &[u8]) -> PathBuf {
    if !field.contains(&b'\\') {
        return PathBuf::from(OsStr::from_bytes(field));
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail
            .first_chunk::<3>()
            .filter(|_| *first == b'\\')
            .and_then(octal_byte);
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal_byte(digits: &[u8; 3]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    digits
        .iter()
        .all(u8::is_ascii_digit)
        .then(|| u8::from_str_radix(text, 8).ok())?
}

/// A path as a field of the mount table: the reverse of what [`parse`] undoes.
pub fn escape(path: &Path) -> Vec<u8> {
    let mut field = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => field.extend(format!("\\{byte:03o}").bytes()),
            other => field.push(*other),
        }
    }
    field
}

/// The block device of a mount. Its source may not exist under that name (`/dev/root`
/// on old kernels); then the mounted file system is asked.
pub(crate) fn device_of(host: &Host, mount: &Mount) -> Option<Number> {
    if !mount.source.starts_with("/dev") {
        return None;
    }
    host.block_number(&mount.source).or_else(|| {
        let is_asked = !is_of_a_process(mount);
        is_asked.then(|| host.device_under(&mount.mount_point))?
    })
}

/// Whether a process is behind it, of any user, who may call its source `/dev/x` and never
/// answer.
fn is_of_a_process(mount: &Mount) -> bool {
    mount.filesystem == "fuse" || mount.filesystem.starts_with("fuse.")
}

/// Whether a server may be behind it, or a process.
pub(crate) fn is_of_a_server(mount: &Mount) -> bool {
    const SERVED: [&str; 9] = [
        "9p", "afs", "ceph", "cifs", "fuse", "gluster", "lustre", "nfs", "smb",
    ];
    let kind = mount.filesystem.as_str();
    SERVED.iter().any(|served| kind.starts_with(served))
}

/// Whether a disk alone is behind it: neither a process nor a server, which may never answer.
pub(crate) fn is_of_a_disk(host: &Host, mount: &Mount) -> bool {
    let has_process = mount.filesystem.starts_with("fuse");
    !has_process && host.block_number(&mount.source).is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::bounded::Limit;
    use crate::host::tree::Tree;

    const TABLE: &[u8] = b"rootfs / rootfs rw 0 0\n\
        /dev/root / ext3 rw,data=ordered 0 0\n\
        /dev/vdc /mnt/staging ext4 rw 0 0\n\
        /dev/vdd /staging2 ext4 rw 0 0\n\
        /dev/staging /data ext4 rw 0 0\n\
        /dev/vdb /my\\040staging ext2 rw,nosuid 0 0\n\
        /dev/vde /a\\134b ext2 rw 0 0\n\
        half a line\n\n";

    fn source_on(mount_point: &str) -> Option<PathBuf> {
        on(&parse(TABLE), Path::new(mount_point)).map(|mount| mount.source.clone())
    }

    #[test]
    fn a_table_that_has_not_changed_is_not_read_again() {
        let host = Host::this_machine();
        let again = || {
            let before = read(&host).unwrap();
            let now = at_present(&host).unwrap();
            Arc::ptr_eq(&before, &now) && now == read(&host).unwrap()
        };
        // Others may mount something just then, and other tests read it.
        assert!((0..100).any(|_| again()));
    }

    #[test]
    fn a_process_that_came_of_another_leaves_that_one_s_descriptor_alone() {
        let host = Host::this_machine();
        // The lowest numbers are what a child has.
        let _lower: Vec<File> = (0..20).map(|_| File::open("/").unwrap()).collect();
        read(&host).unwrap();
        let number = LAST.lock().unwrap().as_ref().unwrap().file.as_raw_fd();
        let is_left_alone = || {
            // By now it is that of something else.
            let others: Vec<File> = (0..500).map(|_| File::open("/").unwrap()).collect();
            let other = others.iter().find(|other| other.as_raw_fd() == number);
            bounded::stand_alone(others[0].as_fd(), None);
            for _ in 0..2 {
                at_present(&host).unwrap();
            }
            let is_directory = |other: &File| other.metadata().is_ok_and(|is| is.is_dir());
            let by = last(&host).and_then(|last| Some(last.as_ref()?.by));
            other.is_none_or(is_directory) && by.is_none_or(|by| by == getpid())
        };
        let limit = Limit::after(Duration::from_secs(10));
        assert!(bounded::run(limit, &[], is_left_alone).unwrap());
    }

    #[test]
    fn the_table_of_another_machine_is_read_each_time() {
        let tree = Tree::new(&[("proc/self/mounts", "/dev/vdb /staging ext4 rw 0 0\n")]);
        let host = tree.host();
        assert_eq!(at_present(&host).unwrap().len(), 1);
        std::fs::write(host.path(super::TABLE), "").unwrap();
        assert!(at_present(&host).unwrap().is_empty());
    }

    #[test]
    fn only_the_very_mount_point_counts() {
        assert_eq!(source_on("/staging"), None);
        assert_eq!(source_on("/staging2"), Some("/dev/vdd".into()));
        assert_eq!(source_on("/mnt/staging"), Some("/dev/vdc".into()));
    }

    #[test]
    fn escaped_characters_are_read_and_written() {
        assert_eq!(source_on("/my staging"), Some("/dev/vdb".into()));
        assert_eq!(source_on("/a\\b"), Some("/dev/vde".into()));
        for path in ["/my staging", "/a\\b", "/tab\there", "/new\nline", "/plain"] {
            let path = PathBuf::from(path);
            assert_eq!(unescape(&escape(&path)), path);
        }
    }

    #[test]
    fn a_backslash_without_three_octal_digits_stands_for_itself() {
        for field in ["\\04", "\\999", "\\400", "end\\", "\\04x", "\\+40"] {
            assert_eq!(unescape(field.as_bytes()), PathBuf::from(field));
        }
    }

    #[test]
    fn the_last_mount_lies_on_top() {
        assert_eq!(source_on("/"), Some("/dev/root".into()));
    }

    #[test]
    fn a_broken_line_is_passed_over() {
        assert_eq!(parse(TABLE).len(), 7);
    }
}
