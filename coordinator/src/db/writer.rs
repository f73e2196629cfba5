//! The one writer. Requests that arrive while the disk is busy share the next fsync: that is what makes a lease cheap.
//!
//! Promises: requests run one after another in the order they came; each is whole or not at all (a savepoint of its own);
//! nobody is answered, and nobody woken, before the transaction is on disk. A caller that gave up changes nothing of that.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use remaster_domain::{JobId, JobSpec};
use sqlx::SqliteConnection;
use tokio::sync::{mpsc, oneshot};
use tracing::error;
use uuid::Uuid;

use crate::CoordinatorError;
use crate::clock::Clock;
use crate::signals::{Effects, Signals};

/// Requests that wait for the writer. More callers than this wait in front of the queue: memory stays bounded.
const QUEUE_REQUESTS: usize = 1_024;
/// Requests of one transaction: enough to hide the fsync, few enough that the first is not kept waiting.
const BATCH_REQUESTS: usize = 128;

/// Specs kept parsed: more jobs than run at once anywhere, at some 100 KB each.
const SPECS_KEPT: usize = 64;

type Answer = Box<dyn FnOnce(Result<(), CoordinatorError>) + Send>;
type Request = Box<dyn for<'c> FnOnce(&'c mut Tx) -> BoxFuture<'c, Ran> + Send>;

/// A request that ran: whether to keep what it did, and how to answer once that is on disk.
struct Ran {
    keep: bool,
    answer: Answer,
}

/// An open transaction.
#[derive(Debug)]
pub(crate) struct Tx {
    /// The connection; use it for every statement.
    pub(crate) connection: SqliteConnection,
    /// The time that counts in this transaction.
    pub(crate) now_ms: i64,
    /// What to tell those who wait once it is on disk.
    pub(crate) effects: Effects,
    /// Specs of jobs that moved lately. A job's spec never changes, so this is never wrong; see [`Tx::keep_spec`].
    specs: HashMap<JobId, Arc<JobSpec>>,
}

impl Tx {
    /// A fresh id; ids made later sort later.
    pub(crate) fn new_id() -> Uuid {
        Uuid::now_v7()
    }

    /// The spec of a job, if it was read before.
    pub(crate) fn kept_spec(&self, job: &JobId) -> Option<Arc<JobSpec>> {
        self.specs.get(job).cloned()
    }

    /// Spares the next commit of the job from parsing a season of hundreds of episodes again.
    pub(crate) fn keep_spec(&mut self, job: &JobId, spec: Arc<JobSpec>) {
        if self.specs.len() >= SPECS_KEPT {
            self.specs.clear();
        }
        self.specs.insert(job.clone(), spec);
    }

    async fn statement(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(sql).execute(&mut self.connection).await.map(|_| ())
    }
}

/// Sends requests to the writer.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
}

impl Writer {
    /// Gives the connection to a task of its own, which ends when this handle is dropped.
    pub(crate) fn start(connection: SqliteConnection, clock: Arc<dyn Clock>, signals: Signals) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE_REQUESTS);
        let tx = Tx {
            connection,
            now_ms: clock.now_ms(),
            effects: Effects::default(),
            specs: HashMap::new(),
        };
        tokio::spawn(write(tx, requests, clock, signals));
        Self { queue }
    }

    /// Runs a request in a transaction and answers once it is on disk. An error undoes whatever the request did.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, CoordinatorError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Tx) -> BoxFuture<'c, Result<T, CoordinatorError>> + Send + 'static,
    {
        let (reply, answered) = oneshot::channel();
        let request: Request = Box::new(move |tx| {
            Box::pin(async move {
                let outcome = work(tx).await;
                let keep = outcome.is_ok();
                let answer: Answer = Box::new(move |on_disk: Result<(), CoordinatorError>| {
                    // The caller may have gone away; what it asked for is done all the same.
                    let _ = reply.send(on_disk.and(outcome));
                });
                Ran { keep, answer }
            })
        });
        let closed = || CoordinatorError::Unavailable("the coordinator is shutting down".to_owned());
        self.queue.send(request).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

async fn write(mut tx: Tx, mut requests: mpsc::Receiver<Request>, clock: Arc<dyn Clock>, signals: Signals) {
    let mut batch = Vec::with_capacity(BATCH_REQUESTS);
    while requests.recv_many(&mut batch, BATCH_REQUESTS).await > 0 {
        tx.now_ms = clock.now_ms();
        let mut answers = Vec::with_capacity(batch.len());
        let outcome = run_batch(&mut tx, batch.drain(..), &mut answers).await;
        batch.clear();
        let effects = std::mem::take(&mut tx.effects);
        match outcome {
            Ok(()) => {
                signals.ring(&effects, tx.now_ms);
                answers.into_iter().for_each(|answer| answer(Ok(())));
            }
            Err(failure) => {
                error!(error = %failure, "a transaction failed");
                // Without a transaction this fails, and then there is nothing to undo.
                let _ = tx.statement("ROLLBACK").await;
                let failure = CoordinatorError::from(failure);
                answers
                    .into_iter()
                    .for_each(|answer| answer(Err(failure.clone())));
            }
        }
    }
}

async fn run_batch(
    tx: &mut Tx,
    batch: impl Iterator<Item = Request>,
    answers: &mut Vec<Answer>,
) -> Result<(), sqlx::Error> {
    tx.statement("BEGIN IMMEDIATE").await?;
    for request in batch {
        tx.statement("SAVEPOINT request").await?;
        let before = tx.effects.clone();
        let ran = request(tx).await;
        answers.push(ran.answer);
        if !ran.keep {
            tx.effects = before;
            tx.statement("ROLLBACK TO request").await?;
        }
        tx.statement("RELEASE request").await?;
    }
    tx.statement("COMMIT").await
}
