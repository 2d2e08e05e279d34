//! Whether vmstage is started at boot, once, and before HTCondor.

use std::collections::BTreeMap;

use super::finding::Findings;
use super::finding::Severity::{Error, Note, Warning};
use super::subject::Subject;
use crate::host::watch_process;
use crate::image::by_commands::{self, Start};
use crate::image::depend;
use crate::image::enabling::{self, DEPEND_START, Enabling, LOCAL_UNITS, UNIT_DIRECTORY, UNITS};
use crate::image::files::{self, DOCUMENTATION, PROGRAM};
use crate::image::init::{Init, has_no_program};
use crate::image::rc::{self, Action, Link};
use crate::image::root::Kind;
use crate::image::units;
use crate::status::Status;

/// What is started at boot.
pub(super) struct Starts {
    /// The unit or the script.
    boot: bool,
    /// A script does both.
    watch: bool,
    /// The command in `rc.local` or its like.
    commands: Option<Start>,
}

pub(super) fn starts(subject: &Subject) -> Starts {
    let script = (subject.init != Init::Systemd || unit(subject, UNITS[0]).is_none())
        && script_is_started(subject, "vmstage");
    Starts {
        boot: unit_is_started(subject, UNITS[0]) || script,
        watch: unit_is_started(subject, UNITS[1]) || script,
        commands: by_commands::start(subject.root, subject.init, subject.mount_point()),
    }
}

/// Whether HTCondor is started at boot, by whatever this init heeds.
pub(super) fn condor_is_started(subject: &Subject) -> bool {
    match subject.init == Init::Systemd && unit(subject, "condor.service").is_some() {
        true => unit_is_started(subject, "condor.service"),
        false => script_is_started(subject, "condor"),
    }
}

/// What systemd does with a unit.
#[derive(PartialEq, Eq)]
enum Unit {
    Usable,
    /// By an empty file or a link to `/dev/null` (systemctl(1), "mask").
    Masked,
}

/// None where there is no such unit.
fn unit(subject: &Subject, name: &str) -> Option<Unit> {
    let root = subject.root;
    units::DIRECTORIES.iter().find_map(|directory| {
        let path = format!("{directory}/{name}");
        match units::is_masked(root, &path) {
            true => Some(Unit::Masked),
            false => root.is(Kind::File, &path).then_some(Unit::Usable),
        }
    })
}

fn unit_is_started(subject: &Subject, name: &str) -> bool {
    if subject.init != Init::Systemd || unit(subject, name) != Some(Unit::Usable) {
        return false;
    }
    let default = units::default_target(subject.root);
    let default = default.as_deref().unwrap_or("graphical.target");
    let directories = units::DIRECTORIES.iter();
    let mut wants = directories
        .flat_map(|directory| subject.paths_in(directory))
        .filter(|path| {
            let unit = path.rsplit('/').next().unwrap_or_default();
            let target = unit.strip_suffix(".wants");
            let target = target.or_else(|| unit.strip_suffix(".requires"));
            target.is_some_and(|target| is_reached(target, default))
        });
    wants.any(|directory| {
        let link = format!("{directory}/{name}");
        let entry = subject.root.entry_itself(link.as_ref());
        !units::is_null(subject.root, &link) && entry.is_ok_and(|entry| entry.is_some())
    })
}

/// Whether a boot into the default target comes to another one (bootup(7)).
fn is_reached(target: &str, default: &str) -> bool {
    const EARLY: &str = "\
basic.target sysinit.target local-fs.target local-fs-pre.target swap.target sockets.target \
timers.target paths.target slices.target cryptsetup.target";
    const LATER: &str = "\
multi-user.target getty.target remote-fs.target remote-fs-pre.target network.target \
network-online.target network-pre.target nss-lookup.target nss-user-lookup.target \
time-sync.target cloud-init.target cloud-config.target";
    let is_in = |list: &str| list.split(' ').any(|name| name == target);
    match default {
        _ if target == default || target == "default.target" => true,
        "emergency.target" => false,
        "rescue.target" => target == "sysinit.target" || target == "local-fs.target",
        _ => is_in(EARLY) || is_in(LATER),
    }
}

fn script_is_started(subject: &Subject, service: &str) -> bool {
    if subject.init == Init::Unknown {
        return is_started_by_its_name(subject, service);
    }
    let script = format!("{}/{service}", subject.init.scripts());
    let is_target = || match goes_by_depend(subject) {
        true => depend::targets(&subject.text(DEPEND_START)).contains(&service),
        false => true,
    };
    let levels = started_levels(subject);
    let mut numbers = levels
        .chars()
        .map(|level| start_number(subject, service, level));
    subject.root.is_executable(&script) && numbers.any(|number| number.is_some()) && is_target()
}

/// Whether startpar(8) starts the services, which runs what is in insserv's file.
fn goes_by_depend(subject: &Subject) -> bool {
    match subject.init {
        Init::Insserv => true,
        Init::Suse => subject.has(DEPEND_START),
        _ => false,
    }
}

/// The run levels that the system boots into. systemd takes the links of several for one target
/// (systemd-sysv-generator(8)).
fn started_levels(subject: &Subject) -> String {
    match subject.init {
        Init::Systemd => match units::default_target(subject.root).as_deref() {
            None | Some("graphical.target") => "2345".into(),
            _ => "234".into(),
        },
        init => rc::default_level(subject.root, init).into(),
    }
}

/// Buildroot's busybox runs `/etc/init.d/S85vmstage`; OpenRC has a directory a run level.
fn is_started_by_its_name(subject: &Subject, service: &str) -> bool {
    let scripts = subject.paths_in("/etc/init.d").into_iter();
    let is_link = |path: &String| {
        let link = Link::parse('2', path.rsplit('/').next().unwrap_or_default());
        link.is_some_and(|link| link.starts(service))
    };
    let levels = subject.paths_in("/etc/runlevels").into_iter();
    let mut starts = scripts
        .filter(is_link)
        .chain(levels.map(|level| format!("{level}/{service}")));
    starts.any(|path| subject.root.is_executable(path))
}

/// The number of its link in a run level.
fn start_number(subject: &Subject, service: &str, level: char) -> Option<u8> {
    let (root, init) = (subject.root, subject.init);
    let links = subject.links.iter();
    let starts = links.filter(|link| {
        link.action == Action::Start
            && link.level == level
            && link.service == service
            && root.is_executable(link.path(init))
            && link.leads_to_script(root, init)
    });
    starts.map(|link| link.number).min()
}

/// What enables vmstage here, before HTCondor.
fn enable(subject: &Subject) -> String {
    if files::missing(subject.root, subject.init).is_some() {
        return subject.bring_files();
    }
    match enabling::still_to_do(subject.root, subject.init) {
        Ok(Enabling::NotByUs(reason)) => reason,
        Ok(Enabling::NoInit) => format!(
            "have the script that runs at boot run `vmstage boot` and `vmstage watch`; `{}` says how",
            subject.install("")
        ),
        _ => subject.install(""),
    }
}

/// A tree that gets its init later, or none.
pub(super) fn no_init(subject: &Subject, found: &mut Findings) {
    if has_no_program(subject.root) && subject.init != Init::Unknown {
        let what = format!(
            "there is no such program, so that nothing boots this system; its directories are those \
             of {}",
            subject.init.name()
        );
        let cure = "nothing, if this is no machine's; else put the init in, and check again";
        found.add(Note, "no-init", "/sbin/init", what, cure);
    }
}

/// Never, only in part, or by two at once.
pub(super) fn is_started_once(subject: &Subject, found: &mut Findings) {
    if !subject.has(PROGRAM) {
        let what = "vmstage is not in this system";
        found.add(Error, "enabled-none", PROGRAM, what, subject.bring_files());
        return;
    }
    if !subject.root.is_executable(PROGRAM) {
        let what = "nothing can start vmstage: the program is not executable";
        let cure = format!("chmod 0755, or {}", subject.bring_files());
        found.add(Error, "enabled-none", PROGRAM, what, cure);
        return;
    }
    let starts = starts(subject);
    let place = subject.init.place();
    match (starts.boot, starts.watch, &starts.commands) {
        (true, _, Some(commands)) => found.add(
            Error,
            "enabled-twice",
            commands.place(),
            format!(
                "starts vmstage a second time: {} does already",
                subject.init.name()
            ),
            "remove the commands that run vmstage and condor there",
        ),
        (true, true, None) => {}
        (false, false, Some(commands)) if commands.watches => {}
        (false, false, Some(commands)) => found.add(
            Error,
            "enabled-half",
            commands.place(),
            "runs vmstage boot alone: nobody drains the machine or ends it in time",
            format!("run vmstage watch after it, as {DOCUMENTATION}/rc.local.sl does"),
        ),
        (false, true, _) => found.add(
            Error,
            "enabled-half",
            place,
            format!(
                "{} is not enabled, so that nothing mounts the scratch disk",
                UNITS[0]
            ),
            enable(subject),
        ),
        (true, false, None) => found.add(
            Error,
            "enabled-half",
            place,
            format!(
                "{} is not enabled: nobody drains the machine or ends it in time",
                UNITS[1]
            ),
            enable(subject),
        ),
        (false, false, None) if requires_us(subject) && condor_is_started(subject) => found.add(
            Error,
            "enabled-half",
            place,
            "vmstage is started only through condor, and watch is not: no drain and no power-off",
            enable(subject),
        ),
        (false, false, None) => found.add(
            Error,
            "enabled-none",
            place,
            format!(
                "nothing starts vmstage at boot (init: {})",
                subject.init.name()
            ),
            enable(subject),
        ),
    }
}

/// Whether condor.service pulls vmstage in, by its file or a drop-in. Packages have that everywhere.
fn requires_us(subject: &Subject) -> bool {
    let names = ["Requires", "Requisite", "BindsTo"];
    subject.init == Init::Systemd && names_other(subject, "condor.service", &names, UNITS[0])
}

/// And whether one of the two is ordered after the other.
fn waits_for_us(subject: &Subject) -> bool {
    requires_us(subject)
        && (names_other(subject, "condor.service", &["After"], UNITS[0])
            || names_other(subject, UNITS[0], &["Before"], "condor.service"))
}

fn names_other(subject: &Subject, unit: &str, names: &[&str], other: &str) -> bool {
    units::named(subject.root, unit, names).contains(&other.to_string())
}

/// startpar(8) runs what is in insserv's file, whatever links there are.
pub(super) fn depend_stale(subject: &Subject, found: &mut Findings) {
    let level = rc::default_level(subject.root, subject.init);
    if !goes_by_depend(subject) || start_number(subject, "vmstage", level).is_none() {
        return;
    }
    if !depend::targets(&subject.text(DEPEND_START)).contains(&"vmstage") {
        let what =
            "the links of vmstage do nothing: startpar runs what is in this file, and it is not";
        found.add(Error, "depend-stale", DEPEND_START, what, enable(subject));
    }
}

/// HTCondor that starts before the scratch disk is there fills the root disk.
pub(super) fn order_condor(subject: &Subject, found: &mut Findings) {
    let starts = starts(subject);
    let mut add = |place: String, what: &str, cure: &str| {
        found.add(Error, "order-condor", place, what, cure);
    };
    if subject.init.runs_scripts()
        && !goes_by_depend(subject)
        && let Some((level, condors, ours)) = level_with_condor_first(subject)
    {
        let what = format!("condor starts with the number {condors}, before vmstage ({ours})");
        return add(subject.init.run_level(level), &what, &enable(subject));
    }
    if !condor_is_started(subject) {
        return;
    }
    if let (false, Some(commands)) = (starts.boot, &starts.commands) {
        let what = "condor is started by itself, before these commands stage the disk";
        return add(commands.place(), what, "disable condor, and start it there");
    }
    if !starts.boot {
        return;
    }
    if subject.init == Init::Systemd {
        if !waits_for_us(subject) {
            let what = "condor.service does not wait for vmstage.service";
            let cure = match files::missing_drop_in(subject.root, subject.init) {
                Some(_) => subject.bring_files(),
                None => enable(subject),
            };
            add(format!("{UNIT_DIRECTORY}/condor.service.d"), what, &cure);
        }
    } else if goes_by_depend(subject)
        && !depend::waits_for(&subject.text(DEPEND_START), "condor", "vmstage")
    {
        let what = "condor does not wait for vmstage";
        add(DEPEND_START.into(), what, &enable(subject));
    }
}

/// The first run level in which work is done, whether the system boots into it or is switched
/// to it, that starts condor before vmstage, and both numbers. Of two with one number, the one
/// goes first whose name does.
fn level_with_condor_first(subject: &Subject) -> Option<(char, u8, u8)> {
    ('2'..='5').find_map(|level| {
        let condors = start_number(subject, "condor", level)?;
        let ours = start_number(subject, "vmstage", level)?;
        (condors <= ours).then_some((level, condors, ours))
    })
}

/// systemd enables and disables all units anew where there is no machine id.
pub(super) fn preset(subject: &Subject, found: &mut Findings) {
    const MACHINE_ID: &str = "/etc/machine-id";
    let is_new = match subject.root.entry(MACHINE_ID.as_ref()) {
        Ok(None) => true,
        _ => subject.text(MACHINE_ID).trim() == "uninitialized",
    };
    if subject.init != Init::Systemd || !is_new || !subject.has(PROGRAM) {
        return;
    }
    if !preset_enables(subject) {
        let what = "it is missing or says \"uninitialized\", so that the first boot enables and disables \
                    units by preset, and none enables vmstage";
        let cure = "make the file empty, with no byte in it, or have a preset enable vmstage";
        found.add(Warning, "preset", MACHINE_ID, what, cure);
    }
}

/// As systemd.preset(5) has it: for each unit the first line that fits. One that none names is
/// enabled, too, but by nobody who meant it.
fn preset_enables(subject: &Subject) -> bool {
    let directories = [
        "/etc/systemd/system-preset",
        "/usr/local/lib/systemd/system-preset",
        "/usr/lib/systemd/system-preset",
        "/lib/systemd/system-preset",
    ];
    // By their names; of one name that of the first directory.
    let mut files = BTreeMap::new();
    for directory in directories {
        for file in units::names_in(subject.root, directory) {
            let path = format!("{directory}/{file}");
            if file.ends_with(".preset") {
                files.entry(file).or_insert(path);
            }
        }
    }
    let text: String = files
        .values()
        .map(|path| subject.text(path) + "\n")
        .collect();
    presets_enable(&text)
}

pub(super) fn presets_enable(text: &str) -> bool {
    let verdicts = UNITS.map(|unit| preset_for(text, unit));
    verdicts.contains(&Some(true)) && !verdicts.contains(&Some(false))
}

/// Whether a unit stays enabled by the lines of presets; None where none fits.
fn preset_for(text: &str, unit: &str) -> Option<bool> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let stays = match words.next()? {
            "enable" | "ignore" => true,
            "disable" => false,
            _ => return None,
        };
        fits(words.next()?.as_bytes(), unit.as_bytes()).then_some(stays)
    })
}

/// Whether a pattern of fnmatch(3) fits a whole name.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|begin| fits(rest, &name[begin..])),
        (_, []) => false,
        ([b'?', rest @ ..], [_, behind @ ..]) => fits(rest, behind),
        ([b'[', set @ ..], [c, behind @ ..]) => {
            let (is_wanted, set) = match set {
                [b'!' | b'^', set @ ..] => (false, set),
                _ => (true, set),
            };
            // A bracket that comes first is one of the set.
            let end = (1..set.len()).find(|place| set[*place] == b']');
            let Some(end) = end else {
                return *c == b'[' && fits(&pattern[1..], behind);
            };
            is_in(&set[..end], *c) == is_wanted && fits(&set[end + 1..], behind)
        }
        ([p, rest @ ..], [c, behind @ ..]) => p == c && fits(rest, behind),
    }
}

fn is_in(set: &[u8], c: u8) -> bool {
    match set {
        [from, b'-', to, rest @ ..] => (*from..=*to).contains(&c) || is_in(rest, c),
        [one, rest @ ..] => *one == c || is_in(rest, c),
        [] => false,
    }
}

/// What was installed into a running system waits for its next boot.
pub(super) fn not_started(subject: &Subject, found: &mut Findings) {
    let Some(host) = subject.host else {
        return;
    };
    let starts = starts(subject);
    if !starts.boot && starts.commands.is_none() {
        return;
    }
    let mut add = |what: &str, cure: &str| {
        found.add(Note, "not-started", PROGRAM, what, cure);
    };
    if let Ok(None) = Status::read(host) {
        add(
            "vmstage is enabled, and has not run in this boot",
            "reboot, or start it (systemctl start vmstage vmstage-watch; service vmstage start)",
        );
    } else if watch_process::find(host).is_err() {
        add("vmstage watch does not run", "start it, or reboot");
    }
}

impl Start {
    fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.number)
    }
}

impl Init {
    /// Where it is told what to start.
    fn place(self) -> String {
        match self {
            Init::Systemd => LOCAL_UNITS.into(),
            Init::Unknown => "/sbin/init".into(),
            _ => self.scripts().into(),
        }
    }
}

/// Whether a directory of the image is there, for rules that ask for one.
pub(super) fn has_directory(subject: &Subject, path: &str) -> bool {
    subject.root.is(Kind::Directory, path)
}
