//! What did vmstage's work before: a line of fstab, a script, and lines of `rc.local`.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::init::Init;
use super::root::{Kind, Root};
use super::shell::{self, Simple};
use crate::host::fstab::{FSTAB, Fstab, Line};
use crate::host::regular_file::MIB;
use crate::text::excerpt;

/// The script that looked for the disk, in `/etc/init.d`.
pub(crate) const SCRIPT: &str = "mount_staging";

/// Where a system keeps commands of its own for the end of the boot. Only one of them is
/// there, or links lead to one.
pub(crate) const RC_LOCAL: [&str; 2] = ["/etc/rc.d/rc.local", "/etc/rc.local"];

/// An image's fstab and its bytes; no lines where there is none.
///
/// # Errors
///
/// That it cannot be read, or is no regular file of at most 1 MiB.
pub(crate) fn fstab(root: &Root) -> Result<(Fstab, Vec<u8>)> {
    let path = Path::new(FSTAB);
    let content = root.read(path, MIB);
    let content = content
        .with_context(|| root.cannot("read", path))?
        .unwrap_or_default();
    Ok((Fstab::parse(&content), content))
}

/// How a line of fstab finds what belongs on the mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// By a name that is another disk's on another machine (`/dev/sdb`).
    ByName,
    /// By what is on the disk (`LABEL=`), but a boot waits for it and fails without.
    ByTag,
    /// By what is on the disk, and nothing waits for it.
    ByTagWithoutHarm,
    /// cloud-init wrote it (`comment=cloudconfig`), on this machine or the one that was saved.
    ByCloudInit,
    /// No disk: a directory (bind), a server, tmpfs.
    NoDisk,
}

/// The lines that mount something on the mount point.
pub(crate) fn fstab_lines<'a>(
    fstab: &'a Fstab,
    mount_point: &'a Path,
) -> impl Iterator<Item = (&'a Line, Found)> {
    let lines = fstab
        .lines
        .iter()
        .filter(move |line| line.mount_point == mount_point);
    lines.map(|line| (line, found(line)))
}

fn found(line: &Line) -> Found {
    let source = line.source.as_bytes();
    let has = |option: &str| line.options.iter().any(|given| given == option);
    let tags: [&[u8]; 5] = [
        b"LABEL=",
        b"UUID=",
        b"PARTUUID=",
        b"PARTLABEL=",
        b"/dev/disk/by-",
    ];
    if line.is_of_cloud_init() {
        Found::ByCloudInit
    } else if tags.iter().any(|tag| source.starts_with(tag)) {
        match has("nofail") || has("noauto") {
            true => Found::ByTagWithoutHarm,
            false => Found::ByTag,
        }
    } else if source.starts_with(b"/dev/") {
        Found::ByName
    } else {
        Found::NoDisk
    }
}

/// A file without these lines, counted from 1; every other byte stays.
pub(crate) fn without_lines(content: &[u8], numbers: &[usize]) -> Vec<u8> {
    let lines = content.split_inclusive(|byte| *byte == b'\n').enumerate();
    let kept = lines.filter(|(before, _)| !numbers.contains(&(before + 1)));
    kept.map(|(_, line)| line).collect::<Vec<_>>().concat()
}

/// A file of [`RC_LOCAL`], which links may have led to.
pub(crate) struct RcLocal {
    pub path: PathBuf,
    pub content: Vec<u8>,
    /// Else nothing runs it: neither systemd's rc-local.service, nor Debian's script of that
    /// name, nor Red Hat's rc, to which it is a service (S99local).
    pub is_executable: bool,
    pub commands: Vec<Command>,
}

/// Each of them that is there, or why it cannot be read.
pub(crate) fn rc_local(root: &Root, mount_point: &Path) -> Vec<Result<RcLocal>> {
    let mut seen = Vec::new();
    let read = |path: &Path| -> Result<Option<RcLocal>> {
        let cannot = || root.cannot("read", path);
        let Some(content) = root.read(path, MIB).with_context(cannot)? else {
            return Ok(None);
        };
        let real = root.real_path(path).with_context(cannot)?;
        let entry = root.entry(path).with_context(cannot)?;
        if seen.contains(&real) {
            return Ok(None);
        }
        seen.push(real.clone());
        Ok(Some(RcLocal {
            path: real,
            is_executable: entry.is_some_and(|entry| entry.mode & 0o111 != 0),
            commands: commands(&content, mount_point),
            content,
        }))
    };
    let files = RC_LOCAL.map(Path::new).into_iter().map(read);
    files.filter_map(Result::transpose).collect()
}

/// Where commands start vmstage at boot: those of an `rc.local` that is run, of inittab, and of
/// the scripts of an init that nobody knows.
pub(crate) fn start_by_commands(
    root: &Root,
    init: Init,
    mount_point: &Path,
) -> Option<(PathBuf, usize)> {
    let start = |commands: &[Command]| {
        let first = commands.iter().find(|c| c.what == What::Vmstage)?;
        Some(first.number)
    };
    let scripts = rc_local(root, mount_point).into_iter().flatten();
    let scripts = scripts.filter(|script| script.is_executable);
    let mut of_rc_local = scripts.filter_map(|one| Some((one.path, start(&one.commands)?)));
    let directory = Path::new("/etc/init.d");
    let names = match init {
        Init::Unknown => root.names(directory).unwrap_or_default(),
        _ => Vec::new(),
    };
    // vmstage's own script starts it where that is started.
    let is_other = |name: &&OsString| !name.as_bytes().ends_with(b"vmstage");
    let others = names
        .iter()
        .filter(is_other)
        .map(|name| directory.join(name));
    let mut others = others.chain([PathBuf::from("/etc/inittab")]);
    of_rc_local.next().or_else(|| {
        others.find_map(|path| {
            let commands = commands(root.text(&path).as_bytes(), mount_point);
            Some((path, start(&commands)?))
        })
    })
}

/// Where else something may run [`SCRIPT`], or waits for it.
const CALLERS: [&str; 11] = [
    "/etc/inittab",
    "/etc/rc.d/rc.sysinit",
    "/etc/crontab",
    "/etc/cron.d",
    "/var/spool/cron",
    "/var/spool/cron/crontabs",
    "/etc/init",
    "/etc/init.d",
    "/etc/rc.d/init.d",
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
];

/// What runs [`SCRIPT`], or may.
pub(crate) struct Caller {
    pub path: PathBuf,
    pub number: usize,
    pub text: String,
}

/// What nobody but a person can take out, and what needs the script.
pub(crate) fn callers_that_stay(root: &Root, scripts: &[RcLocal]) -> Vec<Caller> {
    let mut callers = Vec::new();
    for script in scripts {
        let commands = script.commands.iter();
        let stay = commands.filter(|one| one.what == What::RunsScript && one.lines.is_none());
        callers.extend(stay.map(|one| Caller {
            path: script.path.clone(),
            number: one.number,
            text: one.text.clone(),
        }));
    }
    callers.extend(callers_elsewhere(root));
    callers
}

fn callers_elsewhere(root: &Root) -> Vec<Caller> {
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut callers = Vec::new();
    for place in CALLERS.map(Path::new) {
        let mut names = root.names(place).unwrap_or_default();
        // The file itself, where it is no directory.
        names.push(OsString::new());
        for name in names {
            // Not the script, its copies, and what insserv has written.
            let is_own = name.as_bytes().starts_with(SCRIPT.as_bytes()) && !is_unit(&name);
            if is_own || name.as_bytes().starts_with(b".") {
                continue;
            }
            let path = if name.is_empty() {
                place.into()
            } else {
                place.join(name)
            };
            if let Ok(path) = root.real_path(&path)
                && root.is(Kind::File, &path)
                && !seen.contains(&path)
            {
                callers.extend(caller_in(root, &path));
                seen.push(path);
            }
        }
    }
    callers
}

fn caller_in(root: &Root, path: &Path) -> Option<Caller> {
    if path.file_name() == Some(SCRIPT.as_ref()) {
        return None;
    }
    let content = root.text(path);
    for (before, line) in content.lines().enumerate() {
        let line = line.trim();
        // A script that waits for it says so in a comment.
        let is_comment = line.starts_with('#') && !line.starts_with("# Required-St");
        if line.contains(SCRIPT) && !is_comment {
            return Some(Caller {
                path: path.into(),
                number: before + 1,
                text: excerpt(line),
            });
        }
    }
    None
}

fn is_unit(name: &OsString) -> bool {
    Path::new(name).extension() == Some("service".as_ref())
}

/// A command of a script that has to do with the scratch disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// Counted from 1.
    pub number: usize,
    /// Without the blanks around it.
    pub text: String,
    pub what: What,
    /// Whole lines that can be taken out and nothing else is another: one of those that images
    /// had, which runs [`SCRIPT`] or makes `condor` or `tmp` on the mount point, or several.
    pub lines: Option<RangeInclusive<usize>>,
}

/// The first counts, where there are several on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// Runs `vmstage boot`: the snippet that the documentation has.
    Vmstage,
    /// Runs [`SCRIPT`], or asks for it.
    RunsScript,
    /// Makes something below the mount point where nothing is mounted on it.
    MakesDirectory,
    /// Only under some condition.
    Conditional,
}

/// The commands of a shell script that have to do with the scratch disk, as far as they run: at
/// most one a line.
pub(crate) fn commands(script: &[u8], mount_point: &Path) -> Vec<Command> {
    let text = String::from_utf8_lossy(script);
    let lines: Vec<&str> = text.lines().collect();
    let mut commands: Vec<Command> = Vec::new();
    for statement in shell::statements(&text, &|command| outcome(command, mount_point)) {
        let roles = || statement.commands.iter().map(|one| role(one, mount_point));
        let is_old = |role| matches!(role, Some(Role::RunsScript | Role::MakesSeed));
        let is_certain = statement.is_simple && roles().all(is_old);
        for (command, role) in statement.commands.iter().zip(roles()) {
            let what = match (role, command.runs) {
                (None, _) | (Some(Role::RunsVmstage), Some(false)) => continue,
                (Some(Role::RunsVmstage), _) => What::Vmstage,
                (Some(Role::RunsScript | Role::NamesScript), _) => What::RunsScript,
                (Some(_), Some(true)) => What::MakesDirectory,
                (Some(_), _) => What::Conditional,
            };
            match commands.last_mut() {
                Some(before) if before.number == command.line => {
                    before.what = before.what.min(what)
                }
                _ => commands.push(Command {
                    number: command.line,
                    text: excerpt(lines.get(command.line - 1).unwrap_or(&"").trim()),
                    what,
                    lines: is_certain.then(|| statement.lines.clone()),
                }),
            }
        }
    }
    commands
}

/// What a command does about the scratch disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    RunsVmstage,
    /// And nothing else.
    RunsScript,
    NamesScript,
    /// Of the directories that images had.
    MakesSeed,
    MakesOther,
}

/// Those that run another one, whose words follow.
const WRAPPERS: [&str; 10] = [
    "sudo", "command", "nohup", "env", "time", "nice", "ionice", "exec", "busybox", "setsid",
];

const MAKE: [&str; 4] = ["mkdir", "chown", "chmod", "install"];

fn role(command: &Simple, mount_point: &Path) -> Option<Role> {
    let words = &command.words;
    let is_called = |word: &String, called: &str| name(word) == Some(called);
    let runs_vmstage = |pair: &[String]| is_called(&pair[0], "vmstage") && pair[1] == "boot";
    if words.windows(2).any(runs_vmstage) {
        return Some(Role::RunsVmstage);
    }
    let first = words.first()?;
    let program = name(first).unwrap_or(first);
    let arguments = &words[1..];
    let shell = ["sh", "bash", "dash", "ksh", "su", "runuser"].contains(&program);
    if let (true, Some(at)) = (shell, arguments.iter().position(|word| word == "-c")) {
        return role_of_text(arguments.get(at + 1)?, mount_point);
    }
    let runs_script = match program {
        SCRIPT => true,
        "sh" | "bash" | "service" => arguments
            .first()
            .is_some_and(|word| is_called(word, SCRIPT)),
        _ => false,
    };
    if runs_script {
        return Some(Role::RunsScript);
    }
    if words.iter().any(|word| word.contains(SCRIPT)) && !says(program) {
        return Some(Role::NamesScript);
    }
    let makes = |word: &String| name(word).is_some_and(|name| MAKE.contains(&name));
    let is_plain = MAKE.contains(&program);
    let is_wrapped = WRAPPERS.contains(&program) && arguments.iter().any(makes);
    if !is_plain && !is_wrapped {
        return None;
    }
    let path = |word: &String| Path::new(&command.directory).join(word);
    let is_below = |word: &&String| !word.starts_with('-') && path(word).starts_with(mount_point);
    let mut below = arguments.iter().filter(is_below).peekable();
    below.peek()?;
    let seed = ["", "condor", "tmp"].map(|name| mount_point.join(name));
    let is_seed = |word: &String| word.starts_with('/') && seed.contains(&path(word));
    match is_plain && program != "install" && below.all(is_seed) {
        true => Some(Role::MakesSeed),
        false => Some(Role::MakesOther),
    }
}

/// What another shell is given, which does nothing that could be taken out by itself.
fn role_of_text(text: &str, mount_point: &Path) -> Option<Role> {
    let what = commands(text.as_bytes(), mount_point);
    let what = what.iter().map(|command| command.what).min()?;
    Some(match what {
        What::Vmstage => Role::RunsVmstage,
        What::RunsScript => Role::NamesScript,
        What::MakesDirectory => Role::MakesOther,
        What::Conditional => return None,
    })
}

/// Whether a program only prints its words.
fn says(program: &str) -> bool {
    ["echo", "printf", "logger"].contains(&program)
}

/// What a command comes to where nothing is mounted on the mount point, which is there, and
/// nothing has been made on it.
fn outcome(command: &Simple, mount_point: &Path) -> Option<bool> {
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let program = name(words.first()?)?;
    let arguments = &words[1..];
    let below = |word: &&str| {
        Path::new(&command.directory)
            .join(word)
            .starts_with(mount_point)
    };
    match program {
        "true" | ":" => Some(true),
        "false" => Some(false),
        "mountpoint" if arguments.iter().any(below) => Some(false),
        "grep"
            if words
                .iter()
                .any(|word| ["/proc/mounts", "/etc/mtab"].contains(word)) =>
        {
            let point = mount_point.to_string_lossy();
            let is_asked_for = arguments.iter().any(|word| word.contains(&*point));
            is_asked_for.then_some(false)
        }
        "test" | "[" | "[[" => {
            let is_end = |word: &&str| *word == "]" || *word == "]]";
            let inner: Vec<&str> = arguments.iter().copied().filter(|w| !is_end(w)).collect();
            let (is_not, inner) = match inner.split_first() {
                Some((&"!", inner)) => (true, inner),
                _ => (false, &inner[..]),
            };
            match inner {
                ["-d" | "-e" | "-r" | "-w" | "-x", path] if below(path) => {
                    let is_there = Path::new(path) == mount_point;
                    Some(is_there != is_not)
                }
                _ => None,
            }
        }
        "cd" | "mkdir" | "chown" | "chmod" | "install" if arguments.iter().any(below) => Some(true),
        program if says(program) => Some(true),
        _ => None,
    }
}

/// The last component of a path.
fn name(path: &str) -> Option<&str> {
    Path::new(path).file_name()?.to_str()
}

/// Where the script is, below the directory of scripts.
pub(crate) fn script(scripts: &str) -> PathBuf {
    Path::new(scripts).join(SCRIPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staging() -> &'static Path {
        Path::new("/staging")
    }

    #[test]
    fn a_line_for_the_mount_point_is_told_by_what_it_goes_by() {
        let text = "\
/dev/sdb /staging ext2 defaults 0 0
LABEL=ephemeral0 /staging auto defaults 0 0
LABEL=ephemeral0 /staging auto defaults,nofail 0 0
/dev/vdb /staging auto defaults,nofail,comment=cloudconfig 0 2
/dev/vdb /mnt auto defaults 0 0
/dev/disk/by-label/x /staging auto nofail 0 0
/var/scratch /staging none bind 0 0
";
        let fstab = Fstab::parse(text.as_bytes());
        let found: Vec<_> = fstab_lines(&fstab, staging())
            .map(|(line, found)| (line.number, found))
            .collect();
        assert_eq!(
            found,
            [
                (1, Found::ByName),
                (2, Found::ByTag),
                (3, Found::ByTagWithoutHarm),
                (4, Found::ByCloudInit),
                (6, Found::ByTagWithoutHarm),
                (7, Found::NoDisk),
            ]
        );
        let kept = without_lines(text.as_bytes(), &[1, 2, 3, 4, 6, 7]);
        assert_eq!(kept, b"/dev/vdb /mnt auto defaults 0 0\n");
    }

    #[test]
    fn the_last_line_needs_no_end_and_bytes_stay() {
        assert_eq!(without_lines(b"a\xff\r\n\nb", &[2]), b"a\xff\r\nb");
        assert_eq!(without_lines(b"a\nb", &[2]), b"a\n");
    }

    /// The line, what it does, and which lines would be taken out, as `1-3`; nothing for none.
    #[track_caller]
    fn assert_found(script: &str, expected: &[(usize, What, &str)]) {
        let found = commands(script.as_bytes(), staging());
        let taken = found.iter().map(|command| match &command.lines {
            Some(lines) => format!("{}-{}", lines.start(), lines.end()),
            None => String::new(),
        });
        let taken: Vec<String> = taken.collect();
        let found = found.iter().zip(&taken);
        let found: Vec<_> = found
            .map(|(c, taken)| (c.number, c.what, taken.as_str()))
            .collect();
        assert_eq!(found, expected, "{script}");
    }

    #[test]
    fn commands_of_rc_local_are_told_apart() {
        use What::{Conditional, MakesDirectory, RunsScript, Vmstage};
        // Of each, whether the line can be taken out.
        let cases: &[(&str, Option<(What, bool)>)] = &[
            ("/etc/init.d/mount_staging", Some((RunsScript, true))),
            ("/etc/init.d/mount_staging start", Some((RunsScript, true))),
            ("bash /etc/init.d/mount_staging", Some((RunsScript, true))),
            ("service mount_staging start", Some((RunsScript, true))),
            (
                "\"/etc/init.d/mount_staging\" # old",
                Some((RunsScript, true)),
            ),
            // What would be another without it.
            ("mount_staging || exit 0", Some((RunsScript, false))),
            (
                "mount_staging start || logger failed",
                Some((RunsScript, false)),
            ),
            ("if mount_staging; then echo; fi", Some((RunsScript, false))),
            ("mount_staging && touch /x", Some((RunsScript, false))),
            ("! mount_staging", Some((RunsScript, false))),
            ("mount_staging &", Some((RunsScript, false))),
            ("mount_staging >/var/log/x 2>&1", Some((RunsScript, false))),
            ("X=1 mount_staging", Some((RunsScript, false))),
            ("su -c mount_staging", Some((RunsScript, false))),
            (
                "[ -x /etc/init.d/mount_staging ] && true",
                Some((RunsScript, false)),
            ),
            ("x=$(mount_staging)", Some((RunsScript, false))),
            (". /etc/init.d/mount_staging", Some((RunsScript, false))),
            (
                "mount_staging; mkdir /staging/tmp",
                Some((RunsScript, true)),
            ),
            ("mount_staging; echo done", Some((RunsScript, false))),
            ("echo mount_staging", None),
            ("mkdir -p /staging/condor", Some((MakesDirectory, true))),
            ("  /bin/mkdir /staging/tmp/", Some((MakesDirectory, true))),
            ("mkdir -p /staging", Some((MakesDirectory, true))),
            ("mkdir -p \"/staging/tmp\"", Some((MakesDirectory, true))),
            (
                "mkdir -p '/staging/tmp' /staging/\"condor\"",
                Some((MakesDirectory, true)),
            ),
            (
                "mkdir -p /staging/tmp; mkdir /staging/condor",
                Some((MakesDirectory, true)),
            ),
            (
                "chown condor:condor /staging/condor",
                Some((MakesDirectory, true)),
            ),
            (
                "chown -R condor.condor /staging/condor",
                Some((MakesDirectory, true)),
            ),
            ("chmod ugo+rwxt /staging/tmp", Some((MakesDirectory, true))),
            (
                "mkdir -p /staging/condor /staging/results",
                Some((MakesDirectory, false)),
            ),
            ("mkdir -p /staging/results", Some((MakesDirectory, false))),
            (
                "mkdir -p /staging/{condor,tmp}",
                Some((MakesDirectory, false)),
            ),
            ("install -d /staging/condor", Some((MakesDirectory, false))),
            ("sudo mkdir /staging/condor", Some((MakesDirectory, false))),
            (
                "sh -c 'mkdir /staging/condor'",
                Some((MakesDirectory, false)),
            ),
            (
                "mkdir -p /staging/tmp || true",
                Some((MakesDirectory, false)),
            ),
            (
                "mkdir -p /staging/condor; echo done",
                Some((MakesDirectory, false)),
            ),
            (
                "mkdir /staging/tmp 2>/dev/null",
                Some((MakesDirectory, false)),
            ),
            (
                "cd /staging && mkdir condor tmp",
                Some((MakesDirectory, false)),
            ),
            (
                "cd /staging; mkdir -p condor",
                Some((MakesDirectory, false)),
            ),
            ("(cd /staging; ls); mkdir condor", None),
            ("D=/staging; mkdir ${D}/tmp", Some((MakesDirectory, false))),
            (
                "[ -d /staging/tmp ] || mkdir /staging/tmp",
                Some((MakesDirectory, false)),
            ),
            (
                "test -d \"/staging/tmp\" || mkdir /staging/tmp",
                Some((MakesDirectory, false)),
            ),
            (
                "[ ! -d /staging/tmp ] && mkdir /staging/tmp",
                Some((MakesDirectory, false)),
            ),
            (
                "[ -d /staging ] && mkdir /staging/tmp",
                Some((MakesDirectory, false)),
            ),
            (
                "mountpoint -q /staging || mkdir /staging/x",
                Some((MakesDirectory, false)),
            ),
            (
                "mountpoint -q /staging && mkdir /staging/x",
                Some((Conditional, false)),
            ),
            (
                "[ -d /staging/tmp ] && chmod 1777 /staging/tmp",
                Some((Conditional, false)),
            ),
            (
                "mount /staging && mkdir -p /staging/condor",
                Some((Conditional, false)),
            ),
            (
                "mount | grep -q /staging && mkdir /staging/x",
                Some((Conditional, false)),
            ),
            (
                "/usr/sbin/vmstage boot || vmstage=$?",
                Some((Vmstage, false)),
            ),
            (
                "[ -x /usr/sbin/vmstage ] && vmstage boot",
                Some((Vmstage, false)),
            ),
            ("setsid /usr/sbin/vmstage watch </dev/null &", None),
            ("echo '\nvmstage boot'", None),
            ("# mkdir -p /staging/condor", None),
            ("true # ; mkdir -p /staging/condor", None),
            ("mkdir -p /stagingarea/condor", None),
            ("echo /staging", None),
            ("touch /var/lock/subsys/local", None),
        ];
        for (line, expected) in cases {
            let found = commands(line.as_bytes(), staging());
            let found = found.first().map(|c| (c.what, c.lines.is_some()));
            assert_eq!(found, *expected, "{line}");
        }
    }

    #[test]
    fn loops_are_followed_and_simple_ones_are_whole_lines() {
        use What::{Conditional, MakesDirectory};
        let one = "for d in condor tmp; do mkdir -p /staging/$d; done\n";
        assert_found(one, &[(1, MakesDirectory, "1-1")]);
        let lines = "date\nfor d in condor tmp\ndo\n  mkdir -p \"/staging/${d}\"\n\
                     chmod 1777 /staging/$d # all\ndone\n";
        let expected = [(4, MakesDirectory, "2-6"), (5, MakesDirectory, "2-6")];
        assert_found(lines, &expected);
        for (script, what) in [
            (
                "for d in condor results; do mkdir /staging/$d; done",
                MakesDirectory,
            ),
            (
                "for d in condor; do mkdir /staging/$d; echo $d; done",
                MakesDirectory,
            ),
            (
                "for d in condor; do mkdir /staging/$d; done | sort",
                MakesDirectory,
            ),
            (
                "for d in condor; do mkdir /staging/$d; done >/x",
                MakesDirectory,
            ),
            (
                "D=\"condor tmp\"\nfor d in /staging/tmp $D; do mkdir $d; done",
                MakesDirectory,
            ),
            ("for d in $(cat x); do mkdir /staging/$d; done", Conditional),
            ("while true; do mkdir /staging/tmp; done", Conditional),
            (
                "for a in 1; do for d in tmp; do mkdir /staging/$d; done; done",
                MakesDirectory,
            ),
        ] {
            let found = commands(script.as_bytes(), staging());
            assert_eq!((found[0].what, &found[0].lines), (what, &None), "{script}");
        }
    }

    #[test]
    fn a_command_of_several_lines_goes_whole_or_stays() {
        use What::{Conditional, MakesDirectory, RunsScript};
        type Case<'a> = (&'a str, &'a [(usize, What, &'a str)]);
        let cases: &[Case] = &[
            (
                "mkdir -p /staging/condor \\\n    /staging/tmp\n",
                &[(1, MakesDirectory, "1-2")],
            ),
            (
                "grep -q /staging /proc/mounts &&\n    mkdir -p /staging/tmp\necho booted\n",
                &[(2, Conditional, "")],
            ),
            (
                "cat >/etc/x <<EOF\nmkdir -p /staging/tmp\nEOF\nmkdir -p /staging/condor\n",
                &[(4, MakesDirectory, "4-4")],
            ),
            (
                "cat <<-'END' | sh\nmkdir /staging/tmp\n\tEND\nmkdir /staging/tmp\n",
                &[(4, MakesDirectory, "4-4")],
            ),
            (
                "x=$((1<<2))\nmkdir -p /staging/tmp\n",
                &[(2, MakesDirectory, "2-2")],
            ),
            (
                "mount_staging ||\n\n  exit 0\nmkdir -p /staging/tmp\n",
                &[(1, RunsScript, ""), (4, MakesDirectory, "4-4")],
            ),
            // It is asked how the command ended.
            (
                "mount_staging\nif [ $? -ne 0 ]; then exit; fi\n",
                &[(1, RunsScript, "")],
            ),
            // Not understood to its end.
            ("mount_staging\nif true; then\n", &[(1, RunsScript, "")]),
            ("mount_staging\necho \"\n", &[(1, RunsScript, "")]),
            ("mount_staging\ncat <<EOF\n", &[(1, RunsScript, "")]),
        ];
        for (script, expected) in cases {
            assert_found(script, expected);
        }
    }

    #[test]
    fn what_is_within_a_condition_stays() {
        let script = "\
#!/bin/sh -e
/etc/init.d/mount_staging
if grep -q /staging /proc/mounts; then
    mkdir -p /staging/condor
else
    mkdir -p /staging/condor
fi
prepare() {
mkdir -p /staging/tmp
}
unused() { mkdir -p /staging/x; }
prepare
case $1 in
  a|b) mkdir -p /staging/tmp;;
  *) mkdir -p /staging/tmp ;;
esac
if [ ! -d /staging/y ]; then mkdir /staging/y; fi
mkdir -p /staging/tmp
exit 0
mkdir -p /staging/z
vmstage boot
";
        use What::{Conditional, MakesDirectory, RunsScript};
        assert_found(
            script,
            &[
                (2, RunsScript, "2-2"),
                (4, Conditional, ""),
                (6, MakesDirectory, ""),
                (9, Conditional, ""),
                (14, Conditional, ""),
                (15, Conditional, ""),
                (17, MakesDirectory, ""),
                (18, MakesDirectory, "18-18"),
            ],
        );
    }

    #[test]
    fn a_script_without_end_is_given_up() {
        let start = std::time::Instant::now();
        let doubled = "a=xx\n".to_string() + &"a=$a$a\nmkdir /staging/$a\n".repeat(20_000);
        let deep = "( true; ".repeat(100_000);
        let functions = "f() { mkdir /staging/x; }\n".repeat(30_000);
        for script in [
            doubled,
            deep,
            functions,
            "$".repeat(1 << 20),
            "<<a ".repeat(1 << 18),
        ] {
            commands(script.as_bytes(), staging());
        }
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_script_holds_it_is_lines(script: Vec<u8>, text in "(mkdir |if |for a in |do |done|case |esac|<<x|\\$[({a]|[\"'`]|/staging|&&|;|[a-z(){}\n ]){0,40}") {
            for script in [&script, text.as_bytes()] {
                for command in commands(script, staging()) {
                    let lines = command.lines.unwrap_or(command.number..=command.number);
                    let left = without_lines(script, &lines.collect::<Vec<_>>());
                    proptest::prop_assert!(left.len() < script.len());
                }
            }
        }
    }
}
