//! Making a file system, with the guest's own mkfs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use log::info;

use super::blank::{self, Found};
use super::choose::{InPlaceOf, ToBeMade};
use super::making::{self, LABEL, Making};
use super::signature;
use crate::config::{Filesystem, Staging};
use crate::host::bounded::{self, Limit};
use crate::host::{Host, kernel_file, program, sysfs};

/// Makes a file system labelled [`LABEL`]. `limit` is asked for a new time limit at each
/// step.
///
/// # Errors
///
/// That there is no such `mkfs` in the guest, that the disk is not any more what it was, or
/// does not answer; what mkfs said where it failed.
pub(crate) fn make(
    host: &Host,
    to_be_made: &ToBeMade,
    config: &Staging,
    limit: impl Fn() -> Limit,
) -> Result<()> {
    let (node, filesystem) = (to_be_made.node(), config.filesystem);
    let program = find(host, to_be_made, filesystem)?;
    info!("making {filesystem} on {}", node.display());
    see_that_it_is_as_it_was(host, to_be_made, limit())?;
    let uuid = kernel_file::random_uuid().context("cannot draw a UUID")?;
    let kernel_name = sysfs::kernel_name(host, to_be_made.number()).unwrap_or_default();
    let (size, array) = (to_be_made.size_bytes(), to_be_made.array());
    Making::of(host, &kernel_name, size, &uuid, array)
        .write(host)
        .context("cannot write down that a file system is being made")?;
    // mkfs gets what is open, not a name that may lead elsewhere by now.
    let run = |uuid: Option<&str>| {
        let mut command = Command::new(&program);
        command
            .args(arguments(filesystem, uuid))
            .arg("/proc/self/fd/0");
        let open = &mut |command: &mut Command| {
            let device = signature::open_node(&host.path(node), to_be_made.number())?;
            command.stdin(device);
            Ok(())
        };
        program::run_well_after(open, command, limit())
    };
    // Those of 2007 cannot be told the UUID.
    let made =
        run(Some(&uuid)).or_else(|error| match error.to_string().contains("invalid option") {
            true => run(None),
            false => Err(error),
        });
    made.with_context(|| format!("{} on {}", program.display(), node.display()))?;
    making::forget(host)
}

/// What the program is called that makes a file system of this kind.
pub(super) fn name(filesystem: Filesystem) -> String {
    format!("mkfs.{filesystem}")
}

/// The guest's program that makes a file system of this kind.
///
/// # Errors
///
/// That there is none.
pub(crate) fn find(host: &Host, to_be_made: &ToBeMade, filesystem: Filesystem) -> Result<PathBuf> {
    let name = name(filesystem);
    let Some(program) = program::find(host, &name) else {
        bail!(
            "cannot make {filesystem} on {}: there is no {name} in this system; install it or set staging.format = \"never\"",
            to_be_made.node().display()
        );
    };
    Ok(program)
}

/// Once more, and right before: all disks were looked at since, and that can take long.
fn see_that_it_is_as_it_was(host: &Host, to_be_made: &ToBeMade, limit: Limit) -> Result<()> {
    let (node, number) = (to_be_made.node(), to_be_made.number());
    let path = host.path(node);
    let seen = bounded::run(limit, &[], || {
        let claimed = signature::claim(&path, number)
            .map_err(|e| format!("cannot have {} alone: {e}", node.display()))?;
        let reading = signature::read(&path);
        if !to_be_made.is_of(&reading.content, reading.uuid.as_deref()) {
            return Err(format!(
                "{} is not what it was: it now has {} on it",
                node.display(),
                reading.content
            ));
        }
        if to_be_made.in_place_of() != &InPlaceOf::Nothing {
            return Ok(());
        }
        match blank::scan(&claimed, blank::SAMPLES, || ()) {
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

fn arguments(filesystem: Filesystem, uuid: Option<&str>) -> Vec<String> {
    let given = |option: &str, value: &str| vec![option.to_string(), value.to_string()];
    // -F and -f: a whole disk is meant, there is nobody to confirm that, and what is on it was
    // looked at.
    let (force, uuid) = match filesystem {
        Filesystem::Ext2 | Filesystem::Ext3 | Filesystem::Ext4 => {
            ("-F", uuid.map(|uuid| given("-U", uuid)))
        }
        Filesystem::Xfs => ("-f", uuid.map(|uuid| given("-m", &format!("uuid={uuid}")))),
        Filesystem::Btrfs => ("-f", uuid.map(|uuid| given("-U", uuid))),
    };
    let mut arguments = vec!["-q".to_string(), force.into()];
    arguments.extend(given("-L", LABEL));
    arguments.extend(uuid.into_iter().flatten());
    arguments
}
