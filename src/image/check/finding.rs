//! A finding, and what is printed of it.

use serde::Serialize;

use crate::text;

/// One thing that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// The same in each version.
    pub id: &'static str,
    pub severity: Severity,
    /// A path, as the image has it; with the number of a line, where there is one.
    pub place: String,
    pub what: String,
    #[serde(rename = "do")]
    pub cure: String,
}

/// The worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Error,
    Warning,
    Note,
}

/// What was found, while rules look.
#[derive(Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn add(
        &mut self,
        severity: Severity,
        id: &'static str,
        place: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.0.push(Finding {
            id,
            severity,
            place: place.into(),
            what: what.into(),
            cure: cure.into(),
        });
    }

    /// The worst first; of equals in the order in which they were found.
    pub(super) fn sorted(self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut left = self.0;
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            let (these, others) = left.into_iter().partition(|one| one.severity == severity);
            findings.extend::<Vec<Finding>>(these);
            left = others;
        }
        findings
    }
}

/// 0 where there is nothing but notes, 10 where there are warnings, 11 where there are errors.
pub(crate) fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.severity).min() {
        Some(Severity::Error) => 11,
        Some(Severity::Warning) => 10,
        Some(Severity::Note) | None => 0,
    }
}

/// A line each: `error old-fstab /etc/fstab:2: … ; do: …`.
pub(crate) fn lines(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let line = format!(
            "{severity} {} {}: {}; do: {}",
            finding.id, finding.place, finding.what, finding.cure
        );
        text::printable(&line) + "\n"
    });
    lines.collect()
}

/// For scripts.
#[derive(Serialize)]
pub(crate) struct Document<'a> {
    pub findings: &'a [Finding],
    /// Why nothing could be looked at.
    pub error: Option<String>,
}
