//! `packaging/monitoring/vmstage.print`, as condor_status takes it.

use std::fs;

use serde_json::json;
use vmstage::clock::wall;
use vmstage::status::Status;

use super::pool::*;

const FORMAT: &str = include_str!("../../packaging/monitoring/vmstage.print");

/// A ready one with half of the scratch space, and as much memory, as was asked for.
fn with_resources(status: &Status, scratch_bytes: u64) -> Status {
    let mut document = serde_json::to_value(status).unwrap();
    let amounts =
        |scratch: u64| json!({"memory_bytes": 1 << 30, "cores": 1, "scratch_bytes": scratch});
    let mut asked = amounts(10 << 30);
    asked["by"] = "vmstage_request".into();
    let short_of: &[&str] = if scratch_bytes < 10 << 30 {
        &["scratch"]
    } else {
        &[]
    };
    document["resources"] =
        json!({"asked": asked, "got": amounts(scratch_bytes), "short_of": short_of});
    serde_json::from_value(document).unwrap()
}

/// The columns of the line of each machine.
fn printed() -> Vec<String> {
    fs::write("/tmp/vmstage.print", FORMAT).unwrap();
    let printed = run("condor_status", &["-pr", "/tmp/vmstage.print"]);
    let mut lines = printed.lines();
    let columns = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let heading = lines.next().map(columns);
    let expected = "MACHINE READY DEADLINE LEFT SHORT OF";
    assert_eq!(heading.as_deref(), Some(expected), "{printed}");
    lines.map(columns).collect()
}

fn wait_for_line(is_it: impl Fn(&str) -> bool, what: &str) {
    wait_for(what, || {
        let lines = printed();
        lines.len() == 1 && is_it(&lines[0])
    });
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn the_print_format_shows_who_is_ready_until_when_and_what_is_short() {
    fs::remove_file(DROP_IN).ok();
    let _pool = Pool::start();
    assert_eq!(printed(), ["worker.test ? - - -"]);

    let deadline = wall() + 90_000;
    let short = with_resources(&staged("/staging", Some(deadline)), 5 << 30);
    assert!(publish(&short));
    let date = run("date", &["-d", &format!("@{deadline}"), "+%F %T"]);
    let begin = format!("worker.test yes {date} 1+00:5");
    let is_it = |line: &str| line.starts_with(&begin) && line.ends_with(" scratch");
    wait_for_line(is_it, "a ready machine that is short");

    let enough = with_resources(&staged("/staging", None), 10 << 30);
    assert!(publish(&enough));
    let is_it = |line: &str| line == "worker.test yes - - -";
    wait_for_line(is_it, "one without a deadline");

    assert!(publish(&staged("/staging", Some(wall() - 60))));
    wait_for_line(|line| line.ends_with(" over -"), "one that is overdue");

    assert!(publish(&failed()));
    let is_it = |line: &str| line == "worker.test NO - - -";
    wait_for_line(is_it, "one that failed");
}
