//! What is wrong with a configuration.

use std::fmt;
use std::io;
use std::path::Path;

/// What is wrong with a configuration, in one line: file, line, key, and why.
#[derive(Debug, Clone)]
pub struct ConfigError {
    text: String,
    permission: bool,
}

impl ConfigError {
    pub(crate) fn new(text: String) -> ConfigError {
        ConfigError {
            text,
            permission: false,
        }
    }

    /// That the file cannot be read.
    pub(crate) fn unreadable(file: &Path, error: &io::Error) -> ConfigError {
        ConfigError {
            text: format!("cannot read {}: {error}", file.display()),
            permission: error.kind() == io::ErrorKind::PermissionDenied,
        }
    }

    /// Whoever asks may not read the file.
    pub(crate) fn is_about_permission(&self) -> bool {
        self.permission
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConfigError {}
