//! The time at which a plan is made.

use crate::clock;
use crate::deadline::limit::When;
use crate::failure::Failure;

/// Unix seconds: those that were given, else the wall clock's.
///
/// # Errors
///
/// That this is no time.
pub(super) fn given(text: Option<&str>) -> Result<u64, Failure> {
    match text.map(When::from_instant) {
        None => Ok(clock::wall()),
        Some(When::At(at)) => Ok(at),
        Some(When::Unusable(reason)) => Err(Failure::Usage(reason)),
        Some(_) => Err(Failure::Usage("a time is wanted".into())),
    }
}
