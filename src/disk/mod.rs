//! Finding the scratch disk: which block devices there are, what is on them, and
//! which one it is.

pub(crate) mod array;
pub mod blank;
mod candidate;
pub(crate) mod choose;
pub(crate) mod claimed;
pub(crate) mod combine;
mod content;
mod fstab_source;
pub(crate) mod identity;
pub(crate) mod inventory;
mod libblkid;
pub(crate) mod looked;
pub(crate) mod making;
pub(crate) mod mark;
pub(crate) mod mkfs;
pub(crate) mod observation;
pub(crate) mod observe;
mod queue;
pub(crate) mod reader;
pub(crate) mod reason;
pub(crate) mod signature;
pub(crate) mod superblock;
mod udev_link;
mod without_node;
