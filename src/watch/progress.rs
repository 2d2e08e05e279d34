//! What `watch` has done and seen of the clocks already, kept across a crash, so that
//! nothing is done twice and no clock is set unseen.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::due::{Done, Trust};
use crate::host::{Host, atomic_file};
use crate::logging::Notices;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    #[serde(skip)]
    file: PathBuf,
    /// Of another boot it says nothing.
    boot_id: String,
    pub done: Done,
    /// As it was a minute ago or less; None where nothing was written in this boot.
    pub trust: Option<Trust>,
}

impl Progress {
    /// What was done in this boot.
    pub fn read(host: &Host) -> Progress {
        let file = host.runtime_directory().join("watch.json");
        let boot_id = host.boot_id().unwrap_or_default();
        let kept: Option<Progress> = fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        match kept {
            Some(kept) if kept.boot_id == boot_id => Progress { file, ..kept },
            _ => Progress {
                file,
                boot_id,
                ..Progress::default()
            },
        }
    }

    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub fn has_drained(&self) -> bool {
        self.done.drained
    }

    /// Writes down what was done, if that is new, and once a minute how the clocks stand.
    pub fn keep(&mut self, notices: &Notices, done: Done, trust: Trust) {
        let clocks_are_kept = self.trust.is_some_and(|kept| kept.stands_for(&trust));
        if self.done == done && clocks_are_kept {
            return;
        }
        let is_done_anew = self.done != done;
        self.done = done;
        self.trust = Some(trust);
        let written = serde_json::to_vec(self)
            .map_err(Into::into)
            .and_then(|text| match is_done_anew {
                true => atomic_file::replace(&self.file, &text, 0o600),
                // Often, and not worth waiting for the disk.
                false => atomic_file::replace_if_changed(&self.file, &text, 0o600).map(drop),
            });
        if let Err(e) = written {
            notices.warn_once(format!(
                "cannot write {}: {e}; after a crash, what is done may be done again",
                self.file.display()
            ));
        }
    }
}
