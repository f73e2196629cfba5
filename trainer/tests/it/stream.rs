//! What the stream of batches promises whatever reads it: the same batches from anywhere on, and damaged pairs left out.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use remaster_trainer::TrainError;
use remaster_trainer::data::{Batch, BatchStream, CropConfig, Dataset, StreamConfig};

use super::Season;

pub(crate) fn stream_config(prefetch: usize) -> StreamConfig {
    let crop = CropConfig {
        lq_size_px: 8,
        scale: 2,
        hflip: true,
        rotate: true,
    };
    StreamConfig {
        seed: 5,
        crop,
        batch_size: 4,
        crops_per_pair: 3,
        prefetch,
        synthetic: None,
    }
}

pub(crate) async fn batches(
    season: &Season,
    config: StreamConfig,
    first: u64,
    count: usize,
) -> (Result<Vec<Batch>, TrainError>, usize) {
    let dataset = Dataset::open(&season.store, &season.key, &season.hash, 2)
        .await
        .unwrap();
    let mut stream = BatchStream::start(season.store.clone(), Arc::new(dataset), config, first);
    tokio::task::spawn_blocking(move || {
        let batches = (0..count).map(|_| stream.next_blocking()).collect();
        (batches, stream.damaged_count())
    })
    .await
    .unwrap()
}

/// Batches of the straight run.
const BATCHES: u64 = 30;

#[test]
fn a_batch_is_the_same_whatever_was_read_before_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let season = runtime.block_on(Season::new(24));
    let from = |config: StreamConfig, first: u64| {
        let made = runtime.block_on(batches(&season, config, first, (BATCHES - first) as usize));
        made.0.unwrap()
    };
    let cases = (any::<u64>(), 1..7_usize, 1..5_usize, 1..9_usize, 1..BATCHES);
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(12)
    };
    TestRunner::new(config)
        .run(&cases, |(seed, batch_size, crops_per_pair, prefetch, first)| {
            let with = |prefetch| StreamConfig {
                seed,
                batch_size,
                crops_per_pair,
                ..stream_config(prefetch)
            };
            let (straight, later) = (from(with(4), 0), from(with(prefetch), first));
            prop_assert!(later[..] == straight[first as usize..]);
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_damaged_pair_is_skipped_and_two_end_the_run() {
    let season = Season::new(24).await;
    let dataset = Dataset::open(&season.store, &season.key, &season.hash, 2)
        .await
        .unwrap();
    let trained = |at: &usize| dataset.train.contains(at);
    let mut usable = (0..12).filter(trained);
    season.damage(0, usable.next().unwrap()).await;
    let (made, damaged) = batches(&season, stream_config(4), 0, 40).await;
    assert_eq!((made.unwrap().len(), damaged), (40, 1));
    season.damage(0, usable.next().unwrap()).await;
    let (made, _) = batches(&season, stream_config(4), 0, 40).await;
    let error = made.unwrap_err();
    assert!(
        matches!(error, TrainError::TooManyDamaged { count: 2, .. }),
        "{error}"
    );
    assert!(!error.is_retryable());
}
