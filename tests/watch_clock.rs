//! `Watch` by a clock of the test's own: hours of ticks in seconds.

mod common;
#[path = "metadata/server.rs"]
mod server;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use server::{Server, respond};
use vmstage::config::Config;
use vmstage::status::Status;
use vmstage::watch::{Moment, Watch};

claims!(
    another_source_with_another_id_does_not_renew_a_lease,
    an_ec2_that_wants_to_be_left_alone_is,
);

const HOUR: u64 = 3600;
const START: u64 = 1_800_000_000;

/// Directories that are this claim's own, and a status of this boot in them.
fn machine() {
    common::private_mounts();
    for place in ["/run", "/var/lib", "/etc"] {
        let none = None::<&str>;
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    Status::begin().write().unwrap();
}

/// So many seconds after a start, `up` seconds after booting.
fn moment(up: u64, second: u64) -> Moment {
    Moment {
        wall: START + second,
        uptime: Duration::from_secs(up + second),
    }
}

fn deadline() -> u64 {
    Status::read().unwrap().unwrap().deadline.unwrap().at
}

fn another_source_with_another_id_does_not_renew_a_lease() {
    machine();
    let first_boot = START - 20 * HOUR;
    fs::create_dir("/var/lib/vmstage").unwrap();
    fs::write(
        "/var/lib/vmstage/first-boot-uuid.json",
        format!(r#"{{"first_boot": {first_boot}, "boot_id": "an earlier one"}}"#),
    )
    .unwrap();
    let openstack_answers = Arc::new(AtomicBool::new(true));
    let answers = openstack_answers.clone();
    let service = Server::start(move |request, stream| match request.path.as_str() {
        "/openstack/latest/meta_data.json" if answers.load(Ordering::Relaxed) => {
            respond(stream, 200, "", br#"{"uuid": "uuid"}"#)
        }
        "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-1"),
        _ => respond(stream, 404, "", b""),
    });
    let text = format!(
        "[metadata]\nurl = {:?}\n[deadline]\nmax_lifetime = \"24h\"\n",
        service.url()
    );
    let config = Config::parse(&text).unwrap();
    let mut watch = Watch::start(&config, moment(HOUR, 0));
    (1..300).for_each(|second| watch.tick(moment(HOUR, second)));
    assert_eq!(deadline(), first_boot + 24 * HOUR);

    openstack_answers.store(false, Ordering::Relaxed);
    // Also after a restart, when nobody remembers what OpenStack said.
    for from in [300, 600] {
        (from..from + 300).for_each(|second| watch.tick(moment(HOUR, second)));
        assert_eq!(deadline(), first_boot + 24 * HOUR);
        watch = Watch::start(&config, moment(HOUR, from + 300));
    }
    let asked = service.asked_for();
    let ec2 = "GET /latest/meta-data/instance-id".to_string();
    assert!(asked.contains(&ec2), "EC2 was not asked: {asked:?}");
    let instance = Status::read().unwrap().unwrap().instance;
    assert_eq!(instance.unwrap().id.as_deref(), Some("i-1"));
}

fn an_ec2_that_wants_to_be_left_alone_is() {
    machine();
    let busy = Arc::new(Mutex::new(None::<(u16, &str)>));
    let answer = busy.clone();
    let service = Server::start(move |request, stream| {
        match (*answer.lock().unwrap(), request.path.as_str()) {
            (Some((status, headers)), _) => respond(stream, status, headers, b"busy"),
            (None, "/latest/api/token") => respond(stream, 200, "", b"TOKEN"),
            (None, "/latest/meta-data/instance-id") => respond(stream, 200, "", b"i-1"),
            (None, _) => respond(stream, 404, "", b""),
        }
    });
    let text = format!("[metadata]\nurl = {:?}\n", service.url());
    let config = Config::parse(&text).unwrap();
    let mut watch = Watch::start(&config, moment(HOUR, 0));
    let mut second = 0;
    let mut asked_in = |minutes: u64, answer: Option<(u16, &'static str)>| {
        *busy.lock().unwrap() = answer;
        let before = service.seen().len();
        for _ in 0..minutes * 60 {
            second += 1;
            watch.tick(moment(HOUR, second));
        }
        service.seen().len() - before
    };
    asked_in(2, None);
    let usual = asked_in(10, None);
    assert!((115..=125).contains(&usual), "{usual}");
    // By the spot notices and by what is asked once a minute.
    let alone = asked_in(10, Some((429, "Retry-After: 120\r\n")));
    assert!((1..=10).contains(&alone), "{alone}");
    asked_in(2, None);
    let failing = asked_in(10, Some((503, "")));
    assert!((10..=35).contains(&failing), "{failing}");
    asked_in(2, None);
    let again = asked_in(10, None);
    assert!((115..=125).contains(&again), "{again}");
}
