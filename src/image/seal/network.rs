//! What binds the network's set-up to the addresses of one machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::item::Item;
use crate::host::regular_file::MIB;
use crate::image::root::{Kind, Root};
use crate::image::step::Step;

const RULES: [&str; 2] = [
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/etc/udev/rules.d/70-persistent-cd.rules",
];

const INTERFACES: &str = "/etc/sysconfig/network-scripts";

const LEASES: [&str; 6] = [
    "/var/lib/dhcp",
    "/var/lib/dhcp3",
    "/var/lib/dhclient",
    "/var/lib/dhcpcd",
    "/var/lib/NetworkManager",
    "/run/systemd/netif/leases",
];

/// Of udev: with another address the interface would be eth1.
pub(crate) fn rules(root: &Root) -> Result<Item> {
    let mut steps = Vec::new();
    for path in RULES.map(Path::new) {
        let entry = root.entry_itself(path);
        let entry = entry.with_context(|| root.cannot("look at", path))?;
        // A link to /dev/null turns the rules off.
        if entry.is_some_and(|entry| entry.kind == Kind::File) {
            steps.push(Step::Remove(path.into()));
        }
    }
    Ok(Item {
        id: "net-rules",
        steps,
        ..Item::default()
    })
}

/// HWADDR and UUID in Red Hat's files: an interface with another address would stay down.
pub(crate) fn addresses(root: &Root) -> Result<Item> {
    let mut steps = Vec::new();
    for path in files_in(root, Path::new(INTERFACES)) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("ifcfg-") {
            continue;
        }
        let content = root
            .read(&path, MIB)
            .with_context(|| root.cannot("read", &path))?;
        let content = content.unwrap_or_default();
        let is_kept = |line: &&[u8]| !line.starts_with(b"HWADDR=") && !line.starts_with(b"UUID=");
        let lines = content.split_inclusive(|byte| *byte == b'\n');
        let kept: Vec<u8> = lines.filter(is_kept).flatten().copied().collect();
        if kept != content {
            steps.push(Step::Rewrite {
                path,
                content: kept,
            });
        }
    }
    Ok(Item {
        id: "hwaddr",
        steps,
        ..Item::default()
    })
}

/// Of DHCP.
pub(super) fn leases(root: &Root) -> Result<Item> {
    let is_lease = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let of_networkd = path.starts_with("/run/systemd/netif/leases");
        of_networkd || name.contains(".lease") || name.ends_with("_lease")
    };
    let files = LEASES
        .iter()
        .flat_map(|directory| files_in(root, directory.as_ref()));
    Ok(Item {
        id: "leases",
        steps: files.filter(is_lease).map(Step::Remove).collect(),
        ..Item::default()
    })
}

/// Regular files in a directory.
pub(super) fn files_in(root: &Root, directory: &Path) -> Vec<PathBuf> {
    let names = root.names(directory).unwrap_or_default();
    let paths = names.into_iter().map(|name| directory.join(name));
    let is_file = |path: &PathBuf| {
        let entry = root.entry_itself(path).ok().flatten();
        entry.is_some_and(|entry| entry.kind == Kind::File)
    };
    paths.filter(is_file).collect()
}
