//! Makes decisions over tasks true: all of a transaction's group in a handful of statements, each row by compare-and-set.
//!
//! Promises: a row that is not as it was when it was decided fails the whole group, so that nothing is done by halves;
//! the history of attempts says the same as the rows. Left to others: deciding, and what follows from a result.

use remaster_domain::{LeaseToken, Progress};
use serde_json::json;

use super::Tx;
use super::sql::query_over;
use super::tasks::{StoredTask, as_i64};
use crate::CoordinatorError;
use crate::state::{Action, AttemptEnd, Decision, Phase};

/// What shall become of a task.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    /// As it was read in this transaction.
    pub(crate) task: &'a StoredTask,
    /// What was decided over it.
    pub(crate) decision: &'a Decision,
    /// The result to keep, where there is one.
    pub(crate) result_json: Option<&'a str>,
    /// How far its holder says it is.
    pub(crate) progress: Option<&'a Progress>,
}

/// Makes one decision true.
pub(crate) async fn apply(
    tx: &mut Tx,
    task: &StoredTask,
    decision: &Decision,
) -> Result<(), CoordinatorError> {
    let change = Change {
        task,
        decision,
        result_json: None,
        progress: None,
    };
    apply_all(tx, &[change]).await
}

/// Makes decisions true over as many different tasks.
pub(crate) async fn apply_all(tx: &mut Tx, changes: &[Change<'_>]) -> Result<(), CoordinatorError> {
    if changes.is_empty() {
        return Ok(());
    }
    let now_ms = tx.now_ms;
    let changed = query_over!(
        changes.iter().map(|change| change.row(now_ms)).collect(),
        ["UPDATE task SET state = r.value ->> 'state', token = CAST(r.value ->> 'token' AS BIGINT),
             attempt = CAST(r.value ->> 'attempt' AS BIGINT), errors = CAST(r.value ->> 'errors' AS BIGINT),
             losses = CAST(r.value ->> 'losses' AS BIGINT),
             not_before_ms = CAST(r.value ->> 'not_before_ms' AS BIGINT),
             expires_ms = CAST(r.value ->> 'expires_ms' AS BIGINT), session_id = r.value ->> 'session',
             elder_token = CAST(r.value ->> 'elder_token' AS BIGINT), elder_session = r.value ->> 'elder_session',
             elder_expires_ms = CAST(r.value ->> 'elder_expires_ms' AS BIGINT),
             checkpoint_sha256 = r.value ->> 'sha256', checkpoint_step = CAST(r.value ->> 'step' AS BIGINT),
             message = r.value ->> 'message',
             started_ms = COALESCE(task.started_ms, CAST(r.value ->> 'started_ms' AS BIGINT)),
             ended_ms = CAST(r.value ->> 'ended_ms' AS BIGINT), result = COALESCE(r.value ->> 'result', task.result),
             moved_ms = CASE WHEN r.value ->> 'started_ms' IS NOT NULL
                     OR task.done <> CAST(r.value ->> 'done' AS BIGINT)
                     OR task.total <> CAST(r.value ->> 'total' AS BIGINT)
                     OR task.note <> r.value ->> 'note' THEN $2 ELSE task.moved_ms END,
             done = COALESCE(CAST(r.value ->> 'done' AS BIGINT), task.done),
             total = COALESCE(CAST(r.value ->> 'total' AS BIGINT), task.total),
             note = COALESCE(r.value ->> 'note', task.note)
         FROM "],
        [" WHERE task.id = r.value ->> 'id' AND task.state = r.value ->> 'was'
             AND task.token = CAST(r.value ->> 'held' AS BIGINT)"]
    )
    .bind(now_ms)
    .execute(&mut tx.connection)
    .await?;
    if usize::try_from(changed) != Ok(changes.len()) {
        let names: Vec<_> = changes.iter().map(|change| change.task.id.as_str()).collect();
        return Err(CoordinatorError::Unavailable(format!(
            "of the tasks {} some changed meanwhile: try again",
            names.join(", ")
        )));
    }
    open_attempts(tx, changes).await?;
    close_attempts(tx, changes).await?;
    for change in changes {
        for action in &change.decision.actions {
            // The other actions are the caller's: they change more than this row.
            if let Action::Offer { at_ms } = action {
                tx.effects.offers.push((change.task.kind, *at_ms));
            }
        }
    }
    Ok(())
}

impl Change<'_> {
    fn row(&self, now_ms: i64) -> serde_json::Value {
        let (was, next) = (&self.task.row, &self.decision.row);
        let (not_before_ms, expires_ms, session) = match &next.phase {
            Phase::Ready { not_before_ms } => (*not_before_ms, 0, None),
            Phase::Leased { session, expires_ms } => (0, *expires_ms, Some(session.as_str())),
            Phase::Committed | Phase::Dead | Phase::Cancelled => (0, 0, None),
        };
        let has_ended = matches!(next.phase, Phase::Committed | Phase::Dead | Phase::Cancelled);
        let has_started = self.decision.actions.contains(&Action::OpenAttempt);
        json!({
            "id": self.task.id.as_str(),
            "was": was.phase.state().as_str(),
            "held": was.token.0,
            "state": next.phase.state().as_str(),
            "token": next.token.0,
            "attempt": next.attempt,
            "errors": next.errors,
            "losses": next.losses,
            "not_before_ms": not_before_ms,
            "expires_ms": expires_ms,
            "session": session,
            "elder_token": next.elder.as_ref().map(|elder| elder.token.0),
            "elder_session": next.elder.as_ref().map(|elder| elder.session.as_str()),
            "elder_expires_ms": next.elder.as_ref().map(|elder| elder.expires_ms),
            "sha256": next.checkpoint.as_ref().map(|checkpoint| checkpoint.sha256.as_str()),
            "step": next.checkpoint.as_ref().map(|checkpoint| as_i64(checkpoint.step)),
            "message": next.message,
            "started_ms": has_started.then_some(now_ms),
            "ended_ms": has_ended.then_some(now_ms),
            "result": self.result_json,
            "done": self.progress.map(|progress| as_i64(progress.done)),
            "total": self.progress.map(|progress| as_i64(progress.total)),
            "note": self.progress.map(|progress| progress.note.as_str()),
        })
    }

    /// Which of its attempts ended, how, and what is to be kept of why.
    fn ends(&self) -> impl Iterator<Item = (LeaseToken, AttemptEnd, &str)> {
        let was = &self.task.row;
        let elder = was.elder.as_ref().map(|elder| elder.token);
        self.decision.actions.iter().filter_map(move |action| {
            let (token, end) = match action {
                Action::CloseAttempt(end) => (was.token, *end),
                Action::CloseElder(end) => (elder?, *end),
                _ => return None,
            };
            // The row also remembers why an earlier attempt failed; that is not this one's.
            let died_of_it = self.decision.row.phase == Phase::Dead && end != AttemptEnd::Outrun;
            let message = if end == AttemptEnd::Failed || died_of_it {
                self.decision.row.message.as_str()
            } else {
                ""
            };
            Some((token, end, message))
        })
    }
}

async fn open_attempts(tx: &mut Tx, changes: &[Change<'_>]) -> Result<(), CoordinatorError> {
    let opened = changes
        .iter()
        .filter_map(|change| match &change.decision.row.phase {
            Phase::Leased { session, .. } if change.decision.actions.contains(&Action::OpenAttempt) => {
                Some(json!({
                    "task": change.task.id.as_str(),
                    "token": change.decision.row.token.0,
                    "session": session.as_str(),
                }))
            }
            _ => None,
        });
    let opened: Vec<_> = opened.collect();
    if !opened.is_empty() {
        query_over!(
            opened,
            ["INSERT INTO attempt (task_id, token, session_id, leased_ms, message)
             SELECT r.value ->> 'task', CAST(r.value ->> 'token' AS BIGINT), r.value ->> 'session', $2, '' FROM "],
            []
        )
        .bind(tx.now_ms)
        .execute(&mut tx.connection)
        .await?;
    }
    Ok(())
}

async fn close_attempts(tx: &mut Tx, changes: &[Change<'_>]) -> Result<(), CoordinatorError> {
    let closed = changes.iter().flat_map(|change| {
        let task = change.task.id.as_str();
        change.ends().map(move |(token, end, message)| {
            json!({"task": task, "token": token.0, "outcome": end.as_str(), "message": message})
        })
    });
    let closed: Vec<_> = closed.collect();
    if !closed.is_empty() {
        query_over!(
            closed,
            ["UPDATE attempt SET ended_ms = $2, outcome = r.value ->> 'outcome', message = r.value ->> 'message' FROM "],
            [" WHERE attempt.task_id = r.value ->> 'task' AND attempt.token = CAST(r.value ->> 'token' AS BIGINT)"]
        )
        .bind(tx.now_ms)
        .execute(&mut tx.connection)
        .await?;
    }
    Ok(())
}
