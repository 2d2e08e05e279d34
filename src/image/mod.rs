//! The image's life: what vmstage puts into one, and how it gets out again.
//!
//! All of it works on a [`root::Root`], the directory tree of a system that need not run: a
//! mounted image, a chroot, or the machine itself. Nothing here touches the boot.

pub(crate) mod below;
mod by_commands;
pub(crate) mod check;
mod condor_config;
pub(crate) mod depend;
pub(crate) mod elf;
pub(crate) mod enabling;
pub(crate) mod files;
mod inflate;
pub(crate) mod init;
pub(crate) mod install;
pub(crate) mod old;
pub(crate) mod packages;
pub(crate) mod published;
pub(crate) mod rc;
pub(crate) mod replace;
pub(crate) mod root;
pub(crate) mod running;
pub(crate) mod seal;
mod shell;
pub(crate) mod step;
pub(crate) mod uninstall;
mod units;
