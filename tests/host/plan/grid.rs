//! `vmstage plan grid`, on what `condor_history` prints, and on what is none of it.

use std::env;
use std::fmt::Write;
use std::process::Command;

use serde_json::Value;

use super::said::{Folder, plan, printed};
use crate::common::program;

claims![
    few_requests_get_the_best_set_and_the_commands_that_make_it,
    flavors_that_are_there_are_not_made_again,
    a_million_requests_take_seconds_and_little_memory,
    lines_that_cannot_be_used_are_counted,
    what_holds_no_request_is_refused,
    wrong_usage_of_it_is_exit_code_2,
];

const REQUESTS: &str = "1024 1 10485760\nm1024c1s10\n2048 2 1048576\n4096 4 41943040\n";

fn few_requests_get_the_best_set_and_the_commands_that_make_it() {
    let said = plan(&["grid", "--flavors", "3", "-"], REQUESTS);
    said.is(
        0,
        &[
            "wasted: 0.0 % (cores 0.0 %, memory 0.0 %, scratch 0.0 %)",
            "no set of 3 flavors wastes less",
            "openstack flavor create --ram 4096 --vcpus 4 --ephemeral 40 m4096c4s40\n",
        ],
    );
    let said = plan(&["grid", "--flavors", "1", "-"], REQUESTS);
    said.is(
        0,
        &["the worst: cores 1, memory 1 GiB, scratch 10 GiB gets m4096c4s40"],
    );
    let said = plan(
        &["grid", "--flavors", "2", "--format", "json", "-"],
        REQUESTS,
    );
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(document["flavors"].as_array().unwrap().len(), 2, "{said}");
    assert_eq!(document["requests"], 4, "{said}");
    assert_eq!(document["proven"], true, "{said}");
    // Only memory counts: 2048 MiB alone, or with 1024 or 4096, whatever scratch wastes.
    let said = plan(
        &["grid", "--flavors", "2", "--weights", "memory=1", "-"],
        REQUESTS,
    );
    said.is(0, &["wasted: 12.5 % (", "memory 12.5 %"]);
}

fn flavors_that_are_there_are_not_made_again() {
    let folder = Folder::with(&[
        ("flavors.json", printed("3.18.1", "flavors")),
        (
            "requests",
            "m1024c1s10\nm2048c1s20\nm8192c4s80\nm1024c1s1".into(),
        ),
    ]);
    let said = folder.plan(&["grid", "--have", "flavors.json", "requests"]);
    said.is(
        0,
        &[
            "--ephemeral 1 m1024c1s1\n",
            "warning: m8192c4s80 is there already, and is something else",
        ],
    );
    assert_eq!(
        said.stdout.matches("openstack flavor create").count(),
        1,
        "{said}"
    );
    // A new cloud has none.
    let folder = Folder::with(&[("none", "[]".into()), ("requests", REQUESTS.into())]);
    let said = folder.plan(&["grid", "--have", "none", "requests"]);
    said.is(0, &["\nopenstack flavor create --ram 1024 "]);
    assert_eq!(said.stdout.matches("flavor create").count(), 3, "{said}");
}

/// Of a build for debugging, less is asked.
fn a_million_requests_take_seconds_and_little_memory() {
    let (count, limits) = match env::var_os("VMSTAGE_BIN") {
        Some(_) => (1_000_000, "ulimit -t 10; ulimit -v 512000"),
        None => (20_000, "ulimit -t 100"),
    };
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut requests = String::new();
    for _ in 0..count {
        let (memory, cores, disk) = (random(256_000), 1 + random(128), random(1_000_000_000));
        writeln!(requests, "{memory} {cores} {disk}").unwrap();
    }
    let folder = Folder::with(&[("requests", requests)]);
    let run = Command::new("sh")
        .args(["-c", &format!("{limits}; exec \"$@\""), "sh"])
        .arg(program())
        .args(["plan", "grid", "--format", "json"])
        .arg(folder.0.join("requests"))
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}: {}",
        run.status,
        String::from_utf8_lossy(&run.stderr)
    );
    let document: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(document["requests"], count);
    assert_eq!(document["flavors"].as_array().unwrap().len(), 20);
    let (waste, bound) = (&document["mean_waste"], &document["bound"]);
    let (waste, bound) = (waste.as_f64().unwrap(), bound.as_f64().unwrap());
    assert!(
        bound > 0.05 && bound <= waste && waste < 0.35,
        "{bound} {waste}"
    );
}

fn lines_that_cannot_be_used_are_counted() {
    let text = "undefined undefined undefined\n1024 1 1024\n\nerror 1 1\n1024 -1 5\n";
    plan(&["grid", "-"], text).is(
        0,
        &[
            "standard input: line 4: \"error 1 1\" is neither MiB, cores and KiB of disk nor",
            "3 of 5 lines were left out, 1 of them because something is undefined",
            "m1024c1s1",
        ],
    );
}

fn what_holds_no_request_is_refused() {
    for (text, words) in [
        ("", "standard input: there is no request in it"),
        ("undefined 1 1\n", "1 of 1 lines were left out"),
        ("<html>\n", "\"<html>\" is neither"),
        ("10485760 1 1\n", "is taken for a mistake of its unit"),
        (
            "m10485760c1s1\n",
            "10240 GiB of memory is taken for a mistake of its unit",
        ),
        ("99999999999999999999 1 1\n", "is neither MiB"),
        ("\0\0\0", "is neither MiB"),
    ] {
        let said = plan(&["grid", "-"], text);
        said.is(1, &[words]);
        assert_eq!(said.stdout, "", "{said}");
    }
    plan(&["grid", "-"], &"1".repeat(10_000)).is(1, &["line 1 is longer than 4096 bytes"]);
    plan(&["grid", "missing"], "").is(1, &["cannot open missing"]);
    let folder = Folder::with(&[("have", "{}".into()), ("requests", REQUESTS.into())]);
    let said = folder.plan(&["grid", "--have", "have", "requests"]);
    said.is(1, &["have: a list of flavors is expected, not an object"]);
}

fn wrong_usage_of_it_is_exit_code_2() {
    for (arguments, words) in [
        (
            &["--flavors", "0", "-"][..],
            "--flavors: a number from 1 to 100 is expected",
        ),
        (&["--flavors", "x", "-"], "invalid"),
        (
            &["--weights", "price=1", "-"],
            "--weights: weights such as cores=2",
        ),
        (&["--weights", "cores=0", "-"], "must not be 0"),
        (
            &["--weights", "cores=1,cores=2", "-"],
            "--weights: the weight of cores is there twice",
        ),
        (&[], "FILE"),
    ] {
        plan(&[&["grid"], arguments].concat(), REQUESTS).is(2, &[words]);
    }
}
