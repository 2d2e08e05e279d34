//! Bytes of a disk.

use std::ops::Range;

/// From this byte to before that.
pub type Place = Range<u64>;

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;

/// Disks and the page cache have blocks of this size.
pub(super) const BLOCK: u64 = 4 * KIB;

/// Places that are nearer to each other are read in one go.
const NEAR: u64 = 64 * KIB;

/// These places as far as they are on a disk of this size: in the order of their offsets, whole
/// blocks as far as there are, and none near another.
pub(super) fn merged(places: impl Iterator<Item = Place>, disk: u64) -> Vec<Place> {
    let blocks = places.map(|place| {
        let end = place.end.next_multiple_of(BLOCK).min(disk);
        place.start / BLOCK * BLOCK..end
    });
    let mut places: Vec<Place> = blocks.filter(|place| place.start < place.end).collect();
    places.sort_unstable_by_key(|place| place.start);
    let mut merged: Vec<Place> = Vec::new();
    for place in places {
        match merged.last_mut() {
            Some(last) if place.start <= last.end + NEAR => last.end = last.end.max(place.end),
            _ => merged.push(place),
        }
    }
    merged
}
