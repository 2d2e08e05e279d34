//! One thing that limits how long this VM may live, and the texts that give it.
//!
//! The bounds here refuse what mistakes look like (a zero, a lifetime given as a deadline,
//! milliseconds given as seconds), which would else end every VM at once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::origin::{self, LimitSource, Origin};
use crate::clock;
use crate::config;

/// One thing that limits how long this VM may live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Who gives it, under which key.
    pub origin: Origin,
    /// The time that it names.
    pub when: When,
    /// Unix seconds at which a source last said so; None where no source has to.
    pub confirmed_at: Option<u64>,
    /// What it is to the machine.
    #[serde(default)]
    pub kind: LimitKind,
}

/// What a limit is to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    /// Set by people, long ahead.
    #[default]
    Planned,
    /// What a cloud announces minutes or seconds ahead: it happens whether it is believed or
    /// not, so that nothing waits for a confirmation.
    Notice,
    /// An operator's: grace and drain, and no power-off.
    DrainOnly,
    /// An operator rehearses a notice: nothing is ended.
    Rehearsal,
}

impl LimitKind {
    /// Whether the machine ends with it.
    pub(crate) fn ends_the_machine(self) -> bool {
        matches!(self, LimitKind::Planned | LimitKind::Notice)
    }
}

/// The time of a limit.
#[derive(Debug, Clone, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum When {
    /// Unix seconds.
    At(u64),
    /// A lifetime, from the instance's first boot.
    AfterFirstBoot(Duration),
    /// Of a notice that says no time: so long after it was heard first.
    AfterNotice(Duration),
    /// Unix seconds by this machine's own reckoning: its clock may be wrong, and so is this.
    Reckoned(u64),
    /// It was given and cannot be used, for this reason.
    Unusable(String),
}

/// A limit that was given and cannot be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IgnoredLimit {
    /// For people.
    pub(crate) origin: String,
    /// None where another version wrote it.
    #[serde(
        default,
        deserialize_with = "origin::readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) given_by: Option<Origin>,
    /// Why not, in words.
    pub reason: String,
}

impl Limit {
    /// A limit that people set, as yet confirmed by nobody.
    pub fn new(origin: Origin, when: When) -> Limit {
        Limit {
            origin,
            when,
            confirmed_at: None,
            kind: LimitKind::Planned,
        }
    }

    /// A limit that a cloud announces.
    pub fn notice(origin: Origin, when: When) -> Limit {
        Limit {
            kind: LimitKind::Notice,
            ..Limit::new(origin, when)
        }
    }

    /// How long a notice of this kind leaves at most; None where it may come long before.
    pub(super) fn longest_notice(&self) -> Option<Duration> {
        let seconds = match (self.kind, self.origin.source, self.origin.key.as_str()) {
            (LimitKind::Notice, LimitSource::Ec2, "spot/instance-action") => 120,
            (LimitKind::Notice, LimitSource::Ec2, "autoscaling/target-lifecycle-state") => 0,
            (LimitKind::Notice, LimitSource::Google, "preempted") => 30,
            (LimitKind::Notice, LimitSource::Google, _) => 60,
            (LimitKind::Notice, LimitSource::Azure, _) => 15 * 60,
            _ => return None,
        };
        Some(Duration::from_secs(seconds))
    }

    /// It was given, and cannot be used for this reason.
    pub(crate) fn ignored(&self, reason: String) -> IgnoredLimit {
        IgnoredLimit {
            origin: self.origin.to_string(),
            given_by: Some(self.origin.clone()),
            reason,
        }
    }

    pub(crate) fn is_usable(&self) -> bool {
        !matches!(self.when, When::Unusable(_))
    }
}

/// The Unix seconds of a text: those themselves, or a time as clouds write it. The fraction of a
/// second is dropped.
///
/// # Errors
///
/// Why it is no time that can be meant.
pub(crate) fn instant(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let unix = match unix_seconds(text) {
        Some(unix) => unix,
        None => match clock::parse_utc(text) {
            Some(..clock::EARLIEST) => Err(format!("{:?} is long past", cut(text))),
            Some(unix) => Ok(unix),
            None => Err(no_instant(cut(text))),
        },
    };
    unix.and_then(plausible)
}

/// Unix seconds, also with a fraction. None where the text is no number of that kind at all.
pub(crate) fn unix_seconds(text: &str) -> Option<Result<u64, String>> {
    match text.split_once(['.', ',']) {
        Some((seconds, fraction)) => whole_number(fraction).and(whole_number(seconds)),
        None => whole_number(text),
    }
}

/// What a text lacks to be a time, in words.
fn no_instant(text: &str) -> String {
    const EXAMPLE: &str = "such as 2027-01-31T18:00:00Z";
    let is_time_with = |rest| clock::parse_utc(&format!("{text}{rest}")).is_some();
    if is_time_with("Z") {
        format!("{text:?} says no time zone: a Z at its end is wanted, or an offset such as +01:00")
    } else if is_time_with("T00:00Z") {
        format!("{text:?} says no time of day: a whole time is wanted, {EXAMPLE}")
    } else {
        format!("{text:?} is neither Unix seconds nor a time of RFC 3339, {EXAMPLE}")
    }
}

impl When {
    /// Unix seconds, or a time as clouds write it.
    pub fn from_instant(text: &str) -> When {
        instant(text).map_or_else(When::Unusable, When::At)
    }

    /// Seconds, or a duration such as `36h`, from the first boot.
    pub fn from_lifetime(text: &str) -> When {
        let text = text.trim();
        let lifetime = match whole_number(text) {
            Some(seconds) => seconds.map(Duration::from_secs),
            None => config::parse_duration(text).map_err(|why| cut(&why).to_string()),
        };
        match lifetime {
            Ok(lifetime) if lifetime.as_secs() == 0 => {
                When::Unusable(format!("{:?} is zero", cut(text)))
            }
            Ok(lifetime) => When::AfterFirstBoot(lifetime),
            Err(reason) => When::Unusable(reason),
        }
    }
}

/// Refuses what cannot be the time at which a VM has to be gone.
pub(super) fn plausible(unix: u64) -> Result<u64, String> {
    match unix {
        ..clock::EARLIEST => Err(format!(
            "{unix} is {}, before any VM of this kind: Unix seconds are wanted, not a duration",
            clock::utc(unix)
        )),
        clock::EARLIEST..=clock::LATEST => Ok(unix),
        _ => Err(format!(
            "{unix} is after the year 9999: seconds are wanted, not milliseconds"
        )),
    }
}

/// As much of somebody's text as a message bears.
fn cut(text: &str) -> &str {
    let end = text
        .char_indices()
        .nth(160)
        .map_or(text.len(), |(end, _)| end);
    &text[..end]
}

/// None where the text is not a row of digits at all.
pub(crate) fn whole_number(text: &str) -> Option<Result<u64, String>> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| {
        text.parse()
            .map_err(|_| format!("{text:.40} is too large for a number of seconds"))
    })
}

/// The key of a limit that counts from the first boot.
pub(crate) const LIFETIME: &str = "vmstage_lifetime";

/// The limits among an instance's `meta`, for clouds without Machine/Job Features.
pub(crate) fn plain_keys(meta: &BTreeMap<String, String>, source: LimitSource) -> Vec<Limit> {
    let limit = |key: &str, read: fn(&str) -> When| {
        meta.get(key)
            .map(|value| Limit::new(Origin::new(source, key), read(value)))
    };
    let limits = [
        limit("vmstage_deadline", When::from_instant),
        limit(LIFETIME, When::from_lifetime),
    ];
    limits.into_iter().flatten().collect()
}

/// The image's own limit; None where the configuration sets none.
pub(crate) fn own_limit(config: &config::Deadline) -> Option<Limit> {
    let origin = || Origin::new(LimitSource::Configuration, "max_lifetime");
    let when = When::AfterFirstBoot(config.max_lifetime);
    (config.max_lifetime > Duration::ZERO).then(|| Limit::new(origin(), when))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_unix_seconds_or_a_time_of_one_meaning() {
        for good in [
            "1795430460",
            " 1795430460\n",
            "1795430460.5",
            "1795430460,999",
            "2026-11-23T11:41:00+01:00",
            "20261123T114100+0100",
        ] {
            assert_eq!(
                When::from_instant(good),
                When::At(1_795_430_460),
                "{good:?}"
            );
        }
        let garbage = [
            "",
            "0",
            "-1",
            "86400",
            "+1795430460",
            "1795430460.",
            ".5",
            "1795430460.5.5",
            "1,795,430,460",
            "1.795.430.460",
            "1795430460.5e3",
            "1795430460000.5",
            "1795430460000",
            "1e30",
            "99999999999999999999",
            "0x6b000000",
            "2026-11-23",
            "2026-11-23T10:41",
            "1969-01-01T00:00:00Z",
            "tomorrow",
        ];
        for text in garbage {
            let when = When::from_instant(text);
            assert!(matches!(when, When::Unusable(_)), "{text:?} gave {when:?}");
        }
    }

    #[test]
    fn what_may_be_meant_in_two_ways_is_refused_with_what_is_missing() {
        for (text, missing) in [
            ("20261123T104100", "says no time zone"),
            ("2026-11-23 10:41", "says no time zone"),
            ("2026-11-23", "says no time of day"),
            ("23.11.2026 10:41", "such as 2027-01-31T18:00:00Z"),
            ("11/12/2026", "such as 2027-01-31T18:00:00Z"),
            ("1,795", "1 is 1970-01-01"),
            ("20261123", "not a duration"),
        ] {
            let reason = instant(text).unwrap_err();
            assert!(reason.contains(missing), "{text}: {reason}");
        }
    }

    #[test]
    fn a_lifetime_is_seconds_or_a_duration() {
        let cases = [("129600", 129_600), ("36h", 129_600), ("1day 12h", 129_600)];
        for (text, seconds) in cases {
            let lifetime = When::AfterFirstBoot(Duration::from_secs(seconds));
            assert_eq!(When::from_lifetime(text), lifetime, "{text:?}");
        }
        for text in [
            "",
            "0",
            "0s",
            "-5",
            "1e30",
            "99999999999999999999",
            "36 hours ago",
            "1ms",
        ] {
            let when = When::from_lifetime(text);
            assert!(matches!(when, When::Unusable(_)), "{text:?} gave {when:?}");
        }
    }
}
