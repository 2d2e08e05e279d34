//! Finding the scratch disk: which block devices there are, what is on them, and
//! which one it is.

pub mod blank;
pub mod choose;
mod content;
pub mod inventory;
mod libblkid;
pub mod mkfs;
pub mod observation;
pub mod observe;
pub(crate) mod reader;
pub mod reason;
pub mod signature;
