//! Workers that break whatever they get, and inputs that kill whoever reads them.

use std::collections::BTreeSet;

use remaster_domain::{LeaseProgress, Progress, Stage, TaskKind};
use remaster_proto::pb;

use super::DATABASE;
use crate::cluster::{Cluster, LEASE_MS, Worker};
use crate::fake::season;

const INDEX: [TaskKind; 1] = [TaskKind::Index];
/// Two tasks an episode.
const FOUR: [(&str, bool, bool); 4] = [
    ("e1", true, true),
    ("e2", true, true),
    ("e3", true, true),
    ("e4", true, true),
];

/// Lets every lease run out.
async fn lose_all(cluster: &Cluster) -> usize {
    cluster.advance_ms(i64::from(LEASE_MS));
    cluster.core().reap().await.unwrap()
}

async fn beat(worker: &Worker) {
    worker.client.heartbeat(vec![]).await.unwrap();
}

#[tokio::test]
async fn a_worker_whose_attempts_hang_one_after_the_other_rests() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&INDEX).await;
    cluster.submit(&season(Stage::Extract, &FOUR)).await.unwrap();
    for _ in 0..3 {
        let lease = worker.lease_one().await;
        // It lives, and says the same again and again.
        let still = || LeaseProgress {
            task: lease.task.clone(),
            token: lease.token,
            progress: Progress::default(),
        };
        let mut stalled = 0;
        while stalled == 0 {
            cluster.advance_ms(i64::from(LEASE_MS) - 1);
            worker.client.heartbeat(vec![still()]).await.unwrap();
            stalled = cluster.core().reap_stalled().await.unwrap();
        }
    }
    assert!(worker.lease(1).await.is_empty());
}

#[tokio::test]
async fn a_worker_that_fails_again_and_again_at_once_rests_and_the_others_do_the_work() {
    let cluster = Cluster::start(DATABASE).await;
    let broken = cluster.worker(&[TaskKind::Index]).await;
    let four = ["e1", "e2", "e3", "e4"].map(|id| (id, true, true));
    let job = cluster.submit(&season(Stage::Extract, &four)).await.unwrap();
    for _ in 0..5 {
        broken.fail(&broken.lease_one().await).await;
    }
    cluster.advance_ms(10_000);
    assert!(broken.lease(1).await.is_empty(), "it rests");
    let listed = cluster
        .jobs()
        .list_workers(pb::ListWorkersRequest {})
        .await
        .unwrap();
    assert_eq!(listed.into_inner().workers[0].state, "resting");
    let reason = cluster.summary(&job).await.waiting_reason;
    assert_eq!(
        reason,
        "1 workers take kind index, and rest after failing again and again"
    );
    let task = &cluster.job(&job).await.tasks[0];
    assert_eq!(task.waiting_reason, reason);

    let sound = cluster.worker(&[TaskKind::Index]).await;
    sound.commit(&sound.lease_one().await).await.unwrap();
    cluster.advance_ms(60_000);
    broken.client.heartbeat(vec![]).await.unwrap();
    let lease = broken.lease_one().await;
    broken.commit(&lease).await.unwrap();
    broken.fail(&broken.lease_one().await).await;
    cluster.advance_ms(10_000);
    assert_eq!(broken.lease(1).await.len(), 1, "what it did well is remembered");
}

#[tokio::test]
async fn a_worker_that_dies_of_whatever_it_gets_rests_in_its_next_life_and_what_it_lost_is_done_by_others() {
    let cluster = Cluster::start(DATABASE).await;
    let job = cluster.submit(&season(Stage::Extract, &FOUR)).await.unwrap();
    let mut broken = cluster.worker(&INDEX).await;
    for _ in 0..5 {
        assert_eq!(broken.lease(1).await.len(), 1);
        broken = cluster.reborn(&broken, &INDEX).await;
        assert_eq!(lose_all(&cluster).await, 1);
    }
    assert!(broken.lease(1).await.is_empty(), "it rests");
    broken = cluster.reborn(&broken, &INDEX).await;
    assert!(broken.lease(1).await.is_empty(), "in this life, too");
    assert_eq!(cluster.worker(&INDEX).await.run(100).await, 8);
    assert_eq!(cluster.summary(&job).await.dead, []);

    cluster.advance_ms(60_000);
    assert!(broken.lease(1).await.is_empty(), "nothing is left");
    cluster
        .submit(&season(Stage::Extract, &[("e5", true, true)]))
        .await
        .unwrap();
    assert_eq!(broken.run(1).await, 1, "it may try again");
    assert_eq!(broken.lease(1).await.len(), 1);
    broken = cluster.reborn(&broken, &INDEX).await;
    assert_eq!(lose_all(&cluster).await, 1);
    assert_eq!(broken.lease(1).await.len(), 1, "what it did well is remembered");
}

#[tokio::test]
async fn inputs_that_kill_every_worker_put_none_to_rest_and_die_within_their_budget() {
    let cluster = Cluster::start(DATABASE).await;
    let job = cluster.submit(&season(Stage::Extract, &FOUR)).await.unwrap();
    let mut workers = vec![];
    for _ in 0..4 {
        workers.push(cluster.worker(&INDEX).await);
    }
    let mut deaths = 0;
    while cluster.summary(&job).await.dead.len() < 8 {
        for worker in &mut workers {
            let taken = worker.lease(1).await.len();
            deaths += taken;
            if taken > 0 {
                *worker = cluster.reborn(worker, &INDEX).await;
            }
        }
        assert_ne!(
            lose_all(&cluster).await,
            0,
            "somebody was at work, after {deaths} deaths"
        );
    }
    assert_eq!(deaths, 8 * 8);
}

#[tokio::test]
async fn a_task_that_failed_twice_at_a_worker_waits_for_another_that_lives() {
    let cluster = Cluster::start(DATABASE).await;
    let (broken, sound) = (cluster.worker(&INDEX).await, cluster.worker(&INDEX).await);
    let trainer = cluster.worker(&[TaskKind::Train]).await;
    let job = cluster
        .submit(&season(Stage::Extract, &[("e1", true, true)]))
        .await
        .unwrap();
    let mut failed = BTreeSet::new();
    for _ in 0..4 {
        let lease = broken.lease_one().await;
        broken.fail(&lease).await;
        failed.insert(lease.task);
        cluster.advance_ms(10_000);
        beat(&sound).await;
        beat(&trainer).await;
    }
    assert_eq!(failed.len(), 2, "twice at each of the two");
    assert!(broken.lease(1).await.is_empty(), "not a third time");
    let tasks = cluster.job(&job).await.tasks;
    assert_eq!(
        tasks[0].waiting_reason,
        "2 workers take kind index: waiting for a free one; not again at 1 of them, where it failed"
    );
    let lease = sound.lease_one().await;
    assert!(failed.contains(&lease.task));
    sound.commit(&lease).await.unwrap();

    for (wait_ms, why, other) in [
        (
            2 * i64::from(LEASE_MS) + 1,
            "nobody else lives who takes it",
            None,
        ),
        (15 * 60_000, "nobody else came for it", Some(&sound)),
    ] {
        cluster.advance_ms(wait_ms);
        for worker in [&broken, &trainer].into_iter().chain(other) {
            beat(worker).await;
        }
        let lease = broken.lease_one().await;
        assert!(failed.contains(&lease.task), "{why}");
        broken.client.release(&lease.task, lease.token).await.unwrap();
        beat(&sound).await;
        assert!(
            broken.lease(1).await.is_empty(),
            "it is offered to others first again"
        );
    }
}

#[tokio::test]
async fn an_input_that_kills_its_worker_takes_no_other_task_with_it() {
    let cluster = Cluster::start(DATABASE).await;
    let job = cluster.submit(&season(Stage::Extract, &FOUR)).await.unwrap();
    let worker = cluster.worker(&INDEX).await;
    let mut poison = None;
    let mut last = vec![];
    for round in 0.. {
        let leases = worker.lease(4).await;
        let poison = poison.get_or_insert_with(|| leases[0].task.clone());
        if leases.iter().any(|lease| lease.task == *poison) {
            lose_all(&cluster).await;
        } else {
            for lease in &leases {
                worker.commit(lease).await.unwrap();
            }
        }
        let summary = cluster.summary(&job).await;
        if !summary.dead.is_empty() {
            last = summary.dead;
            break;
        }
        // The only worker there is may rest: nobody can tell it from the input.
        cluster.advance_ms(30 * 60_000);
        beat(&worker).await;
        if round == 1 {
            let tasks = cluster.job(&job).await.tasks;
            assert_eq!(
                tasks[0].waiting_reason,
                "1 workers take kind index: waiting for a free one; lost 2 times, so not beside another task that was"
            );
        }
        assert!(round < 100, "the poison dies at last");
    }
    assert_eq!(last.len(), 1, "the others live");
    assert_eq!(last[0].task_id, poison.unwrap().to_string());
    worker.run(100).await;
    let index = &cluster.summary(&job).await.kinds[0];
    assert_eq!((index.committed, index.dead), (7, 1));
}

#[tokio::test]
async fn free_slots_find_what_nobody_has_tried_behind_what_was_lost_too_often() {
    let cluster = Cluster::start(DATABASE).await;
    let ids: Vec<String> = (0..20).map(|number| format!("e{number}")).collect();
    let episodes: Vec<_> = ids.iter().map(|id| (id.as_str(), true, true)).collect();
    cluster.submit(&season(Stage::Extract, &episodes)).await.unwrap();
    let worker = cluster.worker(&INDEX).await;
    for _ in 0..2 {
        assert_eq!(
            worker.lease(20).await.len(),
            20,
            "a fleet that loses its power twice"
        );
        lose_all(&cluster).await;
    }
    let leases = worker.lease(4).await;
    let tried: Vec<_> = leases.iter().map(|lease| lease.attempt).collect();
    assert_eq!(tried, [3, 1, 1, 1]);
    assert_eq!(worker.lease(1).await[0].attempt, 1);
    worker.commit(&leases[0]).await.unwrap();
    assert_eq!(worker.lease(1).await[0].attempt, 3, "one at a time");
}

#[tokio::test]
async fn a_death_over_two_tasks_is_taken_back_once_and_other_failures_stay() {
    let cluster = Cluster::start(DATABASE).await;
    cluster.submit(&season(Stage::Extract, &FOUR)).await.unwrap();
    let (broken, other) = (cluster.worker(&INDEX).await, cluster.worker(&INDEX).await);
    for _ in 0..4 {
        broken.fail(&broken.lease_one().await).await;
    }
    assert_eq!(broken.lease(2).await.len(), 2);
    assert_eq!(lose_all(&cluster).await, 2);
    assert!(broken.lease(1).await.is_empty(), "four failures and a death");
    let tried: Vec<_> = other.lease(2).await.iter().map(|lease| lease.attempt).collect();
    assert_eq!(tried, [2, 2], "what was lost");
    assert_eq!(lose_all(&cluster).await, 2);
    let lease = broken.lease_one().await;
    broken.fail(&lease).await;
    assert!(broken.lease(1).await.is_empty(), "four failures and one more");
}
