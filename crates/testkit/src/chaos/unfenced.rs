//! Switches fencing off without touching the coordinator: a middleman who knows every task's newest lease, its session and its
//! token, and writes them over the stale ones. Who speaks through it is never refused; the checker must notice what comes of that.

use std::collections::{BTreeMap, HashMap};
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
    newest: Arc<Mutex<HashMap<String, Held>>>,
}

/// The session and the token of a lease.
type Held = (String, i64);

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
    fn newest(&self) -> std::sync::MutexGuard<'_, HashMap<String, Held>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a lease the one that counts, whatever the caller holds.
    fn forge(&self, task: &str, session: &mut String, token: &mut i64) {
        if let Some(newest) = self.newest().get(task) {
            (*session, *token) = newest.clone();
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Workers for Middleman {
    async fn register(&self, request: Request<pb::RegisterRequest>) -> Answer<pb::RegisterResponse> {
        self.coordinator.clone().register(request.into_inner()).await
    }

    async fn lease_tasks(&self, request: Request<pb::LeaseTasksRequest>) -> Answer<pb::LeaseTasksResponse> {
        let request = request.into_inner();
        let session = request.session_id.clone();
        let answer = self.coordinator.clone().lease_tasks(request).await?;
        for lease in &answer.get_ref().leases {
            let held = (session.clone(), lease.token);
            self.newest().insert(lease.task_id.clone(), held);
        }
        Ok(answer)
    }

    async fn heartbeat(&self, request: Request<pb::HeartbeatRequest>) -> Answer<pb::HeartbeatResponse> {
        let own = request.into_inner();
        let held: HashMap<_, _> = own
            .leases
            .iter()
            .map(|lease| (lease.task_id.clone(), lease.token))
            .collect();
        // Each session speaks for what it was given; the caller's own says at least that it lives.
        let mut beats = BTreeMap::from([(own.session_id.clone(), vec![])]);
        for mut lease in own.leases {
            let mut session = own.session_id.clone();
            self.forge(&lease.task_id, &mut session, &mut lease.token);
            beats.entry(session).or_default().push(lease);
        }
        let mut all = pb::HeartbeatResponse::default();
        for (session_id, leases) in beats {
            let is_own = session_id == own.session_id;
            let beat = pb::HeartbeatRequest { session_id, leases };
            let answer = self.coordinator.clone().heartbeat(beat).await?.into_inner();
            all.drain |= is_own && answer.drain;
            all.verdicts.extend(answer.verdicts);
        }
        for verdict in &mut all.verdicts {
            verdict.token = held.get(&verdict.task_id).copied().unwrap_or(verdict.token);
        }
        Ok(Response::new(all))
    }

    async fn record_output(
        &self,
        request: Request<pb::RecordOutputRequest>,
    ) -> Answer<pb::RecordOutputResponse> {
        let mut record = request.into_inner();
        self.forge(&record.task_id, &mut record.session_id, &mut record.token);
        self.coordinator.clone().record_output(record).await
    }

    async fn commit_task(&self, request: Request<pb::CommitTaskRequest>) -> Answer<pb::CommitTaskResponse> {
        let mut commit = request.into_inner();
        self.forge(&commit.task_id, &mut commit.session_id, &mut commit.token);
        self.coordinator.clone().commit_task(commit).await
    }

    async fn fail_task(&self, request: Request<pb::FailTaskRequest>) -> Answer<pb::FailTaskResponse> {
        let mut fail = request.into_inner();
        self.forge(&fail.task_id, &mut fail.session_id, &mut fail.token);
        self.coordinator.clone().fail_task(fail).await
    }

    async fn release_task(
        &self,
        request: Request<pb::ReleaseTaskRequest>,
    ) -> Answer<pb::ReleaseTaskResponse> {
        let mut release = request.into_inner();
        self.forge(&release.task_id, &mut release.session_id, &mut release.token);
        self.coordinator.clone().release_task(release).await
    }
}
