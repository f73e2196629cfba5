//! Noise of sensors and films: Gaussian, or Poisson's that grows with the light; in each channel its own, or grey.

use rand::{Rng, RngCore};

use super::resize::Planes;
use crate::recipe::Pass;

/// Above this mean a Poisson draw is as good as a Gaussian one.
const POISSON_EXACT_MAX: f32 = 30.0;
/// Shares of the channels in what is seen as brightness.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// SplitMix64 (Steele, Lea and Flood 2014): a crop takes a million draws, and the generator of everything else, which a dev
/// build leaves unoptimised, made them three quarters of its cost.
struct Pixels(u64);

impl RngCore for Pixels {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Adds the noise of a pass; black and white are its bounds.
pub(super) fn add(picture: Planes, pass: &Pass, rng: &mut impl Rng) -> Planes {
    let is_gaussian = rng.random_bool(pass.gaussian_prob);
    let is_grey = rng.random_bool(pass.grey_prob);
    let mut pixels = Pixels(rng.next_u64());
    let noise = if is_gaussian {
        let sigma = rng.random_range(pass.noise[0]..=pass.noise[1]) as f32 / 255.0;
        let count = if is_grey {
            picture.len()
        } else {
            picture.values.len()
        };
        (0..count).map(|_| normal(&mut pixels) * sigma).collect()
    } else {
        let scale = rng.random_range(pass.poisson[0]..=pass.poisson[1]) as f32;
        let lit = if is_grey {
            luma(&picture)
        } else {
            picture.values.clone()
        };
        poisson(&lit, scale, &mut pixels)
    };
    with(picture, &noise).clamped()
}

/// One value a pixel goes to all channels, three go each to its own.
fn with(mut picture: Planes, noise: &[f32]) -> Planes {
    picture
        .values
        .iter_mut()
        .zip(noise.iter().cycle())
        .for_each(|(value, noise)| *value += noise);
    picture
}

fn luma(picture: &Planes) -> Vec<f32> {
    let of = |channel: usize, at: usize| picture.values[channel * picture.len() + at] * LUMA[channel];
    (0..picture.len())
        .map(|at| of(0, at) + of(1, at) + of(2, at))
        .collect()
}

/// What counting as many quanta as there are different levels adds to the light.
fn poisson(lit: &[f32], scale: f32, rng: &mut impl Rng) -> Vec<f32> {
    let levels: Vec<u8> = lit
        .iter()
        .map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8)
        .collect();
    let mut seen = [false; 256];
    levels.iter().for_each(|level| seen[usize::from(*level)] = true);
    let different = seen.iter().filter(|seen| **seen).count();
    let quanta = different.next_power_of_two() as f32;
    let noise = levels.iter().map(|level| {
        let light = f32::from(*level) / 255.0;
        (count(light * quanta, rng) / quanta - light) * scale
    });
    noise.collect()
}

/// A number that Poisson's law draws.
fn count(mean: f32, rng: &mut impl Rng) -> f32 {
    if mean > POISSON_EXACT_MAX {
        return (mean + mean.sqrt() * normal(rng)).round().max(0.0);
    }
    let (least, mut product, mut count) = ((-mean).exp(), rng.random::<f32>(), 0.0);
    while product > least {
        product *= rng.random::<f32>();
        count += 1.0;
    }
    count
}

/// Mean 0, deviation 1, by Box and Muller.
fn normal(rng: &mut impl Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.random::<f32>()).cos()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn moments(values: &[f32]) -> (f32, f32) {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / values.len() as f32;
        (mean, square)
    }

    #[test]
    fn draws_have_the_mean_and_the_spread_of_their_law() {
        let mut rng = Pixels(1);
        let normals: Vec<f32> = (0..40_000).map(|_| normal(&mut rng)).collect();
        let (mean, square) = moments(&normals);
        assert!(
            mean.abs() < 0.02 && (square - 1.0).abs() < 0.04,
            "{mean} {square}"
        );
        for wanted in [0.5, 12.0, 100.0] {
            let counts: Vec<f32> = (0..40_000).map(|_| count(wanted, &mut rng)).collect();
            let (mean, square) = moments(&counts);
            assert!(
                (mean / wanted - 1.0).abs() < 0.03 && (square / wanted - 1.0).abs() < 0.05,
                "{wanted}: {mean} {square}"
            );
        }
    }

    #[test]
    fn the_generator_of_pixels_is_the_published_one() {
        let mut rng = Pixels(1_234_567);
        let drawn = [0; 3].map(|_: u64| rng.next_u64());
        // From the reference implementation, prng.di.unimi.it/splitmix64.c.
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn grey_noise_is_the_same_in_all_channels() {
        let flat = Planes {
            width_px: 8,
            height_px: 8,
            values: vec![0.5; 192],
        };
        for gaussian_prob in [0.0, 1.0] {
            let pass = Pass {
                gaussian_prob,
                grey_prob: 1.0,
                noise: [9.0, 9.0],
                ..crate::recipe::Degradation::default().passes()[0]
            };
            let noisy = add(flat.clone(), &pass, &mut ChaCha8Rng::seed_from_u64(2));
            assert_eq!(noisy.values[..64], noisy.values[64..128]);
            assert_ne!(noisy.values[..64], flat.values[..64]);
            let coloured = add(
                flat.clone(),
                &Pass {
                    grey_prob: 0.0,
                    ..pass
                },
                &mut ChaCha8Rng::seed_from_u64(2),
            );
            assert_ne!(coloured.values[..64], coloured.values[64..128]);
        }
    }
}
