//! The order of samples: how near a shuffle of everything it comes, and whether readers or a resume change it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use remaster_domain::{ContentHash, DatasetManifest};
use remaster_store::Store;
use remaster_trainer::data::{Batch, BatchStream, CropConfig, Dataset, Order, StreamConfig};

use crate::train;

/// Pairs of a season, for the order alone.
const PAIRS: usize = 100_000;
const EPOCHS: usize = 3;
/// Neighbours in an ideal shuffle lie a third of the whole apart on average; this is five times the error of that mean.
const DISTANCE_TOLERANCE: f64 = 0.004;
/// More batches than there are prefetched, over several changes of every slot's pair.
const BATCHES: usize = 48;
const RESUMED_AT: [usize; 3] = [1, 13, 40];

/// Prints the figures.
pub(super) fn run() -> anyhow::Result<String> {
    let distance = shuffle()?;
    let dir = tempfile::tempdir()?;
    let data = train::extracted(dir.path())?;
    let straight = batches(&data, 1, 0)?;
    for readers in [2, 4] {
        let same = batches(&data, readers, 0)? == straight;
        ensure!(same, "{readers} readers give other batches than one");
    }
    for first in RESUMED_AT {
        let same = batches(&data, 2, first)?[..] == straight[first..];
        ensure!(same, "a run resumed at batch {first} sees other batches");
    }
    Ok(format!(
        "trainer order: {PAIRS} pairs, each once in each of {EPOCHS} epochs, neighbours {distance:.4} of the whole apart (ideal 0.3333); \
         {BATCHES} batches the same for 1, 2 and 4 readers and resumed at {RESUMED_AT:?}"
    ))
}

/// Mean distance of neighbours as a share of the whole, once every epoch has every pair exactly once.
fn shuffle() -> anyhow::Result<f64> {
    let mut order = Order::new(1, PAIRS);
    let (mut sum, mut count) = (0.0, 0.0);
    for epoch in 0..EPOCHS {
        let at = |position: usize| (epoch * PAIRS + position) as u64;
        let sequence: Vec<usize> = (0..PAIRS).map(|position| order.pair_at(at(position))).collect();
        let mut seen = vec![false; PAIRS];
        sequence.iter().for_each(|pair| seen[*pair] = true);
        ensure!(seen.iter().all(|seen| *seen), "epoch {epoch} lacks a pair");
        for two in sequence.windows(2) {
            sum += two[0].abs_diff(two[1]) as f64 / PAIRS as f64;
            count += 1.0;
        }
    }
    let distance = sum / count;
    let off = (distance - 1.0 / 3.0).abs();
    ensure!(off <= DISTANCE_TOLERANCE, "neighbours lie {distance:.4} apart");
    Ok(distance)
}

/// The batches from `first` on, with so many threads that read and batches made ahead.
fn batches(data: &Path, readers: usize, first: usize) -> anyhow::Result<Vec<Batch>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(readers)
        .max_blocking_threads(readers)
        .enable_all()
        .build()?;
    let bytes = std::fs::read(data.join("manifest.json"))?;
    let manifest: DatasetManifest = serde_json::from_slice(&bytes).context("could not read the manifest")?;
    let store = Store::open(&format!("file://{}", data.display()))?;
    let (hash, scale) = (ContentHash::of(&bytes), manifest.scale);
    let dataset = runtime.block_on(Dataset::of_manifest(&store, manifest, hash, scale))?;
    let config = StreamConfig {
        seed: 3,
        crop: CropConfig {
            lq_size_px: 48,
            scale,
            hflip: true,
            rotate: true,
        },
        batch_size: 8,
        crops_per_pair: 8,
        prefetch: readers,
        synthetic: None,
    };
    let _inside = runtime.enter();
    let mut stream = BatchStream::start(store, Arc::new(dataset), config, first as u64);
    let wanted = first..BATCHES;
    Ok(wanted.map(|_| stream.next_blocking()).collect::<Result<_, _>>()?)
}
