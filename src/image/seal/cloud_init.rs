//! What cloud-init keeps of the machine it ran on.

use std::path::{Path, PathBuf};

use super::identity::kind;
use super::item::{Item, Way, remove};
use super::services::Services;
use crate::host::fstab::FSTAB;
use crate::image::old;
use crate::image::root::{Kind, Root};
use crate::image::step::Step;

pub(crate) const PROGRAM: &str = "/usr/bin/cloud-init";
const CONFIGURATION: &str = "/etc/cloud/cloud.cfg";

/// Below `/var/lib/cloud`. Never `seed`: some images are told by it who they are.
const STATE: [&str; 4] = ["instances", "instance", "data", "sem"];

/// Where it writes how the network is set up, with the beginnings and ends of the names that it
/// gives (cloud-init 0.7.5 to 25.1, cloudinit/net); Red Hat's it marks.
const NETWORK: [(&str, &[(&str, &str)]); 6] = [
    ("/etc/netplan", &[("50-cloud-init", ".yaml")]),
    (
        "/etc/network/interfaces.d",
        &[("50-cloud-init", ""), ("50-cloud-init", ".cfg")],
    ),
    ("/etc/systemd/network", &[("10-cloud-init-", ".network")]),
    (
        "/etc/NetworkManager/system-connections",
        &[("cloud-init-", ".nmconnection")],
    ),
    (
        "/etc/NetworkManager/conf.d",
        &[
            ("99-cloud-init", ".conf"),
            ("30-cloud-init-ip6-addr-gen-mode", ".conf"),
        ],
    ),
    ("/etc/sysconfig/network-scripts", &[]),
];

/// Whether it gives such a name; one that ends with a `-` goes on with an interface's.
fn is_named_so(name: &str, names: &[(&str, &str)]) -> bool {
    names.iter().any(|(start, end)| {
        let rest = name.strip_prefix(start);
        let middle = rest.and_then(|rest| rest.strip_suffix(end));
        middle.is_some_and(|middle| start.ends_with('-') != middle.is_empty())
    })
}

fn is_installed(root: &Root) -> bool {
    root.is(Kind::File, CONFIGURATION)
        && [PROGRAM, "/usr/local/bin/cloud-init"]
            .iter()
            .any(|path| root.is(Kind::File, path))
}

/// Its stages that run modules, with the services one of which does.
const STAGES: [(&str, &[&str]); 3] = [
    ("cloud_init_modules", &["cloud-init", "cloud-init-network"]),
    ("cloud_config_modules", &["cloud-config"]),
    ("cloud_final_modules", &["cloud-final"]),
];

const OFF: &str = "/etc/cloud/cloud-init.disabled";

/// Whether it runs at boot at all.
pub(super) fn is_started(boot: &Services) -> bool {
    let mut services = STAGES.iter().flat_map(|(_, services)| *services);
    is_installed(boot.root)
        && !boot.root.is(Kind::File, OFF)
        && services.any(|service| boot.starts(service))
}

/// Whether its ssh module makes host keys at boot.
///
/// # Errors
///
/// Why it does not.
pub(super) fn makes_host_keys(boot: &Services) -> Result<(), String> {
    let root = boot.root;
    if !is_installed(root) {
        return Err("cloud-init is not there".into());
    }
    if root.is(Kind::File, OFF) {
        return Err(format!("{OFF} turns cloud-init off"));
    }
    // What a later file sets replaces what was set before.
    let files = configuration_files(root).map(|path| root.text(path));
    let files: Vec<String> = files.collect();
    let list = |key| files.iter().rev().find_map(|text| list(text, key));
    let has_module = |key| list(key).is_some_and(|names| names.contains(&"ssh"));
    let mut stages = STAGES.iter().filter(|(key, _)| has_module(key)).peekable();
    if stages.peek().is_none() {
        return Err("cloud-init does not have its ssh module run".into());
    }
    if list("ssh_genkeytypes").is_some_and(|types| types.is_empty()) {
        return Err("cloud-init makes no keys: ssh_genkeytypes is empty".into());
    }
    match stages.any(|(_, services)| services.iter().any(|service| boot.starts(service))) {
        true => Ok(()),
        false => Err("cloud-init is not started at boot".into()),
    }
}

/// In the order in which it reads them.
fn configuration_files(root: &Root) -> impl Iterator<Item = PathBuf> {
    let directory = Path::new("/etc/cloud/cloud.cfg.d");
    let names = root.names(directory).unwrap_or_default();
    let names = names
        .into_iter()
        .filter(|name| name.to_string_lossy().ends_with(".cfg"));
    let files = names.map(|name| directory.join(name));
    [PathBuf::from(CONFIGURATION)].into_iter().chain(files)
}

/// The list that a YAML text sets a key to, of lists in it their first entries: modules are
/// `- ssh` or `- [ssh, always]`. None where the key is not named; no names where its value is no
/// list, or in a place where this does not look.
fn list<'a>(text: &'a str, key: &str) -> Option<Vec<&'a str>> {
    let code = |line: &'a str| match line.find(" #") {
        Some(comment) => &line[..comment],
        None if line.starts_with('#') => "",
        None => line,
    };
    let plain = |word: &'a str| word.trim().trim_matches(['"', '\'']);
    let lines: Vec<&str> = text.lines().map(code).collect();
    let value_of_key = |line: &&'a str| {
        let (name, value) = line.split_once(':')?;
        (plain(name) == key && !name.starts_with(' ')).then(|| value.trim())
    };
    // The last counts.
    let Some(place) = lines.iter().rposition(|line| value_of_key(line).is_some()) else {
        let is_named = lines.iter().any(|line| line.contains(key));
        return is_named.then(Vec::new);
    };
    let value = value_of_key(&lines[place]).unwrap_or_default();
    let is_of_it = |line: &&&str| line.is_empty() || line.starts_with([' ', '\t', '-', ']']);
    let block = lines[place + 1..].iter().take_while(is_of_it).copied();
    let mut names = Vec::new();
    if value.is_empty() {
        for entry in block.filter_map(|line| line.trim_start().strip_prefix('-')) {
            let entry = entry.trim_start_matches([' ', '-', '[']);
            names.push(plain(
                entry.split([',', ' ', ']']).next().unwrap_or_default(),
            ));
        }
    } else if value.starts_with('[') {
        // How many brackets are open, and whether the next word is a name.
        let (mut depth, mut is_name) = (0, false);
        for line in [value].into_iter().chain(block) {
            for part in line.split_inclusive(['[', ',', ']']) {
                let word = plain(part.trim_end_matches(['[', ',', ']']));
                if is_name && !word.is_empty() {
                    names.push(word);
                    is_name = false;
                }
                match part.as_bytes().last() {
                    Some(b'[') => (depth, is_name) = (depth + 1, true),
                    Some(b']') => depth -= 1,
                    Some(b',') => is_name = depth == 1,
                    _ => {}
                }
            }
        }
    }
    Some(names)
}

/// Whether it leaves the network to others: then nothing would make these files again.
fn leaves_network_alone(root: &Root) -> bool {
    configuration_files(root).any(|path| {
        let text = root.text(&path);
        let plain: String = text.chars().filter(|c| !" {}\"'".contains(*c)).collect();
        plain
            .lines()
            .any(|line| ["config:disabled", "network:config:disabled"].contains(&line.trim()))
    })
}

/// Its lines for the disks of the machine that is saved.
pub(super) fn fstab(root: &Root) -> Item {
    let mut item = Item::new("fstab");
    let (fstab, content) = item.known(old::fstab(root));
    let lines = fstab.lines.iter().filter(|line| line.is_of_cloud_init());
    let numbers: Vec<usize> = lines.map(|line| line.number).collect();
    if !numbers.is_empty() {
        item.steps.push(Step::Rewrite {
            path: FSTAB.into(),
            content: old::without_lines(&content, &numbers),
        });
    }
    item
}

/// Its state, by which a clone would be taken for the same instance.
pub(crate) fn leftovers(root: &Root) -> Item {
    let mut item = Item {
        way: Way::AfterCloudInit,
        ..Item::new("cloud-init")
    };
    if !is_installed(root) {
        return item;
    }
    for name in STATE {
        let path = Path::new("/var/lib/cloud").join(name);
        if item.known(kind(root, &path)).is_some() {
            item.steps.push(remove(root, path));
        }
    }
    for (directory, names) in NETWORK {
        let directory = Path::new(directory);
        for name in root.names(directory).unwrap_or_default() {
            let path = directory.join(&name);
            let is_named = is_named_so(&name.to_string_lossy(), names);
            let is_mark = |line: &str| line.starts_with("# Created by cloud-init ");
            let is_marked = || root.text(&path).lines().any(is_mark);
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
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_however_yaml_writes_it() {
        for (text, expected) in [
            ("k:\n - a\n - ssh\n", Some(&["a", "ssh"][..])),
            (
                "k:\n- a # b\n\n# c\n- [ ssh, always ]\nl:\n - x\n",
                Some(&["a", "ssh"]),
            ),
            ("k: [a, ssh]\n", Some(&["a", "ssh"])),
            (
                "k: [a,\n  [\"ssh\", always], # b\n  'c']\n",
                Some(&["a", "ssh", "c"]),
            ),
            ("\"k\" : [ ]\n", Some(&[])),
            ("k: ~\n", Some(&[])),
            ("k:\nl:\n - ssh\n", Some(&[])),
            ("k:\n - a\nk: [b]\n", Some(&["b"])),
            ("{\"k\": [\"ssh\"]}\n", Some(&[])),
            ("# k\n  # k: [a]\n", None),
            ("", None),
        ] {
            assert_eq!(list(text, "k").as_deref(), expected, "{text}");
        }
    }
}
