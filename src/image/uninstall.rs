//! What takes vmstage out of an image again.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::enabling::{self, DEPEND_START, LOCAL_UNITS, OVERRIDE, SERVICE, WANTS};
use super::files::{self, CONFIGURATION, DIRECTORIES, DOCUMENTATION, PROGRAM, REPLACED};
use super::init::Init;
use super::old::{KEPT, RC_LOCAL};
use super::published;
use super::rc;
use super::replace::{self, CONFIGURATION_IS_NEW};
use super::root::{Kind, Root, TEMPORARY};
use super::step::{Step, Steps};
use crate::config::Config;
use crate::host::fstab::FSTAB;
use crate::host::regular_file::MIB;

/// What packages, tarball and `make install` put into the documentation, and `install` does not.
const OF_OTHER_WAYS: &str = "\
CHANGELOG.md COPYING.LGPL-2.1-or-later LICENSE-APACHE LICENSE-MIT copyright";

/// What is done, in this order, and what is left.
#[derive(Default)]
pub(crate) struct Plan {
    pub steps: Steps,
    /// What ends it, if all of the others could be taken: what is known of before goes.
    pub last: Vec<Step>,
    /// What stays and why, a line each.
    pub left: Vec<String>,
}

/// What takes out everything: first what others were told, the files before the state, so that
/// a boot in between finds no program, and last what was there before. What cannot be looked at
/// keeps nothing else from being undone.
pub(crate) fn plan(root: &Root, config: &Config) -> Plan {
    let mut plan = Plan {
        steps: published::to_take_back(root, config),
        ..Plan::default()
    };
    let steps = &mut plan.steps;
    steps.append(enabling::to_undo(root));
    steps.steps.extend(files(root, &mut plan.left));
    steps.append(half_written(root));
    let (state, left) = published::state_to_remove(root);
    steps.append(state);
    plan.left.extend(left);
    let mut all_is_known = true;
    match replace::kept(root, config.staging.mount_point.as_path()) {
        Ok(kept) => {
            steps.steps.extend(kept.steps);
            plan.left.extend(kept.left);
        }
        Err(e) => {
            all_is_known = !has_replaced(root);
            let what = "what was there before is not put back";
            steps.failed.push(match all_is_known {
                true => format!("{e:#}"),
                false => format!("{what}: {e:#}"),
            });
        }
    }
    match directories(root) {
        Ok(last) if all_is_known => plan.last = last,
        Ok(_) => {}
        Err(e) => plan.steps.failed.push(format!("{e:#}")),
    }
    plan
}

/// Whether an installation took out anything: it has kept it beside, or written it down.
fn has_replaced(root: &Root) -> bool {
    let is_of_the_configuration =
        |line: &str| line.as_bytes() == CONFIGURATION_IS_NEW.trim_ascii_end();
    let is_record =
        |line: &str| !line.is_empty() && !line.starts_with('/') && !is_of_the_configuration(line);
    let mut lists = [DIRECTORIES, REPLACED].into_iter();
    let changed = [FSTAB, RC_LOCAL[0], RC_LOCAL[1], DEPEND_START].map(Path::new);
    let scripts = Init::by_scripts(root).scripts();
    let directories = changed.iter().filter_map(|path| {
        let real = root.real_path(path).ok()?;
        Some(real.parent()?.to_path_buf())
    });
    let mut directories = directories.chain([scripts.into()]);
    lists.any(|list| root.text(list).lines().any(is_record))
        || directories.any(|directory| {
            let names = root.names(&directory).unwrap_or_default();
            let mut names = names.iter().map(|name| name.to_string_lossy());
            names.any(|name| name.contains(KEPT))
        })
}

/// Where the files are that `install` brings, for an init.
fn paths_of_files(init: Init) -> Vec<PathBuf> {
    let paths = files::FILES.iter().map(|file| file.path(init).into());
    paths.collect()
}

fn files(root: &Root, left: &mut Vec<String>) -> Vec<Step> {
    let init = Init::by_scripts(root);
    let mut paths = paths_of_files(init);
    for name in OF_OTHER_WAYS.split(' ') {
        paths.push(Path::new(DOCUMENTATION).join(name));
    }
    let configuration = Path::new(CONFIGURATION);
    let is_ours = match root.read(DIRECTORIES.as_ref(), MIB) {
        Ok(Some(list)) => list
            .split_inclusive(|byte| *byte == b'\n')
            .any(|line| line == CONFIGURATION_IS_NEW),
        // It came another way, together with the program.
        Ok(None) => root.is(Kind::File, PROGRAM),
        Err(_) => false,
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
    steps.filter(|step| step.is_pending(root)).collect()
}

/// What a run that was killed has left beside the files that it was about to write.
fn half_written(root: &Root) -> Steps {
    let init = Init::by_scripts(root);
    let mut paths = paths_of_files(init);
    let others = [
        PROGRAM,
        CONFIGURATION,
        DIRECTORIES,
        FSTAB,
        DEPEND_START,
        OVERRIDE,
    ];
    paths.extend(others.map(PathBuf::from));
    paths.extend(RC_LOCAL.map(PathBuf::from));
    for directory in [WANTS, LOCAL_UNITS, init.scripts()] {
        paths.push(Path::new(directory).join(SERVICE));
    }
    for level in rc::LEVELS {
        paths.push(Path::new(&init.run_level(level)).join(SERVICE));
    }
    // Where a link leads to, that is written.
    let mut directories: Vec<PathBuf> = Vec::new();
    for path in paths {
        let real = root.real_path(&path).unwrap_or(path);
        let directory = real.parent().map(|above| root.real_path(above));
        if let Some(Ok(directory)) = directory
            && !directories.contains(&directory)
        {
            directories.push(directory);
        }
    }
    let mut steps = Steps::default();
    for directory in directories {
        let names = root.names(&directory);
        let names = names.with_context(|| root.cannot("read", &directory));
        let is_left = |name: &OsString| {
            let name = name.as_bytes();
            name.starts_with(b".") && name.ends_with(TEMPORARY.as_bytes())
        };
        let removed = |names: Vec<OsString>| {
            let names = names.into_iter().filter(is_left);
            names
                .map(|name| Step::Remove(directory.join(name)))
                .collect()
        };
        steps.add(names.map(removed));
    }
    steps
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
