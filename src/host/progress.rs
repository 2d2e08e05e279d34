//! Whether a disk moves: whether it completes requests, and whether any are out.

use std::path::Path;
use std::time::{Duration, Instant};

use super::block_device::Number;
use super::{Host, kernel_file, sysfs};

/// Follows the requests that disks have completed.
#[derive(Debug)]
pub(crate) struct Progress {
    host: Host,
    devices: Vec<Number>,
    counts: Counts,
    /// Nothing before the first look: most work is done by then.
    seen: Option<Vec<u64>>,
    since: Instant,
    patience: Duration,
}

impl Progress {
    /// Of the disk that `device` is, or is a part of. It is stuck when it has completed
    /// nothing for as long as `patience`.
    pub(crate) fn of(host: &Host, device: Number, patience: Duration) -> Progress {
        Progress::new(host, vec![device], Counts::Always, patience)
    }

    /// Of disks that a program is at which also waits for other things. They are stuck when a
    /// request is out and they have completed none for as long as `patience`.
    pub(crate) fn with_requests(host: &Host, devices: Vec<Number>, patience: Duration) -> Progress {
        Progress::new(host, devices, Counts::WithRequests, patience)
    }

    fn new(host: &Host, devices: Vec<Number>, counts: Counts, patience: Duration) -> Progress {
        Progress {
            host: host.clone(),
            devices,
            counts,
            seen: None,
            since: Instant::now(),
            patience,
        }
    }

    pub(crate) fn is_stuck(&mut self) -> bool {
        let mut now = Vec::new();
        let mut has_requests = false;
        for device in &self.devices {
            // md's own counts do not move while it discards (mkfs): those of its members do.
            for stat in sysfs::stats_of(&self.host, *device) {
                let fields = fields(&stat);
                has_requests |= are_out(&fields);
                now.extend(COMPLETED.iter().filter_map(|index| fields.get(*index)));
            }
        }
        if self.counts == Counts::WithRequests && !has_requests {
            self.since = Instant::now();
        }
        if self.seen.as_ref() != Some(&now) {
            if self.seen.is_some() {
                self.since = Instant::now();
            }
            self.seen = Some(now);
        }
        self.since.elapsed() >= self.patience
    }
}

/// When it counts that nothing is completed.
#[derive(Debug, PartialEq, Eq)]
enum Counts {
    Always,
    /// Only while a request is out.
    WithRequests,
}

/// Whether requests are out that the disk has not completed.
pub(crate) fn has_requests(host: &Host, device: Number) -> bool {
    let stats = sysfs::stats_of(host, device);
    stats.iter().any(|stat| are_out(&fields(stat)))
}

/// Reads, sectors read, writes, sectors written, and where the kernel has them (4.18 and 5.5)
/// discards, sectors discarded and flushes: the counts of completed requests in
/// Documentation/block/stat.rst. The times beside them grow while a request hangs, too.
const COMPLETED: [usize; 7] = [0, 2, 4, 6, 11, 13, 15];

/// How many requests are out.
const IN_FLIGHT: usize = 8;

fn are_out(fields: &[u64]) -> bool {
    fields.get(IN_FLIGHT).is_some_and(|count| *count > 0)
}

fn fields(stat: &Path) -> Vec<u64> {
    let text = kernel_file::read_text(stat).unwrap_or_default();
    text.split_whitespace()
        .map_while(|field| field.parse().ok())
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

    #[test]
    fn where_a_program_waits_for_something_else_disks_without_requests_are_not_stuck() {
        const OUT: &str = "10 0 80 5 0 0 0 0 1 4 5\n";
        const IDLE: &str = "10 0 80 5 0 0 0 0 0 4 5\n";
        let tree = Tree::new(&[
            (
                "proc/partitions",
                "major minor  #blocks  name\n\n 252 0 9 vda\n 252 16 9 vdb\n",
            ),
            ("sys/block/vda/stat", IDLE),
            ("sys/block/vdb/stat", IDLE),
        ]);
        let (host, patience) = (tree.host(), Duration::from_millis(150));
        let disk = |minor| Number { major: 252, minor };
        let mut progress = Progress::with_requests(&host, vec![disk(0), disk(16)], patience);
        std::thread::sleep(patience);
        assert!(!progress.is_stuck());
        fs::write(tree.root().join("sys/block/vdb/stat"), OUT).unwrap();
        assert_eq!(
            [0, 16].map(|minor| has_requests(&host, disk(minor))),
            [false, true]
        );
        assert!(!progress.is_stuck());
        std::thread::sleep(patience);
        assert!(progress.is_stuck());
    }
}
