//! How long work lay idle after a fault, from the attempts that the coordinators wrote down.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::rows::AttemptRow;

/// Times of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// From what to what.
    pub what: String,
    /// Every time in milliseconds, sorted.
    pub times_ms: Vec<i64>,
    /// What 99 of a hundred must stay within.
    pub limit_ms: i64,
    /// How many times there must be: fewer prove nothing.
    pub least: usize,
}

impl Recovery {
    /// Times of one kind, in any order.
    pub(super) fn new(what: &str, mut times_ms: Vec<i64>, limit_ms: i64, least: usize) -> Self {
        times_ms.sort_unstable();
        let what = what.to_owned();
        Self {
            what,
            times_ms,
            limit_ms,
            least,
        }
    }

    /// The time that so many percent stay within; 0 when there are none.
    #[must_use]
    pub fn percentile_ms(&self, percent: usize) -> i64 {
        let rank = (self.times_ms.len() * percent).div_ceil(100).max(1);
        self.times_ms.get(rank - 1).copied().unwrap_or(0)
    }

    /// Whether there are times enough, and 99 of a hundred stay within the limit.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.times_ms.len() >= self.least.max(1) && self.percentile_ms(99) <= self.limit_ms
    }

    /// A line of the report.
    pub(super) fn row(&self, group: &str) -> String {
        let [p50, p99, worst] = [50, 99, 100].map(|percent| self.percentile_ms(percent));
        let (what, count, limit, least) = (&self.what, self.times_ms.len(), self.limit_ms, self.least);
        format!(
            "| {what} ({group}) | {p50} ms | {p99} ms | {worst} ms | {count} | p99 <= {limit} ms of at least {least} |"
        )
    }
}

/// What each worker that was struck at a time held then; one that held nothing is left out.
pub(super) fn held<'a>(attempts: &'a [AttemptRow], struck: &[(String, i64)]) -> Vec<(&'a AttemptRow, i64)> {
    let holds = |attempt: &AttemptRow, worker: &str, at_ms| {
        attempt.worker == worker
            && attempt.leased_ms <= at_ms
            && (attempt.ended_ms >= at_ms || attempt.ended_ms == 0)
    };
    let of = |(worker, at_ms): &(String, i64)| {
        let held = attempts.iter().find(|attempt| holds(attempt, worker, *at_ms));
        held.map(|held| (held, *at_ms))
    };
    struck.iter().filter_map(of).collect()
}

/// For each worker that was struck at a time: how long after it the task that it held was leased again. `outcome` is how the
/// struck attempt must have ended; a worker that held nothing, or whose task was committed after all, gives no time.
pub(super) fn leased_again(attempts: &[AttemptRow], struck: &[(String, i64)], outcome: &str) -> Vec<i64> {
    let by_lease: HashMap<(&str, i64), &AttemptRow> = attempts
        .iter()
        .map(|attempt| ((attempt.task.as_str(), attempt.token), attempt))
        .collect();
    let taken_away = held(attempts, struck)
        .into_iter()
        .filter(|(held, _)| held.outcome == outcome);
    let times_ms = taken_away.filter_map(|(held, at_ms)| {
        let next = by_lease.get(&(held.task.as_str(), held.token + 1))?;
        Some(next.leased_ms - at_ms)
    });
    times_ms.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(token: i64, worker: &str, leased_ms: i64, ended_ms: i64, outcome: &str) -> AttemptRow {
        AttemptRow {
            task: "t".to_owned(),
            token,
            worker: worker.to_owned(),
            leased_ms,
            ended_ms,
            outcome: outcome.to_owned(),
            message: String::new(),
        }
    }

    #[test]
    fn the_time_runs_from_the_fault_to_the_next_lease_of_the_same_task() {
        let attempts = [
            attempt(1, "a", 100, 3_300, "lost"),
            attempt(2, "b", 3_400, 3_500, "committed"),
        ];
        let struck = [("a".to_owned(), 300), ("b".to_owned(), 3_450)];
        assert_eq!(leased_again(&attempts, &struck, "lost"), [3_100]);
    }

    #[test]
    fn who_held_nothing_when_it_was_struck_is_not_counted() {
        let attempts = [
            attempt(1, "a", 100, 200, "committed"),
            attempt(2, "a", 300, 0, ""),
        ];
        let struck = |at_ms| held(&attempts, &[("a".to_owned(), at_ms)]).len();
        assert_eq!([50, 150, 250, 350].map(struck), [0, 1, 0, 1]);
    }

    #[test]
    fn the_99th_of_a_hundred_is_not_the_worst() {
        let times = Recovery::new("x", (1..=200).collect(), 198, 200);
        assert_eq!((times.percentile_ms(50), times.percentile_ms(99)), (100, 198));
        assert!(times.is_met());
        assert!(!Recovery::new("x", vec![], 1, 0).is_met(), "no time is no proof");
        assert!(
            !Recovery::new("x", vec![1; 9], 1, 10).is_met(),
            "too few are none either"
        );
    }
}
