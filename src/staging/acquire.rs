//! The search for the scratch disk, for as long as one may still come.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use log::{debug, info};

use crate::config::{Format, Spec, Staging};
use crate::disk::choose::{Accepted, Blank, Choice, Judgement, Verdict, choose};
use crate::disk::observe::observe;
use crate::disk::{inventory, mkfs};
use crate::host::block_device::{Number, block_number};
use crate::host::kernel_file;
use crate::host::mount_table::{self, Mount};

/// How often the kernel's lists are looked at while a disk is waited for, and how often the
/// disks: that a file system is made on one changes no list.
const POLL: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub struct Search<'a> {
    config: &'a Staging,
    start: Instant,
    is_waiting: bool,
    seen: Snapshot,
    said: Vec<Verdict>,
    /// What could not be mounted, and why.
    refused: Vec<(Accepted, String)>,
    is_formatted: bool,
    /// Why no file system could be made.
    not_formatted: Option<String>,
}

impl Search<'_> {
    pub fn new(config: &Staging) -> Search<'_> {
        Search {
            config,
            start: Instant::now(),
            is_waiting: false,
            seen: Snapshot::default(),
            said: Vec::new(),
            refused: Vec::new(),
            is_formatted: false,
            not_formatted: None,
        }
    }

    /// Judges what there is now, given the mount table.
    ///
    /// # Errors
    ///
    /// That the kernel's lists of devices cannot be read.
    pub fn look(&mut self, mounts: &[Mount]) -> Result<Choice> {
        self.seen = Snapshot::take(self.config, mounts.to_vec());
        let mut choice = choose(&self.config.devices, &observe(self.config, mounts)?);
        for (accepted, error) in &self.refused {
            choice.refuse(accepted, error);
        }
        choice.warnings.extend(self.not_formatted.clone());
        if choice.verdicts != self.said {
            choice.verdicts.iter().for_each(say);
            self.said.clone_from(&choice.verdicts);
        }
        Ok(choice)
    }

    /// Takes note of a device that could not be mounted: it is rejected from now on, until
    /// something else is on it.
    pub fn refuse(&mut self, accepted: Accepted, error: String, choice: &mut Choice) {
        choice.refuse(&accepted, &error);
        self.said.clone_from(&choice.verdicts);
        self.refused.push((accepted, error));
    }

    /// Why each device that was tried could not be mounted; None where none was tried.
    pub fn refusals(&self) -> Option<String> {
        let errors: Vec<_> = self.refused.iter().map(|(_, error)| &**error).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }

    /// Waits until it is worth to look again: when a disk or a mount came or went, and every
    /// second. False when `staging.wait` is over.
    pub fn wait_for_a_change(&mut self) -> bool {
        let left = self.config.wait.saturating_sub(self.start.elapsed());
        if left.is_zero() {
            return false;
        }
        if !self.is_waiting {
            info!(
                "no usable disk yet, waiting up to {:?} for one",
                self.config.wait
            );
            self.is_waiting = true;
        }
        let waiting = Instant::now();
        while waiting.elapsed() < LOOK_AGAIN.min(left) {
            sleep(POLL.min(left));
            let mounts = mount_table::read().unwrap_or_default();
            if Snapshot::take(self.config, mounts) != self.seen {
                break;
            }
        }
        true
    }

    /// The blank disk that is to get a file system; none where that was tried already.
    pub fn to_be_formatted<'c>(&self, choice: &'c Choice) -> Option<&'c Blank> {
        let is_wanted = self.config.format != Format::Never && !self.is_formatted;
        choice.blank().filter(|_| is_wanted)
    }

    /// Makes a file system. That it cannot be made is a warning of the next look, which
    /// has to be taken either way: somebody else may have been at the same.
    pub fn format(&mut self, blank: &Blank) {
        self.is_formatted = true;
        let made = mkfs::make(blank, self.config.filesystem);
        self.not_formatted = made.err().map(|error| format!("{error:#}"));
    }
}

fn say(verdict: &Verdict) {
    match verdict.judgement {
        Judgement::Absent => debug!("{verdict}"),
        _ => info!("{verdict}"),
    }
}

/// What changes when a device or a mount comes or goes: the kernel's lists, and, where
/// udev makes the nodes later, the directory that they are in and the links that are asked
/// for.
#[derive(Default, PartialEq)]
struct Snapshot {
    devices: Option<Vec<u8>>,
    nodes: Option<SystemTime>,
    named: Vec<Option<Number>>,
    mounts: Vec<Mount>,
}

impl Snapshot {
    fn take(config: &Staging, mounts: Vec<Mount>) -> Snapshot {
        let named = config.devices.iter().filter_map(|spec| match spec {
            Spec::Name(path) => Some(block_number(path)),
            Spec::Label(_) => None,
        });
        Snapshot {
            devices: kernel_file::read(inventory::PARTITIONS).ok(),
            nodes: fs::metadata("/dev").and_then(|dev| dev.modified()).ok(),
            named: named.collect(),
            mounts,
        }
    }
}
