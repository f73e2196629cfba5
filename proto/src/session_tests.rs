//! Sessions with a coordinator that grants and answers over a pipe what a test wrote down, in tokio's time, which stands still.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;

use hyper_util::rt::TokioIo;
use remaster_domain::{
    Checkpoint, ContentHash, FailureClass, IndexResult, IndexSpec, SessionId, SourceRef, TaskKind,
    TaskResult, TaskSpec,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use super::*;
use crate::attempt::{Attempt, AttemptError, Completion};
use crate::{pb, to_json};

#[path = "span_tests.rs"]
mod spans;

const LEASE: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Of the clock that stands still: a session that says nothing for so long says nothing more.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// How heartbeats are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Beats {
    #[default]
    Renew,
    Lost,
    /// Renews, and asks to drain once something runs.
    Drain,
    /// Never.
    Hang,
}

/// What the coordinator does.
#[derive(Debug, Default)]
struct Script {
    beats: Beats,
    /// What the lease calls are granted, one after the other, and how long the answer is on its way.
    grants: VecDeque<(Duration, Vec<pb::Lease>)>,
    commit: Option<Status>,
    record: Option<Status>,
}

struct Stub {
    script: Mutex<Script>,
    said: UnboundedSender<String>,
}

impl Stub {
    fn say(&self, what: &str, task: &str) {
        let number = task.trim_start_matches(['0', '-']);
        self.said.send(format!("{what} {number}")).unwrap();
    }
}

fn answer<T>(refusal: Option<&Status>, reply: T) -> Result<Response<T>, Status> {
    refusal.cloned().map_or(Ok(Response::new(reply)), Err)
}

#[tonic::async_trait]
impl pb::workers_server::Workers for Stub {
    async fn register(
        &self,
        _: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        Ok(Response::new(pb::RegisterResponse {
            lease_ms: LEASE.as_millis() as u32,
            heartbeat_ms: HEARTBEAT.as_millis() as u32,
        }))
    }

    async fn lease_tasks(
        &self,
        request: Request<pb::LeaseTasksRequest>,
    ) -> Result<Response<pb::LeaseTasksResponse>, Status> {
        let granted = self.script.lock().unwrap().grants.pop_front();
        let wait = Duration::from_millis(request.get_ref().wait_ms.into());
        let (on_its_way, leases) = granted.unwrap_or((wait, vec![]));
        sleep(on_its_way).await;
        Ok(Response::new(pb::LeaseTasksResponse { leases, drain: false }))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let beats = self.script.lock().unwrap().beats;
        let leases = request.into_inner().leases;
        let (verdict, drain) = match beats {
            Beats::Renew => (pb::Verdict::Ok, false),
            Beats::Lost => (pb::Verdict::Lost, false),
            Beats::Drain => (pb::Verdict::Ok, !leases.is_empty()),
            Beats::Hang => pending().await,
        };
        let verdicts = leases.into_iter().map(|lease| pb::LeaseVerdict {
            task_id: lease.task_id,
            token: lease.token,
            verdict: verdict.into(),
        });
        Ok(Response::new(pb::HeartbeatResponse {
            verdicts: verdicts.collect(),
            drain,
        }))
    }

    async fn record_output(
        &self,
        request: Request<pb::RecordOutputRequest>,
    ) -> Result<Response<pb::RecordOutputResponse>, Status> {
        self.say("record", &request.get_ref().task_id);
        answer(
            self.script.lock().unwrap().record.as_ref(),
            pb::RecordOutputResponse {},
        )
    }

    async fn commit_task(
        &self,
        request: Request<pb::CommitTaskRequest>,
    ) -> Result<Response<pb::CommitTaskResponse>, Status> {
        self.say("commit", &request.get_ref().task_id);
        answer(
            self.script.lock().unwrap().commit.as_ref(),
            pb::CommitTaskResponse {},
        )
    }

    async fn fail_task(
        &self,
        request: Request<pb::FailTaskRequest>,
    ) -> Result<Response<pb::FailTaskResponse>, Status> {
        let pb::FailTaskRequest {
            task_id,
            failure_class,
            message,
            ..
        } = request.get_ref();
        self.say(&format!("{failure_class}, {message}:"), task_id);
        Ok(Response::new(pb::FailTaskResponse {}))
    }

    async fn release_task(
        &self,
        request: Request<pb::ReleaseTaskRequest>,
    ) -> Result<Response<pb::ReleaseTaskResponse>, Status> {
        self.say("release", &request.get_ref().task_id);
        Ok(Response::new(pb::ReleaseTaskResponse {}))
    }
}

type Outcome = Result<Completion, AttemptError>;
type Begun = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A runner made of a function.
struct Work(Box<dyn Fn(Attempt) -> Begun + Send + Sync>);

impl Work {
    fn of<F: Future<Output = Outcome> + Send + 'static>(
        work: impl Fn(Attempt) -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(move |attempt| Box::pin(work(attempt))))
    }

    /// Takes so long for every task, unless it is stopped.
    fn taking(time: Duration) -> Self {
        Self::of(move |attempt| async move {
            tokio::select! {
                () = sleep(time) => Ok(done()),
                () = attempt.stop.cancelled() => Err(AttemptError::Stopped),
            }
        })
    }
}

impl TaskRunner for Work {
    async fn run(&self, attempt: Attempt) -> Outcome {
        (self.0)(attempt).await
    }
}

fn done() -> Completion {
    let result = IndexResult {
        index: ContentHash::of(b"index"),
        frame_count: 1,
    };
    Completion {
        result: TaskResult::Index(result),
        objects: vec![],
    }
}

/// The lease of the task of that number, 1 to 9.
fn lease(number: u32) -> pb::Lease {
    let id = format!("00000000-0000-0000-0000-00000000000{number}");
    let spec = TaskSpec::Index(IndexSpec {
        source: SourceRef {
            sha256: ContentHash::of(b"film"),
            bytes: 4,
            name: "film.mkv".to_owned(),
            path_hint: None,
        },
    });
    pb::Lease {
        task_id: id.clone(),
        job_id: id,
        token: 1,
        attempt: 1,
        spec_json: to_json(&spec),
        checkpoint: None,
    }
}

fn granted_at_once(leases: Vec<pb::Lease>) -> VecDeque<(Duration, Vec<pb::Lease>)> {
    [(Duration::ZERO, leases)].into()
}

/// A session and what it says to the coordinator.
struct Running {
    session: JoinHandle<Result<(), SessionError>>,
    shutdown: CancellationToken,
    said: UnboundedReceiver<String>,
}

impl Running {
    fn start(slots: u32, script: Script, work: Work) -> Self {
        let (sender, said) = unbounded_channel();
        let stub = Stub {
            script: Mutex::new(script),
            said: sender,
        };
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(theirs)).chain(tokio_stream::pending());
        let service = pb::workers_server::WorkersServer::new(stub);
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        let mut ours = Some(ours);
        let connector = tower::service_fn(move |_| {
            let ours = ours.take().map(TokioIo::new);
            async move { ours.ok_or(std::io::Error::other("there is one connection")) }
        });
        let channel = Endpoint::from_static("http://coordinator").connect_with_connector_lazy(connector);
        let uuid = "00000000-0000-0000-0000-0000000000ff";
        let session: SessionId = uuid.parse().unwrap();
        let config = SessionConfig {
            worker: uuid.parse().unwrap(),
            name: "worker".to_owned(),
            capabilities: Capabilities {
                kinds: vec![TaskKind::Index],
                ..Capabilities::default()
            },
            slots,
            drain_grace: GRACE,
        };
        let shutdown = CancellationToken::new();
        let client = LeaseClient::new(channel, session);
        Self {
            session: tokio::spawn(run_session(client, config, shutdown.clone(), Arc::new(work))),
            shutdown,
            said,
        }
    }

    async fn next(&mut self) -> String {
        let said = timeout(PATIENCE, self.said.recv()).await;
        said.expect("something is said").unwrap()
    }

    /// Asks the process to end; what was said since.
    async fn end(mut self) -> Vec<String> {
        self.shutdown.cancel();
        self.session.await.unwrap().unwrap();
        std::iter::from_fn(|| self.said.try_recv().ok()).collect()
    }

    /// How the session ends by itself.
    async fn outcome(self) -> Result<(), SessionError> {
        timeout(PATIENCE, self.session).await.expect("it ends").unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_stops_before_its_lease_ends_when_the_coordinator_falls_silent() {
    let script = Script {
        beats: Beats::Hang,
        grants: granted_at_once(vec![lease(1)]),
        ..Script::default()
    };
    let begun = Instant::now();
    let mut running = Running::start(1, script, Work::taking(HOUR));
    assert_eq!(running.next().await, "release 1");
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_renewed_attempt_goes_on_for_as_long_as_it_takes() {
    let script = Script {
        grants: granted_at_once(vec![lease(1)]),
        ..Script::default()
    };
    let mut running = Running::start(1, script, Work::taking(HOUR));
    assert_eq!(running.next().await, "commit 1");
    assert_eq!(running.end().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_while_an_attempt_ends_is_begun() {
    let script = Script {
        grants: [
            (Duration::ZERO, vec![lease(1)]),
            (Duration::from_secs(2), vec![lease(2)]),
        ]
        .into(),
        ..Script::default()
    };
    let mut running = Running::start(2, script, Work::taking(Duration::from_secs(1)));
    assert_eq!(running.next().await, "commit 1");
    assert_eq!(running.next().await, "commit 2");
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_at_the_very_end_is_given_back() {
    let on_its_way = LAST_GRANT_WAIT / 2;
    let script = Script {
        grants: [(on_its_way, vec![lease(1)])].into(),
        ..Script::default()
    };
    let running = Running::start(1, script, Work::taking(HOUR));
    sleep(on_its_way / 2).await;
    assert_eq!(running.end().await, ["release 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_on_its_way_is_not_begun() {
    let script = Script {
        beats: Beats::Lost,
        grants: [(HEARTBEAT * 2, vec![lease(1)])].into(),
        ..Script::default()
    };
    let work = Work::of(|_| async { panic!("it was begun") });
    assert_eq!(Running::start(1, script, work).next().await, "release 1");
}

#[tokio::test(start_paused = true)]
async fn a_refused_result_is_a_failure_in_the_coordinators_words() {
    let script = Script {
        grants: granted_at_once(vec![lease(1)]),
        commit: Some(Status::invalid_argument("the result has 70000 bytes")),
        ..Script::default()
    };
    let mut running = Running::start(1, script, Work::taking(Duration::ZERO));
    assert_eq!(running.next().await, "commit 1");
    let failed =
        "retryable, the result was not taken: refused by the coordinator: the result has 70000 bytes: 1";
    assert_eq!(running.next().await, failed);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_too_late_is_no_failure() {
    let script = Script {
        grants: granted_at_once(vec![lease(1)]),
        commit: Some(Status::failed_precondition("another holds the lease")),
        ..Script::default()
    };
    let mut running = Running::start(1, script, Work::taking(Duration::ZERO));
    assert_eq!(running.next().await, "commit 1");
    sleep(HOUR).await;
    assert_eq!(running.end().await, [""; 0]);
}

fn recording() -> Work {
    Work::of(|attempt| async move {
        let checkpoint = Checkpoint {
            sha256: ContentHash::of(b"state"),
            step: 7,
        };
        attempt.record(checkpoint, vec![]).await?;
        Ok(done())
    })
}

#[tokio::test(start_paused = true)]
async fn a_refused_checkpoint_is_a_failure_and_a_stale_one_gives_the_task_up() {
    let refused =
        "retryable, the checkpoint of step 7 was not recorded: refused by the coordinator: no such object: 1";
    for (status, then) in [
        (Status::invalid_argument("no such object"), refused),
        (
            Status::failed_precondition("another holds the lease"),
            "release 1",
        ),
    ] {
        let script = Script {
            grants: granted_at_once(vec![lease(1)]),
            record: Some(status),
            ..Script::default()
        };
        let mut running = Running::start(1, script, recording());
        assert_eq!(running.next().await, "record 1");
        assert_eq!(running.next().await, then);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_of_another_release_is_refused_in_words_and_spoils_no_other() {
    let newer = pb::Lease {
        spec_json: r#"{"kind":"dream"}"#.to_owned(),
        ..lease(1)
    };
    let script = Script {
        grants: granted_at_once(vec![newer, lease(2)]),
        ..Script::default()
    };
    let mut running = Running::start(2, script, Work::taking(Duration::from_secs(1)));
    let refused = running.next().await;
    assert!(
        refused
            .starts_with("retryable, this worker is of another release than the coordinator and cannot read"),
        "{refused}"
    );
    assert!(refused.ends_with("update it: 1"), "{refused}");
    assert_eq!(running.next().await, "commit 2");
}

#[tokio::test(start_paused = true)]
async fn a_drained_session_ends_once_its_work_is_done_however_long_that_takes() {
    let script = Script {
        beats: Beats::Drain,
        grants: [(Duration::ZERO, vec![lease(1)]), (HEARTBEAT * 3, vec![lease(2)])].into(),
        ..Script::default()
    };
    let mut running = Running::start(1, script, Work::taking(HOUR));
    assert_eq!(running.next().await, "commit 1");
    running.outcome().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drained_session_that_is_asked_to_end_has_its_grace() {
    let script = Script {
        beats: Beats::Drain,
        grants: granted_at_once(vec![lease(1)]),
        ..Script::default()
    };
    let running = Running::start(1, script, Work::taking(HOUR));
    sleep(HOUR / 2).await;
    let asked = Instant::now();
    assert_eq!(running.end().await, ["release 1"]);
    assert_eq!(asked.elapsed().as_secs(), GRACE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn work_that_cannot_be_stopped_ends_the_session_with_an_error() {
    let deaf = Work::of(|_| pending());
    let leaves_a_thread = Work::of(|attempt| async move {
        attempt.threads.spawn(pending::<()>());
        attempt.stop.cancelled().await;
        Err(AttemptError::Stopped)
    });
    for work in [deaf, leaves_a_thread] {
        let script = Script {
            beats: Beats::Lost,
            grants: granted_at_once(vec![lease(1)]),
            ..Script::default()
        };
        let error = Running::start(1, script, work).outcome().await.unwrap_err();
        assert!(matches!(error, SessionError::Hung { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_with_its_class() {
    let script = Script {
        grants: granted_at_once(vec![lease(1)]),
        ..Script::default()
    };
    let work = Work::of(|_| async {
        Err(AttemptError::Failed {
            class: FailureClass::BadInput,
            message: "no video".to_owned(),
        })
    });
    assert_eq!(
        Running::start(1, script, work).next().await,
        "bad-input, no video: 1"
    );
}
