//! The best set of flavors for few requests: all ways to put them into groups.

use super::waste::{Amounts, Group, Weights, weighted};

/// 3^12 steps for each flavor.
pub(super) const MOST_GROUPS: usize = 12;

/// The best flavors for at most [`MOST_GROUPS`] groups. The smallest flavors of the best
/// partition are the best flavors: each request's best flavor makes a partition.
pub(super) fn best_flavors(groups: &[Group], most: usize, weights: &Weights) -> Vec<Amounts> {
    let sets = 1 << groups.len();
    // Of each set of groups, as one.
    let mut joined = vec![Group::EMPTY; sets];
    for set in 1..sets {
        let first = set.trailing_zeros() as usize;
        joined[set] = joined[set & (set - 1)].join(&groups[first]);
    }
    let waste: Vec<f64> = joined
        .iter()
        .map(|group| weighted(&group.waste_of_each(&group.flavor), weights))
        .collect();
    // For each number of flavors: the least waste of each set, and the part of it that gets the
    // first flavor.
    let mut least = waste.clone();
    let mut parts: Vec<Vec<usize>> = vec![(0..sets).collect()];
    for _ in 1..most.min(groups.len()) {
        let mut next = least.clone();
        let mut part_of = vec![0; sets];
        for set in 1..sets {
            let first = set & set.wrapping_neg();
            let mut part = set;
            while part > 0 {
                let both = waste[part] + least[set & !part];
                if part & first > 0 && both < next[set] {
                    (next[set], part_of[set]) = (both, part);
                }
                part = (part - 1) & set;
            }
        }
        least = next;
        parts.push(part_of);
    }
    let mut flavors = Vec::new();
    let mut rest = sets - 1;
    for part_of in parts.iter().rev() {
        // 0: one flavor less does as well.
        let part = part_of[rest];
        if part > 0 {
            flavors.push(joined[part].flavor);
            rest &= !part;
        }
    }
    flavors
}
