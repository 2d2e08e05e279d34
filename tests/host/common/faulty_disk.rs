//! A disk that errs, is slow or hangs, as the test says while it is in use.
//!
//! It is a loop device over the one file of a FUSE file system, which this process serves.
//! Nobody need take it down: the file system goes with the loop device, and that with its
//! last user. When this process dies, whatever waits for the disk gets an I/O error.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, Session, SessionACL, WriteFlags,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::{Attach, Image, LoopDevice, Machine, skip};

/// A hang ends by itself after this: a claim that fails leaves no process behind that
/// cannot be killed, and does not block the host's sync(2).
pub const LONGEST_HANG: Duration = Duration::from_secs(30);

/// What is wrong with a disk. Ranges are in bytes; they are about every request that
/// touches them.
#[derive(Clone, Debug)]
pub enum Fault {
    None,
    /// Each read takes so much longer. Reads at the same time do not add up.
    Delay(Duration),
    /// Reads here fail with EIO.
    ReadErrors(Range<u64>),
    /// All writes fail with EIO.
    WriteErrors,
    /// Nothing is answered.
    Hang,
    /// No read here is answered.
    HangReads(Range<u64>),
    /// No write and no flush is answered.
    HangWrites,
}

/// Dropping it lets go of everything that waits for it.
pub struct FaultyDisk {
    medium: Arc<Medium>,
    device: LoopDevice,
}

impl FaultyDisk {
    /// `scratch` is a directory that only this test sees.
    pub fn attach(image: &Image, scratch: &Path) -> FaultyDisk {
        let mount_point = scratch.join("faulty-disk");
        fs::create_dir(&mount_point).unwrap();
        let content = mount_point.join("content");
        image.write(&content);
        let medium = Arc::new(Medium::on(&content));
        fs::remove_file(content).unwrap();

        serve(OneFile(medium.clone()), mount_fuse(&mount_point));
        let how = Attach {
            direct_io: true,
            ..Attach::default()
        };
        let device = LoopDevice::attach(&mount_point.join("disk"), how, scratch);
        // From now on the loop device alone keeps the file system.
        umount2(&mount_point, MntFlags::MNT_DETACH).unwrap();
        fs::remove_dir(mount_point).unwrap();
        FaultyDisk {
            medium,
            device: device.expect("attach a loop device"),
        }
    }

    /// Has the disk behave like this from now on, also to requests that it has not answered
    /// yet. What the kernel remembers of its content is forgotten.
    pub fn fault(&self, fault: Fault) {
        self.medium.set(fault);
        self.device.drop_cache();
    }

    /// As the kernel knows it: major and minor.
    pub fn number(&self) -> (u64, u64) {
        self.device.number
    }

    /// How many reads have come so far, answered or not.
    pub fn reads(&self) -> usize {
        self.medium.reads.load(Ordering::Relaxed)
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        // Before the device is closed, which may wait for writes.
        self.medium.set(Fault::None);
    }
}

impl Machine {
    /// Attaches a disk that works so far, and names it `/dev/<name>`.
    pub fn faulty_disk(&self, name: &str, image: &Image) -> FaultyDisk {
        let disk = FaultyDisk::attach(image, self.path("/").parent().unwrap());
        self.name(name, disk.number());
        disk
    }
}

/// What is on the disk, and what is wrong with it.
struct Medium {
    content: File,
    state: Mutex<State>,
    changed: Condvar,
    reads: AtomicUsize,
}

struct State {
    fault: Fault,
    /// When a hang is over.
    hangs_until: Instant,
}

#[derive(Clone)]
enum Access {
    Read(Range<u64>),
    Write,
}

/// What becomes of a request.
enum Effect {
    Served,
    Delayed(Duration),
    Refused,
    Held,
}

impl Fault {
    fn effect(&self, access: &Access) -> Effect {
        let touches = |place: &Range<u64>| match access {
            Access::Read(bytes) => bytes.start < place.end && bytes.end > place.start,
            Access::Write => false,
        };
        let is_write = matches!(access, Access::Write);
        match self {
            Fault::Delay(time) if !is_write => Effect::Delayed(*time),
            Fault::ReadErrors(place) if touches(place) => Effect::Refused,
            Fault::WriteErrors if is_write => Effect::Refused,
            Fault::Hang => Effect::Held,
            Fault::HangReads(place) if touches(place) => Effect::Held,
            Fault::HangWrites if is_write => Effect::Held,
            _ => Effect::Served,
        }
    }
}

impl Medium {
    fn on(content: &Path) -> Medium {
        let content = File::options().read(true).write(true).open(content);
        Medium {
            content: content.unwrap(),
            state: Mutex::new(State {
                fault: Fault::None,
                hangs_until: Instant::now(),
            }),
            changed: Condvar::new(),
            reads: AtomicUsize::new(0),
        }
    }

    fn set(&self, fault: Fault) {
        *self.state.lock().unwrap() = State {
            fault,
            hangs_until: Instant::now() + LONGEST_HANG,
        };
        self.changed.notify_all();
    }

    /// Returns when the request is due.
    fn wait_for(&self, access: &Access) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        loop {
            match state.fault.effect(access) {
                Effect::Served => return Ok(()),
                Effect::Refused => return Err(io::Error::from_raw_os_error(nix::libc::EIO)),
                Effect::Delayed(time) => {
                    drop(state);
                    thread::sleep(time);
                    return Ok(());
                }
                Effect::Held => {}
            }
            let left = state.hangs_until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn read(&self, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.wait_for(&Access::Read(offset..offset + u64::from(size)))?;
        let mut bytes = vec![0; size as usize];
        let length = self.content.read_at(&mut bytes, offset)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.wait_for(&Access::Write)?;
        self.content.write_all_at(bytes, offset)
    }
}

/// The connection to the kernel of a FUSE file system that is mounted here.
fn mount_fuse(mount_point: &Path) -> OwnedFd {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let Ok(device) = device else {
        skip("this host has no /dev/fuse")
    };
    let fd = device.as_raw_fd();
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other");
    let mounted = mount(
        Some("faulty-disk"),
        mount_point,
        Some("fuse"),
        MsFlags::empty(),
        Some(options.as_str()),
    );
    mounted.expect("mount a FUSE file system");
    device.into()
}

/// Answers the kernel until the file system is gone.
fn serve(file: OneFile, connection: OwnedFd) {
    let session = Session::from_fd(file, connection, SessionACL::All, Config::default());
    let session = session.expect("speak FUSE with the kernel");
    thread::spawn(move || {
        enter_the_first_namespace();
        session.run().expect("serve the file system");
    });
}

/// In the claim's own mount namespace this thread would keep alive the mounts that keep
/// the loop device for which it works.
fn enter_the_first_namespace() {
    let first = File::open(format!("/proc/{}/ns/mnt", std::process::id())).unwrap();
    unshare(CloneFlags::CLONE_FS).unwrap();
    setns(first, CloneFlags::CLONE_NEWNS).unwrap();
}

/// The file system: a file named `disk`.
struct OneFile(Arc<Medium>);

const DISK: INodeNo = INodeNo(2);
/// How long the kernel may believe what it was told of the file.
const FOREVER: Duration = Duration::MAX;

impl OneFile {
    fn attributes(&self) -> FileAttr {
        let size = self.0.content.metadata().unwrap().len();
        FileAttr {
            ino: DISK,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Each request has a thread: the others go on when one hangs.
    fn answer(&self, answer: impl FnOnce(&Medium) + Send + 'static) {
        let medium = self.0.clone();
        thread::spawn(move || answer(&medium));
    }
}

impl Filesystem for OneFile {
    fn init(&mut self, _: &Request, kernel: &mut KernelConfig) -> io::Result<()> {
        // Several requests of the loop device at once.
        let several = kernel.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        several.map_err(|_| io::ErrorKind::Unsupported.into())
    }

    fn lookup(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.entry(&FOREVER, &self.attributes(), Generation(0));
    }

    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes());
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.answer(move |medium| match medium.read(offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(Errno::from(e)),
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let bytes = bytes.to_vec();
        self.answer(move |medium| match medium.write(offset, &bytes) {
            Ok(()) => reply.written(bytes.len() as u32),
            Err(e) => reply.error(Errno::from(e)),
        });
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.answer(|medium| match medium.wait_for(&Access::Write) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(Errno::from(e)),
        });
    }
}
