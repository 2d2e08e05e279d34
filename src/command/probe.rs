//! The dry run of the boot sequence's first three steps, for a person.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use log::warn;
use nix::unistd::geteuid;
use serde::Serialize;

use super::configuration;
use crate::cli::{self, Format};
use crate::command::status::verdicts;
use crate::config::Config;
use crate::disk::choose::{Accepted, Part, Task, choose};
use crate::disk::identity::Identity;
use crate::disk::inventory::System;
use crate::disk::observation::{Observation, Observed};
use crate::disk::reader::Reader;
use crate::failure::Failure;
use crate::host::Host;
use crate::host::mount_table;
use crate::host::silent::{self, Expected};
use crate::logging::Notices;
use crate::staging::by_somebody;
use crate::staging::limits::{FOR_A_LOOK, LOOK_RETRY};
use crate::staging::look::observe_and_choose;
use crate::staging::mount_point;
use crate::staging::staged::{find_staged, is_on_demand};
use crate::status;
use crate::text;

/// What `probe --format json` prints.
#[derive(Serialize)]
struct Report {
    mount_point: String,
    /// What is mounted there already; `boot` would then look no further.
    already_mounted: Option<String>,
    /// What belongs there is mounted when `boot` opens it; `probe` does not.
    mounted_on_demand: bool,
    /// Why `boot` would fail whatever disk there is.
    obstacle: Option<String>,
    /// The device that `boot` would mount.
    chosen: Option<String>,
    /// What it is and why it may be used, as `boot` says it of what is staged.
    known_by: Option<String>,
    /// The disk on which `boot` would make a file system first.
    formatted: Option<String>,
    /// The disks of which `boot` would make one first, or that it would put together to one.
    combined: Vec<String>,
    /// They are an array already, and nothing is written to them.
    #[serde(skip)]
    is_array: bool,
    verdicts: Vec<status::Verdict>,
    warnings: Vec<String>,
    /// Every block device that was looked at.
    devices: Vec<Device>,
}

#[derive(Serialize)]
struct Device {
    device: String,
    size_bytes: u64,
    content: String,
    read_only: bool,
    system_disk: bool,
    identity: Option<String>,
    /// The disks that an array is made of.
    made_of: Vec<String>,
    mounted_on: Vec<String>,
}

/// Looks, prints, and changes nothing. Fails as `boot` would, but for what only mounting
/// shows.
///
/// # Errors
///
/// That the configuration is wrong, that nothing could be mounted, or that there is no usable disk.
#[inline(never)]
pub fn run(host: &Host, config_file: Option<&Path>, format: Format) -> Result<(), Failure> {
    silent::expect(host, Expected::BesideTheRoot);
    let config = configuration::load(host, config_file).map_err(Failure::Config)?;
    if !geteuid().is_root() {
        warn!("not run as root: devices cannot be read, and every verdict may be another one");
    }
    let start = Instant::now();
    let report = loop {
        let (report, observed) = look(host, &config)?;
        if !observed.is_waiting_for_another() || start.elapsed() >= FOR_A_LOOK {
            break report;
        }
        sleep(LOOK_RETRY);
    };
    let text = match format {
        Format::Json => {
            let json = serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?;
            text::printable_json(&json) + "\n"
        }
        Format::Table => report.table(),
    };
    cli::print(&text)?;
    if let Some(obstacle) = report.obstacle {
        return Err(Failure::Mount(obstacle));
    }
    let usable = [&report.chosen, &report.formatted, &report.already_mounted];
    let is_combined = !report.combined.is_empty();
    match report.mounted_on_demand || is_combined || usable.into_iter().any(Option::is_some) {
        true => Ok(()),
        false => Err(Failure::NoDevice("no usable disk".into())),
    }
}

fn look(host: &Host, config: &Config) -> Result<(Report, Observed), Failure> {
    let (staging, mount_point) = (&config.staging, config.staging.mount_point.as_path());
    let mounts = mount_table::read(host)?;
    let mut reader = Reader::default();
    let notices = Notices::default();
    let mounted_on_demand = is_on_demand(host, staging, &mounts);
    let staged = match mounted_on_demand {
        true => Ok(None),
        false => find_staged(host, staging, &mounts, &mut reader, &notices),
    };
    let checked = match &staged {
        Ok(None) if !mounted_on_demand => mount_point::check(host, mount_point),
        _ => Ok(()),
    };
    let real = mount_table::real_path(host, mount_point);
    let (mut observed, mut choice) = observe_and_choose(host, config, &mounts, &mut reader)?;
    if let Ok(Some(staged)) = &staged {
        // What is mounted is not marked as unmounted, which tells nothing of it.
        let number = host.block_number(Path::new(staged.device()));
        let devices = observed.devices.iter_mut();
        devices
            .filter(|device| Some(device.number) == number)
            .for_each(Observation::forget_that_it_is_unclean);
        choice = choose(&staging.devices, staging.format, &observed);
    }
    let mut devices: Vec<Device> = observed.devices.iter().map(Into::into).collect();
    for mount in mounts.iter().filter(|mount| mount.mount_point == real) {
        let number = host.block_number(&mount.source);
        let seen = observed.devices.iter().zip(&mut devices);
        for (_, device) in seen.filter(|(seen, _)| Some(seen.number) == number) {
            device.mounted_on.push(real.display().to_string());
        }
    }
    let at_once = choice.to_assemble_at_once();
    let chosen = choice.first_accepted().filter(|_| at_once.is_none());
    let combined = at_once.or(choice.to_be_one().filter(|_| chosen.is_none()));
    let mut warnings = notices.all();
    warnings.extend(choice.warnings.clone());
    if let Ok(Some(staged)) = &staged
        && let Some(number) = by_somebody::put_there_by_its_name(host, mount_point, staged)
    {
        warnings.extend(by_somebody::suspicion(config, staged, number, &observed));
    }
    let report = Report {
        mount_point: mount_point.display().to_string(),
        chosen: chosen.map(|accepted| accepted.node().display().to_string()),
        known_by: chosen.map(Accepted::known_by),
        formatted: choice
            .to_be_made()
            .filter(|_| chosen.is_none() && combined.is_none())
            .map(|one| one.node().display().to_string()),
        combined: combined.map_or_else(Vec::new, |stripe| {
            let nodes = stripe.parts().iter().map(Part::node);
            nodes.map(|node| node.display().to_string()).collect()
        }),
        is_array: combined.is_some_and(|stripe| matches!(stripe.task(), Task::Assemble(_))),
        verdicts: choice.verdicts.iter().map(Into::into).collect(),
        warnings,
        devices,
        mounted_on_demand,
        obstacle: staged
            .as_ref()
            .err()
            .or(checked.as_ref().err())
            .map(|error| format!("{error:#}")),
        already_mounted: staged.ok().flatten().map(|staged| staged.device().into()),
    };
    Ok((report, observed))
}

impl Report {
    fn table(&self) -> String {
        let mut text = verdicts(&self.verdicts);
        text += "\n";
        text += &text::table(
            &["DEVICE", "SIZE", "CONTENT", "MOUNTED ON"],
            self.devices.iter().map(|device| {
                [
                    device.device.clone(),
                    text::bytes(device.size_bytes),
                    device.content_in_words(),
                    device.mounted_on.join(" "),
                ]
            }),
        );
        for warning in &self.warnings {
            text += &format!("\nwarning: {}", text::one_line(warning));
        }
        text + &format!("\n{}\n", self.conclusion())
    }

    fn conclusion(&self) -> String {
        if let Some(obstacle) = &self.obstacle {
            return format!(
                "boot would mount nothing on {}: {obstacle}",
                self.mount_point
            );
        }
        if self.mounted_on_demand {
            return format!(
                "boot would use what is mounted on {} on demand",
                self.mount_point
            );
        }
        if self.already_mounted.is_none() && !self.combined.is_empty() {
            let disks: Vec<PathBuf> = self.combined.iter().map(PathBuf::from).collect();
            let disks = text::all_of(&disks);
            let would = match self.is_array {
                true => format!("put the array of {disks} together"),
                false => format!("make {disks} one disk"),
            };
            return format!("boot would {would}, and mount it on {}", self.mount_point);
        }
        match (&self.already_mounted, &self.chosen) {
            (Some(source), _) => format!("{source} is already mounted on {}", self.mount_point),
            (None, Some(device)) => format!(
                "boot would mount {device} ({}) on {}",
                self.known_by.as_deref().unwrap_or_default(),
                self.mount_point
            ),
            (None, None) => match &self.formatted {
                Some(device) => format!(
                    "boot would make a file system on {device}, and mount it on {}",
                    self.mount_point
                ),
                None => format!(
                    "boot would mount nothing on {}: no usable disk",
                    self.mount_point
                ),
            },
        }
    }
}

impl Device {
    /// `ext4 LABEL=ephemeral0, made of /dev/nvme0n1 and /dev/nvme1n1`
    fn content_in_words(&self) -> String {
        match &self.made_of[..] {
            [] => self.content.clone(),
            disks => format!("{}, made of {}", self.content, disks.join(" and ")),
        }
    }
}

impl From<&Observation> for Device {
    fn from(observation: &Observation) -> Device {
        Device {
            device: observation.node.display().to_string(),
            size_bytes: observation.size_bytes,
            content: observation.content.to_string(),
            read_only: observation.read_only,
            system_disk: observation.system != System::Elsewhere,
            identity: match &observation.identity {
                Identity::Unknown => None,
                known => Some(known.to_string()),
            },
            made_of: in_text(&observation.made_of),
            mounted_on: in_text(&observation.mounted_on),
        }
    }
}

fn in_text(paths: &[PathBuf]) -> Vec<String> {
    let texts = paths.iter().map(|path| path.display().to_string());
    texts.collect()
}
