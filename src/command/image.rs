//! What the commands for images share.

use crate::host::Host;
use crate::image::root::Root;
use crate::image::running;

/// The machine, where a tree is that of the system that runs: neither an image nor a chroot.
pub(super) fn runs<'a>(root: &Root, host: &'a Host) -> Option<&'a Host> {
    (root.is_own() && running::is_of_init(host)).then_some(host)
}
