//! What tells one machine from another: ids, seeds and keys.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::item::Item;
use crate::config::Config;
use crate::host::regular_file::MIB;
use crate::image::files::CONFIGURATION;
use crate::image::root::{Kind, Root};
use crate::image::step::Step;

const MACHINE_ID: &str = "/etc/machine-id";
const DBUS_MACHINE_ID: &str = "/var/lib/dbus/machine-id";

const SEEDS: [&str; 9] = [
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/urandom/random-seed",
    "/var/lib/random-seed",
    "/var/lib/misc/random-seed",
    "/var/lib/seedrng/seed.credit",
    "/var/lib/seedrng/seed.no-credit",
    "/boot/loader/random-seed",
    "/boot/efi/loader/random-seed",
];

/// What is at a path, no link followed.
pub(super) fn kind(root: &Root, path: &Path) -> Result<Option<Kind>> {
    let entry = root.entry_itself(path);
    let entry = entry.with_context(|| root.cannot("look at", path))?;
    Ok(entry.map(|entry| entry.kind))
}

/// Makes it empty: without the file, or with "uninitialized" in it, the first boot would also
/// enable and disable units by preset.
pub(crate) fn machine_id(root: &Root) -> Item {
    let mut item = Item::new("machine-id");
    let path = match is_link_to_dbus(root) {
        true => Path::new(DBUS_MACHINE_ID),
        false => Path::new(MACHINE_ID),
    };
    match item.known(kind(root, path)) {
        Some(Kind::File) => {
            let content = root.read(path, MIB);
            let content = item.known(content.with_context(|| root.cannot("read", path)));
            if content.is_some_and(|content| !content.is_empty()) {
                item.steps.push(Step::Rewrite {
                    path: path.into(),
                    content: Vec::new(),
                });
            }
        }
        Some(_) => item
            .kept
            .push(format!("{MACHINE_ID} stays: it is no regular file")),
        None => {}
    }
    item
}

/// Then there is one file for both, and without it the first would be missing.
fn is_link_to_dbus(root: &Root) -> bool {
    let real = |path: &str| root.real_path(path.as_ref()).ok();
    let own = real(MACHINE_ID);
    own.as_deref() != Some(Path::new(MACHINE_ID)) && own.is_some() && own == real(DBUS_MACHINE_ID)
}

/// systemd would take the id from there again. A link leads to the other one.
pub(crate) fn dbus_machine_id(root: &Root) -> Item {
    match is_link_to_dbus(root) {
        true => Item::new("dbus-machine-id"),
        false => files_to_remove(root, "dbus-machine-id", &[DBUS_MACHINE_ID]),
    }
}

/// Two machines with one seed make the same "random" keys.
pub(super) fn random_seeds(root: &Root) -> Item {
    files_to_remove(root, "random-seeds", &SEEDS)
}

/// Those that are regular files: a link leads to what is somebody else's, or to nothing.
pub(super) fn files_to_remove(root: &Root, id: &'static str, paths: &[&str]) -> Item {
    let mut item = Item::new(id);
    for path in paths.iter().map(Path::new) {
        if item.known(kind(root, path)) == Some(Kind::File) {
            item.steps.push(Step::Remove(path.into()));
        }
    }
    item
}

/// Secrets that stay, by name.
pub(super) fn secrets(root: &Root, config: &Config) -> Item {
    let mut paths = Vec::new();
    for directory in [
        "/etc/condor/tokens.d",
        "/etc/condor/passwords.d",
        "/root/.condor/tokens.d",
        "/etc/sudoers.d",
    ] {
        let names = root.names(directory.as_ref()).unwrap_or_default();
        let names = names.iter().filter(|name| *name != "README");
        paths.extend(names.map(|name| Path::new(directory).join(name)));
    }
    let homes = root.names("/home".as_ref()).unwrap_or_default();
    let homes = homes.iter().map(|name| Path::new("/home").join(name));
    for home in homes.chain([PathBuf::from("/root")]) {
        for name in [
            ".ssh/authorized_keys",
            ".ssh/id_rsa",
            ".ssh/id_ed25519",
            ".ssh/id_ecdsa",
        ] {
            let path = home.join(name);
            if root.is(Kind::File, &path) {
                paths.push(path);
            }
        }
    }
    let mut kept: Vec<String> = paths
        .iter()
        .map(|path| {
            format!(
                "{} stays: whoever it lets in is let into each machine",
                path.display()
            )
        })
        .collect();
    if config.callback.token.is_some() {
        kept.push(format!("callback.token in {CONFIGURATION} stays"));
    }
    Item {
        kept,
        ..Item::new("secrets")
    }
}
