//! How vmstage is started at boot: links and files alone, so that nothing of the image has to
//! be run for it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::depend;
use super::init::Init;
use super::rc::{self, Action, Link};
use super::root::{Kind, Root};
use super::step::{Step, Steps};
use crate::host::regular_file::MIB;

pub(crate) const UNITS: [&str; 2] = ["vmstage.service", "vmstage-watch.service"];
pub(crate) const UNIT_DIRECTORY: &str = "/usr/lib/systemd/system";
pub(crate) const LOCAL_UNITS: &str = "/etc/systemd/system";
pub(crate) const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

pub(crate) const SERVICE: &str = "vmstage";
/// What must not start before vmstage.
const LATER: &str = "condor";

/// What is still to be done until vmstage is enabled.
pub(crate) enum Enabling {
    Steps(Vec<Step>),
    /// It cannot be done by links and files of vmstage's own: what stands in the way, and what
    /// to run.
    NotByUs(String),
    /// Commands of `rc.local` start it: the line of the first.
    ByCommands {
        path: PathBuf,
        number: usize,
    },
    /// Nobody knows this init.
    NoInit,
}

/// What is still to be done until vmstage is enabled; no step where it is.
///
/// # Errors
///
/// That the system's links cannot be read.
pub(crate) fn still_to_do(root: &Root, init: Init) -> Result<Enabling> {
    match init {
        Init::Systemd => units(root),
        Init::Unknown => Ok(Enabling::NoInit),
        _ => {
            let links = rc::links(root, init)?;
            let wanted = match wanted(init, &links) {
                Ok(wanted) => wanted,
                Err(in_the_way) => return Ok(Enabling::NotByUs(in_the_way)),
            };
            let mut steps = link_steps(root, init, &links, &wanted);
            if [Init::Insserv, Init::Suse].contains(&init) {
                steps.extend(depend_steps(root)?);
            }
            if init == Init::Chkconfig {
                steps.extend(override_step(root, &wanted));
            }
            Ok(Enabling::Steps(steps))
        }
    }
}

/// What is to be undone, whatever init it was enabled for.
pub(crate) fn to_undo(root: &Root) -> Steps {
    let mut undo = Steps::default();
    for unit in UNITS {
        for directory in [WANTS, LOCAL_UNITS] {
            let path = Path::new(directory).join(unit);
            if root.link_text(&path).is_ok_and(|text| text.is_some()) {
                undo.steps.push(Step::Remove(path));
            }
        }
    }
    let init = Init::by_scripts(root);
    for level in rc::LEVELS {
        let links = rc::links_of(root, init, level);
        undo.add(links.map(|links| link_steps(root, init, &links, &[])));
    }
    for file in [DEPEND_START, DEPEND_STOP] {
        let without = |text: String| rewritten(file, &text, depend_without_us(root, file, &text));
        let text = depend_text(root, file);
        undo.add(text.map(|text| text.and_then(without).into_iter().collect()));
    }
    let numbers = Step::Remove(OVERRIDE.into());
    let numbers = Some(numbers).filter(|step| step.is_pending(root));
    undo.steps.extend(numbers);
    undo
}

fn units(root: &Root) -> Result<Enabling> {
    let mut steps = Vec::new();
    for unit in UNITS {
        let local = Path::new(LOCAL_UNITS).join(unit);
        let text = root.link_text(&local);
        let text = text.with_context(|| root.cannot("read", &local))?;
        // `dpkg -r` leaves them masked.
        if text.is_some_and(|text| text.ends_with(NOTHING)) {
            steps.push(Step::Remove(local));
        } else if root
            .entry(&local)
            .ok()
            .flatten()
            .is_some_and(|e| e.size == 0)
        {
            return Ok(Enabling::NotByUs(format!(
                "{} is empty, which masks the unit: remove it, and install again",
                local.display()
            )));
        }
        let link = Path::new(WANTS).join(unit);
        let to = Path::new(UNIT_DIRECTORY).join(unit);
        let text = root.link_text(&link).ok().flatten();
        if text.as_deref() != Some(&to) && !root.is(Kind::File, &link) {
            steps.push(Step::Link {
                path: link,
                text: to,
            });
        }
    }
    Ok(Enabling::Steps(steps))
}

/// The end of `/dev/null`, however it is written: a unit that leads there is masked.
pub(crate) const NOTHING: &str = "dev/null";

/// The links that vmstage is to have: those it has, where they will do.
///
/// # Errors
///
/// In words what stands in the way, and what to run.
fn wanted(init: Init, links: &[Link]) -> Result<Vec<Link>, String> {
    let ours: Vec<Link> = links
        .iter()
        .filter(|link| link.service == SERVICE)
        .cloned()
        .collect();
    let stops: &[char] = match init {
        Init::Chkconfig => &['0', '1', '6'],
        // What has a link to stop it in a level is stopped as that is left, for a shutdown too.
        Init::Suse => &[],
        _ => &['1'],
    };
    let log = links
        .iter()
        .filter(|link| rc::writes_log(&link.service) && link.starts(&link.service));
    let log = log.map(|link| link.number).max().unwrap_or(0);
    let later = rc::start_number(links, LATER).unwrap_or(u8::MAX);
    let has = |action, level: &char| ours.iter().any(|l| l.action == action && l.level == *level);
    let last = ours
        .iter()
        .filter(|link| link.starts(SERVICE))
        .map(|link| link.number)
        .max();
    let is_enabled = ['2', '3', '4', '5']
        .iter()
        .all(|level| has(Action::Start, level))
        && stops.iter().all(|level| has(Action::Stop, level));
    if is_enabled && last.is_some_and(|last| last < later) {
        return Ok(ours);
    }
    // Of two with one number the one goes first whose name does: syslog before vmstage.
    let (start, stop, lowest) = match init {
        Init::Chkconfig => (USUAL.min(later.saturating_sub(1)), 2, log + 1),
        Init::Insserv | Init::Suse => (log.max(1), 1, log.max(1)),
        _ => (19.min(later.saturating_sub(1)), 81, log + 1),
    };
    if start < lowest || start >= later {
        return Err(format!(
            "{LATER} starts with the number {later}, and vmstage has to start before it and after \
             the system's log ({log}), so that others would have to be renumbered; {}",
            match init {
                Init::Chkconfig =>
                    "give condor a higher number in the line \"# chkconfig:\" of its script, run \
                     chkconfig condor resetpriorities in the image, and install again",
                Init::Insserv => "run in the image: update-rc.d vmstage defaults",
                Init::Suse => "run in the image: insserv vmstage",
                _ =>
                    "run in the image: update-rc.d -f condor remove; update-rc.d condor defaults \
                     98; and install again",
            }
        ));
    }
    let link = |level: &char, action, number| Link {
        level: *level,
        action,
        number,
        service: SERVICE.into(),
    };
    let starts = ['2', '3', '4', '5'];
    let starts = starts.iter().map(|level| link(level, Action::Start, start));
    Ok(starts
        .chain(stops.iter().map(|level| link(level, Action::Stop, stop)))
        .collect())
}

fn link_steps(root: &Root, init: Init, links: &[Link], wanted: &[Link]) -> Vec<Step> {
    let is_stray = |link: &&Link| link.service == SERVICE && !wanted.contains(link);
    let strays = links.iter().filter(is_stray);
    let is_there = |link: &&Link| links.contains(link) && link.leads_to_script(root, init);
    let missing = wanted.iter().filter(|link| !is_there(link));
    let removed = strays.map(|link| Step::Remove(link.path(init)));
    let made = missing.map(|link| {
        let path = link.path(init);
        let text = text_of_link(root, init, path.parent().unwrap_or(&path));
        Step::Link { path, text }
    });
    removed.chain(made).collect()
}

/// What a link to the script holds in the directory of a run level, which may be a link itself:
/// then what is relative may lead elsewhere.
fn text_of_link(root: &Root, init: Init, directory: &Path) -> PathBuf {
    let usual = match init {
        Init::Suse => Path::new("..").join(SERVICE),
        _ => Path::new("../init.d").join(SERVICE),
    };
    let script = Path::new(init.scripts()).join(SERVICE);
    let real = |path: &Path| root.real_path(path).ok();
    let leads_there = real(&directory.join(&usual)) == real(&script);
    match leads_there || !root.is(Kind::Directory, directory) {
        true => usual,
        false => script,
    }
}

/// The number in the script's own header.
const USUAL: u8 = 85;

/// What chkconfig(8) goes by instead of that header, also when it adds vmstage anew, resets its
/// numbers, or a package brings another script ("OVERRIDE FILES").
pub(crate) const OVERRIDE: &str = "/etc/chkconfig.d/vmstage";

fn override_step(root: &Root, wanted: &[Link]) -> Option<Step> {
    let starts = wanted.iter().filter(|link| link.starts(SERVICE));
    let start = starts.map(|link| link.number).max().unwrap_or(USUAL);
    let step = match start {
        USUAL => Step::Remove(OVERRIDE.into()),
        _ => Step::Write {
            path: OVERRIDE.into(),
            mode: 0o644,
            content: format!("# chkconfig: 2345 {start:02} 02\n")
                .into_bytes()
                .into(),
        },
    };
    Some(step).filter(|step| step.is_pending(root))
}

pub(crate) const DEPEND_START: &str = "/etc/init.d/.depend.start";
pub(crate) const DEPEND_STOP: &str = "/etc/init.d/.depend.stop";

fn depend_steps(root: &Root) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for file in [DEPEND_START, DEPEND_STOP] {
        if let Some(text) = depend_text(root, file)? {
            steps.extend(rewritten(file, &text, depend_with_us(root, file, &text)));
        }
    }
    Ok(steps)
}

fn depend_with_us(root: &Root, file: &str, text: &str) -> String {
    if file != DEPEND_START {
        return depend::with(text, SERVICE, &[], &[]);
    }
    let targets = depend::targets(text);
    let names = |is_it: &dyn Fn(&str) -> bool| -> Vec<String> {
        let found = targets
            .iter()
            .filter(|name| **name != SERVICE && is_it(name));
        found.map(ToString::to_string).collect()
    };
    let after = names(&rc::writes_log);
    let is_later = |name: &str| name == LATER || rc::is_after_all(root, Init::Insserv, name);
    depend::with(text, SERVICE, &after, &names(&is_later))
}

/// What there was before vmstage came in; where insserv(8) has written the file since, what was
/// after vmstage stays after what vmstage was after.
pub(super) fn depend_without_us(root: &Root, file: &str, text: &str) -> String {
    let before = depend::without(text, SERVICE);
    match depend_with_us(root, file, &before) == text {
        true => before,
        false => depend::without(&depend::passed_on(text, SERVICE), SERVICE),
    }
}

/// None where there is no such file.
pub(super) fn depend_text(root: &Root, file: &str) -> Result<Option<String>> {
    let cannot = || root.cannot("read", file.as_ref());
    let content = root.read(file.as_ref(), MIB).with_context(cannot)?;
    content
        .map(String::from_utf8)
        .transpose()
        .with_context(cannot)
}

pub(super) fn rewritten(file: &str, old: &str, new: String) -> Option<Step> {
    (new != old).then(|| Step::Rewrite {
        path: file.into(),
        content: new.into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::tree::Tree;

    /// `3S50condor`: in run level 3. Where there is no level, in 2 to 5.
    fn links(names: &[&str]) -> Vec<Link> {
        let all = ['2', '3', '4', '5'];
        let of = |name: &&str| {
            let (levels, name) = match name.split_at(1) {
                (level, name) if level.as_bytes()[0].is_ascii_digit() => {
                    (level.chars().collect(), name)
                }
                _ => (all.to_vec(), *name),
            };
            let links = levels.into_iter().map(|level| Link::parse(level, name));
            links.map(Option::unwrap).collect::<Vec<_>>()
        };
        names.iter().flat_map(of).collect()
    }

    /// The numbers that vmstage starts and stops with.
    fn numbers(init: Init, present: &[&str]) -> Option<(u8, u8)> {
        let wanted = wanted(init, &links(present)).ok()?;
        let number = |action| {
            let mut numbers: Vec<u8> = wanted
                .iter()
                .filter(|link| link.action == action)
                .map(|link| link.number)
                .collect();
            numbers.dedup();
            assert!(numbers.len() <= 1);
            // None at all.
            numbers.first().copied().unwrap_or(0)
        };
        Some((number(Action::Start), number(Action::Stop)))
    }

    #[test]
    fn vmstage_starts_after_the_log_and_before_condor() {
        use Init::{Chkconfig, Insserv, Numbers, Suse, Upstart};
        type Case<'a> = (Init, &'a [&'a str], Option<(u8, u8)>);
        let cases: &[Case] = &[
            (Chkconfig, &[], Some((85, 2))),
            (Chkconfig, &["S12syslog", "S98condor"], Some((85, 2))),
            // Enterprise Linux 5's chkconfig does not know X-Start-Before.
            (Chkconfig, &["S12syslog", "S50condor"], Some((49, 2))),
            (Chkconfig, &["S12syslog", "S85condor"], Some((84, 2))),
            (Chkconfig, &["S12rsyslog", "S13condor"], None),
            // Only where work is done.
            (
                Chkconfig,
                &["S12syslog", "1S20condor", "3K20condor"],
                Some((85, 2)),
            ),
            (Numbers, &["S10rsyslog", "S20condor"], Some((19, 81))),
            (Numbers, &["S10rsyslog", "S15condor"], Some((14, 81))),
            (Numbers, &["S10rsyslog", "S11condor"], None),
            (Upstart, &["S20condor"], Some((19, 81))),
            (Insserv, &["S01bootlogs"], Some((1, 1))),
            (Insserv, &["S01rsyslog", "S02condor"], Some((1, 1))),
            (Insserv, &["S02rsyslog", "S03condor"], Some((2, 1))),
            (Insserv, &["S01condor"], None),
            (Insserv, &["S02rsyslog", "S02condor"], None),
            (Suse, &["S05syslog", "S12condor"], Some((5, 0))),
            // What is there and will do stays: update-rc.d made it.
            (
                Insserv,
                &["S01rsyslog", "S02vmstage", "1K01vmstage", "S03condor"],
                Some((2, 1)),
            ),
            (
                Insserv,
                &["S01rsyslog", "S02vmstage", "1K01vmstage", "S02condor"],
                Some((1, 1)),
            ),
            (Numbers, &["S18vmstage", "S20condor"], Some((19, 81))),
        ];
        for (init, present, expected) in cases {
            assert_eq!(numbers(*init, present), *expected, "{init:?} {present:?}");
        }
    }

    #[test]
    fn what_stands_in_the_way_is_said_with_what_to_run() {
        let words = wanted(Init::Insserv, &links(&["S01condor"])).unwrap_err();
        assert!(words.contains("number 1") && words.contains("update-rc.d vmstage defaults"));
    }

    /// Carries out what is still to be done, twice: the second time there is nothing.
    fn enable(tree: &Tree, init: Init) -> Vec<String> {
        let root = Root::open(tree.root()).unwrap();
        let carried_out = |enabling| match enabling {
            Enabling::Steps(steps) => {
                for step in &steps {
                    step.carry_out(&root).unwrap();
                }
                steps.iter().map(ToString::to_string).collect::<Vec<_>>()
            }
            _ => panic!("it cannot be enabled"),
        };
        let done = carried_out(still_to_do(&root, init).unwrap());
        assert_eq!(carried_out(still_to_do(&root, init).unwrap()), [""; 0]);
        done
    }

    #[test]
    fn systemd_gets_links_and_a_mask_goes() {
        let files = [
            ("etc/systemd/system/", ""),
            ("usr/lib/systemd/system/vmstage.service", ""),
        ];
        let tree = Tree::new(&files);
        let mask = tree.root().join("etc/systemd/system/vmstage.service");
        symlink("/dev/null", &mask).unwrap();
        assert_eq!(
            enable(&tree, Init::Systemd),
            [
                "remove /etc/systemd/system/vmstage.service",
                "link /etc/systemd/system/multi-user.target.wants/vmstage.service to /usr/lib/systemd/system/vmstage.service",
                "link /etc/systemd/system/multi-user.target.wants/vmstage-watch.service to /usr/lib/systemd/system/vmstage-watch.service",
            ]
        );
    }

    #[test]
    fn a_unit_that_is_masked_by_an_empty_file_is_left_to_a_person() {
        let tree = Tree::new(&[("etc/systemd/system/vmstage.service", ""), ("usr/", "")]);
        let root = Root::open(tree.root()).unwrap();
        let enabling = still_to_do(&root, Init::Systemd).unwrap();
        assert!(matches!(enabling, Enabling::NotByUs(words) if words.contains("is empty")));
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_made_anew() {
        let tree = Tree::new(&[
            ("etc/rc.d/init.d/vmstage", ""),
            ("etc/rc.d/rc3.d/", ""),
            ("usr/", ""),
        ]);
        enable(&tree, Init::Chkconfig);
        let link = tree.root().join("etc/rc.d/rc3.d/S85vmstage");
        fs::remove_file(&link).unwrap();
        symlink("../init.d/nothing", &link).unwrap();
        let made = "link /etc/rc.d/rc3.d/S85vmstage to ../init.d/vmstage";
        assert_eq!(enable(&tree, Init::Chkconfig), [made]);
    }

    #[test]
    fn insserv_gets_links_and_lines_and_loses_them_again() {
        let start = "TARGETS = rsyslog condor rc.local\nINTERACTIVE =\nrc.local: rsyslog\n";
        let stop = "TARGETS = rsyslog sendsigs\nsendsigs: rsyslog\n";
        let files = [
            ("etc/init.d/.depend.start", start),
            ("etc/init.d/.depend.stop", stop),
            ("etc/init.d/rc.local", "# Required-Start:    $all\n"),
            ("etc/rc2.d/S01rsyslog", ""),
            ("etc/rc2.d/S02condor", ""),
            ("usr/", ""),
        ];
        let tree = Tree::new(&files);
        let before = tree.names("");
        let done = enable(&tree, Init::Insserv);
        assert_eq!(done[0], "link /etc/rc2.d/S01vmstage to ../init.d/vmstage");
        assert_eq!(
            tree.text("etc/init.d/.depend.start"),
            "TARGETS = rsyslog vmstage condor rc.local\nINTERACTIVE =\n\
             rc.local: rsyslog vmstage\nvmstage: rsyslog\ncondor: vmstage\n"
        );
        assert_eq!(
            tree.text("etc/init.d/.depend.stop"),
            "TARGETS = rsyslog sendsigs vmstage\nsendsigs: rsyslog\n"
        );
        let link = fs::read_link(tree.root().join("etc/rc1.d/K01vmstage")).unwrap();
        assert_eq!(link, Path::new("../init.d/vmstage"));

        let root = Root::open(tree.root()).unwrap();
        for step in to_undo(&root).steps {
            step.carry_out(&root).unwrap();
        }
        assert_eq!(tree.names(""), before);
        assert_eq!(tree.text("etc/init.d/.depend.start"), start);
        assert_eq!(tree.text("etc/init.d/.depend.stop"), stop);
        assert!(to_undo(&root).steps.is_empty());
    }
}
