//! The time at which a plan is made.

use crate::clock;
use crate::deadline::limit;
use crate::failure::Failure;

/// Unix seconds: those that were given, else the wall clock's.
///
/// # Errors
///
/// That this is no time.
pub(super) fn given(text: Option<&str>) -> Result<u64, Failure> {
    text.map_or_else(|| Ok(clock::wall()), limit::instant)
        .map_err(Failure::Usage)
}
