//! What the drop-in says.
//!
//! A syntax error in it would end every daemon of HTCondor, so it holds only what its
//! parser cannot take for anything else. `if` is never used, and `$(NAME:default)` only
//! where HTCondor is known to have it.

use std::path::PathBuf;

use crate::metadata::machine_features::published::{JOB, MACHINE};
use crate::status::{Directory, Outcome, Status};

pub(super) const PATH: &str = "/etc/condor/config.d/99-vmstage.config";

/// No file can have this name, and HTCondor's log shows it.
const NO_STARTER: &str = "/dev/null/staging-has-failed";

/// Where HTCondor's jobs run.
pub(super) enum Execute {
    /// Wherever HTCondor's own configuration says.
    Unset,
    At(String),
    /// On the scratch disk, at a path that its configuration has no way to name.
    Unspeakable(PathBuf),
}

/// What the site's configuration says elsewhere, as far as the drop-in goes by it.
#[derive(Default)]
pub(super) struct Site {
    pub(super) reading: Reading,
    pub(super) syntax: Syntax,
    /// What decides about starting jobs beside START: `STARTD.START`, `SLOT_TYPE_1_START`.
    pub(super) starts: Vec<String>,
    pub(super) environment: JobEnvironment,
}

/// How often HTCondor reads the drop-in.
#[derive(Default, Clone, Copy, PartialEq)]
pub(super) enum Reading {
    #[default]
    InItsTurn,
    /// And once more after every other file.
    AlsoLast,
}

#[derive(Default, Clone, Copy, PartialEq)]
pub(super) enum Syntax {
    #[default]
    OfAllVersions,
    /// `$(NAME:default)`, the default for a name that is not set or empty.
    WithDefaults,
}

/// Who sets STARTER_JOB_ENVIRONMENT, to which nothing can be added safely: it has two
/// syntaxes, and the site may change over from one to the other at any time.
#[derive(Default, PartialEq)]
pub(super) enum JobEnvironment {
    #[default]
    Unknown,
    Ours,
    Site(String),
}

/// The directory that is called `condor`, where it was made as asked.
pub(super) fn execute(status: &Status) -> Execute {
    let Some(staging) = &status.staging else {
        return Execute::Unset;
    };
    let path = staging.mount_point.join("condor");
    let made = |directory: &&Directory| directory.error.is_none();
    if !status
        .directories
        .iter()
        .filter(made)
        .any(|d| d.path == path)
    {
        return Execute::Unset;
    }
    // A value is all that follows the equals sign, blanks and quotes included; what
    // begins with a dollar sign is expanded, and there is no way to write a newline.
    match path.to_str() {
        Some(text) if !text.contains(|c: char| c == '$' || c.is_control()) => {
            Execute::At(text.into())
        }
        _ => Execute::Unspeakable(path),
    }
}

/// Whether jobs have a place on the scratch disk.
pub(super) fn is_usable(status: &Status, execute: &Execute) -> bool {
    status.outcome == Outcome::Ready && !matches!(execute, Execute::Unspeakable(_))
}

pub(super) fn text(status: &Status, execute: &Execute, site: &Site) -> String {
    let mut text = Text(String::new());
    text.comment("Written by vmstage(8), which overwrites it.");
    if site.reading == Reading::AlsoLast {
        text.comment("Read once more after every other file, so that it holds.");
        text.set(
            "LOCAL_CONFIG_FILE",
            &format!("$(LOCAL_CONFIG_FILE), {PATH}"),
        );
    }
    let usable = is_usable(status, execute);
    text.set("StagingReady", if usable { "True" } else { "False" });
    text.set("STARTD_ATTRS", "$(STARTD_ATTRS) StagingReady");
    if let Some(resources) = &status.resources {
        let short_of: Vec<&str> = resources.short_of.iter().map(|one| one.name()).collect();
        text.set("VmstageShortOf", &format!("\"{}\"", short_of.join(" ")));
        text.set("STARTD_ATTRS", "$(STARTD_ATTRS) VmstageShortOf");
    }
    if let Execute::At(path) = execute {
        text.set("EXECUTE", path);
    }
    if site.environment == JobEnvironment::Ours {
        text.set("STARTER_JOB_ENVIRONMENT", &format!("\"{}\"", features()));
    }
    if !usable {
        text.comment("Jobs would fill the root disk. None runs without this program, whatever");
        text.comment("START of a slot, or EXECUTE, is set elsewhere.");
        text.set("STARTD.STARTER", NO_STARTER);
        text.set("START", "False");
        text.set("STARTD.START", "False");
        for name in site.starts.iter().filter(|name| *name != "STARTD.START") {
            text.set(name, "False");
        }
    }
    if let Some(deadline) = &status.deadline {
        if deadline.rehearsal {
            text.comment("A rehearsal: nothing is ended.");
        }
        text.set("MJF_MACHINE_SHUTDOWNTIME", &deadline.at.to_string());
        text.set(
            "MJF_MACHINE_GRACE_SECS",
            &deadline.grace_seconds.to_string(),
        );
        let attributes = "$(STARTD_ATTRS) MJF_MACHINE_SHUTDOWNTIME MJF_MACHINE_GRACE_SECS";
        text.set("STARTD_ATTRS", attributes);
        if deadline.notice {
            // Told to end, they have no other time than their own for saving.
            text.set("MAXJOBRETIREMENTTIME", "0");
        }
        if usable {
            text.start_until(deadline.at.saturating_sub(deadline.grace_seconds), site);
        }
    }
    text.0
}

/// What a job has in its environment, in HTCondor's newer syntax.
pub(super) fn features() -> String {
    format!("MACHINEFEATURES={MACHINE} JOBFEATURES={JOB}")
}

struct Text(String);

impl Text {
    fn comment(&mut self, comment: &str) {
        self.line(["# ", comment, ""]);
    }

    fn set(&mut self, name: &str, value: &str) {
        self.line([name, " = ", value]);
    }

    fn line(&mut self, parts: [&str; 3]) {
        parts.iter().for_each(|part| self.0.push_str(part));
        self.0.push('\n');
    }

    /// The attributes are not used, which the site may set. Its own text comes last: it may
    /// end in a comment, so nothing before it can be closed after it.
    fn start_until(&mut self, grace: u64, site: &Site) {
        let guard = format!("time() >= {grace} ? False : ");
        let own = match site.syntax {
            Syntax::OfAllVersions => "$(START)",
            Syntax::WithDefaults => "$(START:True)",
        };
        self.set("START", &(guard.clone() + own));
        for name in &site.starts {
            self.set(name, &format!("{guard}$({name}:$(START))"));
        }
    }
}

/// The names that a drop-in sets, with their values.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let settings = text.lines().filter(|line| !line.starts_with('#'));
    settings.filter_map(|line| line.split_once(" = "))
}

/// What a drop-in says of a name.
pub(super) fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    lines(text).find_map(|(set, value)| (set == name).then_some(value))
}
