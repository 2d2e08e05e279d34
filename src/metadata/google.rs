//! Google's metadata service: identity, and the notice that a VM is preempted or that its host
//! is maintained (Compute Engine's documentation, "View and query VM metadata", "Detecting if a
//! VM was preempted", "Getting live migration notices").
//!
//! One document says everything. It can be asked for with a request that the service holds
//! until something in it changes.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::json::{self, Json, Pairs, Part, Text};
use super::{Answer, Instance, NoAnswer};
use crate::deadline::limit::{Limit, When};
use crate::deadline::origin::{LimitSource, Origin};
use crate::deadline::{first_boot, limit};
use crate::http::{Cause, Client, Failure};
use crate::text;

pub(crate) const PATH: &str = "computeMetadata/v1/instance/?recursive=true";

/// Without it the service refuses. Nobody who is led astray to it by a link sends it.
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

/// For so long the service holds a request at most.
const HOLD: Duration = Duration::from_secs(60);

/// For so long the answer to such a request is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(70);

/// From a VM being preempted to its end.
const PREEMPTED: Duration = Duration::from_secs(30);

/// From the announcement of maintenance to the end, at the least.
const MAINTENANCE: Duration = Duration::from_secs(60);

/// What the protocol needs to be remembered.
#[derive(Default)]
pub(crate) struct Session {
    /// Of the last document.
    pub(crate) tag: Option<String>,
    /// How many requests in a row came back at once.
    quick: u32,
}

impl Session {
    /// Takes note of an answer.
    pub(crate) fn take(&mut self, answer: Answer) -> Answer {
        self.tag.clone_from(&answer.tag);
        answer
    }

    /// How long to wait before the next request that is to be held, after one that `lasted` so
    /// long: not at all, unless the service answers at once again and again, or not at all.
    /// `chance`, from 0 to 1, keeps VMs apart.
    pub(crate) fn pause(&mut self, lasted: Duration, chance: f64) -> Duration {
        const AT_ONCE: Duration = Duration::from_secs(5);
        /// Two changes may well follow each other.
        const FREE: u32 = 2;
        const LONGEST: u32 = 64;
        self.quick = match lasted < AT_ONCE {
            true => self.quick.saturating_add(1),
            false => 0,
        };
        let Some(doublings) = self.quick.checked_sub(FREE + 1) else {
            return Duration::ZERO;
        };
        let ceiling = 1u32
            .checked_shl(doublings)
            .map_or(LONGEST, |s| s.min(LONGEST));
        Duration::from_secs(ceiling.into()).mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// Asks for the document as it is, or as soon as it is no longer the one with this tag.
///
/// # Errors
///
/// That the service did not give the document of an instance.
pub(crate) fn ask(
    client: &Client,
    base: &str,
    known: Option<&str>,
    until: Instant,
) -> Result<Answer, NoAnswer> {
    let url = url(base, known);
    let response = client.get(&url, &[FLAVOR], until).map_err(NoAnswer::Http)?;
    let unusable = |why| NoAnswer::Http(Failure::new(&url, Cause::Unusable(why)));
    Ok(Answer {
        date: response.date,
        tag: response.etag.filter(|tag| is_tag(tag)),
        ..parse(response.body).map_err(unusable)?
    })
}

fn url(base: &str, known: Option<&str>) -> String {
    let seconds = HOLD.as_secs();
    let wait = known.map_or(String::new(), |tag| {
        format!("&wait_for_change=true&last_etag={tag}&timeout_sec={seconds}")
    });
    format!("{base}/{PATH}{wait}")
}

/// Whether it can be sent back in a URL. Google's are hexadecimal.
fn is_tag(tag: &str) -> bool {
    (1..=64).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    id: Text,
    name: Text,
    /// `projects/518549494526/zones/us-central1-b`
    zone: Text,
    /// `projects/518549494526/machineTypes/e2-medium`
    machine_type: Text,
    /// `TRUE` or `FALSE`
    preempted: Text,
    maintenance_event: Text,
    attributes: Part<Pairs>,
}

/// Reads an instance's document.
///
/// # Errors
///
/// Why it is not that of an instance.
pub fn parse(text: impl Into<Vec<u8>>) -> Result<Answer, String> {
    let document: Document = json::document(text.into())?;
    let mut warnings = Vec::new();
    let id = match &document.id {
        Json::Absent => return Err("the answer is JSON, but not that of an instance".into()),
        Json::Number(id) => Some(id.to_string()),
        id => id.shown("id", &mut warnings),
    };
    let id = id.filter(|id| match first_boot::usable_id(id) {
        Ok(_) => true,
        Err(reason) => {
            warnings.push(format!("id: {reason}; ignored"));
            false
        }
    });
    let mut string = |name: &str, value: &Text| value.shown(name, &mut warnings);
    let zone = string("zone", &document.zone);
    let instance = Instance {
        id,
        name: string("name", &document.name),
        project: zone.as_deref().and_then(project),
        availability_zone: zone.as_deref().map(last),
        flavor: string("machineType", &document.machine_type)
            .as_deref()
            .map(last),
        request: None,
    };
    let notices = notices(&document).into_iter().flatten();
    // The values of others are nobody's business: keys and whole scripts are among them.
    let meta = document.attributes.object().map(Pairs::own);
    let meta = meta.unwrap_or_default();
    let limits = limit::plain_keys(&meta, LimitSource::Google).into_iter();
    Ok(Answer {
        instance,
        meta,
        limits: limits.chain(notices).collect(),
        warnings,
        ..Answer::default()
    })
}

/// The service says that an end has been decided on, and not when it is.
fn notices(document: &Document) -> [Option<Limit>; 2] {
    let origin = |key| Origin::new(LimitSource::Google, key);
    let is_preempted = document.preempted.as_str();
    let is_preempted = is_preempted.is_some_and(|said| said.eq_ignore_ascii_case("TRUE"));
    // MIGRATE_ON_HOST_MAINTENANCE: the VM moves while it runs, which is no end.
    let maintenance = document.maintenance_event.as_str();
    let terminated = maintenance.filter(|event| event.starts_with("TERMINATE"));
    [
        is_preempted.then(|| Limit::notice(origin("preempted"), When::AfterNotice(PREEMPTED))),
        terminated.map(|event| {
            let origin = origin("maintenance-event").with_detail(text::excerpt(event));
            Limit::notice(origin, When::AfterNotice(MAINTENANCE))
        }),
    ]
}

fn project(path: &str) -> Option<String> {
    let mut parts = path.split('/').skip_while(|part| *part != "projects");
    parts.nth(1).map(String::from)
}

fn last(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(more: &str) -> Answer {
        let text = format!(
            r#"{{"id": 7857118082129425400, "name": "vm-1",
                "zone": "projects/518549494526/zones/us-central1-b",
                "machineType": "projects/518549494526/machineTypes/e2-medium",
                "serviceAccounts": {{"default": {{"token": "hunter2"}}}}{more}}}"#
        );
        parse(text).unwrap()
    }

    #[test]
    fn the_identity_of_an_instance_is_read() {
        let instance = parsed("").instance;
        assert_eq!(instance.id.as_deref(), Some("7857118082129425400"));
        assert_eq!(instance.name.as_deref(), Some("vm-1"));
        assert_eq!(instance.project.as_deref(), Some("518549494526"));
        let zone = instance.availability_zone.as_deref();
        assert_eq!(zone, Some("us-central1-b"));
        assert_eq!(instance.flavor.as_deref(), Some("e2-medium"));
    }

    #[test]
    fn what_ends_the_vm_is_a_notice_and_what_moves_it_is_none() {
        let cases = [
            (r#""preempted": "FALSE", "maintenanceEvent": "NONE""#, None),
            (r#""maintenanceEvent": "MIGRATE_ON_HOST_MAINTENANCE""#, None),
            (r#""preempted": 1, "maintenanceEvent": ["TERMINATE"]"#, None),
            (r#""preempted": "TRUE""#, Some(("preempted", 30))),
            (r#""preempted": "true""#, Some(("preempted", 30))),
            (
                r#""maintenanceEvent": "TERMINATE_ON_HOST_MAINTENANCE""#,
                Some(("maintenance-event", 60)),
            ),
        ];
        for (fields, expected) in cases {
            let answer = parsed(&format!(", {fields}"));
            let found: Vec<(&str, When)> = answer
                .limits
                .iter()
                .map(|limit| (limit.origin.key.as_str(), limit.when.clone()))
                .collect();
            let when = |seconds| When::AfterNotice(Duration::from_secs(seconds));
            let expected = expected.map(|(key, seconds)| (key, when(seconds)));
            assert_eq!(found, Vec::from_iter(expected), "{fields}");
        }
    }

    #[test]
    fn attributes_are_as_openstacks_meta_and_no_other_is_kept() {
        let answer = parsed(
            r#", "attributes": {"vmstage_lifetime": "36h", "ssh-keys": "hunter2",
                "startup-script": "hunter2", "machinefeatures": "http://192.0.2.1/mf"}"#,
        );
        let lifetime = When::AfterFirstBoot(Duration::from_secs(36 * 3600));
        assert_eq!(answer.limits[0].when, lifetime);
        let origin = "vmstage_lifetime in the google metadata";
        assert_eq!(answer.limits[0].origin.to_string(), origin);
        assert_eq!(answer.meta.len(), 2);
        assert!(!format!("{answer:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_not_the_document_of_an_instance_is_refused() {
        for text in ["", "<html>", "[]", "{}", r#"{"name": "vm"}"#, r#"{"id": 1"#] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse(r#"{"id": "a/b"}"#).unwrap().instance.id, None);
    }

    #[test]
    fn a_held_request_names_the_tag_that_is_known_if_it_can() {
        let base = "http://host";
        assert_eq!(url(base, None), format!("{base}/{PATH}"));
        let held = format!("{base}/{PATH}&wait_for_change=true&last_etag=c0ffee&timeout_sec=60");
        assert_eq!(url(base, Some("c0ffee")), held);
        assert!(is_tag("411261ca6c9e4021"));
        for wrong in ["", "a b", "a&x=y", "\"quoted\"", &"a".repeat(65)] {
            assert!(!is_tag(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_service_that_answers_at_once_each_time_is_asked_less_and_less_often() {
        let mut session = Session::default();
        let mut next = |lasted| session.pause(Duration::from_secs(lasted), 0.0).as_secs();
        let pauses: Vec<u64> = (0..12).map(|_| next(0)).collect();
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
        assert_eq!((next(60), next(0), next(0), next(0)), (0, 0, 0, 1));
        session.quick = u32::MAX;
        let half = session.pause(Duration::ZERO, 1.0);
        assert_eq!(half, Duration::from_secs(32));
    }
}
