//! Finding the scratch disk: which block devices there are, what is on them, and
//! which one it is.

pub mod choose;
pub mod inventory;
pub mod mkfs;
pub mod observe;
pub mod search;
pub mod signature;
