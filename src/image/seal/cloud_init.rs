//! What cloud-init keeps of the machine it ran on.

use std::path::Path;

use anyhow::{Context, Result};

use super::item::{Item, Way, remove};
use crate::host::fstab::FSTAB;
use crate::image::old;
use crate::image::root::{Kind, Root};
use crate::image::step::Step;

pub(crate) const PROGRAM: &str = "/usr/bin/cloud-init";
const CONFIGURATION: &str = "/etc/cloud/cloud.cfg";

/// Below `/var/lib/cloud`. Never `seed`: some images are told by it who they are.
const STATE: [&str; 4] = ["instances", "instance", "data", "sem"];

/// Files in which it writes how the network is set up, or that it names so.
const NETWORK: [&str; 6] = [
    "/etc/netplan",
    "/etc/network/interfaces.d",
    "/etc/systemd/network",
    "/etc/NetworkManager/system-connections",
    "/etc/NetworkManager/conf.d",
    "/etc/sysconfig/network-scripts",
];

fn is_installed(root: &Root) -> bool {
    root.is(Kind::File, CONFIGURATION)
        && [PROGRAM, "/usr/local/bin/cloud-init"]
            .iter()
            .any(|path| root.is(Kind::File, path))
}

/// Whether it runs one of its modules at boot.
pub(super) fn runs_module(root: &Root, module: &str) -> bool {
    let is_off = root.is(Kind::File, "/etc/cloud/cloud-init.disabled");
    let lists = |text: String| {
        text.lines().any(|line| {
            let entry = line.trim_start().strip_prefix('-').map(str::trim_start);
            let name = entry.map(|entry| entry.trim_start_matches('['));
            let name = name.and_then(|name| name.split([',', ' ', ']', '#']).next());
            name.map(|name| name.trim_matches(['"', '\''])) == Some(module)
        })
    };
    is_installed(root) && !is_off && lists(root.text(CONFIGURATION))
}

/// Whether it leaves the network to others: then nothing would make these files again.
fn leaves_network_alone(root: &Root) -> bool {
    let directory = Path::new("/etc/cloud/cloud.cfg.d");
    let names = root.names(directory).unwrap_or_default();
    let files = names.iter().map(|name| directory.join(name));
    files.chain([CONFIGURATION.into()]).any(|path| {
        let text = root.text(&path);
        let plain: String = text.chars().filter(|c| !" {}\"'".contains(*c)).collect();
        plain
            .lines()
            .any(|line| ["config:disabled", "network:config:disabled"].contains(&line.trim()))
    })
}

/// Its lines for the disks of the machine that is saved.
pub(super) fn fstab(root: &Root) -> Result<Item> {
    let (fstab, content) = old::fstab(root)?;
    let lines = fstab.lines.iter().filter(|line| line.is_of_cloud_init());
    let numbers: Vec<usize> = lines.map(|line| line.number).collect();
    let steps = match numbers.is_empty() {
        true => Vec::new(),
        false => vec![Step::Rewrite {
            path: FSTAB.into(),
            content: old::without_lines(&content, &numbers),
        }],
    };
    Ok(Item {
        id: "fstab",
        steps,
        ..Item::default()
    })
}

/// Its state, by which a clone would be taken for the same instance.
pub(crate) fn leftovers(root: &Root) -> Result<Item> {
    let mut item = Item {
        id: "cloud-init",
        way: Way::AfterCloudInit,
        ..Item::default()
    };
    if !is_installed(root) {
        return Ok(item);
    }
    for name in STATE {
        let path = Path::new("/var/lib/cloud").join(name);
        let entry = root.entry_itself(&path);
        if entry
            .with_context(|| root.cannot("look at", &path))?
            .is_some()
        {
            item.steps.push(remove(root, path));
        }
    }
    for directory in NETWORK.map(Path::new) {
        for name in root.names(directory).unwrap_or_default() {
            let path = directory.join(&name);
            let is_named = name.to_string_lossy().contains("cloud-init");
            let is_marked = || root.text(&path).contains("# Created by cloud-init ");
            if root.is(Kind::File, &path) && (is_named || is_marked()) {
                match leaves_network_alone(root) {
                    true => item.kept.push(format!(
                        "{} stays: cloud-init does not set up the network here",
                        path.display()
                    )),
                    false => item.steps.push(Step::Remove(path)),
                }
            }
        }
    }
    Ok(item)
}
