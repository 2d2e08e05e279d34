//! `.vmstage`, the mark that a scratch disk bears once it was staged: which machine and
//! instance staged it, first and last when, and by which version.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    /// Unix seconds.
    pub(crate) first_staged: u64,
    pub(crate) last_staged: u64,
}

impl Mark {
    /// None where this is the text of something else.
    pub(crate) fn parse(text: &[u8]) -> Option<Mark> {
        // serde would take an array for a struct.
        let is_object = text.trim_ascii_start().first() == Some(&b'{');
        let mark = serde_json::from_slice(text).ok();
        mark.filter(|_| is_object && text.len() as u64 <= LIMIT)
    }

    /// As it is written: this machine stages the disk now, which may bear a mark already.
    pub(crate) fn staged_by(
        machine: Option<String>,
        instance: Option<String>,
        now: u64,
        earlier: Option<&Mark>,
    ) -> Mark {
        let same = earlier.filter(|earlier| earlier.is_by(machine.as_deref()));
        Mark {
            version: env!("CARGO_PKG_VERSION").into(),
            instance: instance.or(same.and_then(|same| same.instance.clone())),
            first_staged: same.map_or(now, |same| same.first_staged),
            last_staged: now,
            machine,
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
        let mark = Mark::staged_by(Some("A-1".into()), None, 100, None);
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
        let first = Mark::staged_by(Some("a-1".into()), Some("i".into()), 100, None);
        let again = Mark::staged_by(Some("A-1".into()), None, 200, Some(&first));
        assert_eq!((again.first_staged, again.last_staged), (100, 200));
        assert_eq!(again.instance.as_deref(), Some("i"));
        let clone = Mark::staged_by(Some("b-2".into()), None, 300, Some(&again));
        assert_eq!((clone.first_staged, clone.instance), (300, None));
        assert!(!again.is_by(Some("b-2")) && again.is_by(None));
    }
}
