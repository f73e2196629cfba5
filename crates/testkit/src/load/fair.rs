//! How long a small job takes beside a large one, against its time alone.
//!
//! Promises: the workers are few, so that the jobs have to share them; both times are of the same workers and of tasks that
//! take equally long. Left to others: the turns themselves, which are the coordinator's.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use remaster_domain::JobId;
use remaster_proto::LeaseClient;

use super::fleet;

/// Far fewer than either job has tasks.
const WORKERS: usize = 20;
/// How long each task takes: so long that what leasing costs does not count.
const WORK: Duration = Duration::from_millis(100);
/// How long the large job is alone before the small one comes.
const HEAD_START: Duration = Duration::from_secs(1);
const SMALL: usize = 100;
/// The most that one season begins with.
const LARGE: usize = fleet::TASKS_PER_JOB;
/// Discs of all jobs: each has its own, since work that was done before is not done again.
pub(crate) const DISCS: usize = 2 * SMALL + LARGE;

/// Runs the small job alone and then another beside the large one; answers both times and their ratio in words.
pub(crate) async fn measure(urls: &[String]) -> anyhow::Result<String> {
    let clients = fleet::register_all(urls, WORKERS).await?;
    let alone = small_job(urls, &clients, 0..SMALL).await?;
    fleet::submit(urls, &fleet::new_job(), "large", 2 * SMALL..DISCS).await?;
    let beside = small_job(urls, &clients, SMALL..2 * SMALL).await?;
    Ok(format!(
        "job of {SMALL} tasks beside one of {LARGE}, {WORKERS} workers, {} ms a task: alone {:.2} s, beside it {:.2} s, {:.2} \
         times as long",
        WORK.as_millis(),
        alone.as_secs_f64(),
        beside.as_secs_f64(),
        beside.as_secs_f64() / alone.as_secs_f64(),
    ))
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
