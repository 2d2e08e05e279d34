//! vmstage, the in-guest boot agent of a VM image.
//!
//! At boot it finds the VM's scratch disk ([`disk`]), mounts it and makes the
//! directories that jobs need ([`staging`]), and tells everything that wants to know
//! ([`report`]). [`boot`] is that story in order; the types on the way carry its
//! promise:
//!
//! ```text
//! inventory + signatures ──choose──▶ Accepted ──mount──▶ Staged ──directories──▶ Ready
//! ```

pub mod atomic_file;
pub mod boot;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deadline;
pub mod disk;
pub mod kernel_file;
pub mod lease;
pub mod metadata;
pub mod probe;
pub mod program;
pub mod report;
pub mod staging;
pub mod status;
pub mod table;
pub mod turn;
pub mod units;
pub mod vdso;
pub mod watch;
