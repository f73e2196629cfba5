//! The numbers by which [`crate::fair`] decides whose turn it is: read once a transaction, written with each lease.
//!
//! Promises: they are those of the transaction, whichever coordinator served a job before. Left to others: the order.

use std::collections::BTreeMap;

use remaster_domain::JobId;
use serde_json::json;

use super::Tx;
use super::sql::{Connection, Statement, query, query_over};
use super::tasks::{damaged, known};
use crate::CoordinatorError;
use crate::fair::{Queue, QueuedJob};

impl Tx {
    /// Who is served next.
    pub(crate) async fn queue(&mut self) -> Result<&mut Queue, CoordinatorError> {
        if self.queue.is_none() {
            self.queue = Some(load(&mut self.connection, self.specs.version(), self.now_ms).await?);
        }
        Ok(self.queue.as_mut().expect("it was read above"))
    }

    /// Has the queue read again, since a job came, went or changed its place.
    pub(crate) fn requeue(&mut self) {
        self.queue = None;
    }
}

/// Keeps how far each job was served that was since the last time.
pub(super) fn written_down(queue: &mut Queue) -> Option<Statement> {
    let served = queue.take_unwritten().into_iter();
    let rows: Vec<_> = served
        .map(|(id, job)| {
            json!({"id": id.as_str(), "pass": job.pass, "leases": job.leases, "served_ms": job.served_ms})
        })
        .collect();
    (!rows.is_empty()).then(|| {
        query_over!(
            rows,
            (id TEXT, pass BIGINT, leases BIGINT, served_ms BIGINT),
            ["INSERT INTO turn (job_id, pass, leases, served_ms) SELECT r.id, r.pass, r.leases, r.served_ms FROM "],
            [
                " WHERE true ON CONFLICT (job_id) DO UPDATE SET pass = excluded.pass,
                     leases = excluded.leases, served_ms = excluded.served_ms"
            ]
        )
    })
}

/// Jobs that run and may be led on by a coordinator of this version.
async fn load(connection: &mut Connection, version: i64, now_ms: i64) -> Result<Queue, CoordinatorError> {
    // As words of two texts: in every turn, hundreds of rows would cost more to send and to take apart than to find. What
    // runs matters between jobs only: of a single one it is not counted. Counted by deadline, so that SQLite takes the index
    // that holds leases alone, and not one that leads to all tasks.
    let row = query(
        "SELECT
             (SELECT string_agg(job.id || ' ' || job.priority || ' ' || job.created_ms || ' ' || COALESCE(turn.pass, 0)
                     || ' ' || COALESCE(turn.leases, 0) || ' ' || COALESCE(turn.served_ms, 0), ' ')
                 FROM job LEFT JOIN turn ON turn.job_id = job.id
                 WHERE job.state = 'running' AND COALESCE(turn.version, 2) <= $1) AS jobs,
             (SELECT string_agg(leased.job_id || ' ' || leased.running, ' ')
                 FROM (SELECT task.job_id, COUNT(*) AS running FROM task
                     WHERE task.state = 'leased' AND task.expires_ms > 0
                         AND (SELECT COUNT(*) FROM (SELECT 1 FROM job WHERE state = 'running' LIMIT 2) AS few) > 1
                     GROUP BY task.job_id) AS leased) AS leased,
             (SELECT task.not_before_ms FROM task WHERE task.state = 'ready' AND task.attempt > 0
                 ORDER BY task.not_before_ms LIMIT 1) AS returned_ms",
    )
    .bind(version)
    .row(connection)
    .await?
    .ok_or(sqlx::Error::RowNotFound)?;
    let (jobs, leased): (Option<String>, Option<String>) = (row.at(0)?, row.at(1)?);
    let jobs = jobs_of(&jobs.unwrap_or_default(), &leased.unwrap_or_default())?;
    Ok(Queue::new(jobs, row.at(2)?, now_ms))
}

/// Of each job its id, priority, time, pass, leases and when it was served last; of some of them, and maybe others, the id and how
/// many tasks it runs.
fn jobs_of(jobs: &str, leased: &str) -> Result<BTreeMap<JobId, QueuedJob>, CoordinatorError> {
    let mut queued = BTreeMap::new();
    let mut words = jobs.split_ascii_whitespace();
    while let Some(id) = words.next() {
        let job = QueuedJob {
            priority: number(words.next())?,
            created_ms: number(words.next())?,
            pass: number(words.next())?,
            leases: number(words.next())?,
            served_ms: number(words.next())?,
            ..QueuedJob::default()
        };
        queued.insert(known("job.id", id)?, job);
    }
    let mut words = leased.split_ascii_whitespace();
    while let Some(id) = words.next() {
        let running = number(words.next())?;
        if let Some(job) = queued.get_mut(&known("task.job_id", id)?) {
            job.running = running;
        }
    }
    Ok(queued)
}

fn number(word: Option<&str>) -> Result<i64, CoordinatorError> {
    let word = word.unwrap_or_default();
    word.parse().map_err(|_| damaged("turn", word))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ONE: &str = "0198c0de-0000-7000-8000-000000000001";
    const TWO: &str = "0198c0de-0000-7000-8000-000000000002";

    #[test]
    fn jobs_are_read_with_what_they_run_and_those_that_are_not_queued_are_left_out() {
        let jobs = jobs_of(
            &format!("{TWO} -3 1700000000000 5 7 1700000000009"),
            &format!("{ONE} 9 {TWO} 4"),
        );
        let jobs = jobs.unwrap();
        let of_two = jobs[&TWO.parse().unwrap()];
        assert_eq!(jobs.len(), 1);
        assert_eq!(
            (
                of_two.priority,
                of_two.created_ms,
                of_two.pass,
                of_two.leases,
                of_two.served_ms,
                of_two.running
            ),
            (-3, 1_700_000_000_000, 5, 7, 1_700_000_000_009, 4)
        );
        assert!(jobs_of("", "").unwrap().is_empty());
    }

    #[test]
    fn a_text_that_nobody_here_wrote_is_an_error() {
        for jobs in [ONE, "one 0 0 0 0 0", &format!("{ONE} 0 0 0 0 x")] {
            jobs_of(jobs, "").unwrap_err();
        }
        jobs_of("", &format!("{ONE} many")).unwrap_err();
    }
}
