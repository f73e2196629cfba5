//! Which attempt is worth a second one beside it. Pure.
//!
//! A machine that is slow, overheated or swapping holds up the whole season at its end, when the others have nothing left to
//! do. Speculative attempts as in MapReduce (Dean and Ghemawat 2004, section 3.6), chosen by the median as Spark does.

use remaster_domain::TaskKind;

/// Tasks that must have been committed before their median says anything.
const COMMITTED_MIN: usize = 5;
/// How many times the median an attempt may take.
const MEDIANS_MAX: i64 = 2;
/// Leases that an attempt must have lasted at least: what ends so soon is not worth doing twice.
const LEASES_MIN: i64 = 4;

/// How long an attempt must have run before it is looked at.
#[must_use]
pub const fn patience_ms(lease_ms: i64) -> i64 {
    LEASES_MIN * lease_ms
}

/// Whether a second attempt of a kind may run beside the first. A training run owns its checkpoints and its GPU for hours,
/// and of a publication nobody must see two.
#[must_use]
pub const fn may_run_twice(kind: TaskKind) -> bool {
    !matches!(kind, TaskKind::Train | TaskKind::Publish)
}

/// Whether an attempt takes far longer than others of its kind did.
#[must_use]
pub fn straggles(ran_ms: i64, others_ms: &[i64], lease_ms: i64) -> bool {
    let mut sorted = others_ms.to_vec();
    sorted.sort_unstable();
    let median_ms = sorted.get(sorted.len() / 2).copied().unwrap_or(i64::MAX);
    sorted.len() >= COMMITTED_MIN
        && ran_ms >= patience_ms(lease_ms)
        && ran_ms > median_ms.saturating_mul(MEDIANS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_slow_ones_among_the_others_do_not_hide_a_straggler() {
        let others_ms = [10_000, 11_000, 9_000, 900_000, 10_500];
        assert!(straggles(21_001, &others_ms, 1_000));
        assert!(!straggles(21_000, &others_ms, 1_000), "twice the median exactly");
    }

    #[test]
    fn nothing_straggles_before_enough_was_seen_or_within_a_few_leases() {
        assert!(!straggles(i64::MAX, &[10; 4], 1));
        assert!(!straggles(i64::MAX, &[], 1));
        assert!(!straggles(119_999, &[10; 5], 30_000));
        assert!(straggles(120_000, &[10; 5], 30_000));
    }
}
