//! What the sources said so far, and what holds where they differ.

use std::collections::BTreeMap;

use super::Instance;
use super::{Answer, NoAnswer, Pending};
use crate::config::Source;
use crate::deadline::limit::Limit;
use crate::deadline::origin::{LimitSource, Origin};
use crate::http::Cause;

/// The last answer of each source.
#[derive(Debug, Default)]
pub(crate) struct Known {
    config_drive: Option<Said>,
    openstack: Option<Said>,
    ec2: Option<Said>,
    others: BTreeMap<LimitSource, Said>,
    /// The service is there, and has no instance's document for OpenStack.
    pub(crate) openstack_is_absent: bool,
    /// Every source had its say, and nobody named a place for Machine/Job Features.
    pub(crate) no_features: bool,
}

#[derive(Debug, Clone)]
struct Said {
    answer: Answer,
    /// Unix seconds.
    at: u64,
}

impl Known {
    pub(crate) fn note(&mut self, source: Source, outcome: &Result<Answer, NoAnswer>, at: u64) {
        match (source, outcome) {
            (Source::Openstack, Ok(_)) => self.openstack_is_absent = false,
            (Source::Openstack, Err(NoAnswer::Http(failure))) => {
                let refused = matches!(
                    failure.cause,
                    Cause::Status(400..=407 | 409..=428 | 430..=499, _)
                );
                // One 404 of a service that has had it before is a slip.
                self.openstack_is_absent |= refused && self.openstack.is_none();
            }
            // Then nobody knows this instance, and the next to be asked is OpenStack.
            (Source::Ec2, Err(_)) => self.openstack_is_absent = false,
            _ => {}
        }
        if let Ok(answer) = outcome {
            let mut answer = answer.clone();
            if source == Source::Ec2 {
                answer.limits = self.spot_limits(answer.limits);
            }
            if let (Source::Openstack, Some(before)) = (source, &self.openstack) {
                before.outlast_garbage_in(&mut answer);
            }
            let said = Said { answer, at };
            match source {
                Source::ConfigDrive => self.config_drive = Some(said),
                Source::Openstack => self.openstack = Some(said),
                Source::Ec2 => self.ec2 = Some(said),
                Source::Google => drop(self.others.insert(LimitSource::Google, said)),
                Source::Azure => drop(self.others.insert(LimitSource::Azure, said)),
            }
        }
    }

    pub(crate) fn has_heard_of(&self, origin: &Origin) -> bool {
        let openstack = self.openstack.as_ref().is_some_and(|said| {
            let garbage = |limit: &Limit| {
                let is_it = limit.origin.is_same_limit(origin) || limit.origin.is_all_of_meta();
                !limit.is_usable() && is_it
            };
            !said.answer.limits.iter().any(garbage)
        });
        match origin.source {
            LimitSource::Openstack => openstack,
            LimitSource::ConfigDrive => openstack || self.config_drive.is_some(),
            LimitSource::Ec2 => self.ec2.as_ref().is_some_and(|said| {
                let limits = &said.answer.limits;
                limits.is_empty() || is_any_usable(limits)
            }),
            LimitSource::MachineFeatures => self.no_features && openstack,
            // The image's own is worked out anew each time.
            LimitSource::Configuration => true,
            LimitSource::VendorData | LimitSource::Google | LimitSource::Azure => {
                self.others.contains_key(&origin.source)
            }
            LimitSource::Operator | LimitSource::Unknown => false,
        }
    }

    /// Notes what the site says to its guests.
    pub(crate) fn note_vendor_data(&mut self, answer: Answer, at: u64) {
        let said = Said { answer, at };
        self.others.insert(LimitSource::VendorData, said);
    }

    /// HTML in the place of a notice does not take back the one before.
    fn spot_limits(&self, new: Vec<Limit>) -> Vec<Limit> {
        match &self.ec2 {
            Some(said) if !new.is_empty() && !is_any_usable(&new) => match said.answer.limits {
                ref known if is_any_usable(known) => known.clone(),
                _ => new,
            },
            _ => new,
        }
    }

    /// Notes what EC2 says of the instance's end.
    pub(crate) fn note_notices(&mut self, limits: Vec<Limit>, at: u64) {
        let limits = self.spot_limits(limits);
        // It counts although nobody may have said yet who this is.
        let answer = Answer::default();
        let ec2 = self.ec2.get_or_insert(Said { answer, at });
        ec2.answer.limits = limits;
        ec2.at = at;
    }

    /// Of OpenStack's two ways to say it the service's: the drive is frozen at launch.
    fn of_openstack(&self) -> Option<&Said> {
        self.openstack.as_ref().or(self.config_drive.as_ref())
    }

    /// What whoever launched the instance says before what the site says.
    pub(crate) fn meta(&self) -> BTreeMap<String, String> {
        let others = self.others.values().rev();
        let said = others.chain(self.of_openstack());
        let pairs = said.flat_map(|said| said.answer.meta.clone());
        pairs.collect()
    }

    pub(crate) fn limits(&self) -> Vec<Limit> {
        let said = [self.of_openstack(), self.ec2.as_ref()];
        let dated = |said: &Said| {
            let at = said.at;
            let limits = said.answer.limits.clone().into_iter();
            limits.map(move |limit| Limit {
                confirmed_at: limit.confirmed_at.or(Some(at)),
                ..limit
            })
        };
        let said = said.into_iter().flatten().chain(self.others.values());
        said.flat_map(dated).collect()
    }

    /// What a cloud waits with until it is told to go on.
    pub(crate) fn pending(&self) -> Vec<Pending> {
        let said = self.others.values();
        said.flat_map(|said| said.answer.pending.clone()).collect()
    }

    pub(crate) fn has_openstack(&self) -> bool {
        self.openstack.is_some()
    }

    /// Each source has its own for one and the same instance.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        let said = [&self.config_drive, &self.openstack, &self.ec2];
        said.into_iter()
            .flatten()
            .chain(self.others.values())
            .filter_map(|said| said.answer.instance.id.as_deref())
    }

    /// The id is that of the first source that has one; what it leaves open, others
    /// may fill.
    pub(crate) fn instance(&self, order: &[Source]) -> Option<Instance> {
        let said = order.iter().filter_map(|source| match source {
            Source::ConfigDrive => self.config_drive.as_ref(),
            Source::Openstack => self.openstack.as_ref(),
            Source::Ec2 => self.ec2.as_ref(),
            Source::Google => self.others.get(&LimitSource::Google),
            Source::Azure => self.others.get(&LimitSource::Azure),
        });
        said.map(|said| said.answer.instance.clone())
            .filter(|instance| *instance != Instance::default())
            .reduce(|first, next| Instance {
                id: first.id.or(next.id),
                name: first.name.or(next.name),
                project: first.project.or(next.project),
                availability_zone: first.availability_zone.or(next.availability_zone),
                flavor: first.flavor.or(next.flavor),
            })
    }
}

impl Said {
    /// A limit that this gave holds where its key, or all of `meta`, has become something
    /// that says nothing. What that is stays beside it, to be told as ignored.
    fn outlast_garbage_in(&self, new: &mut Answer) {
        let is_meta_lost = new.limits.iter().any(|limit| limit.origin.is_all_of_meta());
        if is_meta_lost {
            new.meta.clone_from(&self.answer.meta);
        }
        for known in self.answer.limits.iter().filter(|limit| limit.is_usable()) {
            let is_same = |new: &&Limit| new.origin.is_same_limit(&known.origin);
            let mut same = new.limits.iter().filter(is_same);
            if same.clone().next().is_none() && !is_meta_lost || same.any(Limit::is_usable) {
                continue;
            }
            new.limits.push(Limit {
                confirmed_at: known.confirmed_at.or(Some(self.at)),
                ..known.clone()
            });
        }
    }
}

fn is_any_usable(limits: &[Limit]) -> bool {
    limits.iter().any(Limit::is_usable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::limit::When;
    use crate::http::Failure;

    const DRIVE: Source = Source::ConfigDrive;
    const OPENSTACK: Source = Source::Openstack;
    const EC2: Source = Source::Ec2;

    fn answer(id: &str, limits: &[u64]) -> Answer {
        Answer {
            instance: Instance {
                id: Some(id.into()),
                ..Instance::default()
            },
            limits: limits.iter().map(|at| limit(*at)).collect(),
            ..Answer::default()
        }
    }

    fn limit(at: u64) -> Limit {
        Limit::new(Origin::new(LimitSource::Openstack, "test"), When::At(at))
    }

    fn refused(code: u16) -> Result<Answer, NoAnswer> {
        Err(NoAnswer::Http(Failure::new("", Cause::Status(code, None))))
    }

    /// When each known limit is, and when it was confirmed.
    fn limits(known: &Known) -> Vec<(When, Option<u64>)> {
        let limits = known.limits().into_iter();
        limits
            .map(|limit| (limit.when, limit.confirmed_at))
            .collect()
    }

    #[test]
    fn a_deadline_from_the_service_wins_over_the_frozen_one_of_the_drive() {
        let mut known = Known::default();
        known.note(DRIVE, &Ok(answer("a", &[10])), 1);
        assert_eq!(limits(&known), [(When::At(10), Some(1))]);
        known.note(OPENSTACK, &Ok(answer("a", &[20])), 2);
        assert_eq!(limits(&known), [(When::At(20), Some(2))]);
        // Taken back by the operator, it does not come back from the drive.
        known.note(OPENSTACK, &Ok(answer("a", &[])), 3);
        assert_eq!(limits(&known), []);
    }

    #[test]
    fn garbage_in_the_place_of_a_limit_does_not_take_it_back() {
        let parsed = |meta: &str| {
            let document = format!(r#"{{"uuid": "a", "meta": {meta}}}"#);
            super::super::openstack::parse(document.as_bytes(), LimitSource::Openstack)
        };
        let origin = &Origin::new(LimitSource::Openstack, "vmstage_deadline");
        let at = |known: &Known| {
            known
                .limits()
                .into_iter()
                .find_map(|limit| match limit.when {
                    When::At(at) => Some((at, limit.confirmed_at)),
                    _ => None,
                })
        };
        for garbage in [
            r#""x""#,
            "[]",
            r#"{"vmstage_deadline": "<html>busy"}"#,
            r#"{"vmstage_deadline": 1800000001}"#,
            r#"{"vmstage_deadline": ["1800000001"]}"#,
        ] {
            let mut known = Known::default();
            let good = parsed(r#"{"vmstage_deadline": "1800000000"}"#).unwrap();
            known.note(OPENSTACK, &Ok(good), 1);
            let garbled = parsed(garbage).unwrap();
            known.note(OPENSTACK, &Ok(garbled.clone()), 2);
            known.note(OPENSTACK, &Ok(garbled.clone()), 3);
            assert_eq!(at(&known), Some((1_800_000_000, Some(1))), "{garbage}");
            assert!(known.limits().len() > 1, "{garbage}: nothing is told");
            // Nor of one that is only held.
            let mut fresh = Known::default();
            fresh.note(OPENSTACK, &Ok(garbled), 2);
            assert!(!fresh.has_heard_of(origin), "{garbage}");
            known.note(OPENSTACK, &Ok(parsed("{}").unwrap()), 4);
            assert_eq!(at(&known), None, "{garbage}");
        }
    }

    #[test]
    fn a_service_that_has_had_the_document_is_not_without_it_after_one_404() {
        let mut known = Known::default();
        known.note(OPENSTACK, &Ok(answer("a", &[])), 1);
        known.note(OPENSTACK, &refused(404), 2);
        assert!(!known.openstack_is_absent);
    }

    #[test]
    fn what_a_source_said_holds_when_it_falls_silent() {
        let mut known = Known::default();
        known.note(OPENSTACK, &Ok(answer("a", &[20])), 2);
        known.note(OPENSTACK, &refused(503), 3);
        assert_eq!(limits(&known), [(When::At(20), Some(2))]);
    }

    #[test]
    fn limits_of_ec2_count_beside_those_of_openstack() {
        let mut known = Known::default();
        known.note(OPENSTACK, &Ok(answer("a", &[20])), 1);
        known.note(EC2, &Ok(answer("i-1", &[30])), 2);
        let at: Vec<When> = limits(&known).into_iter().map(|(when, _)| when).collect();
        assert_eq!(at, [20, 30].map(When::At));
        known.note_notices(vec![limit(25)], 4);
        assert_eq!(limits(&known)[1], (When::At(25), Some(4)));
        known.note_notices(vec![], 5);
        assert_eq!(limits(&known).len(), 1);
    }

    #[test]
    fn a_spot_notice_counts_where_nothing_else_of_ec2_is_known() {
        let mut known = Known::default();
        known.note_notices(vec![limit(25)], 1);
        assert_eq!(limits(&known), [(When::At(25), Some(1))]);
        assert_eq!(known.instance(&[EC2]), None);
        known.note_notices(vec![], 2);
        assert_eq!(limits(&known), []);
    }

    #[test]
    fn what_is_no_spot_notice_takes_none_back() {
        let html = Limit {
            when: When::Unusable("it is not a spot notice".into()),
            ..limit(0)
        };
        let origin =
            &Origin::new(LimitSource::Ec2, "spot/instance-action").with_detail("terminate");
        let mut known = Known::default();
        known.note(EC2, &Ok(answer("i-1", &[])), 1);
        known.note_notices(vec![html.clone()], 2);
        assert!(!known.has_heard_of(origin));
        known.note_notices(vec![limit(25)], 3);
        assert!(known.has_heard_of(origin));
        known.note_notices(vec![html.clone()], 4);
        assert_eq!(known.limits()[0].when, When::At(25));
        let mut garbled = answer("i-1", &[]);
        garbled.limits.push(html);
        known.note(EC2, &Ok(garbled), 5);
        assert_eq!(known.limits()[0].when, When::At(25));
        known.note_notices(vec![], 6);
        assert_eq!(known.limits(), []);
    }

    #[test]
    fn the_first_id_in_order_holds_and_others_fill_what_it_leaves_open() {
        let mut ec2 = answer("i-1", &[]);
        ec2.instance.flavor = Some("m1.large".into());
        let mut known = Known::default();
        known.note(EC2, &Ok(ec2), 1);
        known.note(OPENSTACK, &Ok(answer("uuid", &[])), 2);
        let order = [Source::ConfigDrive, Source::Openstack, Source::Ec2];
        let instance = known.instance(&order).unwrap();
        assert_eq!(instance.id.as_deref(), Some("uuid"));
        assert_eq!(instance.flavor.as_deref(), Some("m1.large"));
        assert_eq!(Known::default().instance(&order), None);
    }

    #[test]
    fn openstack_is_absent_after_a_404_until_ec2_fails_too() {
        let mut known = Known::default();
        known.note(OPENSTACK, &refused(503), 1);
        assert!(!known.openstack_is_absent);
        known.note(OPENSTACK, &refused(404), 1);
        assert!(known.openstack_is_absent);
        known.note(EC2, &Ok(answer("i-1", &[])), 1);
        assert!(known.openstack_is_absent);
        known.note(EC2, &refused(404), 1);
        assert!(!known.openstack_is_absent);
    }
}
