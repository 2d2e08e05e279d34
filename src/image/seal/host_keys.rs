//! The keys by which sshd is known, and what makes new ones where there are none.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cloud_init;
use super::item::Item;
use super::services::Services;
use crate::image::init::Init;
use crate::image::root::Root;
use crate::image::step::Step;
use crate::image::units;
use crate::order::sort_by;

pub(crate) const SSH: &str = "/etc/ssh";

/// Where nothing makes new ones, sshd would not start any more.
pub(crate) fn item(root: &Root) -> Item {
    let mut item = Item::new("host-keys");
    let keys = item.known(present(root));
    if keys.is_empty() {
        return item;
    }
    match are_made_anew(root) {
        Ok(()) => item.steps = keys.into_iter().map(Step::Remove).collect(),
        Err(why) => item.kept.push(format!(
            "{SSH}/ssh_host_* stay: nothing here makes new ones at boot ({why}), and without any \
             sshd does not start (each machine of the image has the same)"
        )),
    }
    item
}

pub(crate) fn present(root: &Root) -> Result<Vec<PathBuf>> {
    let directory = Path::new(SSH);
    let names = root.names(directory);
    let names = names.with_context(|| root.cannot("read", directory))?;
    let is_key = |name: &str| {
        let name = name.strip_suffix(".pub").unwrap_or(name);
        name.starts_with("ssh_host_") && name.ends_with("_key")
    };
    let keys = names
        .into_iter()
        .filter(|name| name.to_str().is_some_and(is_key));
    Ok(keys.map(|name| directory.join(name)).collect())
}

/// Whether something that runs at boot makes host keys where there are none: cloud-init's ssh
/// module, Red Hat's script of sshd, or a unit for it.
///
/// # Errors
///
/// Why nothing does, as far as it is known.
pub(crate) fn are_made_anew(root: &Root) -> Result<(), String> {
    let boot = Services::of(root);
    let Err(of_cloud_init) = cloud_init::makes_host_keys(&boot) else {
        return Ok(());
    };
    match boot.init {
        Init::Systemd if boot.units.iter().any(|unit| unit_makes_keys(&boot, unit)) => Ok(()),
        Init::Systemd => {
            let mut why = vec![of_cloud_init];
            why.extend(idle_units(root));
            Err(why.join("; "))
        }
        init => {
            let makes_keys = |service: &&str| {
                let script = root.text(format!("{}/{service}", init.scripts()));
                boot.starts(service) && makes_keys(&script)
            };
            match ["sshd", "ssh"].iter().any(makes_keys) {
                true => Ok(()),
                false => Err(format!(
                    "{of_cloud_init}; no script of sshd that is started does"
                )),
            }
        }
    }
}

fn unit_makes_keys(boot: &Services, unit: &str) -> bool {
    let values = |name| units::values(boot.root, unit, name);
    let mut commands = ["ExecStart", "ExecStartPre"].into_iter().flat_map(values);
    // An empty machine id makes no first boot (machine-id(5)).
    let is_for_the_first_boot = || {
        let mut values = values("ConditionFirstBoot").into_iter();
        values.any(|value| ["1", "yes", "y", "true", "t", "on"].contains(&value.as_str()))
    };
    // Red Hat's cloud-init leaves no key to sshd's own units.
    let is_held_back = || {
        let mut values = values("ConditionPathExists").into_iter();
        cloud_init::is_started(boot)
            && values.any(|value| value.starts_with('!') && value.ends_with("cloud-init.target"))
    };
    commands.any(|command| makes_keys(&command)) && !is_for_the_first_boot() && !is_held_back()
}

/// Those that are there for it.
fn idle_units(root: &Root) -> Vec<String> {
    let directories = units::DIRECTORIES.iter();
    let mut names: Vec<String> = directories
        .flat_map(|directory| units::names_in(root, directory))
        .filter(|name| name.contains("keygen") && name.ends_with(".service"))
        .collect();
    sort_by(&mut names, String::cmp);
    names.dedup();
    for name in &mut names {
        *name += " does nothing at boot: not asked for, masked, held back by a condition, or it \
                  makes no keys";
    }
    names
}

/// Whether commands of a shell or a unit make keys: `ssh-keygen -A`, `$KEYGEN -q -t rsa`, or a
/// program that is there for it. With other options it shows them.
fn makes_keys(commands: &str) -> bool {
    let lines = commands
        .lines()
        .filter(|line| !line.trim().starts_with('#'));
    let mut has_program = false;
    for line in lines {
        let mut words = line.split(|c: char| c.is_whitespace() || "\"'`;&|()".contains(c));
        let is_own = |word: &str| {
            let name = word.rsplit(['/', '=']).next().unwrap_or(word);
            let name = name.trim_start_matches(['-', '@', '+', '!', ':']);
            ["sshd-keygen", "sshd-gen-keys", "sshdgenkeys"]
                .iter()
                .any(|own| name.starts_with(own))
        };
        let is_option = |word: &str| {
            let letters = word.strip_prefix('-').unwrap_or_default();
            letters.bytes().all(|b| b.is_ascii_alphabetic()) && letters.contains(['A', 't'])
        };
        has_program |= line.contains("ssh-keygen");
        let runs_it = has_program && line.to_ascii_lowercase().contains("keygen");
        if words.any(|word| is_own(word) || runs_it && is_option(word)) {
            return true;
        }
    }
    false
}
