//! The service manager, where it asks to be told (`$NOTIFY_SOCKET`, sd_notify(3)).

use std::env;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::{Context, Result};

use super::console;
use crate::clock;
use crate::host::wait;
use crate::staging::directories::Ready;
use crate::status::Status;

/// How long a service manager may leave its queue full. sd_notify(3) itself would wait
/// for ever, and the machine with it.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(20);

/// `READY=1`, which takes a [`Ready`] to say, and the status where it is to be told.
pub(crate) fn ready(_: &Ready, status: Option<&Status>) -> Result<()> {
    let line = status.map(|status| console::line(status, clock::wall()));
    let text = line.map_or(String::new(), |line| format!("STATUS={line}\n"));
    notify(&format!("READY=1\n{text}"), PATIENCE)
}

/// `READY=1` of `watch`, which is ready when it watches.
pub(crate) fn watching() -> Result<()> {
    notify("READY=1\n", PATIENCE)
}

/// `STATUS=`: the line that `systemctl status` shows.
pub(crate) fn text(text: &str) -> Result<()> {
    notify(&format!("STATUS={text}\n"), Duration::ZERO)
}

fn notify(message: &str, patience: Duration) -> Result<()> {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let told = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    }
    .and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let sent = wait::until(patience, RETRY, || {
            match socket.send_to_addr(message.as_bytes(), &address) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => None,
                sent => Some(sent),
            }
        });
        sent.unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))
    });
    told.map(drop).context("cannot write to $NOTIFY_SOCKET")
}
