//! The commands: what each prints and returns.

pub mod boot;
pub mod check;
mod configuration;
pub mod end;
mod image;
pub mod install;
pub mod metadata;
pub mod plan;
pub mod probe;
pub mod seal;
pub mod status;
pub mod watch;
