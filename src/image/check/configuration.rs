//! The configuration.

use super::finding::Findings;
use super::finding::Severity::{Error, Warning};
use super::subject::Subject;
use crate::image::files::{self, CONFIGURATION};

/// A boot with one that does not parse touches nothing.
pub(super) fn config(subject: &Subject, found: &mut Findings) {
    if let Err(wrong) = files::configuration(subject.root) {
        let cure = "put it right: until then a boot mounts nothing (exit code 6)";
        found.add(Error, "config", CONFIGURATION, wrong.to_string(), cure);
    }
}

/// A secret that each machine of the image has, and everybody on them.
pub(super) fn config_token(subject: &Subject, found: &mut Findings) {
    if subject.config.callback.token.is_none() {
        return;
    }
    let entry = subject.root.entry(CONFIGURATION.as_ref()).ok().flatten();
    let readers = match entry.is_some_and(|entry| entry.mode & 0o044 != 0) {
        true => "everybody on a machine can read it, and",
        false => "it is",
    };
    let what = format!("callback.token is a secret: {readers} in every image that is saved");
    let cure =
        "chmod 0600 the file, and put the token into it at boot (user data), not into the image";
    found.add(Warning, "config-token", CONFIGURATION, what, cure);
}
