//! The log: one line per event, to standard error and to syslog; nothing waits for it. And
//! the notices that are kept for the status file.

use std::cell::RefCell;
use std::env;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::fstat;
use syslog::{Facility, LogFormat, Logger, LoggerBackend, Severity};

use crate::text::one_line;

/// Where syslog listens.
pub(crate) const SOCKET: &str = "/dev/log";

/// How long a line may wait for a reader that is only slow.
const STDERR_PATIENCE_MS: u8 = 200;

/// A pipe that has room takes so much without waiting (PIPE_BUF, pipe(7)).
const PIECE: usize = 4096;

static STDERR_IS_STUCK: AtomicBool = AtomicBool::new(false);

/// So many notices are kept: `watch` may live for years.
const MOST_KEPT: usize = 100;

/// What a person should know of this run, for the status: each text once, and the last
/// hundred of many. Whatever is noted is logged as well.
#[derive(Debug, Default)]
pub struct Notices(RefCell<Vec<String>>);

impl Notices {
    /// Logs a warning and keeps it.
    pub(crate) fn warn(&self, text: impl Display) {
        let text = one_line(&text.to_string());
        log::warn!("{text}");
        let mut kept = self.0.borrow_mut();
        if !kept.contains(&text) {
            if kept.len() >= MOST_KEPT {
                kept.remove(0);
            }
            kept.push(text);
        }
    }

    /// Likewise, unless it was given already.
    pub(crate) fn warn_once(&self, text: impl Display) {
        let text = one_line(&text.to_string());
        if !self.0.borrow().contains(&text) {
            self.warn(text);
        }
    }

    /// Keeps one no more that does not hold any more.
    pub(crate) fn take_back(&self, text: &str) {
        let text = one_line(text);
        self.0.borrow_mut().retain(|kept| *kept != text);
    }

    /// All of them so far.
    pub fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

static SYSLOG: Mutex<Option<Syslog>> = Mutex::new(None);

struct Syslog {
    socket: PathBuf,
    logger: Logger<LoggerBackend, Untimed>,
}

/// In a child: who says its lines.
static PARENT: Mutex<Option<File>> = Mutex::new(None);

/// How a line to a parent begins. No message has this byte.
const LINE: u8 = 1;

struct Lines {
    stderr_is_the_journal: bool,
}

/// Nobody takes what is written to standard error: it had no room for the last line.
pub(crate) fn stderr_is_stuck() -> bool {
    STDERR_IS_STUCK.load(Ordering::Relaxed)
}

/// A pipe that is full and a terminal that was stopped lose a line: they must not keep a
/// machine from its disk.
fn to_stderr(line: &str) {
    let patience = match stderr_is_stuck() {
        true => 0,
        false => STDERR_PATIENCE_MS,
    };
    let stderr = io::stderr();
    let terminal = terminal_of_our_own();
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let is_ready = poll(&mut ready, patience) == Ok(1);
        STDERR_IS_STUCK.store(!is_ready, Ordering::Relaxed);
        let piece = &rest[..rest.len().min(PIECE)];
        let written = match &terminal {
            _ if !is_ready => return,
            Some(terminal) => (&*terminal).write(piece),
            None => (&stderr).write(piece),
        };
        match written {
            Ok(count @ 1..) => rest = &rest[count..],
            // There is nobody left to tell where standard error cannot be written to.
            Ok(0) => return,
            Err(error) => {
                let is_stuck = error.kind() == ErrorKind::WouldBlock;
                return STDERR_IS_STUCK.store(is_stuck, Ordering::Relaxed);
            }
        }
    }
}

/// A terminal may have room for less than it is given, and then waits. What others write to as
/// well is not to be changed, so it is opened anew.
fn terminal_of_our_own() -> Option<File> {
    let mut options = File::options();
    options.write(true).custom_flags(O_NONBLOCK | O_NOCTTY);
    let is_terminal = io::stderr().is_terminal();
    is_terminal.then(|| options.open("/proc/self/fd/2").ok())?
}

/// Starts logging to standard error.
pub fn start(level: LevelFilter) {
    let lines = Lines {
        stderr_is_the_journal: stderr_is_the_journal(),
    };
    // Fails only where a logger is set already, which logs as well as this one.
    if log::set_boxed_logger(Box::new(lines)).is_ok() {
        log::set_max_level(level);
    }
}

/// Logs to syslog too from now on, if one listens at this socket: at boot there may be none
/// yet.
pub(crate) fn connect(socket: PathBuf) {
    if let Ok(mut syslog) = SYSLOG.lock() {
        *syslog = open(&socket).map(|logger| Syslog { socket, logger });
    }
}

/// The socket that is logged to.
pub(crate) fn socket() -> Option<PathBuf> {
    let syslog = SYSLOG.lock().ok()?;
    syslog.as_ref().map(|syslog| syslog.socket.clone())
}

/// In a child, before its parent's descriptors are closed: nothing is to use them any more.
pub(crate) fn let_go() {
    // A test's other threads are not there to unlock anything.
    if let Ok(mut syslog) = SYSLOG.try_lock() {
        *syslog = None;
    }
}

/// In a child, which has none of its parent's descriptors: the parent says its lines
/// ([`say_lines_of_child`]).
pub(crate) fn leave_to(parent: File) {
    if let Ok(mut to) = PARENT.try_lock() {
        *to = Some(parent);
    }
}

/// In a child that stands alone: says its lines itself, to this socket.
pub(crate) fn speak_for_oneself(socket: Option<PathBuf>) {
    if let Ok(mut to) = PARENT.lock() {
        *to = None;
    }
    socket.map_or_else(disconnect, connect);
}

/// Says the lines in what came from a child, and hands back the rest.
pub(crate) fn say_lines_of_child(text: Vec<u8>) -> Vec<u8> {
    if !text.contains(&LINE) {
        return text;
    }
    let mut rest = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match line {
            [LINE, level, said @ ..] => {
                let mut levels = Level::iter();
                let level = levels.find(|one| *one as u8 == *level);
                let said = String::from_utf8_lossy(said.trim_ascii_end());
                log::log!(level.unwrap_or(Level::Info), "{said}");
            }
            line => rest.extend_from_slice(line),
        }
    }
    rest
}

/// Says whether there is one to take the line.
fn to_parent(level: Level, text: &str) -> bool {
    let Ok(mut parent) = PARENT.try_lock() else {
        return false;
    };
    parent.as_mut().is_some_and(|parent| {
        let line = [&[LINE, level as u8], text.as_bytes(), b"\n"].concat();
        parent.write_all(&line).is_ok()
    })
}

/// Logs to syslog no more.
pub(crate) fn disconnect() {
    if let Ok(mut syslog) = SYSLOG.lock() {
        *syslog = None;
    }
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // ureq's own lines would be about what is said better here.
        metadata.target().starts_with("vmstage")
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = one_line(&record.args().to_string());
        if to_parent(record.level(), &text) {
            return;
        }
        // The journal has a syslog socket too, and would show each line twice.
        if !(to_syslog(record.level(), &text) && self.stderr_is_the_journal) {
            let prefix = if record.level() == Level::Warn {
                "warning: "
            } else {
                ""
            };
            to_stderr(&format!("vmstage: {prefix}{text}\n"));
        }
    }

    fn flush(&self) {}
}

/// Says whether syslog took the line.
fn to_syslog(level: Level, text: &str) -> bool {
    let Ok(mut syslog) = SYSLOG.lock() else {
        return false;
    };
    let Some(syslog) = syslog.as_mut() else {
        return false;
    };
    if send(&mut syslog.logger, level, text).is_ok() {
        return true;
    }
    // A syslog that was restarted has a new socket behind the old name.
    if let Some(reopened) = open(&syslog.socket) {
        syslog.logger = reopened;
        return send(&mut syslog.logger, level, text).is_ok();
    }
    false
}

fn send(
    logger: &mut Logger<LoggerBackend, Untimed>,
    level: Level,
    text: &str,
) -> syslog::Result<()> {
    match level {
        Level::Error => logger.err(text),
        Level::Warn => logger.warning(text),
        Level::Info => logger.info(text),
        Level::Debug | Level::Trace => logger.debug(text),
    }
}

/// Connected so that nothing ever waits: a full queue loses a line.
fn open(socket: &Path) -> Option<Logger<LoggerBackend, Untimed>> {
    let datagrams = UnixDatagram::unbound().ok()?;
    datagrams.connect(socket).ok()?;
    datagrams.set_nonblocking(true).ok()?;
    Some(Logger::new(LoggerBackend::Unix(datagrams), Untimed))
}

/// RFC 3164 without its time stamp: the daemon's own clock and zone are those of all
/// its other lines, and the crate's formatter would write UTC.
#[derive(Clone)]
struct Untimed;

impl<T: Display> LogFormat<T> for Untimed {
    fn format<W: Write>(&self, w: &mut W, severity: Severity, message: T) -> syslog::Result<()> {
        let priority = Facility::LOG_DAEMON as u8 | severity as u8;
        write!(w, "<{priority}>vmstage[{}]: {message}", std::process::id())
            .map_err(syslog::Error::Write)
    }
}

/// `$JOURNAL_STREAM` names the journal's socket as `device:inode` (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let stderr = fstat(io::stderr().as_fd());
    match (env::var("JOURNAL_STREAM"), stderr) {
        (Ok(stream), Ok(stderr)) => stream == format!("{}:{}", stderr.st_dev, stderr.st_ino),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn however_many_notices_there_are_the_last_hundred_are_kept_each_once() {
        let notices = Notices::default();
        for number in 0..10_000 {
            notices.warn(format!("{} failed", number / 2));
        }
        let kept = notices.all();
        assert_eq!(kept.len(), MOST_KEPT);
        assert_eq!(kept[0], "4900 failed");
        assert_eq!(kept[99], "4999 failed");
    }

    #[test]
    fn a_notice_is_one_line() {
        let notices = Notices::default();
        notices.warn("two\nlines");
        notices.warn_once("two\nlines");
        assert_eq!(notices.all(), ["two lines"]);
        notices.take_back("two\nlines");
        assert_eq!(notices.all(), [""; 0]);
    }

    /// What a syslog at this socket is sent.
    fn syslog(socket: &Path) -> UnixDatagram {
        let listener = UnixDatagram::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let count = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn syslog_gets_each_line_with_its_severity_also_after_it_was_restarted() {
        let tree = Tree::new(&[("dev/", "")]);
        let socket = tree.host().path(SOCKET);
        assert!(open(&socket).is_none());
        let listener = syslog(&socket);
        let mut logger = open(&socket).unwrap();
        let me = std::process::id();
        // LOG_DAEMON is 3, shifted by three bits (syslog(3)).
        for (level, priority) in [(Level::Error, 27), (Level::Warn, 28), (Level::Info, 30)] {
            send(&mut logger, level, "hello").unwrap();
            assert_eq!(
                heard(&listener),
                format!("<{priority}>vmstage[{me}]: hello")
            );
        }
        drop(listener);
        std::fs::remove_file(&socket).unwrap();
        assert!(send(&mut logger, Level::Info, "lost").is_err());
        let listener = syslog(&socket);
        send(&mut open(&socket).unwrap(), Level::Info, "again").unwrap();
        assert_eq!(heard(&listener), format!("<30>vmstage[{me}]: again"));
    }

    #[test]
    fn a_syslog_that_takes_nothing_loses_a_line_and_is_not_waited_for() {
        let tree = Tree::new(&[("dev/", "")]);
        let socket = tree.host().path(SOCKET);
        let _listener = syslog(&socket);
        let mut logger = open(&socket).unwrap();
        let start = std::time::Instant::now();
        while send(&mut logger, Level::Info, "hello").is_ok() {
            assert!(start.elapsed().as_secs() < 5, "it never was full");
        }
    }

    /// logger(1) is what a shell script logs with: what a syslog makes of its lines, it makes
    /// of these.
    #[test]
    #[ignore = "needs util-linux' logger"]
    fn a_line_is_sent_as_logger_sends_it() {
        let tree = Tree::new(&[("dev/", "")]);
        let socket = tree.host().path(SOCKET);
        let listener = syslog(&socket);
        let done = std::process::Command::new("logger")
            .args(["-p", "daemon.warning", "-t", "vmstage", "-u"])
            .arg(&socket)
            .arg("hello")
            .status();
        assert!(done.unwrap().success());
        send(&mut open(&socket).unwrap(), Level::Warn, "hello").unwrap();
        let parts = |line: &str| {
            let (priority, rest) = line.split_once('>').unwrap();
            let (head, text) = rest.split_once(": ").unwrap();
            // logger has a time stamp before the name; the daemon does without.
            let name = head.rsplit(' ').next().unwrap();
            let name = name.split('[').next().unwrap();
            [priority, name, text].map(String::from)
        };
        let (theirs, ours) = (heard(&listener), heard(&listener));
        assert_eq!(parts(&ours), parts(&theirs), "{theirs:?} {ours:?}");
    }
}
