//! What a child process lets go of, that it may hang and nobody else with it.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, close, dup2_stderr, dup2_stdin, dup2_stdout};

use super::kernel_calls::close_range;

/// A child that hangs must hold nothing of its parent's: no lock, no pipe that somebody reads
/// to its end, no working directory.
pub(super) fn detach_from_parent(kept: &[RawFd]) {
    let _ = set_pdeathsig(Signal::SIGKILL);
    let _ = chdir(Path::new("/"));
    if let Ok((input, output)) = nothing() {
        let _ = dup2_stdin(input);
        let _ = dup2_stdout(&output);
        let _ = dup2_stderr(output);
    }
    if close_between(kept).is_err() {
        for descriptor in open_descriptors() {
            if descriptor > libc::STDERR_FILENO && !kept.contains(&descriptor) {
                let _ = close(descriptor);
            }
        }
    }
}

/// Closes all but those, and input, output and error.
fn close_between(kept: &[RawFd]) -> nix::Result<()> {
    let mut first = libc::STDERR_FILENO + 1;
    loop {
        let next = kept.iter().copied().filter(|kept| *kept >= first).min();
        let last = next.map_or(libc::c_uint::MAX, |next| next as libc::c_uint - 1);
        if first as libc::c_uint <= last {
            close_range(first as libc::c_uint, last)?;
        }
        match next {
            Some(next) => first = next + 1,
            None => return Ok(()),
        }
    }
}

/// Where nothing comes from, and what nobody reads goes. The node may be missing, or a link to
/// where nobody answers; a pipe takes some.
fn nothing() -> io::Result<(OwnedFd, OwnedFd)> {
    let null = Path::new("/dev/null");
    let there = null.symlink_metadata();
    if there.is_ok_and(|there| there.file_type().is_char_device()) {
        let null = open(null, OFlag::O_RDWR, Mode::empty())?;
        return Ok((null.try_clone()?, null));
    }
    let (input, output) = io::pipe()?;
    Ok((input.into(), output.into()))
}

pub(super) fn open_descriptors() -> Vec<RawFd> {
    let listed = std::fs::read_dir("/proc/self/fd").map(|list| {
        list.flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    });
    listed.unwrap_or_else(|_| (0..1024).collect())
}
