//! What is decided before a VM is launched, from what people already have: the JSON that
//! `openstack … -f json` prints. No network and no credentials; [`input`] alone reads files.

pub(crate) mod expire;
pub(crate) mod flavor;
pub(crate) mod flavors;
pub(crate) mod grid;
pub(crate) mod image;
mod images;
pub(crate) mod input;
mod properties;
mod servers;
pub(crate) mod shell;
pub(crate) mod snapshot;

use serde_json::Value;

use crate::text;

/// What a command prints on standard output, and its exit code.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) exit_code: u8,
    /// For standard error.
    pub(crate) warnings: Vec<String>,
}

pub(crate) const FOUND: u8 = 0;

/// A document for programs.
fn json(value: &Value) -> String {
    // Alternate Display is pretty, and does not fail.
    text::printable_json(&format!("{value:#}")) + "\n"
}
