//! A pool of one machine, jobs for it, and what a boot tells it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use vmstage::clock;
use vmstage::config::Config;
use vmstage::host::Host;
use vmstage::report::condor;
use vmstage::status::Status;

pub const DROP_IN: &str = "/etc/condor/config.d/99-vmstage.config";

/// Long enough for a slow machine; everything here is done after a few seconds.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A running HTCondor, in which a job of an earlier test has left nothing.
pub struct Pool(pub Child);

impl Pool {
    pub fn start() -> Pool {
        let pool = Pool::start_with(&[]);
        wait_for("a slot in the collector", || !attribute("Name").is_empty());
        pool
    }

    /// With other settings than those of the files.
    pub fn start_with(settings: &[(&str, &str)]) -> Pool {
        for leftover in [
            "/var/spool/condor",
            "/var/lib/condor/execute",
            "/var/log/condor",
            "/home/anna",
        ] {
            for entry in fs::read_dir(leftover).into_iter().flatten().flatten() {
                fs::remove_dir_all(entry.path()).ok();
                fs::remove_file(entry.path()).ok();
            }
        }
        let settings = settings
            .iter()
            .map(|(name, value)| (format!("_CONDOR_{name}"), value));
        let master = Command::new("condor_master")
            .arg("-f")
            .envs(settings)
            .spawn();
        let pool = Pool(master.unwrap());
        wait_for("a schedd in the collector", || {
            !run("condor_status", &["-schedd", "-af", "Name"]).is_empty()
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

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
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

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// As the configuration files have it.
pub fn configured(name: &str) -> String {
    run("condor_config_val", &[name])
}

/// As it is evaluated in the slot's ClassAd in the collector.
pub fn attribute(name: &str) -> String {
    run("condor_status", &["-af", name])
}

/// Submits a job that prints where it runs and its environment.
pub fn submit() -> String {
    let job = "\
executable = /bin/sh
transfer_executable = false
arguments = \"-c 'echo DIRECTORY=$_CONDOR_SCRATCH_DIR; env'\"
output = /home/anna/$(Cluster)
request_disk = 1MB
request_memory = 1MB
queue
";
    submit_file(job)
}

/// Says which cluster it is.
pub fn submit_file(job: &str) -> String {
    fs::write("/home/anna/job", job).unwrap();
    let submitted = run("su", &["anna", "-c", "cd && condor_submit -terse job 2>&1"]);
    let cluster = submitted.split('.').next().unwrap_or_default();
    assert!(cluster.parse::<u32>().is_ok(), "not taken: {submitted}");
    cluster.to_string()
}

pub fn state(job: &str) -> String {
    run("condor_q", &["-allusers", job, "-af", "JobStatus"])
}

/// What it printed, after it has run.
pub fn finished(job: &str) -> String {
    wait_for("the job to leave the queue", || state(job).is_empty());
    fs::read_to_string(format!("/home/anna/{job}")).unwrap()
}

/// That each is still idle after some rounds of negotiation.
pub fn stay_idle(jobs: &[&str]) {
    const IDLE: &str = "1";
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        for job in jobs {
            assert_eq!(state(job), IDLE);
        }
        sleep(Duration::from_millis(300));
    }
}

/// The document of a boot that made `<mount_point>/condor`; grace is 600 s.
pub fn staged(mount_point: &str, deadline: Option<u64>) -> Status {
    staged_until(mount_point, deadline, false)
}

/// Likewise, with a deadline that the cloud announces.
pub fn noticed(mount_point: &str, deadline: u64) -> Status {
    staged_until(mount_point, Some(deadline), true)
}

fn staged_until(mount_point: &str, deadline: Option<u64>, notice: bool) -> Status {
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
            "notice": notice,
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

pub fn failed() -> Status {
    status(serde_json::json!({
        "outcome": "failed",
        "exit_code": 3,
        "error": "no usable disk",
        "directories": [],
    }))
}

pub fn status(differing: serde_json::Value) -> Status {
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

pub fn publish(status: &Status) -> bool {
    condor::publish(&Host::this_machine(), status, &Config::default())
        .unwrap()
        .changed
}

/// Publishes to an HTCondor that is not running.
pub fn publish_first(status: &Status) {
    fs::remove_file(DROP_IN).ok();
    assert!(publish(status));
}
