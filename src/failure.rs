//! What a command failed of, and its exit code.

use std::fmt;

use crate::config::ConfigError;

/// Why the machine is not ready.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong.
    Config(ConfigError),
    /// Of what was asked for on the command line.
    Usage(String),
    /// There is no usable disk.
    NoDevice(String),
    /// One was chosen and cannot be mounted.
    Mount(String),
    /// A disk was not any more what it had been accepted for.
    Changed(String),
    /// It is staged, and not every directory is as it was asked for.
    Directories(String),
    /// What has no exit code of its own.
    Other(anyhow::Error),
}

impl Failure {
    pub(crate) fn mount(error: anyhow::Error) -> Failure {
        Failure::Mount(format!("{error:#}"))
    }

    /// That of the program, which scripts go by.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Other(_) => 1,
            Failure::Usage(_) => 2,
            Failure::NoDevice(_) => 3,
            Failure::Mount(_) | Failure::Changed(_) => 4,
            Failure::Directories(_) => 5,
            Failure::Config(_) => 6,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Config(error) => write!(f, "the configuration is wrong: {error}"),
            Failure::Usage(text)
            | Failure::NoDevice(text)
            | Failure::Mount(text)
            | Failure::Changed(text)
            | Failure::Directories(text) => write!(f, "{text}"),
            Failure::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}
