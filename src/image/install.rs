//! What puts vmstage into an image and enables it there.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::elf::Machine;
use super::enabling::{self, Enabling};
use super::files::{self, CONFIGURATION, DIRECTORIES, DOCUMENTATION, PROGRAM};
use super::init::Init;
use super::old::{self, What};
use super::packages;
use super::root::{Kind, Root};
use super::step::Step;
use crate::host::regular_file::MIB;

/// What may stand in the way of an installation.
pub(crate) struct Wish {
    /// The program that is put into the image, and whether somebody chose it.
    pub binary: Vec<u8>,
    pub is_chosen: bool,
    /// Install although a package manager has vmstage.
    pub force: bool,
}

/// Refuses what would do harm.
///
/// # Errors
///
/// What stands in the way, and what to do.
pub(crate) fn may_begin(root: &Root, wish: &Wish) -> Result<()> {
    if let (Some(manager), false) = (packages::owner(root)?, wish.force) {
        bail!(
            "{} has vmstage as a package in {}, and would take these files for the package's; \
             update or remove the package, or say --force",
            manager.name(),
            root.path().display()
        );
    }
    let Some(machine) = Machine::of(&wish.binary) else {
        bail!("the binary that is to be installed is no program (ELF)");
    };
    match Machine::of_system(root) {
        Some(theirs) if theirs != machine && !wish.is_chosen => bail!(
            "the programs in {} are for {}, and this binary is for {}: give one for it with \
             --binary",
            root.path().display(),
            theirs.name(),
            machine.name()
        ),
        _ => Ok(()),
    }
}

/// The files that are missing or differ, the program first.
///
/// # Errors
///
/// That the tree cannot be looked at.
pub(crate) fn file_steps(
    root: &Root,
    init: Init,
    binary: Vec<u8>,
    mount_point: &Path,
) -> Result<Vec<Step>> {
    let mut steps = vec![Step::Write {
        path: PROGRAM.into(),
        mode: 0o755,
        content: Cow::Owned(binary),
    }];
    if root.entry_itself(CONFIGURATION.as_ref())?.is_none() {
        steps.push(Step::Write {
            path: CONFIGURATION.into(),
            mode: 0o644,
            content: Cow::Borrowed(files::shipped_configuration()),
        });
    }
    let needed = files::FILES.iter().filter(|file| file.is_needed_by(init));
    steps.extend(needed.map(|file| Step::Write {
        path: file.path(init).into(),
        mode: file.mode,
        content: file.content_for(mount_point),
    }));
    steps.retain(|step| step.is_pending(root));
    Ok(steps)
}

/// Where the image starts vmstage by commands of `rc.local` already.
///
/// # Errors
///
/// That it cannot be read.
pub(crate) fn snippet(root: &Root, mount_point: &Path) -> Result<Option<(PathBuf, usize)>> {
    for path in old::RC_LOCAL.map(Path::new) {
        let script = root.read(path, MIB)?.unwrap_or_default();
        let commands = old::commands(&script, mount_point);
        if let Some(command) = commands.iter().find(|c| c.what == What::Vmstage) {
            return Ok(Some((path.into(), command.number)));
        }
    }
    Ok(None)
}

/// What enables vmstage, unless `rc.local` starts it already.
///
/// # Errors
///
/// Those of [`enabling::still_to_do`] and [`snippet`].
pub(crate) fn enabling(root: &Root, init: Init, mount_point: &Path) -> Result<Enabling> {
    match snippet(root, mount_point)? {
        Some((path, number)) => Ok(Enabling::ByCommands { path, number }),
        None => enabling::still_to_do(root, init),
    }
}

/// Lists the directories that the steps will make, the outermost first, beside those that an
/// earlier run has made. That of the documentation, in which the list is, is vmstage's own.
///
/// # Errors
///
/// That the earlier list cannot be read.
pub(crate) fn list_directories<'a>(
    root: &Root,
    steps: impl Iterator<Item = &'a Step>,
) -> Result<Option<Step>> {
    let list: &Path = DIRECTORIES.as_ref();
    let mut made = root.read(list, MIB)?.unwrap_or_default();
    let paths = steps.filter_map(|step| match step {
        Step::Write { path, .. } | Step::Link { path, .. } => Some(path.as_path()),
        _ => None,
    });
    let mut is_new = !root.is(Kind::File, list);
    for path in paths {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for directory in above.into_iter().rev() {
            let line = [directory.as_os_str().as_bytes(), b"\n"].concat();
            let is_listed = made
                .split_inclusive(|byte| *byte == b'\n')
                .any(|l| l == line);
            let is_own = directory == Path::new(DOCUMENTATION);
            if !is_listed && !is_own && !root.is(Kind::Directory, directory) {
                made.extend(line);
                is_new = true;
            }
        }
    }
    Ok(is_new.then(|| Step::Write {
        path: list.into(),
        mode: 0o644,
        content: Cow::Owned(made),
    }))
}
