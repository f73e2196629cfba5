//! A cluster of real processes on this machine: each can be killed and started again, each writes its own log.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use remaster_proto::{MESSAGE_BYTES_MAX, connect, pb};
use tempfile::TempDir;

use crate::S3Server;
use crate::process::{Process, binary, free_port, wait_until, words};

/// Database of a coordinator, in its working directory.
const SQLITE_FILE: &str = "coordinator.db";

/// Where the store of a cluster is.
#[derive(Debug)]
pub enum StoreAt {
    /// A folder that all processes share.
    Folder,
    /// An S3 server in this process; workers share nothing else.
    S3(S3Server),
}

/// What to start.
#[derive(Debug)]
pub struct ClusterConfig {
    /// Worker processes.
    pub workers: usize,
    /// Where the store is.
    pub store: StoreAt,
    /// Length of a lease.
    pub lease_ms: u32,
    /// Time between heartbeats.
    pub heartbeat_ms: u32,
}

/// A running cluster; everything is killed and removed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The coordinator.
    pub coordinator: Process,
    /// The workers.
    pub workers: Vec<Process>,
    /// The trainer.
    pub trainer: Process,
    /// URL of the coordinator.
    pub url: String,
    /// URL of the store.
    pub store_url: String,
    /// `AWS_*` settings of the store.
    pub settings: Vec<(String, String)>,
    dir: TempDir,
    joins: String,
    _store: StoreAt,
}

/// A coordinator alone, for clients that simulate workers.
#[derive(Debug)]
pub struct CoordinatorOnly {
    /// URL of the coordinator.
    pub url: String,
    /// The coordinator.
    pub coordinator: Process,
    /// URLs and processes of the further ones on the same database.
    pub others: Vec<(String, Process)>,
    dir: TempDir,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; -1 when killed by a signal.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl CoordinatorOnly {
    /// Starts a coordinator with a folder as its store.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(lease_ms: u32, heartbeat_ms: u32) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (url, coordinator) =
            launch_coordinator(dir.path(), "coordinator", SQLITE_FILE, lease_ms, heartbeat_ms)?;
        Ok(Self {
            url,
            coordinator,
            others: Vec::new(),
            dir,
        })
    }

    /// Starts several coordinators on one database server, with a folder as their store.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start_on(database: &str, count: usize, lease_ms: u32, heartbeat_ms: u32) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let launch = |number: usize| {
            let name = format!("coordinator-{number}");
            launch_coordinator(dir.path(), &name, database, lease_ms, heartbeat_ms)
        };
        let (url, coordinator) = launch(0)?;
        let others = (1..count).map(launch).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            url,
            coordinator,
            others,
            dir,
        })
    }

    /// The folder that goes with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn launch_coordinator(
    dir: &Path,
    name: &str,
    database: &str,
    lease_ms: u32,
    heartbeat_ms: u32,
) -> anyhow::Result<(String, Process)> {
    let store_url = format!("file://{}/store", dir.display());
    let address = format!("127.0.0.1:{}", free_port()?);
    let arguments = serve(&store_url, database, &address, lease_ms, heartbeat_ms);
    let process = Process::launch(dir, name, "remaster-coordinator", arguments, Vec::new())?;
    Ok((format!("http://{address}"), process))
}

impl Cluster {
    /// Starts coordinator, workers and trainer, each in a working directory of its own.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn start(config: ClusterConfig) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (store_url, settings) = match &config.store {
            StoreAt::Folder => (format!("file://{}/store", dir.path().display()), Vec::new()),
            StoreAt::S3(server) => (server.url("cluster"), server.settings()),
        };
        let address = format!("127.0.0.1:{}", free_port()?);
        let url = format!("http://{address}");
        let launch = |name: &str, program: &str, arguments| {
            Process::launch(dir.path(), name, program, arguments, settings.clone())
        };
        let serve = serve(
            &store_url,
            SQLITE_FILE,
            &address,
            config.lease_ms,
            config.heartbeat_ms,
        );
        let coordinator = launch("coordinator", "remaster-coordinator", serve)?;
        let joins = format!("run --coordinator {url} --store {store_url} --threads 1");
        let trainer = launch("trainer", "remaster-trainer", words(&joins))?;
        let mut cluster = Self {
            coordinator,
            workers: Vec::new(),
            trainer,
            url,
            store_url,
            settings,
            dir,
            joins,
            _store: config.store,
        };
        for _ in 0..config.workers {
            cluster.add_worker()?;
        }
        Ok(cluster)
    }

    /// Starts one more worker, with a working directory and a cache of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn add_worker(&mut self) -> anyhow::Result<()> {
        let name = format!("worker-{}", self.workers.len());
        let arguments = words(&format!("{} --cache cache", self.joins));
        let settings = self.settings.clone();
        self.workers.push(Process::launch(
            self.dir.path(),
            &name,
            "remaster-worker",
            arguments,
            settings,
        )?);
        Ok(())
    }

    /// Runs `remaster` against this cluster.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn cli(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        let mut settings = self.settings.clone();
        settings.push(("REMASTER_COORDINATOR".to_owned(), self.url.clone()));
        settings.push(("REMASTER_STORE".to_owned(), self.store_url.clone()));
        run_cli(arguments, &settings)
    }

    /// Submits a season file; answers the job's id.
    ///
    /// # Errors
    /// When the submit fails, with what it said.
    pub fn submit(&self, season: &Path, more: &[&str]) -> anyhow::Result<String> {
        let season = season.to_string_lossy().into_owned();
        let mut arguments = vec!["submit", season.as_str(), "--output-format", "json"];
        arguments.extend(more);
        let done = wait_until("the coordinator takes the job", Duration::from_secs(30), || {
            let done = self.cli(&arguments)?;
            Ok((done.code == 0).then_some(done))
        })?;
        let answer: serde_json::Value =
            serde_json::from_str(&done.stdout).context("submit printed no JSON")?;
        Ok(answer["job_id"]
            .as_str()
            .context("submit printed no job id")?
            .to_owned())
    }

    /// The job with all its tasks; `None` while the coordinator is away.
    ///
    /// # Errors
    /// When no runtime can be made for the call.
    pub fn job(&self, job: &str) -> anyhow::Result<Option<pb::GetJobResponse>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let request = pb::GetJobRequest {
            job_id: job.to_owned(),
            ..Default::default()
        };
        runtime.block_on(async {
            let mut jobs = pb::jobs_client::JobsClient::new(connect(&self.url)?)
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
            anyhow::Ok(jobs.get_job(request).await.ok().map(tonic::Response::into_inner))
        })
    }

    /// Logs of all processes, for a failing test's message.
    #[must_use]
    pub fn logs(&self) -> String {
        let processes = [&self.coordinator, &self.trainer]
            .into_iter()
            .chain(&self.workers);
        processes
            .map(|process| format!("--- {}\n{}\n", process.name, process.log_tail()))
            .collect()
    }

    /// A folder of the test's own that goes with the cluster.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Runs `remaster` with arguments and settings.
///
/// # Errors
/// When the command cannot be run.
pub fn run_cli(arguments: &[&str], settings: &[(String, String)]) -> anyhow::Result<Finished> {
    let output = Command::new(binary("remaster")?)
        .args(arguments)
        .envs(settings.iter().cloned())
        .stdin(Stdio::null())
        .output()
        .context("cannot run remaster")?;
    Ok(Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

pub(crate) fn serve(
    store_url: &str,
    database: &str,
    address: &str,
    lease_ms: u32,
    heartbeat_ms: u32,
) -> Vec<String> {
    words(&format!(
        "serve --store {store_url} --database {database} --listen {address} --lease-ms {lease_ms} --heartbeat-ms {heartbeat_ms}"
    ))
}
