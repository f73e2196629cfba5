//! `remaster-coordinator`: reads its options, opens what it needs, serves until it is asked to end.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use remaster_coordinator::{Clock, Config, Coordinator, CoordinatorError, serve, serve_http};
use remaster_proto::PROTOCOL_VERSION;
use remaster_service::{CliError, TelemetryArgs};
use remaster_store::{Store, StoreError};
use tonic::transport::server::TcpIncoming;
use tracing::info;

/// Decides who does what, and remembers what was done
#[derive(Debug, Parser)]
#[command(name = "remaster-coordinator", version)]
struct Cli {
    #[command(flatten)]
    telemetry: TelemetryArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve workers, trainers and the command line
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Where objects lie: file:///path or s3://bucket/prefix
    #[arg(long, env = "REMASTER_STORE", value_name = "URL")]
    store: String,
    /// Where all state is kept: a path, sqlite://PATH or, for several coordinators, postgres://USER@HOST/DATABASE
    /// [default: <DATA_DIR>/coordinator.db]
    #[arg(long, env = "REMASTER_DATABASE", value_name = "URL")]
    database: Option<String>,
    /// Folder for the database where --database says nothing
    #[arg(
        long,
        env = "REMASTER_DATA_DIR",
        value_name = "DIR",
        default_value = "remaster-data"
    )]
    data_dir: PathBuf,
    /// Address to listen on; port 0 takes a free one
    #[arg(
        long,
        env = "REMASTER_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7700"
    )]
    listen: String,
    /// Address for /metrics, /healthz and /readyz over plain HTTP; nothing of the kind when left out
    #[arg(long, env = "REMASTER_HTTP", value_name = "HOST:PORT")]
    http: Option<String>,
    /// Write the bound address to this file once it listens
    #[arg(long, env = "REMASTER_ADDRESS_FILE", value_name = "FILE")]
    address_file: Option<PathBuf>,
    /// How long a lease lasts without a heartbeat
    #[arg(long, env = "REMASTER_LEASE_MS", value_name = "MS", default_value_t = 30_000)]
    lease_ms: u32,
    /// How often workers send a heartbeat
    #[arg(
        long,
        env = "REMASTER_HEARTBEAT_MS",
        value_name = "MS",
        default_value_t = 10_000
    )]
    heartbeat_ms: u32,
    /// Refuse what a coordinator of this protocol version does: for trying an upgrade out
    #[arg(
        long,
        hide = true,
        value_name = "N",
        default_value_t = PROTOCOL_VERSION,
        value_parser = clap::value_parser!(u32).range(i64::from(PROTOCOL_VERSION) - 1..=i64::from(PROTOCOL_VERSION))
    )]
    protocol_version: u32,
    /// End when stdin closes; for a parent that must not leave children behind
    #[arg(long, env = "REMASTER_EXIT_WITH_STDIN", hide = true)]
    exit_with_stdin: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let Command::Serve(args) = cli.command;
    let outcome = match cli.telemetry.init() {
        Ok(()) => run(args).await,
        Err(error) => Err(error.into()),
    };
    remaster_service::finish(outcome)
}

async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let database = match &args.database {
        Some(database) => database.clone(),
        None => args.data_dir.join("coordinator.db").display().to_string(),
    };
    let config = Config::new(&database, args.lease_ms, args.heartbeat_ms)?.speaking(args.protocol_version);
    let database = config.database.clone();
    let shutdown = remaster_service::on_signals()?;
    if args.exit_with_stdin {
        remaster_service::exit_with_stdin(shutdown.clone());
    }
    let listener = remaster_service::bind(&args.listen).await?;
    let http = match &args.http {
        Some(address) => Some(remaster_service::bind(address).await?),
        None => None,
    };
    let store = open_store(&args.store).await?;
    let coordinator = Coordinator::open(config, store, Clock::Database)
        .await
        .map_err(explain)?;
    let addr = listener.local_addr()?;
    info!(%addr, store = %args.store, %database, protocol = args.protocol_version, "listening");
    if let Some(file) = &args.address_file {
        remaster_service::write_address_file(file, addr)?;
    }
    if let Some(http) = http {
        tokio::spawn(serve_http(Arc::clone(&coordinator), http, shutdown.clone()));
    }
    // An answer is several small writes: held back for the acknowledgement of the first, it would come 40 ms later.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    serve(coordinator, incoming, shutdown).await?;
    info!("ended");
    Ok(())
}

/// A wrong URL or missing rights show now and not at the first commit.
async fn open_store(url: &str) -> Result<Store, CliError> {
    let hint = "--store takes file:///absolute/path or s3://bucket/prefix; S3 credentials and endpoint come from AWS_*";
    let store = Store::open(url).map_err(|error| {
        let words = error.to_string();
        let refused = match error {
            StoreError::Url { .. } => CliError::usage(words),
            _ => CliError::failed(format!("could not use the store: {words}")),
        };
        refused.with_hint(hint)
    })?;
    store
        .probe()
        .await
        .map_err(|error| CliError::failed(format!("could not use the store: {error}")).with_hint(hint))?;
    Ok(store)
}

fn explain(error: CoordinatorError) -> CliError {
    let failed = CliError::failed(error.to_string());
    match error {
        CoordinatorError::NewerDatabase(_) => {
            failed.with_hint("install the newer release, or name another --database")
        }
        CoordinatorError::DatabaseInUse(_) => {
            failed.with_hint("stop the other coordinator, or name another --database")
        }
        _ => failed.with_hint(
            "--database names a file in a folder that may be written, on a local disk, or a PostgreSQL database that exists",
        ),
    }
}
