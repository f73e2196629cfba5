//! Switches fencing off without touching the coordinator: a middleman who knows every task's newest token and writes it over
//! the stale ones. Who speaks through it is never refused; the checker must notice what comes of that.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use remaster_proto::{MESSAGE_BYTES_MAX, connect, pb};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use pb::workers_client::WorkersClient;
use pb::workers_server::{Workers, WorkersServer};

/// Speaks to the coordinator for everybody.
#[derive(Debug, Clone)]
struct Middleman {
    coordinator: WorkersClient<Channel>,
    newest: Arc<Mutex<HashMap<String, i64>>>,
}

/// Starts it before a coordinator that need not listen yet; answers where workers find it.
pub(super) async fn start(coordinator: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let channel = connect(&format!("http://{coordinator}"))?;
    let middleman = Middleman {
        coordinator: WorkersClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        newest: Arc::default(),
    };
    let service = WorkersServer::new(middleman).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let serving = Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(async move {
        // It ends with the run; until then a failure shows as workers without a coordinator.
        let _ = serving.await;
    });
    Ok(address)
}

impl Middleman {
    fn newest(&self) -> std::sync::MutexGuard<'_, HashMap<String, i64>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token that counts, whatever the caller holds.
    fn forge(&self, task: &str, held: i64) -> i64 {
        self.newest().get(task).copied().unwrap_or(held)
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Workers for Middleman {
    async fn register(&self, request: Request<pb::RegisterRequest>) -> Answer<pb::RegisterResponse> {
        self.coordinator.clone().register(request.into_inner()).await
    }

    async fn lease_tasks(&self, request: Request<pb::LeaseTasksRequest>) -> Answer<pb::LeaseTasksResponse> {
        let answer = self.coordinator.clone().lease_tasks(request.into_inner()).await?;
        for lease in &answer.get_ref().leases {
            self.newest().insert(lease.task_id.clone(), lease.token);
        }
        Ok(answer)
    }

    async fn heartbeat(&self, request: Request<pb::HeartbeatRequest>) -> Answer<pb::HeartbeatResponse> {
        let mut beat = request.into_inner();
        let held: HashMap<String, i64> = beat
            .leases
            .iter()
            .map(|lease| (lease.task_id.clone(), lease.token))
            .collect();
        for lease in &mut beat.leases {
            lease.token = self.forge(&lease.task_id, lease.token);
        }
        let mut answer = self.coordinator.clone().heartbeat(beat).await?;
        for verdict in &mut answer.get_mut().verdicts {
            verdict.token = held.get(&verdict.task_id).copied().unwrap_or(verdict.token);
        }
        Ok(answer)
    }

    async fn record_output(
        &self,
        request: Request<pb::RecordOutputRequest>,
    ) -> Answer<pb::RecordOutputResponse> {
        let mut record = request.into_inner();
        record.token = self.forge(&record.task_id, record.token);
        self.coordinator.clone().record_output(record).await
    }

    async fn commit_task(&self, request: Request<pb::CommitTaskRequest>) -> Answer<pb::CommitTaskResponse> {
        let mut commit = request.into_inner();
        commit.token = self.forge(&commit.task_id, commit.token);
        self.coordinator.clone().commit_task(commit).await
    }

    async fn fail_task(&self, request: Request<pb::FailTaskRequest>) -> Answer<pb::FailTaskResponse> {
        let mut fail = request.into_inner();
        fail.token = self.forge(&fail.task_id, fail.token);
        self.coordinator.clone().fail_task(fail).await
    }

    async fn release_task(
        &self,
        request: Request<pb::ReleaseTaskRequest>,
    ) -> Answer<pb::ReleaseTaskResponse> {
        let mut release = request.into_inner();
        release.token = self.forge(&release.task_id, release.token);
        self.coordinator.clone().release_task(release).await
    }
}
