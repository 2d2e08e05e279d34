//! Block devices by their number, and files by their kind.

use std::fmt;
use std::fs;
use std::os::unix::fs::FileTypeExt;

use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};

/// A block device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Number {
    pub(crate) major: u64,
    pub(crate) minor: u64,
}

impl Number {
    pub(crate) fn from_raw(rdev: u64) -> Number {
        Number {
            major: major(rdev),
            minor: minor(rdev),
        }
    }
}

impl Number {
    /// As the kernel writes it in 32 bits (new_decode_dev in include/linux/kdev_t.h).
    pub(crate) fn from_kernel(number: u64) -> Number {
        Number {
            major: number >> 8 & 0xfff,
            minor: number & 0xff | number >> 12 & 0xf_ff00,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What a test says of paths in its tree.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub(crate) struct Pretended {
    pub(crate) nodes: std::collections::BTreeMap<std::path::PathBuf, Number>,
    pub(crate) file_systems: std::collections::BTreeMap<std::path::PathBuf, Number>,
}

/// A file's kind as a person calls it.
pub(crate) fn kind_in_words(kind: fs::FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_file() {
        "a file"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_block_device() {
        "a block device"
    } else if kind.is_fifo() {
        "a named pipe"
    } else {
        "a socket"
    }
}
