//! A run of `vmstage plan`, and what OpenStack's client printed for it.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{self, schema, scratch_file};

/// The versions of the client that were recorded.
pub const GENERATIONS: [&str; 2] = ["10.5.0", "3.18.1"];

/// Where a recorded output is.
pub fn recorded(version: &str, name: &str) -> String {
    let sources = env!("CARGO_MANIFEST_DIR");
    format!("{sources}/tests/data/openstack/{version}/{name}.json")
}

/// What the client printed.
pub fn printed(version: &str, name: &str) -> String {
    let file = recorded(version, name);
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"))
}

pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `vmstage plan` with these arguments and standard input.
pub fn plan(arguments: &[&str], stdin: &str) -> Said {
    plan_in(&std::env::temp_dir(), arguments, stdin)
}

/// Likewise, in this directory.
pub fn plan_in(directory: &Path, arguments: &[&str], stdin: &str) -> Said {
    let program = fs::canonicalize(common::program()).unwrap();
    let mut child = Command::new(program)
        .arg("plan")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may not want it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    schema::look_at(&[&["plan"], arguments].concat(), &said.stdout);
    said
}

impl Said {
    /// The exit code, and words that are in what was said.
    #[track_caller]
    pub fn is(&self, code: i32, words: &[&str]) -> &Said {
        assert_eq!(self.code, code, "{self}");
        let all = format!("{}{}", self.stdout, self.stderr);
        for words in words {
            assert!(all.contains(words), "no {words:?}\n{self}");
        }
        self
    }

    /// The line of a table that begins so.
    #[track_caller]
    pub fn line(&self, begin: &str) -> &str {
        let line = self.stdout.lines().find(|line| line.starts_with(begin));
        line.unwrap_or_else(|| panic!("no line {begin:?}\n{self}"))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Said {
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "exit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}"
        )
    }
}

/// A directory of a claim's own, which goes with it.
pub struct Folder(pub PathBuf);

impl Folder {
    /// With these files, given as paths and texts.
    pub fn with(files: &[(&str, String)]) -> Folder {
        let folder = Folder(scratch_file());
        for (path, text) in files {
            let path = folder.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    /// Runs `vmstage plan` in it.
    pub fn plan(&self, arguments: &[&str]) -> Said {
        plan_in(&self.0, arguments, "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
