//! The client half of the lease protocol, shared by workers and the trainer: register, lease, run, commit, heartbeat.
//!
//! A lease call is never given up half way: what the coordinator grants meanwhile would be nobody's until it ran out. What
//! the tasks do is left to a [`TaskRunner`], one lease's course to `carrying`, renewing to `heartbeat`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use remaster_domain::{Capabilities, Lease, LeaseToken, Progress, TaskId, WorkerId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, info, info_span, warn};

use crate::answer::{RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, sleep_or, until_answered};
use crate::attempt::TaskRunner;
use crate::carrying::STOP_MAX;
use crate::client::{ClientError, LeaseClient, LeaseGrant};

/// How long one lease call waits for work; short enough that a drained coordinator is noticed soon.
const LEASE_WAIT: Duration = Duration::from_secs(20);
/// How long a session that leaves waits for its last lease call: a grant that was written is answered within a moment.
const LAST_GRANT_WAIT: Duration = Duration::from_secs(1);

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
    /// Once the process is asked to end, running attempts may go on for this long before they are released.
    pub drain_grace: Duration,
}

/// Why a session ended that nobody asked to end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The coordinator will not have this worker at all.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Work that cannot be ended holds a slot, a thread and perhaps a GPU.
    #[error(
        "task {task} still runs {} s after it was told to stop, so this process can do no more: start it again",
        STOP_MAX.as_secs()
    )]
    Hung {
        /// Whose attempt it is.
        task: TaskId,
    },
}

/// Serves the coordinator until `shutdown` is cancelled or it says to drain, and what ran has ended. Cancels `shutdown` by
/// itself when the process has to end.
///
/// # Errors
/// See [`SessionError`].
pub async fn run_session<R: TaskRunner>(
    client: LeaseClient,
    config: SessionConfig,
    shutdown: CancellationToken,
    runner: Arc<R>,
) -> Result<(), SessionError> {
    let Some(intervals) = register(&client, &config, &shutdown).await? else {
        return Ok(());
    };
    let session = Session {
        client,
        config,
        intervals,
        leaving: shutdown.child_token(),
        shutdown,
        hung: Arc::default(),
        active: Arc::default(),
    };
    let beats = tokio::spawn(session.clone().beat());
    let outcome = session.lease_and_run(runner).await;
    beats.abort();
    outcome
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
}

/// Registers, waiting for a coordinator that is not up yet. `None` when told to shut down meanwhile.
pub(crate) async fn register(
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

/// An attempt that runs.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    pub(crate) token: LeaseToken,
    pub(crate) progress: Arc<Mutex<Progress>>,
    pub(crate) stop: CancellationToken,
    /// When the call was sent that made or renewed the lease: it cannot end sooner than its length after that.
    pub(crate) renewed: Instant,
    pub(crate) span: Span,
}

impl Active {
    pub(crate) fn progress(&self) -> Progress {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.clone()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) client: LeaseClient,
    pub(crate) config: SessionConfig,
    pub(crate) intervals: Intervals,
    /// The process ends.
    pub(crate) shutdown: CancellationToken,
    /// Nothing more is leased: the process ends, or the coordinator wants it so.
    pub(crate) leaving: CancellationToken,
    /// A task whose attempt could not be ended.
    pub(crate) hung: Arc<OnceLock<TaskId>>,
    pub(crate) active: Arc<Mutex<BTreeMap<TaskId, Active>>>,
}

/// A lease call in flight: when it was sent, and what came back. At most one.
type Asked = JoinSet<(Instant, Result<LeaseGrant, ClientError>)>;

impl Session {
    async fn lease_and_run<R: TaskRunner>(self, runner: Arc<R>) -> Result<(), SessionError> {
        let (mut attempts, mut asked) = (JoinSet::new(), Asked::new());
        let mut pause = RETRY_PAUSE_MIN;
        while !self.leaving.is_cancelled() {
            let busy = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
            let slots = self.config.slots.saturating_sub(busy);
            if slots > 0 && asked.is_empty() {
                let client = self.client.clone();
                asked.spawn(async move { (Instant::now(), client.lease(slots, LEASE_WAIT).await) });
            }
            let answer = tokio::select! {
                Some(answer) = asked.join_next() => answer,
                // A slot more, which the call in flight does not know of: it is answered as soon as there is any work.
                Some(_) = attempts.join_next() => continue,
                () = self.leaving.cancelled() => break,
            };
            match answer {
                Ok((sent, Ok(grant))) => {
                    pause = RETRY_PAUSE_MIN;
                    self.begin(sent, grant, &mut attempts, &runner);
                }
                Ok((_, Err(ClientError::SessionUnknown(_)))) => {
                    register(&self.client, &self.config, &self.shutdown).await?;
                }
                Ok((_, Err(error @ ClientError::Refused(_)))) => return Err(error.into()),
                Ok((_, Err(error))) => {
                    warn!(%error, "no answer to a lease request");
                    sleep_or(&self.leaving, pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
                Err(panic) => warn!(%panic, "a lease request ended abruptly"),
            }
        }
        tokio::join!(self.finish(attempts), self.give_back_late(asked));
        match self.hung.get() {
            None => Ok(()),
            Some(task) => Err(SessionError::Hung { task: task.clone() }),
        }
    }

    /// Begins what was granted to a call sent at `sent`.
    fn begin<R: TaskRunner>(
        &self,
        sent: Instant,
        grant: LeaseGrant,
        attempts: &mut JoinSet<()>,
        runner: &Arc<R>,
    ) {
        for lease in grant.leases {
            let span = self.span_of(&lease);
            attempts.spawn(
                self.clone()
                    .carry(lease, sent, Arc::clone(runner))
                    .instrument(span),
            );
        }
        for lease in grant.unreadable {
            let span = info_span!("unreadable", worker = %self.config.worker, task = %lease.task, token = %lease.token);
            attempts.spawn(self.clone().refuse(lease).instrument(span));
        }
        if grant.drain {
            self.drain();
        }
    }

    /// What every line about an attempt says, from its lease to its commit.
    fn span_of(&self, lease: &Lease) -> Span {
        info_span!(
            "attempt",
            worker = %self.config.worker,
            job = %lease.job,
            task = %lease.task,
            kind = lease.spec.kind().as_str(),
            attempt = lease.attempt,
            token = %lease.token,
        )
    }

    /// Lets what runs end by itself. Once the process is to end it has a grace, then it is stopped and given back.
    async fn finish(&self, mut attempts: JoinSet<()>) {
        let out_of_time = async {
            self.shutdown.cancelled().await;
            sleep(self.config.drain_grace).await;
        };
        tokio::pin!(out_of_time);
        loop {
            tokio::select! {
                ended = attempts.join_next() => if ended.is_none() { return },
                () = &mut out_of_time => break,
            }
        }
        for active in self.lock().values() {
            active.stop.cancel();
        }
        while attempts.join_next().await.is_some() {}
    }

    /// Gives back what the last lease call brings when nothing more is begun.
    async fn give_back_late(&self, mut asked: Asked) {
        let answer = timeout(LAST_GRANT_WAIT, asked.join_next()).await;
        if let Ok(Some(Ok((_, Ok(grant))))) = answer {
            for lease in grant.leases {
                let span = self.span_of(&lease);
                self.give_back(&lease.task, lease.token).instrument(span).await;
            }
        }
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TaskId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
