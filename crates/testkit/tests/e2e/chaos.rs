//! A small part of `make chaos`: a few faults of the kinds that matter most, and proof that the checker can fail.

use remaster_testkit::chaos::{Group, run_group};

use crate::turn;

/// Runs some groups one after another; the seasons that they share are run without faults once.
fn endure(groups: &[(Group, usize)]) {
    let _turn = turn();
    let calm = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (group, count) in groups {
        let outcome = runtime.block_on(run_group(*group, *count, calm.path())).unwrap();
        // How fast work is taken up again is measured by `make chaos`; here other tests may load the machine.
        let complaints = outcome.complaints();
        assert!(
            outcome.is_clean(),
            "{}: {complaints:#?} {:#?}",
            group.name(),
            outcome.findings
        );
    }
}

#[test]
fn killed_processes_lose_and_repeat_nothing() {
    endure(&[
        (Group::WorkerKill, 20),
        (Group::CoordinatorKill, 4),
        (Group::CoordinatorKillPostgres, 4),
    ]);
}

#[test]
fn zombies_are_fenced_and_the_checker_sees_it_when_they_are_not() {
    endure(&[(Group::Zombie, 8), (Group::Unfenced, 4)]);
}
