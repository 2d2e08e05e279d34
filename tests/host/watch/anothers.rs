//! `Watch` where a service answers of another instance, or says no more where features are.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::private_mounts;
use crate::server::{Server, respond};
use nix::mount::{MsFlags, mount};
use vmstage::clock::{self, Now};
use vmstage::config::Config;
use vmstage::host::Host;
use vmstage::logging::Notices;
use vmstage::status::Status;
use vmstage::watch::Watch;

claims!(
    one_answer_of_another_instance_moves_no_features,
    features_that_nobody_names_any_more_are_gone_after_two_answers_also_after_a_reboot,
    one_document_of_another_instance_hides_no_event_of_azure,
    a_service_that_answers_garbage_does_not_confirm_what_it_said_before,
);

static HOST: LazyLock<Host> = LazyLock::new(Host::this_machine);

const HOUR: u64 = 3600;
const START: u64 = 1_800_000_000;
const MINE: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const ANOTHERS: &str = "bbbbbbbb-0000-4000-8000-000000000002";

/// Directories that are this claim's own, a status of this boot in them, and this UUID of the
/// machine's own.
fn machine(uuid: &str) {
    private_mounts();
    for place in ["/run", "/var/lib", "/etc", "/sys/class"] {
        let none = None::<&str>;
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    fs::create_dir_all("/sys/class/dmi/id").unwrap();
    fs::write("/sys/class/dmi/id/product_uuid", uuid).unwrap();
    Status::begin(&HOST).write(&HOST).unwrap();
}

fn is_unconfirmed() -> bool {
    let text = fs::read_to_string("/run/vmstage/status.json").unwrap();
    text.contains("\"unconfirmed\": true") || text.contains("\"unconfirmed\":true")
}

/// So many seconds after the start, this long after booting.
fn moment(second: u64, up: u64) -> Now {
    Now {
        wall: START + second,
        uptime: Duration::from_secs(up),
        vouched: false,
    }
}

fn configuration(source: &str, url: &str) -> Config {
    Config::parse(&format!(
        "[metadata]\nsources = [{source:?}]\nurl = {url:?}\n"
    ))
    .unwrap()
}

fn deadline() -> Option<u64> {
    let deadline = Status::read(&HOST).unwrap().unwrap().deadline;
    deadline.map(|deadline| deadline.at - START)
}

/// OpenStack, which says this once and 503 from then on, once it is said to.
fn service(then: Arc<Mutex<Option<String>>>, has_failed: Arc<AtomicBool>) -> Server {
    Server::start(move |request, stream| {
        let host = &request.headers["host"];
        let mine =
            format!(r#"{{"uuid": "{MINE}", "meta": {{"machinefeatures": "http://{host}/mine"}}}}"#);
        match request.path.as_str() {
            "/openstack/latest/meta_data.json" => match then.lock().unwrap().take() {
                Some(document) => {
                    has_failed.store(true, Ordering::Relaxed);
                    respond(stream, 200, "", document.replace("HOST", host).as_bytes())
                }
                None if has_failed.load(Ordering::Relaxed) => respond(stream, 503, "", b""),
                None => respond(stream, 200, "", mine.as_bytes()),
            },
            "/mine/shutdowntime" => {
                respond(stream, 200, "", (START + 3 * HOUR).to_string().as_bytes())
            }
            "/anothers/shutdowntime" => {
                respond(stream, 200, "", (START - HOUR).to_string().as_bytes())
            }
            _ => respond(stream, 404, "", b""),
        }
    })
}

fn one_answer_of_another_instance_moves_no_features() {
    // Also where only answers say which instance this is.
    machine("");
    for meta in [r#"{"machinefeatures": "http://HOST/anothers"}"#, "{}"] {
        for directory in ["/run/vmstage", "/var/lib/vmstage"] {
            let _ = fs::remove_dir_all(directory);
        }
        Status::begin(&HOST).write(&HOST).unwrap();
        let (then, has_failed) = (Arc::default(), Arc::default());
        let service = service(Arc::clone(&then), has_failed);
        let config = configuration("openstack", &service.url());
        let notices = Notices::default();
        let mut watch = Watch::start(&HOST, &notices, &config, moment(0, HOUR));
        (1..200).for_each(|second| watch.tick(moment(second, HOUR + second)));
        assert_eq!(deadline(), Some(3 * HOUR));
        let document = format!(r#"{{"uuid": "{ANOTHERS}", "meta": {meta}}}"#);
        *then.lock().unwrap() = Some(document);
        for second in 200..1500 {
            watch.tick(moment(second, HOUR + second));
            assert_eq!(deadline(), Some(3 * HOUR), "{meta} at {second} s");
        }
        assert!(then.lock().unwrap().is_none(), "it was not asked");
        let asked = service.asked_for();
        assert!(asked.iter().all(|request| !request.contains("anothers")));
    }
}

fn features_that_nobody_names_any_more_are_gone_after_two_answers_also_after_a_reboot() {
    machine(MINE);
    let service = service(Arc::default(), Arc::default());
    let config = configuration("openstack", &service.url());
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, &config, moment(0, HOUR));
    (1..200).for_each(|second| watch.tick(moment(second, HOUR + second)));
    assert_eq!(deadline(), Some(3 * HOUR));
    drop(watch);

    fs::remove_dir_all("/run/vmstage").unwrap();
    Status::begin(&HOST).write(&HOST).unwrap();
    let mine = format!(r#"{{"uuid": "{MINE}", "meta": {{}}}}"#);
    let service = Server::start(move |request, stream| match request.path.as_str() {
        "/openstack/latest/meta_data.json" => respond(stream, 200, "", mine.as_bytes()),
        _ => respond(stream, 404, "", b""),
    });
    let config = configuration("openstack", &service.url());
    let mut watch = Watch::start(&HOST, &notices, &config, moment(1000, 20));
    let asked = || {
        let asked = service.asked_for();
        let document = |request: &&String| request.contains("meta_data.json");
        asked.iter().filter(document).count()
    };
    for second in 1..300 {
        watch.tick(moment(1000 + second, 20 + second));
        // The first may have come before the site had its say, which could name them as well.
        match asked() {
            0 | 1 => assert_eq!(deadline(), Some(3 * HOUR), "at {second} s"),
            2 | 3 => {}
            _ => assert_eq!(deadline(), None, "at {second} s"),
        }
    }
    assert!(asked() > 3);
}

fn one_document_of_another_instance_hides_no_event_of_azure() {
    machine(MINE);
    let second = Arc::new(AtomicU64::new(0));
    let is_wrong = Arc::new(AtomicBool::new(false));
    let was_wrong = Arc::new(AtomicBool::new(false));
    let (now, wrong, given) = (second.clone(), is_wrong.clone(), was_wrong.clone());
    let service = Server::start(move |request, stream| {
        let now = START + now.load(Ordering::Relaxed);
        if request.path.starts_with("/metadata/instance") {
            let (id, name) = match wrong.swap(false, Ordering::Relaxed) {
                true => (ANOTHERS, "vm_7"),
                false => (MINE, "vm_0"),
            };
            given.fetch_or(id == ANOTHERS, Ordering::Relaxed);
            let document = format!(r#"{{"compute": {{"vmId": "{id}", "name": "{name}"}}}}"#);
            return respond(stream, 200, "", document.as_bytes());
        }
        if !request.path.starts_with("/metadata/scheduledevents") {
            return respond(stream, 404, "", b"");
        }
        let event = format!(
            r#"{{"EventId": "e-1", "EventType": "Preempt", "Resources": ["vm_0"],
                "EventStatus": "Scheduled", "EventSource": "Platform", "NotBefore": "{}"}}"#,
            clock::utc(now + 30)
        );
        let events = match given.load(Ordering::Relaxed) {
            true => event,
            false => String::new(),
        };
        let list = format!(r#"{{"DocumentIncarnation": 2, "Events": [{events}]}}"#);
        respond(stream, 200, "", list.as_bytes())
    });
    let config = configuration("azure", &service.url());
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, &config, moment(0, HOUR));
    let mut tick = |at: u64| {
        second.store(at, Ordering::Relaxed);
        watch.tick(moment(at, HOUR + at));
    };
    for at in 1..200 {
        tick(at);
        // The first request for events is a child's.
        if at < 10 {
            thread::sleep(Duration::from_millis(100));
        }
    }
    is_wrong.store(true, Ordering::Relaxed);
    let noticed = (200..400).find(|at| {
        tick(*at);
        was_wrong.load(Ordering::Relaxed)
    });
    let noticed = noticed.expect("the document was not asked for again");
    let seen = (noticed + 1..noticed + 30).find(|at| {
        tick(*at);
        deadline().is_some()
    });
    let after = seen.expect("the event was not seen") - noticed;
    assert!(after <= 7, "{after} s");
}

fn a_service_that_answers_garbage_does_not_confirm_what_it_said_before() {
    machine(MINE);
    for (code, is_confirmed) in [(200, false), (503, true)] {
        for directory in ["/run/vmstage", "/var/lib/vmstage"] {
            let _ = fs::remove_dir_all(directory);
        }
        Status::begin(&HOST).write(&HOST).unwrap();
        let has_said = AtomicBool::new(false);
        let service = Server::start(move |request, stream| {
            if request.path != "/openstack/latest/meta_data.json" {
                return respond(stream, 404, "", b"");
            }
            if has_said.swap(true, Ordering::Relaxed) {
                return respond(stream, code, "", b"<html>");
            }
            let at = START + 9 * HOUR;
            let document =
                format!(r#"{{"uuid": "{MINE}", "meta": {{"vmstage_deadline": "{at}"}}}}"#);
            respond(stream, 200, "", document.as_bytes())
        });
        let config = configuration("openstack", &service.url());
        let notices = Notices::default();
        let mut watch = Watch::start(&HOST, &notices, &config, moment(0, HOUR));
        (1..900).for_each(|second| watch.tick(moment(second, HOUR + second)));
        assert_eq!(deadline(), Some(9 * HOUR));
        assert_eq!(!is_unconfirmed(), is_confirmed, "{code}");
    }
}
