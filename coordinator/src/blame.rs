//! Who is to blame when attempts fail or are lost: the worker or the work. Pure.
//!
//! Promises: a worker that fails or dies at whatever it gets is put to rest, and what it failed at twice is offered to others
//! first, so that it does not use up a task's tries alone; an input that kills whoever reads it puts nobody to rest, since it
//! kills others too, and takes no other task with it, since what was lost twice is worked on beside nothing else of the kind.
//! Left to others: the counts, which rows keep, and what a task's own tries come to (`state`).

use crate::state::ERRORS_MAX;

/// A failure within this says more of the worker than of the work.
pub const FAST_FAILURE_MS: i64 = 60_000;
/// So often a worker may fail at the same task or die of it, as long as another could take it. At most half of either budget.
pub const TRIES_OF_A_WORKER: u32 = 2;

/// For so long a task waits for a worker that has not failed at it; all others may be at work for hours.
const OTHERS_FIRST_MS: i64 = 15 * 60_000;
/// What was lost so often may have killed its workers. A reboot alone does not make a task suspect.
pub const SUSPECT_LOSSES: u32 = 2;
/// One more than a single task can cause before it is dead.
const FAILURES_IN_A_ROW: u32 = ERRORS_MAX + 1;
/// As so many counts an attempt that hung, each of which took half an hour and more. What a single task can cause at a worker, two
/// of them, puts nobody to rest either.
pub const HANG_FAILURES: i64 = 2;
/// The first rest; each further failure doubles it.
const REST_MIN_MS: i64 = 60_000;
/// The longest rest.
const REST_MAX_MS: i64 = 30 * 60_000;

/// Whether a task may have killed its workers. Of such, a session gets one at a time.
#[must_use]
pub fn is_suspect(losses: u32) -> bool {
    losses >= SUSPECT_LOSSES
}

/// Whether there may be workers who do not get a task that is ready for so long.
#[must_use]
pub fn may_be_barred(errors: u32, losses: u32, ready_for_ms: i64) -> bool {
    errors + losses >= TRIES_OF_A_WORKER && ready_for_ms < OTHERS_FIRST_MS
}

/// How long a worker rests after so many failures in a row.
#[must_use]
pub fn rest_ms(failures: u32) -> Option<i64> {
    let beyond = failures.checked_sub(FAILURES_IN_A_ROW)?;
    Some((REST_MIN_MS << beyond.min(20)).min(REST_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_bring_rest_and_more_bring_more() {
        assert_eq!(rest_ms(FAILURES_IN_A_ROW - 1), None);
        assert_eq!(rest_ms(FAILURES_IN_A_ROW), Some(REST_MIN_MS));
        assert_eq!(rest_ms(FAILURES_IN_A_ROW + 1), Some(2 * REST_MIN_MS));
        assert_eq!(rest_ms(u32::MAX), Some(REST_MAX_MS));
    }
}
