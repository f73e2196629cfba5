//! Lease + commit per second through real coordinator processes: loopback gRPC, fsync at every transaction; one coordinator
//! on SQLite, three on PostgreSQL; then how long a lease takes at half of the rate that is demanded. On PostgreSQL that is
//! asked twice: just after the tasks were queued, while the server still writes them to its tables and each of its fsyncs
//! keeps those of the leases waiting, and once that is over, as it is for a queue that has stood for some minutes.
//!
//! What each side costs in processor time is printed beside the rates: on a machine of two cores the simulated workers take
//! their part of it. A part of its own holds the full load against apalis. Where a run is of a size that something is demanded
//! of, each figure is judged. Left to others: a build that is optimised in its dependencies (`make bench-load`).

mod apalis;
mod fair;
mod fleet;
mod usage;
mod verdict;

use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use remaster_domain::TaskKind;
use remaster_proto::LeaseClient;

pub use self::verdict::Verdict;
use self::verdict::{Figures, judge_load};
use crate::cluster::CoordinatorOnly;
use crate::postgres::PostgresServer;

/// Coordinators on one PostgreSQL.
const COORDINATORS: usize = 3;
const LEASE_MS: u32 = 30_000;
const HEARTBEAT_MS: u32 = 10_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoadPart {
    /// One coordinator on SQLite.
    Sqlite,
    /// Three coordinators on one PostgreSQL.
    Postgres,
    /// One coordinator on SQLite; a small job beside a large one.
    Fair,
    /// Both databases under full load, and apalis on the same, several times.
    Apalis,
}

/// What came of a part.
#[derive(Debug)]
pub struct Measured {
    /// The figures.
    pub words: String,
    /// Whether they are what is demanded; none where the run is of a size that nothing is demanded of.
    pub verdicts: Vec<Verdict>,
}

/// What the coordinators keep their rows in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Database {
    /// Of one coordinator.
    Sqlite,
    /// Of three.
    Postgres,
}

/// Coordinators that wait for work, each in a process of its own.
struct Running {
    urls: Vec<String>,
    sides: Sides,
    _coordinators: CoordinatorOnly,
    // Ends after those that speak to it.
    server: Option<PostgresServer>,
}

/// Whose processor time is told apart.
struct Sides {
    coordinators: Vec<u32>,
    server: Option<u32>,
}

/// Processor seconds of the sides so far.
struct Cost {
    coordinators: f64,
    server: f64,
    workers: f64,
}

/// Measures one part with so many queued tasks, for so long at each load.
///
/// # Errors
/// When a process cannot be started, a request fails, or the queue was too short for the time.
pub fn run_load(part: LoadPart, tasks: usize, lasts: Duration) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Runtime::new()?;
    match part {
        LoadPart::Sqlite => runtime.block_on(measure(Database::Sqlite, tasks, lasts)),
        LoadPart::Postgres => runtime.block_on(measure(Database::Postgres, tasks, lasts)),
        LoadPart::Fair => {
            let running = Running::start(Database::Sqlite, fair::DISCS)?;
            runtime.block_on(fair::measure(&running.urls))
        }
        LoadPart::Apalis => Ok(Measured {
            words: apalis::compare(&runtime, tasks, lasts)?,
            verdicts: vec![],
        }),
    }
}

impl Database {
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL, 3 coordinators",
        }
    }

    /// Lease + commit per second that is asked for; at half of that, leases must be quick.
    fn demanded_per_second(self) -> f64 {
        match self {
            Self::Sqlite => 1_000.0,
            Self::Postgres => 2_000.0,
        }
    }
}

impl Running {
    /// Starts them on a fresh database, beside a store that has what commits speak of, of as many discs.
    fn start(database: Database, discs: usize) -> anyhow::Result<Self> {
        let server = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(PostgresServer::start()?),
        };
        let coordinators = match &server {
            None => CoordinatorOnly::start(LEASE_MS, HEARTBEAT_MS)?,
            Some(server) => {
                CoordinatorOnly::start_on(&server.database()?, COORDINATORS, LEASE_MS, HEARTBEAT_MS)?
            }
        };
        fleet::put_indexes(&coordinators.dir().join("store/indexes"), discs)?;
        let mut urls = vec![coordinators.url.clone()];
        let mut processes = vec![coordinators.coordinator.id()?];
        for (url, process) in &coordinators.others {
            urls.push(url.clone());
            processes.push(process.id()?);
        }
        let sides = Sides {
            coordinators: processes,
            server: server.as_ref().map(PostgresServer::process).transpose()?,
        };
        Ok(Self {
            urls,
            sides,
            _coordinators: coordinators,
            server,
        })
    }
}

async fn measure(database: Database, tasks: usize, lasts: Duration) -> anyhow::Result<Measured> {
    let running = Running::start(database, fleet::TASKS_PER_JOB)?;
    let sides = &running.sides;
    let tasks = fleet::submit_all(&running.urls, tasks).await?;
    let clients = fleet::register_all(&running.urls, fleet::WORKERS, &[TaskKind::Index]).await?;
    let queued_mb = memory_mb(sides)?;
    let (full, words) = work(sides, &clients, lasts, None).await?;
    let half_per_second = database.demanded_per_second() / 2.0;
    let half_loads = if running.server.is_some() { 2.0 } else { 1.0 };
    ensure!(
        tasks as f64 > full.waits_ms.len() as f64 + half_loads * half_per_second * lasts.as_secs_f64(),
        "the queue would run dry: give more --tasks or fewer --seconds"
    );
    let every = Duration::from_secs_f64(fleet::WORKERS as f64 / half_per_second);
    let (half, half_words) = work(sides, &clients, lasts, Some(every)).await?;
    let mut half_p99_ms = vec![half.percentile_ms(99)];
    let settled_words = match &running.server {
        None => String::new(),
        Some(server) => {
            server.checkpoint()?;
            let (settled, words) = work(sides, &clients, lasts, Some(every)).await?;
            half_p99_ms.push(settled.percentile_ms(99));
            format!(
                "  asked for {half_per_second:.0}/s, what was queued being in the server's tables: {words}\n"
            )
        }
    };
    let after_mb = memory_mb(sides)?;
    let words = format!(
        "coordinator on {}; {} simulated workers, one task a lease and a commit, at most 512 requests a transaction, {tasks} \
         tasks queued, fsync on, loopback gRPC\n  full load: {words}\n  asked for {half_per_second:.0}/s: {half_words}\n{settled_words}  \
         memory of the coordinators: {queued_mb} MB with the queue full, {after_mb} MB after",
        database.name(),
        fleet::WORKERS,
    );
    let figures = Figures {
        tasks,
        coordinators: sides.coordinators.len(),
        per_second: full.per_second(),
        half_p99_ms,
        memory_mb: queued_mb.max(after_mb),
    };
    Ok(Measured {
        words,
        verdicts: judge_load(database.demanded_per_second(), &figures),
    })
}

async fn work(
    sides: &Sides,
    clients: &[LeaseClient],
    lasts: Duration,
    every: Option<Duration>,
) -> anyhow::Result<(fleet::Seen, String)> {
    let before = sides.cost()?;
    let seen = fleet::work_all(clients, lasts, every).await?;
    let after = sides.cost()?;
    ensure!(!seen.waits_ms.is_empty(), "no lease brought a task");
    let each_ms = |seconds: f64| seconds * 1000.0 / seen.waits_ms.len() as f64;
    let words = format!(
        "{:.0} lease+commit/s ({} in {:.1} s); lease p50 {} ms, p99 {} ms; CPU ms each: coordinators {:.2}, database \
         server {:.2}, simulated workers {:.2}",
        seen.per_second(),
        seen.waits_ms.len(),
        seen.seconds,
        seen.percentile_ms(50),
        seen.percentile_ms(99),
        each_ms(after.coordinators - before.coordinators),
        each_ms(after.server - before.server),
        each_ms(after.workers - before.workers),
    );
    Ok((seen, words))
}

fn memory_mb(sides: &Sides) -> anyhow::Result<u64> {
    sides
        .coordinators
        .iter()
        .map(|process| usage::memory_mb(*process))
        .sum()
}

impl Sides {
    fn cost(&self) -> anyhow::Result<Cost> {
        Ok(Cost {
            coordinators: usage::cpu_seconds(&self.coordinators)?,
            server: usage::cpu_seconds(self.server.as_slice())?,
            workers: usage::own_cpu_seconds()?,
        })
    }
}
