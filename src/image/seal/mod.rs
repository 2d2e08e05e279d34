//! What makes a system ready to be saved as an image: a list of what is removed, in order, and
//! of what stays and why.
//!
//! Never: accounts, passwords, keys that let somebody in, tokens (they are named); anything on
//! the scratch disk or a volume; lines of fstab that are others'; `vmstage.toml`; the state of
//! packages; anything through a link.

mod cloud_init;
mod condor;
mod guard;
pub(crate) mod host_keys;
pub(crate) mod identity;
mod item;
mod logs;
pub(crate) mod network;
mod own;
mod services;
pub(crate) mod stop;

pub(crate) use cloud_init::leftovers as cloud_leftovers;
pub(crate) use item::{Item, Outcome, Way, Wish};
pub(crate) use own::{reports, state};

use std::path::Path;

use super::old;
use super::root::Root;
use crate::config::Config;
use crate::host::Host;

/// The item of what is not there to be looked at.
pub(crate) const FILE_SYSTEMS: &str = "file-systems";

/// All that is to be done, in order; in each item what of it cannot be looked at.
pub(crate) fn plan(root: &Root, host: Option<&Host>, config: &Config, wish: Wish) -> Vec<Item> {
    let mount_point = config.staging.mount_point.as_path();
    let mut items = vec![
        missing_parts(root),
        own::reports(root, config),
        own::state(root, host),
        own::below_the_mount(root, config),
    ];
    if !wish.own_part_only {
        items.extend([
            cloud_init::fstab(root),
            identity::machine_id(root),
            identity::dbus_machine_id(root),
            identity::random_seeds(root),
            host_keys::item(root),
            cloud_init::leftovers(root),
            network::rules(root),
            network::addresses(root),
            network::leases(root),
            condor::item(root, host, mount_point, wish.spool_with_jobs),
        ]);
        if wish.logs {
            items.push(logs::item(root));
        }
        items.push(identity::secrets(root, config));
    }
    for item in &mut items {
        // Behind the mount the paths are others'.
        if item.way != Way::BelowTheMount {
            guard::keep_to_the_system(root, mount_point, item);
        }
    }
    items.retain(|item| !item.steps.is_empty() || !item.kept.is_empty() || !item.failed.is_empty());
    items
}

/// File systems of the image's own that are not mounted in the tree: nobody sees what is on them.
fn missing_parts(root: &Root) -> Item {
    let mut item = Item::new(FILE_SYSTEMS);
    let fstab = old::fstab(root).unwrap_or_default().0;
    for path in ["/var", "/var/lib"].map(Path::new) {
        let mut lines = fstab.lines.iter();
        let is_own = lines.any(|line| line.mount_point == path);
        let is_empty = root.names(path).is_ok_and(|names| names.is_empty());
        let is_link = root.link_text(path).is_ok_and(|text| text.is_some());
        if is_empty && (is_own || is_link) {
            item.failed.push(format!(
                "what belongs on {0} is on a file system of its own, which is not mounted there: \
                 mount it on {0} of the image",
                path.display()
            ));
        }
    }
    item
}

#[cfg(test)]
mod tests;
