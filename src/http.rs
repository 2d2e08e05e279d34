//! Plain HTTP to a metadata service: one bounded request, and when to try again.
//!
//! No proxy from the environment, no redirect followed, no thread: ureq's own resolver
//! starts one to bound a name lookup, and on kernels before 2.6.25 waiting for it spins.
//! Connections are kept and used again, for as long as the other end keeps them.

mod socket;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::http::header::{DATE, ETAG, HOST, RETRY_AFTER};
use ureq::http::{HeaderMap, Method, Request, StatusCode, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::clock;
use crate::url::shown;

/// The largest body that is read.
const BODY_LIMIT: u64 = 1024 * 1024;

/// No request gets less than this, however little is left of the time for all of them.
const LEAST_TIMEOUT: Duration = Duration::from_millis(20);

/// Asks over plain HTTP, each request within a time limit.
pub struct Client {
    agent: Agent,
    request_timeout: Duration,
}

/// A 2xx answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// At most 1 MiB.
    pub body: Vec<u8>,
    /// What time it is by the server's clock, in Unix seconds.
    pub date: Option<u64>,
    /// The tag of this version of the document (RFC 9110, 8.8.3).
    pub(crate) etag: Option<String>,
}

/// A request that brought nothing to use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// As it may be shown.
    url: String,
    pub(crate) cause: Cause,
    /// As in [`Response`], where there was an answer.
    pub(crate) date: Option<u64>,
}

impl Failure {
    pub(crate) fn new(url: &str, cause: Cause) -> Failure {
        Failure {
            url: shown(url),
            cause,
            date: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Cause {
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
    /// `request_timeout` is for one request: looking up a name, connecting, headers and body
    /// together.
    pub fn new(request_timeout: Duration, resolve: Resolve) -> Client {
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
            agent: Agent::with_parts(config, socket::Marked, Direct(resolve)),
            request_timeout,
        }
    }

    /// A 2xx answer, asked for once. It comes before `until`, or earlier where the timeout for
    /// a request is shorter.
    ///
    /// # Errors
    ///
    /// Any other answer, or that there was no whole one in time.
    pub fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        until: Instant,
    ) -> Result<Response, Failure> {
        self.send(Method::GET, url, headers, None, until)
    }

    pub(crate) fn put(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        until: Instant,
    ) -> Result<Response, Failure> {
        self.send(Method::PUT, url, headers, Some(body), until)
    }

    pub(crate) fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        until: Instant,
    ) -> Result<Response, Failure> {
        self.send(Method::POST, url, headers, Some(body), until)
    }

    fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        until: Instant,
    ) -> Result<Response, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = self.request_timeout.min(left).max(LEAST_TIMEOUT);
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(host) = host_to_tell(url) {
            request = request.header(HOST, host);
        }
        let sent = match body {
            Some(body) => self.run(request.body(body), timeout),
            None => self.run(request.body(()), timeout),
        };
        sent.map_err(|(cause, date)| Failure {
            date,
            ..Failure::new(url, cause)
        })
    }

    fn run<B: ureq::AsSendBody>(
        &self,
        request: Result<Request<B>, ureq::http::Error>,
        timeout: Duration,
    ) -> Result<Response, (Cause, Option<u64>)> {
        let request = request.map_err(|e| (Cause::Impossible(e.to_string()), None))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(timeout))
            // Less than the whole, so that an address at which nobody answers can be
            // told from a service that is silent.
            .timeout_connect(Some((timeout * 3 / 4).min(LONGEST_CONNECT)))
            .build();
        let sent = self.agent.run(request);
        let mut response = sent.map_err(|e| (cause(e, timeout), None))?;
        let date = text(response.headers(), DATE).and_then(clock::parse_http_date);
        if !response.status().is_success() {
            let wait = retry_after(response.headers(), clock::wall());
            return Err((Cause::Status(response.status().as_u16(), wait), date));
        }
        let etag = text(response.headers(), ETAG).map(String::from);
        let body = response.body_mut().with_config().limit(BODY_LIMIT);
        let body = body.read_to_vec().map_err(|e| (cause(e, timeout), date))?;
        Ok(Response { body, date, etag })
    }
}

/// No request waits longer for a connection, however long its answer may take.
const LONGEST_CONNECT: Duration = Duration::from_secs(5);

/// The `Host` header, where it is not simply what the URL says.
fn host_to_tell(url: &str) -> Option<String> {
    // It is worth a second look at the URL only where there is a zone.
    let uri: Uri = url.contains('%').then(|| url.parse().ok()).flatten()?;
    socket::host_without_zone(uri.host()?, uri.port_u16())
}

fn text(headers: &HeaderMap, name: impl ureq::http::header::AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
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
    let wanted = text(headers, RETRY_AFTER)?.trim();
    let seconds = match wanted.parse() {
        Ok(seconds) => seconds,
        Err(_) => {
            let until = clock::parse_http_date(wanted)?;
            let date = text(headers, DATE).and_then(clock::parse_http_date);
            let now = date.unwrap_or(now);
            until.saturating_sub(now)
        }
    };
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// A service that wants to be left alone for longer is asked all the same: the deadline
/// may have moved.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

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

/// Looks up a host name: its addresses with this port, within a time limit.
pub(crate) type Resolve = fn(&str, u16, Duration) -> io::Result<Vec<SocketAddr>>;

/// Takes an address as it is and looks up a name.
#[derive(Debug)]
struct Direct(Resolve);

impl Resolver for Direct {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(80);
        let mut found = self.empty();
        let failed = |e: io::Error| ureq::Error::Other(e.into());
        if let Some(address) = socket::address(host, port).map_err(failed)? {
            found.push(address);
            return Ok(found);
        }
        let addresses = self.0(host, port, *timeout.after).map_err(failed)?;
        for address in addresses.into_iter().take(4) {
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
    fn an_address_is_taken_as_it_is() {
        let resolve = |uri: &'static str| {
            let config = Agent::config_builder().build();
            let found = Direct(|_, _, _| Err(ErrorKind::Unsupported.into())).resolve(
                &Uri::from_static(uri),
                &config,
                NextTimeout::default(),
            );
            found.unwrap().first().copied().unwrap().to_string()
        };
        assert_eq!(resolve("http://169.254.169.254/x"), "169.254.169.254:80");
        assert_eq!(resolve("http://[fd00:ec2::254]/"), "[fd00:ec2::254]:80");
        assert_eq!(resolve("http://127.0.0.1:8775"), "127.0.0.1:8775");
    }
}
