//! Which instance this machine is. Pure.
//!
//! The machine's own UUID says it: Nova and EC2 put the instance's there. Where there is
//! none, it takes two answers in succession. An answer that names another instance than the
//! known one is not used. Bare metal has its board's UUID, which no answer ever names: that
//! gives way to what all answers say for ten minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_trust::APART;
use super::origin::LimitSource;

/// An instance of which nobody is certain is another's, where for so long, and in so many
/// answers, they give one other.
const GIVES_WAY: Duration = Duration::from_secs(600);
const ANSWERS: u32 = 5;

/// Ids of one kind can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Uuid,
    Ec2,
    Google,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Named {
    id: String,
    /// The uptime at which it was first given.
    first: Duration,
    is_known: bool,
}

/// Another instance than the known one, that answers have given since, and not once the known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Rival {
    id: String,
    /// The uptime at which it was first given.
    first: Duration,
    answers: u32,
}

/// What is known of who this is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Identity {
    machine: Option<String>,
    /// Whoever made the machine gave it the instance's UUID.
    #[serde(default)]
    is_machine_certain: bool,
    named: BTreeMap<Kind, Named>,
    #[serde(default)]
    rivals: BTreeMap<Kind, Rival>,
}

/// The ids of this instance, as far as they are known.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Names {
    pub(crate) machine: Option<String>,
    pub(crate) uuid: Option<String>,
    pub(crate) others: Vec<String>,
}

impl Names {
    pub(super) fn has_uuid(&self) -> bool {
        self.machine.is_some() || self.uuid.is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.has_uuid() && self.others.is_empty()
    }

    pub(super) fn is_ours(&self, uuid: &str) -> bool {
        let ours = [&self.machine, &self.uuid];
        ours.into_iter().flatten().any(|id| is_same(id, uuid))
    }
}

/// What an answer that names an instance is worth.
#[derive(Debug, PartialEq)]
pub(crate) enum Judgement {
    Ours,
    /// Until another answer says so nobody knows; what the source said before is void.
    First,
    /// Not used, for this reason.
    Anothers(String),
}

impl Identity {
    pub(crate) fn of(machine: Option<String>) -> Identity {
        Identity {
            machine,
            ..Identity::default()
        }
    }

    /// The machine's own UUID is known to be the instance's.
    pub(crate) fn trust_machine(&mut self) {
        self.is_machine_certain = self.machine.is_some();
    }

    /// What a process before this one knew, of this boot.
    pub(crate) fn or_as_before(self, before: Identity) -> Identity {
        match before.machine == self.machine {
            true => before,
            false => self,
        }
    }

    /// Judges an answer of this source that names this instance, at this uptime.
    pub(crate) fn judge(&mut self, source: LimitSource, id: &str, uptime: Duration) -> Judgement {
        let Some(kind) = kind(source) else {
            return Judgement::Ours;
        };
        if self.is_machine(kind, id) {
            self.name(kind, id, uptime, true);
            return Judgement::Ours;
        }
        if let Some(known) = self.known(kind).filter(|known| !is_same(known, id)) {
            let reason = format!("it is of {id}, and this is {known}");
            if self.is_certain(kind) || !self.gives_way(kind, id, uptime) {
                return Judgement::Anothers(reason);
            }
        } else if let Some(named) = self.named.get_mut(&kind).filter(|n| is_same(&n.id, id)) {
            named.is_known |= uptime.saturating_sub(named.first) >= APART;
            self.rivals.remove(&kind);
            return Judgement::Ours;
        }
        self.name(kind, id, uptime, false);
        Judgement::First
    }

    /// Whether an answer that names this instance is another's, as far as is known before it
    /// is judged.
    pub(crate) fn is_anothers(&self, source: LimitSource, id: &str) -> bool {
        let known = kind(source)
            .filter(|kind| !self.is_machine(*kind, id))
            .and_then(|kind| self.known(kind));
        known.is_some_and(|known| !is_same(known, id))
    }

    fn is_machine(&self, kind: Kind, id: &str) -> bool {
        let machine = self.machine.as_ref().filter(|_| kind == Kind::Uuid);
        machine.is_some_and(|machine| is_same(machine, id))
    }

    /// What this is known to be; of UUIDs the machine's own as long as no other was accepted.
    fn known(&self, kind: Kind) -> Option<&str> {
        match self.named.get(&kind) {
            Some(named) => named.is_known.then_some(&named.id),
            None => self.machine.as_ref().filter(|_| kind == Kind::Uuid),
        }
        .map(String::as_str)
    }

    /// An answer named the machine's own, or it has to be right.
    fn is_certain(&self, kind: Kind) -> bool {
        let named = self.named.get(&kind);
        kind == Kind::Uuid && self.is_machine_certain
            || named.is_some_and(|named| self.is_machine(kind, &named.id))
    }

    /// Whether the known one was another's all the time: that this is `id` has been said for so
    /// long, so often, and nothing else.
    fn gives_way(&mut self, kind: Kind, id: &str, uptime: Duration) -> bool {
        let rival = self.rivals.remove(&kind).filter(|r| is_same(&r.id, id));
        let mut rival = rival.unwrap_or(Rival {
            id: id.to_string(),
            first: uptime,
            answers: 0,
        });
        rival.answers = rival.answers.saturating_add(1);
        let gives_way = rival.answers >= ANSWERS && uptime.saturating_sub(rival.first) >= GIVES_WAY;
        self.rivals.insert(kind, rival);
        gives_way
    }

    fn name(&mut self, kind: Kind, id: &str, first: Duration, is_known: bool) {
        let id = id.to_string();
        let named = Named {
            id,
            first,
            is_known,
        };
        self.named.insert(kind, named);
        self.rivals.remove(&kind);
    }

    /// The names by which its records are kept.
    pub(crate) fn names(&self) -> Names {
        let others = [Kind::Ec2, Kind::Google].into_iter();
        Names {
            machine: self.machine.clone(),
            uuid: self.usable(Kind::Uuid).map(Into::into),
            others: others
                .filter_map(|kind| self.usable(kind).map(Into::into))
                .collect(),
        }
    }

    /// What another process of this boot knows.
    pub(crate) fn learn(&mut self, other: &Identity) {
        for (kind, named) in &other.named {
            self.named.entry(*kind).or_insert_with(|| named.clone());
        }
    }

    /// One that the machine contradicts has to be known first.
    fn usable(&self, kind: Kind) -> Option<&str> {
        let named = self.named.get(&kind)?;
        let contradicted = kind == Kind::Uuid && self.machine.is_some();
        (named.is_known || !contradicted).then_some(named.id.as_str())
    }

    /// Whether it takes a second answer to say who this is.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let uuid = self.named.get(&Kind::Uuid);
        let has_uuid = self.machine.is_some() || uuid.is_some_and(|named| named.is_known);
        !has_uuid && self.named.values().any(|named| !named.is_known)
    }
}

fn kind(source: LimitSource) -> Option<Kind> {
    match source {
        LimitSource::ConfigDrive
        | LimitSource::Openstack
        | LimitSource::VendorData
        | LimitSource::Azure => Some(Kind::Uuid),
        LimitSource::Ec2 => Some(Kind::Ec2),
        LimitSource::Google => Some(Kind::Google),
        LimitSource::MachineFeatures
        | LimitSource::Configuration
        | LimitSource::Operator
        | LimitSource::Unknown => None,
    }
}

/// Without regard to case. Of UUIDs also where the first three fields have their bytes in
/// the other order: kernels before 2013 print the machine's so.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    let same = |swapped: String| swapped.eq_ignore_ascii_case(other);
    one.eq_ignore_ascii_case(other) || byte_swapped(one).is_some_and(same)
}

/// A UUID with the bytes of its first three fields in the other order; None where the text
/// is no UUID.
pub(crate) fn byte_swapped(uuid: &str) -> Option<String> {
    let is_one = uuid.len() == 36
        && uuid.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let swap = |field: &str| -> String {
        let pairs = (0..field.len()).step_by(2).rev();
        pairs.map(|at| &field[at..at + 2]).collect()
    };
    is_one.then(|| {
        let (first, second, third) = (&uuid[..8], &uuid[9..13], &uuid[14..18]);
        let [first, second, third] = [first, second, third].map(swap);
        format!("{first}-{second}-{third}{}", &uuid[18..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "00112233-4455-6677-8899-aabbccddeeff";
    const A_SWAPPED: &str = "33221100-5544-7766-8899-AABBCCDDEEFF";
    const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";
    const C: &str = "cccccccc-0000-4000-8000-000000000003";
    const OPENSTACK: LimitSource = LimitSource::Openstack;

    fn judged(identity: &mut Identity, source: LimitSource, id: &str, up: u64) -> &'static str {
        match identity.judge(source, id, Duration::from_secs(up)) {
            Judgement::Ours => "ours",
            Judgement::First => "first",
            Judgement::Anothers(_) => "another's",
        }
    }

    /// The judgements of answers that name these, a minute apart.
    fn lives(machine: Option<&str>, ids: &[&str]) -> Vec<&'static str> {
        let mut identity = Identity::of(machine.map(Into::into));
        let minutes = (60..).step_by(60);
        ids.iter()
            .zip(minutes)
            .map(|(id, up)| judged(&mut identity, OPENSTACK, id, up))
            .collect()
    }

    #[test]
    fn who_this_is_the_machine_says_and_else_two_answers_in_succession() {
        let table: [(Option<&str>, &[&str], &[&str]); 8] = [
            (Some(A), &[A, A], &["ours", "ours"]),
            (Some(A), &[A_SWAPPED], &["ours"]),
            (Some(A), &[B, A, B], &["another's", "ours", "another's"]),
            (
                Some(A),
                &[B, B, B],
                &["another's", "another's", "another's"],
            ),
            (None, &[A, A, B, A], &["first", "ours", "another's", "ours"]),
            (None, &[A, B, A, B], &["first", "first", "first", "first"]),
            (
                None,
                &[A, B, B, A],
                &["first", "first", "ours", "another's"],
            ),
            (
                Some(A),
                &[B, C, B],
                &["another's", "another's", "another's"],
            ),
        ];
        for (machine, ids, expected) in table {
            assert_eq!(lives(machine, ids), expected, "{machine:?} {ids:?}");
        }
    }

    /// By answers, or, on bare metal, by the board.
    #[test]
    fn an_instance_of_which_nobody_is_certain_gives_way_after_ten_minutes_of_another() {
        for (machine, known) in [(None, ["first", "ours"]), (Some(C), ["another's"; 2])] {
            let ids: Vec<&str> = [B, B].into_iter().chain([A; 12]).collect();
            let said = lives(machine, &ids);
            assert_eq!(said[..2], known);
            assert!(said[2..12].iter().all(|said| *said == "another's"));
            assert_eq!(said[12..], ["first", "ours"]);
        }
        // In turns, or where an answer named the machine, never.
        let in_turns: Vec<&str> = [B, B].into_iter().chain([A, A, B].repeat(9)).collect();
        assert!(!lives(None, &in_turns)[1..].contains(&"first"));
        let by_machine: Vec<&str> = [B].into_iter().chain([A; 30]).collect();
        assert!(
            lives(Some(B), &by_machine)[1..]
                .iter()
                .all(|said| *said == "another's")
        );
    }

    #[test]
    fn few_answers_with_silence_between_make_no_other_instance() {
        for (machine, is_certain, answers, expected) in [
            (None, false, 4, "another's"),
            (None, false, 5, "first"),
            (Some(B), false, 4, "another's"),
            (Some(B), false, 5, "first"),
            (Some(B), true, 90, "another's"),
        ] {
            let mut identity = Identity::of(machine.map(Into::into));
            if is_certain {
                identity.trust_machine();
            }
            if machine.is_none() {
                judged(&mut identity, OPENSTACK, B, 20);
                judged(&mut identity, OPENSTACK, B, 40);
            }
            let mut said = "";
            for answer in 0..answers {
                said = judged(&mut identity, OPENSTACK, A, 2000 + 601 * answer);
            }
            assert_eq!(said, expected, "{machine:?} {is_certain} {answers}");
        }
    }

    #[test]
    fn before_it_is_judged_an_answer_is_anothers_where_it_will_be_refused() {
        for machine in [None, Some(A)] {
            let mut identity = Identity::of(machine.map(Into::into));
            let foreseen = identity.is_anothers(OPENSTACK, B);
            assert_eq!(foreseen, machine.is_some());
            for (up, id) in [A, A, B, A_SWAPPED].into_iter().enumerate() {
                let foreseen = identity.is_anothers(OPENSTACK, id);
                let judged = judged(&mut identity, OPENSTACK, id, 60 * up as u64);
                assert_eq!(foreseen, judged == "another's", "{machine:?} {id}");
            }
        }
    }

    #[test]
    fn two_answers_at_once_are_one() {
        let mut identity = Identity::default();
        assert_eq!(judged(&mut identity, OPENSTACK, A, 60), "first");
        assert_eq!(judged(&mut identity, OPENSTACK, A, 61), "ours");
        assert!(identity.is_in_doubt());
        assert_eq!(judged(&mut identity, OPENSTACK, B, 62), "first");
    }

    #[test]
    fn ids_of_ec2_and_openstack_are_not_held_against_each_other() {
        let mut identity = Identity::of(Some(A.into()));
        assert_eq!(judged(&mut identity, OPENSTACK, A, 60), "ours");
        assert_eq!(judged(&mut identity, LimitSource::Ec2, "i-5", 60), "first");
        let names = identity.names();
        assert_eq!(names.machine.as_deref(), Some(A));
        assert_eq!(names.others, ["i-5"]);
    }

    #[test]
    fn what_is_no_uuid_has_no_other_order() {
        for id in ["", "i-5", &A[1..], "x0112233-4455-6677-8899-aabbccddeeff"] {
            assert_eq!(byte_swapped(id), None);
        }
    }
}
