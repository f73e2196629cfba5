//! How much a generator's pictures jump from frame to frame where HD's do not. Only frames that follow each other show it,
//! and pairs are chosen far apart: where no two neighbours are held out there is no figure, never a zero.

use remaster_domain::PairRecord;
use remaster_model::Generator;
use remaster_store::Store;
use tracing::warn;

use super::Part;
use super::metrics::jump;
use super::pictures::bicubic;
use crate::TrainError;
use crate::data::Dataset;
use crate::data::dataset::read_record;
use crate::data::picture::Pair;

/// Records read in search of neighbours: some milliseconds each from a far store.
const LOOKED_AT_MAX: usize = 64;
/// Neighbours judged.
const JUDGED_MAX: usize = 4;

/// Flicker of the generator and of bicubic: the mean absolute difference of `out[t + 1] - out[t]` from HD's, in levels of
/// luma. `None` where no two frames that follow each other are held out.
///
/// # Errors
/// [`TrainError::Store`] when the store is away.
pub(super) async fn flicker(
    generator: &Generator,
    store: &Store,
    dataset: &Dataset,
) -> Result<Option<[f64; 2]>, TrainError> {
    let mut found = Vec::new();
    for at in neighbours(store, dataset).await? {
        let (Some(first), Some(second)) = (
            part(store, dataset, at).await?,
            part(store, dataset, at + 1).await?,
        ) else {
            continue;
        };
        if (first.width_px, first.height_px) != (second.width_px, second.height_px) {
            continue;
        }
        let model = [first.upscaled(generator)?, second.upscaled(generator)?];
        let plain = [&first, &second].map(|part| bicubic(&part.lr, part.width_px, part.scale));
        let counts: Vec<bool> = first
            .counts
            .iter()
            .zip(&second.counts)
            .map(|(a, b)| *a && *b)
            .collect();
        let of = |[a, b]: [Vec<f32>; 2]| jump([&a, &b], [&first.hr, &second.hr], &counts);
        found.push([of(model), of(plain)]);
    }
    let mean = |which: usize| found.iter().map(|both| both[which]).sum::<f64>() / found.len() as f64;
    Ok((!found.is_empty()).then(|| [mean(0), mean(1)]))
}

/// Positions of held-out pairs whose next pair is held out and is the next frame of both discs.
async fn neighbours(store: &Store, dataset: &Dataset) -> Result<Vec<usize>, TrainError> {
    let adjacent = dataset.held_out.windows(2).filter(|two| two[1] == two[0] + 1);
    let candidates: Vec<usize> = adjacent.map(|two| two[0]).collect();
    let stride = candidates.len().div_ceil(LOOKED_AT_MAX / 2).max(1);
    let mut found = Vec::new();
    for at in candidates.into_iter().step_by(stride) {
        let (first, second) = (
            record(store, dataset, at).await?,
            record(store, dataset, at + 1).await?,
        );
        if first
            .zip(second)
            .is_some_and(|(first, second)| follows(&first, &second))
        {
            found.push(at);
        }
        if found.len() == JUDGED_MAX {
            break;
        }
    }
    Ok(found)
}

fn follows(first: &PairRecord, second: &PairRecord) -> bool {
    let place = |record: &PairRecord| (record.episode.clone(), record.shot, record.segment);
    place(first) == place(second)
        && second.sd_index == first.sd_index + 1
        && second.hd_index == first.hd_index + 1
}

async fn record(store: &Store, dataset: &Dataset, at: usize) -> Result<Option<PairRecord>, TrainError> {
    match read_record(store, &dataset.pairs[at]).await {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.is_retryable() => Err(error.into()),
        Err(_) => Ok(None),
    }
}

async fn part(store: &Store, dataset: &Dataset, at: usize) -> Result<Option<Part>, TrainError> {
    let pair = &dataset.pairs[at];
    let decoded = match store.read_pair(&pair.shard, &pair.entry).await {
        Ok(files) => Pair::decode(&files, dataset.manifest.scale),
        Err(error) if error.is_retryable() => return Err(error.into()),
        Err(error) => Err(error.to_string()),
    };
    match decoded {
        Ok(pair) => Ok(Some(Part::of(&pair, dataset.manifest.scale as usize))),
        Err(reason) => {
            warn!(key = %pair.entry.key, %reason, "held-out pair skipped");
            Ok(None)
        }
    }
}
