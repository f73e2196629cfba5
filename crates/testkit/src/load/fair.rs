//! How long a small job takes beside a large one, against its time alone.
//!
//! Promises: the workers are few, so that the jobs have to share them; both times are of the same workers and of tasks that
//! take equally long. Left to others: the turns themselves, which are the coordinator's.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use remaster_domain::{JobId, TaskKind};
use remaster_proto::pb::jobs_client::JobsClient;
use remaster_proto::{LeaseClient, MESSAGE_BYTES_MAX, connect, pb};
use tonic::transport::Channel;

use super::verdict::judge_small_job;
use super::{Measured, fleet};

/// Far fewer than either job has tasks.
const WORKERS: usize = 20;
/// How long each task takes: so long that what leasing costs does not count.
const WORK: Duration = Duration::from_millis(100);
/// How long the large job is alone before the small one comes.
const HEAD_START: Duration = Duration::from_secs(1);
const SMALL: usize = 100;
/// Of the large job.
const LARGE_EPISODES: usize = 20;
const LARGE: u32 = LARGE_EPISODES as u32 * fleet::SHARDS_PER_EPISODE;
/// Discs of all jobs: each has its own, since work that was done before is not done again.
pub(crate) const DISCS: usize = 2 * SMALL + 2 * LARGE_EPISODES;

/// Runs the small job alone and then another beside the large one; answers both times and their ratio.
pub(crate) async fn measure(urls: &[String]) -> anyhow::Result<Measured> {
    let clients = fleet::register_all(urls, WORKERS, &[TaskKind::Index, TaskKind::Extract]).await?;
    let large = large_job(urls).await?;
    let alone = small_job(urls, &clients, 0..SMALL).await?;
    control(urls, &large, "resume").await?;
    let beside = small_job(urls, &clients, SMALL..2 * SMALL).await?;
    let (alone, beside) = (alone.as_secs_f64(), beside.as_secs_f64());
    let times = beside / alone;
    let words = format!(
        "job of {SMALL} tasks beside one of {LARGE}, {WORKERS} workers, {} ms a task: alone {alone:.2} s, beside it \
         {beside:.2} s, {times:.2} times as long",
        WORK.as_millis(),
    );
    Ok(Measured {
        words,
        // The jobs are of the sizes that it is demanded of, whatever is queued in the other parts.
        verdicts: vec![judge_small_job(times)],
    })
}

/// Hands in a large job, does all of it but the extraction, and pauses it.
async fn large_job(urls: &[String]) -> anyhow::Result<JobId> {
    let job = fleet::new_job();
    fleet::submit(urls, &job, "large", 2 * SMALL..DISCS).await?;
    let makers = fleet::register_all(urls, 1, &[TaskKind::Index, TaskKind::Align]).await?;
    while let Some(lease) = makers[0].lease(1, Duration::ZERO).await?.leases.pop() {
        fleet::commit(&makers[0], &lease).await?;
    }
    control(urls, &job, "pause").await?;
    let request = pb::GetJobRequest {
        job_id: job.to_string(),
        ..pb::GetJobRequest::default()
    };
    let report = jobs(urls)?.get_job(request).await?.into_inner();
    let kinds = report.summary.context("a job without a summary")?.kinds;
    let ready = kinds.iter().find(|kind| kind.kind == TaskKind::Extract.as_str());
    let ready = ready.map_or(0, |kind| kind.ready);
    ensure!(ready == LARGE, "{ready} tasks of the large job are ready");
    Ok(job)
}

async fn control(urls: &[String], job: &JobId, action: &str) -> anyhow::Result<()> {
    let request = pb::ControlJobRequest {
        job_id: job.to_string(),
        action: action.to_owned(),
    };
    jobs(urls)?.control_job(request).await?;
    Ok(())
}

fn jobs(urls: &[String]) -> anyhow::Result<JobsClient<Channel>> {
    let channel = connect(urls.first().context("no coordinator")?)?;
    Ok(JobsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// Has everybody work, hands a small job in and answers how long it took.
async fn small_job(
    urls: &[String],
    clients: &[LeaseClient],
    discs: Range<usize>,
) -> anyhow::Result<Duration> {
    let job = fleet::new_job();
    let done = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = clients
        .iter()
        .map(|client| tokio::spawn(work(client.clone(), job.clone(), Arc::clone(&done))))
        .collect();
    tokio::time::sleep(HEAD_START).await;
    fleet::submit(urls, &job, &format!("small-{}", discs.start), discs).await?;
    let start = Instant::now();
    let mut end = start;
    for worker in workers {
        end = end.max(worker.await??);
    }
    Ok(end - start)
}

/// Works on whatever there is until the job is done; answers when it last handed something of it in.
async fn work(client: LeaseClient, job: JobId, done: Arc<AtomicUsize>) -> anyhow::Result<Instant> {
    let mut last = Instant::now();
    while done.load(Ordering::Relaxed) < SMALL {
        for lease in client.lease(1, Duration::from_millis(200)).await?.leases {
            tokio::time::sleep(WORK).await;
            fleet::commit(&client, &lease).await?;
            if lease.job == job {
                last = Instant::now();
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(last)
}
