//! Taking out what was there before vmstage, and putting it back.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::depend;
use super::enabling::{DEPEND_START, DEPEND_STOP, SERVICE, depend_text};
use super::files::{CONFIGURATION, DIRECTORIES, REPLACED};
use super::init::Init;
use super::old::{self, Command, Found, RcLocal, What};
use super::rc;
use super::root::{Kind, Root};
use super::step::Step;
use crate::host::fstab::{FSTAB, Fstab};
use crate::host::regular_file::MIB;

/// Likewise for what is started before any run level.
const DEPEND_BOOT: &str = "/etc/init.d/.depend.boot";

/// What takes out what was there before.
#[derive(Default)]
pub(crate) struct Replacement {
    pub steps: Vec<Step>,
    /// What is taken out and where it is kept, and what stays and what to do about it.
    pub said: Vec<String>,
}

/// What becomes of the script that staged the disk, with its links and callers: all of them go,
/// or none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Goes,
    Stays,
}

/// What takes the old line of fstab, the seed's commands and the script out of the way, each
/// kept beside. Of a command that is more than one of those, nothing is taken.
///
/// # Errors
///
/// That one of them cannot be read.
pub(crate) fn steps(root: &Root, init: Init, mount_point: &Path) -> Result<Replacement> {
    let mut made = Replacement::default();
    let (fstab, content) = old::fstab(root)?;
    let numbers = numbers_in_fstab(&fstab, mount_point);
    if !numbers.is_empty() {
        let path = root.real_path(FSTAB.as_ref())?;
        made.take_out(root, path, content, &numbers)?;
    }
    let scripts: Vec<RcLocal> = old::rc_local(root, mount_point)
        .into_iter()
        .collect::<Result<_>>()?;
    let path = old::script(init.scripts());
    let path = root.real_path(&path).unwrap_or(path);
    let fate = made.fate_of_script(root, &path, &scripts);
    for script in scripts {
        for command in &script.commands {
            if command.what == What::UsesBareName {
                made.said.push(format!(
                    "{}:{} stays: {}; take out by hand what mounts or formats a disk by its bare name",
                    script.path.display(),
                    command.number,
                    command.text
                ));
            }
            if command.what == What::MakesDirectory && command.lines.is_none() {
                made.said.push(format!(
                    "{}:{} stays, for it is more than a line of its own: {}; take out by hand what it \
                     does below {}",
                    script.path.display(),
                    command.number,
                    command.text,
                    mount_point.display()
                ));
            }
        }
        let numbers = numbers_in_script(&script.commands, fate);
        if !numbers.is_empty() {
            made.take_out(root, script.path, script.content, &numbers)?;
        }
    }
    if fate == Script::Goes {
        made.take_script(root, init, path)?;
    }
    Ok(made)
}

impl Replacement {
    /// It goes where each caller goes with it.
    fn fate_of_script(&mut self, root: &Root, path: &Path, scripts: &[RcLocal]) -> Script {
        let callers = old::callers_that_stay(root, scripts);
        self.said.extend(callers.iter().map(|caller| {
            format!(
                "{}:{} stays, and with it {}: {}; by hand: have it run \"vmstage status --wait 60\" in \
                 place of the script, or take it out, and install again",
                caller.path.display(),
                caller.number,
                path.display(),
                caller.text
            )
        }));
        match callers.is_empty() {
            true => Script::Goes,
            false => Script::Stays,
        }
    }

    fn take_script(&mut self, root: &Root, init: Init, path: PathBuf) -> Result<()> {
        if let Some(content) = read(root, &path)? {
            let to = place_for_copy(root, &path, &content)?;
            self.said.push(format!(
                "take out {}; kept as {}",
                path.display(),
                to.display()
            ));
            self.steps.push(Step::SetAside { path, to });
        }
        for link in links(root, init)? {
            if root.link_text(&link)?.is_some() {
                self.steps.push(Step::Remove(link));
            }
        }
        for file in [DEPEND_START, DEPEND_STOP, DEPEND_BOOT] {
            if let Some(text) = depend_text(root, file)? {
                let new = depend::without(&text, old::SCRIPT);
                if new != text {
                    let old = text.into_bytes();
                    self.change(root, file.into(), old, new.into_bytes())?;
                }
            }
        }
        Ok(())
    }

    fn take_out(
        &mut self,
        root: &Root,
        path: PathBuf,
        content: Vec<u8>,
        numbers: &[usize],
    ) -> Result<()> {
        let new = old::without_lines(&content, numbers);
        let lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').collect();
        let texts = numbers.iter().map(|number| {
            let line = String::from_utf8_lossy(lines.get(number - 1).unwrap_or(&&b""[..]));
            let text = crate::text::excerpt(line.trim());
            format!("take out {}:{number}: {text}", path.display())
        });
        self.said.extend(texts);
        self.change(root, path, content, new)
    }

    fn change(&mut self, root: &Root, path: PathBuf, old: Vec<u8>, new: Vec<u8>) -> Result<()> {
        let to = place_for_copy(root, &path, &old)?;
        self.steps.push(Step::KeepCopy {
            path: path.clone(),
            to,
        });
        self.steps.push(Step::Rewrite { path, content: new });
        Ok(())
    }
}

/// Where what is taken out is kept: the first copy is the original, and stays; what is taken out
/// later, and is another, gets a number.
fn place_for_copy(root: &Root, path: &Path, content: &[u8]) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let copy = beside(path, number);
        match read(root, &copy)? {
            Some(present) if present != content => number += 1,
            _ => return Ok(copy),
        }
    }
}

/// The name of a copy: the first, the second.
fn beside(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".before-vmstage");
    if number > 1 {
        name.push(format!(".{number}"));
    }
    name.into()
}

/// What is put back, and what cannot be.
#[derive(Default)]
pub(crate) struct Kept {
    pub steps: Vec<Step>,
    /// What stays and why, a line each.
    pub left: Vec<String>,
}

/// What was kept beside.
///
/// # Errors
///
/// That something of it cannot be read.
pub(crate) fn kept(root: &Root, mount_point: &Path) -> Result<Kept> {
    let mut kept = Kept::default();
    let mut files = Vec::new();
    if let Some(present) = read(root, FSTAB.as_ref())? {
        files.push((root.real_path(FSTAB.as_ref())?, present));
    }
    for script in old::rc_local(root, mount_point) {
        let script = script?;
        files.push((script.path, script.content));
    }
    for (number, (path, present)) in files.into_iter().enumerate() {
        let Some(old) = kept.copy(root, &path)? else {
            continue;
        };
        let is_without = |numbers: &[usize]| old::without_lines(&old, numbers) == present;
        let is_as_left = present == old
            || if number == 0 {
                is_without(&numbers_in_fstab(&Fstab::parse(&old), mount_point))
            } else {
                let commands = old::commands(&old, mount_point);
                is_without(&numbers_in_script(&commands, Script::Goes))
                    || is_without(&numbers_in_script(&commands, Script::Stays))
            };
        kept.restore(path, is_as_left.then_some(old));
    }
    for file in [DEPEND_START, DEPEND_STOP, DEPEND_BOOT] {
        let Some(present) = depend_text(root, file)? else {
            continue;
        };
        let Some(old) = kept.copy(root, file.as_ref())? else {
            continue;
        };
        let present = depend::without(&present, SERVICE);
        let old = depend::without(&String::from_utf8_lossy(&old), SERVICE);
        let is_as_left = present == old || present == depend::without(&old, old::SCRIPT);
        kept.restore(file.into(), is_as_left.then(|| old.into_bytes()));
    }
    kept.script(root)?;
    Ok(kept)
}

impl Kept {
    /// The first copy of a file, if there is one; later ones stay.
    fn copy(&mut self, root: &Root, path: &Path) -> Result<Option<Vec<u8>>> {
        let mut number = 2;
        loop {
            let copy = beside(path, number);
            if root.entry_itself(&copy)?.is_none() {
                return read(root, &beside(path, 1));
            }
            self.left.push(format!(
                "{} stays: a later installation took it out",
                copy.display()
            ));
            number += 1;
        }
    }

    /// A file gets what it held, if it is still as it was left.
    fn restore(&mut self, path: PathBuf, content: Option<Vec<u8>>) {
        let copy = beside(&path, 1);
        match content {
            Some(content) => {
                self.steps.push(Step::Rewrite { path, content });
                self.steps.push(Step::Remove(copy));
            }
            None => self.leave(&copy),
        }
    }

    fn leave(&mut self, copy: &Path) {
        self.left.push(format!(
            "{} stays: what it was kept of has been changed since",
            copy.display()
        ));
    }

    /// The script, with its links.
    fn script(&mut self, root: &Root) -> Result<()> {
        let mut path = old::script(Init::Numbers.scripts());
        let other = old::script(Init::by_scripts(root).scripts());
        if root.is(Kind::File, beside(&other, 1)) {
            path = other;
        }
        let path = root.real_path(&path).unwrap_or(path);
        let mut records = read(root, DIRECTORIES.as_ref())?.unwrap_or_default();
        records.extend(read(root, REPLACED.as_ref())?.unwrap_or_default());
        let old = self.copy(root, &path)?;
        let present = read(root, &path)?;
        let copy = beside(&path, 1);
        let is_back = match (old, present) {
            (Some(_), None) => {
                let (mode, owner) = attributes(&records, &path).unwrap_or((0o755, (0, 0)));
                self.steps.push(Step::PutBack {
                    path,
                    from: copy,
                    mode,
                    owner,
                });
                true
            }
            (Some(old), Some(present)) if old == present => {
                self.steps.push(Step::Remove(copy));
                true
            }
            (Some(_), Some(_)) => {
                self.leave(&copy);
                false
            }
            (None, present) => present.is_some(),
        };
        for (path, text) in records.split(|byte| *byte == b'\n').filter_map(link_in) {
            let is_of_script = path
                .as_os_str()
                .as_bytes()
                .ends_with(old::SCRIPT.as_bytes());
            if (is_back || !is_of_script) && root.entry_itself(&path)?.is_none() {
                self.steps.push(Step::Link { path, text });
            }
        }
        Ok(())
    }
}

const LINK: &[u8] = b"link\t";
const FILE: &[u8] = b"file\t";

/// What is written down of a step, for [`kept`]: of one that takes something out, a link with its
/// text, a file with its mode and owner; and that the configuration is new. Links of vmstage's own are made anew.
///
/// # Errors
///
/// That it cannot be looked at.
pub(crate) fn record(root: &Root, step: &Step) -> Result<Option<Vec<u8>>> {
    let path = step.path();
    let bytes = path.as_os_str().as_bytes();
    Ok(match step {
        Step::Remove(_) if bytes.ends_with(SERVICE.as_bytes()) => None,
        Step::Remove(_) => root
            .link_text(path)?
            .map(|text| [LINK, bytes, b"\t", text.as_os_str().as_bytes(), b"\n"].concat()),
        Step::SetAside { .. } => root.entry(path)?.map(|entry| {
            let numbers = format!("{:o}\t{}\t{}\t", entry.mode, entry.uid, entry.gid);
            [FILE, numbers.as_bytes(), bytes, b"\n"].concat()
        }),
        // It is written where there was none, and nowhere else.
        Step::Write { path, .. } if path == Path::new(CONFIGURATION) => {
            Some(CONFIGURATION_IS_NEW.to_vec())
        }
        _ => None,
    })
}

/// In the list of [`record`]: `install` put the configuration there.
pub(crate) const CONFIGURATION_IS_NEW: &[u8] = b"new\t/etc/vmstage.toml\n";

fn link_in(line: &[u8]) -> Option<(PathBuf, PathBuf)> {
    let line = line.strip_prefix(LINK)?;
    let at = line.iter().position(|byte| *byte == b'\t')?;
    let path = |bytes| PathBuf::from(OsStr::from_bytes(bytes));
    Some((path(&line[..at]), path(&line[at + 1..])))
}

/// The mode and the owner of a file, as they were.
fn attributes(records: &[u8], path: &Path) -> Option<(u32, (u32, u32))> {
    let mut lines = records.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let line = std::str::from_utf8(line.strip_prefix(FILE)?).ok()?;
        let mut fields = line.splitn(4, '\t');
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        let owner = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (Path::new(fields.next()?) == path).then_some((mode & 0o7777, owner))
    })
}

fn numbers_in_fstab(fstab: &Fstab, mount_point: &Path) -> Vec<usize> {
    let is_old = |found| matches!(found, Found::ByName | Found::ByTag);
    old::fstab_lines(fstab, mount_point)
        .filter(|(_, found)| is_old(*found))
        .map(|(line, _)| line.number)
        .collect()
}

fn numbers_in_script(commands: &[Command], fate: Script) -> Vec<usize> {
    let is_caller = |one: &&Command| one.what == What::RunsScript && fate == Script::Stays;
    let callers = commands.iter().filter(is_caller);
    let stay: BTreeSet<usize> = callers
        .filter_map(|caller| Some(*caller.lines.as_ref()?.start()))
        .collect();
    let lines = commands.iter().filter_map(|one| one.lines.as_ref());
    let mut numbers: Vec<usize> = lines
        .filter(|lines| !stay.contains(lines.start()))
        .cloned()
        .flatten()
        .collect();
    // The commands of a loop have the same lines.
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The script's links.
fn links(root: &Root, init: Init) -> Result<Vec<PathBuf>> {
    let links = rc::links(root, init)?;
    let ours = |link: &&rc::Link| link.service == old::SCRIPT;
    Ok(links
        .iter()
        .filter(ours)
        .map(|link| link.path(init))
        .collect())
}

fn read(root: &Root, path: &Path) -> Result<Option<Vec<u8>>> {
    root.read(path, MIB)
        .with_context(|| root.cannot("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_script_takes_no_longer_for_each_line() {
        let start = std::time::Instant::now();
        let script = "mount_staging\nmkdir -p /staging/tmp\n".repeat(20_000);
        let commands = old::commands(script.as_bytes(), Path::new("/staging"));
        for (fate, left) in [(Script::Goes, 0), (Script::Stays, 20_000)] {
            let numbers = numbers_in_script(&commands, fate);
            let rest = old::without_lines(script.as_bytes(), &numbers);
            assert_eq!(rest, "mount_staging\n".repeat(left).as_bytes());
        }
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    }
}
