//! One thing of which something is removed.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::image::below;
use crate::image::root::{Kind, Root};
use crate::image::step::Step;

/// What is done about one thing, and what of it stays.
#[derive(Default)]
pub(crate) struct Item {
    pub id: &'static str,
    pub steps: Vec<Step>,
    /// What stays and why, a line each.
    pub kept: Vec<String>,
    /// What could not be looked at, in sentences: it keeps nothing else from being done.
    pub failed: Vec<String>,
    pub way: Way,
}

/// How the steps of an item are carried out.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    #[default]
    AsTheyAre,
    /// As if nothing were mounted on the mount point.
    BelowTheMount,
    /// After cloud-init's own `clean`, where that is there and this system runs.
    AfterCloudInit,
}

/// What is asked for beyond what is always done.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wish {
    /// Logs, histories, `/tmp`, and who logged in.
    pub logs: bool,
    /// A spool of HTCondor that holds jobs.
    pub spool_with_jobs: bool,
    /// vmstage's own part and nothing else.
    pub own_part_only: bool,
}

/// What removes something, whatever it is.
pub(super) fn remove(root: &Root, path: PathBuf) -> Step {
    let entry = root.entry_itself(&path).ok().flatten();
    match entry.is_some_and(|entry| entry.kind == Kind::Directory) {
        true => Step::RemoveTree(path),
        false => Step::Remove(path),
    }
}

/// What became of an item.
#[derive(Serialize)]
pub(crate) struct Outcome {
    pub item: &'static str,
    pub done: Vec<String>,
    pub kept: Vec<String>,
    /// What could not be done, in sentences.
    pub failed: Vec<String>,
}

impl Item {
    pub(super) fn new(id: &'static str) -> Item {
        Item {
            id,
            ..Item::default()
        }
    }

    /// What could be looked at; nothing in the place of what could not, which is said.
    pub(super) fn known<T: Default>(&mut self, looked_at: Result<T>) -> T {
        looked_at.unwrap_or_else(|e| {
            self.failed.push(format!("{e:#}"));
            T::default()
        })
    }

    /// What would become of it.
    pub(crate) fn foreseen(&self) -> Outcome {
        Outcome {
            item: self.id,
            done: self.steps.iter().map(ToString::to_string).collect(),
            kept: self.kept.clone(),
            failed: self.failed.clone(),
        }
    }

    /// Carries it out. A step that fails keeps no other from being taken: what could be removed
    /// must not be in the image.
    pub(crate) fn carry_out(&self, root: &Root, mount_point: &Path) -> Outcome {
        let all = |root: &Root| {
            let why = |step: &Step| match step.carry_out(root) {
                Ok(_) => String::new(),
                Err(e) => format!("{e:#}"),
            };
            Ok(self.steps.iter().map(why).collect())
        };
        // A sentence for each step, empty where it is done.
        let results: Result<Vec<String>> = match self.way {
            // What cannot be looked behind is only said.
            _ if self.steps.is_empty() => Ok(Vec::new()),
            Way::BelowTheMount => below::in_root_file_system(root, mount_point, all),
            Way::AsTheyAre | Way::AfterCloudInit => all(root),
        };
        let mut outcome = self.foreseen();
        match results {
            Ok(results) => {
                let mut done = results.iter().map(String::is_empty);
                outcome.done.retain(|_| done.next() != Some(false));
                let failed = results.into_iter().filter(|why| !why.is_empty());
                outcome.failed.extend(failed);
            }
            Err(e) => {
                outcome.done.clear();
                outcome.failed.push(format!("{e:#}"));
            }
        }
        outcome
    }
}
