//! Whether a disk is provably blank: zero at every place where a file system, a RAID or a volume
//! manager keeps a superblock or a copy of one, and in samples between: the same ones in every run.
//!
//! What it is for: a disk whose first megabytes were overwritten has no signature, and still is
//! somebody's. What cannot be seen in this way: data that something unusual has laid out, or that
//! is left of something whose superblocks are all gone, and that no sample meets.

mod place;
mod rules;
mod samples;

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

pub use place::Place;
use place::{BLOCK, KIB};
use rules::{RULES, Volume};

/// So many samples are taken of a disk after all places were read, or as many as it has blocks:
/// the same ones in every run.
pub const SAMPLES: usize = 2048;

/// So many places are spread evenly over a disk, beside those that something is kept at.
const SPREAD: u64 = 256;

/// What is read at once, and how many of them the disk is asked for ahead.
const PIECE: u64 = 256 * KIB;
const AHEAD: usize = 64;

/// What there is on a disk without a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing but zeros, in so many samples and in all places.
    Zeros {
        /// Beside the places of superblocks.
        samples: usize,
    },
    /// This byte is the first one found that is not zero.
    Something {
        /// The size of the disk, in bytes.
        disk: u64,
        /// The byte's place.
        at: u64,
    },
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Found::Zeros { samples } => {
                write!(f, "zero in all places, and in {samples} samples")
            }
            Found::Something { disk, at } => {
                write!(f, "byte {at} is not zero")?;
                match kept_at(*disk, *at)[..] {
                    [] => Ok(()),
                    ref kept => write!(f, " (a place of {})", kept.join(", ")),
                }
            }
        }
    }
}

/// Reads what has to be zero on a disk, or on a file in place of one, and then so many samples.
/// How long that may take, the caller has to bound: a place that was not read in time may hold
/// anything. `goes_on` is called after each piece that was read.
///
/// # Errors
///
/// That something cannot be read, or that there is nothing: the disk has no medium.
pub fn scan(disk: &File, samples: usize, mut goes_on: impl FnMut()) -> io::Result<Found> {
    let size = (&*disk).seek(SeekFrom::End(0))?;
    if size == 0 {
        return Err(io::Error::other("its size is 0"));
    }
    // Nothing but what is asked for, however near it is.
    advise(disk, &(0..0), PosixFadviseAdvice::POSIX_FADV_RANDOM);
    let something = |at| Found::Something { disk: size, at };
    let mandatory = places(size).into_iter().flat_map(pieces);
    if let ControlFlow::Break(at) = read(disk, mandatory, &mut goes_on)? {
        return Ok(something(at));
    }
    let samples = samples::all(size).take(samples);
    Ok(match read(disk, samples, &mut goes_on)? {
        ControlFlow::Break(at) => something(at),
        ControlFlow::Continue(samples) => Found::Zeros { samples },
    })
}

/// Where a disk of this size has to be zero: in the order of their offsets, whole blocks as far
/// as there are, and none next to another.
pub fn places(disk: u64) -> Vec<Place> {
    let volumes = Volume::all_on(disk);
    let of_rules = RULES
        .iter()
        .flat_map(|rule| volumes.iter().flat_map(rule.places));
    let spread = (0..SPREAD).map(|n| disk / SPREAD * n..disk / SPREAD * n + BLOCK);
    place::merged(of_rules.chain(spread), disk)
}

/// What has a place at this byte of a disk of this size.
fn kept_at(disk: u64, at: u64) -> Vec<&'static str> {
    let volumes = Volume::all_on(disk);
    let keeps = |places: fn(&Volume) -> Vec<Place>| {
        let mut places = volumes.iter().flat_map(places);
        places.any(|place| place.contains(&at))
    };
    let rules = RULES.iter().filter(|rule| keeps(rule.places));
    let mut kept: Vec<&str> = rules.map(|rule| rule.what).collect();
    kept.dedup();
    kept
}

fn pieces(place: Place) -> impl Iterator<Item = Place> {
    let starts = place.clone().step_by(PIECE as usize);
    starts.map(move |start| start..place.end.min(start + PIECE))
}

/// Reads these until a byte is not zero, and returns its offset; or all, and returns how many
/// there are.
fn read(
    disk: &File,
    mut pieces: impl Iterator<Item = Place>,
    goes_on: &mut impl FnMut(),
) -> io::Result<ControlFlow<u64, usize>> {
    let mut asked_for = VecDeque::new();
    let mut buffer = vec![0; PIECE as usize];
    let mut zeros = 0;
    loop {
        while asked_for.len() < AHEAD
            && let Some(piece) = pieces.next()
        {
            advise(disk, &piece, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
            asked_for.push_back(piece);
        }
        let Some(piece) = asked_for.pop_front() else {
            break;
        };
        let bytes = &mut buffer[..(piece.end - piece.start) as usize];
        disk.read_exact_at(bytes, piece.start)?;
        // It is of no further use, and others need the memory.
        advise(disk, &piece, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        if let Some(index) = first_that_is_not_zero(bytes) {
            return Ok(ControlFlow::Break(piece.start + index as u64));
        }
        zeros += 1;
        goes_on();
    }
    Ok(ControlFlow::Continue(zeros))
}

/// No more than advice: what cannot be read says so when it is read.
fn advise(disk: &File, place: &Place, advice: PosixFadviseAdvice) {
    let length = place.end - place.start;
    let _ = posix_fadvise(disk, place.start as i64, length as i64, advice);
}

fn first_that_is_not_zero(bytes: &[u8]) -> Option<usize> {
    // Fast, also without optimization: all are like the one before them.
    let is_zero = bytes.first() == Some(&0) && bytes[1..] == bytes[..bytes.len() - 1];
    if is_zero {
        return None;
    }
    bytes.iter().position(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::place::MIB;
    use super::*;

    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;

    /// More are never read, however large the disk is: a disk that turns does 200 in a second.
    const MOST: usize = 3_200;
    const MOST_BYTES: u64 = 192 * MIB;

    /// The places are in order, and none touches another one.
    fn is_in(places: &[Place], wanted: Place) -> bool {
        let at = places.partition_point(|place| place.end < wanted.end);
        places
            .get(at)
            .is_some_and(|place| place.start <= wanted.start)
    }

    /// What a content from `start` to `end` has on a disk, by the texts that define it.
    fn superblocks(start: u64, end: u64) -> Vec<(&'static str, Place)> {
        let length = end - start;
        let mut wanted = Vec::new();
        for log in 10..=12 {
            let block = 1_u64 << log;
            let first = u64::from(block == 1024);
            let groups = length.div_ceil(8 * block * block);
            for base in [3_u64, 5, 7] {
                let powers = (0..).map(|n| base.pow(n)).take_while(|n| *n < groups);
                wanted.extend(powers.map(|group| {
                    let at = (group * 8 * block + first) * block;
                    ("ext", at..at + 1024)
                }));
            }
        }
        wanted.extend([64 << 10, 64 << 20, 256 << 30].map(|at| ("btrfs", at..at + 4096)));
        for groups in [4, 8, 16, 32] {
            let blocks = length / 4096;
            for size in [blocks / groups, blocks.div_ceil(groups)] {
                wanted.extend((0..groups).map(|group| {
                    let at = group * size * 4096;
                    ("xfs", at..at + 4 * 512)
                }));
            }
        }
        if length >= 4 * TIB {
            let size = TIB - 4096;
            wanted.extend((0..length / size).map(|n| ("large xfs", n * size..n * size + 2048)));
        }
        let md_090 = (length & !0xffff) - 0x1_0000;
        wanted.push(("md 0.90", md_090..md_090 + 4096));
        let md_1_0 = (length / 512 - 16) / 8 * 8 * 512;
        wanted.push(("md 1.0", md_1_0..md_1_0 + 4096));
        wanted.push(("md 1.2", 4096..8192));
        wanted.push(("LVM", 0..MIB));
        let labels_end = length - length % (256 << 10);
        wanted.push(("zfs", 0..512 << 10));
        wanted.push(("zfs", labels_end - (512 << 10)..labels_end));
        wanted.push(("swap", 0..64 << 10));
        wanted.push(("ntfs", length - 512..length));
        wanted.push(("f2fs", 1024..8192));
        wanted.push(("vfat", 0..13 * 512));
        wanted.push(("LUKS2", 0..(4 << 20) + 4096));
        let wanted = wanted.into_iter();
        let wanted = wanted.map(|(what, place)| (what, start + place.start..start + place.end));
        wanted.filter(|(_, place)| place.end <= end).collect()
    }

    fn disk_sizes() -> impl Strategy<Value = u64> {
        // As many of each magnitude, up to 16 TiB, in sectors of 512 bytes.
        (1_u32..=35, 0_u64..u64::MAX).prop_map(|(bits, any)| (any % (1 << bits) + 1) * 512)
    }

    proptest! {
        #[test]
        fn the_places_of_any_disk_are_in_order_and_few(disk in disk_sizes()) {
            let places = places(disk);
            prop_assert!(!places.is_empty());
            prop_assert!(places.iter().all(|place| place.start < place.end && place.end <= disk));
            prop_assert!(places.iter().all(|place| place.start % BLOCK == 0));
            prop_assert!(places.windows(2).all(|two| two[0].end < two[1].start));
            prop_assert!(places.len() <= MOST, "{}", places.len());
            let bytes: u64 = places.iter().map(|place| place.end - place.start).sum();
            prop_assert!(bytes <= MOST_BYTES, "{bytes}");
        }

        #[test]
        fn every_superblock_of_a_whole_disk_is_in_a_place(disk in disk_sizes()) {
            prop_assume!(disk >= MIB);
            let places = places(disk);
            prop_assert!(is_in(&places, 0..512) && is_in(&places, disk - 33 * 512..disk));
            for (what, place) in superblocks(0, disk) {
                prop_assert!(is_in(&places, place.clone()), "{what} {place:?}");
            }
        }

        /// It ends before a backup of the GPT, or where the disk does, or at the last whole MiB
        /// before either.
        #[test]
        fn every_superblock_of_a_first_partition_is_in_a_place(disk in disk_sizes()) {
            prop_assume!(disk >= 8 * MIB);
            let places = places(disk);
            let before_gpt = disk - 33 * 512;
            for end in [disk, before_gpt] {
                for end in [end, end / MIB * MIB] {
                    for (what, place) in superblocks(MIB, end) {
                        prop_assert!(is_in(&places, place.clone()), "{what} {place:?} {end}");
                    }
                }
            }
        }

        /// After some batches each of so many equal parts of the disk has one.
        #[test]
        fn samples_are_spread_evenly(disk in disk_sizes(), parts in 1_u64..500) {
            let count = (16 * parts).next_multiple_of(64);
            prop_assume!(disk / BLOCK >= 4 * count);
            let samples = samples::all(disk).take(count as usize);
            let mut hit = vec![false; parts as usize];
            for sample in samples {
                prop_assert!(sample.start < sample.end && sample.end <= disk);
                let part = u128::from(sample.start) * u128::from(parts) / u128::from(disk);
                hit[part as usize] = true;
            }
            prop_assert!(hit.iter().all(|hit| *hit));
        }

        #[test]
        fn all_blocks_are_sampled_in_the_end(blocks in 1_u64..3000, rest in 0..BLOCK) {
            let disk = blocks * BLOCK - rest;
            let mut offsets: Vec<u64> = samples::all(disk).map(|sample| sample.start).collect();
            offsets.sort_unstable();
            offsets.dedup();
            prop_assert_eq!(offsets, (0..blocks).map(|n| n * BLOCK).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_found_is_told_with_what_is_kept_there() {
        // Disk, byte, and what is said of it.
        let cases = [
            (20 * GIB, 0, "the first 8 MiB"),
            (20 * GIB, 20 * GIB - 512, "the last 10 MiB"),
            (20 * GIB, 64 * MIB, "btrfs"),
            (20 * GIB, 65 * MIB, "btrfs"),
            (20 * GIB, 3 * 128 * MIB, "ext2 to ext4"),
            (20 * GIB, MIB + 5 * 128 * MIB + 100, "ext2 to ext4"),
            (20 * GIB, 5 * GIB, "XFS"),
            (20 * GIB, 10 * GIB, "NTFS"),
            (20 * GIB, 142 * MIB, "f2fs"),
            (20 * GIB, 5 * MIB + 16 * KIB, "FAT32"),
            (200 * GIB, 100 * GIB, "BlueStore"),
            (200 * GIB, 129 * MIB, "RAID"),
        ];
        for (disk, at, what) in cases {
            let said = Found::Something { disk, at }.to_string();
            assert!(
                said.contains(&format!("byte {at} is not zero (a place of ")),
                "{said}"
            );
            assert!(said.contains(what), "{what} at {at}: {said}");
        }
        let nowhere = Found::Something {
            disk: 20 * GIB,
            at: 12_345_678_901,
        };
        assert_eq!(nowhere.to_string(), "byte 12345678901 is not zero");
    }

    #[test]
    fn any_byte_that_is_not_zero_is_found_in_a_piece() {
        for length in [1, 2, 511, 512, 4096] {
            let mut bytes = vec![0; length];
            assert_eq!(first_that_is_not_zero(&bytes), None);
            for at in [0, length / 2, length - 1] {
                bytes[at] = 1;
                assert_eq!(first_that_is_not_zero(&bytes), Some(at));
                bytes[at] = 0;
            }
            bytes.fill(7);
            assert_eq!(first_that_is_not_zero(&bytes), Some(0));
        }
        assert_eq!(first_that_is_not_zero(&[]), None);
    }

    #[test]
    fn a_place_is_read_in_pieces_without_a_gap() {
        let place = 4096..4096 + 2 * PIECE + 512;
        let all: Vec<Place> = pieces(place.clone()).collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].start, all[2].end), (place.start, place.end));
        assert!(all.windows(2).all(|two| two[0].end == two[1].start));
    }
}
