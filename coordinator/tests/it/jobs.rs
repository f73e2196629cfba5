//! What people do to jobs and workers, and what they are told.

use std::time::Duration;

use remaster_domain::{JobId, LeaseProgress, Progress, Stage, TaskKind, TaskSpec, Verdict};
use remaster_proto::{ClientError, PROTOCOL_VERSION, pb};
use tonic::Code;
use uuid::Uuid;

use super::DATABASE;
use crate::cluster::Cluster;
use crate::fake::{self, ALL, season, small_season};

const ONE: [(&str, bool, bool); 1] = [("e1", true, true)];

#[tokio::test]
async fn a_submit_is_the_same_job_when_repeated_and_refused_when_it_differs() {
    let cluster = Cluster::start(DATABASE).await;
    let id = JobId::from_uuid(Uuid::now_v7());
    let spec = small_season(Stage::All);
    cluster.submit_as(&id, &spec, 0).await.unwrap();
    cluster.submit_as(&id, &spec, 0).await.unwrap();
    assert_eq!(cluster.summary(&id).await.kinds[0].ready, 5);
    let refused = cluster
        .submit_as(&id, &season(Stage::All, &ONE), 0)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_season_that_leads_nowhere_is_refused_in_words() {
    let cluster = Cluster::start(DATABASE).await;
    let cases = [
        (
            season(Stage::All, &[("e1", true, false)]),
            Code::InvalidArgument,
            "nothing to learn from",
        ),
        (
            season(Stage::Upscale, &[("e1", false, true)]),
            Code::InvalidArgument,
            "nothing to upscale",
        ),
        (
            season(Stage::All, &[("e1", true, true), ("e1", true, false)]),
            Code::InvalidArgument,
            "used twice",
        ),
        (
            small_season(Stage::Train),
            Code::FailedPrecondition,
            "has no dataset",
        ),
        (
            small_season(Stage::Upscale),
            Code::FailedPrecondition,
            "no channel `latest`",
        ),
    ];
    for (spec, code, words) in cases {
        let refused = cluster.submit(&spec).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(words), "{refused}");
    }
    let jobs = cluster
        .jobs()
        .list_jobs(pb::ListJobsRequest { limit: 0 })
        .await
        .unwrap()
        .into_inner()
        .jobs;
    assert!(jobs.is_empty());
}

#[tokio::test]
async fn a_paused_job_gives_nothing_until_it_is_resumed() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&small_season(Stage::All)).await.unwrap();
    let held = worker.lease_one().await;
    assert_eq!(cluster.control(&job, "pause").await.unwrap().state, "paused");
    assert!(worker.lease(8).await.is_empty());
    let beat = LeaseProgress {
        task: held.task.clone(),
        token: held.token,
        progress: Progress::default(),
    };
    let (verdicts, _) = worker.client.heartbeat(vec![beat]).await.unwrap();
    assert_eq!(verdicts[0].2, Verdict::Pause);
    worker.commit(&held).await.unwrap();
    assert_eq!(cluster.summary(&job).await.waiting_reason, "the job is paused");
    assert_eq!(cluster.control(&job, "resume").await.unwrap().state, "running");
    worker.run(1_000).await;
    assert_eq!(cluster.settle(&job).await, "succeeded");
}

#[tokio::test]
async fn a_cancelled_job_stops_its_attempts_and_stays_cancelled() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&small_season(Stage::All)).await.unwrap();
    let held = worker.lease_one().await;
    assert_eq!(cluster.control(&job, "cancel").await.unwrap().state, "cancelled");
    let beat = LeaseProgress {
        task: held.task.clone(),
        token: held.token,
        progress: Progress::default(),
    };
    let (verdicts, _) = worker.client.heartbeat(vec![beat]).await.unwrap();
    assert_eq!(verdicts[0].2, Verdict::Cancel);
    assert!(worker.commit(&held).await.is_err());
    assert!(worker.lease(8).await.is_empty());
    for action in ["pause", "resume", "retry"] {
        let refused = cluster.control(&job, action).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{action}");
    }
    assert_eq!(
        cluster.control(&job, "cancel").await.unwrap().state,
        "cancelled",
        "doing it twice is no error"
    );
    assert_eq!(cluster.summary(&job).await.kinds[0].cancelled, 5);
}

#[tokio::test]
async fn higher_priority_goes_first_then_the_older_job_then_creation_order() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let old = cluster
        .submit(&season(Stage::Extract, &[("a", true, true)]))
        .await
        .unwrap();
    cluster.advance_ms(1);
    let new = cluster
        .submit(&season(Stage::Extract, &[("b", true, true)]))
        .await
        .unwrap();
    let order = |job: &JobId, leases: &[remaster_domain::Lease]| leases.iter().all(|lease| lease.job == *job);
    let first = worker.lease(1).await;
    assert!(order(&old, &first));
    let request = pb::SetPriorityRequest {
        job_id: new.to_string(),
        priority: 5,
    };
    cluster.jobs().set_priority(request).await.unwrap();
    let next = worker.lease(3).await;
    assert!(order(&new, &next[..2]) && order(&old, &next[2..]));
    let tasks = cluster.job(&new).await.tasks;
    let leased: Vec<_> = next[..2].iter().map(|lease| lease.task.to_string()).collect();
    assert_eq!(leased, [tasks[0].task_id.clone(), tasks[1].task_id.clone()]);
}

#[tokio::test]
async fn a_job_that_nobody_can_run_says_why() {
    let cluster = Cluster::start(DATABASE).await;
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    assert_eq!(
        cluster.summary(&job).await.waiting_reason,
        "no live worker takes kind index"
    );
    let worker = cluster.worker(&[TaskKind::Index]).await;
    assert_eq!(
        cluster.summary(&job).await.waiting_reason,
        "waiting for a free worker"
    );
    worker.lease_one().await;
    assert_eq!(cluster.summary(&job).await.waiting_reason, "");
}

#[tokio::test]
async fn a_task_goes_only_to_a_worker_that_has_what_it_needs_and_says_so_meanwhile() {
    let cluster = Cluster::start(DATABASE).await;
    let job = cluster.submit(&season(Stage::All, &ONE)).await.unwrap();
    let needy = [TaskKind::Plan, TaskKind::Upscale];
    let others: Vec<_> = ALL.into_iter().filter(|kind| !needy.contains(kind)).collect();
    cluster.worker(&others).await.run(100).await;
    let without = cluster
        .worker_with(&cluster.running, &needy, &["codec.prores"])
        .await;
    assert!(without.lease(8).await.is_empty());
    let reason = cluster.summary(&job).await.waiting_reason;
    assert!(reason.starts_with("needs codec."), "{reason}");
    assert!(
        reason.ends_with("none of the 1 live workers that take kind plan has it"),
        "{reason}"
    );
    let need = reason["needs ".len()..].split(':').next().unwrap();
    let with = cluster
        .worker_with(&cluster.running, &needy, &["codec.prores", need])
        .await;
    assert_eq!(with.lease(8).await.len(), 1);
}

#[tokio::test]
async fn what_a_season_asks_of_its_machines_is_compared_and_named_per_task() {
    let cluster = Cluster::start(DATABASE).await;
    let mut spec = season(Stage::Extract, &ONE);
    spec.season
        .needs
        .insert(TaskKind::Index, "mem_mib >= 8000".to_owned());
    let job = cluster.submit(&spec).await.unwrap();
    let small = cluster
        .worker_with(&cluster.running, &ALL, &["mem_mib=4000"])
        .await;
    assert!(small.lease(8).await.is_empty());
    let reason = &cluster.job(&job).await.tasks[0].waiting_reason;
    assert_eq!(
        reason,
        "needs mem_mib>=8000: none of the 1 live workers that take kind index has it"
    );
    let large = cluster
        .worker_with(&cluster.running, &ALL, &["mem_mib=16000"])
        .await;
    assert_eq!(large.lease(8).await.len(), 2);
}

#[tokio::test]
async fn a_worker_goes_on_with_the_sources_it_has_and_takes_the_others_all_the_same() {
    let cluster = Cluster::start(DATABASE).await;
    let two = [("e1", true, true), ("e2", true, true)];
    cluster.submit(&season(Stage::Extract, &two)).await.unwrap();
    let (first, second) = (cluster.worker(&ALL).await, cluster.worker(&ALL).await);
    // Indexing is in the order of the sources: one of them reads the discs of one episode, the other those of the next.
    let (of_first, of_second) = (first.lease(2).await, second.lease(2).await);
    for (worker, leases) in [(&first, of_first), (&second, of_second)] {
        for lease in &leases {
            worker.commit(lease).await.unwrap();
        }
    }
    let name = |lease: &remaster_domain::Lease| match &lease.spec {
        TaskSpec::Align(spec) => spec.episode.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(&second.lease_one().await), "e2");
    assert_eq!(
        name(&second.lease_one().await),
        "e1",
        "a preference keeps nobody waiting"
    );
}

#[tokio::test]
async fn a_source_that_a_worker_has_cached_comes_first() {
    let cluster = Cluster::start(DATABASE).await;
    let two = [("e1", true, true), ("e2", true, true)];
    cluster.submit(&season(Stage::Extract, &two)).await.unwrap();
    let disc = fake::source("e2.hd").sha256;
    let label = format!("source.{disc}");
    let worker = cluster
        .worker_with(&cluster.running, &ALL, &[label.as_str()])
        .await;
    let lease = worker.lease_one().await;
    assert!(
        matches!(&lease.spec, TaskSpec::Index(spec) if spec.source.sha256 == disc),
        "{lease:?}"
    );
    assert_eq!(worker.lease(8).await.len(), 3);
}

#[tokio::test]
async fn workers_of_the_version_before_are_served_and_others_are_told_what_to_install() {
    let cluster = Cluster::start(DATABASE).await;
    cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let older = cluster.worker_of(PROTOCOL_VERSION - 1).await.unwrap();
    let lease = older.lease_one().await;
    older.commit(&lease).await.unwrap();
    let refused = cluster.worker_of(PROTOCOL_VERSION + 1).await.err().unwrap();
    assert!(
        matches!(&refused, ClientError::Refused(text) if text.contains("upgrade the coordinator first")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_worker_of_the_version_before_is_not_given_what_it_would_pass_over() {
    let cluster = Cluster::start(DATABASE).await;
    let older = cluster.worker_of(PROTOCOL_VERSION - 1).await.unwrap();
    // One episode is on Blu-ray alone: its DVD is made, which came with this version.
    let spec = season(Stage::Extract, &[("e1", true, true), ("e2", false, true)]);
    let job = cluster.submit(&spec).await.unwrap();
    older.run(100).await;
    let waiting = cluster.job(&job).await.tasks;
    let waiting = waiting.iter().find(|task| task.state == "ready").unwrap();
    assert_eq!(waiting.kind, "press");
    let needs = format!("needs protocol>={PROTOCOL_VERSION}: none of the 1 live workers");
    assert!(
        waiting.waiting_reason.starts_with(&needs),
        "{}",
        waiting.waiting_reason
    );
    let newer = cluster.worker(&ALL).await;
    newer.run(100).await;
    assert_eq!(cluster.settle(&job).await, "succeeded");
}

#[tokio::test]
async fn a_drained_worker_is_told_so_and_a_silent_one_is_shown_as_gone() {
    let cluster = Cluster::start(DATABASE).await;
    let (worker, silent) = (cluster.worker(&ALL).await, cluster.worker(&ALL).await);
    cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    worker.lease_one().await;
    let request = pb::DrainWorkerRequest {
        worker_id: worker.id.to_string(),
    };
    cluster.jobs().drain_worker(request).await.unwrap();
    let grant = worker.client.lease(1, Duration::from_secs(20)).await.unwrap();
    assert!(grant.drain && grant.leases.is_empty());
    cluster.advance_ms(100_000);
    let (_, drain) = worker.client.heartbeat(vec![]).await.unwrap();
    assert!(drain);
    let workers = cluster
        .jobs()
        .list_workers(pb::ListWorkersRequest {})
        .await
        .unwrap()
        .into_inner()
        .workers;
    let state = |id: &str| {
        let row = workers.iter().find(|row| row.worker_id == id).unwrap();
        (row.state.as_str(), row.leases)
    };
    assert_eq!(state(worker.id.as_str()), ("draining", 1));
    assert_eq!(state(silent.id.as_str()), ("gone", 0));
}

#[tokio::test]
async fn a_watch_ends_with_the_final_state() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let request = pb::WatchJobRequest {
        job_id: job.to_string(),
    };
    let mut stream = cluster.jobs().watch_job(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().state, "running");
    worker.run(1_000).await;
    cluster.settle(&job).await;
    let mut last = None;
    while let Some(summary) = stream.message().await.unwrap() {
        last = Some(summary.state);
    }
    assert_eq!(last.as_deref(), Some("succeeded"));
    let unknown = pb::WatchJobRequest {
        job_id: Uuid::now_v7().to_string(),
    };
    assert_eq!(
        cluster.jobs().watch_job(unknown).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn shutdown_waits_for_no_stream_and_no_long_poll() {
    let mut cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&[TaskKind::Train]).await;
    let job = cluster.submit(&season(Stage::Extract, &ONE)).await.unwrap();
    let request = pb::WatchJobRequest {
        job_id: job.to_string(),
    };
    let mut stream = cluster.jobs().watch_job(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    let poll = tokio::spawn(async move { worker.client.lease(1, Duration::from_secs(30)).await });
    tokio::task::yield_now().await;
    cluster.running.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), &mut cluster.running.server).await;
    ended.expect("within the grace").unwrap().unwrap();
    assert!(
        stream.message().await.is_err(),
        "the watcher is told that this was not the end"
    );
    drop(poll.await.unwrap());
}

#[tokio::test]
async fn tasks_are_listed_in_pages_in_the_order_in_which_they_were_made() {
    let cluster = Cluster::start(DATABASE).await;
    let spec = small_season(Stage::All);
    let job = cluster.submit(&spec).await.unwrap();
    let all = cluster.job(&job).await.tasks;
    let mut listed = vec![];
    loop {
        let request = pb::GetJobRequest {
            job_id: job.to_string(),
            after_task_id: listed
                .last()
                .map_or_else(String::new, |task: &pb::TaskSummary| task.task_id.clone()),
            tasks_max: 2,
        };
        let page = cluster.jobs().get_job(request).await.unwrap().into_inner();
        assert_eq!(
            page.spec_json.is_empty(),
            !listed.is_empty(),
            "with the first only"
        );
        assert!(page.tasks.len() <= 2);
        listed.extend(page.tasks);
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, all);
    assert!(listed.len() > 2);
}
