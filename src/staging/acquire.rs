//! The search for the scratch disk, for as long as one may still come.

use std::fs;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::bail;
use log::{debug, info};

use super::by_somebody;
use super::disk_lock::{self, DiskLock};
use super::label::Contexts;
use super::limits::{FOR_A_LOOK, LOOK_RETRY, limit_of};
use super::look::observe_and_choose;
use super::mount::{MountError, mount};
use super::mount_point;
use super::staged::{Staged, find_staged};
use crate::config::{Combine, Config, Spec, Staging};
use crate::disk::choose::{Accepted, Choice, Judgement, Stripe, Task, ToBeMade, Verdict};
use crate::disk::combine::combine;
use crate::disk::observation::Observed;
use crate::disk::observe::observe;
use crate::disk::reader::Reader;
use crate::disk::signature::Content;
use crate::disk::{inventory, mkfs};
use crate::failure::Failure;
use crate::host::block_device::Number;
use crate::host::bounded::Child;
use crate::host::mount_table::{self, Mount};
use crate::host::{Host, kernel_file, wait};
use crate::logging::Notices;

/// How often the kernel's lists are looked at while a disk is waited for, and how often the
/// disks: that a file system is made on one changes no list.
const POLL: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often the disks are looked at anew where one changes before it can be mounted.
const MOST_CHANGES: usize = 3;

/// What came of the search: what is staged, or why nothing is, and the last verdicts; none
/// where something was mounted already.
pub(crate) struct Acquired {
    pub(crate) staged: Result<Staged, Failure>,
    /// Has the disk mounted as well, where this run mounted it.
    pub(crate) child: Option<Child>,
    /// SELinux's, where that is on.
    pub(crate) contexts: Option<Contexts>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// Looks for the scratch disk and mounts it, again whenever a disk or a mount comes or
/// goes, until it is staged or `staging.wait` is over. What somebody else mounts on the
/// mount point meanwhile is staged too.
pub(crate) fn acquire(
    host: &Host,
    config: &Config,
    reader: &mut Reader,
    notices: &Notices,
) -> Acquired {
    // Also where a disk is staged already, so that none is looked at.
    disk_lock::clear_leftovers(host);
    let mut search = Search {
        host,
        config,
        reader,
        notices,
        start: Instant::now(),
        is_waiting: false,
        seen: Snapshot::default(),
        said: Vec::new(),
        refused: Vec::new(),
        is_formatted: false,
        is_assembled: false,
        is_combined: false,
        without_array: None,
        not_formatted: None,
        not_made: Vec::new(),
        warned: Vec::new(),
        verdicts: Vec::new(),
        child: None,
        contexts: None,
    };
    let staged = search.run();
    Acquired {
        staged,
        child: search.child,
        contexts: search.contexts,
        verdicts: search.verdicts,
    }
}

struct Search<'a> {
    host: &'a Host,
    config: &'a Config,
    reader: &'a mut Reader,
    notices: &'a Notices,
    start: Instant,
    is_waiting: bool,
    seen: Snapshot,
    said: Vec<Verdict>,
    /// What could not be mounted, and why.
    refused: Vec<(Accepted, String)>,
    is_formatted: bool,
    is_assembled: bool,
    is_combined: bool,
    /// By which disks are judged once no array could be made of them.
    without_array: Option<Config>,
    /// On which disk no file system could be made, and why.
    not_formatted: Option<(Number, String)>,
    /// Why no array could be made.
    not_made: Vec<String>,
    /// What the last look that was told warned of.
    warned: Vec<String>,
    /// Of the last look.
    verdicts: Vec<Verdict>,
    child: Option<Child>,
    contexts: Option<Contexts>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<Staged, Failure> {
        let mut changes = 0;
        loop {
            let mounts = mount_table::at_present(self.host)?;
            let there = find_staged(
                self.host,
                &self.config.staging,
                &mounts,
                self.reader,
                self.notices,
            );
            if let Some(mut staged) = there.map_err(Failure::mount)? {
                let suspicion = self.suspicion(&staged, &mounts);
                if let Some(suspicion) = &suspicion {
                    self.notices.warn(suspicion.clone());
                }
                staged.suspect(suspicion);
                self.choose_contexts(&mounts);
                return Ok(staged);
            }
            let (observed, mut choice) = self.look(&mounts)?;
            if observed.is_waiting_for_another() && self.wait_for_another() {
                continue;
            }
            if let Some(stripe) = self.to_assemble(&choice) {
                self.combine(&stripe)?;
                continue;
            }
            if let Some(to_be_made) = self.at_once(&choice) {
                self.verdicts.clone_from(&choice.verdicts);
                self.make(&to_be_made)?;
                continue;
            }
            let mounted = self.mount_first_accepted(&mut choice, &mounts);
            self.verdicts.clone_from(&choice.verdicts);
            match mounted {
                Ok(Some(staged)) => return Ok(staged),
                Err(Failure::Changed(text)) if changes < MOST_CHANGES => {
                    self.notices.warn(format!("{text}; looking again"));
                    changes += 1;
                    continue;
                }
                Err(failure) => return Err(failure),
                Ok(None) => {}
            }
            if self.wait_for_a_change() {
                continue;
            }
            if let Some(warning) = &choice.of_several {
                self.notices.warn_once(warning);
            }
            if let Some(stripe) = self.to_be_one(&choice) {
                // A disk that comes now may be the one that is missing.
                if changes < MOST_CHANGES && self.is_changed() {
                    changes += 1;
                    continue;
                }
                self.verdicts.clone_from(&choice.verdicts);
                self.combine(&stripe)?;
                continue;
            }
            let Some(to_be_made) = self.to_be_made(&choice) else {
                self.warn_of(&choice);
                return Err(self.nothing_usable(&choice));
            };
            self.make(&to_be_made)?;
        }
    }

    /// What shows that what is on the mount point is not the scratch disk. Other disks are only
    /// looked at where a bare name in `/etc/fstab` put it there.
    fn suspicion(&mut self, staged: &Staged, mounts: &[Mount]) -> Option<String> {
        let (host, staging) = (self.host, &self.config.staging);
        let mount_point = staging.mount_point.as_path();
        let number = by_somebody::put_there_by_its_name(host, mount_point, staged)?;
        let observed = observe(host, staging, mounts, self.reader).ok()?;
        by_somebody::suspicion(self.config, staged, number, &observed)
    }

    /// Judges what there is now, given the mount table.
    ///
    /// # Errors
    ///
    /// That the kernel's lists of devices cannot be read.
    fn look(&mut self, mounts: &Arc<[Mount]>) -> anyhow::Result<(Observed, Choice)> {
        self.seen = Snapshot::take(self.host, &self.config.staging, mounts.clone());
        let config = self.without_array.as_ref().unwrap_or(self.config);
        let seen = observe_and_choose(self.host, config, mounts, self.reader);
        let (observed, mut choice) = seen?;
        for (accepted, error) in &self.refused {
            choice.refuse(accepted, error);
        }
        choice.warnings.extend(self.not_made.clone());
        if let Some((number, why)) = &self.not_formatted {
            choice.cannot_make(Some(*number), why.clone());
        }
        if choice.verdicts != self.said {
            say(&choice.verdicts);
            self.said.clone_from(&choice.verdicts);
        }
        Ok((observed, choice))
    }

    /// Waits for a moment where a disk that goes before others is looked into by another
    /// process, or systemd checks it, or cloud-init makes its file system. False when that
    /// takes too long.
    fn wait_for_another(&self) -> bool {
        let patience = self.config.staging.wait.max(FOR_A_LOOK);
        let passed = self.start.elapsed();
        let is_over = passed >= patience;
        if !is_over {
            // What takes long is asked for less often: every disk is read anew.
            sleep((passed / 10).clamp(LOOK_RETRY, LOOK_AGAIN));
        }
        !is_over
    }

    /// A device that has evidence of its own and cannot be mounted ends the search: falling
    /// back to a bare name after that could take somebody's volume.
    fn mount_first_accepted(
        &mut self,
        choice: &mut Choice,
        mounts: &[Mount],
    ) -> Result<Option<Staged>, Failure> {
        while let Some(accepted) = choice.first_accepted().cloned() {
            self.warn_of(choice);
            self.choose_contexts(mounts);
            let (config, contexts) = (self.config, self.contexts.as_ref());
            let mounted = mount(
                self.host,
                &accepted,
                config,
                contexts,
                self.reader,
                self.notices,
            );
            let error = match mounted {
                Ok((staged, child)) => {
                    self.child = Some(child);
                    return Ok(Some(staged));
                }
                Err(MountError::MountPoint(error)) => return Err(Failure::mount(error)),
                Err(MountError::Changed(error)) => {
                    return Err(Failure::Changed(format!("{error:#}")));
                }
                Err(MountError::Device(error)) => format!("{error:#}"),
            };
            let is_of_a_name = accepted.evidence().is_of_a_name();
            self.refuse(accepted, error.clone(), choice);
            if !is_of_a_name {
                return Err(Failure::Mount(error));
            }
            self.notices.warn(format!("{error}; the search goes on"));
        }
        Ok(None)
    }

    /// Once there is a disk for them.
    fn choose_contexts(&mut self, mounts: &[Mount]) {
        if self.contexts.is_none() {
            self.contexts = Contexts::of(self.host, self.config, mounts);
        }
    }

    fn warn_of(&mut self, choice: &Choice) {
        for earlier in &self.warned {
            if !choice.warnings.contains(earlier) {
                self.notices.take_back(earlier);
            }
        }
        for warning in &choice.warnings {
            self.notices.warn_once(warning);
        }
        self.warned.clone_from(&choice.warnings);
    }

    fn nothing_usable(&self, choice: &Choice) -> Failure {
        match self.refusals() {
            Some(errors) => Failure::Mount(errors),
            None => Failure::NoDevice(format!("no usable disk: {choice}")),
        }
    }

    /// Takes note of a device that could not be mounted: it is rejected from now on, until
    /// something else is on it.
    fn refuse(&mut self, accepted: Accepted, error: String, choice: &mut Choice) {
        choice.refuse(&accepted, &error);
        self.said.clone_from(&choice.verdicts);
        self.refused.push((accepted, error));
    }

    /// Why each device that was tried could not be mounted; None where none was tried.
    fn refusals(&self) -> Option<String> {
        let errors: Vec<_> = self.refused.iter().map(|(_, error)| &**error).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }

    /// Waits until it is worth to look again: when a disk or a mount came or went, and every
    /// second. False when `staging.wait` is over.
    fn wait_for_a_change(&mut self) -> bool {
        let left = self
            .config
            .staging
            .wait
            .saturating_sub(self.start.elapsed());
        if left.is_zero() {
            return false;
        }
        if !self.is_waiting {
            info!(
                "no usable disk yet, waiting up to {:?} for one",
                self.config.staging.wait
            );
            self.is_waiting = true;
        }
        wait::until(LOOK_AGAIN.min(left), POLL, || {
            self.is_changed().then_some(())
        });
        true
    }

    /// Whether a disk or a mount came or went since the last look.
    fn is_changed(&self) -> bool {
        let mounts = mount_table::at_present(self.host).unwrap_or_default();
        Snapshot::take(self.host, &self.config.staging, mounts) != self.seen
    }

    /// The disk that is to get a file system; none where that was tried already.
    fn to_be_made(&self, choice: &Choice) -> Option<ToBeMade> {
        choice.to_be_made().filter(|_| !self.is_formatted).cloned()
    }

    /// The one for which nothing else is waited.
    fn at_once(&self, choice: &Choice) -> Option<ToBeMade> {
        let to_be_made = choice.to_be_made_at_once();
        to_be_made.filter(|_| !self.is_formatted).cloned()
    }

    /// Whether a file system that is to be replaced is still empty, and what it was.
    ///
    /// # Errors
    ///
    /// That it is not, or that this cannot be seen.
    fn look_again(&mut self, to_be_made: &ToBeMade) -> anyhow::Result<()> {
        if *to_be_made.content() == Content::Nothing {
            return Ok(());
        }
        let mounts = mount_table::read(self.host)?;
        let config = self.without_array.as_ref().unwrap_or(self.config);
        let (_, choice) = observe_and_choose(self.host, config, &mounts, self.reader)?;
        if !choice.is_to_make(to_be_made) {
            bail!(
                "{} changed before a file system could be made on it: {choice}",
                to_be_made.node().display()
            );
        }
        Ok(())
    }

    /// Makes a file system. That it cannot be made is a warning of the next look, which
    /// has to be taken either way: somebody else may have been at the same.
    fn make(&mut self, to_be_made: &ToBeMade) -> Result<(), Failure> {
        let mount_point = self.config.staging.mount_point.as_path();
        mount_point::see_that_it_can_be_made(self.host, mount_point, self.notices)
            .map_err(Failure::mount)?;
        self.is_formatted = true;
        let (node, number) = (to_be_made.node(), to_be_made.number());
        let limit = || limit_of(self.host, number, &self.config.staging);
        let made = self.look_again(to_be_made).and_then(|()| {
            // Nobody looks into it meanwhile. Where there is no place for a lock, nobody has one.
            let _lock = DiskLock::take(self.host, node, number, FOR_A_LOOK);
            mkfs::make(self.host, to_be_made, &self.config.staging, limit)
        });
        self.not_formatted = made.err().map(|error| (number, format!("{error:#}")));
        Ok(())
    }

    /// The disks that only have to be put together; none where that was tried already.
    fn to_assemble(&self, choice: &Choice) -> Option<Stripe> {
        let stripe = choice.to_assemble_at_once();
        stripe.filter(|_| !self.is_assembled).cloned()
    }

    /// The disks that are to be one, once nothing else is waited for.
    fn to_be_one(&self, choice: &Choice) -> Option<Stripe> {
        choice.to_be_one().filter(|_| !self.is_combined).cloned()
    }

    /// Makes several disks one. As with a file system, the next look says what came of it.
    fn combine(&mut self, stripe: &Stripe) -> Result<(), Failure> {
        match stripe.task() {
            // udev may be at the same.
            Task::Assemble(_) if !self.is_assembled => self.is_assembled = true,
            Task::Assemble(_) => self.is_combined = true,
            Task::Create { .. } => {
                let mount_point = self.config.staging.mount_point.as_path();
                mount_point::see_that_it_can_be_made(self.host, mount_point, self.notices)
                    .map_err(Failure::mount)?;
                self.is_combined = true;
            }
        }
        let parts = stripe.parts().iter();
        let locks =
            parts.map(|part| DiskLock::take(self.host, part.node(), part.number(), FOR_A_LOOK));
        let _locks: Vec<_> = locks.collect();
        let limit = |number| limit_of(self.host, number, &self.config.staging);
        let made = combine(self.host, stripe, &self.config.staging, limit);
        match (made, stripe.task()) {
            (Err(error), Task::Create { .. }) => {
                let words = format!("{error:#}; the search goes on without an array");
                self.not_made.push(words);
                self.without_array = Some(without_array(self.config));
            }
            (Err(error), _) if self.is_combined => self.not_made.push(format!("{error:#}")),
            (Err(error), _) => info!("{error:#}"),
            (Ok(()), _) => {}
        }
        Ok(())
    }
}

/// The first blank disk is used alone, as where there is no mdadm.
fn without_array(config: &Config) -> Config {
    let mut config = config.clone();
    config.staging.combine = Combine::First;
    config
}

/// That a disk is accepted is said once, whatever else leads to it.
fn say(verdicts: &[Verdict]) {
    for (index, verdict) in verdicts.iter().enumerate() {
        let is_same = |earlier: &Verdict| earlier.judgement == verdict.judgement;
        match verdict.judgement {
            Judgement::Absent => debug!("{verdict}"),
            Judgement::Accepted(_) if verdicts[..index].iter().any(is_same) => debug!("{verdict}"),
            _ => info!("{verdict}"),
        }
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
    mounts: Arc<[Mount]>,
}

impl Snapshot {
    fn take(host: &Host, config: &Staging, mounts: Arc<[Mount]>) -> Snapshot {
        let named = config.devices.iter().filter_map(|spec| match spec {
            Spec::Name(path) => Some(host.block_number(path)),
            Spec::Label(_) | Spec::Local => None,
        });
        Snapshot {
            devices: kernel_file::read(host.path(inventory::PARTITIONS)).ok(),
            nodes: fs::metadata(host.path("/dev"))
                .and_then(|dev| dev.modified())
                .ok(),
            named: named.collect(),
            mounts,
        }
    }
}
