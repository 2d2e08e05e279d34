//! The values of the configuration: each of a type that cannot hold a bad one.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::url::shown;

/// One entry of the list of where to look.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Spec {
    /// `LABEL=…`: whatever device holds a file system with this label.
    Label(String),
    /// A path under `/dev`.
    Name(PathBuf),
    /// `LOCAL`: a disk that the cloud itself marks as local scratch.
    Local,
}

impl TryFrom<String> for Spec {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "LOCAL" {
            return Ok(Spec::Local);
        }
        match text.strip_prefix("LABEL=") {
            Some("") => Err("the label after LABEL= is empty".into()),
            Some(label) => Ok(Spec::Label(label.into())),
            None if text.starts_with("/dev/") => Ok(Spec::Name(PathBuf::from(text))),
            None => Err(format!(
                "{text:?} is neither LABEL=… nor LOCAL nor a path under /dev"
            )),
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Spec::Label(label) => write!(f, "LABEL={label}"),
            Spec::Name(path) => write!(f, "{}", path.display()),
            Spec::Local => write!(f, "LOCAL"),
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
pub struct MountPoint(pub(super) PathBuf);

impl MountPoint {
    /// As a path of the machine's.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether a path is that of a directory of the system's own.
    pub(crate) fn is_of_the_system(path: &Path) -> bool {
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
pub struct RelativePath(pub(super) PathBuf);

impl RelativePath {
    /// Relative to the mount point.
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
pub(crate) enum Account {
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
pub struct Mode(pub(super) u32);

impl Mode {
    /// As chmod(2) takes them.
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

/// An SELinux context as text: user, role, type and, where the policy has levels, a level.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Context(String);

impl Context {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Context {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // Ranges and categories have `-`, `:`, `.` and `,` in them: s0-s15:c0.c5,c9.
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let mut fields = text.splitn(4, ':');
        let mut name = || {
            fields
                .next()
                .is_some_and(|it| !it.is_empty() && it.chars().all(is_word))
        };
        let has_names = name() && name() && name();
        let is_level = |level: &str| {
            !level.is_empty() && level.chars().all(|c| is_word(c) || ":,".contains(c))
        };
        match has_names && fields.next().is_none_or(is_level) {
            true => Ok(Context(text)),
            false => Err(format!(
                "{text:?} is not an SELinux context, such as \"system_u:object_r:tmp_t:s0\""
            )),
        }
    }
}

/// Whether a disk may be formatted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Never,
    /// A disk that the cloud marks as local scratch and that is provably blank; and in place
    /// of a file system that keeps no owners, that a label or the cloud's mark led to, and
    /// that is empty.
    Local,
    /// Also any other disk that is provably blank.
    Blank,
}

/// What becomes of several blank disks that the cloud marks as local scratch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Combine {
    /// One of them is used.
    First,
    /// They become one, by mdadm.
    Stripe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Filesystem {
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

/// What happens at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// It is said, and nothing is done.
    Report,
    Poweroff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CallbackFormat {
    /// The form fields of cloud-init's `phone_home` module.
    #[default]
    PhoneHome,
    /// The JSON of an OpenStack Heat wait condition.
    Heat,
}

/// A plain `http://` URL. There is no TLS in the agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(pub(super) String);

impl HttpUrl {
    /// Without a trailing slash, so that a path can be put behind it.
    pub(crate) fn as_str(&self) -> &str {
        self.0.trim_end_matches('/')
    }

    pub(crate) fn as_written(&self) -> &str {
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
    /// Each key is a document below it.
    Url(HttpUrl),
    /// Each key is a file in it.
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
pub(crate) struct Secret(String);

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
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

pub(super) fn durations<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Duration>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| parse_duration(text).map_err(de::Error::custom))
        .collect()
}

/// A duration as people write it: `5s`, `10m`, `36h`, `1h 30m`.
///
/// # Errors
///
/// Why it is none, with the text.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: String| {
        format!("{text:?} is not a duration such as \"90s\", \"10m\" or \"36h\": {why}")
    };
    match humantime::parse_duration(text) {
        Ok(duration) if duration > LONGEST => Err(wrong("it is more than 100 years".into())),
        Ok(duration) => Ok(duration),
        Err(humantime::DurationError::UnknownUnit { unit, .. }) if unit.is_empty() => {
            Err(wrong(format!("it has no unit: \"{}s\"", text.trim())))
        }
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

pub(super) fn specs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Spec>, D::Error> {
    let specs = Vec::<Spec>::deserialize(deserializer)?;
    match specs.is_empty() {
        true => Err(de::Error::custom("there is nowhere to look for a disk")),
        false => Ok(specs),
    }
}

pub(super) fn mount_options<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
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

pub(super) fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    match words.first() {
        Some(program) if !program.starts_with('/') => Err(de::Error::custom(format!(
            "the command {program:?} is not an absolute path"
        ))),
        _ => Ok(words),
    }
}
