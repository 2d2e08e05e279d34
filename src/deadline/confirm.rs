//! What two answers say together of one limit. Pure.

use super::limit::When;

/// A limit that moves towards now by more than this, in seconds, is asked for again soon.
const LONG_MOVE: u64 = 3600;

/// What two answers confirm together. Where nothing was believed before, two that are far apart
/// confirm nothing: one of them is wrong.
pub(super) fn confirmed(old: Option<&When>, first: &When, second: &When) -> Option<When> {
    if first == second {
        return Some(second.clone());
    }
    let late = later(first, second)?;
    let early = if late == *first { second } else { first };
    match old {
        Some(old) if is_earlier(old, early) => Some(early.clone()),
        Some(old) if is_earlier(old, &late) => Some(old.clone()),
        None if is_far(&late, early) => None,
        _ => Some(late),
    }
}

/// Comparable where both are of one kind.
fn seconds(one: &When, other: &When) -> Option<(u64, u64)> {
    match (one, other) {
        (When::At(one), When::At(other)) => Some((*one, *other)),
        (When::AfterFirstBoot(one), When::AfterFirstBoot(other)) => {
            Some((one.as_secs(), other.as_secs()))
        }
        _ => None,
    }
}

pub(super) fn is_earlier(one: &When, other: &When) -> bool {
    seconds(one, other).is_some_and(|(one, other)| one < other)
}

fn later(one: &When, other: &When) -> Option<When> {
    let (first, second) = seconds(one, other)?;
    Some(if first > second { one } else { other }.clone())
}

pub(super) fn is_far(believed: &When, new: &When) -> bool {
    seconds(believed, new).is_none_or(|(old, new)| new.saturating_add(LONG_MOVE) < old)
}
