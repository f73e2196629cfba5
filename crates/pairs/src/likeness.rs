//! Whether two sources show the same episode at all, cheaply enough to ask of every DVD title and every Blu-ray file.
//!
//! The same path as in [`crate::align_path`], over few and small frames and with dear jumps: what is left of a chance
//! likeness is short. It proposes; only the exact path decides which frame is which.

use rayon::prelude::*;

use crate::Thumbs;
use crate::viterbi::cheapest_path;

/// Frames of a source that are looked at: of 22 minutes one every 2 s.
const SAMPLES_MAX: usize = 700;
/// Between two of them at least: a shot must not hold enough samples to earn a jump by its chance likeness to another.
const SAMPLE_STEP_MIN: usize = 12;
/// Furthest offset in HD frames: a minute of other logos or a recap more on one side.
const RANGE_FRAMES: i64 = 1500;
/// A jump must be earned by several samples: a tenth of this lets a wrong film hop along.
const JUMP_COST: f64 = 2.0;
/// A sample that correlates less shows something else.
const SAME_ZNCC_MIN: f64 = 0.8;
/// A sample whose partner would lie outside: worse than a match, better than a wrong picture.
const OUTSIDE_COST: f32 = 0.5;
/// HD frames per SD frame that discs are known to have.
const SLOPES: [(i64, i64); 4] = [(1, 1), (24, 25), (4, 5), (1, 2)];
/// How far the lengths of two copies may be from a slope before it is not tried.
const SLOPE_TOLERANCE: f64 = 0.1;

/// A source reduced to what [`likeness`] needs: about 150 bytes a frame.
#[derive(Debug, Clone)]
pub struct Sketch {
    frames: Thumbs,
}

impl Sketch {
    /// Of all frames of a source.
    #[must_use]
    pub fn of(thumbs: &Thumbs) -> Self {
        Self {
            frames: thumbs.coarse(1),
        }
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

/// The share of SD frames, 0 to 1, that the HD copy shows in the same order. Black and flat frames are not counted;
/// 0 where nothing else is there.
#[must_use]
pub fn likeness(sd: &Sketch, hd: &Sketch) -> f64 {
    let ratio = hd.len() as f64 / sd.len().max(1) as f64;
    let is_tried = |&&(hd, sd): &&(i64, i64)| {
        let slope = hd as f64 / sd as f64;
        hd == sd || (ratio / slope - 1.0).abs() < SLOPE_TOLERANCE
    };
    let shares = SLOPES
        .iter()
        .filter(is_tried)
        .map(|&slope| share_at(&sd.frames, &hd.frames, slope));
    shares.fold(0.0, f64::max)
}

fn share_at(sd: &Thumbs, hd: &Thumbs, slope: (i64, i64)) -> f64 {
    let step = sd.len().div_ceil(SAMPLES_MAX).max(SAMPLE_STEP_MIN);
    let samples: Vec<usize> = (0..sd.len()).step_by(step).filter(|&i| !sd.is_low(i)).collect();
    let range = RANGE_FRAMES.min(sd.len().max(hd.len()) as i64);
    let offsets: Vec<i64> = (-range..=range).collect();
    let partner = |sample: usize, offset: i64| {
        let at = sample as i64 * slope.0 / slope.1 + offset;
        usize::try_from(at).ok().filter(|&at| at < hd.len())
    };
    let cost = |sample: usize, offset: i64| match partner(sample, offset) {
        Some(at) => (1.0 - sd.zncc(sample, hd, at)) as f32,
        None => OUTSIDE_COST,
    };
    let row = |&sample: &usize| -> Vec<f32> { offsets.iter().map(|&k| cost(sample, k)).collect() };
    let rows: Vec<Vec<f32>> = samples.par_iter().map(row).collect();
    let Some(path) = cheapest_path(rows.into_iter(), offsets.len(), JUMP_COST) else {
        return 0.0;
    };
    let same = samples.iter().zip(&path.states).filter(|&(&sample, &state)| {
        partner(sample, offsets[state]).is_some_and(|at| sd.zncc(sample, hd, at) >= SAME_ZNCC_MIN)
    });
    same.count() as f64 / samples.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::{THUMB_HEIGHT_PX, THUMB_WIDTH_PX};

    use super::*;

    /// A film of blobs that wander by their own laws; another seed is another film.
    fn film(seed: u64, frames: std::ops::Range<usize>, gain: f64) -> Sketch {
        let mut bytes = Vec::new();
        for frame in frames {
            let shot = (frame / 40) as f64;
            let mut luma = vec![60.0f64; THUMB_WIDTH_PX * THUMB_HEIGHT_PX];
            for blob in 0..6 {
                let law = |n: u64| (seed as f64 * 2.4 + n as f64 * 4.3 + shot * (n + 1) as f64 * 0.37).sin();
                let x = 32.0 + 28.0 * (law(blob) + frame as f64 * 0.02).sin();
                let y = 18.0 + 15.0 * law(blob + 40);
                for (i, value) in luma.iter_mut().enumerate() {
                    let (dx, dy) = ((i % THUMB_WIDTH_PX) as f64 - x, (i / THUMB_WIDTH_PX) as f64 - y);
                    *value += 90.0 * law(blob + 80) * (-(dx * dx + dy * dy) / 40.0).exp();
                }
            }
            bytes.extend(luma.into_iter().map(|v| (v * gain).clamp(0.0, 255.0) as u8));
        }
        Sketch::of(&Thumbs::prepare(&bytes).unwrap())
    }

    #[test]
    fn the_same_film_is_told_from_another_whatever_its_start_and_brightness() {
        let sd = film(1, 30..430, 0.9);
        assert!(likeness(&sd, &film(1, 0..420, 1.0)) > 0.9);
        let other = likeness(&sd, &film(2, 0..420, 1.0));
        assert!(other < 0.3, "{other}");
    }

    #[test]
    fn black_is_like_nothing() {
        let black = Sketch::of(&Thumbs::prepare(&vec![16; 100 * 64 * 36]).unwrap());
        assert_eq!(likeness(&black, &film(1, 0..100, 1.0)), 0.0);
        assert_eq!(likeness(&film(1, 0..100, 1.0), &black), 0.0);
    }
}
