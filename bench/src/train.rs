//! Steps per second of the demo's recipe and the share of the time that the trainer waits for data, as its own log says.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use remaster_testkit::{Discs, binary};

const SECONDS: u32 = 14;

/// The demo's network and batch, stages cut to what settles the rate.
const RECIPE: &str = r#"name = "bench"
[network_g]
type = "SRVGGNetCompact"
num_feat = 24
num_conv = 6
[network_d]
type = "UNetDiscriminatorSN"
num_feat = 16
[datasets.train]
lq_size = 48
batch_size = 8
[[stage]]
name = "l1"
total_iter = 200
optim_g = { type = "Adam", lr = 1e-3 }
pixel_opt = { type = "L1", loss_weight = 1.0 }
[[stage]]
name = "gan"
total_iter = 20
optim_g = { type = "Adam", lr = 1e-4 }
pixel_opt = { type = "L1", loss_weight = 1e-2 }
gan_opt = { type = "ragan", loss_weight = 5e-3 }
[logger]
print_freq = 10
"#;

/// Prints the figures.
pub(crate) fn run() -> anyhow::Result<String> {
    let dir = tempfile::tempdir()?;
    let data = extracted(dir.path())?;
    let recipe = dir.path().join("bench.toml");
    std::fs::write(&recipe, RECIPE)?;
    let trained = Command::new(binary("remaster-trainer")?)
        .arg("train")
        .arg(&recipe)
        .arg("--manifest")
        .arg(data.join("manifest.json"))
        .arg("--out")
        .arg(dir.path().join("run"))
        .output()?;
    let log = String::from_utf8_lossy(&trained.stderr);
    ensure!(trained.status.success(), "training failed: {log}");
    let line = |stage: &str| {
        let mut lines = log
            .lines()
            .filter(|line| line.contains(&format!(" {stage} l_")) && line.contains("steps/s"));
        lines
            .next_back()
            .map(str::to_owned)
            .with_context(|| format!("no log line of stage {stage} in: {log}"))
    };
    Ok(format!(
        "train: Compact 24/6, 2x, batch 8, lr crops of 48\n  {}\n  {}",
        line("l1")?,
        line("gan")?
    ))
}

/// Pairs of the film's first episode in a folder of their own under `dir`, with their `manifest.json`.
pub(crate) fn extracted(dir: &Path) -> anyhow::Result<PathBuf> {
    let discs = Discs::make(SECONDS)?;
    let data = dir.join("data");
    let made = Command::new(binary("remaster-worker")?)
        .arg("extract")
        .args([OsStr::new("--sd"), discs.file("ep1.sd.mkv").as_os_str()])
        .args([OsStr::new("--hd"), discs.file("ep1.hd.mkv").as_os_str()])
        .arg("--out")
        .arg(&data)
        .output()?;
    let log = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "extract failed: {log}");
    Ok(data)
}
