//! The configuration file, its defaults, and what is refused.
//!
//! This module parses and nothing else: every value that leaves it is of a type
//! that cannot hold a bad one, so that the code which uses it need not check again.

mod error;
mod sources;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use crate::text;

pub(crate) use error::ConfigError;
pub use sources::Source;
pub(crate) use sources::Sources;
pub use values::*;
use values::{command, duration, durations, mount_options, specs};

/// The file, section by section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[staging]`.
    pub staging: Staging,
    /// `[[directory]]`, each of which is there once.
    #[serde(rename = "directory", deserialize_with = "distinct_directories")]
    pub directories: Vec<Directory>,
    pub(crate) metadata: Metadata,
    pub(crate) deadline: Deadline,
    pub(crate) report: Report,
    pub(crate) callback: Callback,
}

/// Where the scratch disk is looked for and mounted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Staging {
    /// Where it is mounted.
    pub mount_point: MountPoint,
    /// Where to look, in this order.
    #[serde(deserialize_with = "specs")]
    pub(crate) devices: Vec<Spec>,
    /// Options as `mount -o` takes them, one each.
    #[serde(deserialize_with = "mount_options")]
    pub(crate) options: Vec<String>,
    /// How long to wait for a disk that is not there yet.
    #[serde(deserialize_with = "duration")]
    pub(crate) wait: Duration,
    /// For reading all disks together; and how long a disk may stand still while it is
    /// mounted or a file system is made on it.
    #[serde(deserialize_with = "time_limit")]
    pub(crate) device_timeout: Duration,
    pub(crate) format: Format,
    /// What `format` makes.
    pub(crate) filesystem: Filesystem,
    pub(crate) combine: Combine,
    /// SELinux's, of the root directory; of all where a file system carries none.
    pub(crate) context: Option<Context>,
}

/// One directory on the scratch disk.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Below the mount point.
    pub path: RelativePath,
    /// A name or a number; root if not given.
    #[serde(default)]
    pub(crate) owner: Option<Account>,
    /// A name or a number; the group root if not given.
    #[serde(default)]
    pub(crate) group: Option<Account>,
    /// 0755 if not given.
    #[serde(default)]
    pub mode: Mode,
    /// SELinux's.
    #[serde(default)]
    pub(crate) context: Option<Context>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metadata {
    pub(crate) sources: Sources,
    /// The metadata service's base URL, for all sources but the config drive.
    pub(crate) url: HttpUrl,
    /// Whether Azure is asked for scheduled events, which switches them on for the VM.
    pub(crate) azure_events: bool,
    /// For one request: connecting, headers and body together.
    #[serde(deserialize_with = "duration")]
    pub(crate) request_timeout: Duration,
    /// For all that `boot` asks.
    #[serde(deserialize_with = "duration")]
    pub(crate) timeout: Duration,
    /// Machine Features, where the environment and the instance's `meta` name none.
    pub(crate) machinefeatures: Option<FeaturesLocation>,
    /// Job Features, likewise.
    pub(crate) jobfeatures: Option<FeaturesLocation>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Deadline {
    /// The image's own limit, from the instance's first boot; zero is none.
    #[serde(deserialize_with = "duration")]
    pub(crate) max_lifetime: Duration,
    /// The time before the deadline in which no new work should start.
    #[serde(deserialize_with = "duration")]
    pub(crate) grace: Duration,
    /// How long before the deadline logged-in users are warned.
    #[serde(deserialize_with = "durations")]
    pub(crate) warn: Vec<Duration>,
    /// A command, as words, that is run once when grace begins; empty is none.
    #[serde(deserialize_with = "command")]
    pub(crate) drain: Vec<String>,
    /// How long `drain` may run.
    #[serde(deserialize_with = "duration")]
    pub(crate) drain_timeout: Duration,
    pub(crate) action: Action,
    /// A VM is never drained or ended before `watch` has seen its clock run on by itself
    /// for so long: it may not be set yet.
    #[serde(deserialize_with = "duration")]
    pub(crate) min_uptime: Duration,
}

/// Which consumers are told. The status file always is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Report {
    pub(crate) console: bool,
    pub(crate) syslog: bool,
    /// `STATUS=` for the service manager, which is told of readiness in any case.
    pub(crate) systemd: bool,
    /// `/etc/machinefeatures` and `/etc/jobfeatures`.
    pub(crate) machine_features: bool,
    /// The drop-in in `/etc/condor/config.d`.
    pub(crate) condor: bool,
    /// The message of the day.
    pub(crate) motd: bool,
    /// Warnings on the terminals of logged-in users.
    pub(crate) terminals: bool,
    /// The file for node_exporter's textfile collector.
    pub(crate) textfile: bool,
    #[serde(deserialize_with = "absolute_path")]
    pub(crate) textfile_directory: PathBuf,
    /// Stands in for what cannot be read: what is off in it, nobody has turned off.
    #[serde(skip)]
    pub(crate) is_stand_in: bool,
}

/// Somebody who wants to be told over the network that the VM is ready.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Callback {
    /// Nobody is told while this is not given.
    pub(crate) url: Option<HttpUrl>,
    pub(crate) format: CallbackFormat,
    /// Sent as `X-Auth-Token` where given, as a Heat wait condition wants it.
    pub(crate) token: Option<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            staging: Staging::default(),
            directories: vec![
                Directory {
                    path: RelativePath(PathBuf::from("condor")),
                    owner: Some(Account::Name("condor".into())),
                    group: Some(Account::Name("condor".into())),
                    mode: Mode(0o755),
                    context: None,
                },
                Directory {
                    path: RelativePath(PathBuf::from("tmp")),
                    owner: None,
                    group: None,
                    mode: Mode(0o1777),
                    context: None,
                },
            ],
            metadata: Metadata::default(),
            deadline: Deadline::default(),
            report: Report::default(),
            callback: Callback::default(),
        }
    }
}

impl Default for Staging {
    fn default() -> Self {
        Staging {
            mount_point: MountPoint(PathBuf::from("/staging")),
            devices: vec![
                Spec::Label("ephemeral0".into()),
                Spec::Label("blankpartition0".into()),
                Spec::Name(PathBuf::from("/dev/vdb")),
                Spec::Name(PathBuf::from("/dev/sdb")),
                Spec::Name(PathBuf::from("/dev/xvdb")),
                Spec::Local,
            ],
            options: vec!["nosuid".into(), "nodev".into()],
            wait: Duration::from_secs(5),
            device_timeout: Duration::from_secs(10),
            format: Format::Local,
            filesystem: Filesystem::Ext4,
            combine: Combine::First,
            context: None,
        }
    }
}

/// Where every cloud has it.
const METADATA_SERVICE: &str = "http://169.254.169.254";

impl Default for Metadata {
    fn default() -> Self {
        Metadata {
            sources: Sources::Auto,
            url: HttpUrl(METADATA_SERVICE.into()),
            azure_events: true,
            request_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(20),
            machinefeatures: None,
            jobfeatures: None,
        }
    }
}

impl Default for Deadline {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        Deadline {
            max_lifetime: Duration::ZERO,
            grace: Duration::from_secs(10 * MINUTE),
            warn: [60, 15, 5, 1]
                .map(|minutes| Duration::from_secs(minutes * MINUTE))
                .into(),
            drain: Vec::new(),
            drain_timeout: Duration::from_secs(5 * MINUTE),
            action: Action::Report,
            min_uptime: Duration::from_secs(10 * MINUTE),
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        Report {
            console: true,
            syslog: true,
            systemd: true,
            machine_features: true,
            condor: true,
            motd: true,
            terminals: true,
            textfile: true,
            textfile_directory: PathBuf::from("/var/lib/prometheus/node-exporter"),
            is_stand_in: false,
        }
    }
}

impl Config {
    /// What holds while the file is wrong: nobody is told by files that it may have
    /// turned off, and nothing is removed that it may have left on. HTCondor alone is told that
    /// nothing is staged, if it is not turned off by the look of it: else it would start jobs on
    /// the root disk.
    pub(crate) fn without_consumers(wrong: &ConfigError) -> Config {
        Config {
            report: Report {
                machine_features: false,
                condor: !wrong.turns_off_condor(),
                motd: false,
                terminals: false,
                textfile: false,
                is_stand_in: true,
                ..Report::default()
            },
            ..Config::default()
        }
    }

    /// Reads the content of a configuration file. The error names line and key.
    ///
    /// # Errors
    ///
    /// What is wrong, with line and key.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Config, ConfigError> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let line = line_of(bytes, e.valid_up_to());
            ConfigError::new(format!("line {line}: not UTF-8"))
        })?;
        Config::parse(text)
    }

    /// Likewise, its text.
    ///
    /// # Errors
    ///
    /// What is wrong, with line and key.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        // A byte order mark, as Windows editors leave it, is not worth a refusal.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        toml::from_str(text).map_err(|mut error: toml::de::Error| {
            let line = error
                .span()
                .map_or(1, |span| line_of(text.as_bytes(), span.start));
            // Without the text it names the key, in a line of its own, instead of
            // quoting the file.
            error.set_input(None);
            let said = error.to_string();
            let (message, key) = match said.rsplit_once("\nin `") {
                Some((message, key)) => (message, key.trim_end().trim_end_matches('`')),
                None => (said.as_str(), &*key_on_line(text, line).unwrap_or_default()),
            };
            let colon = if key.is_empty() { "" } else { ": " };
            let message = text::one_line(message.trim());
            let advice = advice(&message, key);
            ConfigError::new(format!("line {line}: {key}{colon}{message}{advice}"))
        })
    }
}

/// Of what cannot be done in no time.
fn time_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match duration(deserializer)? {
        Duration::ZERO => Err(de::Error::custom("it must be more than 0s")),
        limit => Ok(limit),
    }
}

fn distinct_directories<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Directory>, D::Error> {
    let directories = Vec::<Directory>::deserialize(deserializer)?;
    for (index, directory) in directories.iter().enumerate() {
        if directories[..index]
            .iter()
            .any(|d| d.path == directory.path)
        {
            return Err(de::Error::custom(format!(
                "the directory {:?} is given twice",
                directory.path.as_path()
            )));
        }
    }
    Ok(directories)
}

/// The key of a line that is no TOML, behind its section. Its value is not told: it may be a
/// secret.
fn key_on_line(text: &str, line: usize) -> Option<String> {
    let (key, _) = text.lines().nth(line - 1)?.split_once('=')?;
    let key = key.trim();
    let above = text.lines().take(line - 1);
    let header = above.filter(|line| line.starts_with('[')).last();
    let section = header.map_or("", |header| header.trim().trim_matches(['[', ']']));
    let dot = if section.is_empty() { "" } else { "." };
    let key = [section, dot, key].concat();
    is_plain(&key).then_some(key)
}

fn is_plain(key: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    key.chars().all(is_plain)
}

/// What to do, where the parser only says what it expected.
fn advice(message: &str, key: &str) -> String {
    let is_number = ["integer", "floating point"]
        .iter()
        .any(|kind| message.contains(kind));
    let advice = if message.starts_with("unknown field") {
        return message.split('`').nth(1).map_or(String::new(), belongs);
    } else if message.contains("leading zero") || is_number && key == "directory.mode" {
        "; put it in quotes: a mode is \"0755\""
    } else if message.contains("expected a string") && is_number && !key.starts_with("directory") {
        "; put it in quotes, a duration with its unit: \"5s\""
    } else if message.contains("expected a string") || message.contains("wanted string") {
        "; put it in quotes"
    } else if message.contains("must be quoted") {
        "; put it in plain quotes: \"…\""
    } else if message.contains("invalid type: map, expected a sequence") {
        "; put its name in two brackets: [[directory]]"
    } else if message.contains("expected a sequence") {
        "; it is a list: [\"…\"]"
    } else {
        ""
    };
    advice.into()
}

/// Where a key belongs that is not known where it stands: in each section that knows it.
fn belongs(key: &str) -> String {
    let headers = [
        "[staging]",
        "[[directory]]",
        "[metadata]",
        "[deadline]",
        "[report]",
        "[callback]",
    ];
    let knows = |header: &&str| {
        let error = toml::from_str::<Config>(&format!("{header}\n{key} = {{}}")).err();
        let is_unknown = |error: toml::de::Error| error.message().starts_with("unknown field");
        is_plain(key) && !error.is_some_and(is_unknown)
    };
    let sections: Vec<&str> = headers.into_iter().filter(knows).collect();
    match sections.is_empty() {
        true => String::new(),
        false => format!("; it belongs below {}", sections.join(" or ")),
    }
}

fn line_of(text: &[u8], offset: usize) -> usize {
    1 + text[..offset.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// An absolute path in one line.
fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.starts_with('/') && !text.contains(char::is_control) {
        true => Ok(text.into()),
        false => Err(de::Error::custom(format!(
            "{text:?} is not an absolute path"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn the_shipped_file_is_all_comments_and_shows_every_default() {
        let shipped = include_str!("../../packaging/vmstage.toml");
        assert_eq!(Config::parse(shipped).unwrap(), Config::default());

        let active: String = shipped
            .lines()
            .filter_map(|line| line.strip_prefix("#:"))
            .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
            .collect();
        assert!(active.contains("mount_point"));
        assert_eq!(Config::parse(&active).unwrap(), Config::default());
    }

    #[test]
    fn an_error_names_line_and_key() {
        let cases = [
            (
                "[staging]\nmountpoint = \"/s\"",
                "line 2: staging: unknown field `mountpoint`",
            ),
            ("[stagin]\n", "line 1: unknown field `stagin`"),
            ("wait = \"5s\"", "; it belongs below [staging]"),
            (
                "format = \"never\"",
                "; it belongs below [staging] or [callback]",
            ),
            ("[deadline]\nwait = \"5s\"", "; it belongs below [staging]"),
            (
                "[staging]\nowner = \"x\"",
                "; it belongs below [[directory]]",
            ),
            (
                "[deadline]\ndrain_timeout = 300",
                "put it in quotes, a duration with its unit: \"5s\"",
            ),
            (
                "[[directory]]\npath = \"x\"\nmode = 755",
                "put it in quotes: a mode is \"0755\"",
            ),
            (
                "[staging]\ndevices = \"LABEL=x\"",
                "line 2: staging.devices: invalid type: string \"LABEL=x\", expected a sequence; it is a list: [\"…\"]",
            ),
            ("[deadline]\nwarn = \"5m\"", "; it is a list: [\"…\"]"),
            (
                "[staging]\nformat = true",
                "wanted string or table; put it in quotes",
            ),
            (
                "[staging]\n\nwait = “5s”",
                "line 3: staging.wait: string values must be quoted, expected literal string; put it in plain quotes: \"…\"",
            ),
            (
                "[callback]\ntoken = 31337424242",
                "line 2: callback.token: it is of the type integer, not a text",
            ),
            (
                "[staging]\nwait = 5",
                "line 2: staging.wait: invalid type: integer `5`, expected a string; put it in quotes, a duration with its unit: \"5s\"",
            ),
            (
                "[staging]\nwait = \"5\"",
                "line 2: staging.wait: \"5\" is not a duration",
            ),
            (
                "[staging]\nwait = \"-5s\"",
                "line 2: staging.wait: \"-5s\" is not a duration",
            ),
            (
                "[staging]\nmount_point = \"staging\"",
                "line 2: staging.mount_point: \"staging\" is not an absolute path",
            ),
            (
                "[report]\ntextfile_directory = \"\"",
                "line 2: report.textfile_directory: \"\" is not an absolute path",
            ),
            (
                "[report]\ntextfile_directory = \"metrics\"",
                "line 2: report.textfile_directory: \"metrics\" is not an absolute path",
            ),
            (
                "[report]\ntextfile_directory = \"/a\\nb\"",
                "line 2: report.textfile_directory: \"/a\\nb\" is not an absolute path",
            ),
            (
                "[staging]\nmount_point = \"/a/../b\"",
                "line 2: staging.mount_point: \"/a/../b\" contains \"..\"",
            ),
            (
                "[staging]\nmount_point = \"//\"",
                "line 2: staging.mount_point: the scratch disk cannot be mounted on /",
            ),
            (
                "[staging]\nmount_point = \"/run/\"",
                "line 2: staging.mount_point: the scratch disk cannot be mounted on /run",
            ),
            (
                "[staging]\nmount_point = \"/a\\u0000b\"",
                "line 2: staging.mount_point: \"/a\\0b\" contains a NUL",
            ),
            (
                "[[directory]]\npath = \"a\\u0000b\"",
                "line 2: directory.path: \"a\\0b\" is not a path below the mount point (relative, without \"..\")",
            ),
            (
                "[staging]\ncontext = \"tmp_t\"",
                "line 2: staging.context: \"tmp_t\" is not an SELinux context, such as \"system_u:object_r:tmp_t:s0\"",
            ),
            (
                "[[directory]]\npath = \"a\"\ncontext = \"system_u:object_r\"",
                "line 3: directory.context: \"system_u:object_r\" is not an SELinux context, such as \"system_u:object_r:tmp_t:s0\"",
            ),
            (
                "[staging]\ncontext = \"system_u:object_r:tmp_t:\"",
                "line 2: staging.context: \"system_u:object_r:tmp_t:\" is not an SELinux context, such as \"system_u:object_r:tmp_t:s0\"",
            ),
            (
                "[staging]\ncontext = \"system_u::tmp_t:s0\"",
                "line 2: staging.context: \"system_u::tmp_t:s0\" is not an SELinux context, such as \"system_u:object_r:tmp_t:s0\"",
            ),
            (
                "[staging]\ncontext = \"system_u:object_r:tmp t:s0\"",
                "line 2: staging.context: \"system_u:object_r:tmp t:s0\" is not an SELinux context, such as \"system_u:object_r:tmp_t:s0\"",
            ),
            (
                "[staging]\ncontext = \"system_u:object_r:tmp_t,nosuid:s0\"",
                "line 2: staging.context: \"system_u:object_r:tmp_t,nosuid:s0\" is not an SELinux context, such as \"system_u:object_r:tmp_t:s0\"",
            ),
            (
                "[staging]\ndevices = []",
                "line 2: staging.devices: there is nowhere to look for a disk",
            ),
            (
                "[staging]\ndevices = [\n\"LABEL=a\",\n\"vdb\"]",
                "line 2: staging.devices: \"vdb\" is neither LABEL=… nor LOCAL nor a path under /dev",
            ),
            (
                "[staging]\ndevices = [\"LABEL=\"]",
                "line 2: staging.devices: the label after LABEL= is empty",
            ),
            (
                "[staging]\noptions = [\"ro\"]",
                "line 2: staging.options: the mount option \"ro\" does not go",
            ),
            (
                "[staging]\noptions = [\"nosuid,nodev\"]",
                "line 2: staging.options: \"nosuid,nodev\" is not one mount option",
            ),
            (
                "[staging]\nformat = \"always\"",
                "line 2: staging.format: unknown variant `always`, expected one of `never`, `local`, `blank`",
            ),
            (
                "[[directory]]\nmode = \"0755\"",
                "line 1: directory: missing field `path`",
            ),
            (
                "[[directory]]\npath = \"../x\"",
                "line 2: directory.path: \"../x\" is not a path below the mount point",
            ),
            (
                "[[directory]]\npath = \"/x\"",
                "line 2: directory.path: \"/x\" is not a path below the mount point",
            ),
            (
                "[[directory]]\npath = \"x\"\nmode = \"0999\"",
                "line 3: directory.mode: \"0999\" is not a mode in octal",
            ),
            (
                "[[directory]]\npath = \"x\"\nmode = \"+755\"",
                "line 3: directory.mode: \"+755\" is not a mode in octal",
            ),
            (
                "[[directory]]\npath = \"x\"\nowner = \"\"",
                "line 3: directory.owner: the name is empty",
            ),
            (
                "[[directory]]\npath = \"x\"\nowner = \"4294967295\"",
                "line 3: directory.owner: 4294967295 is too large",
            ),
            (
                "[[directory]]\npath = \"x\"\n[[directory]]\npath = \"./x/\"",
                "the directory \"x\" is given twice",
            ),
            (
                "[metadata]\nurl = \"https://x\"",
                "line 2: metadata.url: \"https://x\" does not begin with http://",
            ),
            (
                "[metadata]\nsources = \"openstack\"",
                "line 2: metadata.sources: invalid value: string \"openstack\", expected \"auto\", or a \
                 list of \"config-drive\", \"openstack\", \"ec2\", \"google\" and \"azure\"",
            ),
            (
                "[metadata]\nsources = 5",
                "line 2: metadata.sources: invalid type: integer `5`, expected \"auto\", or a list",
            ),
            (
                "[metadata]\nsources = [\"auto\"]",
                "line 2: metadata.sources: unknown variant `auto`",
            ),
            (
                "[metadata]\nsources = [\"ec2\", \"ec2\"]",
                "line 2: metadata.sources: ec2 is listed twice",
            ),
            (
                "[metadata]\nazure_event = false",
                "line 2: metadata: unknown field `azure_event`",
            ),
            (
                "[metadata]\nsources = [\"gce\"]",
                "line 2: metadata.sources: unknown variant `gce`",
            ),
            (
                "[deadline]\naction = \"halt\"",
                "line 2: deadline.action: unknown variant `halt`",
            ),
            (
                "[deadline]\ndrain = [\"condor_drain\"]",
                "line 2: deadline.drain: the command \"condor_drain\" is not an absolute path",
            ),
            ("[staging\n", "line 1: "),
            (
                "[staging]\nwait = \"5s\"\nwait = \"6s\"",
                "line 3: staging.wait: duplicate key",
            ),
            (
                "[[directory]]\npath = \"x\"\nmode = 0755",
                "line 3: directory.mode: unexpected leading zero",
            ),
            (
                "[[directory]]\npath = \"x\"\nmode = 0755",
                "put it in quotes: a mode is \"0755\"",
            ),
            (
                "[directory]\npath = \"x\"",
                "line 1: directory: invalid type: map, expected a sequence; put its name in two brackets: [[directory]]",
            ),
            ("[callback]\ntoken = hunter2", "line 2: callback.token: "),
        ];
        for (text, expected) in cases {
            let error = Config::parse(text).expect_err(text).to_string();
            assert!(
                error.contains(expected),
                "{text:?} gave {error:?}, not {expected:?}"
            );
            assert!(!error.contains('\n'), "{error:?} is not one line");
        }
    }

    #[test]
    fn a_mount_point_is_normalised_as_the_mount_table_has_it() {
        let config = Config::parse("[staging]\nmount_point = \"//srv//my staging/\"").unwrap();
        assert_eq!(
            config.staging.mount_point.as_path(),
            Path::new("/srv/my staging")
        );
    }

    #[test]
    fn a_secret_is_not_printed() {
        let config = Config::parse("[callback]\ntoken = \"hunter2\"").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
