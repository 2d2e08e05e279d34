//! Better sets of flavors: those that a bound does not rule out are tried.
//!
//! The prices of `bound` say of each flavor how much it can earn, whatever else is in the set.
//! With the flavors in the order of their earnings, most sets need not be looked at.

use super::bound::{Costs, Of, largest};
use super::cells::{Cells, index, ranges_of};
use super::search::shrink;
use super::waste::{Amounts, Weights, best};

/// How many pairs of a cell and a flavor are looked at for exchanging one or two flavors of a
/// set, and as many for trying all sets.
pub(super) const WORK: usize = 40_000_000;
/// A set that is better by less is not.
const ROUNDING: f64 = 1e-10;

pub(super) struct Found {
    pub(super) flavors: Vec<Amounts>,
    /// What the cells waste in them.
    pub(super) waste: f64,
    /// Whether there is no better set for these cells.
    pub(super) are_all_tried: bool,
}

/// From some flavors, from those that earn most, and from those that are added one by one:
/// exchanges one and two until nothing gets better, and then tries all sets.
pub(super) fn improve(
    flavors: &[Amounts],
    prices: &[f64],
    cells: &Cells,
    most: usize,
    weights: &Weights,
    work: usize,
) -> Found {
    let costs = Costs::new(cells, weights, Of::AllInLargest);
    let place = |flavor: &Amounts| index(&ranges_of(flavor, &cells.ranges), &cells.ranges);
    let mut search = Search {
        costs: &costs,
        cells,
        prices,
        set: flavors.iter().map(place).collect(),
        waste: f64::INFINITY,
        work: 0,
    };
    let earning = largest(&costs.earnings(prices, &mut 0), most);
    let starts = [search.set.clone(), earning, search.one_by_one(most)];
    let mut found: Option<(f64, Vec<usize>)> = None;
    for (mut start, limit) in starts.into_iter().zip(1..) {
        // One that is there twice is given up for nothing.
        start.resize(most, start[0]);
        search.waste = search.rest(&start).iter().sum();
        search.set = start;
        search.exchange(1, limit * work / 6);
        if found
            .as_ref()
            .is_none_or(|(waste, _)| search.waste < *waste)
        {
            found = Some((search.waste, search.set.clone()));
        }
    }
    (search.waste, search.set) = found.unwrap_or_default();
    search.exchange(2, work);
    let limit = search.work + work;
    let are_all_tried = search.complete(&[], most, limit);
    let groups = cells.groups();
    let waste = |flavors: &[Amounts]| -> f64 {
        let wastes = groups
            .iter()
            .filter_map(|group| best(group, flavors, weights));
        wastes.map(|(_, waste)| waste).sum()
    };
    let mut others = search.set.iter().map(|at| costs.flavor(*at)).collect();
    shrink(&mut others, &mut groups.iter().copied(), weights);
    let is_better = !others.is_empty() && waste(&others) < waste(flavors);
    Found {
        flavors: if is_better { others } else { flavors.to_vec() },
        waste: search.waste * (1.0 - ROUNDING),
        are_all_tried,
    }
}

/// Flavors are named by their index among the combinations of all ranges.
struct Search<'a> {
    costs: &'a Costs<'a>,
    cells: &'a Cells,
    prices: &'a [f64],
    /// The best set so far, and what it wastes.
    set: Vec<usize>,
    waste: f64,
    work: usize,
}

impl Search<'_> {
    /// What each cell wastes; infinite where no flavor has room.
    fn rest(&self, set: &[usize]) -> Vec<f64> {
        let mut rest = vec![f64::INFINITY; self.prices.len()];
        set.iter().for_each(|at| self.add(&mut rest, *at));
        rest
    }

    fn add(&self, rest: &mut [f64], flavor: usize) {
        let ranges = self.costs.ranges(flavor);
        for (cell, rest) in rest.iter_mut().enumerate() {
            *rest = rest.min(self.costs.of(cell, &ranges));
        }
    }

    /// What cells would pay for one more flavor: no cell wastes more than all of itself.
    fn prices_of_one(&self, rest: &[f64]) -> Vec<f64> {
        let counts = self.cells.cells.iter().map(|cell| cell.group.count);
        rest.iter()
            .zip(counts)
            .map(|(rest, count)| rest.min(count))
            .collect()
    }

    fn one_by_one(&mut self, most: usize) -> Vec<usize> {
        let mut set = Vec::new();
        for _ in 0..most {
            let prices = self.prices_of_one(&self.rest(&set));
            set.extend(largest(&self.costs.earnings(&prices, &mut self.work), 1));
        }
        set
    }

    /// Exchanges up to so many flavors at a time for any others, until nothing gets better.
    fn exchange(&mut self, most_at_once: usize, limit: usize) {
        let mut at_once = 1;
        while at_once <= most_at_once.min(self.set.len()) {
            let before = self.waste;
            for one in 0..self.set.len() {
                let others = if at_once == 1 { one..one + 1 } else { 0..one };
                for other in others {
                    let mut kept = self.set.clone();
                    kept.remove(one);
                    if other != one {
                        kept.remove(other);
                    }
                    if !self.complete(&kept, at_once, limit) {
                        return;
                    }
                }
            }
            at_once = if self.waste < before { 1 } else { at_once + 1 };
        }
    }

    /// Tries all sets of some flavors and at most so many others. False: not all, for the limit.
    fn complete(&mut self, kept: &[usize], left: usize, limit: usize) -> bool {
        let rest = self.rest(kept);
        let mut prices = self.prices_of_one(&rest);
        if left > 1 {
            let paid = prices.iter_mut().zip(self.prices);
            paid.for_each(|(price, most)| *price = price.min(*most));
        }
        let earnings = self.costs.earnings(&prices, &mut self.work);
        self.work += earnings.len() + (kept.len() + 1) * rest.len();
        // Beside any of them, the others earn no more than those that earn most.
        let others: f64 = largest(&earnings, left)
            .iter()
            .take(left - 1)
            .map(|at| earnings[*at])
            .sum();
        let needed = prices.iter().sum::<f64>() - self.limit() - others;
        let mut order: Vec<(f64, usize)> = earnings.into_iter().zip(0..).collect();
        order.retain(|(earned, _)| *earned > needed);
        order.sort_unstable_by(|(a, _), (b, _)| b.total_cmp(a));
        self.extend(&mut kept.to_vec(), &rest, &order, left, (&prices, limit))
    }

    /// What a better set wastes less than.
    fn limit(&self) -> f64 {
        self.waste * (1.0 - ROUNDING)
    }

    fn extend(
        &mut self,
        set: &mut Vec<usize>,
        rest: &[f64],
        order: &[(f64, usize)],
        left: usize,
        (prices, limit): (&[f64], usize),
    ) -> bool {
        // What the cells pay at most, less what is earned at most.
        let paid: f64 = rest
            .iter()
            .zip(prices)
            .map(|(rest, price)| rest.min(*price))
            .sum();
        for (at, (_, flavor)) in order.iter().enumerate() {
            let next = order[at..].iter().take(left);
            if paid - next.map(|(earned, _)| earned).sum::<f64>() >= self.limit() {
                break;
            }
            self.work += rest.len() + left;
            if self.work > limit {
                return false;
            }
            let mut with = rest.to_vec();
            self.add(&mut with, *flavor);
            set.push(*flavor);
            let waste: f64 = with.iter().sum();
            if waste < self.limit() {
                self.waste = waste;
                self.set.clone_from(set);
                self.set.resize(set.len() + left - 1, *flavor);
            }
            let rest_of_order = &order[at + 1..];
            let are_all_tried =
                left == 1 || self.extend(set, &with, rest_of_order, left - 1, (prices, limit));
            set.pop();
            if !are_all_tried {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{round_requests, some_of_all_cases, waste_of, waste_of_each};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(some_of_all_cases(6)))]

        #[test]
        fn after_exchanging_no_two_others_are_better(points in round_requests()) {
            let weights = [0.5, 0.3, 0.2];
            let cells = Cells::new(&points, 100);
            let costs = Costs::new(&cells, &weights, Of::AllInLargest);
            let count = cells.ranges.iter().map(Vec::len).product::<usize>();
            let prices = vec![1.0; points.len()];
            let mut search = Search {
                costs: &costs,
                cells: &cells,
                prices: &prices,
                set: vec![count - 1; 3],
                waste: f64::INFINITY,
                work: 0,
            };
            search.exchange(2, usize::MAX);
            let flavors: Vec<Amounts> = search.set.iter().map(|at| costs.flavor(*at)).collect();
            let waste = waste_of(&flavors, &points, &weights);
            let all: u64 = points.iter().map(|point| point.count).sum();
            prop_assert!((waste - search.waste / all as f64).abs() < 1e-9);
            let wastes_in = |flavor: &Amounts| {
                let of = |point| waste_of_each(point, flavor, &weights);
                points.iter().map(of).collect::<Vec<f64>>()
            };
            let kept: Vec<Vec<f64>> = flavors.iter().map(wastes_in).collect();
            let wastes: Vec<Vec<f64>> =
                (0..count).map(|at| wastes_in(&costs.flavor(at))).collect();
            for (place, one) in wastes.iter().enumerate() {
                for other in &wastes[..=place] {
                    for kept in &kept {
                        let mut least = 0.0;
                        for at in 0..points.len() {
                            least += kept[at].min(one[at]).min(other[at]);
                        }
                        prop_assert!(least / all as f64 > waste - 1e-9);
                    }
                }
            }
        }

        #[test]
        fn where_not_all_sets_can_be_tried_it_says_so(points in round_requests()) {
            let weights = [0.5, 0.3, 0.2];
            let cells = Cells::new(&points, 100);
            let costs = Costs::new(&cells, &weights, Of::AllInLargest);
            let mut search = Search {
                costs: &costs,
                cells: &cells,
                prices: &vec![0.0; points.len()],
                set: Vec::new(),
                waste: f64::INFINITY,
                work: 0,
            };
            prop_assert!(!search.complete(&[], 3, points.len()));
        }
    }
}
