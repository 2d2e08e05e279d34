//! Reading many disks, any of which may hang.
//!
//! A child process takes one disk after the other. Where it gets stuck, more children take
//! those that are left, so that many slow disks cost as much time as one, and fast ones no
//! more than one child. A disk that hangs keeps its child, which is left behind; it is not
//! read again while that child is there. A disk on which libblkid crashes costs a child.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::queue::{Queue, next_of};
use super::signature::{self, Content, Reading, Zero};
use crate::host::block_device::Number;
use crate::host::bounded::{Child, GaveUp, LeftBehind, Parent, wait_for_any};

/// Children that have said nothing for so long are taken for stuck, and others help. A
/// local disk takes a tenth of it.
const STUCK: Duration = Duration::from_millis(3);

/// How much longer other disks are waited for once one is enough: what they could say
/// would be a warning.
const GRACE: Duration = Duration::from_millis(500);

/// How often a child says that it is still looking whether a disk is zero, and for how long it
/// may: a local disk takes a second, one behind a busy network or an emulator many.
const STILL_LOOKING: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_secs(120);

/// Paths of so many bytes fit into an empty pipe (64 KiB, since Linux 2.6.11), with what is
/// around them.
const MOST_AT_ONCE: usize = 16 * 1024;

/// A process that runs dies of SIGKILL in less.
const SOON: Duration = Duration::from_millis(100);

/// A device that is to be read.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) number: Number,
    pub(crate) node: PathBuf,
}

/// Whether it is also seen if a disk without any signature is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Zeros {
    LookFor,
    Ignore,
}

/// Reads disks within a time limit, and remembers those that hang.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The child that each of them keeps, and after how long it was given up.
    stuck: BTreeMap<Number, (LeftBehind, Duration)>,
    /// One that has nothing left to read.
    spare: Option<Child>,
    standby: Option<Standby>,
}

/// A child that was started before it is known what there is to read, so that starting it costs
/// no time then: it has an [`Assignment`] to wait for.
#[derive(Debug)]
struct Standby {
    child: Child,
    queue: Queue,
}

impl Standby {
    fn with_nothing_to_read(mut self) -> Option<Child> {
        let nothing = Assignment {
            first: None,
            nodes: Cow::default(),
            zeros: Zeros::Ignore,
        };
        self.child.give(&nothing).is_ok().then_some(self.child)
    }
}

/// What a child does: a device first, and then those that it takes out of the queue.
#[derive(Serialize, Deserialize)]
struct Assignment<'a> {
    first: Option<usize>,
    nodes: Cow<'a, [PathBuf]>,
    zeros: Zeros,
}

/// What a child says of the device at an index.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Begun(usize),
    Read(usize, Box<Reading>),
    /// It is being looked whether it is zero.
    Looking(usize),
    Zero(usize, Zero),
}

impl Reader {
    /// With a child that gets ready while this process finds out what to read. Where none can be
    /// started it is seen later whether one can.
    pub(crate) fn with_a_child() -> Reader {
        let standby = || -> Result<Standby, GaveUp> {
            let queue = Queue::new().map_err(GaveUp::Broken)?;
            let items = queue.items.as_fd();
            let child = Child::start(&[items], |parent| {
                if let Some(order) = parent.order() {
                    read_in_turn(order, items, parent);
                }
            })?;
            Ok(Standby { child, queue })
        };
        Reader {
            standby: standby().ok(),
            ..Reader::default()
        }
    }

    /// Reads all of these for at most `limit` together, or for half a second more from the
    /// moment on at which `is_enough` says that one of them is. What has not answered by
    /// then is [`Content::NoAnswer`]. Looking whether one is zero may take longer, as long as it
    /// goes on.
    pub(crate) fn read(
        &mut self,
        wanted: &[Wanted],
        zeros: Zeros,
        limit: Duration,
        is_enough: impl Fn(&Wanted, &Reading) -> bool,
    ) -> Vec<Reading> {
        self.stuck.retain(|_, (child, _)| child.is_there());
        let mut round = Round::new(wanted, zeros);
        for (index, device) in wanted.iter().enumerate() {
            if let Some((_, after)) = self.stuck.get(&device.number) {
                round.settle_as(index, Reading::no_answer(*after));
            }
        }
        let standby = self.standby.take_if(|_| round.to_settle > 0);
        if let Err(error) = round.run(standby, limit, is_enough) {
            round.fail(&error);
        }
        let after = round.start.elapsed();
        let is_all = round.to_settle == 0;
        for (child, at) in round.children {
            match at {
                None if is_all => self.spare = Some(child),
                None => drop(child.give_up()),
                Some(index) => {
                    let number = wanted[index].number;
                    let child = child.give_up();
                    // Where all that was left to find out is whether it is blank, nothing hangs.
                    if !(round.states[index].is_settled && child.is_gone_within(SOON)) {
                        self.leave_alone(number, child, after);
                    }
                }
            }
        }
        round
            .states
            .into_iter()
            .map(|state| state.reading.unwrap_or(Reading::no_answer(after)))
            .collect()
    }

    /// Takes note of a child that was given up after this time, as it hangs on a device,
    /// which is not read while it does.
    pub(crate) fn leave_alone(&mut self, number: Number, child: LeftBehind, after: Duration) {
        self.stuck.insert(number, (child, after));
    }

    /// A child for work on a disk: one that is there and has nothing to read, or a new one.
    ///
    /// # Errors
    ///
    /// That none can be started.
    pub(crate) fn child(&mut self) -> Result<Child, GaveUp> {
        let standby = self.standby.take().and_then(Standby::with_nothing_to_read);
        match self.spare.take().or(standby) {
            Some(child) => Ok(child),
            None => Child::start(&[], |_| ()),
        }
    }

    /// Reads one device.
    pub(crate) fn read_one(&mut self, wanted: &Wanted, limit: Duration) -> Reading {
        let mut read = self.read(
            std::slice::from_ref(wanted),
            Zeros::Ignore,
            limit,
            |_, _| false,
        );
        read.remove(0)
    }
}

/// How far a device is.
#[derive(Debug, Clone, Default)]
struct State {
    is_begun: bool,
    is_settled: bool,
    reading: Option<Reading>,
    /// When its child last said that it is looking whether it is zero.
    looked_at: Option<Instant>,
}

/// One time of reading.
struct Round<'a> {
    wanted: &'a [Wanted],
    nodes: Vec<PathBuf>,
    zeros: Zeros,
    start: Instant,
    states: Vec<State>,
    /// How many devices no child has begun, and how many are not settled.
    to_begin: usize,
    to_settle: usize,
    /// Each with the device that it is at.
    children: Vec<(Child, Option<usize>)>,
}

impl<'a> Round<'a> {
    fn new(wanted: &'a [Wanted], zeros: Zeros) -> Round<'a> {
        Round {
            wanted,
            nodes: wanted.iter().map(|one| one.node.clone()).collect(),
            zeros,
            start: Instant::now(),
            states: vec![State::default(); wanted.len()],
            to_begin: wanted.len(),
            to_settle: wanted.len(),
            children: Vec::new(),
        }
    }

    fn run(
        &mut self,
        standby: Option<Standby>,
        limit: Duration,
        is_enough: impl Fn(&Wanted, &Reading) -> bool,
    ) -> io::Result<()> {
        let (mut standby, mut queue) = match standby {
            Some(Standby { child, queue }) => (Some(child), queue),
            None => (None, Queue::new()?),
        };
        let open = (0..self.wanted.len()).filter(|index| !self.states[*index].is_begun);
        queue.rest = open.collect();
        let mut had_enough = None;
        let mut moved_at = Instant::now();
        while self.to_settle > 0 {
            let now = Instant::now();
            let until = self.until(limit, had_enough);
            if now >= until {
                self.say_what_was_late(limit);
                break;
            }
            if let Some(child) = standby.take() {
                self.give_to(child, &mut queue);
            } else if self.children.is_empty() {
                self.start_child(&mut queue)?;
            } else if self.to_begin > 0 && now - moved_at >= STUCK {
                // As many again, so that thousands of hanging disks are all begun in time. Where
                // there can be no more, those that are there read on.
                for _ in 0..self.children.len() {
                    if self.start_child(&mut queue).is_err() {
                        break;
                    }
                }
                moved_at = now;
            }
            queue.fill();
            let pause = match self.to_begin {
                0 => until - now,
                _ => STUCK.min(until - now),
            };
            let children = self.children.iter();
            let said: Vec<BorrowedFd> = children.map(|(child, _)| child.as_fd()).collect();
            wait_for_any(&said, pause);
            let read = self.take_messages();
            if !read.is_empty() {
                moved_at = Instant::now();
            }
            let enough = |index: &usize| {
                let reading = self.states[*index].reading.as_ref();
                reading.is_some_and(|reading| is_enough(&self.wanted[*index], reading))
            };
            if self.to_settle > 0 && had_enough.is_none() && read.iter().any(enough) {
                had_enough = Some(Instant::now());
            }
            if had_enough.is_some() {
                self.settle_those_read();
            }
        }
        Ok(())
    }

    /// Looking whether a disk is zero takes as long as it takes, as long as it goes on.
    fn until(&self, limit: Duration, had_enough: Option<Instant>) -> Instant {
        let looked_at = self.states.iter().filter_map(|state| state.looked_at);
        let looking = looked_at.max().map(|at| at + limit);
        let until = looking.map_or(self.start + limit, |looking| {
            (self.start + limit).max(looking.min(self.start + LONGEST_LOOK))
        });
        had_enough.map_or(until, |at| until.min(at + GRACE))
    }

    fn say_what_was_late(&mut self, limit: Duration) {
        for state in self.states.iter_mut().filter(|state| !state.is_settled) {
            let goes_on = state.looked_at.is_some_and(|at| at.elapsed() < limit);
            if let Some(reading) = &mut state.reading {
                reading.zero = match goes_on {
                    true => Zero::NotInTime,
                    false => Zero::NoAnswer,
                };
            }
        }
    }

    /// One is started where that child has ended meanwhile, or where it cannot be told at once
    /// what to read, as there is so much.
    fn give_to(&mut self, mut child: Child, queue: &mut Queue) {
        let length: usize = self.nodes.iter().map(|node| node.as_os_str().len()).sum();
        if length > MOST_AT_ONCE {
            return;
        }
        let first = queue.take_first();
        match child.give(&self.assignment(first)) {
            Ok(()) => self.take_on(child, first),
            Err(_) => queue.put_back(first),
        }
    }

    fn start_child(&mut self, queue: &mut Queue) -> io::Result<()> {
        let (first, items) = (queue.take_first(), queue.items.as_fd());
        let order = self.assignment(first);
        let child = Child::start(&[items], |parent| read_in_turn(order, items, parent));
        let child = child.map_err(|e| {
            queue.put_back(first);
            io::Error::other(e)
        })?;
        self.take_on(child, first);
        Ok(())
    }

    fn assignment(&self, first: Option<usize>) -> Assignment<'_> {
        Assignment {
            first,
            nodes: Cow::Borrowed(&self.nodes),
            zeros: self.zeros,
        }
    }

    fn take_on(&mut self, child: Child, first: Option<usize>) {
        self.children.push((child, first));
        if let Some(first) = first {
            self.begin(first);
        }
    }

    fn begin(&mut self, index: usize) {
        self.to_begin -= usize::from(!self.states[index].is_begun);
        self.states[index].is_begun = true;
    }

    /// Takes what the children say. Returns the devices that were read.
    fn take_messages(&mut self) -> Vec<usize> {
        let mut read = Vec::new();
        let mut children = std::mem::take(&mut self.children);
        for (child, at) in &mut children {
            for message in child.messages() {
                match message {
                    Message::Begun(index) => {
                        self.begin(index);
                        *at = Some(index);
                    }
                    Message::Read(index, reading) => {
                        let is_blank = reading.content == Content::Nothing;
                        self.states[index].reading = Some(*reading);
                        if is_blank && self.zeros == Zeros::LookFor {
                            self.states[index].looked_at = Some(Instant::now());
                        }
                        if !(is_blank && self.zeros == Zeros::LookFor) {
                            self.settle(index);
                            *at = None;
                        }
                        read.push(index);
                    }
                    Message::Looking(index) => {
                        self.states[index].looked_at = Some(Instant::now());
                    }
                    Message::Zero(index, zero) => {
                        if let Some(reading) = &mut self.states[index].reading {
                            reading.zero = zero;
                        }
                        self.settle(index);
                        *at = None;
                    }
                }
            }
        }
        for (child, at) in children {
            match (child.has_closed(), at) {
                (false, _) => self.children.push((child, at)),
                (true, None) => {}
                (true, Some(index)) => {
                    let why = "the process that read it was ended by a fault";
                    self.settle_as(index, Reading::unreadable(why.into()));
                }
            }
        }
        read
    }

    fn settle(&mut self, index: usize) {
        self.begin(index);
        self.to_settle -= usize::from(!self.states[index].is_settled);
        self.states[index].is_settled = true;
    }

    /// One disk is enough: that another one is blank would be of no use.
    fn settle_those_read(&mut self) {
        for index in 0..self.states.len() {
            if self.states[index].reading.is_some() {
                self.settle(index);
            }
        }
    }

    fn settle_as(&mut self, index: usize, reading: Reading) {
        self.states[index].reading = Some(reading);
        self.settle(index);
    }

    /// No child can be started: nothing more can be read.
    fn fail(&mut self, error: &io::Error) {
        for index in 0..self.states.len() {
            if !self.states[index].is_begun {
                self.settle_as(index, Reading::unreadable(error.to_string()));
            }
        }
    }
}

fn read_in_turn(order: Assignment, items: BorrowedFd, parent: &mut Parent) {
    if let Some(first) = order.first {
        read_one(first, &order, parent);
    }
    while let Some(index) = next_of(items) {
        parent.tell(&Message::Begun(index));
        read_one(index, &order, parent);
    }
}

fn read_one(index: usize, Assignment { nodes, zeros, .. }: &Assignment<'_>, parent: &mut Parent) {
    let node = &nodes[index];
    let reading = signature::read(node);
    let is_blank = reading.content == Content::Nothing;
    parent.tell(&Message::Read(index, Box::new(reading)));
    if is_blank && *zeros == Zeros::LookFor {
        let mut told_at = Instant::now();
        let goes_on = || {
            if told_at.elapsed() >= STILL_LOOKING {
                told_at = Instant::now();
                parent.tell(&Message::Looking(index));
            }
        };
        let zero = signature::zero(node, goes_on).unwrap_or(Zero::NotSeen);
        parent.tell(&Message::Zero(index, zero));
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, kill};

    use super::*;
    use crate::host::bounded::{Limit, Task};
    use crate::host::wait;

    #[test]
    fn every_device_has_its_own_outcome() {
        // Reading more of them would take disks: tests/host/hanging.rs has some.
        let nodes = ["/nonexistent", "/dev/null/x", "/nonexistent"];
        let wanted: Vec<Wanted> = (0..3000)
            .map(|index| Wanted {
                number: Number {
                    major: 7,
                    minor: index as u64,
                },
                node: PathBuf::from(nodes[index % 3]),
            })
            .collect();
        let mut orphan = Reader::with_a_child();
        let standby = orphan.standby.as_mut().unwrap();
        kill(standby.child.pid(), Signal::SIGKILL).unwrap();
        wait::until(Duration::from_secs(5), SOON, || standby.child.status()).unwrap();
        for (mut reader, count) in [
            (Reader::default(), 3000),
            (Reader::with_a_child(), 3000),
            (Reader::with_a_child(), 1000),
            (orphan, 1000),
        ] {
            let limit = Duration::from_secs(5);
            let read = reader.read(&wanted[..count], Zeros::LookFor, limit, |_, _| false);
            assert_eq!(read.len(), count);
            for (index, reading) in read.iter().enumerate() {
                let expected = match index % 3 {
                    1 => "Not a directory",
                    _ => "No such file",
                };
                match &reading.content {
                    Content::Unreadable { error } if error.starts_with(expected) => {}
                    other => panic!("{index}: {other}"),
                }
            }
            assert!(reader.stuck.is_empty());
            assert!(reader.standby.is_none());
        }
    }

    #[test]
    fn a_child_with_nothing_to_read_follows_orders() {
        let mut reader = Reader::with_a_child();
        let standby = reader.standby.as_ref().unwrap().child.pid();
        // There is nothing to read, and nobody to read it.
        let limit = Duration::from_secs(5);
        assert!(
            reader
                .read(&[], Zeros::Ignore, limit, |_, _| false)
                .is_empty()
        );
        let mut child = reader.child().unwrap();
        assert_eq!(child.pid(), standby);
        let answer = child.ask::<Echo>(&"a".to_string(), Limit::after(limit));
        assert_eq!(answer.unwrap(), "a");
        // The next one is new.
        assert_ne!(reader.child().unwrap().pid(), standby);
    }

    struct Echo;

    impl Task for Echo {
        type Order = String;
        type Outcome = String;

        fn perform(order: String) -> String {
            order
        }
    }
}
