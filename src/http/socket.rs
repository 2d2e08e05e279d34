//! Connections, made so that the metadata service can be reached where it is locked, and at a
//! link-local address of IPv6.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Error, Timeout};

/// systemd 261 and later can lock the metadata service: only sockets with this mark have a
/// route to it (systemd-imdsd). Setting it takes CAP_NET_ADMIN, and Linux 2.6.25.
const MARK: u32 = 0x7FFF_0815;

/// Makes connections that have the mark.
#[derive(Debug)]
pub(super) struct Marked;

impl<In: Transport> Connector<In> for Marked {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<In>,
    ) -> Result<Option<Connection>, Error> {
        let end = end_of(details.timeout);
        let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
        for (tried, address) in details.addrs.iter().enumerate() {
            let others = u32::try_from(details.addrs.len() - tried).unwrap_or(1);
            let share = end.saturating_duration_since(Instant::now()) / others;
            match connect(*address, Instant::now() + share) {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    let input = details.config.input_buffer_size();
                    let output = details.config.output_buffer_size();
                    return Ok(Some(Connection {
                        stream,
                        buffers: LazyBuffers::new(input, output),
                    }));
                }
                Err(e) => failure = e,
            }
        }
        Err(match failure.kind() {
            ErrorKind::TimedOut => Error::Timeout(Timeout::Connect),
            _ => failure.into(),
        })
    }
}

fn end_of(timeout: NextTimeout) -> Instant {
    // Where nobody set a limit.
    const LONG: Duration = Duration::from_secs(3600);
    Instant::now() + timeout.not_zero().map_or(LONG, |left| (*left).min(LONG))
}

/// A connection that never blocks for longer than it is told to.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let end = end_of(timeout);
        let mut left = &self.buffers.output()[..amount];
        while !left.is_empty() {
            let mut stream = &self.stream;
            let written = when_ready(&self.stream, PollFlags::POLLOUT, end, || stream.write(left));
            match written.map_err(|e| in_time(e, timeout))? {
                0 => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                written => left = &left[written..],
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let end = end_of(timeout);
        let input = self.buffers.input_append_buf();
        let mut stream = &self.stream;
        let read = when_ready(&self.stream, PollFlags::POLLIN, end, || stream.read(input));
        let read = read.map_err(|e| in_time(e, timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Nothing may have come that nobody asked for, nor the end.
    fn is_open(&mut self) -> bool {
        let read = (&self.stream).read(&mut [0]);
        read.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
    }
}

fn in_time(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

/// Reads or writes as soon as that does not block.
fn when_ready<T>(
    stream: &TcpStream,
    flags: PollFlags,
    end: Instant,
    mut act: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match act() {
            Err(e) if e.kind() == ErrorKind::WouldBlock => wait_for(stream, flags, end)?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn wait_for(stream: &TcpStream, flags: PollFlags, end: Instant) -> io::Result<()> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // Rounded up: waiting for nothing would spin until the time is over.
        let left = u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(stream.as_fd(), flags)], left) {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// A connection that does not block.
///
/// # Errors
///
/// Those of socket(2) and connect(2); `TimedOut`.
fn connect(address: SocketAddr, end: Instant) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let is_marked = socket::setsockopt(&socket, sockopt::Mark, &MARK).is_ok();
    connect_socket(socket, address, end).map_err(|e| match e.kind() {
        ErrorKind::PermissionDenied | ErrorKind::HostUnreachable if !is_marked => {
            let locked = "or systemd has locked it, and then only root may ask";
            io::Error::new(e.kind(), format!("{e}, {locked}"))
        }
        _ => e,
    })
}

fn connect_socket(socket: OwnedFd, address: SocketAddr, end: Instant) -> io::Result<TcpStream> {
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    match socket::connect(stream.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS | Errno::EINTR) => {
            wait_for(&stream, PollFlags::POLLOUT, end)?;
            stream.take_error()?.map_or(Ok(()), Err)?;
        }
        Err(e) => return Err(e.into()),
    }
    Ok(stream)
}

/// A host that is an address already, as a URL has it: IPv6 in brackets, and there with the
/// name or number of an interface (a zone) after `%25` (RFC 6874) or, as people write it, `%`.
/// None where it is a name.
///
/// # Errors
///
/// That there is no such interface.
pub(super) fn address(host: &str, port: u16) -> io::Result<Option<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let (bare, zone) = without_zone(bare);
    let Ok(ip) = bare.parse::<IpAddr>() else {
        return Ok(None);
    };
    let address = match (ip, zone) {
        (IpAddr::V6(ip), Some(zone)) => {
            SocketAddr::V6(SocketAddrV6::new(ip, port, 0, index_of(zone)?))
        }
        _ => SocketAddr::new(ip, port),
    };
    Ok(Some(address))
}

fn without_zone(address: &str) -> (&str, Option<&str>) {
    match address.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (address, None),
    }
}

fn index_of(zone: &str) -> io::Result<u32> {
    if let Ok(index) = zone.parse() {
        return Ok(index);
    }
    if_nametoindex(zone).map_err(|_| io::Error::other(NoInterface(zone.to_string())))
}

#[derive(Debug)]
struct NoInterface(String);

impl fmt::Display for NoInterface {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "there is no network interface {:?}", self.0)
    }
}

impl std::error::Error for NoInterface {}

/// The `Host` of a request, where it is not what the URL has: a zone is nobody's business but
/// this machine's (RFC 6874, 4).
pub(super) fn host_without_zone(host: &str, port: Option<u16>) -> Option<String> {
    let (bare, zone) = without_zone(host.strip_prefix('[')?.strip_suffix(']')?);
    zone?;
    let bare: Ipv6Addr = bare.parse().ok()?;
    Some(match port {
        Some(port) => format!("[{bare}]:{port}"),
        None => format!("[{bare}]"),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn shown(host: &str) -> Option<String> {
        address(host, 80)
            .unwrap()
            .map(|address| address.to_string())
    }

    #[test]
    fn an_address_is_taken_as_it_is_and_a_zone_is_an_interface() {
        let lo = if_nametoindex("lo").unwrap();
        let zoned = format!("[fe80::a9fe:a9fe%{lo}]:80");
        let cases = [
            ("169.254.169.254", "169.254.169.254:80"),
            ("[fd00:ec2::254]", "[fd00:ec2::254]:80"),
            ("[fe80::a9fe:a9fe%25lo]", &zoned),
            ("[fe80::a9fe:a9fe%lo]", &zoned),
            ("[fe80::a9fe:a9fe%7]", "[fe80::a9fe:a9fe%7]:80"),
        ];
        for (host, expected) in cases {
            assert_eq!(shown(host).as_deref(), Some(expected), "{host}");
        }
        assert_eq!(shown("metadata.google.internal"), None);
        let missing = address("[fe80::1%25nosuch0]", 80).unwrap_err().to_string();
        assert_eq!(missing, "there is no network interface \"nosuch0\"");
    }

    #[test]
    fn the_zone_is_not_told_to_the_service() {
        let cases = [
            ("[fe80::a9fe:a9fe%25eth0]", None, Some("[fe80::a9fe:a9fe]")),
            ("[fe80::1%eth0]", Some(8775), Some("[fe80::1]:8775")),
            ("[fe80::1]", None, None),
            ("169.254.169.254", None, None),
            ("name", None, None),
        ];
        for (host, port, expected) in cases {
            assert_eq!(host_without_zone(host, port).as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn a_socket_is_marked_where_that_is_allowed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = connect(address, Instant::now() + Duration::from_secs(1)).unwrap();
        let mark = socket::getsockopt(&stream, sockopt::Mark).unwrap();
        let another = TcpStream::connect(address).unwrap();
        let allowed = socket::setsockopt(&another, sockopt::Mark, &MARK).is_ok();
        assert_eq!(mark, if allowed { MARK } else { 0 });
    }
}
