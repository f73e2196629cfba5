//! Decides what becomes of one task. Pure: (row, event, now) -> (row, actions); the database applies it by compare-and-set.
//!
//! Promises: the token never falls and rises by one at every lease; a stale token changes nothing; a task is committed at
//! most once; a task that spent its budget is dead and stays so until somebody retries it. One function decides whatever
//! noticed the event, so a loss seen twice is counted once. Left to others: which task is leased, and what follows.

use remaster_domain::{Checkpoint, FailureClass, LeaseToken, SessionId, TaskState};

/// Failures of its own that a task may report; the last of them makes it dead.
pub const ERRORS_MAX: u32 = 4;
/// Leases that may end unanswered (crash, eviction, power); more than errors, since most are not the task's fault.
pub const LOSSES_MAX: u32 = 8;
/// Ceiling of the first back-off.
const BACKOFF_MIN_MS: i64 = 1_000;
/// Ceiling of every back-off.
const BACKOFF_MAX_MS: i64 = 5 * 60 * 1_000;

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// May be leased.
    Ready {
        /// Not before this time.
        not_before_ms: i64,
    },
    /// Held by a session.
    Leased {
        /// Who holds it.
        session: SessionId,
        /// When it is lost unless renewed.
        expires_ms: i64,
    },
    /// Its result counts.
    Committed,
    /// Out of budget or bad input.
    Dead,
    /// Its job was cancelled.
    Cancelled,
}

impl Phase {
    /// The state as others name it.
    #[must_use]
    pub const fn state(&self) -> TaskState {
        match self {
            Self::Ready { .. } => TaskState::Ready,
            Self::Leased { .. } => TaskState::Leased,
            Self::Committed => TaskState::Committed,
            Self::Dead => TaskState::Dead,
            Self::Cancelled => TaskState::Cancelled,
        }
    }
}

/// What deciding needs to know of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// Token of the last lease; 0 before the first.
    pub token: LeaseToken,
    /// Leases so far.
    pub attempt: u32,
    /// Failures charged.
    pub errors: u32,
    /// Losses charged.
    pub losses: u32,
    /// Where the last attempt that recorded got to.
    pub checkpoint: Option<Checkpoint>,
    /// What went wrong last.
    pub message: String,
    /// Where it stands.
    pub phase: Phase,
}

impl TaskRow {
    /// A task that nobody has tried.
    #[must_use]
    pub const fn new(now_ms: i64) -> Self {
        Self {
            token: LeaseToken(0),
            attempt: 0,
            errors: 0,
            losses: 0,
            checkpoint: None,
            message: String::new(),
            phase: Phase::Ready {
                not_before_ms: now_ms,
            },
        }
    }
}

/// What happens to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskEvent {
    /// A session takes it.
    Lease {
        /// Who.
        session: SessionId,
        /// For how long.
        lease_ms: i64,
    },
    /// Its holder is alive.
    Heartbeat {
        /// Under which lease.
        token: LeaseToken,
        /// For how long again.
        lease_ms: i64,
    },
    /// Its holder wrote a checkpoint.
    Record {
        /// Under which lease.
        token: LeaseToken,
        /// The checkpoint.
        checkpoint: Checkpoint,
    },
    /// Its holder hands in a result.
    Commit {
        /// Under which lease.
        token: LeaseToken,
    },
    /// Its holder failed.
    Fail {
        /// Under which lease.
        token: LeaseToken,
        /// What happens next.
        class: FailureClass,
        /// Words for people.
        message: String,
        /// Random, 0 to 1: spreads the tries of tasks that failed together.
        jitter: f64,
    },
    /// Its holder gives it back.
    Release {
        /// Under which lease.
        token: LeaseToken,
    },
    /// Somebody looked whether the lease ran out.
    Expire,
    /// Its job was cancelled.
    Cancel,
    /// A user wants it tried again.
    Retry,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// Its result counts.
    Committed,
    /// It reported a failure.
    Failed,
    /// It was given back.
    Released,
    /// Its lease ran out.
    Lost,
    /// Its job was cancelled.
    Cancelled,
}

impl AttemptEnd {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What must be done in the same transaction as the change of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Note a new attempt.
    OpenAttempt,
    /// Note how the attempt ended.
    CloseAttempt(AttemptEnd),
    /// Keep the result and make the tasks that follow.
    StoreResult,
    /// Somebody may lease it from then on.
    Offer {
        /// From when.
        at_ms: i64,
    },
    /// It is dead: what waited for it need wait no more.
    Bury,
}

/// The row as it shall be, and what goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The new row.
    pub row: TaskRow,
    /// What else to do.
    pub actions: Vec<Action>,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The lease is somebody else's or nobody's.
    #[error("the lease is stale: the task's token is {held} and it is {}", .state.as_str())]
    Stale {
        /// Token of the task.
        held: LeaseToken,
        /// State of the task.
        state: TaskState,
    },
    /// The job was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// The event does not fit the state.
    #[error("the task is {}", .0.as_str())]
    Unfit(TaskState),
}

/// Decides. The row is left as it is where the event is refused.
///
/// # Errors
/// [`Refusal`] when the event changes nothing.
pub fn decide(row: &TaskRow, event: TaskEvent, now_ms: i64) -> Result<Decision, Refusal> {
    match event {
        TaskEvent::Lease { session, lease_ms } => lease(row, session, lease_ms, now_ms),
        TaskEvent::Heartbeat { token, lease_ms } => {
            let session = holder(row, token)?;
            let phase = Phase::Leased {
                session,
                expires_ms: now_ms.saturating_add(lease_ms),
            };
            Ok(changed(row, phase, vec![]))
        }
        TaskEvent::Record { token, checkpoint } => {
            holder(row, token)?;
            let mut next = row.clone();
            next.checkpoint = Some(checkpoint);
            Ok(Decision {
                row: next,
                actions: vec![],
            })
        }
        // The reply to the first commit may have been lost: its repeat is answered as the first was.
        TaskEvent::Commit { token } if row.phase == Phase::Committed && row.token == token => {
            Ok(changed(row, Phase::Committed, vec![]))
        }
        TaskEvent::Commit { token } => {
            holder(row, token)?;
            let actions = vec![Action::CloseAttempt(AttemptEnd::Committed), Action::StoreResult];
            let mut decision = changed(row, Phase::Committed, actions);
            decision.row.message.clear();
            Ok(decision)
        }
        TaskEvent::Fail {
            token,
            class,
            message,
            jitter,
        } => {
            holder(row, token)?;
            Ok(fail(row, class, message, jitter, now_ms))
        }
        TaskEvent::Release { token } => {
            holder(row, token)?;
            Ok(offer(row, AttemptEnd::Released, now_ms))
        }
        TaskEvent::Expire => expire(row, now_ms),
        TaskEvent::Cancel => cancel(row),
        TaskEvent::Retry => retry(row, now_ms),
    }
}

/// The session that holds the task under this token.
fn holder(row: &TaskRow, token: LeaseToken) -> Result<SessionId, Refusal> {
    match &row.phase {
        Phase::Leased { session, .. } if row.token == token => Ok(session.clone()),
        Phase::Cancelled if row.token == token => Err(Refusal::Cancelled),
        phase => Err(Refusal::Stale {
            held: row.token,
            state: phase.state(),
        }),
    }
}

fn lease(row: &TaskRow, session: SessionId, lease_ms: i64, now_ms: i64) -> Result<Decision, Refusal> {
    match row.phase {
        Phase::Ready { not_before_ms } if not_before_ms <= now_ms => {
            let phase = Phase::Leased {
                session,
                expires_ms: now_ms.saturating_add(lease_ms),
            };
            let mut decision = changed(row, phase, vec![Action::OpenAttempt]);
            decision.row.token = LeaseToken(row.token.0 + 1);
            // Counted now and not when it ends: an input that kills the process never ends.
            decision.row.attempt += 1;
            Ok(decision)
        }
        _ => Err(Refusal::Unfit(row.phase.state())),
    }
}

fn fail(row: &TaskRow, class: FailureClass, message: String, jitter: f64, now_ms: i64) -> Decision {
    let mut next = row.clone();
    next.errors += 1;
    next.message = message;
    let closed = Action::CloseAttempt(AttemptEnd::Failed);
    if class == FailureClass::BadInput || next.errors >= ERRORS_MAX {
        return changed(&next, Phase::Dead, vec![closed, Action::Bury]);
    }
    let not_before_ms = now_ms.saturating_add(backoff_ms(next.errors, jitter));
    let offered = Action::Offer { at_ms: not_before_ms };
    changed(&next, Phase::Ready { not_before_ms }, vec![closed, offered])
}

/// A loss is offered again at once: the worker is gone, the task did nothing wrong.
fn expire(row: &TaskRow, now_ms: i64) -> Result<Decision, Refusal> {
    match row.phase {
        Phase::Leased { expires_ms, .. } if expires_ms <= now_ms => {
            let mut next = row.clone();
            next.losses += 1;
            if next.losses < LOSSES_MAX {
                return Ok(offer(&next, AttemptEnd::Lost, now_ms));
            }
            next.message = format!("the worker was lost {LOSSES_MAX} times; the input may be killing it");
            let closed = Action::CloseAttempt(AttemptEnd::Lost);
            Ok(changed(&next, Phase::Dead, vec![closed, Action::Bury]))
        }
        _ => Err(Refusal::Unfit(row.phase.state())),
    }
}

fn cancel(row: &TaskRow) -> Result<Decision, Refusal> {
    match row.phase {
        Phase::Ready { .. } => Ok(changed(row, Phase::Cancelled, vec![])),
        Phase::Leased { .. } => {
            let actions = vec![Action::CloseAttempt(AttemptEnd::Cancelled)];
            Ok(changed(row, Phase::Cancelled, actions))
        }
        _ => Err(Refusal::Unfit(row.phase.state())),
    }
}

fn retry(row: &TaskRow, now_ms: i64) -> Result<Decision, Refusal> {
    if row.phase != Phase::Dead {
        return Err(Refusal::Unfit(row.phase.state()));
    }
    let mut next = row.clone();
    next.errors = 0;
    next.losses = 0;
    let phase = Phase::Ready {
        not_before_ms: now_ms,
    };
    Ok(changed(&next, phase, vec![Action::Offer { at_ms: now_ms }]))
}

fn offer(row: &TaskRow, end: AttemptEnd, now_ms: i64) -> Decision {
    let actions = vec![Action::CloseAttempt(end), Action::Offer { at_ms: now_ms }];
    changed(
        row,
        Phase::Ready {
            not_before_ms: now_ms,
        },
        actions,
    )
}

fn changed(row: &TaskRow, phase: Phase, actions: Vec<Action>) -> Decision {
    let mut row = row.clone();
    row.phase = phase;
    Decision { row, actions }
}

/// Full jitter: anywhere between nothing and a ceiling that doubles with every error.
fn backoff_ms(errors: u32, jitter: f64) -> i64 {
    let doublings = errors.saturating_sub(1).min(20);
    let ceiling = (BACKOFF_MIN_MS << doublings).min(BACKOFF_MAX_MS);
    (ceiling as f64 * jitter.clamp(0.0, 1.0)) as i64
}

#[cfg(test)]
mod tests {
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

    /// One step of a random history. Tokens are given as an age: 0 is the task's own, more is staler.
    fn step() -> impl Strategy<Value = (u8, i64, bool, i64, f64)> {
        (0..9_u8, 0..3_i64, any::<bool>(), 0..40_000_i64, 0.0..1.0_f64)
    }

    fn event_of(row: &TaskRow, what: u8, age: i64, bad: bool, jitter: f64) -> (TaskEvent, bool) {
        let token = LeaseToken(row.token.0 - age);
        let event = match what {
            0 => TaskEvent::Lease {
                session: session(2),
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
            _ => TaskEvent::Retry,
        };
        (event, (1..=5).contains(&what) && age > 0)
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
                let was_held = matches!(row.phase, Phase::Leased { .. });
                let is_held = matches!(next.phase, Phase::Leased { .. });
                prop_assert_eq!(opened, !was_held && is_held);
                prop_assert_eq!(closed, was_held && !is_held);
                row = next;
            }
        }
    }
}
