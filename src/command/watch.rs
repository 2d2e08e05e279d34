//! `vmstage watch`: follows the deadline until it is told to stop.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, anyhow};
use log::{info, warn};
use nix::unistd::geteuid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::configuration;
use crate::failure::Failure;
use crate::host::silent::{self, Expected};
use crate::host::{Host, locks, watch_process};
use crate::logging::Notices;
use crate::report::{self, systemd};
use crate::watch::Watch;
use crate::watch::guard::Guard;
use crate::watch::sleep::Sleeper;

/// Follows the deadline until SIGTERM, or until the machine is off.
///
/// # Errors
///
/// That the configuration is wrong, or that it is not run as root.
#[inline(never)]
pub fn run(host: &Host, config_file: Option<&Path>) -> Result<u8, Failure> {
    silent::expect(host, Expected::OnAnyDisk);
    let mut config = configuration::load(host, config_file).map_err(Failure::Config)?;
    if !geteuid().is_root() {
        return Err(Failure::Other(anyhow!("watch must be run as root")));
    }
    report::follow_syslog(host, &config);
    let notices = Notices::default();
    let stop = flag(&[SIGTERM, SIGINT])?;
    let reload = flag(&[SIGHUP])?;
    let orders = flag(&[watch_process::ORDERS])?;
    let mut sleeper = Sleeper::new(&[SIGTERM, SIGINT, SIGHUP, watch_process::ORDERS])?;
    // Once it is named there it may get signals.
    let _alone = be_the_only_one(host)?;
    report::note(&notices, "the service manager", systemd::watching());
    let mut carried = None;
    let mut guard = Guard::ready();
    loop {
        report::configured(host, &notices, &config);
        let mut watch = Watch::carry_on(host, &notices, &config, carried, guard, host.now());
        while !stop.load(Ordering::Relaxed) && !reload.load(Ordering::Relaxed) {
            if orders.swap(false, Ordering::Relaxed) {
                watch.take_orders(host.now());
            }
            watch.tick(host.now());
            let now = host.now();
            let wait = watch.next_tick(now).saturating_sub(now.uptime);
            sleeper.sleep(wait, &watch.descriptors());
        }
        if stop.load(Ordering::Relaxed) {
            info!("stopped watching; the machine stays up");
            return Ok(0);
        }
        reload.store(false, Ordering::Relaxed);
        let (handed_over, guarding) = watch.hand_over();
        (carried, guard) = (Some(handed_over), guarding);
        match configuration::load(host, config_file) {
            Ok(read) => {
                info!("the configuration was read again");
                config = read;
            }
            Err(wrong) => warn!("the configuration is wrong, the old one is kept: {wrong}"),
        }
    }
}

/// Two would ask twice as often, and both end the machine. Where there is no place for the
/// lock, this one watches all the same.
fn be_the_only_one(host: &Host) -> Result<Option<File>, Failure> {
    let path = watch_process::path(host);
    let lock = match locks::lock_file(&path) {
        Ok(lock) => lock,
        Err(e) => {
            warn!(
                "there is no lock, so that vmstage end does not find this, and a second vmstage watch \
                 would run beside it ({}: {e})",
                path.display()
            );
            return Ok(None);
        }
    };
    if lock.try_lock().is_err() {
        return Err(Failure::Other(anyhow!(
            "another vmstage watch is running and holds {}",
            path.display()
        )));
    }
    if let Err(e) = watch_process::write_into(&lock, host) {
        warn!("vmstage end will not find this: {e:#}");
    }
    Ok(Some(lock))
}

fn flag(signals: &[i32]) -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in signals {
        signal_hook::flag::register(*signal, flag.clone()).context("cannot catch signals")?;
    }
    Ok(flag)
}
