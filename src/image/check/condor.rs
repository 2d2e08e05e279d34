//! HTCondor's configuration, which has to leave the last word to vmstage's drop-in.

use super::enabled::{condor_is_started, has_directory};
use super::finding::Findings;
use super::finding::Severity::{Error, Warning};
use super::subject::Subject;
use crate::image::files::PROGRAM;
use crate::image::init::Init;
use crate::report::condor::{DIRECTORY, NAME, is_read_by_htcondor};

const GLOBAL: &str = "/etc/condor/condor_config";

/// Without the directory nothing can be told to HTCondor, and no unit holds it back.
pub(super) fn condor_unguarded(subject: &Subject, found: &mut Findings) {
    let is_scripted = !matches!(subject.init, Init::Systemd | Init::Unknown);
    if is_scripted && condor_is_started(subject) && !has_directory(subject, DIRECTORY) {
        let what = "HTCondor starts whatever became of the scratch disk, and reads no directory in which \
                    vmstage could tell it";
        let cure = "make the directory, and have LOCAL_CONFIG_DIR name it in condor_config";
        found.add(Error, "condor-unguarded", DIRECTORY, what, cure);
    }
}

/// A value of HTCondor's configuration.
struct Setting {
    place: String,
    name: String,
    value: String,
    is_read_after_ours: bool,
}

/// What takes effect in place of the drop-in's START and EXECUTE.
pub(super) fn overruled(subject: &Subject, found: &mut Findings) {
    for setting in settings(subject) {
        // `START = $(START) && …` only adds to it.
        let adds = setting.value.to_ascii_uppercase().contains("$(START)");
        let later = setting.is_read_after_ours;
        if later && setting.name == "START" && !adds {
            let what = "START is set after vmstage's, which keeps jobs away without a scratch disk and \
                        before the deadline";
            let cure =
                format!("set it in a file that sorts before {NAME}, or add $(START) && to it");
            found.add(Warning, "condor-start", setting.place, what, cure);
        } else if is_of_slot_type(&setting.name) && !adds {
            let what = format!("{} counts for its slots in place of START", setting.name);
            let cure = "add $(START) && to it";
            found.add(Warning, "condor-start", setting.place, what, cure);
        } else if later && setting.name == "EXECUTE" || is_of_slot(&setting.name) {
            let what = format!(
                "{} is set after vmstage's: jobs do not run on the scratch disk",
                setting.name
            );
            let cure = format!("remove it, or set it in a file that sorts before {NAME}");
            found.add(Warning, "condor-execute", setting.place, what, cure);
        }
    }
}

/// `SLOT_TYPE_1_START`
fn is_of_slot_type(name: &str) -> bool {
    let number = name
        .strip_prefix("SLOT_TYPE_")
        .and_then(|rest| rest.strip_suffix("_START"));
    number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

/// `SLOT1_EXECUTE`
fn is_of_slot(name: &str) -> bool {
    let number = name
        .strip_prefix("SLOT")
        .and_then(|rest| rest.strip_suffix("_EXECUTE"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// All that HTCondor reads, in its order: the global file, the directory, and then the files
/// that LOCAL_CONFIG_FILE names.
fn settings(subject: &Subject) -> Vec<Setting> {
    let mut settings = settings_in(subject, GLOBAL, false);
    for path in subject.paths_in(DIRECTORY) {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name != NAME && is_read_by_htcondor(name.as_ref()) {
            settings.extend(settings_in(subject, &path, name > NAME));
        }
    }
    let local = settings
        .iter()
        .rev()
        .find(|s| s.name == "LOCAL_CONFIG_FILE");
    let local = local
        .map(|setting| setting.value.clone())
        .unwrap_or_default();
    let files = local.split([',', ' ', '\t']);
    for path in files.filter(|path| path.starts_with('/')) {
        settings.extend(settings_in(subject, path, true));
    }
    settings
}

fn settings_in(subject: &Subject, path: &str, is_read_after_ours: bool) -> Vec<Setting> {
    let text = subject.text(path);
    let settings = text.lines().enumerate().filter_map(|(before, line)| {
        let (name, value) = assignment(line)?;
        Some(Setting {
            place: format!("{path}:{}", before + 1),
            name,
            value,
            is_read_after_ours,
        })
    });
    settings.collect()
}

/// `NAME = value`; names know no case.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim().to_ascii_uppercase();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    (!name.is_empty() && name.chars().all(is_name)).then(|| (name, value.trim().to_string()))
}

/// Files of ours that hold HTCondor back, while vmstage is not there to let it go.
pub(super) fn condor_alone(subject: &Subject, found: &mut Findings) {
    if subject.has(PROGRAM) {
        return;
    }
    let files = [
        format!("{DIRECTORY}/{NAME}"),
        "/usr/lib/systemd/system/condor.service.d/vmstage.conf".into(),
        "/lib/systemd/system/condor.service.d/vmstage.conf".into(),
    ];
    let mut seen = Vec::new();
    for path in files.into_iter().filter(|path| subject.has(path)) {
        // /lib is a link to /usr/lib today.
        let real = subject.root.real_path(path.as_ref()).ok();
        if !seen.contains(&real) {
            let what = "HTCondor is ruled by a vmstage that is not there";
            let cure = "remove the file; `vmstage uninstall` does";
            found.add(Error, "condor-alone", path, what, cure);
        }
        seen.push(real);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_slots_are_told_from_others() {
        for (name, of_type, of_slot) in [
            ("SLOT_TYPE_1_START", true, false),
            ("SLOT_TYPE_1_START_X", false, false),
            ("SLOT1_EXECUTE", false, true),
            ("SLOT_EXECUTE", false, false),
            ("EXECUTE", false, false),
        ] {
            assert_eq!(
                (is_of_slot_type(name), is_of_slot(name)),
                (of_type, of_slot),
                "{name}"
            );
        }
    }

    #[test]
    fn an_assignment_is_read_as_htcondor_reads_it() {
        let pair = |name: &str, value: &str| Some((name.to_string(), value.to_string()));
        assert_eq!(assignment(" start=TRUE"), pair("START", "TRUE"));
        assert_eq!(assignment("Execute  =  /x"), pair("EXECUTE", "/x"));
        for none in ["# START = x", "include : x", "if a == b", ""] {
            assert_eq!(assignment(none), None, "{none}");
        }
    }
}
