//! Pairs kept on disk: a later reader needs no store, whether it trains or judges; what is spoilt is fetched again, and the
//! bound holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use remaster_domain::ModelArch;
use remaster_model::{DeviceKind, Generator, device};
use remaster_trainer::TrainError;
use remaster_trainer::data::{Batch, BatchStream, Dataset, DiskCache, DiskCacheConfig, PairSource};
use remaster_trainer::validate::{Judge, Likeness};

use super::stream::stream_config;
use crate::season::Season;

/// Three epochs of 24 pairs less those held out, with every slot's pair changed often.
const BATCHES: usize = 60;

/// The batches, read by a process of its own as far as memory goes, and the cache as it was left.
async fn batches(
    season: &Season,
    dataset: &Arc<Dataset>,
    folder: &Path,
    bytes_max: u64,
) -> (Result<Vec<Batch>, TrainError>, Arc<DiskCache>) {
    let config = DiskCacheConfig {
        folder: folder.to_owned(),
        bytes_max,
    };
    let disk = Arc::new(DiskCache::open(config, dataset));
    let source = PairSource::from(season.store.clone()).kept_on(Some(Arc::clone(&disk)));
    let mut stream = BatchStream::start(source, Arc::clone(dataset), stream_config(4), 0);
    let made = tokio::task::spawn_blocking(move || (0..BATCHES).map(|_| stream.next_blocking()).collect());
    (made.await.unwrap(), disk)
}

fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let inner = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = inner.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let known = files.filter_map(|file| {
        let path = file.unwrap().path();
        // What is still being written begins with a dot, and may be gone by now.
        let is_whole = !path.file_name()?.to_string_lossy().starts_with('.');
        let bytes = std::fs::metadata(&path).ok().filter(|_| is_whole)?.len();
        Some((path, bytes))
    });
    known.collect()
}

fn bytes_in(folder: &Path) -> u64 {
    files(folder).iter().map(|(_, bytes)| bytes).sum()
}

/// Writing goes on beside the reading; every pair is there in the end.
async fn wait_for_files(folder: &Path, count: usize) {
    while files(folder).len() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_run_reads_nothing_from_the_store_and_what_is_spoilt_is_fetched_again() {
    let season = Season::new(24).await;
    let kept = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&season.store, &season.key, &season.hash, 2).await;
    let dataset = Arc::new(dataset.unwrap());
    let (first, _) = batches(&season, &dataset, kept.path(), u64::MAX).await;
    let first = first.unwrap();
    wait_for_files(kept.path(), dataset.train.len()).await;

    // One entry cut short, as by a crash, and one with a bit turned over, as by a bad disk.
    let spoilt = files(kept.path());
    let bytes = std::fs::read(&spoilt[0].0).unwrap();
    std::fs::write(&spoilt[0].0, &bytes[..bytes.len() / 2]).unwrap();
    let mut bytes = std::fs::read(&spoilt[1].0).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&spoilt[1].0, bytes).unwrap();
    let (second, disk) = batches(&season, &dataset, kept.path(), u64::MAX).await;
    assert!(second.unwrap() == first);
    assert_eq!(disk.damaged_count(), 2);
    wait_for_files(kept.path(), dataset.train.len()).await;

    std::fs::remove_dir_all(season.folder.path().join("shards")).unwrap();
    let (third, disk) = batches(&season, &dataset, kept.path(), u64::MAX).await;
    assert!(third.unwrap() == first, "without the store");
    assert_eq!(disk.damaged_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_and_what_other_datasets_left_makes_room() {
    let season = Season::new(24).await;
    let kept = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&season.store, &season.key, &season.hash, 2).await;
    let dataset = Arc::new(dataset.unwrap());
    let other = kept.path().join("00").join("left-by-another");
    std::fs::create_dir_all(other.parent().unwrap()).unwrap();
    std::fs::write(&other, vec![0; 20_000]).unwrap();

    let bound = 20_000;
    let (made, _) = batches(&season, &dataset, kept.path(), bound).await;
    assert_eq!(made.unwrap().len(), BATCHES);
    assert!(!other.exists(), "nothing needs it");
    wait_for_files(kept.path(), 1).await;
    let bytes = bytes_in(kept.path());
    assert!((1..=bound).contains(&bytes), "{bytes} bytes");

    // A folder that cannot be made is no reason to stop.
    let file = kept.path().join("file");
    std::fs::write(&file, b"in the way").unwrap();
    let (made, _) = batches(&season, &dataset, &file, u64::MAX).await;
    assert_eq!(made.unwrap().len(), BATCHES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_judge_reads_held_out_pairs_from_disk_and_damaged_ones_count_for_nothing() {
    let season = Season::of_every(3, 48).await;
    let kept = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&season.store, &season.key, &season.hash, 2).await;
    let dataset = Arc::new(dataset.unwrap());
    let config = DiskCacheConfig {
        folder: kept.path().to_owned(),
        bytes_max: u64::MAX,
    };
    let disk = Arc::new(DiskCache::open(config, &dataset));
    let source = PairSource::from(season.store.clone()).kept_on(Some(disk));
    let device = device(DeviceKind::default()).unwrap();
    let arch = ModelArch::Compact {
        num_feat: 4,
        num_conv: 1,
    };
    let generator = Generator::new(&arch, 2, 1, &device).unwrap();
    let judge = || Judge::new(source.clone(), Arc::clone(&dataset), Likeness::default(), None);

    let by_store = judge().judge(&generator).await.unwrap().unwrap();
    wait_for_files(kept.path(), dataset.held_out.len()).await;
    std::fs::remove_dir_all(season.folder.path().join("shards")).unwrap();
    let by_disk = judge();
    let found = by_disk.judge(&generator).await.unwrap().unwrap();
    assert_eq!(found.scores, by_store.scores);

    let (path, _) = &files(kept.path())[0];
    std::fs::write(path, b"spoilt").unwrap();
    let found = by_disk.judge(&generator).await.unwrap();
    assert!(
        found.unwrap().scores != by_store.scores,
        "one of several is gone for good"
    );
}
