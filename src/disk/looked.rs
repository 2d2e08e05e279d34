//! What a look into a file system showed: plain data.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::mark::Mark;

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Look {
    Seen(Contents),
    /// What is in it cannot be known.
    Failed(String),
    /// Nor while something else has it in use, which may end.
    Busy(String),
    /// It is mounted on the mount point already, and nobody looked.
    Staged,
}

/// What is in the root directory of a file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contents {
    /// Of earlier staging by this program.
    pub(crate) mark: Option<Mark>,
    /// A journal or a log is to be replayed first: what is seen now is not what will be.
    pub(crate) is_replay_pending: bool,
    /// Other names than the mark's, the configured directories and an empty `lost+found`.
    pub(crate) others: Names,
    /// Other names than those which a file system has that nobody has used yet.
    pub(crate) used: Names,
}

/// Some names, as people are told of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    /// The first few, sorted.
    pub(crate) first: Vec<String>,
    pub(crate) count: usize,
    /// Counting ended before the directory did.
    pub(crate) is_cut: bool,
}

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && !self.is_cut
    }
}

/// `etc, home, root … 17 in all`.
impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.first.join(", "))?;
        match (self.count > self.first.len(), self.is_cut) {
            (_, true) => write!(f, " … more than {} in all", self.count),
            (true, false) => write!(f, " … {} in all", self.count),
            (false, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_with_how_many_there_are() {
        let names = |first: &[&str], count, is_cut| Names {
            first: first.iter().map(ToString::to_string).collect(),
            count,
            is_cut,
        };
        assert_eq!(names(&["a"], 1, false).to_string(), "a");
        assert_eq!(
            names(&["etc", "home", "root"], 17, false).to_string(),
            "etc, home, root … 17 in all"
        );
        assert_eq!(names(&["a"], 9, true).to_string(), "a … more than 9 in all");
    }
}
