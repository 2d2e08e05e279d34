//! Taking out what was there before vmstage, and putting it back.

mod records;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::depend;
use super::enabling::{DEPEND_START, DEPEND_STOP, SERVICE, depend_text, depend_without_us};
use super::files::{DIRECTORIES, REPLACED};
use super::init::Init;
use super::old::{self, Command, Found, KEPT, RcLocal, What};
use super::rc;
use super::root::{Kind, Root};
use super::step::Step;
use crate::host::fstab::{FSTAB, Fstab};
use crate::host::regular_file::MIB;

pub(crate) use records::{CONFIGURATION_IS_NEW, record};
use records::{file_in, link_in, taken_out_of};

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
    for (path, command) in old::elsewhere(root, init, mount_point) {
        made.said.push(format!(
            "{}:{} stays; take out by hand: {}",
            path.display(),
            command.number,
            command.text
        ));
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
        } else if let Some(kept) = root.entry(&beside(&path, 1))?
            && kept.mode & 0o111 != 0
        {
            // What was killed had renamed it, and no more.
            let to = beside(&path, 1);
            self.steps.push(Step::SetAside { path, to });
        }
        for link in links(root, init)? {
            if root.link_text(&link)?.is_some() {
                self.steps.push(Step::Remove(link));
            } else if let Some(content) = read(root, &link)? {
                let to = place_for_copy(root, &link, &content)?;
                self.said.push(format!(
                    "take out {}, which is a file of its own; kept as {}",
                    link.display(),
                    to.display()
                ));
                self.steps.push(Step::SetAside { path: link, to });
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

/// The name of a copy: the first, the second. That of a file in a run level is none that an
/// init runs.
fn beside(path: &Path, number: usize) -> PathBuf {
    let own = path.file_name().unwrap_or_default();
    let is_run = own.to_str().and_then(|name| rc::Link::parse('2', name));
    let mut name = OsString::from(if is_run.is_some() { "old-" } else { "" });
    name.push(own);
    name.push(KEPT);
    if number > 1 {
        name.push(format!(".{number}"));
    }
    path.with_file_name(name)
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
    let mut records = read(root, DIRECTORIES.as_ref())?.unwrap_or_default();
    records.extend(read(root, REPLACED.as_ref())?.unwrap_or_default());
    let mut files = Vec::new();
    let fstab = read(root, FSTAB.as_ref())?;
    let has_fstab = fstab.is_some();
    if let Some(present) = fstab {
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
        let recorded = taken_out_of(&records, &path);
        let is_fstab = number == 0 && has_fstab;
        // Before lines were written down, they were those of the mount point.
        let is_as_left = present == old
            || if !recorded.is_empty() {
                recorded.iter().any(|numbers| is_without(numbers))
            } else if is_fstab {
                is_without(&numbers_in_fstab(&Fstab::parse(&old), mount_point))
            } else {
                let commands = old::commands(&old, mount_point);
                is_without(&numbers_in_script(&commands, Script::Goes))
                    || is_without(&numbers_in_script(&commands, Script::Stays))
            };
        let grown = || fstab_that_has_grown(&present, &old, &recorded, mount_point);
        if is_as_left {
            kept.restore(root, path, old);
        } else if let Some(content) = is_fstab.then(grown).flatten() {
            kept.rewrite(path, content);
        } else {
            kept.leave(&beside(&path, 1));
        }
    }
    let is_back = kept.script(root, &records)?;
    for file in [DEPEND_START, DEPEND_STOP, DEPEND_BOOT] {
        let Some(present) = depend_text(root, file)? else {
            continue;
        };
        let Some(old) = kept.copy(root, file.as_ref())? else {
            continue;
        };
        let present = depend_without_us(root, file, &present);
        let old = depend::without(&String::from_utf8_lossy(&old), SERVICE);
        if present == old || present == depend::without(&old, old::SCRIPT) {
            kept.rewrite(file.into(), old.into_bytes());
        } else {
            kept.put_into(file, &present, &old, is_back);
        }
    }
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

    /// The copy takes the place of what it was kept of, unless that got another mode or owner.
    fn restore(&mut self, root: &Root, path: PathBuf, content: Vec<u8>) {
        let from = beside(&path, 1);
        let access = |path: &Path| {
            let entry = root.entry(path).ok().flatten();
            entry.map(|entry| (entry.mode, entry.uid, entry.gid))
        };
        match access(&path) == access(&from) {
            true => self.steps.push(Step::Restore { path, from }),
            false => self.rewrite(path, content),
        }
    }

    fn rewrite(&mut self, path: PathBuf, content: Vec<u8>) {
        let copy = beside(&path, 1);
        self.steps.push(Step::Rewrite { path, content });
        self.steps.push(Step::Remove(copy));
    }

    fn leave(&mut self, copy: &Path) {
        self.left.push(format!(
            "{} stays: what it was kept of has been changed since",
            copy.display()
        ));
    }

    /// A file of insserv's that has been written anew since gets the script again, if that is
    /// back: where it was among the others, which insserv knows better by now.
    fn put_into(&mut self, file: &str, present: &str, old: &str, script_is_back: bool) {
        let copy = beside(file.as_ref(), 1);
        let targets = depend::targets(old);
        if !script_is_back || !targets.contains(&old::SCRIPT) {
            return self.leave(&copy);
        }
        let names =
            |names: Vec<&str>| -> Vec<String> { names.into_iter().map(String::from).collect() };
        let waits = |name: &&str| depend::prerequisites(old, name).contains(&old::SCRIPT);
        let after = names(depend::prerequisites(old, old::SCRIPT));
        let before = names(targets.into_iter().filter(waits).collect());
        let content = depend::with(present, old::SCRIPT, &after, &before).into_bytes();
        self.rewrite(file.into(), content);
        self.left.push(format!(
            "{file} has been written anew since, and {} is put into that; insserv, run in the image, \
             puts all in order",
            old::SCRIPT
        ));
    }

    /// The script, with its links and the copies of it that run levels had; whether it is back.
    fn script(&mut self, root: &Root, records: &[u8]) -> Result<bool> {
        let mut path = old::script(Init::Numbers.scripts());
        let other = old::script(Init::by_scripts(root).scripts());
        if root.is(Kind::File, beside(&other, 1)) {
            path = other;
        }
        let path = root.real_path(&path).unwrap_or(path);
        let is_back = self.file(root, &path, records)?;
        let lines = || records.split(|byte| *byte == b'\n');
        for other in lines().filter_map(file_in).map(|(other, ..)| other) {
            if other != path {
                self.file(root, &other, records)?;
            }
        }
        for (path, text) in lines().filter_map(link_in) {
            let is_of_script = path
                .as_os_str()
                .as_bytes()
                .ends_with(old::SCRIPT.as_bytes());
            if (is_back || !is_of_script) && root.entry_itself(&path)?.is_none() {
                self.steps.push(Step::Link { path, text });
            }
        }
        Ok(is_back)
    }

    /// A file that was set aside; whether it is back.
    fn file(&mut self, root: &Root, path: &Path, records: &[u8]) -> Result<bool> {
        let old = self.copy(root, path)?;
        let present = read(root, path)?;
        let copy = beside(path, 1);
        Ok(match (old, present) {
            (Some(_), None) => {
                let mut files = records.split(|byte| *byte == b'\n').filter_map(file_in);
                let recorded = files.find(|(other, ..)| other == path);
                let (_, mode, owner) = recorded.unwrap_or((path.into(), 0o755, (0, 0)));
                self.steps.push(Step::PutBack {
                    path: path.into(),
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
        })
    }
}

fn numbers_in_fstab(fstab: &Fstab, mount_point: &Path) -> Vec<usize> {
    let is_old = |found| matches!(found, Found::ByName | Found::ByTag);
    old::fstab_lines(fstab, mount_point)
        .filter(|(_, found)| is_old(*found))
        .map(|(line, _)| line.number)
        .collect()
}

/// An fstab that got lines since, with those again that were taken out; None where another was
/// changed, or where a new one takes the place of one of them.
fn fstab_that_has_grown(
    present: &[u8],
    old: &[u8],
    recorded: &[Vec<usize>],
    mount_point: &Path,
) -> Option<Vec<u8>> {
    let was = Fstab::parse(old);
    let unrecorded = [numbers_in_fstab(&was, mount_point)];
    let candidates = match recorded {
        [] => &unrecorded[..],
        recorded => recorded,
    };
    let is = Fstab::parse(present);
    candidates.iter().find_map(|numbers| {
        let mut taken = was.lines.iter().filter(|l| numbers.contains(&l.number));
        let is_there = |place: &Path| is.lines.iter().any(|line| line.mount_point == place);
        let is_free = !taken.any(|line| is_there(&line.mount_point));
        is_free.then(|| old::with_lines(present, old, numbers))?
    })
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
    use crate::clock;

    #[test]
    fn a_copy_in_a_run_level_has_a_name_that_no_init_runs() {
        for (path, copy) in [
            ("/etc/fstab", "/etc/fstab.before-vmstage.2"),
            ("/etc/rc3.d/S20x", "/etc/rc3.d/old-S20x.before-vmstage.2"),
        ] {
            assert_eq!(beside(Path::new(path), 2), Path::new(copy));
        }
    }

    #[test]
    fn a_long_script_takes_no_longer_for_each_line() {
        let start = clock::computed();
        let script = "mount_staging\nmkdir -p /staging/tmp\n".repeat(5000);
        let commands = old::commands(script.as_bytes(), Path::new("/staging"));
        for (fate, left) in [(Script::Goes, 0), (Script::Stays, 5000)] {
            let numbers = numbers_in_script(&commands, fate);
            let rest = old::without_lines(script.as_bytes(), &numbers);
            assert_eq!(rest, "mount_staging\n".repeat(left).as_bytes());
        }
        let took = clock::computed() - start;
        assert!(took.as_secs() < 2, "{took:?}");
    }
}
