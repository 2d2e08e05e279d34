//! `vmstage plan flavor`, on what the client of two generations prints, and on what is none of it.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::said::{Folder, GENERATIONS, plan, printed, recorded};

claims![
    the_closest_flavor_is_on_the_first_line,
    the_image_has_to_fit_into_the_root_disk,
    what_needs_to_be_asked_for_is_left_out,
    a_list_without_properties_is_warned_of,
    a_name_that_lies_is_warned_of,
    where_none_fits_it_is_exit_code_3_and_the_first_line_is_empty,
    the_example_of_the_documentation_is_what_it_prints,
    as_json_it_is_the_same,
    what_is_no_list_of_flavors_is_told_with_its_place,
    wrong_usage_is_exit_code_2,
    ten_thousand_flavors_are_judged_in_a_second,
    what_would_act_on_a_terminal_is_not_printed,
];

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap()
}

fn the_closest_flavor_is_on_the_first_line() {
    for version in GENERATIONS {
        let flavors = printed(version, "flavors");
        for (request, expected) in [
            ("m1024c1s10", "m1024c1s10"),
            ("m1025c1s1", "m2048c1s20"),
            ("m1024c1s0", "m1024c1s10"),
            ("m1024c2s0", "m4096c2s0-bfv"),
            ("SCS-2V-4-20", "SCS-2V-4-20"),
            ("c8-30gb-186", "c8-30gb-186"),
            ("memory=1G,cores=4,scratch=80G", "c8-30gb-186"),
        ] {
            let said = plan(&["flavor", "--request", request, "-"], &flavors);
            said.is(0, &[]);
            assert_eq!(
                first_line(&said.stdout),
                expected,
                "{version} {request}\n{said}"
            );
        }
        let by_option = [
            "flavor",
            "--memory",
            "1G",
            "--cores",
            "1",
            "--scratch",
            "10G",
            "-",
        ];
        let said = plan(&by_option, &flavors);
        said.is(0, &[]);
        assert_eq!(first_line(&said.stdout), "m1024c1s10", "{said}");
        let taken = said.stdout.lines().find(|line| line.ends_with("taken"));
        let words: Vec<&str> = taken.unwrap().split("  ").map(str::trim).collect();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(
            words,
            [
                "m1024c1s10",
                "1",
                "1 GiB",
                "10 GiB",
                "10 GiB (+10 GiB)",
                "0 MiB",
                "taken"
            ],
            "{said}"
        );
    }
    // Not the first in the file, and the least memory before the least cores.
    let flavors = printed("10.5.0", "flavors");
    let ask = ["flavor", "--cores", "2", "--rank", "root,memory", "-"];
    let said = plan(&ask, &flavors);
    assert_eq!(first_line(&said.stdout), "m4096c2s0-bfv", "{said}");
}

fn the_image_has_to_fit_into_the_root_disk() {
    for version in GENERATIONS {
        let image = recorded(version, "image-sl5");
        let flavors = printed(version, "flavors");
        let ask = [
            "flavor", "--memory", "512M", "--cores", "1", "--image", &image, "-",
        ];
        // 10 GiB do not fit into the 1 GiB of m1.tiny.
        let said = plan(&ask, &flavors);
        said.is(0, &["root: 9 GiB too little"]);
        assert_eq!(first_line(&said.stdout), "m1024c1s10", "{said}");
        let ask = [
            "flavor", "--cores", "2", "--rank", "root", "--image", &image, "-",
        ];
        let said = plan(&ask, &flavors);
        said.is(
            0,
            &["the root disk of m4096c2s0-bfv is 0 GiB", "checks nothing"],
        );
    }
    let flavors = recorded("10.5.0", "flavors");
    let list = plan(
        &["flavor", "--image", &recorded("10.5.0", "images"), &flavors],
        "",
    );
    list.is(
        1,
        &["images.json: an image, as an object, is expected, not a list"],
    );
    let unfinished = plan(
        &[
            "flavor",
            "--image",
            &recorded("10.5.0", "image-queued"),
            &flavors,
        ],
        "",
    );
    unfinished.is(
        0,
        &[
            "warning: the image is queued: it cannot be launched as it is",
            "warning: the image has no size",
        ],
    );
    for version in GENERATIONS {
        let with = |image: &str| {
            let image = recorded(version, image);
            plan(&["flavor", "--cores", "1", "--image", &image, &flavors], "")
        };
        with("image-killed").is(1, &["image-killed.json: it is killed"]);
        // Glance does not know how large the disk in it is.
        let words = "the image is qcow2, its virtual size is not known, and its min_disk is 0";
        with("image-deactivated").is(0, &["the image is deactivated", words]);
        let known = with("image-qcow2");
        known.is(0, &[]);
        assert!(!known.stderr.contains("virtual size"), "{known}");
    }
}

fn what_needs_to_be_asked_for_is_left_out() {
    for version in GENERATIONS {
        let flavors = printed(version, "flavors");
        let none = plan(&["flavor", "--request", "m65536c8s100", "-"], &flavors);
        none.is(3, &["is for those who ask for resources:VGPU=1"]);
        let both = [
            "--property",
            "resources:VGPU",
            "--property",
            "pci_passthrough:alias=a100:1",
        ];
        let ask = ["flavor", "--request", "m65536c8s100"];
        let gpu = plan(&[&ask[..], &both, &["-"]].concat(), &flavors);
        gpu.is(0, &["has no resources:VGPU"]);
        assert_eq!(first_line(&gpu.stdout), "g1-a100", "{gpu}");
        let dedicated = gpu.line("dedicated.large");
        assert!(
            dedicated.contains("those who ask for trait:HW_CPU_X86_AVX512F"),
            "{gpu}"
        );
    }
}

/// Without `--long`.
fn a_list_without_properties_is_warned_of() {
    let mut flavors: Value = serde_json::from_str(&printed("10.5.0", "flavors")).unwrap();
    for flavor in flavors.as_array_mut().unwrap() {
        let flavor = flavor.as_object_mut().unwrap();
        for column in ["Properties", "Swap", "RXTX Factor"] {
            flavor.remove(column).unwrap();
        }
    }
    let flavors = flavors.to_string();
    let missing = "warning: Properties is missing from 11 of 11 flavors";
    let said = plan(&["flavor", "--request", "m65536c8s100", "-"], &flavors);
    said.is(0, &[missing, "cannot be told", "flavor list --long --all"]);
    let asked = ["flavor", "--cores", "1", "--property", "gpu", "-"];
    plan(&asked, &flavors).is(3, &["whether it has gpu is not known"]);
    let folder = Folder::with(&[("have", flavors), ("requests", "m1c1s1".into())]);
    folder
        .plan(&["grid", "--have", "have", "requests"])
        .is(0, &[missing]);
}

fn a_name_that_lies_is_warned_of() {
    let said = plan(
        &["flavor", "--cores", "1", "-"],
        &printed("3.18.1", "flavors"),
    );
    let lie = "warning: the name of m8192c4s80 says 80 GiB of scratch, and it has 0 MiB";
    said.is(0, &[lie]);
    assert_eq!(
        said.stderr.matches("warning: the name of").count(),
        1,
        "{said}"
    );
}

fn where_none_fits_it_is_exit_code_3_and_the_first_line_is_empty() {
    let said = plan(
        &["flavor", "--request", "m1024c9s10", "-"],
        &printed("10.5.0", "flavors"),
    );
    said.is(
        3,
        &["no flavor fits; the nearest is c8-30gb-186: cores: 1 too few"],
    );
    assert_eq!(first_line(&said.stdout), "", "{said}");
}

/// `docs/plans.md` shows each command with what it prints.
fn the_example_of_the_documentation_is_what_it_prints() {
    let sources = env!("CARGO_MANIFEST_DIR");
    let page = fs::read_to_string(format!("{sources}/docs/plans.md")).unwrap();
    let read = |name: &str| fs::read_to_string(format!("{sources}/tests/data/flavors/{name}"));
    let folder = Folder::with(&[
        ("flavors.json", read("seven.json").unwrap()),
        ("requests", read("requests.txt").unwrap()),
        ("image.json", printed("10.5.0", "image-sl5")),
    ]);
    let mut seen = 0;
    for example in page.split("```text\n").skip(1) {
        let (example, _) = example.split_once("```").unwrap();
        let Some((command, output)) = example.split_once('\n') else {
            continue;
        };
        let Some(words) = command.strip_prefix("$ vmstage plan ") else {
            continue;
        };
        if !words.starts_with("flavor ") && !words.starts_with("grid ") {
            continue;
        }
        let words: Vec<&str> = words.split(' ').collect();
        let said = folder.plan(&words);
        let all = format!("{}{}", said.stderr, said.stdout);
        assert_eq!(all, output, "{command}\n{said}");
        seen += 1;
    }
    assert!(seen >= 3, "{seen} examples");
    // Of which the README shows one in part.
    let readme = fs::read_to_string(format!("{sources}/README.md")).unwrap();
    let (_, example) = readme.split_once("$ vmstage plan flavor ").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    for line in example.lines().filter(|line| *line != "…") {
        assert!(page.contains(line), "{line}");
    }
}

fn as_json_it_is_the_same() {
    let flavors = printed("10.5.0", "flavors");
    let said = plan(
        &["flavor", "--request", "m1024c1s10", "--format", "json", "-"],
        &flavors,
    );
    said.is(0, &[]);
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(document["flavor"], "m1024c1s10");
    assert_eq!(document["flavors"].as_array().unwrap().len(), 11);
    assert_eq!(document["flavors"][1]["name"], "m1024c1s10-old");
    assert_eq!(document["flavors"][1]["fits"], true);
    assert_eq!(document["flavors"][1]["spare"]["root_mib"], 10240);
}

fn what_is_no_list_of_flavors_is_told_with_its_place() {
    let one = json!({"Name": "f", "RAM": 1, "VCPUs": 1, "Disk": 1, "Ephemeral": 0});
    let with = |key: &str, value: Value| {
        let mut flavor = one.clone();
        flavor[key] = value;
        json!([one, flavor]).to_string()
    };
    let cases = [
        (String::new(), "standard input: it is empty"),
        ("<html><body>502</body>".into(), "it is HTML or XML"),
        ("+---+\n| ID|".into(), "it is a table; add -f json"),
        ("HttpException: 503".into(), "it is not JSON"),
        ("[]".into(), "standard input: there is no flavor in it"),
        ("{}".into(), "a list of flavors is expected, not an object"),
        (
            "[[]]".into(),
            "[0]: a flavor, as an object, is expected, not a list",
        ),
        (
            with("RAM", json!("x")),
            "standard input: [1].RAM: a number of MiB is expected, not \"x\"",
        ),
        (
            with("RAM", json!(-1)),
            "[1].RAM: a number of MiB is expected, not -1",
        ),
        (
            with("VCPUs", json!(1.5)),
            "[1].VCPUs: a number of cores is expected, not 1.5",
        ),
        (
            with("Disk", json!(u64::MAX)),
            "[1].Disk: a number of GiB is expected",
        ),
        (with("Ephemeral", json!(null)), "[1]: Ephemeral is missing"),
        (
            with("Name", json!({})),
            "[1].Name: a name is expected, not an object",
        ),
        (
            with("Properties", json!([])),
            "[1].Properties: an object, or a text",
        ),
        ("[".repeat(100_000), "recursion limit"),
        (r#"[{"RAM": 1e999}]"#.into(), "number out of range"),
    ];
    for (text, words) in cases {
        let said = plan(&["flavor", "--cores", "1", "-"], &text);
        said.is(1, &[words]);
        assert_eq!(said.stdout, "", "{said}");
        assert_eq!(said.stderr.lines().count(), 1, "{said}");
    }
    // Numbers as strings are what older clients print.
    plan(
        &["flavor", "--cores", "1", "-"],
        &with("RAM", json!("1024")),
    )
    .is(0, &[]);
    plan(&["flavor", "--cores", "1", "missing.json"], "").is(1, &["cannot open missing.json"]);
    plan(&["flavor", "--cores", "1", "/"], "").is(1, &["cannot read /"]);
}

fn wrong_usage_is_exit_code_2() {
    let flavors = printed("10.5.0", "flavors");
    for (arguments, words) in [
        (&["-"][..], "nothing is asked for"),
        (
            &["--memory", "10T", "-"],
            "--memory: 10T of memory is taken for a mistake of its unit",
        ),
        (&["--memory", "1024", "-"], "1024M or 1024G is expected"),
        (
            &["--memory=-1G", "-"],
            "a size such as 512M or 10G is expected",
        ),
        (
            &["--cores", "1.5", "-"],
            "--cores: a number of cores is expected",
        ),
        (
            &["--request", "m1.large", "-"],
            "--request: \"m1.large\" is no request",
        ),
        (
            &["--request", "m10485760c1s1", "-"],
            "--request: 10240 GiB of memory is taken for a mistake of its unit",
        ),
        (
            &["--request", "m1c1s1", "--cores", "1", "-"],
            "cannot be used with",
        ),
        (
            &["--cores", "1", "--rank", "price", "-"],
            "--rank: \"price\" is none of",
        ),
        (&["--cores", "1"], "FILE"),
    ] {
        plan(&[&["flavor"], arguments].concat(), &flavors).is(2, &[words]);
    }
}

fn ten_thousand_flavors_are_judged_in_a_second() {
    let flavor = |at: u32| {
        json!({"Name": format!("f{at}"), "RAM": 1024 + at, "VCPUs": 1 + at % 7, "Disk": 20,
            "Ephemeral": 20_000 - at, "Swap": 0, "Properties": {"a": "b"}})
    };
    let flavors = Value::Array((0..10_000).rev().map(flavor).collect()).to_string();
    let start = Instant::now();
    let said = plan(&["flavor", "--request", "m5000c3s10", "-"], &flavors);
    // Seconds where the machine has other work; it takes a tenth of one.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    said.is(0, &[]);
    // The first from 3976 on that is 2 modulo 7.
    assert_eq!(
        first_line(&said.stdout),
        "f3978",
        "{}",
        first_line(&said.stdout)
    );
    assert_eq!(said.stdout.lines().count(), 10_003);
}

fn what_would_act_on_a_terminal_is_not_printed() {
    let name = "\u{1b}[2Jtwo\nlines\u{202e}";
    let flavors = json!([
        {"Name": name, "RAM": 1, "VCPUs": 1, "Disk": 1, "Ephemeral": 0},
        {"Name": "it's", "RAM": 1, "VCPUs": 1, "Disk": 1, "Ephemeral": 0,
            "Properties": {"trait:\u{1b}[2J": "a\nb"}},
    ]);
    let said = plan(&["flavor", "--cores", "1", "-"], &flavors.to_string());
    said.is(3, &["its name cannot be printed as it is"]);
    let all = format!("{}{}", said.stdout, said.stderr);
    assert!(
        !all.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')),
        "{all:?}"
    );
    assert_eq!(said.stdout.lines().count(), 5, "{said}");
}
