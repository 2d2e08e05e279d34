//! `vmstage plan image`, on what the client of two generations prints: a folder a cloud.

use std::process::Command;

use super::said::{Folder, GENERATIONS, printed};
use crate::common::program;

claims![
    the_newest_copy_goes_where_it_is_missing,
    what_is_there_under_another_name_is_there,
    the_same_name_with_other_content_is_a_conflict,
    without_a_hash_or_in_another_format_it_cannot_be_told,
    a_recorded_sha256_stands_in_for_a_hash,
    a_snapshot_of_volumes_is_refused,
    what_is_not_finished_is_no_copy,
    names_that_bite_reach_the_other_cloud_as_they_are,
    a_list_says_less_and_that_is_said,
    a_list_without_sums_is_refused_for_what_it_is,
    the_clouds_are_named_by_folders_or_by_hand,
    pipes_have_to_be_named_by_hand,
    for_programs_it_is_json,
    what_is_no_image_is_told_with_its_place,
];

const SL5: &str = "vm_partitioned_sl5";
const ID: &str = "1a9e0000-0000-4000-8000-000000000";

/// What was printed of three clouds: A has everything, B an older copy of SL5 and the newest one
/// under another name, C what nobody summed up.
fn recorded(version: &str) -> Folder {
    let files = [
        ("cloudA/vm.json", "image-sl5"),
        ("cloudA/debian.json", "image-qcow2"),
        ("cloudA/ceph.json", "image-ceph"),
        ("cloudA/volumes.json", "image-volume-snapshot"),
        ("cloudA/saving.json", "image-saving"),
        ("cloudA/odd.json", "image-odd"),
        ("cloudA/images.json", "images"),
        ("cloudB/vm.json", "image-sl5-b"),
        ("cloudB/renamed.json", "image-renamed-b"),
        ("cloudB/images.json", "images-b"),
        ("cloudC/vm.json", "image-sl5-c"),
        ("cloudC/debian.json", "image-raw-c"),
        ("cloudC/ceph.json", "image-ceph-c"),
        ("cloudC/images.json", "images-c"),
    ];
    let mut files: Vec<(&str, String)> = files
        .map(|(path, name)| (path, printed(version, name)))
        .into();
    files.push(("cloudD/images.json", "[]".into()));
    Folder::with(&files)
}

fn the_newest_copy_goes_where_it_is_missing() {
    for version in GENERATIONS {
        let folder = recorded(version);
        let said = folder.plan(&[
            "image",
            "--name",
            SL5,
            "--to",
            "cloudD/images.json",
            "cloudA/vm.json",
            "cloudB/vm.json",
        ]);
        said.is(10, &["newest: 1a9e0000-0000-4000-8000-000000000001 of 2026-11-02T10:00:00Z, 10.0 GiB, sha512"]);
        assert!(
            said.line("cloudD")
                .ends_with("copy           10.0 GiB from cloudA"),
            "{said}"
        );
        assert!(said.line("cloudB").contains("not asked for"), "{said}");
        let commands = said
            .stdout
            .split_once("\n\n")
            .unwrap()
            .1
            .split_once("\n\n")
            .unwrap()
            .1;
        assert_eq!(
            commands,
            format!(
                "openstack --os-cloud cloudA image save --file {ID}001.raw {ID}001 &&\n\
                 echo '{}  {ID}001.raw' | md5sum --check &&\n\
                 openstack --os-cloud cloudD image create --file {ID}001.raw --disk-format raw \
                 --container-format bare --min-disk 10 --min-ram 512 --property architecture=x86_64 \
                 --property hw_disk_bus=virtio --property os_type=linux {SL5}\n",
                md5(&printed(version, "image-sl5"))
            )
        );
    }
}

fn md5(image: &str) -> String {
    let image: serde_json::Value = serde_json::from_str(image).unwrap();
    image["checksum"].as_str().unwrap().to_string()
}

fn what_is_there_under_another_name_is_there() {
    for version in GENERATIONS {
        let folder = recorded(version);
        // The list of the older client has no hashes, but MD5.
        let said = folder.plan(&["image", "--to", "cloudB/images.json", "cloudA/vm.json"]);
        said.is(0, &["under the name \"renamed\""]);
        assert!(said.line("cloudB").contains("there"), "{said}");
        assert!(!said.stdout.contains("openstack"), "{said}");
        let by = match version {
            "3.18.1" => "has the same MD5",
            _ => "has the same hash",
        };
        said.is(0, &[by]);
        let said = folder.plan(&[
            "image",
            "--to",
            "cloudB/images.json",
            "--to",
            "cloudD/images.json",
            "cloudA/debian.json",
        ]);
        said.is(
            10,
            &[
                "under the name \"debian 12, from the mirror\"",
                "--os-cloud cloudD image create",
            ],
        );
        assert!(!said.stdout.contains("--os-cloud cloudB"), "{said}");
        // What a client wrote down of another cloud's image is not taken along.
        assert!(!said.stdout.contains("owner_specified"), "{said}");
    }
}

fn the_same_name_with_other_content_is_a_conflict() {
    for version in GENERATIONS {
        let folder = recorded(version);
        let said = folder.plan(&["image", "cloudA/vm.json", "cloudB/vm.json"]);
        said.is(
            4,
            &["it is older (2026-09-15T10:00:00Z, and not 2026-11-02T10:00:00Z)"],
        );
        assert!(said.line("cloudB").contains("conflict"), "{said}");
        assert!(!said.stdout.contains("openstack"), "{said}");
        // A conflict is worse than something to copy.
        folder
            .plan(&[
                "image",
                "--name",
                SL5,
                "cloudA/vm.json",
                "cloudB/vm.json",
                "cloudD/images.json",
            ])
            .is(
                4,
                &["10.0 GiB from cloudA", "--os-cloud cloudD image create"],
            );
        // Of another size it is other content, whatever is known of its hash.
        let larger = printed(version, "image-sl5-c")
            .replace("10737418240", "10737418241")
            .replace("2026-11-10", "2026-10-10");
        std::fs::write(folder.0.join("cloudC/larger.json"), larger).unwrap();
        folder
            .plan(&["image", "cloudA/vm.json", "cloudC/larger.json"])
            .is(4, &["other content; it is older"]);
    }
}

fn without_a_hash_or_in_another_format_it_cannot_be_told() {
    for version in GENERATIONS {
        let folder = recorded(version);
        // The one of cloud C is the newest.
        let said = folder.plan(&["image", "cloudA/vm.json", "cloudC/vm.json"]);
        said.is(
            5,
            &[
                "newest: 1a9e0000-0000-4000-8000-000000000201 of 2026-11-10",
                "the newest has no hash",
            ],
        );
        assert!(said.line("cloudA").contains("cannot tell"), "{said}");
        let said = folder.plan(&["image", "cloudA/debian.json", "cloudC/debian.json"]);
        said.is(5, &["another disk format: "]);
    }
}

fn a_recorded_sha256_stands_in_for_a_hash() {
    for version in GENERATIONS {
        let folder = recorded(version);
        folder
            .plan(&["image", "cloudA/ceph.json", "cloudC/ceph.json"])
            .is(0, &["has the same recorded sha256"]);
        // What is recorded as empty says nothing.
        folder
            .plan(&["image", "--to", "cloudD/images.json", "cloudC/ceph.json"])
            .is(10, &["--property sha256="]);
        let said = folder.plan(&["image", "--to", "cloudD/images.json", "cloudC/debian.json"]);
        assert!(!said.stdout.contains("sha256"), "{said}");
    }
}

fn a_snapshot_of_volumes_is_refused() {
    for version in GENERATIONS {
        let folder = recorded(version);
        folder
            .plan(&["image", "--to", "cloudD/images.json", "cloudA/volumes.json"])
            .is(
                1,
                &["a snapshot of volumes (size 0, block_device_mapping) is refused"],
            );
        // Two of them have the same sums, and are no copies of each other.
        folder
            .plan(&[
                "image",
                "--name",
                "worker-on-a-volume",
                "a=cloudA/images.json",
                "b=cloudA/volumes.json",
            ])
            .is(
                1,
                &["an image of size 0 is refused", "a snapshot of volumes"],
            );
    }
}

fn what_is_not_finished_is_no_copy() {
    for version in GENERATIONS {
        let folder = recorded(version);
        folder
            .plan(&["image", "--to", "cloudD/images.json", "cloudA/saving.json"])
            .is(
                1,
                &[
                    "no copy of \"worker-2026-12\" can be taken: cloudA: ",
                    "it is saving",
                ],
            );
        // Where one is on its way, there is nothing to decide.
        let renamed = printed(version, "image-sl5").replace(SL5, "worker-2026-12");
        std::fs::write(folder.0.join("cloudB/worker.json"), renamed).unwrap();
        folder
            .plan(&[
                "image",
                "--name",
                "worker-2026-12",
                "--to",
                "cloudA/images.json",
                "cloudB/worker.json",
            ])
            .is(0, &["under the name \"vm_partitioned_sl5\""]);
        let other = printed(version, "image-qcow2").replace("debian-12-generic", "worker-2026-12");
        std::fs::write(
            folder.0.join("cloudC/worker.json"),
            other.replace("2147549184", "5"),
        )
        .unwrap();
        folder
            .plan(&["image", "cloudC/worker.json", "cloudA/saving.json"])
            .is(5, &["it is saving, and not finished"]);
        folder
            .plan(&[
                "image",
                "--name",
                "withdrawn",
                "--to",
                "cloudD/images.json",
                "cloudA/images.json",
            ])
            .is(1, &["it is deactivated"]);
    }
}

fn names_that_bite_reach_the_other_cloud_as_they_are() {
    for version in GENERATIONS {
        let folder = recorded(version);
        let said = folder.plan(&[
            "image",
            "--to",
            "it's D=cloudD/images.json",
            "cloudA/odd.json",
        ]);
        said.is(10, &["image create"]);
        let commands = said
            .stdout
            .split_once("\n\n")
            .unwrap()
            .1
            .split_once("\n\n")
            .unwrap()
            .1;
        // What the client gets.
        let script = format!(
            "openstack() {{ printf '<%s>' \"$@\"; echo; }}; md5sum() {{ :; }}; reboot() {{ echo REBOOTED; }}\n{commands}"
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        let got = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{got}\n{said}"
        );
        assert!(got.contains("<--os-cloud><it's D><image><create>"), "{got}");
        assert!(
            got.contains("<--property><note=it's 'quoted', k='v'\nand more>"),
            "{got}"
        );
        assert!(got.ends_with("<it's \"new\"; $(reboot)\nwrite>\n"), "{got}");
        assert!(!got.contains("REBOOTED"), "{got}");
    }
}

/// Without `--long`, a list has no more than this.
fn a_list_without_sums_is_refused_for_what_it_is() {
    for version in GENERATIONS {
        let folder = recorded(version);
        let list: serde_json::Value = serde_json::from_str(&printed(version, "images-b")).unwrap();
        let short = list.as_array().unwrap().iter().map(|image| {
            serde_json::json!({"ID": image["ID"], "Name": image["Name"], "Status": image["Status"]})
        });
        let short = serde_json::Value::from(short.collect::<Vec<_>>()).to_string();
        std::fs::write(folder.0.join("cloudB/short.json"), short).unwrap();
        for image in ["cloudA/vm.json", "cloudA/debian.json"] {
            let said = folder.plan(&["image", "--to", "cloudB/short.json", image]);
            said.is(5, &["Checksum is missing: add --long"]);
            assert!(said.line("cloudB").contains("cannot tell"), "{said}");
            assert!(!said.stdout.contains("image create"), "{said}");
        }
    }
}

fn a_list_says_less_and_that_is_said() {
    let folder = recorded("10.5.0");
    folder
        .plan(&[
            "image",
            "--name",
            SL5,
            "cloudA/images.json",
            "cloudD/images.json",
        ])
        .is(
            10,
            &[
                "newest: 1a9e0000-0000-4000-8000-000000000001 of an unknown date",
                "image show does",
            ],
        );
    folder
        .plan(&[
            "image",
            "--name",
            SL5,
            "cloudA/images.json",
            "cloudC/images.json",
        ])
        .is(5, &["newest: cannot be told: image list prints no dates"]);
    folder
        .plan(&["image", "cloudA/images.json"])
        .is(2, &["--name"]);
    folder
        .plan(&["image", "--name", "nobody's", "cloudA/images.json"])
        .is(
            1,
            &["there is no image of the name \"nobody's\" in these files"],
        );
    // Of an image that is in both, what was shown counts.
    folder
        .plan(&[
            "image",
            "--name",
            SL5,
            "--to",
            "cloudB/images.json",
            "cloudA/vm.json",
            "cloudB/vm.json",
        ])
        .is(0, &["has the same hash"]);
    let without = printed("10.5.0", "images-b")
        .replace("renamed", "x")
        .replace(&md5(&printed("10.5.0", "image-sl5")), "");
    let without = without.replace("Hash Value", "Other");
    std::fs::write(folder.0.join("cloudB/other.json"), without).unwrap();
    folder
        .plan(&[
            "image",
            "--name",
            SL5,
            "--to",
            "cloudB/other.json",
            "cloudA/vm.json",
        ])
        .is(
            4,
            &["which is newer cannot be told without image show of both"],
        );
}

fn the_clouds_are_named_by_folders_or_by_hand() {
    let folder = recorded("10.5.0");
    std::fs::write(folder.0.join("vm.json"), printed("10.5.0", "image-sl5")).unwrap();
    folder
        .plan(&["image", "--to", "cloudD/images.json", "vm.json"])
        .is(2, &["of which cloud is vm.json?", "CLOUD=vm.json"]);
    let said = folder.plan(&["image", "--to", "there=cloudD/images.json", "here=vm.json"]);
    said.is(
        10,
        &[
            "--os-cloud here image save",
            "--os-cloud there image create",
        ],
    );
    let absolute = folder.0.join("cloudA/vm.json");
    folder
        .plan(&["image", absolute.to_str().unwrap()])
        .is(0, &["on cloudA"]);
}

/// `<(openstack …)` is /dev/fd/63 in bash, and /proc/self/fd/11 or a FIFO elsewhere.
fn pipes_have_to_be_named_by_hand() {
    let folder = recorded("10.5.0");
    let run = |words: &str| {
        let program = std::fs::canonicalize(program()).unwrap();
        let script = format!("\"$VMSTAGE\" plan image {words}");
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(&folder.0)
            .env("VMSTAGE", program)
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let unnamed = run("--to <(cat cloudD/images.json) <(cat cloudA/vm.json)");
    assert_eq!(unnamed.0, Some(2), "{}", unnamed.1);
    assert!(
        unnamed.1.contains("of which cloud is /dev/fd/"),
        "{}",
        unnamed.1
    );
    let named = run("--to d=<(cat cloudD/images.json) a=<(cat cloudA/vm.json)");
    assert_eq!(named.0, Some(10), "{}", named.1);
    assert!(named.1.contains("--os-cloud d image create"), "{}", named.1);
    let fifo = run("--to pipes/d cloudA/vm.json");
    assert_eq!(fifo.0, Some(1), "there is none: {}", fifo.1);
    std::fs::create_dir(folder.0.join("pipes")).unwrap();
    let made = Command::new("mkfifo")
        .arg(folder.0.join("pipes/d"))
        .status();
    assert!(made.unwrap().success());
    let fifo = run("--to pipes/d cloudA/vm.json");
    assert_eq!(fifo.0, Some(2), "{}", fifo.1);
    assert!(fifo.1.contains("of which cloud is pipes/d?"), "{}", fifo.1);
    // Everything in one folder.
    let all = run("--to cloudA/images.json cloudA/vm.json");
    assert_eq!(all.0, Some(0), "{}", all.1);
    let words = "warning: all files are of one cloud, cloudA, by the name of their folder";
    assert!(all.1.contains(words), "{}", all.1);
}

fn for_programs_it_is_json() {
    let folder = recorded("10.5.0");
    let with = |arguments: &[&str]| {
        let said = folder.plan(&[&["image", "--format", "json"], arguments].concat());
        let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        (said.code, document)
    };
    let (code, copied) = with(&["--to", "cloudD/images.json", "cloudA/vm.json"]);
    assert_eq!(code, 10, "{copied}");
    assert_eq!(copied["newest"]["cloud"], "cloudA");
    assert_eq!(copied["newest"]["created_at"], "2026-11-02T10:00:00Z");
    assert_eq!(copied["newest"]["size"], 10_737_418_240_u64);
    assert_eq!(copied["clouds"][0]["state"], "not asked for");
    assert_eq!(copied["clouds"][1]["cloud"], "cloudD");
    assert_eq!(copied["clouds"][1]["state"], "copy");
    assert_eq!(copied["commands"].as_array().unwrap().len(), 3);
    let lists = ["--name", SL5, "cloudA/images.json", "cloudC/images.json"];
    let (code, untold) = with(&lists);
    assert_eq!(code, 5, "{untold}");
    assert_eq!(untold["newest"], serde_json::Value::Null);
}

fn what_is_no_image_is_told_with_its_place() {
    let folder = recorded("10.5.0");
    let image = printed("10.5.0", "image-sl5");
    let with = |text: &str| {
        std::fs::write(folder.0.join("cloudA/bad.json"), text).unwrap();
        folder.plan(&["image", "--to", "cloudD/images.json", "cloudA/bad.json"])
    };
    with("").is(1, &["cloudA/bad.json: it is empty"]);
    with("<html>").is(1, &["cloudA/bad.json", "HTML"]);
    with("{").is(1, &["cloudA/bad.json: it is not JSON"]);
    with("7").is(1, &["cloudA/bad.json: a list of images is expected, not 7"]);
    with("[7]").is(
        1,
        &["cloudA/bad.json: [0]: an image, as an object, is expected, not 7"],
    );
    with("[]").is(1, &["there is no image in these files"]);
    for (there, instead, words) in [
        (
            "\"active\"",
            "\"melted\"",
            "status: a status of Glance's is expected",
        ),
        (
            "10737418240",
            "-1",
            "size: a number of bytes is expected, not -1",
        ),
        (
            "\"min_disk\": 10",
            "\"min_disk\": \"x\"",
            "min_disk: a number of GiB is expected, not \"x\"",
        ),
        ("\"min_ram\": 512", "\"min_ram\": 1e999", "not JSON"),
        (
            "2026-11-02T10:00:00Z",
            "2026-11-02",
            "created_at: a time such as",
        ),
        (
            "1a9e0000-0000-4000-8000-000000000001\",\n  \"min",
            "-x\",\n  \"min",
            "id: an id is expected, not \"-x\"",
        ),
    ] {
        let text = image.replacen(there, instead, 1);
        assert_ne!(text, image, "{there}");
        with(&text).is(1, &[words]);
    }
    folder
        .plan(&["image", "--to", "cloudA/vm.json", "cloudA/vm.json"])
        .is(1, &["a list of images is expected, not an object"]);
    folder
        .plan(&["image", "cloudA/none.json"])
        .is(1, &["cannot open cloudA/none.json: No such file"]);
    folder.plan(&["image"]).is(2, &["FILE"]);
}
