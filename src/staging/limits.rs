//! How long work on a disk may take.

use std::time::Duration;

use crate::config::Staging;
use crate::host::Host;
use crate::host::block_device::Number;
use crate::host::bounded::Limit;
use crate::host::progress::Progress;

/// However much the disk moves, mounting and making a file system are given up after this
/// time: systemd's unit gives the whole boot ten minutes.
pub(super) const MOST: Duration = Duration::from_secs(9 * 60);

/// How long the looks of other processes at a disk are waited for, however short
/// `staging.wait` is: each takes milliseconds, but there may be several.
pub(crate) const FOR_A_LOOK: Duration = Duration::from_secs(3);

/// How often it is seen whether a disk is free for one.
pub(crate) const LOOK_RETRY: Duration = Duration::from_millis(50);

/// Replaying a large journal and making a file system on an old kernel take minutes on a disk
/// that is well: it is given up when nothing moves on it.
pub(super) fn limit_of(host: &Host, device: Number, config: &Staging) -> Limit {
    Limit::without(Progress::of(host, device, config.device_timeout), MOST)
}
