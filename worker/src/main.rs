//! `remaster-worker`: makes pairs from discs and HD episodes from models.
//!
//! **extract** -> store -> train -> publish -> **upscale**: one binary and one lease loop for both ends of the line.
//!
//! Promises: a result is named by its bytes and stored before it is committed; a worker that is told to stop, or cannot
//! renew its lease, stops its children. Left to others: what is done when (coordinator), pixels (media, pairs), networks
//! (model), training (trainer). `extract`, `upscale`, `compare`, `preview` and `probe` run the same code without a cluster.

mod cache;
mod catalogue;
#[cfg(feature = "upscale")]
mod compare;
mod context;
mod error;
mod extract;
mod local;
mod machine;
mod monitor;
mod picture;
#[cfg(feature = "upscale")]
mod preview;
mod runner;
mod scan;
mod scratch;
mod serve;
mod sources;
mod threads;
mod upscale;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use remaster_service::{CliError, TelemetryArgs, finish, on_signals};
use tokio_util::sync::CancellationToken;

use crate::error::WorkError;
use crate::threads::Threads;

/// Work that was left behind by a stop gets no longer than this at the end.
const RUNTIME_GRACE: Duration = Duration::from_millis(200);

/// Makes training pairs from discs and HD episodes from models
#[derive(Debug, Parser)]
#[command(name = "remaster-worker", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    telemetry: TelemetryArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a coordinator
    Run(serve::RunArgs),
    /// Find which file is which episode and write a season file
    Scan(Alone<scan::ScanArgs>),
    /// Make pairs from the two copies of one episode, without a cluster
    Extract(Alone<extract::ExtractArgs>),
    /// Upscale one file, without a cluster
    #[cfg(feature = "upscale")]
    Upscale(Alone<upscale::UpscaleArgs>),
    /// Measure models against the HD copy of an episode
    #[cfg(feature = "upscale")]
    Compare(Alone<compare::CompareArgs>),
    /// Show frames of a season before and after, and estimate its time and size
    #[cfg(feature = "upscale")]
    Preview(Alone<preview::PreviewArgs>),
    /// Say what a file is, as JSON
    Probe {
        /// Media file
        file: PathBuf,
    },
}

/// A command that runs without a cluster.
#[derive(Debug, Args)]
struct Alone<T: Args> {
    #[command(flatten)]
    args: T,
    /// Threads to use; 0 takes every core
    #[arg(long, env = "REMASTER_THREADS", value_name = "N", default_value_t = 0)]
    threads: usize,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    finish(start(cli))
}

fn start(cli: Cli) -> anyhow::Result<()> {
    cli.telemetry.init()?;
    #[cfg(feature = "upscale")]
    remaster_model::keep_freed_memory();
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| CliError::failed(format!("could not start threads: {error}")))?;
    let result = runtime.block_on(run(cli.command));
    // A mux that was left behind must not keep the process.
    runtime.shutdown_timeout(RUNTIME_GRACE);
    result
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => Ok(serve::run(args).await?),
        Command::Scan(command) => alone(command, scan::scan).await,
        Command::Extract(command) => alone(command, extract::extract).await,
        #[cfg(feature = "upscale")]
        Command::Upscale(command) => alone(command, upscale::upscale).await,
        #[cfg(feature = "upscale")]
        Command::Compare(command) => alone(command, compare::compare).await,
        #[cfg(feature = "upscale")]
        Command::Preview(command) => alone(command, preview::preview).await,
        Command::Probe { file } => {
            let report = local::probe_json(&file)
                .map_err(WorkError::from)
                .map_err(CliError::from)?;
            Ok(writeln!(std::io::stdout(), "{report:#}")?)
        }
    }
}

/// Runs a command that needs no coordinator: signals stop it, nothing half-made stays.
async fn alone<T: Args, F: Future<Output = Result<(), WorkError>>>(
    command: Alone<T>,
    run: impl FnOnce(T, CancellationToken) -> F,
) -> anyhow::Result<()> {
    Threads::of_slots(command.threads, 1).apply();
    let stop = on_signals()?;
    Ok(run(command.args, stop).await.map_err(CliError::from)?)
}
