//! What follows the deadline.

pub mod anew;
pub mod anothers;
pub mod clock;
pub mod day;
pub mod end;
pub mod notices;
pub mod running;
pub mod second;
