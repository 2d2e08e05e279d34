//! What binds the network's set-up to the addresses of one machine.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::identity::files_to_remove;
use super::item::Item;
use crate::host::regular_file::MIB;
use crate::image::root::{Kind, Root};
use crate::image::step::Step;

const RULES: [&str; 2] = [
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/etc/udev/rules.d/70-persistent-cd.rules",
];

/// The second and third are system-config-network's, whose files are the same ones by hard links.
const INTERFACES: [&str; 3] = [
    "/etc/sysconfig/network-scripts",
    "/etc/sysconfig/networking/devices",
    "/etc/sysconfig/networking/profiles/default",
];

const LEASES: [&str; 8] = [
    "/var/lib/dhcp",
    "/var/lib/dhcp3",
    "/var/lib/dhclient",
    "/var/lib/dhcpcd",
    "/var/lib/dhcpcd5",
    "/var/lib/NetworkManager",
    "/var/lib/wicked",
    "/run/systemd/netif/leases",
];

/// By which a client says who it is: two with the same may be given the same address. dhcpcd 5
/// to 8 has them in `/etc`.
const IDENTITIES: [&str; 6] = [
    "/var/lib/dhcpcd/duid",
    "/var/lib/dhcpcd/secret",
    "/etc/dhcpcd.duid",
    "/etc/dhcpcd.secret",
    "/var/lib/wicked/duid.xml",
    "/var/lib/wicked/iaid.xml",
];

/// Of udev: with another address the interface would be eth1. A link to /dev/null turns the
/// rules off.
pub(crate) fn rules(root: &Root) -> Item {
    files_to_remove(root, "net-rules", &RULES)
}

/// HWADDR and UUID in Red Hat's files: an interface with another address would stay down.
pub(crate) fn addresses(root: &Root) -> Item {
    let mut item = Item::new("hwaddr");
    let files = INTERFACES.map(|directory| files_in(root, directory.as_ref()));
    for path in files.concat() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("ifcfg-") {
            continue;
        }
        let content = root.read(&path, MIB);
        let content = item.known(content.with_context(|| root.cannot("read", &path)));
        let content = content.unwrap_or_default();
        let lines = content.split_inclusive(|byte| *byte == b'\n');
        let kept: Vec<u8> = lines.flat_map(without_address).collect();
        if kept != content {
            item.steps.push(Step::Rewrite {
                path,
                content: kept,
            });
        }
    }
    item
}

/// A line of such a file, which a shell reads, without what it sets HWADDR or UUID to; the rest
/// stays byte by byte.
fn without_address(line: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = line;
    let mut is_changed = false;
    // Beside `[ … ] &&` and its like a command has to stay.
    let is_plain = has_assignments_only(line);
    while !rest.is_empty() {
        let word = &rest[..word_length(rest)];
        if word.starts_with(b"#") {
            kept.extend(rest);
            break;
        }
        rest = &rest[word.len()..];
        let is_address = word.starts_with(b"HWADDR=") || word.starts_with(b"UUID=");
        is_changed |= is_address;
        match (is_address, is_plain) {
            (true, false) => kept.push(b':'),
            // What separates it from the next goes with it.
            (true, true) => {
                let blanks = rest.iter().take_while(|c| matches!(c, b' ' | b'\t'));
                rest = &rest[blanks.count()..];
                rest = rest.strip_prefix(b";").unwrap_or(rest);
            }
            (false, _) if word.is_empty() => {
                kept.push(rest[0]);
                rest = &rest[1..];
            }
            (false, _) => kept.extend(word),
        }
    }
    if !is_changed {
        return kept;
    }
    // `export` alone would show what is exported.
    let is_separator = |c: &u8| c.is_ascii_whitespace() || *c == b';';
    if let Some(before) = kept.trim_ascii_end().strip_suffix(b"export")
        && before.last().is_none_or(is_separator)
    {
        kept = [before, if line.ends_with(b"\n") { b"\n" } else { b"" }].concat();
    }
    match kept.iter().all(is_separator) {
        true => Vec::new(),
        false => kept,
    }
}

fn has_assignments_only(line: &[u8]) -> bool {
    let mut rest = line;
    while !rest.is_empty() {
        let word = &rest[..word_length(rest)];
        if word.starts_with(b"#") {
            return true;
        }
        if !word.is_empty() && word != b"export" && !word.contains(&b'=') {
            return false;
        }
        rest = &rest[word.len().max(1)..];
    }
    true
}

/// How many bytes a shell takes for one word; none where a separator comes first.
fn word_length(text: &[u8]) -> usize {
    let mut quote = None;
    let mut is_escaped = false;
    let end = text.iter().position(|c| match (quote, c) {
        _ if is_escaped => {
            is_escaped = false;
            false
        }
        (None | Some(b'"'), b'\\') => {
            is_escaped = true;
            false
        }
        (None, b'"' | b'\'') => {
            quote = Some(*c);
            false
        }
        (Some(open), _) => {
            if open == *c {
                quote = None;
            }
            false
        }
        (None, c) => c.is_ascii_whitespace() || *c == b';',
    });
    end.unwrap_or(text.len())
}

/// Of DHCP.
pub(super) fn leases(root: &Root) -> Item {
    let is_lease = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let of_networkd = path.starts_with("/run/systemd/netif/leases");
        let of_wicked = path.starts_with("/var/lib/wicked") && name.starts_with("lease-");
        of_networkd || of_wicked || name.contains(".lease") || name.ends_with("_lease")
    };
    let files = LEASES
        .iter()
        .flat_map(|directory| files_in(root, directory.as_ref()));
    let identities = IDENTITIES.iter().map(PathBuf::from);
    let identities = identities.filter(|path| root.is(Kind::File, path));
    let files = files.filter(is_lease).chain(identities);
    Item {
        steps: files.map(Step::Remove).collect(),
        ..Item::new("leases")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_sets_an_address_goes() {
        for (line, expected) in [
            ("HWADDR=aa\n", ""),
            (" \tHWADDR=\"a b\" \n", ""),
            ("export UUID=5\n", ""),
            ("UUID=5; HWADDR=3;\n", ""),
            ("UUID='x;y' HWADDR=a\\ b", ""),
            ("DEVICE=e; HWADDR=3\n", "DEVICE=e; \n"),
            ("HWADDR=3 ; DEVICE=e\n", " DEVICE=e\n"),
            ("export UUID=5 NAME=x\n", "export NAME=x\n"),
            ("DEVICE=e; export UUID=5\n", "DEVICE=e; \n"),
            ("[ x ] && HWADDR=3; A=1\n", "[ x ] && :; A=1\n"),
            ("HWADDR=3 # mine\n", "# mine\n"),
            ("# HWADDR=3\n", "# HWADDR=3\n"),
            ("DEVICE=e # HWADDR=3\n", "DEVICE=e # HWADDR=3\n"),
            ("NAME=\"x HWADDR=3\"\n", "NAME=\"x HWADDR=3\"\n"),
            ("BRIDGE_UUID=5\n", "BRIDGE_UUID=5\n"),
            ("export\n", "export\n"),
            ("\n", "\n"),
        ] {
            let kept = without_address(line.as_bytes());
            assert_eq!(String::from_utf8_lossy(&kept), expected, "{line}");
        }
    }
}
