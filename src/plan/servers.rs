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

/// Reads lists of servers, and single ones. Of several of one id the last counts, with what of
/// its times only one before it says.
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
            let mut server = server(&place)?;
            if let Some(known) = servers.remove(&server.id) {
                server.created = server.created.or(known.created);
                server.launched = server.launched.or(known.launched);
            }
            servers.insert(server.id.clone(), server);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_servers_times_is_kept_in_either_order() {
        let shown = r#"{"id": "s1", "name": "n", "status": "BUILD", "created": "2026-11-20T12:00:00Z",
            "OS-SRV-USG:launched_at": "2026-11-20T12:00:41Z", "properties": {"vmstage_lifetime": "1h"}}"#;
        let listed = r#"[{"ID": "s1", "Name": "n", "Status": "ACTIVE", "Properties": {"vmstage_lifetime": "2h"}}]"#;
        for (text, status) in [
            (format!("{shown}\n{listed}"), "ACTIVE"),
            (format!("{listed}\n{shown}"), "BUILD"),
        ] {
            let documents = Document::parse_all("f.json", text.as_bytes()).unwrap();
            let servers = read(&documents).unwrap();
            let [server] = &servers[..] else {
                panic!("{servers:?}")
            };
            assert!(server.created.is_some() && server.launched.is_some());
            assert_eq!(server.status, status);
        }
    }
}
