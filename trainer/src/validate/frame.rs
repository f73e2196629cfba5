//! One held-out pair as it is judged: both pictures whole, as planar floats, and which pixels count.

use remaster_model::{Generator, RgbBatch};

use super::likeness::Likeness;
use super::pictures::planar;
use super::{Scores, metrics, tiles};
use crate::TrainError;
use crate::data::picture::Pair;

/// Side of the middle that LPIPS and DISTS see, in LR pixels: their networks hold hundreds of bytes for every HR pixel, and
/// DISTS, which compares whole pictures' statistics, cannot be cut into parts.
const LIKENESS_SIDE_MAX_PX: usize = 256;

/// A pair's pictures.
pub(super) struct Frame {
    pub(super) lr: Vec<f32>,
    pub(super) hr: Vec<f32>,
    /// Of LR.
    pub(super) width_px: usize,
    pub(super) height_px: usize,
    pub(super) scale: usize,
    /// HR pixels that count.
    pub(super) counts: Vec<bool>,
}

impl Frame {
    /// All but the border, which BasicSR leaves out, and the mask counts.
    pub(super) fn of(pair: &Pair, scale: usize) -> Self {
        let (width_px, height_px) = (pair.lr.width_px as usize, pair.lr.height_px as usize);
        let (width, height) = (width_px * scale, height_px * scale);
        let mut counts = vec![false; width * height];
        let mut set = |columns: std::ops::Range<usize>, rows: std::ops::Range<usize>, value: bool| {
            for row in rows.start..rows.end.min(height) {
                let (first, end) = (columns.start.min(width), columns.end.min(width));
                counts[row * width..][first..end].fill(value);
            }
        };
        if width > 2 * scale {
            set(scale..width - scale, scale..height.saturating_sub(scale), true);
        }
        for rect in &pair.mask {
            let [x, y, right, bottom] = [rect.x, rect.y, rect.x + rect.width, rect.y + rect.height]
                .map(|position| position as usize * scale);
            set(x..right, y..bottom, false);
        }
        Self {
            lr: planar(&pair.lr),
            hr: planar(&pair.hr),
            width_px,
            height_px,
            scale,
            counts,
        }
    }

    pub(super) fn upscaled(
        &self,
        generator: &Generator,
        pass_bytes_max: usize,
    ) -> Result<Vec<f32>, TrainError> {
        tiles::upscaled(generator, &self.lr, self.width_px, pass_bytes_max)
    }

    pub(super) fn scores<const N: usize>(&self, found: [&[f32]; N]) -> [Scores; N] {
        metrics::scores(found, &self.hr, self.width_px * self.scale, &self.counts)
    }

    /// Of the middle. What does not count looks alike. Pictures too small for it stay without.
    pub(super) fn add_likeness(
        &self,
        likeness: &Likeness,
        found: [&[f32]; 2],
        scores: &mut [Scores; 2],
    ) -> Result<(), TrainError> {
        let [columns, rows] = [self.width_px, self.height_px].map(|side| {
            let shown = side.min(LIKENESS_SIDE_MAX_PX);
            let first = (side - shown) / 2;
            first * self.scale..(first + shown) * self.scale
        });
        if !likeness.is_wanted_of(columns.len(), rows.len()) {
            return Ok(());
        }
        let width = self.width_px * self.scale;
        let middle = |picture: &[f32]| tiles::cut(picture, width, &columns, &rows);
        let mut samples = vec![];
        for found in found {
            let both = found.iter().zip(&self.hr).zip(self.counts.iter().cycle());
            let alike = both.map(
                |((found, wanted), counts)| {
                    if *counts { found.clamp(0.0, 1.0) } else { *wanted }
                },
            );
            samples.extend(middle(&alike.collect::<Vec<_>>()));
        }
        samples.extend(middle(&self.hr));
        let pictures = RgbBatch {
            count: 3,
            height_px: rows.len(),
            width_px: columns.len(),
            samples,
        };
        likeness.add_to(scores, pictures)
    }
}
