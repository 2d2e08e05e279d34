//! What takes vmstage out of an image again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::files::{self, CONFIGURATION, DIRECTORIES, DOCUMENTATION, PROGRAM, REPLACED};
use super::init::Init;
use super::replace::{self, CONFIGURATION_IS_NEW};
use super::root::{Kind, Root};
use super::step::Step;
use super::{enabling, published};
use crate::config::Config;
use crate::host::regular_file::MIB;

/// What packages, tarball and `make install` put into the documentation, and `install` does not.
const OF_OTHER_WAYS: &str = "\
CHANGELOG.md COPYING.LGPL-2.1-or-later LICENSE-APACHE LICENSE-MIT copyright";

/// What is done, in this order, and what is left.
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    /// What stays and why, a line each.
    pub left: Vec<String>,
}

/// What takes out everything: first what others were told, the files before the state, so that
/// a boot in between finds no program, and last what was there before.
///
/// # Errors
///
/// That something cannot be looked at.
pub(crate) fn plan(root: &Root, config: &Config) -> Result<Plan> {
    let mut left = Vec::new();
    let mut steps = published::to_take_back(root, config)?;
    steps.extend(enabling::to_undo(root)?);
    steps.extend(files(root, &mut left)?);
    steps.extend(published::state_to_remove(root)?);
    let kept = replace::kept(root, config.staging.mount_point.as_path())?;
    steps.extend(kept.steps);
    left.extend(kept.left);
    steps.extend(directories(root)?);
    Ok(Plan { steps, left })
}

fn files(root: &Root, left: &mut Vec<String>) -> Result<Vec<Step>> {
    let init = Init::by_scripts(root);
    let mut paths: Vec<PathBuf> = files::FILES
        .iter()
        .map(|file| file.path(init).into())
        .collect();
    for name in OF_OTHER_WAYS.split(' ') {
        paths.push(Path::new(DOCUMENTATION).join(name));
    }
    let configuration = Path::new(CONFIGURATION);
    let list = root.read(DIRECTORIES.as_ref(), MIB)?;
    let is_ours = match list {
        Some(list) => {
            let mut lines = list.split_inclusive(|byte| *byte == b'\n');
            lines.any(|line| line == CONFIGURATION_IS_NEW)
        }
        // It came another way, together with the program.
        None => root.is(Kind::File, PROGRAM),
    };
    match root.read(configuration, MIB) {
        Ok(Some(content)) if content == files::shipped_configuration() => match is_ours {
            true => paths.push(configuration.into()),
            false => left.push(format!("{CONFIGURATION} stays: it was there before")),
        },
        Ok(None) => {}
        _ => left.push(format!("{CONFIGURATION} stays: it was changed")),
    }
    paths.push(PROGRAM.into());
    let steps = paths.into_iter().map(Step::Remove);
    Ok(steps.filter(|step| step.is_pending(root)).collect())
}

/// What removes the directories that `install` made, the innermost first, and its list of them
/// before the directory that this is in.
fn directories(root: &Root) -> Result<Vec<Step>> {
    let list = root.read(DIRECTORIES.as_ref(), MIB)?.unwrap_or_default();
    let made = list
        .split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"/"));
    let made = made.rev().map(|line| Path::new(OsStr::from_bytes(line)));
    let (outer, inner): (Vec<&Path>, Vec<&Path>) =
        made.partition(|made| Path::new(DOCUMENTATION).starts_with(made));
    let mut steps: Vec<Step> = inner.into_iter().map(remove_empty).collect();
    let lists = [DIRECTORIES, REPLACED].map(|list| Step::Remove(list.into()));
    steps.extend(lists.into_iter().filter(|step| step.is_pending(root)));
    let own = Path::new(DOCUMENTATION);
    if root.is(Kind::Directory, own) {
        steps.push(remove_empty(own));
    }
    steps.extend(outer.into_iter().map(remove_empty));
    Ok(steps)
}

fn remove_empty(directory: &Path) -> Step {
    Step::RemoveEmpty(directory.into())
}
