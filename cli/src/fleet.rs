//! The fleet: `workers` and `drain`.

use remaster_domain::Capabilities;
use remaster_proto::{from_json, pb};
use serde::Serialize;

use crate::args::{ConnectArgs, DrainArgs};
use crate::client::{Coordinator, pick_one};
use crate::output::{OutputFormat, ago, now_ms, show, table};

/// A worker as scripts see it.
#[derive(Debug, Serialize)]
struct WorkerView {
    worker_id: String,
    name: String,
    state: String,
    leases: u32,
    seen_ms: i64,
    kinds: Vec<&'static str>,
    labels: std::collections::BTreeMap<String, String>,
}

impl From<pb::WorkerSummary> for WorkerView {
    fn from(worker: pb::WorkerSummary) -> Self {
        let capabilities: Capabilities =
            from_json("capabilities_json", &worker.capabilities_json).unwrap_or_default();
        Self {
            worker_id: worker.worker_id,
            name: worker.name,
            state: worker.state,
            leases: worker.leases,
            seen_ms: worker.seen_ms,
            kinds: capabilities.kinds.iter().map(|kind| kind.as_str()).collect(),
            labels: capabilities.labels,
        }
    }
}

/// `remaster workers`.
pub(crate) async fn workers(args: &ConnectArgs, format: OutputFormat) -> anyhow::Result<()> {
    let workers: Vec<WorkerView> = list(&Coordinator::open(args)?)
        .await?
        .into_iter()
        .map(Into::into)
        .collect();
    show(format, &workers, |workers| text(workers, now_ms()))
}

/// Every worker the coordinator knows.
pub(crate) async fn list(coordinator: &Coordinator) -> anyhow::Result<Vec<pb::WorkerSummary>> {
    let reply = coordinator
        .jobs
        .clone()
        .list_workers(pb::ListWorkersRequest {})
        .await;
    Ok(reply
        .map_err(|status| coordinator.failed(&status))?
        .into_inner()
        .workers)
}

fn text(workers: &[WorkerView], now_ms: i64) -> String {
    let row = |worker: &WorkerView| {
        let mut row = vec![
            worker.worker_id.clone(),
            worker.name.clone(),
            worker.state.clone(),
        ];
        row.extend([
            worker.leases.to_string(),
            ago(worker.seen_ms, now_ms),
            worker.kinds.join(","),
        ]);
        row
    };
    table(
        &["WORKER", "NAME", "STATE", "RUNNING", "SEEN", "TAKES"],
        &workers.iter().map(row).collect::<Vec<_>>(),
    )
}

/// What `drain` prints.
#[derive(Debug, Serialize)]
struct Drained {
    worker_id: String,
    state: &'static str,
}

/// `remaster drain`.
pub(crate) async fn drain(args: &DrainArgs, format: OutputFormat) -> anyhow::Result<()> {
    let coordinator = Coordinator::open(&args.connect)?;
    let workers = list(&coordinator).await?;
    let ids = workers.iter().map(|worker| worker.worker_id.as_str());
    let worker_id = pick_one("worker", ids, &args.worker, "`remaster workers` lists them")?.to_owned();
    let request = pb::DrainWorkerRequest {
        worker_id: worker_id.clone(),
    };
    coordinator
        .jobs
        .clone()
        .drain_worker(request)
        .await
        .map_err(|status| coordinator.failed(&status))?;
    let drained = Drained {
        worker_id,
        state: "draining",
    };
    show(format, &drained, |drained| {
        format!("{}  {}\n", drained.worker_id, drained.state)
    })
}
