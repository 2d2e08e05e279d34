//! From an accepted device to a scratch disk that jobs can use.

pub(crate) mod acquire;
pub mod directories;
pub(crate) mod mount;
pub(crate) mod mount_point;
mod options;
mod rehearse;
pub mod staged;

use std::path::Path;
use std::time::Duration;

use crate::config::Staging;
use crate::host::Host;
use crate::host::block_device::Number;
use crate::host::bounded::Limit;
use crate::host::progress::Progress;
use staged::Staged;

/// However much the disk moves, mounting and making a file system are given up after this
/// time: systemd's unit gives the whole boot ten minutes.
const MOST: Duration = Duration::from_secs(9 * 60);

/// Replaying a large journal and making a file system on an old kernel take minutes on a disk
/// that is well: it is given up when nothing moves on it.
fn limit_of(host: &Host, device: Number, config: &Staging) -> Limit {
    Limit::without(Progress::of(host, device, config.device_timeout), MOST)
}

/// The limit for work on what is staged. Where that is no block device there is nothing to
/// see moving, and the whole time counts.
pub(crate) fn limit_on(host: &Host, staged: &Staged, config: &Staging) -> Limit {
    match host.block_number(Path::new(staged.device())) {
        Some(device) => limit_of(host, device, config),
        None => Limit::after(MOST),
    }
}
