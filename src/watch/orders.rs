//! Hearing `vmstage end`, and saying that it was heard.

use log::{info, warn};

use super::Watch;
use crate::clock::{self, Now};
use crate::deadline::limit::LimitKind;
use crate::deadline::order::{Acknowledgement, Request};
use crate::deadline::origin::LimitSource;
use crate::deadline::records;
use crate::report;

impl Watch<'_> {
    /// Takes what `vmstage end` asked for, tells everybody, and says so.
    pub(crate) fn take_orders(&mut self, now: Now) {
        self.follow_the_clocks(now);
        let before = self.follower.order(now);
        self.follower
            .obey(records::orders(self.host, self.follower.orders()));
        if self.decide(now) {
            self.publish(now);
        }
        let mut said = Vec::new();
        if before.is_some() && self.follower.order(now).is_none() {
            info!("vmstage end was cancelled");
            self.tell_users_that_it_is_cancelled();
            if self.progress.done().has_drained_for_order() {
                said.push("drain has begun for it: what it did is not undone".to_string());
            }
        }
        self.acknowledge_orders(said);
    }

    /// Takes up the orders that a `watch` before this one has heard, and hears others.
    pub(super) fn begin_with_orders(&mut self) {
        let heard = records::acknowledgement(self.host).read().ok().flatten();
        let orders = self.follower.orders();
        let is_heard = match (&orders.request, &heard) {
            (Some(request), Some(heard)) => request.id == heard.id,
            (request, _) => request.is_none(),
        };
        match is_heard {
            true => self.kept_order.clone_from(&orders.kept),
            false => self.acknowledge_orders(Vec::new()),
        }
    }

    /// Says that the request of this boot, if there is one, was heard.
    fn acknowledge_orders(&mut self, mut said: Vec<String>) {
        said.extend(self.keep_order());
        let Some(Request { id, .. }) = &self.follower.orders().request else {
            return;
        };
        let heard = Acknowledgement {
            id: id.clone(),
            said,
        };
        let written = records::keep_without_room(&records::acknowledgement(self.host), &heard);
        report::note(self.notices, "vmstage end", written);
    }

    /// Keeps the order for the next boot, where that was asked for. Says why it cannot.
    fn keep_order(&mut self) -> Option<String> {
        let orders = self.follower.orders();
        let request = orders.request.as_ref()?;
        let is_to_be_kept = request.order.as_ref().is_some_and(|o| o.is_to_be_kept);
        let kept = self.follower.order_to_keep();
        let kept = kept.map(|kept| kept.done_as(self.kept_order.as_ref()));
        if is_to_be_kept && kept.is_none() {
            return Some("it ends with a reboot: nobody knows which machine this is".into());
        }
        if self.kept_order == kept && kept.is_some() {
            return None;
        }
        let written = records::keep_order(self.host, kept.as_ref());
        self.kept_order = kept;
        let failed = written.err().map(|e| match is_to_be_kept {
            true => format!("it ends with a reboot: it cannot be kept: {e}"),
            false => format!("one that was kept before cannot be removed: {e}"),
        });
        failed.inspect(|failed| warn!("{failed}"))
    }

    /// Where another time is believed by now, the kept order has it too.
    pub(super) fn keep_order_up_to_date(&mut self) {
        if self.kept_order.is_some() {
            self.keep_order();
        }
    }

    /// What is carried out does not end the machine again when it is started once more.
    pub(super) fn forget_order_that_is_carried_out(&mut self, now: Now) {
        if !self.is_ordered(now) {
            return;
        }
        if let Err(e) = records::keep_order(self.host, None) {
            warn!("the order of vmstage end that was kept cannot be removed: {e}");
        }
        self.kept_order = None;
    }

    /// A drain alone is run once, and not in every boot.
    pub(super) fn mark_kept_drain_as_done(&mut self, now: Now) {
        let time = self.follower.time(now).unix;
        let drill = self.decision.deadlines.drill.as_ref();
        let is_over =
            drill.is_some_and(|drill| drill.kind == LimitKind::DrainOnly && drill.at <= time);
        let done = self.progress.done();
        let has_drained = self.config.deadline.drain.is_empty() || done.drained && done.drain_ended;
        let (true, true, Some(kept)) = (is_over, has_drained, &mut self.kept_order) else {
            return;
        };
        if kept.is_done() {
            return;
        }
        kept.mark_done_in(&self.host.boot_id().unwrap_or_default());
        if let Err(e) = records::keep_order(self.host, Some(kept)) {
            warn!("the order of vmstage end that was kept drains again after a reboot: {e}");
        }
    }

    fn tell_users_that_it_is_cancelled(&self) {
        let published = self.decision.deadlines.published.as_ref();
        let text = match published.map(|deadline| clock::for_people(deadline.at)) {
            Some(at) => format!("called off by the operator; this VM goes away at {at}"),
            None => "called off by the operator: this VM does not go away".to_string(),
        };
        report::warning(self.host, self.notices, &text, self.config);
    }

    /// Whether an operator's order is what the machine ends with now.
    fn is_ordered(&self, now: Now) -> bool {
        let time = self.follower.time(now).unix;
        let deadlines = &self.decision.deadlines;
        let both = deadlines.planned.iter().chain(&deadlines.certain);
        let mut reached = both.filter(|deadline| deadline.at <= time);
        reached.any(|deadline| deadline.origin.source == LimitSource::Operator)
    }
}
