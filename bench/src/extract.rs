//! Extraction against the floor that no tool can beat: ffmpeg decoding the same two files and throwing the frames away.
//!
//! Extraction reads both files once for the index and the chosen frames again, so the ratio says what finding, laying
//! over each other and writing the pairs costs on top.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use remaster_testkit::{Discs, binary};

/// Length of the episode.
const SECONDS: u32 = 14;
/// Paired runs; each prints a line of its own.
const RUNS: usize = 3;
/// Pairs that are chosen: as many as a season needs of one episode (130 of 22 minutes), and as many as there are.
const PAIRS_MAX: [u32; 2] = [(130 * SECONDS).div_ceil(22 * 60), 600];

/// Prints the figures.
pub(crate) fn run() -> anyhow::Result<String> {
    let discs = Discs::make(SECONDS)?;
    let (sd, hd) = (discs.file("ep1.sd.mkv"), discs.file("ep1.hd.mkv"));
    let frames = f64::from(2 * SECONDS * 24);
    let mut lines = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        decode(&sd)?;
        decode(&hd)?;
        let floor = frames / start.elapsed().as_secs_f64();
        for pairs_max in PAIRS_MAX {
            let out = tempfile::tempdir()?;
            let start = Instant::now();
            let said = extract(&sd, &hd, out.path(), pairs_max)?;
            let ours = frames / start.elapsed().as_secs_f64();
            lines.push(format!(
                "extract: {ours:.0} source frames/s ({said}), ffmpeg -f null {floor:.0} frames/s, {:.2} times as long",
                floor / ours
            ));
        }
    }
    Ok(lines.join("\n"))
}

fn decode(file: &Path) -> anyhow::Result<()> {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(file)
        .args(["-map", "0:v:0", "-f", "null", "-"])
        .status()?;
    ensure!(status.success(), "ffmpeg cannot decode {}", file.display());
    Ok(())
}

/// Extracts; answers how many pairs the worker says it made.
fn extract(sd: &Path, hd: &Path, out: &Path, pairs_max: u32) -> anyhow::Result<String> {
    let output = Command::new(binary("remaster-worker")?)
        .args(["extract", "--max-pairs", &pairs_max.to_string()])
        .arg("--sd")
        .arg(sd)
        .arg("--hd")
        .arg(hd)
        .arg("--out")
        .arg(out)
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "extract failed: {stderr}");
    let counts = stderr.lines().rev().find(|line| line.contains("turned away"));
    Ok(counts.context("extract said nothing of its pairs")?.to_owned())
}
