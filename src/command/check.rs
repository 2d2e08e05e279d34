//! `vmstage check`: what in an image will not work, or is unsafe.

use std::path::Path;

use super::image::runs;
use crate::cli::{self, CheckArgs, StatusFormat};
use crate::failure::Failure;
use crate::host::Host;
use crate::image::check::{self, Document};
use crate::image::init::Init;
use crate::image::root::Root;

/// Looks, prints, and changes nothing. Returns 0, or 10 where there are warnings, or 11 where
/// there are errors.
///
/// # Errors
///
/// That there is nothing that could be looked at.
pub fn run(host: &Host, arguments: &CheckArgs) -> Result<u8, Failure> {
    let root = arguments.root.as_deref().unwrap_or(Path::new("/"));
    let root = Root::open(root)?;
    let findings = check::findings(&root, runs(&root, host), Init::of(&root, None));
    let text = match arguments.format {
        StatusFormat::Text => check::lines(&findings),
        StatusFormat::Json => {
            let document = Document {
                findings: &findings,
            };
            serde_json::to_string_pretty(&document).map_err(anyhow::Error::from)? + "\n"
        }
    };
    cli::print(&text)?;
    Ok(check::exit_code(&findings))
}
