//! A coordinator that is killed at any moment loses nothing that it acknowledged.

use remaster_coordinator::CoordinatorError;
use remaster_domain::{LeaseProgress, Progress, Stage, Verdict};

use crate::cluster::{Cluster, open};
use crate::fake::{ALL, small_season};

#[tokio::test]
async fn a_season_killed_after_every_few_commits_runs_every_task_once() {
    let mut cluster = Cluster::start().await;
    let mut worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&small_season(Stage::All)).await.unwrap();
    let mut lives = 0;
    while worker.run(4).await == 4 {
        cluster.restart().await;
        cluster.reconnect(&mut worker);
        lives += 1;
    }
    assert!(
        lives >= 5,
        "the kill must have happened in the middle, and did {lives} times"
    );
    assert_eq!(cluster.settle(&job).await, "succeeded");
    for task in cluster.job(&job).await.tasks {
        assert_eq!(
            (task.state.as_str(), task.attempt),
            ("committed", 1),
            "{}",
            task.name
        );
    }
}

#[tokio::test]
async fn a_lease_outlives_the_coordinator_that_gave_it() {
    let mut cluster = Cluster::start().await;
    let mut worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&small_season(Stage::All)).await.unwrap();
    let lease = worker.lease_one().await;
    cluster.restart().await;
    cluster.reconnect(&mut worker);
    let beat = LeaseProgress {
        task: lease.task.clone(),
        token: lease.token,
        progress: Progress::default(),
    };
    let (verdicts, _) = worker.client.heartbeat(vec![beat]).await.unwrap();
    assert_eq!(verdicts[0].2, Verdict::Renewed);
    worker.commit(&lease).await.unwrap();
    cluster.restart().await;
    cluster.reconnect(&mut worker);
    worker.commit(&lease).await.unwrap();
    assert_eq!(cluster.summary(&job).await.kinds[0].committed, 1);
}

#[tokio::test]
async fn a_database_has_one_coordinator_at_a_time() {
    let cluster = Cluster::start().await;
    let second = open(cluster.dir.path(), &cluster.clock, &cluster.store).await;
    assert!(
        matches!(second, Err(CoordinatorError::DatabaseInUse(_))),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let cluster = Cluster::start().await;
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
    let refused = open(&newer, &cluster.clock, &cluster.store).await;
    assert!(
        matches!(refused, Err(CoordinatorError::NewerDatabase(_))),
        "{refused:?}"
    );
}
