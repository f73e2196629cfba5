//! Side by side against peers, one command: `make bench`. Every figure is printed with what it was measured on.

mod extract;
mod infer;
mod pairs;
mod train;
mod trainer;
mod upscale;

use clap::{Parser, ValueEnum};

/// Measures Remaster on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; all speeds when left out.
    parts: Vec<Part>,
    /// Only the cases of `pairs` whose name holds this; may be given again
    #[arg(long, value_name = "TEXT")]
    case: Vec<String>,
    /// Only this part of `trainer`, each of which prints its own figures; may be given again
    #[arg(long, value_name = "PART", value_enum)]
    part: Vec<trainer::TrainerPart>,
    #[command(flatten)]
    infer: infer::InferArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Source frames per second of extraction against plain decoding.
    Extract,
    /// Training steps per second and the share spent waiting for data.
    Train,
    /// Upscaled frames per second, one worker and two.
    Upscale,
    /// Wrong pairs, lost shots, misplaced corners, on discs whose truth is known.
    Pairs,
    /// Losses and steps per second of the trainer beside PyTorch's.
    Trainer,
    /// Seconds a picture of a network by itself: what `make bench-upscale` holds end-to-end runs against.
    Infer,
}

#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let parts = if arguments.parts.is_empty() {
        let is_speed = |part: &Part| !matches!(part, Part::Pairs | Part::Trainer | Part::Infer);
        Part::value_variants().iter().copied().filter(is_speed).collect()
    } else {
        arguments.parts
    };
    for part in parts {
        let figure = match part {
            Part::Extract => {
                extract::run(&mut |line| println!("{line}"))?;
                continue;
            }
            Part::Train => train::run()?,
            Part::Upscale => upscale::run()?,
            Part::Pairs => pairs::run(&arguments.case)?,
            Part::Trainer => trainer::run(&arguments.part)?,
            Part::Infer => infer::run(&arguments.infer)?,
        };
        println!("{figure}");
    }
    Ok(())
}
