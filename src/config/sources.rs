//! Whom to ask who this VM is and when it must be gone.

use std::fmt;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

/// A source of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// OpenStack's, on a disk.
    ConfigDrive,
    /// OpenStack's metadata service.
    Openstack,
    /// EC2's, or the interface of that kind that others have.
    Ec2,
    /// Google's.
    Google,
    /// Azure's, with its scheduled events.
    Azure,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Source::ConfigDrive => "config-drive",
            Source::Openstack => "openstack",
            Source::Ec2 => "ec2",
            Source::Google => "google",
            Source::Azure => "azure",
        })
    }
}

/// Which sources are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sources {
    /// Those of the cloud that the firmware names.
    Auto,
    /// These, in this order.
    Listed(Vec<Source>),
}

impl<'de> Deserialize<'de> for Sources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourcesVisitor)
    }
}

struct SourcesVisitor;

impl<'de> de::Visitor<'de> for SourcesVisitor {
    type Value = Sources;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("\"auto\", or a list of \"config-drive\", \"openstack\", \"ec2\", \"google\" and \"azure\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Sources, E> {
        match text {
            "auto" => Ok(Sources::Auto),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Sources, A::Error> {
        let mut sources = Vec::new();
        while let Some(source) = list.next_element()? {
            if sources.contains(&source) {
                return Err(de::Error::custom(format!("{source} is listed twice")));
            }
            sources.push(source);
        }
        Ok(Sources::Listed(sources))
    }
}
