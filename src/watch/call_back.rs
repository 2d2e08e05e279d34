//! Telling a callback what became of the boot, once.

use std::time::Duration;

use log::{info, warn};

use super::{Watch, schedule};
use crate::backoff::{jitter, wait_before_next_try};
use crate::clock::{self, Now};
use crate::report;
use crate::status::Status;

impl Watch<'_> {
    pub(super) fn wants_to_call_back(&self) -> bool {
        let wanted = self.config.callback.url.is_some() && !self.progress.done().called_back;
        wanted && (self.instance.is_some() || self.has_asked)
    }

    pub(super) fn call_back_if_due(&mut self, now: Now) {
        if !self.wants_to_call_back() || now.uptime < self.next_callback {
            return;
        }
        // Nobody is told of a boot that has not ended.
        let Ok(Some(status)) = Status::read(self.host) else {
            self.next_callback = now.uptime + schedule::BOOT_ENDS;
            return;
        };
        let failure = match report::call(self.host, &status, self.config) {
            Ok(true) => {
                info!("the callback was told what became of the boot");
                return self.keep_called_back();
            }
            // Of a failed boot there is nothing to say; another one may follow.
            Ok(false) => {
                self.next_callback = now.uptime + schedule::PERIOD;
                return;
            }
            Err(failure) => failure,
        };
        self.failed_callbacks += 1;
        let chance = jitter();
        match wait_before_next_try(
            &failure.cause,
            self.failed_callbacks,
            chance,
            false,
            Duration::MAX,
        ) {
            Some(wait) => {
                let wait = wait.max(schedule::next_callback(self.failed_callbacks - 1, chance));
                warn!(
                    "the callback was not told: {failure}; trying again in {}",
                    clock::span(wait)
                );
                self.next_callback = now.uptime + wait;
            }
            None => {
                warn!("the callback was not told: {failure}; it is not tried again");
                self.keep_called_back();
            }
        }
    }

    fn keep_called_back(&mut self) {
        let mut done = self.progress.done().clone();
        done.called_back = true;
        self.progress.keep(self.notices, done);
    }
}
