//! When this VM must be gone.
//!
//! The [`ledger`] holds what the sources said, the [`follower`] joins it with the first boot,
//! the clocks and the configuration to a decision. All of it is pure but `records`.

pub(crate) mod clock_trust;
mod confirm;
pub mod decide;
pub(crate) mod due;
pub mod first_boot;
pub(crate) mod follower;
pub(crate) mod identity;
pub mod ledger;
pub mod limit;
#[cfg(test)]
mod lives;
pub(crate) mod order;
pub mod origin;
mod over;
pub(crate) mod records;
pub(crate) mod site_grace;
