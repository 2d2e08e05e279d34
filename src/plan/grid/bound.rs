//! How little any set of so many flavors can waste.
//!
//! Lagrangian relaxation of the p-median problem: each cell pays a price for being served, and
//! each flavor earns what its cells pay above what they waste in it. Whatever the prices, no
//! set of k flavors wastes less than all prices less the earnings of the k flavors that earn
//! most (Cornuéjols, Fisher, Nemhauser 1977). Prices are raised where a cell is served by none
//! of these, and lowered where it is served by several.
//!
//! Where a cell stands for many requests, the bound holds for each of these: none asks for more
//! than the most that is asked for in the cell, within its range nothing is wasted but what is
//! unavoidable, and a flavor of a higher range has no less than its least.

use super::cells::{Cells, Range, index};
use super::waste::{Amounts, Weights, best, waste_of_one};

/// How many pairs of a cell and a flavor are looked at.
const WORK: usize = 150_000_000;
const MOST_ROUNDS: usize = 300;

pub(super) struct Bound {
    pub(super) waste: f64,
    /// Flavors that earn most at the best prices.
    pub(super) candidates: Vec<Amounts>,
    /// What each cell pays then.
    pub(super) prices: Vec<f64>,
}

/// A bound below what at most so many flavors waste, given what some waste.
pub(super) fn bound(cells: &Cells, flavors: &[Amounts], most: usize, weights: &Weights) -> Bound {
    let costs = Costs::new(cells, weights, Of::EachAtLeast);
    let mut prices: Vec<f64> = cells
        .cells
        .iter()
        .map(|cell| best(&cell.group, flavors, weights).map_or(0.0, |(_, waste)| waste))
        .collect();
    let upper: f64 = prices.iter().sum();
    let mut found = Bound {
        waste: 0.0,
        candidates: Vec::new(),
        prices: prices.clone(),
    };
    let mut step = 1.5;
    let mut fruitless = 0;
    let mut work = 0;
    for _ in 0..MOST_ROUNDS {
        let earnings = costs.earnings(&prices, &mut work);
        let most_earning = largest(&earnings, 2 * most);
        let served = &most_earning[..most.min(most_earning.len())];
        let earned: f64 = served.iter().map(|at| earnings[*at]).sum();
        let waste = prices.iter().sum::<f64>() - earned;
        fruitless += 1;
        if waste > found.waste * (1.0 + 1e-7) {
            fruitless = 0;
            found.waste = waste;
            found.candidates = most_earning.iter().map(|at| costs.flavor(*at)).collect();
            found.prices.clone_from(&prices);
        }
        if fruitless == 8 {
            (step, fruitless) = (step / 2.0, 0);
        }
        let gap = upper - waste;
        if work > WORK || step < 0.005 || gap <= upper * 1e-9 {
            break;
        }
        let served: Vec<[usize; 3]> = served.iter().map(|at| costs.ranges(*at)).collect();
        let gradient: Vec<f64> = (0..prices.len())
            .map(|cell| {
                let is_by = |ranges: &&[usize; 3]| costs.of(cell, ranges) < prices[cell];
                1.0 - served.iter().filter(is_by).count() as f64
            })
            .collect();
        let squares = cells.cells.iter().zip(&gradient);
        let norm: f64 = squares.map(|(cell, by)| cell.group.count * by * by).sum();
        if norm == 0.0 {
            break;
        }
        for ((price, cell), by) in prices.iter_mut().zip(&cells.cells).zip(&gradient) {
            let change = step * gap / norm * cell.group.count * by;
            *price = (*price + change).max(0.0);
        }
    }
    // Floats are added up in some order.
    found.waste = (found.waste * (1.0 - 1e-12)).clamp(0.0, upper);
    found
}

/// What each cell wastes in a flavor of given ranges: a sum over the dimensions.
pub(super) struct Costs<'a> {
    cells: &'a Cells,
    /// For each cell and dimension: from which range on, and for each from there.
    of_each: Vec<[(usize, Vec<f64>); 3]>,
}

/// Where cells and ranges stand for one value each, both are the same.
#[derive(Clone, Copy)]
pub(super) enum Of {
    /// The least that the requests of a cell can waste in any flavor of a range.
    EachAtLeast,
    /// What they waste in the largest flavor of a range.
    AllInLargest,
}

impl Costs<'_> {
    pub(super) fn new<'a>(cells: &'a Cells, weights: &Weights, of: Of) -> Costs<'a> {
        let of_each = cells.cells.iter().map(|cell| {
            [0, 1, 2].map(|part| {
                let own = cell.ranges[part];
                let group = &cell.group;
                let waste = |(at, range): (usize, &Range)| match of {
                    Of::AllInLargest => waste_of_one(group.count, group.asked[part], range.to),
                    Of::EachAtLeast if at == 0 => group.unavoidable[part] * group.count,
                    Of::EachAtLeast => {
                        waste_of_one(1.0, group.most_asked[part] as f64, range.from) * group.count
                    }
                };
                let costs = cells.ranges[part][own..].iter().enumerate().map(waste);
                (own, costs.map(|cost| cost * weights[part]).collect())
            })
        });
        Costs {
            cells,
            of_each: of_each.collect(),
        }
    }

    /// What the flavors of each combination of ranges earn.
    pub(super) fn earnings(&self, prices: &[f64], work: &mut usize) -> Vec<f64> {
        let ranges = &self.cells.ranges;
        let mut earnings = vec![0.0; ranges.iter().map(Vec::len).product()];
        for ([(first, a), (second, b), (third, c)], price) in self.of_each.iter().zip(prices) {
            for (i, cost_a) in a.iter().enumerate() {
                let left = price - cost_a;
                if left <= b[0] + c[0] {
                    break;
                }
                for (j, cost_b) in b.iter().enumerate() {
                    let left = left - cost_b;
                    if left <= c[0] {
                        break;
                    }
                    let start = index(&[first + i, second + j, *third], ranges);
                    let row = &mut earnings[start..start + c.len()];
                    for (earned, cost_c) in row.iter_mut().zip(c) {
                        if left <= *cost_c {
                            break;
                        }
                        *earned += left - cost_c;
                        *work += 1;
                    }
                    *work += 1;
                }
            }
        }
        earnings
    }

    pub(super) fn ranges(&self, at: usize) -> [usize; 3] {
        let [_, second, third] = &self.cells.ranges;
        let (rest, c) = (at / third.len(), at % third.len());
        [rest / second.len(), rest % second.len(), c]
    }

    pub(super) fn flavor(&self, at: usize) -> Amounts {
        let at = self.ranges(at);
        [0, 1, 2].map(|part| self.cells.ranges[part][at[part]].to)
    }

    /// Infinite where there is no room.
    pub(super) fn of(&self, cell: usize, ranges: &[usize; 3]) -> f64 {
        let parts = self.of_each[cell].iter().zip(ranges);
        parts
            .map(|((from, costs), range)| {
                let at = range.checked_sub(*from);
                at.map_or(f64::INFINITY, |at| costs[at])
            })
            .sum()
    }
}

/// Where the largest of some numbers are, the largest first.
pub(super) fn largest(numbers: &[f64], most: usize) -> Vec<usize> {
    let mut largest: Vec<usize> = Vec::new();
    for (at, number) in numbers.iter().enumerate() {
        let is_full = largest.len() == most;
        if is_full && largest.last().is_none_or(|last| numbers[*last] >= *number) {
            continue;
        }
        largest.truncate(most - 1);
        let place = largest.partition_point(|other| numbers[*other] >= *number);
        largest.insert(place, at);
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::super::cells::{Cell, ranges_of};
    use super::super::tests::some_requests;
    use super::super::waste::{Group, has_room};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_a_cell_costs_is_not_above_what_any_of_its_requests_wastes(
            points in some_requests(12),
        ) {
            let weights = [0.2, 0.3, 0.5];
            let cells = Cells::new(&points, 3);
            let costs = Costs::new(&cells, &weights, Of::EachAtLeast);
            for point in &points {
                let group = Group::of(point);
                let own = ranges_of(&group.flavor, &cells.ranges);
                let is_its = |cell: &Cell| {
                    cell.ranges == own && has_room(&cell.group.most_asked, &point.asked)
                };
                let cell = cells.cells.iter().position(is_its).unwrap();
                let share = group.count / cells.cells[cell].group.count;
                for (one, other) in points.iter().flat_map(|one| points.iter().map(move |b| (one, b))) {
                    // What a flavor of a best set can be: the least with room for some of them.
                    let flavor = Group::of(one).join(&Group::of(other)).flavor;
                    if has_room(&flavor, &group.flavor) {
                        let cost = costs.of(cell, &ranges_of(&flavor, &cells.ranges)) * share;
                        prop_assert!(cost <= group.waste_in(&flavor, &weights) + 1e-9);
                    }
                }
            }
        }
    }
}
