//! What the features said so far, key by key.
//!
//! A value holds until the source says something valid else: another value, or that
//! there is none any more. What is no value (HTML with 200, say) is a warning and changes
//! nothing that is known. Nor does a 404 alone: a server that has lost its content says
//! that to everything. It counts once the service vouches for it, by giving another key
//! of the same place, or else by answering at the base URL. In a directory a file that is
//! gone is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Locations, Reader, check, in_words, published, understand};
use crate::clock;
use crate::config::FeaturesLocation;
use crate::deadline::ledger::About;
use crate::deadline::limit::Limit;
use crate::deadline::site_grace;
use crate::http::Cause;
use crate::metadata::{Answer, NoAnswer};
use crate::text;

#[derive(Debug, Default)]
pub(crate) struct Session {
    locations: Locations,
    keys: BTreeMap<&'static str, Kept>,
    /// What was wrong with a place when it was asked last, by its keys.
    failed: BTreeMap<Keys, NoAnswer>,
    /// The keys that were given, or found to be absent, in this round.
    fresh: BTreeSet<&'static str>,
    /// What a slow place was not asked for.
    left: Vec<Left>,
}

/// The keys of a place that the next round asks for.
#[derive(Debug, Clone, Copy)]
struct Left {
    of: Keys,
    /// The first of them, by its index; after the last key comes the first.
    from: usize,
    count: usize,
}

/// What came of one round, beside values.
struct Heard {
    warnings: Vec<String>,
    failures: Vec<NoAnswer>,
}

impl Heard {
    fn of(passed_over: &[String]) -> Heard {
        Heard {
            warnings: passed_over.to_vec(),
            failures: Vec::new(),
        }
    }

    /// A place in it may be what `meta` names.
    fn warn_of(&mut self, failure: &NoAnswer) {
        self.warnings.push(text::printable(&failure.to_string()));
    }
}

/// What came of asking one place.
struct AskedFor {
    /// There was a valid value.
    given: bool,
    failure: Option<NoAnswer>,
}

/// The keys of one place.
type Keys = &'static [&'static str];

/// They are of one job, or they say nothing. Should the next job begin between the two
/// requests, then its start, read last, with the length before is an end to come.
const WALL: [&str; 2] = ["wall_limit_secs", "jobstart_secs"];

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

/// Which places are asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Places {
    All,
    /// Those that cost nobody a request, and what slow ones were not asked for in the last round.
    Directories,
}

impl Session {
    /// Asks for every key, a place after the other. `passed_over` says why other places were
    /// not taken.
    ///
    /// # Errors
    ///
    /// That nothing names a place, or that none gave a key.
    pub(crate) fn ask(
        &mut self,
        locations: &Locations,
        passed_over: &[String],
        places: Places,
        reader: &mut Reader,
    ) -> Result<Answer, NoAnswer> {
        if locations.is_empty() {
            return Err(NoAnswer::Local(passed_over.join("; ")));
        }
        self.locations = locations.clone();
        self.fresh.clear();
        let mut heard = Heard::of(passed_over);
        for (location, keys) in locations.with_keys() {
            match (location, places) {
                (Some(FeaturesLocation::Url(_)), Places::Directories) if !self.has_left(keys) => {}
                (Some(location), _) => {
                    let left = self.take_left(keys, places);
                    self.ask_place(location, left, &mut heard, reader);
                }
                (None, _) => {
                    self.keys.retain(|key, _| !keys.contains(key));
                    self.left.retain(|left| left.of != keys);
                    self.failed.remove(keys);
                }
            }
        }
        self.answer(heard)
    }

    fn ask_place(
        &mut self,
        location: &FeaturesLocation,
        left: Left,
        heard: &mut Heard,
        reader: &mut Reader,
    ) {
        let keys = left.of;
        let asked = self.ask_for(left, location, heard, reader);
        self.note(keys, &asked, heard);
        let has_more = self.has_left(keys);
        if has_more {
            let place = in_words(location);
            let slow = "is slow: what it was not asked for in one round it is in the next";
            heard.warnings.push(format!("{place} {slow}"));
        }
        let is_whole = asked.failure.is_none() && !has_more;
        let mut is_there = || is_whole && is_there(location, reader);
        if asked.given || self.is_any_missing(keys) && is_there() {
            self.believe(keys);
        }
        if is_whole && keys.iter().all(|key| self.text(key).is_none()) {
            let none = format!("there is none of {}", keys.join(", "));
            heard.warnings.push(none);
        }
    }

    fn note(&mut self, keys: Keys, asked: &AskedFor, heard: &mut Heard) {
        match &asked.failure {
            Some(failure) => {
                heard.failures.push(failure.clone());
                self.failed.insert(keys, failure.clone());
            }
            None => drop(self.failed.remove(keys)),
        }
    }

    /// Whether these are the places that were asked last.
    pub(crate) fn are_at(&self, locations: &Locations) -> bool {
        self.locations == *locations
    }

    /// The keys of what is in the usual directories: whoever saves the machine as an image saves
    /// them as well.
    fn of_files(&self) -> Vec<String> {
        let usual = [published::MACHINE, published::JOB].map(Into::into);
        let usual = usual.map(FeaturesLocation::Directory);
        let places = self.locations.with_keys().into_iter();
        let places = places.filter(|(place, _)| place.is_some_and(|at| usual.contains(at)));
        places
            .flat_map(|(_, keys)| keys.iter().map(|key| key.to_string()))
            .collect()
    }

    /// Whether asking again for what is in directories is no use.
    pub(crate) fn are_at_urls_alone(&self) -> bool {
        let places = self.locations.with_keys().into_iter();
        let mut places = places.filter_map(|(location, _)| location);
        places.all(|location| matches!(location, FeaturesLocation::Url(_)))
    }

    /// Whether the last round left something out, which the next one asks for.
    pub(crate) fn goes_on(&self) -> bool {
        !self.left.is_empty()
    }

    fn has_left(&self, keys: Keys) -> bool {
        self.left.iter().any(|left| left.of == keys)
    }

    /// What a place is asked for now: all of its keys, unless the last round has left some.
    fn take_left(&mut self, keys: Keys, places: Places) -> Left {
        let at = self.left.iter().position(|left| left.of == keys);
        let left = at.map(|at| self.left.swap_remove(at));
        let from = left.map_or(0, |left| left.from);
        let count = left.filter(|_| places != Places::All);
        let count = count.map_or(keys.len(), |left| left.count);
        Left {
            of: keys,
            from,
            count,
        }
    }

    fn ask_for(
        &mut self,
        left: Left,
        location: &FeaturesLocation,
        heard: &mut Heard,
        reader: &mut Reader,
    ) -> AskedFor {
        let before = WALL.map(|key| self.keys.get(key).and_then(|kept| kept.value.clone()));
        let mut given = Vec::new();
        let mut refused = None;
        let mut failure = None;
        let keys = left.of;
        for done in 0..left.count {
            let from = (left.from + done) % keys.len();
            let key = keys[from];
            if !has_room_for(key, location, reader) {
                let count = left.count - done;
                self.left.push(Left {
                    from,
                    count,
                    ..left
                });
                break;
            }
            match reader.read(location, key) {
                Ok(answer) => {
                    if self.take(key, answer, &mut heard.warnings) {
                        given.push(key);
                    }
                }
                Err(other) if is_of_one_key(&other) => drop(refused.get_or_insert(other)),
                Err(other) => {
                    failure = Some(other);
                    break;
                }
            }
        }
        if keys.contains(&WALL[0]) {
            self.keep_the_wall_limit_whole(&given, before);
        }
        match refused {
            Some(refused) if !given.is_empty() => heard.warn_of(&refused),
            refused => failure = failure.or(refused),
        }
        AskedFor {
            given: !given.is_empty(),
            failure,
        }
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

    /// Says whether this is a valid value.
    fn take(
        &mut self,
        key: &'static str,
        answer: Option<Vec<u8>>,
        warnings: &mut Vec<String>,
    ) -> bool {
        let kept = self.keys.entry(key).or_default();
        kept.is_missing = answer.is_none() && !kept.is_absent;
        let Some(bytes) = answer else {
            if kept.is_absent {
                self.fresh.insert(key);
            }
            return false;
        };
        let Ok(text) = String::from_utf8(bytes) else {
            warnings.push(format!("{key} is not text; ignored"));
            return false;
        };
        let text = text.trim().to_string();
        match check(key, &text) {
            Ok(()) => {
                *kept = Kept {
                    value: Some((text, clock::wall())),
                    ..Kept::default()
                };
                self.fresh.insert(key);
                return true;
            }
            Err(reason) if kept.value.is_some() => {
                warnings.push(format!("{key}: {reason}; what it was before holds"));
            }
            Err(_) => kept.garbage = Some(text),
        }
        false
    }

    fn is_any_missing(&self, keys: Keys) -> bool {
        let missing = |key: &&str| self.keys.get(key).is_some_and(|kept| kept.is_missing);
        keys.iter().any(missing)
    }

    /// What is missing among these keys is vouched for.
    fn believe(&mut self, keys: Keys) {
        for (key, kept) in &mut self.keys {
            if keys.contains(key) && kept.is_missing {
                *kept = Kept {
                    is_absent: true,
                    ..Kept::default()
                };
                self.fresh.insert(key);
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

    /// None only where every place failed: one of them does not cost the other.
    fn answer(&self, mut heard: Heard) -> Result<Answer, NoAnswer> {
        let places = self.locations.with_keys().into_iter();
        let named = places.filter(|(location, _)| location.is_some()).count();
        if self.failed.len() == named {
            let of_others = self.failed.values().cloned();
            return Err(as_one(
                heard.failures.into_iter().chain(of_others).collect(),
            ));
        }
        self.failed
            .values()
            .for_each(|failure| heard.warn_of(failure));
        heard.warnings.extend(understand(&self.values()).warnings);
        Ok(Answer {
            meta: self.values(),
            about: About::Keys(self.spoken_of()),
            limits: self.limits(),
            grace: self.grace(),
            of_files: self.of_files(),
            retry_after: heard
                .failures
                .iter()
                .filter_map(NoAnswer::retry_after)
                .max(),
            warnings: heard.warnings,
            ..Answer::default()
        })
    }

    pub(crate) fn limits(&self) -> Vec<Limit> {
        let mut limits = understand(&self.values()).limits;
        for limit in &mut limits {
            let kept = self.keys.get(limit.origin.key.as_str());
            let value = kept.and_then(|kept| kept.value.as_ref());
            limit.confirmed_at = value.map(|(_, at)| *at);
        }
        limits
    }

    fn grace(&self) -> Option<Duration> {
        understand(&self.values()).grace
    }

    /// The keys of limits, and of a grace, of which this round said something.
    fn spoken_of(&self) -> Vec<String> {
        let is_absent = |key: &str| self.keys.get(key).is_some_and(|kept| kept.is_absent);
        let is_fresh = |key: &&str| match *key {
            // One half says nothing.
            "wall_limit_secs" if !is_absent(key) => WALL.iter().all(|key| self.fresh.contains(key)),
            key => self.fresh.contains(key),
        };
        let limits = ["shutdowntime", "shutdowntime_job", WALL[0]];
        let all = limits.into_iter().chain(site_grace::KEYS);
        all.filter(is_fresh).map(Into::into).collect()
    }
}

/// Whether there is time to ask for this key now. Of the wall limit's two, both or none.
fn has_room_for(key: &str, location: &FeaturesLocation, reader: &Reader) -> bool {
    let requests = match location {
        FeaturesLocation::Directory(_) => 0,
        FeaturesLocation::Url(_) if key == WALL[0] => 2,
        FeaturesLocation::Url(_) if key == WALL[1] => 0,
        FeaturesLocation::Url(_) => 1,
    };
    requests == 0 || reader.portion.has_room_for(requests)
}

/// Whether it costs nothing but the key that was asked for, and others may be had.
fn is_of_one_key(failure: &NoAnswer) -> bool {
    match failure {
        NoAnswer::Local(_) => true,
        NoAnswer::Http(failure) => matches!(failure.cause, Cause::Status(401 | 403, _)),
    }
}

/// What is tried again comes before what is not.
fn as_one(failures: Vec<NoAnswer>) -> NoAnswer {
    let at_a_url = |failure: &&NoAnswer| matches!(failure, NoAnswer::Http(_));
    match failures.iter().find(at_a_url) {
        Some(failure) => failure.clone(),
        None => {
            let mut reasons: Vec<String> = failures.iter().map(ToString::to_string).collect();
            reasons.sort();
            reasons.dedup();
            NoAnswer::Local(reasons.join("; "))
        }
    }
}

/// Whether the place answers for itself. One that lists nothing may refuse to.
fn is_there(location: &FeaturesLocation, reader: &mut Reader) -> bool {
    matches!(reader.read(location, ""), Ok(Some(_)))
}
