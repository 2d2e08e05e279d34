//! What in an image will not work, or is unsafe. Nothing is changed, and nothing of the image
//! is run.

mod condor;
mod configuration;
mod enabled;
mod finding;
mod fstab;
mod leftover;
mod old;
mod program;
mod reach;
mod staging;
mod subject;
mod tools;

use super::init::Init;
use super::root::Root;
use crate::host::Host;

pub(crate) use finding::{Document, Finding, Severity, exit_code, lines};

use finding::Findings;
use subject::Subject;

/// Each of them looks for one kind of fault.
const RULES: &[fn(&Subject, &mut Findings)] = &[
    reach::unreachable_paths,
    configuration::config,
    configuration::config_token,
    fstab::old_fstab,
    fstab::old_fstab_below,
    fstab::old_mount_unit,
    fstab::fstab_fsck,
    fstab::fstab_cloudconfig,
    fstab::fstab_twice,
    old::old_script,
    old::old_scripts_by_bare_name,
    old::old_rc_local,
    old::old_elsewhere,
    enabled::no_init,
    enabled::is_started_once,
    enabled::depend_stale,
    enabled::order_condor,
    enabled::preset,
    enabled::not_started,
    condor::condor_unguarded,
    condor::overruled,
    condor::condor_alone,
    staging::no_owner,
    staging::below_mount,
    staging::mount_point,
    staging::staging_mount_name,
    program::other_version,
    program::foreign_arch,
    program::selinux,
    tools::no_mkfs,
    tools::no_mdadm,
    tools::no_driver,
    leftover::what_seal_would_remove,
    reach::silent_places,
];

/// All that is wrong with a system that this init starts, the worst first. `host` is the machine,
/// where this system is the one that runs.
pub(crate) fn findings(root: &Root, host: Option<&Host>, init: Init) -> Vec<Finding> {
    let subject = Subject::of(root, host, init);
    let mut found = Findings::default();
    for rule in RULES {
        rule(&subject, &mut found);
    }
    found.sorted()
}

#[cfg(test)]
mod tests;
