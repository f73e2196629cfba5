//! Finds what can be leased: the next ready tasks of several jobs at once, each job's in creation order.

use std::collections::{BTreeMap, VecDeque};

use remaster_domain::{JobId, TaskKind};
use serde_json::json;

use super::Tx;
use super::sql::query_over;
use super::tasks::{StoredTask, stored, task_columns};
use crate::CoordinatorError;

/// The next ready tasks of each job, as many as are wanted of it, of the kinds given and that may be tried now.
pub(crate) async fn next_ready(
    tx: &mut Tx,
    wanted: &BTreeMap<JobId, usize>,
    kinds: &[TaskKind],
) -> Result<BTreeMap<JobId, VecDeque<StoredTask>>, CoordinatorError> {
    let kinds: String = kinds.iter().map(|kind| format!(",{},", kind.as_str())).collect();
    let rows = wanted
        .iter()
        .map(|(job, wanted)| json!({"job": job.as_str(), "wanted": wanted}))
        .collect();
    // Steps from task to task along the index of ready rows, so that it reads what it answers and no more, however long
    // the queue is. The test of the kind is one that no planner can take for a better way in.
    let rows = query_over!(
        rows,
        ["WITH RECURSIVE pick (of_job, found, wanted) AS (
             SELECT r.value ->> 'job', (SELECT t.id FROM task t WHERE t.job_id = r.value ->> 'job'
                     AND t.state = 'ready' AND t.not_before_ms <= $2 AND $3 LIKE '%,' || t.kind || ',%'
                     ORDER BY t.id LIMIT 1), CAST(r.value ->> 'wanted' AS BIGINT)
             FROM "],
        [
            " UNION ALL
             SELECT p.of_job, (SELECT t.id FROM task t WHERE t.job_id = p.of_job AND t.id > p.found
                     AND t.state = 'ready' AND t.not_before_ms <= $2 AND $3 LIKE '%,' || t.kind || ',%'
                     ORDER BY t.id LIMIT 1), p.wanted - 1
             FROM pick p WHERE p.wanted > 1 AND p.found IS NOT NULL)
         SELECT ",
            task_columns!(),
            " FROM pick JOIN task ON task.id = pick.found ORDER BY task.id"
        ]
    )
    .bind(tx.now_ms)
    .bind(kinds)
    .rows(&mut tx.connection)
    .await?;
    let mut ready: BTreeMap<JobId, VecDeque<StoredTask>> = BTreeMap::new();
    for row in &rows {
        let task = stored(row)?;
        ready.entry(task.job.clone()).or_default().push_back(task);
    }
    Ok(ready)
}
