//! `vmstage plan`: on what the client of two generations printed, and on what is none of it.

pub mod flavor;
pub mod grid;
mod said;
