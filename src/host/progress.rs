//! Whether a disk moves: whether it completes requests.

use std::path::Path;
use std::time::{Duration, Instant};

use super::block_device::Number;
use super::{Host, kernel_file, sysfs};

/// Follows the requests that a disk has completed.
#[derive(Debug)]
pub(crate) struct Progress {
    host: Host,
    device: Number,
    /// Nothing before the first look: most work is done by then.
    seen: Option<Vec<u64>>,
    since: Instant,
    patience: Duration,
}

impl Progress {
    /// Of the disk that `device` is, or is a part of. It is stuck when it has completed
    /// nothing for as long as `patience`.
    pub(crate) fn of(host: &Host, device: Number, patience: Duration) -> Progress {
        Progress {
            host: host.clone(),
            device,
            seen: None,
            since: Instant::now(),
            patience,
        }
    }

    pub(crate) fn is_stuck(&mut self) -> bool {
        // md's own counts do not move while it discards (mkfs): those of its members do.
        let stats = sysfs::stats_of(&self.host, self.device);
        let now: Vec<u64> = stats.iter().flat_map(|stat| completed(stat)).collect();
        if self.seen.as_ref() != Some(&now) {
            if self.seen.is_some() {
                self.since = Instant::now();
            }
            self.seen = Some(now);
        }
        self.since.elapsed() >= self.patience
    }
}

/// Reads, sectors read, writes, sectors written, and where the kernel has them (4.18 and 5.5)
/// discards, sectors discarded and flushes: the counts of completed requests in
/// Documentation/block/stat.rst. The times beside them grow while a request hangs, too.
const COMPLETED: [usize; 7] = [0, 2, 4, 6, 11, 13, 15];

fn completed(stat: &Path) -> Vec<u64> {
    let text = kernel_file::read_text(stat).unwrap_or_default();
    let fields: Vec<&str> = text.split_whitespace().collect();
    COMPLETED
        .iter()
        .filter_map(|index| fields.get(*index)?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn what_the_disks_under_an_array_complete_is_its_progress() {
        let none = "10 0 80 5 0 0 0 0 0 4 5 0 0 0 0\n";
        let tree = Tree::new(&[
            (
                "proc/partitions",
                "major minor  #blocks  name\n\n 9 127 9 md127\n",
            ),
            ("sys/block/md127/stat", none),
            ("sys/block/md127/slaves/vda/", ""),
            ("sys/block/md127/slaves/vdb/", ""),
            ("sys/block/vda/stat", none),
            ("sys/block/vdb/stat", none),
        ]);
        let patience = Duration::from_millis(150);
        let (major, minor) = (9, 127);
        let mut progress = Progress::of(&tree.host(), Number { major, minor }, patience);
        assert!(!progress.is_stuck());
        std::thread::sleep(patience);
        assert!(progress.is_stuck());
        let moved = "10 0 80 5 0 0 0 0 0 4 5 1 0 8 0\n";
        fs::write(tree.root().join("sys/block/vdb/stat"), moved).unwrap();
        assert!(!progress.is_stuck());
    }

    #[test]
    fn only_completed_requests_count_as_progress() {
        let first = "10 0 80 5 0 0 0 0 0 4 5\n";
        let tree = Tree::new(&[
            (
                "proc/partitions",
                "major minor  #blocks  name\n\n 252 17 9 vdb1\n",
            ),
            ("sys/block/vdb/vdb1/", ""),
            ("sys/block/vdb/stat", first),
        ]);
        let write = |text: &str| fs::write(tree.root().join("sys/block/vdb/stat"), text).unwrap();
        let patience = Duration::from_millis(150);
        let device = Number {
            major: 252,
            minor: 17,
        };
        let mut progress = Progress::of(&tree.host(), device, patience);
        assert!(!progress.is_stuck());
        std::thread::sleep(patience);
        // In flight, and time that goes by.
        write("10 0 80 5 0 0 0 0 1 4000 5000\n");
        assert!(progress.is_stuck());
        write("11 0 88 5 0 0 0 0 1 4000 5000\n");
        assert!(!progress.is_stuck());
        std::thread::sleep(patience);
        assert!(progress.is_stuck());
        write("11 0 88 5 0 0 0 0 1 9 9 0 0 0 0 1 0\n");
        assert!(!progress.is_stuck());
    }
}
