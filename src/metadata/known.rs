//! What the sources said that decides whom to ask, and where.

use std::collections::BTreeMap;

use super::instance::{Instance, REQUEST};
use super::turns::gives;
use super::{Answer, NoAnswer, Pending};
use crate::config::Source;
use crate::deadline::identity::Identity;
use crate::deadline::ledger::About;
use crate::deadline::origin::LimitSource;
use crate::http::Cause;

/// After so many that are neither the document nor a refusal this is not OpenStack, or it is
/// broken: others are asked as well.
const ODD_ANSWERS: u32 = 3;

/// The last answer of each source that was not another instance's.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By which that is judged.
    pub(crate) identity: Identity,
    answers: BTreeMap<LimitSource, Answer>,
    /// The service is there, and has no instance's document for OpenStack.
    pub(crate) openstack_is_absent: bool,
    /// So often something else came in the place of that document.
    odd_answers: u32,
    /// Every source had its say, and nobody named a place for Machine/Job Features.
    pub(crate) no_features: bool,
}

impl Known {
    pub(crate) fn note(&mut self, source: Source, outcome: &Result<Answer, NoAnswer>) {
        let id = outcome.as_ref().ok().and_then(|a| a.instance.id.as_ref());
        if id.is_some_and(|id| self.identity.is_anothers(gives(source), id)) {
            return;
        }
        match (source, outcome) {
            (Source::Openstack, Ok(_)) => {
                (self.openstack_is_absent, self.odd_answers) = (false, 0);
            }
            (Source::Openstack, Err(NoAnswer::Http(failure))) => {
                let refused = matches!(
                    failure.cause,
                    Cause::Status(400..=407 | 409..=428 | 430..=499, _)
                );
                // HTML or a redirect, say, from what has a page for every path.
                let is_odd = matches!(
                    failure.cause,
                    Cause::Unusable(_) | Cause::Status(300..=399 | 500, _)
                );
                self.odd_answers = self.odd_answers.saturating_add(u32::from(is_odd));
                let is_another = is_odd && self.odd_answers >= ODD_ANSWERS;
                // One 404 of a service that has had it before is a slip.
                self.openstack_is_absent |= (refused || is_another) && !self.has_openstack();
            }
            // Then nobody knows this instance, and the next to be asked is OpenStack.
            (Source::Ec2, Err(_)) => self.openstack_is_absent = false,
            _ => {}
        }
        if let Ok(answer) = outcome {
            let mut limits = answer.limits.iter();
            let is_meta_lost = limits.any(|limit| limit.origin.is_all_of_meta());
            let mut answer = answer.clone();
            answer.limits = Vec::new();
            let source = gives(source);
            if let (true, LimitSource::Openstack) = (is_meta_lost, source)
                && let Some(before) = self.answers.get_mut(&source)
            {
                answer.meta = std::mem::take(&mut before.meta);
            }
            self.answers.insert(source, answer);
        }
    }

    /// Notes what the site says to its guests, where it says anything.
    pub(crate) fn note_vendor_data(&mut self, answer: Answer) {
        if answer.about == About::Everything {
            self.answers.insert(LimitSource::VendorData, answer);
        }
    }

    pub(crate) fn has_openstack(&self) -> bool {
        self.answers.contains_key(&LimitSource::Openstack)
    }

    /// What a cloud waits with until it is told to go on.
    pub(crate) fn pending(&self) -> Vec<Pending> {
        let answers = self.answers.values();
        answers.flat_map(|answer| answer.pending.clone()).collect()
    }

    /// Of OpenStack's two ways to say it the service's: the drive is frozen at launch. What
    /// whoever launched the instance says goes before what the site says.
    pub(crate) fn meta(&self) -> BTreeMap<String, String> {
        let of = |source: LimitSource| self.answers.get(&source);
        let of_openstack = of(LimitSource::Openstack).or(of(LimitSource::ConfigDrive));
        let others = [
            LimitSource::Azure,
            LimitSource::Google,
            LimitSource::VendorData,
        ];
        let answers = others.into_iter().filter_map(of).chain(of_openstack);
        let pairs = answers.flat_map(|answer| answer.meta.clone());
        pairs.collect()
    }

    /// The id is that of the first source that has one; what it leaves open, others
    /// may fill.
    pub(crate) fn instance(&self, order: &[Source]) -> Option<Instance> {
        let answers = order
            .iter()
            .filter_map(|source| self.answers.get(&gives(*source)));
        answers
            .map(|answer| answer.instance.clone())
            .filter(|instance| *instance != Instance::default())
            .reduce(|first, next| Instance {
                id: first.id.or(next.id),
                name: first.name.or(next.name),
                project: first.project.or(next.project),
                availability_zone: first.availability_zone.or(next.availability_zone),
                flavor: first.flavor.or(next.flavor),
                request: first.request.or(next.request),
            })
            .map(|instance| Instance {
                request: self.meta().remove(REQUEST).or(instance.request),
                ..instance
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Failure;

    const OPENSTACK: Source = Source::Openstack;
    const EC2: Source = Source::Ec2;

    fn answer(id: &str) -> Answer {
        Answer {
            instance: Instance {
                id: Some(id.into()),
                ..Instance::default()
            },
            ..Answer::default()
        }
    }

    fn refused(code: u16) -> Result<Answer, NoAnswer> {
        Err(NoAnswer::Http(Failure::new("", Cause::Status(code, None))))
    }

    #[test]
    fn a_service_that_has_had_the_document_is_not_without_it_after_one_404() {
        let mut known = Known::default();
        known.note(OPENSTACK, &Ok(answer("a")));
        known.note(OPENSTACK, &refused(404));
        assert!(!known.openstack_is_absent);
    }

    #[test]
    fn an_answer_of_another_instance_is_not_noted() {
        const MINE: &str = "aaaaaaaa-0000-4000-8000-000000000001";
        const ANOTHERS: &str = "bbbbbbbb-0000-4000-8000-000000000002";
        let named = |id: &str, place: &str| Answer {
            meta: BTreeMap::from([("machinefeatures".into(), place.into())]),
            ..answer(id)
        };
        let mut known = Known {
            identity: Identity::of(Some(MINE.into())),
            ..Known::default()
        };
        for (id, place) in [(MINE, "/mine"), (ANOTHERS, "/anothers")] {
            known.note(OPENSTACK, &Ok(named(id, place)));
            assert_eq!(known.meta()["machinefeatures"], "/mine");
            let instance = known.instance(&[OPENSTACK]).unwrap();
            assert_eq!(instance.id.as_deref(), Some(MINE));
        }
    }

    #[test]
    fn a_site_that_says_nothing_leaves_the_place_that_it_named() {
        let mut known = Known::default();
        let said = BTreeMap::from([("machinefeatures".to_string(), "/site".to_string())]);
        known.note_vendor_data(Answer {
            meta: said.clone(),
            ..Answer::default()
        });
        known.note_vendor_data(Answer {
            about: About::Keys(vec![]),
            ..Answer::default()
        });
        assert_eq!(known.meta(), said);
    }

    #[test]
    fn the_first_id_in_order_holds_and_others_fill_what_it_leaves_open() {
        let mut ec2 = answer("i-1");
        ec2.instance.flavor = Some("m1.large".into());
        let mut known = Known::default();
        known.note(EC2, &Ok(ec2));
        known.note(OPENSTACK, &Ok(answer("uuid")));
        let order = [Source::ConfigDrive, Source::Openstack, Source::Ec2];
        let instance = known.instance(&order).unwrap();
        assert_eq!(instance.id.as_deref(), Some("uuid"));
        assert_eq!(instance.flavor.as_deref(), Some("m1.large"));
        assert_eq!(Known::default().instance(&order), None);
    }

    #[test]
    fn openstack_is_absent_after_a_404_until_ec2_fails_too() {
        let mut known = Known::default();
        known.note(OPENSTACK, &refused(503));
        assert!(!known.openstack_is_absent);
        known.note(OPENSTACK, &refused(404));
        assert!(known.openstack_is_absent);
        known.note(EC2, &Ok(answer("i-1")));
        assert!(known.openstack_is_absent);
        known.note(EC2, &refused(404));
        assert!(!known.openstack_is_absent);
    }

    #[test]
    fn what_gives_something_else_for_the_document_three_times_is_not_openstack() {
        let html = Cause::Unusable("the answer is not a JSON object".into());
        let unreachable = Cause::Unreachable("refused".into());
        let cases = [
            (html, true),
            (Cause::Status(302, None), true),
            (Cause::Status(500, None), true),
            (Cause::Status(503, None), false),
            (unreachable, false),
        ];
        for (cause, is_another) in cases {
            let failed = Err(NoAnswer::Http(Failure::new("", cause)));
            let mut known = Known::default();
            for is_absent in [false, false, is_another, is_another] {
                known.note(OPENSTACK, &failed);
                assert_eq!(known.openstack_is_absent, is_absent, "{failed:?}");
            }
            // Where EC2 fails as well they are asked in turns.
            known.note(EC2, &refused(404));
            assert!(!known.openstack_is_absent);
            known.note(OPENSTACK, &failed);
            assert_eq!(known.openstack_is_absent, is_another);
            // One that has answered stays.
            known.note(OPENSTACK, &Ok(answer("a")));
            (0..9).for_each(|_| known.note(OPENSTACK, &failed));
            assert!(!known.openstack_is_absent);
        }
    }
}
