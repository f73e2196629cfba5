//! Workers and their sessions. A session is one life of a process; its leases live on the task rows and not here.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::{Capabilities, SessionId, WorkerId};
use remaster_proto::{from_json, to_json};
use serde_json::json;

use super::Tx;
use super::sql::{Connection, Row, Statement, query, query_over};
use super::tasks::{as_u32, known};
use crate::CoordinatorError;

/// Sessions unseen for longer are left out of listings; the rows stay as history.
const LISTED_MS: i64 = 24 * 60 * 60 * 1_000;

/// A session as the database has it.
#[derive(Debug, Clone)]
pub(crate) struct SessionRow {
    /// Id.
    pub(crate) id: SessionId,
    /// Whose life it is.
    pub(crate) worker: WorkerId,
    /// What it can do.
    pub(crate) capabilities: Capabilities,
    /// Whether it shall lease nothing more.
    pub(crate) draining: bool,
    /// Until when it gets nothing because its worker failed again and again.
    pub(crate) rests_until_ms: i64,
    /// Whether it works on what may have killed other workers, as far as that was looked at.
    pub(crate) has_suspect: bool,
    /// What it is known to hold, newest last.
    pub(crate) holds: Vec<String>,
}

/// A worker's newest session, for people.
#[derive(Debug, Clone)]
pub(crate) struct WorkerRow {
    /// Id.
    pub(crate) id: String,
    /// Name for people.
    pub(crate) name: String,
    /// What it can do, as JSON.
    pub(crate) capabilities_json: String,
    /// Whether it shall lease nothing more.
    pub(crate) draining: bool,
    /// Leases it holds.
    pub(crate) leases: u32,
    /// When it was heard last.
    pub(crate) seen_ms: i64,
    /// Whether it gets nothing for a while, since it failed again and again.
    pub(crate) rests: bool,
}

/// Columns of [`SessionRow`], in every query that makes one.
macro_rules! session_columns {
    () => {
        "id, worker_id, capabilities, draining, rests_until_ms, holds"
    };
}

/// Notes a session, with what its worker failed at in the life before; doing so again is harmless.
pub(crate) async fn register(
    tx: &mut Tx,
    session: &SessionId,
    worker: &WorkerId,
    name: &str,
    capabilities: &Capabilities,
) -> Result<(), CoordinatorError> {
    query(
        "INSERT INTO worker (id, name, created_ms) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
    )
    .bind(worker.as_str())
    .bind(name)
    .bind(tx.now_ms)
    .execute(&mut tx.connection)
    .await?;
    query(
        "INSERT INTO session (id, worker_id, registered_ms, seen_ms, draining, capabilities, failures, rests_until_ms)
         VALUES ($1, $2, $3, $3, 0, $4,
             COALESCE((SELECT n.failures FROM session n WHERE n.worker_id = $2
                 ORDER BY n.registered_ms DESC, n.id DESC LIMIT 1), 0),
             COALESCE((SELECT n.rests_until_ms FROM session n WHERE n.worker_id = $2
                 ORDER BY n.registered_ms DESC, n.id DESC LIMIT 1), 0))
         ON CONFLICT (id) DO UPDATE SET seen_ms = excluded.seen_ms, capabilities = excluded.capabilities",
    )
    .bind(session.as_str())
    .bind(worker.as_str())
    .bind(tx.now_ms)
    .bind(to_json(capabilities))
    .execute(&mut tx.connection)
    .await?;
    Ok(())
}

/// Reads a session.
pub(crate) async fn load_session(
    connection: &mut Connection,
    id: &SessionId,
) -> Result<SessionRow, CoordinatorError> {
    let mut sessions = load_sessions(connection, BTreeSet::from([id])).await?;
    sessions.remove(id).ok_or_else(|| unknown(id))
}

/// Reads the sessions that there are among these.
pub(crate) async fn load_sessions(
    connection: &mut Connection,
    ids: BTreeSet<&SessionId>,
) -> Result<BTreeMap<SessionId, SessionRow>, CoordinatorError> {
    let rows = query_over!(
        ids.iter().map(|id| json!({"id": id.as_str()})).collect(),
        (id TEXT),
        ["SELECT ", session_columns!(), " FROM session WHERE id IN (SELECT r.id FROM "],
        [")"]
    )
    .rows(connection)
    .await?;
    let sessions = rows
        .iter()
        .map(|row| session(row).map(|session| (session.id.clone(), session)));
    sessions.collect()
}

/// Reads the sessions that there are among these, and every need that any task has had.
pub(crate) async fn load_takers(
    tx: &mut Tx,
    ids: BTreeSet<&SessionId>,
) -> Result<(BTreeMap<SessionId, SessionRow>, Vec<String>), CoordinatorError> {
    let rows = query_over!(
        ids.iter().map(|id| json!({"id": id.as_str()})).collect(),
        (id TEXT),
        ["SELECT ", session_columns!(), " FROM session WHERE id IN (SELECT r.id FROM "],
        [") UNION ALL SELECT '', '', needs, 0, 0, '' FROM need"]
    )
    .rows(&mut tx.connection)
    .await?;
    let (mut sessions, mut needs) = (BTreeMap::new(), vec![]);
    for row in &rows {
        if row.get::<String>("id")?.is_empty() {
            needs.push(row.get("capabilities")?);
        } else {
            let session = session(row)?;
            sessions.insert(session.id.clone(), session);
        }
    }
    Ok((sessions, needs))
}

fn session(row: &Row) -> Result<SessionRow, CoordinatorError> {
    Ok(SessionRow {
        id: known("id", &row.get::<String>("id")?)?,
        worker: known("worker_id", &row.get::<String>("worker_id")?)?,
        capabilities: from_json("session.capabilities", &row.get::<String>("capabilities")?)?,
        draining: row.get::<i64>("draining")? != 0,
        rests_until_ms: row.get("rests_until_ms")?,
        has_suspect: false,
        holds: row
            .get::<String>("holds")?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    })
}

/// Keeps what sessions hold from now on.
pub(super) fn noted_holds<'a>(sessions: impl Iterator<Item = &'a SessionRow>) -> Option<Statement> {
    // Each once, however many tasks it took.
    let holds: BTreeMap<_, _> = sessions.map(|session| (&session.id, &session.holds)).collect();
    let rows: Vec<_> = holds
        .iter()
        .map(|(id, words)| json!({"id": id.as_str(), "holds": words.join(" ")}))
        .collect();
    (!rows.is_empty()).then(|| {
        query_over!(
            rows,
            (id TEXT, holds TEXT),
            ["UPDATE session SET holds = r.holds FROM "],
            [" WHERE session.id = r.id"]
        )
    })
}

/// What a caller is told whose session is not here.
pub(crate) fn unknown(id: &SessionId) -> CoordinatorError {
    CoordinatorError::SessionUnknown(id.to_string())
}

/// Notes that sessions were heard.
pub(crate) async fn seen(tx: &mut Tx, ids: &BTreeSet<&SessionId>) -> Result<(), CoordinatorError> {
    query_over!(
        ids.iter().map(|id| json!({"id": id.as_str()})).collect(),
        (id TEXT),
        ["UPDATE session SET seen_ms = $2 WHERE id IN (SELECT r.id FROM "],
        [")"]
    )
    .bind(tx.now_ms)
    .execute(&mut tx.connection)
    .await?;
    Ok(())
}

/// Tells every session of a worker to drain. A later life of the worker starts anew.
pub(crate) async fn drain(tx: &mut Tx, worker: &WorkerId) -> Result<(), CoordinatorError> {
    let changed = query("UPDATE session SET draining = 1 WHERE worker_id = $1")
        .bind(worker.as_str())
        .execute(&mut tx.connection)
        .await?;
    if changed == 0 {
        return Err(CoordinatorError::NotFound(format!("there is no worker {worker}")));
    }
    Ok(())
}

/// Workers heard of lately, each with its newest session.
pub(crate) async fn workers(
    readers: &mut Connection,
    now_ms: i64,
) -> Result<Vec<WorkerRow>, CoordinatorError> {
    let rows = query(
        "SELECT w.id, w.name, s.capabilities, s.draining, s.seen_ms, s.rests_until_ms,
             (SELECT COUNT(*) FROM task t WHERE t.state = 'leased' AND t.session_id = s.id) AS leases
         FROM worker w JOIN session s ON s.id = (SELECT n.id FROM session n WHERE n.worker_id = w.id
             ORDER BY n.registered_ms DESC, n.id DESC LIMIT 1)
         WHERE s.seen_ms >= $1
         ORDER BY w.name, w.id",
    )
    .bind(now_ms - LISTED_MS)
    .rows(readers)
    .await?;
    let workers = rows.iter().map(|row| {
        Ok(WorkerRow {
            id: row.get("id")?,
            name: row.get("name")?,
            capabilities_json: row.get("capabilities")?,
            draining: row.get::<i64>("draining")? != 0,
            leases: as_u32(row.get("leases")?),
            seen_ms: row.get("seen_ms")?,
            rests: row.get::<i64>("rests_until_ms")? > now_ms,
        })
    });
    workers.collect::<Result<_, sqlx::Error>>().map_err(Into::into)
}
