//! The `remaster` command: what a person types. Asks the coordinator, shows the answer; holds no pixels and no tensors.
//!
//! extract -> store -> train -> publish -> upscale: submits, watches and reports every stage, runs none.
//!
//! Promises: data alone on stdout, everything else on stderr; exit codes 0 done, 1 failed, 2 bad usage or bad input; every
//! error says what, where and what to do. Left to others: deciding (coordinator) and working (worker, trainer).

mod args;
mod client;
mod dataset;
mod fleet;
mod gc;
mod history;
mod jobs;
mod models;
mod output;
mod preview;
mod report;
mod scan;
mod season;
mod submit;
mod up;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    remaster_service::finish(run(cli))
}

fn run(cli: Cli) -> anyhow::Result<()> {
    cli.telemetry.init()?;
    let format = cli.output_format;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Up(args) => up::run(args).await,
            Command::Scan(args) => scan::run(&args, format).await,
            Command::Preview(args) => preview::run(&args, format).await,
            Command::Submit(args) => submit::run(args, format).await,
            Command::Watch(args) => watch::run(&args, format).await,
            Command::Status(args) => jobs::status(&args, format).await,
            Command::Cancel(args) => jobs::control(&args, "cancel", format).await,
            Command::Pause(args) => jobs::control(&args, "pause", format).await,
            Command::Resume(args) => jobs::control(&args, "resume", format).await,
            Command::Retry(args) => jobs::control(&args, "retry", format).await,
            Command::Priority(args) => jobs::priority(&args, format).await,
            Command::Workers(args) => fleet::workers(&args, format).await,
            Command::Drain(args) => fleet::drain(&args, format).await,
            Command::Gc(args) => gc::run(&args, format).await,
            Command::Models(args) => models::run(args, format).await,
            Command::Dataset(args) => dataset::run(args, format).await,
            Command::Report(args) => report::run(args, format).await,
            Command::Completions { shell } => completions(shell),
        }
    })
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "remaster", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
