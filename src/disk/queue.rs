//! What is left to read, for several children.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// The devices that no child has begun yet: a pipe, from which each child takes one index
/// at a time.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) items: io::PipeReader,
    input: Option<io::PipeWriter>,
    pub(super) rest: VecDeque<usize>,
}

impl Queue {
    pub(super) fn new() -> io::Result<Queue> {
        let (reader, writer) = io::pipe()?;
        fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Queue {
            items: reader,
            input: Some(writer),
            rest: VecDeque::new(),
        })
    }

    /// The first that is not in the pipe yet: nobody has to say of it that it is begun.
    pub(super) fn take_first(&mut self) -> Option<usize> {
        self.rest.pop_front()
    }

    /// One that nobody has begun after all.
    pub(super) fn put_back(&mut self, first: Option<usize>) {
        if let Some(first) = first {
            self.rest.push_front(first);
        }
    }

    /// Puts in what there is room for, and closes it after the last one.
    pub(super) fn fill(&mut self) {
        while let (Some(input), Some(index)) = (&mut self.input, self.rest.front()) {
            // Atomic, as is taking them out: the length divides PIPE_BUF (pipe(7)).
            if input.write(&(*index as u32).to_ne_bytes()).is_err() {
                return;
            }
            self.rest.pop_front();
        }
        self.input = None;
    }
}

/// Takes the next index out of the queue; None after the last one.
pub(super) fn next_of(items: BorrowedFd) -> Option<usize> {
    let mut item = [0; 4];
    match nix::unistd::read(items, &mut item) {
        Ok(4) => Some(u32::from_ne_bytes(item) as usize),
        _ => None,
    }
}
