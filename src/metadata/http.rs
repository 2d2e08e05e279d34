//! Plain HTTP to a metadata service: one bounded request, and when to try again.
//!
//! No proxy from the environment, no redirect followed, no thread: ureq's own resolver
//! starts one to bound a name lookup, and on kernels before 2.6.25 waiting for it spins.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::header::{DATE, RETRY_AFTER};
use ureq::http::{HeaderMap, Method, Request, StatusCode, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{NextTimeout, TcpConnector};

use crate::clock;

/// The largest body that is read.
const BODY_LIMIT: u64 = 1024 * 1024;

/// No request gets less than this, however little is left of the time for all of them.
const LEAST_TIMEOUT: Duration = Duration::from_millis(20);

pub struct Client {
    agent: Agent,
    request_timeout: Duration,
}

/// A request that brought nothing to use.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// As it may be shown.
    url: String,
    pub cause: Cause,
}

impl Failure {
    pub fn new(url: &str, cause: Cause) -> Failure {
        Failure {
            url: shown(url),
            cause,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// Nobody answers at this address at all.
    Unreachable(String),
    /// Somebody does, but not with a whole HTTP answer in time.
    Broken(String),
    /// An answer other than 2xx, and how long it asks to be left alone.
    Status(u16, Option<Duration>),
    /// A 2xx whose body is not what was asked for.
    Unusable(String),
    /// It cannot be asked for, today or later.
    Impossible(String),
}

impl Client {
    /// `request_timeout` is for one request: connecting, headers and body together. The
    /// lookup of a host name is not bounded, so a URL had better name an address.
    pub fn new(request_timeout: Duration) -> Client {
        let config = Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("vmstage/", env!("CARGO_PKG_VERSION")))
            .input_buffer_size(16 * 1024)
            .output_buffer_size(4 * 1024)
            .build();
        Client {
            agent: Agent::with_parts(config, TcpConnector::default(), Direct),
            request_timeout,
        }
    }

    /// The body of a 2xx answer, asked for once. It comes before `until`, or earlier
    /// where the timeout for a request is shorter.
    pub fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        until: Instant,
    ) -> Result<Vec<u8>, Failure> {
        self.send(Method::GET, url, headers, None, until)
    }

    pub fn put(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        until: Instant,
    ) -> Result<Vec<u8>, Failure> {
        self.send(Method::PUT, url, headers, Some(body), until)
    }

    pub fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        until: Instant,
    ) -> Result<Vec<u8>, Failure> {
        self.send(Method::POST, url, headers, Some(body), until)
    }

    fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        until: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = self.request_timeout.min(left).max(LEAST_TIMEOUT);
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = match body {
            Some(body) => self.run(request.body(body), timeout),
            None => self.run(request.body(()), timeout),
        };
        sent.map_err(|cause| Failure::new(url, cause))
    }

    fn run<B: ureq::AsSendBody>(
        &self,
        request: Result<Request<B>, ureq::http::Error>,
        timeout: Duration,
    ) -> Result<Vec<u8>, Cause> {
        let request = request.map_err(|e| Cause::Impossible(e.to_string()))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(timeout))
            // Less than the whole, so that an address at which nobody answers can be
            // told from a service that is silent.
            .timeout_connect(Some(timeout * 3 / 4))
            .build();
        let mut response = self.agent.run(request).map_err(|e| cause(e, timeout))?;
        if !response.status().is_success() {
            let wait = retry_after(response.headers(), clock::now());
            return Err(Cause::Status(response.status().as_u16(), wait));
        }
        let body = response.body_mut().with_config().limit(BODY_LIMIT);
        body.read_to_vec().map_err(|e| cause(e, timeout))
    }
}

fn cause(error: ureq::Error, timeout: Duration) -> Cause {
    use ureq::{Error, Timeout};
    match error {
        Error::Timeout(Timeout::Connect) => Cause::Unreachable("nobody answers".into()),
        Error::Timeout(_) => Cause::Broken(format!("no whole answer within {timeout:.1?}")),
        Error::Other(lookup) => Cause::Unreachable(lookup.to_string()),
        Error::Io(e) => match e.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
            // A firewall of the guest's own.
            | ErrorKind::PermissionDenied => Cause::Unreachable(e.to_string()),
            ErrorKind::UnexpectedEof => Cause::Broken("the answer is cut off".into()),
            _ => Cause::Broken(e.to_string()),
        },
        Error::BodyExceedsLimit(limit) => {
            Cause::Unusable(format!("the answer is larger than {limit} bytes"))
        }
        // It would quote the URL, with whatever is secret in it.
        Error::BadUri(_) => Cause::Impossible("it is not a URL".into()),
        Error::Http(_) => Cause::Impossible(error.to_string()),
        _ => Cause::Broken(error.to_string()),
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110). The date is held against the
/// server's own `Date` where there is one: the guest's clock may not be set yet.
fn retry_after(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let wanted = text(RETRY_AFTER)?.trim();
    let seconds = match wanted.parse() {
        Ok(seconds) => seconds,
        Err(_) => {
            let until = clock::parse_http_date(wanted)?;
            let now = text(DATE).and_then(clock::parse_http_date).unwrap_or(now);
            until.saturating_sub(now)
        }
    };
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// A service that wants to be left alone for longer is asked all the same: the deadline
/// may have moved.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// How long to wait before the next try, or None where this failure is final, or no
/// time is left for another.
///
/// `tries` were made so far; `jitter`, from 0 to 1, keeps the instances of a cloud that
/// were booted together from asking together; `early` in a boot the service may not
/// know an instance yet that it is about to know.
pub fn wait_before_next_try(
    cause: &Cause,
    tries: u32,
    jitter: f64,
    early: bool,
    left: Duration,
) -> Option<Duration> {
    let asked = match cause {
        Cause::Unreachable(_) | Cause::Broken(_) | Cause::Unusable(_) => None,
        Cause::Status(404, wait) if early => *wait,
        Cause::Status(408 | 429 | 500..=599, wait) => *wait,
        Cause::Status(..) | Cause::Impossible(_) => return None,
    };
    let wait = backoff(tries, jitter).max(asked.unwrap_or_default());
    (wait < left).then_some(wait)
}

/// Between half and all of 1 s, 2 s, 4 s, 8 s, 8 s, …: at most five tries in ten
/// seconds, as a proxy in front of the service may allow ten requests in that time,
/// and there are two sources behind it.
fn backoff(tries: u32, jitter: f64) -> Duration {
    let ceiling = Duration::from_secs(1 << tries.saturating_sub(1).min(3));
    ceiling.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// A number from 0 to 1 that differs from one machine to the next.
pub fn jitter() -> f64 {
    let mut bytes = [0; 4];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    let number = match read {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.subsec_nanos().wrapping_mul(2_654_435_761)),
    };
    f64::from(number) / f64::from(u32::MAX)
}

/// A URL as it may be shown: without a password, and without its query, which may be a
/// signature.
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.into();
    };
    let (rest, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?…"),
        None => (rest, ""),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let rest = authority.rfind('@').map_or(rest, |at| &rest[at + 1..]);
    format!("{scheme}://{rest}{query}")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Cause::Status(code, wait) => {
                let reason = StatusCode::from_u16(*code).ok();
                let reason = reason.and_then(|status| status.canonical_reason());
                write!(f, "{code} {}", reason.unwrap_or("(a status of its own)"))?;
                match (code, wait) {
                    (300..=399, _) => write!(f, ", and redirects are not followed"),
                    (_, Some(wait)) => write!(f, ", try again in {} s", wait.as_secs()),
                    _ => Ok(()),
                }
            }
            Cause::Unreachable(why)
            | Cause::Broken(why)
            | Cause::Unusable(why)
            | Cause::Impossible(why) => f.write_str(why),
        }
    }
}

/// Takes an address as it is and looks up a name with the system's resolver.
#[derive(Debug)]
struct Direct;

impl Resolver for Direct {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(80);
        let mut found = self.empty();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            found.push(SocketAddr::new(address, port));
            return Ok(found);
        }
        let addresses = (host, port)
            .to_socket_addrs()
            .map_err(|e| ureq::Error::Other(e.into()))?;
        for address in addresses.take(4) {
            found.push(address);
        }
        if found.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn what_is_retried_and_what_is_final() {
        let status = |code| Cause::Status(code, None);
        let text = String::new;
        // The cause; is it retried early in a boot; is it later?
        let cases = [
            (Cause::Unreachable(text()), true, true),
            (Cause::Broken(text()), true, true),
            (Cause::Unusable(text()), true, true),
            (Cause::Impossible(text()), false, false),
            (status(404), true, false),
            (status(408), true, true),
            (status(429), true, true),
            (status(500), true, true),
            (status(502), true, true),
            (status(503), true, true),
            (status(599), true, true),
            (status(301), false, false),
            (status(302), false, false),
            (status(304), false, false),
            (status(400), false, false),
            (status(401), false, false),
            (status(403), false, false),
            (status(410), false, false),
            (status(600), false, false),
        ];
        for (cause, early, later) in cases {
            let retried =
                |early| wait_before_next_try(&cause, 1, 0.5, early, seconds(20)).is_some();
            assert_eq!((retried(true), retried(false)), (early, later), "{cause:?}");
        }
    }

    #[test]
    fn the_wait_doubles_up_to_eight_seconds_and_jitter_halves_it_at_most() {
        let cases = [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (u32::MAX, 8)];
        for (tries, longest) in cases {
            assert_eq!(backoff(tries, 1.0), seconds(longest));
            assert_eq!(backoff(tries, 0.0), seconds(longest) / 2);
        }
    }

    #[test]
    fn at_most_five_tries_are_made_in_ten_seconds() {
        for jitter in [0.0, 0.5, 1.0] {
            let mut at = Duration::ZERO;
            let mut starts = Vec::new();
            for tries in 1..20 {
                starts.push(at);
                at += backoff(tries, jitter);
            }
            for from in &starts {
                let within = |start: &&Duration| (*from..*from + seconds(10)).contains(*start);
                let number = starts.iter().filter(within).count();
                assert!(number <= 5, "{number} tries from {from:?} on");
            }
        }
    }

    #[test]
    fn retry_after_is_honoured_where_it_fits_and_else_nothing_is_tried() {
        let busy = |wait| Cause::Status(503, Some(seconds(wait)));
        let wait = |cause, left| wait_before_next_try(&cause, 1, 0.0, false, seconds(left));
        assert_eq!(wait(busy(7), 20), Some(seconds(7)));
        assert_eq!(wait(busy(0), 20), Some(Duration::from_millis(500)));
        assert_eq!(wait(busy(120), 20), None);
        assert_eq!(wait(busy(20), 20), None);
        assert_eq!(wait(busy(u64::MAX), 20), None);
    }

    #[test]
    fn nothing_is_tried_again_when_no_time_is_left() {
        let cause = Cause::Broken(String::new());
        let wait = |left| wait_before_next_try(&cause, 4, 1.0, false, left);
        assert_eq!(wait(seconds(9)), Some(seconds(8)));
        assert_eq!(wait(seconds(8)), None);
        assert_eq!(wait(Duration::ZERO), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_own_clock() {
        let now = 1_795_430_460;
        let cases = [
            (Some("120"), None, Some(120)),
            (Some(" 0 "), None, Some(0)),
            (Some("Mon, 23 Nov 2026 10:41:30 GMT"), None, Some(30)),
            (
                Some("Fri, 01 Jan 2027 00:00:09 GMT"),
                Some("Fri, 01 Jan 2027 00:00:00 GMT"),
                Some(9),
            ),
            (Some("Mon, 23 Nov 2026 10:40:00 GMT"), None, Some(0)),
            (Some("-5"), None, None),
            (Some("soon"), None, None),
            (None, None, None),
        ];
        for (wanted, date, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in [(RETRY_AFTER, wanted), (DATE, date)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            let expected = expected.map(seconds);
            assert_eq!(retry_after(&headers, now), expected, "{wanted:?} {date:?}");
        }
    }

    #[test]
    fn a_password_and_a_signature_in_a_url_are_not_shown() {
        let cases = [
            ("http://169.254.169.254/x@y", "http://169.254.169.254/x@y"),
            ("http://me:pa@ss@host:8/x", "http://host:8/x"),
            ("http://me@host", "http://host"),
            ("http://host/mf?sig=a/b@c&x=1", "http://host/mf?…"),
            ("http://me:hunter2@host?sig=hunter2#x", "http://host?…"),
            ("http://host/#access=hunter2", "http://host/?…"),
            ("no url", "no url"),
        ];
        for (url, expected) in cases {
            assert_eq!(shown(url), expected);
            let failure = Failure::new(url, Cause::Status(403, None));
            assert_eq!(failure.to_string(), format!("{expected}: 403 Forbidden"));
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
    }

    #[test]
    fn jitter_lies_between_zero_and_one_and_varies() {
        let drawn: Vec<f64> = (0..20).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|j| (0.0..=1.0).contains(j)));
        assert!(drawn.iter().any(|j| *j != drawn[0]));
    }

    #[test]
    fn an_address_is_taken_as_it_is() {
        let resolve = |uri: &'static str| {
            let config = Agent::config_builder().build();
            let found = Direct.resolve(&Uri::from_static(uri), &config, NextTimeout::default());
            found.unwrap().first().copied().unwrap().to_string()
        };
        assert_eq!(resolve("http://169.254.169.254/x"), "169.254.169.254:80");
        assert_eq!(resolve("http://[fd00:ec2::254]/"), "[fd00:ec2::254]:80");
        assert_eq!(resolve("http://127.0.0.1:8775"), "127.0.0.1:8775");
    }
}
