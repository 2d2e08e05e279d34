//! A good set of flavors for many requests: groups are joined until few are left, and then each
//! flavor is exchanged for better ones as long as there are any.

use super::cells::Cells;
use super::waste::{Amounts, Group, Weights, best, weighted};

/// How many evaluations of a group in a flavor are spent on exchanging.
const WORK: usize = 150_000_000;

/// Joins the two groups that lose least by it, until so many are left. Gives their flavors, and
/// those of an earlier stage, which may be better ones.
pub(super) fn join(
    groups: &[Group],
    most: usize,
    weights: &Weights,
) -> (Vec<Amounts>, Vec<Amounts>) {
    let mut groups: Vec<(Group, f64)> = groups
        .iter()
        .map(|group| (*group, waste(group, weights)))
        .collect();
    let mut nearest: Vec<(f64, usize)> = (0..groups.len())
        .map(|at| nearest_of(&groups, at, weights))
        .collect();
    let mut candidates = Vec::new();
    let flavors = |groups: &[(Group, f64)]| groups.iter().map(|(group, _)| group.flavor).collect();
    while groups.len() > most.max(1) {
        if groups.len() == (8 * most).min(160) {
            candidates = flavors(&groups);
        }
        let by_loss = |a: &usize, b: &usize| nearest[*a].0.total_cmp(&nearest[*b].0);
        let Some(one) = (0..groups.len()).min_by(by_loss) else {
            break;
        };
        let other = nearest[one].1;
        let both = groups[one].0.join(&groups[other].0);
        groups[one] = (both, waste(&both, weights));
        groups.swap_remove(other);
        nearest.swap_remove(other);
        // The last one has taken the place of the other.
        let last = groups.len();
        let one_now = if one == last { other } else { one };
        for at in 0..groups.len() {
            let to = nearest[at].1;
            if at == one_now || to == one || to == other {
                nearest[at] = nearest_of(&groups, at, weights);
                continue;
            }
            if to == last {
                nearest[at].1 = other;
            }
            let loss = loss(&groups[at], &groups[one_now], weights);
            if loss < nearest[at].0 {
                nearest[at] = (loss, one_now);
            }
        }
    }
    (flavors(&groups), candidates)
}

fn waste(group: &Group, weights: &Weights) -> f64 {
    weighted(&group.waste_of_each(&group.flavor), weights)
}

/// What is wasted more when two groups get one flavor.
fn loss(one: &(Group, f64), other: &(Group, f64), weights: &Weights) -> f64 {
    waste(&one.0.join(&other.0), weights) - one.1 - other.1
}

fn nearest_of(groups: &[(Group, f64)], of: usize, weights: &Weights) -> (f64, usize) {
    let mut nearest = (f64::INFINITY, of);
    for (at, other) in groups.iter().enumerate() {
        let loss = loss(&groups[of], other, weights);
        if at != of && loss < nearest.0 {
            nearest = (loss, at);
        }
    }
    nearest
}

/// Exchanges one flavor at a time for the best of some candidates and of those that differ from
/// it in one dimension.
pub(super) fn exchange(
    flavors: &mut Vec<Amounts>,
    candidates: &[Amounts],
    cells: &Cells,
    most: usize,
    weights: &Weights,
) {
    let groups = cells.groups();
    let steps: usize = cells.ranges.iter().map(Vec::len).sum();
    let per_pass = most * groups.len() * (candidates.len() + steps + most);
    for _ in 0..(WORK / per_pass.max(1)).clamp(2, 30) {
        shrink(flavors, &mut groups.iter().copied(), weights);
        // One that is there twice is given up for nothing.
        while flavors.len() < most && !flavors.is_empty() {
            flavors.push(flavors[0]);
        }
        let mut is_better = false;
        for at in 0..flavors.len() {
            is_better |= exchange_one(flavors, at, candidates, cells, &groups, weights);
        }
        if !is_better {
            break;
        }
    }
    shrink(flavors, &mut groups.iter().copied(), weights);
}

fn exchange_one(
    flavors: &mut [Amounts],
    at: usize,
    candidates: &[Amounts],
    cells: &Cells,
    groups: &[Group],
    weights: &Weights,
) -> bool {
    let old = flavors[at];
    // What each group would waste without it.
    let rest: Vec<f64> = groups
        .iter()
        .map(|group| {
            let others = flavors.iter().enumerate().filter(|(other, _)| *other != at);
            let wastes = others.map(|(_, flavor)| group.waste_in(flavor, weights));
            wastes.fold(f64::INFINITY, f64::min)
        })
        .collect();
    let mut least = waste_with(&old, &rest, groups, weights, f64::INFINITY);
    let limit = least * (1.0 - 1e-9);
    let mut better = None;
    let mut consider = |flavor: Amounts| {
        let waste = waste_with(&flavor, &rest, groups, weights, least.min(limit));
        if waste < least.min(limit) {
            least = waste;
            better = Some(flavor);
        }
    };
    candidates.iter().for_each(|flavor| consider(*flavor));
    for (part, ranges) in cells.ranges.iter().enumerate() {
        for range in ranges {
            let mut flavor = old;
            flavor[part] = range.to;
            consider(flavor);
        }
    }
    flavors[at] = better.unwrap_or(old);
    better.is_some()
}

/// What all waste when one flavor is added; given up where it is more than a limit.
fn waste_with(
    flavor: &Amounts,
    rest: &[f64],
    groups: &[Group],
    weights: &Weights,
    limit: f64,
) -> f64 {
    let mut sum = 0.0;
    for (group, rest) in groups.iter().zip(rest) {
        sum += group.waste_in(flavor, weights).min(*rest);
        if sum >= limit {
            return f64::INFINITY;
        }
    }
    sum
}

/// Gives each group its best flavor, and makes each flavor as small as its groups allow. Those
/// that nobody gets go.
pub(super) fn shrink(
    flavors: &mut Vec<Amounts>,
    groups: &mut dyn Iterator<Item = Group>,
    weights: &Weights,
) {
    let mut joined = vec![Group::EMPTY; flavors.len()];
    for group in groups {
        if let Some((at, _)) = best(&group, flavors, weights) {
            joined[at] = joined[at].join(&group);
        }
    }
    let used = joined.iter().filter(|group| group.count > 0.0);
    *flavors = used.map(|group| group.flavor).collect();
}
