//! When this VM must be gone: limits, the first boot that lifetimes count from, and the
//! decision.

pub(crate) mod clock_trust;
pub mod decide;
pub mod first_boot;
pub(crate) mod identity;
pub(crate) mod ledger;
pub mod limit;
pub mod origin;
