//! `remaster-worker`: makes pairs from discs and HD episodes from models.
//!
//! **extract** -> store -> train -> publish -> **upscale**: one binary and one lease loop for both ends of the line.
//!
//! Promises: a result is named by its bytes and stored before it is committed; a worker that is told to stop, or cannot
//! renew its lease, stops its children. Left to others: what is done when (coordinator), pixels (media, pairs), networks
//! (model), training (trainer). `extract`, `upscale`, `compare` and `probe` run the same code without a cluster.

mod cache;
mod catalogue;
#[cfg(feature = "upscale")]
mod compare;
mod context;
mod error;
mod extract;
mod local;
mod monitor;
mod picture;
mod runner;
mod scratch;
mod serve;
mod sources;
mod threads;
mod upscale;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use remaster_service::{CliError, TelemetryArgs, finish, on_signals};

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
    /// Make pairs from the two copies of one episode, without a cluster
    Extract(extract::ExtractArgs),
    /// Upscale one file, without a cluster
    #[cfg(feature = "upscale")]
    Upscale(upscale::UpscaleArgs),
    /// Measure models against the HD copy of an episode
    #[cfg(feature = "upscale")]
    Compare(compare::CompareArgs),
    /// Say what a file is, as JSON
    Probe {
        /// Media file
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    finish(start(cli))
}

fn start(cli: Cli) -> anyhow::Result<()> {
    cli.telemetry.init()?;
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
        Command::Extract(args) => alone(extract::extract(args, alone_stop()?).await),
        #[cfg(feature = "upscale")]
        Command::Upscale(args) => alone(upscale::upscale(args, alone_stop()?).await),
        #[cfg(feature = "upscale")]
        Command::Compare(args) => alone(compare::compare(args, alone_stop()?).await),
        Command::Probe { file } => {
            let report = local::probe_json(&file).map_err(WorkError::from).map_err(CliError::from)?;
            Ok(writeln!(std::io::stdout(), "{report:#}")?)
        }
    }
}

/// Signals and threads of a command without a cluster.
fn alone_stop() -> Result<tokio_util::sync::CancellationToken, CliError> {
    Threads::of_slots(0, 1).apply();
    on_signals()
}

fn alone(result: Result<(), WorkError>) -> anyhow::Result<()> {
    Ok(result.map_err(CliError::from)?)
}
