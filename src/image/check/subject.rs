//! What several rules want to know of a system, read once.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::host::Host;
use crate::host::fstab::Fstab;
use crate::host::regular_file::MIB;
use crate::image::files;
use crate::image::init::Init;
use crate::image::old::{self, Command, RC_LOCAL};
use crate::image::rc::{self, Link};
use crate::image::root::{Kind, Root};

/// The system that is looked at. What cannot be read counts as missing here; that it cannot be
/// is a finding of its own ([`super::reach`]).
pub(crate) struct Subject<'a> {
    pub root: &'a Root,
    /// The machine, where this system is the one that runs.
    pub host: Option<&'a Host>,
    /// The defaults where there is none that can be used.
    pub config: Config,
    pub init: Init,
    pub fstab: Fstab,
    /// Of the run levels.
    pub links: Vec<Link>,
    pub scripts: Vec<Script>,
}

/// An `rc.local` that has commands for the scratch disk.
pub(crate) struct Script {
    pub path: PathBuf,
    /// Else nothing runs it.
    pub is_executable: bool,
    pub commands: Vec<Command>,
}

impl Subject<'_> {
    pub(crate) fn of<'a>(root: &'a Root, host: Option<&'a Host>) -> Subject<'a> {
        let config = files::configuration(root).unwrap_or_default();
        let init = Init::of(root, None);
        let fstab = old::fstab(root).map(|(fstab, _)| fstab);
        let scripts = scripts(root, config.staging.mount_point.as_path());
        Subject {
            root,
            host,
            init,
            fstab: fstab.unwrap_or_default(),
            links: rc::links(root, init).unwrap_or_default(),
            scripts,
            config,
        }
    }

    pub(crate) fn mount_point(&self) -> &Path {
        self.config.staging.mount_point.as_path()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.is(Kind::File, path)
    }

    /// The text of a file; empty where there is none.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> String {
        self.root.text(path)
    }

    /// The paths of what is in a directory, as far as their names are texts.
    pub(crate) fn paths_in(&self, directory: &str) -> Vec<String> {
        let names = self.root.names(directory.as_ref()).unwrap_or_default();
        let names = names.iter().filter_map(|name| name.to_str());
        names.map(|name| format!("{directory}/{name}")).collect()
    }
}

fn scripts(root: &Root, mount_point: &Path) -> Vec<Script> {
    let mut seen = Vec::new();
    let scripts = RC_LOCAL.map(Path::new).into_iter().filter_map(|path| {
        let content = root.read(path, MIB).ok()??;
        let real = root.real_path(path).ok()?;
        let is_new = !seen.contains(&real);
        seen.push(real);
        let entry = root.entry(path).ok()??;
        is_new.then(|| Script {
            path: path.into(),
            is_executable: entry.mode & 0o111 != 0,
            commands: old::commands(&content, mount_point),
        })
    });
    scripts.collect()
}
