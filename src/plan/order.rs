//! The order of many things. The standard library's sort is made anew for each type, and large.

/// By merging, the places of so many things in their order. What is as good stays as it was.
pub(super) fn in_order(count: usize, is_before: &dyn Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut merged = Vec::with_capacity(count);
    let mut width = 1;
    while width < count {
        for pair in order.chunks(2 * width) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            while let ([first, rest @ ..], [other, others @ ..]) = (left, right) {
                if is_before(*other, *first) {
                    merged.push(*other);
                    right = others;
                } else {
                    merged.push(*first);
                    left = rest;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        std::mem::swap(&mut order, &mut merged);
        merged.clear();
        width *= 2;
    }
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
            let order = in_order(values.len(), &|one, other| values[one] < values[other]);
            prop_assert_eq!(order, expected);
        }
    }
}
