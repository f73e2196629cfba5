//! The worker's half of the service: register, lease, renew, record, commit, fail, release.
//!
//! Promises: at most one live lease a task, at most one commit; whoever holds a stale token is told so and changes
//! nothing; every answer is on disk before it is given. Objects are looked at before the transaction, never within.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use remaster_domain::{
    Checkpoint, FailureClass, LeaseProgress, OutputObject, SessionId, TASK_RESULT_BYTES_MAX, TaskResult,
};
use remaster_proto::from_json;
use remaster_store::Key;
use tokio_util::sync::CancellationToken;
use tracing::{Span, info, warn};

use crate::CoordinatorError;
use crate::check::{OBJECTS_MAX, check_result, checkpoint_objects, objects_of};
use crate::clock::jitter;
use crate::coordinator::{Coordinator, LeaseName, Registration};
use crate::db::{self, Connection, StoredTask, Tx};
use crate::grants::{Grant, LeaseAsked};
use crate::groups::{CommitAsked, HeartbeatAsked, Renewal, refused};
use crate::needs::PROTOCOL;
use crate::signals::offered;
use crate::state::{Action, Decision, TaskEvent, decide_for};

/// Tasks of one lease call, whatever a worker asks for: its share of the writer's time.
const LEASES_MAX: u32 = 64;
/// Longest poll; shorter than any proxy's or client's patience.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Questions to the store at once for one commit: of a long season's two thousand it takes seconds, far away.
const HEADS_AT_ONCE: usize = 32;
/// Longest failure message that is kept.
const MESSAGE_CHARS_MAX: usize = 4_000;

impl Coordinator {
    /// Takes a worker in.
    pub(crate) async fn register(&self, mut who: Registration) -> Result<(), CoordinatorError> {
        check_version(self.config.protocol_version, who.protocol_version)?;
        let version = who.protocol_version.to_string();
        who.capabilities.labels.insert(PROTOCOL.to_owned(), version);
        info!(worker = %who.worker, session = %who.session, name = %who.name, "registered");
        self.db
            .writer
            .run(move |tx| {
                Box::pin(async move {
                    db::register(tx, &who.session, &who.worker, &who.name, &who.capabilities).await
                })
            })
            .await
    }

    /// Hands out up to `slots` tasks; waits for some when there are none, unless the coordinator ends: what was granted by then is
    /// answered for.
    pub(crate) async fn lease(
        &self,
        session: SessionId,
        slots: u32,
        wait: Duration,
        shutdown: &CancellationToken,
    ) -> Result<Grant, CoordinatorError> {
        let deadline = tokio::time::Instant::now() + wait.min(WAIT_MAX);
        let mut offers = self.signals.offers();
        loop {
            // What is offered while the answer is on its way may be missing in it.
            let before = *offers.borrow_and_update();
            let ask = LeaseAsked {
                session: session.clone(),
                slots: slots.min(LEASES_MAX) as usize,
                lease_ms: self.lease_ms(),
            };
            let grant = self.db.writer.lease(ask).await?;
            self.granted.keep(&grant.leases);
            if grant.drain || !grant.leases.is_empty() || tokio::time::Instant::now() >= deadline {
                return Ok(grant);
            }
            tokio::select! {
                () = offered(&mut offers, before, &grant.kinds) => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = shutdown.cancelled() => return Ok(grant),
            }
        }
    }

    /// Renews leases and says what has become of each. A heartbeat never waits for work.
    pub(crate) async fn heartbeat(
        &self,
        session: SessionId,
        leases: Vec<LeaseProgress>,
    ) -> Result<Renewal, CoordinatorError> {
        let lease_ms = self.lease_ms();
        let ask = HeartbeatAsked {
            session,
            leases,
            lease_ms,
        };
        self.db.writer.heartbeat(ask).await
    }

    /// Makes a checkpoint count.
    pub(crate) async fn record(
        &self,
        lease: LeaseName,
        checkpoint: Checkpoint,
        named: Vec<OutputObject>,
    ) -> Result<(), CoordinatorError> {
        let task = self.held(&lease).await?;
        self.db.read_spec_ahead(&task.job).await?;
        let objects = self
            .check_objects(named, checkpoint_objects(&checkpoint.sha256))
            .await?;
        self.db
            .writer
            .run(move |tx| {
                Box::pin(async move {
                    let token = lease.token;
                    let event = TaskEvent::Record {
                        token,
                        checkpoint: checkpoint.clone(),
                    };
                    let (task, decision, span) = settle(tx, &lease, event).await?;
                    span.in_scope(|| info!(step = checkpoint.step, "checkpoint recorded"));
                    db::apply(tx, &task, &decision).await?;
                    db::note_checkpoint(tx, &task, &checkpoint).await?;
                    db::record_objects(tx, objects.iter().map(|object| (&task.id, object)).collect()).await
                })
            })
            .await
    }

    /// Makes a result count and makes what follows from it.
    pub(crate) async fn commit(
        &self,
        lease: LeaseName,
        result_json: &str,
        named: Vec<OutputObject>,
    ) -> Result<(), CoordinatorError> {
        if result_json.len() > TASK_RESULT_BYTES_MAX {
            let (bytes, most) = (result_json.len(), TASK_RESULT_BYTES_MAX);
            return Err(CoordinatorError::Invalid(format!(
                "the result has {bytes} bytes, at most {most} are kept"
            )));
        }
        let (job, spec) = match self.granted.take(&lease) {
            Some(known) => known,
            None => {
                let task = self.held(&lease).await?;
                self.db.read_spec_ahead(&task.job).await?;
                let spec = task.spec()?;
                (task.job, spec)
            }
        };
        let result: TaskResult = from_json("result_json", result_json)?;
        check_result(&spec, &result).map_err(CoordinatorError::Invalid)?;
        let objects = self.check_objects(named, objects_of(&spec, &result)).await?;
        let ask = CommitAsked {
            lease,
            result,
            objects,
        };
        self.db.read_spec_ahead(&job).await?;
        self.db.writer.commit(ask).await
    }

    /// Takes note of a failure.
    pub(crate) async fn fail(
        &self,
        lease: LeaseName,
        class: FailureClass,
        message: &str,
    ) -> Result<(), CoordinatorError> {
        let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
        let event = TaskEvent::Fail {
            token: lease.token,
            class,
            message,
            jitter: jitter(),
        };
        self.db
            .writer
            .run(move |tx| {
                Box::pin(async move {
                    let (task, decision, span) = settle(tx, &lease, event).await?;
                    let message = &decision.row.message;
                    span.in_scope(|| warn!(class = class.as_str(), %message, "attempt failed"));
                    // What follows is not every coordinator's to say.
                    tx.specs.of(&task.job, &mut tx.connection).await?;
                    apply_and_bury(tx, &task, &decision).await?;
                    // Wrong input is no fault of the worker's.
                    if class == FailureClass::Retryable {
                        db::note_failed(tx, &lease.session, &lease.task, lease.token).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Takes a lease back unfinished.
    pub(crate) async fn release(&self, lease: LeaseName) -> Result<(), CoordinatorError> {
        let event = TaskEvent::Release { token: lease.token };
        self.db
            .writer
            .run(move |tx| {
                Box::pin(async move {
                    let (task, decision, span) = settle(tx, &lease, event).await?;
                    span.in_scope(|| info!("given back"));
                    apply_and_bury(tx, &task, &decision).await
                })
            })
            .await
    }

    /// The task, if the caller may still hand something in: asked before the store is, so that the stale cost nothing.
    async fn held(&self, lease: &LeaseName) -> Result<StoredTask, CoordinatorError> {
        // A commit is allowed in one state more than a record, and whenever it comes; the transaction decides again.
        let event = TaskEvent::Commit { token: lease.token };
        let (task, ..) = decided(&mut self.reader().await?, lease, event, 0).await?;
        Ok(task)
    }

    /// Presence and size of what was named and of what the result speaks of.
    async fn check_objects(
        &self,
        named: Vec<OutputObject>,
        spoken_of: Vec<Key>,
    ) -> Result<Vec<OutputObject>, CoordinatorError> {
        if named.len() > OBJECTS_MAX {
            return Err(CoordinatorError::Invalid(format!(
                "{} objects in one commit, at most {OBJECTS_MAX} are looked at",
                named.len()
            )));
        }
        let mut wanted: Vec<(Key, Option<u64>)> = vec![];
        for object in named {
            wanted.push((object.key.parse()?, Some(object.bytes)));
        }
        for key in spoken_of {
            if wanted.iter().all(|(known, _)| *known != key) {
                wanted.push((key, None));
            }
        }
        let checks = wanted.into_iter().map(|(key, said)| async move {
            let bytes = self.size_of(&key).await?;
            match said {
                Some(said) if said != bytes => Err(CoordinatorError::Invalid(format!(
                    "object `{key}` has {bytes} bytes in the store, {said} were announced"
                ))),
                _ => Ok(OutputObject {
                    key: key.into(),
                    bytes,
                }),
            }
        });
        stream::iter(checks).buffered(HEADS_AT_ONCE).try_collect().await
    }
}

/// Refuses a peer that would misread us. One of the version before does not: messages only gain fields from one version to
/// the next, so that a fleet is upgraded a process at a time, the coordinators first.
pub(crate) fn check_version(own: u32, version: u32) -> Result<(), CoordinatorError> {
    if (own - 1..=own).contains(&version) {
        return Ok(());
    }
    let advice = if version > own {
        "upgrade the coordinator first"
    } else {
        "install the release of the coordinator"
    };
    Err(CoordinatorError::NotNow(format!(
        "protocol version {version} does not fit this coordinator, which speaks {own} and {}: {advice}",
        own - 1
    )))
}

/// Applies a decision; when the task died of it, lets go on what waited.
pub(crate) async fn apply_and_bury(
    tx: &mut Tx,
    task: &StoredTask,
    decision: &Decision,
) -> Result<(), CoordinatorError> {
    db::apply(tx, task, decision).await?;
    if decision.actions.contains(&Action::Bury) {
        db::bury(tx, task, &decision.row.message).await?;
    }
    Ok(())
}

/// Decides in a transaction over a call that names a lease, and says under which span to speak of it; a refusal becomes the caller's error.
async fn settle(
    tx: &mut Tx,
    lease: &LeaseName,
    event: TaskEvent,
) -> Result<(StoredTask, Decision, Span), CoordinatorError> {
    decided(&mut tx.connection, lease, event, tx.now_ms).await
}

async fn decided(
    connection: &mut Connection,
    lease: &LeaseName,
    event: TaskEvent,
    now_ms: i64,
) -> Result<(StoredTask, Decision, Span), CoordinatorError> {
    let session = db::load_session(connection, &lease.session).await?;
    let task = db::load_task(connection, &lease.task).await?;
    let span = task.span(lease.token, &session.worker);
    match decide_for(&task.row, &lease.session, event, now_ms) {
        Ok(decision) => Ok((task, decision, span)),
        Err(refusal) => {
            span.in_scope(|| warn!(%refusal, "a call came too late"));
            Err(refused(&task, refusal))
        }
    }
}
