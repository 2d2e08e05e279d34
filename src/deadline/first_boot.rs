//! When this instance booted for the first time, from which lifetimes count. Pure: what the
//! records say is handed in, and what they are to say from now on is handed back.
//!
//! Records are kept by the instance's UUIDs, the machine's own and the metadata's, either of
//! which finds them: a reboot does not renew a lease, and an image that was saved and launched
//! again starts anew. An EC2 id may be a small counter, as Nova's are, and come again in
//! another cloud: a record is kept by one only where no UUID was ever known.
//!
//! What a record says depends on the clock of that first boot, which nobody vouches for.
//! So:
//!
//! - a clock that stands before [`clock::EARLIEST`] is known to be wrong: nothing is
//!   recorded, and lifetimes count from this boot;
//! - nor is anything recorded while nobody knows how long this machine has been up;
//! - in the boot that made it, a record follows what is known of when the machine was booted
//!   ([`clock_trust`](super::clock_trust)): a clock that is set early, as NTP will do, or that is
//!   the first to be believed. Not one that is set later, or believed in the place of another:
//!   a VM that was suspended for days looks the same, and must not gain them;
//! - a record that lies in the future is the mistake of one of two clocks. Where this boot made
//!   it, or the clock of this boot is believed, it is replaced. Else lifetimes count from this
//!   boot, it is said, and the record stays, as the other clock may be the wrong one;
//! - a damaged record is replaced by the time at which it was written, which is no
//!   earlier than the first boot and no later than this one.
//!
//! Whenever less is known than a record would say, there is a warning: no lease is
//! renewed in silence.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::identity::Names;
use super::limit::Limit;
use crate::clock::{self, Now};

/// Two readings of one clock that differ by no more than this are the same.
const SLACK: u64 = 60;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lease {
    /// Unix seconds.
    pub(crate) first_boot: u64,
    pub(crate) warnings: Vec<String>,
    /// What an earlier boot of this instance knew last.
    pub(crate) kept: Option<KeptDeadline>,
    /// And that what the frozen config drive says did not count any more.
    pub(crate) is_drive_outdated: bool,
    /// The records that are to be written anew.
    pub(crate) writes: Vec<(PathBuf, Record)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(super) first_boot: u64,
    /// The boot that was the first; None where the record replaces a damaged one.
    pub(super) boot_id: Option<String>,
    /// The metadata's UUID of the instance, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
    /// The machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    /// None also where another version wrote one that cannot be read.
    #[serde(
        default,
        deserialize_with = "readable",
        skip_serializing_if = "Option::is_none"
    )]
    deadline: Option<KeptDeadline>,
    /// OpenStack's service has answered this instance: the config drive does not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_drive_outdated: bool,
}

/// The last known deadline, for a boot in which its source is silent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptDeadline {
    pub(crate) limit: Limit,
    pub(crate) is_believed: bool,
}

/// What the record is to say of the deadline from now on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Keep {
    /// Nobody has said anything yet in this boot.
    AsBefore,
    Nothing,
    Deadline(KeptDeadline),
}

fn readable<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<KeptDeadline>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    Nothing,
    Record(Record),
    /// It cannot be understood, and was written at this Unix second.
    Damaged(u64),
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// By whose name a record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptBy {
    Uuid,
    /// The same with its bytes in the other order: read, and not written.
    SwappedUuid,
    OtherId,
    /// Nobody's: it is good for one boot.
    Nobody,
    /// Somebody's, and nobody knows whether this machine's.
    Unknown,
}

/// A place for a record, and what was found there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    pub(crate) kept_by: KeptBy,
    pub(crate) id: String,
    pub(crate) file: PathBuf,
    pub(crate) found: Found,
}

/// Which boot this is, and what time it is.
pub(crate) struct Present<'a> {
    pub(crate) boot_id: &'a str,
    /// By the clock that counts.
    pub(crate) now: Now,
    pub(crate) is_believed: bool,
    /// When the machine was booted, in Unix seconds, where that is known.
    pub(crate) booted_at: Option<u64>,
    pub(crate) is_drive_outdated: bool,
}

impl Present<'_> {
    fn booted_at(&self) -> u64 {
        let by_now = self.now.wall.saturating_sub(self.now.uptime.as_secs());
        self.booted_at.unwrap_or(by_now)
    }

    fn has_made(&self, record: &Record) -> bool {
        record.boot_id.as_deref() == Some(self.boot_id)
    }

    /// An uptime of zero is one that could not be read.
    fn is_known(&self) -> bool {
        self.now.wall >= clock::EARLIEST && !self.now.uptime.is_zero()
    }
}

/// What one record comes to.
#[derive(Debug, PartialEq)]
struct Settled {
    first_boot: u64,
    /// What the record says from now on; None where the clock or the record is wrong.
    record: Option<Record>,
    warning: Option<String>,
}

/// The first boot of the instance that has these names: of all records of it the earliest
/// counts.
pub(crate) fn lease(places: &[Place], names: &Names, keep: &Keep, present: &Present) -> Lease {
    let mut warnings = Vec::new();
    if names.is_empty() {
        warnings.push("no source gave an instance id; lifetimes count from this boot".to_string());
    }
    let keeps_deadline = |place: &Place| match &place.found {
        Found::Record(record) => record.deadline.is_some() && !present.has_made(record),
        _ => false,
    };
    let of_unknown = |place: &&Place| matches!(place.kept_by, KeptBy::Nobody | KeptBy::Unknown);
    if names.is_empty() && places.iter().filter(of_unknown).any(keeps_deadline) {
        warnings.push(NOBODY_KNOWS.into());
    }
    let (all, kept, is_drive_outdated) = settle_all(places, names, present, &mut warnings);
    let all = match all.is_empty() {
        // What counted while nobody had said who this is.
        true => vec![settle(of_nobody(places, present), present)],
        false => all,
    };
    warnings.extend(all.iter().filter_map(|settled| settled.warning.clone()));
    warnings.dedup();
    let earliest = all.into_iter().min_by_key(|settled| settled.first_boot);
    let first = earliest.unwrap_or_else(|| settle(Found::Nothing, present));
    let record = first.record.map(|record| Record {
        uuid: names.uuid.clone().or(record.uuid),
        machine: names.machine.clone().or(record.machine),
        is_drive_outdated: is_drive_outdated || present.is_drive_outdated,
        deadline: match keep {
            Keep::AsBefore => kept.clone(),
            Keep::Nothing => None,
            Keep::Deadline(deadline) => Some(deadline.clone()),
        },
        ..record
    });
    let writes = record.map(|record| writes(places, names, &record));
    Lease {
        first_boot: first.first_boot,
        warnings,
        kept,
        is_drive_outdated,
        writes: writes.unwrap_or_default(),
    }
}

const NOBODY_KNOWS: &str = "nothing says which instance this is: the deadline that an earlier boot \
                            knew does not hold";

/// What each record of this instance comes to, the deadline that one of them keeps, and whether
/// one says that the config drive does not count.
fn settle_all(
    places: &[Place],
    names: &Names,
    present: &Present,
    warnings: &mut Vec<String>,
) -> (Vec<Settled>, Option<KeptDeadline>, bool) {
    let (mut all, mut kept, mut is_drive_outdated) = (Vec::new(), None, false);
    let of_unknown = |place: &&Place| matches!(place.kept_by, KeptBy::Nobody | KeptBy::Unknown);
    for place in places.iter().filter(|place| !of_unknown(place)) {
        match &place.found {
            Found::Nothing => {}
            Found::Unreadable(why) => warnings.push(format!(
                "cannot read {}: {why}; lifetimes may count from this boot",
                place.file.display()
            )),
            Found::Record(record) if place.is_anothers(record, names) => warnings.push(format!(
                "{} is another instance's and does not count",
                place.file.display()
            )),
            found => {
                if let Found::Record(record) = found {
                    kept = kept.or_else(|| record.deadline.clone());
                    is_drive_outdated |= record.is_drive_outdated;
                }
                all.push(settle(found.clone(), present));
            }
        }
    }
    (all, kept, is_drive_outdated)
}

/// What this boot recorded before anybody said who this is.
fn of_nobody(places: &[Place], present: &Present) -> Found {
    let mut places = places.iter();
    let nobody = places.find(|place| place.kept_by == KeptBy::Nobody);
    match nobody.map(|place| &place.found) {
        Some(Found::Record(record)) if present.has_made(record) => Found::Record(record.clone()),
        _ => Found::Nothing,
    }
}

/// The places in which this is news.
fn writes(places: &[Place], names: &Names, record: &Record) -> Vec<(PathBuf, Record)> {
    let is_wanted = |place: &&Place| match place.kept_by {
        KeptBy::Uuid => true,
        KeptBy::SwappedUuid | KeptBy::Unknown => false,
        // From now on the UUID finds it.
        KeptBy::OtherId if names.has_uuid() => {
            matches!(&place.found, Found::Record(record) if !place.is_anothers(record, names))
        }
        KeptBy::OtherId => true,
        KeptBy::Nobody => names.is_empty(),
    };
    let is_news = |place: &&Place| match &place.found {
        Found::Record(found) => found != record,
        Found::Unreadable(_) => false,
        Found::Nothing | Found::Damaged(_) => true,
    };
    let wanted = places.iter().filter(is_wanted).filter(is_news);
    wanted
        .map(|place| (place.file.clone(), record.clone()))
        .collect()
}

impl Place {
    fn is_anothers(&self, record: &Record, names: &Names) -> bool {
        let uuids = || [&record.uuid, &record.machine].into_iter().flatten();
        let is_owned = uuids().next().is_some();
        match self.kept_by {
            KeptBy::Uuid | KeptBy::SwappedUuid | KeptBy::Nobody | KeptBy::Unknown => false,
            KeptBy::OtherId if is_owned => !uuids().any(|uuid| names.is_ours(uuid)),
            // A small counter says nothing where a UUID does.
            KeptBy::OtherId => names.has_uuid() && is_counter(&self.id),
        }
    }
}

/// `i-00000005`, as Nova makes them; EC2's own are `i-0123456789abcdef0`.
fn is_counter(id: &str) -> bool {
    id.len() <= "i-00000005".len()
}

fn settle(found: Found, present: &Present) -> Settled {
    if present.now.wall < clock::EARLIEST {
        return Settled::of_this_boot(
            present,
            "the clock is not set yet; lifetimes count from this boot",
        );
    }
    match found {
        Found::Record(record) if !present.is_known() => Settled {
            first_boot: record.first_boot,
            record: None,
            warning: None,
        },
        _ if !present.is_known() => Settled::of_this_boot(
            present,
            "nobody knows how long this machine has been up; the first boot is not recorded",
        ),
        Found::Nothing | Found::Unreadable(_) => Settled::recorded_now(present, None),
        Found::Damaged(written) if (clock::EARLIEST..=present.booted_at()).contains(&written) => {
            Settled {
                first_boot: written,
                record: Some(Record::new(written, None)),
                warning: Some(format!(
                    "the record of the first boot is damaged; lifetimes count from {}, when it \
                     was written",
                    clock::utc(written)
                )),
            }
        }
        Found::Damaged(_) => Settled::recorded_now(
            present,
            Some("the record of the first boot is damaged; lifetimes count from this boot".into()),
        ),
        Found::Record(record) => settle_record(record, present),
    }
}

fn settle_record(record: Record, present: &Present) -> Settled {
    let booted_at = present.booted_at();
    let differs = record.first_boot.abs_diff(booted_at) > SLACK;
    let is_ahead = record.first_boot > booted_at;
    let has_made = present.has_made(&record);
    let is_corrected = has_made && present.booted_at.is_some();
    if !differs || !(is_ahead || is_corrected) {
        return Settled {
            first_boot: record.first_boot,
            record: Some(record),
            warning: None,
        };
    }
    if has_made {
        let warning = format!(
            "the clock was set after the first boot was recorded; lifetimes count from {}",
            clock::utc(booted_at)
        );
        return Settled::recorded_now(present, Some(warning));
    }
    let warning = format!(
        "the first boot was recorded at {}, which is in the future: the clock is or was wrong; \
         lifetimes count from this boot",
        clock::utc(record.first_boot)
    );
    match present.is_believed {
        true => Settled::recorded_now(present, Some(warning)),
        false => Settled::of_this_boot(present, &warning),
    }
}

impl Settled {
    fn of_this_boot(present: &Present, warning: &str) -> Settled {
        Settled {
            first_boot: present.booted_at(),
            record: None,
            warning: Some(warning.into()),
        }
    }

    fn recorded_now(present: &Present, warning: Option<String>) -> Settled {
        let booted_at = present.booted_at();
        Settled {
            first_boot: booted_at,
            record: Some(Record::new(booted_at, Some(present.boot_id.into()))),
            warning,
        }
    }
}

impl Record {
    fn new(first_boot: u64, boot_id: Option<String>) -> Record {
        Record {
            first_boot,
            boot_id,
            uuid: None,
            machine: None,
            deadline: None,
            is_drive_outdated: false,
        }
    }
}

/// What an instance id has to look like before it becomes part of a file name.
///
/// # Errors
///
/// That it does not, in words.
pub fn usable_id(id: &str) -> Result<&str, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
        return Err(format!(
            "{:?} is not an instance id",
            id.chars().take(64).collect::<String>()
        ));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::deadline::limit::When;
    use crate::deadline::origin::{LimitSource, Origin};
    use crate::deadline::records;
    use crate::host::tree::Tree;

    /// A boot at this second, this long ago.
    fn boot(id: &str, booted_at: u64, uptime: u64) -> Present<'_> {
        Present {
            boot_id: id,
            now: Now {
                wall: booted_at + uptime,
                uptime: Duration::from_secs(uptime),
                vouched: false,
            },
            is_believed: false,
            booted_at: (uptime < 900).then_some(booted_at),
            is_drive_outdated: false,
        }
    }

    const MONDAY: u64 = 1_795_000_000;
    const HOUR: u64 = 3600;

    /// A machine that has no record yet, and the names that were given in this boot.
    struct Scratch {
        tree: Tree,
        named: RefCell<(String, Names)>,
    }

    /// As they are in one boot: UUIDs, EC2 ids, and the machine's own.
    fn names(ids: &[&str]) -> Names {
        let mut names = Names::default();
        for id in ids {
            match id.split_once(':') {
                Some(("machine", id)) => names.machine = Some(id.into()),
                _ if id.starts_with("i-") => names.others = vec![id.to_string()],
                _ => names.uuid = Some(id.to_string()),
            }
        }
        names
    }

    impl Scratch {
        fn new() -> Scratch {
            Scratch {
                tree: Tree::new(&[("var/lib/", "")]),
                named: RefCell::default(),
            }
        }

        fn take(&self, id: Option<&str>, present: &Present) -> Lease {
            self.take_all(id.as_slice(), present)
        }

        fn take_all(&self, ids: &[&str], present: &Present) -> Lease {
            self.take_and_keep(ids, &Keep::AsBefore, present)
        }

        fn take_and_keep(&self, ids: &[&str], keep: &Keep, present: &Present) -> Lease {
            let mut named = self.named.borrow_mut();
            if named.0 != present.boot_id {
                *named = (present.boot_id.into(), Names::default());
            }
            let (known, new) = (&mut named.1, names(ids));
            known.machine = new.machine.or(known.machine.take());
            known.uuid = new.uuid.or(known.uuid.take());
            known.others = match new.others.is_empty() {
                true => known.others.clone(),
                false => new.others,
            };
            let places = records::read(&self.tree.host(), known);
            let mut lease = lease(&places, known, keep, present);
            lease.warnings.extend(records::write(&lease.writes));
            lease.writes.clear();
            lease
        }

        fn directory(&self) -> PathBuf {
            self.tree.host().path(records::DIRECTORY)
        }

        fn file(&self, instance: &str) -> PathBuf {
            self.directory().join(records::file_name(instance))
        }
    }

    fn silent(first_boot: u64) -> Lease {
        Lease {
            first_boot,
            warnings: Vec::new(),
            kept: None,
            is_drive_outdated: false,
            writes: Vec::new(),
        }
    }

    fn said(lease: &Lease, what: &str) -> bool {
        lease.warnings.iter().any(|w| w.contains(what))
    }

    #[test]
    fn a_reboot_does_not_renew_a_lease() {
        let state = Scratch::new();
        assert_eq!(
            state.take(Some("a"), &boot("1", MONDAY, 30)),
            silent(MONDAY)
        );
        let second = boot("2", MONDAY + 5 * HOUR, 30);
        assert_eq!(state.take(Some("a"), &second), silent(MONDAY));
    }

    #[test]
    fn a_new_instance_id_starts_anew_and_the_old_one_is_not_forgotten() {
        let state = Scratch::new();
        state.take(Some("a"), &boot("1", MONDAY, 30));
        let launched_again = boot("2", MONDAY + 5 * HOUR, 30);
        assert_eq!(
            state.take(Some("b"), &launched_again),
            silent(MONDAY + 5 * HOUR)
        );
        let the_old_one = boot("3", MONDAY + 9 * HOUR, 30);
        assert_eq!(state.take(Some("a"), &the_old_one), silent(MONDAY));
    }

    #[test]
    fn another_source_with_another_id_does_not_renew_a_lease() {
        let state = Scratch::new();
        state.take(Some("uuid"), &boot("1", MONDAY, 30));
        let second = boot("2", MONDAY + 5 * HOUR, 30);
        assert_eq!(state.take(Some("uuid"), &second), silent(MONDAY));
        // OpenStack falls silent, or forgets who this is, and EC2 answers.
        assert_eq!(state.take(Some("i-1"), &second), silent(MONDAY));
        assert_eq!(state.take(None, &second), silent(MONDAY));
        // Saved and launched again, it has two new ones.
        let launched_again = boot("4", MONDAY + 12 * HOUR, 30);
        let lease = state.take_all(&["i-2", "uuid-2"], &launched_again);
        assert_eq!(lease, silent(MONDAY + 12 * HOUR));
    }

    /// Five hours after the old one was first booted, its image is launched with a state
    /// that holds its records, and gets the same EC2 id.
    fn launched_again() -> (Scratch, Present<'static>) {
        let state = Scratch::new();
        let old = state.take_all(&["uuid-1", "i-5"], &boot("1", MONDAY, 30));
        assert_eq!(old, silent(MONDAY));
        (state, boot("2", MONDAY + 5 * HOUR, 30))
    }

    #[test]
    fn an_ec2_id_that_comes_again_inherits_no_lease() {
        for ids in [
            &["uuid-2", "i-5"][..],
            &["i-5"],
            &["machine:uuid-3", "i-5"],
            &["machine:uuid-3"],
        ] {
            let (state, now) = launched_again();
            let lease = state.take_all(ids, &now);
            assert_eq!(lease.first_boot, MONDAY + 5 * HOUR, "{ids:?}");
            let later = boot("3", MONDAY + 9 * HOUR, 30);
            let lease = state.take_all(ids, &later);
            assert_eq!(lease.first_boot, MONDAY + 5 * HOUR, "{ids:?}");
        }
    }

    #[test]
    fn the_metadatas_uuid_and_the_machines_find_the_same_record() {
        const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
        const SWAPPED: &str = "33221100-5544-7766-8899-AABBCCDDEEFF";
        let both = ["machine:board", UUID, "i-5"];
        for ids in [&both[..], &["machine:board"], &[UUID], &[SWAPPED]] {
            let state = Scratch::new();
            state.take_all(&both, &boot("1", MONDAY, 30));
            let second = boot("2", MONDAY + 5 * HOUR, 30);
            assert_eq!(state.take_all(ids, &second), silent(MONDAY), "{ids:?}");
        }
    }

    #[test]
    fn records_of_0_1_0_are_read_and_rewritten() {
        let old = format!(r#"{{"first_boot": {MONDAY}, "boot_id": "1"}}"#);
        let owned = old.replace('}', r#", "uuid": "uuid-1"}"#);
        let aws = "i-0123456789abcdef0";
        let second = boot("2", MONDAY + 5 * HOUR, 30);
        for (file, text, ids, is_read) in [
            ("uuid-1", &old, &["uuid-1"][..], true),
            ("uuid-1", &old, &["machine:uuid-1"], true),
            ("i-5", &old, &["i-5"], true),
            ("i-5", &owned, &["i-5", "uuid-1"], true),
            ("i-5", &owned, &["i-5"], false),
            ("i-5", &owned, &["i-5", "uuid-2"], false),
            ("i-5", &old, &["i-5", "machine:uuid-2"], false),
            (aws, &old, &[aws, "machine:uuid-2"], true),
        ] {
            let state = Scratch::new();
            fs::create_dir_all(state.directory()).unwrap();
            fs::write(state.file(file), text).unwrap();
            let counts = match is_read {
                true => MONDAY,
                false => MONDAY + 5 * HOUR,
            };
            let lease = state.take_all(ids, &second);
            assert_eq!(lease.first_boot, counts, "{file} {text} {ids:?}");
            let uuid = ids.iter().find(|id| !id.starts_with("i-"));
            if let Some(id) = uuid {
                let id = id.trim_start_matches("machine:");
                assert!(state.file(id).exists(), "{file} {text} {ids:?}");
            }
        }
    }

    #[test]
    fn a_failed_read_of_the_uptime_writes_no_record_anew() {
        let state = Scratch::new();
        state.take(Some("a"), &boot("1", MONDAY, 300));
        let failed = boot("1", MONDAY + 300, 0);
        assert_eq!(state.take(Some("a"), &failed), silent(MONDAY));
        let lease = Scratch::new().take(Some("b"), &failed);
        assert!(said(&lease, "how long this machine has been up"));
        assert_eq!(
            state.take(Some("a"), &boot("1", MONDAY, 360)),
            silent(MONDAY)
        );
    }

    #[test]
    fn a_deadline_is_kept_for_the_next_boot_of_this_instance_and_of_no_other() {
        let origin = Origin::new(LimitSource::Openstack, "vmstage_deadline");
        let deadline = KeptDeadline {
            limit: Limit::new(origin, When::At(MONDAY + 20 * HOUR)),
            is_believed: true,
        };
        let keep = Keep::Deadline(deadline.clone());
        let state = Scratch::new();
        state.take_and_keep(&["machine:a"], &keep, &boot("1", MONDAY, 30));
        let second = boot("2", MONDAY + HOUR, 30);
        assert_eq!(state.take(Some("machine:a"), &second).kept, Some(deadline));
        let another = boot("3", MONDAY + 2 * HOUR, 30);
        assert_eq!(state.take(Some("machine:b"), &another).kept, None);
        // Nobody says who this is.
        let nobody = state.take(None, &boot("4", MONDAY + 3 * HOUR, 30));
        assert_eq!(nobody.kept, None);
        assert!(said(&nobody, "does not hold"), "{nobody:?}");
        // Taken back.
        let fifth = boot("5", MONDAY + 4 * HOUR, 30);
        state.take_and_keep(&["machine:a"], &Keep::Nothing, &fifth);
        let sixth = boot("6", MONDAY + 5 * HOUR, 30);
        assert_eq!(state.take(Some("machine:a"), &sixth).kept, None);
    }

    #[test]
    fn the_id_may_become_known_late_and_the_boot_still_counts() {
        let state = Scratch::new();
        let lease = state.take(None, &boot("1", MONDAY, 30));
        assert_eq!(lease.first_boot, MONDAY);
        assert!(said(&lease, "no source gave an instance id"));
        assert_eq!(
            state.take(Some("a"), &boot("1", MONDAY, 7200)),
            silent(MONDAY)
        );
    }

    #[test]
    fn without_an_id_each_boot_counts_for_itself() {
        let state = Scratch::new();
        assert_eq!(state.take(None, &boot("1", MONDAY, 30)).first_boot, MONDAY);
        // Rounding does not make the deadline move by a second now and then.
        assert_eq!(
            state.take(None, &boot("1", MONDAY + 1, 90)).first_boot,
            MONDAY
        );
        let second = state.take(None, &boot("2", MONDAY + HOUR, 30));
        assert_eq!(second.first_boot, MONDAY + HOUR);
    }

    #[test]
    fn while_the_clock_is_known_to_be_wrong_nothing_is_recorded() {
        let state = Scratch::new();
        let unset = boot("1", 0, 30);
        let lease = state.take(Some("a"), &unset);
        assert_eq!(lease.first_boot, 0);
        assert!(said(&lease, "the clock is not set yet"));
        assert!(!state.file("a").exists());
        // NTP has set it; it is still the first boot.
        assert_eq!(
            state.take(Some("a"), &boot("1", MONDAY, 60)),
            silent(MONDAY)
        );
    }

    #[test]
    fn what_a_killed_process_left_beside_a_record_goes() {
        let state = Scratch::new();
        state.take(Some("a"), &boot("1", MONDAY, 30));
        let leftover = state.directory().join(".first-boot-a.json.new");
        fs::write(&leftover, "{").unwrap();
        assert_eq!(
            state.take(Some("a"), &boot("1", MONDAY, 60)),
            silent(MONDAY)
        );
        assert!(!leftover.exists());
    }

    #[test]
    fn a_recorded_lease_outlives_a_boot_whose_clock_is_not_set() {
        let state = Scratch::new();
        state.take(Some("a"), &boot("1", MONDAY, 30));
        assert_eq!(state.take(Some("a"), &boot("2", 100, 30)).first_boot, 100);
        let set = boot("2", MONDAY + 5 * HOUR, 90);
        assert_eq!(state.take(Some("a"), &set), silent(MONDAY));
    }

    #[test]
    fn in_the_first_boot_the_record_follows_the_clock_until_it_has_settled() {
        let state = Scratch::new();
        let stale_rtc = MONDAY - 200 * 24 * HOUR;
        state.take(Some("a"), &boot("1", stale_rtc, 30));
        let lease = state.take(Some("a"), &boot("1", MONDAY, 90));
        assert_eq!(lease.first_boot, MONDAY);
        assert!(said(&lease, "the clock was set after"));
        // Corrected once, it is not said again.
        assert_eq!(
            state.take(Some("a"), &boot("1", MONDAY, 150)),
            silent(MONDAY)
        );
    }

    /// What `clock_trust` knows late in a boot.
    fn late(id: &str, booted_at: Option<u64>, now: u64) -> Present<'_> {
        Present {
            booted_at,
            is_believed: true,
            ..boot(id, now, 5 * HOUR)
        }
    }

    #[test]
    fn a_record_of_this_boot_follows_what_is_known_of_it_and_is_never_in_the_future() {
        const MONTHS: u64 = 200 * 24 * HOUR;
        for (recorded, known, now, counts) in [
            (MONDAY - MONTHS, Some(MONDAY), MONDAY, MONDAY),
            (MONDAY + MONTHS, Some(MONDAY), MONDAY, MONDAY),
            // A machine that stood still.
            (MONDAY, Some(MONDAY), MONDAY + MONTHS, MONDAY),
            // Nobody has followed its clocks since it was booted.
            (MONDAY, None, MONDAY + MONTHS, MONDAY),
            (MONDAY + MONTHS, None, MONDAY, MONDAY),
        ] {
            let state = Scratch::new();
            state.take(Some("a"), &boot("1", recorded, 30));
            let lease = state.take(Some("a"), &late("1", known, now));
            assert_eq!(lease.first_boot, counts);
            assert_eq!(said(&lease, "the clock was set after"), recorded != counts);
            let next = state.take(Some("a"), &boot("2", now + 9 * HOUR, 30));
            assert_eq!(next, silent(counts));
        }
    }

    #[test]
    fn a_record_in_the_future_of_a_believed_clock_is_replaced() {
        let state = Scratch::new();
        state.take(Some("a"), &boot("1", MONDAY + 1000 * HOUR, 30));
        let second = state.take(Some("a"), &late("2", Some(MONDAY), MONDAY));
        assert_eq!(second.first_boot, MONDAY);
        assert!(said(&second, "in the future"));
        // No reboot renews it again.
        let third = boot("3", MONDAY + 9 * HOUR, 30);
        assert_eq!(state.take(Some("a"), &third), silent(MONDAY));
    }

    #[test]
    fn a_suspended_vm_does_not_gain_the_days_it_slept() {
        let state = Scratch::new();
        state.take(Some("a"), &boot("1", MONDAY, 30));
        // The clock went on and the uptime did not: it seems to have booted later.
        let woken = boot("1", MONDAY + 72 * HOUR, 2 * HOUR);
        assert_eq!(state.take(Some("a"), &woken), silent(MONDAY));
    }

    #[test]
    fn a_record_in_the_future_is_said_and_kept() {
        let state = Scratch::new();
        state.take(Some("a"), &boot("1", MONDAY + 1000 * HOUR, 30));
        let second = state.take(Some("a"), &boot("2", MONDAY, 30));
        assert_eq!(second.first_boot, MONDAY);
        assert!(said(&second, "in the future"));
        // It was the second boot's clock that was wrong.
        let corrected = boot("2", MONDAY + 1005 * HOUR, 90);
        assert_eq!(
            state.take(Some("a"), &corrected),
            silent(MONDAY + 1000 * HOUR)
        );
    }

    #[test]
    fn a_damaged_record_counts_from_when_it_was_written() {
        let state = Scratch::new();
        fs::create_dir_all(state.directory()).unwrap();
        let file = state.file("a");
        for damage in [
            "",
            "{",
            "{\"first_boot\": \"x\"}",
            "{\"first_boot\": 5}",
            "\0\0\0\0",
        ] {
            fs::write(&file, damage).unwrap();
            let written = UNIX_EPOCH + Duration::from_secs(MONDAY);
            fs::File::open(&file)
                .unwrap()
                .set_modified(written)
                .unwrap();
            let lease = state.take(Some("a"), &boot("2", MONDAY + 5 * HOUR, 30));
            assert_eq!(lease.first_boot, MONDAY, "{damage:?}");
            assert!(said(&lease, "damaged"), "{damage:?}");
            let third = boot("3", MONDAY + 9 * HOUR, 30);
            assert_eq!(state.take(Some("a"), &third), silent(MONDAY), "{damage:?}");
        }
    }

    #[test]
    fn a_damaged_record_with_an_impossible_time_counts_from_this_boot_and_says_so() {
        let now = boot("2", MONDAY, 30);
        for written in [0, clock::EARLIEST - 1, MONDAY + 1, u64::MAX] {
            let settled = settle(Found::Damaged(written), &now);
            assert_eq!(settled.first_boot, MONDAY);
            assert!(settled.warning.unwrap().contains("count from this boot"));
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_a_warning_and_this_boot_counts() {
        let state = Scratch::new();
        // A file where the directory should be fails for root as well.
        fs::write(state.directory(), "").unwrap();
        let lease = state.take(Some("a"), &boot("1", MONDAY, 30));
        assert_eq!(lease.first_boot, MONDAY);
        assert!(said(&lease, "Not a directory"), "{lease:?}");
    }
}
