//! `vmstage plan snapshot`.

use super::now;
use crate::cli::SnapshotArgs;
use crate::failure::Failure;
use crate::plan::input::Document;
use crate::plan::{Answer, snapshot};

pub(super) fn plan(arguments: &SnapshotArgs) -> Result<Answer, Failure> {
    if arguments.image.as_os_str() == "-" && arguments.server.as_os_str() == "-" {
        let words = "the image and the server cannot both be read from standard input";
        return Err(Failure::Usage(words.into()));
    }
    let now = now::given(arguments.now.as_deref())?;
    let server = Document::read(&arguments.server)?;
    let image = Document::read(&arguments.image)?;
    Ok(snapshot::answer(&image, &server, arguments.patience, now)?)
}
