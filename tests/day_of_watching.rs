//! A day of `watch` with a fast clock: what it asks of the service, and its memory.
//! In a process of its own, whose memory nobody else uses.

mod common;
#[path = "metadata/server.rs"]
mod server;

use std::fs;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use server::Server;
use vmstage::config::Config;
use vmstage::status::Status;
use vmstage::watch::{Moment, Watch};

claims!(a_day_of_ticks_asks_at_most_1_2_times_a_minute_and_needs_no_more_memory_than_an_hour);

const HOUR: u64 = 3600;
const START: u64 = 1_800_000_000;

fn resident_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

fn a_day_of_ticks_asks_at_most_1_2_times_a_minute_and_needs_no_more_memory_than_an_hour() {
    common::private_mounts();
    for place in ["/run", "/var/lib", "/etc"] {
        let none = None::<&str>;
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    let service = Server::saying(
        200,
        "",
        br#"{"uuid": "aaaa", "meta": {"vmstage_lifetime": "30d", "padding": "0123456789"}}"#,
    );
    let text = format!("[metadata]\nurl = {:?}\n", service.url());
    let config = Config::parse(&text).unwrap();
    Status::begin().write().unwrap();

    let moment = |second: u64| Moment {
        wall: START + second,
        uptime: Duration::from_secs(HOUR + second),
    };
    let mut watch = Watch::start(&config, moment(0));
    let mut after_an_hour = 0;
    for second in 1..=24 * HOUR {
        watch.tick(moment(second));
        if second == HOUR {
            after_an_hour = resident_kib();
        }
    }
    let grown = resident_kib().saturating_sub(after_an_hour);
    let asked = service.seen().len() as f64 / (24.0 * 60.0);
    println!("{asked:.2} requests a minute, {grown} KiB more than after an hour");
    // The server in this process keeps what it has seen: 1,400 requests.
    assert!(
        grown < 2048,
        "{grown} KiB more after a day than after an hour"
    );
    assert!((0.8..=1.2).contains(&asked), "{asked} requests a minute");
    assert!(Status::read().unwrap().unwrap().deadline.is_some());
}
