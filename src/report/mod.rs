//! Who is told what: one file a consumer.

pub(crate) mod callback;
pub mod condor;
pub(crate) mod console;
mod files;
pub(crate) mod machine_features;
pub(crate) mod motd;
pub(crate) mod systemd;
pub(crate) mod terminals;
pub(crate) mod textfile;

use anyhow::Result;
use log::{error, info};

use crate::clock;
use crate::config::Config;
use crate::host::Host;
use crate::logging::Notices;
use crate::staging::directories::Ready;
use crate::status::{Outcome, Status};

/// Tells everybody inside the machine what became of the boot. A consumer that fails
/// is a warning, and no more than that.
pub(crate) fn outcome(
    host: &Host,
    notices: &Notices,
    status: &mut Status,
    ready: Option<&Ready>,
    config: &Config,
) {
    status.warnings = notices.all();
    note(notices, "the status file", status.write(host));
    // The service manager starts HTCondor then, which reads its drop-in once.
    let drop_in = config.report.condor.then(|| condor::write(host, status));
    if let Some(ready) = ready {
        // Also where it is told nothing else: a unit that waits for this would fail.
        let text = config.report.systemd.then_some(&*status);
        note(notices, "the service manager", systemd::ready(ready, text));
    }
    // No other consumer delays readiness, nor does an HTCondor that is just starting.
    if let Some(drop_in) = drop_in {
        let told = drop_in.and_then(|drop_in| drop_in.tell(host, status));
        condor::note(host, notices, told);
        status.warnings = notices.all();
    }
    publish_files(host, notices, status, config);
}

/// Whether another boot has said since what became of it. `watch` may have as well: of
/// the deadline, which it knows no worse.
pub(crate) fn is_outdated(host: &Host, told: &Status) -> bool {
    let boot = |status: &Status| (status.started_at.clone(), status.staging.clone());
    match Status::read(host) {
        Ok(Some(written)) => boot(&written) != boot(told),
        _ => false,
    }
}

/// Tells when the machine must be gone, or that nothing limits it.
pub(crate) fn deadline(host: &Host, notices: &Notices, status: &Status, config: &Config) {
    note(notices, "the status file", status.write(host));
    if config.report.condor {
        condor::note(host, notices, condor::publish(host, status));
    }
    publish_files(host, notices, status, config);
    if config.report.systemd {
        let line = console::line(status, clock::wall());
        note(notices, "the service manager", systemd::text(&line));
    }
}

/// Tells those who read files whenever they like, and writes only what changed.
fn publish_files(host: &Host, notices: &Notices, status: &Status, config: &Config) {
    type Publish = fn(&Host, &Status, &Config) -> Result<bool>;
    let report = &config.report;
    let consumers: [(&str, bool, Publish); 3] = [
        (
            "the machine and job features",
            report.machine_features,
            machine_features::publish,
        ),
        ("the message of the day", report.motd, motd::publish),
        ("node_exporter", report.textfile, textfile::publish),
    ];
    for (name, wanted, publish) in consumers {
        if wanted {
            note(notices, name, publish(host, status, config).map(drop));
        }
    }
}

/// The last line of a boot: in the log, and on the console.
pub(crate) fn final_line(host: &Host, notices: &Notices, status: &Status, config: &Config) {
    let line = console::line(status, clock::wall());
    match status.outcome {
        Outcome::Ready => info!("{line}"),
        Outcome::Failed => error!("{line}"),
    }
    if config.report.console {
        note(
            notices,
            "the console",
            console::write(host, &line).map_err(Into::into),
        );
    }
}

/// Warns where a consumer could not be told.
pub(crate) fn note(notices: &Notices, consumer: &str, told: Result<()>) {
    if let Err(e) = told {
        // What is told in several steps fails in each.
        notices.warn_once(format!("{consumer} could not be told: {e:#}"));
    }
}

/// Status documents and directory trees for the consumers' tests.
#[cfg(test)]
pub(crate) mod example {
    use std::path::Path;

    use super::*;
    use crate::config::Action;
    use crate::metadata::Instance;
    use crate::status::{Deadline, Directory, Staging};

    pub(crate) const DEADLINE: u64 = 1_795_430_460;

    pub(crate) fn ready() -> Status {
        let directory = |name: &str, owner: &str, mode: &str| Directory {
            path: Path::new("/staging").join(name),
            owner: owner.into(),
            group: owner.into(),
            mode: mode.into(),
            error: None,
        };
        Status {
            schema: 1,
            version: "0.1.0".into(),
            boot_id: "1f0c1a52-0a0e-4d53-9c6c-5a8f2d4c1b7e".into(),
            outcome: Outcome::Ready,
            exit_code: 0,
            error: None,
            started_at: "2026-11-22T22:41:29Z".into(),
            finished_at: "2026-11-22T22:41:30Z".into(),
            staging: Some(Staging {
                mount_point: "/staging".into(),
                device: "/dev/vdb".into(),
                filesystem: "ext2".into(),
                label: Some("ephemeral0".into()),
                options: "rw,nosuid,nodev".into(),
                size_bytes: 21_474_836_480,
                free_bytes: 21_045_339_750,
                evidence: None,
                suspicion: None,
                already_mounted: false,
                also_mounted_on: Vec::new(),
            }),
            directories: vec![
                directory("condor", "condor", "0755"),
                directory("tmp", "root", "1777"),
            ],
            verdicts: Vec::new(),
            warnings: Vec::new(),
            instance: Some(Instance {
                id: Some("83679162-1378-4288-a2d4-70e13ec132aa".into()),
                name: Some("worker-7".into()),
                project: None,
                availability_zone: None,
                flavor: None,
            }),
            deadline: None,
            ignored_limits: Vec::new(),
            sources: Vec::new(),
        }
    }

    pub(crate) fn with_deadline() -> Status {
        Status {
            deadline: Some(Deadline {
                at: DEADLINE,
                at_utc: clock::utc(DEADLINE),
                origin: "vmstage_lifetime in the openstack metadata".into(),
                given_by: None,
                notice: false,
                rehearsal: false,
                unconfirmed: false,
                grace_seconds: 600,
                site_grace_seconds: None,
                action: Action::Poweroff,
                confirmed_at: Some("2026-11-22T22:41:31Z".into()),
            }),
            ..ready()
        }
    }

    pub(crate) fn failed() -> Status {
        Status {
            outcome: Outcome::Failed,
            exit_code: 3,
            error: Some("no usable device: /dev/vdb: swap\nand no other".into()),
            staging: None,
            directories: Vec::new(),
            ..ready()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn a_pipe_in_the_place_of_a_file_that_is_read_holds_nobody() {
        let tree = Tree::new(&[
            ("run/", ""),
            ("lib/security/", ""),
            ("etc/ssh/", ""),
            ("etc/condor/config.d/", ""),
            ("etc/machinefeatures/", ""),
            ("var/run/", ""),
            ("textfiles/", ""),
        ]);
        for file in [
            "lib/security/pam_motd.so",
            "etc/motd",
            "etc/hosts",
            "etc/ssh/ssh_host_rsa_key.pub",
            "etc/condor/condor_config",
            "etc/condor/config.d/50-site",
            "etc/condor/config.d/99-vmstage.config",
            "etc/machinefeatures/.vmstage",
            "etc/machinefeatures/total_cpu",
            "var/run/utmp",
            "textfiles/vmstage.prom",
        ] {
            mkfifo(&tree.root().join(file), Mode::S_IRWXU).unwrap();
        }
        let config =
            "report.textfile_directory = \"/textfiles\"\n[callback]\nurl = \"http://127.0.0.1:1\"";
        let config = Config::parse(config).unwrap();
        let (host, status) = (tree.host(), example::with_deadline());
        for told in [
            condor::publish(&host, &status).map(|told| told.changed),
            machine_features::publish(&host, &status, &config),
            motd::publish(&host, &status, &config),
            textfile::publish(&host, &status, &config),
            terminals::write(&host, "hello").map(|_| true),
        ] {
            told.unwrap_err();
        }
        assert!(callback::post(&host, &status, &config).is_err());
    }

    #[test]
    fn a_directory_in_which_nothing_can_be_written_is_an_error_for_each_consumer() {
        let pam = ("lib/security/pam_motd.so", "/run/motd.d");
        let tree = Tree::new(&[pam, ("etc/condor/", ""), ("run/", "")]);
        // Not even root makes a file there.
        for link in ["etc/condor/config.d", "etc/machinefeatures", "run/motd.d"] {
            symlink("/proc/tty", tree.root().join(link)).unwrap();
        }
        let config = "[report]\ntextfile_directory = \"/etc/condor/config.d\"";
        let config = Config::parse(config).unwrap();
        let (host, status) = (tree.host(), example::with_deadline());
        for (told, path) in [
            (
                condor::publish(&host, &status).map(|told| told.changed),
                "config.d/99-vmstage.config",
            ),
            (
                machine_features::publish(&host, &status, &config),
                "etc/machinefeatures/.vmstage",
            ),
            (motd::publish(&host, &status, &config), "run/motd.d/vmstage"),
            (
                textfile::publish(&host, &status, &config),
                "config.d/vmstage.prom",
            ),
        ] {
            let error = format!("{:#}", told.unwrap_err());
            assert!(error.contains(&format!("{path}: ")), "{error}");
        }
    }
}
