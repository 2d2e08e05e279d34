//! vmstage's own part.

use std::path::Path;

use anyhow::Context;

use super::item::{Item, Way, remove};
use crate::config::Config;
use crate::deadline::identity::is_same;
use crate::host::regular_file::MIB;
use crate::host::{Host, machine};
use crate::image::below;
use crate::image::published::{self, RUN, STATE};
use crate::image::root::{Kind, Root};
use crate::image::step::Step;
use crate::text;

/// What others were told.
pub(crate) fn reports(root: &Root, config: &Config) -> Item {
    let mut parts = published::to_take_back(root, config);
    let (trees, kept) = published::trees_to_remove(root, &RUN);
    parts.append(trees);
    Item {
        id: "reports",
        steps: parts.steps,
        kept,
        failed: parts.failed,
        ..Item::default()
    }
}

/// The state, but for the record of this machine's first boot: its lease must not be renewed. A
/// clone has another UUID, and finds no record by it. Of a system that does not run nobody knows
/// whose it is, and what is kept by a UUID stays.
pub(crate) fn state(root: &Root, host: Option<&Host>) -> Item {
    let mut item = Item::new("state");
    let directory = Path::new(STATE);
    let names = root.names(directory);
    for name in item.known(names.with_context(|| root.cannot("read", directory))) {
        let path = directory.join(&name);
        let record = name.to_str().and_then(uuid_in);
        let is_ours = match (record, host) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(id), Some(host)) => is_of_this_machine(root, host, &path, id),
        };
        match is_ours {
            true => item.kept.push(format!(
                "{} stays: it counts for that machine alone, whose lease goes on",
                path.display()
            )),
            false => item.steps.push(remove(root, path)),
        }
    }
    if root.is(Kind::Directory, directory) && item.kept.is_empty() && item.failed.is_empty() {
        item.steps.push(Step::RemoveEmpty(directory.into()));
    }
    item
}

/// `first-boot-0e4d1c2b-8f6a-4b3c-9d1e-000000000001.json`
fn uuid_in(name: &str) -> Option<&str> {
    let id = name.strip_prefix("first-boot-")?.strip_suffix(".json")?;
    let is_uuid = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    is_uuid.then_some(id)
}

fn is_of_this_machine(root: &Root, host: &Host, path: &Path, id: &str) -> bool {
    let Some(own) = machine::uuid(host) else {
        return false;
    };
    let content = root.read(path, MIB).ok().flatten().unwrap_or_default();
    let record: serde_json::Value = serde_json::from_slice(&content).unwrap_or_default();
    let machine = record.get("machine").and_then(|machine| machine.as_str());
    is_same(id, &own) || machine.is_some_and(|machine| is_same(machine, &own))
}

/// What earlier boots left below the mount point: the configured directories where they are
/// empty. The rest is named.
pub(super) fn below_the_mount(root: &Root, config: &Config) -> Item {
    let mount_point = config.staging.mount_point.as_path();
    let mut item = Item {
        way: Way::BelowTheMount,
        ..Item::new("below-mount")
    };
    let lying = match below::look(root, mount_point) {
        Ok(lying) => lying,
        Err(e) => {
            item.kept.push(format!("{e:#}"));
            return item;
        }
    };
    let is_ours = |path: &Path| {
        let name = path.strip_prefix(mount_point);
        let mut directories = config.directories.iter();
        name.is_ok_and(|name| directories.any(|directory| directory.path.as_path() == name))
    };
    for one in lying {
        match one.is_empty_directory && is_ours(&one.path) {
            true => item.steps.push(Step::RemoveEmpty(one.path)),
            false => item.kept.push(format!(
                "{} stays: {} on the root disk, which the scratch disk hides",
                one.path.display(),
                text::bytes(one.bytes)
            )),
        }
    }
    item
}
