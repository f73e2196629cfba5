//! The client half of the lease protocol, shared by workers and the trainer: register, lease, run, commit, heartbeat.
//!
//! Heartbeats run in a task of their own and never wait for work or a free slot. A session that could not renew a lease
//! in time stops the attempt by itself, before the coordinator gives the task to somebody else. What the tasks do is left
//! to a [`TaskRunner`].

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use remaster_domain::{
    Capabilities, Checkpoint, FailureClass, Lease, LeaseProgress, LeaseToken, OutputObject, Progress, TaskId,
    TaskResult, Verdict, WorkerId,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use crate::client::{ClientError, LeaseClient};

/// How long one lease call waits for work; short enough that a drained coordinator is noticed soon.
const LEASE_WAIT: Duration = Duration::from_secs(20);
/// Pause after a failed call: the coordinator may be restarting.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause: a coordinator that comes back gets its workers within this.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(3);
/// A coordinator that is away for longer than this finds the work undone.
const LATE_COMMIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Error messages longer than this are cut before they are reported.
const MESSAGE_CHARS_MAX: usize = 4000;

/// Who a session speaks for.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Worker id.
    pub worker: WorkerId,
    /// Name for people.
    pub name: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Tasks at once.
    pub slots: u32,
    /// After a drain request, running attempts may go on for this long before they are released.
    pub drain_grace: Duration,
}

/// What a finished attempt hands in.
#[derive(Debug)]
pub struct Completion {
    /// The answer.
    pub result: TaskResult,
    /// Objects the answer names, already in the store.
    pub objects: Vec<OutputObject>,
}

/// Why an attempt did not finish.
#[derive(Debug)]
pub enum AttemptError {
    /// It failed; the message goes to the user.
    Failed {
        /// What happens next.
        class: FailureClass,
        /// One clear error.
        message: String,
    },
    /// It stopped because [`Attempt::stop`] was cancelled.
    Stopped,
}

/// Does the work of a lease.
pub trait TaskRunner: Send + Sync + 'static {
    /// Runs one attempt to its end, or until [`Attempt::stop`] is cancelled.
    fn run(&self, attempt: Attempt) -> impl Future<Output = Result<Completion, AttemptError>> + Send;

    /// Told what the coordinator answered when an attempt was handed in; for runners that keep count.
    fn settled(&self, _task: &TaskId, _token: LeaseToken, _settled: Settled) {}
}

/// What became of an attempt that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Its result counts, now or by an earlier answer that did not arrive.
    Committed,
    /// Its failure or release was taken note of.
    Noted,
    /// The coordinator would not have it: somebody else's, or over.
    Refused,
    /// No answer came while there was somebody to wait for it.
    Unanswered,
}

/// One attempt at a task, as its runner sees it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What to do.
    pub lease: Lease,
    /// Cancelled when the work must stop: lease lost, job cancelled, or drained past the grace.
    pub stop: CancellationToken,
    progress: Arc<Mutex<Progress>>,
    client: LeaseClient,
}

impl Attempt {
    /// Says how far the attempt is; the next heartbeat carries it. Never blocks on the network.
    pub fn report(&self, done: u64, total: u64, note: impl Into<String>) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        *progress = Progress {
            done,
            total,
            note: note.into(),
        };
    }

    /// Makes a checkpoint count, trying again while the coordinator is away and the lease is ours.
    ///
    /// # Errors
    /// [`AttemptError::Stopped`] when the lease is lost.
    pub async fn record(
        &self,
        checkpoint: Checkpoint,
        objects: Vec<OutputObject>,
    ) -> Result<(), AttemptError> {
        let call = || {
            self.client.record(
                &self.lease.task,
                self.lease.token,
                checkpoint.clone(),
                objects.clone(),
            )
        };
        match until_answered(&self.stop, call).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                warn!(%error, "checkpoint not recorded");
                self.stop.cancel();
                Err(AttemptError::Stopped)
            }
            None => Err(AttemptError::Stopped),
        }
    }
}

/// Serves the coordinator until `shutdown` is cancelled and what ran has ended.
///
/// # Errors
/// [`ClientError::Refused`] when the coordinator will not have this worker at all.
pub async fn run_session<R: TaskRunner>(
    client: LeaseClient,
    config: SessionConfig,
    shutdown: CancellationToken,
    runner: Arc<R>,
) -> Result<(), ClientError> {
    let Some(intervals) = register(&client, &config, &shutdown).await? else {
        return Ok(());
    };
    let session = Session {
        client,
        config,
        shutdown,
        active: Arc::default(),
    };
    let beats = tokio::spawn(session.clone().beat(intervals));
    let outcome = session.lease_and_run(runner).await;
    beats.abort();
    outcome
}

#[derive(Debug, Clone, Copy)]
struct Intervals {
    lease: Duration,
    heartbeat: Duration,
}

/// Registers, waiting for a coordinator that is not up yet. `None` when told to shut down meanwhile.
async fn register(
    client: &LeaseClient,
    config: &SessionConfig,
    shutdown: &CancellationToken,
) -> Result<Option<Intervals>, ClientError> {
    let call = || client.register(&config.worker, &config.name, &config.capabilities);
    match until_answered(shutdown, call).await {
        None => Ok(None),
        Some(Err(error)) => Err(error),
        Some(Ok((lease, heartbeat))) => {
            info!(worker = %config.worker, "registered");
            Ok(Some(Intervals { lease, heartbeat }))
        }
    }
}

#[derive(Debug, Clone)]
struct Active {
    token: LeaseToken,
    progress: Arc<Mutex<Progress>>,
    stop: CancellationToken,
    renewed: Instant,
}

#[derive(Debug, Clone)]
struct Session {
    client: LeaseClient,
    config: SessionConfig,
    shutdown: CancellationToken,
    active: Arc<Mutex<BTreeMap<TaskId, Active>>>,
}

impl Session {
    async fn lease_and_run<R: TaskRunner>(self, runner: Arc<R>) -> Result<(), ClientError> {
        let mut attempts = JoinSet::new();
        let mut pause = RETRY_PAUSE_MIN;
        while !self.shutdown.is_cancelled() {
            let slots = self
                .config
                .slots
                .saturating_sub(u32::try_from(attempts.len()).unwrap_or(u32::MAX));
            if slots == 0 {
                tokio::select! {
                    _ = attempts.join_next() => {}
                    () = self.shutdown.cancelled() => {}
                }
                continue;
            }
            let grant = tokio::select! {
                grant = self.client.lease(slots, LEASE_WAIT) => grant,
                Some(_) = attempts.join_next(), if !attempts.is_empty() => continue,
                () = self.shutdown.cancelled() => break,
            };
            match grant {
                Ok(grant) => {
                    pause = RETRY_PAUSE_MIN;
                    for lease in grant.leases {
                        let span = info_span!("attempt", task = %lease.task, job = %lease.job, kind = lease.spec.kind().as_str());
                        attempts.spawn(self.clone().attempt(lease, Arc::clone(&runner)).instrument(span));
                    }
                    if grant.drain {
                        info!("asked to drain");
                        self.shutdown.cancel();
                    }
                }
                Err(ClientError::SessionUnknown(_)) => {
                    register(&self.client, &self.config, &self.shutdown).await?;
                }
                Err(error @ ClientError::Refused(_)) => return Err(error),
                Err(error) => {
                    warn!(%error, "no answer to a lease request");
                    sleep_or(&self.shutdown, pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
        self.drain(attempts).await;
        Ok(())
    }

    /// Lets what runs finish within the grace, then stops and releases it.
    async fn drain(&self, mut attempts: JoinSet<()>) {
        let finish = async { while attempts.join_next().await.is_some() {} };
        if tokio::time::timeout(self.config.drain_grace, finish)
            .await
            .is_err()
        {
            for active in self.lock().values() {
                active.stop.cancel();
            }
            while attempts.join_next().await.is_some() {}
        }
    }

    async fn attempt<R: TaskRunner>(self, lease: Lease, runner: Arc<R>) {
        let stop = CancellationToken::new();
        let progress = Arc::<Mutex<Progress>>::default();
        let (task, token) = (lease.task.clone(), lease.token);
        let active = Active {
            token,
            progress: Arc::clone(&progress),
            stop: stop.clone(),
            renewed: Instant::now(),
        };
        self.lock().insert(task.clone(), active);
        info!(attempt = lease.attempt, "started");
        let attempt = Attempt {
            lease,
            stop: stop.clone(),
            progress,
            client: self.client.clone(),
        };
        // A panic in a runner is a bug, but it must cost one attempt, not the worker.
        let outcome = tokio::spawn({
            let runner = Arc::clone(&runner);
            async move { runner.run(attempt).await }.in_current_span()
        })
        .await
        .unwrap_or_else(|panic| {
            Err(AttemptError::Failed {
                class: FailureClass::Retryable,
                message: format!("attempt ended abruptly: {panic}"),
            })
        });
        let settled = self.hand_in(&task, token, &stop, outcome).await;
        runner.settled(&task, token, settled);
        let mut active = self.lock();
        if active.get(&task).is_some_and(|entry| entry.token == token) {
            active.remove(&task);
        }
    }

    async fn hand_in(
        &self,
        task: &TaskId,
        token: LeaseToken,
        stop: &CancellationToken,
        outcome: Result<Completion, AttemptError>,
    ) -> Settled {
        let answer = match &outcome {
            Ok(done) => {
                let commit = || self.client.commit(task, token, &done.result, &done.objects);
                match until_answered(stop, commit).await {
                    // The lease may have run out only because the coordinator was away. The work is done, and counts
                    // unless somebody else was given it meanwhile, which the token says.
                    None => {
                        let late = until_answered(&self.shutdown, commit);
                        tokio::time::timeout(LATE_COMMIT_MAX, late).await.ok().flatten()
                    }
                    answer => answer,
                }
            }
            Err(AttemptError::Failed { class, message }) => {
                warn!(%message, "failed");
                let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
                until_answered(stop, || self.client.fail(task, token, *class, &message)).await
            }
            // One try: when it does not arrive, the lease runs out by itself.
            Err(AttemptError::Stopped) => Some(self.client.release(task, token).await),
        };
        match answer {
            Some(Ok(())) => {
                info!(committed = outcome.is_ok(), "handed in");
                if outcome.is_ok() {
                    Settled::Committed
                } else {
                    Settled::Noted
                }
            }
            Some(Err(error)) => {
                warn!(%error, "not accepted");
                Settled::Refused
            }
            None => {
                warn!("lease lost before it was handed in");
                Settled::Unanswered
            }
        }
    }

    async fn beat(self, intervals: Intervals) {
        let mut ticks = tokio::time::interval(intervals.heartbeat);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Stop this long before the lease ends, so that nobody runs on a lease that is already another's.
        let own_deadline = intervals.lease.saturating_sub(intervals.heartbeat / 2);
        loop {
            ticks.tick().await;
            let leases = self.progress_of_all();
            let sent = Instant::now();
            let answer = tokio::time::timeout(intervals.heartbeat, self.client.heartbeat(leases)).await;
            match answer {
                Ok(Ok((verdicts, drain))) => {
                    self.apply(sent, verdicts);
                    if drain {
                        self.shutdown.cancel();
                    }
                }
                Ok(Err(ClientError::SessionUnknown(_))) => {
                    // Bounded, so that a coordinator that goes away meanwhile does not keep the fence below from falling.
                    let again = register(&self.client, &self.config, &self.shutdown);
                    if !matches!(tokio::time::timeout(intervals.heartbeat, again).await, Ok(Ok(_))) {
                        warn!("not registered again yet");
                    }
                }
                Ok(Err(error)) => warn!(%error, "no answer to a heartbeat"),
                Err(_) => warn!("no answer to a heartbeat in time"),
            }
            self.fence(own_deadline);
        }
    }

    fn progress_of_all(&self) -> Vec<LeaseProgress> {
        let active = self.lock();
        let leases = active.iter().map(|(task, entry)| LeaseProgress {
            task: task.clone(),
            token: entry.token,
            progress: entry
                .progress
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        });
        leases.collect()
    }

    fn apply(&self, sent: Instant, verdicts: Vec<(TaskId, LeaseToken, Verdict)>) {
        let mut active = self.lock();
        for (task, token, verdict) in verdicts {
            let Some(entry) = active.get_mut(&task).filter(|entry| entry.token == token) else {
                continue;
            };
            match verdict {
                Verdict::Renewed | Verdict::Pause => entry.renewed = sent,
                Verdict::Lost | Verdict::Cancel => {
                    warn!(%task, ?verdict, "stopping");
                    entry.stop.cancel();
                }
            }
        }
    }

    fn fence(&self, own_deadline: Duration) {
        for (task, entry) in self.lock().iter() {
            if entry.renewed.elapsed() >= own_deadline && !entry.stop.is_cancelled() {
                warn!(%task, "lease not renewed in time, stopping");
                entry.stop.cancel();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TaskId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Repeats a call while the coordinator is away. `None` when `stop` was cancelled first.
async fn until_answered<T, F, Fut>(stop: &CancellationToken, call: F) -> Option<Result<T, ClientError>>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, ClientError>>,
{
    let mut pause = RETRY_PAUSE_MIN;
    loop {
        let answer = tokio::select! {
            answer = call() => answer,
            () = stop.cancelled() => return None,
        };
        match answer {
            Err(error) if error.is_retryable() => warn!(%error, "trying again"),
            other => return Some(other),
        }
        sleep_or(stop, pause).await;
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
}

async fn sleep_or(stop: &CancellationToken, pause: Duration) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}
