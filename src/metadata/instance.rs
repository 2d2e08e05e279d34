//! Who this VM is, and what became of asking.

use serde::{Deserialize, Serialize};

/// Who this VM is, as far as a metadata source said.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Instance {
    pub id: Option<String>,
    pub name: Option<String>,
    pub project: Option<String>,
    pub availability_zone: Option<String>,
    pub flavor: Option<String>,
    /// What was asked for, as whoever launched it says: `m1024c1s10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// The key of the request.
pub(crate) const REQUEST: &str = "vmstage_request";

/// What became of asking one metadata source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SourceAsked {
    pub(crate) source: String,
    /// Milliseconds from the first try to the answer or to giving up.
    pub(crate) took_ms: u64,
    /// None where it answered.
    pub(crate) error: Option<String>,
}
