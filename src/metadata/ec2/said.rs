//! What EC2's metadata service says of an instance's end, one kind of answer each.

use std::time::Duration;

use serde::Deserialize;

use crate::clock;
use crate::deadline::limit::{LIFETIME, Limit, When};
use crate::deadline::origin::{LimitSource, Origin};
use crate::metadata::json::{Json, Part, Text, array, document};
use crate::text::{excerpt, is_control};

pub(super) const SPOT: &str = "spot/instance-action";
pub(super) const LIFECYCLE: &str = "autoscaling/target-lifecycle-state";
pub(super) const EVENTS: &str = "events/maintenance/scheduled";

/// What EC2 says of the instance's end.
#[derive(Debug, Default, PartialEq)]
pub struct Said {
    /// What ends it.
    pub limits: Vec<Limit>,
    /// What does not, in sentences.
    pub warnings: Vec<String>,
}

impl Said {
    fn limit(limit: Limit) -> Said {
        Said {
            limits: vec![limit],
            warnings: Vec::new(),
        }
    }
}

fn origin(key: impl Into<String>) -> Origin {
    Origin::new(LimitSource::Ec2, key)
}

pub(super) fn one_line(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let one = !text.is_empty() && text.len() <= 255 && !text.contains(is_control);
    one.then(|| text.to_string())
}

/// A spot instance is taken back two minutes after
/// `{"action": "terminate", "time": "2026-11-23T10:41:00Z"}`; or stopped, or hibernated. An end
/// is an end, also at a time that nobody can read.
pub fn spot(text: &[u8]) -> Said {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Notice {
        action: Text,
        time: Text,
    }
    let notice: Notice = match document(text.to_vec()) {
        Ok(notice) => notice,
        Err(reason) => return Said::limit(unusable_spot(reason)),
    };
    let Some(action) = notice.action.as_str() else {
        return Said::limit(unusable_spot("it is not a spot notice".into()));
    };
    let said = notice.time.as_str().map(When::from_instant);
    let said = said.filter(|when| !matches!(when, When::Unusable(_)));
    Said::limit(Limit::notice(
        origin(SPOT).with_detail(excerpt(action)),
        said.unwrap_or(When::AfterNotice(SPOT_NOTICE)),
    ))
}

/// From a spot notice to the end.
const SPOT_NOTICE: Duration = Duration::from_secs(120);

pub(super) fn unusable_spot(reason: String) -> Limit {
    Limit::notice(origin(SPOT), When::Unusable(reason))
}

/// Where an auto-scaling group moves the instance to: `InService` is the rule, `Terminated`
/// its end, as soon as the group's lifecycle hooks allow.
pub fn lifecycle(text: &[u8]) -> Said {
    let is_state = |state: &String| {
        let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b':';
        state.bytes().all(is_letter)
    };
    match one_line(text).filter(is_state) {
        Some(state) if state.ends_with("Terminated") => {
            let origin = origin(LIFECYCLE).with_detail(state);
            Said::limit(Limit::notice(origin, When::AfterNotice(Duration::ZERO)))
        }
        Some(_) => Said::default(),
        None => {
            let when = When::Unusable("it is not the name of a state".into());
            Said::limit(Limit::notice(origin(LIFECYCLE), when))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Event {
    code: Text,
    event_id: Text,
    state: Text,
    not_before: Text,
    description: Text,
}

/// More are not looked at.
const MOST_EVENTS: usize = 32;

/// What EC2 will do with the instance, days ahead.
pub fn events(text: &[u8]) -> Said {
    let events: Vec<Part<Event>> = match array(text.to_vec()) {
        Ok(events) => events,
        Err(reason) => {
            return Said::limit(Limit::new(origin(EVENTS), When::Unusable(reason)));
        }
    };
    let mut said = Said::default();
    let is_to_come = |event: &Event| match event.state.as_str() {
        Some("completed" | "canceled") => false,
        _ => event.code.as_str().is_some(),
    };
    let events = events.into_iter().filter_map(Json::object);
    for event in events.filter(is_to_come).take(MOST_EVENTS) {
        let code = excerpt(event.code.as_str().unwrap_or_default());
        let not_before = event.not_before.as_str().unwrap_or_default();
        match code.as_str() {
            "instance-stop" | "instance-retirement" => {
                let id = excerpt(event.event_id.as_str().unwrap_or("?"));
                let origin = origin(format!("{EVENTS}/{id}")).with_detail(code);
                said.limits
                    .push(Limit::new(origin, When::from_instant(not_before)));
            }
            // The instance goes on afterwards.
            _ => said
                .warnings
                .push(in_words(&code, not_before, &event.description)),
        }
    }
    said
}

fn in_words(code: &str, not_before: &str, description: &Text) -> String {
    let when = match clock::parse_utc(not_before) {
        Some(at) => format!(", not before {}", clock::utc(at)),
        None => String::new(),
    };
    let why = description
        .as_str()
        .map_or(String::new(), |text| format!(": {}", excerpt(text)));
    format!("EC2 has scheduled for this instance: {code}{when}{why}")
}

/// A tag, as OpenStack's `meta`. Tags are there where whoever launched the instance allowed
/// them in its metadata.
pub fn tag(key: &str, text: &[u8]) -> Said {
    let Some(value) = one_line(text) else {
        let when = When::Unusable("it is not one line of text".into());
        return Said::limit(Limit::new(origin(key), when));
    };
    let when = match key {
        LIFETIME => When::from_lifetime(&value),
        _ => When::from_instant(&value),
    };
    Said::limit(Limit::new(origin(key), when))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot_limit(text: &[u8]) -> Limit {
        spot(text).limits.remove(0)
    }

    #[test]
    fn a_spot_notice_is_a_limit() {
        let notice = br#"{"action": "terminate", "time": "2026-11-23T10:41:00Z"}"#;
        let limit = spot_limit(notice);
        assert_eq!(limit.when, When::At(1_795_430_460));
        assert_eq!(
            limit.origin.to_string(),
            "spot/instance-action (terminate) in the ec2 metadata"
        );
    }

    #[test]
    fn what_is_not_a_spot_notice_is_no_limit() {
        for text in [
            "",
            "<html>",
            "{}",
            r#"{"action": 5}"#,
            "[]",
            r#"{"action": "stop""#,
        ] {
            let limit = spot_limit(text.as_bytes());
            assert!(
                matches!(limit.when, When::Unusable(_)),
                "{text:?} gave {limit:?}"
            );
        }
    }

    #[test]
    fn a_spot_notice_at_a_time_that_nobody_can_read_leaves_two_minutes() {
        let after = When::AfterNotice(Duration::from_secs(120));
        let at = When::At(1_795_430_460);
        for (more, when) in [
            ("", &after),
            (r#", "time": null"#, &after),
            (r#", "time": "soon""#, &after),
            (r#", "time": "0""#, &after),
            (r#", "time": 1e400"#, &after),
            (r#", "time": "2026-11-23T10:41:00Z", "time": "soon""#, &at),
            (r#", "time": "2026-11-23 10:41:00", "x": 1e400"#, &at),
        ] {
            let text = format!(r#"{{"action": "stop"{more}}}"#);
            assert_eq!(spot_limit(text.as_bytes()).when, *when, "{more}");
        }
    }

    #[test]
    fn a_value_is_one_line_of_text() {
        assert_eq!(one_line(b"m1.large\n").as_deref(), Some("m1.large"));
        for wrong in [&b""[..], b"\n", b"a\nb", b"\xff", &[b'x'; 256]] {
            assert_eq!(one_line(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_auto_scaling_group_that_ends_the_instance_says_no_time() {
        for state in [
            "InService",
            "Standby",
            "Detached",
            "Warmed:Stopped",
            "InService\n",
        ] {
            assert_eq!(lifecycle(state.as_bytes()), Said::default(), "{state}");
        }
        for state in ["Terminated", "Warmed:Terminated", "Terminated\n"] {
            let said = lifecycle(state.as_bytes());
            let at_once = When::AfterNotice(Duration::ZERO);
            assert_eq!(said.limits[0].when, at_once, "{state}");
        }
        for garbage in ["", "<html>Terminated</html>", "a\nTerminated", "7"] {
            let said = lifecycle(garbage.as_bytes());
            assert!(!said.limits[0].is_usable(), "{garbage:?}");
        }
    }

    fn event(code: &str, state: &str, not_before: &str) -> String {
        format!(
            r#"{{"NotBefore": "{not_before}", "Code": "{code}", "Description": "why",
                "EventId": "instance-event-0d59937288b749b32", "NotAfter": "21 Jan 2027 09:17:23 GMT",
                "State": "{state}"}}"#
        )
    }

    #[test]
    fn a_scheduled_stop_is_a_limit_and_what_the_instance_survives_is_a_warning() {
        let at = "23 Nov 2026 10:41:00 GMT";
        for code in ["instance-stop", "instance-retirement"] {
            let said = events(format!("[{}]", event(code, "active", at)).as_bytes());
            assert_eq!(said.limits[0].when, When::At(1_795_430_460));
            let origin = format!(
                "events/maintenance/scheduled/instance-event-0d59937288b749b32 ({code}) in the ec2 \
                 metadata"
            );
            assert_eq!(said.limits[0].origin.to_string(), origin);
            for state in ["completed", "canceled"] {
                let said = events(format!("[{}]", event(code, state, at)).as_bytes());
                assert_eq!(said, Said::default(), "{state}");
            }
            let said = events(format!("[{}]", event(code, "active", "soon")).as_bytes());
            assert!(!said.limits[0].is_usable());
        }
        for code in [
            "instance-reboot",
            "system-reboot",
            "system-maintenance",
            "new",
        ] {
            let said = events(format!("[{}]", event(code, "active", at)).as_bytes());
            assert_eq!(said.limits, [], "{code}");
            let warning = format!(
                "EC2 has scheduled for this instance: {code}, not before 2026-11-23T10:41:00Z: why"
            );
            assert_eq!(said.warnings, [warning]);
        }
    }

    #[test]
    fn an_odd_event_costs_itself_and_what_is_no_list_is_said() {
        let good = event("instance-stop", "active", "23 Nov 2026 10:41:00 GMT");
        let text = format!(r#"[5, {{}}, {{"Code": 7}}, [], {good}, {{"x": 1e400}}]"#);
        assert_eq!(events(text.as_bytes()).limits.len(), 1);
        assert_eq!(events(b"[]"), Said::default());
        let many = vec![good; 1000].join(",");
        assert_eq!(events(format!("[{many}]").as_bytes()).limits.len(), 32);
        for garbage in ["", "<html>", "{}", "[{", "null"] {
            let said = events(garbage.as_bytes());
            assert!(!said.limits[0].is_usable(), "{garbage:?}");
        }
    }

    #[test]
    fn tags_are_as_openstacks_meta() {
        let lifetime = tag(LIFETIME, b"36h\n").limits.remove(0);
        assert_eq!(
            lifetime.when,
            When::AfterFirstBoot(Duration::from_secs(36 * 3600))
        );
        assert_eq!(
            lifetime.origin.to_string(),
            "vmstage_lifetime in the ec2 metadata"
        );
        let deadline = tag("vmstage_deadline", b"2026-11-23T10:41Z")
            .limits
            .remove(0);
        assert_eq!(deadline.when, When::At(1_795_430_460));
        for garbage in [&b""[..], b"a\nb", b"<html>", b"\xff"] {
            assert!(!tag(LIFETIME, garbage).limits[0].is_usable());
        }
    }
}
