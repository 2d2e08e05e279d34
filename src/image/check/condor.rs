//! HTCondor's configuration, which has to leave the last word to vmstage's drop-in.

use super::enabled::{condor_is_started, has_directory};
use super::finding::Findings;
use super::finding::Severity::{Error, Note, Warning};
use super::subject::Subject;
use crate::image::condor_config;
use crate::image::files::PROGRAM;
use crate::image::init::Init;
use crate::report::condor::{DIRECTORY, NAME};

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

/// What takes effect in place of the drop-in's START and EXECUTE, and what could.
pub(super) fn overruled(subject: &Subject, found: &mut Findings) {
    let configuration = condor_config::read(subject.root, subject.host);
    let is_read = configuration.reads_our_directory || !configuration.unclear.is_empty();
    if let Some(first) = configuration.files.first()
        && !is_read
        && has_directory(subject, DIRECTORY)
        && condor_is_started(subject)
    {
        let what = format!("HTCondor does not read {DIRECTORY}, where vmstage tells it");
        let cure = format!("have LOCAL_CONFIG_DIR name {DIRECTORY} there");
        let place = first.to_string_lossy();
        found.add(Error, "condor-unguarded", place, what, cure);
    }
    for setting in configuration.settings {
        let adds = adds_to_start(&setting.value);
        let is_later = setting.is_read_after_ours;
        let Some(name) = of_jobs(&setting.name) else {
            continue;
        };
        let set = match setting.is_certain {
            true => "is",
            false => "may be",
        };
        if name == Name::Start && is_later && !adds {
            let what = format!(
                "START {set} set after vmstage's, which keeps jobs away without a scratch disk and \
                 before the deadline"
            );
            let cure =
                format!("set it in a file that sorts before {NAME}, or add $(START) && to it");
            found.add(Warning, "condor-start", setting.place, what, cure);
        } else if name == Name::StartOfSome && !adds {
            let what = format!("{} counts for its slots in place of START", setting.name);
            let cure = "add $(START) && to it";
            found.add(Warning, "condor-start", setting.place, what, cure);
        } else if name == Name::Execute && is_later || name == Name::ExecuteOfSome {
            let what = format!(
                "{} {set} set after vmstage's: jobs do not run on the scratch disk",
                setting.name
            );
            let cure = format!("remove it, or set it in a file that sorts before {NAME}");
            found.add(Warning, "condor-execute", setting.place, what, cure);
        }
    }
    for (place, why) in configuration.unclear {
        let cure = "see there whether START or EXECUTE is set (condor_config_val -v)";
        found.add(Note, "condor-unclear", place, why, cure);
    }
}

/// Whether a value only adds to START, by `&&` and nothing that could overrule it: `$(START) && …`.
fn adds_to_start(value: &str) -> bool {
    let mut operands = vec![String::new()];
    let (mut depth, mut is_quoted) = (0, false);
    let mut rest = value.trim().chars().peekable();
    while let Some(c) = rest.next() {
        let is_outside = depth == 0 && !is_quoted;
        match c {
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth -= 1,
            '&' if is_outside && rest.next_if_eq(&'&').is_some() => {
                operands.push(String::new());
                continue;
            }
            '|' | '?' | ':' if is_outside => return false,
            _ => {}
        }
        if let Some(operand) = operands.last_mut() {
            operand.push(c);
        }
    }
    operands.iter().any(|operand| {
        let operand = operand.trim();
        let inner = operand.strip_prefix('(').and_then(|o| o.strip_suffix(')'));
        operand.eq_ignore_ascii_case("$(START)") || inner.is_some_and(adds_to_start)
    })
}

/// What a setting decides about jobs.
#[derive(Debug, PartialEq)]
enum Name {
    Start,
    /// Of some slots or daemons: it counts wherever it is set.
    StartOfSome,
    Execute,
    ExecuteOfSome,
}

/// `START`, `SLOT_TYPE_1_START`, `STARTD.EXECUTE`, `SLOT1_EXECUTE` and their like.
fn of_jobs(name: &str) -> Option<Name> {
    let (daemon, name) = name.rsplit_once('.').unwrap_or(("", name));
    // Daemons that start no jobs of others.
    let others = [
        "MASTER",
        "SCHEDD",
        "SHADOW",
        "COLLECTOR",
        "NEGOTIATOR",
        "TOOL",
        "SUBMIT",
    ];
    if others.contains(&daemon.split('.').next().unwrap_or(daemon)) {
        return None;
    }
    let of_slots = name.strip_prefix("SLOT").and_then(|rest| {
        let number = rest.strip_prefix("_TYPE_").unwrap_or(rest);
        let rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
        rest.strip_prefix('_').filter(|_| rest.len() < number.len())
    });
    let is_for_all = daemon.is_empty() && of_slots.is_none();
    match (of_slots.unwrap_or(name), is_for_all) {
        ("START", true) => Some(Name::Start),
        ("EXECUTE", true) => Some(Name::Execute),
        ("START", false) => Some(Name::StartOfSome),
        ("EXECUTE", false) => Some(Name::ExecuteOfSome),
        _ => None,
    }
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
    fn only_a_conjunction_adds_to_start() {
        for (value, expected) in [
            ("$(START) && x", true),
            ("x || y && $(start)", false),
            ("(x || y) && $(start)", true),
            ("x && ( $(START) )", true),
            ("(a && ($(START) && \"|\" == b))", true),
            ("$(START)", true),
            ("True || $(START)", false),
            ("$(START) || True", false),
            ("$(START) && False || True", false),
            ("ifThenElse($(START),True,True)", false),
            ("$(START) ? True : True", false),
            ("(True || $(START)) && x", false),
            ("!$(START) && x", false),
            ("($(START)) || (True)", false),
            ("\" && $(START) && \" != x", false),
            ("True", false),
        ] {
            assert_eq!(adds_to_start(value), expected, "{value}");
        }
    }

    #[test]
    fn names_that_decide_about_jobs_are_told_from_others() {
        for (name, expected) in [
            ("START", Some(Name::Start)),
            ("EXECUTE", Some(Name::Execute)),
            ("STARTD.START", Some(Name::StartOfSome)),
            ("STARTER.EXECUTE", Some(Name::ExecuteOfSome)),
            ("WORKER.START", Some(Name::StartOfSome)),
            ("STARTD.WORKER.EXECUTE", Some(Name::ExecuteOfSome)),
            ("SLOT_TYPE_1_START", Some(Name::StartOfSome)),
            ("STARTD.SLOT_TYPE_1_START", Some(Name::StartOfSome)),
            ("SLOT1_EXECUTE", Some(Name::ExecuteOfSome)),
            ("SLOT_TYPE_1_START_X", None),
            ("SLOTS_START", None),
            ("SCHEDD.START", None),
            ("SCHEDD.OTHER.EXECUTE", None),
            ("RESTART", None),
            ("STARTER_EXECUTE", None),
            ("_START", None),
        ] {
            assert_eq!(of_jobs(name), expected, "{name}");
        }
    }
}
