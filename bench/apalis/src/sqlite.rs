//! apalis on SQLite, with the durability that we ask of ours.

use std::time::Duration;

use anyhow::ensure;
use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteStorage};
use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};

use crate::load::{Handled, Peer};

const QUEUE: &str = "load";
/// sqlx's own choice, which apalis leaves.
const CONNECTIONS: u32 = 10;
/// A thousand workers wait for the one that writes.
const BUSY_MAX: Duration = Duration::from_secs(120);

/// A ULID of digits alone is one, too.
const MORE_OF_IT: &str = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
    INSERT INTO Jobs (job, id, job_type, status, attempts, max_attempts, run_at, priority, metadata)
    SELECT job, printf('%026d', n), job_type, status, attempts, max_attempts, run_at, priority, metadata FROM Jobs, number";

/// An open database.
pub(crate) struct Sqlite {
    pool: SqlitePool,
    config: Config,
}

impl Sqlite {
    pub(crate) async fn open(path: &str, batch: Option<usize>, is_unlocked: bool) -> anyhow::Result<Self> {
        // Whatever apalis sets to be quick is set, too, but not what it takes from durability.
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_MAX)
            .pragma("temp_store", "MEMORY")
            .pragma("cache_size", "64000")
            .pragma("journal_size_limit", "67108864");
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(BUSY_MAX)
            .connect_with(options)
            .await?;
        SqliteStorage::<()>::migrations().run(&pool).await?;
        let config = Config::default().queue(QUEUE).lock_tasks(!is_unlocked);
        let config = match batch {
            Some(batch) => config.batch_size(batch),
            None => config,
        };
        Ok(Self { pool, config })
    }

    fn storage(&self) -> SqliteStorage<u32> {
        SqliteStorage::new(&self.pool).with_config(self.config.clone())
    }
}

impl Peer for Sqlite {
    async fn durability(&self) -> anyhow::Result<String> {
        let mut connections = vec![];
        for _ in 0..CONNECTIONS {
            connections.push(self.pool.acquire().await?);
        }
        for connection in &mut connections {
            let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
                .fetch_one(&mut **connection)
                .await?;
            let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
                .fetch_one(&mut **connection)
                .await?;
            ensure!(
                journal == "wal" && synchronous == 2,
                "{journal}, synchronous {synchronous}"
            );
        }
        Ok(format!("WAL, synchronous FULL on {CONNECTIONS} connections"))
    }

    async fn durability_by_apalis(&self) -> anyhow::Result<String> {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect("sqlite::memory:")
            .await?;
        SqliteStorage::setup(&pool).await?;
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&pool).await?;
        let words = ["OFF", "NORMAL", "FULL"];
        let word = usize::try_from(synchronous)
            .ok()
            .and_then(|number| words.get(number));
        Ok(format!("synchronous {}", word.unwrap_or(&"unknown")))
    }

    async fn queue(&self, tasks: u32) -> anyhow::Result<()> {
        // apalis inserts row by row, which for a hundred thousand takes longer than what is measured: the row that it writes
        // for one task is repeated, under ids in ascending order, which an index likes best.
        self.storage().push(0).await?;
        sqlx::query(MORE_OF_IT)
            .bind(i64::from(tasks) - 1)
            .execute(&self.pool)
            .await?;
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
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM Workers")
            .fetch_one(&self.pool)
            .await?;
        Ok(count.try_into()?)
    }

    async fn done(&self) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM Jobs WHERE status = 'Done'")
            .fetch_one(&self.pool)
            .await?;
        Ok(count.try_into()?)
    }
}

async fn handle(_task: u32, handled: Data<Handled>) {
    handled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}
