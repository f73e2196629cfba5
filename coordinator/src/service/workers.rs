//! `Workers` over the wire.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use remaster_domain::{FailureClass, LeaseProgress, Verdict};
use remaster_proto::{from_json, pb};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::CoordinatorError;
use crate::coordinator::{Coordinator, LeaseName, Registration, parse_id};

/// Speaks for the core to workers.
#[derive(Debug)]
pub(crate) struct WorkersService {
    pub(crate) core: Arc<Coordinator>,
    /// Ends long polls.
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl pb::workers_server::Workers for WorkersService {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let registration = registration(request.into_inner())?;
        self.core.register(registration).await?;
        Ok(Response::new(pb::RegisterResponse {
            lease_ms: self.core.config.lease_ms,
            heartbeat_ms: self.core.config.heartbeat_ms,
        }))
    }

    async fn lease_tasks(
        &self,
        request: Request<pb::LeaseTasksRequest>,
    ) -> Result<Response<pb::LeaseTasksResponse>, Status> {
        let request = request.into_inner();
        let session = parse_id("session_id", &request.session_id)?;
        let wait = Duration::from_millis(request.wait_ms.into());
        let grant = self
            .core
            .lease(session, request.slots, wait, &self.shutdown)
            .await?;
        Ok(Response::new(pb::LeaseTasksResponse {
            leases: grant.leases.into_iter().map(Into::into).collect(),
            drain: grant.drain,
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let session = parse_id("session_id", &request.session_id)?;
        let leases = request
            .leases
            .into_iter()
            .map(LeaseProgress::try_from)
            .collect::<Result<_, _>>()?;
        let renewal = self.core.heartbeat(session, leases).await?;
        let lost = renewal
            .verdicts
            .iter()
            .filter(|(_, _, verdict)| *verdict == Verdict::Lost);
        self.note_stale(lost.count());
        let verdicts = renewal
            .verdicts
            .into_iter()
            .map(|(task, token, verdict)| pb::LeaseVerdict {
                task_id: task.into(),
                token: token.0,
                verdict: pb::Verdict::from(verdict).into(),
            });
        Ok(Response::new(pb::HeartbeatResponse {
            verdicts: verdicts.collect(),
            drain: renewal.drain,
        }))
    }

    async fn record_output(
        &self,
        request: Request<pb::RecordOutputRequest>,
    ) -> Result<Response<pb::RecordOutputResponse>, Status> {
        let request = request.into_inner();
        let lease = lease_name(&request.session_id, &request.task_id, request.token)?;
        let checkpoint = request
            .checkpoint
            .ok_or_else(|| Status::invalid_argument("field `checkpoint` is missing"))?
            .try_into()?;
        let objects = request.objects.into_iter().map(Into::into).collect();
        self.counted(self.core.record(lease, checkpoint, objects).await)?;
        Ok(Response::new(pb::RecordOutputResponse {}))
    }

    async fn commit_task(
        &self,
        request: Request<pb::CommitTaskRequest>,
    ) -> Result<Response<pb::CommitTaskResponse>, Status> {
        let request = request.into_inner();
        let lease = lease_name(&request.session_id, &request.task_id, request.token)?;
        let objects = request.objects.into_iter().map(Into::into).collect();
        let committed = self.core.commit(lease, &request.result_json, objects).await;
        self.counted(committed)?;
        Ok(Response::new(pb::CommitTaskResponse {}))
    }

    async fn fail_task(
        &self,
        request: Request<pb::FailTaskRequest>,
    ) -> Result<Response<pb::FailTaskResponse>, Status> {
        let request = request.into_inner();
        let lease = lease_name(&request.session_id, &request.task_id, request.token)?;
        let class = FailureClass::parse(&request.failure_class).ok_or_else(|| {
            Status::invalid_argument(format!(
                "field `failure_class`: `{}` is no class",
                request.failure_class
            ))
        })?;
        self.counted(self.core.fail(lease, class, &request.message).await)?;
        Ok(Response::new(pb::FailTaskResponse {}))
    }

    async fn release_task(
        &self,
        request: Request<pb::ReleaseTaskRequest>,
    ) -> Result<Response<pb::ReleaseTaskResponse>, Status> {
        let request = request.into_inner();
        let lease = lease_name(&request.session_id, &request.task_id, request.token)?;
        self.counted(self.core.release(lease).await)?;
        Ok(Response::new(pb::ReleaseTaskResponse {}))
    }
}

impl WorkersService {
    /// Counts what is refused for its lease.
    fn counted(&self, outcome: Result<(), CoordinatorError>) -> Result<(), CoordinatorError> {
        self.note_stale(usize::from(matches!(outcome, Err(CoordinatorError::Stale(_)))));
        outcome
    }

    fn note_stale(&self, calls: usize) {
        let calls = i64::try_from(calls).unwrap_or(i64::MAX);
        self.core.stale_calls.fetch_add(calls, Ordering::Relaxed);
    }
}

fn registration(request: pb::RegisterRequest) -> Result<Registration, CoordinatorError> {
    Ok(Registration {
        protocol_version: request.protocol_version,
        worker: parse_id("worker_id", &request.worker_id)?,
        session: parse_id("session_id", &request.session_id)?,
        name: request.name,
        capabilities: from_json("capabilities_json", &request.capabilities_json)?,
    })
}

fn lease_name(session: &str, task: &str, token: i64) -> Result<LeaseName, CoordinatorError> {
    Ok(LeaseName {
        session: parse_id("session_id", session)?,
        task: parse_id("task_id", task)?,
        token: remaster_domain::LeaseToken(token),
    })
}
