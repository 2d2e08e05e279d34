//! Holds the pages for readers together: the README is short, and no link leads nowhere.

use std::fs;
use std::path::{Path, PathBuf};

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
