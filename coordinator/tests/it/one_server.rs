//! What only a database server has: several coordinators with equal rights.

use std::collections::BTreeSet;
use std::time::Duration;

use remaster_domain::{Stage, TaskKind};
use remaster_proto::{ClientError, LeaseClient, PROTOCOL_VERSION};
use remaster_store::Key;

use crate::cluster::{Cluster, Kind, LEASE_MS};
use crate::fake::{ALL, season, small_season};

#[tokio::test]
async fn workers_of_three_coordinators_never_hold_the_same_task_and_end_the_season_together() {
    let cluster = Cluster::start(Kind::Postgres).await;
    let others = [cluster.another().await, cluster.another().await];
    let ids: Vec<String> = (0..10).map(|number| format!("e{number}")).collect();
    let episodes: Vec<_> = ids.iter().map(|id| (id.as_str(), true, true)).collect();
    let job = cluster.submit(&season(Stage::Extract, &episodes)).await.unwrap();
    let mut racers = tokio::task::JoinSet::new();
    for running in [&cluster.running, &others[0], &others[1]]
        .into_iter()
        .cycle()
        .take(6)
    {
        let worker = cluster.worker_at(running, &ALL).await;
        racers.spawn(async move {
            let mut held = vec![];
            let mut idle = 0;
            while idle < 20 {
                match worker.lease(1).await.pop() {
                    Some(lease) => {
                        worker.commit(&lease).await.unwrap();
                        held.push(lease.task);
                        idle = 0;
                    }
                    None => {
                        idle += 1;
                        tokio::task::yield_now().await;
                    }
                }
            }
            held
        });
    }
    let all = racers.join_all().await.concat();
    let distinct: BTreeSet<_> = all.iter().collect();
    // 20 indexes, 10 alignments, 20 shards and one dataset, each made once whoever saw its inputs end.
    assert_eq!((all.len(), distinct.len()), (51, 51));
    assert_eq!(cluster.settle(&job).await, "succeeded");
    for other in &others {
        other.core().copy_pending().await.unwrap();
    }
    let manifest = |number| Key::dataset_manifest(&"season-6".parse().unwrap(), number);
    assert!(cluster.store.size(&manifest(1)).await.unwrap().is_some());
    assert!(cluster.store.size(&manifest(2)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_loss_that_two_coordinators_see_is_counted_once() {
    let cluster = Cluster::start(Kind::Postgres).await;
    let other = cluster.another().await;
    let worker = cluster.worker(&ALL).await;
    cluster
        .submit(&season(Stage::Extract, &[("e1", true, true)]))
        .await
        .unwrap();
    let old = worker.lease_one().await;
    cluster.advance_ms(i64::from(LEASE_MS));
    let (core, other_core) = (cluster.core(), other.core());
    let (here, there) = tokio::join!(core.reap(), other_core.reap());
    assert_eq!(here.unwrap() + there.unwrap(), 1);
    let at_other = cluster.worker_at(&other, &ALL).await;
    let new = at_other.lease_one().await;
    assert_eq!((&new.task, new.attempt), (&old.task, 2));
    assert!(matches!(
        worker.commit(&old).await,
        Err(ClientError::LeaseLost(_))
    ));
    // Whichever coordinator a worker reaches, its lease is the same.
    let elsewhere = LeaseClient::new(cluster.running.channel.clone(), at_other.session.clone());
    elsewhere.release(&new.task, new.token).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_waits_at_one_coordinator_is_woken_by_work_at_another() {
    let cluster = Cluster::start(Kind::Postgres).await;
    let other = cluster.another().await;
    let waiting = cluster.worker_at(&other, &[TaskKind::Align]).await;
    let poll = tokio::spawn(async move { waiting.client.lease(1, Duration::from_secs(25)).await });
    let worker = cluster.worker(&[TaskKind::Index]).await;
    cluster.submit(&small_season(Stage::Extract)).await.unwrap();
    worker.run(100).await;
    let grant = tokio::time::timeout(Duration::from_secs(15), poll)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(grant.leases.len(), 1);
}

#[tokio::test]
async fn a_coordinator_outlives_the_loss_of_its_connections() {
    let cluster = Cluster::start(Kind::Postgres).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster
        .submit(&season(Stage::Extract, &[("e1", true, true)]))
        .await
        .unwrap();
    let lease = worker.lease_one().await;
    let pool = sqlx::PgPool::connect(&cluster.url).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let gone = sqlx::query(cut).execute(&pool).await.unwrap().rows_affected();
    assert!(gone > 0, "there was something to cut");
    pool.close().await;
    let mut tries = 0;
    while let Err(error) = worker.commit(&lease).await {
        assert!(error.is_retryable(), "{error}");
        tries += 1;
        assert!(tries < 50, "it never came back: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cluster.summary(&job).await.kinds[0].committed, 1);
}

#[tokio::test]
async fn a_coordinator_of_the_version_before_leads_on_what_it_understands_and_leaves_the_rest_to_the_new() {
    let cluster = Cluster::start(Kind::Postgres).await;
    let before = cluster.another_of(PROTOCOL_VERSION - 1).await;
    let plain = cluster
        .submit(&season(Stage::Extract, &[("e1", true, true)]))
        .await
        .unwrap();
    let whole = season(Stage::Extract, &[("e2", true, true), ("e3", false, true)]);
    let refused = cluster.submit_at(&before, &whole).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "protocol version 2 does not fit this coordinator, which speaks 1 and 0: upgrade the coordinator first"
    );
    assert!(
        cluster.worker_of_at(&before, PROTOCOL_VERSION).await.is_err(),
        "nor is a new worker taken"
    );
    let whole = cluster.submit(&whole).await.unwrap();

    let old = cluster.worker_of_at(&before, PROTOCOL_VERSION - 1).await.unwrap();
    assert_eq!(old.run(100).await, 6, "all of the job that it understands");
    assert_eq!(cluster.settle(&plain).await, "succeeded");
    let (mut straying, new) = (cluster.worker(&ALL).await, cluster.worker(&ALL).await);
    let lease = straying.lease_one().await;
    assert_eq!(lease.job, whole);
    let client = LeaseClient::new(before.channel.clone(), straying.session.clone());
    let there = std::mem::replace(&mut straying.client, client);
    let refused = straying.commit(&lease).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("needs a coordinator of protocol version 2, this one speaks 1"),
        "{refused}"
    );
    cluster.advance_ms(i64::from(LEASE_MS));
    assert_eq!(
        before.core().reap().await.unwrap(),
        0,
        "nor is it taken back there"
    );
    assert_eq!(cluster.core().reap().await.unwrap(), 1);
    straying.client = there;
    straying.commit(&lease).await.unwrap();
    new.run(100).await;
    assert_eq!(cluster.settle(&whole).await, "succeeded");
}

/// Rows and index entries that a coordinator reads from its start on to the end of so many leases and commits, on a server
/// where a season of so many episodes is queued.
async fn reads(episodes: usize, leases: usize) -> i64 {
    let mut cluster = Cluster::start(Kind::Postgres).await;
    let ids: Vec<String> = (0..episodes).map(|number| format!("e{number}")).collect();
    let episodes: Vec<_> = ids.iter().map(|id| (id.as_str(), true, true)).collect();
    cluster.submit(&season(Stage::Extract, &episodes)).await.unwrap();
    let pool = sqlx::PgPool::connect(&cluster.url).await.unwrap();
    let before = reads_so_far(&mut cluster, &pool).await;
    cluster.restart().await;
    let worker = cluster.worker(&[TaskKind::Index]).await;
    assert_eq!(worker.run(leases).await, leases);
    reads_so_far(&mut cluster, &pool).await - before
}

/// What the server counted once the coordinator is gone: a connection that ends leaves nothing uncounted.
async fn reads_so_far(cluster: &mut Cluster, pool: &sqlx::PgPool) -> i64 {
    cluster.running.kill();
    let any_connection = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'remaster-coordinator')";
    let (mut is_connected, mut looks) = (true, 0);
    while is_connected && looks < 1_000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        is_connected = sqlx::query_scalar(any_connection).fetch_one(pool).await.unwrap();
        looks += 1;
    }
    assert!(
        !is_connected,
        "the killed coordinator never let go of its database"
    );
    let reads = "SELECT CAST((SELECT SUM(idx_tup_read) FROM pg_stat_user_indexes)
        + (SELECT SUM(seq_tup_read + COALESCE(idx_tup_fetch, 0)) FROM pg_stat_user_tables) AS BIGINT)";
    sqlx::query_scalar(reads).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_lease_and_its_commit_read_no_more_of_a_long_queue_than_of_a_short_one() {
    let (short, long) = (reads(20, 20).await, reads(1_000, 20).await);
    assert!(short > 0, "the server counts");
    assert!(
        long <= short + short / 4,
        "{long} of a long queue, {short} of a short one"
    );
}
