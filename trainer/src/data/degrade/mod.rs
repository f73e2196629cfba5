//! LR made from HR as Real-ESRGAN makes it (arXiv 2107.10833): two passes of blur, resize, noise and JPEG in an order that is
//! drawn, too, then often a sinc filter. For what the discs do not show: other transfers, worse ones. All of it is drawn from
//! one generator, so the same one gives the same picture wherever and whenever it is made.
//!
//! What is drawn, and how often, is the recipe's ([`Degradation`]). At a crop's edges the picture is mirrored.

mod jpeg;
mod kernel;
mod noise;
mod resize;

use rand::Rng;

use self::resize::{Filter, Planes};
use crate::recipe::{Degradation, Pass};

/// An LR crop from an HR crop; both square, planar, 0..1. LR has the 256 levels that a decoded picture has.
#[must_use]
pub fn degrade(
    hr: &[f32],
    gt_size_px: usize,
    lq_size_px: usize,
    degradation: &Degradation,
    rng: &mut impl Rng,
) -> Vec<f32> {
    let [first, second] = degradation.passes();
    let hr = Planes {
        width_px: gt_size_px,
        height_px: gt_size_px,
        values: hr.to_vec(),
    };
    let side = draw_side(gt_size_px, &first, rng);
    let picture = pass(hr, side, &first, rng);
    let picture = jpeg::compressed(&picture, draw_quality(&first, rng));

    let side = draw_side(lq_size_px, &second, rng);
    let picture = pass(picture, side, &second, rng);
    let filter = draw_filter(rng);
    let sharp = rng.random_bool(degradation.final_sinc_prob);
    let last = sharp.then(|| kernel::draw_last(degradation.blur_kernel_size2, rng));
    let quality = draw_quality(&second, rng);
    let finish = |picture: Planes| {
        let small = picture.resized(lq_size_px, lq_size_px, filter);
        match &last {
            Some(kernel) => small.blurred(kernel).clamped(),
            None => small.clamped(),
        }
    };
    // Discs were made both ways: scaled, then compressed, or compressed, then scaled.
    let lr = if rng.random_bool(0.5) {
        jpeg::compressed(&finish(picture), quality)
    } else {
        finish(jpeg::compressed(&picture, quality))
    };
    lr.values
        .iter()
        .map(|value| (value * 255.0).round() / 255.0)
        .collect()
}

/// Blur, another size, noise.
fn pass(picture: Planes, side_px: usize, pass: &Pass, rng: &mut impl Rng) -> Planes {
    let picture = if rng.random_bool(pass.blur_prob) {
        picture.blurred(&kernel::draw(pass, rng))
    } else {
        picture
    };
    let picture = picture.resized(side_px, side_px, draw_filter(rng)).clamped();
    noise::add(picture, pass, rng)
}

/// Side after a pass that would leave `side_px` alone if it neither enlarged nor shrank.
fn draw_side(side_px: usize, pass: &Pass, rng: &mut impl Rng) -> usize {
    let [low, high] = pass.resize;
    let factor = match pick(&pass.resize_prob, rng) {
        0 => rng.random_range(1.0..=high.max(1.0)),
        1 => rng.random_range(low.min(1.0)..=1.0),
        _ => 1.0,
    };
    ((side_px as f64 * factor) as usize).max(1)
}

fn draw_filter(rng: &mut impl Rng) -> Filter {
    Filter::ALL[rng.random_range(0..Filter::ALL.len())]
}

fn draw_quality(pass: &Pass, rng: &mut impl Rng) -> f64 {
    rng.random_range(pass.jpeg[0]..=pass.jpeg[1])
}

/// Which of several, by their shares.
fn pick(shares: &[f64], rng: &mut impl Rng) -> usize {
    let mut left = rng.random_range(0.0..1.0) * shares.iter().sum::<f64>();
    let found = shares.iter().position(|share| {
        left -= share;
        left < 0.0
    });
    // Rounding may leave a little after the last; then it is the last that can be at all.
    found
        .or_else(|| shares.iter().rposition(|share| *share > 0.0))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn hr(side: usize) -> Vec<f32> {
        let value = |channel: usize, y: usize, x: usize| {
            let stripes = if (x / 5 + y / 7).is_multiple_of(2) {
                0.3
            } else {
                0.0
            };
            0.3 + stripes + 0.2 * ((x + channel * 9) as f32 * 0.2).sin()
        };
        let places =
            (0..3).flat_map(|channel| (0..side).flat_map(move |y| (0..side).map(move |x| (channel, y, x))));
        places.map(|(channel, y, x)| value(channel, y, x)).collect()
    }

    fn made(side: usize, scale: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        degrade(&hr(side), side, side / scale, &Degradation::default(), &mut rng)
    }

    #[test]
    fn every_seed_gives_one_picture_of_the_right_size_within_black_and_white() {
        let mut different = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let scale = if seed % 2 == 0 { 2 } else { 4 };
            let lr = made(48, scale, seed);
            assert_eq!(lr.len(), 3 * (48 / scale).pow(2));
            assert!(
                lr.iter().all(|value| (0.0..=1.0).contains(value)
                    && (value * 255.0 - (value * 255.0).round()).abs() < 1e-3)
            );
            assert_eq!(lr, made(48, scale, seed));
            different.insert(
                lr.iter()
                    .map(|value| (value * 255.0).round() as u8)
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(different.len(), 60);
    }

    #[test]
    fn a_picture_stays_itself_on_the_whole() {
        // No single draw, but their mean is near a soft picture: nothing is shifted, dyed or turned over.
        let (side, count) = (48, 80);
        let value = |channel: usize, y: usize, x: usize| {
            let (across, down) = (x as f32 / side as f32, y as f32 / side as f32);
            0.2 + [0.6 * across, 0.5 * down, 0.3 * across * down][channel]
        };
        let places = |side| {
            (0..3).flat_map(move |channel| (0..side * side).map(move |at| (channel, at / side, at % side)))
        };
        let hr: Vec<f32> = places(side).map(|(channel, y, x)| value(channel, y, x)).collect();
        let mut mean = vec![0.0; 3 * 24 * 24];
        for seed in 0..count {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let lr = degrade(&hr, side, 24, &Degradation::default(), &mut rng);
            mean.iter_mut()
                .zip(lr)
                .for_each(|(sum, value)| *sum += value / count as f32);
        }
        let coarse = |side_px, values| {
            Planes {
                width_px: side_px,
                height_px: side_px,
                values,
            }
            .resized(6, 6, Filter::Area)
        };
        let (wanted, found) = (coarse(side, hr.clone()), coarse(24, mean));
        for (channel, y, x) in places(6).filter(|(_, y, x)| (1..5).contains(y) && (1..5).contains(x)) {
            let at = channel * 36 + y * 6 + x;
            let off = (wanted.values[at] - found.values[at]).abs();
            assert!(off < 0.03, "{off} at {channel} {y} {x}");
        }
    }

    #[test]
    fn shares_are_kept() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut counts = [0; 3];
        (0..4_000).for_each(|_| counts[pick(&[0.3, 0.0, 0.1], &mut rng)] += 1);
        assert_eq!(counts[1], 0);
        assert!((2_850..3_150).contains(&counts[0]), "{counts:?}");
    }
}
