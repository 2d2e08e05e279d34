//! `vmstage status`: the status document for people and scripts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use log::warn;

use super::configuration;
use crate::cli::{self, StatusFormat};
use crate::config::Action;
use crate::failure::Failure;
use crate::host::silent::{self, Expected};
use crate::host::{Host, wait};
use crate::report::console;
use crate::status;
use crate::status::{Amounts, Outcome, Resource, Resources, Status};
use crate::{clock, text as texts};

const POLL: Duration = Duration::from_millis(100);

/// Prints the status, and returns the exit code of the boot that wrote it. `wait` is
/// `Some(None)` to wait for however long it takes, or a number of seconds.
///
/// # Errors
///
/// That `boot` has not ended in this boot of the machine, or that its status cannot be read.
#[inline(never)]
pub fn run(
    host: &Host,
    config_file: Option<&Path>,
    format: StatusFormat,
    wait: Option<Option<u64>>,
) -> Result<u8, Failure> {
    silent::expect(host, Expected::BesideTheRoot);
    match configuration::load(host, config_file) {
        // That only root may read it says nothing about what is in it.
        Err(wrong) if !wrong.is_about_permission() => {
            warn!("the configuration is wrong, the next boot will fail: {wrong}");
        }
        _ => {}
    }
    let mut status = find(host, wait)?;
    if let Err(gone) = status.see_that_it_is_mounted(host) {
        status.outcome = Outcome::Failed;
        status.exit_code = gone.exit_code();
        status.error = Some(gone.to_string());
        status.staging = None;
        for directory in &mut status.directories {
            let gone = || "gone with the disk".into();
            directory.error.get_or_insert_with(gone);
        }
    }
    let text = match format {
        StatusFormat::Text => text(&status, clock::wall()),
        StatusFormat::Json => {
            let json = serde_json::to_string_pretty(&status).context("cannot write JSON")?;
            texts::printable_json(&json) + "\n"
        }
    };
    cli::print(&text)?;
    Ok(status.exit_code)
}

fn find(host: &Host, wait: Option<Option<u64>>) -> Result<Status, Failure> {
    let limit = match wait {
        None => Duration::ZERO,
        Some(None) => Duration::MAX,
        Some(Some(seconds)) => Duration::from_secs(seconds),
    };
    let mut last = Ok(None);
    let found = wait::until(limit, POLL, || {
        last = Status::read(host);
        last.as_mut().ok().and_then(Option::take)
    });
    match (found, last) {
        (Some(status), _) => Ok(status),
        (None, Err(e)) => Err(e.into()),
        (None, Ok(_)) => Err(Failure::Other(anyhow!(
            "there is no status of this boot in {}: vmstage boot has not finished, or not run; where it \
             was enabled just now, it runs at the next boot",
            status::path(host).display()
        ))),
    }
}

fn text(status: &Status, now: u64) -> String {
    let mut text = format!("{}\n", console::line(status, now));
    if let Some(staging) = &status.staging {
        text += &format!(
            "\n{} on {} ({}, {})\n{} of {} free when it was staged{}\n",
            staging.device,
            staging.mount_point.display(),
            staging.filesystem,
            staging.options,
            texts::bytes(staging.free_bytes),
            texts::bytes(staging.size_bytes),
            if staging.already_mounted {
                "; it was mounted already"
            } else {
                ""
            },
        );
        if !staging.made_of.is_empty() {
            text += &format!("made of {}\n", texts::all_of(&staging.made_of));
        }
        for place in &staging.also_mounted_on {
            text += &format!("also mounted on {}\n", place.display());
        }
    }
    text += &resources(status.resources.as_ref());
    if !status.directories.is_empty() {
        let rows = status.directories.iter().map(|directory| {
            [
                directory.path.display().to_string(),
                format!("{}:{}", directory.owner, directory.group),
                directory.mode.clone(),
                directory.error.clone().unwrap_or("in place".into()),
            ]
        });
        text += &format!(
            "\n{}",
            texts::table(&["DIRECTORY", "OWNER", "MODE", "STATE"], rows)
        );
    }
    if !status.verdicts.is_empty() {
        text += &format!("\n{}", verdicts(&status.verdicts));
    }
    text += &deadline_lines(status, now);
    if !status.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &status.warnings {
        text += &format!("warning: {}\n", texts::one_line(warning));
    }
    text += &format!(
        "\nstarted {}, finished {}, vmstage {}\n",
        status.started_at, status.finished_at, status.version
    );
    text
}

/// What was asked for and what there is; nothing where nobody asked.
fn resources(resources: Option<&Resources>) -> String {
    let Some(resources) = resources else {
        return String::new();
    };
    let in_words = |amounts: &Amounts| {
        let one = |resource: Resource| {
            Some(format!(
                "{} {}",
                resource.name(),
                amounts.in_words(resource)?
            ))
        };
        let all: Vec<String> = Resource::ALL.into_iter().filter_map(one).collect();
        all.join(", ")
    };
    let shortage = match resources.shortage() {
        Some(shortage) => format!("{shortage}\n"),
        None => String::new(),
    };
    format!(
        "\nasked for {} ({})\ngot       {}\n{shortage}",
        in_words(&resources.asked.amounts),
        resources.asked.by,
        in_words(&resources.got)
    )
}

/// When the VM goes away, who said so, and what then; nothing where nobody said.
pub(crate) fn deadline_lines(status: &Status, now: u64) -> String {
    if status.deadline.is_none() && status.ignored_limits.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n");
    if let Some(deadline) = &status.deadline {
        text += &deadline_text(deadline, now);
    }
    for limit in &status.ignored_limits {
        text += &format!("ignored   {}: {}\n", limit.origin, limit.reason);
    }
    text
}

/// When it is, who said so, and what happens then.
pub(crate) fn deadline_text(deadline: &status::Deadline, now: u64) -> String {
    let (verb, doubt) = match deadline.unconfirmed {
        true => (
            "last said",
            ", by one answer so far: nothing is done before a second says the same",
        ),
        false => ("confirmed", ""),
    };
    let said = deadline
        .confirmed_at
        .as_deref()
        .and_then(clock::parse_utc)
        .map_or(String::new(), |at| {
            format!(
                ", {verb} {} ago",
                clock::span(Duration::from_secs(now.saturating_sub(at)))
            )
        });
    let action = match deadline.action {
        Action::Report if deadline.rehearsal => "none: it is a rehearsal, and nothing is ended",
        Action::Report if deadline.is_drain_only() => {
            "none: only work has to end, and nothing is switched off"
        }
        Action::Report => "report: nobody ends this VM from inside",
        Action::Poweroff => "poweroff: this VM is ended from inside",
    };
    let grace = deadline.at.saturating_sub(deadline.grace_seconds);
    let site = deadline.site_grace_seconds;
    let ignored = site.filter(|site| *site < deadline.grace_seconds);
    let ignored = ignored.map_or(String::new(), |site| {
        format!(
            "; the site's grace of {} is shorter and does not count",
            clock::span(Duration::from_secs(site))
        )
    });
    format!(
        "deadline  {}, {}\norigin    {}{said}{doubt}\ngrace     no new work from {} on, {}{ignored}\naction    {action}\n",
        clock::for_people(deadline.at),
        clock::relative(deadline.at, now),
        deadline.origin,
        clock::for_people(grace),
        clock::relative(grace, now),
    )
}

/// The verdicts as a table.
pub(crate) fn verdicts(verdicts: &[status::Verdict]) -> String {
    let rows = verdicts.iter().map(|verdict| {
        [
            verdict.spec.clone(),
            verdict.device.clone().unwrap_or("-".into()),
            verdict.verdict.clone(),
            // Why it may be used, or why not.
            verdict
                .reason
                .clone()
                .or_else(|| verdict.evidence.clone())
                .unwrap_or_default(),
        ]
    });
    texts::table(&["SPEC", "DEVICE", "VERDICT", "REASON"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::limit::IgnoredLimit;
    use crate::report::example;

    #[test]
    fn what_was_asked_for_is_shown_with_what_there_is() {
        let status = example::short_of_scratch();
        let expected = "
asked for memory 1 GiB, cores 1, scratch 10 GiB (vmstage_request)
got       memory 1000 MiB, cores 1, scratch 5 GiB
short of scratch: 5 GiB of 10 GiB
";
        assert_eq!(resources(status.resources.as_ref()), expected);
        assert_eq!(resources(None), "");
    }

    #[test]
    fn a_deadline_is_shown_with_its_origin_grace_and_action() {
        let mut status = example::with_deadline();
        status.ignored_limits = vec![IgnoredLimit {
            origin: "vmstage_deadline in the openstack metadata".into(),
            given_by: None,
            reason: "\"soon\" is not a time".into(),
        }];
        let now = example::DEADLINE - 18_720;
        let expected = format!(
            "
deadline  {}, in 5 h 12 min
origin    vmstage_lifetime in the openstack metadata, confirmed 6 h 47 min ago
grace     no new work from {} on, in 5 h 2 min
action    poweroff: this VM is ended from inside
ignored   vmstage_deadline in the openstack metadata: \"soon\" is not a time
",
            clock::for_people(example::DEADLINE),
            clock::for_people(example::DEADLINE - 600),
        );
        assert_eq!(deadline_lines(&status, now), expected);
    }

    #[test]
    fn a_grace_of_the_sites_that_does_not_count_is_said() {
        let mut status = example::with_deadline();
        let said = "; the site's grace of 5 min 0 s is shorter and does not count\n";
        for (site, is_said) in [(None, false), (Some(300), true), (Some(600), false)] {
            status.deadline.as_mut().unwrap().site_grace_seconds = site;
            assert_eq!(
                deadline_lines(&status, 0).contains(said),
                is_said,
                "{site:?}"
            );
        }
    }

    #[test]
    fn a_deadline_of_one_answer_is_not_called_confirmed() {
        let mut status = example::with_deadline();
        status.deadline.as_mut().unwrap().unconfirmed = true;
        let shown = deadline_lines(&status, example::DEADLINE);
        let said = " ago, by one answer so far: nothing is done before a second says the same\n";
        assert!(
            shown.contains(", last said ") && shown.contains(said),
            "{shown}"
        );
        assert!(!shown.contains("confirmed"), "{shown}");
    }

    #[test]
    fn without_a_deadline_there_is_nothing_to_show() {
        assert_eq!(deadline_lines(&example::ready(), 0), "");
    }

    #[test]
    fn a_deadline_that_has_passed_is_shown_as_past() {
        let shown = deadline_lines(&example::with_deadline(), example::DEADLINE + 90);
        assert!(shown.contains(", 1 min 30 s ago\norigin"), "{shown}");
    }
}
