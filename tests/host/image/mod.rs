//! What is done to images: directory trees, which need not be run for it.

pub mod check;
pub mod install;
mod old;
pub mod overlay;
pub mod replace;
pub mod seal;
pub mod silent;
pub mod uninstall;
