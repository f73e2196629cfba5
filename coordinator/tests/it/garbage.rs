//! What is removed from the store, and above all what is not.

use remaster_domain::{Checkpoint, ContentHash, Lease, Stage, TaskKind};
use remaster_proto::pb;
use remaster_store::Key;

use super::DATABASE;
use crate::cluster::{Cluster, Worker};
use crate::fake::{ALL, season, small_season};

const HOUR_MS: i64 = 60 * 60 * 1_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

async fn collect(cluster: &Cluster, dry_run: bool) -> Vec<String> {
    let request = pb::CollectGarbageRequest {
        dry_run,
        grace_ms: HOUR_MS,
    };
    let reply = cluster
        .catalog()
        .collect_garbage(request)
        .await
        .unwrap()
        .into_inner();
    assert!(!reply.more);
    reply.objects.into_iter().map(|object| object.key).collect()
}

async fn put(cluster: &Cluster, key: &Key) {
    cluster.store.put_bytes(key, "bytes".into()).await.unwrap();
}

fn hash(of: &str) -> ContentHash {
    ContentHash::of(of.as_bytes())
}

#[tokio::test]
async fn garbage_is_what_nothing_names_and_is_old_and_a_dry_run_removes_nothing() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let spec = small_season(Stage::All);
    let job = cluster.submit(&spec).await.unwrap();
    worker.run(1_000).await;
    let uploaded = spec.season.episodes[0].sd.as_ref().unwrap();
    put(&cluster, &Key::source(&uploaded.sha256)).await;
    let lost = [
        Key::source(&hash("of a season that was never handed in")),
        Key::shard(&hash("of an attempt that was lost")),
        Key::dataset_object(&spec.season.name, &hash("of another")),
        Key::model_weights(&hash("of a third")),
    ];
    for key in &lost {
        put(&cluster, key).await;
    }
    assert!(
        collect(&cluster, false).await.is_empty(),
        "they are young by the test's clock"
    );
    // The store's clock is the machine's: go beyond it.
    cluster.advance_ms(50 * YEAR_MS);
    let half = format!("{}#7", lost[1]);
    let half_file = cluster.dir.path().join("store").join(&half);
    std::fs::write(&half_file, "pa").unwrap();
    let garbage: Vec<_> = lost.iter().map(Key::to_string).chain([half]).collect();
    assert_eq!(collect(&cluster, true).await, garbage);
    assert!(cluster.store.size(&lost[0]).await.unwrap().is_some() && half_file.exists());
    assert_eq!(collect(&cluster, false).await, garbage);
    for key in &lost {
        assert_eq!(cluster.store.size(key).await.unwrap(), None, "{key}");
    }
    assert!(!half_file.exists());
    assert!(
        collect(&cluster, false).await.is_empty(),
        "whatever counts is there"
    );
    assert_eq!(cluster.settle(&job).await, "succeeded");
}

#[tokio::test]
async fn what_is_older_than_the_database_is_not_its_to_remove() {
    let cluster = Cluster::start(DATABASE).await;
    let key = Key::shard(&hash("of another database"));
    put(&cluster, &key).await;
    cluster.advance_ms(50 * YEAR_MS);
    assert!(collect(&cluster, false).await.is_empty(), "nobody was ever here");
    cluster.worker(&ALL).await;
    cluster.advance_ms(YEAR_MS);
    assert!(collect(&cluster, false).await.is_empty());
    assert!(cluster.store.size(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn too_short_a_grace_is_refused() {
    let cluster = Cluster::start(DATABASE).await;
    let request = pb::CollectGarbageRequest {
        dry_run: true,
        grace_ms: HOUR_MS - 1,
    };
    let refused = cluster.catalog().collect_garbage(request).await.unwrap_err();
    assert!(refused.message().contains("is too short"), "{refused}");
}

/// Leases and commits until a training run is leased.
async fn train_lease(worker: &Worker) -> Lease {
    loop {
        let lease = worker.lease_one().await;
        if lease.spec.kind() == TaskKind::Train {
            return lease;
        }
        worker.commit(&lease).await.unwrap();
    }
}

async fn record(worker: &Worker, lease: &Lease, name: &str, step: u64) -> Vec<String> {
    let checkpoint = Checkpoint {
        sha256: hash(name),
        step,
    };
    let keys = [
        Key::checkpoint_state(&checkpoint.sha256),
        Key::checkpoint_tensors(&checkpoint.sha256),
    ];
    for key in &keys {
        worker.store.put_bytes(key, "state".into()).await.unwrap();
    }
    let record = worker.client.record(&lease.task, lease.token, checkpoint, vec![]);
    record.await.unwrap();
    let mut keys = keys.map(|key| key.to_string());
    keys.sort();
    keys.to_vec()
}

#[tokio::test]
async fn of_a_run_the_last_two_checkpoints_stay_and_what_is_to_be_published() {
    let cluster = Cluster::start(DATABASE).await;
    let kinds: Vec<_> = ALL
        .into_iter()
        .filter(|kind| *kind != TaskKind::Publish)
        .collect();
    let (worker, other) = (cluster.worker(&kinds).await, cluster.worker(&kinds).await);
    let spec = season(Stage::All, &[("e1", true, true)]);
    cluster.submit(&spec).await.unwrap();
    let lease = train_lease(&worker).await;
    // The same season once more: the same run.
    cluster.submit(&spec).await.unwrap();
    let again = train_lease(&other).await;
    assert_ne!(lease.task, again.task);
    let one = record(&worker, &lease, "1", 1).await;
    let two = record(&worker, &lease, "2", 2).await;
    record(&worker, &lease, "3", 3).await;
    cluster.advance_ms(50 * YEAR_MS);
    let is_checkpoint = |key: &String| key.starts_with("checkpoints/");
    let mut collected = collect(&cluster, false).await;
    collected.retain(is_checkpoint);
    assert_eq!(collected, one);
    worker.commit(&lease).await.unwrap();
    record(&other, &again, "4", 4).await;
    record(&other, &again, "5", 5).await;
    cluster.advance_ms(YEAR_MS);
    let three = Key::checkpoint_state(&hash("3")).to_string();
    let mut collected = collect(&cluster, false).await;
    collected.retain(is_checkpoint);
    assert!(collected.contains(&two[0]) && collected.contains(&three));
    assert_eq!(
        collected.len(),
        4,
        "the committed one waits to be published: {collected:?}"
    );
    let publisher = cluster.worker(&[TaskKind::Publish]).await;
    publisher.run(1).await;
    cluster.advance_ms(YEAR_MS);
    let mut collected = collect(&cluster, true).await;
    collected.retain(is_checkpoint);
    assert_eq!(collected.len(), 2, "published");
}
