//! What goes when Scientific Linux 5 goes.

pub(crate) mod mtab;
pub mod vdso;
