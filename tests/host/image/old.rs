//! An image as it was before vmstage, and the program run on it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::mount::{MsFlags, mount};

use crate::common::{program, schema, scratch_file, write_program};

/// The fstab, `rc.local` and `mount_staging` of an old image.
pub const FSTAB: &str =
    "LABEL=root / ext4 defaults 0 0\n/dev/sdb /staging ext2 defaults 0 0\n# end\n";
pub const RC_LOCAL: &str = "#!/bin/sh
# This script is run last.
touch /var/lock/subsys/local
/etc/init.d/mount_staging
mkdir -p /staging/condor
chown condor:condor /staging/condor
mkdir -p /staging/tmp
chmod 1777 /staging/tmp
exit 0
";
pub const SCRIPT: &str = "#!/bin/bash\nmount /dev/sdb /staging\n";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    Systemd,
    /// Enterprise Linux 5: `/etc/init.d` is an absolute link.
    Chkconfig,
    Insserv,
    /// SLES 11: the run levels are below `/etc/init.d`.
    Suse,
    Ubuntu,
    Busybox,
}

pub const EVERY_INIT: [Init; 6] = [
    Init::Systemd,
    Init::Chkconfig,
    Init::Insserv,
    Init::Suse,
    Init::Ubuntu,
    Init::Busybox,
];

/// A directory tree, gone with this.
pub struct Image {
    directory: PathBuf,
    pub init: Init,
}

/// What a run of the program printed, and its exit code.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "exit code {}\n{}{}", self.code, self.stdout, self.stderr)
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// A program that `install --binary` takes for a vmstage of another version.
pub const OTHER_VMSTAGE: &[u8] =
    b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0 /etc/vmstage.toml";

/// The begin of a program for x86_64, which is all that is looked at.
pub const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0 old";

impl Image {
    /// With the fstab line, the `rc.local` and the script of before.
    pub fn old(init: Init) -> Image {
        Image::old_at(scratch_file(), init)
    }

    /// Likewise, in this directory.
    pub fn old_at(directory: PathBuf, init: Init) -> Image {
        let image = Image::at(directory, init);
        image.write("/etc/fstab", FSTAB);
        image.write("/bin/sh", ELF);
        let rc_local = match init {
            Init::Chkconfig => "/etc/rc.d/rc.local",
            _ => "/etc/rc.local",
        };
        image.script(rc_local, RC_LOCAL);
        image.script("/etc/init.d/mount_staging", SCRIPT);
        image
    }

    /// With what a system of this kind has, in this directory.
    pub fn at(directory: PathBuf, init: Init) -> Image {
        fs::create_dir_all(&directory).unwrap();
        let image = Image { directory, init };
        for directory in [
            "/etc",
            "/usr/sbin",
            "/sbin",
            "/bin",
            "/usr/share/doc",
            "/var/lib",
            "/dev",
            "/run",
        ] {
            image.directory(directory);
        }
        let (rc, levels) = match init {
            Init::Chkconfig => ("/etc/rc.d", "0123456"),
            Init::Insserv | Init::Ubuntu => ("/etc", "0123456S"),
            Init::Suse => ("/etc/init.d", "0123456S"),
            _ => ("/etc", ""),
        };
        for level in levels.chars() {
            image.directory(&format!("{rc}/rc{level}.d"));
        }
        match init {
            Init::Systemd => {
                image.write("/usr/lib/systemd/systemd", ELF);
                image.directory("/etc/systemd/system/multi-user.target.wants");
                image.directory("/etc/init.d");
                image.link("/sbin/init", "/usr/lib/systemd/systemd");
            }
            Init::Chkconfig => {
                image.directory("/etc/rc.d/init.d");
                image.link("/etc/init.d", "/etc/rc.d/init.d");
                image.link("/etc/rc.local", "rc.d/rc.local");
                for level in "2345".chars() {
                    image.link(&format!("{rc}/rc{level}.d/S12syslog"), "../init.d/syslog");
                    image.link(&format!("{rc}/rc{level}.d/S50condor"), "../init.d/condor");
                }
                image.write("/sbin/init", ELF);
            }
            Init::Insserv => {
                for level in "2345".chars() {
                    image.link(&format!("{rc}/rc{level}.d/S01rsyslog"), "../init.d/rsyslog");
                    image.link(&format!("{rc}/rc{level}.d/S02condor"), "../init.d/condor");
                }
                image.script(
                    "/etc/init.d/condor",
                    "#!/bin/sh\n# Required-Start: $syslog\n",
                );
                image.script(
                    "/etc/init.d/rc.local",
                    "#!/bin/sh\n# Required-Start:    $all\n",
                );
                let start = "TARGETS = rsyslog condor rc.local\nINTERACTIVE =\n\
                             condor: rsyslog\nrc.local: rsyslog condor\n";
                image.write("/etc/init.d/.depend.start", start);
                image.write("/etc/init.d/.depend.stop", "TARGETS = rsyslog sendsigs\n");
                image.write("/sbin/init", ELF);
            }
            Init::Suse => {
                image.link("/etc/rc.d", "init.d");
                image.directory("/etc/init.d/boot.d");
                for level in "35".chars() {
                    image.link(&format!("{rc}/rc{level}.d/S05syslog"), "../syslog");
                    image.link(&format!("{rc}/rc{level}.d/K02syslog"), "../syslog");
                    image.link(&format!("{rc}/rc{level}.d/S12condor"), "../condor");
                }
                image.script("/etc/init.d/condor", "#!/bin/sh\n");
                let start = "TARGETS = syslog condor cron\nINTERACTIVE =\n\
                             condor: syslog\ncron: syslog\n";
                image.write("/etc/init.d/.depend.start", start);
                image.write("/etc/init.d/.depend.stop", "TARGETS = cron condor syslog\n");
                image.write("/etc/inittab", "id:3:initdefault:\n");
                image.write("/sbin/init", ELF);
            }
            Init::Ubuntu => {
                image.link("/etc/rc3.d/S20condor", "../init.d/condor");
                image.directory("/etc/init.d");
                image.write("/etc/init/rc-sysinit.conf", "");
                image.write("/sbin/init", ELF);
            }
            Init::Busybox => {
                image.directory("/etc/init.d");
                image.write("/bin/busybox", ELF);
                image.link("/sbin/init", "/bin/busybox");
            }
        }
        image
    }

    /// Where its `rc.local` is, without links.
    pub fn rc_local(&self) -> &'static str {
        match self.init {
            Init::Chkconfig => "/etc/rc.d/rc.local",
            _ => "/etc/rc.local",
        }
    }

    /// In a mount namespace of the test's own.
    pub fn make_read_only(&self) {
        let bind = |flags| {
            let (root, none) = (self.root(), None::<&str>);
            mount(Some(root), root, none, flags, none).unwrap();
        };
        bind(MsFlags::MS_BIND);
        bind(MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
    }

    /// Where a path of the image is. No link is followed.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path.trim_start_matches('/'))
    }

    pub fn directory(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.inside(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn script(&self, path: &str, content: &str) {
        let path = self.inside(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_program(&path, content);
    }

    pub fn set_mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.inside(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn link(&self, path: &str, text: &str) {
        symlink(text, self.path(path)).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        let path = self.inside(path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    pub fn exists(&self, path: &str) -> bool {
        self.inside(path).symlink_metadata().is_ok()
    }

    /// `/etc/init.d` is an absolute link of Enterprise Linux.
    fn inside(&self, path: &str) -> PathBuf {
        match (self.init, path.strip_prefix("/etc/init.d")) {
            (Init::Chkconfig, Some(rest)) => self.path(&format!("/etc/rc.d/init.d{rest}")),
            _ => self.path(path),
        }
    }

    pub fn root(&self) -> &Path {
        &self.directory
    }

    /// The command, with `--root` already said.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .arg(name)
            .arg("--root")
            .arg(&self.directory)
            .args(arguments);
        command
    }

    /// Likewise, without its output.
    pub fn silent(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(name, arguments);
        command.stdout(Stdio::null());
        command
    }

    pub fn run(&self, name: &str, arguments: &[&str]) -> Run {
        let run: Run = self.command(name, arguments).output().unwrap().into();
        schema::look_at(&[&[name], arguments].concat(), &run.stdout);
        run
    }

    /// Installs, and all is well, but that an init that nobody knows is not told.
    #[track_caller]
    pub fn install(&self, arguments: &[&str]) -> Run {
        let is_unknown = self.init == Init::Busybox && !arguments.contains(&"--init");
        let replaces = arguments.contains(&"--replace-old");
        // There the old goes only if somebody says that vmstage is enabled by hand.
        let by_hand: &[&str] = match is_unknown && replaces {
            true => &["--init=none"],
            false => &[],
        };
        let run = self.run("install", &[arguments, by_hand].concat());
        assert_eq!(run.code, i32::from(is_unknown && !replaces), "{run}");
        run
    }

    /// Everything in it, each name with what it is, in a line.
    pub fn listing(&self) -> BTreeMap<String, String> {
        listing(&self.directory)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// Everything in a directory, each path with its mode, owner and content.
pub fn listing(directory: &Path) -> BTreeMap<String, String> {
    fn walk(base: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            let there = entry.metadata().unwrap();
            let content = if there.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if there.is_file() {
                let content = fs::read(&path).unwrap();
                format!(
                    "{} bytes: {}",
                    content.len(),
                    String::from_utf8_lossy(&content[..content.len().min(8192)])
                )
            } else {
                String::new()
            };
            let mode = there.permissions().mode();
            let owner = format!("{}:{}", there.uid(), there.gid());
            let name = path
                .strip_prefix(base)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            found.insert(format!("/{name}"), format!("{mode:o} {owner} {content}"));
            if there.is_dir() {
                walk(base, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(directory, directory, &mut found);
    found
}

/// What differs between two listings: paths alone.
pub fn difference(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let gone = before.iter().filter(|(path, _)| !after.contains_key(*path));
    let other = after
        .iter()
        .filter(|(path, what)| before.get(*path) != Some(what));
    let gone = gone.map(|(path, _)| format!("gone {path}"));
    gone.chain(other.map(|(path, _)| path.clone())).collect()
}
