//! What the reader and the publisher of Machine/Job Features share.

use std::path::Path;

pub(crate) const MACHINE: &str = "/etc/machinefeatures";
pub(crate) const JOB: &str = "/etc/jobfeatures";

/// Lies in a directory that this program publishes in, and says which values are its own:
/// whoever provides the VM may put others there at any time, which are left alone.
pub(crate) const MARK: &str = ".vmstage";

/// Whether the features in this directory are this program's own: what it says itself
/// must not come back to it as news.
pub(crate) fn are_own(directory: &Path) -> bool {
    directory.join(MARK).exists()
}
