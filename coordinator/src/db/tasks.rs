//! Task rows: reading one, applying a decision to one by compare-and-set, and finding those that can be leased or are lost.

use remaster_domain::{
    Checkpoint, ContentHash, JobId, LeaseToken, Progress, SessionId, TaskId, TaskKind, TaskSpec, TaskState,
};
use remaster_proto::from_json;

use super::Tx;
use super::sql::{Connection, Row, query};
use crate::CoordinatorError;
use crate::state::{Action, AttemptEnd, Decision, Phase, TaskRow};

/// A task as the database has it.
#[derive(Debug, Clone)]
pub(crate) struct StoredTask {
    /// Id.
    pub(crate) id: TaskId,
    /// Its job.
    pub(crate) job: JobId,
    /// Unique in the job.
    pub(crate) name: String,
    /// What waits for it with others.
    pub(crate) gate: String,
    /// Kind.
    pub(crate) kind: TaskKind,
    /// Spec as JSON.
    pub(crate) spec_json: String,
    /// What decides over it.
    pub(crate) row: TaskRow,
}

impl StoredTask {
    /// The spec as a value.
    pub(crate) fn spec(&self) -> Result<TaskSpec, CoordinatorError> {
        Ok(from_json("task.spec", &self.spec_json)?)
    }
}

/// Columns of [`StoredTask`], in every query that makes one.
macro_rules! task_columns {
    () => {
        "id, job_id, name, gate, kind, spec, state, token, attempt, errors, losses, not_before_ms, expires_ms, \
         session_id, checkpoint_sha256, checkpoint_step, message"
    };
}
pub(crate) use task_columns;

/// Reads one task.
pub(crate) async fn load_task(
    connection: &mut Connection,
    id: &TaskId,
) -> Result<StoredTask, CoordinatorError> {
    query(concat!("SELECT ", task_columns!(), " FROM task WHERE id = $1"))
        .bind(id.as_str())
        .row(connection)
        .await?
        .map(|row| stored(&row))
        .ok_or_else(|| CoordinatorError::NotFound(format!("there is no task {id}")))?
}

/// The next ready tasks of a job in creation order, of the kinds given, that may be tried now.
pub(crate) async fn next_ready(
    tx: &mut Tx,
    job: &JobId,
    kinds: &[TaskKind],
    limit: u32,
) -> Result<Vec<StoredTask>, CoordinatorError> {
    // `kind || ''` keeps the planner on the index of ready rows in creation order, where it stops at the limit.
    let mut statement = query(concat!(
        "SELECT ",
        task_columns!(),
        " FROM task WHERE job_id = $1 AND state = 'ready' AND not_before_ms <= $2",
        " AND (kind || '') IN ($4, $5, $6, $7, $8, $9, $10, $11, $12) ORDER BY id LIMIT $3"
    ))
    .bind(job.as_str())
    .bind(tx.now_ms)
    .bind(i64::from(limit));
    for place in 0..TaskKind::ALL.len() {
        statement = statement.bind(kinds.get(place).map_or("", |kind| kind.as_str()));
    }
    let rows = statement.rows(&mut tx.connection).await?;
    rows.iter().map(stored).collect()
}

/// Leased tasks whose deadline is past, soonest first.
pub(crate) async fn expired(tx: &mut Tx, limit: u32) -> Result<Vec<StoredTask>, CoordinatorError> {
    let rows = query(concat!(
        "SELECT ",
        task_columns!(),
        " FROM task WHERE state = 'leased' AND expires_ms <= $1 ORDER BY expires_ms LIMIT $2"
    ))
    .bind(tx.now_ms)
    .bind(i64::from(limit))
    .rows(&mut tx.connection)
    .await?;
    rows.iter().map(stored).collect()
}

/// Leased tasks with the time at which each last got further, those first that have stood longest.
pub(crate) async fn leased_since(
    tx: &mut Tx,
    limit: u32,
) -> Result<Vec<(StoredTask, i64)>, CoordinatorError> {
    let rows = query(concat!(
        "SELECT ",
        task_columns!(),
        ", moved_ms FROM task WHERE state = 'leased' ORDER BY moved_ms LIMIT $1"
    ))
    .bind(i64::from(limit))
    .rows(&mut tx.connection)
    .await?;
    rows.iter()
        .map(|row| Ok((stored(row)?, row.get("moved_ms")?)))
        .collect()
}

/// Makes a decision true, and keeps the result where there is one: only if the row still is as it was when it was decided.
pub(crate) async fn apply(
    tx: &mut Tx,
    task: &StoredTask,
    decision: &Decision,
    result_json: Option<&str>,
) -> Result<(), CoordinatorError> {
    let next = &decision.row;
    let (not_before_ms, expires_ms, session) = match &next.phase {
        Phase::Ready { not_before_ms } => (*not_before_ms, 0, None),
        Phase::Leased { session, expires_ms } => (0, *expires_ms, Some(session.as_str())),
        Phase::Committed | Phase::Dead | Phase::Cancelled => (0, 0, None),
    };
    let ended_ms = match next.phase {
        Phase::Committed | Phase::Dead | Phase::Cancelled => Some(tx.now_ms),
        _ => None,
    };
    let started_ms = decision
        .actions
        .contains(&Action::OpenAttempt)
        .then_some(tx.now_ms);
    let changed = query(
        "UPDATE task SET state = $1, token = $2, attempt = $3, errors = $4, losses = $5, not_before_ms = $6,
             expires_ms = $7, session_id = $8, checkpoint_sha256 = $9, checkpoint_step = $10, message = $11,
             started_ms = COALESCE(started_ms, $12), ended_ms = $13,
             result = COALESCE($14, result), moved_ms = COALESCE($12, moved_ms)
         WHERE id = $15 AND state = $16 AND token = $17",
    )
    .bind(next.phase.state().as_str())
    .bind(next.token.0)
    .bind(i64::from(next.attempt))
    .bind(i64::from(next.errors))
    .bind(i64::from(next.losses))
    .bind(not_before_ms)
    .bind(expires_ms)
    .bind(session)
    .bind(next.checkpoint.as_ref().map(|c| c.sha256.as_str()))
    .bind(next.checkpoint.as_ref().map(|c| as_i64(c.step)))
    .bind(&next.message)
    .bind(started_ms)
    .bind(ended_ms)
    .bind(result_json)
    .bind(task.id.as_str())
    .bind(task.row.phase.state().as_str())
    .bind(task.row.token.0)
    .execute(&mut tx.connection)
    .await?;
    if changed != 1 {
        return Err(CoordinatorError::Unavailable(format!(
            "task {} changed meanwhile",
            task.id
        )));
    }
    note_attempt(tx, task, decision).await
}

/// Keeps how far an attempt says it is, and when it last said something new.
pub(crate) async fn note_progress(
    tx: &mut Tx,
    task: &TaskId,
    progress: &Progress,
) -> Result<(), CoordinatorError> {
    query(
        "UPDATE task SET done = $1, total = $2, note = $3,
             moved_ms = CASE WHEN done <> $1 OR total <> $2 OR note <> $3 THEN $5 ELSE moved_ms END WHERE id = $4",
    )
        .bind(as_i64(progress.done))
        .bind(as_i64(progress.total))
        .bind(&progress.note)
        .bind(task.as_str())
        .bind(tx.now_ms)
        .execute(&mut tx.connection)
        .await?;
    Ok(())
}

/// Keeps the history of attempts and what it means for those who wait.
async fn note_attempt(tx: &mut Tx, task: &StoredTask, decision: &Decision) -> Result<(), CoordinatorError> {
    for action in &decision.actions {
        match action {
            Action::OpenAttempt => {
                let Phase::Leased { session, .. } = &decision.row.phase else {
                    continue;
                };
                query(
                    "INSERT INTO attempt (task_id, token, session_id, leased_ms, message) VALUES ($1, $2, $3, $4, '')",
                )
                .bind(task.id.as_str())
                .bind(decision.row.token.0)
                .bind(session.as_str())
                .bind(tx.now_ms)
                .execute(&mut tx.connection)
                .await?;
            }
            Action::CloseAttempt(end) => {
                // The row also remembers why an earlier attempt failed; that is not this one's.
                let is_reason = *end == AttemptEnd::Failed || decision.row.phase == Phase::Dead;
                let message = if is_reason {
                    decision.row.message.as_str()
                } else {
                    ""
                };
                query(
                    "UPDATE attempt SET ended_ms = $1, outcome = $2, message = $3 WHERE task_id = $4 AND token = $5",
                )
                .bind(tx.now_ms)
                .bind(end.as_str())
                .bind(message)
                .bind(task.id.as_str())
                .bind(task.row.token.0)
                .execute(&mut tx.connection)
                .await?;
            }
            Action::Offer { at_ms } => tx.effects.offers.push((task.kind, *at_ms)),
            // The caller's: they change more than this row.
            Action::StoreResult | Action::Bury => {}
        }
    }
    Ok(())
}

/// Reads the columns of [`task_columns`].
pub(crate) fn stored(row: &Row) -> Result<StoredTask, CoordinatorError> {
    let text = |column| row.get::<String>(column);
    let number = |column| row.get::<i64>(column);
    let checkpoint = match row.get::<Option<String>>("checkpoint_sha256")? {
        Some(sha256) => Some(Checkpoint {
            sha256: known::<ContentHash>("checkpoint_sha256", &sha256)?,
            step: row.get::<Option<i64>>("checkpoint_step")?.map_or(0, as_u64),
        }),
        None => None,
    };
    let state = text("state")?;
    let phase = match TaskState::parse(&state).ok_or_else(|| damaged("state", &state))? {
        TaskState::Ready => Phase::Ready {
            not_before_ms: number("not_before_ms")?,
        },
        TaskState::Leased => Phase::Leased {
            session: known::<SessionId>("session_id", &text("session_id")?)?,
            expires_ms: number("expires_ms")?,
        },
        TaskState::Committed => Phase::Committed,
        TaskState::Dead => Phase::Dead,
        TaskState::Cancelled => Phase::Cancelled,
    };
    let kind = text("kind")?;
    Ok(StoredTask {
        id: known("id", &text("id")?)?,
        job: known("job_id", &text("job_id")?)?,
        name: text("name")?,
        gate: text("gate")?,
        kind: TaskKind::parse(&kind).ok_or_else(|| damaged("kind", &kind))?,
        spec_json: text("spec")?,
        row: TaskRow {
            token: LeaseToken(number("token")?),
            attempt: as_u32(number("attempt")?),
            errors: as_u32(number("errors")?),
            losses: as_u32(number("losses")?),
            checkpoint,
            message: text("message")?,
            phase,
        },
    })
}

/// A value that only this crate writes; when it does not parse, the file is damaged or from another version.
pub(crate) fn known<T: std::str::FromStr>(column: &'static str, text: &str) -> Result<T, CoordinatorError> {
    text.parse().map_err(|_| damaged(column, text))
}

/// Says which column holds something that nobody here wrote.
pub(crate) fn damaged(column: &'static str, text: &str) -> CoordinatorError {
    CoordinatorError::Unavailable(format!("database: column {column} holds `{text}`"))
}

/// Counts are far below 2^63; a larger one is shown as the largest.
pub(crate) fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Counts are never negative in the database.
pub(crate) fn as_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Counts are never negative in the database.
pub(crate) fn as_u32(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
