//! `remaster-trainer`: leases training runs from a coordinator, or trains one recipe without a cluster.

mod convert;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use remaster_domain::{Capabilities, SessionId, WorkerId};
use remaster_model::{DeviceKind, device, keep_freed_memory, set_threads};
use remaster_proto::{LeaseClient, SessionConfig, SessionError, connect, run_session};
use remaster_service::{
    CliError, Life, TelemetryArgs, cache_dir, exit_with_stdin, finish, machine_labels, on_signals,
};
use remaster_store::Store;
use remaster_trainer::TrainError;
use remaster_trainer::data::CacheWish;
use remaster_trainer::lease::{Runner, RunnerConfig, capabilities};
use remaster_trainer::local::{LocalRun, train_locally};
use remaster_trainer::memory::machine_mib;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

/// After SIGTERM a run may take this long to save its checkpoint: a gigabyte over a slow line.
const DRAIN_GRACE: Duration = Duration::from_secs(120);
/// Work that was left behind by a stop gets no longer than this at the end.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

/// Trains upscaling models on pairs of the user's own discs
#[derive(Debug, Parser)]
#[command(name = "remaster-trainer", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lease training runs from a coordinator until asked to end
    Run(RunArgs),
    /// Train one recipe, no cluster; the same command again goes on where it was stopped
    Train(TrainArgs),
    /// Put weights made elsewhere into the store as a model; its id goes to stdout
    Import(convert::ImportArgs),
    /// Write a model as .safetensors or .onnx
    Export(convert::ExportArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Coordinator, as http://host:port
    #[arg(long, env = "REMASTER_COORDINATOR", value_name = "URL")]
    coordinator: String,
    /// Store, as file:///dir or s3://bucket/prefix
    #[arg(long, env = "REMASTER_STORE", value_name = "URL")]
    store: String,
    /// Name shown by `remaster workers`
    #[arg(long, env = "REMASTER_NAME", default_value = "trainer")]
    name: String,
    /// Folder with a folder of every run: TensorBoard file, grids, best weights, a page; `runs` in the cache where left out
    #[arg(long, env = "REMASTER_LOGS", value_name = "DIR")]
    logs: Option<PathBuf>,
    /// End when stdin is closed: for a parent process that must not leave this one behind
    #[arg(long, env = "REMASTER_EXIT_WITH_STDIN")]
    exit_with_stdin: bool,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Debug, Args)]
struct TrainArgs {
    /// Recipe file, or the name of a ready one: esrgan, esrgan-lite, compact, real-esrgan-finetune, demo,
    /// demo-esrgan-lite
    recipe: String,
    /// Folder for checkpoints and models
    #[arg(
        long,
        env = "REMASTER_OUT",
        value_name = "DIR",
        default_value = "remaster-run"
    )]
    out: PathBuf,
    /// Dataset manifest, instead of the recipe's
    #[arg(long, env = "REMASTER_MANIFEST", value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Store with the shards, instead of the recipe's; the manifest's folder where neither says
    #[arg(long, env = "REMASTER_STORE", value_name = "URL")]
    store: Option<String>,
    /// Weights to start from, instead of the recipe's: .safetensors, .pth or ncnn
    #[arg(long, env = "REMASTER_PRETRAINED", value_name = "FILE")]
    pretrained: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Debug, Args)]
struct CacheArgs {
    /// Folder for pairs that were fetched: pairs/ beneath it [default: the user's cache folder]
    #[arg(long, env = "REMASTER_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Most that these may take, in GiB; 0 keeps none [default: 50 for a store at s3://, 0 for one at file://]
    #[arg(long, env = "REMASTER_CACHE_GIB", value_name = "N")]
    cache_gib: Option<u64>,
}

impl CacheArgs {
    fn wish(&self) -> anyhow::Result<CacheWish> {
        Ok(CacheWish {
            folder: self.folder()?.join("pairs"),
            gib: self.cache_gib,
        })
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        Ok(match &self.cache {
            Some(folder) => folder.clone(),
            None => cache_dir()?,
        })
    }
}

#[derive(Debug, Args)]
struct ComputeArgs {
    /// Threads of one operation; all cores where left out
    #[arg(long, env = "REMASTER_THREADS", value_name = "N")]
    threads: Option<usize>,
    /// What computes: `cpu` or `cuda:N`
    #[arg(long, env = "REMASTER_DEVICE", default_value = "cpu", value_parser = parse_device)]
    device: DeviceKind,
    /// Memory that training may hold, in MiB; what the machine has free where left out. Not checked on a GPU
    #[arg(long, env = "REMASTER_MEMORY", value_name = "MIB")]
    memory: Option<u64>,
    /// VGG19 weights, .safetensors or .pth, with torchvision's keys, for the perceptual loss
    #[arg(long, env = "REMASTER_PERCEPTUAL_WEIGHTS", value_name = "FILE")]
    perceptual_weights: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = wait_without_spinning() {
        return finish(Err(error));
    }
    keep_freed_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime");
    finish(runtime.and_then(|runtime| {
        let result = runtime.block_on(start(cli));
        // A step that hangs must not keep the process.
        runtime.shutdown_timeout(RUNTIME_GRACE);
        result
    }))
}

/// libtorch's threads wait for each other by spinning unless told otherwise before they are loaded. Beside another
/// busy process that made a step five times dearer, so this process replaces itself once with the variable set.
fn wait_without_spinning() -> anyhow::Result<()> {
    const VARIABLE: &str = "OMP_WAIT_POLICY";
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().context("could not find this program")?;
    let error = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(VARIABLE, "passive")
        .exec();
    Err(error).context("could not start this program again")
}

async fn start(cli: Cli) -> anyhow::Result<()> {
    cli.telemetry.init()?;
    let shutdown = on_signals()?;
    match cli.command {
        Command::Run(args) => serve(args, shutdown).await,
        Command::Train(args) => train(args, shutdown).await,
        Command::Import(args) => convert::import(args).await,
        Command::Export(args) => convert::export(args).await,
    }
}

async fn serve(args: RunArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    if args.exit_with_stdin {
        exit_with_stdin(shutdown.clone());
    }
    let device = args.compute.device()?;
    let store = Store::open(&args.store)?;
    store
        .probe()
        .await
        .with_context(|| format!("could not use the store {}", args.store))?;
    // An outage of the store is waited for: as a failure it would use up the run's tries.
    let store = Store::open_patient(&args.store, &[])?;
    let channel = connect(&args.coordinator)?;
    let client = LeaseClient::new(channel, SessionId::from_uuid(Uuid::now_v7()));
    let lives = args.cache.folder()?.join("trainers");
    let life = Life::begin(&lives, WorkerId::from_uuid(Uuid::now_v7()))
        .with_context(|| format!("could not use the folder {}", lives.display()))?;
    let config = SessionConfig {
        worker: life.name().clone(),
        name: args.name,
        capabilities: args.compute.capabilities(),
        slots: 1,
        drain_grace: DRAIN_GRACE,
    };
    let logs = match args.logs {
        Some(folder) => folder,
        None => cache_dir()?.join("runs"),
    };
    info!(folder = %logs.display(), "what there is to look at of a run goes there");
    let runner = Runner::new(RunnerConfig {
        store,
        device,
        memory_mib: args.compute.memory_mib(),
        logs,
        cache: args.cache.wish()?,
        perceptual_weights: args.compute.perceptual_weights,
    });
    let ended = run_session(client, config, shutdown, Arc::new(runner)).await;
    if matches!(ended, Err(SessionError::Hung { .. })) {
        life.leave();
    }
    ended.context("this trainer cannot go on")
}

async fn train(args: TrainArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let local = LocalRun {
        recipe: args.recipe,
        out: args.out.clone(),
        manifest: args.manifest,
        store: args.store,
        pretrained: args.pretrained,
        cache: args.cache.wish()?,
        memory_mib: args.compute.memory_mib(),
        device: args.compute.device()?,
        perceptual_weights: args.compute.perceptual_weights,
        shutdown,
    };
    match train_locally(local).await {
        Ok(_) => Ok(()),
        // Asked to end and everything is saved: that is done, not failed.
        Err(TrainError::Stopped) => Ok(()),
        Err(
            error @ (TrainError::Recipe(_)
            | TrainError::Dataset(_)
            | TrainError::DatasetObject(_)
            | TrainError::TooLarge { .. }),
        ) => Err(CliError::usage(error.to_string()).into()),
        Err(error @ TrainError::Checkpoint(_)) => Err(CliError::failed(error.to_string())
            .with_hint(format!(
                "train into another folder with --out, or remove {}",
                args.out.display()
            ))
            .into()),
        Err(error) => Err(error.into()),
    }
}

impl ComputeArgs {
    fn device(&self) -> anyhow::Result<burn::tensor::Device> {
        if let Some(threads) = self.threads {
            set_threads(threads);
        }
        Ok(device(self.device)?)
    }

    fn capabilities(&self) -> Capabilities {
        let uses_card = self.device != DeviceKind::LibtorchCpu;
        capabilities(machine_labels(uses_card), self.memory.filter(|_| !uses_card))
    }

    /// What the system counts is not a GPU's memory.
    fn memory_mib(&self) -> Option<u64> {
        let on_cpu = self.device == DeviceKind::LibtorchCpu;
        on_cpu.then(|| self.memory.or_else(machine_mib)).flatten()
    }
}

fn parse_device(text: &str) -> Result<DeviceKind, String> {
    let index = text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
    match (text, index) {
        ("cpu", _) => Ok(DeviceKind::LibtorchCpu),
        ("cuda", _) => Ok(DeviceKind::LibtorchCuda(0)),
        (_, Some(index)) => Ok(DeviceKind::LibtorchCuda(index)),
        _ => Err("expected cpu or cuda:N".to_owned()),
    }
}
