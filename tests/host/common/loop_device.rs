//! Loop devices that nobody need detach.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::tool;

/// A file as a block device. The kernel detaches it when the last user is gone: this
/// value, a mount, or a process that has it open; also after a panic or SIGKILL.
pub struct LoopDevice {
    device: File,
    /// As the kernel calls it: `loop3`.
    pub name: String,
    pub number: (u64, u64),
}

#[derive(Clone, Copy, Default)]
pub struct Attach {
    pub read_only: bool,
    /// Whether the kernel is told of the partitions on it.
    pub partitions: bool,
    /// Without a page cache for the file, and several requests at once.
    pub direct_io: bool,
}

const MAJOR: u64 = 7;

impl LoopDevice {
    /// `nodes` is a directory on a file system of this test's own, for a node: the
    /// host's `/dev` may not have as many as the kernel makes.
    pub fn attach(file: &Path, how: Attach, nodes: &Path) -> io::Result<LoopDevice> {
        let control = File::open("/dev/loop-control")?;
        loop {
            // SAFETY: this ioctl takes no argument.
            let free = unsafe { ioctl::get_free(control.as_raw_fd()) }? as u64;
            let node = nodes.join(format!("loop{free}"));
            make_block_node(&node, (MAJOR, free))?;
            let attached = configure(&node, file, how);
            if attached.is_ok() {
                forget_partitions(&format!("loop{free}"), &node);
            }
            fs::remove_file(&node)?;
            match attached {
                // Another test was quicker to take that one.
                Err(e) if e.raw_os_error() == Some(Errno::EBUSY as i32) => continue,
                Err(e) => return Err(e),
                Ok(device) => {
                    return Ok(LoopDevice {
                        device,
                        name: format!("loop{free}"),
                        number: (MAJOR, free),
                    });
                }
            }
        }
    }

    /// Has the kernel forget what it has read of it.
    pub fn drop_cache(&self) {
        let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        posix_fadvise(&self.device, 0, 0, advice).unwrap();
    }

    /// The loop devices that the kernel has, attached or not. For the bench.
    #[allow(dead_code)]
    pub fn all() -> BTreeSet<u64> {
        let names = fs::read_dir("/sys/block").unwrap();
        names
            .filter_map(|entry| {
                let name = entry.unwrap().file_name().into_string().ok()?;
                name.strip_prefix("loop")?.parse().ok()
            })
            .collect()
    }

    /// Takes away the devices that the kernel has made since; it keeps those in use.
    /// For the bench.
    #[allow(dead_code)]
    pub fn remove_unused_but(kept: &BTreeSet<u64>) {
        let control = File::open("/dev/loop-control").unwrap();
        for number in LoopDevice::all().difference(kept) {
            // SAFETY: this ioctl takes a number.
            let _ = unsafe { ioctl::remove(control.as_raw_fd(), *number as i32) };
        }
    }

    /// The numbers of the partitions' devices, in their order. They are given to the
    /// kernel by partx: kernels are built without support for one table or another.
    pub fn partitions(&self, nodes: &Path) -> Vec<(u64, u64)> {
        let node = nodes.join(&self.name);
        make_block_node(&node, self.number).unwrap();
        let partx = Command::new(tool("partx"))
            .arg("--update")
            .arg(&node)
            .status();
        assert!(partx.unwrap().success(), "partx --update failed");
        fs::remove_file(&node).unwrap();
        let mut partitions = Vec::new();
        while let Ok(number) = fs::read_to_string(format!(
            "/sys/block/{0}/{0}p{1}/dev",
            self.name,
            partitions.len() + 1
        )) {
            let (major, minor) = number.trim().split_once(':').unwrap();
            partitions.push((major.parse().unwrap(), minor.parse().unwrap()));
        }
        partitions
    }
}

pub fn make_block_node(path: &Path, (major, minor): (u64, u64)) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(0o660);
    Ok(mknod(path, SFlag::S_IFBLK, mode, makedev(major, minor))?)
}

/// Those that partx gave to the kernel outlast what was attached before, where its test was
/// killed.
fn forget_partitions(name: &str, node: &Path) {
    let entries = fs::read_dir(format!("/sys/block/{name}")).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    if names.any(|entry| entry.starts_with(name)) {
        // What it says of its success is not to be relied on.
        let _ = Command::new(tool("partx"))
            .arg("--delete")
            .arg(node)
            .status();
    }
}

fn configure(node: &Path, file: &Path, how: Attach) -> io::Result<File> {
    let backing = OpenOptions::new()
        .read(true)
        .write(!how.read_only)
        .open(file)?;
    let device = OpenOptions::new().read(true).write(true).open(node)?;
    let mut config = ioctl::LoopConfig::zeroed();
    config.fd = backing.as_raw_fd() as u32;
    config.flags = ioctl::AUTOCLEAR;
    if how.read_only {
        config.flags |= ioctl::READ_ONLY;
    }
    if how.partitions {
        config.flags |= ioctl::PARTSCAN;
    }
    if how.direct_io {
        config.flags |= ioctl::DIRECT_IO;
    }
    // SAFETY: `config` is linux/loop.h's struct loop_config and outlives the call.
    unsafe { ioctl::configure(device.as_raw_fd(), &config) }?;
    if !how.read_only {
        // That the kernel refuses writes outlasts what was attached before: of a run, say,
        // that was killed while it looked into its disk.
        // SAFETY: BLKROSET reads one int, which outlives the call.
        unsafe { ioctl::set_read_only(device.as_raw_fd(), &0) }?;
    }
    Ok(device)
}

/// linux/loop.h
mod ioctl {
    pub const READ_ONLY: u32 = 1;
    pub const AUTOCLEAR: u32 = 4;
    pub const PARTSCAN: u32 = 8;
    pub const DIRECT_IO: u32 = 16;

    nix::ioctl_write_int_bad!(remove, 0x4C81);
    nix::ioctl_none_bad!(get_free, 0x4C82);
    // linux/fs.h
    nix::ioctl_write_ptr_bad!(set_read_only, 0x125d, nix::libc::c_int);
    nix::ioctl_write_ptr_bad!(configure, 0x4C0A, LoopConfig);

    /// struct loop_config with its struct loop_info64; what is not used by name here
    /// is zero.
    #[repr(C)]
    pub struct LoopConfig {
        pub fd: u32,
        block_size: u32,
        device_to_size_limit: [u64; 5],
        number_to_key_size: [u32; 3],
        pub flags: u32,
        names_key_and_init: [u8; 64 + 64 + 32 + 16],
        reserved: [u64; 8],
    }

    impl LoopConfig {
        pub fn zeroed() -> LoopConfig {
            LoopConfig {
                fd: 0,
                block_size: 0,
                device_to_size_limit: [0; 5],
                number_to_key_size: [0; 3],
                flags: 0,
                names_key_and_init: [0; 176],
                reserved: [0; 8],
            }
        }
    }
}
