//! How much a generator's pictures jump from frame to frame where HD's do not. Only frames that follow each other show it,
//! and pairs are chosen far apart: where no two neighbours are held out there is no figure, never a zero.

use remaster_domain::PairRecord;
use remaster_model::Generator;

use super::Judge;
use super::metrics::jump;
use super::pictures::bicubic;
use crate::TrainError;
use crate::data::dataset::readable_records;

/// Records read in search of neighbours: some milliseconds each from a far store.
const LOOKED_AT_MAX: usize = 64;
/// Neighbours judged.
const JUDGED_MAX: usize = 4;

/// Flicker of the generator and of bicubic: the mean absolute difference of `out[t + 1] - out[t]` from HD's, in levels of
/// luma. `None` where no two frames that follow each other are held out.
///
/// # Errors
/// [`TrainError::Store`] when the store is away.
pub(super) async fn flicker(judge: &Judge, generator: &Generator) -> Result<Option<[f64; 2]>, TrainError> {
    let mut found = Vec::new();
    let neighbours = judge.neighbours.get_or_try_init(|| neighbours(judge)).await?;
    for at in neighbours {
        let (first, second) =
            futures::try_join!(judge.frame(*at, generator), judge.frame(at + 1, generator))?;
        let Some((first, second)) = first.zip(second) else {
            continue;
        };
        if (first.width_px, first.height_px) != (second.width_px, second.height_px) {
            continue;
        }
        let model = [
            first.upscaled(generator, judge.pass_bytes_max)?,
            second.upscaled(generator, judge.pass_bytes_max)?,
        ];
        let plain = [&first, &second].map(|frame| bicubic(&frame.lr, frame.width_px, frame.scale));
        let counts: Vec<bool> = first
            .counts
            .iter()
            .zip(&second.counts)
            .map(|(a, b)| *a && *b)
            .collect();
        let of = |[a, b]: [Vec<f32>; 2]| jump([&a, &b], [&first.hr, &second.hr], &counts);
        found.push([of(model), of(plain)]);
        tokio::task::yield_now().await;
    }
    let mean = |which: usize| found.iter().map(|both| both[which]).sum::<f64>() / found.len() as f64;
    Ok((!found.is_empty()).then(|| [mean(0), mean(1)]))
}

/// Positions of held-out pairs whose next pair is held out and is the next frame of both discs.
async fn neighbours(judge: &Judge) -> Result<Vec<usize>, TrainError> {
    let dataset = &judge.dataset;
    let adjacent = dataset.held_out.windows(2).filter(|two| two[1] == two[0] + 1);
    let candidates: Vec<usize> = adjacent.map(|two| two[0]).collect();
    let stride = candidates.len().div_ceil(LOOKED_AT_MAX / 2).max(1);
    let candidates = || candidates.iter().copied().step_by(stride);
    let looked_at = candidates().flat_map(|at| dataset.pairs[at..at + 2].to_vec());
    let records = readable_records(judge.source.store(), looked_at.collect()).await?;
    let follow = candidates().zip(records.chunks_exact(2)).filter(|(_, two)| {
        let both = two[0].as_ref().zip(two[1].as_ref());
        both.is_some_and(|(first, second)| follows(first, second))
    });
    Ok(follow.map(|(at, _)| at).take(JUDGED_MAX).collect())
}

fn follows(first: &PairRecord, second: &PairRecord) -> bool {
    let place = |record: &PairRecord| (record.episode.clone(), record.shot, record.segment);
    place(first) == place(second)
        && second.sd_index == first.sd_index + 1
        && second.hd_index == first.hd_index + 1
}
