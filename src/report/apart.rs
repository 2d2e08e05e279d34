//! Files at places that may not answer: another file system is mounted on the way to them.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::host::{Host, checked_path, mount_table};

/// What hangs there holds the whole system, with this program or without it.
const OF_THE_SYSTEM: [&str; 7] = ["/", "/etc", "/run", "/usr", "/var", "/var/lib", "/var/run"];

/// How long a place that did not answer is left alone.
const PAUSE: Duration = Duration::from_secs(600);

/// Consumers whose place did not answer, and since when.
static SILENT: Mutex<Vec<(&str, Instant)>> = Mutex::new(Vec::new());

/// Does what reads and writes at these places: in a child with a time limit where one of them
/// may hang.
///
/// # Errors
///
/// Those of `work`, and that a place does not answer.
pub(super) fn guarded(
    host: &Host,
    key: &'static str,
    places: &[&Path],
    work: &mut dyn FnMut() -> Result<bool>,
) -> Result<bool> {
    match find(host, places) {
        Some(place) => in_child(key, place, work),
        None => work(),
    }
}

/// The first of these directories that may hang.
pub(super) fn find<'a>(host: &Host, directories: &[&'a Path]) -> Option<&'a Path> {
    let mounts = mount_table::read(host).unwrap_or_default();
    let mounts = mounts.into_iter().map(|mount| mount.mount_point);
    let mounts: Vec<PathBuf> = mounts
        .filter(|mount| OF_THE_SYSTEM.iter().all(|own| mount != Path::new(own)))
        .map(|mount| host.path(mount))
        .collect();
    let mut directories = directories.iter().copied();
    directories.find(|directory| checked_path::leads_to_any(&host.path(directory), &mounts))
}

/// Likewise, in a child in any case.
///
/// # Errors
///
/// Likewise.
pub(super) fn in_child(
    key: &'static str,
    place: &Path,
    work: &mut dyn FnMut() -> Result<bool>,
) -> Result<bool> {
    in_child_within(checked_path::LIMIT, key, place, work)
}

fn in_child_within(
    limit: Duration,
    key: &'static str,
    place: &Path,
    work: &mut dyn FnMut() -> Result<bool>,
) -> Result<bool> {
    let is_silent = SILENT.lock().is_ok_and(|silent| {
        let mut silent = silent.iter();
        silent.any(|(of, since)| *of == key && since.elapsed() < PAUSE)
    });
    if !is_silent {
        let done = checked_path::in_child(limit, &[], &mut || {
            work().map_err(|e| io::Error::other(format!("{e:#}")))
        });
        match (done, SILENT.lock()) {
            (Err(e), Ok(mut silent)) if e.kind() == ErrorKind::TimedOut => {
                silent.retain(|(of, _)| *of != key);
                silent.push((key, Instant::now()));
            }
            (done, _) => return Ok(done?),
        }
    }
    bail!(
        "what is mounted at {} does not answer, and is left alone for {PAUSE:?}",
        place.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn what_hangs_is_given_up_once_and_left_alone_then() {
        let tree = Tree::new(&[
            ("a/b/", ""),
            ("c/", ""),
            ("proc/self/mounts", "x /a fuse rw 0 0\n"),
        ]);
        let run = |key, work: &mut dyn FnMut() -> Result<bool>| {
            let start = Instant::now();
            let places = [Path::new("/c"), Path::new("/a/b")];
            let place = find(&tree.host(), &places).unwrap();
            let done = in_child_within(Duration::from_millis(500), key, place, work);
            (done.map_err(|e| format!("{e:#}")), start.elapsed())
        };
        assert_eq!(run("test.a", &mut || Ok(true)).0, Ok(true));
        let failed = run("test.a", &mut || bail!("no room")).0;
        assert_eq!(failed.unwrap_err(), "no room");
        let mut hang = || {
            std::thread::sleep(Duration::from_secs(60));
            Ok(true)
        };
        let (first, _) = run("test.a", &mut hang);
        let words = "what is mounted at /a/b does not answer, and is left alone for 600s";
        assert_eq!(first.as_ref().unwrap_err(), words);
        let (second, took) = run("test.a", &mut hang);
        assert_eq!(second, first);
        assert!(took < Duration::from_millis(400));
        assert_eq!(run("test.b", &mut || Ok(true)).0, Ok(true));
    }

    #[test]
    fn what_the_system_itself_is_on_is_not_apart() {
        let table = "/dev/vda / ext4 rw 0 0\n/dev/vdb /var ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
                     s:/x /etc/condor/config.d nfs4 rw 0 0\n";
        let tree = Tree::new(&[
            ("proc/self/mounts", table),
            ("var/lib/prometheus/", ""),
            ("run/motd.d/", ""),
            ("etc/condor/config.d/", ""),
        ]);
        let places = [
            "/var/lib/prometheus",
            "/run/motd.d",
            "/etc/condor",
            "/nowhere",
        ];
        assert_eq!(find(&tree.host(), &places.map(Path::new)), None);
        let place = Path::new("/etc/condor/config.d");
        assert_eq!(find(&tree.host(), &[place]), Some(place));
    }
}
