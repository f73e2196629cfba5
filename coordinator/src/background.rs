//! What the coordinator does by itself: takes back leases that ran out or get no further, offers what straggles to a second
//! worker, and gives objects their names.
//!
//! All go by rows alone and are idempotent, so they resume after a restart, and doing them twice changes nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use remaster_store::StoreError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Span, error, info, warn};

use crate::CoordinatorError;
use crate::clock::jitter;
use crate::coordinator::Coordinator;
use crate::db::{self, CopySource, PendingCopy, StoredTask, Tx};
use crate::leases::apply_and_bury;
use crate::signals::Effects;
use crate::state::{AttemptEnd, HeldLease, TaskEvent, decide, ended, stall_ms};
use crate::stragglers::{may_run_twice, patience_ms, straggles};

/// Lost leases of one transaction: the whole fleet may be lost at once, and heartbeats must get in between.
const REAPED_AT_ONCE: u32 = 256;
/// Leases looked at in one transaction, those first that moved longest ago.
const STALLED_AT_ONCE: u32 = 64;
/// Copies of one round.
const COPIED_AT_ONCE: u32 = 64;
/// Copies are tried again this often while the store is away.
const COPY_AGAIN: Duration = Duration::from_secs(2);
/// Copies that another coordinator asked for and did not live to make are found this soon.
const COPY_SWEEP: Duration = Duration::from_secs(15);
/// After this long without a word it is listened anew: a connection that was cut without notice says nothing for ever.
const NEWS_MAX: Duration = Duration::from_secs(60);
/// Between tries to hear the other coordinators.
const HEAR_AGAIN: Duration = Duration::from_secs(1);

impl Coordinator {
    /// Offers every task again whose lease ran out; answers how many there were.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reap(&self) -> Result<usize, CoordinatorError> {
        self.db
            .writer
            .run(|tx| {
                Box::pin(async move {
                    let mut lost = 0;
                    for task in &db::expired(tx, REAPED_AT_ONCE).await? {
                        let Ok(decision) = decide(&task.row, TaskEvent::Expire, tx.now_ms) else {
                            continue;
                        };
                        db::note(tx, Some(&task.job), Some(&task.id), "lost", "").await?;
                        apply_and_bury(tx, task, &decision).await?;
                        if let Some(lost) = ended(&task.row, &decision, AttemptEnd::Lost) {
                            let said = || warn!(losses = decision.row.losses, "lease ran out");
                            span_of(tx, task, lost).await?.in_scope(said);
                            db::note_lost(tx, lost.session, &task.id).await?;
                        }
                        lost += 1;
                    }
                    Ok(lost)
                })
            })
            .await
    }

    /// Takes tasks away whose attempts are alive but get no further; answers how many there were.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reap_stalled(&self) -> Result<usize, CoordinatorError> {
        self.db
            .writer
            .run(|tx| {
                Box::pin(async move {
                    let mut stalled = 0;
                    for db::Standing { task, moved_ms, at } in db::leased_since(tx, STALLED_AT_ONCE).await? {
                        let event = TaskEvent::Stall {
                            moved_ms,
                            at,
                            limit_ms: stall_ms(task.kind),
                            jitter: jitter(),
                        };
                        let Ok(decision) = decide(&task.row, event, tx.now_ms) else {
                            continue;
                        };
                        let message = &decision.row.message;
                        db::note(tx, Some(&task.job), Some(&task.id), "stalled", message).await?;
                        apply_and_bury(tx, &task, &decision).await?;
                        if let Some(hung) = ended(&task.row, &decision, AttemptEnd::Failed) {
                            let said = || warn!(%message, "taken away");
                            span_of(tx, &task, hung).await?.in_scope(said);
                            db::note_hung(tx, hung.session).await?;
                        }
                        stalled += 1;
                    }
                    Ok(stalled)
                })
            })
            .await
    }

    /// Offers tasks to second workers whose attempts take far longer than others did; answers how many there were.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn offer_stragglers(&self) -> Result<usize, CoordinatorError> {
        let lease_ms = self.lease_ms();
        self.db
            .writer
            .run(move |tx| {
                Box::pin(async move {
                    let (mut times, mut offered) = (BTreeMap::new(), 0);
                    let began_before_ms = tx.now_ms - patience_ms(lease_ms);
                    for (task, began_ms) in db::last_attempts(tx, began_before_ms).await? {
                        if !may_run_twice(task.kind) {
                            continue;
                        }
                        let others_ms = match times.entry((task.job.clone(), task.kind.as_str())) {
                            Entry::Occupied(known) => known.into_mut(),
                            Entry::Vacant(new) => new.insert(db::times_ms(tx, &task.job, task.kind).await?),
                        };
                        let ran_ms = tx.now_ms - began_ms;
                        if straggles(ran_ms, others_ms, lease_ms)
                            && let Ok(decision) = decide(&task.row, TaskEvent::Straggle, tx.now_ms)
                        {
                            if let Some(slow) = task.row.held(task.row.token) {
                                let said = || warn!(ran_ms, "straggles, offered to a second worker");
                                span_of(tx, &task, slow).await?.in_scope(said);
                            }
                            let detail = format!("after {} s, offered to a second worker", ran_ms / 1_000);
                            db::note(tx, Some(&task.job), Some(&task.id), "straggling", &detail).await?;
                            db::apply(tx, &task, &decision).await?;
                            offered += 1;
                        }
                    }
                    Ok(offered)
                })
            })
            .await
    }

    /// Makes every copy that is asked for; answers 0 when none is left.
    ///
    /// # Errors
    /// When the database does not answer. A store that does not is noted and tried again.
    pub async fn copy_pending(&self) -> Result<usize, CoordinatorError> {
        let copies = db::pending(
            &mut self.reader().await?,
            self.config.protocol_version,
            COPIED_AT_ONCE,
        )
        .await?;
        // A full page: there may be more behind it.
        let mut left = usize::from(copies.len() >= COPIED_AT_ONCE as usize);
        for copy in copies {
            let made = match &copy.source {
                CopySource::Object(source) => self.store.copy(source, &copy.target).await,
                CopySource::Body(body) => {
                    let bytes = body.clone().into();
                    self.store.put_bytes(&copy.target, bytes).await.map(|_| ())
                }
            };
            match made {
                Ok(()) => self.note_copied(copy).await?,
                Err(failure) => {
                    left += 1;
                    self.note_not_copied(copy, &failure).await?;
                }
            }
        }
        Ok(left)
    }

    async fn note_copied(&self, copy: PendingCopy) -> Result<(), CoordinatorError> {
        info!(target = %copy.target, "named");
        self.db
            .writer
            .run(move |tx| Box::pin(async move { db::record_copied(tx, &copy.id).await }))
            .await
    }

    async fn note_not_copied(&self, copy: PendingCopy, failure: &StoreError) -> Result<(), CoordinatorError> {
        warn!(target = %copy.target, error = %failure, "not named yet");
        let message = failure.to_string();
        self.db
            .writer
            .run(move |tx| Box::pin(async move { db::note_failure(tx, &copy.id, &message).await }))
            .await
    }
}

/// What every line about a lease says that ends without its holder's word.
async fn span_of(tx: &mut Tx, task: &StoredTask, lease: HeldLease<'_>) -> Result<Span, CoordinatorError> {
    let session = db::load_session(&mut tx.connection, lease.session).await?;
    Ok(task.span(lease.token, &session.worker))
}

/// Takes back lost leases until shutdown. Waits for one lease first: workers that outlived a restart of the coordinator
/// must have had the time to renew.
pub(crate) async fn reap_for_ever(coordinator: Arc<Coordinator>, shutdown: CancellationToken) {
    let lease = Duration::from_millis(coordinator.config.lease_ms.into());
    let mut pause = lease;
    while sleep_unless(&shutdown, pause).await {
        // A whole fleet may be lost at once: as long as there is a full number, there may be more.
        loop {
            match coordinator.reap().await {
                Ok(lost) if lost >= REAPED_AT_ONCE as usize => {}
                Ok(_) => break,
                Err(failure) => {
                    error!(error = %failure, "could not look for lost leases");
                    break;
                }
            }
        }
        if let Err(failure) = coordinator.reap_stalled().await {
            error!(error = %failure, "could not look for attempts without progress");
        }
        if let Err(failure) = coordinator.offer_stragglers().await {
            error!(error = %failure, "could not look for stragglers");
        }
        pause = lease / 4;
    }
}

/// Gives names until shutdown.
pub(crate) async fn copy_for_ever(coordinator: Arc<Coordinator>, shutdown: CancellationToken) {
    loop {
        let all_done = match coordinator.copy_pending().await {
            Ok(left) => left == 0,
            Err(failure) => {
                error!(error = %failure, "could not look for what is to be named");
                false
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = coordinator.signals.copies() => {}
            () = tokio::time::sleep(if all_done { COPY_SWEEP } else { COPY_AGAIN }) => {}
        }
    }
}

/// Hears until shutdown what other coordinators offered, so that a worker that waits here is woken by what was done there.
pub(crate) async fn listen_for_ever(coordinator: Arc<Coordinator>, shutdown: CancellationToken) {
    let heard = async {
        loop {
            match hear(&coordinator).await {
                // Nobody else writes to this database.
                Ok(()) => return,
                Err(failure) => warn!(error = %failure, "could not hear the other coordinators"),
            }
            tokio::time::sleep(HEAR_AGAIN).await;
        }
    };
    tokio::select! {
        () = heard => {}
        () = shutdown.cancelled() => {}
    }
}

async fn hear(coordinator: &Coordinator) -> Result<(), CoordinatorError> {
    while let Some(mut listener) = coordinator.db.listener().await? {
        listener.listen(db::OFFERS_CHANNEL).await?;
        // Whatever was said before this was not heard.
        coordinator.signals.ring(&Effects::everything(), 0);
        while let Ok(told) = timeout(NEWS_MAX, listener.try_recv()).await {
            // Nothing comes when the connection was lost and is there again.
            let effects = told?.map_or_else(Effects::everything, |told| Effects::from_words(told.payload()));
            // Most often all of it may be had at once, whatever the time is there.
            let now_ms = if effects.has_later() {
                coordinator.db.now_ms().await?
            } else {
                0
            };
            coordinator.signals.ring(&effects, now_ms);
        }
    }
    Ok(())
}

async fn sleep_unless(shutdown: &CancellationToken, pause: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        () = shutdown.cancelled() => false,
    }
}
