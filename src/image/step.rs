//! What is to be done to an image: a list, which can be shown before it is carried out.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::root::{Attributes, Change, Kind, Root};
use crate::host::regular_file::MIB;
use crate::report::condor;

/// One change of an image's tree. Each can be carried out again.
pub(crate) enum Step {
    /// A file of vmstage's own.
    Write {
        path: PathBuf,
        mode: u32,
        content: Cow<'static, [u8]>,
    },
    /// A file of somebody else's, with another content.
    Rewrite {
        path: PathBuf,
        content: Vec<u8>,
    },
    /// A copy of a file beside it. One that is there stays: it is the older one.
    KeepCopy {
        path: PathBuf,
        to: PathBuf,
    },
    /// A file gets another name, and cannot be run any more.
    SetAside {
        path: PathBuf,
        to: PathBuf,
    },
    /// A file gets its old name again, and its mode and owner.
    PutBack {
        path: PathBuf,
        from: PathBuf,
        mode: u32,
        owner: (u32, u32),
    },
    /// A file is what it was: the copy that was kept takes its place.
    Restore {
        path: PathBuf,
        from: PathBuf,
    },
    Link {
        path: PathBuf,
        text: PathBuf,
    },
    Remove(PathBuf),
    /// A directory that goes if it is empty.
    RemoveEmpty(PathBuf),
    /// A directory of vmstage's own, with all that is in it.
    RemoveTree(PathBuf),
}

/// What is to be done, and of what cannot be looked at the reasons, in sentences: it keeps nothing
/// else from being done.
#[derive(Default)]
pub(crate) struct Steps {
    pub steps: Vec<Step>,
    pub failed: Vec<String>,
}

impl Steps {
    pub(crate) fn add(&mut self, part: Result<Vec<Step>>) {
        match part {
            Ok(steps) => self.steps.extend(steps),
            Err(e) => self.failed.push(format!("{e:#}")),
        }
    }

    pub(crate) fn append(&mut self, other: Steps) {
        self.steps.extend(other.steps);
        self.failed.extend(other.failed);
    }
}

impl Step {
    /// What it changes.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Step::Write { path, .. }
            | Step::Rewrite { path, .. }
            | Step::KeepCopy { path, .. }
            | Step::SetAside { path, .. }
            | Step::PutBack { path, .. }
            | Step::Restore { path, .. }
            | Step::Link { path, .. }
            | Step::Remove(path)
            | Step::RemoveEmpty(path)
            | Step::RemoveTree(path) => path,
        }
    }

    /// Whether it takes HTCondor's drop-in away.
    pub(crate) fn is_of_htcondor(&self) -> bool {
        matches!(self, Step::Remove(path) if path.starts_with(condor::DIRECTORY))
    }

    /// Whether there is anything to do. What cannot be looked at is tried.
    pub(crate) fn is_pending(&self, root: &Root) -> bool {
        match self {
            Step::Write {
                path,
                mode,
                content,
            } => {
                let has_mode = root.entry(path).ok().flatten();
                let has_mode = has_mode.is_some_and(|entry| entry.mode == *mode);
                let present = root.read(path, content.len() as u64).ok().flatten();
                !has_mode || present.as_deref() != Some(content)
            }
            Step::Link { path, text } => {
                !matches!(root.link_text(path), Ok(Some(present)) if present == *text)
            }
            Step::Remove(path) => !matches!(root.entry_itself(path), Ok(None)),
            Step::RemoveEmpty(path) => !matches!(root.names(path), Ok(names) if !names.is_empty()),
            _ => true,
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    ///
    /// In a sentence.
    pub(crate) fn carry_out(&self, root: &Root) -> Result<Change> {
        match self {
            Step::Write {
                path,
                mode,
                content,
            } => root.write(path, content, Attributes::Ours { mode: *mode }),
            // A step before this one may have removed it.
            Step::Rewrite { path, .. } if !root.is(Kind::File, path) => Ok(Change::None),
            Step::Rewrite { path, content } => root.write(path, content, Attributes::AsBefore),
            Step::KeepCopy { path, to } => keep_copy(root, path, to),
            Step::SetAside { path, to } => set_aside(root, path, to),
            Step::PutBack {
                path,
                from,
                mode,
                owner,
            } => {
                root.set_mode(from, *mode, *owner)?;
                root.rename(from, path)
            }
            Step::Restore { path, from } => root.rename(from, path),
            Step::Link { path, text } => root.link(path, text),
            Step::Remove(path) => root.remove(path),
            Step::RemoveEmpty(path) => root.remove_empty(path),
            Step::RemoveTree(path) => root.remove_tree(path),
        }
    }
}

impl fmt::Display for Step {
    /// As a line of a list: `write /usr/sbin/vmstage (0755)`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Step::Write { path, mode, .. } => write!(f, "write {} ({mode:04o})", path.display()),
            Step::Rewrite { path, .. } => write!(f, "change {}", path.display()),
            Step::KeepCopy { path, to } => {
                write!(f, "keep {} as {}", path.display(), to.display())
            }
            Step::SetAside { path: from, to }
            | Step::PutBack { from, path: to, .. }
            | Step::Restore { from, path: to } => {
                write!(f, "rename {} to {}", from.display(), to.display())
            }
            Step::Link { path, text } => write!(f, "link {} to {}", path.display(), text.display()),
            Step::Remove(path) => write!(f, "remove {}", path.display()),
            Step::RemoveTree(path) => write!(f, "remove {} with all in it", path.display()),
            Step::RemoveEmpty(path) => write!(f, "remove {}, if it is empty", path.display()),
        }
    }
}

fn keep_copy(root: &Root, path: &Path, copy: &Path) -> Result<Change> {
    if root.entry_itself(copy)?.is_some() {
        return Ok(Change::None);
    }
    // What comes in its place is another file, and this one stays what it is.
    if root.name_twice(path, copy) {
        return Ok(Change::Done);
    }
    copy_of(root, path, copy, 0o7777)
}

fn copy_of(root: &Root, path: &Path, copy: &Path, modes: u32) -> Result<Change> {
    let entry = root.entry(path)?;
    let (mode, owner) = entry.map_or((0o644, (0, 0)), |entry| {
        (entry.mode, (entry.uid, entry.gid))
    });
    let mode = mode & modes;
    root.write(
        copy,
        &content(root, path)?,
        Attributes::Theirs { mode, owner },
    )
}

/// Nobody can run a file that was set aside. One that was set aside and could still be run, since
/// a run was killed then, is completed.
fn set_aside(root: &Root, path: &Path, to: &Path) -> Result<Change> {
    const NOT_TO_BE_RUN: u32 = 0o666;
    match root.entry(path)? {
        // Under its other names it is to be run on.
        Some(entry) if entry.has_other_names => {
            copy_of(root, path, to, NOT_TO_BE_RUN)?;
            return root.remove(path);
        }
        Some(_) => {
            root.rename(path, to)?;
        }
        None => {}
    }
    let Some(entry) = root.entry(to)? else {
        return Ok(Change::None);
    };
    root.set_mode(to, entry.mode & NOT_TO_BE_RUN, (entry.uid, entry.gid))?;
    Ok(Change::Done)
}

fn content(root: &Root, path: &Path) -> Result<Vec<u8>> {
    let content = root.read(path, MIB);
    let content = content.with_context(|| root.cannot("read", path))?;
    content.with_context(|| root.cannot("find", path))
}
