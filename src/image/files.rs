//! What vmstage puts into an image.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use super::enabling::UNIT_DIRECTORY;
use super::inflate;
use super::init::Init;
use super::root::{Kind, Root};
use crate::config::{Config, ConfigError};
use crate::host::regular_file::MIB;

pub(crate) const PROGRAM: &str = "/usr/sbin/vmstage";
pub(crate) const CONFIGURATION: &str = "/etc/vmstage.toml";
pub(crate) const DOCUMENTATION: &str = "/usr/share/doc/vmstage";

/// Lists the directories that `install` made, a line each, for `uninstall`. No package has it.
pub(crate) const DIRECTORIES: &str = "/usr/share/doc/vmstage/directories";

/// Lists what was taken out where a package has the files.
pub(crate) const REPLACED: &str = "/usr/share/doc/vmstage/replaced";

/// A file that this program carries.
pub(crate) struct File {
    directory: &'static str,
    name: &'static str,
    pub mode: u32,
    /// Where it is in the sources, or what it was called when it was made.
    source: &'static str,
    needed: Needed,
}

#[derive(PartialEq, Eq)]
enum Needed {
    Always,
    BySystemd,
    /// By those that run scripts; their directory is the init's.
    ByScripts,
}

const fn file(
    needed: Needed,
    directory: &'static str,
    name: &'static str,
    source: &'static str,
) -> File {
    File {
        directory,
        name,
        mode: 0o644,
        source,
        needed,
    }
}

const SHARE: &str = "/usr/share";

/// All but the program and its configuration.
pub(crate) static FILES: [File; 15] = [
    file(
        Needed::BySystemd,
        UNIT_DIRECTORY,
        "vmstage.service",
        "systemd/vmstage.service",
    ),
    file(
        Needed::BySystemd,
        UNIT_DIRECTORY,
        "vmstage-watch.service",
        "systemd/vmstage-watch.service",
    ),
    file(
        Needed::BySystemd,
        UNIT_DIRECTORY,
        "condor.service.d/vmstage.conf",
        DROP_IN,
    ),
    file(
        Needed::BySystemd,
        "/usr/lib/systemd/system-preset",
        "80-vmstage.preset",
        "systemd/80-vmstage.preset",
    ),
    File {
        mode: 0o755,
        ..file(Needed::ByScripts, "", "vmstage", "sysvinit/vmstage")
    },
    file(
        Needed::Always,
        DOCUMENTATION,
        "vmstage.toml",
        SHIPPED_CONFIGURATION,
    ),
    File {
        mode: 0o755,
        ..file(
            Needed::Always,
            DOCUMENTATION,
            "50-vmstage",
            "packaging/cloud-init/50-vmstage",
        )
    },
    file(
        Needed::Always,
        DOCUMENTATION,
        "rc.local.sl",
        "sysvinit/rc.local.sl",
    ),
    file(
        Needed::Always,
        DOCUMENTATION,
        "rc.local.ubuntu",
        "sysvinit/rc.local.ubuntu",
    ),
    file(
        Needed::BySystemd,
        DOCUMENTATION,
        "nss-user-lookup.conf",
        "systemd/vmstage.service.d/nss-user-lookup.conf",
    ),
    file(Needed::Always, SHARE, "man/man8/vmstage.8", "vmstage.8"),
    file(
        Needed::Always,
        SHARE,
        "man/man5/vmstage.toml.5",
        "vmstage.toml.5",
    ),
    file(
        Needed::Always,
        SHARE,
        "bash-completion/completions/vmstage",
        "vmstage.bash",
    ),
    file(
        Needed::Always,
        SHARE,
        "zsh/site-functions/_vmstage",
        "_vmstage",
    ),
    file(
        Needed::Always,
        SHARE,
        "fish/vendor_completions.d/vmstage.fish",
        "vmstage.fish",
    ),
];

const SHIPPED_CONFIGURATION: &str = "packaging/vmstage.toml";

/// The configuration that is shipped, which shows the defaults.
pub(crate) fn shipped_configuration() -> &'static [u8] {
    carried(SHIPPED_CONFIGURATION)
}

/// The content of a file that this program carries, by where build.rs had it from: each has a
/// line with its name and length before it.
fn carried(source: &str) -> &'static [u8] {
    static ALL: OnceLock<Vec<u8>> = OnceLock::new();
    let mut rest = &ALL.get_or_init(|| inflate::inflate(PACKED))[..];
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (head, after) = rest.split_at(end);
        let head = std::str::from_utf8(head).unwrap_or_default();
        let (name, length) = head.rsplit_once(' ').unwrap_or_default();
        let (content, others) = after[1..].split_at(length.parse().unwrap_or(0));
        if name == source {
            return content;
        }
        rest = others;
    }
    &[]
}

/// Whether a program carries what this one does, byte for byte.
pub(crate) fn are_carried_by(program: &[u8]) -> bool {
    let mut rest = program;
    while let Some(at) = rest.iter().position(|byte| *byte == PACKED[0]) {
        if rest[at..].starts_with(PACKED) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

pub(super) static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/carried"));

/// The name that systemd gives the unit of a mount point (systemd.unit(5), "String escaping").
pub(crate) fn mount_unit(mount_point: &Path) -> String {
    let path = mount_point.as_os_str().as_bytes();
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let mut name = String::new();
    for (place, byte) in path.iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if place == 0 => name.push_str("\\x2e"),
            b':' | b'_' | b'.' => name.push(char::from(*byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(*byte)),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name + ".mount"
}

const DROP_IN: &str = "systemd/condor.service.d/vmstage.conf";
const SHIPPED_UNIT: &str = "staging.mount";

/// A file by which vmstage is started, and which is not there or nobody can run.
pub(crate) fn missing(root: &Root, init: Init) -> Option<String> {
    let needed = FILES.iter().filter(|file| file.is_needed_by(init));
    let mut paths = needed
        .filter(|file| file.is_what_starts_it())
        .map(|file| (file.path(init), file.mode))
        .chain([(PROGRAM.into(), 0o755)]);
    let missing = paths.find(|(path, mode)| !is_there(root, path, *mode));
    missing.map(|(path, _)| path)
}

/// HTCondor's drop-in, where systemd would heed it and it is not there: condor.service does not
/// wait for the scratch disk then.
pub(crate) fn missing_drop_in(root: &Root, init: Init) -> Option<String> {
    let file = FILES.iter().find(|file| file.source == DROP_IN)?;
    let path = file.path(init);
    (init == Init::Systemd && !is_there(root, &path, file.mode)).then_some(path)
}

fn is_there(root: &Root, path: &str, mode: u32) -> bool {
    let places = [path, &path.replacen("/usr/lib/", "/lib/", 1)];
    places.iter().any(|place| match mode & 0o111 {
        0 => root.is(Kind::File, place),
        _ => root.is_executable(place),
    })
}

/// An image's configuration; the defaults where it has none.
///
/// # Errors
///
/// What is wrong with it, in one line.
pub(crate) fn configuration(root: &Root) -> Result<Config, ConfigError> {
    let path = CONFIGURATION.as_ref();
    match root.read(path, MIB) {
        Ok(Some(bytes)) => Config::from_bytes(&bytes)
            .map_err(|wrong| ConfigError::new(format!("{CONFIGURATION}, {wrong}"))),
        // A link to nowhere was meant to lead somewhere.
        Ok(None) if root.link_text(path).is_ok_and(|text| text.is_none()) => Ok(Config::default()),
        Ok(None) => Err(ConfigError::unreadable(path, &ErrorKind::NotFound.into())),
        Err(e) => Err(ConfigError::unreadable(path, &e)),
    }
}

impl File {
    /// What is in it as it is shipped.
    pub(crate) fn content(&self) -> &'static [u8] {
        carried(self.source)
    }

    /// What is in it in an image with this mount point: HTCondor's drop-in names its unit.
    pub(crate) fn content_for(&self, mount_point: &Path) -> Cow<'static, [u8]> {
        let shipped = self.content();
        let unit = mount_unit(mount_point);
        let text = String::from_utf8_lossy(shipped);
        match self.names_mount_point() && unit != SHIPPED_UNIT {
            true => Cow::Owned(text.replace(SHIPPED_UNIT, &unit).into_bytes()),
            false => Cow::Borrowed(shipped),
        }
    }

    /// Whether it is another for each mount point.
    pub(crate) fn names_mount_point(&self) -> bool {
        self.source == DROP_IN
    }

    /// Where it belongs.
    pub(crate) fn path(&self, init: Init) -> String {
        let directory = match self.needed {
            Needed::ByScripts => init.scripts(),
            _ => self.directory,
        };
        format!("{directory}/{}", self.name)
    }

    /// Whether nothing starts the program without it: one of the units, or the script.
    fn is_what_starts_it(&self) -> bool {
        self.is_heeded_by_init() && !self.names_mount_point()
    }

    /// Whether an init reads it at boot. Documentation may be left out of a system.
    pub(crate) fn is_heeded_by_init(&self) -> bool {
        self.needed == Needed::ByScripts || self.directory == UNIT_DIRECTORY
    }

    /// Whether an image with this init needs it.
    pub(crate) fn is_needed_by(&self, init: Init) -> bool {
        match self.needed {
            Needed::Always => true,
            Needed::BySystemd => init == Init::Systemd,
            Needed::ByScripts => init.runs_scripts(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_of_this_version_is_told_by_what_it_carries() {
        assert!(are_carried_by(&[b"program", PACKED, b"rest"].concat()));
        assert!(!are_carried_by(
            &[b"program", &PACKED[..PACKED.len() - 1]].concat()
        ));
        assert!(!are_carried_by(b""));
    }

    #[test]
    fn the_unit_of_a_mount_point_is_named_as_systemd_escape_names_it() {
        for (path, unit) in [
            ("/staging", "staging.mount"),
            ("/mnt/scratch-1", "mnt-scratch\\x2d1.mount"),
            ("/.hidden/a.b_c:d", "\\x2ehidden-a.b_c:d.mount"),
            ("/caf\u{e9}", "caf\\xc3\\xa9.mount"),
        ] {
            assert_eq!(mount_unit(Path::new(path)), unit, "{path}");
        }
        let drop_in = FILES.iter().find(|file| file.source == DROP_IN).unwrap();
        let text = drop_in.content_for(Path::new("/scratch"));
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("\nAfter=scratch.mount\n"), "{text}");
        let shipped = drop_in.content_for(Path::new("/staging"));
        assert!(*shipped == *drop_in.content());
    }

    #[test]
    fn what_is_carried_is_what_is_in_the_sources() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in &FILES {
            let content = file.content();
            assert!(!content.is_empty(), "{}", file.source);
            if file.source.contains('/') {
                assert!(content == fs::read(sources.join(file.source)).unwrap());
            }
        }
        assert!(carried("another").is_empty());
        let page = String::from_utf8_lossy(carried("vmstage.8"));
        assert!(page.contains(".SS \"vmstage install\""), "{page}");
    }
}
