//! What does vmstage's work outside of `rc.local`: commands of inittab, of cron and of scripts for
//! local use, lines of tmpfiles.d, and units. Only a person takes them out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Command, INITTAB, SCRIPT, What, commands};
use crate::image::init::Init;
use crate::image::root::{Kind, Root};
use crate::image::{files, units};
use crate::text::excerpt;

/// Those that mount a disk by its bare name, or make something below the mount point whatever
/// came before, each with its file.
pub(crate) fn elsewhere(root: &Root, init: Init, mount_point: &Path) -> Vec<(PathBuf, Command)> {
    let mut found = Vec::new();
    let mut add = |path: PathBuf, commands: Vec<Command>| {
        let harmful = |one: &Command| matches!(one.what, What::UsesBareName | What::MakesDirectory);
        let commands = commands.into_iter().filter(harmful);
        found.extend(commands.map(|command| (path.clone(), command)));
    };
    if !matches!(init, Init::Systemd | Init::Upstart) {
        let text = root.text(INITTAB);
        add(INITTAB.into(), of_lines(&text, mount_point, &of_inittab));
    }
    for (path, command) in tables_of_cron(root) {
        let text = root.text(&path);
        add(path, of_lines(&text, mount_point, command));
    }
    for path in local_scripts(root, init) {
        let text = root.text(&path);
        add(path, commands(text.as_bytes(), mount_point));
    }
    if init == Init::Systemd {
        for path in files_of_tmpfiles(root) {
            let text = root.text(&path);
            add(path, of_tmpfiles(&text, mount_point));
        }
        for unit in units::started(root) {
            if let Some(path) = units::file(root, &unit)
                && !waits_for_the_disk(root, &unit, mount_point)
            {
                let commands = of_unit(root, &unit, &path, mount_point);
                add(path.into(), commands);
            }
        }
    }
    found
}

/// What a line of a table has somebody run.
type CommandIn = dyn Fn(&str) -> Option<&str>;

/// The commands of a table, at their lines there.
fn of_lines(
    text: &str,
    mount_point: &Path,
    command: &dyn Fn(&str) -> Option<&str>,
) -> Vec<Command> {
    let mut found = Vec::new();
    for (before, line) in text.lines().enumerate() {
        let command = command(line).unwrap_or_default();
        let first = commands(command.as_bytes(), mount_point).into_iter().next();
        found.extend(first.map(|command| Command {
            number: before + 1,
            lines: None,
            ..command
        }));
    }
    found
}

/// inittab(5): id:runlevels:action:process
fn of_inittab(line: &str) -> Option<&str> {
    (!line.starts_with('#')).then(|| line.splitn(4, ':').nth(3))?
}

/// crontab(5), of what runs at each boot.
fn of_users_table(line: &str) -> Option<&str> {
    let command = line.trim().strip_prefix("@reboot")?;
    command.starts_with([' ', '\t']).then(|| command.trim())
}

/// Likewise, with the user before the command.
fn of_systems_table(line: &str) -> Option<&str> {
    let (_user, command) = of_users_table(line)?.split_once([' ', '\t'])?;
    Some(command)
}

fn tables_of_cron(root: &Root) -> Vec<(PathBuf, &'static CommandIn)> {
    let mut tables: Vec<(PathBuf, &'static CommandIn)> =
        vec![("/etc/crontab".into(), &of_systems_table)];
    let directories: [(&str, &'static CommandIn); 3] = [
        ("/etc/cron.d", &of_systems_table),
        ("/var/spool/cron", &of_users_table),
        ("/var/spool/cron/crontabs", &of_users_table),
    ];
    for (directory, command) in directories {
        let files = files_in(root, directory);
        tables.extend(files.map(|path| (path, command)));
    }
    tables
}

/// What may precede a command in a unit (systemd.service(5)).
const PREFIXES: [char; 6] = ['@', '-', ':', '+', '!', '|'];

/// The commands of a unit's own file that no drop-in has taken back.
fn of_unit(root: &Root, unit: &str, path: &str, mount_point: &Path) -> Vec<Command> {
    of_lines(&root.text(path), mount_point, &|line| {
        let (name, value) = line.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let is_run = matches!(name, "ExecStartPre" | "ExecStart" | "ExecStartPost");
        let counts = is_run
            && units::values(root, unit, name)
                .iter()
                .any(|one| one == value);
        counts.then(|| value.trim_start_matches(PREFIXES))
    })
}

/// Whether a unit comes after the disk, or asks what is mounted: a site's own work on it.
fn waits_for_the_disk(root: &Root, unit: &str, mount_point: &Path) -> bool {
    let names = [
        "After",
        "Requires",
        "BindsTo",
        "Requisite",
        "RequiresMountsFor",
        "ConditionPathIsMountPoint",
        "AssertPathIsMountPoint",
        "ConditionPathExists",
        "ConditionDirectoryNotEmpty",
    ];
    let mount = files::mount_unit(mount_point);
    let point = mount_point.to_string_lossy();
    let named = units::named(root, unit, &names);
    named
        .iter()
        .any(|name| *name == mount || name == OWN_UNIT || name.contains(&*point))
}

const OWN_UNIT: &str = "vmstage.service";

/// SUSE's for local use, and all of an init that nobody knows.
fn local_scripts(root: &Root, init: Init) -> Vec<PathBuf> {
    let directory = Path::new(init.scripts());
    match init {
        Init::Suse => ["boot.local", "before.local", "after.local"]
            .map(|name| directory.join(name))
            .into(),
        Init::Unknown => {
            let files = files_in(root, "/etc/init.d").chain(files_in(root, "/etc/local.d"));
            files.filter(|path| root.is_executable(path)).collect()
        }
        _ => Vec::new(),
    }
}

/// Files that somebody else has written.
fn files_in(root: &Root, directory: &str) -> impl Iterator<Item = PathBuf> {
    let names = root.names(directory.as_ref()).unwrap_or_default();
    let is_others = |name: &OsString| {
        let name = name.as_bytes();
        !name.starts_with(b".")
            && !name.starts_with(SCRIPT.as_bytes())
            && !name.ends_with(b"vmstage")
    };
    let names = names.into_iter().filter(is_others);
    let paths: Vec<PathBuf> = names.map(|name| Path::new(directory).join(name)).collect();
    paths.into_iter().filter(|path| root.is(Kind::File, path))
}

/// Those that count (tmpfiles.d(5)): of one name that of the first directory.
fn files_of_tmpfiles(root: &Root) -> Vec<PathBuf> {
    let mut files = BTreeMap::new();
    for directory in [
        "/etc/tmpfiles.d",
        "/usr/local/lib/tmpfiles.d",
        "/usr/lib/tmpfiles.d",
    ] {
        for name in root.names(directory.as_ref()).unwrap_or_default() {
            let path = Path::new(directory).join(&name);
            if name.as_bytes().ends_with(b".conf") {
                files.entry(name).or_insert(path);
            }
        }
    }
    files.into_values().collect()
}

/// Lines that make something below the mount point, before vmstage has mounted anything.
fn of_tmpfiles(text: &str, mount_point: &Path) -> Vec<Command> {
    let makes = |line: &&str| {
        let mut fields = line.split_whitespace();
        let kind = fields.next().unwrap_or_default();
        let path = Path::new(fields.next().unwrap_or_default().trim_matches(['"', '\'']));
        // Others only change or remove what is there.
        kind.starts_with(['d', 'D', 'v', 'q', 'Q', 'f', 'F', 'p', 'L', 'c', 'b', 'C'])
            && path.starts_with(mount_point)
            && path != mount_point
    };
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| makes(line));
    lines
        .map(|(before, line)| Command {
            number: before + 1,
            text: excerpt(line.trim()),
            what: What::MakesDirectory,
            lines: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_has_run_is_told_from_what_it_has_run_at_other_times() {
        for (line, user, system) in [
            ("@reboot mkdir /x", Some("mkdir /x"), Some("/x")),
            (
                "\t@reboot root mkdir /x ",
                Some("root mkdir /x"),
                Some("mkdir /x"),
            ),
            ("#@reboot root mkdir /x", None, None),
            ("@rebooted root mkdir /x", None, None),
            ("@daily root mkdir /x", None, None),
            ("* * * * * root mkdir /x", None, None),
            ("@reboot", None, None),
            ("MAILTO=root", None, None),
        ] {
            assert_eq!(
                (of_users_table(line), of_systems_table(line)),
                (user, system),
                "{line}"
            );
        }
    }

    #[test]
    fn what_tmpfiles_makes_below_the_mount_point_is_found() {
        for (line, is_found) in [
            ("d /staging/condor 0755 condor condor -", true),
            ("d! \"/staging/tmp\" 1777 root root -", true),
            ("  D\t/staging/tmp", true),
            ("L+ /staging/x - - - - /srv", true),
            ("f /staging/x", true),
            // The mount point itself does no harm.
            ("d /staging 0755 root root -", false),
            ("d /stagingarea/x", false),
            ("z /staging/tmp 1777", false),
            ("r /staging/tmp/x", false),
            ("x /staging/tmp", false),
            ("#d /staging/tmp", false),
            ("", false),
        ] {
            let found = of_tmpfiles(&format!("# x\n{line}\n"), Path::new("/staging"));
            let numbers: Vec<usize> = found.iter().map(|one| one.number).collect();
            assert_eq!(numbers, if is_found { &[2][..] } else { &[] }, "{line}");
        }
    }
}
