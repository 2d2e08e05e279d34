//! The servers of a project, as `openstack server list --long` and `server show` print them.

use std::collections::BTreeMap;

use super::images::{id, time};
use super::input::{Document, Place};
use super::properties;
use crate::deadline::limit::{self, Limit};
use crate::deadline::origin::LimitSource;

#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: String,
    /// Unix seconds; None where the input does not say it, as below.
    pub(super) created: Option<u64>,
    pub(super) launched: Option<u64>,
    /// What its properties say, as it is read in the guest.
    pub(super) limits: Vec<Limit>,
    /// Somebody else's may say it.
    pub(super) has_features: bool,
}

/// What prints all that is needed.
pub(super) const LIST: &str =
    "openstack server list --long -c ID -c Name -c Status -c 'Created At' -c Properties -f json";

const CREATED: [&str; 3] = ["created", "Created At", "created_at"];
const LAUNCHED: [&str; 1] = ["OS-SRV-USG:launched_at"];

/// Reads lists of servers, and single ones. Of several of one id the one that says more counts.
///
/// # Errors
///
/// What is wrong or missing, with file and place.
pub(super) fn read(documents: &[Document]) -> anyhow::Result<Vec<Server>> {
    let mut servers: BTreeMap<String, Server> = BTreeMap::new();
    for document in documents {
        let root = document.root();
        let places = match root.value().is_object() {
            true => vec![root],
            false => root.list("servers")?,
        };
        for place in places {
            let server = server(&place)?;
            let known = servers.get(&server.id);
            if known.is_none_or(|known| known.launched.is_none()) {
                servers.insert(server.id.clone(), server);
            }
        }
    }
    Ok(servers.into_values().collect())
}

fn server(place: &Place) -> anyhow::Result<Server> {
    place.object("a server")?;
    let text = |names: &[&str]| place.needed(names)?.text("a text").map(String::from);
    // Not `needed`: what prints it is said.
    let Some(properties) = place.field(&["properties", "Properties"]) else {
        return Err(place.error(&format!("Properties is missing, and `{LIST}` prints it")));
    };
    let properties = properties::read(&properties)?.into_iter().collect();
    let created = place.field(&CREATED);
    if let Some(created) = created.filter(|created| created.value().is_object()) {
        // python-openstackclient 10.5.
        return Err(created.error(
            "these are the properties; the client prints the time where -c 'Created At' stands before -c Properties",
        ));
    }
    Ok(Server {
        id: id(place)?,
        name: text(&["name", "Name"])?,
        status: text(&["status", "Status"])?.to_ascii_uppercase(),
        created: time(place, &CREATED)?,
        launched: time(place, &LAUNCHED)?,
        limits: limit::plain_keys(&properties, LimitSource::Openstack),
        has_features: ["machinefeatures", "jobfeatures"]
            .iter()
            .any(|key| properties.contains_key(*key)),
    })
}
