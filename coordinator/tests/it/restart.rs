//! A coordinator that is killed at any moment loses nothing that it acknowledged.

use remaster_domain::{LeaseProgress, Progress, Stage, Verdict};

use super::DATABASE;
use crate::cluster::Cluster;
use crate::fake::{ALL, small_season};

#[tokio::test]
async fn a_season_killed_after_every_few_commits_runs_every_task_once() {
    let mut cluster = Cluster::start(DATABASE).await;
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
    let mut cluster = Cluster::start(DATABASE).await;
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
