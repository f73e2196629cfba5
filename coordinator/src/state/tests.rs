//! Single decisions by example, and whole histories by chance: no order of events may break a promise.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use remaster_domain::ContentHash;

use super::*;

const LEASE_MS: i64 = 30_000;

fn session(number: u8) -> SessionId {
    format!("0198c0de-0000-7000-8000-0000000000{number:02x}")
        .parse()
        .unwrap()
}

fn leased(row: &TaskRow, now_ms: i64) -> TaskRow {
    let event = TaskEvent::Lease {
        session: session(1),
        lease_ms: LEASE_MS,
    };
    decide(row, event, now_ms).unwrap().row
}

fn failed(row: &TaskRow, class: FailureClass) -> Decision {
    let event = TaskEvent::Fail {
        token: row.token,
        class,
        message: "disk full".to_owned(),
        jitter: 1.0,
    };
    decide(row, event, 0).unwrap()
}

#[test]
fn bad_input_is_dead_at_once_with_its_reason() {
    let decision = failed(&leased(&TaskRow::new(0), 0), FailureClass::BadInput);
    assert_eq!(decision.row.phase, Phase::Dead);
    assert_eq!(decision.row.message, "disk full");
    assert!(decision.actions.contains(&Action::Bury));
}

#[test]
fn errors_back_off_longer_each_time_and_end_dead() {
    let mut row = TaskRow::new(0);
    let mut waits = vec![];
    while row.phase != Phase::Dead {
        if let Phase::Ready { not_before_ms } = row.phase {
            waits.push(not_before_ms);
            row.phase = Phase::Ready { not_before_ms: 0 };
        }
        row = failed(&leased(&row, 0), FailureClass::Retryable).row;
    }
    assert_eq!(waits, [0, 1_000, 2_000, 4_000]);
    assert_eq!(row.errors, ERRORS_MAX);
    assert_eq!(backoff_ms(30, 1.0), BACKOFF_MAX_MS);
}

#[test]
fn a_loss_is_offered_at_once_and_not_before_the_deadline() {
    let row = leased(&TaskRow::new(0), 0);
    assert!(decide(&row, TaskEvent::Expire, LEASE_MS - 1).is_err());
    let lost = decide(&row, TaskEvent::Expire, LEASE_MS).unwrap().row;
    assert_eq!((lost.losses, lost.errors), (1, 0));
    assert_eq!(
        lost.phase,
        Phase::Ready {
            not_before_ms: LEASE_MS
        }
    );
}

#[test]
fn standing_still_is_charged_as_an_error_and_not_before_the_limit() {
    let row = leased(&TaskRow::new(0), 0);
    let stall = |now_ms| {
        let event = TaskEvent::Stall {
            moved_ms: 1_000,
            at: "at 7 of 9: decoding".to_owned(),
            limit_ms: 60_000,
            jitter: 1.0,
        };
        decide(&row, event, now_ms)
    };
    assert!(stall(60_999).is_err());
    let stalled = stall(61_000).unwrap();
    assert_eq!(stalled.row.message, "no progress for 60 s, at 7 of 9: decoding");
    let hung = ended(&row, &stalled, AttemptEnd::Failed).unwrap();
    assert_eq!((hung.token, hung.session), (row.token, &session(1)));
    assert_eq!((stalled.row.errors, stalled.row.losses), (1, 0));
    assert!(
        stalled
            .actions
            .contains(&Action::CloseAttempt(AttemptEnd::Failed))
    );
}

#[test]
fn a_late_commit_counts_only_while_the_task_is_nobodys() {
    let row = leased(&TaskRow::new(0), 0);
    let commit = TaskEvent::Commit { token: row.token };
    let lost = decide(&row, TaskEvent::Expire, LEASE_MS).unwrap().row;
    let late = decide(&lost, commit.clone(), LEASE_MS + 1).unwrap();
    assert_eq!(late.actions, [Action::StoreResult]);
    let again = leased(&lost, LEASE_MS);
    assert!(matches!(
        decide(&again, commit.clone(), LEASE_MS + 1),
        Err(Refusal::Stale { .. })
    ));
    let cancelled = decide(&lost, TaskEvent::Cancel, LEASE_MS).unwrap().row;
    assert!(decide(&cancelled, commit, LEASE_MS + 1).is_err());
    let never = TaskEvent::Commit { token: LeaseToken(0) };
    assert!(decide(&TaskRow::new(0), never, 1).is_err(), "never leased");
}

#[test]
fn a_lease_is_its_session_s_alone_while_it_runs() {
    let row = leased(&TaskRow::new(0), 0);
    let commit = || TaskEvent::Commit { token: row.token };
    let foreign = decide_for(&row, &session(2), commit(), 1);
    assert!(matches!(foreign, Err(Refusal::Stale { .. })), "{foreign:?}");
    assert!(decide_for(&row, &session(1), commit(), 1).is_ok());
    let offered = decide(&row, TaskEvent::Straggle, 1).unwrap().row;
    assert!(decide_for(&offered, &session(2), commit(), 2).is_err());
    assert!(decide_for(&offered, &session(1), commit(), 2).is_ok());
}

#[test]
fn getting_further_gives_fresh_budgets_and_the_same_step_again_does_not() {
    let mut row = leased(&TaskRow::new(0), 0);
    let record = |row: &TaskRow, step| {
        let event = TaskEvent::Record {
            token: row.token,
            checkpoint: Checkpoint {
                sha256: ContentHash::of(b"state"),
                step,
            },
        };
        decide(row, event, 1).unwrap().row
    };
    let charged = |mut row: TaskRow| {
        (row.errors, row.losses) = (ERRORS_MAX - 1, LOSSES_MAX - 1);
        row
    };
    row = record(&charged(row), 100);
    assert_eq!((row.errors, row.losses), (0, 0));
    row = record(&charged(row), 100);
    assert_eq!((row.errors, row.losses), (ERRORS_MAX - 1, LOSSES_MAX - 1));
    row = record(&row, 101);
    assert_eq!((row.errors, row.losses), (0, 0));
}

#[test]
fn a_release_charges_no_budget() {
    let row = leased(&TaskRow::new(0), 0);
    let event = TaskEvent::Release { token: row.token };
    let back = decide(&row, event, 5).unwrap().row;
    assert_eq!((back.losses, back.errors), (0, 0));
}

#[test]
fn retry_gives_fresh_budgets_and_keeps_the_token_and_the_checkpoint() {
    let mut row = leased(&TaskRow::new(0), 0);
    row.checkpoint = Some(Checkpoint {
        sha256: ContentHash::of(b"state"),
        step: 9,
    });
    let dead = failed(&row, FailureClass::BadInput).row;
    let again = decide(&dead, TaskEvent::Retry, 7).unwrap().row;
    assert_eq!((again.errors, again.losses), (0, 0));
    assert_eq!(again.token, row.token);
    assert_eq!(again.checkpoint, row.checkpoint);
}

#[test]
fn a_cancelled_holder_is_told_so_and_anybody_else_is_stale() {
    let row = leased(&TaskRow::new(0), 0);
    let cancelled = decide(&row, TaskEvent::Cancel, 1).unwrap().row;
    let beat = |token| TaskEvent::Heartbeat {
        token,
        lease_ms: LEASE_MS,
    };
    assert_eq!(decide(&cancelled, beat(row.token), 2), Err(Refusal::Cancelled));
    assert!(matches!(
        decide(&cancelled, beat(LeaseToken(0)), 2),
        Err(Refusal::Stale { .. })
    ));
}

/// A task that session 1 has worked on for so long that session 2 was given it as well.
fn twice_leased() -> (LeaseToken, TaskRow) {
    let elder = leased(&TaskRow::new(0), 0);
    let offered = decide(&elder, TaskEvent::Straggle, 1).unwrap().row;
    let lease = TaskEvent::Lease {
        session: session(2),
        lease_ms: LEASE_MS,
    };
    (elder.token, decide(&offered, lease, 1).unwrap().row)
}

fn commit(row: &TaskRow, token: LeaseToken) -> Result<Decision, Refusal> {
    decide(row, TaskEvent::Commit { token }, 2)
}

#[test]
fn of_two_attempts_the_first_to_commit_counts_and_the_other_is_refused() {
    let (elder, row) = twice_leased();
    for (first, second) in [(elder, row.token), (row.token, elder)] {
        let done = commit(&row, first).unwrap();
        assert!(done.actions.contains(&Action::StoreResult));
        assert!(commit(&done.row, first).unwrap().actions.is_empty(), "a repeat");
        assert!(matches!(commit(&done.row, second), Err(Refusal::Stale { .. })));
    }
}

#[test]
fn an_elder_that_ends_without_a_result_leaves_the_newest_as_it_is() {
    let (token, row) = twice_leased();
    let fail = TaskEvent::Fail {
        token,
        class: FailureClass::Retryable,
        message: "disk full".to_owned(),
        jitter: 1.0,
    };
    for (event, losses, errors) in [
        (TaskEvent::Expire, 1, 0),
        (TaskEvent::Release { token }, 0, 0),
        (fail, 0, 1),
    ] {
        let next = decide(&row, event, LEASE_MS).unwrap().row;
        assert_eq!((&next.phase, &next.elder), (&row.phase, &None));
        assert_eq!((next.losses, next.errors), (losses, errors));
        assert!(matches!(commit(&next, token), Err(Refusal::Stale { .. })));
        assert!(commit(&next, next.token).is_ok());
    }
}

#[test]
fn a_task_that_kills_whoever_works_on_it_for_long_is_not_offered_to_second_workers_for_ever() {
    let mut row = TaskRow::new(0);
    for losses in 1..=LOSSES_MAX {
        let offered = decide(&leased(&row, 1), TaskEvent::Straggle, 1).unwrap().row;
        let lost = decide(&offered, TaskEvent::Expire, LEASE_MS + 1).unwrap();
        assert_eq!(lost.row.losses, losses);
        assert_eq!(lost.row.phase == Phase::Dead, losses == LOSSES_MAX);
        assert_eq!(lost.actions.contains(&Action::Bury), losses == LOSSES_MAX);
        row = lost.row;
    }
}

#[test]
fn the_newest_may_be_lost_and_the_elder_goes_on() {
    let (token, row) = twice_leased();
    let beat = TaskEvent::Heartbeat {
        token,
        lease_ms: 2 * LEASE_MS,
    };
    let row = decide(&row, beat, 2).unwrap().row;
    let lost = decide(&row, TaskEvent::Expire, LEASE_MS + 1).unwrap().row;
    assert_eq!(lost.phase.state(), TaskState::Ready);
    assert!(commit(&lost, token).is_ok());
}

#[test]
fn nobody_is_given_a_task_beside_himself() {
    let row = leased(&TaskRow::new(0), 0);
    let offered = decide(&row, TaskEvent::Straggle, 1).unwrap().row;
    let own = TaskEvent::Lease {
        session: session(1),
        lease_ms: LEASE_MS,
    };
    assert_eq!(decide(&offered, own, 1), Err(Refusal::Unfit(TaskState::Ready)));
    assert!(decide(&offered, TaskEvent::Straggle, 1).is_err(), "twice at most");
}

/// One step of a random history. Tokens are given as an age: 0 is the task's own, more is staler.
fn step() -> impl Strategy<Value = (u8, i64, bool, i64, f64)> {
    (0..11_u8, 0..3_i64, any::<bool>(), 0..40_000_i64, 0.0..1.0_f64)
}

fn event_of(row: &TaskRow, what: u8, age: i64, bad: bool, jitter: f64) -> (TaskEvent, bool) {
    let token = LeaseToken(row.token.0 - age);
    let event = match what {
        0 => TaskEvent::Lease {
            // Anybody: what he works on already he is not given.
            session: session(if bad { 2 } else { 3 }),
            lease_ms: LEASE_MS,
        },
        1 => TaskEvent::Heartbeat {
            token,
            lease_ms: LEASE_MS,
        },
        2 => TaskEvent::Record {
            token,
            checkpoint: Checkpoint {
                sha256: ContentHash::of(b"x"),
                step: 1,
            },
        },
        3 => TaskEvent::Commit { token },
        4 => TaskEvent::Fail {
            token,
            class: if bad {
                FailureClass::BadInput
            } else {
                FailureClass::Retryable
            },
            message: "m".to_owned(),
            jitter,
        },
        5 => TaskEvent::Release { token },
        6 => TaskEvent::Expire,
        7 => TaskEvent::Cancel,
        8 => TaskEvent::Stall {
            moved_ms: 0,
            at: String::new(),
            limit_ms: 600_000,
            jitter,
        },
        9 => TaskEvent::Straggle,
        _ => TaskEvent::Retry,
    };
    let is_elder = row.elder.as_ref().is_some_and(|elder| elder.token == token);
    (event, (1..=5).contains(&what) && age > 0 && !is_elder)
}

proptest! {
    #[test]
    fn no_history_breaks_the_promises(steps in prop::collection::vec(step(), 0..120)) {
        let mut row = TaskRow::new(0);
        let (mut now_ms, mut commits) = (0, 0);
        for (what, age, bad, wait_ms, jitter) in steps {
            now_ms += wait_ms;
            let (event, stale) = event_of(&row, what, age, bad, jitter);
            let is_lease = matches!(event, TaskEvent::Lease { .. });
            let Ok(Decision { row: next, actions }) = decide(&row, event, now_ms) else { continue };
            prop_assert!(!stale, "a stale token changed {row:?} into {next:?}");
            prop_assert_eq!(next.token.0, row.token.0 + i64::from(is_lease));
            prop_assert_eq!(next.attempt, row.attempt + u32::from(is_lease));
            commits += actions.iter().filter(|a| **a == Action::StoreResult).count();
            prop_assert!(commits <= 1);
            if row.phase == Phase::Committed {
                prop_assert_eq!(&next, &row);
            }
            prop_assert!(next.errors <= ERRORS_MAX && next.losses <= LOSSES_MAX);
            if matches!(next.phase, Phase::Ready { .. } | Phase::Leased { .. }) {
                prop_assert!(next.errors < ERRORS_MAX && next.losses < LOSSES_MAX);
            }
            let opened = actions.contains(&Action::OpenAttempt);
            let closed = actions.iter().any(|a| matches!(a, Action::CloseAttempt(_)));
            let elder_closed = actions.iter().any(|a| matches!(a, Action::CloseElder(_)));
            let was_held = matches!(row.phase, Phase::Leased { .. });
            let is_held = matches!(next.phase, Phase::Leased { .. });
            prop_assert_eq!(opened, !was_held && is_held);
            // Every attempt is closed once: the newest when it ends, or as the elder that it has become.
            let became_elder = row.elder.is_none() && next.elder_at_work().is_some();
            prop_assert_eq!(closed, was_held && !is_held && !became_elder);
            prop_assert_eq!(elder_closed, row.elder_at_work().is_some() && next.elder_at_work().is_none());
            row = next;
        }
    }
}
