//! Leases of one transaction, granted together: whose turn it is, who may take what, and who would rather take which.
//!
//! Promises: a session gets only kinds that it takes and tasks whose needs it meets; a preference changes the order within
//! the oldest few of a job and nothing else; what was begun and given back or lost comes first, whatever its job. Left to
//! others: the turns of the jobs (`fair`), finding what is ready.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures::future::BoxFuture;
use remaster_domain::{JobId, Lease, SessionId, TaskKind, WorkerId, needs_are_met};
use tracing::debug;

use crate::CoordinatorError;
use crate::blame::{is_suspect, may_be_barred};
use crate::coordinator::live_since_ms;
use crate::db::{self, Barred, Change, Outcomes, SessionRow, StoredTask, Taken, Together, Tried, Tx};
use crate::groups::refused;
use crate::needs::{favourite, held_after, prefers_of};
use crate::state::{Phase, TaskEvent, decide};

/// Tasks leased in one round of statements: their specs are in memory at once.
const LEASES_AT_ONCE: usize = 512;

/// A worker asks for tasks.
#[derive(Debug, Clone)]
pub(crate) struct LeaseAsked {
    pub(crate) session: SessionId,
    pub(crate) slots: usize,
    pub(crate) lease_ms: i64,
}

/// What a lease call brings.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    pub(crate) leases: Vec<Lease>,
    pub(crate) drain: bool,
    /// What the session takes.
    pub(crate) kinds: Vec<TaskKind>,
}

impl Together for LeaseAsked {
    type Answer = Grant;

    fn settle<'c>(tx: &'c mut Tx, asked: &'c [Self]) -> BoxFuture<'c, Outcomes<Grant>> {
        Box::pin(lease(tx, asked))
    }
}

async fn lease(tx: &mut Tx, asked: &[LeaseAsked]) -> Outcomes<Grant> {
    let (mut sessions, all_needs) =
        db::load_takers(tx, asked.iter().map(|ask| &ask.session).collect()).await?;
    let mut outcomes = vec![];
    // Those that take the same are served from the same reading of the queue.
    let mut alike: BTreeMap<Taken, Vec<(usize, &LeaseAsked)>> = BTreeMap::new();
    for (place, ask) in asked.iter().enumerate() {
        let Some(session) = sessions.get(&ask.session) else {
            outcomes.push(Err(db::unknown(&ask.session)));
            continue;
        };
        if !session.draining && session.rests_until_ms <= tx.now_ms {
            let labels = &session.capabilities.labels;
            let met = all_needs.iter().filter(|needs| needs_are_met(needs, labels));
            let taken = Taken {
                kinds: session.capabilities.kinds.clone(),
                needs: met.cloned().collect(),
            };
            alike.entry(taken).or_default().push((place, ask));
        }
        outcomes.push(Ok(Grant {
            leases: vec![],
            drain: session.draining,
            kinds: session.capabilities.kinds.clone(),
        }));
    }
    for (taken, asks) in alike {
        for (place, lease) in lease_alike(tx, &taken, &asks, &mut sessions).await? {
            if let Ok(grant) = &mut outcomes[place] {
                grant.leases.push(lease);
            }
        }
    }
    Ok(outcomes)
}

/// Serves sessions that take the same; answers the place of each lease's asker with it.
async fn lease_alike(
    tx: &mut Tx,
    takes: &Taken,
    asks: &[(usize, &LeaseAsked)],
    sessions: &mut BTreeMap<SessionId, SessionRow>,
) -> Result<Vec<(usize, Lease)>, CoordinatorError> {
    let slots = asks
        .iter()
        .flat_map(|(place, ask)| std::iter::repeat_n((*place, *ask), ask.slots));
    let mut slots: VecDeque<(usize, &LeaseAsked)> = slots.collect();
    let mut leases = lease_returned(tx, takes, &mut slots, sessions).await?;
    let (ready, withheld) =
        lease_ready(tx, takes, Tried::Ever, BTreeSet::new(), &mut slots, sessions).await?;
    leases.extend(ready);
    // Behind what was tried too often there may be something for them that nobody has tried.
    if !slots.is_empty() && !withheld.is_empty() {
        let without = tx.queue().await?.others(&withheld).into_iter().collect();
        leases.extend(
            lease_ready(tx, takes, Tried::Never, without, &mut slots, sessions)
                .await?
                .0,
        );
    }
    Ok(leases)
}

/// Leases in turn what the jobs but some have ready; answers also the jobs that have something that none of the free slots gets.
async fn lease_ready(
    tx: &mut Tx,
    takes: &Taken,
    tried: Tried,
    mut without: BTreeSet<JobId>,
    slots: &mut VecDeque<(usize, &LeaseAsked)>,
    sessions: &mut BTreeMap<SessionId, SessionRow>,
) -> Result<(Vec<(usize, Lease)>, BTreeSet<JobId>), CoordinatorError> {
    let (mut leases, mut withheld, mut others_are_asked) = (vec![], BTreeSet::new(), false);
    while !slots.is_empty() {
        let turns = tx
            .queue()
            .await?
            .preview(slots.len().min(LEASES_AT_ONCE), &without);
        if turns.is_empty() {
            break;
        }
        let mut wanted: BTreeMap<JobId, usize> = BTreeMap::new();
        for job in &turns {
            *wanted.entry(job.clone()).or_default() += 1;
        }
        let tasks = db::next_ready(tx, &wanted, takes, tried).await?;
        let barred = look_into(tx, tasks.values().flatten().collect(), sessions, slots).await?;
        let mut ready = Ready::of(tasks, &barred)?;
        let mut taken = vec![];
        for job in turns {
            if without.contains(&job) {
                continue;
            }
            match ready.take_for_any(&job, slots, sessions) {
                Some((place, task)) => {
                    tx.queue().await?.served(&job);
                    taken.extend(slots.remove(place).map(|slot| (slot, task)));
                }
                // It has no more that any of these may take.
                None => {
                    if ready.has_more(&job) {
                        withheld.insert(job.clone());
                    }
                    without.insert(job);
                }
            }
        }
        leases.extend(take(tx, &taken, sessions).await?);
        // One had its turn and nothing for it: the others are asked before they get theirs, all at once.
        if !slots.is_empty() && !without.is_empty() && !others_are_asked {
            let others = tx.queue().await?.others(&without);
            without.extend(db::idle(tx, &others, takes).await?);
            others_are_asked = true;
        }
    }
    Ok((leases, withheld))
}

/// What was given back or lost goes first, whatever its job: the job had its turn for it already, and what waits for a task
/// that was begun has waited longest.
async fn lease_returned(
    tx: &mut Tx,
    takes: &Taken,
    slots: &mut VecDeque<(usize, &LeaseAsked)>,
    sessions: &mut BTreeMap<SessionId, SessionRow>,
) -> Result<Vec<(usize, Lease)>, CoordinatorError> {
    let now_ms = tx.now_ms;
    if !tx.queue().await?.has_returned(now_ms) {
        return Ok(vec![]);
    }
    let wanted = slots.len().min(LEASES_AT_ONCE);
    let tasks = db::returned(tx, wanted, takes).await?;
    let barred = look_into(tx, tasks.iter().collect(), sessions, slots).await?;
    let mut returned = Offered::of(tasks, &barred)?;
    let mut taken = vec![];
    while let Some((place, task)) = returned.take_for_any(slots, sessions) {
        tx.queue().await?.served(&task.job);
        taken.extend(slots.remove(place).map(|slot| (slot, task)));
    }
    take(tx, &taken, sessions).await
}

/// Who does not get which of these tasks; notes which sessions work on what may have killed others. Costs nothing where all
/// went well so far.
async fn look_into(
    tx: &mut Tx,
    tasks: Vec<&StoredTask>,
    sessions: &mut BTreeMap<SessionId, SessionRow>,
    slots: &VecDeque<(usize, &LeaseAsked)>,
) -> Result<Barred, CoordinatorError> {
    if tasks.iter().any(|task| is_suspect(task.row.losses)) {
        for id in db::at_suspects(tx).await? {
            if let Some(session) = sessions.get_mut(&id) {
                session.has_suspect = true;
            }
        }
    }
    let tried = tasks.iter().filter(|task| match task.row.phase {
        Phase::Ready { not_before_ms } => {
            may_be_barred(task.row.errors, task.row.losses, tx.now_ms - not_before_ms)
        }
        _ => false,
    });
    let tried: Vec<_> = tried.map(|task| &task.id).collect();
    let lease_ms = slots.front().map_or(0, |(_, ask)| ask.lease_ms);
    let live_since_ms = live_since_ms(tx.now_ms, lease_ms);
    db::barred(&mut tx.connection, &tried, tx.now_ms, live_since_ms).await
}

/// What may be taken now of each job.
struct Ready(BTreeMap<JobId, Offered>);

impl Ready {
    fn of(tasks: BTreeMap<JobId, VecDeque<StoredTask>>, barred: &Barred) -> Result<Self, CoordinatorError> {
        let ready = tasks
            .into_iter()
            .map(|(job, tasks)| Ok((job, Offered::of(tasks, barred)?)));
        Ok(Self(ready.collect::<Result<_, CoordinatorError>>()?))
    }

    /// What the first slot takes of a job that may take something of it; those that may not stay free for other jobs.
    fn take_for_any(
        &mut self,
        job: &JobId,
        slots: &VecDeque<(usize, &LeaseAsked)>,
        sessions: &mut BTreeMap<SessionId, SessionRow>,
    ) -> Option<(usize, StoredTask)> {
        self.0.get_mut(job)?.take_for_any(slots, sessions)
    }

    fn has_more(&self, job: &JobId) -> bool {
        self.0.get(job).is_some_and(|offered| !offered.tasks.is_empty())
    }
}

/// Tasks that may be taken, oldest first.
struct Offered {
    tasks: VecDeque<OfferedTask>,
    /// Sessions that may take none of them. Nor may they later, when fewer are left and the session holds more.
    refused: BTreeSet<SessionId>,
}

struct OfferedTask {
    task: StoredTask,
    /// What it prefers.
    words: Vec<String>,
    barred: BTreeSet<WorkerId>,
}

impl OfferedTask {
    /// Not to who works on it already, nor to who has failed at it too often; nor beside another that may kill its worker.
    fn may_go_to(&self, session: &SessionRow) -> bool {
        let elder = self.task.row.elder.as_ref();
        let is_own = elder.is_some_and(|elder| elder.session == session.id);
        let is_beside = session.has_suspect && is_suspect(self.task.row.losses);
        !is_own && !is_beside && !self.barred.contains(&session.worker)
    }
}

impl Offered {
    fn of(tasks: VecDeque<StoredTask>, barred: &Barred) -> Result<Self, CoordinatorError> {
        let tasks = tasks.into_iter().map(|task| {
            Ok(OfferedTask {
                words: prefers_of(&task.spec()?),
                barred: barred.get(&task.id).cloned().unwrap_or_default(),
                task,
            })
        });
        Ok(Self {
            tasks: tasks.collect::<Result<_, CoordinatorError>>()?,
            refused: BTreeSet::new(),
        })
    }

    fn take_for_any(
        &mut self,
        slots: &VecDeque<(usize, &LeaseAsked)>,
        sessions: &mut BTreeMap<SessionId, SessionRow>,
    ) -> Option<(usize, StoredTask)> {
        if self.tasks.is_empty() {
            return None;
        }
        slots.iter().enumerate().find_map(|(place, (_, ask))| {
            if self.refused.contains(&ask.session) {
                return None;
            }
            let task = self.take(sessions.get_mut(&ask.session)?);
            if task.is_none() {
                self.refused.insert(ask.session.clone());
            }
            Some((place, task?))
        })
    }

    /// The one of the oldest few that a session may take and would rather take; what comes with it is held from then on.
    fn take(&mut self, session: &mut SessionRow) -> Option<StoredTask> {
        let labels = &session.capabilities.labels;
        let holds = |word: &str| session.holds.iter().any(|held| held == word) || labels.contains_key(word);
        let fit = self
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, offered)| offered.may_go_to(session));
        let (places, oldest): (Vec<_>, Vec<_>) = fit
            .take(db::LOOK_AHEAD)
            .map(|(place, offered)| (place, offered.words.as_slice()))
            .unzip();
        let OfferedTask { task, words, .. } = self.tasks.remove(places[favourite(oldest, holds)?])?;
        session.holds = held_after(&session.holds, &words);
        session.has_suspect |= is_suspect(task.row.losses);
        Some(task)
    }
}

async fn take(
    tx: &mut Tx,
    taken: &[((usize, &LeaseAsked), StoredTask)],
    sessions: &BTreeMap<SessionId, SessionRow>,
) -> Result<Vec<(usize, Lease)>, CoordinatorError> {
    let mut decisions = vec![];
    for ((_, ask), task) in taken {
        let (session, lease_ms) = (ask.session.clone(), ask.lease_ms);
        let decision = decide(&task.row, TaskEvent::Lease { session, lease_ms }, tx.now_ms);
        decisions.push(decision.map_err(|refusal| refused(task, refusal))?);
    }
    let changes = taken.iter().zip(&decisions).map(|((_, task), decision)| Change {
        task,
        decision,
        result_json: None,
        progress: None,
    });
    let takers = taken
        .iter()
        .filter_map(|((_, ask), _)| sessions.get(&ask.session));
    db::apply_leases(tx, &changes.collect::<Vec<_>>(), takers).await?;
    let leases = taken
        .iter()
        .zip(decisions)
        .map(|(((place, ask), task), decision)| {
            if let Some(session) = sessions.get(&ask.session) {
                let span = task.span(decision.row.token, &session.worker);
                span.in_scope(|| debug!(session = %session.id, "leased"));
            }
            let lease = Lease {
                task: task.id.clone(),
                job: task.job.clone(),
                token: decision.row.token,
                attempt: decision.row.attempt,
                spec: task.spec()?,
                checkpoint: decision.row.checkpoint,
            };
            Ok((*place, lease))
        });
    leases.collect()
}
