//! `vmstage plan image`.

use crate::cli::ImageArgs;
use crate::failure::Failure;
use crate::plan::Answer;
use crate::plan::image::{self, Clouds};
use crate::plan::input::Document;

pub(super) fn plan(arguments: &ImageArgs) -> Result<Answer, Failure> {
    let mut clouds = Clouds::default();
    for argument in &arguments.files {
        let (cloud, file) = image::cloud_and_file(argument).map_err(Failure::Usage)?;
        clouds.add(&cloud, &Document::read_all(&file)?)?;
    }
    for argument in &arguments.targets {
        let (cloud, file) = image::cloud_and_file(argument).map_err(Failure::Usage)?;
        clouds.add_target(&cloud, &Document::read(&file)?)?;
    }
    image::answer(clouds, arguments.name.as_deref())
}
