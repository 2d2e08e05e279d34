//! A file of metrics for node_exporter's textfile collector.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::files::{self, Place};
use super::old_texts;
use crate::config::Config;
use crate::host::Host;
use crate::status::{Outcome, Resource, Resources, Status};

pub(super) const KEY: &str = "report.textfile";
pub(crate) const NAME: &str = "vmstage.prom";

/// Where version 0.1.0 wrote by default.
const OLD_PLACE: &str = "/var/lib/prometheus/node-exporter/vmstage.prom";

/// By the file's time, which node_exporter shows, it is seen that `watch` is at work. Less than
/// its period, so that each round writes it.
const AGE: Duration = Duration::from_secs(45);

/// Writes the file where the collector's directory exists, also one that is of that age. Says
/// whether it did.
pub(super) fn publish(host: &Host, status: &Status, config: &Config) -> Result<bool> {
    let directory = config.report.textfile_directory.as_path();
    if !files::is_there(host, directory)? {
        return Ok(false);
    }
    let path = directory.join(NAME);
    let place = Place::of(KEY, &path);
    files::publish_again(host, place, text(status).as_bytes(), 0o644, AGE)
}

/// Where it publishes, and where it did.
pub(super) fn places(host: &Host, config: &Config) -> Vec<PathBuf> {
    let written = files::recorded(host, KEY);
    let written = written.iter().filter_map(|path| path.parent());
    let mut directories: Vec<PathBuf> = written.map(PathBuf::from).collect();
    if !directories.contains(&config.report.textfile_directory) {
        directories.push(config.report.textfile_directory.clone());
    }
    directories
}

/// Removes the file from wherever it is not to be any more.
pub(super) fn withdraw(host: &Host, config: &Config) -> Result<()> {
    let path = config.report.textfile_directory.join(NAME);
    let kept = config.report.textfile.then_some(path.as_path());
    let is_old = old_texts::is_metrics;
    files::withdraw(host, KEY, kept, &[OLD_PLACE], is_old).map(drop)
}

/// The metrics in the text exposition format, without time stamps: the collector
/// refuses a file that has any.
fn text(status: &Status) -> String {
    let mut text = String::new();
    gauge(
        &mut text,
        "vmstage_info",
        "The agent that wrote this file.",
        &[("version", &status.version)],
        1,
    );
    gauge(
        &mut text,
        "vmstage_ready",
        "1 when the scratch disk is mounted and its directories are made.",
        &[],
        u64::from(status.outcome == Outcome::Ready),
    );
    gauge(
        &mut text,
        "vmstage_boot_exit_code",
        "The exit code of vmstage boot.",
        &[],
        u64::from(status.exit_code),
    );
    gauge(
        &mut text,
        "vmstage_boot_warnings",
        "How many warnings vmstage boot gave.",
        &[],
        status.warnings.len() as u64,
    );
    if let Some(ms) = status.ready_uptime_ms {
        sample(
            &mut text,
            "vmstage_ready_uptime_seconds",
            "How long the machine was up when it was first ready in this boot.",
            &[],
            &format!("{}.{:03}", ms / 1000, ms % 1000),
        );
    }
    if let Some(staging) = &status.staging {
        let labels = [
            ("device", staging.device.as_str()),
            ("fstype", staging.filesystem.as_str()),
            ("mountpoint", &staging.mount_point.to_string_lossy()),
        ];
        gauge(
            &mut text,
            "vmstage_staging_size_bytes",
            "Size of the file system on the scratch disk.",
            &labels,
            staging.size_bytes,
        );
        gauge(
            &mut text,
            "vmstage_staging_free_bytes",
            "What users could still fill of it when it was staged.",
            &labels,
            staging.free_bytes,
        );
    }
    resources(&mut text, status.resources.as_ref());
    if let Some(deadline) = &status.deadline {
        gauge(
            &mut text,
            "vmstage_deadline_timestamp_seconds",
            "When this VM must be gone; absent where no deadline is known.",
            &[],
            deadline.at,
        );
        gauge(
            &mut text,
            "vmstage_deadline_grace_seconds",
            "How long before the deadline no new work should start.",
            &[],
            deadline.grace_seconds,
        );
        if deadline.is_drain_only() {
            gauge(
                &mut text,
                "vmstage_deadline_drain_only",
                "1 where only work has to end by the deadline, and nothing is switched off.",
                &[],
                1,
            );
        }
        if deadline.rehearsal {
            gauge(
                &mut text,
                "vmstage_deadline_rehearsal",
                "1 while a notice is rehearsed, and nothing is ended.",
                &[],
                1,
            );
        }
    }
    if status.is_draining {
        gauge(
            &mut text,
            "vmstage_drain_running",
            "1 while the drain command runs: work may go on.",
            &[],
            1,
        );
    }
    text
}

/// What was asked for and what there is; nothing of what nobody asked for.
fn resources(text: &mut String, resources: Option<&Resources>) {
    let Some(resources) = resources else {
        return;
    };
    for resource in Resource::ALL {
        let name = resource.name();
        let unit = match resource {
            Resource::Memory | Resource::Scratch => "_bytes",
            Resource::Cores => "",
        };
        let Some(amount) = resources.asked.amounts.of(resource) else {
            continue;
        };
        let metric = |what: &str| format!("vmstage_{name}_{what}");
        let help = format!("How much was asked for: {name}.");
        gauge(text, &(metric("asked") + unit), &help, &[], amount);
        if let Some(got) = resources.got.of(resource) {
            let help = format!("How much there is: {name}.");
            gauge(text, &(metric("got") + unit), &help, &[], got);
        }
        let help = format!("1 when there is less than was asked for: {name}.");
        let is_short = resources.short_of.contains(&resource);
        gauge(text, &metric("short"), &help, &[], u64::from(is_short));
    }
}

fn gauge(text: &mut String, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
    sample(text, name, help, labels, &value.to_string());
}

fn sample(text: &mut String, name: &str, help: &str, labels: &[(&str, &str)], value: &str) {
    let labels: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
        .collect();
    let labels = match labels.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", labels.join(",")),
    };
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{labels} {value}\n"
    );
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod monitoring;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpStream;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::SystemTime;

    use super::*;
    use crate::host::tree::Tree;
    use crate::report::example;

    const DIRECTORY: &str = "var/lib/prometheus/node-exporter";
    const FILE: &str = "var/lib/prometheus/node-exporter/vmstage.prom";

    #[test]
    fn every_metric_has_its_help_and_type() {
        let expected = "\
# HELP vmstage_info The agent that wrote this file.
# TYPE vmstage_info gauge
vmstage_info{version=\"0.1.0\"} 1
# HELP vmstage_ready 1 when the scratch disk is mounted and its directories are made.
# TYPE vmstage_ready gauge
vmstage_ready 1
# HELP vmstage_boot_exit_code The exit code of vmstage boot.
# TYPE vmstage_boot_exit_code gauge
vmstage_boot_exit_code 0
# HELP vmstage_boot_warnings How many warnings vmstage boot gave.
# TYPE vmstage_boot_warnings gauge
vmstage_boot_warnings 0
# HELP vmstage_ready_uptime_seconds How long the machine was up when it was first ready in this boot.
# TYPE vmstage_ready_uptime_seconds gauge
vmstage_ready_uptime_seconds 12.040
# HELP vmstage_staging_size_bytes Size of the file system on the scratch disk.
# TYPE vmstage_staging_size_bytes gauge
vmstage_staging_size_bytes{device=\"/dev/vdb\",fstype=\"ext2\",mountpoint=\"/staging\"} 21474836480
# HELP vmstage_staging_free_bytes What users could still fill of it when it was staged.
# TYPE vmstage_staging_free_bytes gauge
vmstage_staging_free_bytes{device=\"/dev/vdb\",fstype=\"ext2\",mountpoint=\"/staging\"} 21045339750
# HELP vmstage_deadline_timestamp_seconds When this VM must be gone; absent where no deadline is known.
# TYPE vmstage_deadline_timestamp_seconds gauge
vmstage_deadline_timestamp_seconds 1795430460
# HELP vmstage_deadline_grace_seconds How long before the deadline no new work should start.
# TYPE vmstage_deadline_grace_seconds gauge
vmstage_deadline_grace_seconds 600
";
        assert_eq!(text(&example::with_deadline()), expected);
    }

    #[test]
    fn what_was_asked_for_is_beside_what_there_is() {
        let text = text(&example::short_of_scratch());
        let samples: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.starts_with("vmstage_staging"))
            .skip(5)
            .collect();
        let expected = [
            "vmstage_memory_asked_bytes 1073741824",
            "vmstage_memory_got_bytes 1048576000",
            "vmstage_memory_short 0",
            "vmstage_cores_asked 1",
            "vmstage_cores_got 1",
            "vmstage_cores_short 0",
            "vmstage_scratch_asked_bytes 10737418240",
            "vmstage_scratch_got_bytes 5368709120",
            "vmstage_scratch_short 1",
        ];
        assert_eq!(samples, expected);
    }

    #[test]
    #[ignore = "needs promtool: tests/promtool fetches it"]
    fn promtool_has_nothing_to_say_about_it() {
        let mut quoted = example::with_deadline();
        quoted.resources = example::short_of_scratch().resources;
        quoted.staging.as_mut().unwrap().mount_point = "/a \"b\"\\c\nd".into();
        for status in [quoted, example::ready(), example::failed()] {
            let promtool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/promtool");
            let mut check = Command::new(promtool)
                .args(["check", "metrics"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = check.stdin.take().unwrap();
            std::io::Write::write_all(&mut input, text(&status).as_bytes()).unwrap();
            drop(input);
            let said = check.wait_with_output().unwrap();
            let words = [said.stdout, said.stderr].concat();
            assert!(
                said.status.success() && words.is_empty(),
                "{}",
                String::from_utf8_lossy(&words)
            );
        }
    }

    /// All that it serves, with nothing else to collect than files in this directory.
    fn served_by_node_exporter(directory: &Path) -> String {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node_exporter");
        let mut exporter = Command::new(program)
            .arg("--collector.disable-defaults")
            .arg("--collector.textfile")
            .arg(format!(
                "--collector.textfile.directory={}",
                directory.display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Open as long as it runs: it ends where it cannot log.
        let mut lines = BufReader::new(exporter.stderr.take().unwrap()).lines();
        // `msg="Listening on" address=127.0.0.1:38171`
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("msg=\"Listening on\" address=")?;
            Some(rest.split(' ').next()?.trim_matches('"').to_string())
        });
        let mut served = String::new();
        if let Some(address) = &address {
            let mut stream = TcpStream::connect(address).unwrap();
            let request = "GET /metrics HTTP/1.0\r\n\r\n";
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            stream.read_to_string(&mut served).unwrap();
        }
        exporter.kill().unwrap();
        exporter.wait().unwrap();
        assert!(address.is_some(), "node_exporter listens nowhere");
        served
    }

    #[test]
    #[ignore = "needs node_exporter: tests/node_exporter fetches Debian's"]
    fn node_exporter_serves_every_metric() {
        let mut quoted = example::with_deadline();
        quoted.staging.as_mut().unwrap().mount_point = "/a \"b\"\\c\nd".into();
        for status in [quoted, example::with_deadline(), example::failed()] {
            let tree = Tree::new(&[(&format!("{DIRECTORY}/"), "")]);
            publish(&tree.host(), &status, &Config::default()).unwrap();
            let served = served_by_node_exporter(&tree.root().join(DIRECTORY));
            let served: Vec<&str> = served.lines().collect();
            assert!(
                served.contains(&"node_textfile_scrape_error 0"),
                "{served:?}"
            );
            let text = tree.text(FILE);
            let metrics = text.lines().filter(|line| !line.starts_with('#'));
            for metric in metrics {
                let (name, value) = metric.rsplit_once(' ').unwrap();
                let value: f64 = value.parse().unwrap();
                // It writes large numbers as 1.79543046e+09.
                let is_it = |line: &&str| {
                    let (served_name, served) = line.rsplit_once(' ').unwrap_or_default();
                    served_name == name && served.parse() == Ok(value)
                };
                assert!(served.iter().any(is_it), "{metric}: {served:?}");
            }
        }
    }

    #[test]
    fn a_failed_boot_is_not_ready_and_shows_its_exit_code() {
        let text = text(&example::failed());
        assert!(text.contains("\nvmstage_ready 0\n"), "{text}");
        assert!(text.contains("\nvmstage_boot_exit_code 3\n"), "{text}");
        assert!(!text.contains("vmstage_ready_uptime"), "{text}");
        assert!(!text.contains("vmstage_staging"), "{text}");
    }

    #[test]
    fn what_a_label_cannot_hold_is_escaped() {
        let mut status = example::ready();
        status.staging.as_mut().unwrap().mount_point = "/a \"b\"\\c\nd".into();
        let expected = r#"mountpoint="/a \"b\"\\c\nd"} 21474836480"#;
        assert!(text(&status).contains(expected), "{}", text(&status));
    }

    #[test]
    fn the_file_is_written_once_and_a_deadline_that_goes_away_leaves_it() {
        let tree = Tree::new(&[(&format!("{DIRECTORY}/"), "")]);
        let config = Config::default();
        let publish = |status| publish(&tree.host(), &status, &config).unwrap();
        assert!(publish(example::with_deadline()));
        assert!(!publish(example::with_deadline()));
        assert!(publish(example::ready()));
        assert!(!tree.text(FILE).contains("deadline"));
        assert_eq!(tree.names(DIRECTORY), ["vmstage.prom"]);
    }

    #[test]
    fn a_file_that_still_holds_is_written_again_so_that_its_time_says_so() {
        let tree = Tree::new(&[(&format!("{DIRECTORY}/"), "")]);
        let publish = || publish(&tree.host(), &example::ready(), &Config::default()).unwrap();
        let now = SystemTime::now();
        let written = || {
            let file = File::open(tree.root().join(FILE)).unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            (file, time)
        };
        assert!(publish());
        let second = Duration::from_secs(1);
        // The last is from before the clock was set back.
        for (time, is_written) in [
            (now - 30 * second, false),
            (now - 50 * second, true),
            (now + 86400 * second, true),
        ] {
            written().0.set_modified(time).unwrap();
            assert_eq!(publish(), is_written, "{time:?}");
            let is_now = written().1 != time;
            assert_eq!(is_now, is_written, "{time:?}");
        }
    }

    #[test]
    fn a_drain_command_is_told_of_while_it_runs() {
        let mut status = example::with_deadline();
        assert!(!text(&status).contains("drain"));
        status.is_draining = true;
        assert!(text(&status).ends_with("\nvmstage_drain_running 1\n"));
    }

    #[test]
    fn without_the_collectors_directory_nothing_is_made() {
        let tree = Tree::new(&[("var/lib/", "")]);
        assert!(!publish(&tree.host(), &example::ready(), &Config::default()).unwrap());
        assert!(tree.names("var/lib").is_empty());
    }

    #[test]
    fn a_directory_in_the_place_of_the_file_is_an_error() {
        let tree = Tree::new(&[(&format!("{FILE}/"), "")]);
        let error = publish(&tree.host(), &example::ready(), &Config::default());
        let error = format!("{:#}", error.unwrap_err());
        assert!(
            error.contains("vmstage.prom: what is there is not a regular file"),
            "{error}"
        );
    }
}
