//! Lines of `/etc/fstab`.

use std::os::unix::ffi::OsStrExt;

use super::finding::Findings;
use super::finding::Severity::{Error, Note, Warning};
use super::subject::{REPLACE, Subject};
use crate::config::Spec;
use crate::host::fstab::{FSTAB, Line};
use crate::image::old::{self, Found};

fn place(line: &Line) -> String {
    format!("{FSTAB}:{}", line.number)
}

/// What a boot comes to that waits for the disk of a line.
fn without_the_disk(line: &Line) -> &'static str {
    let waits = |option: &String| option != "nofail" && option != "noauto";
    match line.options.iter().all(waits) {
        true => ", and where there is no such disk the boot ends in emergency mode",
        false => "",
    }
}

/// A line for the mount point, which makes a boot fail or mounts somebody's volume.
pub(super) fn old_fstab(subject: &Subject, found: &mut Findings) {
    let mount_point = subject.mount_point();
    for (line, how) in old::fstab_lines(&subject.fstab, mount_point) {
        let (source, target) = (line.source.display(), mount_point.display());
        let (severity, what) = match how {
            Found::ByName => (
                Error,
                format!(
                    "{source} is mounted on {target} by its bare name: at another boot that may be \
                     somebody's volume{} ({})",
                    without_the_disk(line),
                    line.text
                ),
            ),
            Found::ByTag => (
                Error,
                format!(
                    "without nofail, a boot without {source} ends in emergency mode ({})",
                    line.text
                ),
            ),
            Found::ByTagWithoutHarm | Found::ByGivenName => (
                Note,
                format!("{source} is mounted on {target} by fstab, and vmstage takes it as it is"),
            ),
            Found::NoDisk => (
                Note,
                format!("{source} is no disk, and would be taken for the scratch disk on {target}"),
            ),
            // It has a finding of its own.
            Found::ByCloudInit => continue,
        };
        let cure = match severity {
            Note => "remove the line, unless it is meant so".into(),
            _ => format!("remove the line; `{}` does", subject.install(REPLACE)),
        };
        found.add(severity, "old-fstab", place(line), what, cure);
    }
}

/// A line for a place below it, which is tried before vmstage has mounted anything.
pub(super) fn old_fstab_below(subject: &Subject, found: &mut Findings) {
    for line in old::fstab_lines_below(&subject.fstab, subject.mount_point()) {
        let what = format!(
            "{} is mounted below {} by its bare name: at another boot that may be somebody's volume{} \
             ({})",
            line.source.display(),
            subject.mount_point().display(),
            without_the_disk(line),
            line.text
        );
        found.add(
            Error,
            "old-fstab",
            place(line),
            what,
            "remove the line by hand",
        );
    }
}

/// A unit does the same without fstab.
pub(super) fn old_mount_unit(subject: &Subject, found: &mut Findings) {
    let mount_point = subject.mount_point();
    if let Some(unit) = old::mount_unit(subject.root, mount_point) {
        let place = format!("{}:{}", unit.path.display(), unit.number);
        let what = format!(
            "this unit mounts a disk on {} by its bare name, which at another boot may be somebody's \
             volume ({})",
            mount_point.display(),
            unit.text
        );
        found.add(Error, "old-fstab", place, what, "remove the unit by hand");
    }
}

/// fsck(8) of a disk that is not there, or that is empty, stops a boot.
pub(super) fn fstab_fsck(subject: &Subject, found: &mut Findings) {
    let lines = old::fstab_lines(&subject.fstab, subject.mount_point());
    for (line, _) in lines.filter(|(line, _)| line.pass > 0) {
        let what = format!(
            "the pass number {} has fsck look at the scratch disk at each boot, which fails without it",
            line.pass
        );
        let cure = "remove the line, or make its last number 0";
        found.add(Error, "fstab-fsck", place(line), what, cure);
    }
}

/// cloud-init wrote it for the machine that was saved, and it comes with the image.
pub(super) fn fstab_cloudconfig(subject: &Subject, found: &mut Findings) {
    let lines = subject.fstab.lines.iter();
    for line in lines.filter(|line| line.is_of_cloud_init()) {
        let what = format!(
            "cloud-init's line is of one machine, and an image takes it to others ({})",
            line.text
        );
        let cure = "remove the line before the image is saved; `vmstage seal` does";
        found.add(Warning, "fstab-cloudconfig", place(line), what, cure);
    }
}

/// A label that vmstage looks for, and that fstab puts elsewhere: the disk ends up at two places.
pub(super) fn fstab_twice(subject: &Subject, found: &mut Findings) {
    for spec in &subject.config.staging.devices {
        let Spec::Label(label) = spec else {
            continue;
        };
        let names = [
            format!("LABEL={label}"),
            format!("LABEL=\"{label}\""),
            format!("/dev/disk/by-label/{label}"),
        ];
        let is_it = |line: &&Line| {
            let source = line.source.as_bytes();
            names.iter().any(|name| name.as_bytes() == source)
        };
        let mount_point = subject.mount_point();
        let lines = subject.fstab.lines.iter().filter(is_it);
        for line in lines.filter(|line| line.mount_point != mount_point) {
            let what = format!(
                "the file system with the label {label} belongs on {}, and this line mounts it on {} as \
                 well",
                mount_point.display(),
                line.mount_point.display()
            );
            let cure = "remove the line, or take the label out of staging.devices";
            found.add(Warning, "fstab-twice", place(line), what, cure);
        }
    }
}
