//! When a notice that says no time was seen first: from then on its time runs.

use std::collections::BTreeMap;

use super::Answer;
use crate::deadline::limit::{LimitKind, When};

/// The times of the notices in the last answer of a source, by their keys. Unix seconds.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<String, u64>);

impl Seen {
    /// A notice that says no time, or no longer, keeps the one that it had.
    pub(super) fn settle(&mut self, answer: &mut Answer) {
        let mut times = BTreeMap::new();
        for limit in &mut answer.limits {
            let (LimitKind::Notice, When::At(at)) = (limit.kind, &mut limit.when) else {
                continue;
            };
            let key = &limit.origin.key;
            if let Some(before) = self.0.get(key).filter(|_| answer.undated.contains(key)) {
                *at = *before.min(at);
            }
            times.insert(key.clone(), *at);
        }
        self.0 = times;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::limit::Limit;
    use crate::deadline::origin::{LimitSource, Origin};

    fn answer(at: Option<u64>, undated: bool) -> Answer {
        let origin = || Origin::new(LimitSource::Azure, "event");
        Answer {
            limits: at
                .map(|at| Limit::notice(origin(), When::At(at)))
                .into_iter()
                .collect(),
            undated: undated.then(|| "event".to_string()).into_iter().collect(),
            ..Answer::default()
        }
    }

    #[test]
    fn a_notice_without_a_time_does_not_move_while_it_is_there() {
        let mut seen = Seen::default();
        // Its time in each answer, whether that is only when it was asked, and what counts.
        let answers = [
            (Some(30), true, Some(30)),
            (Some(90), true, Some(30)),
            (None, true, None),
            // Another one.
            (Some(150), true, Some(150)),
            // A time of its own counts, also a later one.
            (Some(200), false, Some(200)),
            // It has begun, and says no time any more.
            (Some(300), true, Some(200)),
            (Some(100), true, Some(100)),
        ];
        for (at, undated, expected) in answers {
            let mut answer = answer(at, undated);
            seen.settle(&mut answer);
            let whens: Vec<When> = answer.limits.into_iter().map(|limit| limit.when).collect();
            let expected: Vec<When> = expected.map(When::At).into_iter().collect();
            assert_eq!(whens, expected, "{at:?} {undated}");
        }
    }
}
