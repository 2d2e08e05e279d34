//! What the integration tests share: a stand-in for a guest ([`Machine`]), disks
//! for it ([`Image`]), and a runner.
//!
//! A claim is a function without arguments, named as what it claims and listed in
//! its module's `claims!`. It runs in a thread and a mount namespace of its own, so
//! that whatever it mounts or attaches is gone when it ends, however it ends.
//! A claim that this host cannot look at (no root, no `mkfs.xfs`) is reported as
//! ignored with the reason, and where `$CI` is set as failed.

mod faulty_disk;
mod image;
mod loop_device;
mod machine;
mod outcome;
pub mod schema;
mod silent_mount;
pub mod tracer;

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::RwLock;
use std::thread;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

pub use faulty_disk::{Fault, FaultyDisk};
pub use image::{Image, MIB, scratch_file};
pub use loop_device::{Attach, LoopDevice};
pub use machine::{CONDOR, Disk, Machine, Running, Tree};
pub use outcome::{Mount, Outcome};
pub use silent_mount::SilentMount;

/// What a test of the program says of it.
#[derive(Clone, Copy)]
pub struct Claim {
    /// With its modules, the first of which is this program.
    pub name: &'static str,
    pub examine: fn(),
    /// Whether no other claim is examined meanwhile: it says how soon something is done, with
    /// less to spare than a machine with much to do may take.
    pub is_alone: bool,
}

impl Claim {
    pub const fn new(name: &'static str, examine: fn()) -> Claim {
        Claim {
            name,
            examine,
            is_alone: false,
        }
    }

    pub const fn alone(self) -> Claim {
        Claim {
            is_alone: true,
            ..self
        }
    }
}

/// Makes a module's `CLAIMS`; those after `alone:` are examined by themselves.
macro_rules! claims {
    ($($claim:ident),+ $(,)? $(; alone: $($timed:ident),+ $(,)?)?) => {
        pub const CLAIMS: &[$crate::common::Claim] = &[
            $($crate::common::Claim::new(claim_name!($claim), $claim),)+
            $($($crate::common::Claim::new(claim_name!($timed), $timed).alone(),)+)?
        ];
    };
}

/// `module::claim`, and what else its name may end with.
macro_rules! claim_name {
    ($claim:ident $(, $end:literal)?) => {
        concat!(module_path!(), "::", stringify!($claim) $(, $end)?)
    };
}

/// Runs the claims that the command line asks for (as `cargo test -- FILTER` does).
pub fn run(modules: &[&[Claim]]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Some wait for a disk or a time limit: more at once than there are processors.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    panic::set_hook(Box::new(|panic| {
        LAST_PANIC.with_borrow_mut(|last| *last = panic.to_string());
    }));
    // The others are begun first, so that none of them waits for one that is alone.
    let (alone, beside): (Vec<Claim>, Vec<Claim>) = modules
        .concat()
        .into_iter()
        .partition(|claim| claim.is_alone);
    let trials = beside.into_iter().chain(alone).map(|claim| {
        let (_program, name) = claim.name.split_once("::").unwrap();
        Trial::ignorable_test(name, move || {
            thread::spawn(move || examine_in_turn(claim))
                .join()
                .unwrap()
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn examine_in_turn(claim: Claim) -> Result<Completion, Failed> {
    static EXAMINED: RwLock<()> = RwLock::new(());
    let (_alone, _beside);
    if claim.is_alone {
        _alone = EXAMINED.write().unwrap();
    } else {
        _beside = EXAMINED.read().unwrap();
    }
    examine(claim.examine)
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What a claim unwinds with when it cannot be looked at here.
struct Skipped(String);

/// Ends the claim at hand as one that could not be looked at, for this reason.
pub fn skip(reason: &str) -> ! {
    panic::resume_unwind(Box::new(Skipped(reason.to_string())))
}

fn examine(claim: fn()) -> Result<Completion, Failed> {
    let outcome = panic::catch_unwind(AssertUnwindSafe(claim));
    let Err(payload) = outcome else {
        return Ok(Completion::Completed);
    };
    match payload.downcast_ref::<Skipped>() {
        None => Err(LAST_PANIC.take().into()),
        Some(Skipped(reason)) if std::env::var_os("CI").is_some() => {
            Err(format!("{reason}; with CI set nothing may be skipped").into())
        }
        Some(Skipped(reason)) => Ok(Completion::ignored_with(format!("skipped: {reason}"))),
    }
}

/// Skips the claim at hand where this process may not mount.
pub fn need_root() {
    if !nix::unistd::geteuid().is_root() {
        skip("not root");
    }
}

/// Moves the thread at hand into a mount namespace of its own.
pub fn private_mounts() {
    need_root();
    unshare(CloneFlags::CLONE_NEWNS).expect("unshare(CLONE_NEWNS)");
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("make / private");
    // It names the machine that the claims run on, and its cloud.
    let firmware = Path::new("/sys/class/dmi/id");
    if firmware.is_dir() {
        let hidden = mount(
            Some("none"),
            firmware,
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        );
        hidden.expect("hide the firmware");
    }
}

/// The path of a program; skips the claim at hand where it is not installed.
pub fn tool(name: &str) -> PathBuf {
    let directories = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    directories
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| skip(&format!("{name} is not installed")))
}

/// Writes a file that can be run. Another process does: one that a test beside this one starts
/// meanwhile would have it open for writing, and what is open for writing cannot be run
/// (ETXTBSY).
pub fn write_program(path: &Path, content: impl AsRef<[u8]>) {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(content.as_ref()).unwrap();
    drop(input);
    assert!(shell.wait().unwrap().success(), "{}", path.display());
}

/// Likewise, as a copy.
pub fn copy_program(from: &Path, to: &Path) {
    write_program(to, std::fs::read(from).unwrap());
}

/// Binds a socket in a directory, whose path may be longer than a socket's may be.
pub fn bind_socket(directory: &Path, name: &str) -> UnixDatagram {
    let directory = File::open(directory).unwrap();
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// The program under test: `$VMSTAGE_BIN`, such as the static build, else cargo's.
pub fn program() -> PathBuf {
    std::env::var_os("VMSTAGE_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_vmstage").into(), PathBuf::from)
}
