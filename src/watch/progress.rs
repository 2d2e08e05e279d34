//! What `watch` has done already, kept across a crash, so that nothing is done twice.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::deadline::due::Done;
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

    /// Writes down what was done, if that is new.
    pub(crate) fn keep(&mut self, notices: &Notices, done: Done) {
        if self.kept.done == done {
            return;
        }
        self.kept = Kept { done };
        if let Err(e) = self.write() {
            notices.warn_once(format!(
                "cannot write {}: {e:#}; after a crash, what is done may be done again",
                self.file.path().display()
            ));
        }
    }

    fn write(&self) -> Result<()> {
        let text = self.file.text(&self.kept)?;
        atomic_file::replace(self.file.path(), &text, 0o600)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn what_was_done_is_known_after_a_restart_and_forgotten_after_a_reboot() {
        let boot_id = "proc/sys/kernel/random/boot_id";
        let tree = Tree::new(&[("run/vmstage/", ""), (boot_id, "first\n")]);
        let done = Done {
            drained: true,
            ..Done::default()
        };
        let notices = Notices::default();
        Progress::read(&tree.host()).keep(&notices, done.clone());
        let restarted = Progress::read(&tree.host());
        assert_eq!(restarted.done(), &done);
        fs::write(tree.root().join(boot_id), "second\n").unwrap();
        let rebooted = Progress::read(&tree.host());
        assert_eq!(rebooted.done(), &Done::default());
        assert_eq!(notices.all(), [""; 0]);
    }
}
