//! From what a boot found out to the status document.

use super::resources::{Amounts, Asked};
use super::{Deadline, Directory, Outcome, Resources, SCHEMA, Staging, Status, Verdict};
use crate::clock;
use crate::config::{self, Action};
use crate::deadline::decide;
use crate::deadline::follower::Decision;
use crate::deadline::limit::{Limit, LimitKind, When};
use crate::deadline::order::DRAIN_ONLY;
use crate::deadline::origin::{LimitSource, Origin};
use crate::disk::choose::{self, InPlaceOf, Judgement};
use crate::failure::Failure;
use crate::host::Host;
use crate::host::regular_file::MIB;
use crate::resources::size_in_words;
use crate::staging::directories::Created;
use crate::staging::staged::Staged;

impl Status {
    /// The beginning of a document, given that of an earlier run in this boot.
    pub(crate) fn begin_after(host: &Host, earlier: Option<Status>) -> Status {
        let now = clock::utc(clock::wall());
        let was_ready = |earlier: &Status| earlier.was_ready || earlier.outcome == Outcome::Ready;
        let was_ready = earlier.as_ref().is_some_and(was_ready);
        let ready_uptime_ms = earlier.as_ref().and_then(|earlier| earlier.ready_uptime_ms);
        let is_draining = earlier.as_ref().is_some_and(|earlier| earlier.is_draining);
        let (verdicts, instance, deadline) = earlier
            .map(|earlier| (earlier.verdicts, earlier.instance, earlier.deadline))
            .unwrap_or_default();
        Status {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            boot_id: host.boot_id().unwrap_or_default(),
            outcome: Outcome::Failed,
            exit_code: 1,
            error: None,
            started_at: now.clone(),
            finished_at: now,
            ready_uptime_ms,
            was_ready,
            staging: None,
            directories: Vec::new(),
            verdicts,
            warnings: Vec::new(),
            instance,
            deadline,
            is_draining,
            ignored_limits: Vec::new(),
            resources: None,
            sources: Vec::new(),
        }
    }

    pub(crate) fn record_directories(&mut self, asked: &[config::Directory], created: &[Created]) {
        let name = |account: &Option<config::Account>| {
            account.as_ref().map_or("root".into(), ToString::to_string)
        };
        self.directories = asked
            .iter()
            .zip(created)
            .map(|(asked, created)| Directory {
                path: created.path.clone(),
                owner: name(&asked.owner),
                group: name(&asked.group),
                mode: asked.mode.to_string(),
                error: created.error.as_ref().map(|error| format!("{error:#}")),
            })
            .collect();
    }

    /// Records how it ended: ready, or why not.
    pub(crate) fn conclude(&mut self, host: &Host, failure: Option<&Failure>) {
        self.finished_at = clock::utc(clock::wall());
        self.outcome = failure.map_or(Outcome::Ready, |_| Outcome::Failed);
        if self.outcome == Outcome::Ready && !self.was_ready && self.ready_uptime_ms.is_none() {
            let uptime = host.now().uptime.as_millis();
            self.ready_uptime_ms = u64::try_from(uptime).ok();
        }
        self.exit_code = failure.map_or(0, Failure::exit_code);
        self.error = failure.map(ToString::to_string);
    }
}

impl Status {
    /// Compares what was asked for with what there is. Says what is wrong with the request.
    pub(crate) fn compare_resources(&mut self, host: &Host) -> Option<String> {
        let (asked, wrong) = self.instance.as_ref().map(Asked::of).unwrap_or_default();
        let device = self.staging.as_ref().map(|staging| staging.device.as_str());
        self.resources = asked.map(|asked| Resources::of(asked, Amounts::got(host, device)));
        wrong
    }

    /// What a VM without a scratch disk was to have; None where nobody asked for one.
    pub(crate) fn scratch_that_is_missing(&self) -> Option<String> {
        let asked = &self.resources.as_ref()?.asked;
        let bytes = asked.amounts.scratch_bytes.filter(|bytes| *bytes > 0)?;
        let found = match self.verdicts.iter().any(|verdict| verdict.may_be_scratch) {
            true => "no disk that is here can be used as such",
            false => "the flavor has none",
        };
        Some(format!(
            "{} of scratch were asked for ({}), and {found}",
            size_in_words(bytes / MIB),
            asked.by
        ))
    }
}

impl Limit {
    /// A deadline that was found before, which holds while nobody can be asked.
    pub(crate) fn held(deadline: &Deadline) -> Limit {
        Limit {
            confirmed_at: deadline.confirmed_at.as_deref().and_then(clock::parse_utc),
            kind: match deadline.notice {
                true => LimitKind::Notice,
                false => LimitKind::Planned,
            },
            ..Limit::new(deadline.given_by(), When::At(deadline.at))
        }
    }
}

impl Deadline {
    /// One that another version wrote keeps its limit, and nothing takes that back.
    pub fn given_by(&self) -> Origin {
        let by_text = || Origin::of_text(&self.origin);
        self.given_by.clone().unwrap_or_else(by_text)
    }

    /// An operator wants work to have ended by then, and nothing is switched off.
    pub(crate) fn is_drain_only(&self) -> bool {
        let given_by = self.given_by.as_ref();
        given_by.is_some_and(|by| by.source == LimitSource::Operator && by.key == DRAIN_ONLY)
    }

    /// What an operator who set it gave as the reason.
    pub(crate) fn operators_reason(&self) -> Option<&str> {
        let given_by = self.given_by.as_ref();
        let operator = given_by.filter(|origin| origin.source == LimitSource::Operator);
        operator?.detail.as_deref()
    }
}

impl Decision {
    /// The deadline as the status document shows it.
    pub(crate) fn published(&self, action: Action) -> Option<Deadline> {
        let deadline = self.deadlines.published.as_ref()?;
        Some(Deadline {
            unconfirmed: self.is_unconfirmed,
            site_grace_seconds: self.site_grace.map(|grace| grace.as_secs()),
            ..deadline.published(action)
        })
    }
}

impl decide::Deadline {
    /// As the status document shows it.
    pub(crate) fn published(&self, action: Action) -> Deadline {
        Deadline {
            at: self.at,
            at_utc: clock::utc(self.at),
            origin: self.origin.to_string(),
            given_by: Some(self.origin.clone()),
            notice: matches!(self.kind, LimitKind::Notice | LimitKind::Rehearsal),
            rehearsal: self.kind == LimitKind::Rehearsal,
            unconfirmed: false,
            grace_seconds: self.grace.as_secs(),
            site_grace_seconds: None,
            action: match self.kind.ends_the_machine() {
                true => action,
                false => Action::Report,
            },
            confirmed_at: self.confirmed_at.map(clock::utc),
        }
    }
}

impl From<&Staged> for Staging {
    fn from(staged: &Staged) -> Staging {
        Staging {
            mount_point: staged.mount_point().into(),
            device: staged.device().into(),
            filesystem: staged.filesystem().into(),
            label: staged.label().map(Into::into),
            options: staged.options().into(),
            size_bytes: staged.size_bytes(),
            free_bytes: staged.free_bytes(),
            already_mounted: staged.already_mounted(),
            also_mounted_on: staged.also_mounted_on().into(),
            evidence: staged.evidence().map(Into::into),
            made_of: staged.made_of().into(),
            suspicion: staged.suspicion().map(Into::into),
        }
    }
}

impl From<&choose::Verdict> for Verdict {
    fn from(verdict: &choose::Verdict) -> Verdict {
        let (word, reason) = match &verdict.judgement {
            Judgement::Accepted(_) => ("accepted", None),
            Judgement::ToBeMade(one) => {
                let word = match one.in_place_of() {
                    _ if !one.is_made() => "rejected",
                    InPlaceOf::Nothing => "blank",
                    InPlaceOf::HalfMade | InPlaceOf::Empty(_) => "remade",
                };
                (word, Some(verdict.judgement.to_string()))
            }
            Judgement::Joined(joined) => ("joined", Some(joined.to_string())),
            Judgement::Absent => ("absent", None),
            Judgement::Rejected(reason) => ("rejected", Some(reason.to_string())),
        };
        let is_something_else = match &verdict.judgement {
            Judgement::Rejected(reason) => reason.is_of_something_else(),
            Judgement::Absent => true,
            Judgement::Accepted(_) | Judgement::ToBeMade(_) | Judgement::Joined(_) => false,
        };
        Verdict {
            spec: verdict.spec.to_string(),
            device: verdict
                .device
                .as_ref()
                .map(|device| device.display().to_string()),
            verdict: word.into(),
            reason,
            evidence: match &verdict.judgement {
                Judgement::Accepted(accepted) => Some(accepted.evidence().to_string()),
                Judgement::ToBeMade(one) => Some(one.evidence().to_string()),
                Judgement::Joined(joined) => joined.evidence(),
                Judgement::Absent | Judgement::Rejected(_) => None,
            },
            may_be_scratch: !is_something_else,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::reason::Reason;
    use crate::host::tree::Tree;
    use crate::metadata::Instance;
    use crate::report::example;

    #[test]
    fn a_second_boot_begins_with_the_deadline_and_with_nothing_achieved() {
        let earlier = example::with_deadline();
        let status = Status::begin_after(&Host::this_machine(), Some(earlier.clone()));
        assert_eq!(status.deadline, earlier.deadline);
        assert_eq!(status.instance, earlier.instance);
        assert_eq!(status.outcome, Outcome::Failed);
        assert_eq!(status.staging, None);
    }

    #[test]
    fn the_first_time_it_was_ready_in_this_boot_stays() {
        let ready_after = |earlier: Option<Status>, uptime: &str| {
            let tree = Tree::new(&[("proc/uptime", uptime)]);
            let mut status = Status::begin_after(&tree.host(), earlier);
            status.conclude(&tree.host(), None);
            status
        };
        let first = ready_after(None, "12.04 9.00\n");
        assert_eq!(first.ready_uptime_ms, Some(12_040));
        let mut unmounted = Status::begin_after(&Host::this_machine(), Some(first));
        unmounted.conclude(
            &Host::this_machine(),
            Some(&Failure::NoDevice("none".into())),
        );
        let mended = ready_after(Some(unmounted), "80.00 9.00\n");
        assert_eq!(mended.ready_uptime_ms, Some(12_040));
        let late = ready_after(Some(example::failed()), "80.00 9.00\n");
        assert_eq!(late.ready_uptime_ms, Some(80_000));
        // An older version did not say when.
        let mut of_0_1_0 = example::ready();
        of_0_1_0.ready_uptime_ms = None;
        assert_eq!(
            ready_after(Some(of_0_1_0), "80.00 9.00\n").ready_uptime_ms,
            None
        );
    }

    #[test]
    fn a_deadline_of_another_version_keeps_its_limit() {
        let of_0_1_0 = r#"{"at": 1800000000, "at_utc": "2027-01-15T08:00:00Z",
            "origin": "vmstage_deadline in the openstack metadata", "grace_seconds": 600,
            "action": "report", "confirmed_at": "2026-12-24T18:00:00Z"}"#;
        let of_a_later_one = of_0_1_0
            .replace('{', r#"{"given_by": {"source": "oracle"},"#)
            .replace("openstack", "oracle");
        for (text, source, cloud) in [
            (of_0_1_0, LimitSource::Openstack, "openstack"),
            (&of_a_later_one, LimitSource::Unknown, "oracle"),
        ] {
            let held = Limit::held(&serde_json::from_str(text).unwrap());
            assert_eq!(held.when, When::At(1_800_000_000));
            assert_eq!(held.origin.source, source);
            let shown = format!("vmstage_deadline in the {cloud} metadata");
            assert_eq!(held.origin.to_string(), shown);
        }
    }

    #[test]
    fn a_scratch_disk_that_was_asked_for_and_is_not_there_is_said() {
        let told = |request: &str, judgement: Judgement| {
            let mut status = example::failed();
            status.instance = Some(Instance {
                request: Some(request.into()),
                ..Instance::default()
            });
            let verdict = choose::Verdict {
                spec: config::Spec::Name("/dev/vdb".into()),
                device: Some("/dev/vdb".into()),
                judgement,
            };
            status.verdicts = vec![(&verdict).into()];
            status.compare_resources(&Tree::new(&[]).host());
            status.scratch_that_is_missing()
        };
        assert_eq!(told("cores=1", Judgement::Absent), None);
        assert_eq!(told("m1024c1s0", Judgement::Absent), None);
        let (none, unusable) = (
            "the flavor has none",
            "no disk that is here can be used as such",
        );
        for (judgement, found) in [
            (Judgement::Absent, none),
            (Judgement::Rejected(Reason::ConfigDrive), none),
            (Judgement::Rejected(Reason::SystemDisk), none),
            (
                Judgement::Rejected(Reason::NotAFilesystem("swap".into())),
                none,
            ),
            (Judgement::Rejected(Reason::ReadOnly), unusable),
            (Judgement::Rejected(Reason::ReplayPending), unusable),
        ] {
            let words = format!("10 GiB of scratch were asked for (vmstage_request), and {found}");
            assert_eq!(told("m1024c1s10", judgement), Some(words));
        }
    }
}
