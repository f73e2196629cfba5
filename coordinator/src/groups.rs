//! What many workers ask in the same moment, settled together: heartbeats and commits of one transaction. Leases: `grants`.
//!
//! Promises: each request is decided by itself on the rows as they stand, by the same function as everywhere; only reading
//! and writing the rows is shared. Left to others: what a request must satisfy before it comes here.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use remaster_domain::{LeaseProgress, LeaseToken, OutputObject, SessionId, TaskId, TaskResult, Verdict};
use tracing::{info, warn};

use crate::CoordinatorError;
use crate::coordinator::LeaseName;
use crate::db::{self, Change, Commit, Outcomes, StoredTask, Together, Tx};
use crate::state::{Action, AttemptEnd, Decision, Phase, Refusal, TaskEvent, decide_for};

/// A worker says how far it is.
#[derive(Debug, Clone)]
pub(crate) struct HeartbeatAsked {
    pub(crate) session: SessionId,
    pub(crate) leases: Vec<LeaseProgress>,
    pub(crate) lease_ms: i64,
}

/// What a heartbeat brings.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) verdicts: Vec<(TaskId, LeaseToken, Verdict)>,
    pub(crate) drain: bool,
}

/// A worker hands in a result, whose objects were looked at.
#[derive(Debug, Clone)]
pub(crate) struct CommitAsked {
    pub(crate) lease: LeaseName,
    pub(crate) result: TaskResult,
    pub(crate) objects: Vec<OutputObject>,
}

impl Together for HeartbeatAsked {
    type Answer = Renewal;

    fn settle<'c>(tx: &'c mut Tx, asked: &'c [Self]) -> BoxFuture<'c, Outcomes<Renewal>> {
        Box::pin(renew(tx, asked))
    }
}

impl Together for CommitAsked {
    type Answer = ();

    fn settle<'c>(tx: &'c mut Tx, asked: &'c [Self]) -> BoxFuture<'c, Outcomes<()>> {
        Box::pin(commit(tx, asked))
    }
}

/// What a call about a lease is told that names a stale one.
pub(crate) fn refused(task: &StoredTask, refusal: Refusal) -> CoordinatorError {
    CoordinatorError::Stale(format!("task {}: {refusal}", task.name))
}

async fn renew(tx: &mut Tx, asked: &[HeartbeatAsked]) -> Outcomes<Renewal> {
    let sessions =
        db::load_sessions(&mut tx.connection, asked.iter().map(|ask| &ask.session).collect()).await?;
    db::seen(tx, &sessions.keys().collect()).await?;
    let mut held = BTreeSet::new();
    for ask in asked {
        held.extend(ask.leases.iter().map(|lease| &lease.task));
    }
    let tasks = db::load_tasks(&mut tx.connection, held).await?;
    let jobs = tasks.values().map(|task| task.job.clone()).collect();
    let paused = db::paused(&mut tx.connection, &jobs).await?;
    // A task is written once, however often its holders said so meanwhile.
    let mut renewed: BTreeMap<&TaskId, (Decision, Option<&LeaseProgress>)> = BTreeMap::new();
    let mut outcomes = vec![];
    for ask in asked {
        let Some(session) = sessions.get(&ask.session) else {
            outcomes.push(Err(db::unknown(&ask.session)));
            continue;
        };
        let mut verdicts = vec![];
        for lease in &ask.leases {
            let (token, lease_ms) = (lease.token, ask.lease_ms);
            let verdict = match tasks.get(&lease.task) {
                None => Verdict::Lost,
                Some(task) => {
                    let (row, progress) = match renewed.get(&task.id) {
                        Some((decision, progress)) => (&decision.row, *progress),
                        None => (&task.row, None),
                    };
                    let event = TaskEvent::Heartbeat { token, lease_ms };
                    match decide_for(row, &ask.session, event, tx.now_ms) {
                        Ok(decision) => {
                            // The newest attempt's word counts, and an elder's while there is no newer.
                            let is_newest = token == row.token || !matches!(row.phase, Phase::Leased { .. });
                            let progress = if is_newest { Some(lease) } else { progress };
                            renewed.insert(&task.id, (decision, progress));
                            if paused.contains(&task.job) {
                                Verdict::Pause
                            } else {
                                Verdict::Renewed
                            }
                        }
                        Err(Refusal::Cancelled) => Verdict::Cancel,
                        Err(refusal @ (Refusal::Stale { .. } | Refusal::Unfit(_))) => {
                            // Most often its commit overtook it.
                            let said = || info!(%refusal, "a heartbeat came too late");
                            task.span(token, &session.worker).in_scope(said);
                            Verdict::Lost
                        }
                    }
                }
            };
            verdicts.push((lease.task.clone(), token, verdict));
        }
        outcomes.push(Ok(Renewal {
            verdicts,
            drain: session.draining,
        }));
    }
    let changes = renewed.iter().map(|(id, (decision, progress))| Change {
        task: &tasks[*id],
        decision,
        result_json: None,
        progress: progress.map(|lease| &lease.progress),
    });
    db::apply_all(tx, &changes.collect::<Vec<_>>()).await?;
    Ok(outcomes)
}

async fn commit(tx: &mut Tx, asked: &[CommitAsked]) -> Outcomes<()> {
    let names: Vec<_> = asked
        .iter()
        .map(|ask| (&ask.lease.session, &ask.lease.task))
        .collect();
    let (mut tasks, sessions) = db::load_named(tx, &names).await?;
    let (mut outcomes, mut commits, mut forgiven) = (vec![], vec![], BTreeSet::new());
    for ask in asked {
        let session = &ask.lease.session;
        let (Some((worker, failures)), Some(task)) = (sessions.get(session), tasks.get_mut(&ask.lease.task))
        else {
            outcomes.push(Err(match sessions.get(session) {
                None => db::unknown(session),
                Some(_) => CoordinatorError::NotFound(format!("there is no task {}", ask.lease.task)),
            }));
            continue;
        };
        let token = ask.lease.token;
        let span = task.span(token, worker);
        let decision = match decide_for(&task.row, session, TaskEvent::Commit { token }, tx.now_ms) {
            Ok(decision) => decision,
            Err(refusal) => {
                span.in_scope(|| warn!(%refusal, "a commit came too late"));
                outcomes.push(Err(refused(task, refusal)));
                continue;
            }
        };
        outcomes.push(Ok(()));
        // The repeat of a commit is answered as the first was, and changes nothing.
        if decision.actions.contains(&Action::StoreResult) {
            span.in_scope(|| info!("committed"));
            if *failures > 0 {
                forgiven.insert(session);
            }
            let was = task.clone();
            task.row = decision.row.clone();
            commits.push(Commit {
                task: was,
                decision,
                result: ask.result.clone(),
                objects: ask.objects.clone(),
            });
        }
    }
    for commit in &commits {
        let counts = [
            Action::CloseAttempt(AttemptEnd::Committed),
            Action::CloseElder(AttemptEnd::Committed),
        ];
        if !commit
            .decision
            .actions
            .iter()
            .any(|action| counts.contains(action))
        {
            let detail = "after its lease, and before another";
            let (job, task) = (&commit.task.job, &commit.task.id);
            db::note(tx, Some(job), Some(task), "committed", detail).await?;
        }
    }
    for session in forgiven {
        db::forgive(tx, session).await?;
    }
    db::commit(tx, commits).await?;
    Ok(outcomes)
}
