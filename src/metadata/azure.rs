//! Azure's metadata service: identity, tags, and scheduled events (Azure's documentation,
//! "Azure Instance Metadata Service" and "Scheduled Events for Linux VMs").
//!
//! The first request for scheduled events switches them on for the VM, and may take two
//! minutes. From then on Azure delays what somebody asks for, a restart say, until the VM
//! agrees or the event's time has come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::json::{self, Json, Pairs, Part, Parts, Text, Texts};
use super::{Answer, Instance, NoAnswer, Pending};
use crate::clock;
use crate::deadline::first_boot;
use crate::deadline::identity::Identity;
use crate::deadline::ledger::About;
use crate::deadline::limit::{self, LIFETIME, Limit, When};
use crate::deadline::origin::{LimitSource, Origin};
use crate::http::{Cause, Client, Failure, Response};
use crate::text;

pub(crate) const PATH: &str = "metadata/instance?api-version=2021-02-01";

const EVENTS: &str = "metadata/scheduledevents?api-version=2020-07-01";

/// Without it the service refuses. Nobody who is led astray to it by a link sends it.
const METADATA: (&str, &str) = ("Metadata", "true");

/// The first request for events is waited for for so long: it may take two minutes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

/// The keys of the limits that tags may give.
const PLAIN_KEYS: [&str; 2] = ["vmstage_deadline", LIFETIME];

/// What the service said last.
#[derive(Default)]
pub(crate) struct Session {
    document: Option<Answer>,
    events: Option<Answer>,
}

impl Session {
    /// Asks who this VM is, for its tags, and where they are wanted for events.
    ///
    /// # Errors
    ///
    /// That the service did not give the document of an instance.
    pub(crate) fn ask(
        &mut self,
        client: &Client,
        base: &str,
        events: bool,
        identity: &Identity,
        until: Instant,
    ) -> Result<Answer, NoAnswer> {
        let document = ask(client, base, until)?;
        let id = document.instance.id.as_deref();
        if id.is_some_and(|id| identity.is_anothers(LimitSource::Azure, id)) {
            // By its name this VM's events would be taken for others'.
            return Ok(document);
        }
        self.take_document(document);
        let mut warning = None;
        let mut about = About::Keys(PLAIN_KEYS.map(String::from).into());
        if events && let Some(vm) = self.vm() {
            match ask_for_events(client, base, vm, until) {
                Ok(events) => {
                    self.events = Some(events);
                    about = About::Everything;
                }
                Err(failure) => {
                    let failure = text::printable(&failure.to_string());
                    let first = match self.events {
                        Some(_) => "",
                        None => "; the first answer may take two minutes",
                    };
                    warning = Some(format!("scheduled events: {failure}{first}"));
                }
            }
        }
        let mut answer = self.answer(about);
        answer.warnings.extend(warning);
        Ok(answer)
    }

    /// One that does not say the name leaves the VM the one that it had: it has its events by it.
    fn take_document(&mut self, mut document: Answer) {
        let (before, now) = (self.document.take(), &mut document.instance);
        now.name = now.name.take().or(before.and_then(|it| it.instance.name));
        self.document = Some(document);
    }

    /// The name of this VM, which events go by.
    pub(crate) fn vm(&self) -> Option<&str> {
        self.document.as_ref()?.instance.name.as_deref()
    }

    /// Whether events have been had.
    pub(crate) fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// Takes what was said of events. They say nothing of who this is: a list of events
    /// confirms no document's word.
    pub(crate) fn take_events(&mut self, events: Answer) -> Answer {
        let key = |limit: &Limit| limit.origin.key.clone();
        let before = self.events.replace(events.clone());
        // Also of those that have vanished.
        let of_both = before.iter().chain([&events]);
        let keys = of_both.flat_map(|events| events.limits.iter().map(key));
        Answer {
            about: About::Keys(keys.collect()),
            ..events
        }
    }

    fn answer(&self, about: About) -> Answer {
        let mut answer = self.document.clone().unwrap_or_default();
        answer.about = about;
        if let Some(events) = self.events.clone() {
            answer.limits.extend(events.limits);
            answer.pending = events.pending;
            answer.warnings.extend(events.warnings);
            answer.date = events.date.max(answer.date);
        }
        answer
    }
}

fn ask(client: &Client, base: &str, until: Instant) -> Result<Answer, NoAnswer> {
    let (answer, date) = get(client, &format!("{base}/{PATH}"), until, parse)?;
    Ok(Answer { date, ..answer })
}

/// Asks for what is to happen to the VM of this name.
///
/// # Errors
///
/// That the service did not give a list of events.
pub(crate) fn ask_for_events(
    client: &Client,
    base: &str,
    vm: &str,
    until: Instant,
) -> Result<Answer, NoAnswer> {
    let url = format!("{base}/{EVENTS}");
    let response = client.get(&url, &[METADATA], until);
    let response = response.map_err(NoAnswer::Http)?;
    let answer = parse_events(response.body, vm).map_err(|why| unusable(&url, why))?;
    Ok(Answer {
        date: response.date,
        ..answer
    })
}

/// Tells Azure that it need not wait any longer with this event. Of several in one request one
/// that Azure no longer knows has it refuse all.
///
/// # Errors
///
/// That the service did not take it.
pub(crate) fn acknowledge(
    client: &Client,
    base: &str,
    event_id: &str,
    until: Instant,
) -> Result<(), NoAnswer> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct StartRequest<'a> {
        event_id: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Body<'a> {
        start_requests: [StartRequest<'a>; 1],
    }
    let body = Body {
        start_requests: [StartRequest { event_id }],
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let headers = [METADATA, ("Content-Type", "application/json")];
    let url = format!("{base}/{EVENTS}");
    let answer = client.post(&url, &headers, &body, until);
    answer.map(drop).map_err(NoAnswer::Http)
}

fn get<T>(
    client: &Client,
    url: &str,
    until: Instant,
    parse: fn(Vec<u8>) -> Result<T, String>,
) -> Result<(T, Option<u64>), NoAnswer> {
    let response = client.get(url, &[METADATA], until);
    let Response { body, date, .. } = response.map_err(NoAnswer::Http)?;
    let parsed = parse(body).map_err(|why| unusable(url, why))?;
    Ok((parsed, date))
}

fn unusable(url: &str, why: String) -> NoAnswer {
    NoAnswer::Http(Failure::new(url, Cause::Unusable(why)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    compute: Part<Compute>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Compute {
    vm_id: Text,
    name: Text,
    location: Text,
    vm_size: Text,
    resource_group_name: Text,
    tags_list: Parts<Tag>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tag {
    name: Text,
    value: Text,
}

/// Reads an instance's document.
///
/// # Errors
///
/// Why it is not that of an instance.
pub fn parse(text: impl Into<Vec<u8>>) -> Result<Answer, String> {
    let document: Document = json::document(text.into())?;
    let compute = document.compute.object().unwrap_or_default();
    if matches!(compute.vm_id, Json::Absent) {
        return Err("the answer is JSON, but not that of an instance".into());
    }
    let mut warnings = Vec::new();
    let mut string = |name: &str, value: &Text| value.shown(name, &mut warnings);
    let mut instance = Instance {
        id: string("vmId", &compute.vm_id),
        name: string("name", &compute.name).filter(|name| !name.is_empty()),
        project: string("resourceGroupName", &compute.resource_group_name),
        availability_zone: string("location", &compute.location),
        flavor: string("vmSize", &compute.vm_size),
        request: None,
    };
    if let Some(Err(reason)) = instance.id.as_deref().map(first_boot::usable_id) {
        warnings.push(format!("vmId: {reason}; ignored"));
        instance.id = None;
    }
    let meta = tags(compute.tags_list);
    Ok(Answer {
        limits: limit::plain_keys(&meta, LimitSource::Azure),
        instance,
        meta,
        warnings,
        ..Answer::default()
    })
}

fn tags(list: Parts<Tag>) -> BTreeMap<String, String> {
    let mut pairs = Pairs::default();
    for tag in list.elements().into_iter().filter_map(Json::object) {
        // Azure takes the names of tags for the same however they are written.
        if let Some(name) = tag.name.as_str() {
            pairs.add(name.to_ascii_lowercase(), &tag.value);
        }
    }
    pairs.own()
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct EventList {
    events: Parts<Event>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Event {
    event_id: Text,
    event_type: Text,
    event_status: Text,
    event_source: Text,
    not_before: Text,
    description: Text,
    resources: Texts,
}

/// Reads a list of scheduled events. Those of other VMs (a scale set's are told all of each
/// other's) are passed over.
///
/// # Errors
///
/// Why it is none.
pub fn parse_events(text: impl Into<Vec<u8>>, vm: &str) -> Result<Answer, String> {
    let list: EventList = json::document(text.into())?;
    let Json::Array(events) = list.events else {
        return Err("the answer is JSON, but not a list of events".into());
    };
    let mut answer = Answer::default();
    let mut seen = BTreeSet::new();
    for event in events.into_iter().filter_map(Json::object) {
        let concerns = event.concerns(vm);
        let id = event.event_id.as_str().filter(|id| is_event_id(id));
        if let (Some(concerns), Some(id)) = (concerns, id)
            && seen.len() < MOST_EVENTS
            && seen.insert(id.to_string())
        {
            event.add_to(&mut answer, id, concerns);
        }
    }
    Ok(answer)
}

/// More are not looked at.
const MOST_EVENTS: usize = 32;

/// It goes into a request, and into the key of an origin.
fn is_event_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&id.len()) && id.bytes().all(is_plain)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Concerns {
    ThisVm,
    OthersAsWell,
}

impl Event {
    /// None where it is about others.
    fn concerns(&self, vm: &str) -> Option<Concerns> {
        let Json::Array(resources) = &self.resources else {
            return None;
        };
        let is_this = |resource: &Text| {
            let name = resource.as_str();
            name.is_some_and(|name| name.eq_ignore_ascii_case(vm))
        };
        match resources
            .iter()
            .filter(|resource| is_this(resource))
            .count()
        {
            0 => None,
            number if number == resources.len() => Some(Concerns::ThisVm),
            _ => Some(Concerns::OthersAsWell),
        }
    }

    fn add_to(&self, answer: &mut Answer, id: &str, concerns: Concerns) {
        let kind = text::excerpt(self.event_type.as_str().unwrap_or_default());
        let is_end = least_notice(&kind).is_some();
        if is_end {
            let key = format!("scheduledevents/{id}");
            let origin = Origin::new(LimitSource::Azure, key).with_detail(&kind);
            answer.limits.push(Limit::notice(origin, self.end(&kind)));
        } else {
            answer.warnings.push(self.in_words(&kind));
        }
        let is_waiting = self.event_status.as_str() == Some("Scheduled");
        let is_by_user = self.event_source.as_str() == Some("User");
        if is_waiting && is_by_user && concerns == Concerns::ThisVm {
            let id = id.to_string();
            answer.pending.push(Pending { id, is_end });
        }
    }

    /// An event that has begun says no time.
    fn end(&self, kind: &str) -> When {
        let said = self.not_before.as_str().map(When::from_instant);
        match said.filter(|when| !matches!(when, When::Unusable(_))) {
            // An end is an end, also at a time that nobody can read.
            None => {
                let has_begun = self.event_status.as_str() == Some("Started");
                let ahead = least_notice(kind).filter(|_| !has_begun);
                When::AfterNotice(ahead.unwrap_or_default())
            }
            Some(when) => when,
        }
    }

    fn in_words(&self, kind: &str) -> String {
        let description = self.description.as_str().map(text::excerpt);
        let description = description.filter(|text| !text.is_empty());
        let not_before = self.not_before.as_str().and_then(clock::parse_utc);
        let when = match not_before {
            Some(at) => format!(", not before {}", clock::utc(at)),
            None => String::new(),
        };
        let why = description.map_or(String::new(), |text| format!(": {text}"));
        format!("Azure has scheduled for this VM: {kind}{when}{why}")
    }
}

/// How long ahead an end is announced, at the least; None where it is no end.
fn least_notice(kind: &str) -> Option<Duration> {
    match kind {
        "Preempt" => Some(Duration::from_secs(30)),
        "Terminate" => Some(Duration::from_secs(5 * 60)),
        // Freeze, Reboot and Redeploy: the VM goes on afterwards.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "602d9444-d2cd-49c7-8624-8643e7171297";

    /// A list with one event of these fields.
    fn one(fields: &str) -> Answer {
        let text =
            format!(r#"{{"DocumentIncarnation": 1, "Events": [{{"EventId": "{ID}", {fields}}}]}}"#);
        parse_events(text, "vm_0").unwrap()
    }

    fn whens(answer: &Answer) -> Vec<When> {
        answer.limits.iter().map(|l| l.when.clone()).collect()
    }

    #[test]
    fn the_identity_and_the_tags_of_a_vm_are_read() {
        let text = r#"{"compute": {"vmId": "efd3aced-81c4-4521-bbe7-154bcb11e816", "name": "vm_0",
            "location": "westeurope", "vmSize": "Standard_D2s_v5", "resourceGroupName": "rg",
            "tagsList": [{"name": "VMstage_Lifetime", "value": "36h"}, 5, {"name": 7},
                {"name": "secret", "value": "hunter2"}],
            "osProfile": {"adminUsername": "hunter2"}}, "network": {}}"#;
        let answer = parse(text).unwrap();
        let instance = &answer.instance;
        let id = "efd3aced-81c4-4521-bbe7-154bcb11e816";
        assert_eq!(instance.id.as_deref(), Some(id));
        assert_eq!(instance.name.as_deref(), Some("vm_0"));
        assert_eq!(instance.availability_zone.as_deref(), Some("westeurope"));
        assert_eq!(instance.flavor.as_deref(), Some("Standard_D2s_v5"));
        let lifetime = When::AfterFirstBoot(Duration::from_secs(36 * 3600));
        assert_eq!(whens(&answer), [lifetime]);
        assert!(!format!("{answer:?}").contains("hunter2"));
        for wrong in [
            "",
            "<html>",
            "{}",
            r#"{"compute": 5}"#,
            r#"{"compute": {}}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn preempt_and_terminate_are_ends_and_everything_else_is_a_warning() {
        for kind in ["Preempt", "Terminate"] {
            let answer = one(&format!(
                r#""EventType": "{kind}", "Resources": ["vm_0"], "EventStatus": "Scheduled",
                   "NotBefore": "Thu, 24 Dec 2026 18:00:00 GMT""#
            ));
            assert!(answer.warnings.is_empty());
            let origin = format!("scheduledevents/{ID} ({kind}) in the azure metadata");
            assert_eq!(answer.limits[0].origin.to_string(), origin);
        }
        for kind in ["Freeze", "Reboot", "Redeploy", "Something new", ""] {
            let answer = one(&format!(
                r#""EventType": "{kind}", "Resources": ["vm_0"], "EventStatus": "Scheduled",
                   "NotBefore": "2016-09-19T18:29:47Z", "Description": "Because.\u001b""#
            ));
            assert_eq!(answer.limits, [], "{kind}");
            let warning = format!(
                "Azure has scheduled for this VM: {kind}, not before 2016-09-19T18:29:47Z: Because.\u{fffd}"
            );
            assert_eq!(answer.warnings, [warning]);
        }
    }

    #[test]
    fn the_time_of_an_event_comes_in_three_forms() {
        // Years before any VM of this kind, a time is refused: these are of 2026.
        let at = When::At(1_798_135_200);
        let after = |seconds| When::AfterNotice(Duration::from_secs(seconds));
        let cases = [
            (
                r#""Thu, 24 Dec 2026 18:00:00 GMT""#,
                "Scheduled",
                at.clone(),
            ),
            (r#""2026-12-24T18:00:00Z""#, "Scheduled", at),
            (r#""""#, "Started", after(0)),
            (r#""""#, "Scheduled", after(30)),
            ("null", "Started", after(0)),
            ("7", "Scheduled", after(30)),
        ];
        for (not_before, status, when) in cases {
            let answer = one(&format!(
                r#""EventType": "Preempt", "Resources": ["vm_0"], "EventStatus": "{status}",
                   "NotBefore": {not_before}"#
            ));
            assert_eq!(whens(&answer), [when], "{not_before} {status}");
        }
        let garbage = one(r#""EventType": "Preempt", "Resources": ["vm_0"], "NotBefore": "soon""#);
        assert_eq!(whens(&garbage), [after(30)]);
    }

    /// Else one document of another instance would be said again with each list of events.
    #[test]
    fn a_list_of_events_does_not_say_who_this_is() {
        let tree = crate::host::tree::Tree::new(&[]);
        let host = tree.host();
        let config = crate::config::Config::parse("[metadata]\nsources = [\"azure\"]").unwrap();
        let mut metadata = crate::metadata::Metadata::new(&host, &config);
        let document = format!(r#"{{"compute": {{"vmId": "{ID}", "name": "vm_0"}}}}"#);
        let document = parse(document).unwrap();
        metadata.azure.document = Some(document.clone());
        metadata
            .known
            .note(crate::config::Source::Azure, &Ok(document));
        let events = one(r#""EventType": "Preempt", "Resources": ["vm_0"]"#);
        let wait = crate::metadata::Wait::ForEventsOfAzure;
        let (_, answer) = metadata.take(wait, Ok(events)).unwrap();
        assert_eq!((&answer.instance.id, answer.meta.len()), (&None, 0));
        let statement = answer.statement();
        assert_eq!((statement.instance, statement.limits.len()), (None, 1));
        assert_eq!(metadata.instance().unwrap().id.as_deref(), Some(ID));
    }

    #[test]
    fn events_of_other_vms_are_passed_over() {
        for (resources, concerns) in [
            (r#"["vm_0"]"#, true),
            (r#"["VM_0"]"#, true),
            (r#"["vm_1", "vm_0"]"#, true),
            (r#"["vm_1"]"#, false),
            (r#"["vm_00", "m_0", 5]"#, false),
            ("[]", false),
            (r#""vm_0""#, false),
            ("null", false),
        ] {
            let answer = one(&format!(
                r#""EventType": "Preempt", "NotBefore": "", "Resources": {resources}"#
            ));
            assert_eq!(answer.limits.len(), usize::from(concerns), "{resources}");
        }
    }

    #[test]
    fn what_a_user_asked_for_and_waits_for_this_vm_alone_can_be_acknowledged() {
        let event = |kind: &str, status: &str, source: &str, resources: &str| {
            let answer = one(&format!(
                r#""EventType": "{kind}", "EventStatus": "{status}", "EventSource": "{source}",
                   "Resources": {resources}, "NotBefore": """#
            ));
            answer.pending.first().map(|pending| pending.is_end)
        };
        let this = r#"["vm_0"]"#;
        assert_eq!(event("Reboot", "Scheduled", "User", this), Some(false));
        assert_eq!(event("Terminate", "Scheduled", "User", this), Some(true));
        assert_eq!(event("Reboot", "Started", "User", this), None);
        assert_eq!(event("Reboot", "Scheduled", "Platform", this), None);
        assert_eq!(
            event("Reboot", "Scheduled", "User", r#"["vm_0", "vm_1"]"#),
            None
        );
        assert_eq!(event("Reboot", "Scheduled", "User", r#"["vm_1"]"#), None);
    }

    #[test]
    fn what_is_no_list_of_events_is_refused_and_one_bad_event_costs_itself() {
        for text in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"Events": 5}"#,
            r#"{"Events": ["#,
        ] {
            assert!(parse_events(text, "vm_0").is_err(), "{text}");
        }
        let good = r#"{"EventId": "a", "EventType": "Preempt", "Resources": ["vm_0"]}"#;
        let text = format!(
            r#"{{"Events": [5, {{"EventId": "a b", "EventType": "Preempt", "Resources": ["vm_0"]}},
                {{"EventId": 7, "Resources": ["vm_0"]}}, {good}, {good}]}}"#
        );
        let answer = parse_events(text, "vm_0").unwrap();
        assert_eq!(answer.limits.len(), 1);
        let many: Vec<String> = (0..1000)
            .map(|n| good.replace(r#""a""#, &format!(r#""e{n}""#)))
            .collect();
        let text = format!(r#"{{"Events": [{}]}}"#, many.join(","));
        assert_eq!(parse_events(text, "vm_0").unwrap().limits.len(), 32);
    }

    #[test]
    fn a_document_without_a_name_leaves_the_vm_the_one_that_it_had() {
        let mut session = Session::default();
        for (name, expected) in [
            ("null", None),
            (r#""vm_0""#, Some("vm_0")),
            ("null", Some("vm_0")),
            (r#"["vm"]"#, Some("vm_0")),
            (r#""""#, Some("vm_0")),
            (r#""vm_1""#, Some("vm_1")),
        ] {
            let compute = format!(r#"{{"compute": {{"vmId": "a", "name": {name}}}}}"#);
            session.take_document(parse(compute).unwrap());
            assert_eq!(session.vm(), expected, "{name}");
        }
    }
}
