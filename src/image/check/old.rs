//! The script and the commands that did vmstage's work before.

use super::finding::Findings;
use super::finding::Severity::{Error, Note, Warning};
use super::subject::Subject;
use crate::image::old::{RcLocal, What, script};

const REPLACE: &str = " --replace-old";

/// Only what runs does harm.
const NOBODY_RUNS_IT: &str = " (the file is not executable, so that nothing runs it)";

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

/// Commands that make directories on the root disk where nothing was mounted.
pub(super) fn old_rc_local(subject: &Subject, found: &mut Findings) {
    for script in &subject.scripts {
        let severity = if script.is_executable { Error } else { Note };
        let commands = script.commands.iter();
        for command in commands.filter(|command| command.what == What::MakesDirectory) {
            let place = format!("{}:{}", script.path.display(), command.number);
            let what = format!(
                "works below {} on the root disk where nothing is mounted: {}{}",
                subject.mount_point().display(),
                command.text,
                note(script)
            );
            let cure = match command.lines {
                Some(_) => format!("remove it; `{}` does", subject.install(REPLACE)),
                None => "take it out by hand".into(),
            };
            let cure = cure + "; vmstage makes the directories of its configuration";
            found.add(severity, "old-rc-local", place, what, cure);
        }
    }
}
