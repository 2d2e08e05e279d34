//! When this VM must be gone: limits, the first boot that lifetimes count from, and the
//! decision.

pub mod decide;
pub mod first_boot;
pub mod limit;
pub mod origin;
