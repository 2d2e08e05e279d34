//! Taking out what was there before vmstage, and putting it back.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::depend;
use super::enabling::{DEPEND_START, DEPEND_STOP, depend_text, rewritten};
use super::init::Init;
use super::old::{self, Found, What};
use super::rc;
use super::root::{Kind, Root};
use super::step::{Step, beside};
use crate::host::fstab::{FSTAB, Fstab};
use crate::host::regular_file::MIB;

/// What takes the old line of fstab, the seed's commands and the script out of the way, each
/// kept beside.
///
/// # Errors
///
/// That one of them cannot be read.
pub(crate) fn steps(root: &Root, init: Init, mount_point: &Path) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (path, old) in old_files(root)? {
        let new = without_old(&path, &old, mount_point);
        if new != old {
            steps.push(Step::KeepCopy(path.clone()));
            steps.push(Step::Rewrite { path, content: new });
        }
    }
    let script = old::script(init.scripts());
    if root.is(Kind::File, &script) {
        steps.push(Step::SetAside(script));
    }
    let links = rc::links(root, init)?;
    let strays = links.iter().filter(|link| link.service == old::SCRIPT);
    steps.extend(strays.map(|link| Step::Remove(link.path(init))));
    for file in [DEPEND_START, DEPEND_STOP] {
        if let Some(text) = depend_text(root, file)? {
            steps.extend(rewritten(file, &text, depend::without(&text, old::SCRIPT)));
        }
    }
    Ok(steps)
}

/// Something that was taken out.
pub(crate) enum Kept {
    /// It can take its place again.
    ToPutBack(Vec<Step>),
    /// What has its place was changed since.
    Changed(PathBuf),
}

/// What was kept beside.
///
/// # Errors
///
/// That something of it cannot be read.
pub(crate) fn kept(root: &Root, mount_point: &Path) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for (path, present) in old_files(root)? {
        let copy = beside(&path);
        let Some(old) = read(root, &copy)? else {
            continue;
        };
        kept.push(
            match without_old(&path, &old, mount_point) == present || old == present {
                true => Kept::ToPutBack(vec![
                    Step::Rewrite { path, content: old },
                    Step::Remove(copy),
                ]),
                false => Kept::Changed(copy),
            },
        );
    }
    let script = old::script(Init::by_scripts(root).scripts());
    let copy = beside(&script);
    if let Some(old) = read(root, &copy)? {
        kept.push(match read(root, &script)? {
            None => Kept::ToPutBack(vec![Step::PutBack {
                path: script,
                mode: 0o755,
            }]),
            Some(present) if present == old => Kept::ToPutBack(vec![Step::Remove(copy)]),
            Some(_) => Kept::Changed(copy),
        });
    }
    Ok(kept)
}

/// fstab and `rc.local`, without links, with their contents.
fn old_files(root: &Root) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for path in [FSTAB, old::RC_LOCAL[0], old::RC_LOCAL[1]].map(Path::new) {
        let Some(content) = read(root, path)? else {
            continue;
        };
        let real = root.real_path(path)?;
        if !files.iter().any(|(seen, _)| *seen == real) {
            files.push((real, content));
        }
    }
    Ok(files)
}

/// What is left of such a file.
fn without_old(path: &Path, content: &[u8], mount_point: &Path) -> Vec<u8> {
    let numbers: Vec<usize> = if path == Path::new(FSTAB) {
        let fstab = Fstab::parse(content);
        let is_old = |found| matches!(found, Found::ByName | Found::ByTag);
        old::fstab_lines(&fstab, mount_point)
            .filter(|(_, found)| is_old(*found))
            .map(|(line, _)| line.number)
            .collect()
    } else {
        old::commands(content, mount_point)
            .iter()
            .filter(|command| command.what == What::Seed)
            .map(|command| command.number)
            .collect()
    };
    old::without_lines(content, &numbers)
}

fn read(root: &Root, path: &Path) -> Result<Option<Vec<u8>>> {
    root.read(path, MIB)
        .with_context(|| root.cannot("read", path))
}
