//! The dry run of the boot sequence's first three steps, for a person.

use std::path::Path;

use log::warn;
use nix::unistd::geteuid;
use serde::Serialize;

use super::configuration;
use crate::cli::{self, Format};
use crate::command::status::verdicts;
use crate::config::Staging;
use crate::disk::choose::choose;
use crate::disk::observation::Observation;
use crate::disk::observe::observe;
use crate::disk::reader::Reader;
use crate::failure::Failure;
use crate::host::{Host, mount_table};
use crate::logging::Notices;
use crate::staging::mount_point;
use crate::staging::staged::find_staged;
use crate::status;
use crate::text;

/// What `probe --format json` prints.
#[derive(Serialize)]
struct Report {
    mount_point: String,
    /// What is mounted there already; `boot` would then look no further.
    already_mounted: Option<String>,
    /// Why `boot` would fail whatever disk there is.
    obstacle: Option<String>,
    /// The device that `boot` would mount.
    chosen: Option<String>,
    /// The blank disk on which `boot` would make a file system first.
    formatted: Option<String>,
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
    root_disk: bool,
    serial: Option<String>,
    mounted_on: Vec<String>,
}

/// Looks, prints, and changes nothing. Fails as `boot` would, but for what only mounting
/// shows.
pub fn run(host: &Host, config_file: Option<&Path>, format: Format) -> Result<(), Failure> {
    let config = configuration::load(host, config_file).map_err(Failure::Config)?;
    if !geteuid().is_root() {
        warn!("not run as root: devices cannot be read, and every verdict may be another one");
    }
    let report = look(host, &config.staging)?;
    let text = match format {
        Format::Json => serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)? + "\n",
        Format::Table => report.table(),
    };
    cli::print(&text)?;
    if let Some(obstacle) = report.obstacle {
        return Err(Failure::Mount(obstacle));
    }
    let usable = [&report.chosen, &report.formatted, &report.already_mounted];
    match usable.into_iter().any(Option::is_some) {
        true => Ok(()),
        false => Err(Failure::NoDevice("no usable disk".into())),
    }
}

fn look(host: &Host, config: &Staging) -> Result<Report, Failure> {
    let mounts = mount_table::read(host)?;
    let mut reader = Reader::default();
    let observed = observe(host, config, &mounts, &mut reader)?;
    let mount_point = config.mount_point.as_path();
    let staged = find_staged(host, config, &mounts, &mut reader, &Notices::default());
    let checked = match &staged {
        Ok(None) => mount_point::check(host, mount_point),
        _ => Ok(()),
    };
    let real = mount_table::real_path(host, mount_point);
    let mut without_it = observed.clone();
    for device in &mut without_it.devices {
        // Mounted somewhere else would speak against it.
        device.mounted_on.retain(|place| *place != real);
    }
    let choice = choose(&config.devices, &without_it);
    let chosen = choice.first_accepted();
    Ok(Report {
        mount_point: mount_point.display().to_string(),
        chosen: chosen.map(|accepted| accepted.node().display().to_string()),
        formatted: choice
            .blank()
            .filter(|_| chosen.is_none())
            .map(|blank| blank.node().display().to_string()),
        verdicts: choice.verdicts.iter().map(Into::into).collect(),
        warnings: choice.warnings.clone(),
        devices: observed.devices.iter().map(Into::into).collect(),
        obstacle: staged
            .as_ref()
            .err()
            .or(checked.as_ref().err())
            .map(|error| format!("{error:#}")),
        already_mounted: staged.ok().flatten().map(|staged| staged.device().into()),
    })
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
                    device.content.clone(),
                    device.mounted_on.join(" "),
                ]
            }),
        );
        for warning in &self.warnings {
            text += &format!("\nwarning: {warning}");
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
        match (&self.already_mounted, &self.chosen) {
            (Some(source), _) => format!("{source} is already mounted on {}", self.mount_point),
            (None, Some(device)) => format!("boot would mount {device} on {}", self.mount_point),
            (None, None) => match &self.formatted {
                Some(device) => format!(
                    "boot would make a file system on {device}, which is blank, and mount it on {}",
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

impl From<&Observation> for Device {
    fn from(observation: &Observation) -> Device {
        Device {
            device: observation.node.display().to_string(),
            size_bytes: observation.size_bytes,
            content: observation.content.to_string(),
            read_only: observation.read_only,
            root_disk: observation.on_root_disk,
            serial: observation.serial.clone(),
            mounted_on: observation
                .mounted_on
                .iter()
                .map(|point| point.display().to_string())
                .collect(),
        }
    }
}
