//! A file system that never answers, as one on a server that is gone.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::Machine;

/// FUSE with nobody behind it. Dropping it, whatever waits for an answer gets an error.
pub struct SilentMount {
    _connection: File,
}

impl Machine {
    /// Mounts one. The mount table shows `source`.
    pub fn silent_mount(&self, source: &str, mount_point: &str) -> SilentMount {
        SilentMount::on(source, &self.path(mount_point))
    }
}

impl SilentMount {
    /// In a mount namespace of the test's own.
    pub fn on(source: &str, mount_point: &Path) -> SilentMount {
        fs::create_dir_all(mount_point).unwrap();
        let mut options = File::options();
        let connection = options.read(true).write(true).open("/dev/fuse").unwrap();
        let descriptor = connection.as_raw_fd();
        let data = format!("fd={descriptor},rootmode=40000,user_id=0,group_id=0,allow_other");
        let nothing = MsFlags::empty();
        mount(
            Some(source),
            mount_point,
            Some("fuse"),
            nothing,
            Some(data.as_str()),
        )
        .expect("mount a FUSE file system");
        SilentMount {
            _connection: connection,
        }
    }
}
