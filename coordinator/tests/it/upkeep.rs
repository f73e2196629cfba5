//! What keeps a week without anybody looking: late results, hung attempts, turns between jobs.

use remaster_coordinator::serve_http;
use remaster_domain::{Checkpoint, ContentHash, LeaseProgress, Progress, RunManifest, Stage, TaskKind};
use remaster_proto::{ClientError, pb};
use remaster_store::Key;
use tokio_util::sync::CancellationToken;

use super::DATABASE;
use crate::cluster::{Cluster, LEASE_MS, get};
use crate::fake::{ALL, season};

const ONE: [(&str, bool, bool); 1] = [("e1", true, true)];

#[tokio::test]
async fn a_result_that_comes_after_its_lease_counts_unless_somebody_else_was_given_the_task() {
    let cluster = Cluster::start(DATABASE).await;
    let (late, other) = (cluster.worker(&ALL).await, cluster.worker(&ALL).await);
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let (first, second) = (late.lease_one().await, late.lease_one().await);
    cluster.advance_ms(i64::from(LEASE_MS));
    assert_eq!(cluster.core().reap().await.unwrap(), 2);
    late.commit(&first).await.unwrap();
    let again = other.lease_one().await;
    assert_eq!(again.task, second.task, "the first is done");
    assert!(matches!(
        late.commit(&second).await,
        Err(ClientError::LeaseLost(_))
    ));
    other.commit(&again).await.unwrap();
    assert_eq!(cluster.summary(&job).await.kinds[0].committed, 2);
}

#[tokio::test]
async fn an_attempt_that_lives_and_gets_no_further_is_taken_away_and_charged() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&[TaskKind::Index]).await;
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let (hung, moving) = (worker.lease_one().await, worker.lease_one().await);
    let beat = |lease: &remaster_domain::Lease, done| LeaseProgress {
        task: lease.task.clone(),
        token: lease.token,
        progress: Progress {
            done,
            total: 10_000,
            note: "frames".to_owned(),
        },
    };
    for minute in 0..31 {
        let beats = vec![beat(&hung, 7), beat(&moving, minute)];
        worker.client.heartbeat(beats).await.unwrap();
        let stalled = cluster.core().reap_stalled().await.unwrap();
        assert_eq!(stalled, usize::from(minute == 30), "minute {minute}");
        cluster.advance_ms(60_000);
    }
    let tasks = cluster.job(&job).await.tasks;
    let task = |id: &str| tasks.iter().find(|task| task.task_id == id).unwrap();
    assert_eq!(
        task(hung.task.as_str()).message,
        "no progress for 1800 s, at 7 of 10000: frames"
    );
    assert_eq!(task(hung.task.as_str()).state, "ready");
    assert_eq!(task(moving.task.as_str()).state, "leased");
}

#[tokio::test]
async fn a_task_tells_who_tried_it_and_how_that_ended() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&[TaskKind::Index]).await;
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let first = worker.lease_one().await;
    cluster.advance_ms(1);
    worker.fail(&first).await;
    cluster.advance_ms(10_000);
    let (other, again) = (worker.lease_one().await, worker.lease_one().await);
    let again = [other, again]
        .into_iter()
        .find(|lease| lease.task == first.task)
        .unwrap();
    cluster.advance_ms(i64::from(LEASE_MS));
    assert_eq!(cluster.core().reap().await.unwrap(), 2);
    cluster.advance_ms(1);
    worker.commit(&again).await.unwrap();
    let tasks = cluster.job(&job).await.tasks;
    let task = tasks
        .iter()
        .find(|task| task.task_id == first.task.as_str())
        .unwrap();
    let request = |task_name: &str| pb::GetTaskHistoryRequest {
        job_id: job.to_string(),
        task_name: task_name.to_owned(),
    };
    let reply = cluster
        .jobs()
        .get_task_history(request(&task.name))
        .await
        .unwrap()
        .into_inner();
    let told: Vec<_> = reply
        .entries
        .iter()
        .map(|entry| (entry.what.as_str(), entry.detail.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("submitted", "extract"),
            ("leased", ""),
            ("failed", "disk full"),
            ("leased", ""),
            ("lost", ""),
            ("committed", "after its lease, and before another"),
        ]
    );
    assert_eq!(reply.entries[1].worker, "test");
    let unknown = cluster.jobs().get_task_history(request("index/none")).await;
    assert_eq!(unknown.unwrap_err().code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_small_job_ends_soon_beside_a_large_one_on_one_worker() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&[TaskKind::Index]).await;
    let ids: Vec<String> = (0..30).map(|number| format!("e{number}")).collect();
    let episodes: Vec<_> = ids.iter().map(|id| (id.as_str(), true, true)).collect();
    cluster.submit(&season(Stage::Extract, &episodes)).await.unwrap();
    worker.run(5).await;
    let small = season(Stage::Extract, &[("x1", true, true), ("x2", true, true)]);
    let small = cluster.submit(&small).await.unwrap();
    // Alone it takes 4 leases.
    worker.run(8).await;
    assert_eq!(cluster.summary(&small).await.kinds[0].committed, 4);
}

#[tokio::test]
async fn a_run_has_a_manifest_for_every_checkpoint_and_one_with_its_metrics() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&season(Stage::All, &ONE)).await.unwrap();
    let lease = loop {
        let lease = worker.lease_one().await;
        if lease.spec.kind() == TaskKind::Train {
            break lease;
        }
        worker.commit(&lease).await.unwrap();
    };
    let remaster_domain::TaskSpec::Train(spec) = &lease.spec else {
        panic!("not train")
    };
    let state = Checkpoint {
        sha256: ContentHash::of(b"state"),
        step: 7,
    };
    for key in [
        Key::checkpoint_state(&state.sha256),
        Key::checkpoint_tensors(&state.sha256),
    ] {
        worker.store.put_bytes(&key, "state".into()).await.unwrap();
    }
    for _ in 0..2 {
        // The repeat of a record makes nothing new.
        let record = worker
            .client
            .record(&lease.task, lease.token, state.clone(), vec![]);
        record.await.unwrap();
    }
    cluster.settle(&job).await;
    let read = async |number| {
        let key = Key::run_manifest(&spec.run, number);
        cluster.store.get_json::<RunManifest>(&key).await
    };
    let first = read(1).await.unwrap();
    assert_eq!((first.checkpoints, first.steps), (vec![state.clone()], None));
    assert!(read(2).await.is_err());
    worker.commit(&lease).await.unwrap();
    cluster.settle(&job).await;
    let last = read(2).await.unwrap();
    assert_eq!((last.checkpoints.len(), last.steps), (2, Some(9)));
    assert_eq!(
        (last.checkpoints[0].clone(), last.recipe),
        (state, spec.recipe.clone())
    );
}

#[tokio::test]
async fn machines_are_told_how_it_goes_over_plain_http() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    worker.commit(&worker.lease_one().await).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve_http(cluster.core(), listener, shutdown.clone()));
    for path in ["/healthz", "/readyz"] {
        let reply = get(address, path).await;
        assert!(
            reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\nok\n"),
            "{reply}"
        );
    }
    let metrics = get(address, "/metrics").await;
    for line in [
        "remaster_tasks{kind=\"index\",state=\"committed\"} 1",
        "remaster_tasks{kind=\"index\",state=\"ready\"} 1",
        "remaster_jobs{state=\"running\"} 1",
        "remaster_attempts_total{outcome=\"committed\"} 1",
        "remaster_workers 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in {metrics}"
        );
    }
    assert!(get(address, "/tasks").await.starts_with("HTTP/1.1 404 "));
    shutdown.cancel();
    server.await.unwrap();
}
