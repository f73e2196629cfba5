//! `apalis-peer`: apalis 1.0 under the load that `remaster-load` puts on our coordinators; prints one JSON line.
//!
//! The same number of tasks is queued, the handler does nothing, and a task counts once apalis has written it down as done,
//! in a database that is as durable as ours: WAL with synchronous FULL on every connection, or fsync and
//! synchronous_commit on. Both are asked of the database, not assumed. The tables, statements and transactions are
//! apalis's own. The clock starts when all workers are registered, as ours does.
//!
//! What differs, for apalis: its workers hold the database's credentials and speak to it directly, where ours speak gRPC to
//! a coordinator that alone has them; a task is a number that nobody looks up, where ours has a job, a fair share, labels and
//! objects in a store that a commit checks. What differs in what is promised: apalis locks a task for a worker by name and
//! acknowledges what that name still holds; there is no token that a second lease of the same task would change.
//!
//! One apalis worker fetches, runs and acknowledges a batch in two transactions: that is one machine with many tasks at once.
//! Ours groups the requests of many machines. So `--workers 1 --batch 512` is the same batch, and `--workers 1000
//! --batch 1` the same machines. Left to others: which of these is run, and the databases (`remaster-load apalis`).

mod load;
mod postgres;
mod sqlite;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use crate::postgres::Postgres;
use crate::sqlite::Sqlite;

/// Tasks per second that apalis runs and acknowledges
#[derive(Debug, Parser)]
struct Cli {
    /// `postgres://...`, or a file for SQLite that is not there yet
    database: String,
    /// Tasks that are queued at the start
    #[arg(long)]
    tasks: u32,
    /// How long the load is put on
    #[arg(long)]
    seconds: u64,
    /// Workers, each of which is registered
    #[arg(long)]
    workers: usize,
    /// Tasks that a worker fetches at once; apalis's own choice when left out
    #[arg(long)]
    batch: Option<usize>,
    /// Do without the second write, by which a worker says that it has begun what it fetched; apalis makes it by itself
    #[arg(long)]
    unlocked: bool,
}

/// For queueing the tasks and registering the workers, beside the load itself.
const PREPARATION_MAX: Duration = Duration::from_secs(120);

#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let lasts = Duration::from_secs(cli.seconds);
    let measured = async {
        if cli.database.starts_with("postgres:") {
            let peer = Postgres::open(&cli.database, cli.batch, cli.unlocked).await?;
            load::put_on(&peer, cli.tasks, cli.workers, lasts).await
        } else {
            let peer = Sqlite::open(&cli.database, cli.batch, cli.unlocked).await?;
            load::put_on(&peer, cli.tasks, cli.workers, lasts).await
        }
    };
    let outcome = tokio::runtime::Runtime::new()?
        .block_on(async { tokio::time::timeout(lasts + PREPARATION_MAX, measured).await })
        .context("it came to a standstill")??;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
