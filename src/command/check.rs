//! `vmstage check`: what in an image will not work, or is unsafe.

use std::path::Path;

use log::error;

use super::image::{print_json, runs};
use crate::cli::{self, CheckArgs, StatusFormat};
use crate::failure::Failure;
use crate::host::Host;
use crate::host::silent::{self, Expected};
use crate::image::check::{self, Document, Finding, Severity};
use crate::image::init::Init;
use crate::image::root::Root;

/// Looks, prints, and changes nothing. Returns 0, or 10 where there are warnings, or 11 where
/// there are errors.
///
/// # Errors
///
/// That there is nothing that could be looked at.
#[inline(never)]
pub fn run(host: &Host, arguments: &CheckArgs) -> Result<u8, Failure> {
    silent::expect(host, Expected::BesideTheRoot);
    let root = Root::open(arguments.root.as_deref().unwrap_or(Path::new("/")));
    let findings =
        root.map(|root| check::findings(&root, runs(&root, host), Init::of(&root, None)));
    match arguments.format {
        StatusFormat::Text => {
            let findings = findings?;
            cli::print(&check::lines(&findings))?;
            Ok(conclude(&findings))
        }
        StatusFormat::Json => {
            print_json(&Document {
                findings: findings.as_deref().unwrap_or_default(),
                error: findings.as_ref().err().map(|e| format!("{e:#}")),
            })?;
            Ok(conclude(&findings?))
        }
    }
}

/// The exit code, and on standard error why it is not 0.
fn conclude(findings: &[Finding]) -> u8 {
    let count = |severity| {
        findings
            .iter()
            .filter(|one| one.severity == severity)
            .count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if errors + warnings > 0 {
        error!("not all is well (errors: {errors}, warnings: {warnings}): each says what to do");
    }
    check::exit_code(findings)
}
