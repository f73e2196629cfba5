//! Makes task rows, many at once. A name that is there already is left as it is: making a task twice is making it once.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::{ContentHash, JobId, TaskState};
use remaster_proto::to_json;
use serde_json::json;

use super::Tx;
use super::sql::query_over;
use super::tasks::known;
use crate::CoordinatorError;
use crate::flow::NewTask;

/// Rows of one statement: its text is a few megabytes at most, however large the season.
const ROWS_AT_ONCE: usize = 1_000;

/// A row to be made.
#[derive(Debug)]
pub(crate) struct New<'a> {
    job: &'a JobId,
    task: &'a NewTask,
    state: TaskState,
    result_json: Option<&'a str>,
    message: &'static str,
    needs: String,
}

impl<'a> New<'a> {
    /// A task that may be leased.
    pub(crate) const fn ready(job: &'a JobId, task: &'a NewTask) -> Self {
        Self {
            job,
            task,
            state: TaskState::Ready,
            result_json: None,
            message: "",
            needs: String::new(),
        }
    }

    /// The same with what it needs of a worker.
    pub(crate) fn needing(self, needs: String) -> Self {
        Self { needs, ..self }
    }

    /// A task whose work is done already.
    pub(crate) fn done(
        job: &'a JobId,
        task: &'a NewTask,
        result_json: &'a str,
        message: &'static str,
    ) -> Self {
        Self {
            state: TaskState::Committed,
            result_json: Some(result_json),
            message,
            ..Self::ready(job, task)
        }
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
            "result": self.result_json,
        })
    }
}

/// Makes rows in their order; answers job and name of those that were not there.
pub(crate) async fn insert_as(
    tx: &mut Tx,
    new: &[New<'_>],
) -> Result<BTreeSet<(String, String)>, CoordinatorError> {
    note_needs(tx, new).await?;
    let mut inserted = BTreeSet::new();
    for some in new.chunks(ROWS_AT_ONCE) {
        let rows = query_over!(
            some.iter().map(|new| new.row(tx.now_ms)).collect(),
            [
                "INSERT INTO task (id, job_id, name, kind, gate, work_key, state, token, attempt, errors, losses,
                     not_before_ms, expires_ms, done, total, ended_ms, note, message, needs, spec, result)
                 SELECT r.value ->> 'id', r.value ->> 'job', r.value ->> 'name', r.value ->> 'kind',
                     r.value ->> 'gate', r.value ->> 'work_key', r.value ->> 'state', 0, 0, 0, 0, $2, 0, 0, 0,
                     CAST(r.value ->> 'ended_ms' AS BIGINT), '', r.value ->> 'message', r.value ->> 'needs', r.value ->> 'spec',
                     r.value ->> 'result' FROM "
            ],
            [" WHERE true ON CONFLICT (job_id, name) DO NOTHING RETURNING job_id, name"]
        )
        .bind(tx.now_ms)
        .rows(&mut tx.connection)
        .await?;
        for row in &rows {
            inserted.insert((row.at(0)?, row.at(1)?));
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
            ["INSERT INTO need (needs) SELECT r.value ->> 'needs' FROM "],
            [" WHERE true ON CONFLICT (needs) DO NOTHING"]
        )
        .execute(&mut tx.connection)
        .await?;
    }
    Ok(())
}

/// Results of the same work, done before by whatever job, by work key.
pub(crate) async fn known_results(
    tx: &mut Tx,
    tasks: &[(JobId, NewTask)],
) -> Result<BTreeMap<ContentHash, String>, CoordinatorError> {
    let mut results = BTreeMap::new();
    for some in tasks.chunks(ROWS_AT_ONCE) {
        let rows = query_over!(
            some.iter()
                .map(|(_, task)| json!({"key": task.spec.work_key().as_str()}))
                .collect(),
            [
                "SELECT r.value ->> 'key', (SELECT t.result FROM task t WHERE t.work_key = r.value ->> 'key'
                     AND t.state = 'committed' AND t.result IS NOT NULL LIMIT 1) FROM "
            ],
            [""]
        )
        .rows(&mut tx.connection)
        .await?;
        for row in &rows {
            if let Some(result) = row.at::<Option<String>>(1)? {
                results.insert(known("work_key", &row.at::<String>(0)?)?, result);
            }
        }
    }
    Ok(results)
}
