//! `vmstage seal`: makes a system ready to be saved as an image.

use std::env;
use std::io::{self, IsTerminal};
use std::iter;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, anyhow};
use log::warn;
use nix::unistd::{geteuid, sync};
use serde::Serialize;

use super::image::{not_looked_at, print_json, runs, wrong_configuration};
use crate::cli::{self, SealArgs, StatusFormat};
use crate::failure::Failure;
use crate::host::bounded::{self, Limit};
use crate::host::locks::NoBoot;
use crate::host::silent::{self, Expected};
use crate::host::{Host, program};
use crate::image::files;
use crate::image::root::Root;
use crate::image::running;
use crate::image::seal::{self, Item, Outcome, Way, Wish, stop};
use crate::text;
use crate::watch::poweroff;

/// cloud-init removes a few files, and runs what is in `/etc/cloud/clean.d`.
const CLOUD_INIT: Duration = Duration::from_secs(60);

/// How long writing out the disks may take.
const SYNC: Duration = Duration::from_secs(120);

/// Among what was stopped.
const WATCH: &str = "vmstage watch";

/// Set for `cloud-init clean`, whose part for vmstage would wait for this program's lock.
const AT_WORK: &str = "VMSTAGE_SEAL";

/// What `--format json` prints, whatever becomes of it.
#[derive(Serialize, Default)]
struct Document {
    dry_run: bool,
    stopped: Vec<&'static str>,
    items: Vec<Outcome>,
    /// What is to be done now, and what if the machine is to go on.
    next: &'static [&'static str],
    error: Option<String>,
}

/// Shows what is to be done, asks, and does it.
///
/// # Errors
///
/// What stands in the way, or could not be done, and what to do.
#[inline(never)]
pub fn run(host: &Host, arguments: &SealArgs) -> Result<u8, Failure> {
    let mut document = Document {
        dry_run: arguments.dry_run,
        ..Document::default()
    };
    let done = seal(host, arguments, &mut document);
    if arguments.format == StatusFormat::Json {
        document.error = done.as_ref().err().map(ToString::to_string);
        print_json(&document)?;
    }
    done?;
    if arguments.poweroff && !arguments.dry_run {
        poweroff::ask_init(host);
    }
    Ok(0)
}

fn seal(host: &Host, arguments: &SealArgs, document: &mut Document) -> Result<(), Failure> {
    if env::var_os(AT_WORK).is_some() && arguments.own_part {
        // This is cloud-init's `clean`, which a `vmstage seal` has begun.
        return Ok(());
    }
    silent::expect(host, Expected::BesideTheRoot);
    let root = arguments.root.as_deref().unwrap_or(Path::new("/"));
    let root = Root::open(root)?;
    let host = runs(&root, host);
    if root.is_own() && !geteuid().is_root() {
        return Err(Failure::Other(anyhow!("seal must be run as root")));
    }
    if arguments.poweroff && host.is_none() {
        return Err(Failure::Usage(
            "--poweroff is for the system that runs, and this is none".into(),
        ));
    }
    let config = files::configuration(&root);
    let seal = Seal {
        config: config.map_err(|wrong| wrong_configuration(&root, &wrong))?,
        wish: Wish {
            logs: arguments.logs,
            spool_with_jobs: arguments.condor,
            own_part_only: arguments.own_part,
        },
        arguments,
        host,
        root,
    };
    seal.run(document)
}

struct Seal<'a> {
    arguments: &'a SealArgs,
    root: Root,
    /// The machine, where this system is the one that runs.
    host: Option<&'a Host>,
    config: crate::config::Config,
    wish: Wish,
}

impl Seal<'_> {
    fn run(&self, document: &mut Document) -> Result<(), Failure> {
        if let Some(host) = self.host {
            self.see_that_no_job_runs(host)?;
        }
        let items = self.plan();
        if self.arguments.dry_run {
            document.items = items.iter().map(Item::foreseen).collect();
            document.items.extend(self.silent_places());
            for outcome in &document.items {
                self.say(&lines(outcome, "would "))?;
            }
            see_that_none_failed(document)?;
            return Ok(self.end(document)?);
        }
        self.see_that_it_is_agreed(&items)?;
        self.root.lock()?;
        let mut no_boot = None;
        if let Some(host) = self.host {
            // One may have begun while a person was asked.
            self.see_that_no_job_runs(host)?;
            no_boot = Some(self.stop(host, document)?);
        }
        // What ran has written until now.
        let items = self.plan();
        let outcomes = items.iter().map(|item| self.carry_out(item));
        for outcome in outcomes.chain(iter::once_with(|| self.silent_places()).flatten()) {
            self.say(&lines(&outcome, ""))?;
            document.items.push(outcome);
        }
        self.sync()?;
        drop(no_boot);
        see_that_none_failed(document)?;
        Ok(self.end(document)?)
    }

    fn plan(&self) -> Vec<Item> {
        seal::plan(&self.root, self.host, &self.config, self.wish)
    }

    fn see_that_no_job_runs(&self, host: &Host) -> Result<(), Failure> {
        let jobs = stop::jobs(host);
        if jobs == 0 || self.arguments.force || self.wish.own_part_only {
            return Ok(());
        }
        Err(Failure::Other(anyhow!(
            "HTCondor runs jobs here (condor_starter: {jobs}): let them end (condor_off -peaceful), or \
             say --force, which ends them"
        )))
    }

    /// The person at the terminal does, or has said so before.
    fn see_that_it_is_agreed(&self, items: &[Item]) -> Result<(), Failure> {
        if self.arguments.yes {
            return Ok(());
        }
        let is_for_scripts = self.arguments.format == StatusFormat::Json;
        if is_for_scripts || !io::stdin().is_terminal() {
            return Err(Failure::Usage(
                "there is nobody to ask: say --yes, or --dry-run to see what would be done".into(),
            ));
        }
        for item in items {
            cli::print(&lines(&item.foreseen(), "would "))?;
        }
        let what = match self.host {
            Some(_) => "this machine: HTCondor and vmstage watch are stopped first".into(),
            None => self.root.path().display().to_string(),
        };
        cli::print(&format!("Seal {what}? [y/N] "))?;
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .context("cannot read the answer")?;
        match ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
            true => Ok(()),
            false => Err(Failure::Other(anyhow!("nothing was changed"))),
        }
    }

    /// Before anything else: they would write again what is removed.
    fn stop(&self, host: &Host, document: &mut Document) -> Result<NoBoot, Failure> {
        if !self.wish.own_part_only && stop::stop_condor(host)? {
            self.say("stopped: HTCondor\n")?;
            document.stopped.push("HTCondor");
        }
        let (watches, no_boot) = running::quiet(host, &self.config)?;
        if watches > 0 {
            self.say("stopped: vmstage watch\n")?;
            document.stopped.push(WATCH);
        }
        if !self.wish.own_part_only {
            stop::stop_random_seed(host);
        }
        Ok(no_boot)
    }

    fn carry_out(&self, item: &Item) -> Outcome {
        let mut cleaned = None;
        if item.way == Way::AfterCloudInit
            && let Some(host) = self.host
        {
            cleaned = self.clean(host);
        }
        let mount_point = self.config.staging.mount_point.as_path();
        let mut outcome = item.carry_out(&self.root, mount_point);
        if let Some(cleaned) = cleaned {
            outcome.done.insert(0, cleaned);
        }
        outcome
    }

    /// What may be in the image of what did not answer.
    fn silent_places(&self) -> Option<Outcome> {
        let failed = not_looked_at(&self.root, self.config.staging.mount_point.as_path());
        (!failed.is_empty()).then(|| Outcome {
            item: seal::FILE_SYSTEMS,
            done: Vec::new(),
            kept: Vec::new(),
            failed,
        })
    }

    /// cloud-init's own `clean`, where it is there.
    fn clean(&self, host: &Host) -> Option<String> {
        let program = program::find(host, "cloud-init")?;
        let mut command = Command::new(program);
        command.arg("clean").env(AT_WORK, "1");
        match program::run(command, Limit::after(CLOUD_INIT)) {
            Ok(done) if done.status.success() => Some("run cloud-init clean".into()),
            Ok(done) => {
                let said = text::excerpt(done.stderr.trim());
                warn!("cloud-init clean failed ({}): {said}", done.status);
                None
            }
            Err(e) => {
                warn!("cloud-init clean {e:#}");
                None
            }
        }
    }

    /// Other file systems of the machine too, where it runs.
    fn sync(&self) -> Result<(), Failure> {
        self.root.sync()?;
        // What does not answer is not waited for once more.
        let limit = match silent::places().is_empty() {
            true => SYNC,
            false => silent::LIMIT,
        };
        if self.host.is_some()
            && let Err(gave_up) = bounded::run(Limit::after(limit), &[], sync)
        {
            warn!("not every disk could be written out: {gave_up}");
        }
        Ok(())
    }

    fn next(&self, document: &Document) -> &'static [&'static str] {
        let watch_is_stopped = document.stopped.contains(&WATCH);
        match (self.host, self.wish.own_part_only, self.arguments.dry_run) {
            (_, _, true) => &["nothing was changed: this was --dry-run"],
            (_, true, false) if watch_is_stopped => &[
                "if this machine is to go on, vmstage watch has to be started again, else nobody drains or \
                 ends it in time: systemctl restart vmstage-watch and systemctl reload vmstage; or service \
                 vmstage restart; or reboot",
            ],
            (_, true, false) => &[],
            (None, ..) => &["sealed: the image can be used"],
            (Some(_), ..) if self.arguments.poweroff => {
                &["sealed: this machine is switched off now"]
            }
            (Some(_), ..) => &[
                "sealed: save this machine now, running or switched off (poweroff)",
                "if it is to go on: systemctl restart vmstage-watch, systemctl reload vmstage and \
                 systemctl start condor; or service vmstage restart and service condor start; or reboot",
            ],
        }
    }

    /// For people, as it is done.
    fn say(&self, text: &str) -> anyhow::Result<()> {
        match self.arguments.format {
            StatusFormat::Text => cli::print(text),
            StatusFormat::Json => Ok(()),
        }
    }

    fn end(&self, document: &mut Document) -> anyhow::Result<()> {
        document.next = self.next(document);
        let lines = document.next.iter().map(|line| format!("{line}\n"));
        self.say(&lines.collect::<String>())
    }
}

/// What could not be looked at or done keeps nothing else from being done, and is in the image.
fn see_that_none_failed(document: &Document) -> Result<(), Failure> {
    let mut failed = document.items.iter().flat_map(|item| &item.failed);
    let Some(first) = failed.next() else {
        return Ok(());
    };
    let count = 1 + failed.count();
    let what = match document.dry_run {
        true => "not all can be done",
        false => "not all is done",
    };
    Err(Failure::Other(anyhow!(
        "{what} ({count} failed): {first}; put that right and run again, the rest will be"
    )))
}

/// `machine-id: change /etc/machine-id`
fn lines(outcome: &Outcome, prefix: &str) -> String {
    let done = outcome
        .done
        .iter()
        .map(|done| format!("{}: {prefix}{done}", outcome.item));
    let kept = outcome
        .kept
        .iter()
        .map(|kept| format!("{}: {kept}", outcome.item));
    let failed = outcome
        .failed
        .iter()
        .map(|failed| format!("{}: failed: {failed}", outcome.item));
    let lines = done
        .chain(kept)
        .chain(failed)
        .map(|line| text::printable(&line) + "\n");
    lines.collect()
}
