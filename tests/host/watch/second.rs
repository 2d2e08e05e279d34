//! How soon a second answer confirms a deadline, by a clock of the test's own.

use std::fs;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use super::clock::machine;
use crate::server::{Server, respond};
use vmstage::clock::Now;
use vmstage::config::Config;
use vmstage::host::Host;
use vmstage::logging::Notices;
use vmstage::watch::Watch;

claims!(
    a_deadline_in_vendor_data_is_confirmed_within_half_a_minute,
    vendor_data_that_became_garbage_confirms_nothing_and_takes_nothing_back,
    a_site_of_features_that_wants_to_be_left_alone_holds_up_no_other_source,
    what_google_says_in_a_held_answer_is_confirmed_within_half_a_minute,
);

static HOST: LazyLock<Host> = LazyLock::new(Host::this_machine);

const START: u64 = 1_800_000_000;
const HOUR: u64 = 3600;

/// What a held request, or a child that asks, takes in real time.
const TICK: Duration = Duration::from_millis(5);

fn config(source: &str, server: &Server) -> Config {
    let url = server.url();
    Config::parse(&format!(
        "[metadata]\nsources = [{source:?}]\nurl = {url:?}\n"
    ))
    .unwrap()
}

fn moment(second: u64) -> Now {
    Now {
        wall: START + second,
        uptime: Duration::from_secs(HOUR + second),
        vouched: false,
    }
}

const VENDOR_DATA: &str = "/openstack/latest/vendor_data2.json";

/// The seconds at which this deadline is published, and at which it is confirmed.
fn heard_and_confirmed(config: &Config, server: &Server, at: u64) -> (u64, u64) {
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, config, moment(0));
    let mut heard = None;
    for second in 1..900 {
        watch.tick(moment(second));
        sleep(TICK);
        let status = fs::read_to_string("/run/vmstage/status.json").unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let deadline = &status["deadline"];
        if deadline["at"].as_u64() == Some(at) {
            let heard = *heard.get_or_insert(second);
            if deadline["unconfirmed"] != true {
                return (heard, second);
            }
        }
    }
    panic!(
        "heard at {heard:?}, never confirmed: {:?}",
        server.asked_for()
    );
}

fn a_deadline_in_vendor_data_is_confirmed_within_half_a_minute() {
    machine();
    let server = Server::start(move |request, stream| match request.path.as_str() {
        "/openstack/latest/meta_data.json" => respond(stream, 200, "", br#"{"uuid": "a"}"#),
        VENDOR_DATA => {
            let vendor = format!(r#"{{"vmstage": {{"deadline": {}}}}}"#, START + 2 * HOUR);
            respond(stream, 200, "", vendor.as_bytes())
        }
        _ => respond(stream, 404, "", b""),
    });
    let config = config("openstack", &server);
    let (heard, confirmed) = heard_and_confirmed(&config, &server, START + 2 * HOUR);
    assert!(
        (10..=30).contains(&(confirmed - heard)),
        "{heard}, {confirmed}"
    );
}

fn vendor_data_that_became_garbage_confirms_nothing_and_takes_nothing_back() {
    let html = "the answer is HTML or XML, not a JSON object";
    for (status, body, expected) in [
        (200, "<html>Sign in</html>", html),
        (302, "", "302 Found, and redirects are not followed"),
        (
            200,
            r#"{"vmstage": {"dead"#,
            "the answer is not the JSON it should be: EOF",
        ),
        (200, "", "the answer is empty, not a JSON object"),
    ] {
        // Nothing of what the one before recorded.
        machine();
        let has_said = AtomicBool::new(false);
        let server = Server::start(move |request, stream| match request.path.as_str() {
            "/openstack/latest/meta_data.json" => respond(stream, 200, "", br#"{"uuid": "a"}"#),
            VENDOR_DATA if has_said.swap(true, Ordering::SeqCst) => {
                respond(stream, status, "Location: /login\r\n", body.as_bytes())
            }
            VENDOR_DATA => {
                let vendor = format!(r#"{{"vmstage": {{"deadline": {}}}}}"#, START + 2 * HOUR);
                respond(stream, 200, "", vendor.as_bytes())
            }
            _ => respond(stream, 404, "", b""),
        });
        let (config, notices) = (config("openstack", &server), Notices::default());
        let mut watch = Watch::start(&HOST, &notices, &config, moment(0));
        // Less than the silence that confirms: on a busy host an answer may take that long here.
        for second in 1..550 {
            watch.tick(moment(second));
            sleep(TICK);
        }
        let status = fs::read_to_string("/run/vmstage/status.json").unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let deadline = &status["deadline"];
        assert_eq!(deadline["at"].as_u64(), Some(START + 2 * HOUR), "{body}");
        assert_eq!(deadline["unconfirmed"], true, "{body}: {deadline}");
        let warnings = notices.all();
        let place = format!("{}{VENDOR_DATA}: {expected}", server.url());
        let of_it = warnings.iter().filter(|warning| warning.contains(&place));
        assert_eq!(of_it.count(), 1, "{warnings:?}");
        let asked = server.asked_for();
        let asked = asked.iter().filter(|line| line.ends_with(VENDOR_DATA));
        assert!(asked.count() >= 2);
    }
}

fn a_site_of_features_that_wants_to_be_left_alone_holds_up_no_other_source() {
    machine();
    let site = Server::saying(503, "Retry-After: 31536000\r\n", b"");
    let features = site.url();
    let server = Server::start(move |request, stream| match request.path.as_str() {
        "/openstack/latest/meta_data.json" => {
            let at = START + 2 * HOUR;
            let document = format!(
                r#"{{"uuid": "a", "meta": {{"machinefeatures": "{features}/x", "vmstage_deadline": "{at}"}}}}"#
            );
            respond(stream, 200, "", document.as_bytes())
        }
        _ => respond(stream, 404, "", b""),
    });
    let config = config("openstack", &server);
    let (heard, confirmed) = heard_and_confirmed(&config, &server, START + 2 * HOUR);
    assert!(
        (10..=30).contains(&(confirmed - heard)),
        "{heard}, {confirmed}"
    );
    let asked = site.asked_for().len();
    assert!((1..=9).contains(&asked), "{asked}");
}

fn what_google_says_in_a_held_answer_is_confirmed_within_half_a_minute() {
    machine();
    let deadline = START + 2 * HOUR;
    // A held request is the first to say it.
    let is_said = AtomicBool::new(false);
    let server = Server::start(move |request, stream| {
        if request.path.contains("last_etag=nothing") {
            is_said.store(true, Ordering::Relaxed);
        }
        if request.path.contains("last_etag=said") {
            sleep(Duration::from_secs(20));
        }
        let (tag, attributes) = match is_said.load(Ordering::Relaxed) {
            true => ("said", format!(r#"{{"vmstage_deadline": "{deadline}"}}"#)),
            false => ("nothing", "{}".to_string()),
        };
        let document = format!(r#"{{"id": 1234567, "name": "n", "attributes": {attributes}}}"#);
        let tag = format!("ETag: {tag}\r\n");
        respond(stream, 200, &tag, document.as_bytes())
    });
    let config = config("google", &server);
    let (heard, confirmed) = heard_and_confirmed(&config, &server, deadline);
    assert!(
        (10..=30).contains(&(confirmed - heard)),
        "{heard}, {confirmed}"
    );
}
