//! `vmstage end`, with a `watch` that runs for real and powers nothing off.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::running::{SECONDS, comes_to_be, machine, now, ordered_off, stop, watch};
use crate::common::{Machine, Running};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

claims!(
    // More than a minute: it starts first.
    where_watch_hangs_drain_runs_once_users_are_warned_and_the_machine_ends_each_at_its_time,
    records_that_do_not_answer_keep_nobody_from_being_drained_warned_and_told,
    an_order_ends_the_machine_in_time_and_says_what_will_happen,
    drain_only_drains_and_ends_nothing,
    after_drain_only_a_later_deadline_ends_the_machine_and_drains_no_second_time,
    cancel_takes_an_order_back_everywhere,
    a_rehearsal_is_as_a_notice_ends_nothing_and_is_over_with_its_time,
    a_later_order_replaces_an_earlier_one_and_a_time_may_be_given,
    without_a_watch_nothing_is_ordered,
    who_holds_the_lock_must_be_a_watch_that_runs,
    an_order_that_makes_no_sense_is_wrong_usage,
    a_watch_that_does_not_answer_is_said_to_be_one,
    cancel_needs_neither_a_configuration_nor_room,
    a_kept_drain_that_has_run_does_not_run_in_the_next_boot,
    a_status_that_is_no_file_any_more_is_written_anew,
    a_kept_order_holds_after_a_reboot_and_another_does_not,
    a_kept_order_does_not_hold_in_an_image_that_is_launched_elsewhere,
    a_kept_order_that_was_carried_out_does_not_end_the_machine_again,
);

/// A `min_uptime` that nothing here reaches: it applies to no order.
const ENDS: &str = "[deadline]\ngrace = \"5m\"\naction = \"poweroff\"\nmin_uptime = \"100years\"\n\
    drain = [\"/bin/sh\", \"-c\", \"echo $VMSTAGE_DEADLINE $VMSTAGE_SECONDS_LEFT ${VMSTAGE_REHEARSAL-0} $VMSTAGE_REASON >> /tmp/drained\"]\n";

const UUID: &str = "0e4d1c2b-8f6a-4b3c-9d1e-000000000001";

/// A staged machine with consumers, of which no source says anything.
fn guest(configuration: &str) -> Machine {
    guest_that_asks("sources = []", configuration)
}

fn guest_that_asks(metadata: &str, configuration: &str) -> Machine {
    let mut machine = machine(metadata, configuration);
    for consumer in ["/etc/condor", "/etc/motd", "/var/lib/prometheus"] {
        machine.may_change(consumer);
    }
    machine.sh(&format!(
        "mkdir -p /etc/condor/config.d /var/lib/prometheus/node-exporter; touch /etc/motd
         mount -t tmpfs sysfs /sys/class; mkdir -p /sys/class/dmi/id
         echo {UUID} > /sys/class/dmi/id/product_uuid"
    ));
    machine.boot().ready_on("/dev/vdb");
    machine
}

/// The same disks in another boot, or another machine's.
fn boot_again(machine: &Machine, boot_id: &str, uuid: &str) {
    machine.sh(&format!(
        "rm -rf /run/vmstage /tmp/off /tmp/drained
         echo {boot_id} > /run/boot-id; echo {uuid} > /sys/class/dmi/id/product_uuid
         mount --bind /run/boot-id /proc/sys/kernel/random/boot_id"
    ));
    assert_eq!(machine.boot().code, 0);
}

/// `vmstage watch`, once it takes orders.
fn watching(machine: &Machine) -> Running<'_> {
    let mut watch = watch(machine);
    let process = format!("\"pid\":{},", watch.process().id());
    let takes_orders = || text(machine, "/run/vmstage/watch.lock").contains(&process);
    assert!(comes_to_be(SECONDS(10), takes_orders));
    watch
}

fn text(machine: &Machine, path: &str) -> String {
    fs::read_to_string(machine.path(path)).unwrap_or_default()
}

fn drained(machine: &Machine) -> String {
    text(machine, "/tmp/drained")
}

/// The deadline as each of those who are told has it.
fn told(machine: &Machine) -> [(&'static str, String); 5] {
    let condor = text(machine, "/etc/condor/config.d/99-vmstage.config");
    let status: serde_json::Value =
        serde_json::from_str(&text(machine, "/run/vmstage/status.json")).unwrap();
    let motd = text(machine, "/run/motd.d/vmstage") + &text(machine, "/etc/motd");
    let line = |text: &str, words: &str| {
        let found = text.lines().find(|line| line.contains(words));
        found.unwrap_or_default().to_string()
    };
    let metrics = text(machine, "/var/lib/prometheus/node-exporter/vmstage.prom");
    let metric = "vmstage_deadline_timestamp_seconds ";
    [
        (
            "status",
            status["deadline"]["at"]
                .as_u64()
                .map(|at| at.to_string())
                .unwrap_or_default(),
        ),
        (
            "features",
            text(machine, "/etc/machinefeatures/shutdowntime"),
        ),
        ("condor", line(&condor, "MJF_MACHINE_SHUTDOWNTIME =")),
        ("motd", line(&motd, "this VM ")),
        ("metrics", line(&metrics, metric)),
    ]
}

fn are_told(machine: &Machine) -> bool {
    told(machine)
        .iter()
        .all(|(_, deadline)| !deadline.is_empty())
}

fn an_order_ends_the_machine_in_time_and_says_what_will_happen() {
    let machine = guest(ENDS);
    let watch = watching(&machine);
    let start = Instant::now();
    let end = machine.run(&["end", "--in", "4s", "--reason", "new\n\u{1b}[2Jdisks"]);
    assert_eq!(end.code, 0, "{end}");
    assert!(end.took < SECONDS(2), "{end}");
    for words in [
        "deadline  ",
        "vmstage end (new\u{fffd}\u{fffd}[2Jdisks) by the operator",
        "action    poweroff",
        "drain     /bin/sh",
    ] {
        assert!(end.stdout.contains(words), "no {words:?}: {end}");
    }
    assert!(are_told(&machine), "{:?}", told(&machine));
    let status = machine.run(&["status"]).stdout;
    assert!(status.contains("[2Jdisks) by the operator"), "{status}");
    assert!(comes_to_be(SECONDS(10), || !ordered_off(&machine).is_empty()));
    let after = start.elapsed();
    assert!(after > SECONDS(4) && after < SECONDS(7), "{after:?}");
    let drained = drained(&machine);
    let words: Vec<&str> = drained.trim().splitn(4, ' ').collect();
    let (at, left): (u64, u64) = (words[0].parse().unwrap(), words[1].parse().unwrap());
    assert!(
        at.abs_diff(now()) <= 3 && (3..=4).contains(&left),
        "{drained}"
    );
    // A drain command gets blanks for what is not printable, or the sign for it.
    assert_eq!(words[2..], ["0", "new\u{fffd}\u{fffd}[2Jdisks"]);
    let mode = machine.sh("stat -c %a /run/vmstage/end.json");
    assert_eq!(mode, "600\n");
    stop(watch);
}

fn drain_only_drains_and_ends_nothing() {
    let machine = guest(ENDS);
    let watch = watching(&machine);
    let end = machine.run(&["end", "--in", "2s", "--drain-only"]);
    assert_eq!(end.code, 0, "{end}");
    assert!(end.stdout.contains("no power-off"), "{end}");
    assert!(comes_to_be(SECONDS(3), || !drained(&machine).is_empty()));
    std::thread::sleep(SECONDS(4));
    assert_eq!(ordered_off(&machine), "");
    // Nothing new begins until it is cancelled.
    assert!(are_told(&machine), "{:?}", told(&machine));
    let status = machine.run(&["status"]).stdout;
    assert!(status.contains("nothing is switched off"), "{status}");
    let metrics = text(&machine, "/var/lib/prometheus/node-exporter/vmstage.prom");
    assert!(
        metrics.contains("vmstage_deadline_drain_only 1"),
        "{metrics}"
    );
    let motd = told(&machine)[3].1.clone();
    assert!(motd.contains("nothing is switched off"), "{motd}");
    let said = stop(watch).stderr;
    assert!(
        said.contains("warning users: work on this VM must"),
        "{said}"
    );
    for wrong in ["goes away", "must be gone"] {
        assert!(
            !said.contains(wrong) && !motd.contains(wrong),
            "{said}{motd}"
        );
    }
    assert_eq!(said.matches("drain: done").count(), 1, "{said}");
}

/// The whole life of a VM that somebody drains a while before it has to go.
fn after_drain_only_a_later_deadline_ends_the_machine_and_drains_no_second_time() {
    // A lifetime counts from the boot, which this host has had long ago.
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let lifetime = uptime as u64 + 25;
    let more = format!("max_lifetime = \"{lifetime}s\"\nwarn = [\"4s\"]\naction");
    let configuration = ENDS
        .replace("5m", "2s")
        .replace("100years", "0s")
        .replace("action", &more);
    let machine = guest(&configuration);
    let metrics = || text(&machine, "/var/lib/prometheus/node-exporter/vmstage.prom");
    let deadline = |metrics: &str| {
        let name = "vmstage_deadline_timestamp_seconds ";
        let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().map(|at| at.parse::<f64>().unwrap() as u64)
    };
    let is_drain_only = |metrics: &str| metrics.contains("\nvmstage_deadline_drain_only 1\n");
    let real = deadline(&metrics()).unwrap();
    let watch = watching(&machine);
    let end = machine.run(&["end", "--in", "6s", "--drain-only"]);
    assert_eq!(end.code, 0, "{end}");
    assert!(comes_to_be(SECONDS(1), || is_drain_only(&metrics())));
    let work_ends = deadline(&metrics()).unwrap();
    assert!(work_ends + 5 < real, "{work_ends} {real}");

    let mut seen = Vec::new();
    while ordered_off(&machine).is_empty() {
        let (time, metrics) = (now(), metrics());
        if time > real + 20 {
            panic!("it is not ended: {seen:?} {}", stop(watch).stderr);
        }
        let (at, is_drain_only) = (deadline(&metrics).unwrap(), is_drain_only(&metrics));
        // By the uptime it is, which in whole seconds may come out as the next one.
        let is_same =
            |(was, was_only): &(u64, bool)| was.abs_diff(at) <= 1 && *was_only == is_drain_only;
        if !seen.last().is_some_and(is_same) {
            seen.push((at, is_drain_only));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(now() + 1 >= real, "{} s early", real - now());
    // A time that is over and not of drain alone would be overdue, which is critical.
    assert_eq!(seen.len(), 2, "{seen:?}");
    for (seen, (at, is_drain_only)) in seen.iter().zip([(work_ends, true), (real, false)]) {
        assert!(
            seen.0.abs_diff(at) <= 1 && seen.1 == is_drain_only,
            "{seen:?}"
        );
    }
    assert_eq!(drained(&machine).lines().count(), 1);
    let said = stop(watch).stderr;
    let story = [
        "warning users: work on this VM must have ended",
        "drain: done",
        "warning users: this VM goes away in ",
        "asked init to power off",
    ];
    let at_of = |words: &str| match said.match_indices(words).collect::<Vec<_>>()[..] {
        [(at, _)] => at,
        _ => panic!("not once {words:?}: {said}"),
    };
    assert!(story.map(at_of).is_sorted(), "{said} {}", drained(&machine));
}

fn cancel_takes_an_order_back_everywhere() {
    let machine = guest(ENDS);
    let watch = watching(&machine);
    let nothing = machine.run(&["end", "--cancel"]);
    assert_eq!(nothing.code, 1, "{nothing}");
    assert!(nothing.stderr.contains("nothing to cancel"), "{nothing}");
    assert_eq!(machine.run(&["end", "--in", "3s"]).code, 0);
    assert!(comes_to_be(SECONDS(2), || drained(&machine)
        .lines()
        .count()
        == 1));
    assert!(are_told(&machine), "{:?}", told(&machine));
    let cancel = machine.run(&["end", "--cancel"]);
    assert_eq!(cancel.code, 0, "{cancel}");
    assert!(cancel.stdout.contains("cancelled"), "{cancel}");
    assert!(cancel.stderr.contains("is not undone"), "{cancel}");
    for (consumer, deadline) in told(&machine) {
        assert_eq!(deadline, "", "{consumer}");
    }
    std::thread::sleep(SECONDS(4));
    assert_eq!(ordered_off(&machine), "");
    assert_eq!(machine.run(&["end", "--cancel"]).code, 1);
    // The next one is drained for as well.
    assert_eq!(machine.run(&["end", "--in", "1m"]).code, 0);
    assert!(comes_to_be(SECONDS(3), || drained(&machine)
        .lines()
        .count()
        == 2));
    stop(watch);
}

fn a_rehearsal_is_as_a_notice_ends_nothing_and_is_over_with_its_time() {
    // A notice begins grace however short that is.
    let machine = guest(&ENDS.replace("5m", "1s"));
    let watch = watching(&machine);
    let end = machine.run(&[
        "end",
        "--in",
        "5s",
        "--rehearse",
        "spot",
        "--reason",
        "a try",
    ]);
    assert_eq!(end.code, 0, "{end}");
    for words in [
        "nothing is ended",
        "rehearsal of a spot notice (a try) by the operator",
    ] {
        assert!(end.stdout.contains(words), "no {words:?}: {end}");
    }
    assert!(comes_to_be(SECONDS(1), || drained(&machine).contains(" 1 a try")));
    assert!(are_told(&machine), "{:?}", told(&machine));
    let condor = text(&machine, "/etc/condor/config.d/99-vmstage.config");
    assert!(condor.contains("# A rehearsal"), "{condor}");
    let grace = condor
        .lines()
        .find_map(|line| line.strip_prefix("MJF_MACHINE_GRACE_SECS = "));
    assert!(
        grace.is_some_and(|grace| grace.parse::<u64>().unwrap() >= 5),
        "{condor}"
    );
    let motd = &told(&machine)[3].1;
    assert!(motd.contains("a rehearsal"), "{motd}");
    let metrics = text(&machine, "/var/lib/prometheus/node-exporter/vmstage.prom");
    assert!(
        metrics.contains("vmstage_deadline_rehearsal 1"),
        "{metrics}"
    );
    let status = machine.run(&["status"]).stdout;
    assert!(status.contains("it is a rehearsal"), "{status}");
    let are_told_of_none = || {
        told(&machine)
            .iter()
            .all(|(_, deadline)| deadline.is_empty())
    };
    comes_to_be(SECONDS(7), are_told_of_none);
    for (consumer, deadline) in told(&machine) {
        assert_eq!(deadline, "", "{consumer}");
    }
    assert_eq!(ordered_off(&machine), "");
    let said = stop(watch).stderr;
    assert!(said.contains("warning users: a rehearsal: "), "{said}");
    assert!(said.contains("the rehearsal is over"), "{said}");
}

fn a_later_order_replaces_an_earlier_one_and_a_time_may_be_given() {
    let machine = guest(ENDS);
    let watch = watching(&machine);
    assert_eq!(
        machine
            .run(&["end", "--in", "2s", "--reason", "first"])
            .code,
        0
    );
    let at = (now() + 3600).to_string();
    let second = machine.run(&["end", "--at", &at]);
    assert_eq!(second.code, 0, "{second}");
    assert!(
        second
            .stdout
            .contains("replaces an earlier order: vmstage end (first)"),
        "{second}"
    );
    assert_eq!(told(&machine)[0].1, at);
    std::thread::sleep(SECONDS(3));
    assert_eq!(ordered_off(&machine), "");
    // It stands when another configuration is read, and when another watch follows.
    kill(Pid::from_raw(pid(&machine)), Signal::SIGHUP).unwrap();
    std::thread::sleep(SECONDS(1));
    assert_eq!(told(&machine)[0].1, at);
    stop(watch);
    let watch = watching(&machine);
    std::thread::sleep(SECONDS(1));
    assert_eq!(told(&machine)[0].1, at);
    stop(watch);
}

/// Of the `watch` that runs.
fn pid(machine: &Machine) -> i32 {
    let lock: serde_json::Value =
        serde_json::from_str(&text(machine, "/run/vmstage/watch.lock")).unwrap();
    lock["pid"].as_i64().unwrap() as i32
}

fn is_ordered(machine: &Machine) -> bool {
    machine.path("/run/vmstage/end.json").exists()
}

fn without_a_watch_nothing_is_ordered() {
    let machine = guest(ENDS);
    let is_refused = || {
        let end = machine.run(&["end", "--in", "1m", "--keep"]);
        assert_eq!(end.code, 1, "{end}");
        assert!(end.stderr.contains("vmstage watch is not running"), "{end}");
        assert!(
            end.stderr.contains("systemctl start vmstage-watch"),
            "{end}"
        );
        assert!(!is_ordered(&machine));
        assert!(!machine.path("/var/lib/vmstage/end.json").exists());
    };
    is_refused();
    let watch = watching(&machine);
    let nobody = machine.run_as_nobody(&["end", "--in", "1m"]);
    assert_eq!(nobody.code, 1, "{nobody}");
    assert!(nobody.stderr.contains("must be run as root"), "{nobody}");
    assert!(!is_ordered(&machine));
    stop(watch);
    is_refused();
}

fn who_holds_the_lock_must_be_a_watch_that_runs() {
    let machine = guest(ENDS);
    stop(watching(&machine));
    // What it left in the file holds the lock on, as a child that hangs would.
    let mut holder = machine.command("/bin/sh", None);
    holder.args([
        "-c",
        "exec 9<>/run/vmstage/watch.lock; flock 9; exec sleep 60 9<&9",
    ]);
    let mut holder = holder.spawn().unwrap();
    let lock = machine.path("/run/vmstage/watch.lock");
    let is_held = || fs::File::open(&lock).unwrap().try_lock().is_err();
    assert!(comes_to_be(SECONDS(5), is_held));
    let end = machine.run(&["end", "--in", "1m"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(end.code, 1, "{end}");
    assert!(!is_ordered(&machine));
}

fn an_order_that_makes_no_sense_is_wrong_usage() {
    let machine = guest(ENDS);
    let watch = watching(&machine);
    let past = (now() - 60).to_string();
    for (arguments, words) in [
        (&["end"][..], "required"),
        (
            &["end", "--in", "5m", "--at", "2027-01-01T00:00:00Z"],
            "cannot be used with",
        ),
        (&["end", "--in", "soon"], "is not a duration"),
        (&["end", "--in", "1year"], "taken for a mistake"),
        (&["end", "--at", &past], "in the past"),
        (&["end"], "<--in <DURATION>|--at <TIME>|--cancel>"),
        (&["end", "--at", "1", "--cancel"], "cannot be used with"),
        (&["end", "--at", "2020-01-01T00:00:00Z"], "long past"),
        (&["end", "--at", "tomorrow"], "such as 2027-01-31T18:00:00Z"),
        (&["end", "--cancel", "--reason", "x"], "cannot be used with"),
        (
            &["end", "--in", "5m", "--rehearse", "azure"],
            "invalid value",
        ),
        (
            &["end", "--in", "5m", "--rehearse", "spot", "--keep"],
            "cannot be used with",
        ),
    ] {
        let end = machine.run(arguments);
        assert_eq!(end.code, 2, "{arguments:?}: {end}");
        assert!(end.stderr.contains(words), "{arguments:?}: {end}");
    }
    assert!(!is_ordered(&machine));
    stop(watch);
}

fn a_watch_that_does_not_answer_is_said_to_be_one() {
    let machine = guest(ENDS);
    let watch = watching(&machine);
    let process = Pid::from_raw(pid(&machine));
    kill(process, Signal::SIGSTOP).unwrap();
    let end = machine.run(&["end", "--in", "1m"]);
    kill(process, Signal::SIGCONT).unwrap();
    assert_eq!(end.code, 0, "{end}");
    assert!(end.stderr.contains("has not said so yet, it will"), "{end}");
    assert!(end.stdout.contains("by the operator"), "{end}");
    assert!(end.took < SECONDS(4), "{end}");
    assert!(comes_to_be(SECONDS(3), || are_told(&machine)));
    stop(watch);
}

fn cancel_needs_neither_a_configuration_nor_room() {
    let machine = guest(ENDS);
    let watch = watching(&machine);
    assert_eq!(machine.run(&["end", "--in", "1h"]).code, 0);
    machine.sh("cat /etc/vmstage.toml > /run/right.toml; echo '[deadline' >> /etc/vmstage.toml");
    assert_eq!(machine.run(&["end", "--in", "1h"]).code, 6);
    let cancel = machine.run(&["end", "--cancel"]);
    assert_eq!(cancel.code, 0, "{cancel}");
    assert_eq!(told(&machine)[0].1, "");
    machine.sh("cat /run/right.toml > /etc/vmstage.toml");
    assert_eq!(machine.run(&["end", "--in", "1h"]).code, 0);
    // Nothing can be written beside it.
    machine.sh("mkdir -p /run/vmstage/.end.json.new/x /run/vmstage/.end-heard.json.new/x");
    let cancel = machine.run(&["end", "--cancel"]);
    assert_eq!(cancel.code, 0, "{cancel}");
    assert!(!cancel.stderr.contains("has not said"), "{cancel}");
    assert_eq!(told(&machine)[0].1, "");
    stop(watch);
}

fn a_status_that_is_no_file_any_more_is_written_anew() {
    let machine = guest(ENDS);
    let status = machine.path("/run/vmstage/status.json");
    let written = || fs::metadata(&status).map(|status| status.ino()).ok();
    let by_boot = written();
    let watch = watching(&machine);
    // It knows what boot has written once it has written the same.
    assert!(comes_to_be(SECONDS(10), || written() != by_boot));
    machine.sh("rm /run/vmstage/status.json; mkfifo /run/vmstage/status.json");
    let end = machine.run(&["end", "--in", "1h"]);
    assert_eq!(end.code, 0, "{end}");
    assert!(comes_to_be(SECONDS(30), || status.is_file()));
    assert!(comes_to_be(SECONDS(30), || are_told(&machine)));
    assert!(text(&machine, "/run/vmstage/status.json").contains("\"outcome\": \"ready\""));
    stop(watch);
}

fn a_kept_drain_that_has_run_does_not_run_in_the_next_boot() {
    let machine = guest(&ends_without_min_uptime());
    let watch = watching(&machine);
    let end = machine.run(&["end", "--in", "1s", "--drain-only", "--keep"]);
    assert_eq!(end.code, 0, "{end}");
    assert!(comes_to_be(SECONDS(5), || !drained(&machine).is_empty()));
    let is_done = || text(&machine, "/var/lib/vmstage/end.json").contains("\"done_in\":\"");
    assert!(comes_to_be(SECONDS(5), is_done));
    stop(watch);
    // It stands for the rest of this boot.
    let watch = watching(&machine);
    assert!(are_told(&machine), "{:?}", told(&machine));
    stop(watch);
    boot_again(&machine, "6f1d7f3c-0000-4000-8000-000000000002", UUID);
    let watch = watching(&machine);
    std::thread::sleep(SECONDS(3));
    assert_eq!(drained(&machine), "");
    assert_eq!(told(&machine)[0].1, "");
    stop(watch);
}

/// For what comes after a reboot: there `min_uptime` counts.
fn ends_without_min_uptime() -> String {
    ENDS.replace("100years", "0s")
}

fn a_kept_order_holds_after_a_reboot_and_another_does_not() {
    let machine = guest(&ends_without_min_uptime());
    for (keep, holds) in [(&["--keep"][..], true), (&[], false)] {
        let watch = watching(&machine);
        let arguments = [&["end", "--in", "1h"][..], keep].concat();
        assert_eq!(machine.run(&arguments).code, 0);
        let at = told(&machine)[0].1.clone();
        stop(watch);
        boot_again(&machine, if holds { "second" } else { "third" }, UUID);
        let expected = if holds { at } else { String::new() };
        assert_eq!(told(&machine)[0].1, expected, "after boot");
        let watch = watching(&machine);
        std::thread::sleep(SECONDS(1));
        assert_eq!(told(&machine)[0].1, expected, "with watch");
        stop(watch);
    }
    // And it can be cancelled there.
    let watch = watching(&machine);
    assert_eq!(machine.run(&["end", "--in", "1h", "--keep"]).code, 0);
    stop(watch);
    boot_again(&machine, "fourth", UUID);
    let watch = watching(&machine);
    assert_eq!(machine.run(&["end", "--cancel"]).code, 0);
    assert_eq!(told(&machine)[0].1, "");
    stop(watch);
    assert!(!machine.path("/var/lib/vmstage/end.json").exists());
}

fn a_kept_order_does_not_hold_in_an_image_that_is_launched_elsewhere() {
    let machine = guest(&ends_without_min_uptime());
    let watch = watching(&machine);
    assert_eq!(machine.run(&["end", "--in", "3s", "--keep"]).code, 0);
    // What drains goes on without it.
    assert!(comes_to_be(SECONDS(5), || !drained(&machine).is_empty()));
    watch_is_killed(watch);
    assert!(machine.path("/var/lib/vmstage/end.json").exists());
    boot_again(&machine, "second", &UUID.replace("0001", "0002"));
    let watch = watching(&machine);
    std::thread::sleep(SECONDS(4));
    assert_eq!(told(&machine)[0].1, "");
    assert_eq!(machine.run(&["end", "--cancel"]).code, 1);
    stop(watch);
    assert_eq!(
        (ordered_off(&machine), drained(&machine)),
        Default::default()
    );
}

fn watch_is_killed(mut watch: Running) {
    watch.process().kill().unwrap();
    drop(watch);
}

fn a_kept_order_that_was_carried_out_does_not_end_the_machine_again() {
    let machine = guest(&ends_without_min_uptime());
    let watch = watching(&machine);
    assert_eq!(machine.run(&["end", "--in", "2s", "--keep"]).code, 0);
    assert!(comes_to_be(SECONDS(10), || !ordered_off(&machine).is_empty()));
    stop(watch);
    boot_again(&machine, "second", UUID);
    let watch = watching(&machine);
    std::thread::sleep(SECONDS(2));
    assert_eq!(
        (told(&machine)[0].1.as_str(), ordered_off(&machine).as_str()),
        ("", "")
    );
    stop(watch);
}

/// What is there to be recorded is not what the machine ends by.
fn records_that_do_not_answer_keep_nobody_from_being_drained_warned_and_told() {
    let drains = ENDS
        .replace("5m", "12s")
        .replace("/drained", "/drained; sleep 10");
    let machine = guest(&format!("{drains}warn = [\"8s\"]\n"));
    let watch = watching(&machine);
    let end = machine.run(&["end", "--in", "30s", "--keep"]);
    assert_eq!(end.code, 0, "{end}");
    let at = now() + 30;
    let silent = machine.silent_mount("server:/export", "/var/lib/vmstage");
    assert!(comes_to_be(SECONDS(25), || !drained(&machine).is_empty()));
    assert!(now() < at - 5, "drain had {} s", at - now());
    let is_told = || {
        let metrics = "/var/lib/prometheus/node-exporter/vmstage.prom";
        let is_draining =
            text(&machine, "/run/vmstage/status.json").contains("\"is_draining\": true");
        is_draining && text(&machine, metrics).contains("vmstage_drain_running 1")
    };
    // By a child that gives up after six seconds, once.
    assert!(comes_to_be(SECONDS(9), is_told));
    let is_off = || !ordered_off(&machine).is_empty();
    assert!(comes_to_be(SECONDS(30), is_off));
    assert!((at - 1..at + 9).contains(&now()), "{} s late", now() - at);
    let outcome = stop(watch);
    outcome.says("warning users: ");
    let silence = "/var/lib/vmstage does not answer";
    assert_eq!(outcome.stderr.matches(silence).count(), 1, "{outcome}");
    drop(silent);
}

/// It is stopped, which its child cannot tell from a system call that never returns.
fn where_watch_hangs_drain_runs_once_users_are_warned_and_the_machine_ends_each_at_its_time() {
    let times = "grace = \"40s\"\nwarn = [\"35s\"]\n";
    // It asks every five seconds, and publishes that nobody answers.
    unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET)");
    let asks = "sources = [\"ec2\"]\ntimeout = \"1s\"";
    let machine = guest_that_asks(asks, &ENDS.replace("grace = \"5m\"\n", times));
    let mut watch = watching(&machine);
    let end = machine.run(&["end", "--in", "60s", "--reason", "disk"]);
    assert_eq!(end.code, 0, "{end}");
    let at = now() + 60;
    let process = Pid::from_raw(watch.process().id() as i32);
    kill(process, Signal::SIGSTOP).unwrap();
    assert!(comes_to_be(SECONDS(90), || !drained(&machine).is_empty()));
    assert!((at - 40..at).contains(&now()), "{} s before", at - now());
    assert!(comes_to_be(SECONDS(60), || !ordered_off(&machine).is_empty()));
    assert!((at - 1..at + 9).contains(&now()), "{} s late", now() - at);

    // It finds out what was done meanwhile.
    kill(process, Signal::SIGCONT).unwrap();
    sleep(SECONDS(5));
    let watch = stop(watch);
    watch.says("vmstage watch hangs: its child does what is due");
    watch.says("warning users: this VM goes away ");
    watch.says("drain: done after ");
    watch.says("drain has run while this hung");
    assert_eq!(drained(&machine).lines().count(), 1, "{watch}");
}
