//! The status document: everything that is known about this boot, in one file.

mod build;
mod document;
mod resources;
mod store;

pub use document::*;
#[cfg(test)]
pub(crate) use resources::Asked;
pub(crate) use resources::{Amounts, Resource, Resources};
pub(crate) use store::{lock, path};
