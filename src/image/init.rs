//! Which program starts the services of a system, told by its files.

use std::path::PathBuf;

use super::root::{Kind, Root};
use crate::cli::InitOption;

/// What starts services, by the first that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    /// `/sbin/init` leads to systemd.
    Systemd,
    /// Red Hat's `/etc/rc.d/init.d`, whether SysV init or upstart runs it (Enterprise Linux 5
    /// and 6): links with the numbers of chkconfig(8).
    Chkconfig,
    /// Debian's SysV init since squeeze: startpar(8) runs what is in `.depend.start`, in its
    /// order, and of that what has a link.
    Insserv,
    /// SUSE's SysV init (SLES 11): as Debian's, with the run levels below `/etc/init.d`. Where there
    /// is no `.depend.start`, or startpar(8) is turned off, the numbers of the links count.
    Suse,
    /// Links by their numbers alone: Debian before squeeze, and `.legacy-bootordering`.
    Numbers,
    /// Ubuntu 12.04: upstart, which runs the scripts by the numbers of their links.
    Upstart,
    /// Anything else: busybox, OpenRC, runit, a container.
    Unknown,
}

impl Init {
    /// The init of a system, unless `said` knows better.
    pub(crate) fn of(root: &Root, said: Option<InitOption>) -> Init {
        let has = |kind, path: &str| root.is(kind, path);
        match said {
            Some(InitOption::Systemd) => return Init::Systemd,
            Some(InitOption::Upstart) => return Init::Upstart,
            Some(InitOption::None) => return Init::Unknown,
            Some(InitOption::Sysv) | None => {}
        }
        let program = program(root);
        if said.is_none() && program.as_deref() == Some("systemd") {
            return Init::Systemd;
        }
        // A tree without one may get it later, with the package that has the kernel.
        let is_classic = |name: &str| ["init", "upstart"].contains(&name);
        if said.is_none() && !program.as_deref().is_none_or(is_classic) {
            return Init::Unknown;
        }
        if has(Kind::Directory, "/etc/rc.d/init.d") {
            return Init::Chkconfig;
        }
        if has(Kind::Directory, SUSES) {
            return Init::Suse;
        }
        let is_debian = has(Kind::Directory, "/etc/init.d") && has(Kind::Directory, "/etc/rc2.d");
        if !is_debian {
            return Init::Unknown;
        }
        let is_by_numbers = has(Kind::File, "/etc/init.d/.legacy-bootordering");
        if has(Kind::File, "/etc/init.d/.depend.start") && !is_by_numbers {
            Init::Insserv
        } else if said.is_none() && has(Kind::File, "/etc/init/rc-sysinit.conf") {
            Init::Upstart
        } else {
            Init::Numbers
        }
    }

    /// One that has its scripts where this system has some, whoever runs them.
    pub(crate) fn by_scripts(root: &Root) -> Init {
        if root.is(Kind::Directory, Init::Chkconfig.scripts()) {
            Init::Chkconfig
        } else if root.is(Kind::Directory, SUSES) {
            Init::Suse
        } else {
            Init::Numbers
        }
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Init::Systemd => "systemd",
            Init::Chkconfig => "SysV init with chkconfig",
            Init::Insserv => "SysV init with insserv",
            Init::Suse => "SysV init of SUSE",
            Init::Numbers => "SysV init by numbers",
            Init::Upstart => "upstart",
            Init::Unknown => "none that is known",
        }
    }

    /// Whether it runs the script in `/etc/init.d`.
    pub(crate) fn runs_scripts(self) -> bool {
        !matches!(self, Init::Systemd | Init::Unknown)
    }

    /// Where the links of a run level are.
    pub(crate) fn run_level(self, level: char) -> String {
        match self {
            Init::Chkconfig => format!("/etc/rc.d/rc{level}.d"),
            Init::Suse => format!("/etc/init.d/rc{level}.d"),
            _ => format!("/etc/rc{level}.d"),
        }
    }

    /// Where scripts are.
    pub(crate) fn scripts(self) -> &'static str {
        match self {
            Init::Chkconfig => "/etc/rc.d/init.d",
            _ => "/etc/init.d",
        }
    }
}

const PROGRAM: &str = "/sbin/init";

/// A directory that only SUSE has.
const SUSES: &str = "/etc/init.d/rc3.d";

/// The name of the program that `/sbin/init` leads to; None where there is none.
fn program(root: &Root) -> Option<String> {
    let path = leads_to(root)?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// Where `/sbin/init` leads. The text of a link counts whether its target is there or not: a
/// separate `/usr` need not be mounted.
fn leads_to(root: &Root) -> Option<PathBuf> {
    let mut path = PathBuf::from(PROGRAM);
    root.entry_itself(&path).ok().flatten()?;
    for _ in 0..MOST_LINKS {
        let Some(text) = root.link_text(&path).ok().flatten() else {
            break;
        };
        path.pop();
        path.push(text);
    }
    Some(path)
}

const MOST_LINKS: usize = 40;

/// Whether nothing is called `/sbin/init`, so that a system's init is told by its directories
/// alone.
pub(crate) fn has_no_program(root: &Root) -> bool {
    leads_to(root).is_none()
}

/// What `/sbin/init` leads to and is not there.
pub(crate) fn missing_program(root: &Root) -> Option<PathBuf> {
    leads_to(root).filter(|_| !root.is(Kind::File, PROGRAM))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn the_first_row_of_the_table_that_fits_counts() {
        type Row<'a> = (Init, &'a [&'a str], Option<&'a str>);
        let cases: &[Row] = &[
            (
                Init::Systemd,
                &["usr/lib/systemd/systemd", "etc/rc.d/init.d/"],
                Some("/usr/lib/systemd/systemd"),
            ),
            // Enterprise Linux 6 has upstart.
            (
                Init::Chkconfig,
                &["etc/rc.d/init.d/", "sbin/init", "etc/init/rcS.conf"],
                None,
            ),
            (
                Init::Insserv,
                &["etc/init.d/.depend.start", "etc/rc2.d/", "sbin/init"],
                None,
            ),
            (
                Init::Numbers,
                &[
                    "etc/init.d/.depend.start",
                    "etc/init.d/.legacy-bootordering",
                    "etc/rc2.d/",
                ],
                None,
            ),
            (
                Init::Numbers,
                &["etc/init.d/", "etc/rc2.d/", "sbin/init"],
                None,
            ),
            (
                Init::Upstart,
                &[
                    "etc/init.d/",
                    "etc/rc2.d/",
                    "sbin/init",
                    "etc/init/rc-sysinit.conf",
                ],
                None,
            ),
            (
                Init::Unknown,
                &["etc/init.d/", "etc/rc2.d/", "bin/busybox"],
                Some("/bin/busybox"),
            ),
            (
                Init::Suse,
                &["etc/init.d/rc3.d/", "etc/init.d/.depend.start", "sbin/init"],
                None,
            ),
            (Init::Unknown, &["etc/init.d/"], None),
        ];
        for (expected, files, init) in cases {
            let files: Vec<_> = files.iter().map(|path| (*path, "")).collect();
            let tree =
                Tree::new(&[&[("etc/", ""), ("usr/", ""), ("sbin/", "")], &files[..]].concat());
            if let Some(target) = init {
                symlink(target, tree.root().join("sbin/init")).unwrap();
            }
            let root = Root::open(tree.root()).unwrap();
            assert_eq!(Init::of(&root, None), *expected, "{files:?}");
        }
    }

    /// A separate `/usr` need not be mounted, and a tree need not be whole.
    #[test]
    fn a_link_whose_target_is_not_there_counts_by_its_text() {
        let links: &[&[(&str, &str)]] = &[
            &[("sbin/init", "/lib/systemd/systemd")],
            &[("sbin/init", "../lib/systemd/systemd")],
            &[("sbin/init", "/usr/lib/systemd/systemd")],
            &[("lib", "usr/lib"), ("sbin/init", "../lib/systemd/systemd")],
            &[
                ("sbin/init", "/etc/alternatives/init"),
                ("etc/alternatives/init", "/lib/systemd/systemd"),
            ],
        ];
        for links in links {
            let tree = Tree::new(&[
                ("etc/rc.d/init.d/", ""),
                ("etc/alternatives/", ""),
                ("usr/", ""),
                ("sbin/", ""),
            ]);
            for (path, text) in *links {
                symlink(text, tree.root().join(path)).unwrap();
            }
            let root = Root::open(tree.root()).unwrap();
            assert_eq!(Init::of(&root, None), Init::Systemd, "{links:?}");
            let missing = missing_program(&root).unwrap();
            assert!(missing.ends_with("lib/systemd/systemd"), "{missing:?}");
        }
    }

    #[test]
    fn what_is_said_counts_for_more_and_sysv_is_looked_at_closer() {
        let tree = Tree::new(&[("etc/rc.d/init.d/", ""), ("usr/", ""), ("sbin/", "")]);
        symlink("/bin/busybox", tree.root().join("sbin/init")).unwrap();
        let root = Root::open(tree.root()).unwrap();
        for (said, expected) in [
            (InitOption::Sysv, Init::Chkconfig),
            (InitOption::Systemd, Init::Systemd),
            (InitOption::Upstart, Init::Upstart),
            (InitOption::None, Init::Unknown),
        ] {
            assert_eq!(Init::of(&root, Some(said)), expected);
        }
    }
}
