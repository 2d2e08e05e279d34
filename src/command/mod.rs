//! The commands: what each prints and returns.

pub mod boot;
mod configuration;
pub mod end;
pub mod install;
pub mod metadata;
pub mod probe;
pub mod status;
pub mod watch;
