//! From an accepted device to a scratch disk that jobs can use.

pub(crate) mod acquire;
pub(crate) mod by_somebody;
pub(crate) mod directories;
mod disk_lock;
pub(crate) mod label;
pub(crate) mod limits;
pub(crate) mod look;
pub(crate) mod mark;
pub(crate) mod mount;
pub(crate) mod mount_point;
mod options;
mod rehearse;
mod root_directory;
pub(crate) mod staged;
