//! What follows the deadline.

pub mod clock;
pub mod day;
pub mod end;
pub mod running;
