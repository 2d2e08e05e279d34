//! Doubles of clouds' metadata services: what a VM sees of them, by their documentation.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::server::{Request, Server, Then, respond};

/// 2026-12-24T18:00:00Z, by every service's clock.
pub const NOW: u64 = 1_798_135_200;

/// What clock a service has.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// It is always [`NOW`].
    Stands,
    Runs,
}

impl Clock {
    /// The header of an answer.
    fn date(self) -> String {
        let unix = match self {
            Clock::Stands => NOW as i64,
            Clock::Runs => OffsetDateTime::now_utc().unix_timestamp(),
        };
        let now = OffsetDateTime::from_unix_timestamp(unix).unwrap();
        let (weekday, month) = (now.weekday().to_string(), now.month().to_string());
        let (hour, minute, second) = now.to_hms();
        format!(
            "Date: {weekday:.3}, {:02} {month:.3} {} {hour:02}:{minute:02}:{second:02} GMT\r\n",
            now.day(),
            now.year()
        )
    }
}

/// What a test changes while a service is running.
pub struct Shared<T>(Arc<(Mutex<T>, Condvar)>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T> Shared<T> {
    fn new(value: T) -> Shared<T> {
        Shared(Arc::new((Mutex::new(value), Condvar::new())))
    }

    fn get(&self) -> MutexGuard<'_, T> {
        self.0.0.lock().unwrap()
    }

    pub fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.get());
        self.0.1.notify_all();
    }

    /// Waits until it is so, for at most this time.
    fn wait_until(&self, most: Duration, mut is_so: impl FnMut(&T) -> bool) -> MutexGuard<'_, T> {
        let waited = self
            .0
            .1
            .wait_timeout_while(self.get(), most, |value| !is_so(value));
        waited.unwrap().0
    }
}

/// EC2's, which answers nobody without a session token.
pub struct Ec2 {
    pub server: Server,
    pub values: Shared<Vec<(&'static str, String)>>,
}

impl Ec2 {
    pub fn start() -> Ec2 {
        Ec2::start_by(Clock::Stands)
    }

    pub fn start_by(clock: Clock) -> Ec2 {
        let values = Shared::new(vec![
            ("instance-id", "i-0123456789abcdef0".to_string()),
            ("instance-type", "m5.large".into()),
            ("placement/availability-zone", "eu-central-1a".into()),
            ("events/maintenance/scheduled", "[]".into()),
        ]);
        let current = values.clone();
        let server = Server::start(move |request, stream| {
            let date = clock.date();
            let header = |name| request.headers.get(name).map(String::as_str);
            if (request.method.as_str(), request.path.as_str()) == ("PUT", "/latest/api/token") {
                let lasts = header("x-aws-ec2-metadata-token-ttl-seconds");
                return match lasts.and_then(|text| text.parse().ok()) {
                    Some(1..=21600) => respond(stream, 200, &date, b"AQAEAA=="),
                    _ => respond(stream, 400, &date, b""),
                };
            }
            if header("x-aws-ec2-metadata-token") != Some("AQAEAA==") {
                return respond(stream, 401, &date, b"<html>Unauthorized</html>");
            }
            let path = request.path.strip_prefix("/latest/meta-data/");
            let current = current.get();
            match current.iter().find(|(key, _)| Some(*key) == path) {
                Some((_, value)) => respond(stream, 200, &date, value.as_bytes()),
                None => respond(stream, 404, &date, b"<html>Not Found</html>"),
            }
        });
        Ec2 { server, values }
    }

    /// What this path says from now on; None: 404.
    pub fn say(&self, path: &'static str, value: Option<&str>) {
        self.values.change(|values| {
            values.retain(|(key, _)| *key != path);
            values.extend(value.map(|value| (path, value.to_string())));
        });
    }
}

/// Google's: one document, of which each version has a tag, and requests that are held until
/// there is another version.
pub struct Google {
    pub server: Server,
    document: Shared<(u64, String)>,
}

impl Google {
    pub fn start() -> Google {
        Google::start_by(Clock::Stands)
    }

    pub fn start_by(clock: Clock) -> Google {
        let document = Shared::new((1, Google::document("")));
        let current = document.clone();
        let server = Server::start(move |request, stream| {
            if request.headers.get("metadata-flavor").map(String::as_str) != Some("Google") {
                return respond(stream, 403, &clock.date(), b"<html>Forbidden</html>");
            }
            let Some(query) = request.path.strip_prefix("/computeMetadata/v1/instance/?") else {
                return respond(stream, 404, &clock.date(), b"<html>Not Found</html>");
            };
            let parameter = |name: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
            };
            assert_eq!(parameter("recursive"), Some("true"));
            let held = match parameter("wait_for_change") {
                Some("true") => {
                    let most = parameter("timeout_sec").unwrap().parse().unwrap();
                    let known = parameter("last_etag").unwrap_or("0");
                    let is_new = |now: &(u64, String)| Google::tag(now.0) != known;
                    current.wait_until(Duration::from_secs(most), is_new)
                }
                _ => current.get(),
            };
            let (version, text) = held.clone();
            drop(held);
            let tag = Google::tag(version);
            let headers = format!("{}Metadata-Flavor: Google\r\nETag: {tag}\r\n", clock.date());
            respond(stream, 200, &headers, text.as_bytes())
        });
        Google { server, document }
    }

    fn tag(version: u64) -> String {
        format!("c0ffee{version:010x}")
    }

    fn document(more: &str) -> String {
        format!(
            r#"{{"attributes": {{"ssh-keys": "me:ssh-rsa AAAA", "vmstage_lifetime": "36h"}},
                "id": 7857118082129425400, "machineType": "projects/5184/machineTypes/e2-medium",
                "name": "vm-1", "zone": "projects/5184/zones/us-central1-b",
                "scheduling": {{"preemptible": "TRUE"}}{more}}}"#
        )
    }

    /// There is a new version, with these fields.
    pub fn say(&self, more: &str) {
        self.document.change(|(version, text)| {
            *version += 1;
            *text = Google::document(more);
        });
    }
}

/// Azure's: the first request for events takes a while.
pub struct Azure {
    pub server: Server,
    events: Shared<Vec<String>>,
    /// The bodies that were posted.
    pub posted: Shared<Vec<String>>,
}

impl Azure {
    /// The first request for events is answered after `first`.
    pub fn start(first: Duration) -> Azure {
        Azure::start_by(Clock::Stands, first)
    }

    pub fn start_by(clock: Clock, first: Duration) -> Azure {
        let (events, posted) = (Shared::new(Vec::new()), Shared::new(Vec::new()));
        let (current, taken) = (events.clone(), posted.clone());
        let switched_on = Mutex::new(None);
        let server = Server::start(move |request, stream| {
            let date = clock.date();
            if request.headers.get("metadata").map(String::as_str) != Some("true") {
                return respond(stream, 400, &date, br#"{"error": "Bad request"}"#);
            }
            let route = (request.method.as_str(), request.path.as_str());
            match route {
                ("GET", "/metadata/instance?api-version=2021-02-01") => {
                    let body = br#"{"compute": {"vmId": "efd3aced-81c4-4521-bbe7-154bcb11e816",
                        "name": "vm_0", "location": "westeurope", "vmSize": "Standard_D2s_v5",
                        "tagsList": [{"name": "vmstage_lifetime", "value": "36h"}]}}"#;
                    respond(stream, 200, &date, body)
                }
                (_, "/metadata/scheduledevents?api-version=2020-07-01") => {
                    let on_at = *switched_on
                        .lock()
                        .unwrap()
                        .get_or_insert(Instant::now() + first);
                    thread::sleep(on_at.saturating_duration_since(Instant::now()));
                    Azure::answer(request, stream, &current, &taken, clock)
                }
                _ => respond(stream, 404, &date, b""),
            }
        });
        Azure {
            server,
            events,
            posted,
        }
    }

    fn answer(
        request: &Request,
        stream: &mut std::net::TcpStream,
        events: &Shared<Vec<String>>,
        posted: &Shared<Vec<String>>,
        clock: Clock,
    ) -> Then {
        if request.method == "POST" {
            let body = String::from_utf8(request.body.clone()).unwrap();
            let is_gone = body.contains("gone");
            posted.change(|posted| posted.push(body));
            if is_gone {
                return respond(stream, 400, &clock.date(), br#"{"error": "Bad request"}"#);
            }
            return respond(stream, 200, &clock.date(), b"");
        }
        let events = events.get().join(",");
        let body = format!(r#"{{"DocumentIncarnation": 2, "Events": [{events}]}}"#);
        respond(stream, 200, &clock.date(), body.as_bytes())
    }

    /// These events there are from now on, each as its fields.
    pub fn say(&self, events: &[&str]) {
        let events = events.iter().map(|fields| {
            format!(r#"{{"ResourceType": "VirtualMachine", "DurationInSeconds": -1, {fields}}}"#)
        });
        let events = events.collect();
        self.events.change(|current| *current = events);
    }

    pub fn posted(&self) -> Vec<String> {
        self.posted.get().clone()
    }
}
