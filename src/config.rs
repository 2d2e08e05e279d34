//! The configuration file, its defaults, and what is refused.
//!
//! This module parses and nothing else: every value that leaves it is of a type
//! that cannot hold a bad one, so that the code which uses it need not check again.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::metadata::http::shown;

/// Where `vmstage` looks when no `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/vmstage.toml";

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub staging: Staging,
    #[serde(rename = "directory", deserialize_with = "distinct_directories")]
    pub directories: Vec<Directory>,
    pub metadata: Metadata,
    pub deadline: Deadline,
    pub report: Report,
    pub callback: Callback,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Staging {
    pub mount_point: MountPoint,
    /// Where to look, in this order.
    #[serde(deserialize_with = "specs")]
    pub devices: Vec<Spec>,
    /// Options as `mount -o` takes them, one each.
    #[serde(deserialize_with = "mount_options")]
    pub options: Vec<String>,
    /// How long to wait for a disk that is not there yet.
    #[serde(deserialize_with = "duration")]
    pub wait: Duration,
    pub format: Format,
    /// What `format = "blank"` makes.
    pub filesystem: Filesystem,
}

/// One directory on the scratch disk.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    pub path: RelativePath,
    /// A name or a number; root if not given.
    #[serde(default)]
    pub owner: Option<Account>,
    /// A name or a number; the group root if not given.
    #[serde(default)]
    pub group: Option<Account>,
    #[serde(default)]
    pub mode: Mode,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metadata {
    pub sources: Vec<Source>,
    /// The metadata service's base URL, for `openstack` and `ec2`.
    pub url: HttpUrl,
    /// For one request: connecting, headers and body together.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
    /// For all that `boot` asks.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Machine Features, where the environment and the instance's `meta` name none.
    pub machinefeatures: Option<FeaturesLocation>,
    /// Job Features, likewise.
    pub jobfeatures: Option<FeaturesLocation>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadline {
    /// The image's own limit, from the instance's first boot; zero is none.
    #[serde(deserialize_with = "duration")]
    pub max_lifetime: Duration,
    /// The time before the deadline in which no new work should start.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
    /// How long before the deadline logged-in users are warned.
    #[serde(deserialize_with = "durations")]
    pub warn: Vec<Duration>,
    /// A command, as words, that is run once when grace begins; empty is none.
    #[serde(deserialize_with = "command")]
    pub drain: Vec<String>,
    /// How long `drain` may run.
    #[serde(deserialize_with = "duration")]
    pub drain_timeout: Duration,
    pub action: Action,
    /// A VM is never drained or ended before `watch` has seen its clock run on by itself
    /// for so long: it may not be set yet.
    #[serde(deserialize_with = "duration")]
    pub min_uptime: Duration,
}

/// Which consumers are told. The status file always is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Report {
    pub console: bool,
    pub syslog: bool,
    /// `STATUS=` for the service manager, which is told of readiness in any case.
    pub systemd: bool,
    /// `/etc/machinefeatures` and `/etc/jobfeatures`.
    pub machine_features: bool,
    /// The drop-in in `/etc/condor/config.d`.
    pub condor: bool,
    /// The message of the day.
    pub motd: bool,
    /// Warnings on the terminals of logged-in users.
    pub terminals: bool,
    /// The file for node_exporter's textfile collector.
    pub textfile: bool,
    pub textfile_directory: PathBuf,
}

/// Somebody who wants to be told over the network that the VM is ready.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Callback {
    /// Nobody is told while this is not given.
    pub url: Option<HttpUrl>,
    pub format: CallbackFormat,
    /// Sent as `X-Auth-Token` where given, as a Heat wait condition wants it.
    pub token: Option<Secret>,
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
                },
                Directory {
                    path: RelativePath(PathBuf::from("tmp")),
                    owner: None,
                    group: None,
                    mode: Mode(0o1777),
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
            ],
            options: vec!["nosuid".into(), "nodev".into()],
            wait: Duration::from_secs(5),
            format: Format::Never,
            filesystem: Filesystem::Ext4,
        }
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Metadata {
            sources: vec![Source::ConfigDrive, Source::Openstack, Source::Ec2],
            url: HttpUrl("http://169.254.169.254".into()),
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
        }
    }
}

/// One entry of the list of where to look.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Spec {
    /// `LABEL=…`: whatever device holds a file system with this label.
    Label(String),
    /// A path under `/dev`.
    Name(PathBuf),
}

impl TryFrom<String> for Spec {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("LABEL=") {
            Some("") => Err("the label after LABEL= is empty".into()),
            Some(label) => Ok(Spec::Label(label.into())),
            None if text.starts_with("/dev/") => Ok(Spec::Name(PathBuf::from(text))),
            None => Err(format!("{text:?} is neither LABEL=… nor a path under /dev")),
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Spec::Label(label) => write!(f, "LABEL={label}"),
            Spec::Name(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a system does not run without (Filesystem Hierarchy Standard 3.0), and where this
/// program keeps its status.
const SYSTEM_DIRECTORIES: [&str; 16] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/run",
    "/run/vmstage",
    "/sbin",
    "/sys",
    "/usr",
    "/var",
    "/var/run",
    "/var/run/vmstage",
];

/// An absolute path without `..`, and not that of a directory of the system's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MountPoint(PathBuf);

impl MountPoint {
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether a path is that of a directory of the system's own.
    pub fn is_of_the_system(path: &Path) -> bool {
        SYSTEM_DIRECTORIES.iter().any(|own| path == Path::new(own))
    }
}

impl TryFrom<String> for MountPoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // Collecting the components drops trailing and doubled slashes, which the
        // mount table does not have either.
        let path: PathBuf = Path::new(&text).components().collect();
        if !path.is_absolute() {
            return Err(format!("{text:?} is not an absolute path"));
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(format!("{text:?} contains \"..\""));
        }
        if text.contains('\0') {
            return Err(format!("{text:?} contains a NUL"));
        }
        if MountPoint::is_of_the_system(&path) {
            return Err(format!(
                "the scratch disk cannot be mounted on {}",
                path.display()
            ));
        }
        Ok(MountPoint(path))
    }
}

/// A path below the mount point: relative, without `..`, not empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RelativePath(PathBuf);

impl RelativePath {
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl TryFrom<String> for RelativePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = Path::new(&text);
        let parts: PathBuf = path
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect();
        let plain = |part: Component| matches!(part, Component::Normal(_));
        let is_one = !parts.as_os_str().is_empty() && !text.contains('\0');
        if !is_one || !parts.components().all(plain) {
            return Err(format!(
                "{text:?} is not a path below the mount point (relative, without \"..\")"
            ));
        }
        Ok(RelativePath(parts))
    }
}

/// A user or a group, by name or by number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Account {
    Name(String),
    Number(u32),
}

impl TryFrom<String> for Account {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the name is empty".into());
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            // The last number is chown(2)'s "leave as it is".
            return match text.parse() {
                Ok(number) if number != u32::MAX => Ok(Account::Number(number)),
                _ => Err(format!("{text} is too large for a user or group number")),
            };
        }
        Ok(Account::Name(text))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Account::Name(name) => write!(f, "{name}"),
            Account::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Permission bits, written in octal: `"0755"`, `"1777"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(u32);

impl Mode {
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for Mode {
    fn default() -> Self {
        Mode(0o755)
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match u32::from_str_radix(&text, 8) {
            Ok(bits) if digits && bits <= 0o7777 => Ok(Mode(bits)),
            _ => Err(format!(
                "{text:?} is not a mode in octal, such as \"0755\" or \"1777\""
            )),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// Whether a disk may be formatted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Never,
    /// A disk that is provably blank.
    Blank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Filesystem::Ext2 => "ext2",
            Filesystem::Ext3 => "ext3",
            Filesystem::Ext4 => "ext4",
            Filesystem::Xfs => "xfs",
            Filesystem::Btrfs => "btrfs",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    ConfigDrive,
    Openstack,
    Ec2,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Source::ConfigDrive => "config-drive",
            Source::Openstack => "openstack",
            Source::Ec2 => "ec2",
        })
    }
}

/// What happens at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is said, and nothing is done.
    Report,
    Poweroff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallbackFormat {
    /// The form fields of cloud-init's `phone_home` module.
    #[default]
    PhoneHome,
    /// The JSON of an OpenStack Heat wait condition.
    Heat,
}

/// A plain `http://` URL. There is no TLS in the agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(String);

impl HttpUrl {
    /// Without a trailing slash, so that a path can be put behind it.
    pub fn as_str(&self) -> &str {
        self.0.trim_end_matches('/')
    }

    pub fn as_written(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let host = text.strip_prefix("http://").ok_or_else(|| {
            let shown = shown(&text);
            format!("{shown:?} does not begin with http:// (there is no TLS here)")
        })?;
        if host.is_empty() || host.starts_with('/') || text.contains(char::is_whitespace) {
            return Err(format!("{:?} is not a URL", shown(&text)));
        }
        Ok(HttpUrl(text))
    }
}

/// Where Machine or Job Features are: a base URL or a directory (HSF-TN-2016-02).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum FeaturesLocation {
    Url(HttpUrl),
    Directory(PathBuf),
}

impl TryFrom<String> for FeaturesLocation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(FeaturesLocation::Directory(PathBuf::from(text)));
        }
        HttpUrl::try_from(text.clone())
            .map(FeaturesLocation::Url)
            .map_err(|_| {
                let shown = shown(&text);
                format!("{shown:?} is neither an http:// URL nor an absolute path")
            })
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Secret(String);

impl TryFrom<toml::Value> for Secret {
    type Error = String;

    /// The error does not show the value, which serde's would.
    fn try_from(value: toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(text) => Ok(Secret(text)),
            other => Err(format!(
                "it is of the type {}, not a text",
                other.type_str()
            )),
        }
    }
}

impl Secret {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is wrong with a configuration, in one line: file, line, key, and why.
#[derive(Debug, Clone)]
pub struct ConfigError {
    text: String,
    permission: bool,
}

impl ConfigError {
    fn new(text: String) -> ConfigError {
        ConfigError {
            text,
            permission: false,
        }
    }

    /// Whoever asks may not read the file.
    pub fn is_about_permission(&self) -> bool {
        self.permission
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// What holds while the file is wrong: nobody is told by files that it may have
    /// turned off.
    pub fn without_consumers() -> Config {
        Config {
            report: Report {
                machine_features: false,
                condor: false,
                motd: false,
                terminals: false,
                textfile: false,
                ..Report::default()
            },
            ..Config::default()
        }
    }

    /// Reads `path`, or [`DEFAULT_PATH`] where none is given. Only the latter may be
    /// missing: then the defaults hold.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read(file) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes).map_err(|e| {
                    let line = line_of(e.as_bytes(), e.utf8_error().valid_up_to());
                    ConfigError::new(format!("{}, line {line}: not UTF-8", file.display()))
                })?;
                Config::parse(&text)
                    .map_err(|wrong| ConfigError::new(format!("{}, {wrong}", file.display())))
            }
            // A link to nowhere was meant to lead somewhere.
            Err(e) if e.kind() == ErrorKind::NotFound && path.is_none() && !file.is_symlink() => {
                Ok(Config::default())
            }
            Err(e) => Err(ConfigError {
                text: format!("cannot read {}: {e}", file.display()),
                permission: e.kind() == ErrorKind::PermissionDenied,
            }),
        }
    }

    /// Reads the text of a configuration file. The error names line and key.
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
                None => (said.as_str(), key_on_line(text, line).unwrap_or_default()),
            };
            let colon = if key.is_empty() { "" } else { ": " };
            let message = one_line(message);
            let advice = advice(&message);
            ConfigError::new(format!("line {line}: {key}{colon}{message}{advice}"))
        })
    }
}

/// The key of a line that is no TOML. Its value is not told: it may be a secret.
fn key_on_line(text: &str, line: usize) -> Option<&str> {
    let (key, _) = text.lines().nth(line - 1)?.split_once('=')?;
    let key = key.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    key.chars().all(is_plain).then_some(key)
}

/// What to do, where the parser only says what it expected.
fn advice(message: &str) -> &'static str {
    if message.contains("expected a string") {
        "; put it in quotes"
    } else if message.contains("leading zero") {
        "; put it in quotes: a mode is \"0755\""
    } else if message.contains("invalid type: map, expected a sequence") {
        "; put its name in two brackets: [[directory]]"
    } else {
        ""
    }
}

fn line_of(text: &[u8], offset: usize) -> usize {
    1 + text[..offset.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

fn durations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| parse_duration(text).map_err(de::Error::custom))
        .collect()
}

/// A duration as people write it: `5s`, `10m`, `36h`, `1h 30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: String| {
        format!("{text:?} is not a duration such as \"90s\", \"10m\" or \"36h\": {why}")
    };
    match humantime::parse_duration(text) {
        Ok(duration) if duration > LONGEST => Err(wrong("it is more than 100 years".into())),
        Ok(duration) => Ok(duration),
        Err(e) => Err(wrong(e.to_string())),
    }
}

/// More than any machine will see; the clocks' arithmetic can bear it.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);

/// Options that would make it another mount than the one that is verified.
const REFUSED_OPTIONS: [&str; 14] = [
    "ro",
    "bind",
    "rbind",
    "move",
    "remount",
    "loop",
    "shared",
    "slave",
    "private",
    "unbindable",
    "rshared",
    "rslave",
    "rprivate",
    "runbindable",
];

fn specs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Spec>, D::Error> {
    let specs = Vec::<Spec>::deserialize(deserializer)?;
    match specs.is_empty() {
        true => Err(de::Error::custom("there is nowhere to look for a disk")),
        false => Ok(specs),
    }
}

fn mount_options<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let options = Vec::<String>::deserialize(deserializer)?;
    for option in &options {
        let name = option.split('=').next().unwrap_or_default();
        if name.is_empty() || option.contains([',', '\0']) || option.contains(char::is_whitespace) {
            return Err(de::Error::custom(format!(
                "{option:?} is not one mount option; give each as a text of its own"
            )));
        }
        if REFUSED_OPTIONS.contains(&name) {
            return Err(de::Error::custom(format!(
                "the mount option {option:?} does not go with a scratch disk"
            )));
        }
    }
    Ok(options)
}

fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    match words.first() {
        Some(program) if !program.starts_with('/') => Err(de::Error::custom(format!(
            "the command {program:?} is not an absolute path"
        ))),
        _ => Ok(words),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn the_shipped_file_is_all_comments_and_shows_every_default() {
        let shipped = include_str!("../packaging/vmstage.toml");
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
            (
                "[callback]\ntoken = 31337424242",
                "line 2: callback.token: it is of the type integer, not a text",
            ),
            (
                "[staging]\nwait = 5",
                "line 2: staging.wait: invalid type: integer `5`, expected a string; put it in quotes",
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
                "[staging]\ndevices = []",
                "line 2: staging.devices: there is nowhere to look for a disk",
            ),
            (
                "[staging]\ndevices = [\n\"LABEL=a\",\n\"vdb\"]",
                "line 2: staging.devices: \"vdb\" is neither LABEL=… nor a path under /dev",
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
                "line 2: staging.format: unknown variant `always`, expected `never` or `blank`",
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
                "line 3: wait: duplicate key",
            ),
            (
                "[[directory]]\npath = \"x\"\nmode = 0755",
                "line 3: mode: unexpected leading zero",
            ),
            (
                "[[directory]]\npath = \"x\"\nmode = 0755",
                "put it in quotes: a mode is \"0755\"",
            ),
            (
                "[directory]\npath = \"x\"",
                "line 1: directory: invalid type: map, expected a sequence; put its name in two brackets: [[directory]]",
            ),
            ("[callback]\ntoken = hunter2", "line 2: token: "),
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

    #[test]
    fn only_the_default_file_may_be_missing() {
        let missing = Path::new("/nonexistent/vmstage.toml");
        let error = Config::load(Some(missing)).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/vmstage.toml"), "{error}");
    }
}
