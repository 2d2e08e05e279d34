//! Finding the scratch disk: which block devices there are, what is on them, and
//! which one it is.

pub mod blank;
pub(crate) mod choose;
mod content;
pub(crate) mod inventory;
mod libblkid;
pub(crate) mod mkfs;
pub(crate) mod observation;
pub(crate) mod observe;
pub(crate) mod reader;
pub(crate) mod reason;
pub(crate) mod signature;
