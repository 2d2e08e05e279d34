//! Who is told what: one file a consumer.

pub mod console;
pub mod syslog;
pub mod systemd;

use log::{error, info, warn};

use crate::clock;
use crate::config::Config;
use crate::staging::directories::Ready;
use crate::status::{Outcome, Status};

/// Tells everybody inside the machine what became of the boot. A consumer that fails
/// is a warning, and no more than that.
pub fn outcome(status: &mut Status, ready: Option<&Ready>, config: &Config) {
    status.warnings = syslog::warnings();
    note("the status file", status.write());
    if let Some(ready) = ready
        && config.report.systemd
    {
        note("the service manager", systemd::ready(ready, status));
    }
}

/// Tells when the machine must be gone, or that nothing limits it.
pub fn deadline(status: &Status, config: &Config) {
    note("the status file", status.write());
    if config.report.systemd {
        note(
            "the service manager",
            systemd::text(&console::line(status, clock::now())),
        );
    }
}

/// The last line of a boot: in the log, and on the console.
pub fn final_line(status: &Status, config: &Config) {
    let line = console::line(status, clock::now());
    match status.outcome {
        Outcome::Ready => info!("{line}"),
        Outcome::Failed => error!("{line}"),
    }
    if config.report.console {
        note("the console", console::write(&line).map_err(Into::into));
    }
}

fn note(consumer: &str, told: anyhow::Result<()>) {
    if let Err(e) = told {
        warn!("{consumer} could not be told: {e:#}");
    }
}
