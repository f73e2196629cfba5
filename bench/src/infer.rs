//! The network of a file of weights by itself, on pictures that lie ready: the speed that an end-to-end run is held against.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use remaster_model::{
    DeviceKind, RgbBatch, device, fill_model, keep_freed_memory, read_weights, set_threads, upscale_rgb,
};

/// What the network is shown.
#[derive(Debug, Args)]
pub(crate) struct InferArguments {
    /// Weights, of any kind that the worker reads
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Columns of the pictures
    #[arg(long, default_value_t = 720)]
    width: usize,
    /// Lines of the pictures
    #[arg(long, default_value_t = 576)]
    height: usize,
    /// Pictures, after one that does not count
    #[arg(long, default_value_t = 4)]
    frames: usize,
    /// Pictures shown at a time
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Threads of the network
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Seconds a picture, as a line that a script can read.
pub(crate) fn run(arguments: &InferArguments) -> anyhow::Result<String> {
    let file = arguments
        .model
        .as_ref()
        .context("give the weights with --model FILE")?;
    set_threads(arguments.threads);
    keep_freed_memory();
    let weights = read_weights(file)?;
    let generator = fill_model(
        &weights.state,
        &weights.arch,
        weights.scale,
        &device(DeviceKind::default())?,
    )?;
    let picture = || RgbBatch {
        count: arguments.batch,
        height_px: arguments.height,
        width_px: arguments.width,
        samples: samples(arguments.batch * 3 * arguments.height * arguments.width),
    };
    upscale_rgb(&generator, picture())?;
    let pictures: Vec<RgbBatch> = (0..arguments.frames.div_ceil(arguments.batch))
        .map(|_| picture())
        .collect();
    let count = pictures.len() * arguments.batch;
    let started = Instant::now();
    for picture in pictures {
        upscale_rgb(&generator, picture)?;
    }
    Ok(format!(
        "{:.4} seconds a picture",
        started.elapsed().as_secs_f64() / count as f64
    ))
}

/// Levels that differ from neighbour to neighbour; a network takes as long over any.
fn samples(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 7919 % 251) as f32 / 250.0).collect()
}
