//! Finds what can be leased: the next ready tasks of several jobs at once, each job's in creation order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use remaster_domain::{JobId, TaskKind};
use serde_json::json;

use super::Tx;
use super::sql::{query, query_over};
use super::tasks::{StoredTask, stored, task_columns};
use crate::CoordinatorError;

/// What some sessions take alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Taken {
    /// Kinds.
    pub(crate) kinds: Vec<TaskKind>,
    /// Which of the needs that tasks have they meet.
    pub(crate) needs: BTreeSet<String>,
}

/// Tasks of a job that are looked at beyond those wanted, for one that its worker would rather take.
pub(crate) const LOOK_AHEAD: usize = 8;

/// Every need that any task has had.
pub(crate) async fn all_needs(tx: &mut Tx) -> Result<Vec<String>, CoordinatorError> {
    Ok(query("SELECT needs FROM need").column(&mut tx.connection).await?)
}

/// The next ready tasks of each job, a few more than are wanted of it, of those that are taken and may be tried now.
pub(crate) async fn next_ready(
    tx: &mut Tx,
    wanted: &BTreeMap<JobId, usize>,
    taken: &Taken,
) -> Result<BTreeMap<JobId, VecDeque<StoredTask>>, CoordinatorError> {
    // Each between marks of its own, so that replacing finds whole words, whatever letters they have.
    let kinds: String = taken
        .kinds
        .iter()
        .map(|kind| format!("[{}]", kind.as_str()))
        .collect();
    let needs: String = taken.needs.iter().map(|needs| format!("[{needs}]")).collect();
    let rows = wanted
        .iter()
        .map(|(job, wanted)| json!({"job": job.as_str(), "wanted": wanted + LOOK_AHEAD}))
        .collect();
    // Steps from task to task along the index of ready rows, so that it reads what it answers and no more, however long
    // the queue is. The tests of kind and needs are such that no planner can take them for a better way in. Joined by CROSS,
    // which SQLite takes in this order, and sorted here: it would walk all tasks in the order of their ids instead.
    let rows = query_over!(
        rows,
        ["WITH RECURSIVE pick (of_job, found, wanted) AS (
             SELECT r.value ->> 'job', (SELECT t.id FROM task t WHERE t.job_id = r.value ->> 'job'
                     AND t.state = 'ready' AND t.not_before_ms <= $2 AND REPLACE($3, '[' || t.kind || ']', '') <> $3
                     AND (t.needs = '' OR REPLACE($4, '[' || t.needs || ']', '') <> $4)
                     ORDER BY t.id LIMIT 1), CAST(r.value ->> 'wanted' AS BIGINT)
             FROM "],
        [
            " UNION ALL
             SELECT p.of_job, (SELECT t.id FROM task t WHERE t.job_id = p.of_job AND t.id > p.found
                     AND t.state = 'ready' AND t.not_before_ms <= $2 AND REPLACE($3, '[' || t.kind || ']', '') <> $3
                     AND (t.needs = '' OR REPLACE($4, '[' || t.needs || ']', '') <> $4)
                     ORDER BY t.id LIMIT 1), p.wanted - 1
             FROM pick p WHERE p.wanted > 1 AND p.found IS NOT NULL)
         SELECT ",
            task_columns!(),
            " FROM pick CROSS JOIN task WHERE task.id = pick.found"
        ]
    )
    .bind(tx.now_ms)
    .bind(kinds)
    .bind(needs)
    .rows(&mut tx.connection)
    .await?;
    let mut ready: BTreeMap<JobId, VecDeque<StoredTask>> = BTreeMap::new();
    let mut tasks = rows.iter().map(stored).collect::<Result<Vec<_>, _>>()?;
    tasks.sort_by(|a, b| a.id.cmp(&b.id));
    for task in tasks {
        ready.entry(task.job.clone()).or_default().push_back(task);
    }
    Ok(ready)
}
