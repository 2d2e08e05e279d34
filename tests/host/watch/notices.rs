//! From a cloud's notice to the start of `drain`: `vmstage watch`, running for real beside
//! doubles of the clouds' services.
//!
//! `VMSTAGE_NOTICES=10` has each cloud give ten notices, and not three.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::running::{machine, stop};
use crate::common::Machine;
use crate::doubles::{Azure, Clock, Ec2, Google};
use crate::server::Server;

claims![
    a_notice_of_ec2_reaches_drain_within_6_5_seconds,
    a_preemption_by_google_reaches_drain_within_1_5_seconds,
    an_event_of_azure_reaches_drain_within_6_5_seconds,
    a_restart_that_somebody_asks_azure_for_does_not_wait,
    an_event_that_azure_no_longer_knows_costs_no_other,
    azure_is_told_of_the_end_of_a_drain_that_an_earlier_watch_has_started,
    what_a_cloud_schedules_that_the_machine_survives_is_said_once,
];

const SECOND: Duration = Duration::from_secs(1);

/// How long a `watch` that has just started may take to ask for notices twice: five seconds
/// to the first time, and five to the second. Three more are a slow machine's.
const ASKS: Duration = Duration::from_secs(13);

/// How long is waited for drain, which then is too late.
const PATIENCE: Duration = Duration::from_secs(20);

/// From the answer to the start of drain.
const FROM_ANSWER: Duration = SECOND;

/// What a test does to a double.
struct Cloud<'a> {
    name: &'static str,
    server: &'a Server,
    /// Part of the path that `watch` asks for notices.
    path: &'static str,
    /// Whether an answer waits until there is a notice.
    is_held: bool,
    /// Gives a notice of the end in so many seconds.
    notify: &'a dyn Fn(u64),
    take_back: &'a dyn Fn(),
    /// In how many seconds the end is: Google's notices say no time.
    ahead: u64,
    reason: &'static str,
    within: Duration,
}

impl<'a> Cloud<'a> {
    fn without_notices(name: &'static str, server: &'a Server, path: &'static str) -> Cloud<'a> {
        Cloud {
            name,
            server,
            path,
            is_held: false,
            notify: &|_| (),
            take_back: &|| (),
            ahead: 0,
            reason: "",
            within: Duration::ZERO,
        }
    }
}

/// What was measured of one notice.
struct Measured {
    from_notice: Duration,
    from_answer: Duration,
}

fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// RFC 3339, as EC2 writes it, or as an HTTP header has it.
fn written(at: u64, format: &str) -> String {
    let format = time::format_description::parse_borrowed::<2>(format).unwrap();
    let at = time::OffsetDateTime::from_unix_timestamp(at as i64).unwrap();
    at.format(&format).unwrap()
}

fn is_so_within(most: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > most {
            return false;
        }
        sleep(Duration::from_millis(10));
    }
    true
}

impl Cloud<'_> {
    /// Gives notices, one after the other, each to a `watch` of its own, and says how long
    /// they took.
    fn measure(&self) {
        let count = std::env::var("VMSTAGE_NOTICES").map_or(3, |text| text.parse().unwrap());
        let machine = self.machine();
        let measured: Vec<Measured> = (0..count)
            .map(|number| self.one_notice(&machine, number))
            .collect();
        let of = |which: fn(&Measured) -> Duration| {
            let mut all: Vec<Duration> = measured.iter().map(which).collect();
            all.sort();
            (all[all.len() / 2], all[all.len() - 1])
        };
        let (median, worst) = of(|one| one.from_notice);
        let (median_of_answers, worst_of_answers) = of(|one| one.from_answer);
        println!(
            "{}: {count} notices, to drain {median:.2?} (median), {worst:.2?} (worst); from the \
             answer {median_of_answers:.3?}, {worst_of_answers:.3?}",
            self.name
        );
        assert!(worst <= self.within, "{worst:?}");
        assert!(worst_of_answers <= FROM_ANSWER, "{worst_of_answers:?}");
    }

    fn machine(&self) -> Machine {
        let (source, url) = (self.name, self.server.url());
        machine(
            &format!("sources = [{source:?}]\nurl = \"{url}\""),
            "[deadline]\ndrain = [\"/bin/sh\", \"-c\", \
             \"echo $(date +%s.%N) $VMSTAGE_SECONDS_LEFT $VMSTAGE_REASON >> /tmp/drained\"]\n",
        )
    }

    fn one_notice(&self, machine: &Machine, number: u32) -> Measured {
        machine.sh("rm -rf /run/vmstage /tmp/drained");
        machine.boot().ready_on("/dev/vdb");
        // A request that is held comes once.
        let wanted = if self.is_held { 1 } else { 2 };
        let before = self.asked().len();
        let watch = machine.start(&["watch"]);
        let asks = is_so_within(ASKS, || self.asked().len() >= before + wanted);
        assert!(asks, "{:?}", self.server.asked_for().last());
        // Anywhere between two times of asking.
        sleep(SECOND.mul_f64(f64::from(number) * 1.7 % 5.0));
        let (noticed, noticed_unix) = (Instant::now(), unix());
        (self.notify)(self.ahead);
        let drained = machine.path("/tmp/drained");
        let line = || fs::read_to_string(&drained).unwrap_or_default();
        let has_drained = is_so_within(PATIENCE, || line().ends_with('\n'));
        let said = stop(watch).stderr;
        assert!(has_drained, "{said}");
        (self.take_back)();

        let line = line();
        let (at, rest) = line.trim().split_once(' ').unwrap();
        let (left, reason) = rest.split_once(' ').unwrap();
        assert_eq!(reason, self.reason);
        let from_notice = SECOND.mul_f64(at.parse().unwrap()) - noticed_unix;
        let left: f64 = left.parse().unwrap();
        let expected = self.ahead as f64 - from_notice.as_secs_f64();
        assert!((left - expected).abs() <= 2.0, "{left} s of {expected}");
        let answered = self.asked().into_iter().find(|at| *at >= noticed);
        let until_answer = match self.is_held {
            true => Duration::ZERO,
            false => answered.unwrap().duration_since(noticed),
        };
        Measured {
            from_notice,
            from_answer: from_notice.saturating_sub(until_answer),
        }
    }

    /// When notices were asked for.
    fn asked(&self) -> Vec<Instant> {
        let seen = self.server.seen().into_iter();
        let asked = seen.filter(|request| request.path.contains(self.path));
        asked.map(|request| request.at).collect()
    }
}

fn a_notice_of_ec2_reaches_drain_within_6_5_seconds() {
    let ec2 = Ec2::start_by(Clock::Runs);
    let notify = |ahead| {
        let at = unix().as_secs() + ahead;
        let at = written(at, "[year]-[month]-[day]T[hour]:[minute]:[second]Z");
        let notice = format!(r#"{{"action": "terminate", "time": "{at}"}}"#);
        ec2.say("spot/instance-action", Some(&notice));
    };
    Cloud {
        name: "ec2",
        server: &ec2.server,
        path: "spot/instance-action",
        is_held: false,
        notify: &notify,
        take_back: &|| ec2.say("spot/instance-action", None),
        ahead: 120,
        reason: "spot/instance-action (terminate) in the ec2 metadata",
        within: SECOND.mul_f64(6.5),
    }
    .measure();
}

fn a_preemption_by_google_reaches_drain_within_1_5_seconds() {
    let google = Google::start_by(Clock::Runs);
    google.say(r#", "preempted": "FALSE""#);
    Cloud {
        name: "google",
        server: &google.server,
        path: "wait_for_change=true",
        is_held: true,
        notify: &|_| google.say(r#", "preempted": "TRUE""#),
        take_back: &|| google.say(r#", "preempted": "FALSE""#),
        ahead: 30,
        reason: "preempted in the google metadata",
        within: SECOND.mul_f64(1.5),
    }
    .measure();
}

fn an_event_of_azure_reaches_drain_within_6_5_seconds() {
    let azure = Azure::start_by(Clock::Runs, SECOND);
    let notify = |ahead| {
        let at = unix().as_secs() + ahead;
        let format =
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT";
        let at = written(at, format);
        azure.say(&[&format!(
            r#""EventId": "e-1", "EventType": "Preempt", "Resources": ["vm_0"],
               "EventStatus": "Scheduled", "EventSource": "Platform", "NotBefore": "{at}""#
        )]);
    };
    Cloud {
        name: "azure",
        server: &azure.server,
        path: "scheduledevents",
        is_held: false,
        notify: &notify,
        take_back: &|| azure.say(&[]),
        ahead: 30,
        reason: "scheduledevents/e-1 (Preempt) in the azure metadata",
        within: SECOND.mul_f64(6.5),
    }
    .measure();
}

/// Azure would wait for a quarter of an hour, and nothing is drained for a restart.
fn a_restart_that_somebody_asks_azure_for_does_not_wait() {
    let azure = Azure::start_by(Clock::Runs, Duration::ZERO);
    let cloud = Cloud::without_notices("azure", &azure.server, "scheduledevents");
    let machine = cloud.machine();
    machine.boot().ready_on("/dev/vdb");
    azure.say(&[
        r#""EventId": "e-2", "EventType": "Reboot", "Resources": ["vm_0"],
           "EventStatus": "Scheduled", "EventSource": "User", "NotBefore": """#,
    ]);
    let watch = machine.start(&["watch"]);
    let is_told = is_so_within(ASKS, || !azure.posted().is_empty());
    let said = stop(watch).stderr;
    assert!(is_told, "{said}");
    assert_eq!(azure.posted(), [r#"{"StartRequests":[{"EventId":"e-2"}]}"#]);
    assert!(!machine.path("/tmp/drained").exists(), "{said}");
}

/// It may have been taken back since, and then the whole request would be refused.
fn an_event_that_azure_no_longer_knows_costs_no_other() {
    let azure = Azure::start_by(Clock::Runs, Duration::ZERO);
    let cloud = Cloud::without_notices("azure", &azure.server, "scheduledevents");
    let machine = cloud.machine();
    machine.boot().ready_on("/dev/vdb");
    let restart = |id| {
        format!(
            r#""EventId": "{id}", "EventType": "Reboot", "Resources": ["vm_0"],
               "EventStatus": "Scheduled", "EventSource": "User", "NotBefore": """#
        )
    };
    azure.say(&[&restart("gone"), &restart("e-4")]);
    let watch = machine.start(&["watch"]);
    let of = |id: &str| format!(r#"{{"StartRequests":[{{"EventId":"{id}"}}]}}"#);
    let is_told = is_so_within(ASKS, || azure.posted().contains(&of("e-4")));
    // It asks for events again before the one that was refused is tried again.
    let asked = azure.server.seen().len();
    let is_asked = is_so_within(ASKS, || azure.server.seen().len() > asked);
    let said = stop(watch).stderr;
    assert!(is_told && is_asked, "{said}");
    assert_eq!(azure.posted(), [of("gone"), of("e-4")]);
    let refused = "the cloud cannot be told to go on with gone: ";
    assert_eq!(said.matches(refused).count(), 1, "{said}");
}

fn azure_is_told_of_the_end_of_a_drain_that_an_earlier_watch_has_started() {
    let azure = Azure::start_by(Clock::Runs, Duration::ZERO);
    let cloud = Cloud::without_notices("azure", &azure.server, "scheduledevents");
    let mut machine = cloud.machine();
    machine.configure(&format!(
        "[metadata]\nsources = [\"azure\"]\nurl = \"{}\"\n[deadline]\n\
         drain = [\"/bin/sh\", \"-c\", \"echo x > /tmp/drained; sleep 4\"]\n",
        azure.server.url()
    ));
    machine.boot().ready_on("/dev/vdb");
    azure.say(&[
        r#""EventId": "e-3", "EventType": "Terminate", "Resources": ["vm_0"],
           "EventStatus": "Scheduled", "EventSource": "User", "NotBefore": """#,
    ]);
    let watch = machine.start(&["watch"]);
    let has_begun = is_so_within(ASKS, || machine.path("/tmp/drained").exists());
    let said = stop(watch).stderr;
    assert!(has_begun, "{said}");
    let watch = machine.start(&["watch"]);
    sleep(SECOND);
    assert!(azure.posted().is_empty());
    let is_told = is_so_within(ASKS, || !azure.posted().is_empty());
    let said = stop(watch).stderr;
    assert!(is_told, "{said}");
}

fn what_a_cloud_schedules_that_the_machine_survives_is_said_once() {
    let azure = Azure::start_by(Clock::Runs, Duration::ZERO);
    let ec2 = Ec2::start_by(Clock::Runs);
    let cloud = |name, server| Cloud::without_notices(name, server, "/metadata");
    let clouds = [cloud("azure", &azure.server), cloud("ec2", &ec2.server)];
    for cloud in clouds {
        let machine = cloud.machine();
        machine.boot().ready_on("/dev/vdb");
        azure.say(&[
            r#""EventId": "e-4", "EventType": "Reboot", "Resources": ["vm_0"],
               "EventStatus": "Scheduled", "EventSource": "Platform", "NotBefore": """#,
        ]);
        let event = r#"[{"Code": "system-reboot", "State": "active", "EventId": "instance-event-1",
            "NotBefore": "24 Dec 2026 18:00:00 GMT", "Description": "why"}]"#;
        ec2.say("events/maintenance/scheduled", Some(event));
        let watch = machine.start(&["watch"]);
        sleep(ASKS);
        let said = stop(watch).stderr;
        let words = match cloud.name {
            "azure" => "azure: Azure has scheduled for this VM: Reboot",
            _ => "ec2: EC2 has scheduled for this instance: system-reboot, not before 2026-12-24",
        };
        assert_eq!(said.matches(words).count(), 1, "{said}");
    }
}
