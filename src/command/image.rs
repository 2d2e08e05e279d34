//! What the commands for images share.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::cli;
use crate::config::ConfigError;
use crate::failure::Failure;
use crate::host::Host;
use crate::image::root::{Root, SILENT, SILENT_CURE};
use crate::image::running;
use crate::text;

/// The machine, where a tree is that of the system that runs: neither an image nor a chroot.
pub(super) fn runs<'a>(root: &Root, host: &'a Host) -> Option<&'a Host> {
    (root.is_own() && running::is_of_init(host)).then_some(host)
}

/// An image's, which is not to be taken for that of this machine.
pub(super) fn wrong_configuration(root: &Root, wrong: &ConfigError) -> Failure {
    let image = match root.is_own() {
        true => String::new(),
        false => format!("in the image {}, ", root.path().display()),
    };
    Failure::Config(ConfigError::new(format!(
        "{image}{wrong}; nothing was changed"
    )))
}

/// What did not answer, in sentences: what the system has there is not known. What is on the mount
/// point is none of it.
pub(super) fn not_looked_at(root: &Root, mount_point: &Path) -> Vec<String> {
    let scratch = root.real(mount_point);
    let silent = root.silent_places().into_iter();
    let silent = silent.filter(|place| !place.starts_with(&scratch));
    let sentences = silent.map(|place| format!("{} {SILENT}: {SILENT_CURE}", place.display()));
    sentences.collect()
}

/// A document for scripts.
///
/// # Errors
///
/// Likewise.
pub(super) fn print_json(document: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(document)?;
    cli::print(&(text::printable_json(&json) + "\n"))
}
