//! Asking metadata services that answer as Nova and EC2 do, and such that misbehave.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::ops::Deref;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::program;
use crate::doubles::NOW;
use crate::server::{BlackHole, Refusing, Request, Server, Then, begin, nova, respond, trickle};
use vmstage::config::{Config, Source};
use vmstage::deadline::decide::decide;
use vmstage::deadline::ledger::{Ledger, SaidAt, Statement};
use vmstage::deadline::limit::{Limit, When};
use vmstage::deadline::origin::LimitSource;
use vmstage::host::Host;
use vmstage::metadata::machine_features::Environment;
use vmstage::metadata::{Again, Answer, Asked, MACHINE_FEATURES, Metadata, NoAnswer, Wait};

claims![
    nova_says_who_the_instance_is,
    every_recorded_instance_is_understood,
    an_instance_that_nova_does_not_know_is_asked_for_again_only_early_in_a_boot,
    once_it_is_known_nova_is_asked_one_question_a_round,
    no_secret_of_an_instance_is_printed_or_logged,
    a_refused_connection_is_tried_again_and_said,
    dropped_packets_do_not_hold_it,
    a_silent_service_does_not_hold_it,
    headers_that_come_a_byte_at_a_time_do_not_hold_it,
    a_body_that_comes_a_byte_at_a_time_does_not_hold_it,
    a_body_without_end_is_not_read_to_its_end,
    ten_mebibytes_are_too_many,
    a_whole_mebibyte_is_not_too_many,
    html_with_200_is_no_answer,
    truncated_json_is_no_answer_whether_or_not_the_length_shows_it,
    what_is_not_http_is_no_answer,
    wrong_types_and_deep_nesting_cost_what_they_are_in_and_no_more,
    a_404_early_in_a_boot_becomes_an_answer,
    a_404_later_is_final,
    a_500_and_a_connection_that_breaks_are_tried_again,
    retry_after_is_waited_for,
    a_redirect_to_another_host_is_not_followed,
    a_proxy_in_the_environment_changes_nothing,
    a_connection_is_used_again_where_the_service_keeps_it,
    ec2_is_asked_with_a_token_and_for_the_spot_notice,
    notices_alone_are_two_requests_and_can_be_taken_back,
    a_notice_that_fails_neither_costs_the_other_nor_slows_it_down,
    an_instance_id_that_was_wrong_once_is_asked_for_again,
    a_date_is_of_the_response_that_it_came_with,
    a_value_of_ec2_that_cannot_be_had_costs_neither_the_rest_nor_the_spot_notice,
    a_value_of_ec2_is_asked_for_again_where_the_service_failed_and_not_where_it_refused,
    a_spot_notice_that_is_refused_costs_nothing_else_and_takes_none_back,
    a_spot_notice_counts_where_the_rest_of_ec2_does_not_answer,
    an_expired_token_is_renewed,
    a_service_that_refuses_every_token_it_gave_is_not_asked_for_ever,
    where_a_token_is_refused_ec2_is_asked_without,
    a_token_that_was_refused_is_asked_for_anew_once_a_round,
    a_token_that_is_refused_once_does_not_end_the_asking_for_spot_notices,
    what_is_no_token_is_not_sent_back,
    html_with_200_is_no_instance_id,
    features_that_meta_names_are_read_over_http,
    what_is_no_value_replaces_none_that_is_known,
    what_is_no_value_is_told_once_however_often_it_is_said,
    a_404_takes_a_limit_back_where_the_service_vouches_for_it,
    a_slow_site_of_features_holds_up_no_round_and_says_all_in_a_few,
    a_slow_ec2_holds_up_no_round_and_says_all_in_a_few,
    a_wall_limit_is_of_one_job_whenever_it_is_read,
    what_changes_at_a_url_is_heard_of_within_twenty_rounds,
    a_place_that_meta_names_writes_no_escape_sequence_and_shows_no_password,
    features_that_meta_no_longer_names_are_forgotten,
    features_are_found_by_the_environment_although_nobody_else_answers,
    a_place_that_fails_is_a_warning_and_does_not_cost_the_other,
    the_directory_that_vmstage_publishes_is_not_read;
    alone:
    all_features_at_a_url_are_asked_for_in_one_round_of_ten_on_one_connection,
    a_retry_after_that_is_too_long_ends_it_at_once_and_is_passed_on_cut_to_ten_minutes,
    where_nobody_is_there_for_openstack_nobody_is_asked_for_ec2,
    a_cloud_without_openstack_is_not_waited_for,
    a_dead_source_does_not_keep_the_next_one_from_its_answer,
    all_of_it_ends_within_its_time_whatever_is_wrong,
];

const OPENSTACK: &[Source] = &[Source::Openstack];
const EC2: &[Source] = &[Source::Ec2];
const BOTH: &[Source] = &[Source::Openstack, Source::Ec2];

const META_DATA: &str = "/openstack/latest/meta_data.json";

/// The defaults with this service and these lines in `[metadata]`, and half a second
/// for a request.
fn config(url: &str, lines: &str) -> Config {
    Config::parse(&format!(
        "[metadata]\nurl = \"{url}\"\nrequest_timeout = \"500ms\"\n{lines}"
    ))
    .unwrap()
}

static HOST: LazyLock<Host> = LazyLock::new(Host::this_machine);

fn metadata_of(config: &Config, environment: Environment) -> Asking<'_> {
    Asking::on(&HOST, config, environment)
}

/// The sources, and a ledger that is told what they say, a minute apart.
pub struct Asking<'a> {
    metadata: Metadata<'a>,
    ledger: Ledger,
    /// The one that features asked for last.
    grace: Option<Duration>,
    rounds: u64,
}

impl<'a> Deref for Asking<'a> {
    type Target = Metadata<'a>;

    fn deref(&self) -> &Metadata<'a> {
        &self.metadata
    }
}

impl<'a> Asking<'a> {
    pub fn on(host: &'a Host, config: &'a Config, environment: Environment) -> Asking<'a> {
        Asking {
            metadata: Metadata::with_environment(host, config, environment),
            ledger: Ledger::default(),
            grace: None,
            rounds: 0,
        }
    }

    pub fn ask(&mut self, sources: &[Source], budget: Duration, again: Again) -> Vec<Asked> {
        let asked = self.metadata.ask(sources, budget, again);
        self.record(&asked);
        asked
    }

    pub fn ask_again(&mut self, budget: Duration) -> Vec<Asked> {
        let asked = self.metadata.ask_again(budget);
        self.record(&asked);
        asked
    }

    pub fn ask_for_spot_notice(&mut self, budget: Duration) -> Result<(), NoAnswer> {
        let (source, answer) = self.metadata.ask_for_spot_notice(budget)?;
        let at = self.at();
        self.ledger.record(source, &answer.statement(), at);
        Ok(())
    }

    /// Takes what came of a request that may take long.
    pub fn take(&mut self, what: Wait, outcome: Result<Answer, NoAnswer>) -> Result<(), NoAnswer> {
        let (source, answer) = self.metadata.take(what, outcome)?;
        let at = self.at();
        self.ledger.record(source, &answer.statement(), at);
        Ok(())
    }

    pub fn pause(&mut self, what: Wait, lasted: u64, retry_after: Option<Duration>) -> Duration {
        self.metadata.pause(what, seconds(lasted), retry_after, 0.0)
    }

    fn record(&mut self, asked: &[Asked]) {
        let at = self.at();
        for asked in asked {
            if let Ok(answer) = &asked.result {
                if asked.gives == LimitSource::MachineFeatures {
                    self.grace = answer.statement().grace;
                }
                self.ledger.record(asked.gives, &answer.statement(), at);
            }
        }
        if !self.names_features() {
            let source = LimitSource::MachineFeatures;
            self.ledger.record(source, &Statement::default(), at);
        }
    }

    fn at(&mut self) -> SaidAt {
        self.rounds += 1;
        SaidAt {
            unix: NOW,
            is_believed: true,
            wall: NOW,
            uptime: seconds(60 * self.rounds),
            date: None,
        }
    }

    pub fn limits(&self) -> Vec<Limit> {
        self.ledger.limits()
    }
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Asks once, with three seconds for it.
fn ask(url: &str, sources: &[Source], again: Again) -> Vec<Asked> {
    let config = config(url, "");
    metadata_of(&config, Environment::default()).ask(sources, seconds(3), again)
}

fn answer_of<'a>(asked: &'a [Asked], source: &str) -> &'a Answer {
    of(asked, source).result.as_ref().unwrap()
}

fn error_of<'a>(asked: &'a [Asked], source: &str) -> &'a str {
    of(asked, source).result.as_ref().unwrap_err()
}

fn of<'a>(asked: &'a [Asked], source: &str) -> &'a Asked {
    let found = asked.iter().find(|asked| asked.source == source);
    found.unwrap_or_else(|| panic!("{source} was not asked: {asked:?}"))
}

fn document(meta: &str) -> Vec<u8> {
    format!(r#"{{"uuid": "aaaa", "name": "vm", "meta": {{{meta}}}}}"#).into_bytes()
}

// A real Nova.

fn nova_says_who_the_instance_is() {
    let nova = nova("full");
    let asked = ask(&nova.url(), BOTH, Again::Early);

    let openstack = answer_of(&asked, "openstack");
    let id = "aaaaaaaa-0000-4000-8000-000000000001";
    assert_eq!(openstack.instance.id.as_deref(), Some(id));
    assert_eq!(openstack.instance.name.as_deref(), Some("vm-1"));
    let project = "5a1e5d8f6a2b4c0d9e7f00112233aabb";
    assert_eq!(openstack.instance.project.as_deref(), Some(project));
    assert_eq!(openstack.meta["canfar.project"], "OSSOS été");
    assert_eq!(openstack.meta["canfar.json"], r#"{"a": [1, 2]}"#);
    assert_eq!(openstack.limits, []);
    assert_eq!(openstack.warnings, [""; 0]);

    let ec2 = answer_of(&asked, "ec2");
    assert_eq!(ec2.instance.id.as_deref(), Some("i-00000001"));
    assert_eq!(ec2.instance.availability_zone.as_deref(), Some("nova"));
    assert!(ec2.instance.flavor.is_some());
    assert_eq!(
        nova.asked_for(),
        [
            "GET /openstack/latest/meta_data.json",
            "PUT /latest/api/token",
            "GET /latest/meta-data/instance-id",
            "GET /latest/meta-data/spot/instance-action",
            "GET /latest/meta-data/placement/availability-zone",
            "GET /latest/meta-data/instance-type",
        ]
    );
}

fn every_recorded_instance_is_understood() {
    for (instance, name) in [
        ("scsi", "vm-2"),
        ("two-ephemerals", "vm-4"),
        ("no-ephemeral", "vm-5"),
    ] {
        let asked = ask(&nova(instance).url(), BOTH, Again::Yes);
        let openstack = answer_of(&asked, "openstack");
        assert_eq!(openstack.instance.name.as_deref(), Some(name));
        assert!(openstack.instance.id.is_some() && openstack.warnings.is_empty());
        assert!(answer_of(&asked, "ec2").instance.id.is_some(), "{instance}");
    }
}

fn an_instance_that_nova_does_not_know_is_asked_for_again_only_early_in_a_boot() {
    let nova = nova("unknown");
    let asked = ask(&nova.url(), BOTH, Again::Yes);
    assert_eq!(
        (of(&asked, "openstack").tries, of(&asked, "ec2").tries),
        (1, 1)
    );
    assert!(error_of(&asked, "openstack").contains("404 Not Found (1 try in"));

    let asked = ask(&nova.url(), BOTH, Again::Early);
    assert!(of(&asked, "openstack").tries > 1, "{asked:?}");
    assert!(of(&asked, "ec2").tries > 1, "{asked:?}");
}

fn once_it_is_known_nova_is_asked_one_question_a_round() {
    let nova = nova("full");
    let config = config(&nova.url(), "");
    let mut metadata = metadata_of(&config, Environment::default());
    metadata.ask(BOTH, seconds(3), Again::Early);
    let before = nova.seen().len();
    for round in 1..=5 {
        let asked = metadata.ask_again(seconds(1));
        answer_of(&asked, "openstack");
        assert_eq!(nova.seen().len(), before + round);
    }
    assert!(!metadata.has_spot_notices());
}

fn no_secret_of_an_instance_is_printed_or_logged() {
    let nova = nova("full");
    let file = std::env::temp_dir().join(format!("vmstage-secrets-{}.toml", std::process::id()));
    let settings = format!(
        "[metadata]\nsources = [\"openstack\", \"ec2\"]\nurl = \"{}\"\n\
         timeout = \"1s\"\nmachinefeatures = \"http://me:x+y@127.0.0.1:1/mf?sig=x+y\"",
        nova.url()
    );
    fs::write(&file, settings).unwrap();
    for format in ["table", "json"] {
        let ran = Command::new(program())
            .args(["-v", "metadata", "--format", format, "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap() + &String::from_utf8(ran.stderr).unwrap();
        assert!(ran.status.success(), "{said}");
        assert!(
            said.contains("aaaaaaaa-0000-4000-8000-000000000001"),
            "{said}"
        );
        assert!(said.contains("survey-ops"), "{said}");
        // Of public_keys and keys, of random_seed, and the value of a key named "key".
        for secret in ["ssh-rsa", "iwgwyFi4G23T", "x y", "x+y"] {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
    }
    fs::remove_file(file).unwrap();
}

// Services that misbehave.

/// Asks one that misbehaves. It has to be over in time, and the error to name the URL.
fn misbehaving(url: &str) -> String {
    let config = config(url, "");
    let start = Instant::now();
    let budget = Duration::from_millis(1600);
    let asked = metadata_of(&config, Environment::default()).ask(OPENSTACK, budget, Again::Early);
    let over = start.elapsed().saturating_sub(budget);
    assert!(over < Duration::from_millis(400), "{over:?} too long");
    let error = error_of(&asked, "openstack");
    assert!(error.contains(&format!("{url}{META_DATA}: ")), "{error}");
    assert!(
        error.contains("2 tries in ") || error.contains("3 tries in"),
        "{error}"
    );
    error.to_string()
}

fn a_refused_connection_is_tried_again_and_said() {
    let error = misbehaving(&Refusing::new().url());
    assert!(error.contains("Connection refused"), "{error}");
}

fn dropped_packets_do_not_hold_it() {
    let error = misbehaving(&BlackHole::new().url());
    assert!(error.contains("nobody answers"), "{error}");
}

fn a_silent_service_does_not_hold_it() {
    let silent = Server::start(|_, _| {
        thread::sleep(seconds(60));
        Then::Close
    });
    let error = misbehaving(&silent.url());
    assert!(error.contains("no whole answer within "), "{error}");
}

fn headers_that_come_a_byte_at_a_time_do_not_hold_it() {
    let slow = Server::start(|_, stream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Padding: slow\r\n\r\n{}";
        trickle(stream, head, Duration::from_millis(100))
    });
    let error = misbehaving(&slow.url());
    assert!(error.contains("no whole answer within "), "{error}");
}

fn a_body_that_comes_a_byte_at_a_time_does_not_hold_it() {
    let slow = Server::start(|_, stream| {
        begin(stream, 1000);
        trickle(stream, &[b' '; 1000], Duration::from_millis(100))
    });
    let error = misbehaving(&slow.url());
    assert!(error.contains("no whole answer within "), "{error}");
}

/// Writes zeros for as long as somebody reads, and says how many.
fn pour(stream: &mut TcpStream) -> u32 {
    let megabyte = vec![b' '; 1 << 20];
    let mut poured = 0;
    while poured < 1000 && stream.write_all(&megabyte).is_ok() {
        poured += 1;
    }
    poured
}

static POURED: AtomicU32 = AtomicU32::new(0);

fn a_body_without_end_is_not_read_to_its_end() {
    let endless = Server::start(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            .unwrap();
        POURED.fetch_max(pour(stream), Ordering::Relaxed);
        Then::Close
    });
    let error = misbehaving(&endless.url());
    assert!(
        error.contains("the answer is larger than 1048576 bytes"),
        "{error}"
    );
    let poured = POURED.load(Ordering::Relaxed);
    assert!(poured < 20, "{poured} MiB were taken");
}

fn ten_mebibytes_are_too_many() {
    let large = Server::start(|_, stream| {
        begin(stream, 10 << 20);
        pour(stream);
        Then::Close
    });
    let error = misbehaving(&large.url());
    assert!(
        error.contains("the answer is larger than 1048576 bytes"),
        "{error}"
    );
}

fn a_whole_mebibyte_is_not_too_many() {
    let mut body = document("");
    body.resize(1 << 20, b' ');
    let asked = ask(&Server::saying(200, "", &body).url(), OPENSTACK, Again::Yes);
    assert_eq!(
        answer_of(&asked, "openstack").instance.id.as_deref(),
        Some("aaaa")
    );
}

fn html_with_200_is_no_answer() {
    let html = b"<html><body>starting up</body></html>";
    let error = misbehaving(&Server::saying(200, "Content-Type: application/json\r\n", html).url());
    assert!(error.contains("not a JSON object"), "{error}");
}

fn truncated_json_is_no_answer_whether_or_not_the_length_shows_it() {
    let half = &document("")[..20];
    let error = misbehaving(&Server::saying(200, "", half).url());
    assert!(error.contains("EOF while parsing"), "{error}");

    let cut_off = Server::start(|_, stream| {
        begin(stream, 1000);
        stream.write_all(&document("")).unwrap();
        Then::Close
    });
    let error = misbehaving(&cut_off.url());
    assert!(error.contains("cut off"), "{error}");
}

fn what_is_not_http_is_no_answer() {
    let other = Server::start(|_, stream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n").unwrap();
        Then::Close
    });
    misbehaving(&other.url());
}

fn wrong_types_and_deep_nesting_cost_what_they_are_in_and_no_more() {
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let body = format!(
        r#"{{"uuid": "aaaa", "name": {deep}, "meta": {{"a": 1, "b": {deep}, "vmstage_lifetime": "36h"}}}}"#
    );
    let asked = ask(
        &Server::saying(200, "", body.as_bytes()).url(),
        OPENSTACK,
        Again::Yes,
    );
    let answer = answer_of(&asked, "openstack");
    assert_eq!(answer.instance.id.as_deref(), Some("aaaa"));
    assert_eq!(
        answer.limits[0].when,
        When::AfterFirstBoot(seconds(36 * 3600))
    );
    assert_eq!(answer.warnings.len(), 2, "{:?}", answer.warnings);
}

// What is tried again.

/// Answers the first requests with `bad` and all others with a good document.
fn bad_then_good(times: usize, bad: fn(&mut TcpStream) -> Then) -> Server {
    let number = std::sync::Mutex::new(0);
    Server::start(move |_, stream| {
        let mut number = number.lock().unwrap();
        *number += 1;
        match *number <= times {
            true => bad(stream),
            false => respond(stream, 200, "", &document("")),
        }
    })
}

fn a_404_early_in_a_boot_becomes_an_answer() {
    let server = bad_then_good(1, |stream| respond(stream, 404, "", b"<html></html>"));
    let asked = ask(&server.url(), OPENSTACK, Again::Early);
    answer_of(&asked, "openstack");
    assert_eq!(of(&asked, "openstack").tries, 2);
}

fn a_404_later_is_final() {
    let server = bad_then_good(1, |stream| respond(stream, 404, "", b""));
    let asked = ask(&server.url(), OPENSTACK, Again::Yes);
    assert!(error_of(&asked, "openstack").contains("404 Not Found"));
    assert_eq!(server.seen().len(), 1);
}

fn a_500_and_a_connection_that_breaks_are_tried_again() {
    let failing: [fn(&mut TcpStream) -> Then; 2] = [
        |stream| respond(stream, 500, "", b"<html></html>"),
        |_| Then::Close,
    ];
    for bad in failing {
        let server = bad_then_good(1, bad);
        let asked = ask(&server.url(), OPENSTACK, Again::Yes);
        answer_of(&asked, "openstack");
        assert_eq!(server.seen().len(), 2);
    }
}

fn retry_after_is_waited_for() {
    let server = bad_then_good(1, |stream| respond(stream, 503, "Retry-After: 2\r\n", b""));
    let asked = ask(&server.url(), OPENSTACK, Again::Yes);
    answer_of(&asked, "openstack");
    let at: Vec<Instant> = server.seen().iter().map(|request| request.at).collect();
    assert!(at[1] - at[0] >= seconds(2), "{:?}", at[1] - at[0]);
}

fn a_retry_after_that_is_too_long_ends_it_at_once_and_is_passed_on_cut_to_ten_minutes() {
    let server = Server::saying(503, "Retry-After: 18446744073709551615\r\n", b"");
    let start = Instant::now();
    let asked = ask(&server.url(), OPENSTACK, Again::Yes);
    assert!(start.elapsed() < seconds(1));
    assert_eq!(server.seen().len(), 1);
    assert_eq!(of(&asked, "openstack").retry_after, Some(seconds(600)));
    let error = error_of(&asked, "openstack");
    assert!(
        error.contains("503 Service Unavailable, try again in 600 s"),
        "{error}"
    );
}

fn a_redirect_to_another_host_is_not_followed() {
    let other = Server::saying(200, "", &document(""));
    let location = format!("Location: {}{META_DATA}\r\n", other.url());
    for status in [301, 302, 303, 307, 308] {
        let server = Server::saying(status, &location, b"moved");
        let asked = ask(&server.url(), OPENSTACK, Again::Early);
        let error = error_of(&asked, "openstack");
        assert!(error.contains("redirects are not followed"), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
    assert_eq!(other.connections(), 0);
}

fn a_proxy_in_the_environment_changes_nothing() {
    let proxy = Server::saying(200, "", &document(""));
    let service = Server::saying(200, "", &document(r#""from": "service""#));
    let file = std::env::temp_dir().join(format!("vmstage-proxy-{}.toml", std::process::id()));
    let settings = format!(
        "[metadata]\nsources = [\"openstack\"]\nurl = \"{}\"",
        service.url()
    );
    fs::write(&file, settings).unwrap();
    let mut command = Command::new(program());
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "https_proxy",
    ] {
        command.env(name, proxy.url());
    }
    let ran = command
        .args(["metadata", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(said.contains("from = service"), "{said}");
    assert_eq!(proxy.connections(), 0);
    fs::remove_file(file).unwrap();
}

// Several sources.

fn where_nobody_is_there_for_openstack_nobody_is_asked_for_ec2() {
    let hole = BlackHole::new();
    let start = Instant::now();
    let asked = ask(&hole.url(), BOTH, Again::Never);
    // One request's time, of which three quarters are for connecting.
    assert!(
        start.elapsed() < Duration::from_millis(600),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(of(&asked, "ec2").tries, 0);
    let error = error_of(&asked, "ec2");
    assert!(
        error.starts_with("not asked: ") && error.contains("nobody answers"),
        "{error}"
    );
}

fn a_cloud_without_openstack_is_not_waited_for() {
    let server = Server::start(|request, stream| match request.path.as_str() {
        "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123"),
        _ => respond(stream, 404, "", b""),
    });
    let start = Instant::now();
    let asked = ask(&server.url(), BOTH, Again::Early);
    assert!(
        start.elapsed() < Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        answer_of(&asked, "ec2").instance.id.as_deref(),
        Some("i-0123")
    );
    assert!(error_of(&asked, "openstack").contains("404"));
}

fn a_dead_source_does_not_keep_the_next_one_from_its_answer() {
    // OpenStack's part of it hangs, EC2's does not.
    let server = Server::start(|request, stream| match request.path.as_str() {
        META_DATA => {
            thread::sleep(seconds(60));
            Then::Close
        }
        "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123"),
        _ => respond(stream, 404, "", b""),
    });
    let start = Instant::now();
    let asked = ask(&server.url(), BOTH, Again::Early);
    assert!(
        start.elapsed() < Duration::from_millis(3700),
        "{:?}",
        start.elapsed()
    );
    answer_of(&asked, "ec2");
    assert!(
        of(&asked, "ec2").took < seconds(1),
        "{:?}",
        of(&asked, "ec2").took
    );
    assert!(of(&asked, "openstack").tries > 1);
}

fn all_of_it_ends_within_its_time_whatever_is_wrong() {
    let features = BlackHole::new();
    let server = Server::start(|_, _| {
        thread::sleep(seconds(60));
        Then::Close
    });
    let lines = format!("machinefeatures = \"{}\"", features.url());
    let config = config(&server.url(), &lines);
    let start = Instant::now();
    let asked = metadata_of(&config, Environment::default()).ask(BOTH, seconds(2), Again::Early);
    assert!(
        start.elapsed() < Duration::from_millis(2600),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(asked.len(), 3);
    assert!(
        asked
            .iter()
            .all(|asked| asked.result.is_err() && asked.tries > 0),
        "{asked:?}"
    );
}

fn a_connection_is_used_again_where_the_service_keeps_it() {
    let answer =
        |request: &Request, stream: &mut TcpStream, close: &str| match request.path.as_str() {
            "/latest/api/token" => respond(stream, 200, close, b"TOKEN"),
            "/latest/meta-data/spot/instance-action" => respond(stream, 404, close, b""),
            _ => respond(stream, 200, close, b"i-0123"),
        };
    let keeping = Server::start(move |request, stream| answer(request, stream, ""));
    answer_of(&ask(&keeping.url(), EC2, Again::Yes), "ec2");
    assert_eq!((keeping.seen().len(), keeping.connections()), (10, 1));

    let closing =
        Server::start(move |request, stream| answer(request, stream, "Connection: close\r\n"));
    answer_of(&ask(&closing.url(), EC2, Again::Yes), "ec2");
    assert_eq!((closing.seen().len(), closing.connections()), (10, 10));
}

// EC2.

/// An EC2 that wants tokens and forgets each after so many requests.
fn imds(lasts: usize, spot: &'static str) -> Server {
    let left = std::sync::Mutex::new((String::from("none"), 0));
    Server::start(move |request, stream| {
        let mut left = left.lock().unwrap();
        if request.method == "PUT" && request.path == "/latest/api/token" {
            let seconds = &request.headers["x-aws-ec2-metadata-token-ttl-seconds"];
            assert!((1..=21600).contains(&seconds.parse::<u32>().unwrap()));
            *left = (format!("TOKEN{}==", request.at.elapsed().as_nanos()), lasts);
            return respond(stream, 200, "", left.0.as_bytes());
        }
        let given = request.headers.get("x-aws-ec2-metadata-token");
        if given != Some(&left.0) || left.1 == 0 {
            return respond(stream, 401, "", b"");
        }
        left.1 -= 1;
        match request.path.as_str() {
            "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123456789abcdef0"),
            "/latest/meta-data/instance-type" => respond(stream, 200, "", b"m5.large"),
            "/latest/meta-data/spot/instance-action" if !spot.is_empty() => {
                respond(stream, 200, "", spot.as_bytes())
            }
            _ => respond(stream, 404, "", b""),
        }
    })
}

fn ec2_is_asked_with_a_token_and_for_the_spot_notice() {
    let server = imds(
        100,
        r#"{"action": "terminate", "time": "2026-11-23T10:41:00Z"}"#,
    );
    let asked = ask(&server.url(), BOTH, Again::Early);
    let ec2 = answer_of(&asked, "ec2");
    assert_eq!(ec2.instance.id.as_deref(), Some("i-0123456789abcdef0"));
    assert_eq!(ec2.instance.flavor.as_deref(), Some("m5.large"));
    assert_eq!(ec2.limits[0].when, When::At(1_795_430_460));
}

fn notices_alone_are_two_requests_and_can_be_taken_back() {
    let server = imds(100, "");
    let config = config(&server.url(), "");
    let mut metadata = metadata_of(&config, Environment::default());
    metadata.ask(BOTH, seconds(3), Again::Yes);
    assert!(metadata.has_spot_notices());
    let before = server.seen().len();
    metadata.ask_for_spot_notice(seconds(1)).unwrap();
    assert_eq!(metadata.limits(), []);
    let notices = [
        "GET /latest/meta-data/spot/instance-action",
        "GET /latest/meta-data/autoscaling/target-lifecycle-state",
    ];
    assert_eq!(server.asked_for()[before..], notices);
    answer_of(&metadata.ask_again(seconds(1)), "ec2");
    let asked = server.asked_for().split_off(before + 2);
    assert_eq!(asked[0], "GET /latest/meta-data/instance-id");
    assert_eq!(asked[1..3], notices);
    let plans = [
        "GET /latest/meta-data/events/maintenance/scheduled",
        "GET /latest/meta-data/tags/instance/vmstage_deadline",
        "GET /latest/meta-data/tags/instance/vmstage_lifetime",
    ];
    assert_eq!(asked[3..], plans);
}

fn a_notice_that_fails_neither_costs_the_other_nor_slows_it_down() {
    let lifecycle = "/latest/meta-data/autoscaling/target-lifecycle-state";
    let spot = "/latest/meta-data/spot/instance-action";
    for (failing, status) in [
        (lifecycle, 403),
        (lifecycle, 503),
        (lifecycle, 0),
        (spot, 503),
    ] {
        let server = Server::start(move |request, stream| match request.path.as_str() {
            "/latest/api/token" => respond(stream, 200, "", b"TOKEN=="),
            "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123"),
            path if path == failing && status == 0 => {
                thread::sleep(seconds(2));
                Then::Close
            }
            path if path == failing => respond(stream, status, "", b""),
            path if path == spot => {
                let notice = br#"{"action": "terminate", "time": "2026-11-23T10:41:00Z"}"#;
                respond(stream, 200, "", notice)
            }
            path if path == lifecycle => respond(stream, 200, "", b"Terminated"),
            _ => respond(stream, 404, "", b""),
        });
        let config = config(&server.url(), "");
        let mut metadata = metadata_of(&config, Environment::default());
        let _ = metadata.ask(EC2, seconds(3), Again::Never);
        let before = server.seen().len();
        for round in 0..4 {
            let heard = metadata.ask_for_spot_notice(Duration::from_millis(500));
            assert!(heard.is_ok(), "{failing} {status} {round}: {heard:?}");
            assert_eq!(metadata.limits().len(), 1, "{failing} {status} {round}");
        }
        let asked = server.asked_for().split_off(before);
        let about = |path: &str| asked.iter().filter(|line| line.ends_with(path)).count();
        let other = if failing == spot { lifecycle } else { spot };
        assert_eq!((about(other), about(failing)), (4, 2), "{failing} {status}");
    }
}

fn an_instance_id_that_was_wrong_once_is_asked_for_again() {
    let asked = AtomicU32::new(0);
    let server = Server::start(move |request, stream| match request.path.as_str() {
        "/latest/api/token" => respond(stream, 200, "", b"TOKEN=="),
        "/latest/meta-data/instance-id" => match asked.fetch_add(1, Ordering::Relaxed) {
            0 => respond(stream, 200, "", b"i-0bbb"),
            1 => respond(stream, 500, "", b""),
            _ => respond(stream, 200, "", b"i-0aaa"),
        },
        _ => respond(stream, 404, "", b""),
    });
    let config = config(&server.url(), "");
    let mut metadata = metadata_of(&config, Environment::default());
    // What is only remembered is not said again.
    for expected in [Some("i-0bbb"), None, Some("i-0aaa")] {
        let asked = metadata.ask(EC2, seconds(3), Again::Never);
        let answer = answer_of(&asked, "ec2");
        assert_eq!(answer.instance.id.as_deref(), expected);
        let (_, notices) = metadata.metadata.ask_for_spot_notice(seconds(1)).unwrap();
        assert_eq!(notices.instance.id, None);
    }
}

fn a_date_is_of_the_response_that_it_came_with() {
    let dates = AtomicU32::new(0);
    let server = Server::start(move |request, stream| {
        let date = "Date: Mon, 23 Nov 2026 10:00:00 GMT\r\n";
        let headers = match dates.fetch_add(1, Ordering::Relaxed) < 6 {
            true => date,
            false => "",
        };
        match request.path.as_str() {
            "/latest/api/token" => respond(stream, 200, headers, b"TOKEN=="),
            "/latest/meta-data/instance-id" => respond(stream, 200, headers, b"i-0123"),
            "/latest/meta-data/autoscaling/target-lifecycle-state" => {
                respond(stream, 200, headers, b"Terminated")
            }
            _ => respond(stream, 404, headers, b""),
        }
    });
    let config = config(&server.url(), "");
    let mut metadata = metadata_of(&config, Environment::default());
    answer_of(&metadata.ask(EC2, seconds(3), Again::Never), "ec2");
    let (_, notices) = metadata.metadata.ask_for_spot_notice(seconds(1)).unwrap();
    assert_eq!(notices.date, None);
}

/// An EC2 with an end in its spot notice that says this to one path.
fn ec2_with_one_answer(path: &'static str, status: u16, body: &'static str) -> Server {
    Server::start(move |request, stream| match request.path.as_str() {
        asked if asked == path => respond(stream, status, "", body.as_bytes()),
        "/latest/api/token" => respond(stream, 200, "", b"TOKEN=="),
        "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123"),
        "/latest/meta-data/instance-type" => respond(stream, 200, "", b"m5.large"),
        "/latest/meta-data/spot/instance-action" => {
            let notice = br#"{"action": "terminate", "time": "2026-11-23T10:41:00Z"}"#;
            respond(stream, 200, "", notice)
        }
        _ => respond(stream, 404, "", b""),
    })
}

fn a_value_of_ec2_that_cannot_be_had_costs_neither_the_rest_nor_the_spot_notice() {
    let paths = [
        "/latest/meta-data/instance-type",
        "/latest/meta-data/placement/availability-zone",
        "/latest/meta-data/instance-id",
    ];
    for path in paths {
        for (status, body) in [(403, ""), (500, ""), (200, "a\nb")] {
            let server = ec2_with_one_answer(path, status, body);
            let config = config(&server.url(), "");
            let mut metadata = metadata_of(&config, Environment::default());
            let asked = metadata.ask(EC2, seconds(3), Again::Yes);
            let ec2 = answer_of(&asked, "ec2");
            assert_eq!(ec2.warnings.len(), 1, "{path}: {ec2:?}");
            assert_eq!(ec2.instance.id.is_some(), !path.ends_with("instance-id"));
            assert_eq!(metadata.limits()[0].when, When::At(1_795_430_460));
        }
    }
}

fn a_value_of_ec2_is_asked_for_again_where_the_service_failed_and_not_where_it_refused() {
    let path = "/latest/meta-data/instance-type";
    for (status, times) in [(403, 1), (500, 3)] {
        let server = ec2_with_one_answer(path, status, "");
        let config = config(&server.url(), "");
        let mut metadata = metadata_of(&config, Environment::default());
        for _ in 0..3 {
            answer_of(&metadata.ask(EC2, seconds(3), Again::Never), "ec2");
        }
        let asked = server.asked_for();
        let about = |path: &str| asked.iter().filter(|line| line.ends_with(path)).count();
        // Who this is is asked until a second answer says the same.
        assert_eq!((about(path), about("/instance-id")), (times, 2), "{status}");
    }
}

fn a_spot_notice_that_is_refused_costs_nothing_else_and_takes_none_back() {
    let refused = Arc::new(AtomicU32::new(0));
    let now = refused.clone();
    let server = Server::start(move |request, stream| match request.path.as_str() {
        "/latest/api/token" => respond(stream, 200, "", b"TOKEN=="),
        "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123"),
        "/latest/meta-data/spot/instance-action" if now.load(Ordering::Relaxed) == 0 => {
            let notice = br#"{"action": "terminate", "time": "2026-11-23T10:41:00Z"}"#;
            respond(stream, 200, "", notice)
        }
        _ => respond(stream, 403, "", b""),
    });
    let config = config(&server.url(), "");
    let mut metadata = metadata_of(&config, Environment::default());
    for _ in 0..2 {
        let asked = metadata.ask(EC2, seconds(3), Again::Never);
        assert!(answer_of(&asked, "ec2").instance.id.is_some());
        assert_eq!(metadata.limits()[0].when, When::At(1_795_430_460));
        refused.store(1, Ordering::Relaxed);
    }
}

fn a_spot_notice_counts_where_the_rest_of_ec2_does_not_answer() {
    let server = ec2_with_one_answer("/latest/meta-data/instance-id", 429, "");
    let config = config(&server.url(), "");
    let mut metadata = metadata_of(&config, Environment::default());
    let asked = metadata.ask(EC2, seconds(1), Again::Never);
    assert!(error_of(&asked, "ec2").contains("429"));
    assert!(metadata.has_spot_notices());
    metadata.ask_for_spot_notice(seconds(1)).unwrap();
    assert_eq!(metadata.limits()[0].when, When::At(1_795_430_460));
    assert_eq!(metadata.instance(), None);
}

fn an_expired_token_is_renewed() {
    let server = imds(2, "");
    let asked = ask(&server.url(), EC2, Again::Yes);
    assert_eq!(
        answer_of(&asked, "ec2").instance.flavor.as_deref(),
        Some("m5.large")
    );
    let tokens = server
        .asked_for()
        .iter()
        .filter(|line| line.starts_with("PUT"))
        .count();
    // For nine values.
    assert_eq!(tokens, 5);
}

fn a_service_that_refuses_every_token_it_gave_is_not_asked_for_ever() {
    let server = imds(0, "");
    let asked = ask(&server.url(), EC2, Again::Yes);
    assert!(error_of(&asked, "ec2").contains("401"), "{asked:?}");
    assert_eq!(server.seen().len(), 4);
}

fn where_a_token_is_refused_ec2_is_asked_without() {
    for status in [302, 400, 403, 404, 405, 429, 500, 501, 502, 503] {
        let server = Server::start(move |request, stream| match request.path.as_str() {
            "/latest/api/token" => respond(stream, status, "", b""),
            "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123"),
            _ => respond(stream, 404, "", b""),
        });
        let asked = ask(&server.url(), EC2, Again::Never);
        let answered = of(&asked, "ec2").result.is_ok();
        // Later it may give one, unless it knows no such thing.
        let is_refusal = !matches!(status, 429 | 502 | 503);
        assert_eq!(answered, is_refusal, "{status}: {asked:?}");
    }
}

/// An EC2 that wants tokens and refuses this many first.
fn ec2_refusing_tokens(times: u32) -> Server {
    let left = AtomicU32::new(times);
    Server::start(move |request, stream| {
        let one_less = |left: u32| left.checked_sub(1);
        let (order, left) = (Ordering::Relaxed, &left);
        let given = request.headers.get("x-aws-ec2-metadata-token");
        match request.path.as_str() {
            "/latest/api/token" if left.fetch_update(order, order, one_less).is_ok() => {
                respond(stream, 403, "", b"")
            }
            "/latest/api/token" => respond(stream, 200, "", b"TOKEN=="),
            _ if given.is_none() => respond(stream, 401, "", b""),
            "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123"),
            _ => respond(stream, 404, "", b""),
        }
    })
}

fn a_token_that_was_refused_is_asked_for_anew_once_a_round() {
    for (refusals, rounds) in [(1, 1), (2, 2), (3, 2), (4, 3)] {
        let server = ec2_refusing_tokens(refusals);
        let config = config(&server.url(), "");
        let mut metadata = metadata_of(&config, Environment::default());
        for round in 1..rounds {
            let before = server.seen().len();
            let asked = metadata.ask(EC2, seconds(3), Again::Never);
            assert!(
                error_of(&asked, "ec2").contains("401"),
                "{round}: {asked:?}"
            );
            let expected = [
                "PUT /latest/api/token",
                "GET /latest/meta-data/instance-id",
                "PUT /latest/api/token",
                "GET /latest/meta-data/instance-id",
            ];
            assert_eq!(server.asked_for()[before..], expected);
        }
        let asked = metadata.ask(EC2, seconds(3), Again::Never);
        assert!(answer_of(&asked, "ec2").instance.id.is_some());
        assert!(metadata.has_spot_notices());
    }
}

fn a_token_that_is_refused_once_does_not_end_the_asking_for_spot_notices() {
    let asked_for = AtomicU32::new(0);
    let server = Server::start(move |request, stream| {
        let given = request.headers.get("x-aws-ec2-metadata-token");
        match request.path.as_str() {
            "/latest/api/token" => match asked_for.fetch_add(1, Ordering::Relaxed) {
                0 => respond(stream, 200, "", b"OLD"),
                1 | 2 => respond(stream, 403, "", b""),
                _ => respond(stream, 200, "", b"NEW"),
            },
            "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123"),
            "/latest/meta-data/spot/instance-action" => match given.map(String::as_str) {
                Some("NEW") => respond(stream, 404, "", b""),
                _ => respond(stream, 401, "", b""),
            },
            _ => respond(stream, 404, "", b""),
        }
    });
    let config = config(&server.url(), "");
    let mut metadata = metadata_of(&config, Environment::default());
    let asked = metadata.ask(EC2, seconds(3), Again::Never);
    assert!(error_of(&asked, "ec2").contains("401"), "{asked:?}");
    assert!(metadata.has_spot_notices());
    metadata.ask_for_spot_notice(seconds(1)).unwrap();
}

fn what_is_no_token_is_not_sent_back() {
    let long = vec![b'x'; 2 << 20];
    for body in [
        &b"a b"[..],
        b"",
        b"<html>",
        b"x\r\nEvil: 1",
        &[b'x'; 2000],
        &long,
        b"\xff",
    ] {
        let body = body.to_vec();
        let puts = AtomicU32::new(0);
        let server = Server::start(move |request, stream| match request.path.as_str() {
            "/latest/api/token" => match puts.fetch_add(1, Ordering::Relaxed) {
                0 => respond(stream, 200, "", &body),
                _ => respond(stream, 200, "", b"TOKEN=="),
            },
            "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-0123"),
            _ => respond(stream, 404, "", b""),
        });
        let config = config(&server.url(), "sources = [\"ec2\"]");
        let mut metadata = metadata_of(&config, Environment::default());
        let mut tokens = || {
            let asked = metadata.ask_again(seconds(1));
            assert!(of(&asked, "ec2").result.is_ok(), "{asked:?}");
            let seen = server.seen();
            let given = seen
                .iter()
                .map(|r| r.headers.get("x-aws-ec2-metadata-token"));
            given.flatten().count()
        };
        // Everything is asked for without one, and in the next round with the one that comes.
        assert_eq!(tokens(), 0);
        assert_ne!(tokens(), 0);
    }
}

fn html_with_200_is_no_instance_id() {
    let server = Server::start(|request, stream| match request.method.as_str() {
        "PUT" => respond(stream, 404, "", b""),
        _ => respond(stream, 200, "", b"<html>hello</html>"),
    });
    let asked = ask(&server.url(), EC2, Again::Never);
    assert!(
        error_of(&asked, "ec2").contains("is not an instance id"),
        "{asked:?}"
    );
}

// Machine/Job Features.

fn features_that_meta_names_are_read_over_http() {
    let features = Server::start(|request, stream| match request.path.as_str() {
        "/mf/shutdowntime" => respond(stream, 200, "", b"1795430460\n"),
        "/mf/grace_secs" => respond(stream, 200, "", b"43200"),
        "/jf/shutdowntime_job" => respond(stream, 200, "", b"soon"),
        _ => respond(stream, 404, "", b"<html></html>"),
    });
    let meta = format!(
        r#""machinefeatures": "{0}/mf/", "jobfeatures": "{0}/jf""#,
        features.url()
    );
    let server = Server::saying(200, "", &document(&meta));
    let config = config(&server.url(), "");
    let mut metadata = metadata_of(&config, Environment::default());
    let asked = metadata.ask(OPENSTACK, seconds(3), Again::Yes);
    answer_of(&asked, MACHINE_FEATURES);

    let decision = decide(&metadata.limits(), 0, metadata.grace.unwrap());
    let deadline = decision.deadline.unwrap();
    assert_eq!(deadline.at, 1_795_430_460);
    assert_eq!(
        deadline.origin.to_string(),
        "shutdowntime in the machine and job features"
    );
    assert_eq!(deadline.grace, seconds(43200));
    assert!(deadline.confirmed_at.is_some());
    assert_eq!(decision.ignored.len(), 1);
    assert!(
        decision.ignored[0]
            .reason
            .contains("\"soon\" is not Unix seconds")
    );
}

/// Path, status and body. All other paths are 404.
type Said = (&'static str, u16, &'static str);

/// Asks for features once, and then again after they have changed.
struct Features {
    answers: Arc<Mutex<Vec<Said>>>,
    server: Server,
}

impl Features {
    fn saying(answers: &[Said]) -> Features {
        let answers = Arc::new(Mutex::new(answers.to_vec()));
        let current = answers.clone();
        let server = Server::start(move |request, stream| {
            let current = current.lock().unwrap();
            let found = current.iter().find(|(path, ..)| *path == request.path);
            let (_, status, body) = found.unwrap_or(&("", 404, "<html>404</html>"));
            respond(stream, *status, "", body.as_bytes())
        });
        Features { answers, server }
    }

    fn now_say(&self, answers: &[Said]) {
        *self.answers.lock().unwrap() = answers.to_vec();
    }

    fn config(&self) -> Config {
        let place = format!("machinefeatures = \"{}/mf/\"", self.server.url());
        config(&self.server.url(), &format!("sources = []\n{place}"))
    }
}

const END: &str = "/mf/shutdowntime";
fn what_is_no_value_replaces_none_that_is_known() {
    let known = [(END, 200, "1795430460"), ("/mf/grace_secs", 200, "900")];
    let html = "<html>starting up</html>";
    let cases: [&[Said]; 8] = [
        &[(END, 200, html), ("/mf/grace_secs", 200, html)],
        &[(END, 200, html), ("/mf/grace_secs", 200, "900")],
        &[(END, 200, "")],
        &[(END, 200, "0"), ("/mf/grace_secs", 200, "-1")],
        &[(END, 200, "1795430460000")],
        &[(END, 500, html), ("/mf/grace_secs", 200, "900")],
        // A server without its content has neither keys nor a base.
        &[],
        &[("/mf/grace_secs", 200, html), ("/mf/total_cpu", 200, html)],
    ];
    for case in cases {
        let features = Features::saying(&known);
        let config = features.config();
        let mut metadata = metadata_of(&config, Environment::default());
        metadata.ask(&[], seconds(3), Again::Never);
        assert_eq!(metadata.limits()[0].when, When::At(1_795_430_460));
        features.now_say(case);
        for _ in 0..3 {
            metadata.ask(&[], seconds(3), Again::Never);
        }
        let limits = metadata.limits();
        assert_eq!(limits.len(), 1, "{case:?}: {limits:?}");
        assert_eq!(limits[0].when, When::At(1_795_430_460), "{case:?}");
        assert_eq!(metadata.grace, Some(seconds(900)), "{case:?}");
        // Nor, after a restart, what another process found out.
        let mut later = metadata_of(&config, Environment::default());
        later.ledger = metadata.ledger;
        later.ask(&[], seconds(3), Again::Never);
        let still = |limit: &Limit| limit.when == When::At(1_795_430_460);
        assert!(later.limits().iter().any(still), "{case:?}");
    }
}

fn what_is_no_value_is_told_once_however_often_it_is_said() {
    let features = Features::saying(&[(END, 200, "<html>starting up</html>")]);
    let config = features.config();
    let mut metadata = metadata_of(&config, Environment::default());
    for _ in 0..5 {
        metadata.ask(&[], seconds(3), Again::Never);
        assert_eq!(metadata.limits().len(), 1);
    }
}

fn a_404_takes_a_limit_back_where_the_service_vouches_for_it() {
    let cases: [&[Said]; 3] = [
        &[("/mf/grace_secs", 200, "900")],
        &[("/mf/total_cpu", 200, "8")],
        &[("/mf/", 200, "<html>Index of /mf</html>")],
    ];
    for case in cases {
        let features = Features::saying(&[(END, 200, "1795430460")]);
        let config = features.config();
        let mut metadata = metadata_of(&config, Environment::default());
        metadata.ask(&[], seconds(3), Again::Never);
        assert_eq!(metadata.limits().len(), 1);
        features.now_say(case);
        metadata.ask(&[], seconds(3), Again::Never);
        assert_eq!(metadata.limits(), [], "{case:?}");
        // And it can come again, at another time.
        features.now_say(&[(END, 200, "1795430999")]);
        metadata.ask(&[], seconds(3), Again::Never);
        assert_eq!(metadata.limits()[0].when, When::At(1_795_430_999));
    }
}

fn all_features_at_a_url_are_asked_for_in_one_round_of_ten_on_one_connection() {
    let both = Server::start(|request, stream| match request.path.as_str() {
        META_DATA => respond(stream, 200, "", &document("")),
        "/mf/shutdowntime" | "/jf/shutdowntime_job" => respond(stream, 200, "", b"1795430460"),
        "/mf/grace_secs" => respond(stream, 200, "", b"900"),
        _ => respond(stream, 404, "", b""),
    });
    let places = format!(
        "machinefeatures = \"{0}/mf\"\njobfeatures = \"{0}/jf\"\nsources = [\"openstack\"]",
        both.url()
    );
    let config = config(&both.url(), &places);
    let mut metadata = metadata_of(&config, Environment::default());
    let rounds: Vec<usize> = (0..=40)
        .map(|_| {
            let before = both.seen().len();
            metadata.ask_again(seconds(3));
            both.seen().len() - before
        })
        .collect();
    // The service each time, and all nine keys at first and then in one round of ten.
    assert_eq!(rounds[0], 10);
    let with_features = rounds[1..].iter().filter(|requests| **requests == 10);
    assert_eq!(with_features.count(), 4, "{rounds:?}");
    let without = rounds.iter().filter(|requests| **requests == 1);
    assert_eq!(without.count(), 36, "{rounds:?}");
    assert_eq!(both.connections(), 1);
    assert_eq!(metadata.limits().len(), 2);
}

/// Three of the slowest requests that are waited for, and some time for the machine.
const ROUND: Duration = Duration::from_millis(3 * 500 + 500);

/// It answers each request in time, if only just.
fn slow(answers: &'static [Said]) -> Server {
    Server::start(move |request, stream| {
        thread::sleep(Duration::from_millis(350));
        let found = answers.iter().find(|(path, ..)| *path == request.path);
        let (_, status, body) = found.unwrap_or(&("", 404, ""));
        respond(stream, *status, "", body.as_bytes())
    })
}

/// Asks again until so many limits are known. Says how many rounds that took.
fn rounds_until_known(limits: usize, metadata: &mut Asking) -> usize {
    let mut rounds = 0;
    while metadata.limits().len() < limits {
        let start = Instant::now();
        metadata.ask_again(seconds(20));
        let took = start.elapsed();
        assert!(took < ROUND, "round {rounds} took {took:?}");
        rounds += 1;
        assert!(rounds < 12, "{:?}", metadata.limits());
    }
    rounds
}

fn a_slow_site_of_features_holds_up_no_round_and_says_all_in_a_few() {
    let site = slow(&[
        ("/mf/shutdowntime", 200, "1795430460"),
        ("/jf/grace_secs_job", 200, "900"),
        ("/jf/wall_limit_secs", 200, "3600"),
        ("/jf/jobstart_secs", 200, "1795420000"),
        ("/jf/allocated_cpu", 200, "4"),
    ]);
    let places = format!(
        "machinefeatures = \"{0}/mf\"\njobfeatures = \"{0}/jf\"\nsources = []",
        site.url()
    );
    let config = config(&site.url(), &places);
    let mut metadata = metadata_of(&config, Environment::default());
    assert!((3..7).contains(&rounds_until_known(2, &mut metadata)));
    assert_eq!(metadata.limits()[1].when, When::At(1_795_423_600));
    // A boot holds up nothing, and asks for all of them at once.
    let before = site.seen().len();
    let asked = metadata_of(&config, Environment::default()).ask(&[], seconds(20), Again::Never);
    let features = answer_of(&asked, MACHINE_FEATURES);
    assert_eq!(features.meta["allocated_cpu"], "4");
    assert_eq!((site.seen().len() - before, features.limits.len()), (9, 2));
}

fn a_slow_ec2_holds_up_no_round_and_says_all_in_a_few() {
    let ec2 = slow(&[
        ("/latest/api/token", 200, "TOKEN=="),
        ("/latest/meta-data/instance-id", 200, "i-0123"),
        ("/latest/meta-data/placement/availability-zone", 200, "a"),
        ("/latest/meta-data/instance-type", 200, "m5.large"),
        (
            "/latest/meta-data/tags/instance/vmstage_deadline",
            200,
            "1795430460",
        ),
        (
            "/latest/meta-data/tags/instance/vmstage_lifetime",
            200,
            "36h",
        ),
    ]);
    let config = config(&ec2.url(), "sources = [\"ec2\"]");
    let mut metadata = metadata_of(&config, Environment::default());
    rounds_until_known(2, &mut metadata);
    let spot = "GET /latest/meta-data/spot/instance-action";
    assert_eq!(ec2.asked_for()[2], spot);
}

const LENGTH: &str = "/mf/wall_limit_secs";
const START: &str = "/mf/jobstart_secs";

fn a_wall_limit_is_of_one_job_whenever_it_is_read() {
    // The end of one job, of the next one, and of neither.
    let (old, new) = (1_795_093_600, 1_795_093_200);
    let of_old = [(LENGTH, 200, "90000"), (START, 200, "1795003600")];
    let html = "<html>starting up</html>";
    let cases: [(&[Said], u64); 7] = [
        (&[(LENGTH, 200, "7200"), (START, 200, "1795086000")], new),
        (&[(LENGTH, 200, "7200"), (START, 500, "")], old),
        (&[(LENGTH, 500, ""), (START, 200, "1795086000")], old),
        (&[(LENGTH, 200, "7200"), (START, 200, html)], old),
        (&[(LENGTH, 200, html), (START, 200, "1795086000")], old),
        (&[(LENGTH, 200, "7200"), (START, 403, "")], old),
        (&[], old),
    ];
    for (case, expected) in cases {
        let features = Features::saying(&of_old);
        let place = format!("jobfeatures = \"{}/mf/\"", features.server.url());
        let config = config(&features.server.url(), &format!("sources = []\n{place}"));
        let mut metadata = metadata_of(&config, Environment::default());
        // A request that takes long is left to the next round.
        rounds_until_known(1, &mut metadata);
        features.now_say(case);
        let known = |metadata: &Asking| metadata.limits().into_iter().map(|limit| limit.when);
        // Chance may have features asked for in the very next round.
        let mut ends: Vec<When> = known(&metadata).collect();
        for _ in 0..18 {
            metadata.ask_again(seconds(3));
            ends.extend(known(&metadata));
        }
        ends.dedup();
        let expected = match expected == old {
            true => vec![When::At(old)],
            false => vec![When::At(old), When::At(expected)],
        };
        assert_eq!(ends, expected, "{case:?}");
    }
}

fn what_changes_at_a_url_is_heard_of_within_twenty_rounds() {
    let start = [(END, 200, "1795430460"), ("/mf/grace_secs", 200, "900")];
    let changes: [(&[Said], Option<u64>); 4] = [
        (&[(END, 200, "1795430999")], Some(1_795_430_999)),
        (&[("/mf/grace_secs", 200, "900")], None),
        (&[("/mf/", 200, "<html>Index of /mf</html>")], None),
        (&[], Some(1_795_430_460)),
    ];
    for (change, expected) in changes {
        let features = Features::saying(&start);
        let config = features.config();
        let mut metadata = metadata_of(&config, Environment::default());
        rounds_until_known(1, &mut metadata);
        features.now_say(change);
        // In one of ten they are asked, and one answer alone takes nothing back.
        (0..20).for_each(|_| drop(metadata.ask_again(seconds(3))));
        let found: Vec<When> = metadata.limits().into_iter().map(|l| l.when).collect();
        let expected: Vec<When> = expected.into_iter().map(When::At).collect();
        assert_eq!(found, expected, "{change:?}");
    }
}

fn a_place_that_meta_names_writes_no_escape_sequence_and_shows_no_password() {
    for place in [
        "http://me:hunter2@127.0.0.1:1/mf?sig=hunter2",
        "https://me:hunter2@127.0.0.1:1/mf?sig=hunter2",
        "http://me:hunter2@192.0.2.1/\\u001b[2J",
        "/nonexistent/\\u001b[2J",
        "gopher://\\u001b[2J",
    ] {
        let meta = format!(r#""machinefeatures": "{place}""#);
        let server = Server::saying(200, "", &document(&meta));
        let asked = ask(&server.url(), OPENSTACK, Again::Never);
        let features = of(&asked, MACHINE_FEATURES);
        let said = format!("{} {}", features.place, error_of(&asked, MACHINE_FEATURES));
        assert!(
            said.len() > 20 && !said.contains(char::is_control),
            "{said:?}"
        );
        assert!(!said.contains("hunter2"), "{said:?}");
    }
}

fn features_that_meta_no_longer_names_are_forgotten() {
    let features = Server::saying(200, "", b"1795430460");
    let meta = format!(r#""machinefeatures": "{}""#, features.url());
    let first = std::sync::atomic::AtomicBool::new(true);
    let server = Server::start(move |_, stream| {
        let meta = match first.swap(false, Ordering::Relaxed) {
            true => meta.as_str(),
            false => "",
        };
        respond(stream, 200, "", &document(meta))
    });
    let config = config(&server.url(), "");
    let mut metadata = metadata_of(&config, Environment::default());
    metadata.ask(OPENSTACK, seconds(3), Again::Yes);
    assert_eq!(metadata.limits().len(), 1);
    metadata.ask(OPENSTACK, seconds(3), Again::Yes);
    assert_eq!(metadata.limits(), []);
}

fn features_are_found_by_the_environment_although_nobody_else_answers() {
    let directory = std::env::temp_dir().join(format!("vmstage-env-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("shutdowntime"), "1795430460").unwrap();
    let environment = Environment {
        machine: Some(directory.display().to_string()),
        job: None,
    };
    let refusing = Refusing::new();
    let config = config(&refusing.url(), "");
    let mut metadata = metadata_of(&config, environment);
    let asked = metadata.ask(BOTH, seconds(1), Again::Yes);
    assert_eq!(
        of(&asked, MACHINE_FEATURES).place,
        directory.display().to_string()
    );
    assert_eq!(metadata.limits()[0].when, When::At(1_795_430_460));
    fs::remove_dir_all(directory).unwrap();
}

fn a_place_that_fails_is_a_warning_and_does_not_cost_the_other() {
    let path = std::env::temp_dir().join(format!("vmstage-places-{}", std::process::id()));
    let (job, odd) = (path.join("job"), path.join("odd"));
    fs::create_dir_all(&job).unwrap();
    fs::write(job.join("shutdowntime_job"), "1795430460").unwrap();
    fs::create_dir_all(odd.join("shutdowntime")).unwrap();
    fs::write(odd.join("grace_secs"), "43200").unwrap();
    let (refusing, forbidden) = (Refusing::new(), Server::saying(403, "", b""));
    let busy = Server::saying(429, "Retry-After: 90\r\n", b"");
    let places = [
        "/nonexistent".into(),
        odd.display().to_string(),
        refusing.url(),
        forbidden.url(),
        busy.url(),
    ];
    let config = config(&refusing.url(), "sources = []");
    for place in &places {
        let with_job = |job: &str| {
            let (machine, job) = (Some(place.clone()), Some(job.to_string()));
            metadata_of(&config, Environment { machine, job })
        };
        let mut metadata = with_job(&job.display().to_string());
        for round in 0..3 {
            let asked = metadata.ask(&[], seconds(3), Again::Never);
            let answer = answer_of(&asked, MACHINE_FEATURES);
            let named = |warning: &String| warning.contains(place.as_str());
            assert!(answer.warnings.iter().any(named), "{round}: {answer:?}");
            assert_eq!(metadata.limits()[0].when, When::At(1_795_430_460));
            let wait = of(&asked, MACHINE_FEATURES).retry_after;
            assert_eq!(wait, (*place == busy.url()).then(|| seconds(90)), "{place}");
        }
        // Nor, where both fail, what is known already.
        let moved = path.join("moved");
        fs::rename(&job, &moved).unwrap();
        let asked = metadata.ask_again(seconds(3));
        assert_eq!(
            of(&asked, MACHINE_FEATURES).result.is_ok(),
            *place == places[1]
        );
        assert_eq!(metadata.limits()[0].when, When::At(1_795_430_460));
        fs::rename(&moved, &job).unwrap();
    }
    fs::remove_dir_all(path).unwrap();
}

fn the_directory_that_vmstage_publishes_is_not_read() {
    let own = std::env::temp_dir().join(format!("vmstage-own-features-{}", std::process::id()));
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join(".vmstage"), "").unwrap();
    std::fs::write(own.join("shutdowntime"), "1900000000").unwrap();
    let environment = Environment {
        machine: Some(own.display().to_string()),
        job: None,
    };
    let refusing = Refusing::new();
    let config = config(&refusing.url(), "");
    let mut metadata = metadata_of(&config, environment);
    let asked = metadata.ask(&[], seconds(1), Again::Yes);
    std::fs::remove_dir_all(&own).unwrap();
    let error = error_of(&asked, MACHINE_FEATURES);
    assert!(
        error.contains("is what vmstage itself publishes"),
        "{error}"
    );
}
