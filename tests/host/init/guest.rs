//! A guest to run init scripts in: a root directory, mounts and processes of its own,
//! with a fake `vmstage` at its place.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{need_root, program, tool, write_program};

/// What kind of machine the guest is, and with it the shell that runs its scripts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum System {
    /// dash, and a /run.
    Debian,
    /// bash as /bin/sh, and no /run.
    Sl5,
    /// busybox and not one command beside it.
    Busybox,
}

pub const EVERY_SYSTEM: [System; 3] = [System::Debian, System::Sl5, System::Busybox];

impl System {
    pub fn shell(self) -> &'static [&'static str] {
        match self {
            System::Debian => &["dash"],
            System::Sl5 => &["bash", "--posix"],
            System::Busybox => &["busybox", "sh"],
        }
    }

    pub fn runtime(self) -> &'static str {
        match self {
            System::Sl5 => "/var/run/vmstage",
            System::Debian | System::Busybox => "/run/vmstage",
        }
    }
}

/// Ends, with every process in it, when it goes out of scope or this process ends.
pub struct Guest {
    pub system: System,
    init: Child,
    init_says: BufReader<ChildStdout>,
    /// Of its process 1, as the host numbers it.
    pid: String,
    directory: PathBuf,
}

pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Of a process; zeros if it is gone.
#[derive(Debug, Default, PartialEq)]
pub struct Stat {
    pub parent: u32,
    pub session: u32,
    pub terminal: u32,
}

/// Longer than any script may take, so that one that hangs fails its claim.
const LIMIT: Duration = Duration::from_secs(60);

impl Guest {
    pub fn new(system: System) -> Guest {
        need_root();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "init-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&directory).unwrap();
        let mut init = Command::new(tool("unshare"))
            .args(["--mount", "--pid", "--fork", "--kill-child"])
            .args([tool("bash"), repository("tests/host/init/setup.sh")])
            .arg(&directory)
            .arg(format!("{system:?}").to_lowercase())
            .args([tool("bash"), tool("busybox")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut init_says = BufReader::new(init.stdout.take().unwrap());
        let mut pid = String::new();
        init_says.read_line(&mut pid).unwrap();
        assert!(!pid.is_empty(), "the guest could not be set up; see above");
        let guest = Guest {
            system,
            init,
            init_says,
            pid: pid.trim().into(),
            directory,
        };
        guest.write_program("/usr/sbin/vmstage", FAKE_VMSTAGE);
        guest.write("/watch", FAKE_WATCH);
        for (answer, text) in [("boot", "0"), ("status", "0"), ("watch", "stays")] {
            guest.answers(answer, text);
        }
        guest
    }

    /// With sysvinit/vmstage in its place.
    pub fn with_init_script(system: System) -> Guest {
        let guest = Guest::new(system);
        guest.write_program("/etc/init.d/vmstage", &shipped("sysvinit/vmstage"));
        guest
    }

    /// The program under test instead of the fake.
    pub fn put_program_itself(&self) {
        // By another process: if this one had it open for writing, a child that another
        // thread is starting would have so too, and running it fail ("text file busy").
        let to = self.path("/usr/sbin/vmstage");
        let copied = Command::new("cp").arg(program()).arg(to).status();
        assert!(copied.unwrap().success(), "cannot copy the program");
    }

    /// What the fake's `boot` and `status` exit with, and what its `watch` does:
    /// `stays`, `ends` or `deaf`.
    pub fn answers(&self, command: &str, answer: &str) {
        self.write(&format!("/fake/{command}"), answer);
    }

    /// The guest's file, as the host reaches it. No absolute link may be on the way.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn write_program(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_program(&path, text);
    }

    /// The text of a file, and "" if there is none.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// With what arguments the fake was called so far.
    pub fn calls(&self) -> Vec<String> {
        self.read("/fake/calls").lines().map(String::from).collect()
    }

    /// `/etc/init.d/vmstage` with these arguments, in the guest's shell.
    pub fn service(&self, arguments: &[&str]) -> Outcome {
        self.shell(&[&["/etc/init.d/vmstage"], arguments].concat())
    }

    pub fn shell(&self, arguments: &[&str]) -> Outcome {
        self.run(&[self.system.shell(), arguments].concat())
    }

    pub fn run(&self, words: &[&str]) -> Outcome {
        self.run_as(0, words)
    }

    pub fn run_as(&self, user: u32, words: &[&str]) -> Outcome {
        let mut command = Command::new(tool("nsenter"));
        command
            .args(["--target", &self.pid, "--mount", "--pid", "--root", "--wd"])
            .args(["--setuid", &user.to_string(), "--setgid", &user.to_string()])
            .arg("--")
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Output is read to its end, as rc does: a process that keeps it open hangs it.
        let (done, outcome) = mpsc::channel();
        let child = command.spawn().unwrap();
        thread::spawn(move || done.send(child.wait_with_output().unwrap()));
        let output = outcome
            .recv_timeout(LIMIT)
            .unwrap_or_else(|_| panic!("{words:?} or its output did not end within {LIMIT:?}"));
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Has process 1 of the guest run a shell command, and returns its exit code.
    pub fn as_init(&mut self, command: &str) -> i32 {
        let stdin = self.init.stdin.as_mut().unwrap();
        writeln!(stdin, "{command} >/dev/null 2>&1; echo $?").unwrap();
        let mut code = String::new();
        self.init_says.read_line(&mut code).unwrap();
        code.trim().parse().unwrap()
    }

    /// Starts something that stays, and returns its process number in the guest.
    pub fn in_background(&mut self, command: &str) -> u32 {
        let stdin = self.init.stdin.as_mut().unwrap();
        writeln!(stdin, "{command} >/dev/null 2>&1 & echo $!").unwrap();
        let mut pid = String::new();
        self.init_says.read_line(&mut pid).unwrap();
        pid.trim().parse().unwrap()
    }

    pub fn pid_file(&self) -> String {
        format!("{}/watch.pid", self.system.runtime())
    }

    /// The live processes that are a `vmstage watch`, whatever the pid file says. A child
    /// that the fake has forked is not one.
    pub fn watches(&self) -> Vec<u32> {
        let is_watch = |pid: u32| self.command_line(pid) == "/usr/sbin/vmstage\0watch\0";
        let mut watches: Vec<u32> = fs::read_dir(self.path("/proc"))
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter(|pid| is_watch(*pid) && !is_watch(self.stat(*pid).parent))
            .collect();
        watches.sort();
        watches
    }

    /// Before it has set its traps a signal would end it in silence.
    pub fn wait_until_watch_hears(&self) {
        self.wait_until("watch hears", |guest| guest.exists("/fake/hears"));
    }

    pub fn stat(&self, pid: u32) -> Stat {
        let stat = self.read(&format!("/proc/{pid}/stat"));
        // proc(5): what follows "pid (name)" is state, parent, group, session, terminal.
        let fields: Vec<u32> = stat
            .rsplit(") ")
            .next()
            .unwrap()
            .split(' ')
            .skip(1)
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        match fields[..] {
            [parent, _group, session, terminal, ..] => Stat {
                parent,
                session,
                terminal,
            },
            _ => Stat::default(),
        }
    }

    /// As /proc has it; "" for a process that is gone or a zombie.
    pub fn command_line(&self, pid: u32) -> String {
        self.read(&format!("/proc/{pid}/cmdline"))
    }

    pub fn wait_until(&self, what: &str, holds: impl Fn(&Guest) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every file and directory of the guest's own file system but the fake's notes.
    pub fn tree(&self) -> BTreeSet<String> {
        let find = "find / -xdev -path /fake -prune -o -print";
        let found = self.shell(&["-c", find]);
        assert_eq!(found.code, Some(0), "{}", found.stderr);
        found.stdout.lines().map(String::from).collect()
    }

    pub fn assert_tree(&self, expected: &BTreeSet<String>) {
        let changes: Vec<String> = self
            .tree()
            .symmetric_difference(expected)
            .cloned()
            .collect();
        assert!(changes.is_empty(), "made or removed: {changes:?}");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Its process 1 ends with its input, and the kernel ends the others with it.
        drop(self.init.stdin.take());
        self.init.wait().unwrap();
        // Nothing was ever mounted on it that is seen from here.
        fs::remove_dir(&self.directory).unwrap();
    }
}

pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the repository.
pub fn shipped(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap()
}

const FAKE_VMSTAGE: &str = r#"#!/fake/bash
echo "$*" >>/fake/calls
case $1 in
boot)
    # Which a program that boot leaves behind would keep.
    [ ! -e /proc/$$/fd/3 ] || echo "boot has descriptor 3" >>/fake/calls
    echo "boot's own line" >&2
    exit "$(</fake/boot)"
    ;;
status) echo "status's own line"; exit "$(</fake/status)" ;;
# Under the real one's name. bash finds the script where it is started: in /.
watch) exec -a "$0" /fake/bash watch ;;
esac
"#;

const FAKE_WATCH: &str = r#"
mode=$(</fake/watch)
[ "$mode" != ends ] || exit 6
trap 'echo TERM >>/fake/signals; exit 0' TERM
[ "$mode" != deaf ] || trap '' TERM
trap 'echo HUP >>/fake/signals' HUP
# From here on no signal falls into a command substitution, where it may be lost.
: >/fake/hears
while :; do sleep 0.1 & wait $!; done
"#;
