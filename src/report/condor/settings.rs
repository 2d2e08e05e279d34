//! What HTCondor's own tool reads in all its files, and what of the drop-in does not hold.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::drop_in::{self, JobEnvironment, PATH, Reading, Site, Syntax};
use crate::host::bounded::Limit;
use crate::host::{Host, program};
use crate::text::excerpt;

const TOOL: &str = "condor_config_val";

/// The names to ask for, as a regular expression that takes no notice of case.
const NAMES: &str = "^(STARTD\\.)?(START|SLOT_TYPE_[0-9]+_START|EXECUTE|SLOT[0-9]+_EXECUTE|STARTER\
|STARTER_JOB_ENVIRONMENT|STARTD_ATTRS|STAGINGREADY|MJF_MACHINE_SHUTDOWNTIME\
|MJF_MACHINE_GRACE_SECS|MAXJOBRETIREMENTTIME|LOCAL_CONFIG_FILE|CONDOR_VERSION)$";

/// One name, as it is after the last file was read.
#[derive(Debug, PartialEq)]
struct Setting {
    name: String,
    /// With everything expanded.
    value: String,
    /// `/etc/condor/condor_config.local, line 3`
    place: String,
}

/// The names that are set anywhere.
#[derive(Debug, PartialEq)]
pub(super) struct Settings(Vec<Setting>);

/// Asks the tool, where there is one.
///
/// # Errors
///
/// That it was not done in time, or what it says is wrong.
pub(super) fn ask(host: &Host, limit: Limit) -> Result<Option<Settings>> {
    let Some(tool) = program::find(host, TOOL) else {
        return Ok(None);
    };
    let mut command = Command::new(tool);
    command.args(["-dump", "-verbose", NAMES]);
    let done = program::run(command, limit).context(TOOL)?;
    if !done.status.success() {
        let said = format!("{}{}", done.stderr, done.stdout);
        bail!("{TOOL}: {}, {}", done.status, excerpt(said.trim()));
    }
    Ok(Some(Settings::parse(&done.stdout)))
}

impl Settings {
    /// Of `-dump -verbose`: `NAME = as written` or `NAME @=end` and so on to `@end`, then
    /// indented comments with the place and the expanded value.
    pub(super) fn parse(dump: &str) -> Settings {
        let mut settings: Vec<Setting> = Vec::new();
        let mut end: Option<&str> = None;
        for line in dump.lines() {
            if let Some(tag) = end {
                end = end.filter(|_| line.strip_prefix('@') != Some(tag));
            } else if let Some(comment) = line.strip_prefix(" # ") {
                if let Some(setting) = settings.last_mut() {
                    setting.learn(comment);
                }
            } else if let Some((name, written)) = line.split_once(' ')
                && written.starts_with(['=', '@'])
            {
                end = written.strip_prefix("@=");
                settings.push(Setting {
                    name: name.to_ascii_uppercase(),
                    value: String::new(),
                    place: String::new(),
                });
            }
        }
        Settings(settings)
    }

    fn get(&self, name: &str) -> Option<&Setting> {
        let settings = self.0.iter();
        let mut named = settings.filter(|setting| setting.name.eq_ignore_ascii_case(name));
        named.next()
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(|setting| setting.value.as_str())
    }

    /// What the drop-in goes by, where it sets neither STARTER_JOB_ENVIRONMENT nor the
    /// START of slot types yet.
    pub(super) fn site(&self) -> Site {
        // One that does not tell its version may not have the rest either.
        let has_defaults = self.get("CONDOR_VERSION").is_some();
        // The output of a command is no list to which a file could be added.
        let is_a_command = |files: &str| files.contains('|');
        let files = self.value("LOCAL_CONFIG_FILE").unwrap_or_default();
        let starts = self
            .0
            .iter()
            .filter(|setting| has_defaults && setting.decides_beside_start());
        let mut starts: Vec<String> = starts.map(|setting| setting.name.clone()).collect();
        starts.dedup();
        Site {
            reading: match has_defaults && !is_a_command(files) {
                true => Reading::AlsoLast,
                false => Reading::InItsTurn,
            },
            syntax: match has_defaults {
                true => Syntax::WithDefaults,
                false => Syntax::OfAllVersions,
            },
            starts,
            environment: match self.value("STARTER_JOB_ENVIRONMENT") {
                Some(value) if !value.is_empty() => JobEnvironment::Site(value.into()),
                _ => JobEnvironment::Ours,
            },
        }
    }

    /// What the site's configuration takes back of this drop-in, in sentences.
    pub(super) fn takes_back(&self, text: &str) -> Vec<String> {
        if self.0.iter().all(|setting| setting.place.is_empty()) {
            // An old tool, which does not say where they are set.
            return Vec::new();
        }
        if !self.0.iter().any(Setting::is_of_the_drop_in) {
            return vec![format!("{PATH} is not among the files that are read")];
        }
        let mut all: Vec<String> = Vec::new();
        let is_set = |name: &str| drop_in::value_of(text, name).is_some();
        for setting in &self.0 {
            let effect = match setting.plain_name() {
                _ if setting.is_of_the_drop_in() => continue,
                "START" if is_set("STARTD.STARTER") => "jobs are sent here, and fail to start",
                "START" if is_set("START") => "jobs may start in grace",
                "STARTER" if is_set("STARTD.STARTER") && setting.name != "STARTER" => {
                    "jobs may run on the root disk"
                }
                "EXECUTE" if setting.is_beside(drop_in::value_of(text, "EXECUTE")) => {
                    "jobs run there, and not on the scratch disk"
                }
                "STARTER_JOB_ENVIRONMENT" if is_set("STARTER_JOB_ENVIRONMENT") => {
                    "jobs have neither $MACHINEFEATURES nor $JOBFEATURES"
                }
                "STARTD_ATTRS" if !setting.value.contains("StagingReady") => {
                    "the slots do not show StagingReady"
                }
                "STAGINGREADY" => "the slots do not show what became of the scratch disk",
                "MJF_MACHINE_SHUTDOWNTIME" | "MJF_MACHINE_GRACE_SECS" if is_set(&setting.name) => {
                    "the slots show another deadline"
                }
                "MAXJOBRETIREMENTTIME" if is_set("MAXJOBRETIREMENTTIME") => {
                    "a notice may be over before drain makes jobs save what they have"
                }
                _ => continue,
            };
            let Setting { name, value, place } = setting;
            let told = format!("{name} is {} ({place}): {effect}", excerpt(value));
            if !all.contains(&told) {
                all.push(told);
            }
        }
        all
    }
}

impl Setting {
    fn learn(&mut self, comment: &str) {
        match comment.split_once(": ") {
            Some(("at", place)) => self.place = place.into(),
            Some(("expanded", value)) => self.value = value.into(),
            Some(("raw" | "default", _)) => {}
            // A value of several lines is indented further.
            _ => self.value += comment,
        }
    }

    fn is_of_the_drop_in(&self) -> bool {
        let behind = self.place.strip_prefix(PATH);
        behind.is_some_and(|behind| behind.is_empty() || behind.starts_with(','))
    }

    /// Without the prefixes that say for which daemon and for which slots it is.
    fn plain_name(&self) -> &str {
        let name = self.name.strip_prefix("STARTD.").unwrap_or(&self.name);
        let Some(of_slots) = name.strip_prefix("SLOT") else {
            return name;
        };
        let of_slots = of_slots.strip_prefix("_TYPE_").unwrap_or(of_slots);
        match of_slots.trim_start_matches(|c: char| c.is_ascii_digit()) {
            "_START" => "START",
            "_EXECUTE" => "EXECUTE",
            _ => name,
        }
    }

    fn decides_beside_start(&self) -> bool {
        self.plain_name() == "START" && self.name != "START"
    }

    /// Whether it is a place for jobs that is not on the disk of this one.
    fn is_beside(&self, execute: Option<&str>) -> bool {
        let disk = execute.and_then(|execute| Path::new(execute).parent());
        disk.is_some_and(|disk| !Path::new(&self.value).starts_with(disk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As HTCondor 23.9 prints it.
    const DUMP: &str = "\
# Configuration from machine: worker.test

# Parameters with names that match START:
CONDOR_VERSION = 23.9.6
 # at: <Default>
 # expanded: 23.9.6
 # default: 23.9.6
LOCAL_CONFIG_FILE = $(DIR)/condor_config.local
 # at: /etc/condor/condor_config, line 29
 # expanded: /etc/condor/condor_config.local
START @=end
   Owner == \"anna\" // only her
   && True = True
@end
 # at: /etc/condor/config.d/50-site.config, line 4
 # expanded: 
 #     Owner == \"anna\" // only her
 #     && True = True
 # default: True
Startd.Start = True
 # at: /etc/condor/config.d/50-site.config, line 5
 # expanded: True
# Contributing configuration file(s):
#\t/etc/condor/condor_config
";

    #[test]
    fn a_dump_is_read_with_values_of_several_lines() {
        let settings = Settings::parse(DUMP);
        let names: Vec<&str> = settings.0.iter().map(|one| one.name.as_str()).collect();
        let expected = [
            "CONDOR_VERSION",
            "LOCAL_CONFIG_FILE",
            "START",
            "STARTD.START",
        ];
        assert_eq!(names, expected);
        let files = settings.value("Local_Config_File");
        assert_eq!(files, Some("/etc/condor/condor_config.local"));
        let start = settings.get("START").unwrap();
        assert_eq!(start.place, "/etc/condor/config.d/50-site.config, line 4");
        assert!(start.value.contains("only her") && start.value.contains("&& True"));
        assert_eq!(settings.site().starts, ["STARTD.START"]);
        assert_eq!(Settings::parse("").0, []);
    }

    #[test]
    fn what_an_old_htcondor_might_not_understand_is_not_written() {
        let old = DUMP.replace("CONDOR_VERSION", "CONDOR_HOST");
        let site = Settings::parse(&old).site();
        assert!(site.syntax == Syntax::OfAllVersions && site.starts.is_empty());
        assert!(site.reading == Reading::InItsTurn);
        let older: Vec<&str> = old.lines().filter(|line| !line.starts_with(" #")).collect();
        let said = Settings::parse(&older.join("\n")).takes_back(IN_GRACE);
        assert!(said.is_empty(), "{said:?}");
    }

    const READY: &str = "StagingReady = True\nEXECUTE = /staging/condor\n\
        STARTER_JOB_ENVIRONMENT = x\n";
    const IN_GRACE: &str = "StagingReady = True\nMJF_MACHINE_SHUTDOWNTIME = 7\nSTART = x\n";
    const FAILED: &str = "StagingReady = False\nSTARTD.STARTER = /dev/null/x\nSTART = False\n";

    fn is_said(drop_in: &str, name: &str, value: &str, place: &str) -> Vec<String> {
        let ours = format!("StagingReady = x\n # at: {PATH}, line 2\n # expanded: x\n");
        let other = format!("{name} = y\n # at: {place}\n # expanded: {value}\n");
        Settings::parse(&(ours + &other)).takes_back(drop_in)
    }

    #[test]
    fn what_a_later_file_takes_back_is_said_with_its_place_and_effect() {
        for (drop_in, name, value, effect) in [
            (IN_GRACE, "START", "True", "jobs may start in grace"),
            (IN_GRACE, "STARTD.START", "True", "jobs may start in grace"),
            (
                IN_GRACE,
                "SLOT_TYPE_3_START",
                "True",
                "jobs may start in grace",
            ),
            (
                IN_GRACE,
                "MJF_MACHINE_SHUTDOWNTIME",
                "8",
                "the slots show another deadline",
            ),
            (
                FAILED,
                "START",
                "True",
                "jobs are sent here, and fail to start",
            ),
            (
                FAILED,
                "STARTD.SLOT_TYPE_1_START",
                "True",
                "jobs are sent here, and fail to start",
            ),
            (
                FAILED,
                "STARTD.STARTER",
                "/usr/sbin/s",
                "jobs may run on the root disk",
            ),
            (
                READY,
                "EXECUTE",
                "/mnt",
                "jobs run there, and not on the scratch disk",
            ),
            (
                READY,
                "SLOT2_EXECUTE",
                "/mnt",
                "jobs run there, and not on the scratch disk",
            ),
            (
                READY,
                "STARTD.EXECUTE",
                "/mnt",
                "jobs run there, and not on the scratch disk",
            ),
            (
                READY,
                "STARTD_ATTRS",
                "Rack",
                "the slots do not show StagingReady",
            ),
            (
                READY,
                "STARTER_JOB_ENVIRONMENT",
                "A=1",
                "jobs have neither $MACHINEFEATURES nor $JOBFEATURES",
            ),
        ] {
            let place = "/etc/condor/condor_config.local, line 3";
            let said = is_said(drop_in, name, value, place);
            assert_eq!(said, [format!("{name} is {value} ({place}): {effect}")]);
        }
    }

    #[test]
    fn what_holds_and_what_is_the_sites_own_is_nothing_to_say() {
        let ours = format!("{PATH}, line 3");
        let theirs = "/etc/condor/condor_config.local, line 3";
        for (drop_in, name, value, place) in [
            (IN_GRACE, "START", "x", ours.as_str()),
            // There is no deadline.
            (READY, "START", "True", theirs),
            (READY, "SLOT_TYPE_1_START", "True", theirs),
            (READY, "SLOT1_EXECUTE", "/staging/slot1", theirs),
            (READY, "STARTD_ATTRS", "Rack StagingReady", theirs),
            // There is no directory for jobs.
            (IN_GRACE, "EXECUTE", "/mnt", theirs),
            (FAILED, "STARTER", "/usr/sbin/condor_starter", theirs),
            (READY, "STARTD.STARTER", "/usr/sbin/condor_starter", theirs),
        ] {
            let said = is_said(drop_in, name, value, place);
            assert!(said.is_empty(), "{said:?}");
        }
    }

    #[test]
    fn a_drop_in_that_is_not_read_at_all_is_said() {
        let said = Settings::parse(DUMP).takes_back(READY);
        assert_eq!(
            said,
            [format!("{PATH} is not among the files that are read")]
        );
    }
}
