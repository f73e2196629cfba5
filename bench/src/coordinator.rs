//! Lease + commit per second through real coordinator processes: loopback gRPC, fsync at every transaction; one coordinator
//! on SQLite, three on PostgreSQL.
//!
//! The workers are simulated: they lease `index` tasks, one at a time each, and commit an answer whose objects were put into
//! the store before, so what is measured is the protocol, the database and the coordinator's look at the store.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use remaster_domain::{
    Capabilities, ContentHash, Encoder, Episode, IndexResult, JobId, JobSpec, Lattice, ModelRef, Season,
    SessionId, SourceRef, Stage, TaskKind, TaskResult, UpscaleSettings, WorkerId,
};
use remaster_proto::{LeaseClient, MESSAGE_BYTES_MAX, PROTOCOL_VERSION, connect, pb, to_json};
use remaster_testkit::{CoordinatorOnly, PostgresServer};
use tonic::transport::Channel;
use uuid::Uuid;

/// Simulated workers.
const WORKERS: usize = 1_000;
/// Workers that share a connection: what is measured is not the making of a thousand sockets.
const WORKERS_PER_CONNECTION: usize = 20;
/// Coordinators on one PostgreSQL.
const COORDINATORS: usize = 3;
const EPISODES_PER_JOB: usize = 1000;
/// An episode has two discs to index.
const TASKS: usize = 2 * EPISODES_PER_JOB * JOBS;
/// Queued jobs.
const JOBS: usize = 50;
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(10);

/// One coordinator on SQLite.
pub(crate) fn run_sqlite() -> anyhow::Result<String> {
    measure_on("SQLite", CoordinatorOnly::start(30_000, 10_000)?)
}

/// Several equal coordinators on a PostgreSQL of their own.
pub(crate) fn run_postgres() -> anyhow::Result<String> {
    let server = PostgresServer::start()?;
    let three = CoordinatorOnly::start_on(&server.database()?, COORDINATORS, 30_000, 10_000)?;
    measure_on("PostgreSQL, 3 coordinators", three)
}

fn measure_on(database: &str, coordinator: CoordinatorOnly) -> anyhow::Result<String> {
    put_indexes(&coordinator.dir().join("store/indexes"))?;
    let others = coordinator.others.iter().map(|(url, _)| url.clone());
    let urls: Vec<String> = std::iter::once(coordinator.url.clone()).chain(others).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    let measured = runtime.block_on(measure(&urls))?;
    Ok(format!(
        "coordinator on {database}: {:.0} lease+commit/s ({} in {:.1} s; lease p50 {} ms, p99 {} ms; {WORKERS} simulated \
         workers, one task a lease and a commit, at most 512 requests a transaction, {TASKS} tasks queued, fsync on, loopback gRPC)",
        measured.waits_ms.len() as f64 / measured.seconds,
        measured.waits_ms.len(),
        measured.seconds,
        measured.percentile_ms(50),
        measured.percentile_ms(99),
    ))
}

/// What the workers saw.
struct Measured {
    /// How long each lease that brought a task took, sorted.
    waits_ms: Vec<u128>,
    seconds: f64,
}

impl Measured {
    fn percentile_ms(&self, percent: usize) -> u128 {
        let last = self.waits_ms.len().saturating_sub(1);
        self.waits_ms.get(last * percent / 100).copied().unwrap_or(0)
    }
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

async fn measure(urls: &[String]) -> anyhow::Result<Measured> {
    for job in 0..JOBS {
        submit(connect(&urls[job % urls.len()])?, job).await?;
    }
    let mut channels = vec![];
    for number in 0..WORKERS.div_ceil(WORKERS_PER_CONNECTION) {
        channels.push(connect(&urls[number % urls.len()])?);
    }
    let mut clients = vec![];
    for number in 0..WORKERS {
        clients.push(register(channels[number % channels.len()].clone(), number).await?);
    }
    let start = Instant::now();
    let workers: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(work(client, start)))
        .collect();
    let mut waits_ms = vec![];
    for worker in workers {
        waits_ms.extend(worker.await??);
    }
    waits_ms.sort_unstable();
    Ok(Measured {
        waits_ms,
        seconds: start.elapsed().as_secs_f64(),
    })
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
        pretrained: None,
        model: ModelRef::Channel("latest".to_owned()),
        settings: UpscaleSettings {
            encoder: Encoder::X264,
            ..UpscaleSettings::default()
        },
        needs: std::collections::BTreeMap::new(),
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

async fn register(channel: Channel, number: usize) -> anyhow::Result<LeaseClient> {
    let client = LeaseClient::new(channel, SessionId::from_uuid(Uuid::now_v7()));
    let capabilities = Capabilities {
        kinds: vec![TaskKind::Index],
        ..Capabilities::default()
    };
    let worker = WorkerId::from_uuid(Uuid::now_v7());
    client
        .register(&worker, &format!("simulated-{number}"), &capabilities)
        .await?;
    Ok(client)
}

/// Leases and commits until the time is over; answers how long each lease took.
async fn work(client: LeaseClient, start: Instant) -> anyhow::Result<Vec<u128>> {
    let mut waits_ms = vec![];
    while start.elapsed() < MEASURED {
        let asked = Instant::now();
        let leases = client.lease(1, Duration::from_secs(1)).await?.leases;
        for lease in leases {
            let waited_ms = asked.elapsed().as_millis();
            let result = TaskResult::Index(IndexResult {
                index: index(),
                frame_count: 1,
            });
            client
                .commit(&lease.task, lease.token, &result, &[])
                .await
                .context("commit refused")?;
            waits_ms.push(waited_ms);
        }
    }
    Ok(waits_ms)
}
