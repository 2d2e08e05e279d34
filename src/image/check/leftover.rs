//! What `vmstage seal` would remove.

use super::finding::Findings;
use super::finding::Severity::{Error, Warning};
use super::subject::Subject;
use crate::image::root::Kind;
use crate::image::seal::host_keys::{self, SSH};
use crate::image::seal::{self, Item, identity, network};
use crate::status::Status;

const SEAL: &str = "run `vmstage seal` before it is saved";

pub(super) fn what_seal_would_remove(subject: &Subject, found: &mut Findings) {
    let root = subject.root;
    let mut tell = |id, item: Item, what: &str| {
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
    tell("host-keys", host_keys::item(root), what);
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
    keys_without_a_maker(subject, found);
}

/// In a running system what was published is news.
fn is_of_this_boot(subject: &Subject) -> bool {
    let host = subject.host;
    host.is_some_and(|host| matches!(Status::read(host), Ok(Some(_))))
}

fn keys_without_a_maker(subject: &Subject, found: &mut Findings) {
    let root = subject.root;
    let has_sshd = root.is(Kind::File, "/usr/sbin/sshd");
    let has_keys = host_keys::present(root).is_ok_and(|keys| !keys.is_empty());
    if !has_keys && !has_sshd {
        return;
    }
    let Err(why) = host_keys::are_made_anew(root) else {
        return;
    };
    if has_keys {
        let what = format!(
            "every machine of the image has these host keys, and nothing makes new ones: {why}"
        );
        let cure = "have a unit run ssh-keygen -A before sshd, enabled, then `vmstage seal`";
        found.add(Warning, "host-keys", SSH, what, cure);
    } else {
        let what = format!(
            "there are no host keys, and sshd does not start: nothing makes new ones ({why})"
        );
        let cure =
            "have something make them (cloud-init, or a unit that runs ssh-keygen -A, enabled)";
        found.add(Error, "host-keys", SSH, what, cure);
    }
}
