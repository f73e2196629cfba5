//! What is counted for metrics.

use super::sql::{Connection, Statement, query};
use crate::CoordinatorError;

/// Numbers with the labels they are shown under.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Tasks of jobs that have not ended, by kind and state.
    pub(crate) tasks: Vec<(String, i64)>,
    /// Jobs by state.
    pub(crate) jobs: Vec<(String, i64)>,
    /// Ended attempts by outcome.
    pub(crate) attempts: Vec<(String, i64)>,
    /// Age of the oldest ready task by kind.
    pub(crate) oldest_ready_seconds: Vec<(String, i64)>,
    /// Sessions heard of lately.
    pub(crate) workers: i64,
    /// Those of them that get nothing for a while, since they failed again and again.
    pub(crate) resting: i64,
    /// Copies that are not made yet.
    pub(crate) copies: i64,
}

/// Counts.
pub(crate) async fn numbers(
    readers: &mut Connection,
    now_ms: i64,
    live_since_ms: i64,
) -> Result<Numbers, CoordinatorError> {
    let tasks = query(
        "SELECT kind, state, COUNT(*) FROM task WHERE job_id IN
             (SELECT id FROM job WHERE state IN ('running', 'paused')) GROUP BY kind, state ORDER BY kind, state",
    );
    let jobs = query("SELECT state, COUNT(*) FROM job GROUP BY state ORDER BY state");
    let attempts = query(
        "SELECT outcome, COUNT(*) FROM attempt WHERE outcome IS NOT NULL GROUP BY outcome ORDER BY outcome",
    );
    let oldest = query(
        "SELECT kind, ($1 - MIN(not_before_ms)) / 1000 FROM task WHERE state = 'ready' AND not_before_ms <= $1
         GROUP BY kind ORDER BY kind",
    )
    .bind(now_ms);
    let workers = query("SELECT COUNT(*) FROM session WHERE seen_ms >= $1").bind(live_since_ms);
    let resting = query("SELECT COUNT(*) FROM session WHERE seen_ms >= $1 AND rests_until_ms > $2")
        .bind(live_since_ms)
        .bind(now_ms);
    let copies = query("SELECT COUNT(*) FROM object_copy WHERE done_ms IS NULL");
    Ok(Numbers {
        tasks: labelled(readers, tasks, &["kind", "state"]).await?,
        jobs: labelled(readers, jobs, &["state"]).await?,
        attempts: labelled(readers, attempts, &["outcome"]).await?,
        oldest_ready_seconds: labelled(readers, oldest, &["kind"]).await?,
        workers: workers.one(readers).await?,
        resting: resting.one(readers).await?,
        copies: copies.one(readers).await?,
    })
}

async fn labelled(
    readers: &mut Connection,
    statement: Statement,
    names: &[&str],
) -> Result<Vec<(String, i64)>, CoordinatorError> {
    let mut rows = vec![];
    for row in &statement.rows(readers).await? {
        let mut labels = vec![];
        for (place, name) in names.iter().enumerate() {
            labels.push(format!("{name}=\"{}\"", row.at::<String>(place)?));
        }
        rows.push((format!("{{{}}}", labels.join(",")), row.at(names.len())?));
    }
    Ok(rows)
}
