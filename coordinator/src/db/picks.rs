//! Finds what can be leased: what was given back or lost, the next ready tasks of several jobs at once, each job's in
//! creation order, and which jobs have none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use remaster_domain::{JobId, TaskKind};
use serde_json::json;

use super::Tx;
use super::sql::{query, query_over};
use super::tasks::{StoredTask, as_i64, known, led_here, stored, task_columns};
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
/// The most of them for all jobs of a turn, though one of each: a turn that serves many jobs would read many times what it
/// leases.
const LOOK_AHEAD_TOGETHER: usize = 2 * LOOK_AHEAD;

impl Taken {
    /// Kinds and needs, each between marks of its own, so that replacing finds whole words, whatever letters they have.
    fn marked(&self) -> (String, String) {
        let kinds = self.kinds.iter().map(|kind| format!("[{}]", kind.as_str()));
        let needs = self.needs.iter().map(|needs| format!("[{needs}]"));
        (kinds.collect(), needs.collect())
    }
}

/// Of the ready tasks `t` of a job, the first that may be tried at `$2` and is of the kinds `$3` and the needs `$4`, marked as
/// [`Taken`] does. The tests of both are such that no planner can take them for a better way in.
macro_rules! first_taken {
    () => {
        "t.state = 'ready' AND t.not_before_ms <= $2 AND REPLACE($3, '[' || t.kind || ']', '') <> $3
             AND (t.needs = '' OR REPLACE($4, '[' || t.needs || ']', '') <> $4)
             ORDER BY t.id LIMIT 1"
    };
}

/// Tasks whose last attempt was given back or lost, of those that are taken and may be tried now. Looks at the newest offers
/// alone, a few more than are wanted: a season that is tried again after its failures is not read for every lease.
pub(crate) async fn returned(
    tx: &mut Tx,
    wanted: usize,
    taken: &Taken,
) -> Result<VecDeque<StoredTask>, CoordinatorError> {
    let (kinds, needs) = taken.marked();
    let rows = query(concat!(
        "SELECT ",
        task_columns!(),
        " FROM (SELECT * FROM task WHERE state = 'ready' AND attempt > 0 AND not_before_ms <= $1
                 ORDER BY not_before_ms DESC LIMIT $4) AS t
             WHERE t.elder_token IS NULL AND REPLACE($2, '[' || t.kind || ']', '') <> $2
                 AND (t.needs = '' OR REPLACE($3, '[' || t.needs || ']', '') <> $3)
                 AND (SELECT j.state FROM job j WHERE j.id = t.job_id) = 'running'
                 AND ",
        led_here!("t", "$5"),
        "
                 AND (SELECT a.outcome FROM attempt a WHERE a.task_id = t.id AND a.token = t.token)
                     IN ('released', 'lost')
             ORDER BY t.id"
    ))
    .bind(tx.now_ms)
    .bind(kinds)
    .bind(needs)
    .bind(as_i64((wanted + LOOK_AHEAD) as u64))
    .bind(tx.specs.version())
    .rows(&mut tx.connection)
    .await?;
    rows.iter().map(stored).collect()
}

/// Which ready tasks are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried {
    /// All of them.
    Ever,
    /// Those that nobody has failed at or died of: any worker may have them.
    Never,
}

/// Steps from task to task along the index of ready rows, so that it reads what it answers and no more, however long the queue
/// is. Joined by CROSS, which SQLite takes in this order, and sorted by who asks: it would walk all tasks in the order of their
/// ids instead.
macro_rules! next_ready_query {
    ($rows:expr, $which:literal) => {
        query_over!(
            $rows,
            (job TEXT, wanted BIGINT),
            ["WITH RECURSIVE pick (of_job, found, wanted) AS (
                 SELECT r.job, (SELECT t.id FROM task t WHERE t.job_id = r.job AND ", $which, first_taken!(), "), r.wanted
                 FROM "],
            [
                " UNION ALL
                 SELECT p.of_job, (SELECT t.id FROM task t WHERE t.job_id = p.of_job AND t.id > p.found AND ",
                $which,
                first_taken!(),
                "), p.wanted - 1
                 FROM pick p WHERE p.wanted > 1 AND p.found IS NOT NULL)
             SELECT ",
                task_columns!(),
                " FROM pick CROSS JOIN task WHERE task.id = pick.found"
            ]
        )
    };
}

/// The next ready tasks of each job, a few more than are wanted of it, of those that are taken and may be tried now.
pub(crate) async fn next_ready(
    tx: &mut Tx,
    wanted: &BTreeMap<JobId, usize>,
    taken: &Taken,
    tried: Tried,
) -> Result<BTreeMap<JobId, VecDeque<StoredTask>>, CoordinatorError> {
    let (kinds, needs) = taken.marked();
    let beyond = (LOOK_AHEAD_TOGETHER / wanted.len().max(1)).clamp(1, LOOK_AHEAD);
    let rows = wanted
        .iter()
        .map(|(job, slots)| json!({"job": job.as_str(), "wanted": slots + beyond}))
        .collect();
    let query = match tried {
        Tried::Ever => next_ready_query!(rows, ""),
        Tried::Never => next_ready_query!(rows, "t.errors + t.losses = 0 AND "),
    };
    let rows = query
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

/// Those of some jobs that have nothing ready which is taken and may be tried now.
pub(crate) async fn idle(tx: &mut Tx, jobs: &[JobId], taken: &Taken) -> Result<Vec<JobId>, CoordinatorError> {
    if jobs.is_empty() {
        return Ok(vec![]);
    }
    let (kinds, needs) = taken.marked();
    let idle = query_over!(
        jobs.iter().map(|job| json!({"job": job.as_str()})).collect(),
        (job TEXT),
        ["SELECT r.job FROM "],
        [" WHERE (SELECT t.id FROM task t WHERE t.job_id = r.job AND ", first_taken!(), ") IS NULL"]
    )
    .bind(tx.now_ms)
    .bind(kinds)
    .bind(needs);
    let ids = idle.column::<String>(&mut tx.connection).await?;
    ids.iter().map(|id| known("id", id)).collect()
}
