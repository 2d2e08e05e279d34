//! The drop-in for HTCondor, as a real HTCondor takes it.
//!
//! Runs inside the Debian that `tests/condor/run` makes:
//!
//! ```sh
//! CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=tests/condor/run \
//!     cargo test --test condor -- --ignored --test-threads=1
//! ```

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use vmstage::clock::{self, wall};
use vmstage::host::Host;
use vmstage::report::condor;
use vmstage::status::Status;

const DROP_IN: &str = "/etc/condor/config.d/99-vmstage.config";

/// Long enough for a slow machine; everything here is done after a few seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running HTCondor, in which a job of an earlier test has left nothing.
struct Pool(Child);

impl Pool {
    fn start() -> Pool {
        for leftover in [
            "/var/spool/condor",
            "/var/lib/condor/execute",
            "/var/log/condor",
        ] {
            for entry in fs::read_dir(leftover).into_iter().flatten().flatten() {
                fs::remove_dir_all(entry.path()).ok();
                fs::remove_file(entry.path()).ok();
            }
        }
        let pool = Pool(Command::new("condor_master").arg("-f").spawn().unwrap());
        wait_for("a slot and a schedd in the collector", || {
            !attribute("Name").is_empty()
                && !run("condor_status", &["-schedd", "-af", "Name"]).is_empty()
        });
        pool
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGQUIT).ok();
        self.0.wait().ok();
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < PATIENCE,
            "waited for {what}; the startd's log ends with\n{}",
            run("tail", &["-n", "20", "/var/log/condor/StartLog"])
        );
        sleep(Duration::from_millis(300));
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// As the configuration files have it.
fn configured(name: &str) -> String {
    run("condor_config_val", &[name])
}

/// As it is evaluated in the slot's ClassAd in the collector.
fn attribute(name: &str) -> String {
    run("condor_status", &["-af", name])
}

/// Submits a job that prints where it runs and its environment.
fn submit() -> String {
    let job = "\
executable = /bin/sh
transfer_executable = false
arguments = \"-c 'echo DIRECTORY=$_CONDOR_SCRATCH_DIR; env'\"
output = /home/anna/$(Cluster)
request_disk = 1MB
request_memory = 1MB
queue
";
    fs::write("/home/anna/job", job).unwrap();
    let submitted = run("su", &["anna", "-c", "cd && condor_submit -terse job 2>&1"]);
    let cluster = submitted.split('.').next().unwrap_or_default();
    assert!(cluster.parse::<u32>().is_ok(), "not taken: {submitted}");
    cluster.to_string()
}

fn state(job: &str) -> String {
    run("condor_q", &["-allusers", job, "-af", "JobStatus"])
}

/// What it printed, after it has run.
fn finished(job: &str) -> String {
    wait_for("the job to leave the queue", || state(job).is_empty());
    fs::read_to_string(format!("/home/anna/{job}")).unwrap()
}

/// That it is still idle after some rounds of negotiation.
fn stays_idle(job: &str) {
    const IDLE: &str = "1";
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        assert_eq!(state(job), IDLE);
        sleep(Duration::from_millis(300));
    }
}

/// The document of a boot that made `<mount_point>/condor`; grace is 600 s.
fn staged(mount_point: &str, deadline: Option<u64>) -> Status {
    let condor = Path::new(mount_point).join("condor");
    fs::create_dir_all(&condor).unwrap();
    let user = User::from_name("condor").unwrap().unwrap();
    chown(&condor, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();

    let deadline = deadline.map(|at| {
        serde_json::json!({
            "at": at,
            "at_utc": clock::utc(at),
            "origin": "vmstage_deadline in the openstack metadata",
            "grace_seconds": 600,
            "action": "report",
        })
    });
    status(serde_json::json!({
        "outcome": "ready",
        "exit_code": 0,
        "staging": {
            "mount_point": mount_point,
            "device": "/dev/vdb",
            "filesystem": "ext4",
            "options": "rw",
            "size_bytes": 1,
            "free_bytes": 1,
            "already_mounted": false,
            "also_mounted_on": [],
        },
        "directories": [{"path": condor, "owner": "condor", "group": "condor", "mode": "0755"}],
        "deadline": deadline,
    }))
}

fn failed() -> Status {
    status(serde_json::json!({
        "outcome": "failed",
        "exit_code": 3,
        "error": "no usable disk",
        "directories": [],
    }))
}

fn status(differing: serde_json::Value) -> Status {
    let mut document = serde_json::json!({
        "schema": 1,
        "version": "0",
        "boot_id": "",
        "started_at": "",
        "finished_at": "",
        "verdicts": [],
        "warnings": [],
    });
    for (key, value) in differing.as_object().unwrap() {
        document[key] = value.clone();
    }
    serde_json::from_value(document).unwrap()
}

fn publish(status: &Status) -> bool {
    condor::publish(&Host::this_machine(), status).unwrap()
}

/// Publishes to an HTCondor that is not running.
fn publish_first(status: &Status) {
    fs::remove_file(DROP_IN).ok();
    assert!(publish(status));
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn a_job_runs_on_the_scratch_disk_until_grace_begins() {
    let deadline = wall() + 600 + 30;
    publish_first(&staged("/staging", Some(deadline)));
    let _pool = Pool::start();

    assert_eq!(configured("EXECUTE"), "/staging/condor");
    assert_eq!(attribute("StagingReady"), "true");
    assert_eq!(attribute("MJF_MACHINE_SHUTDOWNTIME"), deadline.to_string());
    assert_eq!(attribute("MJF_MACHINE_GRACE_SECS"), "600");
    assert_eq!(attribute("Start"), "true");
    let printed = finished(&submit());
    assert!(
        printed.contains("DIRECTORY=/staging/condor/dir_"),
        "{printed}"
    );
    assert!(
        printed.contains("\nMACHINEFEATURES=/etc/machinefeatures\n"),
        "{printed}"
    );
    assert!(wall() < deadline - 600, "too slow to have seen anything");

    // Nobody tells it anything when grace begins.
    wait_for("grace", || wall() > deadline - 600);
    assert_eq!(attribute("Start"), "false");
    stays_idle(&submit());
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn a_running_htcondor_follows_a_deadline_that_moves_and_goes_away() {
    publish_first(&staged("/staging", None));
    let _pool = Pool::start();
    assert_eq!(attribute("MJF_MACHINE_SHUTDOWNTIME"), "undefined");
    assert_eq!(attribute("Start"), "true");

    assert!(publish(&staged("/staging", Some(wall() + 300))));
    wait_for("START to be false", || attribute("Start") == "false");
    let job = submit();
    stays_idle(&job);

    let later = wall() + 3600;
    assert!(publish(&staged("/staging", Some(later))));
    assert!(!publish(&staged("/staging", Some(later))));
    wait_for("the new deadline", || {
        attribute("MJF_MACHINE_SHUTDOWNTIME") == later.to_string()
    });
    assert_eq!(attribute("Start"), "true");
    finished(&job);

    assert!(publish(&staged("/staging", None)));
    wait_for("no deadline", || {
        attribute("MJF_MACHINE_SHUTDOWNTIME") == "undefined"
    });
    assert_eq!(attribute("MJF_MACHINE_GRACE_SECS"), "undefined");
    assert_eq!(attribute("Start"), "true");
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn a_sites_own_start_and_attributes_stay() {
    let site = "/etc/condor/config.d/50-site.config";
    fs::write(
        site,
        "START = Owner =!= \"mallory\"\nSTARTD_ATTRS = Rack\nRack = \"r7\"\n\
         STARTER_JOB_ENVIRONMENT = \"SITE=here\"\n",
    )
    .unwrap();
    publish_first(&staged("/staging", Some(wall() + 3600)));
    let _pool = Pool::start();
    assert!(configured("START").starts_with("(Owner =!= \"mallory\") && (time() < "));
    assert_eq!(attribute("Rack"), "r7");
    assert_eq!(attribute("StagingReady"), "true");
    let printed = finished(&submit());
    assert!(printed.contains("\nSITE=here\n"), "{printed}");

    // A file that is read later than the drop-in, and takes its attributes away.
    let later = "/etc/condor/condor_config.local";
    fs::write(later, "STARTD_ATTRS = Rack\n").unwrap();
    assert!(publish(&staged("/staging", Some(wall() + 3601))));
    wait_for("the attribute to go", || {
        attribute("StagingReady") == "undefined"
    });
    assert_eq!(attribute("Start"), "true");
    fs::remove_file(later).unwrap();
    fs::remove_file(site).unwrap();
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn a_machine_whose_staging_failed_starts_nothing() {
    publish_first(&failed());
    let _pool = Pool::start();
    assert_eq!(attribute("StagingReady"), "false");
    assert_eq!(attribute("Start"), "false");
    let job = submit();
    stays_idle(&job);

    // And, after somebody has repaired it, on the scratch disk only.
    assert!(publish(&staged("/staging", None)));
    let printed = finished(&job);
    assert!(
        printed.contains("DIRECTORY=/staging/condor/dir_"),
        "{printed}"
    );
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn an_htcondor_that_started_before_the_disk_was_staged_moves_to_it() {
    fs::remove_file(DROP_IN).ok();
    let _pool = Pool::start();
    let printed = finished(&submit());
    assert!(
        printed.contains("DIRECTORY=/var/lib/condor/execute/dir_"),
        "{printed}"
    );

    assert!(publish(&staged("/staging", None)));
    wait_for("StagingReady", || attribute("StagingReady") == "true");
    let printed = finished(&submit());
    assert!(
        printed.contains("DIRECTORY=/staging/condor/dir_"),
        "{printed}"
    );
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn an_htcondor_that_is_just_starting_survives_being_told() {
    publish_first(&staged("/staging", None));
    let log = Path::new("/var/log/condor/MasterLog");
    for moment in 0..10 {
        fs::remove_file(log).ok();
        let master = Command::new("condor_master")
            .args(["-f"])
            .env("_CONDOR_DAEMON_LIST", "MASTER")
            .spawn();
        let mut pool = Pool(master.unwrap());
        sleep(Duration::from_millis(moment * moment));
        assert!(publish(&staged("/staging", Some(wall() + 3600 + moment))));
        wait_for("the master to be told or to end", || {
            pool.0.try_wait().unwrap().is_some()
                || fs::read_to_string(log).is_ok_and(|log| log.contains("Got SIGHUP"))
        });
        assert_eq!(pool.0.try_wait().unwrap(), None, "told after {moment}² ms");
    }
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn a_mount_point_with_blanks_and_quotes_is_taken_as_it_is() {
    let mount_point = "/srv/my \"own\" disk's #1\\, ü";
    publish_first(&staged(mount_point, Some(wall() + 3600)));
    let _pool = Pool::start();
    assert_eq!(configured("EXECUTE"), format!("{mount_point}/condor"));
    let printed = finished(&submit());
    let expected = format!("DIRECTORY={mount_point}/condor/dir_");
    assert!(printed.contains(&expected), "{printed}");
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn a_mount_point_that_cannot_be_written_keeps_jobs_away_and_the_daemons_alive() {
    fs::remove_file(DROP_IN).ok();
    let status = staged("/srv/$(START)", None);
    condor::publish(&Host::this_machine(), &status).unwrap_err();
    let _pool = Pool::start();
    assert_eq!(configured("EXECUTE"), "/var/lib/condor/execute");
    assert_eq!(attribute("Start"), "false");
    assert_eq!(attribute("StagingReady"), "false");
}
