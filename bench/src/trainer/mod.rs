//! Our trainer by itself and beside a PyTorch loop that has the same weights and sees the same batches. In parts, each
//! a process of its own: its peak memory is then its own, and a figure that is there stays there.

mod compare;
mod kills;
mod latency;
mod order;
mod ours;
mod pytorch;
mod waiting;

use std::process::Command;

use anyhow::{Context, ensure};
use clap::ValueEnum;

use self::ours::{FOUR_BLOCKS, SMALL, SMALL_GAN, TWO_BLOCKS};

/// A step of the small networks takes less than a tenth of a second, of the large ones seconds.
const PAIRS_OF_SMALL: usize = 25;
const PAIRS_OF_LARGE: usize = 15;

/// One part of the trainer's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrainerPart {
    /// Ten steps' losses beside PyTorch's.
    Losses,
    /// The discriminator by itself beside PyTorch's.
    Discriminator,
    /// Steps per second and peak memory at 64 features, 2 blocks, batch 4, lr 64.
    TwoBlocks,
    /// The same at 64 features, 4 blocks, batch 2, lr 96.
    FourBlocks,
    /// The same of a small network.
    Small,
    /// The same of a small network's GAN step.
    Gan,
    /// Order of samples against an ideal shuffle, with several readers, after a resume.
    Order,
    /// Runs killed at random steps against one that was left alone.
    Kills,
    /// Share of the time spent waiting for data, from a disk and from a slow S3.
    Waiting,
}

/// Prints the figures of some parts, of all where none is named.
pub(crate) fn run(parts: &[TrainerPart]) -> anyhow::Result<String> {
    match parts {
        [part] => measure(*part),
        [] => each(TrainerPart::value_variants()),
        parts => each(parts),
    }
}

/// Every part in a process of its own; one that fails costs only its own figures.
fn each(parts: &[TrainerPart]) -> anyhow::Result<String> {
    let mut failed = Vec::new();
    for part in parts {
        let name = part.to_possible_value().context("a part has no name")?;
        let name = name.get_name().to_owned();
        let ended = Command::new(std::env::current_exe()?)
            .args(["trainer", "--part", &name])
            .status()?;
        if !ended.success() {
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "these parts failed: {}", failed.join(", "));
    Ok(format!("trainer: all {} parts measured", parts.len()))
}

fn measure(part: TrainerPart) -> anyhow::Result<String> {
    match part {
        TrainerPart::Losses => compare::losses(),
        TrainerPart::Discriminator => compare::discriminator(),
        TrainerPart::TwoBlocks => compare::speed(&TWO_BLOCKS, PAIRS_OF_LARGE),
        TrainerPart::FourBlocks => compare::speed(&FOUR_BLOCKS, PAIRS_OF_LARGE),
        TrainerPart::Small => compare::speed(&SMALL, PAIRS_OF_SMALL),
        TrainerPart::Gan => compare::speed(&SMALL_GAN, PAIRS_OF_SMALL),
        TrainerPart::Order => order::run(),
        TrainerPart::Kills => kills::run(),
        TrainerPart::Waiting => waiting::run(),
    }
}
