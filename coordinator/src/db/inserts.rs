//! Makes task rows, many at once. A name that is there already is left as it is: making a task twice is making it once.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::{JobId, TaskState};
use remaster_proto::to_json;
use serde_json::json;

use super::Tx;
use super::sql::query_over;
use crate::CoordinatorError;
use crate::flow::NewTask;

/// Rows of one statement: its text is a few megabytes at most, however large the season.
const ROWS_AT_ONCE: usize = 1_000;

/// Rows that were made, by job and name, each with the result that it has already.
pub(crate) type Inserted = BTreeMap<(String, String), Option<String>>;

/// Message of a task whose work had been done before.
const SERVED_AGAIN: &str = "done before: the earlier result serves again";

/// A row to be made.
#[derive(Debug)]
pub(crate) struct New<'a> {
    job: &'a JobId,
    task: &'a NewTask,
    state: TaskState,
    message: &'static str,
    needs: String,
}

impl<'a> New<'a> {
    /// A task that may be leased, unless its work was done before.
    pub(crate) const fn ready(job: &'a JobId, task: &'a NewTask) -> Self {
        Self {
            job,
            task,
            state: TaskState::Ready,
            message: "",
            needs: String::new(),
        }
    }

    /// The same with what it needs of a worker.
    pub(crate) fn needing(self, needs: String) -> Self {
        Self { needs, ..self }
    }

    /// A task that cannot be done.
    pub(crate) fn dead(job: &'a JobId, task: &'a NewTask, message: &'static str) -> Self {
        Self {
            state: TaskState::Dead,
            message,
            ..Self::ready(job, task)
        }
    }

    fn row(&self, now_ms: i64) -> serde_json::Value {
        json!({
            "id": Tx::new_id().to_string(),
            "job": self.job.as_str(),
            "name": self.task.name,
            "kind": self.task.spec.kind().as_str(),
            "gate": self.task.gate,
            "work_key": self.task.spec.work_key().as_str(),
            "state": self.state.as_str(),
            "ended_ms": (self.state != TaskState::Ready).then_some(now_ms),
            "message": self.message,
            "needs": self.needs,
            "spec": to_json(&self.task.spec),
        })
    }
}

/// Makes rows in their order; answers those that were not there, by job and name, each with the result of the same work where
/// that was done before, by whatever job: it serves again.
pub(crate) async fn insert_as(tx: &mut Tx, new: &[New<'_>]) -> Result<Inserted, CoordinatorError> {
    note_needs(tx, new).await?;
    let mut inserted = Inserted::new();
    for some in new.chunks(ROWS_AT_ONCE) {
        // Looked up once a row and not once wherever it is named: that is what MATERIALIZED says to either database.
        let rows = query_over!(
            some.iter().map(|new| new.row(tx.now_ms)).collect(),
            (id TEXT, job TEXT, name TEXT, kind TEXT, gate TEXT, work_key TEXT, state TEXT, ended_ms BIGINT, message TEXT,
             needs TEXT, spec TEXT),
            [
                "WITH n AS MATERIALIZED (
                     SELECT r.id, r.job, r.name, r.kind, r.gate, r.work_key, r.state, r.ended_ms, r.message, r.needs, r.spec,
                         CASE WHEN r.state = 'ready' THEN (SELECT t.result FROM task t WHERE t.work_key = r.work_key
                             AND t.state = 'committed' AND t.result IS NOT NULL LIMIT 1) END AS result
                     FROM "
            ],
            [")
                 INSERT INTO task (id, job_id, name, kind, gate, work_key, state, token, attempt, errors, losses,
                     not_before_ms, expires_ms, done, total, ended_ms, note, message, needs, spec, result)
                 SELECT n.id, n.job, n.name, n.kind, n.gate, n.work_key,
                     CASE WHEN n.result IS NULL THEN n.state ELSE 'committed' END, 0, 0, 0, 0, $2, 0, 0, 0,
                     CASE WHEN n.result IS NULL THEN n.ended_ms ELSE $2 END, '',
                     CASE WHEN n.result IS NULL THEN n.message ELSE $3 END,
                     CASE WHEN n.result IS NULL THEN n.needs ELSE '' END, n.spec, n.result
                 FROM n WHERE true ON CONFLICT (job_id, name) DO NOTHING RETURNING job_id, name, result"]
        )
        .bind(tx.now_ms)
        .bind(SERVED_AGAIN)
        .rows(&mut tx.connection)
        .await?;
        for row in &rows {
            inserted.insert((row.at(0)?, row.at(1)?), row.at(2)?);
        }
    }
    Ok(inserted)
}

/// Notes needs that no task had before.
async fn note_needs(tx: &mut Tx, new: &[New<'_>]) -> Result<(), CoordinatorError> {
    let needs: BTreeSet<&str> = new.iter().map(|new| new.needs.as_str()).collect();
    let rows: Vec<_> = needs
        .iter()
        .filter(|needs| !needs.is_empty())
        .map(|needs| json!({"needs": needs}))
        .collect();
    if !rows.is_empty() {
        query_over!(
            rows,
            (needs TEXT),
            ["INSERT INTO need (needs) SELECT r.needs FROM "],
            [" WHERE true ON CONFLICT (needs) DO NOTHING"]
        )
        .execute(&mut tx.connection)
        .await?;
    }
    Ok(())
}
