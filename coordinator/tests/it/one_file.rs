//! What only a database in a file has: one coordinator at a time, and a format that may be too new.

use remaster_coordinator::{CoordinatorError, serve_http};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Kind, get};

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
async fn a_database_of_a_newer_version_is_refused_unless_that_says_otherwise() {
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
    let file = newer.join("coordinator.db").display().to_string();
    let accepted = cluster.open(&file).await;
    assert!(accepted.is_ok(), "it still names ours: {accepted:?}");
    drop(accepted);
    sqlx::query("UPDATE floor SET version = 9999")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let refused = cluster.open(&file).await;
    assert!(
        matches!(refused, Err(CoordinatorError::NewerDatabase(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_coordinator_that_cannot_commit_is_alive_and_not_ready() {
    let cluster = Cluster::start(Kind::Sqlite).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve_http(cluster.core(), listener, shutdown.clone()));
    let file = cluster.dir.path().join("coordinator.db");
    let other = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    let mut holder = other.acquire().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let reply = get(address, "/readyz").await;
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    assert!(reply.contains("the database did not answer within"), "{reply}");
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    sqlx::query("ROLLBACK").execute(&mut *holder).await.unwrap();
    while get(address, "/readyz").await.starts_with("HTTP/1.1 503 ") {}
    shutdown.cancel();
    server.await.unwrap();
}
