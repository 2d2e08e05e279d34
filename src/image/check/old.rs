//! The script and the commands that did vmstage's work before.

use super::finding::Findings;
use super::finding::Severity::{Error, Note, Warning};
use super::subject::{REPLACE, Subject};
use crate::image::old::{self, RcLocal, SCRIPT, What, script, scripts_by_bare_name};
use crate::image::rc::{Action, Link};
use crate::image::root::Kind;

/// Only what runs does harm.
const NOBODY_RUNS_IT: &str = " (the file is not executable, so that nothing runs it)";

const BARE_NAME: &str = "mounts or formats a disk by its bare name, which at another boot may be \
                         somebody's volume";

fn note(script: &RcLocal) -> &'static str {
    if script.is_executable {
        ""
    } else {
        NOBODY_RUNS_IT
    }
}

/// `mount_staging`, and what runs it.
pub(super) fn old_script(subject: &Subject, found: &mut Findings) {
    let path = script(subject.init.scripts());
    let cure = match subject.callers.first() {
        Some(caller) => format!(
            "take out by hand what needs it ({}:{}), then {}",
            caller.path.display(),
            caller.number,
            subject.install(REPLACE)
        ),
        None => format!("remove it; `{}` does", subject.install(REPLACE)),
    };
    if subject.root.entry_itself(&path).is_ok_and(|e| e.is_some()) {
        let what = "the script that staged the disk before takes any /dev/sdb or /dev/vdb";
        found.add(Warning, "old-script", path.to_string_lossy(), what, &cure);
    }
    let is_started = |link: &&Link| {
        let itself = subject.root.entry_itself(&link.path(subject.init));
        link.service == SCRIPT
            && link.action == Action::Start
            && itself.is_ok_and(|entry| entry.is_some_and(|entry| entry.kind == Kind::File))
    };
    let links = subject.links.iter().filter(is_started);
    for link in links.filter(|_| subject.init.runs_scripts()) {
        let path = link.path(subject.init);
        let what = "the script that staged the disk before is run by this run level: it is no link, \
                    but a file of its own";
        found.add(Warning, "old-script", path.to_string_lossy(), what, &cure);
    }
    let mut add = |severity, place: String, text: &str, note: &str| {
        let what = format!("runs the script that staged the disk before: {text}{note}");
        found.add(severity, "old-script", place, what, &cure);
    };
    for script in &subject.scripts {
        let severity = if script.is_executable { Warning } else { Note };
        let commands = script.commands.iter();
        for command in commands.filter(|command| command.what == What::RunsScript) {
            let place = format!("{}:{}", script.path.display(), command.number);
            add(severity, place, &command.text, note(script));
        }
    }
    for caller in &subject.callers {
        if !subject
            .scripts
            .iter()
            .any(|script| script.path == caller.path)
        {
            let place = format!("{}:{}", caller.path.display(), caller.number);
            add(Warning, place, &caller.text, "");
        }
    }
}

/// Scripts of another name that mount a disk by its bare name.
pub(super) fn old_scripts_by_bare_name(subject: &Subject, found: &mut Findings) {
    let (root, init) = (subject.root, subject.init);
    let mount_point = subject.mount_point();
    for one in scripts_by_bare_name(root, init, &subject.links, mount_point) {
        let place = format!("{}:{}", one.path.display(), one.number);
        let what = format!("{BARE_NAME}: {}", one.text);
        let cure = "disable it, or take that out by hand; vmstage stages the disk";
        found.add(Warning, "old-script", place, what, cure);
    }
}

/// Commands that make directories on the root disk where nothing was mounted, or take any disk.
pub(super) fn old_rc_local(subject: &Subject, found: &mut Findings) {
    for script in &subject.scripts {
        let severity = if script.is_executable { Error } else { Note };
        for command in &script.commands {
            let place = format!("{}:{}", script.path.display(), command.number);
            let (text, note) = (&command.text, note(script));
            let (what, makes) = match command.what {
                What::MakesDirectory => (
                    format!(
                        "works below {} on the root disk where nothing is mounted: {text}{note}",
                        subject.mount_point().display(),
                    ),
                    "makes the directories of its configuration",
                ),
                What::UsesBareName => (format!("{BARE_NAME}: {text}{note}"), "stages the disk"),
                _ => continue,
            };
            let cure = match command.lines {
                Some(_) => format!("remove it; `{}` does", subject.install(REPLACE)),
                None => "take it out by hand".into(),
            };
            let cure = cure + "; vmstage " + makes;
            found.add(severity, "old-rc-local", place, what, cure);
        }
    }
}

/// Likewise, elsewhere: in inittab, for cron, in tmpfiles.d, in other scripts.
pub(super) fn old_elsewhere(subject: &Subject, found: &mut Findings) {
    let mount_point = subject.mount_point();
    for (path, command) in old::elsewhere(subject.root, subject.init, mount_point) {
        let text = &command.text;
        let what = match command.what {
            What::UsesBareName => format!("{BARE_NAME}: {text}"),
            _ => format!(
                "works below {} on the root disk where nothing is mounted: {text}",
                mount_point.display()
            ),
        };
        let place = format!("{}:{}", path.display(), command.number);
        let cure = "take it out by hand; vmstage stages the disk, and makes its directories";
        found.add(Error, "old-rc-local", place, what, cure);
    }
}
