//! Side by side against peers, one command: `make bench`. Every figure is printed with what it was measured on.

mod coordinator;
mod extract;
mod train;
mod upscale;

use clap::{Parser, ValueEnum};

/// Measures Remaster on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything when left out.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Source frames per second of extraction against plain decoding.
    Extract,
    /// Training steps per second and the share spent waiting for data.
    Train,
    /// Upscaled frames per second, one worker and two.
    Upscale,
    /// Lease + commit per second.
    Coordinator,
}

#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let parts = if arguments.parts.is_empty() {
        Part::value_variants().to_vec()
    } else {
        arguments.parts
    };
    for part in parts {
        let figure = match part {
            Part::Extract => extract::run()?,
            Part::Train => train::run()?,
            Part::Upscale => upscale::run()?,
            Part::Coordinator => coordinator::run()?,
        };
        println!("{figure}");
    }
    Ok(())
}
