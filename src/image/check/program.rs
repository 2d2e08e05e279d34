//! The program, and the files that belong to it.

use std::os::fd::AsFd;

use super::finding::Findings;
use super::finding::Severity::{Error, Warning};
use super::subject::Subject;
use crate::host::kernel_calls::selinux_context;
use crate::host::regular_file::MIB;
use crate::image::elf::Machine;
use crate::image::files::{self, CONFIGURATION, FILES, PROGRAM};

/// No binary is larger.
const LARGEST: u64 = 64 * MIB;

/// A program carries its units and its script: one that carries what this one does is of this
/// version, and so have the image's to be; where it is of another, they must not be of this one.
pub(super) fn other_version(subject: &Subject, found: &mut Findings) {
    let program = subject.root.read(PROGRAM.as_ref(), LARGEST).ok().flatten();
    let Some(program) = program else {
        return;
    };
    let heeded = FILES.iter().filter(|file| file.is_heeded_by_init());
    let needed = heeded.filter(|file| file.is_needed_by(subject.init));
    let is_of_this_version = files::are_carried_by(&program);
    for file in needed {
        let path = file.path(subject.init);
        let places = [path.replacen("/usr/lib/", "/lib/", 1), path];
        let present = places.iter().rev().find_map(|path| {
            let content = subject.root.read(path.as_ref(), MIB).ok().flatten()?;
            Some((path, content))
        });
        let Some((path, content)) = present else {
            continue;
        };
        let for_its_mount_point = file.content_for(subject.mount_point());
        let is_as_carried_here = content == file.content() || content == *for_its_mount_point;
        let differs = is_as_carried_here != is_of_this_version;
        // What names the unit of a mount point that is not known may be as it has to be.
        let is_unclear = subject.config_is_wrong && file.names_mount_point();
        // Two of other versions may belong together.
        if differs && !is_unclear {
            let what = format!("it is of another version of vmstage than {PROGRAM}");
            let cure = format!("have both of one version: {}", subject.bring_files());
            found.add(Warning, "other-version", path.as_str(), what, cure);
        }
    }
}

/// The kernel refuses it, and nothing is staged.
pub(super) fn foreign_arch(subject: &Subject, found: &mut Findings) {
    use std::io::Read;
    let Ok(Some(file)) = subject.root.open_file(PROGRAM.as_ref()) else {
        return;
    };
    let mut head = Vec::new();
    if file.take(64).read_to_end(&mut head).is_err() {
        return;
    }
    let cure = match subject.is_package {
        true => "install the package for this image's architecture".into(),
        false => format!(
            "install one for this image's architecture: {}",
            subject.install(" --binary FILE")
        ),
    };
    match (Machine::of(&head), Machine::of_system(subject.root)) {
        (None, _) => {
            let what = "it is no program (ELF)";
            found.add(Error, "foreign-arch", PROGRAM, what, cure);
        }
        (Some(ours), Some(theirs)) if ours != theirs => {
            let what = format!(
                "it is for {}, and the system is for {}",
                ours.name(),
                theirs.name()
            );
            found.add(Error, "foreign-arch", PROGRAM, what, cure);
        }
        _ => {}
    }
}

/// Files that were laid into an image from outside have no label, and may not be run.
pub(super) fn selinux(subject: &Subject, found: &mut Findings) {
    // As libselinux reads it: by the first line that it understands, whatever stands behind.
    let text = subject.text("/etc/selinux/config").to_ascii_lowercase();
    let mode = text.lines().find_map(|line| {
        let value = line.strip_prefix("selinux=")?.trim_start();
        let mut modes = ["enforcing", "permissive", "disabled"].into_iter();
        modes.find(|mode| value.starts_with(mode))
    });
    let enforces = mode == Some("enforcing");
    if !enforces || subject.has("/.autorelabel") {
        return;
    }
    let of_init = FILES.iter().filter(|file| file.is_needed_by(subject.init));
    let paths = of_init.map(|file| file.path(subject.init));
    let fixed = [PROGRAM, CONFIGURATION].map(String::from);
    let unlabelled: Vec<String> = paths
        .chain(fixed)
        .filter(|path| {
            let file = subject.root.open_file(path.as_ref()).ok().flatten();
            file.is_some_and(|file| matches!(selinux_context(file.as_fd()), Ok(None)))
        })
        .collect();
    if let Some(first) = unlabelled.first() {
        let what = format!(
            "SELinux enforces, and {} files of vmstage have no label",
            unlabelled.len()
        );
        let cure = "touch /.autorelabel in the image, or run restorecon on them there";
        found.add(Warning, "selinux", first.as_str(), what, cure);
    }
}
