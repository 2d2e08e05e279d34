//! `vmstage status`: the status document for people and scripts.

use std::io::{self, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use log::warn;

use super::{Outcome, Status};
use crate::boot::Failure;
use crate::cli::StatusFormat;
use crate::config::Config;
use crate::report::console;
use crate::staging::mounts;
use crate::{clock, table, units};

const POLL: Duration = Duration::from_millis(100);

/// Prints the status, and returns the exit code of the boot that wrote it. `wait` is
/// `Some(None)` to wait for however long it takes, or a number of seconds.
pub fn run(
    config_file: Option<&Path>,
    format: StatusFormat,
    wait: Option<Option<u64>>,
) -> Result<u8, Failure> {
    if let Err(wrong) = Config::load(config_file) {
        warn!("the configuration is wrong, the next boot will fail: {wrong}");
    }
    let status = find(wait)?;
    let text = match format {
        StatusFormat::Text => text(&status, clock::now()),
        StatusFormat::Json => {
            serde_json::to_string_pretty(&status).context("cannot write JSON")? + "\n"
        }
    };
    // Whoever closed standard output early has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    still_mounted(&status)?;
    Ok(status.exit_code)
}

fn find(wait: Option<Option<u64>>) -> Result<Status, Failure> {
    let start = Instant::now();
    loop {
        if let Some(status) = Status::read()? {
            return Ok(status);
        }
        let over = match wait {
            None => true,
            Some(None) => false,
            Some(Some(seconds)) => start.elapsed() >= Duration::from_secs(seconds),
        };
        if over {
            return Err(Failure::Other(anyhow!(
                "there is no status of this boot in {}: vmstage boot has not run, or has not finished",
                super::path().display()
            )));
        }
        sleep(POLL);
    }
}

/// What was mounted at boot may be gone since.
fn still_mounted(status: &Status) -> Result<(), Failure> {
    let (Outcome::Ready, Some(staging)) = (status.outcome, &status.staging) else {
        return Ok(());
    };
    match mounts::on(&mounts::read()?, &staging.mount_point) {
        Some(_) => Ok(()),
        None => Err(Failure::Other(anyhow!(
            "nothing is mounted on {} any more",
            staging.mount_point.display()
        ))),
    }
}

fn text(status: &Status, now: u64) -> String {
    let mut text = format!("{}\n", console::line(status, now));
    if let Some(staging) = &status.staging {
        text += &format!(
            "\n{} on {} ({}, {})\n{} of {} free when it was staged{}\n",
            staging.device,
            staging.mount_point.display(),
            staging.filesystem,
            staging.options,
            units::bytes(staging.free_bytes),
            units::bytes(staging.size_bytes),
            if staging.already_mounted {
                "; it was mounted already"
            } else {
                ""
            },
        );
        for place in &staging.also_mounted_on {
            text += &format!("also mounted on {}\n", place.display());
        }
    }
    if !status.directories.is_empty() {
        let rows = status.directories.iter().map(|directory| {
            [
                directory.path.display().to_string(),
                format!("{}:{}", directory.owner, directory.group),
                directory.mode.clone(),
                directory.error.clone().unwrap_or("in place".into()),
            ]
        });
        text += &format!(
            "\n{}",
            table::render(&["DIRECTORY", "OWNER", "MODE", "STATE"], rows)
        );
    }
    if !status.verdicts.is_empty() {
        text += &format!("\n{}", verdicts(&status.verdicts));
    }
    if !status.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &status.warnings {
        text += &format!("warning: {warning}\n");
    }
    text += &format!(
        "\nstarted {}, finished {}, vmstage {}\n",
        status.started_at, status.finished_at, status.version
    );
    text
}

/// The verdicts as a table.
pub fn verdicts(verdicts: &[super::Verdict]) -> String {
    let rows = verdicts.iter().map(|verdict| {
        [
            verdict.spec.clone(),
            verdict.device.clone().unwrap_or("-".into()),
            verdict.verdict.clone(),
            verdict.reason.clone().unwrap_or_default(),
        ]
    });
    table::render(&["SPEC", "DEVICE", "VERDICT", "REASON"], rows)
}
