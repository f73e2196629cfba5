//! `remaster-load`: how much the coordinator bears; `make bench-load` builds it and the coordinator optimised and runs it. Ends
//! with 1 when a demand was missed, after all parts.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use remaster_testkit::load::{LoadPart, run_load};

/// Lease + commit per second of real coordinators under simulated workers
#[derive(Debug, Parser)]
struct Cli {
    /// What to measure; all when left out
    parts: Vec<LoadPart>,
    /// Tasks that are queued at the start, in jobs of 2,000
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
    /// How long each load is put on
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let parts = if cli.parts.is_empty() {
        LoadPart::value_variants().to_vec()
    } else {
        cli.parts
    };
    let mut missed = 0;
    for part in parts {
        let measured = run_load(part, cli.tasks, Duration::from_secs(cli.seconds))?;
        println!("{}", measured.words);
        for verdict in measured.verdicts {
            println!("  {verdict}");
            missed += usize::from(!verdict.holds);
        }
    }
    Ok(ExitCode::from(u8::from(missed > 0)))
}
