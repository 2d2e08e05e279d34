//! Which instance this machine is. Pure.
//!
//! The machine's own UUID says it: Nova and EC2 put the instance's there. Where there is
//! none, or another one (bare metal has its board's), it takes two answers in succession.
//! An answer that names another instance than the known one is not used.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_trust::APART;
use super::origin::LimitSource;

/// An instance that only answers gave is another's, where for so long they give one other.
const GIVES_WAY: Duration = Duration::from_secs(600);

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
    /// Another that has been given since, at this uptime first, and this one not once.
    #[serde(default)]
    rival: Option<(String, Duration)>,
}

/// What is known of who this is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Identity {
    machine: Option<String>,
    named: BTreeMap<Kind, Named>,
}

/// The ids of this instance, as far as they are known.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Names {
    pub(crate) machine: Option<String>,
    pub(crate) uuid: Option<String>,
    pub(crate) others: Vec<String>,
}

impl Named {
    /// Whether it was another's all the time: that this is `id` has been said for so long, and
    /// nothing else.
    fn gives_way(&mut self, id: &str, uptime: Duration) -> bool {
        let rival = self.rival.take().filter(|(rival, _)| is_same(rival, id));
        let (_, since) = self.rival.insert(rival.unwrap_or((id.to_string(), uptime)));
        uptime.saturating_sub(*since) >= GIVES_WAY
    }
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
            named: BTreeMap::new(),
        }
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
        let is_machine = |machine: &String| kind == Kind::Uuid && is_same(machine, id);
        if self.machine.as_ref().is_some_and(is_machine) {
            self.name(kind, id, uptime, true);
            return Judgement::Ours;
        }
        let contradicted = kind == Kind::Uuid && self.machine.is_some();
        let is_certain = |named: &&mut Named| {
            let machine = self.machine.as_ref().filter(|_| kind == Kind::Uuid);
            machine.is_some_and(|machine| is_same(machine, &named.id))
        };
        if let Some(named) = self.named.get_mut(&kind).filter(is_certain) {
            let reason = format!("it is of {id}, and this is {}", named.id);
            return Judgement::Anothers(reason);
        }
        let is_another = |named: &Named| named.is_known && !is_same(&named.id, id);
        let known = self.named.get_mut(&kind).filter(|named| is_another(named));
        if let Some(known) = known
            && !known.gives_way(id, uptime)
        {
            let reason = format!("it is of {id}, and this is {}", known.id);
            return Judgement::Anothers(reason);
        }
        match self.named.get_mut(&kind) {
            Some(named) if is_same(&named.id, id) => {
                named.rival = None;
                named.is_known |= uptime.saturating_sub(named.first) >= APART;
                match named.is_known || !contradicted {
                    true => Judgement::Ours,
                    false => Judgement::Anothers(self.reason(id)),
                }
            }
            _ => {
                self.name(kind, id, uptime, false);
                match contradicted {
                    true => Judgement::Anothers(self.reason(id)),
                    false => Judgement::First,
                }
            }
        }
    }

    fn name(&mut self, kind: Kind, id: &str, first: Duration, is_known: bool) {
        let id = id.to_string();
        let named = Named {
            id,
            first,
            is_known,
            rival: None,
        };
        self.named.insert(kind, named);
    }

    fn reason(&self, id: &str) -> String {
        let machine = self.machine.as_deref().unwrap_or_default();
        format!("it is of {id}, and the machine's own UUID is {machine}")
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
            // Bare metal, where the machine's own is that of its board.
            (Some(A), &[B, B, B], &["another's", "ours", "ours"]),
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

    #[test]
    fn an_instance_that_only_answers_gave_gives_way_after_ten_minutes_of_another() {
        let mut ids = vec![B, B];
        ids.extend([A; 12]);
        let said = lives(None, &ids);
        assert_eq!(said[..2], ["first", "ours"]);
        assert!(said[2..12].iter().all(|said| *said == "another's"));
        assert_eq!(said[12..], ["first", "ours"]);
        // In turns, or where the machine says it, never.
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
