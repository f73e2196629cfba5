//! Ours and PyTorch's in turns, so that a busy machine slows both: losses, steps a second, peak memory.

use std::time::Instant;

use anyhow::{Context, ensure};
use remaster_model::{encode_safetensors, keep_freed_memory, set_threads};
use serde_json::json;

use super::ours::{BATCHES, Case, Ours, SMALL, SMALL_GAN};
use super::pytorch::{Peer, python};

/// Largest relative difference of a loss.
const TOLERANCE: f32 = 1e-3;
const DISCRIMINATOR_STEPS: usize = 60;

/// Losses of ten steps, without and with a discriminator.
pub(super) fn losses() -> anyhow::Result<String> {
    let mut lines = Vec::new();
    for (name, case) in [("L1", &SMALL), ("L1 + VGG + RaGAN", &SMALL_GAN)] {
        let worst = Both::start(case)?.worst_difference(BATCHES)?;
        ensure!(worst <= TOLERANCE, "{name}: a loss is {worst:.1e} off PyTorch's");
        let steps = format!("{BATCHES} steps' losses within {worst:.1e} of PyTorch's");
        lines.push(format!("trainer losses: {name}, {}: {steps}", case.title));
    }
    Ok(lines.join("\n"))
}

/// The discriminator against a generator that stands still, at ESRGAN's rate.
pub(super) fn discriminator() -> anyhow::Result<String> {
    let mut both = Both::start(&SMALL_GAN)?;
    let answer = both.peer.ask(&json!({ "discriminator": DISCRIMINATOR_STEPS }))?;
    let theirs: Vec<f64> = serde_json::from_value(answer["sums"].clone())?;
    let mut ours = Vec::new();
    for number in 0..DISCRIMINATOR_STEPS {
        let report = both.ours.step(number, true)?;
        let sum = report.losses.iter().map(|(_, value)| f64::from(*value));
        ours.push(sum.sum::<f64>());
    }
    let last = DISCRIMINATOR_STEPS - 1;
    Ok(format!(
        "trainer discriminator: alone at 1e-4, from {:.4} to {:.4} in {DISCRIMINATOR_STEPS} steps, PyTorch {:.4} to {:.4}",
        ours[0], ours[last], theirs[0], theirs[last]
    ))
}

/// Steps a second and peak memory of `pairs` alternations after one that allocates.
pub(super) fn speed(case: &Case, pairs: usize) -> anyhow::Result<String> {
    let mut both = Both::start(case)?;
    let (mut ratios, mut ours, mut theirs) = (vec![], vec![], vec![]);
    let mut work = Work::default();
    for number in 0..=pairs {
        // Who goes first changes, so that neither has the warmer machine.
        let (own, other) = if number.is_multiple_of(2) {
            let own = both.own_step(number)?;
            (own, both.other_step(number)?)
        } else {
            let other = both.other_step(number)?;
            (both.own_step(number)?, other)
        };
        // The first step of both allocates.
        if number > 0 {
            ratios.push(other.seconds / own.seconds);
            ours.push(1.0 / own.seconds);
            theirs.push(1.0 / other.seconds);
            work.own += own.cpu_seconds;
            work.other += other.cpu_seconds;
        }
    }
    let own_mib = remaster_trainer::meter::peak_rss_mib().context("no peak of our own")?;
    let peer_mib = both.peer_mib()?;
    let kind = if case.gan { "L1 + VGG + RaGAN" } else { "L1" };
    Ok(format!(
        "trainer speed: {kind}, {}: {:.3} steps/s, PyTorch {:.3}, paired median {:.3} x of {pairs} ({:.3} to {:.3}); CPU-seconds a step \
         {:.2}, PyTorch {:.2}, {:.3} x; peak {own_mib} MiB, PyTorch {peer_mib}, {:.2} x",
        case.title,
        median(&mut ours),
        median(&mut theirs),
        median(&mut ratios),
        ratios[0],
        ratios[pairs - 1],
        work.own / pairs as f64,
        work.other / pairs as f64,
        work.other / work.own,
        own_mib as f64 / peer_mib as f64
    ))
}

/// CPU time over all pairs: beside other busy programs it says more than the clock.
#[derive(Default)]
struct Work {
    own: f64,
    other: f64,
}

/// What one step took.
struct Took {
    seconds: f64,
    cpu_seconds: f64,
}

/// Sorts, too.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Both {
    ours: Ours,
    peer: Peer,
    _folder: tempfile::TempDir,
}

impl Both {
    fn start(case: &Case) -> anyhow::Result<Self> {
        let python = python()?;
        let threads = std::thread::available_parallelism()?.get();
        set_threads(threads);
        keep_freed_memory();
        let ours = Ours::new(case)?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("start.safetensors");
        std::fs::write(&file, encode_safetensors(&ours.state()))?;
        let settings = json!({
            "num_block": case.num_block, "lr": 1e-4, "threads": threads, "batches": BATCHES, "ema_decay": 0.999,
            "pixel_weight": if case.gan { 1e-2 } else { 1.0 },
        });
        let peer = Peer::start(&python, &file, &settings)?;
        Ok(Self {
            ours,
            peer,
            _folder: folder,
        })
    }

    fn worst_difference(&mut self, steps: usize) -> anyhow::Result<f32> {
        let mut worst = 0f32;
        for number in 0..steps {
            let ours = self.ours.step(number, false)?.losses;
            let theirs = self.peer.ask(&json!({ "step": number }))?["losses"].clone();
            ensure!(
                Some(ours.len()) == theirs.as_object().map(|o| o.len()),
                "other losses: {theirs}"
            );
            for (name, value) in ours {
                let other = theirs[name]
                    .as_f64()
                    .with_context(|| format!("no {name} in {theirs}"))? as f32;
                worst = worst.max((value - other).abs() / other.abs().max(1e-12));
            }
        }
        Ok(worst)
    }

    fn own_step(&mut self, number: usize) -> anyhow::Result<Took> {
        let (start, cpu_start) = (Instant::now(), own_cpu_seconds()?);
        self.ours.step(number, false)?;
        Ok(Took {
            seconds: start.elapsed().as_secs_f64(),
            cpu_seconds: own_cpu_seconds()? - cpu_start,
        })
    }

    fn other_step(&mut self, number: usize) -> anyhow::Result<Took> {
        let answer = self.peer.ask(&json!({ "step": number % BATCHES }))?;
        let field = |name: &str| answer[name].as_f64().with_context(|| format!("no {name}"));
        Ok(Took {
            seconds: field("seconds")?,
            cpu_seconds: field("cpu_seconds")?,
        })
    }

    fn peer_mib(&mut self) -> anyhow::Result<u64> {
        self.peer.ask(&json!({}))?["peak_mib"].as_u64().context("no peak")
    }
}

/// CPU time of all threads of this process. The kernel counts in hundredths, whatever its own clock.
fn own_cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name, in brackets, may hold anything; user and system time are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')').context("unknown form of /proc/self/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}
