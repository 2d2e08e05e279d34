//! A look into a file system that only a name found: what is in it, before it may be used.
//!
//! It is mounted read-only, through a read-only loop device, in a child and where nobody
//! sees it: not a byte of it changes, which read-only alone does not promise (a journal is
//! replayed, a superblock written). Where the kernel has no loop driver it is told to refuse
//! writes to the disk for these milliseconds; a record says so, by which the next run takes
//! that back if this one dies in between.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use log::debug;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat};
use nix::libc;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::fchdir;
use serde::{Deserialize, Serialize};

use super::limits::limit_of;
use crate::config::{Config, Directory};
use crate::disk::choose::{Choice, choose};
use crate::disk::looked::{Contents, Look, Names};
use crate::disk::mark::{self, LIMIT, Mark, TEMPORARY};
use crate::disk::observation::{Observation, Observed};
use crate::disk::observe::observe;
use crate::disk::reader::Reader;
use crate::disk::signature::Content;
use crate::host::block_device::Number;
use crate::host::bounded::Task;
use crate::host::mount_table::Mount;
use crate::host::regular_file::{self, MIB};
use crate::host::{Host, kernel_calls, namespace};
use crate::text;

/// So many names are read: a directory may have a million.
const MOST_NAMES: usize = 10_000;

/// So many are told.
const TOLD: usize = 3;

/// What any file system may have that nobody has used: mke2fs, Windows and Azure make these.
const UNUSED: [&str; 4] = [
    "lost+found",
    "DATALOSS_WARNING_README.txt",
    "System Volume Information",
    "$RECYCLE.BIN",
];

/// Observes the devices and judges them, looking into those that are to be looked into.
///
/// # Errors
///
/// That the kernel's lists of devices cannot be read.
pub(crate) fn observe_and_choose(
    host: &Host,
    config: &Config,
    mounts: &[Mount],
    reader: &mut Reader,
) -> anyhow::Result<(Observed, Choice)> {
    let staging = &config.staging;
    clear_leftovers(host);
    let mut observed = observe(host, staging, mounts, reader)?;
    loop {
        let choice = choose(&staging.devices, staging.format, &observed);
        let number = choice.to_look_into;
        let device = observed
            .devices
            .iter_mut()
            .find(|device| Some(device.number) == number);
        match device {
            Some(device) => device.look = Some(look_into(host, config, device, reader)),
            None => return Ok((observed, choice)),
        }
    }
}

fn look_into(host: &Host, config: &Config, device: &Observation, reader: &mut Reader) -> Look {
    let Content::Filesystem { kind, .. } = &device.content else {
        return Look::Failed("there is no file system on it".into());
    };
    let first_name = |directory: &Directory| {
        let first = directory.path.as_path().iter().next()?;
        Some(text::printable(&first.to_string_lossy()))
    };
    let order = Order {
        host: host.clone(),
        node: device.node.clone(),
        number: device.number,
        filesystem: kind.clone(),
        is_replay_pending: device.facts.is_replay_pending,
        directories: config.directories.iter().filter_map(first_name).collect(),
    };
    let limit = limit_of(host, device.number, &config.staging);
    let look = reader
        .child()
        .map_err(|gave_up| gave_up.to_string())
        .and_then(|mut child| match child.ask::<LookInto>(&order, limit) {
            Ok(look) => {
                child.end();
                Ok(look)
            }
            Err(gave_up) => {
                let after = config.staging.device_timeout;
                reader.leave_alone(device.number, child.give_up(), after);
                Err(gave_up.to_string())
            }
        });
    if let Err(error) = clear_leftover(host, &device.node, device.number) {
        return Look::Failed(format!("it may be left read-only: {error}"));
    }
    look.unwrap_or_else(Look::Failed)
}

/// Looks into a device. The order says where it is and what is on it.
struct LookInto;

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    host: Host,
    node: PathBuf,
    number: Number,
    /// libblkid's name for the file system.
    filesystem: String,
    /// The superblock says that a journal or a log is to be replayed.
    is_replay_pending: bool,
    /// The names in the root directory that this program makes.
    directories: BTreeSet<String>,
}

impl Task for LookInto {
    type Order = Order;
    type Outcome = Look;

    fn perform(order: Order) -> Look {
        match look(&order) {
            Ok(contents) => Look::Seen(contents),
            Err(e) => Look::Failed(e.to_string()),
        }
    }
}

fn look(order: &Order) -> io::Result<Contents> {
    let node = order.host.path(&order.node);
    let device = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&node)?;
    if Number::from_raw(device.metadata()?.rdev()) != order.number {
        return Err(io::Error::other("it is another device now"));
    }
    let shield = Shield::raise(&order.host, &node, device)?;
    let seen = namespace::enter()
        .and_then(|()| fchdir(&shield.directory).map_err(io::Error::from))
        .and_then(|()| mount_and_read(order, &shield.name));
    shield.lower()?;
    seen
}

fn mount_and_read(order: &Order, name: &OsString) -> io::Result<Contents> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mut last = Errno::ENODEV;
    for way in ways(&order.filesystem) {
        let data = Some(way.data).filter(|data| !data.is_empty());
        let (source, driver) = (Some(name.as_os_str()), Some(way.driver));
        match mount(source, namespace::MOUNT_POINT, driver, flags, data) {
            Ok(()) => {
                let contents = read_root(order);
                umount(namespace::MOUNT_POINT)?;
                let mut contents = contents?;
                contents.is_replay_pending |= order.is_replay_pending || way.shows_pending;
                return Ok(contents);
            }
            // Without such a driver, or such an option, the next way may do.
            Err(errno) => last = errno,
        }
    }
    match last {
        Errno::ENODEV => Err(io::Error::other(format!(
            "this kernel has no driver for {}",
            order.filesystem
        ))),
        Errno::EBUSY => Err(io::Error::other(format!(
            "something else has it in use: {}",
            io::Error::from(Errno::EBUSY)
        ))),
        errno => Err(errno.into()),
    }
}

/// A driver with options by which it writes nothing. Tried in turns.
struct Way {
    driver: &'static str,
    data: &'static str,
    /// That it comes to this one shows that a log is to be replayed.
    shows_pending: bool,
}

/// Without `noload` and its like a journal would be replayed, which a read-only device
/// refuses. The ext2 driver knows no such option and needs none; xfs shows by refusing to
/// mount without one that its log is not clean; btrfs calls it differently since Linux 5.9.
fn ways(filesystem: &str) -> Vec<Way> {
    let way = |driver, data| Way {
        driver,
        data,
        shows_pending: false,
    };
    match filesystem {
        "ext2" => vec![
            way("ext4", "noload"),
            way("ext3", "noload"),
            way("ext2", ""),
        ],
        "ext3" | "ext4" => vec![way("ext4", "noload"), way("ext3", "noload")],
        "xfs" => vec![
            way("xfs", "nouuid"),
            Way {
                shows_pending: true,
                ..way("xfs", "nouuid,norecovery")
            },
        ],
        "btrfs" => vec![
            way("btrfs", "rescue=nologreplay"),
            way("btrfs", "norecovery"),
            way("btrfs", "nologreplay"),
        ],
        "vfat" => vec![way("vfat", "")],
        "ntfs" => vec![way("ntfs3", ""), way("ntfs", "")],
        "exfat" => vec![way("exfat", "")],
        "f2fs" => vec![
            way("f2fs", "norecovery"),
            way("f2fs", "disable_roll_forward"),
        ],
        "jfs" => vec![way("jfs", "")],
        "reiserfs" => vec![way("reiserfs", "nolog")],
        _ => Vec::new(),
    }
}

fn read_root(order: &Order) -> io::Result<Contents> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = open(namespace::MOUNT_POINT, flags, Mode::empty())?;
    let mark = read_mark(&root)?;
    let mut others = Vec::new();
    let mut used = Vec::new();
    let mut count = 0;
    let mut directory = Dir::openat(&root, ".", flags, Mode::empty())?;
    for entry in directory.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." || is_leftover(&root, entry.file_name()) {
            continue;
        }
        count += 1;
        if count > MOST_NAMES {
            break;
        }
        let name = text::printable(&String::from_utf8_lossy(name));
        if !UNUSED.contains(&name.as_str()) {
            used.push(name.clone());
        }
        let is_ours = order.directories.contains(&name) && is_directory(&root, entry.file_name());
        if name != "lost+found" && !is_ours {
            others.push(name);
        }
    }
    let is_cut = count > MOST_NAMES;
    Ok(Contents {
        mark,
        is_replay_pending: false,
        others: names(others, is_cut),
        used: names(used, is_cut),
    })
}

fn names(mut all: Vec<String>, is_cut: bool) -> Names {
    all.sort();
    let count = all.len();
    all.truncate(TOLD);
    Names {
        first: all,
        count,
        is_cut,
    }
}

fn is_directory(root: &OwnedFd, name: &CStr) -> bool {
    stat_at(root, name).is_some_and(|there| there.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Whether it is a mark that a run which died had not finished.
fn is_leftover(root: &OwnedFd, name: &CStr) -> bool {
    let is_one = |there: FileStat| {
        let is_file = there.st_mode & libc::S_IFMT == libc::S_IFREG;
        is_file && there.st_uid == 0 && u64::try_from(there.st_size).is_ok_and(|size| size <= LIMIT)
    };
    name.to_bytes() == TEMPORARY.as_bytes() && stat_at(root, name).is_some_and(is_one)
}

fn stat_at(root: &OwnedFd, name: &CStr) -> Option<FileStat> {
    fstatat(root, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
}

/// A regular file of root's that parses is a mark; anything else of that name is a file of
/// somebody's.
fn read_mark(root: &impl AsFd) -> io::Result<Option<Mark>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(root, mark::NAME, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(_) => return Ok(None),
    };
    let there = file.metadata()?;
    if !there.is_file() || there.uid() != 0 || there.len() > mark::LIMIT {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(mark::LIMIT).read_to_end(&mut content)?;
    Ok(Mark::parse(&content))
}

/// What keeps the disk from being written.
struct Shield {
    /// Where the node is, and what it is called there.
    directory: OwnedFd,
    name: OsString,
    kind: Kind,
}

enum Kind {
    /// Open twice, so that it is detached when nobody has it any more.
    Loop(File, File),
    /// The disk itself refuses writes, as a record says that is locked meanwhile.
    Disk(File, Flock<File>),
}

impl Shield {
    fn raise(host: &Host, node: &Path, device: File) -> io::Result<Shield> {
        match attach_to_loop(host, &device) {
            Ok((name, device, again)) => Ok(Shield {
                directory: open_directory(&host.path("/dev"))?,
                name,
                kind: Kind::Loop(device, again),
            }),
            Err(_) => {
                let record = record_of(host, Number::from_raw(device.metadata()?.rdev()));
                fs::create_dir_all(host.runtime_directory())?;
                let record = locked(File::create(record)?)?;
                (&*record).write_all(node.as_os_str().as_bytes())?;
                kernel_calls::set_read_only(&device, true)?;
                Ok(Shield {
                    directory: open_directory(node.parent().unwrap_or(Path::new("/")))?,
                    name: node.file_name().unwrap_or_default().into(),
                    kind: Kind::Disk(device, record),
                })
            }
        }
    }

    fn lower(self) -> io::Result<()> {
        match self.kind {
            Kind::Loop(device, again) => {
                drop(again);
                // Before Linux 3.7 it is detached only now.
                let _ = kernel_calls::detach_loop_device(&device);
                Ok(())
            }
            Kind::Disk(device, record) => {
                let lowered = kernel_calls::set_read_only(&device, false);
                drop(record);
                lowered
            }
        }
    }
}

/// A loop device over the disk, which is read-only as the disk is open for reading alone.
/// Another process may be quicker to take the free one.
fn attach_to_loop(host: &Host, disk: &File) -> io::Result<(OsString, File, File)> {
    let control = File::options()
        .read(true)
        .write(true)
        .open(host.path("/dev/loop-control"))?;
    let mut last = io::Error::from(ErrorKind::NotFound);
    for _ in 0..8 {
        let name = OsString::from(format!("loop{}", kernel_calls::free_loop_device(&control)?));
        let node = host.path("/dev").join(&name);
        let device = File::options().read(true).open(&node)?;
        let again = File::options().read(true).open(&node)?;
        match kernel_calls::attach_loop_device(&device, disk) {
            Ok(()) => {
                let _ = kernel_calls::detach_loop_device(&device);
                return Ok((name, device, again));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

fn record_of(host: &Host, number: Number) -> PathBuf {
    let name = format!("{RECORD}{}-{}", number.major, number.minor);
    host.runtime_directory().join(name)
}

/// How the names of these records begin. Each holds the node of the disk.
const RECORD: &str = "read-only-";

fn locked(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

/// Clears what runs that died have left, before the disks are judged: a read-only one is
/// rejected. One that somebody is looking into now is left alone.
fn clear_leftovers(host: &Host) {
    let Ok(entries) = fs::read_dir(host.runtime_directory()) else {
        return;
    };
    let is_record = |name: &OsString| name.as_bytes().starts_with(RECORD.as_bytes());
    let records = entries
        .filter_map(Result::ok)
        .filter(|entry| is_record(&entry.file_name()));
    for record in records {
        if let Err(error) = clear_record(host, &record.path()) {
            debug!("{}: {error}", record.path().display());
        }
    }
}

fn clear_record(host: &Host, record: &Path) -> io::Result<()> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(record)?;
    let _lock = locked(file)?;
    let text = regular_file::read(record, MIB).map_err(io::Error::other)?;
    let node = PathBuf::from(OsString::from_vec(text));
    let Some(number) = host.block_number(&node) else {
        return fs::remove_file(record);
    };
    match record_of(host, number) == record {
        true => clear_leftover(host, &node, number),
        // Another disk has this name now.
        false => fs::remove_file(record),
    }
}

/// Has the kernel take writes to this disk again, where a run that died had it refuse them.
fn clear_leftover(host: &Host, node: &Path, number: Number) -> io::Result<()> {
    let record = record_of(host, number);
    if !record.exists() {
        return Ok(());
    }
    let device = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(host.path(node))?;
    kernel_calls::set_read_only(&device, false)?;
    fs::remove_file(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a kernel without such an option it is not looked into: read-only alone promises
    /// nothing.
    #[test]
    fn what_has_a_journal_is_only_looked_into_with_an_option_that_leaves_it_alone() {
        let options = [
            "noload",
            "nologreplay",
            "norecovery",
            "nolog",
            "disable_roll_forward",
        ];
        for kind in ["ext3", "ext4", "btrfs", "f2fs", "reiserfs"] {
            assert!(!ways(kind).is_empty());
            for way in ways(kind) {
                let is_one = |option: &str| way.data.contains(option);
                assert!(
                    options.iter().any(|one| is_one(one)),
                    "{kind}: {}",
                    way.data
                );
            }
        }
        // What nobody has thought about.
        assert!(ways("zonefs").is_empty());
    }
}
