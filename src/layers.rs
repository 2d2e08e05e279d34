//! The rule of the house, held by a test: which part of the program may use which.
//!
//! The sources are read as text, without what is only compiled for tests. An arrow goes from
//! a module to each one that it names in a path: `crate::…`, `super::…`, `self::…`, or the
//! name of a module of its own; in a `use` or anywhere else. The test fails
//!
//! - where an arrow leads from a layer to one above it;
//! - where arrows lead in a circle, among the units (the files and folders in `src/`) or among
//!   the modules within them;
//! - where a file has more than [`MOST_LINES`] lines beside its tests.
//!
//! A module and those within it are no exception: a parent that uses its children is not used
//! by them. But `mod x;` is no arrow, nor is handing on what a child has (`pub use x::…`). What
//! is handed on is looked for where it is, so that no circle hides behind a parent.
//!
//! What cannot be seen in this way: methods, and what a macro makes.

mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use scan::{File, Name};

/// From top to bottom. A unit uses those below it, and those beside it unless that leads in a
/// circle.
pub(crate) const LAYERS: &[&[&str]] = &[
    &["command"],
    &["watch", "image", "plan"],
    &["report"],
    &["status"],
    &["metadata", "deadline", "staging"],
    &["disk"],
    &["legacy"],
    &["host", "http", "backoff", "logging"],
    &[
        "cli",
        "config",
        "clock",
        "text",
        "url",
        "failure",
        "resources",
        "order",
    ],
];

const MOST_LINES: usize = 500;

/// Sources, given as paths below `src/` and texts.
fn files(sources: &[(String, String)]) -> Vec<File> {
    let files = sources.iter().map(|(path, text)| File::read(path, text));
    files.collect()
}

/// What is wrong with these sources.
fn complaints(files: &[File]) -> Vec<String> {
    let modules: BTreeMap<&[String], &File> =
        files.iter().map(|file| (&file.module[..], file)).collect();
    let mut complaints = Vec::new();
    let mut arrows = Arrows::default();
    let mut unit_arrows = Arrows::default();
    let is_test = |module: &[String]| {
        let mut test_modules = files.iter().flat_map(|file| &file.test_modules);
        test_modules.any(|test| module.starts_with(test))
    };
    // The root of the crate only lists the units.
    let is_of_a_unit = |file: &&File| !file.module.is_empty() && !is_test(&file.module);
    for file in files.iter().filter(is_of_a_unit) {
        if file.lines > MOST_LINES {
            complaints.push(format!(
                "src/{}: {} lines beside its tests",
                file.path, file.lines
            ));
        }
        let is_used = |name: &&Name| !name.is_handed_on(&file.module);
        for name in file.names.iter().filter(is_used) {
            let to = resolve(&name.path, &modules, 0);
            if to == file.module || to.is_empty() {
                continue;
            }
            let place = format!("src/{}:{}", file.path, name.line);
            arrows.add(file.module.join("::"), to.join("::"), &place);
            let (from_unit, to_unit) = (&file.module[..1], &to[..1]);
            if from_unit != to_unit {
                unit_arrows.add(from_unit.concat(), to_unit.concat(), &place);
                complaints.extend(layer_complaint(&from_unit[0], &to_unit[0], &place));
            }
        }
    }
    complaints.extend(unit_arrows.circle().or_else(|| arrows.circle()));
    complaints
}

fn layer_complaint(from: &str, to: &str, place: &str) -> Option<String> {
    let layer = |unit: &str| LAYERS.iter().position(|layer| layer.contains(&unit));
    match (layer(from), layer(to)) {
        (Some(from_layer), Some(to_layer)) if from_layer <= to_layer => None,
        (Some(_), Some(_)) => Some(format!("{place}: {from} → {to} leads up")),
        (None, _) => Some(format!("{place}: {from} is in no layer")),
        (_, None) => Some(format!("{place}: {to} is in no layer")),
    }
}

/// Who uses whom, and where that was first seen.
#[derive(Default)]
struct Arrows(BTreeMap<String, BTreeMap<String, String>>);

impl Arrows {
    fn add(&mut self, from: String, to: String, place: &str) {
        let of_one = self.0.entry(from).or_default();
        of_one.entry(to).or_insert_with(|| place.to_string());
    }

    /// One circle, if there is any.
    fn circle(&self) -> Option<String> {
        let mut done = BTreeSet::new();
        self.0
            .keys()
            .find_map(|from| self.circle_from(from, &mut Vec::new(), &mut done))
    }

    fn circle_from<'a>(
        &'a self,
        from: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<String> {
        if let Some(start) = way.iter().position(|passed| *passed == from) {
            let mut round = way[start..].to_vec();
            round.push(from);
            let arrow = |pair: &[&str]| {
                let place = &self.0[pair[0]][pair[1]];
                format!("{} → {} ({place})", pair[0], pair[1])
            };
            let round: Vec<String> = round.windows(2).map(arrow).collect();
            return Some(format!("a circle: {}", round.join(", ")));
        }
        if !done.insert(from) {
            return None;
        }
        way.push(from);
        let next = self.0.get(from).into_iter().flatten();
        let found = next
            .map(|(to, _)| to)
            .find_map(|to| self.circle_from(to, way, done));
        way.pop();
        found
    }
}

/// The module that a path leads to, through whatever hands it on.
fn resolve(path: &[String], modules: &BTreeMap<&[String], &File>, depth: usize) -> Vec<String> {
    let is_module = |length: &usize| modules.contains_key(&path[..*length]);
    let length = (0..=path.len()).rev().find(is_module).unwrap_or(0);
    let (module, rest) = path.split_at(length);
    let Some((file, item)) = modules.get(module).zip(rest.first()).filter(|_| depth < 10) else {
        return module.to_vec();
    };
    let handed_on = file.names.iter().filter(|name| name.is_public_use);
    for name in handed_on {
        let Some((last, within)) = name.path.split_last() else {
            continue;
        };
        let has_it = |of: &[String]| {
            modules
                .get(of)
                .is_some_and(|file| file.items.contains(item))
        };
        if last == item && name.path != path || last == "*" && has_it(within) {
            let mut further = within.to_vec();
            further.push(item.clone());
            return resolve(&further, modules, depth + 1);
        }
    }
    module.to_vec()
}

/// All sources of this crate but `main.rs`, which may use everything.
fn sources(directory: &Path, below: &str) -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{below}{name}");
        if entry.file_type().unwrap().is_dir() {
            sources.extend(self::sources(&entry.path(), &format!("{path}/")));
        } else if name.ends_with(".rs") && path != "main.rs" {
            sources.push((path, fs::read_to_string(entry.path()).unwrap()));
        }
    }
    sources.sort();
    sources
}

#[test]
fn arrows_lead_down_and_not_in_circles() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = sources(&source, "");
    let mut files = files(&sources);
    let found = complaints(&files);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    // It would be seen.
    files.push(File::read("host/new.rs", "use crate::command::boot;"));
    assert_eq!(
        complaints(&files)[0],
        "src/host/new.rs:1: host → command leads up"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complaints about these sources and no others.
    fn complaints_about<const N: usize>(sources: [(&str, &str); N]) -> Vec<String> {
        complaints(&sources.map(|(path, text)| File::read(path, text)))
    }

    #[test]
    fn an_arrow_that_leads_down_is_fine() {
        let sources = [
            ("lib.rs", "pub mod host; pub mod report;"),
            ("report/mod.rs", "use crate::host::Host;"),
            ("host/mod.rs", "pub struct Host;"),
        ];
        assert_eq!(complaints_about(sources), [""; 0]);
    }

    #[test]
    fn the_root_of_the_crate_may_use_everything() {
        let sources = [
            ("lib.rs", "pub use crate::report::x;"),
            ("report/mod.rs", ""),
        ];
        assert_eq!(complaints_about(sources), [""; 0]);
    }

    #[test]
    fn an_arrow_that_leads_up_is_told_with_its_place() {
        let sources = [
            ("report/mod.rs", "pub struct Report;"),
            (
                "host/locks.rs",
                "use std::fs;\nuse crate::{\n    clock,\n    report::Report,\n};",
            ),
            ("clock.rs", ""),
        ];
        assert_eq!(
            complaints_about(sources),
            ["src/host/locks.rs:4: host → report leads up"]
        );
        // Also one that is no import.
        let sources = [
            ("report/mod.rs", "pub fn tell() {}"),
            ("host/locks.rs", "fn f() {\n    crate::report::tell()\n}"),
        ];
        assert_eq!(
            complaints_about(sources),
            ["src/host/locks.rs:2: host → report leads up"]
        );
    }

    #[test]
    fn a_unit_that_nobody_gave_a_place_is_told() {
        let sources = [("news.rs", "use crate::host;"), ("host/mod.rs", "")];
        assert_eq!(
            complaints_about(sources),
            ["src/news.rs:1: news is in no layer"]
        );
    }

    #[test]
    fn a_circle_among_units_of_one_layer_is_told() {
        let sources = [
            ("metadata/mod.rs", "use crate::deadline::Limit;"),
            ("deadline/mod.rs", "pub struct Limit;"),
            ("deadline/trust.rs", "use crate::metadata::ask;"),
        ];
        let circle = "a circle: deadline → metadata (src/deadline/trust.rs:1), \
                      metadata → deadline (src/metadata/mod.rs:1)";
        assert_eq!(complaints_about(sources), [circle]);
    }

    #[test]
    fn a_circle_within_a_unit_is_told_also_by_way_of_the_parent() {
        let by_name = [
            ("host/a.rs", "use super::b::B;"),
            ("host/b.rs", "use crate::host::a::A;"),
        ];
        let handed_on = [
            ("host/mod.rs", "mod a; mod b; pub use a::A; pub use b::*;"),
            ("host/a.rs", "pub struct A; use super::B;"),
            ("host/b.rs", "pub struct B; use super::A;"),
        ];
        let circle = "a circle: host::a → host::b (src/host/a.rs:1), \
                      host::b → host::a (src/host/b.rs:1)";
        assert_eq!(complaints_about(by_name), [circle]);
        assert_eq!(complaints_about(handed_on), [circle]);
    }

    #[test]
    fn a_parent_that_uses_its_child_is_not_used_by_it() {
        let child = ("host/a.rs", "pub fn a(_: super::Host) {}");
        let hands_on = [
            ("host/mod.rs", "mod a; pub struct Host; pub use a::a;"),
            child,
        ];
        assert_eq!(complaints_about(hands_on), [""; 0]);
        let uses = [
            (
                "host/mod.rs",
                "mod a; pub struct Host; fn f() { a::a(Host) }",
            ),
            child,
        ];
        let complaints = complaints_about(uses);
        assert!(complaints[0].starts_with("a circle: host → host::a"));
    }

    #[test]
    fn tests_may_use_what_they_like() {
        let sources = [
            ("report/mod.rs", "pub mod example;"),
            (
                "host/mod.rs",
                "#[cfg(test)]\nmod tree;\n#[cfg(test)]\nmod tests {\nuse crate::report::example;\n}",
            ),
            ("host/tree.rs", "use crate::report::example;"),
        ];
        assert_eq!(complaints_about(sources), [""; 0]);
    }

    #[test]
    fn a_file_that_is_too_long_beside_its_tests_is_told() {
        let tests = "#[cfg(test)]\nmod tests {\n\n\n}\n";
        let fits = "\n".repeat(MOST_LINES) + tests;
        let too_long = "\n".repeat(MOST_LINES + 1) + tests;
        let sources = [("clock.rs", fits.as_str()), ("text.rs", &too_long)];
        assert_eq!(
            complaints_about(sources),
            ["src/text.rs: 501 lines beside its tests"]
        );
    }
}
