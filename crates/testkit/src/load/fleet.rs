//! The simulated workers of the load figure and the jobs that they work on.
//!
//! They lease tasks, one at a time each, and commit an answer whose objects were put into the store before, so what is measured
//! is the protocol, the database and the coordinator's look at the store. Left to others: the processes measured.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use remaster_domain::{
    AlignResult, Capabilities, ContentHash, Encoder, Episode, ExtractResult, IndexResult, JobId, JobSpec,
    Lattice, Lease, ModelRef, PairChoice, Season, SessionId, ShardFrames, SourceRef, Stage, TaskKind,
    TaskResult, TaskSpec, UpscaleSettings, WorkerId,
};
use remaster_proto::{LeaseClient, MESSAGE_BYTES_MAX, PROTOCOL_VERSION, connect, pb, to_json};
use tonic::transport::Channel;
use uuid::Uuid;

use crate::chaos::alignment;

/// Simulated workers.
pub(crate) const WORKERS: usize = 1_000;
/// Workers that share a connection: what is measured is not the making of a thousand sockets.
const WORKERS_PER_CONNECTION: usize = 20;
/// An episode has two discs to index.
const TASKS_PER_EPISODE: usize = 2;
/// Shards that an aligned episode is extracted in; twice as many would not fit one result.
pub(crate) const SHARDS_PER_EPISODE: u32 = 500;
/// What a season of the most episodes that fit one job begins with.
pub(crate) const TASKS_PER_JOB: usize = 1_000 * TASKS_PER_EPISODE;

/// What the workers saw.
pub(crate) struct Seen {
    /// How long each lease that brought a task took, sorted.
    pub(crate) waits_ms: Vec<u128>,
    pub(crate) seconds: f64,
}

impl Seen {
    pub(crate) fn per_second(&self) -> f64 {
        self.waits_ms.len() as f64 / self.seconds
    }

    pub(crate) fn percentile_ms(&self, percent: usize) -> u128 {
        let last = self.waits_ms.len().saturating_sub(1);
        self.waits_ms.get(last * percent / 100).copied().unwrap_or(0)
    }
}

/// The objects that the commits speak of, of as many discs, written straight into the folder that the store is.
pub(crate) fn put_indexes(indexes: &Path, discs: usize) -> anyhow::Result<()> {
    let index = index();
    for disc in 0..discs {
        let folder = indexes.join(source(disc).sha256.as_str()).join("v1");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{index}.json")), "{}")?;
        std::fs::write(folder.join(format!("{index}.thumbs")), "")?;
    }
    Ok(())
}

fn index() -> ContentHash {
    ContentHash::of(b"index")
}

/// Queues the jobs; answers how many tasks they have. All have the same discs: a folder in the store for each of a million
/// tasks would keep the disk busy with itself while it is measured.
pub(crate) async fn submit_all(urls: &[String], tasks: usize) -> anyhow::Result<usize> {
    let jobs = tasks.div_ceil(TASKS_PER_JOB);
    for job in 0..jobs {
        submit(urls, &new_job(), &format!("bench-{job}"), 0..TASKS_PER_JOB).await?;
    }
    Ok(jobs * TASKS_PER_JOB)
}

/// A name for a job to be handed in.
pub(crate) fn new_job() -> JobId {
    JobId::from_uuid(Uuid::now_v7())
}

/// Makes workers of some kinds known.
pub(crate) async fn register_all(
    urls: &[String],
    workers: usize,
    kinds: &[TaskKind],
) -> anyhow::Result<Vec<LeaseClient>> {
    let mut channels = vec![];
    for number in 0..workers.div_ceil(WORKERS_PER_CONNECTION) {
        channels.push(connect(&urls[number % urls.len()])?);
    }
    let mut clients = vec![];
    for number in 0..workers {
        let channel = channels[number % channels.len()].clone();
        clients.push(register(channel, number, kinds).await?);
    }
    Ok(clients)
}

/// Has all work for a while: as fast as they can, or each once in `every`, spread evenly.
pub(crate) async fn work_all(
    clients: &[LeaseClient],
    lasts: Duration,
    every: Option<Duration>,
) -> anyhow::Result<Seen> {
    let start = Instant::now();
    let workers: Vec<_> = (0_u32..)
        .zip(clients.iter().cloned())
        .map(|(number, client)| {
            let first = every.unwrap_or_default() * number / u32::try_from(WORKERS).expect("a few");
            tokio::spawn(work(client, start + lasts, start + first, every))
        })
        .collect();
    let mut waits_ms = vec![];
    for worker in workers {
        waits_ms.extend(worker.await??);
    }
    waits_ms.sort_unstable();
    Ok(Seen {
        waits_ms,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Hands in a job that has an index to make of each of some discs, of which two are an episode.
pub(crate) async fn submit(
    urls: &[String],
    job: &JobId,
    name: &str,
    discs: Range<usize>,
) -> anyhow::Result<()> {
    let episodes = discs.step_by(TASKS_PER_EPISODE).map(|disc| Episode {
        id: format!("E{disc}").parse().expect("a valid id"),
        sd: Some(source(disc)),
        hd: Some(source(disc + 1)),
    });
    let season = Season {
        name: name.parse()?,
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
        job_id: job.clone().into(),
    };
    let channel = connect(urls.first().context("no coordinator")?)?;
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

fn source(disc: usize) -> SourceRef {
    SourceRef {
        sha256: ContentHash::of(format!("disc {disc}").as_bytes()),
        bytes: 1,
        name: format!("{disc}.mkv"),
        path_hint: None,
    }
}

async fn register(channel: Channel, number: usize, kinds: &[TaskKind]) -> anyhow::Result<LeaseClient> {
    let client = LeaseClient::new(channel, SessionId::from_uuid(Uuid::now_v7()));
    let capabilities = Capabilities {
        kinds: kinds.to_vec(),
        ..Capabilities::default()
    };
    let worker = WorkerId::from_uuid(Uuid::now_v7());
    client
        .register(&worker, &format!("simulated-{number}"), &capabilities)
        .await?;
    Ok(client)
}

/// Leases and commits until the time is over; answers how long each lease took.
async fn work(
    client: LeaseClient,
    end: Instant,
    mut next: Instant,
    every: Option<Duration>,
) -> anyhow::Result<Vec<u128>> {
    let mut waits_ms = vec![];
    while next.max(Instant::now()) < end {
        if let Some(every) = every {
            tokio::time::sleep_until(next.into()).await;
            next += every;
        }
        let asked = Instant::now();
        let leases = client.lease(1, Duration::from_secs(1)).await?.leases;
        let waited_ms = asked.elapsed().as_millis();
        for lease in leases {
            commit(&client, &lease).await?;
            waits_ms.push(waited_ms);
        }
    }
    Ok(waits_ms)
}

/// Hands in what a task asks for.
pub(crate) async fn commit(client: &LeaseClient, lease: &Lease) -> anyhow::Result<()> {
    let result = match &lease.spec {
        TaskSpec::Align(_) => TaskResult::Align(AlignResult {
            alignment: alignment(),
            shards: (0..SHARDS_PER_EPISODE).map(shard).collect(),
        }),
        TaskSpec::Extract(_) => TaskResult::Extract(ExtractResult {
            shard: None,
            rejected: std::collections::BTreeMap::new(),
        }),
        _ => TaskResult::Index(IndexResult {
            index: index(),
            frame_count: 1,
        }),
    };
    let committed = client.commit(&lease.task, lease.token, &result, &[]);
    committed.await.context("commit refused")
}

/// Of a frame, since what has none is not extracted.
fn shard(number: u32) -> ShardFrames {
    let frame = PairChoice {
        sd: 0,
        hd: 0,
        shot: 0,
        segment: 0,
    };
    ShardFrames {
        number,
        frames: vec![frame],
    }
}
