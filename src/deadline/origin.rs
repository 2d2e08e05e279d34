//! Who gave a limit: which source, under which key. As a type, since what is held and what
//! is taken back is decided by it; the text is for people.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Who can give a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitSource {
    /// OpenStack's config drive.
    ConfigDrive,
    /// OpenStack's metadata service.
    Openstack,
    /// OpenStack's `vendor_data2.json`.
    VendorData,
    /// EC2's instance metadata.
    Ec2,
    /// Google's.
    Google,
    /// Azure's.
    Azure,
    /// A site, by Machine or Job Features.
    MachineFeatures,
    /// The image's own configuration.
    Configuration,
    /// `vmstage end` in this machine.
    Operator,
    /// One that this version cannot read: another version wrote it. The key is its text.
    Unknown,
}

/// Who gave a limit. Two limits of one source and key are the same limit at two times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Who.
    pub source: LimitSource,
    /// As the source calls it: `vmstage_lifetime`, `spot/instance-action`, `shutdowntime`.
    pub key: String,
    /// What else there is to say to people: the action of a notice, an operator's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The key of a limit that stands for whatever an unreadable `meta` may have said.
const META: &str = "meta";

impl Origin {
    /// Of which there is nothing else to say.
    pub fn new(source: LimitSource, key: impl Into<String>) -> Origin {
        Origin {
            source,
            key: key.into(),
            detail: None,
        }
    }

    pub(crate) fn with_detail(self, detail: impl Into<String>) -> Origin {
        Origin {
            detail: Some(detail.into()),
            ..self
        }
    }

    /// Of a limit of which only the text is known. Version 0.1.0 wrote nothing else: its texts
    /// are compared with those of the same limits now.
    pub(crate) fn of_text(text: &str) -> Origin {
        const OF_0_1_0: [(LimitSource, &str); 7] = [
            (LimitSource::ConfigDrive, "vmstage_deadline"),
            (LimitSource::ConfigDrive, "vmstage_lifetime"),
            (LimitSource::Openstack, "vmstage_deadline"),
            (LimitSource::Openstack, "vmstage_lifetime"),
            (LimitSource::MachineFeatures, "shutdowntime"),
            (LimitSource::MachineFeatures, "shutdowntime_job"),
            (LimitSource::MachineFeatures, "wall_limit_secs"),
        ];
        let known = OF_0_1_0.map(|(source, key)| Origin::new(source, key));
        let found = known.into_iter().find(|origin| origin.to_string() == text);
        found.unwrap_or_else(|| Origin::unknown(text))
    }

    /// Of a limit that another version wrote, and of which only the text can be read.
    pub(crate) fn unknown(text: &str) -> Origin {
        Origin::new(LimitSource::Unknown, text)
    }

    /// All of `meta`, where it is of no use.
    pub(crate) fn all_of_meta(source: LimitSource) -> Origin {
        Origin::new(source, META)
    }

    pub(crate) fn is_all_of_meta(&self) -> bool {
        self.key == META
    }

    /// Why, for a drain command: what the operator gave as the reason, or else the text.
    pub(crate) fn reason(&self) -> String {
        match (self.source, &self.detail) {
            (LimitSource::Operator, Some(reason)) => reason.clone(),
            _ => self.to_string(),
        }
    }

    /// Whether this is the same limit, whatever is said beside it.
    pub(crate) fn is_same_limit(&self, other: &Origin) -> bool {
        self.source == other.source && self.key == other.key
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        f.write_str(match self.source {
            LimitSource::ConfigDrive => " in the config drive metadata",
            LimitSource::Openstack => " in the openstack metadata",
            LimitSource::VendorData => " in the openstack vendor data",
            LimitSource::Ec2 => " in the ec2 metadata",
            LimitSource::Google => " in the google metadata",
            LimitSource::Azure => " in the azure metadata",
            LimitSource::MachineFeatures => " in the machine and job features",
            LimitSource::Configuration => " in the configuration",
            LimitSource::Operator => " by the operator",
            LimitSource::Unknown => "",
        })
    }
}

/// Reads an origin of a document that another version may have written: None where it
/// cannot be read, which costs the document nothing else.
pub(crate) fn readable<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Origin>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_sentence_for_people_and_a_source_and_a_key_for_programs() {
        let spot = Origin::new(LimitSource::Ec2, "spot/instance-action").with_detail("stop");
        let text = "spot/instance-action (stop) in the ec2 metadata";
        assert_eq!(spot.to_string(), text);
        let json = r#"{"source":"ec2","key":"spot/instance-action","detail":"stop"}"#;
        assert_eq!(serde_json::to_string(&spot).unwrap(), json);
        assert_eq!(serde_json::from_str::<Origin>(json).unwrap(), spot);
        let drive = Origin::new(LimitSource::ConfigDrive, "vmstage_lifetime");
        let text = "vmstage_lifetime in the config drive metadata";
        assert_eq!(drive.to_string(), text);
        let json = r#"{"source":"config-drive","key":"vmstage_lifetime"}"#;
        assert_eq!(serde_json::to_string(&drive).unwrap(), json);
    }

    #[test]
    fn an_origin_of_another_version_costs_nothing_but_itself() {
        #[derive(Deserialize)]
        struct Document {
            #[serde(default, deserialize_with = "readable")]
            given_by: Option<Origin>,
        }
        for (text, is_read) in [
            (r#"{"given_by": {"source": "ec2", "key": "spot"}}"#, true),
            (r#"{"given_by": {"source": "oracle", "key": "x"}}"#, false),
            (r#"{"given_by": 7}"#, false),
            (r#"{"given_by": null}"#, false),
            ("{}", false),
        ] {
            let document: Document = serde_json::from_str(text).unwrap();
            assert_eq!(document.given_by.is_some(), is_read, "{text}");
        }
    }
}
