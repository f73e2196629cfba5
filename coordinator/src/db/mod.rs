//! Remembers. One SQLite file: WAL, synchronous FULL, one writer, some readers. Durable before anything is answered.
//!
//! Plain SQL in the subset common to SQLite and PostgreSQL; the files here hold all of it, one per area. Rows that the
//! flow line changes are changed by what [`crate::state::decide`] said, by compare-and-set. Left to others: deciding.

mod advance;
mod catalog;
mod copies;
mod fleet;
mod jobs;
mod summary;
mod tasks;
mod writer;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, SqlSafeStr};

use crate::CoordinatorError;
use crate::clock::Clock;
use crate::signals::Signals;
pub(crate) use advance::{bury, commit, record_objects};
pub(crate) use catalog::{
    DatasetRow, ModelRow, datasets, models, move_channel, newest_dataset, resolve_model,
};
pub(crate) use copies::{PendingCopy, note_failure, pending, record_copied};
pub(crate) use fleet::{WorkerRow, drain, load_session, register, seen, workers};
pub(crate) use jobs::{
    JobRow, cancel, insert_job, job_state, jobs_with_work, load_job, newest_jobs, note, retry, set_priority,
    set_state,
};
pub(crate) use summary::{JobView, KindView, TaskView, summary, task_list};
pub(crate) use tasks::{StoredTask, apply, expired, load_task, next_ready, note_progress};
pub(crate) use writer::{Tx, Writer};

/// Queries that run beside the writer; they never wait for it (WAL).
const READERS_MAX: u32 = 4;

/// The open database.
#[derive(Debug)]
pub(crate) struct Db {
    /// Runs every change.
    pub(crate) writer: Writer,
    /// Answers questions.
    pub(crate) readers: SqlitePool,
    /// Held for as long as this process may write; the system lets go of it however the process ends.
    _lock: File,
}

impl Db {
    /// Opens the database, makes it if absent and brings its tables up to date.
    pub(crate) async fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        signals: Signals,
    ) -> Result<Self, CoordinatorError> {
        let lock = lock(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let mut connection = options.connect().await.map_err(|error| unusable(path, &error))?;
        migrations()
            .run_direct(None, &mut connection, false)
            .await
            .map_err(|error| match error {
                MigrateError::VersionMissing(_) => {
                    CoordinatorError::NewerDatabase(path.display().to_string())
                }
                other => unusable(path, &other),
            })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .connect_with(options)
            .await
            .map_err(|error| unusable(path, &error))?;
        Ok(Self {
            writer: Writer::start(connection, clock, signals),
            readers,
            _lock: lock,
        })
    }
}

/// All migrations, oldest first. They only add.
fn migrations() -> Migrator {
    let first = include_str!("../../migrations/0001_first.sql");
    Migrator::with_migrations(vec![Migration::new(
        1,
        "first".into(),
        MigrationType::Simple,
        first.into_sql_str(),
        false,
    )])
}

fn lock(path: &Path) -> Result<File, CoordinatorError> {
    let unusable = |error: std::io::Error| unusable(path, &error);
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

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> CoordinatorError {
    CoordinatorError::Unavailable(format!("database {} cannot be used: {error}", path.display()))
}
