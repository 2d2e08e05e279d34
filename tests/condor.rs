//! The drop-in for HTCondor, as a real HTCondor takes it.
//!
//! Runs inside the Debian that `tests/condor/run` makes:
//!
//! ```sh
//! CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=tests/condor/run \
//!     cargo test --test condor -- --ignored --test-threads=1
//! ```

#[path = "condor/cells.rs"]
mod cells;
#[path = "condor/drain.rs"]
mod drain;
#[path = "condor/pool.rs"]
mod pool;
#[path = "condor/print.rs"]
mod print;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use pool::*;
use vmstage::clock::wall;
use vmstage::config::Config;
use vmstage::host::Host;
use vmstage::report::condor;

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
        printed.contains("\nMACHINEFEATURES=/etc/machinefeatures\n")
            && printed.contains("\nJOBFEATURES=/etc/jobfeatures\n"),
        "{printed}"
    );
    assert!(wall() < deadline - 600, "too slow to have seen anything");

    // Nobody tells it anything when grace begins.
    wait_for("grace", || wall() > deadline - 600);
    assert_eq!(attribute("Start"), "false");
    stay_idle(&[&submit()]);
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
    stay_idle(&[&job]);

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
    let start = configured("START");
    let is_kept =
        start.starts_with("time() >= ") && start.ends_with("? False : Owner =!= \"mallory\"");
    assert!(is_kept, "{start}");
    assert_eq!(attribute("Rack"), "r7");
    assert_eq!(attribute("StagingReady"), "true");
    let printed = finished(&submit());
    assert!(printed.contains("\nSITE=here\n"), "{printed}");

    // A file that is read after the drop-in, which is read last for all that.
    let later = "/etc/condor/condor_config.local";
    fs::write(later, "STARTD_ATTRS = Rack\nSTART = Owner =!= \"eve\"\n").unwrap();
    assert!(publish(&staged("/staging", Some(wall() + 300))));
    wait_for("grace", || attribute("Start") == "false");
    assert_eq!(
        (attribute("StagingReady"), attribute("Rack")),
        ("true".into(), "r7".into())
    );
    assert!(configured("START").ends_with("? False : Owner =!= \"eve\""));
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
    stay_idle(&[&job]);

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
    condor::publish(&Host::this_machine(), &status, &Config::default()).unwrap_err();
    let _pool = Pool::start();
    assert_eq!(configured("EXECUTE"), "/var/lib/condor/execute");
    assert_eq!(attribute("Start"), "false");
    assert_eq!(attribute("StagingReady"), "false");
}
