//! `vmstage metadata`: asks each source and prints what it said.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::configuration;
use crate::cli::{self, Format};
use crate::deadline::limit::{Limit, When};
use crate::deadline::origin::Origin;
use crate::failure::Failure;
use crate::host::Host;
use crate::host::silent::{self, Expected};
use crate::metadata::{Again, Answer, Asked, Instance, Metadata};
use crate::url;
use crate::{clock, text as texts};

/// Asks all configured sources.
///
/// # Errors
///
/// That the configuration is wrong, that none answered, or that nothing can be printed.
#[inline(never)]
pub fn run(host: &Host, config_file: Option<&Path>, format: Format) -> Result<u8, Failure> {
    silent::expect(host, Expected::BesideTheRoot);
    let config = configuration::load(host, config_file).map_err(Failure::Config)?;
    let mut metadata = Metadata::new(host, &config);
    let asked = metadata.ask(&metadata.sources(), config.metadata.timeout, Again::Yes);
    let text = match format {
        Format::Table if asked.is_empty() => String::new(),
        Format::Table => text(&asked),
        Format::Json => texts::printable_json(&json(&asked)?) + "\n",
    };
    cli::print(&text)?;
    if asked.iter().any(|asked| asked.result.is_ok()) {
        return Ok(0);
    }
    Err(Failure::Other(anyhow!(match asked.is_empty() {
        true => "no metadata source is asked, for metadata.sources names none",
        false =>
            "no metadata source answers, for the reason that is said of each; metadata.sources says \
             which are asked",
    })))
}

fn text(asked: &[Asked]) -> String {
    let rows = asked.iter().map(|asked| {
        let answer = match &asked.result {
            Ok(_) => format!("yes, in {} ms", asked.took.as_millis()),
            Err(why) => format!("no: {}", texts::excerpt(why)),
        };
        [asked.source.clone(), texts::excerpt(&asked.place), answer]
    });
    let mut text = texts::table(&["SOURCE", "ASKED", "ANSWERED"], rows);
    for asked in asked {
        if let Ok(answer) = &asked.result {
            text.push_str(&format!("\n{}\n{}", asked.source, details(answer)));
        }
    }
    text
}

fn details(answer: &Answer) -> String {
    let instance = &answer.instance;
    let identity = [
        ("instance id", &instance.id),
        ("name", &instance.name),
        ("project", &instance.project),
        ("availability zone", &instance.availability_zone),
        ("flavor", &instance.flavor),
        ("request", &instance.request),
    ];
    let identity = identity
        .into_iter()
        .filter_map(|(what, value)| Some((what, value.clone()?)));
    let meta = shown(&answer.meta)
        .into_iter()
        .map(|(key, value)| ("meta", format!("{key} = {value}")));
    let limits = answer.limits.iter().map(|limit| ("limit", in_words(limit)));
    let grace = answer.grace.map(|grace| ("grace", clock::span(grace)));
    let warnings = answer.warnings.iter().map(|w| ("warning", w.clone()));
    identity
        .chain(meta)
        .chain(limits)
        .chain(grace)
        .chain(warnings)
        .map(|(what, value)| format!("  {what:<17}  {}\n", texts::excerpt(&value)))
        .collect()
}

fn in_words(limit: &Limit) -> String {
    let origin = &limit.origin;
    match &limit.when {
        When::At(unix) | When::Reckoned(unix) => format!("{} ({origin})", clock::utc(*unix)),
        When::AfterNotice(lasts) => format!("in {} ({origin})", clock::span(*lasts)),
        When::AfterFirstBoot(lifetime) => {
            format!("{} from the first boot ({origin})", clock::span(*lifetime))
        }
        When::Unusable(reason) => format!("ignored: {reason} ({origin})"),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    sources: Vec<Source<'a>>,
}

#[derive(Serialize)]
struct Source<'a> {
    source: &'a str,
    place: &'a str,
    took_ms: u64,
    tries: u32,
    error: Option<&'a str>,
    answer: Option<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    instance: &'a Instance,
    meta: BTreeMap<String, String>,
    limits: Vec<ShownLimit<'a>>,
    grace_seconds: Option<u64>,
    warnings: &'a [String],
}

/// One of `at`, `seconds_from_first_boot` and `ignored` is not null.
#[derive(Serialize)]
struct ShownLimit<'a> {
    origin: String,
    given_by: &'a Origin,
    at: Option<u64>,
    at_utc: Option<String>,
    seconds_from_first_boot: Option<u64>,
    ignored: Option<&'a str>,
}

fn json(asked: &[Asked]) -> anyhow::Result<String> {
    let sources = asked
        .iter()
        .map(|asked| Source {
            source: &asked.source,
            place: &asked.place,
            took_ms: asked.took_ms(),
            tries: asked.tries,
            error: asked.result.as_ref().err().map(String::as_str),
            answer: asked.result.as_ref().ok().map(|answer| Shown {
                instance: &answer.instance,
                meta: shown(&answer.meta),
                limits: answer.limits.iter().map(shown_limit).collect(),
                grace_seconds: answer.grace.as_ref().map(Duration::as_secs),
                warnings: &answer.warnings,
            }),
        })
        .collect();
    serde_json::to_string_pretty(&Document { sources }).context("cannot write JSON")
}

fn shown_limit(limit: &Limit) -> ShownLimit<'_> {
    let mut shown = ShownLimit {
        origin: limit.origin.to_string(),
        given_by: &limit.origin,
        at: None,
        at_utc: None,
        seconds_from_first_boot: None,
        ignored: None,
    };
    match &limit.when {
        When::At(unix) | When::Reckoned(unix) => shown.at = Some(*unix),
        // It was heard just now.
        When::AfterNotice(lasts) => {
            shown.at = Some(clock::wall().saturating_add(lasts.as_secs()));
        }
        When::AfterFirstBoot(lifetime) => {
            shown.seconds_from_first_boot = Some(lifetime.as_secs());
        }
        When::Unusable(reason) => shown.ignored = Some(reason),
    }
    shown.at_utc = shown.at.map(clock::utc);
    shown
}

/// What a key's name has in it where its value is nobody else's business.
const SECRET: [&str; 11] = [
    "pass",
    "auth",
    "pw",
    "sig",
    "secret",
    "token",
    "key",
    "cred",
    "private",
    "seed",
    "user_data",
];

/// `meta` as it may be shown: what looks like a secret is not.
fn shown(meta: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown = |(key, value): (&String, &String)| {
        let lower = key.to_lowercase();
        let value = match SECRET.iter().any(|word| lower.contains(word)) {
            true => "(hidden)".to_string(),
            false => url::shown(value),
        };
        (key.clone(), value)
    };
    meta.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::origin::LimitSource;
    use crate::metadata::openstack;

    fn asked() -> Vec<Asked> {
        let document = br#"{"uuid": "aaaa", "name": "vm-1", "project_id": "p",
            "availability_zone": "nova", "random_seed": "hunter2", "admin_pass": "hunter2",
            "meta": {"owner": "me\u001b[2J", "db_Password": "hunter2", "API-TOKEN": "hunter2",
                     "ssh_key": "hunter2", "machinefeatures": "http://me:hunter2@192.0.2.1/mf?sig=hunter2",
                     "vmstage_lifetime": "36h", "vmstage_deadline": "soon", "n": 1}}"#;
        let answered = Asked {
            gives: LimitSource::Openstack,
            source: "openstack".into(),
            place: "http://169.254.169.254/openstack/latest/meta_data.json".into(),
            took: Duration::from_millis(12),
            tries: 1,
            result: openstack::parse(document, LimitSource::Openstack),
            retry_after: None,
            is_garbage: false,
        };
        let failed = Asked {
            gives: LimitSource::Openstack,
            source: "ec2".into(),
            place: "http://169.254.169.254/latest/meta-data/".into(),
            took: Duration::from_secs(2),
            tries: 3,
            result: Err("nobody answers (3 tries in 2.0s)".into()),
            retry_after: None,
            is_garbage: false,
        };
        vec![answered, failed]
    }

    #[test]
    fn the_table_shows_who_answered_when_and_what() {
        assert_eq!(
            text(&asked()),
            "\
SOURCE     ASKED                                                   ANSWERED
openstack  http://169.254.169.254/openstack/latest/meta_data.json  yes, in 12 ms
ec2        http://169.254.169.254/latest/meta-data/                no: nobody answers (3 tries in 2.0s)

openstack
  instance id        aaaa
  name               vm-1
  project            p
  availability zone  nova
  meta               API-TOKEN = (hidden)
  meta               db_Password = (hidden)
  meta               machinefeatures = http://192.0.2.1/mf?…
  meta               owner = me\u{fffd}[2J
  meta               ssh_key = (hidden)
  meta               vmstage_deadline = soon
  meta               vmstage_lifetime = 36h
  limit              ignored: \"soon\" is neither Unix seconds nor a time of RFC 3339, such as 2027-01-31T18:00:00Z (vmstage_deadline in the openstack metadata)
  limit              1 d 12 h from the first boot (vmstage_lifetime in the openstack metadata)
  warning            values in meta that are not strings are ignored: n (a number)
"
        );
    }

    #[test]
    fn json_has_the_same_and_no_secret() {
        let text = json(&asked()).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let [openstack, ec2] = &document["sources"].as_array().unwrap()[..] else {
            panic!("{document}");
        };
        assert_eq!(openstack["took_ms"], 12);
        assert_eq!(openstack["error"], serde_json::Value::Null);
        assert_eq!(openstack["answer"]["instance"]["id"], "aaaa");
        assert_eq!(openstack["answer"]["meta"]["ssh_key"], "(hidden)");
        let limits = &openstack["answer"]["limits"];
        assert_eq!(limits[1]["seconds_from_first_boot"], 129_600);
        assert!(limits[0]["ignored"].as_str().unwrap().contains("soon"));
        assert_eq!(ec2["answer"], serde_json::Value::Null);
        assert_eq!(ec2["tries"], 3);
    }
}
