//! Waiting with a limit.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Asks again and again, with a pause in between, until there is something or the time is
/// over. It is asked at least once, and once more when the time is over. Sleeps: on kernels
/// before 2.6.25 std's waiting primitives spin.
pub(crate) fn until<T>(
    limit: Duration,
    pause: Duration,
    mut ask: impl FnMut() -> Option<T>,
) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return Some(found);
        }
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            return None;
        }
        sleep(pause.min(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_at_least_once_and_not_after_the_limit() {
        let mut asked = 0;
        let pause = Duration::from_millis(1);
        let found = until(Duration::ZERO, pause, || {
            asked += 1;
            Some(7)
        });
        assert_eq!((found, asked), (Some(7), 1));
        let start = Instant::now();
        let nothing: Option<()> = until(Duration::from_millis(20), pause, || None);
        assert_eq!(nothing, None);
        assert!(start.elapsed() >= Duration::from_millis(20));
        let mut left = 3;
        let found = until(Duration::from_secs(5), pause, || {
            left -= 1;
            (left == 0).then_some(())
        });
        assert_eq!(found, Some(()));
    }
}
