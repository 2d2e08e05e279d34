//! Reaching the directory that a file is to be written into, so that nobody else decides
//! which one that is.
//!
//! Whoever may write into a directory on the way can put a link, a pipe or another directory
//! into the place of the next one. So the path is opened one component at a time (openat(2),
//! since Linux 2.6.16), none of them through a link:
//!
//! - A link counts only where nobody but root may write into any directory up to it. It is
//!   the system's then (`/var/run`, `/etc/init.d`), and the walk goes on where it leads to.
//! - Each directory belongs to root or to U, the first owner on the way who is not root. Else
//!   nothing is written.
//! - From the first directory on into which somebody else may write, as its owner or by its
//!   mode (a sticky bit changes nothing of that, but for locks: [`open_own`]), all is done in a
//!   child with a time limit: what never answers may have been mounted there.
//! - In a directory of U's, that child has U's effective ids and no groups: nothing can be
//!   reached that U could not write anyway. Into a directory of root's that lies in one of
//!   U's (Debian's `/var/lib/prometheus/node-exporter`) it writes as root: all that U can put
//!   into its place is another directory that root itself made in one of U's.
//!
//! Whoever runs this program counts as root: what belongs to them, they may write anyway.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};
use nix::unistd::{Gid, Uid, getegid, geteuid, setegid, seteuid, setgroups};

use super::kernel_calls::has_access_list;
use super::silent::{self, LIMIT};
use super::way::{MOST_LINKS, backwards, start_of};

/// The kernel's own number for nobody's group.
const NO_GROUP: u32 = 65534;

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC);

const FOR_ALL_TO_ENTER: Mode = Mode::S_IRWXU
    .union(Mode::S_IRGRP)
    .union(Mode::S_IXGRP)
    .union(Mode::S_IROTH)
    .union(Mode::S_IXOTH);

/// What is done in a directory. Says whether anything changed.
pub(crate) type Work<'a> = &'a mut dyn FnMut(BorrowedFd) -> io::Result<bool>;

/// Does `work` in a directory, as the rules of this module allow it.
///
/// # Errors
///
/// Those of openat(2) and of `work`, that the rules forbid it, and that it was not done in
/// time.
pub(crate) fn within(directory: &Path, work: Work) -> io::Result<bool> {
    silent::guarded(directory, &mut || {
        if silent::is_left_alone(directory) {
            return Err(silent::no_answer(directory));
        }
        let mut walk = Walk::begin(directory)?;
        walk.go_on(Until::OthersMayWrite)?;
        if !walk.others_may_write {
            return work(walk.here.as_fd());
        }
        let here = walk.here.clone();
        silent::in_child(directory, LIMIT, &[here.as_fd()], &mut || walk.finish(work))
    })
}

/// Opens a directory into which nobody but root may write, nor put another into its place.
///
/// On the way to it may be directories of root's with the sticky bit into which everybody writes
/// (a `/run` that was mounted with a tmpfs's own mode). What is root's in such a one, nobody else
/// can rename or remove, nor can anybody else move a directory of root's into it (rename(2)).
///
/// # Errors
///
/// Those of openat(2), that somebody else may, and that a place on the way does not answer.
pub(crate) fn open_own(directory: &Path, missing: Missing) -> io::Result<File> {
    silent::see_that_the_way_answers(directory)?;
    let mut walk = Walk::begin(directory)?;
    walk.missing = missing;
    walk.go_on(Until::OthersMayWrite)?;
    while walk.others_may_write {
        if !walk.is_sticky || walk.ahead.is_empty() {
            return Err(walk.refused("somebody else may write there"));
        }
        // As long as this holds, one step: no link, and no `..`, leads on from there.
        walk.go_on(Until::NextDirectory)?;
        walk.others_may_write = walk.others_may_write_here;
        walk.go_on(Until::OthersMayWrite)?;
    }
    let opened = Rc::into_inner(walk.here).ok_or(ErrorKind::Other)?;
    Ok(opened.into())
}

/// What is done about a directory that is not there.
#[derive(Clone, Copy)]
pub(crate) enum Missing {
    IsAnError,
    IsMade,
}

/// Opens a directory in one that is open, and none that a link leads to.
///
/// # Errors
///
/// Those of openat(2).
pub(crate) fn open_below(directory: BorrowedFd, name: &CStr) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, DIRECTORY, Mode::empty())?)
}

/// How far to go.
#[derive(Clone, Copy)]
enum Until {
    OthersMayWrite,
    NextDirectory,
    End,
}

struct Walk {
    here: Rc<OwnedFd>,
    /// Where that is, for people.
    path: PathBuf,
    /// The components that are still to be opened, the next one last.
    ahead: Vec<CString>,
    owner: u32,
    /// U of the rules.
    other_owner: Option<u32>,
    others_may_write: bool,
    /// Into this very directory.
    others_may_write_here: bool,
    /// It is root's, and in it nobody renames or removes what is somebody else's.
    is_sticky: bool,
    missing: Missing,
    links: usize,
}

impl Walk {
    fn begin(directory: &Path) -> io::Result<Walk> {
        let (root, rest) = start_of(directory);
        let mut walk = Walk {
            here: Rc::new(open(&root, DIRECTORY, Mode::empty())?),
            path: root,
            ahead: Vec::new(),
            owner: 0,
            other_owner: None,
            others_may_write: false,
            others_may_write_here: false,
            is_sticky: false,
            missing: Missing::IsAnError,
            links: 0,
        };
        walk.look()?;
        walk.lies_ahead(rest)?;
        Ok(walk)
    }

    fn lies_ahead(&mut self, path: &Path) -> io::Result<()> {
        for component in backwards(path) {
            self.ahead.push(CString::new(component.as_bytes())?);
        }
        Ok(())
    }

    fn go_on(&mut self, until: Until) -> io::Result<()> {
        while !(self.others_may_write && matches!(until, Until::OthersMayWrite)) {
            let Some(name) = self.ahead.pop() else { break };
            match name.as_bytes() == b".." && self.path.is_absolute() {
                true => drop(self.path.pop()),
                false => self.path.push(OsStr::from_bytes(name.as_bytes())),
            }
            if self.others_may_write && name.as_bytes() == b".." {
                return Err(self.refused("somebody else may say where that is"));
            }
            let mut opened = openat(&self.here, name.as_c_str(), DIRECTORY, Mode::empty());
            if let (Err(Errno::ENOENT), Missing::IsMade) = (&opened, self.missing) {
                // Another may have been faster.
                let _ = mkdirat(&self.here, name.as_c_str(), FOR_ALL_TO_ENTER);
                opened = openat(&self.here, name.as_c_str(), DIRECTORY, Mode::empty());
            }
            match opened {
                Ok(opened) => {
                    self.here = Rc::new(opened);
                    self.look()?;
                    if let Until::NextDirectory = until {
                        break;
                    }
                }
                // The one or the other of a link, depending on the kernel.
                Err(Errno::ENOTDIR | Errno::ELOOP) => self.follow(&name)?,
                Err(e) => return Err(self.failed(e)),
            }
        }
        Ok(())
    }

    /// Whose the directory is that was just opened.
    fn look(&mut self) -> io::Result<()> {
        let there = fstat(&self.here)?;
        self.owner = there.st_uid;
        self.others_may_write_here = others_may_write(&there)
            // The group's part of the mode is the most that the list lets anybody have.
            || there.st_mode & libc::S_IWGRP != 0 && has_access_list(self.here.as_fd());
        self.others_may_write |= self.others_may_write_here;
        self.is_sticky = is_trusted(there.st_uid) && there.st_mode & libc::S_ISVTX != 0;
        if is_trusted(there.st_uid) {
            return Ok(());
        }
        match self.other_owner.replace(there.st_uid) {
            Some(first) if first != there.st_uid => Err(self.refused(&format!(
                "it belongs to the user number {}, and lies in a directory of number {first}",
                there.st_uid
            ))),
            _ => Ok(()),
        }
    }

    fn follow(&mut self, name: &CStr) -> io::Result<()> {
        let target = match readlinkat(&self.here, name) {
            Ok(target) => PathBuf::from(target),
            Err(_) => return Err(self.failed(Errno::ENOTDIR)),
        };
        if self.others_may_write {
            return Err(self.refused("it is a link that somebody else may have laid"));
        }
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(self.failed(Errno::ELOOP));
        }
        let (root, _) = start_of(&self.path);
        self.path.pop();
        if target.is_absolute() {
            self.here = Rc::new(open(&root, DIRECTORY, Mode::empty())?);
            self.path = root;
        }
        self.lies_ahead(&target)
    }

    /// The rest of the way and the work, in a child.
    fn finish(&mut self, work: Work) -> io::Result<bool> {
        self.go_on(Until::End)?;
        if !is_trusted(self.owner) {
            let as_owner = setgroups(&[])
                .and_then(|()| setegid(Gid::from_raw(NO_GROUP)))
                .and_then(|()| seteuid(Uid::from_raw(self.owner)));
            as_owner.map_err(|e| self.failed(e))?;
        }
        work(self.here.as_fd())
    }

    fn refused(&self, why: &str) -> io::Error {
        io::Error::other(format!("{} is left alone: {why}", self.path.display()))
    }

    /// What is not there is told by its kind: many a consumer is not installed.
    fn failed(&self, error: Errno) -> io::Error {
        match error {
            Errno::ENOENT => error.into(),
            _ => {
                let error = io::Error::from(error);
                io::Error::other(format!("{}: {error}", self.path.display()))
            }
        }
    }
}

fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

/// Whether the mode or the owner of a directory lets anybody but root write into it.
fn others_may_write(there: &FileStat) -> bool {
    let is_own_group = there.st_gid == 0 || there.st_gid == getegid().as_raw();
    let by_mode = match is_own_group {
        true => libc::S_IWOTH,
        false => libc::S_IWOTH | libc::S_IWGRP,
    };
    !is_trusted(there.st_uid) || there.st_mode & by_mode != 0
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Instant;

    use nix::unistd::{chown, mkfifo};

    use super::*;
    use crate::host::kernel_calls::let_user_1000_write;
    use crate::host::tree::Tree;

    /// Makes a file in a directory of the tree.
    fn make(tree: &Tree, directory: &str) -> io::Result<bool> {
        within(&tree.root().join(directory), &mut |directory| {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            openat(directory, c"file", flags, Mode::S_IRUSR)?;
            Ok(true)
        })
    }

    fn set_mode(tree: &Tree, directory: &str, mode: u32) {
        fs::set_permissions(tree.root().join(directory), Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn links_of_the_system_lead_on() {
        for (link, target) in [
            ("var/run", "/run"),
            ("var/run", "../run"),
            ("var/run", "../etc/./../run"),
            ("var", "other/.."),
        ] {
            let tree = Tree::new(&[("run/", ""), ("etc/", ""), ("other/", "")]);
            let link = tree.root().join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(target, &link).unwrap();
            let directory = if target == "other/.." {
                "var/run"
            } else {
                "var/run/"
            };
            assert!(make(&tree, directory).unwrap(), "{target}");
            assert!(tree.root().join("run/file").exists(), "{target}");
        }
    }

    #[test]
    fn links_that_lead_in_a_circle_or_nowhere_are_errors() {
        let tree = Tree::new(&[]);
        symlink("two", tree.root().join("one")).unwrap();
        symlink("one", tree.root().join("two")).unwrap();
        symlink("/nowhere", tree.root().join("three")).unwrap();
        let error = make(&tree, "one/x").unwrap_err().to_string();
        assert!(error.contains("ymbolic link"), "{error}");
        for missing in ["three/x", "four"] {
            let error = make(&tree, missing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }

    #[test]
    fn where_others_may_write_no_link_leads_on_and_no_pipe_holds_anybody() {
        for mode in [0o777, 0o1777, 0o757] {
            let tree = Tree::new(&[("theirs/real/", ""), ("system/", "")]);
            symlink("real", tree.root().join("theirs/near")).unwrap();
            symlink("/system", tree.root().join("theirs/far")).unwrap();
            mkfifo(&tree.root().join("theirs/pipe"), Mode::S_IRWXU).unwrap();
            set_mode(&tree, "theirs", mode);
            let start = Instant::now();
            for directory in ["theirs/near", "theirs/far", "theirs/far/x"] {
                let error = make(&tree, directory).unwrap_err().to_string();
                let why = "is left alone: it is a link that somebody else may have laid";
                assert!(error.ends_with(why), "{error}");
            }
            let error = make(&tree, "theirs/pipe").unwrap_err().to_string();
            assert!(error.contains("theirs/pipe: "), "{error}");
            let error = make(&tree, "theirs/real/..").unwrap_err().to_string();
            assert!(error.contains("is left alone"), "{error}");
            assert_eq!(tree.names("system"), [""; 0]);
            // What is no link can be written into, there and below.
            assert!(make(&tree, "theirs/real").unwrap());
            assert!(make(&tree, "theirs").unwrap());
            let missing = make(&tree, "theirs/missing").unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::NotFound);
            assert!(start.elapsed() < LIMIT);
        }
    }

    #[test]
    fn a_lock_is_only_where_nobody_else_may_write_or_put_another_directory() {
        let number_1000 = Some(Uid::from_raw(1000));
        // In directories with these modes and owners lies the one that is opened.
        for (mode, owner, mode_in_it, owner_in_it, expected) in [
            (0o755, None, 0o755, None, true),
            (0o777, None, 0o755, None, false),
            (0o757, None, 0o755, None, false),
            (0o1777, None, 0o755, None, true),
            (0o1757, None, 0o700, None, true),
            (0o1777, None, 0o1777, None, false),
            (0o1777, None, 0o777, None, false),
            (0o1777, None, 0o755, number_1000, false),
            (0o1777, number_1000, 0o755, None, false),
            (0o1755, number_1000, 0o755, None, false),
        ] {
            let tree = Tree::new(&[("run/vmstage/disks/", ""), ("run/etc/", "")]);
            for (name, mode, owner) in [
                ("run", mode, owner),
                ("run/vmstage", mode_in_it, owner_in_it),
            ] {
                set_mode(&tree, name, mode);
                chown(&tree.root().join(name), owner, None).unwrap();
            }
            symlink("etc", tree.root().join("run/link")).unwrap();
            let case = format!("{mode:o} {owner:?} {mode_in_it:o} {owner_in_it:?}");
            let open = |name: &str| open_own(&tree.root().join(name), Missing::IsAnError);
            assert_eq!(open("run/vmstage").is_ok(), expected, "{case}");
            let is_safe = expected || mode_in_it == 0o1777 && mode == 0o1777;
            assert_eq!(open("run/vmstage/disks").is_ok(), is_safe, "{case}");
            let is_ours = mode == 0o755;
            assert_eq!(open("run").is_ok(), is_ours, "{case}");
            assert_eq!(open("run/link").is_ok(), is_ours, "{case}");
            assert_eq!(open("run/vmstage/..").is_ok(), is_ours, "{case}");
            let made = open_own(&tree.root().join("run/new/x"), Missing::IsMade);
            let is_made = is_ours || mode & 0o1000 != 0 && owner.is_none();
            assert_eq!(made.is_ok(), is_made, "{case}");
            assert_eq!(tree.root().join("run/new").exists(), is_made, "{case}");
        }
    }

    #[test]
    fn an_access_list_lets_others_write_where_the_mode_does_not() {
        let tree = Tree::new(&[("listed/", ""), ("plain/", "")]);
        let open = |name: &str| File::open(tree.root().join(name)).unwrap();
        let_user_1000_write(open("listed").as_fd()).unwrap();
        set_mode(&tree, "plain", 0o775);
        open_own(&tree.root().join("listed"), Missing::IsAnError).unwrap_err();
        open_own(&tree.root().join("plain"), Missing::IsAnError).unwrap();
    }

    #[test]
    fn who_may_write_into_a_directory_is_a_matter_of_owner_and_mode() {
        let me = (geteuid().as_raw(), getegid().as_raw());
        let cases = [
            ((0, 0), 0o755, false),
            ((0, 0), 0o775, false),
            (me, 0o775, false),
            ((0, 50), 0o755, false),
            ((0, 50), 0o2775, true),
            ((0, 0), 0o757, true),
            ((0, 0), 0o1777, true),
            ((113, 0), 0o755, true),
            ((113, 0), 0o555, true),
        ];
        let any = fstat(open("/", DIRECTORY, Mode::empty()).unwrap()).unwrap();
        for ((owner, group), mode, expected) in cases {
            let mut there = any;
            (there.st_uid, there.st_gid, there.st_mode) = (owner, group, mode);
            assert_eq!(
                others_may_write(&there),
                expected,
                "{owner}:{group} {mode:o}"
            );
        }
    }
}
