//! `vmstage plan image`.

use std::fs;
use std::path::Path;

use crate::cli::ImageArgs;
use crate::failure::Failure;
use crate::plan::Answer;
use crate::plan::image::{self, Clouds, Source};
use crate::plan::input::Document;

pub(super) fn plan(arguments: &ImageArgs) -> Result<Answer, Failure> {
    let mut clouds = Clouds::default();
    let mut sources = Vec::new();
    for argument in arguments.files.iter().chain(&arguments.targets) {
        sources.push(source(argument)?);
    }
    let (shown, targets) = sources.split_at(arguments.files.len());
    for source in shown {
        clouds.add(&source.cloud, &Document::read_all(&source.file)?)?;
    }
    for target in targets {
        clouds.add_target(&target.cloud, &Document::read(&target.file)?)?;
    }
    let mut answer = image::answer(clouds, arguments.name.as_deref(), arguments.format)?;
    answer.warnings.extend(image::one_folder_for_all(&sources));
    Ok(answer)
}

/// The folder of a pipe is that of whoever made it.
fn source(argument: &Path) -> Result<Source, Failure> {
    let source = Source::of(argument).map_err(Failure::Usage)?;
    let kind = fs::metadata(argument);
    match kind.is_ok_and(|kind| !kind.is_file() && !kind.is_dir()) {
        true => Err(Failure::Usage(image::of_which_cloud(argument))),
        false => Ok(source),
    }
}
