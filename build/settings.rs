//! The page vmstage.toml(5). What a key does and its default are told by the file that is
//! shipped, packaging/vmstage.toml; its type, and since when it is there, by the table here.
//! Tests compare both with the types that read the file (src/documentation.rs).

use std::io;

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// A key of the configuration.
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub kind: Kind,
    /// The version that had it first.
    pub since: &'static str,
    /// What holds where it is not given; None where the file that is shipped shows its default.
    pub otherwise: Option<&'static str>,
    /// What its default was in 0.1.0, if another.
    pub was: Option<&'static str>,
}

/// What may stand behind the equals sign.
pub enum Kind {
    /// These texts.
    OneOf(&'static [&'static str]),
    Other {
        /// With the unit, where there is one.
        words: &'static str,
        /// As it may be written; and how it may not, for tests.
        right: &'static [&'static str],
        wrong: &'static str,
    },
}

const fn kind(words: &'static str, right: &'static [&'static str], wrong: &'static str) -> Kind {
    Kind::Other {
        words,
        right,
        wrong,
    }
}

const BOOLEAN: Kind = kind("true or false", &["true", "false"], "1");
const DURATION: Kind = kind("a duration", &[r#""90s""#, r#""1h 30m""#], "90");
const TIME_LIMIT: Kind = kind("a duration of more than 0s", &[r#""90s""#], r#""0s""#);
const DURATIONS: Kind = kind(
    "a list of durations",
    &[r#"["1h", "5m"]"#, "[]"],
    r#"["5"]"#,
);
const MOUNT_POINT: Kind = kind(
    "an absolute path, not of a directory of the system's own",
    &[r#""/scratch""#],
    r#""/usr""#,
);
const DIRECTORY: Kind = kind("an absolute path", &[r#""/srv/metrics""#], r#""a""#);
const BELOW_MOUNT_POINT: Kind = kind("a path below the mount point", &[r#""a/b""#], r#""../a""#);
const DEVICES: Kind = kind(
    "a list of one or more of \"LABEL=…\", a path under /dev, and \"LOCAL\"",
    &[r#"["LABEL=scratch", "/dev/vdc", "LOCAL"]"#],
    "[]",
);
const MOUNT_OPTIONS: Kind = kind("a list of options", &[r#"["noatime"]"#, "[]"], r#"["a,b"]"#);
const ACCOUNT: Kind = kind(
    "a name, or a number in quotes",
    &[r#""anna""#, r#""1000""#],
    "1000",
);
const MODE: Kind = kind(
    "permission bits in octal, in quotes",
    &[r#""2775""#],
    r#""rwx""#,
);
const CONTEXT: Kind = kind(
    "an SELinux context",
    &[r#""system_u:object_r:tmp_t:s0""#],
    r#""tmp_t""#,
);
const SOURCES: Kind = kind(
    "\"auto\", or a list of sources",
    &[
        r#""auto""#,
        r#"["config-drive", "openstack", "ec2", "google", "azure"]"#,
        "[]",
    ],
    r#"["nova"]"#,
);
const URL: Kind = kind(
    "a URL that begins with http://",
    &[r#""http://192.0.2.1:8080/x""#],
    r#""https://192.0.2.1""#,
);
const URL_OR_PATH: Kind = kind(
    "a URL that begins with http://, or an absolute path",
    &[r#""http://192.0.2.1/mf""#, r#""/srv/mf""#],
    r#""mf""#,
);
const COMMAND: Kind = kind(
    "a list of words, the first an absolute path",
    &[r#"["/bin/true", "now"]"#, "[]"],
    r#"["true"]"#,
);
const TEXT: Kind = kind("a text", &[r#""abc""#], "1");

impl Kind {
    fn words(&self) -> String {
        match self {
            Kind::Other { words, .. } => (*words).into(),
            Kind::OneOf(_) => format!("one of {}", self.right().join(", ")),
        }
    }

    /// Values that can be used.
    pub fn right(&self) -> Vec<String> {
        match self {
            Kind::Other { right, .. } => right.iter().map(ToString::to_string).collect(),
            Kind::OneOf(texts) => texts.iter().map(|text| format!("{text:?}")).collect(),
        }
    }

    /// A value that is refused.
    pub fn wrong(&self) -> &'static str {
        match self {
            Kind::Other { wrong, .. } => wrong,
            Kind::OneOf(_) => r#""another""#,
        }
    }
}

const fn key(section: &'static str, name: &'static str, kind: Kind, since: &'static str) -> Key {
    Key {
        section,
        name,
        kind,
        since,
        otherwise: None,
        was: None,
    }
}

/// In the order of the file. Who adds a key to the configuration adds its line here, and to
/// packaging/vmstage.toml.
pub static KEYS: &[Key] = &[
    key("staging", "mount_point", MOUNT_POINT, "0.1.0"),
    Key {
        was: Some(
            r#"["LABEL=ephemeral0", "LABEL=blankpartition0", "/dev/vdb", "/dev/sdb", "/dev/xvdb"]"#,
        ),
        ..key("staging", "devices", DEVICES, "0.1.0")
    },
    key("staging", "options", MOUNT_OPTIONS, "0.1.0"),
    key("staging", "wait", DURATION, "0.1.0"),
    key("staging", "device_timeout", TIME_LIMIT, "0.2.0"),
    Key {
        was: Some(r#""never""#),
        ..key(
            "staging",
            "format",
            Kind::OneOf(&["never", "local", "blank"]),
            "0.1.0",
        )
    },
    key(
        "staging",
        "filesystem",
        Kind::OneOf(&["ext2", "ext3", "ext4", "xfs", "btrfs"]),
        "0.1.0",
    ),
    key(
        "staging",
        "combine",
        Kind::OneOf(&["first", "stripe"]),
        "0.2.0",
    ),
    Key {
        otherwise: Some("the policy's"),
        ..key("staging", "context", CONTEXT, "0.2.0")
    },
    Key {
        otherwise: Some("none: it must be given"),
        ..key("directory", "path", BELOW_MOUNT_POINT, "0.1.0")
    },
    Key {
        otherwise: Some(r#""root""#),
        ..key("directory", "owner", ACCOUNT, "0.1.0")
    },
    Key {
        otherwise: Some(r#""root""#),
        ..key("directory", "group", ACCOUNT, "0.1.0")
    },
    Key {
        otherwise: Some(r#""0755""#),
        ..key("directory", "mode", MODE, "0.1.0")
    },
    Key {
        otherwise: Some("the policy's"),
        ..key("directory", "context", CONTEXT, "0.2.0")
    },
    Key {
        was: Some(r#"["config-drive", "openstack", "ec2"]"#),
        ..key("metadata", "sources", SOURCES, "0.1.0")
    },
    key("metadata", "url", URL, "0.1.0"),
    key("metadata", "azure_events", BOOLEAN, "0.2.0"),
    key("metadata", "request_timeout", DURATION, "0.1.0"),
    key("metadata", "timeout", DURATION, "0.1.0"),
    Key {
        otherwise: Some("none"),
        ..key("metadata", "machinefeatures", URL_OR_PATH, "0.1.0")
    },
    Key {
        otherwise: Some("none"),
        ..key("metadata", "jobfeatures", URL_OR_PATH, "0.1.0")
    },
    key("deadline", "max_lifetime", DURATION, "0.1.0"),
    key("deadline", "grace", DURATION, "0.1.0"),
    key("deadline", "warn", DURATIONS, "0.1.0"),
    key("deadline", "drain", COMMAND, "0.1.0"),
    key("deadline", "drain_timeout", DURATION, "0.1.0"),
    key(
        "deadline",
        "action",
        Kind::OneOf(&["report", "poweroff"]),
        "0.1.0",
    ),
    key("deadline", "min_uptime", DURATION, "0.1.0"),
    key("report", "console", BOOLEAN, "0.1.0"),
    key("report", "syslog", BOOLEAN, "0.1.0"),
    key("report", "systemd", BOOLEAN, "0.1.0"),
    key("report", "machine_features", BOOLEAN, "0.1.0"),
    key("report", "condor", BOOLEAN, "0.1.0"),
    key("report", "motd", BOOLEAN, "0.1.0"),
    key("report", "terminals", BOOLEAN, "0.1.0"),
    key("report", "textfile", BOOLEAN, "0.1.0"),
    key("report", "textfile_directory", DIRECTORY, "0.1.0"),
    Key {
        otherwise: Some("none"),
        ..key("callback", "url", URL, "0.1.0")
    },
    key(
        "callback",
        "format",
        Kind::OneOf(&["phone-home", "heat"]),
        "0.1.0",
    ),
    Key {
        otherwise: Some("none"),
        ..key("callback", "token", TEXT, "0.1.0")
    },
];

/// A section of the file that is shipped.
#[derive(Default)]
struct Section<'a> {
    /// What stands above its header.
    comment: Vec<&'a str>,
    name: &'a str,
    keys: Vec<Explained<'a>>,
    /// All that holds by default, as it is written, where a section may be there twice.
    by_default: Vec<&'a str>,
}

struct Explained<'a> {
    key: &'static Key,
    comment: Vec<&'a str>,
    /// As the file shows it: a default, or how it is written.
    value: &'a str,
}

/// Takes the file apart. A line with `#:` shows a section or a default; one with `#` and a key
/// that has no default shows how to write it; any other is a comment on what comes next.
fn sections(shipped: &str) -> Vec<Section<'_>> {
    let (_, text) = shipped.split_once("\n\n").unwrap_or_default();
    let mut sections: Vec<Section> = Vec::new();
    let mut comment = Vec::new();
    for line in text.lines() {
        let (line, is_default) = match line.strip_prefix("#:") {
            Some(shown) => (shown.trim(), true),
            None => (line.trim_start_matches('#').trim(), false),
        };
        if line.is_empty() {
            continue;
        }
        let name = line.trim_matches(['[', ']']);
        if is_default && line.starts_with('[') && sections.last().is_none_or(|it| it.name != name) {
            sections.push(Section {
                comment: std::mem::take(&mut comment),
                name,
                ..Section::default()
            });
        }
        let Some(section) = sections.last_mut() else {
            comment.push(line);
            continue;
        };
        let is_many = line.starts_with("[[") || !section.by_default.is_empty();
        if is_default && is_many {
            section.by_default.push(line);
        }
        match setting(section.name, line) {
            Some((key, _)) if section.keys.iter().any(|it| it.key.name == key.name) => {}
            Some((key, value)) if is_default || key.otherwise.is_some() => {
                section.keys.push(Explained {
                    key,
                    comment: std::mem::take(&mut comment),
                    value,
                });
            }
            _ if is_default => {}
            _ => comment.push(line),
        }
    }
    sections
}

/// The key that a line gives, and its value.
fn setting<'a>(section: &str, line: &'a str) -> Option<(&'static Key, &'a str)> {
    let (name, value) = line.split_once(" = ")?;
    let mut keys = KEYS.iter();
    let key = keys.find(|key| key.section == section && key.name == name)?;
    Some((key, value))
}

/// The page's source.
///
/// # Errors
///
/// That what was written is not UTF-8.
pub fn page(shipped: &str, version: &str) -> io::Result<String> {
    let mut page = Roff::new();
    let program = format!("vmstage {version}");
    page.control(
        "TH",
        ["vmstage.toml", "5", "", program.as_str(), "File Formats"],
    );
    page.control("SH", ["NAME"])
        .text([roman("vmstage.toml - the configuration of vmstage")]);
    page.control("SH", ["SYNOPSIS"])
        .text([italic("/etc/vmstage.toml")]);
    page.control("SH", ["DESCRIPTION"]);
    paragraph(&mut page, DESCRIPTION);
    page.control("SH", ["VALUES"]);
    for (term, words) in VALUES {
        page.control("TP", []).text([bold(*term)]);
        paragraph(&mut page, words);
    }
    page.control("SH", ["SECTIONS AND KEYS"]);
    for section in sections(shipped) {
        write_section(&section, &mut page);
    }
    page.control("SH", ["EXAMPLES"]);
    examples(&mut page, EXAMPLES);
    page.control("SH", ["SEE ALSO"]).text([
        bold("vmstage"),
        roman("(8), "),
        bold("mount"),
        roman("(8)"),
    ]);
    let mut text = Vec::new();
    page.to_writer(&mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}

fn write_section(section: &Section, page: &mut Roff) {
    let header = match section.by_default[..] {
        [] => format!("[{}]", section.name),
        [..] => format!("[[{}]]", section.name),
    };
    page.control("SS", [header.as_str()]);
    explain(page, &section.comment);
    if !section.by_default.is_empty() {
        paragraph(page, "By default:");
        literal(page, section.by_default.iter().copied());
    }
    for explained in &section.keys {
        let key = explained.key;
        page.control("TP", []).text([bold(key.name)]);
        explain(page, &explained.comment);
        let default = key.otherwise.unwrap_or(explained.value);
        let was = match key.was {
            Some(was) => format!(" In 0.1.0 the default was {was}."),
            None => String::new(),
        };
        page.control("br", []).text([roman(format!(
            "Type: {}. Default: {default}. Since {}.{was}",
            key.kind.words(),
            key.since
        ))]);
    }
}

/// Comments as running text, and what they show of the file as it is.
fn explain(page: &mut Roff, comment: &[&str]) {
    let is_example = |line: &&str| line.contains(" = [");
    for part in comment.chunk_by(|one, next| is_example(one) == is_example(next)) {
        match part.iter().all(is_example) {
            true => lines(page, part.iter().copied()),
            false => paragraph(page, &part.join(" ")),
        }
    }
}

/// What is between backticks is to be typed so.
fn paragraph(page: &mut Roff, text: &str) {
    let parts = text
        .split('`')
        .enumerate()
        .map(|(index, part)| match index % 2 {
            0 => roman(part),
            _ => bold(part),
        });
    page.text(parts.collect::<Vec<Inline>>());
}

/// What each is for, and the example.
pub(super) fn examples(page: &mut Roff, examples: &[(&str, &str)]) {
    for (index, (words, example)) in examples.iter().enumerate() {
        if index > 0 {
            page.control("PP", []);
        }
        paragraph(page, words);
        literal(page, example.lines());
    }
}

/// An example, set off from the text around it.
fn literal<'a>(page: &mut Roff, text: impl Iterator<Item = &'a str>) {
    page.control("RS", []);
    lines(page, text);
    page.control("RE", []);
}

fn lines<'a>(page: &mut Roff, text: impl Iterator<Item = &'a str>) {
    page.control("nf", []);
    for line in text {
        page.text([roman(line)]);
    }
    page.control("fi", []);
}

const DESCRIPTION: &str = "The file is in TOML. It may be missing, and so may every key: what is not \
    given has its default. A key that is not known, a value that cannot be used, or something else than \
    a regular file ends `boot` with exit code 6 and a line that names file, line and key; nothing is \
    mounted then. `watch` reads the file again at SIGHUP.";

const VALUES: &[(&str, &str)] = &[
    (
        "duration",
        "A text of numbers and units: s, m (minutes), h, d, w, and ms: \"90s\", \"1h 30m\". At \
         most 100 years.",
    ),
    (
        "SELinux context",
        "A text, user:role:type or user:role:type:level.",
    ),
    (
        "mount option",
        "A text, as `mount -o` takes it; not `ro`, `bind`, `loop` and others that would make it another mount.",
    ),
    (
        "source",
        "One of \"config-drive\", \"openstack\", \"ec2\", \"google\" and \"azure\".",
    ),
];

const EXAMPLES: &[(&str, &str)] = &[
    (
        "A VM that ends itself 36 hours after its first boot, its jobs half an hour before:",
        "\
[deadline]
max_lifetime = \"36h\"
grace = \"30m\"
drain = [\"/usr/sbin/condor_off\", \"-graceful\", \"-startd\"]
action = \"poweroff\"",
    ),
    (
        "Only disks that are called so, and one directory on them:",
        "\
[staging]
devices = [\"LABEL=scratch\"]
format = \"never\"

[[directory]]
path = \"work\"
owner = \"anna\"
mode = \"0700\"",
    ),
];
