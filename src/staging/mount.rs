//! From an accepted device to a staged one: mount, and verify that it is mounted.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use log::debug;
use nix::errno::Errno;
use sys_mount::{Mount as MountedBySys, UnmountFlags};

use super::disk_lock::DiskLock;
use super::label::{self, Contexts};
use super::limits::{FOR_A_LOOK, MOST, limit_of};
use super::mount_point;
use super::options::flags_and_data;
use super::rehearse::{Failed, Order, Rehearse, Rehearsed, is_busy};
use super::staged::{Staged, verify};
use crate::config::Config;
use crate::disk::choose::Accepted;
use crate::disk::reader::{Reader, Wanted};
use crate::host::bounded::{Child, GaveUp, Limit};
use crate::host::mount_table::{self, Mount};
use crate::host::{Host, wait};
use crate::logging::Notices;

/// How often a device that is busy is tried.
const RETRY: Duration = Duration::from_millis(100);

/// However short `staging.wait` is: two boots that look at a disk at once get into each
/// other's way for a moment.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Why there is nothing staged.
#[derive(Debug)]
pub(crate) enum MountError {
    /// The mount point is at fault: no other device would fare better.
    MountPoint(anyhow::Error),
    /// The device is.
    Device(anyhow::Error),
    /// It is not any more what was accepted.
    Changed(anyhow::Error),
}

/// Mounts an accepted device on the mount point. After an error nothing of this run's is
/// mounted, and directories that were made for the mount point are gone again. Comes with
/// the child that has the same disk mounted where nobody sees it.
///
/// # Errors
///
/// What is at fault: the mount point, the device, or that it changed.
pub(crate) fn mount(
    host: &Host,
    accepted: &Accepted,
    config: &Config,
    contexts: Option<&Contexts>,
    reader: &mut Reader,
    notices: &Notices,
) -> Result<(Staged, Child), MountError> {
    let mount_point = mount_table::real_path(host, config.staging.mount_point.as_path());
    let what = format!(
        "cannot mount {} ({}) on {}",
        accepted.node().display(),
        accepted.filesystem(),
        mount_point.display()
    );
    let made = mount_point::prepare(host, &mount_point, notices)
        .with_context(|| what.clone())
        .map_err(MountError::MountPoint)?;
    let mut attempt = Attempt {
        host,
        accepted,
        mount_point: &mount_point,
        config,
        contexts,
        reader,
    };
    let staged = match attempt.when_free() {
        Ok(child) => verify(host, accepted, &mount_point)
            .map(|staged| (staged, child))
            .map_err(|error| take_back(host, accepted, &mount_point, error))
            .context(what)
            .map_err(MountError::Device),
        Err(Refused::Changed(how)) => Err(MountError::Changed(anyhow!("{what}: {how}"))),
        Err(Refused::System(failed)) => {
            let error = match hint(&failed, accepted) {
                Some(hint) => anyhow!("{}; {hint}", failed.text()),
                None => anyhow!("{}", failed.text()),
            };
            Err(MountError::Device(error.context(what)))
        }
        Err(Refused::Device(error)) => Err(MountError::Device(error.context(what))),
    };
    match &staged {
        Ok(_) => {
            for place in accepted.mounted_on() {
                notices.warn(format!(
                    "{} is also mounted on {}; it is mounted on {} as well",
                    accepted.node().display(),
                    place.display(),
                    mount_point.display()
                ));
            }
        }
        Err(_) => made.remove(notices),
    }
    staged
}

/// Why there is no mount.
enum Refused {
    /// The system says so.
    System(Failed),
    Device(anyhow::Error),
    /// Whatever it was accepted on does not hold any more; in words.
    Changed(String),
}

struct Attempt<'a> {
    host: &'a Host,
    accepted: &'a Accepted,
    mount_point: &'a Path,
    config: &'a Config,
    contexts: Option<&'a Contexts>,
    reader: &'a mut Reader,
}

impl Attempt<'_> {
    /// Tries again when the device is not busy any more. systemd checks the disk of a line in
    /// fstab, and cloud-init makes a file system on it, while this runs, and both open it
    /// exclusively. What they made of it is judged anew, and not before they are done.
    fn when_free(&mut self) -> Result<Child, Refused> {
        let start = Instant::now();
        let patience = self.config.staging.wait.max(LEAST_PATIENCE);
        let left = || patience.saturating_sub(start.elapsed());
        loop {
            match self.once(left().max(FOR_A_LOOK)) {
                Err(Refused::System(failed)) if failed.is_busy() && !left().is_zero() => {}
                tried => return tried,
            }
            wait::until(left(), RETRY, || {
                (!is_busy(self.host, self.accepted, self.limit())).then_some(())
            });
            let content = self
                .reader
                .read_one(&self.device(), self.config.staging.device_timeout);
            if content.content != self.accepted.content() {
                return Err(Refused::Changed(format!(
                    "while it was in use by something else it became {}",
                    content.content
                )));
            }
        }
    }

    /// In a child first, and here where that went well. Nobody looks into it meanwhile: the
    /// kernel may refuse writes to it for a look.
    fn once(&mut self, patience: Duration) -> Result<Child, Refused> {
        let _lock = self.lock(patience)?;
        self.see_that_nothing_is_on_it(mount_table::at_present(self.host))?;
        let order = Order::of(self.host, self.accepted, self.config, self.contexts);
        let mut child = self.reader.child().map_err(|e| self.gave_up(&e))?;
        let rehearsed = match child.ask::<Rehearse>(&order, self.limit()) {
            Ok(rehearsed) => rehearsed,
            Err(gave_up) => {
                let (number, after) = (self.accepted.number(), self.config.staging.device_timeout);
                self.reader.leave_alone(number, child.give_up(), after);
                return Err(self.gave_up(&gave_up));
            }
        };
        let mounted = match rehearsed {
            Rehearsed::Mounted { driver } => self.mount_with(&driver),
            Rehearsed::Failed(failed) => Err(Refused::System(failed)),
            Rehearsed::Changed(how) => Err(Refused::Changed(how)),
            Rehearsed::NoDriver => Err(Refused::Device(anyhow!(
                "this kernel has no driver for {} (see /proc/filesystems)",
                self.accepted.filesystem()
            ))),
        };
        match mounted {
            Ok(()) => Ok(child),
            Err(refused) => {
                // Whoever tries again must not find its mount there.
                child.end();
                Err(refused)
            }
        }
    }

    /// Where there is no place for a lock, nobody has one.
    fn lock(&self, patience: Duration) -> Result<Option<DiskLock>, Refused> {
        let (node, number) = (self.accepted.node(), self.accepted.number());
        match DiskLock::take(self.host, node, number, patience) {
            Ok(Some(lock)) => Ok(Some(lock)),
            Ok(None) => Err(Refused::Device(anyhow!(
                "another vmstage is looking into it or mounts it, for {patience:.0?} already"
            ))),
            Err(error) => {
                debug!("no lock for {}: {error}", node.display());
                Ok(None)
            }
        }
    }

    fn mount_with(&self, driver: &str) -> Result<(), Refused> {
        // Whatever the kernel says of changes.
        self.see_that_nothing_is_on_it(mount_table::read(self.host))?;
        let (flags, data) = flags_and_data(&self.config.staging.options);
        let (node, mount_point) = (self.accepted.node(), self.mount_point);
        let mount_it = |data: &str| {
            MountedBySys::builder()
                .fstype(driver)
                .flags(flags)
                .data(data)
                .mount(self.host.path(node), self.host.path(mount_point))
        };
        let context = self.contexts.and_then(|contexts| contexts.root.as_ref());
        let mounted = match (mount_it(&data), context) {
            // The child has mounted it with the context, and SELinux wants the same again.
            (Err(error), Some(context)) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
                mount_it(&label::options_with(&data, context))
            }
            (mounted, _) => mounted,
        };
        mounted.map_err(|e| Refused::System(e.into()))?;
        debug!("mounted {} with the {driver} driver", node.display());
        Ok(())
    }

    /// Looking at disks may take long, and somebody else may have mounted something
    /// meanwhile: a line in fstab, an automounter, another boot.
    fn see_that_nothing_is_on_it(
        &self,
        mounts: anyhow::Result<Arc<[Mount]>>,
    ) -> Result<(), Refused> {
        let mounts = mounts.map_err(Refused::Device)?;
        match mount_table::on(&mounts, self.mount_point) {
            None => Ok(()),
            Some(mount) => Err(Refused::Changed(format!(
                "meanwhile {} was mounted there",
                mount.source.display()
            ))),
        }
    }

    fn device(&self) -> Wanted {
        Wanted {
            number: self.accepted.number(),
            node: self.host.path(self.accepted.node()),
        }
    }

    fn limit(&self) -> Limit {
        limit_of(self.host, self.accepted.number(), &self.config.staging)
    }

    fn gave_up(&self, gave_up: &GaveUp) -> Refused {
        Refused::Device(match gave_up {
            GaveUp::Late(after) if *after >= MOST => {
                anyhow!("it was not done after {after:.0?}")
            }
            GaveUp::Late(_) => anyhow!(
                "the disk does not answer: nothing moved on it for {:?}",
                self.config.staging.device_timeout
            ),
            GaveUp::Broken(error) => anyhow!("{error}"),
        })
    }
}

fn hint(failed: &Failed, accepted: &Accepted) -> Option<String> {
    if let (Errno::EINVAL | Errno::EEXIST, Some(twin)) = (failed.errno()?, accepted.twin_of()) {
        return Some(format!(
            "it has the same UUID as {}, which is mounted: xfs and btrfs mount no copy beside it; give it another (xfs_admin -U generate, btrfstune -u)",
            twin.display()
        ));
    }
    let hint = match failed.errno()? {
        Errno::EUCLEAN | Errno::EBADMSG | Errno::EINVAL if accepted.is_unclean() => {
            "it was not unmounted cleanly, or errors were found in it: see dmesg, run fsck on it"
        }
        Errno::EUCLEAN => "run fsck on it",
        // A checksum in its superblock (EFSBADCRC of ext4 and xfs).
        Errno::EBADMSG => "it is damaged: see dmesg, run fsck on it",
        Errno::EINVAL => {
            "its superblock or one of staging.options is not what the kernel expects: see dmesg"
        }
        Errno::EBUSY => match accepted.mounted_on() {
            [] => "something else has it in use, or it is mounted with other options",
            places => {
                let places: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
                return Some(format!(
                    "it is mounted on {}, with other options",
                    places.join(", ")
                ));
            }
        },
        Errno::EIO => "the disk cannot be read: see dmesg",
        Errno::EROFS | Errno::EACCES => "it is read-only",
        Errno::ENOENT if accepted.filesystem() == "btrfs" => {
            "it is one of several devices, and the kernel does not know the others: run btrfs device scan"
        }
        _ => return None,
    };
    Some(hint.into())
}

/// Unmounts what this run mounted, and nothing that somebody else has mounted over it
/// since.
fn take_back(
    host: &Host,
    accepted: &Accepted,
    mount_point: &Path,
    error: anyhow::Error,
) -> anyhow::Error {
    let mounts = mount_table::read(host).unwrap_or_default();
    let is_ours = |mount: &Mount| host.block_number(&mount.source) == Some(accepted.number());
    match mount_table::on(&mounts, mount_point) {
        Some(mount) if !is_ours(mount) => error.context(format!(
            "{} was mounted over it at the same moment, and both are left as they are",
            mount.source.display()
        )),
        _ => match sys_mount::unmount(host.path(mount_point), UnmountFlags::empty()) {
            Ok(()) => error,
            Err(e) => error.context(format!(
                "it could not be unmounted from {} again ({e})",
                mount_point.display()
            )),
        },
    }
}
