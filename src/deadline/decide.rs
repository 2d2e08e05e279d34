//! Which of the known limits is the deadline. Pure: no clock, no file, no network.
//!
//! A limit that cannot be meant is ignored, with the reason, and never moves the
//! deadline. One in the past can be meant, and is not ignored: the VM outlived it,
//! and must be gone. What keeps that safe together with `action = "poweroff"` is
//! outside of this module: `min_uptime` leaves time to see and correct a mistake.

use std::time::Duration;

use super::limit::{IgnoredLimit, Limit, LimitKind, When, plausible};
use super::origin::Origin;
use crate::clock;

/// The earliest of the limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Deadline {
    /// Unix seconds.
    pub at: u64,
    /// Who gave it.
    pub origin: Origin,
    /// The time before it in which no new work starts.
    pub grace: Duration,
    /// Unix seconds at which a source last said so; None where no source has to.
    pub confirmed_at: Option<u64>,
    /// What happens at it.
    pub kind: LimitKind,
}

impl Deadline {
    /// Once an order that only drains is over, it hides no end of the machine; and there is no
    /// new work before that. `time` is in Unix seconds.
    pub(super) fn hide_no_end(&mut self, end: Option<Deadline>, time: u64) {
        if self.kind != LimitKind::DrainOnly || self.at > time {
            return;
        }
        if let Some(mut end) = end {
            let without_work = Duration::from_secs(end.at.saturating_sub(self.at));
            end.grace = end.grace.max(self.grace.saturating_add(without_work));
            *self = end;
        }
    }
}

/// What follows from all limits together.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// None where nothing limits this VM.
    pub deadline: Option<Deadline>,
    /// Limits that cannot be used.
    pub ignored: Vec<IgnoredLimit>,
}

/// The earliest of `limits`, the first of equals. `first_boot` is the Unix second from
/// which lifetimes count.
pub fn decide(limits: &[Limit], first_boot: u64, grace: Duration) -> Decision {
    let mut decision = Decision {
        deadline: None,
        ignored: Vec::new(),
    };
    for limit in limits {
        match instant(&limit.when, first_boot) {
            Ok(at) if decision.deadline.as_ref().is_none_or(|d| at < d.at) => {
                decision.deadline = Some(Deadline {
                    at,
                    origin: limit.origin.clone(),
                    grace,
                    confirmed_at: limit.confirmed_at,
                    kind: limit.kind,
                });
            }
            Ok(_) => {}
            Err(reason) => decision.ignored.push(limit.ignored(reason)),
        }
    }
    decision
}

fn instant(when: &When, first_boot: u64) -> Result<u64, String> {
    match when {
        When::At(unix) => plausible(*unix),
        When::AfterFirstBoot(Duration::ZERO) => Err("it is zero".into()),
        // No lower bound: while the clock stands in 1970 so does the first boot, and
        // both are right relative to each other.
        When::AfterFirstBoot(lifetime) => match first_boot.checked_add(lifetime.as_secs()) {
            Some(at) if at <= clock::LATEST => Ok(at),
            _ => Err("it ends after the year 9999".into()),
        },
        When::Reckoned(unix) if *unix <= clock::LATEST => Ok(*unix),
        When::Reckoned(_) => Err("it is after the year 9999".into()),
        When::AfterNotice(_) => Err("it says no time".into()),
        When::Unusable(reason) => Err(reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::config;
    use crate::deadline::limit::{own_limit, plain_keys};
    use crate::deadline::origin::LimitSource;

    const FIRST_BOOT: u64 = 1_795_000_000;

    fn limit(origin: &str, when: When) -> Limit {
        Limit::new(Origin::unknown(origin), when)
    }

    fn at(limits: &[Limit]) -> Option<u64> {
        decide(limits, FIRST_BOOT, Duration::ZERO)
            .deadline
            .map(|d| d.at)
    }

    #[test]
    fn the_earliest_limit_is_the_deadline_and_is_named() {
        let limits = [
            limit("shutdowntime", When::At(FIRST_BOOT + 7200)),
            limit("lifetime", When::AfterFirstBoot(Duration::from_secs(3600))),
            limit("spot", When::At(FIRST_BOOT + 5400)),
        ];
        let deadline = decide(&limits, FIRST_BOOT, Duration::from_secs(600))
            .deadline
            .unwrap();
        assert_eq!(deadline.at, FIRST_BOOT + 3600);
        assert_eq!(deadline.origin.to_string(), "lifetime");
        assert_eq!(deadline.grace, Duration::from_secs(600));
    }

    #[test]
    fn without_a_limit_there_is_no_deadline() {
        assert_eq!(at(&[]), None);
    }

    #[test]
    fn what_cannot_be_meant_is_ignored_and_named_with_the_reason() {
        let limits = [
            limit("a", When::from_instant("soon")),
            limit("b", When::AfterFirstBoot(Duration::ZERO)),
            limit("c", When::AfterFirstBoot(Duration::MAX)),
            limit("d", When::At(0)),
        ];
        let decision = decide(&limits, FIRST_BOOT, Duration::ZERO);
        assert_eq!(decision.deadline, None);
        let said: Vec<String> = decision
            .ignored
            .iter()
            .map(|i| format!("{}: {}", i.origin, i.reason))
            .collect();
        assert_eq!(
            said,
            [
                "a: \"soon\" is neither Unix seconds nor a time of RFC 3339, such as 2027-01-31T18:00:00Z",
                "b: it is zero",
                "c: it ends after the year 9999",
                "d: 0 is 1970-01-01T00:00:00Z, before any VM of this kind: Unix seconds are \
                 wanted, not a duration",
            ]
        );
    }

    #[test]
    fn a_deadline_in_the_past_holds() {
        let past = FIRST_BOOT - 3600;
        assert_eq!(at(&[limit("late", When::At(past))]), Some(past));
    }

    #[test]
    fn the_plain_keys_are_read_and_others_are_not_taken_for_them() {
        let meta = BTreeMap::from(
            [
                ("vmstage_lifetime", "36h"),
                ("lifetime", "3600"),
                ("vmstage_deadline", "x"),
            ]
            .map(|(k, v)| (k.to_string(), v.to_string())),
        );
        let limits = plain_keys(&meta, LimitSource::Openstack);
        let origins: Vec<String> = limits.iter().map(|l| l.origin.to_string()).collect();
        assert_eq!(
            origins,
            [
                "vmstage_deadline in the openstack metadata",
                "vmstage_lifetime in the openstack metadata"
            ]
        );
        assert_eq!(at(&limits), Some(FIRST_BOOT + 129_600));
    }

    #[test]
    fn the_image_has_a_limit_of_its_own_only_when_it_is_configured() {
        let mut config = config::Deadline::default();
        assert_eq!(own_limit(&config), None);
        config.max_lifetime = Duration::from_secs(60);
        assert_eq!(at(&[own_limit(&config).unwrap()]), Some(FIRST_BOOT + 60));
    }

    fn valid() -> impl Strategy<Value = (Limit, u64)> {
        let at = (clock::EARLIEST..=clock::LATEST).prop_map(|t| (When::At(t), t));
        let text =
            (clock::EARLIEST..=clock::LATEST).prop_map(|t| (When::from_instant(&clock::utc(t)), t));
        let lifetime = (1u64..1_000_000_000)
            .prop_map(|s| (When::from_lifetime(&s.to_string()), FIRST_BOOT + s));
        prop_oneof![at, text, lifetime].prop_map(|(when, t)| (limit("valid", when), t))
    }

    fn garbage() -> impl Strategy<Value = Limit> {
        prop_oneof![
            "[^0-9PT]{0,20}".prop_map(|t| When::from_instant(&t)),
            "-[0-9]{1,25}".prop_map(|t| When::from_instant(&t)),
            "-?[0-9]{1,5}\\.[0-9]{1,5}".prop_map(|t| When::from_lifetime(&t)),
            "[0-9]{21,40}".prop_map(|t| When::from_lifetime(&t)),
            (0..clock::EARLIEST).prop_map(When::At),
            (clock::LATEST + 1..).prop_map(When::At),
            (clock::LATEST..).prop_map(|s| When::AfterFirstBoot(Duration::from_secs(s))),
        ]
        .prop_map(|when| limit("garbage", when))
    }

    proptest! {
        #[test]
        fn the_deadline_is_never_later_than_any_valid_limit(
            limits in prop::collection::vec(valid(), 1..8),
            noise in prop::collection::vec(garbage(), 0..8),
        ) {
            let earliest = limits.iter().map(|(_, t)| *t).min();
            let mut all: Vec<Limit> = limits.into_iter().map(|(limit, _)| limit).collect();
            all.extend(noise);
            prop_assert_eq!(at(&all), earliest);
        }

        #[test]
        fn garbage_never_moves_it(
            limits in prop::collection::vec(valid(), 0..4),
            noise in garbage(),
            position in any::<prop::sample::Index>(),
        ) {
            let limits: Vec<Limit> = limits.into_iter().map(|(limit, _)| limit).collect();
            let mut all = limits.clone();
            all.insert(position.index(limits.len() + 1), noise);
            prop_assert_eq!(at(&all), at(&limits));
            prop_assert_eq!(decide(&all, FIRST_BOOT, Duration::ZERO).ignored.len(), 1);
        }

        #[test]
        fn adding_a_limit_never_makes_it_later(
            limits in prop::collection::vec(prop_oneof![valid().prop_map(|(l, _)| l), garbage()], 0..8),
            another in prop_oneof![valid().prop_map(|(l, _)| l), garbage()],
        ) {
            let before = at(&limits).unwrap_or(u64::MAX);
            let all = [limits, vec![another]].concat();
            prop_assert!(at(&all).unwrap_or(u64::MAX) <= before);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let limits = [When::from_instant(&text), When::from_lifetime(&text)];
            let limits = limits.map(|when| limit("any", when));
            prop_assert!(at(&limits).is_none_or(|at| at <= clock::LATEST));
        }
    }
}
