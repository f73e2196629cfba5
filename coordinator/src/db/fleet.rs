//! Workers and their sessions. A session is one life of a process; its leases live on the task rows and not here.

use remaster_domain::{Capabilities, SessionId, WorkerId};
use remaster_proto::{from_json, to_json};

use super::Tx;
use super::sql::{Connection, query};
use super::tasks::as_u32;
use crate::CoordinatorError;

/// Sessions unseen for longer are left out of listings; the rows stay as history.
const LISTED_MS: i64 = 24 * 60 * 60 * 1_000;

/// A session as the database has it.
#[derive(Debug, Clone)]
pub(crate) struct SessionRow {
    /// Id.
    pub(crate) id: SessionId,
    /// What it can do.
    pub(crate) capabilities: Capabilities,
    /// Whether it shall lease nothing more.
    pub(crate) draining: bool,
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
}

/// Notes a session; doing so again is harmless.
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
        "INSERT INTO session (id, worker_id, registered_ms, seen_ms, draining, capabilities)
         VALUES ($1, $2, $3, $3, 0, $4)
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
    let row = query("SELECT capabilities, draining FROM session WHERE id = $1")
        .bind(id.as_str())
        .row(connection)
        .await?
        .ok_or_else(|| CoordinatorError::SessionUnknown(id.to_string()))?;
    Ok(SessionRow {
        id: id.clone(),
        capabilities: from_json("session.capabilities", &row.get::<String>("capabilities")?)?,
        draining: row.get::<i64>("draining")? != 0,
    })
}

/// Notes that a session was heard.
pub(crate) async fn seen(tx: &mut Tx, id: &SessionId) -> Result<(), CoordinatorError> {
    query("UPDATE session SET seen_ms = $1 WHERE id = $2")
        .bind(tx.now_ms)
        .bind(id.as_str())
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
        "SELECT w.id, w.name, s.capabilities, s.draining, s.seen_ms,
             (SELECT COUNT(*) FROM task t WHERE t.state = 'leased' AND t.session_id = s.id) AS leases
         FROM session s JOIN worker w ON w.id = s.worker_id
         WHERE s.seen_ms >= $1
             AND NOT EXISTS (SELECT 1 FROM session n WHERE n.worker_id = s.worker_id
                 AND (n.registered_ms > s.registered_ms OR (n.registered_ms = s.registered_ms AND n.id > s.id)))
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
        })
    });
    workers.collect::<Result<_, sqlx::Error>>().map_err(Into::into)
}
