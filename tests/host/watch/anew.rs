//! `Watch` by a clock of the test's own: started anew in the middle of a grace, and beside clouds
//! whose clocks are wrong, or that cannot be told anything.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::sleep;
use std::time::Duration;

use super::clock::machine;
use crate::server::{Server, respond};
use vmstage::clock::Now;
use vmstage::config::Config;
use vmstage::host::Host;
use vmstage::logging::Notices;
use vmstage::status::Status;
use vmstage::watch::Watch;

claims!(
    a_grace_that_the_site_asks_for_outlives_a_watch,
    a_grace_that_the_site_asks_for_once_is_not_acted_upon,
    a_preemption_is_published_from_when_it_was_heard_whatever_the_date_says,
    a_cloud_that_cannot_be_told_to_go_on_is_told_again_after_a_while,
);

static HOST: LazyLock<Host> = LazyLock::new(Host::this_machine);

const HOUR: u64 = 3600;
const START: u64 = 1_800_000_000;

/// What a child that asks takes in real time.
const TICK: Duration = Duration::from_millis(5);

fn moment(second: u64) -> Now {
    Now {
        wall: START + second,
        uptime: Duration::from_secs(HOUR + second),
        vouched: false,
    }
}

fn config(source: &str, url: &str, more: &str) -> Config {
    Config::parse(&format!(
        "[metadata]\nsources = [{source:?}]\nurl = {url:?}\n{more}"
    ))
    .unwrap()
}

/// When the machine must be gone, after the start, and how long before that grace begins.
fn published() -> Option<(u64, u64)> {
    let deadline = Status::read(&HOST).unwrap().unwrap().deadline?;
    let text = fs::read_to_string("/run/vmstage/status.json").unwrap();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let grace = status["deadline"]["grace_seconds"].as_u64().unwrap();
    Some((deadline.at.saturating_sub(START), grace))
}

/// A site whose machine ends in nine hours, and which asks for two hours of grace, or for nine
/// as long as it is told to.
fn site(is_odd: Arc<AtomicBool>) -> Server {
    Server::start(move |request, stream| match request.path.as_str() {
        "/openstack/latest/meta_data.json" => {
            let host = &request.headers["host"];
            let document =
                format!(r#"{{"uuid": "a", "meta": {{"machinefeatures": "http://{host}/mf"}}}}"#);
            respond(stream, 200, "", document.as_bytes())
        }
        "/mf/shutdowntime" => respond(stream, 200, "", (START + 9 * HOUR).to_string().as_bytes()),
        "/mf/grace_secs" => {
            let hours = if is_odd.load(Ordering::Relaxed) { 9 } else { 2 };
            respond(stream, 200, "", (hours * HOUR).to_string().as_bytes())
        }
        _ => respond(stream, 404, "", b""),
    })
}

fn a_grace_that_the_site_asks_for_outlives_a_watch() {
    machine();
    let site = site(Arc::default());
    let config = config("openstack", &site.url(), "");
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, &config, moment(0));
    (1..200).for_each(|second| watch.tick(moment(second)));
    assert_eq!(published(), Some((9 * HOUR, 2 * HOUR)));
    drop(watch);
    let mut watch = Watch::start(&HOST, &notices, &config, moment(200));
    assert_eq!(published(), Some((9 * HOUR, 2 * HOUR)));
    for second in 201..1000 {
        watch.tick(moment(second));
        assert_eq!(published(), Some((9 * HOUR, 2 * HOUR)), "at {second} s");
    }
}

/// Drain would begin at once.
fn a_grace_that_the_site_asks_for_once_is_not_acted_upon() {
    machine();
    let is_odd = Arc::new(AtomicBool::new(false));
    let site = site(is_odd.clone());
    let config = config(
        "openstack",
        &site.url(),
        "[deadline]\ndrain = [\"/nonexistent\"]\n",
    );
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, &config, moment(0));
    (1..200).for_each(|second| watch.tick(moment(second)));
    is_odd.store(true, Ordering::Relaxed);
    let heard = (200..1500).find(|second| {
        watch.tick(moment(*second));
        published() == Some((9 * HOUR, 9 * HOUR))
    });
    let heard = heard.expect("the other grace is not published");
    is_odd.store(false, Ordering::Relaxed);
    let has_drained = || {
        let done = fs::read_to_string("/run/vmstage/watch.json").unwrap_or_default();
        done.replace(' ', "").contains(r#""drained":true"#)
    };
    for second in heard..heard + 1000 {
        watch.tick(moment(second));
        assert!(!has_drained(), "at {second} s");
    }
    assert_eq!(published(), Some((9 * HOUR, 2 * HOUR)));
    is_odd.store(true, Ordering::Relaxed);
    (heard + 1000..heard + 3000).for_each(|second| watch.tick(moment(second)));
    assert!(has_drained());
}

fn a_preemption_is_published_from_when_it_was_heard_whatever_the_date_says() {
    machine();
    for date in [
        "",
        "Date: Thu, 01 Jan 2099 00:00:00 GMT\r\n",
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
    ] {
        let _ = fs::remove_dir_all("/run/vmstage");
        Status::begin(&HOST).write(&HOST).unwrap();
        let headers = format!("{date}ETag: a\r\n");
        let google = Server::start(move |_, stream| {
            respond(stream, 200, &headers, br#"{"id": 1, "preempted": "TRUE"}"#)
        });
        let config = config("google", &google.url(), "");
        let notices = Notices::default();
        let mut watch = Watch::start(&HOST, &notices, &config, moment(0));
        let mut first = None;
        for second in 1..90 {
            watch.tick(moment(second));
            sleep(TICK);
            let Some((at, _)) = published() else { continue };
            let heard = *first.get_or_insert(second);
            let most = heard + 30;
            assert!(
                (most - 2..=most).contains(&at),
                "{date:?}: {at} s, heard {heard} s"
            );
        }
        assert!(first.is_some());
    }
}

fn a_cloud_that_cannot_be_told_to_go_on_is_told_again_after_a_while() {
    machine();
    let azure = Server::start(|request, stream| {
        if request.method == "POST" {
            return respond(stream, 500, "", b"<html>");
        }
        let body: &[u8] = match request.path.split_once('?') {
            Some(("/metadata/instance", _)) => br#"{"compute": {"vmId": "a", "name": "vm_0"}}"#,
            Some(("/metadata/scheduledevents", _)) => {
                br#"{"Events": [{"EventId": "e", "EventType": "Reboot", "Resources": ["vm_0"],
                    "EventStatus": "Scheduled", "EventSource": "User", "NotBefore": ""}]}"#
            }
            _ => return respond(stream, 404, "", b""),
        };
        respond(stream, 200, "", body)
    });
    let config = config("azure", &azure.url(), "");
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, &config, moment(0));
    for second in 1..200 {
        watch.tick(moment(second));
        sleep(TICK);
    }
    let asked = azure.asked_for();
    let told = asked.iter().filter(|line| line.starts_with("POST")).count();
    assert!((5..=11).contains(&told), "{told} times in 200 s: {asked:?}");
}
