//! `.vmstage`, the mark that a scratch disk bears once it was staged: which machine and
//! instance staged it, first and last when, and by which version.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::text::excerpt;

/// Its name, in the root directory of the scratch disk.
pub(crate) const NAME: &str = ".vmstage";

/// Where a new one is written, in the same directory. A run that died may have left it.
pub(crate) const TEMPORARY: &str = ".vmstage.new";

/// A mark is not larger than that.
pub(crate) const LIMIT: u64 = 4096;

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The version of this program that staged the disk last.
    pub(crate) version: String,
    /// The machine's own UUID, where it was known.
    #[serde(default)]
    pub(crate) machine: Option<String>,
    /// The instance's, where a metadata source said.
    #[serde(default)]
    pub(crate) instance: Option<String>,
    /// The UUID of the file system that was staged, where it has one. Builds before 0.2.0 did
    /// not say it.
    #[serde(default)]
    pub(crate) filesystem: Option<String>,
    /// Unix seconds.
    pub(crate) first_staged: u64,
    pub(crate) last_staged: u64,
}

impl Mark {
    /// None where this is the text of something else. What it says may be anybody's, and is
    /// made fit to be shown.
    pub(crate) fn parse(text: &[u8]) -> Option<Mark> {
        // serde would take an array for a struct.
        let is_object = text.trim_ascii_start().first() == Some(&b'{');
        if !is_object || text.len() as u64 > LIMIT {
            return None;
        }
        let mark: Mark = serde_json::from_slice(text).ok()?;
        let clean = |text: Option<String>| text.map(|text| excerpt(&text));
        Some(Mark {
            version: excerpt(&mark.version),
            machine: clean(mark.machine),
            instance: clean(mark.instance),
            filesystem: clean(mark.filesystem),
            ..mark
        })
    }

    /// As it is written: this machine stages the disk now, which may bear a mark already.
    pub(crate) fn staged_by(
        machine: Option<String>,
        instance: Option<String>,
        filesystem: Option<String>,
        now: u64,
        earlier: Option<&Mark>,
    ) -> Mark {
        // A disk that does not answer in time does not say it.
        let filesystem = filesystem.or(earlier.and_then(|earlier| earlier.filesystem.clone()));
        let same = earlier.filter(|earlier| {
            earlier.is_by(machine.as_deref())
                && earlier.counts(filesystem.as_deref(), machine.as_deref())
        });
        Mark {
            version: env!("CARGO_PKG_VERSION").into(),
            instance: instance.or(same.and_then(|same| same.instance.clone())),
            first_staged: same.map_or(now, |same| same.first_staged),
            last_staged: now,
            machine,
            filesystem,
        }
    }

    /// Whether it was written for this file system, and not copied with other files. One that
    /// does not say for which must be this machine's.
    pub(crate) fn counts(&self, filesystem: Option<&str>, machine: Option<&str>) -> bool {
        let is_same = |own: &Option<String>, other: Option<&str>| match (own, other) {
            (Some(own), Some(other)) => own.eq_ignore_ascii_case(other),
            _ => false,
        };
        match self.filesystem {
            Some(_) => is_same(&self.filesystem, filesystem),
            None => is_same(&self.machine, machine),
        }
    }

    /// Whether this machine staged it, as far as both are known.
    pub(crate) fn is_by(&self, machine: Option<&str>) -> bool {
        match (&self.machine, machine) {
            (Some(by), Some(machine)) => by.eq_ignore_ascii_case(machine),
            _ => true,
        }
    }

    /// Whether what it says needs no writing again for a while.
    pub(crate) fn is_as_good_as(&self, other: &Mark) -> bool {
        const HOUR: Duration = Duration::from_secs(3600);
        let age = other.last_staged.abs_diff(self.last_staged);
        let undated = |mark: &Mark| Mark {
            last_staged: 0,
            ..mark.clone()
        };
        undated(self) == undated(other) && age < HOUR.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_nothing_else_is_one() {
        let mark = Mark::staged_by(Some("A-1".into()), None, None, 100, None);
        let text = serde_json::to_vec(&mark).unwrap();
        assert_eq!(Mark::parse(&text), Some(mark));
        let long = format!("{{\"version\": \"{}\"}}", "x".repeat(5000));
        for other in [
            "",
            "{}",
            "[]",
            "hello",
            "[\"v\",null,null,1,2]",
            long.as_str(),
        ] {
            assert_eq!(Mark::parse(other.as_bytes()), None, "{other:.20}");
        }
    }

    #[test]
    fn the_first_time_is_kept_on_the_same_machine_alone() {
        let first = Mark::staged_by(Some("a-1".into()), Some("i".into()), None, 100, None);
        let again = Mark::staged_by(Some("A-1".into()), None, None, 200, Some(&first));
        assert_eq!((again.first_staged, again.last_staged), (100, 200));
        assert_eq!(again.instance.as_deref(), Some("i"));
        let clone = Mark::staged_by(Some("b-2".into()), None, None, 300, Some(&again));
        assert_eq!((clone.first_staged, clone.instance), (300, None));
        assert!(!again.is_by(Some("b-2")) && again.is_by(None));
    }

    #[test]
    fn a_mark_counts_where_it_was_written() {
        let mark = |machine: Option<&str>, filesystem: Option<&str>| {
            Mark::staged_by(
                machine.map(Into::into),
                None,
                filesystem.map(Into::into),
                1,
                None,
            )
        };
        // The machine's and the file system's of the mark, then those that there are.
        let cases = [
            (None, Some("f-1"), None, Some("F-1"), true),
            (Some("b"), Some("f-1"), Some("a"), Some("f-1"), true),
            // A copy of the file alone.
            (Some("a"), Some("f-1"), Some("a"), Some("f-2"), false),
            (Some("a"), Some("f-1"), Some("a"), None, false),
            // Of an earlier build, or where the file system has no UUID.
            (Some("a"), None, Some("A"), Some("f-1"), true),
            (Some("a"), None, Some("a"), None, true),
            (Some("b"), None, Some("a"), Some("f-1"), false),
            (None, None, Some("a"), Some("f-1"), false),
            (Some("a"), None, None, None, false),
            (None, None, None, None, false),
        ];
        for (by, of, machine, filesystem, expected) in cases {
            let counts = mark(by, of).counts(filesystem, machine);
            assert_eq!(counts, expected, "{by:?} {of:?} {machine:?} {filesystem:?}");
        }
    }

    #[test]
    fn no_terminal_acts_on_what_a_mark_says() {
        let hostile = "a\\u001b[2J\\nb";
        let text = format!(
            r#"{{"version":"{hostile}","machine":"{hostile}","instance":"{hostile}","filesystem":"{hostile}","first_staged":1,"last_staged":2}}"#
        );
        let mark = Mark::parse(text.as_bytes()).unwrap();
        let clean = Some("a\u{fffd}[2J\u{fffd}b".to_string());
        assert_eq!(Some(mark.version), clean);
        assert_eq!(
            [mark.machine, mark.instance, mark.filesystem],
            [(); 3].map(|()| clean.clone())
        );
    }
}
