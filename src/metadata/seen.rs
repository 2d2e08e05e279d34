//! When a notice that says no time was seen first: from then on its time runs.

use std::collections::BTreeMap;

use super::Answer;
use crate::deadline::ledger::About;
use crate::deadline::limit::{LimitKind, When};

/// The times of the notices that a source gave last, by their keys. Unix seconds.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<String, u64>);

impl Seen {
    /// A notice that says no time, or no longer, keeps the one that it had.
    pub(super) fn settle(&mut self, answer: &mut Answer) {
        let mut times = match &answer.about {
            About::Everything => BTreeMap::new(),
            About::Keys(keys) => {
                let mut others = self.0.clone();
                others.retain(|key, _| !keys.contains(key));
                others
            }
        };
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

    #[test]
    fn what_an_answer_says_nothing_of_is_remembered() {
        let mut seen = Seen::default();
        seen.settle(&mut answer(Some(30), true));
        let mut other = answer(None, true);
        other.about = About::Keys(vec!["another".into()]);
        seen.settle(&mut other);
        let mut again = answer(Some(90), true);
        seen.settle(&mut again);
        assert_eq!(again.limits[0].when, When::At(30));
    }
}
