//! `vmstage end`: a limit of this machine's own, set by its operator.

use std::process;
use std::time::Duration;

use anyhow::{Context, anyhow};
use log::warn;
use nix::unistd::geteuid;

use super::{configuration, status as status_command};
use crate::cli::{self, EndArgs, Rehearse};
use crate::clock::{self, Now};
use crate::config::Config;
use crate::deadline::follower::Follower;
use crate::deadline::limit;
use crate::deadline::order::{self, Acknowledgement, End, Order, Purpose, Request};
use crate::deadline::origin::LimitSource;
use crate::deadline::records;
use crate::failure::Failure;
use crate::host::silent::{self, Expected};
use crate::host::{Host, locks, wait, watch_process};
use crate::status::Deadline;

/// How long `watch` may take to say that it has heard.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// An end that is further away is a mistake of its unit or its year.
const FURTHEST: Duration = Duration::from_secs(180 * 24 * 3600);

/// Has `watch` follow an order, or forget it, and says what will happen.
///
/// # Errors
///
/// That nothing was ordered, and why.
#[inline(never)]
pub fn run(host: &Host, arguments: EndArgs) -> Result<u8, Failure> {
    if !geteuid().is_root() {
        return Err(Failure::Other(anyhow!("end must be run as root")));
    }
    silent::expect(host, Expected::OnAnyDisk);
    let is_cancel = arguments.after.is_none() && arguments.at.is_none();
    let config = match configuration::load(host, arguments.config.file.as_deref()) {
        Ok(config) => config,
        // Nobody is to lose the machine for a slip of the pen.
        Err(wrong) if is_cancel => {
            warn!("the configuration is wrong, and does not matter here: {wrong}");
            Config::default()
        }
        Err(wrong) => return Err(Failure::Config(wrong)),
    };
    let _turn = locks::lock(&host.runtime_directory().join("end.lock"));
    let now = host.now();
    let follower = records::follow(host, &config.deadline, now);
    let order = order(&arguments, &follower, now)?;
    let before = follower.order(now);
    let watch = watch_process::find(host)?;
    if order.is_none() && before.is_none() {
        return Err(Failure::Other(anyhow!(
            "there is nothing to cancel: no order of vmstage end holds"
        )));
    }
    let request = Request {
        id: format!("{}-{}", now.uptime.as_millis(), process::id()),
        order,
    };
    hand_over(host, &request)?;
    watch.wake()?;
    let heard = wait_until_heard(host, &request);
    if let (Some(earlier), true) = (&before, request.order.is_some()) {
        let origin = earlier.order.origin();
        cli::print(&format!("this replaces an earlier order: {origin}\n"))?;
    }
    cli::print(&outcome(host, &config, &request))?;
    match heard {
        Some(heard) => heard.said.iter().for_each(|words| warn!("{words}")),
        None => say_that_it_was_not_heard_yet(host)?,
    }
    Ok(0)
}

/// Writes it where `watch` reads it.
fn hand_over(host: &Host, request: &Request) -> anyhow::Result<()> {
    let file = records::request(host);
    let written = match request.order {
        Some(_) => records::keep(&file, request),
        None => records::cancel(host, request),
    };
    written.with_context(|| format!("cannot write {}", file.path().display()))
}

/// What is asked for; None to cancel.
fn order(arguments: &EndArgs, follower: &Follower, now: Now) -> Result<Option<Order>, Failure> {
    let end = match (arguments.after, &arguments.at) {
        (Some(after), _) => End::Uptime(now.uptime + not_too_far(after)?),
        (None, Some(text)) => End::At(time(text, follower.time(now).unix)?),
        (None, None) => return Ok(None),
    };
    let purpose = match (arguments.rehearse, arguments.drain_only) {
        (Some(Rehearse::Spot), _) => Purpose::RehearseSpot,
        (None, true) => Purpose::DrainOnly,
        (None, false) => Purpose::End,
    };
    Ok(Some(Order {
        end,
        given: now.uptime,
        given_at: follower.time(now).unix,
        purpose,
        reason: arguments.reason.as_deref().and_then(order::reason),
        is_to_be_kept: arguments.keep,
    }))
}

fn not_too_far(after: Duration) -> Result<Duration, Failure> {
    match after <= FURTHEST {
        true => Ok(after),
        false => Err(Failure::Usage(format!(
            "that is {} ahead, and more than {} is taken for a mistake",
            clock::span(after),
            clock::span(FURTHEST)
        ))),
    }
}

/// The Unix second that a text means.
fn time(text: &str, now: u64) -> Result<u64, Failure> {
    let at = limit::instant(text).map_err(Failure::Usage)?;
    match at.checked_sub(now) {
        Some(ahead) => not_too_far(Duration::from_secs(ahead)).map(|_| at),
        None => Err(Failure::Usage(format!(
            "{} is in the past ({}); `--in 0s` ends this machine at once",
            clock::for_people(at),
            clock::relative(at, now)
        ))),
    }
}

/// None where `watch` says nothing in time.
fn wait_until_heard(host: &Host, request: &Request) -> Option<Acknowledgement> {
    wait::until(PATIENCE, LOOK_AGAIN, || {
        let heard = records::acknowledgement(host).read().ok().flatten();
        heard.filter(|heard| heard.id == request.id)
    })
}

/// It is in a request of its own, say, and looks after that.
fn say_that_it_was_not_heard_yet(host: &Host) -> Result<(), Failure> {
    match watch_process::find(host) {
        Ok(_) => {
            warn!("ordered; vmstage watch has not said so yet, it will");
            Ok(())
        }
        Err(e) => Err(Failure::Other(e.context(
            "it is written down, and the next vmstage watch of this boot will carry it out",
        ))),
    }
}

/// What will happen, and when.
fn outcome(host: &Host, config: &Config, request: &Request) -> String {
    let now = host.now();
    let follower = records::follow(host, &config.deadline, now);
    let deadline = follower.decide(now).published(config.deadline.action);
    let mut text = match &request.order {
        None => "cancelled\n".to_string(),
        Some(order) => heading(order).to_string(),
    };
    let is_by_operator = |deadline: &Deadline| deadline.given_by().source == LimitSource::Operator;
    if request.order.is_some() && !deadline.as_ref().is_some_and(is_by_operator) {
        text += "an earlier deadline holds all the same:\n";
    }
    text += &match &deadline {
        Some(deadline) => status_command::deadline_text(deadline, follower.time(now).unix),
        None => "there is no deadline any more\n".to_string(),
    };
    if request.order.is_some() {
        text += &match config.deadline.drain.is_empty() {
            true => "drain     none is configured\n".to_string(),
            false => format!("drain     {}\n", config.deadline.drain.join(" ")),
        };
    }
    text
}

fn heading(order: &Order) -> &'static str {
    match order.purpose {
        Purpose::RehearseSpot => "a rehearsal of a notice, and nothing is ended:\n",
        Purpose::DrainOnly => "no new work and drain, and no power-off:\n",
        Purpose::End => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_time_is_taken_in_the_forms_of_metadata_and_neither_from_the_past_nor_far_ahead() {
        assert_eq!(time(&(NOW + 60).to_string(), NOW).unwrap(), NOW + 60);
        assert_eq!(time("2027-01-15T08:01:00Z", NOW).unwrap(), NOW + 60);
        for (text, words) in [
            ("soon", "neither Unix seconds nor a time"),
            ("1799999990", "in the past (10 s ago)"),
            ("2030-01-15T08:01:00Z", "taken for a mistake"),
            ("86400", "not a duration"),
        ] {
            let failure = time(text, NOW).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{text}");
            assert!(failure.to_string().contains(words), "{failure}");
        }
    }

    #[test]
    fn a_duration_of_a_year_is_a_mistake() {
        let day = Duration::from_secs(86_400);
        assert!(not_too_far(180 * day).is_ok());
        assert_eq!(not_too_far(365 * day).unwrap_err().exit_code(), 2);
    }
}
