//! What has happened to one task, in order: its attempts with who made them and how they ended, and what was done to its job.
//! Reads only.

use remaster_domain::JobId;

use super::sql::{Connection, query};
use crate::CoordinatorError;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HistoryRow {
    /// When.
    pub(crate) at_ms: i64,
    /// A word: `leased`, how an attempt ended, what was done to the job.
    pub(crate) what: String,
    /// Name of the worker whose attempt it was; empty for the rest.
    pub(crate) worker: String,
    /// Why, or what more there is to say.
    pub(crate) detail: String,
}

/// The history of a task of a job by its name, oldest first.
///
/// # Errors
/// [`CoordinatorError::NotFound`] when the job has no such task.
pub(crate) async fn history(
    readers: &mut Connection,
    job: &JobId,
    name: &str,
) -> Result<Vec<HistoryRow>, CoordinatorError> {
    let task: String = query("SELECT id FROM task WHERE job_id = $1 AND name = $2")
        .bind(job.as_str())
        .bind(name)
        .row(readers)
        .await?
        .ok_or_else(|| CoordinatorError::NotFound(format!("job {job} has no task `{name}`")))?
        .at(0)?;
    // Stable: of one time, what was done to the job comes before an attempt, and what that led to after it.
    let mut history = events(readers, job, None).await?;
    history.extend(attempts(readers, &task).await?);
    history.extend(events(readers, job, Some(&task)).await?);
    history.sort_by_key(|row| row.at_ms);
    Ok(history)
}

async fn attempts(readers: &mut Connection, task: &str) -> Result<Vec<HistoryRow>, CoordinatorError> {
    let rows = query(
        "SELECT a.leased_ms, a.ended_ms, a.outcome, a.message, w.name FROM attempt a
             LEFT JOIN session s ON s.id = a.session_id LEFT JOIN worker w ON w.id = s.worker_id
         WHERE a.task_id = $1 ORDER BY a.token",
    )
    .bind(task)
    .rows(readers)
    .await?;
    let mut history = vec![];
    for row in &rows {
        let worker = row.get::<Option<String>>("name")?.unwrap_or_default();
        history.push(HistoryRow {
            at_ms: row.get("leased_ms")?,
            what: "leased".to_owned(),
            worker: worker.clone(),
            detail: String::new(),
        });
        if let Some(at_ms) = row.get::<Option<i64>>("ended_ms")? {
            history.push(HistoryRow {
                at_ms,
                what: row.get::<Option<String>>("outcome")?.unwrap_or_default(),
                worker,
                detail: row.get("message")?,
            });
        }
    }
    Ok(history)
}

/// Events of a task that its attempts do not tell, or those of its job as a whole.
async fn events(
    readers: &mut Connection,
    job: &JobId,
    task: Option<&str>,
) -> Result<Vec<HistoryRow>, CoordinatorError> {
    let rows = query(
        "SELECT at_ms, what, detail FROM event
         WHERE job_id = $1 AND COALESCE(task_id, '') = $2 AND what NOT IN ('lost', 'stalled') ORDER BY id",
    )
    .bind(job.as_str())
    .bind(task.unwrap_or(""))
    .rows(readers)
    .await?;
    let events = rows.iter().map(|row| {
        Ok(HistoryRow {
            at_ms: row.get("at_ms")?,
            what: row.get("what")?,
            worker: String::new(),
            detail: row.get("detail")?,
        })
    });
    events.collect::<Result<_, sqlx::Error>>().map_err(Into::into)
}
