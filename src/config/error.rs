//! What is wrong with a configuration.

use std::fmt;
use std::io;
use std::path::Path;

/// What is wrong with a configuration, in one line: file, line, key, and why.
#[derive(Debug, Clone)]
pub struct ConfigError {
    text: String,
    permission: bool,
    turns_off_condor: bool,
}

impl ConfigError {
    pub(crate) fn new(text: String) -> ConfigError {
        ConfigError {
            text,
            permission: false,
            turns_off_condor: false,
        }
    }

    /// What is wrong with a file of this content.
    pub(crate) fn within(self, file: &Path, content: &[u8]) -> ConfigError {
        ConfigError {
            text: format!("{}, {}", file.display(), self.text),
            turns_off_condor: turns_off_condor(content),
            ..self
        }
    }

    /// That the file cannot be read.
    pub(crate) fn unreadable(file: &Path, error: &io::Error) -> ConfigError {
        ConfigError {
            text: format!("cannot read {}: {error}", file.display()),
            permission: error.kind() == io::ErrorKind::PermissionDenied,
            turns_off_condor: false,
        }
    }

    /// Whoever asks may not read the file.
    pub(crate) fn is_about_permission(&self) -> bool {
        self.permission
    }

    /// As far as can be seen, HTCondor is nothing that this program is to rule.
    pub(super) fn turns_off_condor(&self) -> bool {
        self.turns_off_condor
    }
}

/// A line with both words will be meant so, whatever is wrong with it or around it.
fn turns_off_condor(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let settings = text.lines().filter_map(|line| line.split('#').next());
    settings
        .filter(|line| line.contains("condor"))
        .any(|line| line.contains("false"))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_turns_htcondor_off_by_the_look_of_it() {
        for (content, expected) in [
            ("[report]\ncondor = false\nmotd = 1", true),
            ("report = { condor = false, motd = fals", true),
            ("report.condor=false\n[", true),
            ("[report]\ncondor = flase", false),
            ("# condor = false\n[", false),
            ("motd = false # not condor\n[", false),
            ("[report]\ncondor = true\nmotd = flase", false),
            ("\u{0}", false),
        ] {
            let wrong = ConfigError::new("a slip".into());
            let wrong = wrong.within(Path::new("/etc/vmstage.toml"), content.as_bytes());
            assert_eq!(wrong.turns_off_condor(), expected, "{content}");
            assert_eq!(wrong.to_string(), "/etc/vmstage.toml, a slip");
        }
    }
}
