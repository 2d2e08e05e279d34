//! What goes when Scientific Linux 5 goes.

pub mod mtab;
pub mod vdso;
