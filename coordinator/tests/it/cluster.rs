//! A coordinator in this process that can be killed and opened again, and clients that speak to it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use remaster_coordinator::{Clock, Config, Coordinator, CoordinatorError, serve};
use remaster_domain::{Capabilities, FailureClass, JobId, JobSpec, Lease, SessionId, TaskKind, WorkerId};
use remaster_proto::pb::catalog_client::CatalogClient;
use remaster_proto::pb::jobs_client::JobsClient;
use remaster_proto::{ClientError, LeaseClient, PROTOCOL_VERSION, pb, to_json};
use remaster_store::Store;
use remaster_testkit::PostgresServer;
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use crate::fake;

pub const LEASE_MS: u32 = 30_000;
/// What a pipe holds: enough that no test waits for the other end to read.
const PIPE_BYTES: usize = 1024 * 1024;

/// Which database a coordinator keeps its state in.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Sqlite,
    Postgres,
}

pub struct Cluster {
    pub dir: TempDir,
    /// Of the database.
    pub url: String,
    pub now_ms: Arc<AtomicI64>,
    pub store: Store,
    pub running: Running,
}

/// One life of the coordinator, on threads of its own that can be stopped dead.
pub struct Running {
    core: Weak<Coordinator>,
    runtime: Option<Runtime>,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<Result<(), CoordinatorError>>,
    pub channel: Channel,
}

impl Cluster {
    pub async fn start(kind: Kind) -> Self {
        let dir = TempDir::new().unwrap();
        let url = match kind {
            Kind::Sqlite => dir.path().join("coordinator.db").display().to_string(),
            Kind::Postgres => PostgresServer::shared().unwrap().database().unwrap(),
        };
        let now_ms = Arc::new(AtomicI64::new(1_700_000_000_000));
        let store = Store::open(&format!("file://{}/store", dir.path().display())).unwrap();
        let running = Running::start(&url, &now_ms, &store, PROTOCOL_VERSION).await;
        Self {
            dir,
            url,
            now_ms,
            store,
            running,
        }
    }

    /// As kill -9 and a new start: nothing is told to end, nothing is flushed.
    pub async fn restart(&mut self) {
        self.running.kill();
        self.running = Running::start(&self.url, &self.now_ms, &self.store, PROTOCOL_VERSION).await;
    }

    /// One more coordinator on the same database.
    pub async fn another(&self) -> Running {
        self.another_of(PROTOCOL_VERSION).await
    }

    /// One more that speaks another version.
    pub async fn another_of(&self, version: u32) -> Running {
        Running::start(&self.url, &self.now_ms, &self.store, version).await
    }

    /// Opens a coordinator on a database without serving it.
    pub async fn open(&self, url: &str) -> Result<Arc<Coordinator>, CoordinatorError> {
        open(url, &self.now_ms, &self.store, PROTOCOL_VERSION).await
    }

    pub fn core(&self) -> Arc<Coordinator> {
        self.running.core()
    }

    pub fn advance_ms(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn jobs(&self) -> JobsClient<Channel> {
        JobsClient::new(self.running.channel.clone())
    }

    pub fn catalog(&self) -> CatalogClient<Channel> {
        CatalogClient::new(self.running.channel.clone())
    }

    /// A registered worker of these kinds.
    pub async fn worker(&self, kinds: &[TaskKind]) -> Worker {
        self.worker_at(&self.running, kinds).await
    }

    /// The same at another coordinator.
    pub async fn worker_at(&self, running: &Running, kinds: &[TaskKind]) -> Worker {
        self.worker_with(running, kinds, &[]).await
    }

    /// The same with something to say of itself: labels, some with `=` and a value.
    pub async fn worker_with(&self, running: &Running, kinds: &[TaskKind], labels: &[&str]) -> Worker {
        let id = WorkerId::from_uuid(Uuid::now_v7());
        self.life_of(id, running, kinds, labels).await
    }

    /// The next life of a worker.
    pub async fn reborn(&self, worker: &Worker, kinds: &[TaskKind]) -> Worker {
        self.life_of(worker.id.clone(), &self.running, kinds, &[]).await
    }

    async fn life_of(&self, id: WorkerId, running: &Running, kinds: &[TaskKind], labels: &[&str]) -> Worker {
        let session = SessionId::from_uuid(Uuid::now_v7());
        let client = LeaseClient::new(running.channel.clone(), session.clone());
        let capabilities = Capabilities {
            kinds: kinds.to_vec(),
            labels: labels
                .iter()
                .map(|label| label.split_once('=').unwrap_or((label, "yes")))
                .map(|(label, value)| (label.to_owned(), value.to_owned()))
                .collect(),
        };
        client.register(&id, "test", &capabilities).await.unwrap();
        Worker {
            id,
            session,
            client,
            store: self.store.clone(),
        }
    }

    /// A worker that takes everything and speaks another version.
    pub async fn worker_of(&self, version: u32) -> Result<Worker, ClientError> {
        self.worker_of_at(&self.running, version).await
    }

    /// The same at another coordinator.
    pub async fn worker_of_at(&self, running: &Running, version: u32) -> Result<Worker, ClientError> {
        let (id, session) = (
            WorkerId::from_uuid(Uuid::now_v7()),
            SessionId::from_uuid(Uuid::now_v7()),
        );
        let client = LeaseClient::of_version(running.channel.clone(), session.clone(), version);
        let capabilities = Capabilities {
            kinds: fake::ALL.to_vec(),
            ..Capabilities::default()
        };
        client.register(&id, "other", &capabilities).await?;
        let store = self.store.clone();
        Ok(Worker {
            id,
            session,
            client,
            store,
        })
    }

    /// The same session over a new connection.
    pub fn reconnect(&self, worker: &mut Worker) {
        worker.client = LeaseClient::new(self.running.channel.clone(), worker.session.clone());
    }

    /// Hands a job in at another coordinator, as a client of the version before does.
    pub async fn submit_at(&self, running: &Running, spec: &JobSpec) -> Result<JobId, Status> {
        let request = pb::SubmitJobRequest {
            protocol_version: PROTOCOL_VERSION - 1,
            ..submit_request(&JobId::from_uuid(Uuid::now_v7()), spec, 0)
        };
        let reply = JobsClient::new(running.channel.clone())
            .submit_job(request)
            .await?;
        Ok(reply.into_inner().job_id.parse().unwrap())
    }

    pub async fn submit(&self, spec: &JobSpec) -> Result<JobId, Status> {
        self.submit_as(&JobId::from_uuid(Uuid::now_v7()), spec, 0).await
    }

    pub async fn submit_as(&self, id: &JobId, spec: &JobSpec, priority: i64) -> Result<JobId, Status> {
        let request = submit_request(id, spec, priority);
        let reply = self.jobs().submit_job(request).await?.into_inner();
        Ok(reply.job_id.parse().unwrap())
    }

    pub async fn control(&self, job: &JobId, action: &str) -> Result<pb::ControlJobResponse, Status> {
        let request = pb::ControlJobRequest {
            job_id: job.to_string(),
            action: action.to_owned(),
        };
        Ok(self.jobs().control_job(request).await?.into_inner())
    }

    pub async fn job(&self, job: &JobId) -> pb::GetJobResponse {
        let job_id = job.to_string();
        let request = pb::GetJobRequest {
            job_id,
            ..Default::default()
        };
        self.jobs().get_job(request).await.unwrap().into_inner()
    }

    pub async fn summary(&self, job: &JobId) -> pb::JobSummary {
        self.job(job).await.summary.unwrap()
    }

    pub async fn task(&self, job: &JobId, name: &str) -> Option<pb::TaskSummary> {
        self.job(job)
            .await
            .tasks
            .into_iter()
            .find(|task| task.name == name)
    }

    /// Names what is committed and answers the job's state.
    pub async fn settle(&self, job: &JobId) -> String {
        self.core().copy_pending().await.unwrap();
        self.summary(job).await.state
    }
}

impl Running {
    async fn start(url: &str, now_ms: &Arc<AtomicI64>, store: &Store, version: u32) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let opened = open_when_free(url.to_owned(), Arc::clone(now_ms), store.clone(), version);
        let core = runtime.spawn(opened).await.unwrap();
        let (connections, incoming) = mpsc::unbounded_channel::<Result<DuplexStream, std::io::Error>>();
        let shutdown = CancellationToken::new();
        let incoming = UnboundedReceiverStream::new(incoming);
        let server = runtime.spawn(serve(Arc::clone(&core), incoming, shutdown.clone()));
        let connector = tower::service_fn(move |_| {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            let sent = connections.send(Ok(theirs));
            async move {
                match sent {
                    Ok(()) => Ok(TokioIo::new(ours)),
                    Err(_) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
                }
            }
        });
        let channel = Endpoint::from_static("http://coordinator").connect_with_connector_lazy(connector);
        Self {
            core: Arc::downgrade(&core),
            runtime: Some(runtime),
            shutdown,
            server,
            channel,
        }
    }

    pub fn core(&self) -> Arc<Coordinator> {
        self.core.upgrade().expect("it was not killed")
    }

    /// Stops it dead, but for what its writer was asked already.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn submit_request(id: &JobId, spec: &JobSpec, priority: i64) -> pb::SubmitJobRequest {
    pb::SubmitJobRequest {
        protocol_version: PROTOCOL_VERSION,
        spec_json: to_json(spec),
        priority,
        job_id: id.to_string(),
    }
}

async fn open(
    url: &str,
    now_ms: &Arc<AtomicI64>,
    store: &Store,
    version: u32,
) -> Result<Arc<Coordinator>, CoordinatorError> {
    let config = Config::new(url, LEASE_MS, 10_000).unwrap().speaking(version);
    Coordinator::open(config, store.clone(), Clock::Hand(Arc::clone(now_ms))).await
}

async fn open_when_free(url: String, now_ms: Arc<AtomicI64>, store: Store, version: u32) -> Arc<Coordinator> {
    for _ in 0..200 {
        match open(&url, &now_ms, &store, version).await {
            Err(CoordinatorError::DatabaseInUse(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            other => return other.unwrap(),
        }
    }
    panic!("the killed coordinator never let go of its database");
}

pub struct Worker {
    pub id: WorkerId,
    pub session: SessionId,
    pub client: LeaseClient,
    pub store: Store,
}

impl Worker {
    pub async fn lease(&self, slots: u32) -> Vec<Lease> {
        self.client.lease(slots, Duration::ZERO).await.unwrap().leases
    }

    /// The one task that is ready.
    pub async fn lease_one(&self) -> Lease {
        let mut leases = self.lease(1).await;
        assert_eq!(leases.len(), 1, "exactly one lease");
        leases.remove(0)
    }

    pub async fn commit(&self, lease: &Lease) -> Result<(), ClientError> {
        let (result, objects) = fake::result(&self.store, &lease.spec).await;
        self.client
            .commit(&lease.task, lease.token, &result, &objects)
            .await
    }

    /// Reports that the work failed, not for its input.
    pub async fn fail(&self, lease: &Lease) {
        let (task, token) = (&lease.task, lease.token);
        let failed = self
            .client
            .fail(task, token, FailureClass::Retryable, "disk full");
        failed.await.unwrap();
    }

    /// Runs up to `most` tasks one after another; answers how many there were.
    pub async fn run(&self, most: usize) -> usize {
        for done in 0..most {
            let Some(lease) = self.lease(1).await.pop() else {
                return done;
            };
            self.commit(&lease).await.unwrap();
        }
        most
    }
}

/// What a plain HTTP server answers, head and body.
pub async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}
