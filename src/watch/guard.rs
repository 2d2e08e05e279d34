//! Who ends the machine where `watch` itself hangs: the disk that does not answer may be the one
//! with its records, with what it tells others, or with init's own commands.
//!
//! A child that is told after each round by when the machine is to be off, and touches no file
//! until then.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use log::warn;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::read;

use super::poweroff;
use crate::host::Host;
use crate::host::bounded::{self, Child, Limit, Waited, wait_for_any};
use crate::logging;

/// For so long `watch` may be silent when it should have ended the machine: one round of it may
/// ask several services, and wait for each.
const SILENCE: Duration = Duration::from_secs(30);

/// For init's commands: each may take ten seconds to say that it cannot.
const ASKING: Duration = Duration::from_secs(40);

/// In place of a number of seconds: nothing ends the machine.
const NEVER: u64 = u64::MAX;

pub(crate) enum Guard {
    /// Nobody ends the machine where `watch` hangs.
    Off,
    /// There is a child once something ends the machine.
    Ready,
    Standing(Standing),
}

pub(crate) struct Standing {
    words: File,
    /// It ends with this.
    _child: Child,
}

impl Guard {
    /// Says at which uptime the machine is to be off, and that `watch` is at work.
    pub(crate) fn tell(&mut self, host: &Host, off_by: Option<Duration>) {
        if let (Guard::Ready, Some(_)) = (&self, off_by) {
            match Standing::start(host) {
                Ok(standing) => *self = Guard::Standing(standing),
                Err(e) => warn!("nobody ends the machine where this hangs: {e:#}"),
            }
        }
        let Guard::Standing(standing) = self else {
            return;
        };
        // Rounded up.
        let seconds = off_by.map_or(NEVER, |at| at.as_secs().saturating_add(1));
        if standing.words.write_all(&seconds.to_ne_bytes()).is_err() {
            // It was killed, and another is started.
            *self = Guard::Ready;
        }
    }
}

impl Standing {
    fn start(host: &Host) -> Result<Standing> {
        let (hears, words) = std::io::pipe().context("cannot make a pipe")?;
        let (hears, words) = (OwnedFd::from(hears), OwnedFd::from(words));
        for end in [&hears, &words] {
            let at_once = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
            fcntl(end, at_once).context("cannot set up a pipe")?;
        }
        let socket = logging::socket();
        let child = Child::start(&[hears.as_fd()], |_| {
            logging::speak_for_oneself(socket);
            stand(host, hears.as_fd());
        })?;
        Ok(Standing {
            words: words.into(),
            _child: child,
        })
    }
}

/// Who was asked to end the machine since `watch` was heard of.
#[derive(PartialEq)]
enum Asked {
    Nobody,
    Init,
}

/// Ends with `watch`.
fn stand(host: &Host, words: BorrowedFd) {
    let (mut off_by, mut asked) = (NEVER, Asked::Nobody);
    loop {
        let left = Duration::from_secs(off_by).saturating_sub(host.now().uptime);
        let patience = match asked {
            Asked::Nobody => left.saturating_add(SILENCE),
            Asked::Init => poweroff::PATIENCE,
        };
        if wait_for_any(&[words], patience) == Waited::Heard {
            let mut seconds = [0; 8];
            match read(words, &mut seconds) {
                Ok(0) => return,
                Ok(8) => (off_by, asked) = (u64::from_ne_bytes(seconds), Asked::Nobody),
                // A signal.
                _ => {}
            }
        } else if left.is_zero() {
            warn!("vmstage watch hangs, and the machine should be off");
            let ask_init = || poweroff::ask_init(host);
            let hangs = asked == Asked::Nobody
                && bounded::run(Limit::after(ASKING), &[], ask_init).is_err();
            if hangs || asked == Asked::Init {
                poweroff::ask_kernel();
            }
            asked = Asked::Init;
        }
    }
}
