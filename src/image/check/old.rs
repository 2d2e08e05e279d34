//! The script and the commands that did vmstage's work before.

use super::finding::Findings;
use super::finding::Severity::{Error, Warning};
use super::subject::Subject;
use crate::image::old::{SCRIPT, What, script};

/// `mount_staging`, and what runs it.
pub(super) fn old_script(subject: &Subject, found: &mut Findings) {
    let path = script(subject.init.scripts());
    let cure = "remove it; `vmstage install --replace-old` does";
    if subject.root.entry_itself(&path).is_ok_and(|e| e.is_some()) {
        let what = "the script that staged the disk before takes any /dev/sdb or /dev/vdb";
        found.add(Warning, "old-script", path.to_string_lossy(), what, cure);
    }
    for script in &subject.scripts {
        let runs_it = |text: &str| text.contains(SCRIPT);
        let commands = script.commands.iter();
        let seeds = commands.filter(|command| command.what == What::Seed);
        for command in seeds.filter(|command| runs_it(&command.text)) {
            let place = format!("{}:{}", script.path.display(), command.number);
            let what = format!(
                "runs the script that staged the disk before: {}",
                command.text
            );
            found.add(Warning, "old-script", place, what, cure);
        }
    }
}

/// Commands that make directories on the root disk where nothing was mounted.
pub(super) fn old_rc_local(subject: &Subject, found: &mut Findings) {
    for script in &subject.scripts {
        for command in &script.commands {
            let makes = match command.what {
                What::Seed => !command.text.contains(SCRIPT),
                What::MakesDirectory => true,
                What::Conditional | What::Vmstage => false,
            };
            if makes {
                let place = format!("{}:{}", script.path.display(), command.number);
                let what = format!(
                    "works below {} whatever came before, on the root disk where nothing is mounted: {}",
                    subject.mount_point().display(),
                    command.text
                );
                let cure = "remove it, vmstage makes the directories of its configuration; `vmstage \
                            install --replace-old` does";
                found.add(Error, "old-rc-local", place, what, cure);
            }
        }
    }
}
