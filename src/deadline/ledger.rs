//! What each source said last, and what of it is believed. Pure.
//!
//! What a source said holds while it is silent, and where the place of a limit has become
//! garbage. One answer can be wrong, and must neither end a VM nor let it run for ever: a limit
//! that is new, or moves, is published at once and believed when a second answer says so too;
//! one that was believed is taken back by two answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_trust::APART;
use super::confirm::{confirmed, is_earlier, is_far};
use super::identity::{Identity, Judgement};
use super::limit::{Limit, LimitKind, When};
use super::origin::{LimitSource, Origin};
pub use super::over::SaidAt;
use super::over::{self, Over};

/// A source that has been silent for so long since it said something is taken to mean it.
const SILENCE: Duration = Duration::from_secs(600);

/// What a source said when it was asked.
#[derive(Debug, Clone, Default)]
pub struct Statement {
    /// Which instance it is about, as far as it says.
    pub instance: Option<String>,
    /// Those that it gives.
    pub limits: Vec<Limit>,
    /// What it does not give of this is taken back.
    pub about: About,
    /// A grace that it asks for.
    pub grace: Option<Duration>,
    /// The keys of limits that files say which may have been saved in the image.
    pub(crate) of_files: Vec<String>,
}

/// What a statement is about: of that, what it does not say is taken back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum About {
    /// All that the source ever says.
    #[default]
    Everything,
    /// Limits under these keys of the source.
    Keys(Vec<String>),
}

impl About {
    fn is_about(&self, source: LimitSource, origin: &Origin) -> bool {
        origin.source == source
            && match self {
                About::Everything => true,
                About::Keys(keys) => keys.contains(&origin.key),
            }
    }
}

/// What became of a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    /// It counts.
    Used,
    /// It is another instance's, in words.
    Refused(String),
}

/// What each source said last, and what of it is believed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub(crate) identity: Identity,
    entries: Vec<Entry>,
    /// Of each source, what was given and cannot be used.
    unusable: Vec<Limit>,
    /// Those that have answered in this boot.
    spoken: Vec<LimitSource>,
    /// OpenStack's service has answered in a boot before this one.
    #[serde(default)]
    has_openstack_spoken_before: bool,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// As it was said last.
    said: Limit,
    /// What is acted upon; None where only one answer has said anything yet.
    believed: Option<When>,
    /// Where what was said is not believed yet: the uptime at which it was said first.
    doubted_since: Option<Duration>,
    /// The uptime of the first answer that did not say it any more.
    #[serde(default)]
    gone_since: Option<Duration>,
    /// The uptime at which the source answered last when it was asked for it.
    heard: Duration,
    /// The second answer is wanted soon, and not only when one is due.
    is_urgent: bool,
    /// When a notice's time is over, where that is counted from when it was heard.
    #[serde(default)]
    over: Option<Over>,
    /// The uptime at which a notice of this time was heard first.
    #[serde(default)]
    noticed: Duration,
}

impl Ledger {
    /// Takes note of an answer.
    pub fn record(&mut self, source: LimitSource, statement: &Statement, at: SaidAt) -> Recorded {
        let judgement = statement
            .instance
            .as_deref()
            .map(|id| self.identity.judge(source, id, at.uptime));
        match judgement {
            Some(Judgement::Anothers(reason)) => {
                self.end_silence(source, &statement.about, at.uptime);
                return Recorded::Refused(format!("an answer is not used: {reason}"));
            }
            Some(Judgement::First) if self.spoken.contains(&source) => self.forget(source),
            _ => {}
        }
        if !self.spoken.contains(&source) {
            self.spoken.push(source);
        }
        self.end_silence(source, &statement.about, at.uptime);
        self.take_back(source, statement, at.uptime);
        for limit in &statement.limits {
            match limit.is_usable() {
                true => self.say(limit, at),
                false => self.say_unusable(limit),
            }
        }
        Recorded::Used
    }

    /// What a process before this one found, or a boot before this one. Where its source has
    /// said anything since, it does not count.
    pub(crate) fn hold(&mut self, limit: Limit, is_believed: bool, uptime: Duration) {
        let is_known = |entry: &Entry| entry.said.origin.is_same_limit(&limit.origin);
        if self.spoken.contains(&limit.origin.source) || self.entries.iter().any(is_known) {
            return;
        }
        self.entries.push(Entry {
            believed: is_believed.then(|| limit.when.clone()),
            doubted_since: (!is_believed).then_some(uptime),
            gone_since: None,
            heard: uptime,
            is_urgent: !is_believed,
            over: None,
            noticed: uptime,
            said: limit,
        });
    }

    /// What another process of this boot knows of sources that have not spoken to this one.
    pub(crate) fn learn(&mut self, other: &Ledger) {
        self.identity.learn(&other.identity);
        for entry in &other.entries {
            let origin = &entry.said.origin;
            let is_known = |known: &Entry| known.said.origin.is_same_limit(origin);
            if !self.spoken.contains(&origin.source) && !self.entries.iter().any(is_known) {
                self.entries.push(entry.clone());
            }
        }
        for source in &other.spoken {
            if !self.spoken.contains(source) {
                self.spoken.push(*source);
            }
        }
    }

    pub(crate) fn has_anybody_spoken(&self) -> bool {
        !self.spoken.is_empty()
    }

    /// Takes back all that a source said.
    fn forget(&mut self, source: LimitSource) {
        self.entries
            .retain(|entry| entry.said.origin.source != source);
        self.unusable.retain(|limit| limit.origin.source != source);
    }

    /// Whether it has answered in this boot.
    pub fn has_spoken(&self, source: LimitSource) -> bool {
        self.spoken.contains(&source)
    }

    /// All limits as they are published, also those that cannot be used: as they were said
    /// last, or earlier where that is still acted upon.
    pub fn limits(&self) -> Vec<Limit> {
        let published = self.entries.iter().map(|entry| Limit {
            when: entry.published().clone(),
            ..entry.said.clone()
        });
        let all = published.chain(self.unusable.iter().cloned());
        all.filter(|limit| self.counts(limit)).collect()
    }

    /// Those limits that are acted upon, as they are believed.
    pub(crate) fn believed(&self, uptime: Duration) -> Vec<Limit> {
        let counting = self.entries.iter().filter(|entry| self.counts(&entry.said));
        counting
            .filter_map(|entry| {
                Some(Limit {
                    when: entry.believed(uptime)?.clone(),
                    ..entry.said.clone()
                })
            })
            .collect()
    }

    /// When a notice's time is over, where that is not for the time that counts to say.
    pub(crate) fn over(&self, origin: &Origin) -> Option<Over> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.said.origin == *origin)?.over
    }

    /// Whether a second answer is needed before this limit is acted upon as it is published.
    pub(crate) fn is_doubted(&self, origin: &Origin, uptime: Duration) -> bool {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.said.origin == *origin);
        entry.is_some_and(|entry| entry.believed(uptime) != Some(entry.published()))
    }

    /// The uptime at which a source is to be asked for a second answer, and which; None where
    /// nothing is urgent. A source that is silent then is not asked so soon once more.
    pub(crate) fn wants_second_answer(&self) -> Option<(Duration, LimitSource)> {
        let urgent = self.entries.iter().filter(|entry| entry.is_urgent);
        urgent
            .filter(|entry| self.counts(&entry.said))
            .filter_map(|entry| {
                Some((
                    entry.unsure_since()?.saturating_add(APART),
                    entry.said.origin.source,
                ))
            })
            .min()
    }

    /// The uptime at which silence will count as a second answer.
    pub(crate) fn silence_counts(&self, uptime: Duration) -> Option<Duration> {
        let doubted = self
            .entries
            .iter()
            .filter(|entry| entry.waits_for_silence());
        let at = doubted.map(|entry| entry.heard.saturating_add(SILENCE));
        at.filter(|at| *at > uptime).min()
    }

    /// Has what is due within `soon` of now, in Unix seconds, asked for again soon.
    pub(crate) fn hurry(&mut self, is_due_soon: impl Fn(&When) -> bool) {
        for entry in &mut self.entries {
            let is_soon =
                is_due_soon(&entry.said.when) || entry.believed.as_ref().is_some_and(&is_due_soon);
            entry.is_urgent |= entry.unsure_since().is_some() && is_soon;
        }
    }

    /// The config drive is frozen at launch: what the service said since is newer, also that
    /// there is no limit any more.
    fn counts(&self, limit: &Limit) -> bool {
        limit.origin.source != LimitSource::ConfigDrive || !self.is_drive_outdated()
    }

    pub(crate) fn is_drive_outdated(&self) -> bool {
        self.has_openstack_spoken_before || self.has_spoken(LimitSource::Openstack)
    }

    /// As a boot of this instance before this one knew.
    pub(crate) fn outdate_drive(&mut self) {
        self.has_openstack_spoken_before = true;
    }

    /// Whatever it answers, it is not silent any more.
    pub(crate) fn end_silence(&mut self, source: LimitSource, about: &About, uptime: Duration) {
        for entry in &mut self.entries {
            if about.is_about(source, &entry.said.origin) {
                entry.end_silence(uptime);
            }
        }
    }

    /// What a statement does not say any more. Garbage in the place of a limit, or of all
    /// `meta`, takes none back.
    fn take_back(&mut self, source: LimitSource, statement: &Statement, uptime: Duration) {
        let is_about = |origin: &Origin| statement.about.is_about(source, origin);
        let lost_all = |limit: &Limit| !limit.is_usable() && limit.origin.is_all_of_meta();
        let is_all_lost = statement.limits.iter().any(lost_all);
        let is_said = |origin: &Origin| {
            let mut limits = statement.limits.iter();
            limits.any(|limit| limit.origin.is_same_limit(origin))
        };
        self.unusable.retain(|limit| !is_about(&limit.origin));
        self.entries.retain_mut(|entry| {
            let origin = &entry.said.origin;
            !is_about(origin) || is_all_lost || is_said(origin) || !entry.is_taken_back(uptime)
        });
    }

    /// Once, however often: a statement need not be about the key that it garbles.
    fn say_unusable(&mut self, limit: &Limit) {
        let is_same = |known: &Limit| known.origin.is_same_limit(&limit.origin);
        self.unusable.retain(|known| !is_same(known));
        self.unusable.push(limit.clone());
    }

    fn say(&mut self, limit: &Limit, at: SaidAt) {
        let limit = Limit {
            confirmed_at: limit.confirmed_at.or(Some(at.unix)),
            ..limit.clone()
        };
        let same = |entry: &&mut Entry| entry.said.origin.is_same_limit(&limit.origin);
        match self.entries.iter_mut().find(same) {
            Some(entry) => entry.say_again(limit, at),
            None => self.entries.push(Entry::new(limit, at)),
        }
    }
}

impl Entry {
    fn new(said: Limit, at: SaidAt) -> Entry {
        let uptime = at.uptime;
        let is_exempt = said.kind == LimitKind::Notice || said.origin.source.is_of_this_machine();
        Entry {
            believed: is_exempt.then(|| said.when.clone()),
            doubted_since: (!is_exempt).then_some(uptime),
            gone_since: None,
            heard: uptime,
            is_urgent: !is_exempt,
            over: over::of(&said, at, uptime),
            noticed: uptime,
            said,
        }
    }

    /// An answer says it no more. Says whether it is taken back by that.
    fn is_taken_back(&mut self, uptime: Duration) -> bool {
        let is_notice = self.said.kind == LimitKind::Notice;
        let Some(believed) = self.believed.as_ref().filter(|_| !is_notice) else {
            return true;
        };
        // Nobody else says what one answer said before.
        self.said.when = believed.clone();
        self.doubted_since = None;
        let since = *self.gone_since.get_or_insert(uptime);
        uptime.saturating_sub(since) >= APART
    }

    fn published(&self) -> &When {
        let earlier = self.believed.as_ref();
        earlier
            .filter(|believed| is_earlier(believed, &self.said.when))
            .unwrap_or(&self.said.when)
    }

    /// Since when a second answer is wanted.
    fn unsure_since(&self) -> Option<Duration> {
        self.gone_since.or(self.doubted_since)
    }

    /// What was believed before is not given up for what was said once.
    fn waits_for_silence(&self) -> bool {
        self.doubted_since.is_some() && self.believed.is_none()
    }

    /// What silence has confirmed stays so.
    fn end_silence(&mut self, uptime: Duration) {
        self.believed = self.believed(uptime).cloned();
        self.heard = uptime;
        if self.believed.as_ref() == Some(&self.said.when) {
            self.doubted_since = None;
            self.is_urgent = false;
        }
    }

    /// Another answer. A notice that says no time, or no longer, keeps an earlier one that it
    /// had.
    fn say_again(&mut self, mut limit: Limit, at: SaidAt) {
        let is_undated = matches!(limit.when, When::AfterNotice(_));
        let new = over::of(&limit, at, self.noticed).filter(|_| is_undated);
        let is_no_earlier = |new: Over| self.end(at).is_some_and(|end| end <= new.at);
        if new.is_some_and(is_no_earlier) {
            let over = self.over;
            limit.when = self.said.when.clone();
            self.say(limit, at);
            self.over = over;
        } else {
            self.say(limit, at);
            self.over = over::of(&self.said, at, self.noticed);
        }
    }

    /// The uptime at which a notice's time is over, by what is known now. None where that is
    /// not known.
    fn end(&self, at: SaidAt) -> Option<Duration> {
        let by_clock = match self.said.when {
            When::At(end) => Some(at.left(end, at.unix)),
            _ => None,
        };
        self.over.map(|over| over.at).or(by_clock)
    }

    /// Another answer. Two that are apart confirm the later of what they say, or, where both
    /// are later than the believed, the earlier.
    fn say(&mut self, limit: Limit, at: SaidAt) {
        let uptime = at.uptime;
        let before = std::mem::replace(self, Entry::new(limit, at));
        let was_undated = matches!(before.said.when, When::AfterNotice(_));
        if self.said.when == before.said.when || was_undated {
            self.noticed = before.noticed;
        }
        if self.believed.is_some() {
            return;
        }
        let new = &self.said.when;
        let is_apart = |since: Duration| uptime.saturating_sub(since) >= APART;
        let old = before.believed(uptime);
        let confirmed = match before.doubted_since {
            Some(since) if is_apart(since) => confirmed(old, &before.said.when, new),
            _ => None,
        };
        self.believed = confirmed.or(old.cloned());
        if self.believed.as_ref() == Some(new) {
            self.doubted_since = None;
            self.is_urgent = false;
            return;
        }
        // The same once more, too soon: the wait goes on.
        if before.said.when == *new && !before.doubted_since.is_none_or(is_apart) {
            self.doubted_since = before.doubted_since;
        }
        let believed = self.believed.as_ref();
        self.is_urgent = believed.is_none_or(|believed| is_far(believed, new));
    }

    fn believed(&self, uptime: Duration) -> Option<&When> {
        let silent_for = uptime.saturating_sub(self.heard);
        match self.waits_for_silence() && silent_for >= SILENCE {
            true => Some(&self.said.when),
            false => self.believed.as_ref(),
        }
    }
}

impl LimitSource {
    /// Nobody else can be wrong about it.
    pub(super) fn is_of_this_machine(self) -> bool {
        matches!(self, LimitSource::Configuration | LimitSource::Operator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENSTACK: LimitSource = LimitSource::Openstack;
    const DRIVE: LimitSource = LimitSource::ConfigDrive;
    const EC2: LimitSource = LimitSource::Ec2;
    const T: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;

    fn at(uptime: u64) -> SaidAt {
        SaidAt {
            unix: T + uptime,
            uptime: Duration::from_secs(uptime),
            date: None,
            wall: T + uptime,
            is_believed: true,
        }
    }

    fn limit(source: LimitSource, at: u64) -> Limit {
        Limit::new(Origin::new(source, "vmstage_deadline"), When::At(at))
    }

    fn says(instance: Option<&str>, limits: Vec<Limit>) -> Statement {
        Statement {
            instance: instance.map(Into::into),
            limits,
            ..Statement::default()
        }
    }

    fn unix(limits: Vec<Limit>) -> Vec<u64> {
        let at = |limit: Limit| match limit.when {
            When::At(at) => Some(at),
            _ => None,
        };
        limits.into_iter().filter_map(at).collect()
    }

    /// A story of OpenStack: at this uptime it says this deadline, and then this one is
    /// published, and this one believed; 0 is none, and silence where it says nothing.
    fn story(steps: &[(u64, Option<u64>, u64, u64)]) {
        let mut ledger = Ledger::default();
        for (step, (uptime, said, published, believed)) in steps.iter().enumerate() {
            if let Some(said) = said {
                let limits = (*said > 0).then(|| limit(OPENSTACK, *said));
                let statement = says(Some("a"), limits.into_iter().collect());
                ledger.record(OPENSTACK, &statement, at(*uptime));
            }
            let one = |limits| unix(limits).first().copied().unwrap_or(0);
            let found = (
                one(ledger.limits()),
                one(ledger.believed(Duration::from_secs(*uptime))),
            );
            assert_eq!(found, (*published, *believed), "step {step} of {steps:?}");
        }
    }

    #[test]
    fn what_is_new_or_moves_towards_now_is_believed_when_a_second_answer_says_so() {
        let (x, y) = (T + 9 * HOUR, T + 5 * HOUR);
        // The first of a boot.
        story(&[
            (60, Some(x), x, 0),
            (65, Some(x), x, 0),
            (70, Some(x), x, x),
        ]);
        // One wrong answer, and the right one a minute later.
        story(&[
            (60, Some(5), 5, 0),
            (123, Some(x), x, 0),
            (133, Some(x), x, x),
        ]);
        // The same wrong answer twice, and none between that says it.
        story(&[
            (60, Some(5), 5, 0),
            (120, Some(0), 0, 0),
            (180, Some(5), 5, 0),
        ]);
        story(&[
            (60, Some(x), x, 0),
            (120, Some(x), x, x),
            (180, Some(5), 5, x),
            (240, Some(0), x, x),
            (300, Some(5), 5, x),
            (360, Some(0), x, x),
        ]);
        // Two first ones that differ, each said once.
        let late = x + 5000 * HOUR;
        story(&[
            (60, Some(x), x, 0),
            (73, Some(late), late, 0),
            (672, None, late, 0),
        ]);
        story(&[
            (60, Some(x), x, 0),
            (120, Some(x), x, x),
            (180, Some(5), 5, x),
            (190, Some(x), x, x),
        ]);
        // Towards now, twice; and away from it, twice.
        story(&[
            (60, Some(x), x, 0),
            (120, Some(x), x, x),
            (180, Some(y), y, x),
            (190, Some(y), y, y),
            (250, Some(x), y, y),
            (260, Some(x), x, x),
        ]);
        // An end that is worked out anew each time, and creeps.
        story(&[
            (60, Some(x), x, 0),
            (120, Some(x - 9), x - 9, x),
            (180, Some(x - 19), x - 19, x - 9),
            (240, Some(x - 29), x - 29, x - 19),
        ]);
        // Silence for ten minutes.
        story(&[(60, Some(x), x, 0), (659, None, x, 0), (660, None, x, x)]);
        // Taken back.
        story(&[
            (60, Some(x), x, 0),
            (120, Some(x), x, x),
            (180, Some(0), x, x),
            (185, Some(0), x, x),
            (190, Some(0), 0, 0),
        ]);
        // Once only, and then silence.
        for (said, published) in [(0, x), (x + 9, x), (5, 5)] {
            story(&[
                (60, Some(x), x, 0),
                (120, Some(x), x, x),
                (180, Some(said), published, x),
                (9000, None, published, x),
            ]);
        }
        // Taken back once, and not.
        story(&[
            (60, Some(x), x, 0),
            (120, Some(x), x, x),
            (180, Some(0), x, x),
            (240, Some(x), x, x),
            (300, Some(0), x, x),
        ]);
        // Each answer another one.
        story(&[
            (60, Some(x), x, 0),
            (120, Some(x), x, x),
            (180, Some(x + 90), x, x),
            (240, Some(x + 9), x + 9, x + 9),
            (300, Some(5), 5, x + 9),
            (360, Some(x + 90), x + 9, x + 9),
        ]);
    }

    #[test]
    fn a_second_answer_is_wanted_after_ten_seconds_and_not_for_every_small_move() {
        let wanted = |first: u64, second: u64| {
            let mut ledger = Ledger::default();
            let tell = |ledger: &mut Ledger, up, unix| {
                let statement = says(None, vec![limit(OPENSTACK, unix)]);
                ledger.record(OPENSTACK, &statement, at(up));
                ledger.wants_second_answer().map(|(at, _)| at.as_secs())
            };
            assert_eq!(tell(&mut ledger, 60, first), Some(70));
            assert_eq!(tell(&mut ledger, 70, first), None);
            let wanted = tell(&mut ledger, 130, second);
            ledger.hurry(|when| *when <= When::At(T + 200) || wanted.is_some());
            (
                wanted,
                ledger.wants_second_answer().map(|(at, _)| at.as_secs()),
            )
        };
        let far = T + 9 * HOUR;
        assert_eq!(wanted(far, far - HOUR - 1), (Some(140), Some(140)));
        assert_eq!(wanted(far, far - HOUR), (None, None));
        assert_eq!(wanted(T + 400, T + 150), (None, Some(140)));
        assert_eq!(wanted(far, far + HOUR), (None, None));
    }

    #[test]
    fn what_nobody_else_can_say_is_believed_at_once() {
        let spot = Limit::notice(Origin::new(EC2, "spot/instance-action"), When::At(T));
        let end = Limit::new(Origin::new(LimitSource::Operator, "end"), When::At(T));
        for limit in [spot, end] {
            let mut ledger = Ledger::default();
            let source = limit.origin.source;
            ledger.record(source, &says(None, vec![limit]), at(60));
            assert_eq!(unix(ledger.believed(Duration::from_secs(60))), [T]);
            assert_eq!(ledger.wants_second_answer(), None);
        }
    }

    /// A spot notice of 120 s is heard, by clocks that are off by so much.
    #[test]
    fn a_notice_is_not_over_by_the_date_of_its_own_answer_alone() {
        let (hour, year) = (3600, 365 * 86_400);
        let table = [
            // The Date, the wall clock, and whether that is believed; when it is over.
            (Some(0), 0, true, Some((120, false))),
            (Some(30), 0, true, Some((90, false))),
            (Some(90 * year), 0, true, Some((120, false))),
            (Some(-hour), 0, true, Some((120, false))),
            (Some(hour), 0, true, Some((120, false))),
            (Some(90 * year), 0, false, Some((120, true))),
            (Some(-hour), 0, false, Some((120, true))),
            (Some(0), -year, false, Some((120, true))),
            (Some(60), year, false, Some((60, true))),
            (None, 0, false, None),
            (None, -year, false, Some((120, true))),
            (None, year, false, Some((120, true))),
            (None, year, true, None),
            (Some(-57 * year), year, false, Some((120, true))),
        ];
        for (date, off, is_believed, expected) in table {
            let said = SaidAt {
                date: date.map(|date| (T + 60).saturating_add_signed(date)),
                wall: (T + 60).saturating_add_signed(off),
                unix: (T + 60).saturating_add_signed(off),
                is_believed,
                ..at(60)
            };
            let origin = Origin::new(EC2, "spot/instance-action");
            let spot = Limit::notice(origin.clone(), When::At(T + 180));
            let mut ledger = Ledger::default();
            ledger.record(EC2, &says(None, vec![spot]), said);
            let over = ledger.over(&origin);
            let over = over.map(|over| (over.at.as_secs() - 60, over.is_disputed));
            assert_eq!(over, expected, "{date:?} {off} {is_believed}");
        }
    }

    #[test]
    fn a_notice_without_a_time_counts_from_when_it_was_heard_whatever_the_clocks_say() {
        let origin = Origin::new(LimitSource::Google, "preempted");
        let year = 365 * 86_400;
        for off in [0, 45, -45, 3600, -3600, 74 * year, -year] {
            for (unix, is_believed) in [(1000, false), (T, true), (T, false)] {
                for lasts in [0, 30, 300] {
                    let mut ledger = Ledger::default();
                    for up in [60, 65, 80] {
                        let said = SaidAt {
                            date: Some((T + up).saturating_add_signed(off)),
                            wall: unix,
                            unix: unix + up,
                            is_believed,
                            ..at(up)
                        };
                        let when = When::AfterNotice(Duration::from_secs(lasts));
                        let notice = Limit::notice(origin.clone(), when);
                        ledger.record(LimitSource::Google, &says(None, vec![notice]), said);
                        let over = ledger.over(&origin).unwrap();
                        assert_eq!(over.at.as_secs(), 60 + lasts, "{off} {unix} at {up}");
                    }
                }
            }
        }
    }

    /// An event of Azure's that begins says no time any more.
    #[test]
    fn a_notice_that_says_no_time_any_more_keeps_an_earlier_one() {
        let origin = Origin::new(LimitSource::Azure, "scheduledevents/e");
        let after = |seconds| Some(When::AfterNotice(Duration::from_secs(seconds)));
        let at_unix = |unix| Some(When::At(unix));
        // What it says at which uptime, and the uptime at which it is over.
        let stories = [
            vec![(60, after(30), 90), (80, after(30), 90), (85, after(0), 85)],
            vec![(60, after(30), 90), (99, after(0), 90)],
            // A time of its own counts, also a later one.
            vec![
                (60, after(30), 90),
                (70, at_unix(T + 200), 200),
                (80, after(30), 110),
            ],
            vec![(60, at_unix(T + 300), 300), (299, after(0), 299)],
            vec![
                (60, at_unix(T + 300), 300),
                (301, after(0), 300),
                (310, after(0), 300),
            ],
            // Another one.
            vec![(60, after(30), 90), (65, None, 0), (70, after(30), 100)],
        ];
        for story in stories {
            let mut ledger = Ledger::default();
            for (up, when, over_at) in &story {
                let limits = when.iter().cloned();
                let limits = limits.map(|when| Limit::notice(origin.clone(), when));
                let statement = says(None, limits.collect());
                ledger.record(LimitSource::Azure, &statement, at(*up));
                let limits = ledger.limits();
                let found = limits.first().map_or(0, |limit| match limit.when {
                    When::At(unix) if ledger.over(&origin).is_none() => unix - T,
                    _ => ledger.over(&origin).unwrap().at.as_secs(),
                });
                assert_eq!(found, *over_at, "at {up} of {story:?}");
            }
        }
    }

    #[test]
    fn a_source_that_answers_anything_is_not_silent() {
        let mine = "aaaaaaaa-0000-4000-8000-000000000001";
        let anothers = "bbbbbbbb-0000-4000-8000-000000000002";
        let garbage = |origin| Limit::new(origin, When::Unusable("it is HTML".into()));
        let of_one = garbage(Origin::new(OPENSTACK, "vmstage_deadline"));
        let of_all = garbage(Origin::all_of_meta(OPENSTACK));
        for (answer, is_silence) in [
            (None, true),
            (Some(says(Some(mine), vec![of_one])), false),
            (Some(says(Some(mine), vec![of_all])), false),
            (Some(says(Some(anothers), vec![])), false),
        ] {
            let mut ledger = Ledger {
                identity: Identity::of(Some(mine.into())),
                ..Ledger::default()
            };
            let lie = says(Some(mine), vec![limit(OPENSTACK, T)]);
            ledger.record(OPENSTACK, &lie, at(60));
            for up in (120..1200).step_by(60) {
                if let Some(answer) = &answer {
                    ledger.record(OPENSTACK, answer, at(up));
                }
                let believed = ledger.believed(at(up).uptime);
                let expected = is_silence && up >= 660;
                assert_eq!(!believed.is_empty(), expected, "{answer:?} at {up}");
            }
            // What silence has confirmed, an answer of another's does not put in doubt.
            let wrong = says(Some(anothers), vec![]);
            ledger.record(OPENSTACK, &wrong, at(1300));
            assert_eq!(!ledger.believed(at(1300).uptime).is_empty(), is_silence);
        }
    }

    #[test]
    fn another_instances_answer_is_not_used() {
        let right = "aaaaaaaa-0000-4000-8000-000000000001";
        let mut ledger = Ledger {
            identity: Identity::of(Some(right.into())),
            ..Ledger::default()
        };
        let wrong = says(
            Some("bbbbbbbb-0000-4000-8000-000000000002"),
            vec![limit(OPENSTACK, T)],
        );
        let said = ledger.record(OPENSTACK, &wrong, at(60));
        assert!(matches!(said, Recorded::Refused(_)));
        assert_eq!(ledger.limits(), []);
        let mine = says(Some(right), vec![limit(OPENSTACK, T + HOUR)]);
        assert_eq!(ledger.record(OPENSTACK, &mine, at(123)), Recorded::Used);
        ledger.record(OPENSTACK, &wrong, at(183));
        assert_eq!(unix(ledger.limits()), [T + HOUR]);
    }

    #[test]
    fn answers_of_two_instances_in_turns_confirm_nothing() {
        let mut ledger = Ledger::default();
        for minute in 1..100 {
            let (id, unix) = match minute % 2 {
                0 => ("a", T + HOUR),
                _ => ("b", T + 2 * HOUR),
            };
            let statement = says(Some(id), vec![limit(OPENSTACK, unix)]);
            ledger.record(OPENSTACK, &statement, at(60 * minute));
            assert_eq!(ledger.believed(at(60 * minute).uptime), []);
        }
    }

    #[test]
    fn the_service_wins_over_the_frozen_config_drive_also_when_it_takes_back() {
        let mut ledger = Ledger::default();
        ledger.record(DRIVE, &says(Some("a"), vec![limit(DRIVE, T)]), at(60));
        assert_eq!(unix(ledger.limits()), [T]);
        ledger.record(OPENSTACK, &says(Some("a"), vec![]), at(70));
        assert_eq!(ledger.limits(), []);
        // As after a restart, in a status that `boot` wrote.
        ledger.hold(limit(DRIVE, T), true, Duration::from_secs(80));
        assert_eq!(ledger.limits(), []);
    }

    #[test]
    fn limits_of_ec2_count_beside_those_of_openstack_and_a_notice_is_taken_back_alone() {
        let mut ledger = Ledger::default();
        let spot = |unix| Limit::notice(Origin::new(EC2, "spot/instance-action"), When::At(unix));
        ledger.record(OPENSTACK, &says(None, vec![limit(OPENSTACK, T)]), at(60));
        let both = vec![limit(EC2, T + 1), spot(T + 2)];
        ledger.record(EC2, &says(None, both), at(61));
        assert_eq!(unix(ledger.limits()), [T, T + 1, T + 2]);
        let no_notice = Statement {
            about: About::Keys(vec!["spot/instance-action".into()]),
            ..Statement::default()
        };
        ledger.record(EC2, &no_notice, at(66));
        assert_eq!(unix(ledger.limits()), [T, T + 1]);
    }

    #[test]
    fn garbage_in_the_place_of_a_limit_takes_it_not_back_and_is_told() {
        let origin = Origin::new(OPENSTACK, "vmstage_deadline");
        let all = Origin::all_of_meta(OPENSTACK);
        for origin in [origin, all] {
            let garbage = Limit::new(origin, When::Unusable("it is HTML".into()));
            let mut ledger = Ledger::default();
            ledger.record(OPENSTACK, &says(None, vec![limit(OPENSTACK, T)]), at(60));
            for up in [120, 180] {
                ledger.record(OPENSTACK, &says(None, vec![garbage.clone()]), at(up));
                assert_eq!(unix(ledger.limits()), [T]);
                assert_eq!(ledger.limits().len(), 2, "nothing is told");
                assert_eq!(ledger.limits()[0].confirmed_at, Some(T + 60));
            }
            for up in [240, 250] {
                ledger.record(OPENSTACK, &says(None, vec![]), at(up));
            }
            assert_eq!(ledger.limits(), []);
        }
    }

    #[test]
    fn what_is_held_counts_until_its_source_has_spoken_and_a_same_answer_confirms_it() {
        let mut ledger = Ledger::default();
        ledger.hold(limit(OPENSTACK, T + HOUR), true, Duration::from_secs(10));
        let unknown = Limit::new(Origin::unknown("of another version"), When::At(T));
        ledger.hold(unknown, true, Duration::from_secs(10));
        assert_eq!(
            unix(ledger.believed(Duration::from_secs(10))),
            [T + HOUR, T]
        );
        let same = says(None, vec![limit(OPENSTACK, T + HOUR)]);
        ledger.record(OPENSTACK, &same, at(60));
        assert_eq!(
            unix(ledger.believed(Duration::from_secs(60))),
            [T + HOUR, T]
        );
        for up in [120, 130] {
            ledger.record(OPENSTACK, &says(None, vec![]), at(up));
        }
        assert_eq!(unix(ledger.limits()), [T]);
    }

    #[test]
    fn a_ledger_is_the_same_after_a_restart() {
        let mut ledger = Ledger::default();
        ledger.record(
            OPENSTACK,
            &says(Some("a"), vec![limit(OPENSTACK, T)]),
            at(60),
        );
        let text = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
    }
}
