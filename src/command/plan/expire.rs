//! `vmstage plan expire`.

use super::now;
use crate::cli::ExpireArgs;
use crate::failure::Failure;
use crate::plan::Answer;
use crate::plan::expire::{self, Commands};
use crate::plan::input::Document;

pub(super) fn plan(arguments: &ExpireArgs) -> Result<Answer, Failure> {
    let now = now::given(arguments.now.as_deref())?;
    let mut documents = Vec::new();
    for file in &arguments.files {
        documents.extend(Document::read_all(file)?);
    }
    let commands = match arguments.commands {
        true => Commands::Delete,
        false => Commands::None,
    };
    Ok(expire::answer(&documents, commands, now)?)
}
