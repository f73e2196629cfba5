//! What workers failed at, and who gets nothing for a while or nothing of a task because of it.
//!
//! Failures in a row are a worker's, over all its lives: a session keeps them and the next one takes them over. Left to
//! others: judging, which [`crate::blame`] does.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::{Capabilities, LeaseToken, SessionId, TaskId, TaskKind, WorkerId, needs_are_met};
use remaster_proto::from_json;
use serde_json::json;

use super::Tx;
use super::fleet::unknown;
use super::sql::{Connection, query, query_over};
use super::tasks::{as_u32, damaged, has_elder, known};
use crate::CoordinatorError;
use crate::blame::{FAST_FAILURE_MS, HANG_FAILURES, SUSPECT_LOSSES, TRIES_OF_A_WORKER, rest_ms};

/// Which workers do not get a task.
pub(crate) type Barred = BTreeMap<TaskId, BTreeSet<WorkerId>>;

/// Counts a failure of a session; one that fails again and again at once gets nothing for a while, so that a worker with a
/// full disk or a broken driver does not use up the tries of a whole queue.
pub(crate) async fn note_failed(
    tx: &mut Tx,
    id: &SessionId,
    task: &TaskId,
    token: LeaseToken,
) -> Result<(), CoordinatorError> {
    let leased_ms: i64 = query("SELECT leased_ms FROM attempt WHERE task_id = $1 AND token = $2")
        .bind(task.as_str())
        .bind(token.0)
        .one(&mut tx.connection)
        .await?;
    if tx.now_ms - leased_ms > FAST_FAILURE_MS {
        return Ok(());
    }
    count(tx, id, 1).await
}

/// Counts an attempt that hung against its worker, whose device or disk may be what hangs.
pub(crate) async fn note_hung(tx: &mut Tx, id: &SessionId) -> Result<(), CoordinatorError> {
    count(tx, id, HANG_FAILURES).await
}

/// The loss of a lease was counted against this life.
const COUNTED: i64 = 1;
/// That was taken back or forgiven, and is not counted again.
const SETTLED: i64 = 2;

/// Counts the loss of a lease against its worker unless the task has killed others, too: then what was counted for it against
/// anybody is taken back. A life counts once, however many leases it held and however often it comes back.
pub(crate) async fn note_lost(tx: &mut Tx, id: &SessionId, task: &TaskId) -> Result<(), CoordinatorError> {
    let lives = query(
        "SELECT DISTINCT s.worker_id, s.id, s.lost FROM attempt a JOIN session s ON s.id = a.session_id
         WHERE a.task_id = $1 AND a.outcome = 'lost'",
    )
    .bind(task.as_str())
    .rows(&mut tx.connection)
    .await?;
    let (mut workers, mut counted) = (BTreeSet::new(), vec![]);
    for life in &lives {
        workers.insert(life.get::<String>("worker_id")?);
        if life.get::<i64>("lost")? == COUNTED {
            counted.push(known::<SessionId>("id", &life.get::<String>("id")?)?);
        }
    }
    if workers.len() > 1 {
        for id in &counted {
            mark(tx, id, SETTLED).await?;
            count(tx, id, -1).await?;
        }
    } else if mark(tx, id, COUNTED).await? {
        count(tx, id, 1).await?;
    }
    Ok(())
}

/// Notes what became of the loss of a life; answers whether that is new.
async fn mark(tx: &mut Tx, id: &SessionId, lost: i64) -> Result<bool, CoordinatorError> {
    let changed = query("UPDATE session SET lost = $1 WHERE id = $2 AND lost < $1")
        .bind(lost)
        .bind(id.as_str())
        .execute(&mut tx.connection)
        .await?;
    Ok(changed > 0)
}

/// Changes how often a session's worker failed in a row, which its newest life knows, and how long that rests because of it: no
/// longer than before where something is taken back.
async fn count(tx: &mut Tx, id: &SessionId, change: i64) -> Result<(), CoordinatorError> {
    let newest = query(
        "SELECT n.id, n.failures, n.rests_until_ms FROM session n
         WHERE n.worker_id = (SELECT s.worker_id FROM session s WHERE s.id = $1)
         ORDER BY n.registered_ms DESC, n.id DESC LIMIT 1",
    )
    .bind(id.as_str())
    .row(&mut tx.connection)
    .await?
    .ok_or_else(|| unknown(id))?;
    let failures = as_u32(newest.get::<i64>("failures")? + change);
    let mut rests_until_ms = rest_ms(failures).map_or(0, |rest_ms| tx.now_ms + rest_ms);
    if change < 0 {
        rests_until_ms = rests_until_ms.min(newest.get("rests_until_ms")?);
    }
    query("UPDATE session SET failures = $1, rests_until_ms = $2 WHERE id = $3")
        .bind(i64::from(failures))
        .bind(rests_until_ms)
        .bind(newest.get::<String>("id")?)
        .execute(&mut tx.connection)
        .await?;
    Ok(())
}

/// Forgets the failures of a session that did something well, and of the lives before it.
pub(crate) async fn forgive(tx: &mut Tx, id: &SessionId) -> Result<(), CoordinatorError> {
    query("UPDATE session SET failures = 0, rests_until_ms = 0 WHERE id = $1")
        .bind(id.as_str())
        .execute(&mut tx.connection)
        .await?;
    query(
        "UPDATE session SET lost = $1 WHERE lost = $2
             AND worker_id = (SELECT s.worker_id FROM session s WHERE s.id = $3)",
    )
    .bind(SETTLED)
    .bind(COUNTED)
    .bind(id.as_str())
    .execute(&mut tx.connection)
    .await?;
    Ok(())
}

/// Of these tasks, those that some workers do not get: they failed at it or died of it too often, and another that was seen
/// since a time could take it.
pub(crate) async fn barred(
    connection: &mut Connection,
    tried: &[&TaskId],
    now_ms: i64,
    live_since_ms: i64,
) -> Result<Barred, CoordinatorError> {
    if tried.is_empty() {
        return Ok(Barred::new());
    }
    let rows = query_over!(
        tried.iter().map(|task| json!({"task": task.as_str()})).collect(),
        (task TEXT),
        ["SELECT a.task_id, s.worker_id, t.kind, t.needs
         FROM attempt a JOIN session s ON s.id = a.session_id JOIN task t ON t.id = a.task_id
         WHERE a.outcome IN ('failed', 'lost') AND a.task_id IN (SELECT r.task FROM "],
        [") GROUP BY a.task_id, s.worker_id, t.kind, t.needs HAVING COUNT(*) >= $2"]
    )
    .bind(i64::from(TRIES_OF_A_WORKER))
    .rows(connection)
    .await?;
    let (mut barred, mut wants) = (Barred::new(), BTreeMap::new());
    for row in &rows {
        let task: TaskId = known("task_id", &row.get::<String>("task_id")?)?;
        let worker = known("worker_id", &row.get::<String>("worker_id")?)?;
        let kind: String = row.get("kind")?;
        let kind = TaskKind::parse(&kind).ok_or_else(|| damaged("kind", &kind))?;
        wants.insert(task.clone(), (kind, row.get::<String>("needs")?));
        barred.entry(task).or_default().insert(worker);
    }
    if !barred.is_empty() {
        let takers = takers(connection, now_ms, live_since_ms).await?;
        barred.retain(|task, workers| {
            let (kind, needs) = &wants[task];
            takers.iter().any(|(worker, able)| {
                !workers.contains(worker) && able.kinds.contains(kind) && needs_are_met(needs, &able.labels)
            })
        });
    }
    Ok(barred)
}

/// Workers that were seen since a time and are given something now.
async fn takers(
    connection: &mut Connection,
    now_ms: i64,
    live_since_ms: i64,
) -> Result<Vec<(WorkerId, Capabilities)>, CoordinatorError> {
    let rows = query(
        "SELECT worker_id, capabilities FROM session
         WHERE seen_ms >= $1 AND draining = 0 AND rests_until_ms <= $2",
    )
    .bind(live_since_ms)
    .bind(now_ms)
    .rows(connection)
    .await?;
    let mut takers = vec![];
    for row in &rows {
        let worker = known("worker_id", &row.get::<String>("worker_id")?)?;
        // What a newer worker said of itself to a newer coordinator may have words that are not known here.
        if let Ok(able) = from_json("session.capabilities", &row.get::<String>("capabilities")?) {
            takers.push((worker, able));
        }
    }
    Ok(takers)
}

/// Sessions at work on something that was lost so often that it may have killed its workers.
pub(crate) async fn at_suspects(tx: &mut Tx) -> Result<BTreeSet<SessionId>, CoordinatorError> {
    let ids = query(concat!(
        "SELECT session_id FROM task WHERE state = 'leased' AND losses >= $1
         UNION SELECT elder_session FROM task WHERE ",
        has_elder!(),
        " AND losses >= $1"
    ))
    .bind(i64::from(SUSPECT_LOSSES))
    .column::<String>(&mut tx.connection)
    .await?;
    ids.iter().map(|id| known("session_id", id)).collect()
}
