//! What an operator ordered with `vmstage end`. Pure.
//!
//! An order is a limit of this machine's own. It holds in the boot in which it was given; one
//! that is kept holds after a reboot as well, on the machine on which it was given and on no
//! other that was launched from an image of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_trust::{ClockTrust, Time};
use super::identity::{Names, is_same};
use super::limit::{Limit, LimitKind, When};
use super::origin::{LimitSource, Origin};
use crate::clock::Now;
use crate::text;

/// As many characters of a reason as are kept.
const LONGEST_REASON: usize = 200;

/// The key of the limit that such an order is.
pub(crate) const DRAIN_ONLY: &str = "vmstage end --drain-only";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) end: End,
    /// The uptime at which it was given, and the same in Unix seconds.
    pub(crate) given: Duration,
    pub(crate) given_at: u64,
    pub(crate) purpose: Purpose,
    pub(crate) reason: Option<String>,
    /// It is to hold after a reboot.
    pub(crate) is_to_be_kept: bool,
}

/// When an order's time is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    /// At this uptime, whatever the clocks say.
    Uptime(Duration),
    /// Unix seconds.
    At(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Purpose {
    /// The configured action is done.
    End,
    /// Grace and drain, and no power-off whatever is configured.
    DrainOnly,
    /// As EC2's notice of two minutes, and nothing is ended.
    RehearseSpot,
}

/// What `vmstage end` asked for last in this boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// By which `watch` acknowledges it.
    pub(crate) id: String,
    /// None to cancel.
    pub(crate) order: Option<Order>,
}

/// An order that holds after a reboot, and whose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptOrder {
    id: String,
    /// Unix seconds.
    at: u64,
    purpose: Purpose,
    reason: Option<String>,
    machine: Option<String>,
    uuid: Option<String>,
    /// The boot in which it did all that it was to do: it holds in no later one.
    #[serde(default)]
    done_in: Option<String>,
}

/// What `watch` says of a request that it has taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Acknowledgement {
    pub(crate) id: String,
    /// For the operator.
    pub(crate) said: Vec<String>,
}

/// What was found of orders.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Orders {
    pub(crate) request: Option<Request>,
    pub(crate) kept: Option<KeptOrder>,
}

/// The order that holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    pub(crate) id: String,
    pub(crate) order: Order,
    /// It was given in an earlier boot.
    pub(crate) is_of_earlier_boot: bool,
}

impl Orders {
    /// The order that holds on the machine with these names. A kept one does where nothing was
    /// asked for in this boot.
    pub(crate) fn standing(&self, names: &Names, clock: &ClockTrust, now: Now) -> Option<Standing> {
        let standing = match (&self.request, &self.kept) {
            (Some(request), _) => Standing {
                id: request.id.clone(),
                order: request.order.clone()?,
                is_of_earlier_boot: false,
            },
            (None, Some(kept)) if kept.is_of(names) => Standing {
                id: kept.id.clone(),
                order: kept.order(),
                is_of_earlier_boot: true,
            },
            _ => return None,
        };
        (!standing.order.is_over(clock, now)).then_some(standing)
    }

    /// What is to be kept for the next boot. Where nothing was asked for in this boot what is
    /// kept stays.
    pub(crate) fn to_keep(&self, names: &Names, clock: &ClockTrust) -> Option<KeptOrder> {
        let Some(request) = &self.request else {
            return self.kept.clone();
        };
        let order = request.order.as_ref().filter(|o| o.is_to_be_kept)?;
        names.has_uuid().then(|| KeptOrder {
            id: request.id.clone(),
            at: order.end.unix(clock),
            purpose: order.purpose,
            reason: order.reason.clone(),
            machine: names.machine.clone(),
            uuid: names.uuid.clone(),
            done_in: None,
        })
    }
}

impl KeptOrder {
    /// Whether it may hold in this boot.
    pub(crate) fn holds_in(&self, boot_id: &str) -> bool {
        self.done_in.as_ref().is_none_or(|done| done == boot_id)
    }

    pub(crate) fn mark_done_in(&mut self, boot_id: &str) {
        self.done_in = Some(boot_id.into());
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done_in.is_some()
    }

    /// What was done of an order is done, also where its time is believed to be another.
    pub(crate) fn done_as(mut self, before: Option<&KeptOrder>) -> KeptOrder {
        let before = before.filter(|before| before.id == self.id);
        self.done_in = before.and_then(|before| before.done_in.clone());
        self
    }

    /// Whether it was given on the machine with these names: one of its names is known to be
    /// the same, and none to be another.
    fn is_of(&self, names: &Names) -> bool {
        let pairs = [(&self.machine, &names.machine), (&self.uuid, &names.uuid)];
        let known = pairs.iter().filter_map(|(kept, own)| {
            let (kept, own) = (kept.as_ref()?, own.as_ref()?);
            Some(is_same(kept, own))
        });
        let compared: Vec<bool> = known.collect();
        !compared.is_empty() && compared.iter().all(|same| *same)
    }

    fn order(&self) -> Order {
        Order {
            end: End::At(self.at),
            given: Duration::ZERO,
            given_at: 0,
            purpose: self.purpose,
            reason: self.reason.clone(),
            is_to_be_kept: true,
        }
    }
}

impl Order {
    /// As the limit that it is.
    pub(crate) fn limit(&self, clock: &ClockTrust) -> Limit {
        Limit {
            kind: self.purpose.kind(),
            ..Limit::new(self.origin(), self.end.when(clock))
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        let origin = Origin::new(LimitSource::Operator, self.purpose.key());
        Origin {
            detail: self.reason.clone(),
            ..origin
        }
    }

    /// A rehearsal begins its grace at once, however long it is.
    pub(crate) fn grace(&self, configured: Duration, clock: &ClockTrust) -> Duration {
        match self.purpose {
            Purpose::RehearseSpot => {
                let lasts = self
                    .end
                    .unix(clock)
                    .saturating_sub(clock.unix_at(self.given));
                configured.max(Duration::from_secs(lasts))
            }
            Purpose::End | Purpose::DrainOnly => configured,
        }
    }

    /// The uptime at which its time is over, where that does not depend on the clock: an order
    /// for a time does not as long as the clock was set after it and is not trusted anew.
    pub(crate) fn end_by_uptime(
        &self,
        time: Time,
        min_uptime: Duration,
        now: Now,
    ) -> Option<Duration> {
        let was_set = now.uptime.saturating_sub(time.trusted_for) > self.given;
        match self.end {
            End::Uptime(end) => Some(end),
            End::At(at) if was_set && time.trusted_for < min_uptime => {
                let lasts = Duration::from_secs(at.saturating_sub(self.given_at));
                Some(self.given.saturating_add(lasts))
            }
            End::At(_) => None,
        }
    }

    /// A rehearsal is over with its time. What was meant holds until it is cancelled.
    fn is_over(&self, clock: &ClockTrust, now: Now) -> bool {
        let has_passed = match self.end {
            End::Uptime(end) => now.uptime >= end,
            End::At(end) => clock.time(now).unix >= end,
        };
        self.purpose == Purpose::RehearseSpot && has_passed
    }
}

impl End {
    /// A machine whose clock was never set ends all the same.
    fn when(self, clock: &ClockTrust) -> When {
        match self {
            End::Uptime(_) => When::Reckoned(self.unix(clock)),
            End::At(unix) => When::At(unix),
        }
    }

    /// By the clock that counts.
    fn unix(self, clock: &ClockTrust) -> u64 {
        match self {
            // Not before its time: the clock has whole seconds.
            End::Uptime(uptime) => clock.unix_at(uptime.saturating_add(Duration::from_millis(999))),
            End::At(unix) => unix,
        }
    }
}

impl Purpose {
    fn kind(self) -> LimitKind {
        match self {
            Purpose::End => LimitKind::Planned,
            Purpose::DrainOnly => LimitKind::DrainOnly,
            Purpose::RehearseSpot => LimitKind::Rehearsal,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Purpose::End => "vmstage end",
            Purpose::DrainOnly => DRAIN_ONLY,
            Purpose::RehearseSpot => "rehearsal of a spot notice",
        }
    }
}

/// An operator's reason as it may be shown; None where nothing is left of it.
pub(crate) fn reason(text: &str) -> Option<String> {
    let short: String = text.trim().chars().take(LONGEST_REASON).collect();
    (!short.is_empty()).then(|| text::printable(&short))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0e4d1c2b-8f6a-4b3c-9d1e-000000000001";
    const OTHER: &str = "0e4d1c2b-8f6a-4b3c-9d1e-000000000002";
    const BOOTED: u64 = 1_800_000_000;

    fn now(uptime: u64) -> Now {
        Now {
            wall: BOOTED + uptime,
            uptime: Duration::from_secs(uptime),
            vouched: false,
        }
    }

    fn clock() -> ClockTrust {
        ClockTrust::new(now(100))
    }

    fn names(machine: Option<&str>, uuid: Option<&str>) -> Names {
        Names {
            machine: machine.map(Into::into),
            uuid: uuid.map(Into::into),
            others: vec!["i-1".into()],
        }
    }

    fn order(purpose: Purpose) -> Order {
        Order {
            end: End::Uptime(Duration::from_secs(1300)),
            given: Duration::from_secs(100),
            given_at: BOOTED + 100,
            purpose,
            reason: Some("new disks".into()),
            is_to_be_kept: true,
        }
    }

    fn asked(order: Option<Order>) -> Orders {
        Orders {
            request: Some(Request {
                id: "1".into(),
                order,
            }),
            kept: None,
        }
    }

    #[test]
    fn an_order_is_a_limit_with_the_operators_reason_and_counts_by_the_clock_that_only_runs() {
        for (purpose, kind, text) in [
            (
                Purpose::End,
                LimitKind::Planned,
                "vmstage end (new disks) by the operator",
            ),
            (
                Purpose::DrainOnly,
                LimitKind::DrainOnly,
                "vmstage end --drain-only (new disks) by the operator",
            ),
            (
                Purpose::RehearseSpot,
                LimitKind::Rehearsal,
                "rehearsal of a spot notice (new disks) by the operator",
            ),
        ] {
            let limit = order(purpose).limit(&clock());
            assert_eq!(limit.when, When::Reckoned(BOOTED + 1300));
            assert_eq!(
                (limit.kind, limit.origin.to_string().as_str()),
                (kind, text)
            );
        }
    }

    #[test]
    fn a_rehearsal_begins_grace_at_once_and_is_over_with_its_time_and_nothing_else_is() {
        let grace = |purpose| {
            let configured = Duration::from_secs(600);
            order(purpose).grace(configured, &clock()).as_secs()
        };
        assert_eq!(grace(Purpose::RehearseSpot), 1200);
        assert_eq!((grace(Purpose::End), grace(Purpose::DrainOnly)), (600, 600));
        let stands = |purpose, uptime| {
            let orders = asked(Some(order(purpose)));
            let own = names(Some(UUID), None);
            orders.standing(&own, &clock(), now(uptime)).is_some()
        };
        assert!(stands(Purpose::RehearseSpot, 1299));
        assert!(!stands(Purpose::RehearseSpot, 1300));
        assert!(stands(Purpose::End, 9000) && stands(Purpose::DrainOnly, 9000));
    }

    #[test]
    fn a_kept_order_holds_on_its_machine_alone() {
        let kept =
            asked(Some(order(Purpose::End))).to_keep(&names(Some(UUID), Some(UUID)), &clock());
        assert!(kept.is_some());
        let swapped = "2B1C4D0E-6A8F-3C4B-9D1E-000000000001";
        for (own, holds) in [
            (names(Some(UUID), None), true),
            (names(None, Some(UUID)), true),
            (names(Some(UUID), Some(UUID)), true),
            (names(Some(swapped), None), true),
            (names(Some(OTHER), None), false),
            (names(Some(OTHER), Some(UUID)), false),
            // The board's UUID is the same, and the instance is another.
            (names(Some(UUID), Some(OTHER)), false),
            // An EC2 id may come again in another cloud.
            (names(None, None), false),
        ] {
            let orders = Orders {
                request: None,
                kept: kept.clone(),
            };
            let standing = orders.standing(&own, &clock(), now(100));
            assert_eq!(standing.is_some(), holds, "{own:?}");
            let limit = standing.map(|standing| standing.order.limit(&clock()).when);
            assert_eq!(limit, holds.then_some(When::At(BOOTED + 1300)), "{own:?}");
        }
    }

    #[test]
    fn what_is_asked_for_in_this_boot_replaces_what_is_kept() {
        let own = names(Some(UUID), None);
        let kept = asked(Some(order(Purpose::End))).to_keep(&own, &clock());
        let not_to_be_kept = Order {
            is_to_be_kept: false,
            ..order(Purpose::End)
        };
        for later in [None, Some(not_to_be_kept)] {
            let orders = Orders {
                kept: kept.clone(),
                ..asked(later.clone())
            };
            let standing = orders.standing(&own, &clock(), now(100));
            assert_eq!(standing.map(|standing| standing.order), later);
            assert_eq!(orders.to_keep(&own, &clock()), None);
        }
        let silent = Orders {
            request: None,
            kept: kept.clone(),
        };
        assert_eq!(silent.to_keep(&names(Some(OTHER), None), &clock()), kept);
    }

    #[test]
    fn where_nobody_knows_which_machine_this_is_nothing_is_kept() {
        let orders = asked(Some(order(Purpose::End)));
        assert_eq!(orders.to_keep(&names(None, None), &clock()), None);
    }

    #[test]
    fn a_reason_is_printable_and_short() {
        assert_eq!(
            reason(" new\n\x1b[2Jdisks "),
            Some("new\u{fffd}\u{fffd}[2Jdisks".into())
        );
        assert_eq!(reason(&"é".repeat(300)), Some("é".repeat(200)));
        assert_eq!((reason(""), reason(" \n")), (None, None));
    }
}
