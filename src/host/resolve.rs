//! Host names, looked up with a time limit: a DNS server that is dead costs musl's resolver
//! ten seconds, whatever it was asked for.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::bounded::{self, Limit};

/// The first few addresses of a host.
///
/// # Errors
///
/// Those of getaddrinfo(3), and that there was no answer in time.
pub fn addresses(name: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let found = bounded::run(Limit::after(limit), &[], || {
        (name, port)
            .to_socket_addrs()
            .map(|found| found.take(4).collect::<Vec<_>>())
            .map_err(|e| e.to_string())
    });
    match found {
        Ok(found) => found.map_err(io::Error::other),
        Err(gave_up) => Err(io::Error::other(format!("looking up {name}: {gave_up}"))),
    }
}
