//! Ending the VM: by its init system, and if that does not, by the kernel.

use std::process::Command;
use std::time::Duration;

use log::{info, warn};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;

use crate::host::bounded::{self, Child, Limit};
use crate::host::{Host, program, wait};

/// How long init may take to stop everything before the kernel is asked: systemd alone
/// gives each service 90 seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How long writing out the disks may take then.
const SYNC: Duration = Duration::from_secs(30);

/// How long a command may take to say that it cannot.
const REFUSAL: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Asks the init system at hand to power off: one command after the other, until one
/// takes the order.
pub(crate) fn ask_init(host: &Host) {
    for words in commands(host.path("/run/systemd/system").is_dir()) {
        let Some(program) = program::find(host, words[0]) else {
            continue;
        };
        let mut order = Command::new(&program);
        order.args(&words[1..]);
        let asked = program::start(&mut |_| Ok(()), &mut order, &[]);
        match asked.map_err(|e| e.to_string()).and_then(was_taken) {
            Ok(()) => {
                info!("asked init to power off: {}", words.join(" "));
                return;
            }
            Err(why) => warn!("{} did not power off: {why}", words.join(" ")),
        }
    }
    warn!("no command of this system's init powers it off");
}

/// A command that has not come back by [`REFUSAL`] is at it: some return only when the
/// machine is off.
fn was_taken(mut order: Child) -> Result<(), String> {
    let ended = wait::until(REFUSAL, LOOK_AGAIN, || {
        let cannot_be_run = order.messages::<String>().pop();
        cannot_be_run.map(Err).or_else(|| order.status().map(Ok))
    });
    match ended.transpose()? {
        Some(status) if !status.success() => Err(status.to_string()),
        _ => Ok(()),
    }
}

/// SysV init and upstart both have shutdown(8); busybox has only poweroff.
fn commands(systemd: bool) -> Vec<&'static [&'static str]> {
    let mut commands: Vec<&[&str]> = vec![&["shutdown", "-h", "-P", "now"], &["poweroff"]];
    if systemd {
        commands.insert(0, &["systemctl", "poweroff"]);
    }
    commands
}

/// What is left where init did not: disks are written out, and the power goes. A disk that
/// hangs keeps sync(2) for ever, and shutdown(8) of SysV as well.
pub(crate) fn ask_kernel() {
    warn!("init has not powered off within {PATIENCE:?}; asking the kernel");
    if let Err(gave_up) = bounded::run(Limit::after(SYNC), &[], sync) {
        warn!("not every disk could be written out: {gave_up}");
    }
    let Err(e) = reboot(RebootMode::RB_POWER_OFF);
    warn!("the kernel does not power off: {e}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_asked_first_where_it_runs_and_not_at_all_where_it_does_not() {
        assert_eq!(commands(true)[0], ["systemctl", "poweroff"]);
        assert!(commands(false).iter().all(|words| words[0] != "systemctl"));
        assert_eq!(commands(false)[0][0], "shutdown");
    }
}
