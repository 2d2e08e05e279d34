//! `vmstage watch`, running for real with deadlines seconds ahead. What it would power
//! the machine off with is a script that only writes down that it was called.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::{Image, Machine, Outcome, Running, tool};
use crate::server::{Server, respond};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

claims!(
    // A minute or more each: they start first, beside all the others.
    the_last_known_deadline_holds_while_the_service_is_down,
    a_deadline_that_goes_away_is_taken_back_everywhere,
    users_are_warned_drain_runs_once_and_the_machine_is_ended_at_the_deadline,
    the_action_report_ends_nothing,
    a_machine_that_is_younger_than_min_uptime_is_neither_drained_nor_ended,
    after_a_crash_drain_does_not_run_again,
    in_a_grace_of_the_sites_neither_a_crash_nor_a_new_configuration_has_drain_run_again,
    a_drain_goes_on_with_its_output_whatever_becomes_of_watch,
    the_time_limit_of_a_drain_holds_without_watch,
    drain_runs_where_this_programs_own_file_cannot_be_run_any_more,
    node_exporters_file_tells_of_a_drain_and_by_its_time_that_watch_is_at_work,
    a_drain_that_hangs_is_killed_and_does_not_keep_the_machine_from_its_end,
    sigterm_ends_watching_and_not_the_machine,
    sighup_reads_the_configuration_again_and_a_wrong_one_changes_nothing,
    a_second_watch_refuses_to_run_beside_the_first,
    what_boot_hears_while_watch_starts_is_not_taken_back,
    the_callback_is_told_once,
    what_watch_has_started_is_no_zombie_until_it_asks_again,
    memory_stays_below_4_mib,
);

const SERVICE: &str = "169.254.169.254:80";
const INSTANCE: &str = "aaaaaaaa-0000-4000-8000-000000000001";

pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A machine with these sections `[metadata]`, and `[deadline]` and more.
pub(super) fn machine(metadata: &str, configuration: &str) -> Machine {
    let mut machine = Machine::new();
    machine.configure(&format!("[metadata]\n{metadata}\n{configuration}"));
    for published in [
        "/etc/machinefeatures",
        "/etc/jobfeatures",
        "/run",
        "/staging",
        "/var/lib/vmstage",
        "/tmp",
    ] {
        machine.may_change(published);
    }
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    machine.sh(
        "mkdir /tmp/fake; for name in shutdown poweroff systemctl; do
             printf '#!/bin/sh\\necho \"$0 $*\" >> /tmp/off\\n' > /tmp/fake/$name
             chmod 755 /tmp/fake/$name; done",
    );
    machine
}

/// A staged machine whose metadata service names this deadline; 0 is none.
struct Cloud {
    machine: Machine,
    deadline: Arc<AtomicU64>,
    /// So many milliseconds after it was asked.
    answers_after: Arc<AtomicU64>,
    posted: Arc<Mutex<Vec<String>>>,
    service: Option<Server>,
}

impl Cloud {
    /// In `seconds` from now. `configuration` is the section `[deadline]` and more.
    fn with_deadline_in(seconds: u64, configuration: &str) -> Cloud {
        let metadata = "sources = [\"openstack\"]\ntimeout = \"5s\"";
        let machine = machine(metadata, configuration);
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET)");
        for words in ["link set lo up", "address add 169.254.169.254/32 dev lo"] {
            let ip = Command::new(tool("ip")).args(words.split(' ')).status();
            assert!(ip.unwrap().success(), "ip {words}");
        }
        let mut cloud = Cloud {
            machine,
            deadline: Arc::new(AtomicU64::new(now() + seconds)),
            answers_after: Arc::default(),
            posted: Arc::default(),
            service: None,
        };
        cloud.serve();
        cloud.machine.boot().ready_on("/dev/vdb");
        cloud
    }

    fn serve(&mut self) {
        let (deadline, posted) = (self.deadline.clone(), self.posted.clone());
        let after = self.answers_after.clone();
        let server = Server::start_at(SERVICE, move |request, stream| {
            sleep(Duration::from_millis(after.load(Ordering::SeqCst)));
            if request.method == "POST" {
                posted.lock().unwrap().push(request.path.clone());
                return respond(stream, 200, "", b"");
            }
            let meta = match deadline.load(Ordering::SeqCst) {
                0 => String::new(),
                1 => return respond(stream, 503, "", b"<html>down for hours"),
                at => format!(r#", "meta": {{"vmstage_deadline": "{at}"}}"#),
            };
            let body = format!(r#"{{"uuid": "{INSTANCE}"{meta}}}"#);
            respond(stream, 200, "", body.as_bytes())
        });
        self.service = Some(server);
    }

    fn watch(&self) -> Running<'_> {
        watch(&self.machine)
    }

    fn ordered_off(&self) -> String {
        ordered_off(&self.machine)
    }

    fn shutdowntime(&self) -> PathBuf {
        self.machine.path("/etc/machinefeatures/shutdowntime")
    }

    /// Whether a second answer has said the same.
    fn is_confirmed(&self) -> bool {
        self.status()["deadline"]["unconfirmed"] == false
    }

    fn status(&self) -> serde_json::Value {
        let text = fs::read(self.machine.path("/run/vmstage/status.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

/// `vmstage watch`, which powers nothing off.
pub(super) fn watch(machine: &Machine) -> Running<'_> {
    machine.start_command(command(machine))
}

fn command(machine: &Machine) -> Command {
    let mut watch = machine.command("/usr/sbin/vmstage", None);
    watch
        .arg("watch")
        .env("PATH", "/tmp/fake:/usr/sbin:/usr/bin:/sbin:/bin");
    watch
}

/// What the scripts wrote that stand in for powering off.
pub(super) fn ordered_off(machine: &Machine) -> String {
    fs::read_to_string(machine.path("/tmp/off")).unwrap_or_default()
}

/// Ends it, and says what it said.
pub(super) fn stop(mut watch: Running) -> Outcome {
    signal(&mut watch, Signal::SIGTERM);
    let start = Instant::now();
    while start.elapsed() < SECONDS(5) && watch.process().try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(20));
    }
    watch.wait()
}

fn signal(watch: &mut Running, signal: Signal) {
    kill(Pid::from_raw(watch.process().id() as i32), signal).unwrap();
}

/// Waits until something is so, and says whether it came to be.
pub(super) fn comes_to_be(within: Duration, so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !so() {
        if start.elapsed() > within {
            return false;
        }
        sleep(Duration::from_millis(50));
    }
    true
}

pub(super) const SECONDS: fn(u64) -> Duration = Duration::from_secs;

const ENDS: &str = "[deadline]\ngrace = \"5s\"\nwarn = [\"7s\"]\naction = \"poweroff\"\nmin_uptime = \"0s\"\n\
    drain = [\"/bin/sh\", \"-c\", \"echo until $VMSTAGE_DEADLINE, $VMSTAGE_SECONDS_LEFT s: $VMSTAGE_REASON; echo x >> /tmp/drained\"]\n";

fn users_are_warned_drain_runs_once_and_the_machine_is_ended_at_the_deadline() {
    let cloud = Cloud::with_deadline_in(40, ENDS);
    let at = cloud.deadline.load(Ordering::SeqCst);
    let watch = cloud.watch();
    assert!(comes_to_be(SECONDS(50), || !cloud.ordered_off().is_empty()));
    assert!(now() >= at, "{} s early", at - now());
    assert!(now() <= at + 4, "{} s late", now() - at);
    sleep(SECONDS(2));
    assert_eq!(cloud.ordered_off(), "/tmp/fake/shutdown -h -P now\n");
    let drained = fs::read_to_string(cloud.machine.path("/tmp/drained"));
    assert_eq!(drained.unwrap(), "x\n");
    let said = stop(watch).stderr;
    let at_of = |words: &str| {
        said.find(words)
            .unwrap_or_else(|| panic!("no {words:?} in {said}"))
    };
    let story = [
        at_of("warning users: this VM goes away in "),
        at_of(&format!("drain: until {at}, ")),
        at_of("drain: done"),
        at_of("the deadline is reached"),
        at_of("asked init to power off"),
    ];
    assert!(story.is_sorted(), "{said}");
    // Five seconds before the deadline, in whole seconds, less what starting it took.
    let left = |seconds: &i64| {
        said.contains(&format!(
            "drain: until {at}, {seconds} s: vmstage_deadline in the openstack metadata"
        ))
    };
    assert!((3..=5).any(|seconds| left(&seconds)), "{said}");
    assert_eq!(said.matches("warning users").count(), 1, "{said}");
}

fn the_action_report_ends_nothing() {
    let cloud = Cloud::with_deadline_in(3, "[deadline]\nmin_uptime = \"0s\"\n");
    let watch = cloud.watch();
    sleep(SECONDS(6));
    let said = stop(watch).stderr;
    assert_eq!(said.matches("the deadline is reached").count(), 1, "{said}");
    assert_eq!(cloud.ordered_off(), "");
}

fn a_machine_that_is_younger_than_min_uptime_is_neither_drained_nor_ended() {
    // No machine that runs this has been up for that long.
    let cloud = Cloud::with_deadline_in(
        2,
        &ENDS.replace("min_uptime = \"0s\"", "min_uptime = \"100years\""),
    );
    let watch = cloud.watch();
    sleep(SECONDS(5));
    let said = stop(watch).stderr;
    assert!(said.contains("the deadline is reached"), "{said}");
    assert_eq!(cloud.ordered_off(), "");
    assert!(!cloud.machine.path("/tmp/drained").exists());
}

fn after_a_crash_drain_does_not_run_again() {
    let cloud = Cloud::with_deadline_in(600, &ENDS.replace("grace = \"5s\"", "grace = \"20m\""));
    let mut watch = cloud.watch();
    let drained = || fs::read_to_string(cloud.machine.path("/tmp/drained")).unwrap_or_default();
    assert!(comes_to_be(SECONDS(30), || drained() == "x\n"));
    watch.process().kill().unwrap();
    drop(watch);
    let watch = cloud.watch();
    sleep(SECONDS(3));
    let said = stop(watch).stderr;
    assert_eq!(drained(), "x\n", "{said}");
    assert!(said.contains("must be gone by"), "{said}");
}

/// The configured grace is five seconds, and the deadline ten minutes ahead.
fn in_a_grace_of_the_sites_neither_a_crash_nor_a_new_configuration_has_drain_run_again() {
    let mut cloud = Cloud::with_deadline_in(600, ENDS);
    let url = format!("http://{SERVICE}");
    cloud.machine.configure(&format!(
        "[metadata]\nsources = [\"openstack\"]\nurl = {url:?}\nmachinefeatures = \"/tmp/mf\"\n{ENDS}"
    ));
    cloud
        .machine
        .sh("mkdir /tmp/mf; echo 1200 > /tmp/mf/grace_secs");
    cloud.machine.boot().ready_on("/dev/vdb");
    let mut watch = cloud.watch();
    let drained = || fs::read_to_string(cloud.machine.path("/tmp/drained")).unwrap_or_default();
    assert!(comes_to_be(SECONDS(90), || drained() == "x\n"));
    let stays = || {
        let start = Instant::now();
        while start.elapsed() < SECONDS(4) {
            assert_eq!(drained(), "x\n");
            assert_eq!(cloud.status()["deadline"]["grace_seconds"], 1200);
            sleep(Duration::from_millis(50));
        }
    };
    signal(&mut watch, Signal::SIGHUP);
    stays();
    watch.process().kill().unwrap();
    drop(watch);
    let watch = cloud.watch();
    stays();
    stop(watch);
}

/// A drain that runs a shell script from the start, grace being longer than what is left.
fn draining(script: &str, limit: &str) -> String {
    format!(
        "[deadline]\ngrace = \"20m\"\nmin_uptime = \"0s\"\ndrain_timeout = {limit:?}\n\
         drain = [\"/bin/sh\", \"-c\", {script:?}]\n"
    )
}

fn a_drain_goes_on_with_its_output_whatever_becomes_of_watch() {
    let script = "echo x >> /tmp/drained; \
        for step in 1 2 3 4 5 6 7 8 9; do echo step $step; sleep 0.5; done; touch /tmp/done";
    let cloud = Cloud::with_deadline_in(600, &draining(script, "1h"));
    let log = cloud.machine.syslog();
    let said = std::cell::RefCell::new(String::new());
    let has_said = |words: &str| {
        let mut datagram = [0; 4096];
        while let Ok(length) = log.recv(&mut datagram) {
            let line = String::from_utf8_lossy(&datagram[..length]);
            said.borrow_mut().push_str(&(line.into_owned() + "\n"));
        }
        said.borrow().contains(words)
    };
    let watch = cloud.watch();
    assert!(comes_to_be(SECONDS(30), || has_said("drain: step 2")));
    stop(watch);
    let mut watch = cloud.watch();
    assert!(comes_to_be(SECONDS(10), || has_said("drain: step 4")));
    watch.process().kill().unwrap();
    drop(watch);
    assert!(comes_to_be(SECONDS(10), || has_said("drain: step 6")));
    let watch = cloud.watch();
    assert!(comes_to_be(SECONDS(10), || has_said("drain: done after ")));
    stop(watch);
    assert!(cloud.machine.path("/tmp/done").exists());
    let drained = fs::read_to_string(cloud.machine.path("/tmp/drained"));
    assert_eq!(drained.unwrap(), "x\n");
    for step in 1..=9 {
        assert!(
            has_said(&format!("drain: step {step}")),
            "{}",
            said.borrow()
        );
    }
}

fn the_time_limit_of_a_drain_holds_without_watch() {
    let script = "for beat in $(seq 100); do echo x >> /tmp/beats; sleep 0.2; done";
    let cloud = Cloud::with_deadline_in(600, &draining(script, "4s"));
    let beats = || fs::read(cloud.machine.path("/tmp/beats")).map_or(0, |text| text.len());
    let mut watch = cloud.watch();
    assert!(comes_to_be(SECONDS(30), || beats() > 0));
    watch.process().kill().unwrap();
    drop(watch);
    let at_the_crash = beats();
    sleep(SECONDS(6));
    let at_the_limit = beats();
    assert!(at_the_limit > at_the_crash + 4, "it ended with watch");
    sleep(SECONDS(1));
    assert_eq!(beats(), at_the_limit, "it goes on");
}

/// Its disk may hang by then.
fn drain_runs_where_this_programs_own_file_cannot_be_run_any_more() {
    let cloud = Cloud::with_deadline_in(600, &draining("echo x >> /tmp/drained", "1h"));
    let watch = cloud.watch();
    cloud.machine.sh("chmod 0 /usr/sbin/vmstage");
    let drained = || fs::read_to_string(cloud.machine.path("/tmp/drained")).unwrap_or_default();
    let is_drained = comes_to_be(SECONDS(30), || drained() == "x\n");
    let watch = stop(watch);
    assert!(is_drained, "{watch}");
}

fn node_exporters_file_tells_of_a_drain_and_by_its_time_that_watch_is_at_work() {
    let drain = draining("while ! [ -e /tmp/end ]; do sleep 0.1; done", "1h");
    let report = "[report]\ntextfile_directory = \"/run/metrics\"\n";
    let cloud = Cloud::with_deadline_in(600, &(drain + report));
    cloud.machine.sh("mkdir /run/metrics");
    let file = cloud.machine.path("/run/metrics/vmstage.prom");
    let tells = |metric: &str| fs::read_to_string(&file).is_ok_and(|text| text.contains(metric));
    let watch = cloud.watch();
    let running = "\nvmstage_drain_running 1\n";
    assert!(comes_to_be(SECONDS(40), || tells(running)));
    assert!(tells("\nvmstage_ready_uptime_seconds "));
    cloud.machine.sh("touch /tmp/end");
    assert!(comes_to_be(SECONDS(10), || tells("\nvmstage_ready 1\n")
        && !tells(running)));

    let written = || fs::metadata(&file).unwrap().modified().unwrap();
    let before = SystemTime::now() - SECONDS(300);
    let opened = fs::File::open(&file).unwrap();
    opened.set_modified(before).unwrap();
    // The regular turn, which changes nothing.
    assert!(comes_to_be(SECONDS(90), || written() > before + SECONDS(240)));
    assert!(tells("\nvmstage_ready 1\n") && !tells(running));
    stop(watch);
}

fn a_drain_that_hangs_is_killed_and_does_not_keep_the_machine_from_its_end() {
    let hangs = "[deadline]\ngrace = \"60s\"\naction = \"poweroff\"\nmin_uptime = \"0s\"\n\
        drain = [\"/bin/sleep\", \"1000\"]\ndrain_timeout = \"2s\"\n";
    let cloud = Cloud::with_deadline_in(6, hangs);
    let watch = cloud.watch();
    assert!(comes_to_be(SECONDS(30), || !cloud.ordered_off().is_empty()));
    let said = stop(watch).stderr;
    assert!(said.contains("drain: killed"), "{said}");
}

fn sigterm_ends_watching_and_not_the_machine() {
    let cloud = Cloud::with_deadline_in(600, ENDS);
    let watch = cloud.watch();
    sleep(SECONDS(1));
    let since = Instant::now();
    let outcome = stop(watch);
    assert_eq!(outcome.code, 0, "{outcome}");
    assert!(since.elapsed() < SECONDS(3), "{outcome}");
    assert_eq!(cloud.ordered_off(), "");
}

fn sighup_reads_the_configuration_again_and_a_wrong_one_changes_nothing() {
    let mut cloud = Cloud::with_deadline_in(600, "[deadline]\nmin_uptime = \"0s\"\n");
    cloud.machine.may_change("/etc/vmstage.toml");
    let file = cloud.machine.path("/etc/vmstage.toml");
    let mut watch = cloud.watch();
    assert!(comes_to_be(SECONDS(30), || cloud.is_confirmed()));
    fs::write(&file, "[deadline]\ngrase = \"20m\"\n").unwrap();
    signal(&mut watch, Signal::SIGHUP);
    sleep(SECONDS(2));
    assert!(!cloud.machine.path("/tmp/drained").exists());
    let drain = "drain = [\"/bin/touch\", \"/tmp/drained\"]";
    let good = format!(
        "[metadata]\nsources = []\n[deadline]\ngrace = \"20m\"\nmin_uptime = \"0s\"\n{drain}\n"
    );
    fs::write(&file, good).unwrap();
    signal(&mut watch, Signal::SIGHUP);
    assert!(comes_to_be(SECONDS(5), || cloud
        .machine
        .path("/tmp/drained")
        .exists()));
    let said = stop(watch).stderr;
    assert!(
        said.contains("the old one is kept: /etc/vmstage.toml, line 2"),
        "{said}"
    );
    assert!(said.contains("the configuration was read again"), "{said}");
}

fn a_second_watch_refuses_to_run_beside_the_first() {
    let cloud = Cloud::with_deadline_in(600, "");
    let watch = cloud.watch();
    sleep(SECONDS(1));
    let second = cloud.watch().wait();
    assert_eq!(second.code, 1, "{second}");
    assert!(
        second.stderr.contains("/run/vmstage/watch.lock"),
        "{second}"
    );
    assert_eq!(stop(watch).code, 0);
}

/// Both write the status and tell everybody, at about the same time.
fn what_boot_hears_while_watch_starts_is_not_taken_back() {
    let cloud = Cloud::with_deadline_in(600, "");
    let at = cloud.deadline.load(Ordering::SeqCst);
    for after in 0..40 {
        cloud.machine.sh("rm -rf /run/vmstage /etc/machinefeatures");
        cloud.answers_after.store(after, Ordering::SeqCst);
        let mut boot = cloud.machine.start(&["boot"]);
        let status = cloud.machine.path("/run/vmstage/status.json");
        while !status.exists() {
            sleep(Duration::from_micros(100));
        }
        // The files of the machine are not looked at: this writes some, and boot does.
        let mut watch = command(&cloud.machine).spawn().unwrap();
        assert!(boot.process().wait().unwrap().success());
        // Before it asks for the second answer.
        sleep(Duration::from_millis(50));
        let told = fs::read_to_string(cloud.shutdowntime()).ok();
        let status = cloud.status();
        kill(Pid::from_raw(watch.id() as i32), Signal::SIGTERM).unwrap();
        assert!(watch.wait().unwrap().success());
        assert_eq!(status["deadline"]["at"], at, "answered after {after} ms");
        assert_eq!(told, Some(at.to_string()), "answered after {after} ms");
    }
}

fn the_last_known_deadline_holds_while_the_service_is_down() {
    let cloud = Cloud::with_deadline_in(100, ENDS);
    assert!(!cloud.is_confirmed(), "{}", cloud.status());
    let shown = cloud.machine.run(&["status"]).stdout;
    let doubt = " ago, by one answer so far: nothing is done before a second says the same\n";
    assert!(
        shown.contains(", last said ") && shown.contains(doubt),
        "{shown}"
    );
    let watch = cloud.watch();
    // A second answer, ten seconds later.
    assert!(comes_to_be(SECONDS(30), || cloud.is_confirmed()));
    let at = cloud.deadline.swap(1, Ordering::SeqCst);
    let confirmed = cloud.status()["deadline"]["confirmed_at"].clone();
    // It asks within the first minute, and is told nothing.
    let asked = || cloud.status()["sources"][0]["error"].is_string();
    assert!(comes_to_be(SECONDS(70), asked), "{}", cloud.status());
    assert_eq!(cloud.status()["deadline"]["at"], at);
    assert_eq!(cloud.status()["deadline"]["confirmed_at"], confirmed);
    let shown = cloud.machine.run(&["status"]).stdout;
    assert!(
        shown.contains(", confirmed ") && shown.contains(" ago\n"),
        "{shown}"
    );
    assert!(comes_to_be(SECONDS(100), || !cloud
        .ordered_off()
        .is_empty()));
    stop(watch);
}

fn a_deadline_that_goes_away_is_taken_back_everywhere() {
    let cloud = Cloud::with_deadline_in(3600, "");
    assert!(cloud.shutdowntime().exists());
    cloud.deadline.store(0, Ordering::SeqCst);
    let watch = cloud.watch();
    assert!(comes_to_be(SECONDS(70), || !cloud.shutdowntime().exists()));
    assert!(cloud.status()["deadline"].is_null(), "{}", cloud.status());
    let said = stop(watch).stderr;
    assert!(said.contains("there is no deadline any more"), "{said}");
}

fn the_callback_is_told_once() {
    let callback = "[callback]\nurl = \"http://169.254.169.254/ready/\"\n";
    let cloud = Cloud::with_deadline_in(3600, callback);
    assert!(
        cloud.posted.lock().unwrap().is_empty(),
        "boot never calls back"
    );
    let watch = cloud.watch();
    let posted = || cloud.posted.lock().unwrap().clone();
    assert!(comes_to_be(SECONDS(10), || !posted().is_empty()));
    stop(watch);
    let watch = cloud.watch();
    sleep(SECONDS(3));
    stop(watch);
    assert_eq!(posted(), ["/ready/"]);
}

/// The states of a process's children, as /proc has them.
fn states_of_children(parent: u32) -> Vec<String> {
    let stats = fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let states = stats.filter_map(|stat| {
        // The name is in parentheses.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        (fields.next()? == parent.to_string()).then(|| state.to_string())
    });
    states.collect()
}

fn what_watch_has_started_is_no_zombie_until_it_asks_again() {
    let cloud = Cloud::with_deadline_in(3600, "");
    let mut watch = cloud.watch();
    // It asks at once, and for the second answer after ten seconds.
    sleep(SECONDS(2));
    let pid = watch.process().id();
    let has_none = || !states_of_children(pid).contains(&"Z".to_string());
    assert!(comes_to_be(SECONDS(3), has_none));
    stop(watch);
}

fn memory_stays_below_4_mib() {
    let cloud = Cloud::with_deadline_in(3600, "");
    let mut watch = cloud.watch();
    sleep(SECONDS(5));
    let file = format!("/proc/{}/status", watch.process().id());
    let text = fs::read_to_string(file).unwrap();
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    stop(watch);
    // The bound is that of the static binary.
    if std::env::var_os("VMSTAGE_BIN").is_some() {
        assert!(kib <= 4096, "{kib} KiB");
    }
}
