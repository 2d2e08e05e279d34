//! Samples of a disk: which blocks, and in which order.

use super::place::{BLOCK, Place};

/// So many are read in the order of their offsets, which suits disks that turn.
const BATCH: u64 = 64;

/// All blocks of a disk, in an order in which the first ones are spread evenly over it, however
/// many they are: by the bits of their numbers in reverse (van der Corput's sequence), batch by
/// batch. Turned by a part of the disk that has no simple ratio to it: what lies at multiples of
/// powers of two is mostly the same.
pub(super) fn all(disk: u64) -> impl Iterator<Item = Place> {
    let blocks = disk.div_ceil(BLOCK);
    let bits = blocks.next_power_of_two().trailing_zeros();
    let steps = 1_u64 << bits;
    let turn = (steps as f64 * 0.618_034) as u64;
    let block = move |number: u64| {
        let reversed = number.reverse_bits().checked_shr(u64::BITS - bits);
        let turned = (reversed.unwrap_or(0) + turn) % steps;
        ((u128::from(turned) * u128::from(blocks)) >> bits) as u64
    };
    (0..steps).step_by(BATCH as usize).flat_map(move |first| {
        let mut batch: Vec<u64> = (first..steps.min(first + BATCH)).map(block).collect();
        batch.sort_unstable();
        batch.dedup();
        batch
            .into_iter()
            .map(move |block| block * BLOCK..disk.min((block + 1) * BLOCK))
    })
}
