//! Lease + commit per second through a real coordinator process: loopback gRPC, SQLite with fsync at every commit.
//!
//! The workers are simulated: they lease `index` tasks, one at a time each, and commit an answer whose objects were put into
//! the store before, so what is measured is the protocol, the database and the coordinator's look at the store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use remaster_domain::{
    Capabilities, ContentHash, Encoder, Episode, IndexResult, JobId, JobSpec, Lattice, ModelRef, Season,
    SessionId, SourceRef, Stage, TaskKind, TaskResult, UpscaleSettings, WorkerId,
};
use remaster_proto::{LeaseClient, MESSAGE_BYTES_MAX, PROTOCOL_VERSION, connect, pb, to_json};
use remaster_testkit::CoordinatorOnly;
use tonic::transport::Channel;
use uuid::Uuid;

/// Simulated workers.
const WORKERS: usize = 100;
/// Queued tasks: more than can be done in the time.
const EPISODES_PER_JOB: usize = 1000;
/// An episode has two discs to index.
const TASKS: usize = 2 * EPISODES_PER_JOB * JOBS;
const JOBS: usize = 10;
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(10);

/// Prints the figure.
pub(crate) fn run() -> anyhow::Result<String> {
    let coordinator = CoordinatorOnly::start(30_000, 10_000)?;
    put_indexes(&coordinator.dir().join("store/indexes"))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (done, seconds) = runtime.block_on(measure(&coordinator.url))?;
    let rate = done as f64 / seconds;
    Ok(format!(
        "coordinator: {rate:.0} lease+commit/s ({done} in {seconds:.1} s; {WORKERS} simulated workers, one task at a time each, \
         {} tasks queued, SQLite with fsync, loopback gRPC)",
        TASKS
    ))
}

/// The objects that the commits speak of, written straight into the folder that the store is.
fn put_indexes(indexes: &Path) -> anyhow::Result<()> {
    let index = index();
    for (job, disc) in (0..JOBS).flat_map(|job| (0..2 * EPISODES_PER_JOB).map(move |disc| (job, disc))) {
        let folder = indexes.join(source(job, disc).sha256.as_str()).join("v1");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{index}.json")), "{}")?;
        std::fs::write(folder.join(format!("{index}.thumbs")), "")?;
    }
    Ok(())
}

fn index() -> ContentHash {
    ContentHash::of(b"index")
}

async fn measure(url: &str) -> anyhow::Result<(u64, f64)> {
    let channel = connect(url)?;
    for job in 0..JOBS {
        submit(channel.clone(), job).await?;
    }
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let workers: Vec<_> = (0..WORKERS)
        .map(|n| tokio::spawn(work(url.to_owned(), n, start, Arc::clone(&done))))
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok((done.load(Ordering::Relaxed), start.elapsed().as_secs_f64()))
}

async fn submit(channel: Channel, job: usize) -> anyhow::Result<()> {
    let episodes = (0..EPISODES_PER_JOB).map(|n| Episode {
        id: format!("E{n}").parse().expect("a valid id"),
        sd: Some(source(job, 2 * n)),
        hd: Some(source(job, 2 * n + 1)),
    });
    let season = Season {
        name: format!("bench-{job}").parse()?,
        scale: 2,
        lattice: Lattice::SdNative,
        pairs_max: 10,
        recipe: "demo".to_owned(),
        seed: 0,
        model: ModelRef::Channel("latest".to_owned()),
        settings: UpscaleSettings {
            encoder: Encoder::X264,
            ..UpscaleSettings::default()
        },
        episodes: episodes.collect(),
    };
    let request = pb::SubmitJobRequest {
        protocol_version: PROTOCOL_VERSION,
        spec_json: to_json(&JobSpec {
            season,
            stage: Stage::Extract,
        }),
        priority: 0,
        job_id: JobId::from_uuid(Uuid::now_v7()).into(),
    };
    let mut jobs = pb::jobs_client::JobsClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX);
    // The coordinator may still be starting.
    let mut tries = 0;
    while let Err(status) = jobs.submit_job(request.clone()).await {
        tries += 1;
        anyhow::ensure!(tries < 100, "submit failed: {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn source(job: usize, episode: usize) -> SourceRef {
    let sha256 = ContentHash::of(format!("{job}/{episode}").as_bytes());
    SourceRef {
        sha256,
        bytes: 1,
        name: format!("{episode}.mkv"),
        path_hint: None,
    }
}

async fn work(url: String, number: usize, start: Instant, done: Arc<AtomicU64>) -> anyhow::Result<()> {
    let client = LeaseClient::new(connect(&url)?, SessionId::from_uuid(Uuid::now_v7()));
    let capabilities = Capabilities {
        kinds: vec![TaskKind::Index],
        ..Capabilities::default()
    };
    client
        .register(
            &WorkerId::from_uuid(Uuid::now_v7()),
            &format!("simulated-{number}"),
            &capabilities,
        )
        .await?;
    while start.elapsed() < MEASURED {
        for lease in client.lease(1, Duration::from_secs(1)).await?.leases {
            let result = TaskResult::Index(IndexResult {
                index: index(),
                frame_count: 1,
            });
            client
                .commit(&lease.task, lease.token, &result, &[])
                .await
                .context("commit refused")?;
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
