//! The two `drain` commands that the shipped configuration shows for HTCondor, and what each
//! does to jobs that are running.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use vmstage::clock::wall;
use vmstage::status::Status;

use super::pool::*;

const SHIPPED: &str = include_str!("../../packaging/vmstage.toml");

/// The words of the one that is shown with this program in it.
fn shown(program: &str) -> Vec<String> {
    let line = SHIPPED.lines().find_map(|line| {
        let shown = line.strip_prefix("# ")?;
        (shown.starts_with("drain = ") && shown.contains(program)).then_some(shown)
    });
    let table: toml::Table = toml::from_str(line.unwrap()).unwrap();
    let words = table["drain"].as_array().unwrap().iter();
    words
        .map(|word| word.as_str().unwrap().to_string())
        .collect()
}

/// Runs it as `vmstage watch` does, and says how long it took.
fn drain(program: &str) -> Duration {
    let words = shown(program);
    let start = Instant::now();
    let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    start.elapsed()
}

/// Jobs have enough once there is this file.
const ENOUGH: &str = "/home/anna/enough";

/// A job that runs until it has enough, and in which a signal does this.
fn job(number: usize, on_signal: &str) -> String {
    let script = format!(
        "trap '{on_signal}' TERM\necho started\n\
         until [ -e {ENOUGH} ]; do sleep 1; done\necho ended\n"
    );
    let name = format!("/home/anna/script{number}");
    fs::write(&name, script).unwrap();
    submit_file(&format!(
        "executable = /bin/sh\ntransfer_executable = false\narguments = {name}\n\
         output = /home/anna/$(Cluster)\nrequest_disk = 1MB\nrequest_memory = 1MB\n\
         request_cpus = 0\njob_max_vacate_time = 8\nqueue\n"
    ))
}

fn printed(job: &str) -> String {
    fs::read_to_string(format!("/home/anna/{job}")).unwrap_or_default()
}

/// Jobs that are running, and one that comes when grace has begun.
fn in_grace(on_signal: [&str; 2], deadline: &Status) -> (Vec<String>, String) {
    fs::remove_file(ENOUGH).ok();
    let numbered = on_signal.iter().enumerate();
    let jobs: Vec<String> = numbered.map(|(number, does)| job(number, does)).collect();
    wait_for("the jobs to run", || {
        jobs.iter().all(|job| printed(job).contains("started"))
    });
    publish(deadline);
    wait_for("grace", || attribute("Start").contains("false"));
    (jobs, submit())
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn with_an_hour_left_running_jobs_end_by_themselves() {
    publish_first(&staged("/staging", None));
    let _pool = Pool::start();
    let grace = staged("/staging", Some(wall() + 300));
    let (jobs, late) = in_grace(["echo told to end"; 2], &grace);
    let time = Duration::from_secs(6);
    let enough = thread::spawn(move || {
        thread::sleep(time);
        fs::write(ENOUGH, "").unwrap();
    });
    let took = drain("condor_off -peaceful");
    assert!(took > time, "drain ended after {took:?}, before the jobs");
    enough.join().unwrap();
    for job in jobs {
        let log = run("tail", &["-n", "40", "/var/log/condor/StartLog"]);
        assert_eq!(printed(&job), "started\nended\n", "{log}");
    }
    assert!(
        run("condor_status", &["-af", "Name"]).is_empty(),
        "the startd is still there"
    );
    stay_idle(&[&late]);
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn with_a_minute_left_jobs_save_what_they_have_in_their_own_time() {
    // A site that lets jobs run on for long must not keep them from saving.
    let site = "/etc/condor/config.d/50-site.config";
    fs::write(site, "MAXJOBRETIREMENTTIME = 3600\n").unwrap();
    publish_first(&staged("/staging", None));
    let _pool = Pool::start();
    let saves = "echo told to end; sleep 3; echo saved; exit 0";
    let notice = noticed("/staging", wall() + 100);
    let (jobs, late) = in_grace([saves, "echo goes on"], &notice);
    let took = drain("condor_off -graceful");
    let limit = Duration::from_secs(8);
    assert!(took > limit / 2 && took < 2 * limit, "drain took {took:?}");
    assert_eq!(printed(&jobs[0]), "started\ntold to end\nsaved\n");
    assert!(
        printed(&jobs[1]).starts_with("started\ngoes on\n"),
        "{}",
        printed(&jobs[1])
    );
    // They go on elsewhere.
    stay_idle(&[&jobs[0], &jobs[1], &late]);
    fs::remove_file(site).unwrap();
}
