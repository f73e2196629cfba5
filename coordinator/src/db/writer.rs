//! The writer. Requests that arrive while the disk is busy share the next transaction, and heartbeats, commits and leases of
//! one transaction share their statements: that is what makes a lease cheap.
//!
//! Promises: a request is whole or not at all (a savepoint, shared by those that are settled together); nobody is answered, and nobody woken, before the transaction is on disk. A caller that gave up changes nothing of that.
//!
//! Several coordinators on one server take turns, a transaction each, by a lock that ends with the transaction. So what is
//! true of one writer is true of all of them together, and no decision is made on rows that another is changing. Chosen
//! over locks of rows since a commit looks at a whole gate of a job: two that each see the other's task still open would
//! both leave the next task to the other.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use remaster_domain::JobId;
use sqlx::AssertSqlSafe;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};
use uuid::Uuid;

use super::backfill::Backfill;
use super::jobs;
use super::open::Pool;
use super::specs::Specs;
use super::sql::{Connection, query};
use crate::CoordinatorError;
use crate::clock::{Clock, machine_ms};
use crate::fair::Queue;
use crate::grants::{Grant, LeaseAsked};
use crate::groups::{CommitAsked, HeartbeatAsked, Renewal};
use crate::signals::{Effects, Signals};

/// Requests that wait for the writer. More callers than this wait in front of the queue: memory stays bounded.
const QUEUE_REQUESTS: usize = 1_024;
/// Requests of one transaction: enough to hide the fsync, few enough that the first is not kept waiting.
const BATCH_REQUESTS: usize = 512;
/// The longest turn on a shared database, the wait for others' included: a server whose machine vanished says nothing for ever.
const TURN_MAX: Duration = Duration::from_secs(60);
/// Between tries to reach a database that went away.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Begins on a shared database, waits for this coordinator's turn, answers the time there once it has come, and makes the first
/// request's savepoint. The lock's name is a number that nobody else takes and that older coordinators take too. One trip, as
/// wherever trips can be saved here: each is time in which no other coordinator has its turn.
const BEGIN_TURN: &str = "BEGIN; SELECT pg_advisory_xact_lock(5928229427469370706); SAVEPOINT request;
    SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
/// Begins on a file, which nobody else writes to.
const BEGIN_ALONE: &str = "BEGIN IMMEDIATE; SAVEPOINT request";
/// Makes the savepoint of the next request in the place of that of the one before. The last one goes with the transaction.
const NEXT_SAVEPOINT: &str = "RELEASE SAVEPOINT request; SAVEPOINT request";
/// Channel on which coordinators tell each other what was offered.
pub(crate) const OFFERS_CHANNEL: &str = "remaster_offers";

type Answer = Box<dyn FnOnce(Result<(), CoordinatorError>) + Send>;
type Alone = Box<dyn for<'c> FnOnce(&'c mut Tx) -> BoxFuture<'c, Ran> + Send>;

/// What a transaction has gathered so far beside its rows.
type Gathered = (Effects, Option<Queue>, BTreeSet<JobId>);

/// A request that ran: whether to keep what it did, and how to answer once that is on disk.
struct Ran {
    keep: bool,
    answer: Answer,
}

/// What each of some requests is answered; or why none of them could be settled.
pub(crate) type Outcomes<T> = Result<Vec<Result<T, CoordinatorError>>, CoordinatorError>;

/// Requests of one sort that are cheaper together: those of one transaction are settled in a handful of statements.
pub(crate) trait Together: Clone + Send + Sync + 'static {
    /// What each is answered.
    type Answer: Send + 'static;

    /// Settles some, and answers each in its place. A refusal is an answer and has changed nothing; an error undoes what
    /// was done for all of them, and each is then tried alone.
    fn settle<'c>(tx: &'c mut Tx, asked: &'c [Self]) -> BoxFuture<'c, Outcomes<Self::Answer>>;
}

/// What is asked of the writer.
enum Request {
    Alone(Alone),
    Heartbeat(Asked<HeartbeatAsked>),
    /// Boxed, since it carries a whole result.
    Commit(Box<Asked<CommitAsked>>),
    Lease(Asked<LeaseAsked>),
}

struct Asked<A: Together> {
    ask: A,
    reply: oneshot::Sender<Result<A::Answer, CoordinatorError>>,
}

/// An open transaction.
#[derive(Debug)]
pub(crate) struct Tx {
    /// The connection; use it for every statement.
    pub(crate) connection: Connection,
    /// The time that counts in this transaction.
    pub(crate) now_ms: i64,
    /// What to tell those who wait once it is on disk.
    pub(crate) effects: Effects,
    /// Who is served next; read once a transaction.
    pub(crate) queue: Option<Queue>,
    /// Jobs that may have ended in this transaction; looked at once, at its end.
    pub(crate) moved: BTreeSet<JobId>,
    /// Of the jobs that moved lately.
    pub(crate) specs: Arc<Specs>,
    /// Whether nothing was done since the savepoint was made.
    at_savepoint: bool,
}

impl Tx {
    /// A fresh id; ids made later sort later.
    pub(crate) fn new_id() -> Uuid {
        Uuid::now_v7()
    }

    async fn statement(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        query(sql).execute(&mut self.connection).await.map(|_| ())
    }

    /// Begins; on a shared database once it is this coordinator's turn.
    async fn begin(&mut self, clock: &Clock) -> Result<(), sqlx::Error> {
        let there_ms = if self.connection.is_shared() {
            let row = self.connection.script(BEGIN_TURN).await?;
            row.ok_or(sqlx::Error::RowNotFound)?.at(0)?
        } else {
            self.connection.script(BEGIN_ALONE).await?;
            machine_ms()
        };
        self.at_savepoint = true;
        self.now_ms = clock.now_ms(there_ms);
        Ok(())
    }

    /// Ends jobs, tells the other coordinators, commits.
    async fn finish(&mut self) -> Result<(), CoordinatorError> {
        let mut moved = std::mem::take(&mut self.moved);
        // The queue is read when leases are asked for, after all that ends tasks.
        if let Some(queue) = &self.queue {
            moved.retain(|job| !queue.goes_on(job));
        }
        jobs::end_done(self, moved).await?;
        self.queue = None;
        let told = self.effects.offers_in_words(self.now_ms);
        let Some(words) = told.filter(|_| self.connection.is_shared()) else {
            return Ok(self.statement("COMMIT").await?);
        };
        // The words are names of kinds and numbers: nothing in them ends the text.
        let tell = format!("SELECT pg_notify('{OFFERS_CHANNEL}', '{words}'); COMMIT");
        self.connection.script(AssertSqlSafe(tell)).await?;
        Ok(())
    }

    /// From here on a request can be undone.
    async fn savepoint(&mut self) -> Result<Gathered, CoordinatorError> {
        if !std::mem::take(&mut self.at_savepoint) {
            self.connection.script(NEXT_SAVEPOINT).await?;
        }
        Ok((self.effects.clone(), self.queue.clone(), self.moved.clone()))
    }

    /// What is undone leaves its savepoint to the next request.
    async fn keep_or_undo(
        &mut self,
        (effects, queue, moved): Gathered,
        keep: bool,
    ) -> Result<(), CoordinatorError> {
        if !keep {
            self.statement("ROLLBACK TO SAVEPOINT request").await?;
            (self.effects, self.queue, self.moved) = (effects, queue, moved);
            self.specs.forget();
            self.at_savepoint = true;
        }
        Ok(())
    }

    /// Forgets what a transaction that failed had gathered.
    fn forget(&mut self) {
        self.effects = Effects::default();
        self.queue = None;
        self.moved.clear();
        self.specs.forget();
    }
}

/// Sends requests to the writer.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
}

impl Writer {
    /// Gives the connection, and what keeps others from writing, to a thread of its own, which ends when this handle is dropped:
    /// on those of the service, each of the writer's trips to a server would wait for the calls that its answers set off.
    pub(crate) fn start(
        connection: Connection,
        pool: Pool,
        lock: Option<File>,
        clock: Clock,
        signals: Signals,
        specs: Arc<Specs>,
        backfill: Option<Backfill>,
    ) -> std::io::Result<Self> {
        let (queue, requests) = mpsc::channel(QUEUE_REQUESTS);
        let mut tx = Tx {
            connection,
            now_ms: 0,
            effects: Effects::default(),
            queue: None,
            moved: BTreeSet::new(),
            specs,
            at_savepoint: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let work = async move {
            // A socket is looked after where it was opened.
            if tx.connection.is_shared() {
                reconnect(&mut tx, &pool, &requests).await;
            }
            write(tx, pool, requests, clock, signals, backfill).await;
            drop(lock);
        };
        std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || runtime.block_on(work))?;
        Ok(Self { queue })
    }

    /// Runs a request in a transaction and answers once it is on disk. An error undoes whatever the request did.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, CoordinatorError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Tx) -> BoxFuture<'c, Result<T, CoordinatorError>> + Send + 'static,
    {
        let (reply, answered) = oneshot::channel();
        let alone: Alone = Box::new(move |tx| {
            Box::pin(async move {
                let outcome = work(tx).await;
                let keep = outcome.is_ok();
                Ran {
                    keep,
                    answer: answer(reply, outcome),
                }
            })
        });
        self.ask(Request::Alone(alone), answered).await
    }

    /// Renews leases, together with the other heartbeats of the transaction.
    pub(crate) async fn heartbeat(&self, ask: HeartbeatAsked) -> Result<Renewal, CoordinatorError> {
        let (reply, answered) = oneshot::channel();
        self.ask(Request::Heartbeat(Asked { ask, reply }), answered).await
    }

    /// Commits a result, together with the others of the transaction.
    pub(crate) async fn commit(&self, ask: CommitAsked) -> Result<(), CoordinatorError> {
        let (reply, answered) = oneshot::channel();
        self.ask(Request::Commit(Box::new(Asked { ask, reply })), answered)
            .await
    }

    /// Leases tasks, together with the others who ask in the transaction.
    pub(crate) async fn lease(&self, ask: LeaseAsked) -> Result<Grant, CoordinatorError> {
        let (reply, answered) = oneshot::channel();
        self.ask(Request::Lease(Asked { ask, reply }), answered).await
    }

    async fn ask<T>(
        &self,
        request: Request,
        answered: oneshot::Receiver<Result<T, CoordinatorError>>,
    ) -> Result<T, CoordinatorError> {
        let closed = || CoordinatorError::Unavailable("the coordinator is shutting down".to_owned());
        self.queue.send(request).await.map_err(|_| closed())?;
        let unrun = || CoordinatorError::Unavailable("the database could not begin a transaction".to_owned());
        answered.await.map_err(|_| unrun())?
    }
}

fn answer<T: Send + 'static>(
    reply: oneshot::Sender<Result<T, CoordinatorError>>,
    outcome: Result<T, CoordinatorError>,
) -> Answer {
    Box::new(move |on_disk| {
        // The caller may have gone away; what it asked for is done all the same.
        let _ = reply.send(on_disk.and(outcome));
    })
}

async fn write(
    mut tx: Tx,
    pool: Pool,
    mut requests: mpsc::Receiver<Request>,
    clock: Clock,
    signals: Signals,
    backfill: Option<Backfill>,
) {
    let mut batch = Vec::with_capacity(BATCH_REQUESTS);
    while requests.recv_many(&mut batch, BATCH_REQUESTS).await > 0 {
        let mut answers = Vec::with_capacity(BATCH_REQUESTS);
        let is_shared = tx.connection.is_shared();
        let turn = run_batch(&mut tx, &clock, &mut requests, &mut batch, &mut answers);
        let outcome = if is_shared {
            tokio::time::timeout(TURN_MAX, turn).await
        } else {
            Ok(turn.await)
        };
        let is_silent = outcome.is_err();
        match outcome.unwrap_or_else(|_| Err(silent())) {
            Ok(()) => {
                let effects = std::mem::take(&mut tx.effects);
                signals.ring(&effects, tx.now_ms);
                answers.into_iter().for_each(|answer| answer(Ok(())));
                if let Some(backfill) = &backfill {
                    backfill.committed(&mut tx.connection).await;
                }
            }
            Err(failure) => {
                error!(error = %failure, "a transaction failed");
                tx.forget();
                answers
                    .into_iter()
                    .for_each(|answer| answer(Err(failure.clone())));
                if is_silent || tx.statement("ROLLBACK").await.is_err() {
                    reconnect(&mut tx, &pool, &requests).await;
                }
            }
        }
        batch.clear();
    }
}

fn silent() -> CoordinatorError {
    let waited_s = TURN_MAX.as_secs();
    CoordinatorError::Unavailable(format!("the database did not answer within {waited_s} s"))
}

/// Takes a new connection for one that is gone; tries for as long as somebody may ask for something.
async fn reconnect(tx: &mut Tx, pool: &Pool, requests: &mpsc::Receiver<Request>) {
    tx.connection.abandon();
    while !requests.is_closed() {
        match pool.acquire().await {
            Ok(connection) => {
                tx.connection = connection;
                return;
            }
            Err(failure) => warn!(error = %failure, "the database cannot be reached, trying again"),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn run_batch(
    tx: &mut Tx,
    clock: &Clock,
    requests: &mut mpsc::Receiver<Request>,
    batch: &mut Vec<Request>,
    answers: &mut Vec<Answer>,
) -> Result<(), CoordinatorError> {
    tx.begin(clock).await?;
    // What came while others had their turn goes with it: waiting for the next one would cost as much again.
    while batch.len() < BATCH_REQUESTS
        && let Ok(request) = requests.try_recv()
    {
        batch.push(request);
    }
    let (mut heartbeats, mut commits, mut others, mut leases) = (vec![], vec![], vec![], vec![]);
    for request in batch.drain(..) {
        match request {
            Request::Heartbeat(asked) => heartbeats.push(asked),
            Request::Commit(asked) => commits.push(*asked),
            Request::Alone(alone) => others.push(alone),
            Request::Lease(asked) => leases.push(asked),
        }
    }
    run_together(tx, heartbeats, answers).await?;
    run_together(tx, commits, answers).await?;
    for alone in others {
        let before = tx.savepoint().await?;
        let ran = alone(tx).await;
        answers.push(ran.answer);
        tx.keep_or_undo(before, ran.keep).await?;
    }
    // Last, so that what the others made is leased at once.
    run_together(tx, leases, answers).await?;
    tx.finish().await
}

/// Settles all of one sort; where that fails, each alone, so that one that cannot be settled keeps nobody else waiting.
async fn run_together<A: Together>(
    tx: &mut Tx,
    asked: Vec<Asked<A>>,
    answers: &mut Vec<Answer>,
) -> Result<(), CoordinatorError> {
    if asked.is_empty() {
        return Ok(());
    }
    let (asks, replies): (Vec<A>, Vec<_>) = asked.into_iter().map(|asked| (asked.ask, asked.reply)).unzip();
    let before = tx.savepoint().await?;
    let settled = A::settle(tx, &asks).await;
    tx.keep_or_undo(before, settled.is_ok()).await?;
    match settled {
        Ok(outcomes) => answers.extend(
            replies
                .into_iter()
                .zip(outcomes)
                .map(|(reply, outcome)| answer(reply, outcome)),
        ),
        Err(failure) if asks.len() == 1 => {
            let alone = replies
                .into_iter()
                .map(|reply| answer(reply, Err(failure.clone())));
            answers.extend(alone);
        }
        Err(failure) => {
            warn!(error = %failure, requests = asks.len(), "could not be settled together, trying each alone");
            for (ask, reply) in asks.into_iter().zip(replies) {
                Box::pin(run_together(tx, vec![Asked { ask, reply }], answers)).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::{JobState, Stage};
    use remaster_proto::PROTOCOL_VERSION;

    use super::super::jobs::{insert_job, load_job};
    use super::super::open::Db;
    use super::*;
    use crate::config::Database;
    use crate::flow::tests::job;

    #[tokio::test]
    async fn a_request_that_is_undone_takes_no_job_of_others_from_those_that_may_have_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = Database::Sqlite(folder.path().join("coordinator.db"));
        let db = Db::open(&file, PROTOCOL_VERSION, Clock::Database, Signals::new())
            .await
            .unwrap();
        let id: JobId = "0198c0de-0000-7000-8000-000000000001".parse().unwrap();
        let (made, taken) = (id.clone(), id.clone());
        let (go, may_go) = oneshot::channel::<()>();
        // The first keeps the writer busy until the others stand in the queue together.
        let first = db.writer.run(move |_| {
            Box::pin(async move {
                may_go.await.unwrap();
                Ok(())
            })
        });
        let ends = db.writer.run(move |tx| {
            Box::pin(async move {
                let spec = job(Stage::Extract, &[("E1", None, None)]);
                insert_job(tx, &made, &spec, 0, None, vec![]).await
            })
        });
        let undone = db.writer.run::<(), _>(move |tx| {
            Box::pin(async move {
                assert!(tx.moved.remove(&taken), "both are of one transaction");
                Err(CoordinatorError::Unavailable("undone".to_owned()))
            })
        });
        let (first, ends, undone, ()) = tokio::join!(first, ends, undone, async { go.send(()).unwrap() });
        first.and(ends).unwrap();
        undone.unwrap_err();
        let row = load_job(&mut db.reader().await.unwrap(), &id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.state, JobState::Succeeded, "it has no tasks");
    }
}
