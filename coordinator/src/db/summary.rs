//! A job as people see it: counts by kind, what is dead and why, and why nothing runs. Reads only.

use remaster_domain::{TaskKind, TaskState};

use super::JobRow;
use super::sql::{Connection, Row, query};
use super::tasks::{as_u32, as_u64, damaged};
use super::waiting::{Fleet, copy_reason, next_ready_ms, reason_of_job, troubles, wanted};
use crate::CoordinatorError;

/// Dead tasks that a summary names; the task list has them all.
const DEAD_LISTED: u32 = 100;

/// Tasks of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KindView {
    /// Kind.
    pub(crate) kind: String,
    /// Tasks by state, in the order of [`TaskState`].
    pub(crate) ready: u32,
    pub(crate) leased: u32,
    pub(crate) committed: u32,
    pub(crate) dead: u32,
    pub(crate) cancelled: u32,
    /// Progress of the leased ones, summed.
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) note: String,
    /// First lease and last end.
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: i64,
}

/// A dead task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadView {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// A job's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobView {
    /// Kinds that have tasks, in flow order.
    pub(crate) kinds: Vec<KindView>,
    /// Dead tasks with their reasons.
    pub(crate) dead: Vec<DeadView>,
    /// Why nothing runs although something is ready.
    pub(crate) waiting_reason: String,
}

/// A task as people see it.
#[derive(Debug, Clone)]
pub(crate) struct TaskView {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) attempt: u32,
    pub(crate) worker: String,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) note: String,
    pub(crate) message: String,
    pub(crate) waiting_reason: String,
    pub(crate) result_json: String,
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: i64,
}

/// Sums up a job. Sessions seen since `live_since_ms` count as live.
pub(crate) async fn summary(
    readers: &mut Connection,
    job: &JobRow,
    now_ms: i64,
    live_since_ms: i64,
) -> Result<JobView, CoordinatorError> {
    let kinds = kinds(readers, job).await?;
    let any_dead = kinds.iter().any(|kind| kind.dead > 0);
    let mut waiting_reason = String::new();
    if kinds.iter().any(|kind| kind.ready > 0) {
        let is_at_work = kinds.iter().any(|kind| kind.leased > 0);
        let fleet = Fleet::load(readers, now_ms, live_since_ms).await?;
        let next_ms = next_ready_ms(readers, job).await?;
        let wanted = wanted(readers, job).await?;
        waiting_reason = reason_of_job(job.state, &wanted, &fleet, next_ms - now_ms, is_at_work);
    }
    if waiting_reason.is_empty() {
        waiting_reason = copy_reason(readers, job).await?;
    }
    Ok(JobView {
        dead: if any_dead {
            dead(readers, job).await?
        } else {
            vec![]
        },
        waiting_reason,
        kinds,
    })
}

/// Which tasks of a job are listed.
#[derive(Debug)]
pub(crate) struct TaskPage {
    /// Those after this one; all when empty.
    pub(crate) after: String,
    /// So many at most.
    pub(crate) most: Option<u32>,
}

/// Tasks of a job in creation order, each with the worker that holds it or held it last.
pub(crate) async fn task_list(
    readers: &mut Connection,
    job: &JobRow,
    page: &TaskPage,
    now_ms: i64,
    live_since_ms: i64,
) -> Result<Vec<TaskView>, CoordinatorError> {
    let fleet = Fleet::load(readers, now_ms, live_since_ms).await?;
    let rows = query(
        // What is offered while somebody works on it waits for nobody.
        "SELECT t.id, t.name, t.kind, t.attempt, t.done, t.total, t.note, t.message, t.started_ms,
             CASE WHEN t.state = 'ready' AND t.elder_token IS NOT NULL THEN 'leased' ELSE t.state END AS state, t.ended_ms, t.result, t.not_before_ms, t.needs,
             t.errors, t.losses, s.worker_id
         FROM task t LEFT JOIN attempt a ON a.task_id = t.id AND a.token = t.token
             LEFT JOIN session s ON s.id = a.session_id
         WHERE t.job_id = $1 AND t.id > $2 ORDER BY t.id LIMIT $3",
    )
    .bind(job.id.as_str())
    .bind(page.after.as_str())
    .bind(page.most.map_or(i64::MAX, i64::from))
    .rows(readers)
    .await?;
    let troubles = troubles(readers, &rows, now_ms, live_since_ms).await?;
    let tasks = rows.iter().map(|row| {
        let (kind, state): (String, String) = (row.get("kind")?, row.get("state")?);
        let waiting_reason = match TaskKind::parse(&kind) {
            Some(kind) if state == TaskState::Ready.as_str() => {
                let wanted = (kind, row.get("needs")?);
                let reason = fleet.reason(job.state, &wanted, row.get::<i64>("not_before_ms")? - now_ms);
                let trouble = troubles.get(&row.get::<String>("id")?);
                trouble.map_or(reason.clone(), |trouble| format!("{reason}; {trouble}"))
            }
            _ => String::new(),
        };
        Ok(TaskView {
            id: row.get("id")?,
            name: row.get("name")?,
            kind,
            state,
            waiting_reason,
            attempt: as_u32(row.get("attempt")?),
            worker: row.get::<Option<_>>("worker_id")?.unwrap_or_default(),
            done: as_u64(row.get("done")?),
            total: as_u64(row.get("total")?),
            note: row.get("note")?,
            message: row.get("message")?,
            result_json: row.get::<Option<_>>("result")?.unwrap_or_default(),
            started_ms: row.get::<Option<_>>("started_ms")?.unwrap_or(0),
            ended_ms: row.get::<Option<_>>("ended_ms")?.unwrap_or(0),
        })
    });
    tasks.collect::<Result<_, sqlx::Error>>().map_err(Into::into)
}

async fn kinds(readers: &mut Connection, job: &JobRow) -> Result<Vec<KindView>, CoordinatorError> {
    let counts = query(
        "SELECT kind, state, COUNT(*) AS tasks, MIN(started_ms) AS started, MAX(ended_ms) AS ended
         FROM task WHERE job_id = $1 GROUP BY kind, state",
    )
    .bind(job.id.as_str())
    .rows(readers)
    .await?;
    let mut views = TaskKind::ALL.map(|kind| KindView {
        kind: kind.as_str().to_owned(),
        ..KindView::default()
    });
    for row in &counts {
        let view = view_of(&mut views, &row.get::<String>("kind")?)?;
        let (state, tasks) = (row.get::<String>("state")?, as_u32(row.get("tasks")?));
        match TaskState::parse(&state).ok_or_else(|| damaged("state", &state))? {
            TaskState::Ready => view.ready = tasks,
            TaskState::Leased => view.leased = tasks,
            TaskState::Committed => view.committed = tasks,
            TaskState::Dead => view.dead = tasks,
            TaskState::Cancelled => view.cancelled = tasks,
        }
        if let Some(started) = row.get::<Option<i64>>("started")? {
            view.started_ms = if view.started_ms == 0 {
                started
            } else {
                view.started_ms.min(started)
            };
        }
        view.ended_ms = view.ended_ms.max(row.get::<Option<i64>>("ended")?.unwrap_or(0));
    }
    for row in &elders(readers, job).await? {
        let view = view_of(&mut views, &row.get::<String>("kind")?)?;
        let tasks = as_u32(row.get("tasks")?);
        view.ready = view.ready.saturating_sub(tasks);
        view.leased += tasks;
    }
    let running = query(
        "SELECT kind, done, total, note FROM task WHERE job_id = $1 AND state = 'leased'
         ORDER BY id",
    )
    .bind(job.id.as_str())
    .rows(readers)
    .await?;
    for row in &running {
        let view = view_of(&mut views, &row.get::<String>("kind")?)?;
        view.done += as_u64(row.get("done")?);
        view.total += as_u64(row.get("total")?);
        view.note = row.get("note")?;
    }
    Ok(views.into_iter().filter(has_tasks).collect())
}

/// How many tasks of each kind are offered while somebody works on them already: they wait for nobody.
async fn elders(readers: &mut Connection, job: &JobRow) -> Result<Vec<Row>, CoordinatorError> {
    let rows = query(
        "SELECT kind, COUNT(*) AS tasks FROM task WHERE elder_token IS NOT NULL AND state = 'ready' AND job_id = $1
         GROUP BY kind",
    )
    .bind(job.id.as_str())
    .rows(readers)
    .await?;
    Ok(rows)
}

fn view_of<'a>(views: &'a mut [KindView], kind: &str) -> Result<&'a mut KindView, CoordinatorError> {
    views
        .iter_mut()
        .find(|view| view.kind == kind)
        .ok_or_else(|| damaged("kind", kind))
}

fn has_tasks(view: &KindView) -> bool {
    view.ready + view.leased + view.committed + view.dead + view.cancelled > 0
}

async fn dead(readers: &mut Connection, job: &JobRow) -> Result<Vec<DeadView>, CoordinatorError> {
    let rows = query(
        "SELECT id, name, kind, message FROM task WHERE job_id = $1 AND state = 'dead'
         ORDER BY id LIMIT $2",
    )
    .bind(job.id.as_str())
    .bind(i64::from(DEAD_LISTED))
    .rows(readers)
    .await?;
    let dead = rows.iter().map(|row| {
        Ok(DeadView {
            id: row.get("id")?,
            name: row.get("name")?,
            kind: row.get("kind")?,
            message: row.get("message")?,
        })
    });
    dead.collect::<Result<_, sqlx::Error>>().map_err(Into::into)
}
