use super::clouds::NamedBy;
use super::*;
use crate::plan::input::Document;

const MD5: [&str; 2] = [
    "d41d8cd98f00b204e9800998ecf8427e",
    "900150983cd24fb0d6963f7d28e17f72",
];

/// An image of five bytes, of the name `sl5`: its status, which of the sums it has, and on which
/// day it was made.
fn image(status: &str, sum: Option<usize>, day: u32) -> String {
    let sum = sum.map_or("null".into(), |sum| format!("\"{}\"", MD5[sum]));
    format!(
        r#"{{"id": "of-{day}", "name": "sl5", "status": "{status}", "size": 5, "disk_format": "raw",
            "container_format": "bare", "min_disk": 1, "min_ram": 0, "checksum": {sum},
            "created_at": "2026-11-{day:02}T00:00:00Z"}}"#
    )
}

/// What is said of clouds that have these images.
fn answered(clouds: &[(&str, &[String])]) -> Result<Answer, Failure> {
    let mut all = Clouds::default();
    for (cloud, images) in clouds {
        let text = images.concat();
        let documents = match images.is_empty() {
            true => Document::parse_all("none.json", b"[]"),
            false => Document::parse_all("images.json", text.as_bytes()),
        };
        all.add(cloud, &documents.unwrap()).unwrap();
    }
    answer(all, Some("sl5"), Format::Table)
}

#[test]
fn the_newest_active_copy_counts_and_the_worst_gives_the_exit_code() {
    let active = |sum, day| image("active", Some(sum), day);
    let unsummed = |day| image("active", None, day);
    let (new, old) = (|| active(0, 9), || active(1, 2));
    /// What each cloud has, the exit code, and words of what is printed.
    type Case<'a> = (&'a [(&'a str, &'a [String])], u8, &'a str);
    let cases: [Case; 18] = [
        (&[("a", &[new()])], 0, "the newest"),
        (
            &[("a", &[new()]), ("b", &[active(0, 2)])],
            0,
            "of-2 has the same MD5",
        ),
        (&[("a", &[new()]), ("b", &[])], 10, "5 B from a"),
        (
            &[("b", &[old()]), ("a", &[new()]), ("c", &[])],
            4,
            "5 B from a",
        ),
        (
            &[("a", &[new()]), ("b", &[old()])],
            4,
            "it is older (2026-11-02",
        ),
        (
            &[("a", &[new()]), ("b", &[unsummed(2)])],
            5,
            "of-2 has this name: it has no hash",
        ),
        (
            &[("a", &[new()]), ("b", &[unsummed(2)]), ("c", &[])],
            5,
            "5 B from a",
        ),
        (
            &[("a", &[new()]), ("b", &[unsummed(2)]), ("c", &[old()])],
            4,
            "it has no hash",
        ),
        (&[("a", &[unsummed(9)]), ("b", &[])], 10, "no hash, on a"),
        // What is not active is no copy to take, whenever it was made.
        (
            &[("a", &[image("saving", None, 9)]), ("b", &[old()])],
            5,
            "it is saving, and not finished",
        ),
        (
            &[("a", &[image("queued", None, 9), old()]), ("b", &[])],
            10,
            "5 B from a",
        ),
        (
            &[("a", &[new()]), ("b", &[image("killed", None, 2)])],
            10,
            "5 B from a",
        ),
        (
            &[("a", &[new()]), ("b", &[image("deactivated", Some(0), 2)])],
            5,
            "the same content, and deactivated",
        ),
        (
            &[("a", &[new()]), ("b", &[image("deactivated", Some(1), 2)])],
            4,
            "other content",
        ),
        // The same bytes, and said to be of another format.
        (
            &[
                ("a", &[new()]),
                (
                    "b",
                    &[active(0, 2).replace("raw", "iso").replace("sl5", "cd")],
                ),
            ],
            5,
            "of-2 (\"cd\"): the same hash, and another disk format: iso, not raw",
        ),
        // Of two of one name in a cloud the one with the content counts.
        (
            &[("a", &[new()]), ("b", &[old(), active(0, 3)])],
            0,
            "of-3 has the same MD5",
        ),
        (
            &[("a", &[new()]), ("b", &[unsummed(3), old()])],
            4,
            "of-2 has this name and other",
        ),
        (
            &[
                ("a", &[active(0, 9)]),
                ("b", &[image("active", Some(1), 9).replace("of-9", "of-b")]),
            ],
            5,
            "same second",
        ),
    ];
    for (clouds, exit_code, words) in cases {
        let answer = answered(clouds).unwrap();
        assert_eq!(answer.exit_code, exit_code, "{clouds:?}: {}", answer.text);
        assert!(answer.text.contains(words), "{words}: {}", answer.text);
    }
}

#[test]
fn an_old_content_that_was_copied_late_is_warned_of() {
    let active = |sum, day| image("active", Some(sum), day);
    let answer = answered(&[
        ("a", &[active(0, 2)]),
        ("b", &[active(0, 9)]),
        ("c", &[active(1, 5)]),
    ])
    .unwrap();
    assert_eq!(answer.exit_code, 4);
    assert!(
        answer.warnings[0].contains("is on a since 2026-11-02"),
        "{:?}",
        answer.warnings
    );
    assert!(
        answer.warnings[0].contains("that of c is of 2026-11-05"),
        "{:?}",
        answer.warnings
    );
    // None where the other content is older than all of the newest.
    let answer = answered(&[
        ("a", &[active(0, 2)]),
        ("b", &[active(0, 9)]),
        ("c", &[active(1, 1)]),
    ])
    .unwrap();
    assert_eq!(answer.warnings, [""; 0]);
}

/// `openstack image list` without `--long`.
#[test]
fn a_list_without_sums_says_nothing_of_what_is_there() {
    let short = |name: &str, status: &str| {
        format!(r#"[{{"ID": "short", "Name": "{name}", "Status": "{status}"}}]"#)
    };
    let new = image("active", Some(0), 9);
    for (name, status, exit_code) in [
        ("sl5", "active", 5),
        ("another", "active", 5),
        ("sl5", "deactivated", 5),
        // Nobody can use these.
        ("another", "queued", 10),
        ("another", "deactivated", 10),
        ("sl5", "killed", 10),
    ] {
        let clouds = [("a", &[new.clone()][..]), ("b", &[short(name, status)][..])];
        let answer = answered(&clouds).unwrap();
        assert_eq!(
            answer.exit_code, exit_code,
            "{name} {status}: {}",
            answer.text
        );
        let is_told = answer.text.contains("Checksum is missing: add --long");
        assert_eq!(is_told, exit_code == 5, "{name} {status}: {}", answer.text);
    }
    let nothing_else = answered(&[("a", &[short("sl5", "active")])]).unwrap_err();
    assert!(
        nothing_else
            .to_string()
            .contains("a: short: Checksum is missing: add --long")
    );
}

#[test]
fn without_a_copy_to_take_the_reason_is_told() {
    let said = |clouds: &[(&str, &[String])]| {
        let failure = answered(clouds).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        failure.to_string()
    };
    assert!(said(&[("a", &[])]).contains("there is no image in these files"));
    let other = image("active", None, 2).replace("sl5", "sl6");
    assert!(said(&[("a", &[other])]).contains("there is no image of the name \"sl5\""));
    let mut empty = Clouds::default();
    let list = Document::parse_all("none.json", b"[]").unwrap();
    empty.add("a", &list).unwrap();
    assert_eq!(
        answer(empty, None, Format::Table).unwrap_err().exit_code(),
        1
    );
    assert!(said(&[("a", &[image("saving", None, 2)])]).contains("a: of-2: it is saving"));
    let empty = image("active", Some(0), 2).replace("\"size\": 5", "\"size\": 0");
    assert!(said(&[("a", &[empty])]).contains("size 0 is refused"));
}

#[test]
fn a_file_s_cloud_is_what_is_before_the_sign_or_its_folder() {
    let (hand, folder) = (NamedBy::Hand, NamedBy::Folder);
    for (text, cloud, file, named_by) in [
        ("cloudA/vm.json", "cloudA", "cloudA/vm.json", folder),
        (
            "/x/cloud A/vm.json",
            "cloud A",
            "/x/cloud A/vm.json",
            folder,
        ),
        ("x/a=b.json", "x", "x/a=b.json", folder),
        ("devel/a.json", "devel", "devel/a.json", folder),
        ("/device/a.json", "device", "/device/a.json", folder),
        ("a=vm.json", "a", "vm.json", hand),
        ("a=x/vm.json", "a", "x/vm.json", hand),
        ("a=-", "a", "-", hand),
        ("a=/dev/fd/63", "a", "/dev/fd/63", hand),
    ] {
        let source = Source {
            cloud: cloud.into(),
            file: file.into(),
            named_by,
        };
        assert_eq!(Source::of(text.as_ref()), Ok(source));
    }
    for text in [
        "vm.json",
        "-",
        "=vm.json",
        "./vm.json",
        "/dev/fd/63",
        "/proc/self/fd/11",
        "/dev/stdin",
    ] {
        let error = Source::of(text.as_ref()).unwrap_err();
        assert!(error.contains("CLOUD="), "{text}: {error}");
    }
}

#[test]
fn one_folder_for_all_files_is_told() {
    for (files, is_told) in [
        (&["all/a.json", "all/b.json"][..], true),
        (&["x/all/a.json", "all/b.json"], true),
        (&["all=a.json", "all/b.json"], true),
        (&["all/a.json"], false),
        (&["all/a.json", "all/b.json", "other/c.json"], false),
        (&["all=a.json", "all=b.json"], false),
        (&[], false),
    ] {
        let sources = files.iter().map(|file| Source::of(file.as_ref()).unwrap());
        let sources: Vec<Source> = sources.collect();
        assert_eq!(one_folder_for_all(&sources).is_some(), is_told, "{files:?}");
    }
}
