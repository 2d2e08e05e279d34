//! The status document: everything that is known about this boot, in one file.

mod build;
mod document;
mod store;

pub use document::*;
pub(crate) use store::{lock, path};
