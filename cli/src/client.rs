//! One way to the coordinator and to the store, with errors that say what to do.

use std::path::Path;

use remaster_domain::JobId;
use remaster_proto::pb::catalog_client::CatalogClient;
use remaster_proto::pb::jobs_client::JobsClient;
use remaster_proto::{MESSAGE_BYTES_MAX, pb};
use remaster_service::CliError;
use remaster_store::{Store, StoreError, folder_url};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::args::{ConnectArgs, StoreArgs};

/// Jobs looked through for a prefix: more than anybody keeps.
const JOBS_MAX: u32 = 10_000;
/// Tasks asked for in one call; the coordinator may answer fewer.
const TASKS_AT_ONCE: u32 = 1_000;
/// Where `remaster up` keeps the store unless told otherwise.
const STORE_DEFAULT: &str = "./remaster-data/store";

/// The coordinator's two services for people.
#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    pub(crate) jobs: JobsClient<Channel>,
    pub(crate) catalog: CatalogClient<Channel>,
    url: String,
}

impl Coordinator {
    /// Opens the way; the first call finds out whether anybody is there.
    pub(crate) fn open(args: &ConnectArgs) -> Result<Self, CliError> {
        let channel = remaster_proto::connect(&args.coordinator).map_err(|error| {
            CliError::usage(error.to_string())
                .with_hint("write http://HOST:PORT, for example http://127.0.0.1:7700")
        })?;
        let limit = MESSAGE_BYTES_MAX;
        Ok(Self {
            jobs: JobsClient::new(channel.clone())
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit),
            catalog: CatalogClient::new(channel).max_decoding_message_size(limit),
            url: args.coordinator.clone(),
        })
    }

    /// A job with all of its tasks and its spec. Asked for in pages: the results of thousands of tasks fit no message.
    pub(crate) async fn get_job(&self, id: &str) -> anyhow::Result<pb::GetJobResponse> {
        let mut job = self.get_page(id, String::new()).await?;
        while let (true, Some(last)) = (job.more, job.tasks.last()) {
            let next = self.get_page(id, last.task_id.clone()).await?;
            job.tasks.extend(next.tasks);
            (job.summary, job.more) = (next.summary, next.more);
        }
        Ok(job)
    }

    async fn get_page(&self, id: &str, after_task_id: String) -> anyhow::Result<pb::GetJobResponse> {
        let request = pb::GetJobRequest {
            job_id: id.to_owned(),
            after_task_id,
            tasks_max: TASKS_AT_ONCE,
        };
        let reply = self.jobs.clone().get_job(request).await;
        Ok(reply.map_err(|status| self.failed(&status))?.into_inner())
    }

    /// What a failed call means to a person.
    pub(crate) fn failed(&self, status: &Status) -> CliError {
        let message = status.message();
        match status.code() {
            Code::InvalidArgument | Code::NotFound => CliError::usage(message),
            Code::FailedPrecondition | Code::AlreadyExists | Code::PermissionDenied => {
                CliError::failed(message)
            }
            Code::Unimplemented => {
                CliError::failed(format!("the coordinator at {} does not know this call", self.url))
                    .with_hint("coordinator and command must be of the same version")
            }
            _ => CliError::failed(format!("coordinator {} cannot be reached: {message}", self.url))
                .with_hint("start one with `remaster up`, or name another with --coordinator URL"),
        }
    }

    /// The job that was meant: an id, the start of one, or the newest.
    pub(crate) async fn resolve_job(&self, given: Option<&str>) -> Result<String, CliError> {
        if let Some(id) = given.and_then(|text| text.parse::<JobId>().ok()) {
            return Ok(id.to_string());
        }
        let jobs = self.list_jobs().await?;
        let ids: Vec<_> = jobs
            .iter()
            .map(|job| (job.job_id.as_str(), job.created_ms))
            .collect();
        pick_job(&ids, given).map(str::to_owned)
    }

    /// All jobs, newest first.
    pub(crate) async fn list_jobs(&self) -> Result<Vec<pb::JobSummary>, CliError> {
        let request = pb::ListJobsRequest { limit: JOBS_MAX };
        let reply = self
            .jobs
            .clone()
            .list_jobs(request)
            .await
            .map_err(|status| self.failed(&status))?;
        let mut jobs = reply.into_inner().jobs;
        jobs.sort_by_key(|job| std::cmp::Reverse((job.created_ms, job.job_id.clone())));
        Ok(jobs)
    }
}

fn pick_job<'a>(jobs: &[(&'a str, i64)], given: Option<&str>) -> Result<&'a str, CliError> {
    let Some(prefix) = given else {
        let newest = jobs.iter().max_by_key(|(id, created_ms)| (*created_ms, *id));
        return newest.map(|(id, _)| *id).ok_or_else(|| {
            CliError::usage("there is no job yet")
                .with_hint("hand in a season with `remaster submit season.toml`")
        });
    };
    pick_one(
        "job",
        jobs.iter().map(|(id, _)| *id),
        prefix,
        "`remaster status --all` lists the jobs",
    )
}

/// The one id that is or starts with `prefix`.
pub(crate) fn pick_one<'a>(
    kind: &str,
    ids: impl Iterator<Item = &'a str>,
    prefix: &str,
    hint: &str,
) -> Result<&'a str, CliError> {
    let mut found: Vec<_> = ids.filter(|id| id.starts_with(prefix)).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(CliError::usage(format!("no {kind} `{prefix}`")).with_hint(hint)),
        several => Err(
            CliError::usage(format!("`{prefix}` is the start of {} {kind} ids", several.len()))
                .with_hint(format!("give more of it, for example {}", several[0])),
        ),
    }
}

/// Opens the store that was named, or the one beside us.
pub(crate) fn open_store(args: &StoreArgs) -> Result<Store, CliError> {
    Store::open(&store_url(args)?).map_err(store_failed)
}

/// The URL of the store that was named, or of the one beside us.
pub(crate) fn store_url(args: &StoreArgs) -> Result<String, CliError> {
    match &args.store {
        Some(url) => Ok(url.clone()),
        None => default_store(Path::new(STORE_DEFAULT)),
    }
}

fn default_store(folder: &Path) -> Result<String, CliError> {
    let url = folder.canonicalize().and_then(|path| folder_url(&path));
    match url {
        Ok(url) => Ok(url),
        Err(_) => Err(CliError::usage(format!(
            "no store was named and there is none at {}",
            folder.display()
        ))
        .with_hint("name it with --store file:///DIR or --store s3://BUCKET/PREFIX")),
    }
}

/// What a failed store operation means to a person.
#[expect(clippy::needless_pass_by_value, reason = "used as `map_err(store_failed)`")]
pub(crate) fn store_failed(error: StoreError) -> CliError {
    let message = error.to_string();
    match error {
        StoreError::Url { .. } => CliError::usage(message).with_hint("use file:///DIR or s3://BUCKET/PREFIX"),
        StoreError::Unavailable { .. } => CliError::failed(message)
            .with_hint("check the URL, and for s3:// the AWS_* variables: endpoint, keys, region"),
        StoreError::NotFound { .. } => CliError::failed(message)
            .with_hint("check that --store names the store the coordinator works with"),
        _ => CliError::failed(message),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_newest_job_is_meant_where_none_is_named() {
        assert_eq!(pick_job(&[("a", 3), ("b", 9), ("c", 5)], None).unwrap(), "b");
        assert!(pick_job(&[], None).unwrap_err().message.contains("no job yet"));
    }

    #[test]
    fn a_prefix_must_mean_one() {
        let jobs = [("0198-aa", 1), ("0198-ab", 2)];
        assert_eq!(pick_job(&jobs, Some("0198-ab")).unwrap(), "0198-ab");
        assert_eq!(
            pick_job(&jobs, Some("0198")).unwrap_err().message,
            "`0198` is the start of 2 job ids"
        );
        assert_eq!(pick_job(&jobs, Some("7")).unwrap_err().message, "no job `7`");
    }
}
