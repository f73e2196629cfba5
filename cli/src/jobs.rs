//! Jobs on screen and as JSON: `status`, `cancel`, `pause`, `resume`, `retry`, `priority`.

use remaster_proto::pb;
use serde::Serialize;

use crate::args::{JobArgs, PriorityArgs, StatusArgs};
use crate::client::Coordinator;
use crate::history;
use crate::output::{OutputFormat, ago, duration, now_ms, show, table};

/// A job as scripts see it.
#[derive(Debug, Serialize)]
pub(crate) struct JobView {
    pub(crate) job_id: String,
    pub(crate) season: String,
    pub(crate) stage: String,
    pub(crate) state: String,
    pub(crate) priority: i64,
    pub(crate) created_ms: i64,
    pub(crate) ended_ms: Option<i64>,
    /// Why nothing runs although something is ready.
    pub(crate) waiting_reason: Option<String>,
    pub(crate) kinds: Vec<KindView>,
    pub(crate) dead: Vec<DeadView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tasks: Vec<TaskView>,
}

/// All tasks of a kind.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KindView {
    pub(crate) kind: String,
    pub(crate) ready: u32,
    pub(crate) leased: u32,
    pub(crate) committed: u32,
    pub(crate) dead: u32,
    pub(crate) cancelled: u32,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) note: String,
    pub(crate) started_ms: Option<i64>,
    pub(crate) ended_ms: Option<i64>,
}

/// A dead task and why.
#[derive(Debug, Serialize)]
pub(crate) struct DeadView {
    pub(crate) task_id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// One task.
#[derive(Debug, Serialize)]
pub(crate) struct TaskView {
    pub(crate) task_id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) attempt: u32,
    pub(crate) worker_id: Option<String>,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) note: String,
    pub(crate) message: String,
    /// Why it does not run, while it is ready.
    pub(crate) waiting_reason: Option<String>,
    pub(crate) started_ms: Option<i64>,
    pub(crate) ended_ms: Option<i64>,
    /// What the worker answered, once committed.
    pub(crate) result: Option<serde_json::Value>,
}

impl From<pb::JobSummary> for JobView {
    fn from(job: pb::JobSummary) -> Self {
        Self {
            job_id: job.job_id,
            season: job.season,
            stage: job.stage,
            state: job.state,
            priority: job.priority,
            created_ms: job.created_ms,
            ended_ms: known(job.ended_ms),
            waiting_reason: Some(job.waiting_reason).filter(|reason| !reason.is_empty()),
            kinds: job.kinds.into_iter().map(Into::into).collect(),
            dead: job.dead.into_iter().map(Into::into).collect(),
            tasks: Vec::new(),
        }
    }
}

impl From<pb::KindSummary> for KindView {
    fn from(kind: pb::KindSummary) -> Self {
        Self {
            kind: kind.kind,
            ready: kind.ready,
            leased: kind.leased,
            committed: kind.committed,
            dead: kind.dead,
            cancelled: kind.cancelled,
            done: kind.done,
            total: kind.total,
            note: kind.note,
            started_ms: known(kind.started_ms),
            ended_ms: known(kind.ended_ms),
        }
    }
}

impl From<pb::DeadTask> for DeadView {
    fn from(task: pb::DeadTask) -> Self {
        Self {
            task_id: task.task_id,
            name: task.name,
            kind: task.kind,
            message: task.message,
        }
    }
}

impl From<pb::TaskSummary> for TaskView {
    fn from(task: pb::TaskSummary) -> Self {
        Self {
            task_id: task.task_id,
            name: task.name,
            kind: task.kind,
            state: task.state,
            attempt: task.attempt,
            worker_id: Some(task.worker_id).filter(|id| !id.is_empty()),
            done: task.done,
            total: task.total,
            note: task.note,
            message: task.message,
            waiting_reason: Some(task.waiting_reason).filter(|reason| !reason.is_empty()),
            started_ms: known(task.started_ms),
            ended_ms: known(task.ended_ms),
            result: serde_json::from_str(&task.result_json).ok(),
        }
    }
}

/// On the wire 0 stands for a time that is not known yet.
fn known(ms: i64) -> Option<i64> {
    Some(ms).filter(|ms| *ms > 0)
}

impl KindView {
    /// Tasks in every state.
    pub(crate) fn count(&self) -> u32 {
        self.ready + self.leased + self.committed + self.dead + self.cancelled
    }

    /// From the first lease to the last commit; to now while it runs.
    pub(crate) fn elapsed_ms(&self, now_ms: i64) -> Option<i64> {
        let open = self.ready + self.leased > 0;
        let end = if open { now_ms } else { self.ended_ms? };
        Some(end - self.started_ms?)
    }
}

/// `remaster status`.
pub(crate) async fn status(args: &StatusArgs, format: OutputFormat) -> anyhow::Result<()> {
    let coordinator = Coordinator::open(&args.job.connect)?;
    if args.all {
        let jobs: Vec<JobView> = coordinator
            .list_jobs()
            .await?
            .into_iter()
            .map(Into::into)
            .collect();
        return show(format, &jobs, |jobs| jobs_text(jobs, now_ms()));
    }
    let id = coordinator.resolve_job(args.job.job.as_deref()).await?;
    if let Some(name) = &args.task {
        return history::show_task(&coordinator, &id, name, format).await;
    }
    let job = get(&coordinator, &id).await?;
    show(format, &job, |job| job_text(job, now_ms(), args.tasks))
}

/// A job with its tasks.
async fn get(coordinator: &Coordinator, id: &str) -> anyhow::Result<JobView> {
    let reply = coordinator.get_job(id).await?;
    let mut job = JobView::from(reply.summary.unwrap_or_default());
    job.tasks = reply.tasks.into_iter().map(Into::into).collect();
    Ok(job)
}

fn jobs_text(jobs: &[JobView], now_ms: i64) -> String {
    let row = |job: &JobView| {
        let fields = [&job.job_id, &job.season, &job.stage, &job.state];
        let mut row: Vec<String> = fields.into_iter().cloned().collect();
        row.extend([job.priority.to_string(), ago(job.created_ms, now_ms)]);
        row
    };
    table(
        &["JOB", "SEASON", "STAGE", "STATE", "PRIORITY", "SUBMITTED"],
        &jobs.iter().map(row).collect::<Vec<_>>(),
    )
}

fn job_text(job: &JobView, now_ms: i64, with_tasks: bool) -> String {
    let took = duration(job.ended_ms.unwrap_or(now_ms) - job.created_ms);
    let mut text = format!(
        "{}  {}  {}  {}  {took}\n",
        job.job_id, job.season, job.stage, job.state
    );
    if let Some(reason) = &job.waiting_reason {
        text.push_str(&format!("waiting: {reason}\n"));
    }
    let row = |kind: &KindView| {
        let counts = [kind.committed, kind.leased, kind.ready, kind.dead];
        let mut row = vec![kind.kind.clone()];
        row.extend(counts.iter().map(u32::to_string));
        row.extend([
            kind.elapsed_ms(now_ms).map(duration).unwrap_or_default(),
            kind.note.clone(),
        ]);
        row
    };
    let rows: Vec<_> = job.kinds.iter().map(row).collect();
    text.push_str(&table(
        &["KIND", "DONE", "RUNNING", "READY", "DEAD", "TIME", "NOTE"],
        &rows,
    ));
    if with_tasks {
        let row = |task: &TaskView| {
            // A task that failed and waits for its next try shows why it failed and why it waits.
            let words = [
                task.message.as_str(),
                task.waiting_reason.as_deref().unwrap_or(""),
            ];
            let words: Vec<_> = words.into_iter().filter(|words| !words.is_empty()).collect();
            let note = if words.is_empty() {
                task.note.clone()
            } else {
                words.join("; ")
            };
            vec![
                task.name.clone(),
                task.state.clone(),
                task.attempt.to_string(),
                note,
            ]
        };
        let rows: Vec<_> = job.tasks.iter().map(row).collect();
        text.push('\n');
        text.push_str(&table(&["TASK", "STATE", "ATTEMPT", "NOTE"], &rows));
    }
    for line in dead_lines(job) {
        text.push_str(&format!("dead: {line}\n"));
    }
    text
}

/// Dead tasks, one line each.
pub(crate) fn dead_lines(job: &JobView) -> Vec<String> {
    job.dead
        .iter()
        .map(|task| format!("{}: {}", task.name, task.message))
        .collect()
}

/// What a change of state prints.
#[derive(Debug, Serialize)]
struct Changed {
    job_id: String,
    state: String,
    /// Tasks put back by `retry`.
    tasks_changed: u32,
}

/// `remaster cancel|pause|resume|retry`.
pub(crate) async fn control(args: &JobArgs, action: &str, format: OutputFormat) -> anyhow::Result<()> {
    let coordinator = Coordinator::open(&args.connect)?;
    let job_id = coordinator.resolve_job(args.job.as_deref()).await?;
    let request = pb::ControlJobRequest {
        job_id: job_id.clone(),
        action: action.to_owned(),
    };
    let reply = coordinator
        .jobs
        .clone()
        .control_job(request)
        .await
        .map_err(|status| coordinator.failed(&status))?;
    let reply = reply.into_inner();
    let changed = Changed {
        job_id,
        state: reply.state,
        tasks_changed: reply.tasks_changed,
    };
    show(format, &changed, |changed| match changed.tasks_changed {
        0 => format!("{}  {}\n", changed.job_id, changed.state),
        tasks => format!("{}  {}  {tasks} tasks put back\n", changed.job_id, changed.state),
    })
}

/// What a change of priority prints.
#[derive(Debug, Serialize)]
struct Prioritised {
    job_id: String,
    priority: i64,
}

/// `remaster priority`.
pub(crate) async fn priority(args: &PriorityArgs, format: OutputFormat) -> anyhow::Result<()> {
    let coordinator = Coordinator::open(&args.connect)?;
    let job_id = coordinator.resolve_job(Some(&args.job)).await?;
    let request = pb::SetPriorityRequest {
        job_id: job_id.clone(),
        priority: args.priority,
    };
    coordinator
        .jobs
        .clone()
        .set_priority(request)
        .await
        .map_err(|status| coordinator.failed(&status))?;
    let changed = Prioritised {
        job_id,
        priority: args.priority,
    };
    show(format, &changed, |changed| {
        format!("{}  priority {}\n", changed.job_id, changed.priority)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_on_screen_names_its_dead_tasks() {
        let kind = pb::KindSummary {
            kind: "align".to_owned(),
            committed: 2,
            dead: 1,
            started_ms: 1_000,
            ended_ms: 9_000,
            ..Default::default()
        };
        let dead = pb::DeadTask {
            name: "align/E2".to_owned(),
            kind: "align".to_owned(),
            message: "the hd file shows another episode".to_owned(),
            ..Default::default()
        };
        let job = pb::JobSummary {
            job_id: "j".to_owned(),
            season: "s".to_owned(),
            stage: "all".to_owned(),
            state: "failed".to_owned(),
            created_ms: 1_000,
            ended_ms: 66_000,
            kinds: vec![kind],
            dead: vec![dead],
            ..Default::default()
        };
        insta::assert_snapshot!(job_text(&job.into(), 99_000, false), @r"
        j  s  all  failed  1 min 05 s
        KIND   DONE  RUNNING  READY  DEAD  TIME   NOTE
        align  2     0        0      1     8.0 s
        dead: align/E2: the hd file shows another episode
        ");
    }
}
