//! `vmstage plan`: what to launch, decided from what OpenStack's command line printed.

mod expire;
mod image;
mod now;
mod snapshot;

use log::warn;

use crate::cli::{self, FlavorArgs, PlanCommand};
use crate::failure::Failure;
use crate::plan::flavor::{self, Ask};
use crate::plan::input::Document;
use crate::plan::{Answer, flavors};

/// Reads, decides, and prints. The exit code is the decision's.
pub fn run(command: &PlanCommand) -> Result<u8, Failure> {
    let answer = match command {
        PlanCommand::Flavor(arguments) => plan_flavor(arguments)?,
        PlanCommand::Image(arguments) => image::plan(arguments)?,
        PlanCommand::Snapshot(arguments) => snapshot::plan(arguments)?,
        PlanCommand::Expire(arguments) => expire::plan(arguments)?,
    };
    for warning in &answer.warnings {
        warn!("{warning}");
    }
    cli::print(&answer.text)?;
    Ok(answer.exit_code)
}

fn plan_flavor(arguments: &FlavorArgs) -> Result<Answer, Failure> {
    let mut ask = Ask::from_arguments(arguments).map_err(Failure::Usage)?;
    if let Some(file) = &arguments.image {
        ask.take_image(&Document::read(file)?)?;
    }
    let mut documents = Vec::new();
    for file in &arguments.files {
        documents.extend(Document::read_all(file)?);
    }
    let flavors = flavors::read(&documents)?;
    Ok(flavor::answer(&ask, &flavors, arguments.format))
}
