//! What vmstage has left in a system while it ran there: what it told others, and its state.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::root::{Kind, Root};
use super::step::{Step, Steps};
use crate::config::Config;
use crate::host::regular_file::MIB;
use crate::metadata::machine_features::published::{JOB, MACHINE, MARK, values_in};
use crate::report::{condor, machine_features, motd, textfile};

/// What survives a reboot.
pub(crate) const STATE: &str = "/var/lib/vmstage";

/// Of one boot: the second where there is no `/run`.
pub(crate) const RUN: [&str; 2] = ["/run/vmstage", "/var/run/vmstage"];

/// How what others were told is taken back, HTCondor first: a drop-in of somebody who is gone
/// would keep jobs away for ever. Of directories and files that are shared, only what is
/// vmstage's own.
pub(crate) fn to_take_back(root: &Root, config: &Config) -> Steps {
    let mut steps = Steps::default();
    let drop_in = Path::new(condor::DIRECTORY).join(condor::NAME);
    steps.add(file(root, &drop_in));
    for directory in [MACHINE, JOB] {
        steps.add(features(root, Path::new(directory)));
    }
    let metrics = config.report.textfile_directory.join(textfile::NAME);
    for own in [
        machine_features::SNIPPET.as_ref(),
        motd::FILE.as_ref(),
        motd::SCRIPT.as_ref(),
        metrics.as_path(),
    ] {
        steps.add(file(root, own));
    }
    steps.add(lines_of_motd(root).map(Vec::from_iter));
    steps
}

/// How the state and what was of one boot are removed, whole; and what stays and why, a line
/// each.
pub(crate) fn state_to_remove(root: &Root) -> (Steps, Vec<String>) {
    let (mut steps, left) = trees_to_remove(root, &RUN);
    let (of_state, left_of_state) = trees_to_remove(root, &[STATE]);
    steps.append(of_state);
    (steps, [left, left_of_state].concat())
}

/// How directories of vmstage's own are removed with all that is in them, each once, however
/// many names it has. A link in the place of one is somebody's, and so is all behind it.
pub(crate) fn trees_to_remove(root: &Root, directories: &[&str]) -> (Steps, Vec<String>) {
    let (mut steps, mut left) = (Steps::default(), Vec::new());
    let mut seen: Vec<PathBuf> = Vec::new();
    for directory in directories.iter().map(Path::new) {
        let shown = directory.display();
        let entry = root.entry_itself(directory);
        match entry.with_context(|| root.cannot("look at", directory)) {
            Err(e) => steps.failed.push(format!("{e:#}")),
            Ok(None) => {}
            Ok(Some(entry)) if entry.kind == Kind::Directory => {
                let real = root.real_path(directory);
                let real = real.unwrap_or_else(|_| directory.into());
                if !seen.contains(&real) {
                    steps.steps.push(Step::RemoveTree(directory.into()));
                    seen.push(real);
                }
            }
            Ok(Some(entry)) if entry.kind == Kind::Link => {
                left.push(format!("{shown} stays: it is a link"));
            }
            Ok(Some(_)) => left.push(format!("{shown} stays: it is not a directory")),
        }
    }
    (steps, left)
}

/// A file of vmstage's own, and what a killed process left beside it.
fn file(root: &Root, path: &Path) -> Result<Vec<Step>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let leftover = path.with_file_name(format!(".{name}.new"));
    let mut steps = Vec::new();
    for path in [path, &leftover] {
        let there = root.entry_itself(path);
        if there
            .with_context(|| root.cannot("look at", path))?
            .is_some()
        {
            steps.push(Step::Remove(path.into()));
        }
    }
    Ok(steps)
}

/// Whoever provides the VM may have put values of its own beside those of vmstage.
fn features(root: &Root, directory: &Path) -> Result<Vec<Step>> {
    let mark = directory.join(MARK);
    let Some(list) = text(root, &mark)? else {
        return Ok(Vec::new());
    };
    let mut steps = Vec::new();
    for (key, value) in values_in(&list) {
        // The list may be anybody's: it leads nowhere else.
        let is_name = !key.contains('/') && key != "..";
        let path = directory.join(&key);
        if is_name && text(root, &path).ok().flatten().as_deref() == Some(&value) {
            steps.push(Step::Remove(path));
        }
    }
    steps.extend(file(root, &mark)?);
    let entry = root.entry_itself(directory).ok().flatten();
    if entry.is_some_and(|entry| entry.kind == Kind::Directory) {
        steps.push(Step::RemoveEmpty(directory.into()));
    }
    Ok(steps)
}

fn lines_of_motd(root: &Root) -> Result<Option<Step>> {
    let path = Path::new(motd::MOTD);
    // A link leads to what is written anew at each boot.
    let is_file = |root: &Root| {
        let entry = root.entry_itself(path).ok().flatten();
        entry.is_some_and(|entry| entry.kind == Kind::File)
    };
    if !is_file(root) {
        return Ok(None);
    }
    let content = root.read(path, MIB);
    let content = content
        .with_context(|| root.cannot("read", path))?
        .unwrap_or_default();
    let theirs = motd::without_ours(&content);
    Ok((theirs != content).then(|| Step::Rewrite {
        path: path.into(),
        content: theirs,
    }))
}

/// None where there is no file.
fn text(root: &Root, path: &Path) -> Result<Option<String>> {
    let content = root
        .read(path, MIB)
        .with_context(|| root.cannot("read", path))?;
    Ok(content.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;
    use crate::report::{self, example};

    #[test]
    fn what_was_published_is_taken_back_and_what_is_of_others_stays() {
        let files = [
            ("usr/", ""),
            ("run/", ""),
            ("proc/stat", "cpu0 1 2 3\n"),
            ("etc/condor/config.d/50-site", "START = True\n"),
            ("etc/machinefeatures/hs06", "10"),
            ("etc/profile.d/other.sh", ""),
            ("etc/motd", "Welcome\nvmstage rules\n"),
            ("textfiles/node.prom", ""),
        ];
        let tree = Tree::new(&files);
        let before = tree.names("");
        let config = Config::parse("report.textfile_directory = \"/textfiles\"").unwrap();
        let (host, status) = (tree.host(), example::with_deadline());
        status.write(&host).unwrap();
        report::deadline(&host, &Default::default(), &status, &config);
        let published = tree.names("");
        assert!(published.len() > before.len() + 8, "{published:?}");
        assert!(tree.text("etc/motd").contains("vmstage: "));

        let root = Root::open(tree.root()).unwrap();
        let steps = to_take_back(&root, &config).steps;
        assert_eq!(
            steps[0].to_string(),
            "remove /etc/condor/config.d/99-vmstage.config"
        );
        let steps = steps.into_iter().chain(state_to_remove(&root).0.steps);
        for step in steps {
            step.carry_out(&root).unwrap();
        }
        assert_eq!(tree.names(""), before);
        assert_eq!(tree.text("etc/motd"), "Welcome\nvmstage rules\n");
        assert!(!tree.root().join("etc/jobfeatures").exists());
        assert!(to_take_back(&root, &config).steps.is_empty());
        assert!(state_to_remove(&root).0.steps.is_empty());
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_stays_with_all_behind_it() {
        for (link, text) in [
            ("run/vmstage", "/"),
            ("run/vmstage", "/home/anna"),
            ("var/lib/vmstage", "/etc"),
            ("var/lib/vmstage", "../../home"),
        ] {
            let files = [
                ("usr/", ""),
                ("run/", ""),
                ("var/lib/", ""),
                ("etc/passwd", "root"),
                ("home/anna/results", "x"),
            ];
            let tree = Tree::new(&files);
            std::os::unix::fs::symlink(text, tree.root().join(link)).unwrap();
            let before = tree.names("");
            let root = Root::open(tree.root()).unwrap();
            let (steps, left) = state_to_remove(&root);
            assert!(steps.steps.is_empty() && steps.failed.is_empty());
            assert_eq!(left, [format!("/{link} stays: it is a link")]);
            assert_eq!(tree.names(""), before);
        }
    }

    #[test]
    fn a_directory_of_two_names_is_removed_once() {
        let tree = Tree::new(&[
            ("etc/", ""),
            ("usr/", ""),
            ("var/", ""),
            ("run/vmstage/status.json", "{}"),
        ]);
        std::os::unix::fs::symlink("../run", tree.root().join("var/run")).unwrap();
        let root = Root::open(tree.root()).unwrap();
        let (steps, left) = state_to_remove(&root);
        let shown: Vec<String> = steps.steps.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["remove /run/vmstage with all in it"]);
        assert_eq!(left, [""; 0]);
        steps.steps[0].carry_out(&root).unwrap();
        assert!(tree.root().join("run").is_dir() && !tree.root().join("run/vmstage").exists());
    }

    #[test]
    fn a_list_of_features_that_somebody_laid_removes_nothing_elsewhere() {
        let list = "../passwd root\n.. x\n";
        let files = [
            ("usr/", ""),
            ("etc/passwd", "root"),
            ("etc/machinefeatures/.vmstage", list),
        ];
        let tree = Tree::new(&files);
        let root = Root::open(tree.root()).unwrap();
        for step in to_take_back(&root, &Config::default()).steps {
            step.carry_out(&root).unwrap();
        }
        assert_eq!(tree.names(""), ["etc/passwd"]);
    }
}
