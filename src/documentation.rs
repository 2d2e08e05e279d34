//! Holds the pages for readers together: the README is short, no link leads nowhere, and
//! vmstage.toml(5) has every key of the configuration as it is.

#[path = "../build/pages.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is made for build.rs")]
mod generated;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use crate::cli::Cli;
use crate::config::Config;
use crate::layers::LAYERS;
use generated::settings::{KEYS, Key};

/// The README is read whole; what more there is to say is in `docs`.
const README_LINES: usize = 250;

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages in the sources' root directory and in `docs`, by path and text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    for directory in [sources().to_path_buf(), sources().join("docs")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push((path, text));
            }
        }
    }
    pages
}

/// What `](…)` names, outside of commands and their output.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("\n```").step_by(2);
    prose
        .flat_map(|part| part.split("](").skip(1))
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

/// The anchors that GitHub gives a page's headings.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let stays = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
            title.chars().filter(stays).collect::<String>()
        })
        .map(|title| title.replace(' ', "-"))
        .collect()
}

fn fault(page: &Path, text: &str, link: &str) -> Option<String> {
    if link.starts_with("https://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let (path, text) = match file {
        "" => (page.to_path_buf(), text.to_string()),
        file => {
            let path = page.parent()?.join(file);
            if !path.exists() {
                return Some(format!("there is no {file}"));
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            (path, text)
        }
    };
    (!anchor.is_empty() && !anchors(&text).iter().any(|one| one == anchor))
        .then(|| format!("{} has no heading {anchor}", path.display()))
}

#[test]
fn no_link_leads_nowhere() {
    let pages = pages();
    let faults: Vec<String> = pages
        .iter()
        .flat_map(|(page, text)| {
            links(text).into_iter().filter_map(move |link| {
                Some(format!("{}: {}", page.display(), fault(page, text, link)?))
            })
        })
        .collect();
    assert_eq!(faults, [""; 0]);
    assert!(pages.iter().any(|(_, text)| links(text).len() > 10));
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = sources().join("README.md");
    let text = "# Some *page*\n[a](#some-page) [b](#other) [c](docs/none.md) [d](https://x.example/) [e](docs)\n```\n[f](g)\n```\n";
    let found: Vec<String> = links(text)
        .into_iter()
        .filter_map(|link| fault(&page, text, link))
        .collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("has no heading other"), "{found:?}");
    assert_eq!(found[1], "there is no docs/none.md");
}

#[test]
fn the_page_on_the_house_has_the_layers() {
    let page = fs::read_to_string(sources().join("ARCHITECTURE.md")).unwrap();
    let (_, table) = page
        .split_once("| layer | holds |\n| --- | --- |\n")
        .unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows = table.lines().map(|row| {
        let (_, row) = row.split_once("| ").unwrap();
        let (units, _) = row.split_once(" |").unwrap();
        units
            .split(", ")
            .map(|unit| unit.trim_matches('`'))
            .collect()
    });
    assert_eq!(rows.collect::<Vec<Vec<&str>>>(), LAYERS);
}

#[test]
fn the_readme_is_short_and_leads_to_every_page() {
    let readme = fs::read_to_string(sources().join("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(lines <= README_LINES, "it has {lines} lines");
    for (page, _) in pages() {
        let page = page.strip_prefix(sources()).unwrap().to_str().unwrap();
        let is_linked = links(&readme).contains(&page);
        assert!(
            is_linked || page == "README.md",
            "it does not lead to {page}"
        );
    }
}

/// Who follows a page has the packages that these sources make.
#[test]
fn the_pages_name_packages_of_this_version() {
    let mut found = 0;
    for (page, text) in pages() {
        let is_package = |word: &&str| {
            let is_ours = word.contains("vmstage-") || word.contains("vmstage_");
            is_ours
                && [".deb", ".rpm", ".tar.gz"]
                    .iter()
                    .any(|end| word.ends_with(end))
        };
        for package in text.split_whitespace().filter(is_package) {
            let is_now = package.contains(env!("CARGO_PKG_VERSION"));
            assert!(is_now, "{}: {package}", page.display());
            found += 1;
        }
    }
    assert!(found > 3, "{found}");
}

const SHIPPED: &str = include_str!("../packaging/vmstage.toml");
const SHIPPED_WITH_0_1_0: &str = include_str!("../tests/packaging/0.1.0/vmstage.toml");

/// The names that the configuration's own types know: serde lists them where it is given another.
fn known_to_the_types(beginning: &str) -> BTreeSet<String> {
    let error = Config::parse(&format!("{beginning}no_such_key = {{}}\n")).unwrap_err();
    let error = error.to_string();
    let (_, names) = error.split_once("expected ").expect(&error);
    let names = names.split('`').skip(1).step_by(2);
    names.map(String::from).collect()
}

/// A section's header, as it has to be written.
fn header(section: &str) -> String {
    match section {
        "directory" => "[[directory]]\n".into(),
        other => format!("[{other}]\n"),
    }
}

/// A configuration with this key and nothing else but what it cannot be without.
fn with(key: &Key, value: &str) -> String {
    let needed = match (key.section, key.name) {
        ("directory", "path")
        | ("staging" | "metadata" | "deadline" | "report" | "callback", _) => "",
        _ => "path = \"x\"\n",
    };
    format!("{}{needed}{} = {value}\n", header(key.section), key.name)
}

/// The value of a key that a shipped file shows as a default, or as how to write it.
fn shown<'a>(file: &'a str, key: &Key, mark: &str) -> Option<&'a str> {
    let header = header(key.section);
    let (_, section) = file.split_once(&format!("#: {header}"))?;
    let next = [
        "\n#: [staging]",
        "\n#: [metadata]",
        "\n#: [deadline]",
        "\n#: [report]",
        "\n#: [callback]",
    ];
    let end = next.iter().filter_map(|next| section.find(next)).min();
    let section = &section[..end.unwrap_or(section.len())];
    let begin = format!("{mark} {} = ", key.name);
    let line = section.lines().find_map(|line| line.strip_prefix(&begin))?;
    Some(line.split("  #").next()?.trim())
}

#[test]
fn the_page_has_every_key_that_the_types_know_and_no_other() {
    let sections = known_to_the_types("");
    assert!(sections.len() >= 6, "{sections:?}");
    for section in sections {
        let known = known_to_the_types(&header(&section));
        let told = KEYS.iter().filter(|key| key.section == section);
        let told: BTreeSet<String> = told.map(|key| key.name.to_string()).collect();
        assert_eq!(told, known, "build/settings.rs, of [{section}]");
    }
}

#[test]
fn a_key_takes_what_the_page_says_and_refuses_another_thing() {
    for key in KEYS {
        for right in key.kind.right() {
            let text = with(key, &right);
            Config::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
        let text = with(key, key.kind.wrong());
        assert!(Config::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn the_page_says_a_default_or_what_holds_instead() {
    for key in KEYS {
        let default = shown(SHIPPED, key, "#:");
        match key.otherwise {
            None => {
                let default = default.expect(key.name);
                Config::parse(&with(key, default)).unwrap();
            }
            // What is there for each directory, and for none.
            Some(_) => assert!(
                key.section == "directory"
                    || default.is_none() && shown(SHIPPED, key, "#").is_some(),
                "{}",
                key.name
            ),
        }
    }
}

#[test]
fn a_key_is_there_since_the_version_that_shipped_it_first() {
    for key in KEYS {
        let then = ["#:", "#"].map(|mark| shown(SHIPPED_WITH_0_1_0, key, mark));
        let was_there = then.iter().any(Option::is_some);
        assert_eq!(
            key.since == "0.1.0",
            was_there,
            "{}.{}",
            key.section,
            key.name
        );
        let now = shown(SHIPPED, key, "#:");
        let was = then[0].filter(|was| Some(*was) != now);
        assert_eq!(key.was, was, "{}.{}", key.section, key.name);
    }
}

#[test]
fn the_page_explains_each_key_with_its_type_default_and_version() {
    let pages = generated::all(Cli::command()).unwrap();
    let (_, page) = pages
        .iter()
        .find(|(name, _)| name == "vmstage.toml.5")
        .unwrap();
    let page = String::from_utf8_lossy(page);
    for section in page.split("\n.SS ").skip(1) {
        let (name, section) = section.split_once('\n').unwrap();
        let name = name.trim_matches(['"', '[', ']']);
        let keys: Vec<&Key> = KEYS.iter().filter(|key| key.section == name).collect();
        let explained: Vec<&str> = section.split(".TP\n").skip(1).collect();
        assert_eq!(
            explained.len(),
            keys.len(),
            "[{name}] of packaging/vmstage.toml"
        );
        for (key, text) in keys.iter().zip(explained) {
            let (term, words) = text.split_once('\n').unwrap();
            assert_eq!(term, format!("\\fB{}\\fR", key.name));
            let (comment, facts) = words.split_once(".br\nType: ").expect(term);
            assert!(
                comment.len() > 5,
                "there is no comment on {} in packaging/vmstage.toml",
                key.name
            );
            assert!(facts.contains(&format!("Since {}.", key.since)), "{facts}");
        }
    }
    let sections = page.matches("\n.SS ").count();
    assert_eq!(sections, known_to_the_types("").len());
}

/// Whether each object of a schema says which fields it has, and refuses others; the owner of an
/// instance alone gives keys of his own.
fn lax(schema: &serde_json::Value, at: &str, found: &mut Vec<String>) {
    use serde_json::Value;
    match schema {
        Value::Object(fields) => {
            let is_object = fields.get("type").is_some_and(|kind| kind == "object");
            let is_strict = fields.get("additionalProperties") == Some(&Value::Bool(false))
                && fields.contains_key("required");
            if is_object && fields.len() > 1 && !is_strict && !at.ends_with("/meta") {
                found.push(at.to_string());
            }
            for (key, field) in fields {
                lax(field, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| lax(element, at, found)),
        _ => {}
    }
}

/// The commands with `--format json`; of those below `plan`, that.
fn printing_json() -> Vec<String> {
    fn prints_json(command: &clap::Command) -> bool {
        let is_json = |argument: &clap::Arg| {
            let values = argument.get_possible_values();
            values.iter().any(|value| value.matches("json", false))
        };
        command.get_arguments().any(is_json) || command.get_subcommands().any(prints_json)
    }
    let mut cli = Cli::command();
    cli.build();
    let commands = cli.get_subcommands().filter(|one| prints_json(one));
    commands.map(|one| one.get_name().to_string()).collect()
}

#[test]
fn each_command_that_prints_json_has_a_schema_that_refuses_fields_it_does_not_name() {
    let page = fs::read_to_string(sources().join("docs/json.md")).unwrap();
    let commands = printing_json();
    assert!(commands.iter().any(|name| name == "status"), "{commands:?}");
    for name in commands {
        let file = format!("docs/{name}.schema.json");
        let text = fs::read_to_string(sources().join(&file)).unwrap();
        let mut found = Vec::new();
        lax(&serde_json::from_str(&text).unwrap(), "", &mut found);
        assert_eq!(found, [""; 0], "{file}");
        assert!(page.contains(&format!("({name}.schema.json)")), "{file}");
    }
}
