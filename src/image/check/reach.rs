//! Paths that cannot be used: links that lead out of the tree, and files that are none.

use std::path::Path;

use super::finding::Findings;
use super::finding::Severity::{Error, Warning};
use super::subject::Subject;
use crate::host::fstab::FSTAB;
use crate::host::regular_file::MIB;
use crate::image::enabling::{DEPEND_START, DEPEND_STOP, LOCAL_UNITS, UNIT_DIRECTORY};
use crate::image::files::{CONFIGURATION, PROGRAM};
use crate::image::init::Init;
use crate::image::old::RC_LOCAL;
use crate::image::published::{RUN, STATE};
use crate::image::rc;
use crate::image::root::{SILENT, SILENT_CURE, leads_out};
use crate::metadata::machine_features::published::{JOB, MACHINE};
use crate::report::{condor, machine_features, motd};

/// What vmstage reads or writes there.
const PATHS: [&str; 17] = [
    PROGRAM,
    CONFIGURATION,
    STATE,
    RUN[0],
    RUN[1],
    UNIT_DIRECTORY,
    LOCAL_UNITS,
    condor::DIRECTORY,
    MACHINE,
    JOB,
    machine_features::SNIPPET,
    motd::SCRIPT,
    "/sbin/init",
    "/etc/init.d",
    "/etc/rc.d/init.d",
    "/etc/machine-id",
    "/etc/ssh",
];

/// Texts that have to be understood.
const TEXTS: [&str; 7] = [
    FSTAB,
    RC_LOCAL[0],
    RC_LOCAL[1],
    DEPEND_START,
    DEPEND_STOP,
    "/etc/inittab",
    "/etc/machine-id",
];

pub(super) fn unreachable_paths(subject: &Subject, found: &mut Findings) {
    let root = subject.root;
    let levels = [Init::Numbers, Init::Chkconfig, Init::Suse]
        .map(|init| rc::LEVELS.map(|level| init.run_level(level)))
        .concat();
    let paths = PATHS.map(Path::new).into_iter();
    let mut faults: Vec<(&Path, std::io::Error)> = Vec::new();
    let paths = paths.chain(levels.iter().map(Path::new));
    for path in paths.chain([subject.mount_point()]) {
        let is_told = faults.iter().any(|(told, _)| path.starts_with(told));
        let error = root.entry(path).err().filter(|_| !is_told);
        faults.extend(error.map(|error| (path, error)));
    }
    for path in TEXTS.map(Path::new) {
        let is_told = faults.iter().any(|(told, _)| path.starts_with(told));
        let error = root.read(path, MIB).err().filter(|_| !is_told);
        faults.extend(error.map(|error| (path, error)));
    }
    for (path, error) in faults {
        tell(path, &error, found);
    }
}

/// What the rules before came upon: what a system has there is not known.
pub(super) fn silent_places(subject: &Subject, found: &mut Findings) {
    for place in subject.root.silent_places() {
        let what = format!("it {SILENT}");
        found.add(
            Warning,
            "unreadable",
            place.to_string_lossy(),
            what,
            SILENT_CURE,
        );
    }
}

fn tell(path: &Path, error: &std::io::Error, found: &mut Findings) {
    let place = path.to_string_lossy();
    match leads_out(error) {
        true => found.add(
            Error,
            "links-out",
            place,
            "a link on the way leads out of the image",
            "make the link lead to a place inside of the image",
        ),
        false => found.add(
            Warning,
            "unreadable",
            place,
            format!("it cannot be looked at: {error}"),
            "put right what is there",
        ),
    }
}
