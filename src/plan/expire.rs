//! `plan expire`: which servers are past their end, and which have none.
//!
//! The limits are those that vmstage follows in the guest, read by the same code. There a
//! lifetime counts from the first boot; from outside, from the launch.

use std::time::Duration;

use serde_json::{Value, json};

use super::Answer;
use super::input::Document;
use super::servers::{self, LIST, Server};
use crate::clock;
use crate::deadline::limit::When;
use crate::order::sort_by_key;
use crate::text;

const NONE_OVERDUE: u8 = 0;
const CANNOT_TELL: u8 = 1;
const SOME_OVERDUE: u8 = 10;

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Table,
    /// Those that delete what is overdue, after the table as a comment of the shell.
    Commands,
    Json,
}

/// Decides from `server list` and `server show`, at this Unix second.
///
/// # Errors
///
/// What is wrong with them.
pub(crate) fn answer(documents: &[Document], output: Output, now: u64) -> anyhow::Result<Answer> {
    let servers = servers::read(documents)?;
    let mut judged: Vec<(State, &Server)> = Vec::new();
    judged.extend(servers.iter().map(|server| (judge(server, now), server)));
    sort_by_key(&mut judged, |(state, server)| {
        (urgency(state, server), &server.name)
    });
    let count = |wanted: fn(&State, &Server) -> bool| {
        judged
            .iter()
            .filter(|(state, server)| wanted(state, server))
            .count()
    };
    let overdue = count(|state, _| matches!(state, State::Overdue(_)));
    let untold = count(|state, _| matches!(state, State::Untold(_)));
    let counts = [
        (overdue, "overdue"),
        (count(|_, server| server.status == IN_ERROR), "in ERROR"),
        (
            count(|state, _| matches!(state, State::Unlimited(_))),
            "without a limit",
        ),
        (untold, "of which it cannot be told"),
    ];
    let is_overdue = |(state, _): &&(State, &Server)| matches!(state, State::Overdue(_));
    let delete = |(_, server): &(State, &Server)| format!("openstack server delete {}", server.id);
    let commands: Vec<String> = judged.iter().filter(is_overdue).map(delete).collect();
    let mut warnings = Vec::new();
    if untold > 0 {
        warnings.push(format!(
            "Created At is missing, from which a lifetime counts: `{LIST}` prints it, and with \
             older clients `openstack server show -f json`"
        ));
    }
    let as_text = || {
        let mut text = table(&judged, now);
        text += &format!("\n{} servers", judged.len());
        for (number, what) in counts {
            text += &format!(", {number} {what}");
        }
        text + "\n"
    };
    Ok(Answer {
        text: match output {
            Output::Table => as_text(),
            Output::Commands => {
                let commands = commands.iter().map(|command| format!("{command}\n"));
                commented(&as_text()) + &commands.collect::<String>()
            }
            Output::Json => super::json(&json!({
                "servers": judged.iter().map(document).collect::<Vec<Value>>(),
                "commands": commands,
                "warnings": warnings,
            })),
        },
        exit_code: match (overdue, untold) {
            (1.., _) => SOME_OVERDUE,
            (0, 1..) => CANNOT_TELL,
            (0, 0) => NONE_OVERDUE,
        },
        warnings,
    })
}

/// Nova's word for a server that failed.
const IN_ERROR: &str = "ERROR";

/// An end, in Unix seconds, and what says so.
#[derive(Debug, Clone, PartialEq)]
struct End {
    at: u64,
    why: String,
}

#[derive(Debug, PartialEq)]
enum State {
    Overdue(End),
    Left(End),
    /// With what was given and cannot be used, if anything was.
    Unlimited(String),
    /// The input does not say since when it lives.
    Untold(String),
}

/// The smaller, the earlier somebody has to look.
fn urgency(state: &State, server: &Server) -> (u8, u64) {
    match state {
        State::Overdue(end) => (0, end.at),
        _ if server.status == IN_ERROR => (1, 0),
        State::Unlimited(_) => (2, 0),
        State::Untold(_) => (3, 0),
        State::Left(end) => (4, end.at),
    }
}

/// The earliest limit counts.
fn judge(server: &Server, now: u64) -> State {
    let since = match (server.launched, server.created) {
        (Some(launched), _) => Some((launched, "launched")),
        (None, Some(created)) => Some((created, "created")),
        (None, None) => None,
    };
    let mut first: Option<End> = None;
    let mut untold = None;
    let mut ignored = Vec::new();
    for limit in &server.limits {
        let key = &limit.origin.key;
        let end = match (&limit.when, since) {
            (When::At(at) | When::Reckoned(at), _) => End {
                at: *at,
                why: key.clone(),
            },
            (When::AfterFirstBoot(lifetime), Some((since, what))) => End {
                at: since.saturating_add(lifetime.as_secs()),
                why: format!(
                    "{key} of {}, {what} {}",
                    clock::span(*lifetime),
                    clock::utc(since)
                ),
            },
            (When::AfterFirstBoot(lifetime), None) => {
                let lifetime = clock::span(*lifetime);
                untold = Some(format!("{key} of {lifetime}, and no Created At"));
                continue;
            }
            // No cloud's notice is among what an instance was launched with.
            (When::AfterNotice(_), _) => continue,
            (When::Unusable(reason), _) => {
                ignored.push(format!("{key}: {reason}"));
                continue;
            }
        };
        if first.as_ref().is_none_or(|first| end.at < first.at) {
            first = Some(end);
        }
    }
    match (first, untold) {
        (Some(end), _) if end.at <= now => State::Overdue(end),
        (_, Some(why)) => State::Untold(why),
        (Some(end), None) => State::Left(end),
        (None, None) => {
            if server.has_features {
                ignored.push("what machinefeatures or jobfeatures say is not known here".into());
            }
            State::Unlimited(ignored.join("; "))
        }
    }
}

fn table(judged: &[(State, &Server)], now: u64) -> String {
    let rows = judged.iter().map(|(state, server)| {
        let span = |from: u64, to: u64| clock::span(Duration::from_secs(to.saturating_sub(from)));
        let (end, words, why) = match state {
            State::Overdue(end) => (
                clock::utc(end.at),
                format!("overdue for {}", span(end.at, now)),
                &end.why,
            ),
            State::Left(end) => (
                clock::utc(end.at),
                format!("{} left", span(now, end.at)),
                &end.why,
            ),
            State::Unlimited(why) => ("-".into(), "no limit".into(), why),
            State::Untold(why) => ("-".into(), "cannot be told".into(), why),
        };
        [
            server.id.clone(),
            text::excerpt(&server.name),
            text::excerpt(&server.status),
            end,
            words,
            text::excerpt(why),
        ]
    });
    text::table(&["ID", "NAME", "STATUS", "END", "STATE", "WHY"], rows)
}

fn document((state, server): &(State, &Server)) -> Value {
    let (state, end, why) = match state {
        State::Overdue(end) => ("overdue", Some(end.at), &end.why),
        State::Left(end) => ("left", Some(end.at), &end.why),
        State::Unlimited(why) => ("no limit", None, why),
        State::Untold(why) => ("cannot be told", None, why),
    };
    json!({
        "id": server.id,
        "name": server.name,
        "status": server.status,
        "state": state,
        "end": end.map(clock::utc),
        "why": why,
    })
}

/// As comments of the shell: a server's name begins no line.
fn commented(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| format!("# {line}").trim_end().to_string() + "\n");
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::deadline::limit;
    use crate::deadline::origin::LimitSource;

    const NOW: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;

    fn server(created: Option<u64>, launched: Option<u64>, properties: &[(&str, &str)]) -> Server {
        let pairs = properties
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        let properties: BTreeMap<String, String> = pairs.collect();
        Server {
            created,
            launched,
            limits: limit::plain_keys(&properties, LimitSource::Openstack),
            has_features: properties.contains_key("machinefeatures"),
            ..Server::default()
        }
    }

    #[test]
    fn the_earliest_of_lifetime_and_deadline_counts() {
        let (lifetime, deadline) = ("vmstage_lifetime", "vmstage_deadline");
        let (ago, now, later) = (
            (NOW - HOUR).to_string(),
            NOW.to_string(),
            (NOW + HOUR).to_string(),
        );
        let created = Some(NOW - 10 * HOUR);
        let launched = Some(NOW - 9 * HOUR);
        let overdue = |at: u64| (0, at);
        let left = |at: u64| (4, at);
        let (unlimited, untold) = ((2, 0), (3, 0));
        // created, launched, properties; and the state with its time.
        type Case<'a> = (
            Option<u64>,
            Option<u64>,
            &'a [(&'a str, &'a str)],
            (u8, u64),
        );
        let cases: [Case; 18] = [
            (created, launched, &[(lifetime, "9h")], overdue(NOW)),
            (created, launched, &[(lifetime, "32401")], left(NOW + 1)),
            // Without a launch, since it was asked for.
            (created, None, &[(lifetime, "9h")], overdue(NOW - HOUR)),
            (created, None, &[(lifetime, "11h")], left(NOW + HOUR)),
            (None, launched, &[(lifetime, "9h")], overdue(NOW)),
            (None, None, &[(lifetime, "9h")], untold),
            (None, None, &[(deadline, &ago)], overdue(NOW - HOUR)),
            (None, None, &[(deadline, &now)], overdue(NOW)),
            (None, None, &[(deadline, &later)], left(NOW + HOUR)),
            (None, None, &[(deadline, &later), (lifetime, "9h")], untold),
            (
                None,
                None,
                &[(deadline, &ago), (lifetime, "9h")],
                overdue(NOW - HOUR),
            ),
            (
                created,
                launched,
                &[(deadline, &later), (lifetime, "1h")],
                overdue(NOW - 8 * HOUR),
            ),
            (
                created,
                launched,
                &[(deadline, &ago), (lifetime, "100h")],
                overdue(NOW - HOUR),
            ),
            (created, launched, &[], unlimited),
            (created, launched, &[("owner", "anna")], unlimited),
            // As in the guest, what cannot be used is no limit.
            (
                created,
                launched,
                &[(lifetime, "soon"), (deadline, "86400")],
                unlimited,
            ),
            (
                created,
                launched,
                &[(lifetime, "soon"), (deadline, &later)],
                left(NOW + HOUR),
            ),
            (created, Some(u64::MAX), &[(lifetime, "9h")], left(u64::MAX)),
        ];
        for (created, launched, properties, expected) in cases {
            let server = server(created, launched, properties);
            let state = judge(&server, NOW);
            assert_eq!(
                urgency(&state, &server),
                expected,
                "{created:?} {launched:?} {properties:?}: {state:?}"
            );
        }
    }

    #[test]
    fn why_there_is_no_limit_is_said() {
        for (properties, words) in [
            (
                &[("vmstage_lifetime", "soon")],
                "vmstage_lifetime: \"soon\" is not a duration",
            ),
            (
                &[("vmstage_deadline", "86400")],
                "Unix seconds are wanted, not a duration",
            ),
            (&[("machinefeatures", "http://mf/")], "not known here"),
        ] {
            let State::Unlimited(why) = judge(&server(None, None, properties), NOW) else {
                panic!("{properties:?}");
            };
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        let listed = |text: &str| Document::parse_all("servers.json", text.as_bytes()).unwrap();
        let one = |lifetime: &str, created: &str| {
            format!(
                r#"{{"ID": "s{lifetime}", "Name": "n", "Status": "ACTIVE", "Created At": {created},
                    "Properties": {{"vmstage_lifetime": "{lifetime}"}}}}"#
            )
        };
        let created = "\"2027-01-15T00:00:00Z\""; // eight hours ago
        let (overdue, left) = (one("7h", created), one("9h", created));
        let untold = one("1h", "null");
        for (text, exit_code) in [
            ("[]".to_string(), 0),
            (format!("[{left}]"), 0),
            (format!("[{left}, {overdue}]"), 10),
            (format!("[{left}, {untold}]"), 1),
            (format!("[{overdue}, {untold}]"), 10),
            // As `server show` prints them, one after the other.
            (format!("{overdue}\n{left}"), 10),
        ] {
            let answer = answer(&listed(&text), Output::Table, NOW).unwrap();
            assert_eq!(answer.exit_code, exit_code, "{}", answer.text);
        }
        let said = answer(
            &listed(&format!("[{left}, {overdue}]")),
            Output::Commands,
            NOW,
        )
        .unwrap();
        let commands: Vec<&str> = said
            .text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert_eq!(commands, ["openstack server delete s7h"], "{}", said.text);
        let text = format!("[{left}, {overdue}, {untold}]");
        let said = answer(&listed(&text), Output::Json, NOW).unwrap();
        let document: Value = serde_json::from_slice(said.text.as_bytes()).unwrap();
        assert_eq!(document["commands"], json!(["openstack server delete s7h"]));
        let states = [0, 1, 2].map(|at| document["servers"][at]["state"].clone());
        assert_eq!(states, ["overdue", "cannot be told", "left"]);
        assert_eq!(document["servers"][0]["end"], clock::utc(NOW - HOUR));
        assert_eq!(document["servers"][1]["end"], Value::Null);
        assert_eq!(document["warnings"].as_array().unwrap().len(), 1);
    }
}
