//! The turns in which the sources are asked: whose is next, and what comes of each.

use std::time::{Duration, Instant};

use super::answer::{Answer, NoAnswer};
use super::instance::SourceAsked;
use super::machine_features::Locations;
use super::{azure, config_drive, google, openstack};
use crate::config::Source;
use crate::deadline::origin::LimitSource;
use crate::http::Cause;
use crate::{backoff, clock, text, url};

/// The name under which Machine/Job Features are reported.
pub const MACHINE_FEATURES: &str = "machine-features";

/// What became of asking one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// As the configuration calls it, or [`MACHINE_FEATURES`].
    pub source: String,
    /// The source of the limits among its answer.
    pub gives: LimitSource,
    /// The URL, device or directory.
    pub place: String,
    /// From the first try to the answer or to giving up.
    pub took: Duration,
    /// None were made where another source found nobody at the same address.
    pub tries: u32,
    /// The error says what was asked, the last cause, how often and how long.
    pub result: Result<Answer, String>,
    /// The service asks to be left alone for so long.
    pub retry_after: Option<Duration>,
    /// It answered, with something that is not what was asked for.
    pub is_garbage: bool,
}

impl Asked {
    pub(crate) fn took_ms(&self) -> u64 {
        u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)
    }

    /// What time it was by the answer's `Date` when the asking began, in Unix seconds.
    pub(crate) fn date_at_start(&self) -> Option<u64> {
        let date = self.result.as_ref().ok()?.date?;
        Some(clock::earlier(date, self.took))
    }

    /// As the status document shows it.
    pub(crate) fn published(&self) -> SourceAsked {
        SourceAsked {
            source: self.source.clone(),
            took_ms: self.took_ms(),
            error: self.result.as_ref().err().cloned(),
        }
    }
}

/// Whether a source that did not answer is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Yes, and early in a boot even a 404 may be one for the moment only.
    Early,
    /// Unless what it said is an answer, such as a 404.
    Yes,
    /// One try is enough.
    Never,
}

/// For so long after the kernel's start the service may not know an instance yet.
const EARLY: Duration = Duration::from_secs(5 * 60);

impl Again {
    /// Early, or not, by how long this system is up.
    pub(crate) fn by_uptime(uptime: Duration) -> Again {
        match uptime < EARLY {
            true => Again::Early,
            false => Again::Yes,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Who {
    Source(Source),
    /// Where they are, and which places were passed over, with the reasons.
    Features(Locations, Vec<String>),
}

impl Who {
    /// The sources that one service at one address gives the answers of.
    fn is_on_the_service(&self) -> bool {
        matches!(self, Who::Source(source) if *source != Source::ConfigDrive)
    }
}

/// One source while it is being asked.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) who: Who,
    started: Instant,
    took: Duration,
    tries: u32,
    pub(super) due: Instant,
    /// Of the last try.
    pub(super) outcome: Option<Result<Answer, NoAnswer>>,
    /// There will be no further try.
    settled: bool,
}

impl Turn {
    pub(super) fn new(who: Who, now: Instant) -> Turn {
        Turn {
            who,
            started: now,
            took: Duration::ZERO,
            tries: 0,
            due: now,
            outcome: None,
            settled: false,
        }
    }

    fn cause(&self) -> Option<&Cause> {
        match &self.outcome {
            Some(Err(NoAnswer::Http(failure))) => Some(&failure.cause),
            _ => None,
        }
    }

    fn has_answered(&self) -> bool {
        matches!(self.outcome, Some(Ok(_)))
    }

    pub(super) fn report(self, base: &str) -> Asked {
        let (source, gives, mut place) = match &self.who {
            Who::Source(source) => (source.to_string(), gives(*source), place(*source, base)),
            Who::Features(locations, _) => (
                MACHINE_FEATURES.into(),
                LimitSource::MachineFeatures,
                locations.place(),
            ),
        };
        if let Some(Ok(Answer {
            place: Some(found), ..
        })) = &self.outcome
        {
            place.clone_from(found);
        }
        let failure = self
            .outcome
            .as_ref()
            .and_then(|outcome| outcome.as_ref().err());
        let retry_after = match &self.outcome {
            Some(Ok(answer)) => answer.retry_after,
            _ => failure.and_then(NoAnswer::retry_after),
        };
        let is_garbage = failure.is_some_and(NoAnswer::is_garbage);
        let (tries, took) = (self.tries, self.took);
        let result = match self.outcome {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(NoAnswer::Http(failure))) => Err(match tries {
                0 => format!("not asked: {failure}"),
                1 => format!("{failure} (1 try in {took:.1?})"),
                _ => format!("{failure} ({tries} tries in {took:.1?})"),
            }),
            Some(Err(NoAnswer::Local(why))) => Err(why),
            None => Err("not asked: no time was left".into()),
        };
        Asked {
            source,
            gives,
            place: text::printable(&place),
            took,
            tries,
            // A URL or a directory in it may be what `meta` names.
            result: result.map_err(|why| text::printable(&why)),
            retry_after,
            is_garbage,
        }
    }
}

pub(super) fn gives(source: Source) -> LimitSource {
    match source {
        Source::ConfigDrive => LimitSource::ConfigDrive,
        Source::Openstack => LimitSource::Openstack,
        Source::Ec2 => LimitSource::Ec2,
        Source::Google => LimitSource::Google,
        Source::Azure => LimitSource::Azure,
    }
}

fn place(source: Source, base: &str) -> String {
    let base = url::shown(base);
    match source {
        Source::ConfigDrive => config_drive::PLACE.into(),
        Source::Openstack => format!("{base}/{}", openstack::PATH),
        Source::Ec2 => format!("{base}/latest/meta-data/"),
        Source::Google => format!("{base}/{}", google::PATH),
        Source::Azure => format!("{base}/{}", azure::PATH),
    }
}

/// The one that is due first, in the configured order among equals.
pub(super) fn next_turn(turns: &[Turn]) -> Option<usize> {
    let open = turns.iter().enumerate().filter(|(_, turn)| !turn.settled);
    open.min_by_key(|(_, turn)| turn.due)
        .map(|(index, _)| index)
}

/// Notes what came of a try: whether and when there is another, and what it says about
/// other sources.
pub(super) fn note(
    turns: &mut [Turn],
    index: usize,
    outcome: Result<Answer, NoAnswer>,
    end: Instant,
    again: Again,
) {
    let now = Instant::now();
    let turn = &mut turns[index];
    turn.tries += 1;
    turn.took = now.saturating_duration_since(turn.started);
    turn.outcome = Some(outcome);
    let wait = turn
        .cause()
        .filter(|_| again != Again::Never)
        .and_then(|cause| {
            let left = end.saturating_duration_since(now);
            backoff::wait_before_next_try(
                cause,
                turn.tries,
                backoff::jitter(),
                again == Again::Early,
                left,
            )
        });
    match wait {
        Some(wait) => turn.due = now + wait,
        None => turn.settled = true,
    }
    if turn.who.is_on_the_service() {
        share_fate(turns, index);
    }
}

/// The answers of all clouds come from one address. Where nobody is there for one of them
/// nobody is for another. Where one answers and the other is a 404, that one
/// is not a question of time.
fn share_fate(turns: &mut [Turn], index: usize) {
    let nobody_is_there = matches!(turns[index].cause(), Some(Cause::Unreachable(_)));
    let (due, settled) = (turns[index].due, turns[index].settled);
    let outcome = turns[index].outcome.clone();
    let answered = turns
        .iter()
        .any(|turn| turn.who.is_on_the_service() && turn.has_answered());
    for (other, turn) in turns.iter_mut().enumerate() {
        if turn.settled || !turn.who.is_on_the_service() {
            continue;
        }
        if nobody_is_there && other != index {
            turn.outcome = outcome.clone();
            turn.due = due;
            turn.settled = settled;
        } else if answered && matches!(turn.cause(), Some(Cause::Status(404, _))) {
            turn.settled = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_in_the_first_minutes_is_a_404_one_for_the_moment() {
        let at = |minutes: u64| Again::by_uptime(Duration::from_secs(minutes * 60));
        assert_eq!(
            [at(0), at(4), at(5)],
            [Again::Early, Again::Early, Again::Yes]
        );
    }
}
