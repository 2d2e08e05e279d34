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
    /// Who named one last.
    pub(crate) features_named_by: Option<NamedBy>,
    /// The site has answered, whatever it said to its guests.
    pub(crate) has_site_spoken: bool,
    /// It named no place for features when it said something last.
    site_names_none: bool,
}

/// The keys under which a place of Machine/Job Features is named.
const PLACES: [&str; 2] = ["machinefeatures", "jobfeatures"];

/// Who named the place of Machine/Job Features, as far as this process has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NamedBy {
    /// This machine: a directory, the environment, the configuration.
    Machine,
    /// Whoever launched the instance.
    Launcher,
    /// The site, in what it says to all its guests.
    Site,
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

    /// Notes what a cloud waits with, which it says without saying who this is.
    pub(crate) fn note_pending(&mut self, source: LimitSource, pending: &[Pending]) {
        if let Some(answer) = self.answers.get_mut(&source) {
            answer.pending = pending.to_vec();
        }
    }

    /// Notes what the site says to its guests, where it says anything. One answer that names no
    /// place for features any more does not hide the one that it named before.
    pub(crate) fn note_vendor_data(&mut self, mut answer: Answer) {
        if answer.about != About::Everything {
            return;
        }
        let before = self.answers.remove(&LimitSource::VendorData);
        let is_named = PLACES.iter().any(|key| answer.meta.contains_key(*key));
        if let Some(before) = before.filter(|_| !is_named && !self.site_names_none) {
            let named = before.meta.into_iter();
            answer
                .meta
                .extend(named.filter(|(key, _)| PLACES.contains(&key.as_str())));
        }
        self.site_names_none = !is_named;
        self.answers.insert(LimitSource::VendorData, answer);
    }

    /// Whether it is known, after these have answered, that nobody names a place for
    /// Machine/Job Features any more. Silence says nothing: whoever may have named one has to
    /// have had its say.
    pub(crate) fn are_features_gone(&self, sources: &[Source], answered: &[LimitSource]) -> bool {
        let may_name =
            |source: &Source| matches!(source, Source::Openstack | Source::Google | Source::Azure);
        let is_local = self.features_named_by == Some(NamedBy::Machine);
        let is_launchers = self.features_named_by == Some(NamedBy::Launcher);
        let has_site_no_part = self.has_site_spoken || is_launchers;
        let says_so = |source: &LimitSource| match source {
            LimitSource::Openstack => has_site_no_part,
            LimitSource::Google | LimitSource::Azure => true,
            LimitSource::Ec2 => self.openstack_is_absent,
            _ => false,
        };
        let is_known = is_local || !sources.iter().any(may_name) || answered.iter().any(says_so);
        self.no_features && is_known
    }

    /// Notes who names a place for Machine/Job Features, which somebody does.
    pub(crate) fn note_who_names_features(&mut self) {
        let names = |answer: &Answer| PLACES.iter().any(|key| answer.meta.contains_key(*key));
        let named = self.answers.iter().filter(|(_, answer)| names(answer));
        let by = named.map(|(source, _)| match source {
            LimitSource::VendorData => NamedBy::Site,
            _ => NamedBy::Launcher,
        });
        self.features_named_by = by.max().or(Some(NamedBy::Machine));
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
    fn features_are_gone_when_whoever_may_have_named_them_has_had_its_say() {
        use LimitSource::{Azure, Ec2, Google, Openstack};
        let all = [Source::ConfigDrive, OPENSTACK, EC2];
        let (google, azure, none) = ([Source::Google], [Source::Azure], []);
        let (machine, launcher, site) = (NamedBy::Machine, NamedBy::Launcher, NamedBy::Site);
        type Row<'a> = (
            &'a [Source],
            Option<NamedBy>,
            bool,
            bool,
            &'a [LimitSource],
            bool,
        );
        let table: [Row; 13] = [
            // Whether the site has spoken, and OpenStack is absent; who has answered.
            (&none, None, false, false, &[], true),
            (&google, None, false, false, &[Google], true),
            (&google, None, false, false, &[], false),
            (&google, Some(launcher), false, false, &[], false),
            (&azure, Some(launcher), false, false, &[Azure], true),
            (&all, Some(machine), false, false, &[], true),
            (&all, Some(launcher), false, false, &[Openstack], true),
            (&all, None, false, false, &[Openstack], false),
            (&all, None, true, false, &[Openstack], true),
            (&all, Some(site), true, false, &[Openstack], true),
            (&all, Some(site), true, false, &[], false),
            (&all, None, false, false, &[Ec2], false),
            (&all, None, false, true, &[Ec2], true),
        ];
        for (sources, by, site, absent, answered, gone) in table {
            let known = Known {
                no_features: true,
                features_named_by: by,
                has_site_spoken: site,
                openstack_is_absent: absent,
                ..Known::default()
            };
            let found = known.are_features_gone(sources, answered);
            assert_eq!(
                found, gone,
                "{sources:?} {by:?} {site} {absent} {answered:?}"
            );
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
    fn one_answer_of_a_site_without_the_place_of_features_does_not_hide_it() {
        let mut known = Known::default();
        let named = BTreeMap::from([("machinefeatures".to_string(), "/site".to_string())]);
        let other = BTreeMap::from([("vmstage_lifetime".to_string(), "36h".to_string())]);
        for (meta, is_there) in [
            (&named, true),
            (&other, true),
            (&named, true),
            (&other, true),
            (&other, false),
            (&named, true),
        ] {
            known.note_vendor_data(Answer {
                meta: meta.clone(),
                ..Answer::default()
            });
            let place = known.meta().remove("machinefeatures");
            assert_eq!(place.is_some(), is_there, "{meta:?}");
            let lifetime = known.meta().remove("vmstage_lifetime");
            assert_eq!(lifetime.is_some(), *meta == other);
        }
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
