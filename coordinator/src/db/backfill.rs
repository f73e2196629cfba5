//! Moves what was committed from SQLite's log into the file beside the writer, so that no commit waits for it.
//!
//! Promises: the log stays bounded under any load: what is added while this copies is copied by the writer itself once the log
//! is long, between two transactions, and the log then begins anew. Durable is what is in the log: nothing here is waited
//! for by those who are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use super::open::Pool;
use super::sql::{Connection, query};

/// Between two rounds: each writes every page that changed since the last, so fewer write less; a second's worth would keep
/// the disk busy for long enough to be felt by those who commit meanwhile.
const PAUSE: Duration = Duration::from_millis(250);
/// 64 MB in pages of 4 KiB: a few seconds of a busy coordinator, read again at the opening after a crash.
const LOG_PAGES_MAX: i64 = 16_384;

/// The writer's end.
#[derive(Debug)]
pub(crate) struct Backfill {
    committed: watch::Sender<()>,
    is_long: Arc<AtomicBool>,
}

impl Backfill {
    /// Begins to copy whenever something was committed; ends when this is dropped.
    pub(crate) fn start(pool: Pool) -> Self {
        let (committed, news) = watch::channel(());
        let is_long = Arc::new(AtomicBool::new(false));
        tokio::spawn(copy_for_ever(pool, news, Arc::clone(&is_long)));
        Self { committed, is_long }
    }

    /// Something was committed; between transactions. Copies the rest of a log that has become long.
    pub(crate) async fn committed(&self, writer: &mut Connection) {
        self.committed.send_replace(());
        if self.is_long.swap(false, Ordering::Relaxed)
            && let Err(failure) = copy(writer).await
        {
            warn!(error = %failure, "the log could not be copied, trying again");
        }
    }
}

async fn copy_for_ever(pool: Pool, mut news: watch::Receiver<()>, is_long: Arc<AtomicBool>) {
    while news.changed().await.is_ok() {
        let copied = match pool.acquire().await {
            Ok(mut connection) => copy(&mut connection).await,
            Err(failure) => Err(failure),
        };
        match copied {
            Ok(log_pages) => is_long.store(log_pages > LOG_PAGES_MAX, Ordering::Relaxed),
            Err(failure) => warn!(error = %failure, "the log could not be copied, trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Copies what no reader needs in the log any more, waiting for nobody; answers how many pages the log has.
async fn copy(connection: &mut Connection) -> Result<i64, sqlx::Error> {
    let row = query("PRAGMA wal_checkpoint(PASSIVE)").row(connection).await?;
    row.ok_or(sqlx::Error::RowNotFound)?.at(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::open::open_file;
    use super::*;

    #[tokio::test]
    async fn a_log_that_was_copied_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (writers, _) = open_file(&folder.path().join("coordinator.db")).await.unwrap();
        let mut writer = writers.acquire().await.unwrap();
        let make = query("CREATE TABLE kept (text TEXT NOT NULL)");
        make.execute(&mut writer).await.unwrap();
        for _ in 0..20 {
            let keep = query("INSERT INTO kept (text) VALUES ($1)").bind("x".repeat(100_000));
            keep.execute(&mut writer).await.unwrap();
        }
        let backfill = Backfill {
            committed: watch::Sender::new(()),
            is_long: Arc::new(AtomicBool::new(true)),
        };
        backfill.committed(&mut writer).await;
        let delete = query("DELETE FROM kept WHERE rowid = 1");
        delete.execute(&mut writer).await.unwrap();
        assert!(copy(&mut writer).await.unwrap() < 100, "it holds one deletion");
        let left: i64 = query("SELECT COUNT(*) FROM kept").one(&mut writer).await.unwrap();
        assert_eq!(left, 19);
    }
}
