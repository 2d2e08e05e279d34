//! `packaging/monitoring` with what is written here: the alert rules and the dashboard, as
//! Prometheus takes them.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use serde_json::Value;

use super::{publish, text};
use crate::clock;
use crate::config::Config;
use crate::host::tree::Tree;
use crate::report::example;
use crate::status::Status;

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(source(path)).unwrap()
}

/// What stands in each panel of the dashboard, for all VMs.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            let query = target["expr"].as_str().unwrap();
            queries.push((title.into(), query.replace("$instance", ".*")));
        }
    }
    queries
}

const DASHBOARD: &str = "packaging/monitoring/vmstage.dashboard.json";
const RULES: &str = "packaging/monitoring/vmstage.rules.yml";

/// One VM that must be gone in 90 minutes and drains, one with half of the scratch space that was
/// asked for, and one that failed.
fn three_vms() -> [Status; 3] {
    let mut draining = example::with_deadline();
    draining.deadline.as_mut().unwrap().at = clock::wall() + 5400;
    draining.is_draining = true;
    [draining, example::short_of_scratch(), example::failed()]
}

/// The names of ours in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("vmstage_"))
        // Keys of the metadata, and the beginning of a pattern.
        .filter(|word| !["vmstage_", "vmstage_request"].contains(word))
        .collect()
}

#[test]
fn what_is_asked_for_is_written_and_what_is_written_is_documented() {
    let mut rehearsed = three_vms();
    rehearsed[0].deadline = example::to_be_drained().deadline;
    rehearsed[0].deadline.as_mut().unwrap().rehearsal = true;
    let written = rehearsed.map(|status| text(&status)).concat();
    let written = metrics(&written);
    for file in [DASHBOARD, RULES] {
        let text = read(file);
        let unknown: Vec<_> = metrics(&text).difference(&written).copied().collect();
        assert_eq!(unknown, [""; 0], "{file}");
    }
    let documented = read("docs/monitoring.md");
    assert_eq!(metrics(&documented), written);
}

#[test]
fn the_panels_of_the_dashboard_lie_beside_each_other() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64()), "{panel}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{panel}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{panel}");
        }
        let mut names = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert!(names.insert(target["refId"].as_str().unwrap()), "{panel}");
        }
    }
}

#[test]
#[ignore = "needs promtool: tests/promtool fetches it"]
fn each_alert_fires_when_it_must_and_only_then() {
    let directory = source("packaging/monitoring");
    for arguments in [
        ["check", "rules", "vmstage.rules.yml"],
        ["test", "rules", "vmstage.rules.test.yml"],
    ] {
        let said = Command::new(source("tests/promtool"))
            .args(arguments)
            .current_dir(&directory)
            .output()
            .unwrap();
        let words = [said.stdout, said.stderr].concat();
        let words = String::from_utf8_lossy(&words);
        assert!(said.status.success(), "{words}");
    }
    let (rules, tests) = (
        read(RULES),
        read("packaging/monitoring/vmstage.rules.test.yml"),
    );
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert_eq!(alerts.len(), 6);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        let tested = tests.matches(&format!("alertname: {name}\n")).count();
        assert!(tested >= 2, "{name} is not tested both ways");
    }
}

/// What a Prometheus finds that sees these VMs, as promtool prints it without the times.
fn found(vms: &[Status], queries: &[&str]) -> Vec<Vec<String>> {
    let trees: Vec<Tree> = vms.iter().map(machine).collect();
    let mut monitored = Command::new(source("tests/monitored"))
        .args(trees.iter().map(Tree::root))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = queries.join("\n") + "\n";
    let mut stdin = monitored.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let said = monitored.wait_with_output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let mut found = Vec::new();
    for answer in said.split("? ").skip(1) {
        let mut lines = answer.lines();
        let asked = lines.next().unwrap();
        assert_eq!(asked, queries[found.len()]);
        let values = lines.filter(|line| !line.is_empty());
        let values = values.map(|line| line.rsplit_once(" @[").unwrap().0.to_string());
        found.push(values.collect());
    }
    assert_eq!(found.len(), queries.len(), "{said}");
    found
}

/// A machine of which node_exporter tells the scratch disk as mounted where one is staged.
fn machine(status: &Status) -> Tree {
    let staged = status.staging.as_ref();
    let mount = |_| "/dev/vdb /staging ext2 rw,nosuid,nodev 0 0\n";
    let tree = Tree::new(&[
        ("var/lib/prometheus/node-exporter/", ""),
        ("staging/", ""),
        ("proc/1/mounts", staged.map_or("", mount)),
    ]);
    assert!(publish(&tree.host(), status, &Config::default()).unwrap());
    tree
}

#[test]
#[ignore = "needs Prometheus and node_exporter: tests/monitored fetches Debian's"]
fn each_query_of_the_dashboard_finds_what_three_vms_say() {
    let panels = queries();
    let alerts = "sort(count by (alertname, resource, exit_code) (ALERTS))";
    let mut all: Vec<&str> = panels.iter().map(|(_, query)| query.as_str()).collect();
    all.push(alerts);
    let mut found = found(&three_vms(), &all);

    let mut alerting = found.pop().unwrap();
    alerting.sort();
    let expected = [
        r#"{alertname="VmstageBootFailed", exit_code="3"} => 1"#,
        r#"{alertname="VmstageNotReady"} => 1"#,
        r#"{alertname="VmstageShortOf", resource="scratch"} => 1"#,
    ];
    assert_eq!(alerting, expected);

    for ((title, query), values) in panels.iter().zip(&found) {
        assert!(!values.is_empty(), "{title}: nothing is found by {query}");
    }
    let of_panel = |title: &str| -> Vec<&str> {
        let of_it = panels.iter().zip(&found).filter(|((of, _), _)| of == title);
        let values = of_it.flat_map(|(_, values)| values);
        values
            .map(|value| value.rsplit_once("=> ").unwrap().1)
            .collect()
    };
    // Ready, not ready, short, overdue, draining, stale.
    assert_eq!(of_panel("Now"), ["2", "1", "1", "0", "1", "0"]);
    assert_eq!(of_panel("Readiness"), ["2", "3"]);
    assert_eq!(of_panel("Time to ready"), ["12.04", "12.04", "12.04"]);
    // Between one hour and six, and two without.
    let left = ["0", "0", "1", "0", "0", "0", "2"];
    assert_eq!(of_panel("Deadlines: what is left"), left);
    assert_eq!(of_panel("Exit codes of boot").len(), 2);
    assert_eq!(of_panel("Scratch space in use").len(), 2);
    assert_eq!(of_panel("Scratch space in all")[0], "42949672960");
}

/// As in the alert.
#[test]
#[ignore = "needs Prometheus and node_exporter: tests/monitored fetches Debian's"]
fn an_order_that_ends_no_machine_is_not_overdue_in_the_dashboard() {
    let overdue = |mut status: Status, rehearsal| {
        let deadline = status.deadline.as_mut().unwrap();
        deadline.at = clock::wall() - 60;
        deadline.rehearsal = rehearsal;
        status
    };
    let panels = queries();
    let of_overdue = panels.iter().filter(|(_, query)| query.contains("<= 0"));
    let asked: Vec<&str> = of_overdue.map(|(_, query)| query.as_str()).collect();
    assert_eq!(asked.len(), 2);
    let vms = [
        overdue(example::with_deadline(), true),
        overdue(example::with_deadline(), false),
        overdue(example::to_be_drained(), false),
    ];
    let found = found(&vms, &asked);
    assert_eq!(found, [["{} => 1"], ["{} => 1"]]);
}
