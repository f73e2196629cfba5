//! What a generator is worth on held-out pairs, whole pictures of them where memory holds these: PSNR and SSIM in RGB and of
//! luma, colour drift, halo, flicker, LPIPS and DISTS, beside what bicubic would have given, and pictures to look at. Pixels
//! under a pair's mask do not count.

mod flicker;
mod frame;
mod likeness;
mod metrics;
mod pictures;
mod ssim;
mod tiles;

use std::sync::{Arc, Once};

use futures::StreamExt;
use remaster_model::Generator;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tracing::warn;

use crate::TrainError;
use crate::data::picture::Pair;
use crate::data::{Dataset, PairSource};
use frame::Frame;
pub use likeness::Likeness;
pub use pictures::Grid;
use pictures::bicubic;

/// Pairs judged, spread over all that are held out: seconds on two cores, and enough for the second digit.
const PAIRS_MAX: usize = 12;
/// Of these so many are read and decoded at once: hides a store's latency, and whole pictures at 4x take some 100 MB each.
const FRAMES_AHEAD: usize = 2;
/// Pairs shown.
const SHOWN_MAX: usize = 4;

/// Likeness to the wanted pictures, means over pairs. 8 bit, borders of `scale` pixels cropped, as BasicSR does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// PSNR over RGB in dB.
    pub psnr: f64,
    /// Mean SSIM of the channels.
    pub ssim: f64,
    /// PSNR of BT.601 luma in dB.
    pub psnr_y: f64,
    /// SSIM of BT.601 luma.
    pub ssim_y: f64,
    /// Mean difference of the colours in levels of Cb and Cr; 0 has no cast.
    #[serde(default)]
    pub colour_drift: f64,
    /// Overshoot beside edges in levels of luma; 0 has none.
    #[serde(default)]
    pub halo: f64,
    /// Jumps from frame to frame that HD does not make, in levels of luma; only where frames that follow each other are
    /// held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flicker: Option<f64>,
    /// LPIPS; 0 looks alike. Only where its weights are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<f64>,
    /// DISTS; 0 looks alike. Only where its weights are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dists: Option<f64>,
}

/// One validation.
#[derive(Debug)]
pub struct Validation {
    /// The generator's.
    pub scores: Scores,
    /// Bicubic's on the same pairs.
    pub bicubic: Scores,
    /// Pictures of some of them.
    pub grid: Grid,
}

/// What a run's generators are judged with and by.
#[derive(Debug)]
pub struct Judge {
    source: PairSource,
    dataset: Arc<Dataset>,
    likeness: Likeness,
    /// What a pass through the generator may hold.
    pass_bytes_max: usize,
    /// Held-out pairs whose next pair is the next frame; looked for once.
    neighbours: OnceCell<Vec<usize>>,
    is_cut_said: Once,
}

impl Judge {
    /// By the pairs that a dataset holds out, read from where training reads its own, within the memory that the run may hold.
    #[must_use]
    pub fn new(
        source: PairSource,
        dataset: Arc<Dataset>,
        likeness: Likeness,
        memory_mib: Option<u64>,
    ) -> Self {
        Self {
            source,
            dataset,
            likeness,
            pass_bytes_max: tiles::pass_bytes(memory_mib),
            neighbours: OnceCell::new(),
            is_cut_said: Once::new(),
        }
    }

    /// Judges a generator; `None` where nothing is held out or nothing of it can be read.
    ///
    /// # Errors
    /// [`TrainError::Store`] when the store is away.
    pub async fn judge(&self, generator: &Generator) -> Result<Option<Validation>, TrainError> {
        let stride = self.dataset.held_out.len().div_ceil(PAIRS_MAX).max(1);
        let mut judged = Vec::new();
        let mut grid = Grid::default();
        let places = self.dataset.held_out.iter().step_by(stride);
        let mut frames =
            futures::stream::iter(places.map(|at| self.frame(*at, generator))).buffered(FRAMES_AHEAD);
        while let Some(frame) = frames.next().await {
            let Some(frame) = frame? else { continue };
            let model = frame.upscaled(generator, self.pass_bytes_max)?;
            let plain = bicubic(&frame.lr, frame.width_px, frame.scale);
            let mut scores = frame.scores([&model, &plain]);
            frame.add_likeness(&self.likeness, [&model, &plain], &mut scores)?;
            judged.push(scores);
            if judged.len() <= SHOWN_MAX {
                grid.push(
                    &frame.lr,
                    [&plain, &model, &frame.hr],
                    frame.width_px,
                    frame.scale,
                );
            }
            // Whoever is told to stop may do so here, whether or not the next frame is there.
            tokio::task::yield_now().await;
        }
        let flickers = flicker::flicker(self, generator).await?;
        let mean = |which: usize| Scores {
            flicker: flickers.map(|both| both[which]),
            lpips: mean_of(judged.iter().filter_map(|both| both[which].lpips)),
            dists: mean_of(judged.iter().filter_map(|both| both[which].dists)),
            ..Scores::mean(judged.iter().map(|both| both[which]))
        };
        Ok((!judged.is_empty()).then(|| Validation {
            scores: mean(0),
            bicubic: mean(1),
            grid,
        }))
    }

    /// All of a pair or, said once, the middle that memory holds.
    fn shown(&self, pair: Pair, generator: &Generator) -> Pair {
        let (width_px, height_px) = (pair.lr.width_px, pair.lr.height_px);
        let size_px = (width_px as usize, height_px as usize);
        let (width, height) = tiles::fitting(generator, size_px, self.pass_bytes_max);
        if (width, height) == size_px {
            return pair;
        }
        self.is_cut_said.call_once(|| {
            warn!("the network takes too much memory for pictures of {width_px}x{height_px} px: their middle, {width}x{height} px, is judged");
        });
        pair.middle(width as u32, height as u32)
    }

    /// A pair's pictures; `None`, and said, for one that is damaged.
    async fn frame(&self, at: usize, generator: &Generator) -> Result<Option<Frame>, TrainError> {
        let (pair, scale) = (&self.dataset.pairs[at], self.dataset.manifest.scale);
        let decoded = match self.source.read(pair).await {
            Ok(files) => Pair::decode(&files, scale).and_then(|pair| pair.of_kind(false)),
            Err(error) if error.is_retryable() => return Err(error.into()),
            Err(error) => Err(error.to_string()),
        };
        match decoded {
            Ok(pair) => Ok(Some(Frame::of(&self.shown(pair, generator), scale as usize))),
            Err(reason) => {
                warn!(key = %pair.entry.key, %reason, "held-out pair skipped");
                Ok(None)
            }
        }
    }
}

fn mean_of(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Whether the last so many of a stage's scores brought nothing better; never for 0.
#[must_use]
pub fn has_stalled(scores: &[f64], patience: u64) -> bool {
    let patience = patience as usize;
    let Some(before) = scores
        .len()
        .checked_sub(patience)
        .filter(|before| *before > 0 && patience > 0)
    else {
        return false;
    };
    let best = |scores: &[f64]| scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    best(&scores[before..]) <= best(&scores[..before])
}

impl Scores {
    /// Of all but flicker, LPIPS and DISTS, which not every pair has.
    fn mean(all: impl ExactSizeIterator<Item = Self>) -> Self {
        let count = all.len().max(1) as f64;
        all.fold(Self::default(), |sum, one| Self {
            psnr: sum.psnr + one.psnr / count,
            ssim: sum.ssim + one.ssim / count,
            psnr_y: sum.psnr_y + one.psnr_y / count,
            ssim_y: sum.ssim_y + one.ssim_y / count,
            colour_drift: sum.colour_drift + one.colour_drift / count,
            halo: sum.halo + one.halo / count,
            flicker: None,
            lpips: None,
            dists: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_stalls_when_its_last_scores_are_no_better() {
        assert!(has_stalled(&[1.0, 3.0, 2.0, 3.0], 2));
        assert!(!has_stalled(&[1.0, 2.0, 2.0, 3.0], 2));
        assert!(!has_stalled(&[3.0, 2.0], 2));
        assert!(!has_stalled(&[3.0, 2.0, 1.0], 0));
    }
}
