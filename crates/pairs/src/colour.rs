//! What was done to the colours between the two discs: one 3x4 matrix over gamma RGB for an episode.
//!
//! Fitted on means of flat 8x8 blocks, where misplaced edges and coding noise say nothing, with Huber weights against logos and
//! bad blocks. The default moves HD to SD's colours, so that the model learns no colour change. Decoding with the right
//! YUV matrix comes before all this and belongs to media.

use nalgebra::{Matrix4, Vector4};
use remaster_domain::ColourTransform;

use crate::Rgb;

/// Side of the blocks.
const BLOCK_PX: usize = 8;
/// A block that spans more than this in any channel has an edge in it.
const FLAT_SPAN: f32 = 24.0 / 255.0;
/// Values beyond these may have been clipped, and a clipped value says nothing about the curve.
const CLIPPED: [f32; 2] = [2.0 / 255.0, 253.0 / 255.0];
/// Errors up to this count by their square, beyond it by their size.
const HUBER: f64 = 2.0 / 255.0;
/// Rounds of reweighting.
const ROUNDS: usize = 12;
/// Pull towards no change, as a share of the samples: decides what grey pictures leave open and nothing else.
const PRIOR_WEIGHT: f64 = 1e-4;
/// Fewest blocks worth a fit.
const SAMPLES_MIN: usize = 32;

/// Mean colours of one flat block in both pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColourSample {
    /// In the picture whose colours are to move.
    pub from: [f32; 3],
    /// In the picture whose colours are wanted.
    pub to: [f32; 3],
}

/// What a transform leaves over, in 8-bit levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColourResidual {
    /// Median over blocks of the largest channel's error.
    pub median: f64,
    /// 95th percentile of the same.
    pub p95: f64,
}

/// Flat, unclipped blocks of two registered pictures of one size.
///
/// # Panics
/// When the sizes differ.
#[must_use]
pub fn colour_samples(from: &Rgb, to: &Rgb) -> Vec<ColourSample> {
    assert_eq!(
        (from.width, from.height),
        (to.width, to.height),
        "registered pictures have one size"
    );
    let mut samples = Vec::new();
    for y in (0..from.height / BLOCK_PX).map(|b| b * BLOCK_PX) {
        for x in (0..from.width / BLOCK_PX).map(|b| b * BLOCK_PX) {
            if let (Some(from), Some(to)) = (flat_mean(from, x, y), flat_mean(to, x, y)) {
                samples.push(ColourSample { from, to });
            }
        }
    }
    samples
}

/// The transform that takes `from` to `to`; none when there are too few blocks to say.
#[must_use]
pub fn fit_colour(samples: &[ColourSample]) -> Option<ColourTransform> {
    if samples.len() < SAMPLES_MIN {
        return None;
    }
    let mut fit = ColourTransform::IDENTITY;
    let mut weights = vec![1.0; samples.len()];
    for _ in 0..ROUNDS {
        fit = weighted_fit(samples, &weights)?;
        for (weight, sample) in weights.iter_mut().zip(samples) {
            let error = worst_error(&fit, sample);
            *weight = if error <= HUBER { 1.0 } else { HUBER / error };
        }
    }
    Some(fit)
}

/// Applies a transform; values leave 0..1 where it takes them there, and the writer clips.
#[must_use]
pub fn apply_colour(transform: &ColourTransform, picture: &Rgb) -> Rgb {
    let (red, green, blue) = (picture.channel(0), picture.channel(1), picture.channel(2));
    let mut data = Vec::with_capacity(picture.data.len());
    for row in transform.0.map(|row| row.map(|value| value as f32)) {
        let value = |i: usize| row[0] * red[i] + row[1] * green[i] + row[2] * blue[i] + row[3];
        data.extend((0..red.len()).map(value));
    }
    Rgb::new(picture.width, picture.height, data)
}

/// What is left over after a transform; zero where there are no blocks.
#[must_use]
pub fn colour_residual(transform: &ColourTransform, samples: &[ColourSample]) -> ColourResidual {
    if samples.is_empty() {
        return ColourResidual {
            median: 0.0,
            p95: 0.0,
        };
    }
    let errors: Vec<f64> = samples
        .iter()
        .map(|s| 255.0 * worst_error(transform, s))
        .collect();
    ColourResidual {
        median: percentile(errors.clone(), 0.5),
        p95: percentile(errors, 0.95),
    }
}

fn flat_mean(picture: &Rgb, x: usize, y: usize) -> Option<[f32; 3]> {
    let mut mean = [0.0; 3];
    for (channel, mean) in mean.iter_mut().enumerate() {
        let plane = picture.channel(channel);
        let (mut low, mut high, mut sum) = (f32::INFINITY, f32::NEG_INFINITY, 0.0);
        for line in y..y + BLOCK_PX {
            for value in &plane[line * picture.width + x..][..BLOCK_PX] {
                low = low.min(*value);
                high = high.max(*value);
                sum += value;
            }
        }
        if high - low > FLAT_SPAN || low < CLIPPED[0] || high > CLIPPED[1] {
            return None;
        }
        *mean = sum / (BLOCK_PX * BLOCK_PX) as f32;
    }
    Some(mean)
}

fn weighted_fit(samples: &[ColourSample], weights: &[f64]) -> Option<ColourTransform> {
    let prior = PRIOR_WEIGHT * samples.len() as f64;
    let mut matrix = Matrix4::identity() * prior;
    let mut sides = [Vector4::zeros(); 3];
    for (channel, side) in sides.iter_mut().enumerate() {
        side[channel] = prior;
    }
    for (sample, &weight) in samples.iter().zip(weights) {
        let from = extended(sample.from);
        matrix += from * from.transpose() * weight;
        for (side, to) in sides.iter_mut().zip(sample.to) {
            *side += from * (weight * f64::from(to));
        }
    }
    let solver = matrix.cholesky()?;
    let rows = sides.map(|side| solver.solve(&side));
    Some(ColourTransform(rows.map(|row| [row[0], row[1], row[2], row[3]])))
}

/// A colour after a transform.
pub(crate) fn transformed(transform: &ColourTransform, colour: [f32; 3]) -> [f64; 3] {
    let from = extended(colour);
    transform.0.map(|row| Vector4::from(row).dot(&from))
}

fn worst_error(transform: &ColourTransform, sample: &ColourSample) -> f64 {
    let pairs = transformed(transform, sample.from).into_iter().zip(sample.to);
    let errors = pairs.map(|(from, to)| (from - f64::from(to)).abs());
    errors.fold(0.0, f64::max)
}

fn extended(colour: [f32; 3]) -> Vector4<f64> {
    Vector4::new(
        f64::from(colour[0]),
        f64::from(colour[1]),
        f64::from(colour[2]),
        1.0,
    )
}

/// The value at a share of the sorted values; the mean of the middle two is not taken, so it is one of them.
fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GRADE: ColourTransform = ColourTransform([
        [0.91, 0.05, 0.01, 0.012],
        [0.03, 0.94, -0.02, 0.02],
        [-0.01, 0.06, 0.88, 0.03],
    ]);

    /// Flat blocks of many colours.
    fn patches(grey: bool) -> Rgb {
        let colour = |block: usize, channel: usize| {
            let seed = if grey { block } else { block * 3 + channel };
            0.15 + 0.7 * ((seed * 2_654_435_761) % 997) as f32 / 997.0
        };
        let value = |i: usize| {
            let (channel, y, x) = (i / 16384, i % 16384 / 128, i % 128);
            colour(y / BLOCK_PX * 16 + x / BLOCK_PX, channel)
        };
        Rgb::new(128, 128, (0..3 * 16384).map(value).collect())
    }

    fn furthest(a: &ColourTransform, b: &ColourTransform) -> f64 {
        a.0.iter()
            .flatten()
            .zip(b.0.iter().flatten())
            .map(|(x, y)| (x - y).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn a_grade_is_recovered_in_spite_of_a_logo() {
        let hd = patches(false);
        let mut sd = apply_colour(&GRADE, &hd);
        for y in 0..24 {
            sd.data[y * 128..y * 128 + 32].fill(0.9);
        }
        let samples = colour_samples(&hd, &sd);
        let fit = fit_colour(&samples).unwrap();
        assert!(furthest(&fit, &GRADE) < 0.01, "{fit:?}");
        assert!(colour_residual(&fit, &samples).median < 0.5);
        assert!(colour_residual(&ColourTransform::IDENTITY, &samples).median > 3.0);
    }

    #[test]
    fn grey_pictures_do_not_make_a_wild_matrix() {
        let fit = fit_colour(&colour_samples(&patches(true), &patches(true))).unwrap();
        assert!(furthest(&fit, &ColourTransform::IDENTITY) < 0.01, "{fit:?}");
    }

    #[test]
    fn clipped_and_edged_blocks_say_nothing() {
        let mut picture = patches(false);
        picture.data[..128 * 8].fill(1.0);
        assert_eq!(colour_samples(&picture, &picture).len(), 256 - 16);
        assert_eq!(fit_colour(&[]), None);
    }
}
