//! `vmstage plan`: what to launch, decided from what OpenStack's command line printed.

mod expire;
mod image;
mod now;
mod snapshot;

use log::warn;

use crate::cli::{self, Deferred, FlavorArgs, GridArgs, PlanCommand};
use crate::failure::Failure;
use crate::plan::flavor::{self, Ask};
use crate::plan::input::{self, Document};
use crate::plan::{Answer, flavors, grid};
use std::path::{Path, PathBuf};

/// Reads, decides, and prints. The exit code is the decision's.
///
/// # Errors
///
/// That the input cannot be used, with the place in it.
#[inline(never)]
pub fn run(command: &PlanCommand) -> Result<u8, Failure> {
    if files(command)
        .filter(|file| is_standard_input(file))
        .count()
        > 1
    {
        let words = "standard input (-) can be read only once; put one of them into a file";
        return Err(Failure::Usage(words.into()));
    }
    let answer = match command {
        PlanCommand::Flavor(Deferred(arguments)) => plan_flavor(arguments)?,
        PlanCommand::Image(Deferred(arguments)) => image::plan(arguments)?,
        PlanCommand::Snapshot(Deferred(arguments)) => snapshot::plan(arguments)?,
        PlanCommand::Expire(Deferred(arguments)) => expire::plan(arguments)?,
        PlanCommand::Grid(Deferred(arguments)) => plan_grid(arguments)?,
    };
    for warning in &answer.warnings {
        warn!("{warning}");
    }
    cli::print(&answer.text)?;
    Ok(answer.exit_code)
}

/// All that a command reads.
fn files(command: &PlanCommand) -> impl Iterator<Item = &PathBuf> {
    let (files, others): (&[PathBuf], [Option<&PathBuf>; 2]) = match command {
        PlanCommand::Flavor(Deferred(arguments)) => {
            (&arguments.files, [arguments.image.as_ref(), None])
        }
        PlanCommand::Grid(Deferred(arguments)) => {
            (&[], [Some(&arguments.requests), arguments.have.as_ref()])
        }
        PlanCommand::Image(Deferred(arguments)) => (&arguments.files, [None, None]),
        PlanCommand::Snapshot(Deferred(arguments)) => {
            (&[], [Some(&arguments.image), Some(&arguments.server)])
        }
        PlanCommand::Expire(Deferred(arguments)) => (&arguments.files, [None, None]),
    };
    let targets: &[PathBuf] = match command {
        PlanCommand::Image(Deferred(arguments)) => &arguments.targets,
        _ => &[],
    };
    files
        .iter()
        .chain(targets)
        .chain(others.into_iter().flatten())
}

/// `-`, or `CLOUD=-`.
fn is_standard_input(file: &Path) -> bool {
    let text = file.to_string_lossy();
    text == "-" || text.ends_with("=-") && !text.contains('/')
}

fn plan_flavor(arguments: &FlavorArgs) -> Result<Answer, Failure> {
    let mut ask = Ask::from_arguments(arguments).map_err(Failure::Usage)?;
    if let Some(file) = &arguments.image {
        ask.take_image(&Document::read(file)?)?;
    }
    let flavors = flavors::read_some(&read_all(&arguments.files)?)?;
    Ok(flavor::answer(&ask, &flavors, arguments.format))
}

fn plan_grid(arguments: &GridArgs) -> Result<Answer, Failure> {
    let weights = grid::weights(arguments.weights.as_deref());
    let weights = weights.map_err(|e| Failure::Usage(format!("--weights: {e}")))?;
    if !(1..=grid::MOST_FLAVORS).contains(&arguments.flavors) {
        return Err(Failure::Usage(format!(
            "--flavors: a number from 1 to {} is expected",
            grid::MOST_FLAVORS
        )));
    }
    let have = match &arguments.have {
        // A new cloud has none.
        Some(file) => flavors::read(&read_all(std::slice::from_ref(file))?)?,
        None => Vec::new(),
    };
    let file = &arguments.requests;
    Ok(grid::answer(
        &input::name(file),
        input::open(file)?,
        arguments.flavors as usize,
        &weights,
        &have,
        arguments.format,
    )?)
}

fn read_all(files: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in files {
        documents.extend(Document::read_all(file)?);
    }
    Ok(documents)
}
