//! What is wrong with a configuration.

use std::fmt;

/// What is wrong with a configuration, in one line: file, line, key, and why.
#[derive(Debug, Clone)]
pub struct ConfigError {
    pub(super) text: String,
    pub(super) permission: bool,
}

impl ConfigError {
    pub(super) fn new(text: String) -> ConfigError {
        ConfigError {
            text,
            permission: false,
        }
    }

    /// Whoever asks may not read the file.
    pub fn is_about_permission(&self) -> bool {
        self.permission
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConfigError {}
