//! What `watch` has done and seen of the clocks already, kept across a crash, so that
//! nothing is done twice and no clock is set unseen.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::due::{Done, Trust};
use crate::host::this_boot::ThisBoot;
use crate::host::{Host, atomic_file};
use crate::logging::Notices;

pub(crate) struct Progress {
    file: ThisBoot<Kept>,
    kept: Kept,
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    done: Done,
    /// As it was a minute ago or less; None where nothing was written in this boot.
    trust: Option<Trust>,
}

impl Progress {
    /// What was done in this boot.
    pub(crate) fn read(host: &Host) -> Progress {
        let file = ThisBoot::at(host, host.runtime_directory().join("watch.json"));
        let kept = file.read().ok().flatten().unwrap_or_default();
        Progress { file, kept }
    }

    pub(crate) fn done(&self) -> &Done {
        &self.kept.done
    }

    pub(crate) fn trust(&self) -> Option<Trust> {
        self.kept.trust
    }

    /// Writes down what was done, if that is new, and once a minute how the clocks stand.
    pub(crate) fn keep(&mut self, notices: &Notices, done: Done, trust: Trust) {
        let clocks_are_kept = self.kept.trust.is_some_and(|kept| kept.stands_for(&trust));
        let is_done_anew = self.kept.done != done;
        if !is_done_anew && clocks_are_kept {
            return;
        }
        self.kept = Kept {
            done,
            trust: Some(trust),
        };
        if let Err(e) = self.write(is_done_anew) {
            notices.warn_once(format!(
                "cannot write {}: {e:#}; after a crash, what is done may be done again",
                self.file.path().display()
            ));
        }
    }

    /// How the clocks stand is written often, and not worth waiting for the disk.
    fn write(&self, is_done_anew: bool) -> Result<()> {
        let text = self.file.text(&self.kept)?;
        match is_done_anew {
            true => atomic_file::replace(self.file.path(), &text, 0o600)?,
            false => drop(atomic_file::replace_if_changed(
                self.file.path(),
                &text,
                0o600,
            )?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::clock::Now;
    use crate::host::tree::Tree;

    #[test]
    fn what_was_done_is_known_after_a_restart_and_forgotten_after_a_reboot() {
        let boot_id = "proc/sys/kernel/random/boot_id";
        let tree = Tree::new(&[("run/vmstage/", ""), (boot_id, "first\n")]);
        let trust = Trust::new(Now {
            wall: 1_800_000_000,
            uptime: Duration::from_secs(60),
            vouched: false,
        });
        let done = Done {
            drained: true,
            ..Done::default()
        };
        let notices = Notices::default();
        Progress::read(&tree.host()).keep(&notices, done.clone(), trust);
        let restarted = Progress::read(&tree.host());
        assert_eq!((restarted.done(), restarted.trust()), (&done, Some(trust)));
        fs::write(tree.root().join(boot_id), "second\n").unwrap();
        let rebooted = Progress::read(&tree.host());
        assert_eq!(
            (rebooted.done(), rebooted.trust()),
            (&Done::default(), None)
        );
        assert_eq!(notices.all(), [""; 0]);
    }
}
