//! Finds attempts that have run for long at the end of their job, and how long others took.

use remaster_domain::{JobId, TaskKind};

use super::Tx;
use super::sql::query;
use super::tasks::{StoredTask, led_here, stored, task_columns};
use crate::CoordinatorError;

/// Attempts of one look, those first that began first; there are as many as workers at most.
const LOOKED_AT: i64 = 64;
/// Committed tasks whose times are compared, of however many there are.
const COMPARED: i64 = 1_001;

/// Attempts that began before a time, with when each did, of jobs of which nothing else waits for a worker; oldest first.
pub(crate) async fn last_attempts(
    tx: &mut Tx,
    began_before_ms: i64,
) -> Result<Vec<(StoredTask, i64)>, CoordinatorError> {
    let rows = query(concat!(
        "SELECT ",
        task_columns!(),
        ", (SELECT leased_ms FROM attempt WHERE attempt.task_id = task.id AND attempt.token = task.token) AS began_ms
         FROM task WHERE state = 'leased' AND elder_token IS NULL AND started_ms <= $1
             AND kind NOT IN ('train', 'publish') AND ",
        led_here!("task", "$3"),
        "
             AND NOT EXISTS (SELECT 1 FROM task other WHERE other.job_id = task.job_id AND other.state = 'ready'
                 AND other.elder_token IS NULL)
         ORDER BY started_ms LIMIT $2"
    ))
    .bind(began_before_ms)
    .bind(LOOKED_AT)
    .bind(tx.specs.version())
    .rows(&mut tx.connection)
    .await?;
    let tasks = rows
        .iter()
        .map(|row| Ok((stored(row)?, row.get::<Option<i64>>("began_ms")?)));
    let tasks: Vec<_> = tasks.collect::<Result<_, CoordinatorError>>()?;
    let began = tasks
        .into_iter()
        .filter_map(|(task, began_ms)| Some((task, began_ms?)));
    Ok(began
        .filter(|(_, began_ms)| *began_ms <= began_before_ms)
        .collect())
}

/// What committed tasks of a kind took in a job, in milliseconds.
pub(crate) async fn times_ms(tx: &mut Tx, job: &JobId, kind: TaskKind) -> Result<Vec<i64>, CoordinatorError> {
    Ok(query(
        "SELECT ended_ms - started_ms FROM task
         WHERE job_id = $1 AND kind = $2 AND state = 'committed' AND started_ms IS NOT NULL LIMIT $3",
    )
    .bind(job.as_str())
    .bind(kind.as_str())
    .bind(COMPARED)
    .column(&mut tx.connection)
    .await?)
}
