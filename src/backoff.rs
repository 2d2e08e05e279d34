//! When a request that failed is tried again.

use std::time::Duration;

use crate::host::kernel_file;
use crate::http::Cause;

/// How long to wait before the next try, or None where this failure is final, or no
/// time is left for another.
///
/// `tries` were made so far; `jitter`, from 0 to 1, keeps the instances of a cloud that
/// were booted together from asking together; `early` in a boot the service may not
/// know an instance yet that it is about to know.
pub(crate) fn wait_before_next_try(
    cause: &Cause,
    tries: u32,
    jitter: f64,
    early: bool,
    left: Duration,
) -> Option<Duration> {
    let asked = match cause {
        Cause::Unreachable(_) | Cause::Broken(_) | Cause::Unusable(_) => None,
        Cause::Status(404, wait) if early => *wait,
        Cause::Status(408 | 429 | 500..=599, wait) => *wait,
        Cause::Status(..) | Cause::Impossible(_) => return None,
    };
    let wait = backoff(tries, jitter).max(asked.unwrap_or_default());
    (wait < left).then_some(wait)
}

/// Between half and all of 1 s, 2 s, 4 s, 8 s, 8 s, …: at most five tries in ten
/// seconds, as a proxy in front of the service may allow ten requests in that time,
/// and there are two sources behind it.
fn backoff(tries: u32, jitter: f64) -> Duration {
    let ceiling = Duration::from_secs(1 << tries.saturating_sub(1).min(3));
    ceiling.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// A number from 0 to 1 that differs from one machine to the next.
pub(crate) fn jitter() -> f64 {
    let uuid = kernel_file::random_uuid().unwrap_or_default();
    let digits = uuid.get(..8).unwrap_or_default();
    let number = match u32::from_str_radix(digits, 16) {
        Ok(number) => number,
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.subsec_nanos().wrapping_mul(2_654_435_761)),
    };
    f64::from(number) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn what_is_retried_and_what_is_final() {
        let status = |code| Cause::Status(code, None);
        let text = String::new;
        // The cause; is it retried early in a boot; is it later?
        let cases = [
            (Cause::Unreachable(text()), true, true),
            (Cause::Broken(text()), true, true),
            (Cause::Unusable(text()), true, true),
            (Cause::Impossible(text()), false, false),
            (status(404), true, false),
            (status(408), true, true),
            (status(429), true, true),
            (status(500), true, true),
            (status(502), true, true),
            (status(503), true, true),
            (status(599), true, true),
            (status(301), false, false),
            (status(302), false, false),
            (status(304), false, false),
            (status(400), false, false),
            (status(401), false, false),
            (status(403), false, false),
            (status(410), false, false),
            (status(600), false, false),
        ];
        for (cause, early, later) in cases {
            let retried =
                |early| wait_before_next_try(&cause, 1, 0.5, early, seconds(20)).is_some();
            assert_eq!((retried(true), retried(false)), (early, later), "{cause:?}");
        }
    }

    #[test]
    fn the_wait_doubles_up_to_eight_seconds_and_jitter_halves_it_at_most() {
        let cases = [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (u32::MAX, 8)];
        for (tries, longest) in cases {
            assert_eq!(backoff(tries, 1.0), seconds(longest));
            assert_eq!(backoff(tries, 0.0), seconds(longest) / 2);
        }
    }

    #[test]
    fn at_most_five_tries_are_made_in_ten_seconds() {
        for jitter in [0.0, 0.5, 1.0] {
            let mut at = Duration::ZERO;
            let mut starts = Vec::new();
            for tries in 1..20 {
                starts.push(at);
                at += backoff(tries, jitter);
            }
            for from in &starts {
                let within = |start: &&Duration| (*from..*from + seconds(10)).contains(*start);
                let number = starts.iter().filter(within).count();
                assert!(number <= 5, "{number} tries from {from:?} on");
            }
        }
    }

    #[test]
    fn retry_after_is_honoured_where_it_fits_and_else_nothing_is_tried() {
        let busy = |wait| Cause::Status(503, Some(seconds(wait)));
        let wait = |cause, left| wait_before_next_try(&cause, 1, 0.0, false, seconds(left));
        assert_eq!(wait(busy(7), 20), Some(seconds(7)));
        assert_eq!(wait(busy(0), 20), Some(Duration::from_millis(500)));
        assert_eq!(wait(busy(120), 20), None);
        assert_eq!(wait(busy(20), 20), None);
        assert_eq!(wait(busy(u64::MAX), 20), None);
    }

    #[test]
    fn nothing_is_tried_again_when_no_time_is_left() {
        let cause = Cause::Broken(String::new());
        let wait = |left| wait_before_next_try(&cause, 4, 1.0, false, left);
        assert_eq!(wait(seconds(9)), Some(seconds(8)));
        assert_eq!(wait(seconds(8)), None);
        assert_eq!(wait(Duration::ZERO), None);
    }

    #[test]
    fn jitter_lies_between_zero_and_one_and_varies() {
        let drawn: Vec<f64> = (0..20).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|j| (0.0..=1.0).contains(j)));
        assert!(drawn.iter().any(|j| *j != drawn[0]));
    }
}
