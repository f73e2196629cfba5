//! `Jobs` over the wire.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use remaster_domain::{JobAction, JobId};
use remaster_proto::pb;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::coordinator::{Coordinator, parse_id};
use crate::db::{self, HistoryRow, KindView, TaskPage, TaskView, WorkerRow};
use crate::jobs::JobReport;

/// A watched job is looked at this often; people do not read faster.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Tasks of one answer, and their bytes about: results of 64 KiB each would not fit a message by far.
const TASKS_MAX: u32 = 1_000;
const TASKS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Speaks for the core to people's tools.
#[derive(Debug)]
pub(crate) struct JobsService {
    pub(crate) core: Arc<Coordinator>,
    /// Ends streams.
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl pb::jobs_server::Jobs for JobsService {
    type WatchJobStream = Pin<Box<dyn Stream<Item = Result<pb::JobSummary, Status>> + Send>>;

    async fn submit_job(
        &self,
        request: Request<pb::SubmitJobRequest>,
    ) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let request = request.into_inner();
        let id: JobId = parse_id("job_id", &request.job_id)?;
        let (version, priority) = (request.protocol_version, request.priority);
        self.core
            .submit(version, id.clone(), &request.spec_json, priority)
            .await?;
        Ok(Response::new(pb::SubmitJobResponse { job_id: id.into() }))
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let reports = self.core.reports(request.into_inner().limit).await?;
        let jobs = reports.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListJobsResponse { jobs }))
    }

    async fn get_job(
        &self,
        request: Request<pb::GetJobRequest>,
    ) -> Result<Response<pb::GetJobResponse>, Status> {
        let request = request.into_inner();
        let id = parse_id("job_id", &request.job_id)?;
        let report = self.core.report(&id).await?;
        let is_first = request.after_task_id.is_empty();
        let page = TaskPage {
            after: request.after_task_id,
            most: match request.tasks_max {
                0 => None,
                most => Some(most.min(TASKS_MAX)),
            },
        };
        let now_ms = self.core.db.now_ms().await?;
        let live_since_ms = self.core.live_since_ms(now_ms);
        let mut reader = self.core.reader().await?;
        let mut tasks = db::task_list(&mut reader, &report.job, &page, now_ms, live_since_ms).await?;
        drop(reader);
        if let Some(reason) = self.core.cannot_lead(&report.job) {
            let waiting = tasks.iter_mut().filter(|task| !task.waiting_reason.is_empty());
            waiting.for_each(|task| task.waiting_reason.clone_from(&reason));
        }
        let listed = tasks.len();
        let tasks: Vec<pb::TaskSummary> = tasks.into_iter().map(Into::into).collect();
        let tasks = match page.most {
            Some(_) => that_fit(tasks),
            None => tasks,
        };
        let more = page.most.is_some_and(|most| listed == most as usize) || tasks.len() < listed;
        let spec_json = report.job.spec_json.clone();
        Ok(Response::new(pb::GetJobResponse {
            summary: Some(report.into()),
            tasks,
            spec_json: if is_first { spec_json } else { String::new() },
            more,
        }))
    }

    async fn get_task_history(
        &self,
        request: Request<pb::GetTaskHistoryRequest>,
    ) -> Result<Response<pb::GetTaskHistoryResponse>, Status> {
        let request = request.into_inner();
        let id = parse_id("job_id", &request.job_id)?;
        let rows = db::history(&mut self.core.reader().await?, &id, &request.task_name).await?;
        let entries = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::GetTaskHistoryResponse { entries }))
    }

    async fn watch_job(
        &self,
        request: Request<pb::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let id = parse_id("job_id", &request.into_inner().job_id)?;
        // An unknown job is refused at once and not within the stream.
        self.core.job(&id).await?;
        let watch = Watch {
            core: Arc::clone(&self.core),
            shutdown: self.shutdown.clone(),
            id,
            last: None,
            ended: false,
        };
        Ok(Response::new(Box::pin(futures::stream::unfold(
            watch,
            Watch::next,
        ))))
    }

    async fn control_job(
        &self,
        request: Request<pb::ControlJobRequest>,
    ) -> Result<Response<pb::ControlJobResponse>, Status> {
        let request = request.into_inner();
        let action = JobAction::parse(&request.action).ok_or_else(|| {
            Status::invalid_argument(format!(
                "action `{}`: expected pause, resume, cancel or retry",
                request.action
            ))
        })?;
        let (state, tasks_changed) = self
            .core
            .control(parse_id("job_id", &request.job_id)?, action)
            .await?;
        Ok(Response::new(pb::ControlJobResponse {
            state: state.as_str().to_owned(),
            tasks_changed,
        }))
    }

    async fn set_priority(
        &self,
        request: Request<pb::SetPriorityRequest>,
    ) -> Result<Response<pb::SetPriorityResponse>, Status> {
        let request = request.into_inner();
        let id = parse_id("job_id", &request.job_id)?;
        self.core.set_priority(id, request.priority).await?;
        Ok(Response::new(pb::SetPriorityResponse {}))
    }

    async fn list_workers(
        &self,
        _request: Request<pb::ListWorkersRequest>,
    ) -> Result<Response<pb::ListWorkersResponse>, Status> {
        let now_ms = self.core.db.now_ms().await?;
        let live_since_ms = self.core.live_since_ms(now_ms);
        let workers = db::workers(&mut self.core.reader().await?, now_ms).await?;
        let workers = workers.into_iter().map(|row| worker_summary(row, live_since_ms));
        Ok(Response::new(pb::ListWorkersResponse {
            workers: workers.collect(),
        }))
    }

    async fn drain_worker(
        &self,
        request: Request<pb::DrainWorkerRequest>,
    ) -> Result<Response<pb::DrainWorkerResponse>, Status> {
        let worker = parse_id("worker_id", &request.into_inner().worker_id)?;
        self.core.drain_worker(worker).await?;
        Ok(Response::new(pb::DrainWorkerResponse {}))
    }
}

/// A watched job between two looks.
struct Watch {
    core: Arc<Coordinator>,
    shutdown: CancellationToken,
    id: JobId,
    last: Option<pb::JobSummary>,
    ended: bool,
}

impl Watch {
    /// The next summary that differs; nothing after the one of a final state.
    async fn next(mut self) -> Option<(Result<pb::JobSummary, Status>, Self)> {
        if self.ended {
            return None;
        }
        loop {
            match self.core.report(&self.id).await {
                Err(error) => {
                    self.ended = true;
                    return Some((Err(error.into()), self));
                }
                Ok(report) => {
                    let is_final = report.job.state.is_final();
                    let summary = pb::JobSummary::from(report);
                    if self.last.as_ref() != Some(&summary) {
                        self.ended = is_final;
                        self.last = Some(summary.clone());
                        return Some((Ok(summary), self));
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                () = self.shutdown.cancelled() => {
                    self.ended = true;
                    let status = Status::unavailable("the coordinator is shutting down: watch again");
                    return Some((Err(status), self));
                }
            }
        }
    }
}

impl From<JobReport> for pb::JobSummary {
    fn from(report: JobReport) -> Self {
        let dead = report.view.dead.into_iter().map(|task| pb::DeadTask {
            task_id: task.id,
            name: task.name,
            kind: task.kind,
            message: task.message,
        });
        Self {
            job_id: report.job.id.into(),
            season: report.spec.season.name.into(),
            stage: report.spec.stage.as_str().to_owned(),
            state: report.job.state.as_str().to_owned(),
            priority: report.job.priority,
            created_ms: report.job.created_ms,
            kinds: report.view.kinds.into_iter().map(Into::into).collect(),
            dead: dead.collect(),
            waiting_reason: report.view.waiting_reason,
            ended_ms: report.job.ended_ms.unwrap_or(0),
        }
    }
}

impl From<KindView> for pb::KindSummary {
    fn from(view: KindView) -> Self {
        Self {
            kind: view.kind,
            ready: view.ready,
            leased: view.leased,
            committed: view.committed,
            dead: view.dead,
            cancelled: view.cancelled,
            done: view.done,
            total: view.total,
            note: view.note,
            started_ms: view.started_ms,
            ended_ms: view.ended_ms,
        }
    }
}

impl From<HistoryRow> for pb::HistoryEntry {
    fn from(row: HistoryRow) -> Self {
        Self {
            at_ms: row.at_ms,
            what: row.what,
            worker: row.worker,
            detail: row.detail,
        }
    }
}

impl From<TaskView> for pb::TaskSummary {
    fn from(view: TaskView) -> Self {
        Self {
            task_id: view.id,
            name: view.name,
            kind: view.kind,
            state: view.state,
            attempt: view.attempt,
            worker_id: view.worker,
            done: view.done,
            total: view.total,
            note: view.note,
            message: view.message,
            waiting_reason: view.waiting_reason,
            result_json: view.result_json,
            started_ms: view.started_ms,
            ended_ms: view.ended_ms,
        }
    }
}

/// As many of the first as fit an answer; one in any case.
fn that_fit(mut tasks: Vec<pb::TaskSummary>) -> Vec<pb::TaskSummary> {
    let mut bytes = 0;
    let fit = tasks.iter().take_while(|task| {
        let fits = bytes < TASKS_BYTES_MAX;
        bytes += task.result_json.len() + task.message.len() + task.note.len();
        fits
    });
    let fit = fit.count();
    tasks.truncate(fit);
    tasks
}

fn worker_summary(row: WorkerRow, live_since_ms: i64) -> pb::WorkerSummary {
    let state = if row.seen_ms < live_since_ms {
        "gone"
    } else if row.draining {
        "draining"
    } else if row.rests {
        "resting"
    } else {
        "live"
    };
    pb::WorkerSummary {
        worker_id: row.id,
        name: row.name,
        capabilities_json: row.capabilities_json,
        state: state.to_owned(),
        leases: row.leases,
        seen_ms: row.seen_ms,
    }
}
