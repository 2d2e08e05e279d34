//! Commands that start vmstage at boot: in `rc.local`, inittab, and the scripts of an init that
//! nobody knows.

use std::path::{Path, PathBuf};

use super::init::Init;
use super::old;
use super::root::Root;
use super::shell;

/// Where `vmstage boot` is run.
pub(crate) struct Start {
    pub path: PathBuf,
    /// Of the line, counted from 1.
    pub number: usize,
    /// A command runs `vmstage watch` as well.
    pub watches: bool,
}

/// The first command that runs `vmstage boot`, with options before it or not.
pub(crate) fn start(root: &Root, init: Init, mount_point: &Path) -> Option<Start> {
    let scripts = scripts(root, init, mount_point);
    let first = |line: &dyn Fn(&str) -> Option<usize>| {
        let mut scripts = scripts.iter();
        scripts.find_map(|(path, text)| Some((path.clone(), line(text)?)))
    };
    let (path, number) = first(&|text| old::line_of_vmstage(text, mount_point))
        .or_else(|| first(&|text| line_with(text, "boot")))?;
    Some(Start {
        path,
        number,
        watches: first(&|text| line_with(text, "watch")).is_some(),
    })
}

/// The paths and texts of those that run.
fn scripts(root: &Root, init: Init, mount_point: &Path) -> Vec<(PathBuf, String)> {
    let of_rc_local = old::rc_local(root, mount_point).into_iter().flatten();
    let of_rc_local = of_rc_local.filter(|script| script.is_executable);
    let mut scripts: Vec<(PathBuf, String)> = of_rc_local
        .map(|one| (one.path, String::from_utf8_lossy(&one.content).into_owned()))
        .collect();
    let directory = Path::new("/etc/init.d");
    let names = match init {
        Init::Unknown => root.names(directory).unwrap_or_default(),
        _ => Vec::new(),
    };
    // vmstage's own script starts it where that is started.
    let is_other = |name: &&std::ffi::OsString| !name.to_string_lossy().ends_with("vmstage");
    let others = names.iter().filter(is_other);
    let others = others.map(|name| directory.join(name));
    for path in others.chain([PathBuf::from("/etc/inittab")]) {
        let text = root.text(&path);
        scripts.push((path, text));
    }
    scripts
}

/// The first line on which this command of vmstage's is run.
fn line_with(script: &str, command: &str) -> Option<usize> {
    let statements = shell::statements(script, &|_| None);
    let mut commands = statements.iter().flat_map(|statement| &statement.commands);
    let found = commands.find(|one| one.runs != Some(false) && runs(&one.words, command));
    found.map(|one| one.line)
}

/// Whether these words run it, by another program or not: `setsid sh -c "vmstage -v watch"`.
fn runs(words: &[String], command: &str) -> bool {
    let says = ["echo", "printf", "logger"];
    if words
        .first()
        .is_some_and(|first| says.contains(&first.as_str()))
    {
        return false;
    }
    let words: Vec<&str> = words
        .iter()
        .flat_map(|word| word.split_whitespace())
        .collect();
    let mut places = (0..words.len()).filter(|at| words[*at].rsplit('/').next() == Some("vmstage"));
    places.any(|at| {
        let mut after = words[at + 1..].iter();
        after.find(|word| !word.starts_with('-')) == Some(&command)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_with_options_before_it_and_in_what_another_shell_is_given() {
        for (script, boot, watch) in [
            ("vmstage boot\n", Some(1), None),
            ("#!/bin/sh\n/usr/sbin/vmstage -v boot\n", Some(2), None),
            (
                "vmstage --verbose boot && setsid vmstage -v watch &\n",
                Some(1),
                Some(1),
            ),
            ("sh -c 'vmstage -v boot'\n", Some(1), None),
            ("::respawn:/usr/sbin/vmstage watch\n", None, Some(1)),
            ("echo vmstage watch\nvmstage status boot\n", None, None),
            ("# vmstage boot\nexit 0\nvmstage watch\n", None, None),
            ("vmstage-old boot\n", None, None),
        ] {
            let found = (line_with(script, "boot"), line_with(script, "watch"));
            assert_eq!(found, (boot, watch), "{script}");
        }
    }
}
