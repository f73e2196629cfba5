//! Opens the database that a coordinator was told of: one SQLite file or one PostgreSQL server.
//!
//! SQLite: WAL, synchronous FULL, and a lock beside the file, since it has one coordinator at a time. PostgreSQL: as many
//! equal coordinators as there are; they take turns by a lock of the transaction, see `writer`. Both get the same tables.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use remaster_domain::JobId;
use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::backfill::Backfill;
use super::specs::Specs;
use super::sql::{Connection, query};
use super::writer::Writer;
use crate::CoordinatorError;
use crate::clock::Clock;
use crate::config::Database;
use crate::signals::Signals;

/// Queries that run beside the writer; they never wait for it.
const READERS_MAX: u32 = 4;
/// What the writer keeps of the file in memory, negative as SQLite has it: what transactions change again and again. What it
/// does not keep, the system does.
const CACHE_KIB: &str = "-16384";
/// The server ends a transaction whose coordinator is silent for this long (frozen, cut off), since the others wait for
/// it; well below a lease, so that nobody's heartbeats are late by it.
const SILENCE_MAX: &str = "8s";
/// The writer's statements take rows by indexes that were made for them, a few of a table of millions. A planner that knows
/// nothing of a table yet reads the whole of it rather; and it is asked once for each statement, not at every execution. Nor
/// by bitmaps: what reads an index by one leaves the entries of rows that are gone in it, and every lease leaves two.
const BY_INDEX: [(&str, &str); 5] = [
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];
/// Pages that the writer's session had to push out of the server's memory go to the disk soon after. Kept back until a
/// checkpoint, those of a season that was just handed in would all go at once, and every COMMIT would wait for them.
const FLUSHED_SOON: [(&str, &str); 1] = [("backend_flush_after", "256kB")];

/// The open database.
#[derive(Debug)]
pub(crate) struct Db {
    /// Runs every change.
    pub(crate) writer: Writer,
    readers: Pool,
    specs: Arc<Specs>,
    clock: Clock,
}

/// Connections of one kind.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    /// To the file.
    Sqlite(SqlitePool),
    /// To the server.
    Postgres(PgPool),
}

impl Pool {
    /// A connection that works.
    pub(crate) async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Connection::Sqlite(pool.acquire().await?),
            Self::Postgres(pool) => Connection::Postgres(pool.acquire().await?),
        })
    }
}

impl Db {
    /// Opens the database, makes what is absent and brings its tables up to date.
    pub(crate) async fn open(
        database: &Database,
        protocol_version: u32,
        clock: Clock,
        signals: Signals,
    ) -> Result<Self, CoordinatorError> {
        let (lock, writers, readers) = match database {
            Database::Sqlite(path) => {
                let lock = lock(path)?;
                let (writers, readers) = open_file(path)
                    .await
                    .map_err(|error| unusable(database, &error))?;
                (Some(lock), writers, readers)
            }
            Database::Postgres(options) => {
                let pools = open_server(options).await;
                let (writers, readers) = pools.map_err(|error| unusable(database, &error))?;
                (None, writers, readers)
            }
        };
        let mut connection = writers.acquire().await?;
        if let Err(error) = migrate(&mut connection).await {
            // It may still hold what keeps others from migrating.
            connection.abandon();
            connection = writers.acquire().await?;
            match error {
                MigrateError::VersionMissing(_) if knows_enough(&mut connection).await? => {}
                MigrateError::VersionMissing(_) => {
                    return Err(CoordinatorError::NewerDatabase(database.to_string()));
                }
                other => return Err(unusable(database, &other)),
            }
        }
        let clock = match clock {
            Clock::Database if connection.is_shared() => {
                Clock::server(newest_seen_ms(&mut connection).await?)
            }
            Clock::Database => Clock::steady(connection.now_ms().await?, newest_ms(&mut connection).await?),
            given => given,
        };
        let backfill = (!connection.is_shared()).then(|| Backfill::start(readers.clone()));
        let specs = Arc::new(Specs::of_version(protocol_version));
        let own = Arc::clone(&specs);
        let writer = Writer::start(connection, writers, lock, clock.clone(), signals, own, backfill);
        let writer = writer.map_err(|error| {
            CoordinatorError::Unavailable(format!("the writer of the database has no thread: {error}"))
        })?;
        Ok(Self {
            writer,
            readers,
            specs,
            clock,
        })
    }

    /// A connection for questions.
    pub(crate) async fn reader(&self) -> Result<Connection, CoordinatorError> {
        Ok(self.readers.acquire().await?)
    }

    /// Has a job's spec at hand before a turn asks for it.
    pub(crate) async fn read_spec_ahead(&self, job: &JobId) -> Result<(), CoordinatorError> {
        self.specs.read_ahead(job, &self.readers).await
    }

    /// Hears what other coordinators committed; `None` where there are no others.
    pub(crate) async fn listener(&self) -> Result<Option<PgListener>, CoordinatorError> {
        match &self.readers {
            Pool::Sqlite(_) => Ok(None),
            Pool::Postgres(pool) => Ok(Some(PgListener::connect_with(pool).await?)),
        }
    }

    /// The time that counts.
    pub(crate) async fn now_ms(&self) -> Result<i64, CoordinatorError> {
        match self.clock.here() {
            Some(now_ms) => Ok(now_ms),
            None => Ok(self.clock.now_ms(self.reader().await?.now_ms().await?)),
        }
    }

    /// The time to which the age of stored objects is reckoned.
    pub(crate) async fn now_beside_objects_ms(&self) -> Result<i64, CoordinatorError> {
        match self.clock.beside_objects() {
            Some(now_ms) => Ok(now_ms),
            None => Ok(self.reader().await?.now_ms().await?),
        }
    }
}

/// When any worker was heard last, by any coordinator.
async fn newest_seen_ms(connection: &mut Connection) -> Result<i64, sqlx::Error> {
    query("SELECT COALESCE(MAX(seen_ms), 0) FROM session")
        .one(connection)
        .await
}

/// The newest time in the database. Looks at every event and attempt, which costs a second for some millions: once, at the
/// opening.
async fn newest_ms(connection: &mut Connection) -> Result<i64, sqlx::Error> {
    let newest = query(
        "SELECT COALESCE(MAX(at_ms), 0) FROM (SELECT MAX(at_ms) AS at_ms FROM event
             UNION ALL SELECT MAX(leased_ms) AS at_ms FROM attempt
             UNION ALL SELECT MAX(seen_ms) AS at_ms FROM session
             UNION ALL SELECT MAX(created_ms) AS at_ms FROM job) AS times",
    );
    newest.one(connection).await
}

pub(crate) async fn open_file(path: &Path) -> Result<(Pool, Pool), sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // See `backfill`.
        .pragma("wal_autocheckpoint", "0");
    let pool = |most| SqlitePoolOptions::new().max_connections(most).idle_timeout(None);
    // A second one only for the moment in which it takes the place of a broken one.
    let writers = options.clone().pragma("cache_size", CACHE_KIB);
    let writers = pool(2).connect_with(writers).await?;
    // One more than there are readers: the log is copied by one.
    let readers = pool(READERS_MAX + 1).connect_lazy_with(options);
    Ok((Pool::Sqlite(writers), Pool::Sqlite(readers)))
}

async fn open_server(url: &str) -> Result<(Pool, Pool), sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    let options = options.application_name("remaster-coordinator").options([
        ("idle_in_transaction_session_timeout", SILENCE_MAX),
        ("synchronous_commit", "on"),
        // Within its turn a transaction must see what the turns before it did, whatever the server's default.
        ("default_transaction_isolation", "read committed"),
        // What its planner takes for dear is over before it would be compiled.
        ("jit", "off"),
    ]);
    let pool = |most| PgPoolOptions::new().max_connections(most);
    // A second one only for the moment in which it takes the place of a broken one.
    let of_writer = options.clone().options(BY_INDEX).options(FLUSHED_SOON);
    let writers = pool(2).connect_with(of_writer).await?;
    // One more than there are readers: the listener keeps its own.
    let readers = pool(READERS_MAX + 1).connect_lazy_with(options);
    Ok((Pool::Postgres(writers), Pool::Postgres(readers)))
}

async fn migrate(connection: &mut Connection) -> Result<(), MigrateError> {
    match connection {
        Connection::Sqlite(to) => migrations().run_direct(None, &mut **to, false).await,
        Connection::Postgres(to) => migrations().run_direct(None, &mut **to, false).await,
    }
}

/// Whether a coordinator that knows no later migration than ours may work on a database that had some.
async fn knows_enough(connection: &mut Connection) -> Result<bool, sqlx::Error> {
    let newest = migrations().iter().map(|known| known.version).max();
    let floor: i64 = query("SELECT MAX(version) FROM floor").one(connection).await?;
    Ok(newest >= Some(floor))
}

/// All migrations, oldest first. They only add.
fn migrations() -> Migrator {
    let all = [
        ("first", include_str!("../../migrations/0001_first.sql")),
        ("fair", include_str!("../../migrations/0002_fair.sql")),
        ("needs", include_str!("../../migrations/0003_needs.sql")),
        ("elders", include_str!("../../migrations/0004_elders.sql")),
        ("lean", include_str!("../../migrations/0005_lean.sql")),
        ("returned", include_str!("../../migrations/0006_returned.sql")),
        ("begun", include_str!("../../migrations/0007_begun.sql")),
        ("floor", include_str!("../../migrations/0008_floor.sql")),
        ("lost", include_str!("../../migrations/0009_lost.sql")),
        ("version", include_str!("../../migrations/0010_version.sql")),
        ("served", include_str!("../../migrations/0011_served.sql")),
    ];
    let migrations = (1..).zip(all).map(|(version, (name, sql))| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

/// Held for as long as this process may write; the system lets go of it however the process ends.
fn lock(path: &Path) -> Result<File, CoordinatorError> {
    let unusable = |error: std::io::Error| unusable(&Database::Sqlite(path.to_owned()), &error);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(unusable)?;
    }
    let beside = path.with_added_extension("lock");
    let file = File::create(beside).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CoordinatorError::DatabaseInUse(path.display().to_string())),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn unusable(database: &Database, error: &dyn std::fmt::Display) -> CoordinatorError {
    CoordinatorError::Unavailable(format!("database {database} cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_file_whose_machine_was_set_back_goes_on_from_its_newest_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = Database::Sqlite(folder.path().join("coordinator.db"));
        let open = || {
            Db::open(
                &file,
                remaster_proto::PROTOCOL_VERSION,
                Clock::Database,
                Signals::new(),
            )
        };
        let db = open().await.unwrap();
        let ahead_ms = db.now_ms().await.unwrap() + 3_600_000;
        let event = query("INSERT INTO event (id, at_ms, what, detail) VALUES ('e', $1, 'offered', '')");
        event
            .bind(ahead_ms)
            .execute(&mut db.reader().await.unwrap())
            .await
            .unwrap();
        drop(db);
        // The writer's thread ends soon after.
        let mut reopened = open().await;
        for _ in 0..1_000 {
            if !matches!(reopened, Err(CoordinatorError::DatabaseInUse(_))) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            reopened = open().await;
        }
        let reopened = reopened.unwrap();
        assert!(reopened.now_ms().await.unwrap() >= ahead_ms);
    }
}
