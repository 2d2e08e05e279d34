//! vmstage, the in-guest boot agent of a VM image.
//!
//! At boot it finds the VM's scratch disk (`disk`), mounts it and makes the
//! directories that jobs need (`staging`), and tells everything that wants to know
//! (`report`). [`command::boot`] is that story in order; the types on the way carry its
//! promise:
//!
//! ```text
//! inventory + signatures ──choose──▶ Accepted ──mount──▶ Staged ──directories──▶ Ready
//! ```

// What only this crate needs is pub(crate), so that the compiler finds what is dead.
#![deny(unreachable_pub)]

pub(crate) mod backoff;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod deadline;
pub mod disk;
#[cfg(test)]
mod documentation;
pub mod failure;
pub mod host;
pub mod http;
pub(crate) mod image;
#[cfg(test)]
mod layers;
pub mod legacy;
pub mod logging;
pub mod metadata;
pub(crate) mod plan;
pub mod report;
pub(crate) mod resources;
pub(crate) mod staging;
pub mod status;
pub(crate) mod text;
pub(crate) mod url;
pub mod watch;
