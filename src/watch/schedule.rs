//! When the metadata service is asked again. Pure: time and chance are handed in.

use std::time::Duration;

/// How often a service is asked whether the deadline has moved.
pub const PERIOD: Duration = Duration::from_secs(60);

/// How often EC2 is asked whether it wants the instance back: it gives two minutes'
/// notice, and recommends to ask every five seconds.
pub const SPOT_PERIOD: Duration = Duration::from_secs(5);

/// Until the first time of asking after `boot` did: anywhere within a period, so that
/// instances which booted together do not go on asking together.
pub fn first_ask(chance: f64) -> Duration {
    PERIOD.mul_f64(chance.clamp(0.0, 1.0))
}

/// Until the next time of asking: a period, give or take a tenth of it.
pub fn next_ask(chance: f64) -> Duration {
    PERIOD.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0))
}

/// Until a callback that failed so often is tried again: 10 s, 20 s, … 10 min, each cut
/// by up to a half.
pub fn next_callback(failed: u32, chance: f64) -> Duration {
    let ceiling = Duration::from_secs(10 << failed.min(6)).min(Duration::from_secs(600));
    ceiling.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCES: usize = 10_000;
    const MINUTES: usize = 60;

    /// A stream of chances, different for each seed (splitmix64).
    fn chances(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    #[test]
    fn ten_thousand_instances_booted_together_do_not_ask_in_lock_step() {
        let mut per_second = vec![0usize; MINUTES * 60];
        for instance in 0..INSTANCES {
            let mut chance = chances(instance as u64);
            let mut at = first_ask(chance());
            while let Some(asked) = per_second.get_mut(at.as_secs() as usize) {
                *asked += 1;
                at += next_ask(chance());
            }
        }
        let peak = per_second.iter().copied().max().unwrap();
        let total: usize = per_second.iter().sum();
        let per_minute = total as f64 / (INSTANCES * MINUTES) as f64;
        println!(
            "{INSTANCES} instances over {MINUTES} min: at most {peak} requests in a second \
             (in lock-step: {INSTANCES}), {per_minute:.2} a minute each"
        );
        // A perfectly even load would be 167 a second.
        assert!(peak < 250, "{peak} in one second");
        assert!((0.9..=1.2).contains(&per_minute), "{per_minute} a minute");
    }
}
