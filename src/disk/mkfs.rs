//! Making a file system on a blank disk, with the guest's own mkfs.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use log::info;

use super::choose::Blank;
use super::signature::{self, Content};
use crate::config::Filesystem;
use crate::host::program;

/// What a disk that was blank is called from then on.
pub const LABEL: &str = "ephemeral0";

/// Makes a file system labelled [`LABEL`]. Without this `mkfs` in the guest, an error
/// that says so; and one where the disk is not blank any more.
pub fn make(blank: &Blank, filesystem: Filesystem) -> Result<()> {
    let name = format!("mkfs.{filesystem}");
    let Some(program) = program::find(&name) else {
        bail!(
            "cannot make {filesystem} on {}: there is no {name} in this system; install it or set staging.format = \"never\"",
            blank.node().display()
        );
    };
    info!(
        "{} is blank: making {filesystem} on it",
        blank.node().display()
    );
    see_that_it_is_blank(blank)?;
    let output = Command::new(&program)
        .args(arguments(filesystem))
        .arg(blank.node())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} on {} failed ({}): {}",
            program.display(),
            blank.node().display(),
            output.status,
            said.split_whitespace().collect::<Vec<_>>().join(" ")
        );
    }
    Ok(())
}

/// Once more, and right before: all disks were looked at since, and that can take long.
fn see_that_it_is_blank(blank: &Blank) -> Result<()> {
    let node = blank.node();
    let _claimed = signature::claim(node, blank.number())
        .with_context(|| format!("cannot have {} alone", node.display()))?;
    let content = signature::read(node).content;
    if content != Content::Nothing {
        bail!("{} was blank and now has {content} on it", node.display());
    }
    if !signature::is_zero(node)? {
        bail!("{} was blank and is not any more", node.display());
    }
    Ok(())
}

fn arguments(filesystem: Filesystem) -> &'static [&'static str] {
    match filesystem {
        // -F: a whole disk is meant, and there is nobody to confirm that.
        Filesystem::Ext2 | Filesystem::Ext3 | Filesystem::Ext4 => &["-q", "-F", "-L", LABEL],
        Filesystem::Xfs | Filesystem::Btrfs => &["-q", "-L", LABEL],
    }
}
