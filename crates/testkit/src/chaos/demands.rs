//! What the faults of a group must have shown, besides harming nothing, before its pass says anything: that those who were
//! struck were at work, that the late were turned away, that the store's errors reached an attempt. Pure.

use remaster_proto::PROTOCOL_VERSION;

use super::checker::{Evidence, Findings};
use super::faults::Fired;
use super::fleet::LEASE;
use super::groups::Group;
use super::history::Saw;
use super::recovery::held;
use super::rows::AttemptRow;
use super::season::{POISON_EPISODES, Poison, season_word};
use super::version::VERSION_BEFORE;
use crate::StoreFault;
use crate::store_faults::Resent;

/// Of a hundred workers that are cut off, so many must have held a lease then. Those that are frozen are seen to.
const HELD_PERCENT: usize = 50;
/// Of a hundred zombies, so many must have been turned away with what they handed in: where nobody was free to take a task
/// meanwhile, a late result counts.
const FENCED_PERCENT: usize = 75;
/// Of a hundred workers that are cut off, so many must have lost a lease by it.
const PARTED_PERCENT: usize = 25;
/// Of a hundred requests whose answer was lost or cut short, so many must have come again.
const RESENT_PERCENT: usize = 50;

/// A task whose workers die is dead after so many leases; one whose input is bad, after the first.
const LOSSES_MAX: usize = 8;

/// Something that must have been seen so many times.
struct Demand {
    what: &'static str,
    seen: usize,
    least: usize,
}

/// What was demanded and not seen, in lines.
pub(super) fn shortfalls(
    group: Group,
    fired: &Fired,
    evidence: &Evidence,
    findings: &Findings,
) -> Vec<String> {
    let demands = demands(group, fired, evidence, findings);
    let short = demands.into_iter().filter(|demand| demand.seen < demand.least);
    let mut lines: Vec<_> = short
        .map(|Demand { what, seen, least }| format!("{what}: {seen} times, at least {least} are demanded"))
        .collect();
    lines.extend(overspent(evidence));
    let wrongly = evidence.led_before.wrongly;
    if wrongly > 0 {
        lines.push(format!(
            "coordinators of the version before took in {wrongly} commits of jobs that they do not understand"
        ));
    }
    lines
}

/// Dead tasks that were tried more often than their budget allows.
fn overspent(evidence: &Evidence) -> Vec<String> {
    let mut lines = vec![];
    for task in evidence.tasks.iter().filter(|task| task.state == "dead") {
        let is_corrupt = task.season.starts_with(&season_word(Poison::Corrupt));
        let budget = if is_corrupt { 1 } else { LOSSES_MAX };
        let attempts = evidence.attempts.iter();
        let tried = attempts.filter(|attempt| attempt.task == task.id).count();
        if tried > budget {
            let (season, name) = (&task.season, &task.name);
            lines.push(format!(
                "{season}/{name} was tried {tried} times, its budget is {budget}"
            ));
        }
    }
    lines
}

fn demands(group: Group, fired: &Fired, evidence: &Evidence, findings: &Findings) -> Vec<Demand> {
    let part = |percent: usize| (fired.count * percent).div_ceil(100);
    let demand = |what, seen, least| Demand { what, seen, least };
    let held = held(&evidence.attempts, &fired.struck);
    let at_work = |percent| demand("a worker that was struck held a lease", held.len(), part(percent));
    let attempts = |is_meant: fn(&AttemptRow) -> bool| {
        let attempts = evidence.attempts.iter();
        attempts.filter(|attempt| is_meant(attempt)).count()
    };
    let Resent { found, missing } = evidence.resent;
    // All that came again, and that many did.
    let came_again = |what| demand(what, found, part(RESENT_PERCENT).max(found + missing));
    match group {
        Group::Zombie => vec![
            at_work(100),
            demand(
                "a late hand-in was refused for its stale token",
                findings.fenced,
                part(FENCED_PERCENT),
            ),
        ],
        Group::Unfenced => vec![at_work(100)],
        Group::RollingUpgrade => {
            let by_workers = [VERSION_BEFORE, PROTOCOL_VERSION].map(|version| {
                demand(
                    "a worker of one of the two versions committed",
                    committed_by(evidence, version),
                    fired.count,
                )
            });
            let by_coordinators = demand(
                "a coordinator of the version before took a commit in",
                evidence.led_before.rightly,
                fired.count,
            );
            by_workers.into_iter().chain([by_coordinators]).collect()
        }
        Group::Partition => {
            let lost = held.iter().filter(|(attempt, _)| attempt.outcome == "lost");
            let parted = demand("a lease was lost by it", lost.count(), part(PARTED_PERCENT));
            vec![at_work(HELD_PERCENT), parted]
        }
        Group::Store(StoreFault::Unavailable | StoreFault::Full) => vec![demand(
            "an attempt failed with the store's own words",
            attempts(names_store),
            1,
        )],
        Group::Store(StoreFault::Slow) => vec![demand(
            "an attempt outlived its first lease and was committed",
            attempts(outlived_lease),
            1,
        )],
        Group::Store(StoreFault::LostReply) => {
            vec![came_again("a request came again whose object was there already")]
        }
        Group::Store(StoreFault::Truncated) => {
            vec![came_again("the rest was asked for of an answer cut short")]
        }
        Group::Poison => vec![demand(
            "a process died of having no more memory",
            fired.out_of_memory,
            POISON_EPISODES as usize,
        )],
        _ => vec![],
    }
}

fn committed_by(evidence: &Evidence, version: u32) -> usize {
    let facts = evidence.facts.iter();
    facts
        .filter(|fact| fact.saw == Saw::Acknowledged && fact.version == version)
        .count()
}

/// What the store answered is in what the user is told.
fn names_store(attempt: &AttemptRow) -> bool {
    let words = ["503 Service Unavailable", "507 Insufficient Storage"];
    attempt.outcome == "failed" && words.iter().any(|word| attempt.message.contains(word))
}

/// Only heartbeats let it.
fn outlived_lease(attempt: &AttemptRow) -> bool {
    let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
    attempt.outcome == "committed" && attempt.ended_ms - attempt.leased_ms > lease_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::history::Fact;
    use crate::chaos::led::LedBefore;
    use crate::chaos::rows::TaskRow;

    fn attempt(worker: &str, ended_ms: i64, outcome: &str, message: &str) -> AttemptRow {
        AttemptRow {
            task: "t".to_owned(),
            token: 1,
            worker: worker.to_owned(),
            leased_ms: 1_000,
            ended_ms,
            outcome: outcome.to_owned(),
            message: message.to_owned(),
        }
    }

    /// How many demands are not met after these attempts, two workers having been struck.
    fn short(group: Group, fenced: usize, attempts: Vec<AttemptRow>) -> usize {
        let fired = Fired {
            count: 2,
            struck: ["a", "b"].map(|worker| (worker.to_owned(), 1_500)).into(),
            ..Fired::default()
        };
        let evidence = Evidence {
            attempts,
            ..Evidence::default()
        };
        let findings = Findings {
            fenced,
            ..Findings::default()
        };
        shortfalls(group, &fired, &evidence, &findings).len()
    }

    #[test]
    fn zombies_that_held_nothing_or_were_never_refused_prove_nothing() {
        let both = ["a", "b"]
            .map(|worker| attempt(worker, 4_000, "lost", ""))
            .to_vec();
        let one = || both[..1].to_vec();
        assert_eq!(short(Group::Zombie, 2, both.clone()), 0);
        assert_eq!(short(Group::Zombie, 1, both.clone()), 1);
        assert_eq!(short(Group::Zombie, 2, one()), 1);
        assert_eq!(short(Group::Unfenced, 0, one()), 1);
    }

    #[test]
    fn a_partition_that_cost_nobody_a_lease_proves_nothing() {
        assert_eq!(
            short(Group::Partition, 0, vec![attempt("a", 4_000, "lost", "")]),
            0
        );
        assert_eq!(
            short(Group::Partition, 0, vec![attempt("a", 4_000, "committed", "")]),
            1
        );
    }

    #[test]
    fn an_upgrade_in_which_one_version_does_nothing_proves_nothing() {
        let by = |version| Fact {
            worker: "a".to_owned(),
            version,
            saw: Saw::Acknowledged,
            task: "t".to_owned(),
            token: 1,
            at_ms: 1,
        };
        let short = |versions: &[u32], rightly, wrongly| {
            let evidence = Evidence {
                facts: versions.iter().copied().map(by).collect(),
                led_before: LedBefore { rightly, wrongly },
                ..Evidence::default()
            };
            shortfalls(
                Group::RollingUpgrade,
                &Fired::of(1),
                &evidence,
                &Findings::default(),
            )
            .len()
        };
        let both = [VERSION_BEFORE, PROTOCOL_VERSION];
        assert_eq!(short(&both, 1, 0), 0);
        assert_eq!(short(&[PROTOCOL_VERSION], 1, 0), 1);
        assert_eq!(short(&both, 0, 0), 1, "nor one without old coordinators");
        assert_eq!(short(&both, 1, 1), 1, "what they must leave alone");
    }

    #[test]
    fn a_fault_of_the_store_must_reach_an_attempt() {
        let refused = attempt("a", 2_000, "failed", "store s3://x: 503 Service Unavailable");
        let other = attempt("a", 2_000, "failed", "no video");
        for (fault, group) in
            [StoreFault::Unavailable, StoreFault::Full].map(|fault| (fault, Group::Store(fault)))
        {
            assert_eq!(short(group, 0, vec![refused.clone()]), 0, "{fault:?}");
            assert_eq!(short(group, 0, vec![other.clone()]), 1, "{fault:?}");
        }
        let slow = Group::Store(StoreFault::Slow);
        assert_eq!(short(slow, 0, vec![attempt("a", 5_000, "committed", "")]), 0);
        assert_eq!(short(slow, 0, vec![attempt("a", 3_000, "committed", "")]), 1);
    }

    #[test]
    fn an_answer_is_lost_or_cut_short_only_where_the_request_comes_again() {
        let fired = Fired {
            count: 4,
            ..Fired::default()
        };
        let short = |group, found, missing| {
            let evidence = Evidence {
                resent: Resent { found, missing },
                ..Evidence::default()
            };
            shortfalls(group, &fired, &evidence, &Findings::default()).len()
        };
        for group in [StoreFault::LostReply, StoreFault::Truncated].map(Group::Store) {
            let shorts = [short(group, 1, 0), short(group, 2, 0), short(group, 3, 1)];
            assert_eq!(shorts, [1, 0, 1], "{group:?}");
        }
    }

    #[test]
    fn a_dead_task_must_not_have_been_tried_beyond_its_budget() {
        let tried = |season: &str, times| {
            let task = TaskRow {
                id: "t".to_owned(),
                season: season.to_owned(),
                name: "index/1".to_owned(),
                state: "dead".to_owned(),
                token: 1,
                message: String::new(),
                result: String::new(),
            };
            let evidence = Evidence {
                tasks: vec![task],
                attempts: vec![attempt("a", 2_000, "lost", ""); times],
                ..Evidence::default()
            };
            overspent(&evidence).len()
        };
        assert_eq!([tried("poison-crash-0", 8), tried("poison-crash-0", 9)], [0, 1]);
        assert_eq!(
            [tried("poison-corrupt-0", 1), tried("poison-corrupt-0", 2)],
            [0, 1]
        );
    }
}
