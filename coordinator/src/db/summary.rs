//! A job as people see it: counts by kind, what is dead and why, and why nothing runs. Reads only.

use std::collections::BTreeSet;

use remaster_domain::{Capabilities, JobState, TaskKind, TaskState, needs_are_met};
use remaster_proto::from_json;

use super::JobRow;
use super::sql::{Connection, Row, query};
use super::tasks::{as_u32, as_u64, damaged};
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
             CASE WHEN t.state = 'ready' AND t.elder_token IS NOT NULL THEN 'leased' ELSE t.state END AS state, t.ended_ms, t.result, t.not_before_ms, t.needs, s.worker_id
         FROM task t LEFT JOIN attempt a ON a.task_id = t.id AND a.token = t.token
             LEFT JOIN session s ON s.id = a.session_id
         WHERE t.job_id = $1 AND t.id > $2 ORDER BY t.id LIMIT $3",
    )
    .bind(job.id.as_str())
    .bind(page.after.as_str())
    .bind(page.most.map_or(i64::MAX, i64::from))
    .rows(readers)
    .await?;
    let tasks = rows.iter().map(|row| {
        let (kind, state): (String, String) = (row.get("kind")?, row.get("state")?);
        let waiting_reason = match TaskKind::parse(&kind) {
            Some(kind) if state == TaskState::Ready.as_str() => {
                let needs: String = row.get("needs")?;
                fleet.reason(
                    job.state,
                    &(kind, needs),
                    row.get::<i64>("not_before_ms")? - now_ms,
                )
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

/// A kind, and what is needed beyond taking it.
type Wanted = (TaskKind, String);

/// The live sessions.
#[derive(Debug, Default)]
struct Fleet {
    /// Those that take something now.
    takers: Vec<Capabilities>,
    /// Those that would if they had not failed again and again.
    resting: Vec<Capabilities>,
    /// Those that end once they are done with what they have.
    draining: Vec<Capabilities>,
}

impl Fleet {
    async fn load(
        readers: &mut Connection,
        now_ms: i64,
        live_since_ms: i64,
    ) -> Result<Self, CoordinatorError> {
        let rows = query("SELECT capabilities, rests_until_ms, draining FROM session WHERE seen_ms >= $1")
            .bind(live_since_ms)
            .rows(readers)
            .await?;
        let mut fleet = Self::default();
        for row in &rows {
            let text: String = row.get("capabilities")?;
            let rests = row.get::<i64>("rests_until_ms")? > now_ms;
            let side = if row.get::<i64>("draining")? != 0 {
                &mut fleet.draining
            } else if rests {
                &mut fleet.resting
            } else {
                &mut fleet.takers
            };
            side.push(from_json("session.capabilities", &text)?);
        }
        Ok(fleet)
    }

    /// Whether somebody could take it now.
    fn takes(&self, wanted: &Wanted) -> bool {
        able(&self.takers, wanted) > 0
    }

    /// Why a ready task waits.
    fn reason(&self, state: JobState, wanted: &Wanted, next_in_ms: i64) -> String {
        let (kind, needs) = wanted;
        let word = kind.as_str();
        let of_kind = |side: &[Capabilities]| side.iter().filter(|one| one.kinds.contains(kind)).count();
        match (state, able(&self.takers, wanted), able(&self.resting, wanted)) {
            (JobState::Paused, ..) => "the job is paused".to_owned(),
            (JobState::Running, 0, 0) => match of_kind(&self.takers) + of_kind(&self.resting) {
                0 => match of_kind(&self.draining) {
                    0 => format!("no live worker takes kind {word}"),
                    draining => format!("{draining} workers take kind {word}, and are draining"),
                },
                others => {
                    format!("needs {needs}: none of the {others} live workers that take kind {word} has it")
                }
            },
            (JobState::Running, 0, resting) => {
                format!("{resting} workers take kind {word}, and rest after failing again and again")
            }
            (JobState::Running, ..) if next_in_ms > 0 => next_try(next_in_ms),
            (JobState::Running, takers, _) => {
                format!("{takers} workers take kind {word}: waiting for a free one")
            }
            _ => String::new(),
        }
    }
}

fn able(side: &[Capabilities], (kind, needs): &Wanted) -> usize {
    let can = |one: &&Capabilities| one.kinds.contains(kind) && needs_are_met(needs, &one.labels);
    side.iter().filter(can).count()
}

fn next_try(next_in_ms: i64) -> String {
    format!(
        "after an error, the next try is in {} s",
        (next_in_ms + 999) / 1_000
    )
}

/// What the ready tasks of a job ask for, each once.
async fn wanted(readers: &mut Connection, job: &JobRow) -> Result<Vec<Wanted>, CoordinatorError> {
    let rows =
        query("SELECT DISTINCT kind, needs FROM task WHERE job_id = $1 AND state = 'ready' ORDER BY kind")
            .bind(job.id.as_str())
            .rows(readers)
            .await?;
    let wanted = rows.iter().map(|row| {
        let kind: String = row.at(0)?;
        Ok((
            TaskKind::parse(&kind).ok_or_else(|| damaged("kind", &kind))?,
            row.at(1)?,
        ))
    });
    wanted.collect()
}

async fn next_ready_ms(readers: &mut Connection, job: &JobRow) -> Result<i64, CoordinatorError> {
    let next: Option<i64> =
        query("SELECT MIN(not_before_ms) FROM task WHERE job_id = $1 AND state = 'ready'")
            .bind(job.id.as_str())
            .one(readers)
            .await?;
    Ok(next.unwrap_or(0))
}

async fn copy_reason(readers: &mut Connection, job: &JobRow) -> Result<String, CoordinatorError> {
    let row = query(
        "SELECT target_key, error FROM object_copy WHERE job_id = $1 AND done_ms IS NULL AND error <> '' LIMIT 1",
    )
    .bind(job.id.as_str())
    .row(readers)
    .await?;
    let Some(row) = row else {
        return Ok(String::new());
    };
    let (target, error): (String, String) = (row.at(0)?, row.at(1)?);
    Ok(format!("could not write {target} yet: {error}"))
}

/// What a job waits for: what nobody can do, whatever else goes on, or why nothing goes on.
fn reason_of_job(
    state: JobState,
    wanted: &[Wanted],
    fleet: &Fleet,
    next_in_ms: i64,
    is_at_work: bool,
) -> String {
    match state {
        JobState::Paused => return "the job is paused".to_owned(),
        JobState::Running => {}
        _ => return String::new(),
    }
    let unserved = wanted.iter().filter(|wanted| !fleet.takes(wanted));
    let reasons: BTreeSet<String> = unserved
        .map(|wanted| fleet.reason(state, wanted, next_in_ms))
        .collect();
    match reasons.len() {
        0 if is_at_work => String::new(),
        0 if next_in_ms > 0 => next_try(next_in_ms),
        0 => "waiting for a free worker".to_owned(),
        _ => reasons.into_iter().collect::<Vec<_>>().join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(kinds: &[TaskKind], labels: &[(&str, &str)]) -> Vec<Capabilities> {
        let labels = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
        vec![Capabilities {
            kinds: kinds.to_vec(),
            labels: labels.collect(),
        }]
    }

    fn reason(state: JobState, fleet: &Fleet, kind: TaskKind, needs: &str, wait_ms: i64) -> String {
        reason_of_job(state, &[(kind, needs.to_owned())], fleet, wait_ms, false)
    }

    #[test]
    fn a_kind_that_nobody_takes_is_named() {
        let fleet = Fleet {
            takers: workers(&[TaskKind::Index, TaskKind::Train], &[]),
            resting: workers(&[TaskKind::Plan], &[]),
            draining: workers(&[TaskKind::Curate], &[]),
        };
        let of = |kind, wait_ms| reason(JobState::Running, &fleet, kind, "", wait_ms);
        assert_eq!(of(TaskKind::Align, 0), "no live worker takes kind align");
        assert_eq!(of(TaskKind::Train, 0), "waiting for a free worker");
        assert_eq!(
            of(TaskKind::Train, 1_500),
            "after an error, the next try is in 2 s"
        );
        assert_eq!(
            of(TaskKind::Plan, 0),
            "1 workers take kind plan, and rest after failing again and again"
        );
        assert_eq!(
            of(TaskKind::Curate, 0),
            "1 workers take kind curate, and are draining"
        );
        let both = [TaskKind::Train, TaskKind::Align].map(|kind| (kind, String::new()));
        assert_eq!(
            reason_of_job(JobState::Running, &both, &fleet, 0, true),
            "no live worker takes kind align",
            "although something else goes on"
        );
        assert_eq!(reason_of_job(JobState::Running, &both[..1], &fleet, 0, true), "");
        let paused = reason(JobState::Paused, &fleet, TaskKind::Train, "", 0);
        assert_eq!(paused, "the job is paused");
    }

    #[test]
    fn a_need_that_nobody_meets_is_named() {
        let fleet = Fleet {
            takers: workers(&[TaskKind::Upscale], &[("codec.x264", "yes")]),
            ..Fleet::default()
        };
        let of = |needs| reason(JobState::Running, &fleet, TaskKind::Upscale, needs, 0);
        assert_eq!(of("codec.x264"), "waiting for a free worker");
        assert_eq!(
            of("codec.x265"),
            "needs codec.x265: none of the 1 live workers that take kind upscale has it"
        );
    }
}
