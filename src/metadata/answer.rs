//! What a source says when it is asked, or why it says nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::instance::Instance;
use crate::deadline::ledger::{About, Statement};
use crate::deadline::limit::Limit;
use crate::http::{Cause, Failure};

/// What a source said.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The device, where that is known only now.
    pub(crate) place: Option<String>,
    /// Who this VM is, as far as it says.
    pub instance: Instance,
    /// The key and value pairs that whoever launched the instance gave it.
    pub meta: BTreeMap<String, String>,
    /// When it must be gone.
    pub limits: Vec<Limit>,
    /// A grace that this source asks for.
    pub(crate) grace: Option<Duration>,
    /// The keys of limits that files of this machine say, which may have come with its image.
    pub(crate) of_files: Vec<String>,
    /// What of it was passed over, in sentences.
    pub warnings: Vec<String>,
    /// What else the source would have said, had it meant it.
    pub(crate) about: About,
    /// What time it was by the clock of whoever answered (HTTP's `Date`), in Unix seconds: a
    /// witness where this machine's own clock may be wrong.
    pub date: Option<u64>,
    /// The tag of this version of the answer, which a request that is held names.
    pub(crate) tag: Option<String>,
    /// What the cloud waits with until it is told to go on.
    pub(crate) pending: Vec<Pending>,
    /// A part of the source asks to be left alone for so long.
    pub(crate) retry_after: Option<Duration>,
}

/// Something that somebody asked the cloud to do with this VM alone, and that it waits with
/// until the VM agrees or its time has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// As the cloud calls it.
    pub id: String,
    /// It is the VM's end: there is a limit for it as well.
    pub is_end: bool,
}

impl Answer {
    /// What it says for the ledger: nothing of limits that it only repeats from before.
    pub fn statement(&self) -> Statement {
        let is_said = |limit: &&Limit| match &self.about {
            About::Everything => true,
            About::Keys(keys) => keys.contains(&limit.origin.key) || !limit.is_usable(),
        };
        Statement {
            instance: self.instance.id.clone(),
            limits: self.limits.iter().filter(is_said).cloned().collect(),
            about: self.about.clone(),
            grace: self.grace,
            of_files: self.of_files.clone(),
        }
    }
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NoAnswer {
    /// Of a request.
    Http(Failure),
    /// Something on this machine; asking again would not help.
    Local(String),
}

impl NoAnswer {
    /// Somebody answered, with something that is not what was asked for: a page, or where
    /// another one is.
    pub(crate) fn is_garbage(&self) -> bool {
        match self {
            NoAnswer::Http(failure) => {
                matches!(
                    failure.cause,
                    Cause::Unusable(_) | Cause::Status(300..=399, _)
                )
            }
            NoAnswer::Local(_) => false,
        }
    }

    /// For how long the service asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            NoAnswer::Http(Failure {
                cause: Cause::Status(_, wait),
                ..
            }) => *wait,
            _ => None,
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NoAnswer::Http(failure) => failure.fmt(f),
            NoAnswer::Local(why) => f.write_str(why),
        }
    }
}
