//! The service manager, where it asks to be told (`$NOTIFY_SOCKET`, sd_notify(3)).

use std::env;
use std::ffi::OsStr;
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
///
/// # Errors
///
/// That systemd's socket does not take it.
pub(crate) fn ready(_: &Ready, status: Option<&Status>) -> Result<()> {
    let line = status.map(|status| console::line(status, clock::wall()));
    let text = line.map_or(String::new(), |line| format!("STATUS={line}\n"));
    notify(&format!("READY=1\n{text}"), PATIENCE)
}

/// `READY=1` of `watch`, which is ready when it watches.
///
/// # Errors
///
/// Likewise.
pub(crate) fn watching() -> Result<()> {
    notify("READY=1\n", PATIENCE)
}

/// `STATUS=`: the line that `systemctl status` shows.
///
/// # Errors
///
/// Likewise.
pub(crate) fn text(text: &str) -> Result<()> {
    notify(&format!("STATUS={text}\n"), Duration::ZERO)
}

fn notify(message: &str, patience: Duration) -> Result<()> {
    match env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) {
        Some(name) => send(&name, message, patience),
        None => Ok(()),
    }
}

fn send(name: &OsStr, message: &str, patience: Duration) -> Result<()> {
    let told = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
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

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;
    use crate::host::tree::Tree;

    /// A service manager that hears what is sent to it.
    fn manager(tree: &Tree) -> UnixDatagram {
        UnixDatagram::bind(tree.root().join("notify")).unwrap()
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let count = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_message_arrives_at_a_socket_of_either_kind() {
        let tree = Tree::new(&[]);
        let by_path = manager(&tree);
        let path = tree.root().join("notify");
        send(path.as_os_str(), "READY=1\n", PATIENCE).unwrap();
        assert_eq!(heard(&by_path), "READY=1\n");

        let name = format!("@vmstage-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&name), "STATUS=x\n", PATIENCE).unwrap();
        assert_eq!(heard(&by_name), "STATUS=x\n");
    }

    #[test]
    fn one_that_is_gone_is_an_error_and_one_that_is_full_is_not_waited_for() {
        let tree = Tree::new(&[]);
        let path = tree.root().join("notify");
        send(path.as_os_str(), "READY=1\n", PATIENCE).unwrap_err();
        let _manager = manager(&tree);
        let start = Instant::now();
        while send(path.as_os_str(), "STATUS=x\n", Duration::ZERO).is_ok() {
            assert!(start.elapsed() < PATIENCE, "it never was full");
        }
    }

    /// systemd-notify(1) is what a shell script says the same with.
    #[test]
    #[ignore = "needs systemd's systemd-notify"]
    fn it_is_said_as_systemd_s_own_program_says_it() {
        let tree = Tree::new(&[]);
        let (manager, path) = (manager(&tree), tree.root().join("notify"));
        let said = Command::new("systemd-notify")
            .args(["--no-block", "--ready", "--status=ready: /dev/vdb"])
            .env("NOTIFY_SOCKET", &path)
            .status();
        assert!(said.unwrap().success());
        let mut theirs: Vec<String> = heard(&manager).lines().map(String::from).collect();
        theirs.retain(|line| !line.starts_with("MAINPID="));
        let ours = "READY=1\nSTATUS=ready: /dev/vdb\n";
        send(path.as_os_str(), ours, PATIENCE).unwrap();
        assert_eq!(heard(&manager).lines().collect::<Vec<_>>(), theirs);
    }
}
