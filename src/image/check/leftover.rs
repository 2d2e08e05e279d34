//! What `vmstage seal` would remove.

use super::finding::Findings;
use super::finding::Severity::{Error, Warning};
use super::subject::Subject;
use crate::image::root::Kind;
use crate::image::seal::identity::{self, SSH};
use crate::image::seal::{self, Item, network};
use crate::status::Status;

const SEAL: &str = "run `vmstage seal` before it is saved";

pub(super) fn what_seal_would_remove(subject: &Subject, found: &mut Findings) {
    let root = subject.root;
    let mut tell = |id, item: anyhow::Result<Item>, what: &str| {
        let Ok(item) = item else {
            return;
        };
        if let Some(first) = item.steps.first() {
            let place = first.path().to_string_lossy();
            let what = match item.steps.len() {
                1 => what.to_string(),
                many => format!("{what} ({many} in all)"),
            };
            found.add(Warning, id, place, what, SEAL);
        }
    };
    tell(
        "machine-id",
        identity::machine_id(root),
        "every machine of the image would have this id",
    );
    tell(
        "dbus-machine-id",
        identity::dbus_machine_id(root),
        "an empty /etc/machine-id gets its id from here again",
    );
    let what = "every machine of the image would have these host keys";
    tell("host-keys", identity::host_keys(root), what);
    tell(
        "stale-state",
        seal::state(root, subject.host),
        "state of another machine, or of this one before it was saved",
    );
    if !is_of_this_boot(subject) {
        tell(
            "stale-report",
            seal::reports(root, &subject.config),
            "what vmstage told of an earlier boot",
        );
    }
    tell(
        "net-rules",
        network::rules(root),
        "with another network address the interface gets another name",
    );
    tell(
        "hwaddr",
        network::addresses(root),
        "an interface with another address stays down",
    );
    tell(
        "cloud-state",
        seal::cloud_leftovers(root),
        "cloud-init's state of the machine that was saved",
    );
    host_keys(subject, found);
}

/// In a running system what was published is news.
fn is_of_this_boot(subject: &Subject) -> bool {
    let host = subject.host;
    host.is_some_and(|host| matches!(Status::read(host), Ok(Some(_))))
}

fn host_keys(subject: &Subject, found: &mut Findings) {
    let root = subject.root;
    let has_sshd = root.is(Kind::File, "/usr/sbin/sshd");
    let has_keys = identity::present_host_keys(root).is_ok_and(|keys| !keys.is_empty());
    let makes_keys = identity::makes_host_keys(root);
    if has_sshd && !has_keys && !makes_keys {
        let what = "there are no host keys and nothing makes new ones: sshd does not start";
        let cure = "install something that makes them (cloud-init, a unit that runs ssh-keygen -A)";
        found.add(Error, "host-keys", SSH, what, cure);
    } else if has_keys && !makes_keys {
        let what = "every machine of the image has these host keys, and nothing makes new ones";
        let cure = "add a unit that runs ssh-keygen -A, then `vmstage seal`";
        found.add(Warning, "host-keys", SSH, what, cure);
    }
}
