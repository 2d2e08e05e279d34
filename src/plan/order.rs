//! The order of many things, by their places: the standard library's sort is made anew for each
//! type, and large.

use std::cmp::Ordering;

/// The places of so many things in their order. What is as good stays as it was.
pub(super) fn in_order(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|one, other| compare(*one, *other));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_that_of_a_stable_sort(values in prop::collection::vec(0..9_u8, 0..40)) {
            let mut expected: Vec<usize> = (0..values.len()).collect();
            expected.sort_by_key(|at| values[*at]);
            let order = in_order(values.len(), &|one, other| values[one].cmp(&values[other]));
            prop_assert_eq!(order, expected);
        }
    }
}
