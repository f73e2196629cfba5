//! `status JOB --task NAME`: what has happened to one task, by whom and why.

use remaster_proto::pb;
use serde::Serialize;

use crate::client::Coordinator;
use crate::output::{OutputFormat, ago, now_ms, show, table};

/// Something that happened, as scripts see it.
#[derive(Debug, Serialize)]
struct EntryView {
    at_ms: i64,
    what: String,
    worker: String,
    detail: String,
}

/// Shows the history of a task, oldest first.
pub(crate) async fn show_task(
    coordinator: &Coordinator,
    job_id: &str,
    name: &str,
    format: OutputFormat,
) -> anyhow::Result<()> {
    let request = pb::GetTaskHistoryRequest {
        job_id: job_id.to_owned(),
        task_name: name.to_owned(),
    };
    let reply = coordinator.jobs.clone().get_task_history(request).await;
    let reply = reply.map_err(|status| coordinator.failed(&status))?.into_inner();
    let entries = reply.entries.into_iter().map(|entry| EntryView {
        at_ms: entry.at_ms,
        what: entry.what,
        worker: entry.worker,
        detail: entry.detail,
    });
    let entries: Vec<_> = entries.collect();
    show(format, &entries, |entries| text(entries, now_ms()))
}

fn text(entries: &[EntryView], now_ms: i64) -> String {
    let row = |entry: &EntryView| {
        let mut row = vec![ago(entry.at_ms, now_ms)];
        row.extend([&entry.what, &entry.worker, &entry.detail].map(Clone::clone));
        row
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    table(&["WHEN", "WHAT", "WORKER", "DETAIL"], &rows)
}
