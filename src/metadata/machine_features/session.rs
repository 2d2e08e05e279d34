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
    /// How often one key was asked for.
    turns: usize,
}

/// The keys of one place.
type Keys = &'static [&'static str];

/// A request for each of these keys, or one for the base URL where there are none.
#[derive(Clone, Copy)]
struct Turn<'a> {
    location: &'a FeaturesLocation,
    keys: Keys,
    wanted: Keys,
}

/// They are of one job, or they say nothing. Should the next job begin between the two
/// requests, then its start, read last, with the length before is an end to come.
const WALL: [&str; 2] = ["wall_limit_secs", "jobstart_secs"];

const ENDS: [Keys; 2] = [&["shutdowntime"], &["shutdowntime_job"]];
const OTHERS: [Keys; 3] = [&["grace_secs"], &["grace_secs_job"], &WALL];

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
            match location {
                Some(location) => self.ask_place(location, keys, &mut warnings, client, until)?,
                None => self.keys.retain(|key, _| !keys.contains(key)),
            }
        }
        Ok(self.answer(warnings))
    }

    /// Asks again, for a single key where that costs somebody a request, or for the two
    /// that make a wall limit.
    pub fn ask_again(
        &mut self,
        passed_over: &[String],
        client: &Client,
        until: Instant,
    ) -> Result<Answer, NoAnswer> {
        let locations = self.locations.clone();
        let mut warnings = passed_over.to_vec();
        for (location, keys) in locations.with_keys() {
            if let Some(directory @ FeaturesLocation::Directory(_)) = location {
                self.ask_place(directory, keys, &mut warnings, client, until)?;
            }
        }
        if let Some(turn) = self.next_turn(&locations) {
            self.turns += 1;
            let given = match turn.wanted {
                [] => is_there(turn.location, client, until),
                wanted => self.ask_for(wanted, turn.location, &mut warnings, client, until)?,
            };
            if given {
                self.believe(turn.keys);
            }
        }
        Ok(self.answer(warnings))
    }

    fn ask_place(
        &mut self,
        location: &FeaturesLocation,
        keys: Keys,
        warnings: &mut Vec<String>,
        client: &Client,
        until: Instant,
    ) -> Result<(), NoAnswer> {
        let given = self.ask_for(keys, location, warnings, client, until)?;
        if given || self.is_any_missing(keys) && is_there(location, client, until) {
            self.believe(keys);
        }
        if keys.iter().all(|key| self.text(key).is_none()) {
            warnings.push(format!("there is none of {}", keys.join(", ")));
        }
        Ok(())
    }

    /// Whether these are the places that were asked last.
    pub fn are_at(&self, locations: &Locations) -> bool {
        self.locations == *locations
    }

    /// Whether asking costs somebody a request.
    pub fn are_at_a_url(&self) -> bool {
        self.locations.at_urls().next().is_some()
    }

    /// Two turns in three are for the ends, the third for what else can change. A 404 that
    /// nothing has vouched for yet has every other turn for somebody who might. None where
    /// no place is a URL.
    fn next_turn<'a>(&self, locations: &'a Locations) -> Option<Turn<'a>> {
        let doubtful = |(_, keys): &(_, Keys)| self.is_any_missing(keys);
        if self.turns % 2 == 1
            && let Some((location, keys)) = locations.at_urls().find(doubtful)
        {
            let given = keys.iter().find(|key| self.is_given(key));
            return Some(Turn {
                location,
                keys,
                wanted: given.map_or(&[], together_with),
            });
        }
        let (wanted, number) = match self.turns % 3 {
            2 => (&OTHERS[..], self.turns / 3),
            _ => (&ENDS[..], self.turns - self.turns / 3),
        };
        let turns: Vec<Turn> = locations
            .at_urls()
            .flat_map(|(location, keys)| {
                let among_them = wanted.iter().filter(|wanted| keys.contains(&wanted[0]));
                among_them.map(move |wanted| Turn {
                    location,
                    keys,
                    wanted,
                })
            })
            .collect();
        let next = number.checked_rem(turns.len())?;
        Some(turns[next])
    }

    /// Says whether a valid value was given.
    fn ask_for(
        &mut self,
        keys: Keys,
        location: &FeaturesLocation,
        warnings: &mut Vec<String>,
        client: &Client,
        until: Instant,
    ) -> Result<bool, NoAnswer> {
        let before = WALL.map(|key| self.keys.get(key).and_then(|kept| kept.value.clone()));
        let mut given = Vec::new();
        let asked = self.ask_for_each(keys, &mut given, location, warnings, client, until);
        if keys.contains(&WALL[0]) {
            self.keep_the_wall_limit_whole(&given, before);
        }
        asked.map(|()| !given.is_empty())
    }

    /// A length or a start that came alone replaces no half of what was read together, and
    /// is not put together with what was read before.
    fn keep_the_wall_limit_whole(&mut self, given: &[&str], before: [Option<(String, u64)>; 2]) {
        let alone = match WALL.map(|key| given.contains(&key)) {
            [true, false] => 0,
            [false, true] => 1,
            _ => return,
        };
        let mut values = before;
        if values.iter().any(Option::is_none) {
            let kept = self.keys.get(WALL[alone]);
            values = [None, None];
            values[alone] = kept.and_then(|kept| kept.value.clone());
        }
        for (key, value) in WALL.into_iter().zip(values) {
            self.keys.entry(key).or_default().value = value;
        }
    }

    fn ask_for_each(
        &mut self,
        keys: Keys,
        given: &mut Vec<&'static str>,
        location: &FeaturesLocation,
        warnings: &mut Vec<String>,
        client: &Client,
        until: Instant,
    ) -> Result<(), NoAnswer> {
        for key in keys {
            let answer = read(location, key, client, until)?;
            let kept = self.keys.entry(key).or_default();
            kept.is_missing = answer.is_none() && !kept.is_absent;
            let Some(bytes) = answer else { continue };
            let Ok(text) = String::from_utf8(bytes) else {
                warnings.push(format!("{key} is not text; ignored"));
                continue;
            };
            let text = text.trim().to_string();
            match check(key, &text) {
                Ok(()) => {
                    given.push(key);
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
        Ok(())
    }

    fn is_any_missing(&self, keys: Keys) -> bool {
        let missing = |key: &&str| self.keys.get(key).is_some_and(|kept| kept.is_missing);
        keys.iter().any(missing)
    }

    fn is_given(&self, key: &str) -> bool {
        let kept = self.keys.get(key);
        kept.is_some_and(|kept| kept.value.is_some() && !kept.is_missing)
    }

    /// What is missing among these keys is vouched for.
    fn believe(&mut self, keys: Keys) {
        for (key, kept) in &mut self.keys {
            if keys.contains(key) && kept.is_missing {
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

/// Whether the place answers for itself. One that lists nothing may refuse to.
fn is_there(location: &FeaturesLocation, client: &Client, until: Instant) -> bool {
    matches!(read(location, "", client, until), Ok(Some(_)))
}

/// A length or a start is asked for only with the other.
fn together_with(key: &'static &'static str) -> Keys {
    match WALL.contains(key) {
        true => &WALL,
        false => std::slice::from_ref(key),
    }
}

/// An origin begins with the name of its key.
fn key_of(origin: &str) -> &str {
    origin.split(' ').next().unwrap_or_default()
}
