//! Upscaled frames per second of a cluster with one worker and with two, one thread each: the same season, the same recipe.

use std::time::Duration;

use anyhow::{Context, ensure};
use remaster_testkit::{Cluster, ClusterConfig, Discs, StoreAt, wait_until};

const SECONDS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(900);

/// The demo's generator; training is cut to a few steps, since its quality does not change the rate.
const RECIPE: &str = r#"name = "bench"
[network_g]
type = "SRVGGNetCompact"
num_feat = 24
num_conv = 6
[datasets.train]
lq_size = 48
batch_size = 2
[[stage]]
name = "l1"
total_iter = 5
optim_g = { type = "Adam", lr = 1e-3 }
pixel_opt = { type = "L1", loss_weight = 1.0 }
"#;

/// Prints the figures.
pub(crate) fn run() -> anyhow::Result<String> {
    let one = rate(1)?;
    let two = rate(2)?;
    Ok(format!(
        "upscale: {one:.2} frames/s with 1 worker, {two:.2} with 2, ratio {:.2} (Compact 24/6, 480x384 to 1366x768, \
         1 thread each, x264 veryfast)",
        two / one
    ))
}

fn rate(workers: usize) -> anyhow::Result<f64> {
    let discs = Discs::make(SECONDS)?;
    let cluster = Cluster::start(ClusterConfig {
        workers,
        store: StoreAt::Folder,
        lease_ms: 30_000,
        heartbeat_ms: 5_000,
    })?;
    std::fs::write(cluster.dir().join("bench.toml"), RECIPE)?;
    let season = std::fs::read_to_string(discs.file("season.toml"))?
        .replace("recipe = \"demo\"", "recipe = \"bench.toml\"")
        .replace(
            "preset = \"veryfast\"",
            "preset = \"veryfast\"\nsegment_frames_max = 48",
        )
        .replace("sd = \"", &format!("sd = \"{}/", discs.dir.display()))
        .replace("hd = \"", &format!("hd = \"{}/", discs.dir.display()));
    let file = cluster.dir().join("season.toml");
    std::fs::write(&file, season)?;
    let job = cluster.submit(&file, &[])?;
    let ended = wait_until("the season ends", PATIENCE, || {
        Ok(cluster
            .job(&job)?
            .and_then(|job| job.summary)
            .filter(|summary| summary.ended_ms > 0))
    })?;
    ensure!(
        ended.state == "succeeded",
        "the season failed: {:?}\n{}",
        ended.dead,
        cluster.logs()
    );
    let kind = ended
        .kinds
        .iter()
        .find(|kind| kind.kind == "upscale")
        .context("nothing was upscaled")?;
    let seconds = (kind.ended_ms - kind.started_ms) as f64 / 1000.0;
    Ok(f64::from(3 * SECONDS * 24) / seconds)
}
