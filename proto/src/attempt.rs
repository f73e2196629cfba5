//! One attempt at a task as whoever does the work sees it: what to do, when to stop, and what to hand in.
//!
//! Nothing here blocks on the network but [`Attempt::record`]. Leasing, renewing and handing in are left to the session.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use remaster_domain::{
    Checkpoint, FailureClass, Lease, LeaseToken, OutputObject, Progress, TaskId, TaskResult,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::answer::until_answered;
use crate::client::{ClientError, LeaseClient};

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
    /// The coordinator would not have it: the task is somebody else's by now, or over.
    Lost,
    /// The coordinator would not have it for what it is.
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
    /// Cancelled when the process is to end or its worker is drained: what can be taken up elsewhere is given back in order.
    pub leaving: CancellationToken,
    /// Work on threads, which a runner may leave behind when it is stopped: the slot is taken until it has ended.
    pub threads: TaskTracker,
    pub(crate) progress: Arc<Mutex<Progress>>,
    pub(crate) client: LeaseClient,
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
    /// [`AttemptError::Stopped`] when the lease is lost, [`AttemptError::Failed`] when the coordinator does not take the
    /// checkpoint, which would be no better the next time.
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
            Some(Err(error @ ClientError::Refused(_))) => Err(AttemptError::Failed {
                class: FailureClass::Retryable,
                message: format!(
                    "the checkpoint of step {} was not recorded: {error}",
                    checkpoint.step
                ),
            }),
            Some(Err(error)) => {
                warn!(%error, "checkpoint not recorded");
                self.stop.cancel();
                Err(AttemptError::Stopped)
            }
            None => Err(AttemptError::Stopped),
        }
    }
}
