//! What vmstage puts into an image.

use std::io::ErrorKind;

use super::enabling::UNIT_DIRECTORY;
use super::init::Init;
use super::root::Root;
use crate::config::{Config, ConfigError};
use crate::host::regular_file::MIB;

pub(crate) const PROGRAM: &str = "/usr/sbin/vmstage";
pub(crate) const CONFIGURATION: &str = "/etc/vmstage.toml";
pub(crate) const DOCUMENTATION: &str = "/usr/share/doc/vmstage";

/// Lists the directories that `install` made, a line each, for `uninstall`.
pub(crate) const DIRECTORIES: &str = "/usr/share/doc/vmstage/directories";

/// A file that this program carries.
pub(crate) struct File {
    directory: &'static str,
    name: &'static str,
    pub mode: u32,
    pub content: &'static [u8],
    needed: Needed,
}

#[derive(PartialEq, Eq)]
enum Needed {
    Always,
    BySystemd,
    /// By those that run scripts; their directory is the init's.
    ByScripts,
}

/// The configuration that is shipped, which shows the defaults.
pub(crate) const SHIPPED_CONFIGURATION: &[u8] = include_bytes!("../../packaging/vmstage.toml");

const fn file(
    needed: Needed,
    directory: &'static str,
    name: &'static str,
    content: &'static [u8],
) -> File {
    File {
        directory,
        name,
        mode: 0o644,
        content,
        needed,
    }
}

/// All but the program and its configuration.
pub(crate) static FILES: &[File] = &[
    file(
        Needed::BySystemd,
        UNIT_DIRECTORY,
        "vmstage.service",
        include_bytes!("../../systemd/vmstage.service"),
    ),
    file(
        Needed::BySystemd,
        UNIT_DIRECTORY,
        "vmstage-watch.service",
        include_bytes!("../../systemd/vmstage-watch.service"),
    ),
    file(
        Needed::BySystemd,
        "/usr/lib/systemd/system/condor.service.d",
        "vmstage.conf",
        include_bytes!("../../systemd/condor.service.d/vmstage.conf"),
    ),
    file(
        Needed::BySystemd,
        "/usr/lib/systemd/system-preset",
        "80-vmstage.preset",
        include_bytes!("../../systemd/80-vmstage.preset"),
    ),
    File {
        mode: 0o755,
        ..file(
            Needed::ByScripts,
            "",
            "vmstage",
            include_bytes!("../../sysvinit/vmstage"),
        )
    },
    file(
        Needed::Always,
        DOCUMENTATION,
        "vmstage.toml",
        SHIPPED_CONFIGURATION,
    ),
    file(
        Needed::Always,
        DOCUMENTATION,
        "rc.local.sl",
        include_bytes!("../../sysvinit/rc.local.sl"),
    ),
    file(
        Needed::Always,
        DOCUMENTATION,
        "rc.local.ubuntu",
        include_bytes!("../../sysvinit/rc.local.ubuntu"),
    ),
];

/// An image's configuration; the defaults where it has none.
///
/// # Errors
///
/// What is wrong with it, in one line.
pub(crate) fn configuration(root: &Root) -> Result<Config, ConfigError> {
    let path = CONFIGURATION.as_ref();
    match root.read(path, MIB) {
        Ok(Some(bytes)) => Config::from_bytes(&bytes)
            .map_err(|wrong| ConfigError::new(format!("{CONFIGURATION}, {wrong}"))),
        // A link to nowhere was meant to lead somewhere.
        Ok(None) if root.link_text(path).is_ok_and(|text| text.is_none()) => Ok(Config::default()),
        Ok(None) => Err(ConfigError::unreadable(path, &ErrorKind::NotFound.into())),
        Err(e) => Err(ConfigError::unreadable(path, &e)),
    }
}

impl File {
    /// Where it belongs.
    pub(crate) fn path(&self, init: Init) -> String {
        let directory = match self.needed {
            Needed::ByScripts => init.scripts(),
            _ => self.directory,
        };
        format!("{directory}/{}", self.name)
    }

    /// Whether it is one by which the program is started.
    pub(crate) fn is_what_starts_it(&self) -> bool {
        self.needed != Needed::Always && !self.name.ends_with(".preset")
    }

    /// Whether an image with this init needs it.
    pub(crate) fn is_needed_by(&self, init: Init) -> bool {
        match self.needed {
            Needed::Always => true,
            Needed::BySystemd => init == Init::Systemd,
            Needed::ByScripts => init.runs_scripts(),
        }
    }
}
