//! Second attempts: who gets one and when, and that of two results one counts.

use remaster_domain::{Lease, LeaseProgress, Progress, Stage, TaskKind, Verdict};
use remaster_proto::{ClientError, pb};

use super::DATABASE;
use crate::cluster::{Cluster, LEASE_MS, Worker};
use crate::fake::{ALL, season};

const FOUR: [(&str, bool, bool); 4] = [
    ("e1", true, true),
    ("e2", true, true),
    ("e3", true, true),
    ("e4", true, true),
];

/// A job of which one index is left, which a slow worker has had for long; the others had theirs in no time.
struct Scene {
    cluster: Cluster,
    job: remaster_domain::JobId,
    slow: Worker,
    fast: Worker,
    lease: Lease,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start(DATABASE).await;
        let (slow, fast) = (
            cluster.worker(&[TaskKind::Index]).await,
            cluster.worker(&ALL).await,
        );
        let job = cluster.submit(&season(Stage::Extract, &FOUR)).await.unwrap();
        let lease = slow.lease_one().await;
        fast.run(100).await;
        let scene = Self {
            cluster,
            job,
            slow,
            fast,
            lease,
        };
        for _ in 0..8 {
            assert_eq!(scene.cluster.core().offer_stragglers().await.unwrap(), 0);
            assert!(
                scene.fast.lease(1).await.is_empty(),
                "there is nothing else to do"
            );
            scene.cluster.advance_ms(i64::from(LEASE_MS) / 2);
            assert_eq!(beat(&scene.slow, &scene.lease).await, Verdict::Renewed);
        }
        scene
    }

    /// The slow worker's task, leased a second time.
    async fn second(&self) -> Lease {
        assert_eq!(self.cluster.core().offer_stragglers().await.unwrap(), 1);
        assert_eq!(self.cluster.core().offer_stragglers().await.unwrap(), 0, "once");
        assert!(self.slow.lease(1).await.is_empty(), "it has the task already");
        let second = self.fast.lease_one().await;
        assert_eq!((&second.task, second.attempt), (&self.lease.task, 2));
        assert!(second.token > self.lease.token);
        second
    }

    async fn history(&self) -> Vec<(String, String)> {
        let tasks = self.cluster.job(&self.job).await.tasks;
        let task = tasks.iter().find(|task| task.task_id == self.lease.task.as_str());
        let request = pb::GetTaskHistoryRequest {
            job_id: self.job.to_string(),
            task_name: task.unwrap().name.clone(),
        };
        let history = self.cluster.jobs().get_task_history(request).await.unwrap();
        let entries = history.into_inner().entries.into_iter();
        entries.map(|entry| (entry.what, entry.detail)).collect()
    }

    async fn committed_indexes(&self) -> u32 {
        self.cluster.summary(&self.job).await.kinds[0].committed
    }
}

async fn beat(worker: &Worker, lease: &Lease) -> Verdict {
    beat_at(worker, lease, 1).await
}

async fn beat_at(worker: &Worker, lease: &Lease, done: u64) -> Verdict {
    let progress = LeaseProgress {
        task: lease.task.clone(),
        token: lease.token,
        progress: Progress {
            done,
            total: 10_000,
            note: "frames".to_owned(),
        },
    };
    let (verdicts, _) = worker.client.heartbeat(vec![progress]).await.unwrap();
    verdicts[0].2
}

fn is_stale(outcome: Result<(), ClientError>) -> bool {
    matches!(outcome, Err(ClientError::LeaseLost(_)))
}

#[tokio::test]
async fn what_takes_far_longer_than_the_others_is_done_a_second_time_and_the_late_one_is_refused() {
    let scene = Scene::new().await;
    let second = scene.second().await;
    assert_eq!(
        beat(&scene.slow, &scene.lease).await,
        Verdict::Renewed,
        "it goes on"
    );
    assert_eq!(beat(&scene.fast, &second).await, Verdict::Renewed);
    scene.fast.commit(&second).await.unwrap();
    assert_eq!(beat(&scene.slow, &scene.lease).await, Verdict::Lost);
    assert!(is_stale(scene.slow.commit(&scene.lease).await));
    assert_eq!(scene.committed_indexes().await, 8);
    let told: Vec<_> = scene.history().await.into_iter().map(|(what, _)| what).collect();
    for word in ["straggling", "outrun", "committed"] {
        assert_eq!(
            told.iter().filter(|what| *what == word).count(),
            1,
            "{word}: {told:?}"
        );
    }
    scene.fast.run(100).await;
    assert_eq!(scene.cluster.settle(&scene.job).await, "succeeded");
}

#[tokio::test]
async fn the_first_attempt_may_still_win_and_its_repeated_commit_is_answered() {
    let scene = Scene::new().await;
    let second = scene.second().await;
    scene.slow.commit(&scene.lease).await.unwrap();
    scene.slow.commit(&scene.lease).await.unwrap();
    assert_eq!(beat(&scene.fast, &second).await, Verdict::Lost);
    assert!(is_stale(scene.fast.commit(&second).await));
    assert_eq!(scene.committed_indexes().await, 8);
}

#[tokio::test]
async fn a_first_attempt_that_gets_further_goes_on_when_the_second_was_given_back() {
    let scene = Scene::new().await;
    let second = scene.second().await;
    scene
        .fast
        .client
        .release(&second.task, second.token)
        .await
        .unwrap();
    for done in 2..100 {
        scene.cluster.advance_ms(i64::from(LEASE_MS) - 1);
        assert_eq!(beat_at(&scene.slow, &scene.lease, done).await, Verdict::Renewed);
        assert_eq!(scene.cluster.core().reap_stalled().await.unwrap(), 0);
    }
    scene.slow.commit(&scene.lease).await.unwrap();
    assert_eq!(scene.committed_indexes().await, 8);
}

#[tokio::test]
async fn a_frozen_first_attempt_is_lost_and_the_second_counts() {
    let scene = Scene::new().await;
    let second = scene.second().await;
    scene.cluster.advance_ms(i64::from(LEASE_MS) - 1);
    assert_eq!(beat(&scene.fast, &second).await, Verdict::Renewed);
    scene.cluster.advance_ms(1);
    assert_eq!(scene.cluster.core().reap().await.unwrap(), 1);
    assert_eq!(scene.cluster.core().reap().await.unwrap(), 0);
    assert_eq!(beat(&scene.slow, &scene.lease).await, Verdict::Lost);
    assert_eq!(beat(&scene.fast, &second).await, Verdict::Renewed);
    scene.fast.commit(&second).await.unwrap();
    assert_eq!(scene.committed_indexes().await, 8);
}

#[tokio::test]
async fn a_job_that_is_cancelled_ends_both_attempts() {
    let scene = Scene::new().await;
    assert_eq!(scene.cluster.core().offer_stragglers().await.unwrap(), 1);
    let kinds = scene.cluster.summary(&scene.job).await.kinds;
    assert_eq!((kinds[0].ready, kinds[0].leased), (0, 1), "it waits for nobody");
    scene.cluster.control(&scene.job, "cancel").await.unwrap();
    assert_eq!(beat(&scene.slow, &scene.lease).await, Verdict::Cancel);
    assert!(is_stale(scene.slow.commit(&scene.lease).await));
    let told: Vec<_> = scene.history().await.into_iter().map(|(what, _)| what).collect();
    assert_eq!(
        told.iter().filter(|what| *what == "cancelled").count(),
        2,
        "{told:?}"
    );
}
