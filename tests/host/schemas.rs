//! The schemas in `docs` are those of what is printed, in every outcome. All other claims'
//! outputs are held against them as well (`common::schema`).

use std::process::Command;

use serde_json::{Value, json};

use crate::common::schema::{conforms, fault};
use crate::common::{Image, Machine, program};
use crate::plan::said::{Folder, plan, recorded};
use crate::server::Server;

claims!(
    a_field_more_or_less_is_not_as_the_schema_says,
    the_status_of_each_outcome_is_as_its_schema_says,
    where_boot_has_not_run_there_is_no_status_to_print,
    what_probe_prints_in_each_outcome_is_as_its_schema_says,
    what_metadata_prints_is_as_its_schema_says,
    what_check_prints_is_as_its_schema_says_and_so_is_its_error,
    what_plan_prints_is_as_its_schema_says,
    that_no_metadata_source_is_asked_is_said_beside_the_document,
    a_wrong_configuration_prints_no_document,
);

const ID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

/// Says who the instance is, with these keys of its owner.
fn service(meta: &str) -> Server {
    let document =
        format!(r#"{{"uuid": "{ID}", "name": "vm-1", "project_id": "p", "meta": {{{meta}}}}}"#);
    Server::saying(200, "", document.as_bytes())
}

/// A machine with a labelled disk, that asks this service.
fn machine(url: &str) -> Machine {
    let mut machine = Machine::new();
    machine.configure(&format!(
        "[metadata]\nsources = [\"openstack\"]\nurl = \"{url}\"\ntimeout = \"4s\"\n"
    ));
    machine.may_change("/var/lib/vmstage");
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    machine
}

/// A status with all that one can have.
fn full_status() -> Value {
    let meta = r#""vmstage_request": "memory=1M,scratch=10G", "vmstage_lifetime": "36h", "vmstage_deadline": "soon""#;
    let service = service(meta);
    let machine = machine(&service.url());
    let boot = machine.boot();
    boot.ready_on("/dev/vdb");
    boot.the_status().clone()
}

/// The document of a run with `--format json`, with its exit code.
#[track_caller]
fn printed(machine: &Machine, command: &str, code: i32) -> Value {
    let run = machine.run(&[command, "--format", "json"]);
    assert_eq!(run.code, code, "{run}");
    let document = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {run}"));
    conforms(command, &document);
    document
}

/// The objects in a document, as JSON pointers.
fn objects(document: &Value, at: &str, found: &mut Vec<String>) {
    match document {
        Value::Object(fields) => {
            found.push(at.to_string());
            for (key, field) in fields {
                objects(field, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                objects(element, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn a_field_more_or_less_is_not_as_the_schema_says() {
    let status = full_status();
    conforms("status", &status);
    let mut places = Vec::new();
    objects(&status, "", &mut places);
    for part in [
        "/staging",
        "/deadline/given_by",
        "/resources/asked",
        "/ignored_limits/0",
        "/sources/0",
    ] {
        assert!(
            places.iter().any(|place| place == part),
            "no {part}: {status:#}"
        );
    }
    for place in &places {
        let mut more = status.clone();
        let fields = more.pointer_mut(place).unwrap().as_object_mut().unwrap();
        fields.insert("another".into(), json!(1));
        assert!(fault("status", &more).is_some(), "{place} may have another");
    }
    for (place, key) in [
        ("", "sources"),
        ("/staging", "evidence"),
        ("/deadline", "notice"),
        ("/verdicts/0", "reason"),
    ] {
        let mut less = status.clone();
        let fields = less.pointer_mut(place).unwrap().as_object_mut().unwrap();
        fields.remove(key).unwrap();
        assert!(fault("status", &less).is_some(), "{place} may lack {key}");
    }
}

fn the_status_of_each_outcome_is_as_its_schema_says() {
    let machine = Machine::new();
    machine.boot().failed(3);
    printed(&machine, "status", 3);
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    machine.boot().ready_on("/dev/vdb");
    let again = machine.boot();
    assert_eq!(again.the_status()["staging"]["already_mounted"], true);
    printed(&machine, "status", 0);
    machine.sh("umount /staging");
    printed(&machine, "status", 1);
    machine.boot().ready_on("/dev/vdb");
    machine.sh("rm -r /staging/condor; ln -s / /staging/condor");
    machine.boot().failed_staged(5);
    printed(&machine, "status", 5);

    drop(machine);
    let mut wrong = Machine::new();
    wrong.configure("[stagin]\n");
    wrong.boot().failed(6);
    printed(&wrong, "status", 6);
}

fn where_boot_has_not_run_there_is_no_status_to_print() {
    let status = Machine::new().run(&["status", "--format", "json"]);
    assert_eq!((status.code, status.stdout.as_str()), (1, ""), "{status}");
    assert!(
        status.stderr.contains("there is no status of this boot"),
        "{status}"
    );
}

fn what_probe_prints_in_each_outcome_is_as_its_schema_says() {
    let mut machine = Machine::new();
    assert_eq!(printed(&machine, "probe", 3)["chosen"], Value::Null);
    machine.configure("[staging]\nformat = \"blank\"\n");
    machine.disk("vdb", &Image::blank(16));
    let blank = printed(&machine, "probe", 0);
    assert_eq!(blank["formatted"], "/dev/vdb", "{blank:#}");
    machine.disk("vdc", &Image::swap(""));
    machine.disk("vdd", &Image::ext2("ephemeral0"));
    let chosen = printed(&machine, "probe", 0);
    assert_eq!(chosen["chosen"], "/dev/vdd", "{chosen:#}");
    machine.boot().ready_on("/dev/vdd");
    let mounted = printed(&machine, "probe", 0);
    assert_eq!(mounted["already_mounted"], "/dev/vdd", "{mounted:#}");
    machine.sh("umount /staging; rmdir /staging; ln -s /tmp /staging");
    let obstacle = printed(&machine, "probe", 4);
    assert!(obstacle["obstacle"].is_string(), "{obstacle:#}");
}

fn what_metadata_prints_is_as_its_schema_says() {
    let at = r#""vmstage_deadline": "2099-01-01T00:00:00Z", "vmstage_lifetime": "36h", "db_password": "x""#;
    for meta in [
        at,
        r#""vmstage_deadline": "soon", "n": 1"#,
        r#""vmstage_request": "c1""#,
    ] {
        let service = service(meta);
        let document = printed(&machine(&service.url()), "metadata", 0);
        assert_eq!(document["sources"][0]["answer"]["instance"]["id"], ID);
    }
    let html = Server::saying(200, "", b"<html>");
    let document = printed(&machine(&html.url()), "metadata", 1);
    assert!(document["sources"][0]["error"].is_string(), "{document:#}");
}

fn what_check_prints_is_as_its_schema_says_and_so_is_its_error() {
    for (root, codes) in [("/", &[0, 10, 11][..]), ("/nonexistent", &[1])] {
        let check = Command::new(program())
            .args(["check", "--format", "json", "--root", root])
            .output()
            .unwrap();
        let document: Value = serde_json::from_slice(&check.stdout).unwrap();
        conforms("check", &document);
        assert!(
            codes.contains(&check.status.code().unwrap()),
            "{document:#}"
        );
        assert_eq!(document["error"].is_string(), root != "/", "{document:#}");
    }
}

fn what_plan_prints_is_as_its_schema_says() {
    let flavors = recorded("10.5.0", "flavors");
    for (request, code) in [("m1024c1s10", 0), ("m1024c9s10", 3)] {
        let said = plan(
            &["flavor", "--request", request, "--format", "json", &flavors],
            "",
        );
        said.is(code, &[]);
        conforms("plan", &serde_json::from_str(&said.stdout).unwrap());
    }
    let folder = Folder::with(&[("requests", "1024 1 1048576\n4096 2 2097152\nnone\n".into())]);
    let said = folder.plan(&["grid", "--flavors", "1", "--format", "json", "requests"]);
    said.is(0, &[]);
    conforms("plan", &serde_json::from_str(&said.stdout).unwrap());
    let nothing = plan(&["flavor", "--cores", "1", "--format", "json", "-"], "[]");
    assert_eq!(
        (nothing.code, nothing.stdout.as_str()),
        (1, ""),
        "{nothing}"
    );
}

fn that_no_metadata_source_is_asked_is_said_beside_the_document() {
    let mut machine = Machine::new();
    machine.configure("metadata.sources = []\n");
    let run = machine.run(&["metadata", "--format", "json"]);
    assert_eq!(run.code, 1, "{run}");
    conforms("metadata", &serde_json::from_str(&run.stdout).unwrap());
    let run = machine.run(&["metadata"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run}");
    assert!(run.stderr.contains("metadata.sources names none"), "{run}");
}

fn a_wrong_configuration_prints_no_document() {
    let mut machine = Machine::new();
    machine.configure("[stagin]\n");
    for command in ["probe", "metadata"] {
        let run = machine.run(&[command, "--format", "json"]);
        assert_eq!((run.code, run.stdout.as_str()), (6, ""), "{run}");
        assert!(run.stderr.contains("unknown field"), "{run}");
    }
}
