//! When this instance booted for the first time, from which lifetimes count.
//!
//! It is kept per instance id, so that a reboot does not renew a lease and an image
//! that was saved and launched again starts anew. All ids that were given in one boot
//! are names of one instance (OpenStack and EC2 have different ones for it): the
//! earliest first boot of theirs counts, and no other id renews the lease because
//! another source gives it. But an EC2 id may be a small counter, as Nova's are, and come
//! again in another cloud: its record says which uuid it belonged to, and where another
//! one is known now, it is another instance's, does not count and is replaced.
//!
//! What a record says depends on the clock of that first boot, which nobody vouches for.
//! So:
//!
//! - a clock that stands before [`clock::EARLIEST`] is known to be wrong: nothing is
//!   recorded, and lifetimes count from this boot;
//! - in the boot that made it, a record follows the clock for [`SETTLING`], within
//!   which NTP will have set it. Not longer: a VM that was suspended for days looks the
//!   same, and must not gain them;
//! - a record that lies in the future is the mistake of one of two clocks. Lifetimes
//!   count from this boot, it is said, and the record stays, as the other clock may be
//!   the wrong one;
//! - a damaged record is replaced by the time at which it was written, which is no
//!   earlier than the first boot and no later than this one.
//!
//! Whenever less is known than a record would say, there is a warning: no lease is
//! renewed in silence.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::clock::{self, Now};
use crate::host::regular_file::{self, MIB};
use crate::host::this_boot::ThisBoot;
use crate::host::{Host, atomic_file};

/// Where it is kept. It has to survive reboots.
const DIRECTORY: &str = "/var/lib/vmstage";

/// For so long after booting a step of the clock is taken for a correction.
pub(crate) const SETTLING: Duration = Duration::from_secs(15 * 60);

/// Two readings of one clock that differ by no more than this are the same.
const SLACK: u64 = 60;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lease {
    /// Unix seconds.
    pub(crate) first_boot: u64,
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    first_boot: u64,
    /// The boot that was the first; None where the record replaces a damaged one.
    boot_id: Option<String>,
    /// Under an EC2 id: the uuid of the instance, where one was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
}

/// Where the record under an id is.
#[derive(Debug)]
struct Place {
    file: PathBuf,
    /// The instance's, as far as they are known; none where the id alone says whose record
    /// it is.
    uuids: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Found {
    Nothing,
    Record(Record),
    /// It cannot be understood, and was written at this Unix second.
    Damaged(u64),
}

/// What counts, and what to do about the record.
#[derive(Debug, PartialEq)]
struct Settled {
    first_boot: u64,
    /// What the record says from now on; None where the clock or the record is wrong.
    record: Option<Record>,
    warning: Option<String>,
}

/// The ids that were given in one boot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Names {
    ids: BTreeSet<String>,
}

/// Looks up the first boot of the instance that has these ids, and records it where
/// that is new.
pub(crate) fn take(host: &Host, ids: &[&str], now: Now) -> Lease {
    let directory = &host.path(DIRECTORY);
    let boot_id = &host.boot_id().unwrap_or_default();
    let mut state = State {
        present: Present { boot_id, now },
        names: ThisBoot::at(host, directory.join(NAMES)),
        warnings: Vec::new(),
    };
    let names = state.names(ids);
    if names.is_empty() {
        state.warn("no source gave an instance id; lifetimes count from this boot".into());
    }
    let (mut settled, mut missing) = state.settle(places(directory, &names));
    if settled.is_empty() {
        // What counted while nobody had said who this is.
        let nobody = state.settle(vec![Place::of_its_own(directory.join(ANONYMOUS))]);
        settled = nobody.0;
        if names.is_empty() {
            missing = nobody.1;
        }
    }
    let earliest = settled.into_iter().min_by_key(|settled| settled.first_boot);
    let first = earliest.unwrap_or_else(|| settle(Found::Nothing, &state.present));
    if let Some(record) = &first.record {
        for place in &missing {
            state.write(&place.file, &place.claimed(record.clone()));
        }
    }
    first
        .warning
        .into_iter()
        .for_each(|warning| state.warn(warning));
    Lease {
        first_boot: first.first_boot,
        warnings: state.warnings,
    }
}

fn places(directory: &Path, names: &BTreeSet<String>) -> Vec<Place> {
    let (ec2, uuids): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|id| id.starts_with(EC2));
    let file = |id: &String| directory.join(file_name(id));
    let own = uuids.iter().map(|id| Place::of_its_own(file(id)));
    let shared = ec2.iter().map(|id| Place {
        file: file(id),
        uuids: uuids.iter().map(ToString::to_string).collect(),
    });
    own.chain(shared).collect()
}

impl Place {
    fn of_its_own(file: PathBuf) -> Place {
        Place {
            file,
            uuids: Vec::new(),
        }
    }

    /// Made by an instance with another uuid.
    fn is_another_ones(&self, record: &Record) -> bool {
        let is_known = |uuid| self.uuids.contains(uuid);
        !self.uuids.is_empty() && !record.uuid.as_ref().is_none_or(is_known)
    }

    /// The record as it is kept here: it says whose it is, as soon as that is known.
    fn claimed(&self, mut record: Record) -> Record {
        if record.uuid.is_none() || self.is_another_ones(&record) {
            record.uuid = self.uuids.first().cloned();
        }
        record
    }
}

/// Which boot this is, and what time it is.
struct Present<'a> {
    boot_id: &'a str,
    now: Now,
}

impl Present<'_> {
    fn booted_at(&self) -> u64 {
        self.now.wall.saturating_sub(self.now.uptime.as_secs())
    }

    fn has_made(&self, record: &Record) -> bool {
        record.boot_id.as_deref() == Some(self.boot_id)
    }
}

/// Where records are, and what was odd about them.
struct State<'a> {
    present: Present<'a>,
    names: ThisBoot<Names>,
    warnings: Vec<String>,
}

impl State<'_> {
    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Of this boot, these and those given earlier.
    fn names(&mut self, ids: &[&str]) -> BTreeSet<String> {
        atomic_file::sweep(self.names.path());
        let kept = self.names.read().ok().flatten();
        let mut names = kept.clone().unwrap_or_default();
        for id in ids {
            match usable_id(id) {
                Ok(id) if names.ids.len() < MOST_NAMES => drop(names.ids.insert(id.into())),
                // Whoever gives another one each time does not fill the disk.
                Ok(_) => {}
                Err(reason) => self.warn(format!("{reason}; ignored")),
            }
        }
        if !names.ids.is_empty() && kept.as_ref() != Some(&names) {
            let written = self.names.text(&names);
            let file = self.names.path().to_path_buf();
            self.see(&file, written.and_then(|text| Ok(write(&file, &text)?)));
        }
        names.ids
    }

    /// What each record comes to, and which ones there are not.
    fn settle(&mut self, places: Vec<Place>) -> (Vec<Settled>, Vec<Place>) {
        let (mut all, mut missing) = (Vec::new(), Vec::new());
        for place in places {
            let file = &place.file;
            atomic_file::sweep(file);
            match find(file).map(|found| of_this_boot_only(found, file, &self.present)) {
                Ok(Found::Nothing) => missing.push(place),
                Ok(Found::Record(record)) if place.is_another_ones(&record) => {
                    self.warn(format!(
                        "{} is another instance's and does not count",
                        file.display()
                    ));
                    missing.push(place);
                }
                Ok(found) => {
                    let mut settled = settle(found.clone(), &self.present);
                    settled.record = settled.record.map(|record| place.claimed(record));
                    match &settled.record {
                        Some(record) if found != Found::Record(record.clone()) => {
                            self.write(file, record);
                        }
                        _ => {}
                    }
                    settled.warning.iter().for_each(|w| self.warn(w.clone()));
                    all.push(settled);
                }
                Err(e) => self.warn(format!(
                    "cannot read {}: {e}; lifetimes may count from this boot",
                    file.display()
                )),
            }
        }
        (all, missing)
    }

    fn write(&mut self, file: &Path, record: &Record) {
        let text = serde_json::to_vec(record).map_err(anyhow::Error::from);
        let written = text.and_then(|mut text| {
            text.push(b'\n');
            Ok(write(file, &text)?)
        });
        self.see(file, written);
    }

    fn see(&mut self, file: &Path, written: Result<()>) {
        if let Err(e) = written {
            self.warn(format!(
                "cannot write {}: {e:#}; after a reboot lifetimes may count anew",
                file.display()
            ));
        }
    }
}

/// What an instance id has to look like before it becomes part of a file name.
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

/// The record of an instance that nobody named: it is good for one boot.
const ANONYMOUS: &str = "first-boot.json";

/// What an EC2 id begins with: `i-00000005`, `i-0123456789abcdef0`.
const EC2: &str = "i-";

const NAMES: &str = "names.json";

/// More than sources have for an instance.
const MOST_NAMES: usize = 8;

fn file_name(usable_id: &str) -> String {
    format!("first-boot-{usable_id}.json")
}

/// Of the record without a name nothing but this boot's own counts.
fn of_this_boot_only(found: Found, file: &Path, present: &Present) -> Found {
    match found {
        Found::Record(record) if present.has_made(&record) => Found::Record(record),
        _ if file.ends_with(ANONYMOUS) => Found::Nothing,
        found => found,
    }
}

fn settle(found: Found, present: &Present) -> Settled {
    let booted_at = present.booted_at();
    let this_boot = |warning: Option<String>| Settled {
        first_boot: booted_at,
        record: None,
        warning,
    };
    let recorded_now = |warning: Option<String>| Settled {
        first_boot: booted_at,
        record: Some(Record {
            first_boot: booted_at,
            boot_id: Some(present.boot_id.into()),
            uuid: None,
        }),
        warning,
    };
    if present.now.wall < clock::EARLIEST {
        return this_boot(Some(
            "the clock is not set yet; lifetimes count from this boot".into(),
        ));
    }
    match found {
        Found::Nothing => recorded_now(None),
        Found::Damaged(written) if (clock::EARLIEST..=booted_at).contains(&written) => Settled {
            first_boot: written,
            record: Some(Record {
                first_boot: written,
                boot_id: None,
                uuid: None,
            }),
            warning: Some(format!(
                "the record of the first boot is damaged; lifetimes count from {}, when it was \
                 written",
                clock::utc(written)
            )),
        },
        Found::Damaged(_) => recorded_now(Some(
            "the record of the first boot is damaged; lifetimes count from this boot".into(),
        )),
        Found::Record(record) => {
            let differs = record.first_boot.abs_diff(booted_at) > SLACK;
            let is_settling = present.now.uptime < SETTLING;
            if differs && present.has_made(&record) && is_settling {
                recorded_now(Some(format!(
                    "the clock was set after the first boot was recorded; lifetimes count from {}",
                    clock::utc(booted_at)
                )))
            } else if differs && record.first_boot > booted_at {
                this_boot(Some(format!(
                    "the first boot was recorded at {}, which is in the future: the clock is or \
                     was wrong; lifetimes count from this boot",
                    clock::utc(record.first_boot)
                )))
            } else {
                Settled {
                    first_boot: record.first_boot,
                    record: Some(record),
                    warning: None,
                }
            }
        }
    }
}

fn find(file: &Path) -> io::Result<Found> {
    let text = match regular_file::read(file, MIB) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        // It is none of ours.
        Err(e) if e.kind() == ErrorKind::FileTooLarge => Vec::new(),
        Err(e) => return Err(e),
    };
    let plausible = clock::EARLIEST..=clock::LATEST;
    match serde_json::from_slice::<Record>(&text) {
        Ok(record) if plausible.contains(&record.first_boot) => Ok(Found::Record(record)),
        _ => {
            let written = fs::metadata(file)?.modified()?;
            let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
            Ok(Found::Damaged(since.as_secs()))
        }
    }
}

fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    atomic_file::replace(file, text, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        }
    }

    const MONDAY: u64 = 1_795_000_000;
    const HOUR: u64 = 3600;

    /// A machine that has no record yet.
    struct Scratch(Tree);

    impl Scratch {
        fn new() -> Scratch {
            Scratch(Tree::new(&[
                ("var/lib/", ""),
                ("proc/sys/kernel/random/", ""),
            ]))
        }

        fn take(&self, id: Option<&str>, present: &Present) -> Lease {
            self.take_all(id.as_slice(), present)
        }

        fn take_all(&self, ids: &[&str], present: &Present) -> Lease {
            let boot_id = self.0.root().join("proc/sys/kernel/random/boot_id");
            fs::write(boot_id, present.boot_id).unwrap();
            take(&self.0.host(), ids, present.now)
        }

        fn directory(&self) -> PathBuf {
            self.0.host().path(DIRECTORY)
        }

        fn file(&self, instance: &str) -> PathBuf {
            self.directory().join(file_name(instance))
        }
    }

    fn silent(first_boot: u64) -> Lease {
        Lease {
            first_boot,
            warnings: Vec::new(),
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
        // From then on either name will do.
        let third = boot("3", MONDAY + 9 * HOUR, 30);
        assert_eq!(state.take(Some("i-1"), &third), silent(MONDAY));
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
    fn an_ec2_id_that_comes_again_with_another_uuid_inherits_no_lease() {
        let (state, now) = launched_again();
        let lease = state.take_all(&["uuid-2", "i-5"], &now);
        assert_eq!(lease.first_boot, MONDAY + 5 * HOUR);
        assert!(said(&lease, "another instance's"), "{lease:?}");
        // OpenStack falls silent: the record is its own now, in this boot and the next.
        for now in [now, boot("3", MONDAY + 9 * HOUR, 30)] {
            assert_eq!(
                state.take(Some("i-5"), &now),
                silent(MONDAY + 5 * HOUR),
                "in boot {}",
                now.boot_id
            );
        }
        // And so it is where only one of the two answers, in whatever order.
        for (first, then) in [("i-5", "uuid-3"), ("uuid-3", "i-5")] {
            let (state, now) = launched_again();
            state.take(Some(first), &now);
            let lease = state.take(Some(then), &now);
            assert_eq!(lease.first_boot, MONDAY + 5 * HOUR, "{first} first");
            let later = boot("3", MONDAY + 9 * HOUR, 30);
            assert_eq!(
                state.take(Some("i-5"), &later),
                silent(MONDAY + 5 * HOUR),
                "{first} first"
            );
        }
    }

    #[test]
    fn an_ec2_id_that_was_known_before_the_uuid_is_claimed_by_it() {
        let state = Scratch::new();
        state.take(Some("i-5"), &boot("1", MONDAY, 30));
        state.take(Some("uuid-1"), &boot("1", MONDAY, 90));
        let second = boot("2", MONDAY + 5 * HOUR, 30);
        // It is the same instance, whichever of its names is given.
        assert_eq!(state.take(Some("i-5"), &second), silent(MONDAY));
        assert_eq!(state.take(Some("uuid-1"), &second), silent(MONDAY));
        let launched_again = boot("3", MONDAY + 9 * HOUR, 30);
        let lease = state.take_all(&["i-5", "uuid-2"], &launched_again);
        assert_eq!(lease.first_boot, MONDAY + 9 * HOUR);
    }

    #[test]
    fn a_record_under_an_ec2_id_that_does_not_say_whose_it_is_counts() {
        let state = Scratch::new();
        fs::create_dir_all(state.directory()).unwrap();
        let text = format!(r#"{{"first_boot": {MONDAY}, "boot_id": "1"}}"#);
        fs::write(state.file("i-5"), text).unwrap();
        let second = boot("2", MONDAY + 5 * HOUR, 30);
        let lease = state.take_all(&["i-5", "uuid-1"], &second);
        assert_eq!(lease, silent(MONDAY));
    }

    #[test]
    fn a_name_that_is_learnt_while_the_clock_is_wrong_is_known_when_it_is_right() {
        let state = Scratch::new();
        state.take(Some("uuid"), &boot("1", MONDAY, 30));
        for unset in [boot("2", 0, 30), boot("2", MONDAY - 200 * 24 * HOUR, 60)] {
            state.take_all(&["uuid", "i-1"], &unset);
        }
        let late = boot("2", MONDAY + 5 * HOUR, 2 * HOUR);
        assert_eq!(state.take(Some("i-1"), &late), silent(MONDAY));
    }

    #[test]
    fn a_source_that_gives_another_id_each_time_neither_renews_nor_fills_the_disk() {
        let state = Scratch::new();
        for number in 0..100 {
            let now = boot("1", MONDAY, 30 + 60 * number);
            assert_eq!(
                state.take(Some(&format!("i-{number}")), &now),
                silent(MONDAY)
            );
        }
        assert_eq!(
            fs::read_dir(state.directory()).unwrap().count(),
            MOST_NAMES + 1
        );
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
    fn an_id_that_is_no_file_name_is_refused_and_said() {
        let state = Scratch::new();
        for id in [
            "",
            "../../etc/passwd",
            "a/b",
            "a b",
            "<html>",
            "a\n",
            &"x".repeat(65),
        ] {
            let lease = state.take(Some(id), &boot("1", MONDAY, 30));
            assert_eq!(lease.first_boot, MONDAY);
            assert!(said(&lease, "is not an instance id"), "{id:?}: {lease:?}");
        }
        let names: Vec<_> = fs::read_dir(state.directory()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        for id in [
            "aaaaaaaa-0000-4000-8000-000000000001",
            "i-0123456789abcdef0",
        ] {
            assert_eq!(usable_id(id), Ok(id));
        }
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
