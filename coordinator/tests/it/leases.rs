//! The lease protocol: fencing, repeats, losses, and who gets what.

use std::collections::BTreeSet;
use std::time::Duration;

use remaster_domain::{
    Checkpoint, ContentHash, FailureClass, IndexResult, Lease, LeaseProgress, OutputObject, Progress,
    SessionId, Stage, TaskKind, TaskResult, Verdict,
};
use remaster_proto::{ClientError, LeaseClient};
use remaster_store::Key;
use uuid::Uuid;

use super::DATABASE;
use crate::cluster::{Cluster, LEASE_MS, Worker};
use crate::fake::{self, ALL, season, small_season};

const ONE: [(&str, bool, bool); 1] = [("e1", true, true)];

async fn beat(worker: &Worker, lease: &Lease, done: u64) -> Verdict {
    let progress = LeaseProgress {
        task: lease.task.clone(),
        token: lease.token,
        progress: Progress {
            done,
            total: 10,
            note: "3.1 fps".to_owned(),
        },
    };
    let (verdicts, _) = worker.client.heartbeat(vec![progress]).await.unwrap();
    verdicts[0].2
}

async fn checkpoint(worker: &Worker, step: u64) -> (Checkpoint, Vec<OutputObject>) {
    let sha256 = ContentHash::of(&step.to_le_bytes());
    let mut objects = vec![];
    for key in [Key::checkpoint_state(&sha256), Key::checkpoint_tensors(&sha256)] {
        objects.push(worker.store.put_bytes(&key, "state".into()).await.unwrap());
    }
    (Checkpoint { sha256, step }, objects)
}

fn is_stale(outcome: Result<(), ClientError>) -> bool {
    matches!(outcome, Err(ClientError::LeaseLost(_)))
}

#[tokio::test]
async fn a_lost_lease_is_offered_again_under_a_higher_token_and_the_loser_is_fenced() {
    let cluster = Cluster::start(DATABASE).await;
    let (slow, other) = (cluster.worker(&ALL).await, cluster.worker(&ALL).await);
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let old = slow.lease_one().await;
    assert_eq!(cluster.core().reap().await.unwrap(), 0, "not before its time");
    cluster.advance_ms(i64::from(LEASE_MS));
    assert_eq!(cluster.core().reap().await.unwrap(), 1);
    let new = other.lease_one().await;
    assert_eq!((&new.task, new.attempt), (&old.task, 2));
    assert!(new.token > old.token);

    assert_eq!(beat(&slow, &old, 1).await, Verdict::Lost);
    let (state, objects) = checkpoint(&slow, 1).await;
    assert!(is_stale(
        slow.client.record(&old.task, old.token, state, objects).await
    ));
    assert!(is_stale(slow.commit(&old).await));
    assert!(is_stale(
        slow.client
            .fail(&old.task, old.token, FailureClass::BadInput, "late")
            .await
    ));
    assert!(is_stale(slow.client.release(&old.task, old.token).await));

    assert_eq!(
        beat(&other, &new, 1).await,
        Verdict::Renewed,
        "the holder noticed nothing of it"
    );
    other.commit(&new).await.unwrap();
    let committed = cluster
        .job(&job)
        .await
        .tasks
        .into_iter()
        .filter(|task| task.state == "committed");
    assert_eq!(committed.count(), 1);
}

#[tokio::test]
async fn a_heartbeat_keeps_the_lease_and_shows_how_far_it_is() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let lease = worker.lease_one().await;
    for done in 1..5 {
        cluster.advance_ms(i64::from(LEASE_MS) - 1);
        assert_eq!(beat(&worker, &lease, done).await, Verdict::Renewed);
        assert_eq!(cluster.core().reap().await.unwrap(), 0);
    }
    let kind = &cluster.summary(&job).await.kinds[0];
    assert_eq!((kind.done, kind.total, kind.note.as_str()), (4, 10, "3.1 fps"));
}

#[tokio::test]
async fn the_repeat_of_a_commit_is_answered_as_the_first_was() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let lease = worker.lease_one().await;
    worker.commit(&lease).await.unwrap();
    let before = cluster.job(&job).await;
    worker.commit(&lease).await.unwrap();
    assert_eq!(cluster.job(&job).await, before);
}

#[tokio::test]
async fn a_task_that_keeps_losing_its_workers_dies_of_it() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&season(Stage::Upscale, &ONE)).await;
    assert!(job.is_err(), "there is no model yet");
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    for _ in 0..8 {
        worker.lease_one().await;
        cluster.advance_ms(i64::from(LEASE_MS));
        cluster.core().reap().await.unwrap();
    }
    let dead = &cluster.summary(&job).await.dead;
    assert_eq!(dead.len(), 1);
    assert!(dead[0].message.contains("lost 8 times"), "{}", dead[0].message);
}

#[tokio::test]
async fn what_was_given_back_or_lost_goes_before_the_turn_of_another_job() {
    let cluster = Cluster::start(DATABASE).await;
    let (first, second) = (cluster.worker(&ALL).await, cluster.worker(&ALL).await);
    cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let leases = first.lease(2).await;
    let other = [("e2", true, true), ("e3", true, true)];
    let other = cluster.submit(&season(Stage::Extract, &other)).await.unwrap();

    first
        .client
        .release(&leases[0].task, leases[0].token)
        .await
        .unwrap();
    let trainer = cluster.worker(&[TaskKind::Train]).await;
    assert!(trainer.lease(1).await.is_empty(), "it is not of its kind");
    let given_back = second.lease_one().await;
    assert_eq!((&given_back.task, given_back.attempt), (&leases[0].task, 2));

    cluster.advance_ms(i64::from(LEASE_MS));
    assert_eq!(cluster.core().reap().await.unwrap(), 2);
    let lost: BTreeSet<_> = second
        .lease(2)
        .await
        .into_iter()
        .map(|lease| lease.task)
        .collect();
    assert_eq!(lost, leases.iter().map(|lease| lease.task.clone()).collect());

    assert_eq!(
        second.lease_one().await.job,
        other,
        "nothing is left that was begun"
    );
}

#[tokio::test]
async fn what_failed_waits_for_the_turn_of_its_job() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let leases = worker.lease(2).await;
    let failed = &leases[0];
    worker
        .client
        .fail(&failed.task, failed.token, FailureClass::Retryable, "disk full")
        .await
        .unwrap();
    let other = [("e2", true, true)];
    let other = cluster.submit(&season(Stage::Extract, &other)).await.unwrap();
    cluster.advance_ms(10_000);
    assert_eq!(worker.lease_one().await.job, other, "it runs nothing yet");
    let others = worker.lease(2).await;
    assert!(
        others
            .iter()
            .any(|lease| (&lease.job, &lease.task) == (&job, &failed.task))
    );
}

#[tokio::test]
async fn errors_wait_longer_each_time_and_the_fourth_is_the_last() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&[TaskKind::Index]).await;
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let other = worker.lease_one().await;
    worker.commit(&other).await.unwrap();
    for attempt in 1..=4 {
        let lease = worker.lease_one().await;
        assert_eq!(lease.attempt, attempt);
        worker
            .client
            .fail(&lease.task, lease.token, FailureClass::Retryable, "disk full")
            .await
            .unwrap();
        cluster.advance_ms(10_000);
    }
    assert!(worker.lease(1).await.is_empty());
    let dead = cluster.summary(&job).await.dead;
    assert_eq!(dead[0].message, "disk full");
}

#[tokio::test]
async fn a_recorded_checkpoint_goes_to_the_next_attempt() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let lease = worker.lease_one().await;
    let (state, objects) = checkpoint(&worker, 7).await;
    worker
        .client
        .record(&lease.task, lease.token, state.clone(), objects)
        .await
        .unwrap();
    worker.client.release(&lease.task, lease.token).await.unwrap();
    let again = worker.lease_one().await;
    assert_eq!(again.task, lease.task);
    assert_eq!(again.checkpoint, Some(state));
}

#[tokio::test]
async fn a_commit_of_what_is_not_in_the_store_is_refused_by_name() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let lease = worker.lease_one().await;
    let index = ContentHash::of(b"never written");
    let result = TaskResult::Index(IndexResult {
        index: index.clone(),
        frame_count: 1,
    });
    let refused = worker
        .client
        .commit(&lease.task, lease.token, &result, &[])
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused(m) if m.contains(index.as_str())),
        "{refused}"
    );
    let (result, mut objects) = fake::result(&worker.store, &lease.spec).await;
    objects[0].bytes += 1;
    let refused = worker
        .client
        .commit(&lease.task, lease.token, &result, &objects)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused(m) if m.contains("bytes in the store")),
        "{refused}"
    );
    worker.commit(&lease).await.unwrap();
}

#[tokio::test]
async fn a_result_of_another_kind_is_refused() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let lease = worker.lease_one().await;
    let result = TaskResult::Plan(remaster_domain::PlanResult { segments: vec![] });
    let refused = worker
        .client
        .commit(&lease.task, lease.token, &result, &[])
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused(m) if m.contains("`index`")),
        "{refused}"
    );
}

#[tokio::test]
async fn two_workers_never_hold_the_same_task() {
    let cluster = Cluster::start(DATABASE).await;
    let ids: Vec<String> = (0..20).map(|number| format!("e{number}")).collect();
    let episodes: Vec<_> = ids.iter().map(|id| (id.as_str(), true, true)).collect();
    cluster.submit(&season(Stage::Extract, &episodes)).await.unwrap();
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let worker = cluster.worker(&ALL).await;
        racers.spawn(async move {
            let mut held = vec![];
            loop {
                let leases = worker.lease(3).await;
                if leases.is_empty() {
                    return held;
                }
                held.extend(leases.into_iter().map(|lease| lease.task));
            }
        });
    }
    let all: Vec<_> = racers.join_all().await.concat();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (40, 40));
}

#[tokio::test]
async fn a_worker_gets_only_the_kinds_it_takes() {
    let cluster = Cluster::start(DATABASE).await;
    let trainer = cluster.worker(&[TaskKind::Train, TaskKind::Publish]).await;
    let extracts = ALL.iter().position(|kind| *kind == TaskKind::Train).unwrap();
    let worker = cluster.worker(&ALL[..extracts]).await;
    let job = cluster.submit(&small_season(Stage::All)).await.unwrap();
    assert!(trainer.lease(8).await.is_empty());
    worker.run(100).await;
    assert!(worker.lease(8).await.is_empty());
    assert_eq!(trainer.lease_one().await.spec.kind(), TaskKind::Train);
    assert_eq!(
        cluster.task(&job, "train").await.unwrap().worker_id,
        trainer.id.to_string()
    );
}

#[tokio::test]
async fn a_waiting_worker_is_woken_by_new_work() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let client = worker.client.clone();
    let poll = tokio::spawn(async move { client.lease(1, Duration::from_secs(25)).await });
    // Whether the poll comes before the job or after it, the answer must be the same and soon.
    tokio::task::yield_now().await;
    cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let grant = tokio::time::timeout(Duration::from_secs(10), poll)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(grant.leases.len(), 1);
}

#[tokio::test]
async fn a_session_that_is_not_known_must_register() {
    let cluster = Cluster::start(DATABASE).await;
    let session = SessionId::from_uuid(Uuid::now_v7());
    let stranger = LeaseClient::new(cluster.running.channel.clone(), session);
    let refused = stranger.lease(1, Duration::ZERO).await.unwrap_err();
    assert!(matches!(refused, ClientError::SessionUnknown(_)), "{refused}");
    let refused = stranger.heartbeat(vec![]).await.unwrap_err();
    assert!(matches!(refused, ClientError::SessionUnknown(_)), "{refused}");
}
