//! What the features said so far, key by key.
//!
//! A value holds until the source says something valid else: another value, or that
//! there is none any more. What is no value (HTML with 200, say) is a warning and changes
//! nothing that is known. Nor does a 404 alone: a server that has lost its content says
//! that to everything. It counts once the service vouches for it, by giving another key
//! of the same place, or else by answering at the base URL. In a directory a file that is
//! gone is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Locations, check, read, understand};
use crate::clock;
use crate::config::FeaturesLocation;
use crate::deadline::Limit;
use crate::metadata::http::Client;
use crate::metadata::{Answer, NoAnswer};

#[derive(Debug, Default)]
pub struct Session {
    locations: Locations,
    keys: BTreeMap<&'static str, Kept>,
}

/// What is known of one key.
#[derive(Debug, Default)]
struct Kept {
    /// The last valid value, and the Unix second at which it was given last.
    value: Option<(String, u64)>,
    /// What came in the place of one, while none is known.
    garbage: Option<String>,
    /// The last answer was a 404, which nothing has vouched for yet.
    is_missing: bool,
    /// Something has.
    is_absent: bool,
}

impl Session {
    /// Asks for every key. `passed_over` says why other places were not taken.
    pub fn ask(
        &mut self,
        locations: &Locations,
        passed_over: &[String],
        client: &Client,
        until: Instant,
    ) -> Result<Answer, NoAnswer> {
        if locations.is_empty() {
            return Err(NoAnswer::Local(passed_over.join("; ")));
        }
        self.locations = locations.clone();
        let mut warnings = passed_over.to_vec();
        for (location, keys) in locations.with_keys() {
            let Some(location) = location else {
                self.keys.retain(|key, _| !keys.contains(key));
                continue;
            };
            let given = self.ask_for(keys, location, &mut warnings, client, until)?;
            self.believe(keys, location, given, client, until);
            if keys.iter().all(|key| self.text(key).is_none()) {
                warnings.push(format!("there is none of {}", keys.join(", ")));
            }
        }
        Ok(self.answer(warnings))
    }

    /// Says whether a valid value was given.
    fn ask_for(
        &mut self,
        keys: &[&'static str],
        location: &FeaturesLocation,
        warnings: &mut Vec<String>,
        client: &Client,
        until: Instant,
    ) -> Result<bool, NoAnswer> {
        let mut given = false;
        for key in keys {
            let answer = read(location, key, client, until)?;
            let kept = self.keys.entry(key).or_default();
            kept.is_missing = answer.is_none();
            let Some(bytes) = answer else { continue };
            let Ok(text) = String::from_utf8(bytes) else {
                warnings.push(format!("{key} is not text; ignored"));
                continue;
            };
            let text = text.trim().to_string();
            match check(key, &text) {
                Ok(()) => {
                    given = true;
                    *kept = Kept {
                        value: Some((text, clock::now())),
                        ..Kept::default()
                    };
                }
                Err(reason) if kept.value.is_some() => {
                    warnings.push(format!("{key}: {reason}; what it was before holds"));
                }
                Err(_) => kept.garbage = Some(text),
            }
        }
        Ok(given)
    }

    /// Takes for absent what is missing among these keys, if that is vouched for.
    fn believe(
        &mut self,
        keys: &[&'static str],
        location: &FeaturesLocation,
        given: bool,
        client: &Client,
        until: Instant,
    ) {
        let is_missing = |kept: &Kept| kept.is_missing;
        if !keys
            .iter()
            .any(|key| self.keys.get(key).is_some_and(is_missing))
        {
            return;
        }
        let is_directory = matches!(location, FeaturesLocation::Directory(_));
        let vouched =
            given || is_directory || matches!(read(location, "", client, until), Ok(Some(_)));
        for (key, kept) in &mut self.keys {
            if vouched && keys.contains(key) && kept.is_missing {
                *kept = Kept {
                    is_absent: true,
                    ..Kept::default()
                };
            }
        }
    }

    fn text(&self, key: &str) -> Option<&String> {
        let kept = self.keys.get(key)?;
        let value = kept.value.as_ref().map(|(text, _)| text);
        value.or(kept.garbage.as_ref())
    }

    fn values(&self) -> BTreeMap<String, String> {
        let text = |key: &&'static str| Some((key.to_string(), self.text(key)?.clone()));
        self.keys.keys().filter_map(text).collect()
    }

    fn answer(&self, mut warnings: Vec<String>) -> Answer {
        warnings.extend(understand(&self.values()).warnings);
        Answer {
            meta: self.values(),
            limits: self.limits(),
            grace: self.grace(),
            warnings,
            ..Answer::default()
        }
    }

    pub fn limits(&self) -> Vec<Limit> {
        let mut limits = understand(&self.values()).limits;
        for limit in &mut limits {
            let kept = self.keys.get(key_of(&limit.origin));
            let value = kept.and_then(|kept| kept.value.as_ref());
            limit.confirmed_at = value.map(|(_, at)| *at);
        }
        limits
    }

    pub fn grace(&self) -> Option<Duration> {
        understand(&self.values()).grace
    }

    /// Whether the key that a limit of this origin is from was given, or is known to be
    /// absent.
    pub fn has_heard_of(&self, origin: &str) -> bool {
        let heard = |key: &str| {
            let kept = self.keys.get(key);
            kept.is_some_and(|kept| kept.value.is_some() || kept.is_absent)
        };
        let absent = |key: &str| self.keys.get(key).is_some_and(|kept| kept.is_absent);
        match key_of(origin) {
            "wall_limit_secs" => {
                absent("wall_limit_secs") || heard("wall_limit_secs") && heard("jobstart_secs")
            }
            key => heard(key),
        }
    }
}

/// An origin begins with the name of its key.
fn key_of(origin: &str) -> &str {
    origin.split(' ').next().unwrap_or_default()
}
