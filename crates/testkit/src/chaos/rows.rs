//! What the coordinators wrote down, read from their database behind their backs: SQLite or PostgreSQL.

use anyhow::Context;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};

/// A connection that only reads.
#[derive(Debug, Clone)]
pub(super) enum Rows {
    /// To the file.
    Sqlite(SqlitePool),
    /// To the server.
    Postgres(PgPool),
}

/// A task as it stands.
#[derive(Debug, Clone)]
pub(super) struct TaskRow {
    pub(super) id: String,
    pub(super) season: String,
    pub(super) name: String,
    pub(super) state: String,
    /// Of the attempt whose result counts, or of the last one.
    pub(super) token: i64,
    pub(super) message: String,
    pub(super) result: String,
}

/// An attempt, ended or not.
#[derive(Debug, Clone)]
pub(super) struct AttemptRow {
    pub(super) task: String,
    pub(super) token: i64,
    pub(super) worker: String,
    pub(super) leased_ms: i64,
    /// 0 while it runs.
    pub(super) ended_ms: i64,
    /// Empty while it runs.
    pub(super) outcome: String,
    /// Why, where it failed.
    pub(super) message: String,
}

/// Runs a query on either database and makes a value of each row.
macro_rules! read {
    ($rows:expr, $sql:expr, |$row:ident| $value:expr) => {{
        use sqlx::Row;
        match $rows {
            Rows::Sqlite(pool) => {
                let found = sqlx::query($sql).fetch_all(pool).await?;
                found
                    .iter()
                    .map(|$row| Ok::<_, sqlx::Error>($value))
                    .collect::<Result<Vec<_>, _>>()?
            }
            Rows::Postgres(pool) => {
                let found = sqlx::query($sql).fetch_all(pool).await?;
                found
                    .iter()
                    .map(|$row| Ok::<_, sqlx::Error>($value))
                    .collect::<Result<Vec<_>, _>>()?
            }
        }
    }};
}

impl Rows {
    /// Opens the database of coordinators; it need not be there yet.
    ///
    /// # Errors
    /// When its name makes no sense.
    pub(super) fn open(database: &str) -> anyhow::Result<Self> {
        if database.starts_with("postgres://") {
            let pool = PgPoolOptions::new().max_connections(2).connect_lazy(database)?;
            return Ok(Self::Postgres(pool));
        }
        let options = SqliteConnectOptions::new().filename(database);
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            .connect_lazy_with(options);
        Ok(Self::Sqlite(pool))
    }

    /// How many jobs have not ended, or have names that are not written yet.
    pub(super) async fn open_jobs(&self) -> anyhow::Result<i64> {
        let sql = "SELECT (SELECT COUNT(*) FROM job WHERE ended_ms IS NULL)
             + (SELECT COUNT(*) FROM object_copy WHERE done_ms IS NULL)";
        self.number(sql).await
    }

    /// What the clock of the database's server shows; a file has none.
    pub(super) async fn server_ms(&self) -> anyhow::Result<Option<i64>> {
        let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
        Ok(match self {
            Self::Sqlite(_) => None,
            Self::Postgres(pool) => Some(sqlx::query_scalar(sql).fetch_one(pool).await?),
        })
    }

    /// When a task was first leased after a time; 0 when none was.
    pub(super) async fn first_lease_after(&self, at_ms: i64) -> anyhow::Result<i64> {
        let sql = "SELECT COALESCE(MIN(leased_ms), 0) FROM attempt WHERE leased_ms > $1";
        Ok(match self {
            Self::Sqlite(pool) => sqlx::query_scalar(sql).bind(at_ms).fetch_one(pool).await?,
            Self::Postgres(pool) => sqlx::query_scalar(sql).bind(at_ms).fetch_one(pool).await?,
        })
    }

    /// Every job with its state.
    pub(super) async fn jobs(&self) -> anyhow::Result<Vec<(String, String)>> {
        let sql = "SELECT season, state FROM job ORDER BY id";
        Ok(read!(self, sql, |row| (row.try_get(0)?, row.try_get(1)?)))
    }

    /// Every task.
    pub(super) async fn tasks(&self) -> anyhow::Result<Vec<TaskRow>> {
        // A committed task keeps its elder where that one won.
        let sql = "SELECT t.id, j.season, t.name, t.state,
                 CASE WHEN t.state = 'committed' THEN COALESCE(t.elder_token, t.token) ELSE t.token END,
                 t.message, COALESCE(t.result, '')
             FROM task t JOIN job j ON j.id = t.job_id ORDER BY t.id";
        Ok(read!(self, sql, |row| TaskRow {
            id: row.try_get(0)?,
            season: row.try_get(1)?,
            name: row.try_get(2)?,
            state: row.try_get(3)?,
            token: row.try_get(4)?,
            message: row.try_get(5)?,
            result: row.try_get(6)?,
        }))
    }

    /// Every attempt, by task and token.
    pub(super) async fn attempts(&self) -> anyhow::Result<Vec<AttemptRow>> {
        let sql = "SELECT a.task_id, a.token, COALESCE(w.name, ''), a.leased_ms, COALESCE(a.ended_ms, 0),
                 COALESCE(a.outcome, ''), a.message
             FROM attempt a LEFT JOIN session s ON s.id = a.session_id LEFT JOIN worker w ON w.id = s.worker_id
             ORDER BY a.task_id, a.token";
        Ok(read!(self, sql, |row| AttemptRow {
            task: row.try_get(0)?,
            token: row.try_get(1)?,
            worker: row.try_get(2)?,
            leased_ms: row.try_get(3)?,
            ended_ms: row.try_get(4)?,
            outcome: row.try_get(5)?,
            message: row.try_get(6)?,
        }))
    }

    /// Keys of all objects that count.
    pub(super) async fn objects(&self) -> anyhow::Result<Vec<String>> {
        Ok(read!(self, "SELECT DISTINCT key FROM object", |row| row.try_get(0)?))
    }

    /// Names that the coordinators were to write, with the season each is of.
    pub(super) async fn names(&self) -> anyhow::Result<Vec<(String, String)>> {
        let sql = "SELECT j.season, c.target_key FROM object_copy c JOIN job j ON j.id = c.job_id";
        Ok(read!(self, sql, |row| (row.try_get(0)?, row.try_get(1)?)))
    }

    async fn number(&self, sql: &'static str) -> anyhow::Result<i64> {
        let numbers: Vec<i64> = read!(self, sql, |row| row.try_get(0)?);
        numbers.first().copied().context("a count has one row")
    }
}
