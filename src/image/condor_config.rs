//! HTCondor's configuration in a tree: what its files set, as far as that can be told while
//! nothing of the tree is run. What cannot be told is listed, and not guessed.

mod line;
mod values;

use std::path::{Path, PathBuf};

use line::{Statement, words};

use super::root::{Kind, Root};
use crate::host::regular_file::MIB;
use crate::host::{Host, kernel_file};
use crate::report::condor::{DIRECTORY, NAME, is_read_by_htcondor};

/// As deep as HTCondor itself goes with files that include others.
const DEEPEST: usize = 20;
const MOST_FILES: usize = 500;
const MOST_BYTES: usize = 8 << 20;
/// Of all files together; the file that old versions bring has 2,500.
const MOST_LINES: usize = 20_000;
/// Of a script that starts daemons.
const MOST_LINES_OF_A_SCRIPT: usize = 2000;
const MOST_UNCLEAR: usize = 20;

/// What starts the daemons; what it sets in their environment comes before all files.
const STARTERS: [&str; 4] = [
    "/etc/sysconfig/condor",
    "/etc/default/condor",
    "/etc/init.d/condor",
    "/etc/rc.d/init.d/condor",
];

/// Where the first file is that there is; without its user's home, and the tarball's last.
const FIRST_FILES: [&str; 3] = [
    "/etc/condor/condor_config",
    "/usr/local/etc/condor_config",
    "/opt/condor/etc/condor_config",
];

/// The defaults of HTCondor itself.
const DEFAULTS: [(&str, &str); 6] = [
    ("LOCAL_DIR", "$(TILDE)"),
    ("SPOOL", "$(LOCAL_DIR)/spool"),
    ("EXECUTE", "$(LOCAL_DIR)/execute"),
    ("LOG", "$(LOCAL_DIR)/log"),
    ("LOCK", "$(LOG)"),
    ("RUN", "$(LOG)"),
];

/// Of templates, as HTCondor 23.9 has them.
const CATEGORIES: [&str; 4] = ["ROLE", "FEATURE", "POLICY", "SECURITY"];
/// Those that set START.
const STARTS: [&str; 3] = ["ALWAYS_RUN_JOBS", "DESKTOP", "UWCS_DESKTOP"];

/// A line that sets something.
pub(crate) struct Setting {
    /// `/etc/condor/config.d/50-site:3`; empty where it is HTCondor's default.
    pub place: String,
    /// In capitals, with what it is limited to: `STARTD.START`.
    pub name: String,
    /// As it is written.
    pub value: String,
    /// Else a condition decides that is not known here.
    pub is_certain: bool,
    pub is_read_after_ours: bool,
}

/// All that is set, in the order in which it is read.
#[derive(Default)]
pub(crate) struct Configuration {
    pub settings: Vec<Setting>,
    /// The files that were read, the first of all at first.
    pub files: Vec<PathBuf>,
    /// What cannot be told: where, and why.
    pub unclear: Vec<(String, String)>,
    /// That the directory is read in which vmstage's drop-in is.
    pub reads_our_directory: bool,
}

/// Reads all that HTCondor reads at its start: the first file, the directories that it names,
/// and then the files. `host` is the machine, where this system is the one that runs.
pub(crate) fn read(root: &Root, host: Option<&Host>) -> Configuration {
    let mut reader = Reader {
        root,
        found: Configuration::default(),
        bytes_left: MOST_BYTES,
        lines_left: MOST_LINES,
    };
    let (first, from_environment) = reader.environment();
    reader.found.settings = reader.specials(host);
    let Some(first) = first.or_else(|| reader.first_file()) else {
        return reader.found;
    };
    let directory = first.parent().unwrap_or(&first).to_string_lossy();
    reader.set("", "CONFIG_ROOT", directory.into(), Truth::Yes);
    let text = reader.text(&first, &first.to_string_lossy(), Missing::IsUnclear);
    reader.statements(&first, &text, 0, Truth::Yes);
    let directories = reader.list("LOCAL_CONFIG_DIR");
    reader.directories(&directories);
    reader.local_files();
    let changed = reader.list("LOCAL_CONFIG_DIR");
    if changed != directories {
        reader.directories(&changed);
    }
    for (place, name, value) in from_environment {
        reader.set(&place, &name, value, Truth::Yes);
    }
    reader.found
}

/// Whether a condition holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Unknown,
}

impl Truth {
    fn and(self, other: Truth) -> Truth {
        match (self, other) {
            (Truth::No, _) | (_, Truth::No) => Truth::No,
            (Truth::Yes, Truth::Yes) => Truth::Yes,
            _ => Truth::Unknown,
        }
    }

    fn not(self) -> Truth {
        match self {
            Truth::Yes => Truth::No,
            Truth::No => Truth::Yes,
            Truth::Unknown => Truth::Unknown,
        }
    }
}

/// One `if` with what belongs to it.
struct Branch {
    /// That the lines which are read now count.
    counts: Truth,
    /// That none before it did.
    is_open: Truth,
}

/// What is said of a file that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsUnclear,
    IsFine,
}

struct Reader<'a> {
    root: &'a Root,
    found: Configuration,
    bytes_left: usize,
    lines_left: usize,
}

impl Reader<'_> {
    fn set(&mut self, place: &str, name: &str, value: String, truth: Truth) {
        self.found.settings.push(Setting {
            place: place.into(),
            name: name.to_ascii_uppercase(),
            value,
            is_certain: truth == Truth::Yes,
            is_read_after_ours: self.found.reads_our_directory,
        });
    }

    fn unclear(&mut self, place: &str, why: impl Into<String>) {
        let new = (place.to_string(), why.into());
        let unclear = &mut self.found.unclear;
        if unclear.len() < MOST_UNCLEAR && !unclear.contains(&new) {
            unclear.push(new);
        }
    }

    /// What is set before any file is read: the defaults, and what HTCondor finds out itself.
    fn specials(&self, host: Option<&Host>) -> Vec<Setting> {
        let default = |name: &str, value: &str| Setting {
            place: String::new(),
            name: name.into(),
            value: value.into(),
            is_certain: true,
            is_read_after_ours: false,
        };
        let mut all: Vec<Setting> = DEFAULTS.map(|(n, v)| default(n, v)).into();
        let accounts = self.root.text("/etc/passwd");
        let home = accounts.lines().find(|line| line.starts_with("condor:"));
        if let Some(home) = home.and_then(|line| line.split(':').nth(5)) {
            all.push(default("TILDE", home.trim_end_matches('/')));
        }
        // What a system is called that does not run, its files say.
        let name = match host {
            Some(host) => kernel_file::read_text(host.path("/proc/sys/kernel/hostname")),
            None => Ok(self.root.text("/etc/hostname")),
        };
        let name = name.unwrap_or_default();
        let name = name.trim();
        if !name.is_empty() {
            let short = name.split('.').next().unwrap_or(name);
            all.push(default("HOSTNAME", short));
            if short != name {
                all.push(default("FULL_HOSTNAME", name));
            }
        }
        all
    }

    /// The first file and the settings that the daemons' environment names.
    fn environment(&mut self) -> (Option<PathBuf>, Vec<(String, String, String)>) {
        let (mut first, mut settings) = (None, Vec::new());
        for file in STARTERS {
            let script = self.root.text(file);
            for (number, text) in script.lines().take(MOST_LINES_OF_A_SCRIPT).enumerate() {
                let text = text.trim().trim_start_matches("export ");
                let Some((name, value)) = text.split_once('=') else {
                    continue;
                };
                let place = format!("{file}:{}", number + 1);
                let value = value.split([';', '#']).next().unwrap_or_default();
                let value = value.trim().trim_matches(['"', '\'']);
                let name = name.trim();
                let setting = name
                    .strip_prefix("_CONDOR_")
                    .or(name.strip_prefix("_condor_"));
                let is_first = name == "CONDOR_CONFIG";
                let is_plain = !value.contains(['$', '`', '|']);
                if setting.is_some() && !is_plain
                    || is_first && !(is_plain && value.starts_with('/'))
                {
                    self.unclear(&place, "what it says is not worked out here");
                } else if let Some(setting) = setting {
                    settings.push((place, setting.into(), value.into()));
                } else if is_first && first.is_none() {
                    first = Some(PathBuf::from(value));
                }
            }
        }
        (first, settings)
    }

    fn first_file(&self) -> Option<PathBuf> {
        let home = self.found.value("TILDE").ok();
        let home = home.map(|home| PathBuf::from(home).join("condor_config"));
        let [packaged, local, tarball] = FIRST_FILES.map(PathBuf::from);
        let all = [Some(packaged), Some(local), home, Some(tarball)];
        let there = |path: &PathBuf| !matches!(self.root.entry(path), Ok(None));
        all.into_iter().flatten().find(there)
    }

    /// A list of paths that is set: with blanks or commas between them. The output of a program
    /// is none.
    fn list(&mut self, name: &str) -> Vec<PathBuf> {
        let found = &self.found;
        let value = match found.last(name, found.settings.len()) {
            Ok(None) => return Vec::new(),
            Ok(Some(place)) => found.value_at(place),
            Err(why) => Err(why),
        };
        let why = match value {
            Ok(value) if value.trim_end().ends_with('|') => PROGRAM.into(),
            Ok(value) => return words(&value).into_iter().map(PathBuf::from).collect(),
            Err(why) => why,
        };
        let set = found.settings.iter().rfind(|setting| setting.name == name);
        let place = set.map(|setting| setting.place.clone());
        self.unclear(&place.unwrap_or_default(), format!("{name}: {why}"));
        Vec::new()
    }

    fn directories(&mut self, directories: &[PathBuf]) {
        let ours = self.root.real_path(DIRECTORY.as_ref()).ok();
        for directory in directories {
            let real = self.root.real_path(directory).ok();
            let is_ours = directory == Path::new(DIRECTORY) || real.is_some() && real == ours;
            let names = match self.root.names(directory) {
                Ok(names) if directory.is_absolute() => names,
                Ok(_) => {
                    self.unclear(&directory.to_string_lossy(), RELATIVE);
                    continue;
                }
                Err(e) => {
                    self.unclear(&directory.to_string_lossy(), e.to_string());
                    continue;
                }
            };
            let mut is_before = is_ours;
            for name in names {
                if is_before && *name >= *NAME {
                    self.pass_ours();
                    is_before = false;
                }
                let path = directory.join(&name);
                let is_skipped = is_ours && name == NAME || self.root.is(Kind::Directory, &path);
                if is_read_by_htcondor(&name) && !is_skipped {
                    self.file(&path, 0, Truth::Yes, Missing::IsFine);
                }
            }
            if is_before {
                self.pass_ours();
            }
        }
    }

    /// What was read until now comes before vmstage's.
    fn pass_ours(&mut self) {
        self.found.reads_our_directory = true;
        for setting in &mut self.found.settings {
            setting.is_read_after_ours = false;
        }
    }

    /// Each may name others.
    fn local_files(&mut self) {
        let mut done: Vec<PathBuf> = Vec::new();
        loop {
            let list = self.list("LOCAL_CONFIG_FILE");
            let Some(next) = list.into_iter().find(|path| !done.contains(path)) else {
                return;
            };
            if next.as_path() != Path::new(DIRECTORY).join(NAME) {
                self.file(&next, 0, Truth::Yes, Missing::IsFine);
            }
            done.push(next);
            if done.len() > MOST_FILES {
                return;
            }
        }
    }

    fn file(&mut self, path: &Path, depth: usize, truth: Truth, missing: Missing) {
        let shown = path.to_string_lossy();
        if !path.is_absolute() {
            return self.unclear(&shown, RELATIVE);
        }
        let text = self.text(path, &shown, missing);
        self.statements(path, &text, depth, truth);
    }

    /// What is in a file, while the bounds hold.
    fn text(&mut self, path: &Path, shown: &str, missing: Missing) -> String {
        if self.found.files.len() >= MOST_FILES || self.bytes_left == 0 {
            self.unclear(
                shown,
                "HTCondor's configuration is larger than what is looked at",
            );
            return String::new();
        }
        match self.root.read(path, MIB) {
            Ok(Some(bytes)) => {
                self.bytes_left = self.bytes_left.saturating_sub(bytes.len());
                self.found.files.push(path.into());
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Ok(None) => {
                if missing == Missing::IsUnclear {
                    self.unclear(shown, "it is not there");
                }
                String::new()
            }
            Err(e) => {
                self.unclear(shown, format!("it cannot be read: {e}"));
                String::new()
            }
        }
    }

    fn statements(&mut self, path: &Path, text: &str, depth: usize, under: Truth) {
        let mut branches: Vec<Branch> = Vec::new();
        for (number, whole) in line::logical(text) {
            let place = format!("{}:{number}", path.display());
            let Some(left) = self.lines_left.checked_sub(1) else {
                return self.unclear(&place, TOO_LARGE);
            };
            self.lines_left = left;
            let here = branches
                .iter()
                .fold(under, |t, branch| t.and(branch.counts));
            match line::statement(&whole) {
                Statement::If(condition) => {
                    let counts = self.holds(condition);
                    let is_open = counts.not();
                    branches.push(Branch { counts, is_open });
                }
                Statement::Else(condition) => {
                    let holds = condition.map_or(Truth::Yes, |condition| self.holds(condition));
                    if let Some(branch) = branches.last_mut() {
                        branch.counts = branch.is_open.and(holds);
                        branch.is_open = branch.is_open.and(holds.not());
                    }
                }
                Statement::EndIf => drop(branches.pop()),
                _ if here == Truth::No => {}
                Statement::Nothing => {}
                Statement::Unknown => self.unclear(&place, "the line is not understood"),
                Statement::Set { name, value } => self.set(&place, name, value, here),
                Statement::Use { category, names } => self.templates(&place, category, names, here),
                Statement::Include { options, target } => {
                    self.include(&place, options, target, depth, here);
                }
            }
        }
    }

    fn holds(&self, condition: &str) -> Truth {
        let condition = condition.trim();
        if let Some(condition) = condition.strip_prefix('!') {
            return self.holds(condition).not();
        }
        let lower = condition.to_ascii_lowercase();
        if let Some(name) = lower.strip_prefix("defined ") {
            let name = name.trim().to_ascii_uppercase();
            // Names that are not set may have a default.
            return match self.found.last(&name, self.found.settings.len()) {
                Ok(Some(_)) => Truth::Yes,
                _ => Truth::Unknown,
            };
        }
        let value = self.found.expand(&lower, None, &mut 0);
        match value
            .as_deref()
            .map(str::trim)
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Ok("true" | "yes" | "t" | "1") => Truth::Yes,
            Ok("false" | "no" | "f" | "0" | "") => Truth::No,
            _ => Truth::Unknown,
        }
    }

    /// Some decide about START, and some read a configuration from elsewhere.
    fn templates(&mut self, place: &str, category: &str, names: &str, here: Truth) {
        let is = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        if !CATEGORIES.iter().any(|known| is(known, category)) {
            self.unclear(place, format!("what {category} sets is not known"));
        }
        for name in words(names) {
            if is(category, "POLICY") && STARTS.iter().any(|start| is(start, name)) {
                self.set(place, "START", format!("use {category} : {name}"), here);
            } else if is(name, "REMOTE_CONFIG") || is(name, "REMOTE_RUNTIME_CONFIG") {
                self.unclear(place, PROGRAM);
            }
        }
    }

    fn include(&mut self, place: &str, options: &str, target: &str, depth: usize, here: Truth) {
        let options = options.to_ascii_lowercase();
        let mut options = options.split_whitespace();
        let missing = match options.clone().any(|option| option == "ifexist") {
            true => Missing::IsFine,
            false => Missing::IsUnclear,
        };
        let is_command = options.clone().any(|option| option == "command") || target.ends_with('|');
        if depth >= DEEPEST {
            return self.unclear(place, "files include others without end");
        }
        // The output of before, if it was written into a file.
        let cached = options
            .find(|option| *option == "into")
            .and_then(|_| options.next());
        let target = match (is_command, cached) {
            (true, Some(cached)) => cached,
            (true, None) => return self.unclear(place, PROGRAM),
            (false, _) => target,
        };
        match self.found.expand(target, None, &mut 0) {
            Ok(path) if is_command && !self.root.is(Kind::File, &path) => {
                self.unclear(place, PROGRAM);
            }
            Ok(path) if !Path::new(&path).is_absolute() => {
                self.unclear(place, format!("{path} is no absolute path"));
            }
            Ok(path) => self.file(path.as_ref(), depth + 1, here, missing),
            Err(why) => self.unclear(place, why),
        }
    }
}

const TOO_LARGE: &str = "HTCondor's configuration is larger than what is looked at";
const RELATIVE: &str = "it is no absolute path";
const PROGRAM: &str = "a program says what is set, and none is run here";

#[cfg(test)]
mod tests;
