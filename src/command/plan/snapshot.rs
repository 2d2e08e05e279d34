//! `vmstage plan snapshot`.

use super::now;
use crate::cli::SnapshotArgs;
use crate::failure::Failure;
use crate::plan::input::Document;
use crate::plan::{Answer, snapshot};

pub(super) fn plan(arguments: &SnapshotArgs) -> Result<Answer, Failure> {
    let now = now::given(arguments.now.as_deref())?;
    let server = Document::read(&arguments.server)?;
    let image = Document::read(&arguments.image)?;
    Ok(snapshot::answer(
        &image,
        &server,
        arguments.patience,
        now,
        arguments.format,
    )?)
}
