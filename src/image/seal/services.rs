//! Which services a system starts at boot, by whatever its init heeds.

use crate::image::depend;
use crate::image::enabling::DEPEND_START;
use crate::image::init::Init;
use crate::image::rc::{self, Action};
use crate::image::root::{Kind, Root};
use crate::image::units;

/// What a system starts at boot.
pub(super) struct Services<'a> {
    pub root: &'a Root,
    pub init: Init,
    /// Of systemd.
    pub units: Vec<String>,
}

impl Services<'_> {
    pub(super) fn of(root: &Root) -> Services<'_> {
        let init = Init::of(root, None);
        let units = match init {
            Init::Systemd => units::started(root),
            _ => Vec::new(),
        };
        Services { root, init, units }
    }

    pub(super) fn starts(&self, service: &str) -> bool {
        let (root, init) = (self.root, self.init);
        let has = |path: String| root.is(Kind::File, path);
        let is_linked = || {
            let level = rc::default_level(root, init);
            let links = rc::links(root, init).unwrap_or_default();
            let mut links = links.iter().filter(|link| link.service == service);
            links.any(|link| link.action == Action::Start && [level, 'S'].contains(&link.level))
                && has(format!("{}/{service}", init.scripts()))
        };
        match init {
            Init::Systemd => self.units.contains(&format!("{service}.service")),
            Init::Upstart if has(format!("/etc/init/{service}.conf")) => {
                let text = root.text(format!("/etc/init/{service}.override"));
                !text.lines().any(|line| line.trim() == "manual")
            }
            Init::Insserv => {
                is_linked() && depend::targets(&root.text(DEPEND_START)).contains(&service)
            }
            // OpenRC.
            Init::Unknown => ["boot", "default"]
                .iter()
                .any(|level| has(format!("/etc/runlevels/{level}/{service}"))),
            _ => is_linked(),
        }
    }
}
