//! Places that may not answer: a file system on a server that is gone, a disk that hangs.
//!
//! What is done at one is done in a child with a time limit. One that did not answer is left
//! alone for a while, longer after each time, and for as long as its child is there: one child
//! hangs at a place, and not one more each time. Where the whole file system does not answer,
//! all places on it are left alone.

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Host;
use super::bounded::{self, Child, GaveUp, LeftBehind, Limit};
use super::mount_table::{self, Mount};
use super::way;

/// Longer than another process is waited for that writes the same file.
pub(crate) const LIMIT: Duration = Duration::from_secs(6);

/// One that does not answer is left alone for so long, twice as long after each time.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// One that has just answered is not asked whether it does.
const JUST_NOW: Duration = Duration::from_secs(1);

/// After so much waiting in vain, a short run gives each further place no more than a moment.
const MOST_IN_ALL: Duration = Duration::from_secs(18);
const A_MOMENT: Duration = Duration::from_secs(1);

/// Where this process must not wait for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// For a short run: on what is mounted beside the root file system. What hangs there holds
    /// the whole system.
    BesideTheRoot,
    /// Wherever it is not in memory.
    OnAnyDisk,
}

/// One that did not answer.
#[derive(Debug)]
pub(crate) struct Silent {
    /// Still there as long as the system call that hangs.
    child: LeftBehind,
    since: Instant,
    pause: Duration,
}

impl Silent {
    /// Again, after what was known `before`.
    pub(crate) fn after(before: Option<&Silent>, child: LeftBehind) -> Silent {
        let longer = |before: &Silent| (2 * before.pause).min(LONGEST_PAUSE);
        Silent {
            child,
            since: Instant::now(),
            pause: before.map_or(FIRST_PAUSE, longer),
        }
    }

    pub(crate) fn is_left_alone(&self) -> bool {
        self.since.elapsed() < self.pause || self.child.is_there()
    }

    /// So much later, when nobody is in the way any more.
    #[cfg(test)]
    pub(crate) fn age(&mut self, by: Duration) {
        self.since = self.since.checked_sub(by).unwrap();
        assert!(self.child.is_gone_within(Duration::from_secs(10)));
    }
}

struct Known {
    expected: Option<Expected>,
    mounts: Option<Arc<[Mount]>>,
    /// Whether one of them is beside the root file system: asked at each step of each way.
    any_is_beside_the_root: bool,
    /// Where that is to be seen again.
    host: Option<Host>,
    silent: Vec<(PathBuf, Silent)>,
    answered: Vec<(PathBuf, Instant)>,
    /// How long was waited for those that did not answer.
    waited: Duration,
}

static KNOWN: Mutex<Known> = Mutex::new(Known {
    expected: None,
    mounts: None,
    any_is_beside_the_root: false,
    host: None,
    silent: Vec::new(),
    answered: Vec::new(),
    waited: Duration::ZERO,
});

/// A child of a test may have none of the threads that could unlock it.
fn known() -> Option<MutexGuard<'static, Known>> {
    match bounded::is_child() {
        true => KNOWN.try_lock().ok(),
        false => KNOWN.lock().ok(),
    }
}

/// From now on what is done at such places has a time limit.
pub(crate) fn expect(host: &Host, expected: Expected) {
    if let Some(mut known) = known() {
        known.expected = Some(expected);
        let mounts = mount_table::at_present(host).unwrap_or_default();
        known.any_is_beside_the_root = mounts.iter().any(is_beside_the_root);
        known.mounts = Some(mounts);
        // A short run sees what is there when it begins.
        let goes_on = expected == Expected::OnAnyDisk;
        known.host = goes_on.then(|| host.clone());
    }
}

/// Does `work` at a place: in a child with a time limit where it may hang. Says whether anything
/// changed.
///
/// # Errors
///
/// Those of `work`, and that the place does not answer (`TimedOut`).
pub(crate) fn guarded(
    place: &Path,
    work: &mut dyn FnMut() -> io::Result<bool>,
) -> io::Result<bool> {
    let may_hang = known().is_some_and(|mut known| known.may_hang(place).is_some());
    match may_hang {
        false => work(),
        true if bounded::is_child() && !is_left_alone(place) => work(),
        true => in_child(place, LIMIT, &[], work),
    }
}

/// Does it in a child first where the place may hang and has not answered a moment ago; then it is
/// for the caller to do it once more.
///
/// # Errors
///
/// That the place does not answer (`TimedOut`).
pub(crate) fn see_that_it_answers(place: &Path, work: &mut dyn FnMut()) -> io::Result<()> {
    let has_answered = known().is_none_or(|mut known| {
        let may_hang = known.may_hang(place).is_some();
        let mut answered = known.answered.iter();
        !may_hang || answered.any(|(one, at)| one == place && at.elapsed() < JUST_NOW)
    });
    if has_answered || bounded::is_child() && !is_left_alone(place) {
        return Ok(());
    }
    let work = &mut || {
        work();
        Ok(true)
    };
    in_child(place, LIMIT, &[], work).map(drop)
}

/// Sees that each file system answers that the way to a path leads through, links followed. Then
/// it is for the caller to go there.
///
/// # Errors
///
/// That one does not answer (`TimedOut`).
pub(crate) fn see_that_the_way_answers(path: &Path) -> io::Result<()> {
    let mut answered = Ok(());
    if known().is_none_or(|known| !known.expects_any()) {
        return answered;
    }
    way::leads_to_any(path, &mut |here| {
        answered = see_that_its_mount_answers(here);
        answered.is_err()
    });
    answered
}

/// Likewise of the file system that a place is on by its text: no link is followed.
///
/// # Errors
///
/// That it does not answer (`TimedOut`).
pub(crate) fn see_that_its_mount_answers(place: &Path) -> io::Result<()> {
    match known().and_then(|mut known| known.may_hang_at(place)) {
        Some(mount_point) => {
            let look = &mut || drop(place.symlink_metadata());
            see_that_it_answers(&mount_point, look)
        }
        None => Ok(()),
    }
}

/// Does `work` at a place in a child with this time limit in any case, unless the place is left
/// alone. Of this process's descriptors the child has those in `keep`.
///
/// # Errors
///
/// Those of `work`, and that the place does not answer (`TimedOut`).
pub(crate) fn in_child(
    place: &Path,
    limit: Duration,
    keep: &[BorrowedFd],
    work: &mut dyn FnMut() -> io::Result<bool>,
) -> io::Result<bool> {
    if is_left_alone(place) {
        return Err(no_answer(place));
    }
    // What is given more has its own reason to take long.
    let limit = match known() {
        Some(known) if limit <= LIMIT => limit.min(known.patience()),
        _ => limit,
    };
    let mut child = Child::start(keep, |parent| {
        parent.tell(&work().map_err(Failed::from));
    })
    .map_err(io::Error::other)?;
    let done: Result<Result<bool, Failed>, GaveUp> = child.wait(Limit::after(limit));
    let Some(mut known) = self::known() else {
        return Err(ErrorKind::Other.into());
    };
    let before = known.silent.iter().position(|(one, _)| one == place);
    let before = before.map(|index| known.silent.swap_remove(index).1);
    match done {
        Ok(done) => {
            known.answered.retain(|(one, _)| one != place);
            known.answered.push((place.into(), Instant::now()));
            done.map_err(io::Error::from)
        }
        Err(GaveUp::Late(after)) => {
            let silent = Silent::after(before.as_ref(), child.give_up());
            known.silent.push((place.into(), silent));
            known.waited += after;
            let mount_point = known.may_hang(place).filter(|one| one != place);
            drop(known);
            // All of it may be silent, or this one slow.
            if let Some(mount_point) = mount_point {
                let look = &mut || Ok(mount_point.symlink_metadata().is_ok());
                let _ = in_child(&mount_point, A_MOMENT, &[], look);
            }
            Err(no_answer(place))
        }
        Err(broken) => Err(io::Error::other(broken)),
    }
}

/// Whether a place did not answer, or the file system that it is on, and is not asked again yet.
pub(crate) fn is_left_alone(place: &Path) -> bool {
    known().is_some_and(|mut known| {
        let is_left_alone = |known: &Known, place: &Path| {
            let mut silent = known.silent.iter();
            silent.any(|(one, silent)| one == place && silent.is_left_alone())
        };
        is_left_alone(&known, place)
            || !known.silent.is_empty()
                && known
                    .may_hang(place)
                    .is_some_and(|mount_point| is_left_alone(&known, &mount_point))
    })
}

/// Where the file system is mounted that a place leads to, where that may hang. A child, which is
/// given up anyway, hears only of one that did not answer.
pub(crate) fn mount_that_may_hang(place: &Path) -> Option<PathBuf> {
    let mount_point = known().and_then(|mut known| known.may_hang(place))?;
    (!bounded::is_child() || is_left_alone(&mount_point)).then_some(mount_point)
}

/// Those that did not answer.
pub(crate) fn places() -> Vec<PathBuf> {
    let known = known();
    let silent = known.iter().flat_map(|known| &known.silent);
    silent.map(|(place, _)| place.clone()).collect()
}

/// Whether places on disks are left to a child.
pub(crate) fn is_expected_on_any_disk() -> bool {
    known().is_some_and(|known| known.expected == Some(Expected::OnAnyDisk))
}

/// The same words each time: they are said once.
pub(super) fn no_answer(place: &Path) -> io::Error {
    let text = format!(
        "{} does not answer, and is left alone for a while",
        place.display()
    );
    io::Error::new(ErrorKind::TimedOut, text)
}

impl Known {
    /// Where the file system is mounted that a place leads to, where that may hang.
    fn may_hang(&mut self, place: &Path) -> Option<PathBuf> {
        if !self.expects_any() {
            return None;
        }
        let mut found = self.may_hang_at(place);
        // A link on the way may lead there.
        if found.is_none() {
            way::leads_to_any(place, &mut |here| {
                found = self.may_hang_at(here);
                found.is_some()
            });
        }
        found
    }

    /// How long the next place is waited for at most.
    fn patience(&self) -> Duration {
        match self.expected {
            Some(Expected::BesideTheRoot) => MOST_IN_ALL.saturating_sub(self.waited).max(A_MOMENT),
            _ => Duration::MAX,
        }
    }

    /// Whether there is any place that may hang.
    fn expects_any(&self) -> bool {
        match self.expected {
            None => false,
            Some(Expected::BesideTheRoot) => self.any_is_beside_the_root,
            Some(Expected::OnAnyDisk) => true,
        }
    }

    /// Where the file system is mounted that a place is on, where that may hang.
    fn may_hang_at(&mut self, place: &Path) -> Option<PathBuf> {
        let expected = self.expected.filter(|_| self.expects_any())?;
        // A child is given up anyway.
        if !bounded::is_child()
            && let Some(host) = &self.host
        {
            self.mounts = mount_table::at_present(host).ok();
        }
        may_hang_at(place, expected, self.mounts.as_deref().unwrap_or_default())
    }
}

/// As far as the mount table says, without a look at the way.
fn may_hang_at(place: &Path, expected: Expected, mounts: &[Mount]) -> Option<PathBuf> {
    let place = as_the_kernel_has_it(place);
    let place = place.as_os_str().as_bytes();
    let above = mounts.iter().filter(|mount| {
        let rest = place.strip_prefix(mount.mount_point.as_os_str().as_bytes());
        rest.is_some_and(|rest| {
            matches!(rest, [] | [b'/', ..]) || mount.mount_point == Path::new("/")
        })
    });
    // The last in the table lies on top.
    let on = above.max_by_key(|mount| mount.mount_point.as_os_str().len());
    let may_hang = match expected {
        Expected::BesideTheRoot => on.is_some_and(is_beside_the_root),
        Expected::OnAnyDisk => !on.is_some_and(is_in_memory),
    };
    may_hang.then(|| on.map_or_else(|| "/".into(), |mount| mount.mount_point.clone()))
}

/// With nothing but single separators between its components.
fn as_the_kernel_has_it(path: &Path) -> Cow<'_, Path> {
    let mut pairs = path.as_os_str().as_bytes().windows(2);
    match pairs.any(|pair| matches!(pair, b"//" | b"/.")) {
        true => path.components().collect::<PathBuf>().into(),
        false => path.into(),
    }
}

/// Whether what is mounted there may hang, and the system go on. What hangs in the root file system,
/// or in `/usr`, holds the whole system, with this program or without it.
pub(crate) fn is_beside_the_root(mount: &Mount) -> bool {
    let of_the_root = ["/", "/usr"].map(Path::new);
    !of_the_root.contains(&&*mount.mount_point) && !is_in_memory(mount)
}

fn is_in_memory(mount: &Mount) -> bool {
    let kinds = [
        "tmpfs", "ramfs", "devtmpfs", "proc", "sysfs", "devpts", "rootfs",
    ];
    kinds.contains(&mount.filesystem.as_str())
}

/// An error on its way from a child.
#[derive(Serialize, Deserialize)]
struct Failed {
    number: Option<i32>,
    is_late: bool,
    text: String,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed {
            number: error.raw_os_error(),
            is_late: error.kind() == ErrorKind::TimedOut,
            text: error.to_string(),
        }
    }
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> io::Error {
        match failed.number {
            Some(number) => io::Error::from_raw_os_error(number),
            None if failed.is_late => io::Error::new(ErrorKind::TimedOut, failed.text),
            None => io::Error::other(failed.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn what_hangs_is_given_up_once_and_left_alone_longer_each_time() {
        let tree = Tree::new(&[]);
        let (place, count) = (tree.root(), tree.root().join("count"));
        let mut hang = || {
            std::fs::File::create_new(&count)?;
            sleep(Duration::from_secs(60));
            Ok(true)
        };
        let mut ask = |hangs: bool| {
            let limit = Duration::from_millis(500);
            let done = match hangs {
                true => in_child(place, limit, &[], &mut hang),
                false => in_child(place, limit, &[], &mut || Ok(true)),
            };
            let was_tried = std::fs::remove_file(&count).is_ok();
            (done.map_err(|e| (e.kind(), e.to_string())), was_tried)
        };
        let age = |by: Duration| {
            let mut known = known().unwrap();
            let mut silent = known.silent.iter_mut();
            silent.find(|(one, _)| one == place).unwrap().1.age(by);
        };
        assert_eq!(ask(false), (Ok(true), false));
        let words = format!(
            "{} does not answer, and is left alone for a while",
            place.display()
        );
        let failed = Err((ErrorKind::TimedOut, words));
        let mut pause = FIRST_PAUSE;
        for _ in 0..3 {
            assert_eq!(ask(true), (failed.clone(), true));
            assert_eq!(ask(true), (failed.clone(), false));
            age(pause / 2);
            assert_eq!(ask(true), (failed.clone(), false));
            age(pause / 2);
            pause *= 2;
        }
        assert_eq!(ask(false), (Ok(true), false));
        assert!(!is_left_alone(place));
    }

    #[test]
    fn an_error_comes_back_as_it_was() {
        let tree = Tree::new(&[]);
        let run = |work: &mut dyn FnMut() -> io::Result<bool>| {
            in_child(tree.root(), LIMIT, &[], work).map_err(|e| (e.kind(), e.to_string()))
        };
        let missing = run(&mut || Err(io::Error::from_raw_os_error(2))).unwrap_err();
        assert_eq!(missing.0, ErrorKind::NotFound);
        let late = run(&mut || Err(io::Error::new(ErrorKind::TimedOut, "a"))).unwrap_err();
        assert_eq!(late, (ErrorKind::TimedOut, "a".into()));
        let other = run(&mut || Err(io::Error::other("no room"))).unwrap_err();
        assert_eq!(other, (ErrorKind::Other, "no room".into()));
    }

    #[test]
    fn where_something_may_hang_the_mount_table_says() {
        let table = "rootfs / rootfs rw 0 0\n/dev/vda1 / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
                     /dev/vdc /var ext4 rw 0 0\nserver:/x /run/user/x nfs rw 0 0\n\
                     /dev/vdd /mnt ext4 rw 0 0\ntmpfs /mnt tmpfs rw 0 0\n";
        let mounts = mount_table::parse(table.as_bytes());
        for (place, for_a_short_run, for_long) in [
            ("/", false, true),
            ("/etc/condor/config.d", false, true),
            ("/variety", false, true),
            ("/run", false, false),
            ("/run/vmstage", false, false),
            ("/var/lib/vmstage", true, true),
            ("/var", true, true),
            ("//var/./lib", true, true),
            ("/./var//.x/", true, true),
            ("/run/user/x/y", true, true),
            ("/mnt/x", false, false),
        ] {
            let found = [Expected::BesideTheRoot, Expected::OnAnyDisk]
                .map(|expected| may_hang_at(Path::new(place), expected, &mounts).is_some());
            assert_eq!(found, [for_a_short_run, for_long], "{place}");
        }
        let unknown = [Expected::BesideTheRoot, Expected::OnAnyDisk]
            .map(|expected| may_hang_at(Path::new("/run"), expected, &[]));
        assert_eq!(unknown, [None, Some("/".into())]);
    }
}
