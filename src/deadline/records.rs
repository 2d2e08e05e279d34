//! Where the records of first boots are: reading and writing them, without an opinion.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::first_boot::{Found, KeptBy, Place, Record, usable_id};
use super::follower::{Follower, Knowledge};
use super::identity::{Names, byte_swapped};
use super::order::{Acknowledgement, KeptOrder, Orders, Request};
use crate::clock::{self, Now};
use crate::config;
use crate::host::cloud::Firmware;
use crate::host::regular_file::{self, MIB};
use crate::host::this_boot::ThisBoot;
use crate::host::{Host, atomic_file, silent};

/// It has to survive reboots.
pub(super) const DIRECTORY: &str = "/var/lib/vmstage";

/// An operator's order that holds after a reboot.
const KEPT_ORDER: &str = "/var/lib/vmstage/end.json";

/// The record of an instance that nobody named.
const ANONYMOUS: &str = "first-boot.json";

/// More than an image that was saved again and again has.
const MOST_RECORDS: usize = 64;

pub(super) fn file_name(usable_id: &str) -> String {
    format!("first-boot-{usable_id}.json")
}

/// The places of the records of an instance with these names, and what is in them.
pub(crate) fn read(host: &Host, names: &Names) -> Vec<Place> {
    let directory = host.path(DIRECTORY);
    let uuids = [&names.machine, &names.uuid].into_iter().flatten();
    let uuids = uuids.map(|id| (KeptBy::Uuid, id.clone()));
    let others = names.others.iter().map(|id| (KeptBy::OtherId, id.clone()));
    let mut ids: Vec<(KeptBy, String)> = uuids.chain(others).collect();
    let swapped: Vec<_> = ids
        .iter()
        .filter_map(|(_, id)| Some((KeptBy::SwappedUuid, byte_swapped(&id.to_lowercase())?)))
        .collect();
    ids.extend(swapped);
    let usable = ids.into_iter().filter(|(_, id)| usable_id(id).is_ok());
    let named = usable.map(|(kept_by, id)| (kept_by, file_name(&id), id));
    let nobody = (KeptBy::Nobody, ANONYMOUS.to_string(), String::new());
    let mut files: Vec<(KeptBy, PathBuf, String)> = Vec::new();
    for (kept_by, name, id) in named.chain([nobody]) {
        let file = directory.join(name);
        if files.iter().all(|(_, known, _)| *known != file) {
            files.push((kept_by, file, id));
        }
    }
    // All together: each may be done by a child.
    let _ = silent::guarded(&directory, &mut || {
        files
            .iter()
            .for_each(|(_, file, _)| atomic_file::sweep(file));
        Ok(true)
    });
    let mut places: Vec<Place> = Vec::new();
    for (kept_by, file, id) in files {
        places.push(Place {
            kept_by,
            id,
            found: find(&file).unwrap_or_else(|e| Found::Unreadable(e.to_string())),
            file,
        });
    }
    if names.is_empty() {
        places.extend(of_unknown(&directory));
    }
    places
}

/// Likewise, once they were read before; None where they do not answer any more: what they said
/// holds then.
pub(crate) fn read_again(host: &Host, names: &Names) -> Option<Vec<Place>> {
    let places = read(host, names);
    let is_silent = silent::is_left_alone(&host.path(DIRECTORY));
    (!is_silent).then_some(places)
}

/// Records of whomever, where nobody knows who this is.
fn of_unknown(directory: &Path) -> Vec<Place> {
    if silent::is_left_alone(directory) {
        return Vec::new();
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = |file: &Path| {
        let name = file.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("first-boot-") && name.ends_with(".json"))
    };
    let files = entries.map(|entry| entry.path()).filter(|file| named(file));
    let places = files.take(MOST_RECORDS).map(|file| Place {
        kept_by: KeptBy::Unknown,
        id: String::new(),
        found: find(&file).unwrap_or_else(|e| Found::Unreadable(e.to_string())),
        file,
    });
    places.collect()
}

/// Begins to follow: with what another process of this boot knew, and an earlier boot of this
/// instance.
pub(crate) fn follow<'a>(host: &Host, config: &'a config::Deadline, now: Now) -> Follower<'a> {
    let boot_id = host.boot_id().unwrap_or_default();
    let before = knowledge(host).read().ok().flatten();
    let firmware = Firmware::read(host);
    let is_trusted = firmware.has_the_instances_uuid();
    let mut follower = Follower::new(config, boot_id, firmware.uuid, before, now);
    if is_trusted {
        follower.trust_machine();
    }
    follower.read(read(host, &follower.names()), now);
    follower.obey(orders(host, &Orders::default()));
    follower
}

/// What `vmstage end` asked for, in this boot and in one before. Where that cannot be read now,
/// what was read `before` holds. What is not understood is no order.
pub(crate) fn orders(host: &Host, before: &Orders) -> Orders {
    let boot_id = host.boot_id().unwrap_or_default();
    let holds = |kept: &KeptOrder| kept.holds_in(&boot_id);
    Orders {
        request: match request(host).read() {
            Ok(request) => request,
            Err(_) => before.request.clone(),
        },
        kept: match regular_file::read(&host.path(KEPT_ORDER), MIB) {
            Ok(text) => serde_json::from_slice(&text).ok().filter(holds),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(_) => before.kept.clone(),
        },
    }
}

/// Where `vmstage end` asks `watch`.
pub(crate) fn request(host: &Host) -> ThisBoot<Request> {
    ThisBoot::at(host, host.runtime_directory().join("end.json"))
}

/// Where `watch` says that it has heard.
pub(crate) fn acknowledgement(host: &Host) -> ThisBoot<Acknowledgement> {
    ThisBoot::at(host, host.runtime_directory().join("end-heard.json"))
}

/// Has this order hold after a reboot as well, and no other.
///
/// # Errors
///
/// That the file cannot be written, or removed.
pub(crate) fn keep_order(host: &Host, order: Option<&KeptOrder>) -> io::Result<()> {
    let file = host.path(KEPT_ORDER);
    let Some(order) = order else {
        return atomic_file::remove_if_there(&file).map(drop);
    };
    write_one(&file, order, 0o600)
}

/// What is known in this boot, for the next process that follows.
pub(crate) fn knowledge(host: &Host) -> ThisBoot<Knowledge> {
    ThisBoot::at(host, host.runtime_directory().join("deadline.json"))
}

/// Writes that down, for root alone.
///
/// # Errors
///
/// That it cannot be written.
pub(crate) fn keep<T: Serialize>(file: &ThisBoot<T>, content: &T) -> anyhow::Result<()> {
    let text = file.text(content)?;
    atomic_file::replace_if_changed(file.path(), &text, 0o600)?;
    Ok(())
}

/// Writes that down; over what is there where nothing new can be written.
///
/// # Errors
///
/// That neither can be done.
pub(crate) fn keep_without_room<T: Serialize>(
    file: &ThisBoot<T>,
    content: &T,
) -> anyhow::Result<()> {
    let Err(failed) = keep(file, content) else {
        return Ok(());
    };
    atomic_file::overwrite(file.path(), &file.text(content)?).map_err(|_| failed)
}

/// Has `watch` forget an order, also where nothing can be written.
///
/// # Errors
///
/// That the order can be neither replaced nor removed.
pub(crate) fn cancel(host: &Host, request: &Request) -> anyhow::Result<()> {
    let file = self::request(host);
    let Err(failed) = keep_without_room(&file, request) else {
        return Ok(());
    };
    // Where nothing was asked for in this boot, the order is one that was kept.
    let removed =
        keep_order(host, None).and_then(|()| atomic_file::remove_if_there(file.path()).map(drop));
    removed.map_err(|_| failed)
}

/// Writes these records. What could not be is said.
pub(crate) fn write(writes: &[(PathBuf, Record)]) -> Vec<String> {
    let failed = writes.iter().filter_map(|(file, record)| {
        let e = write_one(file, record, 0o644).err()?;
        Some(format!(
            "cannot write {}: {e:#}; after a reboot lifetimes may count anew",
            file.display()
        ))
    });
    failed.collect()
}

fn write_one<T: Serialize>(file: &Path, record: &T, mode: u32) -> io::Result<()> {
    let mut text = serde_json::to_vec(record)?;
    text.push(b'\n');
    atomic_file::replace_with_directories(file, &text, mode)
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

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;
    use crate::host::tree::Tree;

    /// Else a lifetime would begin anew where the disk with the record hangs.
    #[test]
    fn what_records_said_holds_where_they_do_not_answer_any_more() {
        let tree = Tree::new(&[("var/lib/vmstage/first-boot.json", "{}")]);
        let (host, names) = (tree.host(), Names::default());
        let places = read_again(&host, &names).unwrap();
        assert!(matches!(places[0].found, Found::Damaged(_)));
        let hang = &mut || {
            sleep(Duration::from_secs(60));
            Ok(true)
        };
        let directory = host.path(DIRECTORY);
        silent::in_child(&directory, Duration::from_millis(100), &[], hang).unwrap_err();
        assert!(read_again(&host, &names).is_none());
    }
}
