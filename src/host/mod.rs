//! The machine that this program runs on: its files, its block devices, its programs.
//!
//! Whatever reads or writes the machine's files goes through a [`Host`], so that a test can
//! point it at a directory tree.

pub(crate) mod accounts;
pub(crate) mod atomic_file;
pub(crate) mod block_device;
pub(crate) mod bounded;
pub(crate) mod checked_path;
pub(crate) mod cloud;
mod detach;
pub(crate) mod error_text;
pub mod fstab;
pub mod kernel_calls;
pub(crate) mod kernel_file;
mod left_behind;
pub(crate) mod locks;
mod look_up;
pub(crate) mod machine;
pub mod mount_table;
pub(crate) mod namespace;
mod now;
pub mod program;
pub(crate) mod progress;
pub(crate) mod regular_file;
pub mod resolve;
pub(crate) mod silent;
pub(crate) mod sysfs;
pub(crate) mod this_boot;
#[cfg(test)]
pub(crate) mod tree;
pub(crate) mod wait;
pub(crate) mod watch_process;
pub(crate) mod way;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The machine: where its root directory is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    root: PathBuf,
    /// These are the same as long as this program runs, and found out once.
    #[serde(skip)]
    boot_id: OnceLock<String>,
    #[serde(skip)]
    runtime_directory: OnceLock<PathBuf>,
    /// Device numbers that a test's tree cannot have: making a node takes root.
    #[cfg(test)]
    #[serde(skip)]
    pretended: block_device::Pretended,
}

impl Host {
    /// The machine that this program runs on.
    pub fn this_machine() -> Host {
        Host::at("/")
    }

    /// A machine whose files lie below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Host {
        Host {
            root: root.into(),
            boot_id: OnceLock::new(),
            runtime_directory: OnceLock::new(),
            #[cfg(test)]
            pretended: block_device::Pretended::default(),
        }
    }

    /// Where a file of the machine is. `absolute` is its path as the machine has it.
    pub(crate) fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        if self.is_this_machine() && absolute.is_absolute() {
            return absolute.into();
        }
        self.root
            .join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    fn is_this_machine(&self) -> bool {
        self.root.as_os_str() == "/"
    }

    /// `/run/vmstage`, or `/var/run/vmstage` where there is no `/run` (before 2011).
    pub(crate) fn runtime_directory(&self) -> PathBuf {
        let found = || {
            let run = self.path("/run");
            let base = if run.is_dir() {
                run
            } else {
                self.path("/var/run")
            };
            base.join("vmstage")
        };
        self.runtime_directory.get_or_init(found).clone()
    }

    /// The kernel's identifier of this boot (random(4)); there since Linux 2.4.
    ///
    /// # Errors
    ///
    /// That it cannot be read.
    pub(crate) fn boot_id(&self) -> Result<String> {
        if let Some(id) = self.boot_id.get() {
            return Ok(id.clone());
        }
        let file = "/proc/sys/kernel/random/boot_id";
        let id = kernel_file::read_text(self.path(file))
            .with_context(|| format!("cannot read {file}"))?;
        Ok(self.boot_id.get_or_init(|| id.trim().to_string()).clone())
    }
}
