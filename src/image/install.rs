//! What puts vmstage into an image and enables it there.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, bail};

use super::by_commands::{self, Start};
use super::elf::Machine;
use super::enabling::{self, Enabling};
use super::files::{self, CONFIGURATION, DIRECTORIES, DOCUMENTATION, PROGRAM};
use super::init::Init;
use super::packages;
use super::replace;
use super::root::{Kind, Root};
use super::step::Step;
use crate::host::regular_file::{self, MIB};

/// Where `make install PREFIX=/usr/local` puts it.
const ELSEWHERE: &str = "/usr/local/sbin/vmstage";

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
            "nothing is installed: {} has vmstage as a package in {}, and would take these files for \
             the package's; --enable-only enables that, else update or remove it, or say --force",
            manager.name(),
            root.path().display()
        );
    }
    let Some(machine) = Machine::of(&wish.binary) else {
        bail!("the binary that is to be installed is no program (ELF)");
    };
    if !is_vmstage(&wish.binary) {
        bail!("nothing is installed: the program that is given with --binary is no vmstage");
    }
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

/// Each version of vmstage, for whatever processor, has the path of its configuration in it.
fn is_vmstage(program: &[u8]) -> bool {
    regular_file::has(program, CONFIGURATION.as_bytes())
}

/// Refuses to enable what is not there.
///
/// # Errors
///
/// What is missing, and what to do.
pub(crate) fn may_enable(root: &Root, init: Init) -> Result<()> {
    match files::missing(root, init) {
        Some(_) if root.is(Kind::File, ELSEWHERE) => bail!(
            "there is {ELSEWHERE} in {}, and nothing finds vmstage there: install it with PREFIX=/usr",
            root.path().display()
        ),
        Some(path) => bail!(
            "there is no {path} in {} that could be enabled, or it is not executable: install without --enable-only, or the \
             package again",
            root.path().display()
        ),
        None => Ok(()),
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

/// What enables vmstage, unless `rc.local` starts it already.
///
/// # Errors
///
/// Those of [`enabling::still_to_do`].
pub(crate) fn enabling(root: &Root, init: Init, mount_point: &Path) -> Result<Enabling> {
    match by_commands::start(root, init, mount_point) {
        Some(Start { path, number, .. }) => Ok(Enabling::ByCommands { path, number }),
        None => enabling::still_to_do(root, init),
    }
}

/// Lists the directories that the steps will make, the outermost first, beside those that an
/// earlier run has made, and what they take out. The directory of the documentation, in which the
/// list is, is vmstage's own.
///
/// # Errors
///
/// That the earlier list cannot be read.
pub(crate) fn list<'a>(
    root: &Root,
    list: &Path,
    steps: impl Iterator<Item = &'a Step>,
) -> Result<Option<Step>> {
    let mut lines = root.read(list, MIB)?.unwrap_or_default();
    let mut is_new = list == Path::new(DIRECTORIES) && !root.is(Kind::File, list);
    let mut add = |line: Vec<u8>| {
        let mut before = lines.split_inclusive(|byte| *byte == b'\n');
        if !before.any(|before| before == line) {
            lines.extend(line);
            is_new = true;
        }
    };
    for step in steps {
        if let Some(line) = replace::record(root, step)? {
            add(line);
        }
        let (Step::Write { path, .. } | Step::Link { path, .. }) = step else {
            continue;
        };
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for directory in above.into_iter().rev() {
            let is_own = directory == Path::new(DOCUMENTATION);
            if !is_own && !root.is(Kind::Directory, directory) {
                add([directory.as_os_str().as_bytes(), b"\n"].concat());
            }
        }
    }
    Ok(is_new.then(|| Step::Write {
        path: list.into(),
        mode: 0o644,
        content: Cow::Owned(lines),
    }))
}
