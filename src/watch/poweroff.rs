//! Ending the VM: by its init system, and if that does not, by the kernel.

use std::fs;
use std::process::Command;
use std::time::Duration;

use log::{info, warn};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;

use crate::host::bounded::{self, Child, Limit};
use crate::host::{Host, program, sysfs, wait};

/// How long init may take to stop everything before the kernel is asked: systemd alone
/// gives each service 90 seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How long writing out the disks may take then.
const SYNC: Duration = Duration::from_secs(30);

/// How long a command may take to say that it cannot.
const REFUSAL: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long the kernel's driver waits for a request to an NVMe disk, in seconds, and by default.
const NVME_TIMEOUT: &str = "/sys/module/nvme_core/parameters/io_timeout";
const NVME_DEFAULT: u64 = 30;

/// Before the power goes, too, the driver waits so long for the requests of each disk
/// (`nvme_dev_disable`). EC2 asks for 4294967295: a disk that hangs would keep the VM on for months.
/// The disks that there are keep the time that they had for their requests.
fn have_nvme_let_go(host: &Host) {
    let file = host.path(NVME_TIMEOUT);
    let seconds = sysfs::attribute(&file).and_then(|text| text.parse::<u64>().ok());
    if seconds.is_some_and(|seconds| seconds > NVME_DEFAULT)
        && let Err(e) = fs::write(&file, NVME_DEFAULT.to_string())
    {
        warn!("an NVMe disk that hangs may keep the power on: cannot write {NVME_TIMEOUT}: {e}");
    }
}

/// Asks the init system at hand to power off: one command after the other, until one
/// takes the order.
pub(crate) fn ask_init(host: &Host) {
    // Later nobody may be left to do so.
    have_nvme_let_go(host);
    for words in commands(host.has_systemd()) {
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
    use crate::host::tree::Tree;

    #[test]
    fn init_is_asked_once_no_nvme_disk_that_hangs_can_keep_the_power_on() {
        for (before, after) in [
            ("4294967295", "30"),
            ("255", "30"),
            ("30", "30"),
            ("10", "10"),
        ] {
            let tree = Tree::new(&[(&NVME_TIMEOUT[1..], &format!("{before}\n"))]);
            let file = tree.root().join(&NVME_TIMEOUT[1..]);
            let seen = tree.root().join("seen");
            let script = format!("cat {} >{}", file.display(), seen.display());
            tree.script("sbin/shutdown", &script);
            ask_init(&tree.host());
            assert_eq!(tree.text("seen").trim(), after, "{before}");
        }
    }

    #[test]
    fn systemd_is_asked_first_where_it_runs_and_not_at_all_where_it_does_not() {
        assert_eq!(commands(true)[0], ["systemctl", "poweroff"]);
        assert!(commands(false).iter().all(|words| words[0] != "systemctl"));
        assert_eq!(commands(false)[0][0], "shutdown");
    }
}
