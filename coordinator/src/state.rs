//! Decides what becomes of one task. Pure: (row, event, now) -> (row, actions); the database applies it by compare-and-set.
//!
//! Promises: the token never falls and rises by one at every lease; a stale token changes nothing; a task is committed at
//! most once; a task that spent its budget is dead and stays so until somebody retries it. One function decides whatever
//! noticed the event, so a loss seen twice is counted once. Left to others: which task is leased, and what follows.
//!
//! A task whose attempt takes far too long is offered again while that attempt, the elder, goes on: whichever commits first
//! counts, and the end of the elder without a result leaves the newest as it is.

use remaster_domain::{Checkpoint, FailureClass, LeaseToken, SessionId, TaskKind, TaskState};

mod event;

pub use event::{Action, AttemptEnd, Decision, Refusal, TaskEvent};

/// Failures of its own that a task may report; the last of them makes it dead.
pub const ERRORS_MAX: u32 = 4;
/// Leases that may end unanswered (crash, eviction, power); more than errors, since most are not the task's fault.
pub const LOSSES_MAX: u32 = 8;
/// Ceiling of the first back-off.
const BACKOFF_MIN_MS: i64 = 1_000;
/// Ceiling of every back-off.
const BACKOFF_MAX_MS: i64 = 5 * 60 * 1_000;

/// Kinds that count frames or pairs say something new every few seconds; a download of a whole disc comes before.
const STALL_COUNTED_MS: i64 = 30 * 60 * 1_000;
/// The others may compute for long between two words.
const STALL_MS: i64 = 90 * 60 * 1_000;

/// For how long an attempt of a kind may say nothing new before it counts as hung.
#[must_use]
pub const fn stall_ms(kind: TaskKind) -> i64 {
    match kind {
        TaskKind::Index | TaskKind::Extract | TaskKind::Upscale => STALL_COUNTED_MS,
        _ => STALL_MS,
    }
}

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

/// An attempt that goes on while the task is offered to another worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elder {
    /// Its lease.
    pub token: LeaseToken,
    /// Who holds it.
    pub session: SessionId,
    /// When it is lost unless renewed.
    pub expires_ms: i64,
}

/// A lease that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease<'a> {
    /// Its token.
    pub token: LeaseToken,
    /// Whose it is.
    pub session: &'a SessionId,
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
    /// Where it stands, as far as the newest attempt goes.
    pub phase: Phase,
    /// The attempt that goes on beside; of a committed task, the one whose result counts if it is not the newest's.
    pub elder: Option<Elder>,
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
            elder: None,
        }
    }

    /// The elder attempt, while its result might still count.
    #[must_use]
    pub fn elder_at_work(&self) -> Option<&Elder> {
        let is_open = matches!(self.phase, Phase::Ready { .. } | Phase::Leased { .. });
        self.elder.as_ref().filter(|_| is_open)
    }

    /// The lease of this token, while it runs.
    #[must_use]
    pub fn held(&self, token: LeaseToken) -> Option<HeldLease<'_>> {
        let session = match (self.elder_at_work(), &self.phase) {
            (Some(elder), _) if elder.token == token => &elder.session,
            (_, Phase::Leased { session, .. }) if self.token == token => session,
            _ => return None,
        };
        Some(HeldLease { token, session })
    }

    /// The lease whose result counts, once the task is committed.
    fn winner(&self) -> LeaseToken {
        self.elder.as_ref().map_or(self.token, |elder| elder.token)
    }
}

/// Decides. The row is left as it is where the event is refused.
///
/// # Errors
/// [`Refusal`] when the event changes nothing.
pub fn decide(row: &TaskRow, event: TaskEvent, now_ms: i64) -> Result<Decision, Refusal> {
    let is_elder = |token| row.elder_at_work().is_some_and(|elder| elder.token == token);
    match event {
        TaskEvent::Lease { session, lease_ms } => lease(row, session, lease_ms, now_ms),
        TaskEvent::Heartbeat { token, lease_ms } => heartbeat(row, token, now_ms.saturating_add(lease_ms)),
        TaskEvent::Record { token, checkpoint } => {
            holder(row, token)?;
            Ok(recorded(row, checkpoint))
        }
        // The reply to the first commit may have been lost: its repeat is answered as the first was.
        TaskEvent::Commit { token } if row.phase == Phase::Committed && row.winner() == token => {
            Ok(changed(row, Phase::Committed, vec![]))
        }
        TaskEvent::Commit { token } if is_elder(token) => Ok(won_by_elder(row)),
        // Nobody has leased it since the lease was lost: the work is done, and doing it again would give no other.
        TaskEvent::Commit { token } if is_unclaimed(row, token) => {
            Ok(settled(row, Phase::Committed, vec![Action::StoreResult]))
        }
        TaskEvent::Commit { token } => {
            holder(row, token)?;
            let actions = vec![Action::CloseAttempt(AttemptEnd::Committed), Action::StoreResult];
            Ok(settled(row, Phase::Committed, actions))
        }
        TaskEvent::Fail {
            token,
            class,
            message,
            ..
        } if is_elder(token) => Ok(elder_failed(row, class, message)),
        TaskEvent::Fail {
            token,
            class,
            message,
            jitter,
        } => {
            holder(row, token)?;
            Ok(fail(row, class, message, jitter, now_ms))
        }
        TaskEvent::Release { token } if is_elder(token) => Ok(without_elder(row, AttemptEnd::Released)),
        TaskEvent::Release { token } => {
            holder(row, token)?;
            Ok(offer(row, AttemptEnd::Released, now_ms))
        }
        TaskEvent::Expire => expire(row, now_ms),
        TaskEvent::Stall {
            moved_ms,
            at,
            limit_ms,
            jitter,
        } => {
            let stood_ms = now_ms.saturating_sub(moved_ms);
            if stood_ms < limit_ms {
                return Err(Refusal::Unfit(row.phase.state()));
            }
            let message = format!("no progress for {} s, {at}", stood_ms / 1_000);
            stall(row, message, jitter, now_ms)
        }
        TaskEvent::Straggle => straggle(row, now_ms),
        TaskEvent::Cancel => cancel(row),
        TaskEvent::Retry => retry(row, now_ms),
    }
}

/// Decides over an event that a session asks for: a lease is that of a token and of the session it was given to.
///
/// # Errors
/// As [`decide`]; [`Refusal::Stale`] where another session holds the lease.
pub fn decide_for(
    row: &TaskRow,
    session: &SessionId,
    event: TaskEvent,
    now_ms: i64,
) -> Result<Decision, Refusal> {
    match event.token().and_then(|token| row.held(token)) {
        Some(lease) if lease.session != session => Err(Refusal::Stale {
            held: row.token,
            state: row.phase.state(),
        }),
        _ => decide(row, event, now_ms),
    }
}

/// The lease that ended so by a decision over a row, if one did.
#[must_use]
pub fn ended<'a>(row: &'a TaskRow, decision: &Decision, end: AttemptEnd) -> Option<HeldLease<'a>> {
    let token = decision.actions.iter().find_map(|action| match action {
        Action::CloseElder(ended) if *ended == end => row.elder.as_ref().map(|elder| elder.token),
        Action::CloseAttempt(ended) if *ended == end => Some(row.token),
        _ => None,
    })?;
    row.held(token)
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

/// Whether the token is that of the last lease and the task waits for another.
fn is_unclaimed(row: &TaskRow, token: LeaseToken) -> bool {
    matches!(row.phase, Phase::Ready { .. }) && row.token == token && row.attempt > 0
}

fn lease(row: &TaskRow, session: SessionId, lease_ms: i64, now_ms: i64) -> Result<Decision, Refusal> {
    // Who has been at it for so long is not helped by doing it twice.
    let is_own = row.elder.as_ref().is_some_and(|elder| elder.session == session);
    match row.phase {
        Phase::Ready { not_before_ms } if not_before_ms <= now_ms && !is_own => {
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

fn heartbeat(row: &TaskRow, token: LeaseToken, expires_ms: i64) -> Result<Decision, Refusal> {
    let mut decision = changed(row, row.phase.clone(), vec![]);
    match &mut decision.row.elder {
        Some(elder) if elder.token == token && row.elder_at_work().is_some() => elder.expires_ms = expires_ms,
        _ => {
            let session = holder(row, token)?;
            decision.row.phase = Phase::Leased { session, expires_ms };
        }
    }
    Ok(decision)
}

/// Who gets further starts over with what may go wrong: a run of many days is not dead for having met many a reboot. An attempt
/// that comes to the same step again got no further.
fn recorded(row: &TaskRow, checkpoint: Checkpoint) -> Decision {
    let mut decision = changed(row, row.phase.clone(), vec![]);
    if row
        .checkpoint
        .as_ref()
        .is_none_or(|before| before.step < checkpoint.step)
    {
        (decision.row.errors, decision.row.losses) = (0, 0);
    }
    decision.row.checkpoint = Some(checkpoint);
    decision
}

/// Its result counts; the row remembers whose it was.
fn won_by_elder(row: &TaskRow) -> Decision {
    let mut actions = vec![Action::CloseElder(AttemptEnd::Committed), Action::StoreResult];
    if matches!(row.phase, Phase::Leased { .. }) {
        actions.push(Action::CloseAttempt(AttemptEnd::Outrun));
    }
    let mut decision = changed(row, Phase::Committed, actions);
    decision.row.message.clear();
    decision
}

/// Charged as any failure; what the newest attempt does with it is not known before it has tried.
fn elder_failed(row: &TaskRow, class: FailureClass, message: String) -> Decision {
    let mut next = row.clone();
    next.errors += 1;
    next.message = message;
    let decision = without_elder(&next, AttemptEnd::Failed);
    if class == FailureClass::BadInput || next.errors >= ERRORS_MAX {
        return died_by_elder(decision);
    }
    decision
}

/// Charged as any loss: an input that kills whoever works on it for long would be offered to a second worker for ever.
fn elder_lost(row: &TaskRow) -> Decision {
    let mut next = row.clone();
    next.losses += 1;
    if next.losses < LOSSES_MAX {
        return without_elder(&next, AttemptEnd::Lost);
    }
    next.message = lost_too_often();
    died_by_elder(without_elder(&next, AttemptEnd::Lost))
}

fn died_by_elder(mut decision: Decision) -> Decision {
    if matches!(decision.row.phase, Phase::Leased { .. }) {
        decision.actions.push(Action::CloseAttempt(AttemptEnd::Outrun));
    }
    decision.actions.push(Action::Bury);
    decision.row.phase = Phase::Dead;
    decision
}

fn lost_too_often() -> String {
    format!("the worker was lost {LOSSES_MAX} times; the input may be killing it")
}

fn without_elder(row: &TaskRow, end: AttemptEnd) -> Decision {
    let mut decision = changed(row, row.phase.clone(), vec![Action::CloseElder(end)]);
    decision.row.elder = None;
    decision
}

/// The task needs nobody any more: an elder that is still at it hears so at its next heartbeat.
fn settled(row: &TaskRow, phase: Phase, mut actions: Vec<Action>) -> Decision {
    if row.elder_at_work().is_some() {
        actions.push(Action::CloseElder(match phase {
            Phase::Cancelled => AttemptEnd::Cancelled,
            _ => AttemptEnd::Outrun,
        }));
    }
    let mut decision = changed(row, phase, actions);
    decision.row.elder = None;
    if decision.row.phase == Phase::Committed {
        decision.row.message.clear();
    }
    decision
}

/// Offers the task to others while its attempt goes on.
fn straggle(row: &TaskRow, now_ms: i64) -> Result<Decision, Refusal> {
    match &row.phase {
        Phase::Leased { session, expires_ms } if row.elder.is_none() => {
            let phase = Phase::Ready {
                not_before_ms: now_ms,
            };
            let mut decision = changed(row, phase, vec![Action::Offer { at_ms: now_ms }]);
            decision.row.elder = Some(Elder {
                token: row.token,
                session: session.clone(),
                expires_ms: *expires_ms,
            });
            Ok(decision)
        }
        phase => Err(Refusal::Unfit(phase.state())),
    }
}

fn fail(row: &TaskRow, class: FailureClass, message: String, jitter: f64, now_ms: i64) -> Decision {
    let mut next = row.clone();
    next.errors += 1;
    next.message = message;
    let closed = Action::CloseAttempt(AttemptEnd::Failed);
    if class == FailureClass::BadInput || next.errors >= ERRORS_MAX {
        return settled(&next, Phase::Dead, vec![closed, Action::Bury]);
    }
    let not_before_ms = now_ms.saturating_add(backoff_ms(next.errors, jitter));
    let offered = Action::Offer { at_ms: not_before_ms };
    changed(&next, Phase::Ready { not_before_ms }, vec![closed, offered])
}

/// A loss is offered again at once: the worker is gone, the task did nothing wrong.
fn expire(row: &TaskRow, now_ms: i64) -> Result<Decision, Refusal> {
    if row
        .elder_at_work()
        .is_some_and(|elder| elder.expires_ms <= now_ms)
    {
        return Ok(elder_lost(row));
    }
    match row.phase {
        Phase::Leased { expires_ms, .. } if expires_ms <= now_ms => {
            let mut next = row.clone();
            next.losses += 1;
            if next.losses < LOSSES_MAX {
                return Ok(offer(&next, AttemptEnd::Lost, now_ms));
            }
            next.message = lost_too_often();
            let closed = Action::CloseAttempt(AttemptEnd::Lost);
            Ok(settled(&next, Phase::Dead, vec![closed, Action::Bury]))
        }
        _ => Err(Refusal::Unfit(row.phase.state())),
    }
}

/// A hung child or device is the attempt's own failure: its worker is alive and is told to stop by its next heartbeat.
fn stall(row: &TaskRow, message: String, jitter: f64, now_ms: i64) -> Result<Decision, Refusal> {
    match row.phase {
        Phase::Leased { .. } => Ok(fail(row, FailureClass::Retryable, message, jitter, now_ms)),
        // Offered, and nobody else has taken it yet.
        Phase::Ready { .. } if row.elder.is_some() => Ok(elder_failed(row, FailureClass::Retryable, message)),
        _ => Err(Refusal::Unfit(row.phase.state())),
    }
}

fn cancel(row: &TaskRow) -> Result<Decision, Refusal> {
    match row.phase {
        Phase::Ready { .. } => Ok(settled(row, Phase::Cancelled, vec![])),
        Phase::Leased { .. } => {
            let actions = vec![Action::CloseAttempt(AttemptEnd::Cancelled)];
            Ok(settled(row, Phase::Cancelled, actions))
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
mod model_tests;
#[cfg(test)]
mod tests;
