//! A typed client of the `Workers` service: domain types in, domain types out, limits set once.

use std::time::Duration;

use remaster_domain::{
    Capabilities, Checkpoint, FailureClass, Lease, LeaseProgress, LeaseToken, OutputObject, SessionId,
    TaskId, TaskResult, Verdict, WorkerId,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::convert::{WireError, id, to_json};
use crate::{PROTOCOL_VERSION, pb};

/// Largest message either way. A curate spec of a 72-episode season is 0.5 MB and a job's task list 8 MB.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A coordinator that does not answer the handshake within this is treated as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Must exceed the longest long poll.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Finds out that a peer is gone although no call is under way.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Why a call failed, as far as a worker acts on it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The lease is not ours any more: drop the work.
    #[error("lease lost: {0}")]
    LeaseLost(String),
    /// The coordinator does not know this session: register again.
    #[error("session is not known: {0}")]
    SessionUnknown(String),
    /// The coordinator refuses what was asked, or this client for good.
    #[error("refused by the coordinator: {0}")]
    Refused(String),
    /// The coordinator is away or busy: try again.
    #[error("coordinator cannot be reached: {0}")]
    Unavailable(String),
    /// An answer that makes no sense.
    #[error("malformed answer: {0}")]
    Malformed(#[from] WireError),
}

impl ClientError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::FailedPrecondition => Self::LeaseLost(message),
            Code::Unauthenticated => Self::SessionUnknown(message),
            // Out of range is what tonic says of a message that is too large, which it stays.
            Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::NotFound
            | Code::OutOfRange => Self::Refused(message),
            _ => Self::Unavailable(message),
        }
    }
}

/// Opens a channel to a coordinator; connects when first used and again whenever the connection breaks.
///
/// # Errors
/// When the URL is not one.
pub fn connect(url: &str) -> Result<Channel, ClientError> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| ClientError::Refused(format!("`{url}` is not a coordinator URL: {error}")))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_while_idle(true)
        .connect_lazy())
}

/// What a lease call brought.
#[derive(Debug, Default)]
pub struct LeaseGrant {
    /// Tasks to run; may be empty.
    pub leases: Vec<Lease>,
    /// Leases that are ours and that this release cannot read.
    pub unreadable: Vec<UnreadableLease>,
    /// Whether to ask for nothing more.
    pub drain: bool,
}

/// A lease whose task cannot be read, which spoils none of those granted with it.
#[derive(Debug, PartialEq, Eq)]
pub struct UnreadableLease {
    /// The task.
    pub task: TaskId,
    /// The right to say so.
    pub token: LeaseToken,
    /// What cannot be read.
    pub reason: String,
}

/// One session's view of the coordinator.
#[derive(Debug, Clone)]
pub struct LeaseClient {
    inner: pb::workers_client::WorkersClient<Channel>,
    session: SessionId,
    version: u32,
}

impl LeaseClient {
    /// Speaks for one session over a channel.
    #[must_use]
    pub fn new(channel: Channel, session: SessionId) -> Self {
        Self::of_version(channel, session, PROTOCOL_VERSION)
    }

    /// The same as a release of another protocol version would: for tests of upgrades.
    #[must_use]
    pub fn of_version(channel: Channel, session: SessionId, version: u32) -> Self {
        let inner = pb::workers_client::WorkersClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self {
            inner,
            session,
            version,
        }
    }

    /// Registers; answers lease and heartbeat intervals.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the protocol versions do not fit.
    pub async fn register(
        &self,
        worker: &WorkerId,
        name: &str,
        capabilities: &Capabilities,
    ) -> Result<(Duration, Duration), ClientError> {
        let request = pb::RegisterRequest {
            protocol_version: self.version,
            worker_id: worker.to_string(),
            session_id: self.session.to_string(),
            name: name.to_owned(),
            capabilities_json: to_json(capabilities),
        };
        let reply =
            self.inner
                .clone()
                .register(request)
                .await
                .map_err(|status| match ClientError::from(status) {
                    ClientError::LeaseLost(message) => ClientError::Refused(message),
                    other => other,
                })?;
        let reply = reply.into_inner();
        Ok((
            Duration::from_millis(reply.lease_ms.into()),
            Duration::from_millis(reply.heartbeat_ms.into()),
        ))
    }

    /// Asks for work and waits for it.
    ///
    /// # Errors
    /// As the service answers.
    pub async fn lease(&self, slots: u32, wait: Duration) -> Result<LeaseGrant, ClientError> {
        let request = pb::LeaseTasksRequest {
            session_id: self.session.to_string(),
            slots,
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        };
        let reply = self.inner.clone().lease_tasks(request).await?.into_inner();
        let mut grant = LeaseGrant {
            drain: reply.drain,
            ..LeaseGrant::default()
        };
        for lease in reply.leases {
            let (task, token) = (id("task_id", &lease.task_id), LeaseToken(lease.token));
            match (Lease::try_from(lease), task) {
                (Ok(lease), _) => grant.leases.push(lease),
                (Err(error), Ok(task)) => grant.unreadable.push(UnreadableLease {
                    task,
                    token,
                    reason: error.to_string(),
                }),
                // Nobody can be told of a task that has no name.
                (Err(error), Err(_)) => tracing::warn!(%error, "a lease cannot be read"),
            }
        }
        Ok(grant)
    }

    /// Renews leases.
    ///
    /// # Errors
    /// As the service answers.
    pub async fn heartbeat(
        &self,
        leases: Vec<LeaseProgress>,
    ) -> Result<(Vec<(TaskId, LeaseToken, Verdict)>, bool), ClientError> {
        let request = pb::HeartbeatRequest {
            session_id: self.session.to_string(),
            leases: leases.into_iter().map(Into::into).collect(),
        };
        let reply = self.inner.clone().heartbeat(request).await?.into_inner();
        let verdicts = reply
            .verdicts
            .into_iter()
            .map(|v| {
                Ok((
                    id("task_id", &v.task_id)?,
                    LeaseToken(v.token),
                    Verdict::try_from(v.verdict())?,
                ))
            })
            .collect::<Result<_, WireError>>()?;
        Ok((verdicts, reply.drain))
    }

    /// Makes a checkpoint count.
    ///
    /// # Errors
    /// [`ClientError::LeaseLost`] when the token is stale.
    pub async fn record(
        &self,
        task: &TaskId,
        token: LeaseToken,
        checkpoint: Checkpoint,
        objects: Vec<OutputObject>,
    ) -> Result<(), ClientError> {
        let request = pb::RecordOutputRequest {
            session_id: self.session.to_string(),
            task_id: task.to_string(),
            token: token.0,
            checkpoint: Some(checkpoint.into()),
            objects: objects.into_iter().map(Into::into).collect(),
        };
        self.inner.clone().record_output(request).await?;
        Ok(())
    }

    /// Makes a result count.
    ///
    /// # Errors
    /// [`ClientError::LeaseLost`] when the token is stale.
    pub async fn commit(
        &self,
        task: &TaskId,
        token: LeaseToken,
        result: &TaskResult,
        objects: &[OutputObject],
    ) -> Result<(), ClientError> {
        let request = pb::CommitTaskRequest {
            session_id: self.session.to_string(),
            task_id: task.to_string(),
            token: token.0,
            result_json: to_json(result),
            objects: objects.iter().cloned().map(Into::into).collect(),
        };
        self.inner.clone().commit_task(request).await?;
        Ok(())
    }

    /// Reports a failed attempt.
    ///
    /// # Errors
    /// [`ClientError::LeaseLost`] when the token is stale.
    pub async fn fail(
        &self,
        task: &TaskId,
        token: LeaseToken,
        class: FailureClass,
        message: &str,
    ) -> Result<(), ClientError> {
        let request = pb::FailTaskRequest {
            session_id: self.session.to_string(),
            task_id: task.to_string(),
            token: token.0,
            failure_class: class.as_str().to_owned(),
            message: message.to_owned(),
        };
        self.inner.clone().fail_task(request).await?;
        Ok(())
    }

    /// Gives a lease back unfinished.
    ///
    /// # Errors
    /// [`ClientError::LeaseLost`] when the token is stale.
    pub async fn release(&self, task: &TaskId, token: LeaseToken) -> Result<(), ClientError> {
        let request = pb::ReleaseTaskRequest {
            session_id: self.session.to_string(),
            task_id: task.to_string(),
            token: token.0,
        };
        self.inner.clone().release_task(request).await?;
        Ok(())
    }
}
