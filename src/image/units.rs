//! What systemd makes of a system's units: which it starts at boot, and what they say.

use std::collections::BTreeMap;

use super::enabling::{LOCAL_UNITS, NOTHING, UNIT_DIRECTORY};
use super::root::{Kind, Root};

/// Where systemd looks for units, the first counts.
pub(crate) const DIRECTORIES: [&str; 4] = [
    LOCAL_UNITS,
    "/usr/local/lib/systemd/system",
    UNIT_DIRECTORY,
    "/lib/systemd/system",
];

/// Where every boot comes by, whichever target it leads to. cloud-init's generator asks for its
/// own target.
const BOOTED: [&str; 4] = [
    "default.target",
    "multi-user.target",
    "sysinit.target",
    CLOUD_INIT,
];
const CLOUD_INIT: &str = "cloud-init.target";
const CLOUD_INIT_GENERATOR: &str = "/etc/systemd/system-generators/cloud-init-generator";

const DEPENDENCIES: [&str; 7] = [
    "Wants",
    "Requires",
    "Requisite",
    "BindsTo",
    "Upholds",
    "After",
    "Before",
];

/// More than any system has.
const MOST_UNITS: usize = 2000;

/// A link to `/dev/null` or an empty file, which both mean: as if it were not there.
pub(crate) fn is_masked(root: &Root, path: &str) -> bool {
    is_null(root, path)
        || root
            .entry(path.as_ref())
            .is_ok_and(|entry| entry.is_some_and(|e| e.kind == Kind::File && e.size == 0))
}

/// A link to `/dev/null`, relative or not.
pub(crate) fn is_null(root: &Root, path: &str) -> bool {
    let text = root.link_text(path.as_ref()).ok().flatten();
    text.is_some_and(|text| text.ends_with(NOTHING))
}

/// What the system boots into, where something says so.
pub(crate) fn default_target(root: &Root) -> Option<String> {
    DIRECTORIES.iter().find_map(|directory| {
        let link = root.link_text(format!("{directory}/default.target").as_ref());
        Some(link.ok()??.file_name()?.to_str()?.to_string())
    })
}

/// The file that describes a unit; that of its template where it has none of its own, and None
/// where it is masked.
pub(crate) fn file(root: &Root, unit: &str) -> Option<String> {
    let path = place(root, unit)?;
    (!is_masked(root, &path) && root.is(Kind::File, &path)).then_some(path)
}

/// Likewise, or the link or the empty file that masks it.
fn place(root: &Root, unit: &str) -> Option<String> {
    names_of(unit).into_iter().find_map(|name| {
        let mut paths = DIRECTORIES.iter().map(|d| format!("{d}/{name}"));
        paths.find(|path| root.entry_itself(path.as_ref()).is_ok_and(|e| e.is_some()))
    })
}

/// What a unit's file says; of one that systemd-sysv-generator(8) makes of a script, which is
/// where there is no such file, nothing. None where systemd has no such unit.
fn text(root: &Root, unit: &str) -> Option<String> {
    if let Some(path) = file(root, unit) {
        return Some(root.text(path));
    }
    let service = unit.strip_suffix(".service")?;
    let scripts = SCRIPTS.map(|directory| format!("{directory}/{service}"));
    let is_made = place(root, unit).is_none() && scripts.iter().any(|s| root.is_executable(s));
    is_made.then(String::new)
}

/// Where a distribution's systemd looks for scripts.
const SCRIPTS: [&str; 2] = ["/etc/init.d", "/etc/rc.d/init.d"];

/// `sshd-keygen@rsa.service`, `sshd-keygen@.service`.
fn names_of(unit: &str) -> Vec<String> {
    let mut names = vec![unit.to_string()];
    if let Some((template, instance)) = unit.split_once('@')
        && let Some((instance, kind)) = instance.rsplit_once('.')
        && !instance.is_empty()
    {
        names.push(format!("{template}@.{kind}"));
    }
    names
}

/// What is set in a unit and its drop-ins under a name, in order.
pub(crate) fn values(root: &Root, unit: &str, name: &str) -> Vec<String> {
    values_among(&texts(root, unit), name)
}

/// What a unit and its drop-ins say, in order; nothing where systemd has no such unit.
fn texts(root: &Root, unit: &str) -> Vec<String> {
    let Some(text) = text(root, unit) else {
        return Vec::new();
    };
    // By their names; of one name that of the first directory.
    let mut drop_ins = BTreeMap::new();
    for unit in names_of(unit) {
        for directory in DIRECTORIES.map(|directory| format!("{directory}/{unit}.d")) {
            for file in names_in(root, &directory) {
                let path = format!("{directory}/{file}");
                if file.ends_with(".conf") {
                    drop_ins.entry(file).or_insert(path);
                }
            }
        }
    }
    let drop_ins = drop_ins.values().map(|path| root.text(path));
    std::iter::once(text).chain(drop_ins).collect()
}

/// A dependency cannot be taken back (systemd.unit(5)); of other lists an empty value takes away
/// what was before it.
fn values_among(texts: &[String], name: &str) -> Vec<String> {
    let mut values = Vec::new();
    for text in texts {
        for value in values_in(text, name) {
            match value.is_empty() {
                true if !DEPENDENCIES.contains(&name) => values.clear(),
                true => {}
                false => values.push(value),
            }
        }
    }
    values
}

fn values_in(text: &str, name: &str) -> Vec<String> {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']));
    let mut values = Vec::new();
    while let Some(mut line) = lines.next() {
        let mut whole = String::new();
        while let Some(part) = line.strip_suffix('\\') {
            whole += part;
            whole.push(' ');
            line = lines.next().unwrap_or_default();
        }
        whole += line;
        if let Some((set, value)) = whole.split_once('=')
            && set.trim() == name
        {
            values.push(value.trim().into());
        }
    }
    values
}

/// The units that a unit names under one of these names.
pub(crate) fn named(root: &Root, unit: &str, names: &[&str]) -> Vec<String> {
    let texts = texts(root, unit);
    let mut units = Vec::new();
    for name in names {
        for value in values_among(&texts, name) {
            units.extend(value.split_whitespace().map(String::from));
        }
    }
    units
}

/// All that systemd starts at boot.
pub(crate) fn started(root: &Root) -> Vec<String> {
    let mut started: Vec<String> = BOOTED.iter().map(ToString::to_string).collect();
    started.extend(default_target(root));
    started.retain(|unit| {
        let is_off = unit == CLOUD_INIT && is_masked(root, CLOUD_INIT_GENERATOR);
        let mut places = DIRECTORIES.iter().map(|d| format!("{d}/{unit}"));
        !is_off && !places.any(|place| is_masked(root, &place))
    });
    let mut next = 0;
    while next < started.len() && started.len() < MOST_UNITS {
        let pulled_in = pulled_in(root, &started[next]);
        next += 1;
        for unit in pulled_in {
            if !started.contains(&unit) && file(root, &unit).is_some() {
                started.push(unit);
            }
        }
    }
    started
}

/// What a unit that is started starts, too.
fn pulled_in(root: &Root, unit: &str) -> Vec<String> {
    let mut units = named(root, unit, &["Wants", "Requires", "BindsTo", "Upholds"]);
    for name in names_of(unit) {
        for kind in ["wants", "requires", "upholds"] {
            // A link to /dev/null hides those of the directories behind.
            let mut hidden = Vec::new();
            for directory in DIRECTORIES.map(|directory| format!("{directory}/{name}.{kind}")) {
                for other in names_in(root, &directory) {
                    if is_null(root, &format!("{directory}/{other}")) {
                        hidden.push(other);
                    } else if !hidden.contains(&other) {
                        units.push(other);
                    }
                }
            }
        }
    }
    // Whoever connects starts its service.
    if let Some(stem) = unit.strip_suffix(".socket") {
        let named = values(root, unit, "Service");
        let by_name = [format!("{stem}.service"), format!("{stem}@.service")];
        units.extend(if named.is_empty() {
            by_name.into()
        } else {
            named
        });
    }
    units
}

pub(crate) fn names_in(root: &Root, directory: &str) -> Vec<String> {
    let names = root.names(directory.as_ref()).unwrap_or_default();
    names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn an_empty_value_takes_back_a_list_and_no_dependency() {
        let local = "etc/systemd/system/x@.service.d";
        let tree = Tree::new(&[
            ("etc/", ""),
            (
                "usr/lib/systemd/system/x@.service",
                "# Requires=no\nRequires = a b\nExecStart=/one \\\n ; no\n two\n",
            ),
            (
                "usr/lib/systemd/system/x@.service.d/10.conf",
                "Requires=c\n",
            ),
            (&format!("{local}/10.conf"), "Requires=\n#Requires=no\n"),
            (
                "usr/lib/systemd/system/x@1.service.d/20.conf",
                "Requires=d\nExecStart=\nExecStart=/three\n",
            ),
            (&format!("{local}/20.not"), "Requires=no\n"),
        ]);
        let root = Root::open(tree.root()).unwrap();
        let requires = |unit| named(&root, unit, &["Requires"]);
        assert_eq!(requires("x@.service"), ["a", "b"]);
        assert_eq!(requires("x@1.service"), ["a", "b", "d"]);
        assert_eq!(values(&root, "x@.service", "ExecStart"), ["/one  two"]);
        assert_eq!(values(&root, "x@1.service", "ExecStart"), ["/three"]);
    }

    /// systemd-sysv-generator(8) makes a unit of a script that can be run, unless there is one.
    #[test]
    fn drop_ins_count_for_a_unit_that_is_made_of_a_script() {
        use std::fs;
        use std::os::unix::fs::PermissionsExt;
        for scripts in ["etc/init.d", "etc/rc.d/init.d"] {
            let script = format!("{scripts}/x");
            let drop_in = "usr/lib/systemd/system/x.service.d/10.conf";
            let tree = Tree::new(&[("usr/", ""), (&script, ""), (drop_in, "Requires=a\n")]);
            let requires = || {
                let root = Root::open(tree.root()).unwrap();
                named(&root, "x.service", &["Requires"])
            };
            let path = tree.root().join(&script);
            let set_mode = |mode| {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            };
            set_mode(0o644);
            assert_eq!(requires(), [""; 0]);
            set_mode(0o755);
            assert_eq!(requires(), ["a"]);
            let mask = tree.root().join("usr/lib/systemd/system/x.service");
            symlink("/dev/null", mask).unwrap();
            assert_eq!(requires(), [""; 0]);
        }
    }

    #[test]
    fn what_is_started_is_what_the_boot_leads_to() {
        let units = "usr/lib/systemd/system";
        let unit = |name: &str| format!("{units}/{name}");
        let tree = Tree::new(&[
            ("etc/systemd/system/multi-user.target.wants/a.service", ""),
            (&unit("a.service"), "[Unit]\nWants=b.target gone.service\n"),
            (&unit("b.target"), "[Unit]\n"),
            (&unit("b.target.wants/c@1.service"), ""),
            (&unit("c@.service"), "[Service]\n"),
            (&unit("b.target.wants/hidden.service"), ""),
            (&unit("hidden.service"), "[Service]\n"),
            ("etc/systemd/system/b.target.wants/", ""),
            (&unit("b.target.requires/masked.service"), ""),
            (&unit("masked.service"), "[Service]\n"),
            (&unit("sysinit.target.wants/d.socket"), ""),
            (&unit("d.socket"), "[Socket]\n"),
            (&unit("d@.service"), "[Service]\n"),
            (&unit("rescue.target.wants/a2.service"), ""),
            (&unit("a2.service"), "[Service]\n"),
        ]);
        for path in ["masked.service", "b.target.wants/hidden.service"] {
            let path = tree.root().join("etc/systemd/system").join(path);
            symlink("/dev/null", path).unwrap();
        }
        let started = started(&Root::open(tree.root()).unwrap());
        let units = [
            "a.service",
            "b.target",
            "c@1.service",
            "d.socket",
            "d@.service",
        ];
        let mut found: Vec<&String> = started[BOOTED.len()..].iter().collect();
        found.sort();
        assert_eq!(found, units);
    }
}
