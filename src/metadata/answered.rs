//! Whether OpenStack has answered in this boot.

use serde::{Deserialize, Serialize};

use crate::host::this_boot::ThisBoot;
use crate::host::{Host, atomic_file};

/// Marker: OpenStack has answered in this boot, so the frozen config drive no longer counts,
/// also for a process that is started later and finds the service silent.
pub(super) struct Answered {
    file: ThisBoot<Marker>,
    pub(super) in_this_boot: bool,
}

#[derive(Serialize, Deserialize)]
struct Marker {}

impl Answered {
    pub(super) fn read(host: &Host) -> Answered {
        let file = ThisBoot::at(host, host.runtime_directory().join("openstack-answered"));
        let in_this_boot = matches!(file.read(), Ok(Some(Marker {})));
        Answered { file, in_this_boot }
    }

    pub(super) fn note(&mut self) {
        if self.in_this_boot {
            return;
        }
        self.in_this_boot = true;
        // Where it cannot be kept, a deadline that is held says the same of most.
        if let Ok(text) = self.file.text(&Marker {}) {
            let _ = atomic_file::replace(self.file.path(), &text, 0o644);
        }
    }
}
