//! Task rows as they are read: some by their ids, and those that are lost or get no further.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::{
    Checkpoint, ContentHash, JobId, LeaseToken, SessionId, TaskId, TaskKind, TaskSpec, TaskState, WorkerId,
};
use remaster_proto::from_json;
use serde_json::json;
use tracing::{Span, info_span};

use super::Tx;
use super::sql::{Connection, Row, query, query_over};
use crate::CoordinatorError;
use crate::state::{Elder, Phase, TaskRow};

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

    /// What every line about a lease says, from its grant to its end.
    pub(crate) fn span(&self, token: LeaseToken, worker: &WorkerId) -> Span {
        // Tokens rise by one at every lease, as attempts do.
        let (job, task, name) = (&self.job, &self.id, &self.name);
        info_span!("lease", %job, %task, name, attempt = token.0, %worker)
    }
}

/// A task that somebody works on.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Which.
    pub(crate) task: StoredTask,
    /// When its attempt last got further.
    pub(crate) moved_ms: i64,
    /// How far it is, for people.
    pub(crate) at: String,
}

/// Columns of [`StoredTask`], in every query that makes one.
macro_rules! task_columns {
    () => {
        "id, job_id, name, gate, kind, spec, state, token, attempt, errors, losses, not_before_ms, expires_ms, \
         session_id, elder_token, elder_session, elder_expires_ms, checkpoint_sha256, checkpoint_step, message"
    };
}
pub(crate) use task_columns;

/// Whether an earlier attempt at a task still goes on beside its newest. The state is told in such a way that no planner can
/// take it for a better way in than the index of those few.
macro_rules! has_elder {
    () => {
        "elder_token IS NOT NULL AND state || '' IN ('ready', 'leased')"
    };
}
pub(crate) use has_elder;

/// Whether the job of a row may be led on by a coordinator of a version. The end of a task may ask for what follows, which
/// only such a one knows.
macro_rules! led_here {
    ($row:literal, $version:literal) => {
        concat!(
            "COALESCE((SELECT turn.version FROM turn WHERE turn.job_id = ",
            $row,
            ".job_id), 2) <= ",
            $version
        )
    };
}

pub(crate) use led_here;

/// Reads one task.
pub(crate) async fn load_task(
    connection: &mut Connection,
    id: &TaskId,
) -> Result<StoredTask, CoordinatorError> {
    let mut tasks = load_tasks(connection, BTreeSet::from([id])).await?;
    tasks
        .remove(id)
        .ok_or_else(|| CoordinatorError::NotFound(format!("there is no task {id}")))
}

/// Reads the tasks that there are among these.
pub(crate) async fn load_tasks(
    connection: &mut Connection,
    ids: BTreeSet<&TaskId>,
) -> Result<BTreeMap<TaskId, StoredTask>, CoordinatorError> {
    let rows = query_over!(
        ids.iter().map(|id| json!({"id": id.as_str()})).collect(),
        (id TEXT),
        ["SELECT ", task_columns!(), " FROM task WHERE id IN (SELECT r.id FROM "],
        [")"]
    )
    .rows(connection)
    .await?;
    let tasks = rows
        .iter()
        .map(|row| stored(row).map(|task| (task.id.clone(), task)));
    tasks.collect()
}

/// Reads what commits name: the tasks that there are, and of the sessions that there are whose each is and how often it failed
/// in a row.
pub(crate) async fn load_named(
    tx: &mut Tx,
    names: &[(&SessionId, &TaskId)],
) -> Result<(BTreeMap<TaskId, StoredTask>, BTreeMap<SessionId, (WorkerId, u32)>), CoordinatorError> {
    let rows = query_over!(
        names.iter().map(|(session, task)| json!({"of_session": session.as_str(), "of_task": task.as_str()})).collect(),
        (of_session TEXT, of_task TEXT),
        [
            "SELECT of_session, (SELECT s.worker_id || ' ' || s.failures FROM session s WHERE s.id = of_session) AS worker, ",
            task_columns!(),
            " FROM "
        ],
        [" LEFT JOIN task ON task.id = r.of_task"]
    )
    .rows(&mut tx.connection)
    .await?;
    let (mut tasks, mut sessions) = (BTreeMap::new(), BTreeMap::new());
    for row in &rows {
        if let Some(words) = row.get::<Option<String>>("worker")? {
            let session = known("session_id", &row.get::<String>("of_session")?)?;
            let (worker, failures) = words.split_once(' ').unwrap_or_default();
            let failures = failures.parse().map_err(|_| damaged("failures", failures))?;
            sessions.insert(session, (known("worker_id", worker)?, failures));
        }
        if row.get::<Option<String>>("id")?.is_some() {
            let task = stored(row)?;
            tasks.insert(task.id.clone(), task);
        }
    }
    Ok((tasks, sessions))
}

/// Tasks of whose attempts one is past its deadline, soonest first.
pub(crate) async fn expired(tx: &mut Tx, limit: u32) -> Result<Vec<StoredTask>, CoordinatorError> {
    let rows = query(concat!(
        "SELECT ",
        task_columns!(),
        " FROM task WHERE state = 'leased' AND expires_ms <= $1 AND ",
        led_here!("task", "$3"),
        " ORDER BY expires_ms LIMIT $2"
    ))
    .bind(tx.now_ms)
    .bind(i64::from(limit))
    .bind(tx.specs.version())
    .rows(&mut tx.connection)
    .await?;
    let elders = query(concat!(
        "SELECT ",
        task_columns!(),
        " FROM task WHERE ",
        has_elder!(),
        " AND elder_expires_ms <= $1 AND ",
        led_here!("task", "$3"),
        " ORDER BY elder_expires_ms LIMIT $2"
    ))
    .bind(tx.now_ms)
    .bind(i64::from(limit))
    .bind(tx.specs.version())
    .rows(&mut tx.connection)
    .await?;
    // Both attempts of a task may be: then one of them is decided on now and the other at the next look.
    let tasks = elders.iter().chain(&rows).map(stored);
    let mut tasks = tasks.collect::<Result<Vec<_>, _>>()?;
    let mut seen = BTreeSet::new();
    tasks.retain(|task| seen.insert(task.id.clone()));
    Ok(tasks)
}

/// Tasks that somebody works on, those first that have stood longest.
pub(crate) async fn leased_since(tx: &mut Tx, limit: u32) -> Result<Vec<Standing>, CoordinatorError> {
    let rows = query(concat!(
        "SELECT ",
        task_columns!(),
        ", moved_ms, done, total, note FROM (SELECT * FROM task WHERE state = 'leased'
             UNION ALL SELECT * FROM task WHERE ",
        has_elder!(),
        " AND state <> 'leased') AS held
         WHERE ",
        led_here!("held", "$2"),
        " ORDER BY moved_ms LIMIT $1"
    ))
    .bind(i64::from(limit))
    .bind(tx.specs.version())
    .rows(&mut tx.connection)
    .await?;
    let standing = rows.iter().map(|row| {
        let (done, total, note): (i64, i64, String) = (row.get("done")?, row.get("total")?, row.get("note")?);
        Ok(Standing {
            task: stored(row)?,
            moved_ms: row.get("moved_ms")?,
            at: format!("at {done} of {total}: {note}"),
        })
    });
    standing.collect()
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
    let elder = match row.get::<Option<i64>>("elder_token")? {
        Some(token) => Some(Elder {
            token: LeaseToken(token),
            session: known("elder_session", &text("elder_session")?)?,
            expires_ms: number("elder_expires_ms")?,
        }),
        None => None,
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
            elder,
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
