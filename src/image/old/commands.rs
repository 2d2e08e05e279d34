//! What the commands of a script do about the scratch disk.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::image::shell::{self, Simple};
use crate::text::excerpt;

/// The script that looked for the disk, in `/etc/init.d`.
pub(crate) const SCRIPT: &str = "mount_staging";

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
    /// Mounts a disk there, or makes a file system, by a name that is another disk's on another
    /// machine.
    UsesBareName,
    /// Makes something below the mount point where nothing is mounted on it.
    MakesDirectory,
    /// Only under some condition.
    Conditional,
}

/// The commands of a shell script that have to do with the scratch disk, as far as they run: at
/// most one a line.
pub(crate) fn commands(script: &[u8], mount_point: &Path) -> Vec<Command> {
    let text = String::from_utf8_lossy(script);
    let limits = Limits {
        depth: MOST_SHELLS,
        bytes: &Cell::new(MOST_BYTES),
    };
    commands_of(&text, mount_point, limits)
}

/// How much of what a script gives to other shells is looked at: a script can be made to have no
/// end.
#[derive(Clone, Copy)]
struct Limits<'a> {
    /// Shells in shells.
    depth: usize,
    /// Of the texts of all of them.
    bytes: &'a Cell<usize>,
}

const MOST_SHELLS: usize = 8;
const MOST_BYTES: usize = 1 << 20;

impl Limits<'_> {
    /// Those of another shell with this text; None where it is too much.
    fn within(self, text: &str) -> Option<Self> {
        self.bytes.set(self.bytes.get().checked_sub(text.len())?);
        let depth = self.depth.checked_sub(1)?;
        Some(Limits { depth, ..self })
    }
}

fn commands_of(text: &str, mount_point: &Path, limits: Limits) -> Vec<Command> {
    let lines: Vec<&str> = text.lines().collect();
    let mut commands: Vec<Command> = Vec::new();
    for statement in shell::statements(text, &|command| outcome(command, mount_point)) {
        let roles = statement.commands.iter();
        let roles: Vec<Option<Role>> = roles.map(|one| role(one, mount_point, limits)).collect();
        let is_old = |role: &_| matches!(role, Some(Role::RunsScript | Role::MakesSeed));
        let is_certain = statement.is_simple && roles.iter().all(is_old);
        for (command, role) in statement.commands.iter().zip(roles) {
            let what = match (role, command.runs) {
                (None, _) | (Some(Role::RunsVmstage), Some(false)) => continue,
                (Some(Role::RunsVmstage), _) => What::Vmstage,
                (Some(Role::RunsScript | Role::NamesScript), _) => What::RunsScript,
                (Some(Role::UsesBareName), Some(true) | None) => What::UsesBareName,
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
    UsesBareName,
    /// Of the directories that images had.
    MakesSeed,
    MakesOther,
}

/// Those that run another one, whose words follow.
const WRAPPERS: [&str; 10] = [
    "sudo", "command", "nohup", "env", "time", "nice", "ionice", "exec", "busybox", "setsid",
];

const MAKE: [&str; 4] = ["mkdir", "chown", "chmod", "install"];

fn role(command: &Simple, mount_point: &Path, limits: Limits) -> Option<Role> {
    // Others need not be taken apart: a script can hold many.
    let point = mount_point.to_string_lossy();
    let is_told = |text: &&str| text.contains(&*point) || text.contains("/dev/");
    own_role(command, mount_point, limits).or_else(|| {
        let mut texts = command.substituted().filter(is_told);
        texts.find_map(|text| role_of_text(text, mount_point, limits))
    })
}

fn own_role(command: &Simple, mount_point: &Path, limits: Limits) -> Option<Role> {
    let words = &command.words;
    let is_called = |word: &String, called: &str| name(word) == Some(called);
    let runs_vmstage = |pair: &[String]| is_called(&pair[0], "vmstage") && pair[1] == "boot";
    if words.windows(2).any(runs_vmstage) {
        return Some(Role::RunsVmstage);
    }
    if uses_bare_name(words, mount_point) {
        return Some(Role::UsesBareName);
    }
    let first = words.first()?;
    let program = name(first).unwrap_or(first);
    let arguments = &words[1..];
    if program == "eval" {
        return role_of_text(&arguments.join(" "), mount_point, limits);
    }
    let is_wrapper = |word: &&String| WRAPPERS.contains(&name(word).unwrap_or(""));
    let wrapped = words.iter().find(|word| !is_wrapper(word));
    let runs = wrapped.and_then(|word| name(word)).unwrap_or(program);
    let shell = ["sh", "bash", "dash", "ksh", "su", "runuser"].contains(&runs);
    if let (true, Some(at)) = (shell, arguments.iter().position(|word| word == "-c")) {
        return role_of_text(arguments.get(at + 1)?, mount_point, limits);
    }
    let mut given = words.iter().skip_while(is_wrapper).skip(1);
    let reads_script = shell && given.all(|word| word.starts_with('-'));
    if let (true, Some(text)) = (reads_script, said_to(command)) {
        return role_of_text(&text, mount_point, limits);
    }
    // Started as images had it; with other words, or of another place, it is another.
    let runs_script = match program {
        "service" => is_started(arguments) && arguments.len() == 2 && arguments[0] == SCRIPT,
        "sh" | "bash" => is_started(arguments) && arguments[0].starts_with('/'),
        _ => is_started(words),
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
    let path = |word: &String| Path::new(&command.directory).join(word);
    if !is_plain && !is_wrapped {
        let is_below =
            |word: &String| !word.starts_with('-') && path(word).starts_with(mount_point);
        return copies_below(words, &is_below).then_some(Role::MakesOther);
    }
    let is_below = |word: &&String| !word.starts_with('-') && path(word).starts_with(mount_point);
    arguments.iter().find(is_below)?;
    let seed = ["", "condor", "tmp"].map(|name| mount_point.join(name));
    let is_seed = |word: &&String| word.starts_with('/') && seed.contains(&path(word));
    let operands = operands(program, arguments).filter(|_| is_of_system(first));
    match operands.is_some_and(|all| !all.is_empty() && all.iter().all(is_seed)) {
        true => Some(Role::MakesSeed),
        false => Some(Role::MakesOther),
    }
}

/// Whether these words run [`SCRIPT`], and nothing of another place or for another purpose.
fn is_started(words: &[String]) -> bool {
    let scripts = [
        SCRIPT,
        "/etc/init.d/mount_staging",
        "/etc/rc.d/init.d/mount_staging",
    ];
    match words {
        [script] => scripts.contains(&script.as_str()),
        [script, action] => scripts.contains(&script.as_str()) && action == "start",
        _ => false,
    }
}

/// Whether a command is the system's own.
fn is_of_system(command: &str) -> bool {
    let directories = ["", "/bin", "/sbin", "/usr/bin", "/usr/sbin"];
    let directory = Path::new(command).parent();
    directory.is_some_and(|directory| directories.iter().any(|one| directory == Path::new(one)))
}

/// The paths that one of [`MAKE`] works on; None where an option may have changed which they are.
fn operands<'a>(program: &str, arguments: &'a [String]) -> Option<Vec<&'a String>> {
    let (options, takes_mode) = match program {
        "mkdir" => ("pvm01234567", false),
        "chown" => ("RvfchHLP", true),
        "chmod" => ("Rvfc", true),
        _ => return None,
    };
    let mut operands = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix('-') {
            None => operands.push(word),
            Some(given) if given.chars().all(|option| options.contains(option)) => {
                if given.ends_with('m') {
                    words.next()?;
                }
            }
            Some(_) => return None,
        }
    }
    if takes_mode {
        let mode = (!operands.is_empty()).then(|| operands.remove(0))?;
        return (!mode.contains(['/', '*', '?', '['])).then_some(operands);
    }
    Some(operands)
}

fn uses_bare_name(words: &[String], mount_point: &Path) -> bool {
    let is_wrapper = |word: &&String| WRAPPERS.contains(&name(word).unwrap_or(""));
    let mut words = words.iter().skip_while(is_wrapper);
    let program = words.next().and_then(|word| name(word)).unwrap_or("");
    if program == "mount" {
        return words.clone().any(|word| is_bare_name(word.as_bytes()))
            && words.any(|word| Path::new(word) == mount_point);
    }
    // Not memory, a volume group, and so on.
    let disks = ["sd", "vd", "xvd", "hd", "nvme"];
    let is_disk = |word: &String| {
        let name = word.strip_prefix("/dev/").unwrap_or("");
        disks.iter().any(|prefix| name.starts_with(prefix))
    };
    (program == "mke2fs" || program.starts_with("mkfs")) && words.any(is_disk)
}

/// Whether a disk is named by its place among others, which is another's on another machine.
pub(crate) fn is_bare_name(source: &[u8]) -> bool {
    // What has a directory of its own is called by somebody: device-mapper, LVM, md. Only drivers
    // of old count there as well.
    let Some(name) = source.strip_prefix(b"/dev/") else {
        return false;
    };
    let drivers: [&[u8]; 3] = [b"cciss/", b"ida/", b"rd/"];
    !name.contains(&b'/') || drivers.iter().any(|driver| name.starts_with(driver))
}

/// Those that put something where they are told to.
const COPY: [&str; 8] = ["cp", "mv", "rsync", "ln", "tar", "touch", "tee", "unzip"];

/// Whether one of [`COPY`] puts something below the mount point; one that reads there does no
/// harm.
fn copies_below(words: &[String], is_below: &dyn Fn(&String) -> bool) -> bool {
    let is_wrapped = WRAPPERS.contains(&words.first().and_then(|word| name(word)).unwrap_or(""));
    let is_copy = |word: &String| name(word).is_some_and(|name| COPY.contains(&name));
    let Some(at) = words.iter().position(is_copy) else {
        return false;
    };
    if at > 0 && !is_wrapped {
        return false;
    }
    let (program, arguments) = (name(&words[at]).unwrap_or(""), &words[at + 1..]);
    // An option's value, in the same word or the next.
    let is_option_below = |long: &str, short: &str| {
        let in_one = |word: &String| {
            let value = word
                .strip_prefix(long)
                .and_then(|rest| rest.strip_prefix('='));
            let value = value.or_else(|| word.strip_prefix(short).filter(|rest| !rest.is_empty()));
            value.is_some_and(|value| is_below(&value.to_string()))
        };
        let in_two = |pair: &[String]| (pair[0] == long || pair[0] == short) && is_below(&pair[1]);
        arguments.iter().any(in_one) || arguments.windows(2).any(in_two)
    };
    match program {
        "cp" | "mv" | "rsync" | "ln" => {
            let last = arguments.iter().rfind(|word| !word.starts_with('-'));
            is_option_below("--target-directory", "-t") || last.is_some_and(is_below)
        }
        "tar" => {
            let is_mode = |letter, long: &str| {
                let first = arguments.first().filter(|first| !first.starts_with("--"));
                let short = |word: &String| word.starts_with('-') && !word.starts_with("--");
                let mut short = arguments.iter().filter(|word| short(word)).chain(first);
                short.any(|word| word.contains(letter)) || arguments.iter().any(|w| w == long)
            };
            let archive = arguments.windows(2).any(|pair| {
                !pair[0].starts_with("--") && pair[0].ends_with('f') && is_below(&pair[1])
            });
            is_mode('x', "--extract") && is_option_below("--directory", "-C")
                || is_mode('c', "--create") && (archive || is_option_below("--file", "-f"))
        }
        _ => arguments.iter().any(is_below),
    }
}

/// What another shell is given, which does nothing that could be taken out by itself.
fn role_of_text(text: &str, mount_point: &Path, limits: Limits) -> Option<Role> {
    let Some(limits) = limits.within(text) else {
        // By what is named in it, for somebody to look at.
        let is_named = text.contains(&*mount_point.to_string_lossy());
        return match text.contains(SCRIPT) {
            true => Some(Role::NamesScript),
            false => is_named.then_some(Role::MakesOther),
        };
    };
    let what = commands_of(text, mount_point, limits);
    let what = what.iter().map(|command| command.what).min()?;
    Some(match what {
        What::Vmstage => Role::RunsVmstage,
        What::RunsScript => Role::NamesScript,
        What::UsesBareName => Role::UsesBareName,
        What::MakesDirectory => Role::MakesOther,
        What::Conditional => return None,
    })
}

/// What `echo` gives to the command behind it, where the words are all of it.
fn said_to(command: &Simple) -> Option<String> {
    let (program, words) = command.piped_from.split_first()?;
    let words = words.iter().skip_while(|word| word.starts_with('-'));
    let words: Vec<&str> = words.map(String::as_str).collect();
    (name(program) == Some("echo")).then(|| words.join(" "))
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
        "mountpoint" | "findmnt" if arguments.iter().any(below) => Some(false),
        // There is no disk that it could take.
        "mount" if arguments.iter().any(below) && !arguments.contains(&"tmpfs") => Some(false),
        "grep" => {
            let lists = ["/proc/mounts", "/proc/self/mounts", "/etc/mtab"];
            let input = command.piped_from.iter().map(String::as_str);
            let shows = |words: Vec<&str>| words.iter().any(|word| lists.contains(word));
            let is_list = ["mount", "findmnt", "df"].contains(&input.clone().next().unwrap_or(""));
            let point = mount_point.to_string_lossy();
            let is_asked_for = arguments.iter().any(|word| word.contains(&*point))
                && (is_list || shows(input.collect()) || shows(words));
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
                // Of a loop's variable each value is there.
                ["-d" | "-e" | "-r" | "-w" | "-x", paths @ ..]
                    if !paths.is_empty() && paths.iter().all(below) =>
                {
                    let is_there = paths.iter().all(|path| Path::new(path) == mount_point);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::image::old::without_lines;

    fn staging() -> &'static Path {
        Path::new("/staging")
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
        use What::{Conditional, MakesDirectory, RunsScript, UsesBareName, Vmstage};
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
            ("pushd /staging; ls; popd; mkdir condor", None),
            ("cd /staging; ls; cd -; mkdir condor", None),
            ("cd /staging/tmp; cd ../..; mkdir condor", None),
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
            // A disk by its bare name.
            ("mount /dev/sdb /staging", Some((UsesBareName, false))),
            (
                "mount -t ext2 /dev/vdb /staging/",
                Some((UsesBareName, false)),
            ),
            (
                "[ -b /dev/vdb ] && mount /dev/vdb /staging",
                Some((UsesBareName, false)),
            ),
            (
                "sudo /bin/mount /dev/sdb /staging || exit 0",
                Some((UsesBareName, false)),
            ),
            ("D=/dev/sdb; mount $D /staging", Some((UsesBareName, false))),
            ("mkfs.ext4 -F /dev/sdb", Some((UsesBareName, false))),
            ("mkfs -t ext3 /dev/xvdb1", Some((UsesBareName, false))),
            ("mke2fs /dev/sdb", Some((UsesBareName, false))),
            (
                "sh -c 'mount /dev/sdb /staging'",
                Some((UsesBareName, false)),
            ),
            ("mkfs.ext2 /dev/ram0", None),
            ("mount /dev/sdc /data", None),
            ("mount LABEL=ephemeral0 /staging", None),
            ("mount /dev/disk/by-label/x /staging", None),
            ("echo mount /dev/sdb /staging", None),
            (
                "echo mount /dev/sdb /staging | sudo sh",
                Some((UsesBareName, false)),
            ),
            (
                "echo 'mkdir -p /staging/tmp; true' | sh -e",
                Some((MakesDirectory, false)),
            ),
            (
                "echo /etc/init.d/mount_staging start | sh",
                Some((RunsScript, false)),
            ),
            ("echo mkdir /staging/tmp | sh /opt/x", None),
            ("echo mkdir /staging/tmp | cat", None),
            ("eval \"mkdir /staging/tmp\"", Some((MakesDirectory, false))),
            (
                "x=$(mkdir -p /staging/tmp 2>&1)",
                Some((MakesDirectory, false)),
            ),
            ("x=`mkdir -p /staging/tmp`", Some((MakesDirectory, false))),
            (
                "logger \"made: $(mkdir -pv /staging/tmp)\"",
                Some((MakesDirectory, false)),
            ),
            (
                "if x=$(mkdir /staging/tmp); then true; fi",
                Some((MakesDirectory, false)),
            ),
            ("x && y=$(mkdir /staging/tmp)", Some((Conditional, false))),
            ("x=$(mount /dev/sdb /staging)", Some((UsesBareName, false))),
            ("x=$(du -s /staging/tmp)", None),
            ("x=$((1 + 2)) y=${z:-/staging/tmp}", None),
            (
                "nohup sh -c 'mkdir /staging/tmp' &",
                Some((MakesDirectory, false)),
            ),
            // What does something elsewhere as well.
            (
                "mkdir -p /staging/condor /opt/results",
                Some((MakesDirectory, false)),
            ),
            (
                "mkdir -p /opt/a /staging/tmp",
                Some((MakesDirectory, false)),
            ),
            (
                "chown -R condor:condor /staging/condor /var/lib/condor",
                Some((MakesDirectory, false)),
            ),
            (
                "chmod 1777 /staging/tmp /tmp",
                Some((MakesDirectory, false)),
            ),
            (
                "for d in /staging/condor /opt/z; do mkdir -p $d; done",
                Some((MakesDirectory, false)),
            ),
            (
                "for o in a b; do chown $o /staging/tmp; done",
                Some((MakesDirectory, false)),
            ),
            ("mkdir -pv /staging/tmp b", Some((MakesDirectory, false))),
            (
                "chown -hR a:b /staging/tmp *",
                Some((MakesDirectory, false)),
            ),
            (
                "chown --reference=/x /opt /staging/tmp",
                Some((MakesDirectory, false)),
            ),
            ("chown /opt /staging/tmp", Some((MakesDirectory, false))),
            ("chmod -x /opt /staging/tmp", Some((MakesDirectory, false))),
            (
                "mkdir -p /staging/tmp/../../opt",
                Some((MakesDirectory, false)),
            ),
            ("/opt/bin/mkdir /staging/tmp", Some((MakesDirectory, false))),
            (
                "mkdir() { echo; }; mkdir /staging/tmp",
                Some((MakesDirectory, false)),
            ),
            ("mkdir -pm 1777 /staging/tmp", Some((MakesDirectory, true))),
            (
                "mkdir -m1777 -pv /staging/tmp",
                Some((MakesDirectory, true)),
            ),
            ("chown -hR a:b /staging/tmp", Some((MakesDirectory, true))),
            // Not the seed's script, or not to start it.
            (
                "/etc/rc.d/init.d/mount_staging start",
                Some((RunsScript, true)),
            ),
            (
                "/sbin/service mount_staging start",
                Some((RunsScript, true)),
            ),
            (
                "/usr/local/sbin/mount_staging --mine",
                Some((RunsScript, false)),
            ),
            ("/opt/mount_staging", Some((RunsScript, false))),
            ("sh /opt/mount_staging start", Some((RunsScript, false))),
            ("mount_staging stop", Some((RunsScript, false))),
            ("service mount_staging stop", Some((RunsScript, false))),
            ("service mount_staging", Some((RunsScript, false))),
        ];
        for (line, expected) in cases {
            let found = commands(line.as_bytes(), staging());
            let found = found.first().map(|c| (c.what, c.lines.is_some()));
            assert_eq!(found, *expected, "{line}");
        }
    }

    #[test]
    fn whatever_puts_something_below_the_mount_point_is_found() {
        for (line, is_found) in [
            ("cp -a /etc/skel /staging/tmp", true),
            ("cp -a -t /staging /etc/skel", true),
            ("cp --target-directory=/staging /etc/skel", true),
            ("sudo -u condor cp -a /etc/skel /staging/tmp", true),
            ("rsync -a /opt/ /staging/opt/", true),
            ("rsync -a /opt/ /staging/opt/ --delete", true),
            ("mv /opt /staging/opt", true),
            ("tar -C /staging -xzf /root/x.tgz", true),
            ("tar xzf /root/x.tgz -C /staging", true),
            ("tar --extract --directory=/staging -f /root/x.tar", true),
            ("tar -czf /staging/x.tgz /etc", true),
            ("cd /staging && touch x", true),
            // What is read from there.
            ("cp -a /staging/tmp /root", false),
            ("rsync -a /staging/opt/ /opt/", false),
            ("tar -C /staging -czf /root/x.tgz .", false),
            ("tar tf /staging/x.tgz", false),
            ("echo cp -a /etc/skel /staging", false),
            ("ls cp /staging", false),
        ] {
            let found = commands(line.as_bytes(), staging());
            let expected = is_found.then_some((What::MakesDirectory, None));
            let found = found.into_iter().next().map(|one| (one.what, one.lines));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn a_case_that_always_fits_is_no_condition() {
        use What::{Conditional, MakesDirectory};
        for (cases, what) in [
            ("*) mkdir /staging/x;;", MakesDirectory),
            ("(*) mkdir /staging/x;;", MakesDirectory),
            ("*) mkdir /staging/x;; a) true;;", MakesDirectory),
            ("a) true;; *) mkdir /staging/x;;", Conditional),
            ("a|*) mkdir /staging/x;;", Conditional),
            ("a*) mkdir /staging/x;;", Conditional),
            ("*) true;; b) mkdir /staging/x;;", Conditional),
        ] {
            let script = format!("case $(uname -r) in {cases} esac\n");
            assert_found(&script, &[(1, what, "")]);
            let script = format!("if x; then\ncase $1 in {cases} esac\nfi\n");
            assert_found(&script, &[(2, Conditional, "")]);
        }
    }

    #[test]
    fn a_name_that_somebody_gave_is_no_bare_one() {
        for (source, is_bare) in [
            ("/dev/sdb", true),
            ("/dev/nvme0n1p1", true),
            ("/dev/md0", true),
            ("/dev/dm-0", true),
            ("/dev/cciss/c0d0p1", true),
            ("/dev/mapper/vg-x", false),
            ("/dev/vg/x", false),
            ("/dev/md/ephemeral0", false),
            ("/dev/disk/by-id/x", false),
            ("LABEL=x", false),
        ] {
            assert_eq!(is_bare_name(source.as_bytes()), is_bare, "{source}");
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
                "for d in condor tmp; do [ -d /staging/$d ] || mkdir /staging/$d; done",
                MakesDirectory,
            ),
            (
                "for d in condor tmp; do [ -d /staging/$d ] && chmod 1777 /staging/$d; done",
                Conditional,
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
                (9, MakesDirectory, ""),
                (14, Conditional, ""),
                (15, Conditional, ""),
                (17, MakesDirectory, ""),
                (18, MakesDirectory, "18-18"),
            ],
        );
    }

    #[test]
    fn what_a_function_does_runs_where_it_is_called() {
        use What::{Conditional, MakesDirectory};
        for (script, expected) in [
            ("f() { mkdir /staging/x; }\nf", Some(MakesDirectory)),
            ("f()\n{\nmkdir /staging/x\n}\nf a b", Some(MakesDirectory)),
            ("function f { mkdir /staging/x; }\nf", Some(MakesDirectory)),
            ("f() (mkdir /staging/x)\nf", Some(MakesDirectory)),
            (
                "g() { f; }\nf() { mkdir /staging/x; }\ng",
                Some(MakesDirectory),
            ),
            (
                "f() { [ -x /a ] || return; mkdir /staging/x; }\nf",
                Some(MakesDirectory),
            ),
            (
                "f() { for d in x; do mkdir /staging/$d; done; }\nf",
                Some(MakesDirectory),
            ),
            ("f() { mkdir /staging/x; }", None),
            ("f() { mkdir /staging/x; }\ng() { f; }", Some(Conditional)),
            (
                "f() { mkdir /staging/x; }\n[ -x /a ] && f",
                Some(Conditional),
            ),
            (
                "f() { mountpoint -q /staging || return; mkdir /staging/x; }\nf",
                Some(Conditional),
            ),
            (
                "f() { if ! mountpoint -q /staging; then\nreturn 1; fi; mkdir /staging/x; }\nf",
                Some(Conditional),
            ),
            (
                "f() { mountpoint -q /staging && mkdir /staging/x; }\nf",
                Some(Conditional),
            ),
            ("f() { cd /staging; }\nmkdir x\nf", None),
            (
                "f() ( mountpoint -q /staging || exit; mkdir /staging/x; )\nf",
                Some(Conditional),
            ),
            (
                "f() ( mountpoint -q /staging || exit; )\nf\nmkdir /staging/x",
                Some(MakesDirectory),
            ),
        ] {
            let found = commands(script.as_bytes(), staging());
            let whats = found.iter().map(|command| command.what).min();
            assert_eq!(whats, expected, "{script}");
            let is_of_function = |one: &Command| one.lines.is_none() || one.number == 3;
            assert!(found.iter().all(is_of_function), "{script}");
        }
    }

    #[test]
    fn what_ends_without_the_disk_makes_nothing_after_it() {
        for (script, is_made) in [
            ("mount /dev/sdb /staging || exit 0", false),
            (
                "mount /dev/sdb /staging || mount /dev/vdb /staging || exit",
                false,
            ),
            ("grep -q ' /staging ' /proc/mounts || exit", false),
            ("mountpoint -q /staging || exit 0", false),
            ("mount | grep -q /staging || exit 0", false),
            ("cat /proc/mounts | grep -q /staging || exit 0", false),
            ("if ! mountpoint -q /staging; then exit 0; fi", false),
            ("if ! mount | grep -q /staging; then\n  exit 0\nfi", false),
            ("set -e\nmount /dev/sdb /staging", false),
            ("set -eu\nmountpoint -q /staging", false),
            ("while ! mountpoint -q /staging; do sleep 1; done", false),
            ("until mountpoint -q /staging\ndo\n  sleep 1\ndone", false),
            (
                "while ! mountpoint -q /staging; do mount /dev/sdb /staging && break; done",
                false,
            ),
            // It goes on without the disk.
            ("mount /dev/sdb /staging", true),
            ("mount /dev/sdb /staging || true", true),
            ("mount -t tmpfs tmpfs /staging || exit", true),
            ("[ -x /usr/bin/x ] || exit 0", true),
            ("x || mount | grep -q /staging || exit 0", true),
            ("cat /etc/fstab | grep -q /staging || exit 0", true),
            ("grep -q /staging /etc/fstab || exit 0", true),
            ("(mountpoint -q /staging || exit 0)", true),
            ("mountpoint -q /staging || exit 0 &", true),
            ("f() { mountpoint -q /staging || exit 0; }", true),
            ("f() { mountpoint -q /staging || exit 0; }\nf", false),
            ("f() { mountpoint -q /staging || return 0; }\nf", true),
            ("f() { mountpoint -q /staging || exit 0; }\nx && f", true),
            ("set -e\nmount /dev/sdb /staging || true", true),
            ("set -e\n! mountpoint -q /staging", true),
            ("set -e\nif mountpoint -q /staging; then true; fi", true),
            ("set -e\nset +e\nmount /dev/sdb /staging", true),
            ("while ! mountpoint -q /staging; do x && break; done", true),
            ("while ! mountpoint -q /staging; do sleep 1; done &", true),
            ("while mountpoint -q /staging; do sleep 1; done", true),
        ] {
            for first in ["#!/bin/sh", "#!/bin/sh -e"] {
                let text = format!("{first}\n{script}\nmkdir -p /staging/condor\n");
                let found = commands(text.as_bytes(), staging());
                let mut found = found.iter().map(|command| command.what);
                let is_found = found.any(|what| what == What::MakesDirectory);
                let ends = first.ends_with("-e") && script == "mount /dev/sdb /staging";
                assert_eq!(is_found, is_made && !ends, "{text}");
            }
        }
    }

    #[test]
    fn a_script_without_end_is_given_up() {
        let start = clock::computed();
        let doubled = "a=xx\n".to_string() + &"a=$a$a\nmkdir /staging/$a\n".repeat(4000);
        let deep = "( true; ".repeat(20_000);
        let functions = "f() { mkdir /staging/x; }\n".repeat(6000);
        // Each of these may be another shell's, and grow with each.
        let evals = "eval ".repeat(20_000) + "mkdir /staging/x";
        let shells = "sh -c ".repeat(1000);
        let growing = "a='eval eval eval eval'\na=\"$a $a $a $a\"\neval $a $a $a\n".repeat(200);
        for script in [
            evals,
            shells,
            growing,
            doubled,
            deep,
            functions,
            "$".repeat(200_000),
            "<<a ".repeat(50_000),
        ] {
            commands(script.as_bytes(), staging());
        }
        let took = clock::computed() - start;
        assert!(took.as_secs() < 3, "{took:?}");
    }

    #[test]
    fn what_shells_in_shells_do_is_found_in_any_depth() {
        for (command, what) in [
            ("mkdir /staging/x", What::MakesDirectory),
            ("mount_staging", What::RunsScript),
        ] {
            for depth in [1, 2, MOST_SHELLS, MOST_SHELLS + 1, 22, 1000] {
                let start = std::time::Instant::now();
                let script = "eval ".repeat(depth) + command;
                let found = commands(script.as_bytes(), staging());
                assert_eq!(found.len(), 1, "{depth}");
                assert_eq!((found[0].what, &found[0].lines), (what, &None), "{depth}");
                assert!(start.elapsed().as_secs() < 5, "{depth}");
            }
        }
        let script = "eval ".repeat(22) + "echo x";
        assert!(commands(script.as_bytes(), staging()).is_empty());
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
