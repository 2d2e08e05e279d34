//! What follows the deadline.

pub mod clock;
pub mod day;
pub mod notices;
pub mod running;
