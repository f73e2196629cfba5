//! Queues the tasks, has the workers run them for a while and counts what the database holds as done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde::Serialize;
use tokio::task::JoinSet;

/// Between two looks at whether the time is over or the queue is dry.
const LOOK: Duration = Duration::from_millis(20);

/// Tasks that handlers have run, acknowledged or not.
pub(crate) type Handled = Arc<AtomicU64>;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Tasks that became done in the database.
    done: u64,
    /// In this time.
    seconds: f64,
    /// What the database says of its own durability.
    durability: String,
    /// What it would have been, had apalis set it.
    durability_by_apalis: String,
}

/// apalis on one kind of database.
pub(crate) trait Peer {
    /// What the database says of its durability: an error where it is less than ours.
    async fn durability(&self) -> anyhow::Result<String>;
    /// What apalis leaves when it sets a database up by itself.
    async fn durability_by_apalis(&self) -> anyhow::Result<String>;
    /// Queues so many tasks.
    async fn queue(&self, tasks: u32) -> anyhow::Result<()>;
    /// Lets the database look at what was queued, as it does by itself in time.
    async fn settle(&self) -> anyhow::Result<()>;
    /// Runs a worker until it fails.
    fn work(
        &self,
        name: String,
        handled: Handled,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + 'static;
    /// How many workers are registered.
    async fn registered(&self) -> anyhow::Result<u64>;
    /// How many tasks are done.
    async fn done(&self) -> anyhow::Result<u64>;
}

/// Measures; the workers end with the process.
pub(crate) async fn put_on(
    peer: &impl Peer,
    tasks: u32,
    workers: usize,
    lasts: Duration,
) -> anyhow::Result<Outcome> {
    let durability = peer.durability().await?;
    peer.queue(tasks).await?;
    peer.settle().await?;
    let handled = Handled::default();
    let mut running = JoinSet::new();
    for number in 0..workers {
        running.spawn(peer.work(format!("peer-{number}"), handled.clone()));
    }
    while peer.registered().await? < workers as u64 {
        still(&mut running)?;
        tokio::time::sleep(LOOK).await;
    }
    let start = Instant::now();
    let before = peer.done().await?;
    while start.elapsed() < lasts && handled.load(Ordering::Relaxed) < tasks.into() {
        still(&mut running)?;
        tokio::time::sleep(LOOK).await;
    }
    // The clock is read before the count, in favour of apalis; only a dry queue is waited for.
    let mut end = start.elapsed();
    let mut done = peer.done().await?;
    while end < lasts && done < tasks.into() {
        still(&mut running)?;
        tokio::time::sleep(LOOK).await;
        end = start.elapsed();
        done = peer.done().await?;
    }
    ensure!(done > before, "no task became done");
    Ok(Outcome {
        done: done - before,
        seconds: end.as_secs_f64(),
        durability,
        durability_by_apalis: peer.durability_by_apalis().await?,
    })
}

/// A worker that has ended was not measured to the end.
fn still(running: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    match running.try_join_next() {
        None => Ok(()),
        Some(ended) => {
            ended??;
            bail!("a worker ended by itself")
        }
    }
}
