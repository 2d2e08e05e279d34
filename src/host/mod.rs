//! The machine that this program runs on: its files, its block devices, its programs.

pub mod atomic_file;
pub mod block_device;
pub mod kernel_calls;
pub mod kernel_file;
pub mod locks;
pub mod mount_table;
pub mod program;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// `/run/vmstage`, or `/var/run/vmstage` where there is no `/run` (before 2011).
pub fn runtime_directory() -> PathBuf {
    let run = Path::new("/run");
    let base = if run.is_dir() {
        run
    } else {
        Path::new("/var/run")
    };
    base.join("vmstage")
}

/// The kernel's identifier of this boot (random(4)); there since Linux 2.4.
pub fn boot_id() -> Result<String> {
    let file = "/proc/sys/kernel/random/boot_id";
    let id = kernel_file::read_text(file).with_context(|| format!("cannot read {file}"))?;
    Ok(id.trim().to_string())
}
