//! `vmstage plan expire`, on what the client of two generations prints.

use super::said::{GENERATIONS, plan, printed, recorded};

claims![
    who_is_overdue_without_a_limit_or_in_error_is_told,
    the_commands_delete_what_is_overdue_and_nothing_else,
    several_servers_shown_count_from_their_launch,
    what_is_missing_is_named,
    ten_thousand_servers_are_judged_in_a_second,
    what_is_no_list_of_servers_is_told_with_its_place,
];

/// A day and a half after all were launched, but for eleven seconds.
const NOW: &str = "2026-11-22T00:00:30Z";

fn id(number: u32) -> String {
    format!("5e70e000-0000-4000-8000-{number:012}")
}

fn who_is_overdue_without_a_limit_or_in_error_is_told() {
    let list = printed("10.5.0", "servers");
    let said = plan(&["expire", "-", "--now", NOW], &list);
    said.is(10, &["8 servers, 4 overdue, 1 in ERROR, 2 without a limit"]);
    for (number, words) in [
        (1, "2026-11-22T00:00:00Z  overdue for 30 s"),
        (2, "2026-11-30T12:00:00Z  8 d 11 h left"),
        (3, "-                     no limit"),
        (4, "2026-12-24T18:00:00Z  32 d 17 h left"),
        (5, "ERROR   2026-11-22T00:00:00Z  overdue for 30 s"),
        (6, "SHUTOFF  2026-11-20T13:30:00Z  overdue for 1 d 10 h"),
        (7, "no limit"),
        (8, "2026-11-20T13:00:00Z  overdue for 1 d 11 h"),
    ] {
        let line = said.line(&id(number)).replace("  ", " ");
        for part in words.split("  ") {
            assert!(line.contains(part.trim()), "{part:?}\n{said}");
        }
    }
    assert!(
        said.line(&id(7))
            .contains("vmstage_lifetime: \"soon\" is not a duration"),
        "{said}"
    );
    // The most urgent come first.
    let order: Vec<&str> = said.stdout.lines().skip(1).take(8).collect();
    assert!(
        order[0].starts_with(&id(8)) && order[7].starts_with(&id(4)),
        "{said}"
    );

    plan(&["expire", "-", "--now", "2026-11-20T12:30:00Z"], &list).is(0, &["8 servers, 0 overdue"]);
    plan(&["expire", "-"], &printed("10.5.0", "servers-none")).is(0, &["0 servers, 0 overdue"]);
    plan(&["expire", "-"], &printed("3.18.1", "servers-none")).is(0, &["0 servers, 0 overdue"]);
}

fn the_commands_delete_what_is_overdue_and_nothing_else() {
    let list = printed("10.5.0", "servers").replace("worker-1", "x\\nopenstack server delete all");
    let said = plan(&["expire", "-", "--now", NOW, "--commands"], &list);
    said.is(10, &[]);
    let commands: Vec<&str> = said
        .stdout
        .lines()
        .filter(|line| !line.starts_with("# ") && *line != "#")
        .collect();
    let expected = [8, 6, 5, 1].map(|number| format!("openstack server delete {}", id(number)));
    assert_eq!(commands, expected, "{said}");
}

fn several_servers_shown_count_from_their_launch() {
    for version in GENERATIONS {
        let shown: String = ["001", "004", "005", "006-2.47", "007"]
            .map(|number| printed(version, &format!("server-{number}")))
            .concat();
        // The first was launched 41 s after it was asked for; the fifth never.
        plan(&["expire", "-", "--now", NOW], &shown)
            .is(10, &["5 servers, 2 overdue, 1 in ERROR, 1 without"]);
        plan(&["expire", "-", "--now", "2026-11-22T00:00:41Z"], &shown)
            .is(10, &["5 servers, 3 overdue"]);
        // What was shown says more than the list.
        let files = [
            recorded("10.5.0", "servers"),
            recorded(version, "server-001"),
        ];
        let said = plan(&["expire", &files[0], &files[1], "--now", NOW], "");
        said.is(10, &["8 servers, 3 overdue"]);
        assert!(said.line(&id(1)).contains("11 s left"), "{said}");
        assert!(
            said.line(&id(1)).contains("launched 2026-11-20T12:00:41Z"),
            "{said}"
        );
    }
}

fn what_is_missing_is_named() {
    // 3.18.1 has no such column, and says nothing of it.
    let said = plan(
        &["expire", "-", "--now", NOW],
        &printed("3.18.1", "servers"),
    );
    said.is(
        1,
        &[
            "Created At is missing",
            "openstack server show",
            "5 of which it cannot be told",
        ],
    );
    assert!(said.line(&id(4)).contains("32 d 17 h left"), "{said}");
    // A deadline needs no such date.
    plan(
        &["expire", "-", "--now", "2026-12-24T18:00:00Z"],
        &printed("3.18.1", "servers"),
    )
    .is(10, &["1 overdue", "Created At is missing"]);
    for version in GENERATIONS {
        plan(&["expire", "-"], &printed(version, "servers-long")).is(1, &["Created At is missing"]);
        plan(&["expire", "-"], &printed(version, "servers-short")).is(
            1,
            &[
                "standard input: [0]: Properties is missing",
                "-c 'Created At' -c Properties",
            ],
        );
    }
    // 10.5.0 prints the properties twice if they are asked for first.
    let twisted =
        r#"[{"ID": "x", "Name": "x", "Status": "ACTIVE", "Properties": {}, "Created At": {}}]"#;
    plan(&["expire", "-"], twisted).is(1, &["-c 'Created At' stands before -c Properties"]);
}

fn ten_thousand_servers_are_judged_in_a_second() {
    let server = |number: u32| {
        format!(
            r#"{{"ID": "s{number}", "Name": "n{number}", "Status": "ACTIVE",
                "Created At": "2026-11-20T12:00:00Z", "Properties": {{"vmstage_lifetime": "{number}m"}}}}"#
        )
    };
    let all: Vec<String> = (1..=10_000).map(server).collect();
    let start = std::time::Instant::now();
    plan(
        &["expire", "-", "--now", NOW],
        &format!("[{}]", all.join(",")),
    )
    .is(10, &["10000 servers, 2160 overdue"]);
    let took = start.elapsed();
    assert!(took.as_secs() < 5, "{took:?}");
}

fn what_is_no_list_of_servers_is_told_with_its_place() {
    let list = printed("10.5.0", "servers");
    let with = |text: &str| plan(&["expire", "-"], text);
    with("").is(1, &["standard input: it is empty"]);
    with("<html>").is(1, &["HTML"]);
    with("7").is(1, &["a list of servers is expected, not 7"]);
    with("[7]").is(1, &["[0]: a server, as an object, is expected, not 7"]);
    for (there, instead, words) in [
        (
            id(1),
            "--all-projects".into(),
            "[0].ID: an id is expected, not \"--all-projects\"",
        ),
        (id(1), "a b".into(), "[0].ID: an id is expected"),
        (id(1), "$(reboot)".into(), "[0].ID: an id is expected"),
        (
            "\"worker-1\"".into(),
            "7".into(),
            "[0].Name: a text is expected, not 7",
        ),
        (
            "2026-11-20T12:00:00Z".into(),
            "tomorrow".into(),
            "[0].Created At: a time such as",
        ),
        (
            "{\n      \"vmstage_lifetime\": \"36h\",\n      \"owner\": \"anna\"\n    }".into(),
            "\"x\"".into(),
            "[0].Properties: ",
        ),
    ] as [(String, String, &str); 6]
    {
        let text = list.replacen(&there, &instead, 1);
        assert_ne!(text, list, "{there}");
        with(&text).is(1, &[words]);
    }
    plan(&["expire"], "").is(2, &["FILE"]);
    plan(&["expire", "-", "--now", "soon"], &list).is(2, &["neither Unix seconds nor a time"]);
}
