pub mod atomic_file;
pub mod clock;
pub mod config;
pub mod deadline;
pub mod lease;
pub mod metadata;
pub mod status;
