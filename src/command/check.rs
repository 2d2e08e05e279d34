//! `vmstage check`: what in an image will not work, or is unsafe.

use std::path::Path;

use super::image::{print_json, runs};
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
    let root = Root::open(arguments.root.as_deref().unwrap_or(Path::new("/")));
    let findings =
        root.map(|root| check::findings(&root, runs(&root, host), Init::of(&root, None)));
    match arguments.format {
        StatusFormat::Text => {
            let findings = findings?;
            cli::print(&check::lines(&findings))?;
            Ok(check::exit_code(&findings))
        }
        StatusFormat::Json => {
            print_json(&Document {
                findings: findings.as_deref().unwrap_or_default(),
                error: findings.as_ref().err().map(|e| format!("{e:#}")),
            })?;
            Ok(check::exit_code(&findings?))
        }
    }
}
