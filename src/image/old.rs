//! What did vmstage's work before: a line of fstab, a script, and lines of `rc.local`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::root::Root;
use crate::host::fstab::{FSTAB, Fstab, Line};
use crate::host::regular_file::MIB;

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

/// A command of `rc.local` that has to do with the scratch disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// Counted from 1.
    pub number: usize,
    /// Without the blanks around it.
    pub text: String,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// One of the lines that images had: runs [`SCRIPT`], or makes `condor` or `tmp` on the
    /// mount point, whatever came before.
    Seed,
    /// Makes something below the mount point, likewise, but is none of those.
    MakesDirectory,
    /// Only under some condition: part of an `if`, a function, a loop, after `&&`.
    Conditional,
    /// Runs `vmstage boot` or `vmstage watch`: the snippet that the documentation has.
    Vmstage,
}

/// The commands of a shell script that have to do with the scratch disk.
pub(crate) fn commands(script: &[u8], mount_point: &Path) -> Vec<Command> {
    let text = String::from_utf8_lossy(script);
    let mut depth = 0_usize;
    let mut commands = Vec::new();
    let mut last = "";
    let mut document: Option<String> = None;
    for (before, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(end) = &document {
            if line == end {
                document = None;
            }
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        // A part of a longer command cannot be taken out by itself.
        let goes_on = |line: &str| ["\\", "|", "&&"].iter().any(|end| line.ends_with(end));
        let is_part = goes_on(last) || goes_on(line);
        let hangs_on_another = last.ends_with("&&") || last.ends_with("||");
        last = line;
        document = here_document(line);
        let apart = line
            .replace(';', " ; ")
            .replace("&&", " && ")
            .replace("||", " || ");
        let inner = depth;
        depth = depth_after(depth, &apart);
        let what = what(&apart, mount_point).map(|what| match what {
            What::Seed | What::MakesDirectory if inner > 0 => What::Conditional,
            What::Seed | What::MakesDirectory if hangs_on_another => What::Conditional,
            What::Seed if is_part => What::MakesDirectory,
            other => other,
        });
        commands.extend(what.map(|what| Command {
            number: before + 1,
            text: crate::text::excerpt(line),
            what,
        }));
    }
    commands
}

/// The word that ends the here-document which begins on this line.
fn here_document(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("<<")?;
    let word = rest.trim_start_matches('-').trim_start();
    let word = word.split([' ', ';', '>', '|', '&']).next()?;
    let word = word.trim_matches(['"', '\'', '\\']);
    // Not a shift in arithmetic, nor a here-string.
    let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    is_word.then(|| word.to_string())
}

/// How deep the next line is within compound commands.
fn depth_after(depth: usize, line: &str) -> usize {
    line.split_whitespace()
        .fold(depth, |depth, word| match word {
            "if" | "case" | "do" | "{" | "(" => depth + 1,
            "fi" | "esac" | "done" | "}" | ")" => depth.saturating_sub(1),
            word if word.ends_with("(){") => depth + 1,
            _ => depth,
        })
}

/// What a line does, if it has to do with the scratch disk.
fn what(line: &str, mount_point: &Path) -> Option<What> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let runs_vmstage =
        |pair: &[&str]| name(pair[0]) == Some("vmstage") && ["boot", "watch"].contains(&pair[1]);
    if words.windows(2).any(runs_vmstage) {
        return Some(What::Vmstage);
    }
    // Each simple command with the operator before it.
    let mut operator = "";
    let mut parts = Vec::new();
    for part in words.split_inclusive(|word| is_operator(word)) {
        let (last, before) = part.split_last()?;
        let (words, next) = match is_operator(last) {
            true => (before, *last),
            false => (part, ""),
        };
        let role = role(words, mount_point);
        parts.extend(role.map(|role| (operator, role)));
        operator = next;
    }
    let is_plain = !line.contains(['&', '|', ';', '$', '`', '<', '>']);
    let makes = |(operator, role): &(&str, Role)| {
        *role != Role::RunsScript && !["&&", "||"].contains(operator)
    };
    match parts.first()? {
        (_, Role::RunsScript | Role::MakesSeed) if is_plain => Some(What::Seed),
        _ if parts.iter().any(makes) => Some(What::MakesDirectory),
        _ => Some(What::Conditional),
    }
}

fn is_operator(word: &str) -> bool {
    ["&&", "||", ";", "&", "|"].contains(&word)
}

/// What a simple command does about the scratch disk.
#[derive(PartialEq, Eq)]
enum Role {
    RunsScript,
    /// Of the directories that images had.
    MakesSeed,
    MakesOther,
}

fn role(words: &[&str], mount_point: &Path) -> Option<Role> {
    let program = name(words.first()?)?;
    let arguments = &words[1..];
    let is_script = |word: &&str| name(word) == Some(SCRIPT);
    let runs_script = match program {
        SCRIPT => true,
        "sh" | "bash" | "service" => arguments.first().is_some_and(is_script),
        _ => false,
    };
    if runs_script {
        return Some(Role::RunsScript);
    }
    let below = |word: &&&str| Path::new(word).starts_with(mount_point);
    let mut paths = arguments.iter().filter(below).peekable();
    paths.peek()?;
    let seed = ["", "condor", "tmp"].map(|name| mount_point.join(name));
    let are_seed = paths.all(|path| seed.iter().any(|seed| seed == Path::new(path)));
    match program {
        "mkdir" | "chown" | "chmod" if are_seed => Some(Role::MakesSeed),
        "mkdir" | "chown" | "chmod" | "install" => Some(Role::MakesOther),
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

    #[test]
    fn commands_of_rc_local_are_told_apart() {
        use What::{Conditional, MakesDirectory, Seed, Vmstage};
        let cases: &[(&str, Option<What>)] = &[
            ("/etc/init.d/mount_staging", Some(Seed)),
            ("/etc/init.d/mount_staging start", Some(Seed)),
            ("bash /etc/init.d/mount_staging", Some(Seed)),
            ("service mount_staging start", Some(Seed)),
            ("mkdir -p /staging/condor", Some(Seed)),
            ("  /bin/mkdir /staging/tmp/", Some(Seed)),
            ("mkdir -p /staging", Some(Seed)),
            ("chown condor:condor /staging/condor", Some(Seed)),
            ("chown -R condor.condor /staging/condor", Some(Seed)),
            ("chmod ugo+rwxt /staging/tmp", Some(Seed)),
            (
                "mkdir -p /staging/condor /staging/results",
                Some(MakesDirectory),
            ),
            ("mkdir -p /staging/results", Some(MakesDirectory)),
            ("install -d /staging/condor", Some(MakesDirectory)),
            ("mkdir -p /staging/condor; echo done", Some(MakesDirectory)),
            (
                "mount /staging && mkdir -p /staging/condor",
                Some(Conditional),
            ),
            ("/etc/init.d/mount_staging || exit 0", Some(Conditional)),
            ("/usr/sbin/vmstage boot || vmstage=$?", Some(Vmstage)),
            ("setsid /usr/sbin/vmstage watch </dev/null &", Some(Vmstage)),
            ("# mkdir -p /staging/condor", None),
            ("mkdir -p /stagingarea/condor", None),
            ("echo /staging", None),
            ("touch /var/lock/subsys/local", None),
        ];
        for (line, expected) in cases {
            let found = commands(line.as_bytes(), staging());
            assert_eq!(found.first().map(|c| c.what), *expected, "{line}");
        }
    }

    #[test]
    fn a_part_of_a_longer_command_is_none_of_the_seeds() {
        use What::{Conditional, MakesDirectory, Seed};
        let cases: &[(&str, &[(usize, What)])] = &[
            (
                "mkdir -p /staging/condor \\\n    /staging/tmp\n",
                &[(1, MakesDirectory)],
            ),
            (
                "grep -q /staging /proc/mounts &&\n    mkdir -p /staging/tmp\necho booted\n",
                &[(2, Conditional)],
            ),
            (
                "cat >/etc/x <<EOF\nmkdir -p /staging/tmp\nEOF\nmkdir -p /staging/condor\n",
                &[(4, Seed)],
            ),
            (
                "cat <<-'END' | sh\nmkdir /staging/tmp\n\tEND\nmkdir /staging/tmp\n",
                &[(4, Seed)],
            ),
            ("x=$((1<<2))\nmkdir -p /staging/tmp\n", &[(2, Seed)]),
        ];
        for (script, expected) in cases {
            let found = commands(script.as_bytes(), staging());
            let found: Vec<_> = found.iter().map(|c| (c.number, c.what)).collect();
            assert_eq!(found, *expected, "{script}");
        }
    }

    #[test]
    fn what_is_within_a_condition_is_none_of_the_seeds() {
        let script = "\
#!/bin/sh -e
/etc/init.d/mount_staging
if grep -q /staging /proc/mounts; then
    mkdir -p /staging/condor
fi
prepare() {
mkdir -p /staging/tmp
}
mkdir -p /staging/tmp
exit 0
";
        let found: Vec<_> = commands(script.as_bytes(), staging())
            .iter()
            .map(|command| (command.number, command.what))
            .collect();
        let expected = [
            (2, What::Seed),
            (4, What::Conditional),
            (7, What::Conditional),
            (9, What::Seed),
        ];
        assert_eq!(found, expected);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_script_holds_it_is_lines(script: Vec<u8>, text in "(mkdir|if|/staging|&&|;|[a-z(){}\n ]){0,40}") {
            for script in [&script, text.as_bytes()] {
                for command in commands(script, staging()) {
                    let left = without_lines(script, &[command.number]);
                    proptest::prop_assert!(left.len() < script.len());
                }
            }
        }
    }
}
