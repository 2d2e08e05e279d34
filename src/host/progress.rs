//! Whether a disk moves: whether it completes requests.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::kernel_file;

/// Follows the requests that a disk has completed.
#[derive(Debug)]
pub(crate) struct Progress {
    stat: PathBuf,
    seen: Vec<u64>,
    since: Instant,
    patience: Duration,
}

impl Progress {
    /// `stat` is the disk's `/sys/block/X/stat`. The disk is stuck when nothing in there has
    /// moved for as long as `patience`.
    pub(crate) fn of(stat: PathBuf, patience: Duration) -> Progress {
        let seen = completed(&stat);
        Progress {
            stat,
            seen,
            since: Instant::now(),
            patience,
        }
    }

    pub(crate) fn is_stuck(&mut self) -> bool {
        let now = completed(&self.stat);
        if now != self.seen {
            self.seen = now;
            self.since = Instant::now();
        }
        self.since.elapsed() >= self.patience
    }
}

/// Reads, sectors read, writes, sectors written, and where the kernel has them (4.18 and 5.5)
/// discards, sectors discarded and flushes: the counts of completed requests in
/// Documentation/block/stat.rst. The times beside them grow while a request hangs, too.
const COMPLETED: [usize; 7] = [0, 2, 4, 6, 11, 13, 15];

fn completed(stat: &PathBuf) -> Vec<u64> {
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

    #[test]
    fn only_completed_requests_count_as_progress() {
        let stat = std::env::temp_dir().join(format!("vmstage-stat-{}", std::process::id()));
        let write = |text: &str| fs::write(&stat, text).unwrap();
        write("10 0 80 5 0 0 0 0 0 4 5\n");
        let patience = Duration::from_millis(30);
        let mut progress = Progress::of(stat.clone(), patience);
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
        fs::remove_file(stat).unwrap();
    }
}
