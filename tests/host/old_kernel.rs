//! The static binary on the oldest kernel it claims, 2.6.18, as the emulator beside
//! this file imitates it on a modern one, in a guest that looks as those did.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::server::{Refusing, Server, Then};

use crate::common::{
    CONDOR, Claim, Disk, Image, Machine, Outcome, Running, need_root, program, skip, tool,
    write_program,
};

/// Each claim is one of every kernel below.
macro_rules! claims_of_each_kernel {
    ($($claim:ident),+ $(,)?) => {
        pub const CLAIMS: &[Claim] = &[$(
            Claim::new(claim_name!($claim, "_on_2_6_18"), || on(Kernel::VANILLA, $claim)),
            Claim::new(claim_name!($claim, "_on_el5"), || on(Kernel::EL5, $claim)),
            Claim::new(claim_name!($claim, "_with_the_broken_vdso"), || on(Kernel::BROKEN_VDSO, $claim)),
        )+];
    };
}

claims_of_each_kernel![
    the_emulator_takes_away_what_2_6_18_lacks,
    boot_stages_the_disk_and_says_so,
    a_second_boot_changes_nothing,
    what_is_not_a_scratch_disk_is_rejected,
    boot_waits_for_a_disk_without_spinning,
    probe_shows_what_boot_would_do,
    status_tells_of_the_boot_and_waits_for_it_without_spinning,
    boot_publishes_the_deadline_that_a_service_gives,
    metadata_prints_what_a_service_says,
    a_silent_service_is_waited_for_without_spinning,
    a_service_that_refuses_is_asked_again_without_spinning,
    watch_drains_and_says_that_the_deadline_is_reached_without_spinning,
];

fn the_emulator_takes_away_what_2_6_18_lacks(guest: &mut OldGuest) {
    install(&guest.machine, "syscalls", syscalls());
    let mut command = guest.machine.command("/emulator", None);
    let output = command
        .args(guest.kernel.0)
        .arg("/syscalls")
        .output()
        .unwrap();

    let el5 = guest.kernel == Kernel::EL5;
    let broken_vdso = guest.kernel == Kernel::BROKEN_VDSO;
    let lacks = "Function not implemented";
    let only_el5 = |answer| if el5 { answer } else { lacks };
    let answers = [
        ("uname", "2.6."),
        ("AT_RANDOM", "none"),
        ("vDSO", if broken_vdso { "there" } else { "none" }),
        ("futex FUTEX_WAKE", "done"),
        ("futex FUTEX_WAKE, private", only_el5("done")),
        ("futex FUTEX_WAKE_BITSET", lacks),
        ("socket", "done"),
        ("raw socket call, SOCK_CLOEXEC", "Invalid argument"),
        ("fcntl F_DUPFD_CLOEXEC", "Invalid argument"),
        ("newfstatat AT_EMPTY_PATH", "Invalid argument"),
        ("clock_gettime CLOCK_BOOTTIME", "Invalid argument"),
        ("utimensat", lacks),
        ("eventfd", only_el5("done")),
        ("fallocate", only_el5("Bad file descriptor")),
        ("signalfd4", lacks),
        ("epoll_create1", lacks),
        ("pipe2", lacks),
        ("preadv", lacks),
        ("prlimit64", lacks),
        ("syncfs", lacks),
        ("renameat2", lacks),
        ("getrandom", lacks),
        ("memfd_create", lacks),
        ("statx", lacks),
        ("raw openat, O_CLOEXEC", "not set"),
        ("open, O_CLOEXEC", "set"),
        ("read, opened with O_PATH", "done"),
        ("clock_gettime", "done"),
    ];
    // In the broken vDSO the last of them, made through musl, reads address 0.
    let survived = if broken_vdso {
        answers.len() - 1
    } else {
        answers.len()
    };
    let expected = answers[..survived]
        .iter()
        .map(|(call, answer)| format!("{call}: {answer}\n"));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected.collect::<String>()
    );
    assert_eq!(output.status.signal(), broken_vdso.then_some(libc::SIGSEGV));
}

fn boot_stages_the_disk_and_says_so(guest: &mut OldGuest) {
    guest.disks([
        ("vda", &Image::ext3("root")),
        ("vdb", &Image::ext2("ephemeral0")),
    ]);
    let syslog = guest.machine.syslog();

    let outcome = guest.run(&["boot"]);

    outcome.ready_on("/dev/vdb").warns_of_nothing();
    assert_eq!(outcome.staged()[0].filesystem, "ext2", "{outcome}");
    assert!(guest.machine.path("var/run/vmstage/status.json").is_file());
    for (path, mode, owner) in [("condor", 0o755, CONDOR), ("tmp", 0o1777, (0, 0))] {
        let made = fs::metadata(guest.machine.path("staging").join(path)).unwrap();
        assert_eq!(
            (made.mode() & 0o7777, made.uid(), made.gid()),
            (mode, owner.0, owner.1)
        );
    }
    let mtab = fs::read_to_string(guest.machine.path("etc/mtab")).unwrap();
    let added = mtab
        .strip_prefix(MTAB)
        .expect("the other lines are as they were");
    assert!(
        added.starts_with("/dev/vdb /staging ext2 rw,nosuid,nodev"),
        "{added:?}"
    );
    let motd = fs::read_to_string(guest.machine.path("etc/motd")).unwrap();
    let added = motd
        .strip_prefix(MOTD)
        .expect("the other lines are as they were");
    assert!(
        added.starts_with("vmstage: scratch space is on /staging"),
        "{added:?}"
    );
    let mut line = [0; 200];
    let length = syslog.recv(&mut line).expect("a line in syslog");
    assert!(line.starts_with(b"<30>vmstage["), "{:?}", &line[..length]);
}

fn a_second_boot_changes_nothing(guest: &mut OldGuest) {
    guest.disks([("vdb", &Image::ext3("ephemeral0"))]);
    guest.run(&["boot"]).ready_on("/dev/vdb");
    let read = |file| fs::read(guest.machine.path(file)).unwrap();
    let files = ["etc/mtab", "etc/motd"];
    let before = files.map(read);
    guest.run(&["boot"]).ready_on("/dev/vdb").warns_of_nothing();
    assert_eq!(files.map(read), before);
}

fn what_is_not_a_scratch_disk_is_rejected(guest: &mut OldGuest) {
    guest.disks([
        ("vdb", &Image::swap("")),
        ("sdb", &Image::ext2("").with_swap_header()),
        ("xvdb", &Image::lvm()),
    ]);
    guest
        .run(&["boot"])
        .failed(3)
        .rejects("/dev/vdb", "swap")
        .rejects("/dev/sdb", "swap")
        .rejects("/dev/xvdb", "LVM");
}

fn boot_waits_for_a_disk_without_spinning(guest: &mut OldGuest) {
    guest.machine.configure("[staging]\nwait = \"3s\"\n");
    guest
        .run_waiting(&["boot"], Duration::from_secs(3))
        .failed(3);
}

fn probe_shows_what_boot_would_do(guest: &mut OldGuest) {
    guest.disks([("vdb", &Image::swap("")), ("sdb", &Image::ext2(""))]);
    let outcome = guest.run(&["probe"]);
    assert_eq!(outcome.code, 0, "{outcome}");
    let row = |device: &str| outcome.stdout.lines().find(|row| row.contains(device));
    assert!(row("/dev/vdb").unwrap().contains("rejected"), "{outcome}");
    assert!(row("/dev/sdb").unwrap().contains("accepted"), "{outcome}");
    assert!(outcome.staged().is_empty(), "{outcome}");
}

fn status_tells_of_the_boot_and_waits_for_it_without_spinning(guest: &mut OldGuest) {
    let none = guest.run_waiting(&["status", "--wait=2"], Duration::from_secs(2));
    assert_eq!(none.code, 1, "{none}");

    guest.disks([("vdb", &Image::ext2("ephemeral0"))]);
    let boot = guest.run(&["boot"]);
    let told = guest.run(&["status", "--format", "json"]);
    assert_eq!(told.code, 0, "{told}");
    let document: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(&document, boot.the_status());
}

fn boot_publishes_the_deadline_that_a_service_gives(guest: &mut OldGuest) {
    guest.disks([("vdb", &Image::ext2("ephemeral0"))]);
    guest.ask(&leasing().url(), "");

    let outcome = guest.run(&["boot"]);

    outcome.ready_on("/dev/vdb").warns_of_nothing();
    let deadline = &outcome.the_status()["deadline"];
    let origin = deadline["origin"].as_str().unwrap_or_default();
    assert!(origin.contains("vmstage_lifetime"), "{outcome}");
    let said = format!("; must be gone by {}", deadline["at_utc"].as_str().unwrap());
    assert!(outcome.console.contains(&said), "{outcome}");
    let published = guest.machine.path("etc/machinefeatures/shutdowntime");
    assert_eq!(
        fs::read_to_string(published).unwrap().trim(),
        deadline["at"].to_string()
    );
}

fn metadata_prints_what_a_service_says(guest: &mut OldGuest) {
    guest.ask(&leasing().url(), "");
    let outcome = guest.run(&["metadata"]);
    assert_eq!(outcome.code, 0, "{outcome}");
    for word in ["an-instance", "vmstage_lifetime", "36h"] {
        assert!(
            outcome.stdout.contains(word),
            "{word:?} is missing\n{outcome}"
        );
    }
}

fn a_silent_service_is_waited_for_without_spinning(guest: &mut OldGuest) {
    let silent = Server::start(|_, _| {
        thread::sleep(Duration::from_secs(60));
        Then::Close
    });
    guest.ask(&silent.url(), "request_timeout = \"1s\"\ntimeout = \"3s\"");
    let outcome = guest.run_waiting(&["metadata"], Duration::from_secs(2));
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(outcome.took < Duration::from_secs(5), "{outcome}");
    assert!(
        outcome.stdout.contains("no whole answer within "),
        "{outcome}"
    );
}

fn a_service_that_refuses_is_asked_again_without_spinning(guest: &mut OldGuest) {
    let refusing = Refusing::new();
    guest.ask(&refusing.url(), "timeout = \"3s\"");
    let outcome = guest.run_waiting(&["metadata"], Duration::from_secs(1));
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(outcome.stdout.contains("Connection refused"), "{outcome}");
    assert!(outcome.stdout.contains(" tries in "), "{outcome}");
}

fn watch_drains_and_says_that_the_deadline_is_reached_without_spinning(guest: &mut OldGuest) {
    guest.disks([("vdb", &Image::ext2("ephemeral0"))]);
    install(&guest.machine, "drain", syscalls());
    // The image's own limit needs no second answer, for which one would have to wait.
    guest.ask(
        &Server::saying(200, "", br#"{"uuid": "an-instance"}"#).url(),
        "[deadline]\nmax_lifetime = \"6s\"\ngrace = \"3s\"\ndrain = [\"/drain\"]\nmin_uptime = \"0s\"",
    );
    guest.run(&["boot"]).ready_on("/dev/vdb");

    let mut watch = guest.start(&["watch"]);
    thread::sleep(Duration::from_secs(8));
    let process = watch.process().id();
    let used = cpu_time(process);
    kill(Pid::from_raw(process as i32), Signal::SIGTERM).unwrap();
    let outcome = watch.wait();

    assert!(
        used < Duration::from_millis(400),
        "it used {used:?} of the processor"
    );
    assert_eq!(outcome.code, 0, "{outcome}");
    outcome
        .says("drain: uname: 2.6.")
        .says("the deadline is reached");
}

/// A service that gives the instance a lease.
fn leasing() -> Server {
    let document = br#"{"uuid": "an-instance", "meta": {"vmstage_lifetime": "36h"}}"#;
    Server::saying(200, "", document)
}

/// A kernel, by the options that the emulator takes for it.
#[derive(Clone, Copy, PartialEq)]
struct Kernel(&'static [&'static str]);

impl Kernel {
    const VANILLA: Kernel = Kernel(&[]);
    /// With what Red Hat Enterprise Linux 5 and Scientific Linux 5 added to it.
    const EL5: Kernel = Kernel(&["--el5"]);
    /// 2.6.18-238.el5.
    const BROKEN_VDSO: Kernel = Kernel(&["--broken-vdso"]);
}

/// A guest from the days of 2.6.18: no `/run`, an `/etc/mtab` of its own, the old
/// `/proc/partitions` and the old `/sys`.
struct OldGuest {
    machine: Machine,
    kernel: Kernel,
}

fn on(kernel: Kernel, claim: fn(&mut OldGuest)) {
    need_root();
    let emulator = emulator();
    let mut machine = Machine::new();
    machine.without_run();
    fs::remove_file(machine.path("etc/mtab")).unwrap();
    fs::write(machine.path("etc/mtab"), MTAB).unwrap();
    fs::write(machine.path("etc/motd"), MOTD).unwrap();
    install(&machine, "emulator", emulator);
    for published in [
        "/etc/motd",
        "/etc/machinefeatures",
        "/etc/jobfeatures",
        "/var/lib/vmstage",
        "/var/run/vmstage",
    ] {
        machine.may_change(published);
    }
    let mut guest = OldGuest { machine, kernel };
    guest.hide_modern_pam();
    guest.age_proc_and_sys(&[]);
    claim(&mut guest);
}

impl OldGuest {
    /// The host's reads `/run/motd.d`, and would be written for.
    fn hide_modern_pam(&self) {
        for directory in ["lib", "lib64", "lib/x86_64-linux-gnu"] {
            let modules = self.machine.path("usr").join(directory).join("security");
            if modules.is_dir() {
                lay_over(&modules);
            }
        }
    }

    /// Attaches disks, of which the kernel then knows.
    fn disks<const N: usize>(&mut self, disks: [(&str, &Image); N]) -> [Disk; N] {
        let attached = disks.map(|(name, image)| self.machine.disk(name, image));
        self.age_proc_and_sys(&attached.iter().collect::<Vec<_>>());
        attached
    }

    /// Configures it to ask this service, and nobody else.
    fn ask(&mut self, url: &str, lines: &str) {
        self.machine.configure(&format!(
            "[metadata]\nsources = [\"openstack\"]\nurl = \"{url}\"\n{lines}\n"
        ));
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.start(arguments).wait()
    }

    /// Runs what waits for at least this long, and must not spin meanwhile.
    fn run_waiting(&self, arguments: &[&str], wait: Duration) -> Outcome {
        let mut running = self.start(arguments);
        thread::sleep(wait * 9 / 10);
        let used = cpu_time(running.process().id());
        assert!(used < wait / 10, "it used {used:?} of the processor");
        let outcome = running.wait();
        assert!(
            outcome.took >= wait,
            "it did not wait for {wait:?}\n{outcome}"
        );
        outcome
    }

    fn start(&self, arguments: &[&str]) -> Running<'_> {
        need_static(&program());
        let mut command = self.machine.command("/emulator", None);
        command
            .args(self.kernel.0)
            .arg("/usr/sbin/vmstage")
            .args(arguments);
        self.machine.start_command(command)
    }

    /// Lays over `/proc` and `/sys` what 2.6.18 shows there of these disks: its
    /// block/genhd.c and fs/partitions/check.c. There is no `/sys/class/block`, no
    /// `/sys/dev`, and in `/sys/block` no link and neither `ro` nor `serial`.
    fn age_proc_and_sys(&self, disks: &[&Disk]) {
        let sys = self.machine.path("sys");
        lay_over(&sys);
        fs::create_dir(sys.join("block")).unwrap();
        let mut partitions = String::from("major minor  #blocks  name\n\n");
        for disk in disks {
            let (major, minor) = disk.number;
            let bytes = fs::metadata(&disk.file).unwrap().len();
            partitions += &format!(
                "{major:4}  {minor:4} {:10} {}\n",
                bytes / 1024,
                disk.kernel_name
            );
            let block = sys.join("block").join(&disk.kernel_name);
            for directory in ["holders", "slaves", "queue"] {
                fs::create_dir_all(block.join(directory)).unwrap();
            }
            fs::write(block.join("dev"), format!("{major}:{minor}\n")).unwrap();
            fs::write(block.join("removable"), "0\n").unwrap();
            fs::write(block.join("size"), format!("{}\n", bytes / 512)).unwrap();
        }
        let list = self.machine.path("sys/.partitions");
        fs::write(&list, partitions).unwrap();
        let place = self.machine.path("proc/partitions");
        mount(
            Some(&list),
            &place,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .unwrap();
    }
}

const MOTD: &str = "Welcome to Scientific Linux\n";
const MTAB: &str = "/dev/sda1 / ext3 rw 0 0\nproc /proc proc rw 0 0\n";

fn lay_over(directory: &Path) {
    let nothing = MsFlags::empty();
    mount(
        Some("none"),
        directory,
        Some("tmpfs"),
        nothing,
        None::<&str>,
    )
    .unwrap();
}

/// What a process with all its threads has used of the processor (proc(5), stat).
fn cpu_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let ticks = after_name.split(' ').skip(11).take(2);
    ticks
        .map(|ticks| Duration::from_millis(10) * ticks.parse().unwrap())
        .sum()
}

fn install(machine: &Machine, name: &str, content: &[u8]) {
    write_program(&machine.path(name), content);
}

/// A modern ld.so ends with "kernel too old".
fn need_static(program: &Path) {
    let loader = b"/ld-linux-x86-64.so.2\0";
    let content = fs::read(program).unwrap();
    if content.windows(loader.len()).any(|part| part == loader) {
        skip(&format!(
            "{} is not a static binary: name one in $VMSTAGE_BIN",
            program.display()
        ));
    }
}

fn emulator() -> &'static [u8] {
    static COMPILED: LazyLock<Vec<u8>> = LazyLock::new(|| compile("cc", &[], "emulator"));
    tool("cc");
    &COMPILED
}

fn syscalls() -> &'static [u8] {
    static COMPILED: LazyLock<Vec<u8>> =
        LazyLock::new(|| compile("musl-gcc", &["-static"], "syscalls"));
    tool("musl-gcc");
    &COMPILED
}

fn compile(compiler: &str, options: &[&str], name: &str) -> Vec<u8> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/old_kernel");
    let program = std::env::temp_dir().join(format!("vmstage-{name}-{}", std::process::id()));
    let compiled = Command::new(tool(compiler))
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .args(options)
        .arg(sources.join(format!("{name}.c")))
        .status();
    assert!(compiled.unwrap().success(), "{name}.c does not compile");
    let content = fs::read(&program).unwrap();
    fs::remove_file(&program).unwrap();
    content
}
