//! What a run of the program did, and claims about it.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// One line of the mount table, as seen inside the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    pub device: String,
    pub point: String,
    pub filesystem: String,
    pub options: String,
}

pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// What was written to `/dev/console`.
    pub console: String,
    /// The status file as it is after the run.
    pub status: Option<Value>,
    pub mounts: Vec<Mount>,
    pub took: Duration,
    pub mount_point: String,
}

impl Outcome {
    /// What is mounted on the mount point; the last one is what one sees there.
    pub fn staged(&self) -> Vec<&Mount> {
        let there = |mount: &&Mount| mount.point == self.mount_point;
        self.mounts.iter().filter(there).collect()
    }

    /// Exit code 0, and everybody has been told that this device is staged.
    #[track_caller]
    pub fn ready_on(&self, device: &str) -> &Outcome {
        assert_eq!(self.code, 0, "{self}");
        let staged = self.staged();
        assert_eq!(staged.len(), 1, "not mounted once\n{self}");
        assert_eq!(staged[0].device, device, "another device is there\n{self}");
        let status = self.the_status();
        assert_eq!(status["outcome"], "ready", "{self}");
        assert_eq!(status["exit_code"], 0, "{self}");
        assert_eq!(status["error"], Value::Null, "{self}");
        assert_eq!(status["staging"]["device"], device, "{self}");
        let said = format!("vmstage: ready: {device} (");
        assert!(self.console.contains(&said), "{self}");
        self
    }

    /// This exit code, the same in the status file and on the console, one sentence
    /// on what happened, and nothing mounted.
    #[track_caller]
    pub fn failed(&self, code: i32) -> &Outcome {
        self.failed_staged(code);
        assert!(self.staged().is_empty(), "something is mounted\n{self}");
        self
    }

    /// The same, of a failure after which the disk stays mounted.
    #[track_caller]
    pub fn failed_staged(&self, code: i32) -> &Outcome {
        assert_eq!(self.code, code, "{self}");
        let status = self.the_status();
        assert_eq!(status["outcome"], "failed", "{self}");
        assert_eq!(status["exit_code"], code, "{self}");
        let error = status["error"].as_str().unwrap_or_default();
        assert!(!error.is_empty(), "no error in the status\n{self}");
        let said = format!("vmstage: FAILED({code}): {error}\n");
        assert!(self.console.ends_with(&said), "not {said:?}\n{self}");
        assert!(self.stderr.contains(error), "{self}");
        self
    }

    #[track_caller]
    pub fn the_status(&self) -> &Value {
        let Some(status) = &self.status else {
            panic!("there is no status file\n{self}");
        };
        status
    }

    /// These words, in any case, are in what it said to people.
    #[track_caller]
    pub fn says(&self, words: &str) -> &Outcome {
        assert!(holds(&self.stderr, words), "does not say {words:?}\n{self}");
        self
    }

    #[track_caller]
    pub fn does_not_say(&self, words: &str) -> &Outcome {
        assert!(!holds(&self.stderr, words), "says {words:?}\n{self}");
        self
    }

    /// A warning, in the status file and to people, that holds all of these words.
    #[track_caller]
    pub fn warns(&self, words: &[&str]) -> &Outcome {
        let warnings = self.warnings();
        let found = warnings
            .iter()
            .find(|warning| words.iter().all(|word| holds(warning, word)));
        let Some(warning) = found else {
            panic!("no warning with {words:?}\n{self}");
        };
        assert!(self.stderr.contains(warning.as_str()), "{self}");
        self
    }

    #[track_caller]
    pub fn warns_of_nothing(&self) -> &Outcome {
        assert!(self.warnings().is_empty(), "{self}");
        self
    }

    /// The device was looked at and rejected for a reason with these words, which was
    /// said to people as well.
    #[track_caller]
    pub fn rejects(&self, device: &str, words: &str) -> &Outcome {
        self.verdict(device, "rejected", words)
    }

    /// There is a verdict of this kind on this device (or spec), with these words in its
    /// reason.
    #[track_caller]
    pub fn verdict(&self, on: &str, kind: &str, words: &str) -> &Outcome {
        let verdicts = self.the_status()["verdicts"].as_array().unwrap();
        let found = verdicts.iter().find(|verdict| {
            (verdict["device"] == on || verdict["spec"] == on)
                && verdict["verdict"] == kind
                && holds(verdict["reason"].as_str().unwrap_or_default(), words)
        });
        assert!(
            found.is_some(),
            "no verdict: {on} {kind} ({words:?})\n{self}"
        );
        self
    }

    fn warnings(&self) -> Vec<String> {
        serde_json::from_value(self.the_status()["warnings"].clone()).unwrap()
    }
}

fn holds(text: &str, words: &str) -> bool {
    text.to_lowercase().contains(&words.to_lowercase())
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "exit code {} after {:?}", self.code, self.took)?;
        for (name, text) in [
            ("stdout", &self.stdout),
            ("stderr", &self.stderr),
            ("console", &self.console),
        ] {
            for line in text.lines() {
                writeln!(f, "{name:>8} | {line}")?;
            }
        }
        if let Some(status) = &self.status {
            for line in serde_json::to_string_pretty(status).unwrap().lines() {
                writeln!(f, "  status | {line}")?;
            }
        }
        for mount in &self.mounts {
            if mount.device.starts_with("/dev") || mount.point == self.mount_point {
                writeln!(f, "  mounts | {mount:?}")?;
            }
        }
        Ok(())
    }
}
