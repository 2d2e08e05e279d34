//! HTCondor: a drop-in that puts jobs on the scratch disk and keeps new ones away when
//! the VM is about to go.
//!
//! What a site sets elsewhere decides about some of it. Before the VM is ready nobody is
//! asked for that, and the drop-in holds what is right in any case; after it HTCondor's own
//! tool is asked, and the drop-in completed.

mod daemons;
mod drop_in;
mod settings;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use self::daemons::News;
use self::drop_in::{Execute, JobEnvironment, PATH, Reading, Site, Syntax, features};
use self::settings::Settings;
use super::apart::{self, Mounts};
use super::files::{self, Place};
use super::old_texts;
use crate::config::Config;
use crate::host::Host;
use crate::host::bounded::Limit;
use crate::host::checked_path::{self, Missing};
use crate::host::regular_file::{self, MIB};
use crate::logging::Notices;
use crate::status::{self, Status};
use crate::text::one_line;

pub(crate) const DIRECTORY: &str = "/etc/condor/config.d";
const SITE: &str = "/etc/condor";
pub(crate) const NAME: &str = "99-vmstage.config";

pub(super) const KEY: &str = "report.condor";

/// How a warning about HTCondor begins.
const OF_HTCONDOR: &str = "HTCondor: ";

/// How long HTCondor's own tool may take: it may look up this host's name.
const LOOK: Duration = Duration::from_secs(5);

/// What came of telling HTCondor.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    /// That there was anything new.
    pub changed: bool,
    /// What the site's configuration keeps from having an effect, in sentences.
    pub warnings: Vec<String>,
}

/// Writes the drop-in where its directory exists, and has a running HTCondor read it.
///
/// # Errors
///
/// That it cannot be written, or not with the directory for jobs, or that HTCondor cannot
/// be told.
pub fn publish(host: &Host, status: &Status, config: &Config) -> Result<Told> {
    write(&Mounts::of(host), status, config)?.tell(host, status)
}

/// Warns of what HTCondor does not do, and adds that to the status that is there.
pub(crate) fn note(host: &Host, notices: &Notices, told: Result<Told>) {
    let warnings = match told {
        Ok(told) => told.warnings,
        Err(e) => vec![format!("it could not be told: {e:#} ({KEY})")],
    };
    let of_htcondor = |warning: &String| one_line(&format!("{OF_HTCONDOR}{warning}"));
    let warnings: Vec<String> = warnings.iter().map(of_htcondor).collect();
    for warning in &warnings {
        notices.warn_once(warning);
    }
    if let Err(e) = add_to_status(host, warnings) {
        notices.warn_once(format!("{e:#}"));
    }
}

/// In place of what an earlier look found, which may hold no more.
fn add_to_status(host: &Host, warnings: Vec<String>) -> Result<()> {
    let is_of_htcondor = |warning: &String| warning.starts_with(OF_HTCONDOR);
    let has_none = |status: &Status| !status.warnings.iter().any(is_of_htcondor);
    // Nobody waits for a turn, or for a status that cannot be read, with nothing to add.
    if warnings.is_empty()
        && Status::read(host)
            .ok()
            .flatten()
            .is_none_or(|s| has_none(&s))
    {
        return Ok(());
    }
    let _turn = status::lock(host);
    let Some(mut status) = Status::read(host)? else {
        return Ok(());
    };
    let before = status.warnings.clone();
    status.warnings.retain(|warning| !is_of_htcondor(warning));
    status.warnings.extend(warnings);
    match status.warnings == before {
        true => Ok(()),
        false => status.put(host),
    }
}

/// A drop-in that is in its place, and of which a running HTCondor knows nothing yet.
pub(crate) struct Written {
    is_there: bool,
    /// What was there before.
    before: String,
    text: String,
    /// It was there, and is gone.
    is_removed: bool,
    /// Jobs are to be told where the machine's features are.
    has_features: bool,
    is_apart: bool,
}

/// Has a running HTCondor read its configuration again, now that there is no drop-in. Where
/// its jobs run stays as it is until it is started again.
///
/// # Errors
///
/// That it cannot be told.
pub(crate) fn read_again(host: &Host) -> Result<()> {
    daemons::tell(&host.path("/proc"), &News::Settings)
}

/// Writes what takes no time to find out.
///
/// # Errors
///
/// That the drop-in cannot be written.
pub(super) fn write(mounts: &Mounts, status: &Status, config: &Config) -> Result<Written> {
    let host = mounts.host;
    let directory = look_at_directory(mounts)?;
    let mut written = Written {
        is_apart: directory == Directory::Apart,
        is_there: match directory {
            Directory::Missing => false,
            Directory::Own => true,
            Directory::Apart => files::is_there(host, Path::new(DIRECTORY))?,
        },
        before: String::new(),
        text: String::new(),
        is_removed: false,
        has_features: config.report.machine_features,
    };
    if written.is_there {
        let before = regular_file::read_text(&host.path(PATH), MIB);
        written.before = before.unwrap_or_default();
        // Nothing else that the look is to find of the site's.
        let site = Site {
            reading: reading_as_before(host, &written.before),
            ..Site::default()
        };
        written.put(host, status, &site)?;
    }
    Ok(written)
}

/// Removes the drop-in, if it is still as it was written. A running HTCondor knows nothing of
/// that yet.
///
/// # Errors
///
/// That it cannot be removed.
pub(super) fn withdraw(mounts: &Mounts) -> Result<Written> {
    let is_apart = look_at_directory(mounts)? == Directory::Apart;
    let is_removed = files::withdraw(mounts.host, KEY, None, &[PATH], old_texts::is_drop_in)?;
    Ok(Written {
        is_apart,
        is_there: false,
        before: String::new(),
        text: String::new(),
        is_removed,
        has_features: false,
    })
}

/// The directory for the drop-in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Directory {
    Missing,
    /// The system's own.
    Own,
    /// It may hang.
    Apart,
}

/// What is mounted on the way to the drop-in may hang, and where somebody else may write (the
/// directory is HTCondor's own user's, say) anything may be laid there: then it is read in a
/// child first.
fn look_at_directory(mounts: &Mounts) -> Result<Directory> {
    let places = [DIRECTORY, PATH].map(Path::new);
    let open_own = || checked_path::open_own(&mounts.host.path(DIRECTORY), Missing::IsAnError);
    let place = match mounts.on_the_way(&places) {
        Some(place) => place,
        None => match open_own() {
            Ok(_) => return Ok(Directory::Own),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Directory::Missing),
            // Also where that cannot be told.
            Err(_) => places[1],
        },
    };
    apart::in_child(place, &mut || {
        let _ = regular_file::read(&mounts.host.path(PATH), MIB);
        Ok(true)
    })?;
    Ok(Directory::Apart)
}

impl Written {
    /// Whether anything is done to tell it.
    pub(super) fn is_news(&self) -> bool {
        self.is_there || self.is_removed
    }

    /// Completes it by what the site's configuration says, and has a running HTCondor read
    /// it; waits for one that is just starting.
    ///
    /// # Errors
    ///
    /// That the drop-in cannot be completed, or HTCondor not be told.
    pub(crate) fn tell(self, host: &Host, status: &Status) -> Result<Told> {
        self.tell_within(LOOK, host, status)
    }

    /// `each_look` is how long HTCondor's own tool may take.
    fn tell_within(mut self, each_look: Duration, host: &Host, status: &Status) -> Result<Told> {
        let mut told = Told {
            changed: false,
            warnings: Vec::new(),
        };
        self.tell_of_removal(host)?;
        if !self.is_there {
            return Ok(told);
        }
        let look = || settings::ask(host, Limit::after(each_look));
        let start = Instant::now();
        let mut seen = look();
        // What is read last may be why: the list of files may have become a command's output.
        if seen.is_err() && start.elapsed() < each_look && is_read_last(&self.text) {
            self.put(host, status, &Site::default())?;
            seen = look().or(seen);
        }
        let (settings, site) = match seen {
            Ok(Some(settings)) => {
                let site = settings.site();
                (Some(settings), site)
            }
            seen => {
                let error = seen.err().map(|error| format!("{error:#}"));
                told.warnings.extend(error);
                (None, site_as_before(host, &self.before))
            }
        };
        let site = Site {
            environment: match self.has_features {
                true => job_environment(host, site.environment).unwrap_or_else(|error| {
                    told.warnings.push(format!("{error:#}"));
                    JobEnvironment::Unknown
                }),
                false => JobEnvironment::Unknown,
            },
            ..site
        };
        let first = self.text.clone();
        self.put(host, status, &site)?;
        told.changed = self.before != self.text;
        if told.changed || first != self.text {
            daemons::tell(&host.path("/proc"), &self.news(settings.as_ref()))?;
        }
        if let JobEnvironment::Site(environment) = &site.environment {
            told.warnings.extend(lacks_features(environment));
        }
        if settings.is_some() {
            match look() {
                Ok(settings) => {
                    let takes_back = settings.map(|settings| settings.takes_back(&self.text));
                    told.warnings.extend(takes_back.unwrap_or_default());
                }
                Err(error) => told.warnings.push(format!("{error:#}")),
            }
        }
        match drop_in::execute(status) {
            Execute::Unspeakable(path) => bail!(
                "HTCondor's configuration cannot name {}, so that no job is started",
                path.display()
            ),
            _ => Ok(told),
        }
    }

    /// Has a running HTCondor go without it, where it was removed. Jobs that run go on where
    /// they are.
    ///
    /// # Errors
    ///
    /// That HTCondor cannot be told.
    pub(crate) fn tell_of_removal(&self, host: &Host) -> Result<()> {
        match self.is_removed {
            true => read_again(host),
            false => Ok(()),
        }
    }

    fn put(&mut self, host: &Host, status: &Status, site: &Site) -> Result<()> {
        self.text = drop_in::text(status, &drop_in::execute(status), site);
        let place = Place::of(KEY, PATH);
        let publish = &mut || files::publish(host, place, self.text.as_bytes(), 0o644);
        let done = match self.is_apart {
            true => apart::in_child(place.path, publish),
            false => publish(),
        };
        done.map(drop)
    }

    /// What is new for an HTCondor that went by what was there before: `settings` are those
    /// that held until now.
    fn news(&self, settings: Option<&Settings>) -> News {
        let Some(execute) = drop_in::value_of(&self.text, "EXECUTE") else {
            return News::Settings;
        };
        let is_another = drop_in::value_of(&self.before, "EXECUTE") != Some(execute);
        let held = settings.and_then(|settings| settings.value("EXECUTE"));
        let held_another = held.is_some_and(|held| held != execute);
        match is_another || held_another && is_read_last(&self.text) {
            true => News::Execute,
            false => News::Settings,
        }
    }
}

/// As the last drop-in was written: a look that fails takes back no guard of it.
fn site_as_before(host: &Host, before: &str) -> Site {
    let names = before.lines().filter_map(|line| line.split_once(" = "));
    let starts = names.map(|(name, _)| name).filter(|name| {
        let is_one = name.ends_with("_START") || name.ends_with(".START");
        is_one && !name.starts_with('#')
    });
    let starts: BTreeSet<String> = starts.map(String::from).collect();
    Site {
        reading: reading_as_before(host, before),
        syntax: match before.contains("$(START:") {
            true => Syntax::WithDefaults,
            false => Syntax::OfAllVersions,
        },
        starts: starts.into_iter().collect(),
        environment: match drop_in::value_of(before, "STARTER_JOB_ENVIRONMENT") {
            Some(_) => JobEnvironment::Ours,
            None => JobEnvironment::Unknown,
        },
    }
}

/// As before, where that is safe: a `LOCAL_CONFIG_FILE` that is the output of a command takes no
/// file beside it.
fn reading_as_before(host: &Host, before: &str) -> Reading {
    let takes_it = || {
        let files = set_elsewhere(host, "LOCAL_CONFIG_FILE");
        files.is_ok_and(|files| !files.iter().any(|files| files.contains('|')))
    };
    match is_read_last(before) && takes_it() {
        true => Reading::AlsoLast,
        false => Reading::InItsTurn,
    }
}

fn is_read_last(text: &str) -> bool {
    drop_in::value_of(text, "LOCAL_CONFIG_FILE").is_some()
}

fn job_environment(host: &Host, said: JobEnvironment) -> Result<JobEnvironment> {
    if said != JobEnvironment::Unknown {
        return Ok(said);
    }
    let last = set_elsewhere(host, "STARTER_JOB_ENVIRONMENT")?.pop();
    Ok(last.map_or(JobEnvironment::Ours, JobEnvironment::Site))
}

fn lacks_features(environment: &str) -> Option<String> {
    let has = |name: &str| environment.contains(name);
    match has("MACHINEFEATURES=") && has("JOBFEATURES=") {
        true => None,
        false => Some(format!(
            "STARTER_JOB_ENVIRONMENT is the site's own, so that jobs lack what it should \
             have as well: {}",
            features()
        )),
    }
}

/// So many of a site's files are read, and so much of them.
const MOST_FILES: usize = 500;
const MOST_BYTES: u64 = 8 * MIB;

/// What a site's files say of a name, in any order, as far as they can be read. They may be links
/// to where nobody answers, and so a child reads them first.
fn set_elsewhere(host: &Host, name: &str) -> Result<Vec<String>> {
    apart::in_child(Path::new(SITE), &mut || {
        read_elsewhere(host, name);
        Ok(true)
    })?;
    Ok(read_elsewhere(host, name))
}

fn read_elsewhere(host: &Host, name: &str) -> Vec<String> {
    let mut files = vec![
        host.path("/etc/condor/condor_config"),
        host.path("/etc/condor/condor_config.local"),
    ];
    for directory in [DIRECTORY, "/usr/share/condor/config.d"] {
        let listing = fs::read_dir(host.path(directory));
        files.extend(
            listing
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| is_read_by_htcondor(&entry.file_name()))
                .filter(|entry| entry.file_name() != NAME)
                .map(|entry| entry.path())
                .take(MOST_FILES),
        );
    }
    let mut found = Vec::new();
    let mut left = MOST_BYTES;
    for file in files {
        let Ok(text) = regular_file::read(&file, MIB.min(left)) else {
            continue;
        };
        left -= text.len() as u64;
        // A value may go on in the next line.
        let text = String::from_utf8_lossy(&text).replace("\\\n", " ");
        let settings = text.lines().filter_map(|line| line.split_once('='));
        let named = settings.filter(|(set, _)| set.trim().eq_ignore_ascii_case(name));
        found.extend(named.map(|(_, value)| value.trim().to_string()));
    }
    found
}

/// Whether HTCondor reads a file of this name in a `config.d`: the default of
/// LOCAL_CONFIG_DIR_EXCLUDE_REGEXP. The first pattern is also that of what a killed process
/// of this program left behind.
pub(crate) fn is_read_by_htcondor(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let passed_over = name.starts_with(['.', '#']) || name.ends_with('~');
    !passed_over && !name.ends_with(".rpmsave") && !name.ends_with(".rpmnew")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;
    use crate::report::example;

    const FILE: &str = "etc/condor/config.d/99-vmstage.config";

    fn tree() -> Tree {
        Tree::new(&[(
            "etc/condor/config.d/00-site.config",
            "START = Owner == \"me\"\n",
        )])
    }

    /// Says whether anything changed.
    fn published(tree: &Tree, status: &Status) -> bool {
        told(tree, status).unwrap().changed
    }

    /// As where nothing is turned off.
    fn told(tree: &Tree, status: &Status) -> Result<Told> {
        publish(&tree.host(), status, &Config::default())
    }

    /// A tool that says this, whatever it is asked.
    fn install_tool(tree: &Tree, script: &str) {
        tree.script("usr/bin/condor_config_val", script);
    }

    /// One whose configuration has these names, each as its value and the file it is from.
    fn install_tool_that_knows(tree: &Tree, settings: &[(&str, &str, &str)]) {
        let said = |(name, value, file): &(&str, &str, &str)| {
            format!("{name} = {value}\n # at: {file}, line 1\n # expanded: {value}\n")
        };
        let said: String = settings.iter().map(said).collect();
        install_tool(tree, &format!("cat <<'END'\n{said}END"));
    }

    #[test]
    fn of_many_and_of_huge_files_some_are_read() {
        let tree = tree();
        let large = format!("{}\nX = 1\n", "#".repeat(MIB as usize - 7));
        for number in 0..=MOST_FILES {
            let text = if number < 12 {
                large.as_str()
            } else {
                "X = 1\n"
            };
            let file = tree.root().join(format!("etc/condor/config.d/{number}"));
            fs::write(file, text).unwrap();
        }
        let found = set_elsewhere(&tree.host(), "x").unwrap().len();
        assert!((8..MOST_FILES).contains(&found), "{found}");
    }

    #[test]
    fn a_ready_machine_with_a_deadline() {
        let tree = tree();
        assert!(published(&tree, &example::with_deadline()));
        let expected = "\
# Written by vmstage(8), which overwrites it.
StagingReady = True
STARTD_ATTRS = $(STARTD_ATTRS) StagingReady
EXECUTE = /staging/condor
STARTER_JOB_ENVIRONMENT = \"MACHINEFEATURES=/etc/machinefeatures JOBFEATURES=/etc/jobfeatures\"
MJF_MACHINE_SHUTDOWNTIME = 1795430460
MJF_MACHINE_GRACE_SECS = 600
STARTD_ATTRS = $(STARTD_ATTRS) MJF_MACHINE_SHUTDOWNTIME MJF_MACHINE_GRACE_SECS
START = time() >= 1795429860 ? False : $(START)
";
        assert_eq!(tree.text(FILE), expected);
        assert!(!published(&tree, &example::with_deadline()));
        assert_eq!(tree.names("etc/condor/config.d").len(), 2);
    }

    #[test]
    fn the_slots_show_what_is_short_where_somebody_asked_for_it() {
        let tree = tree();
        let mut status = example::short_of_scratch();
        told(&tree, &status).unwrap();
        let shown = "\nVmstageShortOf = \"scratch\"\n\
                     STARTD_ATTRS = $(STARTD_ATTRS) VmstageShortOf\n";
        assert!(tree.text(FILE).contains(shown), "{}", tree.text(FILE));
        status.resources.as_mut().unwrap().short_of.clear();
        told(&tree, &status).unwrap();
        assert!(tree.text(FILE).contains("\nVmstageShortOf = \"\"\n"));
        status.resources = None;
        told(&tree, &status).unwrap();
        assert!(!tree.text(FILE).contains("VmstageShortOf"));
    }

    #[test]
    fn jobs_are_not_pointed_at_features_that_are_turned_off() {
        let tree = tree();
        let config = Config::parse("report.machine_features = false").unwrap();
        for settings in [&[][..], &[("CONDOR_VERSION", "23.9.6", "<Default>")]] {
            install_tool_that_knows(&tree, settings);
            told(&tree, &example::ready()).unwrap();
            assert!(tree.text(FILE).contains("STARTER_JOB_ENVIRONMENT"));
            let told = publish(&tree.host(), &example::ready(), &config).unwrap();
            assert!(told.changed);
            assert!(!tree.text(FILE).contains("STARTER_JOB_ENVIRONMENT"));
        }
    }

    #[test]
    fn without_a_deadline_start_is_the_sites_own() {
        let tree = tree();
        told(&tree, &example::with_deadline()).unwrap();
        assert!(published(&tree, &example::ready()));
        let text = tree.text(FILE);
        assert!(
            !text.contains("MJF_") && !text.contains("START ="),
            "{text}"
        );
    }

    #[test]
    fn a_machine_that_is_not_ready_starts_nothing_and_names_no_directory() {
        let tree = tree();
        told(&tree, &example::failed()).unwrap();
        let text = tree.text(FILE);
        assert!(text.contains("\nStagingReady = False\n"), "{text}");
        for line in [
            "START = False",
            "STARTD.START = False",
            "STARTD.STARTER = /dev/null/staging-has-failed",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{text}");
        }
        assert!(!text.contains("\nEXECUTE"), "{text}");
    }

    #[test]
    fn without_a_directory_called_condor_execute_is_the_sites_own() {
        let tree = tree();
        let mut status = example::ready();
        status.directories.remove(0);
        told(&tree, &status).unwrap();
        let text = tree.text(FILE);
        assert!(
            !text.contains("\nEXECUTE") && !text.contains("START ="),
            "{text}"
        );
    }

    #[test]
    fn a_directory_that_could_not_be_made_as_asked_is_not_named() {
        let tree = tree();
        let mut status = example::failed();
        status.staging = example::ready().staging;
        status.directories = example::ready().directories;
        status.directories[0].error = Some("there is no user condor".into());
        told(&tree, &status).unwrap();
        let text = tree.text(FILE);
        assert!(
            !text.contains("\nEXECUTE") && text.contains("START = False"),
            "{text}"
        );
    }

    fn mounted_on(mount_point: &str) -> Status {
        let mut status = example::ready();
        status.staging.as_mut().unwrap().mount_point = mount_point.into();
        status.directories[0].path = Path::new(mount_point).join("condor");
        status
    }

    #[test]
    fn a_mount_point_that_would_be_read_as_something_else_is_refused_and_starts_nothing() {
        for mount_point in [
            "/$(START)",
            "/$ENV(HOME)",
            "/a$b",
            "/a\nSTART = True",
            "/a\tb",
        ] {
            let tree = tree();
            told(&tree, &mounted_on(mount_point)).unwrap_err();
            let text = tree.text(FILE);
            assert!(text.contains("\nSTART = False\n"), "{text}");
            assert!(
                !text.contains("\nEXECUTE") && !text.contains("START = True"),
                "{text}"
            );
        }
    }

    #[test]
    fn blanks_and_quotes_in_a_mount_point_are_written_as_they_are() {
        let tree = tree();
        told(&tree, &mounted_on("/my \"own\"/disk's #1\\")).unwrap();
        let expected = "\nEXECUTE = /my \"own\"/disk's #1\\/condor\n";
        assert!(tree.text(FILE).contains(expected), "{}", tree.text(FILE));
    }

    #[test]
    fn a_job_environment_that_the_site_sets_is_left_to_it() {
        for (site, left) in [
            ("starter_job_environment=\"A=1\"\n", true),
            (
                "STARTER_JOB_ENVIRONMENT = MACHINEFEATURES=/m;JOBFEATURES=/j\n",
                true,
            ),
            ("# STARTER_JOB_ENVIRONMENT is not set here\n", false),
        ] {
            let tree = Tree::new(&[("etc/condor/config.d/50-site", site)]);
            let told = told(&tree, &example::ready()).unwrap();
            let ours = tree.text(FILE).contains("STARTER_JOB_ENVIRONMENT");
            assert_eq!(ours, !left, "{site}");
            assert_eq!(
                told.warnings.len(),
                usize::from(left && !site.contains("JOBF"))
            );
        }
    }

    #[test]
    fn a_file_that_htcondor_passes_over_sets_nothing() {
        let set = "STARTER_JOB_ENVIRONMENT = \"A=1\"\n";
        for name in [
            // What a killed process left behind: of this program, and of an editor.
            ".99-vmstage.config.new",
            ".99-vmstage.config.4711.new",
            "50-site~",
            "#50-site#",
            "50-site.rpmsave",
            "50-site.rpmnew",
        ] {
            let tree = Tree::new(&[(&format!("etc/condor/config.d/{name}"), set)]);
            told(&tree, &example::ready()).unwrap();
            let text = tree.text(FILE);
            assert!(text.contains("STARTER_JOB_ENVIRONMENT"), "{name}: {text}");
        }
    }

    #[test]
    fn what_htcondors_own_tool_says_completes_the_drop_in() {
        let tree = tree();
        install_tool_that_knows(
            &tree,
            &[
                ("CONDOR_VERSION", "23.9.6", "<Default>"),
                ("LOCAL_CONFIG_FILE", "/etc/condor/condor_config.local", "/a"),
                ("START", "True", PATH),
                ("STARTD.START", "True", "/a"),
                ("SLOT_TYPE_12_START", "True", "/a"),
                ("SLOT_TYPE_1_STARTER", "x", "/a"),
            ],
        );
        told(&tree, &example::with_deadline()).unwrap();
        let text = tree.text(FILE);
        for line in [
            "LOCAL_CONFIG_FILE = $(LOCAL_CONFIG_FILE), /etc/condor/config.d/99-vmstage.config",
            "START = time() >= 1795429860 ? False : $(START:True)",
            "STARTD.START = time() >= 1795429860 ? False : $(STARTD.START:$(START))",
            "SLOT_TYPE_12_START = time() >= 1795429860 ? False : $(SLOT_TYPE_12_START:$(START))",
        ] {
            assert!(
                text.contains(&format!("\n{line}\n")),
                "{line} not in {text}"
            );
        }
        assert!(!text.contains("SLOT_TYPE_1_"), "{text}");

        told(&tree, &example::failed()).unwrap();
        let text = tree.text(FILE);
        for name in ["START", "STARTD.START", "SLOT_TYPE_12_START"] {
            assert_eq!(drop_in::value_of(&text, name), Some("False"), "{text}");
        }
    }

    #[test]
    fn a_list_of_files_that_a_command_writes_is_left_alone() {
        for (files, last) in [("/bin/files |", false), ("/a, /b", true), ("", true)] {
            let tree = tree();
            let version = ("CONDOR_VERSION", "23.9.6", "<Default>");
            install_tool_that_knows(&tree, &[version, ("LOCAL_CONFIG_FILE", files, "/a")]);
            let is_last = || tree.text(FILE).contains("\nLOCAL_CONFIG_FILE = ");
            told(&tree, &example::ready()).unwrap();
            assert_eq!(is_last(), last, "{files}");

            // Before anybody is asked again.
            write(&tree.host(), &example::ready(), &Config::default()).unwrap();
            assert_eq!(is_last(), last, "{files}");
            let local = tree.root().join("etc/condor/config.d/70-local");
            fs::write(local, "LOCAL_CONFIG_FILE = /bin/files|\n").unwrap();
            write(&tree.host(), &example::ready(), &Config::default()).unwrap();
            assert!(!is_last(), "{files}");
        }
    }

    fn write(host: &Host, status: &Status, config: &Config) -> Result<Written> {
        super::write(&Mounts::of(host), status, config)
    }

    /// In a form that only HTCondor's own tool reads.
    #[test]
    fn a_list_of_files_that_became_a_command_s_output_stops_htcondor_no_longer() {
        let tree = tree();
        let version = ("CONDOR_VERSION", "23.9.6", "<Default>");
        let drop_in = tree.root().join(FILE);
        let site = tree.root().join("etc/condor/config.d/70-local");
        let is_last = || tree.text(FILE).contains("\nLOCAL_CONFIG_FILE = ");
        for (form, is_read_here) in [
            ("LOCAL_CONFIG_FILE = \\\n  /bin/files |\n", true),
            ("LOCAL_CONFIG_FILE @=end\n/bin/files |\n@end\n", false),
        ] {
            fs::write(&site, "").unwrap();
            install_tool_that_knows(&tree, &[version, ("LOCAL_CONFIG_FILE", "/a", "/a")]);
            told(&tree, &example::ready()).unwrap();
            assert!(is_last());
            fs::write(&site, form).unwrap();
            let said = "CONDOR_VERSION = x\n # at: /a, line 1\nLOCAL_CONFIG_FILE = x\n \
                        # at: /a, line 1\n # expanded: /bin/files |\n";
            let fails = format!(
                "if grep -q ^LOCAL_CONFIG_FILE '{}'; then echo 'not a valid command'; exit 1; fi\n\
                 cat <<'END'\n{said}END",
                drop_in.display()
            );
            install_tool(&tree, &fails);
            write(&tree.host(), &example::ready(), &Config::default()).unwrap();
            assert_eq!(is_last(), !is_read_here, "{form}");
            let mended = told(&tree, &example::ready()).unwrap();
            assert!(!is_last(), "{form}");
            assert!(
                !mended
                    .warnings
                    .iter()
                    .any(|said| said.contains("not a valid"))
            );
            // What is wrong without it as well takes back no guard.
            fs::write(&site, "").unwrap();
            install_tool_that_knows(&tree, &[version, ("LOCAL_CONFIG_FILE", "/a", "/a")]);
            told(&tree, &example::ready()).unwrap();
            install_tool(&tree, "echo 'another error'; exit 1");
            let failed = told(&tree, &example::ready()).unwrap();
            assert!(is_last() && failed.warnings[0].contains("another error"));
        }
    }

    #[test]
    fn a_tool_that_fails_or_hangs_is_said_and_the_drop_in_holds_what_is_right_in_any_case() {
        for (script, said) in [
            (
                "echo 'Configuration Error: line 3' >&2; exit 1",
                "condor_config_val: exit status: 1, Configuration Error: line 3",
            ),
            (
                "exec sleep 30",
                "condor_config_val: was not done in time and was killed",
            ),
        ] {
            let tree = tree();
            install_tool(&tree, script);
            let (host, status) = (tree.host(), example::with_deadline());
            let start = std::time::Instant::now();
            let written = write(&host, &status, &Config::default()).unwrap();
            let told = written.tell_within(LOOK / 10, &host, &status).unwrap();
            assert!(start.elapsed() < LOOK);
            assert_eq!(told.warnings, [said]);
            let text = tree.text(FILE);
            assert!(text.contains("? False : $(START)\n"), "{text}");
            assert!(text.contains("\nSTARTER_JOB_ENVIRONMENT = "), "{text}");
        }
    }

    #[test]
    fn a_startd_is_started_anew_only_where_execute_was_another() {
        let ready = example::ready();
        let ours = drop_in::text(&ready, &drop_in::execute(&ready), &Site::default());
        let last = Site {
            reading: Reading::AlsoLast,
            ..Site::default()
        };
        let last = drop_in::text(&ready, &drop_in::execute(&ready), &last);
        let elsewhere = ours.replace("/staging/", "/mnt/");
        let held = |value: &str| {
            let dump = format!("EXECUTE = {value}\n # at: /a, line 1\n # expanded: {value}\n");
            Settings::parse(&dump)
        };
        for (before, text, held, expected) in [
            ("", &ours, None, News::Execute),
            (&elsewhere, &ours, None, News::Execute),
            (&ours, &ours, None, News::Settings),
            (&ours, &ours, Some(held("/staging/condor")), News::Settings),
            // A later file's holds, until the drop-in is read last.
            (&ours, &ours, Some(held("/mnt")), News::Settings),
            (&ours, &last, Some(held("/mnt")), News::Execute),
            (&last, &last, Some(held("/staging/condor")), News::Settings),
        ] {
            let written = Written {
                is_there: true,
                before: before.into(),
                text: text.into(),
                is_removed: false,
                has_features: true,
                is_apart: false,
            };
            assert_eq!(written.news(held.as_ref()), expected, "{before} to {text}");
        }
    }

    #[test]
    fn a_look_that_fails_takes_back_no_guard() {
        let tree = Tree::new(&[("etc/condor/config.d/", "")]);
        let host = tree.host();
        let site = Site {
            reading: Reading::AlsoLast,
            syntax: Syntax::WithDefaults,
            starts: vec!["SLOT_TYPE_1_START".into(), "STARTD.START".into()],
            environment: JobEnvironment::Ours,
        };
        for status in [example::with_deadline(), example::failed()] {
            let text = drop_in::text(&status, &drop_in::execute(&status), &site);
            let again = site_as_before(&host, &text);
            assert_eq!(again.starts, site.starts);
            let again = drop_in::text(&status, &drop_in::execute(&status), &again);
            assert!(again.contains("SLOT_TYPE_1_START"));
            assert!(again.contains("LOCAL_CONFIG_FILE"));
        }
        let plain = site_as_before(&host, "");
        assert!(plain.reading == Reading::InItsTurn && plain.starts.is_empty());
    }

    #[test]
    fn warnings_are_added_to_the_status_until_they_hold_no_more() {
        let tree = Tree::new(&[("run/", ""), ("proc/sys/kernel/random/boot_id", "b")]);
        let (host, notices) = (tree.host(), Notices::default());
        let mut status = Status::begin(&host);
        status.warnings = vec!["another".into()];
        status.write(&host).unwrap();
        let warnings = || Status::read(&host).unwrap().unwrap().warnings;
        let told = |warnings: &[&str]| {
            Ok(Told {
                changed: true,
                warnings: warnings.iter().map(|warning| warning.to_string()).collect(),
            })
        };
        note(&host, &notices, told(&["START is\nTrue"]));
        assert_eq!(warnings(), ["another", "HTCondor: START is True"]);
        note(&host, &notices, Err(anyhow::anyhow!("no room")));
        assert_eq!(
            warnings(),
            [
                "another",
                "HTCondor: it could not be told: no room (report.condor)"
            ]
        );
        note(&host, &notices, told(&[]));
        assert_eq!(warnings(), ["another"]);
        assert_eq!(notices.all().len(), 2);
    }

    #[test]
    fn without_htcondor_nothing_is_made() {
        let tree = Tree::new(&[("etc/condor/condor_config", "")]);
        assert!(!published(&tree, &example::ready()));
        assert_eq!(tree.names("etc/condor"), ["condor_config"]);
    }

    #[test]
    fn a_link_in_the_place_of_the_drop_in_is_an_error_and_stays() {
        let tree = Tree::new(&[("etc/condor/config.d/real", "theirs")]);
        std::os::unix::fs::symlink("real", tree.root().join(FILE)).unwrap();
        told(&tree, &example::ready()).unwrap_err();
        assert_eq!(tree.text("etc/condor/config.d/real"), "theirs");
    }
}
