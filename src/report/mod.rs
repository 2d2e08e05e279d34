//! Who is told what: one file a consumer, and a table of all of them.

mod apart;
pub(crate) mod callback;
pub mod condor;
pub(crate) mod console;
mod files;
pub(crate) mod machine_features;
pub(crate) mod motd;
mod old_texts;
pub(crate) mod systemd;
pub(crate) mod terminals;
pub(crate) mod textfile;

use std::io;
use std::path::PathBuf;

use anyhow::Result;
use log::{error, info, warn};

use self::apart::Mounts;
use crate::clock;
use crate::config::Config;
use crate::host::{Host, silent};
use crate::http;
use crate::logging::{self, Notices};
use crate::staging::directories::Ready;
use crate::status::{Outcome, Status};
use crate::text;

/// Somebody who is told. The status file is none of them: it is always written.
struct Consumer {
    /// As warnings have it.
    name: &'static str,
    /// What turns it on and off in the configuration.
    key: &'static str,
    is_on: fn(&Config) -> bool,
    tell: Tell,
}

impl Consumer {
    /// Warns where it could not be told, and says what it hangs on.
    fn note(&self, notices: &Notices, told: Result<()>) {
        if let Err(e) = told {
            let (name, key) = (self.name, self.key);
            notices.warn_once(format!("{name} could not be told: {e:#} ({key})"));
        }
    }
}

/// How a consumer is told, and when.
enum Tell {
    /// By a file that is in its place before READY, and of which it hears afterwards.
    DropIn {
        write: fn(&Mounts, &Status, &Config) -> Result<condor::Written>,
        withdraw: fn(&Mounts) -> Result<condor::Written>,
    },
    /// By files that are read at any time.
    Files(Files),
    /// That it is ready in any case; and by a line, whenever that changes.
    Manager {
        ready: fn(&Ready, Option<&Status>) -> Result<()>,
        line: fn(&str) -> Result<()>,
    },
    /// By the last line of a boot.
    LastLine(fn(&Host, &str) -> io::Result<()>),
    /// By warnings.
    Warning(fn(&Host, &str) -> Result<usize>),
    /// By all lines of the log.
    Log {
        connect: fn(PathBuf),
        disconnect: fn(),
    },
    /// By a request, until it was heard.
    Call(fn(&Host, &Status, &Config) -> Result<bool, http::Failure>),
}

/// What another file system may be mounted on the way to is done in a child.
struct Files {
    /// Where they are, or were.
    places: fn(&Host, &Config) -> Vec<PathBuf>,
    publish: fn(&Host, &Status, &Config) -> Result<bool>,
    /// Removes those that are not to be there any more.
    withdraw: fn(&Host, &Config) -> Result<()>,
}

static CONSUMERS: [Consumer; 9] = [
    Consumer {
        name: "HTCondor",
        key: condor::KEY,
        is_on: |config| config.report.condor,
        tell: Tell::DropIn {
            write: condor::write,
            withdraw: condor::withdraw,
        },
    },
    Consumer {
        name: "the service manager",
        key: "report.systemd",
        is_on: |config| config.report.systemd,
        tell: Tell::Manager {
            ready: systemd::ready,
            line: systemd::text,
        },
    },
    Consumer {
        name: "the machine and job features",
        key: machine_features::KEY,
        is_on: |config| config.report.machine_features,
        tell: Tell::Files(Files {
            places: machine_features::places,
            publish: machine_features::publish,
            withdraw: machine_features::withdraw,
        }),
    },
    Consumer {
        name: "the message of the day",
        key: motd::KEY,
        is_on: |config| config.report.motd,
        tell: Tell::Files(Files {
            places: motd::places,
            publish: motd::publish,
            withdraw: motd::withdraw,
        }),
    },
    Consumer {
        name: "node_exporter",
        key: textfile::KEY,
        is_on: |config| config.report.textfile,
        tell: Tell::Files(Files {
            places: textfile::places,
            publish: textfile::publish,
            withdraw: textfile::withdraw,
        }),
    },
    Consumer {
        name: "the console",
        key: "report.console",
        is_on: |config| config.report.console,
        tell: Tell::LastLine(console::write),
    },
    Consumer {
        name: "logged-in users",
        key: "report.terminals",
        is_on: |config| config.report.terminals,
        tell: Tell::Warning(terminals::write),
    },
    Consumer {
        name: "syslog",
        key: "report.syslog",
        is_on: |config| config.report.syslog,
        tell: Tell::Log {
            connect: logging::connect,
            disconnect: logging::disconnect,
        },
    },
    Consumer {
        name: "the callback",
        key: "callback.url",
        is_on: |config| config.callback.url.is_some(),
        tell: Tell::Call(callback::post),
    },
];

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
    let mut mounts = Mounts::of(host);
    // The service manager starts HTCondor then, which reads its drop-in once.
    let drop_ins: Vec<_> = CONSUMERS
        .iter()
        .filter_map(|consumer| drop_in(consumer, &mounts, status, config))
        .collect();
    for consumer in &CONSUMERS {
        if let (Tell::Manager { ready: tell, .. }, Some(ready)) = (&consumer.tell, ready) {
            // Also where it is told nothing else: a unit that waits for this would fail.
            let text = (consumer.is_on)(config).then_some(&*status);
            consumer.note(notices, tell(ready, text));
        }
    }
    // No other consumer delays readiness, nor does an HTCondor that is just starting.
    for drop_in in drop_ins {
        let took_a_while = drop_in.as_ref().map_or(true, condor::Written::is_news);
        match drop_in.and_then(|drop_in| drop_in.tell(host, status)) {
            // Nor has the status any, which was just written.
            Ok(told) if told.warnings.is_empty() => {}
            told => {
                condor::note(host, notices, told);
                status.warnings = notices.all();
            }
        }
        if took_a_while {
            // Meanwhile something may have been mounted.
            mounts = Mounts::of(host);
        }
    }
    tend_files(&CONSUMERS, &mounts, notices, config, |consumer, files| {
        let published = match (consumer.is_on)(config) {
            true => (files.publish)(host, status, config).map(drop),
            false => Ok(()),
        };
        published.and(withdraw(files, host, config))
    });
}

/// A drop-in that was written, or removed where it is turned off.
fn drop_in(
    consumer: &Consumer,
    mounts: &Mounts,
    status: &Status,
    config: &Config,
) -> Option<Result<condor::Written>> {
    match &consumer.tell {
        Tell::DropIn { write, .. } if (consumer.is_on)(config) => {
            Some(write(mounts, status, config))
        }
        Tell::DropIn { withdraw, .. } if !config.report.is_stand_in => Some(withdraw(mounts)),
        _ => None,
    }
}

/// Has everybody hear of a configuration that was read while this program runs: the log is
/// where it is to be, and what was written for those that are turned off is removed.
pub(crate) fn configured(host: &Host, notices: &Notices, config: &Config) {
    follow_syslog(host, config);
    for consumer in CONSUMERS.iter().filter(|one| !(one.is_on)(config)) {
        match &consumer.tell {
            Tell::DropIn { withdraw, .. } => {
                let removed = withdraw(&Mounts::of(host));
                let told = removed.and_then(|removed| removed.tell_of_removal(host));
                condor::note(host, notices, told.map(|()| condor::Told::default()));
            }
            Tell::Manager { line, .. } => consumer.note(notices, line("")),
            _ => {}
        }
    }
    tend_files(
        &CONSUMERS,
        &Mounts::of(host),
        notices,
        config,
        |_, files| withdraw(files, host, config),
    );
}

/// Logs to syslog from now on, or no more.
pub(crate) fn follow_syslog(host: &Host, config: &Config) {
    for consumer in &CONSUMERS {
        if let Tell::Log {
            connect,
            disconnect,
        } = &consumer.tell
        {
            if !(consumer.is_on)(config) {
                disconnect();
                continue;
            }
            let socket = host.path(logging::SOCKET);
            match silent::see_that_the_way_answers(&socket) {
                Ok(()) => connect(socket),
                Err(e) => {
                    disconnect();
                    warn!("nothing is said to syslog: {e}");
                }
            }
        }
    }
}

/// Tells everybody but those who read the status when the machine must be gone, or that
/// nothing limits it.
pub(crate) fn deadline(host: &Host, notices: &Notices, status: &Status, config: &Config) {
    let on = || CONSUMERS.iter().filter(|one| (one.is_on)(config));
    for consumer in on() {
        match &consumer.tell {
            Tell::DropIn { write, .. } => {
                let drop_in = write(&Mounts::of(host), status, config);
                let told = drop_in.and_then(|drop_in| drop_in.tell(host, status));
                condor::note(host, notices, told);
            }
            Tell::Manager { line, .. } => {
                let told = line(&console::line(status, clock::wall()));
                consumer.note(notices, told);
            }
            _ => {}
        }
    }
    tend_files(on(), &Mounts::of(host), notices, config, |_, files| {
        (files.publish)(host, status, config).map(drop)
    });
}

/// Tells node_exporter that what it was told still holds: it shows when its file was written.
pub(crate) fn still_holds(host: &Host, notices: &Notices, status: &Status, config: &Config) {
    let on = CONSUMERS.iter().filter(|one| (one.is_on)(config));
    let its = on.filter(|one| one.key == textfile::KEY);
    tend_files(its, &Mounts::of(host), notices, config, |_, files| {
        (files.publish)(host, status, config).map(drop)
    });
}

/// Does something about the files of those of these consumers that have any, who read them
/// whenever they like. Only what changed is written.
fn tend_files<'a>(
    consumers: impl IntoIterator<Item = &'a Consumer>,
    mounts: &Mounts,
    notices: &Notices,
    config: &Config,
    tend: impl Fn(&Consumer, &Files) -> Result<()>,
) {
    for consumer in consumers {
        if let Tell::Files(files) = &consumer.tell {
            let places = (files.places)(mounts.host, config);
            let told = mounts.guard(&places, &mut || tend(consumer, files).map(|()| true));
            consumer.note(notices, told.map(drop));
        }
    }
}

/// Removes the files of one who is turned off, or are to be elsewhere by now. While nobody
/// knows what is configured, all stays: a slip in the configuration is no order.
fn withdraw(files: &Files, host: &Host, config: &Config) -> Result<()> {
    match config.report.is_stand_in {
        true => Ok(()),
        false => (files.withdraw)(host, config),
    }
}

/// The last line of a boot: in the log, and on the console.
pub(crate) fn final_line(host: &Host, notices: &Notices, status: &Status, config: &Config) {
    let line = console::line(status, clock::wall());
    match status.outcome {
        Outcome::Ready => info!("{line}"),
        Outcome::Failed => error!("{line}"),
    }
    further_line(host, notices, &line, config);
}

/// A line after the last one, for what was found out when everybody had been told.
pub(crate) fn further_line(host: &Host, notices: &Notices, line: &str, config: &Config) {
    for consumer in CONSUMERS.iter().filter(|one| (one.is_on)(config)) {
        if let Tell::LastLine(write) = &consumer.tell {
            let told = write(host, &text::one_line(line));
            consumer.note(notices, told.map_err(Into::into));
        }
    }
}

/// Warns those who are logged in.
pub(crate) fn warning(host: &Host, notices: &Notices, text: &str, config: &Config) {
    for consumer in CONSUMERS.iter().filter(|one| (one.is_on)(config)) {
        if let Tell::Warning(write) = &consumer.tell {
            consumer.note(notices, write(host, text).map(drop));
        }
    }
}

/// Calls once, and says whether there was anybody to call.
///
/// # Errors
///
/// That there is no 2xx answer.
pub(crate) fn call(host: &Host, status: &Status, config: &Config) -> Result<bool, http::Failure> {
    CONSUMERS
        .iter()
        .find_map(|consumer| match &consumer.tell {
            Tell::Call(post) if (consumer.is_on)(config) => Some(post(host, status, config)),
            _ => None,
        })
        .unwrap_or(Ok(false))
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
    use crate::deadline::order::DRAIN_ONLY;
    use crate::deadline::origin::{LimitSource, Origin};
    use crate::metadata::Instance;
    use crate::status::{Amounts, Asked, Deadline, Directory, Resources, Staging};

    pub(crate) const DEADLINE: u64 = 1_795_430_460;

    /// Half of the scratch space that was asked for.
    pub(crate) fn short_of_scratch() -> Status {
        let amounts = |memory_bytes, scratch_bytes| Amounts {
            memory_bytes: Some(memory_bytes),
            cores: Some(1),
            scratch_bytes: Some(scratch_bytes),
        };
        let asked = Asked {
            by: "vmstage_request".into(),
            is_rounded: false,
            amounts: amounts(1 << 30, 10 << 30),
        };
        Status {
            resources: Some(Resources::of(asked, amounts(1000 << 20, 5 << 30))),
            ..ready()
        }
    }

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
            ready_uptime_ms: Some(12_040),
            was_ready: false,
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
                made_of: Vec::new(),
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
                request: None,
            }),
            deadline: None,
            is_draining: false,
            ignored_limits: Vec::new(),
            resources: None,
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

    /// After `vmstage end --drain-only`.
    pub(crate) fn to_be_drained() -> Status {
        let mut status = with_deadline();
        let deadline = status.deadline.as_mut().unwrap();
        deadline.action = Action::Report;
        let origin = Origin::new(LimitSource::Operator, DRAIN_ONLY);
        deadline.given_by = Some(origin.with_detail("new disks"));
        status
    }

    pub(crate) fn failed() -> Status {
        Status {
            outcome: Outcome::Failed,
            exit_code: 3,
            error: Some("no usable device: /dev/vdb: swap\nand no other".into()),
            ready_uptime_ms: None,
            staging: None,
            directories: Vec::new(),
            ..ready()
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::config::ConfigError;
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
            condor::publish(&host, &status, &config).map(|told| told.changed),
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
        // Not even root makes a file where a directory is.
        let tree = Tree::new(&[
            ("lib/security/pam_motd.so", "/run/motd.d"),
            ("run/motd.d/.vmstage.new/", ""),
            ("etc/condor/config.d/.99-vmstage.config.new/", ""),
            ("etc/condor/config.d/.vmstage.prom.new/", ""),
            ("etc/machinefeatures/..vmstage.new/", ""),
        ]);
        let config = "[report]\ntextfile_directory = \"/etc/condor/config.d\"";
        let config = Config::parse(config).unwrap();
        let (host, status) = (tree.host(), example::with_deadline());
        for (told, path) in [
            (
                condor::publish(&host, &status, &config).map(|told| told.changed),
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

    /// A machine on which everybody is who is told by files.
    const CONSUMERS_OF_FILES: [(&str, &str); 7] = [
        ("run/", ""),
        ("etc/condor/config.d/", ""),
        ("etc/profile.d/", ""),
        ("etc/motd", "Welcome\n"),
        ("proc/stat", "cpu0 1 2 3\n"),
        ("var/lib/prometheus/node-exporter/", ""),
        ("srv/metrics/", ""),
    ];

    const DROP_IN: &str = "etc/condor/config.d/99-vmstage.config";

    const ALL_OFF: &str = "report = { condor = false, machine_features = false, motd = false, \
                           textfile = false }";

    fn boot(tree: &Tree, config: &str) -> Vec<String> {
        let (notices, mut status) = (Notices::default(), example::with_deadline());
        let config = match config {
            "wrong" => Config::without_consumers(&ConfigError::new("a slip".into())),
            config => Config::parse(config).unwrap(),
        };
        outcome(&tree.host(), &notices, &mut status, None, &config);
        notices.all()
    }

    /// The names of what is published on a machine.
    fn published(tree: &Tree) -> Vec<String> {
        let own = |name: &String| {
            !name.starts_with("run/vmstage/") && !name.starts_with("var/lib/vmstage")
        };
        tree.names(".").into_iter().filter(own).collect()
    }

    #[test]
    fn each_key_turns_off_its_consumer_and_no_other() {
        let mut keys = Vec::new();
        for consumer in CONSUMERS.iter().filter(|one| one.key != "callback.url") {
            let off = Config::parse(&format!("{} = false", consumer.key)).unwrap();
            let is_on = |one: &&Consumer| (one.is_on)(&off) && one.key != "callback.url";
            let on: Vec<&str> = CONSUMERS.iter().filter(is_on).map(|one| one.key).collect();
            assert_eq!(on.len(), CONSUMERS.len() - 2, "{}", consumer.key);
            assert!(!on.contains(&consumer.key));
            keys.push(consumer.key.to_string());
        }
        // And each key that can be set has its consumer.
        let shipped = include_str!("../../packaging/vmstage.toml");
        let section = shipped.split("#: [report]").nth(1).unwrap();
        let section = section.split("#: [callback]").next().unwrap();
        let mut named: Vec<String> = section
            .lines()
            .filter_map(|line| line.strip_prefix("#: ")?.strip_suffix(" = true"))
            .map(|key| format!("report.{key}"))
            .collect();
        named.sort();
        keys.sort();
        assert_eq!(named, keys);
        let call = CONSUMERS.iter().find(|one| one.key == "callback.url");
        let url = Config::parse("callback.url = \"http://192.0.2.1/\"").unwrap();
        assert!((call.unwrap().is_on)(&url) && !(call.unwrap().is_on)(&Config::default()));
    }

    #[test]
    fn what_was_written_for_those_that_are_turned_off_is_removed() {
        for motd in [
            ("lib/security/pam_motd.so", "/run/motd.d"),
            ("etc/update-motd.d/", ""),
            ("etc/other", ""),
        ] {
            let tree = Tree::new(&[&CONSUMERS_OF_FILES[..], &[motd]].concat());
            let before = published(&tree);
            assert_eq!(boot(&tree, ""), [""; 0]);
            assert!(published(&tree).len() >= before.len() + 9 || motd.0 == "etc/other");
            assert!(tree.root().join(DROP_IN).exists());
            assert_eq!(boot(&tree, ALL_OFF), [""; 0]);
            assert_eq!(published(&tree), before);
            assert_eq!(tree.text("etc/motd"), "Welcome\n");
            for directory in ["etc/machinefeatures", "etc/jobfeatures"] {
                assert!(!tree.root().join(directory).exists());
            }
            assert_eq!(tree.text("var/lib/vmstage/published"), "");
            // And comes again with the consumer.
            assert_eq!(boot(&tree, ""), [""; 0]);
            assert!(tree.root().join(DROP_IN).exists());
        }
    }

    #[test]
    fn one_that_is_turned_off_takes_nothing_from_the_others() {
        let tree = Tree::new(&CONSUMERS_OF_FILES);
        boot(&tree, "");
        let all = published(&tree);
        boot(&tree, "report.condor = false");
        let without: Vec<_> = all.into_iter().filter(|name| name != DROP_IN).collect();
        assert_eq!(published(&tree), without);
    }

    #[test]
    fn what_somebody_has_changed_since_stays() {
        let tree = Tree::new(&[&CONSUMERS_OF_FILES[..], &[("etc/update-motd.d/", "")]].concat());
        boot(&tree, "");
        let files = [
            DROP_IN,
            "etc/update-motd.d/98-vmstage",
            "etc/profile.d/vmstage.sh",
            "etc/machinefeatures/grace_secs",
            "var/lib/prometheus/node-exporter/vmstage.prom",
        ];
        for file in files {
            std::fs::write(tree.root().join(file), tree.text(file) + "# mine\n").unwrap();
        }
        // Also at the second time, when there is no record of it any more.
        for _ in 0..2 {
            boot(&tree, ALL_OFF);
            for file in files {
                assert!(tree.text(file).ends_with("# mine\n"), "{file}");
            }
        }
    }

    #[test]
    fn lines_in_the_message_of_the_day_that_somebody_has_changed_stay() {
        let tree = Tree::new(&CONSUMERS_OF_FILES);
        boot(&tree, "");
        let changed = tree.text("etc/motd") + "vmstage: ask Anna\n";
        std::fs::write(tree.root().join("etc/motd"), &changed).unwrap();
        boot(&tree, ALL_OFF);
        assert_eq!(tree.text("etc/motd"), changed);
    }

    #[test]
    fn where_nothing_was_written_nothing_is_said_or_made() {
        let tree = Tree::new(&[("run/motd", "theirs\n"), ("etc/profile.d/", "")]);
        std::os::unix::fs::symlink("/run/motd", tree.root().join("etc/motd")).unwrap();
        assert_eq!(boot(&tree, ALL_OFF), [""; 0]);
        assert_eq!(published(&tree), ["etc/motd", "run/motd"]);
        assert!(!tree.root().join("var").exists());
    }

    #[test]
    fn a_configuration_that_cannot_be_read_turns_nobody_off() {
        let tree = Tree::new(&CONSUMERS_OF_FILES);
        boot(&tree, "");
        let before = published(&tree);
        boot(&tree, "wrong");
        assert_eq!(published(&tree), before);
    }

    #[test]
    fn in_a_place_that_is_no_longer_named_nothing_is_left() {
        let tree = Tree::new(&CONSUMERS_OF_FILES);
        for (config, place, left) in [
            ("", "var/lib/prometheus/node-exporter", "srv/metrics"),
            (
                "report.textfile_directory = \"/srv/metrics\"",
                "srv/metrics",
                "var/lib/prometheus/node-exporter",
            ),
            ("", "var/lib/prometheus/node-exporter", "srv/metrics"),
        ] {
            assert_eq!(boot(&tree, config), [""; 0]);
            assert_eq!(tree.names(place), ["vmstage.prom"]);
            assert_eq!(tree.names(left), [""; 0]);
        }
        // Nor in a directory that is read from by now.
        let config = "metadata.machinefeatures = \"/etc/machinefeatures\"";
        assert_eq!(boot(&tree, config), [""; 0]);
        assert!(!tree.root().join("etc/machinefeatures").exists());
        assert!(tree.root().join("etc/jobfeatures").exists());
    }

    /// A link of the site's, or the same directory mounted twice.
    #[test]
    fn what_an_old_place_leads_to_stays_where_it_is_the_new_place() {
        use std::os::unix::fs::symlink;
        let tree = Tree::new(&CONSUMERS_OF_FILES);
        let old = tree.root().join("var/lib/prometheus/node-exporter");
        assert_eq!(boot(&tree, ""), [""; 0]);
        std::fs::rename(&old, tree.root().join("srv/metrics/moved")).unwrap();
        symlink("../../../srv/metrics/moved", &old).unwrap();
        let config = "report.textfile_directory = \"/srv/metrics/moved\"";
        for _ in 0..2 {
            assert_eq!(boot(&tree, config), [""; 0]);
            assert_eq!(tree.names("srv/metrics/moved"), ["vmstage.prom"]);
        }
        // Once it is elsewhere, it goes.
        boot(&tree, "report.textfile_directory = \"/srv/metrics\"");
        assert_eq!(tree.names("srv/metrics"), ["vmstage.prom"]);
    }

    #[test]
    fn after_a_crash_in_between_both_versions_are_known() {
        let tree = Tree::new(&CONSUMERS_OF_FILES);
        boot(&tree, "");
        let old = tree.text(DROP_IN);
        let (notices, mut status) = (Notices::default(), example::ready());
        let host = tree.host();
        outcome(&host, &notices, &mut status, None, &Config::default());
        assert_ne!(tree.text(DROP_IN), old);
        // The record is on the disk, and the file is not.
        std::fs::write(tree.root().join(DROP_IN), old).unwrap();
        boot(&tree, ALL_OFF);
        assert!(!tree.root().join(DROP_IN).exists());
    }

    #[test]
    fn what_version_0_1_0_wrote_is_known_by_its_text() {
        let files = [
            (
                DROP_IN,
                "# Written by vmstage(8), which overwrites it.\nStagingReady = False\n\
                 STARTD_ATTRS = $(STARTD_ATTRS) StagingReady\n# Jobs would fill the root disk.\n\
                 START = False\n",
            ),
            (
                "etc/update-motd.d/98-vmstage",
                "#!/bin/sh\n# Written by vmstage(8).\ncat <<'end'\n\
                 vmstage: there is no scratch space: none\nend\n",
            ),
            (
                "etc/motd",
                "Welcome\nvmstage: this VM goes away at 2026-11-23 11:41 UTC\nBye\n",
            ),
            (
                "var/lib/prometheus/node-exporter/vmstage.prom",
                "# HELP vmstage_info The agent that wrote this file.\n\
                 # TYPE vmstage_info gauge\nvmstage_info{version=\"0.1.0\"} 1\n",
            ),
            ("etc/profile.d/vmstage.sh", machine_features::PROFILE),
            (
                "etc/machinefeatures/.vmstage",
                "# What vmstage(8) published in this directory. Other files are not its own.\n\
                 shutdowntime 1795430460\n",
            ),
            ("etc/machinefeatures/shutdowntime", "1795430460"),
            ("etc/machinefeatures/hs06", "171"),
            ("run/", ""),
        ];
        let tree = Tree::new(&files);
        boot(&tree, ALL_OFF);
        assert_eq!(published(&tree), ["etc/machinefeatures/hs06", "etc/motd"]);
        assert_eq!(tree.text("etc/motd"), "Welcome\nBye\n");
        // Where the metrics are to be elsewhere, those of the old default go as well.
        let tree = Tree::new(&files);
        boot(&tree, "report.textfile_directory = \"/nowhere\"");
        assert_eq!(tree.names("var/lib/prometheus"), [""; 0]);
    }
}
