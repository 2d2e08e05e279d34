//! `vmstage plan expire`.

use super::now;
use crate::cli::{ExpireArgs, Format};
use crate::failure::Failure;
use crate::plan::Answer;
use crate::plan::expire::{self, Output};
use crate::plan::input::Document;

pub(super) fn plan(arguments: &ExpireArgs) -> Result<Answer, Failure> {
    let now = now::given(arguments.now.as_deref())?;
    let mut documents = Vec::new();
    for file in &arguments.files {
        documents.extend(Document::read_all(file)?);
    }
    let output = match (arguments.format, arguments.commands) {
        (Format::Json, _) => Output::Json,
        (Format::Table, true) => Output::Commands,
        (Format::Table, false) => Output::Table,
    };
    Ok(expire::answer(&documents, output, now)?)
}
