//! What vmstage does on a system that runs, while that is sealed or vmstage taken out of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::Config;
use crate::failure::Failure;
use crate::host::locks::{self, NoBoot};
use crate::host::{Host, kernel_file, wait};

/// `watch` ends within a second, unless it is asking somebody.
const PATIENCE: Duration = Duration::from_secs(15);
/// What a boot takes, most often, beside the time for which it asks.
const BOOT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whether init has the root directory that this program has: else this is a chroot, and what
/// runs is another system.
pub(crate) fn is_of_init(host: &Host) -> bool {
    has_our_root(host, Pid::from_raw(1))
}

/// Ends every `vmstage watch` of this system, and says how many there were.
///
/// # Errors
///
/// That one cannot be ended.
fn stop_watch(host: &Host) -> Result<usize> {
    let watches = watches(host);
    for watch in &watches {
        match kill(*watch, Signal::SIGTERM) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(e).with_context(|| format!("cannot end vmstage watch ({watch})")),
        }
    }
    let ended = wait::until(PATIENCE, LOOK_AGAIN, || {
        self::watches(host).is_empty().then_some(())
    });
    match ended {
        Some(()) => Ok(watches.len()),
        None => bail!("vmstage watch does not end, though it was told to {PATIENCE:?} ago"),
    }
}

/// Ends every `vmstage watch` of this system and waits for each `vmstage boot`: what they say
/// of this machine they would write again. None begins until the second is dropped; the first
/// is how many watches there were.
///
/// # Errors
///
/// That one cannot be ended, or does not end.
pub(crate) fn quiet(host: &Host, config: &Config) -> Result<(usize, NoBoot), Failure> {
    let watches = stop_watch(host)?;
    let no_boot = locks::wait_for_all_boots(host, config.metadata.timeout + BOOT)?;
    Ok((watches, no_boot))
}

fn watches(host: &Host) -> Vec<Pid> {
    let processes = fs::read_dir(host.path("/proc"))
        .into_iter()
        .flatten()
        .flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw)
        .filter(|pid| is_watch(host, *pid) && has_our_root(host, *pid))
        .collect()
}

/// By its command line: an older version says it nowhere else.
fn is_watch(host: &Host, pid: Pid) -> bool {
    let command = kernel_file::read(host.path(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let mut words = words.filter(|word| !word.starts_with(b"-"));
    program.rsplit(|byte| *byte == b'/').next() == Some(b"vmstage")
        && words.next() == Some(b"watch")
}

pub(crate) fn has_our_root(host: &Host, pid: Pid) -> bool {
    let number = |path: &Path| {
        fs::metadata(path)
            .map(|there| (there.dev(), there.ino()))
            .ok()
    };
    let theirs = number(&host.path(format!("/proc/{pid}/root/.")));
    theirs.is_some() && theirs == number(&host.path("/"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn a_watch_is_told_by_its_command_line_and_its_root() {
        let commands = [
            ("proc/10/cmdline", "/usr/sbin/vmstage\0watch\0", "/"),
            ("proc/11/cmdline", "vmstage\0--verbose\0watch\0", "/"),
            ("proc/12/cmdline", "/usr/sbin/vmstage\0boot\0", "/"),
            ("proc/13/cmdline", "/usr/bin/watch\0vmstage\0", "/"),
            ("proc/14/cmdline", "/usr/sbin/vmstage\0watch\0", "/chroot"),
        ];
        let files = commands.map(|(path, text, _)| (path, text));
        let tree = Tree::new(&[&files[..], &[("chroot/", "")]].concat());
        for (path, _, root) in commands {
            let root = tree.root().join(root.trim_start_matches('/'));
            let link = tree.root().join(path).with_file_name("root");
            symlink(root, link).unwrap();
        }
        let mut found: Vec<i32> = watches(&tree.host())
            .iter()
            .map(|pid| pid.as_raw())
            .collect();
        found.sort();
        assert_eq!(found, [10, 11]);
    }
}
