//! Ours beside apalis 1.0, on SQLite and on PostgreSQL, in one run.
//!
//! Promises: each round measures ours and then every form of apalis on a fresh database of the same kind and durability, with
//! as many tasks queued, for as long; the ratio is the median of the rounds' ratios. Ours goes over gRPC and groups
//! the requests of a thousand workers; what differs on the other side is said by `apalis-peer`, a program of its own
//! (bench/apalis), since what it links has no place in ours. Left to others: building it (`make bench-load`).

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use remaster_domain::TaskKind;
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::{COORDINATORS, Database, Running, fleet};
use crate::postgres::PostgresServer;
use crate::process::binary;

/// Rounds of each database; the median counts.
const ROUNDS: usize = 3;

/// How apalis is used.
struct Form {
    words: &'static str,
    /// On SQLite, which has one writer, and on PostgreSQL.
    workers: [usize; 2],
    arguments: &'static [&'static str],
}

const FORMS: [Form; 3] = [
    Form {
        // As many as there are coordinators of ours. What a worker fetched is its own: the second write, which says that it
        // has begun, is left out, since it is slower with it.
        words: "as many workers as there are coordinators, batch 512",
        workers: [1, COORDINATORS],
        arguments: &["--batch", "512", "--unlocked"],
    },
    Form {
        words: "3 workers, as apalis has it by itself (batch 10)",
        workers: [3, 3],
        arguments: &[],
    },
    Form {
        words: "1,000 workers, one task each",
        workers: [fleet::WORKERS; 2],
        arguments: &["--batch", "1"],
    },
];

/// What `apalis-peer` prints.
#[derive(Debug, Deserialize)]
struct Outcome {
    done: u64,
    seconds: f64,
    durability: String,
    durability_by_apalis: String,
}

/// The rounds of a form.
#[derive(Default)]
struct Theirs {
    rates: Vec<f64>,
    /// To ours of the same round.
    ratios: Vec<f64>,
    /// What it said of rounds that it did not get through.
    failures: Vec<String>,
}

/// Measures both on both databases; answers the figures in words.
pub(super) fn compare(runtime: &Runtime, tasks: usize, lasts: Duration) -> anyhow::Result<String> {
    let mut words = format!(
        "ours beside apalis 1.0, {tasks} tasks queued, an empty handler, {} s each, {ROUNDS} rounds one after the other; tasks \
         done per second, as the database has them",
        lasts.as_secs()
    );
    for database in [Database::Sqlite, Database::Postgres] {
        write!(words, "\n{}", on(runtime, database, tasks, lasts)?)?;
    }
    Ok(words)
}

fn on(runtime: &Runtime, database: Database, tasks: usize, lasts: Duration) -> anyhow::Result<String> {
    let mut ours = vec![];
    let mut theirs = FORMS.map(|_| Theirs::default());
    let mut durability = String::new();
    for _ in 0..ROUNDS {
        let our_rate = runtime.block_on(full_load(database, tasks, lasts))?;
        ours.push(our_rate);
        for (form, theirs) in FORMS.iter().zip(&mut theirs) {
            match apalis(database, form, tasks, lasts) {
                Ok(outcome) => {
                    let rate = outcome.done as f64 / outcome.seconds;
                    theirs.rates.push(rate);
                    theirs.ratios.push(our_rate / rate);
                    durability = format!(
                        "{} (apalis's own setup: {})",
                        outcome.durability, outcome.durability_by_apalis
                    );
                }
                Err(error) => theirs.failures.push(format!("{error:#}")),
            }
        }
    }
    let mut words = format!(
        "  {}; {durability}\n    ours, {} workers, one task each: {}",
        database.name(),
        fleet::WORKERS,
        in_words(&ours)
    );
    for (form, theirs) in FORMS.iter().zip(&theirs) {
        write!(words, "\n    apalis, {}: {}", form.words, theirs.in_words())?;
    }
    Ok(words)
}

impl Theirs {
    fn in_words(&self) -> String {
        let mut words = match self.rates.as_slice() {
            [] => "no figure".to_owned(),
            rates => format!(
                "{}; ratio ours / apalis {:.2}",
                in_words(rates),
                median(&self.ratios)
            ),
        };
        for failure in &self.failures {
            words.push_str("; ");
            words.push_str(failure);
        }
        words
    }
}

/// Lease + commit per second of ours.
async fn full_load(database: Database, tasks: usize, lasts: Duration) -> anyhow::Result<f64> {
    let running = Running::start(database, fleet::TASKS_PER_JOB)?;
    let tasks = fleet::submit_all(&running.urls, tasks).await?;
    let clients = fleet::register_all(&running.urls, fleet::WORKERS, &[TaskKind::Index]).await?;
    let seen = fleet::work_all(&clients, lasts, None).await?;
    ensure!(
        tasks > seen.waits_ms.len(),
        "the queue ran dry: give more --tasks or fewer --seconds"
    );
    Ok(seen.per_second())
}

/// One run of apalis on a fresh database.
fn apalis(database: Database, form: &Form, tasks: usize, lasts: Duration) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let server = match database {
        Database::Sqlite => None,
        Database::Postgres => Some(PostgresServer::start()?),
    };
    let at = match &server {
        None => folder.path().join("apalis.db").display().to_string(),
        Some(server) => server.database()?,
    };
    let workers = match database {
        Database::Sqlite => form.workers[0],
        Database::Postgres => form.workers[1],
    };
    let finished = Command::new(binary("apalis-peer")?)
        .arg(at)
        .args(["--tasks", &tasks.to_string()])
        .args(["--seconds", &lasts.as_secs().to_string()])
        .args(["--workers", &workers.to_string()])
        .args(form.arguments)
        .output()?;
    let said = String::from_utf8_lossy(&finished.stderr);
    ensure!(finished.status.success(), "{}: {}", finished.status, said.trim());
    serde_json::from_slice(&finished.stdout).context("reading what apalis-peer printed")
}

fn in_words(rates: &[f64]) -> String {
    let all: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
    format!("{:.0}/s (rounds: {})", median(rates), all.join(", "))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_in_the_middle_counts_and_all_are_shown() {
        assert_eq!(in_words(&[300.0, 100.0, 200.4]), "200/s (rounds: 300, 100, 200)");
    }
}
