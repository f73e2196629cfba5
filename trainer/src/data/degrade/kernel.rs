//! Blur kernels: Gaussians, their generalized and plateau forms, round or not, and the sinc that leaves ringing.

use std::f64::consts::PI;

use rand::Rng;

use super::pick;
use crate::recipe::Pass;

/// Least side of a kernel.
const SIDE_MIN_PX: u32 = 7;
/// From this side on a sinc may be wide.
const WIDE_SINC_PX: u32 = 13;
/// Steps of the integral that a Bessel function is: twice the largest argument, from where on it is exact.
const BESSEL_STEPS: u32 = 128;

/// A square of weights that sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kernel {
    /// Odd.
    pub(super) side_px: usize,
    /// Row by row.
    pub(super) weights: Vec<f32>,
}

/// The kernel of a pass.
pub(super) fn draw(pass: &Pass, rng: &mut impl Rng) -> Kernel {
    let side_px = draw_side(pass.kernel_size_px, rng);
    if rng.random_bool(pass.sinc_prob) {
        let narrowest = if side_px < WIDE_SINC_PX {
            PI / 3.0
        } else {
            PI / 5.0
        };
        return sinc(rng.random_range(narrowest..=PI), side_px);
    }
    let kind = pick(&pass.kernel_prob, rng);
    let sigma_x = rng.random_range(pass.sigma[0]..=pass.sigma[1]);
    let (sigma_y, angle) = if kind.is_multiple_of(2) {
        (sigma_x, 0.0)
    } else {
        (
            rng.random_range(pass.sigma[0]..=pass.sigma[1]),
            rng.random_range(-PI..=PI),
        )
    };
    let distance = move |x: f64, y: f64| {
        let (sin, cos) = f64::sin_cos(angle);
        let (along, across) = (x * cos + y * sin, y * cos - x * sin);
        (along / sigma_x).powi(2) + (across / sigma_y).powi(2)
    };
    match kind {
        0 | 1 => Kernel::of(side_px, |x, y| (-0.5 * distance(x, y)).exp()),
        2 | 3 => {
            let beta = draw_beta(pass.beta_generalized, rng);
            Kernel::of(side_px, |x, y| (-0.5 * distance(x, y).powf(beta)).exp())
        }
        _ => {
            let beta = draw_beta(pass.beta_plateau, rng);
            Kernel::of(side_px, |x, y| 1.0 / (distance(x, y).powf(beta) + 1.0))
        }
    }
}

/// The sinc filter that ends a degradation.
pub(super) fn draw_last(side_max_px: u32, rng: &mut impl Rng) -> Kernel {
    let side_px = draw_side(side_max_px, rng);
    sinc(rng.random_range(PI / 3.0..=PI), side_px)
}

fn draw_side(side_max_px: u32, rng: &mut impl Rng) -> u32 {
    SIDE_MIN_PX + 2 * rng.random_range(0..=(side_max_px - SIDE_MIN_PX) / 2)
}

/// As often below 1 as above, where the range has both.
fn draw_beta([low, high]: [f64; 2], rng: &mut impl Rng) -> f64 {
    let below = rng.random_bool(0.5);
    let middle = 1.0_f64.clamp(low, high);
    if below {
        rng.random_range(low..=middle)
    } else {
        rng.random_range(middle..=high)
    }
}

/// A round low-pass filter.
fn sinc(cutoff: f64, side_px: u32) -> Kernel {
    Kernel::of(side_px, |x, y| {
        let radius = x.hypot(y);
        if radius == 0.0 {
            cutoff * cutoff / (4.0 * PI)
        } else {
            cutoff * bessel_j1(cutoff * radius) / (2.0 * PI * radius)
        }
    })
}

/// The Bessel function of the first kind and first order, by its integral.
fn bessel_j1(x: f64) -> f64 {
    let step = PI / f64::from(BESSEL_STEPS);
    let at = |number: u32| {
        let angle = step * (f64::from(number) + 0.5);
        (angle - x * angle.sin()).cos()
    };
    (0..BESSEL_STEPS).map(at).sum::<f64>() / f64::from(BESSEL_STEPS)
}

impl Kernel {
    fn of(side_px: u32, weight: impl Fn(f64, f64) -> f64) -> Self {
        let half = f64::from(side_px / 2);
        let places = || (0..side_px).map(|place| f64::from(place) - half);
        let weights: Vec<f64> = places()
            .flat_map(|y| places().map(move |x| (x, y)))
            .map(|(x, y)| weight(x, y))
            .collect();
        let sum: f64 = weights.iter().sum();
        Self {
            side_px: side_px as usize,
            weights: weights.iter().map(|weight| (weight / sum) as f32).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::recipe::Degradation;

    #[test]
    fn the_bessel_function_has_its_known_values() {
        // torch.special.bessel_j1
        for (x, known) in [
            (1.0, 0.440_050_585_744_933_5),
            (10.0, 0.043_472_746_168_861_44),
            (44.0, -0.082_803_359_376_029_1),
        ] {
            assert!((bessel_j1(x) - known).abs() < 1e-9, "{x}: {}", bessel_j1(x));
        }
    }

    #[test]
    fn every_kernel_sums_to_one_and_is_the_same_turned_by_half() {
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let kernel = draw(&Degradation::default().passes()[seed as usize % 2], &mut rng);
            assert!(matches!(kernel.side_px, 7..=21) && kernel.side_px % 2 == 1);
            assert_eq!(kernel.weights.len(), kernel.side_px.pow(2));
            assert!((kernel.weights.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            let turned = kernel.weights.iter().rev();
            assert!(
                kernel
                    .weights
                    .iter()
                    .zip(turned)
                    .all(|(a, b)| (a - b).abs() < 1e-5),
                "{seed}"
            );
        }
    }
}
