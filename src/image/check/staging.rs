//! The mount point, and the directories that are to be made there.

use super::enabled::has_directory;
use super::finding::Findings;
use super::finding::Severity::{Error, Note, Warning};
use super::subject::Subject;
use crate::config::Account;
use crate::host::accounts::{self, Accounts, Database};
use crate::host::regular_file::MIB;
use crate::image::below;
use crate::image::files::{CONFIGURATION, mount_unit};
use crate::image::init::Init;
use crate::image::root::Kind;
use crate::text;

/// A directory whose owner is nobody makes a boot fail (exit code 5).
pub(super) fn no_owner(subject: &Subject, found: &mut Findings) {
    let mut told: Vec<(bool, &Account)> = Vec::new();
    for directory in &subject.config.directories {
        for (is_user, account) in [(true, &directory.owner), (false, &directory.group)] {
            let Some(account) = account else {
                continue;
            };
            if told.contains(&(is_user, account)) || is_known(subject, is_user, account) {
                continue;
            }
            told.push((is_user, account));
            let kind = if is_user { "user" } else { "group" };
            let what = format!(
                "the directory {} is to belong to the {kind} {account}, and there is no such {kind}",
                directory.path.as_path().display()
            );
            let cure = "create it (with HTCondor's package), or set another in the configuration";
            // LDAP or sssd may know it, once the machine runs.
            let severity = match asks_others(subject, is_user) && subject.host.is_none() {
                true => Note,
                false => Error,
            };
            found.add(severity, "no-owner", CONFIGURATION, what, cure);
        }
    }
}

fn is_known(subject: &Subject, is_user: bool, account: &Account) -> bool {
    let Account::Name(name) = account else {
        return true;
    };
    if let Some(host) = subject.host {
        let database = match is_user {
            true => Database::Users,
            false => Database::Groups,
        };
        return Accounts::of(host).number(database, Some(account)).is_ok();
    }
    let (file, made_at_boot) = match is_user {
        true => ("passwd", &["u", "u!"][..]),
        // systemd-sysusers makes a group for each user.
        false => ("group", &["u", "u!", "g"][..]),
    };
    let is_listed = |directory: &str| {
        let path = format!("{directory}/{file}");
        let content = subject.root.read(path.as_ref(), 16 * MIB).ok().flatten();
        let content = content.unwrap_or_default();
        accounts::number_in(&String::from_utf8_lossy(&content), name).is_some()
    };
    let is_made = |path: String| {
        subject.text(path).lines().any(|line| {
            let mut words = line.split_whitespace();
            let is_one = words
                .next()
                .is_some_and(|word| made_at_boot.contains(&word));
            is_one && words.next() == Some(name)
        })
    };
    let sysusers = ["/etc/sysusers.d", "/usr/lib/sysusers.d"];
    is_listed("/etc")
        || is_listed("/usr/lib")
        || subject.init == Init::Systemd
            && sysusers
                .iter()
                .flat_map(|d| subject.paths_in(d))
                .any(is_made)
}

/// Whether accounts may come from elsewhere than from files (nsswitch.conf(5)).
fn asks_others(subject: &Subject, is_user: bool) -> bool {
    let database = if is_user { "passwd:" } else { "group:" };
    let text = subject.text("/etc/nsswitch.conf");
    let services = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(database));
    let local = ["files", "compat", "systemd", "altfiles", "db"];
    let mut services = services.flat_map(str::split_whitespace);
    services.any(|service| !local.contains(&service) && !service.starts_with('['))
}

/// It is in the image for ever, and nobody sees it once the scratch disk is mounted.
pub(super) fn below_mount(subject: &Subject, found: &mut Findings) {
    let mount_point = subject.mount_point();
    // What cannot be looked behind is no fault of the image's.
    let lying = below::look(subject.root, mount_point).unwrap_or_default();
    if lying.is_empty() {
        return;
    }
    let names: Vec<String> = lying
        .iter()
        .take(5)
        .filter_map(|one| {
            let name = one.path.file_name()?;
            Some(name.to_string_lossy().into_owned())
        })
        .collect();
    let what = format!(
        "{} on the root disk in {} ({}{}), which the scratch disk hides",
        text::bytes(lying.iter().map(|one| one.bytes).sum()),
        counted(lying.len()),
        names.join(", "),
        if lying.len() > names.len() {
            ", …"
        } else {
            ""
        }
    );
    let cure = "move or remove it; `vmstage seal` removes what is empty";
    found.add(
        Warning,
        "below-mount",
        mount_point.to_string_lossy(),
        what,
        cure,
    );
}

fn counted(files: usize) -> String {
    match files {
        1 => "1 file or directory".into(),
        many => format!("{many} files or directories"),
    }
}

/// The scratch disk would be mounted elsewhere.
pub(super) fn mount_point(subject: &Subject, found: &mut Findings) {
    let mount_point = subject.mount_point();
    let kind = subject.root.entry_itself(mount_point).ok().flatten();
    let what = match kind.map(|entry| entry.kind) {
        None | Some(Kind::Directory) => return,
        Some(Kind::Link) => "the mount point is a link: boot refuses it (exit code 4)",
        Some(Kind::File | Kind::Other) => "the mount point is no directory: boot refuses it",
    };
    let cure = "remove it, boot makes the directory; or name another in staging.mount_point";
    found.add(
        Error,
        "mount-point",
        mount_point.to_string_lossy(),
        what,
        cure,
    );
}

/// At shutdown jobs would not end before the disk is unmounted.
pub(super) fn staging_mount_name(subject: &Subject, found: &mut Findings) {
    const DIRECTORIES: [&str; 3] = [
        "/usr/lib/systemd/system/condor.service.d",
        "/lib/systemd/system/condor.service.d",
        "/etc/systemd/system/condor.service.d",
    ];
    let unit = mount_unit(subject.mount_point());
    let drop_ins = DIRECTORIES.iter().flat_map(|d| subject.paths_in(d));
    let mut drop_ins: Vec<(String, String)> = drop_ins
        .filter(|path| path.ends_with(".conf"))
        .map(|path| (subject.text(&path), path))
        .collect();
    let is_named = drop_ins.iter().any(|(text, _)| orders_after(text, &unit));
    drop_ins.retain(|(text, path)| path.ends_with("/vmstage.conf") && text.contains(".mount"));
    let Some((_, path)) = drop_ins.first().filter(|_| !is_named) else {
        return;
    };
    if subject.init == Init::Systemd
        && has_directory(subject, "/etc/systemd")
        && !subject.config_is_wrong
    {
        let what = format!(
            "it orders condor after the mount of another place than {}",
            subject.mount_point().display()
        );
        let cure = format!(
            "add /etc/systemd/system/condor.service.d/staging.conf with [Unit] After={unit}"
        );
        found.add(Warning, "staging-mount-name", path.as_str(), what, cure);
    }
}

fn orders_after(unit: &str, other: &str) -> bool {
    let mut after = unit
        .lines()
        .filter_map(|line| line.trim().strip_prefix("After="));
    after.any(|names| names.split_whitespace().any(|name| name == other))
}
