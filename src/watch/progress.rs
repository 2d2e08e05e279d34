//! What `watch` has done already, kept across a crash, so that nothing is done twice.

use std::fs;
use std::path::PathBuf;

use log::warn;
use serde::{Deserialize, Serialize};

use super::due::Done;
use crate::atomic_file;
use crate::status::{self, runtime_directory};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Of another boot it says nothing.
    boot_id: String,
    pub done: Done,
}

fn path() -> PathBuf {
    runtime_directory().join("watch.json")
}

impl Progress {
    /// What was done in this boot.
    pub fn read() -> Progress {
        let boot_id = status::boot_id().unwrap_or_default();
        let kept: Option<Progress> = fs::read(path())
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        match kept {
            Some(kept) if kept.boot_id == boot_id => kept,
            _ => Progress {
                boot_id,
                done: Done::default(),
            },
        }
    }

    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub fn has_drained(&self) -> bool {
        self.done.drained
    }

    /// Writes down what was done, if that is new.
    pub fn keep(&mut self, done: Done) {
        if self.done == done {
            return;
        }
        self.done = done;
        let written = serde_json::to_vec(self)
            .map_err(Into::into)
            .and_then(|text| atomic_file::replace(&path(), &text, 0o600));
        if let Err(e) = written {
            warn!(
                "cannot write {}: {e}; after a crash, what is done may be done again",
                path().display()
            );
        }
    }
}
