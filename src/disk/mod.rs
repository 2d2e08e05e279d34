//! Finding the scratch disk: which block devices there are, what is on them, and
//! which one it is.

pub mod choose;
pub mod inventory;
pub mod mkfs;
pub mod observe;
pub mod signature;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use log::{info, warn};

use crate::config::{Format, Staging};
use crate::kernel_file;
use choose::{Choice, choose};

/// How often the kernel's list is looked at while a disk is waited for.
const POLL: Duration = Duration::from_millis(100);

/// Judges what there is, and again whenever a device comes or goes, until one is
/// accepted or `staging.wait` is over. Where formatting is allowed and a blank disk is
/// all there is, it gets its file system here.
pub fn search(config: &Staging) -> Result<Choice> {
    let choice = wait_for_acceptable(config)?;
    if choice.accepted().next().is_some() || config.format == Format::Never {
        return Ok(choice);
    }
    let Some(blank) = choice.blank() else {
        return Ok(choice);
    };
    let made = mkfs::make(blank, config.filesystem);
    // Whatever became of it: somebody else may have been at the same.
    let mut choice = look(config)?;
    choice
        .warnings
        .extend(made.err().map(|error| format!("{error:#}")));
    Ok(choice)
}

/// Judges what there is now.
pub fn look(config: &Staging) -> Result<Choice> {
    Ok(choose(&config.devices, &observe::observe(config)?))
}

fn wait_for_acceptable(config: &Staging) -> Result<Choice> {
    let start = Instant::now();
    let mut waited = false;
    loop {
        let before = snapshot();
        let choice = look(config)?;
        if choice.accepted().next().is_some() || start.elapsed() >= config.wait {
            for warning in &choice.warnings {
                warn!("{warning}");
            }
            return Ok(choice);
        }
        if !waited {
            info!(
                "no usable disk yet, waiting up to {:?} for one",
                config.wait
            );
            waited = true;
        }
        while snapshot() == before && start.elapsed() < config.wait {
            sleep(POLL.min(config.wait.saturating_sub(start.elapsed())));
        }
    }
}

/// What changes when a device comes or goes: the kernel's list, and, where udev makes
/// the nodes later, the directory that they are in.
fn snapshot() -> (Option<Vec<u8>>, Option<SystemTime>) {
    let list = kernel_file::read(inventory::PARTITIONS).ok();
    let nodes = fs::metadata("/dev").and_then(|dev| dev.modified()).ok();
    (list, nodes)
}
