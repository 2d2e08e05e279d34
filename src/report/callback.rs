//! Telling somebody over the network that the VM is ready: off while no URL is
//! configured, and tried by `watch` only, never by `boot`.

use std::time::{Duration, Instant};

use nix::unistd::gethostname;
use serde_json::json;

use super::console;
use crate::clock;
use crate::config::{CallbackFormat, Config};
use crate::host::regular_file::{self, MIB};
use crate::host::{Host, resolve};
use crate::http::{Client, Failure};
use crate::status::{Outcome, Status};

/// For one try, from connecting to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What cloud-init sends for a value that it does not have.
const NOT_AVAILABLE: &str = "N/A";

/// One request, as it goes over the wire.
#[derive(Debug, PartialEq)]
struct Call {
    method: Method,
    url: String,
    content_type: &'static str,
    body: String,
}

#[derive(Debug, PartialEq)]
enum Method {
    Post,
    Put,
}

/// Tells once, and says whether there was anybody to tell: `phone-home` has no words for
/// a boot that failed. Whether to try again is for
/// [`wait_before_next_try`](crate::backoff::wait_before_next_try) to say.
///
/// # Errors
///
/// That there is no 2xx answer.
pub(crate) fn post(host: &Host, status: &Status, config: &Config) -> Result<bool, Failure> {
    let Some(call) = call(host, status, config) else {
        return Ok(false);
    };
    let mut headers = vec![
        ("Content-Type", call.content_type),
        ("Accept", "application/json"),
    ];
    if let Some(token) = &config.callback.token {
        headers.push(("X-Auth-Token", token.expose()));
    }
    let client = Client::new(TIMEOUT, resolve::addresses);
    let until = Instant::now() + TIMEOUT;
    let body = call.body.as_bytes();
    let answer = match call.method {
        Method::Post => client.post(&call.url, &headers, body, until),
        Method::Put => client.put(&call.url, &headers, body, until),
    };
    answer.map(|_| true)
}

fn call(host: &Host, status: &Status, config: &Config) -> Option<Call> {
    let url = config.callback.url.as_ref()?.as_written();
    let caller = Caller::of(host, status);
    match config.callback.format {
        CallbackFormat::PhoneHome if status.outcome == Outcome::Failed => None,
        CallbackFormat::PhoneHome => Some(phone_home(host, url, &caller)),
        CallbackFormat::Heat => Some(wait_condition(url, status, &caller)),
    }
}

/// The fields of cloud-init's module, and its way to have the instance in the URL.
fn phone_home(host: &Host, url: &str, caller: &Caller) -> Call {
    let key = |kind| {
        let file = format!("/etc/ssh/ssh_host_{kind}_key.pub");
        let key = regular_file::read_text(&host.path(file), MIB);
        key.unwrap_or(NOT_AVAILABLE.into())
    };
    let fields = [
        ("pub_key_rsa", key("rsa")),
        ("pub_key_ecdsa", key("ecdsa")),
        ("pub_key_ed25519", key("ed25519")),
        ("instance_id", caller.instance_id.clone()),
        ("hostname", caller.name.clone()),
        ("fqdn", caller.fqdn.clone()),
    ];
    let fields = fields.map(|(name, value)| format!("{name}={}", form_encoded(&value)));
    Call {
        method: Method::Post,
        url: url.replace("$INSTANCE_ID", &caller.instance_id),
        content_type: "application/x-www-form-urlencoded",
        body: fields.join("&"),
    }
}

/// The handle's URL says how it wants to be told: the Heat API takes a POST with a token
/// and these keys; a Swift TempURL the same by PUT; and the signed URL of an
/// `AWS::CloudFormation::WaitConditionHandle` a PUT with exactly the keys of AWS.
fn wait_condition(url: &str, status: &Status, caller: &Caller) -> Call {
    let success = match status.outcome {
        Outcome::Ready => "SUCCESS",
        Outcome::Failed => "FAILURE",
    };
    let reason = console::line(status, clock::wall());
    let staging = status.staging.as_ref();
    let data = staging.map(|staging| staging.mount_point.display().to_string());
    let asks_for = |parameter: &str| {
        let query = url.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|one| one.starts_with(parameter))
    };
    let id = &caller.instance_id;
    let (method, body) = if asks_for("Signature=") {
        let aws = json!({"Status": success, "Reason": reason, "UniqueId": id, "Data": data});
        (Method::Put, aws)
    } else {
        let heat = json!({"status": success, "reason": reason, "id": id, "data": data});
        match asks_for("temp_url_sig=") {
            true => (Method::Put, heat),
            false => (Method::Post, heat),
        }
    };
    Call {
        method,
        url: url.into(),
        content_type: "application/json",
        body: body.to_string(),
    }
}

/// Who calls, under each of its names.
struct Caller {
    instance_id: String,
    name: String,
    fqdn: String,
}

impl Caller {
    fn of(host: &Host, status: &Status) -> Caller {
        let instance = status.instance.as_ref();
        let full = gethostname().unwrap_or_default();
        let full = full.to_string_lossy();
        let name = full.split('.').next().unwrap_or_default();
        let hosts = regular_file::read_text(&host.path("/etc/hosts"), MIB).unwrap_or_default();
        let fqdn = match full.contains('.') {
            true => full.to_string(),
            false => fqdn_in(&hosts, name).unwrap_or(name.into()),
        };
        Caller {
            instance_id: instance
                .and_then(|instance| instance.id.clone())
                .unwrap_or(NOT_AVAILABLE.into()),
            name: name.into(),
            fqdn,
        }
    }
}

/// The canonical name on the line of `/etc/hosts` that has this one (hosts(5)).
fn fqdn_in(hosts: &str, name: &str) -> Option<String> {
    hosts
        .lines()
        .filter_map(|line| line.split('#').next())
        .filter_map(|line| {
            let mut names = line.split_whitespace().skip(1);
            let canonical = names.next()?;
            let found = canonical == name || names.any(|alias| alias == name);
            (found && canonical.contains('.')).then(|| canonical.to_string())
        })
        .next()
}

/// As in `application/x-www-form-urlencoded`.
fn form_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' ' => "+".into(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::host::tree::Tree;
    use crate::http::Cause;
    use crate::report::example;

    fn config(callback: &str) -> Config {
        Config::parse(&format!("[callback]\n{callback}")).unwrap()
    }

    fn caller() -> Caller {
        Caller {
            instance_id: "i-7".into(),
            name: "worker".into(),
            fqdn: "worker.example.org".into(),
        }
    }

    #[test]
    fn phone_home_sends_cloud_inits_fields() {
        let tree = Tree::new(&[("etc/ssh/ssh_host_rsa_key.pub", "ssh-rsa AA+/= root@w\n")]);
        let call = phone_home(&tree.host(), "http://192.0.2.1/$INSTANCE_ID/up", &caller());
        let expected = Call {
            method: Method::Post,
            url: "http://192.0.2.1/i-7/up".into(),
            content_type: "application/x-www-form-urlencoded",
            body: "pub_key_rsa=ssh-rsa+AA%2B%2F%3D+root%40w%0A\
                   &pub_key_ecdsa=N%2FA&pub_key_ed25519=N%2FA\
                   &instance_id=i-7&hostname=worker&fqdn=worker.example.org"
                .into(),
        };
        assert_eq!(call, expected);
    }

    #[test]
    fn a_wait_condition_is_told_as_its_url_wants_it() {
        let api = "http://192.0.2.1:8004/v1/p/stacks/s/1/resources/h/signal";
        let temporary = "http://192.0.2.1/v1/AUTH_p/h?temp_url_sig=f00&temp_url_expires=9";
        let signed = "http://192.0.2.1:8000/v1/waitcondition/arn?Timestamp=1&Signature=f00";
        for (url, method, status) in [
            (api, Method::Post, "status"),
            (temporary, Method::Put, "status"),
            (signed, Method::Put, "Status"),
        ] {
            let call = wait_condition(url, &example::ready(), &caller());
            assert_eq!(call.method, method, "{url}");
            let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
            assert_eq!(body[status], "SUCCESS", "{url}");
            assert_eq!(body.as_object().unwrap().len(), 4, "{url}");
        }
    }

    #[test]
    fn a_failed_boot_fails_a_wait_condition_with_the_reason() {
        let call = wait_condition("http://192.0.2.1/", &example::failed(), &caller());
        let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
        assert_eq!(body["status"], "FAILURE");
        let reason = body["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("FAILED(3): no usable device"),
            "{reason}"
        );
    }

    #[test]
    fn nobody_is_called_without_a_url_or_by_phone_home_when_not_ready() {
        let nowhere = &Host::at("/nonexistent");
        assert_eq!(call(nowhere, &example::ready(), &Config::default()), None);
        let home = config("url = \"http://192.0.2.1\"");
        assert_eq!(call(nowhere, &example::failed(), &home), None);
        assert!(call(nowhere, &example::ready(), &home).is_some());
    }

    #[test]
    fn the_url_is_called_as_it_is_written() {
        let slash = config("url = \"http://192.0.2.1/up/\"");
        let call = call(&Host::at("/nonexistent"), &example::ready(), &slash).unwrap();
        assert_eq!(call.url, "http://192.0.2.1/up/");
    }

    #[test]
    fn the_full_name_comes_from_the_hosts_file() {
        let hosts = "127.0.0.1 localhost\n10.0.0.7 w7.example.org w7 # w8\n10.0.0.9 w9\n";
        assert_eq!(fqdn_in(hosts, "w7").as_deref(), Some("w7.example.org"));
        for name in ["w8", "w9", "localhost"] {
            assert_eq!(fqdn_in(hosts, name), None);
        }
    }

    /// Answers one request with this status line; gives back the request.
    fn server(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/signal", listener.local_addr().unwrap());
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            while !request.contains("\r\n\r\n") || !request.ends_with('}') {
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).unwrap();
                request += std::str::from_utf8(&buffer[..count]).unwrap();
            }
            write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").unwrap();
            request
        });
        (url, served)
    }

    #[test]
    fn a_call_is_made_with_the_token() {
        let (url, served) = server("204 No Content");
        let config = config(&format!(
            "url = \"{url}\"\nformat = \"heat\"\ntoken = \"hunter2\""
        ));
        assert!(post(&Host::this_machine(), &example::ready(), &config).unwrap());
        let request = served.join().unwrap().to_lowercase();
        assert!(
            request.starts_with("post /signal http/1.1\r\n"),
            "{request}"
        );
        for header in ["x-auth-token: hunter2", "content-type: application/json"] {
            assert!(request.contains(&format!("\r\n{header}\r\n")), "{request}");
        }
    }

    #[test]
    fn a_refusal_is_an_error_that_shows_neither_signature_nor_token() {
        let (url, served) = server("403 Forbidden");
        let config = config(&format!(
            "url = \"{url}?Signature=f00\"\nformat = \"heat\"\ntoken = \"hunter2\""
        ));
        let failure = post(&Host::this_machine(), &example::ready(), &config).unwrap_err();
        assert!(
            served
                .join()
                .unwrap()
                .starts_with("PUT /signal?Signature=f00 ")
        );
        assert_eq!(failure.cause, Cause::Status(403, None));
        assert_eq!(failure.to_string(), format!("{url}?…: 403 Forbidden"));
    }
}
