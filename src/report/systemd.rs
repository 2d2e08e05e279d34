//! The service manager, where it asks to be told (`$NOTIFY_SOCKET`, sd_notify(3)).

use anyhow::{Context, Result};
use sd_notify::NotifyState;

use super::console;
use crate::clock;
use crate::staging::directories::Ready;
use crate::status::Status;

/// `READY=1`, which takes a [`Ready`] to say.
pub fn ready(_: &Ready, status: &Status) -> Result<()> {
    let text = console::line(status, clock::now());
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&text)])
        .context("cannot write to $NOTIFY_SOCKET")
}

/// `READY=1` of `watch`, which is ready when it watches.
pub fn watching() -> Result<()> {
    sd_notify::notify(&[NotifyState::Ready]).context("cannot write to $NOTIFY_SOCKET")
}

/// `STATUS=`: the line that `systemctl status` shows.
pub fn text(text: &str) -> Result<()> {
    sd_notify::notify(&[NotifyState::Status(text)]).context("cannot write to $NOTIFY_SOCKET")
}
