//! What only a database in a file has: one coordinator at a time, and a format that may be too new.

use remaster_coordinator::CoordinatorError;

use crate::cluster::{Cluster, Kind};

#[tokio::test]
async fn a_database_has_one_coordinator_at_a_time() {
    let cluster = Cluster::start(Kind::Sqlite).await;
    let second = cluster.open(&cluster.url).await;
    assert!(
        matches!(second, Err(CoordinatorError::DatabaseInUse(_))),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let cluster = Cluster::start(Kind::Sqlite).await;
    let file = cluster.dir.path().join("coordinator.db");
    let newer = cluster.dir.path().join("newer");
    std::fs::create_dir(&newer).unwrap();
    // Into a file of its own: the running coordinator keeps the first.
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    let copy = format!("VACUUM INTO '{}'", newer.join("coordinator.db").display());
    sqlx::query(sqlx::AssertSqlSafe(copy))
        .execute(&pool)
        .await
        .unwrap();
    let copied = format!("sqlite://{}", newer.join("coordinator.db").display());
    let pool = sqlx::SqlitePool::connect(&copied).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', TRUE, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let refused = cluster
        .open(&newer.join("coordinator.db").display().to_string())
        .await;
    assert!(
        matches!(refused, Err(CoordinatorError::NewerDatabase(_))),
        "{refused:?}"
    );
}
