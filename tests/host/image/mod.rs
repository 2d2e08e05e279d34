//! What is done to images: directory trees, which need not be run for it.

pub mod install;
mod old;
pub mod overlay;
pub mod uninstall;
