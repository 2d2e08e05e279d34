//! What Google's, Azure's and EC2's services say, asked for as they want to be asked.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{program, tool};
use crate::doubles::{Azure, Ec2, Google, NOW};
use crate::metadata::Asking;
use crate::server::{Server, Then, begin, respond, trickle};
use vmstage::config::Config;
use vmstage::deadline::ledger::About;
use vmstage::deadline::limit::{Limit, LimitKind, When};
use vmstage::host::Host;
use vmstage::metadata::machine_features::Environment;
use vmstage::metadata::{Again, Answer, Held, NoAnswer, Wait};

claims![
    google_says_who_the_vm_is_and_that_it_is_preempted,
    a_google_that_answers_at_once_each_time_is_asked_less_and_less_often,
    azure_says_who_the_vm_is_and_that_it_is_ended,
    an_event_of_azure_that_begins_keeps_its_time_and_one_that_vanishes_is_no_limit,
    azure_that_does_not_say_the_vms_name_takes_no_event_back,
    azure_is_told_to_go_on_with_what_waits_for_this_vm,
    azure_is_asked_for_no_events_where_none_are_wanted,
    ec2_says_when_it_stops_an_instance_and_what_its_tags_say,
    a_group_that_ends_an_instance_says_so_once,
    what_ec2_fails_to_say_takes_nothing_back,
    vendor_data_is_a_word_of_the_site_to_vmstage,
    the_clock_of_whoever_answers_is_handed_up,
    every_source_is_printed_without_a_secret,
    a_retry_after_of_a_year_is_ten_minutes,
    ninety_thousand_keys_fit_into_little_memory;
    alone:
    a_change_at_google_ends_a_request_that_is_held_within_a_second,
    a_held_request_does_not_hold_up_whoever_started_it,
    a_held_request_that_misbehaves_is_a_failure_in_time,
    the_first_request_for_events_may_take_long_and_holds_up_nobody,
    vendor_data_that_takes_its_time_holds_up_nobody,
];

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn config(url: &str, source: &str, lines: &str) -> Config {
    Config::parse(&format!(
        "[metadata]\nsources = [{source:?}]\nurl = \"{url}\"\nrequest_timeout = \"1s\"\n{lines}"
    ))
    .unwrap()
}

/// This source of this service alone.
struct Service {
    config: Config,
    host: Host,
}

impl Service {
    fn of(url: &str, source: &str) -> Service {
        Service {
            config: config(url, source, ""),
            host: Host::at("/nonexistent"),
        }
    }

    fn metadata(&self) -> Asking<'_> {
        Asking::on(&self.host, &self.config, Environment::default())
    }
}

/// The answer to one round.
#[track_caller]
fn ask(metadata: &mut Asking) -> Answer {
    let sources = metadata.sources();
    let asked = metadata.ask(&sources, seconds(5), Again::Never);
    asked[0].result.clone().unwrap()
}

/// Waits for what comes of a request that is held.
#[track_caller]
fn outcome(held: &mut Held, most: Duration) -> Result<Answer, NoAnswer> {
    let start = Instant::now();
    loop {
        if let Some(outcome) = held.step() {
            return outcome;
        }
        assert!(start.elapsed() < most, "nothing within {most:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Takes what comes of such a request.
#[track_caller]
fn wait(metadata: &mut Asking, what: Wait) {
    let mut held = metadata.wait_for(what).unwrap();
    let outcome = outcome(&mut held, seconds(10));
    metadata.take(what, outcome).unwrap();
}

/// The key and the time of each limit that has one, or that is a notice which was just heard.
fn ends(metadata: &Asking) -> Vec<(String, u64)> {
    let end = |limit: Limit| match limit.when {
        When::At(at) => Some((limit.origin.key, at)),
        When::AfterNotice(lasts) => Some((limit.origin.key, NOW + lasts.as_secs())),
        _ => None,
    };
    metadata.limits().into_iter().filter_map(end).collect()
}

fn lifetime() -> When {
    When::AfterFirstBoot(seconds(36 * 3600))
}

// Google.

fn google_says_who_the_vm_is_and_that_it_is_preempted() {
    let google = Google::start();
    let service = Service::of(&google.server.url(), "google");
    let mut metadata = service.metadata();
    let answer = ask(&mut metadata);
    assert_eq!(answer.instance.id.as_deref(), Some("7857118082129425400"));
    assert_eq!(answer.instance.name.as_deref(), Some("vm-1"));
    assert_eq!(answer.limits.len(), 1);
    assert_eq!(answer.limits[0].when, lifetime());
    assert_eq!(metadata.instance(), Some(answer.instance));
    // What moves the VM is no end.
    google.say(r#", "maintenanceEvent": "MIGRATE_ON_HOST_MAINTENANCE", "preempted": "FALSE""#);
    assert_eq!(ask(&mut metadata).limits.len(), 1);
    google.say(r#", "maintenanceEvent": "NONE", "preempted": "TRUE""#);
    let answer = ask(&mut metadata);
    assert_eq!(answer.limits[1].kind, LimitKind::Notice);
    assert_eq!(ends(&metadata), [("preempted".to_string(), NOW + 30)]);
    // It is taken back.
    google.say("");
    ask(&mut metadata);
    assert_eq!(ends(&metadata), []);
}

fn a_change_at_google_ends_a_request_that_is_held_within_a_second() {
    let google = Google::start();
    let service = Service::of(&google.server.url(), "google");
    let mut metadata = service.metadata();
    ask(&mut metadata);
    assert_eq!(metadata.waits(), [Wait::ForChangeAtGoogle]);
    let mut slowest = Duration::ZERO;
    for preempted in ["TRUE", "FALSE", "TRUE", "FALSE", "TRUE"] {
        let mut held = metadata.wait_for(Wait::ForChangeAtGoogle).unwrap();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(held.step(), None);
        let changed = Instant::now();
        google.say(&format!(r#", "preempted": "{preempted}""#));
        let outcome = outcome(&mut held, seconds(5));
        slowest = slowest.max(changed.elapsed());
        metadata.take(Wait::ForChangeAtGoogle, outcome).unwrap();
        assert_eq!(ends(&metadata).len(), usize::from(preempted == "TRUE"));
    }
    println!("the slowest of five notices was heard of after {slowest:?}");
    assert!(slowest < seconds(1), "{slowest:?}");
    let requests = google.server.asked_for();
    assert_eq!(requests.len(), 6);
    assert!(requests[1].contains("wait_for_change=true&last_etag=c0ffee0000000001&timeout_sec=60"));
}

fn a_held_request_does_not_hold_up_whoever_started_it() {
    let google = Google::start();
    let service = Service::of(&google.server.url(), "google");
    let mut metadata = service.metadata();
    ask(&mut metadata);
    let start = Instant::now();
    let mut held = metadata.wait_for(Wait::ForChangeAtGoogle).unwrap();
    for _ in 0..100 {
        assert_eq!(held.step(), None);
    }
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    // Whatever the child was at.
    let start = Instant::now();
    drop(held);
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
}

/// What comes of a request to such a service that has two seconds and not 70.
fn held_by(service: &Server) -> (String, Duration) {
    let url = service.url();
    let mut held = Held::start(seconds(2), move |client, until| {
        client.get(&url, &[], until).map_err(NoAnswer::Http)?;
        Ok(Answer::default())
    })
    .unwrap();
    let start = Instant::now();
    let failure = outcome(&mut held, seconds(4)).unwrap_err();
    (failure.to_string(), start.elapsed())
}

fn a_held_request_that_misbehaves_is_a_failure_in_time() {
    let never = Server::start(|_, _| {
        thread::sleep(seconds(60));
        Then::Close
    });
    let byte_by_byte = Server::start(|_, stream| {
        begin(stream, 1000);
        trickle(stream, &[b' '; 1000], Duration::from_millis(200))
    });
    for service in [never, byte_by_byte] {
        let (why, took) = held_by(&service);
        assert!(why.contains("no whole answer within 2.0s"), "{why}");
        assert!(took < seconds(3), "{took:?}");
    }
    let endless = Server::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while stream.write_all(&[b' '; 65536]).is_ok() {}
        Then::Close
    });
    let (why, _) = held_by(&endless);
    assert!(why.contains("larger than 1048576 bytes"), "{why}");
    let at_once = Server::start(|_, _| Then::Close);
    let (_, took) = held_by(&at_once);
    assert!(took < seconds(1), "{took:?}");
}

fn a_google_that_answers_at_once_each_time_is_asked_less_and_less_often() {
    for answer in [&br#"{"id": 1}"#[..], b"<html>"] {
        let google = Server::start(move |_, stream| respond(stream, 200, "ETag: a\r\n", answer));
        let service = Service::of(&google.url(), "google");
        let mut metadata = service.metadata();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let what = Wait::ForChangeAtGoogle;
            let mut held = metadata.wait_for(what).unwrap();
            let outcome = outcome(&mut held, seconds(5));
            let lasted = held.lasted();
            let _ = metadata.take(what, outcome);
            pauses.push(metadata.pause(what, lasted.as_secs(), None).as_secs());
        }
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8]);
        let wanted = Some(seconds(300));
        let pause = metadata.pause(Wait::ForChangeAtGoogle, 60, wanted);
        assert_eq!(pause, seconds(300));
    }
}

// Azure.

const EVENT: &str = "602d9444-d2cd-49c7-8624-8643e7171297";

fn event(kind: &str, status: &str, source: &str, resources: &str, not_before: &str) -> String {
    format!(
        r#""EventId": "{EVENT}", "EventType": "{kind}", "EventStatus": "{status}",
           "EventSource": "{source}", "Resources": {resources}, "NotBefore": "{not_before}",
           "Description": "why""#
    )
}

fn azure_says_who_the_vm_is_and_that_it_is_ended() {
    let azure = Azure::start(Duration::ZERO);
    let service = Service::of(&azure.server.url(), "azure");
    let mut metadata = service.metadata();
    let answer = ask(&mut metadata);
    let id = "efd3aced-81c4-4521-bbe7-154bcb11e816";
    assert_eq!(answer.instance.id.as_deref(), Some(id));
    assert_eq!(answer.limits.len(), 1);
    assert_eq!(answer.limits[0].when, lifetime());
    assert!(metadata.has_spot_notices());
    let (this, another) = (r#"["vm_0"]"#, r#"["vm_1"]"#);
    let soon = "Thu, 24 Dec 2026 18:00:30 GMT";
    let others = event("Preempt", "Scheduled", "Platform", another, soon);
    azure.say(&[&others]);
    metadata.ask_for_spot_notice(seconds(1)).unwrap();
    assert_eq!(ends(&metadata), []);
    let key = format!("scheduledevents/{EVENT}");
    for (kind, at) in [("Preempt", soon), ("Terminate", "2026-12-24T18:00:30Z")] {
        let this = event(kind, "Scheduled", "Platform", this, at);
        azure.say(&[&others, &this]);
        let before = azure.server.seen().len();
        metadata.ask_for_spot_notice(seconds(1)).unwrap();
        assert_eq!(azure.server.seen().len(), before + 1);
        // The tag holds beside it.
        assert_eq!(metadata.limits().len(), 2, "{kind}");
        assert_eq!(ends(&metadata), [(key.clone(), NOW + 30)], "{kind}");
        azure.say(&[]);
        metadata.ask_for_spot_notice(seconds(1)).unwrap();
        assert_eq!(ends(&metadata), []);
    }
    for kind in ["Freeze", "Reboot", "Redeploy"] {
        azure.say(&[&event(kind, "Scheduled", "Platform", this, soon)]);
        let answer = ask(&mut metadata);
        assert_eq!(ends(&metadata), [], "{kind}");
        let warning = format!(
            "Azure has scheduled for this VM: {kind}, not before 2026-12-24T18:00:30Z: why"
        );
        assert_eq!(answer.warnings, [warning]);
    }
}

fn the_first_request_for_events_may_take_long_and_holds_up_nobody() {
    let azure = Azure::start(seconds(3));
    let service = Service::of(&azure.server.url(), "azure");
    let mut metadata = service.metadata();
    let start = Instant::now();
    let answer = ask(&mut metadata);
    // Who it is is known, and the limit of its tag.
    assert_eq!(answer.limits.len(), 1);
    assert!(
        start.elapsed() < Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    assert!(
        answer.warnings[0].contains("scheduled events: ")
            && answer.warnings[0].ends_with("; the first answer may take two minutes"),
        "{:?}",
        answer.warnings
    );
    assert_eq!(metadata.waits(), [Wait::ForEventsOfAzure]);
    let soon = "Thu, 24 Dec 2026 18:00:30 GMT";
    azure.say(&[&event(
        "Preempt",
        "Scheduled",
        "Platform",
        r#"["vm_0"]"#,
        soon,
    )]);
    wait(&mut metadata, Wait::ForEventsOfAzure);
    assert_eq!(ends(&metadata)[0].1, NOW + 30);
    assert_eq!(metadata.waits(), []);
}

fn an_event_of_azure_that_begins_keeps_its_time_and_one_that_vanishes_is_no_limit() {
    let azure = Azure::start(Duration::ZERO);
    let service = Service::of(&azure.server.url(), "azure");
    let mut metadata = service.metadata();
    ask(&mut metadata);
    let event = |status, at| event("Terminate", status, "Platform", r#"["vm_0"]"#, at);
    let earlier = "Thu, 24 Dec 2026 17:59:50 GMT";
    let cases = [
        (Some(event("Scheduled", earlier)), Some(NOW - 10)),
        (Some(event("Started", "")), Some(NOW - 10)),
        (None, None),
        // One that has begun and was not heard of before.
        (Some(event("Started", "")), Some(NOW)),
        (None, None),
        // At least five minutes are left.
        (Some(event("Scheduled", "")), Some(NOW + 300)),
    ];
    for (event, at) in cases {
        azure.say(&event.iter().map(String::as_str).collect::<Vec<_>>());
        metadata.ask_for_spot_notice(seconds(1)).unwrap();
        let found: Vec<u64> = ends(&metadata).into_iter().map(|(_, at)| at).collect();
        assert_eq!(found, Vec::from_iter(at), "{event:?}");
    }
}

fn azure_that_does_not_say_the_vms_name_takes_no_event_back() {
    let round = Arc::new(AtomicU32::new(0));
    let current = round.clone();
    let soon = "Thu, 24 Dec 2026 18:00:30 GMT";
    let event = event("Preempt", "Scheduled", "Platform", r#"["vm_0"]"#, soon);
    let server = Server::start(move |request, stream| {
        let is_named = current.load(Ordering::Relaxed) == 1;
        let name = if is_named { r#", "name": "vm_0""# } else { "" };
        let body = match request.path.split_once('?') {
            Some(("/metadata/instance", _)) => format!(r#"{{"compute": {{"vmId": "a"{name}}}}}"#),
            Some(("/metadata/scheduledevents", _)) => format!(r#"{{"Events": [{{{event}}}]}}"#),
            _ => return respond(stream, 404, "", b""),
        };
        respond(stream, 200, "", body.as_bytes())
    });
    let service = Service::of(&server.url(), "azure");
    let mut metadata = service.metadata();
    // The first one after a restart has no word of the events.
    let answer = ask(&mut metadata);
    assert!(matches!(answer.statement().about, About::Keys(_)));
    round.store(1, Ordering::Relaxed);
    ask(&mut metadata);
    assert_eq!(ends(&metadata).len(), 1);
    round.store(2, Ordering::Relaxed);
    ask(&mut metadata);
    assert!(metadata.has_spot_notices());
    metadata.ask_for_spot_notice(seconds(1)).unwrap();
    assert_eq!(ends(&metadata).len(), 1);
    let asked = server.asked_for();
    assert!(
        asked.iter().all(|line| line.contains("/metadata/")),
        "{asked:?}"
    );
    assert!(
        asked.last().unwrap().contains("scheduledevents"),
        "{asked:?}"
    );
}

fn azure_is_told_to_go_on_with_what_waits_for_this_vm() {
    let azure = Azure::start(Duration::ZERO);
    let service = Service::of(&azure.server.url(), "azure");
    let mut metadata = service.metadata();
    let soon = "Thu, 24 Dec 2026 18:05:00 GMT";
    let both = event("Reboot", "Scheduled", "User", r#"["vm_0", "vm_1"]"#, soon);
    azure.say(&[&both]);
    ask(&mut metadata);
    assert_eq!(metadata.pending(), []);
    for (kind, is_end) in [("Reboot", false), ("Terminate", true)] {
        azure.say(&[&event(kind, "Scheduled", "User", r#"["vm_0"]"#, soon)]);
        ask(&mut metadata);
        let pending = metadata.pending();
        assert_eq!((pending.len(), pending[0].is_end), (1, is_end));
        metadata.acknowledge(&pending[0], seconds(1)).unwrap();
        let body = format!(r#"{{"StartRequests":[{{"EventId":"{EVENT}"}}]}}"#);
        assert_eq!(azure.posted().last(), Some(&body));
    }
    let posts = azure.posted().len();
    assert_eq!(posts, 2);
}

fn azure_is_asked_for_no_events_where_none_are_wanted() {
    let azure = Azure::start(Duration::ZERO);
    let config = config(&azure.server.url(), "azure", "azure_events = false");
    let host = Host::at("/nonexistent");
    let mut metadata = Asking::on(&host, &config, Environment::default());
    for _ in 0..3 {
        ask(&mut metadata);
        metadata.ask_again(seconds(1));
    }
    assert!(!metadata.has_spot_notices() && metadata.waits().is_empty());
    let asked = azure.server.asked_for();
    assert!(
        asked.iter().all(|line| !line.contains("scheduledevents")),
        "{asked:?}"
    );
    assert!(!asked.is_empty());
}

// EC2.

fn ec2_says_when_it_stops_an_instance_and_what_its_tags_say() {
    let ec2 = Ec2::start();
    let service = Service::of(&ec2.server.url(), "ec2");
    let mut metadata = service.metadata();
    assert_eq!(ask(&mut metadata).limits, []);
    ec2.say("tags/instance/vmstage_lifetime", Some("36h"));
    ec2.say("tags/instance/vmstage_deadline", Some("2026-12-25T18:00Z"));
    let event = |code: &str, state: &str| {
        format!(
            r#"[{{"NotBefore": "31 Dec 2026 18:00:00 GMT", "Code": "{code}",
                "Description": "The instance is running on degraded hardware",
                "EventId": "instance-event-0d59937288b749b32",
                "NotAfter": "31 Dec 2026 20:00:00 GMT", "State": "{state}"}}]"#
        )
    };
    let stop = (
        "events/maintenance/scheduled/instance-event-0d59937288b749b32".to_string(),
        NOW + 7 * 86_400,
    );
    let deadline = ("vmstage_deadline".to_string(), NOW + 86_400);
    for (code, state, is_end) in [
        ("instance-stop", "active", true),
        ("instance-retirement", "active", true),
        ("instance-stop", "canceled", false),
        ("system-maintenance", "active", false),
        ("instance-reboot", "active", false),
        ("system-reboot", "active", false),
    ] {
        ec2.say("events/maintenance/scheduled", Some(&event(code, state)));
        let mut answer = ask(&mut metadata);
        if state == "canceled" {
            // One answer alone takes no deadline back.
            assert_eq!(ends(&metadata), [stop.clone(), deadline.clone()]);
            answer = ask(&mut metadata);
        }
        let expected = is_end.then(|| stop.clone()).into_iter();
        let expected: Vec<_> = expected.chain([deadline.clone()]).collect();
        assert_eq!(ends(&metadata), expected, "{code} {state}");
        let is_warned_of = state == "active" && !is_end;
        assert_eq!(answer.warnings.len(), usize::from(is_warned_of), "{code}");
        assert!(answer.limits.iter().any(|limit| limit.when == lifetime()));
    }
}

fn a_group_that_ends_an_instance_says_so_once() {
    let ec2 = Ec2::start();
    let service = Service::of(&ec2.server.url(), "ec2");
    let mut metadata = service.metadata();
    ask(&mut metadata);
    let path = "autoscaling/target-lifecycle-state";
    ec2.say(path, Some("InService"));
    metadata.ask_for_spot_notice(seconds(1)).unwrap();
    assert_eq!(ends(&metadata), []);
    ec2.say(path, Some("Terminated"));
    for _ in 0..2 {
        metadata.ask_for_spot_notice(seconds(1)).unwrap();
        assert_eq!(ends(&metadata), [(path.to_string(), NOW)]);
        ask(&mut metadata);
        assert_eq!(ends(&metadata), [(path.to_string(), NOW)]);
    }
    ec2.say(path, Some("InService"));
    metadata.ask_for_spot_notice(seconds(1)).unwrap();
    assert_eq!(ends(&metadata), []);
}

fn what_ec2_fails_to_say_takes_nothing_back() {
    let says = std::sync::Arc::new(AtomicU32::new(200));
    let now = says.clone();
    let server = Server::start(move |request, stream| match request.path.as_str() {
        "/latest/api/token" => respond(stream, 200, "", b"TOKEN"),
        "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123"),
        "/latest/meta-data/instance-type" => respond(stream, 200, "", b"m5.large"),
        "/latest/meta-data/tags/instance/vmstage_deadline" => match now.load(Ordering::Relaxed) {
            200 => respond(stream, 200, "", b"2026-12-25T18:00:00Z"),
            0 => respond(stream, 200, "", b"<html>busy</html>"),
            code => respond(stream, code as u16, "", b""),
        },
        _ => respond(stream, 404, "", b""),
    });
    let service = Service::of(&server.url(), "ec2");
    let mut metadata = service.metadata();
    let deadline = [("vmstage_deadline".to_string(), NOW + 86_400)];
    for code in [200, 500, 403, 0] {
        says.store(code, Ordering::Relaxed);
        let answer = ask(&mut metadata);
        assert_eq!(ends(&metadata), deadline, "{code}");
        assert_eq!(answer.warnings.len(), usize::from(code > 200), "{code}");
        metadata.ask_for_spot_notice(seconds(1)).unwrap();
        assert_eq!(ends(&metadata), deadline, "{code}");
    }
    says.store(404, Ordering::Relaxed);
    ask(&mut metadata);
    assert_eq!(ends(&metadata), []);
}

// OpenStack's vendor data.

const META_DATA: &str = "/openstack/latest/meta_data.json";
const VENDOR_DATA: &str = "/openstack/latest/vendor_data2.json";

/// An OpenStack whose site says this after a while.
fn openstack(status: u16, vendor_data: &'static str, after: Duration) -> Server {
    Server::start(move |request, stream| match request.path.as_str() {
        META_DATA => respond(stream, 200, "", br#"{"uuid": "aaaa", "meta": {"a": "b"}}"#),
        VENDOR_DATA => {
            thread::sleep(after);
            respond(stream, status, "", vendor_data.as_bytes())
        }
        _ => respond(stream, 404, "", b""),
    })
}

fn vendor_data_is_a_word_of_the_site_to_vmstage() {
    let end = ("vmstage_deadline".to_string(), NOW);
    let said = r#"{"static": {}, "vmstage": {"deadline": "2026-12-24T18:00:00.000000"}}"#;
    for (status, text, expected) in [
        (200, said, vec![end]),
        (
            200,
            r#"{"another": {"deadline": "2026-12-24T18:00:00Z"}}"#,
            vec![],
        ),
        (200, "{}", vec![]),
        (404, "", vec![]),
    ] {
        let server = openstack(status, text, Duration::ZERO);
        let service = Service::of(&server.url(), "openstack");
        let mut metadata = service.metadata();
        // Nobody is asked before OpenStack is known to be there.
        assert_eq!(metadata.waits(), []);
        ask(&mut metadata);
        metadata.ask_again(seconds(1));
        let asked = server.asked_for();
        assert!(
            asked.iter().all(|line| !line.contains(VENDOR_DATA)),
            "{asked:?}"
        );
        assert_eq!(metadata.waits(), [Wait::ForVendorData]);
        wait(&mut metadata, Wait::ForVendorData);
        assert_eq!(ends(&metadata), expected, "{text}");
        // What is silent or garbage afterwards takes nothing back.
        let broken = Err(NoAnswer::Local("broken".into()));
        assert!(metadata.take(Wait::ForVendorData, broken).is_err());
        assert_eq!(ends(&metadata), expected, "{text}");
        let pause = metadata.pause(Wait::ForVendorData, 1, None);
        assert_eq!(pause, seconds(432));
    }
}

fn vendor_data_that_takes_its_time_holds_up_nobody() {
    let said = r#"{"vmstage": {"lifetime": "36h"}}"#;
    let server = openstack(200, said, seconds(3));
    let service = Service::of(&server.url(), "openstack");
    let mut metadata = service.metadata();
    ask(&mut metadata);
    let start = Instant::now();
    let mut held = metadata.wait_for(Wait::ForVendorData).unwrap();
    assert_eq!(held.step(), None);
    ask(&mut metadata);
    assert!(start.elapsed() < seconds(2), "{:?}", start.elapsed());
    let outcome = outcome(&mut held, seconds(10));
    metadata.take(Wait::ForVendorData, outcome).unwrap();
    assert_eq!(metadata.limits()[0].when, lifetime());
}

// All of them.

fn the_clock_of_whoever_answers_is_handed_up() {
    let google = Google::start();
    let azure = Azure::start(Duration::ZERO);
    let ec2 = Ec2::start();
    for (url, source) in [
        (google.server.url(), "google"),
        (azure.server.url(), "azure"),
        (ec2.server.url(), "ec2"),
    ] {
        let service = Service::of(&url, source);
        assert_eq!(ask(&mut service.metadata()).date, Some(NOW), "{source}");
    }
    for (date, expected) in [
        ("Date: Thu, 24 Dec 2026 18:00:00 GMT\r\n", Some(NOW)),
        ("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", Some(0)),
        ("Date: yesterday\r\n", None),
        ("Date: \r\n", None),
        ("", None),
    ] {
        let server = Server::saying(200, date, br#"{"uuid": "aaaa"}"#);
        let service = Service::of(&server.url(), "openstack");
        assert_eq!(ask(&mut service.metadata()).date, expected, "{date:?}");
    }
}

/// Runs `vmstage metadata` with this configuration.
fn printed(configuration: &str, run: impl FnOnce(&str) -> Command) -> (bool, String) {
    let number = thread::current().id();
    let name = format!("vmstage-clouds-{}-{number:?}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    fs::write(&file, configuration).unwrap();
    let ran = run(program().to_str().unwrap())
        .args(["metadata", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    fs::remove_file(file).unwrap();
    let said = String::from_utf8(ran.stdout).unwrap() + &String::from_utf8(ran.stderr).unwrap();
    (ran.status.success(), said)
}

fn every_source_is_printed_without_a_secret() {
    let google = Google::start();
    google.say(r#", "preempted": "TRUE""#);
    let azure = Azure::start(Duration::ZERO);
    azure.say(&[&event("Terminate", "Started", "User", r#"["vm_0"]"#, "")]);
    let ec2 = Ec2::start();
    ec2.say("autoscaling/target-lifecycle-state", Some("Terminated"));
    for (url, source, expected) in [
        (
            google.server.url(),
            "google",
            vec![
                "7857118082129425400",
                "e2-medium",
                "in 30 s (preempted in the google metadata)",
                "1 d 12 h from the first boot (vmstage_lifetime in the google metadata)",
            ],
        ),
        (
            azure.server.url(),
            "azure",
            vec![
                "westeurope",
                "in 0 s (scheduledevents/602d9444-d2cd-49c7-8624-8643e7171297 \
                 (Terminate) in the azure metadata)",
            ],
        ),
        (
            ec2.server.url(),
            "ec2",
            vec![
                "i-0123456789abcdef0",
                "in 0 s (autoscaling/target-lifecycle-state (Terminated) in the \
                 ec2 metadata)",
            ],
        ),
    ] {
        let settings = format!("[metadata]\nsources = [{source:?}]\nurl = \"{url}\"\n");
        let (is_success, said) = printed(&settings, |program| Command::new(program));
        assert!(is_success, "{said}");
        for text in expected {
            assert!(said.contains(text), "{text} is missing in\n{said}");
        }
        assert!(!said.contains("ssh-rsa"), "{said}");
    }
}

fn a_retry_after_of_a_year_is_ten_minutes() {
    for wanted in ["31536000", "Fri, 24 Dec 2027 18:00:00 GMT"] {
        let headers = format!("Retry-After: {wanted}\r\nDate: Thu, 24 Dec 2026 18:00:00 GMT\r\n");
        let server = Server::saying(503, &headers, b"");
        for source in ["openstack", "ec2", "google", "azure"] {
            let service = Service::of(&server.url(), source);
            let mut metadata = service.metadata();
            let sources = metadata.sources();
            let asked = metadata.ask(&sources, seconds(2), Again::Yes);
            assert_eq!(asked[0].retry_after, Some(seconds(600)), "{source}");
        }
    }
}

fn ninety_thousand_keys_fit_into_little_memory() {
    let mut document = br#"{"uuid": "aaaa", "meta": {"#.to_vec();
    for key in 0..90_000 {
        let _ = write!(document, r#""{key}":"","#);
    }
    document.extend(br#""vmstage_lifetime":"36h"}}"#);
    assert!(document.len() < 1 << 20, "{}", document.len());
    let server = Server::saying(200, "", &document);
    let settings = format!(
        "[metadata]\nsources = [\"openstack\"]\nurl = \"{}\"\n",
        server.url()
    );
    let prlimit = tool("prlimit");
    let (is_success, said) = printed(&settings, |program| {
        let mut command = Command::new(prlimit);
        // Of what it allocates, stacks and its own variables; it takes 4 without an answer.
        command.args(["--data=12582912", program]);
        command
    });
    assert!(is_success, "{said}");
    assert!(said.contains("1 d 12 h from the first boot"), "{said}");
    assert!(said.lines().count() < 80, "{said}");
}
