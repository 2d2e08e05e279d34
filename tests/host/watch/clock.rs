//! `Watch` by a clock of the test's own: hours of ticks in seconds.

use std::fs::{self};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use crate::common::{private_mounts, skip, write_program};
use crate::doubles::Google;
use crate::server::{Server, respond};
use nix::mount::{MsFlags, mount};
use vmstage::clock::Now;
use vmstage::config::Config;
use vmstage::host::{Host, program};
use vmstage::logging::Notices;
use vmstage::status::Status;
use vmstage::watch::Watch;

claims!(
    another_source_with_another_id_does_not_renew_a_lease,
    an_ec2_that_wants_to_be_left_alone_is,
    the_instance_that_boot_finds_out_later_stays_in_the_status,
    a_clock_that_ntp_sets_years_ahead_early_moves_the_lease_with_it,
    a_clock_that_ntp_sets_years_ahead_later_ends_nothing_before_min_uptime_has_passed,
    a_clock_that_ntp_sets_late_moves_the_lease_with_it_where_the_kernel_vouches_for_it,
    a_clock_that_ntp_sets_years_back_early_moves_the_lease_with_it,
    a_clock_that_is_years_ahead_ends_nothing_before_min_uptime_has_passed,
    a_clock_that_was_set_while_no_watch_ran_ends_nothing_before_min_uptime_has_passed,
    a_watch_that_starts_late_ends_nothing_before_min_uptime_has_passed,
    a_watch_that_is_restarted_goes_on_trusting_a_clock_that_was_not_set,
);

static HOST: LazyLock<Host> = LazyLock::new(Host::this_machine);

const HOUR: u64 = 3600;
const START: u64 = 1_800_000_000;

/// Directories that are this claim's own, and a status of this boot in them.
pub(super) fn machine() {
    private_mounts();
    for place in ["/run", "/var/lib", "/etc"] {
        let none = None::<&str>;
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    Status::begin(&HOST).write(&HOST).unwrap();
}

/// So many seconds after a start, `up` seconds after booting.
fn moment(up: u64, second: u64) -> Now {
    Now {
        wall: START + second,
        uptime: Duration::from_secs(up + second),
        vouched: false,
    }
}

fn deadline() -> u64 {
    Status::read(&HOST).unwrap().unwrap().deadline.unwrap().at
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
        "[metadata]\nsources = [\"openstack\", \"ec2\"]\nurl = {:?}\n[deadline]\nmax_lifetime = \"24h\"\n",
        service.url()
    );
    let config = Config::parse(&text).unwrap();
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, &config, moment(HOUR, 0));
    (1..300).for_each(|second| watch.tick(moment(HOUR, second)));
    assert_eq!(deadline(), first_boot + 24 * HOUR);

    openstack_answers.store(false, Ordering::Relaxed);
    // Also after a restart, when nobody remembers what OpenStack said.
    for from in [300, 600] {
        (from..from + 300).for_each(|second| watch.tick(moment(HOUR, second)));
        assert_eq!(deadline(), first_boot + 24 * HOUR);
        watch = Watch::start(&HOST, &notices, &config, moment(HOUR, from + 300));
    }
    let asked = service.asked_for();
    let ec2 = "GET /latest/meta-data/instance-id".to_string();
    assert!(asked.contains(&ec2), "EC2 was not asked: {asked:?}");
    let instance = Status::read(&HOST).unwrap().unwrap().instance;
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
    let text = format!(
        "[metadata]\nsources = [\"openstack\", \"ec2\"]\nurl = {:?}\n",
        service.url()
    );
    let config = Config::parse(&text).unwrap();
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, &config, moment(HOUR, 0));
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
    // Two kinds of notices every five seconds, and what else there is once a minute.
    assert!((260..=310).contains(&usual), "{usual}");
    // By the spot notices and by what is asked once a minute.
    let alone = asked_in(10, Some((429, "Retry-After: 120\r\n")));
    assert!((1..=10).contains(&alone), "{alone}");
    asked_in(2, None);
    let failing = asked_in(10, Some((503, "")));
    // Each kind of notice is asked for, whatever became of the other.
    assert!((10..=65).contains(&failing), "{failing}");
    asked_in(2, None);
    let again = asked_in(10, None);
    assert!((260..=310).contains(&again), "{again}");
}

/// `watch` starts while `boot` still asks, and hears of something else first.
fn the_instance_that_boot_finds_out_later_stays_in_the_status() {
    machine();
    let google = Google::start();
    let text = format!(
        "[metadata]\nsources = [\"google\"]\nurl = {:?}\n",
        google.server.url()
    );
    let config = Config::parse(&text).unwrap();
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, &config, moment(HOUR, 0));
    let file = "/run/vmstage/status.json";
    let text = fs::read_to_string(file).unwrap();
    let found = text.replace(r#""instance": null"#, r#""instance": {"id": "uuid"}"#);
    assert_ne!(found, text);
    fs::write(file, found).unwrap();
    // Its lifetime comes with the answer to a request that may be held.
    let has_deadline = || Status::read(&HOST).unwrap().unwrap().deadline.is_some();
    for _ in 0..500 {
        watch.tick(moment(HOUR, 0));
        if has_deadline() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(has_deadline());
    let instance = Status::read(&HOST).unwrap().unwrap().instance;
    assert_eq!(instance.unwrap().id.as_deref(), Some("uuid"));
}

/// Every command that powers a machine off, here, is a script that writes it down.
fn nothing_is_really_ended() {
    let path = std::env::var_os("PATH").unwrap();
    let first = std::env::split_paths(&path).find(|directory| directory.is_dir());
    let first = first.filter(|directory| !directory.join("sh").exists());
    let Some(first) = first else {
        skip("the first directory in $PATH is needed for what the scripts run in");
    };
    let (kind, none) = (Some("tmpfs"), None::<&str>);
    mount(kind, &first, kind, MsFlags::empty(), none).unwrap();
    for name in ["shutdown", "poweroff", "systemctl"] {
        let script = first.join(name);
        write_program(&script, "#!/bin/sh\necho \"$0 $*\" >> /run/off\n");
        assert_eq!(program::find(&HOST, name), Some(script));
    }
}

/// The uptime in seconds at which this machine is ended, if it is within so many: its wall
/// clock says `wall` of the uptime. Not a second longer: what follows is reboot(2).
fn ended_at(configuration: &str, wall: impl Fn(u64) -> u64, within: u64) -> Option<u64> {
    let only = MINUTE..within;
    ended_by(configuration, wall, std::slice::from_ref(&only))
}

/// The same where a watch runs only from one uptime to another, and then another one.
fn ended_by(configuration: &str, wall: impl Fn(u64) -> u64, watches: &[Range<u64>]) -> Option<u64> {
    nothing_is_really_ended();
    let text = format!("[deadline]\naction = \"poweroff\"\n{configuration}");
    let config = Config::parse(&text).unwrap();
    let moment = |up: u64| Now {
        wall: wall(up),
        uptime: Duration::from_secs(up),
        vouched: false,
    };
    watches.iter().find_map(|watched| {
        let notices = Notices::default();
        let mut watch = Watch::start(&HOST, &notices, &config, moment(watched.start));
        (watched.start + 1..watched.end).find(|up| {
            watch.tick(moment(*up));
            Path::new("/run/off").exists()
        })
    })
}

const MINUTE: u64 = 60;
/// Three years.
const YEARS: u64 = 3 * 365 * 24 * HOUR;
/// What the clock of a machine says that it should not have, in 2026.
const LONG_AGO: u64 = 1_770_000_000;

const A_LEASE: &str = "max_lifetime = \"36h\"\n[metadata]\nsources = []\n";

fn a_clock_that_ntp_sets_years_ahead_early_moves_the_lease_with_it() {
    for set_at in [3 * MINUTE, 14 * MINUTE] {
        machine();
        let wall = |up| {
            up + if up < set_at {
                LONG_AGO
            } else {
                LONG_AGO + YEARS
            }
        };
        assert_eq!(ended_at(A_LEASE, wall, 2 * HOUR), None);
        assert_eq!(deadline(), LONG_AGO + YEARS + 36 * HOUR);
    }
}

/// A machine that slept for years looks the same, and has to be gone.
fn a_clock_that_ntp_sets_years_ahead_later_ends_nothing_before_min_uptime_has_passed() {
    machine();
    let wall = |up| {
        up + if up < 20 * MINUTE {
            LONG_AGO
        } else {
            LONG_AGO + YEARS
        }
    };
    assert_eq!(ended_at(A_LEASE, wall, 2 * HOUR), Some(30 * MINUTE));
    assert_eq!(deadline(), LONG_AGO + 36 * HOUR);
}

fn a_clock_that_ntp_sets_late_moves_the_lease_with_it_where_the_kernel_vouches_for_it() {
    machine();
    nothing_is_really_ended();
    let config = Config::parse(&format!("[deadline]\naction = \"poweroff\"\n{A_LEASE}")).unwrap();
    let set_at = 20 * MINUTE;
    let moment = |up: u64| Now {
        wall: LONG_AGO + up + if up < set_at { 0 } else { YEARS },
        uptime: Duration::from_secs(up),
        vouched: up >= set_at,
    };
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, &config, moment(MINUTE));
    for up in MINUTE + 1..2 * HOUR {
        watch.tick(moment(up));
        assert!(!Path::new("/run/off").exists(), "ended at {up}");
    }
    assert_eq!(deadline(), LONG_AGO + YEARS + 36 * HOUR);
}

fn a_clock_that_ntp_sets_years_back_early_moves_the_lease_with_it() {
    machine();
    let wall = |up| {
        up + if up < 3 * MINUTE {
            START + YEARS
        } else {
            START
        }
    };
    assert_eq!(ended_at(A_LEASE, wall, 2 * HOUR), None);
    assert_eq!(deadline(), START + 36 * HOUR);
}

fn a_clock_that_is_years_ahead_ends_nothing_before_min_uptime_has_passed() {
    let features = "[metadata]\nsources = []\nmachinefeatures = \"/var/lib/features\"\n";
    let two_hours = START + 2 * HOUR;
    for (set_at, ended) in [
        // Set back before it is believed, the deadline is in the future, and holds then.
        (9 * MINUTE, 2 * HOUR),
        // Never set back, it is believed in the end.
        (u64::MAX, MINUTE + 10 * MINUTE),
    ] {
        machine();
        fs::create_dir("/var/lib/features").unwrap();
        fs::write("/var/lib/features/shutdowntime", two_hours.to_string()).unwrap();
        let wall = |up| up + if up < set_at { START + YEARS } else { START };
        assert_eq!(ended_at(features, wall, 3 * HOUR), Some(ended));
    }
}

fn a_clock_that_was_set_while_no_watch_ran_ends_nothing_before_min_uptime_has_passed() {
    machine();
    let wall = |up| {
        up + if up < HOUR {
            LONG_AGO
        } else {
            LONG_AGO + YEARS
        }
    };
    let watches = [MINUTE..30 * MINUTE, 5 * HOUR..6 * HOUR];
    let ended = ended_by(A_LEASE, wall, &watches);
    assert_eq!(ended, Some(5 * HOUR + 10 * MINUTE));
}

fn a_watch_that_starts_late_ends_nothing_before_min_uptime_has_passed() {
    machine();
    // By a lease that passed long ago, or seems to have.
    let wall = |up| LONG_AGO + 40 * HOUR + up;
    fs::create_dir("/var/lib/features").unwrap();
    fs::write("/var/lib/features/shutdowntime", LONG_AGO.to_string()).unwrap();
    let features = "[metadata]\nsources = []\nmachinefeatures = \"/var/lib/features\"\n";
    // Also where it is restarted in between: from when the first one started.
    let watches = [
        5 * HOUR..5 * HOUR + 4 * MINUTE,
        5 * HOUR + 5 * MINUTE..6 * HOUR,
    ];
    let ended = ended_by(features, wall, &watches);
    assert_eq!(ended, Some(5 * HOUR + 10 * MINUTE));
}

fn a_watch_that_is_restarted_goes_on_trusting_a_clock_that_was_not_set() {
    machine();
    let watches = [MINUTE..30 * MINUTE, 36 * HOUR + MINUTE..37 * HOUR];
    let ended = ended_by(A_LEASE, |up| START + up, &watches);
    assert_eq!(ended, Some(36 * HOUR + MINUTE + 1));
}
