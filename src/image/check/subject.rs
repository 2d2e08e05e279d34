//! What several rules want to know of a system, read once.

use std::path::Path;

use crate::config::Config;
use crate::host::Host;
use crate::host::fstab::Fstab;
use crate::image::init::Init;
use crate::image::old::{self, Caller, RcLocal};
use crate::image::rc::{self, Link};
use crate::image::root::{Kind, Root};
use crate::image::{files, packages};

/// The system that is looked at. What cannot be read counts as missing here; that it cannot be
/// is a finding of its own ([`super::reach`]).
pub(crate) struct Subject<'a> {
    pub root: &'a Root,
    /// The machine, where this system is the one that runs.
    pub host: Option<&'a Host>,
    /// The defaults where there is none that can be used.
    pub config: Config,
    /// The image's own is wrong, so that its mount point is not known.
    pub config_is_wrong: bool,
    pub init: Init,
    pub fstab: Fstab,
    /// Of the run levels.
    pub links: Vec<Link>,
    pub scripts: Vec<RcLocal>,
    /// What needs the script that staged the disk before.
    pub callers: Vec<Caller>,
    /// A package manager has vmstage.
    pub is_package: bool,
}

/// An option for [`Subject::install`].
pub(super) const REPLACE: &str = " --replace-old";

impl Subject<'_> {
    pub(crate) fn of<'a>(root: &'a Root, host: Option<&'a Host>, init: Init) -> Subject<'a> {
        let config = files::configuration(root);
        let config_is_wrong = config.is_err();
        let config = config.unwrap_or_default();
        let fstab = old::fstab(root).map(|(fstab, _)| fstab);
        let scripts = old::rc_local(root, config.staging.mount_point.as_path());
        let scripts: Vec<RcLocal> = scripts.into_iter().flatten().collect();
        Subject {
            root,
            host,
            init,
            fstab: fstab.unwrap_or_default(),
            links: rc::links(root, init).unwrap_or_default(),
            callers: old::callers_that_stay(root, &scripts),
            is_package: packages::owner(root).is_ok_and(|owner| owner.is_some()),
            scripts,
            config,
            config_is_wrong,
        }
    }

    pub(crate) fn mount_point(&self) -> &Path {
        self.config.staging.mount_point.as_path()
    }

    /// The command that puts in place what is missing, and takes out what is old with this added.
    pub(super) fn install(&self, option: &str) -> String {
        let enable_only = if self.is_package {
            " --enable-only"
        } else {
            ""
        };
        // What is old goes only where vmstage is enabled, or somebody says that it will be.
        let by_hand = match option {
            REPLACE if self.init == Init::Unknown => " --init=none",
            _ => "",
        };
        let root = self.root.path().display();
        format!("vmstage install --root {root}{enable_only}{by_hand}{option}")
    }

    /// What brings files that are missing, or of another version.
    pub(super) fn bring_files(&self) -> String {
        match self.is_package {
            true => "install the package again".into(),
            false => self.install(""),
        }
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
