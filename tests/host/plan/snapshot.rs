//! `vmstage plan snapshot`, on what the client of two generations prints.

use std::process::Command;

use super::said::{Folder, GENERATIONS, plan, printed, recorded};
use crate::common::program;

claims![
    a_snapshot_is_finished_only_if_its_server_is_done_with_it,
    one_that_lasts_is_stuck_after_the_patience,
    one_that_will_never_be_is_failed_in_words,
    one_of_another_server_is_no_answer,
    the_loop_of_the_help_ends_when_it_is_finished,
    what_is_no_image_or_no_server_is_told_with_its_place,
];

/// Ten minutes after server 2 was asked for its snapshot.
const NOW: &str = "2026-11-20T12:10:09Z";

fn a_snapshot_is_finished_only_if_its_server_is_done_with_it() {
    for version in GENERATIONS {
        for (image, server, code, words) in [
            (
                "image-snapshot",
                "server-001",
                0,
                "finished: 2.0 GiB, sha512 79efc6d5",
            ),
            ("image-snapshot", "server-001-2.47", 0, "finished: 2.0 GiB"),
            (
                "image-ceph",
                "server-001",
                0,
                "finished: 10.0 GiB, not verifiable",
            ),
            (
                "image-saving",
                "server-002",
                75,
                "saving, the server's task is image_uploading, for 10 min",
            ),
            (
                "image-queued",
                "server-003",
                75,
                "queued, the server's task is image_pending_upload",
            ),
            (
                "image-queued",
                "server-001",
                75,
                "not yet: the image is queued",
            ),
            // An image that is active before Nova is done.
            (
                "image-qcow2",
                "server-002",
                75,
                "the image is active, and the server's task is image_uploading",
            ),
        ] {
            let server = recorded(version, server);
            let arguments = [
                "snapshot",
                "-",
                "--server",
                &server,
                "--now",
                NOW,
                "--patience",
                "100d",
            ];
            plan(&arguments, &printed(version, image)).is(code, &[words]);
            let as_json = [&arguments[..], &["--format", "json"]].concat();
            let said = plan(&as_json, &printed(version, image));
            let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
            let state = if code == 0 { "finished" } else { "not yet" };
            assert_eq!(
                (said.code, &document["state"]),
                (code, &state.into()),
                "{said}"
            );
        }
    }
}

fn one_that_lasts_is_stuck_after_the_patience() {
    for version in GENERATIONS {
        let (image, server) = (
            recorded(version, "image-saving"),
            recorded(version, "server-002"),
        );
        let arguments = [
            "snapshot",
            &image,
            "--server",
            &server,
            "--now",
            NOW,
            "--patience",
        ];
        let with = |patience| plan(&[&arguments[..], &[patience]].concat(), "");
        with("10m").is(75, &["not yet: the image is saving"]);
        with("599s").is(
            1,
            &[
                "failed: stuck: the image is saving",
                "longer than --patience 9 min 59 s",
            ],
        );
        with("soon").is(2, &["not a duration"]);
        // Nova has given up, and Glance waits for ever.
        let (queued, idle) = (
            recorded(version, "image-queued"),
            recorded(version, "server-001"),
        );
        let arguments = ["snapshot", &queued, "--server", &idle, "--patience", "1h"];
        plan(&arguments, "").is(1, &["failed: stuck: the image is queued, for "]);
    }
}

fn one_that_will_never_be_is_failed_in_words() {
    for version in GENERATIONS {
        for (image, words) in [
            ("image-volume-snapshot", "look at the volume snapshots"),
            ("image-killed", "its upload failed"),
            ("image-deactivated", "an administrator"),
        ] {
            let server = recorded(version, "server-001");
            let said = plan(
                &["snapshot", "-", "--server", &server],
                &printed(version, image),
            );
            said.is(1, &["failed: ", words]);
        }
    }
}

fn one_of_another_server_is_no_answer() {
    for version in GENERATIONS {
        let (image, server) = (
            recorded(version, "image-snapshot"),
            recorded(version, "server-002"),
        );
        let said = plan(&["snapshot", &image, "--server", &server], "");
        said.is(
            1,
            &["is a snapshot of the server 5e70e000-0000-4000-8000-000000000001"],
        );
        assert_eq!(said.stdout, "");
    }
}

/// The loop of the help, with a client that answers from files: each round with the next ones.
const LOOP: &str = r#"
round=0
openstack() {
    case $1 in
        server) round=$((round + 1)); cat "server.$round" ;;
        image) cat "image.$round" ;;
    esac
}
vmstage() { "$VMSTAGE" "$@" --patience 36500d; }
sleep() { :; }
while openstack server show -f json S >server.json
      openstack image show -f json I | vmstage plan snapshot - --server server.json
      [ $? = 75 ]; do sleep 10; done
"#;

fn the_loop_of_the_help_ends_when_it_is_finished() {
    for version in GENERATIONS {
        let uploading = printed(version, "server-002");
        let idle = uploading.replace("\"image_uploading\"", "null");
        let saving = printed(version, "image-saving");
        let stored = printed(version, "image-snapshot").replace(
            "5e70e000-0000-4000-8000-000000000001",
            "5e70e000-0000-4000-8000-000000000002",
        );
        let folder = Folder::with(&[
            ("server.1", uploading.clone()),
            ("image.1", saving),
            ("server.2", uploading),
            ("image.2", stored.clone()),
            ("server.3", idle),
            ("image.3", stored),
        ]);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", LOOP])
            .current_dir(&folder.0)
            .env("VMSTAGE", std::fs::canonicalize(program()).unwrap());
        let output = shell.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 3, "{said}");
        assert!(
            lines[0]
                .starts_with("not yet: the image is saving, the server's task is image_uploading"),
            "{said}"
        );
        assert!(
            lines[1].starts_with("not yet: the image is active, and the server's task is"),
            "{said}"
        );
        assert!(lines[2].starts_with("finished: 2.0 GiB"), "{said}");
    }
}

fn what_is_no_image_or_no_server_is_told_with_its_place() {
    let version = GENERATIONS[0];
    let image = printed(version, "image-snapshot");
    let folder = Folder::with(&[("server.json", printed(version, "server-001"))]);
    let file = folder.0.join("server.json");
    let with = |stdin: &str| {
        plan(
            &["snapshot", "-", "--server", file.to_str().unwrap()],
            stdin,
        )
    };
    with("").is(1, &["standard input: it is empty"]);
    with("<html>").is(1, &["standard input", "HTML"]);
    with("No Image found for x").is(1, &["standard input", "not JSON"]);
    with("[]").is(
        1,
        &["standard input: an image, as an object, is expected, not a list"],
    );
    with("{}").is(1, &["standard input: id is missing"]);
    with(&format!("{image}{image}")).is(1, &["standard input", "several"]);
    for (there, instead, words) in [
        (
            "\"active\"",
            "\"melted\"",
            "status: a status of Glance's is expected, not \"melted\"",
        ),
        ("\"active\"", "7", "status: a status is expected, not 7"),
        (
            "2147549184",
            "-5",
            "size: a number of bytes is expected, not -5",
        ),
        (
            "2147549184",
            "99999999999999999999",
            "size: a number of bytes is expected",
        ),
        (
            "2026-10-01T08:05:00Z",
            "yesterday",
            "updated_at: a time such as",
        ),
    ] {
        with(&image.replacen(there, instead, 1)).is(1, &[words]);
    }
    // A number that was written as a string is one.
    with(&image.replacen("2147549184", "\"2147549184\"", 1)).is(0, &["finished: 2.0 GiB"]);

    let other = |text: &str| {
        let folder = Folder::with(&[("server.json", text.to_string())]);
        let file = folder.0.join("server.json");
        plan(
            &["snapshot", "-", "--server", file.to_str().unwrap()],
            &image,
        )
    };
    other("[]").is(
        1,
        &["server.json: a server, as an object, is expected, not a list"],
    );
    // Its absence is not that Nova does nothing.
    other("{\"id\": \"x\"}").is(1, &["OS-EXT-STS:task_state is missing"]);
    plan(&["snapshot", "-", "--server", "-"], &image).is(2, &["standard input"]);
    plan(&["snapshot", "-"], &image).is(2, &["--server"]);
    plan(
        &[
            "snapshot",
            "/nonexistent/x.json",
            "--server",
            file.to_str().unwrap(),
        ],
        "",
    )
    .is(
        1,
        &["cannot open /nonexistent/x.json: No such file or directory"],
    );
}
