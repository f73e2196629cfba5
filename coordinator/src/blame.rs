//! Who is to blame when attempts fail or are lost: the worker or the work. Pure.
//!
//! Promises: a worker that fails or dies at whatever it gets is put to rest, and what it failed at twice is offered to others
//! first, so that it does not use up a task's tries alone; an input that kills whoever reads it puts nobody to rest, since it
//! kills others too, and takes no other task with it, since what was lost twice is worked on beside nothing else of the kind.
//! Left to others: the counts, which rows keep, and what a task's own tries come to (`state`).

use remaster_domain::WorkerId;

use crate::state::ERRORS_MAX;

/// A failure within this says more of the worker than of the work.
pub const FAST_FAILURE_MS: i64 = 60_000;
/// So often a worker may fail at the same task or die of it, as long as another could take it. Less than half of either budget.
pub const TRIES_OF_A_WORKER: u32 = 2;

/// For so long a task waits for a worker that has not failed at it; all others may be at work for hours.
const OTHERS_FIRST_MS: i64 = 15 * 60_000;
/// What was lost so often may have killed its workers. A reboot alone does not make a task suspect.
pub const SUSPECT_LOSSES: u32 = 2;
/// One more than a single task can cause before it is dead.
const FAILURES_IN_A_ROW: u32 = ERRORS_MAX + 1;
/// The first rest; each further failure doubles it.
const REST_MIN_MS: i64 = 60_000;
/// The longest rest.
const REST_MAX_MS: i64 = 30 * 60_000;

/// What the loss of a lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blame {
    /// Nobody else has died of the task: it counts against the worker.
    Worker,
    /// Others have died of it.
    Work {
        /// Who was blamed for it alone until now, and for how many lives.
        acquitted: Option<(WorkerId, u32)>,
    },
}

/// Judges a loss by who has lost the task so far, this loss included, each with how many of its lives.
#[must_use]
pub fn blame(losers: &[(WorkerId, u32)], lost_by: &WorkerId) -> Blame {
    let own = losers.iter().find(|(worker, _)| worker == lost_by);
    let mut others = losers.iter().filter(|(worker, _)| worker != lost_by);
    match (others.next(), others.next()) {
        (None, _) => Blame::Worker,
        (Some(first), None) if own.is_none_or(|(_, lives)| *lives == 1) => Blame::Work {
            acquitted: Some(first.clone()),
        },
        _ => Blame::Work { acquitted: None },
    }
}

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
    use uuid::Uuid;

    use super::*;

    fn worker(number: u128) -> WorkerId {
        WorkerId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn only_failures_in_a_row_bring_rest_and_more_bring_more() {
        assert_eq!(rest_ms(FAILURES_IN_A_ROW - 1), None);
        assert_eq!(rest_ms(FAILURES_IN_A_ROW), Some(REST_MIN_MS));
        assert_eq!(rest_ms(FAILURES_IN_A_ROW + 1), Some(2 * REST_MIN_MS));
        assert_eq!(rest_ms(u32::MAX), Some(REST_MAX_MS));
    }

    #[test]
    fn a_loss_is_the_workers_until_another_worker_loses_the_same_and_each_is_acquitted_once() {
        let (one, two, three) = (worker(1), worker(2), worker(3));
        let of = |lives: &[(u128, u32)]| {
            let losers: Vec<_> = lives
                .iter()
                .map(|(number, lives)| (worker(*number), *lives))
                .collect();
            move |by: &WorkerId| blame(&losers, by)
        };
        let work = |acquitted| Blame::Work { acquitted };
        assert_eq!(of(&[(1, 1)])(&one), Blame::Worker);
        assert_eq!(of(&[(1, 3)])(&one), Blame::Worker);
        assert_eq!(of(&[(1, 3), (2, 1)])(&two), work(Some((one.clone(), 3))));
        assert_eq!(of(&[(1, 3), (2, 2)])(&two), work(None), "not twice");
        assert_eq!(of(&[(1, 4), (2, 1)])(&one), work(None), "two was never blamed");
        assert_eq!(of(&[(1, 3), (2, 1), (3, 1)])(&three), work(None));
    }
}
