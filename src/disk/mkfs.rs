//! Making a file system on a blank disk, with the guest's own mkfs.

use std::process::Command;

use anyhow::{Context, Result, bail};
use log::info;

use super::blank::{self, Found};
use super::choose::Blank;
use super::signature::{self, Content};
use crate::config::{Filesystem, Staging};
use crate::host::bounded::{self, Limit};
use crate::host::{Host, program};

/// What a disk that was blank is called from then on.
pub(crate) const LABEL: &str = "ephemeral0";

/// Makes a file system labelled [`LABEL`]. `limit` is asked for a new time limit at each
/// step.
///
/// # Errors
///
/// That there is no such `mkfs` in the guest, that the disk is not blank any more, or does
/// not answer; what mkfs said where it failed.
pub(crate) fn make(
    host: &Host,
    blank: &Blank,
    config: &Staging,
    limit: impl Fn() -> Limit,
) -> Result<()> {
    let (node, filesystem) = (blank.node(), config.filesystem);
    let name = format!("mkfs.{filesystem}");
    let Some(program) = program::find(host, &name) else {
        bail!(
            "cannot make {filesystem} on {}: there is no {name} in this system; install it or set staging.format = \"never\"",
            node.display()
        );
    };
    info!("{} is blank: making {filesystem} on it", node.display());
    see_that_it_is_blank(host, blank, limit())?;
    let mut command = Command::new(&program);
    command.args(arguments(filesystem)).arg(host.path(node));
    let done = program::run(command, limit())
        .with_context(|| format!("{} on {}", program.display(), node.display()))?;
    if !done.status.success() {
        bail!(
            "{} on {} failed ({}): {}",
            program.display(),
            node.display(),
            done.status,
            done.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
        );
    }
    Ok(())
}

/// Once more, and right before: all disks were looked at since, and that can take long.
fn see_that_it_is_blank(host: &Host, blank: &Blank, limit: Limit) -> Result<()> {
    let (node, path, number) = (blank.node(), host.path(blank.node()), blank.number());
    let seen = bounded::run(limit, &[], || {
        let claimed = signature::claim(&path, number)
            .map_err(|e| format!("cannot have {} alone: {e}", node.display()))?;
        let content = signature::read(&path).content;
        if content != Content::Nothing {
            return Err(format!(
                "{} was blank and now has {content} on it",
                node.display()
            ));
        }
        match blank::scan(&claimed, blank::SAMPLING) {
            Ok(Found::Zeros { .. }) => Ok(()),
            Ok(something) => Err(format!(
                "{} was blank and is not any more: {something}",
                node.display()
            )),
            Err(e) => Err(format!("{} cannot be read: {e}", node.display())),
        }
    });
    seen.with_context(|| format!("{} does not answer", node.display()))?
        .map_err(anyhow::Error::msg)
}

fn arguments(filesystem: Filesystem) -> &'static [&'static str] {
    match filesystem {
        // -F: a whole disk is meant, and there is nobody to confirm that.
        Filesystem::Ext2 | Filesystem::Ext3 | Filesystem::Ext4 => &["-q", "-F", "-L", LABEL],
        Filesystem::Xfs | Filesystem::Btrfs => &["-q", "-L", LABEL],
    }
}
