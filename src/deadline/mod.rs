//! When this VM must be gone: limits, the first boot that lifetimes count from, and the
//! decision.

#[cfg_attr(not(test), expect(dead_code))]
pub(crate) mod clock_trust;
pub mod decide;
pub mod first_boot;
pub mod limit;
pub mod origin;
