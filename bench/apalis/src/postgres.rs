//! apalis on PostgreSQL, with the durability that we ask of ours.

use std::time::Duration;

use anyhow::ensure;
use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use sqlx::postgres::PgPoolOptions;

use crate::load::{Handled, Peer};

const QUEUE: &str = "load";
/// sqlx's own choice, which apalis leaves.
const CONNECTIONS: u32 = 10;
/// Tasks that are queued in one transaction.
const QUEUED_AT_ONCE: usize = 5_000;
/// A thousand workers wait for the connections.
const ACQUIRE_MAX: Duration = Duration::from_secs(120);

/// An open database.
pub(crate) struct Postgres {
    pool: PgPool,
    config: Config,
}

impl Postgres {
    pub(crate) async fn open(url: &str, batch: Option<usize>, is_unlocked: bool) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_MAX)
            .connect(url)
            .await?;
        PostgresStorage::setup(&pool).await?;
        let config = Config::default().queue(QUEUE).lock_tasks(!is_unlocked);
        let config = match batch {
            Some(batch) => config.batch_size(batch),
            None => config,
        };
        Ok(Self { pool, config })
    }

    fn storage(&self) -> PostgresStorage<u32> {
        PostgresStorage::new(&self.pool).with_config(self.config.clone())
    }
}

impl Peer for Postgres {
    async fn durability(&self) -> anyhow::Result<String> {
        let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&self.pool).await?;
        let commit: String = sqlx::query_scalar("SHOW synchronous_commit")
            .fetch_one(&self.pool)
            .await?;
        ensure!(
            fsync == "on" && commit == "on",
            "fsync {fsync}, synchronous_commit {commit}"
        );
        Ok("fsync on, synchronous_commit on".to_owned())
    }

    async fn durability_by_apalis(&self) -> anyhow::Result<String> {
        Ok("as the server has it".to_owned())
    }

    async fn queue(&self, tasks: u32) -> anyhow::Result<()> {
        let all: Vec<u32> = (0..tasks).collect();
        for some in all.chunks(QUEUED_AT_ONCE) {
            self.storage().push_bulk(some.to_vec()).await?;
        }
        Ok(())
    }

    async fn settle(&self) -> anyhow::Result<()> {
        sqlx::query("ANALYZE").execute(&self.pool).await?;
        Ok(())
    }

    fn work(
        &self,
        name: String,
        handled: Handled,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
        let worker = WorkerBuilder::new(name)
            .backend(self.storage())
            .data(handled)
            .build(handle);
        async move { Ok(worker.run().await?) }
    }

    async fn registered(&self) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM apalis.workers")
            .fetch_one(&self.pool)
            .await?;
        Ok(count.try_into()?)
    }

    async fn done(&self) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM apalis.jobs WHERE status = 'Done'")
            .fetch_one(&self.pool)
            .await?;
        Ok(count.try_into()?)
    }
}

async fn handle(_task: u32, handled: Data<Handled>) {
    handled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}
