//! SELinux's labels for the scratch disk, without libselinux.
//!
//! What has no label is `unlabeled_t`, into which no confined program may even look. So the root
//! of the disk and the directories on it get one, on a used disk only what has none; what is in
//! them stays as it is. A file system that carries no labels is mounted with one for all.

use std::os::fd::BorrowedFd;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;

use crate::config::{Config, Context};
use crate::host::bounded::Limit;
use crate::host::error_text::in_words;
use crate::host::mount_table::Mount;
use crate::host::{Host, kernel_calls, kernel_file, program};

/// For `matchpathcon`, which reads files alone.
const LIMIT: Duration = Duration::from_secs(5);

/// Where HTCondor's packages have the jobs' directory: what a policy that knows HTCondor has for
/// it suits the one on the scratch disk.
const EXECUTE: &str = "/var/lib/condor/execute";

/// The contexts for the scratch disk.
pub(crate) struct Contexts {
    /// Of all that is on it, where the file system carries none.
    pub(super) root: Option<String>,
    /// Of each configured directory; none: its parent's.
    pub(super) directories: Vec<Option<String>>,
    /// The mount table has `seclabel` on each that carries labels (since Linux 2.6.30).
    is_shown: bool,
}

impl Contexts {
    /// None where SELinux is off, which the mount table tells: permissive counts as on.
    pub(crate) fn of(host: &Host, config: &Config, mounts: &[Mount]) -> Option<Contexts> {
        Contexts::within(LIMIT, host, config, mounts)
    }

    fn within(limit: Duration, host: &Host, config: &Config, mounts: &[Mount]) -> Option<Contexts> {
        let is_on = mounts.iter().any(|mount| mount.filesystem == "selinuxfs");
        is_on.then_some(())?;
        let own = kernel_file::read_text(host.path("/proc/self/attr/current")).ok()?;
        let level = level_of(&own)?;
        let (root, directories) = choose(config, level, &ask_policy(host, config, limit));
        Some(Contexts {
            root,
            directories,
            is_shown: mounts.iter().any(|mount| has(mount, "seclabel")),
        })
    }

    /// What the mount shows of its labels.
    pub(super) fn carried_by(&self, mount: &Mount) -> Carried {
        carried(mount, self.is_shown)
    }
}

/// The contexts of the root directory and of the others. `policy` has what it says of each, and
/// of HTCondor's own last; it may be empty.
fn choose(
    config: &Config,
    level: &str,
    policy: &[Option<String>],
) -> (Option<String>, Vec<Option<String>>) {
    let of_type = |name: &str| Some(format!("system_u:object_r:{name}{level}"));
    let first = |configured: &Option<Context>, index: usize, by_name: Option<String>| {
        let configured = configured.as_ref().map(|context| context.as_str().into());
        let of_policy = || policy.get(index).cloned().flatten();
        configured.or_else(of_policy).or(by_name)
    };
    let directories = config.directories.iter().zip(1..);
    let directories = directories.map(|(directory, index)| {
        let by_name = match directory.path.as_path().to_str() {
            Some("condor") => match policy.last() {
                Some(Some(execute)) => Some(execute.clone()),
                _ => of_type("var_lib_t"),
            },
            Some("tmp") => of_type("tmp_t"),
            _ => None,
        };
        first(&directory.context, index, by_name)
    });
    // As the directory above /var/tmp and /var/lib.
    let root = first(&config.staging.context, 0, of_type("var_t"));
    (root, directories.collect())
}

/// What labels a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    Each,
    OneForAll,
    No,
}

/// By the options that the mount table shows, where the kernel has `seclabel` among them.
pub(super) fn carried(mount: &Mount, is_shown: bool) -> Carried {
    if has(mount, "seclabel") || !is_shown {
        Carried::Each
    } else if has(mount, "context=") {
        Carried::OneForAll
    } else {
        Carried::No
    }
}

/// Whether a mount has an option, or one that begins like this.
pub(super) fn has(mount: &Mount, option: &str) -> bool {
    mount
        .options
        .split(',')
        .any(|one| match option.ends_with('=') {
            true => one.starts_with(option),
            false => one == option,
        })
}

/// A file system's options, and the one that gives all that is on it this context. It is quoted:
/// what has categories has commas.
pub(super) fn options_with(data: &str, context: &str) -> String {
    let between = if data.is_empty() { "" } else { "," };
    [data, between, "context=\"", context, "\""].concat()
}

/// The end of a context, by this process's own: not every policy has levels. None where no
/// policy is loaded.
fn level_of(own: &str) -> Option<&'static str> {
    match own.split(':').count() {
        0..3 => None,
        3 => Some(""),
        _ => Some(":s0"),
    }
}

/// What the policy has for the mount point, the directories and HTCondor's own; nothing where
/// the guest has no `matchpathcon`, or it is silent.
fn ask_policy(host: &Host, config: &Config, limit: Duration) -> Vec<Option<String>> {
    let Some(program) = program::find(host, "matchpathcon") else {
        return Vec::new();
    };
    let mount_point = config.staging.mount_point.as_path();
    let mut command = Command::new(program);
    command.arg("-n").arg(mount_point);
    for directory in &config.directories {
        command.arg(mount_point.join(directory.path.as_path()));
    }
    command.arg(EXECUTE);
    let done = program::run(command, Limit::after(limit));
    let answers = done.map_or_else(|_| Vec::new(), |done| answers_of(&done.stdout));
    match answers.len() == config.directories.len() + 2 {
        true => answers,
        false => Vec::new(),
    }
}

/// A line for each path. The policy's words for what it does not know, and for what anybody
/// mounts, help no confined program.
fn answers_of(text: &str) -> Vec<Option<String>> {
    let answer = |line: &str| {
        let is_of_use = !line.contains(":default_t") && !line.contains(":mnt_t");
        let context = Context::try_from(line.to_string()).ok()?;
        is_of_use.then(|| context.as_str().into())
    };
    text.lines().map(answer).collect()
}

/// How a directory came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    There,
    /// As it is before it has owner and mode: an earlier boot may have died.
    Unfinished,
    Made,
}

/// The label that a directory is to get, if any. One that is made has its parent's.
fn missing<'a>(
    there: Option<&str>,
    wanted: Option<&'a str>,
    parent: Option<&'a str>,
    found: Found,
) -> Option<&'a str> {
    match (there, found) {
        (None, _) => wanted.or(parent),
        (Some(_), Found::There) => None,
        (Some(there), Found::Unfinished) if parent != Some(there) => None,
        (Some(there), _) => wanted.filter(|wanted| *wanted != there),
    }
}

/// What is made in an unlabelled directory is told so in writing. The older name is Enterprise
/// Linux 5's.
fn is_label(context: &str) -> bool {
    let kind = context.split(':').nth(2);
    !matches!(kind, Some("unlabeled_t" | "file_t"))
}

/// Sees to a directory's label.
///
/// # Errors
///
/// That it has none now, in words.
pub(super) fn ensure(
    directory: BorrowedFd,
    wanted: Option<&str>,
    parent: Option<BorrowedFd>,
    found: Found,
) -> Result<(), String> {
    let read = |of: BorrowedFd| match kernel_calls::selinux_context(of) {
        Ok(context) => Ok(context.filter(|context| is_label(context))),
        Err(e) => Err(in_words(&e)),
    };
    let there = read(directory)?;
    let is_compared = there.is_none() || found == Found::Unfinished;
    let of_parent = match parent.filter(|_| is_compared) {
        Some(parent) => read(parent)?,
        None => None,
    };
    match missing(there.as_deref(), wanted, of_parent.as_deref(), found) {
        Some(label) => set(directory, label),
        None => Ok(()),
    }
}

fn set(directory: BorrowedFd, label: &str) -> Result<(), String> {
    kernel_calls::set_selinux_context(directory, label).map_err(|error| {
        let why = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EINVAL) => {
                "the loaded policy has none such; name another in the configuration".into()
            }
            _ => in_words(&error),
        };
        format!("{label}: {why}")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::host::mount_table;
    use crate::host::tree::Tree;

    const CONFIGURED: &str = "
        [staging]
        context = \"system_u:object_r:usr_t:s0\"
        [[directory]]
        path = \"condor\"
        context = \"system_u:object_r:mine_t:s0:c1,c2\"
        [[directory]]
        path = \"tmp\"
        [[directory]]
        path = \"data/condor\"";

    fn policy(lines: &str) -> Vec<Option<String>> {
        answers_of(lines)
    }

    #[test]
    fn the_configuration_goes_before_the_policy_and_that_before_what_every_policy_has() {
        let other = "[[directory]]\npath = \"scratch\"";
        let (unknown, site) = (
            "a:b:default_t:s0\n<<none>>\na:b:mnt_t:s0\na:b:default_t:s0\n",
            "a:b:site_t:s0\na:b:jobs_t:s0\na:b:default_t:s0\na:b:execute_t:s0\n",
        );
        let execute = "a:b:default_t:s0\na:b:default_t:s0\n<<none>>\na:b:execute_t:s0\n";
        let cases: [(&str, &str, &str, &[&str]); 8] = [
            ("", ":s0", "", &["var_t:s0", "var_lib_t:s0", "tmp_t:s0"]),
            ("", "", "", &["var_t", "var_lib_t", "tmp_t"]),
            (
                "",
                ":s0",
                unknown,
                &["var_t:s0", "var_lib_t:s0", "tmp_t:s0"],
            ),
            (
                "",
                ":s0",
                execute,
                &["var_t:s0", "execute_t:s0", "tmp_t:s0"],
            ),
            ("", ":s0", site, &["site_t:s0", "jobs_t:s0", "tmp_t:s0"]),
            (other, ":s0", "", &["var_t:s0", ""]),
            (
                CONFIGURED,
                ":s0",
                "",
                &["usr_t:s0", "mine_t:s0:c1,c2", "tmp_t:s0", ""],
            ),
            (
                CONFIGURED,
                ":s0",
                "a:b:w_t:s0\na:b:x_t:s0\na:b:y_t:s0\na:b:z_t:s0\na:b:execute_t:s0\n",
                &["usr_t:s0", "mine_t:s0:c1,c2", "y_t:s0", "z_t:s0"],
            ),
        ];
        for (text, level, answers, expected) in cases {
            let config = Config::parse(text).unwrap();
            let (root, directories) = choose(&config, level, &policy(answers));
            let chosen: Vec<_> = [root].into_iter().chain(directories).collect();
            let types = chosen.iter().map(|one| match one {
                Some(context) => context.splitn(3, ':').nth(2).unwrap(),
                None => "",
            });
            assert_eq!(types.collect::<Vec<_>>(), expected, "{text} {answers:?}");
            let users = chosen.iter().flatten();
            assert!(
                users
                    .clone()
                    .all(|one| one.starts_with("system_u:object_r:") || one.starts_with("a:b:"))
            );
        }
    }

    #[test]
    fn a_context_has_a_level_where_those_of_the_system_have() {
        let cases = [
            ("system_u:system_r:initrc_t:s0\0", Some(":s0")),
            (
                "system_u:system_r:unconfined_service_t:s0-s0:c0.c1023\0",
                Some(":s0"),
            ),
            ("root:system_r:initrc_t", Some("")),
            // No policy has been loaded.
            ("kernel\0", None),
            ("", None),
        ];
        for (own, expected) in cases {
            assert_eq!(level_of(own), expected, "{own:?}");
        }
    }

    fn mount(options: &str) -> Mount {
        let line = format!("/dev/vdb /staging ext4 {options} 0 0\n");
        mount_table::parse(line.as_bytes()).remove(0)
    }

    #[test]
    fn the_mount_table_tells_what_carries_labels_where_the_kernel_shows_that() {
        let cases = [
            ("rw,seclabel,relatime", true, Carried::Each),
            ("rw,relatime", true, Carried::No),
            (
                "rw,context=system_u:object_r:tmp_t:s0",
                true,
                Carried::OneForAll,
            ),
            (
                "rw,context=\"system_u:object_r:tmp_t:s0:c1,c2\"",
                true,
                Carried::OneForAll,
            ),
            ("rw,fscontext=system_u:object_r:tmp_t:s0", true, Carried::No),
            ("rw,noseclabel", true, Carried::No),
            ("rw,relatime", false, Carried::Each),
        ];
        for (options, is_shown, expected) in cases {
            assert_eq!(carried(&mount(options), is_shown), expected, "{options}");
        }
    }

    #[test]
    fn only_what_has_no_label_gets_one_or_what_was_made() {
        use Found::{Made, There, Unfinished};
        let cases = [
            (None, Some("tmp_t"), Some("var_t"), There, Some("tmp_t")),
            (None, None, Some("var_t"), There, Some("var_t")),
            (None, None, None, There, None),
            (Some("user_t"), Some("tmp_t"), Some("var_t"), There, None),
            (Some("var_t"), Some("tmp_t"), Some("var_t"), There, None),
            // mkdir(2) gives it its parent's.
            (Some("var_t"), Some("tmp_t"), None, Made, Some("tmp_t")),
            (Some("tmp_t"), Some("tmp_t"), None, Made, None),
            (Some("var_t"), None, None, Made, None),
            // A boot that died after mkdir(2), and a directory of somebody's.
            (
                Some("var_t"),
                Some("tmp_t"),
                Some("var_t"),
                Unfinished,
                Some("tmp_t"),
            ),
            (
                Some("user_t"),
                Some("tmp_t"),
                Some("var_t"),
                Unfinished,
                None,
            ),
            (None, Some("tmp_t"), None, Unfinished, Some("tmp_t")),
        ];
        for (there, wanted, parent, found, expected) in cases {
            assert_eq!(
                missing(there, wanted, parent, found),
                expected,
                "{there:?} {wanted:?} {parent:?} {found:?}"
            );
        }
    }

    #[test]
    fn a_context_that_says_that_there_is_no_label_is_none() {
        let cases = [
            ("system_u:object_r:unlabeled_t:s0", false),
            ("system_u:object_r:unlabeled_t", false),
            ("system_u:object_r:file_t:s0", false),
            ("system_u:object_r:tmp_t:s0", true),
            ("system_u:object_r:my_file_t:s0", true),
        ];
        for (context, expected) in cases {
            assert_eq!(is_label(context), expected, "{context}");
        }
    }

    /// The contexts for a machine with this mount table, own context and `matchpathcon`.
    fn on_machine(table: &str, own: &str, script: &str) -> Option<(String, String)> {
        within(LIMIT, table, own, script)
    }

    fn within(limit: Duration, table: &str, own: &str, script: &str) -> Option<(String, String)> {
        let tree = Tree::new(&[("proc/self/attr/current", own)]);
        tree.script("usr/sbin/matchpathcon", script);
        let mounts = mount_table::parse(table.as_bytes());
        let contexts = Contexts::within(limit, &tree.host(), &Config::default(), &mounts)?;
        Some((contexts.root?, contexts.directories[1].clone()?))
    }

    const ON: &str =
        "/dev/vda / ext4 rw,seclabel 0 0\nselinuxfs /sys/fs/selinux selinuxfs rw 0 0\n";
    const OWN: &str = "system_u:system_r:initrc_t:s0\0";

    #[test]
    fn where_selinux_is_off_nobody_is_asked() {
        let says = "echo a:b:c_t:s0; echo a:b:d_t:s0; echo a:b:e_t:s0; echo a:b:f_t:s0";
        let site = Some(("a:b:c_t:s0".to_string(), "a:b:e_t:s0".to_string()));
        let cases = [
            (ON, OWN, site.clone()),
            ("none /selinux selinuxfs rw 0 0\n", OWN, site),
            (ON, "kernel\0", None),
            ("/dev/vda / ext4 rw 0 0\n", OWN, None),
        ];
        for (table, own, expected) in cases {
            assert_eq!(on_machine(table, own, says), expected, "{table}");
        }
    }

    #[test]
    fn a_policy_that_gives_no_answer_changes_nothing() {
        let of_every_policy = Some((
            "system_u:object_r:var_t:s0".to_string(),
            "system_u:object_r:tmp_t:s0".to_string(),
        ));
        let start = Instant::now();
        for script in [
            "exit 1",
            "echo a:b:c_t:s0",
            "for n in 1 2 3 4; do echo \"nonsense $n\"; done",
            "yes a:b:c_t:s0 | head -n 100000",
            "sleep 600 & for n in 1 2 3 4; do echo '<<none>>'; done",
        ] {
            assert_eq!(on_machine(ON, OWN, script), of_every_policy, "{script}");
        }
        let hangs = within(LIMIT / 20, ON, OWN, "exec sleep 600");
        assert_eq!(hangs, of_every_policy);
        assert!(start.elapsed() < 2 * LIMIT, "{:?}", start.elapsed());
    }
}
