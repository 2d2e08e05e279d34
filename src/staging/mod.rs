//! From an accepted device to a scratch disk that jobs can use.

pub mod acquire;
pub mod directories;
pub mod mount;
pub mod mount_point;
