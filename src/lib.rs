pub mod atomic_file;
pub mod clock;
pub mod config;
pub mod status;
pub mod vdso;
