//! vmstage, the in-guest boot agent of a VM image.
//!
//! At boot it finds the VM's scratch disk ([`disk`]), mounts it and makes the
//! directories that jobs need ([`staging`]), and tells everything that wants to know
//! ([`report`]). [`command::boot`] is that story in order; the types on the way carry its
//! promise:
//!
//! ```text
//! inventory + signatures ──choose──▶ Accepted ──mount──▶ Staged ──directories──▶ Ready
//! ```

pub mod backoff;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod deadline;
pub mod disk;
pub mod failure;
pub mod host;
pub mod http;
#[cfg(test)]
mod layers;
pub mod legacy;
pub mod logging;
pub mod metadata;
pub mod report;
pub mod staging;
pub mod status;
pub mod text;
pub mod url;
pub mod watch;
