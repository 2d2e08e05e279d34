//! OpenStack's `meta_data.json`, over HTTP; the config drive has the same file. And
//! `vendor_data2.json`, where a site may say something to its guests.
//!
//! Only what is used is read out of it, so that `admin_pass`, `random_seed` and keys
//! are never in memory that could be printed. A value of a wrong type costs that value
//! and a warning, not the document.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Instance;
use super::json::{self, Json, Pairs, Part, Text};
use super::{Answer, NoAnswer};
use crate::deadline::ledger::About;
use crate::deadline::limit::{Limit, When};
use crate::deadline::origin::{LimitSource, Origin};
use crate::deadline::{first_boot, limit};
use crate::http::{Cause, Client, Failure};

pub(crate) const PATH: &str = "openstack/latest/meta_data.json";

/// Asks the service at this base URL.
///
/// # Errors
///
/// That it did not give the document of an instance.
pub(crate) fn ask(client: &Client, base: &str, until: Instant) -> Result<Answer, NoAnswer> {
    let url = format!("{base}/{PATH}");
    let response = client.get(&url, &[], until).map_err(NoAnswer::Http)?;
    let answer = parse(response.body, LimitSource::Openstack);
    let unusable = |why| NoAnswer::Http(Failure::new(&url, Cause::Unusable(why)));
    Ok(Answer {
        date: response.date,
        ..answer.map_err(unusable)?
    })
}

/// Asks the service at these base URLs, one after the other until somebody is there. Also says
/// which one that is.
///
/// # Errors
///
/// Of the last one that was asked.
pub(super) fn ask_each(
    client: &Client,
    bases: &[String],
    until: Instant,
) -> Result<(Answer, usize), NoAnswer> {
    let mut failure = NoAnswer::Local("there is nobody to ask".into());
    for (index, base) in bases.iter().enumerate() {
        match ask(client, base, until) {
            Ok(answer) => return Ok((answer, index)),
            Err(other) => failure = other,
        }
    }
    Err(failure)
}

/// Each of the site's services has its answer in it under the service's name
/// (nova's `vendordata_dynamic_targets`).
const VENDOR_DATA: &str = "openstack/latest/vendor_data2.json";

/// The service asks the site's own in turn, and may wait for each of them.
pub(crate) const VENDOR_PATIENCE: Duration = Duration::from_secs(60);

/// Asks what the site says to its guests.
///
/// # Errors
///
/// That the service did not answer. That it has no such document is an answer.
pub(crate) fn ask_vendor_data(
    client: &Client,
    base: &str,
    until: Instant,
) -> Result<Answer, NoAnswer> {
    let url = format!("{base}/{VENDOR_DATA}");
    let (answer, date) = match client.get(&url, &[], until) {
        Ok(response) => (parse_vendor_data(response.body), response.date),
        Err(failure) if matches!(failure.cause, Cause::Status(404, _)) => {
            (Ok(nothing_said()), failure.date)
        }
        Err(failure) => return Err(NoAnswer::Http(failure)),
    };
    let unusable = |why| NoAnswer::Http(Failure::new(&url, Cause::Unusable(why)));
    Ok(Answer {
        date,
        ..answer.map_err(unusable)?
    })
}

/// What was said before holds. Nova gives `{}` for a site's service that fails, and leaves out
/// what it does not know, so that neither is a word of the site.
fn nothing_said() -> Answer {
    Answer {
        about: About::Keys(Vec::new()),
        ..Answer::default()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct VendorData {
    vmstage: Part<BTreeMap<String, Text>>,
}

/// Reads a `vendor_data2.json`: what it says under the name `vmstage`. An object there that
/// has anything in it is all that the site says; a deadline that it leaves out is taken back.
///
/// # Errors
///
/// Why it is none.
pub fn parse_vendor_data(text: impl Into<Vec<u8>>) -> Result<Answer, String> {
    let document: VendorData = json::document(text.into())?;
    let said = match document.vmstage {
        Json::Object(said) if !said.is_empty() => said,
        Json::Absent | Json::Object(_) => return Ok(nothing_said()),
        other => {
            let mut answer = nothing_said();
            let kind = other.kind();
            let warning = format!("vmstage is {kind}, not an object; ignored");
            answer.warnings.push(warning);
            return Ok(answer);
        }
    };
    let mut pairs = Pairs::default();
    for (name, key) in [
        ("deadline", "vmstage_deadline"),
        ("lifetime", limit::LIFETIME),
        ("machinefeatures", "machinefeatures"),
        ("jobfeatures", "jobfeatures"),
    ] {
        match said.get(name) {
            None | Some(Json::Absent) => {}
            // A program wrote it, and a number of seconds may be a number there.
            Some(Json::Number(number) | Json::Decimal(number)) => {
                pairs.add(key.into(), &Json::String(number.to_string()))
            }
            Some(value) => pairs.add(key.into(), value),
        }
    }
    Ok(Answer {
        limits: limit::plain_keys(&pairs.texts, LimitSource::VendorData),
        meta: pairs.texts,
        ..Answer::default()
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    uuid: Text,
    name: Text,
    project_id: Text,
    availability_zone: Text,
    meta: Part<Pairs>,
}

/// Reads a `meta_data.json`. `source` is whose it is, for the origin of limits.
///
/// # Errors
///
/// Why it is not that of an instance.
pub fn parse(text: impl Into<Vec<u8>>, source: LimitSource) -> Result<Answer, String> {
    let document: Document = json::document(text.into())?;
    // Every instance has one, and an error in the form of JSON has none.
    if matches!(document.uuid, Json::Absent) {
        return Err("the answer is JSON, but not that of an instance".into());
    }
    let mut warnings = Vec::new();
    let mut string = |name: &str, value: Text| value.shown(name, &mut warnings);
    let mut instance = Instance {
        id: string("uuid", document.uuid),
        name: string("name", document.name),
        project: string("project_id", document.project_id),
        availability_zone: string("availability_zone", document.availability_zone),
        flavor: None,
        request: None,
    };
    if let Some(Err(reason)) = instance.id.as_deref().map(first_boot::usable_id) {
        warnings.push(format!("uuid: {reason}; ignored"));
        instance.id = None;
    }
    let (meta, lost) = meta_of(document.meta, source, &mut warnings);
    let limits = limit::plain_keys(&meta, source);
    Ok(Answer {
        limits: limits.into_iter().chain(lost).collect(),
        instance,
        meta,
        warnings,
        ..Answer::default()
    })
}

/// Also a limit that stands for all of `meta`, where that is of no use.
fn meta_of(
    meta: Part<Pairs>,
    source: LimitSource,
    warnings: &mut Vec<String>,
) -> (BTreeMap<String, String>, Option<Limit>) {
    match meta {
        Json::Absent => Default::default(),
        Json::Object(pairs) => {
            warnings.extend(pairs.warnings("meta"));
            (pairs.texts, None)
        }
        other => {
            let kind = other.kind();
            warnings.push(format!("meta is {kind}, not an object; ignored"));
            let when = When::Unusable(format!("it is {kind}, not an object"));
            let lost = Limit::new(Origin::all_of_meta(source), when);
            (BTreeMap::new(), Some(lost))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::limit::When;

    fn parsed(text: &str) -> Answer {
        parse(text, LimitSource::Openstack).unwrap()
    }

    const ID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

    #[test]
    fn the_identity_and_meta_of_an_instance_are_read() {
        let answer = parsed(
            r#"{"uuid": "aaaaaaaa-0000-4000-8000-000000000001", "name": "vm-1",
                "project_id": "p", "availability_zone": "nova", "launch_index": 0,
                "meta": {"owner": "\u00e9t\u00e9", "empty": "", "vmstage_lifetime": "36h"}}"#,
        );
        assert_eq!(answer.instance.id.as_deref(), Some(ID));
        assert_eq!(answer.instance.name.as_deref(), Some("vm-1"));
        assert_eq!(answer.instance.project.as_deref(), Some("p"));
        assert_eq!(answer.instance.availability_zone.as_deref(), Some("nova"));
        assert_eq!(answer.meta["owner"], "été");
        assert_eq!(answer.meta["empty"], "");
        assert_eq!(answer.limits.len(), 1);
        assert!(answer.warnings.is_empty());
    }

    #[test]
    fn absent_and_null_are_nothing_to_warn_of() {
        let answer = parsed(r#"{"uuid": "a", "name": null, "meta": null}"#);
        assert_eq!(answer.instance.id.as_deref(), Some("a"));
        assert_eq!(answer.instance.name, None);
        assert!(answer.meta.is_empty() && answer.warnings.is_empty());
    }

    #[test]
    fn a_wrong_type_costs_that_value_and_no_other() {
        let answer = parsed(
            r#"{"uuid": 7, "name": ["x"], "project_id": {"a": 1}, "availability_zone": "nova",
                "meta": {"a": 1, "b": {"c": "d"}, "e": null, "vmstage_deadline": "1795430460"}}"#,
        );
        assert_eq!(answer.instance.id, None);
        assert_eq!(answer.instance.availability_zone.as_deref(), Some("nova"));
        assert_eq!(answer.limits[0].when, When::At(1_795_430_460));
        assert_eq!(
            answer.warnings,
            [
                "uuid is a number, not a string; ignored",
                "name is an array, not a string; ignored",
                "project_id is an object, not a string; ignored",
                "values in meta that are not strings are ignored: a (a number), b (an object), \
                 e (null)",
            ]
        );
    }

    #[test]
    fn meta_that_is_no_object_is_a_warning() {
        for (value, kind) in [
            ("3", "a number"),
            ("[{}]", "an array"),
            ("\"x\"", "a string"),
        ] {
            let answer = parsed(&format!(r#"{{"uuid": "a", "meta": {value}}}"#));
            assert_eq!(answer.instance.id.as_deref(), Some("a"));
            let warning = format!("meta is {kind}, not an object; ignored");
            assert_eq!(answer.warnings, [warning]);
        }
    }

    #[test]
    fn an_id_that_is_none_is_a_warning_and_the_rest_holds() {
        let answer = parsed(r#"{"uuid": "../../etc/passwd", "name": "vm"}"#);
        assert_eq!(answer.instance.id, None);
        assert_eq!(answer.instance.name.as_deref(), Some("vm"));
        assert!(answer.warnings[0].contains("is not an instance id"));
    }

    #[test]
    fn however_deep_the_nesting_the_rest_is_read() {
        let arrays = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        for place in ["\"x\": DEEP", "\"name\": DEEP", "\"meta\": {\"x\": DEEP}"] {
            for nesting in [&arrays, &objects] {
                let place = place.replace("DEEP", nesting);
                let answer = parsed(&format!(r#"{{{place}, "uuid": "a"}}"#));
                assert_eq!(answer.instance.id.as_deref(), Some("a"));
            }
        }
    }

    #[test]
    fn what_is_not_the_document_of_an_instance_is_refused() {
        let cases = [
            ("", "not a JSON object"),
            ("<html><h1>200 OK</h1></html>", "not a JSON object"),
            (r#"["a", "b", "c", "d", {}]"#, "not a JSON object"),
            ("null", "not a JSON object"),
            ("{}", "not that of an instance"),
            (r#"{"error": "busy"}"#, "not that of an instance"),
            (
                r#"{"name": "ServiceUnavailable"}"#,
                "not that of an instance",
            ),
            (r#"{"uuid": "a", "na"#, "EOF"),
            (r#"{"uuid": "a"} x"#, "trailing characters"),
        ];
        for (text, expected) in cases {
            let why = parse(text.as_bytes(), LimitSource::Openstack).unwrap_err();
            assert!(why.contains(expected), "{text:?} gave {why:?}");
        }
    }

    #[test]
    fn no_secret_gets_into_an_answer_or_an_error() {
        let secrets = r#""admin_pass": "hunter2", "random_seed": "hunter2",
            "public_keys": {"k": "hunter2"}, "keys": [{"data": "hunter2"}]"#;
        let answer = parsed(&format!(r#"{{"uuid": "a", {secrets}}}"#));
        assert!(!format!("{answer:?}").contains("hunter2"));
        for broken in [
            format!("{{{secrets}"),
            format!("{{{secrets}, \"uuid\": 1, }}"),
        ] {
            let why = parse(broken.as_bytes(), LimitSource::Openstack).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn many_wrong_values_are_one_short_warning() {
        let values: Vec<String> = (0..1000).map(|n| format!("\"k{n}\": {n}")).collect();
        let answer = parsed(&format!(
            r#"{{"uuid": "a", "meta": {{{}}}}}"#,
            values.join(",")
        ));
        assert_eq!(answer.warnings.len(), 1);
        assert!(answer.warnings[0].ends_with("k4 (a number) and 995 more"));
    }

    #[test]
    fn what_is_shown_later_has_no_control_characters() {
        let answer = parsed(r#"{"uuid": "a", "name": "x\u001b[2J\ny"}"#);
        let name = answer.instance.name.as_deref();
        assert_eq!(name, Some("x\u{fffd}[2J\u{fffd}y"));
    }

    #[test]
    fn a_site_says_to_vmstage_what_meta_may_say() {
        let answer = parse_vendor_data(
            r#"{"static": {"x": 1e400}, "other": {"deadline": "2026-01-02T00:00:00Z"},
                "vmstage": {"deadline": "1795430460", "lifetime": 129600, "x": [],
                            "machinefeatures": "http://192.0.2.1/mf"}}"#,
        )
        .unwrap();
        let lifetime = When::AfterFirstBoot(Duration::from_secs(129_600));
        let whens: Vec<When> = answer.limits.iter().map(|l| l.when.clone()).collect();
        assert_eq!(whens, [When::At(1_795_430_460), lifetime]);
        let origin = "vmstage_deadline in the openstack vendor data";
        assert_eq!(answer.limits[0].origin.to_string(), origin);
        assert_eq!(answer.meta["machinefeatures"], "http://192.0.2.1/mf");
        let of_python = parse_vendor_data(r#"{"vmstage": {"deadline": 1795430460.519846}}"#);
        assert_eq!(of_python.unwrap().limits[0].when, When::At(1_795_430_460));
        let odd = parse_vendor_data(r#"{"vmstage": ["deadline"]}"#).unwrap();
        assert_eq!(odd.about, About::Keys(vec![]));
        assert_eq!(
            odd.warnings,
            ["vmstage is an array, not an object; ignored"]
        );
        let odd = parse_vendor_data(r#"{"vmstage": {"deadline": ["1"]}}"#).unwrap();
        assert!(!odd.limits[0].is_usable());
        for garbage in ["", "<html>", "[]", "{"] {
            assert!(parse_vendor_data(garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn a_site_takes_back_a_deadline_with_other_content_and_not_with_none() {
        for nothing in [
            "{}",
            r#"{"static": {}}"#,
            r#"{"vmstage": null}"#,
            r#"{"vmstage": {}}"#,
        ] {
            let answer = parse_vendor_data(nothing);
            assert_eq!(answer, Ok(nothing_said()), "{nothing}");
            assert_eq!(answer.unwrap().about, About::Keys(vec![]), "{nothing}");
        }
        for other in [
            r#"{"deadline": null}"#,
            r#"{"lifetime": "36h"}"#,
            r#"{"x": 1}"#,
        ] {
            let answer = parse_vendor_data(format!(r#"{{"vmstage": {other}}}"#)).unwrap();
            assert_eq!(answer.about, About::Everything, "{other}");
        }
    }
}
