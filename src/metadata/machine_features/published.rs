//! What the reader and the publisher of Machine/Job Features share.

use std::collections::BTreeSet;
use std::path::Path;

use crate::host::regular_file::{self, MIB};

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

/// The keys and values that this program published in a directory, by its own list of them.
pub(crate) fn own_values(directory: &Path) -> BTreeSet<(String, String)> {
    values_in(&regular_file::read_text(&directory.join(MARK), MIB).unwrap_or_default())
}

/// Likewise, by the text of that list.
pub(crate) fn values_in(mark: &str) -> BTreeSet<(String, String)> {
    mark.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}
