//! Which events the cloud was told that it need not wait any longer with. Pure.

use std::time::Duration;

/// Until a cloud that could not be told to go on is told again.
const AGAIN: Duration = Duration::from_secs(20);

/// What the cloud was told. Each event stands for itself: one that it no longer knows costs no
/// other.
#[derive(Default)]
pub(super) struct Acknowledged {
    taken: Vec<String>,
    /// With the uptime at which it is told again.
    refused: Vec<(String, Duration)>,
}

impl Acknowledged {
    pub(super) fn is_due(&self, id: &String, uptime: Duration) -> bool {
        let mut refused = self.refused.iter();
        let waits = refused.any(|(of, again)| of == id && uptime < *again);
        !self.taken.contains(id) && !waits
    }

    pub(super) fn note(&mut self, id: String, taken: bool, uptime: Duration) {
        self.refused.retain(|(of, _)| *of != id);
        match taken {
            true => self.taken.push(id),
            false => self.refused.push((id, uptime + AGAIN)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_tried_again_and_what_was_taken_is_not() {
        let mut acknowledged = Acknowledged::default();
        let (refused, taken) = ("a".to_string(), "b".to_string());
        let at = Duration::from_secs;
        for (uptime, is_due) in [(100, true), (105, false), (120, true), (139, false)] {
            assert_eq!(
                acknowledged.is_due(&refused, at(uptime)),
                is_due,
                "{uptime}"
            );
            let is_taken_due = acknowledged.is_due(&taken, at(uptime));
            assert_eq!(is_taken_due, uptime == 100, "{uptime}");
            if is_due {
                acknowledged.note(refused.clone(), false, at(uptime));
            }
            if is_taken_due {
                acknowledged.note(taken.clone(), true, at(uptime));
            }
        }
        acknowledged.note(refused.clone(), true, at(140));
        assert!(!acknowledged.is_due(&refused, at(1000)));
    }
}
