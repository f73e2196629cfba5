//! Carries one lease from its grant to the coordinator's last answer: runs the work, hands in what came of it, and keeps the
//! slot until nothing of it runs any more.
//!
//! Every lease that was granted is answered for: committed, failed or given back, but never dropped without a word, which
//! would be taken for a worker that died of the task.

use std::sync::Arc;
use std::time::Duration;

use remaster_domain::{FailureClass, Lease, LeaseToken, TaskId};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, error, info, warn};

use crate::answer::until_answered;
use crate::attempt::{Attempt, AttemptError, Completion, Settled, TaskRunner};
use crate::client::{ClientError, UnreadableLease};
use crate::session::{Active, Session};

/// A coordinator that is away for longer than this finds the work undone.
const LATE_COMMIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Work that goes on for longer than this after it was told to stop hangs: a training step on a slow CPU takes minutes.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(5 * 60);
/// Error messages longer than this are cut before they are reported; the coordinator keeps no more.
const MESSAGE_CHARS_MAX: usize = 4000;
/// Of which so many are its beginning, which says what failed. The rest is its end: a child's last words.
const MESSAGE_HEAD_CHARS: usize = 1000;
/// Stands for what was cut out.
const MESSAGE_CUT: &str = " [...] ";

impl Session {
    /// Runs the attempt of a lease that was asked for at `asked`, and answers for it.
    pub(crate) async fn carry<R: TaskRunner>(self, lease: Lease, asked: Instant, runner: Arc<R>) {
        let (task, token) = (lease.task.clone(), lease.token);
        let Some(renewed) = self.renewed_first(&lease, asked).await else {
            warn!("lease was not ours for sure when it came, given back");
            return self.give_back(&task, token).await;
        };
        let (stop, threads) = (CancellationToken::new(), TaskTracker::new());
        let active = Active {
            token,
            progress: Arc::default(),
            stop: stop.clone(),
            renewed,
            span: Span::current(),
        };
        let attempt = Attempt {
            lease,
            stop: stop.clone(),
            leaving: self.leaving.clone(),
            threads: threads.clone(),
            progress: Arc::clone(&active.progress),
            client: self.client.clone(),
        };
        self.lock().insert(task.clone(), active);
        info!("started");
        let work = async {
            let outcome = self.run_bounded(attempt, &runner).await;
            self.hand_in(&task, token, &stop, outcome).await
        };
        tokio::pin!(work);
        let settled = tokio::select! {
            settled = &mut work => settled,
            () = self.fence(&task, token, &stop) => work.await,
        };
        runner.settled(&task, token, settled);
        {
            let mut active = self.lock();
            if active.get(&task).is_some_and(|entry| entry.token == token) {
                active.remove(&task);
            }
        }
        threads.close();
        tokio::select! {
            () = threads.wait() => {}
            // The process ends, and its threads with it.
            () = self.shutdown.cancelled() => {}
            () = sleep(STOP_MAX) => self.hang(&task),
        }
    }

    /// Runs an attempt to its end, or for as long as a stop may take.
    async fn run_bounded<R: TaskRunner>(
        &self,
        attempt: Attempt,
        runner: &Arc<R>,
    ) -> Result<Completion, AttemptError> {
        let (task, stop, runner) = (
            attempt.lease.task.clone(),
            attempt.stop.clone(),
            Arc::clone(runner),
        );
        // A panic in a runner is a bug, but it must cost one attempt, not the worker.
        let running = tokio::spawn(async move { runner.run(attempt).await }.in_current_span());
        let overdue = async {
            stop.cancelled().await;
            sleep(STOP_MAX).await;
        };
        tokio::select! {
            ended = running => ended.unwrap_or_else(|panic| {
                Err(AttemptError::Failed {
                    class: FailureClass::Retryable,
                    message: format!("attempt ended abruptly: {panic}"),
                })
            }),
            () = overdue => {
                self.hang(&task);
                Err(AttemptError::Stopped)
            }
        }
    }

    /// A thread cannot be ended from outside and its slot is not free: nothing more is begun here, and the process ends.
    fn hang(&self, task: &TaskId) {
        error!(
            seconds = STOP_MAX.as_secs(),
            "told to stop and still running: this process ends with an error, to be started again"
        );
        // The first one is enough of a reason.
        let _ = self.hung.set(task.clone());
        self.shutdown.cancel();
    }

    async fn hand_in(
        &self,
        task: &TaskId,
        token: LeaseToken,
        stop: &CancellationToken,
        outcome: Result<Completion, AttemptError>,
    ) -> Settled {
        let (answer, accepted) = match outcome {
            Ok(done) => (self.commit(task, token, stop, &done).await, Settled::Committed),
            Err(AttemptError::Failed { class, message }) => {
                let answer = self.report(task, token, stop, class, &message).await;
                (answer, Settled::Noted)
            }
            // One try: when it does not arrive, the lease runs out by itself.
            Err(AttemptError::Stopped) => (Some(self.client.release(task, token).await), Settled::Noted),
        };
        let settled = match &answer {
            Some(Ok(())) => accepted,
            Some(Err(ClientError::LeaseLost(_))) => Settled::Lost,
            Some(Err(ClientError::Refused(_) | ClientError::Malformed(_))) => Settled::Refused,
            // What is given back is told once, and may not arrive.
            Some(Err(ClientError::Unavailable(_) | ClientError::SessionUnknown(_))) | None => {
                Settled::Unanswered
            }
        };
        match answer {
            Some(Ok(())) => info!(?settled, "handed in"),
            Some(Err(error)) => {
                warn!(%error, "not accepted");
                if settled == Settled::Refused && accepted == Settled::Committed {
                    // Without a word the lease would run out, and the task would die as one that kills its workers.
                    let message = format!("the result was not taken: {error}");
                    let class = FailureClass::Retryable;
                    self.report(task, token, stop, class, &message).await;
                }
            }
            None => warn!("lease lost before it was handed in"),
        }
        settled
    }

    async fn commit(
        &self,
        task: &TaskId,
        token: LeaseToken,
        stop: &CancellationToken,
        done: &Completion,
    ) -> Option<Result<(), ClientError>> {
        let commit = || self.client.commit(task, token, &done.result, &done.objects);
        match until_answered(stop, commit).await {
            // The lease may have run out only because the coordinator was away. The work is done, and counts
            // unless somebody else was given it meanwhile, which the token says.
            None => {
                let late = until_answered(&self.shutdown, commit);
                timeout(LATE_COMMIT_MAX, late).await.ok().flatten()
            }
            answer => answer,
        }
    }

    async fn report(
        &self,
        task: &TaskId,
        token: LeaseToken,
        stop: &CancellationToken,
        class: FailureClass,
        message: &str,
    ) -> Option<Result<(), ClientError>> {
        warn!(%message, "failed");
        let message = shortened(message);
        until_answered(stop, || self.client.fail(task, token, class, &message)).await
    }

    /// Says of a lease that this release cannot read why nothing came of it.
    pub(crate) async fn refuse(self, lease: UnreadableLease) {
        let message = format!(
            "this worker is of another release than the coordinator and cannot read the task: {}; update it",
            lease.reason
        );
        let told = self.report(
            &lease.task,
            lease.token,
            &self.shutdown,
            FailureClass::Retryable,
            &message,
        );
        // Longer than its lease it is nobody's to say.
        if !matches!(timeout(self.intervals.lease, told).await, Ok(Some(Ok(())))) {
            warn!("the coordinator could not be told");
        }
    }

    /// Gives a lease back at which nothing was tried. One try: when it does not arrive, the lease runs out by itself.
    pub(crate) async fn give_back(&self, task: &TaskId, token: LeaseToken) {
        match self.client.release(task, token).await {
            Ok(()) => info!("given back"),
            Err(error) => warn!(%error, "could not be given back"),
        }
    }
}

/// A message in as many characters as are kept, without its middle where it has more.
fn shortened(message: &str) -> String {
    let chars = message.chars().count();
    if chars <= MESSAGE_CHARS_MAX {
        return message.to_owned();
    }
    let tail_chars = MESSAGE_CHARS_MAX - MESSAGE_HEAD_CHARS - MESSAGE_CUT.len();
    let head: String = message.chars().take(MESSAGE_HEAD_CHARS).collect();
    let tail: String = message.chars().skip(chars - tail_chars).collect();
    format!("{head}{MESSAGE_CUT}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_its_beginning_and_its_last_words() {
        let long = format!("encoding ä.mkv failed: {}; No such filter", "é".repeat(9000));
        let short = shortened(&long);
        assert_eq!(short.chars().count(), MESSAGE_CHARS_MAX);
        assert!(short.starts_with("encoding ä.mkv failed: é") && short.ends_with("é; No such filter"));
        assert_eq!(shortened("short"), "short");
    }
}
