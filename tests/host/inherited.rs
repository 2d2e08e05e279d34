//! What whoever starts the program leaves it: signals that are ignored or blocked, and limits.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::unistd::{Pid, write};

use crate::common::{Fault, Image, Machine, Outcome};

claims![
    a_program_is_heard_to_end_where_sigchld_was_ignored,
    a_limit_of_the_size_of_files_ends_no_boot,
    watch_ends_by_a_signal_that_was_blocked,
    a_limit_of_open_files_keeps_no_disk_from_being_read,
    a_terminal_that_takes_half_a_line_keeps_nobody,
];

/// `vmstage boot`, started by a shell after this.
fn boot_after(machine: &Machine, script: &str) -> Outcome {
    let mut shell = machine.command("/bin/sh", None);
    let script = format!("{script}; exec /usr/sbin/vmstage boot");
    shell.args(["-c", &script, "boot"]);
    machine.start_command(shell).wait()
}

fn a_program_is_heard_to_end_where_sigchld_was_ignored() {
    let mut machine = Machine::new();
    machine.configure("[staging]\nformat = \"blank\"\ndevices = [\"/dev/vdb\"]\n");
    machine.disk("vdb", &Image::blank(64));
    let mut boot = machine.command("/usr/sbin/vmstage", None);
    boot.arg("boot");
    // SAFETY: a system call only, and no function of this program's.
    let ignore = || Ok(unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.map(drop)?);
    // SAFETY: likewise.
    unsafe { boot.pre_exec(ignore) };
    let boot = machine.start_command(boot).wait();
    boot.ready_on("/dev/vdb");
    boot.does_not_say("cannot be waited for");
}

fn a_limit_of_the_size_of_files_ends_no_boot() {
    let mut machine = Machine::new();
    machine.may_change("/var/lib/vmstage");
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    let boot = boot_after(&machine, "ulimit -f 0");
    assert_eq!(boot.code, 0, "{boot}");
    assert_eq!(boot.staged().len(), 1, "{boot}");
    let left = machine.sh("ls -A /run/vmstage");
    assert!(!left.contains(".new"), "{left}");
}

fn watch_ends_by_a_signal_that_was_blocked() {
    let mut machine = Machine::new();
    machine.may_change("/var/lib/vmstage");
    let mut watch = machine.command("/usr/sbin/vmstage", None);
    watch.arg("watch");
    let block = || Ok(SigSet::all().thread_set_mask()?);
    // SAFETY: a system call only.
    unsafe { watch.pre_exec(block) };
    let mut watch = machine.start_command(watch);
    sleep(Duration::from_secs(1));
    kill(Pid::from_raw(watch.process().id() as i32), Signal::SIGTERM).unwrap();
    let watch = watch.wait();
    assert_eq!(watch.code, 0, "{watch}");
    assert!(watch.took < Duration::from_secs(5), "{watch}");
}

/// Enough for three children that read, and not for a fourth.
fn a_limit_of_open_files_keeps_no_disk_from_being_read() {
    let mut machine = Machine::new();
    machine.configure("[staging]\ndevice_timeout = \"2s\"\n");
    let hung = ["vdc", "vdd"].map(|name| machine.faulty_disk(name, &Image::ext4("data")));
    machine.disk("vdb", &Image::ext4("ephemeral0"));
    hung.iter().for_each(|disk| disk.fault(Fault::Hang));
    let boot = boot_after(&machine, "ulimit -n 14");
    boot.ready_on("/dev/vdb").does_not_say("file descriptors");
}

/// It has room for some of what is to be written, and nobody reads it.
fn a_terminal_that_takes_half_a_line_keeps_nobody() {
    let mut machine = Machine::new();
    let devices: Vec<String> = (10..99).map(|n| format!("\"/dev/missing{n}\"")).collect();
    machine.configure(&format!("[staging]\ndevices = [{}]\n", devices.join(", ")));
    for kibibytes in 4.. {
        let terminal = openpty(None, None).unwrap();
        let set = |flags| fcntl(&terminal.slave, FcntlArg::F_SETFL(flags)).unwrap();
        set(OFlag::O_RDWR | OFlag::O_NONBLOCK);
        let mut fill = (0..kibibytes).map(|_| write(&terminal.slave, &[b'x'; 1024]));
        if !fill.all(|written| written == Ok(1024)) {
            break;
        }
        set(OFlag::O_RDWR);
        let mut boot = machine.command("/usr/sbin/vmstage", None);
        boot.arg("boot").stdin(Stdio::null()).stdout(Stdio::null());
        let mut boot = boot
            .stderr(terminal.slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while boot.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(15) {
                boot.kill().unwrap();
                boot.wait().unwrap();
                panic!("it waits for a terminal that took {kibibytes} KiB");
            }
            sleep(Duration::from_millis(10));
        }
    }
}
