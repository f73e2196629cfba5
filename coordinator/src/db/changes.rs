//! Makes decisions over tasks true: all of a transaction's group in a handful of statements, each row by compare-and-set.
//!
//! Promises: a row that is not as it was when it was decided fails the whole group, so that nothing is done by halves;
//! the history of attempts says the same as the rows. Left to others: deciding, and what follows from a result.

use remaster_domain::{LeaseToken, Progress};
use serde_json::json;

use super::Tx;
use super::fleet::{SessionRow, noted_holds};
use super::sql::{Statement, query_over};
use super::tasks::{StoredTask, as_i64};
use super::turns::written_down;
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
    apply_all_beside(tx, changes, vec![]).await
}

/// Makes leases true, and with them whose turn it is next and what the sessions that took them hold.
pub(crate) async fn apply_leases(
    tx: &mut Tx,
    changes: &[Change<'_>],
    takers: impl Iterator<Item = &SessionRow>,
) -> Result<(), CoordinatorError> {
    let turns = tx.queue.as_mut().and_then(written_down);
    let others = turns.into_iter().chain(noted_holds(takers));
    apply_all_beside(tx, changes, others.collect()).await
}

/// The same with what belongs to it in other tables.
pub(crate) async fn apply_all_beside(
    tx: &mut Tx,
    changes: &[Change<'_>],
    mut others: Vec<Statement>,
) -> Result<(), CoordinatorError> {
    if changes.is_empty() {
        return Ok(());
    }
    let now_ms = tx.now_ms;
    others.extend(opened_attempts(changes, now_ms));
    others.extend(closed_attempts(changes, now_ms));
    let changed = query_over!(
        changes.iter().map(|change| change.row(now_ms)).collect(),
        (id TEXT, was TEXT, held BIGINT, state TEXT, token BIGINT, attempt BIGINT, errors BIGINT, losses BIGINT,
         not_before_ms BIGINT, expires_ms BIGINT, session TEXT, elder_token BIGINT, elder_session TEXT,
         elder_expires_ms BIGINT, sha256 TEXT, step BIGINT, message TEXT, started_ms BIGINT, ended_ms BIGINT, result TEXT,
         done BIGINT, total BIGINT, note TEXT),
        ["UPDATE task SET state = r.state, token = r.token, attempt = r.attempt, errors = r.errors, losses = r.losses,
             not_before_ms = r.not_before_ms, expires_ms = r.expires_ms, session_id = r.session,
             elder_token = r.elder_token, elder_session = r.elder_session, elder_expires_ms = r.elder_expires_ms,
             checkpoint_sha256 = r.sha256, checkpoint_step = r.step, message = r.message,
             started_ms = COALESCE(task.started_ms, r.started_ms), ended_ms = r.ended_ms,
             result = COALESCE(r.result, task.result),
             moved_ms = CASE WHEN r.started_ms IS NOT NULL OR task.done <> r.done OR task.total <> r.total
                     OR task.note <> r.note THEN $2 ELSE task.moved_ms END,
             done = COALESCE(r.done, task.done), total = COALESCE(r.total, task.total), note = COALESCE(r.note, task.note)
         FROM "],
        [" WHERE task.id = r.id AND task.state = r.was AND task.token = r.held"]
    )
    .bind(now_ms)
    .execute_beside(others, &mut tx.connection)
    .await?;
    if usize::try_from(changed) != Ok(changes.len()) {
        let names: Vec<_> = changes.iter().map(|change| change.task.id.as_str()).collect();
        return Err(CoordinatorError::Unavailable(format!(
            "of the tasks {} some changed meanwhile: try again",
            names.join(", ")
        )));
    }
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

fn opened_attempts(changes: &[Change<'_>], now_ms: i64) -> Option<Statement> {
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
    (!opened.is_empty()).then(|| {
        query_over!(
            opened,
            (task TEXT, token BIGINT, session TEXT),
            ["INSERT INTO attempt (task_id, token, session_id, leased_ms, message)
             SELECT r.task, r.token, r.session, $2, '' FROM "],
            []
        )
        .bind(now_ms)
    })
}

fn closed_attempts(changes: &[Change<'_>], now_ms: i64) -> Option<Statement> {
    let closed = changes.iter().flat_map(|change| {
        let task = change.task.id.as_str();
        change.ends().map(move |(token, end, message)| {
            json!({"task": task, "token": token.0, "outcome": end.as_str(), "message": message})
        })
    });
    let closed: Vec<_> = closed.collect();
    (!closed.is_empty()).then(|| {
        query_over!(
            closed,
            (task TEXT, token BIGINT, outcome TEXT, message TEXT),
            ["UPDATE attempt SET ended_ms = $2, outcome = r.outcome, message = r.message FROM "],
            [" WHERE attempt.task_id = r.task AND attempt.token = r.token"]
        )
        .bind(now_ms)
    })
}
