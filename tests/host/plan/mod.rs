//! `vmstage plan`: on what the client of two generations printed, and on what is none of it.

pub mod expire;
pub mod flavor;
pub mod grid;
pub mod image;
pub mod said;
pub mod snapshot;
pub mod stdin;
