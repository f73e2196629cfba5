//! `remaster-worker run`: serves a coordinator until told to end. One lease loop (proto's), one runner for all kinds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use remaster_domain::{Capabilities, SessionId, TaskKind, WorkerId};
use remaster_media::check_tools;
use remaster_proto::{LeaseClient, SessionConfig, SessionError, connect, run_session};
use remaster_service::{CliError, cache_dir, exit_with_stdin, on_signals};
use remaster_store::Store;
use uuid::Uuid;

use crate::context::Context;
use crate::machine;
use crate::runner::{KINDS, Runner};
use crate::scratch::Scratch;
use crate::sources::Sources;
use crate::threads::Threads;

/// Bound of downloaded sources: a season of DVDs.
const CACHE_GIB_DEFAULT: u64 = 200;
/// After SIGTERM what is about to end may end within this. Longer would seldom save a task, which takes minutes, and keep it from
/// the worker who takes it up.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// Options of `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// URL of the coordinator, for example http://127.0.0.1:7700
    #[arg(long, env = "REMASTER_COORDINATOR", value_name = "URL")]
    coordinator: String,
    /// URL of the store: file:///folder or s3://bucket/prefix
    #[arg(long, env = "REMASTER_STORE", value_name = "URL")]
    store: String,
    /// Folder with disc files; may be given several times
    #[arg(long, env = "REMASTER_SOURCES", value_name = "DIR")]
    sources: Vec<PathBuf>,
    /// Tasks at once
    #[arg(long, env = "REMASTER_SLOTS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: u32,
    /// Threads of one task; 0 shares the cores among the slots
    #[arg(long, env = "REMASTER_THREADS", value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Kinds of task to take [default: all that this build can do]
    #[arg(long, env = "REMASTER_KINDS", value_name = "LIST", value_delimiter = ',', value_parser = kind)]
    kinds: Vec<TaskKind>,
    /// Folder for downloads [default: the user's cache folder]
    #[arg(long, env = "REMASTER_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Most GiB of downloaded sources to keep
    #[arg(long, env = "REMASTER_CACHE_GIB", value_name = "N", default_value_t = CACHE_GIB_DEFAULT)]
    cache_gib: u64,
    /// Folder for half-made shards and segments [default: scratch/ in the cache folder]
    #[arg(long, env = "REMASTER_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Where networks run: cpu, cuda or cuda:N
    #[cfg(feature = "upscale")]
    #[arg(long, env = "REMASTER_DEVICE", value_name = "DEVICE", default_value = "cpu")]
    device: crate::upscale::DeviceChoice,
    /// Most MiB that a network may take beside its weights; larger frames are made in parts, without seams
    #[cfg(feature = "upscale")]
    #[arg(long, env = "REMASTER_MEMORY", value_name = "MIB", default_value_t = crate::context::NETWORK_MEMORY_MIB, value_parser = clap::value_parser!(u64).range(64..))]
    memory: u64,
    /// Whole frames that a card is shown at a time where reuse is off, as far as --memory goes: auto (up to 8) or a number. A
    /// CPU is shown one
    #[cfg(feature = "upscale")]
    #[arg(long, env = "REMASTER_BATCH", value_name = "auto|N", default_value = "auto")]
    batch: crate::upscale::BatchChoice,
    /// End when stdin closes: set by the process that started this one
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// Runs the command until SIGTERM, SIGINT or a coordinator that refuses this worker.
pub(crate) async fn run(args: RunArgs) -> Result<(), CliError> {
    let shutdown = on_signals()?;
    if args.exit_with_stdin {
        exit_with_stdin(shutdown.clone());
    }
    let channel = connect(&args.coordinator).map_err(|_| {
        CliError::usage(format!("`{}` is not a coordinator URL", args.coordinator))
            .with_hint("for example http://127.0.0.1:7700")
    })?;
    require_tools()?;
    #[cfg(feature = "upscale")]
    open_device(&args)?;
    let store = open_store(&args.store).await?;
    let cache = match &args.cache {
        Some(folder) => folder.clone(),
        None => cache_dir()?,
    };
    let threads = Threads::of_slots(args.threads, args.slots);
    threads.apply();
    let scratch_root = args.scratch.clone().unwrap_or_else(|| cache.join("scratch"));
    let scratch = Scratch::create(&scratch_root, WorkerId::from_uuid(Uuid::now_v7()))?;
    let cache_bytes_max = args.cache_gib.saturating_mul(1 << 30);
    let sources = Sources::new(args.sources.clone(), &cache, cache_bytes_max, store.clone());
    let context = Context::new(store, sources, scratch.folder().to_owned());
    #[cfg(feature = "upscale")]
    let context = context.with_device(args.device, args.memory, args.batch);
    let config = SessionConfig {
        worker: scratch.worker().clone(),
        name: format!("{}-{}", host_name(), std::process::id()),
        capabilities: capabilities(&args, threads, &cache),
        slots: args.slots,
        drain_grace: DRAIN_GRACE,
    };
    let client = LeaseClient::new(channel, SessionId::from_uuid(Uuid::now_v7()));
    let runner = Arc::new(Runner::new(context));
    let ended = run_session(client, config, shutdown, runner).await;
    if matches!(ended, Err(SessionError::Hung { .. })) {
        scratch.leave();
    }
    ended.map_err(|error| CliError::failed(error.to_string()))
}

/// A worker without a whole ffmpeg would take task after task only to fail at each.
fn require_tools() -> Result<(), CliError> {
    check_tools().map_err(|error| {
        CliError::failed(error.to_string()).with_hint(
            "`ffmpeg -version` and `ffprobe -version` must run for the user that starts the worker",
        )
    })
}

/// A worker without its device would take segments only to fail at each.
#[cfg(feature = "upscale")]
fn open_device(args: &RunArgs) -> Result<(), CliError> {
    if !kinds(args).contains(&TaskKind::Upscale) {
        return Ok(());
    }
    args.device.open().map_err(|error| {
        CliError::failed(error.to_string()).with_hint("set --device, or leave upscale out of --kinds")
    })
}

/// Opens the store and proves that it can be written and read, so that a wrong URL shows now and not after an hour.
async fn open_store(url: &str) -> Result<Store, CliError> {
    let store = Store::open(url).map_err(|error| CliError::usage(error.to_string()))?;
    store.probe().await.map_err(|error| {
        CliError::failed(error.to_string()).with_hint(
            "check --store; an S3 store takes its endpoint and keys from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY",
        )
    })?;
    // An outage of the store is waited for with the work in hand: as a failure it would use up the task's tries.
    Store::open_patient(url, &[]).map_err(|error| CliError::usage(error.to_string()))
}

fn capabilities(args: &RunArgs, threads: Threads, cache_folder: &Path) -> Capabilities {
    let kinds = kinds(args);
    #[cfg(feature = "upscale")]
    let uses_card = args.device != crate::upscale::DeviceChoice::default();
    #[cfg(not(feature = "upscale"))]
    let uses_card = false;
    let mut labels = machine::labels(&kinds, cache_folder, uses_card);
    labels.insert("threads".to_owned(), threads.per_task.to_string());
    labels.insert("host".to_owned(), host_name());
    Capabilities { kinds, labels }
}

/// The kinds of task that the worker takes.
fn kinds(args: &RunArgs) -> Vec<TaskKind> {
    if args.kinds.is_empty() {
        KINDS.to_vec()
    } else {
        args.kinds.clone()
    }
}

/// A kind that this build can do.
fn kind(word: &str) -> Result<TaskKind, String> {
    let known = TaskKind::parse(word).filter(|kind| KINDS.contains(kind));
    known.ok_or_else(|| {
        let words: Vec<&str> = KINDS.iter().map(|kind| kind.as_str()).collect();
        format!("this worker does {}", words.join(", "))
    })
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "worker".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kinds_that_this_binary_does_are_taken() {
        assert_eq!(kind("align"), Ok(TaskKind::Align));
        assert!(kind("train").is_err_and(|text| text.contains("extract")));
    }
}
