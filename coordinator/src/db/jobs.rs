//! Job rows: submitting, steering, ending.

use std::collections::BTreeSet;

use remaster_domain::{ContentHash, JobId, JobSpec, JobState};
use remaster_proto::{from_json, to_json};
use serde_json::json;

use super::changes::{Change, apply, apply_all};
use super::sql::{Connection, Row, query, query_over};
use super::tasks::{as_u32, damaged, known, stored, task_columns};
use super::{Tx, advance};
use crate::CoordinatorError;
use crate::flow::{self, NewTask};
use crate::needs::version_of;
use crate::state::{TaskEvent, decide};

/// Tasks of one statement when all dead ones of a job are put back.
const RETRIED_AT_ONCE: usize = 1_000;

/// A job as the database has it.
#[derive(Debug, Clone)]
pub(crate) struct JobRow {
    /// Id.
    pub(crate) id: JobId,
    /// What was asked, as JSON.
    pub(crate) spec_json: String,
    /// State.
    pub(crate) state: JobState,
    /// Higher goes first.
    pub(crate) priority: i64,
    /// When it was submitted.
    pub(crate) created_ms: i64,
    /// When it ended.
    pub(crate) ended_ms: Option<i64>,
    /// The protocol version that its coordinator must speak.
    pub(crate) version: u32,
}

impl JobRow {
    /// The spec as a value.
    pub(crate) fn spec(&self) -> Result<JobSpec, CoordinatorError> {
        Ok(from_json("job.spec", &self.spec_json)?)
    }
}

macro_rules! job_columns {
    () => {
        "id, state, priority, created_ms, ended_ms, spec,
         COALESCE((SELECT turn.version FROM turn WHERE turn.job_id = job.id), 2) AS version"
    };
}

/// Reads one job.
pub(crate) async fn load_job(
    connection: &mut Connection,
    id: &JobId,
) -> Result<Option<JobRow>, CoordinatorError> {
    query(concat!("SELECT ", job_columns!(), " FROM job WHERE id = $1"))
        .bind(id.as_str())
        .row(connection)
        .await?
        .map(|row| job_row(&row))
        .transpose()
}

/// Which of these jobs are paused, without reading their specs.
pub(crate) async fn paused(
    connection: &mut Connection,
    ids: &BTreeSet<JobId>,
) -> Result<BTreeSet<JobId>, CoordinatorError> {
    let rows = query_over!(
        ids.iter().map(|id| json!({"id": id.as_str()})).collect(),
        (id TEXT),
        ["SELECT id FROM job WHERE state = 'paused' AND id IN (SELECT r.id FROM "],
        [")"]
    );
    let paused = rows.column::<String>(connection).await?;
    paused.iter().map(|id| known("id", id)).collect()
}

/// The newest jobs.
pub(crate) async fn newest_jobs(
    connection: &mut Connection,
    limit: u32,
) -> Result<Vec<JobRow>, CoordinatorError> {
    let rows = query(concat!(
        "SELECT ",
        job_columns!(),
        " FROM job ORDER BY created_ms DESC, id DESC LIMIT $1"
    ))
    .bind(i64::from(limit))
    .rows(connection)
    .await?;
    rows.iter().map(job_row).collect()
}

/// Notes a job and makes its first tasks.
pub(crate) async fn insert_job(
    tx: &mut Tx,
    id: &JobId,
    spec: &JobSpec,
    priority: i64,
    model: Option<&ContentHash>,
    first: Vec<NewTask>,
) -> Result<(), CoordinatorError> {
    query(
        "INSERT INTO job (id, season, stage, state, priority, created_ms, model, spec)
         VALUES ($1, $2, $3, 'running', $4, $5, $6, $7)",
    )
    .bind(id.as_str())
    .bind(spec.season.name.as_str())
    .bind(spec.stage.as_str())
    .bind(priority)
    .bind(tx.now_ms)
    .bind(model.map(ContentHash::as_str))
    .bind(to_json(spec))
    .execute(&mut tx.connection)
    .await?;
    query("INSERT INTO turn (job_id, pass, leases, version) VALUES ($1, 0, 0, $2)")
        .bind(id.as_str())
        .bind(i64::from(version_of(spec)))
        .execute(&mut tx.connection)
        .await?;
    tx.requeue();
    note(tx, Some(id), None, "submitted", spec.stage.as_str()).await?;
    advance::add(tx, id, first).await
}

/// Pauses or resumes.
pub(crate) async fn set_state(tx: &mut Tx, id: &JobId, state: JobState) -> Result<(), CoordinatorError> {
    query("UPDATE job SET state = $1 WHERE id = $2")
        .bind(state.as_str())
        .bind(id.as_str())
        .execute(&mut tx.connection)
        .await?;
    tx.requeue();
    note(tx, Some(id), None, state.as_str(), "").await?;
    if state == JobState::Running {
        offer_all(tx);
    }
    Ok(())
}

/// Moves a job forwards or backwards in the queue.
pub(crate) async fn set_priority(tx: &mut Tx, id: &JobId, priority: i64) -> Result<(), CoordinatorError> {
    let changed = query("UPDATE job SET priority = $1 WHERE id = $2")
        .bind(priority)
        .bind(id.as_str())
        .execute(&mut tx.connection)
        .await?;
    if changed == 0 {
        return Err(CoordinatorError::NotFound(format!("there is no job {id}")));
    }
    tx.requeue();
    note(tx, Some(id), None, "priority", &priority.to_string()).await
}

/// Cancels a job and whatever of it has not ended.
pub(crate) async fn cancel(tx: &mut Tx, id: &JobId) -> Result<(), CoordinatorError> {
    let mut held = tasks_in(tx, id, "leased").await?;
    held.extend(tasks_with_elder(tx, id).await?);
    for task in held {
        if let Ok(decision) = decide(&task.row, TaskEvent::Cancel, tx.now_ms) {
            apply(tx, &task, &decision).await?;
        }
    }
    // What `decide` says of a row that nobody holds, for all of them at once: there may be very many.
    query("UPDATE task SET state = 'cancelled', ended_ms = $1 WHERE job_id = $2 AND state = 'ready'")
        .bind(tx.now_ms)
        .bind(id.as_str())
        .execute(&mut tx.connection)
        .await?;
    query("UPDATE job SET state = 'cancelled', ended_ms = $1 WHERE id = $2")
        .bind(tx.now_ms)
        .bind(id.as_str())
        .execute(&mut tx.connection)
        .await?;
    tx.requeue();
    note(tx, Some(id), None, "cancelled", "").await
}

/// Puts the dead tasks of a job back; answers how many there were.
pub(crate) async fn retry(tx: &mut Tx, id: &JobId) -> Result<u32, CoordinatorError> {
    let mut again = vec![];
    for task in tasks_in(tx, id, "dead").await? {
        if task.name == flow::CURATE_NAME && task.row.attempt == 0 {
            // It died because there was nothing to curate. It is made again from what there is when the others end.
            query("DELETE FROM task WHERE id = $1")
                .bind(task.id.as_str())
                .execute(&mut tx.connection)
                .await?;
        } else if let Ok(decision) = decide(&task.row, TaskEvent::Retry, tx.now_ms) {
            again.push((task, decision));
        }
    }
    for some in again.chunks(RETRIED_AT_ONCE) {
        let changes = some.iter().map(|(task, decision)| Change {
            task,
            decision,
            result_json: None,
            progress: None,
        });
        apply_all(tx, &changes.collect::<Vec<_>>()).await?;
    }
    let changed = again.len() as u32;
    if changed > 0 {
        query("UPDATE job SET state = 'running', ended_ms = NULL WHERE id = $1 AND state = 'failed'")
            .bind(id.as_str())
            .execute(&mut tx.connection)
            .await?;
        tx.requeue();
        note(tx, Some(id), None, "retried", &changed.to_string()).await?;
    }
    advance::check_pairs(tx, id).await?;
    Ok(changed)
}

/// Ends those of these jobs of which nothing is left to do and nothing to copy.
pub(crate) async fn end_done(tx: &mut Tx, ids: BTreeSet<JobId>) -> Result<(), CoordinatorError> {
    if ids.is_empty() {
        return Ok(());
    }
    let done = query_over!(
        ids.iter().map(|id| json!({"id": id.as_str()})).collect(),
        (id TEXT),
        ["SELECT r.id FROM "],
        // Not as NOT EXISTS, which a planner may turn into a join with all open tasks; in the orders of the two indexes that
        // hold open tasks alone.
        [" WHERE (SELECT t.id FROM task t WHERE t.job_id = r.id AND t.state = 'ready'
                 ORDER BY t.id LIMIT 1) IS NULL
             AND (SELECT t.id FROM task t WHERE t.job_id = r.id AND t.state = 'leased'
                 ORDER BY t.expires_ms LIMIT 1) IS NULL
             AND (SELECT 1 FROM object_copy c WHERE c.job_id = r.id AND c.done_ms IS NULL LIMIT 1) IS NULL"]
    );
    for id in done.column::<String>(&mut tx.connection).await? {
        end(tx, &known("id", &id)?).await?;
    }
    Ok(())
}

async fn end(tx: &mut Tx, id: &JobId) -> Result<(), CoordinatorError> {
    let dead: i64 = query("SELECT EXISTS (SELECT 1 FROM task WHERE job_id = $1 AND state = 'dead')")
        .bind(id.as_str())
        .one(&mut tx.connection)
        .await?;
    let state = if dead == 0 {
        JobState::Succeeded
    } else {
        JobState::Failed
    };
    let ended =
        query("UPDATE job SET state = $1, ended_ms = $2 WHERE id = $3 AND state IN ('running', 'paused')")
            .bind(state.as_str())
            .bind(tx.now_ms)
            .bind(id.as_str())
            .execute(&mut tx.connection)
            .await?;
    if ended == 1 {
        note(tx, Some(id), None, state.as_str(), "").await?;
    }
    Ok(())
}

/// Appends to the history.
pub(crate) async fn note(
    tx: &mut Tx,
    job: Option<&JobId>,
    task: Option<&remaster_domain::TaskId>,
    what: &str,
    detail: &str,
) -> Result<(), CoordinatorError> {
    query("INSERT INTO event (id, at_ms, job_id, task_id, what, detail) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(Tx::new_id().to_string())
        .bind(tx.now_ms)
        .bind(job.map(JobId::as_str))
        .bind(task.map(remaster_domain::TaskId::as_str))
        .bind(what)
        .bind(detail)
        .execute(&mut tx.connection)
        .await?;
    Ok(())
}

async fn tasks_in(
    tx: &mut Tx,
    job: &JobId,
    state: &'static str,
) -> Result<Vec<super::StoredTask>, CoordinatorError> {
    let rows = query(concat!(
        "SELECT ",
        task_columns!(),
        " FROM task WHERE job_id = $1 AND state = $2 ORDER BY id"
    ))
    .bind(job.as_str())
    .bind(state)
    .rows(&mut tx.connection)
    .await?;
    rows.iter().map(stored).collect()
}

/// Those that are offered while an elder attempt goes on.
async fn tasks_with_elder(tx: &mut Tx, job: &JobId) -> Result<Vec<super::StoredTask>, CoordinatorError> {
    let rows = query(concat!(
        "SELECT ",
        task_columns!(),
        " FROM task WHERE elder_token IS NOT NULL AND state = 'ready' AND job_id = $1 ORDER BY id"
    ))
    .bind(job.as_str())
    .rows(&mut tx.connection)
    .await?;
    rows.iter().map(stored).collect()
}

fn offer_all(tx: &mut Tx) {
    let now_ms = tx.now_ms;
    let kinds = remaster_domain::TaskKind::ALL.into_iter();
    tx.effects.offers.extend(kinds.map(|kind| (kind, now_ms)));
}

fn job_row(row: &Row) -> Result<JobRow, CoordinatorError> {
    let state: String = row.get("state")?;
    Ok(JobRow {
        id: known("id", &row.get::<String>("id")?)?,
        spec_json: row.get("spec")?,
        state: JobState::parse(&state).ok_or_else(|| damaged("state", &state))?,
        priority: row.get("priority")?,
        created_ms: row.get("created_ms")?,
        ended_ms: row.get("ended_ms")?,
        version: as_u32(row.get("version")?),
    })
}
