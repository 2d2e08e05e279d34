//! Reading the machine's clocks.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::{Host, kernel_calls, kernel_file};
use crate::clock::{self, Now};

impl Host {
    /// What time it is.
    pub(crate) fn now(&self) -> Now {
        Now {
            wall: clock::wall(),
            uptime: self.uptime(),
            vouched: kernel_calls::clock_is_synchronised(),
        }
    }

    /// How long this machine has been up, whatever the wall clock did meanwhile.
    fn uptime(&self) -> Duration {
        kernel_file::read_text(self.path("/proc/uptime"))
            .ok()
            .and_then(|text| parse(&text))
            .unwrap_or_else(by_system_call)
    }
}

fn parse(text: &str) -> Option<Duration> {
    let seconds = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// What `/proc/uptime` shows: CLOCK_BOOTTIME, and before Linux 2.6.39, which does not have
/// it, CLOCK_MONOTONIC.
fn by_system_call() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC))
        .map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn the_uptime_is_the_first_number_of_proc_uptime() {
        let tree = Tree::new(&[("proc/uptime", "12.50 9.00\n")]);
        assert_eq!(tree.host().now().uptime, Duration::from_millis(12_500));
    }

    #[test]
    fn where_proc_uptime_does_not_say_the_kernels_clock_does() {
        let this_machine = Host::this_machine().now().uptime;
        let empty = Tree::new(&[("proc/uptime", "")]);
        let missing = Tree::new(&[("proc/", "")]);
        for tree in [empty, missing] {
            let uptime = tree.host().now().uptime;
            assert!(
                uptime.abs_diff(this_machine) < Duration::from_secs(10),
                "{uptime:?} instead of {this_machine:?}"
            );
        }
    }

    #[test]
    fn garbage_is_no_uptime() {
        for text in ["", "x", "-1 0", "NaN 0", "1e300 0"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
