//! Things in their order. The standard library's sort is made anew for each type, and large:
//! here it sorts their places.

use std::cmp::Ordering;
use std::mem;

/// The places of so many things in their order. What is as good stays as it was.
pub(crate) fn in_order(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|one, other| compare(*one, *other));
    order
}

/// Sorts them. What is as good stays as it was.
pub(crate) fn sort_by<T>(things: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let order = in_order(things.len(), &|one, other| {
        compare(&things[one], &things[other])
    });
    let mut unsorted: Vec<Option<T>> = mem::take(things).into_iter().map(Some).collect();
    let sorted = order.into_iter().filter_map(|at| unsorted[at].take());
    things.extend(sorted);
}

/// Likewise, by what each of them is worth.
pub(crate) fn sort_by_key<T, K: Ord>(things: &mut Vec<T>, key: impl Fn(&T) -> K) {
    sort_by(things, |one, other| key(one).cmp(&key(other)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_that_of_a_stable_sort(values in prop::collection::vec(0..9_u8, 0..40)) {
            let things: Vec<(u8, usize)> = values.into_iter().zip(0..).collect();
            let mut expected = things.clone();
            expected.sort_by_key(|thing| thing.0);
            let mut sorted = things;
            sort_by_key(&mut sorted, |thing| thing.0);
            prop_assert_eq!(sorted, expected);
        }
    }
}
